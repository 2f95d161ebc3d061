// What belongs to the page and to no part of it: dark or light, the command palette, the sheet of keys, the tour, side
// panels out of the way, and what is said while the server is away. Loaded once a page, after keys.js.
(() => {
  const {commands} = window.voorwerp, page = document.documentElement;
  if (window.voorwerp.shell) return;

  const RETRY = 2000; // ms
  const make = (tag, name, text) => {
    const e = document.createElement(tag);
    if (name) e.className = name;
    if (text !== undefined) e.textContent = text;
    return e;
  };
  const button = (text, run, title) => {
    const e = make("button", "", text);
    e.type = "button";
    if (title) e.title = title;
    e.addEventListener("click", run);
    return e;
  };
  const recall = name => { try { return localStorage.getItem(name); } catch { return null; } };
  const remember = (name, value) => { try { localStorage.setItem(name, value); } catch { /* a browser that keeps nothing */ } };
  /** The first element of a selector, in shadow roots too. */
  const deep = (selector, root = document) => {
    const found = root.querySelector(selector);
    if (found) return found;
    for (const e of root.querySelectorAll("*")) {
      const inside = e.shadowRoot && deep(selector, e.shadowRoot);
      if (inside) return inside;
    }
    return null;
  };
  const shell = window.voorwerp.shell = {deep};

  // ------------------------------------------------------------------------------------------------- dark or light
  shell.theme = recall("voorwerp-theme") === "light" ? "light" : "dark";
  const dress = theme => {
    shell.theme = page.dataset.theme = theme;
    window.dispatchEvent(new CustomEvent("voorwerp-theme"));
  };
  dress(shell.theme);
  shell.turn = () => {
    dress(shell.theme === "dark" ? "light" : "dark");
    remember("voorwerp-theme", shell.theme);
  };
  commands.add({id: "theme", title: "Turn the page light or dark", group: "Page", key: "h", run: shell.turn});

  // -------------------------------------------------------------------------------------------------- side panels
  commands.add({
    id: "sides", title: "Hide or show the side panels", group: "Page", key: "s",
    run() { if (page.dataset.sides) delete page.dataset.sides; else page.dataset.sides = "hidden"; },
  });

  // ------------------------------------------------------------------------------------------------------- dialogs
  const dialog = (name, label) => {
    const e = make("dialog", name);
    e.setAttribute("aria-label", label);
    e.addEventListener("click", event => { if (event.target === e) e.close(); });  // beside it
    return e;
  };
  const open = e => {
    if (!e.isConnected) document.body.append(e);
    if (!e.open) e.showModal();
  };
  const free = event => !event?.composedPath().some(e => e.tagName === "DIALOG" && e.open);

  // ------------------------------------------------------------------------------------------------------- palette
  const NAMES = {arrowleft: "←", arrowright: "→", arrowup: "↑", arrowdown: "↓", escape: "Esc", enter: "Enter", " ": "Space", home: "Home", end: "End", pageup: "Page up", pagedown: "Page down"};
  const control = /mac/i.test(navigator.platform) ? "⌘" : "Ctrl";
  const keys = c => !c.key ? [] : [...c.ctrl ? [control] : [], ...c.shift ? ["Shift"] : [], NAMES[c.key] ?? (c.key.length === 1 ? c.key.toUpperCase() : c.key)];
  const caps = c => keys(c).map(k => make("kbd", "", k));

  const begins = (s, at) => at === 0 || /[\s\-·:(_]/.test(s[at - 1]);
  /** Whether the letters are beginnings of words, one after the other: "colmag" is in "color by: magnitude". */
  const in_words = (t, s, from = 0) => {
    if (!t) return true;
    for (let at = s.indexOf(t[0], from); at >= 0; at = s.indexOf(t[0], at + 1)) {
      if (!begins(s, at)) continue;
      for (let n = 1; n <= t.length && s[at + n - 1] === t[n - 1]; n++) if (in_words(t.slice(n), s, at + n)) return true;
    }
    return false;
  };
  /** How well typed letters fit a text, in this order: null where they do not. Beginnings of words count most. */
  const fit = (typed, text) => {
    const t = typed.toLowerCase().replace(/\s+/g, ""), s = text.toLowerCase();
    const whole = s.indexOf(typed.toLowerCase().trim());
    if (whole >= 0) return 1000 - whole - s.length / 100 + (begins(s, whole) ? 200 : 0);
    let score = 0, at = -1;
    for (const letter of t) {
      const next = s.indexOf(letter, at + 1);
      if (next < 0) return null;
      score += (begins(s, next) ? 8 : 0) + (next === at + 1 ? 5 : 0) - Math.min(next - at - 1, 10) / 5;
      at = next;
    }
    return score - s.length / 100 + (in_words(t, s) ? 500 : 0);
  };

  const whole_words = (typed, c) => { const t = typed.toLowerCase(), s = `${c.title} ${c.group ?? ""}`.toLowerCase(); return s.includes(t) || in_words(t.replace(/\s+/g, ""), s); };

  const palette = dialog("palette", "Commands"), field = make("input"), found = make("ul");
  let shown = [], at = 0;
  Object.assign(field, {type: "text", placeholder: "What would you like to do?", spellcheck: false, autocomplete: "off"});
  for (const [name, value] of Object.entries({role: "combobox", "aria-label": "Find a command", "aria-controls": "voorwerp-commands", "aria-expanded": "true", "aria-autocomplete": "list"})) field.setAttribute(name, value);
  found.id = "voorwerp-commands";
  found.setAttribute("role", "listbox");
  found.setAttribute("aria-label", "Commands");
  const none = make("p", "none", "Nothing is called so.");
  palette.append(field, found, none);

  const point = place => {
    at = Math.max(0, Math.min(shown.length - 1, place));
    [...found.children].forEach((e, i) => e.setAttribute("aria-selected", i === at));
    const chosen = found.children[at];
    field.setAttribute("aria-activedescendant", chosen?.id ?? "");
    chosen?.scrollIntoView({block: "nearest"});
  };
  const choose = command => {
    palette.close();
    if (command) command.run();
  };
  const look = () => {
    const typed = field.value.trim();
    const all = commands.list().filter(c => c.title && c.id !== "palette");
    shown = !typed ? all : all.map((c, i) => [c, fit(typed, `${c.title} ${c.group ?? ""}`), i]).filter(([, score]) => score !== null)
      .sort((a, b) => b[1] - a[1] || a[2] - b[2]).map(([c]) => c);
    if (typed && shown.length && whole_words(typed, shown[0])) shown = shown.filter(c => whole_words(typed, c));
    shown = shown.slice(0, 80);
    found.replaceChildren(...shown.map((c, i) => {
      const line = make("li");
      line.id = `voorwerp-command-${i}`;
      line.setAttribute("role", "option");
      const cap = make("span", "caps");
      cap.append(...caps(c));
      line.append(make("span", "title", c.title), make("span", "group", c.group ?? ""), cap);
      line.addEventListener("click", () => choose(c));
      line.addEventListener("pointermove", () => { if (i !== at) point(i); });
      return line;
    }));
    none.hidden = shown.length > 0;
    point(0);
  };
  field.addEventListener("input", look);
  field.addEventListener("keydown", e => {
    const step = {ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8}[e.key];
    if (step) { e.preventDefault(); point(at + step); }
    else if (e.key === "Enter") { e.preventDefault(); choose(shown[at]); }
  });
  shell.palette = () => {
    if (palette.open) { palette.close(); return; }
    field.value = "";
    open(palette);
    look();
    field.focus();
  };
  commands.add({id: "palette", title: "Commands", group: "Help", key: "k", ctrl: true, dialog: true, when: event => palette.open || free(event), run: shell.palette});

  // ------------------------------------------------------------------------------------------------- sheet of keys
  const sheet = dialog("sheet", "Keys");
  const BY_HAND = [["Wheel", "Zoom"], ["Drag", "Use the tool"], ["Click", "Open the subject"], ["Shift + drag", "Add to the selection"], ["Alt + drag", "Take from it"], ["Shift + Alt + drag", "Keep what is in both"]];
  const ON_PICTURES = [["Double click", "Enlarge"], ["Wheel", "Zoom, when enlarged"]];
  shell.keys = () => {
    if (sheet.open) { sheet.close(); return; }
    const groups = new Map();
    for (const c of commands.all()) if (c.key && c.title) groups.set(c.group ?? "Other", [...groups.get(c.group ?? "Other") ?? [], c]);
    const parts = [...groups].map(([title, listed]) => {
      const part = make("section"), list = make("dl");
      for (const c of listed) {
        const key = make("dt");
        key.append(...caps(c));
        list.append(key, make("dd", "", c.title));
      }
      part.append(make("h3", "", title), list);
      return part;
    });
    const by_hand = (title, listed) => {
      const part = make("section"), list = make("dl");
      for (const [how, what] of listed) {
        const key = make("dt");
        key.append(make("kbd", "", how));
        list.append(key, make("dd", "", what));
      }
      part.append(make("h3", "", title), list);
      return part;
    };
    const body = make("div", "body"), head = make("header");
    head.append(make("h2", "", "Keys"), button("Tour of the page", () => { sheet.close(); shell.tour(); }), button("✕", () => sheet.close(), "Close (Esc)"));
    Object.assign(head.lastChild, {className: "close", autofocus: true});
    head.lastChild.setAttribute("aria-label", "Close");
    body.tabIndex = 0;
    body.setAttribute("role", "group");
    body.setAttribute("aria-label", "All keys");
    body.append(...parts, by_hand("Mouse on the map", BY_HAND), by_hand("Mouse on a picture", ON_PICTURES));
    sheet.replaceChildren(head, body);
    open(sheet);
  };
  commands.add({id: "keys", title: "Keys", group: "Help", key: "?", dialog: true, when: event => sheet.open || free(event), run: shell.keys});

  // ---------------------------------------------------------------------------------------------------------- tour
  const PLACES = [  // what is named, on which side of it its note stands, and the note
    [".finder", "right", "Find", "An id, a coordinate or a pasted list goes to its subjects."],
    [".steering section", "right", "View", "Choose the axes and the coloring; λ weighs the two scores."],
    [".steering section + section", "right", "Selection", "Always counted. Keep it by name, export it, send it on."],
    [".subject", "left", "Subject", "Whatever you click: picture, reconstruction, scores, notes, neighbors."],
    [".panes", "above", "Below the map", "The selection as pictures, histograms, a table, and what sets it apart."],
    [".map", "within", "Map", "Every subject. Hover for its picture, drag to move, press L to draw around a group."],
  ];
  const tour = dialog("tour", "Tour of the page");
  const place_cards = () => {
    const {innerWidth: w, innerHeight: h} = window, last = tour.lastElementChild;
    const boxes = [];
    tour.replaceChildren(...PLACES.flatMap(([selector, side, title, text]) => {
      const box = deep(selector)?.getBoundingClientRect();
      if (!box || !box.width) return [];
      const card = make("div", `callout ${side}`);
      card.append(make("b", "", title), text);
      boxes.push([card, box, side]);
      return [card];
    }), last);
    for (const [card, box, side] of boxes) {  // beside its place, within the window
      const {offsetWidth: cw, offsetHeight: ch} = card, GAP = 22;
      const [left, top] = {
        right: [box.right + GAP, box.top], left: [box.left - cw - GAP, box.top + 40],
        above: [box.right - cw - 14, box.top - ch - 12], within: [box.left + box.width / 2 - cw / 2, box.top + box.height / 4],
      }[side];
      card.style.left = `${Math.max(8, Math.min(w - cw - 8, left))}px`;
      card.style.top = `${Math.max(8, Math.min(h - ch - 84, top))}px`;
    }
    for (const [i, [card]] of boxes.entries()) for (const [other] of boxes.slice(0, i)) {  // none on another
      const a = card.getBoundingClientRect(), b = other.getBoundingClientRect();
      if (a.left < b.right && b.left < a.right && a.top < b.bottom + 6 && b.top < a.bottom + 6) card.style.top = `${b.bottom + 8}px`;
    }
  };
  const foot = make("div", "foot"), words = make("span");
  words.append(make("kbd", "", "?"), " keys · ", make("kbd", "", control), " ", make("kbd", "", "K"), " every command");
  foot.append(words, button("Begin", () => tour.close()));
  tour.append(foot);
  tour.addEventListener("close", () => remember("voorwerp-tour", "seen"));
  shell.tour = () => { open(tour); place_cards(); foot.lastChild.focus(); };
  window.addEventListener("resize", () => { if (tour.open) place_cards(); });
  commands.add({id: "tour", title: "Tour of the page", group: "Help", run: shell.tour});
  /** Called when the page stands: a person who is here for the first time is shown around; a program that drives a browser is not. */
  shell.ready = () => {
    if (page.dataset.ready) return;
    page.dataset.ready = "yes";
    if (!recall("voorwerp-tour") && !navigator.webdriver) setTimeout(shell.tour, 1200);
  };

  // ---------------------------------------------------------------------------------------------- the server is away
  const banner = make("div", "away"), told = make("span"), KEPT = "Your decisions are kept in the survey.";
  banner.setAttribute("role", "alert");
  banner.append(told, button("Reload", () => location.reload()));
  let away = false;
  const unsent = () => {  // what is typed and not yet sent would be lost
    let e = document.activeElement;
    while (e?.shadowRoot?.activeElement) e = e.shadowRoot.activeElement;
    return Boolean(e && (/^textarea$/i.test(e.tagName) || e.type === "text") && e.value);
  };
  const probe = async () => {
    let said = `The connection to the server is lost. ${KEPT} Trying again …`, again = RETRY;
    try {
      const answer = await fetch("thumbnails/0", {cache: "no-store", credentials: "same-origin"});
      if (answer.status === 401) {
        [said, again] = [`You are logged out. ${KEPT}`, 0];
        banner.lastChild.textContent = "Log in";
      } else if (answer.status === 403) [said, again] = [`The server was started anew and has a new address: open the one that it printed. ${KEPT}`, 5 * RETRY];
      else if (unsent()) [said, again] = ["The server is back. Copy what you have typed, then reload.", 0];
      else { location.reload(); return; }
    } catch { /* nobody answers */ }
    told.textContent = said;
    if (again) setTimeout(probe, again);
  };
  shell.lost = () => {
    if (away) return;
    away = true;
    told.textContent = `The connection to the server is lost. ${KEPT} Trying again …`;
    document.body.append(banner);
    setTimeout(probe, 300);
  };
  window.addEventListener("pagehide", () => { away = true; });  // whoever leaves has lost nothing

  // ----------------------------------------------------------------------------------------------------- skip link
  const skip = make("a", "skip", "Skip to the map");
  skip.href = "#map";
  skip.addEventListener("click", e => { e.preventDefault(); (deep(".map [tabindex]") ?? deep(".gallery"))?.focus(); });
  const greet = () => document.body.prepend(skip);
  if (document.body) greet(); else document.addEventListener("DOMContentLoaded", greet);
})();
