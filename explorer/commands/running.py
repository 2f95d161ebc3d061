"""``voorwerp run``, ``resume`` and ``jobs``: long work is started, followed, taken up again and stopped."""

import contextlib
import getpass
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

import click

from explorer.commands import workers
from explorer.errors import JobError, UsageError

if TYPE_CHECKING:
    from explorer.kinds import Kind
    from explorer.services.jobs import Job, JobService
    from explorer.services.series import Series

SURVEY = click.Path(path_type=Path)
STOPPABLE = ("pending", "running", "interrupted")
MOST_PAIRS = 66  # of runs, in the table of ranks: all of 12


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


class Lambda(click.ParamType):
    """One λ or several, with commas between them."""

    name = "number,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        try:
            found = tuple(float(word) for word in value.split(","))
        except ValueError:
            raise UsageError(f'--lambda is "{value}"; write it as 0.2, or several as 0,.2,.5') from None
        for number in found:
            if not 0 <= number <= 1:
                raise UsageError(f"--lambda is {number:g}; it must be between 0 and 1")
            if found.count(number) > 1:
                raise UsageError(f"--lambda has {number:g} twice; write it once")
        return found


def flag_of(name: str) -> str:
    """The flag of a setting."""
    return "--lambda" if name == "feature_weight" else f"--{name.replace('_', '-')}"


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
        words += ["[campaign:NAME, column:NAME, votes or none: see `voorwerp labels`]"] if f.name in kind.labels else []
        words += [f"[default: {f.default}]"] if f.default not in (None, "", MISSING) else []
        options.append(
            click.Option(
                [flag_of(f.name), f.name],
                type=Lambda()
                if f.name == "feature_weight"
                else click.Choice(choices)
                if choices and type_ is str
                else type_,
                help="  ".join(words),
            )
        )
    is_training = kind.name == "train"
    if is_training:
        options.append(
            click.Option(
                ["--seeds", "n_seeds"],
                type=int,
                default=1,
                metavar="N",
                help="Train N times, with seed, seed + 1, …; with several λ (0,.2,.5), each of them N times",
            )
        )
    options.append(
        click.Option(
            ["--parent", "parents"],
            multiple=True,
            metavar="RUN",
            help=f"Finished run to build on: {kind.builds_on_what}"
            + (f"  [default: the newest{f' {kind.needs[0]} run' if kind.optional else ''}]" if kind.needs else "")
            + ("; tell each" if kind.many else ""),
            hidden=not kind.builds_on,
        )
    )

    options += [*whom(kind), *workers.options()]

    def callback(
        parents: tuple[str, ...],
        selection: str | None,
        top: float | None,
        of: str | None,
        everything: bool = False,
        n_seeds: int = 1,
        **values: Any,
    ) -> None:
        survey = click.get_current_context().obj
        asked, where = Whom(selection, top, of, everything), workers.where_of(values)
        values = {name: value for name, value in values.items() if value is not None}
        weights = values.pop("feature_weight", ())
        if is_training and (len(weights) > 1 or n_seeds != 1):
            train_series(survey, values, parents, weights, n_seeds, asked, where)
            return
        if len(weights) > 1:
            raise UsageError(f"{kind.name} takes one λ; `voorwerp run {survey} train --lambda` takes several")
        run_kind(survey, kind, values | ({"feature_weight": weights[0]} if weights else {}), parents, asked, where)

    return click.Command(kind.name, callback=callback, params=options, help=kind.title + ".")


class Whom(NamedTuple):
    """What was told of whom a run is of."""

    selection: str | None = None
    top: float | None = None
    of: str | None = None
    everything: bool = False

    def name(self, service: "JobService") -> str | None:
        """The name of the selection; that of the top is kept now. None where none was told.

        Raises
        ------
        UsageError
            Two things were told that do not go together.
        """
        told = [flag for flag, value in zip(("--selection", "--top"), self, strict=False) if value is not None]
        told += ["--everything"] if self.everything else []
        if len(told) > 1:
            raise UsageError(f"{told[0]} and {told[1]} say two things; a run is of one")
        if self.top is None:
            if self.of is not None:
                raise UsageError(f"--of {self.of} says whose top; tell --top, too: 0.05 for 5 %")
            return self.selection
        from explorer.services.selected import keep_top

        return keep_top(service.survey, service.ledger, self.top, self.of, who())


