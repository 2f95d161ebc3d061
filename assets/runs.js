// The dialog of runs: every run in a line, and one in full; new ones are started here, and those there are cancelled, gone
// on with and deleted. Of what learns: losses by epoch, stage by stage, pictures as they come, and what was found.
// Asks /training once a second while it is open, and nothing while it is not.
import {comparing} from "./compare_runs.js";
import {finding} from "./findings.js";
import {starting} from "./new_run.js";
import {staging} from "./stages.js";
import {watching} from "./watch.js";

const POLL = 1000; // ms
const SERIES = [["train", "--accent"], ["validation", "--warm"]];
const shade = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const CHARTS = [
  {stage: "gan", name: "critic_loss", title: "Critic loss"},
  {stage: "gan", name: "generator_loss", title: "Generator loss"},
  {stage: "gan", name: "gradient_norm", title: "Gradient norm", target: 1},
  {stage: "encoder", name: "encoder_loss", title: "Encoder loss"},
  {stage: "encoder", name: "image_score", title: "Its image part"},
  {stage: "encoder", name: "feature_score", title: "Its feature part"},
];
const STAGES = {gan: "generator and critic", encoder: "encoder"};
const ROWS = {gan: ["real", "generated", "generated"], encoder: ["real", "recon\u00adstructed", "residual"]};
const LOG_FROM = 8; // times the smallest value: the axis is logarithmic
const ENDED = ["interrupted", "cancelled", "failed"];
const LIVE = ["pending", "running"];
// one shape for each state: colors alone do not tell them apart
const SHAPES = {
  pending: '<circle cx="6" cy="6" r="4"/>',
  running: '<circle class="track" cx="6" cy="6" r="4"/><path class="turns" d="M6 2a4 4 0 0 1 4 4"/>',
  done: '<path d="M2.500 6.500 5 9l4.500-5.500"/>',
  failed: '<path d="m3 3 6 6M9 3 3 9"/>',
  interrupted: '<path d="M4.200 2.500v7M7.800 2.500v7"/>',
  cancelled: '<rect x="3" y="3" width="6" height="6" rx="1"/>',
};

const make = (tag, name, text) => {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
};
const icon = state => {
  const e = make("span", `icon ${state}`);
  e.innerHTML = `<svg viewBox="0 0 12 12" aria-hidden="true">${SHAPES[state] ?? ""}</svg>`;
  return e;
};
const button = (text, name, run, title = "") => {
  const e = make("button", name, text);
  Object.assign(e, {type: "button", title});
  e.addEventListener("click", run);
  return e;
};
const upper = text => text && text[0].toUpperCase() + text.slice(1);
/** Change what stands in an element only where it is something else: nothing jumps, and what is marked stays so. */
const put = (e, key, make_children) => {
  if (e.dataset.key === key) return;
  e.dataset.key = key;
  e.replaceChildren(...make_children());
};
const say = (e, text) => { if (e.textContent !== text) e.textContent = text; };
const lasted = (from, to) => {
  const s = Math.round((Date.parse(to) - Date.parse(from)) / 1000);
  return !Number.isFinite(s) || s < 0 ? "" : s < 90 ? `${s} s` : s < 5400 ? `${Math.round(s / 60)} min` : `${Math.floor(s / 3600)} h ${Math.round(s % 3600 / 60)} min`;
};
const memory = mb => !mb ? "" : mb < 1000 ? `${Math.round(mb)} MB` : `${(mb / 1000).toFixed(1)} GB`;
const format = v => v === null || v === undefined ? "–" : window.voorwerp.format(v);
const when = text => text.slice(0, 16).replace("T", " ");

// ------------------------------------------------------------------------------------------------------------ charts
export const steps = (low, high, n) => {
  const raw = (high - low) / n || 1, ten = 10 ** Math.floor(Math.log10(raw));
  const step = ten * [1, 2, 5, 10].find(s => s * ten >= raw), found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) found.push(Math.abs(v) < step / 1e6 ? 0 : v);
  return found;
};
export const decades = (low, high) => {
  const found = [];
  for (let k = Math.floor(Math.log10(low)); k <= Math.log10(high) + 1; k++) for (const s of [1, 2, 5]) found.push(s * 10 ** k);
  const inside = found.filter(v => v >= low * 0.999 && v <= high * 1.001), tens = inside.filter(v => Math.abs(Math.log10(v) % 1) < 1e-9);
  return tens.length >= 3 ? tens : inside;
};

