// The table: only the lines on screen exist, and they come in pages; a filter narrows it while it is typed.
const PAGE = 100, KEPT_PAGES = 40, MOST_IN_FLIGHT = 2, MOST_COLUMNS = 60;
const TALLEST = 8_000_000;  // px: browsers cap the height of an element
const NAME = "subjects.source_id", MIXED = "scores.anomaly_score";
const MODES = {replace: "replace", add: "add to", subtract: "take from", intersect: "keep in"};

export function render({model, el}) {
  const make = (tag, name, more = {}) => Object.assign(document.createElement(tag), {className: name ?? "", ...more});
  const count = n => n.toLocaleString("en");
  const root = make("div", "table");
  const bar = make("div", "bar"), told = make("div", "told"), scopes = make("div", "scopes");
  const field = make("div", "field"), mirror = make("div", "mirror"), box = make("input", "", {type: "text", spellcheck: false, autocomplete: "off", maxLength: 2000});
  const said = make("div", "said"), offers = make("ul", "offers");
  const mode = make("select"), take = make("button", "", {type: "button", textContent: "Select these"});
  const chooser = make("button", "", {type: "button", textContent: "Columns"}), choices = make("div", "choices");
  const grid = make("div", "grid"), floor = make("div", "floor"), head = make("div", "line head"), empty = make("div", "empty");

  // ------------------------------------------------------------------------------------------------------- parts
  told.setAttribute("role", "status");
  scopes.setAttribute("role", "group");
  scopes.setAttribute("aria-label", "What the table lists");
  const scope_buttons = {selection: make("button", "", {type: "button", textContent: "Selection"}), all: make("button", "", {type: "button", textContent: "All"})};
  scopes.append(...Object.values(scope_buttons));
  box.placeholder = "Filter: feature_score > 99% and not is_known";
  box.title = "Filter (\\).  Columns, numbers, percentiles, and, or, not, between, in, ~ contains, is missing";
  for (const [name, value] of Object.entries({role: "combobox", "aria-label": "Filter", "aria-expanded": "false", "aria-controls": "offers", "aria-autocomplete": "list", "aria-describedby": "said", autocapitalize: "off"})) box.setAttribute(name, value);
  said.id = "said";
  said.setAttribute("role", "status");
  offers.id = "offers";
  offers.setAttribute("role", "listbox");
  offers.setAttribute("aria-label", "What may stand here");
  offers.popover = "manual";
  for (const [value, title] of Object.entries(MODES)) mode.append(make("option", "", {value, textContent: title}));
  mode.setAttribute("aria-label", "How these meet the selection");
  mode.title = "How these meet the selection";
  take.title = "Select the subjects that the table lists";
  chooser.setAttribute("aria-label", "Columns of the table");
  choices.popover = "auto";
  choices.setAttribute("role", "group");
  choices.setAttribute("aria-label", "Columns of the table");
  chooser.popoverTargetElement = choices;
  field.append(mirror, box, said);
  bar.append(told, scopes, field, mode, take, chooser);
  grid.tabIndex = 0;
  grid.setAttribute("role", "grid");
  grid.setAttribute("aria-label", "Table of subjects");
  head.setAttribute("role", "row");
  head.setAttribute("aria-rowindex", "1");
  floor.setAttribute("role", "rowgroup");
  grid.append(head, floor);
  root.append(bar, grid, empty, offers, choices);
  el.append(root);

  // ----------------------------------------------------------------------------------------------------- columns
  const shelf = `voorwerp-table-${model.survey_id}`;
  const kept = (() => { try { return JSON.parse(localStorage.getItem(shelf)) ?? {}; } catch { return {}; } })();
  const keep = () => { try { localStorage.setItem(shelf, JSON.stringify(kept)); } catch { /* a browser that keeps nothing */ } };
  kept.shown ??= {};
  kept.widths ??= {};
  let columns = [];      // those on screen, in order
  let by = {sort: model.sort, descending: model.descending};
  const choose = () => { columns = model.columns.filter(c => c.reference === NAME || (kept.shown[c.reference] ?? c.shown)).slice(0, MOST_COLUMNS); };
  const wide = c => kept.widths[c.reference] ?? (c.reference === NAME ? 172 : c.kind === "number" ? Math.max(92, Math.min(190, 30 + 7 * title(c).length)) : c.kind === "category" ? 128 : 176);
  const title = c => c.title + (c.reference === MIXED && model.mixes ? ` (λ ${Number(model.lambda_.toFixed(2))})` : "");
  const high = () => model.has_images ? 32 : 26;
  const fit = () => {
    const widths = [...(model.has_images ? [40] : []), ...columns.map(wide)];
    root.style.setProperty("--columns", widths.map(w => `${w}px`).join(" "));
    root.style.setProperty("--wide", `${widths.reduce((a, b) => a + b, 0)}px`);
    root.style.setProperty("--high", `${high()}px`);
    root.style.setProperty("--beside", model.has_images ? "40px" : "0px");
  };
  const headings = () => {
    const cells = columns.map(c => {
      const cell = make("div", `cell ${c.kind}${c.reference === NAME ? " name" : ""}`), button = make("button", "", {type: "button"}), arrow = make("i"), grip = make("span", "grip");
      const sorted = by.sort === c.reference;
      cell.setAttribute("role", "columnheader");
      cell.setAttribute("aria-sort", !sorted ? "none" : by.descending ? "descending" : "ascending");
      cell.dataset.reference = c.reference;
      button.append(make("b", "", {textContent: title(c)}));
      if (c.unit) button.append(make("em", "", {textContent: c.unit}));
      if (sorted) { arrow.textContent = by.descending ? "▼" : "▲"; arrow.setAttribute("aria-hidden", "true"); button.append(arrow); }
      button.title = `${title(c)}${c.unit ? `, ${c.unit}` : ""}: sort (${c.reference})`;
      button.tabIndex = -1;
      button.addEventListener("click", () => sort(c));
      grip.addEventListener("pointerdown", e => resize(e, c, grip));
      grip.addEventListener("dblclick", () => { delete kept.widths[c.reference]; keep(); fit(); });
      cell.append(button, grip);
      return cell;
    });
    if (model.has_images) {
      const cell = make("div", "cell picture");
      cell.setAttribute("role", "columnheader");
      cell.setAttribute("aria-label", "Picture");
      cells.unshift(cell);
    }
    const focused = root.getRootNode().activeElement?.closest?.(".head .cell")?.dataset.reference;
    head.replaceChildren(...cells);
    const entry = cells.find(c => focused && c.dataset.reference === focused) ?? cells.find(c => c.getAttribute("aria-sort")?.endsWith("cending")) ?? cells.find(c => c.dataset.reference);
    const button = entry.querySelector("button");
    button.tabIndex = 0;
    if (focused) button.focus();
    grid.setAttribute("aria-colcount", cells.length);
  };
  head.addEventListener("keydown", e => {  // one stop for Tab, ← → from there
    const buttons = [...head.querySelectorAll("button")], step = {ArrowLeft: -1, ArrowRight: 1}[e.key];
    if (!step) return;
    e.preventDefault();
    const at = buttons.indexOf(e.target), to = buttons[Math.max(0, Math.min(buttons.length - 1, at + step))];
    buttons[at].tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  });
  const resize = (e, c, grip) => {
    e.preventDefault();
    grip.setPointerCapture(e.pointerId);
    const from = wide(c) - e.clientX;
    const move = event => { kept.widths[c.reference] = Math.round(Math.max(48, Math.min(640, from + event.clientX))); fit(); };
    grip.addEventListener("pointermove", move);
    grip.addEventListener("lostpointercapture", () => { grip.removeEventListener("pointermove", move); keep(); }, {once: true});
  };
  const offer_columns = () => {
    const reset = make("button", "", {type: "button", textContent: "As at first"});
    reset.addEventListener("click", () => { kept.shown = {}; kept.widths = {}; keep(); recolumn(); offer_columns(); renew(); });
    choices.replaceChildren(...model.columns.filter(c => c.reference !== NAME).map(c => {
      const label = make("label"), check = make("input", "", {type: "checkbox", checked: columns.includes(c)});
      check.addEventListener("change", () => { kept.shown[c.reference] = check.checked; keep(); recolumn(); renew(); });
      label.append(check, make("span", "", {textContent: title(c)}), make("em", "", {textContent: c.unit ?? ""}));
      label.title = c.reference;
      return label;
    }), reset);
  };
  const recolumn = () => {
    choose();
    headings();
    fit();
    pool.forEach(line => line.remove());
    pool = [];
  };
  choices.addEventListener("toggle", e => {
    if (e.newState !== "open") return;
    const at = chooser.getBoundingClientRect(), below = window.innerHeight - at.bottom - 12;
    choices.style.right = `${window.innerWidth - at.right}px`;
    const down = below > 220;
    choices.style.top = down ? `${at.bottom + 4}px` : "auto";
    choices.style.bottom = down ? "auto" : `${window.innerHeight - at.top + 4}px`;
    choices.style.maxHeight = `${down ? below : at.top - 70}px`;
    choices.querySelector("input")?.focus();
  });

  // -------------------------------------------------------------------------------------------------------- pages
  let scope = "selection", where = "";
  let generation = 0, serial = 0, pages = new Map(), flying = new Set(), total = 0, of = 0;
  let busy = false, again = null, stale = null, known = null, basis = "";
  const narrowed = () => scope === "selection" && model.selection_id;
  const query = more => new URLSearchParams({
    selection: narrowed() ? model.selection_id : "", q: where, sort: by.sort, descending: by.descending ? 1 : 0,
    run: model.run_id, map: model.map_id, lambda: model.lambda_, lambda_mode: model.lambda_mode, count: PAGE,
    columns: columns.map(c => c.reference).join(","), ...more,
  });
  const fetch_page = async (number, more = {}) => {
    const answer = await fetch(`table?${query({start: number * PAGE, ...more})}`, {credentials: "same-origin"});
    const page = await answer.json();
    if (!answer.ok) throw new Error(page.error);
    return Object.assign(page, {serial: serial += 1});
  };
  const asked_of = () => [narrowed(), model.run_id, model.map_id, model.lambda_, model.lambda_mode].join();
  const drop = page => page.urls?.forEach(url => URL.revokeObjectURL(url));
  const forget = () => { pages.forEach(drop); pages = new Map(); flying = new Set(); };

  /** Ask anew; what is on screen stays until the answer is there. `top`: from the first line on. */
  const renew = async (top = false) => {
    if (!model.shown) { stale = {top: top || Boolean(stale?.top)}; return; }
    if (busy) { again = {top: top || Boolean(again?.top)}; return; }
    busy = true;
    stale = null;
    grid.setAttribute("aria-busy", "true");
    generation += 1;
    const number = top ? 0 : Math.floor(first_line() / PAGE);
    try {
      const page = await fetch_page(number);
      if (page.error) {
        if (asked_of() !== basis) { forget(); total = 0; }  // what is on the screen is of another run, or another set
        trouble(page);
      } else {
        trouble(null);
        forget();
        ({total, of} = page);
        pages.set(number, page);
        picture(page);
        basis = asked_of();
        if (top) grid.scrollTop = 0;
        tell();
      }
    } catch (error) {
      lost(error);
    } finally {
      busy = false;
      grid.removeAttribute("aria-busy");
    }
    if (again) { const {top} = again; again = null; await renew(top); } else draw();
  };
  const load = async number => {
    if (pages.has(number) || flying.has(number) || flying.size >= MOST_IN_FLIGHT || busy) return;
    const mine = generation, mark = flying;
    mark.add(number);
    try {
      const page = await fetch_page(number);
      if (mine !== generation || page.error) return;
      pages.set(number, page);
      picture(page);
      const here = Math.floor(first_line() / PAGE);
      const far = [...pages.keys()].sort((a, b) => Math.abs(b - here) - Math.abs(a - here));
      for (const old of far.slice(0, Math.max(0, pages.size - KEPT_PAGES))) { drop(pages.get(old)); pages.delete(old); }
    } catch (error) {
      if (mine === generation) lost(error);
    } finally {
      mark.delete(number);
      if (mine === generation) draw();
    }
  };
  const picture = async page => {
    if (!model.has_images || !page.rows.length) return;
    const answer = await fetch(`thumbs?rows=${page.rows.join(",")}`, {credentials: "same-origin"});
    if (!answer.ok) return;
    const buffer = await answer.arrayBuffer(), data = new DataView(buffer), n = data.getUint32(0, true);
    if (![...pages.values()].includes(page)) return;
    const length = i => data.getUint32(4 * (1 + n + i), true);  // the first are the names
    let at = 4 * (2 * n + 2) + length(0);
    page.urls = page.rows.map((row, i) => {
      const content = new Uint8Array(buffer, at, length(i + 1));
      at += content.length;
      return content.length ? URL.createObjectURL(new Blob([content], {type: "image/jpeg"})) : "";
    });
    draw();
  };
  const lost = error => {
    const server = error instanceof TypeError;
    empty.textContent = server ? "The server does not answer; is it still running?" : `The table could not be read: ${error.message}.`;
    empty.hidden = false;
  };

  // --------------------------------------------------------------------------------------------------------- lines
  let pool = [];      // as many lines as fit on the screen; line k of the table is in pool[k % pool.length]
  const room = () => Math.max(0, grid.clientHeight - head.offsetHeight);
  const metrics = () => {
    const whole = total * high(), height = Math.min(whole, TALLEST);
    // beyond the cap the scroll bar moves in larger steps; lines are placed around where it stands
    const slack = Math.max(1, height - room());
    const top = height === whole ? grid.scrollTop : grid.scrollTop / slack * (whole - room());
    return {whole, height, slack, top};
  };
  const first_line = () => Math.max(0, Math.min(total - 1, Math.floor(metrics().top / high())));
  const formats = new Map();
  const shown_number = (value, digits) => {
    if (digits === null || digits === undefined) return value.toExponential(3).replace(/e\+?/, " e");
    if (!formats.has(digits)) formats.set(digits, new Intl.NumberFormat("en", {minimumFractionDigits: digits, maximumFractionDigits: digits}));
    return formats.get(digits).format(value).replace("-", "−");
  };
  const blank = () => {
    const line = make("div", "line");
    line.setAttribute("role", "row");
    const cells = columns.map((c, k) => make("div", `cell ${c.kind}${k ? "" : " name"}`));
    if (model.has_images) {
      const cell = make("div", "cell picture");
      cell.append(make("img", "", {alt: "", width: 26, height: 26}));
      cells.unshift(cell);
    }
    cells.forEach(cell => cell.setAttribute("role", "gridcell"));
    line.append(...cells);
    return line;
  };
  const fill = (line, place, page) => {
    const i = place - page.start, row = page.rows[i], beside = model.has_images ? 1 : 0;
    const key = `${page.serial}/${place}`;
    if (line.dataset.key !== key) {
      line.dataset.key = key;
      line.dataset.row = row;
      columns.forEach((c, k) => {
        const cell = line.children[k + beside], value = page.cells[c.reference]?.[i] ?? null;
        const missing = value === null || value === "";
        cell.textContent = missing ? "–" : c.kind === "number" ? shown_number(value, page.decimals[c.reference]) : value;
        cell.title = missing ? "no value" : String(value);
        cell.classList.toggle("missing", missing);
      });
    }
    if (beside) {
      const image = line.firstChild.firstChild, url = page.urls?.[i];
      if (url && image.getAttribute("src") !== url) image.src = url;
      image.style.visibility = url ? "" : "hidden";
    }
  };
  const draw = () => {
    if (!model.shown) return;
    const {height, top} = metrics(), step = high();
    floor.style.height = `${height}px`;
    grid.setAttribute("aria-rowcount", total + 1);
    const lines = Math.ceil(room() / step) + 2, size = Math.min(lines, total);
    if (pool.length !== size) {
      pool.forEach(line => line.remove());
      pool = Array.from({length: size}, blank);
      floor.append(...pool);
    }
    const first = Math.max(0, Math.min(total - size, Math.floor(top / step))), shift = grid.scrollTop - top;
    let active = "";
    for (let place = first; place < first + size; place++) {
      const line = pool[place % size], page = pages.get(Math.floor(place / PAGE));
      line.style.transform = `translateY(${place * step + shift}px)`;
      line.setAttribute("aria-rowindex", place + 2);
      line.classList.toggle("odd", place % 2 === 1);
      line.classList.toggle("waiting", !page);
      if (page) fill(line, place, page);
      else if (line.dataset.key) {
        delete line.dataset.key;
        delete line.dataset.row;
        line.querySelectorAll(".cell:not(.picture)").forEach(cell => { cell.textContent = ""; cell.title = ""; });
        if (model.has_images) line.firstChild.firstChild.style.visibility = "hidden";
      }
      const chosen = page !== undefined && line.dataset.row === String(model.focus);
      line.id = `line-${place % size}`;
      if (chosen) active = line.id;
      line.classList.toggle("focus", chosen);
      line.setAttribute("aria-selected", chosen);
    }
    if (active) grid.setAttribute("aria-activedescendant", active); else grid.removeAttribute("aria-activedescendant");
    empty.hidden = total > 0 || busy;
    if (!total) empty.textContent = wrong ? "This filter cannot be asked here." : where ? "No subject matches this filter." : "Nothing to list.";
    if (!size || stale) return;
    const here = Math.floor(first / PAGE), there = Math.floor((first + size - 1) / PAGE), last = Math.floor((total - 1) / PAGE);
    const down = top >= (draw.top ?? 0);
    draw.top = top;
    for (const number of [here, there, down ? there + 1 : here - 1]) if (number >= 0 && number <= last) load(number);
  };

  // ------------------------------------------------------------------------------------------------- sort and focus
  const sort = async c => {
    await sorted({sort: c.reference, descending: by.sort === c.reference ? !by.descending : c.kind === "number"});
    model.send_msg({sort: by.sort, descending: by.descending});  // the page first: the other views may take their time
  };
  const sorted = async now => {
    if (now.sort === by.sort && now.descending === by.descending) return;
    by = now;
    headings();
    await renew(true);
  };
  const row_at = place => pages.get(Math.floor(place / PAGE))?.rows[place % PAGE];
  const place_of = row => {
    for (const page of pages.values()) {
      const i = page.rows.indexOf(row);
      if (i >= 0) return page.start + i;
    }
    return -1;
  };
  const reveal = place => {
    const {whole, height, slack, top} = metrics(), step = high(), from = place * step;
    let to = top;
    if (from < top) to = from;
    if (from + step > top + room()) to = from + step - room();
    if (to === top) return;
    grid.scrollTop = height === whole ? to : to / Math.max(1, whole - room()) * slack;
    draw();
  };
  const go = async place => {
    place = Math.max(0, Math.min(total - 1, place));
    reveal(place);
    const asked = `${query()}`;
    for (let tries = 0; row_at(place) === undefined && tries < 9; tries++) {
      const mine = generation, number = Math.floor(place / PAGE), page = await fetch_page(number).catch(lost);
      if (!page || page.error || `${query()}` !== asked) return;
      if (mine !== generation) continue;  // read anew meanwhile: the lines are the same, and the key counts
      pages.set(number, page);
      picture(page);
      draw();
    }
    known = row_at(place);
    if (known !== undefined) model.focus = known;
  };
  const follow = async () => {  // the focus was moved elsewhere: go to where it stands
    draw();
    if (!model.shown || model.focus === null || model.focus === known) return;
    const row = known = model.focus;
    let place = place_of(row);
    if (place < 0) {
      const mine = generation, page = await fetch_page(0, {count: 1, columns: "", focus: row}).catch(() => null);
      if (!page || mine !== generation || row !== model.focus) return;
      place = page.place ?? -1;
    }
    if (place >= 0) reveal(place);
  };
  floor.addEventListener("click", e => {
    const row = e.target.closest?.(".line")?.dataset.row;
    if (row === undefined) return;
    known = Number(row);
    model.focus = known;
  });
  floor.addEventListener("dblclick", () => window.dispatchEvent(new CustomEvent("voorwerp-enlarge")));
  grid.addEventListener("keydown", e => {
    if (e.target !== grid || e.ctrlKey || e.altKey || e.metaKey) return;
    if (e.key === "Enter") { window.dispatchEvent(new CustomEvent("voorwerp-enlarge")); return; }
    const page = Math.max(1, Math.floor(room() / high()) - 1), at = model.focus === null ? -1 : place_of(model.focus);
    const to = {ArrowUp: at - 1, ArrowDown: at + 1, PageUp: at - page, PageDown: at + page, Home: 0, End: total - 1}[e.key];
    if (to === undefined || !total) return;
    e.preventDefault();
    go(at < 0 && !["Home", "End"].includes(e.key) ? first_line() : to);
  });
  grid.addEventListener("scroll", () => requestAnimationFrame(draw), {passive: true});

  // --------------------------------------------------------------------------------------------------------- filter
  const points = (text, to) => Array.from(text.slice(0, to)).length;     // the server counts code points
  const units = (text, to) => Array.from(text).slice(0, to).join("").length;
  let typing = 0, asking = 0, options = [], offered = "", active = -1, worry = 0, wrong = null;  // offered: for which text
  const tell = () => {
    const k = model.n_selected, n = model.n;
    const has = k > 0;
    scope_buttons.selection.disabled = !has;
    for (const [name, button] of Object.entries(scope_buttons)) button.setAttribute("aria-pressed", name === (has ? scope : "all"));
    told.replaceChildren(make("b", "", {textContent: count(narrowed() ? k : n)}), ` ${narrowed() ? "selected" : "subjects"}`);
    told.title = `${count(k)} of ${count(n)} selected`;
    if (!wrong) said.replaceChildren(...(where ? [make("b", "", {textContent: count(total)}), ` of ${count(of)} match`] : []));
    take.disabled = Boolean(wrong) || !where || !total;
    mode.disabled = take.disabled;
  };
  const trouble = page => {  // a filter that is half typed is not wrong yet: say so when the typing rests
    clearTimeout(worry);
    const before = wrong;
    wrong = page && {sentence: page.error, at: page.at, text: where};
    box.setAttribute("aria-invalid", Boolean(wrong));
    if (!wrong) { if (before) root.classList.remove("wrong"); mirror.replaceChildren(); return; }
    take.disabled = mode.disabled = true;
    worry = setTimeout(complain, options.length || root.getRootNode().activeElement === box ? 700 : 0);
  };
  const complain = () => {
    if (!wrong || options.length) return;  // what may stand there is on the screen
    root.classList.add("wrong");
    said.textContent = wrong.sentence;
    said.title = wrong.sentence;
    const [start, end] = wrong.at.map(k => units(wrong.text, k));
    mirror.replaceChildren(wrong.text.slice(0, start), make("mark", "", {textContent: wrong.text.slice(start, Math.max(end, start + 1)) || " "}), wrong.text.slice(end));
    mirror.scrollLeft = box.scrollLeft;
  };
  const apply = () => {
    clearTimeout(typing);
    if (box.value.trim() === where.trim() && !wrong) return;
    where = box.value;
    root.classList.remove("wrong");
    mirror.replaceChildren();
    renew(true);
  };
  const close = () => { options = []; active = -1; if (offers.matches(":popover-open")) offers.hidePopover(); box.setAttribute("aria-expanded", "false"); box.removeAttribute("aria-activedescendant"); };
  const point = to => {
    active = to;
    [...offers.children].forEach((item, k) => item.setAttribute("aria-selected", k === to));
    if (to < 0) { box.removeAttribute("aria-activedescendant"); return; }
    box.setAttribute("aria-activedescendant", offers.children[to].id);
    offers.children[to].scrollIntoView({block: "nearest"});
  };
  const suggest = async () => {
    const mine = ++asking, text = box.value, cursor = points(text, box.selectionStart);
    const query = new URLSearchParams({text, cursor, run: model.run_id, map: model.map_id});
    const answer = await fetch(`complete?${query}`, {credentials: "same-origin"}).catch(() => null);
    if (mine !== asking || !answer?.ok || root.getRootNode().activeElement !== box || text !== box.value) return;
    const found = await answer.json();
    if (mine !== asking) return;
    [options, offered] = [found, text];
    if (!options.length) { close(); return; }
    offers.replaceChildren(...options.map((o, k) => {
      const item = make("li", o.kind, {id: `offer-${k}`});
      item.setAttribute("role", "option");
      item.append(make("span", "", {textContent: o.text}), make("em", "", {textContent: o.note}));
      item.addEventListener("pointerdown", e => { e.preventDefault(); accept(k); });
      return item;
    }));
    const at = box.getBoundingClientRect(), below = window.innerHeight - at.bottom - 8, up = below < 140;
    offers.style.left = `${Math.min(at.left + Math.min(at.width - 60, 7 * Math.max(0, options[0].start)), window.innerWidth - 300)}px`;
    offers.style.top = up ? "auto" : `${at.bottom + 3}px`;
    offers.style.bottom = up ? `${window.innerHeight - at.top + 3}px` : "auto";
    offers.style.maxHeight = `${Math.min(240, up ? at.top - 60 : below)}px`;
    if (!offers.matches(":popover-open")) offers.showPopover();
    box.setAttribute("aria-expanded", "true");
    point(options[0].start < cursor ? 0 : -1);  // before anything is typed Enter applies, and Tab goes on
  };
  const accept = k => {
    const o = options[k], start = units(box.value, o.start), end = units(box.value, o.end);
    const rest = box.value.slice(end), gap = rest.startsWith(" ") || o.text.endsWith("(") || rest.startsWith(")") ? "" : " ";
    box.value = box.value.slice(0, start) + o.text + gap + rest;
    const caret = start + o.text.length + (gap ? 1 : rest.startsWith(" ") ? 1 : 0);
    box.setSelectionRange(caret, caret);
    box.focus();
    typed();
    spaced = gap ? caret : -1;
  };
  const take_offer = async key => {
    if (offered !== box.value) await suggest();  // whoever types fast is ahead of what is offered
    if (options.length && active >= 0 && offered === box.value) accept(active);
    else if (key === "Enter") { close(); apply(); complain(); }
  };
  let spaced = -1;  // where a completion ended with its own space: one that is typed there is that one
  const typed = () => {
    spaced = -1;
    root.classList.remove("wrong");
    mirror.replaceChildren();
    clearTimeout(worry);
    clearTimeout(typing);
    typing = setTimeout(apply, 250);
    suggest();
  };
  box.addEventListener("input", typed);
  box.addEventListener("scroll", () => { mirror.scrollLeft = box.scrollLeft; });
  box.addEventListener("focus", () => { if (!box.value) suggest(); });
  box.addEventListener("blur", () => { close(); apply(); complain(); });
  box.addEventListener("keydown", e => {
    const open = options.length > 0;
    if (e.key === " " && spaced >= 0 && box.selectionStart === spaced && box.selectionEnd === spaced) { e.preventDefault(); spaced = -1; return; }
    if (e.key === "ArrowDown" || e.key === "ArrowUp") {
      e.preventDefault();
      if (!open) { suggest(); return; }
      point((active + (e.key === "ArrowDown" ? 1 : -1) + options.length + (active < 0 && e.key === "ArrowUp" ? 1 : 0)) % options.length);
    } else if ((e.key === "Tab" && !e.shiftKey || e.key === "Enter") && open && (active >= 0 || offered !== box.value)) {
      e.preventDefault();
      take_offer(e.key);
    } else if (e.key === "Enter") {
      close();
      apply();
      complain();
    } else if (e.key === "Escape") {
      e.stopPropagation();
      if (open) { close(); complain(); } else grid.focus();
    } else if (["ArrowLeft", "ArrowRight", "Home", "End"].includes(e.key) && open) requestAnimationFrame(suggest);
  });
  take.addEventListener("click", () => model.send_msg({select: where, within: Boolean(narrowed()), mode: mode.value}));
  mode.addEventListener("change", () => { model.mode = mode.value; });
  for (const [name, button] of Object.entries(scope_buttons)) button.addEventListener("click", () => { scope = name; tell(); renew(true); });

  // ------------------------------------------------------------------------------------------------------ the session
  // whoever asked for the filter, and may have begun to type, goes on in it as soon as it is there
  let coming = 0;
  const take_over = () => {
    clearTimeout(coming);
    const early = window.voorwerp.filter_typed, text = early?.value;
    if (!early) return;
    if (model.shown && grid.clientHeight) box.focus();
    if (box.getRootNode().activeElement !== box) { coming = setTimeout(take_over, 30); return; }
    if (text) { box.value = text; typed(); } else box.select();
  };
  window.addEventListener("voorwerp-filter", take_over);
  // what the session changes together comes in several events: it is looked at once
  let due = null;
  const soon = what => {
    if (!due) requestAnimationFrame(() => { const all = due; due = null; catch_up(all); });
    due = {...due, ...what};
  };
  const catch_up = ({sort: ordered, columns: other, rows, top}) => {
    const before = by, there = reference => !reference || model.columns.some(c => c.reference === reference);
    if (ordered) by = {sort: model.sort, descending: model.descending};
    if (!there(by.sort)) by = {sort: there(model.sort) ? model.sort : "", descending: model.descending};
    if (other) { recolumn(); offer_columns(); } else headings();
    tell();
    const turned = by.sort !== before.sort || by.descending !== before.descending;
    if (other || rows || turned) renew(top || turned);
  };
  model.on(["sort", "descending"], () => soon({sort: true}));
  model.on("selection_id", () => soon(scope === "selection" ? {rows: true, top: true} : {}));
  model.on(["n_selected", "n"], () => soon({}));
  model.on(["run_id", "map_id", "lambda_mode", "read"], () => soon({rows: true}));
  model.on(["columns", "mixes"], () => soon({columns: true}));
  model.on("lambda_", () => soon(model.mixes && (by.sort === MIXED || where || columns.some(c => c.reference === MIXED)) ? {rows: true} : {}));
  model.on("focus", follow);
  model.on("mode", () => { mode.value = model.mode; });
  model.on("shown", () => { if (!model.shown) { close(); return; } take_over(); if (stale) renew(stale.top).then(follow); else { draw(); follow(); } });
  model.on("remove", () => { window.removeEventListener("voorwerp-filter", take_over); clearTimeout(coming); observer.disconnect(); forget(); clearTimeout(typing); clearTimeout(worry); });
  const observer = new ResizeObserver(() => requestAnimationFrame(draw));
  observer.observe(grid);
  mode.value = model.mode;
  choose();
  headings();
  fit();
  offer_columns();
  tell();
  empty.hidden = true;
  renew(true).then(follow);
  take_over();
}
