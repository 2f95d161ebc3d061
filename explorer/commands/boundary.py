"""``voorwerp boundary``: boundaries fitted, shown, compared, kept as files, and applied to other surveys."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from explorer.commands.exporting import LAMBDA, LAMBDA_MODE, as_the_app
from explorer.commands.making import options, show_making
from explorer.commands.running import SURVEY, follow, who
from explorer.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from explorer.services.applying import Applied
    from explorer.services.boundaries import BoundaryFile, Context, Saved
    from explorer.services.desk import Desk
    from models.truth import Truth

RATES = {"precision": "precision", "recall": "recall", "f1": "F1", "kept": "kept", "base": "base rate", "lift": "lift"}
#: Rates that are told in percent, as on screen.
IN_PERCENT = ("kept", "base")
MOST_LOST = 8  # groups that are told
TRUTH = r"\s*([^\s*<>=]+)\s*(?:\*\s*([^\s*<>=]+)\s*)?(?:>=\s*([-+]?[\d.]+(?:[eE][-+]?\d+)?)\s*)?"

TRUTHS = options(
    click.option(
        "--truth", "by_number", metavar="COLUMN>=Σ", help='What is right: "chosen_fraction >= .5", "a * b >= 2".'
    ),
    click.option("--truth-class", "by_class", multiple=True, metavar="COLUMN=VALUE", help="… or these classes …"),
    click.option("--truth-talk", "by_talk", metavar="GROUP", help="… or a tag group of Talk …"),
    click.option("--truth-tag", "by_tag", metavar="TAG", help="… or a tag of your own …"),
    click.option("--truth-grades", "by_grades", metavar="CAMPAIGN", help="… or what the experts of a campaign found …"),
    click.option("--truth-confirmed", "by_outcome", is_flag=True, help="… or what follow-up confirmed."),
    click.option("--sigma", type=float, metavar="Σ", help="Σ, in place of that in --truth."),
    click.option("--soft", is_flag=True, help="Votes count by how probably the true fraction reaches Σ."),
)
SETTING = options(
    click.option("--run", "run_id", metavar="RUN", help="Whose scores and latent vectors.  [default: as the app]"),
    click.option("--map", "map_id", metavar="MAP", help="[default: as the app]"),
    LAMBDA,
    LAMBDA_MODE,
)
VERSION = click.option("--version", type=click.IntRange(1), metavar="N", help="[default: the newest]")


@click.group("boundary")
def group() -> None:
    """Decision boundaries: fit one, judge it, and apply it where nobody has looked."""


@contextlib.contextmanager
def _desk(survey: Path) -> "Iterator[Desk]":
    from explorer.services.desk import Desk

    with Desk.open(survey) as desk:
        yield desk


def _console() -> "Console":
    from rich.console import Console

    return Console(width=None if Console().is_terminal else 140, highlight=False)


def _truth(desk: "Desk", context: "Context", told: Mapping[str, Any]) -> "Truth | None":
    """The truth that options told; None where none did.

    Raises
    ------
    UsageError
        Several did, or one cannot be read.
    """
    from explorer.services.sampling import reference
    from models.truth import Truth, TruthError

    ways = ("by_number", "by_class", "by_talk", "by_tag", "by_grades", "by_outcome")
    sigma, given = told["sigma"], [way for way in ways if told[way]]
    if len(given) > 1:
        raise UsageError(
            "what is right is told by one of --truth, --truth-class, --truth-talk, --truth-tag, --truth-grades and "
            "--truth-confirmed"
        )
    if not given:
        if sigma is not None or told["soft"]:
            raise UsageError("--sigma and --soft belong to a --truth; give one")
        return None

    def column(name: str) -> str:
        return reference(desk.explore, name, context.run_id, context.map_id)

    try:
        match given[0]:
            case "by_number":
                found = re.fullmatch(TRUTH, told["by_number"])
                if found is None or (found[3] is None and sigma is None):
                    raise UsageError(
                        f'--truth is "{told["by_number"]}"; write it as "chosen_fraction >= .5" or "a * b >= 2"'
                    )
                at_least = float(found[3]) if sigma is None else sigma
                by = column(found[2]) if found[2] else ""
                what: Literal["product", "column"] = "product" if by else "column"
                return Truth(what, column(found[1]), by, at_least, is_soft=told["soft"])
            case "by_class":
                pairs = [one.partition("=") for one in told["by_class"]]
                names = {name.strip() for name, _, _ in pairs}
                if len(names) > 1 or not all(sign and name.strip() and value for name, sign, value in pairs):
                    raise UsageError(
                        "--truth-class is COLUMN=VALUE, several values of one column: give it once for each"
                    )
                return Truth("category", column(names.pop()), labels=tuple(value.strip() for _, _, value in pairs))
            case "by_talk":
                return Truth("talk", told["by_talk"])
            case "by_grades":
                return _of_grades(desk, told["by_grades"], sigma)
            case "by_outcome":
                return Truth("outcome", "confirmed")
            case _:
                return Truth("tag", told["by_tag"])
    except TruthError as error:
        raise UsageError(f"the truth cannot be used: {error}") from None


def _of_grades(desk: "Desk", campaign: str, sigma: float | None) -> "Truth":
    """What a campaign, by its name or id, found; from `sigma` on where that is told, else from its own limit on."""
    from models.truth import Truth

    experts = desk.truths.experts
    if experts is None:
        raise UsageError("grades of experts cannot be read here; choose another truth")
    found = next((i for i, name in experts.names().items() if campaign in (i, name)), campaign)
    return Truth("grade", found, at_least=experts.given(found).limit if sigma is None else sigma)


def _rate(told: Mapping[str, Any] | None, name: str = "") -> str:
    """``.123 [.100, .151] 12 of 98``, kept fraction and base rate in percent."""
    if told is None:
        return ""
    if told["value"] is None:
        return told["note"] or "cannot be estimated"
    k, n = (f"{x:,.0f}" if float(x).is_integer() else f"{x:,.1f}" for x in (told["k"], told["n"]))
    scale, digits, unit = (100, 1, " %") if name in IN_PERCENT else (1, 3, "")
    low, high = (None if told[end] is None else f"{scale * told[end]:.{digits}f}" for end in ("low", "high"))
    interval = "" if low is None else f" [{low}, {high}]"
    of = "" if name == "lift" else f"  {k} of {n}"  # a lift is no k of n
    return f"{scale * told['value']:.{digits}f}{unit}{interval}{of}" + (f"  ({told['note']})" if told["note"] else "")


def _table(console: "Console", parts: Sequence[tuple[str, Mapping[str, Any] | None]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    parts = [part for part in parts if part[1]]
    if not parts:
        return
    table = Table("", *(escape(title) for title, _ in parts))
    for name, title in RATES.items():
        if any(rates and name in rates for _, rates in parts):
            table.add_row(title, *(escape(_rate((rates or {}).get(name), name)) for _, rates in parts))
    console.print(table)


def _say(console: "Console", numbers: Mapping[str, Any]) -> None:
    """What `Judge.numbers` found, in words and a table."""
    half = {"tune": "tune half", "all": "all subjects: the survey has no halves"}[numbers["half"]]
    if numbers["sentence"]:
        click.echo(f"truth: {numbers['sentence']}")
    if numbers["circular"]:
        shared = ", ".join(numbers["circular"])
        click.secho(
            f"circular: boundary and truth share {shared}, so these rates say less than they seem to", fg="yellow"
        )
    if numbers["trouble"]:
        click.secho(numbers["trouble"], fg="yellow")
    parts = [(half, numbers["rates"]), ("by votes, soft", numbers["soft"]), ("by weight", numbers["weighted"])]
    few = numbers["few"]
    _table(console, [*parts, ("out of fold", few["rates"] if few else None)])
    if few:
        click.echo(few["sentence"])
    unknown = [f"{n:,} of {what}" for what, n in (("truth", numbers["unknown"]["truth"]),) if n]
    unknown += [f"{n:,} of the boundary" for n in (numbers["unknown"]["boundary"],) if n]
    if unknown:
        click.echo(f"unknown, of {numbers['n']:,} in the {numbers['half']} half: {'; '.join(unknown)}")
    if numbers["n_kept"] is not None:
        click.echo(f"kept of the whole survey: {numbers['n_kept']:,} of {numbers['n_all']:,}")
    for one in numbers["lost"][:MOST_LOST]:
        if one is numbers["lost"][0]:
            click.echo("what it throws away, worst first:")
        if one["is_right"] is False and one is next(o for o in numbers["lost"] if o["is_right"] is False):
            click.echo("  not right: losing these is the aim")
        people = f", {one['n_taggers']:,} taggers" if one.get("n_taggers") else ""
        click.echo(
            f"  {one['name']} ({one['of']}{people}): keeps {_rate(one | {'value': one['k'] / one['n'], 'note': ''})}"
        )
    if more := max(0, len(numbers["lost"]) - MOST_LOST) + numbers["lost_more"]:
        click.echo(f"  and {more:,} groups more")
    if cost := numbers["cost"]:
        measured = "measured" if cost["measured"] else "assumed"
        click.echo(
            f"cost: {cost['images']:,} images, {cost['seconds']:g} s each ({measured}), "
            f"{cost['hours']:,.2g} h of looking"
        )
    for note in numbers["notes"]:
        click.echo(f"note: {note['sentence']}")


def _words(desk: "Desk", saved: "Saved") -> str:
    from models.boundary import in_words

    titles = dict(desk.explore.colors(saved.context.run_id, saved.context.map_id))
    titles |= desk.boundaries.titles_of(saved.keep)
    return in_words(saved.keep, titles)


# ----------------------------------------------------------------------------------------------------------------- fit
@group.command()
@click.argument("survey", type=SURVEY)
@click.argument("name")
@TRUTHS
@click.option("--kind", type=click.Choice(("linear", "nonlinear")), default="linear", show_default=True)
@click.option("--components", type=float, default=25, show_default=True, help="Principal components; below 1, a share.")
@click.option("--within", metavar="NAME", help="Fit among those that this boundary keeps, and keep of them.")
@click.option("--low", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Least balanced score kept.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@SETTING
def fit(
    survey: Path,
    name: str,
    kind: Literal["linear", "nonlinear"],
    components: float,
    within: str | None,
    low: float,
    seed: int,
    run_id: str | None,
    map_id: str | None,
    lambda_: float | None,
    mode: Literal["raw", "standardised"] | None,
    **truths: Any,
) -> None:
    """Fit a classifier to the latent vectors of SURVEY's tune half, and save it as the boundary NAME."""
    from explorer.services.boundaries import Context
    from explorer.state import Draft
    from models.boundary import And, Learned

    with _desk(survey) as desk:
        context = Context(*as_the_app(desk.explore, run_id, map_id, lambda_, mode))
        truth = _truth(desk, context, truths)
        if truth is None:
            raise UsageError('a classifier is fitted to a truth; give one, as --truth "chosen_fraction >= .5"')
        term = desk.boundaries.get(within).keep if within else None
        n_components = int(components) if components >= 1 else components
        sha = desk.learning.fit(context.run_id, truth, context, kind, n_components, term, seed=seed)
        own = Learned(sha, low)
        keep = And((own,)) if term is None else And((*(term.terms if isinstance(term, And) else (term,)), own))
        saved = desk.boundaries.save(name, Draft(keep, truth), context, who())
        told = desk.learning.what(sha, context)
        click.echo(f"“{saved.name}”, version {saved.version}: {told['sentence']}")
        numbers = desk.judge.numbers(saved.draft, context)
        console = _console()
        click.echo(f"truth: {numbers['sentence']}")
        if numbers["circular"]:
            click.secho(f"circular: it shares {', '.join(numbers['circular'])} with the truth", fg="yellow")
        half = "tune half" if told["half"] == "tune" else "all subjects: the survey has no halves"
        title = f"out of fold, {half} ({told['n_repeats']} × {told['n_folds']} folds, at ½)"
        _table(console, [(title, told["out_of_fold"]), (f"fitted to, {half}: too good", numbers["rates"])])
        if told["trouble"]:
            click.secho(told["trouble"], fg="yellow")


