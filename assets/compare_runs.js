// Two runs of the survey against each other: rank against rank with the top in sight, who stays in it, who moved in and
// who out, beside what seeds alone change. A dialog on the dialog of runs; asks /runs/compare, and nothing while closed.
const TOPS = [[0.001, "0.1 %"], [0.01, "1 %"], [0.05, "5 %"]];
const KINDS = ["stays", "moved in", "moved out"];
const COLORS = ["--quiet", "--accent", "--warm"];
const REACH = 12; // px from the mouse to a point that it means

const make = (tag, name, text) => {
  const e = document.createElement(tag);
  if (name) e.className = name;
  if (text !== undefined) e.textContent = text;
  return e;
};
const shade = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const whole = n => n.toLocaleString("en", {maximumFractionDigits: 1});
const percent = (v, of = 1) => `${(100 * v / of).toFixed(1).replace(/\.0$/, "")} %`;
const fraction = v => v.toFixed(3).replace(/^(-?)0\./, "$1.");
const between = rate => rate.low === null ? "" : `${(100 * rate.low).toFixed(1)} to ${(100 * rate.high).toFixed(1)} %`;
const share = rate => rate.value === null ? "–" : `${percent(rate.value)}, ${whole(rate.k)} of ${whole(rate.n)} (${between(rate)})`;
const counted = rate => `${whole(rate.k)} of ${whole(rate.n)}${rate.value === null ? "" : ` (${between(rate)})`}`;
const called = u => `${Number((100 * u).toPrecision(1))} %`;
const name_of = run => [`${run.created_at.slice(0, 16).replace("T", " ")}`, run.run_id.split("-").slice(2).join("-"), run.about].filter(Boolean).join(" · ");

const mixed = run => run.lambda === null ? run.title : `${run.title}, λ = ${run.lambda} of ${run.mode === "raw" ? "raw sums" : "standardised scores"}`;

const button = (text, title, run, name = "") => {
  const e = make("button", name, text);
  Object.assign(e, {type: "button", title});
  e.addEventListener("click", run);
  return e;
};

