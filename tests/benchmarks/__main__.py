"""``python -m tests.benchmarks [--only NAMES] [--long]``: the dashboard, and one JSON file under ``.bench/``.

``python -m tests.benchmarks --compare [RUN]``: what changed between the last kept run and those before, or `RUN`.

Every module of this package that has ``ROWS`` (name → function that returns a `Row` or a list of them) is a row group;
``LONG_ROWS`` are those that need training, real images, other programs, many kills, 100 million subjects or only time.
Each function runs in a process of its own, so that one row's memory and threads are not the next one's. The exit code
is 1 when a row failed.
"""

import importlib
import json
import os
import pkgutil
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tests import benchmarks
from tests.benchmarks.dashboard import (
    cells,
    compare_table,
    earlier,
    figure,
    markdown,
    read_rows,
    records,
    scale_table,
    table,
)
from tests.benchmarks.row import Row

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".bench"
LEARNING = ("torch", "scikit-learn", "umap-learn")
SCREEN = ("datashader", "holoviews", "bokeh", "panel")
PACKAGES = ("voorwerp", "numpy", "pandas", "pyarrow", "zarr", "pillow", "numba", *LEARNING, *SCREEN)
LIMIT_S = {False: 600, True: 6 * 3600}


def groups(*, long: bool) -> dict[str, dict[str, Callable[[], Row | list[Row]]]]:
    """Row groups by file name, each name → function."""
    found = {}
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name != "__main__":
            rows = getattr(
                importlib.import_module(f"tests.benchmarks.{module.name}"), "LONG_ROWS" if long else "ROWS", {}
            )
            if rows:
                found[module.name] = rows
    return found


def chosen(only: str | None, *, long: bool) -> list[tuple[str, str]]:
    """(group, name) of the rows to run: all, or the groups and rows that `only` names, with commas between."""
    known = groups(long=long)
    names = sorted({*known, *(name for group in known.values() for name in group)})
    asked = only.split(",") if only else None
    for name in asked or ():
        if name not in names:
            raise click.UsageError(f'there is no benchmark row "{name}"; there are {", ".join(names)}')
    return [
        (group, name) for group in known for name in known[group] if asked is None or group in asked or name in asked
    ]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "cpu": model,
        "cores": len(affinity(0)) if affinity else os.cpu_count(),
        "memory_gib": round(memory_gib, 1),
        "os": platform.platform(),
        "python": platform.python_version(),
        "load_at_start": os.getloadavg()[0],
    }


def commit() -> str:
    """The git commit, with "+" where files were changed since; "unknown" outside a clone."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty=+"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def run(group: str, name: str, *, long: bool, folder: Path) -> tuple[list[Row], str | None]:
    """Run one row's function in its own process: its rows, or the reason why there are none."""
    answer = folder / f"{group}.{name}.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--row", group, name, "--answer", str(answer)]
    try:
        code = subprocess.run(
            command + ["--long"] * long, cwd=ROOT, check=False, timeout=LIMIT_S[long], stdin=subprocess.DEVNULL
        ).returncode
    except subprocess.TimeoutExpired:
        return [], f"not finished within {LIMIT_S[long]} s"
    if code or not answer.exists():
        return [], f"exit code {code}"
    return [Row(**row) for row in json.loads(answer.read_text())], None


def answer_one(group: str, name: str, answer: Path, *, long: bool) -> None:
    """In the row's own process: run its function and leave the rows in `answer`."""
    rows = groups(long=long)[group][name]()
    rows = rows if isinstance(rows, list) else [rows]
    answer.write_text(json.dumps([asdict(row) for row in rows]))


def compare(run: str) -> None:
    """Print what changed: between the last kept run ("last") and those before it, or between `run` and the last.

    Raises
    ------
    click.UsageError
        There is no such run, or nothing to compare.
    """
    kept = records(KEPT)
    if not kept:
        raise click.UsageError(f"no run is kept in {KEPT}")
    newest = kept[-1]
    if run != "last":
        kept = [record for record in kept if record["name"] == Path(run).stem]
        if not kept:
            raise click.UsageError(f'there is no run "{run}" in {KEPT}')
    changes = earlier(newest, kept)
    if not changes:
        raise click.UsageError(f"{newest['name']} has no row that was kept before")
    console().print(compare_table(newest, changes))


