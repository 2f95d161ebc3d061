"""The report: everything in one page, nothing from elsewhere, what people wrote is text, numbers are the Judge's."""

import asyncio
import base64
import csv
import io
import json
import re
import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from explorer.cli import cli
from explorer.commands.boundary import _rate as told_in_terminal
from explorer.errors import UsageError
from explorer.services.boundaries import Context
from explorer.services.figure_six import NOT_COMPARABLE
from explorer.services.report import (
    ABOUT,
    PAGE,
    Opened,
    Options,
    _rates,
    is_report,
    opened,
    page_of,
    report,
    write_report,
)
from explorer.services.report_figures import Table, _time_of
from explorer.state import Draft
from explorer.votes import TALK_TAGS
from models.artifacts import sha256_file, write_table
from models.boundary import And, Gate, Region
from models.truth import Truth
from tests.explorer import judged
from tests.explorer.small_survey import write_survey

HOSTILE = "<script>alert(1)</script> & \"quoted\" 'x'"
FORMULA = "=cmd|'_/c_calc'!a0"
NUMBERS = ("2", "3", "4", "5a", "5b", "5c", "5d", "6", "S5", "S11")


class Page(HTMLParser):
    """What a browser would find: tags, all their attributes, the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


def write(desk: Opened, draft: Draft | None, context: Context, out: Path) -> Path:
    making = report(desk, draft, context, out, Options(("png",), quick=True))
    told = []
    while True:
        try:
            told.append(next(making))
        except StopIteration as done:
            assert [p.done for p in told] == sorted(p.done for p in told)
            assert told[-1].done == told[-1].total
            return Path(done.value)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    folder = judged.write_judged(tmp_path_factory.mktemp("report") / "survey")
    tags = pq.read_table(folder / TALK_TAGS)
    names = [{"merger": HOSTILE, "arc": FORMULA}.get(name, name) for name in tags.column("tag").to_pylist()]
    for column in ("tag", "tag_group"):
        at = tags.schema.get_field_index(column)
        tags = tags.set_column(at, tags.schema.field(column), pa.array(names, tags.schema.field(column).type))
    write_table(folder / TALK_TAGS, tags)
    with judged.opened(folder):
        pass  # counts the votes
    with opened(folder) as found:
        yield found


@pytest.fixture(scope="module")
def context(desk: Opened) -> Context:
    return Context(next(iter(desk.explore.runs())), next(iter(desk.explore.maps())))


@pytest.fixture(scope="module")
def made(desk: Opened, context: Context, tmp_path_factory: pytest.TempPathFactory) -> Path:
    box = Region("maps.umap_1", "maps.umap_2", ((-100.0, -100.0), (100.0, 100.0)), "box")
    keep = And((Gate("scores.feature_score", low=0.5), box))
    truth = Truth("column", "subjects.weighted_chosen_fraction", at_least=0.3)
    saved = desk.boundaries.save(HOSTILE, Draft(keep, truth), context, "me", note=HOSTILE)
    return write(desk, saved.draft, context, tmp_path_factory.mktemp("out") / "made")


def test_one_page_without_script_or_anything_from_elsewhere(made: Path) -> None:
    page = Page(made.read_text(encoding="utf-8"))
    assert not page.open, "every tag is closed"
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object", "base", "form", "b-script"})
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), (tag, name)
    style = made.read_text(encoding="utf-8").partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style and "@import" not in style
    images = [a["src"] or "" for tag, a in page.tags if tag == "img"]
    for source in images:
        Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).verify()
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"] for tag, a in page.tags if tag == "a"} <= {f"#{name}" for name in ids}


def test_every_figure_is_there_or_it_says_why_not(made: Path) -> None:
    page = Page(made.read_text(encoding="utf-8"))
    missing = json.loads((made.parent / ABOUT).read_bytes())["missing"]
    for number in NUMBERS:
        assert re.search(rf"Figure {number}\. ", page.text)
        [name] = [a["id"] for tag, a in page.tags if tag in ("figure", "div") and a.get("id") == f"figure_{number}"]
        is_missing = any(text.startswith(f"{number} ") for text in missing)
        assert (made.parent / "figures" / f"{name}.png").exists() != is_missing
        assert bool(list((made.parent / "data").glob(f"{name}*.csv"))) != is_missing
    assert not [m for m in missing if not m.startswith("2 ")], "only pictures are lacking here"
    assert page.text.count("Not drawn: ") == len(missing)
    assert NOT_COMPARABLE[1:] in page.text.partition("Figure 6.")[2]


def test_what_people_wrote_is_text(made: Path) -> None:
    page = Page(made.read_text(encoding="utf-8"))
    assert page.text.count(HOSTILE) >= 3
    assert "<script" not in made.read_text(encoding="utf-8").lower()
    cells = [cell for row in rows_of(made.parent / "data" / "boundary_lost.csv") for cell in row.values()]
    assert f"'{FORMULA}" in cells and FORMULA not in cells
    assert Table(("a",), [("-1",), (-1.5,), (float("nan"),), (None,)]).to_csv() == b'a\n\'-1\n-1.5\n""\n""\n'


def test_numbers_are_the_judges(desk: Opened, context: Context, made: Path) -> None:
    saved = desk.boundaries.get(HOSTILE)
    numbers = desk.judge.numbers(saved.draft, context)
    told = {row["rate"]: row for row in rows_of(made.parent / "data" / "boundary_rates.csv") if row["by"] == "rates"}
    assert set(told) == set(numbers["rates"])
    for name, rate in numbers["rates"].items():
        for key in ("k", "n", "value", "low", "high"):
            assert float(told[name][key]) == rate[key]
    curve = desk.judge.curves(saved.draft, context)["limit"]
    rows = rows_of(made.parent / "data" / "figure_5c.csv")
    assert [float(r["limit"]) for r in rows] == curve["x"]
    for column, key in (("precision", "precision"), ("recall_above", "recall"), ("recall_all", "recall_all")):
        assert [float(r[column]) if r[column] else None for r in rows] == curve[key]
    budget = desk.judge.budget(saved.draft, context)
    mine = [r for r in rows_of(made.parent / "data" / "budget.csv") if r["order"] == "random order"]
    assert [float(r["found"]) for r in mine] == budget["curves"][-1]["found"]
    lost = {(o["name"], str(o["k"]), str(o["n"])) for o in desk.judge.lost(saved.draft, context)}
    rows = rows_of(made.parent / "data" / "boundary_lost.csv")
    assert {(r["group"].removeprefix("'"), r["kept"], r["n"]) for r in rows} == lost
    text = Page(made.read_text(encoding="utf-8")).text
    precision = numbers["rates"]["precision"]
    assert f"{precision['k']:,} of {precision['n']:,}" in text
    assert ("Circular:" in text) == bool(numbers["circular"])


def test_provenance_and_the_way_back(desk: Opened, context: Context, made: Path) -> None:
    about = json.loads((made.parent / ABOUT).read_bytes())
    survey = desk.explore.survey
    for name, digest in about["survey"]["sha256"].items():
        assert sha256_file(survey.path / name) == digest
    assert {"subjects.parquet", "crowd.parquet"} <= set(about["survey"]["sha256"])
    assert {r["run_id"] for r in about["runs"]} == {context.run_id, context.map_id}
    assert about["boundary"]["entry_id"] == desk.boundaries.get(HOSTILE).entry_id
    text = Page(made.read_text(encoding="utf-8")).text
    for digest in about["survey"]["sha256"].values():
        assert digest in text
    words = shlex.split(about["command"])
    assert words[:3] == ["voorwerp", "report", str(survey.path)]
    assert words[words.index("--boundary") + 1] == HOSTILE
    assert about["command"] in text


def test_test_numbers_of_frozen_versions_alone_and_each_showing_counts(
    desk: Opened, context: Context, made: Path, tmp_path: Path
) -> None:
    assert {r["by"] for r in rows_of(made.parent / "data" / "boundary_rates.csv")} >= {"rates"}
    assert "test" not in {r["by"] for r in rows_of(made.parent / "data" / "boundary_rates.csv")}
    truth = Truth("category", "subjects.kind", labels=("ring",))
    saved = desk.boundaries.save("frozen", Draft(Gate("scores.feature_score", low=0.7), truth), context, "me")
    assert desk.boundaries.revealed(truth) == 0
    desk.boundaries.freeze("frozen", saved.version, "me")
    page = write(desk, desk.boundaries.get("frozen").draft, context, tmp_path / "out")
    rows = [r for r in rows_of(page.parent / "data" / "boundary_rates.csv") if r["by"] == "test"]
    test = desk.judge.numbers(saved.draft, context)["test"]
    assert {r["rate"]: float(r["k"]) for r in rows} == {n: r["k"] for n, r in test["rates"].items()}
    assert desk.boundaries.revealed(truth) == 1
    assert json.loads((page.parent / ABOUT).read_bytes())["test_half_revealed"] == 1


def test_a_survey_with_nothing_says_what_is_missing_and_how_to_get_it(tmp_path: Path) -> None:
    folder = write_survey(tmp_path / "bare")
    with opened(folder) as desk:
        page = write(desk, None, Context(), tmp_path / "out")
    text = Page(page.read_text(encoding="utf-8")).text
    assert "There is none yet: draw one in the app" in text
    for command in ("voorwerp run bare score", "voorwerp run bare map", "voorwerp ingest bare FILE"):
        assert command in text
    assert len(json.loads((page.parent / ABOUT).read_bytes())["missing"]) == len(NUMBERS) + 1


def test_only_a_report_is_replaced_and_a_failure_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_survey(tmp_path / "bare")
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("mine")
    with opened(folder) as desk:
        with pytest.raises(UsageError, match="no report of ours"):
            write(desk, None, Context(), other)
        assert (other / "thesis.tex").read_text() == "mine"
        with pytest.raises(UsageError, match="there is no folder"):
            write(desk, None, Context(), tmp_path / "nowhere" / "out")
        first = write(desk, None, Context(), tmp_path / "out").read_bytes()
        making = report(desk, None, Context(), tmp_path / "out")
        next(making)
        making.close()
        assert (tmp_path / "out" / PAGE).read_bytes() == first
        write(desk, None, Context(), tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bare", "other", "out"], "nothing temporary stays"


def test_the_button_writes_into_the_survey_and_the_page_is_found(desk: Opened, tmp_path: Path) -> None:
    folder = write_survey(tmp_path / "bare")
    with opened(folder) as bare:
        said = asyncio.run(write_report(bare, Draft(), Context()))
        [name] = re.findall(r"/report/([\w.-]+)", said)
        survey = bare.explore.survey
        assert is_report(survey.path / "reports" / name)
        assert page_of(survey, name) == (survey.path / "reports" / name / PAGE).read_bytes()
        for bad in ("..", "../bare", ".hidden", "nothing", "", f"{name}/../{name}"):
            with pytest.raises(UsageError, match="no such report"):
                page_of(survey, bad)


def test_the_command(tmp_path: Path) -> None:
    folder, out = write_survey(tmp_path / "bare"), tmp_path / "out"
    done = CliRunner().invoke(cli, ["report", str(folder), "--out", str(out), "--figures", "png,svg", "--quick"])
    assert done.exit_code == 0, done.output
    assert f"{out / PAGE} written" in done.output and "name a saved boundary" in done.output
    told = json.loads((out / ABOUT).read_bytes())["command"]
    assert told.endswith(f"--out {out} --figures png,svg --quick")
    for wrong in (["--version", "2"], ["--boundary", "none"], ["--figures", "gif"]):
        assert isinstance(CliRunner().invoke(cli, ["report", str(folder), *wrong]).exception, UsageError)


def test_what_is_no_k_of_n_is_not_told_as_one_and_hours_have_two_digits() -> None:
    rate = {"k": 27, "n": 36, "value": 0.75, "low": 0.5, "high": 0.875, "note": ""}
    assert "27 of 36" in _rates([("here", {"recall": rate})])
    assert "27 of 36" not in _rates([("here", {"lift": rate | {"value": 4.5}})])
    assert "27 of 36" not in told_in_terminal(rate, "lift") and "27 of 36" in told_in_terminal(rate, "recall")
    assert told_in_terminal(rate, "kept").startswith("75.0 % [50.0, 87.5]")
    told = [_time_of(h) for h in (0.0, 0.001, 0.7194, 4.519, 1234.0)]
    assert told == [
        "0 min",
        "1 min",
        "43 min",
        "4.5 h",
        "1,200 h",
    ]
