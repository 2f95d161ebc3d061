"""``voorwerp run`` and ``jobs``: long work is started, followed, stopped and taken up again."""

import contextlib
import getpass
import os
import time
from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import click

from explorer.errors import JobError, UsageError

if TYPE_CHECKING:
    from explorer.kinds import Kind
    from explorer.services.jobs import Job, JobService

SURVEY = click.Path(path_type=Path)


class KindGroup(click.Group):
    """One subcommand for each run kind, its flags from the kind's dataclass."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from explorer.kinds import kinds

        return list(kinds())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        from explorer.kinds import kinds

        kind = kinds().get(cmd_name)
        return None if kind is None else command_of(kind)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from explorer.kinds import kind

        kind(args[0])  # click's own message offers no near miss
        return super().resolve_command(ctx, args)


def command_of(kind: "Kind") -> click.Command:
    """``voorwerp run SURVEY <kind>``."""
    from explorer.services.jobs import plain_type

    hints = get_type_hints(kind.config)
    options: list[click.Parameter] = []
    for f in fields(kind.config):
        type_, _ = plain_type(hints[f.name])
        choices = f.metadata.get("choices")
        words = [str(f.metadata.get("help", ""))]
        words += [f"[{f.metadata['unit']}]"] if "unit" in f.metadata else []
        words += [f"[default: {f.default}]"] if f.default is not None and f.default is not MISSING else []
        options.append(
            click.Option(
                [f"--{f.name.replace('_', '-')}"],
                type=click.Choice(choices) if choices and type_ is str else type_,
                help="  ".join(words),
            )
        )
    options.append(
        click.Option(
            ["--parent", "parents"],
            multiple=True,
            metavar="RUN",
            help=f"Finished {' or '.join(kind.builds_on)} run to build on"
            + ("  [default: the newest]" if kind.needs else ""),
            hidden=not kind.builds_on,
        )
    )

    def callback(parents: tuple[str, ...], **values: Any) -> None:
        run_kind(
            click.get_current_context().obj,
            kind,
            {name: value for name, value in values.items() if value is not None},
            parents,
        )

    return click.Command(kind.name, callback=callback, params=options, help=kind.title + ".")


@click.group(cls=KindGroup, invoke_without_command=True, subcommand_metavar="KIND [OPTIONS]")
@click.argument("survey", type=SURVEY)
@click.pass_context
def run(ctx: click.Context, survey: Path) -> None:
    """Train, score or map SURVEY; without KIND, list the kinds."""
    ctx.obj = survey
    if ctx.invoked_subcommand is None:
        from explorer.kinds import kinds

        for kind in kinds().values():
            needs = f" (builds on a {' and a '.join(kind.needs)} run)" if kind.needs else ""
            click.echo(f"{kind.name:10} {kind.title}{needs}")
        click.echo(f"\nvoorwerp run {survey} KIND --help lists the settings of one.")


def who() -> str:
    """The name that the ledger gets from the command line."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"


@contextlib.contextmanager
def job_service(path: Path) -> "Iterator[JobService]":
    """The survey's jobs; those started here are interrupted at the end, if they are not over."""
    from explorer.ledger import Ledger
    from explorer.services.jobs import JobService
    from explorer.survey import Survey

    survey = Survey.open(path)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        service = JobService(survey, ledger)
        try:
            yield service
        finally:
            service.stop()
            survey.close()


def run_kind(path: Path, kind: "Kind", values: dict[str, Any], parents: tuple[str, ...]) -> None:
    """Run one kind to its end, with live progress."""
    with job_service(path) as service:
        run_id = service.start(kind.name, values, parents, who())
        follow(service, run_id)


def follow(service: "JobService", run_id: str) -> None:
    """Show a job's progress until it is over.

    Raises
    ------
    JobError
        It did not end well.
    """
    survey = service.survey.path
    started = time.monotonic()
    try:
        last = show_progress(service.follow(run_id))
    except KeyboardInterrupt:
        service.stop()
        hint = f"`voorwerp jobs {survey} --resume {run_id}` goes on with it"
        click.secho(f"\n{run_id} is {service.job(run_id).state}; {hint}", fg="red", err=True)
        raise click.exceptions.Exit(130) from None
    if last.state == "failed":
        raise JobError(last.error or f"{run_id} failed; see {survey}")
    if last.state == "interrupted":
        raise JobError(f"{run_id} was interrupted; `voorwerp jobs {survey} --resume {run_id}` goes on with it")
    if last.state == "cancelled":
        raise JobError(f"{run_id} was cancelled")
    click.echo(f"{run_id} done in {time.monotonic() - started:,.0f} s")
    for name, value in last.results.items():
        if isinstance(value, (int, float, str)):
            click.echo(
                f"  {name.replace('_', ' ')}: {value:,.4g}" if isinstance(value, float) else f"  {name}: {value}"
            )


def show_progress(jobs: "Iterator[Job]") -> "Job":
    """A live bar on a terminal, elsewhere a line now and then; return the last state."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        said = None
        for last in jobs:
            tenth = last.done * 10 // last.total if last.total else 0
            if (last.message, tenth) != said:
                said = (last.message, tenth)
                click.echo(f"{last.title}: {last.message} {words_of(last)}".rstrip(), err=True)
    else:
        columns = [
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[words]}"),
        ]
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=None, words="")
            for last in jobs:
                bar.update(
                    task,
                    description=last.message or last.title,
                    completed=last.done,
                    total=last.total or None,
                    words=words_of(last),
                )
    return last


def words_of(job: "Job") -> str:
    """``120/600, 34.1/s, 14 s left, critic loss -1.2``."""
    words = [f"{job.done:,}/{job.total:,}"] if job.total else []
    if job.rate and job.total > 1:
        words.append(f"{job.rate:,.1f}/s" if job.rate >= 1 else f"{1 / job.rate:,.1f} s each")
    if job.seconds_left is not None and job.done < job.total:
        minutes, seconds = divmod(round(job.seconds_left), 60)
        words.append(f"{minutes} min {seconds:02} s left" if minutes else f"{seconds} s left")
    words += [f"{name.replace('_', ' ')} {value:,.4g}" for name, value in job.metrics.items() if value is not None]
    return ", ".join(words)


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--cancel", metavar="RUN", help="Stop this run for good.")
@click.option("--resume", metavar="RUN", help="Go on with a run that was interrupted, cancelled or failed.")
def jobs(survey: Path, cancel: str | None, resume: str | None) -> None:
    """List the runs and maps of SURVEY, newest first; or stop one, or go on with one."""
    if cancel and resume:
        raise UsageError("--cancel and --resume are two commands; give one of them")
    with job_service(survey) as service:
        if cancel:
            service.cancel(cancel, who())
            click.echo(f"{cancel} is cancelled")
            return
        if resume:
            service.resume(resume, who())
            follow(service, resume)
            return
        found = service.list()
        if not found:
            click.echo(f"{survey} has no runs yet; `voorwerp run {survey} train` starts the first")
        width = max((len(job.run_id) for job in found), default=0)
        for job in found:
            words = (
                job.error if job.state == "failed" else "" if job.state == "done" else f"{job.message} {words_of(job)}"
            )
            click.echo(f"{job.run_id:{width}}  {job.state:11}  {words or ''}".rstrip())
