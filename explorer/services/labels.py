"""What a run learns from: sources of labels, resolved by name, and frozen into the run's folder when it is started.

A source is a text in a setting::

    campaign:NAME   grades of a campaign that is told (closed, or not blind): "found" and "not found", or, where the
                    kind has the setting ``classes`` and it is "grades", the grades' keys
    column:NAME     a column of the survey's own: categories, yes or no, or a few whole numbers
    votes           the question that is counted: k of n; what most said, where that is one answer (of one answer,
                    from half of the votes on); and the fraction of each answer

``""`` takes the one that suggests itself (`by_itself`), and ``none`` none. Planted and withdrawn subjects have no
labels; those of the survey's test half are marked. While a campaign is open and blind it teaches nothing, whoever
starts the run: what it learned would be on everybody's map. A worker reads what is frozen and nothing else.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from explorer.errors import UsageError, no_such_column
from explorer.kinds import Kind
from explorer.services.agreed import GRID
from explorer.services.boundaries import Boundaries
from explorer.services.campaigns import Campaign
from explorer.services.explore import Explore
from explorer.services.graded import BLIND, Graded, drawn_of, experts, graded_of, settled
from explorer.services.notes import Notes
from explorer.survey import PLANTED, SUBJECTS, SUBJECTS_SCHEMA, Survey, counted
from models.artifacts import sha256_file
from models.grades import CANNOT_JUDGE
from models.labels import FRACTION, LABELS, LISTED, write_labels

if TYPE_CHECKING:
    from explorer.ledger import Ledger

CAMPAIGN, COLUMN, VOTES, NONE = "campaign:", "column:", "votes", "none"
#: Classes of a campaign unless its grades are; that which is looked for comes last.
FOUND = ("not found", "found")
#: A column with more values holds no classes; of whole numbers, with more of them.
MOST_CLASSES, MOST_NUMBERS = 50, 20
#: Columns of ours that are no classes of the sky.
NO_CLASSES = ({*SUBJECTS_SCHEMA.names} - {"is_known"}) | {PLANTED, "injected_unit", "injected_host"}
#: Values of a column that say that a subject is what is looked for, unless the kind's setting ``look_for`` does.
YES = ("true", "yes", "found", "1")
#: Settings of kinds, and what stands in sentences for them.
WHO = {"expert": "labels by experts", "amateur": "labels by amateurs", "votes": "votes"}


@dataclass(frozen=True, slots=True)
class Source:
    """Where labels can come from.

    Attributes
    ----------
    text
        As it stands in a setting.
    title
        For a person, with "simulated" where they are.
    n
        Subjects of which it says something, and that count.
    """

    text: str
    title: str
    n: int
    is_simulated: bool


@dataclass(frozen=True)
class Frozen:
    """Labels as they are to be written.

    Attributes
    ----------
    settings
        Setting → source, as they were resolved; "" for none.
    columns, classes, about
        As `models.labels.write_labels` takes them.
    """

    settings: Mapping[str, str]
    columns: Mapping[str, Any]
    classes: list[str]
    about: Mapping[str, Any]

    def write(self, folder: Path) -> str:
        """Write ``labels.parquet``; its sha256."""
        write_labels(folder, self.columns, self.classes, self.about)
        return sha256_file(folder / LABELS)


@dataclass
class _Said:
    """What a source says of every subject, in row order."""

    classes: list[str]
    codes: np.ndarray  # int64 (N,), -1: nothing
    words: str
    is_simulated: bool
    atoms: list[str]
    is_found: np.ndarray | None = None  # float64 (N,), NaN: unknown
    inclusion: np.ndarray | None = None  # float64 (N,), NaN: chosen
    notes: list[str] = field(default_factory=list)


# ---------------------------------------------------------------------------------------------------- what there is
def graded_by(survey: Survey, ledger: Ledger) -> Graded:
    """Who knows the campaigns of a survey."""
    explore = Explore(survey)
    return experts(explore, ledger, Boundaries(explore, ledger), Notes(ledger, explore))


def sources(survey: Survey, ledger: Ledger, graded: Graded | None = None) -> list[Source]:
    """Everything that labels can come from now: campaigns first, the newest of them first; then columns, then votes."""
    graded = graded or graded_by(survey, ledger)
    frame, found = survey.frame(), []
    for campaign_id, name in graded.names().items():
        n = int(np.isfinite(graded.given(campaign_id).values).sum())
        is_simulated = graded.campaigns.get(campaign_id).is_simulated
        found.append(Source(CAMPAIGN + name, _titled(f"grades of “{name}”", is_simulated), n, is_simulated))
    for name in _columns(survey):
        codes, _ = survey.category(name)
        found.append(Source(COLUMN + name, f"column {name}", int((codes[frame] >= 0).sum()), False))
    if survey.columns_of_crowd() and "title" in (about := survey.about_crowd()):
        n = int((_crowd(survey, "n_votes")[frame] > 0).sum())
        is_simulated = bool(about.get("is_simulated"))
        found.append(Source(VOTES, _titled(f"votes: {about['title']}", is_simulated), n, is_simulated))
    return [source for source in found if source.n]


def _titled(title: str, is_simulated: bool) -> str:
    return f"{title} (simulated)" if is_simulated and "simulated" not in title.lower() else title


def _columns(survey: Survey) -> list[str]:
    """Columns of the survey's own that hold classes."""
    made = {*survey.columns_of_crowd(), *survey.columns_of_grades()}
    return [c.name for c in survey.columns() if c.name not in made and not _why_no_classes(survey, c.name)]


