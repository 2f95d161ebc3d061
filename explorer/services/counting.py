"""How votes are counted, as pure functions: what is left out, who learns what of whom, and the tables made of it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from explorer.errors import SurveyError, UsageError
from explorer.ledger import Entry
from explorer.survey import Survey
from explorer.votes import (
    CHOSEN,
    CLASSIFICATIONS_SCHEMA,
    CONSENSUS_SCHEMA,
    NO_WORKFLOW,
    OWN_WORKFLOW,
    TALK_TAGS_SCHEMA,
    TOTALS_SCHEMA,
    VOLUNTEERS_SCHEMA,
)
from models import consensus, swap
from models.artifacts import ArtifactError, read_columns
from models.consensus import Basis, Votes

Weights = Literal["none", "experience", "log", "skill"]
WEIGHTS: dict[Weights, str] = {
    "none": "every volunteer alike",
    "experience": "experienced volunteers more",
    "log": "by the logarithm of experience",
    "skill": "by skill",
}

#: Answers beyond which a task has no column for each.
MOST_ANSWERS = 64
#: What an answer may be left out for, and columns of numbers with a unit.
FLAGS = ("is_live", "is_gold", "is_repeat", "is_anonymous", "is_simulated", "is_open_link", "is_training")
UNITS = {"vote_entropy": "bit"}
#: Subjects known to be right, and known not to be, that SWAP needs to be taught by them.
MIN_GOLD = 5
#: The answer that a question is about unless it is told, the first that there is; else the commonest.
YES = (CHOSEN, "yes", "true", "1")


@dataclass(frozen=True, slots=True)
class Question:
    """One answer of one task of one workflow: what a chosen fraction is of.

    Attributes
    ----------
    n_subjects
        That have been asked.
    n_votes
        Classifications of a subject, before anything is left out.
    n_volunteers
        None where only totals are known.
    """

    workflow_id: int
    task: str
    answer: str
    n_subjects: int
    n_votes: int
    n_volunteers: int | None
    is_simulated: bool = False

    @property
    def title(self) -> str:
        """For a person: ``workflow 2030 · T0 · Yes``."""
        workflow = {OWN_WORKFLOW: "our own page", NO_WORKFLOW: ""}.get(self.workflow_id, f"workflow {self.workflow_id}")
        return " · ".join(part for part in (workflow, self.task, self.answer) if part)


@dataclass(frozen=True, slots=True)
class Counting:
    """How votes are counted, and which question the survey's columns are of.

    Attributes
    ----------
    workflow_id, task, answer
        None: the question with most votes, and its "chosen", "yes", or commonest answer.
    basis
        Of fractions: distinct volunteers, each with the first vote, or views. Totals that know views alone are counted
        by views, whatever this says.
    weights
        By which the weighted chosen fraction is made.
    threshold, experienced_weight
        Of "experience": who has so many classifications elsewhere counts so much. "log" is 2 at that threshold.
    versions
        First and last workflow version, ``major.minor``, both included; "" is open. Votes of unknown version stay.
    since, until
        Days, ISO 8601; the last one included; "" is open. Votes of unknown time stay.
    live_only
        Leave out votes from before the project's launch. Where there are no others, they stay.
    leave_out_gold
        Leave out gold-standard answers: experts', not volunteers'.
    leave_out_repeats
        Leave out who had seen the subject, or finished the workflow.
    leave_out_anonymous
        Leave out sessions without a name.
    leave_out_open_links
        Leave out votes of our own page that came by a link.
    team
        Hashes of accounts that are left out: `volunteer_hash` of their names.
    """

    workflow_id: int | None = None
    task: str | None = None
    answer: str | None = None
    basis: Basis = "volunteers"
    weights: Weights = "experience"
    threshold: int = 100
    experienced_weight: float = 2.0
    versions: tuple[str, str] = ("", "")
    since: str = ""
    until: str = ""
    live_only: bool = True
    leave_out_gold: bool = True
    leave_out_repeats: bool = True
    leave_out_anonymous: bool = False
    leave_out_open_links: bool = False
    team: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, known in (("basis", get_args(Basis)), ("weights", tuple(WEIGHTS))):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} is one of {', '.join(known)}; found {getattr(self, name)!r}")
        if self.threshold < 1 or not 0 < self.experienced_weight <= 100:
            raise UsageError("the threshold of experience is 1 or more, its weight above 0 and at most 100")
        for day in (self.since, self.until):
            _day(day)
        for version in self.versions:
            version_of_text(version)

    @classmethod
    def of(cls, values: dict[str, Any]) -> Counting:
        """From JSON; names that are not known are left out."""
        known = {f.name for f in fields(cls)}
        told: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items() if n in known}
        try:
            return cls(**told)
        except (TypeError, ValueError) as error:
            raise UsageError(f"this is no way to count votes ({error})") from None


@dataclass(frozen=True)
class Asked:
    """The votes of one task of one workflow as they are in the files, before anything is left out.

    Rows are in the order of time. `row` is the subject's row in the survey; codes of volunteers are those of
    `Everything.names`, codes of answers (−1: nothing chosen) those of `answers`.
    """

    workflow_id: int
    task: str
    answers: tuple[str, ...]
    row: np.ndarray
    volunteer: np.ndarray
    classification: np.ndarray
    answer: np.ndarray
    version: np.ndarray  # int64: major · 10⁶ + minor, −1 where unknown
    at: np.ndarray  # datetime64[us], NaT where unknown
    flags: dict[str, np.ndarray]  # bool: is_live, is_gold, … ; unknown is as if it were no reason to leave out

    @property
    def is_simulated(self) -> bool:
        return bool(self.flags["is_simulated"].any())

    def keep(self, settings: Counting, names: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
        """Which rows are counted, bool (M,), and how many classifications are left out for each reason; the first.

        Training subjects of our own page are counted nowhere, and are no reason.
        """
        reasons = {}
        if settings.live_only and self.flags["is_live"].any():
            reasons["cast before the project's launch"] = ~self.flags["is_live"]
        if settings.leave_out_gold:
            reasons["gold-standard answers"] = self.flags["is_gold"]
        if settings.leave_out_repeats:
            reasons["subject seen before, or workflow finished"] = self.flags["is_repeat"]
        if settings.leave_out_anonymous:
            reasons["anonymous sessions"] = self.flags["is_anonymous"]
        if settings.leave_out_open_links:
            reasons["came by an open link"] = self.flags["is_open_link"]
        if settings.team:
            reasons["team accounts"] = np.isin(self.volunteer, np.flatnonzero(np.isin(names, settings.team)))
        low, high = (version_of_text(version) for version in settings.versions)
        if low >= 0 or high >= 0:
            beyond = (self.version < low) | ((self.version > high) if high >= 0 else False)
            reasons["another workflow version"] = beyond & (self.version >= 0)
        since, until = _day(settings.since), _day(settings.until)
        if since is not None:
            reasons["earlier"] = self.at < since
        if until is not None:
            reasons["later"] = self.at >= until + np.timedelta64(1, "D")
        keep, left_out = ~self.flags["is_training"], {}
        for reason, leaves in reasons.items():
            if n := len(np.unique(self.classification[keep & leaves])):
                left_out[reason] = n
                keep &= ~leaves
        return keep, left_out

    def votes(self, keep: np.ndarray, n_subjects: int, n_volunteers: int) -> Votes:
        return Votes(
            self.row[keep].astype(np.int32),
            self.volunteer[keep].astype(np.int32),
            self.classification[keep],
            self.answer[keep].astype(np.int16),
            n_subjects,
            n_volunteers,
            self.answers,
        )


@dataclass(frozen=True)
class Everything:
    """All votes of a survey at one moment."""

    asked: dict[tuple[int, str], Asked]
    totals: pa.Table  # of questions without single votes
    names: np.ndarray  # object (V,): hashes
    is_anonymous: np.ndarray  # bool (V,)
    n_unknown: int  # rows on subjects that the survey does not have
    key: str  # of the files
    own_key: str = ""  # of the votes of our own page


# ------------------------------------------------------------------------------------------------------------- skill
@dataclass(frozen=True)
class Learned:
    """What SWAP makes of the votes on one answer.

    Attributes
    ----------
    probability
        float64 (N,): that the answer is right, NaN without votes.
    p_chosen, p_passed, skill, contribution
        float64 (V,), NaN for who has no vote that is counted. See `models.swap.Swap`.
    is_gold
        bool (N,): subjects of known answer that taught.
    n_gold
        int64 (V,): how many of them each volunteer saw.
    how
        In words.
    """

    probability: np.ndarray
    p_chosen: np.ndarray
    p_passed: np.ndarray
    skill: np.ndarray
    contribution: np.ndarray
    is_gold: np.ndarray
    n_gold: np.ndarray
    how: str


def learn(votes: Votes, answer: int, gold: np.ndarray) -> Learned:
    """Skill of volunteers, and the probability of subjects, from the first vote of each on each.

    With at least `MIN_GOLD` subjects of either known answer among those voted on, by SWAP as these teach it; else by
    offline expectation maximisation, which takes the crowd itself for the truth.
    """
    subject, volunteer, said = binary(votes, answer)
    has_votes = np.bincount(subject, minlength=votes.n_subjects) > 0
    known = np.where(has_votes, gold, -1).astype(np.int8)
    n_gold = (int((known == 1).sum()), int((known == 0).sum()))
    if min(n_gold) < MIN_GOLD:
        known[:] = -1
    # every vote counts, and what is chosen as often as the crowd chooses at all is what was thought before
    prior = float(np.clip(said.mean(), 0.001, 0.999))
    settings = swap.Settings(prior=prior, hasty=False, detect=1.0, reject=0.0, p_min=0.0)
    arguments = (subject, volunteer, said, votes.n_subjects, votes.n_volunteers, known, settings)
    if min(n_gold) >= MIN_GOLD:
        result = swap.swap(*arguments)
        how = f"SWAP, taught by {n_gold[0]:,} subjects known to be right and {n_gold[1]:,} known not to be"
    else:
        result = swap.offline(*arguments, max_iterations=50)
        how = f"offline SWAP: fewer than {MIN_GOLD} subjects of either known answer, the crowd itself is the teacher"
    voted = np.bincount(volunteer, minlength=votes.n_volunteers) > 0

    def of_people(values: np.ndarray) -> np.ndarray:
        return np.where(voted, values, np.nan)

    return Learned(
        probability=np.where(has_votes, result.probability, np.nan),
        p_chosen=of_people(result.p_chosen),
        p_passed=of_people(result.p_passed),
        skill=of_people(result.skill),
        contribution=of_people(result.contribution),
        is_gold=known >= 0,
        n_gold=np.bincount(volunteer[known[subject] >= 0], minlength=votes.n_volunteers),
        how=how,
    )


def binary(votes: Votes, answer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each volunteer's first view of each subject, in the order of time: subject, volunteer, and whether it chose.

    Returns
    -------
    subject, volunteer
        int32 (K,).
    said
        bool (K,): whether `answer` was among its answers.
    """
    first = np.flatnonzero(votes.opens & votes.is_first)
    said = votes.answer[first] == answer
    if not votes.opens.all():  # some views gave several answers
        rows = np.flatnonzero(votes.is_first & (votes.answer == answer))
        pairs = [votes.volunteer[at].astype(np.int64) * votes.n_subjects + votes.subject[at] for at in (first, rows)]
        said |= np.isin(*pairs)
    return votes.subject[first], votes.volunteer[first], said