# ---------------------------------------------------------------------------------------------------------------- show
@group.command()
@click.argument("survey", type=SURVEY)
@click.argument("name", required=False)
@VERSION
@TRUTHS
@click.option("--test", "is_test", is_flag=True, help="Freeze it, and show the numbers on the test half; counted.")
def show(survey: Path, name: str | None, version: int | None, is_test: bool, **truths: Any) -> None:
    """Show a boundary of SURVEY: what it keeps, its numbers, what it throws away; without NAME all of them."""
    with _desk(survey) as desk:
        console = _console()
        if name is None:
            _show_all(desk, console)
            return
        saved = desk.boundaries.get(name, version)
        told = _truth(desk, saved.context, truths)
        if is_test and told is not None and told != saved.truth:
            raise UsageError(
                "the test half is shown against the truth that a version was saved with; leave out --truth"
            )
        is_first = is_test and not saved.is_frozen
        if is_test:
            if saved.truth is None:
                raise UsageError(
                    f"“{saved.name}” was saved without a truth; fit or save it with one before it is tested"
                )
            if not desk.truths.has_halves:
                raise UsageError(f"{survey} has no halves, so there is no test half to show")
            saved = desk.boundaries.freeze(saved.name, saved.version, who())
        frozen = ", frozen" if saved.is_frozen else ""
        click.echo(f"“{saved.name}”, version {saved.version}{frozen}, saved {saved.at} by {saved.who}")
        if saved.note:
            click.echo(saved.note)
        click.echo(f"keeps: {_words(desk, saved)}")
        context = saved.context
        click.echo(
            f"run {context.run_id or 'none'}, map {context.map_id or 'none'}, λ {context.lambda_:g} ({context.mode})"
        )
        draft = saved.draft if told is None else replace(saved.draft, truth=told)
        numbers = desk.judge.numbers(draft, context)
        _say(console, numbers)
        if draft.truth is not None:
            times = desk.boundaries.revealed(draft.truth)
            click.echo(f"the test half was shown {times} {'time' if times == 1 else 'times'} for this truth")
        if is_test and numbers["test"]:
            if is_first:
                click.echo("this version is frozen now: its numbers on the test half were seen, and that stays counted")
            _table(console, [("test half", numbers["test"]["rates"])])


