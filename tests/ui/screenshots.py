"""``python -m tests.ui.screenshots [FOLDER]``: pictures of the demo at 1440 × 900 and at 1024 × 768.

Without FOLDER those of the README, into ``assets/screenshots``: the map as it opens with a subject beside it, the pages
of a training, of what a run found and of volunteers, the one for them, a boundary, and the page where experts grade.
With FOLDER every state of the page, to be looked at.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.ui.browser import launch, wait_until_idle
from tests.ui.serving import VOORWERP, command, free_port, wait_for_address

README = Path(__file__).parents[2] / "assets" / "screenshots"
SIZES = ((1440, 900), (1024, 768))
# reconstruction and residual are there
PICTURES = "() => { const all = voorwerp.shell.deep('.pictures')?.querySelectorAll('img') ?? [];\n"
PICTURES += "return all.length === 4 && [...all].every(i => i.naturalWidth > 0); }"
CORNERS = ((0.12, 0.14), (0.36, 0.14), (0.42, 0.5), (0.2, 0.52), (0.11, 0.42))  # of a region, in shares of the map
SETTLED_S = 3  # thumbnails and frames come by themselves after the page is idle


def subject(page: Page) -> None:
    """A subject beside the map, with what the model makes of it."""
    page.locator(".gallery .tile").nth(1).click()
    time.sleep(SETTLED_S)
    page.wait_for_function(PICTURES)


def training(page: Page) -> None:
    """The dialog of runs, at a training."""
    page.keyboard.press("r")
    page.locator("dialog.runs .run", has_text="Train the anomaly model").first.click()
    page.locator("dialog.runs .pane img").evaluate("image => image.decode()")


def learned(page: Page) -> None:
    """The dialog of runs, at one that learned from the demo's simulated votes."""
    page.keyboard.press("r")
    page.locator("dialog.runs .run", has_text="Predict votes, and what would teach most").first.click()
    page.locator("dialog.runs .findings canvas").first.wait_for()


def volunteers(tab: str) -> Callable[[Page], None]:
    """A tab of the page of volunteers."""

    def turn(page: Page) -> None:
        page.keyboard.press("k")
        page.get_by_role("tab", name=tab).click()
        time.sleep(SETTLED_S)

    return turn


def boundary(page: Page) -> None:
    """A boundary at work: a region drawn on the map, a gate, what they are worth, and their curves."""
    page.keyboard.press("Shift+B")
    page.get_by_label("What counts as right").select_option(label="chosen fraction (simulated)")
    sigma = page.get_by_role("slider", name="Σ, threshold of the truth")
    sigma.focus()
    for _ in range(6):
        sigma.press("PageDown")
    page.locator(".boundary h3", has_text="Keeps").click()
    page.keyboard.press("9")
    page.keyboard.press("j")
    time.sleep(1)  # the tool is taken
    box = page.locator(".map").first.bounding_box()
    assert box is not None
    for x, y in CORNERS:
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        time.sleep(0.3)
    page.keyboard.press("Enter")
    page.keyboard.press("j")
    page.get_by_label("Add a gate on a column").select_option(label="Feature score")
    share = page.get_by_role("textbox", name="Feature score from percentile")
    share.fill("30")
    share.press("Enter")
    page.mouse.move(5, 5)
    time.sleep(SETTLED_S)


def classify(page: Page) -> None:
    """The page for our own volunteers, some galaxies chosen."""
    page.goto(page.url.partition("?")[0] + "classify")
    for cell in (0, 6, 13):
        page.locator(".cell .pick").nth(cell).click()


def vet(*keys: str) -> Callable[[Page], None]:
    """The page where experts grade, one by one after some grades, or as a mosaic; of the demo's own campaign."""

    def grade(page: Page) -> None:
        page.goto(page.url.partition("?")[0] + "vet")
        page.locator(".campaigns a").first.click()
        picture = page.locator(".stage[aria-busy=false][data-shown]")
        picture.wait_for()
        if page.locator("[data-pass=single][aria-pressed=false]").count():
            page.keyboard.press("f")
        for key in keys:
            time.sleep(0.7)
            picture.wait_for()
            page.keyboard.press(key)
        time.sleep(SETTLED_S)

    return grade


def pressed(*keys: str) -> Callable[[Page], None]:
    """Some keys, one after the other."""

    def press(page: Page) -> None:
        for key in keys:
            page.keyboard.press(key)
            time.sleep(0.3)

    return press


