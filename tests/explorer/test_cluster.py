"""Workers on Dask: several on this machine, and a team's cluster on loopback."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from explorer.ledger import Ledger
from explorer.services.jobs import JobService, holder
from explorer.survey import Survey
from tests.explorer.small_survey import write_survey

ROOT = Path(__file__).parents[2]
KINDS = tuple(f"tests.explorer.odd_jobs:{name}" for name in ("COUNT", "SHARE"))


@pytest.fixture
def survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Survey]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the workers to find the kinds above
    survey = Survey.open(write_survey(tmp_path / "survey"))
    yield survey
    survey.close()


@pytest.fixture
def service(survey: Survey) -> Iterator[JobService]:
    """Jobs whose parts two workers of this machine share."""
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        service = JobService(survey, ledger, KINDS, workers=2)
        yield service
        service.stop()


def sums(survey: Survey, n: int) -> list[int]:
    return [int(survey.images[i % 5].astype(int).sum()) for i in range(n)]


def begun(folder: Path) -> list[list[int]]:
    """Number and process of every part, each time that it was begun."""
    path = folder / "begun"
    return [[int(word) for word in line.split()] for line in path.read_text().splitlines()] if path.exists() else []


def family(folder: Path) -> list[psutil.Process]:
    """The process that does a run and all that it started."""
    held = holder(folder)
    assert held is not None
    process = psutil.Process(held["pid"])
    return [process, *process.children(recursive=True)]


def test_parts_are_shared_by_the_workers_of_this_machine(service: JobService) -> None:
    run_id = service.start("share", {"steps": 8, "pause": 0.3}, None, "ada")
    job = service.wait(run_id)
    assert (job.state, job.done, job.error) == ("done", 8, None)
    assert job.results["sums"] == sums(service.survey, 8)
    assert (len(job.results["pids"]), job.results["n_workers"], job.results["threads"]) == (2, 2, [1])
    assert (job.started_by, job.resources) == ("ada", {"workers": 2})
    assert job.memory is not None and job.memory > 10