def _show_all(desk: "Desk", console: "Console") -> None:
    from rich.markup import escape
    from rich.table import Table

    names = desk.boundaries.names()
    if not names:
        click.echo(
            f"{desk.explore.survey.path} has no boundaries; `voorwerp boundary fit` makes one, or draw one in the app"
        )
        return
    table = Table("boundary", "version", "keeps", "truth", "kept", "precision", "recall", "test shown")
    for name in names:
        saved = desk.boundaries.get(name)
        numbers = desk.judge.numbers(saved.draft, saved.context)
        rates, n = numbers["rates"] or {}, numbers["n_kept"]
        kept = "" if n is None else f"{n:,}"
        shown = str(desk.boundaries.revealed(saved.truth)) if saved.truth else ""
        cells = [saved.name, str(saved.version) + (" frozen" if saved.is_frozen else ""), _words(desk, saved)]
        cells += [numbers["title"], kept, _rate(rates.get("precision")), _rate(rates.get("recall")), shown]
        table.add_row(*map(escape, cells))
    console.print(table)


@group.command("list")
@click.argument("survey", type=SURVEY)
def list_(survey: Path) -> None:
    """List the boundaries of SURVEY and their versions."""
    with _desk(survey) as desk:
        for name in desk.boundaries.names():
            for saved in desk.boundaries.versions(name):
                frozen = "  frozen" if saved.is_frozen else ""
                click.echo(f"{name}  {saved.version}  {saved.at}  {saved.who}{frozen}  {_words(desk, saved)}")