def _why_no_classes(survey: Survey, name: str) -> str:
    """Why a column holds no classes, as the end of a sentence; "" where it does."""
    if name in NO_CLASSES:
        return "is ours, and no class of the sky"
    dtype = {c.name: c.dtype for c in survey.columns()}[name]
    type_ = survey.arrow(name).type
    if dtype in ("id", "text") and not pa.types.is_boolean(type_):
        return f"holds {dtype}s, which are no classes"
    if dtype == "number":
        if not pa.types.is_integer(type_):
            return "holds numbers, which are no classes"
        if pc.count_distinct(survey.arrow(name)).as_py() > MOST_NUMBERS:
            return f"has more than {MOST_NUMBERS} different numbers, which are no classes"
    n = len(survey.category(name)[1])
    if n > MOST_CLASSES:
        return f"has {n:,} different values; classes can be {MOST_CLASSES} at most"
    return "" if n > 1 else "has one value at most, which is no choice between classes"


def by_itself(found: Iterable[Source], setting: str) -> str:
    """What a setting that is left empty takes: of experts the only campaign, or without any the only column; of
    amateurs, and as votes, the votes. ``none`` where nothing, or more than one, suggests itself.
    """
    texts = [source.text for source in found]
    if setting != "expert":
        return VOTES if VOTES in texts else NONE
    for prefix in (CAMPAIGN, COLUMN):
        if those := [text for text in texts if text.startswith(prefix)]:
            return those[0] if len(those) == 1 else NONE
    return NONE


def offered(found: Iterable[Source], setting: str) -> dict[str, Any]:
    """What a form offers for a setting: ``sources``, text and title of each, and ``by_itself``, what "" comes to."""
    fit = [source for source in found if setting != "votes" or source.text == VOTES]
    told = [[source.text, f"{source.title}: {counted(source.n, 'subject')}"] for source in fit]
    return {"sources": told, "by_itself": by_itself(fit, setting)}


