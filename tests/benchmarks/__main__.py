"""``python -m tests.benchmarks [--only NAME] [--long]``: one table, one JSON file under ``.bench/``.

Every module of this package that has ``ROWS`` (name → function that returns a `Row` or a list of them) is a row group;
``LONG_ROWS`` are those that need training, many kills or more than ten minutes. Each function runs in a process of its
own, so that one row's memory and threads are not the next one's. The exit code is 1 when a row failed.
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
from rich.table import Table

from tests import benchmarks
from tests.benchmarks.row import Row

ROOT = Path(__file__).parents[2]
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
    """(group, name) of the rows to run: all, those of the group `only`, or the row `only`."""
    known = groups(long=long)
    rows = [(group, name) for group in known for name in known[group] if only in (None, group, name)]
    if not rows:
        names = sorted({*known, *(name for group in known.values() for name in group)})
        raise click.UsageError(f'there is no benchmark row "{only}"; there are {", ".join(names)}')
    return rows


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


def figure(value: float) -> str:
    """Three digits that count: 0.0123, 4.56, 1,230."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def table(rows: list[Row], failures: dict[str, str]) -> Table:
    """The table that a person reads."""
    view = Table(title="ratio > 1: ours is better", title_justify="left")
    for column in ("row", "what", "ours", "alternative", "", "ratio", "held to"):
        view.add_column(column, justify="right" if column in ("ours", "ratio", "held to") else "left", overflow="fold")
    for row in rows:
        held = "" if row.target is None else f"≥ {row.target:g}" + ("" if row.ratio >= row.target else " missed")
        what = f"{row.what}; {row.note}" if row.note else row.what
        theirs = f"{figure(row.theirs)} {row.unit}"
        ours = f"{figure(row.ours)} {row.unit}"
        view.add_row(row.name, what, ours, theirs, row.alternative, f"{figure(row.ratio)}×", held)
    for name, reason in failures.items():
        view.add_row(name, f"[red]failed: {reason}[/red]", "", "", "", "", "")
    return view


def answer_one(group: str, name: str, answer: Path, *, long: bool) -> None:
    """In the row's own process: run its function and leave the rows in `answer`."""
    rows = groups(long=long)[group][name]()
    rows = rows if isinstance(rows, list) else [rows]
    answer.write_text(json.dumps([asdict(row) for row in rows]))


@click.command()
@click.option("--only", metavar="NAME", help="One row group, or one row.")
@click.option("--long", is_flag=True, help="The long rows instead.")
@click.option("--row", nargs=2, hidden=True)
@click.option("--answer", type=click.Path(path_type=Path), hidden=True)
def main(only: str | None, long: bool, row: tuple[str, str] | None, answer: Path | None) -> None:
    """Measure ours beside named alternatives."""
    if row and answer:
        answer_one(*row, answer, long=long)
        return
    todo = chosen(only, long=long)
    began, started = datetime.now(UTC), time.monotonic()
    record: dict[str, Any] = {
        "started_at": began.isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": {name: version(name) for name in PACKAGES},
    }
    console = Console(width=None if sys.stdout.isatty() else 160)
    rows: list[Row] = []
    failures: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-") as folder:
        for group, name in todo:
            console.print(f"{group}: {name} …", style="dim")
            measured, reason = run(group, name, long=long, folder=Path(folder))
            rows += measured
            if reason:
                failures[name] = reason
    console.print(table(rows, failures))
    seen = record["machine"]
    console.print(
        f"{seen['cpu']}, {seen['cores']} cores, {seen['memory_gib']} GiB, {seen['os']}; commit {record['commit']}"
    )
    record |= {"seconds": round(time.monotonic() - started, 1), "rows": [asdict(r) for r in rows], "failures": failures}
    path = ROOT / ".bench" / f"{began:%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
    console.print(f"{path.relative_to(ROOT)} written")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