def last_of_each() -> str:
    """The map at any scale as Markdown: each row as it was last kept, with when and at which commit those were."""
    rows: dict[str, Row] = {}
    runs = set()
    for record in records(KEPT):
        found = {row.name: row for row in read_rows(record)}
        if cells(found.values()) != cells([]):
            runs.add(f"{record['name']} at {record['commit'][:8]}, load {record['machine']['load_at_start']:.1f}")
        rows |= found
    return markdown(cells(rows.values())) + "\n\n" + "; ".join(sorted(runs))


def console() -> Console:
    """As wide as the terminal, or 160 columns where there is none."""
    return Console(width=None if sys.stdout.isatty() else 160)


def expected(todo: list[tuple[str, str]]) -> float:
    """Seconds that the rows took when they were last run; those that never were are not counted."""
    seconds: dict[str, float] = {}
    for record in records(KEPT):
        seconds |= record.get("seconds_by_row", {})
    return sum(seconds.get(name, 0.0) for _, name in todo)


@click.command()
@click.option("--only", metavar="NAMES", help="Row groups or rows, with commas between.")
@click.option("--long", is_flag=True, help="The long rows instead.")
@click.option(
    "--compare",
    "run_to_compare",
    metavar="[RUN]",
    is_flag=False,
    flag_value="last",
    help="Print the change since the kept runs before, or since RUN.",
)
@click.option("--scale", "show", is_flag=True, help="Print the map at any scale as Markdown, of the rows last kept.")
@click.option("--row", nargs=2, hidden=True)
@click.option("--answer", type=click.Path(path_type=Path), hidden=True)
def main(
    only: str | None,
    long: bool,
    run_to_compare: str | None,
    show: bool,
    row: tuple[str, str] | None,
    answer: Path | None,
) -> None:
    """Measure ours beside named alternatives."""
    if row and answer:
        answer_one(*row, answer, long=long)
        return
    if show:
        click.echo(last_of_each())
        return
    if run_to_compare:
        compare(run_to_compare)
        return
    todo = chosen(only, long=long)
    began, started = datetime.now(UTC), time.monotonic()
    record: dict[str, Any] = {
        "started_at": began.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": {name: version(name) for name in PACKAGES},
    }
    screen = console()
    if known := expected(todo):
        screen.print(f"{len(todo)} row functions, {known / 60:.0f} min when last run", style="dim")
    rows: list[Row] = []
    failures: dict[str, str] = {}
    seconds: dict[str, float] = {}
    load: dict[str, float] = {}
    path = KEPT / f"{began:%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-") as folder:
        for group, name in todo:
            screen.print(f"{group}: {name} …", style="dim")
            row_began, load[name] = time.monotonic(), round(os.getloadavg()[0], 1)
            measured, reason = run(group, name, long=long, folder=Path(folder))
            seconds[name] = round(time.monotonic() - row_began, 1)
            rows += measured
            if reason:
                failures[name] = reason
            told = {"rows": [asdict(r) for r in rows], "failures": failures, "scale": cells(rows)}
            spent = {"seconds": round(time.monotonic() - started, 1), "seconds_by_row": seconds, "load_by_row": load}
            path.write_text(json.dumps(record | spent | told, indent=2) + "\n")  # a run that is stopped is kept, too
    screen.print(table(rows, failures))
    if at_any_scale := scale_table(rows):
        screen.print(at_any_scale)
    kept = records(KEPT)
    this = next(found for found in kept if found["name"] == path.stem)
    if changed := [c for c in earlier(this, kept) if c[1].verdict != "within noise"]:
        screen.print(compare_table(this, changed))
    missed = [row.name for row in rows if row.is_met is False]
    screen.print(f"{len(rows)} rows, {len(missed)} missed{': ' if missed else ''}{', '.join(missed)}")
    slowest = sorted(seconds, key=seconds.__getitem__, reverse=True)[:5]
    screen.print(
        f"{sum(seconds.values()) / 60:.1f} min; the longest: "
        + ", ".join(f"{name} {figure(seconds[name])} s" for name in slowest)
    )
    seen = record["machine"]
    screen.print(
        f"{seen['cpu']}, {seen['cores']} cores, {seen['memory_gib']} GiB, {seen['os']}; commit {record['commit']}"
    )
    screen.print(f"{path.relative_to(ROOT)} written")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