# ------------------------------------------------------------------------------------------------------------ freeze
def freeze(
    survey: Survey, ledger: Ledger, kind: Kind, settings: Any, subject_ids: np.ndarray, graded: Graded | None = None
) -> Frozen:
    """Resolve the labels that a kind's settings name.

    Parameters
    ----------
    settings
        The kind's config; of it are read, where it has them, the settings of `Kind.labels`, ``classes`` ("found" or
        "grades"), ``means`` ("smooth=E, features=S": names of classes that are to count as others; nothing after
        the = leaves one out) and ``look_for`` (classes that are looked for, with commas).
    subject_ids
        Of those that the run is of, int64.

    Raises
    ------
    UsageError
        No such source (the message lists them, or offers the near miss), one that may not be seen yet, classes that do
        not go together, nobody among `subject_ids` is labelled, or not what `Kind.learns` asks for.
    """
    graded = graded or graded_by(survey, ledger)
    there = sources(survey, ledger, graded)
    chosen: dict[str, str] = {}
    for setting in kind.labels:
        asked = str(getattr(settings, setting, "") or "").strip()
        text = by_itself(there, setting) if not asked else _named(survey, graded, there, kind.name, setting, asked)
        chosen[setting] = text
        if text == NONE and not asked and setting in kind.needs_labels:
            raise UsageError(
                f"{_which(kind.name, setting, there)}; `voorwerp labels {survey.path}` lists what there is"
            )
        if setting == "votes" and text not in (VOTES, NONE):
            raise UsageError(f'{kind.name} counts votes, and "{text}" has none; take votes, or none')
    if chosen.get("expert", NONE) != NONE and chosen["expert"] == chosen.get("amateur"):
        raise UsageError(f"{kind.name} takes {chosen['expert']} as experts and as amateurs; name another, or none")
    is_by_grade = getattr(settings, "classes", "found") == "grades"
    said = {
        setting: _said(survey, graded, text, is_by_grade)
        for setting, text in chosen.items()
        if text != NONE and setting != "votes"
    }
    means = str(getattr(settings, "means", "") or "")
    try:
        classes = _matched(said, means, kind.name)
    except UsageError:
        if str(getattr(settings, "amateur", "") or "").strip() or "expert" not in said or "amateur" not in said:
            raise
        del said["amateur"]  # nobody asked for them
        chosen["amateur"] = NONE
        classes = _matched(said, means, kind.name)
    about = {
        setting: {"source": chosen[setting], "words": one.words, "is_simulated": one.is_simulated}
        | {"atoms": one.atoms, "notes": one.notes, "n": int((one.codes >= 0).sum())}
        for setting, one in said.items()
    }
    arrays: dict[str, np.ndarray] = {setting: one.codes for setting, one in said.items()}
    is_labelled = np.zeros(survey.n, bool)
    for one in said.values():
        is_labelled |= one.codes >= 0
    is_found, inclusion = np.full(survey.n, np.nan), np.full(survey.n, np.nan)
    if expert := said.get("expert"):
        is_found = _found(expert, str(getattr(settings, "look_for", "") or ""), classes, kind.name)
        is_labelled |= np.isfinite(is_found)
        inclusion = expert.inclusion if expert.inclusion is not None else inclusion
    votes: dict[str, np.ndarray] = {}
    if VOTES in chosen.values():
        crowd = survey.about_crowd()
        k, n = (np.where(survey.frame(), _crowd(survey, name), 0) for name in ("n_chosen", "n_votes"))
        votes = {"n_chosen": np.where(n > 0, k, 0), "n_votes": n} | _fractions(survey)
        is_labelled |= n > 0
        words = _titled(f"votes: {crowd['title']}", bool(crowd.get("is_simulated")))
        told = {"source": VOTES, "words": words, "is_simulated": bool(crowd.get("is_simulated"))}
        if chosen.get("votes") == VOTES:
            about["votes"] = told | {"atoms": ["votes"], "notes": [], "n": int((n > 0).sum())}
    rows = np.flatnonzero(is_labelled)
    if about and not np.isin(survey.subject_ids[rows], subject_ids).any():
        words = " and ".join(str(told["words"]) for told in about.values())
        raise UsageError(
            f"{kind.name}: {words}: none of {counted(len(rows), 'labelled subject')} is among the "
            f"{len(subject_ids):,} that the run is of; take another source, or more subjects"
        )
    if kind.learns:
        _check_learns(survey, kind, about, arrays, is_found, classes, subject_ids)
    columns: dict[str, Any] = {"subject_id": survey.subject_ids[rows]}
    columns |= {name: _texts(classes, codes[rows]) for name, codes in arrays.items()}
    columns["is_found"] = [None if np.isnan(value) else bool(value) for value in is_found[rows]]
    columns["inclusion_probability"] = inclusion[rows]
    columns |= {name: values[rows] for name, values in votes.items()}
    columns["is_test"] = is_test(survey)[rows]
    columns["duplicate_group"] = groups(survey)[rows]
    taken = {setting: "" if text == NONE else text for setting, text in chosen.items()}
    return Frozen(taken, columns, classes, about)


