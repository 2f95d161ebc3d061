// The form for a new campaign: what is graded, by which grades, by how many, and what is mixed in. Beside it what that
// comes to: pictures, looks, hours.
import {button, choice, fill, grade_cap, hours, make, many, picture, put, segments, sentence, uuid, whole} from "./campaign_parts.js";

const KEYS = "0123456789ABCDXYN";
const QUIET = 120; // ms that typing rests before the server is asked
const LEVELS = [["ordinal", "an order"], ["interval", "equal steps"], ["nominal", "kinds without order"]];
const ORDERS = [
  ["seeded", "Shuffled", "An order of its own for each grader, always the same for the same one"],
  ["acquisition", "Most telling first", "Batches of 25, the order made anew from all votes so far; a fifth of each is drawn at random, so that what is left can be estimated"],
  ["clusters", "In grids, by clusters", "A run’s clusters one after another, 25 alike at once, those far from what is labelled first: one key grades the whole grid but what is marked. The clusters stay as they are now. How many are left cannot be said of such grades"],
  ["stratified", "Interleaved", "Levels of a column take turns, so that the few on one level are not lost"],
];

/**
 * @param known what GET /campaigns says, as a function.
 * @param made called with the id of the campaign that was made.
 */
export function planning({door, post, ask, known, made, left}) {
  const root = make("form", "planning"), fields = make("div", "fields"), beside = make("aside");
  root.noValidate = true;
  root.setAttribute("aria-label", "New campaign");
  let plan = null, source = null, told = null, timer = 0, number = 0, client_id = "", cost = null;

  const part = (title, ...children) => put(make("fieldset"), make("legend", "", title), ...children);
  const field = (text, box, note) => put(make("label", "field"), make("span", "word", text), box, note ? make("small", "", note) : null);
  const line = (...children) => put(make("div", "line"), ...children);
  const wide = (...children) => { const e = line(...children); e.classList.add("wide"); return e; };
  const input = (label, type, act, more = {}) => {
    const box = make("input");
    Object.assign(box, {type, autocomplete: "off", spellcheck: false, ...more});
    box.setAttribute("aria-label", label);
    box.addEventListener("input", () => act(type === "checkbox" ? box.checked : box.value));
    return box;
  };

  // ------------------------------------------------------------------------------------------------ what is graded
  const of = segments("What is graded", [["selection", "Selection"], ["kept", "Kept selection"], ["draft", "Boundary at work"], ["boundary", "Saved boundary"]], value => { source.of = value; change(); });
  const kept = choice("Kept selection", [], "", value => { source.kept = value; change(); });
  const boundary = choice("Saved boundary", [], "", value => { source.boundary = value; change(); });
  const some = input("How many of them, at random", "number", value => { source.n = value; change(); }, {min: 1, step: 1, placeholder: "all"});
  const said_of = make("p", "of");
  const name = input("Name of the campaign", "text", value => { plan.name = value; plan.named = true; change(true); }, {maxLength: 80, placeholder: "What it is looking for"});

  // ------------------------------------------------------------------------------------------------------- grades
  const presets = segments("Grades", [], value => { pick(value); });
  const grades = make("div", "scheme");
  const level = choice("What the values of grades mean", LEVELS, "ordinal", value => own({level: value}));
  const positive = choice("Found from", [], "", value => own({positive: Number(value)}));
  const rule = choice("When a subject counts as found", [], "mean", value => { plan.outcome = value; change(true); });
  const add = button("link", "+ grade", () => {
    const used = new Set(plan.scheme.grades.map(g => g.key)), key = [...KEYS].find(k => !used.has(k));
    own({grades: [...plan.scheme.grades, {key, name: "", value: Math.min(...plan.scheme.grades.map(g => g.value)) - 1, definition: ""}]});
    grades.querySelector(".row:last-child input:nth-of-type(2)")?.focus();
  });
  const pick = which => {
    const found = known().schemes[which];
    if (found) plan.scheme = structuredClone(found);
    plan.preset = which;
    draw_grades();
    change(true);
  };
  /** What a person changes of a scheme makes it their own. */
  const own = (to, redraw = true) => {
    Object.assign(plan.scheme, to);
    if (plan.preset !== "own") { plan.preset = "own"; plan.scheme.name = "Own grades"; }
    if (redraw) draw_grades(); else presets.set(plan.preset);
    change(true);
  };
  const draw_grades = () => {
    const {scheme} = plan;
    presets.set(plan.preset);
    const head = put(make("div", "row head"), ...["key", "name", "value", "when it is given"].map(text => make("span", "", text)));
    grades.replaceChildren(head, ...scheme.grades.map((g, i) => {
      const set = (what, to) => { g[what] = to; draw_positive(); own({}, false); };
      const key = input("Key", "text", value => { key.value = value.toUpperCase().slice(-1); set("key", key.value); }, {value: g.key, maxLength: 2, title: `One of ${[...KEYS].join(" ")}`});
      const title = input(`Name of grade ${g.key}`, "text", value => set("name", value), {value: g.name, maxLength: 40, placeholder: "name"});
      const value = input(`Value of grade ${g.key}`, "number", v => set("value", v === "" ? NaN : Number(v)), {value: g.value, step: "any", title: "What means and medians are made of"});
      const definition = make("textarea");
      Object.assign(definition, {value: g.definition, rows: 1, maxLength: 300, placeholder: "When it is given, in a sentence", spellcheck: false});
      definition.setAttribute("aria-label", `Definition of grade ${g.key}`);
      definition.addEventListener("input", () => set("definition", definition.value.replace(/\s*\n\s*/g, " ")));
      const out = button("out", "✕", () => own({grades: scheme.grades.filter((_, j) => j !== i)}), "Take this grade away");
      out.setAttribute("aria-label", `Take grade ${g.key} away`);
      out.disabled = scheme.grades.length <= 2;
      key.className = "key";
      return put(make("div", "row"), key, title, value, definition, out);
    }));
    add.hidden = scheme.grades.length >= 10;
    level.value = scheme.level;
    draw_positive();
  };
  const draw_positive = () => {
    const {scheme} = plan, sorted = [...scheme.grades].filter(g => Number.isFinite(g.value)).sort((a, b) => b.value - a.value);
    const limits = [...new Set(sorted.map(g => g.value))].slice(0, -1);
    positive.replaceChildren(...limits.map(v => new Option(sorted.filter(g => g.value >= v).map(g => g.name || g.key).join(" or "), v)));
    if (!limits.includes(scheme.positive)) scheme.positive = limits[0] ?? 0;
    positive.value = scheme.positive;
  };

  // --------------------------------------------------------------------------------------------------------- who
  const stepper = (label, low, high, get, set) => {
    const box = input(label, "number", value => { if (value !== "") { set(Math.min(high, Math.max(low, Math.round(Number(value))))); change(true); } }, {min: low, max: high, step: 1});
    const step = by => { set(Math.min(high, Math.max(low, get() + by))); box.value = get(); change(true); };
    const less = button("", "−", () => step(-1)), more = button("", "+", () => step(1));
    less.setAttribute("aria-label", `Fewer: ${label}`);
    more.setAttribute("aria-label", `More: ${label}`);
    return {root: put(make("span", "stepper"), less, box, more), show() { box.value = get(); }};
  };
  const graders = stepper("Graders of each subject", 1, 20, () => plan.graders, v => { plan.graders = v; });
  const blind = input("Blind", "checkbox", value => { plan.is_blind = value; change(true); });
  const repeats = choice("Shown twice to the same grader", [[0, "none"], [0.05, "5 %"], [0.1, "10 %"], [0.2, "20 %"]], 0.05, value => { plan.repeats = Number(value); change(true); });
  const idle = input("Longest look that is counted, seconds", "number", value => { if (value !== "") plan.idle_s = Number(value); change(true); }, {min: 5, max: 3600, step: 5});

  // ---------------------------------------------------------------------------------------------------- mixed in
  const good = choice("Known objects", [], "", value => { plan.known = value; change(true); });
  const bad = choice("Duds", [], "", value => { plan.duds = value; change(true); });
  const audit = stepper("Audit draws", 0, 10_000, () => plan.audit, v => { plan.audit = v; });
  const audit_note = make("small");

  // ------------------------------------------------------------------------------------------------------- order
  const order = segments("Order", ORDERS, value => { plan.order = value; change(true); });
  const strata = choice("Column whose levels take turns", [], "", value => { plan.strata = value; change(true); });
  const order_note = make("small", "grow");
  const strategy = choice("Which are shown first", [], "mix", value => { plan.strategy = value; change(true); });
  const clusters = choice("Run whose clusters", [], "", value => { plan.clusters = value; change(true); });

  const blind_label = put(make("label", "check"), blind, make("span", "", "Blind"), make("small", "", "no scores, no volunteers’ votes, no other grader’s grades before one’s own"));
  const strata_field = field("by", strata), strategy_field = field("by", strategy), clusters_field = field("of", clusters);
  strategy_field.classList.add("wide");
  fields.append(
    part("What is graded", line(of.root, kept, boundary), line(field("How many, at random", some), said_of), field("Name", name)),
    part("Grades", line(presets.root, field("values are", level)), grades, wide(add, field("Looked for", positive), field("found where", rule))),
    part("Who grades", line(field("Graders of each subject", graders.root), field("Shown twice", repeats), field("Looks count up to", put(make("span", "unit"), idle, "s"))), blind_label),
    part("Mixed in, unmarked", line(field("Known objects", good), field("Duds", bad), field("Audit draws", audit.root)), audit_note),
    part("Order", line(order.root, strata_field, strategy_field, clusters_field), order_note),
  );

  // ------------------------------------------------------------------------------------------------------ beside
  const pictures = make("div", "sample"), total = make("p", "total"), price = make("p", "price"), sums = make("dl", "sums"), refused = make("p", "refused"), keys = make("div", "caps");
  const go = button("primary", "Make campaign", () => submit(), "Ctrl + Enter");
  const cancel = button("", "Cancel", () => left(), "Esc");
  refused.setAttribute("role", "alert");
  price.setAttribute("aria-live", "polite");
  beside.append(pictures, total, price, sums, keys, refused, put(make("div", "acts"), go, cancel));
  root.append(put(make("header"), make("h2", "", "New campaign")), fields, beside);

  const n_graded = () => !told || told.error ? 0 : source.n === "" ? told.n : Math.min(told.n, Math.max(0, Math.floor(Number(source.n) || 0)));
  const sizes = () => {
    const n = n_graded(), kept_n = known().kept ?? [], of_name = wanted => kept_n.find(k => k.name === wanted)?.n ?? 0;
    const first = n + plan.audit, again = Math.round(plan.repeats * n);
    const mixed = Math.min(of_name(plan.known) + of_name(plan.duds), Math.floor((first + again) / 9)); // one look in ten
    return {n, audit: plan.audit, again, mixed, looks: first + again + mixed};
  };
  const show = () => {
    const {kept: names, boundaries, columns, rules, strategies} = known();
    of.set(source.of);
    for (const b of of.buttons) {
      const why = {selection: door.n_selected ? "" : "Nothing is selected", kept: names.length ? "" : "No selection is kept", draft: door.draft ? "" : "No boundary is at work", boundary: boundaries.length ? "" : "No boundary is saved"}[b.dataset.value];
      b.disabled = Boolean(why);
      b.title = why;
    }
    fill(kept, names, () => names.map(k => new Option(`${k.name} (${whole(k.n)})`, k.name)));
    fill(boundary, boundaries, () => boundaries.map(b => new Option(`${b.name}, version ${b.version}`, b.name)));
    fill(strata, columns, () => [new Option("chosen fraction, in fifths", ""), ...columns.map(([r, t]) => new Option(t, r))]);
    const {positive: limit, grades: listed} = plan.scheme, at = listed.find(g => g.value === limit)?.name, reached = at ? `${limit}, ${at}` : `${limit}`;
    fill(rule, [rules, reached], () => Object.entries(rules).map(([v, text]) => new Option(text.replace("the limit", reached), v)));
    for (const [box, none] of [[good, "none"], [bad, "none"]]) fill(box, [none, names], () => [new Option(none, ""), ...names.map(k => new Option(`${k.name} (${whole(k.n)})`, k.name))]);
    kept.hidden = source.of !== "kept";
    boundary.hidden = source.of !== "boundary";
    if (source.kept) kept.value = source.kept;
    if (source.boundary) boundary.value = source.boundary;
    [good.value, bad.value, rule.value, repeats.value, strata.value, blind.checked, idle.value] = [plan.known, plan.duds, plan.outcome, plan.repeats, plan.strata, plan.is_blind, plan.idle_s];
    graders.show();
    audit.show();
    if (name.value !== plan.name) name.value = plan.name;
    order.set(plan.order);
    strata_field.hidden = plan.order !== "stratified";
    strategy_field.hidden = plan.order !== "acquisition";
    fill(strategy, strategies, () => Object.entries(strategies).map(([v, text]) => new Option(text, v)));
    strategy.value = plan.strategy;
    if (plan.order !== "stratified") plan.strata = "";
    const runs = known().clusters ?? [], by_clusters = order.buttons.find(b => b.dataset.value === "clusters");
    clusters_field.hidden = plan.order !== "clusters";
    by_clusters.disabled = !runs.length;
    by_clusters.title = runs.length ? "" : "No run has clusters yet: start one of the kind “cluster”";
    fill(clusters, runs, () => runs.map(r => new Option(r.title, r.run)));
    if (plan.order !== "clusters") plan.clusters = "";
    else plan.clusters = clusters.value = plan.clusters || (runs[0]?.run ?? "");
    order_note.textContent = ORDERS.find(o => o[0] === plan.order)[2];
    audit_note.textContent = plan.audit
      ? `Drawn at random from everything else in the survey, and graded like the others: they say how much of what is looked for is not among these, with an interval. ${whole(plan.audit)} draws without a find would mean: less than ${(300 / plan.audit).toPrecision(2)} % of the rest.`
      : "Without draws from what is left out, recall is not estimable: nobody knows what is not among these.";
    audit_note.classList.toggle("warm", !plan.audit);
    tally();
  };
  const tally = () => {
    const s = sizes();
    said_of.textContent = told?.error ?? told?.words ?? "";
    said_of.classList.toggle("wrong", Boolean(told?.error));
    fill(pictures, told?.sample ?? [], () => (told?.sample ?? []).map(row => put(make("span", "face"), known().has_images ? picture(row) : null)));
    total.replaceChildren(make("b", "", whole(s.n)), ` ${s.n === 1 ? "image" : "images"} × `, make("b", "", whole(plan.graders)), ` ${plan.graders === 1 ? "grader" : "graders"}`);
    cost = known().cost;
    price.replaceChildren("≈ ", make("b", "", hours(s.looks * cost.seconds / 3600)), plan.graders > 1 ? " of each" : "");
    const rows = [["to be graded", s.n], ["audit draws", s.audit], ["shown twice", s.again], ["known objects and duds", s.mixed], ["looks of each grader", s.looks]];
    fill(sums, [rows, cost], () => [...rows.filter(([, n], i) => n || i === 4).flatMap(([text, n], i, all) => { const d = make("dd", i === all.length - 1 ? "sum" : "", whole(n)); return [make("dt", i === all.length - 1 ? "sum" : "", text), d]; }),
      make("p", "", cost.measured ? `${cost.seconds.toPrecision(2)} s a look, the mean of ${many(cost.n, "grade")} so far` : `${cost.seconds} s a look, until 20 grades say how long one takes`)]);
    fill(keys, plan.scheme, () => [...plan.scheme.grades.map(g => put(make("span"), grade_cap(plan.scheme, g.key), make("span", "", g.name))), put(make("span"), make("span", "grade none", "Q"), make("span", "", "cannot judge")), put(make("span"), make("span", "grade star", "I"), make("span", "", "interesting"))]);
    const missing = [plan.name.trim() ? "" : "a name", s.n ? "" : !told ? "what is graded, which is being looked up" : told.error ? `what is graded (${told.error.replace(/\.$/, "")})` : "a subject to grade"].filter(Boolean);
    go.disabled = missing.length > 0;
    go.title = missing.length ? `Missing: ${missing.join("; ")}` : "Ctrl + Enter";
  };
  /** Something is different; where it may be other subjects, the server is asked. */
  const change = (same_subjects = false) => {
    refused.textContent = "";
    if (same_subjects) { show(); return; }
    if (!same_subjects) { clearTimeout(timer); timer = setTimeout(look, QUIET); }
    show();
  };
  const asked = () => {
    if (source.of === "selection") return {selection: door.selection_id};
    if (source.of === "kept") return {kept: source.kept || known().kept[0]?.name || ""};
    if (source.of === "draft") return {draft: door.draft};
    const found = known().boundaries.find(b => b.name === source.boundary) ?? known().boundaries[0];
    return {boundary: found?.name ?? "", version: found?.version ?? 0};
  };
  const look = async () => {
    const mine = ++number, query = {...asked(), ...source.n === "" ? {} : {n: source.n}};
    try {
      const found = await ask(`campaigns/source?${new URLSearchParams({...query, ...door.screen()})}`);
      if (mine !== number) return;
      told = found;
      if (!plan.named) plan.name = told.title.slice(0, 80);
    } catch (error) {
      if (mine !== number) return;
      told = {error: sentence(error), n: 0, sample: []};
    }
    show();
  };
  const submit = async () => {
    if (go.disabled) return;
    go.disabled = true;
    refused.textContent = "";
    const {named, preset, ...rest} = plan;
    const sent = {plan: rest, source: asked(), n: source.n === "" ? null : Number(source.n), client_id, ...door.screen(), ...source.of === "selection" && door.region ? {region: door.region} : {}};
    try {
      const answer = await post("make", sent);
      made(answer.id);
    } catch (error) {
      refused.textContent = sentence(error);
      go.disabled = false;
    }
  };
  root.addEventListener("submit", e => { e.preventDefault(); submit(); });
  root.addEventListener("keydown", e => {
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) { e.preventDefault(); submit(); }
    else if (e.key === "Enter" && e.target.tagName === "INPUT") e.preventDefault(); // a word typed is no campaign
  });

  return {
    root,
    open() {
      const {schemes, kept: names, boundaries} = known();
      client_id = uuid();
      told = null;
      source = {of: door.n_selected ? "selection" : door.draft ? "draft" : names.length ? "kept" : boundaries.length ? "boundary" : "selection", kept: names[0]?.name ?? "", boundary: boundaries[0]?.name ?? "", n: ""};
      plan = {name: "", named: false, preset: "abcx", scheme: structuredClone(schemes.abcx), graders: 3, known: "", duds: "", is_blind: true, order: "seeded", strata: "", audit: 0, repeats: 0.05, outcome: "mean", idle_s: 60, seed: 1234, strategy: "mix", clusters: ""};
      for (const [wanted, which] of [["training", "known"], ["duds", "duds"]]) if (names.some(k => k.name === wanted)) plan[which] = wanted;
      presets.root.replaceChildren();
      presets.buttons.length = 0;
      for (const [value, s] of [...Object.entries(schemes), ["own", {name: "Own"}]]) {
        const b = button("", s.name, () => pick(value));
        b.dataset.value = value;
        presets.buttons.push(b);
        presets.root.append(b);
      }
      some.value = "";
      name.value = "";
      refused.textContent = "";
      draw_grades();
      show();
      look();
    },
    /** The selection or the boundary at work is another now. */
    renew() { if (plan && !root.hidden) { show(); clearTimeout(timer); timer = setTimeout(look, QUIET); } },
    focus() { name.focus(); },
  };
}
