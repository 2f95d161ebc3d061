"""``voorwerp acquire``: a subject set by what a run that learned from votes would learn most of."""

from pathlib import Path

import click

from explorer.commands.exporting import SURVEY, WHERE
from explorer.commands.running import who


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--n", type=click.IntRange(1), default=1000, show_default=True, help="Subjects in all.")
@click.option(
    "--random",
    "random_share",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    metavar="SHARE",
    help="Of them, drawn at random from all others: only these speak for the survey.",
)
@click.option("--by", metavar="RUN", default="newest", show_default=True, help="Whose acquisition is gone by.")
@WHERE
@click.option("--retire-after", type=click.IntRange(1), metavar="N", help="Leave out who has N votes or more.")
@click.option("--not-sent", is_flag=True, help="Leave out who is on Zooniverse already.")
@click.option("--seed", type=click.IntRange(0), default=1234, show_default=True)
@click.option("--name", default="Acquisition", show_default=True, help="The selection that the set is kept as.")
@click.option("--replace", is_flag=True, help="In place of a selection of that name, and of the survey's sample.")
def acquire(
    survey: Path,
    n: int,
    random_share: float,
    by: str,
    where: str | None,
    retire_after: int | None,
    not_sent: bool,
    seed: int,
    name: str,
    replace: bool,
) -> None:
    """Keep the subjects of SURVEY that a run would learn most of, and a random part of the rest.

    The run is one with a column acquisition, such as bayes. The set is kept as a selection, and its random part as
    another, each with its probability of being drawn; `voorwerp export --for zooniverse --selection NAME` makes a
    subject set of it.
    """
    from explorer.ledger import Ledger
    from explorer.services.acquired import RANDOM_PART, Asked
    from explorer.services.acquired import acquire as acquired
    from explorer.services.explore import Explore
    from explorer.services.sampling import INCLUSION
    from explorer.survey import Survey

    opened = Survey.open(survey)
    try:
        asked = Asked(n, random_share, by, where or "", retire_after or 0, not_sent, seed)
        with Ledger(opened.path, opened.info.survey_id) as ledger:
            made = acquired(Explore(opened), asked, name, ledger, who(), replace)
        for sentence in made.sentences():
            click.echo(sentence)
        parts = f'"{name}" and "{name}{RANDOM_PART}"' if len(made.random) else f'"{name}"'
        click.echo(f"kept as {parts}")
        if made.is_sample:
            click.echo(f"it is the survey's sample now: {INCLUSION} is in its subjects' rows")
        else:
            click.echo("the survey keeps the sample that it has; the probabilities of this set are in the ledger")
    finally:
        opened.close()
