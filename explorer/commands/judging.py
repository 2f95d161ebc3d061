"""``voorwerp judge``: how well the scores of finished runs find a class that is known."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from explorer.commands.running import SURVEY, Lambda, who

if TYPE_CHECKING:
    from explorer.services.judging import Verdict


@click.command()
@click.argument("survey", type=SURVEY)
@click.argument("column")
@click.argument("values", nargs=-1, required=True)
@click.option("--run", "run_ids", multiple=True, metavar="RUN", help="A score run; may be repeated  [default: all].")
@click.option(
    "--lambda",
    "lambdas",
    type=Lambda(),
    default="0.2,0.5,0.8",
    show_default=True,
    metavar="LIST",
    help="λ of the anomaly score.",
)
@click.option("--standardised", is_flag=True, help="λ mixes the scores standardised by median and MAD.")
@click.option(
    "--half",
    type=click.Choice(["tune", "test", "all"]),
    default="tune",
    show_default=True,
    help="The half of the survey to judge on. Look at test last, and seldom.",
)
def judge(
    survey: Path,
    column: str,
    values: tuple[str, ...],
    run_ids: tuple[str, ...],
    lambdas: tuple[float, ...],
    standardised: bool,
    half: str,
) -> None:
    """Judge the scores of SURVEY by how early they bring the subjects whose COLUMN has one of VALUES.

    AUC, average precision and how many are found in the first 100, 200 and 400, with 95 % intervals (bootstrap by
    duplicate group); by what the network saw of the subjects.
    """
    from explorer.errors import UsageError
    from explorer.ledger import Ledger
    from explorer.services.explore import Explore
    from explorer.services.judging import is_circular, is_reference, verdicts
    from explorer.survey import Survey, counted
    from models.mixing import Mode

    opened = Survey.open(survey)
    explore = Explore(opened)
    known = explore.runs()
    for run_id in run_ids:
        if run_id not in known:
            raise UsageError(
                f"{run_id} is not a finished score run of {survey}; there are {', '.join(known) or 'none'}"
            )
    chosen = list(run_ids or known)
    if not chosen:
        raise UsageError(f"{survey} has no finished score run; `voorwerp run {survey} score` makes one")
    mode: Mode = "standardised" if standardised else "raw"
    mixes = [(value, mode) for value in lambdas]
    found = list(verdicts(explore, column, values, chosen, mixes, half))
    if not found:
        raise UsageError(f"none of {', '.join(chosen)} has a score to judge")
    truth = f"{column} = {' or '.join(values)}"
    show(found, truth, half)
    if half != "tune":
        with Ledger(opened.path, opened.info.survey_id) as ledger:
            ledger.append("reveal", {"truth": truth, "half": half, "runs": chosen}, who=who())
            times = sum(entry.payload["truth"] == truth for entry in ledger.entries("reveal"))
        click.echo(f"the test half was looked at {counted(times, 'time')} for {truth}; the ledger keeps count")
    for run_id in chosen:
        if is_circular(explore, run_id, column):
            click.echo(
                f"circular: {run_id} learned from what {column} says; where it is in split train or validation its "
                "figures say nothing, and it is no evidence beside others"
            )
        if (of := known[run_id].selection) is not None:
            click.echo(f"{run_id} is of “{of}”: it is judged among these alone, and whom that left out it cannot find")
    if not any(is_reference(known[run_id]) for run_id in chosen):
        click.echo(
            "no PCA-32 reconstruction error stands beside it; "
            f"`voorwerp run {survey} score --method pca` makes one in seconds"
        )
    opened.close()


def show(found: "list[Verdict]", truth: str, half: str) -> None:
    """Print the table, one block a run."""
    from rich.console import Console
    from rich.table import Table

    first = found[0].judgement
    table = Table(title=f"{truth}; {'the whole survey' if half == 'all' else f'{half} half'}", title_justify="left")
    for name in ("score", "seen in training"):
        table.add_column(name, overflow="fold")
    for name in ("n", "looked for", "AUC [95 %]", "average precision [95 %]", *(f"first {k}" for k in first.found)):
        table.add_column(name, justify="right")
    last = None
    for verdict in found:
        judged = verdict.judgement
        if verdict.run_id != last:
            table.add_section()
            table.add_row(verdict.run_id, *[""] * (5 + len(first.found)), style="bold")
            last = verdict.run_id
        table.add_row(
            verdict.score if verdict.part == "all" else "",
            verdict.part,
            f"{judged.n:,}",
            f"{judged.n_positive:,}",
            str(judged.auc),
            str(judged.average_precision),
            *(figure.spell(0, 0) for figure in judged.found.values()),
        )
    Console(width=None if Console().is_terminal else 160).print(table)
