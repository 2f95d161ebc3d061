// What sets the selection apart from the rest, column by column, and what a score goes along with. Both come from /apart;
// while a lasso is drawn the latest wins, one request in flight.
const QUIET_MS = 250;
const whole = n => n.toLocaleString("en");
const told = v => {
  if (v === 0) return "0";
  const size = Math.abs(v);
  return size >= 1e6 || size < 1e-3 ? v.toExponential(2) : Number(v.toPrecision(4)).toLocaleString("en", {maximumFractionDigits: 6});
};
const places = (v, n) => v.toFixed(n).replace(/^-(0\.?0*)$/, "$1").replace("-", "−");
const percent = (k, n) => `${places(100 * k / n, n >= 1000 ? 1 : 0)} %`;

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value; else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const BARS = "M0 8h3v4H0zM4.5 3h3v9h-3zM9 6h3v6H9z";
function histogram_icon() {
  const NS = "http://www.w3.org/2000/svg", svg = document.createElementNS(NS, "svg"), path = document.createElementNS(NS, "path");
  svg.setAttribute("viewBox", "0 0 12 12");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", BARS);
  svg.append(path);
  return svg;
}

/** A bar from the middle of `low … high` to the value, and its interval. */
function track(value, from, to, low, high) {
  const at = v => 100 * (v - from) / (to - from), middle = 50, end = at(value);
  const bar = make("b"), box = make("div", {className: "track"}, bar);
  bar.style.left = `${Math.min(middle, end)}%`;
  bar.style.width = `${Math.abs(end - middle)}%`;
  if (low !== null) {
    const whisker = make("i");
    whisker.style.left = `${at(low)}%`;
    whisker.style.width = `${at(high) - at(low)}%`;
    box.append(whisker);
  }
  return box;
}

