"""The candidates of a campaign as a file for others, with what they were graded and where they are from.

Tables are those of `explorer.services.export` with the grades in front: CSV, Parquet, VOTable, FITS, regions for DS9.
To look at: a gallery as PDF or HTML. Graders are hashes of their names unless names are asked for. Known objects, duds
and hidden repeats are for the graders and in no file.

What a CSV cannot say about itself is in columns that are the same in every row, and in full in the side file (JSON).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from explorer import __version__, code_version
from explorer.errors import AccessError, SampError, UsageError, VoorwerpError
from explorer.people import Person
from explorer.services import pictures
from explorer.services.candidate_gallery import HTML_PX, PDF_PX, Card, gallery_html, gallery_pdf
from explorer.services.explore import newest
from explorer.services.export import EXPORTS, n_placed, selection_table
from explorer.services.graded import graded_of
from explorer.services.pack import hashed, salt
from explorer.state import Selection
from explorer.survey import Survey, counted
from models.artifacts import now, sha256_json
from models.boundary import to_json
from models.grades import RULES

if TYPE_CHECKING:
    from explorer.services.campaigns import Campaign
    from explorer.services.desk import Desk

#: What a campaign can be written as: media type, suffix.
FORMATS: dict[str, tuple[str, str]] = {
    **{name: (mime, suffix) for name, (_, mime, suffix) in EXPORTS.items()},
    "pdf": ("application/pdf", ".pdf"),
    "html": ("text/html; charset=utf-8", ".html"),
    "json": ("application/json", ".json"),
    "training": ("text/csv; charset=utf-8", ".csv"),
}
#: Candidates in a gallery at most: what is to be looked at, and a file that can be mailed.
MOST_CARDS = 600


@dataclass(frozen=True, slots=True)
class Asked:
    """Which candidates, and how.

    Attributes
    ----------
    grades
        Only those whose grade is one of these keys; () for all that were graded.
    is_found, is_disputed
        Only those that are what is looked for; only those that graders do not agree on.
    with_ungraded
        Those too that nobody has graded yet.
    names
        Graders by their names instead of hashes.
    command
        The command line that makes this file again.
    """

    grades: tuple[str, ...] = ()
    is_found: bool = False
    is_disputed: bool = False
    with_ungraded: bool = False
    names: bool = False
    command: str = ""


# ------------------------------------------------------------------------------------------------------------- tables
def candidates(desk: Desk, campaign: Campaign, asked: Asked) -> pa.Table:
    """The candidates of a campaign, best first, and everything that is known of them.

    In front: subject_id, source_id, ra, dec, ``grade`` (a key), ``value`` (by the outcome rule), ``is_found``,
    ``n_found_votes`` of ``n_votes``, ``n_cannot``, ``n_interesting``, ``is_disputed``, ``dispersion`` (standard
    deviation of the grades' values, of nominal grades their entropy in bits), ``adjudicated`` (a key),
    ``outcome`` (a later one), ``votes`` (``person-1a2b=A;…``), ``via`` (in which ways these were given:
    ``grid;single``), ``role`` ("subject", or "audit" for a random draw). Then the columns of `selection_table`, and
    ``campaign_id``, ``campaign``, ``scheme``, ``outcome_rule``, ``drawn_from``, ``checkpoint_sha256``. Provenance in
    full is under the schema's metadata key ``voorwerp``.

    Raises
    ------
    UsageError
        A grade that the scheme does not have, or nothing is left.
    """
    outcomes = _asked_for(desk, campaign, asked)
    rows = outcomes["row"].to_numpy(np.int64)
    if not len(rows):
        raise UsageError(f"no subject of “{campaign.plan.name}” is {_filter(asked) or 'graded yet'}")
    context = _context(desk, campaign)
    table = selection_table(desk.explore, Selection.of_rows(rows, desk.explore.survey.n), *context, desk.notes)
    table = table.take(pa.array(np.searchsorted(np.unique(rows), rows)))
    about = json.loads(table.schema.metadata[b"voorwerp"]) | provenance(desk, campaign, asked)
    own: dict[str, pa.Array] = {
        "grade": pa.array(outcomes["grade"].tolist(), pa.string()),
        "value": pa.array(outcomes["value"].to_numpy(np.float64), from_pandas=True),
        "is_found": pa.array(outcomes["is_found"].to_numpy(bool)),
        "n_found_votes": pa.array(outcomes["n_found_votes"].to_numpy(np.int64)),
        "n_votes": pa.array(outcomes["n_votes"].to_numpy(np.int64)),
        "n_cannot": pa.array(outcomes["n_cannot"].to_numpy(np.int64)),
        "n_interesting": pa.array(outcomes["n_interesting"].to_numpy(np.int64)),
        "is_disputed": pa.array(outcomes["is_disputed"].to_numpy(bool)),
        "dispersion": pa.array(desk.agreed.dispersion(campaign.id).reindex(rows).to_numpy(), from_pandas=True),
        "adjudicated": pa.array([_text(value) for value in outcomes["adjudicated"]], pa.string()),
        "outcome": pa.array([_text(value) for value in outcomes["outcome"]], pa.string()),
        "votes": pa.array(_votes_of(desk, campaign, rows, asked), pa.string()),
        "via": pa.array(_via_of(desk, campaign, rows), pa.string()),
        "role": pa.array(outcomes["role"].tolist(), pa.string()),
    }
    same = {
        "campaign_id": campaign.id,
        "campaign": campaign.plan.name,
        "scheme": campaign.plan.scheme.name,
        "outcome_rule": about["outcome_rule"],
        "drawn_from": about["drawn_from"],
        "checkpoint_sha256": about["checkpoint_sha256"],
    }
    own |= {name: pa.array([value or None] * len(rows), pa.string()) for name, value in same.items()}
    first = ["subject_id", "source_id", "ra", "dec"]
    theirs = {name: table.column(name) for name in table.column_names if name not in first}
    parts = {name: (table.schema.field(name), table.column(name)) for name in first}
    for name, values in own.items():
        if list(own).index(name) == list(own).index("campaign_id"):
            parts |= {n: (table.schema.field(n), column) for n, column in theirs.items()}
        while name in theirs or name in parts:  # a user's own column keeps its name
            name = f"vetting_{name}"
        parts[name] = (pa.field(name, values.type), values)
    schema = pa.schema([field for field, _ in parts.values()], {"voorwerp": json.dumps(about)})
    return pa.table([column for _, column in parts.values()], schema)


def _asked_for(desk: Desk, campaign: Campaign, asked: Asked) -> pd.DataFrame:
    """Those that are asked for, best first, with their ``grade``."""
    keys = [grade.key for grade in campaign.plan.scheme.grades] + ["Q"]
    if strange := [key for key in asked.grades if key not in keys]:
        raise UsageError(f'"{strange[0]}" is no grade of {campaign.plan.scheme.name}; there are {", ".join(keys)}')
    outcomes = graded_of(desk.vetting.outcomes(campaign.id))
    outcomes = outcomes.assign(grade=desk.graded.grades(campaign, outcomes))
    wanted = np.ones(len(outcomes), np.bool_)
    if not asked.with_ungraded:
        wanted &= outcomes["grade"].notna().to_numpy()
    if asked.grades:
        wanted &= outcomes["grade"].isin(asked.grades).to_numpy()
    if asked.is_found:
        wanted &= outcomes["is_found"].to_numpy(bool)
    if asked.is_disputed:
        wanted &= outcomes["is_disputed"].to_numpy(bool)
    outcomes = outcomes[wanted]
    share = outcomes["n_found_votes"] / outcomes["n_votes"].clip(lower=1)
    order = np.lexsort(
        (outcomes["row"], -outcomes["n_interesting"], -share, -outcomes["value"].fillna(-np.inf), -outcomes["is_found"])
    )
    return outcomes.iloc[order]


def _filter(asked: Asked) -> str:
    parts = [f"of grade {' or '.join(asked.grades)}"] if asked.grades else []
    parts += ["what is looked for"] if asked.is_found else []
    parts += ["disputed"] if asked.is_disputed else []
    return " and ".join(parts)


def _votes_of(desk: Desk, campaign: Campaign, rows: np.ndarray, asked: Asked) -> list[str]:
    """``person-1a2b=A;person-3c4d=B`` of each row, by name of the grader; adjudications are not among them."""
    votes = desk.vetting.votes(campaign.id)
    votes = votes[votes["role"].isin(("subject", "audit")) & (votes["via"] != "adjudication")]
    called = names_of(desk, sorted(set(votes["who"])), asked.names)
    said: dict[int, list[str]] = {}
    for row, who, grade in zip(votes["row"], votes["who"], votes["grade"], strict=True):
        if isinstance(grade, str) and grade:
            said.setdefault(int(row), []).append(f"{called[who]}={grade}")
    return [";".join(sorted(said.get(int(row), []))) for row in rows]


def _via_of(desk: Desk, campaign: Campaign, rows: np.ndarray) -> list[str]:
    """In which ways the votes on each row were given, ``grid;single``: a whole grid's grade says less of each."""
    votes = desk.vetting.votes(campaign.id)
    votes = votes[votes["role"].isin(("subject", "audit")) & (votes["via"] != "adjudication")]
    ways = votes.groupby("row")["via"].agg(lambda via: ";".join(sorted(set(via))))
    return [str(way) for way in ways.reindex(rows).fillna("")]


def names_of(desk: Desk, people: Sequence[str], names: bool) -> dict[str, str]:
    """How graders are called in a file: as in `pack`, so that files of one survey can be put side by side."""
    if names:
        return {who: who for who in people}
    secret = salt(desk.explore.survey.info.survey_id)
    return {who: hashed(who, secret) for who in people}


def _context(desk: Desk, campaign: Campaign) -> tuple[str, str, float, Any]:
    """Run, map, λ and mode that the campaign was made with, as far as they are still there."""
    told, explore = campaign.source, desk.explore
    run_id = str(told.get("run_id") or "")
    map_id = str(told.get("map_id") or "")
    run_id = run_id if run_id in explore.runs() else newest(explore.runs())
    weight, mode = told.get("lambda"), told.get("lambda_mode") or "raw"
    return run_id, map_id if map_id in explore.maps() else "", 0.2 if weight is None else float(weight), mode


def provenance(desk: Desk, campaign: Campaign, asked: Asked) -> dict[str, Any]:
    """Where the grades are from, in words and numbers: what every format carries; nothing in it is nested."""
    plan, told, votes = campaign.plan, campaign.source, desk.vetting.votes(campaign.id)
    is_decided, is_real = votes["via"] == "adjudication", votes["role"].isin(("subject", "audit"))
    own, deciders = votes[~is_decided & is_real], sorted(set(votes.loc[is_decided, "who"]))
    people = sorted(set(own["who"]))
    called = names_of(desk, [*people, *deciders], asked.names)
    maker = names_of(desk, [campaign.who], asked.names)[campaign.who]
    boundary, sha = told.get("boundary"), ""
    if boundary:
        try:
            sha = sha256_json(to_json(desk.boundaries.get(boundary, told.get("version")).keep))
        except VoorwerpError:
            sha = "not there any more"
    whence = f"the boundary “{boundary}”, version {told.get('version')}" if boundary else ""
    if not whence and told.get("selection"):
        whence = f"the selection “{told['selection']}”"
    times = sorted(votes["at"].astype(str)) if len(votes) else [""]
    run_id = _context(desk, campaign)[0]
    audit = f"{counted(len(campaign.audit), 'random draw')} of the {campaign.n_outside:,} subjects outside"
    return {
        "campaign_id": campaign.id,
        "campaign": plan.name,
        "campaign_made": f"{campaign.at} by {maker}",
        "campaign_state": "open" if campaign.is_open else "closed",
        "scheme": plan.scheme.name,
        "scheme_level": plan.scheme.level,
        "scheme_grades": "; ".join(
            f"{g.key} {g.name} ({g.value:g}): {g.definition.rstrip('.')}" for g in plan.scheme.grades
        ),
        "outcome_rule": RULES[plan.outcome].replace("the limit", f"the limit {plan.scheme.positive:g}"),
        "graders_per_subject": plan.graders,
        "graders": ", ".join(called[who] for who in people),
        "n_votes": len(own),
        "n_grid_votes": int((own["via"] == "grid").sum()),
        "n_adjudications": int(is_decided.sum()),
        "adjudicated_by": ", ".join(called[who] for who in deciders),
        "n_repeats": int((~is_decided & (votes["role"] == "repeat")).sum()),
        "first_vote": times[0],
        "last_vote": times[-1],
        "is_blind": "yes" if plan.is_blind else "no",
        "audit": audit if len(campaign.audit) else "none: recall cannot be estimated",
        "drawn_from": whence or str(told.get("region") or ""),
        "n_source": told.get("n_source") or "",
        "inclusion": told.get("inclusion") or 1.0,
        "boundary_sha256": sha,
        "checkpoint_sha256": checkpoint_of(desk, run_id),
        "only": _filter(asked),
        "code_version": code_version(),
        "command": asked.command,
    }


def checkpoint_of(desk: Desk, run_id: str) -> str:
    """Hex sha256 of the network behind a score run; "" where there is none."""
    run = desk.explore.runs().get(run_id)
    return (desk.boundaries.checkpoint(run) or "") if run is not None else ""


# ------------------------------------------------------------------------------------------------------------ formats
def written(desk: Desk, campaign: Campaign, form: str, asked: Asked | None = None) -> bytes:
    """A campaign's candidates in one of `FORMATS`.

    Raises
    ------
    UsageError
        There is no such format; none that is asked for; or none of them has a place, which regions need.
    """
    asked = asked or Asked()
    if form not in FORMATS:
        raise UsageError(f'"{form}" is no format for candidates; there are {", ".join(FORMATS)}')
    if form == "training":
        return labels_csv(desk, campaign)
    if form == "json":
        return json.dumps(side_file(desk, campaign, asked), indent=1, ensure_ascii=False).encode()
    table = candidates(desk, campaign, asked)
    if form in ("pdf", "html"):
        return _gallery(desk, campaign, table, form)
    if form == "regions":
        if not n_placed(table):
            raise UsageError("none of these subjects has RA and Dec, which regions need; export .csv or .vot")
        table = _labelled(table)
    return EXPORTS[form][0](table)


def export(
    desk: Desk, campaign_id: str, form: Mapping[str, str], person: Person | None = None
) -> tuple[bytes, str, str]:
    """What a browser asks for: content, media type and file name.

    Parameters
    ----------
    form
        ``format`` (one of `FORMATS`), ``grade`` ("A,B"), ``found``, ``disputed``, ``names`` ("1").
    person
        Who asks; None for whoever has the files.

    Raises
    ------
    UsageError
        As `written`; or there is no such campaign.
    AccessError
        They may not see its grades yet, or the names of its graders.
    """
    campaign = desk.campaigns.get(campaign_id)
    allow(desk, campaign, person, form.get("names") == "1")
    name = form.get("format", "csv")
    if name not in FORMATS:
        raise UsageError(f'"{name}" is no format for candidates; there are {", ".join(FORMATS)}')
    is_found, is_disputed, names = (form.get(flag) == "1" for flag in ("found", "disputed", "names"))
    asked = Asked(grades_in(form.get("grade", "")), is_found, is_disputed, names=names)
    asked = replace(asked, command=command_of(desk, campaign, name, asked))
    mime, suffix = FORMATS[name]
    stem = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in campaign.plan.name)[:60]
    return written(desk, campaign, name, asked), mime, f"{stem.strip('_') or 'campaign'}{suffix}"


