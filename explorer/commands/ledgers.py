"""``voorwerp ledger``: where a survey's decisions are kept."""

from pathlib import Path

import click

from explorer.commands.exporting import SURVEY
from explorer.errors import UsageError


@click.group("ledger")
def group() -> None:
    """Move the ledger of a survey between its folder and PostgreSQL."""


@group.command("copy")
@click.argument("survey", type=SURVEY)
@click.option("--to-postgres", "to", flag_value="postgres", help="From ledger.db into the database.")
@click.option("--to-sqlite", "to", flag_value="sqlite", help="From the database into ledger.db.")
def copy(survey: Path, to: str | None) -> None:
    """Copy every decision on SURVEY to the other place, with its id, date and author; it is used from then on.

    The database is the one that VOORWERP_LEDGER in the environment names; what was copied stays where it is. Stop the
    survey's server first.
    """
    if to is None:
        raise UsageError("say where to: --to-postgres or --to-sqlite")
    from explorer.ledger import ADDRESS, moved
    from explorer.survey import Survey, counted

    opened = Survey.open(survey)
    try:
        n, place = moved(survey, opened.info.survey_id, to == "postgres")
    finally:
        opened.close()
    click.echo(f"{counted(n, 'decision')} copied; {place} is the ledger of {survey} now")
    if to == "sqlite":
        click.echo(f"unset {ADDRESS} before you serve it")