def whom(kind: "Kind") -> list[click.Parameter]:
    """The options that say whom a run is of; hidden where the kind is not of subjects."""
    of_parents = "those that the runs to build on are of, else all" if kind.builds_on else "all"
    return [
        click.Option(
            ["--selection"],
            metavar="NAME",
            help="Only these subjects: a kept selection, or those that a saved boundary keeps  "
            f"[default: {of_parents}]",
            hidden=not kind.is_of_subjects,
        ),
        click.Option(
            ["--top"],
            type=float,
            metavar="SHARE",
            help="Only this share of the subjects, those of highest anomaly score: 0.05 for 5 %. It is kept as a "
            "selection",
            hidden=not kind.is_of_subjects,
        ),
        click.Option(
            ["--of"],
            metavar="RUN",
            help="Score run whose top it is  [default: the newest]",
            hidden=not kind.is_of_subjects,
        ),
        click.Option(
            ["--everything"],
            is_flag=True,
            help="All of the survey, also where the runs to build on are of a selection: a network that was trained on "
            "few then scores all, those that it was not trained on as unseen",
            hidden=not kind.builds_on,
        ),
    ]


@click.group(cls=KindGroup, invoke_without_command=True, subcommand_metavar="KIND [OPTIONS]")
@click.argument("survey", type=SURVEY)
@click.pass_context
def run(ctx: click.Context, survey: Path) -> None:
    """Train, score or map SURVEY; without KIND, list the kinds."""
    ctx.obj = survey
    if ctx.invoked_subcommand is None:
        from explorer.kinds import kinds

        for kind in kinds().values():
            builds = f" (builds on {kind.builds_on_what})" if kind.builds_on else ""
            click.echo(f"{kind.name:12} {kind.title}{builds}")
        click.echo(f"\nvoorwerp run {survey} KIND --help lists the settings of one.")


def who() -> str:
    """The name that the ledger gets from the command line."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"user {os.getuid()}"


@contextlib.contextmanager
def job_service(path: Path, where: workers.Where | None = None) -> "Iterator[JobService]":
    """The survey's jobs; at the end those started here are interrupted, but for those that a cluster has."""
    from explorer.ledger import Ledger
    from explorer.services.jobs import JobService
    from explorer.survey import Survey

    survey = Survey.open(path)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        where = where or workers.Where()
        service = JobService(survey, ledger, scheduler=where.check(), workers=where.workers)
        try:
            yield service
        finally:
            service.stop()
            survey.close()


def run_kind(
    path: Path,
    kind: "Kind",
    values: dict[str, Any],
    parents: tuple[str, ...],
    asked: Whom,
    where: workers.Where,
) -> None:
    """Run one kind to its end, with live progress."""
    with job_service(path, where) as service:
        run_id = service.start(
            kind.name, values, parents, who(), selection=asked.name(service), everything=asked.everything
        )
        print_parents(service, run_id)
        follow(service, run_id)


def print_parents(service: "JobService", run_id: str) -> None:
    """What a run builds on and whom it is of, a line for each: most are chosen by themselves."""
    from explorer.services.jobs import find_run
    from explorer.services.runs import Runs, labels_of
    from explorer.services.selected import words_of
    from models.artifacts import Run

    path = find_run(service.survey, run_id)
    run = Run.read(path)
    lines = {line["run_id"]: line for line in Runs(service).listed()}
    for parent in run.inputs.values():
        if parent in lines:
            about = lines[parent]["about"].replace(" · ", ", ")
            click.echo(f"builds on {parent}" + (f" ({about})" if about else ""), err=True)
    for setting, words in labels_of(path.parent):
        click.echo(f"learns from {words} ({setting})", err=True)
    if run.selection is not None:
        click.echo(words_of(run, path.parent, service.survey.n), err=True)


