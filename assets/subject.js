// One subject in full: as its source shows it, as the network saw it, what the model made of it, where it stands.
export function render({model, el}) {
  const make = (tag, name, text) => {
    const e = document.createElement(tag);
    if (name) e.className = name;
    if (text !== undefined) e.textContent = text;
    return e;
  };
  const root = make("div", "subject"), hint = make("p", "hint"), head = make("div", "title"), home = make("div", "home"), rest = make("div");
  root.setAttribute("aria-live", "polite");
  root.append(hint, head, home, rest);

  // the enlarged view: the same viewer, moved to a dialog that follows the focus
  const dialog = make("dialog", "enlarged");
  dialog.tabIndex = -1;
  const side = make("div", "beside");
  const close = make("button", "close", "✕");
  close.type = "button";
  close.title = "Close (Esc)";
  close.setAttribute("aria-label", "Close");
  close.addEventListener("click", () => dialog.close());
  const enlarge = () => {
    if (!model.has_images || model.row === null || model.row === undefined) return;
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
    if (shown) side.replaceChildren(...heading(shown), sky_of(shown), scores_of(shown), make("p", "quiet keys", "← → walk the gallery · wheel zooms, drag moves · I inverts, O outlines the crop · Esc closes"));
  };

  const picture = (src, title, alt) => {
    const figure = make("figure"), image = new Image(), caption = make("figcaption", "", title);
    image.alt = alt;
    image.addEventListener("error", () => { figure.classList.add("gone"); caption.textContent = `${title}: not available`; });
    if (src) image.src = src;
    figure.append(image, caption);
    return figure;
  };

  // where the critic sees a difference; the sum over its cells comes in the answer's header
  const feature_map = src => {
    const figure = picture("", "Feature residual", "");
    const [image, caption] = figure.children;
    figure.title = "Where the critic’s features of crop and reconstruction differ: squared, summed over channels, weighted as in the score, in the cells of its feature maps; black is 0, brightest the highest here. It sums to the feature score.";
    fetch(src, {credentials: "same-origin"}).then(async answer => {
      if (!answer.ok) throw new Error();
      const url = URL.createObjectURL(await answer.blob());
      image.addEventListener("load", () => URL.revokeObjectURL(url), {once: true});
      image.alt = "Where the critic sees a difference between crop and reconstruction";
      image.src = url;
      caption.replaceChildren(make("span", "", "Feature residual"), make("span", "sum", `sum ${window.voorwerp.format(Number(answer.headers.get("X-Sum")))}`));
    }).catch(() => image.dispatchEvent(new Event("error")));
    return figure;
  };

  const scores_of = subject => {
    const table = make("div", "scores");
    for (const s of subject.scores) {
      const line = make("div", "score");
      line.append(make("span", "name", s.mixed ? `${s.title} (λ ${model.lambda_}${model.lambda_mode === "raw" ? "" : `, ${model.lambda_mode}`})` : s.title));
      line.append(make("span", "value", s.value === null ? "missing" : window.voorwerp.format(s.value)));
      const track = make("span", "track"), fill = make("i");
      fill.style.width = s.of && s.value !== null ? `${100 * s.below / s.of}%` : "0";
      track.append(fill);
      line.append(track, make("span", "quiet", s.value === null ? "" : `above ${s.below.toLocaleString("en")} of ${s.of.toLocaleString("en")}`));
      table.append(line);
    }
    if (subject.rank) {
      const {mean, spread, of, n_runs, is_fragile} = subject.rank, whole = v => Math.round(v).toLocaleString("en");
      const line = make("div", "rank", `rank ${whole(mean)} ± ${whole(spread)} of ${whole(of)} over ${n_runs} runs`);
      if (is_fragile) {
        const word = make("b", "", " · fragile");
        word.title = "In the top 1 % of some of the runs and not of all";
        line.append(word);
      }
      table.prepend(line);
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
    return table;
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
    const point = make("button", "", "SAMP");
    point.type = "button";
    point.title = "Point Aladin, TOPCAT or DS9 on this machine here";
    point.addEventListener("click", () => model.send_msg({point: true}));
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

  const nothing = text => {
    hint.textContent = text;
    hint.hidden = false;
    head.hidden = home.hidden = rest.hidden = true;
    if (dialog.open) dialog.close();
  };

  const draw = async () => {
    const mine = ++latest;
    if (model.row === null || model.row === undefined) { nothing(model.hint); return; }
    const query = new URLSearchParams({run: model.run_id, lambda: model.lambda_, lambda_mode: model.lambda_mode, map: model.map_id}), of_run = `run=${encodeURIComponent(model.run_id)}`;
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
    head.replaceChildren(...heading(subject));
    shown = subject;
    if (dialog.open) tell();
    const parts = [];
    if (model.has_images) {
      viewer.show(model.row, `Original image of ${subject.source_id}`);
      const pictures = make("div", model.reconstructs ? "pictures four" : "pictures");
      pictures.append(picture(`crops/${model.row}`, `Crop, ${subject.size} px`, "Crop that the network sees"));
      if (model.reconstructs) {
        pictures.append(
          picture(`reconstructions/${model.row}?${of_run}`, "Reconstruction", "What the model makes of it"),
          picture(`residuals/${model.row}?${of_run}`, "Residual", "Absolute difference of crop and reconstruction"),
          feature_map(`feature-residuals/${model.row}?${of_run}`));
      }
      parts.push(pictures);
    }
    if (subject.sky) parts.push(sky_of(subject));
    if (subject.scores.length || subject.place.knn_percentile !== null) parts.push(scores_of(subject));
    if (subject.neighbours.length) {
      parts.push(make("h3", "", "Nearest in latent space"));
      const strip = make("div", model.has_images ? "neighbours" : "neighbours named");
      for (const n of subject.neighbours) {
        const button = make("button", "tile");
        button.type = "button";
        button.title = `${n.source_id} · distance ${window.voorwerp.format(n.distance)}`;
        if (model.has_images) {
          const image = new Image();
          image.alt = n.source_id;
          image.src = `thumbnails/${n.row}`;
          button.append(image);
        } else button.append(n.source_id);
        button.addEventListener("click", () => { model.row = n.row; });
        strip.append(button);
      }
      parts.push(strip);
    }
    if (subject.columns.length) {
      parts.push(make("h3", "", "Columns"));
      const list = make("dl", "columns");
      for (const c of subject.columns) {
        const value = make("dd", "", c.kind === "number" && !/^-?\d+$/.test(c.value) ? String(Number(Number(c.value).toPrecision(8))) : c.value);
        value.title = c.value;
        list.append(make("dt", "", c.unit ? `${c.name} (${c.unit})` : c.name), value);
      }
      parts.push(list);
    }
    rest.replaceChildren(...parts);
  };

  const key = e => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented) return;
    if (e.composedPath().some(x => /^(input|textarea|select)$/i.test(x.tagName ?? "") && x.type !== "range" || x.isContentEditable || x.classList?.contains("MuiPopover-root"))) return;
    const act = {z: enlarge, i: () => viewer.toggle("invert"), o: () => viewer.toggle("outline")}[e.key.toLowerCase()];
    if (act && model.has_images) { e.preventDefault(); act(); }
  };
  window.addEventListener("keydown", key);
  const asked = () => enlarge();
  window.addEventListener("voorwerp-enlarge", asked);
  let waiting = 0;
  model.on(["row", "run_id", "map_id", "lambda_mode", "reconstructs", "hint", "read"], draw);
  model.on("answered", () => { for (const said of el.querySelectorAll(".said")) said.textContent = model.said; });
  model.on("lambda_", () => { clearTimeout(waiting); waiting = setTimeout(draw, 120); });
  model.on("remove", () => { window.removeEventListener("keydown", key); window.removeEventListener("voorwerp-enlarge", asked); viewer.remove(); });
  draw();
}
