// The page of volunteers: which votes are counted and how, how often subjects are chosen, who voted, what fewer votes would
// have done, and where machine and crowd disagree. Asks /volunteers while it is open. What changes the count or selects is
// sent to the session through `door`. Nothing that a volunteer wrote is more than text here.
const QUIET = 60; // ms a slider rests before it asks
const PERCENTILES = [...Array.from({length: 19}, (_, i) => 5 * i), ...Array.from({length: 9}, (_, i) => 91 + i), ...Array.from({length: 9}, (_, i) => (991 + i) / 10)];
const TABS = [["fraction", "Chosen fraction"], ["people", "Volunteers"], ["retirement", "Retirement"], ["machine", "Machine and crowd"]];
const WEIGHTS = [["none", "every volunteer alike"], ["experience", "experienced count more"], ["log", "by log of experience"], ["skill", "by skill"]];

const make = (tag, name, text) => {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
};
const put = (e, ...children) => { e.append(...children); return e; };
const button = (name, text, run, title) => {
  const e = make("button", name, text);
  e.type = "button";
  if (title) e.title = title;
  e.addEventListener("click", run);
  return e;
};
const shade = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const whole = n => n.toLocaleString("en");
const brief = n => n >= 1e6 ? `${Number((n / 1e6).toPrecision(3))} M` : n >= 1e4 ? `${Number((n / 1e3).toPrecision(3))} k` : whole(n);
const many = (n, one) => `${whole(n)} ${one}${n === 1 ? "" : "s"}`;
/** A share from 0 to 1 as it is printed in papers: .54. */
const part = (v, digits = 2) => v === null || v === undefined ? "–" : v.toFixed(digits).replace(/^(-?)0\./, "$1.").replace("-", "−");
const percent = v => `${v >= 0.9995 || v === 0 ? Math.round(100 * v) : Number((100 * v).toPrecision(v >= 0.1 ? 3 : 2))} %`;
const span = (low, high, digits = 2) => low === null || low === undefined ? "" : `[${part(low, digits)}, ${part(high, digits)}]`;
const rated = ({k, n, low, high}) => n ? `${percent(k / n)} [${percent(low)}, ${percent(high)}]` : "–";
const worded = name => name.replaceAll("_", " ");
/** A count; one decimal where it is a mean over orders, or a tie counts half. */
const counted = v => Math.abs(v - Math.round(v)) < 1e-6 ? whole(Math.round(v)) : v.toLocaleString("en", {minimumFractionDigits: 1, maximumFractionDigits: 1});
const number = v => v === null || v === undefined ? "–" : Math.abs(v) >= 1000 ? whole(Math.round(v)) : String(Number(v.toPrecision(3)));

// ------------------------------------------------------------------------------------------------------------ charts
const BOX = {left: 44, right: 10, top: 8, bottom: 34};

class Chart {
  /** A canvas with a heading; `paint(pen, box)` draws it, `tell(x, y, box)` says what is at a place: lines of text, or null. */
  constructor(title, {paint, tell, box = {}, click}) {
    Object.assign(this, {paint, tell, margins: {...BOX, ...box}});
    this.root = make("figure", "chart");
    this.title = make("h3", "", title);
    this.note = make("p", "note");
    this.canvas = make("canvas");
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", title);
    this.said = make("p", "said");
    this.said.hidden = true;
    this.card = make("div", "card");
    this.card.hidden = true;
    const plot = put(make("div", "plot"), this.canvas, this.said, this.card);
    this.root.append(put(make("figcaption"), this.title, this.note), plot);
    this.say("Reading …");
    this.canvas.addEventListener("pointermove", e => this.point(e));
    this.canvas.addEventListener("pointerleave", () => { this.card.hidden = true; });
    new ResizeObserver(() => this.draw()).observe(this.canvas); // its heading may wrap, its neighbor may shrink
    if (click) this.canvas.addEventListener("click", e => { if (this.box) click(e.offsetX, e.offsetY, this.box); });
  }

  /** A sentence in place of the picture; none for the empty text. */
  say(text) {
    this.said.textContent = text;
    this.said.hidden = !text;
    this.canvas.hidden = Boolean(text);
    this.card.hidden = true;
  }

  describe(note, label) {
    this.note.replaceChildren(...[note].flat());
    this.canvas.setAttribute("aria-label", label ?? `${this.title.textContent}: ${this.note.textContent}`);
  }