def _check_learns(
    survey: Survey,
    kind: Kind,
    about: Mapping[str, Mapping[str, Any]],
    arrays: Mapping[str, np.ndarray],
    is_found: np.ndarray,
    classes: list[str],
    subject_ids: np.ndarray,
) -> None:
    """Refuse labels of which the run's subjects have too few in the tune half: see `Kind.learns`."""
    listed = _listed(survey)
    may = np.isin(survey.subject_ids, subject_ids) & ~is_test(survey)
    if kind.learns == "is_found":
        who, names = "expert", ["turned down", "of interest"]
        codes = np.where(np.isfinite(is_found), is_found, -1).astype(np.int64)
        if (codes < 0).all():
            tell = f"tell by --look-for which of {', '.join(classes)} are of interest" if classes else listed
            raise UsageError(f"{kind.name}: no label says whether a subject is of interest; {tell}")
    else:
        given = [setting for setting in ("expert", "amateur") if setting in arrays]
        if not given:
            raise UsageError(
                f"{kind.name} learns from labels, and none suggest themselves: name them by --expert or --amateur; "
                f"{listed}"
            )
        who = next((setting for setting in given if (arrays[setting][may] >= 0).any()), given[0])
        names, codes = classes, arrays[who]
    words = f"{kind.name}: {about[who]['words']}"
    own = may & (codes >= 0)
    if not own.any():
        raise UsageError(
            f"{words}: all {int((codes >= 0).sum()):,} are of the test half, which nothing learns from, or of subjects "
            f"that the run is not of; take another source ({listed}), or label others"
        )
    there = np.unique(codes[own])
    if len(there) < 2:
        raise UsageError(
            f"{words}: all {int(own.sum()):,} labels of the tune half are {names[there[0]]}, and two classes are the "
            f"least that can be told apart; label others, or take another source ({listed})"
        )
    alike = groups(survey)
    for code in there:
        if len(np.unique(alike[own & (codes == code)])) < 2:
            leave = "" if kind.learns == "is_found" else f", leave it out by --means {names[code]}="
            raise UsageError(
                f"{words}: one label of the tune half only is {names[code]} (duplicates count once), which cannot be "
                f"both learned and judged; label more of it{leave}, or take another source ({listed})"
            )


def _texts(classes: list[str], codes: np.ndarray) -> list[str | None]:
    return [None if code < 0 else classes[code] for code in codes.tolist()]


def is_test(survey: Survey) -> np.ndarray:
    """Who is of the survey's test half, bool (N,)."""
    codes, words = survey.category("half")
    return np.asarray(codes == words.index("test")) if "test" in words else np.zeros(survey.n, np.bool_)


def groups(survey: Survey) -> np.ndarray:
    """int64 (N,): equal where two show the same sky; who is in no group has a negative number of its own."""
    given = survey.arrow("duplicate_group")
    is_known, ids = given.is_valid().to_numpy(zero_copy_only=False), given.fill_null(0).to_numpy()
    return np.where(is_known, ids, -1 - survey.subject_ids)