def weights_of(settings: Counting, n_elsewhere: np.ndarray, learned: Learned | None) -> np.ndarray | None:
    if settings.weights == "experience":
        return consensus.experience_weights(n_elsewhere, settings.threshold, settings.experienced_weight)
    if settings.weights == "log":
        return consensus.log_weights(n_elsewhere, settings.threshold)
    if settings.weights == "skill" and learned is not None:
        return consensus.skill_weights(learned.skill)
    return None


# ---------------------------------------------------------------------------------------------------------- as tables
def consensus_of(
    asked: Asked,
    settings: Counting,
    names: np.ndarray,
    survey: Survey,
    weights: np.ndarray | None,
    answer: str | None = None,
) -> pa.Table:
    """The consensus of one task: every answer of every subject; of more than `MOST_ANSWERS`, those that were given.

    Parameters
    ----------
    answer
        One that every subject has a row of in any case.
    """
    keep, _ = asked.keep(settings, names)
    rows, code = np.unique(asked.row[keep], return_inverse=True)
    votes = replace(asked.votes(keep, survey.n, len(names)), subject=code.astype(np.int32), n_subjects=len(rows))
    opens = votes.opens & votes.is_first if settings.basis == "volunteers" else votes.opens
    n_passed = np.bincount(votes.subject[opens & (votes.answer < 0)], minlength=len(rows))
    parts, given = [], []
    for first in range(0, len(asked.answers), MOST_ANSWERS):  # in parts, for a list may have thousands
        words = asked.answers[first : first + MOST_ANSWERS]
        is_here = (votes.answer >= first) & (votes.answer < first + len(words))
        part = replace(votes, answer=np.where(is_here, votes.answer - first, -1).astype(np.int16), answers=words)
        counts = consensus.count(part)
        k, n = counts.of(settings.basis)
        heavy = consensus.weighted(part, weights if weights is not None else np.ones(votes.n_volunteers))
        is_kept = np.ones(k.shape, np.bool_)
        if len(asked.answers) > MOST_ANSWERS:
            is_kept = (counts.n_chosen > 0) | (np.asarray(words, object) == answer)
        at, of = np.nonzero(is_kept)
        given.append((at, k[is_kept]))
        parts.append(
            {
                "subject_id": survey.subject_ids[rows[at]],
                "answer": np.asarray(words, object)[of],
                "n_classifications": counts.n_views[at],
                "n_volunteers": counts.n_volunteers[at],
                "n_chosen": counts.n_chosen[is_kept],
                "n_chosen_volunteers": counts.n_chosen_volunteers[is_kept],
                "weighted_chosen_fraction": heavy.fraction[is_kept],
                "weighted_low": heavy.low[is_kept],
                "weighted_high": heavy.high[is_kept],
                "n_effective": heavy.n_effective[at],
            }
            | _fractions(k[is_kept], n[at])
        )
    bits = _entropy(given, n_passed)
    every = {"workflow_id": asked.workflow_id, "task": asked.task, "fraction_basis": settings.basis}
    every |= {"is_simulated": asked.is_simulated}
    tables = [
        _table_by_schema(part | every | {"entropy": bits[at]}) for part, (at, _) in zip(parts, given, strict=True)
    ]
    return pa.concat_tables(tables).unify_dictionaries()


