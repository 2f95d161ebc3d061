"""What the page of runs asks: forms from kinds, starting, going on with series, deleting by name, where runs stand."""

import contextlib
import json
import signal
import struct
import threading
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from explorer.errors import JobError, UsageError
from explorer.kinds import kinds
from explorer.ledger import Ledger
from explorer.services.jobs import JobService
from explorer.services.runs import Runs, SettingError, stands_at
from explorer.services.series import planned, runs_of
from explorer.services.underway import Underway
from explorer.survey import Survey
from explorer.worker import run_job
from models.artifacts import RESUME, Run
from tests.explorer.small_survey import write_survey

KINDS = ("tests.explorer.pretended:TRAIN", "tests.explorer.pretended:SCORE")


class Here(JobService):
    """Does a job in this process, before `start` returns, on whatever thread asks."""

    def _spawn(self, run: Run, folder: Path, lock: int) -> None:
        run_job(self.survey.path, run.run_id, lock, self._outside.get(run.kind))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # only the main thread may
    survey = Survey.open(write_survey(tmp_path / "survey", n=40, size=4))
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        yield Runs(Here(survey, ledger, KINDS))
    survey.close()


def carried_on(runs: Runs) -> None:
    """Wait for every series that is at work."""
    for thread in threading.enumerate():
        if thread.name == "series":
            thread.join(30)
            assert not thread.is_alive()
    runs.jobs.recent(0)


def start(runs: Runs, told: object, who: str = "me") -> str:
    """The id of what was started."""
    (name,) = runs.decide("start", told, who).values()
    return name


def asked(kind: str = "train", **values: object) -> dict[str, object]:
    return {"kind": kind, "config": {}, "parents": [], **values}


# ------------------------------------------------------------------------------------------------------------ forms
def test_a_form_has_every_setting_of_every_kind(runs: Runs) -> None:
    told = runs.kinds()
    forms = {form["name"]: form for form in told["kinds"]}
    assert list(forms)[:2] == ["train", "score"]
    groups = [form["group"] for form in forms.values()]
    assert groups == sorted(groups, key=[name for name, _ in told["groups"]].index)
    assert (forms["map"]["group"], forms["consensus"]["group"]) == ("map", "other")
    assert set(forms) == set(kinds())
    for name, kind in kinds().items():
        assert [field["name"] for field in forms[name]["fields"]] == [field.name for field in fields(kind.config)]
        assert forms[name]["about"].endswith(".")
    epochs, weight = (
        next(f for f in forms["train"]["fields"] if f["name"] == name) for name in ("epochs", "feature_weight")
    )
    assert (epochs["type"], epochs["is_optional"], epochs["default"], epochs["low"]) == ("int", True, None, 1)
    assert epochs["presets"]["paper"] == 500
    assert (weight["type"], weight["low"], weight["high"], weight["default"]) == ("float", 0, 1, 0.2)
    json.dumps(forms, allow_nan=False)


def test_what_presets_come_to_is_what_they_come_to() -> None:
    from models.scorer import PRESETS as SCORES
    from models.train import PRESETS as TRAININGS

    n_told = 0
    for name, presets in (("train", TRAININGS), ("score", SCORES)):
        for field in fields(kinds()[name].config):
            for preset, value in field.metadata.get("presets", {}).items():
                if not isinstance(value, str):
                    assert getattr(presets[preset], field.name) == value, (name, field.name, preset)
                    n_told += 1
    assert n_told == 18
    fast = TRAININGS["fast"]
    told = {field.name: field.metadata.get("presets", {}).get("fast") for field in fields(kinds()["train"].config)}
    assert told["epochs"] == f"{fast.generator_steps:,} steps"
    assert told["encoder_epochs"] == f"{fast.encoder_steps:,} steps"


def test_what_a_run_may_build_on_follows_its_settings(runs: Runs) -> None:
    trained = [start(runs, asked()) for _ in range(2)]
    (found,) = runs.builds_on("score", {})
    assert (found["kind"], found["how"]) == ("train", "needs")
    assert [run["run_id"] for run in found["runs"]] == sorted(trained, reverse=True)
    assert runs.builds_on("score", {"method": "pca"}) == []
    start(runs, asked("score"))
    (found,) = runs.builds_on("score", {"method": "pca", "on": "latents"})
    assert (found["kind"], found["runs"]) == ("score", [])  # it has no latent vectors
    with pytest.raises(UsageError, match='did you mean "score"'):
        runs.builds_on("scores", {})


