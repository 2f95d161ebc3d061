"""``voorwerp report``: a page for a paper's supplement, its figures and the numbers behind them."""

from pathlib import Path
from typing import Literal

import click

from explorer.commands.exporting import LAMBDA, LAMBDA_MODE, as_the_app
from explorer.commands.running import SURVEY, who
from explorer.errors import UsageError

FORMS = ("png", "pdf", "svg")


def _forms(_: click.Context, __: click.Parameter, text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip()))
    if not found or set(found) - set(FORMS):
        raise UsageError(f'--figures is "{text}"; write some of {", ".join(FORMS)}, with commas between them')
    return found


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--boundary", "name", metavar="NAME", help="The saved boundary that it is about.  [default: none]")
@click.option("--version", "number", type=click.IntRange(1), metavar="N", help="Its version.  [default: the newest]")
@click.option("--run", "run_id", metavar="RUN", help="Whose scores.  [default: the boundary's, else as the app]")
@click.option("--map", "map_id", metavar="MAP", help="The map.  [default: the boundary's, else as the app]")
@LAMBDA
@LAMBDA_MODE
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where to; an earlier report there is replaced.  [default: SURVEY_report, here]",
)
@click.option(
    "--figures", "forms", default="png,pdf", show_default=True, callback=_forms, help="Formats of the figures' files."
)
@click.option("--quick", is_flag=True, help="Fewer thresholds and repetitions.")
def report(
    survey: Path,
    name: str | None,
    number: int | None,
    run_id: str | None,
    map_id: str | None,
    lambda_: float | None,
    mode: Literal["raw", "standardised"] | None,
    out: Path | None,
    forms: tuple[str, ...],
    quick: bool,
) -> None:
    """Write a report of SURVEY and a boundary: one HTML page, its figures, and the numbers behind them as CSV.

    The study's figures 2 to 6, S5 and S11 remade from this survey, what the boundary is worth and what it throws away,
    what the scores go along with, and where everything came from. What this survey lacks for a figure is said in its
    place. Without --boundary it is of the survey alone.
    """
    if number is not None and name is None:
        raise UsageError("--version goes with --boundary")
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    from explorer.services.boundaries import Context
    from explorer.services.report import Options, check_out, opened
    from explorer.services.report import report as write

    out = out if out is not None else Path(f"{survey.absolute().name}_report")
    check_out(out)
    with opened(survey) as desk:
        saved = desk.boundaries.get(name, number) if name is not None else None
        if saved is not None:
            mine = saved.context
            run_id, map_id = run_id or mine.run_id or None, map_id or mine.map_id or None
            lambda_, mode = mine.lambda_ if lambda_ is None else lambda_, mode or mine.mode
        context = Context(*as_the_app(desk.explore, run_id, map_id, lambda_, mode))
        making = write(desk, saved.draft if saved else None, context, out, Options(forms, quick, who=who()))
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=None)
            while True:
                try:
                    now = next(making)
                except StopIteration as done:
                    page = done.value
                    break
                bar.update(task, description=now.message, completed=now.done, total=now.total)
    click.echo(f"{page} written")
    if name is None:
        click.echo("it is of the survey alone; name a saved boundary with --boundary to have its numbers in it")
