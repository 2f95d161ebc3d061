// The selection as pictures: a virtual grid, of which only what is on screen exists. Pictures come in packs, one request
// for many, and are painted on one canvas under the tiles: that is faster than an <img> each. The bar above is ours, too.
const PACK = {original: 240, crop: 96, reconstruction: 96, residual: 96};  // subjects a request
const HELD = 40;            // packs kept as bytes, the least recently used go first
const TALLEST = 8_000_000;  // px: browsers cap the height of an element
const GAP = 8, HEAD = 34, NAME = 38, MARKS = 9;
const KINDS = {original: "Original", crop: "Crop", reconstruction: "Reconstruction", residual: "Residual"};
const STRETCHES = {
  none: ["As they are", ""],
  brighter: ["Twice as bright", "brightness(2)"],
  asinh: ["Faint lifted (asinh)", "url(#lifted)"],
  invert: ["Inverted", "invert(1)"],
};
// asinh(10 v) / asinh(10) of every 8-bit value
const LIFTED = `<svg width="0" height="0" aria-hidden="true"><filter id="lifted" color-interpolation-filters="sRGB" x="0" y="0" width="1" height="1"><feComponentTransfer>${
  ["R", "G", "B"].map(c => `<feFunc${c} type="table" tableValues="${Array.from({length: 256}, (_, v) => (Math.asinh(10 * v / 255) / Math.asinh(10)).toFixed(5)).join(" ")}"/>`).join("")
}</feComponentTransfer></filter></svg>`;

const make = (tag, name, text) => {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
};
const whole = v => v.toLocaleString("en");

// What is marked for comparison: one list a page, at most nine rows.
const marks_of_page = () => {
  window.voorwerp ??= {};
  const rows = [];
  window.voorwerp.marks ??= {
    rows,
    toggle(row) {
      const at = rows.indexOf(row);
      if (at >= 0) rows.splice(at, 1);
      else if (rows.length < MARKS) rows.push(row);
      window.dispatchEvent(new CustomEvent("voorwerp-marks"));
    },
  };
  return window.voorwerp.marks;
};

