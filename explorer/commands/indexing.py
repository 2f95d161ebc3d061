"""``voorwerp index``: what a large map is drawn from, made beforehand."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from explorer.commands.running import SURVEY


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--map", "map_id", metavar="MAP", help="Of this map  [default: the one that the app opens with]")
@click.option("--run", "run_id", metavar="RUN", help="With the scores of this run  [default: likewise]")
def index(survey: Path, map_id: str | None, run_id: str | None) -> None:
    """Sort a map of SURVEY into cells, so that the app opens it at once.

    The app does this by itself for a map of more than 2 million subjects when it is first looked at. The index lies in
    SURVEY/maps/MAP/index, with the run's scores in the same order, and may be deleted at any time.
    """
    from explorer.cells import NoIndexError
    from explorer.commands.exporting import as_the_app
    from explorer.errors import UsageError
    from explorer.services.explore import SCORES, Explore
    from explorer.survey import Survey

    opened = Survey.open(survey)
    try:
        explore = Explore(opened)
        run, chosen, _, _ = as_the_app(explore, run_id, map_id, None, None)
        if not chosen:
            raise UsageError(f"{survey} has no finished map to make an index of; `voorwerp run map {survey}` makes one")
        began = time.monotonic()
        with bar(f"{chosen}: ") as tell:
            try:
                found = explore.indices.open(chosen)
            except NoIndexError:
                found = explore.indices.make(chosen, tell)
        if found.folder is None:
            raise UsageError(f"nothing can be written into {opened.map_folder(chosen)}")
        n_bytes = sum(file.stat().st_size for file in found.folder.glob("*.npy"))
        click.echo(
            f"{chosen}: {len(found):,} subjects in {found.grid:,} × {found.grid:,} cells, {n_bytes / 1e6:,.1f} MB, "
            f"{time.monotonic() - began:.1f} s"
        )
        names = [name for name in explore.indices.score_names(run) if name in SCORES] if run else []
        for name in names:
            explore.indices.score(found, run, name)
        if names:
            click.echo(f"with {', '.join(names)} of {run}; {time.monotonic() - began:.1f} s in all")
    finally:
        opened.close()


@contextmanager
def bar(title: str) -> "Iterator[Callable[[float], None]]":
    """A bar on a terminal, nothing elsewhere; yields what is told the share that is done."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    console = Console(stderr=True)
    columns = [TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn()]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(title, total=1.0)
        yield lambda share: shown.update(task, completed=share)
