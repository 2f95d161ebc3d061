"""``voorwerp vet``: campaigns of experts are made, watched, closed; candidates go out, votes and outcomes come in."""

import contextlib
import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from explorer.commands.exporting import SURVEY, _check_folder
from explorer.commands.making import options
from explorer.commands.running import who
from explorer.errors import UsageError

if TYPE_CHECKING:
    from explorer.services.campaigns import Campaign
    from explorer.services.desk import Desk
    from models.grades import Scheme

CAMPAIGN = click.argument("campaign")
FILE = click.Path(path_type=Path)
#: Suffix → a format of `explorer.services.candidates.FORMATS`.
SUFFIXES = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".vot": "votable",
    ".xml": "votable",
    ".fits": "fits",
    ".fit": "fits",
    ".reg": "regions",
    ".pdf": "pdf",
    ".html": "html",
    ".json": "json",
}
MOST_SHOWN = 12  # lines that are set aside
ALL = "all"  # of a campaign by clusters: the whole survey, where no selection has that name


@click.group("vet")
def group() -> None:
    """Experts grade subjects in campaigns: make them, see how far they are, take what they found further."""


@contextlib.contextmanager
def _desk(survey: Path) -> "Iterator[Desk]":
    from explorer.services.desk import Desk

    with Desk.open(survey) as desk:
        yield desk


def _scheme(text: str, limit: float | None) -> "Scheme":
    """A scheme by its short name, or of a file."""
    from models.grades import SCHEMES, GradeError, Scheme, with_limit

    try:
        if text in SCHEMES:
            scheme = SCHEMES[text]
        elif text.lower().endswith(".json"):
            scheme = Scheme.from_json(json.loads(Path(text).read_text(encoding="utf-8")))
        else:
            raise UsageError(f'there is no scheme "{text}"; there are {", ".join(SCHEMES)}, or give a file FILE.json')
        return scheme if limit is None else with_limit(scheme, limit)
    except FileNotFoundError:
        raise UsageError(f"there is no file {text} with a scheme of grades") from None
    except (GradeError, ValueError) as error:
        raise UsageError(f"{text} is no scheme of grades: {error}") from None


# ------------------------------------------------------------------------------------------------------------- made
PLAN = options(
    click.option(
        "--scheme",
        default="abcx",
        show_default=True,
        metavar="NAME|FILE.json",
        help="Grades: abcx, 0-3, interest (0 to 5), yes-no, or a file of your own; see README.",
    ),
    click.option("--limit", type=float, help="From which value on it is what is looked for.  [default: the scheme's]"),
    click.option("--graders", type=int, default=1, show_default=True, metavar="N", help="For each subject."),
    click.option("--known", default="", metavar="SELECTION", help="Known objects to mix in; no consensus counts them."),
    click.option("--duds", default="", metavar="SELECTION", help="Known to be nothing: mixed in likewise."),
    click.option(
        "--order",
        type=click.Choice(("seeded", "acquisition", "stratified", "clusters")),
        default="seeded",
        show_default=True,
        help="At random for each grader; by what was learned so far; the levels of --strata in turn; or by the grid, "
        "cluster by cluster, those far from what is labelled first.",
    ),
    click.option(
        "--strategy",
        type=click.Choice(("mix", "greedy", "uncertain", "bald", "novel", "run", "random")),
        default="mix",
        show_default=True,
        help="Of acquisition; run: by the newest run with an acquisition. A fifth is drawn at random in any case.",
    ),
    click.option("--strata", default="", metavar="COLUMN", help="[default: the chosen fraction, in fifths]"),
    click.option("--clusters", default="", metavar="RUN", help="Of that order.  [default: the newest with clusters]"),
    click.option("--audit", type=int, default=0, metavar="N", help="Random draws of all others, unmarked: for recall."),
    click.option("--repeats", type=float, default=0.05, show_default=True, help="Share shown again to each grader."),
    click.option(
        "--rule",
        type=click.Choice(("mean", "median", "any", "majority")),
        default="mean",
        show_default=True,
        help="How a subject's value comes of its votes.",
    ),
    click.option("--idle", type=float, default=60.0, show_default=True, metavar="S", help="Seconds of a look at most."),
    click.option("--not-blind", is_flag=True, help="Graders see scores and each other's grades before their own."),
    click.option("--seed", type=int, default=1234, show_default=True),
)