def _entropy(given: list[tuple[np.ndarray, np.ndarray]], n_passed: np.ndarray) -> np.ndarray:
    """`models.consensus.entropy` of answers that come in parts: subject and how often, of those that were given."""
    n, sums = n_passed.astype(np.float64), n_passed * np.log2(np.maximum(n_passed, 1))
    for subject, k in given:
        n += np.bincount(subject, k, minlength=len(n))
        sums += np.bincount(subject, k * np.log2(np.maximum(k, 1)), minlength=len(n))
    safe = np.where(n > 0, n, 1)
    bits: np.ndarray = np.where(n > 0, np.maximum(np.log2(safe) - sums / safe, 0), np.nan)
    return bits


def consensus_of_totals(totals: pa.Table, basis: Basis) -> Iterator[pa.Table]:
    """The consensus of each task of which only totals are known: by views where it does not have the other counting."""
    keys = totals.select(["workflow_id", "task"]).group_by(["workflow_id", "task"]).aggregate([]).to_pylist()
    for key in keys:
        is_it = pc.and_(
            pc.equal(totals.column("workflow_id"), key["workflow_id"]), pc.equal(totals.column("task"), key["task"])
        )
        mine = totals.filter(is_it)
        views, chosen, seen_by, chosen_by = (
            None if mine.column(name).null_count else mine.column(name).to_numpy()
            for name in ("n_classifications", "n_chosen", "n_volunteers", "n_chosen_volunteers")
        )
        of = consensus.from_totals(views, chosen, seen_by, chosen_by, None if basis == "volunteers" else basis)
        answers = len(pc.unique(mine.column("answer")))
        bits = consensus.entropy(of.k[:, None], of.n - of.k) if answers == 1 else np.full(len(mine), np.nan)
        yield _table_by_schema(
            {name: mine.column(name) for name in TOTALS_SCHEMA.names if name != "source"}
            | {"fraction_basis": of.basis, "entropy": bits, "is_simulated": False}
            | _fractions(of.k, of.n)
        )


