// The picture of a subject as its source has it: every pixel, wider than the network's crop, from linear values where the
// source has them. One component for the subject panel, the enlarged view and whatever else shows a subject.
//
//   const viewer = window.voorwerpViewer(root, {enlarge, seen, url, saves, parted, keys});   viewer.show(row);   viewer.root
//
// seen({zoom, center}) is called when a person zooms or drags a large one; viewer.see() shows the same of another.
// url(row) says where a picture comes from; without `saves` its source cannot be had. A `parted` one shows nothing until
// the new picture is there: who grades never sees the one before. viewer.ahead(rows) fetches, decodes and draws pictures
// that come next; await viewer.show(row) tells whether it is on the canvas.
//
// How a person looks (stretch, levels, bands, invert) is kept from subject to subject: pictures stay comparable.
(() => {
  if (window.voorwerpViewer) return;

  const KEPT = 32;  // pictures held decoded
  const MISSING = [75, 85, 99];
  const STRETCHES = {survey: "survey’s", linear: "linear", asinh: "asinh", log: "log"};
  const look = {stretch: "survey", black: [], white: [], band: -1, rgb: null, bands: "", invert: false, outline: true};
  const viewers = new Set();
  const when_idle = act => window.requestIdleCallback?.(act, {timeout: 200}) ?? setTimeout(act);
  const pictures = new Map();  // address → promise of a picture, the least recently used first

  // ------------------------------------------------------------------------------------------------------ pixels
  const fetch_picture = async url => {
    const answer = await fetch(url, {credentials: "same-origin"});
    if (!answer.ok) throw new Error((await answer.json()).error);
    const buffer = await answer.arrayBuffer(), n = new DataView(buffer).getUint32(0, true);
    const picture = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, n)));
    const start = 4 + n, size = picture.width * picture.height;
    if (picture.type === "float32") {
      const values = new Float32Array(buffer, start);
      picture.planes = picture.bands.map((_, k) => values.subarray(k * size, (k + 1) * size));
    } else {  // what browsers decode, decoded without any color management
      const bitmap = await createImageBitmap(new Blob([new Uint8Array(buffer, start)], {type: picture.type}), {colorSpaceConversion: "none", premultiplyAlpha: "none"});
      const canvas = new OffscreenCanvas(picture.width, picture.height), context = canvas.getContext("2d", {willReadFrequently: true});
      context.drawImage(bitmap, 0, 0, picture.width, picture.height);
      const rgba = context.getImageData(0, 0, picture.width, picture.height).data;
      picture.planes = picture.bands.map((_, k) => { const plane = new Uint8Array(size); for (let i = 0; i < size; i++) plane[i] = rgba[4 * i + k]; return plane; });
    }
    return picture;
  };

  const picture_of = url => {
    let found = pictures.get(url);
    pictures.delete(url);
    if (!found) { found = fetch_picture(url); found.catch(() => pictures.delete(url)); }
    pictures.set(url, found);
    while (pictures.size > KEPT) pictures.delete(pictures.keys().next().value);
    return found;
  };

  const rgb_of = picture => look.rgb && look.bands === picture.bands.join() ? look.rgb : picture.rgb;
  // White from a hundredth to a hundred times the survey's range; black up to a range below or above its own
  const levels = (picture, k) => {
    const low = picture.low[k], range = picture.high[k] - low || 1, black = look.black[k] ?? 0, white = look.white[k] ?? 0;
    const lo = low + range * black ** 3;
    return [lo, Math.max(low + range * 10 ** -white, lo + range * 1e-6)];
  };
  const CURVES = {
    linear: x => x,
    asinh: x => Math.asinh(10 * x) / Math.asinh(10),  // as ds9 draws asinh and log
    log: x => Math.log(1000 * x + 1) / Math.log(1001),
  };

  const looked = () => JSON.stringify([look.stretch, look.black, look.white, look.rgb, look.bands, look.invert]);
  const drawn = picture => {
    const as = looked();
    if (picture.as !== as) [picture.image, picture.as] = [draw(picture), as];
    return picture.image;
  };
  const paint = (picture, canvas) => {
    const image = drawn(picture);
    canvas.width = picture.width;
    canvas.height = picture.height;
    canvas.getContext("2d").putImageData(image, 0, 0);
  };

  const draw = picture => {
    const {width, height, planes} = picture, [r, g, b] = rgb_of(picture), n = width * height;
    const image = new ImageData(width, height), out = image.data, flip = look.invert ? 255 : 0;
    if (look.stretch === "survey" && picture.stretch.mode === "lupton") lupton(picture, [r, g, b], out, flip);
    else {
      const curve = CURVES[look.stretch] ?? CURVES.linear;
      [r, g, b].forEach((k, channel) => {
        const plane = planes[k], [lo, hi] = look.stretch === "survey" ? [picture.low[k], picture.high[k]] : levels(picture, k);
        const scale = 1 / (hi - lo), shade = v => 255 * curve(Math.min(1, Math.max(0, (v - lo) * scale)));
        if (plane instanceof Uint8Array) {
          const table = Uint8Array.from({length: 256}, (_, v) => Math.round(shade(v)));
          for (let i = 0, j = channel; i < n; i++, j += 4) out[j] = table[plane[i]] ^ flip;
        } else {
          for (let i = 0, j = channel; i < n; i++, j += 4) out[j] = Math.round(shade(plane[i])) ^ flip;
        }
      });
    }
    for (let j = 3; j < 4 * n; j += 4) out[j] = 255;
    if (!(planes[0] instanceof Uint8Array)) {  // missing is grey, never black; where one band is missing, the others say how bright
      for (let i = 0; i < n; i++) {
        const here = [r, g, b].map(k => Number.isFinite(planes[k][i]));
        if (here[0] && here[1] && here[2]) continue;
        const known = [0, 1, 2].filter(c => here[c]), mean = known.reduce((sum, c) => sum + out[4 * i + c], 0) / known.length;
        for (let c = 0; c < 3; c++) if (!here[c]) out[4 * i + c] = known.length ? mean : MISSING[c];
      }
    }
    return image;
  };

  // Lupton et al. 2004: one asinh of the mean of the bands, the colors kept
  const lupton = (picture, shown, out, flip) => {
    const {planes} = picture, {q, stretch, minimum} = picture.stretch, n = planes[0].length;
    const slope = 0.1 / Math.asinh(0.1 * q), soften = q / stretch;
    for (let i = 0; i < n; i++) {
      let mean = 0, present = 0;
      for (const plane of planes) if (Number.isFinite(plane[i])) { mean += plane[i] - minimum; present += 1; }
      mean /= present;
      const factor = mean > 0 ? slope * Math.asinh(soften * mean) / mean : 0;
      const values = shown.map(k => Math.max(0, (planes[k][i] - minimum) * factor)), top = Math.max(1, ...planes.map(p => (p[i] - minimum) * factor || 0));
      for (let c = 0; c < 3; c++) out[4 * i + c] = Math.round(255 * values[c] / top) ^ flip;
    }
  };

  // ---------------------------------------------------------------------------------------------------- the parts
  const make = (tag, name, text) => {
    const e = document.createElement(tag);
    if (name) e.className = name;
    if (text !== undefined) e.textContent = text;
    return e;
  };
  const button = (glyph, title, act) => {
    const e = make("button", "", glyph);
    e.type = "button";
    e.title = title;
    e.setAttribute("aria-label", title);
    e.addEventListener("click", act);
    return e;
  };
  const choice = (label, options, act) => {
    const e = make("select");
    e.setAttribute("aria-label", label);
    for (const [value, text] of options) e.append(new Option(text, value));
    e.addEventListener("change", () => act(e.value));
    return e;
  };
  const angle = arcsec => arcsec >= 60 ? `${+(arcsec / 60).toPrecision(3)}′` : `${+arcsec.toPrecision(3)}″`;
  const round_below = x => { const p = 10 ** Math.floor(Math.log10(x)); return [5, 2, 1].find(m => m * p <= x) * p; };

  window.voorwerpViewer = (root, {enlarge, seen, url = row => `pictures/${row}`, saves = true, parted = false, keys = {invert: "I", outline: "O"}} = {}) => {
    let picture = null, wanted = null, zoom = 1, center = [0.5, 0.5], painted = "", failed = "";
    root.classList.add("viewer");
    const frame = make("div", "frame"), canvas = make("canvas"), box = make("div", "crop"), bar = make("div", "bar"), words = make("div", "words");
    canvas.setAttribute("role", "img");
    frame.append(canvas, box, bar, words);
    const say = () => viewers.forEach(v => v.refresh());
    const set = change => { Object.assign(look, change); say(); };

    const stretch = choice("Stretch", Object.entries(STRETCHES), value => set({stretch: value}));
    const invert = button("◐", `Invert (${keys.invert})`, () => set({invert: !look.invert}));
    const outline = button("▣", `Outline what the network sees (${keys.outline})`, () => set({outline: !look.outline}));
    const reset = button("↺", "Reset stretch, levels and zoom", () => { zoom = 1; center = [0.5, 0.5]; set({stretch: "survey", black: [], white: [], band: -1, rgb: null, invert: false}); });
    const line = make("div", "line");
    const save = button("⤓", "Save the original", () => {
      const a = make("a");
      a.href = `originals/${wanted}`;
      a.download = "";
      a.click();
    });
    line.append(stretch, invert, outline, reset, ...saves ? [save] : []);
    if (enlarge) line.append(button("⤢", "Enlarge (Z)", enlarge));
    const slider = (name, title, low, high) => {
      const label = make("label"), input = make("input"), value = make("span", "quiet");
      Object.assign(input, {type: "range", min: low, max: high, step: 0.01, title});
      input.addEventListener("input", () => {
        const next = [...look[name]];
        for (let k = 0; k < (picture?.bands.length ?? 1); k++) if (look.band < 0 || look.band === k) next[k] = Number(input.value);
        set({[name]: next, stretch: look.stretch === "survey" ? "linear" : look.stretch});
      });
      label.append(make("span", "", name === "black" ? "Black" : "White"), input, value);
      return {label, input, value};
    };
    const black = slider("black", "The value drawn black", -1, 1), white = slider("white", "The value drawn white: to the right is brighter", -2, 2);
    const band_line = make("div", "line bands");
    const controls = make("div", "controls");
    controls.append(line, black.label, white.label, band_line);
    root.append(frame, controls);

    const offer_bands = () => {
      band_line.replaceChildren();
      band_line.hidden = !picture || picture.bands.length < 2;
      if (band_line.hidden) return;
      const names = picture.bands.map((name, k) => [k, name]);
      const level = choice("Levels of", [[-1, "all bands"], ...names], value => set({band: Number(value)}));
      level.value = look.band;
      band_line.append(make("span", "", "Levels"), level);
      ["R", "G", "B"].forEach((letter, c) => {
        const pick = choice(`Band shown as ${{R: "red", G: "green", B: "blue"}[letter]}`, names, value => {
          const rgb = [...rgb_of(picture)];
          rgb[c] = Number(value);
          set({rgb, bands: picture.bands.join()});
        });
        pick.value = rgb_of(picture)[c];
        const pair = make("span", "pair", letter);
        pair.append(pick);
        band_line.append(pair);
      });
    };

    const place = () => {  // image pixels → screen
      if (!picture) return;
      const {clientWidth: w, clientHeight: h} = frame, fit = Math.min(w / picture.width, h / picture.height), scale = fit * zoom;
      const left = w / 2 - center[0] * picture.width * scale, top = h / 2 - center[1] * picture.height * scale;
      Object.assign(canvas.style, {left: `${left}px`, top: `${top}px`, width: `${picture.width * scale}px`, height: `${picture.height * scale}px`, imageRendering: scale >= 3 ? "pixelated" : "auto"});
      const crop = picture.crop;
      box.hidden = !look.outline || !crop || crop.side === null || crop.left <= 0 && crop.top <= 0 && crop.side >= picture.width && crop.side >= picture.height;
      if (!box.hidden) Object.assign(box.style, {left: `${left + crop.left * scale}px`, top: `${top + crop.top * scale}px`, width: `${crop.side * scale}px`, height: `${crop.side * scale}px`});
      const unit = picture.pixel_scale ? picture.pixel_scale : 1, length = round_below(unit * w / 3 / scale);
      bar.textContent = picture.pixel_scale ? angle(length) : `${length} px`;
      bar.style.width = `${length / unit * scale}px`;
      bar.hidden = !(length / unit * scale > 8);
    };

    const refresh = () => {
      const key = `${wanted} ${looked()}`;
      if (picture && key !== painted) { paint(picture, canvas); painted = key; }
      canvas.hidden = !picture;
      if (!picture) { box.hidden = bar.hidden = true; }
      words.textContent = failed;
      words.hidden = !failed;
      stretch.value = look.stretch;
      invert.classList.toggle("on", look.invert);
      outline.classList.toggle("on", look.outline);
      for (const [name, part] of [["black", black], ["white", white]]) {
        part.input.value = look[name][Math.max(look.band, 0)] ?? 0;
        part.input.disabled = !picture;
        const k = Math.max(look.band, 0);
        const several = look.band < 0 && picture?.bands.length > 1;  // each band has its own
        part.value.textContent = several ? "by band" : picture && k < picture.bands.length ? `${window.voorwerp.format(levels(picture, k)[name === "black" ? 0 : 1])}${picture.unit ? ` ${picture.unit}` : ""}` : "";
      }
      offer_bands();
      place();
    };

    // wheel and drag: in the enlarged view, where nothing scrolls
    frame.addEventListener("wheel", e => {
      if (!picture || !root.classList.contains("large")) return;
      e.preventDefault();
      const {left, top, width: w, height: h} = frame.getBoundingClientRect(), fit = Math.min(w / picture.width, h / picture.height);
      const at = [(e.clientX - left - w / 2) / picture.width / fit, (e.clientY - top - h / 2) / picture.height / fit];
      const next = Math.min(64, Math.max(1, zoom * 2 ** (-e.deltaY / 240)));
      center = center.map((c, i) => next === 1 ? 0.5 : c + at[i] / zoom - at[i] / next);
      zoom = next;
      place();
      seen?.({zoom, center});
    }, {passive: false});
    let from = null;
    frame.addEventListener("pointerdown", e => { if (root.classList.contains("large") && zoom > 1) { from = [e.clientX, e.clientY, ...center]; frame.setPointerCapture(e.pointerId); } });
    frame.addEventListener("pointermove", e => {
      if (!from || !picture) return;
      const fit = Math.min(frame.clientWidth / picture.width, frame.clientHeight / picture.height) * zoom;
      center = [from[2] - (e.clientX - from[0]) / picture.width / fit, from[3] - (e.clientY - from[1]) / picture.height / fit];
      place();
      seen?.({zoom, center});
    });
    for (const kind of ["pointerup", "pointercancel"]) frame.addEventListener(kind, () => { from = null; });
    frame.addEventListener("dblclick", () => { if (root.classList.contains("large")) { zoom = 1; center = [0.5, 0.5]; place(); seen?.({zoom, center}); } else enlarge?.(); });
    const observer = new ResizeObserver(place);
    observer.observe(frame);

    const viewer = {
      root,
      refresh,
      /** Show the picture of a row; the one before stays until it is there, but where they are parted. */
      async show(row, alt) {
        canvas.setAttribute("aria-label", alt ?? "");
        if (row === wanted && picture) return true;
        wanted = row;
        if (parted) canvas.style.visibility = "hidden";
        try {
          const found = await picture_of(url(row));
          if (wanted !== row) return false;
          [picture, failed, painted] = [found, "", ""];  // what was drawn while waiting was the one before
        } catch (error) {
          if (wanted !== row) return false;
          [picture, failed] = [null, error.message];
        }
        zoom = 1;
        center = [0.5, 0.5];
        refresh();
        canvas.style.visibility = "";
        return picture !== null;
      },
      /** Nothing. */
      clear() { [wanted, picture, failed] = [null, null, ""]; refresh(); },
      /** Have pictures ready that come next: drawn as people look now, when the page rests. */
      ahead(rows) {
        for (const row of rows) picture_of(url(row)).then(found => when_idle(() => drawn(found)), () => {});
      },
      see(view) { ({zoom, center} = view); place(); },
      /** Twice as large, up to eight times; then whole again. */
      closer() { zoom = zoom >= 8 ? 1 : zoom * 2; if (zoom === 1) center = [0.5, 0.5]; place(); seen?.({zoom, center}); },
      /** Look through the stretches. */
      turn() {
        const names = Object.keys(STRETCHES);
        set({stretch: names[(names.indexOf(look.stretch) + 1) % names.length]});
      },
      /** Look through all bands together, then each by itself. */
      turn_bands() {
        if (!picture || picture.bands.length < 2) return;
        const rgb = rgb_of(picture), one = rgb[0] === rgb[1] && rgb[1] === rgb[2], next = one ? rgb[0] + 1 : 0;
        set(next < picture.bands.length ? {rgb: [next, next, next], bands: picture.bands.join()} : {rgb: null});
      },
      /** How it is looked at, in words. */
      words() {
        if (!picture) return "";
        const rgb = rgb_of(picture), one = rgb[0] === rgb[1] && rgb[1] === rgb[2] && picture.bands.length > 1;
        return [`${STRETCHES[look.stretch]} stretch`, one ? `band ${picture.bands[rgb[0]]}` : "", look.invert ? "inverted" : "", zoom > 1 ? `${+zoom.toPrecision(2)}×` : ""].filter(Boolean).join(" · ");
      },
      get is_crop() { return Boolean(picture?.is_crop); },
      toggle(name) { set({[name]: !look[name]}); },
      remove() { viewers.delete(viewer); observer.disconnect(); },
    };
    viewers.add(viewer);
    refresh();
    return viewer;
  };
})();
