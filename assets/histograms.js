// Small multiples: how columns are spread over all subjects, the selected ones and those in view; brushes select. The
// counts come from /histogram, one request for all columns; a brush goes to the session, one message in flight, the latest
// wins, so that the map and every count follow while it is dragged.
const BOX = {left: 42, right: 10, top: 15, bottom: 18};  // px around the bars
const PATIENCE = 4000;  // ms until a message without an answer is given up
const REACH = 4;  // px: nearer than this to a percentile line is on it

const whole = n => n.toLocaleString("en");
const SUPER = [..."⁰¹²³⁴⁵⁶⁷⁸⁹"];
const power = k => `10${k < 0 ? "⁻" : ""}${[...String(Math.abs(k))].map(d => SUPER[d]).join("")}`;
const told = v => {
  if (v === 0) return "0";
  const size = Math.abs(v);
  return size >= 1e7 || size < 1e-4 ? v.toExponential(3) : Number(v.toPrecision(6)).toLocaleString("en", {maximumFractionDigits: 9});
};
const brief = n => n >= 1e6 ? `${Number((n / 1e6).toPrecision(3))} M` : n >= 1e4 ? `${Number((n / 1e3).toPrecision(3))} k` : whole(n);
const percent = s => `${Number((100 * s).toPrecision(s >= 0.1 ? 3 : 2))} %`;

