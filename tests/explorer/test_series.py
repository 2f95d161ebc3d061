"""Linked trainings and ``voorwerp resume``: what is run, in what order, what is not run twice, and what is said."""

import contextlib
import functools
import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from explorer import cli
from explorer.commands import running
from explorer.ledger import Ledger
from explorer.services.jobs import JobService, take_lock
from explorer.survey import Survey, check
from explorer.worker import run_job
from models.artifacts import Run
from tests.explorer.pretended import COLLAPSE
from tests.explorer.small_survey import write_survey

KINDS = ("tests.explorer.pretended:TRAIN", "tests.explorer.pretended:SCORE")


class AtOnce(JobService):
    """Does a job in this process, before `start` returns: nine processes take their time."""

    def _spawn(self, run: Run, folder: Path, lock: int) -> None:
        before = signal.getsignal(signal.SIGTERM)
        try:
            run_job(self.survey.path, run.run_id, lock, self._outside.get(run.kind))
        finally:
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def at_once(path: Path, where: object = None, kinds: Sequence[str] = ()) -> Iterator[JobService]:
    """The survey's jobs."""
    survey = Survey.open(path)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        yield AtOnce(survey, ledger, kinds)
    survey.close()


@pytest.fixture
def survey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(running, "job_service", functools.partial(at_once, kinds=KINDS))
    return write_survey(tmp_path / "survey", n=40, size=4)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return run


def runs(survey: Path) -> list[Run]:
    """Every run: trainings, scores and ranks, each with the oldest first."""
    found = [Run.read(path) for path in (survey / "runs").glob("*/run.json")]
    return sorted(found, key=lambda run: ("train score ranks".index(run.kind), run.created_at, run.run_id))


def setting(run: Run) -> tuple[float, int]:
    return run.config["feature_weight"], run.seed


# ---------------------------------------------------------------------------------------------------------- series
def test_each_lambda_and_seed_is_trained_and_scored_and_all_are_ranked(survey: Path, said: Callable) -> None:
    code, out, err = said("run", survey, "train", "--lambda", "0,.5", "--seeds", 2, "--epochs", 3, "--device", "cpu")
    assert code == 0
    made = runs(survey)
    (series,) = {run.series for run in made}
    assert series is not None
    assert {run.state for run in made} == {"done"}
    trained = {setting(run): run for run in made if run.kind == "train"}
    assert list(trained) == [(0.0, 1234), (0.5, 1234), (0.0, 1235), (0.5, 1235)]
    assert {(run.config["epochs"], run.config["device"]) for run in trained.values()} == {(3, "cpu")}
    for (weight, seed), run in trained.items():  # generator and critic come from the first of the seed
        assert run.results["taken_from"] == ([] if weight == 0 else [trained[0.0, seed].run_id])
    scored = {run.inputs["train"]: run for run in made if run.kind == "score"}
    for run in trained.values():
        assert scored[run.run_id].config["feature_weight"] == run.config["feature_weight"]
        assert scored[run.run_id].config["device"] == "cpu"
    *of_one, ranks = (run for run in made if run.kind == "ranks")
    for weight, run in zip((0.0, 0.5), of_one, strict=True):  # seeds apart from λ: that they differ is not wanted
        assert [(r["setting"], r["seed"]) for r in run.results["runs"]] == [
            (f"λ = {weight:g}", 1234),
            (f"λ = {weight:g}", 1235),
        ]
        assert run.results["score_title"] == f"Mean rank percentile over 2 runs of λ = {weight:g}"
        assert run.results["n_fragile"] == ranks.results["over_seeds"][f"λ = {weight:g}"]["n_fragile"]
    assert ranks.results["score_title"] == "Mean rank percentile over 4 runs of λ = 0 and λ = 0.5"
    assert {ranks.inputs[f"score.{i}"] for i in range(1, 5)} == {run.run_id for run in scored.values()}
    assert len(ranks.results["pairs"]) == 6
    assert set(ranks.results["over_seeds"]) == {"λ = 0", "λ = 0.5"}
    assert set(ranks.results["over_settings"]) == {"1234", "1235"}

    assert out.startswith(f"{series}: λ 0, 0.5; seeds 1234 to 1235\n")
    assert "training 3 of 4, λ = 0, seed 1235: pretending" in err
    assert "│ λ = 0, seed 1234 | λ = 0.5, seed 1234 " in out
    n_fragile = ranks.results["over_seeds"]["λ = 0"]["n_fragile"]
    assert re.search(rf"│ λ = 0: mean over pairs of seeds +│ \S+ +│ \d+ % +│ {n_fragile} +│\n", out)
    assert f"{ranks.results['n_fragile']} of 40 subjects are fragile over all 4 runs: " in out
    assert "\nin the top 1 % of every run: none\n" in out  # of another seed, another one is first
    assert out.endswith(f"highest mean rank, less its spread: {', '.join(ranks.results['highest'])}\n")
    assert len(ranks.results["highest"]) == 10

    code, listed, _ = said("jobs", survey)
    lines = [line.split(maxsplit=2) for line in listed.splitlines()]
    assert lines[0] == [series, "done", "λ 0, 0.5 · seeds 1234 to 1235"]
    assert [ranks.run_id, "done", "4 runs"] in lines
    assert [scored[trained[0.5, 1235].run_id].run_id, "done", "λ 0.5 · seed 1235"] in lines
    assert [trained[0.0, 1234].run_id, "done", "λ 0 · seed 1234"] in lines
    assert [of_one[1].run_id, "done", "2 runs of λ = 0.5"] in lines
    assert len(lines) == 12

    code, again, err = said("resume", survey, series)  # done: nothing is run, the table is said again
    assert (code, err) == (0, "")
    assert again.endswith(out[out.index("┏") :])
    assert len(runs(survey)) == 11


