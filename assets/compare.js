// Two to nine subjects side by side: the gallery's dialog, fetched when it is first opened. Every picture has the viewer
// of viewer.js, so stretch and levels are one for all; zoom and place are, too.
const make = (tag, name, text) => {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
};

/** The function that opens the comparison of rows in the shadow root `el`; `model` is the gallery's. */
export function compare(el, model, marks) {
  const dialog = make("dialog", "comparison"), head = make("div", "top"), title = make("h2"), desk = make("div", "desk"), grid = make("div", "subjects"), close = make("button", "close", "✕");
  dialog.setAttribute("aria-label", "Comparison of subjects");
  close.type = "button";
  close.title = "Close (Esc)";
  close.setAttribute("aria-label", "Close");
  close.addEventListener("click", () => dialog.close());
  head.append(title, desk, close);
  grid.setAttribute("role", "list");
  dialog.append(head, grid, make("p", "quiet keys", "← → from one to the next · Enter shows it in the panel · Delete takes it away · wheel zooms, drag moves, all together · Esc closes"));
  el.append(dialog);

  let cards = [], looks = null, at = 0;  // {row, root, viewer}
  const lay = () => {  // as many columns as make the pictures largest
    const {clientWidth: width, clientHeight: height} = grid, n = cards.length, words = model.reconstructs ? 190 : 160;
    if (!width || !n) return;
    const side = columns => Math.min((width - 20) / columns - 30, Math.max(130, (height - 12) / Math.ceil(n / columns) - words));
    const columns = Array.from({length: n}, (_, i) => i + 1).reduce((best, c) => side(c) > side(best) ? c : best, 1);
    grid.style.setProperty("--columns", String(columns));
    grid.style.setProperty("--side", `${Math.round(side(columns))}px`);
  };
  const observer = new ResizeObserver(lay);
  observer.observe(grid);
  const show = () => {
    title.textContent = `${cards.length} subjects side by side`;
    lay();
    cards.forEach((card, i) => { card.root.tabIndex = i === at ? 0 : -1; });
  };
  const step = by => {
    at = Math.max(0, Math.min(cards.length - 1, at + by));
    show();
    cards[at]?.root.focus();
  };
  const remove = row => {
    const i = cards.findIndex(c => c.row === row);
    if (i < 0) return;
    const [card] = cards.splice(i, 1);
    card.viewer.remove();
    card.root.remove();
    if (marks.rows.includes(row)) marks.toggle(row);
    at = Math.min(at, cards.length - 1);
    if (!cards.length) { dialog.close(); return; }
    if (!cards.some(c => c.row === looks.row)) { looks.row = cards[0].row; looks.viewer.show(looks.row); }
    show();
    cards[at].root.focus();
  };

  const picture = (src, caption, alt) => {
    const figure = make("figure"), image = new Image(), text = make("figcaption", "", caption);
    image.alt = alt;
    image.addEventListener("error", () => { figure.classList.add("gone"); text.textContent = `${caption}: not available`; });
    image.src = src;
    figure.append(image, text);
    return figure;
  };
  const score = s => {
    const line = make("div", "score");
    line.append(make("span", "name", s.title), make("span", "value", s.value === null ? "missing" : window.voorwerp.format(s.value)));
    line.append(make("span", "quiet", s.value === null ? "" : `above ${s.below.toLocaleString("en")} of ${s.of.toLocaleString("en")}`));
    return line;
  };
  const card_of = row => {
    const root = make("div", "subject-card"), name = make("h2", "", "…"), away = make("button", "drop", "✕"), top = make("div", "name"), rest = make("div", "rest");
    root.setAttribute("role", "listitem");
    away.type = "button";
    away.title = "Take away (Delete)";
    away.setAttribute("aria-label", "Take this subject away");
    away.addEventListener("click", () => remove(row));
    top.append(name, away);
    const viewer = window.voorwerpViewer(make("div", "large"), {seen: view => { for (const c of cards) if (c.viewer !== viewer) c.viewer.see(view); }});
    root.append(top, viewer.root, rest);
    root.addEventListener("focusin", () => { at = cards.findIndex(c => c.row === row); show(); });
    viewer.show(row, "Original image of the subject");
    const query = new URLSearchParams({run: model.run_id, map: model.map_id, lambda: model.lambda_, lambda_mode: model.lambda_mode}), of_run = `run=${encodeURIComponent(model.run_id)}`;
    const pictures = make("div", "pictures");
    pictures.append(picture(`crops/${row}`, "Crop", "Crop that the network sees"));
    if (model.reconstructs) {
      pictures.append(
        picture(`reconstructions/${row}?${of_run}`, "Reconstruction", "What the model makes of it"),
        picture(`residuals/${row}?${of_run}`, "Residual", "Absolute difference of crop and reconstruction"));
    }
    rest.append(pictures);
    fetch(`subject/${row}?${query}`, {credentials: "same-origin"}).then(async answer => {
      const subject = await answer.json();
      if (!answer.ok) throw new Error(subject.error);
      name.textContent = subject.source_id;
      root.setAttribute("aria-label", subject.source_id);
      const scores = make("div", "scores");
      scores.append(...subject.scores.map(score));
      rest.append(scores);
    }).catch(error => { name.textContent = `This subject could not be read: ${error.message}.`; });
    return {row, root, viewer};
  };

  const open = () => dialog.open, keys = {group: "Comparison", dialog: true, when: open};
  const commands = () => [
    {id: "compare-left", title: "Subject before", key: "ArrowLeft", run: () => step(-1), ...keys},
    {id: "compare-right", title: "Subject after", key: "ArrowRight", run: () => step(1), ...keys},
    {id: "compare-away", title: "Take the subject away", key: "Delete", run: () => remove(cards[at].row), ...keys},
    {id: "compare-show", title: "Show the subject in the panel", key: "Enter", run: e => { if (e?.target?.closest?.("button, select")) return; model.focus = cards[at].row; dialog.close(); }, ...keys, when: event => open() && !event?.composedPath().some(x => x.tagName === "BUTTON" || x.tagName === "SELECT")},
    {id: "compare-close", title: "Close the comparison", key: "c", run: () => dialog.close(), ...keys},
  ];
  let forget = [];
  dialog.addEventListener("close", () => {
    forget.forEach(away => away());
    for (const c of cards) c.viewer.remove();
    looks?.viewer.remove();
    looks = null;
    cards = [];
    grid.replaceChildren();
    desk.replaceChildren();
  });

  return rows => {
    if (dialog.open) { dialog.close(); return; }
    at = 0;
    cards = rows.map(card_of);
    grid.append(...cards.map(c => c.root));
    const viewer = window.voorwerpViewer(make("div"));  // its controls are those of all
    looks = {row: rows[0], viewer};
    viewer.show(rows[0]);
    desk.append(viewer.root);
    show();
    dialog.showModal();
    forget = commands().map(command => window.voorwerp.commands.add(command));
    cards[0].root.focus();
  };
}
