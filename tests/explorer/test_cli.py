"""The command line: exit codes, one sentence for what is wrong, and what must be quick."""

import errno
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from explorer import __version__, cli
from explorer.commands import running, serving
from explorer.errors import JobError, LedgerError, UsageError
from explorer.kinds import kinds
from explorer.ledger import Ledger
from explorer.services.jobs import Job, JobService
from explorer.survey import Survey
from models.artifacts import ArtifactError
from models.images import ImageError
from tests.explorer.small_survey import write_survey

ROOT = Path(__file__).parents[2]


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    return write_survey(tmp_path / "survey")


@pytest.fixture
def service(survey: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobService]:
    """Jobs that count (see `tests.explorer.odd_jobs`)."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    opened = Survey.open(survey)
    with Ledger(survey, opened.info.survey_id) as ledger:
        service = JobService(opened, ledger, ["tests.explorer.odd_jobs:COUNT"])
        yield service
        service.stop()
    opened.close()


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def test_help_and_version_are_quick_and_import_nothing_heavy() -> None:
    script = (
        "import sys; from explorer.cli import main; main(['--help']); main(['--version']);"
        "print([m for m in ('torch', 'panel', 'sqlalchemy', 'pyarrow', 'pandas', 'rich') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.endswith(f"voorwerp, version {__version__}\n[]\n")
    for command in ("create", "check", "run", "resume", "jobs", "serve"):
        assert re.search(rf"^  {command} ", answer.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    "arguments",
    [["serve"], ["nonsense"], ["serve", "x", "--port", "70000"], ["run", "x", "train", "--epochs", "many"], ["run"]],
)
def test_a_command_written_wrongly_exits_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, _, err = said(capsys, *arguments)
    assert code == 2
    assert "Usage: voorwerp" in err


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["run", "{survey}", "trian"], 2, 'there is no run kind "trian"; did you mean "train"?'),
        (["run", "{survey}", "train", "--epochs", "0"], 2, "train: epochs is 0; it must be between 1 and 100,000"),
        (
            ["run", "{survey}", "score"],
            1,
            "score builds on a finished train run and {survey} has none; run train first",
        ),
        (["run", "{survey}", "score", "--parent", "x"], 1, 'there is no run "x" in {survey}'),
        (["run", "{survey}/no", "score"], 1, "{survey}/no is not a survey: there is no such folder"),
        (["jobs", "{survey}", "--cancel", "x"], 1, 'there is no run "x" in {survey}'),
        (["resume", "{survey}", "x"], 1, 'there is no run "x" in {survey}'),
        (["resume", "{survey}"], 2, "nothing is interrupted; name a run: `voorwerp resume {survey} RUN`"),
        (
            ["run", "{survey}", "train", "--lambda", "0,x"],
            2,
            '--lambda is "0,x"; write it as 0.2, or several as 0,.2,.5',
        ),
        (["run", "{survey}", "train", "--lambda", "0,"], 2, '--lambda is "0,"; write it as 0.2, or several as 0,.2,.5'),
        (["run", "{survey}", "train", "--lambda", "0,1.5"], 2, "--lambda is 1.5; it must be between 0 and 1"),
        (["run", "{survey}", "train", "--lambda", "nan"], 2, "--lambda is nan; it must be between 0 and 1"),
        (["run", "{survey}", "train", "--lambda", ".2,0.20"], 2, "--lambda has 0.2 twice; write it once"),
        (["run", "{survey}", "train", "--seeds", "0"], 2, "--seeds is 0; it must be at least 1"),
        (
            ["run", "{survey}", "train", "--lambda", "0,.2,.5", "--seeds", "100"],
            2,
            "3 λ with 100 seeds are 300 trainings; a series has 100 at most",
        ),
        (
            ["run", "{survey}", "train", "--seeds", "2", "--parent", "x"],
            2,
            "the networks of --parent have one seed; leave out --parent or --seeds",
        ),
        (
            ["run", "{survey}", "train", "--seeds", "2", "--seed", "2147483647"],
            2,
            "train: seed is 2,147,483,648; it must be between 0 and 2,147,483,647",
        ),
        (["run", "{survey}", "train", "--seeds", "2", "--width", "0"], 2, "train: width is 0; it must be between 1"),
        (
            ["run", "{survey}", "score", "--lambda", "0,1"],
            2,
            "score takes one λ; `voorwerp run {survey} train --lambda` takes several",
        ),
        (["serve", "{survey}/no", "--no-browser"], 1, "{survey}/no is not a survey: there is no such folder"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    capsys: pytest.CaptureFixture[str], survey: Path, arguments: list[str], code: int, sentence: str
) -> None:
    found, out, err = said(capsys, *(a.format(survey=survey) for a in arguments))
    assert (found, out) == (code, "")
    assert err.startswith(sentence.format(survey=survey))
    assert err.count("\n") == 1


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_another_address_is_refused_before_a_port_is_opened(
    capsys: pytest.CaptureFixture[str], survey: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(socket.socket, "bind", lambda self, to: opened.append(to))
    started = time.monotonic()
    code, _, err = said(capsys, "serve", survey, "--address", address, "--no-browser")
    assert time.monotonic() - started < 5
    assert (code, opened) == (1, [])
    assert err.startswith(f"{address} can be reached from other machines and this survey has no accounts; use")


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_addresses_of_this_machine_only(address: str) -> None:
    assert serving.is_loopback(address)


def test_kinds_are_listed_and_their_flags_come_from_their_dataclass(
    capsys: pytest.CaptureFixture[str], survey: Path
) -> None:
    code, out, _ = said(capsys, "run", survey)
    assert code == 0
    for kind in kinds().values():
        assert f"{kind.name:12} {kind.title}" in out
        code, help_, _ = said(capsys, "run", survey, kind.name, "--help")
        assert code == 0
        for name, field in kind.config.__dataclass_fields__.items():
            assert f"  {running.flag_of(name)} " in help_
            assert field.metadata["help"].split()[0] in help_
        assert ("--parent" in help_) == bool(kind.builds_on)


@pytest.mark.parametrize(
    ("kind", "builds", "default"),
    [
        ("train", "a train run where told", ""),
        (
            "score",
            "a train run; pca, iforest and knn on latents: a score run, on pixels: none",
            "  [default: the newest]",
        ),
        ("map", "a score run, or a map run where told", "  [default: the newest score run]"),
        ("ranks", "several score runs", "; tell each"),
    ],
)
def test_the_list_of_kinds_and_the_help_of_each_say_what_it_builds_on(
    capsys: pytest.CaptureFixture[str], survey: Path, kind: str, builds: str, default: str
) -> None:
    listed = said(capsys, "run", survey)[1].splitlines()
    assert f"{kind:12} {kinds()[kind].title} (builds on {builds})" in listed
    help_ = " ".join(said(capsys, "run", survey, kind, "--help")[1].split())
    assert " ".join(f"Finished run to build on: {builds}{default}".split()) in help_


def test_a_survey_without_runs_says_how_to_start(capsys: pytest.CaptureFixture[str], survey: Path) -> None:
    code, out, _ = said(capsys, "jobs", survey)
    assert (code, out) == (0, f"{survey} has no runs yet; `voorwerp run {survey} train` starts the first\n")


def test_following_a_job_shows_progress_and_results(capsys: pytest.CaptureFixture[str], service: JobService) -> None:
    run_id = service.start("count", {"steps": 5, "pause": 0.1}, None, "ada")
    running.follow(service, run_id)
    out, err = capsys.readouterr()
    assert err.splitlines()[0] == "Count: waiting for its turn"
    assert "5/5" in err
    assert out.startswith(f"{run_id} done in ")
    assert "  n images: 5\n" in out.replace("n_images", "n images")


def test_a_job_that_ends_badly_is_a_sentence(service: JobService, capsys: pytest.CaptureFixture[str]) -> None:
    failed = service.start("count", {"end": "refuse"}, None, "ada")
    with pytest.raises(JobError, match=r"^these numbers cannot be counted$"):
        running.follow(service, failed)
    killed = service.start("count", {"end": "crash"}, None, "ada")
    with pytest.raises(JobError, match=r"was interrupted; `voorwerp resume .* .*` goes on with it"):
        running.follow(service, killed)
    code, out, _ = said(capsys, "jobs", service.survey.path)
    assert code == 0
    assert [failed, "failed", "these numbers cannot be counted · by ada"] in [
        line.split(maxsplit=2) for line in out.splitlines()
    ]
    assert f"{killed}  interrupted" in out


def test_jobs_are_cancelled_by_series_and_deleted_by_name(
    service: JobService, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    survey = service.survey.path
    first, second = (service.start("count", {"pause": 30}, None, "ada", series="linked") for _ in range(2))
    alone = service.start("count", {}, None, "ada")
    code, out, _ = said(capsys, "jobs", survey, "--cancel", "linked")
    assert (code, out.splitlines()) == (0, [f"{second} is cancelled", f"{first} is cancelled"])
    assert service.wait(alone).state == "done"
    code, _, err = said(capsys, "jobs", survey, "--cancel", "linked")
    assert (code, "all runs of linked are over; there is nothing to cancel" in err) == (1, True)

    code, _, err = said(capsys, "jobs", survey, "--delete", first, "--yes-delete", second)
    assert (code, f'"{second}" is not {first}; nothing was deleted' in err) == (2, True)
    monkeypatch.setattr("click.prompt", lambda *_, **__: "something else")
    assert said(capsys, "jobs", survey, "--delete", first)[0] == 2
    assert service.survey.run_folder(first).exists()
    monkeypatch.setattr("click.prompt", lambda *_, **__: first)
    assert said(capsys, "jobs", survey, "--delete", first)[:2] == (0, f"{first} is deleted\n")
    assert said(capsys, "jobs", survey, "--yes-delete", second)[:2] == (0, f"{second} is deleted\n")
    assert [job.run_id for job in service.list()] == [alone]
    assert said(capsys, "jobs", survey, "--delete", "x")[0] == 1


def test_ctrl_c_interrupts_the_job_and_says_how_to_go_on(
    capsys: pytest.CaptureFixture[str], service: JobService, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = service.start("count", {"pause": 30}, None, "ada")

    def pressed(jobs: Iterator[Job], heading: str) -> Job:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "show_progress", pressed)
    with pytest.raises(click.exceptions.Exit) as ended:
        running.follow(service, run_id)
    assert ended.value.exit_code == 130
    assert f"{run_id} is interrupted; `voorwerp resume" in capsys.readouterr().err
    assert service.job(run_id).state == "interrupted"


def raising(error: Exception) -> Callable[[], None]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (LedgerError("a sentence"), 1, "a sentence"),
        (UsageError("a sentence"), 2, "a sentence"),
        (ArtifactError("a sentence"), 1, "a sentence"),
        (ImageError("a sentence"), 1, "a sentence"),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(errno.ENOSPC, "No space left on device"), 1, "the disk is full; free some space and start again"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 1, "/x/y: permission denied"),
    ],
)
def test_each_error_has_its_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, sentence: str
) -> None:
    monkeypatch.setitem(cli.cli.commands, "oops", click.Command("oops", callback=raising(error)))
    found, _, err = said(capsys, "oops")
    assert (found, err.strip()) == (code, sentence)


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        cli.cli.commands, "oops", click.Command("oops", callback=raising(ZeroDivisionError("a defect")))
    )
    with pytest.raises(ZeroDivisionError, match="a defect"):
        cli.main(["oops"])


def test_another_package_called_models_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").touch()
    answer = subprocess.run(
        [sys.executable, "-c", "import sys; from explorer.cli import main; sys.exit(main(['--help']))"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith(f"another package called models shadows Voorwerp's ({tmp_path}")


def test_a_reader_that_goes_away_is_no_error(survey: Path) -> None:
    command = f'{sys.executable} -c \'from explorer.cli import main; main(["run", "--help"])\' | true'
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert answer.stderr == ""
