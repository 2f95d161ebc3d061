// What computes, in one line, and the button (and key R) that opens the dialog of runs. The dialog's script and style are
// fetched when it is first opened: a page that never opens it pays for neither.
export function render({model, el}) {
  const root = document.createElement("div"), button = document.createElement("button"), line = document.createElement("span");
  root.className = "computing";
  button.type = "button";
  button.textContent = "Runs";
  button.title = "Runs and training (R)";
  root.append(button, line);
  el.append(root);
  const draw = () => {
    line.textContent = line.title = model.line;
    root.classList.toggle("busy", model.line !== "");
  };

  let dialog = null;
  const open = async () => {
    dialog ??= import(new URL("assets/runs.js", document.baseURI).href).then(script => script.runs(el));
    (await dialog).open();
  };
  const key = e => {
    if (e.key.toLowerCase() !== "r" || e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented) return;
    if (e.composedPath().some(x => /^(input|textarea|select|dialog)$/i.test(x.tagName ?? "") && x.type !== "range" || x.isContentEditable || x.classList?.contains("MuiPopover-root"))) return;
    e.preventDefault();
    open();
  };
  button.addEventListener("click", open);
  window.addEventListener("keydown", key);
  model.on("line", draw);
  model.on("remove", () => window.removeEventListener("keydown", key));
  draw();
}
