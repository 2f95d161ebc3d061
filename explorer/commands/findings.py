"""``voorwerp findings``: what a run found, as the command line tells it: sentences, caveats, tables and matrices."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from explorer.errors import JobError

if TYPE_CHECKING:
    from rich.table import Table

WIDTH, WIDE = 100, 240  # characters at least: on a terminal, and where there is none
DECIMALS = 4  # at most


@click.command()
@click.argument("survey", type=click.Path(path_type=Path))
@click.argument("run_id", metavar="[RUN]", required=False)
def findings(survey: Path, run_id: str | None) -> None:
    """Print again what a run of SURVEY found: the newest that found anything, unless RUN is told."""
    from explorer.services.jobs import find_run
    from explorer.survey import Survey
    from models.findings import read_findings

    opened = Survey.open(survey)
    try:
        newest = sorted(opened.runs(state=None), key=lambda run: (run.created_at, run.run_id), reverse=True)
        for name in [run_id] if run_id else [run.run_id for run in newest]:
            if found := read_findings(find_run(opened, name).parent):
                click.echo(name)
                print_findings(found)
                return
    finally:
        opened.close()
    said = f"{run_id} has found nothing" if run_id else f"no run of {survey} has found anything"
    raise JobError(f"{said} that can be printed; runs that learn from labels do")


def print_findings(found: Mapping[str, Any]) -> None:
    """Sentences, caveats, then tables and matrices; curves are for the page of runs."""
    from rich.console import Console

    console = Console()
    console.width = max(console.width, WIDTH if console.is_terminal else WIDE)
    for sentence in found["sentences"]:
        click.echo(f"  {plain(sentence)}")
    for caveat in found["caveats"]:
        click.secho(f"  {plain(caveat)}", fg="yellow")
    for told in found["tables"]:
        show(console, told["title"], table_of(told["columns"], told["rows"]), told["note"])
    for told in found["matrices"]:
        rows = [[name, *counts] for name, counts in zip(told["rows"], told["counts"], strict=False)]
        show(console, told["title"], table_of(["", *told["columns"]], rows), told["note"])


def show(console: Any, title: str, table: "Table", note: str) -> None:
    """A table below its title, and above its note."""
    click.secho(f"\n{plain(title)}", bold=True)
    console.print(table)
    if note:
        click.echo(plain(note))


def table_of(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> "Table":
    """Numbers of a column with as many decimals, on the right; texts on the left."""
    from rich.table import Table
    from rich.text import Text

    table = Table()
    numbers = [[row[j] for row in rows if isinstance(row[j], int | float)] for j in range(len(columns))]
    for name, values in zip(columns, numbers, strict=True):
        table.add_column(Text(plain(name)), justify="right" if values else "left", overflow="fold")
    decimals = [max(map(decimals_of, values), default=0) for values in numbers]
    for row in rows:
        table.add_row(*(Text(spelled(value, n)) for value, n in zip(row, decimals, strict=True)))
    return table


def decimals_of(value: float) -> int:
    """How many decimals a number has, of four digits."""
    _, _, after = f"{value:.4g}".partition(".")
    return min(DECIMALS, len(after)) if after.isdigit() else 0


def spelled(value: Any, decimals: int) -> str:
    """A cell as text; a number that is missing is a dash."""
    if isinstance(value, str):
        return plain(value)
    if value is None:
        return "–"
    is_plain = value == 0 or 0.001 <= abs(value) < 1e6
    return f"{value:,.{decimals}f}" if is_plain else f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def plain(text: str) -> str:
    """Text without what a terminal would obey: names of classes come from outside."""
    return "".join(c if c.isprintable() else " " for c in str(text))