def _named(survey: Survey, graded: Graded, there: list[Source], kind: str, setting: str, asked: str) -> str:
    """A source as it stands in a setting, from what was typed: the text itself, or a name that only one has."""
    if asked == NONE or asked in (texts := [source.text for source in there]):
        return asked
    for campaign in graded.campaigns.listed():
        if asked in (CAMPAIGN + campaign.plan.name, campaign.plan.name) and not graded.is_told(campaign):
            raise UsageError(f"the campaign “{campaign.plan.name}” {BLIND}")
    if len(same := [text for text in texts if text.partition(":")[2] == asked]) == 1:
        return same[0]
    if asked.startswith(COLUMN):
        name = asked.removeprefix(COLUMN)
        own = [c.name for c in survey.columns()]
        if name not in own:
            raise no_such_column(name, SUBJECTS, [text.removeprefix(COLUMN) for text in texts if COLUMN in text] or own)
        if name in (*survey.columns_of_crowd(), *survey.columns_of_grades()):
            instead = VOTES if name in survey.columns_of_crowd() else f"{CAMPAIGN}NAME"
            raise UsageError(f'"{name}" is made of what people said here; as {WHO[setting]} take {instead}')
        why = _why_no_classes(survey, name) or "has no value for any subject that counts"
        raise UsageError(f'{kind}: "{name}" {why}; take another column')
    if asked in [CAMPAIGN + campaign.plan.name for campaign in graded.campaigns.listed()]:
        raise UsageError(f"nobody has graded anything in the campaign “{asked.removeprefix(CAMPAIGN)}” yet")
    if asked == VOTES:
        raise UsageError(f"nobody has voted on any subject of {survey.path}; `voorwerp ingest` brings votes")
    plain = {text.partition(":")[2] or text: text for text in texts}
    near = difflib.get_close_matches(asked, texts, n=1) or [
        plain[name] for name in difflib.get_close_matches(asked.partition(":")[2] or asked, plain, n=1)
    ]
    hint = f'did you mean "{near[0]}"?' if near else _list(there)
    raise UsageError(f'{kind}: there are no {WHO[setting]} called "{asked}"; {hint}')


def _listed(survey: Survey) -> str:
    return LISTED.replace("SURVEY", str(survey.path))


def _list(there: list[Source]) -> str:
    if not there:
        return "there are none yet: grade a campaign and close it, or join a column of classes"
    return "there are " + ", ".join(f"{source.text} ({source.n:,})" for source in there)


def _which(kind: str, setting: str, there: list[Source]) -> str:
    fit = [source for source in there if (source.text == VOTES) == (setting != "expert")]
    if not fit:
        cure = (
            "grade a campaign and close it (`voorwerp vet make`), or join a column of classes"
            if setting == "expert"
            else "`voorwerp ingest` brings votes"
        )
        return f"{kind} learns from {WHO[setting]}, and there are none; {cure}"
    return f"{kind} learns from {WHO[setting]}, of which there are several: say which by --{setting}; {_list(fit)}"


# ------------------------------------------------------------------------------------------------------ what they say
def _said(survey: Survey, graded: Graded, text: str, is_by_grade: bool) -> _Said:
    if text == VOTES:
        return _of_votes(survey)
    if text.startswith(COLUMN):
        return _of_column(survey, text.removeprefix(COLUMN))
    return _of_campaign(survey, graded, graded.campaigns.get(text.removeprefix(CAMPAIGN)), is_by_grade)


