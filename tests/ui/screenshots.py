"""``python -m tests.ui.screenshots``: pictures of the demo for the README, into ``assets/screenshots``.

The map as it opens, a subject beside it, and the page of the training, at 1440 × 900 and at 1024 × 768.
"""

import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.ui.browser import launch, wait_until_idle
from tests.ui.serving import VOORWERP, command, free_port, wait_for_address

FOLDER = Path(__file__).parents[2] / "assets" / "screenshots"
# reconstruction and residual are there
PICTURES = """() => { const found = []; const walk = e => { if (e.matches?.('.pictures img')) found.push(e);
  [...(e.shadowRoot?.children ?? []), ...e.children].forEach(walk); }; walk(document.body);
  return found.length === 4 && found.every(i => i.naturalWidth > 0); }"""
SETTLED_S = 3  # thumbnails and frames come by themselves after the page is idle


def main() -> None:
    """Serve the demo and take the pictures."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="voorwerp-screenshots-") as folder, sync_playwright() as playwright:
        log = Path(folder) / "log"
        demo = [VOORWERP, "demo", Path(folder) / "demo", "--no-browser", "--port", str(free_port())]
        browser = launch(playwright)
        with command(demo, log) as process:
            url = wait_for_address(process, log, timeout=600)
            for width, height in ((1440, 900), (1024, 768)):
                page = browser.new_page(viewport={"width": width, "height": height})
                page.goto(url)
                wait_until_idle(page)
                time.sleep(SETTLED_S)
                path = FOLDER / f"map-{width}x{height}.png"
                page.locator(".gallery .tile").nth(1).click()
                time.sleep(SETTLED_S)
                page.wait_for_function(PICTURES)
                time.sleep(1)
                page.screenshot(path=path)
                print(f"{path} written", flush=True)
                path = FOLDER / f"training-{width}x{height}.png"
                page.keyboard.press("r")
                page.locator("dialog.runs .run", has_text="Train the anomaly model").first.click()
                page.locator("dialog.runs .pane img").evaluate("image => image.decode()")
                time.sleep(1)
                page.screenshot(path=path)
                print(f"{path} written", flush=True)
                page.close()
        browser.close()


if __name__ == "__main__":
    main()