@group.command()
@click.argument("survey", type=SURVEY)
@click.argument("name")
@click.option(
    "--selection", metavar="NAME", help="Grade the subjects of this selection (by clusters: all, as without it) …"
)
@click.option("--boundary", metavar="NAME", help="… or those that this boundary keeps …")
@click.option("--version", type=click.IntRange(1), metavar="N", help="[default: the newest]")
@click.option("--top", type=float, metavar="SHARE", help="… or the top share by anomaly score: .01")
@click.option("--run", "run_id", metavar="RUN", help="Whose scores --top means.  [default: the newest]")
@click.option("--draw", type=int, metavar="N", help="Only so many of them, drawn at random.")
@PLAN
def make(
    survey: Path,
    name: str,
    selection: str | None,
    boundary: str | None,
    version: int | None,
    top: float | None,
    run_id: str | None,
    draw: int | None,
    scheme: str,
    limit: float | None,
    graders: int,
    known: str,
    duds: str,
    order: Any,
    strategy: str,
    strata: str,
    clusters: str,
    audit: int,
    repeats: float,
    rule: Any,
    idle: float,
    not_blind: bool,
    seed: int,
) -> None:
    """Make the campaign NAME of subjects of SURVEY; graders find it at /vet of a running server."""
    n_told = sum(told is not None for told in (selection, boundary, top))
    if n_told > 1 or (n_told == 0 and order != "clusters"):
        raise UsageError("say what is graded, by one of --selection, --boundary and --top")
    if version is not None and boundary is None:
        raise UsageError("--version is a boundary's; give --boundary, too")
    from explorer.services.campaigns import Plan
    from explorer.services.selected import keep_top
    from explorer.survey import counted

    grades = _scheme(scheme, limit)
    plan = Plan(
        name=name,
        scheme=grades,
        graders=graders,
        known=known,
        duds=duds,
        is_blind=not not_blind,
        order=order,
        strategy=strategy,
        strata=strata,
        clusters=clusters,
        audit=audit,
        repeats=repeats,
        outcome=rule,
        idle_s=idle,
        seed=seed,
    )
    with _desk(survey) as desk:
        if boundary is not None:
            made = desk.campaigns.of_boundary(plan, boundary, version, who(), n=draw)
        else:
            if top is not None:
                selection = keep_top(desk.explore.survey, desk.ledger, top, run_id, who())
            context, kept = _context(desk, run_id), desk.ledger.selection_names()
            if selection is None or (selection == ALL and order == "clusters" and ALL not in kept):
                made = desk.campaigns.of_all(plan, who(), n=draw, context=context)
            else:
                made = desk.campaigns.of_selection(plan, selection, who(), n=draw, context=context)
        mixed = [f"{counted(len(rows), what)}" for rows, what in _mixed(made) if len(rows)]
        click.echo(
            f"“{made.plan.name}” ({made.id}): {counted(len(made.rows), 'subject')} of {made.source['region']}, "
            f"{counted(plan.graders, 'grader')} each" + (f"; mixed in: {', '.join(mixed)}" if mixed else "")
        )
        if made.clusters is not None:
            n = len(made.clusters.told)
            click.echo(f"in grids, by {counted(n, 'cluster')} of {made.clusters.run_id}, kept as they are now")
        if not len(made.audit) and made.source["n_source"] < desk.explore.survey.frame().sum():
            click.echo("without --audit nobody will know what was missed: recall is not estimable")
        click.echo(f"a server of {survey} shows it at /vet/{made.id}")


def _mixed(campaign: "Campaign") -> list[tuple[Any, str]]:
    return [(campaign.audit, "random draw"), (campaign.known, "known object"), (campaign.duds, "dud")]


def _context(desk: "Desk", run_id: str | None) -> Any:
    """What the app opens with, or with a run of one's own."""
    from explorer.commands.exporting import as_the_app
    from explorer.services.boundaries import Context

    return Context(*as_the_app(desk.explore, run_id, None, None, None))