def train_series(
    path: Path,
    values: dict[str, Any],
    parents: tuple[str, ...],
    weights: tuple[float, ...],
    n_seeds: int,
    asked: Whom,
    where: workers.Where,
) -> None:
    """Train with every λ and seed, score each, and compare the ranks."""
    from explorer.kinds import kind
    from explorer.services import series

    with job_service(path, where) as service:
        weights = weights or (kind("train").config().feature_weight,)
        of = asked.name(service)
        if asked.everything:
            raise UsageError("linked runs are of what is told by --selection or --top; leave out --everything")
        follow_series(service, series.plan(service, values, parents, weights, n_seeds, who(), selection=of))


def follow_series(service: "JobService", series: "Series") -> None:
    """Run what is not done of a series, with live progress; print how alike its runs rank.

    Raises
    ------
    JobError
        One of its runs did not end well. After a failure the others are still run.
    """
    from explorer.services.series import lambdas_of, runs_of, seeds_of, steps

    again = f"`voorwerp resume {service.survey.path} {series.series_id}`"
    click.echo(f"{series.series_id}: λ {lambdas_of(series)}; seeds {seeds_of(series)}")
    n_failed = 0
    for step in steps(service, series, who()):
        last = watch(service, step.run_id, series.series_id, step.heading)
        if last.state == "cancelled":
            raise JobError(f"{step.run_id} was cancelled; {again} goes on with the series")
        n_failed += last.state == "failed"
        words = f": {last.error}" if last.state == "failed" else ""
        click.echo(f"{step.heading}: {last.state}{words}")
        if last.kind == "train" and last.state == "done":
            if verdict := service.unsound(step.run_id).get(step.run_id):
                click.secho(f"  it was said of it: {verdict}", fg="yellow")
            print_caveats(service, step.run_id)
    ranked = [run.results for run in runs_of(service, series) if run.kind == "ranks" and run.state == "done"]
    if ranked:
        print_ranks(max(ranked, key=lambda results: results["n_runs"]))  # of all; it has the seeds of each λ, too
    trained = [run for run in reversed(runs_of(service, series)) if run.kind == "train" and run.state == "done"]
    if bad := [run for run in trained if service.unsound(run.run_id)]:
        names = "; ".join(f"λ = {run.config['feature_weight']:g}, seed {run.seed}" for run in bad)
        click.secho(f"{len(bad)} of {len(trained)} trainings did not train soundly: {names}", fg="yellow")
    if n_failed:
        raise JobError(f"{n_failed} of the runs of {series.series_id} failed; {again} tries them again")


def print_ranks(results: Mapping[str, Any]) -> None:
    """A table of how alike the runs rank, the subjects in the top 1 % of all, and those of the highest mean rank."""
    from rich.console import Console
    from rich.table import Table

    def row(name: str, found: Mapping[str, Any]) -> None:
        rho, n_fragile = found["spearman"], found.get("n_fragile")
        figures = "undefined" if rho is None else f"{rho:.3f}", f"{100 * found['top1_overlap']:.0f} %"
        table.add_row(name, *figures, "" if n_fragile is None else f"{n_fragile:,}")

    called = {
        run["run_id"]: run["setting"] + (f", seed {run['seed']}" if run["seed"] is not None else "")
        for run in results["runs"]
    }
    table = Table("runs", "Spearman", "same top 1 %", "fragile")
    pairs = sorted(results["pairs"], key=lambda pair: (pair["spearman"] is not None, pair["spearman"]))
    for pair in pairs[:MOST_PAIRS]:
        row(f"{called[pair['a']]} | {called[pair['b']]}", pair)
    table.add_section()
    for setting, found in results["over_seeds"].items():
        row(f"{setting}: mean over pairs of seeds", found)
    for seed, found in results["over_settings"].items():
        row(f"seed {seed}: mean over pairs of settings", found)
    console = Console()
    console.width = max(console.width, 100)
    console.print(table)
    if len(pairs) > MOST_PAIRS:
        click.echo(f"the {MOST_PAIRS} of {len(pairs):,} pairs that are least alike are shown; run.json has all")
    click.echo(
        f"{results['n_fragile']:,} of {results['n_subjects']:,} subjects are fragile over all {results['n_runs']} runs:"
        " in the top 1 % of some and not of all"
    )
    sure = results.get("highest_in_every_top", [])
    if "n_in_every_top" in results:  # older rankings do not tell
        more = results["n_in_every_top"] - len(sure)
        words = ", ".join(sure) + (f" and {more:,} more" if more else "")
        click.echo(f"in the top 1 % of every run: {words if sure else 'none'}")
    if others := [subject_id for subject_id in results["highest"] if subject_id not in sure]:
        click.echo(f"highest mean rank, less its spread{', of the others' if sure else ''}: {', '.join(others)}")


