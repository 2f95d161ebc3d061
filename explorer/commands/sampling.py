"""``voorwerp sample``: a subject set by design, for volunteers or experts."""

import re
from pathlib import Path
from typing import Any, Literal

import click

from explorer.commands.exporting import LAMBDA, LAMBDA_MODE, SURVEY, WHERE, as_the_app
from explorer.commands.running import who


class Share(click.ParamType):
    """``1%`` or ``0.01`` as 0.01."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The share."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(%?)\s*", value)
        share = float(found[1]) / (100 if found[2] else 1) if found else 2.0
        if not 0 < share <= 1:
            self.fail(f'"{value}" is no share; write 1% or 0.01, up to 100%', param, ctx)
        return share


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--top", type=Share(), metavar="SHARE", default=0.0, help="This share (1%) is in it for certain.")
@click.option("--by", metavar="COLUMN", help="What they are the highest by.  [default: anomaly_score]")
@click.option("--random", "n_random", type=click.IntRange(0), default=0, metavar="N", help="And so many of the rest.")
@click.option("--strata", metavar="COLUMN", help="Draw from each class of COLUMN (of many numbers: its quarters).")
@click.option(
    "--allocation",
    type=click.Choice(("proportional", "equal")),
    default="proportional",
    show_default=True,
    help="How many fall to each: by its size, or evenly.",
)
@WHERE
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--name", default="Sample", show_default=True, help="The selection that the set is kept as.")
@click.option("--replace", is_flag=True, help="In place of the sample that the survey has.")
@click.option("--run", "run_id", metavar="RUN", help="Whose scores are meant.  [default: as the app]")
@click.option("--map", "map_id", metavar="MAP", help="Whose columns are meant.  [default: as the app]")
@LAMBDA
@LAMBDA_MODE
def sample(
    survey: Path,
    top: float,
    by: str | None,
    n_random: int,
    strata: str | None,
    allocation: Literal["proportional", "equal"],
    where: str | None,
    seed: int,
    name: str,
    replace: bool,
    run_id: str | None,
    map_id: str | None,
    lambda_: float | None,
    mode: Literal["raw", "standardised"] | None,
) -> None:
    """Draw a subject set from SURVEY by design: the top by a score, and a random part of the rest.

    It is kept as a selection, and each subject's probability of being drawn as inclusion_probability, so that rates of
    the set can be given for the whole survey. What shows the same sky is drawn together.
    """
    from explorer.ledger import Ledger
    from explorer.services import sampling
    from explorer.services.explore import Explore
    from explorer.survey import Survey

    opened = Survey.open(survey)
    try:
        explore = Explore(opened)
        run_id, map_id, lambda_, mode = as_the_app(explore, run_id, map_id, lambda_, mode)
        columns = [by or ("anomaly_score" if top else ""), strata or ""]
        by, strata = (sampling.reference(explore, name, run_id, map_id) if name else "" for name in columns)
        design = sampling.Design(
            top, by, n_random, strata, allocation, where or "", seed, run_id, map_id, lambda_, mode
        )
        with Ledger(opened.path, opened.info.survey_id) as ledger:
            drawn = sampling.sample(explore, design, name, ledger, who(), replace)
        for sentence in drawn.sentences(design):
            click.echo(sentence)
        click.echo(f'kept as the selection "{name}"; {sampling.INCLUSION} is in its subjects\' rows')
    finally:
        opened.close()