# ------------------------------------------------------------------------------------------------------------ start
@pytest.mark.parametrize(
    ("config", "field", "sentence"),
    [
        ({"epochs": 0}, "epochs", "epochs is 0; it must be between 1 and 100,000"),
        ({"epochs": 1.5}, "epochs", "must be a whole number"),
        ({"preset": "fats"}, "preset", 'did you mean "fast"'),
        ({"epoch": 3}, "", 'did you mean "epochs"'),
    ],
)
def test_a_setting_that_is_refused_is_named_and_nothing_is_left(
    runs: Runs, config: dict[str, object], field: str, sentence: str
) -> None:
    with pytest.raises(SettingError, match=sentence) as caught:
        start(runs, asked(config=config))
    assert caught.value.field == field
    assert not list(runs.survey.path.glob("runs/*"))
    assert not runs.jobs.ledger.entries()


@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({}, "not told as kind, config and parents"),
        (asked(parents=[1]), "not told as kind, config and parents"),
        (asked(n_seeds="2"), "seeds must be a whole number"),
        (asked("map", n_seeds=2), "only trainings are run with several"),
        (asked(feature_weights=[0.2, 1.2]), "feature_weight is 1.2; it must be between 0 and 1"),
        (asked(feature_weights=["0.2"]), "λ is not a list of numbers"),
        (asked("score"), "builds on a finished train run"),
        (asked(selection="none such"), 'there is no selection or boundary "none such"'),
    ],
)
def test_nonsense_is_a_sentence_and_leaves_nothing(runs: Runs, told: dict[str, object], sentence: str) -> None:
    with pytest.raises((UsageError, JobError), match=sentence):
        start(runs, told)
    assert not list(runs.survey.path.glob("runs/*"))


def test_a_run_of_a_kept_selection_says_so_and_by_whom(runs: Runs) -> None:
    runs.jobs.ledger.save_selection("odd ones", list(range(9)), runs.survey.subject_ids, who="me")
    run_id = start(runs, asked(selection="odd ones"), "ann")
    (line,) = runs.listed()
    assert (line["run_id"], line["selection"], line["started_by"], line["state"]) == (run_id, "odd ones", "ann", "done")
    assert runs.kinds()["selections"] == [["odd ones", 9]]
    same, whole = start(runs, asked("score")), start(runs, asked("score", everything=True))
    selections = {line["run_id"]: line["selection"] for line in runs.listed()}
    assert (selections[same], selections[whole]) == ("odd ones", None)  # that of what it builds on, unless told


# ----------------------------------------------------------------------------------------------------------- series
def test_several_lambda_are_a_series_that_the_server_carries_on(runs: Runs) -> None:
    series_id = start(runs, asked(feature_weights=[0, 0.5], n_seeds=1))
    assert runs.listed()  # the first is there when the answer is
    carried_on(runs)
    made = runs_of(runs.jobs, planned(runs.jobs.ledger)[series_id])
    assert sorted(run.kind for run in made) == ["ranks", "score", "score", "train", "train"]
    (told,) = runs.series(runs.listed())
    assert told["about"] == "λ 0, 0.5 · seeds 1234"
    assert (told["state"], told["n_trained"], told["n"], told["said"]) == ("done", 2, 2, "")
    with pytest.raises(JobError, match="is done; there is nothing to go on with"):
        runs.resume(series_id, "me")


def test_a_series_of_everything_is_so_whatever_its_parent_is_of(runs: Runs) -> None:
    runs.jobs.ledger.save_selection("odd ones", list(range(9)), runs.survey.subject_ids, who="me")
    parent = start(runs, asked(selection="odd ones"))
    whole = start(runs, asked(feature_weights=[0, 0.5], parents=[parent], everything=True))
    carried_on(runs)
    same = start(runs, asked(feature_weights=[0, 0.5], parents=[parent]))
    carried_on(runs)
    for series_id, selection in ((whole, None), (same, "odd ones")):
        made = runs_of(runs.jobs, planned(runs.jobs.ledger)[series_id])
        assert {run.selection for run in made if run.kind == "train"} == {selection}
    with pytest.raises(SettingError, match="λ has a value twice"):
        start(runs, asked(feature_weights=[0.5, 0.5]))