# ------------------------------------------------------------------------------------------------------------- seen
@group.command("list")
@click.argument("survey", type=SURVEY)
def list_(survey: Path) -> None:
    """List the campaigns of SURVEY, and how far they are."""
    from rich.markup import escape
    from rich.table import Table

    with _desk(survey) as desk:
        campaigns = desk.campaigns.listed()
        if not campaigns:
            click.echo(f"{survey} has no campaign; `voorwerp vet make` makes one")
            return
        table = Table("campaign", "id", "of", "scheme", "subjects", "graded", "found", "graders", "")
        for one in campaigns:
            found = _progress(desk, one)
            state = "open" if one.is_open else "closed"
            of = str(one.source.get("region") or "")
            cells = [one.plan.name, one.id, of, one.plan.scheme.name, f"{one.n_real:,}", f"{found['graded']:,}"]
            cells += [f"{found['found']:,}", f"{found['graders']:,}, {one.plan.graders} each", state]
            table.add_row(*map(escape, cells))
        _console().print(table)


def _progress(desk: "Desk", campaign: "Campaign") -> dict[str, int]:
    """Subjects with a grade, with all that they need, and that are found; who graded independently, and their votes;
    apart from these adjudications, looks that were repeated, and known objects and duds."""
    from explorer.services.graded import graded_of

    outcomes, votes = graded_of(desk.vetting.outcomes(campaign.id)), desk.vetting.votes(campaign.id)
    looks = outcomes["n_votes"] + outcomes["n_cannot"]
    is_decided = votes["via"] == "adjudication"
    own = votes[~is_decided & votes["role"].isin(("subject", "audit"))]
    return {
        "graded": int((looks > 0).sum()),
        "done": int((looks >= campaign.plan.graders).sum()),
        "found": int(outcomes["is_found"].sum()),
        "disputed": int(outcomes["is_disputed"].sum()),
        "interesting": int((outcomes["n_interesting"] > 0).sum()),
        "graders": int(own["who"].nunique()),
        "votes": len(own),
        "adjudications": int(is_decided.sum()),
        "repeats": int((~is_decided & (votes["role"] == "repeat")).sum()),
        "mixed": int((~is_decided & votes["role"].isin(("known", "dud"))).sum()),
    }


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if Console().is_terminal else 140, highlight=False)


@group.command()
@click.argument("survey", type=SURVEY)
@CAMPAIGN
def show(survey: Path, campaign: str) -> None:
    """Show a CAMPAIGN of SURVEY, by its name or id: its plan, how far it is, purity, agreement, what is left."""
    from explorer.services.vetting import effort_words
    from explorer.survey import counted
    from models.grades import CANNOT_JUDGE, INTERESTING, RULES

    with _desk(survey) as desk:
        one = desk.campaigns.get(campaign)
        plan, found = one.plan, _progress(desk, one)
        state = "open" if one.is_open else "closed"
        click.echo(f"“{plan.name}” ({one.id}), {state}, made {one.at[:10]} by {one.who} of {one.source.get('region')}")
        for grade in plan.scheme.grades:
            click.echo(f"  {grade.key}  {grade.name} ({grade.value:g}): {grade.definition}")
        click.echo(f"  {CANNOT_JUDGE}  cannot judge; {INTERESTING} marks what is interesting, whatever its grade")
        click.echo(f"found: {RULES[plan.outcome]}, {plan.scheme.positive:g}; {'' if plan.is_blind else 'not '}blind")
        apart = (("adjudications", "adjudication"), ("repeats", "repeat"), ("mixed", "vote"))
        beside = [counted(found[name], word) for name, word in apart if found[name]]
        if found["mixed"]:
            beside[-1] += " on known objects and duds"
        mixed = [f"{len(rows):,} {what}s" for rows, what in _mixed(one) if len(rows)]
        click.echo(
            f"{one.n_real:,} subjects to grade by {plan.graders} each" + (f", with {', '.join(mixed)}" if mixed else "")
        )
        click.echo(
            f"{counted(found['votes'], 'vote')} of {counted(found['graders'], 'grader')}"
            + (f" (beside them {', '.join(beside)})" if beside else "")
            + f": {found['graded']:,} subjects have one, "
            f"{found['done']:,} all of theirs; {found['found']:,} found, {found['disputed']:,} disputed, "
            f"{found['interesting']:,} interesting to somebody"
        )
        if one.clusters is not None:
            effort = effort_words(desk.vetting.effort(one.id)) or "nothing graded yet"
            click.echo(f"by {counted(len(one.clusters.told), 'cluster')} of {one.clusters.run_id}, in grids: {effort}")
        for line in desk.agreed.report_lines(one.id):
            click.echo(line)