export class Chart {
  // One quantity by epoch of a stage: training and validation; `about.like`: other stages, drawn behind. `point` is called
  // with the epoch under the mouse, or null.
  constructor(about, point, choose) {
    Object.assign(this, {about, points: [], epoch: null});
    this.root = make("figure", "chart");
    this.head = make("figcaption");
    this.canvas = make("canvas");
    this.canvas.setAttribute("role", "img");
    this.root.append(this.head, this.canvas);
    const at = e => this.scale ? Math.max(1, Math.min(this.scale.last, Math.round(this.scale.epoch(e.offsetX)))) : null;
    this.canvas.addEventListener("pointermove", e => point(about.stage, at(e)));
    this.canvas.addEventListener("pointerleave", () => point(about.stage, null));
    this.canvas.addEventListener("click", e => choose(about.stage, at(e)));
  }

  show(lines, epoch) {
    this.lines = lines.filter(line => line.stage === this.about.stage);
    this.like = (this.about.like ?? []).map(stage => lines.filter(line => line.stage === stage));
    this.epoch = epoch;
    this.draw();
  }

  draw() {
    const {about, canvas, lines} = this, ratio = window.devicePixelRatio || 1;
    const w = canvas.clientWidth, h = canvas.clientHeight, pen = canvas.getContext("2d");
    if (!w || !lines) return;
    canvas.width = w * ratio;
    canvas.height = h * ratio;
    pen.scale(ratio, ratio);
    const series = SERIES.map(([of, color]) => ({of, color: shade(color), at: lines.map(l => [l.epoch, l[of]?.[about.name] ?? null])}));
    const of_like = l => l.validation?.[about.name] ?? l.train?.[about.name] ?? null;
    const values = [...series.flatMap(s => s.at.map(p => p[1])), ...this.like.flat().map(of_like)].filter(v => v !== null);
    this.tell(series, values);
    pen.font = "10px Inter, 'Segoe UI', Roboto, Arial, sans-serif";
    if (!values.length) {
      this.scale = null;
      pen.fillStyle = shade("--quiet");
      pen.textAlign = "center";
      pen.fillText(lines.length ? "not measured" : "not begun", w / 2, h / 2);
      return;
    }
    if (about.target !== undefined) values.push(about.target);
    let low = Math.min(...values), high = Math.max(...values);
    const log = low > 0 && high > LOG_FROM * low && about.target === undefined, f = log ? Math.log10 : v => v;
    this.log = log;
    const pad = 0.06 * (f(high) - f(low)) || Math.abs(f(high)) * 0.1 || 1;
    const [bottom, top] = [f(low) - pad, f(high) + pad], last = Math.max(2, ...[...lines, ...this.like.flat()].map(l => about.is_over ? l.epoch : l.of ?? l.epoch));
    const box = {x0: 46, x1: w - 10, y0: h - 18, y1: 6};
    const x = e => box.x0 + (e - 1) / (last - 1) * (box.x1 - box.x0), y = v => box.y0 - (f(v) - bottom) / (top - bottom) * (box.y0 - box.y1);
    this.scale = {last, epoch: px => 1 + (px - box.x0) / (box.x1 - box.x0) * (last - 1)};

    pen.lineWidth = 1;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    const marks = log ? decades(10 ** bottom, 10 ** top) : steps(bottom, top, 5);
    for (const v of marks) {
      const at = Math.round(y(v)) + 0.5;
      pen.strokeStyle = shade("--line");
      pen.beginPath(); pen.moveTo(box.x0, at); pen.lineTo(box.x1, at); pen.stroke();
      pen.fillStyle = shade("--quiet");
      pen.fillText(format(v), box.x0 - 6, at);
    }
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    for (const e of steps(1, last, Math.min(5, last - 1)).filter(Number.isInteger)) pen.fillText(e, x(e), h - 4);
    if (about.target !== undefined) {
      pen.setLineDash([4, 4]);
      pen.strokeStyle = shade("--quiet");
      pen.beginPath(); pen.moveTo(box.x0, y(about.target)); pen.lineTo(box.x1, y(about.target)); pen.stroke();
      pen.setLineDash([]);
    }
    if (this.epoch !== null) {
      pen.strokeStyle = shade("--scroll");
      pen.beginPath(); pen.moveTo(x(this.epoch), box.y1); pen.lineTo(x(this.epoch), box.y0); pen.stroke();
    }
    pen.lineJoin = "round";
    pen.lineWidth = 1;
    pen.strokeStyle = shade("--quiet");
    pen.globalAlpha = 0.45;
    for (const behind of this.like) {
      pen.beginPath();
      for (const line of behind) if (of_like(line) !== null) pen.lineTo(x(line.epoch), y(of_like(line)));
      pen.stroke();
    }
    pen.globalAlpha = 1;
    pen.lineWidth = 1.5;
    for (const {color, at} of series) {
      pen.strokeStyle = pen.fillStyle = color;
      pen.beginPath();
      let before = null;
      at.forEach(([e, v], i) => {
        if (v === null) { before = null; return; }
        if (before === null) pen.moveTo(x(e), y(v)); else pen.lineTo(x(e), y(v));
        const alone = before === null && (at[i + 1]?.[1] ?? null) === null;
        if (alone) { pen.moveTo(x(e) + 2, y(v)); pen.arc(x(e), y(v), 2, 0, 2 * Math.PI); }
        before = v;
      });
      pen.stroke();
      const here = at.find(p => p[0] === this.epoch);
      if (here && here[1] !== null) { pen.beginPath(); pen.arc(x(here[0]), y(here[1]), 3, 0, 2 * Math.PI); pen.fill(); }
    }
  }