def allow(desk: Desk, campaign: Campaign, person: Person | None, names: bool = False) -> None:
    """Refuse who may still grade it blind, and the names of graders to all but owners.

    Raises
    ------
    AccessError
        They may not.
    """
    if person is None or person.may("owner"):
        return
    if not desk.graded.is_told(campaign):
        raise AccessError(f"the campaign “{campaign.plan.name}” is blind and open: its candidates are an owner's")
    if names:
        raise AccessError("who graded is named to owners only; leave the names out")


def send(desk: Desk, campaign_id: str, form: Mapping[str, str], person: Person | None = None) -> str:
    """The same candidates to TOPCAT, Aladin and whoever else takes tables on this machine; what became of it.

    Raises
    ------
    UsageError, AccessError
        As `export`.
    SampError
        Nobody takes tables, or this server reaches no desktop.
    """
    campaign = desk.campaigns.get(campaign_id)
    allow(desk, campaign, person)
    if desk.samp is None:
        raise SampError("this server reaches no program of your desktop; export a file instead")
    asked = Asked(grades_in(form.get("grade", "")), form.get("found") == "1", form.get("disputed") == "1")
    table = candidates(desk, campaign, asked)
    receivers = desk.samp.send_table(table, campaign.plan.name)
    return f"{counted(table.num_rows, 'candidate')} sent to {', '.join(receivers)}"