def test_a_series_that_is_gone_on_with_twice_at_once_is_begun_once(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = JobService.start

    def refuse(self: JobService, kind: str, *told: Any) -> str:
        if kind == "score":
            raise JobError("the disk is full")
        return begin(self, kind, *told)

    with monkeypatch.context() as full:
        full.setattr(JobService, "start", refuse)
        series_id = start(runs, asked(feature_weights=[0, 0.5]))
        carried_on(runs)  # stopped between two of its runs
    looked, both = threading.Barrier(2), runs_of

    def together(*told: Any) -> Any:  # both have looked before either begins, where nothing keeps them apart
        found = both(*told)
        with contextlib.suppress(threading.BrokenBarrierError):
            looked.wait(0.5)
        return found

    monkeypatch.setattr("explorer.services.underway.runs_of", together)
    refused = []

    def ask() -> None:
        try:
            runs.resume(series_id, "me")
        except JobError as error:
            refused.append(str(error))

    asking = [threading.Thread(target=ask) for _ in range(2)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join(30)
    carried_on(runs)
    assert len(refused) == 1
    assert sorted(run.kind for run in both(runs.jobs, planned(runs.jobs.ledger)[series_id])) == [
        "ranks",
        "score",
        "score",
        "train",
        "train",
    ]


def test_a_series_that_was_stopped_goes_on_in_another_server(runs: Runs) -> None:
    stops = runs.survey.path / "interrupt-0.5-1234"
    stops.touch()
    series_id = start(runs, asked(feature_weights=[0, 0.5]))
    carried_on(runs)
    (told,) = runs.series(runs.listed())
    assert (told["state"], told["is_here"], told["n_trained"]) == ("interrupted", False, 1)
    stops.unlink()
    another = Runs(Here(runs.survey, runs.jobs.ledger, KINDS))
    another.resume(series_id, "me")
    carried_on(runs)
    made = runs_of(runs.jobs, planned(runs.jobs.ledger)[series_id])
    assert sorted(run.kind for run in made) == ["ranks", "score", "score", "train", "train"]
    assert {run.state for run in made} == {"done"}


def test_a_series_that_cannot_go_on_says_why(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = JobService.start

    def refuse(self: JobService, kind: str, *told: object) -> str:
        if kind == "score":
            raise JobError("the disk is full")
        return begin(self, kind, *told)

    monkeypatch.setattr(JobService, "start", refuse)
    start(runs, asked(feature_weights=[0, 0.5]))
    carried_on(runs)
    (told,) = runs.series(runs.listed())
    assert (told["said"], told["state"]) == ("the disk is full", "interrupted")


def test_a_series_is_cancelled_with_the_run_that_it_is_at(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    at, go = threading.Event(), threading.Event()
    wait, cancelled = JobService.wait, []

    def hold(self: JobService, run_id: str) -> object:
        at.set()
        assert go.wait(20)
        return wait(self, run_id)

    monkeypatch.setattr(JobService, "wait", hold)
    monkeypatch.setattr(JobService, "cancel", lambda self, run_id, who: cancelled.append(run_id))
    series_id = start(runs, asked(feature_weights=[0, 0.5]))
    assert at.wait(20)
    with pytest.raises(JobError, match="is at work"):
        runs.resume(series_id, "me")
    (told,) = runs.series(runs.listed())
    assert (told["state"], told["is_here"]) == ("running", True)
    runs.decide("cancel", {"run": series_id}, "me")
    go.set()
    carried_on(runs)
    (run,) = runs_of(runs.jobs, planned(runs.jobs.ledger)[series_id])
    assert cancelled == [run.run_id]
    with pytest.raises(JobError, match="there is no run"):
        runs.decide("cancel", {"run": series_id}, "me")


def test_nothing_begins_while_the_server_stops(runs: Runs) -> None:
    underway = Underway(runs.jobs)
    underway.close()
    with pytest.raises(JobError, match="being stopped"):
        underway.begin({}, [], [0.2], 2, "me")


# ---------------------------------------------------------------------------------------------------- delete, follow
def test_a_run_is_deleted_by_its_name_and_not_while_others_build_on_it(runs: Runs) -> None:
    trained = start(runs, asked())
    scored = start(runs, asked("score"))
    assert runs.detail(trained, 0, 0)["built_on_by"] == [scored]
    with pytest.raises(JobError, match='"score" is not the name of this run'):
        runs.delete(scored, "score", "me")
    with pytest.raises(JobError, match=f"{scored} builds on {trained}"):
        runs.decide("delete", {"run": trained, "typed": trained}, "me")
    runs.decide("delete", {"run": scored, "typed": scored}, "me")
    runs.decide("delete", {"run": trained, "typed": trained}, "me")
    assert not runs.survey.runs(state=None)
    with pytest.raises(JobError, match="there is no run"):
        runs.delete("../survey", "../survey", "me")


def test_where_a_training_goes_on_is_read_from_what_it_saved(tmp_path: Path) -> None:
    assert stands_at(tmp_path) is None
    state = json.dumps({"stage": "encoder", "epoch": 11})
    header = json.dumps({"__metadata__": {"voorwerp": state}}).encode()
    (tmp_path / RESUME).write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 64)
    assert stands_at(tmp_path) == {"stage": "encoder", "epoch": 12}
    (tmp_path / RESUME).write_bytes(b"\xff" * 5)
    assert stands_at(tmp_path) is None
