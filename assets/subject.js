// One subject in full: as the source shows it, as the network saw it, what the model made of it, where it stands.
export function render({model, el}) {
  const root = document.createElement("div");
  root.className = "subject";
  root.setAttribute("aria-live", "polite");
  el.append(root);
  let latest = 0;

  const make = (tag, name, text) => {
    const e = document.createElement(tag);
    if (name) e.className = name;
    if (text !== undefined) e.textContent = text;
    return e;
  };

  const picture = (src, title, alt) => {
    const figure = make("figure"), image = new Image(), caption = make("figcaption", "", title);
    image.alt = alt;
    image.addEventListener("error", () => { figure.classList.add("gone"); caption.textContent = `${title}: not available`; });
    image.src = src;
    figure.append(image, caption);
    return [figure, image];
  };

  const outline = (box, image, subject) => {
    // the key of the network's crop, in the original's own pixels (science: the input and what people see are two things)
    const w = image.naturalWidth, h = image.naturalHeight;
    const {side, left, top} = subject.crop;
    if (side === null || side >= w && side >= h) { box.hidden = true; return; }
    const scale = 100 / Math.max(w, h);  // the frame is square, the image is fitted into it
    Object.assign(box.style, {
      left: `${50 + scale * ((left ?? (w - side) / 2) - w / 2)}%`, top: `${50 + scale * ((top ?? (h - side) / 2) - h / 2)}%`,
      width: `${scale * side}%`, height: `${scale * side}%`,
    });
  };

  const draw = async () => {
    const mine = ++latest;
    if (model.row === null || model.row === undefined) {
      root.replaceChildren(make("p", "hint", model.hint));
      return;
    }
    const query = new URLSearchParams({run: model.run_id, lambda: model.lambda_}), of_run = `run=${encodeURIComponent(model.run_id)}`;
    let subject;
    try {
      const answer = await fetch(`subject/${model.row}?${query}`, {credentials: "same-origin"});
      subject = await answer.json();
      if (!answer.ok) throw new Error(subject.error);
    } catch (error) {
      if (mine === latest) root.replaceChildren(make("p", "hint", `This subject could not be read: ${error.message}.`));
      return;
    }
    if (mine !== latest) return;
    const parts = [];

    const title = make("div", "title");
    title.append(make("h2", "", subject.source_id));
    if (subject.subject_id !== subject.source_id) title.append(make("span", "quiet", `subject ${subject.subject_id}`));
    parts.push(title);

    if (model.has_images) {
      const [big, image] = picture(`originals/${model.row}`, "Original", `Original image of ${subject.source_id}`);
      big.className = "original";
      const frame = make("div", "frame"), box = make("div", "crop");
      image.replaceWith(frame);
      frame.append(image, box);
      image.addEventListener("load", () => outline(box, image, subject));
      big.querySelector("figcaption").textContent = "Original; the outline is what the network sees";
      parts.push(big);
      const three = make("div", "three");
      three.append(picture(`crops/${model.row}`, `Crop, ${subject.size} px`, "Crop that the network sees")[0]);
      if (model.reconstructs) {
        three.append(
          picture(`reconstructions/${model.row}?${of_run}`, "Reconstruction", "What the model makes of it")[0],
          picture(`residuals/${model.row}?${of_run}`, "Residual", "Absolute difference of crop and reconstruction")[0]);
      }
      parts.push(three);
    }

    if (subject.scores.length) {
      const table = make("div", "scores");
      for (const s of subject.scores) {
        const line = make("div", "score");
        line.append(make("span", "name", s.name === "anomaly_score" ? `${s.title} (λ ${model.lambda_})` : s.title));
        line.append(make("span", "value", s.value === null ? "missing" : window.voorwerp.format(s.value)));
        const track = make("span", "track"), fill = make("i");
        fill.style.width = s.of && s.value !== null ? `${100 * s.below / s.of}%` : "0";
        track.append(fill);
        line.append(track, make("span", "quiet", s.value === null ? "" : `above ${s.below.toLocaleString("en")} of ${s.of.toLocaleString("en")}`));
        table.append(line);
      }
      if (subject.split) table.append(make("div", "quiet", `${{train: "The model was trained on this subject", validation: "Held out for validation", unseen: "Not seen in training"}[subject.split] ?? subject.split}${subject.quality && subject.quality !== "ok" ? ` · ${subject.quality}` : ""}`));
      parts.push(table);
    }

    if (subject.neighbours.length) {
      parts.push(make("h3", "", "Nearest in latent space"));
      const strip = make("div", "neighbours");
      for (const n of subject.neighbours) {
        const button = make("button", "tile");
        button.type = "button";
        button.title = `${n.source_id} · distance ${window.voorwerp.format(n.distance)}`;
        const image = new Image();
        image.alt = n.source_id;
        image.src = `thumbnails/${n.row}`;
        button.append(image);
        button.addEventListener("click", () => { model.row = n.row; });
        strip.append(button);
      }
      parts.push(strip);
    }

    if (subject.columns.length) {
      parts.push(make("h3", "", "Columns"));
      const list = make("dl", "columns");
      for (const c of subject.columns) {
        list.append(make("dt", "", c.unit ? `${c.name} (${c.unit})` : c.name), make("dd", "", c.value));
      }
      parts.push(list);
    }
    root.replaceChildren(...parts);
  };

  let waiting = 0;
  model.on(["row", "run_id", "reconstructs", "hint"], draw);
  model.on("lambda_", () => { clearTimeout(waiting); waiting = setTimeout(draw, 120); });
  draw();
}
