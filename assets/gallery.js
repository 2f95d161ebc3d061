// The selection as pictures: a virtual grid, of which only what is on screen exists. Pictures come by the page, one request
// for many, as films: images of many pictures, one below the other, which are decoded in a seventh of the time of as many
// images. They are painted on one canvas under the tiles: that is faster than an <img> each. The bar above is ours, too.
const MARGIN = 200;         // px painted above and below what is in view, or a quarter of that
const PAGE = 96, LARGEST = 480;  // subjects a request, of thumbnails as many as are in view
const HELD = 48 << 20;      // bytes of pages that are kept for when they are asked for again, the least recently used go first
const DECODED = 24e6;       // px of decoded films, likewise
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

  let pages = new Map(), before = new Map();  // number → page; what was shown until the new order is there
  let before_n = 0, before_kind = kind;       // subjects on a page of those; the kind of picture they are
  let sections = [{title: "", start: 0, k: 0}], note = "", total = 0;
  let tiles = new Map(), heads = new Map();   // place → element; section → element
  let top = 0, seen = 0, direction = 1;       // first px in view, of the whole height; where the scroll bar stood
  let place = -1, wanted = -1;                // of the focus in this order, -1 where unknown; the place walked to
  let generation = 0, columns = 1, step = 96, high = 96, head = 0, tall = 0;
  let per_page = PAGE;                        // settled when an order is read, for as long as it is shown
  const page_size = () => per_page;

  // ------------------------------------------------------------------------------------------------------ the layout
  const measure = () => {
    const width = view.clientWidth - GAP;
    columns = Math.max(1, Math.floor(width / ((model.has_images ? size : 150) + GAP)));
    step = Math.max(24, Math.floor(width / columns));  // tiles fill the line
    high = model.has_images ? step : NAME;
  };
  const lay = () => {
    measure();
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

  // ------------------------------------------------------------------------------------------------------- the pages
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
  const held = new Map();  // what was asked → page, of whatever order: who turns back finds it there
  const read = buffer => {
    const length = new DataView(buffer).getUint32(0, true), head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    const page = {rows: head.rows, names: head.names, fragile: new Set(head.fragile), sections: head.sections, note: head.note, films: [], bytes: buffer.byteLength};
    let from = 4 + length;
    page.frames = Array(head.rows.length);
    for (const [at, width, height, pitch, bytes] of head.films) {
      const film = {n: at.length, width, height, pitch, content: new Uint8Array(buffer, from, bytes), bitmap: undefined, level: 0, due: 0};
      at.forEach((i, k) => { page.frames[i] = [film, k]; });
      page.films.push(film);
      from += bytes;
    }
    return page;
  };
  const load = async (number, arranges = null) => {  // `arranges` takes the sections, which are asked for along with the page
    const query = new URLSearchParams({...asked(), start: number * page_size(), count: page_size(), sections: arranges ? 1 : 0}).toString();
    const mine = generation, known = held.get(query);
    if (known) { take(number, known, arranges); return; }
    const coming = {controller: new AbortController()};
    pages.set(number, coming);
    try {
      const answer = await fetch(`page?${query}`, {credentials: "same-origin", signal: coming.controller.signal});
      if (!answer.ok) throw new Error((await answer.json()).error);
      const buffer = await answer.arrayBuffer();
      if (mine !== generation) return;
      const page = read(buffer);
      held.set(query, page);
      take(number, page, arranges);
      now();
    } catch (error) {
      if (mine !== generation || error.name === "AbortError") return;
      coming.controller = null;
      complain(error);
    }
  };
  const take = (number, page, arranges) => {
    pages.set(number, page);
    const found = page.rows.indexOf(model.focus);
    if (found >= 0) place = number * page_size() + found;
    if (arranges) arranges(page);
    if (wanted >= 0 && Math.floor(wanted / page_size()) === number) arrive();
  };
  const touch = page => { for (const [query, one] of held) if (one === page) { held.delete(query); held.set(query, page); return; } };
  const trim = () => {  // the newest stand last
    const needed = new Set([...pages.values(), ...before.values()]), all = [...held].reverse();
    let bytes = 0, px = 0;
    for (const [query, page] of all) {
      bytes += page.bytes;
      for (const film of page.films) if (film.bitmap) px += film.bitmap.width * film.bitmap.height;
      if (px > DECODED && !close.has(page)) page.films.forEach(blank);
      if (bytes > HELD && !needed.has(page)) { page.films.forEach(blank); held.delete(query); }
    }
  };
  const blank = film => {
    film.bitmap?.close?.();
    Object.assign(film, {bitmap: undefined, level: 0, due: 0});
  };
  const complain = error => {
    view.setAttribute("aria-busy", "false");
    empty.textContent = `The gallery could not be read: ${error.message}.`;
    empty.hidden = false;
  };
  const forget = old => { for (const page of old.values()) page.controller?.abort(); };
  const row_at = at => pages.get(Math.floor(at / page_size()))?.rows?.[at % page_size()];

  // Another order: what was shown stays until what comes is there, so that nothing flickers while λ or a lasso is dragged
  let started = 0, waiting = 0, loaded_n = page_size(), fresh = false;  // fresh: another kind of picture is on its way
  const reload = (to_top = true) => {
    clearTimeout(waiting);
    waiting = 0;
    if (model.shown) view.setAttribute("aria-busy", "true");
    const pause = started + 40 - performance.now();
    if (pause > 0) { waiting = setTimeout(() => reload(to_top), pause); return; }
    started = performance.now();
    const mine = ++generation;
    forget(pages);
    if (kind !== before_kind) {  // never the old pictures under a new title
      [before, before_kind] = [new Map(), kind];
      fresh = true;
    } else if ([...pages.values()].some(p => p.rows)) [before, before_n] = [pages, loaded_n];
    measure();
    const in_view = columns * (Math.ceil(view.clientHeight / high) + 1);  // a view is one request
    const seen_at = to_top ? 0 : first_seen();
    per_page = kind === "original" ? Math.min(LARGEST, Math.max(PAGE, Math.ceil(in_view / 48) * 48)) : PAGE;
    loaded_n = page_size();
    const number = Math.floor(seen_at / page_size());
    pages = new Map();
    place = -1;
    if (to_top) wanted = -1;  // else whoever walks arrives all the same
    if (!model.shown) { stale = true; return; }
    stale = false;
    if (model.group) load(number, page => arrange(page.sections, page.note, to_top));
    else arrange([{title: "", start: 0, k: model.total}], "", to_top);
    if (!model.group || pages.get(number).rows) now();
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
  };
  let stale = true;

  // -------------------------------------------------------------------------------------------------------- painting
  // Off this thread; at half the size where that is as many pixels as are shown, which takes half the time
  const halved = async film => {
    const decoder = new ImageDecoder({data: film.content, type: "image/jpeg", desiredWidth: Math.ceil(film.width / 2), desiredHeight: film.n * film.pitch / 2});
    try {
      const {image} = await decoder.decode(), bitmap = await createImageBitmap(image);
      image.close();
      return bitmap;
    } finally { decoder.close(); }
  };
  let forms = 0;  // bitmaps so far
  const whole_film = film => createImageBitmap(new Blob([film.content]));
  const decode = async (film, level) => {
    film.due = level;
    let bitmap = null;
    if (level === 1 && window.ImageDecoder) bitmap = await halved(film).catch(() => null);
    bitmap ??= await whole_film(film).catch(() => false);
    if (film.due !== level) { bitmap?.close?.(); return; }  // put away meanwhile
    if (bitmap && !film.pitch) Object.assign(film, {width: bitmap.width, height: bitmap.height, pitch: bitmap.height});
    film.bitmap?.close?.();
    Object.assign(film, {bitmap, level, due: 0, form: ++forms});
  };
  /** 2 for whole, 1 for half the size. */
  const level_of = (film, px) => kind === "original" && film.pitch && px <= Math.min(film.width, film.height) / 2 ? 1 : 2;
  const is_due = (film, px) => film.bitmap !== false && Math.max(film.level, film.due) < level_of(film, px);

  // A canvas costs what it has to draw, and again where it is laid on the page: one that would look the same is left as it is
  let painted = [];
  canvas.addEventListener("contextrestored", () => { painted = []; draw(); });
  const paint = () => {
    const ratio = window.devicePixelRatio || 1, height = view.clientHeight;
    const margin = Math.max(height / 4, MARGIN), from = Math.max(0, Math.floor(top - margin)), to = Math.min(tall, Math.ceil(top + height + margin));
    const n = page_size(), side = step - GAP, px = side * ratio, first = new Set(), then = new Set(), draws = [];
    const looks = [view.clientWidth, from, to, ratio, side];  // of each picture then: the film as it is decoded, its place there and here
    let missing = 0;
    const in_sight = y => y + high > top && y < top + height;
    for (const [s, start, end] of between(from, to)) {
      for (let at = start; at < end; at++) {
        const y = y_of(at, s), page = pages.get(Math.floor(at / n)), here = in_sight(y);
        let [film, k] = page?.frames?.[at % n] ?? [];
        if (film && is_due(film, px)) (here ? first : then).add(film);
        if (page?.rows ? film && film.bitmap === undefined : true) {
          if (here) missing += 1;
          [film, k] = before.get(Math.floor(at / before_n))?.frames?.[at % before_n] ?? [];
        }
        if (!film?.bitmap) continue;  // undefined: not decoded; false: no picture
        const x = x_of(at, s);
        draws.push([film, k, x, y]);
        looks.push(film.form, k, x, y);
      }
    }
    if (looks.length !== painted.length || looks.some((v, i) => v !== painted[i])) {
      painted = looks;
      const width = Math.round(view.clientWidth * ratio), tallness = Math.round((to - from) * ratio), context = canvas.getContext("2d");
      if (canvas.width !== width || canvas.height !== tallness) Object.assign(canvas, {width, height: tallness});
      context.setTransform(ratio, 0, 0, ratio, 0, -from * ratio);
      context.clearRect(0, from, view.clientWidth, to - from);
      for (const [film, k, x, y] of draws) {
        const part = Math.min(film.width, film.height), scale = film.bitmap.height / (film.n * film.pitch), of = part * scale;
        context.imageSmoothingEnabled = kind === "original" || side < 2 * part;  // the network's pixels are seen as pixels
        context.imageSmoothingQuality = px < of / 2 ? "medium" : "low";
        context.drawImage(film.bitmap, (film.width - part) / 2 * scale, (k * film.pitch + (film.height - part) / 2) * scale, of, of, x, y, side, side);
      }
    }
    Object.assign(canvas.style, {width: `${view.clientWidth}px`, height: `${to - from}px`, transform: `translateY(${from + shift()}px)`});
    const needed = first.size ? first : then;  // what is in view first
    if (needed.size) Promise.all([...needed].map(film => decode(film, level_of(film, px)))).then(now);
    view.setAttribute("aria-busy", String(missing > 0 || waiting > 0));
    if (fresh) { said.textContent = missing ? `Loading: ${KINDS[kind].toLowerCase()} …` : ""; fresh = missing > 0; }
    if (!missing && before.size) { forget(before); before = new Map(); }
    return missing;
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
    const height = view.clientHeight, n = page_size(), in_view = between(top - high, top + height + high), near = new Set();
    for (const [, first, last] of between(top, top + height)) for (let p = Math.floor(first / n); p <= Math.floor((last - 1) / n); p++) near.add(p);
    for (const number of near) if (!pages.has(number)) load(number);
    const next = direction > 0 ? Math.max(...near) + 1 : Math.min(...near) - 1;  // where the person is going
    close = new Set([pages.get(next)]);
    for (const [, first, last] of between(top - height / 2, top + 1.5 * height)) for (let p = Math.floor(first / n); p <= Math.floor((last - 1) / n); p++) close.add(pages.get(p));
    close.forEach(touch);
    trim();
    const missing = model.has_images ? paint() : [...near].filter(number => !pages.get(number)?.rows).length;  // first: pictures are decoded meanwhile
    const places = new Set();
    for (const [s, first, last] of in_view) for (let at = first; at < last; at++) { places.add(at); show_tile(at, s, n); }
    for (const [at, tile] of tiles) if (!places.has(at)) { tile.remove(); tiles.delete(at); }
    show_heads(height);
    if (!model.has_images) view.setAttribute("aria-busy", String(missing > 0 || waiting > 0));
    if (!missing && next >= 0 && next * n < total) { near.add(next); ahead(next); }
    for (const [number, page] of pages) if (page.controller && !near.has(number) && Math.floor(wanted / n) !== number) { page.controller.abort(); pages.delete(number); }  // scrolled past
  };
  let close = new Set(), idle = 0;  // pages in view, and beside it
  const ahead = number => {  // when there is nothing else to do
    const page = pages.get(number), px = (step - GAP) * (window.devicePixelRatio || 1);
    if (idle || (page && !page.films?.some(film => is_due(film, px)))) return;
    const mine = generation;
    idle = setTimeout(() => {
      idle = 0;
      if (mine !== generation) return;
      if (!pages.has(number)) { load(number); draw(); } else pages.get(number).films?.forEach(film => { if (is_due(film, px)) decode(film, level_of(film, px)); });
    }, 50);
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
    const number = Math.floor(at / n), page = pages.get(number);
    Object.assign(tile.style, {transform: `translate(${x_of(at, s)}px, ${y_of(at, s) + shift()}px)`, width: `${step - GAP}px`, height: `${high - GAP}px`});
    const [from, i] = page?.rows ? [page, at - number * n] : [before.get(Math.floor(at / before_n)), at % before_n];
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
    const number = Math.floor(wanted / page_size());
    if (row_at(wanted) !== undefined) arrive();
    else if (!pages.get(number)?.controller) load(number);
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
    for (const [number, page] of pages) {
      const i = page.rows?.indexOf(row) ?? -1;
      if (i >= 0) { place = number * page_size() + i; break; }
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
      if (!kinds().includes(kind)) kind = "original";
      const [key, rest] = [JSON.stringify({...asked(), lambda: 0, kind: ""}), JSON.stringify([kind, mixed() ? model.lambda_ : null])];
      if (key !== last[0] || rest !== last[1]) reload(key !== last[0]);  // what it asks is on its way before the bar is drawn
      last = [key, rest];
      told();
    });
  };
  const mixed = () => [model.sort, model.group].some(r => r.includes("scores.anomaly_score"));
  let last = [];
  model.on(["selection_id", "sort", "descending", "run_id", "map_id", "lambda_", "lambda_mode", "group", "total", "orders", "groups", "reconstructs"], look);
  model.on("focus", () => { if (row_at(place) !== model.focus) find_focus(); draw(); });
  model.on("shown", () => { if (model.shown) { if (stale) reload(); else { lay(); draw(); } if (model.focus !== null) find_focus(); } });
  model.on("read", () => {
    for (const page of held.values()) if (![...pages.values()].includes(page)) page.films.forEach(blank);
    held.clear();
    reload(false);
  });
  model.on("groups", list_groups);
  model.on("remove", () => {
    [...commands, ...listed].forEach(away => away());
    window.removeEventListener("voorwerp-marks", marked);
    observer.disconnect();
    clearTimeout(idle);
    forget(pages);
    for (const page of held.values()) page.films.forEach(blank);
  });
  list_groups();
  look();
}
