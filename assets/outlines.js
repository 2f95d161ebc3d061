// The boundary on the map: its regions as outlines that a hand or the keys move, lines of a learned score, and hatching
// where nothing is kept. A canvas of its own above the map's pixels: while a corner is dragged only this one is painted,
// and the session hears of the newest outline, one at a time. `voorwerp.outlines(map)` is called by map.js.
(() => {
  window.voorwerp ??= {};
  if (window.voorwerp.outlines) return;

  const REACH = 7, CLICK = 4; // pixels: of a corner or an edge, of a hand that does not move
  const RESTS = 500, LATE = 4000; // ms: of keys that nudge, of an answer that does not come
  const FAR = 10; // pixels that Shift + arrow nudges
  const HATCH = 7; // pixels between its lines
  const put_away = new Set(); // lines or hatching that a person hid, as long as the page is open

  const make = (tag, name, parent, attributes = {}) => {
    const e = document.createElement(tag);
    if (name) e.className = name;
    for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
    parent?.append(e);
    return e;
  };
  const trace = (pen, points) => points.forEach(([x, y], i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y));
  const of_corners = ({shape}) => shape === "box" || shape === "ellipse";
  /** What can be dragged: the vertices; of a box or an ellipse the four corners of its box. */
  const handles = ({vertices, ...region}) => {
    if (!of_corners(region)) return vertices;
    const [[ax, ay], [bx, by]] = vertices;
    return [[ax, ay], [bx, ay], [bx, by], [ax, by]];
  };
  const outline = region => {
    if (region.shape !== "ellipse") return handles(region);
    const [[ax, ay], [bx, by]] = region.vertices;
    return [...Array(128).keys()].map(k => {
      const t = k / 64 * Math.PI;
      return [(ax + bx + (bx - ax) * Math.cos(t)) / 2, (ay + by + (by - ay) * Math.sin(t)) / 2];
    });
  };
  /** The vertices when a handle stands elsewhere: the opposite corner of a box stays. */
  const with_handle = (region, k, [x, y]) => {
    const vertices = region.vertices.map(v => [...v]);
    if (!of_corners(region)) { vertices[k] = [x, y]; return vertices; }
    vertices[k === 1 || k === 2 ? 1 : 0][0] = x;
    vertices[k >= 2 ? 1 : 0][1] = y;
    return vertices;
  };
  /** How far a point is from a piece of a line, and where along it the nearest is, 0 … 1. */
  const apart = ([px, py], [ax, ay], [bx, by]) => {
    const dx = bx - ax, dy = by - ay, t = Math.max(0, Math.min(1, ((px - ax) * dx + (py - ay) * dy) / (dx * dx + dy * dy || 1)));
    return [Math.hypot(px - ax - t * dx, py - ay - t * dy), t];
  };

  class Outlines {
    constructor(map) {
      Object.assign(this, {map, told: {on: false, regions: []}, chosen: null, corner: 0, held: null, serial: 0, flying: 0, queue: []});
      this.lines = this.hatched = null;
      this.canvas = make("canvas", "outlines", map.layer);
      this.tags = make("div", "regions", map.layer);
      this.grip = make("button", "grip", map.layer, {type: "button", "aria-roledescription": "corner of a region"});
      this.key = make("div", "terms", map.layer, {role: "group", "aria-label": "Boundary on the map"});
      this.grip.hidden = this.key.hidden = true;
      this.grip.addEventListener("focus", () => { this.own(); this.draw(); });
      this.grip.addEventListener("blur", () => { this.disown(); this.settle(); this.draw(); });
      this.grip.addEventListener("keydown", e => this.step(e));
      const grab = e => { const at = map.where(e); this.grip.setPointerCapture(e.pointerId); this.take({corner: this.corner}, at); };
      this.grip.addEventListener("pointerdown", grab);
      this.dragged_by(this.grip);
    }

    /** A button above the map that a hand drags. */
    dragged_by(e) {
      e.addEventListener("pointermove", event => { if (this.drag) this.move(this.map.where(event)); });
      e.addEventListener("pointerup", () => this.up());
      e.addEventListener("pointercancel", () => this.give_up());
      e.addEventListener("dragstart", event => event.preventDefault());
    }

    // ---------------------------------------------------------------------------------------------- session → page
    hear(told) {
      const was = this.find(this.chosen), n_before = this.told.regions.length;
      this.told = told;
      if (told.heard === this.serial) {
        this.flying = 0;
        if (this.map.last?.is_term) { this.map.last = null; this.map.draw(); }
        if (!this.drag && !this.queue.length && !this.settling) this.held = null;
        this.send();
      }
      if (told.drawn && told.drawn[0] !== this.drawn) {
        this.drawn = told.drawn[0];
        this.choose(told.drawn[1].join());
      } else if (this.find(this.wanted ?? null) && told.on) {
        this.choose(this.wanted);
        this.wanted = null;
      } else if (this.chosen !== null) {  // its place may be another now
        const same = was && told.regions.find(r => r.shape === was.shape && String(r.vertices) === String(was.vertices));
        const there = this.find(this.chosen);
        const stays = there && told.on && (told.regions.length === n_before || String(there.vertices) === String(was.vertices));
        this.choose(stays ? this.chosen : same && told.on ? same.path.join() : null, this.corner);
      }
      this.list();
      this.ask();
      this.draw();
    }

    find(key) {
      return key === null ? undefined : this.told.regions.find(r => r.path.join() === key);
    }

    /** A region as it stands now: dragged, where it is. */
    now(region) {
      return this.held?.key === region.path.join() ? {...region, vertices: this.held.vertices} : region;
    }

    get here() {
      const region = this.find(this.chosen);
      return region && this.now(region);
    }

    // ---------------------------------------------------------------------------------------------- page → session
    /** One message in flight; of an outline that moves the newest waits. */
    tell(message) {
      const last = this.queue.at(-1);
      if (last && !last.done && last.kind === "reshape" && String(last.path) === String(message.path)) this.queue.pop();
      this.queue.push(message);
      this.send();
    }

    send() {
      if (!this.queue.length || this.flying && performance.now() - this.flying < LATE) return;
      this.flying = performance.now();
      this.map.tell({...this.queue.shift(), serial: ++this.serial});
    }

    reshape(vertices, done) {
      const region = this.find(this.chosen);
      if (!region) return;
      this.held = {key: this.chosen, vertices};
      this.tell({kind: "reshape", path: region.path, vertices, done});
      this.draw();
    }

    /** Keys that nudged have come to rest: one step of undo. */
    settle() {
      if (!this.settling) return;
      clearTimeout(this.settling);
      this.settling = 0;
      const {here} = this;
      if (here) this.reshape(here.vertices, true);
    }

    remove() {
      const region = this.find(this.chosen);
      if (!region) return;
      this.choose(null);
      this.tell({kind: "take away", path: region.path});
    }

    /** Take the chosen corner away; where none is, or too few would be left, the region. */
    erase() {
      const {here, corner} = this;
      if (!here) return;
      if (corner === null || of_corners(here)) { this.remove(); return; }
      if (here.vertices.length <= 3) { this.map.whisper("An outline has three corners at least; Delete with no corner chosen takes the region away"); return; }
      this.corner = Math.min(corner, here.vertices.length - 2);
      this.reshape(here.vertices.filter((_, k) => k !== corner), true);
    }

    insert(after, at) {
      const {here} = this;
      if (!here || of_corners(here)) return;
      this.corner = after + 1;
      this.reshape(here.vertices.toSpliced(after + 1, 0, at), true);
    }

    // ------------------------------------------------------------------------------------------------------ choosing
    choose(key, corner = null) {
      const is_new = key !== this.chosen;
      if (is_new) this.settle();
      Object.assign(this, {chosen: key, corner: key === null ? null : corner});
      this.draw();
      if (!is_new) return;
      this.mark();
      this.forget?.();
      this.forget = null;
      if (key === null) return;
      const add = (key, title, run) => window.voorwerp.commands.add({id: `outline-${key}`, title, group: "Boundary", key, run, when: () => this.here && !this.map.gesture});
      const forget = [
        add("delete", "Take the chosen corner away, or the region", () => this.erase()),
        add("backspace", "Take the chosen corner away, or the region", () => this.erase()),
        add("escape", "Let go of the region", () => this.let_go()),
      ];
      this.forget = () => forget.forEach(f => f());
    }

    let_go() {
      if (this.drag) { this.give_up(); return; }
      if (this.grip.matches(":focus")) { this.corner = null; this.tag(this.chosen)?.focus(); this.draw(); return; }
      this.choose(null);
    }

    /** Choose a region; if it lies on another plane, once that is on screen. */
    show(path) {
      const key = path.join();
      if (this.find(key)) this.choose(key); else this.wanted = key;
    }

    tag(key) {
      return key === null ? null : this.tags.querySelector(`[data-key="${key}"]`);
    }

    mark() {
      for (const tag of this.tags.children) tag.setAttribute("aria-pressed", String(tag.dataset.key === this.chosen));
    }

    // --------------------------------------------------------------------------------------------------------- mouse
    /** The corner within reach of a pixel: the nearest of the chosen region, else of any. A hand's line is all corners:
     *  of one that is not chosen only if `dense`, so that one can draw on it. */
    corner_at(at, dense) {
      let best = Infinity, found = null;
      for (const told of this.told.regions) {
        const key = told.path.join(), is_chosen = key === this.chosen;
        if (told.shape === "freehand" && !is_chosen && !dense) continue;
        handles(this.now(told)).forEach((v, k) => {
          const [x, y] = this.map.px(...v), d = Math.hypot(at[0] - x, at[1] - y), rank = is_chosen ? d : d + 2 * REACH;
          if (d < REACH + 1 && rank < best) [best, found] = [rank, {key, corner: k}];
        });
      }
      return found;
    }

    /** What of the regions is at a pixel: a corner, or an edge. */
    under(at, edges) {
      if (!this.told.on) return null;
      const corner = this.corner_at(at, edges);
      if (corner || !edges) return corner;
      let best = REACH, found = null;
      for (const told of this.told.regions) {
        const region = this.now(told), key = told.path.join(), points = outline(region).map(v => this.map.px(...v));
        points.forEach((a, k) => {
          const [d, t] = apart(at, a, points[(k + 1) % points.length]);
          if (d < best - (key === this.chosen ? 0 : 0.5)) [best, found] = [d, {key, edge: k, t}];
        });
      }
      return found;
    }

    /** A button went down on the map: whether it is ours. Edges are only while the hand pans, so that one can draw on them. */
    grab(at, tool) {
      if (tool === "brush" || this.map.gesture) return false;
      const found = this.under(at, tool === "pan");
      if (!found) return false;
      this.take(found, at);
      return true;
    }

    take({key = this.chosen, corner}, at) {
      this.settle();
      this.choose(key, corner ?? null);
      const {here} = this;
      if (here) this.drag = {at, corner, from: here.vertices.map(v => [...v]), moved: false};
      this.map.hide();
      this.draw();
    }

    move(at) {
      const {drag, here} = this;
      if (!drag || !here) return;
      const dx = at[0] - drag.at[0], dy = at[1] - drag.at[1];
      drag.moved ||= Math.hypot(dx, dy) > CLICK;
      if (!drag.moved) return;
      const shifted = v => { const [x, y] = this.map.px(...v); return this.map.data(x + dx, y + dy); };
      const start = {...here, vertices: drag.from};
      this.reshape(drag.corner === undefined ? drag.from.map(shifted) : with_handle(start, drag.corner, shifted(handles(start)[drag.corner])), false);
    }

    up() {
      const {drag, here} = this;
      this.drag = null;
      if (drag?.moved && here) this.reshape(here.vertices, true);
      if (drag?.corner === undefined) return;
      this.paint();
      this.grip.focus({preventScroll: true});  // the arrow keys move it on
    }

    give_up() {
      const {drag} = this;
      this.drag = null;
      if (drag?.moved) this.reshape(drag.from, true);
    }

    /** A double click on an edge: one corner more. */
    double(at) {
      const found = this.under(at, true);
      if (found?.edge === undefined || !this.find(found.key)) return;
      this.choose(found.key);
      this.insert(found.edge, this.map.data(...at));
    }

    // ---------------------------------------------------------------------------------------------------------- keys
    /** Tab goes from corner to corner, and out at the ends. */
    step(e) {
      if (e.key !== "Tab" || !this.here) return;
      const to = (this.corner ?? 0) + (e.shiftKey ? -1 : 1);
      if (to < 0 || to >= handles(this.here).length) return;
      e.preventDefault();
      this.corner = to;
      this.draw();
    }

    nudge(dx, dy, e) {
      const {here, map} = this, by = e.shiftKey ? FAR : 1;
      if (!here) return;
      const shifted = v => { const [x, y] = map.px(...v); return map.data(x + by * dx, y + by * dy); };
      const vertices = this.corner === null ? here.vertices.map(shifted) : with_handle(here, this.corner, shifted(handles(here)[this.corner]));
      clearTimeout(this.settling);
      this.settling = setTimeout(() => this.settle(), RESTS);
      this.reshape(vertices, false);
    }

    /** The arrow keys are ours as long as a corner or a region's number has the focus. */
    own() {
      this.disown();
      const add = (key, title, run) => window.voorwerp.commands.add({id: `outline-${key}`, title, group: "Boundary", key, run});
      const forget = [["arrowleft", "left", -1, 0], ["arrowright", "right", 1, 0], ["arrowup", "up", 0, -1], ["arrowdown", "down", 0, 1]]
        .map(([key, way, dx, dy]) => add(key, `Nudge the corner or the region ${way}`, e => this.nudge(dx, dy, e)));
      forget.push(add("+", "One corner more, after this one", () => {
        const {here, corner} = this;
        if (!here || corner === null || of_corners(here)) return;
        const [a, b] = [here.vertices[corner], here.vertices[(corner + 1) % here.vertices.length]];
        this.insert(corner, [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]);
      }));
      this.owned = () => forget.forEach(f => f());
    }

    disown() {
      this.owned?.();
      this.owned = null;
    }

    /** A number for each region: to choose it, to drag all of it, and for the keys. */
    list() {
      const {regions, on} = this.told, shown = on ? regions : [];
      while (this.tags.children.length > shown.length) this.tags.lastChild.remove();
      shown.forEach((region, i) => {
        const key = region.path.join();
        let tag = this.tags.children[i];
        if (!tag) {
          tag = make("button", "", this.tags, {type: "button"});
          tag.addEventListener("pointerdown", e => {  // a corner beneath comes first
            const at = this.map.where(e);
            tag.setPointerCapture(e.pointerId);
            this.take(this.corner_at(at, true) ?? {key: tag.dataset.key}, at);
          });
          tag.addEventListener("mousedown", e => { if (this.drag?.corner !== undefined) e.preventDefault(); });  // no focus
          tag.addEventListener("pointermove", e => { if (!this.drag) tag.style.cursor = this.corner_at(this.map.where(e), true) ? "pointer" : ""; });
          this.dragged_by(tag);
          tag.addEventListener("click", e => {  // by the keys: on to its corners
            if (e.detail) return;
            this.choose(tag.dataset.key, 0);
            this.paint();
            this.grip.focus({preventScroll: true});
          });
          tag.addEventListener("focus", () => { this.choose(tag.dataset.key); this.own(); });
          tag.addEventListener("blur", () => { this.disown(); this.settle(); });
        }
        tag.dataset.key = key;
        tag.classList.toggle("taken", !region.is_added);
        tag.textContent = `${region.is_added ? "" : "−"}${i + 1}`;
        tag.setAttribute("aria-label", `Region ${i + 1}: ${region.words}`);
        tag.title = `${region.words[0].toUpperCase()}${region.words.slice(1)}. Drag: move it; Enter: its corners; Delete: take it away`;
      });
      this.mark();
    }

    // ------------------------------------------------------------------------------- lines of a learned score, hatching
    toggle(name) {
      if (!put_away.delete(name)) put_away.add(name);
      this.ask();
      this.draw();
      window.dispatchEvent(new CustomEvent("voorwerp-outlines"));
    }

    /** Fetch what is to be seen, once the view and the boundary are at rest. */
    ask() {
      clearTimeout(this.asking);
      this.asking = setTimeout(() => this.fetch(), this.drag ? RESTS : 150);
      this.describe();
    }

    async fetch() {
      const {map, told} = this;
      if (this.drag) { this.ask(); return; }
      if (!map.told || !map.w) return;
      const wanted = told.on && !map.told.solid;
      const box = {...map.told.query, ...map.box()};
      await this.get("lines", wanted && told.learned?.length && !put_away.has("lines") ? told.learned.map(({model, scale}) => `boundary/contours?${new URLSearchParams({...box, model, scale})}`) : []);
      await this.get("hatched", wanted && told.draft && !put_away.has("hatched") ? [`boundary/empty?${new URLSearchParams({...map.told.query, draft: told.draft})}`] : []);
    }

    async get(what, addresses) {
      const asked = addresses.join(" ");
      if (asked === this[`asked_${what}`]) return;
      this[`asked_${what}`] = asked;
      let found = null, trouble = "";
      try {
        found = addresses.length ? await Promise.all(addresses.map(async address => {
          const answer = await fetch(address, {credentials: "same-origin"}), told = await answer.json();
          if (!answer.ok) throw new Error(told.error);
          return told;
        })) : null;
      } catch (error) { trouble = error instanceof TypeError ? "the server does not answer" : error.message; }
      if (asked !== this[`asked_${what}`]) return;
      this[what] = found;
      this[`${what}_trouble`] = trouble;
      this.describe();
      this.draw();
    }

    /** What the lines mean, in the corner; a click hides or shows them. */
    describe() {
      const {told} = this, shown = told.on && !this.map.told?.solid, said = [];
      const bare = this.hatched?.[0];
      if (shown) for (const {title} of told.learned ?? []) said.push(["lines", `${title}: ${this.lines_trouble || "mean of the cell, .25 .5 .75"}`]);
      if (shown && told.draft) said.push(["hatched", this.hatched_trouble || (!bare || put_away.has("hatched") ? "Where nothing is kept" : bare.cells.length ? `Nothing is kept of ${bare.n.toLocaleString("en")} here` : "Something is kept wherever five or more lie")]);
      const key = JSON.stringify([said, [...put_away]]);
      if (key === this.described) return;
      this.described = key;
      this.key.hidden = !said.length;
      this.key.replaceChildren(...said.map(([name, text]) => {
        const line = make("button", name, null, {type: "button", title: "Show or hide", "aria-pressed": String(!put_away.has(name))});
        make("i", "", line);
        make("span", "", line).textContent = text;
        line.addEventListener("click", () => this.toggle(name));
        return line;
      }));
    }

    // ------------------------------------------------------------------------------------------------------- drawing
    draw() {
      if (this.drawing) return;
      this.drawing = true;
      requestAnimationFrame(() => { this.drawing = false; this.paint(); });
    }

    paint() {
      const {map} = this;
      if (!map.told || !map.w) return;
      const shown = this.told.on && !map.told.solid;
      const pen = map.pen(this.canvas, shown);
      this.tags.hidden = !shown;
      this.grip.hidden = !shown || !this.here || this.corner === null;
      if (!shown) return;
      this.hatch(pen);
      this.levels(pen);
      for (const chosen of [false, true]) for (const told of this.told.regions) {
        if ((told.path.join() === this.chosen) === chosen) this.region(pen, this.now(told), chosen);
      }
      this.place_tags();
    }

    region(pen, region, chosen) {
      const {map} = this, points = outline(region).map(v => map.px(...v)), color = map.color(region.is_added ? "accent" : "warm");
      pen.beginPath();
      trace(pen, points);
      pen.closePath();
      pen.fillStyle = color;
      pen.globalAlpha = chosen ? 0.1 : 0.05;
      pen.fill("evenodd");
      pen.globalAlpha = 0.55;
      pen.strokeStyle = map.color("ground");
      pen.lineWidth = chosen ? 5 : 4;
      pen.stroke();
      pen.globalAlpha = 1;
      pen.strokeStyle = color;
      pen.lineWidth = chosen ? 2.4 : 1.6;
      pen.setLineDash(region.is_added ? [] : [7, 4]);
      pen.stroke();
      pen.setLineDash([]);
      if (!chosen) return;
      handles(region).forEach((v, k) => {
        const [x, y] = map.px(...v), r = k === this.corner ? 5 : 3.5;
        if (x < -r || y < -r || x > map.w + r || y > map.h + r) return;
        pen.fillStyle = k === this.corner ? color : map.color("ground");
        pen.lineWidth = 1.6;
        pen.beginPath();
        pen.rect(x - r, y - r, 2 * r, 2 * r);
        pen.fill();
        pen.stroke();
      });
    }

    /** A region's number stands above its highest corner and out of its reach, within the map as long as some of the region is. */
    place_tags() {
      const {map} = this, bar = map.bar.getBoundingClientRect().height + 8;
      this.told.regions.forEach((told, i) => {
        const tag = this.tags.children[i], points = outline(this.now(told)).map(v => map.px(...v));
        const [x, y] = points.reduce((a, b) => b[1] < a[1] ? b : a), all = k => points.map(p => p[k]);
        tag.hidden = Math.max(...all(0)) < 0 || Math.min(...all(0)) > map.w || Math.max(...all(1)) < 0 || Math.min(...all(1)) > map.h;
        const within = (v, low, high) => Math.max(low, Math.min(high, v));
        tag.style.transform = `translate(${Math.round(within(x - 10, 2, map.w - 26))}px, ${Math.round(within(y - 34, bar, map.h - 22))}px)`;
      });
      const {here, corner} = this;
      if (!here || corner === null) return;
      const all = handles(here), at = all[Math.min(corner, all.length - 1)], [x, y] = map.px(...at);
      this.grip.style.transform = `translate(${Math.round(x - 8)}px, ${Math.round(y - 8)}px)`;
      this.grip.setAttribute("aria-label", `Corner ${corner + 1} of ${all.length}, at ${at.map(v => Number(v.toPrecision(4))).join(" and ")}`);
    }

    levels(pen) {
      if (!this.lines || put_away.has("lines")) return;
      const {map} = this, taken = [];
      pen.font = `600 10px ${map.font}`;
      pen.textBaseline = "middle";
      for (const {level, lines: parts} of this.lines.flat()) {
        const room = [];
        pen.beginPath();
        for (const line of parts) {
          const points = line.map(v => map.px(...v));
          trace(pen, points);
          room.push(...points.filter(([x, y]) => x > 20 && x < map.w - 40 && y > 50 && y < map.h - 14));
        }
        for (const [color, width, alpha] of [["ground", 3.5, 0.5], ["accent", level === 0.5 ? 2 : 1.2, 0.95]]) {
          pen.strokeStyle = map.color(color);
          pen.globalAlpha = alpha;
          pen.lineWidth = width;
          pen.setLineDash(color === "accent" ? [2, 3] : []);
          pen.stroke();
        }
        pen.setLineDash([]);
        pen.globalAlpha = 1;
        const at = room.find(([x, y]) => map.free({x, y: y - 7, w: 24, h: 14}, taken));
        if (at) map.text(pen, String(level).replace("0.", "."), at[0] + 3, at[1], "accent");
      }
    }

    hatch(pen) {
      const cells = this.hatched?.[0]?.cells;
      if (!cells?.length || put_away.has("hatched")) return;
      const {map} = this;
      pen.save();
      pen.beginPath();
      for (const [x0, x1, y0, y1] of cells) {
        const [ax, ay] = map.px(x0, y1), [bx, by] = map.px(x1, y0);
        if (bx > 0 && ax < map.w && by > 0 && ay < map.h) pen.rect(ax, ay, bx - ax, by - ay);
      }
      pen.clip();
      pen.strokeStyle = map.color("warm");
      pen.globalAlpha = 0.6;
      pen.lineWidth = 1;
      pen.beginPath();
      for (let x = -map.h; x < map.w; x += HATCH) { pen.moveTo(x, map.h); pen.lineTo(x + map.h, 0); }
      pen.stroke();
      pen.restore();
    }
  }

  window.voorwerp.outlines = Object.assign(map => new Outlines(map), {
    /** Whether a person put the lines or the hatching away; `voorwerp-outlines` tells of a change. */
    hides: name => put_away.has(name),
  });
})();
