// The left column: what the map shows, its colour bar, and what is selected. Every control is the browser's own; a change
// is told to the session at once, and one at a time: while λ is dragged, the latest value waits for the one before. What
// colors the map is asked for by the map itself, and told to the session, which tells everyone else, once that is painted.
const SHORT = {replace: "Replace", add: "Add", subtract: "Subtract", intersect: "Intersect"};

const make = (tag, name, text) => {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
};
const count = k => k.toLocaleString("en");
const plural = (k, word) => `${count(k)} ${word}${k === 1 ? "" : "s"}`;

const PAINTS = 100;  // ms that a frame has, until the session is told what it is of
const FULL = 129, LEVELS = 126;  // where a frame's palette has its ramp, as explorer/raster.py says

export function render({model, el}) {
  const root = make("div", "steering");
  el.append(root);

  // ------------------------------------------------------------------------------------------- what is told
  let waiting = null, sent = false, paints = 0;
  const tell = () => {
    if (sent || paints || !waiting) return;
    sent = true;
    model.send_msg({set: waiting});
    waiting = null;
  };
  const painted_now = event => {
    if (event?.detail && !event.detail.is_latest) return;  // of what was chosen before
    window.removeEventListener("voorwerp-painted", painted_now);
    clearTimeout(paints);
    paints = 0;
    tell();
  };
  const set = change => {
    waiting = {...waiting, ...change};
    if (window.voorwerp.on_screen?.()?.foresee(change) && !paints) {
      window.addEventListener("voorwerp-painted", painted_now);
      paints = setTimeout(painted_now, PAINTS);
    }
    tell();
  };
  model.on("heard", () => { sent = false; tell(); if (!sent) draw_view(); });
  const send = message => { painted_now(); model.send_msg(message); };  // nothing overtakes what was chosen before it
  const act = name => send({do: name});

  // ------------------------------------------------------------------------------------------------- parts
  const choice = (name, label, title) => {
    const box = make("select");
    box.setAttribute("aria-label", label);
    if (title) box.title = title;
    box.addEventListener("change", () => set({[name]: box.value}));
    return box;
  };
  const labeled = (text, ...parts) => {
    const line = make("div", "field"), word = make("span", "word", text);
    word.setAttribute("aria-hidden", "true");
    line.append(word, ...parts);
    return line;
  };
  const button = (text, title, run, label) => {
    const e = make("button", "", text);
    e.type = "button";
    e.title = title;
    if (label) e.setAttribute("aria-label", label);
    e.addEventListener("click", run);
    return e;
  };
  const group = (label, options, choose) => {  // one of a few, all in view
    const box = make("div", "choice");
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", label);
    const parts = Object.entries(options).map(([value, [text, title]]) => {
      const e = button(text, title, () => choose(value));
      e.dataset.value = value;
      box.append(e);
      return e;
    });
    return {box, show: (value, disabled) => parts.forEach(e => { e.setAttribute("aria-pressed", e.dataset.value === value); e.disabled = Boolean(disabled); })};
  };
  const check = (name, text, title) => {
    const label = make("label", "check"), box = make("input");
    box.type = "checkbox";
    label.title = title;
    label.append(box, text);
    box.addEventListener("change", () => set({[name]: box.checked}));
    return {label, box};
  };
  const fill = (select, groups, value) => {  // groups: [title, [[value, text], …]]; untitled ones stand alone
    const key = JSON.stringify(groups);
    if (select.dataset.key !== key) {
      select.dataset.key = key;
      select.replaceChildren(...groups.flatMap(([title, options]) => {
        const made = options.map(([of, text]) => new Option(text, of));
        if (!title) return made;
        const box = make("optgroup");
        box.label = title;
        box.append(...made);
        return [box];
      }));
    }
    select.value = value;
  };

  // -------------------------------------------------------------------------------------------------- view
  const view = make("section");
  view.setAttribute("aria-label", "View");
  const x = choice("x", "Horizontal axis"), y = choice("y", "Vertical axis");
  const swap = button("⇄", "Swap the axes", () => set({x: model.view.y, y: model.view.x}), "Swap the axes");
  const axes = make("div", "axes");
  axes.append(x, swap, y);
  const planes = group("Plane", {
    map: ["Map", "The map's first two components"], scores: ["Scores", "Feature score against image score"], solid: ["3-D", "The map's three components, turned under the mouse (3)"],
  }, value => act(`plane ${value}`));
  const color = choice("color", "Color by");
  const aggregate = choice("aggregate", "Of a pixel", "Which of the subjects that share a pixel"), norm = choice("norm", "Scale", "How values are spread over the colors"), palette = choice("palette", "Palette", "All of them are perceptually uniform");
  const three = make("div", "three");
  three.append(...[["Of a pixel", aggregate], ["Scale", norm], ["Palette", palette]].map(([text, part]) => {
    const cell = make("div"), word = make("span", "word", text);
    word.setAttribute("aria-hidden", "true");
    cell.append(word, part);
    return cell;
  }));
  fill(aggregate, [["", [["max", "max"], ["mean", "mean"], ["std", "std"]]]], "max");
  fill(norm, [["", ["percentile", "equalised", "linear", "log"].map(v => [v, v])]], "percentile");
  fill(palette, [["", ["auto", "viridis", "inferno", "cividis", "magma"].map(v => [v, v])]], "auto");

  const lambda = make("div", "lambda"), slider = make("input"), weight = make("output", "", "");
  Object.assign(slider, {type: "range", min: 0, max: 1, step: 0.01});
  slider.setAttribute("aria-label", "λ, weight of feature score");
  slider.title = "S_anom = (1 − λ) S_image + λ S_feature";
  let held = false;  // what the hand does comes before what the session says
  for (const kind of ["pointerdown", "keydown"]) slider.addEventListener(kind, () => { held = true; });
  for (const kind of ["change", "blur"]) slider.addEventListener(kind, () => { held = false; });
  slider.addEventListener("input", () => { weight.textContent = Number(slider.value).toFixed(2); set({lambda_: Number(slider.value)}); });
  const lambda_word = make("span", "word", "λ, weight of feature score");
  lambda_word.setAttribute("aria-hidden", "true");
  lambda.append(lambda_word, weight, slider);
  const mixing = group("What λ mixes", {raw: ["Raw sums", "The two sums as they are"], standardised: ["Standardised", "Each by its median and MAD"]}, value => set({lambda_mode: value}));

  const legend = make("div", "legend");
  const overlay = choice("overlay", "Overlay", "Drawn as markers above the map");
  const contours = check("contours", "Contours", "Lines of equal density (D)"), places = check("places", "Places", "The names that regions were given");
  const ticks = make("div", "checks");
  ticks.append(contours.label, places.label);
  view.append(make("h3", "", "View"), planes.box, axes, labeled("Color by", color), three, lambda, mixing.box, legend, labeled("Overlay", overlay), ticks);

  // --------------------------------------------------------------------------------------------- selection
  const chosen = make("section");
  chosen.setAttribute("aria-label", "Selection");
  const total = make("div", "total");
  total.setAttribute("role", "status");
  const mode = group("A new selection", {
    replace: [SHORT.replace, "A new selection replaces the old one"], add: [SHORT.add, "It is added (Shift while drawing)"],
    subtract: [SHORT.subtract, "It is taken away (Alt while drawing)"], intersect: [SHORT.intersect, "What is in both stays"],
  }, value => set({mode: value}));
  mode.box.classList.add("modes");
  const moves = make("div", "moves");
  const invert = button("Invert", "Select what is not selected (V)", () => act("invert")), undo = button("Undo", "The selection before (U)", () => act("undo"));
  const redo = button("Redo", "The selection that was undone (Shift+U)", () => act("redo")), clear = button("Clear", "Select nothing (Esc)", () => act("clear"));
  moves.append(invert, undo, redo, clear);

  const keep = make("form", "keep"), name = make("input"), save = make("button", "", "Keep");
  Object.assign(name, {type: "text", placeholder: "Name this selection", autocomplete: "off", spellcheck: false, maxLength: 200});
  name.setAttribute("aria-label", "Name this selection");
  save.title = "Keep the selection under this name, in the survey's ledger";
  keep.append(name, save);
  keep.addEventListener("submit", e => { e.preventDefault(); send({keep: name.value}); });
  name.addEventListener("keydown", e => { if (e.key === "Escape") name.blur(); });

  const said = make("div", "said"), words = make("span"), back = button("Undo", "Take this back", () => act("take back"));
  said.setAttribute("role", "status");
  said.append(words, back);
  const list = make("ul", "kept");
  list.setAttribute("aria-label", "Kept selections");
  const files = make("div", "files"), figures = make("div", "files"), to_samp = button("", "To TOPCAT, Aladin or DS9 on this machine (Simple Application Messaging Protocol)", () => { words.textContent = "Sending …"; act("send"); });
  to_samp.className = "send";
  const checked = make("p", "checked");  // what experts found in the kept selection that is selected
  checked.setAttribute("role", "status");
  chosen.append(make("h3", "", "Selection"), total, checked, mode.box, moves, keep, said, list, files, figures, to_samp);
  const hint = button("? keys", "Keys (?)", () => window.voorwerp.commands.run("keys"));
  hint.className = "hint";
  root.append(view, chosen, hint);

  // ----------------------------------------------------------------------------------------- the colour bar
  const note = (text, name = "seen") => make("div", name, text);
  const bar = (colors, marks) => {
    const canvas = make("canvas", "ramp"), labels = make("div", "ticks"), pen = canvas.getContext("2d");
    canvas.width = colors.length;
    canvas.height = 1;
    colors.forEach((c, i) => { pen.fillStyle = c; pen.fillRect(i, 0, 1, 1); });
    for (const [at, value] of marks) {
      const label = make("span", "", window.voorwerp.format(value));
      label.style.left = `${100 * at}%`;
      labels.append(label);
    }
    requestAnimationFrame(() => {  // where two would stand on each other the ends stay
      const all = [...labels.children], boxes = all.map(e => e.getBoundingClientRect()), last = boxes.at(-1);
      let free = -Infinity;
      boxes.forEach((b, i) => {
        const is_end = i === 0 || i === all.length - 1, fits = b.left >= free && (i === all.length - 1 || b.right + 5 <= last.left);
        all[i].style.visibility = is_end || fits ? "" : "hidden";
        if (is_end || fits) free = b.right + 5;
      });
    });
    return [canvas, labels];
  };
  const swatches = (labels, colors) => {
    const box = make("div", "swatches");
    labels.forEach((text, i) => {
      const item = make("span"), dot = make("i");
      dot.style.background = colors[i];
      item.append(dot, text);
      box.append(item);
    });
    return [box];
  };
  // the bar shows the palette that the map on screen is painted with, which follows the theme by itself
  const painted = () => {
    const palette = window.voorwerp.on_screen?.()?.pixels.palette ?? "";
    return palette ? Array.from({length: LEVELS}, (_, i) => `#${palette.slice(6 * (FULL + i - 1), 6 * (FULL + i))}`) : [];
  };
  const draw_legend = () => {
    const {legend: told, trouble} = window.voorwerp, parts = [];
    if (trouble) {
      const lost = note(`The map is not up to date: ${trouble}.`, "lost");
      lost.setAttribute("role", "alert");
      legend.replaceChildren(lost);
      return;
    }
    if (!told) return;
    const {settings} = told, about = [];
    if (settings.color === "count") about.push(told.radius ? `subjects per pixel, drawn as discs of ${told.radius} px` : "subjects per pixel");
    else if (settings.color === "share") about.push("selected share of a pixel");
    else if (!told.labels.length) about.push({ max: "highest of a pixel", mean: "mean of a pixel", std: "standard deviation within a pixel" }[settings.aggregate]);
    else about.push("commonest of a pixel");
    if (told.mixed) about.push(`λ ${settings.lambda} of ${told.mixed}`);
    if (told.clipped) about.push(settings.aggregate === "std" ? "ends at that of all subjects" : "ends at 0.5 and 99.5 %");
    if (told.note) about.push(told.note);
    const line = note(about.join(" · "), "note");
    if (settings.color !== "count" && settings.color !== "share") {
      const missing = make("span", "missing");
      missing.append(make("i"), "no value");
      line.append(missing);
    }
    parts.push(...told.labels.length ? swatches(told.labels, painted()) : bar(painted(), told.ticks), line);
    const near = told.about ? "≈ " : "";  // as long as it moves
    parts.push(note(model.n_on_map ? `${near}${count(told.in_view)} of ${plural(model.n_on_map, "subject")} on the map in view` : `${near}${plural(told.in_view, "subject")} in view`));
    for (const text of model.about) {
      const fact = note(text);
      if (text.startsWith("trust")) fact.title = "How far neighbors on the map are neighbors in latent space, and how many of these the map keeps: 1 is best. On a sample.";
      parts.push(fact);
    }
    if (model.n_off) {
      const off = button("", "Placed by their neighbors, and farther from these than 99.9 % of the subjects that shaped the map from theirs: where they are drawn says little", () => act("off the map"));
      off.append(make("u"), `select the ${count(model.n_off)} off the map`);
      parts.push(off);
    }
    if (model.mixing) parts.push(note(`${model.mixing}.`, "lost"));
    legend.replaceChildren(...parts);
  };

  // ---------------------------------------------------------------------------------------------- kept ones
  const draw_kept = () => {
    list.hidden = !model.kept.length;
    list.replaceChildren(...model.kept.map(([title, k]) => {
      const line = make("li"), open = button("", `Select these ${count(k)} subjects`, () => send({open: title}));
      open.className = "open";
      open.append(make("span", "", title), make("em", "", count(k)));
      open.setAttribute("aria-label", `${title}, ${plural(k, "subject")}`);
      open.setAttribute("aria-current", title === model.opened);
      const rename = button("✎", "Rename", () => edit(line, title), `Rename ${title}`), drop = button("✕", "Remove", () => send({drop: title}), `Remove ${title}`);
      line.append(open, rename, drop);
      return line;
    }));
  };
  const edit = (line, title) => {
    const box = make("input");
    box.type = "text";
    box.value = title;
    box.setAttribute("aria-label", `New name of ${title}`);
    let over = false;
    const end = accepted => {
      if (over) return;
      over = true;
      if (accepted && box.value.trim() && box.value.trim() !== title) send({rename: [title, box.value.trim()]});
      draw_kept();
    };
    box.addEventListener("keydown", e => { if (e.key === "Enter") end(true); else if (e.key === "Escape") { e.stopPropagation(); end(false); } });
    box.addEventListener("blur", () => end(true));
    line.replaceChildren(box);
    box.focus();
    box.select();
  };

  // -------------------------------------------------------------------------------------------- to take away
  const joined = links => links.flatMap((link, i) => i ? [" · ", link] : [link]);
  const download = (text, address, title) => {
    const link = make("a", "", text);
    link.href = address();
    link.download = "";
    if (title) link.title = title;
    link.addEventListener("click", () => { link.href = address(); });  // the view has moved since
    return link;
  };
  const figure_query = () => {  // what /frame was asked last, and what else is drawn
    const map = window.voorwerp.on_screen?.(), {palette, contours, overlay, places} = model.view, told = new URLSearchParams(model.selected.query);
    const [x0, x1, y0, y1] = map?.view ?? [];
    const view = x0 === undefined ? {} : {x0, x1, y0, y1, w: Math.round(map.w), h: Math.round(map.h)};
    return new URLSearchParams({...Object.fromEntries(told), ...window.voorwerp.legend?.settings, palette, overlay, contours: contours ? 1 : 0, places: places ? 1 : 0, ...view});
  };

  // ---------------------------------------------------------------------------------------------- to screen
  const draw_view = () => {
    const {can} = model, v = {...model.view, ...waiting};
    fill(x, can.axes, v.x);
    fill(y, can.axes, v.y);
    x.disabled = y.disabled = swap.disabled = v.solid || !can.axes.length;
    planes.show(v.solid ? "solid" : v.x === can.two[0] && v.y === can.two[1] ? "scores" : v.x === "maps.umap_1" && v.y === "maps.umap_2" ? "map" : "");
    for (const [place, has] of [[0, can.map], [1, can.two.length], [2, can.solid]]) planes.box.children[place].disabled = !has;
    fill(color, can.colors, v.color);
    fill(overlay, can.overlays, v.overlay);
    overlay.disabled = can.overlays.length < 2;
    aggregate.value = v.aggregate;
    norm.value = v.norm;
    palette.value = v.palette;
    aggregate.disabled = !can.number;
    norm.disabled = palette.disabled = can.category;
    if (!held && !sent && !waiting) {  // what comes back of an earlier step moves no slider
      slider.value = v.lambda_;
      weight.textContent = v.lambda_.toFixed(2);
    }
    slider.disabled = !can.mixes;
    lambda.classList.toggle("off", !can.mixes);
    mixing.show(v.lambda_mode, !can.mixes);
    mode.show(v.mode);
    contours.box.checked = v.contours;
    places.box.checked = v.places;
    draw_legend();
  };
  const draw_selected = () => {
    const {k, n, undo: before, redo: after, query, sky, samp} = model.selected;
    const share = n ? 100 * k / n : 0, some = make("b", "", count(k));
    if (k) total.replaceChildren(some, ` of ${count(n)} selected, ${share >= 99.995 || share >= 10 ? +share.toFixed(1) : +share.toPrecision(2)} %`);
    else total.textContent = "Nothing selected";
    undo.disabled = !before;
    redo.disabled = !after;
    clear.disabled = save.disabled = name.disabled = !k;
    const offered = name.dataset.offered ?? "", title = model.selected.title ?? "";  // the filter that made it
    if (title !== offered && name.value === offered) name.value = title;
    name.dataset.offered = title;
    const what = k ? `${count(k)} selected` : `all ${count(n)}`;
    const forms = Object.entries({csv: "CSV", parquet: "Parquet", fits: "FITS", votable: "VOTable", ...sky ? {regions: "DS9 regions"} : {}});
    files.replaceChildren(`Export ${what}: `, ...joined(forms.map(([form, title]) => download(title, () => `export?${query}&format=${form}`))));
    const drawn = ["png", "svg", "pdf"].map(form => download(form.toUpperCase(), () => `figure?${figure_query()}&format=${form}`, `This view as ${form.toUpperCase()}, with caption and provenance`));
    figures.replaceChildren("Figure: ", ...joined(drawn), ...k ? [" · ", download("contact sheet", () => `figure?${figure_query()}&kind=sheet&format=pdf`, "The selection's first pictures in the gallery's order, as PDF")] : []);
    figures.hidden = !model.can.map;
    to_samp.hidden = !samp;
    to_samp.textContent = `Send ${what} by SAMP`;
    draw_kept();
  };
  const draw_said = () => {
    words.textContent = model.said;
    back.hidden = !model.can_take_back;
    said.hidden = !model.said;
    if (model.said.startsWith("kept as")) name.value = "";
  };

  // ----------------------------------------------------------------------------------------------- commands
  const {commands} = window.voorwerp, always = [], listed = [];
  const add = (id, title, run, more) => commands.add({id, title, group: "Selection", run, ...more});
  const some = () => model.selected.k > 0;
  always.push(
    add("undo", "Undo the selection", () => act("undo"), {key: "u", shift: false, when: () => model.selected.undo}),
    add("redo", "Redo the selection", () => act("redo"), {key: "u", shift: true, when: () => model.selected.redo}),
    add("clear", "Clear the selection", () => act("clear"), {key: "escape", when: some}),
    add("invert", "Invert the selection", () => act("invert"), {key: "v"}),
    add("keep", "Keep the selection under a name", () => name.focus(), {when: some}),
    add("swap", "Swap the axes", () => swap.click(), {group: "View", when: () => !swap.disabled}),
    ...[["map", "Axes: the map"], ["scores", "Axes: feature score against image score"]].map(([plane, title]) =>
      add(`plane-${plane}`, title, () => act(`plane ${plane}`), {group: "View", when: () => plane === "map" ? model.can.map : model.can.two.length > 0})),
    ...[["norm", "Scale", norm], ["palette", "Palette", palette]].flatMap(([property, title, box]) => [...box.options].map(({value, text}) =>
      add(`${property}-${value}`, `${title}: ${text}`, () => set({[property]: value}), {group: "View", when: () => !box.disabled}))),
    ...Object.entries(SHORT).map(([value, text]) => add(`mode-${value}`, `New selections: ${text.toLowerCase()}`, () => set({mode: value}))),
  );
  const list_commands = () => {  // what can be chosen by name: colorings, and selections that are kept
    listed.splice(0).forEach(forget => forget());
    for (const [, options] of model.can.colors ?? []) for (const [of, title] of options) listed.push(add(`color-${of}`, `Color by: ${title}`, () => set({color: of}), {group: "View"}));
    for (const [, options] of model.can.overlays ?? []) for (const [of, title] of options) listed.push(add(`overlay-${of}`, `Overlay: ${title}`, () => set({overlay: of}), {group: "View"}));
    for (const [title] of model.kept) listed.push(add(`kept-${title}`, `Select: ${title}`, () => send({open: title}), {group: "Kept selections"}));
  };

  window.addEventListener("voorwerp-legend", draw_legend);
  model.on(["view", "can"], draw_view);
  model.on("selected", draw_selected);
  const draw_checked = () => { checked.textContent = model.checked; checked.hidden = !model.checked; };
  draw_checked();
  model.on("checked", draw_checked);
  model.on(["kept", "opened"], draw_kept);
  model.on(["kept", "can"], list_commands);
  model.on(["said", "answered", "can_take_back"], draw_said);
  model.on(["mixing", "about", "n_off", "n_on_map"], draw_legend);
  model.on("remove", () => {
    window.removeEventListener("voorwerp-legend", draw_legend);
    window.removeEventListener("voorwerp-painted", painted_now);
    [...always, ...listed].forEach(forget => forget());
  });
  draw_view();
  draw_selected();
  draw_said();
  list_commands();
}
