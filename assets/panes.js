// The tabs between the map and what stands below it; their upper edge is dragged to give either more room.
export function render({model, el}) {
  const TITLES = {gallery: "Gallery", histograms: "Histograms", table: "Table", apart: "Sets apart", curves: "Curves"};
  const KEPT = "voorwerp-lower", LEAST = 160;
  const root = document.createElement("div"), edge = document.createElement("div"), list = document.createElement("div");
  root.className = "panes";
  edge.className = "edge";
  edge.tabIndex = 0;
  edge.setAttribute("role", "separator");
  edge.setAttribute("aria-orientation", "horizontal");
  edge.setAttribute("aria-label", "Height of what stands below the map");
  edge.title = "Drag to resize (↑ ↓)";
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", "Below the map");
  root.append(edge, list);
  el.append(root);

  // ------------------------------------------------------------------------------------------------------- tabs
  const tabs = new Map();
  const forget = [];
  Object.entries(TITLES).forEach(([name, title], k) => {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.textContent = title;
    tab.title = `${title} (${5 + k})`;
    tab.setAttribute("role", "tab");
    tab.addEventListener("click", () => { model.pane = name; });
    list.append(tab);
    tabs.set(name, tab);
    forget.push(window.voorwerp.commands.add({id: `pane-${name}`, title: `Show ${title.toLowerCase()}`, group: "Below the map", key: String(5 + k), run: () => { model.pane = name; }}));
  });
  // The filter is typed from anywhere: until the table stands, what is typed waits in a box that nobody sees.
  const early = document.createElement("input");
  early.className = "early";
  early.type = "text";
  early.tabIndex = -1;
  early.setAttribute("aria-label", "Filter the table");
  list.after(early);
  const filter = () => {
    early.value = "";
    early.focus();
    window.voorwerp.filter_typed = early;
    model.pane = "table";
    window.dispatchEvent(new CustomEvent("voorwerp-filter"));
  };
  early.addEventListener("blur", () => { window.voorwerp.filter_typed = null; });
  forget.push(window.voorwerp.commands.add({id: "table-filter", title: "Filter the table", group: "Below the map", key: "\\", run: filter}));
  list.addEventListener("keydown", e => {
    const step = {ArrowLeft: -1, ArrowRight: 1}[e.key];
    if (!step) return;
    e.preventDefault();
    const names = [...tabs.keys()], next = names[(names.indexOf(model.pane) + step + names.length) % names.length];
    model.pane = next;
    tabs.get(next).focus();
  });
  const show = () => {
    for (const [name, tab] of tabs) {
      tab.setAttribute("aria-selected", name === model.pane);
      tab.tabIndex = name === model.pane ? 0 : -1;
    }
    if (list.contains(list.getRootNode().activeElement)) tabs.get(model.pane)?.focus();  // by whatever it was chosen
  };

  // ------------------------------------------------------------------------------------------------------- room
  const most = () => window.innerHeight - 53 - 220;
  const set = height => {
    const kept = Math.round(Math.max(LEAST, Math.min(most(), height)));
    document.documentElement.style.setProperty("--lower", `${kept}px`);
    tell(kept);
    return kept;
  };
  const tell = now => {
    edge.setAttribute("aria-valuenow", now);
    edge.setAttribute("aria-valuemin", LEAST);
    edge.setAttribute("aria-valuemax", Math.max(LEAST, most()));
  };
  const height = () => window.innerHeight - root.getBoundingClientRect().top;  // it ends with the window
  const keep = value => { try { localStorage.setItem(KEPT, value); } catch { /* a browser that keeps nothing */ } };
  const kept = () => { try { return Number(localStorage.getItem(KEPT)); } catch { return 0; } };
  edge.addEventListener("pointerdown", e => {
    e.preventDefault();
    edge.setPointerCapture(e.pointerId);
    const from = height() + e.clientY;
    const move = event => set(from - event.clientY);
    edge.addEventListener("pointermove", move);
    edge.addEventListener("lostpointercapture", () => { edge.removeEventListener("pointermove", move); keep(height()); }, {once: true});
  });
  edge.addEventListener("keydown", e => {
    const step = {ArrowUp: 24, ArrowDown: -24}[e.key];
    if (!step) return;
    e.preventDefault();
    keep(set(height() + step));
  });
  edge.addEventListener("dblclick", () => { document.documentElement.style.removeProperty("--lower"); keep(0); });
  tell(Math.round(0.36 * window.innerHeight));
  if (kept()) set(kept());
  model.on("pane", show);
  model.on("remove", () => forget.forEach(f => f()));
  show();
}