def grades_in(text: str) -> tuple[str, ...]:
    """``A,B`` as keys."""
    return tuple(dict.fromkeys(part.strip().upper() for part in text.split(",") if part.strip()))


def command_of(desk: Desk, campaign: Campaign, form: str, asked: Asked) -> str:
    """The command line that writes the same, beside the survey's folder: where that lies is nobody's business."""
    import shlex

    words = ["voorwerp", "vet", "export", desk.explore.survey.path.name, campaign.plan.name]
    words += ["--for", "training", "labels.csv"] if form == "training" else [f"candidates{FORMATS[form][1]}"]
    words += ["--grade", ",".join(asked.grades)] if asked.grades else []
    for flag in ("found", "disputed"):
        words += [f"--{flag}"] if getattr(asked, f"is_{flag}") else []
    return shlex.join(words + (["--names"] if asked.names else []))


def side_file(desk: Desk, campaign: Campaign, asked: Asked) -> dict[str, Any]:
    """What stands beside a CSV: provenance, and the scheme and plan as they are."""
    plan = campaign.plan
    return {
        "voorwerp": "candidates",
        "voorwerp_version": __version__,
        "survey": desk.explore.survey.info.name,
        "survey_id": desk.explore.survey.info.survey_id,
        "exported_at": now(),
        **provenance(desk, campaign, asked),
        "source": dict(campaign.source),
        "plan": plan.to_json(),
        "asked": {name: value for name, value in asdict(asked).items() if value},
    }