// -------------------------------------------------------------------------------------------------------------- plot
class Plot {
  // Both axes are the logarithm of the top fraction, the most anomalous to the right and above. `meant(i)` is called with
  // the point under the mouse or -1, `chosen(i)` with the one clicked.
  constructor(meant, chosen) {
    Object.assign(this, {told: null, mode: "ranks", at: -1, places: []});
    this.root = make("figure", "plot");
    this.canvas = make("canvas");
    this.canvas.setAttribute("role", "img");
    this.root.append(this.canvas);
    this.canvas.addEventListener("pointermove", e => { this.mark(this.nearest(e.offsetX, e.offsetY)); meant(this.at); });
    this.canvas.addEventListener("pointerleave", () => { this.mark(-1); meant(-1); });
    this.canvas.addEventListener("click", e => { const i = this.nearest(e.offsetX, e.offsetY); if (i >= 0) chosen(i); });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  show(told, mode) {
    Object.assign(this, {told, mode, at: -1});
    this.draw();
  }

  mark(i) {
    if (i === this.at) return;
    this.at = i;
    this.canvas.style.cursor = i < 0 ? "" : "pointer";
    this.draw();
  }

  nearest(x, y) {
    let best = -1, least = REACH ** 2;
    this.places.forEach(([px, py], i) => { const d = (px - x) ** 2 + (py - y) ** 2; if (d < least) [best, least] = [i, d]; });
    return best;
  }

  draw() {
    const {told, canvas, mode} = this, ratio = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
    if (!told || !w || !h) return;
    canvas.width = w * ratio;
    canvas.height = h * ratio;
    const pen = canvas.getContext("2d"), {density, points, n, top} = told, {low, bins} = density, is_change = mode === "change";
    pen.scale(ratio, ratio);
    pen.font = "11px Inter, 'Segoe UI', Roboto, Arial, sans-serif";
    const box = {x0: 58, x1: w - 12, y0: h - 44, y1: 10}, [ink, quiet, line] = ["--ink", "--quiet", "--line"].map(shade);
    const x = u => box.x0 + Math.log10(u) / low * (box.x1 - box.x0);
    const up = is_change ? v => 0.5 + Math.log10(v) / (-2 * low) : v => Math.log10(v) / low; // v: factor, or top fraction
    const y = v => box.y0 - up(v) * (box.y0 - box.y1);
    const u = rank => (rank - 0.5) / n;

    // how many, in cells: the logarithm of the count
    const counts = density[mode], most = Math.max(...counts), cells = new OffscreenCanvas(bins, bins), image = new ImageData(bins, bins);
    const [r, g, b] = [1, 3, 5].map(i => parseInt(ink.slice(i, i + 2), 16));
    counts.forEach((count, i) => {
      const row = Math.floor(i / bins), across = bins - 1 - i % bins; // bin 0 is the most anomalous: to the right
      const at = 4 * ((is_change ? bins - 1 - row : row) * bins + across);
      if (count) image.data.set([r, g, b, 255 * (0.07 + 0.6 * Math.log1p(count) / Math.log1p(most))], at);
    });
    cells.getContext("2d").putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(cells, box.x0, box.y1, box.x1 - box.x0, box.y0 - box.y1);

    // axes
    pen.strokeStyle = line;
    pen.fillStyle = quiet;
    pen.lineWidth = 1;
    pen.strokeRect(box.x0 + 0.5, box.y1 + 0.5, box.x1 - box.x0 - 1, box.y0 - box.y1 - 1);
    const tens = Array.from({length: Math.floor(-low) + 1}, (_, k) => 10 ** -k);
    const rule = (from, to) => { pen.beginPath(); pen.moveTo(...from); pen.lineTo(...to); pen.stroke(); };
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    for (const v of tens) { rule([x(v), box.y0], [x(v), box.y1]); pen.fillText(called(v), Math.max(box.x0 + 14, x(v)), box.y0 + 15); }
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    if (is_change) {
      for (const v of [...tens.map(t => [1 / t, `×${whole(1 / t)}`]), ...tens.slice(1).map(t => [t, `÷${whole(1 / t)}`])].filter(([f]) => Math.abs(Math.log10(f)) <= 4 && Math.abs(Math.log10(f)) <= -low)) {
        rule([box.x0, y(v[0])], [box.x1, y(v[0])]);
        pen.fillText(v[0] === 1 ? "same" : v[1], box.x0 - 6, y(v[0]));
      }
    } else for (const v of tens) { rule([box.x0, y(v)], [box.x1, y(v)]); pen.fillText(called(v), box.x0 - 6, Math.min(box.y0 - 5, y(v))); }
    pen.textAlign = "center";
    pen.textBaseline = "alphabetic";
    pen.fillStyle = ink;
    pen.fillText(`top fraction in A: ${mixed(told.a)}`, (box.x0 + box.x1) / 2, h - 8, box.x1 - box.x0);
    pen.save();
    pen.translate(12, (box.y0 + box.y1) / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(is_change ? "change of rank from A to B" : `top fraction in B: ${mixed(told.b)}`, 0, 0, box.y0 - box.y1);
    pen.restore();

    // the same rank, and the line of the top in each
    pen.save();
    pen.beginPath();
    pen.rect(box.x0, box.y1, box.x1 - box.x0, box.y0 - box.y1);
    pen.clip();
    pen.strokeStyle = quiet;
    pen.setLineDash([2, 4]);
    rule([x(1), y(1)], is_change ? [box.x1, y(1)] : [box.x1, box.y1]);
    pen.setLineDash([6, 3]);
    pen.strokeStyle = ink;
    rule([x(top), box.y0], [x(top), box.y1]);
    if (is_change) rule([x(1), y(1 / top)], [box.x1, y(10 ** low / top)]);
    else rule([box.x0, y(top)], [box.x1, y(top)]);
    pen.setLineDash([]);
    pen.restore();

    this.places = points.a.map((rank, i) => [x(u(rank)), y(is_change ? u(rank) / u(points.b[i]) : u(points.b[i]))]);
    const colors = COLORS.map(shade);
    for (const kind of [0, 1, 2]) {
      pen.fillStyle = colors[kind];
      this.places.forEach(([px, py], i) => { if (points.kind[i] === kind) { this.shape(pen, kind, px, py, 3); } });
    }
    if (this.at >= 0) {
      const [px, py] = this.places[this.at];
      pen.strokeStyle = ink;
      pen.lineWidth = 1.5;
      pen.beginPath();
      pen.arc(px, py, 7, 0, 2 * Math.PI);
      pen.stroke();
    }
    const {stayed, in: moved_in, out} = told.counts;
    canvas.setAttribute("aria-label", `Rank in B against rank in A of ${whole(n)} subjects, logarithmic: ${whole(stayed)} stay in the top ${percent(top)}, ${whole(moved_in)} moved in, ${whole(out)} moved out`);
  }

  shape(pen, kind, x, y, r) { // by form, too: colors are not for all eyes
    pen.beginPath();
    if (kind === 0) pen.arc(x, y, r - 0.8, 0, 2 * Math.PI);
    else {
      const s = kind === 1 ? -1 : 1;
      pen.moveTo(x, y + s * (r + 0.6));
      pen.lineTo(x - r, y - s * r * 0.8);
      pen.lineTo(x + r, y - s * r * 0.8);
    }
    pen.fill();
  }
}

// ------------------------------------------------------------------------------------------------------------ dialog
/** @param act sends a message to the session: {select: {a, b, which, …}} or {focus: row}; whoever shows us is closed by it. */
export function comparing(act) {
  const root = make("dialog", "comparing"), style = make("link");
  Object.assign(style, {rel: "stylesheet", href: new URL("assets/compare_runs.css", document.baseURI).href});
  root.setAttribute("aria-label", "Compare two runs");
  root.tabIndex = -1;
  let asking = 0, told = null, offered = [], mode = "ranks", last = {a: "", b: ""};

  // ------------------------------------------------------------------------------------------------------- what is asked
  const pick = (label, title) => {
    const cell = make("label", "pick"), box = make("select");
    cell.append(make("span", "", label), box);
    box.title = title;
    box.setAttribute("aria-label", label.length > 1 ? label : `Run ${label}`);
    box.addEventListener("change", () => ask());
    return {cell, box};
  };
  const a = pick("A", "The run that is compared from"), b = pick("B", "The run that is compared to");
  const score = pick("Score", "The score that subjects are ranked by"), top = pick("Top", "The share of the subjects that is the top");
  a.cell.classList.add("run");
  b.cell.classList.add("run");
  top.box.append(...TOPS.map(([value, text]) => new Option(text, value)));
  top.box.value = "0.01";
  const swap = button("⇄", "Exchange A and B", () => { [a.box.value, b.box.value] = [b.box.value, a.box.value]; ask(); }, "swap");
  swap.setAttribute("aria-label", "Exchange A and B");
  const close = button("✕", "Close (Esc)", () => root.close(), "close"), head = make("header"), lost = make("p", "lost"), body = make("div", "body");
  close.setAttribute("aria-label", "Close the comparison");
  lost.setAttribute("role", "alert");
  head.append(make("h2", "", "Compare runs"), a.cell, swap, b.cell, score.cell, top.cell, close);
  root.append(style, head, lost, body);

  // ---------------------------------------------------------------------------------------------------- plot and figures
  const card = make("div", "card"), picture = new Image(), words = make("span");
  card.hidden = true;
  card.append(picture, words);
  const route = (from, to) => `${whole(from)} → ${whole(to)}`;
  const leave = message => { root.close(); act(message); };
  const look = row => leave({focus: row});
  const plot = new Plot(i => {
    card.hidden = i < 0;
    if (i < 0) return;
    const {points} = told, [x, y] = plot.places[i];
    words.replaceChildren(make("b", "", points.id[i]), make("span", "", `rank ${route(points.a[i], points.b[i])}`), make("span", "quiet", KINDS[points.kind[i]]));
    picture.hidden = !told.has_images;
    if (told.has_images) picture.src = `thumbnails/${points.row[i]}`;
    const right = x > plot.canvas.clientWidth / 2;
    Object.assign(card.style, {left: right ? "" : `${x + 12}px`, right: right ? `${plot.canvas.clientWidth - x + 12}px` : "", top: `${Math.min(y, plot.canvas.clientHeight - 90)}px`});
  }, i => look(told.points.row[i]));
  picture.alt = "";
  const modes = make("div", "modes"), key = make("div", "key");
  modes.setAttribute("role", "group");
  modes.setAttribute("aria-label", "What the plot shows");
  for (const [value, text] of [["ranks", "Rank in B"], ["change", "Change of rank"]]) {
    const one = button(text, `${text} over rank in A`, () => { mode = value; press(); plot.show(told, mode); });
    one.dataset.mode = value;
    modes.append(one);
  }
  const press = () => { for (const one of modes.children) one.setAttribute("aria-pressed", one.dataset.mode === mode); };
  press();
  KINDS.forEach((text, i) => {
    const dot = make("i", `kind${i}`);
    key.append(dot, make("span", "", text));
  });
  const foot = make("p", "quiet foot"), bar = make("div", "plotbar"), left = make("div", "left"), right = make("div", "right"), galleries = make("div", "galleries");
  bar.append(modes, key);
  plot.root.append(card);
  left.append(bar, plot.root, foot, galleries);
  const answer = make("p", "answer"), quadrants = make("table", "quadrants"), figures = make("dl"), noise = make("div", "noise");
  const splits = make("table", "splits"), caveats = make("ul", "caveats");
  answer.setAttribute("aria-live", "polite");
  right.append(answer, quadrants, caveats, figures, noise, splits);
  body.append(left, right);

  const select = (which, n, text) => {
    const one = button(`Select those ${whole(n)}`, `${text}: they become the selection, in the gallery`, () => leave({select: {...pair(), which}}));
    one.dataset.which = which;
    one.disabled = !n;
    return one;
  };

  const draw_quadrants = () => {
    const {counts, n_top_a, n_top_b, moved_in, moved_out, overlap} = told;
    const cell = (name, n, text, said, which) => {
      const td = make("td", name);
      td.append(make("b", "", whole(n)), make("span", "", text));
      if (said) td.append(make("small", "", said));
      if (which) td.append(select(which, n, text));
      return td;
    };
    const head = (text, scope) => { const th = make("th", "", text); th.scope = scope; return th; };
    const columns = make("tr"), upper = make("tr"), lower = make("tr"), in_top = `the top ${percent(told.top)}`;
    columns.append(make("td"), head(`A: below ${in_top}`, "col"), head(`A: in ${in_top}`, "col"));
    upper.append(head("B: in it", "row"), cell("in", counts.in, "moved in", `${percent(moved_in.value)} of ${whole(n_top_b)} (${between(moved_in)})`, "in"), cell("stayed", counts.stayed, "stay", `${percent(overlap.value)} of ${whole(overlap.n)} (${between(overlap)})`, "both"));
    lower.append(head("B: below", "row"), cell("", counts.neither, "in neither"), cell("out", counts.out, "moved out", `${percent(moved_out.value)} of ${whole(n_top_a)} (${between(moved_out)})`, "out"));
    quadrants.replaceChildren(columns, upper, lower);
  };

  const draw_gallery = (which, title) => {
    const section = make("section"), bar = make("header"), list = make("ul"), n = told.counts[which], shown = told.movers[which];
    bar.append(make("h3", "", `${title} · ${whole(n)}`), make("span", "quiet", n > shown.length ? `the ${shown.length} that came farthest` : ""), select(which, n, title));
    for (const {row, id, rank_a, rank_b} of shown) {
      const item = make("li"), tile = button("", `${id}: rank ${route(rank_a, rank_b)}`, () => look(row));
      if (told.has_images) {
        const image = new Image();
        Object.assign(image, {loading: "lazy", alt: "", src: `thumbnails/${row}`});
        tile.append(image);
      } else tile.append(make("b", "", id));
      tile.append(make("span", "", route(rank_a, rank_b)));
      tile.setAttribute("aria-label", `${id}, rank ${whole(rank_a)} in A, ${whole(rank_b)} in B`);
      item.append(tile);
      list.append(item);
    }
    if (!shown.length) list.append(make("li", "quiet", "nobody"));
    section.setAttribute("aria-label", title);
    section.append(bar, list);
    return section;
  };

  const draw = () => {
    const {overlap, spearman} = told;
    answer.replaceChildren(make("b", "", overlap.value === null ? "–" : `${percent(overlap.value)} of the top ${percent(told.top)} stays`), make("span", "quiet", `${whole(overlap.k)} of ${whole(overlap.n)}; ${between(overlap)}`));
    draw_quadrants();
    caveats.replaceChildren(...told.caveats.map(text => make("li", "", text[0].toUpperCase() + text.slice(1))));
    const rho = spearman.value === null ? "undefined: one run ranks all equal" : `${fraction(spearman.value)}${spearman.low === null ? "" : ` (${fraction(spearman.low)} to ${fraction(spearman.high)})`}`;
    figures.replaceChildren(make("dt", "", "Spearman’s ρ of all ranks"), make("dd", "", rho));
    noise.replaceChildren(make("p", "quiet", "Looking for other seeds …"));
    const rows = told.splits.map(s => {
      const tr = make("tr"), th = make("th", "", s.title);
      th.scope = "row";
      tr.append(th, make("td", "", whole(s.n)), make("td", "", share(s.stayed)), make("td", "", whole(s.in)), make("td", "", whole(s.out)));
      return tr;
    });
    const names = make("tr");
    for (const text of ["By what was seen in training", "subjects", "of A’s top stay", "in", "out"]) { const th = make("th", "", text); th.scope = "col"; names.append(th); }
    splits.replaceChildren(names, ...rows);
    galleries.replaceChildren(draw_gallery("in", "Moved in"), draw_gallery("out", "Moved out"));
    const others = [[told.n_only_a, "in A only"], [told.n_only_b, "in B only"], [told.n_left_out, "planted or withdrawn"]].filter(([n]) => n).map(([n, text]) => `${whole(n)} ${text}`);
    const points = told.points.row.length < told.points.of ? ` ${whole(told.points.row.length)} of the ${whole(told.points.of)} in either top stand as points.` : "";
    foot.textContent = `Of ${whole(told.n)} subjects scored in both${others.length ? `; left out are ${others.join(", ")}` : ""}. Rank 1 is the most anomalous.${points}`;
    plot.show(told, mode);
  };

  const draw_noise = found => {
    const said = make("p", "said", found.said[0].toUpperCase() + found.said.slice(1) + ".");
    const parts = [make("h3", "", "Is it noise of training?"), said];
    if (found.pair) {
      const track = make("div", "track");
      const put = (pair, name, title) => {
        const dot = make("i", name);
        dot.style.left = `${100 * pair.overlap.value}%`;
        dot.title = `${title}: ${share(pair.overlap)}`;
        track.append(dot);
      };
      const all = found.groups.flatMap(group => group.pairs.map(pair => [group, pair]));
      for (const [group, pair] of all) put(pair, "seed", `two seeds of ${group.setting}`);
      put(found.pair, "mine", "A and B");
      const values = all.map(([, pair]) => pair.overlap.value), low = Math.min(...values), high = Math.max(...values);
      const range = low === high ? percent(low) : `${percent(low)} to ${percent(high)}`;
      const scale = make("div", "scale");
      scale.append(make("span", "", "0 %"), make("span", "", "of the top stays"), make("span", "", "100 %"));
      track.setAttribute("role", "img");
      track.setAttribute("aria-label", `${percent(found.pair.overlap.value)} of the top stays from A to B; between two seeds of one setting ${range}`);
      const seeds = found.groups.filter(g => g.pairs.length).map(g => `${g.setting}: seeds ${g.runs.map(r => r.seed).join(", ")}`).join("; ");
      const dots = make("p", "quiet dots");
      dots.append(make("i", "mine"), `A and B ${percent(found.pair.overlap.value)}`, make("i", "seed"), `${all.length} pair${all.length === 1 ? "" : "s"} of seeds, ${range} (${seeds})`);
      parts.push(track, scale, dots);
      if (found.steady_in) parts.push(make("p", "", `Moved whatever the seed: ${counted(found.steady_in)} moved in, ${counted(found.steady_out)} moved out.`));
    }
    noise.replaceChildren(...parts);
  };

  // -------------------------------------------------------------------------------------------------------------- asking
  const pair = () => ({a: a.box.value, b: b.box.value, score: score.box.value || "anomaly_score", top: Number(top.box.value)});
  const fetched = async query => {
    const found = await fetch(`runs/compare?${new URLSearchParams(query)}`, {credentials: "same-origin"}), content = await found.json();
    if (!found.ok) throw new Error(content.error);
    return content;
  };
  const ask = async () => {
    if (a.box.value === b.box.value) { // a run is not compared with itself: the other one takes what this one was
      if (a.box.value === last.a) a.box.value = last.b; else b.box.value = last.a;
    }
    last = {a: a.box.value, b: b.box.value};
    const mine = ++asking, query = pair();
    body.setAttribute("aria-busy", "true");
    try {
      const found = await fetched(query);
      if (mine !== asking || !root.open) return;
      told = found;
      lost.textContent = "";
      const scores = Object.entries(found.scores), before = score.box.value;
      score.box.replaceChildren(...scores.map(([name, text]) => new Option(text, name)));
      score.box.value = before in found.scores ? before : found.score;
      score.cell.hidden = scores.length < 2;
      body.hidden = false;
      body.removeAttribute("aria-busy");
      draw();
      const beside = await fetched({...query, part: "noise"});
      if (mine === asking && root.open) draw_noise(beside);
    } catch (error) {
      if (mine !== asking || !root.open) return;
      body.hidden = true;
      lost.textContent = error instanceof TypeError ? "The server does not answer; is it still running?" : `${error.message[0].toUpperCase()}${error.message.slice(1)}.`;
    }
  };

  root.addEventListener("keydown", e => e.stopPropagation()); // the keys of what is beneath are not meant
  root.addEventListener("close", () => { asking += 1; root.hidden = true; });
  window.addEventListener("voorwerp-theme", () => { if (root.open) plot.draw(); });

  return {
    root,
    /** @param from, to run ids; without them the two newest of a kind. */
    async open(from = "", to = "") {
      root.hidden = false;
      if (!root.open) root.showModal();
      root.focus();
      body.hidden = true;
      lost.textContent = "";
      const mine = ++asking;
      try {
        offered = (await fetched({part: "runs"})).runs;
      } catch (error) {
        if (mine === asking) lost.textContent = error instanceof TypeError ? "The server does not answer; is it still running?" : error.message;
        return;
      }
      if (mine !== asking || !root.open) return;
      const known = id => offered.some(run => run.run_id === id), options = () => offered.map(run => new Option(name_of(run), run.run_id));
      for (const {cell, box} of [a, b]) { box.replaceChildren(...options()); cell.hidden = offered.length < 2; }
      swap.hidden = top.cell.hidden = score.cell.hidden = offered.length < 2;
      if (offered.length < 2) {
        lost.textContent = `Two finished runs with scores can be compared; this survey has ${offered.length ? "one" : "none"}.`;
        return;
      }
      const newer = known(to) ? to : offered.find(run => run.run_id !== from).run_id;
      const kind = offered.find(run => run.run_id === newer).kind, older = offered.filter(run => run.run_id !== newer);
      a.box.value = known(from) && from !== newer ? from : (older.find(run => run.kind === kind) ?? older[0]).run_id;
      b.box.value = newer;
      ask();
    },
  };
}
