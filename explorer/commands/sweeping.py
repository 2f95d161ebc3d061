"""What ``voorwerp run SURVEY sweep`` prints: a short table of rates along Σ, or along a limit."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

MOST_ROWS = 12  # of a sweep; sweep.parquet has all
RATES = {"precision": "precision", "recall": "recall", "f1": "F1", "kept": "kept"}


def print_sweep(folder: Path) -> None:
    """Print the sweep in a run's folder, thinned out, with what must be said beside it."""
    import numpy as np
    import pyarrow.parquet as pq
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from explorer.services.sweeping import ABOUT, TABLE

    about, rows = json.loads((folder / ABOUT).read_bytes()), pq.read_table(folder / TABLE).to_pylist()
    half = "the tune half" if about["half"] == "tune" else "all subjects: the survey has no halves"
    simulated = "simulated votes: " if about["is_simulated"] else ""
    click.echo(f"{simulated}{about['boundary']}, version {about['version']}, of {half} ({about['n']:,} subjects)")
    click.echo(f"truth: {about['truth_title']}, {about['truth_kind']}; {about['note']}")
    if about["circular"]:
        shared = ", ".join(about["circular"])
        click.secho(f"circular: boundary and truth share {shared}, so rates say less than they seem to", fg="yellow")
    console = Console(width=None if Console().is_terminal else 160, highlight=False)
    for moved in about["moved"]:
        title = f"{moved['title']} ≥" if moved["limit"] is None else f"{moved['limit']} limit of {moved['title']}"
        for counted in dict.fromkeys(row["counted"] for row in rows):
            mine = [row for row in rows if row["moved"] == moved["name"] and row["counted"] == counted]
            if not mine:
                continue
            table = Table(escape(title), *RATES.values(), "right, of known", title_justify="left")
            table.title = escape(f"{counted} [95 %]")
            at = np.unique(np.rint(np.linspace(0, len(mine) - 1, min(len(mine), MOST_ROWS))).astype(int))
            for i in at:
                row = mine[i]
                rates = [spelled(row, name) for name in RATES]
                table.add_row(f"{row['at']:.6g}", *(escape(rate) for rate in rates), of_known(row, "base"))
            console.print(table)
            troubles = dict.fromkeys(row["trouble"] for row in mine if row["trouble"])
            for trouble in list(troubles)[:3]:
                click.secho(trouble, fg="yellow")
    for note in about["notes"]:
        click.echo(f"note: {note}")
    click.echo(f"all {len(rows):,} rows are in {folder / TABLE}")


def spelled(row: Mapping[str, Any], name: str) -> str:
    """``.123 [.101, .152] 12 of 98``, or a dash."""
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    if value is None:
        return "–"
    interval = "" if low is None or high is None else f" [{_short(low)}, {_short(high)}]"
    return f"{_short(value)}{interval} {of_known(row, name)}"


def of_known(row: Mapping[str, Any], name: str) -> str:
    """``12 of 98``; a sum of probabilities has a decimal."""
    if row[f"{name}_k"] is None:
        return "–"
    k, n = (f"{x:,.0f}" if float(x).is_integer() else f"{x:,.1f}" for x in (row[f"{name}_k"], row[f"{name}_n"]))
    return f"{k} of {n}"


def _short(share: float) -> str:
    return f"{share:.3f}".removeprefix("0") if share < 1 else f"{share:.2f}"
