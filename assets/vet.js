// The page where experts grade. Two passes over one queue: the mosaic turns the mass down a page at a time, and what is
// worth a second look is graded one by one. In a campaign by clusters the first pass is one of grids, each of one cluster:
// a grade's key gives it to the whole grid but for what was marked. A grade is sent at once and the next picture, drawn beforehand, is shown at once;
// that a grade is saved is said only when the server has said that it is on the disk. Until then it is sent again and again,
// with the same UUID, so that it counts once, and kept in this browser.
//
// Whatever a person wrote is shown as text (textContent), never as HTML.
(() => {
  const $ = selector => document.querySelector(selector);
  const ID = $('meta[name="voorwerp-campaign"]').content, BASE = `/vet/${ID}`;
  const AHEAD = 8, BEHIND = 4;     // pictures that are ready around the one on the screen
  const WINDOW = 160;              // of the queue, held at once
  const TRAIL = 14;                // of one's last grades, shown
  const POLL_S = 20, PATIENCE_MS = 20_000;
  const KEPT_TILES = 480;
  const UNSEEN = ".", KEPT = "k", TURNED = "m", GIVEN = "g";
  const page = document.documentElement;

  const make = (tag, name, text) => {
    const e = document.createElement(tag);
    if (name) e.className = name;
    if (text !== undefined) e.textContent = text;
    return e;
  };
  const uuid = () => {  // crypto.randomUUID is not there on plain http
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    bytes[6] = bytes[6] & 15 | 64;
    bytes[8] = bytes[8] & 63 | 128;
    return [...bytes].map(b => b.toString(16).padStart(2, "0")).join("").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
  };
  const sleep = seconds => new Promise(done => setTimeout(done, 1000 * seconds));
  const whole = n => n.toLocaleString("en");
  const counted = (n, thing) => `${whole(n)} ${thing}${n === 1 ? "" : "s"}`;
  const sentence = text => text ? text[0].toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".") : "";
  const recall = name => { try { return localStorage.getItem(name); } catch { return null; } };
  const remember = (name, value) => { try { if (value === null) localStorage.removeItem(name); else localStorage.setItem(name, value); } catch { /* a browser that keeps nothing */ } };
  window.voorwerp.format = v => Math.abs(v) >= 1e6 || (v !== 0 && Math.abs(v) < 0.001) ? v.toExponential(2) : Number(v.toPrecision(4)).toLocaleString("en", {maximumFractionDigits: 6});
  const {commands} = window.voorwerp;

  page.dataset.theme = recall("voorwerp-theme") === "light" ? "light" : "dark";
  const turn_theme = () => {
    page.dataset.theme = page.dataset.theme === "dark" ? "light" : "dark";
    remember("voorwerp-theme", page.dataset.theme);
  };
  $(".theme").addEventListener("click", turn_theme);

  // ------------------------------------------------------------------------------------------------------- server
  class Trouble extends Error {  // what the server says; no status where it did not answer
    constructor(message, status, kind) { super(message); Object.assign(this, {status, kind}); }
  }
  const ask = async (path, options) => {
    let answer;
    try {
      answer = await fetch(path, {credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE_MS), ...options});
    } catch {
      throw new Trouble("no connection to the server");
    }
    if (answer.redirected && new URL(answer.url).pathname.startsWith("/login")) throw new Trouble("not logged in", 403, "login");
    if (answer.ok) return answer;
    const told = await answer.json().catch(() => ({}));
    const is_out = answer.status === 401 || path === "/token" && answer.status === 403;
    throw new Trouble(told.error || answer.statusText, answer.status, told.kind || (is_out ? "login" : undefined));
  };
  const is_passing = error => !error.status || error.status === 429 || error.status >= 500;
  /** Ask until there is an answer: what is away for a moment is asked again; a refusal is thrown. */
  const insist = async path => {
    for (let tries = 0; ; tries++) {
      try {
        const answer = await ask(path);
        if (offline === "reading") connected();
        return answer;
      } catch (error) {
        if (!is_passing(error)) throw error;
        disconnected("reading", error);
      }
      await sleep(Math.min(10, 0.5 + tries));
    }
  };
  let token = "";
  const post = async (path, body) => {
    for (let again = false; ; again = true) {
      if (!token) token = await (await ask("/token")).text();
      try {
        return await (await ask(path, {method: "POST", headers: {"Content-Type": "application/json", "X-Voorwerp-Token": token}, body: JSON.stringify(body)})).json();
      } catch (error) {
        if (again || error.status !== 403 || error.kind) throw error;
        token = "";  // of a session that is over: perhaps there is another
      }
    }
  };
  const unpack = async answer => {
    const bytes = await answer.arrayBuffer(), length = new DataView(bytes).getUint32(0, true);
    const told = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, length)));
    let start = 4 + length;
    told.pictures = told.sizes.map(size => {
      const part = bytes.slice(start, start += size);
      return size ? URL.createObjectURL(new Blob([part])) : "";
    });
    return told;
  };

  let offline = "";
  const disconnected = (what, error) => {
    offline = what;
    alarm(error.status ? sentence(error.message) : `No connection to the server; trying again.${outbox.length ? ` ${counted(outbox.length, "decision")} of yours ${outbox.length === 1 ? "waits" : "wait"} here.` : ""}`);
  };
  const connected = () => { offline = ""; alarm(""); };
  const alarm = (text, action) => {
    const box = $(".alert");
    if (box.dataset.text === text) return;
    box.dataset.text = text;
    box.replaceChildren(text);
    if (action) box.append(action);
    box.hidden = !text;
  };
  const offer_leaving = who => { $(".leave").hidden = who === "local"; };
  $(".leave").addEventListener("click", async () => {
    if (outbox.length) { say("One moment: not everything is saved yet."); return; }
    try {
      await ask("/logout", {method: "POST", headers: {"X-Voorwerp-Token": await (await ask("/token")).text()}});
    } catch (error) {
      if (!error.status) { alarm(sentence(error.message)); return; }
    }
    location.assign("/login");
  });
  const link = (text, href) => { const e = make("a", "", text); e.href = href; return e; };

  // --------------------------------------------------------------------------------------------------------- list
  const list = async () => {
    $("main.list").hidden = false;
    $(".help").remove();  // there are no keys but this one
    commands.add({id: "vet-theme", title: "Light or dark", group: "Page", key: "h", run: turn_theme});
    let told;
    try {
      told = await (await insist("/vet/campaigns")).json();
    } catch (error) {
      alarm(sentence(error.message));
      return;
    }
    const {you, campaigns} = told, may = you.role !== "viewer";
    offer_leaving(you.name);
    $(".name span").textContent = you.name === "local" ? $(".name span").textContent : you.name;
    $(".intro").textContent = !campaigns.length ? "Nothing yet: a campaign is made in the explorer (Shift+V), or with `voorwerp vet make`."
      : may ? "Your grades are your own: until you have given yours, you see nobody’s." : `${you.name} is a viewer here: grading takes a vetter.`;
    $(".campaigns").replaceChildren(...campaigns.map(c => {
      const item = make("li", c.is_open ? "" : "closed"), head = make("div", "head"), s = c.standing, done = s && s.n_done >= s.n_all;
      const name = c.is_open && may ? link(c.name, `/vet/${c.id}`) : make("span", "", c.name);
      head.append(name, make("span", "keys"));
      head.lastChild.append(...c.grades.map(key => make("kbd", "", key)));
      const what = [c.is_blind ? "blind" : "not blind", `${counted(c.graders, "grader")} each`, `by ${c.by}`, c.at.slice(0, 10)];
      item.append(head, make("p", "quiet", what.join(" · ")));
      if (s) {
        const bar = make("div", "bar"), fill = make("i"), line = make("p", "how");
        fill.style.width = `${100 * (s.n_all ? s.n_done / s.n_all : 0)}%`;
        bar.append(fill);
        line.append(make("b", "", `${whole(s.n_done)} of ${whole(s.n_all)}`), ` graded${s.n_kept ? ` · ${whole(s.n_kept)} for a second look` : ""}`);
        line.append(make("span", "go", !c.is_open ? "closed" : done ? "done" : s.n_done || s.n_kept ? "Go on →" : "Begin →"));
        item.append(bar, line);
      }
      if (c.is_open && may) item.addEventListener("click", () => name.click());
      return item;
    }));
    $(".campaigns a")?.focus();  // Enter opens it
  };

  // -------------------------------------------------------------------------------------------------------- queue
  let about = null, version = "", n = 0, standing = {n_done: 0, n_all: 0, n_kept: 0, seconds: 0};
  let marks = [];                 // a letter for each of the queue: see UNSEEN …
  let keys = [];                  // opaque names of subjects, those that were asked for
  let places = new Map();         // key → its index
  const items = new Map();        // key → what I said of it
  let at = 0, pass = "single", ended = false;

  // of a campaign by clusters: how many of the queue are in each, where each begins, and how many of it nobody has judged
  let spans = [], starts = [], unseen_in = [];
  const cluster_of = i => { let c = starts.length - 1; while (c > 0 && (starts[c] > i || !spans[c])) c--; return c; };
  const put_spans = told => {
    spans = told;
    let sum = 0;
    starts = spans.map(count => (sum += count) - count);
  };

  let total = {unseen: 0, kept: 0};
  const tally = () => {
    total = {unseen: 0, kept: 0};
    unseen_in = spans.map(() => 0);
    let c = 0;
    marks.forEach((mark, i) => {
      while (c < spans.length - 1 && i >= starts[c] + spans[c]) c++;
      if (mark === UNSEEN) { total.unseen++; unseen_in[c]++; } else if (mark === KEPT) total.kept++;
    });
  };
  const set_mark = (i, mark) => {  // a queue may be of a million
    if (i === undefined || !(i in marks)) return;
    for (const [letter, by] of [[marks[i], -1], [mark, 1]]) if (letter === UNSEEN) { total.unseen += by; if (spans.length) unseen_in[cluster_of(i)] += by; } else if (letter === KEPT) total.kept += by;
    marks[i] = mark;
  };
  /** What I said and the server has not heard. */
  const mark_pending = () => { for (const op of outbox) for (const [key, mark] of Object.entries(op.marks ?? {})) set_mark(places.get(key), mark); };
  const take = item => { items.set(item.key, {...items.get(item.key), ...item}); };
  const read = told => {
    if (told.version !== version) { keys = []; places = new Map(); version = told.version; }
    n = told.n;
    told.items.forEach((item, i) => {
      keys[told.start + i] = item.key;
      places.set(item.key, told.start + i);
      if (!outbox.some(op => op.touched.includes(item.key))) take(item);  // what I said and the server has not heard is newer
    });
    if (told.about) { about = told.about; $(".ordered").textContent = [about.model, about.left, about.problem].filter(Boolean).join(" "); }
    if (told.given) given = told.given;
    if (told.spans) put_spans(told.spans);
    if (told.marks !== undefined) { marks = [...told.marks]; tally(); mark_pending(); }
    if (!outbox.length) standing = told.standing;
  };
  const fetch_queue = async query => (await insist(`${BASE}/queue?${new URLSearchParams(query)}`)).json();
  let loading = new Map();
  /** A stretch of the queue around an index; where the queue has changed meanwhile, all of its state. */
  const load = start => {
    const first = Math.max(0, Math.floor(start / WINDOW) * WINDOW);
    if (!loading.has(first)) {
      loading.set(first, (async () => {
        try {
          const told = await fetch_queue({start: first, count: WINDOW});
          if (version && told.version !== version) await again();
          else read(told);
        } finally { loading.delete(first); }
      })());
    }
    return loading.get(first);
  };
  const have = async (from, to) => {
    for (let i = Math.max(0, from); i < Math.min(n, to); i++) if (!keys[i]) await load(i);
  };
  /** The queue anew: it has grown, or others have finished some of it. The picture on the screen stays. */
  const again = async () => {
    const key = keys[at], told = await fetch_queue({whole: 1, count: WINDOW, ...key ? {key} : {start: at}});
    if (told.start < 0) told.start = 0;
    const had = keys[at];
    read(told);
    if (outbox.length) given = null;
    if (had && places.has(had)) at = places.get(had);
    at = Math.min(at, Math.max(0, n - 1));
  };

  // ------------------------------------------------------------------------------------------------------- outbox
  // every decision, in the order it was made; the first is under way
  let outbox = [], pumping = false, paused = "";
  const OUTBOX = () => `voorwerp-vet-${ID}-${about.you.name}`;
  const store = () => remember(OUTBOX(), outbox.length ? JSON.stringify(outbox.map(({path, body, touched, marks: m}) => ({path, body, touched, marks: m}))) : null);
  const push = op => {
    outbox.push(op);
    given = null;
    store();
    progress();
    pump();
    return op;
  };
  const pump = async () => {
    if (pumping || paused) return;
    pumping = true;
    for (let tries = 0; outbox.length && !paused;) {
      const op = outbox[0];
      try {
        const told = await post(`${BASE}/${op.path}`, op.body);
        if ($(".alert").dataset.text) connected();
        tries = 0;
        outbox.shift();
        store();
        if (told.standing) standing = told.standing;
        op.done?.(told);
        saved(op);
        await catch_up(told.standing);
      } catch (error) {
        if (!(error instanceof Trouble)) throw error;
        if (is_passing(error)) {
          disconnected("saving", error);
          await sleep(Math.min(5, 0.5 + tries++));
        } else if (error.kind === "login" || error.kind === "closed") {
          paused = error.kind;
          halt(error);
        } else {
          outbox.shift();
          store();
          refuse(op, error);
        }
      }
      progress();
    }
    pumping = false;
  };
  /** Others have finished some of what waits for me: it goes at once, also from the screen. */
  const catch_up = async now => {
    if (!now || now.n_all === n || n > 2000 || outbox.length || stepping || ended || pass !== "single") return;
    await again().catch(() => {});
    if (ended || pass !== "single" || !shown || places.has(shown)) return;
    const next = following(at - 1);
    if (next === undefined) finish(); else await go(next);
  };
  const waiting = () => { const n_wait = outbox.reduce((sum, op) => sum + op.touched.length, 0); return n_wait ? ` ${counted(n_wait, "grade")} of yours ${n_wait === 1 ? "is" : "are"} not saved yet: kept in this browser, and sent when it is possible again.` : ""; };
  const halt = error => {
    if (error.kind === "login") alarm(`You are logged out.${waiting()} `, link("Log in", `/login?next=${encodeURIComponent(location.pathname)}`));
    else alarm(`${sentence(error.message)}${waiting()}`);
  };
  /** A decision that the server does not take: everything is as before it, and on the screen. */
  const refuse = (op, error) => {
    op.back?.();
    say(`Not saved: ${error.message}.`, true);
  };
  window.addEventListener("beforeunload", event => { if (outbox.length) event.preventDefault(); });

  let fading = 0;
  const say = (text, is_bad = false) => {
    const line = $(".say");
    line.textContent = text;
    line.classList.toggle("bad", is_bad);
    clearTimeout(fading);
    if (text && !is_bad) fading = setTimeout(() => { line.textContent = ""; }, 6000);
  };

  // -------------------------------------------------------------------------------------------------------- clock
  // seconds for which something was on the screen, while the page could be seen
  const clock = {spent: new Map(), what: null, since: null};
  const start_clock = what => { stop_clock(); clock.what = what; if (!document.hidden) clock.since = performance.now(); };
  const stop_clock = () => {
    if (clock.what !== null && clock.since !== null) clock.spent.set(clock.what, (clock.spent.get(clock.what) ?? 0) + (performance.now() - clock.since) / 1000);
    clock.what = clock.since = null;
  };
  const read_clock = what => {
    if (clock.what === what) { stop_clock(); }
    const seconds = clock.spent.get(what) ?? 0;
    clock.spent.delete(what);
    return +Math.min(seconds, 86_400).toFixed(2);
  };
  document.addEventListener("visibilitychange", () => { const {what} = clock; if (what !== null) { stop_clock(); clock.what = what; if (!document.hidden) clock.since = performance.now(); } });

  // ----------------------------------------------------------------------------------------------------- progress
  const paces = {single: [], mosaic: [], grids: []};  // seconds a subject, of the last steps
  const pace = () => {
    const last = paces[pass];
    if (last.length >= 3) return last.reduce((a, b) => a + b, 0) / last.length;
    return standing.n_done ? standing.seconds / standing.n_done : 0;
  };
  const took = seconds => { const last = paces[pass]; last.push(Math.min(seconds, about.idle_s)); if (last.length > 30) last.shift(); };
  const lasting = seconds => seconds < 90 ? `${Math.max(1, Math.round(seconds))} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
  const progress = () => {
    if (!about) return;
    const done = n - total.unseen - total.kept, each = pace(), bar = $(".strip .bar");
    bar.querySelector("i").style.width = `${100 * (n ? done / n : 0)}%`;
    bar.querySelector("b").style.width = `${100 * (n ? total.kept / n : 0)}%`;
    bar.setAttribute("aria-valuemax", n);
    bar.setAttribute("aria-valuenow", done);
    bar.setAttribute("aria-valuetext", `${whole(done)} of ${whole(n)} graded`);
    const left = at_a_glance() ? total.unseen : total.unseen + total.kept;
    const line = $(".pace");
    line.replaceChildren(make("b", "", whole(done)), ` of ${whole(n)}`);
    if (total.kept) line.append(make("span", "", ` · ${whole(total.kept)} for a second look`));
    if (each > 0) line.append(make("span", "each", ` · ${each < 10 ? each.toFixed(1) : Math.round(each)} s each`));
    if (each > 0 && left) line.append(make("span", "", ` · ${lasting(each * left)} left`));
    const n_wait = outbox.length, status = $(".safe");
    status.textContent = n_wait ? `${whole(n_wait)} not saved yet` : standing.n_done || standing.n_kept ? "all saved" : "";
    status.dataset.state = n_wait ? "waiting" : "saved";
    $(".undo").disabled = !n_wait && !standing.n_done && !standing.n_kept || Boolean(paused);
    $(".effort").hidden = !is_grids() || !tell_effort();
    $(".effort").replaceChildren(...tell_effort());
    draw_rail();
    trail();
  };
  /** What hands did so far, and what it saved: "312 subjects in 41 key presses and 27 clicks: 78 % fewer than one by one". */
  const tell_effort = () => {
    if (!standing.effort) return "";
    let {n: subjects, n_keys, n_clicks} = standing.effort;
    for (const {effort: e} of outbox) if (e) { subjects += e.n; n_keys += e.n_keys; n_clicks += e.n_clicks; }
    if (!subjects) return "";
    const saves = 1 - (n_keys + n_clicks) / subjects, share = Math.round(100 * Math.abs(saves));
    return [
      `${counted(subjects, "subject")} in ${whole(n_keys)} key ${n_keys === 1 ? "press" : "presses"} and ${counted(n_clicks, "click")}: `,
      make("b", "", share ? `${share} % ${saves > 0 ? "fewer" : "more"} than one by one` : "as many as one by one"),
    ];
  };
  const trailed = [];  // {op, key, text, saved}
  const trail = () => {
    $(".trail").replaceChildren(...trailed.slice(-TRAIL).map(one => {
      const item = make("li"), chip = make("button", `chip${one.saved ? " saved" : ""}${one.reject ? " reject" : ""}`, one.text);
      chip.type = "button";
      chip.title = `${one.words}${one.saved ? ", saved" : ", not saved yet"}`;
      chip.setAttribute("aria-label", chip.title);
      chip.addEventListener("click", () => one.go());
      item.append(chip);
      return item;
    }));
  };
  const saved = op => {
    const one = trailed.find(other => other.op === op);
    if (one) one.saved = true;
    for (const cell of document.querySelectorAll(".cell.unsaved")) if (op.touched.includes(cell.dataset.key)) cell.classList.remove("unsaved");
  };

  // --------------------------------------------------------------------------------------------------- one by one
  const holder = make("div", "large"), stage = $(".stage"), single = $(".single");
  single.append(holder);
  const viewer = window.voorwerpViewer(holder, {url: key => `${BASE}/picture/${key}`, saves: false, parted: true, keys: {invert: "V", outline: "O"}, seen: () => tell_look()});
  $(".home-of-controls").append(holder.querySelector(".controls"));
  const tell_look = () => { $(".look .as").textContent = viewer.words(); };
  let shown = null;  // key of the picture on the screen: only that can be graded
  let looked = new Set(), choice = null;  // what was asked for of it; "interesting", before it has a grade

  const item_of = key => items.get(key) ?? {key, grade: null, interesting: false, kept: false, tags: [], note: ""};
  const current = () => item_of(keys[at]);

  const show = async () => {
    const key = keys[at];
    if (key === undefined) return;
    if (shown !== key) {
      stop_clock();
      shown = null;
      leave_note();
      forget_asked();
      choice = null;
      stage.setAttribute("aria-busy", "true");
    }
    ended = false;
    draw();
    const is_there = await viewer.show(key, `Subject ${whole(at + 1)} of ${whole(n)}`);
    if (keys[at] !== key || pass !== "single" && !$(".stage").classList.contains("closer")) return;
    stage.setAttribute("aria-busy", "false");
    tell_look();
    if (!is_there) { say("This picture cannot be shown; Q says that you cannot judge it."); }
    shown = key;
    stage.dataset.shown = key;
    if (pass === "single") start_clock(key);
    prefetch();
  };
  const prefetch = async () => {
    const next = [];
    await have(at - BEHIND, at + AHEAD + 1).catch(() => {});
    for (let i = at, j = 0; j < AHEAD && i !== undefined; j++) { i = following(i, true); if (i === undefined || next.includes(i)) break; next.push(i); }
    for (let i = 1; i <= BEHIND; i++) if (at - i >= 0) next.push(at - i);
    if (at + 1 < n) next.push(at + 1);
    const missing = next.filter(i => !keys[i]);
    for (const i of missing) await load(i).catch(() => {});
    viewer.ahead(next.map(i => keys[i]).filter(Boolean));
  };

  const of_pass = i => marks[i] !== TURNED;
  /** The next one that waits for a grade: those marked for a second look first, then those never seen; undefined without. */
  const following = (from, is_ahead = false) => {
    const find = mark => {
      for (let k = 1; k <= n; k++) { const i = (from + k) % n; if (marks[i] === mark && (i !== at || !is_ahead)) return i; }
      return undefined;
    };
    return (total.kept ? find(KEPT) : undefined) ?? find(UNSEEN);
  };
  const step = by => {
    for (let i = at + by; i >= 0 && i < n; i += by) if (of_pass(i)) { go(i); return; }
    say(by > 0 ? "This is the last one." : "This is the first one.");
  };
  const go = async i => {
    at = Math.max(0, Math.min(n - 1, i));
    if (!keys[at]) await load(at);
    await show();
  };

  const grade = (key, {stays = false, interesting} = {}) => {
    if (ended || paused) { if (paused) say("Nothing can be graded now."); return; }
    if (stepping) { say("One moment: the last step is under way."); return; }  // else what it brings back were overwritten
    const subject = keys[at], before = {...item_of(subject)}, mark = marks[at], index = at;
    if (!subject || shown !== subject) { say("One moment: the picture is not there yet."); return; }
    const flag = interesting ?? choice ?? before.interesting, seconds = read_clock(subject);
    const body = {id: uuid(), key: subject, grade: key, interesting: flag, seconds, looked: [...looked]};
    items.set(subject, {...before, grade: key, interesting: flag, kept: false});
    set_mark(at, GIVEN);
    const op = {
      path: "vote", body, touched: [subject], marks: {[subject]: GIVEN},
      back: () => {
        items.set(subject, before);
        const place = places.get(subject) ?? index;
        set_mark(place, mark);
        drop(op);
        pass_to("single");
        go(place);
      },
      done: () => tell(subject, index),
    };
    trailed.push({op, key: subject, text: `${key}${flag ? "★" : ""}`, words: `${whole(at + 1)}: ${name_of(key)}${flag ? ", interesting" : ""}`, reject: key === about.scheme.reject, saved: false, go: () => { pass_to("single"); go(places.get(subject) ?? index); }});
    if (before.grade === null) took(seconds);
    push(op);
    if (stays) { start_clock(subject); draw(); return; }
    advance();
  };
  const drop = op => { const i = trailed.findIndex(one => one.op === op); if (i >= 0) trailed.splice(i, 1); };
  const advance = () => {
    const next = following(at);
    if (next === undefined) { finish(); return; }
    go(next);
  };
  const name_of = key => key === "Q" ? "cannot judge" : about.scheme.grades.find(g => g.key === key)?.name ?? key;
  const star = () => {
    const item = current();
    if (ended || shown !== item.key) return;
    const on = !(choice ?? item.interesting);
    if (item.grade !== null) grade(item.grade, {stays: true, interesting: on});
    else { choice = on; draw(); }
  };

  const grades = new Map();
  const offer_grades = () => {
    $(".scheme h2").textContent = about.scheme.name;
    $(".grades").replaceChildren(...about.scheme.grades.map(g => {
      const e = make("button", "grade"), cap = make("kbd", "", g.key), text = make("span", "text");
      e.type = "button";
      e.setAttribute("aria-pressed", "false");
      text.append(make("b", "", g.name), make("span", "definition", g.definition));
      e.append(cap, text);
      e.addEventListener("click", () => give(g.key));
      grades.set(g.key, e);
      return e;
    }));
    $(".grades").classList.toggle("many", about.scheme.grades.length > 4);
    grades.set("Q", $(".cannot"));
  };
  $(".cannot").addEventListener("click", () => give("Q"));
  $(".interesting").addEventListener("click", () => flag());

  const place_in_address = where => { try { history.replaceState(null, "", where); } catch { /* some browsers take only so many a second */ } };
  /** What of me stands beside the picture. */
  const draw = () => {
    const item = at_a_glance() ? item_of(cursor_key()) : current();
    for (const [key, e] of grades) e.setAttribute("aria-pressed", String(item.grade === key));
    $(".interesting").setAttribute("aria-pressed", String(at_a_glance() ? picked.get(item.key) === "star" || !picked.has(item.key) && item.interesting : choice ?? item.interesting));
    const is_single = pass === "single", span = $(".jump span"), number = $(".jump b");
    number.textContent = is_single ? whole(at + 1) : `${whole(first + 1)} – ${whole(page_end())}`;
    span.textContent = `of ${whole(n)}`;
    $(".unseen").textContent = is_single ? `Subject ${whole(at + 1)} of ${whole(n)}` : `Subjects ${number.textContent} of ${whole(n)}`;
    show_own(item);
    if (is_single) place_in_address(`#${item.key}`);
    if (is_single) tell_current(item);
  };

  // ---------------------------------------------------------------------------------------------- tags and a note
  const tag_box = $("#tag"), note_box = $("#note");
  let own_key = null;
  const show_own = item => {
    if (own_key !== item.key || document.activeElement !== note_box) note_box.value = item.note ?? "";
    own_key = item.key;
    $(".tags").replaceChildren(...(item.tags ?? []).map(tag => {
      const line = make("li"), chip = make("button", "", `${tag} ✕`);
      chip.type = "button";
      chip.setAttribute("aria-label", `Take away the tag ${tag}`);
      chip.addEventListener("click", () => set_tag(tag, false));
      line.append(chip);
      return line;
    }));
  };
  const set_tag = (tag, on) => {
    const key = own_key, before = item_of(key), tags = before.tags.filter(other => other !== tag);
    if (!key || !tag) return;
    items.set(key, {...before, tags: on ? [...tags, tag] : tags});
    show_own(item_of(key));
    push({path: "tag", body: {id: uuid(), key, tag, on}, touched: [key], back: () => { items.set(key, {...item_of(key), tags: before.tags}); draw(); }, done: told => { told.items.forEach(take); if (own_key === key) show_own(item_of(key)); }});
  };
  $(".tagging").addEventListener("submit", event => {
    event.preventDefault();
    const tag = tag_box.value.trim().toLowerCase();
    tag_box.value = "";
    tag_box.blur();
    set_tag(tag, true);
  });
  let typed = false;  // only what a person typed is a note: an answer may come between it and the box
  const leave_note = () => {
    const key = own_key, text = note_box.value.trim(), before = item_of(key);
    if (!key || !typed) return;
    typed = false;
    if (text === (before.note ?? "").trim()) return;
    items.set(key, {...before, note: text});
    push({path: "note", body: {id: uuid(), key, text}, touched: [key], back: () => { items.set(key, {...item_of(key), note: before.note}); draw(); }, done: told => { told.items.forEach(take); if (!typed) draw(); }});
  };
  note_box.addEventListener("input", () => { typed = true; });
  note_box.addEventListener("blur", leave_note);
  note_box.addEventListener("keydown", event => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) note_box.blur(); });

  // ---------------------------------------------------------------------------------------------------- on demand
  const asked = $(".asked");
  const forget_asked = () => {
    looked = new Set();
    for (const image of asked.querySelectorAll("img")) URL.revokeObjectURL(image.src);
    asked.replaceChildren();
    for (const b of document.querySelectorAll(".asks button")) b.setAttribute("aria-pressed", "false");
  };
  const request = async (what, button, draw_it) => {
    const key = keys[at];
    if (pass !== "single" || shown !== key || ended) return;
    const held = asked.querySelector(`.${what}`);
    if (held) { held.remove(); button.setAttribute("aria-pressed", "false"); return; }
    button.setAttribute("aria-pressed", "true");
    const box = make("div", what);
    box.append(make("p", "quiet", "Looking …"));
    asked.append(box);
    looked.add(what);
    try {
      const told = await unpack(await ask(`${BASE}/${what}/${key}`));
      if (box.isConnected) box.replaceChildren(...draw_it(told));
    } catch (error) {
      if (box.isConnected) box.replaceChildren(make("p", "quiet", sentence(error.message)));
    }
  };
  const picture = (src, alt) => { const image = make("img"); image.src = src; image.alt = alt; return image; };
  const compare = () => request("reconstruction", $(".compare"), told => {
    const pair = make("div", "pair-of");
    for (const [i, words] of ["what the model saw", "what it makes of it"].entries()) {
      const figure = make("figure");
      figure.append(picture(told.pictures[i], words), make("figcaption", "", words));
      pair.append(figure);
    }
    return [pair];
  });
  const context = () => request("context", $(".context"), told => {
    const place = make("p", told.place ? "place" : "quiet"), sky = make("p", "links"), alike = make("div", "alike");
    place.textContent = told.place || "Its place on the sky is not known.";
    for (const l of told.links) { const a = link(l.title, l.url); a.target = "_blank"; a.rel = "noopener noreferrer"; sky.append(a); }
    told.pictures.forEach((src, i) => { if (src) alike.append(picture(src, `Look-alike ${i + 1}`)); });
    return [place, ...told.links.length ? [sky] : [], ...told.pictures.length ? [make("p", "quiet", "Alike to the model:"), alike] : []];
  });
  $(".compare").addEventListener("click", compare);
  $(".context").addEventListener("click", context);

  // --------------------------------------------------------------------------------------------------- what others said
  const tellings = new Map();  // key → what was told
  const telling = (title, told) => {
    const parts = [make("h2", "", title)], line = (name, text) => { const p = make("p"); p.append(make("span", "", name), make("b", "", text)); p.title = text; parts.push(p); };
    if (told.machine) line("Machine", told.machine);
    if (told.volunteers) line("Volunteers", told.volunteers);
    if (told.others) line("Others", told.others);
    return parts.length > 1 ? parts : [];
  };
  /** What the server tells, in words. */
  const in_words = told => ({machine: words_of_machine(told), volunteers: words_of_volunteers(told), others: words_of_others(told)});
  const words_of_machine = told => told.scores?.anomaly_score === undefined || told.scores.anomaly_score === null ? "" : `anomaly score ${window.voorwerp.format(told.scores.anomaly_score)}`;
  const words_of_volunteers = told => told.volunteers ? `${told.volunteers.n_chosen} of ${told.volunteers.n_votes} chose it${told.is_simulated ? " (simulated)" : ""}` : "";
  const words_of_others = told => told.votes.length ? told.votes.map(vote => `${vote.grade}${vote.interesting ? "★" : ""} ${vote.is_adjudication ? "decided by " : ""}${vote.who}`).join(", ") : about.graders > 1 ? "nobody yet" : "";
  const ask_told = async key => {
    if (!tellings.has(key)) {
      try { tellings.set(key, in_words(await (await ask(`${BASE}/told/${key}`)).json())); } catch { return null; }
      if (tellings.size > 64) tellings.delete(tellings.keys().next().value);
    }
    return tellings.get(key);
  };
  const tell = async (key, index) => {
    tellings.delete(key);
    const told = await ask_told(key);
    if (told && pass === "single" && current().grade === null && keys[at] !== key) put_told(`The one before, ${whole(index + 1)}`, told, key, false);
  };
  let told_of = null, told_here = false;  // of which subject the panel tells, and whether it was on the screen
  const put_told = (title, told, key, here) => {
    [told_of, told_here] = [key, here];
    $(".told").replaceChildren(...told ? telling(title, told) : []);
  };
  const tell_current = async item => {
    if (item.grade === null && (told_here || told_of === item.key)) put_told("", null, null, false);  // to be graded blind
    if (item.grade === null || outbox.some(op => op.touched.includes(item.key))) return;
    const told = await ask_told(item.key);
    if (told && current() === item && pass === "single") put_told("Of this one", told, item.key, true);
  };

  // ------------------------------------------------------------------------------------------------------- mosaic
  const mosaic = $(".mosaic"), sizer = $(".sizer input");
  const GAP = 6, ABOVE = 44;  // px; the latter for what a grid is of
  let first = 0, columns = Math.min(14, Math.max(4, Number(recall("voorwerp-mosaic")) || 8)), rows = 5, cell_px = 120, cursor = 0;
  let is_ready = false, latest = 0;
  // key → "look", "star", a grade, "wait" where there is no picture, or "" for what was taken off again; of the page on the screen
  const picked = new Map();
  const tiles = new Map();   // key → promise of {src, arcsec, outline, image}
  const is_grids = () => pass === "grids", at_a_glance = () => pass !== "single";
  const glance = () => about.clusters.length ? "grids" : "mosaic";
  let side = Number(recall("voorwerp-grid")) === 6 ? 6 : 5;  // of a grid
  const size = () => is_grids() ? side * side : columns * rows;
  /** A page of the mosaic begins anywhere; a grid is cut of its cluster. */
  const page_start = i => { const a = is_grids() ? starts[cluster_of(i)] ?? 0 : i; return a + Math.floor((i - a) / size()) * size(); };
  const page_end = (from = first) => { const c = cluster_of(from); return Math.min(n, from + size(), is_grids() ? starts[c] + spans[c] : n); };
  const page_keys = (from = first) => keys.slice(from, page_end(from));
  const cursor_key = () => keys[first + cursor];
  const measure = () => {
    const {clientWidth: w, clientHeight: h} = stage;
    if (is_grids()) {
      cell_px = Math.max(24, Math.floor((Math.min(w, h - ABOVE) - GAP * (side - 1)) / side));
      mosaic.style.setProperty("--columns", side);
      mosaic.style.setProperty("--cell", `${cell_px}px`);
      return;
    }
    cell_px = Math.floor((w - GAP * (columns - 1)) / columns);
    rows = Math.max(1, Math.floor((h + GAP) / (cell_px + GAP)));
    mosaic.style.setProperty("--columns", columns);
    mosaic.style.setProperty("--cell", `${cell_px}px`);
    sizer.value = columns;
    $(".sizer output").textContent = `${columns} × ${rows}`;
  };
  /** In a grid what the network saw fills most of a picture: clusters are of that. Left, top and side, shares of the whole picture. */
  const CLOSE = 1.25;
  const view_of = outline => {
    if (!is_grids() || !outline) return [0, 0, 1];
    const [left, top, extent] = outline, v = Math.min(1, CLOSE * extent), at_most = x => Math.max(0, Math.min(1 - v, x));
    return [at_most(left + extent / 2 - v / 2), at_most(top + extent / 2 - v / 2), v];
  };
  const px = () => { const wanted = cell_px * window.devicePixelRatio * (is_grids() ? 2 : 1); return wanted <= 180 ? 160 : wanted <= 400 ? 320 : 640; };
  /** Pictures of subjects, fetched by the dozen and decoded. */
  const tile_of = wanted => {
    const missing = wanted.filter(key => !tiles.has(`${key} ${px()}`)), side = px();
    for (let i = 0; i < missing.length; i += 16) {
      const some = missing.slice(i, i + 16);
      const pack = insist(`${BASE}/mosaic?${new URLSearchParams([["px", side], ...some.map(key => ["key", key])])}`).then(unpack);
      some.forEach((key, k) => {
        const tile = pack.then(async told => {
          const image = make("img"), src = told.pictures[k];
          image.alt = "";
          image.draggable = false;
          if (src) { image.src = src; await image.decode().catch(() => {}); }
          return {src, outline: told.outlines[k], image};
        });
        tile.catch(() => tiles.delete(`${key} ${side}`));
        tiles.set(`${key} ${side}`, tile);
      });
    }
    while (tiles.size > KEPT_TILES) {
      const [name, tile] = tiles.entries().next().value;
      tiles.delete(name);
      tile.then(({src}) => { if (src) URL.revokeObjectURL(src); }, () => {});
    }
    return Promise.all(wanted.map(key => tiles.get(`${key} ${side}`)));
  };
  const turn_page = async (from, cursor_at = 0, marked = []) => {
    const mine = ++latest;
    stop_clock();
    measure();
    ended = false;
    first = page_start(Math.max(0, Math.min(from, Math.max(0, n - 1))));
    cursor = 0;
    is_ready = false;
    picked.clear();
    for (const [key, mark] of marked) picked.set(key, mark);
    $(".judge .page").hidden = !at_a_glance();
    for (let had = null; had !== version;) {  // others may have finished some meanwhile
      if (had !== null) first = page_start(Math.min(first, Math.max(0, n - 1)));
      had = version;
      await have(first, page_end());
      if (mine !== latest) return;
    }
    if (is_grids()) place_in_address(location.pathname);
    const here = page_keys();
    draw_page();
    stage.setAttribute("aria-busy", "true");
    let found;
    const blank = setTimeout(() => { if (mine === latest) mosaic.replaceChildren(...here.map(() => make("div", "cell empty"))); }, 60);
    try { found = await tile_of(here); } catch (error) { if (mine === latest) say(sentence(error.message), true); return; } finally { clearTimeout(blank); }
    if (mine !== latest || !at_a_glance()) return;
    mosaic.replaceChildren(...here.map((key, i) => cell(key, found[i], i)));
    for (const [i, key] of here.entries()) if (!found[i].src && item_of(key).grade === null && !picked.has(key)) picked.set(key, is_grids() ? "wait" : "look");  // nobody turns down what was not seen
    [...mosaic.children].forEach(mark_cell);
    is_ready = true;
    stage.setAttribute("aria-busy", "false");
    stage.dataset.shown = `${first}`;
    move_to(Math.min(cursor_at, here.length - 1), document.activeElement === document.body || mosaic.contains(document.activeElement));
    start_clock("mosaic");
    draw_page();
    const next = next_page();
    await have(next, next + size()).catch(() => {});
    if (mine === latest && next < n) tile_of(page_keys(next).filter(Boolean)).catch(() => {});
  };
  const cell = (key, tile, i) => {
    const e = make("button", "cell");
    e.type = "button";
    e.dataset.key = key;
    e.tabIndex = -1;
    const [x, y, v] = view_of(tile.outline), percent = share => `${100 * share / v}%`;
    if (tile.src) e.append(tile.image); else e.append(make("span", "none", "no picture"));
    Object.assign(tile.image.style, v < 1 ? {position: "absolute", left: percent(-x), top: percent(-y), width: percent(1), height: percent(1)} : {position: "", left: "", top: "", width: "", height: ""});
    if (tile.outline) {
      const [left, top, extent] = tile.outline, box = make("span", "outline");
      Object.assign(box.style, {left: percent(left - x), top: percent(top - y), width: percent(extent), height: percent(extent)});
      e.append(box);
    }
    e.append(make("span", "badge"));
    e.addEventListener("click", event => { move_to(i, true); pick(event.shiftKey ? "star" : "look"); });
    e.addEventListener("focus", () => { if (cursor !== i) { cursor = i; draw(); } });
    return e;
  };
  const state_of = key => picked.get(key) ?? (item_of(key).grade !== null ? `given ${item_of(key).grade}` : item_of(key).kept ? item_of(key).interesting ? "star" : "look" : "");
  const mark_cell = e => {
    const key = e.dataset.key, state = state_of(key), i = [...mosaic.children].indexOf(e);
    const is_given = state.startsWith("given "), given = is_given ? state.slice(6) : state.length === 1 ? state : "";
    e.dataset.state = is_given ? "given" : given ? "graded" : state === "wait" ? "look" : state;
    e.querySelector(".badge").textContent = given || (state === "star" ? "★" : is_grids() && state ? "≠" : "");
    const words = {look: is_grids() ? "an exception" : "second look", star: "interesting, second look", wait: "waits for one by one"}[state] ?? (given ? name_of(given) : "not marked");
    e.setAttribute("aria-label", `Subject ${whole(first + i + 1)}, ${words}`);
    e.setAttribute("aria-pressed", String(["look", "star", "wait"].includes(state)));
  };
  const move_to = (i, focuses) => {
    const cells = mosaic.children;
    if (!cells.length) return;
    cells[cursor]?.setAttribute("tabindex", "-1");
    cursor = Math.max(0, Math.min(cells.length - 1, i));
    cells[cursor].tabIndex = 0;
    if (focuses) cells[cursor].focus({preventScroll: true});
    draw();
  };
  /** Mark the subject under the cursor; the same once more takes it off. */
  const pick = what => {
    const key = cursor_key();
    if (!key || !is_ready || ended) return;
    const state = state_of(key), was = state.startsWith("given ") ? state.slice(6) : state;
    picked.set(key, was === what ? "" : what);
    mark_cell(mosaic.children[cursor]);
    draw_page();
  };
  /** What Enter would say: key → grade, and the ones for a second look. */
  const decision = () => {
    const told = {grades: {}, kept: [], interesting: []};
    for (const key of page_keys()) {
      const item = item_of(key), mark = picked.get(key);
      if (mark === undefined && (item.grade !== null || item.kept)) continue;  // as it was
      if (mark === "look" || mark === "star") {
        if (mark === "star") told.interesting.push(key);
        told.kept.push(key);
      } else {
        const given = mark || about.scheme.reject;
        if (given !== item.grade || item.kept) told.grades[key] = given;
      }
    }
    return told;
  };
  /** What a grade's key, or turning down, would say of a grid: all of it gets that grade but the marked ones. These get the other one of
   *  two grades; of more they wait for one by one, and so does what is interesting or has no picture. */
  const grid_decision = given => {
    const told = {grades: {}, kept: [], interesting: []}, two = about.scheme.grades.length === 2 && given !== "Q";
    const other = two ? about.scheme.grades.find(g => g.key !== given).key : null;
    for (const key of page_keys()) {
      const item = item_of(key), mark = picked.get(key);
      if (mark === undefined && (item.grade !== null || item.kept)) continue;  // as it was
      if (mark === "star") told.interesting.push(key);
      if (mark === "look" && other) told.grades[key] = other;
      else if (mark) told.kept.push(key);
      else told.grades[key] = given;
    }
    return told;
  };
  const draw_grid = () => {
    const c = cluster_of(first), {reject, grades: all} = about.scheme, told = grid_decision(reject), n_down = Object.values(told.grades).filter(g => g === reject).length;
    const n_other = Object.keys(told.grades).length - n_down, line = $(".of-grid");
    const is_decided = !n_down && !n_other && !told.kept.length, pages = Math.ceil(spans[c] / size());
    $(".page .go span").textContent = is_decided ? "Next grid" : n_down ? `Turn down ${whole(n_down)} as ${reject}` : "Go on";
    $(".besides").textContent = is_decided ? "This grid has its grades; mark what is to change." : [n_other ? `${whole(n_other)} marked: the other grade` : "", told.kept.length ? `${whole(told.kept.length)} for one by one` : ""].filter(Boolean).join(" · ");
    const said = `Cluster ${whole(c + 1)} of ${whole(spans.length)} · ${about.clusters[c].words} · ${counted(spans[c], "subject")} · grid ${whole((first - starts[c]) / size() + 1)} of ${whole(pages)}`;
    if (line.dataset.said !== said) {
      const [head, ...rest] = said.split(" · ");
      line.dataset.said = said;
      line.replaceChildren(make("b", "", head), ...rest.map(text => make("span", "", text)));
    }
    $(".exception").textContent = all.length === 2 ? "an exception, gets the other grade: click or Space" : "an exception, waits for one by one: click or Space";
    draw();
    draw_rail();
  };
  const rail = $(".rail ol");
  const draw_rail = () => {
    if (!is_grids()) return;
    const here = ended ? -1 : cluster_of(first), farthest = Math.max(1, ...about.clusters.map(c => c.novelty ?? 0));
    if (rail.children.length !== about.clusters.length) rail.replaceChildren(...about.clusters.map((c, i) => {
      const item = make("li"), b = make("button"), far = make("i", "far"), bar = make("i", "done");
      b.type = "button";
      b.tabIndex = -1;
      far.append(make("i"));
      far.firstChild.style.width = `${100 * (c.novelty ?? 0) / farthest}%`;
      bar.append(make("i"));
      b.append(make("b", "", whole(i + 1)), far, make("span"), bar);
      b.addEventListener("click", () => to_cluster(i));
      item.append(b);
      return item;
    }));
    [...rail.children].forEach((item, i) => {
      const b = item.firstChild, done = spans[i] - unseen_in[i];
      b.disabled = !spans[i];
      b.querySelector("span").textContent = done && unseen_in[i] ? `${whole(done)} of ${whole(spans[i])}` : whole(spans[i]);
      b.querySelector(".done i").style.width = `${spans[i] ? 100 * done / spans[i] : 0}%`;
      b.classList.toggle("all", !unseen_in[i]);
      b.title = `${sentence(about.clusters[i].words)} ${whole(done)} of ${whole(spans[i])} judged.`;
      b.setAttribute("aria-label", `Cluster ${whole(i + 1)}: ${b.title}`);
      if ((i === here) === b.hasAttribute("aria-current")) return;
      if (i === here) { b.setAttribute("aria-current", "true"); item.scrollIntoView({block: "nearest"}); } else b.removeAttribute("aria-current");
    });
  };
  const to_cluster = c => {
    const begin = starts[c], end = begin + spans[c];
    let i = begin;
    while (i < end && marks[i] !== UNSEEN) i++;
    if (spans[c]) pass_to("grids", i < end ? i : begin);
  };
  const by_cluster = step => {
    let c = cluster_of(first) + step;
    while (c >= 0 && c < spans.length && !spans[c]) c += step;
    if (c < 0 || c >= spans.length) say(step > 0 ? "This is the last cluster." : "This is the first cluster."); else to_cluster(c);
  };
  // what hands did since the last grid was sent: the server counts it with the next one
  let hands = {n_keys: 0, n_clicks: 0};
  document.addEventListener("click", event => {
    if (about && is_grids() && !ended && event.detail > 0 && event.target.closest(".stage, .judge, .rail, .undo")) hands.n_clicks++;
  }, true);
  const draw_page = () => {
    if (is_grids()) { draw_grid(); return; }
    const told = decision(), n_down = Object.values(told.grades).filter(g => g === about.scheme.reject).length, button = $(".page .go span");
    const n_other = Object.keys(told.grades).length - n_down;
    button.textContent = n_down ? `Turn down ${whole(n_down)} as ${about.scheme.reject}` : told.kept.length || n_other ? "Go on" : "Next page";
    $(".besides").textContent = [told.kept.length ? `${whole(told.kept.length)} for a second look` : "", n_other ? `${whole(n_other)} graded` : ""].filter(Boolean).join(" · ");
    draw();
  };
  const next_page = () => {
    const from = page_end();
    for (let i = from; i < n; i++) if (marks[i] === UNSEEN) return is_grids() ? page_start(i) : i - from >= size() ? i : from;
    for (let i = 0; i < n; i++) if (marks[i] === UNSEEN && (i < first || i >= from)) return page_start(i);
    return from;
  };
  const go_on = () => {
    if (ended) { $(".pause button")?.click(); return; }
    if (is_grids()) give_grid(about.scheme.reject, true); else decide(decision());
  };
  const give_grid = (given, leaves = false) => {
    if (ended) return;
    const told = grid_decision(given);
    if (!leaves && !Object.keys(told.grades).length && !told.kept.length) { say("This grid has its grades: mark what is to change."); return; }
    decide(told, given);
  };
  const decide = (told, given) => {
    if (stepping) { say("One moment: the last step is under way."); return; }
    if (!is_ready || paused) { say("One moment: not all pictures are there yet."); return; }
    const touched = [...Object.keys(told.grades), ...told.kept], is_grid = is_grids();
    const seconds = read_clock("mosaic"), from = first, here = cursor;
    if (touched.length) {
      const before = touched.map(key => ({...item_of(key)})), old = touched.map(key => marks[places.get(key)]), now = {};
      for (const [key, grade_of] of Object.entries(told.grades)) { items.set(key, {...item_of(key), grade: grade_of, kept: false, interesting: false}); now[key] = TURNED; }
      for (const key of told.kept) { items.set(key, {...item_of(key), grade: null, kept: true, interesting: told.interesting.includes(key)}); now[key] = KEPT; }
      for (const key of touched) set_mark(places.get(key), now[key]);
      const did = hands, n_new = Object.keys(told.grades).filter(key => before[touched.indexOf(key)].grade === null).length;
      const op = {
        path: "bulk", body: {id: uuid(), ...told, seconds, ...is_grid ? {via: "grid", ...did} : {}}, touched, marks: now,
        page: {key: keys[from], cursor: here, picked: [...picked]},
        ...is_grid ? {effort: {n: n_new, ...did}} : {},
        back: () => {
          touched.forEach((key, i) => { items.set(key, before[i]); set_mark(places.get(key), old[i]); });
          drop(op);
          if (is_grid) hands = {n_keys: hands.n_keys + did.n_keys, n_clicks: hands.n_clicks + did.n_clicks};
          pass_to(glance(), from, op.page);
        },
      };
      if (is_grid) {
        hands = {n_keys: 0, n_clicks: 0};
        const n_given = Object.values(told.grades).filter(g => g === given).length, n_others = Object.keys(told.grades).length - n_given;
        const words = [n_given ? `${whole(n_given)} ${name_of(given)} (${given})` : "", n_others ? `${whole(n_others)} the other grade` : "", told.kept.length ? `${whole(told.kept.length)} for one by one` : ""].filter(Boolean).join(", ");
        trailed.push({op, text: `${n_given || touched.length}${given}`, words: `${$(".of-grid").dataset.said}: ${words}`, reject: given === about.scheme.reject, saved: false, go: () => pass_to("grids", places.get(op.page.key) ?? from)});
        say(sentence(words));
      } else trailed.push({op, text: `${touched.length - told.kept.length}${told.kept.length ? `+${told.kept.length}` : ""}`, words: `${whole(from + 1)} – ${whole(Math.min(n, from + size()))}: ${touched.length - told.kept.length} turned down, ${told.kept.length} for a second look`, reject: true, saved: false, go: () => pass_to(glance(), from)});
      for (let i = 0; i < 3; i++) took(seconds / touched.length);
      push(op);
    }
    leave_page(here);
  };
  const leave_page = cursor_at => {
    const next = next_page();
    if (!total.unseen || next >= n) finish(); else turn_page(next, cursor_at);
  };
  const back_page = () => {
    if (first <= 0) { say("This is the first page."); return; }
    turn_page(is_grids() ? first - 1 : Math.max(0, first - size()));
  };
  sizer.addEventListener("input", () => {
    columns = Number(sizer.value);
    remember("voorwerp-mosaic", columns);
    turn_page(first);
  });
  for (const b of document.querySelectorAll("[data-side]")) b.addEventListener("click", () => set_side(Number(b.dataset.side)));
  const show_side = () => { for (const b of document.querySelectorAll("[data-side]")) b.setAttribute("aria-pressed", String(Number(b.dataset.side) === side)); };
  const set_side = to => {
    if (to === side || to !== 5 && to !== 6) return;
    side = to;
    remember("voorwerp-grid", side);
    show_side();
    turn_page(first);
  };
  show_side();
  $(".page .go").addEventListener("click", go_on);
  /** One of the mosaic, large: the same keys mark it. */
  const closer = async on => {
    stage.classList.toggle("closer", on);
    single.hidden = !on;
    if (!on) { move_to(cursor, true); return; }
    at = first + cursor;
    shown = null;
    await viewer.show(keys[at], `Subject ${whole(at + 1)} of ${whole(n)}`);
    viewer.ahead(page_keys());
  };
  const is_closer = () => stage.classList.contains("closer");

  // ------------------------------------------------------------------------------------------- passes, and the end
  const pass_to = (to, where, as_it_was) => {
    const is_new = pass !== to;
    pass = to;
    ended = false;
    remember(`voorwerp-pass-${ID}`, pass);
    $(".pause").hidden = true;
    $(".pause").replaceChildren();
    document.body.dataset.pass = pass;
    stage.classList.remove("closer");
    mosaic.hidden = !at_a_glance();
    single.hidden = pass !== "single";
    $(".rail").hidden = $(".of-grid").hidden = !is_grids();
    $(".judge .page").hidden = !at_a_glance();
    $(".judge .own").hidden = pass !== "single";
    $(".told").hidden = pass !== "single";
    for (const b of document.querySelectorAll("[data-pass][aria-pressed]")) b.setAttribute("aria-pressed", String(b.dataset.pass === pass));
    if (is_new) { stop_clock(); shown = null; forget_asked(); }
    if (at_a_glance()) turn_page(where ?? first, as_it_was?.cursor, as_it_was?.picked);
    progress();
  };
  const turn_pass = async () => {
    if (pass === "single") {
      const i = marks.indexOf(UNSEEN);
      pass_to(glance(), i >= 0 ? i : 0);
      return;
    }
    pass_to("single");
    const next = following(n - 1);
    if (next === undefined) finish(); else go(next);
  };
  for (const b of document.querySelectorAll("button[data-pass]")) b.addEventListener("click", () => { if (b.dataset.pass !== pass || ended) { if (b.dataset.pass === pass) pass = pass === "single" ? glance() : "single"; turn_pass(); } });

  let given = null;  // how often each grade, once the server has them all
  const refresh_end = async () => {
    while (outbox.length && !paused) await sleep(0.05);
    await again().catch(() => {});
    if (ended && given) finish();
  };
  const finish = () => {
    ended = true;
    stop_clock();
    leave_note();
    shown = null;
    const box = $(".pause"), parts = [], act = (text, run, key) => {
      const b = make("button", "go");
      b.type = "button";
      b.append(make("span", "", text), ...key ? [make("kbd", "", key)] : []);
      b.addEventListener("click", run);
      return b;
    };
    latest++;  // of a page that is under way, nothing more
    single.hidden = mosaic.hidden = $(".judge .page").hidden = $(".of-grid").hidden = true;
    stage.classList.remove("closer");
    stage.setAttribute("aria-busy", "false");
    delete stage.dataset.shown;
    const saved_so = tell_effort(), effort_line = () => { const p = make("p", "quiet"); p.append(...saved_so); return p; };
    if (at_a_glance() && total.kept) {
      parts.push(make("h2", "", is_grids() ? "That was the last grid" : "That was the mosaic"), make("p", "", `${counted(total.kept, "subject")} ${total.kept === 1 ? "waits" : "wait"} for a second look, one by one.`), act("Look at them", turn_pass, "Enter"));
    } else if (total.unseen + total.kept) {
      parts.push(make("h2", "", "So far, so good"), make("p", "", `${counted(total.unseen + total.kept, "subject")} ${total.unseen + total.kept === 1 ? "is" : "are"} left.`), act("Go on", () => { pass_to("single"); go(following(n - 1)); }, "Enter"));
    } else {
      const table = make("dl", "counts"), counts = given ?? {};
      for (const [key, number] of Object.entries(counts)) if (number) { const dt = make("dt"); dt.append(make("kbd", "", key), ` ${name_of(key)}`); table.append(dt, make("dd", "", whole(number))); }
      parts.push(make("h2", "", n ? "Thank you. That was all of them" : "There is nothing here for you to grade"));
      if (n) parts.push(make("p", "", `You have given ${counted(n, "grade")}${standing.seconds ? ` in ${lasting(standing.seconds)} of looking` : ""}.`));
      if (n && !given) refresh_end(); else if (n) parts.push(table);
      if (n && saved_so) parts.push(effort_line());
      for (const text of [about.left, about.model, about.problem]) if (text) parts.push(make("p", "left", text));
      parts.push(make("p", "quiet", about.order === "acquisition" ? "The order is made anew from all grades; more may come, and this page looks for them by itself."
        : `What comes of them is ${about.graders > 1 ? `seen when ${about.graders} graders have given theirs` : "seen in the explorer"}. You can go back and change any grade as long as the campaign is open.`));
      const row = make("div", "row");
      row.append(link("All campaigns", "/vet"));
      if (n) row.append(act("Look back", () => { pass_to("single"); go(n - 1); }));
      parts.push(row);
    }
    box.replaceChildren(...parts);
    box.hidden = false;
    place_in_address(location.pathname);
    progress();
  };

  // ------------------------------------------------------------------------------------------------- undo and redo
  let stepping = false;
  const undone = [];  // of the trail, to be brought back
  const step_back = path => {
    if (stepping) say("One moment: the last step is under way.");
    if (stepping || paused) return;
    stepping = true;
    push({
      path, body: {id: uuid()}, touched: [],
      back: () => { stepping = false; },
      done: told => stepped(path, told).finally(() => { stepping = false; }),
    });
  };
  const stepped = async (path, told) => {
    told.items.forEach(take);
    await again();
    told.keys.forEach(key => tellings.delete(key));
    const one = path === "undo" ? trailed.pop() : undone.pop();
    if (path === "undo") undone.push(one);
    else trailed.push(one ?? {text: told.keys.length === 1 ? item_of(told.keys[0]).grade ?? "…" : `${told.keys.length}`, words: "brought back", saved: true, go: () => {}});
    say(sentence(told.what));
    const i = Math.min(...told.keys.map(key => places.get(key) ?? Infinity));
    const where = Math.max(0, Number.isFinite(i) ? i : (await fetch_queue({key: told.keys[0], count: 1})).start);
    if (told.keys.length > 1 || one?.op?.page) {
      const of_page = one?.op?.page && told.keys.every(key => one.op.touched.includes(key)) ? one.op.page : undefined;
      pass_to(glance(), places.get(of_page?.key) ?? where, path === "undo" ? of_page : undefined);
      if (path === "redo") leave_page(of_page?.cursor);
    } else {
      pass_to("single");
      if (path === "undo") await go(where);
      else { at = where; advance(); tell(told.keys[0], where); }
    }
    progress();
  };
  $(".undo").addEventListener("click", () => step_back("undo"));

  // --------------------------------------------------------------------------------------------------------- keys
  const give = key => { if (is_grids()) give_grid(key); else if (at_a_glance()) pick(key); else grade(key); };
  const flag = () => { if (at_a_glance()) pick("star"); else star(); };
  const GROUPS = {Grade: [], Move: [], Look: [], Mosaic: [], Page: []};
  const key = (group, letters, shows, title, run, {when = () => true, shift, repeats = false, hidden = false, within} = {}) => {
    for (const letter of [letters].flat()) commands.add({id: `vet-${group}-${letter}-${shift ?? ""}-${title}`, title, group, key: letter, shift, within, when: () => about !== null && when(), run: event => { if (event.repeat && !repeats) return; if (is_grids() && !ended && group !== "Page") hands.n_keys++; run(event); }});
    if (!hidden) GROUPS[group].push([shows, title]);
  };
  const is_single = () => pass === "single";
  const register = () => {
    for (const g of about.scheme.grades) key("Grade", g.key.toLowerCase(), g.key, `${g.name[0].toUpperCase()}${g.name.slice(1)}`, () => give(g.key));
    key("Grade", "q", "Q", "Cannot judge", () => give("Q"));
    key("Grade", "i", "I", "Interesting, or not", flag);
    key("Grade", "t", "T", "Tag", () => tag_box.focus(), {when: is_single});
    key("Grade", "m", "M", "Note", () => note_box.focus(), {when: is_single});
    key("Grade", "u", "U", "Undo the last step", () => step_back("undo"), {shift: false});
    key("Grade", "u", "⇧ U", "Redo it", () => step_back("redo"), {shift: true});
    key("Move", ["arrowleft", "j"], "← J", "The one before", () => step(-1), {when: is_single, repeats: true});
    key("Move", ["arrowright", "k"], "→ K", "The next one", () => step(1), {when: is_single, repeats: true});
    key("Move", "g", "G", "Go to a number", jump);
    const by_grid = about.clusters.length > 0;
    key("Move", "f", "F", by_grid ? "Grids, or one by one" : "Mosaic, or one by one", turn_pass);
    key("Move", "enter", "Enter", "Go on", () => $(".pause .go")?.click(), {when: () => ended, hidden: true});
    key("Look", "z", "Z", "Closer (the wheel, too; drag moves)", () => viewer.closer(), {when: is_single, repeats: true});
    key("Look", "s", "S", "Next stretch", () => { viewer.turn(); tell_look(); });
    key("Look", "v", "V", "Invert", () => { viewer.toggle("invert"); tell_look(); });
    key("Look", "p", "P", "Bands together, or one by one", () => { viewer.turn_bands(); tell_look(); });
    key("Look", "o", "O", "Outline what the network sees", () => { viewer.toggle("outline"); page.classList.toggle("bare"); });
    key("Look", "r", "R", "Compare with the reconstruction", compare, {when: () => is_single() && about.reconstructs});
    key("Look", "e", "E", "Place on the sky, links, look-alikes", context, {when: is_single});
    for (const [name, by] of [["arrowleft", () => -1], ["arrowright", () => 1], ["arrowup", () => is_grids() ? -side : -columns], ["arrowdown", () => is_grids() ? side : columns]]) key("Mosaic", name, "", "Move", () => walk(by()), {when: at_a_glance, repeats: true, hidden: true});
    GROUPS.Mosaic.push(["← ↑ ↓ →", "Move"]);
    const has_x = about.scheme.grades.some(g => g.key === "X"), rest = by_grid ? "Turn down the grid but the marked, and go on" : "Turn down the rest, and go on";
    if (by_grid) GROUPS.Mosaic.push([about.scheme.grades.map(g => g.key).join(" "), "The grade of the whole grid but the marked"]);
    key("Mosaic", " ", "Space", by_grid ? "An exception, or not" : "Worth a second look, or not", () => pick("look"), {when: at_a_glance});
    key("Mosaic", "enter", by_grid && !has_x ? "Enter X" : "Enter", rest, go_on, {when: at_a_glance});
    if (by_grid && !has_x) key("Mosaic", "x", "", rest, go_on, {when: () => is_grids() && !ended, hidden: true});
    key("Mosaic", "z", "Z", "Closer", () => closer(!is_closer()), {when: at_a_glance});
    key("Mosaic", "escape", "Esc", "Back to the mosaic", () => closer(false), {when: is_closer, hidden: true});
    key("Mosaic", ["pageup", "j"], "J", by_grid ? "The grid before" : "The page before", back_page, {when: at_a_glance});
    key("Mosaic", ["pagedown", "k"], "K", by_grid ? "The next grid, this one as it is" : "The next page, as it is", next_as_is, {when: at_a_glance});
    if (by_grid) {
      key("Mosaic", "[", "[ ]", "The cluster before, the next one", () => by_cluster(-1), {when: is_grids});
      key("Mosaic", "]", "", "The next cluster", () => by_cluster(1), {when: is_grids, hidden: true});
    }
    key("Mosaic", "-", "− +", by_grid ? "6 × 6, or 5 × 5" : "Smaller, larger pictures", () => resize(1), {when: at_a_glance});
    key("Mosaic", ["+", "="], "", "Larger pictures", () => resize(-1), {when: at_a_glance, hidden: true});
    key("Page", "h", "H", "Light or dark", turn_theme);
    key("Page", "?", "?", "These keys", () => $("dialog.keys").showModal());
    $("dialog.keys .columns").replaceChildren(...Object.entries(GROUPS).map(([group, lines]) => {
      const box = make("section"), table = make("dl");
      for (const [shows, title] of lines) { const dt = make("dt"); dt.append(...shows.split(" ").map(k => make("kbd", "", k))); table.append(dt, make("dd", "", title)); }
      box.append(make("h2", "", by_grid && group === "Mosaic" ? "Grids" : group), table);
      return box;
    }));
  };
  const next_as_is = () => { if (page_end() < n) turn_page(page_end()); else say("This is the last page."); };
  const resize = by => { if (is_grids()) { set_side(side + by); return; } sizer.value = columns + by; sizer.dispatchEvent(new Event("input")); };
  const walk = by => {
    move_to(cursor + by >= 0 && cursor + by < mosaic.children.length ? cursor + by : cursor, !is_closer());
    if (is_closer()) closer(true);
  };
  const jump = () => {
    $("#number").value = "";
    $("#number").placeholder = `1 to ${whole(n)}`;
    $(".jumper").showModal();
  };
  $(".jumper form").addEventListener("submit", () => {
    const number = Number($("#number").value.replace(/[^\d]/g, ""));
    if (!number || number > n) { say(`There are ${whole(n)}; ${number || "this"} is none of them.`); return; }
    if (at_a_glance()) turn_page(number - 1); else { pass_to("single"); go(number - 1); }
  });
  $(".jump").addEventListener("click", jump);
  $(".before").addEventListener("click", () => at_a_glance() ? back_page() : step(-1));
  $(".after").addEventListener("click", () => at_a_glance() ? next_as_is() : step(1));
  $(".help").addEventListener("click", () => $("dialog.keys").showModal());
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".close")?.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", event => { if (event.target === dialog) dialog.close(); });
  }
  let settling = 0;
  new ResizeObserver(() => {
    clearTimeout(settling);
    settling = setTimeout(() => { if (about && at_a_glance() && !ended && is_ready) { const had = size(); measure(); if (had !== size()) turn_page(first, cursor); } }, 150);
  }).observe(stage);

  // -------------------------------------------------------------------------------------------------------- begin
  const begin = async () => {
    let told;
    try {
      told = await fetch_queue({whole: 1, count: WINDOW, ...location.hash.length > 1 ? {key: location.hash.slice(1)} : {}});
    } catch (error) {
      if (error.kind === "login") alarm("You are logged out. ", link("Log in", `/login?next=${encodeURIComponent(location.pathname)}`));
      else alarm(sentence(error.message));
      return;
    }
    const is_there = told.start >= 0 && location.hash.length > 1;
    if (told.start < 0) told.start = 0;
    about = told.about;
    outbox = (JSON.parse(recall(OUTBOX()) || "[]")).map(op => ({...op, back: () => location.reload()}));
    read(told);
    if (told.start === 0 && !told.items.length) n = 0;
    document.title = `${about.name} · Vetting`;
    $(".name b").textContent = about.name;
    $(".name span").textContent = [about.is_blind ? "blind" : "not blind", about.you.name === "local" ? "" : about.you.name].filter(Boolean).join(" · ");
    for (const selector of ["main.work", ".passes", ".where", ".strip"]) $(selector).hidden = false;
    for (const b of document.querySelectorAll("button[data-pass]")) b.hidden = b.dataset.pass === (glance() === "grids" ? "mosaic" : "grids");
    $(".compare").disabled = !about.reconstructs;
    offer_leaving(about.you.name);
    offer_grades();
    $(".of-grids .done").textContent = about.scheme.grades[0].key;
    if (about.clusters.every(c => c.novelty === null)) $(".rail h2").textContent = "Clusters, the smallest first";
    register();
    if (!about.is_open) { paused = "closed"; halt(new Trouble("this campaign is closed", 409, "closed")); }
    const has_pages = marks.some(mark => mark === TURNED || mark === KEPT);
    const held = recall(`voorwerp-pass-${ID}`);
    const is_many = held ? held !== "single" : total.unseen && (about.clusters.length || has_pages || !standing.n_done && n > 200);
    pass = is_there || !is_many ? "single" : glance();
    const start = is_there ? told.start : undefined, last = told.last;
    document.body.dataset.pass = pass;
    pump();
    if (!n) { finish(); return; }
    if (at_a_glance() && total.unseen) pass_to(glance(), marks.indexOf(UNSEEN));
    else {
      pass_to("single");
      const next = start ?? following(last >= 0 ? last : n - 1);
      if (next === undefined) finish(); else await go(next);
    }
    progress();
  };
  const poll = async () => {
    for (;;) {
      await sleep(POLL_S);
      if (document.hidden || stepping || !about) continue;
      if (paused === "login") {  // perhaps they logged in again, in another tab
        [paused, token] = ["", ""];
        if (outbox.length) { pump(); continue; }
      }
      if (!paused && (outbox.length || !ended && about.order !== "acquisition")) continue;
      try {
        const had = total.unseen + total.kept;
        await again();
        if (!about.is_open) { if (!paused) { paused = "closed"; halt(new Trouble("this campaign is closed", 409, "closed")); } continue; }
        if (paused) { paused = ""; connected(); pump(); }
        if (ended && !had && total.unseen + total.kept) { pass_to("single"); go(following(n - 1)); say("More have come."); } else { if (ended) finish(); else draw(); progress(); }
      } catch (error) {
        if (error.kind === "login") { paused = "login"; halt(error); }
      }
    }
  };
  if (ID) { begin(); poll(); } else list();
})();
