// Adjudication: what graders disagree about, most disputed first, a large picture, everybody's grades and notes, and one
// key that decides. Each decision is a vote of its own kind, and can be taken back.
import {button, cap, fill, grade_cap, make, many, picture, put, sentence, tail, uuid} from "./campaign_parts.js";

const SHOWN = 300; // subjects of the queue that are listed

export function adjudicating({post, ask, focus, changed}) {
  const root = make("div", "adjudication"), queue = make("div", "queue"), stage = make("div", "stage"), side = make("aside");
  const nothing = make("p", "empty"), said = make("p", "said"), about = make("h3"), given = make("div", "given"), keys = make("div", "decide"), acts = make("div", "acts");
  const viewer = window.voorwerpViewer(make("div"));
  viewer.root.classList.add("large");
  const bare = make("div", "bare");
  let told = null, campaign = "", at = -1, since = 0, busy = false, may = false;
  queue.setAttribute("role", "listbox");
  queue.setAttribute("aria-label", "Most disputed first");
  queue.tabIndex = 0;
  said.setAttribute("role", "status");
  const undo = button("", "", () => take_back(), "Take the last decision back");
  undo.append(make("kbd", "", "U"), " Undo");
  const map = button("", "", () => told && at >= 0 && focus(told.items[at].row), "Open it in the explorer");
  map.append(make("kbd", "", "↵"), " Open beside the map");
  acts.append(undo, map);
  side.append(about, given, make("h4", "", "Decide"), keys, said, acts);
  stage.append(viewer.root, bare);
  root.append(queue, stage, side, nothing);

  const item = () => told?.items[at];
  const next_open = from => {
    const {items} = told;
    for (let i = 1; i <= items.length; i++) { const j = (from + i) % items.length; if (!items[j].adjudicated) return j; }
    return Math.min(from + 1, items.length - 1);
  };

  const list = () => fill(queue, [told.items, at], () => told.items.slice(0, SHOWN).map((it, i) => {
    const e = make("div", "item");
    e.id = `voorwerp-disputed-${i}`;
    e.setAttribute("role", "option");
    e.setAttribute("aria-selected", i === at);
    e.classList.toggle("decided", Boolean(it.adjudicated));
    const votes = put(make("span", "votes"), ...it.votes.map(v => grade_cap(told.scheme, v.grade)));
    const mark = it.adjudicated ? put(make("span", "verdict"), "→", grade_cap(told.scheme, it.adjudicated.grade)) : make("span", "verdict");
    put(e, told.has_images ? put(make("span", "face"), picture(it.row)) : null, put(make("span", "text"), make("b", "", tail(it.source_id, innerWidth < 1100 ? 13 : 18)), put(make("span", "line"), votes, mark)));
    e.addEventListener("click", () => go(i));
    return e;
  }));

  const show = () => {
    const it = item(), none = !told || !told.items.length;
    nothing.hidden = !none;
    for (const e of [queue, stage, side]) e.hidden = none;
    if (none) { nothing.textContent = told?.hidden || "Nobody disagrees, or too few have graded: at least two grades of a subject are needed."; return; }
    list();
    if (!it) return;
    queue.setAttribute("aria-activedescendant", `voorwerp-disputed-${at}`);
    viewer.root.hidden = !told.has_images;
    bare.hidden = told.has_images;
    bare.textContent = it.source_id;
    if (told.has_images) viewer.show(it.row, `Original image of ${it.source_id}`);
    about.textContent = `${it.source_id}`;
    if (typeof it.dispersion === "number") about.append(make("small", "", ` ${told.scheme.level === "nominal" ? "entropy" : "σ"} ${it.dispersion.toFixed(2)}`));
    fill(given, [it], () => it.votes.map(v => {
      const grade = told.scheme.grades.find(g => g.key === v.grade), e = make("div", "vote");
      put(e, grade_cap(told.scheme, v.grade), make("b", "", v.who), make("span", "what", grade?.name ?? "cannot judge"), v.interesting ? make("span", "star", "interesting") : null);
      for (const note of v.notes ?? []) e.append(make("p", "note", note));
      return e;
    }).concat(it.tags?.length ? [make("p", "tags", it.tags.map(t => `#${t}`).join("  "))] : []));
    fill(keys, [told.scheme, it.adjudicated, may, busy], () => [...told.scheme.grades, {key: "Q", name: "cannot be judged", definition: "Nobody can tell from this image."}].map(g => {
      const e = button("key", "", () => decide(g.key), g.definition);
      e.disabled = !may;
      e.setAttribute("aria-pressed", it.adjudicated?.grade === g.key);
      return put(e, cap(g.key), put(make("span", "words"), make("b", "", g.name), make("small", "", g.definition)));
    }));
    undo.disabled = !may || !told.can_undo;
    if (!may) said.textContent = "Deciding takes a vetter.";
  };
  const go = i => {
    if (!told?.items.length) return;
    at = Math.max(0, Math.min(told.items.length - 1, i));
    since = performance.now();
    said.textContent = "";
    show();
    queue.children[at]?.scrollIntoView({block: "nearest"});
  };
  const read = async () => {
    const id = campaign, found = await ask(`campaigns/${id}/adjudication`);
    if (id !== campaign) return;
    const row = item()?.row, place = new Map(told?.items.map((it, i) => [it.row, i]) ?? []);
    const at_of = it => place.get(it.row) ?? Infinity; // who was decided stays where it was, as long as one looks
    if (place.size) found.items = found.items.map((it, i) => [at_of(it), i, it]).sort((a, b) => a[0] === b[0] ? a[1] - b[1] : a[0] - b[0]).map(([, , it]) => it);
    told = found;
    may = told.may_vote;
    at = Math.max(0, told.items.findIndex(it => it.row === row));
    if (row === undefined && told.items.length) at = told.items[0].adjudicated ? next_open(0) : 0;
    since ||= performance.now();
    show();
  };
  const decide = async grade => {
    const it = item();
    if (!it || busy || !may) return;
    busy = true;
    const seconds = Math.max(0, (performance.now() - since) / 1000);
    try {
      const answer = await post("adjudicate", {id: campaign, row: it.row, grade, seconds, client_id: uuid()});
      it.adjudicated = answer.adjudicated;
      told.can_undo = true;
      busy = false;
      const words = `${it.source_id}: ${grade === "Q" ? "cannot be judged" : told.scheme.grades.find(g => g.key === grade).name}, kept`;
      go(next_open(at));
      said.textContent = words;
      changed();
    } catch (error) {
      busy = false;
      said.textContent = sentence(error);
    }
  };
  const take_back = async () => {
    if (busy || !told?.can_undo) return;
    busy = true;
    try {
      const answer = await post("adjudicate", {id: campaign, undo: true, client_id: uuid()});
      busy = false;
      const i = told.items.findIndex(it => it.row === answer.row);
      if (i >= 0) { told.items[i].adjudicated = answer.adjudicated; at = i; }
      told.can_undo = answer.can_undo;
      go(at);
      said.textContent = i >= 0 ? `${told.items[i].source_id}: taken back` : "taken back";
      changed();
    } catch (error) {
      busy = false;
      said.textContent = sentence(error);
    }
  };

  return {
    root,
    async open(id) { if (id !== campaign) { campaign = id; told = null; at = -1; since = 0; } await read(); },
    words: () => told ? many(told.items.filter(it => !it.adjudicated).length, "subject") : "",
    /** Whether a key was meant for here. */
    key(e) {
      if (!told?.items.length) return false;
      const key = e.key.toUpperCase();
      if (e.key === "ArrowDown" || e.key === "ArrowRight") go(at + 1);
      else if (e.key === "ArrowUp" || e.key === "ArrowLeft") go(at - 1);
      else if (key === "U" && !e.shiftKey) take_back();
      else if (key === "Q" || told.scheme.grades.some(g => g.key === key)) { if (!e.repeat) decide(key); }
      else if (e.key === "Enter" && !/^(BUTTON|A)$/.test(e.target.tagName)) focus(item().row);
      else return false;
      return true;
    },
    remove() { viewer.remove(); },
  };
}
