// The sheet of campaigns: what experts are asked, how far they are, what they found, how much they agree, what they
// dispute, and what is left to find. Asks /campaigns while it is open. What selects or takes the focus is sent to the
// session through `door`; what decides is sent to the server, which answers when it is kept.
import {adjudicating} from "./adjudication.js";
import {planning} from "./campaign_form.js";
import {Chart, button, fill, grade_cap, hours, make, many, part, percent, picture, put, rate_bar, rated, scale, sentence, shade, ticks, upper, uuid, whole, worth} from "./campaign_parts.js";

const POLL = 2000; // ms
const LISTED = 400; // subjects in the table of outcomes
const TABS = [["results", "Results"], ["outcomes", "Outcomes"], ["agreement", "Agreement"], ["adjudication", "Adjudication"], ["left", "What is left"]];
const FOLLOWED = {confirmed: "✓ confirmed", rejected: "✕ rejected", open: "open"};

export async function campaigns(home, door) {
  const style = make("link");
  Object.assign(style, {rel: "stylesheet", href: new URL("assets/campaigns.css", document.baseURI).href});
  const styled = new Promise(done => { style.onload = style.onerror = done; });
  const dialog = make("dialog", "campaigns");
  dialog.tabIndex = -1;
  dialog.setAttribute("aria-label", "Vetting");

  let all = null;      // what /campaigns says
  let detail = null;   // what /campaigns/ID says of the chosen one
  let chosen = "", tab = "results", planned = false, timer = 0, reading = 0, last_of = "", last_id = 0;
  const agreed = new Map(), remaining = new Map(); // by campaign and its last entry

  // ------------------------------------------------------------------------------------------------------- asking
  const lost = make("p", "lost"), status = make("p", "status");
  lost.setAttribute("role", "alert");
  status.setAttribute("role", "status");
  const ask = async url => {
    const answer = await fetch(url, {credentials: "same-origin"}), found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    return found;
  };
  let token = "";
  const post = async (what, asked) => {
    for (const again of [false, true]) {
      if (!token || again) token = await (await fetch("token", {credentials: "same-origin"})).text();
      const headers = {"Content-Type": "application/json", "X-Voorwerp-Token": token};
      const answer = await fetch(`campaigns/${what}`, {method: "POST", headers, body: JSON.stringify(asked), credentials: "same-origin"});
      const told = await answer.json();
      if (answer.ok) return told;
      if (answer.status !== 403 || again) throw new Error(told.error); // the server may have been started anew
    }
    return null;
  };
  const guarded = async work => {
    try { const found = await work(); lost.textContent = ""; return found; }
    catch (error) { lost.textContent = sentence(error); return undefined; }
  };
  let quiet = 0;
  const say = (text, back) => {
    clearTimeout(quiet);
    status.replaceChildren(text, ...back ? [" ", button("link", "Undo", back)] : []);
    quiet = setTimeout(() => status.replaceChildren(), back ? 12_000 : 6000);
  };

  const act = message => { dialog.close(); door.send(message); }; // what was asked for is on the page beneath
  const open_rows = which => act({select: which, campaign: chosen});
  const focus = row => act({focus: row});

  // --------------------------------------------------------------------------------------------------------- list
  const nav = make("nav"), list = make("div", "list"), fresh = button("fresh primary", "New", () => plan(), "New campaign (M)"), quick = button("quick", "", () => check());
  nav.setAttribute("aria-label", "Campaigns");
  quick.append(put(make("span"), make("b", "", "Check this selection"), make("small", "", "50 random, 3 graders")), make("kbd", "", "S"));
  nav.append(put(make("header"), make("h2", "", "Vetting"), fresh), list, quick);
  const draw_list = () => {
    if (!all) return;
    const may = all.person.may_make;
    fresh.hidden = !may;
    quick.hidden = !may;
    quick.disabled = !door.n_selected;
    quick.title = door.n_selected ? `Purity of the ${many(door.n_selected, "selected subject")}, by grade` : "Select something first";
    quick.querySelector("small").textContent = door.n_selected ? `${door.n_selected > 50 ? "50 random" : `all ${door.n_selected}`} of ${whole(door.n_selected)}, 3 graders` : "nothing is selected";
    fill(list, [all.campaigns, planned ? "" : chosen], () => all.campaigns.map(c => {
      const e = button("campaign", "", () => choose(c.id)), bar = make("i");
      if (c.id === chosen && !planned) e.setAttribute("aria-current", "true");
      e.classList.toggle("closed", !c.is_open);
      bar.style.width = `${100 * (c.n_wanted ? Math.min(1, c.n_votes / c.n_wanted) : 0)}%`;
      const mine = c.mine && c.is_open && c.mine.n_done < c.mine.n_all && c.mine.n_done ? `you ${whole(c.mine.n_done)} of ${whole(c.mine.n_all)}` : "";
      const state = c.is_open ? mine || (c.n_votes >= c.n_wanted ? "complete" : "") : "closed";
      return put(e, put(make("span", "top"), make("b", "", c.name), make("em", "", state)),
        put(make("span", "progress"), bar), put(make("span", "below"), make("span", "", c.of), make("span", "k", `${whole(c.n_votes)} of ${whole(c.n_wanted)}`)));
    }));
    if (!all.campaigns.length && !planned) list.replaceChildren(make("p", "none", may ? "None yet. Select something on the map, or draw a boundary, and let experts look." : "None yet."));
  };

  // ------------------------------------------------------------------------------------------------------- detail
  const section = make("section"), head = make("header"), title = make("h2"), state = make("span", "state"), acts = make("div", "acts"), about = make("p", "about");
  const tabs = make("div", "tabs"), body = make("div", "body"), empty = make("div", "hint"), one = make("div", "one");
  const grade_link = make("a", "primary"), copy = button("", "Copy link", () => copy_link(), "The link for graders: whoever may come in grades there"), shut = button("", "Close", () => turn_off());
  grade_link.target = "_blank";
  grade_link.rel = "noopener";
  acts.append(grade_link, copy, shut);
  head.append(title, state, acts);
  tabs.setAttribute("role", "tablist");
  for (const [name, text] of TABS) {
    const e = button("", text, () => turn(name));
    Object.assign(e, {id: `voorwerp-vetting-${name}`});
    e.dataset.name = name;
    e.setAttribute("role", "tab");
    tabs.append(e);
  }
  body.setAttribute("role", "tabpanel");
  body.tabIndex = 0;
  const link_of = id => new URL(`vet/${id}`, document.baseURI).href;
  const copy_link = async () => {
    const text = link_of(chosen);
    try { await navigator.clipboard.writeText(text); say("Link copied."); }
    catch { // not there on plain http
      const box = put(make("textarea"), text);
      dialog.append(box);
      box.select();
      const done = document.execCommand("copy");
      box.remove();
      say(done ? "Link copied." : text);
    }
  };
  const turn_off = () => guarded(async () => {
    const is_open = detail.is_open, id = chosen;
    await post("close", {id, open: !is_open, client_id: uuid()});
    await read();
    say(is_open ? "Closed: nobody grades any more." : "Open again.", async () => { await guarded(() => post("close", {id, open: is_open, client_id: uuid()})); read(); });
  });

  const draw_head = () => {
    const d = detail;
    title.textContent = d.name;
    state.textContent = d.is_open ? "open" : "closed";
    state.className = `state ${d.is_open ? "running" : ""}`;
    fill(about, d.about, () => d.about.map(text => make("span", "", text)));
    const left = d.mine ? d.mine.n_all - d.mine.n_done : 0;
    grade_link.href = link_of(d.id);
    grade_link.replaceChildren("Grade", make("kbd", "", "G"), d.mine?.n_done ? make("small", "", left ? `${whole(left)} left` : "all done") : "");
    grade_link.hidden = !d.is_open || !all?.person.may_vote;
    copy.hidden = !d.is_open;
    shut.textContent = d.is_open ? "Close" : "Open again";
    shut.title = d.is_open ? "Nobody grades any more; results stay" : "";
    shut.hidden = !all?.person.may_make;
    for (const e of tabs.children) {
      e.setAttribute("aria-selected", e.dataset.name === tab);
      e.tabIndex = e.dataset.name === tab ? 0 : -1;
      const n = {adjudication: d.which?.to_adjudicate, outcomes: d.which?.found}[e.dataset.name];
      e.querySelector("i")?.remove();
      if (n) e.append(make("i", "", whole(n)));
    }
    body.setAttribute("aria-labelledby", `voorwerp-vetting-${tab}`);
  };

  // ------------------------------------------------------------------------------------------------------ results
  const results = () => {
    const root = make("div", "results"), main = make("div", "main"), side = make("aside");
    const headline = make("div", "headline"), rows = make("div", "grades"), below = make("p", "note");
    const people = make("div", "people"), facts = make("dl", "facts"), taking = make("div", "taking");
    main.append(headline, rows, below);
    side.append(make("h3", "", "Graders"), people, make("h3", "", "Drawn and decided"), facts, taking);
    let which_go = "all";
    root.append(main, side);
    return {root, draw() {
      const d = detail, {found, scheme} = d;
      fill(headline, [d.hidden, found, d.counts], () => {
        if (d.hidden) return [make("p", "hidden", d.hidden)];
        if (!found?.n) return [make("p", "hidden", d.counts.n_votes ? "Nobody could judge any yet." : "Nobody has graded yet. Send graders the link, or press G and begin.")];
        const go = button("go", "", () => open_rows("region:found"), "Open them as the selection");
        put(go, put(make("span", "what"), upper(found.words), make("small", "", d.of)), make("b", "", percent(found.k / found.n)), put(make("span", "interval"), make("span", "", `[${Math.round(100 * found.low)}, ${Math.round(100 * found.high)}]`), make("small", "", "95 % interval, per cent")),
          put(make("span", "k"), make("b", "", whole(found.k)), ` of ${whole(found.n)}`, make("small", "", found.by)), make("span", "arrow", "select →"));
        return [go];
      });
      fill(rows, [d.hidden, d.grades, d.cannot, d.interesting], () => d.hidden ? [] : [...d.grades.map(g => {
        const e = button("row", "", () => open_rows(`grade:${g.key}`), g.n ? `Select the ${many(g.k, "subject")} with ${g.key}` : "");
        e.disabled = !g.k;
        return put(e, grade_cap(scheme, g.key), put(make("span", "name"), make("b", "", g.name), make("small", "", g.definition)),
          rate_bar(g), put(make("span", "figure"), make("b", "", g.n ? `${whole(g.k)} of ${whole(g.n)}` : "–"), make("small", "", rated(g))),
          put(make("span", "strip"), ...d.has_images ? (g.rows ?? []).slice(0, 5).map(row => picture(row)) : []));
      }), ...[["Q", "cannot judge", d.cannot, "cannot"], ["I", "interesting", d.interesting, "interesting"]].filter(([, , r]) => r?.k).map(([key, name, r, which]) => {
        const e = button("row", "", () => open_rows(`region:${which}`), `Select the ${many(r.k, "subject")}`);
        return put(e, make("span", `grade ${key === "I" ? "star" : "none"}`, key), put(make("span", "name"), make("b", "", name), make("small", "", key === "I" ? "flagged by at least one grader" : "said by at least one grader")),
          rate_bar(r), put(make("span", "figure"), make("b", "", `${whole(r.k)} of ${whole(r.n)}`), make("small", "", rated(r))), put(make("span", "strip"), ...d.has_images ? (r.rows ?? []).slice(0, 5).map(row => picture(row)) : []));
      })]);
      below.textContent = d.hidden ? "" : d.note ?? "";
      fill(people, d.people, () => d.people.length ? d.people.map(p => {
        const e = make("div", "person"), bar = make("i");
        bar.style.width = `${100 * (p.n_all ? p.n_done / p.n_all : 0)}%`;
        e.classList.toggle("me", p.is_me);
        return put(e, make("b", "", p.who), make("span", "k", `${whole(p.n_done)} of ${whole(p.n_all)}`), put(make("span", "progress"), bar), make("small", "", [p.seconds ? `${p.seconds.toPrecision(2)} s a look` : "", p.total ? hours(p.total / 3600) : ""].filter(Boolean).join(" · ")));
      }) : [make("p", "note", "Nobody yet.")]);
      fill(facts, [d.facts], () => (d.facts ?? []).flatMap(([name, value, which, note]) => {
        const dd = make("dd");
        if (which) dd.append(button("link", value, () => open_rows(which), "Open them as the selection")); else dd.append(value);
        return [make("dt", "", name), dd, note ? make("small", "", note) : null];
      }));
      fill(taking, [d.id, d.takes, d.counts.n_votes > 0], () => {
        if (!d.takes || !d.counts.n_votes) return [];
        const which = make("select"), files = make("div", "files");
        which.setAttribute("aria-label", "Candidates to take along");
        which.append(...[["all", "All that are graded"], ["found", "Found"], ["disputed", "Disputed"]].map(([value, text]) => { const e = make("option", "", text); e.value = value; return e; }));
        which.value = which_go;
        const link = ([format, text, title]) => {
          const e = make("a", "", text), asked = new URLSearchParams({format});
          if (which_go !== "all") asked.set(which_go, "1");
          Object.assign(e, {href: `campaigns/${d.id}/export?${asked}`, download: "", title});
          return e;
        };
        const offered = [["csv", "CSV", "A table; provenance is in “JSON”"], ["json", "JSON", "Where the table is from: scheme, rule, graders, run, boundary"], ["parquet", "Parquet", "A table"], ["votable", "VOTable", "A table for TOPCAT and Aladin"],
          ["fits", "FITS", "A table"], ["regions", "DS9", "Regions, with grade and k of n"], ["pdf", "PDF", "A gallery to print"], ["html", "HTML", "A gallery in one file"], ["training", "Labels", "To train on, split by duplicate group"]];
        const draw = () => files.replaceChildren(...offered.map(link), ...d.takes.samp ? [button("link", "Send (SAMP)", send, "To TOPCAT, Aladin and whoever else takes tables on this machine")] : []);
        const send = () => guarded(async () => say(`${(await post("send", {campaign: d.id, [which_go]: "1"})).said}.`));
        which.addEventListener("change", () => { which_go = which.value; draw(); });
        draw();
        return [make("h3", "", "Take along"), which, files];
      });
    }};
  };

  // ----------------------------------------------------------------------------------------------------- outcomes
  const outcomes = () => {
    const root = make("div", "outcomes"), filters = make("div", "filters"), table = make("div", "table"), foot = make("div", "follow"), more = make("p", "note");
    let shown = "all", picked = new Set(), anchor = -1, cursor = 0, listed = [], client = "", sent = "", busy = false;
    table.setAttribute("role", "listbox");
    table.setAttribute("aria-multiselectable", "true");
    table.setAttribute("aria-label", "Subjects of the campaign");
    table.tabIndex = 0;
    const columns = put(make("div", "row head"), ...["", "subject", "votes", "value", "", "adjudicated", "follow-up"].map(text => make("span", "", text)));
    const apart = make("p", "note"), source = make("input"), target = make("span", "target");
    Object.assign(source, {type: "text", maxLength: 300, placeholder: "known by: a paper, a spectrum, a name", autocomplete: "off", spellcheck: false});
    source.setAttribute("aria-label", "Source of the outcome");
    const marks = [["confirmed", "Confirmed"], ["rejected", "Rejected"], ["open", "Open again"]].map(([value, text]) => { const e = button(value, text, () => mark(value)); return e; });
    const against = make("span", "against");
    put(foot, put(make("span", "words"), put(make("b", "", "Later outcome"), against), target), source, ...marks);
    root.append(filters, apart, put(make("div", "scroll"), columns, table, more), foot);
    const of_pick = () => picked.size ? {rows: [...picked], words: `of ${many(picked.size, "subject")} marked here`} : door.focus !== null && door.focus !== undefined ? {rows: [door.focus], words: `of the focus, ${door.focus_id}`} : null;
    const mark = value => guarded(async () => {
      const of = of_pick(), because = source.value;
      if (!of || busy) return;
      busy = true;
      try {
        const told = await post("outcome", {rows: of.rows, outcome: value, source: because.trim(), client_id: uuid()});
        for (const row of of.rows) picked.delete(row); // they are done with; what is marked next has a source of its own
        if (source.value === because) source.value = "";
        anchor = -1;
        draw_table();
        draw_foot();
        table.focus({preventScroll: true});
        await read();
        say(`${many(told.n, "outcome")} kept: ${FOLLOWED[value].replace(/^. /, "")}.`, async () => { await guarded(() => post("outcome", {undo: told.entries, client_id: uuid()})); await read(); say("Taken back."); });
      } finally { busy = false; }
    });
    const pass = {all: () => true, found: s => s.found, disputed: s => s.disputed, interesting: s => s.n_interesting > 0, cannot: s => s.n_cannot > 0, audit: s => s.role === "audit", adjudicated: s => s.adjudicated, confirmed: s => s.outcome === "confirmed", rejected: s => s.outcome === "rejected"};
    const words = {all: "All", found: "Found", disputed: "Disputed", interesting: "Interesting", cannot: "Cannot judge", audit: "Audit draws", adjudicated: "Adjudicated", confirmed: "Confirmed", rejected: "Rejected"};
    const draw_table = () => {
      const d = detail;
      listed = (d.subjects ?? []).filter(pass[shown]);
      const some = listed.slice(0, LISTED);
      fill(table, [some, [...picked], d.scheme.name], () => some.map((s, i) => {
        const e = make("div", "row");
        e.id = `voorwerp-outcome-${i}`;
        e.setAttribute("role", "option");
        e.setAttribute("aria-selected", picked.has(s.row));
        const flags = make("span", "flags");
        if (s.found) flags.append(make("span", "flag found", "found"));
        if (s.disputed) flags.append(make("span", "flag disputed", "disputed"));
        if (s.n_interesting) flags.append(make("span", "flag star", "interesting"));
        if (s.role === "audit") flags.append(make("span", "flag", "audit"));
        if (s.n_grades < d.graders) {
          const so_far = make("small", "so-far", `${s.n_grades} of ${d.graders} grades so far`);
          so_far.title = so_far.textContent; // it gives way to flags where there is no room
          flags.append(so_far);
        }
        put(e, d.has_images ? put(make("span", "face"), picture(s.row)) : make("span", "face"), make("b", "id", s.source_id), put(make("span", "votes"), ...s.votes.map(k => grade_cap(d.scheme, k))),
          make("span", "value", s.value === null ? "–" : String(Number(s.value.toPrecision(3)))), flags, put(make("span", ""), s.adjudicated ? grade_cap(d.scheme, s.adjudicated) : null), make("span", `outcome ${s.outcome}`, FOLLOWED[s.outcome] ?? ""));
        e.addEventListener("click", event => pick(i, event));
        e.addEventListener("dblclick", () => focus(s.row));
        return e;
      }));
      move();
      more.textContent = listed.length > LISTED ? `The first ${whole(LISTED)} of ${whole(listed.length)}; select them all to see the rest in the gallery.` : listed.length ? "" : "None.";
      more.hidden = !more.textContent;
    };
    const move = () => {
      cursor = Math.max(0, Math.min(table.children.length - 1, cursor));
      [...table.children].forEach((e, i) => e.classList.toggle("at", i === cursor));
      if (table.children[cursor]) table.setAttribute("aria-activedescendant", table.children[cursor].id); else table.removeAttribute("aria-activedescendant");
    };
    const pick = (i, e) => {
      const row = listed[i]?.row;
      if (row === undefined) return;
      if (e.shiftKey && anchor >= 0) for (let j = Math.min(anchor, i); j <= Math.max(anchor, i); j++) picked.add(listed[j].row);
      else if (!picked.delete(row)) picked.add(row);
      anchor = cursor = i;
      draw_table();
      draw_foot();
    };
    const draw_foot = () => {
      const of = of_pick(), may = all?.person.may_vote;
      target.textContent = of ? of.words : "mark subjects above, or take one into focus";
      source.disabled = !of || !may;
      for (const e of marks) { e.disabled = !of || !may || !source.value.trim(); e.title = source.value.trim() ? "" : "Say what it is known by first"; }
    };
    source.addEventListener("input", () => draw_foot());
    table.addEventListener("keydown", e => {
      const step = {ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10}[e.key];
      if (step) { e.preventDefault(); cursor += step; move(); table.children[cursor]?.scrollIntoView({block: "nearest"}); if (e.shiftKey) { picked.add(listed[cursor].row); draw_table(); draw_foot(); } }
      else if (e.key === " ") { e.preventDefault(); pick(cursor, e); }
      else if (e.key === "Enter" && listed[cursor]) { e.preventDefault(); focus(listed[cursor].row); }
    });
    return {root, draw() {
      const d = detail, counts = d.which ?? {};
      if (d.id !== client) { client = d.id; picked = new Set(); shown = "all"; cursor = 0; anchor = -1; }
      root.classList.toggle("none", Boolean(d.hidden));
      if (d.hidden) { if (sent !== d.hidden) { sent = d.hidden; } fill(filters, d.hidden, () => [make("p", "hidden", d.hidden)]); for (const e of [columns, table, more, foot, apart]) e.hidden = true; return; }
      for (const e of [columns, table, foot]) e.hidden = false;
      fill(filters, [counts, shown, d.against], () => [...Object.keys(words).filter(w => w === "all" || counts[w]).map(w => {
        const e = button("chip", "", () => { shown = w; cursor = 0; this.draw(); });
        e.setAttribute("aria-pressed", w === shown);
        return put(e, words[w], make("b", "", whole(counts[w] ?? 0)));
      }), button("link", "select these →", () => open_rows(shown), "Open them as the selection, in the gallery"),
      ]);
      apart.textContent = d.apart;
      apart.hidden = !apart.textContent;
      against.textContent = d.against?.n ? `of those found ${whole(d.against.k)} of ${whole(d.against.n)} confirmed, ${rated(d.against)}` : "";
      draw_table();
      draw_foot();
    }, mark};
  };

  // ---------------------------------------------------------------------------------------------------- agreement
  const agreement = () => {
    const root = make("div", "agreement"), figures = make("div", "figures"), pairs = make("div", "pairs"), people = make("div", "graders"), nothing = make("p", "hidden");
    root.append(figures, pairs, people, nothing);
    let drawn = "";
    const kappa = v => v === null || v === undefined ? "–" : part(v);
    const interval = f => f.low === null || f.low === undefined ? "" : `[${part(f.low)}, ${part(f.high)}]`;
    const cell_color = v => `color-mix(in oklab, var(--accent) ${Math.round(72 * Math.max(0, v))}%, color-mix(in oklab, var(--bad) ${Math.round(60 * Math.max(0, -v))}%, var(--raised)))`;
    const draw = told => {
      nothing.textContent = told.hidden || (told.n_graders < 2 ? "Agreement needs two graders with subjects in common." : "");
      nothing.hidden = !nothing.textContent;
      for (const e of [figures, pairs, people]) e.hidden = Boolean(told.hidden);
      figures.hidden = pairs.hidden = Boolean(nothing.textContent);
      if (told.hidden) return;
      const figure = (name, of, told_of, ...notes) => put(make("section", "figure"), put(make("h3", "", name), make("small", "", of)), put(make("p", "value"), make("b", "", kappa(told_of?.value)), make("span", "", told_of ? interval(told_of) : "")), scale(told_of), ...notes.filter(Boolean).map(n => make("p", "note", n)));
      fill(figures, [told.alpha, told.fleiss], () => {
        const {alpha, fleiss} = told;
        return [
          figure("Krippendorff’s α", alpha?.level ?? "", alpha, alpha ? `${many(alpha.n, "subject")} with two grades or more; ${many(told.n_graders, "grader")}; interval by resampling subjects` : "", base(alpha), alpha.note),
          fleiss && fleiss.value !== null && fleiss.value !== undefined
            ? figure("Fleiss’ κ", `${fleiss.m} graders each`, fleiss, `${many(fleiss.n_equal_m, "subject")} with just ${fleiss.m} grades${fleiss.n_left_out ? `; ${whole(fleiss.n_left_out)} with other numbers left out` : ""}`, base(fleiss), "κ falls where what is looked for is rare, however well graders agree.", fleiss.note)
            : figure("Fleiss’ κ", "", null, fleiss?.note || "It needs subjects with equally many grades."),
        ];
      });
      const names = told.graders.filter(g => g.n + (g.n_cannot ?? 0)).map(g => g.who);
      fill(pairs, [told.pairs, names], () => {
        const grid = make("div", "matrix"), card = make("div", "beside");
        grid.style.setProperty("--n", names.length);
        grid.setAttribute("role", "grid");
        grid.setAttribute("aria-label", "Cohen’s κ of each two graders");
        const tell = (a, b, pair) => card.replaceChildren(make("b", "", `${names[a]} and ${names[b]}`),
          put(make("p", "value"), make("b", "", kappa(pair.kappa)), make("span", "", interval(pair))),
          put(make("dl"), ...[["in common", many(pair.n, "subject")], ["prevalence", percentage(pair.prevalence)], ["positive agreement", percentage(pair.positive_agreement)], ...pair.weighted ? [["weighted κ", `${kappa(pair.weighted.value)} ${interval(pair.weighted)}`]] : [], ["they disagree on", many(pair.n_disagreed ?? pair.disagreed?.length ?? 0, "subject")]].flatMap(([t, v]) => [make("dt", "", t), make("dd", "", v)])),
          pair.note ? make("small", "", `${upper(pair.note)}.`) : "",
          make("small", "", "A click on the cell opens what they disagree on."));
        grid.append(make("span", "corner"), ...names.map(n => put(make("span", "across"), make("span", "", n))));
        names.forEach((row, a) => {
          grid.append(make("span", "up", row));
          names.forEach((column, b) => {
            const pair = told.pairs[a]?.[b];
            if (a === b || !pair || !pair.n) { grid.append(make("span", `cell ${a === b ? "same" : "none"}`, a === b ? "" : "–")); return; }
            const e = button("cell", kappa(pair.kappa), () => open_rows(`pair:${[row, column].map(encodeURIComponent).join(":")}`));
            e.style.background = cell_color(pair.kappa ?? 0);
            e.setAttribute("aria-label", `${row} and ${column}: κ ${kappa(pair.kappa)} ${interval(pair)}, ${many(pair.n_disagreed ?? pair.disagreed?.length ?? 0, "subject")} they disagree on`);
            e.addEventListener("pointerenter", () => tell(a, b, pair));
            e.addEventListener("focus", () => tell(a, b, pair));
            grid.append(e);
          });
        });
        card.append(make("small", "", names.length > 1 ? "Point at a cell for its interval, prevalence and positive agreement; click for the subjects the two disagree on." : ""));
        return [put(make("h3", "", "Each two graders"), make("small", "", `Cohen’s κ, ${told.weights}`)), put(make("div", "with"), grid, card)];
      });
      fill(people, [told.graders], () => {
        const columns = ["grader", "subjects", "median look", "agrees with self", "known found", "duds turned down", "cannot judge"];
        const table = make("div", "table");
        table.append(put(make("div", "row head"), ...columns.map(c => make("span", "", c))));
        const {scheme} = detail;
        const spread = counts => { // which grades they gave those
          const given = Object.entries(counts ?? {}).filter(([, k]) => k);
          if (!given.length) return null;
          const bar = make("span", "spread");
          bar.title = given.map(([key, k]) => `${whole(k)} × ${key}`).join(", ");
          for (const [key, k] of given) { const i = make("i"); i.style.flex = k; i.style.setProperty("--worth", Math.max(0, worth(scheme, key))); bar.append(i); }
          return bar;
        };
        for (const g of told.graders) {
          const share = r => put(make("span"), r?.n ? `${whole(r.k)} of ${whole(r.n)}` : "–", r?.n ? make("small", "", rated(r)) : null);
          table.append(put(make("div", "row"), make("b", "", g.who), make("span", "", whole(g.n)), make("span", "", g.seconds_median ? `${g.seconds_median.toPrecision(2)} s` : "–"), share(g.self_agreement), put(share(g.known), spread(g.confusion?.known)), put(share(g.duds), spread(g.confusion?.duds)), make("span", "", whole(g.n_cannot ?? 0))));
        }
        return [make("h3", "", "Each grader"), table];
      });
    };
    const percentage = v => !v?.n ? v?.note || "–" : `${whole(Math.round(v.k))} of ${whole(v.n)}, ${rated(v)}`;
    const base = f => !f.prevalence?.n ? "" : `prevalence ${percentage(f.prevalence)}, positive agreement ${percentage(f.positive_agreement)}`;
    return {root, async draw() {
      const key = `${detail.id} ${detail.last}`;
      if (drawn === key) return;
      root.classList.toggle("waiting", !drawn.startsWith(detail.id));
      const told = agreed.get(key) ?? await guarded(() => ask(`campaigns/${detail.id}/agreement`));
      if (!told || `${detail.id} ${detail.last}` !== key) return;
      agreed.clear();
      agreed.set(key, told);
      drawn = key;
      root.classList.remove("waiting");
      draw(told);
    }};
  };

  // --------------------------------------------------------------------------------------------------------- left
  const left = () => {
    const root = make("div", "left"), words = make("div", "words"), nothing = make("p", "hidden");
    let told = null, drawn = "";
    const reach = () => Math.max(1, ...told.curve.map(p => p.looks)), high = () => Math.max(1, ...told.curve.map(p => p.found), told.estimate ? Math.min(told.estimate.found + told.estimate.high, 3 * (told.estimate.found + told.estimate.n) + 5) : 0);
    const chart = new Chart("Found by subjects graded", {
      paint(pen, box) {
        if (!told?.curve.length) return;
        const most_x = reach(), most_y = 1.06 * high(), x = v => box.x0 + v / most_x * (box.x1 - box.x0), y = v => box.y0 - v / most_y * (box.y0 - box.y1);
        pen.fillStyle = shade("--quiet");
        pen.strokeStyle = shade("--line");
        pen.lineWidth = 1;
        pen.textAlign = "right";
        pen.textBaseline = "middle";
        for (const v of ticks(0, most_y, 5).filter(Number.isInteger)) { const at = Math.round(y(v)) + 0.5; pen.beginPath(); pen.moveTo(box.x0, at); pen.lineTo(box.x1, at); pen.stroke(); pen.fillText(whole(v), box.x0 - 8, at); }
        pen.textAlign = "center";
        pen.textBaseline = "alphabetic";
        for (const v of ticks(0, most_x, 6).filter(Number.isInteger)) pen.fillText(whole(v), x(v), box.y0 + 17);
        pen.fillText("subjects graded", (box.x0 + box.x1) / 2, box.y0 + 33);
        pen.save(); pen.translate(12, (box.y0 + box.y1) / 2); pen.rotate(-Math.PI / 2); pen.fillText("found", 0, 0); pen.restore();
        const {estimate} = told;
        if (estimate) {
          const [lo, mid, hi] = [estimate.low, estimate.n, estimate.high].map(v => y(Math.min(most_y, estimate.found + v)));
          pen.fillStyle = shade("--warm");
          pen.globalAlpha = 0.12;
          pen.fillRect(box.x0, hi, box.x1 - box.x0, lo - hi);
          pen.globalAlpha = 1;
          pen.strokeStyle = shade("--warm");
          pen.setLineDash([5, 4]);
          pen.beginPath(); pen.moveTo(box.x0, mid); pen.lineTo(box.x1, mid); pen.stroke();
          pen.setLineDash([]);
          pen.textAlign = "right";
          pen.fillStyle = shade("--warm");
          pen.fillText(`about ${whole(Math.round(estimate.found + estimate.n))} in all`, box.x1 - 6, mid - 6);
        }
        pen.strokeStyle = shade("--accent");
        pen.lineWidth = 2;
        pen.beginPath();
        pen.moveTo(x(0), y(0));
        let before = 0;
        for (const p of told.curve) { pen.lineTo(x(p.looks), y(before)); pen.lineTo(x(p.looks), y(p.found)); before = p.found; }
        pen.stroke();
        pen.strokeStyle = shade("--quiet");
        pen.lineWidth = 1;
        for (const p of told.curve) if (p.random) { const at = Math.round(x(p.looks)) + 0.5; pen.beginPath(); pen.moveTo(at, box.y0); pen.lineTo(at, box.y0 - 5); pen.stroke(); }
      },
      tell(px, py, box) {
        if (!told?.curve.length || px < box.x0 || px > box.x1) return null;
        const looks = (px - box.x0) / (box.x1 - box.x0) * reach(), p = told.curve.findLast(c => c.looks <= looks) ?? told.curve[0];
        return [`${many(p.looks, "subject")} graded`, `${whole(p.found)} found`];
      },
    });
    root.append(words, chart.root, nothing);
    return {root, async draw() {
      const key = `${detail.id} ${detail.last}`;
      if (drawn === key) { chart.draw(); return; }
      const answer = remaining.get(key) ?? await guarded(() => ask(`campaigns/${detail.id}/left`));
      if (!answer || `${detail.id} ${detail.last}` !== key) return;
      remaining.clear();
      remaining.set(key, answer);
      drawn = key;
      told = {curve: [], ...answer};
      nothing.textContent = told.hidden || (told.curve.length ? "" : "Nobody has graded yet.");
      nothing.hidden = !nothing.textContent;
      chart.root.hidden = words.hidden = Boolean(nothing.textContent);
      fill(words, [told.sentence, told.notes], () => [make("p", "big", told.sentence), ...(told.notes ?? []).map(n => make("p", "note", n))]);
      chart.draw();
    }, paint() { chart.draw(); }};
  };

  // -------------------------------------------------------------------------------------------------- adjudication
  const adjudicator = adjudicating({post, ask, focus, changed: () => read(true)});
  const adjudication = () => ({root: adjudicator.root, async draw() { await guarded(() => adjudicator.open(detail.id)); }});

  const makers = {results, outcomes, agreement, adjudication, left}, made = {};
  const turn = name => {
    tab = name;
    made[tab] ??= makers[tab]();
    if (body.firstChild !== made[tab].root) { body.replaceChildren(made[tab].root); body.scrollTop = 0; }
    body.dataset.tab = tab;
    if (detail) { draw_head(); made[tab].draw(); }
  };
  const neighbor = by => { const names = TABS.map(t => t[0]); turn(names[(names.indexOf(tab) + by + names.length) % names.length]); tabs.querySelector(`[data-name="${tab}"]`).focus(); };
  tabs.addEventListener("keydown", e => { const by = {ArrowRight: 1, ArrowLeft: -1}[e.key]; if (by) { e.preventDefault(); e.stopPropagation(); neighbor(by); } });

  // ---------------------------------------------------------------------------------------------------- what is new
  const form = planning({door, post, ask, known: () => all, left: () => leave(), made: id => {
    planned = false;
    chosen = id;
    door.send({made: id});
    read().then(() => say("Made. Send graders its link."));
    dialog.focus();
  }});
  const plan = () => { if (!all?.person.may_make) return; planned = true; form.open(); arrange(); form.focus(); draw_list(); };
  const leave = () => { planned = false; arrange(); draw_list(); if (chosen) read(); dialog.focus(); };
  let checking = false;
  const check = async () => {
    if (!all?.person.may_make || !door.n_selected || checking) return;
    checking = quick.disabled = true;
    const told = await guarded(() => post("quick", {selection: door.selection_id, what: door.title || (door.region ? "a region of the map" : `a selection of ${whole(door.n_selected)}`), client_id: uuid(), ...door.screen(), ...door.region ? {region: door.region} : {}}));
    checking = false;
    if (told) {
      planned = false;
      tab = "results";
      chosen = told.id;
      door.send({made: told.id});
      await read();
      dialog.focus();
      say("Made. Send graders its link.");
    }
    draw_list();
  };
  const arrange = () => {
    form.root.hidden = !planned;
    empty.hidden = planned || Boolean(chosen);
    one.hidden = planned || !chosen;
  };
  const choose = id => { planned = false; if (chosen !== id) { chosen = id; detail = null; one.classList.add("waiting"); } arrange(); draw_list(); read(); };

  /** Read the list, and the chosen campaign where anything of it is new. `quietly` leaves the open tab as it is. */
  const read = async (quietly = false) => {
    const mine = ++reading;
    const told = await guarded(() => ask("campaigns"));
    if (!told || mine !== reading) return;
    all = told;
    if (!chosen || !all.campaigns.some(c => c.id === chosen)) chosen = all.campaigns[0]?.id ?? "";
    arrange();
    draw_list();
    if (!chosen || planned) return;
    const now = all.campaigns.find(c => c.id === chosen);
    if (detail?.id === chosen && last_of === JSON.stringify(now)) return;
    const found = await guarded(() => ask(`campaigns/${chosen}`));
    if (!found || mine !== reading || found.id !== chosen) return;
    [detail, last_of] = [found, JSON.stringify(now)];
    one.classList.remove("waiting");
    if (quietly) draw_head(); else turn(tab);
  };
  const poll = () => { clearTimeout(timer); timer = setTimeout(async () => { if (!dialog.open) return; if (!document.hidden && !planned) await read(); poll(); }, POLL); };

  empty.append(make("h3", "", "Let experts look"), make("p", "", "A campaign is a list of subjects, grades with a written definition each, and the people who give them: blind, in an order of their own, every vote kept."),
    put(make("p", "keys"), make("kbd", "", "M"), " make one from the selection or a boundary   ", make("kbd", "", "S"), " check the selection: 50 random, 3 graders"));
  one.append(head, about, tabs, body);
  section.append(lost, empty, one, form.root, status);
  const close = button("close", "✕", () => dialog.close(), "Close (Esc)");
  close.setAttribute("aria-label", "Close");
  dialog.append(nav, section, close);
  home.append(style, dialog);
  await styled;
  arrange();

  const typing = e => /^(input|textarea|select)$/i.test(e.target.tagName) && !["checkbox", "range"].includes(e.target.type);
  dialog.addEventListener("keydown", e => {
    if (e.key === "Escape" && planned) { e.preventDefault(); if (typing(e)) e.target.blur(); else leave(); }
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    e.stopPropagation(); // the keys of the page beneath are not meant
    if (typing(e) || e.defaultPrevented) return;
    const key = e.key.toLowerCase();
    if (key === "v" && e.shiftKey) { dialog.close(); return; }
    if (planned) return;
    if (tab === "adjudication" && detail && adjudicator.key(e)) { e.preventDefault(); return; }
    const at = all?.campaigns.findIndex(c => c.id === chosen) ?? -1;
    const keys = {m: plan, s: check, "[": () => neighbor(-1), "]": () => neighbor(1), g: () => { if (!grade_link.hidden) grade_link.click(); }};
    if (keys[key] && !e.shiftKey) { e.preventDefault(); keys[key](); }
    else if ((key === "arrowdown" || key === "arrowup") && !e.target.closest("[role=listbox], [role=grid]")) {
      const next = all?.campaigns[at + (key === "arrowdown" ? 1 : -1)];
      if (next) { e.preventDefault(); choose(next.id); list.querySelector("[aria-current]")?.scrollIntoView({block: "nearest"}); }
    }
  });
  dialog.addEventListener("click", e => { if (e.target === dialog) dialog.close(); });
  window.addEventListener("voorwerp-theme", () => { if (dialog.open) made.left?.paint(); });

  const open = async () => {
    if (!dialog.open) { dialog.showModal(); dialog.focus(); }
    await read();
    poll();
  };
  return {
    open,
    async plan() { await open(); plan(); },
    async check() { await open(); await check(); },
    /** The selection, the boundary at work or the focus is another now. */
    renew() { if (!dialog.open) return; draw_list(); form.renew(); if (tab === "outcomes" && detail) made.outcomes?.draw(); },
    remove() { adjudicator.remove(); dialog.remove(); },
  };
}
