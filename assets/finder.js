// One box for whatever a person has in hand: an id, a coordinate, a pasted list.
export function render({model, el}) {
  const root = document.createElement("div"), box = document.createElement("textarea"), words = document.createElement("div"), missing = document.createElement("details");
  root.className = "finder";
  Object.assign(box, {rows: 1, placeholder: "Find an id, RA Dec, or a list", spellcheck: false, autocomplete: "off"});
  box.setAttribute("aria-label", "Find an id, a coordinate or a list of ids");
  box.title = "150.1163 2.2058 · 10:00:27.9 +02:12:21 5arcsec · ids, one a line.  / goes here, Enter finds, Esc leaves";
  words.className = "said";
  words.setAttribute("aria-live", "polite");
  root.append(box, words, missing);
  el.append(root);
  const grow = () => { box.style.height = "auto"; box.style.height = `${Math.min(box.scrollHeight + 2, 110)}px`; };
  box.addEventListener("input", grow);
  box.addEventListener("keydown", e => {
    if (e.key === "Escape") box.blur();
    if (e.key !== "Enter" || e.shiftKey) return;
    e.preventDefault();
    if (!box.value.trim()) return;
    words.textContent = "Looking …";
    model.send_msg({find: box.value});
  });
  const forget = window.voorwerp.commands.add({id: "find", title: "Find an id, a coordinate or a list", group: "Page", key: "/", run() { box.focus(); box.select(); }});
  const show = () => {
    words.textContent = model.message;
    const names = model.missing;
    missing.hidden = !names.length;
    const summary = document.createElement("summary"), list = document.createElement("pre");
    summary.textContent = `${model.n_missing.toLocaleString("en")} not in this survey`;
    list.textContent = names.join("\n") + (model.n_missing > names.length ? `\n… and ${(model.n_missing - names.length).toLocaleString("en")} more` : "");
    missing.replaceChildren(summary, list);
  };
  model.on(["message", "missing", "answered"], show);
  model.on("remove", forget);
  show();
}