def follow(service: "JobService", run_id: str) -> None:
    """Show a job's progress until it is over, then its results.

    Raises
    ------
    JobError
        It did not end well.
    """
    from explorer.commands.findings import print_findings
    from explorer.services.jobs import find_run
    from models.findings import read_findings

    started = time.monotonic()
    last = watch(service, run_id, run_id)
    if last.state == "failed":
        raise JobError(last.error or f"{run_id} failed; see {service.survey.path}")
    if last.state == "cancelled":
        raise JobError(f"{run_id} was cancelled")
    click.echo(f"{run_id} done in {time.monotonic() - started:,.0f} s")
    print_caveats(service, run_id)
    if found := read_findings(find_run(service.survey, run_id).parent):
        print_findings(found)
    for name, value in last.results.items() if not found else ():
        if isinstance(value, (int, float, str)):
            click.echo(
                f"  {name.replace('_', ' ')}: {value:,.4g}" if isinstance(value, float) else f"  {name}: {value}"
            )
    if last.kind == "ranks":
        print_ranks(last.results)
    if last.kind == "sweep":
        from explorer.commands.sweeping import print_sweep

        print_sweep(service.survey.run_folder(run_id))


def print_caveats(service: "JobService", run_id: str) -> None:
    """A line where a training had fewer images than were asked for, and for each one behind the run that went wrong."""
    from explorer.services.jobs import find_run
    from models.artifacts import Run

    run = Run.read(find_run(service.survey, run_id))
    n_train, n_asked = run.results.get("n_train"), run.config.get("train_on")
    if n_train and n_asked and n_train < n_asked:
        click.secho(f"  trained on {n_train:,} images, fewer than the {n_asked:,} of train_on", fg="yellow")
    for training, verdict in service.unsound(run_id).items():
        if training != run_id:  # its own verdict is among its results
            click.secho(f"  built on {training}, of which it was said: {verdict}", fg="yellow")


def watch(service: "JobService", run_id: str, name: str, heading: str = "") -> "Job":
    """Show a job's progress until it is over; its last state. Ctrl-C stops it and says that `name` can be resumed.

    Raises
    ------
    JobError
        It was interrupted by something else.
    """
    hint = f"`voorwerp resume {service.survey.path} {name}` goes on with it"
    try:
        last = show_progress(service.follow(run_id), heading)
    except KeyboardInterrupt:
        at = service.job(run_id).resources.get("scheduler")
        service.stop()
        if at:
            click.echo(
                f"\n{run_id} goes on at {at}; `voorwerp jobs {service.survey.path}` shows how far it is, and with "
                f"--cancel {run_id} stops it",
                err=True,
            )
        else:
            click.secho(f"\n{run_id} is {service.job(run_id).state}; {hint}", fg="red", err=True)
        raise click.exceptions.Exit(130) from None
    if last.state == "interrupted":
        raise JobError(f"{run_id} was interrupted; {hint}")
    return last