def _labelled(table: pa.Table) -> pa.Table:
    """With grade and k of n behind the id, which is what a region is labelled with."""
    grade = pc.fill_null(table.column("grade"), "–")
    of = [table.column(name).cast(pa.string()) for name in ("n_found_votes", "n_votes")]
    label = pc.binary_join_element_wise(table.column("source_id"), grade, pc.binary_join_element_wise(*of, "/"), " ")
    i = table.schema.get_field_index("source_id")
    return table.set_column(i, table.schema.field(i), label)


def _counts(about: dict[str, Any]) -> str:
    """Independent votes and their graders; adjudications and repeats beside them."""
    graders = len(about["graders"].split(", ")) if about["graders"] else 0
    beside = [(about["n_adjudications"], "adjudication"), (about["n_repeats"], "repeat")]
    words = [f"{counted(about['n_votes'], 'vote')} of {counted(graders, 'grader')}"]
    return ", ".join(words + [counted(n, what) for n, what in beside if n])


def _gallery(desk: Desk, campaign: Campaign, table: pa.Table, form: str) -> bytes:
    n = table.num_rows
    shown = table.slice(0, MOST_CARDS)
    about = json.loads(table.schema.metadata[b"voorwerp"])
    told = {name: value for name, value in about.items() if value not in ("", None)}
    only = f", {about['only']}" if about["only"] else ""
    caption = (
        f"{'All' if n <= MOST_CARDS else f'The first {MOST_CARDS:,} of'} {counted(n, 'candidate')} of the campaign "
        f"“{campaign.plan.name}”{only}, from {about['drawn_from'] or 'the survey'} of {about['survey']}: best first. "
        f"k of n graders reach the limit. Found (blue; disputed ones brown): {about['outcome_rule']}. "
        f"Grades: {about['scheme_grades']}. "
        f"{_counts(about)}, "
        f"{about['first_vote'][:10]} to {about['last_vote'][:10]}. Random draws from outside: {about['audit']}. "
        f"Run {about['run_id'] or 'none'}, checkpoint {about['checkpoint_sha256'][:12] or 'none'}, "
        f"boundary {about['boundary_sha256'][:12] or 'none'}, code {about['code_version']}, {about['exported_at']}. "
        f"{about['command']}"
    )
    cards = _cards(desk, shown, PDF_PX if form == "pdf" else HTML_PX)
    title = f"{campaign.plan.name}: {counted(n, 'candidate')}"
    if form == "html":
        return gallery_html(title, cards, caption, told)
    return gallery_pdf(title, cards, caption, told, datetime.now(UTC))


