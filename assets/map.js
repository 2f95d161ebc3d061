// The map's other half: asks /frame for pixels whenever the view or the colouring changes, lies as a layer over the
// figure's frame, and takes every gesture there: panning, zooming, turning, outlines. It paints the pixels (pixels.js)
// and what stands above them (rings, names, places, contours, markers), shows the subject under the mouse, and tells the
// session what was clicked and drawn; Bokeh draws the axes. While a hand moves, the last frame moves along at once, and
// a newer one takes its place as soon as it is here: perhaps a coarse one, with a margin where the hand goes; the exact
// one follows when it rests. Loaded once a page; `voorwerp.map(...)` is called by every change of the figure's ranges and size.
(() => {
  if (window.voorwerp?.map) return;

  const HOVER_REACH = 14, CLICK = 4, STEP = 3, FIRST = 8; // pixels: of the mouse, of a hand that does not move, between corners, around the first
  const MOST_PIXELS = 4096; // of a side: what /frame renders
  const RESTS = 400; // ms: a view that stays so long is one to come back to
  const SETTLES = 120; // ms after the last change: what was coarse or has a margin is asked for exactly
  const MARGIN = 16, WIDEST = 0.25; // pixels: margins are multiples of it; of a side: at most so much
  const SLOW_LINK = 4e6, FAST_LINK = 8e6; // bytes/s: below, frames are packed; above, raw again
  const LEGEND_EVERY = 150; // ms, while a hand moves
  const PATIENCE = 150; // ms: so long a hand that moves again waits for the exact frame of what it left
  const AGAIN = 700; // ms: until a map that is being made ready is asked for again
  const CORNERS = 2000; // of an outline at most
  const SMALL = [150, 110]; // pixels of the minimap
  const SAID = 10_000; // ms: so long a removed place can be brought back from here
  const TURN = 0.008; // radians a pixel
  const TRUSTED = 3000; // ms: so long what a person chose is shown before the session has said so
  const REMEMBERED = "voorwerp-minimap";
  const controllers = new WeakMap();
  const put_away = new Set();  // categories of overlays that a person hid, as long as the page is open

  const icon = d => `<svg viewBox="0 0 20 20" aria-hidden="true"><path d="${d}"/></svg>`;
  const TOOLS = {
    pan: ["Pan", "p", "Move the map; the wheel zooms", icon("M10 2v16M2 10h16M10 2 8 4M10 2l2 2M10 18l-2-2M10 18l2-2M2 10l2-2M2 10l2 2M18 10l-2-2M18 10l-2 2")],
    lasso: ["Lasso", "l", "Draw around subjects", icon("M10 3c4.4 0 8 2.2 8 5s-3.6 5-8 5-8-2.2-8-5 3.6-5 8-5ZM5 12c-1.5 1.2-1 3 .8 3 1.7 0 1.7 2 .2 3")],
    box: ["Box", "b", "Drag a box", icon("M3 4h14v12H3Z")],
    polygon: ["Polygon", "g", "Click corner by corner; the first corner, a double click or Enter closes it", icon("M10 2.5 17.5 8l-3 9h-9l-3-9Z")],
    ellipse: ["Ellipse", "e", "Drag an ellipse", icon("M10 4.500c4.4 0 8 2.5 8 5.500s-3.6 5.5-8 5.500S2 13 2 10s3.6-5.5 8-5.500Z")],
    brush: ["Brush", "w", "Paint over subjects; − and + change its size", icon("M17.5 2.5 9 11M8.5 10.500c-2.5-.5-4 1-4.2 3C4.2 15 3.5 16.5 2 17c3.5 1 8 .2 8.5-3.500Z")],
  };
  const HINTS = {
    lasso: "Draw around subjects", box: "Drag a box", ellipse: "Drag an ellipse", brush: "Paint over subjects; − and + size",
    polygon: "Click the corners; the first one or Enter closes, Backspace takes one back",
  };
  const DRAWS = {lasso: "Draw around a region", box: "Drag a box", ellipse: "Drag an ellipse", polygon: "Click corners, double click closes"};  // into the boundary
  const MEETS = {subtract: "leaves it out", intersect: "keeps what is in both"};  // else it adds
  const SHAPES = {
    circle: [], square: [[-1, -1], [1, -1], [1, 1], [-1, 1]], triangle: [[0, -1.25], [1.15, 0.85], [-1.15, 0.85]],
    diamond: [[0, -1.35], [1.35, 0], [0, 1.35], [-1.35, 0]], down: [[0, 1.25], [1.15, -0.85], [-1.15, -0.85]],
    cross: [[-1.2, -0.4], [-0.4, -0.4], [-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4]],
    star: [...Array(10).keys()].map(k => [Math.sin(k * Math.PI / 5) * (k % 2 ? 0.6 : 1.4), -Math.cos(k * Math.PI / 5) * (k % 2 ? 0.6 : 1.4)]),
    hexagon: [...Array(6).keys()].map(k => [Math.sin(k * Math.PI / 3) * 1.2, -Math.cos(k * Math.PI / 3) * 1.2]),
  };

  const make = (tag, name, parent, attributes = {}) => {
    const e = document.createElement(tag);
    if (name) e.className = name;
    for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
    parent?.append(e);
    return e;
  };
  const fetched = async (address, headers = {}, signal = undefined) => {
    const answer = await fetch(address, {credentials: "same-origin", headers, signal});
    if (!answer.ok) throw Object.assign(new Error((await answer.json()).error), {status: answer.status});
    return answer;
  };
  const trace = (pen, points) => points.forEach(([x, y], i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y));
  const mark = (pen, shape, x, y, r) => {
    pen.beginPath();
    if (!SHAPES[shape].length) pen.arc(x, y, r, 0, 2 * Math.PI);
    else { trace(pen, SHAPES[shape].map(([dx, dy]) => [x + r * dx, y + r * dy])); pen.closePath(); }
  };
  const mode_of = e => e?.altKey && e.shiftKey ? "intersect" : e?.altKey ? "subtract" : e?.shiftKey ? "add" : null;
  const centroid = points => {  // of the area; of the corners where there is none
    let area = 0, x = 0, y = 0;
    const [ox, oy] = points[0];
    points.forEach(([ax, ay], i) => {
      const [bx, by] = points[(i + 1) % points.length], w = (ax - ox) * (by - oy) - (bx - ox) * (ay - oy);
      area += w; x += w * (ax + bx + ox) / 3; y += w * (ay + by + oy) / 3;
    });
    if (Math.abs(area) > 1e-9) return [x / area, y / area];
    return [0, 1].map(k => points.reduce((sum, p) => sum + p[k], 0) / points.length);
  };
  const clipped = (points, w, h) => {  // Sutherland–Hodgman, to the frame
    for (const [axis, at, sign] of [[0, 0, 1], [0, w, -1], [1, 0, 1], [1, h, -1]]) {
      const kept = [], within = p => sign * (p[axis] - at) >= 0;
      points.forEach((a, i) => {
        const b = points[(i + 1) % points.length];
        if (within(a)) kept.push(a);
        if (within(a) !== within(b)) {
          const t = (at - a[axis]) / (b[axis] - a[axis]);
          kept.push([a[0] + t * (b[0] - a[0]), a[1] + t * (b[1] - a[1])]);
        }
      });
      points = kept;
      if (!points.length) break;
    }
    return points;
  };

  class Controller {
    constructor(figure, request, marks, overlay, drawn, inbox) {
      Object.assign(this, {figure, request, inbox});
      this.busy = this.dirty = this.queued = this.drawing = this.moving = false;
      this.changed_at = -Infinity;
      this.changes = 0;  // of what is to be shown
      this.took = 50;  // ms from asking for a frame to its paint, lately
      this.rates = [];  // bytes/s of the last frames
      this.turn = [0, 0];
      this.tool = "pan";
      this.pointers = new Map();
      this.past = [];
      this.at = -1;
      this.foreseen = {};
      this.marks = {};
      this.brush = 22;
      this.build();
      request.properties.tags.change.connect(() => { if (this.alive()) this.hear(); });
      const marked = () => { this.marks = JSON.parse(marks.tags[0] ?? "{}"); this.draw(); };
      const laid = () => this.overlay(JSON.parse(overlay.tags[0] ?? "[]"));
      marks.properties.tags.change.connect(marked);
      overlay.properties.tags.change.connect(laid);
      const outlined = () => this.outlines.hear(JSON.parse(drawn.tags[0] ?? '{"on": false, "regions": []}'));
      drawn.properties.tags.change.connect(outlined);
      this.hear();
      marked();
      laid();
      outlined();
      setTimeout(() => { this.slow = true; this.wait(); }, 700);
    }

    alive() {
      // a figure is replaced when the session turns from no map to one
      return Bokeh.documents.some(d => d._all_models.has(this.figure.id));
    }

    tell(message) {
      this.inbox.tags = [JSON.stringify({...message, time: performance.now()})];
    }

    set(name, value) {
      this.tell({kind: "set", name, value});
    }

    // ------------------------------------------------------------------------------------------------ the layer
    build() {
      this.layer = make("div", "layer");
      this.pixels = window.voorwerp.pixels(this.layer);
      this.surface = make("div", "surface", this.layer, {role: "application", tabindex: "0", "aria-roledescription": "map"});
      this.below = make("canvas", "", this.layer);
      this.outlines = window.voorwerp.outlines(this);
      this.above = make("canvas", "", this.layer);
      this.names = make("div", "names", this.layer);
      this.bar = make("div", "bar", this.layer, {role: "toolbar", "aria-label": "Map"});
      this.buttons = {};
      const button = (id, label, key, title, picture, run) => {
        const e = make("button", "", this.bar, {type: "button", "aria-label": label, title: `${title}${key ? ` (${key.toUpperCase()})` : ""}`});
        e.innerHTML = picture;
        e.addEventListener("click", run);
        this.buttons[id] = e;
      };
      const gap = () => make("i", "", this.bar);
      for (const [name, [label, key, title, picture]] of Object.entries(TOOLS)) button(name, label, key, title, picture, () => this.use(name));
      button("draws", "Draw into the boundary", "j", "What is drawn becomes a region of the boundary, not a selection", icon("M3 8.500 9 3l6.500 4M15 9.500 13 15H5.500L3 8.500M14 16.500h5M16.500 14v5"), () => this.set("draws", !this.told.draws));
      gap();
      button("home", "Whole map", "f", "Show the whole map", icon("M3 10 10 3.500l7 6.500M5 8.500V17h10V8.5"), () => this.home());
      button("back", "Back", "[", "The view before", icon("M16 10H4M9 5l-5 5 5 5"), () => this.go(-1));
      button("forward", "Forward", "]", "The view after", icon("M4 10h12M11 5l5 5-5 5"), () => this.go(1));
      gap();
      button("solid", "3-D", "3", "Turn the map's three components under the mouse", icon("M10 2.5 17 6v8l-7 3.500L3 14V6ZM3 6l7 3.500L17 6M10 9.500v8"), () => this.set("solid", !this.told.solid));
      button("contours", "Contours", "d", "Contours of density: they hold 50, 80 and 95 % of the subjects in view", icon("M10 3c5 0 7.5 3 7.5 7s-3 7-7.5 7-7.5-3-7.5-7S5 3 10 3ZM10 6.500c3 0 4.5 1.5 4.5 3.500s-2 3.5-4.5 3.500S5.5 12 5.5 10 7 6.5 10 6.500Z"), () => this.set("contours", !this.told.contours));
      button("places", "Places", "", "Names of places", icon("M10 17.500s5.5-5 5.5-9a5.5 5.5 0 1 0-11 0c0 4 5.5 9 5.5 9ZM10 6.500v4M8 8.500h4"), () => this.set("places", !this.told.places));
      button("name", "Name this region", "y", "Name the region that was drawn last", icon("M3 17l1-4L13.5 3.500l3 3L7 16ZM11.5 5.500l3 3"), () => this.name());
      button("drop", "Place an image", "q", "Place an image among the subjects: PNG, JPEG or FITS, or drop it on the map", icon("M3 4h9M3 4v12h12v-7M3 13.500l4-4 3 3 2-2 3 3M16 1.500v6M13 4.500h6"), () => window.voorwerp.drop?.choose());
      button("minimap", "Minimap", "", "The whole map in the corner", icon("M3 4h14v12H3ZM10 10h7v6h-7Z"), () => this.fold());
      this.key = make("div", "key", this.layer);
      this.hint = make("div", "hint", this.layer, {role: "status"});
      this.waits = make("div", "waits", this.layer, {role: "status"});
      this.mini = make("div", "mini", this.layer);
      this.whole = make("canvas", "", this.mini);
      this.frame = make("b", "", this.mini, {title: "Drag: the part of the map that is in view"});
      this.mini.hidden = localStorage.getItem(REMEMBERED) === "folded";
      this.card = document.querySelector(".voorwerp-card") ?? make("div", "voorwerp-card", document.body, {role: "tooltip"});
      this.card.hidden = true;
      const on = (kind, run, options) => this.surface.addEventListener(kind, run.bind(this), options);
      on("pointerdown", this.down);
      on("pointermove", this.move);
      on("pointerup", this.up);
      on("pointercancel", e => { this.pointers.delete(e.pointerId); this.press = this.pinch = null; this.outlines.give_up(); this.drop(); });
      on("pointerleave", () => { this.left = true; this.hide(); this.draw(); });
      on("dblclick", e => { if (this.tool === "polygon") this.close(mode_of(e)); else if (this.tool === "pan") this.outlines.double(this.where(e)); });
      on("contextmenu", e => e.preventDefault());
      on("auxclick", e => e.preventDefault());
      this.layer.addEventListener("wheel", this.wheel.bind(this), {passive: false});
      this.mini.addEventListener("pointerdown", e => { this.mini.setPointerCapture(e.pointerId); this.steer(e); });
      this.mini.addEventListener("pointermove", e => { if (e.buttons) this.steer(e); });
      this.surface.addEventListener("focus", () => this.hold());
      this.surface.addEventListener("blur", () => { this.let_go?.(); delete this.surface.dataset.by; });
    }

    place() {
      // the layer lies on the figure's frame; Bokeh may have drawn the figure anew
      const view = Bokeh.index.find_one(this.figure), box = view?.frame?.bbox;
      if (!box || !(box.width > 0)) return false;
      const root = view.shadow_el ?? view.el;
      if (this.layer.parentNode !== root) root.append(this.layer);
      const {left, top, width, height} = box, key = [left, top, width, height, devicePixelRatio].join();
      if (key !== this.placed) {
        this.placed = key;
        [this.w, this.h] = [width, height];
        Object.assign(this.layer.style, {left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px`});
        this.layer.classList.toggle("narrow", width < 460);
        this.bar_box = null;
        this.pixels.slide(this.view, width, height);
        for (const canvas of [this.below, this.outlines.canvas, this.above]) [canvas.width, canvas.height] = [Math.round(width * devicePixelRatio), Math.round(height * devicePixelRatio)];
        this.draw();
      }
      return true;
    }

    /** What a person chooses in the left column, asked for at once: the session hears of it, and has the last word. False for what colors no frame. */
    foresee({lambda_, ...change}) {
      if (!this.told) return false;
      const lambda = lambda_ === undefined ? undefined : Math.round(1000 * lambda_) / 1000, now = {...this.told.paint, lambda: this.told.query.lambda};
      const others = Object.entries({...change, lambda}).filter(([name, value]) => name in now && value !== undefined && value !== now[name]);
      if (!others.length) return false;
      this.foreseen = {...this.foreseen, ...Object.fromEntries(others)};
      clearTimeout(this.trusting);
      this.trusting = setTimeout(() => { this.foreseen = {}; if (this.alive()) this.take(); }, TRUSTED);
      this.take();
      return true;
    }

    /** The session says what to show. */
    hear() {
      const session = JSON.parse(this.request.tags[0] ?? "{}");
      if (!session.query) return;
      this.session = session;
      for (const [name, value] of Object.entries(this.foreseen)) if (session.query[name] === value || session.paint[name] === value) delete this.foreseen[name];
      if (!Object.keys(this.foreseen).length) clearTimeout(this.trusting);
      if (session.solid && !this.press && String(session.turn) !== String(this.told_turn)) this.turn = this.told_turn = session.turn;
      if (!this.press) this.tool = session.tool;
      this.take();
    }

    /** What is to be shown now: what the session said last, and what a person chose since. */
    take() {
      const before = this.told, {session, pixels} = this, {lambda: weight = session.query.lambda, ...paint} = this.foreseen;
      const told = this.told = {...session, query: {...session.query, lambda: weight}, paint: {...session.paint, ...paint}};
      if (told.paint.color !== session.paint.color && pixels.frame?.color === told.paint.color) told.palette = pixels.palette;
      const {map, x, y, run, lambda, lambda_mode} = told.query, plane = JSON.stringify([map, x, y, told.solid]);
      const standing = weight => JSON.stringify([plane, `${x} ${y}`.includes("scores.") && [run, weight, lambda_mode]]);  // where subjects do
      const stand = standing(lambda), small = standing(session.query.lambda);
      if (before && plane !== this.plane) {
        Object.assign(this, {past: [], at: -1, last: null, lines: null, gesture: null});
        this.shown = null;
        this.pixels.leave();
        this.look(this.whole_view);
      } else if (before && told.fit !== before.fit) this.home();
      if (!told.selected && before?.selected) this.last = null;
      this.plane = plane;
      this.surface.setAttribute("aria-label", told.about);
      const read = !this.card.hidden && !this.left && !this.press;
      this.hide();
      delete this.card.dataset.row;  // its scores may be others now
      if (read) this.hover(this.mouse);
      const what = JSON.stringify([told.query, told.paint]);
      if (before && what !== this.what) {  // of what was drawn before, cells may be there
        this.changed_at = performance.now();
        this.changes += 1;
      }
      this.what = what;
      this.refresh();
      this.equip();
      if (!told.contours) this.lines = null;
      else if (!before?.contours) this.outline();
      else if (stand !== this.stand) { this.lines = this.asked_lines = null; this.changed(); }
      this.stand = stand;
      if (small !== this.small) { this.small = small; this.minimap(); }
      this.colors = null;
      if (before && told.theme !== before.theme) this.tint();
      if (before && told.palette !== pixels.palette && pixels.frame?.color === told.paint.color) {  // else it comes with its frame
        pixels.dye(told.palette);
        this.tell_legend();
      }
      this.draw();
    }

    equip() {
      const {told, buttons} = this;
      this.bar_box = null;
      for (const name of Object.keys(TOOLS)) buttons[name].setAttribute("aria-pressed", String(name === this.tool));
      for (const name of ["solid", "contours", "places", "draws"]) buttons[name].setAttribute("aria-pressed", String(Boolean(told[name])));
      buttons.minimap.setAttribute("aria-pressed", String(!this.mini.hidden));
      buttons.back.disabled = this.at <= 0;
      buttons.forward.disabled = this.at >= this.past.length - 1;
      buttons.solid.disabled = !told.can_solid;
      buttons.name.disabled = !this.can_name();
      buttons.draws.hidden = !told.can_draw;
      buttons.brush.title = told.draws ? "Paint over subjects: the brush selects, it makes no region of the boundary (W)" : `${TOOLS.brush[2]} (W)`;
      this.surface.dataset.tool = this.tool;
      this.surface.classList.toggle("solid", told.solid);
      const drawn = told.draws ? ": it selects, and makes no region of the boundary" : "";  // the brush
      const calm = this.whispered ? this.whispered
        : told.draws && DRAWS[this.tool] ? `${DRAWS[this.tool]}: ${MEETS[told.mode] ?? "adds a region"} · Shift adds, Alt leaves out, both intersect`
        : told.draws && this.tool === "pan" ? "Drag moves the map, a corner or a region · Polygon (G), lasso (L), box (B) or ellipse (E) draws another"
        : this.tool !== "pan" ? `${HINTS[this.tool].replace(/^[^;]+/, part => part + drawn)} · Shift adds, Alt takes away, both intersect`
        : told.solid ? "Drag turns the map, Shift + drag moves it" : "";
      if (told.removed !== this.removed) {  // it can be brought back for a while
        this.removed = told.removed;
        this.hushed = false;
        clearTimeout(this.hushing);
        if (told.removed) this.hushing = setTimeout(() => { this.hushed = true; this.equip(); }, SAID);
      }
      const hushed = told.removed && this.hushed || told.draws && this.gesture, text = hushed ? calm : told.said || calm, key = `${text} ${hushed ? "" : told.removed ?? ""}`;
      if (this.hinted !== key) {
        this.hinted = key;
        this.hint.textContent = text;
        if (told.removed && !hushed) {
          const undo = make("button", "", this.hint, {type: "button"});
          undo.textContent = "Undo";
          undo.addEventListener("click", () => { undo.disabled = true; this.tell({kind: "undo"}); });
        }
      }
      this.hint.classList.toggle("said", Boolean(told.said) && !told.is_news && !hushed);
    }

    /** Say something here for a while. */
    whisper(text) {
      this.whispered = text;
      clearTimeout(this.whispering);
      this.whispering = setTimeout(() => { this.whispered = ""; this.equip(); }, SAID);
      this.equip();
    }

    use(tool) {
      this.drop();
      this.tool = tool;
      this.equip();
      this.set("tool", tool);
      this.draw();
    }

    // ----------------------------------------------------------------------------------------------- the view
    get view() {
      const {x_range, y_range} = this.figure;
      return [x_range.start, x_range.end, y_range.start, y_range.end];
    }

    /** The view that holds everything; turned, a pixel is as wide as it is high. */
    get whole_view() {
      const [x0, x1, y0, y1] = this.told.home;
      if (!this.told.solid || !this.w) return this.told.home;
      const scale = Math.max((x1 - x0) / this.w, (y1 - y0) / this.h) / 2, x = (x0 + x1) / 2, y = (y0 + y1) / 2;
      return [x - scale * this.w, x + scale * this.w, y - scale * this.h, y + scale * this.h];
    }

    look([x0, x1, y0, y1]) {
      if (![x0, x1, y0, y1].every(Number.isFinite) || !(x0 < x1) || !(y0 < y1)) return;
      this.figure.x_range.setv({start: x0, end: x1}, {sync: false});
      this.figure.y_range.setv({start: y0, end: y1}, {sync: false});
      this.changed();
    }

    changed() {
      this.changed_at = performance.now();
      this.changes += 1;
      this.pixels.slide(this.view, this.w, this.h);
      this.refresh();
      this.draw();
      clearTimeout(this.resting);
      this.resting = setTimeout(() => this.rest(), RESTS);
    }

    rest() {
      if (this.press?.moved || this.pinch) { this.changed(); return; }
      const {view} = this, turn = this.told.solid ? [...this.turn] : null, now = JSON.stringify([view, turn]);
      if (this.told.contours) this.outline();
      this.outlines.ask();
      if (now === this.rested) return;
      const first = this.rested === undefined;
      this.rested = now;
      if (JSON.stringify(this.past[this.at]) !== now) {
        this.past.splice(this.at + 1, Infinity, [view, turn]);
        if (this.past.length > 100) this.past.shift();
        this.at = this.past.length - 1;
      }
      if (!first) {
        this.told_turn = turn ?? this.told_turn;
        this.tell({kind: "view", view, turn});
      }
      this.minimap();
      this.equip();
    }

    go(step) {
      const entry = this.past[this.at + step];
      if (!entry) return;
      this.at += step;
      if (entry[1]) this.turn = [...entry[1]];
      this.look(entry[0]);
      this.equip();
    }

    home() {
      this.look(this.whole_view);
    }

    zoom(px, py, factor) {
      const [x0, x1, y0, y1] = this.view, [hx0, hx1] = this.whole_view;
      const span = (x1 - x0) * factor;
      if (span > 40 * (hx1 - hx0) || span < 1e-5 * (hx1 - hx0)) return;
      const [x, y] = this.data(px, py);
      this.look([x + (x0 - x) * factor, x + (x1 - x) * factor, y + (y0 - y) * factor, y + (y1 - y) * factor]);
    }

    shift(view, dx, dy) {
      const [x0, x1, y0, y1] = view, sx = (x1 - x0) / this.w * dx, sy = (y1 - y0) / this.h * dy;
      this.look([x0 - sx, x1 - sx, y0 + sy, y1 + sy]);
    }

    rotate(yaw, pitch) {
      this.turn = [Math.atan2(Math.sin(yaw), Math.cos(yaw)), Math.max(-Math.PI / 2, Math.min(Math.PI / 2, pitch))];
      this.moving = true;
      clearTimeout(this.stilling);
      this.stilling = setTimeout(() => this.still(), 250);
      this.changed();
    }

    /** The hand is gone: what it left is asked for exactly, now. */
    rests() {
      this.changed_at = -Infinity;
      this.refresh();
    }

    still() {
      if (this.press?.moved) { this.stilling = setTimeout(() => this.still(), 250); return; }
      if (!this.moving) return;
      this.moving = false;
      this.refresh();
    }

    px(x, y) {
      const [x0, x1, y0, y1] = this.view;
      return [(x - x0) / (x1 - x0) * this.w, (y1 - y) / (y1 - y0) * this.h];
    }

    data(px, py) {
      const [x0, x1, y0, y1] = this.view;
      return [x0 + px / this.w * (x1 - x0), y1 - py / this.h * (y1 - y0)];
    }

    /** Pixels of a subject: two coordinates of the plane, or three of the cloud. */
    spot([x, y, z]) {
      if (z === undefined) return this.px(x, y);
      const [c, s] = [Math.cos(this.turn[0]), Math.sin(this.turn[0])], [k, m] = [Math.cos(this.turn[1]), Math.sin(this.turn[1])];
      return this.px(c * x + s * z, s * m * x + k * y - c * m * z);
    }

    // ------------------------------------------------------------------------------------------------ frames
    query(extra = {}) {
      const turn = this.told.solid ? {turn: this.turn.map(v => v.toFixed(4)).join()} : {};
      return new URLSearchParams({...this.told.query, ...turn, ...extra});
    }

    box() {
      const [x0, x1, y0, y1] = this.view;
      return {x0, x1, y0, y1};
    }

    refresh() {
      // several range properties change in one gesture: one request a task
      this.dirty = true;
      if (this.queued) return;
      this.queued = true;
      queueMicrotask(() => { this.queued = false; this.fetch(); });
    }

    /** Whether a hand, a wheel or a key moves the map now; a hand that holds it still does not. */
    get moves() {
      return performance.now() - this.changed_at < SETTLES;
    }

    /** Pixels around the view, left, right, below and above, where the hand that drags the map will have gone when the frame after the next is here. */
    margin() {
      const {press} = this, none = [0, 0, 0, 0];
      if (!press?.moved || press.tool !== "pan" || this.told.solid || !press.speed || performance.now() - press.last > SETTLES) return none;
      const reach = (speed, side) => Math.min(Math.floor(WIDEST * side / MARGIN), Math.ceil(Math.max(0, speed) * 2 * this.took / MARGIN)) * MARGIN;
      const [vx, vy] = press.speed;
      return [reach(vx, this.w), reach(-vx, this.w), reach(-vy, this.h), reach(vy, this.h)];
    }

    async fetch() {
      // one in flight, the latest wins (two were measured: no faster on two cores, and fewer frames in a drag)
      if (this.busy && this.dirty) this.give_up();
      if (this.busy || !this.dirty || !this.told || !this.place()) return;
      const {told, session, w: wide, h: high} = this, {x0, x1, y0, y1} = this.box();
      this.dirty = false;
      if (!(wide > 0) || !(high > 0) || !(x0 < x1) || !(y0 < y1)) return;
      const [left, right, below, above] = this.margin(), is_padded = left + right + below + above > 0;
      const density = Math.min(window.devicePixelRatio || 1, 2, MOST_PIXELS / (wide + left + right), MOST_PIXELS / (high + below + above));
      const sx = (x1 - x0) / wide, sy = (y1 - y0) / high;
      const view = [x0 - left * sx, x1 + right * sx, y0 - below * sy, y1 + above * sy];
      const w = Math.round((wide + left + right) * density), h = Math.round((high + below + above) * density);
      const what = `${this.query({...told.paint, w, h, density})} ${view} ${told.version}`, coarse = this.moves;
      if (what === this.has && (coarse || !this.is_rough)) return;  // it is on the screen
      this.busy = true;
      const began = performance.now(), sent = this.sent = {began, coarse, changes: this.changes, controller: new AbortController()};
      try {
        const ask = {...told.paint, x0: view[0], x1: view[1], y0: view[2], y1: view[3], w, h, density, ...told.solid && this.moving ? {moving: 1} : {}, ...coarse ? {coarse: 1} : {}};
        if (told.paint.color !== session.paint.color) Object.assign(ask, {ramp: told.ramp, theme: told.theme});  // its colors come with it
        const answer = await fetched(`frame?${this.query(ask)}`, this.link_is_slow ? {"X-Voorwerp-Link": "slow"} : {}, sent.controller.signal);
        const came = performance.now(), legend = JSON.parse(answer.headers.get("X-Legend"));
        const bytes = new Uint8Array(await answer.arrayBuffer());
        this.weigh(Number(answer.headers.get("Content-Length")) || bytes.length, performance.now() - came);
        const {color} = told.paint, {palette} = this.session.paint.color === color ? this.session : {palette: answer.headers.get("X-Palette") ?? told.palette};
        this.pixels.lay({bytes, w, h, view, color, palette, turn: told.solid ? String(this.turn) : ""});
        this.pixels.slide(this.view, this.w, this.h);
        this.has = what;
        this.is_rough = legend.coarse || legend.sample || is_padded;
        this.took += 0.3 * (Math.min(250, performance.now() - began) - this.took);
        window.voorwerp.legend = {...legend, about: legend.coarse || is_padded, settings: {...told.query, ...told.paint}};
        if (!this.shown) { this.shown = true; this.wait(); if (this.rested === undefined) this.changed(); }
        this.lost(null);
        this.tell_legend();
        if (this.is_rough) this.settle();
        window.dispatchEvent(new CustomEvent("voorwerp-painted", {detail: {view, coarse: legend.coarse, is_latest: JSON.stringify([told.query, told.paint]) === this.what}}));
      } catch (error) {
        this.has = null;
        if (error.name === "AbortError") this.dirty = true;
        else if (error.status === 503) {  // it is being made
          this.slow = true;
          this.wait(`${error.message[0].toUpperCase()}${error.message.slice(1)} …`);
          setTimeout(() => this.refresh(), AGAIN);
        } else this.lost(error);
      } finally {
        this.busy = false;
        this.fetch();
      }
    }

    /** The exact frame of very many subjects takes long: a hand that moves again does not wait for it. */
    give_up() {
      const {sent} = this, left = sent.began + PATIENCE - performance.now();  // of what is not wanted any more
      clearTimeout(this.giving);
      if (sent.coarse || sent.changes === this.changes) return;
      if (left > 0) this.giving = setTimeout(() => { if (this.busy && this.sent === sent) this.give_up(); }, left + 1);
      else sent.controller.abort();
    }

    /** Ask for the exact frame as soon as nothing moves any more. */
    settle() {
      clearTimeout(this.settling);
      this.settling = setTimeout(() => {
        if (performance.now() - this.changed_at < SETTLES) this.settle(); else this.refresh();
      }, Math.max(0, this.changed_at + SETTLES - performance.now()) + 1);
    }

    /** How fast the link is: the best of four, for a busy page hears late of what has come. */
    weigh(bytes, ms) {
      if (bytes < 20_000) return;
      this.rates = [...this.rates.slice(-3), bytes / Math.max(0.5, ms) * 1000];
      const best = Math.max(...this.rates);
      if (this.rates.length === 4) this.link_is_slow = best < (this.link_is_slow ? FAST_LINK : SLOW_LINK);
    }

    tell_legend() {
      clearTimeout(this.telling);
      const waits = this.moves ? (this.legend_at ?? -Infinity) + LEGEND_EVERY - performance.now() : 0;
      if (waits > 0) { this.telling = setTimeout(() => this.tell_legend(), waits); return; }
      this.legend_at = performance.now();
      window.dispatchEvent(new CustomEvent("voorwerp-legend"));
    }

    wait(said = "Drawing the map …") {
      this.waits.textContent = this.shown || !this.slow ? "" : said;
    }

    lost(error) {
      const trouble = !error ? "" : error instanceof TypeError ? "the server does not answer; is it still running" : error.message;
      if (trouble === window.voorwerp.trouble) return;
      window.voorwerp.trouble = trouble;
      window.dispatchEvent(new CustomEvent("voorwerp-legend"));
    }

    async outline() {
      const asked = this.asked_lines = `${this.query(this.box())}`;
      try {
        const lines = await (await fetched(`contours?${asked}`)).json();
        if (asked === this.asked_lines && this.told.contours) { this.lines = {lines, turn: String(this.turn)}; this.draw(); }
      } catch { /* the frame says what is wrong */ }
    }

    /** Markers above the map, and what they are. */
    overlay(kinds) {
      this.points = kinds;
      const listed = JSON.stringify(kinds.map(({points, picked, ...told}) => told));
      if (listed !== this.listed) this.key.replaceChildren(...kinds.map(({of, label, shape, color, drawn, count}) => {
        const name = `${of} ${label}`, line = make("button", "", null, {type: "button", title: "Show or hide", "aria-pressed": String(!put_away.has(name))});
        line.addEventListener("click", () => {
          if (!put_away.delete(name)) put_away.add(name);
          line.setAttribute("aria-pressed", String(!put_away.has(name)));
          this.draw();
        });
        const dot = make("canvas", "", line), pen = dot.getContext("2d");
        [dot.width, dot.height] = [24, 24];
        pen.strokeStyle = color;
        pen.lineWidth = 3;
        mark(pen, shape, 12, 12, 7);
        pen.stroke();
        make("span", "", line).textContent = label;
        make("em", "", line).textContent = drawn < count ? `${drawn.toLocaleString("en")} of ${count.toLocaleString("en")}` : count.toLocaleString("en");
        return line;
      }));
      this.listed = listed;
      this.draw();
    }

    // ------------------------------------------------------------------------------------------------ minimap
    async minimap() {
      if (this.mini.hidden || !this.told || !this.w) return;  // its color is the page's, once it is on it
      const turn = this.told.solid ? String(this.turn) : "", asked = `${this.small} ${turn}`;
      if (asked === this.mapped) { this.draw(); return; }
      this.mapped = asked;
      const [x0, x1, y0, y1] = this.whole_view, [w, h] = SMALL;
      try {
        const {lambda} = this.session.query, levels = new Uint8Array(await (await fetched(`frame?${this.query({lambda, color: "count", x0, x1, y0, y1, w, h})}`)).arrayBuffer());
        if (asked !== this.mapped) return;
        this.levels = levels;
        this.tint();
      } catch { this.mapped = null; }
      this.draw();
    }

    /** Paint the minimap in the page's color. */
    tint() {
      if (!this.levels) return;
      const [w, h] = [this.whole.width, this.whole.height] = SMALL, pen = this.whole.getContext("2d"), picture = pen.createImageData(w, h);
      this.levels.forEach((level, i) => {
        const at = ((h - 1 - Math.floor(i / w)) * w + i % w) * 4;
        picture.data[at + 3] = level ? 70 + 185 * Math.max(0, level - 129) / 126 : 0;
      });
      pen.putImageData(picture, 0, 0);
      pen.globalCompositeOperation = "source-in";
      pen.fillStyle = getComputedStyle(this.layer).getPropertyValue("--quiet");
      pen.fillRect(0, 0, w, h);
    }

    steer(e) {
      const box = this.mini.getBoundingClientRect(), [hx0, hx1, hy0, hy1] = this.whole_view, [x0, x1, y0, y1] = this.view;
      const x = hx0 + (e.clientX - box.x) / box.width * (hx1 - hx0), y = hy1 - (e.clientY - box.y) / box.height * (hy1 - hy0);
      e.preventDefault();
      this.look([x - (x1 - x0) / 2, x + (x1 - x0) / 2, y - (y1 - y0) / 2, y + (y1 - y0) / 2]);
    }

    fold() {
      this.mini.hidden = !this.mini.hidden;
      localStorage.setItem(REMEMBERED, this.mini.hidden ? "folded" : "open");
      this.equip();
      this.minimap();
    }

    // ------------------------------------------------------------------------------------------------ drawing
    draw() {
      if (this.drawing || !this.told || !this.w) return;
      this.drawing = true;
      requestAnimationFrame(() => { this.drawing = false; this.paint(); });
    }

    color(name) {
      if (!this.colors) {
        const style = getComputedStyle(this.layer);
        this.colors = Object.fromEntries(["ground", "ink", "quiet", "accent", "warm", "stray", "panel"].map(n => [n, style.getPropertyValue(`--${n}`).trim()]));
        this.font = style.fontFamily;
      }
      return this.colors[name];
    }

    /** A pen for an empty canvas; null where nothing is to be drawn: a canvas that stays empty costs nothing when the map moves. */
    pen(canvas, is_drawn = true) {
      if (!is_drawn && !canvas.is_drawn) return null;
      canvas.is_drawn = is_drawn;
      const pen = canvas.getContext("2d");
      pen.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
      pen.clearRect(0, 0, this.w, this.h);
      pen.lineJoin = "round";
      return pen;
    }

    paint() {
      const {told, marks} = this, flat = !told.solid, places = flat && told.places ? marks.places ?? [] : [];
      const lines = this.lines && (flat || this.lines.turn === String(this.turn));
      const some = told.solid || lines || [this.points, places, marks.strays, marks.selected, marks.focus, marks.names].some(all => all?.length);
      const pen = this.pen(this.below, Boolean(some));
      if (!some) this.label(null, [], []); else this.draw_below(pen, places, lines);
      this.outlines.paint();
      this.sketch();
      window.voorwerp.drop?.painted(this);
      if (this.mini.hidden) return;
      const [x0, x1, y0, y1] = this.view, [hx0, hx1, hy0, hy1] = this.whole_view, part = v => `${100 * v}%`;
      this.mini.classList.toggle("idle", x0 <= hx0 && x1 >= hx1 && y0 <= hy0 && y1 >= hy1);  // all of it is in view
      Object.assign(this.frame.style, {left: part((x0 - hx0) / (hx1 - hx0)), width: part((x1 - x0) / (hx1 - hx0)), top: part((hy1 - y1) / (hy1 - hy0)), height: part((y1 - y0) / (hy1 - hy0))});
    }

    draw_below(pen, places, lines) {
      const {told, marks} = this, ring = (points, r, color, width) => {
        pen.strokeStyle = this.color(color);
        pen.lineWidth = width;
        for (const p of points) {
          const [x, y] = this.spot(p);
          pen.beginPath();
          pen.arc(x, y, r, 0, 2 * Math.PI);
          pen.stroke();
        }
      };
      const taken = [];
      this.markers(pen);
      this.label(pen, places, taken);
      if (lines) this.contours(pen, taken);
      pen.strokeStyle = this.color("stray");
      pen.lineWidth = 1.4;
      for (const p of marks.strays ?? []) { mark(pen, "diamond", ...this.spot(p), 4.2); pen.stroke(); }
      pen.globalAlpha = 0.7;
      ring(marks.selected ?? [], 7.5, "ink", 1.2);
      pen.globalAlpha = 1;
      ring(marks.focus ?? [], 10, "accent", 2.5);
      this.call(pen, marks.names ?? [], taken);
      if (told.solid) this.triad(pen);
    }

    /** The overlay: hollow, the rarest on top; what is selected above the rest, which is then faint. */
    markers(pen) {
      const shown = (this.points ?? []).filter(({of, label}) => !put_away.has(`${of} ${label}`)).reverse();
      const some = this.told.selected > 0;
      pen.lineWidth = 1.5;
      for (const above of some ? [0, 1] : [0]) {
        pen.globalAlpha = some && !above ? 0.3 : 0.9;
        for (const {shape, color, points, picked} of shown) {
          pen.strokeStyle = color;
          points.forEach((p, i) => {
            if (some && picked[i] !== above) return;
            const [x, y] = this.spot(p);
            if (x < -9 || y < -9 || x > this.w + 9 || y > this.h + 9) return;
            mark(pen, shape, x, y, 4.5);
            pen.stroke();
          });
        }
      }
      pen.globalAlpha = 1;
    }

    text(pen, text, x, y, color) {
      pen.lineWidth = 3;
      pen.strokeStyle = this.color("ground");
      pen.strokeText(text, x, y);
      pen.fillStyle = this.color(color);
      pen.fillText(text, x, y);
    }

    contours(pen, taken) {
      pen.font = `600 10px ${this.font}`;
      pen.textBaseline = "middle";
      this.lines.lines.forEach(({share, lines}, i) => {
        pen.strokeStyle = this.color("ink");
        pen.globalAlpha = [0.95, 0.7, 0.5][i] ?? 0.5;
        pen.lineWidth = 1.2;
        pen.beginPath();
        const [dx, dy] = [[0, 1], [0.8, -0.6], [-0.8, -0.6]][i % 3];  // each is named on another side
        const room = [];
        for (const line of lines) {
          const points = line.map(([x, y]) => this.px(x, y));
          trace(pen, points);
          room.push(...points.filter(([x, y]) => x > 20 && x < this.w - 50 && y > 50 && y < this.h - 14));
        }
        room.sort(([ax, ay], [bx, by]) => dx * (bx - ax) + dy * (by - ay));
        pen.stroke();
        pen.globalAlpha = 1;
        const at = room.find(([x, y]) => this.free({x, y: y - 7, w: 30, h: 14}, taken)) ?? room[0];
        if (at) this.text(pen, `${Math.round(100 * share)} %`, at[0] + 3, at[1], "ink");
      });
    }

    free(box, taken) {
      const clear = box.x >= 2 && box.y >= 2 && box.x + box.w <= this.w - 2 && box.y + box.h <= this.h - 2
        && taken.every(o => box.x > o.x + o.w || o.x > box.x + box.w || box.y > o.y + o.h || o.y > box.y + box.h);
      if (clear) taken.push(box);
      return clear;
    }

    /** Named places: a faint outline, and a name that stays in view as long as the region is. */
    label(pen, places, taken) {
      const kept = new Set();
      if (pen) pen.font = `600 12px ${this.font}`;
      const bar = this.bar_box ??= this.bar.getBoundingClientRect();  // asked of a page that was changed, it lays all of it out
      taken.push({x: 0, y: 0, w: bar.width + 10, h: bar.height + 10});
      for (const {id, name, x, y, said} of places) {
        const points = x.map((v, i) => this.px(v, y[i]));
        pen.beginPath();
        trace(pen, points);
        pen.closePath();
        pen.strokeStyle = pen.fillStyle = this.color("ink");
        pen.globalAlpha = 0.02;
        pen.fill();
        pen.globalAlpha = 0.4;
        pen.lineWidth = 1;
        pen.stroke();
        pen.globalAlpha = 1;
        const seen = clipped(points, this.w, this.h);
        if (seen.length < 3) continue;
        const words = said ? `${name}: ${said}` : name, w = pen.measureText(words).width + 14, h = 20, within = (v, size, of) => Math.max(size / 2 + 4, Math.min(of - size / 2 - 4, v));
        const heights = seen.map(p => p[1]), top = Math.min(...heights), bottom = Math.max(...heights);
        const cx = within(centroid(seen)[0], w, this.w), cy = within(top - h / 2 - 1, h, this.h), below = within(bottom + h / 2 + 1, h, this.h);
        const free = [0, -22, below - cy, below - cy + 22, 22, 44].find(dy => this.free({x: cx - w / 2, y: cy + dy - h / 2, w, h}, taken));
        if (free === undefined) continue;
        kept.add(String(id));
        let tag = this.names.querySelector(`[data-id="${id}"]`);
        if (!tag) {
          tag = make("button", "", this.names, {type: "button", "data-id": id, title: "Rename or remove this place"});
          tag.addEventListener("click", () => this.edit(tag));
        }
        tag.dataset.name = name;
        tag.textContent = words;
        tag.style.transform = `translate(${Math.round(cx - w / 2)}px, ${Math.round(cy + free - h / 2)}px)`;
      }
      for (const tag of [...this.names.querySelectorAll("button[data-id]")]) if (!kept.has(tag.dataset.id)) tag.remove();
    }

    /** Names of a few selected subjects, beside their rings, where there is room. */
    call(pen, names, taken) {
      pen.font = `10px ${this.font}`;
      pen.textBaseline = "middle";
      for (const [name, ...p] of names) {
        const [x, y] = this.spot(p), w = pen.measureText(name).width, h = 12;
        const spot = [[x + 11, y], [x - 11 - w, y], [x - w / 2, y - 15], [x - w / 2, y + 15]].find(([left, middle]) => this.free({x: left, y: middle - h / 2, w, h}, taken));
        if (spot) this.text(pen, name, ...spot, "ink");
      }
    }

    triad(pen) {
      const [ox, oy, r] = [60, this.h - 54, 30], ends = [], taken = [];
      const [c, s] = [Math.cos(this.turn[0]), Math.sin(this.turn[0])], [k, m] = [Math.cos(this.turn[1]), Math.sin(this.turn[1])];
      pen.font = `10px ${this.font}`;
      pen.textAlign = "center";
      pen.textBaseline = "middle";
      [[c, s * m], [0, k], [s, -c * m]].forEach(([x, y], i) => {
        ends.push([r * x, -r * y]);
        pen.beginPath();
        trace(pen, [[ox, oy], [ox + r * x, oy - r * y]]);
        pen.strokeStyle = this.color("quiet");
        pen.lineWidth = 1.5;
        pen.stroke();
      });
      for (const [x, y] of ends) for (let t = 0; t <= 1; t += 0.1) taken.push([t * x, t * y]);
      ends.forEach(([x, y], i) => {  // around its end, where it is clearest of the lines and of the other names
        const text = this.told.titles[i], half = pen.measureText(text).width / 2, out = Math.atan2(y, x);
        let best = null, most = -Infinity;
        for (let k = 0; k < 12; k++) {
          const turned = k * Math.PI / 6, lx = x + (half + 6) * Math.cos(out + turned), ly = y + 12 * Math.sin(out + turned);
          const gap = Math.min(...taken.map(([px, py]) => Math.max((Math.abs(px - lx) - half) / 2, Math.abs(py - ly) - 6)));
          const clear = Math.min(gap, 4) - (1 - Math.cos(turned)) - (Math.abs(ox + lx) - half < 2 ? 20 : 0);
          if (clear > most) [best, most] = [[lx, ly], clear];
        }
        for (let px = -half; px <= half; px += 4) taken.push([best[0] + px, best[1]]);
        this.text(pen, text, ox + best[0], oy + best[1], "quiet");
      });
      pen.textAlign = "start";
    }

    /** What the hand draws; after that, faintly, what it drew. */
    sketch() {
      const {gesture, last, told} = this, region = gesture ?? (last && (!told.solid || last.turn === String(this.turn)) ? last : null);
      const brushes = this.tool === "brush" && this.mouse && !this.left, pen = this.pen(this.above, Boolean(region || brushes));
      if (!pen) return;
      if (region) {
        const points = region.x.map((x, i) => this.px(x, region.y[i]));
        pen.strokeStyle = pen.fillStyle = this.color("accent");
        pen.beginPath();
        trace(pen, points);
        if (region.shape === "brush") {
          pen.lineCap = "round";
          pen.lineWidth = 2 * (gesture ? this.brush : Math.abs(this.px(region.rx, 0)[0] - this.px(0, 0)[0]));
          pen.globalAlpha = gesture ? 0.3 : 0.1;
          if (points.length === 1) pen.lineTo(...points[0]);
          pen.stroke();
        } else {
          if (gesture?.shape === "polygon" && this.mouse) pen.lineTo(...this.mouse);
          pen.closePath();
          pen.globalAlpha = gesture ? 0.08 : 0.03;
          pen.fill("evenodd");
          pen.globalAlpha = gesture ? 0.9 : 0.35;
          pen.lineWidth = 1.5;
          pen.stroke();
          if (gesture?.shape === "polygon") points.forEach(([x, y], i) => {
            pen.beginPath();
            pen.arc(x, y, !i && this.mouse && this.on_first(this.mouse) ? 6 : 3, 0, 2 * Math.PI);
            pen.fill();
          });
        }
      }
      if (brushes) {
        pen.globalAlpha = 0.8;
        pen.strokeStyle = this.color("accent");
        pen.lineWidth = 1.2;
        pen.beginPath();
        pen.arc(...this.mouse, this.brush, 0, 2 * Math.PI);
        pen.stroke();
      }
      pen.globalAlpha = 1;
    }

    // ------------------------------------------------------------------------------------------------ gestures
    where(e) {
      if (!this.pointers.size || !this.held) this.held = this.surface.getBoundingClientRect();  // it does not move under a hand
      const box = this.held;
      return [e.clientX - box.x, e.clientY - box.y];
    }

    down(e) {
      if (e.button === 2) return;
      this.surface.dataset.by = "hand";
      this.surface.setPointerCapture(e.pointerId);
      const at = this.where(e);
      this.pointers.set(e.pointerId, at);
      this.hide();
      this.editor?.remove();
      if (this.pointers.size === 2) {
        if (this.gesture?.shape !== "polygon") this.drop();
        this.press = null;
        this.outlines.give_up();
        this.pinch = {view: this.view, ...this.spread()};
        return;
      }
      if (this.pointers.size > 2) return;
      const tool = e.button === 1 ? "pan" : this.tool;
      const draws = tool !== "pan" && mode_of(e);  // a hand that holds Shift or Alt draws, on a corner, too
      if (e.button === 0 && !draws && this.outlines.grab(at, tool)) { this.press = {tool: "outline"}; return; }
      this.press = {at, tool, view: this.view, turn: this.turn, moved: false};
      if (tool === "pan" || tool === "polygon") return;
      const [x, y] = this.data(...at);
      this.last = null;
      this.gesture = {shape: tool, x: [x], y: [y], from: at};
      this.equip();
      this.draw();
    }

    spread() {
      const [[ax, ay], [bx, by]] = [...this.pointers.values()];
      return {middle: [(ax + bx) / 2, (ay + by) / 2], far: Math.max(20, Math.hypot(ax - bx, ay - by))};
    }

    move(e) {
      const at = this.mouse = this.where(e);
      this.left = false;
      if (this.pointers.has(e.pointerId)) this.pointers.set(e.pointerId, at);
      if (this.pinch && this.pointers.size >= 2) { this.squeeze(); return; }
      const {press, gesture} = this;
      if (!press) {
        if (gesture || this.tool === "brush") this.draw();
        const over = !gesture && this.tool !== "brush" && this.outlines.under(at, this.tool === "pan");
        this.surface.dataset.over = !over ? "" : over.corner === undefined ? "edge" : "corner";
        if (over) this.hide();
        else if (e.pointerType !== "touch" && !e.buttons && !gesture) this.hover(at);
        return;
      }
      if (press.tool === "outline") { this.outlines.move(at); return; }
      const [dx, dy] = [at[0] - press.at[0], at[1] - press.at[1]];
      press.moved ||= Math.hypot(dx, dy) > CLICK;
      if (!press.moved) return;
      if (press.tool === "pan" || press.tool === "polygon") {
        if (this.told.solid && press.tool === "pan" && !e.shiftKey && !(e.buttons & 4)) this.rotate(press.turn[0] + TURN * dx, press.turn[1] + TURN * dy);
        else {
          const ms = Math.max(4, e.timeStamp - (press.stamp ?? e.timeStamp - 16)), [vx, vy] = press.speed ?? [0, 0], [lx, ly] = press.was ?? press.at;
          press.speed = [(vx + (at[0] - lx) / ms) / 2, (vy + (at[1] - ly) / ms) / 2];  // pixels/ms
          Object.assign(press, {stamp: e.timeStamp, was: at, last: performance.now()});
          this.shift(press.view, dx, dy);
        }
        return;
      }
      if (!gesture) return;
      if (gesture.shape === "box" || gesture.shape === "ellipse") this.span(gesture, at);
      else {
        const [lx, ly] = this.px(gesture.x.at(-1), gesture.y.at(-1));
        if (Math.hypot(at[0] - lx, at[1] - ly) < (gesture.shape === "brush" ? Math.max(STEP, this.brush / 4) : STEP)) return;
        const [x, y] = this.data(...at);
        gesture.x.push(x);
        gesture.y.push(y);
        if (gesture.x.length >= CORNERS) for (const k of ["x", "y"]) gesture[k] = gesture[k].filter((_, i, all) => i % 2 === 0 || i === all.length - 1);
      }
      this.draw();
    }

    /** A box or an ellipse between two corners. */
    span(gesture, [bx, by]) {
      const [ax, ay] = gesture.from;
      const corners = gesture.shape === "box" ? [[ax, ay], [bx, ay], [bx, by], [ax, by]] : [...Array(128).keys()].map(k => {
        const t = k / 64 * Math.PI;
        return [(ax + bx + (bx - ax) * Math.cos(t)) / 2, (ay + by + (by - ay) * Math.sin(t)) / 2];
      });
      const points = corners.map(p => this.data(...p));
      gesture.x = points.map(p => p[0]);
      gesture.y = points.map(p => p[1]);
      gesture.corners = [this.data(ax, ay), this.data(bx, by)];
    }

    squeeze() {
      const {view: [x0, x1, y0, y1], middle, far} = this.pinch, now = this.spread(), f = far / now.far;
      const x = x0 + middle[0] / this.w * (x1 - x0), y = y1 - middle[1] / this.h * (y1 - y0);  // stays under the fingers
      const w = (x1 - x0) * f, h = (y1 - y0) * f, left = x - now.middle[0] / this.w * w, top = y + now.middle[1] / this.h * h;
      this.look([left, left + w, top - h, top]);
    }

    up(e) {
      this.pointers.delete(e.pointerId);
      if (this.pinch) { if (!this.pointers.size) { this.pinch = null; this.changed(); this.rests(); } return; }
      const {press, gesture} = this;
      this.press = null;
      if (!press) return;
      if (press.tool === "outline") { this.outlines.up(); return; }
      if (press.tool === "polygon" && !press.moved) { this.corner(press.at, mode_of(e)); return; }
      if (press.tool === "pan" || press.tool === "polygon") {
        if (press.moved) { this.still(); this.rests(); } else { this.outlines.choose(null); this.tap(press.at); }
        return;
      }
      if (!gesture) return;
      if (!press.moved && gesture.shape !== "brush") { this.drop(); this.tap(press.at); return; }
      this.finish(mode_of(e));
    }

    /** Whether a mouse is on the first corner of a polygon that can be closed there. */
    on_first([px, py]) {
      const {gesture} = this;
      if (!(gesture?.shape === "polygon" && gesture.x.length > 2)) return false;
      const [x, y] = this.px(gesture.x[0], gesture.y[0]);
      return Math.hypot(px - x, py - y) < FIRST;
    }

    corner(at, mode) {
      if (this.on_first(at)) { this.closed_at = performance.now(); this.close(mode); return; }
      if (!this.gesture && performance.now() - this.closed_at < 400) return;  // the second half of a double click there
      const [x, y] = this.data(...at);
      if (!this.gesture) {
        this.last = null;
        this.gesture = {shape: "polygon", x: [], y: []};
        this.own([["enter", "Close the polygon", e => this.close(mode_of(e)), {alt: true}], ["backspace", "Take the last corner back", () => this.unpick()], ["escape", "Give up the polygon", () => this.drop()]]);
      }
      this.gesture.x.push(x);
      this.gesture.y.push(y);
      this.equip();
      this.draw();
    }

    unpick() {
      this.gesture.x.pop();
      this.gesture.y.pop();
      if (!this.gesture.x.length) this.drop();
      this.draw();
    }

    close(mode = null) {
      const {gesture} = this;
      if (!gesture) return;
      for (let i = gesture.x.length - 1; i > 0; i--) {  // a double click is two clicks
        const [ax, ay] = this.px(gesture.x[i], gesture.y[i]), [bx, by] = this.px(gesture.x[i - 1], gesture.y[i - 1]);
        if (Math.hypot(ax - bx, ay - by) < CLICK) { gesture.x.splice(i, 1); gesture.y.splice(i, 1); }
      }
      if (gesture.x.length < 3) this.drop(); else this.finish(mode);
    }

    finish(mode) {
      const {gesture, told} = this, [x0, x1, y0, y1] = this.view;
      const is_term = told.draws && told.can_draw && gesture.shape !== "brush";
      const region = {shape: gesture.shape, x: gesture.x, y: gesture.y};
      if (gesture.shape === "brush") Object.assign(region, {rx: this.brush * (x1 - x0) / this.w, ry: this.brush * (y1 - y0) / this.h});
      this.drop();
      if (region.shape !== "brush" && region.x.length < 3) return;
      this.last = {...region, is_term, turn: String(this.turn)};
      if (is_term) {
        const {shape, x, y} = region, vertices = gesture.corners ?? x.map((v, i) => [v, y[i]]);
        this.outlines.tell({kind: "term", shape: shape === "lasso" ? "freehand" : shape, vertices, mode, per_pixel: [(x1 - x0) / this.w, (y1 - y0) / this.h], done: true});
      } else this.tell({kind: "region", ...region, mode, turn: told.solid ? this.turn : null});
      this.equip();
      this.draw();
    }

    drop() {
      this.gesture = null;
      this.disown?.();
      this.disown = null;
      if (this.told) this.equip();
      this.draw();
    }

    /** Keys that are the map's for as long as it holds them. */
    own(keys) {
      const forget = keys.map(([key, title, run, more]) => window.voorwerp.commands.add({id: `map-${key}`, title, group: "Map", key, run, within: this.surface, ...more}));
      this.disown = () => forget.forEach(f => f());
    }

    hold() {
      // reached by keyboard, the map has the arrow keys; clicked at, it leaves them to the gallery
      const mine = () => !this.surface.dataset.by, by = (dx, dy) => () => this.told.solid ? this.rotate(this.turn[0] + 0.08 * dx, this.turn[1] + 0.08 * dy) : this.shift(this.view, -40 * dx, -40 * dy);
      const add = (key, title, run) => window.voorwerp.commands.add({id: `map-held-${key}`, title, group: "Map", key, run, when: mine, within: this.surface});
      const forget = [["arrowleft", "Map left", by(-1, 0)], ["arrowright", "Map right", by(1, 0)], ["arrowup", "Map up", by(0, -1)], ["arrowdown", "Map down", by(0, 1)]].map(k => add(...k));
      this.let_go = () => { forget.forEach(f => f()); this.let_go = null; };
    }

    wheel(e) {
      e.preventDefault();
      this.hide();
      const [px, py] = this.where(e), delta = e.deltaY * (e.deltaMode === 1 ? 30 : 1);
      this.zoom(px, py, Math.exp(Math.max(-240, Math.min(240, delta)) * (e.ctrlKey ? 0.008 : 0.0018)));
    }

    // --------------------------------------------------------------------------------------------------- hover
    async hover(at) {
      this.over_at = at;
      if (this.asking) return;
      this.asking = true;
      try {
        while (this.over_at) {
          const [px, py] = this.over_at, {told} = this;
          this.over_at = null;
          const found = await this.nearest(px, py);
          if (this.press || this.left) this.hide();
          else if (told !== this.told) this.over_at ??= [px, py];  // the answer may have the scores of before
          else if (found) this.show(found, px, py); else this.hide();
        }
      } catch { this.hide(); } finally { this.asking = false; }
    }

    async nearest(px, py) {
      if (!this.told) return null;
      const [x0, x1, y0, y1] = this.view, [at_x, at_y] = this.data(px, py);
      const answer = await fetch(`nearest?${this.query({at_x, at_y, rx: HOVER_REACH * (x1 - x0) / this.w, ry: HOVER_REACH * (y1 - y0) / this.h})}`, {credentials: "same-origin"});
      return answer.ok ? answer.json() : null;
    }

    show(subject, px, py) {
      if (this.card.dataset.row !== String(subject.row)) {
        this.card.dataset.row = subject.row;
        const image = subject.image ? new Image(112, 112) : "";
        if (image) Object.assign(image, {alt: "", src: `data:image/jpeg;base64,${subject.image}`});
        const text = make("div");
        make("strong", "", text).textContent = subject.source_id;
        for (const s of subject.scores) {
          const line = make("div", "", text);
          line.append(s.title);
          make("b", "", line).textContent = s.value === null ? "missing" : format(s.value);
          make("em", "", line).textContent = s.value === null ? "" : `above ${s.below.toLocaleString("en")} of ${s.of.toLocaleString("en")}`;
        }
        this.card.replaceChildren(image, text);
      }
      const box = this.surface.getBoundingClientRect();
      this.card.hidden = false;
      const {offsetWidth: w, offsetHeight: h} = this.card, x = box.left + px, y = box.top + py;
      this.card.style.left = `${x + 18 + w < window.innerWidth ? x + 18 : x - 18 - w}px`;
      this.card.style.top = `${Math.max(8, Math.min(y - h / 2, window.innerHeight - h - 8))}px`;
    }

    hide() {
      this.over_at = null;
      this.card.hidden = true;
    }

    async tap([px, py]) {
      const found = await this.nearest(px, py);
      if (found) this.tell({kind: "focus", row: found.row});
    }

    // -------------------------------------------------------------------------------------------------- places
    can_name() {
      return Boolean(this.last && !this.last.is_term && this.last.shape !== "brush" && !this.told.solid);
    }

    name() {
      if (!this.can_name()) return;
      const {x, y} = this.last, step = Math.ceil(x.length / 400);
      const points = x.map((v, i) => [v, y[i]]).filter((_, i) => i % step === 0), at = centroid(points);
      this.ask(this.px(...at), "", "Name of this place", name => this.tell({kind: "place", name, x: points.map(p => p[0]), y: points.map(p => p[1]), at}));
    }

    edit(tag) {
      const id = Number(tag.dataset.id), box = tag.getBoundingClientRect(), own = this.layer.getBoundingClientRect();
      const form = this.ask([box.x + box.width / 2 - own.x, box.y + box.height / 2 - own.y], tag.dataset.name, "Name of this place", name => this.tell({kind: "rename", id, name}));
      const remove = make("button", "", form, {type: "button"});
      remove.textContent = "Remove";
      remove.addEventListener("click", () => { this.tell({kind: "remove", id}); form.remove(); });
    }

    ask([px, py], value, label, run) {
      this.editor?.remove();
      const form = this.editor = make("form", "ask", this.layer), input = make("input", "", form, {type: "text", maxlength: "40", "aria-label": label, placeholder: label, autocomplete: "off", spellcheck: "false"});
      make("button", "", form, {type: "submit"}).textContent = "Keep";
      input.value = value;
      form.style.left = `${Math.max(4, Math.min(this.w - 250, px - 90))}px`;
      form.style.top = `${Math.max(40, Math.min(this.h - 36, py - 13))}px`;
      form.addEventListener("submit", e => {
        e.preventDefault();
        if (input.value.trim()) run(input.value.trim());
        form.remove();
      });
      form.addEventListener("keydown", e => { if (e.key === "Escape") { e.stopPropagation(); form.remove(); this.surface.focus({preventScroll: true}); } });
      input.focus();
      input.select();
      return form;
    }
  }

  const format = v => Math.abs(v) >= 1e6 || (v !== 0 && Math.abs(v) < 0.001) ? v.toExponential(2) : Number(v.toPrecision(4)).toLocaleString("en", {maximumFractionDigits: 6});

  let shown = null;
  const current = () => shown?.alive() ? shown : null;
  Object.assign(window.voorwerp, {
    legend: null,
    trouble: "",
    format,
    /** The map that is on screen: its view, what is marked on it, and where that is in pixels. */
    on_screen: current,
    map(figure, request, marks, overlay, drawn, inbox) {
      let controller = controllers.get(figure);
      if (!controller) {
        controller = new Controller(figure, request, marks, overlay, drawn, inbox);
        controllers.set(figure, controller);
      }
      shown = controller;
      if (controller.told) { controller.place(); controller.refresh(); controller.draw(); }
    },
  });

  const add = (id, title, key, run, when = () => true) => window.voorwerp.commands.add({id: `map-${id}`, title, group: "Map", key, run: () => run(current()), when: () => Boolean(current()?.told) && when(current())});
  for (const [name, [label, key, title]] of Object.entries(TOOLS)) add(name, `${label}: ${title.toLowerCase()}`, key, map => map.use(name));
  add("home", "Show the whole map", "f", map => map.home());
  add("back", "Back to the view before", "[", map => map.go(-1));
  add("forward", "Forward to the view after", "]", map => map.go(1));
  add("zoom-in", "Zoom in", undefined, map => map.zoom(map.w / 2, map.h / 2, 0.7));
  add("zoom-out", "Zoom out", undefined, map => map.zoom(map.w / 2, map.h / 2, 1 / 0.7));
  add("solid", "3-D: turn the map's three components", "3", map => map.set("solid", !map.told.solid), map => map.told.can_solid);
  add("contours", "Contours of density", "d", map => map.set("contours", !map.told.contours));
  add("places", "Names of places", undefined, map => map.set("places", !map.told.places));
  add("name", "Name the region that was drawn last", "y", map => map.name(), map => map.can_name());
  add("draws", "What is drawn goes into the boundary, or selects", "j", map => map.set("draws", !map.told.draws), map => map.told.can_draw);
  add("minimap", "Minimap", undefined, map => map.fold());
  add("brush-smaller", "Smaller brush", "-", map => { map.brush = Math.max(4, map.brush / 1.25); map.draw(); }, map => map.tool === "brush");
  add("brush-larger", "Larger brush", "+", map => { map.brush = Math.min(120, map.brush * 1.25); map.draw(); }, map => map.tool === "brush");
  window.addEventListener("blur", () => {
    const map = current();
    if (!map) return;
    map.pointers.clear();
    map.press = map.pinch = null;
    map.outlines.give_up();
    if (map.gesture && map.gesture.shape !== "polygon") map.drop();  // what was half drawn; a polygon waits for its next corner
  });
})();
