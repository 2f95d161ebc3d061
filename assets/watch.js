// What a run tells while it is at work, below the curves of the dialog of runs: how scores are distributed, epoch by epoch;
// what it takes of the machine, over time; and its log.
import {decades, steps} from "./runs.js";

const LOG_FROM = 8; // times the smallest value: the axis is logarithmic
const BANDS = [[0, 0.12], [1, 0.16], [2, 0.28]]; // pairs of percentiles from outside in, and how solid what is between them is
const FOLLOWS = 24; // px from its end within which the log follows what is added

const shade = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const make = (tag, name, text) => {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
};
const say = (e, text) => { if (e.textContent !== text) e.textContent = text; };
const format = v => v === null || v === undefined ? "–" : window.voorwerp.format(v);
const bytes = mb => mb === null || mb === undefined ? "–" : mb < 1000 ? `${Math.round(mb)} MB` : `${(mb / 1000).toFixed(mb < 10000 ? 2 : 1)} GB`;
const lasting = seconds => seconds < 180 ? [1, "s"] : seconds < 7200 ? [60, "min"] : [3600, "h"];

class Chart {
  // One picture over epochs or time: lines, and bands between two of them. `at` is the index under the mouse, or null.
  constructor() {
    Object.assign(this, {at: null, told: null});
    this.root = make("figure", "chart");
    this.head = make("figcaption");
    this.canvas = make("canvas");
    this.canvas.setAttribute("role", "img");
    this.root.append(this.head, this.canvas);
    this.canvas.addEventListener("pointermove", e => { this.at = this.nearest?.(e.offsetX) ?? null; this.draw(); });
    this.canvas.addEventListener("pointerleave", () => { this.at = null; this.draw(); });
  }

  show(told) {
    this.told = told;
    this.draw();
  }

  draw() {
    const {canvas, told} = this, ratio = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
    if (!w || !told) return;
    const {lines, bands = [], x: places, from, to, floor, unit, ticks, title, now} = told, pen = canvas.getContext("2d");
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
    pen.scale(canvas.width / w, canvas.height / h);
    const at = this.at !== null && this.at < places.length ? this.at : null, values = [...lines.flatMap(l => l.y), ...bands.flatMap(b => [...b.low, ...b.high])].filter(v => v !== null);
    const head = make("span", "name", title);
    if (at !== null) head.append(make("span", "quiet", ` ${told.place(at)}`));
    this.head.replaceChildren(head, ...now(at ?? places.length - 1).map(([text, color, name]) => {
      const value = make("b", "", text);
      value.style.color = color;
      value.title = name;
      return value;
    }));
    const ended = now(places.length - 1).map(([text, , name]) => `${name} ${text}`).join(", ");
    canvas.setAttribute("aria-label", values.length ? `${title} ${told.over}, ${told.place(places.length - 1)}: ${ended}` : `${title}: not measured`);
    pen.font = "10px Inter, 'Segoe UI', Roboto, Arial, sans-serif";
    if (!values.length) {
      this.nearest = null;
      pen.fillStyle = shade("--quiet");
      pen.textAlign = "center";
      pen.fillText("not measured", w / 2, h / 2);
      return;
    }
    let low = Math.min(...values), high = Math.max(...values);
    if (floor !== undefined) [low, high] = [Math.min(floor, low), Math.max(high, told.ceiling ?? high)];
    const log = low > 0 && high > LOG_FROM * low, f = log ? Math.log10 : v => v;
    const pad = 0.06 * (f(high) - f(low)) || Math.abs(f(high)) * 0.1 || 1, top = f(high) + pad, bottom = floor === undefined ? f(low) - pad : f(low);
    const box = {x0: 46, x1: w - 10, y0: h - 18, y1: 6};
    const x = v => box.x0 + (v - from) / (to - from || 1) * (box.x1 - box.x0), y = v => box.y0 - (f(v) - bottom) / (top - bottom) * (box.y0 - box.y1);
    this.nearest = px => places.reduce((best, v, i) => Math.abs(x(v) - px) < Math.abs(x(places[best]) - px) ? i : best, 0);

    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const v of log ? decades(10 ** bottom, 10 ** top) : steps(bottom, top, 5)) {
      const line = Math.round(y(v)) + 0.5;
      pen.strokeStyle = shade("--line");
      pen.beginPath(); pen.moveTo(box.x0, line); pen.lineTo(box.x1, line); pen.stroke();
      pen.fillStyle = shade("--quiet");
      pen.fillText(format(v), box.x0 - 6, line);
    }
    pen.textBaseline = "alphabetic";
    const marks = ticks(), size = text => pen.measureText(text).width / 2;
    pen.textAlign = "center";
    marks.forEach((v, i) => {
      const text = i === marks.length - 1 && unit ? `${format(v)} ${unit}` : format(v);
      pen.fillText(text, Math.min(x(v), w - 1 - size(text)), h - 4);
    });
    if (at !== null) {
      pen.strokeStyle = shade("--scroll");
      pen.beginPath(); pen.moveTo(x(places[at]), box.y1); pen.lineTo(x(places[at]), box.y0); pen.stroke();
    }
    for (const {low: under, high: over, color, solid} of bands) {
      pen.fillStyle = color;
      pen.globalAlpha = solid;
      for (const part of unbroken(places.map((_, i) => under[i] !== null && over[i] !== null))) {
        const there = part.length > 1 ? part.map(i => [x(places[i]), i]) : [[x(places[part[0]]) - 2, part[0]], [x(places[part[0]]) + 2, part[0]]];
        pen.beginPath();
        for (const [px, i] of there) pen.lineTo(px, y(over[i]));
        for (const [px, i] of there.toReversed()) pen.lineTo(px, y(under[i]));
        pen.fill();
      }
    }
    pen.globalAlpha = 1;
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
    for (const {y: line, color, breaks = []} of lines) {
      pen.strokeStyle = pen.fillStyle = color;
      for (const part of unbroken(line.map(v => v !== null), breaks)) {
        pen.beginPath();
        if (part.length > 1) { for (const i of part) pen.lineTo(x(places[i]), y(line[i])); pen.stroke(); }
        else { pen.arc(x(places[part[0]]), y(line[part[0]]), 2, 0, 2 * Math.PI); pen.fill(); }
      }
      if (at !== null && line[at] !== null) { pen.beginPath(); pen.arc(x(places[at]), y(line[at]), 3, 0, 2 * Math.PI); pen.fill(); }
    }
  }
}

