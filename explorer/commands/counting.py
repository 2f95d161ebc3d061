"""``voorwerp consensus``: how votes are counted, and what comes of it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from explorer.commands.running import SURVEY, who

if TYPE_CHECKING:
    from explorer.services.counting import Question
    from explorer.services.volunteers import Volunteers

#: Words of ``--leave-out`` and the settings that they are.
LEAVES_OUT = {
    "before-launch": "live_only",
    "gold": "leave_out_gold",
    "repeats": "leave_out_repeats",
    "anonymous": "leave_out_anonymous",
    "open-links": "leave_out_open_links",
}


#: Groups of tags, and answers, that are printed; and fixed limits, where no rule is asked for.
MOST_GROUPS, MOST_ASKED, N_LIMITS = 40, 40, 8


class LeaveOut(click.ParamType):
    """Words of `LEAVES_OUT`, by commas; "nothing" is none of them."""

    name = "leave-out"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, bool]:
        if isinstance(value, dict):
            return value
        words = [word.strip() for word in value.split(",") if word.strip() and word.strip() != "nothing"]
        for word in words:
            if word not in LEAVES_OUT:
                self.fail(f"{word!r} is not one of {', '.join([*LEAVES_OUT, 'nothing'])}", param, ctx)
        return {setting: word in words for word, setting in LEAVES_OUT.items()}


@click.command()
@click.argument("survey", type=SURVEY)
@click.option("--workflow", "workflow_id", type=int, help="The workflow that the survey's columns are of.")
@click.option("--task", help="Its task.")
@click.option("--answer", help="Its answer: what a chosen fraction is of.")
@click.option("--basis", type=click.Choice(["volunteers", "views"]), help="What counts once, above and below the line.")
@click.option(
    "--weights",
    type=click.Choice(["none", "experience", "log", "skill"]),
    help="By what votes weigh in the weighted chosen fraction.",
)
@click.option("--threshold", type=click.IntRange(1), help="Classifications elsewhere that make one experienced.")
@click.option("--experienced-weight", type=float, help="What an experienced volunteer's vote counts.")
@click.option("--versions", nargs=2, metavar="FIRST LAST", help='Workflow versions, as 27.36; "" is open.')
@click.option("--since", metavar="DAY", help='First day, as 2026-11-22; "" is open.')
@click.option("--until", metavar="DAY", help='Last day; "" is open.')
@click.option("--leave-out", type=LeaveOut(), metavar="LIST", help=f"Of {', '.join(LEAVES_OUT)}; or nothing.")
@click.option(
    "--by-tag",
    type=click.Choice(["groups", "study"]),
    help="Also the chosen fraction of each group of tags on Talk: ours, or the study's grouping.",
)
@click.option("--team", multiple=True, metavar="NAME", help='An account that does not count; "" for none.')
def consensus(
    survey: Path, leave_out: dict[str, bool] | None, team: tuple[str, ...], by_tag: str | None, **told: Any
) -> None:
    """Count the votes on SURVEY's subjects, and say what comes of it.

    Options change how votes are counted from now on, on the screen too; the ledger keeps that decision. By default,
    distinct volunteers count, each with the first vote; votes from before the launch, gold-standard answers and
    repeats are left out.
    """
    import contextlib

    from explorer.ledger import Ledger
    from explorer.services.at_random import of_survey
    from explorer.services.volunteers import Volunteers, sentences
    from explorer.survey import Survey
    from explorer.votes import volunteer_hash

    with contextlib.closing(Survey.open(survey)) as opened, Ledger(opened.path, opened.info.survey_id) as ledger:
        volunteers = Volunteers(opened, ledger)
        changes = {name: value for name, value in told.items() if value is not None} | (leave_out or {})
        if team:
            changes["team"] = tuple(volunteer_hash([name for name in team if name], opened.info.survey_id))
        before = volunteers.settings
        if (wanted := replace(before, **changes)) != before:
            about = volunteers.decide(wanted, who=who())
        else:
            about = volunteers.recount()
        for sentence in sentences(about):
            click.echo(sentence)
        if "title" in about:
            click.echo(how_chosen(volunteers))
        if (by_random := of_survey(opened, ledger)) is not None:
            click.echo(by_random.sentence())
        if volunteers.settings != before:
            click.echo("votes are counted this way from now on, on the screen too")
        opened.refresh()
        if "title" in about:
            show(volunteers)
            if by_tag:
                show_tags(volunteers, is_study=by_tag == "study")


@click.command()
@click.argument("survey", type=SURVEY)
@click.option(
    "--limit", "limits", multiple=True, type=click.IntRange(1), help="Retire after so many votes; repeatable."
)
@click.option(
    "--swap",
    "thresholds",
    nargs=2,
    multiple=True,
    type=click.FloatRange(0, 1),
    metavar="DETECT REJECT",
    help="Retire by SWAP's probability above the one or below the other; repeatable.",
)
@click.option("--prior", type=click.FloatRange(0, 1, min_open=True, max_open=True), help="SWAP's, of every subject.")
@click.option(
    "--cascade",
    "percentiles",
    multiple=True,
    type=click.FloatRange(0, 100),
    metavar="PERCENTILE",
    help="Retire where the first volunteer agrees with the machine, which says yes from here on; repeatable.",
)
@click.option("--by", default="anomaly_score", show_default=True, help="The machine's score.")
@click.option("--first", type=click.IntRange(1, 2), default=1, show_default=True, help="Volunteers who must agree.")
@click.option("--run", "run_id", metavar="RUN", help="Whose score is meant.  [default: as the app]")
def replay(
    survey: Path,
    limits: tuple[int, ...],
    thresholds: tuple[tuple[float, float], ...],
    prior: float | None,
    percentiles: tuple[float, ...],
    by: str,
    first: int,
    run_id: str | None,
) -> None:
    """What fewer votes would have done: rules of retirement, replayed on the votes on SURVEY's subjects.

    Votes spent and saved, and agreement with known answers or, where there are none, with the votes that were not
    used; with 95 % intervals, subjects resampled. Nothing is replayed beyond what was recorded. Where no rule is asked
    for, some fixed limits and SWAP's usual thresholds are replayed.
    """
    import contextlib

    import numpy as np
    from rich.console import Console
    from rich.table import Table

    from explorer.commands.exporting import as_the_app
    from explorer.errors import UsageError
    from explorer.ledger import Ledger
    from explorer.services.crowd import Crowd, Machine
    from explorer.services.explore import Explore
    from explorer.services.volunteers import Volunteers
    from explorer.survey import Survey

    with contextlib.closing(Survey.open(survey)) as opened, Ledger(opened.path, opened.info.survey_id) as ledger:
        explore, volunteers = Explore(opened), Volunteers(opened, ledger)
        if volunteers.poll():
            opened.refresh()
        crowd = Crowd(volunteers, explore)
        asked: list[tuple[str, dict[str, float]]] = [("limit", {"limit": limit}) for limit in limits]
        known = {} if prior is None else {"prior": prior}
        asked += [("swap", {"detect": detect, "reject": reject} | known) for detect, reject in thresholds]
        asked += [("cascade", {"percentile": percentile, "first": first}) for percentile in percentiles]
        about = crowd.retirement()
        if why := about.get("why"):
            raise UsageError(why)
        machine = Machine()
        if percentiles:
            run, map_id, lambda_, mode = as_the_app(explore, run_id, None, None, None)
            if not run and "." not in by:
                raise UsageError(f"{survey} has no finished score run; name a column, as --by subjects.NAME")
            machine = Machine(by if "." in by else f"scores.{by}", run, lambda_, mode, map_id)
        if not asked:
            curve = about["curve"]
            spread = np.unique(np.rint(np.linspace(0, len(curve) - 1, min(len(curve), N_LIMITS))).astype(int))
            asked = [("limit", {"limit": curve[i]["limit"]}) for i in spread] + [("swap", known)]
        told = [crowd.what_if(rule, numbers, machine) for rule, numbers in asked]
        table = Table(title=f"Agreement with {about['against']} [95 %]", title_justify="left")
        for name in ("rule", "votes spent", "saved", "agreement", "subjects", "cut short"):
            table.add_column(name, justify="left" if name == "rule" else "right")
        for one in told:
            counts = (f"{one['n_subjects']:,}", f"{one['n_cut_short']:,}")
            spent = f"{_number(one['spent'])} of {one['recorded']:,}"
            table.add_row(one["rule"], spent, _spelled(one["saved"]), _spelled(one["agreement"]), *counts)
        Console(width=None if Console().is_terminal else 160).print(table)
        click.echo(about["note"])


def _spelled(rate: dict[str, float] | None) -> str:
    if rate is None:
        return "–"
    low, high = f"{rate['low']:.3f}", f"{rate['high']:.3f}"
    between = f" \\[{low}, {high}]" if low != high else ""  # what cannot vary: of each subject the same is known
    return f"{rate['share']:.3f}{between}, {_number(rate['k'])} of {_number(rate['n'])}"


def _number(mean: float) -> str:
    """A count; over random orders, a mean that may be no whole number."""
    return f"{mean:,.0f}" if abs(mean - round(mean)) < 1e-6 else f"{mean:,.1f}"


def how_chosen(volunteers: "Volunteers") -> str:
    """How the question that is counted was come by."""
    told = volunteers.settings
    named = {"--workflow": told.workflow_id, "--task": told.task, "--answer": told.answer}
    if said := " ".join(f"{option} {value}" for option, value in named.items() if value is not None):
        return f"counted is the question chosen by {said}"
    return "counted is the question with most votes; --workflow, --task, --answer choose another"


def _workflow(question: "Question") -> str:
    from explorer.votes import NO_WORKFLOW, OWN_WORKFLOW

    if question.workflow_id == NO_WORKFLOW:
        return "simulated" if question.is_simulated else "–"
    name = "our own page" if question.workflow_id == OWN_WORKFLOW else str(question.workflow_id)
    return f"{name}, simulated" if question.is_simulated else name


def show(volunteers: "Volunteers") -> None:
    """Print how chosen fractions are spread, and every question that there is."""
    import numpy as np
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    survey, about = volunteers.survey, volunteers.summary()
    console = Console(width=None if Console().is_terminal else 120)
    spread = Table(title=f"{escape(about['answer'])}, by {about['basis']}", title_justify="left")
    for name in ("", "subjects", "never chosen", "median", "90 %", "99 %", "≥ .5"):
        spread.add_column(name, justify="right" if name else "left")
    for name, title in (("chosen_fraction", "chosen fraction"), ("weighted_chosen_fraction", "weighted")):
        if name not in survey.columns_of_crowd():
            continue
        values = survey.column(name)
        if name != "chosen_fraction" and np.allclose(values, survey.column("chosen_fraction"), 0, 1e-9, equal_nan=True):
            continue  # all weigh the same
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        quantiles = [f"{v:.3f}" for v in np.quantile(values, (0.5, 0.9, 0.99))]
        never, half = int((values == 0).sum()), int((values >= 0.5).sum())
        spread.add_row(title, f"{len(values):,}", f"{never:,}", *quantiles, f"{half:,}")
    console.print(spread)
    questions = volunteers.questions()
    if len(questions) > 1:
        asked = Table(title="Everything that was asked", title_justify="left")
        for name in ("", "workflow", "task", "answer", "subjects", "classifications", "volunteers"):
            asked.add_column(name, justify="left" if name in ("", "task", "answer") else "right")
        chosen = tuple(about[name] for name in ("workflow_id", "task", "answer"))
        of_chosen = [(q.workflow_id, q.task, q.answer) == chosen for q in questions]
        shown = [i for i, is_chosen in enumerate(of_chosen) if i < MOST_ASKED or is_chosen]
        for i in shown:
            question = questions[i]
            n_volunteers = "unknown" if question.n_volunteers is None else f"{question.n_volunteers:,}"
            counts = (f"{question.n_subjects:,}", f"{question.n_votes:,}", n_volunteers)
            words = (_workflow(question), escape(question.task), escape(question.answer))
            asked.add_row("counted" if of_chosen[i] else "", *words, *counts)
        console.print(asked)
        if n_more := len(questions) - len(shown):
            console.print(f"and {n_more:,} more {'answer' if n_more == 1 else 'answers'}")


def show_tags(volunteers: "Volunteers", is_study: bool) -> None:
    """Print the chosen fraction of each group of tags; intervals resample who gave the tag."""
    import numpy as np
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from models.tagging import auc, median

    survey, talk = volunteers.survey, volunteers.talk
    if not talk.groups(is_study):
        has_tags = "n_tags" in survey.columns_of_crowd() and (survey.column("n_tags") > 0).any()
        click.echo(
            "no tag of this survey's subjects is in a group of the study's; --by-tag groups shows ours"
            if has_tags
            else "no subject of this survey is tagged; `voorwerp ingest` takes Talk's tags"
        )
        return
    fraction = survey.column("chosen_fraction")
    discussed, tagged = survey.column("n_comments") > 0, survey.column("n_tags") > 0
    counts = (f"{int(n):,}" for n in (discussed.sum(), tagged.sum(), len(discussed)))
    click.echo("{} subjects are discussed on Talk and {} tagged, of {}".format(*counts))
    table = Table(title="Chosen fraction by tag [95 %: taggers resampled]", title_justify="left")
    for name in ("group", "subjects", "taggers", "most by one", "median", "AUC against the rest"):
        table.add_column(name, justify="left" if name == "group" else "right")
    for group in talk.groups(is_study)[:MOST_GROUPS]:
        given = talk.taggings(group.name, is_study)
        figure = median(fraction, *given)
        spelled = [
            "–"
            if np.isnan(f.value)
            else f"{f.value:.3f}" + ("" if np.isnan(f.low) else f" [{f.low:.2f}, {f.high:.2f}]")
            for f in (figure, auc(fraction, *given))
        ]
        counts = (f"{n:,}" for n in (figure.n_subjects, figure.n_taggers, figure.n_by_one))
        table.add_row(escape(group.name), *counts, *(escape(text) for text in spelled))
    Console(width=None if Console().is_terminal else 120).print(table)