export function render({model, el}) {
  const count = make("span", {className: "count", role: "status"});
  const choose = (name, change) => {
    const select = make("select", {"aria-label": name});
    select.addEventListener("change", change);
    return select;
  };
  const among = choose("Whom the selected are compared with", () => differ.refresh());
  among.append(new Option("the rest of the survey", "survey"), new Option("the rest on the map", "map"));
  const score = choose("Score whose rank correlations are shown", () => { chosen = score.value; name_score(); relate.refresh(); });
  const of = choose("Subjects of the rank correlations", () => relate.refresh());
  const bar = make("div", {className: "bar"}, count,
    make("label", {}, "against", among), make("label", {}, "correlate", score), make("label", {}, "over", of));

  let chosen = "";
  const half = (title, scale) => {
    const heading = make("h3", {textContent: title}), list = make("ul", {className: "list"});
    const words = make("span"), said = make("div", {className: "said"}, words);
    const ends = make("span", {className: "scale", "aria-hidden": "true"}, ...scale.map(text => make("span", {textContent: text})));
    const section = make("section", {}, make("div", {className: "row head"}, heading, ends), list, said);
    list.setAttribute("aria-label", title);
    return {section, heading, list, say: (text, trouble = false) => {
      words.textContent = text;
      said.hidden = !text;
      said.classList.toggle("trouble", trouble);
    }};
  };
  const left = half("What differs most", ["0", "0.5", "1"]), right = half("Rank correlation", ["−1", "0", "+1"]);
  const root = make("div", {className: "apart"}, bar, make("div", {className: "halves"}, left.section, right.section));
  el.append(root);

  // ----------------------------------------------------------------------------------------------------- fetching
  /** Asks once things have been quiet, again where they changed meanwhile; `ask()` is null where there is nothing to ask. */
  const follower = (side, ask, show) => {
    let timer = 0, asking = false, dirty = false, last = "", removed = false;
    const go = async () => {
      if (asking || !model.shown || removed) { dirty = true; return; }
      asking = true;
      do {
        dirty = false;
        const query = ask();
        if (query === null) { last = ""; show(null); continue; }
        if (query === last) continue;
        side.section.classList.add("waiting");
        side.section.setAttribute("aria-busy", "true");
        try {
          const answer = await fetch(`apart?${query}`, {credentials: "same-origin"}), found = await answer.json();
          if (removed) return;
          if (ask() !== query) { dirty = true; continue; }
          last = query;
          show(answer.ok ? found : {error: found.error});
        } catch {
          last = "";
          show({error: "the server cannot be reached; this is read again when something changes"});
        } finally {
          side.section.classList.remove("waiting");
          side.section.removeAttribute("aria-busy");
        }
      } while (dirty && model.shown && !removed);
      asking = false;
    };
    const refresh = (later = 0) => {
      clearTimeout(timer);
      timer = setTimeout(go, later);
    };
    return {refresh, forget: () => { last = ""; refresh(); }, stop: () => { removed = true; clearTimeout(timer); }};
  };
  const asked = more => new URLSearchParams({
    run: model.run_id, map: model.map_id, lambda: model.lambda_, lambda_mode: model.lambda_mode, among: among.value, read: model.read, ...more,
  }).toString();
  const sentence = text => text[0].toUpperCase() + text.slice(1) + (/[.?!]$/.test(text) ? "" : ".");

  // --------------------------------------------------------------------------------------------------------- rows
  const rows = new Set();
  const row_of = (side, column, note, chart, value, interval) => {
    const title = make("button", {type: "button", className: "title", textContent: column.title, title: `Color the map by ${column.title}`});
    const open = make("button", {type: "button", className: "open", title: `Histogram of ${column.title}`, "aria-label": `Histogram of ${column.title}`}, histogram_icon());
    const words = make("div", {className: "note", textContent: note, title: note});
    const cells = chart ? [chart, make("div", {className: "value"}, make("strong", {textContent: value}), make("span", {textContent: interval}))] : [];
    const row = make("li", {className: "row", title: column.said ?? ""}, make("div", {}, title, words), ...cells, open);
    row.dataset.reference = column.reference;
    row.classList.toggle("marked", column.is_marked);
    row.addEventListener("click", e => {
      if (open.contains(e.target)) model.send_msg({histogram: column.reference});
      else if (!String(getSelection())) model.send_msg({color: column.reference});
    });
    rows.add(row);
    side.list.append(row);
    return row;
  };
  const mark = () => rows.forEach(row => {
    const on = row.dataset.reference === model.color;
    row.classList.toggle("on", on);
    row.querySelector(".title").setAttribute("aria-pressed", on);
  });
  const empty = side => {
    rows.forEach(row => { if (side.list.contains(row)) rows.delete(row); });
    side.list.replaceChildren();
    side.list.scrollTop = 0;
  };
  const same = column => column.same.length ? `orders the same as ${column.same.join(", ")}` : "";
  const join = (...parts) => parts.filter(Boolean).join(" · ");
  const foot = (side, ...parts) => side.list.append(make("li", {className: "foot"}, ...parts));
  const key = name => make("span", {className: `key ${name}`});

  const pair = (share, n_in, n_out) => {
    const selected = make("b"), others = make("i");
    selected.style.width = `${100 * share.k_in / n_in}%`;
    others.style.width = `${100 * share.k_out / n_out}%`;
    const shown = `${percent(share.k_in, n_in)} against ${percent(share.k_out, n_out)}`;
    const line = make("div", {className: "share", title: `${share.label}: ${whole(share.k_in)} of ${whole(n_in)} selected, ${whole(share.k_out)} of ${whole(n_out)} others`},
      make("div", {className: "name"}, share.label, make("span", {textContent: shown})),
      make("div", {className: "pair"}, selected, others),
      make("div", {className: "value"}, make("strong", {textContent: `${share.difference > 0 ? "+" : ""}${places(100 * share.difference, 1)}`}),
        ` [${places(100 * share.low, 1)}, ${places(100 * share.high, 1)}]`));
    line.classList.toggle("marked", share.is_marked);
    return line;
  };

  const differ = follower(left, () => model.selection_id ? asked({selection: model.selection_id}) : null, found => {
    if (found === null || found.error) {
      empty(left);
      const hint = "Select subjects on the map (L lasso, B box), by a histogram or by a filter: here stands in which columns they differ from the rest, the largest difference first.";
      left.say(found === null ? hint : sentence(found.error), found !== null && !/selected/.test(found.error));
      count.replaceChildren(...(found === null ? ["nothing selected"] : [make("b", {textContent: whole(model.n_selected)}), " selected"]));
      return;
    }
    left.say("");
    const sampled = found.compared_in < found.n_in || found.compared_out < found.n_out;
    const notes = join(
      sampled && `a random ${whole(found.compared_in)} and ${whole(found.compared_out)} of them are compared`,
      found.n_elsewhere > 0 && `${whole(found.n_elsewhere)} selected are not on the map`);
    count.replaceChildren(make("b", {textContent: whole(found.n_in)}), " selected against ", make("b", {textContent: whole(found.n_out)}), " others", make("small", {textContent: notes}));
    empty(left);
    for (const column of found.columns) {
      const gaps = column.n_in < found.compared_in || column.n_out < found.compared_out
        ? `with a value: ${whole(column.n_in)} of ${whole(found.compared_in)}, ${whole(column.n_out)} of ${whole(found.compared_out)}` : "";
      if (column.auc === null) {
        const shares = column.shares.slice(0, 4), more = column.n_categories - shares.length;
        const row = row_of(left, column, join(`${whole(column.n_categories)} categories${more > 0 ? `, the ${shares.length} that differ most` : ""}: shares, and their difference in points`, gaps, same(column)));
        row.append(make("div", {className: "shares"}, ...shares.map(share => pair(share, column.n_in, column.n_out))));
        row.classList.add("categories");
      } else {
        const medians = `median ${told(column.median_in)} against ${told(column.median_out)}`;
        row_of(left, column, join(medians, gaps, same(column)), track(column.auc, 0, 1, column.low, column.high),
          places(column.auc, 3), `${places(column.low, 3)} to ${places(column.high, 3)}`);
      }
    }
    if (found.left_out.length) foot(left, `Not compared, as one side has no value: ${found.left_out.map(([title, k, n]) => `${title} (${whole(k)} and ${whole(n)})`).join(", ")}.`);
    foot(left, "Numbers: the probability that a random selected subject has a higher value than a random other one; 0.5 is no difference. Categories: shares of the selected ",
      key("full"), "and the others ", key("rest"), ", and their difference in percentage points. Intervals of 95 %. ",
      key("full"), `filled: holds over all ${whole(found.n_comparisons)} comparisons of ${whole(found.columns.length)} columns (Bonferroni); `,
      key(""), "open: may be chance. A selection differs by its making in what it was made by.");
    mark();
  });

  const relate = follower(right, () => chosen ? asked({score: chosen, selection: of.value === "selected" ? model.selection_id : ""}) : null, found => {
    empty(right);
    if (found === null) return right.say("This survey has no numbers to correlate.");
    if (found.error) return right.say(sentence(found.error), true);
    right.say(found.columns.length ? "" : "No other column has numbers of these subjects that differ.");
    for (const column of found.columns) {
      const gaps = column.n < found.n_compared ? `${whole(column.n)} of ${whole(found.n_compared)} have both` : `n = ${whole(column.n)}`;
      row_of(right, column, join(gaps, same(column)), track(column.rho, -1, 1, column.low, column.high),
        `${column.rho > 0 ? "+" : ""}${places(column.rho, 3)}`, column.low === null ? column.n < 10 ? "too few" : column.rho > 0 ? "same order" : "reverse order" : `${places(column.low, 3)} to ${places(column.high, 3)}`);
    }
    if (!found.columns.length) return;
    const sample = found.n_compared < found.n ? ` A random ${whole(found.n_compared)} of ${whole(found.n)} subjects were compared.` : "";
    foot(right, "Spearman's ρ with its 95 % interval (Fisher's z, Bonett and Wright). ", key("full"),
      `filled: holds over all ${whole(found.n_comparisons)} columns (Bonferroni).${sample}`);
    mark();
  });

  // -------------------------------------------------------------------------------------------------- what is offered
  const name_score = () => { right.list.setAttribute("aria-label", `Rank correlation of ${model.scores.find(s => s.reference === chosen)?.title ?? "a score"}`); };
  const offer = () => {
    score.replaceChildren(...model.scores.map(s => new Option(s.title, s.reference)));
    const known = reference => model.scores.some(s => s.reference === reference);
    if (!known(chosen)) chosen = known(model.color) && model.color.startsWith("scores.") ? model.color : model.scores[0]?.reference ?? "";
    score.value = chosen;
    score.disabled = !chosen;
    name_score();
    const map = among.querySelector('[value="map"]');
    map.disabled = !model.map_id;
    if (!model.map_id) among.value = "survey";
  };
  const groups = () => {
    const before = of.value;
    const options = [new Option(among.value === "map" ? "all on the map" : "all subjects", "all")];
    if (model.selection_id) options.push(new Option("the selected", "selected"));
    of.replaceChildren(...options);
    of.value = model.selection_id && before === "selected" ? "selected" : "all";
  };
  among.addEventListener("change", () => { groups(); relate.refresh(); });

  model.on("selection_id", () => { groups(); differ.refresh(QUIET_MS); relate.refresh(QUIET_MS); });
  model.on(["lambda_", "lambda_mode"], () => { differ.refresh(QUIET_MS); relate.refresh(QUIET_MS); });
  model.on(["run_id", "map_id", "read", "scores"], () => { offer(); groups(); differ.refresh(20); relate.refresh(20); });
  model.on("color", mark);
  model.on("shown", () => { if (model.shown) { differ.refresh(); relate.refresh(); } });
  model.on("remove", () => { differ.stop(); relate.stop(); });
  offer();
  groups();
  left.say("");
  differ.refresh();
  relate.refresh();
}