def _of_campaign(survey: Survey, graded: Graded, campaign: Campaign, is_by_grade: bool) -> _Said:
    outcomes = graded_of(graded.vetting.outcomes(campaign.id))
    values = settled(outcomes, campaign)
    outcomes, values = outcomes[np.isfinite(values)], values[np.isfinite(values)]
    rows = outcomes["row"].to_numpy(np.int64)
    is_found = np.full(survey.n, np.nan)
    is_found[rows] = outcomes["is_found"].to_numpy(np.float64)
    codes = np.full(survey.n, -1, np.int64)
    if is_by_grade:
        classes = [grade.key for grade in sorted(campaign.plan.scheme.grades, key=lambda grade: grade.value)]
        place = {key: i for i, key in enumerate(classes)}
        keys = graded.grades(campaign, outcomes)
        codes[rows] = [-1 if key in (None, CANNOT_JUDGE) else place[key] for key in keys]
    else:
        classes = list(FOUND)
        codes[rows] = is_found[rows].astype(np.int64)
    frame = survey.frame()
    inclusion, drawn, notes = drawn_of(campaign, frame)
    missing = int((drawn & np.isnan(is_found)).sum())
    is_covered = (campaign.n_outside == 0 or len(campaign.audit) > 0) and bool(
        np.isfinite(inclusion[campaign.rows]).all()
    )
    if campaign.plan.order in ("clusters", "stratified") and missing:
        is_covered = False  # whoever comes first was no draw
    inclusion = np.where(drawn & is_covered, inclusion, np.nan)
    told = list(notes) if is_covered else []
    if missing:
        told.append(f"{missing:,} of {counted(int(drawn.sum()), 'subject')} drawn have no grade")
    if waiting := len(graded.vetting.waiting(campaign.id)):
        told.append(
            f"{counted(waiting, 'subject')} left for a second look {'has' if waiting == 1 else 'have'} no label"
        )
    if campaign.clusters is not None:
        votes = graded.vetting.votes(campaign.id)
        votes = votes[votes["role"].isin(("subject", "audit"))]
        if n_grid := int((votes["via"] == GRID).sum()):
            told.append(
                f"{n_grid:,} of {counted(len(votes), 'grade')} were given to whole grids of a cluster: they say less "
                "of each subject, and more of its like"
            )
    words = _titled(f"grades of “{campaign.plan.name}”", campaign.is_simulated)
    return _Said(classes, codes, words, campaign.is_simulated, [f"grade:{campaign.id}"], is_found, inclusion, told)


def _of_column(survey: Survey, name: str) -> _Said:
    codes, labels = survey.category(name)
    if pa.types.is_integer(survey.arrow(name).type):  # 2 before 10
        order = sorted(range(len(labels)), key=lambda i: int(labels[i]))
        rank = np.empty(len(labels) + 1, np.int64)
        rank[order], rank[-1] = np.arange(len(labels)), -1
        codes, labels = rank[codes], [labels[i] for i in order]
    frame = survey.frame()
    known = np.where(frame, codes, -1).astype(np.int64)
    is_all = bool((known[frame] >= 0).all())
    inclusion = np.where(frame, 1.0, np.nan) if is_all else None  # who has no class was left out by nobody knows what
    return _Said(list(labels), known, f"column {name}", False, [f"subjects.{name}"], inclusion=inclusion)


def _of_votes(survey: Survey) -> _Said:
    about, frame = survey.about_crowd(), survey.frame()
    is_simulated = bool(about.get("is_simulated"))
    words = _titled(f"votes: {about['title']}", is_simulated)
    n = _crowd(survey, "n_votes")
    name = _crowd_name(survey, "majority_answer")
    if name is not None:
        codes, labels = survey.category(name)
        codes = np.where(frame & (n > 0), codes, -1).astype(np.int64)
    else:
        answer = str(about["answer"])
        labels = [f"not {answer}", answer]
        fraction = _crowd(survey, "chosen_fraction")
        codes = np.where(frame & (n > 0), fraction >= 0.5, -1).astype(np.int64)
    return _Said(list(labels), codes, words, is_simulated, ["votes"])


def _crowd_name(survey: Survey, name: str) -> str | None:
    """What a column of the crowd is called here: a survey may have had one of that name."""
    there = survey.columns_of_crowd()
    return next((one for one in (f"volunteers_{name}", name) if one in there), None)


def _crowd(survey: Survey, name: str) -> np.ndarray:
    """A column of numbers of the crowd, float64 (N,)."""
    column = _crowd_name(survey, name)
    return np.zeros(survey.n) if column is None else np.nan_to_num(survey.column(column), nan=0.0)


