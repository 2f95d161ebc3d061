"""Looking at subjects in a real Chromium: the viewer, the enlarged view, looking up, other programs."""

import gzip
import io
import queue
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from playwright.sync_api import Locator, Page, expect

from tests.galaxies import write_fits_galaxies
from tests.ui.browser import eventually
from tests.ui.serving import serve
from tests.ui.test_journeys import choose, wait_for_frame

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecated, which is why the product has its own; a peer is welcome still
    from astropy import samp as peers

N = 30
PIXELS = """canvas => {
  const {data} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height), sums = [0, 0, 0];
  for (let i = 0; i < data.length; i++) if (i % 4 < 3) sums[i % 4] += data[i];
  return [canvas.width, canvas.height, ...sums.map(s => s / canvas.width / canvas.height)];
}"""


@pytest.fixture(scope="module")
def fits_survey(tmp_path_factory: pytest.TempPathFactory, voorwerp: Callable[..., str]) -> Path:
    """Three-band FITS cubes with a sky, as a survey without runs; column ``flux`` comes in by a join."""
    folder = tmp_path_factory.mktemp("fits_survey")
    write_fits_galaxies(folder / "cubes", N)
    voorwerp("create", folder / "survey", folder / "cubes", "--size", 32, "--extent", "4arcsec", "--bands", "g,r,i")
    return folder / "survey"