/** Stretches of indices that are there; a new one begins at each of `breaks`. */
function unbroken(there, breaks = []) {
  const found = [];
  let before = false;
  there.forEach((is, i) => {
    if (is && before && !breaks.includes(i)) found.at(-1).push(i);
    else if (is) found.push([i]);
    before = is;
  });
  return found;
}

/** {root, show(detail, run)}: of a run in full as /training tells it. */
export function watching() {
  const root = make("div", "watching"), style = make("link");
  Object.assign(style, {rel: "stylesheet", href: new URL("assets/watch.css", document.baseURI).href});
  const scores = make("h3"), key = make("p", "key"), image = new Chart(), feature = new Chart(), memory = new Chart(), use = new Chart();
  use.root.hidden = true;
  const left = make("div", "scores"), right = make("div", "use"), machine = make("h3"), rows = make("div", "rows"), pair = make("div", "pair"), taken = make("div", "pair");
  pair.append(image.root, feature.root);
  taken.append(memory.root, use.root);
  left.append(scores, pair, key);
  right.append(machine, taken);
  rows.append(left, right);
  const log = make("details", "log"), summary = make("summary"), text = make("pre");
  log.open = true;
  text.tabIndex = 0;
  text.setAttribute("role", "region");
  text.setAttribute("aria-label", "Log");
  log.append(summary, text);
  root.append(style, rows, log);

  const distribution = (found, name, title) => {
    const {epochs, percent, of} = found, rows = found[name], color = shade(found.images === "validation" ? "--warm" : "--accent");
    const part = k => rows.map(row => row[k]), last = percent.length - 1, middle = last / 2;
    const bands = BANDS.filter(([k]) => k < middle).map(([k, solid]) => ({low: part(k), high: part(last - k), color, solid}));
    return {
      title, bands, lines: [{y: part(middle), color}], x: epochs, from: 1, to: Math.max(2, of), over: "by epoch of the encoder",
      place: i => `epoch ${epochs[i]}`,
      ticks: () => steps(1, Math.max(2, of), Math.min(5, Math.max(1, of - 1))).filter(Number.isInteger),
      now: i => [[format(rows[i][middle]), color, "median"], [`${format(rows[i][last - 1])}`, shade("--quiet"), `${percent[last - 1]} % are below`]],
    };
  };
  const over_time = (found, title, lines, more) => {
    const seconds = found.points.map(p => p[0]), end = seconds.at(-1) || 1, [per, unit] = lasting(end);
    const breaks = found.attempts.map((a, i) => i && a !== found.attempts[i - 1] ? i : -1).filter(i => i > 0);
    return {
      title, lines: lines.map(l => ({...l, breaks})), x: seconds.map(s => s / per), from: 0, to: end / per, floor: 0, unit, over: "over the time at work",
      place: i => `after ${format(Number((seconds[i] / per).toPrecision(3)))} ${unit}`,
      ticks: () => steps(0, end / per, 4), ...more,
    };
  };

  const draw = (detail, run) => {
    const {distributions: found, memory: taking, device} = detail;
    left.hidden = !found;
    if (found) {
      say(scores, `Scores of ${found.n.toLocaleString("en")} ${found.images} images, as they settle`);
      const {percent} = found, last = percent.length - 1;
      const pairs = BANDS.filter(([k]) => k < last / 2).map(([k]) => `${percent[k]} to ${percent[last - k]} %`);
      say(key, `line: median; bands: ${pairs.join(", ")} of the images`);
      image.show(distribution(found, "image_score", "Image score"));
      feature.show(distribution(found, "feature_score", "Feature score"));
    }
    right.hidden = !taking?.points.length;
    if (!right.hidden) {
      const {points, of_mb} = taking, part = k => points.map(p => p[k]), is_gpu = part(3).some(v => v !== null), has_use = part(2).some(v => v !== null);
      const unit = Math.max(...part(1).map(v => v ?? 0), ...part(3).map(v => v ?? 0)) >= 1000 ? ["GB", 1000] : ["MB", 1];
      const in_unit = k => part(k).map(v => v === null ? null : v / unit[1]), [job, card] = [shade("--accent"), shade("--warm")];
      say(machine, [`Device: ${device}`, of_mb ? `${bytes(of_mb)} of memory` : ""].filter(Boolean).join(", "));
      memory.show(over_time(taking, `Memory, ${unit[0]}`, [{y: in_unit(1), color: job}, ...is_gpu ? [{y: in_unit(3), color: card}] : []], {
        now: i => [[bytes(points[i][1]), job, "of the job"], ...is_gpu ? [[bytes(points[i][3]), card, "on the GPU"]] : []],
      }));
      use.root.hidden = !has_use;
      if (has_use) use.show(over_time(taking, "GPU in use, %", [{y: part(2), color: card}], {ceiling: 100, now: i => [[points[i][2] === null ? "–" : `${points[i][2]} %`, card, "in use"]]}));
    }
    rows.hidden = left.hidden && right.hidden;
    root.classList.toggle("wide", !right.hidden && !use.root.hidden);
    const n = detail.log ? detail.log.split("\n").length : 0, follows = text.scrollHeight - text.scrollTop - text.clientHeight < FOLLOWS;
    log.hidden = !detail.log;
    say(summary, n >= 200 ? "Log, the last 200 lines" : "Log");
    if (text.textContent !== detail.log) {
      text.textContent = detail.log ?? "";
      if (follows || text.dataset.run !== run.run_id) text.scrollTop = text.scrollHeight;
    }
    text.dataset.run = run.run_id;
    root.hidden = rows.hidden && log.hidden;
  };

  let now = null;
  const again = () => { if (now) draw(...now); };
  new ResizeObserver(again).observe(rows);
  window.addEventListener("voorwerp-theme", again);
  log.addEventListener("toggle", () => { if (log.open) text.scrollTop = text.scrollHeight; });
  text.addEventListener("keydown", e => { if (["ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End"].includes(e.key)) e.stopPropagation(); }); // scrolls, and is no other run
  style.addEventListener("load", again);

  return {
    root,
    show(detail, run) {
      now = [detail, run];
      draw(detail, run);
    },
  };
}
