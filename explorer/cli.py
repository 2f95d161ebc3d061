"""The ``voorwerp`` command.

Everything the app does can be done from here. Imports are made inside the commands, so that ``voorwerp --help`` is
quick. Exit codes: 0 done; 1 one sentence on stderr says what is wrong; 2 the command was written wrongly; 130 stopped.
"""

import contextlib
import errno
import getpass
import ipaddress
import os
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import MISSING, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import click

from explorer.errors import AccessError, JobError, SurveyError, UsageError, VoorwerpError

if TYPE_CHECKING:
    from explorer.kinds import Kind
    from explorer.services.jobs import Job, JobService
    from models.progress import Progress

SURVEY = click.Path(path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("voorwerp"), prog_name="voorwerp")
def cli() -> None:
    """Find scientifically interesting unknowns in more galaxy images than anyone can look at."""


# ----------------------------------------------------------------------------------------------- create and check
@cli.command()
@click.argument("survey", type=SURVEY)
@click.argument("sources", nargs=-1, metavar="SOURCE...", type=click.Path(path_type=Path))
@click.option(
    "--cut-out",
    "cut_outs",
    multiple=True,
    metavar="IMAGE",
    type=click.Path(path_type=Path),
    help="A large image, in which sources are found and cut out (instead of SOURCE).",
)
@click.option("--path-column", metavar="NAME", help="The manifest's column of image paths.")
@click.option("--id-column", metavar="NAME", help="The manifest's column of ids, kept as text.  [default: file names]")
@click.option("--size", default=64, show_default=True, help="Side of the network's input, px.")
@click.option(
    "--crop",
    type=click.Choice(["center", "resize"]),
    default="center",
    show_default=True,
    help="Cut around the center, or take the whole image.",
)
@click.option(
    "--extent",
    type=int,
    metavar="PX",
    help="Cut this much around the center, then area-average to --size.  "
    "[default: --size; for cut-outs, from the sources' sizes]",
)
@click.option("--name", help="What the survey is called.  [default: the folder's name]")
def create(
    survey: Path,
    sources: tuple[Path, ...],
    cut_outs: tuple[Path, ...],
    path_column: str | None,
    id_column: str | None,
    size: int,
    crop: Literal["center", "resize"],
    extent: int | None,
    name: str | None,
) -> None:
    """Make the folder SURVEY from images: folders, manifests (CSV, TSV, Parquet), or one large image.

    PNG, JPEG and TIFF are read. Stopped at any moment, the same command goes on where it was.
    """
    if bool(sources) == bool(cut_outs):
        raise UsageError(
            "name folders, manifests or images as SOURCE, or one large image with --cut-out; one of the two"
        )
    if cut_outs:
        if path_column or id_column or crop != "center":
            raise UsageError("--path-column, --id-column and --crop do not go with --cut-out")
        from explorer.ingest.cut_outs import CutOutOptions, create_cut_outs

        making = create_cut_outs(survey, cut_outs, CutOutOptions(size=size, extent=extent, name=name))
    else:
        from explorer.ingest.images import CreateOptions, create

        making = create(survey, sources, CreateOptions(size, crop, extent, name, path_column, id_column))
    started = time.monotonic()
    totals = show_making(making)
    seconds = time.monotonic() - started
    n, refused = totals["n_subjects"], totals["n_quarantined"]
    click.echo(f"{n:,} of {n + refused:,} images are subjects of {survey} ({seconds:,.0f} s)")
    if refused:
        click.echo(f"{refused:,} of {n + refused:,} could not be used: {survey / 'quarantine.parquet'} says why")
    tune, test, groups = totals["n_tune"], totals["n_test"], totals["n_groups"]
    click.echo(f"tune half {tune:,}, test half {test:,}; {n - groups:,} duplicates of another")
    for note in totals["notes"]:
        click.echo(f"note: {note}")
    if crop == "center" and extent is None and not cut_outs:
        click.echo(
            f"the network sees the central {size} × {size} px of each; --extent PX or --crop resize shows it more"
        )
    click.echo(f"{min(n, 25)} of them as the network sees them: {totals['contact_sheet']}")


