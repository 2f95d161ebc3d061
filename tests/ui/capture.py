"""``python -m tests.ui.capture [URL]``: README's tour, driven in a real Chromium, as ``assets/screenshots/tour.webp``.

Of the demo, which is made if no URL of a served survey is given.
"""

import io
import math
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from tests.ui.browser import launch, wait_until_idle
from tests.ui.serving import VOORWERP, command, free_port, wait_for_address

PATH = Path(__file__).parents[2] / "assets" / "screenshots" / "tour.webp"
SIZE = {"width": 1200, "height": 780}
MOST_BYTES = 3_000_000
STEP_MS, REST_MS = 60, 1100
# A pointer, for a headless browser draws none, and a line that says what is done.
PROPS = """() => {
  const add = style => { const e = document.createElement('div'); e.style.cssText = style; document.body.append(e); return e; };
  const hand = add('position:fixed;z-index:9999;pointer-events:none;width:18px;height:18px;left:-30px;top:0');
  hand.innerHTML = '<svg viewBox="0 0 18 18"><path d="M2 1v13l3.500-3 2.500 5.500 2.500-1-2.500-5.500H13Z" fill="#fff" stroke="#000"/></svg>';
  window.addEventListener('pointermove', e => { hand.style.left = `${e.clientX - 2}px`; hand.style.top = `${e.clientY}px`; }, true);
  window.__say = add('position:fixed;z-index:9998;pointer-events:none;left:50%;top:104px;transform:translateX(-50%);padding:6px 14px;'
    + 'border-radius:16px;font:600 15px sans-serif;background:var(--accent);color:var(--ground)'); }"""  # noqa: E501
# Where the subject in focus, and the middle of the map, are on the page.
FOCUS = """() => {
  const map = voorwerp.on_screen(), box = map.surface.getBoundingClientRect();
  if (!map.marks.focus.length) return null;
  const [x, y] = map.spot(map.marks.focus[0]);
  return [box.x + x, box.y + y]; }"""

MIDDLE = """() => {
  const box = voorwerp.on_screen().surface.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2, box.height / 2]; }"""


class Reel:
    """Pictures of a page, and how long each is shown."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.frames: list[Image.Image] = []
        self.shown_ms: list[int] = []

    def shot(self, shown_ms: int = STEP_MS) -> None:
        """Take the page as it is now."""
        self.frames.append(Image.open(io.BytesIO(self.page.screenshot())).convert("RGB"))
        self.shown_ms.append(shown_ms)

    def rest(self, wait_ms: int = 700) -> None:
        """Let the page come to rest, and take it."""
        self.page.wait_for_timeout(wait_ms)
        self.shot(REST_MS)

    def say(self, text: str) -> None:
        """Change the line that says what is done."""
        self.page.evaluate("text => { window.__say.textContent = text; }", text)

    def drag(self, points: list[tuple[float, float]]) -> None:
        """Drag through points, a picture at each."""
        self.page.mouse.move(*points[0])
        self.page.mouse.down()
        for point in points[1:]:
            self.page.mouse.move(*point)
            self.shot()
        self.page.mouse.up()

    def write(self, path: Path) -> None:
        """As an animated WebP that fits, of the best quality that does."""
        for quality in (80, 70, 60, 50, 40, 30):
            out = io.BytesIO()
            first, *others = self.frames
            first.save(
                out,
                "WEBP",
                save_all=True,
                append_images=others,
                duration=self.shown_ms,
                loop=0,
                quality=quality,
                method=4,
            )
            if out.tell() <= MOST_BYTES:
                break
        path.write_bytes(out.getvalue())


def settle(page: Page) -> None:
    """Until the gallery's pictures are painted."""
    expect(page.locator(".gallery")).to_have_attribute("aria-busy", "false", timeout=60_000)


def ring(x: float, y: float, half: float, n: int = 24) -> list[tuple[float, float]]:
    """A circle around a place."""
    angles = [k / n * 2 * math.pi for k in range(n + 1)]
    return [(x + half * math.cos(a), y + half * math.sin(a)) for a in angles]


def tour(page: Page) -> Reel:
    """Color, lasso, gallery, brush, subject, 3-D."""
    page.keyboard.press("Escape")  # the first visit's own tour
    settle(page)
    page.evaluate(PROPS)
    reel = Reel(page)

    reel.say("Every subject on a live map")
    reel.rest()
    reel.say("Color by any score or column")
    page.get_by_label("Color by", exact=True).first.select_option("count")
    reel.rest()
    page.get_by_label("Color by", exact=True).first.select_option("scores.anomaly_score")
    reel.rest()

    page.locator(".tile").first.click()
    x, y = page.wait_for_function(FOCUS).json_value()
    page.keyboard.press("Escape")
    reel.say("Draw a lasso")
    page.keyboard.press("l")
    page.wait_for_function("() => voorwerp.on_screen().told.tool === 'lasso'")
    _, middle, half = page.evaluate(MIDDLE)
    reel.drag(ring(x, max(y, middle - half + 90), 85))
    settle(page)
    reel.say("… and see what is in it")
    reel.rest(1200)

    reel.say("Brush any histogram")
    page.get_by_role("tab", name="Histograms").click()
    cell = page.get_by_label("Histogram of Feature score", exact=True)
    cell.locator("canvas").wait_for()
    page.wait_for_timeout(900)
    box = cell.locator("canvas").bounding_box() or {}
    y, left, wide = box["y"] + box["height"] / 2, box["x"], box["width"]
    reel.drag([(left + wide * (0.25 + 0.06 * k), y) for k in range(12)])
    reel.rest()

    reel.say("Open a subject: reconstruction, residual, neighbors")
    page.get_by_role("tab", name="Gallery").click()
    settle(page)
    page.locator(".tile").nth(1).click()
    reel.rest(3500)

    reel.say("Turn the map in 3-D")
    page.keyboard.press("p")
    page.keyboard.press("3")
    page.wait_for_function("() => voorwerp.on_screen().told.solid")
    page.wait_for_timeout(800)
    x, y, _ = page.evaluate(MIDDLE)
    reel.drag([(x + 16 * k - 150, y + 30 * math.sin(k / 3)) for k in range(22)])
    reel.rest()
    return reel


@contextmanager
def demo() -> Iterator[str]:
    """URL of the demo, made for this."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-capture-") as folder:
        arguments = [VOORWERP, "demo", Path(folder) / "demo", "--no-browser", "--port", str(free_port())]
        with command(arguments, Path(folder) / "log") as process:
            yield wait_for_address(process, Path(folder) / "log", timeout=600)


def film(url: str) -> Reel:
    """The tour of the survey served at `url`."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport=SIZE)
        page.goto(url)
        wait_until_idle(page)
        reel = tour(page)
        browser.close()
    return reel


def main(url: str | None = None) -> None:
    """Film the tour and write it."""
    if url is None:
        with demo() as url:
            film(url).write(PATH)
    else:
        film(url).write(PATH)
    print(f"{PATH} written, {PATH.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(*sys.argv[1:])