@group.command()
@click.argument("survey", type=SURVEY)
@click.argument("a")
@click.argument("b")
@TRUTHS
def compare(survey: Path, a: str, b: str, **truths: Any) -> None:
    """Compare the boundaries A and B of SURVEY against one truth, on the tune half."""
    from explorer.services.comparing import compare as compared

    with _desk(survey) as desk:
        one, other = desk.boundaries.get(a), desk.boundaries.get(b)
        truth = _truth(desk, one.context, truths)
        if truth is None:
            if one.truth is None or (other.truth is not None and other.truth != one.truth):
                raise UsageError(f"“{a}” and “{b}” have no one truth; give one, as --truth 'chosen_fraction >= .5'")
            truth = one.truth
        console, numbers = _console(), []
        for saved in (one, other):
            numbers.append(desk.judge.numbers(replace(saved.draft, truth=truth), saved.context))
            click.echo(f"“{saved.name}”, version {saved.version}: {_words(desk, saved)}")
        click.echo(f"truth: {numbers[0]['sentence']}")
        for saved, told in zip((one, other), numbers, strict=True):
            if told["circular"]:
                click.secho(f"circular: “{saved.name}” shares {', '.join(told['circular'])} with it", fg="yellow")
            if told["trouble"]:
                click.secho(f"“{saved.name}”: {told['trouble']}", fg="yellow")
        _table(console, [(f"“{saved.name}”", n["rates"]) for saved, n in zip((one, other), numbers, strict=True)])
        for saved, told in zip((one, other), numbers, strict=True):
            for note in told["notes"]:
                click.secho(f"“{saved.name}”: {note['sentence']}", fg="yellow")
        found = compared(desk, one, other, truth)
        click.echo(
            f"of {found.n:,} in the tune half both keep {found.both:,} ({found.right[0]:,} right), only “{a}” "
            f"{found.only_a:,} ({found.right[1]:,}), only “{b}” {found.only_b:,} ({found.right[2]:,}); "
            f"{found.n_right:,} are right"
        )
        if found.note:
            click.echo(found.note)
        for name, one_of in (found.differences or {}).items():
            if one_of.value is None:
                click.echo(f"{name}: too few are kept or right to tell a difference")
                continue
            interval = "" if one_of.low is None else f" [{one_of.low:+.3f}, {one_of.high:+.3f}]"
            click.echo(f"{name} at equal kept fraction, “{a}” less “{b}”: {one_of.value:+.3f}{interval}, paired")