def said(words: str) -> Callable[[Page], None]:
    """A command of the palette."""

    def choose(page: Page) -> None:
        page.keyboard.press("Control+k")
        page.keyboard.type(words)
        page.keyboard.press("Enter")

    return choose


def selection(*keys: str) -> Callable[[Page], None]:
    """A group selected by a box over a quarter of the map, then some keys."""

    def draw(page: Page) -> None:
        page.keyboard.press("b")
        box = page.locator(".map").first.bounding_box()
        assert box is not None
        x, y, w, h = box["x"], box["y"], box["width"], box["height"]
        page.mouse.move(x + 0.3 * w, y + 0.25 * h)
        page.mouse.down()
        page.mouse.move(x + 0.7 * w, y + 0.7 * h, steps=8)
        page.mouse.up()
        page.mouse.move(5, 5)
        pressed("p", *keys)(page)

    return draw


#: What the README shows, and with it every other state: name → what is done to a page that was just opened.
SHOWN: dict[str, Callable[[Page], None]] = {"map": subject, "training": training}
SHOWN |= {
    "learning": learned,
    "volunteers": volunteers("Machine and crowd"),
    "classify": classify,
    "boundary": boundary,
    "vet": vet("a", "x", "b", "c", "i"),
}
STATES = SHOWN | {
    "vet-mosaic": vet("f", "Space", "ArrowRight", "i", "ArrowDown", "ArrowDown", "b"),
    "vet-asked": vet("r", "e"),
    "vet-light": vet("h", "a", "x", "b"),
    "volunteers-fractions": volunteers("Chosen fraction"),
    "volunteers-people": volunteers("Volunteers"),
    "volunteers-retirement": volunteers("Retirement"),
    "light": lambda page: (subject(page), page.keyboard.press("h")),
    "selection": selection(),
    "histograms": selection("6"),
    "table": selection("7"),
    "apart": selection("8"),
    "light-histograms": selection("h", "6"),
    "light-table": selection("h", "7"),
    "light-apart": selection("h", "8"),
    "scores": said("feature score against image score"),
    "solid": pressed("3"),
    "contours": pressed("d"),
    "categories": said("color by split"),
    "palette": pressed("Control+k"),
    "keys": pressed("?"),
    "tour": said("tour of the page"),
    "enlarged": pressed("z"),
    "compare": pressed("m", "ArrowRight", "m", "ArrowRight", "m", "c"),
    "sides": pressed("s"),
    "lost": lambda page: page.evaluate(
        "() => { window.fetch = () => Promise.reject(new TypeError()); voorwerp.shell.lost(); }"
    ),
}


def main() -> None:
    """Serve the demo and take the pictures."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else README
    states = STATES if len(sys.argv) > 1 else SHOWN
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="voorwerp-screenshots-") as folder, sync_playwright() as playwright:
        log = Path(folder) / "log"
        demo = [VOORWERP, "demo", Path(folder) / "demo", "--no-browser", "--port", str(free_port())]
        browser = launch(playwright)
        with command(demo, log) as process:
            url = wait_for_address(process, log, timeout=600)
            make = ["vet", "make", Path(folder) / "demo", "Odd shapes", "--top", ".2", "--graders", "3"]
            subprocess.run([VOORWERP, *make], check=True, stdout=subprocess.DEVNULL)
            learn = ["run", Path(folder) / "demo", "bayes", "--device", "cpu"]
            subprocess.run([VOORWERP, *learn], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for width, height in SIZES:
                for name, act in states.items():
                    if target == README and name not in ("map", "training") and width < 1440:
                        continue  # README has them once
                    take(browser.new_page(viewport={"width": width, "height": height}), url, act, target / name)
        browser.close()


def take(page: Page, url: str, act: Callable[[Page], object], path: Path) -> None:
    """One picture of a page of its own."""
    size = page.viewport_size
    assert size is not None
    page.goto(url)
    wait_until_idle(page)
    time.sleep(SETTLED_S)
    act(page)
    time.sleep(1.5)
    path = path.with_name(f"{path.name}-{size['width']}x{size['height']}.png")
    page.screenshot(path=path)
    page.close()
    print(f"{path} written", flush=True)


if __name__ == "__main__":
    main()
