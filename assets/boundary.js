// The boundary at work: what it is judged against, what it keeps, what that is worth, what it throws away and what it costs.
// A slider answers in the page at once; the session hears of it one message at a time, the newest wins, and answers with the
// numbers. What is drawn here is always what the session has: the page sends what was done, and holds no second copy.
const PATIENCE = 4000;  // ms until a message without an answer is given up
const MOST_BYTES = 5e6;  // of a file that is taken in
const KINDS = {"": "by default", complete: "complete", positives_only: "positives only", verified: "verified by design"};
const KIND_TITLES = {
  complete: "Every subject whose truth is known is right or wrong: precision and recall",
  positives_only: "Who is not on the list is no negative: recall and lift; precision is “at least”",
  verified: "Only what somebody chose to look at is known: recall needs a random audit of what is not kept",
};
const RATES = {precision: "Precision", recall: "Recall", f1: "F1", lift: "Lift", kept: "Kept", base: "Base rate"};
const RATE_TITLES = {
  precision: "Of what is kept and whose truth is known, the share that is right", recall: "Of what is right, the share that is kept",
  f1: "2PR / (P + R)", kept: "Of all, the share that is kept", base: "Of those whose truth is known, the share that is right",
  lift: "How much commoner the right ones are among what is kept than among all",
};
const IN_PERCENT = new Set(["kept", "base"]);

const make = (tag, name, text) => {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
};
const put = (e, ...children) => { e.append(...children.filter(Boolean)); return e; };
const named = (e, label, title) => { e.setAttribute("aria-label", label); if (title !== undefined) e.title = title; return e; };
const button = (name, text, run, label) => {
  const e = make("button", name, text);
  e.type = "button";
  if (label) named(e, label, label);
  e.addEventListener("click", run);
  return e;
};
const svg = (tag, attributes, ...children) => {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) e.setAttribute(name, value);
  e.append(...children);
  return e;
};
const whole = n => Math.round(n).toLocaleString("en");
const many = (n, one) => `${whole(n)} ${one}${n === 1 ? "" : "s"}`;
const told = v => {
  if (v === 0) return "0";
  const size = Math.abs(v);
  return size >= 1e7 || size < 1e-4 ? v.toExponential(3) : Number(v.toPrecision(6)).toLocaleString("en", {maximumFractionDigits: 9, useGrouping: size >= 1e4});
};
const percent = (v, n = v >= 0.1 && v <= 0.9 ? 1 : 2) => `${Number((100 * v).toFixed(n))} %`;
const is_known = v => v !== null && v !== undefined;
/** Decimals that an interval leaves meaning to. */
const sharp = ({low, high}, scale) => !is_known(low) ? 1 : (high - low) * scale >= 2 ? 0 : (high - low) * scale >= 0.2 ? 1 : 2;
const said_of = (name, r) => IN_PERCENT.has(name) ? `${(100 * r.value).toFixed(sharp(r, 100))} %` : name === "lift" ? `× ${told(Number(r.value.toPrecision(3)))}` : r.value.toFixed(Math.max(2, 1 + sharp(r, 100)));
const span_of = (name, r) => {
  if (!is_known(r.low)) return "";
  if (name === "lift") return `[${told(Number(r.low.toPrecision(3)))}, ${told(Number(r.high.toPrecision(3)))}]`;
  const [scale, n] = IN_PERCENT.has(name) ? [100, sharp(r, 100)] : [1, Math.max(2, 1 + sharp(r, 100))];
  return `[${(scale * r.low).toFixed(n)}, ${(scale * r.high).toFixed(n)}]`;
};
/** An interval of a share; near 0 and 1, and where it is narrow, with a decimal. */
const between = (low, high) => {
  const n = high - low < 0.1 ? 1 : 0;
  return `${(100 * low).toFixed(n)}–${(100 * high).toFixed(n)} %`;
};
const hours_of = h => h < 0.1 ? `${Math.max(h > 0 ? 1 : 0, Math.round(60 * h))} min` : `${told(Number(h.toPrecision(h < 10 ? 2 : 3)))} h`;
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

// ----------------------------------------------------------------------------------------------------------- a slider
/** A track over the spread of a column, with one handle or two: `act({low, high}, settled)` with the ends that were moved. */
class Range {
  static last = null;  // that was moved and has not come to rest: it does before anything else is done

  constructor({ends, act, open = true}) {
    Object.assign(this, {ends, act, open, scale: null, low: null, high: null, held: null});
    this.root = make("div", "range");
    this.back = svg("svg", {preserveAspectRatio: "none", "aria-hidden": "true"});
    this.fill = make("i", "fill");
    this.handles = Object.fromEntries(ends.map(end => [end, this.handle(end)]));
    this.root.append(this.back, this.fill, ...ends.map(end => this.handles[end]));
    this.root.addEventListener("pointerdown", e => this.press(e));
  }

  handle(end) {
    const e = make("div", "handle");
    e.tabIndex = 0;
    e.setAttribute("role", "slider");
    e.addEventListener("keydown", event => this.key(event, end));
    e.addEventListener("blur", () => this.settle());
    return e;
  }

  name(title) {
    for (const end of this.ends) named(this.handles[end], this.ends.length > 1 ? `${title}, ${end === "low" ? "at least" : "at most"}` : title);
  }

  // ------------------------------------------------------------------------------------------- values and places
  turn(v) { return this.scale.log ? Math.log(Math.max(v, this.scale.low)) : v; }
  share(v) {
    const {low, high} = this.scale, a = this.turn(low), b = this.turn(high);
    return b > a ? Math.min(1, Math.max(0, (this.turn(v) - a) / (b - a))) : 0;
  }
  value(share) {
    const {low, high, log, integral} = this.scale, v = log ? low * (high / low) ** share : low + (high - low) * share;
    if (integral) return Math.round(v);
    const step = Math.abs((log ? v * Math.log(high / low) : high - low) / Math.max(120, this.root.clientWidth)), digit = 10 ** Math.floor(Math.log10(step || 1));
    return Number((Math.round(v / digit) * digit).toPrecision(9));
  }
  place(end) { const v = this[end]; return v === null ? end === "low" ? 0 : 1 : this.share(v); }

  set(scale, values, title) {
    if (scale !== this.scale) { this.scale = scale; this.paint(); }
    if (title) this.name(title);
    if (!this.held) for (const end of this.ends) this[end] = values[end] ?? null;
    this.show();
  }

  paint() {
    const bins = this.scale?.bins ?? [], most = Math.max(1, ...bins), top = Math.log1p(most);
    this.back.setAttribute("viewBox", `0 0 ${bins.length || 1} 1`);
    this.back.replaceChildren(...bins.map((k, i) => k ? svg("rect", {x: i, width: 0.86, y: 1 - Math.max(0.05, Math.log1p(k) / top), height: Math.max(0.05, Math.log1p(k) / top)}) : null).filter(Boolean));
  }

  show() {
    if (!this.scale) return;
    const from = this.ends.includes("low") ? this.place("low") : 0, to = this.ends.includes("high") ? this.place("high") : 1;
    this.fill.style.left = `${100 * from}%`;
    this.fill.style.right = `${100 - 100 * Math.max(from, to)}%`;
    [...this.back.children].forEach(bar => {
      const x = (Number(bar.getAttribute("x")) + 0.5) / this.scale.bins.length;
      bar.classList.toggle("in", x >= from && x <= to);
    });
    for (const end of this.ends) {
      const handle = this.handles[end], v = this[end];
      handle.style.left = `${100 * this.place(end)}%`;
      handle.classList.toggle("open", v === null);
      handle.setAttribute("aria-valuemin", this.scale.low);
      handle.setAttribute("aria-valuemax", this.scale.high);
      handle.setAttribute("aria-valuenow", v ?? this.scale[end]);
      handle.setAttribute("aria-valuetext", v === null ? "no limit" : this.words ? this.words(v) : told(v));
    }
  }

