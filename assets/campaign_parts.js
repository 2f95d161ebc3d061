// What the sheet of campaigns is made of: elements, words for numbers, and its pictures of rates and agreement. Nothing
// that a person wrote is more than text here.
export const make = (tag, name, text) => {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
};
export const put = (e, ...children) => { e.append(...children.filter(c => c !== null && c !== undefined)); return e; };
export const button = (name, text, run, title) => {
  const e = make("button", name, text);
  e.type = "button";
  if (title) e.title = title;
  e.addEventListener("click", run);
  return e;
};
/** Fill an element only where what it says is something else: nothing jumps, and what is in focus stays so. */
export const fill = (e, told, children) => {
  const key = JSON.stringify(told);
  if (e.dataset.key === key) return;
  e.dataset.key = key;
  e.replaceChildren(...children().filter(c => c !== null && c !== undefined));
};
export const uuid = () => crypto.randomUUID?.() ?? "10000000-1000-4000-8000-100000000000".replace(/[018]/g, c => (c ^ crypto.getRandomValues(new Uint8Array(1))[0] & 15 >> c / 4).toString(16)); // not there on plain http
export const whole = n => n.toLocaleString("en");
export const many = (n, one, more = `${one}s`) => `${whole(n)} ${n === 1 ? one : more}`;
export const part = (v, digits = 2) => v === null || v === undefined ? "–" : v.toFixed(digits).replace(/^(-?)0\./, "$1.").replace("-", "−");
export const percent = v => `${Math.round(100 * v)} %`;
/** k of n, as a share with its interval: "62 % [48, 74]". */
export const rated = r => !r || !r.n ? "–" : `${percent(r.k / r.n)}${r.low === null ? "" : ` [${Math.round(100 * r.low)}, ${Math.round(100 * r.high)}]`}`;
export const upper = text => text ? text[0].toUpperCase() + text.slice(1) : "";
export const sentence = error => error instanceof TypeError ? "The server does not answer; is it still running?" : `${upper(error.message)}${/[.!?]$/.test(error.message) ? "" : "."}`;
/** The end of a long name, which is where names differ. */
export const tail = (name, most = 18) => name.length <= most ? name : `…${name.slice(1 - most)}`;
export const hours = h => h < 1 / 60 ? "less than a minute" : h < 0.95 ? `${Math.max(1, Math.round(60 * h))} min` : `${h < 10 ? h.toFixed(1) : Math.round(h)} h`;
export const cap = (key, value) => {
  const e = make("kbd", "", key);
  if (value !== undefined) e.style.setProperty("--worth", value);
  return e;
};
/** How far up its scheme a grade is, 0 to 1: what its color says. */
export const worth = (scheme, key) => {
  const values = scheme.grades.map(g => g.value), low = Math.min(...values), high = Math.max(...values);
  const found = scheme.grades.find(g => g.key === key);
  return found ? (found.value - low) / (high - low || 1) : -1;
};
export const grade_cap = (scheme, key) => {
  const e = make("span", "grade", key), at = worth(scheme, key), grade = scheme.grades.find(g => g.key === key);
  e.style.setProperty("--worth", at < 0 ? 0 : at);
  if (at < 0) e.classList.add("none");
  e.title = grade ? `${grade.name}: ${grade.definition}` : "cannot judge";
  return e;
};
export const picture = (row, label = "") => {
  const image = new Image();
  Object.assign(image, {src: `thumbnails/${row}`, alt: label, loading: "lazy", decoding: "async", draggable: false});
  return image;
};
export const choice = (label, listed, value, act) => {
  const box = make("select");
  box.setAttribute("aria-label", label);
  box.replaceChildren(...listed.map(([v, text]) => new Option(text, v)));
  box.value = value;
  box.addEventListener("change", () => act(box.value));
  return box;
};
export const segments = (label, options, act) => {
  const root = make("div", "segments"), buttons = options.map(([value, text, title]) => {
    const e = button("", text, () => act(value), title);
    e.dataset.value = value;
    return e;
  });
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", label);
  root.append(...buttons);
  return {root, buttons, set(value) { for (const b of buttons) b.setAttribute("aria-pressed", b.dataset.value === String(value)); }};
};
export const shade = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A share as a bar with its interval, on a scale from 0 to 1. */
export const rate_bar = r => {
  const e = make("span", "rate"), bar = make("i", "bar"), whisker = make("i", "whisker");
  if (r?.n) {
    bar.style.width = `${100 * r.k / r.n}%`;
    whisker.style.left = `${100 * r.low}%`;
    whisker.style.width = `${100 * (r.high - r.low)}%`;
    e.append(bar, whisker);
  }
  return e;
};

/** A value with its interval on a scale: for agreement, from below chance to perfect. */
export const scale = (told, {low = -0.2, high = 1, marks = [0, 0.5, 1]} = {}) => {
  const e = make("div", "scale"), at = v => 100 * (Math.min(high, Math.max(low, v)) - low) / (high - low);
  for (const v of marks) {
    const tick = put(make("span", "tick"), make("i"), make("em", "", v === 0 ? "0" : v === 1 ? "1" : part(v, 1)));
    tick.style.left = `${at(v)}%`;
    e.append(tick);
  }
  if (told && told.value !== null && told.value !== undefined) {
    const reach = make("i", "reach"), dot = make("i", "dot");
    if (told.low !== null && told.low !== undefined) Object.assign(reach.style, {left: `${at(told.low)}%`, width: `${at(told.high) - at(told.low)}%`});
    dot.style.left = `${at(told.value)}%`;
    e.append(reach, dot);
  }
  return e;
};

/** A canvas that draws itself anew when its size changes. `tell(x, y, box)` says what is at a place: lines, or null. */
export class Chart {
  constructor(label, {paint, tell, margins = {}}) {
    Object.assign(this, {paint, tell, margins: {left: 48, right: 16, top: 14, bottom: 38, ...margins}});
    this.root = make("div", "plot");
    this.canvas = make("canvas");
    this.card = make("div", "card");
    this.card.hidden = true;
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", label);
    this.root.append(this.canvas, this.card);
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    this.canvas.addEventListener("pointermove", e => this.point(e));
    this.canvas.addEventListener("pointerleave", () => { this.card.hidden = true; });
  }

  draw() {
    const {canvas} = this, ratio = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
    this.box = null;
    if (w < 80 || h < 60) return;
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
    const pen = canvas.getContext("2d"), {left, right, top, bottom} = this.margins;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = "11px Inter, 'Segoe UI', Roboto, Arial, sans-serif";
    pen.lineJoin = "round";
    this.box = {x0: left, x1: w - right, y0: h - bottom, y1: top, w, h};
    this.paint(pen, this.box);
  }

  point(e) {
    const lines = this.box && this.tell?.(e.offsetX, e.offsetY, this.box);
    this.card.hidden = !lines;
    if (!lines) return;
    this.card.replaceChildren(...lines.map((line, i) => make(i ? "span" : "b", "", line)));
    const {offsetWidth: wide, offsetHeight: tall} = this.card;
    this.card.style.left = `${e.offsetX + 14 + wide < this.box.w ? e.offsetX + 14 : Math.max(0, e.offsetX - 14 - wide)}px`;
    this.card.style.top = `${Math.max(0, Math.min(this.box.h - tall, e.offsetY - tall / 2))}px`;
  }
}

export const ticks = (low, high, n) => {
  const rough = (high - low) / n || 1, base = 10 ** Math.floor(Math.log10(rough)), step = base * [1, 2, 5, 10].find(m => m * base >= rough * 0.999), found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(10)));
  return found;
};
