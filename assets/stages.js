// The training of any kind: its stages by name ("classifier, fold 2" …), the losses of one of them, the others of its like
// behind it. The one at work is shown unless somebody chose another.
const make = (tag, name, text) => {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
};
const say = (e, text) => { if (e.textContent !== text) e.textContent = text; };
const upper = text => text && text[0].toUpperCase() + text.slice(1);
const LIKE = 12; // other stages drawn behind, the nearest
const WIDE = 64, HIGH = 16; // px of the small curve of a stage
const family = name => name.replaceAll(/\d+/g, "#");
const of_line = (line, name) => line.validation?.[name] ?? line.train?.[name] ?? null;

/** Stages in order of appearance: {name, lines}. */
const staged = lines => {
  const found = new Map();
  for (const line of lines) {
    if (!found.has(line.stage)) found.set(line.stage, {name: line.stage, lines: []});
    found.get(line.stage).lines.push(line);
  }
  return [...found.values()];
};
/** Names of what was measured in a stage, the loss first. */
const measured = lines => [...new Set(lines.flatMap(l => [...Object.keys(l.train ?? {}), ...Object.keys(l.validation ?? {})]))].sort((a, b) => (b === "loss") - (a === "loss"));

const small_curve = (path, lines, name) => {
  const values = lines.map(l => of_line(l, name)), known = values.filter(v => v !== null), low = Math.min(...known), high = Math.max(...known);
  let pen = "M";
  const d = known.length < 2 ? "" : values.map((v, i) => {
    if (v === null) return "";
    const at = `${pen}${(1 + i / (values.length - 1) * (WIDE - 2)).toFixed(1)} ${(1 + (HIGH - 2) * (high > low ? 1 - (v - low) / (high - low) : 0.5)).toFixed(1)}`;
    pen = "L";
    return at;
  }).join("");
  if (path.getAttribute("d") !== d) path.setAttribute("d", d);
};

/**
 * @param Chart of the dialog of runs; `icon` makes a state's sign.
 * @param point is called with the stage and epoch under the mouse, `choose` with those clicked, `turn` with a stage chosen.
 */
export function staging({Chart, icon, point, choose, turn}) {
  const root = make("div", "training"), key = make("p", "key"), curves = make("div", "losses"), list = make("div", "stages"), others = make("span", "others");
  const name = make("h3", "stage");
  list.setAttribute("role", "radiogroup");
  list.setAttribute("aria-label", "Stages");
  for (const [color, text] of [["--accent", "training images"], ["--warm", "validation images"]]) {
    const dot = make("i");
    dot.style.background = `var(${color})`;
    key.append(dot, make("span", "", text));
  }
  const dim = make("i", "dim"), validation = key.children[3];
  others.append(dim, make("span"));
  key.append(others);
  root.append(name, curves, key, list);
  let chosen = null, charts = new Map(), items = new Map();

  const item_of = stage => {
    if (!items.has(stage)) {
      const e = make("button", "stage"), svg = document.createElementNS("http://www.w3.org/2000/svg", "svg"), path = document.createElementNS("http://www.w3.org/2000/svg", "path");
      e.type = "button";
      e.setAttribute("role", "radio");
      svg.setAttribute("viewBox", `0 0 ${WIDE} ${HIGH}`);
      svg.setAttribute("aria-hidden", "true");
      svg.append(path);
      e.append(make("span", "sign"), make("b", "", stage), svg, make("span", "quiet epochs"), make("em"));
      e.addEventListener("click", () => { chosen = stage; turn(stage); });
      items.set(stage, e);
    }
    return items.get(stage);
  };
  list.addEventListener("keydown", e => { // the list is one stop of the keyboard; arrows up and down walk in it
    const step = {ArrowUp: -1, ArrowDown: 1}[e.key], all = [...list.children], next = all[all.indexOf(e.target.closest("button")) + step];
    if (!step) return;
    e.preventDefault();
    e.stopPropagation();
    if (!next) return;
    next.click();
    next.focus();
  });

  return {
    root,
    /** Another run is shown. */
    forget() { chosen = null; charts = new Map(); items = new Map(); curves.replaceChildren(); list.replaceChildren(); },
    /** What is shown follows the pictures again. */
    follow() { chosen = null; },
    /** @param of is the stage of the picture that was chosen, null for the newest; `now` what is to be marked: {stage, epoch}. */
    show(lines, state, of, now) {
      const stages = staged(lines), last = stages.at(-1);
      if (chosen === last.name && of === null) chosen = null; // it follows what comes
      const at = stages.find(s => s.name === (chosen ?? of)) ?? last, like = stages.filter(s => s !== at && family(s.name) === family(at.name)).slice(-LIKE);
      const is_over = at !== last || state !== "running", names = measured(at.lines);
      say(name, at.name);
      name.hidden = stages.length > 1;
      const wanted = names.map(n => {
        if (!charts.has(n)) charts.set(n, new Chart({name: n, title: upper(n.replaceAll("_", " "))}, point, choose));
        const chart = charts.get(n);
        Object.assign(chart.about, {stage: at.name, like: like.map(s => s.name), is_over});
        return chart;
      });
      if (wanted.length !== curves.children.length || wanted.some((c, i) => curves.children[i] !== c.root)) curves.replaceChildren(...wanted.map(c => c.root));
      curves.classList.toggle("single", wanted.length === 1);
      for (const chart of wanted) chart.show(lines, now && now.stage === at.name ? now.epoch : null);
      others.hidden = !like.length;
      say(others.lastChild, /\bfold\b/.test(at.name) ? "the other folds" : /\bseed\b/.test(at.name) ? "the other seeds" : "others like it");
      validation.previousElementSibling.hidden = validation.hidden = ![at, ...like].flatMap(s => s.lines).some(l => Object.values(l.validation ?? {}).some(v => v !== null));

      list.hidden = stages.length < 2;
      const follows = list.scrollHeight - list.scrollTop - list.clientHeight < 24 && at === last;
      let is_new = list.children.length !== stages.length;
      stages.forEach((stage, i) => {
        const e = item_of(stage.name), [sign, , svg, epochs, loss] = e.children, end = stage.lines.at(-1), shape = stage === last ? state : "done", figure = of_line(end, measured(stage.lines)[0]);
        if (list.children[i] !== e) { list.insertBefore(e, list.children[i] ?? null); is_new = true; }
        if (sign.dataset.state !== shape) { sign.dataset.state = shape; sign.replaceChildren(icon(shape)); }
        small_curve(svg.firstChild, stage.lines, measured(stage.lines)[0]);
        say(epochs, stage === last && state === "running" ? `${end.epoch} of ${end.of} epochs` : `${end.epoch} epoch${end.epoch === 1 ? "" : "s"}`);
        say(loss, figure === null ? "–" : window.voorwerp.format(figure));
        e.setAttribute("aria-checked", stage === at);
        e.tabIndex = stage === at ? 0 : -1;
      });
      if (is_new && follows) list.scrollTop = list.scrollHeight;
    },
  };
}