# --------------------------------------------------------------------------------------------------------------- ledger
@group.command()
@click.argument("survey", type=SURVEY)
@click.argument("name")
@click.argument("to")
def rename(survey: Path, name: str, to: str) -> None:
    """Call the boundary NAME another name, TO."""
    with _desk(survey) as desk:
        desk.boundaries.rename(name, to, who())
        click.echo(f"“{name}” is called “{to}” now")


@group.command()
@click.argument("survey", type=SURVEY)
@click.argument("name")
@click.argument("to")
@VERSION
def duplicate(survey: Path, name: str, to: str, version: int | None) -> None:
    """Save a version of the boundary NAME as the first of another, TO."""
    with _desk(survey) as desk:
        saved = desk.boundaries.duplicate(name, to, who(), version=version)
        click.echo(f"“{saved.name}”: {saved.note}")


@group.command()
@click.argument("survey", type=SURVEY)
@click.argument("name")
def drop(survey: Path, name: str) -> None:
    """Remove the boundary NAME; what the ledger says of it stays, and --undo brings it back."""
    with _desk(survey) as desk:
        entry = desk.boundaries.drop(name, who())
        click.echo(f"“{name}” is dropped; `voorwerp boundary undo {survey} {entry.id}` brings it back")


@group.command()
@click.argument("survey", type=SURVEY)
@click.argument("entry", type=int)
def undo(survey: Path, entry: int) -> None:
    """Take back an ENTRY of the ledger that is on a boundary."""
    with _desk(survey) as desk:
        desk.boundaries.undo(entry, who())
        click.echo(f"entry {entry} is undone")


