"""Time from a gesture to painted pixels of a Bokeh image plot, in a real Chromium.

Server and browser share the machine's cores: compare ratios of one run, not milliseconds of two.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from playwright.sync_api import Page

from tests.ui.browser import wait_until_idle

# The figure that draws an image, and the sources of its images.
FIND = """() => {
  const models = [...Bokeh.documents[0]._all_models.values()];
  const sources = models.filter(m => m.type === 'ColumnDataSource' && m.data &&
      (m.data.image !== undefined || (m.data.get && m.data.get('image') !== undefined)));
  const figure = models.find(m => m.type === 'Figure' && m.renderers.some(r => sources.includes(r.data_source)));
  return figure ? {figure, sources: sources.filter(s => figure.renderers.some(r => r.data_source === s))} : null; }"""
# New pixels: `data` is replaced, or a page that paints them itself says so, and which view it asked for. The message
# sent in the next animation frame is received after its paint. `__painted` has every paint of new pixels; `__whole`, of
# a page that paints them itself, those that show all of the view that the axes have: first coarsely, perhaps, and
# exactly at rest.
HOOK = f"""() => {{
  const {{figure, sources}} = ({FIND})();
  window.__painted = []; window.__whole = []; window.__range = [];
  const holds = ([x0, x1, y0, y1]) => {{
    const {{x_range: x, y_range: y}} = figure, dx = 1e-6 * (x.end - x.start), dy = 1e-6 * (y.end - y.start);
    return x0 <= x.start + dx && x1 >= x.end - dx && y0 <= y.start + dy && y1 >= y.end - dy; }};
  const paint = (view) => requestAnimationFrame(() => {{
    const c = new MessageChannel();
    c.port1.onmessage = () => {{
      window.__painted.push(performance.now());
      if (view && holds(view)) window.__whole.push(performance.now()); }};
    c.port2.postMessage(0); }});
  for (const s of sources) s.properties.data.change.connect(() => paint(null));
  window.addEventListener("voorwerp-painted", (e) => paint(e.detail.view));
  for (const r of [figure.x_range, figure.y_range])
    r.properties.start.change.connect(() => window.__range.push(performance.now()));
  return figure.id; }}"""
CLEAR = "() => { window.__painted = []; window.__whole = []; window.__range = []; }"
# The centre of the frame that is drawn into, in page coordinates: the views' boxes know it whatever the layout.
CENTRE = """(id) => {
  const view = Bokeh.index.find_one_by_id(id);
  const box = view.el.getBoundingClientRect(); const f = view.frame.bbox;
  return [box.left + f.left + f.width / 2, box.top + f.top + f.height / 2, f.width, f.height]; }"""
# `__deep` looks into open shadow roots, where Panel's components live. `__watch` notes when an event last happened, and
# the first paint after it in which a condition holds.
PROBE = """() => {
  if (window.__deep) return;
  window.__deep = (selector, root = document) => [...root.querySelectorAll('*')].flatMap(e =>
    [...(e.matches(selector) ? [e] : []), ...(e.shadowRoot ? window.__deep(selector, e.shadowRoot) : [])]);
  window.__note = (kind) => {
    if (window.__noting) window.removeEventListener(...window.__noting);
    window.__began = null;
    window.__noting = [kind, e => { window.__began = e.timeStamp; }, true];
    window.addEventListener(...window.__noting); };
  window.__watch = (kind, holds, given) => {
    window.__note(kind);
    window.__shown = new Promise(done => {
      const look = () => {
        if (window.__began === null || !holds(given)) return requestAnimationFrame(look);
        const c = new MessageChannel();
        c.port1.onmessage = () => done(performance.now() - window.__began);
        c.port2.postMessage(0); };
      requestAnimationFrame(look); }); }; }"""
PAINTS = "() => [window.__began, window.__range.at(-1) ?? null, window.__painted, window.__whole]"


@dataclass(frozen=True, slots=True)
class Latency:
    """Median milliseconds from the last range change to the painted image; images painted while the mouse moved.

    Attributes
    ----------
    plot
        The drawn frame's (width, height) in pixels.
    pan_ms, wheel_ms
        Every gesture's time, to the first new image that shows all of the last view.
    pan_exact_ms, wheel_exact_ms
        To the last image: where the first is coarse, or drawn with a margin, an exact one follows at rest.
    """

    pan: float
    wheel: float
    drag_frames: int
    plot: tuple[int, int]
    pan_ms: list[float]
    wheel_ms: list[float]
    pan_exact_ms: list[float] = field(default_factory=list)
    wheel_exact_ms: list[float] = field(default_factory=list)


def _paint(since: float | None, painted: list[float], whole: list[float]) -> tuple[float, float] | None:
    """Milliseconds from `since` to the first paint that shows all, and to the last; None where nothing was painted.

    A page that does not say which view it painted may paint views that are gone: there the last is the first.
    """
    if since is None or not painted or painted[-1] <= since:
        return None
    first = next((time for time in whole if time > since), painted[-1])
    return first - since, painted[-1] - since


def gesture(page: Page, act: Callable[[], None], wait: float) -> tuple[float, float] | None:
    """Milliseconds from the last range change of `act` to the first paint of all of that view, and to the last paint.

    Those within `wait` seconds; None without one.
    """
    page.evaluate(CLEAR)
    act()
    time.sleep(wait)
    _, changed, painted, whole = page.evaluate(PAINTS)
    return _paint(changed, painted, whole)


def open_map(page: Page, url: str) -> tuple[float, float, float, float]:
    """Open the page at `url` and listen for the paints of its map; the center, width and height of its frame, px.

    Raises
    ------
    RuntimeError
        The page's image plot is not laid out.
    """
    page.goto(url)
    wait_until_idle(page)
    page.wait_for_function(f"() => ({FIND})() !== null", timeout=30_000)
    time.sleep(2)
    figure = page.evaluate(HOOK)
    page.evaluate(PROBE)
    x, y, width, height = page.evaluate(CENTRE, figure)
    if width <= 0 or height <= 0:
        raise RuntimeError(f"{url} has an image plot, but it is not laid out")
    return x, y, width, height


def frame_after(page: Page, act: Callable[[], None], event: str, wait: float = 1) -> float | None:
    """Milliseconds from the last DOM `event` of `act` to the map's new pixels, coarse or not; None without any.

    Those within `wait` seconds; after `open_map`.
    """
    page.evaluate(CLEAR)
    page.evaluate("kind => window.__note(kind)", event)
    act()
    time.sleep(wait)
    began, _, painted, whole = page.evaluate(PAINTS)
    found = _paint(began, painted, whole)
    return None if found is None else found[0]


def shown_after(
    page: Page, act: Callable[[], None], event: str, holds: str, given: object = None, timeout: float = 10
) -> float:
    """Milliseconds from the last DOM `event` of `act` to the paint in which `holds` is first true.

    Parameters
    ----------
    holds
        A JavaScript function of `given`; ``__deep(selector)`` finds elements within shadow roots too.

    Raises
    ------
    playwright.sync_api.TimeoutError
        It was not true within `timeout` seconds.
    """
    page.evaluate(PROBE)
    page.evaluate(f"given => window.__watch({event!r}, {holds}, given)", given)
    act()
    page.wait_for_function("() => window.__shown.then(() => true)", timeout=timeout * 1000)
    return float(page.evaluate("() => window.__shown"))


def measure(page: Page, url: str, *, pans: int = 8, wheels: int = 6, drag_s: float = 3, patience: float = 1) -> Latency:
    """Eight short drags, six wheel steps and one long drag on the first image plot of the page at `url`.

    What is not painted within a second (1.8 of a wheel step) times `patience` does not count.

    Raises
    ------
    RuntimeError
        The page has no image plot, or no gesture painted anything.
    """
    x, y, width, height = open_map(page, url)

    def drag(dx: float) -> None:
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + dx, y, steps=2)
        page.mouse.up()

    def wheel(dy: float) -> None:
        page.mouse.move(x, y)
        page.mouse.wheel(0, dy)

    panned = [gesture(page, lambda i=i: drag(30 if i % 2 else -30), 1.0 * patience) for i in range(pans)]
    wheeled = [gesture(page, lambda i=i: wheel(120 if i % 2 else -120), 1.8 * patience) for i in range(wheels)]
    page.evaluate(CLEAR)
    page.mouse.move(x, y)
    page.mouse.down()
    start, k = time.monotonic(), 0
    while time.monotonic() - start < drag_s:
        k += 1
        page.mouse.move(x + 120 * math.sin(k / 15), y + 60 * math.cos(k / 11))
        time.sleep(0.016)
    frames = page.evaluate("() => window.__painted.length")
    page.mouse.up()
    pan, pan_exact = ([v[k] for v in panned if v is not None] for k in (0, 1))
    turn, turn_exact = ([v[k] for v in wheeled if v is not None] for k in (0, 1))
    if not pan or not turn:
        raise RuntimeError(f"{url} painted nothing after {'a pan' if not pan else 'a wheel step'}")
    plot = (round(width), round(height))
    return Latency(statistics.median(pan), statistics.median(turn), frames, plot, pan, turn, pan_exact, turn_exact)
