"""``voorwerp acquire``: who is asked for, with which probability, and that it goes to Zooniverse as it is."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer import cli
from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.acquired import KIND, Acquired, Asked, acquire, n_votes
from explorer.services.explore import Explore
from explorer.services.sampling import INCLUSION
from explorer.survey import Survey
from tests.explorer.small_survey import write_survey
from tests.explorer.test_next_up import NEW, put, write_run
from tests.galaxies import write_galaxies

N = 200
Acquiring = Callable[..., Acquired]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A survey whose last rows are those that a run asks for, the last four of one sky."""
    path = write_survey(tmp_path / "survey", N, size=8)
    put(path, "duplicate_group", [3 if k >= 196 else None for k in range(N)])
    put(path, "is_withdrawn", [k == 190 for k in range(N)])
    write_run(path, NEW, np.arange(float(N)))
    return path


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with Ledger(path, "survey-1") as opened:
        yield opened


@pytest.fixture
def acquired(path: Path, ledger: Ledger) -> Iterator[Acquiring]:
    survey = Survey.open(path)

    def make(name: str = "Acquisition", replace: bool = False, **told: object) -> Acquired:
        return acquire(Explore(survey), Asked(**told), name, ledger, "ann", replace)  # type: ignore[arg-type]

    yield make
    survey.close()


def rows_of(path: Path, ledger: Ledger, name: str) -> list[int]:
    survey = Survey.open(path)
    found = survey.rows_of(ledger.selection(name, survey.subject_ids).subject_ids)
    survey.close()
    return sorted(found.tolist())


def test_the_highest_are_certain_and_the_rest_is_drawn_with_a_probability_that_is_kept(
    path: Path, ledger: Ledger, acquired: Acquiring
) -> None:
    made = acquired(n=20, random_share=0.5)
    rows, random = rows_of(path, ledger, "Acquisition"), rows_of(path, ledger, "Acquisition (random)")
    certain = sorted({*range(189, 200)} - {190})
    assert sorted(set(rows) - set(random)) == certain
    assert len(random) == 10 and not set(random) & set(certain)
    survey = Survey.open(path)
    chance = survey.column(INCLUSION)
    assert (chance[certain] == 1).all() and np.allclose(chance[random], 10 / 189)
    assert np.isfinite(chance).sum() == 20
    survey.close()
    (entry,) = ledger.entries(KIND)
    assert entry.run_id == NEW and entry.who == "ann"
    assert entry.payload["probability"] == 10 / 189 and entry.payload["n_frame"] == 199
    assert entry.payload["design"]["seed"] == 1234 and entry.payload["design"]["by"] == NEW
    assert len(entry.payload["random"]["subject_ids"]) == 10
    assert made.is_sample
    assert made.sentences() == [
        "199 subjects could be asked for",
        f"10 of highest acquisition by {NEW}",
        "10 at random of the other 189, each with probability 0.05291: only these speak for the rest",
    ]


def test_the_mean_of_the_survey_comes_of_the_weighted_set(acquired: Acquiring, path: Path, ledger: Ledger) -> None:
    """Σ y / p over the set, of y = row number, whatever is at the top: over many seeds the sum over the frame."""
    total = sum(k for k in range(N) if k != 190)
    found = []
    for seed in range(60):
        acquired(n=40, random_share=0.5, seed=seed, replace=True)
        survey = Survey.open(path)
        chance = survey.column(INCLUSION)
        rows = np.flatnonzero(np.isfinite(chance))
        found.append(float((rows / chance[rows]).sum()))
        survey.close()
    assert abs(np.mean(found) - total) < 4 * np.std(found) / np.sqrt(60)


def test_what_shows_the_same_sky_as_the_highest_comes_along(acquired: Acquiring, path: Path, ledger: Ledger) -> None:
    made = acquired(n=2, random_share=0.5)
    assert set(rows_of(path, ledger, "Acquisition")) >= {196, 197, 198, 199}
    assert made.sentences()[1].endswith("and 3 that show the same sky as one of them")


def test_who_has_votes_enough_or_is_on_zooniverse_is_left_out(
    path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, acquired: Acquiring
) -> None:
    put(path, "zooniverse_subject_id", [k if k in (195, 10) else None for k in range(N)])
    votes = np.full(N, np.nan)
    votes[180:195] = 10
    votes[100] = 9
    monkeypatch.setattr("explorer.services.acquired.n_votes", lambda survey: np.nan_to_num(votes))
    made = acquired(n=10, random_share=0.0, retire_after=10, is_new=True)
    assert rows_of(path, ledger, "Acquisition") == [*range(174, 180), 196, 197, 198, 199]
    assert (made.n_retired, made.n_sent) == (14, 2)
    told = made.sentences()
    assert told[0] == "183 subjects could be asked for; 14 have votes enough; 2 are on Zooniverse already"
    assert told[-1] == "nothing of the rest was drawn at random, so the set says nothing about the rest"
    votes[:] = 10
    with pytest.raises(UsageError, match="nobody is left to ask for"):
        acquired("Other", retire_after=10)


def test_votes_are_those_that_are_counted_here_where_the_survey_has_a_column_of_that_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = Survey.open(path)
    monkeypatch.setattr(survey, "column", {"n_votes": np.full(N, 3.0), "volunteers_n_votes": np.full(N, 7.0)}.get)
    for there, worth in (((), 0), (("volunteers_n_votes",), 7)):
        monkeypatch.setattr(survey, "columns_of_crowd", lambda there=there: there)
        assert n_votes(survey).tolist() == [worth] * N
    survey.close()


def test_a_set_is_not_replaced_unless_told_and_a_later_one_leaves_the_sample(
    path: Path, ledger: Ledger, acquired: Acquiring
) -> None:
    acquired(n=20)
    with pytest.raises(UsageError, match='a selection "Acquisition" already; --name another, or --replace it'):
        acquired(n=20)
    made = acquired("Monday", n=50, where="source_id is missing")
    assert not made.is_sample and len(rows_of(path, ledger, "Monday")) == 50
    survey = Survey.open(path)
    assert np.isfinite(survey.column(INCLUSION)).sum() == 20
    survey.close()


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"n": 0}, "a set of 0 subjects is none; ask for 1 or more"),
        ({"random_share": 1.5}, "a share of 1.5 cannot be drawn at random; give 0 to 1"),
        ({"by": "other"}, 'no finished run "other"'),
        ({"where": "no such"}, "no"),
    ],
)
def test_what_cannot_be_asked_for(acquired: Acquiring, told: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        acquired(**told)


def test_from_the_command_line_to_a_folder_for_zooniverse(tmp_path: Path, voorwerp: Callable[..., str]) -> None:
    images = tmp_path / "images"
    write_galaxies(images, 12)
    path = tmp_path / "survey"
    voorwerp("create", path, images, "--size", 32, "--crop", "center")
    assert cli.main(["acquire", str(path)]) == 2
    write_run(path, NEW, np.arange(12.0))
    told = voorwerp("acquire", path, "--n", 4, "--random", 0.25)
    assert "3 of highest acquisition by" in told and 'kept as "Acquisition" and "Acquisition (random)"' in told
    assert "it is the survey's sample now" in told
    told = voorwerp("acquire", path, "--n", 4, "--name", "Next")
    assert "the survey keeps the sample that it has" in told
    voorwerp("export", path, tmp_path / "out", "--for", "zooniverse", "--selection", "Acquisition")
    with (tmp_path / "out" / "manifest.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 4
    table = pq.read_table(path / "subjects.parquet")
    assert pa.types.is_float64(table.schema.field(INCLUSION).type)