@group.command()
@click.argument("survey", type=SURVEY)
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@VERSION
def export(survey: Path, name: str, file: Path, version: int | None) -> None:
    """Write the boundary NAME into FILE, with all that another survey needs to apply it."""
    from models.artifacts import write_bytes

    with _desk(survey) as desk:
        saved = desk.boundaries.get(name, version)
        content = desk.boundaries.to_file(saved)
        write_bytes(file, content)
        click.echo(f"{file} has “{saved.name}”, version {saved.version} ({len(content) / 1e6:.2g} MB)")
        if said := desk.boundaries.from_people(saved.keep):
            click.secho(f"it is not deployable: it limits {', '.join(said)}, which people said", fg="yellow")


@group.command("import")
@click.argument("survey", type=SURVEY)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--name", default="", metavar="NAME", help="[default: as in the file]")
@SETTING
def import_(
    survey: Path,
    file: Path,
    name: str,
    run_id: str | None,
    map_id: str | None,
    lambda_: float | None,
    mode: Literal["raw", "standardised"] | None,
) -> None:
    """Save the boundary in FILE as one of SURVEY, without applying it."""
    from explorer.services.boundaries import Context, from_file

    with _desk(survey) as desk:
        found = from_file(file.read_bytes())
        told = found.context
        context = Context(*as_the_app(desk.explore, run_id, map_id, lambda_ or told.lambda_, mode or told.mode))
        for problem in desk.boundaries.lacks(found, context):
            click.secho(problem, fg="yellow", err=True)
        saved = desk.boundaries.take_in(found, context, who(), name=name)
        click.echo(f"“{saved.name}”, version {saved.version}: {saved.note}")


# ---------------------------------------------------------------------------------------------------------------- apply
@group.command()
@click.argument("survey", type=SURVEY)
@click.argument("what", metavar="FILE|NAME")
@click.option(
    "--from", "tuned", type=SURVEY, metavar="SURVEY", help="Where it was tuned: its network and map come along."
)
@VERSION
@click.option("--run", "run_id", metavar="RUN", help="A run here of the same network.  [default: the newest]")
@click.option("--percentiles", is_flag=True, help="Limits at the same percentile here, not at the same raw value.")
@click.option("--with-strangers", is_flag=True, help="Strangers that it keeps are among the kept.")
@click.option("--name", default="", metavar="NAME", help="What it is called here.  [default: as there]")
@click.option("--save/--no-save", default=True, show_default=True, help="Keep boundary and selections in the ledger.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Also a table: .csv, or .json of the report."
)
def apply(
    survey: Path,
    what: str,
    tuned: Path | None,
    version: int | None,
    run_id: str | None,
    percentiles: bool,
    with_strangers: bool,
    name: str,
    save: bool,
    out: Path | None,
) -> None:
    """Apply a boundary to SURVEY, which nobody need have inspected: say whom it keeps, who is a stranger, what drifted.

    WHAT is a file that `export` wrote, or the name of a boundary of the survey --from which it comes. With --from the
    network comes along and scores SURVEY, and its subjects are placed on the same map. Nothing is retrained.
    """
    from explorer.services import applying
    from explorer.services.boundaries import Context
    from models.artifacts import write_bytes, write_json

    if out is not None and out.suffix not in (".csv", ".json"):
        raise UsageError(f"--out is {out}; it ends in .csv or .json")
    file = _bring(survey, what, tuned, version, run_id, percentiles)
    with _desk(survey) as desk:
        run = applying.found_run(desk, file, run_id)
        context = Context(run, applying.found_map(desk, file, run), file.context.lambda_, file.context.mode)
        applied = applying.apply(desk, file, context, percentiles)
        kept = applying.keep(desk, applied, who(), name, with_strangers) if save else None
        _say_applied(applied, with_strangers)
        if kept is not None:
            saved, selections = kept
            if saved is not None:
                click.echo(f"saved as “{saved.name}”, version {saved.version}: {saved.note}")
            words = "; ".join(f"“{title}” ({n:,})" for title, n in selections.items())
            click.echo(f"selections, strangers first: {words}")
        if out is not None:
            if out.suffix == ".json":
                write_json(out, applying.as_json(applied, with_strangers))
            else:
                write_bytes(out, applying.as_csv(desk, applied).encode())
            click.echo(f"{out} is written")


