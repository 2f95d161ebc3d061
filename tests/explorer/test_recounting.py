"""Kind ``consensus``: a job counts as the app does; counting in another way changes nothing there."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from explorer.errors import UsageError
from explorer.kinds.consensus import KIND, ConsensusConfig
from explorer.ledger import Ledger
from explorer.services.counting import Counting
from explorer.services.jobs import JobService
from explorer.services.recounting import run, settings_of
from explorer.services.volunteers import recount
from explorer.survey import Survey
from explorer.votes import CACHES
from models.artifacts import Run, Workspace
from tests.explorer.test_volunteers import TWICE, folder, make, opened, vote, write_votes
from tests.models.networks import finish

__all__ = ["folder"]
VOTES = [*TWICE, vote(7, 2, "d", "yes", is_live=False), vote(8, 3, "a", "no")]

DECIDED = ConsensusConfig()


def counted(survey: Path, config: ConsensusConfig = DECIDED) -> tuple[Path, list[Any], dict[str, Any]]:
    """The run's folder, its progress, and its results."""
    made = survey / "runs" / "20260101-000000-consensus"
    made.mkdir(parents=True, exist_ok=True)
    work = Workspace(made, None, np.arange(1000, 1020), {}, {}, survey=survey)
    records, results = finish(run(config, work))
    return made, records, results


def test_as_it_was_decided_the_surveys_own_columns_are_made(folder: Path) -> None:
    write_votes(folder, VOTES)
    made, records, results = counted(folder)
    tables = {name: pq.read_table(folder / name) for name in CACHES}
    assert pq.read_table(made / "consensus.parquet").equals(tables["consensus.parquet"])
    about = json.loads((made / "consensus.json").read_text())
    for name in CACHES:
        (folder / name).unlink()
    assert about["said"] == recount(folder)
    assert {name: pq.read_table(folder / name) for name in CACHES} == tables
    assert results["question"] == "workflow 7 · T0 · yes" and results["is_the_surveys"]
    assert results["n_votes"] == about["n_votes"] and results["n_left_out"] == sum(about["left_out"].values()) == 1
    assert results["n_subjects"] == 3 and results["n_volunteers"] == 3 and results["basis"] == "volunteers"
    assert [(r.done, r.total) for r in records] == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (ConsensusConfig(basis="views"), {"basis": "views"}),
        (ConsensusConfig(live_only=False, weights="none"), {"live_only": False, "weights": "none"}),
        (ConsensusConfig(answer="no"), {"answer": "no"}),
        (ConsensusConfig(first_version="4.0"), {"versions": ("4.0", "")}),
    ],
)
def test_in_another_way_it_counts_beside_the_surveys_own(
    folder: Path, tmp_path: Path, config: ConsensusConfig, changes: dict[str, Any]
) -> None:
    write_votes(folder, VOTES)
    recount(folder)
    other = shutil.copytree(folder, tmp_path / "other")
    before = {name: (folder / name).read_bytes() for name in CACHES}
    made, _, results = counted(folder, config)
    assert {name: (folder / name).read_bytes() for name in CACHES} == before
    assert not results["is_the_surveys"]
    with opened(other) as volunteers:
        about = volunteers.decide(replace(Counting(), **changes), who="me")
    assert pq.read_table(made / "consensus.parquet").equals(pq.read_table(other / "consensus.parquet"))
    assert results["n_votes"] == about["n_votes"] and results["question"] == about["title"]
    with opened(folder) as volunteers:
        assert volunteers.settings == Counting() and not volunteers.is_stale()


def test_what_is_left_empty_is_as_it_was_decided() -> None:
    decided = Counting(basis="views", versions=("2.0", "9.1"), team=("abc",), since="2026-01-01")
    assert settings_of(ConsensusConfig(), decided) == decided
    changed = settings_of(ConsensusConfig(last_version="", since="", threshold=5), decided)
    assert changed == replace(decided, versions=("2.0", ""), since="", threshold=5)


def test_without_votes_it_says_so(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"nobody has voted on any subject of .*; `voorwerp ingest` takes"):
        counted(folder)
    assert not any((folder / name).exists() for name in CACHES)


def test_settings_that_count_nothing_are_refused(folder: Path) -> None:
    write_votes(folder, VOTES)
    with pytest.raises(UsageError, match="maybe"):
        counted(folder, ConsensusConfig(answer="maybe"))
    with pytest.raises(UsageError, match="nobody was asked task T9 of workflow None; there are 7 T0"):
        counted(folder, ConsensusConfig(task="T9"))
    assert KIND.check is not None
    with pytest.raises(UsageError, match='since is "soon"; write a day as 2026-11-22'):
        KIND.check({"since": "soon"}, {})


def test_a_selection_is_refused(folder: Path) -> None:
    work = Workspace(folder / "runs" / "a", None, np.arange(1000, 1005), {}, {}, survey=folder)
    with pytest.raises(UsageError, match="votes are counted of the whole survey; leave out the selection"):
        finish(run(DECIDED, work))


def test_it_runs_as_a_job(tmp_path: Path) -> None:
    make(tmp_path / "survey", range(1000, 1020))
    write_votes(tmp_path / "survey", VOTES)
    survey = Survey.open(tmp_path / "survey")
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        service = JobService(survey, ledger)
        run_id = service.start("consensus", {"basis": "views"}, (), "me")
        *_, last = service.follow(run_id)
        service.stop()
    assert (last.state, last.error) == ("done", None)
    made = Run.read(survey.run_folder(run_id) / "run.json")
    assert made.results["basis"] == "views" and made.results["n_votes"] == last.results["n_votes"]
    survey.close()
