"""``voorwerp purity``: the limit of a score above which nothing false is left, and what that is worth."""

from pathlib import Path

import click

from explorer.commands.running import SURVEY, who


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--column", "score", default="anomaly_score", show_default=True, help="The score whose limit is moved.")
@click.option("--run", "run_id", metavar="RUN", help="The run that it is of  [default: the newest that has it].")
@click.option(
    "--truth",
    "wanted",
    required=True,
    metavar="COLUMN=VALUE,…",
    help="What is looked for: values of a column of categories; all others are negative.",
)
@click.option(
    "--votes",
    default="",
    metavar="COLUMN",
    help="Share of positive votes: negatives above 5 to 50 % of them are left out, as a control.",
)
@click.option("--low", is_flag=True, help="Low scores are positive.")
@click.option(
    "--test", "has_test", is_flag=True, help="Look at the test half with that limit, too; the ledger counts it."
)
def purity(survey: Path, score: str, run_id: str | None, wanted: str, votes: str, low: bool, has_test: bool) -> None:
    """Move the limit of a score of SURVEY until no false positive is above it, and say how many pure ones remain.

    It is chosen on the tune half, where there is none by construction, and judged by the limits of other folds; with
    the share of false ones that none of so many still allows.
    """
    from explorer.commands.findings import print_findings
    from explorer.errors import UsageError
    from explorer.ledger import Ledger
    from explorer.services.explore import Explore
    from explorer.services.purest import Asked, purest
    from explorer.survey import Survey, counted

    column, equals, values = wanted.partition("=")
    if not equals or not values:
        raise UsageError(f'--truth {wanted} names no values; write a column and what is looked for, as "kind=merger"')
    opened = Survey.open(survey)
    try:
        explore = Explore(opened)
        known = explore.runs()
        newest = sorted(known.values(), key=lambda run: (run.created_at, run.run_id), reverse=True)
        chosen = run_id or next((run.run_id for run in newest if score in explore.score_titles(run.run_id)), "")
        if chosen not in known:
            raise UsageError(
                f"{run_id} is not a finished run with scores of {survey}; there are {', '.join(known) or 'none'}"
                if run_id
                else f"no finished run of {survey} has scores called {score}; name another with --column"
            )
        asked = Asked(score, chosen, column.strip(), [value.strip() for value in values.split(",")], votes, low)
        found = purest(explore, asked, has_test)
        click.echo(chosen)
        print_findings(
            {"sentences": found.sentences, "caveats": found.caveats, "matrices": []}
            | {
                "tables": [
                    {"title": t.title, "columns": t.columns, "rows": t.rows, "note": t.note} for t in found.tables
                ]
            }
        )
        if has_test:
            with Ledger(opened.path, opened.info.survey_id) as ledger:
                truth = f"{column} = {' or '.join(asked.values)}"
                ledger.append("reveal", {"truth": truth, "half": "test", "runs": [chosen]}, who=who())
                times = sum(entry.payload["truth"] == truth for entry in ledger.entries("reveal"))
            click.echo(f"the test half was looked at {counted(times, 'time')} for {truth}; the ledger keeps count")
    finally:
        opened.close()
