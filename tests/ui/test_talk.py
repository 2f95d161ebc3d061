"""Talk in a real Chromium: what volunteers wrote is text whatever it looks like; their tags above the map."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from playwright.sync_api import Locator, Page, expect

from explorer.votes import TALK_COMMENTS, TALK_COMMENTS_SCHEMA, TALK_TAGS, TALK_TAGS_SCHEMA
from models.artifacts import write_table
from tests.conftest import FIRST_ID
from tests.ui.browser import eventually, query
from tests.ui.serving import serve
from tests.ui.test_journeys import choose, wait_for_frame

ROW = 7
HOSTILE = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>"
GROUP = HOSTILE.replace(" ", "_")  # as a group of its own is called
LINK = "[click](javascript:window.hacked=3)"


def _table(schema: pa.Schema, rows: list[dict]) -> pa.Table:
    return pa.table([pa.array([row.get(f.name) for row in rows], f.type) for f in schema], schema=schema)


def write_talk(survey: Path) -> None:
    """Rings on rows 0 to 19, mergers on 10 to 14, one supernova; on `ROW` five comments and a tag that is markup."""
    at = datetime(2023, 4, 12, 14, 24, tzinfo=UTC)
    given = [(row, "ring", "a" * 16) for row in range(20)] + [(row, "merging", "b" * 16) for row in range(10, 15)]
    given += [(3, "supernova", "c" * 16), (ROW, HOSTILE, "b" * 16), (ROW, "rings", "b" * 16)]
    tags = [
        {"subject_id": FIRST_ID + row, "tag": tag, "tag_group": tag, "volunteer": who, "created_at": at, "tag_id": i}
        for i, (row, tag, who) in enumerate(given)
    ]
    write_table(survey / TALK_TAGS, _table(TALK_TAGS_SCHEMA, tags))
    texts = [f"{HOSTILE}\nsecond line {LINK}", "two", "three\n" * 20, "four", "five"]
    comments = [
        {"comment_id": i, "subject_id": FIRST_ID + ROW, "text": text, "created_at": at.replace(minute=i)}
        | ({"volunteer": "b" * 16} if i else {})
        for i, text in enumerate(texts)
    ]
    write_table(survey / TALK_COMMENTS, _table(TALK_COMMENTS_SCHEMA, comments))


@pytest.fixture(scope="module")
def talked(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A survey with Talk, served."""
    folder = tmp_path_factory.mktemp("talked")
    survey = shutil.copytree(finished_survey, folder / "survey", ignore=shutil.ignore_patterns("server.lock"))
    write_talk(survey)
    with serve(survey, folder / "log") as url:
        yield url


@pytest.fixture
def subject(open_survey: Callable[[str], Page], talked: str) -> Page:
    page = open_survey(f"{talked}&subject={FIRST_ID + ROW}")
    wait_for_frame(page)
    expect(page.locator(".subject h2")).to_have_text(str(FIRST_ID + ROW))
    return page


def part(page: Page) -> Locator:
    return page.locator(".subject details.section", has=page.locator("summary", has_text="Talk"))


def test_what_volunteers_wrote_is_text(subject: Page):
    talk = part(subject)
    expect(talk.locator("summary")).to_contain_text("3 tags · 5 comments")
    first = talk.locator(".note .text").first
    expect(first).to_have_text(f"{HOSTILE}\nsecond line {LINK}", use_inner_text=True)
    assert first.inner_html().count("<") == 0  # nothing in it is an element
    assert talk.locator("a, img, script").count() == 0
    expect(talk.locator(".said-tag .chip .name")).to_have_text([GROUP, "ring"])
    expect(talk.locator(".said-tag").nth(0)).to_contain_text(f"“{HOSTILE}” by bbbbbbbb")
    expect(talk.locator(".said-tag").nth(1)).to_contain_text("“rings” by aaaaaaaa, bbbbbbbb")
    expect(talk.locator(".note .line").first).to_have_text("someone · 2023-04-12 14:00 UTC")
    assert subject.evaluate("window.hacked") is None


def test_three_comments_are_shown_and_the_rest_on_request(subject: Page):
    talk = part(subject)
    notes = talk.locator(".note:visible")
    expect(notes).to_have_count(3)
    long = notes.nth(2).locator(".text")
    low = long.bounding_box()["height"]
    talk.get_by_role("button", name="Show all 5 comments").click()
    expect(notes).to_have_count(5)
    assert long.bounding_box()["height"] > 2 * low
    talk.get_by_role("button", name="Show less").click()
    expect(notes).to_have_count(3)


def test_a_tag_selects_all_that_have_it(subject: Page):
    part(subject).locator(".said-tag .chip .name").nth(1).click()
    expect(subject.get_by_text("20 of 200 selected").first).to_be_visible()
    expect(part(subject).locator(".decided").nth(1)).to_contain_text("20 with the tag “ring” on Talk")
    part(subject).locator(".said-tag .chip .name").nth(0).click()
    expect(subject.get_by_text("1 of 200 selected").first).to_be_visible()
    assert subject.evaluate("window.hacked") is None


def test_a_subject_of_whom_nobody_spoke_says_so(open_survey: Callable[[str], Page], talked: str, served: str):
    page = open_survey(f"{talked}&subject={FIRST_ID + 50}")
    wait_for_frame(page)
    expect(part(page).locator("summary")).to_contain_text("nothing")
    expect(part(page)).to_contain_text("Nobody has said anything of this subject.")
    page = open_survey(f"{served}&subject={FIRST_ID + 50}")  # and a survey without Talk has no such part
    expect(page.locator(".subject h2")).to_have_text(str(FIRST_ID + 50))
    expect(part(page)).to_be_hidden()


def test_tags_are_drawn_above_the_map_with_a_legend_and_in_the_link(subject: Page, open_survey: Callable[[str], Page]):
    expect(subject.locator('optgroup[label="Tags on Talk"] option')).to_have_text(
        ["all tags", "ring (20 by 2)", "merger (5 by 1)", f"{GROUP} (1 by 1)", "supernova (1 by 1)"]
    )
    choose(subject, "Overlay", "all tags")
    legend = subject.locator(".layer .key")
    expect(legend).to_contain_text("ring · 2 taggers")
    expect(legend).to_contain_text("supernova")
    choose(subject, "Overlay", "merger (5 by 1)")
    expect(legend).not_to_contain_text("supernova")
    told = eventually(lambda: query(subject), lambda q: q.get("overlay") == "talk:merger")
    again = open_survey(subject.evaluate("() => location.href"))
    expect(again.get_by_label("Overlay", exact=True).first).to_have_value("talk:merger")
    figure = again.request.get(
        f"{urlsplit(again.url)._replace(query='', path='/figure').geturl()}?kind=map&format=svg&overlay=talk:merger"
        f"&map={told['map']}&run={told['run']}"
    )
    assert figure.status == 200 and "merger" in figure.text()


def test_a_filter_finds_a_tag(subject: Page):
    subject.keyboard.press("7")
    box = subject.get_by_role("combobox", name="Filter", exact=True)
    box.fill('talk("merger")')
    subject.get_by_role("button", name="Select these").click()
    expect(subject.locator(".table .told")).to_have_text("5 selected")