  // ---------------------------------------------------------------------------------------------------- gestures
  move(end, share, settled) {
    const at = Math.min(1, Math.max(0, share)), other = end === "low" ? "high" : "low";
    let v = this.value(at);
    if (this.ends.includes(other) && this[other] !== null) v = end === "low" ? Math.min(v, this[other]) : Math.max(v, this[other]);
    if (this.open && (end === "low" ? at <= 0 : at >= 1)) v = null;  // at the column's own end there is no limit
    this[end] = v;
    this.show();
    this.held = settled ? null : end;
    Range.last = settled ? null : this;
    this.act({[end]: v}, settled);
  }

  settle() {
    if (!this.held || this.dragged) return;
    const end = this.held;
    this.held = Range.last = null;
    this.act({[end]: this[end]}, true);
  }

  press(e) {
    if (!this.scale || e.button) return;
    e.preventDefault();
    const box = this.root.getBoundingClientRect(), at = x => (x - box.left) / box.width;
    const on = this.ends.find(end => this.handles[end] === e.target);
    let end = on ?? this.ends.reduce((a, b) => Math.abs(this.place(a) - at(e.clientX)) <= Math.abs(this.place(b) - at(e.clientX)) ? a : b);
    if (on && this.ends.length > 1 && this.place("low") === this.place("high")) end = this.place("low") >= 1 ? "low" : "high";  // one on the other
    const apart = on ? at(e.clientX) - this.place(end) : 0;
    this.handles[end].focus({preventScroll: true});
    this.dragged = true;
    this.root.setPointerCapture(e.pointerId);
    if (!on) this.move(end, at(e.clientX), false);
    const drag = event => this.move(end, at(event.clientX) - apart, false);
    this.root.addEventListener("pointermove", drag);
    this.root.addEventListener("lostpointercapture", () => {
      this.root.removeEventListener("pointermove", drag);
      this.dragged = false;
      this.settle();
    }, {once: true});
  }

  key(e, end) {
    const step = {ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10}[e.key];
    if (!this.scale || !(step || e.key === "Home" || e.key === "End")) return;
    e.preventDefault();
    e.stopPropagation();
    if (e.key === "Home" || e.key === "End") { this.move(end, e.key === "Home" ? 0 : 1, true); return; }
    const by = step * (e.shiftKey ? 10 : 1);
    if (this.scale.integral && this[end] !== null) {
      const v = this[end] + by;
      this.move(end, this.share(v), false);
    } else this.move(end, this.place(end) + by / 200, false);
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.settle(), 600);  // steps in a row are one of undo
  }
}

