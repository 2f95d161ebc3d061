// One subject in full: as its source shows it, as the network saw it, what the model made of it, where it stands, what
// people say of it. Every part keeps its place: the next subject's content moves in when it is there.
export function render({model, el}) {
  const make = (tag, name, text) => {
    const e = document.createElement(tag);
    if (name) e.className = name;
    if (text !== undefined) e.textContent = text;
    return e;
  };
  const button = (text, title, act, name = "") => {
    const e = make("button", name, text);
    e.type = "button";
    e.title = title;
    e.setAttribute("aria-label", title);
    e.addEventListener("click", act);
    return e;
  };
  const whole = v => Math.round(v).toLocaleString("en");
  const when = at => at.slice(0, 16).replace("T", " ");
  const {commands, format} = window.voorwerp;
  const forget = [];

  const root = make("div", "subject"), hint = make("p", "hint"), head = make("div", "title"), home = make("div", "home"), rest = make("div", "rest");
  head.setAttribute("aria-live", "polite");
  root.append(hint, head, home, rest);
  head.hidden = home.hidden = rest.hidden = true;  // until there is a subject

  // the enlarged view: the same viewer, moved to a dialog that follows the focus
  const dialog = make("dialog", "enlarged");
  dialog.tabIndex = -1;
  dialog.setAttribute("aria-label", "Subject, enlarged");
  const side = make("div", "beside");
  const close = button("✕", "Close (Esc)", () => dialog.close(), "close");
  const has_row = () => model.row !== null && model.row !== undefined;
  const enlarge = () => {
    if (!model.has_images || !has_row()) return;
    if (dialog.open) { dialog.close(); return; }
    dialog.prepend(viewer.root);
    viewer.root.classList.add("large");
    tell();
    dialog.showModal();
    dialog.focus();  // not its first control: arrow keys walk on
    viewer.refresh();
  };
  const viewer = window.voorwerpViewer(make("div"), {enlarge});
  dialog.append(side, close);
  dialog.addEventListener("close", () => {
    home.append(viewer.root);
    viewer.root.classList.remove("large");
    side.replaceChildren();
    viewer.refresh();
  });
  home.append(viewer.root);
  el.append(root, dialog);
  let latest = 0, shown = null;
  const tell = () => {
    if (shown) side.replaceChildren(...heading(shown), sky_of(shown), ...scores_of(shown), make("p", "quiet keys", "← → walk the gallery · wheel zooms, drag moves · I inverts, O outlines the crop · Esc closes"));
  };

  // ----------------------------------------------------------------------------------------------------- sections
  const KEPT = "voorwerp-sections";
  const kept = () => { try { return JSON.parse(localStorage.getItem(KEPT)) ?? {}; } catch { return {}; } };
  const section = (name, title, open = true) => {
    const part = make("details", "section"), summary = make("summary"), count = make("span", "count"), body = make("div", "body");
    summary.append(make("span", "", title), count);
    part.append(summary, body);
    part.open = kept()[name] ?? open;
    part.addEventListener("toggle", () => { try { localStorage.setItem(KEPT, JSON.stringify({...kept(), [name]: part.open})); } catch { /* a browser that keeps nothing */ } });
    return Object.assign(part, {body, count});
  };
  const pictures = make("div", "pictures"), tags = make("div", "tags"), sky = make("div");
  const scores = section("scores", "Scores"), notes = section("notes", "Notes"), near = section("near", "Nearest");
  const columns = section("columns", "Columns"), history = section("history", "History", false);
  const crowd = section("crowd", "Volunteers"), talk = section("talk", "Talk");
  rest.append(pictures, tags, sky, scores, crowd, talk, notes, near, columns, history);

  // ------------------------------------------------------------------------------------------------ before, after
  const trail = {past: [], next: [], at: null};
  const back = button("‹", "The subject before", () => step(trail.past, trail.next)), forth = button("›", "The subject after it", () => step(trail.next, trail.past));
  const step = (from, to) => {
    if (!from.length) return;
    to.push(trail.at);
    trail.at = from.pop();
    model.row = trail.at;
  };
  const walked = () => {
    if (has_row() && model.row !== trail.at) {
      if (trail.at !== null) trail.past.push(trail.at);
      trail.past.splice(0, trail.past.length - 200);
      trail.next = [];
      trail.at = model.row;
    }
    back.disabled = !trail.past.length;
    forth.disabled = !trail.next.length;
  };

  // -------------------------------------------------------------------------------------------------------- links
  const copied = make("span", "quiet copied");
  copied.setAttribute("role", "status");
  let fading = 0;
  const copy = async (text, words) => {
    try {
      await navigator.clipboard.writeText(text);
      copied.textContent = words;
    } catch {
      copied.textContent = "the browser does not let this page copy";
    }
    clearTimeout(fading);
    fading = setTimeout(() => { copied.textContent = ""; }, 4000);
  };
  const copy_link = () => {
    const url = new URL(location.href);
    url.searchParams.set("subject", shown.source_id);
    copy(url.href, "link copied");
  };
  const copy_id = () => copy(shown.source_id, "id copied");
  const trail_line = make("div", "trail");
  trail_line.append(back, forth, button("Copy link", "Copy a link to this view and subject", copy_link), button("Copy id", "Copy the id", copy_id), copied);

  // ----------------------------------------------------------------------------------------------------- pictures
  // one figure each for good: a picture stays, dimmed, until the next one is there
  const figures = {};
  const figure = (name, title, alt) => {
    const e = make("figure"), image = new Image(), caption = make("figcaption"), words = make("span", "", title), sum = make("span", "sum");
    image.alt = alt;
    caption.append(words, ...name === "feature" ? [sum] : []);
    const done = ok => {
      e.classList.remove("waiting");
      e.classList.toggle("gone", !ok);
      words.textContent = ok ? e.dataset.title : `${e.dataset.title}: not available`;
      if (!ok) sum.textContent = "";
    };
    image.addEventListener("load", () => done(true));
    image.addEventListener("error", () => done(false));
    e.append(image, caption);
    e.dataset.title = title;
    figures[name] = {e, image, sum};
    return e;
  };
  pictures.append(
    figure("crop", "Crop", "Crop that the network sees"), figure("reconstruction", "Reconstruction", "What the model makes of it"),
    figure("residual", "Residual", "Absolute difference of crop and reconstruction"),
    figure("feature", "Feature residual", "Where the critic sees a difference between crop and reconstruction"));
  figures.feature.e.title = "Where the critic’s features of crop and reconstruction differ: squared, summed over channels, weighted as in the score, in the cells of its feature maps; black is 0, brightest the highest here. It sums to the feature score.";
  const put = (name, src) => {
    const {e, image, sum} = figures[name];
    if (e.dataset.src === src) return;
    e.dataset.src = src;
    e.classList.add("waiting");
    if (name !== "feature") { image.src = src; return; }
    fetch(src, {credentials: "same-origin"}).then(async answer => {  // the sum over its cells comes in a header
      if (!answer.ok) throw new Error();
      const url = URL.createObjectURL(await answer.blob());
      if (e.dataset.src !== src) { URL.revokeObjectURL(url); return; }
      image.addEventListener("load", () => URL.revokeObjectURL(url), {once: true});
      image.src = url;
      sum.textContent = `sum ${format(Number(answer.headers.get("X-Sum")))}`;
    }).catch(() => { if (e.dataset.src === src) image.dispatchEvent(new Event("error")); });
  };
  const show_pictures = subject => {
    pictures.hidden = !model.has_images;
    if (pictures.hidden) return;
    pictures.classList.toggle("four", model.reconstructs);
    figures.crop.e.dataset.title = `Crop, ${subject.size} px`;
    for (const name of ["reconstruction", "residual", "feature"]) figures[name].e.hidden = !model.reconstructs;
    put("crop", `crops/${subject.row}`);
    if (!model.reconstructs) return;
    const of_run = `run=${encodeURIComponent(model.run_id)}`;
    put("reconstruction", `reconstructions/${subject.row}?${of_run}`);
    put("residual", `residuals/${subject.row}?${of_run}`);
    put("feature", `feature-residuals/${subject.row}?${of_run}`);
  };

  // ------------------------------------------------------------------------------------------------------- scores
  // rounded down: 100 would be above all of them; near the ends with as many digits as tell it from 0 and 100
  const percentile = (below, of) => {
    const p = 100 * below / of, apart = Math.min(p || 100, 100 - p);
    const scale = 10 ** (apart >= 0.1 ? 1 : Math.min(5, 1 + Math.ceil(-Math.log10(apart))));
    return (Math.floor(p * scale + 1e-6) / scale).toFixed(Math.log10(scale));
  };
  const standing = (below, of) => `percentile ${percentile(below, of)} · above ${below.toLocaleString("en")} of ${of.toLocaleString("en")}`;
  const mixed_by = (lambda, mode) => `λ ${lambda}${mode === "raw" ? "" : `, ${mode}`}`;

  const scores_of = subject => {
    const table = make("div", "scores");
    for (const s of subject.scores) {
      const line = make("div", "score");
      line.append(make("span", "name", s.mixed ? `${s.title} (${mixed_by(model.lambda_, model.lambda_mode)})` : s.title));
      line.append(make("span", "value", s.value === null ? "missing" : format(s.value)));
      const track = make("span", "track"), fill = make("i");
      fill.style.width = s.of && s.value !== null ? `${100 * s.below / s.of}%` : "0";
      track.append(fill);
      line.append(track, make("span", "quiet", s.value === null ? "" : standing(s.below, s.of)));
      table.append(line);
    }
    if (subject.rank) {
      const {mean, spread, of, n_runs, settings, is_fragile} = subject.rank;
      const line = make("div", "rank", `rank ${whole(mean)} ± ${whole(spread)} of ${whole(of)} over ${n_runs} runs`);
      if (is_fragile) {
        const word = make("b", "", " · fragile");
        word.title = "In the top 1 % of some of the runs and not of all";
        line.append(word);
      }
      const told = make("div", "quiet settings", `1 is the most anomalous. Each run as it was scored${settings.length ? `: ${settings.slice(0, 4).join("; ")}${settings.length > 4 ? ` and ${settings.length - 4} more` : ""}` : ""}; the slider of λ does not matter here`);
      table.prepend(line, told);
    }
    const {knn_percentile} = subject.place;
    if (knn_percentile !== null) {
      const far = make("div", "quiet", `Distance to its latent neighbors: percentile ${knn_percentile.toFixed(knn_percentile > 99 && knn_percentile < 100 ? 2 : 0)} of the map’s subjects`);
      far.title = "Of the mean distance to the nearest subjects that shaped the map; beyond 99.9 a subject placed by its neighbors is off the map";
      table.append(far);
    }
    const seen = {train: "The model was trained on this subject", validation: "Held out for validation", unseen: "Not seen in training"}[subject.split] ?? subject.split;
    const quality = subject.quality && subject.quality !== "ok" ? subject.quality : "";
    if (seen || quality) table.append(make("div", "quiet", [seen, quality].filter(Boolean).join(" · ")));
    return table.childElementCount ? [table] : [];
  };

  const sky_of = subject => {
    const sky = make("div", "sky");
    if (!subject.sky) return sky;
    sky.append(make("div", "place", subject.sky.text));
    const links = make("div", "links");
    for (const {title, url} of subject.sky.links) {
      const a = make("a", "", title);
      Object.assign(a, {href: url, target: "_blank", rel: "noopener noreferrer"});
      links.append(a);
    }
    const point = button("SAMP", "Point Aladin, TOPCAT or DS9 on this machine here", () => model.send_msg({point: true}));
    if (model.has_samp) links.append(point);
    sky.append(links, make("div", "quiet said"));
    return sky;
  };

  const heading = subject => {
    const parts = [make("h2", "", subject.source_id)];
    if (subject.subject_id !== subject.source_id) parts.push(make("span", "quiet", `subject ${subject.subject_id}`));
    if (subject.is_known) parts.push(make("span", "badge", "known object"));
    if (subject.place.is_off_map) parts.push(make("span", "badge warm", "off the map"));
    if (subject.is_withdrawn) parts.push(make("span", "badge", "withdrawn"));
    return parts;
  };

  // ---------------------------------------------------------------------------------------------------- decisions
  // asked of the server with a UUID of its own; on screen it is kept when the answer says so
  const uuid = () => {
    const b = crypto.getRandomValues(new Uint8Array(16));
    b[6] = b[6] & 15 | 64;
    b[8] = b[8] & 63 | 128;
    const hex = [...b].map(v => v.toString(16).padStart(2, "0")).join("");
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
  };
  const waiting = new Map();  // UUID → what to do with the answer
  const UNDO_MS = 10_000;
  const status_line = () => {
    const line = make("div", "decided quiet"), words = make("span"), undo = button("Undo", "Take it back", () => {}, "word");
    line.setAttribute("role", "status");
    line.append(words, undo);
    undo.hidden = true;
    let timer = 0, back = null;
    undo.addEventListener("click", () => back?.());
    return {
      line,
      say(text, {error = false, take_back = null} = {}) {
        clearTimeout(timer);
        words.textContent = text;
        line.classList.toggle("warm", error);
        back = take_back;
        undo.hidden = !take_back;
        if (text && !error) timer = setTimeout(() => this.say(""), UNDO_MS);
      },
    };
  };
  const decide = (told, status, then = () => {}) => {
    const id = uuid(), row = told.row;
    status.say("…");
    waiting.set(id, answer => {
      if (answer.error) status.say(answer.error, {error: true});
      else {
        const again = told.decide === "undo" || answer.undo === undefined ? null : () => decide({decide: "undo", entry: answer.undo, row}, status);
        status.say(answer.said, {take_back: again});
      }
      then(!answer.error);
    });
    model.send_msg({...told, id});
  };
  const answered = () => {
    const answer = model.decided, act = waiting.get(answer.id);
    waiting.delete(answer.id);
    act?.(answer);
    ask_history();
  };

  // --------------------------------------------------------------------------------------------------------- tags
  const chips = make("div", "chips"), known = make("datalist"), tag_box = make("input"), tag_status = status_line();
  known.id = "voorwerp-known-tags";
  Object.assign(tag_box, {type: "text", maxLength: 60, placeholder: "add a tag", title: "A word or a short phrase; Enter keeps it (T)", autocomplete: "off", spellcheck: false});
  tag_box.setAttribute("list", known.id);
  tag_box.setAttribute("aria-label", "Add a tag");
  tags.append(chips, known, tag_status.line);
  chips.append(tag_box);
  tag_box.addEventListener("keydown", e => {
    if (e.key === "Escape") { tag_box.value = ""; tag_box.blur(); }
    if (e.key !== "Enter" || e.isComposing || !tag_box.value.trim()) return;
    e.preventDefault();
    const typed = tag_box.value;
    decide({decide: "tag", tag: typed, row: model.own.row}, tag_status, ok => { if (ok && tag_box.value === typed) tag_box.value = ""; });
  });
  const show_tags = () => {
    const own = model.own;
    for (const chip of [...chips.querySelectorAll(".chip")]) chip.remove();
    for (const {tag, at, who} of own.tags ?? []) {
      const chip = make("span", "chip"), n = own.known?.[tag];
      const all = button(tag, `Select what has the tag “${tag}”${n ? `: ${n.toLocaleString("en")}` : ""}`, () => { found_status.say("Looking …"); model.send_msg({tagged: tag}); }, "name");
      all.title = `${all.title} (given by ${who}, ${when(at)} UTC)`;
      chip.append(all, button("×", `Remove the tag “${tag}”`, () => decide({decide: "untag", tag, row: own.row}, tag_status)));
      tag_box.before(chip);
    }
    const has = new Set((own.tags ?? []).map(t => t.tag));
    known.replaceChildren(...Object.entries(own.known ?? {}).filter(([tag]) => !has.has(tag)).map(([tag, n]) => new Option(n === 1 ? "1 subject" : `${n.toLocaleString("en")} subjects`, tag)));
  };

  // -------------------------------------------------------------------------------------------------------- notes
  const list = make("div", "list"), note_box = make("textarea"), note_status = status_line(), keep = button("Keep", "Keep the note (Ctrl+Enter)", () => keep_note(), "keep");
  const under = make("div", "under");
  Object.assign(note_box, {rows: 2, maxLength: 4000, placeholder: "Write a note", title: "Ctrl+Enter keeps it, Esc leaves (N)"});
  note_box.setAttribute("aria-label", "Note");
  under.append(note_status.line, keep);
  notes.body.append(list, note_box, under);
  const drafts = new Map();  // row → {text, note}: what is typed belongs to the subject it was typed for
  let typed_for = null;
  const draft = () => {
    if (typed_for === model.own.row) return;
    if (typed_for !== null) note_box.value.trim() ? drafts.set(typed_for, {text: note_box.value, note: editing}) : drafts.delete(typed_for);
    typed_for = model.own.row ?? null;
    const mine = drafts.get(typed_for);
    edit(mine?.note ?? null, mine?.text ?? "");
    note_status.say("");
    tag_status.say("");
  };
  let editing = null;
  const edit = (note, text) => {
    editing = note;
    note_box.value = text;
    keep.textContent = note === null ? "Keep" : "Keep the change";
    fit();
  };
  const fit = () => {
    note_box.style.height = "auto";
    note_box.style.height = `${Math.min(note_box.scrollHeight + 2, 260)}px`;
    keep.disabled = !note_box.value.trim();
  };
  const keep_note = () => {
    const text = note_box.value, row = typed_for, note = editing;
    if (!text.trim()) return;
    const told = note === null ? {decide: "note", text, row} : {decide: "edit", note, text, row};
    decide(told, note_status, ok => {
      if (!ok) return;
      drafts.delete(row);
      if (typed_for === row && note_box.value === text) edit(null, "");
    });
  };
  note_box.addEventListener("input", fit);
  note_box.addEventListener("keydown", e => {
    if (e.key === "Escape") { if (editing !== null) edit(null, ""); note_box.blur(); }
    if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) { e.preventDefault(); keep_note(); }
  });
  const show_notes = () => {
    const {notes: there = [], row} = model.own;
    list.replaceChildren(...there.map(n => {
      const e = make("div", "note"), line = make("div", "quiet line");
      line.append(make("span", "", `${n.who} · ${when(n.at)} UTC${n.is_edited ? " · edited" : ""}`));
      line.append(
        button("Edit", "Edit this note", () => { edit(n.id, n.text); note_box.focus(); }, "word"),
        button("Delete", "Delete this note", () => decide({decide: "delete", note: n.id, row}, note_status), "word"));
      e.append(make("div", "text", n.text), line);
      return e;
    }));
    notes.count.textContent = there.length || "";
  };
  const show_own = () => {
    if ((model.own.row ?? null) !== (model.row ?? null)) return;
    draft();
    show_tags();
    show_notes();
  };

  // --------------------------------------------------------------------------------------------------- volunteers
  const share = v => v === null || v === undefined ? "–" : v.toFixed(2).replace(/^0\./, ".");
  const show_crowd = ({crowd: said}) => {
    crowd.hidden = !said;
    if (!said) return;
    const parts = [], what = said.basis === "views" ? "views" : "volunteers";
    if (said.is_simulated) parts.push(make("p", "decided warm", "Simulated votes"));
    crowd.count.textContent = said.n_votes ? `${said.n_chosen} of ${said.n_votes} ${what}` : "nobody asked yet";
    if (said.n_votes) {
      const line = make("div", "score"), track = make("span", "track share"), range = make("i"), at = make("b");
      range.style.left = `${100 * said.chosen_low}%`;
      range.style.width = `${100 * (said.chosen_high - said.chosen_low)}%`;
      at.style.left = `${100 * said.chosen_fraction}%`;
      track.append(range, at);
      track.setAttribute("role", "img");
      track.setAttribute("aria-label", `${share(said.chosen_fraction)}, 95 % interval ${share(said.chosen_low)} to ${share(said.chosen_high)}`);
      line.append(make("span", "name", said.answer), make("span", "value", share(said.chosen_fraction)), track,
        make("span", "quiet", `${said.n_chosen} of ${said.n_votes} ${what} · 95 %: ${share(said.chosen_low)} to ${share(said.chosen_high)}`));
      parts.push(line);
      const cells = make("dl", "columns"), tell = (name, value, title) => { const e = make("dd", "", value); e.title = title; cells.append(make("dt", "", name), e); };
      if (said.weighted_chosen_fraction !== null) tell("weighted", `${share(said.weighted_chosen_fraction)} of ${said.n_effective.toFixed(1)} effective`, "The chosen fraction by weight; so many equal votes are worth as much");
      for (const [name, value] of said.answers) tell(name.replace(/^fraction_/, "").replaceAll("_", " "), share(value), "Share of those asked that gave this answer");
      if (said.vote_entropy !== null) tell("entropy", `${said.vote_entropy.toFixed(2)} bit`, "How divided the answers are: 0 where all agree");
      if (said.swap_probability !== null) tell("by skill (SWAP)", share(said.swap_probability), "Probability that the answer is right, from who said what and how skilled they are");
      if (said.n_classifications !== said.n_votes) tell("seen", `${said.n_classifications} times`, "Classifications, with those of who saw it again");
      parts.push(cells);
    }
    parts.push(make("p", "quiet none", said.title));
    crowd.body.replaceChildren(...parts);
  };

  // --------------------------------------------------------------------------------------------------------- talk
  // what volunteers wrote: always as text, a link too
  const FIRST_COMMENTS = 3;
  const counted = (n, thing) => `${n.toLocaleString("en")} ${thing}${n === 1 ? "" : "s"}`;
  const who_of = who => {
    const e = make("span", "who", who ? who.slice(0, 8) : "someone");
    e.title = who ? `Volunteer ${who}: a hash, no name is kept` : "The export does not say who";
    return e;
  };
  const talk_status = status_line(), tag_lines = make("div", "said-tags"), comments = make("div", "list"), more = button("", "", () => { unfolded = !unfolded; fold(); }, "word more");
  const trouble = make("p", "decided warm"), silent = make("p", "quiet none", "Nobody has said anything of this subject.");
  talk.body.append(trouble, silent, tag_lines, talk_status.line, comments, more);
  let unfolded = false;
  const fold = () => {
    talk.classList.toggle("all", unfolded);
    [...comments.children].forEach((e, i) => { e.hidden = !unfolded && i >= FIRST_COMMENTS; });
    const is_cut = [...comments.querySelectorAll(".text")].some(e => e.scrollHeight > e.clientHeight + 1);
    more.hidden = !unfolded && !is_cut && comments.childElementCount <= FIRST_COMMENTS;
    more.textContent = unfolded ? "Show less" : comments.childElementCount > FIRST_COMMENTS ? `Show all ${comments.childElementCount} comments` : "Show all of it";
    more.title = more.textContent;
    more.setAttribute("aria-label", more.textContent);
  };
  talk.addEventListener("toggle", () => fold());
  const show_talk = ({row, talk: said}) => {
    talk.hidden = !said;
    if (!said) return;
    const groups = new Map();
    for (const tag of said.tags) groups.set(tag.group, [...groups.get(tag.group) ?? [], tag]);
    tag_lines.replaceChildren(...[...groups].map(([group, given]) => {
      const line = make("div", "said-tag"), raw = [...new Set(given.map(t => t.tag))].filter(t => t !== group), n = given[0].n_subjects;
      const chip = make("span", "chip");
      chip.append(button(group, `Select what has the tag “${group}” on Talk: ${n.toLocaleString("en")}`, () => {
        talk_status.say("Looking …");
        asked_talk = true;
        model.send_msg({talk: group});
      }, "name"));
      const words = make("span", "quiet", raw.length ? `${raw.map(t => `“${t}”`).join(", ")} by ` : "by ");
      [...new Set(given.map(t => t.who))].forEach((who, i) => words.append(i ? ", " : "", who_of(who)));
      line.append(chip, words);
      return line;
    }));
    comments.replaceChildren(...said.comments.map(c => {
      const e = make("div", "note"), line = make("div", "quiet line"), by = make("span");
      by.append(who_of(c.who), c.at ? ` · ${when(c.at)} UTC` : "");
      line.append(by);
      e.append(make("div", "text", c.text), line);
      return e;
    }));
    const n_tags = said.tags.length, n_comments = said.comments.length;
    talk.count.textContent = [n_tags && counted(n_tags, "tag"), n_comments && counted(n_comments, "comment")].filter(Boolean).join(" · ") || "nothing";
    trouble.textContent = said.trouble;
    trouble.hidden = !said.trouble;
    silent.hidden = n_tags + n_comments > 0;
    if (row !== talked) unfolded = false;
    talked = row;
    fold();
  };
  let talked = null, asked_talk = false;

  // ------------------------------------------------------------------------------------------------------ nearest
  const by = make("select"), how_many = make("select"), strip = make("div"), near_note = make("p", "quiet none"), found_status = status_line();
  by.setAttribute("aria-label", "Nearest by");
  by.title = "Nearest by";
  how_many.setAttribute("aria-label", "How many of the nearest");
  for (const n of [12, 50, 200, 1000]) how_many.append(new Option(n.toLocaleString("en"), n));
  how_many.value = 50;
  const take = make("div", "take"), choose = button("Select the", "Put the nearest into the selection, as Replace, Add, Subtract or Intersect say", () => {
    found_status.say("Looking …");
    model.send_msg({nearest: by.value, k: Number(how_many.value), row: model.row});
  });
  take.append(choose, how_many, make("span", "", "nearest"));
  near.body.append(by, strip, near_note, take, found_status.line);
  const offer = () => {
    const before = by.value || "latent";
    by.replaceChildren(new Option("by latent vector", "latent"), ...Object.entries(model.axes).map(([reference, title]) => new Option(`by ${title}`, reference)));
    by.value = before === "latent" || before in model.axes ? before : "latent";
  };
  const tiles = [];
  const show_near = (found, words) => {
    strip.className = model.has_images ? "neighbours" : "neighbours named";
    while (tiles.length < found.length) {
      const tile = make("button", "tile");
      tile.type = "button";
      if (model.has_images) tile.append(new Image());
      tile.addEventListener("click", () => { model.row = Number(tile.dataset.row); });
      tiles.push(tile);
    }
    strip.replaceChildren(...tiles.slice(0, found.length));
    found.forEach((n, i) => {
      const tile = tiles[i];
      tile.dataset.row = n.row;
      tile.title = `${n.source_id} · ${words(n)}`;
      if (model.has_images) {
        tile.firstChild.alt = n.source_id;
        if (!tile.firstChild.src.endsWith(`/thumbnails/${n.row}`)) tile.firstChild.src = `thumbnails/${n.row}`;
      } else tile.textContent = n.source_id;
    });
    choose.disabled = !found.length;
  };
  let resting = 0;
  const list_near = () => {  // all latent vectors are compared: not while someone walks past
    if (!shown) return;
    clearTimeout(resting);
    strip.classList.add("waiting");
    near_note.textContent = "Looking …";
    resting = setTimeout(() => model.send_msg({alike: by.value, row: shown.row}), 80);
  };
  const show_alike = () => {
    const answer = model.alike;
    if (answer.row !== shown?.row || answer.by !== by.value) return;
    const latent = answer.by === "latent", name = latent ? "distance" : model.axes[answer.by] ?? answer.by;
    show_near(answer.near, n => `${name} ${format(n.value)}`);
    const none = latent ? "These scores have no latent vector of this subject: choose a column." : "This subject has no value there.";
    near_note.textContent = answer.error ?? (answer.near.length ? "" : none);
  };
  by.addEventListener("change", list_near);

  // ------------------------------------------------------------------------------------------------------ history
  const events = make("ol", "events");
  history.body.append(events);
  let asking = 0;
  const ask_history = () => {
    clearTimeout(asking);
    asking = setTimeout(() => { if (has_row()) model.send_msg({history: model.row}); }, 300);
  };
  const show_history = () => {
    if (model.history.row !== model.row) return;
    const told = model.history.events;
    history.count.textContent = told.length || "";
    events.replaceChildren(...told.map(event => {
      const e = make("li", event.is_undone ? "undone" : ""), s = event.standing;
      e.append(make("span", "quiet", event.who ? `${when(event.at)} · ${event.who}` : when(event.at)));
      e.append(make("span", "what", event.kind === "score" ? `${event.what} ${format(s.value)} · ${standing(s.below, s.of)}` : event.what));
      if (event.kind === "score") e.append(make("span", "quiet", s.lambda === null ? s.run_id : `${s.run_id} · ${mixed_by(s.lambda, s.lambda_mode)}`));
      return e;
    }));
  };

  // ------------------------------------------------------------------------------------------------------ columns
  const show_columns = subject => {
    columns.hidden = !subject.columns.length;
    const cells = make("dl", "columns");
    for (const c of subject.columns) {
      const value = make("dd", "", c.kind === "number" && !/^-?\d+$/.test(c.value) ? String(Number(Number(c.value).toPrecision(8))) : c.value);
      value.title = c.value;
      cells.append(make("dt", "", c.unit ? `${c.name} (${c.unit})` : c.name), value);
    }
    columns.body.replaceChildren(cells);
  };

  const nothing = text => {
    hint.textContent = text;
    hint.hidden = false;
    head.hidden = home.hidden = rest.hidden = true;
    if (dialog.open) dialog.close();
  };

  const draw = async () => {
    const mine = ++latest;
    if (!has_row()) { nothing(model.hint); return; }
    walked();
    const query = new URLSearchParams({run: model.run_id, lambda: model.lambda_, lambda_mode: model.lambda_mode, map: model.map_id});
    let subject;
    try {
      if (model.has_images) viewer.show(model.row, "Original image of the subject");
      const answer = await fetch(`subject/${model.row}?${query}`, {credentials: "same-origin"});
      subject = await answer.json();
      if (!answer.ok) throw new Error(subject.error);
    } catch (error) {
      if (mine === latest) nothing(`This subject could not be read: ${error.message}.`);
      return;
    }
    if (mine !== latest) return;
    hint.hidden = true;
    head.hidden = rest.hidden = false;
    home.hidden = !model.has_images;
    if (shown?.row !== subject.row && root.getRootNode().activeElement !== note_box) root.scrollTop = 0;  // its picture is seen first
    shown = subject;
    head.replaceChildren(...heading(subject), trail_line);
    if (dialog.open) tell();
    if (model.has_images) viewer.show(model.row, `Original image of ${subject.source_id}`);
    show_pictures(subject);
    sky.replaceChildren(...subject.sky ? [sky_of(subject)] : []);
    const said = scores_of(subject);
    scores.hidden = !said.length;
    scores.body.replaceChildren(...said);
    list_near();
    show_crowd(subject);
    show_talk(subject);
    show_columns(subject);
    show_own();
    ask_history();
  };

  // --------------------------------------------------------------------------------------------------------- keys
  const key = (id, title, letter, run, when_so = () => true, dialog = false) => forget.push(commands.add({id, title, group: "Subject", key: letter, run, dialog, when: () => has_row() && when_so()}));
  const to = (part, box) => { part.open = true; box.focus(); box.scrollIntoView({block: "nearest"}); };
  const pictured = () => model.has_images;
  key("subject-enlarge", "Enlarge the picture", "z", enlarge, pictured, true);
  key("subject-invert", "Invert the picture", "i", () => viewer.toggle("invert"), pictured, true);
  key("subject-outline", "Outline what the network sees", "o", () => viewer.toggle("outline"), pictured, true);
  key("subject-tag", "Tag the subject", "t", () => to(tags, tag_box));
  key("subject-note", "Write a note on the subject", "n", () => to(notes, note_box));
  key("subject-before", "The subject before", undefined, () => back.click(), () => trail.past.length > 0);
  key("subject-after", "The subject after it", undefined, () => forth.click(), () => trail.next.length > 0);
  key("subject-link", "Copy a link to this view and subject", undefined, copy_link, () => shown !== null);
  key("subject-id", "Copy the subject’s id", undefined, copy_id, () => shown !== null);
  key("subject-near", "Select the nearest", undefined, () => choose.click(), () => !choose.disabled);

  const asked = () => enlarge();
  window.addEventListener("voorwerp-enlarge", asked);
  let pause = 0;
  model.on(["row", "run_id", "map_id", "lambda_mode", "reconstructs", "hint", "read"], draw);
  model.on("answered", () => { for (const said of el.querySelectorAll(".said")) said.textContent = model.said; });
  model.on("lambda_", () => { clearTimeout(pause); pause = setTimeout(draw, 120); });
  model.on("axes", () => { offer(); list_near(); });
  model.on("own", show_own);
  model.on("decided", answered);
  model.on("alike", show_alike);
  model.on("found", () => {  // said where it was asked
    (asked_talk ? talk_status : found_status).say(model.found.said);
    asked_talk = false;
  });
  model.on("history", show_history);
  model.on("remove", () => {
    for (const gone of forget) gone();
    clearTimeout(asking);
    clearTimeout(resting);
    window.removeEventListener("voorwerp-enlarge", asked);
    viewer.remove();
  });
  offer();
  draw();
}
