"""``voorwerp index``: what a large map is drawn from, made beforehand."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from explorer.commands import workers
from explorer.commands.running import SURVEY

if TYPE_CHECKING:
    from explorer.services.cluster import DaskPool, Scheduler
    from explorer.survey import Survey


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--map", "map_id", metavar="MAP", help="Of this map  [default: the one that the app opens with]")
@click.option("--run", "run_id", metavar="RUN", help="With the scores of this run  [default: likewise]")
@click.option(
    "--out-of-core",
    is_flag=True,
    help="In parts, which --memory bounds, and not in memory; so, too, with --workers or --scheduler",
)
@click.option(
    "--memory",
    type=click.FloatRange(0.1),
    default=2.0,
    metavar="GB",
    show_default=True,
    help="What the parts that are in hand may take together",
)
@partial(workers.with_workers, work="the parts  [default: threads of this process]")
def index(
    survey: Path, map_id: str | None, run_id: str | None, out_of_core: bool, memory: float, where: workers.Where
) -> None:
    """Sort a map of SURVEY into cells, so that the app opens it at once.

    The app does this by itself for a map of more than a million subjects when it is first looked at. The index lies in
    SURVEY/maps/MAP/index, with the run's scores in the same order, and may be deleted at any time.
    """
    from explorer.cells import NoIndexError
    from explorer.commands.exporting import as_the_app
    from explorer.errors import UsageError
    from explorer.services.explore import SCORES, Explore
    from explorer.services.shards import of_map
    from explorer.survey import Survey

    scheduler = where.check()
    in_parts = out_of_core or scheduler is not None or where.workers is not None
    opened = Survey.open(survey)
    try:
        explore = Explore(opened)
        run, chosen, _, _ = as_the_app(explore, run_id, map_id, None, None)
        if not chosen:
            raise UsageError(f"{survey} has no finished map to make an index of; `voorwerp run map {survey}` makes one")
        began = time.monotonic()
        names = [name for name in explore.indices.score_names(run) if name in SCORES] if run else []
        with bar(f"{chosen}: ") as tell:
            try:
                found = explore.indices.open(chosen)
            except NoIndexError:
                if in_parts:
                    columns = [(run, name) for name in names]
                    with pool_of(opened, chosen, scheduler, where.workers) as pool:
                        found = of_map(explore.indices, chosen, columns, pool, memory=int(memory * 1e9), progress=tell)
                else:
                    found = explore.indices.make(chosen, tell)
        if found.folder is None:
            raise UsageError(f"nothing can be written into {opened.map_folder(chosen)}")
        n_bytes = sum(file.stat().st_size for file in found.folder.glob("*.npy"))
        click.echo(
            f"{chosen}: {len(found):,} subjects in {found.grid:,} × {found.grid:,} cells, {n_bytes / 1e6:,.1f} MB, "
            f"{time.monotonic() - began:.1f} s"
        )
        for name in names:
            explore.indices.score(found, run, name)
        if names:
            click.echo(f"with {', '.join(names)} of {run}; {time.monotonic() - began:.1f} s in all")
    finally:
        opened.close()


@contextmanager
def pool_of(
    survey: "Survey", map_id: str, scheduler: "Scheduler | None", n_workers: int | None
) -> "Iterator[DaskPool | None]":
    """Who does the parts of a map's index: a team's workers, processes of this machine, or this process alone."""
    from explorer import code_version
    from explorer.services.cluster import DaskPool, LocalWorkers, TeamWorkers
    from explorer.services.shards import KIND_PATH

    if scheduler is None and n_workers is None:
        yield None
        return
    folder = survey.map_folder(map_id)
    attempt = next(one.attempt for one in survey.maps() if one.run_id == map_id)
    shared: LocalWorkers | TeamWorkers = LocalWorkers(n_workers or 1) if scheduler is None else TeamWorkers(scheduler)
    pool = DaskPool(shared, folder.absolute(), attempt, KIND_PATH, None if scheduler is None else code_version())
    try:
        yield pool
    finally:
        pool.close()


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
