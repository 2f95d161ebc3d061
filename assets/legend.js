// The colour bar: always of the frame that is painted.
export function render({model, el}) {
  const root = document.createElement("div");
  root.className = "legend";
  el.append(root);

  const bar = (colors, ticks) => {
    const canvas = document.createElement("canvas");
    canvas.width = colors.length;
    canvas.height = 1;
    canvas.className = "ramp";
    const pen = canvas.getContext("2d");
    colors.forEach((c, i) => { pen.fillStyle = c; pen.fillRect(i, 0, 1, 1); });
    const labels = document.createElement("div");
    labels.className = "ticks";
    for (const [at, value] of ticks) {
      const label = document.createElement("span");
      label.style.left = `${100 * at}%`;
      label.textContent = window.voorwerp.format(value);
      labels.append(label);
    }
    return [canvas, labels];
  };

  const swatches = (labels, colors) => {
    const list = document.createElement("div");
    list.className = "swatches";
    labels.forEach((text, i) => {
      const item = document.createElement("span"), dot = document.createElement("i");
      dot.style.background = colors[i];
      item.append(dot, text);
      list.append(item);
    });
    return [list];
  };

  const draw = () => {
    const legend = window.voorwerp?.legend;
    if (window.voorwerp?.trouble) {
      const lost = document.createElement("div");
      lost.className = "lost";
      lost.setAttribute("role", "alert");
      lost.textContent = `The map is not up to date: ${window.voorwerp.trouble}.`;
      root.replaceChildren(lost);
      return;
    }
    if (!legend) return;
    const note = document.createElement("div");
    note.className = "note";
    const about = [];
    if (legend.settings.color === "count") about.push(legend.radius ? `subjects per pixel, drawn as discs of ${legend.radius} px` : "subjects per pixel");
    else if (!legend.labels.length) about.push(legend.settings.aggregate === "max" ? "highest of a pixel" : "mean of a pixel");
    else about.push("commonest of a pixel");
    if (legend.mixed) about.push(`λ ${legend.settings.lambda} of ${legend.mixed}`);
    if (legend.clipped) about.push("ends at 0.5 and 99.5 %");
    note.textContent = about.join(" · ");
    const body = legend.labels.length ? swatches(legend.labels, model.colors) : bar(model.colors, legend.ticks);
    const missing = document.createElement("span");
    missing.className = "missing";
    const dot = document.createElement("i");
    missing.append(dot, "no value");
    if (legend.settings.color !== "count") note.append(missing);
    root.replaceChildren(...body, note);
    const seen = document.createElement("div");
    seen.className = "seen";
    seen.textContent = `${legend.in_view.toLocaleString("en")} of ${model.n_on_map.toLocaleString("en")} subjects on the map in view`;
    root.append(seen);
    for (const text of model.about) {
      const line = document.createElement("div");
      line.className = "seen";
      line.textContent = text;
      if (text.startsWith("trust")) line.title = "How far neighbors on the map are neighbors in latent space, and how many of these the map keeps: 1 is best. On a sample.";
      root.append(line);
    }
    if (model.n_off) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(document.createElement("u"), `select the ${model.n_off.toLocaleString("en")} off the map`);
      button.title = "Placed by their neighbors, and farther from these than 99.9 % of the subjects that shaped the map from theirs: where they are drawn says little";
      button.addEventListener("click", () => model.send_msg({select: "off the map"}));
      root.append(button);
    }
    if (model.said) {
      const said = document.createElement("div");
      said.className = "lost";
      said.textContent = `${model.said}.`;
      root.append(said);
    }
  };
  window.addEventListener("voorwerp-legend", draw);
  model.on(["colors", "said", "about", "n_off", "n_on_map"], draw);
  model.on("remove", () => window.removeEventListener("voorwerp-legend", draw));
  draw();
}