def _fractions(k: np.ndarray, n: np.ndarray) -> dict[str, np.ndarray]:
    low, high = consensus.interval(k, n)
    none = n == 0
    with np.errstate(invalid="ignore"):
        return {
            name: np.where(none, np.nan, values)
            for name, values in (("chosen_fraction", k / n), ("chosen_low", low), ("chosen_high", high))
        }


def columns_of(mine: pa.Table, answer: str, survey: Survey, learned: Learned | None) -> dict[str, Any]:
    """The chosen question as columns of the survey: row i is subject i."""
    of_task = mine.filter(pc.equal(mine.column("answer"), answer))
    rows = survey.rows_of(of_task.column("subject_id").to_numpy())

    def spread(values: np.ndarray, missing: Any, dtype: Any) -> np.ndarray:
        column = np.full(survey.n, missing, dtype)
        column[rows] = values
        return column

    by_views = not len(of_task) or of_task.column("fraction_basis")[0].as_py() == "views"
    k, n = ("n_chosen", "n_classifications") if by_views else ("n_chosen_volunteers", "n_volunteers")
    found: dict[str, Any] = {
        name: spread(of_task.column(name).to_numpy(), np.nan, np.float32)
        for name in ("chosen_fraction", "chosen_low", "chosen_high")
    }
    for name, source in (("n_chosen", k), ("n_votes", n), ("n_classifications", "n_classifications")):
        found[name] = spread(of_task.column(source).to_numpy(), 0, np.int32)
    if not of_task.column("n_volunteers").null_count:
        found["n_volunteers"] = spread(of_task.column("n_volunteers").to_numpy(), 0, np.int32)
    found["vote_entropy"] = spread(of_task.column("entropy").to_numpy(), np.nan, np.float32)
    if of_task.column("weighted_chosen_fraction").null_count < len(of_task):
        for name in ("weighted_chosen_fraction", "n_effective"):
            found[name] = spread(of_task.column(name).to_numpy(), np.nan, np.float32)
    if learned is not None:
        found["swap_probability"] = learned.probability.astype(np.float32)
    answers = pc.unique(mine.column("answer")).to_pylist()
    if 1 < len(answers) <= MOST_ANSWERS:
        found |= _by_answer(mine, answers, k, survey)
    return found


