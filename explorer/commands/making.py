"""``voorwerp create`` and ``check``: a survey folder is made and looked over."""

import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from explorer.errors import SurveyError, UsageError

if TYPE_CHECKING:
    from models.progress import Progress

SURVEY = click.Path(path_type=Path)


@click.command()
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


@click.command()
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