// -------------------------------------------------------------------------------------------------------------- panel
export function render({model, el}) {
  const root = make("div", "boundary"), upper = make("div", "upper"), lower = make("div", "lower"), body = make("div", "body"), forget = [];
  named(root, "Boundary");
  root.setAttribute("role", "region");
  el.append(root);

  // ------------------------------------------------------------------------------------------------ what is told
  const queue = [];
  let number = 0, sent_at = 0, gesture = false;
  const flush = () => {
    if (!queue.length || model.heard < number && performance.now() - sent_at < PATIENCE) return;
    setTimeout(flush, PATIENCE + 50);  // an answer may be lost with the connection
    number = Math.max(number, model.heard) + 1;
    sent_at = performance.now();
    model.send_msg({...queue.shift(), number});
  };
  /** A threshold on its way: the latest takes the place of what waits, but the end of a gesture is never left out. */
  const move = (what, change, settled) => {
    gesture = !settled;
    if (own) say("");
    const last = queue.at(-1);
    if (last?.move !== undefined && !last.settled && same(last.move, what)) { queue.pop(); change = {...last.change, ...change}; }
    queue.push({move: what, change, settled});
    flush();
  };
  const act = (what, more = {}) => { Range.last?.settle(); say(""); queue.push({act: what, ...more}); flush(); };
  model.on("heard", flush);

  // ------------------------------------------------------------------------------------------------------- parts
  const select = (label, groups, value, run) => {
    const box = named(make("select"), label);
    for (const [title, options] of groups) {
      const made = options.map(([v, text]) => new Option(text, v));
      if (!title) { box.append(...made); continue; }
      const group = make("optgroup");
      group.label = title;
      box.append(put(group, ...made));
    }
    box.value = value;
    box.addEventListener("change", () => run(box.value));
    return box;
  };
  const tick = (text, title, run) => {
    const label = make("label", "tick"), box = make("input");
    box.type = "checkbox";
    label.title = title;
    box.addEventListener("change", () => run(box.checked));
    return {label: put(label, box, make("span", "", text)), box};
  };
  /** A box for an exact number; `run(null)` for the empty one. */
  const exact = (label, run, title) => {
    const box = named(make("input", "exact"), label, title ?? label);
    Object.assign(box, {type: "text", inputMode: "decimal", autocomplete: "off", spellcheck: false});
    box.addEventListener("change", () => {
      const text = box.value.replaceAll(",", "").replace("−", "-").trim(), v = Number(text);
      const wrong = text !== "" && !Number.isFinite(v);
      if (wrong) {
        const text = box.value;
        box.value = box.dataset.holds ?? "";
        say(`“${text}” is no number.`);
        return;
      }
      say("");
      run(text === "" ? null : v);
    });
    box.addEventListener("focus", () => { box.dataset.holds = box.value; });
    box.addEventListener("keydown", e => { if (e.key === "Enter") box.blur(); });
    return box;
  };
  const write = (box, text) => {
    if (box.getRootNode().activeElement !== box) { box.value = text; box.setAttribute("aria-invalid", false); }
  };
  const section = (title, name) => {
    const part = make("section", name), head = make("div", "head"), heading = make("h3", "", title);
    named(part, title);
    return Object.assign(put(part, put(head, heading)), {head, heading});
  };
  const badge = (text, title, name = "") => {
    const e = make("span", `badge ${name}`, text);
    e.title = title;
    return e;
  };

  // ---------------------------------------------------------------------------------------------------- the name
  const top = make("header"), name = named(make("input", "name"), "Name of the boundary"), version = make("span", "version");
  Object.assign(name, {type: "text", placeholder: "unnamed", autocomplete: "off", spellcheck: false, maxLength: 200});
  const save = button("save", "Save", () => keep());
  save.title = "Save a new version (Shift+S)";
  const undo = button("icon", "↶", () => act("undo"), "Undo the last edit of the boundary"), redo = button("icon", "↷", () => act("redo"), "Redo the edit that was undone");
  const more = button("icon", "⋯", () => menu.hidden ? unfold() : fold(), "Boundaries, versions, files");
  more.setAttribute("aria-haspopup", "menu");
  const menu = make("div", "menu");
  menu.hidden = true;
  menu.setAttribute("role", "menu");
  named(menu, "Boundaries, versions, files");
  const file = make("input");
  Object.assign(file, {type: "file", accept: "application/json,.json", hidden: true});
  const words = make("div", "said"), words_text = make("span"), take_back = button("word", "Undo", () => act("take back"));
  words.setAttribute("role", "status");
  put(words, words_text, take_back);
  put(top, put(make("div", "line"), name, version, undo, redo, save, more), words, menu, file);
  const keep = () => {
    const called = name.value.trim();
    if (!called) { name.focus(); say("Give the boundary a name to save it."); return; }
    act("save", {name: called});
  };
  name.addEventListener("keydown", e => { if (e.key === "Enter") { keep(); if (name.value.trim()) name.blur(); } else if (e.key === "Escape") { write_name(true); name.blur(); } });
  const write_name = force => { if (force || name.getRootNode().activeElement !== name) name.value = model.draft.name ?? ""; };
  let own = "";  // a sentence of the page itself
  const say = text => { own = text; show_said(); };
  const show_said = () => {
    const text = own || model.said, [found] = text.match(/\/report\/[\w.-]+/) ?? [];
    words_text.textContent = text;
    if (!own && found) {  // a report that was written: its page is a click away
      const link = Object.assign(make("a"), {href: found.slice(1), target: "_blank", rel: "noopener", textContent: "the report"});
      const [before, after] = text.split(found);
      words_text.replaceChildren(before, link, after);
    }
    take_back.hidden = Boolean(own) || !model.can_take_back;
    words.hidden = !words_text.textContent;
    words.classList.toggle("wrong", Boolean(own) || model.is_wrong);
  };
  model.on(["said", "answered", "can_take_back", "is_wrong"], () => {
    own = "";
    show_said();
    if (model.is_wrong && !gesture) { draw_truth(); draw_terms(); draw_cost(); }  // what was typed and refused gives way to what holds
  });

  const item = (text, run, label, current) => {
    const e = button("", "", () => { fold(); run(); }, label);
    e.setAttribute("role", "menuitem");
    e.tabIndex = -1;
    if (current) e.setAttribute("aria-current", "true");
    e.removeAttribute("title");
    return put(e, ...[text].flat());
  };
  const fold = () => { menu.hidden = true; more.setAttribute("aria-expanded", "false"); };
  const unfold = () => {
    const {draft, saved, versions} = model, is_saved = saved.some(s => s.name === draft.name), parts = [];
    const title = text => {  // a menu has items only; their own names say which of these they are under
      const e = make("h4", "", text);
      e.setAttribute("aria-hidden", "true");
      return e;
    };
    if (saved.length) {
      parts.push(title("Open"));
      for (const s of saved) parts.push(item([make("span", "", s.name), make("em", "", `v${s.version}${s.is_frozen ? " · frozen" : ""}`)], () => act("open", {name: s.name}), `Open ${s.name}`, s.name === draft.name));
    }
    if (is_saved && versions.length > 1) {
      parts.push(title(`Versions of ${draft.name}`));
      for (const v of versions.slice(0, 12)) parts.push(item([make("span", "", `v${v.version}${v.is_frozen ? " · frozen" : ""}`), make("em", "", v.at)], () => act("open", {name: draft.name, version: v.version}), `Open version ${v.version} of ${draft.name}`, v.version === draft.version));
    }
    const others = saved.filter(s => s.name !== draft.name || draft.changed);
    if (others.length) {
      parts.push(title("Compare with"));
      for (const s of others) parts.push(item(s.name, () => act("compare", {name: s.name}), `Compare with ${s.name}`));
    }
    parts.push(title("This boundary"), item("New, empty", () => act("new")));
    if (is_saved) {
      parts.push(item("Duplicate", () => act("duplicate", {name: draft.name})), item("Rename …", () => rename()));
      parts.push(item("Delete", () => act("drop", {name: draft.name})));
    }
    parts.push(item("Export as a file", () => act("export")), item("Import a file …", () => file.click()));
    menu.replaceChildren(...parts);
    menu.hidden = false;
    more.setAttribute("aria-expanded", "true");
    menu.querySelector("button").focus();
  };
  menu.addEventListener("keydown", e => {
    const all = [...menu.querySelectorAll("button")], k = all.indexOf(menu.getRootNode().activeElement);
    const next = {ArrowDown: k + 1, ArrowUp: k - 1, Home: 0, End: all.length - 1}[e.key];
    if (e.key === "Escape" || e.key === "Tab") { fold(); more.focus(); }
    if (next !== undefined) all.at((next + all.length) % all.length).focus();
    if (next !== undefined || e.key === "Escape") { e.preventDefault(); e.stopPropagation(); }
  });
  const outside = e => { if (!menu.hidden && !e.composedPath().includes(menu) && !e.composedPath().includes(more)) fold(); };
  window.addEventListener("pointerdown", outside, true);
  const rename = () => {
    const before = model.draft.name;
    say(`Type the new name of “${before}” and press Enter.`);
    name.focus();
    name.select();
    const end = e => {
      if (e.type === "keydown" && e.key !== "Enter") return;
      name.removeEventListener("keydown", end, true);
      name.removeEventListener("blur", end, true);
      if (e.type !== "keydown") { say(""); write_name(true); return; }
      e.stopImmediatePropagation();
      if (name.value.trim() && name.value.trim() !== before) act("rename", {name: before, to: name.value.trim()});
      name.blur();
    };
    name.addEventListener("keydown", end, true);
    name.addEventListener("blur", end, true);
  };
  file.addEventListener("change", async () => {
    const [given] = file.files;
    file.value = "";
    if (!given) return;
    if (given.size > MOST_BYTES) { say(`${given.name} has ${told(Number((given.size / 1e6).toPrecision(2)))} MB; a boundary's file has 5 MB at most.`); return; }
    act("import", {text: await given.text(), name: given.name});
  });
  let saved_file = 0;
  model.on("file", () => {
    const {name: called, text, n} = model.file;
    if (!text || n === saved_file) return;
    saved_file = n;
    const link = make("a"), url = URL.createObjectURL(new Blob([text], {type: "application/json"}));
    Object.assign(link, {href: url, download: called});
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  });

  // ------------------------------------------------------------------------------------------------------- truth
  const truth = section("Truth", "truth"), kind_box = select("Kind of truth", [["", Object.entries(KINDS)]], "", v => act("truth", {kind: v}));
  kind_box.className = "kind";
  const circular = make("button", "badge bad", "circular");
  circular.type = "button";
  truth.head.append(circular, kind_box);
  const what = named(make("select", "what"), "What counts as right");
  const key_of = t => [t.what, t.column ?? t.reference, t.by ?? ""].join("|");
  what.addEventListener("change", () => act("truth", what.value ? {offered: what.value} : {none: true}));
  const sigma = make("div", "threshold"), sigma_word = make("span", "word"), sigma_box = exact("Threshold of the truth", v => { if (v !== null) move("truth", {at_least: v}, true); });
  const sigma_range = new Range({ends: ["low"], open: false, act: ({low}, settled) => { write(sigma_box, told(low)); move("truth", {at_least: low}, settled); }});
  put(sigma, put(make("div", "row"), sigma_word, sigma_box), sigma_range.root);
  const labels = make("div", "labels"), extras = make("div", "extras"), soft = tick("soft", "Votes count by how probably the true fraction reaches the threshold, instead of by the fraction as it was seen", v => act("truth", {is_soft: v}));
  const limit = exact("Count only so many first votes of each subject", v => act("truth", {limit: v}), "Retirement: only so many first votes of each subject count; empty for all");
  limit.placeholder = "all";
  const limit_line = put(make("label", "limit"), make("span", "", "first"), limit, make("span", "", "votes"));
  put(extras, soft.label, limit_line);
  const about = make("p", "about"), shared = make("p", "shared");
  put(truth, what, sigma, labels, extras, about, shared);
  circular.addEventListener("click", () => { shared.hidden = !shared.hidden; });

  const draw_truth = () => {
    const {draft: {truth: t}, offered, numbers} = model, key = JSON.stringify(offered.map(o => [o.group, key_of(o), o.title]));
    if (what.dataset.key !== key) {
      what.dataset.key = key;
      const groups = new Map();
      for (const o of offered) groups.set(o.group, [...groups.get(o.group) ?? [], o]);
      what.replaceChildren(new Option("choose what counts as right …", ""), ...[...groups].map(([title, listed]) => {
        const group = make("optgroup");
        group.label = title;
        return put(group, ...listed.map(o => new Option(o.title, key_of(o))));
      }));
    }
    const o = t && offered.find(one => key_of(one) === key_of(t));
    what.value = o ? key_of(o) : "";
    if (t && !o) { what.append(new Option(t.column, key_of(t))); what.value = key_of(t); }
    const has = t && t.at_least !== undefined && t.at_least !== null;
    sigma.hidden = !has;
    if (has) {
      const scale = model.scales[key_of(t)] ?? {low: o?.low ?? Math.min(0, t.at_least), high: o?.high ?? Math.max(1, t.at_least), bins: []};
      sigma_word.textContent = `at least Σ${o?.unit && !o.title.includes(o.unit) ? `, ${o.unit}` : ""}`;
      if (!gesture) {
        sigma_range.set(scale, {low: t.at_least}, `Σ, threshold of the truth`);
        write(sigma_box, told(t.at_least));
      }
    }
    const listed = o?.labels ?? [], chosen = t?.labels ?? [];
    labels.hidden = t?.what !== "category" || !listed.length;
    if (!labels.hidden && labels.dataset.key !== JSON.stringify([listed, chosen])) {
      labels.dataset.key = JSON.stringify([listed, chosen]);
      const now = root.getRootNode().activeElement, at = [...labels.querySelectorAll("input")].indexOf(now);
      labels.replaceChildren(...listed.map(([text, n]) => {
        const box = tick(text, `${text}: ${many(n, "subject")}`, on => act("truth", {labels: on ? [...chosen, text] : chosen.filter(l => l !== text)}));
        box.box.checked = chosen.includes(text);
        return box.label;
      }));
      if (at >= 0) labels.querySelectorAll("input")[at]?.focus();
    }
    soft.label.hidden = !o?.can_be_soft;
    soft.box.checked = Boolean(t?.is_soft);
    limit_line.hidden = !o?.can_be_limited;
    write(limit, t?.limit ?? "");
    extras.hidden = soft.label.hidden && limit_line.hidden;
    kind_box.hidden = !t;
    kind_box.value = t?.kind ?? "";
    const kind = numbers.kind ?? "";
    kind_box.options[0].text = kind && !t?.kind ? KINDS[kind] ?? kind : KINDS[""];
    kind_box.title = KIND_TITLES[kind] ?? "";
    const loops = numbers.circular ?? [];
    circular.hidden = !loops.length;
    const by = `Judged by what it is made of: ${loops.join(", ")}. These rates say nothing of how good the boundary is.`;
    named(circular, `Circular. ${by}`, by);
    shared.hidden = !loops.length;
    shared.textContent = by;
    about.textContent = t ? numbers.about ?? "" : "The numbers below need a truth: a column of votes, of scores or of classes, or a tag.";
    about.hidden = !about.textContent;
  };

  // ------------------------------------------------------------------------------------------------------- terms
  const keeps = section("Keeps", "keeps"), tree = make("div", "tree"), adding = make("div", "adding"), form = make("form", "learning");
  tree.setAttribute("role", "group");
  named(tree, "What is kept");
  form.hidden = true;
  put(keeps, tree, adding, form);
  const parts = new Map();  // path → what of a term changes without its structure
  let shape = "";
  const shape_of = t => ({type: t.type, path: t.path, column: t.column, is_category: t.is_category, names: t.names, title: t.title, terms: (t.terms ?? []).map(shape_of)});

  const tools = (t, at, title) => {
    const box = make("div", "tools"), inner = t.negated ? at.slice(0, -1) : at;
    const not = button(`not${t.negated ? " on" : ""}`, "not", () => act("negate", {path: at, on: !t.negated}), `Keep what is not: ${title}`);
    not.setAttribute("aria-pressed", Boolean(t.negated));
    not.dataset.key = `not-${inner}`;
    const options = button("icon", "⋯", () => { list.hidden = !list.hidden; options.setAttribute("aria-expanded", !list.hidden); if (!list.hidden) list.querySelector("button").focus(); }, `More for ${title}`);
    options.setAttribute("aria-haspopup", "menu");
    options.dataset.key = `more-${inner}`;
    const list = make("div", "menu small"), entry = (text, run) => {
      const e = button("", text, () => { list.hidden = true; run(); });
      e.setAttribute("role", "menuitem");
      return e;
    };
    list.hidden = true;
    list.setAttribute("role", "menu");
    if (t.type === "region") list.append(entry("Edit on the map", () => act("show", {path: at})));
    list.append(entry("Duplicate", () => act("copy", {path: inner})), entry("Put in a group of its own", () => act("group", {path: inner})));
    if (t.type === "learned" || (t.type === "gate" && !t.is_category)) list.append(entry("Move until nothing false is kept", () => act("pure", {path: at})));
    if (t.type === "and" || t.type === "or") list.append(entry("Dissolve the group", () => act("ungroup", {path: at})));
    list.addEventListener("keydown", e => {
      const all = [...list.children], k = all.indexOf(list.getRootNode().activeElement), next = {ArrowDown: k + 1, ArrowUp: k - 1}[e.key];
      if (next !== undefined) all.at((next + all.length) % all.length).focus();
      if (e.key === "Escape") { list.hidden = true; options.focus(); }
      if (next !== undefined || e.key === "Escape") { e.preventDefault(); e.stopPropagation(); }
    });
    list.addEventListener("focusout", e => { if (!list.contains(e.relatedTarget) && e.relatedTarget !== options) list.hidden = true; });
    const remove = button("icon", "✕", () => act("remove", {path: inner}), `Remove ${title}`);
    remove.dataset.key = `remove-${inner}`;
    return put(box, not, options, remove, list);
  };

  const draw_gate = (t, card) => {
    if (t.is_category) {
      const chosen = t.labels;
      card.append(put(make("div", "labels"), ...t.names.map(text => {
        const box = tick(text, text, on => {
          const now = model_of(t.path)?.labels ?? chosen;
          const next = t.names.filter(l => l === text ? on : now.includes(l));
          if (next.length) act("set", {path: t.path, labels: next}); else { box.box.checked = true; say(`A gate keeps at least one category: remove it instead.`); }
        });
        box.box.checked = chosen.includes(text);
        box.box.dataset.key = `label-${t.path}-${text}`;
        return box.label;
      })));
      parts.set(String(t.path), {update: now => card.querySelectorAll(".labels input").forEach((box, k) => { box.checked = now.labels.includes(t.names[k]); })});
      return;
    }
    const boxes = {}, range = new Range({ends: ["low", "high"], act: (change, settled) => { for (const [end, v] of Object.entries(change)) show_end(end, v); move(t.path, change, settled); }});
    const line = make("div", "ends");
    for (const [end, sign] of [["low", "≥"], ["high", "≤"]]) {
      const raw = exact(`${t.title} ${end === "low" ? "at least" : "at most"}`, v => move(t.path, {[end]: v}, true));
      const rank = exact(`${t.title} ${end === "low" ? "from" : "to"} percentile`, v => move(t.path, {[`${end}_percentile`]: v}, true), "Percentile of the column in this survey");
      rank.classList.add("rank");
      boxes[end] = {raw, rank};
      raw.placeholder = rank.placeholder = "–";
      raw.dataset.key = `${end}-${t.path}`;
      line.append(put(make("span", "end"), make("span", "word", sign), raw, rank, make("span", "word", "%")));
    }
    const scale = () => model.scales[t.column];
    const percentile = v => {
      const s = scale();
      if (!s?.quantiles || v === null) return "";
      const q = s.quantiles, p = s.points;
      if (v <= q[0]) return "0";
      if (v >= q.at(-1)) return "100";
      let a = 0, b = q.length - 1;
      while (b - a > 1) { const m = (a + b) >> 1; if (q[m] <= v) a = m; else b = m; }
      const at = p[a] + (q[b] > q[a] ? (v - q[a]) / (q[b] - q[a]) : 0) * (p[b] - p[a]), rest = Math.min(at, 100 - at);
      return String(Number(at.toFixed(rest < 1 ? 2 : 1)));
    };
    const show_end = (end, v, set) => {
      write(boxes[end].raw, v === null || v === undefined ? "" : told(v));
      write(boxes[end].rank, set ?? percentile(v ?? null));
    };
    card.append(range.root, line);
    const update = now => {
      if (!scale()) return;
      range.set(scale(), now, t.title);
      if (range.held) return;
      for (const end of ["low", "high"]) show_end(end, now[end], now[`${end}_percentile`] ?? undefined);
    };
    for (const end of ["low", "high"]) range.handles[end].dataset.key = `handle-${end}-${t.path}`;
    parts.set(String(t.path), {update});
  };

  const draw_region = (t, card) => {
    const line = make("div", "place"), outline = svg("svg", {viewBox: "-3 -3 106 106", class: "sketch", "aria-hidden": "true"}), text = make("div", "words");
    const path = svg("path", {"fill-rule": "evenodd"}), where = make("span", ""), note = make("span", "quiet");
    outline.append(path);
    put(line, outline, put(text, where, note), button("", "Edit on map", () => { act("show", {path: t.path}); window.voorwerp.on_screen?.()?.outlines.show(t.path); }, `Edit this region on the map`));
    card.append(line);
    parts.set(String(t.path), {update: now => {
      path.setAttribute("d", `${now.sketch.map(([x, y], k) => `${k ? "L" : "M"}${(100 * x).toFixed(1)} ${(100 - 100 * y).toFixed(1)}`).join("")}Z`);
      where.textContent = now.plane;
      note.textContent = [now.about, now.crosses ? "crosses itself: even-odd rule" : ""].filter(Boolean).join(" · ");
    }});
  };

  const draw_learned = (t, card) => {
    const box = exact("Cut of the learned classifier", v => { if (v !== null) move(t.path, {low: v}, true); });
    const range = new Range({ends: ["low"], open: false, act: ({low}, settled) => { write(box, told(low)); move(t.path, {low}, settled); }});
    const word = make("span", "word"), facts = make("div", "facts"), line = make("div", "extras");
    box.dataset.key = `cut-${t.path}`;
    range.handles.low.dataset.key = `handle-${t.path}`;
    const follow = tick("follows the truth", "Fitted again whenever the truth changes", v => act("follows", {on: v}));
    const again = button("", "Fit again …", () => ask(t.path), "Fit again, or another way");
    again.dataset.key = `fit-${t.path}`;
    put(card, put(make("div", "row"), word, box), range.root, put(line, follow.label, again), facts);
    parts.set(String(t.path), {update: now => {
      const known = model.learned[now.model] ?? {};
      word.textContent = now.scale === "probability" ? "probability at least" : "balanced score at least";
      range.set(known.scale ?? UNIT, {low: now.low}, "Cut of the learned classifier");
      if (!range.held) write(box, told(now.low));
      follow.box.checked = model.draft.follows;
      facts.style.minHeight = known.is_judged ? "" : `${facts.offsetHeight}px`;  // fitted again: nothing jumps until it is judged
      facts.replaceChildren(...facts_of(known));
    }});
  };
  const UNIT = {low: 0, high: 1, bins: []};
  const facts_of = known => {
    const found = [];
    if (known.short) { const p = make("p", "", known.short); p.title = known.sentence; found.push(p); }
    if (known.out_of_fold?.length) {
      const line = make("dl");
      for (const [title, value, of, note] of known.out_of_fold) {
        const dd = make("dd", "", value), kn = make("dd", "kn", of);
        dd.title = kn.title = note ?? "";
        line.append(make("dt", "", title), dd, kn);
      }
      found.push(put(make("div", "fold"), line, known.reliability?.length ? reliability(known.reliability) : null));
    }
    if (known.trouble) found.push(make("p", "wrong", known.trouble));
    return found;
  };
  /** Of those with about this probability, how many are right: on the line where the probability can be believed. */
  const reliability = bins => {
    const chart = svg("svg", {viewBox: "0 0 60 60", class: "reliability", role: "img", "aria-label": `Reliability: ${bins.map(b => `of ${b.n} at ${percent(b.p, 0)}, ${b.k}`).join("; ")}`}), y = v => 58 - 56 * v, x = v => 2 + 56 * v;
    chart.append(svg("path", {d: "M2 58L58 2", class: "ideal"}));
    for (const b of bins) chart.append(svg("path", {d: `M${x(b.p)} ${y(b.low)}V${y(b.high)}`}), svg("circle", {cx: x(b.p), cy: y(b.n ? b.k / b.n : 0), r: 1.8}));
    const title = svg("title", {});
    title.textContent = "Reliability out of fold: the share that is right (up) at each probability (across)";
    chart.append(title);
    return chart;
  };

  const TYPES = {region: "Region", gate: "Gate", learned: "Learned", and: "All of", or: "Any of"};
  const draw_term = (given, depth) => {
    const t = given.type === "not" ? {...given.terms[0], negated: true} : given, is_group = t.type === "and" || t.type === "or";
    const card = make("div", `term ${is_group ? "group" : t.type}${t.negated ? " negated" : ""}`), head = make("div", "head");
    const title = is_group ? TYPES[t.type].toLowerCase() : t.title;
    card.setAttribute("role", "group");
    named(card, `${t.negated ? "not " : ""}${is_group ? title : `${TYPES[t.type]}: ${title}`}`);
    put(card, head);
    if (is_group) { head.append(joined(t), make("span", "fill")); if (depth > 1 || t.negated) head.append(tools(t, t.path, title)); }
    else put(head, put(make("h4", "", t.title)), tools(t, t.path, t.title));
    if (t.type === "gate") draw_gate(t, card);
    else if (t.type === "region") draw_region(t, card);
    else if (t.type === "learned") draw_learned(t, card);
    else {
      const inside = make("div", "inside");
      inside.append(...t.terms.map(one => draw_term(one, depth + 1)));
      if (!t.terms.length) inside.append(make("p", "about", t.type === "and" ? "Everything is kept. Add a region, a gate or a learned classifier." : "Nothing is kept: a group of “any of” without a term."));
      card.append(inside);
    }
    const note = make("p", "note wrong");
    note.dataset.of = String(t.path);
    note.hidden = true;
    return put(card, note);
  };
  const joined = t => {
    const box = make("div", "segments");
    box.setAttribute("role", "group");
    named(box, "How the terms are joined");
    for (const [type, text, title] of [["and", "all of", "Kept is what every term keeps"], ["or", "any of", "Kept is what any of the terms keeps"]]) {
      const e = button("", text, () => { if (t.type !== type) act("join", {path: t.path, as: type}); });
      e.title = title;
      e.setAttribute("aria-pressed", t.type === type);
      e.dataset.key = `join-${type}-${t.path}`;
      box.append(e);
    }
    return box;
  };
  const model_of = path => {
    let t = model.draft.keep;
    for (const k of path) t = t?.terms?.[k];
    return t;
  };

  let n_terms = Infinity;
  /** What was added stays in sight while it grows, until a person does something else. */
  const grows = new ResizeObserver(([{target}]) => target.scrollIntoView({block: "nearest"}));
  const keep_in_sight = term => { grows.disconnect(); grows.observe(term); };
  for (const what of ["wheel", "pointerdown", "keydown"]) root.addEventListener(what, () => grows.disconnect(), {capture: true, passive: true});
  model.on("remove", () => grows.disconnect());
  const draw_terms = () => {
    const {keep: whole_term} = model.draft, now = JSON.stringify(shape_of(whole_term));
    if (now !== shape) {
      shape = now;
      const focused = root.getRootNode().activeElement?.dataset?.key, scrolled = [upper.scrollTop, body.scrollTop];
      parts.clear();
      tree.replaceChildren(draw_term(whole_term, 1));
      upper.scrollTop = scrolled[0];
      body.scrollTop = scrolled[1];
      const n = tree.querySelectorAll(".term:not(.group)").length;
      if (n === n_terms + 1) keep_in_sight([...tree.querySelectorAll(".term:not(.group)")].at(-1));
      n_terms = n;
      const newest = is_adding && [...tree.querySelectorAll(".term.gate")].at(-1)?.querySelector(".handle, input");
      is_adding = false;
      if (newest) { newest.focus({preventScroll: true}); newest.closest(".term").scrollIntoView({block: "nearest"}); }
      else if (focused) ([...tree.querySelectorAll("[data-key]")].find(e => e.dataset.key === focused) ?? adding.querySelector("select"))?.focus({preventScroll: true});
    }
    const each = t => { parts.get(String(t.path))?.update(t); (t.terms ?? []).forEach(each); };
    each(whole_term);
  };

  // adding: what is drawn, a column, what is learned, what is selected
  const draws = button("", "Region", () => { model.draws = !model.draws; });
  const column = named(make("select"), "Add a gate on a column");
  let is_adding = false;  // the new gate takes the focus
  column.addEventListener("change", () => { if (column.value) { is_adding = true; act("gate", {column: column.value}); } column.value = ""; });
  const learn = button("", "Learned", () => ask(null), "Add a learned classifier");
  put(adding, make("span", "word", "Add"), draws, column, learn);
  const show_draws = () => {
    draws.setAttribute("aria-pressed", model.draws);
    named(draws, model.draws ? "Drawing on the map adds a region: press to stop" : "Draw a region on the map", model.draws ? "What is drawn on the map becomes a region of the boundary: press to stop" : "Draw a region on the map with lasso, box, polygon or ellipse");
    draws.textContent = model.draws ? "Drawing …" : "Region";
  };
  const list_columns = () => {
    column.replaceChildren(new Option("Gate on …", ""), ...model.columns.map(([title, options]) => {
      const group = make("optgroup");
      group.label = title || "Columns";
      return put(group, ...options.map(([of, text]) => new Option(text, of)));
    }));
    column.value = "";
  };

  // ------------------------------------------------------------------------------------------------- learning
  let asked = null;
  const l_kind = select("Classifier", [["", [["linear", "linear: PCA + logistic regression"], ["nonlinear", "non-linear: kernel features"]]]], "linear", () => {});
  const l_components = exact("Components of the PCA, or share of variance", () => {}, "How many components of the PCA, or a share of the variance below 1");
  l_components.value = "25";
  const l_within = tick("within the rest", "Fit among what the other terms keep only: anomalies of anomalies", () => {});
  const fit = make("button", "primary", "Fit"), stop = button("", "Cancel", () => { form.hidden = true; learn.focus(); }), progress = make("span", "progress");
  fit.type = "submit";
  progress.setAttribute("role", "status");
  put(form, put(make("div", "row"), make("span", "word", "Classifier"), l_kind), put(make("div", "row"), make("span", "word", "Components, or share of variance"), l_components),
    put(make("div", "extras"), l_within.label, progress, stop, fit));
  const ask = path => {
    asked = path;
    form.hidden = false;
    const t = path && model_of(path), known = t && model.learned[t.model];
    if (known?.kind) { l_kind.value = known.kind; l_components.value = known.components ?? 25; }
    form.scrollIntoView({block: "nearest"});
    l_kind.focus();
  };
  form.addEventListener("submit", e => {
    e.preventDefault();
    const v = Number(l_components.value);
    if (!(v > 0)) { say("Components are a number from 1 on, or a share of variance below 1."); return; }
    act("fit", {path: asked, kind: l_kind.value, components: v, within: l_within.box.checked});
  });
  let was_fitting = false;
  const show_fitting = () => {
    const {going, message} = model.fitting;
    progress.textContent = going ? message || "Fitting …" : "";
    fit.disabled = Boolean(going);
    if (was_fitting && !going && !model.is_wrong) form.hidden = true;
    was_fitting = Boolean(going);
    learn.textContent = going && form.hidden ? "Fitting …" : "Learned";
    root.classList.toggle("fitting", Boolean(going));
  };

  // -------------------------------------------------------------------------------------------------------- cost
  const cost = section("Cost", "cost"), sum = make("p", "sum"), yields = make("p", "about");
  const seconds = exact("Seconds for an image", v => { if (v > 0) act("cost", {seconds: v}); }), graders = exact("Graders for an image", v => { if (v >= 1) act("cost", {graders: Math.round(v)}); });
  const hours_word = make("span", "word", "I have"), hours_box = exact("Hours that experts have", v => { if (v > 0) afford(v, true); });
  const hours = new Range({ends: ["low"], open: false, act: ({low}, settled) => { write(hours_box, told(low)); afford(low, settled); }});
  hours.words = v => hours_of(v);
  const by = named(make("select"), "Whose cut the hours move");
  const afford = (h, settled) => { if (by.value) move("hours", {hours: h, path: by.value === "root" ? [] : by.value.split(",").map(Number)}, settled); };
  const hours_line = put(make("div", "row hours"), hours_word, hours_box, make("span", "word", "hours: move"), by);
  put(cost, sum, yields, hours_line, hours.root);
  const draw_cost = () => {
    const c = model.numbers.cost;
    sum.hidden = !c;
    yields.hidden = true;
    const movable = [];
    const each = t => {
      if (t.type === "gate" && !t.is_category) movable.push([String(t.path) || "root", t.title]);
      if (t.type === "learned") movable.push([String(t.path) || "root", "the learned cut"]);
      (t.terms ?? []).forEach(each);
    };
    each(model.draft.keep);
    const key = JSON.stringify(movable), before = by.value;
    if (by.dataset.key !== key) {
      by.dataset.key = key;
      by.replaceChildren(...movable.map(([v, text]) => new Option(text, v)));
      if (movable.some(([v]) => v === before)) by.value = before;
    }
    hours_line.hidden = hours.root.hidden = !c || !movable.length;
    if (!c) return;
    if (!sum.childElementCount) put(sum, make("b", "images"), make("span", "word", "images ×"), seconds, make("span", "word", "s ×"), graders, make("span", "word last", ""), make("b", "total"));
    sum.querySelector(".images").textContent = whole(c.images);
    write(seconds, told(c.seconds));
    write(graders, told(c.graders));
    sum.querySelector(".total").textContent = `= ${hours_of(c.hours)}`;
    sum.querySelector(".last").textContent = c.graders === 1 ? "grader" : "graders";
    seconds.title = c.measured ? "Seconds for an image: the mean of the vetting log" : "Seconds for an image: assumed, no vetting was logged yet";
    const r = c.found_per_hour, notes = [];
    if (is_known(r?.value)) notes.push(`≈ ${told(Number(r.value.toPrecision(3)))} interesting an hour${!is_known(r.low) ? "" : ` [${told(Number(r.low.toPrecision(2)))}, ${told(Number(r.high.toPrecision(2)))}]`}${r.note ? `, ${r.note}` : ""}`);
    else if (r?.note) notes.push(`interesting ones an hour: ${r.note}`);
    if (!c.measured) notes.push("seconds are assumed");
    yields.textContent = notes.join(" · ");
    yields.hidden = !notes.length;
    const each_h = c.seconds * c.graders / 3600, most = Math.max(c.total ?? c.images, 1) * each_h;
    if (!hours.held) hours.set({low: Math.min(each_h, most / 2), high: most, log: true, bins: []}, {low: Math.max(c.hours, each_h)}, "Hours that experts have");
    write(hours_box, told(Number(c.hours.toPrecision(3))));
  };

  // ----------------------------------------------------------------------------------------------------- actions
  const actions = section("Apply", "actions"), row = make("div", "buttons"), take = button("primary", "Select what is kept", () => act("select"), "Let what is kept become the selection");
  const freeze = button("", "Freeze …", () => { sure.hidden = false; sure.querySelector("button").focus(); }, "Freeze this version and reveal its numbers on the test half");
  const report = button("", "Report", () => act("report"), "Write a report of this boundary");
  const sure = make("div", "sure"), sure_text = make("p");
  sure.hidden = true;
  put(sure, sure_text, put(make("div", "buttons"), button("primary", "Freeze and reveal", () => { sure.hidden = true; act("freeze"); }), button("", "Cancel", () => { sure.hidden = true; freeze.focus(); })));
  const test = make("div", "test"), compared = make("div", "compared");
  named(compared, "Comparison");
  put(actions, put(row, take, freeze, report), sure, test, compared);
  const draw_actions = () => {
    const {draft, numbers, has_report, revealed} = model;
    freeze.disabled = !draft.name || draft.changed || !draft.truth || draft.is_frozen;
    freeze.title = freeze.disabled ? draft.is_frozen ? "This version is frozen" : "Save the boundary and choose a truth to freeze it" : "Freeze this version and reveal its numbers on the test half";
    report.hidden = !has_report;
    if (freeze.disabled) sure.hidden = true;
    sure_text.textContent = `Until now only the tune half was looked at. Freezing ${draft.name} v${draft.version} shows its numbers on the test half, once and for good; for this truth it was revealed ${revealed === 1 ? "once" : revealed ? `${whole(revealed)} times` : "never"} before. A boundary tuned after that has seen its test.`;
    const t = numbers.test;
    test.hidden = !t;
    if (t) test.replaceChildren(make("h4", "", "Test half"), rates_of(t.rates, {}, numbers.circular ?? []), make("p", "about", `revealed ${t.n_revealed === 1 ? "once" : `${whole(t.n_revealed)} times`} for this truth`));
  };
  const draw_compared = () => {
    const c = model.compared;
    compared.hidden = !c.rates;
    if (!c.rates) return;
    const table = make("table"), line = (cells, tag = "td") => put(make("tr"), ...cells.map((text, k) => make(k ? tag : "th", "", text)));
    put(table, line(["", c.title_a, c.title_b], "th"));
    for (const [which, a, b] of c.rates.filter(([n]) => n !== "lift")) {
      const of = r => is_known(r?.value) ? `${said_of(which, r)} ${span_of(which, r)}` : r?.note || "–";
      table.append(line([RATES[which] ?? which, of(a), of(b)]));
    }
    const close = button("icon", "✕", () => act("compare", {name: ""}), "Close the comparison");
    compared.replaceChildren(put(make("div", "head"), make("h4", "", "Compared"), make("span", "fill"), close), table,
      make("p", "about", `${whole(c.both)} kept by both, ${whole(c.only_a)} only by ${c.title_a}, ${whole(c.only_b)} only by ${c.title_b}${c.note ? `; ${c.note}` : ""}`));
  };

  // ----------------------------------------------------------------------------------------------------- numbers
  const figures = section("Numbers", "figures"), total = make("span", "total"), list = make("div", "rates"), notes = make("p", "about");
  total.setAttribute("role", "status");
  put(figures.head, total);
  const checked = make("p", "checked"); // what experts found in this version
  const draw_checked = () => { checked.textContent = model.checked; checked.hidden = !model.checked; };
  draw_checked();
  model.on("checked", draw_checked);
  put(figures, checked, list, notes);
  const rates_of = (rates, others, loops) => {
    const box = make("div", "rates");
    draw_rates(box, rates, others, loops);
    return box;
  };
  const draw_rates = (box, rates, others, loops) => {
    const names = Object.keys(RATES).filter(n => rates[n] && (n !== "lift" || !is_known(rates.f1?.value)));
    const key = JSON.stringify([names, Object.keys(others), loops.length]);
    if (box.dataset.key !== key) {
      box.dataset.key = key;
      box.replaceChildren(...names.map(n => {
        const line = make("div", `rate ${n}`);
        line.title = RATE_TITLES[n];
        return put(line, make("span", "name", RATES[n]), make("b"), make("span", "ci"), make("span", "kn"), put(make("div", "bar"), make("i"), make("u")), make("span", "also"));
      }));
    }
    names.forEach((n, k) => {
      const r = rates[n], line = box.children[k], [, value, ci, kn, bar, also] = line.children, has = is_known(r.value);
      const at_least = has && /at least/.test(r.note ?? "");
      value.textContent = has ? `${at_least ? "≥ " : ""}${said_of(n, r)}` : "–";
      value.className = has ? "" : "none";
      ci.textContent = has ? span_of(n, r) : r.note || "not estimable";
      kn.textContent = !has || !is_known(r.n) || n === "lift" ? "" : `${whole(r.k)} of ${whole(r.n)}`;
      bar.hidden = !has || n === "lift" || !is_known(r.low);
      if (!bar.hidden) {
        const [range, point] = bar.children;
        range.style.left = `${100 * r.low}%`;
        range.style.right = `${100 - 100 * r.high}%`;
        point.style.left = `${100 * r.value}%`;
      }
      const rest = Object.entries(others).filter(([, o]) => o?.[n] && o[n].value !== r.value).map(([word, o]) => `${word} ${is_known(o[n].value) ? `${said_of(n, o[n])} ${span_of(n, o[n])}` : o[n].note || "–"}`);
      if (has && r.note && !at_least) rest.unshift(r.note);
      also.textContent = rest.join(" · ");
      also.hidden = !rest.length;
      line.classList.toggle("loop", loops.length > 0 && ["precision", "recall", "f1", "lift"].includes(n));
    });
  };
  /** Where the column is too low for all numbers beside the terms: the least of them, always in sight. */
  const brief = make("div", "brief");
  brief.setAttribute("aria-hidden", "true");  // said in full below
  const draw_brief = () => {
    const {rates, n_kept, lost: groups = [], trouble} = model.numbers, line = make("div");
    for (const [n, text] of [["precision", "P"], ["recall", "R"]]) {
      const r = rates?.[n];
      if (!r) continue;
      const at_least = /at least/.test(r.note ?? "") ? "≥ " : "";
      line.append(put(make("span", `one ${(model.numbers.circular ?? []).length ? "loop" : ""}`), `${text} `, make("b", "", is_known(r.value) ? `${at_least}${said_of(n, r)}` : "–"), is_known(r.value) && is_known(r.n) ? ` ${whole(r.k)} of ${whole(r.n)}` : ""));
    }
    if (is_known(n_kept)) line.append(put(make("span", "one"), "kept ", make("b", "", whole(n_kept)), ` of ${whole(model.numbers.n_all || model.n)}`));
    const [worst] = groups.filter(l => l.is_right !== false);
    const more = worst && worst.k < worst.n ? `keeps ${whole(worst.k)} of ${whole(worst.n)} ${worst.name.replaceAll("_", " ")}` : "";
    brief.replaceChildren(line, ...(trouble || more) ? [make("div", trouble ? "more wrong" : "more", trouble || `worst: ${more}`)] : []);
  };
  const draw_numbers = () => {
    draw_brief();
    const {numbers, n} = model, {rates, soft: softly, weighted, unknown = {}, half, trouble, few} = numbers;
    total.replaceChildren();
    if (numbers.n_kept !== undefined && numbers.n_kept !== null) put(total, make("b", "", whole(numbers.n_kept)), ` of ${whole(n)} kept`);
    list.hidden = !rates;
    const others = {...weighted ? {weighted} : {}, ...softly ? {soft: softly} : {}};
    if (rates) draw_rates(list, rates, others, numbers.circular ?? []);
    const found = [];
    if (rates) found.push(`${half === "tune" ? "tune" : half} half, ${many(numbers.n, "subject")}`);
    if (unknown.truth) found.push(`truth unknown for ${whole(unknown.truth)}`);
    if (unknown.boundary) found.push(`the boundary cannot tell ${whole(unknown.boundary)}`);
    if (numbers.circular?.length) found.push("circular: no measure of this boundary");
    if (numbers.stale) found.push("the classifier was taught another truth");
    if (few?.sentence) found.push(few.sentence);
    if (numbers.notes) {
      found.push(...numbers.notes.filter(one => one.path === null).map(one => one.sentence));
      for (const p of tree.querySelectorAll("p.note")) {
        p.textContent = numbers.notes.filter(one => one.path !== null && String(one.path) === p.dataset.of).map(one => one.sentence).join("; ");
        p.hidden = !p.textContent;
      }
    }
    notes.textContent = found.join(" · ");
    notes.hidden = !found.length;
    if (trouble) { notes.hidden = false; notes.textContent = trouble; }
    notes.classList.toggle("wrong", Boolean(trouble));
    root.classList.toggle("stale", Boolean(trouble) && !is_known(numbers.n_kept));
    figures.style.minHeight = gesture ? `${figures.dataset.tall}px` : "";  // nothing jumps under a hand
    if (!gesture) figures.dataset.tall = figures.offsetHeight;
    draw_lost();
    if (!gesture || document.hidden) draw_truth(); else { const kind = kind_box; kind.title = KIND_TITLES[numbers.kind] ?? ""; }
    draw_cost();
    draw_actions();
  };

  // ------------------------------------------------------------------------------------------- what is thrown away
  const lost = section("What it throws away", "lost"), rows = make("div", "rows"), bare = make("div", "bare");
  const bare_text = make("span"), hatch = button("word", "", () => turn_hatch());
  const turn_hatch = () => window.voorwerp.on_screen?.()?.outlines.toggle("hatched");
  const hatch_turned = () => draw_lost();
  window.addEventListener("voorwerp-outlines", hatch_turned);
  model.on("remove", () => window.removeEventListener("voorwerp-outlines", hatch_turned));
  const order = make("span", "order", "kept of total, worst first"), unseen = make("p", "about"), which = named(make("select", "which"), "Classes of which column", "Tags, and the classes of this column");
  which.addEventListener("change", () => act("classes", {column: which.value}));
  lost.head.append(order, which);
  named(rows, "Groups, worst first: how many of each are kept");
  rows.setAttribute("role", "list");
  put(bare, bare_text, hatch);
  put(lost, bare, rows, unseen);
  const draw_lost = () => {
    const listed = model.numbers.lost ?? [];
    while (rows.children.length > listed.length) rows.lastChild.remove();
    while (rows.children.length < listed.length) {
      const e = button("", "", () => act("lost", {reference: e.dataset.reference}));
      put(e, make("span", "name"), put(make("span", "bar"), make("i"), make("u")), make("span", "kn"), make("span", "ci"));
      rows.append(put(Object.assign(make("div")), e));
      e.parentNode.setAttribute("role", "listitem");
    }
    rows.style.setProperty("--kn", `${(0.84 * Math.max(6, ...listed.map(l => `${whole(l.k)} of ${whole(l.n)}`.length))).toFixed(1)}ch`);
    listed.forEach((l, k) => {
      const e = rows.children[k].firstChild, [title, bar, kn, ci] = e.children, [fill, range] = bar.children, share = l.n ? l.k / l.n : 0;
      e.dataset.reference = l.reference;
      title.textContent = l.name.replaceAll("_", " ");
      kn.textContent = `${whole(l.k)} of ${whole(l.n)}`;
      ci.textContent = is_known(l.low) ? between(l.low, l.high) : "";
      fill.style.width = `${100 * share}%`;
      range.style.left = `${100 * (l.low ?? share)}%`;
      range.style.right = `${100 - 100 * (l.high ?? share)}%`;
      e.classList.toggle("bad", l.is_right !== false && l.n > 0 && share < 0.5);
      const gone = l.n - l.k, who = l.n_taggers ? `, tagged by ${many(l.n_taggers, "person").replace("persons", "people")}` : "";
      named(e, `${title.textContent}: ${kn.textContent} kept, 95 % interval ${ci.textContent}${who}. Select the ${whole(gone)} that are thrown away`, `${l.of === "tag" ? "Tag on Talk" : "Class"}${who}: select the ${whole(gone)} that are thrown away`);
      e.disabled = !gone;
      e.parentNode.classList.toggle("aim", l.is_right === false && (!k || listed[k - 1].is_right !== false));
    });
    lost.classList.toggle("none", !listed.length);
    rows.hidden = !listed.length;
    const {n: n_bare, said: bare_said} = model.bare, has = Boolean(bare_said);
    bare_text.textContent = !has ? "" : n_bare ? `${bare_said[0].toUpperCase()}${bare_said.slice(1)}` : "Something is kept in every part of the map";
    hatch.hidden = !n_bare;
    const hatched = !window.voorwerp.outlines?.hides("hatched");  // the map hatches it until a person hides that
    hatch.textContent = hatched ? "hide" : "show";
    hatch.setAttribute("aria-pressed", hatched);
    named(hatch, hatched ? "Hide where nothing is kept" : "Show on the map where nothing is kept", "Hatch on the map where nothing is kept");
    bare.hidden = !has;
    const {lost_more: n_more, classes, lost_of: halves} = model.numbers;
    unseen.hidden = Boolean(listed.length) && !n_more;
    unseen.textContent = listed.length ? `${many(n_more ?? 0, "group")} more, of which as much or more is kept` : "No tags and no classes are known here: what is lost cannot be told by group.";
    const offered = classes?.offered ?? [];
    which.hidden = offered.length < 2;
    if (which.dataset.key !== JSON.stringify(offered)) {
      which.dataset.key = JSON.stringify(offered);
      which.replaceChildren(...offered.map(of => new Option(of.replace(/^subjects\./, "").replaceAll("_", " "), of)));
    }
    which.value = classes?.column ?? "";
    const in_half = [...new Set(listed.map(l => l.half === "tune" ? "tune half" : "whole survey"))].sort();
    order.textContent = in_half.length ? `kept of ${in_half.length > 1 ? `the ${in_half[1]}, ${halves?.tag === "tune" ? "tags" : "classes"} of the tune half` : `the ${in_half[0]}`}` : "";
  };

  // ----------------------------------------------------------------------------------------------------- to screen
  put(upper, truth, keeps, cost, actions);
  put(lower, figures, lost);
  put(root, top, put(body, upper, brief, lower));
  const draw_draft = () => {
    const {draft} = model;
    write_name(false);
    version.textContent = draft.version ? `v${draft.version}${draft.is_frozen ? " frozen" : ""}${draft.changed ? " · edited" : ""}` : draft.changed ? "unsaved" : "";
    undo.disabled = !draft.undo;
    undo.title = draft.undo ? "Undo the last edit of the boundary" : "Nothing to undo: edits are kept until the page is reloaded";
    redo.disabled = !draft.redo;
    save.classList.toggle("primary", Boolean(draft.changed));
    draw_truth();
    draw_terms();
    draw_cost();
    draw_actions();
  };
  const {commands} = window.voorwerp, here = () => model.shown;
  const add = (id, title, run, more_of = {}) => forget.push(commands.add({id: `boundary-${id}`, title, group: "Boundary", run, when: here, ...more_of}));
  add("save", "Save the boundary", keep, {key: "s", shift: true});
  // within a field these keys undo what is typed there
  const typed = e => Boolean(e?.composedPath().some(t => t.matches?.("input:not([type=range], [type=checkbox], [type=radio]), textarea")));
  add("undo", "Undo an edit of the boundary", () => act("undo"), {key: "z", ctrl: true, shift: false, when: e => here() && model.draft.undo && !typed(e)});
  add("redo", "Redo an edit of the boundary", () => act("redo"), {key: "z", ctrl: true, shift: true, when: e => here() && model.draft.redo && !typed(e)});
  add("select", "Select what the boundary keeps", () => act("select"));
  add("new", "New, empty boundary", () => act("new"));
  add("draw", "Draw a region into the boundary", () => { model.draws = !model.draws; });
  add("hatch", "Show on the map where nothing is kept", turn_hatch);

  model.on("draft", draw_draft);
  model.on(["scales", "learned"], () => { draw_truth(); draw_terms(); });
  model.on("offered", draw_truth);
  model.on("columns", list_columns);
  model.on("numbers", draw_numbers);
  const show_counting = () => {
    root.classList.toggle("counting", model.counting);
    for (const part of [figures, lost, cost]) part.setAttribute("aria-busy", model.counting);
  };
  model.on("counting", show_counting);
  model.on("bare", draw_lost);
  model.on("fitting", show_fitting);
  model.on("compared", draw_compared);
  model.on(["revealed", "has_report"], draw_actions);
  model.on("draws", show_draws);
  model.on("remove", () => { forget.forEach(f => f()); window.removeEventListener("pointerdown", outside, true); });
  list_columns();
  draw_draft();
  draw_numbers();
  show_draws();
  show_fitting();
  draw_compared();
  show_said();
  show_counting();
}
