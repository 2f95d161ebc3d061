// What a run found (findings.json): sentences and caveats, and below them curves, matrices and tables, of any kind of run.
import {decades, steps} from "./runs.js";

const LINES = {
  dark: ["#6fe3b1", "#ffb454", "#56b4e9", "#cc79a7", "#f0e442", "#aa8de0", "#d55e00", "#44aa99"],
  light: ["#08704f", "#a85f00", "#0067a3", "#a8437d", "#6f6412", "#6546b8", "#b83200", "#1f7a6d"],
};
const MOST_TINT = 46; // %: what is written in a cell stays legible in both themes
const WIDE = 12; // columns of a matrix beyond which shares are left to the mouse

const shade = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const hue = i => LINES[document.documentElement.dataset.theme === "light" ? "light" : "dark"][i % LINES.dark.length];
const make = (tag, name, text) => {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
};
const format = v => v === null || v === undefined ? "–" : typeof v === "number" ? window.voorwerp.format(v) : String(v);
const there = v => v !== null && v !== undefined;
/** As `format`, but all numbers of a column with as many decimals. */
const formats = values => {
  const numbers = values.filter(v => typeof v === "number"), is_plain = numbers.every(v => v === 0 || Math.abs(v) >= 0.001 && Math.abs(v) < 1e6);
  const digits = Math.max(0, ...numbers.map(v => (String(Number(v.toPrecision(4))).split(".")[1] ?? "").length));
  return v => typeof v === "number" && is_plain && digits ? v.toLocaleString("en", {minimumFractionDigits: Math.min(4, digits), maximumFractionDigits: Math.min(4, digits)}) : format(v);
};
const percent = share => `${Math.round(100 * share)} %`;

class Curve {
  // Lines over one axis, their intervals as bands; the values at the mouse stand in the legend.
  constructor(told) {
    Object.assign(this, {told, at: null});
    this.root = make("figure", "curve");
    const head = make("figcaption", "", told.title), canvas = this.canvas = make("canvas"), key = make("ul", "key");
    canvas.setAttribute("role", "img");
    this.values = told.lines.map((line, i) => {
      const item = make("li"), sign = make("i", `${line.is_points ? "points" : i >= LINES.dark.length ? "dashed" : ""}`), value = make("b");
      item.append(sign, make("span", "", line.name), value);
      key.append(item);
      return {sign, value};
    });
    this.root.append(head, canvas, key);
    if (told.note) this.root.append(make("p", "note", told.note));
    canvas.addEventListener("pointermove", e => { this.at = e.offsetX; this.draw(); });
    canvas.addEventListener("pointerleave", () => { this.at = null; this.draw(); });
  }