/** About `n` round numbers within low … high. */
function ticks(low, high, n) {
  const rough = (high - low) / n, base = 10 ** Math.floor(Math.log10(rough));
  const step = base * [1, 2, 5, 10].find(m => m * base >= rough * 0.999);
  if (!(step > 0)) return [];
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

/** Powers of ten within low … high, at most `n`; with their multiples where there are few. */
function decades(low, high, n) {
  const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
  const every = Math.max(1, Math.ceil((last - first + 1) / n)), found = [];
  for (let k = first; k <= last; k += every) found.push(10 ** k);
  if (found.length > 1) return found;
  const more = [];
  for (let k = first - 1; k <= last; k++) for (const m of [1, 2, 5]) if (m * 10 ** k >= low && m * 10 ** k <= high) more.push(Number((m * 10 ** k).toPrecision(3)));
  return more.length > 1 ? more : ticks(low, high, 3);
}

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value; else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function render({model, el}) {
  const KEPT = `voorwerp-histograms-${model.survey}`;
  const kept = {columns: null, log: {}, zoom: {}, shares: false, logCounts: false, lines: true, seen: false};
  try { Object.assign(kept, JSON.parse(localStorage.getItem(KEPT) ?? "{}")); } catch { /* nothing kept, or nonsense */ }
  const keep = () => { try { localStorage.setItem(KEPT, JSON.stringify(kept)); } catch { /* a browser that keeps nothing */ } };

  const cells = new Map();     // reference → Cell
  const brushes = new Map();   // reference → {low, high}, null: open; or {labels}
  let dragged = null;          // the cell whose brush is under the pointer or a key

  // --------------------------------------------------------------------------------------------------------- bar
  const count = make("span", {className: "count"}), trouble = make("span", {className: "trouble", role: "status"});
  const toggle = (name, text, title) => {
    const button = make("button", {type: "button", title}, text);
    const show = () => button.setAttribute("aria-pressed", Boolean(kept[name]));
    button.addEventListener("click", () => {
      kept[name] = !kept[name];
      keep();
      show();
      if (name === "seen") refresh(); else draw();
    });
    show();
    return button;
  };
  const add = make("select", {title: "Show another column"});
  add.setAttribute("aria-label", "Add a column");
  add.addEventListener("change", () => {
    if (!add.value) return;
    kept.columns = [...chosen(), add.value];
    keep();
    arrange();
    grid.scrollTop = grid.scrollHeight;
  });
  const inView = toggle("seen", "In view", "Also count the subjects that the map has in view");
  const bar = make("div", {className: "bar"}, count, trouble,
    toggle("shares", "Shares", "Each as a share of its own total, so that a small selection is seen beside all"),
    toggle("logCounts", "Log counts", "A logarithmic scale of counts"),
    toggle("lines", "Percentiles", "Lines at the 50, 90, 95, 99 and 99.9 % of all subjects"),
    inView, add);
  const grid = make("div", {className: "cells"});
  const empty = make("div", {className: "empty"}, "No column is shown. Add one above.");
  el.append(make("div", {className: "histograms"}, bar, grid, empty));

  const offers = () => new Map(model.offered.map(o => [o.reference, o]));
  const chosen = () => kept.columns ?? model.first;

  /** What another pane asked to see comes first. */
  const want = () => {
    if (!offers().has(model.wanted)) return;
    kept.columns = [model.wanted, ...chosen().filter(r => r !== model.wanted)];
    keep();
    arrange();
    grid.scrollTop = 0;
  };

  function arrange() {
    const known = offers(), shown = chosen().filter(r => known.has(r));
    for (const [reference, cell] of cells) {
      if (!shown.includes(reference) || cell.kind !== known.get(reference).kind) { cell.root.remove(); cells.delete(reference); }
    }
    shown.forEach(reference => {
      if (!cells.has(reference)) {
        const cell = known.get(reference).kind === "number" ? new Numbers(reference) : new Categories(reference);
        cells.set(reference, cell);
        watcher.observe(cell.root);
      }
      const cell = cells.get(reference);
      cell.name(known.get(reference).title);
      grid.append(cell.root);
    });
    empty.hidden = shown.length > 0;
    const more = [...known.values()].filter(o => !shown.includes(o.reference));
    add.replaceChildren(make("option", {value: ""}, "+ Column"), ...more.map(o => make("option", {value: o.reference}, o.title)));
    add.value = "";
    refresh();
  }

  function remove(reference) {
    kept.columns = chosen().filter(r => r !== reference);
    keep();
    if (brushes.delete(reference)) send(true);
    arrange();
    (grid.querySelector("button") ?? add).focus();
  }

  // ------------------------------------------------------------------------------------------------------ counts
  let dirty = false, asking = false;
  async function refresh() {
    dirty = true;
    if (asking || !model.shown || !cells.size) return;
    asking = true;
    while (dirty && model.shown) {
      dirty = false;
      const query = new URLSearchParams({bins: grid.clientWidth / cells.size > 420 ? 160 : 80, run: model.run_id, lambda: model.lambda_,
        lambda_mode: model.lambda_mode, map: model.map_id, selection: model.selection_id});
      if (kept.seen && model.view.length) for (const [name, value] of Object.entries({...model.plane, view: model.view.join()})) query.set(name, value);
      for (const [reference, cell] of cells) {
        const [low, high] = kept.zoom[reference] ?? ["", ""];
        for (const [name, value] of Object.entries({column: reference, scale: cell.log ? "log" : "linear", low, high})) query.append(name, value ?? "");
      }
      try {
        const answer = await fetch(`histogram?${query}`, {credentials: "same-origin"});
        const found = await answer.json();
        if (!answer.ok) throw new Error(found.error);
        found.columns.forEach(column => cells.get(column.reference)?.take(column));
        trouble.textContent = "";
      } catch (error) {
        trouble.textContent = error instanceof TypeError ? "The server does not answer: is it still running?" : `The histograms could not be read: ${error.message}.`;
      }
      draw();
    }
    asking = false;
  }

  // ----------------------------------------------------------------------------------------------------- brushes
  const queue = [];
  let number = 0, sentAt = 0;
  function send(settled) {
    const gates = [...brushes].map(([reference, b]) => ({reference, low: b.low ?? null, high: b.high ?? null, labels: b.labels ?? []}));
    if (queue.length && !queue.at(-1).settled) queue.pop();  // the latest wins; the end of a gesture is never left out
    queue.push({gates, settled});
    flush();
  }
  function flush() {
    const waits = model.answered < number && performance.now() - sentAt < PATIENCE;
    if (!queue.length || waits) return;
    setTimeout(flush, PATIENCE + 50);  // an answer may be lost with the connection
    number = Math.max(number, model.answered) + 1;
    sentAt = performance.now();
    model.send_msg({...queue.shift(), number});
  }
  function adopt() {
    if (dragged || queue.length || model.answered < number) return;
    brushes.clear();
    for (const {reference, low, high, labels} of model.gates) brushes.set(reference, cells.get(reference)?.kind === "category" || labels.length ? {labels} : {low, high});
    draw();
  }
  function brush(reference, to, settled) {
    if (to) brushes.set(reference, to); else brushes.delete(reference);
    send(settled);
    draw();
  }

  // ------------------------------------------------------------------------------------------------------- cells
  class Cell {
    constructor(reference, kind) {
      Object.assign(this, {reference, kind, data: null});
      this.title = make("h3");
      this.close = make("button", {type: "button", title: "Remove this histogram"}, "×");
      this.close.addEventListener("click", () => remove(reference));
      this.head = make("header", {}, this.title, this.close);
      this.missing = make("span", {className: "missing"});
      this.note = make("div", {className: "note", textContent: "Counting …"});
      this.root = make("section", {className: "cell"}, this.head);
      this.root.addEventListener("keydown", e => {
        if (e.key !== "Escape" || !brushes.has(reference)) return;
        e.preventDefault();
        e.stopPropagation();
        dragged = null;
        brush(reference, null, true);
      });
    }
    name(title) {
      this.named = title;
      this.title.textContent = this.title.title = title;
      this.root.setAttribute("aria-label", `Histogram of ${title}`);
      this.close.setAttribute("aria-label", `Remove the histogram of ${title}`);
    }
    take(data) { this.data = data; }
    /** The sets that are shown, all first: [name, counts, color]. */
    sets() {
      return [["all", "full", "--quiet"], ["selected", "selected", "--accent"], ["in view", "seen", "--warm"]]
        .filter(([, key]) => this.data[key]).map(([name, key, color]) => ({name, color, counts: this.data[key], known: this.data[key].n - this.data[key].missing}));
    }
    /** What is in no bar, in words. */
    rest() {
      const {full, selected} = this.data, said = [];
      const one = (key, words) => {
        if (full[key]) said.push(`${whole(full[key])} ${words}${selected?.[key] ? ` (${whole(selected[key])} selected)` : ""}`);
      };
      one("missing", "missing");
      one("not_positive", "at 0 or below");
      one("below", "lower");
      one("above", "higher");
      return said.join(", ");
    }
    /** Whether there is anything to draw; says what not. */
    drawable(nothing) {
      const said = !this.data ? "Counting …" : this.data.error ?? nothing;
      this.note.textContent = said;
      this.note.hidden = !said;
      if (this.data && !this.data.error) this.missing.textContent = this.missing.title = this.rest();
      return Boolean(this.data) && !said;
    }
  }

  class Numbers extends Cell {
    constructor(reference) {
      super(reference, "number");
      this.log = Boolean(kept.log[reference]);
      this.scale = make("button", {type: "button", title: "A logarithmic scale of values"}, "log");
      this.scale.setAttribute("aria-pressed", this.log);
      this.scale.addEventListener("click", () => {
        this.log = kept.log[reference] = !this.log;
        delete kept.zoom[reference];
        keep();
        this.scale.setAttribute("aria-pressed", this.log);
        refresh();
      });
      this.zoom = make("button", {type: "button"}, "⤢");
      this.zoom.addEventListener("click", () => this.magnify());
      this.close.before(this.scale, this.zoom);
      this.canvas = make("canvas");
      this.canvas.setAttribute("role", "img");
      this.canvas.setAttribute("aria-label", "Counts, not read yet");
      this.card = make("div", {className: "card", hidden: true});
      this.handles = Object.fromEntries(["low", "high"].map(end => [end, this.handle(end)]));
      this.plot = make("div", {className: "plot"}, this.canvas, this.handles.low, this.handles.high, this.card, this.note);
      this.fields = Object.fromEntries(["low", "high"].map(end => [end, this.field(end)]));
      this.root.append(this.plot, make("footer", {}, this.fields.low, "–", this.fields.high, this.missing));
      this.canvas.addEventListener("pointerdown", e => this.press(e));
      this.plot.addEventListener("pointermove", e => { if (!dragged) this.point(e); });
      this.plot.addEventListener("pointerleave", () => { this.card.hidden = true; });
    }
    name(title) {
      super.name(title);
      this.scale.setAttribute("aria-label", `Logarithmic values of ${title}`);
      for (const [end, word] of [["low", "from"], ["high", "to"]]) {
        this.handles[end].setAttribute("aria-label", `${title}: selected ${word}`);
        this.fields[end].setAttribute("aria-label", `${title} ${word}`);
      }
    }

    // ------------------------------------------------------------------------------------- values and pixels
    get edges() { return this.data.edges; }
    get integral() { return !this.log && Number.isInteger(this.edges[0] + 0.5) && Number.isInteger(this.edges[1] + 0.5); }
    get span() { return this.plot.clientWidth - BOX.left - BOX.right; }
    x(value) {
      const turn = this.log ? Math.log10 : v => v, low = turn(this.edges[0]), high = turn(this.edges.at(-1));
      return BOX.left + this.span * (turn(value) - low) / (high - low);
    }
    at(x) {
      const share = Math.min(1, Math.max(0, (x - BOX.left) / this.span)), low = this.edges[0], high = this.edges.at(-1);
      return this.log ? low * (high / low) ** share : low + (high - low) * share;
    }
    /** The bound that a place on screen means: a number of few digits; null at the column's own end. */
    bound(x, end, snap) {
      if (snap) {
        const line = this.data.lines.map(l => [Math.abs(this.x(l.value) - x), l.value]).sort((a, b) => a[0] - b[0])[0];
        if (line && line[0] < 14) return line[1];
      }
      const own = !kept.zoom[this.reference];
      if (own && end === "low" && x <= BOX.left) return null;
      if (own && end === "high" && x >= BOX.left + this.span) return null;
      const value = this.at(x);
      if (this.integral) return end === "low" ? Math.ceil(value) : Math.floor(value);
      const pixel = Math.abs(this.at(x + 1) - this.at(x - 1)) / 2, digit = 10 ** Math.floor(Math.log10(pixel || 1));
      return Number((Math.round(value / digit) * digit).toPrecision(12));
    }
    /** Where a brush is drawn. */
    shown(b) {
      const half = this.integral ? 0.5 : 0, inside = x => Math.min(BOX.left + this.span, Math.max(BOX.left, x));
      return [b.low === null ? BOX.left : inside(this.log && b.low <= 0 ? BOX.left : this.x(b.low - half)),
        b.high === null ? BOX.left + this.span : inside(this.log && b.high <= 0 ? BOX.left : this.x(b.high + half))];
    }

    // ---------------------------------------------------------------------------------------------- pointer
    press(e) {
      if (e.button || !this.data?.edges?.length) return;
      const now = brushes.get(this.reference), x = e.offsetX;
      const [left, right] = now ? this.shown(now) : [];
      this.drag(e, now && x > left && x < right ? "move" : "new", x);
    }
    drag(e, kind, from) {
      e.preventDefault();
      const target = e.currentTarget, box = this.canvas.getBoundingClientRect();
      const before = brushes.get(this.reference), [left, right] = before ? this.shown(before) : [];
      let moved = false;
      dragged = this;
      this.card.hidden = true;
      target.setPointerCapture(e.pointerId);
      const move = event => {
        const x = event.clientX - box.left, snap = event.shiftKey;
        if (dragged !== this || !moved && Math.abs(x - from) < 3) return;  // Esc ends it
        moved = true;
        let [a, b] = kind === "new" ? [from, x] : kind === "low" ? [x, right ?? BOX.left + this.span]
          : kind === "high" ? [left ?? BOX.left, x] : [left + x - from, right + x - from];
        if (kind === "move") {  // its width stays
          const push = Math.max(0, BOX.left - a) - Math.max(0, b - BOX.left - this.span);
          [a, b] = [a + push, b + push];
        }
        [a, b] = [Math.min(a, b), Math.max(a, b)];
        const next = {low: this.bound(a, "low", snap), high: this.bound(b, "high", snap)};
        if (kind === "low" && before && a === x) next.high = before.high;
        if (kind === "high" && before && b === x) next.low = before.low;
        const last = brushes.get(this.reference);
        if (last && last.low === next.low && last.high === next.high) return;
        if (next.low !== null && next.high !== null && next.low > next.high) return;
        brush(this.reference, next, false);
      };
      target.addEventListener("pointermove", move);
      target.addEventListener("lostpointercapture", () => {
        target.removeEventListener("pointermove", move);
        if (dragged !== this) return;
        dragged = null;
        if (moved) send(true);
        else if (kind === "new" && before) brush(this.reference, null, true);
        if (kind !== "low" && kind !== "high") this.handles.high.focus({preventScroll: true});
      }, {once: true});
    }
    handle(end) {
      const handle = make("div", {className: `handle ${end}`, tabIndex: 0, hidden: true});
      handle.setAttribute("role", "slider");
      handle.setAttribute("aria-orientation", "horizontal");
      handle.addEventListener("pointerdown", e => {
        if (e.button || !this.data?.edges?.length) return;
        handle.focus();
        this.drag(e, end, e.clientX - this.canvas.getBoundingClientRect().left);
      });
      let held = false;
      handle.addEventListener("keydown", e => {
        const step = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1}[e.key];
        if (!this.data?.edges?.length || !(step || ["Home", "End", "PageUp", "PageDown", "Delete", "Backspace"].includes(e.key))) return;
        e.preventDefault();
        e.stopPropagation();
        if (e.key === "Delete" || e.key === "Backspace") {
          if (brushes.has(this.reference)) brush(this.reference, null, true);
          return;
        }
        held = true;
        dragged = this;
        this.step(end, e.key, step * (e.shiftKey ? 10 : 1));
      });
      const settle = () => { if (held) { held = false; dragged = null; send(true); } };
      handle.addEventListener("keyup", settle);
      handle.addEventListener("blur", settle);
      return handle;
    }
    /** Move an end of the brush to another edge of a bin, a percentile, or the end of the column. */
    step(end, key, by) {
      const now = brushes.get(this.reference) ?? {low: null, high: null}, {edges} = this, last = edges.length - 1;
      const half = this.integral ? (end === "low" ? -0.5 : 0.5) : 0;
      const value = now[end] === null ? edges[end === "low" ? 0 : last] : now[end] + half;
      let next;
      if (key === "Home") next = edges[0];
      else if (key === "End") next = edges[last];
      else if (key === "PageUp") next = this.data.lines.find(l => l.value > value)?.value ?? edges[last];
      else if (key === "PageDown") next = this.data.lines.findLast(l => l.value < value)?.value ?? edges[0];
      else {
        const tiny = 1e-9 * Math.abs(edges[last] - edges[0]), above = edges.findIndex(v => v > value + tiny), below = edges.findLastIndex(v => v < value - tiny);
        const from = by > 0 ? (above < 0 ? last + 1 : above) - 1 : below + 1;
        next = edges[Math.min(last, Math.max(0, from + by))];
      }
      const open = !kept.zoom[this.reference] && (end === "low" ? next <= edges[0] : next >= edges[last]);
      const to = {...now, [end]: open ? null : this.integral ? (end === "low" ? Math.ceil(next) : Math.floor(next)) : next};
      if (to.low !== null && to.high !== null && to.low > to.high) to[end] = now[end === "low" ? "high" : "low"];
      brush(this.reference, to.low === null && to.high === null ? null : to, false);
    }
    field(end) {
      const field = make("input", {type: "text", inputMode: "decimal", placeholder: end === "low" ? "from" : "to", autocomplete: "off", spellcheck: false});
      field.addEventListener("change", () => {
        const text = field.value.trim().replaceAll(",", "").replaceAll("−", "-"), value = text === "" ? null : Number(text);
        const to = {...(brushes.get(this.reference) ?? {low: null, high: null}), [end]: value};
        const wrong = value !== null && !Number.isFinite(value) ? "this is no number" : to.low !== null && to.high !== null && to.low > to.high ? "the range goes upwards" : "";
        field.setCustomValidity(wrong);
        field.title = wrong;
        if (wrong) return;
        brush(this.reference, to.low === null && to.high === null ? null : to, true);
      });
      field.addEventListener("keydown", e => { if (e.key === "Enter") field.blur(); });
      return field;
    }
    /** Between the column's whole range and that of its brush, without a brush the range up to the 99.9 % line. */
    magnify() {
      const b = brushes.get(this.reference), {edges, lines} = this.data ?? {};
      if (kept.zoom[this.reference]) delete kept.zoom[this.reference];
      else if (edges?.length) {
        const low = b?.low ?? edges[0], high = b ? b.high ?? edges.at(-1) : lines.at(-1).value;
        if (high > low && !(this.log && low <= 0)) kept.zoom[this.reference] = [low, high];
      }
      keep();
      refresh();
    }

    // ---------------------------------------------------------------------------------------------- drawing
    point(e) {
      if (!this.data?.edges?.length || e.target.closest(".card")) return;
      const x = e.clientX - this.canvas.getBoundingClientRect().left;
      const line = kept.lines && this.data.lines.find(l => Math.abs(this.x(l.value) - x) < REACH && e.offsetY < BOX.top + 4);
      const value = this.at(x), {edges} = this;
      const i = Math.min(edges.length - 2, Math.max(0, edges.findLastIndex(v => v <= value)));
      const words = [];
      if (line) {
        words.push(make("b", {}, `${line.percentile} %: ${told(line.value)}`), make("span", {}, `${whole(line.above)} of ${whole(line.of)} are higher`));
      } else {
        const [a, b] = this.integral ? [edges[i] + 0.5, edges[i + 1] - 0.5] : [edges[i], edges[i + 1]];
        words.push(make("b", {}, a === b ? told(a) : `${told(a)} – ${told(b)}`));
        for (const s of this.sets()) {
          const text = make("span", {}, `${whole(s.counts.bins[i])} of ${whole(s.known)} ${s.name}${s.known ? `, ${percent(s.counts.bins[i] / s.known)}` : ""}`);
          text.style.color = `var(${s.color === "--quiet" ? "--ink" : s.color})`;
          words.push(text);
        }
      }
      this.card.replaceChildren(...words);
      this.card.hidden = false;
      const w = this.card.offsetWidth;
      this.card.style.left = `${x + 12 + w < this.plot.clientWidth ? x + 12 : Math.max(0, x - 12 - w)}px`;
    }
    draw() {
      const {canvas} = this, ratio = window.devicePixelRatio || 1, W = this.plot.clientWidth, H = this.plot.clientHeight;
      if (!(W > 80 && H > 50)) return;
      if (canvas.width !== Math.round(W * ratio) || canvas.height !== Math.round(H * ratio)) Object.assign(canvas, {width: Math.round(W * ratio), height: Math.round(H * ratio)});
      const g = canvas.getContext("2d"), style = getComputedStyle(this.root), color = name => style.getPropertyValue(name).trim();
      g.setTransform(ratio, 0, 0, ratio, 0, 0);
      g.clearRect(0, 0, W, H);
      const nothing = this.data && !this.data.error && !this.edges.length ? (this.log ? "No value above 0." : "No subject has a value.") : "";
      const can = this.drawable(nothing), b = brushes.get(this.reference);
      for (const handle of Object.values(this.handles)) handle.hidden = !can;
      this.zoom.setAttribute("aria-pressed", Boolean(kept.zoom[this.reference]));
      this.zoom.title = kept.zoom[this.reference] ? "Back to the whole range" : b ? "Enlarge the brushed range" : "Enlarge what is below the 99.9 % line";
      this.zoom.setAttribute("aria-label", `${this.zoom.title} of ${this.named}`);
      for (const end of ["low", "high"]) {
        const field = this.fields[end];
        if (field.getRootNode().activeElement !== field) field.value = b && b[end] !== null ? told(b[end]) : "";
      }
      if (!can) return;
      const {edges} = this, floor = H - BOX.bottom, tall = floor - BOX.top, sets = this.sets();
      const size = (s, k) => kept.shares ? (s.known ? k / s.known : 0) : k;
      const most = Math.max(...sets.flatMap(s => s.counts.bins.map(k => size(s, k)))) || 1;
      const least = kept.shares ? 0.7 / Math.max(...sets.map(s => s.known), 1) : 0.7;
      const y = v => v <= 0 ? floor : floor - tall * (kept.logCounts ? Math.max(0, Math.log(v / least) / Math.log(most * 1.1 / least)) : v / most / 1.04);
      const xs = edges.map(v => this.x(v));

      // axes
      g.font = `10px ${style.fontFamily}`;
      g.fillStyle = color("--quiet");
      g.strokeStyle = color("--line");
      g.lineWidth = 1;
      g.textBaseline = "middle";
      g.textAlign = "right";
      const marks = kept.logCounts ? decades(least * 1.4, most, 4).filter(v => kept.shares || v >= 1) : ticks(0, most, Math.max(2, Math.min(4, tall / 28))).slice(1);
      for (const v of marks) {
        const at = Math.round(y(v)) + 0.5;
        g.beginPath(); g.moveTo(BOX.left, at); g.lineTo(W - BOX.right, at); g.stroke();
        g.fillText(kept.shares ? percent(v) : brief(v), BOX.left - 5, at);
      }
      g.textBaseline = "alphabetic";
      g.textAlign = "center";
      let free = 0;
      const low = edges[0], high = edges.at(-1);
      for (const v of this.log ? decades(low, high, Math.max(2, this.span / 52)) : ticks(low, high, Math.max(2, this.span / 62)).filter(v => !this.integral || Number.isInteger(v))) {
        const size = Math.abs(v), text = v !== 0 && (size >= 1e6 || size < 1e-3) ? (this.log && Number.isInteger(Math.log10(v)) ? power(Math.log10(v)) : v.toExponential(1)) : Number(v.toPrecision(8)).toLocaleString("en", {maximumFractionDigits: 8});
        const x = this.x(v), wide = g.measureText(text).width;
        g.beginPath(); g.moveTo(Math.round(x) + 0.5, floor); g.lineTo(Math.round(x) + 0.5, floor + 3); g.stroke();
        const at = Math.min(W - wide / 2 - 1, Math.max(wide / 2, x));
        if (at - wide / 2 < free) continue;
        free = at + wide / 2 + 8;
        g.fillText(text, at, H - 4);
      }

      // bars, all first; a set's own bar is never thinner than a pixel
      for (const s of sets) {
        const all = s.color === "--quiet", seen = s.color === "--warm", lined = seen || !all && kept.shares;
        g.fillStyle = g.strokeStyle = color(s.color);
        const area = new Path2D(), edge = new Path2D();
        edge.moveTo(xs[0], floor);
        s.counts.bins.forEach((k, i) => {
          const top = k ? Math.min(floor - 1, y(size(s, k))) : floor, wide = xs[i + 1] - xs[i], gap = wide > 5 ? 0.5 : 0;
          if (k) area.rect(xs[i] + gap, top, Math.max(0.6, wide - 2 * gap), floor - top);
          edge.lineTo(xs[i], top);
          edge.lineTo(xs[i + 1], top);
        });
        edge.lineTo(xs.at(-1), floor);
        g.globalAlpha = all ? (sets.length > 1 ? 0.42 : 0.62) : lined ? 0.16 : 0.95;
        if (!seen) g.fill(area);
        g.globalAlpha = 1;
        g.lineWidth = 1.25;
        if (lined) g.stroke(edge);
      }
      g.lineWidth = 1;
      g.strokeStyle = color("--quiet");
      g.globalAlpha = 0.5;
      g.beginPath(); g.moveTo(BOX.left, floor + 0.5); g.lineTo(W - BOX.right, floor + 0.5); g.stroke();
      g.globalAlpha = 1;

      // percentiles of all
      if (kept.lines) {
        g.strokeStyle = g.fillStyle = color("--ink");
        const placed = [];
        for (const line of this.data.lines.toReversed()) {  // the rarest have the room first
          if (this.log && line.value <= 0 || line.value < low || line.value > high) continue;
          const x = Math.round(this.x(line.value)) + 0.5, text = `${line.percentile}`, wide = g.measureText(text).width;
          g.globalAlpha = 0.6;
          g.setLineDash([2, 3]);
          g.beginPath(); g.moveTo(x, BOX.top); g.lineTo(x, floor); g.stroke();
          g.setLineDash([]);
          g.globalAlpha = 1;
          const at = Math.min(W - wide / 2 - 1, x);
          if (placed.some(([p, w]) => Math.abs(p - at) < (w + wide) / 2 + 5)) continue;
          placed.push([at, wide]);
          g.fillText(text, at, BOX.top - 4);
        }
        if (placed.length) {
          g.fillStyle = color("--quiet");
          g.textAlign = "right";
          if (Math.min(...placed.map(([p, w]) => p - w / 2)) > BOX.left) g.fillText("%", BOX.left - 5, BOX.top - 4);
        }
      }

      // the brush and its handles
      const [left, right] = b ? this.shown(b) : [BOX.left, BOX.left + this.span];
      if (b) {
        g.fillStyle = color("--accent");
        g.globalAlpha = 0.13;
        g.fillRect(left, BOX.top, right - left, tall);
        g.globalAlpha = 1;
      }
      this.plot.classList.toggle("brushed", Boolean(b));
      for (const [end, x] of [["low", left], ["high", right]]) {
        const handle = this.handles[end], value = b?.[end] ?? null;
        handle.style.left = `${x}px`;
        handle.setAttribute("aria-valuemin", low);
        handle.setAttribute("aria-valuemax", high);
        handle.setAttribute("aria-valuenow", value ?? (end === "low" ? low : high));
        handle.setAttribute("aria-valuetext", value === null ? "open" : told(value));
      }
      const f = this.data.full;
      canvas.setAttribute("aria-label", `${this.named}: ${told(low)} to ${told(high)}, ${whole(f.n - f.missing)} of ${whole(f.n)} have a value`);
    }
  }

  class Categories extends Cell {
    constructor(reference) {
      super(reference, "category");
      this.list = make("div", {className: "bars"});
      this.root.append(make("div", {className: "plot"}, this.list, this.note), make("footer", {}, this.missing));
      this.rows = new Map();
    }
    take(data) {
      super.take(data);
      this.list.replaceChildren();
      this.rows.clear();
      data.labels?.forEach((label, i) => {
        const name = make("span", {className: "name"}, label), track = make("span", {className: "track"}), figures = make("span", {className: "figures"});
        const named = data.full.bins.length <= 24 || i < 24;  // the last is "others"
        const row = make(named ? "button" : "div", {className: "row"}, name, track, figures);
        if (named) {
          row.type = "button";
          row.addEventListener("click", () => {
            const now = new Set(brushes.get(this.reference)?.labels ?? []);
            if (!now.delete(label)) now.add(label);
            brush(this.reference, now.size ? {labels: [...now]} : null, true);
          });
        }
        this.rows.set(label, {row, track, figures, i});
        this.list.append(row);
      });
    }
    draw() {
      if (!this.drawable(this.data?.labels && !this.data.labels.length ? "No subject has a value." : "")) return;
      const sets = this.sets(), labels = brushes.get(this.reference)?.labels ?? [];
      const size = (s, k) => kept.shares ? (s.known ? k / s.known : 0) : k;
      const most = Math.max(...sets.flatMap(s => s.counts.bins.map(k => size(s, k)))) || 1;
      const least = kept.shares ? 0.7 / Math.max(...sets.map(s => s.known), 1) : 0.7;
      for (const [label, {row, track, figures, i}] of this.rows) {
        track.replaceChildren(...sets.map(s => {
          const v = size(s, s.counts.bins[i]), bar = make("i");
          bar.style.width = `${100 * (v <= 0 ? 0 : kept.logCounts ? Math.log(v / least) / Math.log(most / least) : v / most)}%`;
          bar.style.background = `var(${s.color})`;
          return bar;
        }));
        const shown = sets[1] ?? sets[0], k = shown.counts.bins[i];
        figures.textContent = kept.shares ? percent(shown.known ? k / shown.known : 0) : whole(k);
        row.title = sets.map(s => `${whole(s.counts.bins[i])} of ${whole(s.known)} ${s.name}`).join("\n");
        if (row.tagName === "BUTTON") {
          row.setAttribute("aria-pressed", labels.includes(label));
          row.setAttribute("aria-label", `${label}: ${sets.map(s => `${whole(s.counts.bins[i])} of ${whole(s.known)} ${s.name}`).join(", ")}`);
        }
      }
    }
  }

  // ---------------------------------------------------------------------------------------------------- the rest
  let queued = false;
  function draw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => { queued = false; if (model.shown) cells.forEach(cell => cell.draw()); });
  }
  function head() {
    const k = model.n_selected, b = make("b", {}, whole(k || model.total));
    count.replaceChildren(...(k ? [b, ` selected of ${whole(model.total)}`] : ["all ", b, " subjects"]));
    inView.disabled = !model.map_id;
  }
  const watcher = new ResizeObserver(draw);
  const dressed = new MutationObserver(draw);  // light or dark
  dressed.observe(document.documentElement, {attributes: true, attributeFilter: ["data-theme"]});

  model.on(["offered", "first"], arrange);
  model.on(["selection_id", "run_id", "lambda_", "lambda_mode", "map_id"], refresh);
  model.on(["plane", "view"], () => { if (kept.seen) refresh(); });
  model.on("wanted", want);
  model.on("n_selected", head);
  model.on("gates", adopt);
  model.on("answered", () => { flush(); adopt(); });
  model.on("said", () => { trouble.textContent = model.said; });
  model.on("shown", () => { if (model.shown) { refresh(); draw(); } });
  model.on("remove", () => { watcher.disconnect(); dressed.disconnect(); });
  head();
  adopt();
  arrange();
  want();
}