@pytest.fixture(scope="module")
def sky(fits_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serve(fits_survey, tmp_path_factory.mktemp("serve_sky") / "log") as url:
        yield url


@pytest.fixture
def subject(open_survey: Callable[[str], Page], sky: str) -> Page:
    """The survey with the third subject, which has missing pixels, in focus."""
    page = open_survey(sky)
    find(page, "cube002")
    expect(page.locator(".subject h2")).to_have_text("cube002")
    expect(page.locator(".viewer .bar")).to_be_visible()
    return page


def find(page: Page, text: str) -> None:
    box = page.get_by_label("Find an id, a coordinate or a list of ids")
    box.fill(text)
    box.press("Enter")
    expect(page.locator(".finder .said")).not_to_have_text(re.compile("^(Looking …)?$"))


def pixels(page: Page) -> list[float]:
    """Width, height and mean red, green and blue of the viewer's canvas."""
    return page.locator(".viewer canvas").evaluate(PIXELS)


def shown(page: Page, holds: Callable[[list[float]], bool]) -> list[float]:
    """`pixels`, as soon as `holds` is true of them."""
    return eventually(lambda: pixels(page), holds)


def side(box: Locator) -> float:
    found = box.bounding_box()
    assert found is not None
    return found["width"]


def test_the_original_is_shown_at_its_own_resolution_with_a_scale_in_arcsec_and_the_networks_crop(subject: Page):
    # three times 4″ at 0.2″ a pixel, of an image of 64 pixels
    eventually(lambda: pixels(subject)[:2], lambda size: size == [60, 60])
    bar, crop, frame = (subject.locator(f".viewer .{name}") for name in ("bar", "crop", "frame"))
    length = float(re.fullmatch(r"([\d.]+)″", bar.inner_text()).group(1))
    assert side(bar) / side(frame) == pytest.approx(length / (60 * 0.2), rel=0.03)
    assert side(crop) / side(frame) == pytest.approx(1 / 3, abs=0.02)
    subject.keyboard.press("Escape")
    subject.locator(".subject h2").click()
    subject.keyboard.press("o")
    expect(crop).to_be_hidden()


def test_stretch_levels_bands_and_invert_change_the_picture_and_stay_for_the_next_subject(subject: Page):
    before = pixels(subject)
    subject.locator(".subject h2").click()
    subject.keyboard.press("i")
    other = 255 - np.array(before[2:])
    shown(subject, lambda now: np.allclose(now[2:], other, atol=4))  # but for what is missing, which stays grey
    subject.keyboard.press("i")
    shown(subject, lambda now: now == pytest.approx(before))
    white = subject.locator(".viewer label input").nth(1)
    white.fill("0.5")
    expect(subject.get_by_label("Stretch", exact=True)).to_have_value("linear")
    brighter = shown(subject, lambda now: min(np.subtract(now[2:], before[2:])) > 1)
    subject.get_by_label("Stretch", exact=True).select_option("asinh")
    *_, red, _, blue = shown(subject, lambda now: min(np.subtract(now[2:], brighter[2:])) > 1)
    subject.get_by_label("Band shown as red").select_option("g")
    subject.get_by_label("Band shown as blue").select_option("i")
    turned = pytest.approx([blue, red], abs=0.5)
    shown(subject, lambda now: [now[2], now[4]] == turned)  # what is missing keeps its grey
    find(subject, "cube005")
    expect(subject.locator(".subject h2")).to_have_text("cube005")
    expect(subject.get_by_label("Stretch", exact=True)).to_have_value("asinh")
    expect(subject.get_by_label("Band shown as red")).to_have_value("0")
    subject.get_by_label("Reset stretch, levels and zoom").click()
    find(subject, "cube002")
    expect(subject.locator(".subject h2")).to_have_text("cube002")
    shown(subject, lambda now: now == pytest.approx(before))


def test_missing_pixels_are_grey(subject: Page):
    at = "canvas => [...canvas.getContext('2d').getImageData(4, canvas.height - 6, 1, 1).data]"
    eventually(lambda: subject.locator(".viewer canvas").evaluate(at)[:3], lambda color: color == [75, 85, 99])


def test_the_enlarged_view_follows_the_gallery_zooms_and_closes_without_clearing_anything(subject: Page):
    subject.locator(".tile").nth(1).dblclick()
    dialog = subject.locator("dialog.enlarged")
    expect(dialog).to_be_visible()
    expect(dialog.locator("h2")).to_have_text("cube001")
    subject.keyboard.press("ArrowRight")
    expect(dialog.locator("h2")).to_have_text("cube002")
    frame = dialog.locator(".frame").bounding_box()
    before = side(dialog.locator("canvas"))
    subject.mouse.move(frame["x"] + frame["width"] / 2, frame["y"] + frame["height"] / 2)
    subject.mouse.wheel(0, -480)
    eventually(lambda: side(dialog.locator("canvas")), lambda now: now == pytest.approx(4 * before, rel=0.02))
    subject.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(subject.locator(".subject .viewer canvas")).to_be_visible()


def test_a_list_marks_what_is_found_and_names_what_is_missing(subject: Page):
    find(subject, "cube004\ncube009\nNGC 1275\ncube011")
    expect(subject.locator(".finder .said")).to_contain_text("3 of 4 found")
    expect(subject.get_by_text("3 of 30 selected, 10 %")).to_be_visible()
    subject.locator(".finder summary").click()
    expect(subject.locator(".finder pre")).to_have_text("NGC 1275")
    expect(subject.locator(".subject h2")).to_have_text("cube004")


def test_a_coordinate_finds_the_subject_there_and_links_lead_to_other_archives(subject: Page):
    find(subject, "10:00:16.8 +02:00:00 3arcsec")
    expect(subject.locator(".subject h2")).to_have_text("cube007")
    link = subject.locator(".subject .sky a", has_text="SIMBAD")
    query = parse_qs(urlsplit(link.get_attribute("href")).query)
    assert "150.07" in "".join(query["Coord"])
    assert link.get_attribute("rel") == "noopener noreferrer"


def test_a_selection_leaves_as_fits_votable_and_regions_that_others_read(subject: Page):
    find(subject, "cube004, cube009")
    expect(subject.get_by_text("2 of 30 selected").first).to_be_visible()
    taken = {}
    for name in ("FITS", "VOTable", "DS9 regions"):
        with subject.expect_download() as waiting:
            subject.get_by_role("link", name=name, exact=True).click()
        taken[name] = Path(waiting.value.path()).read_bytes()
    with fits.open(io.BytesIO(taken["FITS"])) as hdus:
        assert list(hdus[1].data["source_id"]) == ["cube004", "cube009"]
    assert list(Table.read(io.BytesIO(taken["VOTable"]), format="votable")["source_id"]) == ["cube004", "cube009"]
    assert taken["DS9 regions"].decode().count("cube0") == 2


def test_the_original_can_be_saved_as_fits_with_its_place_on_the_sky(subject: Page):
    with subject.expect_download() as waiting:
        subject.get_by_label("Save the original").click()
    assert waiting.value.suggested_filename == "cube002.fits.gz"
    with fits.open(io.BytesIO(gzip.decompress(Path(waiting.value.path()).read_bytes()))) as hdus:
        header, values = hdus[0].header, hdus[0].data
    assert values.shape == (3, 60, 60)
    assert np.isnan(values).any()
    assert WCS(header).celestial.wcs_pix2world([[29.5, 29.5]], 0)[0] == pytest.approx([150.02, 2.0], abs=1e-6)
    assert header["BUNIT"] == "nJy"


def test_a_link_that_names_what_is_not_here_says_so(open_survey: Callable[[str], Page], sky: str):
    page = open_survey(f"{sky}&subject=NGC1275&map=none")
    expect(page.locator(".finder .said")).to_contain_text("does not have: subject NGC1275, map none")


def test_columns_joined_and_subjects_added_while_the_page_is_open_are_seen_or_said(
    page: Page, open_survey: Callable[[str], Page], fits_survey: Path, tmp_path: Path, voorwerp: Callable[..., str]
):
    shutil.copytree(fits_survey, tmp_path / "survey")
    rows = "\n".join(f"cube{i:03d},{20 + i / 10}" for i in range(N))
    (tmp_path / "fluxes.csv").write_text(f"name,flux\n{rows}\n")
    with serve(tmp_path / "survey", tmp_path / "log") as url:
        open_survey(url)
        find(page, "cube004")
        voorwerp("join", tmp_path / "survey", tmp_path / "fluxes.csv", "--on", "source_id=name")
        expect(page.locator(".subject .columns")).to_contain_text("flux")
        choose(page, "Sort by", "flux")
        highest = page.locator(".gallery .tile").first
        expect(highest).to_have_attribute("title", "cube029")
        highest.click()
        expect(page.locator(".subject h2")).to_have_text("cube029")
        write_fits_galaxies(tmp_path / "more", 3, seed=7)
        for path in (tmp_path / "more").iterdir():
            path.rename(path.with_name(f"more_{path.name}"))
        voorwerp("add", tmp_path / "survey", tmp_path / "more")
        expect(page.get_by_text("3 subjects were added: start `voorwerp serve` again to see them")).to_be_visible()
        page.goto("about:blank")  # before its server goes


# ------------------------------------------------------------------------------------------- tables without images
def test_a_survey_without_images_opens_as_names_scores_and_map(
    page: Page, open_survey: Callable[[str], Page], tmp_path: Path, voorwerp: Callable[..., str]
):
    rng = np.random.default_rng(4)
    np.save(tmp_path / "latents.npy", rng.normal(size=(60, 8)).astype(np.float32))
    rows = "\n".join(f"{2**60 + i},{v:.4f}" for i, v in enumerate(rng.normal(size=60)))
    (tmp_path / "scores.csv").write_text(f"object_id,oddness\n{rows}\n")
    survey = tmp_path / "survey"
    told = ["--latents", tmp_path / "latents.npy", "--scores", tmp_path / "scores.csv", "--id-column", "object_id"]
    voorwerp("import-run", survey, *told, "--score-column", "oddness")
    voorwerp("run", survey, "map", "--n-epochs", 20)
    with serve(survey, tmp_path / "log") as url:
        open_survey(url)
        wait_for_frame(page)
        expect(page.locator(".tile").first).to_contain_text(re.compile(r"11529215046068\d{5}"))
        page.locator(".tile").nth(2).click()
        expect(page.locator(".subject h2")).to_have_text(re.compile(r"11529215046068\d{5}"))
        expect(page.locator(".subject .scores")).to_contain_text("oddness")
        expect(page.locator(".viewer")).to_be_hidden()
        page.keyboard.press("z")
        expect(page.locator("dialog.enlarged")).to_be_hidden()
        page.goto("about:blank")  # before its server goes


# ------------------------------------------------------------------------------------------------------------ SAMP
def test_a_selection_goes_to_whoever_listens_by_samp(
    page: Page, open_survey: Callable[[str], Page], fits_survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    heard: queue.Queue[Table] = queue.Queue()

    def load(key: str, sender: str, mtype: str, params: dict[str, str], extra: dict[str, str]) -> None:
        heard.put(Table.read(urlsplit(params["url"]).path, format="votable"))

    with peers.conf.set_temp("use_internet", False):
        hub = peers.SAMPHubServer(web_profile=False, lockfile=str(tmp_path / "hub"), addr="127.0.0.1", mode="multiple")
        hub.start()
        monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{(tmp_path / 'hub').as_uri()}")
        client = peers.SAMPIntegratedClient(name="Listener", addr="127.0.0.1")
        client.connect()
        client.bind_receive_notification("table.load.votable", load)
        try:
            shutil.copytree(fits_survey, tmp_path / "survey")  # one survey has one server
            with serve(tmp_path / "survey", tmp_path / "log") as url:
                open_survey(url)
                find(page, "cube004, cube009")
                page.get_by_text("Send 2 selected by SAMP").click()
                expect(page.get_by_text("2 subjects sent to Listener")).to_be_visible()
                assert list(heard.get(timeout=60)["source_id"]) == ["cube004", "cube009"]
                page.goto("about:blank")  # before its server goes
        finally:
            client.disconnect()
            hub.stop()