@group.command()
@click.argument("survey", type=SURVEY)
@CAMPAIGN
def close(survey: Path, campaign: str) -> None:
    """Close a CAMPAIGN of SURVEY: no votes are taken any more, and its grades are told, as truth and as columns."""
    with _desk(survey) as desk:
        one = desk.campaigns.close(desk.campaigns.get(campaign).id, who())
        desk.graded.write()
        click.echo(f"“{one.plan.name}” is closed: its grades are columns and a truth for boundaries now")


@group.command()
@click.argument("survey", type=SURVEY)
@CAMPAIGN
def reopen(survey: Path, campaign: str) -> None:
    """Open a closed CAMPAIGN of SURVEY again; what it was blind to is told no more."""
    with _desk(survey) as desk:
        one = desk.campaigns.reopen(desk.campaigns.get(campaign).id, who())
        desk.graded.write()
        click.echo(f"“{one.plan.name}” is open again")


# -------------------------------------------------------------------------------------------------------------- out
@group.command("export")
@click.argument("survey", type=SURVEY)
@CAMPAIGN
@click.argument("file", type=FILE)
@click.option("--grade", default="", metavar="A,B", help="Only candidates of these grades.")
@click.option("--found", is_flag=True, help="Only those that are what is looked for, by the outcome rule.")
@click.option("--disputed", is_flag=True, help="Only those that graders do not agree on.")
@click.option("--all", "with_ungraded", is_flag=True, help="Those that nobody has graded yet, too.")
@click.option("--names", is_flag=True, help="Graders by their names; without it they are hashes.")
@click.option("--for", "for_", type=click.Choice(("training",)), help="Labels to train on instead, split by sky.")
def export(
    survey: Path,
    campaign: str,
    file: Path,
    grade: str,
    found: bool,
    disputed: bool,
    with_ungraded: bool,
    names: bool,
    for_: str | None,
) -> None:
    """Write the candidates of a CAMPAIGN of SURVEY to FILE, best first.

    The suffix says the format: .csv (with provenance in FILE.json beside it), .parquet, .vot or .xml (VOTable), .fits,
    .reg (regions for DS9), .pdf and .html (galleries to look at), .json (provenance alone).
    """
    from explorer.services import candidates
    from models.artifacts import write_bytes

    form = for_ or SUFFIXES.get(file.suffix.lower())
    if form is None:
        raise UsageError(f"{file} has none of the suffixes {', '.join(SUFFIXES)}, which say the format")
    if for_ and file.suffix.lower() not in (".csv", ".parquet"):
        raise UsageError(f"labels to train on are written as .csv or .parquet, not as {file.suffix or file}")
    _check_folder(file)
    with _desk(survey) as desk:
        one = desk.campaigns.get(campaign)
        asked = candidates.Asked(candidates.grades_in(grade), found, disputed, with_ungraded, names, _command())
        if for_ and file.suffix.lower() == ".parquet":
            candidates.labels_of(desk, one.id).to_parquet(file, index=False)
            written = [file]
        else:
            write_bytes(file, candidates.written(desk, one, form, asked))
            written = [file]
        if form in ("csv", "training"):
            side = file.with_name(f"{file.name}.json")
            write_bytes(side, candidates.written(desk, one, "json", asked))
            written.append(side)
        click.echo(f"written: {', '.join(map(str, written))}")


def _command() -> str:
    """What was typed, without where files lie on this machine."""
    import shlex

    return shlex.join(["voorwerp", *(Path(word).name if os.sep in word else word for word in sys.argv[1:])])