def _by_answer(mine: pa.Table, answers: list[str], k: str, survey: Survey) -> dict[str, Any]:
    """The fraction of each answer, and the answer that most gave."""
    found: dict[str, Any] = {}
    chosen = np.zeros((survey.n, len(answers)), np.int64)
    for i, answer in enumerate(sorted(answers)):
        of_it = mine.filter(pc.equal(mine.column("answer"), answer))
        rows = survey.rows_of(of_it.column("subject_id").to_numpy())
        chosen[rows, i] = of_it.column(k).to_numpy()
        column = np.full(survey.n, np.nan, np.float32)
        column[rows] = of_it.column("chosen_fraction").to_numpy()
        name = "fraction_" + (re.sub(r"\W+", "_", answer.lower()).strip("_")[:40] or str(i))
        found[name if name not in found else f"{name}_{i}"] = column
    top = consensus.plurality(chosen)
    words = np.array([*sorted(answers), None], object)
    found["majority_answer"] = pa.array(words[np.where(top.n_tied == 1, top.answer, len(answers))], pa.string())
    return found


def people_of(
    asked: Asked, votes: Votes | None, learned: Learned | None, everything: Everything, n_elsewhere: np.ndarray
) -> pa.Table:
    """Who has a vote that is counted, by `VOLUNTEERS_SCHEMA`."""
    if votes is None or learned is None:
        return VOLUNTEERS_SCHEMA.empty_table()
    opens = votes.opens
    n_views = np.bincount(votes.volunteer[opens], minlength=votes.n_volunteers)
    is_new = ~pd.Series(votes.classification).duplicated().to_numpy()  # one may be of many subjects
    n_classifications = np.bincount(votes.volunteer[is_new], minlength=votes.n_volunteers)
    firsts = opens & votes.is_first
    n_subjects = np.bincount(votes.volunteer[firsts], minlength=votes.n_volunteers)
    voted = np.flatnonzero(n_views)
    return _table_by_schema(
        {
            "volunteer": everything.names[voted],
            "n_classifications": n_classifications[voted],
            "n_subjects": n_subjects[voted],
            "n_gold": learned.n_gold[voted],
            "n_elsewhere": pa.array(n_elsewhere[voted], from_pandas=True).cast(pa.int64()),
            "p_chosen": learned.p_chosen[voted],
            "p_passed": learned.p_passed[voted],
            "skill": learned.skill[voted],
            "contribution": learned.contribution[voted],
            "is_anonymous": everything.is_anonymous[voted],
            "is_simulated": asked.is_simulated,
        },
        VOLUNTEERS_SCHEMA,
    )