  draw() {
    const {canvas} = this, ratio = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
    this.box = null;
    if (w < 80 || h < 60) return;
    canvas.width = Math.round(w * ratio);
    canvas.height = Math.round(h * ratio);
    const pen = canvas.getContext("2d"), {left, right, top, bottom} = this.margins;
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = "10px Inter, 'Segoe UI', Roboto, Arial, sans-serif";
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

/** Axes of a box: marks are [value, text]; `x` and `y` map values to pixels. */
const axes = (pen, box, x, y, across, up, {title_x = "", title_y = "", grid = true} = {}) => {
  pen.lineWidth = 1;
  pen.fillStyle = shade("--quiet");
  pen.strokeStyle = shade("--line");
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const [v, text] of up) {
    const at = Math.round(y(v)) + 0.5;
    if (grid) { pen.beginPath(); pen.moveTo(box.x0, at); pen.lineTo(box.x1, at); pen.stroke(); }
    pen.fillText(text, box.x0 - 6, at);
  }
  pen.textAlign = "center";
  pen.textBaseline = "alphabetic";
  for (const [v, text] of across) {
    const at = Math.round(x(v)) + 0.5;
    pen.beginPath(); pen.moveTo(at, box.y0); pen.lineTo(at, box.y0 + 3); pen.stroke();
    pen.fillText(text, Math.min(box.x1 + 8 - pen.measureText(text).width / 2, at), box.y0 + 14);
  }
  pen.fillText(title_x, (box.x0 + box.x1) / 2, box.y0 + 29);
  if (title_y) {
    pen.save();
    pen.translate(9, (box.y0 + box.y1) / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(title_y, 0, 0);
    pen.restore();
  }
};
const line = (pen, points, color, {width = 1.5, dash = []} = {}) => {
  pen.strokeStyle = color;
  pen.lineWidth = width;
  pen.setLineDash(dash);
  pen.beginPath();
  points.forEach(([x, y], i) => i ? pen.lineTo(x, y) : pen.moveTo(x, y));
  pen.stroke();
  pen.setLineDash([]);
};
const TENTHS = [0, 0.2, 0.4, 0.6, 0.8, 1].map(v => [v, v === 0 || v === 1 ? String(v) : part(v, 1)]);
const ticks = (low, high, n) => {
  const rough = (high - low) / n, base = 10 ** Math.floor(Math.log10(rough)), step = base * [1, 2, 5, 10].find(m => m * base >= rough * 0.999);
  const found = [];
  if (step > 0) for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(Number((k * step).toPrecision(10)));
  return found;
};
/** Cells of counts as shades of one color, by the logarithm of the count. */
const paint_cells = (pen, cells, place, color) => {
  const most = Math.max(1, ...cells.map(row => Math.max(...row)));
  pen.fillStyle = color;
  cells.forEach((row, j) => row.forEach((k, i) => {
    if (!k) return;
    pen.globalAlpha = 0.1 + 0.9 * Math.log1p(k) / Math.log1p(most);
    const [x0, y0, x1, y1] = place(i, j).map(Math.round);
    pen.fillRect(x0, y0, x1 - x0, y1 - y0);
  }));
  pen.globalAlpha = 1;
};

// ------------------------------------------------------------------------------------------------------------ the sheet
export async function volunteers(home, door) {
  const style = make("link");
  Object.assign(style, {rel: "stylesheet", href: new URL("assets/volunteers.css", document.baseURI).href});
  const styled = new Promise(done => { style.onload = style.onerror = done; });
  const dialog = make("dialog", "volunteers");
  dialog.tabIndex = -1;
  dialog.setAttribute("aria-label", "Volunteers");

  let told = null;       // what /volunteers says: the question, its counts, what is left out
  let tab = "fraction";
  const made = {};       // tab → {root, draw, refresh}
  const known = new Map(); // path → answer, until the votes are counted anew

  // ------------------------------------------------------------------------------------------------------ asking
  const lost = make("p", "lost");
  lost.setAttribute("role", "alert");
  const asking = {};
  /** The answer of a route; null where a newer question of the same name has overtaken it. */
  const ask = async (name, path, query = {}) => {
    const url = `${path}?${new URLSearchParams(query)}`;
    asking[name]?.abort();
    if (known.has(url)) return known.get(url);
    const mine = asking[name] = new AbortController();
    try {
      const answer = await fetch(url, {credentials: "same-origin", signal: mine.signal}), found = await answer.json();
      if (!answer.ok) throw new Error(found.error);
      lost.textContent = "";
      known.set(url, found);
      if (known.size > 60) known.delete(known.keys().next().value);
      return found;
    } catch (error) {
      if (error.name === "AbortError") return null;
      lost.textContent = error instanceof TypeError ? "The server does not answer; is it still running?" : error.message;
      return null;
    }
  };
  /** Call `run` when calls rest for a moment. */
  const resting = run => {
    let timer = 0;
    return () => { clearTimeout(timer); timer = setTimeout(run, QUIET); };
  };

  // ------------------------------------------------------------------------------------------------------- controls
  const labelled = (text, box) => put(make("label", "field"), make("span", "word", text), box);
  const choice = (label, act) => {
    const box = make("select");
    box.setAttribute("aria-label", label);
    box.addEventListener("change", () => act(box.value));
    return box;
  };
  const fill = (box, listed, value) => { box.replaceChildren(...listed.map(([v, text]) => new Option(text, v))); box.value = value; };
  /** A slider with its name and its value: `show(value)` says it in words. */
  const slider = (label, {min, max, step = 1, value, show, act}) => {
    const box = make("input"), root = make("label", "slider"), said = make("b", "value");
    Object.assign(box, {type: "range", min, max, step, value});
    box.setAttribute("aria-label", label);
    const write = () => { said.textContent = show(Number(box.value)); box.setAttribute("aria-valuetext", said.textContent); };
    box.addEventListener("input", () => { write(); act(Number(box.value)); });
    root.append(make("span", "word", label), said, box);
    write();
    return {root, box, get value() { return Number(box.value); }, set(v) { box.value = v; write(); }, limit(most) { box.max = most; write(); }};
  };
  const segments = (label, options, act) => {
    const root = make("div", "segments"), buttons = options.map(([value, text, title]) => {
      const e = button("", text, () => act(value), title);
      e.dataset.value = value;
      return e;
    });
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", label);
    root.append(...buttons);
    return {root, set(value) { for (const b of buttons) b.setAttribute("aria-pressed", b.dataset.value === String(value)); }};
  };

  // ------------------------------------------------------------------------------------------------------------ head
  const badge = make("span", "badge", "simulated"), question = choice("Question that is counted", value => wish({question: Number(value)}));
  badge.title = "These votes were drawn by a program, not cast by people";
  const totals = make("p", "totals"), close = button("close", "✕", () => dialog.close(), "Close (Esc)");
  close.setAttribute("aria-label", "Close");
  const basis = segments("Basis", [["volunteers", "One vote per volunteer", "Each volunteer's first classification of a subject counts"], ["views", "Every view", "All classifications count, repeats too"]], value => wish({basis: value}));
  const weights = choice("Weights", value => wish({weights: value}));
  const amount = (label, name, min, step) => {
    const box = make("input");
    Object.assign(box, {type: "number", min, step});
    box.setAttribute("aria-label", label);
    box.addEventListener("change", () => { if (box.checkValidity() && box.value !== "") wish({[name]: Number(box.value)}); });
    return box;
  };
  const threshold = amount("Classifications elsewhere from which a volunteer is experienced", "threshold", 0, 1);
  const weight = amount("Votes of an experienced volunteer", "experienced_weight", 0, 0.1);
  const experience = put(make("span", "experience"), weight, "× from", threshold, "classifications elsewhere");
  const outs = make("div", "outs"), recount = button("recount", "Count again", () => count()), progress = make("span", "progress");
  progress.setAttribute("role", "status");
  outs.setAttribute("role", "group");
  outs.setAttribute("aria-label", "Votes left out");
  const first = put(make("div", "line"), make("h2", "", "Volunteers"), badge, question, recount, progress, totals);
  const second = put(make("div", "line settings"), basis.root, labelled("Weights", weights), experience, outs), pending = make("p", "pending");
  pending.setAttribute("role", "status");
  const head = put(make("header"), first, second, pending);

  let wished = {};       // settings that differ from those that were counted
  /** Weights that nothing is known for let every volunteer count alike. */
  const meant = weights => told.why_not[weights] ? "none" : weights;
  const settings = () => ({...told?.settings, ...wished});
  const wish = change => {
    Object.assign(wished, change);
    for (const [name, value] of Object.entries(wished)) {
      const now = name === "question" ? told.questions.findIndex(q => q.chosen) : name === "weights" ? meant(told.settings.weights) : told.settings[name];
      if (now === value) delete wished[name];
    }
    show_settings();
  };
  const count = () => {
    const {question: which, ...rest} = wished, q = told.questions[which];
    door.send({count: {...rest, ...q ? {workflow_id: q.workflow_id, task: q.task, answer: q.answer} : {}}});
  };
  const show_settings = () => {
    const now = settings(), single = told.state === "votes", {counting} = door;
    basis.set(now.basis);
    for (const b of basis.root.children) b.disabled = !single && b.dataset.value !== now.basis;
    fill(question, told.questions.map((q, i) => [i, q.title]), wished.question ?? told.questions.findIndex(q => q.chosen));
    question.title = question.selectedOptions[0]?.text ?? "";
    fill(weights, WEIGHTS, meant(now.weights));
    weights.disabled = !single;
    weights.title = single ? "" : "Only totals are known, so no vote can be weighted";
    for (const o of weights.options) { const why = told.why_not[o.value]; o.disabled = Boolean(why); if (why) o.text += ` (${why})`; }
    experience.hidden = !single || meant(now.weights) !== "experience";
    weight.value = now.experienced_weight;
    threshold.value = now.threshold;
    outs.replaceChildren(...told.left_out.map(({name, reason, n, title}) => {
      const box = make("input"), chip = make("label", "chip"), is_out = now[name] ?? true;
      box.type = "checkbox";
      box.checked = is_out;
      box.disabled = !name; // dates, versions and accounts are set on the command line
      box.addEventListener("change", () => wish({[name]: box.checked}));
      chip.title = title;
      chip.append(box, reason, make("b", "", n === null ? "" : whole(n)));
      return chip;
    }));
    if (told.left_out.length) outs.prepend(make("span", "word", "Left out"));
    const going = Boolean(counting.going);
    const counts = told.questions.find(q => q.chosen)?.title ?? "", is_pending = Object.keys(wished).length > 0;
    recount.hidden = !is_pending && !going;
    pending.hidden = !is_pending;
    pending.textContent = !is_pending ? "" : `Figures are of ${counts}${"question" in wished ? ` · chosen: Count again for ${told.questions[wished.question].title}` : " as counted · Count again for what is chosen here"}`;
    dialog.classList.toggle("stale", is_pending);
    recount.disabled = going;
    progress.textContent = going ? counting.message || "Counting …" : counting.error ?? "";
    progress.classList.toggle("wrong", Boolean(counting.error));
  };

  // ------------------------------------------------------------------------------------------------- chosen fraction
  const RIDGE = {w: 130, h: 30};
  const fraction_tab = () => {
    let found = null, chosen = null, order = "n";
    const grouping = segments("Grouping of tags", [["tag_group", "Corrected"], ["tag_group_study", "Study’s", "As the study grouped its tags"]], value => { by = value; chosen = null; refresh(); });
    let by = "tag_group";
    const sorted = choice("Order of the groups", value => { order = value; list_groups(); });
    fill(sorted, [["n", "most subjects first"], ["high", "highest median first"], ["low", "lowest median first"]], order);
    const share = (set, k) => set.n ? k / set.n : 0;
    const of = box => {
      const zero = Math.min(34, (box.x1 - box.x0) / 14), from = box.x0 + zero + 10;
      return {zero: [box.x0, box.x0 + zero], x: v => from + v * (box.x1 - from), from};
    };
    const sets = () => [[found.all, "--quiet", "all"], ...chosen ? [[chosen, "--accent", worded(chosen.group)]] : []];
    const overall = new Chart("Chosen fraction of every subject", {
      paint(pen, box) {
        if (!found?.all.n) return;
        const {zero, x} = of(box), high = Math.max(0.01, ...sets().flatMap(([s]) => s.bins.map(k => share(s, k)))) * 1.12;
        const y = v => box.y0 - Math.min(1, v / high) * (box.y0 - box.y1 - 12);
        axes(pen, box, x, y, TENTHS.slice(1), ticks(0, high, 4).slice(1).map(v => [v, percent(v)]), {title_x: "chosen fraction"});
        pen.fillText("0", (zero[0] + zero[1]) / 2, box.y0 + 14);
        sets().forEach(([set, name], which) => {
          const color = shade(name), bars = [[...zero, share(set, set.never)], ...set.bins.map((k, i) => [x(i / set.bins.length) + 0.5, x((i + 1) / set.bins.length) - 0.5, share(set, k)])];
          pen.fillStyle = pen.strokeStyle = color;
          for (const [a, b, v] of bars) {
            const top = v ? Math.min(box.y0 - 1, y(v)) : box.y0;
            pen.globalAlpha = which ? 0.28 : 0.5;
            pen.fillRect(a, top, b - a, box.y0 - top);
            pen.globalAlpha = 1;
            if (which && v) { pen.lineWidth = 1.2; pen.strokeRect(a + 0.5, top + 0.5, b - a - 1, box.y0 - top - 0.5); }
          }
          const never = share(set, set.never);
          pen.textAlign = "left";
          if (never > high) { pen.fillStyle = shade("--panel"); pen.fillRect(zero[0] - 1, box.y1 + 16 + which * 8, zero[1] - zero[0] + 2, 2); }
          pen.fillStyle = which ? color : shade("--ink");
          if (set.never) pen.fillText(`${percent(never)} never chosen`, zero[0], box.y1 + 6 + (which ? 12 : 0));
          if (set.quartiles) line(pen, [[x(set.quartiles[1]), box.y0], [x(set.quartiles[1]), box.y1 + 14]], which ? color : shade("--ink"), {width: 1, dash: [3, 3]});
        });
      },
      tell(px, py, box) {
        const {zero, x} = of(box), bins = found?.all.bins.length ?? 0, at = Math.ceil((px - x(0)) / (x(1) - x(0)) * bins) - 1;
        const never = px >= zero[0] && px <= zero[1];
        if (!found || !never && !(at >= 0 && at < bins)) return null;
        const says = set => { const k = never ? set.never : set.bins[at]; return `${whole(k)} of ${whole(set.n)}, ${percent(share(set, k))}`; };
        return [never ? "never chosen" : `${part(at / bins)} to ${part((at + 1) / bins)}`, ...sets().map(([set, , name]) => `${name}: ${says(set)}`)];
      },
    });
    const apart = new Chart("Weighted − unweighted", {
      paint(pen, box) {
        const d = found?.difference;
        if (!d || !told || told.settings.weights === "none") return;
        const up = d.cells.length, across = d.cells[0].length, x = v => box.x0 + v * (box.x1 - box.x0), y = v => (box.y0 + box.y1) / 2 - v / d.reach * (box.y0 - box.y1) / 2;
        axes(pen, box, x, y, TENTHS, ticks(-d.reach, d.reach, 4).map(v => [v, `${v > 0 ? "+" : ""}${part(v)}`]), {title_x: "chosen fraction"});
        const high = 2 * d.reach / (up - 1);
        paint_cells(pen, d.cells, (i, j) => { const v = (j - up / 2) * high; return [x(i / across), Math.max(box.y1, y(v + high)), x((i + 1) / across), Math.min(box.y0, y(v))]; }, shade("--accent"));
        line(pen, [[box.x0, y(0)], [box.x1, y(0)]], shade("--quiet"), {width: 1});
        const w = told.settings.experienced_weight;
        if (told.settings.weights === "experience" && w > 0) {  // all who chose are experienced, or none of them
          for (const bound of [c => w * c / (w * c + 1 - c) - c, c => c / (c + w * (1 - c)) - c]) {
            const points = Array.from({length: 81}, (_, i) => [x(i / 80), y(bound(i / 80))]);
            pen.save(); pen.beginPath(); pen.rect(box.x0, box.y1, box.x1 - box.x0, box.y0 - box.y1); pen.clip();
            line(pen, points, shade("--quiet"), {width: 1, dash: [3, 3]});
            pen.restore();
          }
        }
      },
      tell(px, py, box) {
        const d = found?.difference;
        if (!d || px < box.x0 || px > box.x1 || py > box.y0 || py < box.y1) return null;
        const across = d.cells[0].length, up = d.cells.length, i = Math.min(across - 1, Math.floor((px - box.x0) / (box.x1 - box.x0) * across));
        const v = (box.y0 + box.y1 - 2 * py) / (box.y0 - box.y1) * d.reach, j = Math.max(0, Math.min(up - 1, Math.round((v / d.reach + 1) / 2 * (up - 1))));
        return [`${part(i / across)} to ${part((i + 1) / across)}`, `${v > 0 ? "+" : ""}${part(d.reach * (2 * j / (up - 1) - 1))}`, `${whole(d.cells[j][i])} of ${whole(d.n)} subjects`];
      },
    });
    const list = make("div", "groups"), rows = make("div", "rows");
    const group_head = put(make("div", "bar"), make("h3", "", "By tag"), grouping.root, sorted);
    const group_note = make("p", "note");
    rows.setAttribute("role", "listbox");
    rows.setAttribute("aria-label", "Tag groups");
    rows.tabIndex = 0;
    const columns = put(make("div", "row head"), make("span", "", "tag group"), make("span", "ridge", "0 · chosen fraction · 1"), make("span", "", "median [95 %]"), make("span", "", "subjects"), make("span", "", "taggers"));
    list.append(group_head, columns, rows, group_note);

    const ridge = group => {
      const canvas = make("canvas"), ratio = window.devicePixelRatio || 1, {w, h} = RIDGE;
      canvas.width = w * ratio; canvas.height = h * ratio;
      canvas.style.width = `${w}px`; canvas.style.height = `${h}px`;
      const pen = canvas.getContext("2d"), most = Math.max(group.never, ...group.bins), x = v => 8 + v * (w - 9), floor = h - 8;
      pen.scale(ratio, ratio);
      pen.fillStyle = shade(group.group === chosen?.group ? "--accent" : "--quiet");
      pen.globalAlpha = 0.55;
      [group.never, ...group.bins].forEach((k, i) => {
        if (!k) return;
        const top = Math.max(1, (k / most) * (floor - 2)), [a, b] = i ? [x((i - 1) / group.bins.length), x(i / group.bins.length)] : [0, 5];
        pen.fillRect(a, floor - top, b - a - 0.8, top);
      });
      pen.globalAlpha = 1;
      pen.fillStyle = shade("--line");
      pen.fillRect(0, floor, w, 1);
      if (group.quartiles) {
        pen.strokeStyle = pen.fillStyle = shade("--ink");
        pen.lineWidth = 1.5;
        if (group.low !== null) { pen.beginPath(); pen.moveTo(x(group.low), floor + 4.5); pen.lineTo(x(group.high), floor + 4.5); pen.stroke(); }
        pen.beginPath(); pen.arc(x(group.quartiles[1]), floor + 4.5, 2.6, 0, 2 * Math.PI); pen.fill();
      }
      return canvas;
    };
    const list_groups = () => {
      const groups = [...found.groups], median = g => g.quartiles?.[1] ?? (order === "low" ? 2 : -1);
      if (order !== "n") groups.sort((a, b) => (order === "high" ? median(b) - median(a) : median(a) - median(b)) || b.n - a.n);
      const top = rows.scrollTop;
      rows.replaceChildren(...groups.map((g, i) => {
        const row = make("div", "row");
        row.id = `voorwerp-group-${i}`;
        row.setAttribute("role", "option");
        row.setAttribute("aria-selected", g.group === chosen?.group);
        row.title = `${whole(g.n)} of ${whole(g.n_tagged)} tagged subjects have votes; one person tagged ${whole(g.n_by_one)} of them`;
        row.append(make("span", "name", worded(g.group)), ridge(g), put(make("span", "median", part(g.quartiles?.[1])), make("small", "", g.n_taggers > 1 ? span(g.low, g.high) : g.n ? "one tagger" : "")),
          make("span", "", g.n === g.n_tagged ? whole(g.n) : `${whole(g.n)} of ${whole(g.n_tagged)}`), make("span", "", whole(g.n_taggers)));
        row.addEventListener("click", () => choose(g));
        return row;
      }));
      rows.scrollTop = top;
      const at = groups.findIndex(g => g.group === chosen?.group);
      if (at >= 0) rows.setAttribute("aria-activedescendant", `voorwerp-group-${at}`); else rows.removeAttribute("aria-activedescendant");
      shown = groups;
    };
    let shown = [];
    const choose = group => {
      chosen = group && chosen?.group !== group.group ? group : null;
      list_groups();
      draw();
    };
    rows.addEventListener("keydown", e => {
      const step = {ArrowDown: 1, ArrowUp: -1}[e.key];
      if (!step || !shown.length) return;
      e.preventDefault();
      const at = shown.findIndex(g => g.group === chosen?.group), next = Math.max(0, Math.min(shown.length - 1, at + step));
      if (next !== at) choose(shown[next]);
      rows.children[next]?.scrollIntoView({block: "nearest"});
    });

    const draw = () => {
      grouping.set(by);
      if (!found) return;
      const {all, difference: d} = found, q = all.quartiles;
      const words = [q ? `${whole(all.n)} of ${whole(told.n.survey)} subjects have votes; median ${part(q[1])}, middle half ${part(q[0])} to ${part(q[2])}` : ""];
      if (chosen) { const mark = make("em", "", `${worded(chosen.group)}: ${many(chosen.n, "subject")}, median ${part(chosen.quartiles?.[1])} ${span(chosen.low, chosen.high)}`); words.push(mark); }
      overall.say(all.n ? "" : "No subject has votes for this question.");
      overall.describe(words);
      overall.draw();
      const none = told.state !== "votes" ? "Only totals are known, not single votes: nobody's vote can count more than another's."
        : told.why_not[told.settings.weights] ? "Nobody’s experience elsewhere is known, so all votes weigh the same: ingest a second project’s export, or a CSV." : told.settings.weights === "none" ? "All votes count the same. Choose weights above, and count again." : d ? "" : "No subject has a weighted fraction.";
      apart.say(none);
      apart.root.classList.toggle("low", Boolean(none));
      apart.describe(d && !none ? [`lowered ${whole(d.lowered.k)}, raised ${whole(d.raised.k)} of ${whole(d.n)}; mean ${d.mean > 0 ? "+" : ""}${part(d.mean, 3)}; effective votes ${d.effective ? `${number(d.effective[1])} (middle half ${number(d.effective[0])} to ${number(d.effective[2])})` : "–"}`] : []);
      apart.draw();
    };
    const refresh = async () => {
      const answer = await ask("fractions", "volunteers/fractions", {grouping: by});
      if (!answer) return;
      found = answer;
      chosen = found.groups.find(g => g.group === chosen?.group) ?? null;
      list_groups();
      const has = found.groups.length > 0;
      list.classList.toggle("none", !has);
      columns.hidden = rows.hidden = grouping.root.hidden = sorted.hidden = !has;
      group_note.textContent = has ? "Intervals resample the taggers: one person may have given most of a tag. A subject counts in every group it is tagged with."
        : "No tags. Talk’s comment and tag exports are read with: voorwerp ingest SURVEY FILE…";
      draw();
    };
    return {root: put(make("div", "two fraction"), put(make("div", "stack"), overall.root, apart.root), list), draw: () => { if (found) list_groups(); draw(); }, refresh};
  };

  // ------------------------------------------------------------------------------------------------------ volunteers
  const people_tab = () => {
    let found = null;
    const said = make("p", "empty");
    const scale = (box, low, high, log) => v => log ? box.x0 + Math.log(v / low) / Math.log(high / low) * (box.x1 - box.x0) : box.x0 + (v - low) / (high - low) * (box.x1 - box.x0);
    const decades = (low, high) => { const marks = []; for (let k = Math.ceil(Math.log10(low) - 1e-9); k <= Math.log10(high) + 1e-9; k++) marks.push(10 ** k); return marks; };
    let spots = [];
    const gives = () => found.n_contributing > 0; // nobody does where every subject's answer is known
    const cloud = new Chart("Skill against contribution", {
      paint(pen, box) {
        if (!found) return;
        const {points: p} = found, size = gives() ? p.contribution : p.n_subjects;
        const positive = size.filter(v => v > 0), sizes = positive.toSorted((a, b) => a - b), is_log = gives() || sizes.at(-1) > 10 * sizes[0];
        const low = is_log ? 10 ** Math.floor(Math.log10(Math.max(1e-4, sizes[Math.floor(sizes.length / 50)] ?? 0.1))) : 0, high = Math.max(low * 10, ...positive) * 1.2;
        const x = scale(box, low, high, is_log), tall = Math.max(0.1, ...p.skill.filter(v => v !== null)) * 1.08, y = v => box.y0 - v / tall * (box.y0 - box.y1);
        const power = v => v >= 1e4 || v < 1e-2 ? `10${[..."⁰¹²³⁴⁵⁶⁷⁸⁹"][Math.abs(Math.round(Math.log10(v)))].padStart(v < 1 ? 2 : 1, "⁻")}` : String(Number(v.toPrecision(3)));
        axes(pen, box, x, y, is_log ? decades(low, high).map(v => [v, power(v)]) : ticks(low, high, 5).map(v => [v, brief(v)]), ticks(0, tall, 4).map(v => [v, part(v)]), {title_x: gives() ? "contribution (bit)" : "subjects seen", title_y: "skill (bit)"});
        const accent = shade("--accent"), warm = shade("--warm");
        spots = [];
        p.skill.forEach((skill, i) => {
          if (skill === null || !(size[i] > 0)) return;
          const [a, b] = [x(Math.max(low, size[i])), y(skill)];
          spots.push([a, b, i]);
          pen.fillStyle = p.anonymous[i] ? warm : accent;
          pen.globalAlpha = spots.length > 800 ? 0.4 : 0.65;
          pen.beginPath(); pen.arc(a, b, 2.4, 0, 2 * Math.PI); pen.fill();
        });
        pen.globalAlpha = 1;
      },
      tell(px, py) {
        const near = spots.map(([a, b, i]) => [(a - px) ** 2 + (b - py) ** 2, i]).sort((a, b) => a[0] - b[0])[0];
        if (!near || near[0] > 120) return null;
        const {points: p} = found, i = near[1];
        return [`skill ${part(p.skill[i])} bit${p.anonymous[i] ? ", anonymous" : ""}`, ...gives() ? [`contribution ${number(p.contribution[i])} bit`] : [], `${many(p.n_subjects[i], "subject")} seen`, many(p.n_classifications[i], "classification")];
      },
    });
    const curve = new Chart("Who gives how much", {
      paint(pen, box) {
        if (!found) return;
        const low = 1 / Math.max(10, found.n), x = scale(box, low, 1, true), y = v => box.y0 - v * (box.y0 - box.y1);
        axes(pen, box, x, y, decades(low, 1).map(v => [v, percent(v)]), [0, 0.25, 0.5, 0.75, 1].map(v => [v, percent(v)]), {title_x: "of the volunteers, the most giving first"});
        for (const [name, color] of [["classifications", "--quiet"], ["contribution", "--accent"]]) line(pen, found.curves[name].filter(([v]) => v > 0).map(([a, b]) => [x(Math.max(low, a)), y(b)]), shade(color));
      },
      tell(px, py, box) {
        if (!found || px < box.x0 || px > box.x1) return null;
        const low = 1 / Math.max(10, found.n), v = low * (1 / low) ** ((px - box.x0) / (box.x1 - box.x0)), k = Math.max(1, Math.round(v * found.n));
        const at = points => points.findLast(([a]) => a <= v + 1e-12)?.[1] ?? 0;
        return [`${whole(k)} of ${many(found.n, "volunteer")}`, ...found.curves.contribution.length ? [`${percent(at(found.curves.contribution))} of the contribution`] : [], `${percent(at(found.curves.classifications))} of the classifications`];
      },
    });
    const COLUMNS = [["volunteer", "volunteer", v => v], ["n_classifications", "classifications", whole], ["n_subjects", "subjects", whole], ["n_gold", "known", v => whole(v ?? 0)], ["p_chosen", "P(yes | yes)", v => part(v)],
      ["p_passed", "P(no | no)", v => part(v)], ["skill", "skill", v => part(v)], ["contribution", "contribution", number], ["n_elsewhere", "elsewhere", v => v === null ? "–" : whole(v)]];
    const table = make("table"), holder = put(make("div", "scroll"), table), note = make("p", "note"), caption = make("h3", "", "Those who give most");
    holder.tabIndex = 0;
    holder.setAttribute("role", "group");
    holder.setAttribute("aria-label", "Volunteers who give most");
    const root = put(make("div", "two people"), put(make("div", "stack"), cloud.root, curve.root), put(make("div", "listing"), caption, holder, note), said);
    const draw = () => {
      if (!found) return;
      cloud.title.textContent = gives() ? "Skill against contribution" : "Skill against subjects seen";
      cloud.say(found.n_skilled ? "" : "Nobody's skill is known: it needs subjects of known answer, or SWAP without them.");
      const anonymous = found.n_anonymous ? [put(make("span", "key"), make("i", "warm"), "anonymous")] : [];
      cloud.describe([`${whole(found.n_skilled)} of ${many(found.n, "volunteer")} have a skill; ${whole(found.n_seen_gold)} saw subjects of known answer${found.points.skill.length < found.n ? `; ${whole(found.points.skill.length)} are drawn` : ""}${gives() ? "" : found.n_skilled ? "; nobody contributes: subjects of known answer do not count" : ""}`, ...anonymous]);
      curve.say("");
      const by = gives() ? "contribution" : "classifications", half = found.half[by];
      curve.describe([...half ? [`${whole(half.k)} of ${whole(half.n)} ${half.k === 1 ? "gives" : "give"} half of the ${by} `] : [], ...gives() ? [put(make("span", "key"), make("i", "accent"), "contribution")] : [], put(make("span", "key"), make("i"), "classifications")]);
      cloud.draw();
      curve.draw();
    };
    const refresh = async () => {
      if (told.state !== "votes") {
        found = null;
        root.classList.add("none");
        said.textContent = "Only totals are known, not who voted: there is nobody to weigh.";
        return;
      }
      const answer = await ask("people", "volunteers/people");
      if (!answer) return;
      root.classList.toggle("none", !answer.n);
      said.textContent = answer.n ? "" : "Nobody has voted on this question.";
      found = answer.n ? answer : null;
      if (!found) return;
      const row = make("tr");
      row.append(...COLUMNS.map(([, title]) => { const cell = make("th", "", title); cell.scope = "col"; return cell; }));
      table.replaceChildren(put(make("thead"), row), put(make("tbody"), ...found.list.map(person => {
        const line = make("tr");
        for (const [name, , show] of COLUMNS) line.append(make("td", name, name === "volunteer" && person.is_anonymous ? "anonymous" : show(person[name])));
        line.firstChild.title = person.volunteer;
        return line;
      })));
      caption.textContent = gives() ? "Those who give most" : "Those who saw most";
      note.textContent = `${whole(found.list.length)} of ${many(found.n, "volunteer")}, ${whole(found.n_anonymous)} of them anonymous sessions. Volunteers are salted hashes; no name is in the survey. `
        + "classifications: submissions, a grid of many subjects is one; known: subjects of known answer seen; skill and contribution in bits; elsewhere: classifications in another project.";
      draw();
    };
    return {root, draw, refresh};
  };

  // ------------------------------------------------------------------------------------------------------ retirement
  const retirement_tab = () => {
    let about = null, rules = {}; // what can be replayed; the last answer of each rule
    const said = make("p", "empty"), cards = make("div", "rules"), note = make("p", "note");
    const COLORS = {limit: "--quiet", swap: "--accent", cascade: "--warm"};
    const chart = new Chart("Agreement against votes spent", {
      paint(pen, box) {
        if (!about?.curve.length) return;
        const agreed = [...about.curve, ...Object.values(rules)].flatMap(r => r?.agreement ? [r.agreement.low, r.agreement.high] : []).filter(v => v !== null);
        const low = Math.max(0, Math.floor((Math.min(...agreed) - 0.02) * 20) / 20), high = Math.min(1, Math.ceil((Math.max(...agreed) + 0.02) * 20) / 20);
        const x = v => box.x0 + v * (box.x1 - box.x0), y = v => box.y0 - (v - low) / (high - low) * (box.y0 - box.y1);
        axes(pen, box, x, y, [0, 0.25, 0.5, 0.75, 1].map(v => [v, percent(v)]), ticks(low, high, 5).map(v => [v, percent(v)]), {title_x: "of the recorded votes spent", title_y: `agreement with ${about.against}`});
        const points = about.curve.filter(r => r.agreement);
        pen.fillStyle = shade("--quiet");
        pen.globalAlpha = 0.16;
        pen.beginPath();
        for (const r of points) pen.lineTo(x(r.spent / r.recorded), y(r.agreement.high));
        for (const r of points.toReversed()) pen.lineTo(x(r.spent / r.recorded), y(r.agreement.low));
        pen.fill();
        pen.globalAlpha = 1;
        line(pen, points.map(r => [x(r.spent / r.recorded), y(r.agreement.share)]), shade("--quiet"));
        for (const [name, r] of Object.entries(rules)) {
          if (!r?.agreement) continue;
          const [a, b] = [x(r.spent / r.recorded), y(r.agreement.share)];
          pen.strokeStyle = pen.fillStyle = shade(COLORS[name] === "--quiet" ? "--ink" : COLORS[name]);
          pen.lineWidth = 1.5;
          pen.beginPath(); pen.moveTo(a, y(r.agreement.low)); pen.lineTo(a, y(r.agreement.high)); pen.stroke();
          pen.beginPath(); pen.arc(a, b, 4.5, 0, 2 * Math.PI); pen.fill();
        }
      },
      tell(px, py, box) {
        if (!about?.curve.length) return null;
        const near = [...about.curve.map(r => [`every subject after ${many(r.limit, "vote")}`, r]), ...Object.entries(rules).map(([name, r]) => [titles[name], r])]
          .filter(([, r]) => r?.agreement).map(([title, r]) => [Math.abs(box.x0 + r.spent / r.recorded * (box.x1 - box.x0) - px), title, r]).sort((a, b) => a[0] - b[0])[0];
        if (!near || near[0] > 24) return null;
        const [, title, r] = near;
        return [title, `${counted(r.spent)} of ${whole(r.recorded)} votes spent`, `agreement ${percent(r.agreement.share)} [${percent(r.agreement.low)}, ${percent(r.agreement.high)}]`];
      },
    });
    const titles = {limit: "Fixed limit", swap: "SWAP thresholds", cascade: "Machine first"};
    const result = name => {
      const root = make("dl", "result");
      return {root, show(r) {
        rules[name] = r;
        const of = (what, v, exact = false) => v ? [what, `${counted(v.k)} of ${counted(v.n)}`, exact ? percent(v.share) : `${percent(v.share)} [${percent(v.low)}, ${percent(v.high)}]`] : [what, "–", ""];
        const rows = !r ? [] : [["votes spent", `${counted(r.spent)} of ${whole(r.recorded)}`, `${number(r.spent / r.n_subjects)} a subject`],
          of(name === "cascade" ? "saved of the limit’s" : "votes saved", r.saved, name === "limit"),
          ...name === "limit" ? [] : [of(name === "swap" ? "subjects decided" : "retired early", r.early)],
          of(`agree with ${about.against}`, r.agreement),
          ...r.gain ? [["more than the limit’s", `${r.gain.value < 0 ? "" : "+"}${part(r.gain.value, 3)}`, `[${part(r.gain.low, 3)}, ${part(r.gain.high, 3)}], the same subjects`]] : []];
        root.replaceChildren(...rows.flatMap(([what, value, more]) => [make("dt", "", what), put(make("dd"), make("b", "", value), make("small", "", more))]));
        const notes = [];
        if (r?.orders) notes.push(`Figures are means of ${whole(r.orders)} random orders.`);
        if (r?.n_cut_short) notes.push(`${many(r.n_cut_short, "subject")} with fewer votes than that ${r.n_cut_short === 1 ? "is" : "are"} left out.`);
        if (notes.length) root.append(make("p", "note", notes.join(" ")));
        chart.draw();
      }};
    };
    const card = (name, words, ...controls) => {
      const root = make("section", `rule ${name}`), found = result(name), dot = make("i");
      dot.style.background = `var(${COLORS[name] === "--quiet" ? "--ink" : COLORS[name]})`;
      root.append(put(make("h3"), dot, titles[name]), make("p", "note", words), ...controls.map(c => c.root), found.root);
      cards.append(root);
      return {root, show: found.show};
    };
    const asks = (name, query) => resting(async () => {
      const answer = await ask(name, "volunteers/whatif", {rule: name, ...query()});
      if (answer) shows[name].show(answer);
    });
    const UPPER = [0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999], LOWER = [0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.004, 0.001];
    const PRIOR = [0.0002, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7];
    const limit = slider("Votes a subject", {min: 1, max: 99, value: 5, show: v => many(v, "vote"), act: () => { replay.limit(); replay.swap(); if (can_cascade) replay.cascade(); }});
    const up = slider("Detected above", {min: 0, max: 7, value: 3, show: v => part(UPPER[v], 4).replace(/0+$/, ""), act: () => replay.swap()});
    const down = slider("Rejected below", {min: 0, max: 7, value: 4, show: v => part(LOWER[v], 7).replace(/0+$/, ""), act: () => replay.swap()});
    const prior = slider("Prior", {min: 0, max: 9, value: 6, show: v => part(PRIOR[v], 4).replace(/0+$/, ""), act: () => replay.swap()});
    const machine_at = slider("Machine says yes from", {min: 0, max: PERCENTILES.length - 1, value: PERCENTILES.indexOf(90), show: v => `${PERCENTILES[v]} %`, act: () => replay.cascade()});
    const first_votes = slider("First volunteers", {min: 1, max: 5, value: 2, show: v => String(v), act: () => replay.cascade()});
    const shows = {};
    let can_cascade = false;
    const replay = {limit: asks("limit", () => ({limit: limit.value})), swap: asks("swap", () => ({detect: UPPER[up.value], reject: LOWER[down.value], prior: PRIOR[prior.value], limit: limit.value})),
      cascade: asks("cascade", () => ({percentile: PERCENTILES[machine_at.value], first: Math.min(first_votes.value, limit.value), limit: limit.value, ...door.machine()}))};
    shows.limit = card("limit", "Every subject retires after so many votes.", limit);
    shows.swap = card("swap", "A subject retires when its probability crosses a threshold.", up, down, prior);
    shows.cascade = card("cascade", "A subject retires when the machine and its first volunteers agree; else after all votes.", machine_at, first_votes);
    const root = put(make("div", "two retirement"), put(make("div", "stack"), chart.root, note), cards, said);
    const refresh = async () => {
      if (!about) chart.say("Replaying …");
      const answer = told.state === "votes" ? await ask("retirement", "volunteers/retirement") : {why: "Only totals are known, not single votes in their order: no retirement can be replayed."};
      if (!answer) return;
      const before = about;
      root.classList.toggle("none", Boolean(answer.why));
      said.textContent = answer.why ?? "";
      about = answer.why ? null : answer;
      if (!about) return;
      chart.say("");
      limit.limit(about.most);
      if (about !== before) prior.set(PRIOR.indexOf(PRIOR.reduce((a, b) => Math.abs(Math.log(b / about.prior)) < Math.abs(Math.log(a / about.prior)) ? b : a)));
      note.textContent = about.note;
      chart.describe([put(make("span", "key"), make("i"), "every fixed limit, with its interval"), put(make("span", "key"), make("i", "accent"), "SWAP"), put(make("span", "key"), make("i", "warm"), "machine first")]);
      const scores = await ask("scores", "volunteers/scores", {run: door.run_id, map: door.map_id}) ?? [];
      if (!scores.some(s => s.reference === door.reference)) door.reference = scores[0]?.reference ?? "";
      const why = scores.length ? "" : "There is no machine score yet.", named = scores.find(s => s.reference === door.reference)?.title;
      can_cascade = !why;
      for (const s of [machine_at, first_votes]) s.box.disabled = Boolean(why);
      chart.draw();
      for (const [name, run] of Object.entries(replay)) if (name !== "cascade" || !why) run();
      if (why) shows.cascade.show(null);
      shows.cascade.root.classList.toggle("off", Boolean(why));
      shows.cascade.root.querySelector(".note").textContent = why || `A subject retires when ${named} and its first volunteers say the same; else after the fixed limit above.`;
    };
    return {root, draw: () => chart.draw(), refresh};
  };

  // ----------------------------------------------------------------------------------------------- machine and crowd
  const machine_tab = () => {
    let found = null, pictures = new Map(); // row → {name, url}
    const score = choice("Machine score", () => { door.reference = score.value; ask_now(); });
    const at = slider("High score from", {min: 0, max: PERCENTILES.length - 1, value: PERCENTILES.indexOf(90), show: v => `${PERCENTILES[v]} %`, act: () => { chart.draw(); ask_soon(); }});
    const from = slider("High fraction from", {min: 1, max: 20, value: 10, show: v => part(v / 20), act: () => { chart.draw(); ask_soon(); }});
    const cut = () => ({percentile: PERCENTILES[at.value], fraction: from.value / 20});
    const chart = new Chart("Machine score and chosen fraction", {
      box: {left: 44, bottom: 36},
      paint(pen, box) {
        const p = found?.picture;
        if (!p?.n) return;
        const across = p.cells[0].length, zero = 14, top = box.y0 - zero - 4;
        const x = v => box.x0 + Math.min(1, -Math.log10(1 - v) / p.furthest) * (box.x1 - box.x0), y = v => v === 0 ? box.y0 - zero / 2 : top - v * (top - box.y1);
        const marks = [0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999].filter(v => -Math.log10(1 - v) <= p.furthest);
        axes(pen, box, x, y, marks.filter((v, i) => !i || x(v) - x(marks[i - 1]) > 26 || v === 0.9 || v === 0.99).map(v => [v, `${Number((100 * v).toPrecision(4))}`]), TENTHS, {title_x: "percentile of the score among subjects with votes", grid: false});
        const column = i => box.x0 + i / across * (box.x1 - box.x0);
        paint_cells(pen, p.cells, (i, j) => j ? [column(i), top - j / (p.cells.length - 1) * (top - box.y1), column(i + 1), top - (j - 1) / (p.cells.length - 1) * (top - box.y1)] : [column(i), box.y0 - zero, column(i + 1), box.y0], shade("--accent"));
        const now = cut(), [vertical, level] = [x(now.percentile / 100), top - now.fraction * (top - box.y1)];
        line(pen, [[vertical, box.y1], [vertical, box.y0]], shade("--ink"), {width: 1.2});
        line(pen, [[box.x0, level], [box.x1, level]], shade("--ink"), {width: 1.2});
      },
      tell(px, py, box) {
        const p = found?.picture;
        if (!p?.n || px < box.x0 || px > box.x1 || py < box.y1 || py > box.y0) return null;
        const across = p.cells[0].length, n = p.cells.length - 1, i = Math.min(across - 1, Math.floor((px - box.x0) / (box.x1 - box.x0) * across));
        const top = box.y0 - 18, j = py > top ? 0 : Math.max(1, Math.min(n, Math.ceil((top - py) / (top - box.y1) * n)));
        const to = v => `${Number((100 * (1 - 10 ** (-v * p.furthest / across))).toPrecision(4))}`;
        return [j ? `${part((j - 1) / n)} to ${part(j / n)}` : "never chosen", `${to(i)} to ${to(i + 1)} % of the score`, `${whole(p.cells[j][i])} of ${whole(p.n)} subjects`];
      },
      click(px, py, box) {  // the cut goes to where one clicks
        const p = found?.picture;
        if (!p?.n) return;
        const v = 100 * (1 - 10 ** (-Math.max(0, (px - box.x0) / (box.x1 - box.x0)) * p.furthest)), top = box.y0 - 18;
        at.set(PERCENTILES.indexOf(PERCENTILES.reduce((a, b) => Math.abs(b - v) < Math.abs(a - v) ? b : a)));
        from.set(Math.max(1, Math.min(20, Math.round((top - py) / (top - box.y1) * 20))));
        chart.draw();
        ask_soon();
      },
    });
    const grid = make("div", "quadrants"), rest = make("p", "note"), boxes = {};
    for (const name of ["missed", "both", "tagged", "rejected"]) {
      const root = make("section", name), go = button("go", "", () => select(name), "Select these on the map and in the gallery"), strip = make("div", "strip"), counts = make("p", "counts");
      const question = make("b"), title = make("span");
      go.append(put(make("span", "words"), question, title), make("span", "arrow", "select ↗"));
      root.append(go, counts, strip);
      grid.append(root);
      boxes[name] = {root, go, question, title, strip, counts};
    }
    const select = (name, row = null) => {
      door.send({select: name, row, cut: cut(), machine: door.machine()});
      dialog.close();
    };
    const load = async rows => {
      const missing = rows.filter(row => !pictures.has(row));
      if (missing.length) {
        const answer = await fetch(`thumbs?rows=${missing.join(",")}`, {credentials: "same-origin"});
        if (!answer.ok) return;
        const bytes = await answer.arrayBuffer(), words = new DataView(bytes), n = words.getUint32(0, true);
        let place = 4 + 4 * n + 4 * (n + 1);
        const lengths = Array.from({length: n + 1}, (_, i) => words.getUint32(4 + 4 * n + 4 * i, true));
        const names = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, place, lengths[0])));
        place += lengths[0];
        for (let i = 0; i < n; i++) {
          const size = lengths[i + 1];
          pictures.set(words.getUint32(4 + 4 * i, true), {name: names[i], url: size ? URL.createObjectURL(new Blob([new Uint8Array(bytes, place, size)])) : ""});
          place += size;
        }
        if (pictures.size > 600) { for (const {url} of pictures.values()) if (url) URL.revokeObjectURL(url); pictures = new Map(); show(); return; }
      }
      for (const tile of grid.querySelectorAll(".thumb")) dress(tile);
    };
    const dress = tile => {
      const picture = pictures.get(Number(tile.dataset.row));
      if (!picture || tile.dataset.dressed) return;
      tile.dataset.dressed = "yes";
      tile.title = `${picture.name}: chosen by ${tile.dataset.said}`;
      tile.setAttribute("aria-label", tile.title);
      const face = tile.firstChild;
      if (picture.url) { const image = new Image(); image.alt = ""; image.src = picture.url; face.append(image); } else { face.textContent = picture.name; face.classList.add("named"); }
    };
    const show = () => {
      if (!found) return;
      const rows = [];
      for (const [name, {go, question, title, strip, counts, root}] of Object.entries(boxes)) {
        const q = found.quadrants[name];
        question.textContent = q.question;
        title.textContent = q.title;
        go.disabled = !q.k;
        go.setAttribute("aria-label", `Select: ${q.title}, ${whole(q.k)} of ${whole(q.n)}`);
        root.classList.toggle("nothing", !q.k);
        if (!q.n) counts.replaceChildren(name === "tagged" ? "no subject is tagged" : "needs a machine score");
        else counts.replaceChildren(make("b", "", `${whole(q.k)} of ${whole(q.n)}`), ` ${name === "tagged" ? "tagged subjects " : ""}${rated(q)} · ${whole(q.n_sure)} beyond doubt`);
        counts.title = "Beyond doubt: the whole 95 % interval of the subject’s chosen fraction is clear of the cut, on this side of it";
        strip.replaceChildren(...q.rows.map((row, i) => {
          const tile = button("thumb", "", () => select(name, row)), [k, n] = q.chosen[i];
          tile.dataset.row = row;
          tile.dataset.said = `${whole(k)} of ${whole(n)}`;
          tile.append(make("span", "face"), make("span", "k", tile.dataset.said));
          return tile;
        }));
        rows.push(...q.rows);
      }
      const q = found.quadrants.rest;
      rest.textContent = `${!score.value ? "" : `${whole(q.k)} of ${whole(q.n)} are low in both (${percent(q.n ? q.k / q.n : 0)}). ${whole(found.n)} subjects have votes and a score; shares with Wilson’s 95 % interval. `}Beyond doubt: the whole 95 % interval of a subject’s chosen fraction is clear of the cut.`;
      chart.say(score.value ? "" : "There is no machine score yet: voorwerp run SURVEY train and score, import-run, or join a column.");
      chart.describe(score.value ? "A click on the picture moves the cut." : "", `Machine score and chosen fraction of ${whole(found.n)} subjects`);
      chart.draw();
      for (const tile of grid.querySelectorAll(".thumb")) dress(tile);
      load(rows);
    };
    const ask_now = async () => {
      const {percentile, fraction} = cut(), answer = await ask("machine", "volunteers/quadrants", {percentile, fraction, ...door.machine()});
      if (answer) { found = answer; show(); }
    };
    const ask_soon = resting(ask_now);
    const root = put(make("div", "two machine"), put(make("div", "stack"), put(make("div", "controls"), labelled("Machine score", score), at.root, from.root), chart.root, rest), grid);
    const refresh = async () => {
      const scores = await ask("scores", "volunteers/scores", {run: door.run_id, map: door.map_id});
      if (!scores) return;
      if (!scores.some(s => s.reference === door.reference)) door.reference = scores[0]?.reference ?? "";
      fill(score, scores.map(s => [s.reference, s.title]), door.reference);
      score.disabled = at.box.disabled = !scores.length;
      await ask_now();
    };
    return {root, draw: () => chart.draw(), refresh};
  };

  // ------------------------------------------------------------------------------------------------------------ body
  const tabs = make("div", "tabs"), body = make("div", "body"), nothing = make("p", "empty");
  const makers = {fraction: fraction_tab, people: people_tab, retirement: retirement_tab, machine: machine_tab};
  tabs.setAttribute("role", "tablist");
  tabs.setAttribute("aria-label", "Volunteers");
  body.setAttribute("role", "tabpanel");
  body.id = "voorwerp-volunteers";
  const handles = TABS.map(([name, title]) => {
    const e = button("", title, () => turn(name));
    e.id = `voorwerp-volunteers-${name}`;
    e.setAttribute("role", "tab");
    e.setAttribute("aria-controls", body.id);
    return e;
  });
  tabs.append(...handles);
  tabs.addEventListener("keydown", e => {
    const step = {ArrowRight: 1, ArrowLeft: -1, Home: -9, End: 9}[e.key];
    if (!step) return;
    e.preventDefault();
    const place = TABS.findIndex(([name]) => name === tab), next = Math.abs(step) > 1 ? (step > 0 ? TABS.length - 1 : 0) : (place + step + TABS.length) % TABS.length;
    turn(TABS[next][0]);
    handles[next].focus();
  });
  const turn = name => {
    tab = name;
    made[tab] ??= makers[tab]();
    handles.forEach((e, i) => { const on = TABS[i][0] === tab; e.setAttribute("aria-selected", on); e.tabIndex = on ? 0 : -1; });
    body.setAttribute("aria-labelledby", `voorwerp-volunteers-${tab}`);
    body.replaceChildren(made[tab].root);
    if (told && told.state !== "none") { made[tab].draw(); made[tab].refresh(); }
  };
  dialog.append(head, lost, tabs, body, nothing, close);
  home.append(style, dialog);
  await styled;

  const read = async () => {
    if (!told) nothing.textContent = "Reading the votes …";
    nothing.hidden = Boolean(told);
    for (const e of [tabs, body, second, question, recount, progress, totals]) e.hidden = !told;
    pending.hidden = true;
    badge.hidden = !told?.is_simulated;
    const answer = await ask("overview", "volunteers");
    if (!answer) return;
    told = answer;
    wished = {};
    const none = told.state === "none";
    dialog.classList.toggle("bare", none);
    nothing.hidden = !none;
    for (const e of [tabs, body, second, question, recount, progress, totals]) e.hidden = none;
    badge.hidden = !told.is_simulated;
    if (none) {
      nothing.replaceChildren("No votes yet. Read what you have with ", make("code", "", "voorwerp ingest SURVEY FILE…"), ", or invite volunteers to ", make("code", "", "/classify"), ".");
      return;
    }
    const {votes, volunteers: people, subjects, survey} = told.n;
    totals.replaceChildren(make("b", "", whole(votes)), ` vote${votes === 1 ? "" : "s"}${people === null ? "" : ` by ${many(people, "volunteer")}`} on `, make("b", "", whole(subjects)), ` of ${many(survey, "subject")}`);
    show_settings();
    turn(tab);
  };
  /** The votes were counted anew, or other scores are on screen. */
  const renew = () => { known.clear(); if (dialog.open) read(); };

  dialog.addEventListener("keydown", e => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    e.stopPropagation(); // the keys of the page beneath are not meant
    if (e.key.toLowerCase() === "k" && !/^(input|select)$/i.test(e.target.tagName)) dialog.close();
  });
  dialog.addEventListener("click", e => { if (e.target === dialog) dialog.close(); });
  window.addEventListener("voorwerp-theme", () => { if (dialog.open) made[tab]?.draw(); });

  return {
    renew,
    remove() { dialog.remove(); },
    counting() { if (told && told.state !== "none") show_settings(); },
    open() {
      if (dialog.open) return;
      dialog.showModal();
      dialog.focus();
      read();
    },
  };
}
