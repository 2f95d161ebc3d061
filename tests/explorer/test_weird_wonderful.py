"""The study's own table, comments and tags, from the command to the figures of the paper; of `../shared/data`."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from explorer.ledger import Ledger
from explorer.services.volunteers import Volunteers
from explorer.survey import Survey, check
from models.tagging import auc, median


@pytest.fixture(scope="module")
def ingested(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory, voorwerp: Callable[..., str]
) -> tuple[Path, str]:
    """A survey of the three files, and what the command said."""
    survey = tmp_path_factory.mktemp("ww") / "survey"
    folder = shared_data / "weird_wonderful"
    files = [*folder.glob("*.dat"), *sorted(folder.glob("*.json"))]
    assert len(files) == 3
    return survey, voorwerp("ingest", survey, *files)


@pytest.fixture(scope="module")
def volunteers(ingested: tuple[Path, str]) -> Iterator[Volunteers]:
    with closing(Survey.open(ingested[0])) as survey, Ledger(survey.path, survey.info.survey_id) as ledger:
        yield Volunteers(survey, ledger)


def test_all_of_it_is_taken_or_set_aside(ingested: tuple[Path, str]) -> None:
    survey, said = ingested
    assert "207,589 of 207,589 rows taken" in said
    assert "4,544 of 4,915 rows taken, 371 set aside" in said
    assert "3,099 of 3,193 rows taken, 94 set aside" in said
    assert "4,055,680 classifications of 207,589 subjects, fractions by views" in said
    assert check(survey) == []


def test_the_same_files_again_change_nothing(
    ingested: tuple[Path, str], shared_data: Path, voorwerp: Callable[..., str]
) -> None:
    survey, _ = ingested
    before = {p.name: p.read_bytes() for p in survey.glob("*.parquet")}
    said = voorwerp("ingest", survey, *(shared_data / "weird_wonderful").glob("*.json"))
    assert "3,099 of 3,193 rows taken" not in said
    assert {p.name: p.read_bytes() for p in survey.glob("*.parquet")} == before


def test_every_subject_has_its_counts(volunteers: Volunteers) -> None:
    """Figures of specs §2, measured on the same table."""
    survey = volunteers.survey
    assert survey.n == 207_589 and not survey.has_images
    fraction = survey.column("chosen_fraction")
    n_views, n_chosen = survey.column("n_votes"), survey.column("n_chosen")
    assert (n_views.sum(), n_chosen.sum()) == (4_055_680, 387_518)
    assert (fraction == 0).mean() == pytest.approx(0.415, abs=0.0005)
    found = np.quantile(fraction, (0.5, 0.75, 0.9, 0.95, 0.99, 0.999))
    assert found == pytest.approx([0.05, 0.125, 0.267, 0.387, 0.6, 0.818], abs=0.0006)
    assert np.isclose(fraction, n_chosen / n_views).all()
    assert ((survey.column("chosen_low") <= fraction) & (fraction <= survey.column("chosen_high"))).all()
    assert volunteers.votes() is None and "weighted_chosen_fraction" not in survey.columns_of_crowd()


@pytest.mark.parametrize(
    ("group", "n", "expected"),
    [("merger", 460, 0.544), ("gravitational_lensing", 327, 0.286), ("rings", 163, 0.484), ("arc", 82, 0.308)],
)
def test_medians_of_the_studys_groups(volunteers: Volunteers, group: str, n: int, expected: float) -> None:
    found = median(volunteers.survey.column("chosen_fraction"), *volunteers.talk.taggings(group, is_study=True))
    assert found.n_subjects == n
    assert found.value == pytest.approx(expected, abs=0.0006)
    assert found.low < found.value < found.high


@pytest.mark.parametrize(
    ("group", "expected"), [("merger", 0.96), ("rings", 0.94), ("gravitational_lensing", 0.87), ("asteroid", 0.78)]
)
def test_aucs_of_the_studys_groups(volunteers: Volunteers, group: str, expected: float) -> None:
    found = auc(volunteers.survey.column("chosen_fraction"), *volunteers.talk.taggings(group, is_study=True))
    assert found.value == pytest.approx(expected, abs=0.01)


def test_the_command_says_it_all(ingested: tuple[Path, str], voorwerp: Callable[..., str]) -> None:
    said = voorwerp("consensus", ingested[0], "--by-tag", "study")
    assert "3,043 subjects are discussed on Talk and 1,926 tagged, of 207,589" in said
    assert re.search(r"merger +│ +460 │ +45 │ +95 │ 0\.544 \[0\.\d\d, 0\.\d\d\] │ +0\.961", said)
