// A virtual grid: only the rows of pictures on screen exist, and they come in packs, one request for many.
const PACK = 96;

export function render({model, el}) {
  const view = document.createElement("div");
  view.className = "gallery";
  view.tabIndex = 0;
  view.setAttribute("role", "listbox");
  view.setAttribute("aria-label", "Gallery of subjects");
  const floor = document.createElement("div");
  floor.className = "floor";
  const empty = document.createElement("div");
  empty.className = "empty";
  view.append(floor, empty);
  el.append(view);

  let generation = 0;
  let packs = new Map();     // pack number → {rows, urls} or a promise
  let tiles = new Map();     // place in the order → element
  const across = () => Math.max(1, Math.floor((view.clientWidth - 8) / ((model.has_images ? model.size : 150) + 8)));
  const TALLEST = 8_000_000;  // px: browsers cap the height of an element
  const tall = step => model.has_images ? step : 38;  // a survey without images shows names
  const cell = () => Math.max(24, Math.floor((view.clientWidth - 8) / across()));  // tiles fill the line

  const forget = () => {
    generation += 1;
    for (const pack of packs.values()) pack.urls?.forEach(u => { if (u.startsWith("blob:")) URL.revokeObjectURL(u); });
    packs = new Map();
    tiles.forEach(t => t.remove());
    tiles = new Map();
  };

  const load = async number => {
    const mine = generation;
    const query = new URLSearchParams({
      selection: model.selection_id, sort: model.sort, descending: model.descending ? 1 : 0, run: model.run_id,
      lambda: model.lambda_, lambda_mode: model.lambda_mode, start: number * PACK, count: PACK,
    });
    packs.set(number, {});
    try {
      const answer = await fetch(`thumbs?${query}`, {credentials: "same-origin"});
      if (!answer.ok) throw new Error((await answer.json()).error);
      const buffer = await answer.arrayBuffer();
      if (mine !== generation) return;
      const head = new DataView(buffer), n = head.getUint32(0, true), rows = [], urls = [];
      let at = 4 + 8 * n;
      for (let i = 0; i < n; i++) {
        rows.push(head.getUint32(4 + 4 * i, true));
        const length = head.getUint32(4 + 4 * (n + i), true);
        const content = new Uint8Array(buffer, at, length);
        urls.push(!length ? "" : model.has_images ? URL.createObjectURL(new Blob([content], {type: "image/jpeg"})) : new TextDecoder().decode(content));
        at += length;
      }
      packs.set(number, {rows, urls});
      draw();
    } catch (error) {
      if (mine !== generation) return;
      packs.delete(number);
      empty.textContent = `The gallery could not be read: ${error.message}.`;
      empty.hidden = false;
    }
  };

  const draw = () => {
    const columns = across(), step = cell(), high = tall(step);
    const lines = Math.ceil(model.total / columns);
    const whole = lines * high + 8, height = Math.min(whole, TALLEST);
    floor.style.height = `${height}px`;
    // beyond the cap the scroll bar moves in larger steps; tiles are placed around where it stands
    const slack = Math.max(1, height - view.clientHeight);
    const top = height === whole ? view.scrollTop : view.scrollTop / slack * (whole - view.clientHeight);
    const shift = view.scrollTop - top;
    empty.hidden = model.total > 0;
    if (!model.total) empty.textContent = model.message;
    const first = Math.max(0, Math.floor(top / high) - 1) * columns;
    const last = Math.min(model.total, (Math.ceil((top + view.clientHeight) / high) + 1) * columns);
    for (const [place, tile] of tiles) if (place < first || place >= last) { tile.remove(); tiles.delete(place); }
    for (let place = first; place < last; place++) {
      const number = Math.floor(place / PACK), pack = packs.get(number);
      if (!pack) load(number);
      let tile = tiles.get(place);
      if (!tile) {
        tile = document.createElement("div");
        tile.className = "tile";
        tile.setAttribute("role", "option");
        tile.append(model.has_images ? new Image() : document.createElement("span"));
        floor.append(tile);
        tiles.set(place, tile);
      }
      tile.style.transform = `translate(${8 + (place % columns) * step}px, ${8 + Math.floor(place / columns) * high + shift}px)`;
      tile.style.width = `${step - 8}px`;
      tile.style.height = `${high - 8}px`;
      const row = pack?.rows?.[place - number * PACK];
      if (row !== undefined && tile.dataset.row !== String(row)) {
        tile.dataset.row = row;
        if (model.has_images) {
          tile.firstChild.src = pack.urls[place - number * PACK];
          tile.firstChild.alt = `row ${row}`;
        } else tile.firstChild.textContent = tile.title = pack.urls[place - number * PACK];
      }
      const chosen = row !== undefined && row === model.focus;
      tile.classList.toggle("focus", chosen);
      tile.setAttribute("aria-selected", chosen);
    }
  };

  const place_of_focus = () => {
    for (const [place, tile] of tiles) if (tile.dataset.row === String(model.focus)) return place;
    return -1;
  };
  const reveal = place => {
    const high = tall(cell()), top = Math.floor(place / across()) * high;
    if (Math.ceil(model.total / across()) * high + 8 > TALLEST) return;  // there the scroll bar moves in larger steps
    if (top < view.scrollTop) view.scrollTop = top;
    if (top + high > view.scrollTop + view.clientHeight) view.scrollTop = top + high + 8 - view.clientHeight;
    draw();
  };
  const go = place => {
    if (place < 0 || place >= model.total) return;
    reveal(place);
    const row = tiles.get(place)?.dataset.row;
    if (row !== undefined) model.focus = Number(row);
  };
  view.addEventListener("click", e => {
    const row = e.target.closest?.(".tile")?.dataset.row;
    if (row !== undefined) model.focus = Number(row);
  });
  view.addEventListener("dblclick", () => window.dispatchEvent(new CustomEvent("voorwerp-enlarge")));
  view.addEventListener("keydown", e => {
    if (e.key === "Enter") { window.dispatchEvent(new CustomEvent("voorwerp-enlarge")); return; }
    const steps = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across(), ArrowDown: across(), Home: -Infinity, End: Infinity};
    if (!(e.key in steps)) return;
    e.preventDefault();
    const from = place_of_focus();
    const to = steps[e.key] === -Infinity ? 0 : steps[e.key] === Infinity ? model.total - 1 : from < 0 ? Math.min(...tiles.keys()) : from + steps[e.key];
    go(Math.max(0, Math.min(model.total - 1, to)));
  });
  const walk = e => {  // ← and → walk wherever the keys are, but in a field, a slider or a menu
    if (e.defaultPrevented || e.ctrlKey || e.altKey || e.metaKey || !["ArrowLeft", "ArrowRight"].includes(e.key)) return;
    if (e.composedPath().some(x => x === view || /^(input|textarea|select)$/i.test(x.tagName ?? "")
        || ["slider", "listbox", "menu", "combobox", "radiogroup", "group"].includes(x.getAttribute?.("role")))) return;
    const from = place_of_focus(), step = e.key === "ArrowLeft" ? -1 : 1;
    go(Math.max(0, Math.min(model.total - 1, from < 0 ? Math.min(...tiles.keys()) : from + step)));
  };
  window.addEventListener("keydown", walk);
  view.addEventListener("scroll", () => requestAnimationFrame(draw), {passive: true});
  new ResizeObserver(() => requestAnimationFrame(draw)).observe(view);
  model.on(["selection_id", "sort", "descending", "run_id", "total"], () => { forget(); view.scrollTop = 0; draw(); });
  model.on("lambda_", () => { if (model.sort === "scores.anomaly_score") { forget(); draw(); } });
  model.on(["focus", "message"], draw);
  model.on("place", () => { if (model.place >= 0) reveal(model.place); });
  model.on("size", () => { tiles.forEach(t => t.remove()); tiles = new Map(); draw(); });
  model.on("remove", () => { window.removeEventListener("keydown", walk); forget(); });
  requestAnimationFrame(draw);
}