def _bring(
    survey: Path, what: str, tuned: Path | None, version: int | None, run_id: str | None, is_by_percentile: bool
) -> "BoundaryFile":
    """The boundary; its network and map are here from now on, where they can be had."""
    from explorer.services import applying

    with contextlib.ExitStack() as stack:
        desk = stack.enter_context(_desk(survey))
        there = None if tuned is None else stack.enter_context(_desk(tuned))
        file = applying.brought(desk, what, there, version)
        applying.refuse(desk, file, is_by_percentile)
        run = applying.found_run(desk, file, run_id)
        if file.run and not run and there is not None:
            adopted = applying.adopt(desk, there, file, who())
            click.echo(f"{adopted} of “{file.survey}” scores this survey")
            run = applying.scoring(desk, there, file, adopted, who())
            follow(desk.jobs, run)
        if file.map and run and there is not None and not applying.found_map(desk, file, run):
            placed = show_making(applying.place_on(desk, there, file, run))
            click.echo(f"{placed}: these subjects on the map of “{file.survey}”")
        return file


def _say_applied(applied: "Applied", with_strangers: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    file, console = applied.file, _console()
    n, n_considered = len(applied.rows(with_strangers)), int(applied.considered.sum())
    strangers = applied.strangers
    if applied.limit is not None:
        within = int((applied.stranger & applied.yes).sum())
        click.echo(
            f"strangers, to be looked at first: {_rate(strangers.to_json())}, where 0.001 were expected (beyond the "
            f"99.9 % point of “{file.survey}” in latent space); the boundary would keep {within:,} of them"
        )
    among = "strangers among them" if with_strangers else "strangers set apart"
    click.echo(f"kept: {n:,} of {n_considered:,} subjects, {among}; {int(applied.unknown.sum()):,} unknown")
    if n_left := int((~applied.considered).sum()):
        click.echo(f"left out: {n_left:,} known, withdrawn or planted subjects")
    _table(
        console,
        [
            (f"tune half of “{file.survey}”", {"kept": applied.tuned.to_json()}),
            ("here", {"kept": applied.kept.to_json()}),
        ]
        + [
            (title, {"kept": rate.to_json()})
            for title, rate in (
                ("there, by weight", applied.tuned_weighted),
                ("here, by weight", applied.kept_weighted),
            )
            if rate is not None
        ],
    )
    click.echo(applied.is_kept_otherwise)
    table = Table("drift of", "KS distance", "p", "n there", "n here")
    for _, title, one in applied.shifts:
        distance, p = ("" if x is None else f"{x:.3f}" for x in (one.distance, one.p))
        table.add_row(escape(title), distance, p, f"{one.n_tuned:,}", f"{one.n:,}")
    console.print(table)
    for note in applied.notes:
        click.echo(f"note: {note}")
