// An image dropped on the map: the server cuts it as the survey cuts, the network scores it, and it is placed among the
// subjects by its latent vector. A marker on the map and a card beside it; nothing of it becomes part of the survey.
// Loaded once a page, after map.js.
(() => {
  const {voorwerp} = window;
  if (voorwerp.drop) return;

  const MOST = 50_000_000; // bytes: more is not read
  const PAUSE = 150; // ms after the last change of λ, run or map
  const PAGE = Array.from(crypto.getRandomValues(new Uint8Array(12)), v => v.toString(16).padStart(2, "0")).join("");
  const PICTURES = {crop: "Crop", reconstruction: "Reconstruction", residual: "Residual", feature: "Feature residual"};
  const ABOUT = {
    crop: "What the network sees of it", reconstruction: "What the model makes of it",
    residual: "Absolute difference of crop and reconstruction", feature: "Where the critic sees a difference between crop and reconstruction",
  };
  const SEEN = {train: "The model was trained on these very pixels.", validation: "Training held these very pixels out for validation."};

  const make = (tag, name, text) => {
    const e = document.createElement(tag);
    if (name) e.className = name;
    if (text !== undefined) e.textContent = text;
    return e;
  };
  const button = (text, label, act, name) => {
    const e = make("button", name, text);
    e.type = "button";
    e.title = label;
    e.setAttribute("aria-label", label);
    e.addEventListener("click", act);
    return e;
  };
  const whole = v => v.toLocaleString("en");
  const map = () => voorwerp.on_screen();
  const can = () => Boolean(map()?.told);

  let now = null;  // {name, file, id, told, error, asked, stop}
  let pause = 0, folded = false;

  // ---------------------------------------------------------------------------------------------------- the card
  const card = make("section", "drop-card"), head = make("header"), icon = new Image(), name = make("strong");
  const fold = button("–", "Fold the card", () => { folded = !folded; draw(); }), body = make("div", "body");
  const status = make("p", "status"), pictures = make("div", "four"), scores = make("div", "scores"), place = make("p", "place");
  const notes = make("div", "notes"), near = make("div", "near"), words = make("h3", "", "Nearest subjects"), foot = make("p", "foot", "Not part of the survey, and nothing of it is kept.");
  card.hidden = true;
  card.tabIndex = -1;
  card.setAttribute("aria-label", "Image that was dropped");
  status.setAttribute("role", "status");
  icon.alt = "";
  head.append(icon, name, fold, button("✕", "Remove the image from the map (Esc)", () => away(), "close"));
  body.append(pictures, scores, place, notes, words, near, foot);
  card.append(head, status, body);
  const figures = Object.fromEntries(Object.entries(PICTURES).map(([kind, title]) => {
    const figure = make("figure"), image = new Image();
    image.alt = ABOUT[kind];
    figure.title = ABOUT[kind];
    figure.append(image, make("figcaption", "", title));
    pictures.append(figure);
    return [kind, image];
  }));

  const line_of = s => {
    const line = make("div", "score"), track = make("span", "track"), fill = make("i");
    const {lambda, lambda_mode} = map()?.told.query ?? {};
    const mixed = s.mixed ? ` (λ ${lambda}${lambda_mode === "raw" ? "" : `, ${lambda_mode}`})` : "";
    fill.style.width = s.value === null || !s.of ? "0" : `${100 * s.below / s.of}%`;
    track.append(fill);
    line.append(make("span", "", `${s.title}${mixed}`), make("b", "", s.value === null ? "missing" : voorwerp.format(s.value)), track);
    line.append(make("em", "", s.value === null ? "not finite" : `higher than ${whole(s.below)} of ${whole(s.of)}`));
    return line;
  };
  const tile_of = n => {
    const tile = button("", `${n.source_id} · distance ${voorwerp.format(n.distance)}`, () => map()?.tell({kind: "focus", row: n.row})), image = new Image();
    image.alt = "";
    image.src = `thumbnails/${n.row}`;
    tile.dataset.row = n.row;
    tile.append(image);
    return tile;
  };

  const fill = () => {
    const {told} = now, png = data => `data:image/png;base64,${data}`;
    icon.src = `data:image/jpeg;base64,${told.thumbnail}`;
    for (const [kind, image] of Object.entries(figures)) image.src = png(told.pictures[kind]);
    scores.replaceChildren(...told.scores.map(line_of));
    notes.replaceChildren(...[SEEN[told.split], ...told.notes].filter(Boolean).map(text => make("p", "", text)));
    near.replaceChildren(...told.neighbors.map(tile_of));
    words.hidden = !told.neighbors.length;
  };

  const draw = () => {
    card.hidden = !now;
    icon.hidden = !now?.told;
    if (!now) { label.remove(); return; }
    name.textContent = name.title = tag.textContent = now.name;
    status.textContent = now.error || now.stage;
    status.hidden = !status.textContent;
    status.classList.toggle("bad", Boolean(now.error));
    card.classList.toggle("busy", Boolean(now.stage && !now.error));
    card.classList.toggle("folded", folded);
    fold.textContent = folded ? "+" : "–";
    fold.title = folded ? "Unfold the card" : "Fold the card";
    fold.setAttribute("aria-label", fold.title);
    fold.setAttribute("aria-expanded", String(!folded));
    fold.hidden = !now.told;
    body.hidden = folded || !now.told;
    map()?.draw();
  };

  // -------------------------------------------------------------------------------------------------- the marker
  const label = make("button", "dropped"), tag = make("span");
  label.type = "button";
  label.innerHTML = '<svg viewBox="0 0 22 22" aria-hidden="true"><path d="M11 2 20 11 11 20 2 11Z"/><circle cx="11" cy="11" r="2.5"/></svg>';
  label.append(tag);
  label.addEventListener("click", () => { folded = !folded; draw(); });

  /** Where it is on the screen's plane: px, or null with a sentence why it is nowhere. */
  const spot = on => {
    const {place: at, values} = now.told;
    if (on.told.solid) return at.solid ? {px: on.spot(at.solid)} : {said: at.said};
    const {x, y} = on.told.query;
    if (x in values && y in values) return {px: on.px(values[x], values[y])};
    return {said: [x, y].every(axis => axis.startsWith("maps.") || axis in values) ? at.said : "It has no place here: an axis is a column that this image has no value of."};
  };

  /** Called by the map whenever it has painted. */
  const painted = on => {
    if (!now) return;
    const box = on.layer.getBoundingClientRect();
    Object.assign(card.style, {left: `${box.left + 6}px`, top: `${box.top + 42}px`, maxHeight: `${Math.max(220, box.height - 76)}px`, visibility: box.width ? "" : "hidden"});
    if (now.asked && settings(on) !== now.asked) {  // λ, the run or the map is another
      clearTimeout(pause);
      pause = setTimeout(ask, PAUSE);
    }
    if (!now.told) { label.remove(); return; }
    hint();
    const {px, said} = spot(on), at = now.told.place;
    place.textContent = said ?? at.said;
    place.classList.toggle("warm", Boolean(said) || at.is_off_map);
    if (!px) { label.remove(); return; }
    if (now.unseen) {  // a place that is out of view comes into it once
      now.unseen = false;
      if (px[0] < 0 || px[1] < 0 || px[0] > on.w || px[1] > on.h) { on.shift(on.view, on.w / 2 - px[0], on.h / 2 - px[1]); return; }
    }
    if (label.parentNode !== on.layer) on.layer.insertBefore(label, on.bar);
    label.classList.toggle("far", at.is_off_map);
    label.title = `${now.name}: ${at.said}`;
    label.setAttribute("aria-label", `${now.name}, dropped here. ${at.said}`);
    label.style.transform = `translate(${Math.round(px[0] - 11)}px, ${Math.round(px[1] - 11)}px)`;
    label.classList.toggle("left", px[0] > on.w - 130);
  };
  const hint = () => body.classList.toggle("more", body.scrollHeight - body.scrollTop - body.clientHeight > 2);  // there is more below
  body.addEventListener("scroll", hint);
  const settings = on => {
    const {run, map: id, lambda, lambda_mode} = on.told.query;
    return String(new URLSearchParams({run, map: id, lambda, lambda_mode}));
  };

  // ------------------------------------------------------------------------------------------------------ asking
  const read = async (address, options = {}) => {
    const answer = await fetch(address, {credentials: "same-origin", cache: "no-store", ...options});
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error);
    return told;
  };
  const failed = (mine, error) => {
    if (mine !== now || error.name === "AbortError") return;
    const text = error instanceof TypeError ? "the server does not answer; is it still running?" : error.message;
    Object.assign(now, {error: text, stage: ""});
    draw();
  };

  const ask = async () => {
    const mine = now, on = map();
    if (!mine?.id || !on?.told) return;
    const asked = mine.asked = settings(on);
    mine.stage = mine.told ? "" : "Scoring it, and looking for its place …";
    draw();
    try {
      const told = await read(`drop/${mine.id}?${asked}`, {signal: mine.stop.signal});
      if (mine !== now || asked !== mine.asked) return;
      mine.unseen = !mine.told;
      Object.assign(mine, {told, error: "", stage: ""});
      fill();
      draw();
    } catch (error) {
      if (asked === mine.asked) { mine.told = null; failed(mine, error); }
    }
  };

  const begin = async file => {
    if (now?.stage && !now.id) { map()?.whisper("One image at a time: the last one is still being read"); return; }
    now?.stop.abort();
    const mine = now = {name: file.name || "image", stage: "Reading the file …", error: "", stop: new AbortController()};
    folded = false;
    forget ??= voorwerp.commands.add({id: "drop-away", title: "Remove the image that was dropped", group: "Map", key: "escape", run: away});
    label.remove();
    draw();
    card.focus({preventScroll: true});
    try {
      if (file.size > MOST) throw new Error("the file is larger than 50 MB, which is the most that is read");
      const token = await (await fetch("token", {credentials: "same-origin", cache: "no-store"})).text();
      const headers = {"X-Voorwerp-Token": token, "X-Voorwerp-Page": PAGE, "Content-Type": "application/octet-stream"};
      const {id} = await read("drop", {method: "POST", body: file, headers, signal: mine.stop.signal});
      if (mine !== now) return;
      mine.id = id;
      await ask();
    } catch (error) { failed(mine, error); }
  };

  let forget = null;
  const away = () => {
    now?.stop.abort();
    now = null;
    forget?.();
    forget = null;
    clearTimeout(pause);
    const had = card.contains(document.activeElement);
    draw();
    if (had) map()?.surface.focus({preventScroll: true});
  };

  // ------------------------------------------------------------------------------------------------- by hand, by key
  const picker = make("input");
  Object.assign(picker, {type: "file", accept: ".png,.jpg,.jpeg,.fits,.fit,.fts,.gz,image/png,image/jpeg", hidden: true});
  picker.setAttribute("aria-label", "Image to place on the map");
  picker.addEventListener("change", () => { const [file] = picker.files; picker.value = ""; if (file) begin(file); });
  const stand = () => document.body.append(picker, zone, card);
  const choose = () => picker.click();
  voorwerp.commands.add({id: "drop", title: "Place an image on the map: PNG, JPEG or FITS", group: "Map", key: "q", run: choose, when: can});

  const zone = make("div", "drop-zone"), sentence = make("span", "", "Drop an image here: it is scored, and placed among the subjects");
  zone.append(sentence);
  zone.hidden = true;
  const carries = e => [...e.dataTransfer?.types ?? []].includes("Files");
  const over = e => can() && [map().layer, card].some(part => e.composedPath().includes(part));
  const hush = () => { zone.hidden = true; };
  window.addEventListener("dragover", e => {
    if (!carries(e)) return;
    e.preventDefault();  // a file that misses the map must not replace the page
    e.dataTransfer.dropEffect = over(e) ? "copy" : "none";
    if (!can()) return;
    const {left, top, width, height} = map().layer.getBoundingClientRect();
    Object.assign(zone.style, {left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px`});
    zone.hidden = !width;
    zone.classList.toggle("over", over(e));
  });
  window.addEventListener("dragleave", e => { if (!e.relatedTarget) hush(); });
  window.addEventListener("dragend", hush);
  window.addEventListener("drop", e => {
    if (!carries(e)) return;
    e.preventDefault();
    hush();
    const [file, ...more] = e.dataTransfer.files;
    if (!file || !over(e)) return;
    if (more.length) map().whisper("One image at a time: the first was taken");
    begin(file);
  });

  if (document.body) stand(); else document.addEventListener("DOMContentLoaded", stand);
  voorwerp.drop = {painted, choose, begin, away};
})();
