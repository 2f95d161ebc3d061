// The dialog of runs: every run in a line, and one in full. Of a training: losses by epoch, and what the networks make of
// the same few images, epoch by epoch. Asks /training once a second while it is open, and nothing while it is not.
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

const make = (tag, name, text) => {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
};
const format = v => v === null || v === undefined ? "–" : window.voorwerp.format(v);
const when = text => text.slice(0, 16).replace("T", " ");

// ------------------------------------------------------------------------------------------------------------ charts
const steps = (low, high, n) => {
  const raw = (high - low) / n || 1, ten = 10 ** Math.floor(Math.log10(raw));
  const step = ten * [1, 2, 5, 10].find(s => s * ten >= raw), found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-6; v += step) found.push(Math.abs(v) < step / 1e6 ? 0 : v);
  return found;
};
const decades = (low, high) => {
  const found = [];
  for (let k = Math.floor(Math.log10(low)); k <= Math.log10(high) + 1; k++) for (const s of [1, 2, 5]) found.push(s * 10 ** k);
  const inside = found.filter(v => v >= low * 0.999 && v <= high * 1.001), tens = inside.filter(v => Math.abs(Math.log10(v) % 1) < 1e-9);
  return tens.length >= 3 ? tens : inside;
};

class Chart {
  // One quantity by epoch: training and validation. `point` is called with the epoch under the mouse, or null.
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
    const values = series.flatMap(s => s.at.map(p => p[1])).filter(v => v !== null);
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
    const [bottom, top] = [f(low) - pad, f(high) + pad], last = Math.max(2, ...lines.map(l => l.of ?? l.epoch));
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
    pen.lineWidth = 1.5;
    pen.lineJoin = "round";
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

// ------------------------------------------------------------------------------------------------------------ dialog
/** @param tell sends a message to the session: {color: run_id}, {map: run_id}, … (explorer/views/shell.py). */
export async function runs(home, {act: tell, parts}) {
  const plugged = Object.fromEntries(await Promise.all(parts.map(async name => [name, await import(`./${name}.js`)])));
  const style = make("link");
  Object.assign(style, {rel: "stylesheet", href: new URL("assets/runs.css", document.baseURI).href});
  const styled = new Promise(done => { style.onload = style.onerror = done; });
  const dialog = make("dialog", "runs"), list = make("nav"), detail = make("section"), close = make("button", "close", "✕");
  dialog.tabIndex = -1;
  dialog.setAttribute("aria-label", "Runs and training");
  list.setAttribute("aria-label", "Runs");
  close.type = "button";
  close.title = "Close (Esc)";
  close.setAttribute("aria-label", "Close");
  close.addEventListener("click", () => dialog.close());
  dialog.append(list, detail, close);
  home.append(style, dialog);
  await styled;

  const act = message => { dialog.close(); tell(message); };  // what was asked for is on the page beneath
  // what others show: {root, show(detail, run)} of one run, {root, open(a, b, runs)} of two
  const watched = plugged.watch?.watching(), compared = plugged.compare_runs?.comparing(act);
  let known = [], chosen = null, shown = null, timer = 0, asking = 0;
  let lines = [], end = 0, attempt = 0, hover = null; // hover: {stage, epoch} under the mouse
  let place = -1; // of the pictures on screen; -1 follows the newest
  let pictures = [];

  const title = make("h2"), state = make("span", "state"), about = make("p", "about"), verdict = make("p", "verdict");
  const progress = make("div", "progress"), bar = make("i"), going = make("p", "going"), lost = make("p", "lost");
  const head = make("header"), key = make("p", "key");
  lost.setAttribute("role", "alert");
  verdict.setAttribute("aria-live", "polite");
  for (const [of, color] of SERIES) {
    const dot = make("i");
    dot.style.background = `var(${color})`;
    key.append(dot, of === "train" ? "training images" : "validation images");
  }
  progress.append(bar);
  head.append(title, state);
  const charts = CHARTS.map(c => new Chart(c, (stage, epoch) => { hover = epoch === null ? null : {stage, epoch}; chart(); }, (stage, epoch) => choose_epoch(stage, epoch)));
  const curves = make("div", "curves");
  curves.append(...charts.map(c => c.root));
  const strip = make("div", "strip"), labels = make("div", "labels"), picture = new Image(), caption = make("p", "caption");
  const slider = make("input"), words = make("ul", "words"), side = make("div", "side"), tables = make("div", "tables");
  Object.assign(slider, {type: "range", min: 0, max: 0, step: 1});
  slider.setAttribute("aria-label", "Epoch of the pictures");
  slider.addEventListener("input", () => show_picture(Number(slider.value)));
  picture.alt = "";
  const pane = make("div", "pane"), control = make("div", "control");
  control.append(slider, caption);
  pane.append(labels, picture);
  side.append(make("h3", "", "Said while training (medians of three epochs)"), words);
  const left_side = make("div");
  left_side.append(pane, control);
  strip.append(left_side, side);
  const nothing = make("p", "hint");
  detail.append(lost, nothing, head, about, progress, going, verdict, key, curves, strip);
  if (watched) detail.append(watched.root);
  if (compared) { compared.root.hidden = true; detail.append(compared.root); }
  detail.append(tables);

  const chart = () => {
    const now = hover ?? spot();
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
  const show_picture = at => {
    if (!pictures.length) return;
    at = Math.max(0, Math.min(pictures.length - 1, at));
    place = at === pictures.length - 1 ? -1 : at;
    slider.max = pictures.length - 1;
    slider.value = at;
    const epoch = pictures[at], line = lines[epoch - 1], stage = line?.stage ?? "gan", source = `grid?${new URLSearchParams({run: chosen, epoch})}`;
    if (picture.getAttribute("src") !== source) {
      picture.src = source;
      for (const near of [at - 1, at + 1]) if (near in pictures) new Image().src = `grid?${new URLSearchParams({run: chosen, epoch: pictures[near]})}`;
    }
    labels.replaceChildren(...ROWS[stage].map(text => make("span", "", text)));
    picture.alt = `${ROWS[stage].join(", ").replaceAll("\u00ad", "")} images after epoch ${epoch}`;
    const white = shown?.scale?.residual_white, fixed = white ? `residual: white is ${format(white)} or more` : "";
    caption.textContent = [line ? `${STAGES[stage]}, epoch ${line.epoch} of ${line.of}` : `epoch ${epoch}`, stage === "encoder" ? fixed : ""].filter(Boolean).join(" · ");
    chart();
  };

  const draw_list = () => {
    const items = known.map(run => {
      const item = make("button", `run ${run.state}`), dot = make("i"), text = make("span", "text"), top = make("span", "top"), bottom = make("span", "quiet", run.about || run.run_id);
      item.type = "button";
      item.dataset.run = run.run_id;
      item.title = run.run_id;
      if (run.run_id === chosen) item.setAttribute("aria-current", "true");
      const share = run.state === "running" && run.total ? `${Math.floor(100 * run.done / run.total)} %` : run.state === "done" ? "" : run.state;
      top.append(make("b", "", run.title), make("em", "", share));
      text.append(top, bottom, make("span", "quiet", when(run.created_at)));
      item.append(dot, text);
      item.addEventListener("click", () => choose(run.run_id));
      return item;
    });
    const at = list.scrollTop, focused = home.getRootNode().activeElement?.dataset?.run;
    list.replaceChildren(make("h2", "", "Runs"), ...items);
    list.scrollTop = at;
    if (focused) items.find(i => i.dataset.run === focused)?.focus({preventScroll: true});
  };

  const table = (name, entries) => {
    const box = make("div"), body = make("dl");
    for (const [key, value] of entries) {
      body.append(make("dt", "", key.replaceAll("_", " ")), make("dd", "", typeof value === "number" ? (Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)))) : typeof value === "string" ? value : JSON.stringify(value)));
    }
    box.append(make("h3", "", name), body);
    return entries.length ? [box] : [];
  };

  const draw = () => {
    draw_list();
    const run = known.find(r => r.run_id === chosen);
    nothing.hidden = Boolean(run);
    if (!run) nothing.textContent = "Nothing has run on this survey yet. In a terminal: voorwerp run SURVEY train";
    for (const part of [head, about, progress, going, verdict, key, curves, strip, tables]) part.hidden = !run;
    if (!run || !shown) return;
    title.textContent = run.title;
    state.textContent = run.state;
    state.className = `state ${run.state}`;
    about.textContent = [run.run_id, run.about].filter(Boolean).join(" · ");
    const is_live = run.state === "running", speed = is_live ? lines.at(-1)?.images_per_second : null;
    progress.hidden = !is_live || !run.total;
    bar.style.width = run.total ? `${100 * run.done / run.total}%` : "0";
    const rate = speed ? `${format(Math.round(speed))} images a second` : is_live && run.rate ? `${format(run.rate)} a second` : "";
    going.textContent = is_live || run.state === "pending" ? [run.message, rate, run.time_left].filter(Boolean).join(" · ")
      : ENDED.includes(run.state) ? [run.error, `voorwerp resume SURVEY ${run.run_id} goes on with it`].filter(Boolean).join("; ") : "";
    going.hidden = !going.textContent;
    verdict.textContent = shown.verdict ? shown.verdict[0].toUpperCase() + shown.verdict.slice(1) : "";
    verdict.hidden = !shown.verdict;
    verdict.classList.toggle("sound", shown.is_sound);
    curves.hidden = key.hidden = !lines.length;
    strip.hidden = !pictures.length && !lines.some(l => l.word);
    left_side.hidden = !pictures.length;
    const said = lines.filter(l => l.word);
    side.hidden = !said.length;
    // what was said of several epochs is said once, with the last one's numbers
    const spells = new Map();
    for (const l of said) {
      const key = `${l.stage}: ${l.word.split(":")[0]}`, before = spells.get(key);
      spells.delete(key);
      spells.set(key, {...l, from: before?.from ?? l.epoch, n: (before?.n ?? 0) + 1});
    }
    words.replaceChildren(...[...spells.values()].toReversed().map(s => {
      const item = make("li", "", s.word);
      item.prepend(make("b", "", `${STAGES[s.stage]} ${s.n === 1 ? s.epoch : `${s.from} to ${s.epoch}, ${s.n} epochs`}`));
      return item;
    }));
    tables.replaceChildren(...table("Results", shown.results), ...table("Settings", shown.settings), ...table("Built on", shown.inputs));
    watched?.show(shown, run);
    if (pictures.length) show_picture(place < 0 ? pictures.length - 1 : place); else chart();
  };

  const forget = () => {
    [lines, end, attempt, pictures, place, shown] = [[], 0, 0, [], -1, null];
    picture.removeAttribute("src");
  };

  const ask = async () => {
    clearTimeout(timer);
    const mine = ++asking;
    try {
      const query = new URLSearchParams(chosen ? {run: chosen, from: end, attempt} : {});
      const answer = await fetch(`training?${query}`, {credentials: "same-origin"}), told = await answer.json();
      if (mine !== asking || !dialog.open) return;
      if (!answer.ok) throw new Error(told.error);
      known = told.runs;
      if (told.detail) {
        const {history} = shown = told.detail;
        if (history.start === 0) lines = [];
        lines.push(...history.lines);
        [end, attempt, pictures] = [history.end, shown.attempt, shown.grids];
      }
      lost.textContent = "";
      if (!chosen && known.length) {
        choose((known.find(r => r.state === "running") ?? known.find(r => r.kind === "train") ?? known[0]).run_id);
        return;
      }
      draw();
    } catch (error) {
      if (mine !== asking) return;
      lost.textContent = error instanceof TypeError ? "The server does not answer; is it still running?" : `The runs could not be read: ${error.message}.`;
    }
    timer = setTimeout(ask, POLL);
  };

  const choose = run_id => {
    if (run_id !== chosen) {
      forget();
      chosen = run_id;
      detail.scrollTop = 0;
    }
    ask();
  };

  dialog.addEventListener("keydown", e => {
    e.stopPropagation(); // the keys of the page beneath are not meant
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const across = {ArrowLeft: -1, ArrowRight: 1}[e.key], down = {ArrowUp: -1, ArrowDown: 1}[e.key];
    if (across && pictures.length) {
      e.preventDefault();
      show_picture((place < 0 ? pictures.length - 1 : place) + across);
    } else if (down) {
      const at = known.findIndex(r => r.run_id === chosen) + down;
      e.preventDefault();
      if (at in known) {
        choose(known[at].run_id);
        list.querySelector(`[data-run="${CSS.escape(known[at].run_id)}"]`)?.scrollIntoView({block: "nearest"});
      }
    } else if (e.key.toLowerCase() === "r") dialog.close();
  });
  dialog.addEventListener("close", () => { clearTimeout(timer); asking += 1; });
  new ResizeObserver(() => { if (dialog.open) chart(); }).observe(curves);
  window.addEventListener("voorwerp-theme", () => { if (dialog.open) chart(); });

  return {
    open() {
      if (dialog.open) return;
      dialog.showModal();
      dialog.focus();
      draw();
      ask();
    },
  };
}