  draw() {
    const {canvas, told} = this, ratio = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight, pen = canvas.getContext("2d");
    if (!w) return;
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
    pen.scale(canvas.width / w, canvas.height / h);
    pen.font = "10px Inter, 'Segoe UI', Roboto, Arial, sans-serif";
    const all = told.lines.flatMap(l => l.x.map((x, i) => ({x, y: [l.y[i], l.low[i], l.high[i]].filter(there)}))).filter(p => there(p.x) && p.y.length);
    const middle = text => { pen.fillStyle = shade("--quiet"); pen.textAlign = "center"; pen.fillText(text, w / 2, h / 2); };
    this.values.forEach(({sign, value}, i) => { sign.style.color = value.style.color = hue(i); });
    canvas.setAttribute("aria-label", `${told.title}: ${told.y} over ${told.x}. ${told.lines.map(l => `${l.name} ends at ${format(l.y.findLast(there))}`).join(", ")}`);
    if (!all.length) { middle("nothing to draw yet"); return; }
    const span = values => { const low = Math.min(...values), high = Math.max(...values); return low === high ? [low - (Math.abs(low) || 1) * 0.1, high + (Math.abs(high) || 1) * 0.1] : [low, high]; };
    let [left, right] = span(all.map(p => p.x)), [bottom, top] = span(all.flatMap(p => p.y));
    if (told.has_diagonal) left = bottom = Math.min(left, bottom, 0), right = top = Math.max(right, top, Math.max(right, top) > 0.5 ? 1 : 0);
    const log = left > 0 && right > 60 * left && !told.has_diagonal, f = log ? Math.log10 : v => v, pad = told.has_diagonal ? 0 : 0.05 * (top - bottom);
    if (bottom >= 0 && bottom < 0.25 * top) bottom = 0; else bottom -= pad;
    top += pad;
    const marks = steps(bottom, top, 6), box = {x0: 30 + Math.max(...marks.map(v => pen.measureText(format(v)).width)), x1: w - 12, y0: h - 36, y1: 10};
    const x = v => box.x0 + (f(v) - f(left)) / (f(right) - f(left)) * (box.x1 - box.x0), y = v => box.y0 - (v - bottom) / (top - bottom) * (box.y0 - box.y1);

    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    for (const v of marks) {
      const line = Math.round(y(v)) + 0.5;
      pen.strokeStyle = shade("--line");
      pen.beginPath(); pen.moveTo(box.x0, line); pen.lineTo(box.x1, line); pen.stroke();
      pen.fillStyle = shade("--quiet");
      pen.fillText(format(v), box.x0 - 7, line);
    }
    pen.fillStyle = shade("--quiet");
    pen.textBaseline = "alphabetic";
    pen.textAlign = "center";
    let free = -Infinity;
    for (const v of log ? decades(left, right) : steps(left, right, Math.max(3, Math.round((box.x1 - box.x0) / 55)))) {
      const text = format(v), half = pen.measureText(text).width / 2, at = Math.min(x(v), w - 2 - half);
      if (at - half < free) continue;
      pen.fillText(text, at, box.y0 + 15);
      free = at + half + 8;
    }
    pen.fillStyle = shade("--ink");
    pen.font = "11px Inter, 'Segoe UI', Roboto, Arial, sans-serif";
    pen.fillText(told.x, (box.x0 + box.x1) / 2, h - 4, box.x1 - box.x0);
    pen.save();
    pen.translate(11, (box.y0 + box.y1) / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(told.y, 0, 0, box.y0 - box.y1);
    pen.restore();
    if (told.has_diagonal) {
      pen.setLineDash([4, 4]);
      pen.strokeStyle = shade("--quiet");
      pen.beginPath(); pen.moveTo(x(left), y(left)); pen.lineTo(x(right), y(right)); pen.stroke();
      pen.setLineDash([]);
    }

    const nearest = line => this.at === null ? -1 : line.x.reduce((best, v, i) => there(v) && there(line.y[i]) && (best < 0 || Math.abs(x(v) - this.at) < Math.abs(x(line.x[best]) - this.at)) ? i : best, -1);
    const near = told.lines.map(nearest), places = near.map((k, i) => k < 0 ? NaN : x(told.lines[i].x[k])).filter(Number.isFinite);
    const here = places.length ? places.reduce((a, b) => Math.abs(b - this.at) < Math.abs(a - this.at) ? b : a) : null;
    if (here !== null) {
      pen.lineWidth = 1;
      pen.strokeStyle = shade("--scroll");
      pen.beginPath(); pen.moveTo(here, box.y1); pen.lineTo(here, box.y0); pen.stroke();
    }
    pen.lineJoin = "round";
    told.lines.forEach((line, i) => { // bands beneath all lines
      if (line.is_points) return;
      pen.fillStyle = hue(i);
      pen.globalAlpha = 0.16;
      for (const part of unbroken(line.x.map((v, k) => there(v) && there(line.low[k]) && there(line.high[k])))) {
        pen.beginPath();
        for (const k of part) pen.lineTo(x(line.x[k]), y(line.high[k]));
        for (const k of part.toReversed()) pen.lineTo(x(line.x[k]), y(line.low[k]));
        pen.fill();
      }
    });
    pen.globalAlpha = 1;
    told.lines.forEach((line, i) => {
      pen.strokeStyle = pen.fillStyle = hue(i);
      pen.lineWidth = 1.75;
      const dot = (k, size) => { pen.beginPath(); pen.arc(x(line.x[k]), y(line.y[k]), size, 0, 2 * Math.PI); pen.fill(); };
      const parts = unbroken(line.x.map((v, k) => there(v) && there(line.y[k])));
      if (i >= LINES.dark.length) pen.setLineDash([6, 3]);
      for (const part of parts) {
        if (!line.is_points && part.length > 1) { pen.beginPath(); for (const k of part) pen.lineTo(x(line.x[k]), y(line.y[k])); pen.stroke(); }
        if (line.is_points || part.length === 1) for (const k of part) dot(k, 3);
      }
      pen.setLineDash([]);
      if (line.is_points) line.x.forEach((v, k) => {
        if (!there(v) || !there(line.low[k]) || !there(line.high[k])) return;
        pen.lineWidth = 1.25;
        pen.beginPath(); pen.moveTo(x(v), y(line.low[k])); pen.lineTo(x(v), y(line.high[k])); pen.stroke();
      });
      const k = near[i], is_here = k >= 0 && Math.abs(x(line.x[k]) - here) < 12;
      if (is_here) dot(k, 4);
      const last = line.y.findLastIndex(there), read = is_here ? k : this.at === null ? last : -1;
      const interval = k => there(line.low[k]) && there(line.high[k]) ? ` (${format(line.low[k])} to ${format(line.high[k])})` : "";
      this.values[i].value.textContent = read < 0 ? "" : `${format(line.y[read])}${interval(read)}${is_here ? ` at ${format(line.x[read])}` : ""}`;
    });
  }
}

/** Stretches of indices that are there. */
function unbroken(is_there) {
  const found = [];
  is_there.forEach((is, i) => { if (is && i && is_there[i - 1]) found.at(-1).push(i); else if (is) found.push([i]); });
  return found;
}

function matrix(told) {
  const root = make("figure", "matrix"), box = make("div", "wide"), table = make("table"), head = make("tr"), n = told.columns.length;
  const same = told.rows.length === n && told.rows.every((name, i) => name === told.columns[i]), is_wide = n > WIDE;
  table.append(make("caption", "", told.title));
  head.append(make("td", "corner", same ? "is ↓  said →" : ""));
  for (const name of told.columns) { const th = make("th"); th.scope = "col"; th.append(make("span", "", name)); head.append(th); }
  const top = make("thead"), body = make("tbody");
  top.append(head);
  told.rows.forEach((name, i) => {
    const row = make("tr"), th = make("th", "", name), counts = told.counts[i], sum = counts.reduce((a, b) => a + (b ?? 0), 0);
    th.scope = "row";
    row.append(th);
    counts.forEach((count, j) => {
      const cell = make("td"), share = sum ? (count ?? 0) / sum : 0;
      cell.style.setProperty("--tint", `${(MOST_TINT * share).toFixed(1)}%`);
      if (same && i !== j) cell.classList.add("mistaken");
      cell.append(make("b", count ? "" : "none", format(count)));
      if (count && !is_wide) cell.append(make("small", "", percent(share)));
      cell.title = `${format(count)} of ${format(sum)} ${name}: ${told.columns[j]}${sum ? `, ${percent(share)}` : ""}`;
      row.append(cell);
    });
    body.append(row);
  });
  if (n > 6 || told.columns.some(name => name.split(" ").some(word => word.length > 14))) table.classList.add("upright");
  if (is_wide) table.classList.add("many");
  table.append(top, body);
  box.append(table);
  root.append(box);
  if (told.note) root.append(make("p", "note", told.note));
  return root;
}

function table(told) {
  const root = make("figure", "table"), box = make("div", "wide"), all = make("table"), head = make("tr"), body = make("tbody"), top = make("thead");
  const is_number = told.columns.map((_, j) => told.rows.some(row => typeof row[j] === "number") && told.rows.every(row => typeof row[j] === "number" || !there(row[j])));
  const written = told.columns.map((_, j) => formats(told.rows.map(row => row[j])));
  told.columns.forEach((name, j) => { const th = make("th", is_number[j] ? "number" : "", name); th.scope = "col"; head.append(th); });
  for (const cells of told.rows) {
    const row = make("tr");
    cells.forEach((value, j) => {
      const cell = make(j || is_number[j] ? "td" : "th", is_number[j] ? "number" : ""), text = written[j](value);
      const [, figure, interval] = /^([+−-]?[\d.,]+(?: ?%)?) ([[(±].*)$/.exec(text) ?? [null, text, ""];
      cell.append(interval ? make("span", "figure", figure) : figure);
      if (interval) cell.append(" ", make("small", "", interval));
      if (cell.tagName === "TH") cell.scope = "row";
      row.append(cell);
    });
    body.append(row);
  }
  top.append(head);
  all.append(make("caption", "", told.title), top, body);
  box.append(all);
  box.tabIndex = 0; // where it is long, it scrolls
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", told.title);
  root.append(box);
  root.style.setProperty("--wants", `${94 * told.columns.length}px`);
  if (told.note) root.append(make("p", "note", told.note));
  return root;
}

/** {lead, body, show(findings or null)}: sentences and caveats in `lead`, what says so in `body`. */
export function finding() {
  const lead = make("div", "lead"), body = make("div", "findings"), style = make("link"), said = make("div", "said"), caveats = make("ul", "caveats");
  Object.assign(style, {rel: "stylesheet", href: new URL("assets/findings.css", document.baseURI).href});
  said.setAttribute("role", "status");
  caveats.setAttribute("aria-label", "Before believing it");
  lead.append(style, said, caveats);
  let curves = [], drawn = null;
  const draw = () => { for (const curve of curves) curve.draw(); };
  new ResizeObserver(draw).observe(body);
  style.addEventListener("load", draw);
  window.addEventListener("voorwerp-theme", draw);
  body.addEventListener("keydown", e => { if (["ArrowUp", "ArrowDown", "PageUp", "PageDown", "Home", "End"].includes(e.key) && e.target.closest?.(".wide")) e.stopPropagation(); }); // scrolls, and is no other run
  return {
    lead, body,
    show(found) {
      lead.hidden = !found?.sentences.length && !found?.caveats.length;
      body.hidden = !found || !found.tables.length && !found.curves.length && !found.matrices.length;
      if (found === drawn) return;
      drawn = found;
      if (!found) return;
      said.replaceChildren(...found.sentences.map(text => make("p", "", text)));
      caveats.hidden = !found.caveats.length;
      caveats.replaceChildren(...found.caveats.map(text => make("li", "", text)));
      curves = found.curves.map(told => new Curve(told));
      body.replaceChildren(...curves.map(c => c.root), ...found.matrices.map(matrix), ...found.tables.map(table));
      draw();
    },
  };
}
