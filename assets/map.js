// The map's other half: asks /frame for pixels whenever the view or the colouring changes, shows the subject under the
// mouse, and tells the session of clicks and drawn regions. Loaded once a page; `voorwerp.map(...)` is called by every
// change of the figure's ranges and size.
(() => {
  if (window.voorwerp?.map) return;

  const HOVER_REACH = 14; // pixels
  const MOST_PIXELS = 4096; // of a side: what /frame renders
  const controllers = new WeakMap();
  const held = {shift: false, alt: false, button: false};

  const typing = event => event.composedPath().some(e => /^(input|textarea|select)$/i.test(e.tagName ?? "") || e.isContentEditable);
  for (const kind of ["keydown", "keyup"]) {
    window.addEventListener(kind, e => { held.shift = e.shiftKey; held.alt = e.altKey; }, true);
  }

  window.addEventListener("blur", () => { held.shift = held.alt = held.button = false; });
  window.addEventListener("pointerdown", () => { held.button = true; }, true);
  for (const kind of ["pointerup", "pointercancel"]) window.addEventListener(kind, () => { held.button = false; }, true);

  class Controller {
    constructor(figure, source, request, inbox) {
      Object.assign(this, {figure, source, request, inbox});
      this.busy = this.dirty = this.queued = false;
      this.card = document.createElement("div");
      this.card.className = "voorwerp-card";
      this.card.setAttribute("role", "tooltip");
      this.card.hidden = true;
      document.body.append(this.card);
      window.addEventListener("keydown", e => { if (this.alive()) this.key(e); });
      request.properties.tags.change.connect(() => { this.hide(); if (this.alive()) this.refresh(); });
    }

    alive() {
      // a figure is replaced when the session turns to another map
      return Bokeh.documents.some(d => d._all_models.has(this.figure.id));
    }

    settings() {
      return JSON.parse(this.request.tags[0] ?? "{}");
    }

    tell(message) {
      this.inbox.tags = [JSON.stringify({...message, at: performance.now()})];
    }

    // -------------------------------------------------------------------------------------------------- frames
    refresh() {
      // several range properties change in one gesture: one request a task
      this.dirty = true;
      if (this.queued) return;
      this.queued = true;
      queueMicrotask(() => { this.queued = false; this.fetch(); });
    }

    async fetch() {
      // one in flight, the latest wins (two were measured: no faster on two cores, and fewer frames in a drag)
      if (this.busy || !this.dirty) return;
      const {figure} = this;
      const coloring = this.settings();
      const density = Math.min(window.devicePixelRatio || 1, 2, MOST_PIXELS / figure.inner_width, MOST_PIXELS / figure.inner_height);
      const w = Math.round(figure.inner_width * density), h = Math.round(figure.inner_height * density);
      const [x0, x1] = [figure.x_range.start, figure.x_range.end];
      const [y0, y1] = [figure.y_range.start, figure.y_range.end];
      this.dirty = false;
      if (!(w > 0) || !(h > 0) || !(x0 < x1) || !(y0 < y1)) return;
      this.busy = true;
      try {
        const query = new URLSearchParams({...coloring, x0, x1, y0, y1, w, h, density});
        const answer = await fetch(`frame?${query}`, {credentials: "same-origin"});
        if (!answer.ok) throw new Error((await answer.json()).error);
        const legend = JSON.parse(answer.headers.get("X-Legend"));
        const pixels = new Uint8Array(await answer.arrayBuffer());
        const image = new this.source.data.image[0].constructor(pixels, [h, w], "uint8");
        this.source.setv({data: {image: [image], x: [x0], y: [y0], dw: [x1 - x0], dh: [y1 - y0]}}, {sync: false});
        window.voorwerp.legend = {...legend, settings: coloring};
        this.lost(null);
        clearTimeout(this.settling);
        this.settling = setTimeout(() => {  // the link holds the view once it rests
          const view = [x0, x1, y0, y1].join();
          if (this.told && this.told !== view) this.tell({kind: "view", view: [x0, x1, y0, y1]});
          this.told = view;
        }, 400);
        window.dispatchEvent(new CustomEvent("voorwerp-legend"));
      } catch (error) {
        this.lost(error);
      } finally {
        this.busy = false;
        this.fetch();
      }
    }

    lost(error) {
      const trouble = !error ? "" : error instanceof TypeError ? "the server does not answer; is it still running" : error.message;
      if (trouble === window.voorwerp.trouble) return;
      window.voorwerp.trouble = trouble;
      window.dispatchEvent(new CustomEvent("voorwerp-legend"));
    }

    // --------------------------------------------------------------------------------------------------- hover
    async hover(event) {
      if (held.button) { this.hide(); return; }  // dragging: the map comes first
      this.at = event;
      if (this.asking) return;
      this.asking = true;
      try {
        while (this.at) {
          const {sx, sy, x, y} = this.at;
          this.at = null;
          const found = await this.nearest(x, y);
          if (found) this.show(found, sx, sy); else this.hide();
        }
      } catch { this.hide(); } finally { this.asking = false; }
    }

    async nearest(x, y) {
      const {figure} = this;
      const {color, aggregate, norm, selection, ...plane} = this.settings();
      const rx = HOVER_REACH * Math.abs(figure.x_range.end - figure.x_range.start) / figure.inner_width;
      const ry = HOVER_REACH * Math.abs(figure.y_range.end - figure.y_range.start) / figure.inner_height;
      const answer = await fetch(`nearest?${new URLSearchParams({...plane, at_x: x, at_y: y, rx, ry})}`, {credentials: "same-origin"});
      return answer.ok ? answer.json() : null;
    }

    show(subject, sx, sy) {
      const view = Bokeh.index.find_one(this.figure);
      const frame = view?.canvas_view?.el ?? view?.el;
      if (!frame || this.left) return;
      if (this.card.dataset.row !== String(subject.row)) {
        this.card.dataset.row = subject.row;
        const image = subject.has_image ? new Image(112, 112) : "";
        if (image) Object.assign(image, {alt: "", src: `thumbnails/${subject.row}`});
        const text = document.createElement("div");
        const name = document.createElement("strong");
        name.textContent = subject.source_id;
        text.append(name);
        for (const s of subject.scores) {
          const line = document.createElement("div"), value = document.createElement("b"), rank = document.createElement("em");
          value.textContent = s.value === null ? "missing" : format(s.value);
          rank.textContent = s.value === null ? "" : `above ${s.below.toLocaleString("en")} of ${s.of.toLocaleString("en")}`;
          line.append(s.title, value, rank);
          text.append(line);
        }
        this.card.replaceChildren(image, text);
      }
      const box = frame.getBoundingClientRect();
      this.card.hidden = false;
      const {offsetWidth: w, offsetHeight: h} = this.card;
      const x = box.left + sx, y = box.top + sy;
      this.card.style.left = `${x + 18 + w < window.innerWidth ? x + 18 : x - 18 - w}px`;
      this.card.style.top = `${Math.max(8, Math.min(y - h / 2, window.innerHeight - h - 8))}px`;
    }

    hide() {
      this.at = null;
      this.card.hidden = true;
    }

    // ---------------------------------------------------------------------------------- clicks, regions, keys
    async tap(event) {
      const found = await this.nearest(event.x, event.y);
      if (found) this.tell({kind: "focus", row: found.row});
    }

    region(event) {
      const g = event.geometry;
      const [x, y] = g.type === "rect" ? [[g.x0, g.x1, g.x1, g.x0], [g.y0, g.y0, g.y1, g.y1]]
        : g.type === "poly" ? [[...g.x], [...g.y]] : [[], []];
      if (!event.final || x.length < 3) return;
      this.tell({kind: "region", x, y, mode: held.alt ? "subtract" : held.shift ? "add" : null});
    }

    key(event) {
      if (typing(event) || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
      if (event.composedPath().some(e => e.classList?.contains("MuiPopover-root") || e.tagName === "DIALOG")) return;  // an open menu or dialog has the keys
      const key = event.key.toLowerCase();
      if ("plbucf".includes(key) && key.length === 1 || key === "escape") this.tell({kind: "key", key});
    }
  }

  const format = v => Math.abs(v) >= 1e6 || (v !== 0 && Math.abs(v) < 0.001) ? v.toExponential(2) : Number(v.toPrecision(4)).toLocaleString("en", {maximumFractionDigits: 6});

  Object.assign(window.voorwerp, {
    legend: null,
    trouble: "",
    format,
    map(figure, source, request, inbox) {
      let controller = controllers.get(figure);
      if (!controller) {
        controller = new Controller(figure, source, request, inbox);
        controllers.set(figure, controller);
      }
      controller.refresh();
    },
    event(figure, event) {
      const controller = controllers.get(figure);
      if (!controller) return;
      if (event.event_name === "mousemove") { controller.left = false; controller.hover(event); }
      else if (event.event_name === "mouseleave") { controller.left = true; controller.hide(); }
      else if (event.event_name === "tap") controller.tap(event);
      else if (event.event_name === "selectiongeometry") controller.region(event);
    },
  });
})();
