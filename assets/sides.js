// The tabs on top of the right column: the subject in focus, or the boundary at work.
export function render({model, el}) {
  const TITLES = {subject: "Subject", boundary: "Boundary"};
  const root = document.createElement("div"), list = document.createElement("div"), tabs = new Map(), forget = [];
  root.className = "panes";
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", "Right column");
  root.append(list);
  el.append(root);
  for (const [name, title] of Object.entries(TITLES)) {
    const tab = document.createElement("button");
    Object.assign(tab, {type: "button", textContent: title, title: `${title} (Shift+B changes)`});
    tab.setAttribute("role", "tab");
    tab.addEventListener("click", () => { model.side = name; });
    list.append(tab);
    tabs.set(name, tab);
  }
  const other = () => model.side === "boundary" ? "subject" : "boundary";
  forget.push(window.voorwerp.commands.add({id: "side", title: "Subject or boundary in the right column", group: "Boundary", key: "b", shift: true, run: () => { model.side = other(); }}));
  list.addEventListener("keydown", e => {
    if (!["ArrowLeft", "ArrowRight"].includes(e.key)) return;
    e.preventDefault();
    model.side = other();
    tabs.get(model.side).focus();
  });
  const show = () => {
    for (const [name, tab] of tabs) {
      tab.setAttribute("aria-selected", name === model.side);
      tab.tabIndex = name === model.side ? 0 : -1;
    }
  };
  model.on("side", show);
  model.on("remove", () => forget.forEach(f => f()));
  show();
}