export function render({model, el}) {
  const kept = (() => { try { return JSON.parse(localStorage.getItem("voorwerp-gallery")) ?? {}; } catch { return {}; } })();
  const keep = change => {
    Object.assign(kept, change);
    try { localStorage.setItem("voorwerp-gallery", JSON.stringify(kept)); } catch { /* a browser that keeps nothing */ }
  };
  const marks = marks_of_page();
  let size = Math.min(256, Math.max(48, Number(kept.size) || 96)), stretch = kept.stretch in STRETCHES ? kept.stretch : "none", kind = "original";

  // -------------------------------------------------------------------------------------------------------- the bar
  const root = make("div", "gallery-pane"), bar = make("div", "bar"), count = make("span", "count"), said = make("span", "said");
  said.setAttribute("role", "status");
  const choice = (label, act) => {
    const e = make("select");
    e.setAttribute("aria-label", label);
    e.title = label;
    e.addEventListener("change", () => act(e.value));
    return e;
  };
  const button = (name, label, act) => {
    const e = make("button", name);
    e.type = "button";
    e.title = label;
    e.setAttribute("aria-label", label);
    e.addEventListener("click", act);
    return e;
  };
  const shown_as = choice("Pictures shown (X)", value => { kind = value; look(); });
  const stretched = choice("Stretch of the thumbnails’ 8-bit values", value => { stretch = value; keep({stretch}); told(); });
  for (const [value, [text]] of Object.entries(STRETCHES)) stretched.append(new Option(text, value));
  const slider = make("input", "size");
  Object.assign(slider, {type: "range", min: 48, max: 256, step: 4, value: size, title: "Size of the pictures"});
  slider.setAttribute("aria-label", "Size of the pictures, px");
  slider.addEventListener("input", () => resize(Number(slider.value)));
  const grouped = choice("Group by", value => { model.group = value; });
  const sorted = choice("Sort by", value => { model.sort = value; });
  const order = button("order", "", () => { model.descending = !model.descending; });
  const compared = button("compare", "Compare what is marked (C)", () => compare());
  const pictures = make("span", "set"), orders = make("span", "set");
  pictures.append(shown_as, stretched, slider);
  orders.append(grouped, sorted, order);
  bar.append(count, compared, said, pictures, orders);

  // ------------------------------------------------------------------------------------------------------- the grid
  const view = make("div", "gallery"), canvas = make("canvas"), floor = make("div", "floor"), empty = make("div", "empty");
  view.tabIndex = 0;
  view.setAttribute("role", "listbox");
  view.setAttribute("aria-label", "Gallery of subjects");
  canvas.setAttribute("aria-hidden", "true");
  floor.append(canvas);
  view.append(floor, empty);
  root.append(bar, view);
  root.insertAdjacentHTML("beforeend", LIFTED);
  el.append(root);

  let packs = new Map(), before = new Map();  // pack number → pack; what was shown until the new order is there
  let before_n = 0, before_kind = kind;       // subjects in a pack of those; the kind of picture they are
  let sections = [{title: "", start: 0, k: 0}], note = "", total = 0;
  let tiles = new Map(), heads = new Map();   // place → element; section → element
  let top = 0, seen = 0, direction = 1;       // first px in view, of the whole height; where the scroll bar stood
  let place = -1, wanted = -1;                // of the focus in this order, -1 where unknown; the place walked to
  let generation = 0, columns = 1, step = 96, high = 96, head = 0, tall = 0;
  const pack_size = () => PACK[kind];

  // ------------------------------------------------------------------------------------------------------ the layout
  const lay = () => {
    const width = view.clientWidth - GAP;
    columns = Math.max(1, Math.floor(width / ((model.has_images ? size : 150) + GAP)));
    step = Math.max(24, Math.floor(width / columns));  // tiles fill the line
    high = model.has_images ? step : NAME;
    head = sections.length > 1 || sections[0]?.title ? HEAD : 0;
    tall = GAP;
    for (const s of sections) {
      s.top = tall;
      tall += head + Math.ceil(s.k / columns) * high;
    }
    floor.style.height = `${Math.min(tall, TALLEST)}px`;
  };
  const capped = () => tall > TALLEST;
  const last_top = () => Math.max(0, tall - view.clientHeight);
  // Beyond the cap small steps of the scroll bar are true and large ones go in proportion
  const scrolled = () => {
    const now = view.scrollTop, moved = now - seen, room = Math.max(1, view.scrollHeight - view.clientHeight);
    if (moved) direction = Math.sign(moved);
    if (!capped()) top = now;
    else if (now <= 0 || now >= room || Math.abs(moved) > 3 * view.clientHeight) top = now / room * last_top();
    else top = Math.min(last_top(), Math.max(0, top + moved));
    seen = now;
  };
  const scroll_to = y => {
    const to = Math.min(last_top(), Math.max(0, y)), room = view.scrollHeight - view.clientHeight, moved = to - top;
    const near = capped() && Math.abs(moved) < 3 * view.clientHeight && seen + moved > 0 && seen + moved < room;
    if (moved) direction = Math.sign(moved);
    view.scrollTop = !capped() ? to : near ? seen + moved : to / Math.max(1, last_top()) * room;
    seen = view.scrollTop;
    top = capped() ? to : seen;
  };
  const section_of = at => {
    let low = 0, high = sections.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (sections[middle].start <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  };
  const y_of = (at, s = sections[section_of(at)]) => s.top + head + Math.floor((at - s.start) / columns) * high;
  const x_of = (at, s) => GAP + (at - s.start) % columns * step;
  /** [first, last) places of every section between two heights. */
  const between = (from, to) => {
    const found = [];
    for (const s of sections) {
      const y = s.top + head, lines = Math.ceil(s.k / columns);
      if (y + lines * high < from || s.top > to) continue;
      const first = Math.max(0, Math.floor((from - y) / high)), last = Math.min(lines, Math.ceil((to - y) / high));
      if (last > first) found.push([s, s.start + first * columns, Math.min(s.start + s.k, s.start + last * columns)]);
    }
    return found;
  };

  // ------------------------------------------------------------------------------------------------------- the packs
  const asked = () => ({
    kind, selection: model.selection_id, sort: model.sort, descending: model.descending ? 1 : 0, run: model.run_id, map: model.map_id,
    lambda: model.lambda_, lambda_mode: model.lambda_mode, group: model.group,
  });
  const fetch_json = async (path, query, signal) => {
    const answer = await fetch(`${path}?${new URLSearchParams(query)}`, {credentials: "same-origin", signal});
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    return found;
  };
  const read = buffer => {
    const data = new DataView(buffer), n = data.getUint32(0, true), rows = [], contents = [];
    let at = 4 * (2 * n + 2);
    for (let i = 0; i <= n; i++) {
      const length = data.getUint32(4 * (1 + n + i), true);
      contents.push(new Uint8Array(buffer, at, length));
      at += length;
    }
    for (let i = 0; i < n; i++) rows.push(data.getUint32(4 + 4 * i, true));
    return {rows, names: JSON.parse(new TextDecoder().decode(contents[0])), contents: contents.slice(1), bitmaps: []};
  };
  const load = async number => {
    const mine = generation, pack = {controller: new AbortController()};
    packs.set(number, pack);
    try {
      const query = new URLSearchParams({...asked(), start: number * pack_size(), count: pack_size()});
      const answer = await fetch(`thumbs?${query}`, {credentials: "same-origin", signal: pack.controller.signal});
      if (!answer.ok) throw new Error((await answer.json()).error);
      const buffer = await answer.arrayBuffer();
      if (mine !== generation) return;
      Object.assign(pack, read(buffer), {controller: null, fragile: new Set(JSON.parse(answer.headers.get("X-Fragile") ?? "[]"))});
      const found = pack.rows.indexOf(model.focus);
      if (found >= 0) place = number * pack_size() + found;
      if (wanted >= 0 && Math.floor(wanted / pack_size()) === number) arrive();
      draw();
    } catch (error) {
      if (mine !== generation || error.name === "AbortError") return;
      pack.controller = null;
      complain(error);
    }
  };
  const complain = error => {
    view.setAttribute("aria-busy", "false");
    empty.textContent = `The gallery could not be read: ${error.message}.`;
    empty.hidden = false;
  };
  const forget = old => {
    for (const pack of old.values()) {
      pack.controller?.abort();
      pack.bitmaps?.forEach(b => b?.close?.());
    }
  };
  const row_at = at => packs.get(Math.floor(at / pack_size()))?.rows?.[at % pack_size()];

  // Another order: what was shown stays until what comes is there, so that nothing flickers while λ or a lasso is dragged
  let started = 0, waiting = 0, loaded_n = pack_size(), fresh = false;  // fresh: another kind of picture is on its way
  const reload = (to_top = true) => {
    clearTimeout(waiting);
    waiting = 0;
    if (model.shown) view.setAttribute("aria-busy", "true");
    const pause = started + 40 - performance.now();
    if (pause > 0) { waiting = setTimeout(() => reload(to_top), pause); return; }
    started = performance.now();
    const mine = ++generation;
    if (kind !== before_kind) {  // never the old pictures under a new title
      forget(packs);
      forget(before);
      [before, before_kind] = [new Map(), kind];
      fresh = true;
    } else if ([...packs.values()].some(p => p.rows)) { forget(before); [before, before_n] = [packs, loaded_n]; }
    else forget(packs);
    loaded_n = pack_size();
    for (const pack of before.values()) { pack.controller?.abort(); pack.controller = null; }
    packs = new Map();
    place = -1;
    if (to_top) wanted = -1;  // else whoever walks arrives all the same
    if (!model.shown) { stale = true; return; }
    stale = false;
    if (!model.group) { arrange([{title: "", start: 0, k: model.total}], "", to_top); return; }
    fetch_json("groups", asked()).then(
      found => { if (mine === generation) arrange(found.groups, found.note, to_top); },
      error => { if (mine === generation) complain(error); },
    );
  };
  const arrange = (found, said, to_top) => {
    [sections, note] = [found.length ? found : [{title: "", start: 0, k: 0}], said];
    total = sections.reduce((sum, s) => sum + s.k, 0);
    heads.forEach(h => h.remove());
    heads = new Map();
    empty.hidden = total > 0;
    if (!total) empty.textContent = "Nothing to show.";
    lay();
    scroll_to(to_top ? 0 : top);
    draw();
  };
  let stale = true;

  // -------------------------------------------------------------------------------------------------------- painting
  const decode = needed => Promise.all(needed.map(async ([pack, i]) => {
    pack.bitmaps[i] = null;
    try { pack.bitmaps[i] = await createImageBitmap(new Blob([pack.contents[i]])); } catch { pack.bitmaps[i] = false; }
  })).then(draw);

  const paint = () => {
    const ratio = window.devicePixelRatio || 1, height = view.clientHeight;
    const from = Math.max(0, Math.floor(top - height / 2)), to = Math.min(tall, Math.ceil(top + 1.5 * height));
    const width = Math.round(view.clientWidth * ratio), tallness = Math.round((to - from) * ratio);
    if (canvas.width !== width || canvas.height !== tallness) Object.assign(canvas, {width, height: tallness});
    Object.assign(canvas.style, {width: `${view.clientWidth}px`, height: `${to - from}px`, transform: `translateY(${from + shift()}px)`});
    const context = canvas.getContext("2d"), needed = [], n = pack_size();
    let missing = 0;
    context.setTransform(ratio, 0, 0, ratio, 0, -from * ratio);
    context.clearRect(0, from, view.clientWidth, to - from);
    const side = step - GAP, in_sight = y => y + high > top && y < top + height;
    for (const [s, first, last] of between(from, to)) {
      for (let at = first; at < last; at++) {
        const number = Math.floor(at / n), y = y_of(at, s), pack = packs.get(number), i = at - number * n, here = in_sight(y);
        let bitmap = pack?.bitmaps?.[i];  // undefined: not asked for; null: being decoded; false: no picture
        if (pack?.rows && bitmap === undefined) needed.push([pack, i, here]);
        if (!bitmap && bitmap !== false) {
          if (here) missing += 1;
          bitmap = before.get(Math.floor(at / before_n))?.bitmaps?.[at % before_n];
        }
        if (!bitmap) continue;
        const part = Math.min(bitmap.width, bitmap.height);
        context.imageSmoothingEnabled = kind === "original" || side < 2 * part;  // the network's pixels are seen as pixels
        context.imageSmoothingQuality = "medium";
        context.drawImage(bitmap, (bitmap.width - part) / 2, (bitmap.height - part) / 2, part, part, x_of(at, s), y, side, side);
      }
    }
    if (needed.length) {  // what is in view first
      const first = needed.filter(([, , here]) => here);
      decode(first.length ? first : needed);
    }
    view.setAttribute("aria-busy", String(missing > 0 || waiting > 0));
    if (fresh) { said.textContent = missing ? `Loading: ${KINDS[kind].toLowerCase()} …` : ""; fresh = missing > 0; }
    if (!missing && before.size) { forget(before); before = new Map(); }
  };
  const shift = () => seen - top;

  // ------------------------------------------------------------------------------------------------------------ draw
  let pending = false;
  const draw = () => {
    if (!pending) { pending = true; requestAnimationFrame(now); }
  };
  const now = () => {
    pending = false;
    if (!model.shown || !view.clientHeight) return;
    const height = view.clientHeight, n = pack_size(), in_view = between(top - high, top + height + high), close = new Set();
    for (const [, first, last] of between(top, top + height)) for (let p = Math.floor(first / n); p <= Math.floor((last - 1) / n); p++) close.add(p);
    for (const number of close) if (!packs.has(number)) load(number);
    if ([...close].every(number => packs.get(number)?.rows)) {  // then the next one, where the person is going
      const next = direction > 0 ? Math.max(...close) + 1 : Math.min(...close) - 1;
      if (next >= 0 && next * n < total) { close.add(next); if (!packs.has(next)) load(next); }
    }
    for (const [number, pack] of packs) {  // scrolled past before it came
      if (pack.controller && !close.has(number) && Math.floor(wanted / n) !== number) { pack.controller.abort(); packs.delete(number); }
      else if (pack.bitmaps?.length && Math.min(...[...close].map(c => Math.abs(c - number))) > 2) { pack.bitmaps.forEach(b => b?.close?.()); pack.bitmaps = []; }
    }
    for (const number of close) if (packs.get(number)?.rows) { const pack = packs.get(number); packs.delete(number); packs.set(number, pack); }
    while (packs.size > HELD) { const oldest = packs.keys().next().value; forget(new Map([[oldest, packs.get(oldest)]])); packs.delete(oldest); }

    const places = new Set();
    for (const [s, first, last] of in_view) for (let at = first; at < last; at++) { places.add(at); show_tile(at, s, n); }
    for (const [at, tile] of tiles) if (!places.has(at)) { tile.remove(); tiles.delete(at); }
    show_heads(height);
    if (model.has_images) paint();
    else view.setAttribute("aria-busy", String(waiting > 0 || [...close].some(number => !packs.get(number)?.rows)));
  };
  const show_tile = (at, s, n) => {
    let tile = tiles.get(at);
    if (!tile) {
      tile = make("div", "tile");
      tile.setAttribute("role", "option");
      tile.id = `tile-${at}`;
      if (!model.has_images) tile.append(make("span"));
      floor.append(tile);
      tiles.set(at, tile);
    }
    const number = Math.floor(at / n), pack = packs.get(number);
    Object.assign(tile.style, {transform: `translate(${x_of(at, s)}px, ${y_of(at, s) + shift()}px)`, width: `${step - GAP}px`, height: `${high - GAP}px`});
    const [from, i] = pack?.rows ? [pack, at - number * n] : [before.get(Math.floor(at / before_n)), at % before_n];
    const row = from?.rows?.[i], name = from?.names?.[i] ?? "", fragile = from?.fragile?.has(i) ?? false;
    if (tile.dataset.row !== String(row ?? "") || tile.classList.contains("fragile") !== fragile) {
      tile.dataset.row = row ?? "";
      tile.title = fragile ? `${name}: fragile, in the top 1 % of some of the runs and not of all` : name;
      tile.classList.toggle("fragile", fragile);
      tile.setAttribute("aria-label", name ? `${name}${fragile ? ", fragile" : ""}` : "being fetched");
      if (!model.has_images) tile.firstChild.textContent = name;
    }
    const chosen = row !== undefined && row === model.focus, marked = row === undefined ? -1 : marks.rows.indexOf(row);
    tile.classList.toggle("waiting", row === undefined);
    tile.classList.toggle("focus", chosen);
    tile.classList.toggle("marked", marked >= 0);
    tile.dataset.mark = marked >= 0 ? marked + 1 : "";
    tile.setAttribute("aria-selected", chosen);
    if (chosen) view.setAttribute("aria-activedescendant", tile.id);
  };
  const show_heads = height => {
    const in_sight = new Set();
    if (head) sections.forEach((s, i) => {
      const end = s.top + head + Math.ceil(s.k / columns) * high;
      if (end < top - high || s.top > top + height + high) return;
      in_sight.add(i);
      let section = heads.get(i);
      if (!section) {
        section = make("div", "section");
        const line = make("div", "head"), select = button("", `Select ${s.title}: ${whole(s.k)} subjects (Shift adds, Alt takes away)`, e => model.send_msg({group: model.group, title: s.title, start: s.start, k: s.k, mode: e.shiftKey ? "add" : e.altKey ? "subtract" : "replace"}));
        select.textContent = "Select";
        line.append(make("b", "", s.title), make("span", "quiet", `${whole(s.k)} of ${whole(total)} · ${share(s.k, total)}`), select);
        if (i === 0 && note) { const about = make("span", "quiet about", note); about.title = note; line.append(about); }
        section.append(line);
        floor.append(section);
        heads.set(i, section);
      }
      Object.assign(section.style, {top: `${s.top - GAP + shift()}px`, height: `${end - s.top}px`});  // no transform: the heading is sticky
    });
    for (const [i, section] of heads) if (!in_sight.has(i)) { section.remove(); heads.delete(i); }
  };
  const share = (k, n) => { const p = 100 * k / n; return `${p >= 99.95 || p >= 10 ? p.toFixed(0) : p >= 0.1 ? p.toFixed(1) : "< 0.1"} %`; };

  // --------------------------------------------------------------------------------------------- the focus, and walking
  const reveal = at => {
    const y = y_of(at), height = view.clientHeight;
    if (y - head < top) scroll_to(y - head - GAP);
    else if (y + high > top + height) scroll_to(y + high + GAP - height);
  };
  const arrive = () => {  // where the person has walked to
    const row = row_at(wanted);
    if (row === undefined) return;
    place = wanted;
    wanted = -1;
    model.focus = row;
  };
  const go = at => {
    wanted = Math.max(0, Math.min(total - 1, at));
    reveal(wanted);
    const number = Math.floor(wanted / pack_size());
    if (row_at(wanted) !== undefined) arrive();
    else if (!packs.get(number)?.controller) load(number);
    draw();
  };
  const here = async () => {  // -1 where the focus is not in the gallery; asked for when a walk begins
    if (wanted < 0 && place < 0) await find_focus(false);
    return wanted >= 0 ? wanted : place;
  };
  const first_seen = () => between(top, top + view.clientHeight)[0]?.[1] ?? 0;
  const beside = async by => { const from = await here(); go(from < 0 ? first_seen() : from + by); };
  const above_or_below = async by => {  // the same column of the next line, which may be in the next section
    const from = await here();
    if (from < 0) { go(first_seen()); return; }
    const i = section_of(from), s = sections[i], column = (from - s.start) % columns, line = Math.floor((from - s.start) / columns) + by;
    const lines = x => Math.ceil(x.k / columns), at = (x, l) => Math.min(x.start + x.k - 1, x.start + l * columns + column);
    if (line >= 0 && line < lines(s)) go(at(s, line));
    else if (sections[i + by]) go(at(sections[i + by], by > 0 ? 0 : lines(sections[i + by]) - 1));
  };
  const find_focus = async (reveals = true) => {  // the server knows where a row stands in the order
    const mine = generation, row = model.focus, stood = top;
    if (row === null || row === undefined || !model.shown) return;
    for (const [number, pack] of packs) {
      const i = pack.rows?.indexOf(row) ?? -1;
      if (i >= 0) { place = number * pack_size() + i; break; }
    }
    if (place < 0 || row_at(place) !== row) {
      place = -1;
      try { place = (await fetch_json("place", {...asked(), row})).place ?? -1; } catch { return; }
      if (mine !== generation || row !== model.focus) return;
    }
    if (reveals && place >= 0 && stood === top) reveal(place);  // who has scrolled since is left where they are
    draw();
  };

  // -------------------------------------------------------------------------------------------------- what is told
  const refill = (select, groups, value) => {
    const key = JSON.stringify(groups);
    if (select.dataset.key !== key) {
      select.dataset.key = key;
      select.replaceChildren();
      for (const [label, options] of groups) {
        const into = label ? Object.assign(make("optgroup"), {label}) : select;
        for (const [v, text] of options) into.append(new Option(text, v));
        if (label) select.append(into);
      }
    }
    select.value = value;
  };
  const kinds = () => Object.keys(KINDS).filter(k => model.reconstructs || k === "original" || k === "crop");
  const told = () => {
    const k = model.selection_id ? model.total : 0;
    count.replaceChildren(...k ? [make("b", "", whole(k)), ` selected of ${whole(model.n)}`] : ["all ", make("b", "", whole(model.n)), " subjects"]);
    if (!kinds().includes(kind)) kind = "original";
    refill(shown_as, [["", kinds().map(x => [x, KINDS[x]])]], kind);
    stretched.value = stretch;
    canvas.style.filter = STRETCHES[stretch][1];
    pictures.hidden = !model.has_images;
    refill(grouped, [["", [["", "No groups"]]], ...model.groups], model.group);
    refill(sorted, [["", model.orders]], model.sort);
    order.textContent = model.descending ? "↓" : "↑";
    order.title = model.descending ? "Highest first" : "Lowest first";
    order.setAttribute("aria-label", `Order: ${order.title.toLowerCase()}`);
    order.disabled = !model.sort;
    compared.hidden = !marks.rows.length;
    compared.textContent = `Compare ${marks.rows.length}`;
  };
  const resize = to => {  // what is in the middle stays there
    const middle = place >= 0 ? place : between(top, top + view.clientHeight / 2).at(-1)?.[1] ?? 0;
    size = Math.min(256, Math.max(48, to));
    slider.value = size;
    keep({size});
    const stood = y_of(middle) - top;
    lay();
    scroll_to(y_of(middle) - stood);
    draw();
  };

  // --------------------------------------------------------------------------------------------------- what is done
  let talking = 0;
  const say = text => {
    said.textContent = text;
    clearTimeout(talking);
    talking = setTimeout(() => { said.textContent = ""; }, 4000);
  };
  const mark = row => {
    if (row === undefined || row === null) { say("Choose a subject first"); return; }
    if (!marks.rows.includes(row) && marks.rows.length === MARKS) { say(`At most ${MARKS} are compared`); return; }
    marks.toggle(row);
  };
  let script = null;
  const compare = async () => {
    const rows = [...marks.rows];
    if (rows.length < 2 && model.focus !== null && model.focus !== undefined && !rows.includes(model.focus)) rows.push(model.focus);
    if (rows.length < 2) { say("Mark two to nine subjects first (M, or Ctrl-click)"); return; }
    script ??= import(new URL("assets/compare.js", document.baseURI).href).then(s => s.compare(el, model, marks));
    (await script)(rows);
  };
  const tile_of = e => e.target.closest?.(".tile");
  view.addEventListener("click", e => {
    const tile = tile_of(e);
    if (!tile?.dataset.row) return;
    const row = Number(tile.dataset.row);
    if (e.ctrlKey || e.metaKey) { mark(row); return; }
    place = Number(tile.id.slice(5));
    wanted = -1;
    model.focus = row;
  });
  view.addEventListener("dblclick", e => { if (tile_of(e)) window.dispatchEvent(new CustomEvent("voorwerp-enlarge")); });
  view.addEventListener("keydown", e => { if (e.key === "Enter" && e.target === view) window.dispatchEvent(new CustomEvent("voorwerp-enlarge")); });
  view.addEventListener("wheel", e => {  // Ctrl and wheel, or a pinch
    if (!e.ctrlKey || !model.has_images) return;
    e.preventDefault();
    resize(Math.round(size * 2 ** (-e.deltaY / 400)));
  }, {passive: false});
  view.addEventListener("scroll", () => { scrolled(); draw(); }, {passive: true});
  const observer = new ResizeObserver(() => { lay(); scroll_to(Math.min(top, last_top())); draw(); });
  observer.observe(view);

  const walks = () => model.shown && total > 0 && !inside();
  const inside = () => {  // a dialog over the page; the enlarged view follows the walk
    let e = document.activeElement;
    while (e?.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
    const dialog = e?.closest?.("dialog[open]");
    return dialog && !dialog.classList.contains("enlarged");
  };
  const group = "Gallery", arrows = {group, within: view, dialog: true, when: walks}, plain = {group, when: () => model.shown};
  const commands = [
    {id: "gallery-left", title: "Subject before", key: "ArrowLeft", run: () => beside(-1), ...arrows},
    {id: "gallery-right", title: "Subject after", key: "ArrowRight", run: () => beside(1), ...arrows},
    {id: "gallery-up", title: "Subject above", key: "ArrowUp", run: () => above_or_below(-1), ...arrows},
    {id: "gallery-down", title: "Subject below", key: "ArrowDown", run: () => above_or_below(1), ...arrows},
    {id: "gallery-home", title: "First subject", key: "Home", run: () => go(0), ...arrows},
    {id: "gallery-end", title: "Last subject", key: "End", run: () => go(total - 1), ...arrows},
    {id: "gallery-kind", title: "Next kind of picture: original, crop, reconstruction, residual", key: "x", run: () => {
      const all = kinds();
      kind = all[(all.indexOf(kind) + 1) % all.length];
      look();
    }, group, when: () => model.shown && model.has_images},
    {id: "gallery-mark", title: "Mark the subject for comparison", key: "m", run: () => mark(model.focus), group},
    {id: "gallery-compare", title: "Compare what is marked", key: "c", run: compare, group, when: () => model.has_images},
    {id: "gallery-unmark", title: "Take all marks away", run: () => { for (const row of [...marks.rows]) marks.toggle(row); }, group, when: () => marks.rows.length > 0},
    {id: "gallery-turn", title: "Turn the order around", run: () => order.click(), ...plain},
  ].map(command => window.voorwerp.commands.add(command));

  const listed = [];
  const list_groups = () => {  // groupings by name, for the palette
    listed.splice(0).forEach(away => away());
    for (const [value, title] of [["", "nothing"], ...model.groups.flatMap(([, options]) => options)]) {
      listed.push(window.voorwerp.commands.add({id: `gallery-group-${value}`, title: `Group by: ${title}`, run: () => { model.group = value; }, ...plain}));
    }
  };
  const marked = () => { told(); draw(); };
  window.addEventListener("voorwerp-marks", marked);
  // several of them change in one message: looked at once, when all are there
  let looking = false;
  const look = () => {
    if (looking) return;
    looking = true;
    queueMicrotask(() => {
      looking = false;
      told();
      const [key, rest] = [JSON.stringify({...asked(), lambda: 0, kind: ""}), JSON.stringify([kind, mixed() ? model.lambda_ : null])];
      if (key !== last[0] || rest !== last[1]) reload(key !== last[0]);
      last = [key, rest];
    });
  };
  const mixed = () => [model.sort, model.group].some(r => r.includes("scores.anomaly_score"));
  let last = [];
  model.on(["selection_id", "sort", "descending", "run_id", "map_id", "lambda_", "lambda_mode", "group", "total", "orders", "groups", "reconstructs"], look);
  model.on("focus", () => { if (row_at(place) !== model.focus) find_focus(); draw(); });
  model.on("shown", () => { if (model.shown) { if (stale) reload(); else { lay(); draw(); } if (model.focus !== null) find_focus(); } });
  model.on("read", () => reload(false));
  model.on("groups", list_groups);
  model.on("remove", () => {
    [...commands, ...listed].forEach(away => away());
    window.removeEventListener("voorwerp-marks", marked);
    observer.disconnect();
    forget(packs);
    forget(before);
  });
  list_groups();
  look();
}
