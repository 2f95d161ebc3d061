// The form for a new run, made of what /runs/kinds tells: kinds as cards, then what the run is of and builds on, then its
// settings, the everyday ones first. Only what is typed is sent; the rest stays the kind's, or its preset's.
const LABELS = {feature_weight: "λ", lambda_mode: "λ mixes", on: "Looks at", train_on: "Train on", fit_on: "Fit on", n_critic: "Critic steps", n_seeds: "Seeds"};
const METHODS = {wgan: "trained model", iforest: "isolation forest", knn: "neighbors", pca: "PCA"};
const SEEDS = {name: "n_seeds", type: "int", low: 1, high: 100, default: 1, is_everyday: true, help: "how many trainings, each with a seed of its own; with several λ, so many for each"};
const ALL = "\u0000all", ALIKE = "", CURRENT = "\u0000current";

const make = (tag, name, text) => {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
};
const button = (text, name, run) => {
  const e = make("button", name, text);
  e.type = "button";
  e.addEventListener("click", run);
  return e;
};
const whole = n => n.toLocaleString("en");
const spelled = v => v === null || v === undefined ? "" : typeof v === "number" ? (Number.isInteger(v) ? whole(v) : String(v)) : String(v);
const upper = text => text && /^[a-z]/.test(text) && !/^(wgan|pca|iforest|knn)\b/.test(text) ? text[0].toUpperCase() + text.slice(1) : text;
const label_of = field => LABELS[field.name] ?? upper(field.name.replace(/^n_/, "").replaceAll("_", " "));
const counted = (n, word) => `${whole(n)} ${word}${n === 1 ? "" : "s"}`;

/** What is typed as a number: {value}, {error}, or {} for nothing. */
export const read_number = (field, typed) => {
  const text = typed.trim().replaceAll(/(?<=\d)[,_ ](?=\d{3}(\D|$))/g, "").replace("−", "-");
  if (!text) return {};
  const value = Number(text), unit = field.unit ? ` ${field.unit}` : "";
  if (Number.isNaN(value) || !Number.isFinite(value)) return {error: "a number is needed here"};
  if (field.type === "int" && !Number.isInteger(value)) return {error: "a whole number is needed here"};
  const {low = null, high = null} = field;
  if (low !== null && value < low || high !== null && value > high) {
    return {error: high === null ? `must be at least ${spelled(low)}${unit}` : low === null ? `must be at most ${spelled(high)}${unit}` : `must be between ${spelled(low)} and ${spelled(high)}${unit}`};
  }
  return {value};
};
/** Several λ, with commas between them. */
export const read_numbers = (field, typed) => {
  const found = typed.split(/[,;\s]+/).filter(Boolean).map(text => read_number(field, text)), bad = found.find(f => f.error);
  if (bad) return bad;
  const values = found.map(f => f.value);
  if (new Set(values).size < values.length) return {error: "each only once"};
  return values.length ? {values} : {};
};

/**
 * @param post sends a decision: post(what, body) → answer, an Error with `field` where it is refused.
 * @param tell sends a message to the session: {keep: name}.
 * @param started is called with the answer; `left` when the form is closed.
 */