def test_one_seed_is_ranked_once_over_lambda_and_one_lambda_once_over_seeds(survey: Path, said: Callable) -> None:
    assert said("run", survey, "train", "--lambda", "0,.5")[0] == 0
    assert said("run", survey, "train", "--lambda", ".5", "--seeds", 2)[0] == 0
    titles = [run.results["score_title"] for run in runs(survey) if run.kind == "ranks"]
    assert titles == [
        "Mean rank percentile over 2 runs of λ = 0 and λ = 0.5",
        "Mean rank percentile over 2 runs of λ = 0.5",
    ]


def test_subjects_in_the_top_of_every_run_are_told_apart_from_others(capsys: pytest.CaptureFixture[str]) -> None:
    told = {"runs": [], "pairs": [], "over_seeds": {}, "over_settings": {}, "n_runs": 2, "n_subjects": 200}
    told |= {"n_fragile": 2, "highest": ["7", "5", "9"]}
    running.print_ranks(told)  # as rankings were told before
    assert capsys.readouterr().out.endswith("not of all\nhighest mean rank, less its spread: 7, 5, 9\n")
    running.print_ranks(told | {"n_in_every_top": 3, "highest_in_every_top": ["7"]})
    assert capsys.readouterr().out.endswith(
        "in the top 1 % of every run: 7 and 2 more\nhighest mean rank, less its spread, of the others: 5, 9\n"
    )


def test_trainings_that_went_wrong_are_told_of_at_once_at_the_end_and_by_whatever_builds_on_them(
    survey: Path, said: Callable
) -> None:
    (survey / "collapse-0-1235").touch()
    code, out, _ = said("run", survey, "train", "--lambda", "0,.5", "--seeds", 2)
    bad = next(run.run_id for run in runs(survey) if setting(run) == (0, 1235))
    assert code == 0
    sound = "training 2 of 4, λ = 0.5, seed 1234: done\nscoring 2 of 4"
    own = f"training 3 of 4, λ = 0, seed 1235: done\n  it was said of it: {COLLAPSE}\nscoring"
    inherited = (
        f"training 4 of 4, λ = 0.5, seed 1235: done\n  built on {bad}, of which it was said: {COLLAPSE}\nscoring"
    )
    assert [words in out for words in (sound, own, inherited)] == [True] * 3
    warning = "2 of 4 trainings did not train soundly: λ = 0, seed 1235; λ = 0.5, seed 1235\n"
    assert out.endswith(warning)
    assert said("resume", survey, runs(survey)[0].series)[1].endswith(warning)
    code, out, err = said("run", survey, "score", "--parent", bad)
    assert err.startswith(f"builds on {bad} (fast, λ 0, seed 1235)\n")
    assert out.splitlines()[1] == f"  built on {bad}, of which it was said: {COLLAPSE}"
    scored = out.split()[0]
    other = next(run.run_id for run in runs(survey) if run.kind == "score" and run.seed == 1234)
    code, out, err = said("run", survey, "ranks", "--parent", other, "--parent", scored)
    assert [line.split()[:3] for line in err.splitlines()[:2]] == [["builds", "on", other], ["builds", "on", scored]]
    assert out.count("of which it was said") == 1
    code, out, _ = said("run", survey, "train", "--lambda", "0", "--seed", 1235)
    assert out.count(COLLAPSE) == 1  # among its results