# --------------------------------------------------------------------------------------------------------------- in
@group.command("import")
@click.argument("survey", type=SURVEY)
@CAMPAIGN
@click.argument("file", type=FILE)
@click.option("--id-column", metavar="NAME", help="Of subjects: source_id, file_name …  [default: by its name]")
@click.option("--grade-column", metavar="NAME")
@click.option("--grader-column", metavar="NAME")
@click.option("--seconds-column", metavar="NAME")
@click.option("--date-column", metavar="NAME")
@click.option("--comment-column", metavar="NAME")
@click.option("--grader", default="", metavar="NAME", help="Whose votes they are, where no column says so.")
@click.option("--means", multiple=True, metavar="TEXT=GRADE", help='What the file writes for a grade: "Sure Lens=A".')
@click.option("--no-comments", is_flag=True, help="Comments stay behind; else they become notes of their graders.")
def import_(
    survey: Path, campaign: str, file: Path, grader: str, means: tuple[str, ...], no_comments: bool, **columns: Any
) -> None:
    """Take the votes of other tools, a CSV FILE, into a CAMPAIGN of SURVEY; the same file again changes nothing."""
    from explorer.services.vote_import import import_votes

    pairs = [one.rpartition("=") for one in means]
    if not all(sign and text.strip() and key.strip() for text, sign, key in pairs):
        raise UsageError('--means is TEXT=GRADE, such as "Sure Lens=A"; give it once for each')
    if not file.is_file():
        raise UsageError(f"there is no file {file} of votes")
    with _desk(survey) as desk:
        made = import_votes(
            desk,
            desk.campaigns.get(campaign).id,
            file.read_bytes(),
            who(),
            file=file.name,
            columns={name.removesuffix("_column"): told for name, told in columns.items() if told},
            grader=grader,
            meant={text.strip(): key.strip() for text, _, key in pairs},
            with_comments=not no_comments,
        )
        click.echo(f"read: {', '.join(f'{what} from “{column}”' for what, column in made.columns.items())}")
        told = made.sentences()
        n_head = len(told) - len(made.aside)
        for line in told[: n_head + MOST_SHOWN]:
            click.echo(line)
        if more := len(told) - n_head - MOST_SHOWN:
            click.echo(f"  and {more:,} more") if more > 0 else None


@group.command()
@click.argument("survey", type=SURVEY)
@click.argument("subject")
@click.argument("outcome", required=False)
@click.option("--source", metavar="TEXT", help="Who says so: a spectrum, a model, a paper.")
def outcome(survey: Path, subject: str, outcome: str | None, source: str | None) -> None:
    """Say what follow-up found of SUBJECT (its source id) in SURVEY: OUTCOME is confirmed, rejected, or open again.

    In place of SUBJECT and OUTCOME, a CSV FILE with the columns id, outcome and source. Purity is told against these,
    and they are a truth for boundaries.
    """
    from explorer.services.vote_import import keep_outcome, rows_of
    from explorer.survey import counted

    with _desk(survey) as desk:
        told = [(subject, outcome or "", source or "")]
        if outcome is None:
            told = _outcomes(Path(subject), source)
        rows = rows_of(desk.explore.survey, [one[0] for one in told])
        for (name, *_), row in zip(told, rows.tolist(), strict=True):
            if row < 0:
                raise UsageError(f'there is no subject "{name[:60]}" in {survey}; nothing was kept')
        n_same = 0
        for (_, what, why), row in zip(told, rows.tolist(), strict=True):
            n_same += not keep_outcome(desk, row, what.strip().lower(), why, who())
        desk.graded.write()
        same = f"; {n_same:,} said so already" if n_same else ""
        click.echo(f"{counted(len(told) - n_same, 'outcome')} kept{same}")


def _outcomes(file: Path, source: str | None) -> list[tuple[str, str, str]]:
    if not file.is_file():
        raise UsageError(
            f"say what became of it: confirmed, rejected or open; {file} is no CSV file of outcomes either"
        )
    try:
        rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8-sig"), newline="")))
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read as CSV ({error})") from None
    names = rows[0].keys() if rows else ()
    by = next((name for name in ("id", "source_id", "subject_id") if name in names), None)
    if by is None or "outcome" not in names or (source is None and "source" not in names):
        raise UsageError(f"{file} needs the columns id, outcome and source (or --source for all)")
    return [(row[by] or "", row["outcome"] or "", (row.get("source") or source or "")) for row in rows]