export function starting({post, tell, started, left}) {
  const root = make("form", "starting"), title = make("h2", "", "New run"), cards = make("div", "cards"), does = make("p", "does"), body = make("div", "parts");
  const foot = make("footer"), said = make("p", "said"), sum = make("p", "sum"), go = make("button", "primary", "Start");
  root.noValidate = true;
  root.setAttribute("aria-label", "New run");
  go.type = "submit";
  said.setAttribute("role", "alert");
  cards.setAttribute("role", "radiogroup");
  cards.setAttribute("aria-label", "What it does");
  const head = make("header");
  head.append(title);
  foot.append(said, sum, button("Back", "", () => left()), go);
  root.append(head, cards, does, body, foot);

  let told = null, kind = null, fields = [], parents = [], session = {k: 0, name: "", n: 0}, asked = 0, wanted = [], keeping = "";
  const typed = {}; // by kind: what was typed, so that looking at another kind loses nothing
  const of = {value: ALIKE, chosen: false};

  // ---------------------------------------------------------------------------------------------------------- kinds
  const draw_cards = () => {
    const make_card = k => {
      const card = make("label", "card"), box = make("input"), name = make("span"), word = make("code", "", k.name);
      word.ariaHidden = "true"; // the command line's word; a reader is told the title
      name.append(make("b", "", k.title), " ", word);
      Object.assign(box, {type: "radio", name: "kind", value: k.name, checked: k === kind, disabled: Boolean(k.lacks)});
      box.addEventListener("change", () => turn(k));
      card.title = k.lacks ? `${upper(k.lacks)}.` : k.about;
      card.append(box, name);
      return card;
    };
    cards.replaceChildren(...told.groups.map(([group, words], i) => {
      const row = make("div", "group"), inside = make("div", "inside"), head = make("h3", "", words), of = told.kinds.filter(k => k.group === group);
      head.id = `new-kinds-${i}`;
      row.setAttribute("role", "group");
      row.setAttribute("aria-labelledby", head.id);
      row.hidden = !of.length;
      inside.append(...of.map(make_card));
      row.append(head, inside);
      return row;
    }));
    does.textContent = kind.about;
  };

  // --------------------------------------------------------------------------------------------------------- fields
  const value_of = name => fields.find(f => f.about.name === name)?.read().value;
  const method = () => typed[kind.name]?.method ?? kind.fields.find(f => f.name === "method")?.default;
  const preset = () => {
    const field = kind.fields.find(f => f.name === "preset");
    return field && (!field.of || field.of.includes(method())) ? typed[kind.name]?.preset ?? field.default : undefined;
  };
  const help_of = about => (about.help ?? "").replace(/^(\w+(, \w+)*( and \w+ on pixels)?): /, (m, names) => names.split(", ").every(n => n in METHODS) && about.name !== "method" ? "" : m).replace(about.presets ? / \([^()]*(?:fast|compact|modern|paper|up to)[^()]*\)/ : /$^/, "");

  // of "fast: minutes; paper: hours" what is said of the choice, where something is said of each
  const help_by = about => {
    const found = {};
    let last = null;
    for (const piece of (about.help ?? "").split("; ")) {
      const named = about.choices?.find(c => piece.startsWith(`${c}: `));
      if (named) found[last = named] = piece.slice(named.length + 2);
      else if (last) found[last] += `; ${piece}`;
      else return null;
    }
    return about.choices?.every(c => c in found) ? found : null;
  };

  const make_field = about => {
    const cell = make("div", "field"), id = `new-${kind.name}-${about.name}`, name = make("label", "name", label_of(about)), note = make("p", "note");
    const memory = typed[kind.name] ??= {};
    if (about.name === "feature_weight" && kind.name === "train") about.help += "; several, as 0, .2, .5, make a series";
    name.htmlFor = id;
    note.id = `${id}-note`;
    const by = help_by({...about, help: help_of(about)});
    const say = error => {
      note.textContent = error ? upper(error) : upper(by ? by[memory[about.name] ?? about.default] : help_of(about));
      cell.classList.toggle("wrong", Boolean(error));
      for (const e of cell.querySelectorAll("input, select")) e.setAttribute("aria-invalid", Boolean(error));
    };
    const field = {about, cell, say, error: ""};
    const choices = about.choices ?? (about.type === "bool" ? [true, false] : null);
    if (about.sources) { // of labels
      const line = make("div", "line"), box = make("select"), own = about.sources.find(([text]) => text === about.by_itself);
      box.id = id;
      box.setAttribute("aria-describedby", note.id);
      box.append(new Option(own ? own[1] : "none", ""), ...about.sources.filter(s => s !== own).map(([text, title]) => new Option(title, text)), ...own ? [new Option("none", "none")] : []);
      box.value = memory[about.name] ?? "";
      if (box.selectedIndex < 0) box.value = "";
      box.addEventListener("change", () => { memory[about.name] = box.value; say(""); said.textContent = ""; summary(); });
      field.read = () => box.value ? {value: box.value} : {};
      field.hint = () => {};
      line.append(box);
      cell.append(name, line, note);
    } else if (choices) {
      const box = make("div", "choice"), offered = about.default === null ? [null, ...choices] : choices;
      box.setAttribute("role", "radiogroup");
      box.setAttribute("aria-label", label_of(about));
      box.setAttribute("aria-describedby", note.id);
      name.removeAttribute("for");
      for (const [i, choice] of offered.entries()) {
        const one = make("label"), radio = make("input");
        Object.assign(radio, {type: "radio", name: id, value: String(choice), checked: (memory[about.name] ?? about.default) === choice});
        if (!i) radio.id = id;
        radio.addEventListener("change", () => {
          memory[about.name] = choice;
          say("");
          settle();
        });
        const word = choice === null ? "as it is" : choice === true ? "yes" : choice === false ? "no" : choice;
        one.append(radio, make("span", "", about.name === "method" ? METHODS[word] ?? word : word));
        box.append(one);
      }
      field.read = () => (memory[about.name] ?? about.default) === about.default ? {} : {value: memory[about.name]};
      field.hint = () => {};
      cell.append(name, box, note);
    } else {
      const line = make("div", "line"), input = make("input");
      Object.assign(input, {type: "text", id, autocomplete: "off", spellcheck: false, value: memory[about.name] ?? ""});
      input.setAttribute("aria-describedby", note.id);
      if (about.type !== "str") input.inputMode = "decimal";
      field.hint = () => {
        const own = about.presets?.[preset()];
        input.placeholder = own !== undefined ? spelled(own) : about.default === null ? "" : about.name === "seed" ? String(about.default) : spelled(about.default);
      };
      const read = about.name === "feature_weight" && kind.name === "train" ? read_numbers : about.type === "str" ? (_, text) => text.trim() ? {value: text.trim()} : {} : read_number;
      field.read = () => read(about, input.value);
      field.input = input;
      input.addEventListener("input", () => {
        memory[about.name] = input.value;
        said.textContent = "";
        if (cell.classList.contains("wrong")) check(field);
        summary();
      });
      input.addEventListener("change", () => { check(field); settle(); });
      line.append(input);
      if (about.unit && about.unit !== "images" && about.unit !== "subjects") line.append(make("span", "unit", about.unit));
      cell.append(name, line, note);
    }
    say("");
    return field;
  };
  const check = field => {
    field.error = field.read().error ?? (field.about.is_required && field.input && !field.input.value.trim() ? "is needed" : "");
    field.say(field.error);
    return !field.error;
  };
  const shown = field => !field.about.of || field.about.of.includes(method());

  // ------------------------------------------------------------------------------------- of what, and built on what
  const place = make("div", "place"), settings = make("div", "settings"), rest = make("details", "rest"), more = make("div", "settings"), sumline = make("summary");
  rest.append(sumline, more);
  const part = (name, ...inside) => {
    const e = make("section", "part");
    e.append(make("h3", "", name), ...inside);
    return e;
  };
  const works_on = part("Works on", place), sets = part("Settings", settings, rest);
  body.append(works_on, sets);

  const pick = (label, options, value, change, note = "") => {
    const cell = make("div", "field"), name = make("label", "name", label), line = make("div", "line"), box = make("select"), id = `new-pick-${label.replaceAll(" ", "-")}`;
    name.htmlFor = box.id = id;
    box.append(...options.map(([v, text]) => new Option(text, v)));
    box.value = value;
    box.addEventListener("change", () => change(box.value));
    line.append(box);
    cell.append(name, line, make("p", "note", note));
    return cell;
  };
  const alike = () => {
    const built = parents.flatMap(p => p.boxes().map(id => p.runs.find(r => r.run_id === id))).filter(Boolean);
    const names = new Set(built.map(r => r.selection));
    return built.length && names.size === 1 ? [...names][0] : null;
  };
  const draw_place = () => {
    const focused = root.getRootNode().activeElement?.id;
    const same = alike(), kept = told.selections, n = session.n ? ` (${whole(session.n)})` : "";
    const options = [...same ? [[ALIKE, `As what it builds on: ${same}`]] : [], [ALL, `The whole survey${n}`], ...kept.map(([name, k]) => [name, `${name} (${whole(k)})`])];
    if (session.k && !session.name) options.push([CURRENT, `The current selection (${whole(session.k)}) …`]);
    if (!of.chosen || !options.some(([v]) => v === of.value)) of.value = same ? ALIKE : ALL;
    const cells = !kind.is_of_subjects ? [] : [pick("Subjects", options, of.value, value => { of.value = value; of.chosen = true; draw_place(); summary(); }, of.value === CURRENT ? "" : session.k && !session.name ? "The current selection can be taken, too" : "")];
    if (of.value === CURRENT) {
      const cell = make("div", "field"), name = make("label", "name", "Keep the selection as"), line = make("div", "line keep"), input = make("input"), note = make("p", "note", "Runs are of selections that have a name");
      Object.assign(input, {type: "text", id: "new-keep", value: keeping, autocomplete: "off", spellcheck: false});
      name.htmlFor = input.id;
      input.addEventListener("input", () => { keeping = input.value; });
      const keep = () => {
        if (!input.value.trim()) return;
        if (kept.some(([known]) => known === input.value.trim())) { note.textContent = "There is one of this name; choose another"; cell.classList.add("wrong"); return; }
        tell({keep: input.value.trim()});
      };
      input.addEventListener("keydown", e => { if (e.key === "Enter") { e.preventDefault(); keep(); } });
      line.append(input, button("Keep", "", keep));
      cell.append(name, line, note);
      cells.push(cell);
    }
    works_on.hidden = !cells.length && !parents.length;
    place.replaceChildren(...cells, ...parents.map(p => p.cell));
    if (focused) root.getRootNode().getElementById(focused)?.focus();
  };
  const run_words = run => [run.created_at.slice(0, 16).replace("T", " "), run.about || run.title, run.selection].filter(Boolean).join(" · ");
  const make_parent = ({kind: name, how, runs}) => {
    if (how === "many") {
      const cell = make("div", "field wide"), list = make("div", "several"), picked = new Set(runs.slice(0, 2).map(r => r.run_id));
      list.setAttribute("role", "group");
      list.setAttribute("aria-label", `${upper(name)} runs`);
      for (const run of runs) {
        const line = make("label", "check"), box = make("input");
        Object.assign(box, {type: "checkbox", checked: picked.has(run.run_id)});
        box.addEventListener("change", () => { if (box.checked) picked.add(run.run_id); else picked.delete(run.run_id); draw_place(); summary(); });
        line.append(box, make("span", "", run_words(run)));
        list.append(line);
      }
      cell.append(make("span", "name", `${upper(name)} runs`), list, make("p", "note", runs.length < 2 ? `Two finished ${name} runs are needed; there ${runs.length === 1 ? "is one" : "is none"}` : "Two or more"));
      return {name, how, runs, cell, boxes: () => runs.filter(r => picked.has(r.run_id)).map(r => r.run_id), lacks: () => picked.size < 2 && `choose two ${name} runs or more`};
    }
    const options = [...how === "optional" ? [["", name === "map" ? "none: a new layout" : kind.name === "train" ? "none: from the beginning" : "none"]] : [], ...runs.map(r => [r.run_id, run_words(r)])];
    const before = wanted.find(id => runs.some(r => r.run_id === id));
    let value = before ?? (how === "optional" ? "" : runs[0]?.run_id ?? "");
    if (!options.length) {
      const cell = make("div", "field wrong"), first = told.kinds.find(k => k.name === name), note = make("p", "note", `${upper(kind.name)} builds on a finished ${name} run, and there is none. `);
      if (first && !first.lacks) note.append(button(`${first.title} first`, "link", () => turn(first)));
      cell.append(make("span", "name", `${upper(name)} run`), note);
      return {name, how, runs, cell, boxes: () => [], lacks: () => `${kind.name} builds on a finished ${name} run, and there is none`};
    }
    const note = how === "needs" ? "" : name === "map" ? "Newcomers are placed on it; settings are then its own" : kind.name === "train" ? "Its generator and critic are taken, and an encoder is trained" : "";
    const cell = pick(how === "needs" ? `${upper(name)} run` : name === "map" ? "Placed on" : kind.name === "train" ? "Taken from" : `Builds on a ${name} run`, options, value, chosen => { value = chosen; wanted = [...wanted.filter(id => !runs.some(r => r.run_id === id)), chosen]; draw_place(); summary(); }, note);
    return {name, how, runs, cell, boxes: () => value ? [value] : [], lacks: () => false};
  };

  const config = () => {
    const found = {};
    for (const field of fields) {
      const {value, values} = field.read();
      if (!shown(field) || field.about.name === "n_seeds") continue;
      if (value !== undefined) found[field.about.name] = value;
      else if (values?.length === 1) found[field.about.name] = values[0];
    }
    return found;
  };
  const series = () => {
    const weights = fields.find(f => f.about.name === "feature_weight")?.read().values ?? [], n_seeds = value_of("n_seeds") ?? 1;
    return kind.name === "train" && (weights.length > 1 || n_seeds > 1) ? {weights, n_seeds} : null;
  };

  const ask_parents = async () => {
    const mine = ++asked, choices = {};
    for (const field of fields) if (!field.input && shown(field)) Object.assign(choices, field.read().value === undefined ? {} : {[field.about.name]: field.read().value});
    const answer = await fetch(`runs/parents?${new URLSearchParams({kind: kind.name, config: JSON.stringify(choices)})}`, {credentials: "same-origin"}).catch(() => null);
    if (mine !== asked) return;
    const found = answer && await answer.json();
    if (mine !== asked || !found?.builds_on) return;
    parents = found.builds_on.map(make_parent);
    draw_place();
    summary();
  };

  const arrange = () => {
    for (const field of fields) { field.cell.hidden = !shown(field); field.hint(); }
    const folded = fields.filter(f => !f.about.is_everyday && shown(f));
    rest.hidden = !folded.length;
    sumline.textContent = `${fields.some(f => f.about.is_everyday && shown(f)) ? "All settings" : "Settings"} (${folded.length} more)`;
    sets.hidden = !fields.some(shown);
  };
  let last = "";
  const settle = () => { // another choice may change what is built on, and what presets come to
    arrange();
    summary();
    const choices = JSON.stringify([kind.name, fields.filter(f => !f.input).map(f => f.read().value)]);
    if (choices !== last) { last = choices; ask_parents(); }
  };
  const summary = () => {
    const many = series(), n_set = Object.keys(config()).length;
    const words = [];
    if (many) {
      const n = Math.max(1, many.weights.length) * many.n_seeds;
      words.push(`A series: ${many.weights.length > 1 ? `${many.weights.length} λ` : ""}${many.weights.length > 1 && many.n_seeds > 1 ? " × " : ""}${many.n_seeds > 1 ? `${many.n_seeds} seeds` : ""}, ${counted(n, "training")}, each scored, then ranked together`);
    } else words.push(n_set ? `${counted(n_set, "setting")} of your own; the rest as ${preset() ? `preset ${preset()}` : "the default"}` : `As ${preset() ? `preset ${preset()}` : "the default"} has it`);
    sum.textContent = words.join(" · ");
    go.textContent = many ? "Start the series" : "Start";
  };

  const turn = (to, given = {}) => {
    kind = to;
    said.textContent = "";
    wanted = given.parents ?? wanted;
    if (given.config) typed[kind.name] = Object.fromEntries(Object.entries(given.config).map(([k, v]) => [k, kind.fields.some(f => f.name === k && (f.choices || f.type === "bool")) ? v : String(v)]));
    const everyday = kind.fields.map(f => ({...f}));
    if (kind.name === "train") everyday.splice(1 + everyday.findLastIndex(f => f.is_everyday), 0, SEEDS);
    fields = everyday.map(make_field);
    settings.replaceChildren(...fields.filter(f => f.about.is_everyday).map(f => f.cell));
    more.replaceChildren(...fields.filter(f => !f.about.is_everyday).map(f => f.cell));
    rest.open ||= fields.some(f => !f.about.is_everyday && f.input?.value);
    parents = [];
    last = "";
    draw_cards();
    draw_place();
    settle();
  };

  root.addEventListener("submit", async event => {
    event.preventDefault();
    said.textContent = "";
    const wrong = fields.filter(f => shown(f) && !check(f))[0];
    if (wrong) {
      if (!wrong.about.is_everyday) rest.open = true;
      wrong.input?.focus();
      said.textContent = `${label_of(wrong.about)} ${wrong.error}`;
      return;
    }
    const lacking = kind.is_of_subjects && of.value === CURRENT ? "keep the selection under a name first" : parents.map(p => p.lacks()).find(Boolean);
    if (lacking) { said.textContent = upper(lacking); return; }
    const many = series(), ask = {kind: kind.name, config: config(), parents: parents.flatMap(p => p.boxes())};
    if (kind.is_of_subjects && of.value === ALL) ask.everything = true;
    else if (kind.is_of_subjects && of.value !== ALIKE) ask.selection = of.value;
    if (many) Object.assign(ask, {n_seeds: many.n_seeds}, many.weights.length > 1 ? {feature_weights: many.weights} : {feature_weights: [many.weights[0] ?? kind.fields.find(f => f.name === "feature_weight").default]});
    go.disabled = true;
    try {
      const answer = await post("start", ask);
      typed[kind.name] = {};
      of.chosen = false;
      started(answer);
    } catch (error) {
      const field = fields.find(f => f.about.name === error.field);
      if (field) {
        if (!field.about.is_everyday) rest.open = true;
        field.say(error.message.replace(`${error.field} is `, "it is "));
        field.input?.focus();
      }
      said.textContent = `${upper(error.message)}${/[.!?]$/.test(error.message) ? "" : "."}`;
    }
    go.disabled = false;
  });

  return {
    root,
    /** Show the form; `kind`, `parents` (run ids) and `config` where they are known. */
    async open(given = {}) {
      const answer = await fetch("runs/kinds", {credentials: "same-origin"}).catch(() => null), found = answer && await answer.json();
      if (!found?.kinds) { said.textContent = found?.error ?? "The server does not answer; is it still running?"; return; }
      const fresh = !told || given.kind;
      told = found;
      if (fresh) turn(told.kinds.find(k => k.name === given.kind) ?? told.kinds.find(k => !k.lacks) ?? told.kinds[0], given);
      else { draw_place(); ask_parents(); }
      (cards.querySelector("input:checked") ?? go).focus();
    },
    /** What is selected on the page: {k, name, n}; a selection that was just kept is taken. */
    async selection(now) {
      const kept = of.value === CURRENT && now.name && now.name !== session.name;
      session = now;
      if (!told || !root.isConnected || root.hidden) return;
      if (kept || !told.selections.some(([name]) => name === now.name) && now.name) {
        const answer = await fetch("runs/kinds", {credentials: "same-origin"}).catch(() => null), found = answer && await answer.json();
        if (found?.selections) told.selections = found.selections;
        if (kept) { of.value = now.name; of.chosen = true; keeping = ""; }
      }
      draw_place();
      summary();
    },
  };
}