def show_progress(jobs: "Iterator[Job]", heading: str = "") -> "Job":
    """A live bar on a terminal, elsewhere a line now and then; return the last state.

    Parameters
    ----------
    heading
        What stands before what the job says of itself; without it, its title where there is one line after another.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        said = None
        for last in jobs:
            tenth = last.done * 10 // last.total if last.total else 0
            if (last.message, tenth) != said:
                said = (last.message, tenth)
                click.echo(f"{heading or last.title}: {last.message} {words_of(last)}".rstrip(), err=True)
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
                    description=": ".join(filter(None, (heading, last.message or last.title))),
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
    if job.time_left and job.done < job.total:
        words.append(job.time_left)
    words += [f"{name.replace('_', ' ')} {value:,.4g}" for name, value in job.metrics.items() if value is not None]
    return ", ".join(words)


@click.command()
@click.argument("survey", type=SURVEY)
def labels(survey: Path) -> None:
    """List what runs of SURVEY can learn from: campaigns that are told, columns of classes, votes."""
    from explorer.services.labels import sources
    from explorer.survey import counted

    with job_service(survey) as service:
        found = sources(service.survey, service.ledger)
    if not found:
        click.echo(f"{survey} has no labels yet; grade a campaign and close it, or join a column of classes")
    width = max((len(source.text) for source in found), default=0)
    for source in found:
        click.echo(f"{source.text:{width}}  {source.title}: {counted(source.n, 'subject')}")


@click.command()
@click.argument("survey", type=SURVEY)
@click.argument("run_id", metavar="[RUN]", required=False)
@workers.with_workers
def resume(survey: Path, run_id: str | None, where: workers.Where) -> None:
    """Go on with a run or a series that was interrupted, cancelled or failed.

    RUN may be left out where only one is interrupted.
    """
    from explorer.services.series import planned

    with job_service(survey, where) as service:
        run_id = run_id or only_interrupted(service)
        series = planned(service.ledger).get(run_id)
        if series is not None:
            follow_series(service, series)
            return
        match service.job(run_id).state:
            case "done":
                click.echo(f"{run_id} is done; there is nothing to go on with")
            case "pending" | "running" as state:
                at = service.job(run_id).resources.get("scheduler")
                raise JobError(
                    f"{run_id} is {state} {f'at {at}' if at else 'in another process'}; "
                    f"`voorwerp jobs {survey}` shows how far it is"
                )
            case _:
                service.resume(run_id, who())
                follow(service, run_id)


def only_interrupted(service: "JobService") -> str:
    """The one run, or the one series, that is interrupted.

    Raises
    ------
    UsageError
        None is, or several are.
    """
    from explorer.services.series import state_of

    series_of = {run.run_id: run.series for run in service.survey.runs(state=None)}
    linked: dict[str, list[Job]] = {}
    for job in service.list():
        linked.setdefault(series_of.get(job.run_id) or job.run_id, []).append(job)
    found = [
        name
        for name, jobs in linked.items()
        if (state_of(jobs) if series_of.get(jobs[0].run_id) else jobs[0].state) == "interrupted"
    ]
    if len(found) != 1:
        words = f"{' and '.join(found)} are interrupted; name one" if found else "nothing is interrupted; name a run"
        raise UsageError(f"{words}: `voorwerp resume {service.survey.path} RUN`")
    return found[0]


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--cancel", metavar="RUN", help="Stop this run, or all of this series, for good.")
@click.option("--delete", metavar="RUN", help="Remove this run and its files; asks for its name once more.")
@click.option("--yes-delete", metavar="RUN", help="Its name once more, where nobody can be asked.")
@workers.with_workers
def jobs(survey: Path, cancel: str | None, delete: str | None, yes_delete: str | None, where: workers.Where) -> None:
    """List the runs and maps of SURVEY, newest first; stop one, or delete one."""
    with job_service(survey, where) as service:
        if cancel:
            for run_id in to_cancel(service, cancel):
                service.cancel(run_id, who())
                click.echo(f"{run_id} is cancelled")
            return
        if delete or yes_delete:
            delete_run(service, delete or str(yes_delete), yes_delete)
            return
        rows = list(listed(service))
        if not rows:
            click.echo(f"{survey} has no runs yet; `voorwerp run {survey} train` starts the first")
        widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
        for row in rows:
            click.echo(
                "  ".join([*(f"{word:{width}}" for word, width in zip(row, widths, strict=False)), row[3]]).rstrip()
            )


def to_cancel(service: "JobService", name: str) -> list[str]:
    """The run of this name, or those of the series of this name that are not over.

    Raises
    ------
    JobError
        None of the series is.
    """
    of_series = {run.run_id for run in service.survey.runs(state=None) if run.series == name}
    if not of_series:
        return [name]
    found = [job.run_id for job in service.list() if job.run_id in of_series and job.state in STOPPABLE]
    if not found:
        raise JobError(f"all runs of {name} are over; there is nothing to cancel")
    return sorted(found, reverse=True)  # who waits before who is at work, so that none begins


def delete_run(service: "JobService", run_id: str, told: str | None) -> None:
    """Remove a run whose name was told twice.

    Raises
    ------
    UsageError
        The second name is another one.
    """
    from explorer.services.jobs import find_run

    folder = find_run(service.survey, run_id).parent
    told = told or click.prompt(f"{folder} is removed with all its files; type {run_id} to go on", err=True)
    if told != run_id:
        raise UsageError(f'"{told}" is not {run_id}; nothing was deleted')
    service.delete(run_id, who())
    click.echo(f"{run_id} is deleted")


def listed(service: "JobService") -> "Iterator[tuple[str, str, str, str]]":
    """Id, state, what sets it apart and how far it is, of every run; the runs of a series below it."""
    from explorer.services.runs import Runs
    from explorer.services.series import lambdas_of, planned, seeds_of, state_of

    plans = planned(service.ledger)
    found = service.list()
    lines = {line["run_id"]: line for line in Runs(service).listed()}
    seen = set()
    for job in found:
        series = lines[job.run_id]["series"]
        if series is None:
            yield (job.run_id, job.state, what_differs(lines, job.run_id), words_on(job))
        elif series not in seen:
            seen.add(series)
            linked = [one for one in found if lines[one.run_id]["series"] == series]
            about = f"λ {lambdas_of(plans[series])} · seeds {seeds_of(plans[series])}" if series in plans else ""
            yield (series, state_of(linked), about, "")
            for one in linked:
                yield (f"  {one.run_id}", one.state, what_differs(lines, one.run_id), words_on(one))


def what_differs(lines: Mapping[str, Mapping[str, Any]], run_id: str) -> str:
    """λ, seed, and what is not the same in all runs of the kind: ``λ 0.2 · seed 1234 · width 32``."""
    kind, about = lines[run_id]["kind"], lines[run_id]["about"].split(" · ")
    of = [lines[run_id]["of"]] if lines[run_id]["of"] else []
    others = [set(line["about"].split(" · ")) for line in lines.values() if line["kind"] == kind]
    if len(others) == 1:
        return " · ".join(about[:3] + of)
    same = set.intersection(*others)
    return " · ".join([word for word in about if word not in same or word.startswith(("λ ", "seed "))] + of)


def words_on(job: "Job") -> str:
    """How far a job is and where, or what went wrong; who started it, where that is somebody else."""
    by = f"by {job.started_by}" if job.started_by not in ("", who()) else ""
    if job.state == "done":
        return by
    said = job.error if job.state == "failed" else f"{job.message} {words_of(job)}".strip()
    return " · ".join(filter(None, (said, place_of(job), by)))


def place_of(job: "Job") -> str:
    """Where a job is at work, and what it takes there: ``on ada3, 2 workers, cuda:0 H100, 3,120 MB``."""
    if job.state != "running":
        return ""
    host, n = job.resources.get("host"), job.resources.get("workers")
    memory = "" if job.memory is None else f"{job.memory:,.0f} MB"
    return ", ".join(filter(None, (f"on {host}" if host else "", f"{n} workers" if n else "", job.device, memory)))
