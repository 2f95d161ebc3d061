"""The demo: each step once, whole or not at all, and gone on with after an interruption."""

import hashlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from explorer import cli
from explorer.errors import SurveyError
from explorer.ledger import Ledger
from explorer.services import demo
from explorer.services.jobs import JobService, holder
from explorer.survey import Survey, check
from models.artifacts import Run, sha256_file
from tests.explorer.small_survey import write_survey

ROOT = Path(__file__).parents[2]


@pytest.fixture
def survey(tmp_path: Path) -> Iterator[Survey]:
    opened = Survey.open(write_survey(tmp_path / "survey"))
    yield opened
    opened.close()


@pytest.fixture
def jobs(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobService]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        service = JobService(survey, ledger, [f"tests.explorer.odd_jobs:{name}" for name in ("COUNT", "RECOUNT")])
        yield service
        service.stop()


@pytest.fixture
def assets(tmp_path: Path, survey: Survey, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A training run that fits `survey`, in the place of ours."""
    folder = tmp_path / "assets" / "demo"
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").write_bytes(b"weights")
    run = Run("20260101-000000-train", "train", "0.1.0", {}, state="done", preprocessing=survey.preprocessing)
    run.checkpoint_sha256 = hashlib.sha256(b"weights").hexdigest()
    run.write(folder / "run.json")
    monkeypatch.setattr(demo, "ASSETS", folder.parent)
    return folder


def test_the_checkpoint_becomes_a_finished_run_once(survey: Survey, assets: Path) -> None:
    run_id = demo.place_checkpoint(survey)
    assert [run.run_id for run in survey.runs("train")] == [run_id]
    assert (survey.run_folder(run_id) / "checkpoint.safetensors").read_bytes() == b"weights"
    before = survey.run_folder(run_id).stat()
    assert demo.place_checkpoint(survey) == run_id
    assert survey.run_folder(run_id).stat() == before
    assert [path.name for path in (survey.path / "runs").iterdir()] == [run_id]


def test_a_checkpoint_half_copied_is_no_run_and_is_copied_anew(survey: Survey, assets: Path) -> None:
    folder = survey.run_folder("20260101-000000-train")
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").write_bytes(b"wei")
    assert survey.runs("train") == []
    demo.place_checkpoint(survey)
    assert (folder / "checkpoint.safetensors").read_bytes() == b"weights"
    assert Run.read(folder / "run.json") == Run.read(assets / "run.json")


def test_another_checkpoint_than_described_is_refused(survey: Survey, assets: Path) -> None:
    (assets / "checkpoint.safetensors").write_bytes(b"others")
    with pytest.raises(SurveyError, match=r"is not the file that its run\.json describes \(sha256 differs\)"):
        demo.place_checkpoint(survey)
    assert survey.runs("train") == []
    (assets / "run.json").unlink()
    with pytest.raises(SurveyError, match=r"the demo's checkpoint is not in .*; `make assets` trains it"):
        demo.place_checkpoint(survey)


def test_another_survey_is_not_taken_for_the_demo(
    survey: Survey, assets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SurveyError, match='is the survey "Five", not the demo; give the demo another folder'):
        demo.create(survey.path)
    monkeypatch.setattr(demo, "NAME", "Five")
    assert demo.create(survey.path) is None
    run = Run.read(assets / "run.json")
    run.preprocessing["size"] = 96
    run.write(assets / "run.json")
    with pytest.raises(SurveyError, match="was made for an older checkpoint"):
        demo.create(survey.path)
    assert demo.create(tmp_path / "new") is not None


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def test_a_step_is_done_once_and_gone_on_with(jobs: JobService) -> None:
    run_id, is_done = demo.start_unless_done(jobs, "count", {}, "ada")
    assert not is_done
    assert demo.start_unless_done(jobs, "count", {}, "ada") == (run_id, False)  # at work: not a second one
    jobs.wait(run_id)
    assert demo.start_unless_done(jobs, "count", {}, "ada") == (run_id, True)

    first = jobs.start("recount", {"pause": 30}, {"count": run_id}, "ada")
    wait_until(lambda: jobs.job(first).done >= 1)
    held = holder(jobs.survey.map_folder(first))
    assert held is not None
    os.kill(held["pid"], signal.SIGKILL)
    wait_until(lambda: jobs.job(first).is_over)
    assert demo.start_unless_done(jobs, "recount", {"count": run_id}, "ada") == (first, False)
    jobs.stop()

    newer = jobs.start("count", {}, None, "ada")
    jobs.wait(newer)
    other, is_done = demo.start_unless_done(jobs, "recount", {"count": newer}, "ada")
    assert other != first
    assert not is_done


def test_the_ten_highest_pass_the_gates_and_show_each_galaxy_once() -> None:
    n = 40
    feature = np.random.default_rng(0).permutation(n).astype(np.float32)
    by_score = np.argsort(-feature)  # the first five have one flaw each
    columns = {name: np.zeros(n) for name in ("edge_fraction", "saturated_fraction", "nan_fraction")}
    columns["duplicate_group"] = np.array([str(i) for i in range(n)], object)
    quality = np.full(n, "ok", object)
    columns["edge_fraction"][by_score[0]] = 0.01
    columns["saturated_fraction"][by_score[1]] = 0.02
    columns["nan_fraction"][by_score[2]] = 0.001
    quality[by_score[3]] = "constant image"
    feature[by_score[4]] = np.nan
    columns["duplicate_group"][by_score[6]] = columns["duplicate_group"][by_score[5]]
    columns["saturated_fraction"][by_score[7]] = 0.01  # at the limit is within it
    survey = SimpleNamespace(
        scores=lambda run_id: {"feature_score": feature, "quality": quality}, column=columns.__getitem__
    )
    expected = [by_score[5], *by_score[7:16]]
    assert demo.highest(survey, "run").tolist() == expected  # type: ignore[arg-type]


def test_the_image_ships_with_scikit_image() -> None:
    assert demo.image().stat().st_size > 100_000


def test_the_demo_from_image_to_named_selection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[tuple[Path, dict[str, object]]] = []
    app = ModuleType("explorer.app")  # the browser's part has its own tests
    app.serve = lambda path, **options: served.append((path, options))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "explorer.app", app)
    folder = tmp_path / "demo-survey"
    assert cli.main(["demo", str(folder), "--no-browser"]) == 0
    assert "credit: NASA/STScI" in capsys.readouterr().out
    assert check(folder) == []

    survey = Survey.open(folder)
    assert survey.n >= 400
    assert survey.info.name == demo.NAME
    (train,), (score,), (laid_out,) = survey.runs("train"), survey.runs("score"), survey.maps()
    assert train.checkpoint_sha256 == sha256_file(demo.asset() / "checkpoint.safetensors")
    assert (score.inputs["train"], laid_out.inputs["score"]) == (train.run_id, score.run_id)
    with Ledger(folder, survey.info.survey_id) as ledger:
        ten = ledger.selection(demo.SELECTION, survey.subject_ids)
        assert sorted(survey.rows_of(ten.subject_ids)) == sorted(demo.highest(survey, score.run_id))
        assert len(ten.subject_ids) == 10
        n_entries = len(ledger.entries())
    survey.close()

    assert cli.main(["demo", str(folder), "--no-browser"]) == 0  # everything is there already
    with Ledger(folder, survey.info.survey_id) as ledger:
        assert len(ledger.entries()) == n_entries
    assert served == [(folder, {"port": 5006, "open_browser": False, "selection": demo.SELECTION})] * 2
