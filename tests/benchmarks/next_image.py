"""From the key of a grade to the next picture, beside a page that asks for it once the vote is answered."""

import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr
from playwright.sync_api import Page, sync_playwright

from explorer.ledger import Ledger
from explorer.services.boundaries import Boundaries
from explorer.services.campaigns import Campaigns, Plan
from explorer.services.explore import Explore
from explorer.services.notes import Notes
from explorer.survey import IMAGES, Survey
from models.grades import SCHEMES
from tests.benchmarks.latency import shown_after
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import SIDE, write_survey
from tests.galaxies import galaxy
from tests.ui.browser import launch
from tests.ui.serving import serve

N, N_GRADED = 1_000_000, 2_000
ROUNDS = 200
#: Between one grade and the next, ms: faster than anybody looks.
PACE_MS = 150
LIMIT_MS = 50
SHOWN = "() => document.querySelector('.stage').dataset.shown"
OURS = """before => { const stage = document.querySelector('.stage');
  return stage.getAttribute('aria-busy') === 'false' && stage.dataset.shown !== before; }"""
# One handler: the vote is sent, its answer awaited; then the next subject is asked for, and its picture.
STOCK = """async ([id, first]) => {
  const token = await (await fetch('/token')).text(), image = document.createElement('img');
  image.style.cssText = 'position:fixed;inset:0;width:800px;height:800px;background:#000;z-index:99';
  document.body.append(image);
  let at = first;
  const show = async () => {
    const [item] = (await (await fetch(`/vet/${id}/queue?start=${at}&count=1`)).json()).items;
    const bytes = await (await fetch(`/vet/${id}/mosaic?px=160&key=${item.key}`)).arrayBuffer();
    const length = new DataView(bytes).getUint32(0, true);
    image.src = URL.createObjectURL(new Blob([bytes.slice(4 + length)]));
    await image.decode();
    window.__at = item.key;
  };
  window.addEventListener('keydown', async () => {
    const headers = {'Content-Type': 'application/json', 'X-Voorwerp-Token': token};
    const body = {id: crypto.randomUUID(), key: window.__at, grade: 'X', interesting: false, seconds: 0.2, looked: []};
    await fetch(`/vet/${id}/vote`, {method: 'POST', headers, body: JSON.stringify(body)});
    at += 1;
    await show();
  });
  await show();
}"""


def write(path: Path) -> str:
    """The survey, in which those that are graded have pictures; the id of a campaign of these."""
    write_survey(path, N, pictures=True)
    rng = np.random.default_rng(3)
    kinds = np.stack([galaxy(rng, SIDE) for _ in range(64)])
    zarr.open_array(path / IMAGES)[:N_GRADED] = kinds[rng.integers(0, len(kinds), N_GRADED)]
    survey = Survey.open(path)
    with Ledger(path, survey.info.survey_id) as ledger:
        explore = Explore(survey)
        campaigns = Campaigns(explore, ledger, Boundaries(explore, ledger), Notes(ledger, explore))
        campaign = campaigns.make(Plan("next", SCHEMES["abcx"]), np.arange(N_GRADED), {"selection": None}, "local")
    survey.close()
    return campaign.id


def times(page: Page, holds: str, shown: str) -> list[float]:
    """Milliseconds of each round but the first ten."""
    found = []
    for _ in range(ROUNDS + 10):
        before = page.evaluate(shown)
        found.append(shown_after(page, lambda: page.keyboard.press("x"), "keydown", holds, before))
        page.wait_for_timeout(PACE_MS)
    return found[10:]


def measure(act: Callable[[Page], list[float]], url: str) -> list[float]:
    """In a browser of its own."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(url, wait_until="commit")
        found = act(page)
        browser.close()
    return found


def ours(page: Page, campaign: str) -> list[float]:
    """Grade one by one; every vote is on the disk in the end."""
    page.goto(f"{page.url.partition('/?')[0].rstrip('/')}/vet/{campaign}")
    page.locator("[data-pass=single]").click()
    page.wait_for_function("() => document.querySelector('.stage').dataset.shown?.length === 16")
    page.wait_for_timeout(2000)
    found = times(page, OURS, SHOWN)
    page.locator(".safe", has_text="all saved").wait_for()
    done = json.loads(page.evaluate(f"async () => (await fetch('/vet/{campaign}/queue?count=0')).text()"))
    if done["standing"]["n_done"] != ROUNDS + 10:
        raise RuntimeError(f"{done['standing']['n_done']} votes are kept of {ROUNDS + 10}")
    return found


def theirs(page: Page, campaign: str) -> list[float]:
    """The same votes and pictures, one after the other."""
    page.goto(f"{page.url.partition('/?')[0].rstrip('/')}/vet")
    page.locator(".campaigns li").first.wait_for()
    page.evaluate(STOCK, [campaign, ROUNDS + 10])
    return times(page, "before => window.__at !== before", "() => window.__at")


def row() -> Row:
    """p95 of both."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-next-") as name:
        path = Path(name) / "survey"
        campaign = write(path)
        with serve(path, Path(name) / "log", timeout=120) as url:
            mine = measure(lambda page: ours(page, campaign), url)
            other = measure(lambda page: theirs(page, campaign), url)
    p95 = [float(np.quantile(found, 0.95)) for found in (mine, other)]
    return Row(
        "next_image",
        f"key of a grade to the next picture painted, p95 of {ROUNDS}; {N:,} synthetic subjects of {SIDE} px, every "
        "vote answered after its commit",
        *p95,
        p95[1] / p95[0],
        "ms",
        "a page that asks for the next picture once the vote is answered (same server, same votes)",
        note=f"at most {LIMIT_MS} ms wanted of ours",
        extra={"ours_ms": mine, "theirs_ms": other, "limit_ms": LIMIT_MS, "median_ms": statistics.median(mine)},
    )


LONG_ROWS = {"next_image": row}