def _fractions(survey: Survey) -> dict[str, np.ndarray]:
    """Shares of the votes, float64 (N,), by the columns' names; NaN where nobody voted, or who does not count."""
    frame, there = survey.frame(), survey.columns_of_crowd()
    plain = [name.removeprefix("volunteers_") for name in there]
    names = [name for name, one in zip(there, plain, strict=True) if one.startswith(FRACTION)]
    if not names and (chosen := _crowd_name(survey, "chosen_fraction")):
        return {f"{FRACTION}chosen": np.where(frame, survey.column(chosen), np.nan)}
    return {name.removeprefix("volunteers_"): np.where(frame, survey.column(name), np.nan) for name in names}


def _meanings(means: str, known: Iterable[str], kind: str) -> dict[str, str]:
    """``"smooth=E, features=S"`` as a mapping; what is left out comes to ""."""
    known, found = list(known), {}
    for part in filter(None, (part.strip() for part in means.split(","))):
        name, sign, to = (piece.strip() for piece in part.partition("="))
        if not sign or not name:
            raise UsageError(f'{kind}: "{part}" says of no class what it means; write it as smooth=E, features=S')
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(known)}"
            raise UsageError(f'{kind}: no label is "{name}", which is to mean "{to}"; {hint}')
        found[name] = to
    return found


def _matched(said: Mapping[str, _Said], means: str, kind: str) -> list[str]:
    """Bring all sources to the same classes, in place; their names.

    Raises
    ------
    UsageError
        Amateurs have classes that experts do not, and nothing says what they mean.
    """
    meant = _meanings(means, dict.fromkeys(name for one in said.values() for name in one.classes), kind)
    renamed = {setting: [meant.get(name, name) for name in one.classes] for setting, one in said.items()}
    expert, amateur = said.get("expert"), said.get("amateur")
    if expert and amateur and not meant and tuple(expert.classes) == FOUND and _is_chosen_or_not(amateur.classes):
        renamed["amateur"] = list(FOUND)
    first = "expert" if expert else "amateur"
    if first not in said:
        return []
    occur = {setting: _occurring(one, renamed[setting]) for setting, one in said.items()}
    classes = [name for name in dict.fromkeys(renamed[first]) if name in occur[first]]
    for setting in said:
        if strange := sorted(occur[setting] - set(classes)):
            theirs = ", ".join(classes)
            raise UsageError(
                f'{kind}: {said[setting].words} say "{strange[0]}", and {said[first].words} know only {theirs}; '
                f'tell what it means by --means "{strange[0]}={classes[0] if classes else "…"}", or leave it out by '
                f'"{strange[0]}="'
            )
    for setting, one in said.items():
        place = {name: i for i, name in enumerate(classes)}
        code = np.array([*(place.get(name, -1) for name in renamed[setting]), -1], np.int64)
        one.codes = code[one.codes]
        if one.is_found is not None and any(to == "" for to in renamed[setting]):
            one.is_found = np.where(one.codes < 0, np.nan, one.is_found)
        one.classes = classes
    return classes


def _is_chosen_or_not(classes: list[str]) -> bool:
    return len(classes) == 2 and classes[0] == f"not {classes[1]}"


def _occurring(one: _Said, names: list[str]) -> set[str]:
    present = np.unique(one.codes[one.codes >= 0]).tolist()
    return {names[i] for i in present} - {""}


def _found(expert: _Said, look_for: str, classes: list[str], kind: str) -> np.ndarray:
    """Whether experts found what is looked for, float64 (N,), NaN unknown."""
    wanted = [name.strip() for name in look_for.split(",") if name.strip()]
    for name in wanted:
        if name not in classes:
            near = difflib.get_close_matches(name, classes, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(classes)}"
            raise UsageError(f'{kind}: no label is "{name}", which is to be looked for; {hint}')
    if expert.is_found is not None and not wanted:
        return expert.is_found
    if not wanted:
        wanted = [name for name in classes if name.lower() in YES]
    if not wanted:
        return np.full(len(expert.codes), np.nan)
    is_wanted = np.array([*(name in wanted for name in classes), np.nan])
    return np.asarray(is_wanted[expert.codes], np.float64)