def show_making(making: "Generator[Progress, None, dict[str, Any]]") -> dict[str, Any]:
    """A live bar with rate and time left on a terminal, elsewhere a line now and then; return the totals."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeRemainingColumn()]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None, words="")
        started, first, said = time.monotonic(), None, -1
        while True:
            try:
                at = next(making)
            except StopIteration as end:
                totals: dict[str, Any] = end.value
                return totals
            first = at.done if first is None else first
            rate = (at.done - first) / max(time.monotonic() - started, 1e-3)
            refused = at.metrics.get("quarantined", 0)
            words = f"{at.done:,}/{at.total:,}, {rate:,.0f}/s" if at.total else ""
            words += f", {refused:,.0f} in quarantine" if refused else ""
            bar.update(task, description=at.message, completed=at.done, total=at.total or None, words=words)
            tenth = at.done * 10 // at.total if at.total else -1
            if not console.is_terminal and tenth > said:
                said = tenth
                click.echo(f"{at.message} {words}", err=True)


@cli.command()
@click.argument("survey", type=SURVEY)
def check(survey: Path) -> None:
    """Say every problem of SURVEY at once; exit 1 if there is one."""
    from explorer.ledger import check as check_ledger
    from explorer.survey import Survey, check

    problems = check(survey)
    with contextlib.suppress(SurveyError):  # said already
        opened = Survey.open(survey)
        problems += check_ledger(survey, opened.info.survey_id, opened.subject_ids)
    for problem in problems:
        click.secho(problem, fg="red", err=True)
    if problems:
        raise click.exceptions.Exit(1)
    click.echo(f"{survey} is sound: {opened.n:,} subjects, {len(opened.runs())} runs, {len(opened.maps())} maps")
    opened.close()


# ------------------------------------------------------------------------------------------------------ serve
def is_loopback(address: str) -> bool:
    """Whether only this machine can reach `address`."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


@cli.command()
@click.argument("survey", type=SURVEY)
@click.option("--address", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5006, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free port.")
@click.option("--no-browser", is_flag=True, help="Only print the URL.")
@click.option("--insecure", is_flag=True, help="Listen on another address than this machine's own without accounts.")
def serve(survey: Path, address: str, port: int, no_browser: bool, insecure: bool) -> None:
    """Open SURVEY in the browser."""
    if not is_loopback(address) and not insecure:
        raise AccessError(
            f"{address} can be reached from other machines and this survey has no accounts; "
            "use --address 127.0.0.1, or --insecure if you trust everyone on that network"
        )
    from explorer.survey import Survey

    Survey.open(survey).close()  # a wrong folder is one sentence now, not a page that fails
    from explorer.app import serve

    serve(survey, address=address, port=port, open_browser=not no_browser)


# -------------------------------------------------------------------------------------------------- run and jobs
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
            help=f"Finished {' or '.join(kind.needs)} run to build on  [default: the newest]",
            hidden=not kind.needs,
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


@cli.group(cls=KindGroup, invoke_without_command=True, subcommand_metavar="KIND [OPTIONS]")
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
    from explorer.services.jobs import find_run
    from models.artifacts import Run

    with job_service(path) as service:
        told = {Run.read(find_run(service.survey, run_id)).kind: run_id for run_id in parents}
        run_id = service.start(kind.name, values, told, who())
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


@cli.command()
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


# -------------------------------------------------------------------------------------------------------- demo
@cli.command()
@click.argument("folder", type=SURVEY, default="demo-survey")
@click.option("--port", default=5006, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free port.")
@click.option("--no-browser", is_flag=True, help="Only print the URL.")
def demo(folder: Path, port: int, no_browser: bool) -> None:
    """Galaxies of the Hubble Deep Field, found, scored and mapped in FOLDER, in the browser."""
    from explorer.services import demo as steps

    click.echo(f"{steps.NAME}, the image in scikit-image")
    making = steps.create(folder)
    if making is not None:
        totals = show_making(making)
        click.echo(f"{totals['n_subjects']:,} galaxies cut out of it are the survey {folder}")
    with job_service(folder) as service:
        parents = {"train": steps.place_checkpoint(service.survey)}
        for kind, needs in (("score", "train"), ("map", "score")):
            parents[kind], is_done = steps.start_unless_done(service, kind, {needs: parents[needs]}, who())
            if not is_done:
                follow(service, parents[kind])
        survey, ledger = service.survey, service.ledger
        if steps.SELECTION not in ledger.selection_names():
            rows = steps.highest(survey, parents["score"])
            ledger.save_selection(steps.SELECTION, rows, survey.subject_ids, who=who())
    from explorer.app import serve

    serve(folder, port=port, open_browser=not no_browser, selection=steps.SELECTION)


# ------------------------------------------------------------------------------------------------------- main
def check_packages() -> None:
    """`models` is a common name: say so when another one shadows ours."""
    import models

    ours = Path(__file__).parents[1] / "models" / "__init__.py"
    if models.__file__ is None or Path(models.__file__).resolve() != ours.resolve():
        raise UsageError(
            f"another package called models shadows Voorwerp's ({models.__file__}); "
            "start from another folder or unset PYTHONPATH"
        )


def sentence_of(error: Exception) -> str | None:
    """The one sentence for an error a person can act on; None for a defect of ours, which keeps its traceback."""
    if isinstance(error, VoorwerpError):
        return str(error)
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full{f' ({error.filename})' if error.filename else ''}; free some space and start again"
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    from models.artifacts import ArtifactError
    from models.images import ImageError

    return str(error) if isinstance(error, (ArtifactError, ImageError)) else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    try:
        check_packages()
        code = cli.main(args=arguments, prog_name="voorwerp", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.Abort:
        click.secho("stopped", fg="red", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None:
            raise
        click.secho(sentence, fg="red", err=True)
        return getattr(error, "exit_code", 1)


if __name__ == "__main__":
    sys.exit(main())
