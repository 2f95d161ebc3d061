// Four linked plots of the boundary at work: precision and recall against a lower limit, against each other, against Σ of the
// truth, and what is found against what is looked at. A click, a drag or an arrow key on a curve sets the threshold, Σ or the
// hours; a threshold that moves elsewhere moves its dot at once, and the curves are read anew when it rests. Curves come from
// /boundary/curves, /boundary/budget and /boundary/follows, the newest question wins.
const QUIET = 260;       // ms that the draft rests before its curves are read anew
const SETTLE = 500;      // ms after the last arrow key that end its gesture
const PATIENCE = 4000;   // ms until a message without an answer is given up
const BOX = {left: 31, right: 9, top: 8, bottom: 32};
const REACH = 40;        // px: farther from every curve is on none

// of scores and classifiers: as the map's categories, darker on a light ground
const HUES = {
  dark: ["#56b4e9", "#cc79a7", "#f0e442", "#aa8de0", "#d55e00", "#44aa99"],
  light: ["#0067a3", "#a8437d", "#6f6412", "#6546b8", "#b84300", "#1f7a6d"],
};

const whole = n => Math.round(n).toLocaleString("en");
const brief = n => n >= 1e6 ? `${Number((n / 1e6).toPrecision(3))} M` : n >= 1e4 ? `${Number((n / 1e3).toPrecision(3))} k` : whole(n);
const told = v => {
  if (v === null || v === undefined || !Number.isFinite(v)) return "–";
  const size = Math.abs(v);
  if (v !== 0 && (size >= 1e6 || size < 1e-3)) return v.toExponential(2).replace("e+", "e");
  return Number(v.toPrecision(4)).toLocaleString("en", {maximumFractionDigits: 6}).replace("-", "−");
};
const share = v => v === null || v === undefined || !Number.isFinite(v) ? "–" : v.toFixed(3).replace(/^(-?)0\./, "$1.").replace("-", "−");
const hours_of = h => `${h >= 100 ? whole(h) : Number(h.toPrecision(3))} h`;
const sentence = text => text ? text[0].toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? "" : ".") : "";
const is_number = v => typeof v === "number" && Number.isFinite(v);

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value; else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Wilson's 95 % interval of k of n. */
function wilson(k, n) {
  if (!n) return null;
  const z = 1.959963984540054, p = k / n, d = 1 + z * z / n, middle = (p + z * z / (2 * n)) / d;
  const half = z * Math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / d;
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}
const rated = (name, k, n) => {
  const around = wilson(k, n);
  return around ? `${name} ${share(k / n)} = ${whole(k)} of ${whole(n)} [${share(around[0])}, ${share(around[1])}]` : `${name} –`;
};

function ticks(low, high, n) {
  const rough = (high - low) / Math.max(1, n), base = 10 ** Math.floor(Math.log10(rough)), step = base * [1, 2, 5, 10].find(m => m * base >= rough * 0.999);
  const found = [];
  if (step > 0 && Number.isFinite(step)) for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(10)));
  return found;
}
const SUPER = [..."⁰¹²³⁴⁵⁶⁷⁸⁹"];
const power = k => k === 0 ? "1" : k === 1 ? "10" : `10${k < 0 ? "⁻" : ""}${[...String(Math.abs(k))].map(d => SUPER[d]).join("")}`;
function decades(low, high, n) {
  const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
  if (last - first < 1) return [1, 2, 5].flatMap(m => [first - 1, first].map(k => Number((m * 10 ** k).toPrecision(3)))).filter(v => v >= low && v <= high).sort((a, b) => a - b);
  const every = Math.max(1, Math.ceil((last - first + 1) / n)), found = [];
  for (let k = first; k <= last; k += every) found.push(10 ** k);
  return found;
}
const tick = (v, log) => log && Number.isInteger(Math.log10(v)) && (v >= 1e4 || v < 1e-2) ? power(Math.round(Math.log10(v)))
  : Math.abs(v) >= 1e4 ? brief(v).replace(" ", "") : v === 0 ? "0" : Math.abs(v) < 1e-3 ? v.toExponential(0) : String(Number(v.toPrecision(4))).replace(/^(-?)0\./, "$1.").replace("-", "−");

/** Where a value stands among ascending or descending numbers, as a fraction of an index; null without any. */
function index_of(values, value) {
  if (!values?.length || !is_number(value)) return null;
  const last = values.length - 1, up = values[last] >= values[0];
  const beyond = up ? v => v >= value : v => v <= value;
  if (beyond(values[0])) return 0;
  if (!beyond(values[last])) return last;
  let a = 0, b = last;
  while (b - a > 1) { const m = (a + b) >> 1; if (beyond(values[m])) b = m; else a = m; }
  return values[b] === values[a] ? b : a + (value - values[a]) / (values[b] - values[a]);
}
const between = (values, at) => {
  if (at === null || !values?.length) return null;
  const a = Math.floor(at), b = Math.min(values.length - 1, a + 1);
  if (!is_number(values[a])) return is_number(values[b]) && at > a ? values[b] : null;
  return is_number(values[b]) ? values[a] + (at - a) * (values[b] - values[a]) : values[a];
};
const span_of = lists => {
  let low = Infinity, high = -Infinity;
  for (const list of lists) for (const v of list ?? []) if (is_number(v)) { if (v < low) low = v; if (v > high) high = v; }
  return low <= high ? [low, high] : null;
};

