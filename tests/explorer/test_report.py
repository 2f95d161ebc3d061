"""`explorer.ingest.report`: the quarantine as a page that shows everything and runs nothing."""

import html.parser
import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from explorer.ingest.build import QUARANTINE_SCHEMA
from explorer.ingest.images import CreateOptions, create
from explorer.ingest.report import SHOWN, text, write_report
from tests.galaxies import write_galaxies


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def report(folder: Path, *rows: tuple[str, str, str, bytes | None], name: str = "a survey") -> str:
    table = pa.table([list(column) for column in zip(*rows, strict=True)], schema=QUARANTINE_SCHEMA)
    pq.write_table(table, folder / "quarantine.parquet")
    path = write_report(folder, name, 90)
    assert path == folder / "quarantine.html"
    return path.read_text()


class Page(html.parser.HTMLParser):
    """The tags of a page, and what a reader sees."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.seen: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] != "style" and data.strip():
            self.seen.append(data.strip())


def test_reasons_are_counted_and_the_commonest_comes_first(tmp_path: Path) -> None:
    rows = [("e.png", "e", "the file is empty", None)]
    rows += [(f"{i}.png", str(i), "is no image", None) for i in range(9)]
    page = Page(report(tmp_path, *rows))
    assert "10 of 100 images could not be used" in page.seen
    assert [seen for seen in page.seen if seen in ("is no image", "the file is empty")] == [
        *("is no image", "the file is empty"),
        *("is no image", "the file is empty"),
    ]
    assert "9 of 10" in page.seen
    assert "1 of 10" in page.seen


def test_reasons_that_differ_in_numbers_and_names_are_one(tmp_path: Path) -> None:
    rows = [(f"{i}.png", str(i), f"integer values from -{i} to 70{i:03d}; 'band {i}' is odd", None) for i in range(3)]
    page = Page(report(tmp_path, *rows))
    assert page.seen.count("integer values from … to …; … is odd") == 2
    assert "3 of 3" in page.seen
    assert any("-2 to 70002; 'band 2' is odd" in seen for seen in page.seen)


def test_pictures_that_exist_are_shown_inline_and_at_most_so_many(tmp_path: Path) -> None:
    rows = [(f"{i}.png", str(i), "is no image", jpeg() if i % 2 else None) for i in range(2 * SHOWN + 50)]
    content = report(tmp_path, *rows)
    images = [attributes["src"] or "" for tag, attributes in Page(content).tags if tag == "img"]
    assert len(images) == SHOWN
    assert all(source.startswith("data:image/jpeg;base64,/9j/") for source in images)
    assert f"and {SHOWN + 50:,} more: quarantine.parquet has them all" in content


def test_names_are_text_whatever_they_are(tmp_path: Path) -> None:
    odd = "<script>alert(1)</script>\"'&\nnew line\u202e\x00\ud800.png".encode("utf-8", "replace").decode()
    content = report(tmp_path, (odd, "<b>id</b>", "<img src=x onerror=alert(1)>", None), name="<i>survey</i>")
    page = Page(content)
    tags = {tag for tag, _ in page.tags}
    assert not tags & {"script", "b", "i", "img", "iframe", "object", "form"}
    assert any("<script>alert(1)</script>" in seen and r"\nnew line\u202e\x00" in seen for seen in page.seen)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    policy = dict(page.tags[3][1])
    assert policy["content"] == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert "http://" not in content
    assert "https://" not in content


@pytest.mark.parametrize("name", ["a" * 10_000 + ".png", "é" * 10_000])
def test_long_names_are_cut_in_the_middle(tmp_path: Path, name: str) -> None:
    assert len(text(name)) <= 121
    assert text(name).endswith(name[-4:])
    assert "…" in text(name)
    assert len(report(tmp_path, (name, name, "is no image", None))) < 10_000


def test_any_number_of_reasons_stays_legible(tmp_path: Path) -> None:
    rows = [(f"{i}", f"{i}", "reason " + "x" * i, None) for i in range(150)]
    page = Page(report(tmp_path, *rows))
    assert page.seen.count("other reasons") == 2
    assert "50 of 150" in page.seen


def test_create_writes_it_where_something_was_refused(tmp_path: Path) -> None:
    write_galaxies(tmp_path / "images", 2)
    for _ in create(tmp_path / "sound", [tmp_path / "images"], CreateOptions(32, workers=1)):
        pass
    assert not (tmp_path / "sound" / "quarantine.html").exists()
    Image.new("RGB", (48, 48)).save(tmp_path / "images" / "black.png")
    for _ in create(tmp_path / "s", [tmp_path / "images"], CreateOptions(32, workers=1)):
        pass
    content = (tmp_path / "s" / "quarantine.html").read_text()
    assert "1 of 3 images could not be used" in content
    assert "data:image/jpeg;base64," in content  # it could be decoded, so it is shown
