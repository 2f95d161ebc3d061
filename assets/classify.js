// The page for volunteers. The next grid is fetched, and its pictures decoded, while a person looks at this one; an answer
// is sent again until the server says that it is on the disk, with the same UUID, so that it counts once.
//
// Whatever a person wrote is shown as text (textContent), never as HTML.
(() => {
  const $ = selector => document.querySelector(selector);
  const LETTERS = "ABCDEFGHIJKLMNOP";
  const AHEAD = 2;      // grids held: the one that is looked at, and the next
  const EVERY = 5;      // seconds between looks at what others did
  const KEPT = 3;       // answered ones whose pictures are kept, to go back to at once
  const MOST_TAGS = 5;
  const SVG = "http://www.w3.org/2000/svg";
  const TOKEN = $('meta[name="voorwerp-token"]').content;

  const queue = [];     // grids to answer; the first is on the screen
  const waiting = [];   // answers that are not on the disk yet
  const past = [];
  let at = 0;           // the cell of the keyboard
  let ended = false, stopped = null, filling = false, undoing = false, trouble = "";

  const make = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const icon = () => {
    const svg = document.createElementNS(SVG, "svg"), path = document.createElementNS(SVG, "path");
    svg.setAttribute("viewBox", "0 0 18 18");
    path.setAttribute("d", "M11 2h5v5M16 2l-6 6M7 16H2v-5M2 16l6-6");
    svg.append(path);
    return svg;
  };
  const uuid = () => {  // crypto.randomUUID is not there on plain http
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = bytes[6] & 15 | 64;
    bytes[8] = bytes[8] & 63 | 128;
    return [...bytes].map(b => b.toString(16).padStart(2, "0")).join("").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  };
  const sleep = seconds => new Promise(done => setTimeout(done, 1000 * seconds));
  const counted = (n, thing) => `${n.toLocaleString("en")} ${thing}${n === 1 ? "" : "s"}`;
  const galaxies = n => `${n.toLocaleString("en")} ${n === 1 ? "galaxy" : "galaxies"}`;

  // ------------------------------------------------------------------------------------------------------- server
  /** Ask until there is an answer: what is busy, or away for a moment, is asked again; a refusal is thrown. */
  const ask = async (path, options) => {
    for (let tries = 0; ; tries++) {
      try {
        const answer = await fetch(path, options);
        if (answer.ok) { say(""); return answer; }
        const told = await answer.json().catch(() => ({}));
        if (answer.status !== 429 && answer.status < 500) throw Object.assign(new Error(told.error || answer.statusText), {status: answer.status, kind: told.kind});
        say(answer.status === 429 ? "One moment …" : told.error || "The server has trouble; trying again …");
      } catch (error) {
        if (error.status) throw error;
        say("No connection; trying again …");
      }
      await sleep(Math.min(15, 1 + tries * 1.5));
    }
  };
  const post = (path, body) => ask(path, {
    method: "POST", headers: {"Content-Type": "application/json", "X-Voorwerp-Token": TOKEN}, body: JSON.stringify(body),
  }).then(answer => answer.json());

  const unpack = async (answer) => {
    const bytes = await answer.arrayBuffer(), length = new DataView(bytes).getUint32(0, true);
    const told = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
    if (!standing) progress(told.standing);  // from then on answers say it: this one may be from before them
    if (!told.grid) return null;
    let start = 4 + length;
    const pictures = told.sizes.map(size => {
      const part = bytes.slice(start, start += size);
      return size ? URL.createObjectURL(new Blob([part])) : "";
    });
    const grid = {seal: told.grid, level: told.level, pictures, arcsec: told.arcsec, outlines: told.outlines ?? [], chosen: new Set(), tags: {}, cellSeconds: {}, seconds: 0, since: null};
    draw(grid);
    await Promise.all([...grid.element.querySelectorAll("img")].map(image => image.decode().catch(() => {})));
    return grid;
  };

  const fill = async () => {
    if (filling || ended || stopped) return;
    filling = true;
    try {
      while (queue.length < AHEAD && !ended) {
        const held = [...queue.map(grid => grid.seal), ...waiting.map(answer => answer.grid)];
        const grid = await unpack(await ask(`/classify/grid?${held.map(seal => `held=${seal}`).join("&")}`));
        if (!grid) ended = true;
        else if (!queue.some(other => other.seal === grid.seal)) queue.push(grid);
        show();
      }
    } catch (error) {
      stop(error);
    }
    filling = false;
  };

  // --------------------------------------------------------------------------------------------------------- grid
  const scale = (holder, arcsec) => {
    holder.hidden = !arcsec;
    if (!arcsec) return;
    const most = 0.32 * arcsec, ten = 10 ** Math.floor(Math.log10(most));
    const length = [5, 2, 1].map(n => n * ten).find(n => n <= most) ?? ten;
    holder.querySelector("i").style.width = `${100 * length / arcsec}%`;
    holder.querySelector("span").textContent = length >= 60 ? `${+(length / 60).toPrecision(2)}′` : `${+length.toPrecision(1)}″`;
  };

  // which of many galaxies is meant: the square that the survey cut out around it
  const outline = box => {
    const e = make("span", "outline");
    Object.assign(e.style, {left: `${100 * box[0]}%`, top: `${100 * box[1]}%`, width: `${100 * box[2]}%`, height: `${100 * box[2]}%`});
    return e;
  };

  const draw = grid => {
    grid.element = make("div", "cells");
    grid.pictures.forEach((url, cell) => {
      const holder = make("div", "cell"), pick = make("button", "pick"), zoom = make("button", "zoom");
      pick.type = zoom.type = "button";
      pick.append(make("span", "letter", LETTERS[cell]));
      if (url) {
        const image = make("img");
        image.alt = "";
        image.src = url;
        image.draggable = false;
        pick.append(image);
        if (grid.outlines[cell]) pick.append(outline(grid.outlines[cell]));
      } else pick.append(make("span", "none", "no picture"));
      const bar = make("span", "scale");
      bar.append(make("i"), make("span"));
      scale(bar, grid.arcsec[cell]);
      pick.append(bar, make("span", "tick"));
      pick.addEventListener("click", () => { at = cell; choose(cell); });
      pick.addEventListener("focus", () => { at = cell; });
      zoom.append(icon());
      zoom.setAttribute("aria-label", `Look closer at galaxy ${LETTERS[cell]}`);
      zoom.tabIndex = -1;
      zoom.addEventListener("click", () => look(cell));
      holder.append(pick, make("span", "tagged"), zoom);
      grid.element.append(holder);
      mark(grid, cell);
    });
  };

  const mark = (grid, cell) => {
    const holder = grid.element.children[cell], pick = holder.firstChild;
    const is = grid.chosen.has(cell), tags = grid.tags[cell] ?? [];
    pick.setAttribute("aria-pressed", is);
    pick.setAttribute("aria-label", `Galaxy ${LETTERS[cell]}${is ? ", chosen" : ""}${tags.length ? `, tagged ${tags.join(", ")}` : ""}`);
    holder.querySelector(".tagged").textContent = tags.map(tag => `#${tag}`).join(" ");
  };

  const clock = grid => grid.seconds + (grid.since === null ? 0 : (performance.now() - grid.since) / 1000);
  const run = on => {
    const grid = queue[0];
    for (const other of queue) if (other.since !== null && (other !== grid || !on)) { other.seconds = clock(other); other.since = null; }
    if (grid && on && grid.since === null) grid.since = performance.now();
  };
  document.addEventListener("visibilitychange", () => run(!document.hidden));

  const choose = cell => {
    const grid = queue[0];
    if (!grid || cell >= grid.pictures.length) return;
    if (!grid.chosen.delete(cell)) grid.chosen.add(cell);
    grid.cellSeconds[cell] = +clock(grid).toFixed(2);
    mark(grid, cell);
    buttons();
  };

  const show = () => {
    const holder = $(".grid"), grid = queue[0];
    if (stopped || !grid) {
      holder.setAttribute("aria-busy", !ended && !stopped);
      if (stopped || ended) {
        const end = make("div", "end");
        if (stopped) {
          end.append(make("b", "", stopped.title), make("span", "", stopped.text));
          if (stopped.again) {
            const reload = make("button", "", "Reload");
            reload.type = "button";
            reload.addEventListener("click", () => location.reload());
            end.append(reload);
          }
        }
        else end.append(make("b", "", "You have seen every galaxy that still needs eyes here"), make("span", "", "Thank you! Come again: more may be added."));
        holder.replaceChildren(end);
      } else {
        const wait = make("div", "wait");
        for (let i = 0; i < 16; i++) wait.append(make("i"));
        holder.replaceChildren(wait);
      }
    } else if (holder.firstChild !== grid.element) {
      const focused = holder.contains(document.activeElement);
      holder.setAttribute("aria-busy", "false");
      holder.replaceChildren(grid.element);
      at = Math.min(at, grid.pictures.length - 1);
      if (focused) focus(at);
      run(!document.hidden);
    }
    buttons();
  };

  const focus = cell => {
    const grid = queue[0];
    if (!grid) return;
    at = Math.max(0, Math.min(cell, grid.pictures.length - 1));
    [...grid.element.children].forEach((holder, i) => { holder.firstChild.tabIndex = i === at ? 0 : -1; });
    grid.element.children[at].firstChild.focus({focusVisible: true});
  };

  const label = (button, text) => { button.firstChild.textContent = `${text} `; };
  const buttons = () => {
    const grid = queue[0], n = grid?.chosen.size ?? 0, submit = $(".submit");
    $(".act").hidden = Boolean(stopped);
    $(".meant").hidden = !grid?.outlines.some(Boolean);
    submit.disabled = !grid || Boolean(stopped);
    label(submit, n ? `${n} chosen, next grid` : grid || !ended ? "None here, next grid" : "Nothing left to do");
    $(".undo").disabled = undoing || waiting.length > 0 || !standing?.n_grids || Boolean(stopped);
  };

  // ------------------------------------------------------------------------------------------------------- answer
  const submit = () => {
    const grid = queue[0];
    if (!grid || stopped) return;
    const told = {
      grid: grid.seal, id: uuid(), chosen: [...grid.chosen], tags: grid.tags,
      seconds: +Math.min(clock(grid), 86400).toFixed(2), cell_seconds: grid.cellSeconds,
    };
    queue.shift();
    grid.seconds = clock(grid);
    grid.since = null;
    waiting.push(told);
    show();
    keep(told, grid);
    fill();
  };

  const keep = async (told, grid) => {
    let answer;
    try {
      answer = await post("/classify/answer", told);
      answered++;
    } catch (error) {
      if (error.status === 403 || !error.status) stop(Object.assign(error, {isRefused: Boolean(error.status)}));
      else card([make("p", "trouble", `That grid was not counted: ${error.message}.`)]);
      if (error.status === 400) {  // to be put right: nothing of it is lost
        run(false);
        queue.unshift(grid);
      }
    }
    waiting.splice(waiting.indexOf(told), 1);
    if (answer) {
      past.push(grid);
      if (past.length > KEPT) past.shift().pictures.forEach(url => url && URL.revokeObjectURL(url));
      thank(answer, grid);
      progress(answer);
    }
    show();
    fill();
  };

  const undo = async () => {
    if ($(".undo").disabled) return;
    undoing = true;
    buttons();
    try {
      const told = await post("/classify/undo", {});
      answered++;
      const kept = past.findIndex(grid => grid.seal === told.grid);
      const grid = kept >= 0 ? past.splice(kept, 1)[0] : await unpack(await ask(`/classify/grid?grid=${told.grid}`));
      grid.seal = told.grid;
      grid.chosen = new Set(told.chosen);
      grid.tags = told.tags;
      grid.pictures.forEach((_, cell) => mark(grid, cell));
      run(false);
      queue.unshift(grid);
      card([make("p", "", "Here is your last grid again; your answer to it is taken back.")]);
      progress(told);
    } catch (error) {
      if (error.status && error.status !== 403) card([make("p", "trouble", `${error.message}.`)]);
      else stop(error);
    }
    undoing = false;
    show();
  };

  // --------------------------------------------------------------------------------------------------------- said
  let standing = null, answered = 0;
  const card = parts => { $(".said").replaceChildren(...parts); };
  const say = text => {
    if (text === trouble) return;
    trouble = text;
    $(".said .now")?.remove();
    if (text) $(".said").prepend(make("p", "trouble now", waiting.length ? `${text} ${counted(waiting.length, "grid")} not saved yet.` : text));
  };
  /** The end, for now. A sentence of the server's is shown; an error of this page's own is for its console alone. */
  const stop = error => {
    if (stopped) return;
    const text = error.status ? error.message[0].toUpperCase() + error.message.slice(1) + (/[.!?]$/.test(error.message) ? "" : ".") : "";
    if (error.kind === "closed") stopped = {title: "This link is no longer open.", text: `Thank you for ${standing?.n_grids ? counted(standing.n_grids, "grid") : "coming"}.`};
    else if (error.kind === "done") stopped = {title: "This is as far as it goes", text};
    else {
      if (!error.status) console.error(error);
      stopped = {title: "Something went wrong here.", text: `${text} Reload the page; your answers${error.isRefused ? " before this one" : ""} are kept.`.trim(), again: true};
    }
    for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
    $(".said").replaceChildren();
    show();
  };

  const thank = (told, grid) => {
    const parts = [make("p", "", `Thank you. That was grid ${told.n_grids.toLocaleString("en")}.`)];
    for (const {cell, kind, chosen} of told.feedback) {
      if (kind === "dud" && !chosen) continue;
      const holder = make("div", `card${kind === "known" && chosen ? " found" : ""}`), image = make("img"), text = make("div");
      image.alt = "";
      image.src = grid.pictures[cell];
      const [title, more] = kind === "dud"
        ? [`Your ${LETTERS[cell]} is known to be nothing new`, "It does look the part. Good to know for the next one."]
        : chosen ? [`Well seen: your ${LETTERS[cell]} is a known object`, "Just what we are looking for."]
          : [`There was a known object at ${LETTERS[cell]}`, "They are easy to miss. This is what it looks like."];
      text.append(make("b", "", title), make("span", "", more));
      holder.append(image, text);
      parts.push(holder);
    }
    if (told.level_up) parts.push(make("p", "level", `You have a sharp eye: level ${told.level}. From now on you also get galaxies that people disagree about.`));
    card(parts);
  };

  const progress = told => {
    standing = told;
    const mine = $(".mine"), {n_subjects, n_retired, n_views, n_needed} = told.progress;
    mine.replaceChildren();
    if (told.n_grids) {
      mine.append(make("b", "", counted(told.n_grids, "grid")), ` · ${galaxies(told.n_galaxies)}`);
      if (told.known[1]) mine.append(` · ${told.known[0]} of ${told.known[1]} known found`);
      if (told.level > 1) mine.append(` · level ${told.level}`);
    }
    const share = n_needed ? n_views / n_needed : 0;
    $(".bar span").style.width = `${100 * share}%`;
    $(".bar").setAttribute("aria-label", `${n_views} of ${n_needed} looks`);
    $(".ours").textContent = `${n_views.toLocaleString("en")} of ${n_needed.toLocaleString("en")} looks · ${n_retired.toLocaleString("en")} of ${galaxies(n_subjects)} done`;
    buttons();
  };

  /** What others did meanwhile, and whether the link still holds; nothing from before an answer of one's own. */
  const keepUp = async () => {
    while (!stopped) {
      await sleep(EVERY);
      if (document.hidden || waiting.length || undoing) continue;
      const before = answered, answer = await fetch("/classify/standing").catch(() => null);
      const told = await answer?.json().catch(() => null);
      if (!told || before !== answered || waiting.length || undoing) continue;
      if (answer.ok) progress(told);
      else if (told.kind === "closed") stop(Object.assign(new Error(told.error), {status: answer.status, kind: told.kind}));
    }
  };

  // ------------------------------------------------------------------------------------------------------- closer
  const closer = $(".closer"), field = $("#tag");
  let near = 0;
  const look = cell => {
    const grid = queue[0];
    if (!grid) return;
    near = at = (cell + grid.pictures.length) % grid.pictures.length;
    const image = closer.querySelector("img"), url = `/classify/closer?grid=${grid.seal}&cell=${near}`;
    image.src = grid.pictures[near];
    const large = new Image();
    large.src = url;
    large.decode().then(() => { if (near === at && queue[0] === grid && closer.open && image.src === grid.pictures[near]) image.src = url; }, () => {});
    closer.querySelector(".letter").textContent = LETTERS[near];
    const box = grid.outlines[near];
    closer.querySelector(".outline")?.remove();
    if (box) closer.querySelector(".picture").append(outline(box));
    closer.querySelector(".note").textContent = box ? "The square shows which galaxy is meant" : "";
    scale(closer.querySelector(".scale"), grid.arcsec[near]);
    nearby();
    if (!closer.open) closer.showModal();
    closer.querySelector(".choose").focus();
  };
  const nearby = () => {
    const grid = queue[0], tags = grid.tags[near] ?? [], button = closer.querySelector(".choose");
    button.setAttribute("aria-pressed", grid.chosen.has(near));
    button.textContent = grid.chosen.has(near) ? "Interesting ✓" : "Interesting?";
    const list = closer.querySelector(".tags");
    list.replaceChildren(...tags.map(tag => {
      const item = make("li"), take = make("button", "", `#${tag} ✕`);
      take.type = "button";
      take.setAttribute("aria-label", `Take away the tag ${tag}`);
      take.addEventListener("click", () => { tagged(tags.filter(other => other !== tag)); field.focus(); });
      item.append(take);
      return item;
    }));
    list.scrollLeft = list.scrollWidth;  // to the newest
  };
  const tagged = tags => {
    const grid = queue[0];
    if (tags.length) grid.tags[near] = tags;
    else delete grid.tags[near];
    mark(grid, near);
    nearby();
  };
  /** What stands in the field becomes tags, as the server will read them; false where it cannot be one. */
  const add = () => {
    const wrong = closer.querySelector(".wrong"), tags = [...queue[0].tags[near] ?? []];
    wrong.textContent = "";
    for (const text of field.value.split(/[,;]/)) {
      const tag = text.normalize("NFC").toLowerCase().replace(/\s+/g, " ").trim().replace(/^#+/, "").trim();
      if (!tag || tags.includes(tag)) continue;
      if (tag.length > 40) wrong.textContent = "A tag has at most 40 characters.";
      else if (/[\p{C}]/u.test(tag)) wrong.textContent = "A tag is letters, digits and signs that can be seen.";
      else if (tags.length >= MOST_TAGS) wrong.textContent = `A galaxy gets at most ${MOST_TAGS} tags.`;
      else { tags.push(tag); continue; }
      return false;
    }
    field.value = "";
    tagged(tags);
    return true;
  };
  const step = by => { if (add()) look(near + by); };
  closer.querySelector("form").addEventListener("submit", event => { event.preventDefault(); add(); });
  closer.querySelector(".add").addEventListener("click", () => { add(); field.focus(); });
  closer.querySelector(".choose").addEventListener("click", () => { choose(near); nearby(); });
  for (const button of closer.querySelectorAll(".step")) button.addEventListener("click", () => step(+button.dataset.by));
  closer.addEventListener("close", () => {
    if (queue[0]) { add(); focus(near); }
    field.value = closer.querySelector(".wrong").textContent = "";
  });
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });  // beside it
  }

  // --------------------------------------------------------------------------------------------------------- keys
  const {commands} = window.voorwerp;
  const elsewhere = event => Boolean(event?.target?.closest?.("button:not(.pick)"));
  const inGrid = () => $(".grid").contains(document.activeElement);
  const move = by => { focus(inGrid() ? at + by : at); };
  for (const [name, by] of [["left", -1], ["right", 1], ["up", -4], ["down", 4]]) {
    commands.add({id: name, title: "Move", key: `arrow${name}`, run: () => {
      const n = queue[0]?.pictures.length ?? 0, to = at + by;
      if (to >= 0 && to < n || !inGrid()) move(by);
    }});
  }
  [...LETTERS].forEach((letter, cell) => commands.add({id: `go ${letter}`, title: "Go to a galaxy", key: letter, run: () => focus(cell)}));
  commands.add({id: "choose", title: "Choose it, or not", key: " ", when: () => !inGrid() && !elsewhere({target: document.activeElement}), run: () => { focus(at); choose(at); }});
  commands.add({id: "next", title: "Next grid", key: "Enter", when: event => !elsewhere(event), run: submit});
  commands.add({id: "tag", title: "Tag it", key: "T", run: () => { look(at); field.focus(); }});
  commands.add({id: "zoom", title: "Look closer", key: "Z", run: () => look(at)});
  commands.add({id: "undo", title: "Back to the last grid", key: "U", run: undo});
  commands.add({id: "keys", title: "These keys", key: "?", run: () => $(".keys").showModal()});
  const isNear = () => closer.open;
  commands.add({id: "before", title: "", key: "arrowleft", dialog: true, when: isNear, run: () => step(-1)});
  commands.add({id: "after", title: "", key: "arrowright", dialog: true, when: isNear, run: () => step(1)});
  commands.add({id: "tag here", title: "", key: "T", dialog: true, when: isNear, run: () => field.focus()});
  commands.add({id: "leave", title: "", key: "Z", dialog: true, when: isNear, run: () => closer.close()});

  const LINES = [["↑ ↓ ← →", "Move"], ["A … P", "Go to a galaxy"], ["Space", "Choose it, or not"], ["T", "Tag it"], ["Z", "Look closer"], ["Enter", "Next grid"], ["U", "Back to the last grid"], ["Esc", "Close what is open"], ["□", "Where there is a square, it shows which galaxy is meant"]];
  for (const [keys, means] of LINES) {
    const term = make("dt");
    term.append(make("kbd", "", keys));
    $(".keys dl").append(term, make("dd", "", means));
  }

  $(".look").append(icon());
  $(".submit").addEventListener("click", submit);
  $(".undo").addEventListener("click", undo);
  $(".help").addEventListener("click", () => $(".keys").showModal());
  window.addEventListener("beforeunload", event => { if (waiting.length) event.preventDefault(); });
  window.addEventListener("error", event => { if (event.error) stop(event.error); });
  window.addEventListener("unhandledrejection", event => stop(event.reason instanceof Error ? event.reason : new Error(String(event.reason))));
  show();
  fill();
  keepUp();
})();
