// The bar on top: which survey, what computes, which run and which map are on screen, and the ways into help. The dialog
// of runs is fetched when it is first opened: a page that never opens it pays for neither its script nor its style.
export function render({model, view, el}) {
  const {shell, commands} = window.voorwerp;
  const make = (tag, name, text) => {
    const e = document.createElement(tag);
    if (name) e.className = name;
    if (text !== undefined) e.textContent = text;
    return e;
  };
  const button = (text, title, run, label) => {
    const e = make("button", "", text);
    e.type = "button";
    e.title = title;
    if (label) e.setAttribute("aria-label", label);
    e.addEventListener("click", run);
    return e;
  };
  const root = make("div", "topbar"), name = make("h1", "", model.survey), n = make("span", "quiet");
  n.textContent = `${model.n.toLocaleString("en")} subject${model.n === 1 ? "" : "s"}`;
  name.title = model.survey;

  // ------------------------------------------------------------------------------------------------------- runs
  // what is done in the dialog of runs: {color: run_id}, {map: run_id}, …; ShellView.hear says who answers
  const act = message => model.send_msg(message);
  let dialog = null;
  const open_runs = async (at = {}) => {
    dialog ??= import(new URL("assets/runs.js", document.baseURI).href).then(script => script.runs(el, {act}));
    const opened = await dialog;
    opened.selection(model.selected);
    opened.open(at);
  };
  const computing = make("div", "computing"), line = make("span");
  const crowd = button("Volunteers", "Volunteers: votes, skill, retirement, disagreement (K)", () => commands.run("volunteers"));
  const experts = button("Vetting", "Vetting: campaigns of experts (Shift+V)", () => commands.run("vetting"));
  computing.append(button("Runs", "Runs and training (R)", () => open_runs()), crowd, experts, line);
  const notice = make("span", "notice");
  notice.setAttribute("role", "status");

  // what a run that has just ended offers; it takes nothing by itself
  const offer_box = make("div", "offer"), offer_words = make("span"), take = button("", "", () => {
    const {run_id, do: what} = model.offer;
    model.offer = {};
    if (what === "color" || what === "map") act({[what]: run_id});
    else open_runs(what === "score" ? {start: {kind: "score", parents: [run_id]}} : {run: run_id});
  });
  take.className = "take";
  offer_box.setAttribute("role", "status");
  offer_box.append(offer_words, take, button("Later", "The dialog of runs has it", () => { model.offer = {}; }));
  // ------------------------------------------------------------------------------------------------ run and map
  const select = (label, property) => {
    const cell = make("label", "pick"), box = make("select");
    box.setAttribute("aria-label", label);
    box.addEventListener("change", () => { model[property] = box.value; });
    cell.append(make("span", "word", label), box);
    return {cell, box};
  };
  const run = select("Scores", "run_id"), map = select("Map", "map_id");
  const help = make("div", "help");
  const theme = button("", "Light or dark (H)", shell.turn, "Light or dark");
  help.append(button("⌘", "Commands (Ctrl+K)", shell.palette, "Commands"), button("?", "Keys (?)", shell.keys, "Keys"), theme);
  // who is logged in, where one logs in, and the way out
  const who = make("details", "who"), called = make("summary"), about = make("div", "menu"), role = make("b"), words = make("p", "quiet");
  const leave = async () => {
    try {
      const token = await (await fetch("token", {cache: "no-store"})).text();
      await fetch("logout", {method: "POST", headers: {"X-Voorwerp-Token": token}});
    } finally { location.assign("login"); }
  };
  about.append(role, words, button("Log out", "", leave));
  who.append(called, about);
  who.addEventListener("keydown", e => { if (e.key === "Escape" && who.open) { e.stopPropagation(); who.open = false; called.focus(); } });
  const shut = e => { if (who.open && !e.composedPath().includes(who)) who.open = false; };
  document.addEventListener("pointerdown", shut);
  const ORDER = ["viewer", "vetter", "owner"];
  window.voorwerp.may = needed => !model.person.role || ORDER.indexOf(model.person.role) >= ORDER.indexOf(needed);
  root.append(name, n, computing, notice, run.cell, map.cell, who, help, offer_box);
  el.append(root);

  // ---------------------------------------------------------------------------------------------------- commands
  const forget = new Map();
  const offer = (id, command) => { forget.get(id)?.(); forget.set(id, commands.add({id, ...command})); };
  offer("runs", {title: "Runs and training", group: "Page", key: "r", run: () => open_runs()});
  const offered = {};
  const choices = (property, listed, title) => {
    for (const id of offered[property] ?? []) { forget.get(id)?.(); forget.delete(id); }
    offered[property] = listed.length < 2 ? [] : listed.map(([value, text]) => {
      const id = `${property}-${value}`;
      offer(id, {title: `${title}: ${text}`, group: "Page", run: () => { model[property] = value; }});
      return id;
    });
  };

  // ------------------------------------------------------------------------------------------------------ to screen
  const fill = ({cell, box}, listed, value, property, title) => {
    const key = JSON.stringify(listed);
    if (box.dataset.key !== key) {
      box.dataset.key = key;
      box.replaceChildren(...listed.map(([id, text]) => new Option(text, id)));
      choices(property, listed, title);
    }
    box.value = value;
    box.title = listed.find(([id]) => id === value)?.[1] ?? "";
    cell.hidden = !listed.length;
  };
  const draw = () => {
    line.textContent = line.title = model.line;
    computing.classList.toggle("busy", model.line !== "");
    notice.textContent = notice.title = model.notice;
    offer_box.hidden = !model.offer.text;
    if (model.offer.text) [offer_words.textContent, take.textContent] = [model.offer.text, model.offer.word];
    fill(run, model.runs, model.run_id, "run_id", "Scores");
    fill(map, model.maps, model.map_id, "map_id", "Map");
  };
  const introduce = () => {
    const {name = "", role: as = "", may = ""} = model.person;
    who.hidden = !name;
    [called.textContent, role.textContent, words.textContent] = [name, as, `${as === "owner" ? "An" : "A"} ${as} ${may}.`];
    for (const id of ["new-run", "logout"]) { forget.get(id)?.(); forget.delete(id); }
    if (window.voorwerp.may("owner")) offer("new-run", {title: "New run: train, score, map …", group: "Page", run: () => open_runs({start: {}})});
    if (name) offer("logout", {title: "Log out", group: "Page", run: leave});
  };
  const dress = () => {
    theme.textContent = shell.theme === "dark" ? "☀" : "☾";
    if (model.theme !== shell.theme) model.theme = shell.theme;
  };
  window.addEventListener("voorwerp-theme", dress);
  model.on(["line", "notice", "offer", "runs", "maps", "run_id", "map_id"], draw);
  model.on("person", introduce);
  model.on("selected", async () => { (await dialog)?.selection(model.selected); });
  model.on("remove", () => { forget.forEach(f => f()); window.removeEventListener("voorwerp-theme", dress); document.removeEventListener("pointerdown", shut); });
  view.model.document?.on_event("connection_lost", () => shell.lost());
  draw();
  introduce();
  dress();
  shell.ready();
}