  tell(series, values) {
    const {about} = this, name = make("span", "name", about.title);
    const told = series.filter(s => s.at.some(p => p[1] !== null)).map(({of, color, at}) => {
      const found = this.epoch === null ? at.at(-1) : at.find(p => p[0] === this.epoch), value = make("b", "", format(found?.[1]));
      value.style.color = color;
      value.title = of;
      return value;
    });
    if (about.target !== undefined) name.append(make("span", "quiet", ` target ${about.target}`));
    this.head.replaceChildren(name, ...told);
    this.canvas.setAttribute("aria-label", values.length ? `${about.title} by epoch, now ${told.map(t => `${t.title} ${t.textContent}`).join(", ")}` : `${about.title}: nothing yet`);
  }
}

// --------------------------------------------------------------------------------------------------------- decisions
let token = "";
/** Send a decision on runs; its answer, or an Error that may name a `field`. */
export async function post(what, asked) {
  for (const again of [false, true]) {
    if (!token || again) token = await (await fetch("token", {credentials: "same-origin"})).text();
    const headers = {"Content-Type": "application/json", "X-Voorwerp-Token": token};
    const answer = await fetch(`runs/${what}`, {method: "POST", headers, body: JSON.stringify(asked), credentials: "same-origin"});
    if (answer.status === 403 && !again) continue; // the server may have been started anew
    const told = await answer.json();
    if (answer.ok) return told;
    throw Object.assign(new Error(told.error), {field: told.field ?? ""});
  }
}
const sentence = error => error instanceof TypeError ? "The server does not answer; is it still running?" : `${upper(error.message)}${/[.!?]$/.test(error.message) ? "" : "."}`;

// ------------------------------------------------------------------------------------------------------------ dialog
/**
 * @param tell sends a message to the session: {color: run_id}, {map: run_id}, {keep: name}, … (explorer/views/shell.py).
 */