def own_tags(entries: list[Entry]) -> pa.Table:
    """Tags that were given on our own page, by `TALK_TAGS_SCHEMA`."""
    lines = []
    for entry in entries:
        told, at = entry.payload, datetime.fromisoformat(entry.at)
        who = entry.who.removeprefix("volunteer:")
        lines += [
            {"subject_id": int(told["subjects"][int(cell)]), "tag": tag.lower(), "volunteer": who, "created_at": at}
            for cell, tags in told.get("tags", {}).items()
            for tag in tags
        ]
    return pa.Table.from_pylist(lines, TALK_TAGS_SCHEMA)


def own_votes(entries: list[Entry]) -> pa.Table:
    """Votes of our own page, columns of `CLASSIFICATIONS_SCHEMA` ``is_open_link`` and ``is_training``."""
    lines = []
    for entry in entries:
        told = entry.payload
        training, chosen = set(told.get("training", ())), set(told["chosen"])
        lines += [
            (
                entry.id,
                int(subject_id),
                OWN_WORKFLOW,
                "",
                told["task"],
                CHOSEN if cell in chosen else "",
                entry.who.removeprefix("volunteer:"),
                datetime.fromisoformat(entry.at),
                bool(told.get("open_link")),
                cell in training,
            )
            for cell, subject_id in enumerate(told["subjects"])
        ]
    flags = [pa.field(name, pa.bool_()) for name in ("is_open_link", "is_training")]
    schema = pa.schema([*list(CLASSIFICATIONS_SCHEMA)[:8], *flags])
    columns = zip(*lines, strict=True) if lines else [()] * len(schema)
    return pa.table([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)


# ---------------------------------------------------------------------------------------------------------- small parts
def no_such_answer(answer: str, answers: Iterable[str]) -> UsageError:
    near = difflib.get_close_matches(answer, list(answers), n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(sorted(answers))}"
    return UsageError(f'nobody has answered "{answer}"; {hint}')


def given_of(asked: Asked) -> list[int]:
    n: list[int] = np.bincount(asked.answer[asked.answer >= 0], minlength=len(asked.answers)).tolist()
    return n


def stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def read_table(path: Path, schema: pa.Schema) -> pa.Table:
    """A file of votes by its schema; without rows where there is none."""
    if not path.exists():
        return schema.empty_table()
    try:
        return read_columns(path, schema).unify_dictionaries()
    except ArtifactError as error:
        raise SurveyError(f"{error}; ingest its sources again") from None


def codes_of(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A column of words: its words, object (K,), and int64 codes (M,)."""
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    codes = column.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return np.asarray(column.dictionary.to_pylist(), object), codes


def _table_by_schema(columns: dict[str, Any], schema: pa.Schema = CONSENSUS_SCHEMA) -> pa.Table:
    """Columns by a schema; one value stands for all rows, and what is not there, or not finite, is null."""
    n = max(len(v) for v in columns.values() if not isinstance(v, str | int | bool))
    arrays = []
    for field in schema:
        values = columns.get(field.name)
        if values is None:
            arrays.append(pa.nulls(n, field.type))
        elif isinstance(values, str | int | bool):
            arrays.append(pa.array([values] * n, field.type) if n else pa.array([], field.type))
        elif isinstance(values, pa.Array | pa.ChunkedArray):
            arrays.append(values.cast(field.type))
        else:
            arrays.append(pa.array(values, field.type, from_pandas=True))
    return pa.table(arrays, schema=schema)


def _day(day: str) -> np.datetime64 | None:
    if not day:
        return None
    try:
        return np.datetime64(date.fromisoformat(day))
    except ValueError:
        raise UsageError(f"{day!r} is not a day; write it as 2026-11-22") from None


def version_of_text(version: str) -> int:
    """``major.minor`` as a number that sorts, −1 for "" ."""
    if not version:
        return -1
    major, _, minor = version.partition(".")
    if not (major.isdecimal() and (minor or "0").isdecimal()):
        raise UsageError(f"{version!r} is not a workflow version; write it as 27.36")
    return int(major) * 1_000_000 + int(minor or 0)


def known_version(version: str) -> int:
    """`version_of_text` of what a source says, whatever that is; −1 where it is no version."""
    try:
        return version_of_text(version) if len(version) <= 12 else -1
    except UsageError:
        return -1