export function render({model, el}) {
  // ------------------------------------------------------------------------------------------- what a person did
  const waiting = new Map();  // kind → the newest of what was done
  let sent = 0, local = {};  // when the last message went; where the dots stand until the session answers
  const is_told = () => !waiting.size && !sent;
  const tell = () => {
    if (!waiting.size || Date.now() - sent < PATIENCE) return;
    const [kind, message] = waiting.entries().next().value;
    waiting.delete(kind);
    sent = Date.now();
    model.send_msg(message);
  };
  const send = message => {
    waiting.set(Object.keys(message)[0], message);
    tell();
    draw();
  };
  model.on("answered", () => {
    sent = 0;
    tell();
    if (is_told() && !dragging) local = local.hours === undefined ? {} : {hours: local.hours};  // those come with the numbers
    trouble.textContent = sentence(model.said);
    draw();
  });
  let dragging = false;

  /** The limit on a score: what a person points at, else the draft's; undefined where neither knows of one. */
  const limit_of = reference => local.limit?.reference === reference ? local.limit.value : model.at.limits?.[reference];
  const sigma_now = () => local.sigma ?? model.at.sigma ?? curves?.sigma?.at ?? null;
  /** Images that are looked at: of the curve where it is this draft's, else what was counted while a limit moved. */
  const images_now = () => {
    const each = hours_each();
    if (is_number(local.hours) && each) return local.hours / each;
    return (budget_of === model.draft_id ? budget?.at?.images : model.at.images ?? budget?.at?.images) ?? null;
  };
  const hours_each = () => {  // hours an image takes all graders
    const seconds = model.at.seconds ?? budget?.seconds, graders = model.at.graders ?? budget?.graders;
    return seconds > 0 && graders > 0 ? seconds * graders / 3600 : null;
  };

  // --------------------------------------------------------------------------------------------------------- head
  let curves = null, budget = null, budget_of = "", follows = null, part = "curves", chosen = "", along = "", large = "", log_budget = true;
  const button = (text, title, run, name = "") => {
    const e = make("button", {type: "button", title, className: name}, text);
    e.addEventListener("click", run);
    return e;
  };
  const parts = {curves: "Curves", follows: "What it follows"};
  const segments = make("div", {className: "segments", role: "group", "aria-label": "What is shown"}, ...Object.entries(parts).map(([name, text]) => {
    const e = button(text, name === "curves" ? "Precision, recall and cost of the boundary" : "Which columns each score, and the boundary, goes along with", () => { part = name; arrange(); });
    e.dataset.part = name;
    return e;
  }));
  const truth = make("span", {className: "truth"}), badge = make("span", {className: "badge", textContent: "circular"}), trouble = make("span", {className: "trouble", role: "status"});
  const votes = make("input", {type: "range", min: 1, step: 1, "aria-label": "Votes counted of each subject"}), votes_said = make("b");
  const votes_box = make("label", {className: "votes", title: "Retirement limit: only the first so many votes of each subject are counted in the truth"}, make("span", {textContent: "Votes"}), votes, votes_said);
  const tell_votes = () => {
    const all = Number(votes.value) >= Number(votes.max);
    votes_said.textContent = all ? "all" : `first ${votes.value}`;
    votes.setAttribute("aria-valuetext", all ? "all votes" : `the first ${votes.value} votes`);
  };
  let sliding = false;
  votes.addEventListener("input", () => { sliding = true; tell_votes(); send({votes: Number(votes.value), settled: false}); });
  votes.addEventListener("change", () => { sliding = false; send({votes: Number(votes.value), settled: true}); });
  const again = button("Fit again within", "Fit another classifier within what the boundary keeps now, and keep what both keep: anomalies iterated", () => send({act: "refit"}), "again");
  const forget = window.voorwerp?.commands?.add({id: "boundary-refit", title: "Fit again within what is kept", group: "Boundary", when: () => model.shown && model.can_refit && !model.busy, run: () => send({act: "refit"})});
  const lambda = button("λ", "λ is mixed in the left column: go to its slider", () => {
    const find = root => {
      const found = root.querySelector(".steering .lambda input");
      if (found) return found;
      for (const e of root.querySelectorAll("*")) { const deep = e.shadowRoot && find(e.shadowRoot); if (deep) return deep; }
      return null;
    };
    const slider = find(document);
    slider?.scrollIntoView({block: "center"});
    slider?.focus();
  }, "lambda");
  const bar = make("div", {className: "bar"}, segments, truth, badge, trouble, votes_box, again, lambda);

  // -------------------------------------------------------------------------------------------------------- plots
  const colors = {};
  const root = make("div", {className: "curves"});
  const card = make("div", {className: "card", hidden: true});
  const score = make("select", {"aria-label": "Score that the lower limit is on"});
  score.addEventListener("change", () => { chosen = along = score.value; draw(); refresh(0); });

  class Plot {
    /** `scene()` says what is drawn, or a sentence; `set(point, settled)` what a place on it means; see `paint`. */
    constructor(name, title, {extra = [], label, scene, tell, set, step}) {
      Object.assign(this, {name, label, scene, tell, set, step, over: null});
      this.heading = make("h3", {textContent: title});
      this.grow = button("⤢", `Enlarge ${title.toLowerCase()}`, () => { large = large === name ? "" : name; arrange(); }, "grow");
      this.canvas = make("canvas", {"aria-hidden": "true"});
      this.said = make("p", {className: "said", hidden: true});
      this.handle = make("div", {className: "plot", tabIndex: 0, role: "slider", "aria-label": title, "aria-valuemin": 0, "aria-valuemax": 1, "aria-valuenow": 0}, this.canvas, this.said);
      this.root = make("figure", {}, make("figcaption", {}, this.heading, ...extra, this.grow), this.handle);
      this.root.dataset.plot = name;
      const place = e => { const b = this.canvas.getBoundingClientRect(); return [e.clientX - b.left, e.clientY - b.top]; };
      this.handle.addEventListener("pointerdown", e => {
        if (e.button || !this.drawn) return;
        this.handle.setPointerCapture(e.pointerId);
        dragging = true;
        this.pressed = null;
        this.point(...place(e));
        this.press(...place(e), false);
      });
      this.handle.addEventListener("pointermove", e => {
        if (!this.drawn) return;
        this.point(...place(e));
        if (dragging && this.handle.hasPointerCapture(e.pointerId)) this.press(...place(e), false);
      });
      this.handle.addEventListener("pointerup", e => {
        if (!dragging) return;
        dragging = false;
        this.press(...place(e), true);
        refresh(QUIET);
      });
      this.handle.addEventListener("pointercancel", () => {
        if (!dragging) return;
        dragging = false;
        if (this.pressed) this.set(this.pressed, true);
        refresh(QUIET);
      });
      this.handle.addEventListener("pointerleave", () => { this.over = null; card.hidden = true; this.draw(); });
      this.handle.addEventListener("blur", () => this.end());
      this.handle.addEventListener("keydown", e => {
        const by = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -Infinity, End: Infinity}[e.key];
        if (by === undefined || !this.drawn || e.ctrlKey || e.metaKey || e.altKey) return;
        e.preventDefault();
        e.stopPropagation();
        const to = this.step(by, e.key === "ArrowUp" ? -1 : e.key === "ArrowDown" ? 1 : 0);
        if (to === null || to === undefined) return;
        this.set(to, false);
        this.moved = to;
        clearTimeout(this.timer);
        this.timer = setTimeout(() => this.end(), SETTLE);
      });
    }
    /** The keys rest: what they did is one step of undo. */
    end() {
      clearTimeout(this.timer);
      if (this.moved === undefined || this.moved === null) return;
      this.set(this.moved, true);
      this.moved = null;
    }
    say(text, bad = false) {
      this.said.textContent = text;
      this.said.hidden = !text;
      this.said.classList.toggle("bad", bad);
      this.canvas.hidden = Boolean(text);
      if (text) { this.drawn = null; this.handle.setAttribute("aria-valuetext", text); }
      this.handle.setAttribute("aria-disabled", Boolean(text));
    }
    press(x, y, settled) {
      const at = this.nearest(x, y) ?? (settled ? this.pressed : null);  // let go off the curves: where it was last
      if (at) this.set(this.pressed = at, settled);
    }
    /** The point of the curves that is meant at a place: by its x, or by distance where curves are no functions of x. */
    nearest(px, py) {
      const {x, y, series, free, grid} = this.drawn ?? {};
      if (!x) return null;
      if (!free) {
        const at = x.back(px), digit = 10 ** Math.floor(Math.log10(Math.abs(x.back(px + 1) - x.back(px - 1)) || 1));
        const v = Number((Math.round(at / digit) * digit).toPrecision(12));
        return {x: v, i: grid ? index_of(grid, v) : null};
      }
      let best = null, least = REACH * REACH;
      for (const s of series) {
        if (!s.live) continue;
        s.x.forEach((v, i) => {
          if (!is_number(v) || !is_number(s.y[i]) || !is_number(s.e.threshold[i])) return;
          const d = (x(v) - px) ** 2 + (y(s.y[i]) - py) ** 2;
          if (d < least) { least = d; best = {s, i, x: v}; }
        });
      }
      return best;
    }
    point(px, py) {
      this.over = this.nearest(px, py);
      this.draw();
      const lines = this.over && this.tell(this.over);
      card.hidden = !lines;
      if (!lines) return;
      card.replaceChildren(...lines.map((line, i) => {
        const [text, color] = [line].flat(), e = make(i ? "span" : "b", {}, text);
        if (color) e.style.borderColor = color;
        e.classList.toggle("keyed", Boolean(color));
        return e;
      }));
      const home = root.getBoundingClientRect(), mine = this.canvas.getBoundingClientRect();
      const x = mine.left - home.left + px, y = mine.top - home.top + py, {offsetWidth: wide, offsetHeight: tall} = card;
      card.style.left = `${x + 14 + wide < home.width - 4 ? x + 14 : Math.max(4, x - 14 - wide)}px`;
      card.style.top = `${Math.max(4, Math.min(home.height - tall - 4, y - tall / 2))}px`;
    }
    draw() {
      const {canvas} = this, ratio = window.devicePixelRatio || 1;
      const scene = this.scene();
      if (typeof scene === "string" || scene.error) return this.say(scene.error ?? scene, Boolean(scene.error));
      this.say("");
      const w = this.handle.clientWidth, h = this.handle.clientHeight;
      if (w < 70 || h < 60) return;
      if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) Object.assign(canvas, {width: Math.round(w * ratio), height: Math.round(h * ratio)});
      const pen = canvas.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      pen.clearRect(0, 0, w, h);
      this.drawn = paint(pen, w, h, scene, this.over);
      this.handle.setAttribute("aria-label", scene.label);
      this.handle.setAttribute("aria-valuetext", scene.words);
      const value = is_number(scene.value) ? scene.value : scene.across.low;
      for (const [name, v] of [["min", scene.across.low], ["max", scene.across.high], ["now", value]]) this.handle.setAttribute(`aria-value${name}`, v);
    }
  }

  /** A curve's name as it stands in a legend: a piece of its line before it. */
  const KEY = 15;
  /** Names in rows as wide as there is room: [[{s, at}, …], …]. */
  const rowed = (pen, named, room) => {
    const rows = [[]];
    let at = 0;
    for (const s of named) {
      const wide = KEY + pen.measureText(s.name).width + 8;
      if (at && at + wide - 8 > room) { rows.push([]); at = 0; }
      rows.at(-1).push({s, at});
      at += wide;
    }
    return rows;
  };
  function paint(pen, w, h, scene, over, has_legend = false) {
    const {across, up, series, second} = scene;
    pen.font = `10px ${getComputedStyle(root).fontFamily}`;
    const marks_up = (up.log ? decades(up.low, up.high, 4) : ticks(up.low, up.high, Math.max(2, Math.min(5, h / 42)))).map(v => [v, tick(v, up.log)]);
    const listed = has_legend ? rowed(pen, series.filter(s => s.name), w - 8) : [], above = listed.length ? 12 * listed.length + 3 : 0;
    const box = {x0: Math.max(BOX.left, 21 + Math.max(...marks_up.map(([, t]) => pen.measureText(t).width))), x1: w - BOX.right, y0: h - BOX.bottom, y1: BOX.top + (second ? 22 : 0) + above};
    const scale = (a, from, to) => {
      const f = a.log ? Math.log : v => v, g = a.log ? Math.exp : v => v, low = f(a.low), size = f(a.high) - low || 1;
      return Object.assign(v => from + (to - from) * (f(a.log ? Math.max(v, a.low) : v) - low) / size, {back: p => g(low + size * Math.min(1, Math.max(0, (p - from) / (to - from)))), from: Math.min(from, to), to: Math.max(from, to)});
    };
    const x = scale(across, box.x0, box.x1), y = scale(up, box.y0, box.y1);

    // axes
    pen.lineWidth = 1;
    pen.strokeStyle = colors.line;
    pen.fillStyle = colors.quiet;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const [v, text] of marks_up) {
      const at = Math.round(y(v)) + 0.5;
      pen.beginPath(); pen.moveTo(box.x0, at); pen.lineTo(box.x1, at); pen.stroke();
      pen.fillText(text, box.x0 - 4, at);
    }
    pen.textBaseline = "alphabetic";
    pen.textAlign = "center";
    const label_axis = (a, at_y, side, of) => {
      let free = -Infinity;
      for (const v of a.log ? decades(a.low, a.high, (box.x1 - box.x0) / 34) : ticks(a.low, a.high, Math.max(2, Math.min(6, (box.x1 - box.x0) / 44)))) {
        const text = tick(v, a.log), px = of(v), wide = pen.measureText(text).width, at = Math.min(w - wide / 2 - 1, px);
        pen.beginPath(); pen.moveTo(Math.round(px) + 0.5, at_y); pen.lineTo(Math.round(px) + 0.5, at_y + 3 * side); pen.stroke();
        if (at - wide / 2 < free) continue;
        free = at + wide / 2 + 6;
        pen.fillText(text, at, side > 0 ? at_y + 13 : at_y - 5);
      }
    };
    label_axis(across, box.y0, 1, x);
    const fitted = (text, room) => { while (text.length > 4 && pen.measureText(text).width > room) text = `${text.slice(0, -2).trimEnd()}…`; return text; };
    pen.fillText(fitted(across.title, w - 6), Math.min(w - 3 - pen.measureText(fitted(across.title, w - 6)).width / 2, (box.x0 + box.x1) / 2), h - 5);
    if (second) {
      label_axis({...across, low: across.low * second.factor, high: across.high * second.factor}, box.y1, -1, v => x(v / second.factor));
      pen.textAlign = "right";
      pen.fillText(second.title, box.x1, box.y1 - 18);
      pen.textAlign = "center";
    }
    if (up.title) {
      pen.save();
      pen.translate(9, (box.y0 + box.y1) / 2);
      pen.rotate(-Math.PI / 2);
      pen.fillText(fitted(up.title, box.y0 - box.y1 + 20), 0, 0);
      pen.restore();
    }

    // curves
    pen.save();
    pen.beginPath();
    pen.rect(box.x0, box.y1 - 2, box.x1 - box.x0 + 1, box.y0 - box.y1 + 4);
    pen.clip();
    pen.lineJoin = "round";
    for (const s of series) {
      if (!s.low) continue;
      pen.beginPath();
      const there = s.x.map((v, i) => i).filter(i => is_number(s.low[i]) && is_number(s.high[i]));
      there.forEach((i, k) => k ? pen.lineTo(x(s.x[i]), y(s.high[i])) : pen.moveTo(x(s.x[i]), y(s.high[i])));
      for (const i of there.toReversed()) pen.lineTo(x(s.x[i]), y(s.low[i]));
      pen.closePath();
      pen.globalAlpha = s.width === 2 ? 0.18 : 0.09;
      pen.fillStyle = s.color;
      pen.fill();
      pen.globalAlpha = 1;
    }
    for (const s of series) {
      pen.strokeStyle = s.color;
      pen.lineWidth = s.width ?? 1.6;
      pen.setLineDash(s.dash ?? []);
      pen.globalAlpha = over?.s && over.s.key !== s.key && s.live ? 0.35 : 1;
      pen.beginPath();
      let on = false;
      s.x.forEach((v, i) => {
        if (!is_number(v) || !is_number(s.y[i])) { on = false; return; }
        if (on) pen.lineTo(x(v), y(s.y[i])); else pen.moveTo(x(v), y(s.y[i]));
        on = true;
      });
      pen.stroke();
    }
    pen.setLineDash([]);
    pen.globalAlpha = 1;
    if (is_number(scene.mark)) {
      const at = Math.round(x(scene.mark)) + 0.5;
      pen.strokeStyle = colors.ink;
      pen.lineWidth = 1;
      pen.globalAlpha = 0.75;
      pen.beginPath(); pen.moveTo(at, box.y1); pen.lineTo(at, box.y0); pen.stroke();
      pen.globalAlpha = 1;
    }
    if (over && !scene.free) {
      const at = Math.round(x(over.x)) + 0.5;
      pen.strokeStyle = colors.quiet;
      pen.setLineDash([2, 3]);
      pen.beginPath(); pen.moveTo(at, box.y1); pen.lineTo(at, box.y0); pen.stroke();
      pen.setLineDash([]);
    }
    pen.restore();

    // names beside the curves, where these are farthest apart
    pen.textBaseline = "middle";
    const named = series.filter(s => s.name);
    const cuts = [];
    for (let px = box.x0 + 26; px <= box.x1 - 14; px += Math.max(6, (box.x1 - box.x0) / 24)) {
      const heights = named.map(s => height_at(s, px, x, y));
      const there = heights.filter(v => v !== null).sort((a, b) => a - b);
      const gap = Math.min(14, ...there.slice(1).map((v, i) => v - there[i]));
      const flat = there.length ? Math.min(8, box.y0 - Math.max(...there)) : 0;
      const near = [...is_number(scene.mark) ? [x(scene.mark)] : [], ...(scene.dots ?? []).map(d => x(d.x))].some(v => Math.abs(v - px) < 22);
      cuts.push({px, heights, worth: there.length * 40 + gap * 2 + flat * 0.5 - (near ? 14 : 0)});
    }
    const cut = cuts.reduce((a, b) => b.worth > a.worth + 0.01 ? b : a, {worth: -1, heights: [], px: box.x0});
    const tags = named.map((s, i) => ({s, y: cut.heights[i]})).filter(t => t.y !== null && t.y !== undefined).sort((a, b) => a.y - b.y);
    tags.forEach(t => { t.at = t.y - 7; });
    for (let round = 0; round < 8; round++) tags.forEach((t, i) => { if (i && t.at - tags[i - 1].at < 11.5) { const push = (11.5 - (t.at - tags[i - 1].at)) / 2; tags[i - 1].at -= push; t.at += push; } });
    const over_top = Math.max(0, box.y1 + 5 - (tags[0]?.at ?? Infinity)), below = Math.max(0, (tags.at(-1)?.at ?? -Infinity) - (box.y0 - 6));
    tags.forEach(t => { t.at += over_top - below; });
    pen.textAlign = "left";
    for (const t of tags) {
      const wide = pen.measureText(t.s.name).width;
      t.px = Math.max(box.x0 + 3, Math.min(box.x1 - wide - 1, cut.px - wide / 2));
      t.wide = wide;
      let met = 0, n = 0;
      for (let px = t.px; px <= t.px + wide; px += 4, n++) if (series.some(s => { const py = height_at(s, px, x, y); return py !== null && Math.abs(py - t.at) < 5; })) met++;
      t.is_crossed = met > 0.34 * n;
    }
    const has_room = tags.length === named.length && tags.every(t => !t.is_crossed && Math.abs(t.at + 7 - t.y) <= 9);
    const rows = has_legend || has_room ? 0 : rowed(pen, named, w - 8).length;
    if (rows && box.y0 - box.y1 - 12 * rows > 52) {  // no room beside the lines: in rows above them
      pen.clearRect(0, 0, w, h);
      return paint(pen, w, h, scene, over, true);
    }
    listed.forEach((row, i) => row.forEach(({s, at}) => {
      const py = 7 + 12 * i, left = 4 + at;
      pen.strokeStyle = pen.fillStyle = s.color;
      pen.lineWidth = 2;
      pen.setLineDash(s.dash?.length ? [3, 2] : []);
      pen.beginPath(); pen.moveTo(left, py); pen.lineTo(left + 11, py); pen.stroke();
      pen.setLineDash([]);
      pen.fillText(s.name, left + KEY, py);
    }));
    if (has_room && !has_legend) {  // else the card says which is which
      for (const t of tags) {
        pen.strokeStyle = colors.panel;
        pen.lineWidth = 3.5;
        pen.lineJoin = "round";
        pen.strokeText(t.s.name, t.px, t.at);
        pen.fillStyle = t.s.color;
        pen.fillText(t.s.name, t.px, t.at);
      }
    }

    // dots where the thresholds are, and where the pointer is
    const dot = (px, py, color, full) => {
      if (py === null || !(px >= box.x0 - 1 && px <= box.x1 + 1)) return;
      pen.beginPath();
      pen.arc(px, Math.min(box.y0, Math.max(box.y1 - 1, py)), full ? 4.5 : 3, 0, 7);
      pen.fillStyle = full ? color : colors.panel;
      pen.strokeStyle = full ? colors.panel : color;
      pen.lineWidth = 1.5;
      pen.fill();
      pen.stroke();
    };
    if (over?.s && over.s.live) dot(x(over.s.x[over.i]), y(over.s.y[over.i]), over.s.color, false);
    else if (over) for (const s of series) if (s.dots !== false) dot(x(over.x), height_at(s, x(over.x), x, y), s.color, false);
    for (const d of scene.dots ?? []) if (is_number(d.x) && is_number(d.y)) dot(x(d.x), y(d.y), d.color, true);
    return {x, y, series, free: scene.free, grid: scene.grid};
  }
  /** Height of a curve at a pixel, for curves that run along x; null where it does not reach. */
  function height_at(s, px, x, y) {
    const xs = s.x, n = xs.length;
    for (let i = 1; i < n; i++) {
      const a = xs[i - 1], b = xs[i];
      if (!is_number(a) || !is_number(b) || !is_number(s.y[i - 1]) || !is_number(s.y[i])) continue;
      const pa = x(a), pb = x(b);
      if (px < Math.min(pa, pb) || px > Math.max(pa, pb)) continue;
      return y(pa === pb ? s.y[i] : s.y[i - 1] + (s.y[i] - s.y[i - 1]) * (px - pa) / (pb - pa));
    }
    return null;
  }

  const SHARES = {low: 0, high: 1};
  const asked_for = () => curves?.error ?? "";
  const reading = "Reading …";
  const none = what => !model.draft_id ? "" : curves === null ? reading : asked_for() ? "" : what;
  const short = title => title.replace(/ score$/i, "");
  const hue = i => colors.hues[i % colors.hues.length];
  /** A curve's color follows its title through all plots. */
  const hue_of = new Map();
  const color_of = ({title, kind, reference}) => {
    if (kind === "random") return colors.quiet;
    if (reference === "draft" || reference === "boundary") return colors.ink;
    const known = model.scores.findIndex(s => s.title === title || s.reference === reference);
    const key = known >= 0 ? `score ${known}` : title;
    if (!hue_of.has(key)) hue_of.set(key, known >= 0 && known < 3 ? known : 3 + [...hue_of.keys()].filter(k => !/^score [012]$/.test(k)).length);
    return hue(hue_of.get(key));
  };
  /** Right ones among those that are judged: of a count and its share. */
  const n_positive = () => {
    const {counts, recall_all} = curves?.limit ?? {}, k = recall_all?.findIndex((r, i) => r > 0 && counts?.tp?.[i] > 0) ?? -1;
    return k < 0 ? null : Math.round(counts.tp[k] / recall_all[k]);
  };
  /** Lines of the hover card: each rate as k of n with its interval, at the told point next to a place. */
  const numbers_at = (data, i, names) => {
    const c = data.counts, k = Math.round(i), all = n_positive();
    const tp = c ? c.tp?.[k] : is_number(data.recall?.[k]) && all !== null ? Math.round(data.recall[k] * all) : null;
    const of = {
      precision: () => [tp, c ? tp + c.fp[k] : Math.round(tp / data.precision[k])],
      recall: () => [tp, c ? tp + c.fn[k] : all],
      recall_all: () => [tp, all],
    };
    return names.map(([name, text, color]) => {
      const pair = is_number(tp) && of[name]?.();
      if (pair && pair.every(is_number)) return [rated(text, ...pair), color];
      const v = between(data[name], i), low = data[`${name}_low`]?.[k], high = data[`${name}_high`]?.[k];
      return [`${text} ${share(v)}${is_number(low) ? ` [${share(low)}, ${share(high)}]` : ""}`, color];
    });
  };

  // (a) a lower limit on a score
  const is_log = (lists) => { const s = span_of(lists); return s && s[0] > 0 && s[1] / s[0] > 60; };
  const limit_names = () => [["precision", "precision", colors.precision], ["recall", "recall of those above the floor", colors.recall], ["recall_all", "recall of all", colors.recall], ["f1", "F1", colors.f1]];
  /** Of the chosen score; where the server told another's, what stands on the curve of precision and recall. */
  const limit_data = () => {
    const told = curves?.limit ?? null;
    if (!chosen || told?.reference === chosen) return told;
    const e = curves?.pr?.find(c => c.reference === chosen && c.threshold?.length);
    if (!e) return told;
    const f1 = e.precision.map((p, i) => { const r = e.recall[i]; return is_number(p) && is_number(r) ? (p + r ? 2 * p * r / (p + r) : 0) : null; });
    return {title: e.title, reference: e.reference, x: e.threshold, precision: e.precision, recall_all: e.recall, f1, at: null, counts: e.counts};
  };
  const limit_plot = new Plot("limit", "Limit on", {
    extra: [score],
    scene: () => {
      const d = limit_data();
      if (!d) return none("No score can be cut here: train a run, or choose one above.");
      const span = span_of([d.x]);
      if (!span || span[0] === span[1]) return `${d.title} has no two different values among those judged.`;
      const log = is_log([d.x]), at = limit_now(d), i = index_of(d.x, at);
      const series = [["precision", "P", [], 1.6], ["recall", "R", [], 1.6], ["recall_all", "R of all", [3, 3], 1.4], ["f1", "F1", [], 1.3]].filter(([n]) => d[n])
        .map(([n, name, dash, width]) => ({key: n, x: d.x, y: d[n], name, dash, width, color: limit_names().find(m => m[0] === n)[2]}));
      const same = d.recall && d.recall_all && d.recall.every((v, k) => v === d.recall_all[k] || Math.abs(v - d.recall_all[k]) < 1e-9);
      const shown = same ? series.filter(s => s.key !== "recall_all") : series;
      return {across: {low: span[0], high: span[1], log, title: `${d.title} ≥`}, up: {...SHARES, title: "share"}, series: shown, grid: d.x, mark: at,
        dots: i === null ? [] : shown.map(s => ({x: Math.min(span[1], Math.max(span[0], at)), y: between(s.y, i), color: s.color})),
        label: `Precision, recall and F1 against a lower limit on ${d.title}`, value: at,
        words: i === null ? "no limit" : `at least ${told(at)}: precision ${share(between(d.precision, i))}, recall ${share(between(d.recall_all ?? d.recall, i))}`};
    },
    tell: ({x, i}) => [`${limit_data().title} ≥ ${told(x)}`, ...numbers_at(limit_data(), i, limit_names().filter(([n]) => limit_data()[n]))],
    set: ({x}, settled) => set_limit(limit_data().reference, x, settled),
    step: by => {
      const d = limit_data(), i = index_of(d.x, limit_now(d)) ?? (by > 0 ? -1 : d.x.length);
      return {x: d.x[Math.min(d.x.length - 1, Math.max(0, by > 0 ? Math.floor(i + 1e-6) + by : Math.ceil(i - 1e-6) + by))]};
    },
  });
  const limit_now = d => { const v = limit_of(d.reference); return v === undefined ? d.at ?? null : v; };
  const set_limit = (reference, value, settled) => {
    local.limit = {reference, value};
    along = reference;
    send({limit: {reference, value}, settled});
  };

  // (b) precision against recall
  const where = e => {
    const v = limit_of(e.reference), i = v === undefined || v === null ? null : index_of(e.threshold, v);
    return i === null ? (v === undefined && e.at ? {x: e.at[1], y: e.at[0]} : null) : {x: between(e.recall, i), y: between(e.precision, i)};
  };
  const pr_plot = new Plot("pr", "Precision and recall", {
    scene: () => {
      if (!curves?.pr?.length) return none("No score has values for the subjects of this truth.");
      const series = curves.pr.map(e => ({key: e.reference, e, x: e.recall, y: e.precision, live: e.threshold?.length > 0, name: short(e.title), color: color_of(e), dash: e.circular ? [4, 3] : []}));
      const ceiling = curves.ceiling && {key: "ceiling", x: curves.ceiling.recall, y: curves.ceiling.precision, name: "ceiling", color: colors.quiet, dash: [1, 3], width: 1.4};
      const all = ceiling ? [...series, ceiling] : series, most = span_of(all.map(s => s.y))?.[1] ?? 1;
      const high = most > 0.5 ? 1 : Math.min(1, [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5].find(v => v >= most * 1.1) ?? 1);
      const dots = series.map(s => ({...where(s.e), color: s.color})).filter(d => is_number(d.x));
      if (curves.boundary?.at) dots.push({x: curves.boundary.at[1], y: curves.boundary.at[0], color: colors.ink});
      const now = curves.pr.find(e => e.reference === along) ?? curves.pr[0], v = limit_of(now.reference), p = where(now);
      return {across: {...SHARES, title: "recall"}, up: {low: 0, high, title: "precision"}, series: all, free: true, dots,
        label: `Precision against recall: ${curves.pr.map(e => e.title).join(", ")}`, value: p?.x,
        words: p ? `${now.title} at least ${told(v)}: precision ${share(p.y)}, recall ${share(p.x)}` : `${now.title}: no limit`};
    },
    tell: ({s, i}) => {
      const {e} = s;
      return [`${e.title} ≥ ${told(e.threshold[i])}`, ...numbers_at(e, i, [["precision", "precision", s.color], ["recall", "recall", s.color]]),
        ...is_number(e.ap) ? [`average precision ${share(e.ap)}`] : [], ...e.circular ? ["circular: judged against its own truth, not comparable"] : []];
    },
    set: ({s, e, i}, settled) => { const of = s?.e ?? e; along = of.reference; set_limit(of.reference, of.threshold[i], settled); },
    step: (by, other) => {
      const list = curves.pr.filter(e => e.threshold?.length), k = Math.max(0, list.findIndex(e => e.reference === along));
      if (other) { along = list[(k + other + list.length) % list.length]?.reference ?? ""; draw(); return null; }
      const e = list[k], to_right = e.recall.at(-1) >= e.recall[0] ? 1 : -1, last = e.threshold.length - 1;
      const i = index_of(e.threshold, limit_of(e.reference)) ?? (to_right * by > 0 ? -1 : last + 1);
      return {e, i: Math.min(last, Math.max(0, Math.round(i) + to_right * by))};
    },
  });

  // (c) Σ of the truth
  const sigma_names = () => [["precision", "precision", colors.precision], ["recall", "recall", colors.recall], ["kept", "kept", colors.f1]];
  const sigma_plot = new Plot("sigma", "Σ of the truth", {
    scene: () => {
      const d = curves?.sigma;
      if (!d) return none("This truth has no Σ: nothing in it is “at least” a number.");
      const span = span_of([d.x]);
      if (!span || span[0] === span[1]) return "All subjects have one value: there is no other Σ.";
      const at = sigma_now(), i = index_of(d.x, at);
      const series = [["precision", "P"], ["recall", "R"], ["kept", "kept"]].filter(([n]) => d[n]).map(([n, name]) => ({key: n, x: d.x, y: d[n], name, color: sigma_names().find(m => m[0] === n)[2], low: d[`${n}_low`], high: d[`${n}_high`]}));
      return {across: {low: span[0], high: span[1], log: span[1] > 60 && Boolean(is_log([d.x])), title: `Σ: ${model.truth.title || "truth"} ≥`}, up: {...SHARES, title: "share"}, series, grid: d.x, mark: at,
        dots: i === null ? [] : series.map(s => ({x: Math.min(span[1], Math.max(span[0], at)), y: between(s.y, i), color: s.color})),
        label: "Precision, recall and kept fraction against the Σ of the truth", value: at,
        words: i === null ? "no Σ" : `Σ ${told(at)}: precision ${share(between(d.precision, i))}, recall ${share(between(d.recall, i))}, kept ${share(between(d.kept, i))}`};
    },
    tell: ({x, i}) => [`Σ ${told(x)}`, ...numbers_at(curves.sigma, i, sigma_names().filter(([n]) => curves.sigma[n]))],
    set: ({x}, settled) => { local.sigma = x; send({sigma: x, settled}); },
    step: by => { const d = curves.sigma, i = index_of(d.x, sigma_now()) ?? 0; return {x: d.x[Math.min(d.x.length - 1, Math.max(0, by > 0 ? Math.floor(i + 1e-6) + by : Math.ceil(i - 1e-6) + by))]}; },
  });

  // (d) what is found against what is looked at
  const log_button = button("log", "A logarithmic scale of images", () => { log_budget = !log_budget; draw(); }, "log");
  const scaled = make("span", {className: "scaled"});
  const budget_plot = new Plot("budget", "Budget", {
    extra: [scaled, log_button],
    scene: () => {
      if (budget?.error) return {error: sentence(budget.error)};
      if (!budget?.curves?.length || !budget.looked?.length) return !model.draft_id || asked_for() ? "" : budget === null ? reading : "Nothing can be looked at: no subject has a score.";
      const looked = budget.looked, each = hours_each();
      scaled.title = budget.n ? `Scaled to all ${whole(budget.n)}` : "";
      scaled.textContent = !budget.n ? "" : `${budget_plot.handle.clientWidth < 220 ? "of" : "scaled to"} all ${whole(budget.n)}`;
      const beside = large || budget.curves.length < 5 ? [] : (curves?.pr ?? []).map(e => e.reference);  // named by their colors in the plot beside
      const first = looked.find(v => v > 0) ?? 1;
      const own = c => c.looked ?? looked;
      const series = budget.curves.map((c, k) => ({key: `${k} ${c.title}`, c, x: own(c), y: c.found, low: c.low, high: c.high, name: beside.includes(c.reference) ? "" : short(c.title), color: color_of(c), dash: c.kind === "random" ? [2, 3] : c.circular ? [4, 3] : [], width: c.reference === "draft" ? 2 : 1.5}));
      const most = span_of(series.flatMap(s => [s.y, s.high]))?.[1] ?? 1, at = images_now();
      const low = log_budget ? Math.max(1, first) : 0, high = Math.max(looked.at(-1), low + 1);
      return {across: {low, high, log: log_budget, title: "images looked at"}, up: {low: 0, high: most || 1, title: "interesting found"}, second: each ? {factor: each, title: "hours"} : null, series, grid: looked,
        mark: is_number(at) ? Math.max(low, Math.min(high, at)) : null,
        dots: is_number(at) ? series.map(s => ({x: Math.max(low, Math.min(high, at)), y: between(s.y, index_of(s.x, at)), color: s.color})) : [],
        label: "Interesting subjects found against images looked at", value: at,
        words: is_number(at) ? `${whole(at)} images${each ? `, ${hours_of(at * each)}` : ""}: ${series.map(s => `${s.c.title} finds ${whole(between(s.y, index_of(s.x, at)) ?? 0)}`).join(", ")}` : "nothing looked at"};
    },
    tell: ({x}) => {
      const each = hours_each();
      const lines = budget.curves.map(c => {
        const i = index_of(c.looked ?? budget.looked, x), low = between(c.low, i), high = between(c.high, i), found = between(c.found, i);
        return {found, line: [`${c.title}: ${is_number(found) ? Number(found.toPrecision(4)).toLocaleString("en") : "–"} found${is_number(low) ? ` [${told(low)}, ${told(high)}]` : ""}`, color_of(c)]};
      });
      lines.sort((a, b) => (b.found ?? -1) - (a.found ?? -1));
      return [`${whole(x)} images${each ? `, ${hours_of(x * each)}` : ""}`, ...lines.map(l => l.line)];
    },
    set: ({x}, settled) => {
      const each = hours_each();
      if (!each) return;
      local.hours = Math.max(0, x) * each;
      send({hours: local.hours, reference: chosen, settled});
    },
    step: by => { const grid = budget.looked, i = index_of(grid, images_now()) ?? 0; return {x: grid[Math.min(grid.length - 1, Math.max(0, by > 0 ? Math.floor(i + 1e-6) + by : Math.ceil(i - 1e-6) + by))]}; },
  });
  const plots = {limit: limit_plot, pr: pr_plot, sigma: sigma_plot, budget: budget_plot};

  // ----------------------------------------------------------------------------------------------- what it follows
  const of = make("div", {className: "segments", role: "group", "aria-label": "What is correlated"}), list = make("ul", {className: "list"}), list_said = make("p", {className: "said"});
  const follow_box = make("section", {className: "follows"}, make("div", {className: "row head"}, of, make("span", {className: "scale", "aria-hidden": "true"}, ...["−1", "0", "+1"].map(t => make("span", {textContent: t})))), list, list_said);
  let followed = "";
  const track = (rho, low, high) => {
    const at = v => 50 * (v + 1), bar = make("b"), box = make("div", {className: "track"}, bar);
    bar.style.left = `${Math.min(50, at(rho))}%`;
    bar.style.width = `${Math.abs(at(rho) - 50)}%`;
    if (is_number(low)) {
      const whisker = make("i");
      whisker.style.left = `${at(low)}%`;
      whisker.style.width = `${at(high) - at(low)}%`;
      box.append(whisker);
    }
    return box;
  };
  const places = v => v.toFixed(3).replace("-", "−");
  const show_follows = () => {
    const found = follows?.of ?? [];
    list.replaceChildren();
    of.replaceChildren();
    list_said.textContent = follows === null ? reading : follows.error ? sentence(follows.error) : found.length ? "" : "Neither a score nor the boundary has values that differ: there is nothing to correlate.";
    list_said.classList.toggle("bad", Boolean(follows?.error));
    list_said.hidden = !list_said.textContent;
    if (!found.length) return;
    const key = f => f.reference || f.title, now = found.find(f => key(f) === followed) ?? found[0];
    for (const f of found) {
      const e = button(short(f.title), `What ${f.title} goes along with`, () => { followed = key(f); show_follows(); });
      e.setAttribute("aria-pressed", f === now);
      of.append(e);
    }
    list.setAttribute("aria-label", `Rank correlation of ${now.title}`);
    for (const c of now.columns) {
      const title = button(c.title, `Color the map by ${c.title}`, () => send({color: c.reference}), "title");
      const words = [is_number(c.n) ? `n = ${whole(c.n)}` : "", c.same?.length ? `orders the same as ${c.same.join(", ")}` : "", c.said ?? ""].filter(Boolean).join(" · ");
      const row = make("li", {className: "row"}, make("div", {}, title, make("div", {className: "note", textContent: words, title: words})), track(c.rho, c.low, c.high),
        make("div", {className: "value"}, make("strong", {textContent: `${c.rho > 0 ? "+" : ""}${places(c.rho)}`}), make("span", {textContent: is_number(c.low) ? `${places(c.low)} to ${places(c.high)}` : ""})));
      row.classList.toggle("marked", c.is_marked ?? (is_number(c.low) && c.low * c.high > 0));
      list.append(row);
    }
    if (!now.columns.length) list_said.textContent = `No column has numbers that can be ranked beside ${now.title}.`;
    list_said.hidden = !list_said.textContent;
    if (now.columns.length) list.append(make("li", {className: "foot"}, "Spearman's ρ with its 95 % interval, strongest first. A score that follows brightness, size, background or an edge finds these before it finds what is strange.", ...(follows.notes ?? []).map(n => ` ${sentence(n)}`)));
  };

  // ------------------------------------------------------------------------------------------------------- layout
  const grid = make("div", {className: "plots"}, ...Object.values(plots).map(p => p.root));
  const foot = make("p", {className: "notes"});
  const empty_words = make("span"), empty_button = button("Open the Boundary panel", "Open the Boundary panel (Shift B)", () => send({act: "boundary"}));
  const empty = make("div", {className: "empty", hidden: true}, empty_words, empty_button);
  root.append(bar, grid, foot, follow_box, empty, card);
  el.append(root);

  function dress() {
    const hues = HUES[document.documentElement.dataset.theme] ?? HUES.dark, style = getComputedStyle(root), value = name => style.getPropertyValue(name).trim();
    Object.assign(colors, {ink: value("--ink"), quiet: value("--quiet"), line: value("--line"), panel: value("--panel"), precision: value("--accent"), recall: value("--warm"), f1: value("--ink"), hues});
  }

  /** A truth of classes or tags: the other plots have the room. */
  const has_no_sigma = () => Boolean(curves && !curves.error && !curves.sigma);
  function arrange() {
    for (const e of segments.children) e.setAttribute("aria-pressed", e.dataset.part === part);
    const why = !model.draft_id ? (model.trouble || "Choose a truth in the Boundary panel (Shift B): here stand precision and recall against it, what they cost, and what the boundary follows.")
      : part === "curves" && curves?.error ? sentence(curves.error) : "";
    empty.hidden = !why;
    empty_words.textContent = why;
    empty.classList.toggle("bad", Boolean(model.draft_id && why));
    empty_button.textContent = "Open the Boundary panel";
    grid.hidden = part !== "curves" || Boolean(why);
    follow_box.hidden = part !== "follows" || Boolean(why);
    foot.hidden = grid.hidden;
    for (const p of Object.values(plots)) {
      p.root.hidden = large ? large !== p.name : p === sigma_plot && has_no_sigma();
      p.grow.textContent = large ? "⤡" : "⤢";
      p.grow.title = large ? "All plots" : `Enlarge: ${p.heading.textContent.toLowerCase()}`;
      p.grow.setAttribute("aria-label", p.grow.title);
    }
    grid.classList.toggle("one", Boolean(large));
    grid.classList.toggle("three", !large && has_no_sigma());
    head();
    refresh(0);
    draw();
  }

  function head() {
    const {title = "", words = "", circular = [], votes: most = 0, limit = null} = model.truth;
    truth.replaceChildren(...(title ? [make("span", {className: "word"}, "judged against "), make("b", {}, words || title)] : []));
    truth.title = words || title;
    badge.hidden = !circular.length;
    badge.title = circular.length ? `The truth shares ${circular.join(", ")} with what is judged: these figures are no evidence` : "";
    votes_box.hidden = !(most > 1);
    if (most > 1) { votes.max = most; if (!sliding) votes.value = limit ?? most; tell_votes(); }
    again.hidden = !model.can_refit;
    again.disabled = model.busy;
    again.textContent = model.busy ? "Fitting …" : "Fit again within";
    lambda.textContent = `λ ${Number(model.lambda_).toFixed(2)} ←`;
    lambda.hidden = !model.mixes;
    const offered = model.scores;
    if (score.children.length !== offered.length || offered.some((s, i) => score.children[i].value !== s.reference)) score.replaceChildren(...offered.map(s => new Option(short(s.title), s.reference)));
    if (!offered.some(s => s.reference === chosen)) chosen = along = (offered.find(s => s.reference === "scores.feature_score") ?? offered[0])?.reference ?? "";
    score.value = chosen;
    score.disabled = !offered.length;
    const notes = [...new Set([...(budget?.notes ?? []), ...(curves?.notes ?? [])])].map(sentence);
    if (curves?.pr?.some(e => e.circular)) notes.unshift("Dashed: each against its own truth, not comparable.");
    foot.textContent = foot.title = notes.join(" ");
    log_button.setAttribute("aria-pressed", log_budget);
  }

  let queued = false;
  function draw() {
    if (queued) return;
    queued = true;
    requestAnimationFrame(() => {
      queued = false;
      if (!model.shown || grid.hidden) return;
      log_button.setAttribute("aria-pressed", log_budget);
      Object.values(plots).forEach(p => { if (!p.root.hidden) p.draw(); });
    });
  }

  // ----------------------------------------------------------------------------------------------------- fetching
  /** Asks when it is called for, the newest question only; `ask()` is null where there is nothing to ask. */
  const reader = (path, ask, take, waits) => {
    let timer = 0, running = null, asked = "", known = "";
    const go = async () => {
      if (!model.shown || dragging) return;
      const query = ask();
      if (query === null) { running?.abort(); running = null; asked = known = ""; waits(false); take(null); return; }
      if (query === asked) return;
      running?.abort();
      const mine = running = new AbortController();
      asked = query;
      waits(true);
      let found;
      try {
        const answer = await fetch(`boundary/${path}?${query}`, {credentials: "same-origin", signal: mine.signal});
        found = await answer.json();
        if (!answer.ok) found = {error: found.error ?? "the server could not answer"};
      } catch (error) {
        if (error.name === "AbortError") return;
        found = {error: "the server cannot be reached; the curves are read again when something changes"};
      }
      if (running !== mine) return;
      running = null;
      known = query;
      if (found.error) asked = "";  // asked again when it is looked at again
      waits(false);
      take(found);
    };
    return {
      refresh(later = 0) { clearTimeout(timer); timer = setTimeout(go, later); },
      forget() { asked = ""; },
      stop() { clearTimeout(timer); running?.abort(); },
      get known() { return known; },
    };
  };
  const query = more => new URLSearchParams({draft: model.draft_id, run: model.run_id, map: model.map_id, lambda: model.lambda_, lambda_mode: model.lambda_mode, read: model.read, ...more}).toString();
  const busy = (...elements) => on => elements.forEach(e => { e.classList.toggle("waiting", on); e.setAttribute("aria-busy", on); });
  const readers = {
    curves: reader("curves", () => model.draft_id && part === "curves" ? query(chosen ? {limit: chosen} : {}) : null, found => {
      const was = Boolean(curves?.error);
      if (found !== null || !model.draft_id) curves = found;
      if (has_no_sigma() && large === "sigma") large = "";
      if (has_no_sigma() !== grid.classList.contains("three") && !large) arrange();
      if (is_told() && !dragging) local = {};
      if (was !== Boolean(curves?.error)) { arrange_only(); }
      head();
      draw();
    }, busy(limit_plot.root, pr_plot.root, sigma_plot.root)),
    budget: reader("budget", () => model.draft_id && part === "curves" ? query({...is_number(model.at.seconds) ? {seconds: model.at.seconds} : {}, ...is_number(model.at.graders) ? {graders: model.at.graders} : {}}) : null, found => {
      if (found !== null || !model.draft_id) budget = found;
      budget_of = found && !found.error ? model.draft_id : "";
      if (!dragging && is_told()) delete local.hours;
      head();
      draw();
    }, busy(budget_plot.root)),
    follows: reader("follows", () => model.draft_id && part === "follows" ? query({}) : null, found => {
      if (found !== null || !model.draft_id) follows = found;
      show_follows();
    }, busy(follow_box)),
  };
  function refresh(later) { for (const r of Object.values(readers)) r.refresh(later); }
  const arrange_only = () => {
    const bad = part === "curves" && Boolean(curves?.error);
    empty.hidden = !bad && Boolean(model.draft_id);
    empty_words.textContent = bad ? sentence(curves.error) : empty_words.textContent;
    empty.classList.toggle("bad", bad);
    grid.hidden = foot.hidden = part !== "curves" || !empty.hidden;
  };

  const watcher = new ResizeObserver(draw);
  for (const p of Object.values(plots)) watcher.observe(p.handle);
  const dressed = new MutationObserver(() => requestAnimationFrame(() => { dress(); draw(); }));
  dressed.observe(document.documentElement, {attributes: true, attributeFilter: ["data-theme"]});

  let images = model.at.images;
  model.on("at", () => {
    if (!dragging && is_told() && images !== model.at.images) delete local.hours;
    images = model.at.images;
    draw();
    readers.budget.refresh(QUIET);
  });
  model.on("draft_id", () => { const was = empty.hidden; if (was !== Boolean(model.draft_id)) arrange(); refresh(QUIET); });
  model.on(["run_id", "map_id", "lambda_", "lambda_mode"], () => { head(); refresh(QUIET); });
  model.on("read", () => refresh(20));
  model.on(["truth", "scores", "can_refit", "mixes", "busy"], () => { head(); draw(); });
  model.on("trouble", arrange);
  model.on("said", () => { trouble.textContent = sentence(model.said); });
  model.on("shown", () => { if (model.shown) { dress(); refresh(0); draw(); } });
  model.on("remove", () => { forget?.(); watcher.disconnect(); dressed.disconnect(); Object.values(readers).forEach(r => r.stop()); });
  dress();
  arrange();
}
