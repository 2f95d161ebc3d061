"""The gallery in a real Chromium: its bar, groups, kinds of pictures, the walk, and subjects side by side."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.conftest import FIRST_ID
from tests.ui.browser import eventually
from tests.ui.test_subjects import find

N = 200
#: The colors of one tile of the canvas, as a checksum; 0 where nothing is painted.
PAINTED = """tile => {
  const canvas = tile.getRootNode().querySelector('.gallery canvas'), a = tile.getBoundingClientRect(), b = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio, box = [a.x - b.x, a.y - b.y, a.width, a.height].map(v => Math.round(v * ratio));
  return canvas.getContext('2d').getImageData(...box).data.reduce((sum, v, i) => (sum + v * (i % 251)) % 1000003, 0);
}"""  # noqa: E501


@pytest.fixture
def gallery(open_survey: Callable[[str], Page], served: str) -> Page:
    """The page, its first pictures painted."""
    page = open_survey(served)
    settled(page)
    return page


def settled(page: Page) -> None:
    """Until every picture in view is painted."""
    expect(page.locator(".gallery")).to_have_attribute("aria-busy", "false")


def tile(page: Page, place: int) -> Locator:
    return page.locator(f"#tile-{place}")


def row(page: Page, place: int) -> str:
    """The row at a place of the order, when it is known."""
    expect(tile(page, place)).to_have_attribute("data-row", re.compile(r"\d"))
    return tile(page, place).get_attribute("data-row") or ""


def in_focus(page: Page, place: int) -> None:
    expect(tile(page, place)).to_have_class(re.compile(r"\bfocus\b"))


def bar(page: Page, label: str) -> Locator:
    return page.locator(".gallery-pane .bar").get_by_label(label)


def test_a_page_of_pictures_is_few_requests_and_only_what_is_in_view_exists(
    page: Page, open_survey: Callable[[str], Page], served: str
) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/page?" in request.url else None)
    open_survey(served)
    settled(page)
    assert 1 <= len(asked) <= 2
    assert 10 < page.locator(".gallery .tile").count() < N
    assert tile(page, 0).evaluate(PAINTED) != 0
    expect(page.locator(".gallery-pane .count")).to_have_text("all 200 subjects")
    expect(tile(page, 0)).to_have_attribute("aria-label", re.compile(r"^\d{18}$"))


def test_every_kind_of_picture_and_every_stretch_is_another_picture(gallery: Page) -> None:
    seen = {tile(gallery, 0).evaluate(PAINTED)}
    first = row(gallery, 0)
    for kind in ("Crop", "Reconstruction", "Residual"):
        gallery.locator(".gallery").focus()
        gallery.keyboard.press("x")
        expect(bar(gallery, "Pictures shown").locator("option:checked")).to_have_text(kind)
        settled(gallery)
        seen.add(tile(gallery, 0).evaluate(PAINTED))
        assert row(gallery, 0) == first
    assert len(seen) == 4
    gallery.keyboard.press("x")
    expect(bar(gallery, "Pictures shown").locator("option:checked")).to_have_text("Original")
    canvas = gallery.locator(".gallery canvas")
    for text, filtered in (
        ("Twice as bright", "brightness(2)"),
        ("Faint lifted (asinh)", 'url("#lifted")'),
        ("Inverted", "invert(1)"),
        ("As they are", "none"),
    ):
        bar(gallery, "Stretch").select_option(label=text)
        expect(canvas).to_have_css("filter", filtered)


def test_a_page_of_reconstructions_is_one_request(gallery: Page) -> None:
    asked: list[str] = []
    gallery.on("request", lambda request: asked.append(request.url) if "kind=reconstruction" in request.url else None)
    bar(gallery, "Pictures shown").select_option(label="Reconstruction")
    settled(gallery)
    assert 1 <= len(asked) <= 2  # the one in view, and the next
    assert tile(gallery, 0).evaluate(PAINTED) != 0


def test_the_size_is_kept_by_the_browser(gallery: Page) -> None:
    before = tile(gallery, 0).bounding_box()
    bar(gallery, "Size of the pictures").fill("200")
    expect(tile(gallery, 0)).to_have_css("width", re.compile(r"^(19|2\d)\d"))
    gallery.reload()
    settled(gallery)
    after = tile(gallery, 0).bounding_box()
    assert before is not None and after is not None
    assert after["width"] > before["width"] * 1.5
    expect(bar(gallery, "Size of the pictures")).to_have_value("200")


def test_the_arrow_keys_walk_within_lines_and_across_them(gallery: Page) -> None:
    tile(gallery, 1).click()
    in_focus(gallery, 1)
    first_line = "tiles => tiles.filter(t => t.getBoundingClientRect().y === tiles[0].getBoundingClientRect().y).length"
    columns = gallery.locator(".gallery .tile").evaluate_all(first_line)
    for key, place in (
        ("ArrowRight", 2),
        ("ArrowDown", 2 + columns),
        ("ArrowLeft", 1 + columns),
        ("ArrowUp", 1),
        ("End", N - 1),
        ("Home", 0),
    ):
        gallery.keyboard.press(key)
        in_focus(gallery, place)
        expect(tile(gallery, place)).to_be_in_viewport()
    finder = gallery.locator("textarea").first
    finder.focus()
    gallery.keyboard.press("ArrowRight")  # a person types
    in_focus(gallery, 0)


def test_the_gallery_goes_to_a_focus_that_changes_elsewhere(gallery: Page) -> None:
    gallery.keyboard.press("End")
    in_focus(gallery, N - 1)
    last = row(gallery, N - 1)
    gallery.keyboard.press("Home")
    in_focus(gallery, 0)
    name = str(FIRST_ID + int(last))
    find(gallery, name)
    expect(gallery.locator(".subject h2")).to_have_text(name)
    in_focus(gallery, N - 1)
    expect(tile(gallery, N - 1)).to_be_in_viewport()


def test_groups_have_headings_that_say_how_many_and_select_them(gallery: Page) -> None:
    bar(gallery, "Group by").select_option(label="shape")
    heads = gallery.locator(".gallery .head")
    expect(heads.first).to_contain_text("100 of 200 · 50 %")
    first = heads.first.locator("b").inner_text()
    assert first in ("elliptical", "spiral")
    gallery.locator(".gallery").evaluate("gallery => { gallery.scrollTop = 300; }")
    expect(heads.first).to_be_in_viewport()  # sticky
    heads.first.get_by_role("button").click()
    expect(gallery.locator(".gallery-pane .count")).to_have_text("100 selected of 200")
    expect(heads).to_have_count(1)
    expect(heads.first).to_contain_text(f"{first}100 of 100 · 100 %")
    tile(gallery, 0).click()
    shape = gallery.locator(".subject .columns dt", has_text=re.compile("^shape$"))
    expect(shape.locator("xpath=following-sibling::dd[1]")).to_have_text(first)


def test_clusters_and_quartiles_are_groups_and_the_walk_crosses_them(gallery: Page) -> None:
    bar(gallery, "Group by").select_option(label="4 clusters")
    head = gallery.locator(".gallery .head").first
    expect(head.locator("b")).to_have_text("cluster 1")
    expect(head).to_contain_text("clusters are no classes")
    size = int(re.search(r"(\d+) of 200", head.inner_text()).group(1))  # type: ignore[union-attr]
    gallery.locator(".gallery").focus()
    gallery.keyboard.press("Home")
    in_focus(gallery, 0)
    for _ in range(size):
        gallery.keyboard.press("ArrowRight")
    in_focus(gallery, size)
    expect(gallery.locator(".gallery .head", has_text="cluster 2")).to_be_in_viewport()
    bar(gallery, "Group by").select_option(label="magnitude, quartiles")
    expect(gallery.locator(".gallery .head").first.locator("b")).to_have_text(re.compile(r"^[\d.]+ – [\d.]+$"))
    bar(gallery, "Group by").select_option(label="No groups")
    expect(gallery.locator(".gallery .head")).to_have_count(0)


def test_the_order_turns_around_and_stays_in_the_link(gallery: Page) -> None:
    bar(gallery, "Sort by").select_option(label="magnitude")
    gallery.wait_for_url(re.compile("sort=subjects.magnitude"))
    settled(gallery)
    highest = row(gallery, 0)
    bar(gallery, "Order: highest first").click()
    gallery.wait_for_url(re.compile("order=lowest"))
    assert highest != "0"
    expect(tile(gallery, 0)).to_have_attribute("data-row", "0")
    settled(gallery)
    asked: list[str] = []
    gallery.on("request", lambda request: asked.append(request.url) if "/page?" in request.url else None)
    bar(gallery, "Order: lowest first").click()  # back to what has been seen: it is still there
    expect(tile(gallery, 0)).to_have_attribute("data-row", highest)
    settled(gallery)
    assert not [url for url in asked if "start=0" in url]
    bar(gallery, "Sort by").select_option(label="Order of the survey")
    expect(bar(gallery, "Order:")).to_be_disabled()


def test_marked_subjects_stand_side_by_side(gallery: Page) -> None:
    rows = [row(gallery, place) for place in range(3)]
    gallery.keyboard.press("c")
    expect(gallery.locator(".gallery-pane .said")).to_contain_text("Mark two to nine subjects")
    tile(gallery, 0).click()
    in_focus(gallery, 0)
    gallery.keyboard.press("m")
    for place in (1, 2):
        tile(gallery, place).click(modifiers=["Control"])
    in_focus(gallery, 0)
    expect(tile(gallery, 2)).to_have_attribute("data-mark", "3")
    bar(gallery, "Compare what is marked").click()
    dialog = gallery.locator("dialog.comparison")
    cards = dialog.locator(".subject-card")
    expect(cards).to_have_count(3)
    for card, number in zip(cards.all(), rows, strict=True):
        expect(card.locator("h2")).to_have_text(str(FIRST_ID + int(number)))
        expect(card.locator(".score")).to_have_count(3)
        for image in card.locator("figure img").all():
            expect(image).to_have_js_property("naturalWidth", 32)
    expect(cards.nth(0)).to_be_focused()
    gallery.keyboard.press("ArrowRight")
    expect(cards.nth(1)).to_be_focused()
    widths = "card => card.querySelector('.viewer canvas').getBoundingClientRect().width"
    before = cards.nth(2).evaluate(widths)
    box = cards.nth(0).locator(".frame").bounding_box()
    assert box is not None
    gallery.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    gallery.mouse.wheel(0, -240)
    twice = pytest.approx(2 * before, rel=0.01)
    eventually(lambda: cards.nth(2).evaluate(widths), lambda width: width == twice)  # all together
    cards.nth(1).focus()
    gallery.keyboard.press("Delete")
    expect(cards).to_have_count(2)
    expect(tile(gallery, 1)).to_have_attribute("data-mark", "")
    gallery.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(cards).to_have_count(0)
    expect(tile(gallery, 2)).to_have_attribute("data-mark", "2")


def test_at_most_nine_are_marked(gallery: Page) -> None:
    for place in range(10):
        tile(gallery, place).click(modifiers=["Control"])
    expect(gallery.locator(".gallery .tile.marked")).to_have_count(9)
    expect(gallery.locator(".gallery-pane .said")).to_have_text("At most 9 are compared")