def test_an_interrupted_series_goes_on_without_what_is_done(survey: Path, said: Callable) -> None:
    (survey / "interrupt-0.5-1234").touch()
    code, _, err = said("run", survey, "train", "--lambda", "0,.5")
    before = runs(survey)
    series = before[0].series
    assert code == 1
    assert err.endswith(f"{before[1].run_id} was interrupted; `voorwerp resume {survey} {series}` goes on with it\n")
    assert [(run.kind, run.state) for run in before] == [
        ("train", "done"),
        ("train", "interrupted"),
        ("score", "done"),
    ]
    assert said("jobs", survey)[1].startswith(f"{series}  ")
    (survey / "interrupt-0.5-1234").unlink()
    code, out, _ = said("resume", survey)  # the only one that is interrupted
    assert code == 0
    assert "training 1" not in out
    assert "training 2 of 2, λ = 0.5, seed 1234: done" in out
    after = runs(survey)
    assert {run.run_id for run in before} < {run.run_id for run in after}
    assert [(run.kind, run.attempt, run.series) for run in after] == [
        ("train", 1, series),
        ("train", 2, series),
        ("score", 1, series),
        ("score", 1, series),
        ("ranks", 1, series),
    ]


def test_a_series_killed_between_two_of_its_runs_is_interrupted_and_goes_on(
    survey: Path, said: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = AtOnce.start

    def killed(service: AtOnce, kind: str, *told: object) -> str:
        if kind == "ranks" and len(runs(survey)) == 9:  # the ranking of λ = 0 is made
            raise KeyboardInterrupt
        return start(service, kind, *told)  # type: ignore[arg-type]

    monkeypatch.setattr(AtOnce, "start", killed)
    with contextlib.suppress(KeyboardInterrupt):
        said("run", survey, "train", "--lambda", "0,.5", "--seeds", 2)
    monkeypatch.undo()
    monkeypatch.setattr(running, "job_service", functools.partial(at_once, kinds=KINDS))
    before = runs(survey)
    assert [run.kind for run in before] == ["train"] * 4 + ["score"] * 4 + ["ranks"]
    assert {run.state for run in before} == {"done"}
    assert said("jobs", survey)[1].split()[:2] == [before[0].series, "interrupted"]
    assert said("resume", survey)[0] == 0
    assert len(runs(survey)) == 11
    assert said("jobs", survey)[1].split()[:2] == [before[0].series, "done"]
    assert said("resume", survey)[2] == f"nothing is interrupted; name a run: `voorwerp resume {survey} RUN`\n"


def test_after_a_failure_the_others_are_ranked_and_resume_tries_again(survey: Path, said: Callable) -> None:
    (survey / "fail-0-1234").touch()
    code, out, err = said("run", survey, "train", "--lambda", "0,.5,1")
    made = runs(survey)
    series = made[0].series
    assert code == 1
    assert "training 1 of 3, λ = 0, seed 1234: failed: the critic's loss is not a number\n" in out
    assert "λ = 0.5, seed 1234 | λ = 1, seed 1234" in out
    assert err.endswith(f"1 of the runs of {series} failed; `voorwerp resume {survey} {series}` tries them again\n")
    taken = {run.config["feature_weight"]: run.results.get("taken_from") for run in made if run.kind == "train"}
    first = next(run.run_id for run in made if run.kind == "train" and run.state == "done")
    assert taken == {0.0: None, 0.5: [], 1.0: [first]}  # generator and critic come from the first that is done

    (survey / "fail-0-1234").unlink()
    code, out, _ = said("resume", survey, series)
    assert code == 0
    assert "λ = 0, seed 1234 | λ = 1, seed 1234" in out
    ranked = [run for run in runs(survey) if run.kind == "ranks"]
    assert [run.results["n_runs"] for run in ranked] == [2, 3]
    assert sum(run.kind == "train" for run in runs(survey)) == 3


def test_where_nothing_could_be_scored_nothing_is_ranked(survey: Path, said: Callable) -> None:
    for seed in (7, 8):
        (survey / f"fail-0.2-{seed}").touch()
    code, out, err = said("run", survey, "train", "--seed", 7, "--seeds", 2)
    assert (code, "┏" in out) == (1, False)
    assert "2 of the runs of " in err
    assert {run.kind for run in runs(survey)} == {"train"}


def test_cancelling_a_run_stops_its_series(survey: Path, said: Callable) -> None:
    (survey / "cancel-0-1234").touch()
    code, _, err = said("run", survey, "train", "--lambda", "0,.5")
    (cancelled,) = runs(survey)
    assert (code, cancelled.state) == (1, "cancelled")
    sentence = (
        f"{cancelled.run_id} was cancelled; `voorwerp resume {survey} {cancelled.series}` goes on with the series"
    )
    assert err.splitlines()[-1] == sentence


def test_one_lambda_and_one_seed_are_a_run_like_any_other(survey: Path, said: Callable) -> None:
    code, out, _ = said("run", survey, "train", "--lambda", ".5", "--seeds", 1)
    (run,) = runs(survey)
    assert (code, run.series, setting(run)) == (0, None, (0.5, 1234))
    assert out.startswith(f"{run.run_id} done in ")
    code, _, _ = said("run", survey, "score", "--lambda", ".8", "--parent", run.run_id)
    assert (code, runs(survey)[1].config["feature_weight"]) == (0, 0.8)
    with Ledger(survey, "survey-1") as ledger:
        assert ledger.entries("series") == []


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_a_training_with_fewer_images_than_asked_for_says_so(survey: Path, said: Callable, n_seeds: int) -> None:
    sentence = "  trained on 36 images, fewer than the 1,000 of train_on\n"
    for n_asked, n_said in ((36, 0), (1000, n_seeds)):
        code, out, _ = said("run", survey, "train", "--seeds", n_seeds, "--train-on", n_asked)
        assert (code, out.count(sentence)) == (0, n_said)


def test_a_run_of_before_there_were_series_reads_as_one_that_stands_alone(survey: Path, said: Callable) -> None:
    said("run", survey, "train")
    (path,) = (survey / "runs").glob("*/run.json")
    content = json.loads(path.read_text())
    assert content.pop("series") is None
    path.write_text(json.dumps(content))
    assert Run.read(path).series is None
    assert said("jobs", survey)[1] == f"{path.parent.name}  done  fast · λ 0.2 · seed 1234\n"


# ---------------------------------------------------------------------------------------------------------- resume
def test_resume_goes_on_with_a_run_that_failed_and_says_of_a_finished_one_that_it_is(
    survey: Path, said: Callable
) -> None:
    (survey / "fail-0.2-1234").touch()
    code, _, err = said("run", survey, "train")
    (run,) = runs(survey)
    assert (code, err.splitlines()[-1]) == (1, "the critic's loss is not a number")
    (survey / "fail-0.2-1234").unlink()
    code, out, err = said("resume", survey, run.run_id)
    assert (code, out.startswith(f"{run.run_id} done in ")) == (0, True)
    assert "pretending 2/2" in err
    assert said("resume", survey, run.run_id) == (0, f"{run.run_id} is done; there is nothing to go on with\n", "")
    assert runs(survey)[0].attempt == 2


def test_resume_leaves_a_run_that_somebody_else_works_on(survey: Path, said: Callable) -> None:
    (survey / "interrupt-0.2-1234").touch()
    said("run", survey, "train")
    (run,) = runs(survey)
    folder = survey / "runs" / run.run_id
    replace(run, state="running").write(folder / "run.json")
    lock = take_lock(folder)
    try:
        found = said("resume", survey, run.run_id)
        assert said("resume", survey)[0] == 2  # it is not interrupted
    finally:
        os.close(lock)
    sentence = f"{run.run_id} is running in another process; `voorwerp jobs {survey}` shows how far it is\n"
    assert found == (1, "", sentence)
    (survey / "interrupt-0.2-1234").unlink()
    assert said("resume", survey)[0] == 0  # now that nobody does, it is


def test_resume_without_a_run_asks_which_where_there_are_several(survey: Path, said: Callable) -> None:
    (survey / "interrupt-0.2-1234").touch()
    for _ in range(2):
        said("run", survey, "train")
    first, second = (run.run_id for run in runs(survey))
    sentence = f"{second} and {first} are interrupted; name one: `voorwerp resume {survey} RUN`\n"
    assert said("resume", survey) == (2, "", sentence)
    _, _, err = said("resume", survey, "x" + first)
    assert err == f'there is no run "x{first}" in {survey}; did you mean "{first}"?\n'


# ------------------------------------------------------------------------------------------------- real trainings
def test_a_real_series_trains_generator_and_critic_once_for_each_seed(
    image_survey: Path, tmp_path: Path, said: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = tmp_path / "survey"
    shutil.copytree(image_survey, survey)
    monkeypatch.setattr(running, "job_service", at_once)
    tiny = ["--epochs", 1, "--encoder-epochs", 1, "--width", 2, "--latent-size", 4, "--batch", 32, "--device", "cpu"]
    code, out, _ = said("run", survey, "train", "--lambda", "0,.8", "--seeds", 2, "--train-on", 64, *tiny)
    assert code == 0
    stages = {}
    for run in runs(survey):
        if run.kind == "train":
            lines = (survey / "runs" / run.run_id / "history.jsonl").read_text().splitlines()
            stages[setting(run)] = {json.loads(line)["stage"] for line in lines}
    assert stages == {(weight, seed): ({"gan"} if weight == 0 else set()) | {"encoder"} for weight, seed in stages}
    assert set(stages) == {(0.0, 1234), (0.8, 1234), (0.0, 1235), (0.8, 1235)}
    assert "λ = 0, seed 1234 | λ = 0.8, seed 1234" in out
    assert "of 200 subjects are fragile" in out
    assert check(survey) == []