export async function runs(home, {act: tell}) {
  const style = make("link");
  Object.assign(style, {rel: "stylesheet", href: new URL("assets/runs.css", document.baseURI).href});
  const styled = new Promise(done => { style.onload = style.onerror = done; });
  const dialog = make("dialog", "runs"), side = make("nav"), list = make("div", "list"), detail = make("section"), close = button("✕", "close", () => dialog.close(), "Close (Esc)");
  const fresh = button("New run", "fresh", () => begin(), "Train, score, map: start a run");
  dialog.tabIndex = -1;
  dialog.setAttribute("aria-label", "Runs and training");
  side.setAttribute("aria-label", "Runs");
  close.setAttribute("aria-label", "Close");
  const side_head = make("header");
  side_head.append(make("h2", "", "Runs"), fresh);
  const again = make("p", "again"); // what is trained again, and when
  side.append(side_head, again, list);
  dialog.append(side, detail, close);
  home.append(style, dialog);
  await styled;
  const may = window.voorwerp.may?.("owner") ?? true;  // the server refuses it in any case
  fresh.hidden = !may;

  const act = message => { dialog.close(); tell(message); };  // what was asked for is on the page beneath
  // what others show: {root, show(detail, run)} of one run, {root, open(a, b, runs)} of two
  const watched = watching(), compared = comparing(act);
  let known = [], linked = [], chosen = null, shown = null, timer = 0, asking = 0, is_new = false;
  let lines = [], end = 0, attempt = 0, hover = null; // hover: {stage, epoch} under the mouse
  let place = -1; // of the pictures on screen; -1 follows the newest
  let pictures = [], found = null;
  let is_first = false; // what was found stands above the training
  const open = new Map(), begun = new Set(); // series by id: whether its runs are listed; those that were begun here

  const title = make("h2"), state = make("span", "state"), acts = make("div", "acts"), about = make("p", "about"), verdict = make("p", "verdict");
  const progress = make("div", "progress"), bar = make("i"), going = make("p", "going"), lost = make("p", "lost"), refused = make("p", "refused");
  const head = make("header"), key = make("p", "key"), removal = make("form", "removal"), members = make("div", "members");
  lost.setAttribute("role", "alert");
  refused.setAttribute("role", "alert");
  verdict.setAttribute("aria-live", "polite");
  progress.setAttribute("role", "progressbar");
  progress.setAttribute("aria-label", "How far it is");
  acts.setAttribute("role", "group");
  acts.setAttribute("aria-label", "What can be done");
  for (const [of, color] of SERIES) {
    const dot = make("i");
    dot.style.background = `var(${color})`;
    key.append(dot, of === "train" ? "training images" : "validation images");
  }
  progress.append(bar);
  head.append(title, state, acts);
  const point = (stage, epoch) => { hover = epoch === null ? null : {stage, epoch}; chart(); };
  const charts = CHARTS.map(c => new Chart(c, point, (stage, epoch) => choose_epoch(stage, epoch)));
  const curves = make("div", "curves"), any = staging({Chart, icon, point, choose: (stage, epoch) => choose_epoch(stage, epoch), turn: stage => turn_to(stage)}), findings = finding();
  curves.append(...charts.map(c => c.root));
  const strip = make("div", "strip"), labels = make("div", "labels"), picture = new Image(), caption = make("p", "caption");
  const slider = make("input"), words = make("ul", "words"), beside = make("div", "side"), tables = make("div", "tables");
  Object.assign(slider, {type: "range", min: 0, max: 0, step: 1});
  slider.setAttribute("aria-label", "Epoch of the pictures");
  slider.addEventListener("input", () => { any.follow(); show_picture(Number(slider.value)); });
  picture.alt = "";
  const pane = make("div", "pane"), control = make("div", "control");
  control.append(slider, caption);
  pane.append(labels, picture);
  beside.append(make("h3", "", "Said while training (medians of three epochs)"), words);
  const left_side = make("div");
  left_side.append(pane, control);
  strip.append(left_side, beside);
  const nothing = make("div", "hint"), watch_box = make("div");
  watch_box.append(watched.root); // it hides itself where it has nothing to show
  nothing.append(make("p", "", "Nothing has run on this survey yet."), button("Start the first run", "primary", () => begin()));
  const one = make("div", "one");
  const work = make("div", "work");
  work.append(any.root, key, curves, strip);
  one.append(head, about, progress, going, refused, removal, verdict, members, findings.lead, work, findings.body, watch_box, tables);
  const form = starting({post, tell, left: () => leave_form(), started: async told => {
    is_new = false;
    if (told.run_id) choose(told.run_id);
    else { open.set(told.series_id, true); begun.add(told.series_id); choose(told.series_id); }
    dialog.focus();
  }});
  form.root.hidden = true;
  detail.append(lost, nothing, one, form.root);
  compared.root.hidden = true;
  home.append(compared.root);

  // ---------------------------------------------------------------------------------------------------------- new run
  const begin = (given = {}) => {
    is_new = true;
    detail.scrollTop = 0;
    draw();
    form.open(given);
  };
  const leave_form = () => {
    is_new = false;
    draw();
    fresh.focus();
  };

  // ------------------------------------------------------------------------------------------- curves and pictures
  const is_any = () => lines.length > 0 && !(lines[0].stage in STAGES); // not of the anomaly model
  const chart = () => {
    const now = hover ?? spot();
    if (is_any()) { any.show(lines, known.find(r => r.run_id === chosen)?.state, place < 0 ? null : spot()?.stage, now); return; }
    for (const c of charts) c.show(lines, now && now.stage === c.about.stage ? now.epoch : null);
  };
  // epochs of pictures are counted over both stages; a line of the history is one epoch
  const spot = () => {
    const line = lines[pictures[place < 0 ? pictures.length - 1 : place] - 1];
    return line ? {stage: line.stage, epoch: line.epoch} : null;
  };
  const choose_epoch = (stage, epoch) => {
    const wanted = 1 + lines.findIndex(l => l.stage === stage && l.epoch === epoch);
    if (!wanted || !pictures.length) return;
    const nearest = pictures.reduce((a, b) => Math.abs(b - wanted) < Math.abs(a - wanted) ? b : a);
    show_picture(pictures.indexOf(nearest));
  };
  const turn_to = stage => { // its last picture, where it has one
    const at = pictures.findLastIndex(epoch => lines[epoch - 1]?.stage === stage);
    if (at >= 0) show_picture(at);
    else chart();
  };
  const show_picture = at => {
    if (!pictures.length) return;
    at = Math.max(0, Math.min(pictures.length - 1, at));
    place = at === pictures.length - 1 ? -1 : at;
    slider.max = pictures.length - 1;
    slider.value = at;
    const epoch = pictures[at], line = lines[epoch - 1], own = shown?.rows?.[epoch], stage = line?.stage ?? "gan", source = `grid?${new URLSearchParams({run: chosen, epoch})}`;
    if (picture.getAttribute("src") !== source) {
      picture.src = source;
      for (const near of [at - 1, at + 1]) if (near in pictures) new Image().src = `grid?${new URLSearchParams({run: chosen, epoch: pictures[near]})}`;
    }
    const rows = own?.rows ?? ROWS[stage] ?? [], after = line ? `${STAGES[line.stage] ?? line.stage}, epoch ${line.epoch} of ${line.of}` : epoch ? `after ${epoch} epochs in all` : "before the first epoch";
    put(labels, rows.join("\n"), () => rows.map(text => Object.assign(make("span", "", text), {title: own ? text : ""})));
    pane.style.setProperty("--rows", Math.max(1, rows.length));
    pane.style.setProperty("--columns", own?.columns ?? 8);
    pane.classList.toggle("own", Boolean(own));
    picture.alt = own ? `${rows.join("; ")}: ${after}` : `${rows.join(", ").replaceAll("\u00ad", "")} images after epoch ${epoch}`;
    const white = shown?.scale?.residual_white, fixed = white ? `residual: white is ${format(white)} or more` : "";
    say(caption, [after, stage === "encoder" && !own ? fixed : ""].filter(Boolean).join(" · "));
    chart();
  };

  // ------------------------------------------------------------------------------------------------------------- list
  const items = new Map(); // by id, so that what is in focus stays there
  const item_of = (id, name) => {
    if (!items.has(id)) {
      const e = button("", `run ${name}`, () => choose(id)), text = make("span", "text"), top = make("span", "top");
      e.dataset.run = id;
      e.title = id;
      top.append(make("b"), make("em"));
      text.append(top, make("span", "quiet"), make("span", "quiet"));
      e.append(make("span", "sign"), text);
      items.set(id, e);
    }
    return items.get(id);
  };
  const fill = (e, {state, name, share, about, at}) => {
    const [sign, text] = e.children, [top, second, third] = text.children;
    put(sign, state, () => [icon(state)]);
    say(top.children[0], name);
    say(top.children[1], share);
    say(second, about);
    say(third, at);
    third.hidden = !at;
    for (const one of Object.keys(SHAPES)) e.classList.toggle(one, one === state);
    if (e.dataset.run === chosen && !is_new) e.setAttribute("aria-current", "true"); else e.removeAttribute("aria-current");
  };
  const draw_list = () => {
    const placed = [], seen = new Set();
    const of_run = (run, name) => {
      const e = item_of(run.run_id, "");
      const share = run.state === "running" && run.total ? `${Math.floor(100 * run.done / run.total)} %` : run.state === "done" ? "" : run.state;
      e.classList.toggle("member", Boolean(name));
      fill(e, {state: run.state, name: run.title, share, about: [run.about, run.of].filter(Boolean).join(" · ") || run.run_id, at: name ? "" : when(run.created_at)});
      placed.push(e);
    };
    for (const run of known) {
      const series = run.series && linked.find(s => s.series_id === run.series);
      if (!series) { of_run(run, ""); continue; }
      if (seen.has(run.series)) continue;
      seen.add(run.series);
      const inside = known.filter(r => r.series === run.series), e = item_of(run.series, "series");
      const unfolded = open.get(run.series) ?? inside.some(r => r.run_id === chosen);
      fill(e, {state: series.state, name: `Series: ${inside.length} run${inside.length === 1 ? "" : "s"}`, share: series.state === "done" ? "" : series.n ? `${series.n_trained} of ${series.n}` : series.state, about: series.about, at: when(inside.at(-1).created_at)});
      e.setAttribute("aria-expanded", unfolded);
      placed.push(e);
      if (unfolded) for (const member of inside) of_run(member, "member");
    }
    if (placed.length !== list.children.length || placed.some((e, i) => list.children[i] !== e)) {
      const focused = home.getRootNode().activeElement?.dataset?.run, at = list.scrollTop;
      list.replaceChildren(...placed);
      list.scrollTop = at;
      if (focused) items.get(focused)?.focus({preventScroll: true});
    }
  };

  // ---------------------------------------------------------------------------------------------------------- one run
  const table = (name, entries) => {
    const box = make("div"), body = make("dl");
    for (const [key, value] of entries) {
      body.append(make("dt", "", key.replaceAll("_", " ")), make("dd", "", typeof value === "number" ? (Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)))) : typeof value === "string" ? value : JSON.stringify(value)));
    }
    box.append(make("h3", "", name), body);
    return entries.length ? [box] : [];
  };
  const decide = async (what, asked, after = () => {}) => {
    for (const e of acts.children) e.disabled = true;
    acts.setAttribute("aria-busy", "true");
    refused.textContent = "";
    try {
      await post(what, asked);
      after();
    } catch (error) {
      refused.textContent = sentence(error);
    }
    acts.removeAttribute("aria-busy");
    for (const e of acts.children) e.disabled = false;
    ask();
  };
  const go_on = run => {
    const at = shown?.stands_at, of = lines.findLast(l => l.stage === at?.stage)?.of;
    if (run.kind !== "train" || !shown) return "Go on";
    if (!at) return "Begin again"; // nothing was saved yet
    return at.stage === "gan" && at.epoch > of ? "Go on with the encoder" : `Go on from epoch ${at.epoch}${at.stage === "encoder" ? " of the encoder" : ""}`;
  };
  const draw_acts = run => {
    const made = [];
    if (may && LIVE.includes(run.state)) made.push(["Cancel", "", () => decide("cancel", {run: run.run_id}), "Stop it; what is done so far is kept, and it can be gone on with"]);
    if (may && ENDED.includes(run.state)) made.push([go_on(run), "primary", () => decide("resume", {run: run.run_id}), shown?.stands_at || run.kind !== "train" ? "From what was saved last" : "Nothing was saved yet: trainings are every two minutes"]);
    if (run.has_scores) made.push(["Color by this run", "primary", () => act({color: run.run_id}), "The map, the gallery and the histograms show its scores"]);
    if (run.is_map) made.push(["Lay out on this map", "primary", () => act({map: run.run_id}), "The subjects lie where this map has them"]);
    if (may && run.kind === "train" && run.state === "done") made.push(["Score with it …", "primary", () => begin({kind: "score", parents: [run.run_id]}), "A new run that scores every subject by this training"]);
    if (run.has_scores) made.push(["Compare with …", "", () => compared.open("", run.run_id, known), "Rank against rank with another run"]);
    if (may && !LIVE.includes(run.state)) {
      made.push(["Run again …", "", () => begin({kind: run.kind, config: Object.fromEntries(shown.own), parents: shown.inputs.map(([, id]) => id)}), "A new run, with its settings to begin with"]);
      made.push(["Delete …", "", () => ask_removal(run), "For good, by its name"]);
    }
    return made;
  };
  const put_acts = made => put(acts, JSON.stringify([chosen, made.map(([text]) => text)]), () => made.map(([text, name, run, title]) => button(text, name, run, title)));

  let removing = "";
  const ask_removal = run => {
    removing = run.run_id;
    const field = make("input"), words = make("p"), go = make("button", "danger", "Delete"), built = shown?.built_on_by ?? [];
    refused.textContent = "";
    if (built.length) {
      words.textContent = `${built.slice(0, 3).join(", ")}${built.length > 3 ? ` and ${built.length - 3} more` : ""} ${built.length === 1 ? "builds" : "build"} on it: delete what builds on it first.`;
      removal.replaceChildren(words, button("Keep it", "", keep));
    } else {
      words.append("Type ", make("code", "", run.run_id), " to delete it and all its files for good.");
      Object.assign(field, {type: "text", autocomplete: "off", spellcheck: false});
      field.setAttribute("aria-label", "Name of the run to delete");
      go.type = "submit";
      go.disabled = true;
      field.addEventListener("input", () => { go.disabled = field.value.trim() !== run.run_id; });
      removal.replaceChildren(words, field, go, button("Keep it", "", keep));
    }
    draw();
    removal.querySelector("input, button").focus();
  };
  const keep = () => { removing = ""; draw(); acts.lastElementChild?.focus(); };
  removal.addEventListener("submit", event => {
    event.preventDefault();
    const gone = removing, typed = removal.querySelector("input").value.trim();
    decide("delete", {run: gone, typed}, () => {
      removing = "";
      const at = known.findIndex(r => r.run_id === gone), next = known[at + 1] ?? known[at - 1];
      forget();
      known = known.filter(r => r.run_id !== gone);
      chosen = next?.run_id ?? null;
      dialog.focus();
    });
  });

  const draw_series = series => {
    const inside = known.filter(r => r.series === series.series_id), at_work = inside.find(r => LIVE.includes(r.state));
    say(title, "Series of trainings");
    say(about, [series.series_id, series.about, inside[0]?.started_by && `started by ${inside[0].started_by}`].filter(Boolean).join(" · "));
    progress.hidden = !series.n || series.state === "done";
    bar.style.width = `${100 * series.n_trained / series.n}%`;
    say(going, [series.said && `${upper(series.said)}.`, series.step || (at_work ? at_work.title : ""), at_work?.message, series.n && `${series.n_trained} of ${series.n} trained`, at_work?.time_left].filter(Boolean).join(" · "));
    going.hidden = !going.textContent;
    const made = [];
    if (may && series.is_here) made.push(["Cancel the series", "", () => decide("cancel", {run: series.series_id}), "Stop it and the run that it is at; it can be gone on with"]);
    else if (may && series.state !== "done" && !at_work) made.push(["Go on with the series", "primary", () => decide("resume", {run: series.series_id}), "What is done is not done again"]);
    const ranked = inside.find(r => r.kind === "ranks" && r.state === "done");
    if (ranked) made.push(["Color by its mean ranks", "primary", () => act({color: ranked.run_id}), "Mean rank over all its runs; what is fragile is marked"]);
    put_acts(made);
    put(members, JSON.stringify(inside.map(r => [r.run_id, r.state, r.about])), () => inside.map(r => {
      const line = button("", "member", () => choose(r.run_id));
      line.append(icon(r.state), make("b", "", r.title), make("span", "quiet", r.about), make("em", "quiet", r.state));
      return line;
    }));
  };

  const draw = () => {
    draw_list();
    form.root.hidden = !is_new;
    const run = known.find(r => r.run_id === chosen), series = linked.find(s => s.series_id === chosen);
    nothing.hidden = is_new || Boolean(run ?? series ?? chosen);
    one.hidden = is_new || !(run ?? series);
    if (one.hidden) return;
    const now = (run ?? series).state;
    state.className = `state ${now}`;
    put(state, now, () => [icon(now), now]);
    members.hidden = !series;
    one.classList.toggle("waiting", !series && !shown); // what stands below is of another run
    removal.hidden = series !== undefined || removing !== chosen;
    for (const part of [verdict, findings.lead, work, findings.body, watch_box, tables]) part.hidden = !run;
    if (series) { draw_series(series); return; }
    const took = !LIVE.includes(run.state) && run.finished_at ? lasted(run.created_at, run.finished_at) : "";
    say(title, run.title);
    say(about, [run.run_id, run.about, run.of, run.started_by && `started by ${run.started_by} ${when(run.created_at)}`, took && `took ${took}`].filter(Boolean).join(" · "));
    const is_live = run.state === "running", speed = is_live ? lines.at(-1)?.images_per_second : null;
    progress.hidden = !is_live || !run.total;
    bar.style.width = run.total ? `${100 * run.done / run.total}%` : "0";
    progress.setAttribute("aria-valuenow", run.total ? Math.round(100 * run.done / run.total) : 0);
    const rate = speed ? `${format(Math.round(speed))} images a second` : is_live && run.rate ? `${format(run.rate)} a second` : "";
    say(going, is_live || run.state === "pending" ? [run.message, rate, run.time_left, is_live && run.device, is_live && memory(run.memory_mb)].filter(Boolean).join(" · ")
      : ENDED.includes(run.state) ? upper(run.error ?? "") : "");
    going.classList.toggle("bad", run.state === "failed");
    going.hidden = !going.textContent;
    if (!shown) { put_acts(LIVE.includes(run.state) ? draw_acts(run) : []); return; }
    put_acts(draw_acts(run));
    say(verdict, upper(shown.verdict ?? ""));
    verdict.hidden = !shown.verdict;
    verdict.classList.toggle("sound", shown.is_sound);
    const generic = is_any();
    any.root.hidden = !generic;
    curves.hidden = key.hidden = !lines.length || generic;
    work.classList.toggle("any", generic || !lines.length);
    work.classList.toggle("pictured", pictures.length > 0);
    strip.hidden = !pictures.length && !lines.some(l => l.word);
    left_side.hidden = !pictures.length;
    const said = lines.filter(l => l.word);
    beside.hidden = !said.length;
    // what was said of several epochs is said once, with the last one's numbers
    const spells = new Map();
    for (const l of said) {
      const key = `${l.stage}: ${l.word.split(":")[0]}`, before = spells.get(key);
      spells.delete(key);
      spells.set(key, {...l, from: before?.from ?? l.epoch, n: (before?.n ?? 0) + 1});
    }
    put(words, JSON.stringify([...spells.values()].map(s => [s.word, s.n])), () => [...spells.values()].toReversed().map(s => {
      const item = make("li", "", s.word);
      item.prepend(make("b", "", `${STAGES[s.stage] ?? s.stage} ${s.n === 1 ? s.epoch : `${s.from} to ${s.epoch}, ${s.n} epochs`}`));
      return item;
    }));
    put(tables, JSON.stringify([shown.results, shown.settings, shown.labels, shown.inputs]), () => [...table("Results", shown.results), ...table("Settings", shown.settings), ...table("Learned from", shown.labels ?? []), ...table("Built on", shown.inputs)]);
    findings.show(found);
    // of a run at work it grows below, where nothing moves; at the end it comes first, unless somebody reads further down
    if (run.state === "done" && !is_first && detail.scrollTop < 40) is_first = true;
    const before = is_first ? work : watch_box;
    if (findings.body.nextElementSibling !== before) one.insertBefore(findings.body, before);
    watched.show(shown, run);
    if (pictures.length) show_picture(place < 0 ? pictures.length - 1 : place); else chart();
  };

  const forget = () => {
    [lines, end, attempt, pictures, place, shown, removing, found, is_first] = [[], 0, 0, [], -1, null, "", null, false];
    any.forget();
    refused.textContent = "";
    picture.removeAttribute("src");
  };

  const ask = async () => {
    clearTimeout(timer);
    const mine = ++asking, is_run = chosen && !begun.has(chosen) && !linked.some(s => s.series_id === chosen);
    try {
      const query = new URLSearchParams(is_run ? {run: chosen, from: end, attempt, found: found ? shown.found_at : ""} : {});
      const answer = await fetch(`training?${query}`, {credentials: "same-origin"}), told = await answer.json();
      if (mine !== asking || !dialog.open) return;
      if (!answer.ok && is_run && !LIVE.includes(known.find(r => r.run_id === chosen)?.state)) { // deleted from elsewhere, or a series that is not listed yet
        const all = await (await fetch("training", {credentials: "same-origin"})).json();
        if (mine !== asking || !dialog.open) return;
        [known, linked] = [all.runs, all.series];
        if (!known.some(r => r.run_id === chosen) && !linked.some(s => s.series_id === chosen)) { forget(); chosen = null; }
      } else if (!answer.ok) throw new Error(told.error);
      else {
        [known, linked] = [told.runs, told.series];
        say(again, told.retraining?.sentence ?? "");
        again.hidden = !told.retraining;
        if (told.detail) {
          const {history} = shown = told.detail;
          if (history.start === 0) lines = [];
          if ("findings" in shown) found = shown.findings;
          lines.push(...history.lines);
          [end, attempt, pictures] = [history.end, shown.attempt, shown.grids];
        }
      }
      lost.textContent = "";
      if (!chosen && known.length) {
        chosen = (known.find(r => r.state === "running") ?? known.find(r => r.kind === "train") ?? known[0]).run_id;
        draw();
        ask();
        return;
      }
      draw();
    } catch (error) {
      if (mine !== asking) return;
      lost.textContent = error instanceof TypeError ? "The server does not answer; is it still running?" : `The runs could not be read: ${error.message}.`;
    }
    timer = setTimeout(ask, POLL);
  };

  const choose = id => {
    if (id !== chosen) {
      forget();
      chosen = id;
      detail.scrollTop = 0;
    } else if (linked.some(s => s.series_id === id)) open.set(id, !(open.get(id) ?? false));
    if (linked.some(s => s.series_id === id) && !open.has(id)) open.set(id, true);
    is_new = false;
    draw();
    ask();
  };

  dialog.addEventListener("keydown", e => {
    e.stopPropagation(); // the keys of the page beneath are not meant
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const target = e.target, typing = /^(input|select|textarea)$/i.test(target.tagName) && target.type !== "range";
    if (e.key === "Escape" && (removing || is_new)) { // one step back
      e.preventDefault();
      if (removing) keep(); else leave_form();
      return;
    }
    if (typing || is_new) return;
    const across = {ArrowLeft: -1, ArrowRight: 1}[e.key], down = {ArrowUp: -1, ArrowDown: 1}[e.key];
    if (across && pictures.length) {
      e.preventDefault();
      any.follow();
      show_picture((place < 0 ? pictures.length - 1 : place) + across);
    } else if (down) {
      const all = [...list.children], next = all[all.findIndex(i => i.dataset.run === chosen) + down];
      e.preventDefault();
      if (next) {
        choose(next.dataset.run);
        next.scrollIntoView({block: "nearest"});
      }
    } else if (e.key.toLowerCase() === "r") dialog.close();
    else if (e.key.toLowerCase() === "n") { e.preventDefault(); begin(); }
  });
  dialog.addEventListener("close", () => { clearTimeout(timer); asking += 1; });
  new ResizeObserver(() => { if (dialog.open) chart(); }).observe(curves);
  window.addEventListener("voorwerp-theme", () => { if (dialog.open) chart(); });

  return {
    /** Show it: at a run, or with the form for a new one ({kind, parents, config}, {} for any). */
    open({run = "", start = null} = {}) {
      if (!dialog.open) { dialog.showModal(); dialog.focus(); }
      if (run && run !== chosen) { forget(); chosen = run; }
      if (run) is_new = false;
      if (start) begin(start); else draw();
      ask();
    },
    /** What is selected on the page: {k, name, n}. */
    selection: now => form.selection(now),
  };
}
