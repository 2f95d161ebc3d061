"""``voorwerp simulate``: simulated volunteers and experts, for demos and rehearsals."""

from pathlib import Path

import click

from explorer.errors import UsageError

SURVEY = click.Path(path_type=Path)


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--class", "column", metavar="COLUMN", help="A column of known classes.  [default: shapes on the pixels]")
@click.option("--worth", "values", metavar="VALUE", multiple=True, help="A class worth choosing; may be repeated.")
@click.option(
    "--visibility",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="How well one of these classes is seen for what it is.",
)
@click.option("--views", type=click.IntRange(1), default=12, show_default=True, help="Volunteers who see each subject.")
@click.option("--volunteers", type=click.IntRange(2), default=60, show_default=True, help="How many there are.")
@click.option(
    "--graders",
    type=click.IntRange(1, 100),
    help="So many simulated experts grade a campaign, instead: “Simulated grades”, closed at once.",
)
@click.option("--subjects", type=click.IntRange(1), help="How many the experts grade, drawn at random.  [default: 300]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--replace", is_flag=True, help="In place of simulated votes, or grades, that are there.")
@click.option("--mix", is_flag=True, help="Also beside votes of real volunteers.")
@click.option("--remove", is_flag=True, help="Take all simulated votes and grades away.")
def simulate(
    survey: Path,
    column: str | None,
    values: tuple[str, ...],
    visibility: float,
    views: int,
    volunteers: int,
    graders: int | None,
    subjects: int | None,
    seed: int,
    replace: bool,
    mix: bool,
    remove: bool,
) -> None:
    """Let simulated volunteers vote on every subject of SURVEY, or experts grade some; whatever shows it says so.

    They know what is worth choosing from --class and --worth, or from shapes measured on pixels, never from a score;
    they differ in skill and zeal, and tire.
    """
    if bool(column) != bool(values):
        raise UsageError("--class and --worth go together: a column, and which of its values are worth choosing")
    if subjects is not None and graders is None:
        raise UsageError("--subjects says how many are graded; tell --graders, too (volunteers vote on all of them)")
    from explorer.commands.making import show_making
    from explorer.commands.running import who
    from explorer.ledger import Ledger, is_there
    from explorer.services import simulated
    from explorer.services.simulated_grades import simulate_grades, take_back
    from explorer.services.volunteers import recount
    from explorer.survey import Survey, counted
    from models.simulate import Crowd

    opened = Survey.open(survey)
    try:
        if remove:
            n = simulated.remove(opened)
            click.echo(f"{counted(n, 'simulated vote')} removed")
            if is_there(opened.path):
                with Ledger(opened.path, opened.info.survey_id) as ledger:
                    if n := take_back(opened, ledger, who()):
                        click.echo(f"{counted(n, 'campaign')} of simulated grades taken back")
        else:
            if column is not None:
                worth = simulated.worth_by_column(opened, column, values, visibility)
            else:
                worth = show_making(simulated.worth_by_morphology(opened))
            if graders is not None:
                with Ledger(opened.path, opened.info.survey_id) as ledger:
                    made = simulate_grades(opened, ledger, worth, who(), graders, subjects, seed, replace)
                click.echo(
                    f"“{made['campaign']}”: {made['n_votes']:,} grades of {counted(graders, 'simulated expert')} on "
                    f"{made['n_subjects']:,} subjects, {made['n_worth']:,} of them what is looked for ({worth.words})"
                )
                return
            made = simulated.simulate(opened, worth, views, seed, Crowd(n_volunteers=volunteers), mix, replace)
            click.echo(
                f"{made['n_votes']:,} simulated votes of {made['n_volunteers']:,} simulated volunteers on "
                f"{made['n_subjects']:,} subjects, {made['n_worth']:,} of them worth choosing ({worth.words})"
            )
    finally:
        opened.close()
    for sentence in recount(survey):
        click.echo(sentence)