def _cards(desk: Desk, table: pa.Table, longest: int) -> list[Card]:
    survey = desk.explore.survey
    rows = survey.rows_of(table.column("subject_id").to_numpy())
    found = []
    names = ("source_id", "grade", "n_found_votes", "n_votes", "n_interesting", "is_found", "is_disputed", "outcome")
    for row, told in zip(rows.tolist(), table.select([*names, "role", "adjudicated"]).to_pylist(), strict=True):
        words = ["disputed"] if told["is_disputed"] else []
        words += [f"adjudicated {told['adjudicated']}"] if told["adjudicated"] else []
        words += [told["outcome"]] if told["outcome"] else []
        words += [f"interesting to {told['n_interesting']}"] if told["n_interesting"] else []
        words += ["random draw"] if told["role"] == "audit" else []
        grade = f"{told['grade'] or 'no grade'} · {told['n_found_votes']} of {told['n_votes']}"
        picture = _picture(desk, survey, row, longest)
        marks = (bool(told["is_found"]), bool(told["is_disputed"]), int(told["n_interesting"]))
        found.append(Card(picture, told["source_id"], grade, ", ".join(words), *marks))
    return found


def _picture(desk: Desk, survey: Survey, row: int, longest: int) -> bytes:
    """The original as people saw it; the network's crop where there is none, nothing where there is neither."""
    try:
        return desk.originals.shown(row, longest)[0]
    except VoorwerpError:
        try:
            return pictures.crop_pictures(survey, np.array([row]))[0]
        except VoorwerpError:
            return b""


# ------------------------------------------------------------------------------------------------------------- labels
def labels_of(desk: Desk, campaign_id: str) -> pd.DataFrame:
    """What a campaign teaches a network: see `explorer.services.graded.Graded.labels`."""
    found: pd.DataFrame = desk.graded.labels(campaign_id)
    return found


def labels_csv(desk: Desk, campaign: Campaign) -> bytes:
    """The labels as CSV: subject_id, source_id, label, value, is_found, …, split."""
    from explorer.services.export import csv_bytes

    frame = labels_of(desk, campaign.id).drop(columns="row")
    if not len(frame):
        raise UsageError(f"nobody has graded a subject of “{campaign.plan.name}” yet, so there is nothing to learn")
    return csv_bytes(pa.Table.from_pandas(frame, preserve_index=False))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
