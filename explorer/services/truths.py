"""What a boundary may be judged against in a survey, and which subjects each truth makes right, wrong or unknown.

Whose truth is unknown is unknown, never wrong: a subject without votes, or without a value, or one that does not count
(planted or withdrawn, `Survey.frame`). Under a truth of kind
"positives only" (tags, known objects) nobody is wrong: who has no tag is unlabelled.

Callable from a script; thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow.parquet as pq

from explorer.caches import Cache
from explorer.errors import UsageError, VoorwerpError, no_such_column
from explorer.services.counting import binary
from explorer.services.explore import SCORES, Explore
from explorer.services.notes import Notes
from explorer.services.volunteers import Volunteers
from explorer.survey import counted
from explorer.votes import CLASSIFICATIONS
from models.boundary import Term, classifiers, columns
from models.consensus import Votes
from models.limits import between
from models.rates import Kind
from models.truth import Truth, TruthError
from models.votes_truth import Prior, fit, pairs, soft

if TYPE_CHECKING:
    from explorer.services.boundaries import Context, Learning

CHOSEN, WEIGHTED = "subjects.chosen_fraction", "subjects.weighted_chosen_fraction"
#: Columns of the crowd that Talk makes, not votes.
OF_TALK = ("n_comments", "n_tags", "n_taggers", "tag_group")
#: Lists of what is known: who is not on one is no negative.
LISTS = ("is_known",)
#: Categories that are offered as labels, and groups and tags that are offered by name.
MOST_LABELS, MOST_GROUPS = 200, 300
#: Σ that is offered first, of a fraction; of everything else this percentile.
SIGMA, PERCENTILE = 0.5, 99.0

#: Among a run's inputs, hashes and no runs.

#: What is said of first votes where nobody knows which were first.
UNTIMED = "; when they were cast is not known, so the first are those that stand first in the file"

KIND_WORDS: dict[str, str] = {
    "complete": "complete: of every subject whose truth is known it is known whether it is right",
    "positives_only": "positives only: who is not listed is no negative, so precision is “at least” and there is no F1",
    "verified": "verified by design: only those are known that somebody chose to look at, so recall needs an audit",
}


@dataclass(frozen=True, eq=False)
class Soft:
    """The votes behind a truth: `k` of `n`, float64 (N,), n = 0 where nobody voted, and the crowd's prior.

    Attributes
    ----------
    scale
        float64 (N,), or None: the votes' fraction times this must reach Σ.
    """

    k: np.ndarray
    n: np.ndarray
    prior: Prior
    scale: np.ndarray | None = None

    @cached_property
    def voted(self) -> np.ndarray:
        """bool (N,): somebody voted, and the scale is known."""
        voted = self.n > 0
        return voted if self.scale is None else voted & np.isfinite(self.scale)

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Different k and n, float64 (U,) each, and int (N,): the pair of each subject, -1 without votes."""
        k, n, which, _ = pairs(self.k[self.voted], self.n[self.voted])
        pair = np.full(len(self.n), -1, np.int64)
        pair[self.voted] = which
        return k, n, pair

    def of_pairs(self, sigma: float) -> np.ndarray:
        """P(true fraction ≥ Σ) of each different pair, float64 (U,); where there is no scale."""
        k, n, _ = self.pairs
        return soft(k, n, sigma, self.prior)

    def at(self, sigma: float) -> np.ndarray:
        """P(true fraction · scale ≥ Σ | k, n), float64 (N,), NaN without votes or scale."""
        found = np.full(len(self.n), np.nan)
        if self.scale is None:
            found[self.voted] = self.of_pairs(sigma)[self.pairs[2][self.voted]]
            return found
        k, n, scale = self.k[self.voted], self.n[self.voted], self.scale[self.voted]
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = sigma / scale
        p = np.full(len(k), float(sigma <= 0))  # of a scale of 0
        up, down = scale > 0, scale < 0
        p[up] = soft(k[up], n[up], wanted[up], self.prior)
        p[down] = np.where(wanted[down] < 0, 0.0, 1 - soft(k[down], n[down], wanted[down], self.prior))
        found[self.voted] = p
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What the experts of a campaign say of every subject of the survey; arrays are in row order.

    Attributes
    ----------
    name
        The campaign's.
    values
        float64 (N,): what each is worth by the campaign's rule; NaN for who has no grade.
    limit
        From which value on it is what is looked for.
    inclusion
        float64 (N,): with which probability each was, or could have been, drawn; NaN of what could not.
    drawn
        bool (N,): who was.
    notes
        What must be said beside figures that are made with it.
    """

    name: str
    values: np.ndarray
    limit: float
    inclusion: np.ndarray
    drawn: np.ndarray
    notes: tuple[str, ...] = ()


class Experts(Protocol):
    """Who knows what experts say of subjects; `Truths` is told of one by whoever opens both."""

    @property
    def stamp(self) -> int:
        """As long as it is the same, nothing has changed."""

    def names(self) -> Mapping[str, str]:
        """Campaigns whose grades may be seen: id → name, newest first."""

    def given(self, campaign_id: str) -> Given:
        """What a campaign says.

        Raises
        ------
        VoorwerpError
            There is none, or its grades may not be seen yet.
        """

    def followed_up(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows that follow-up has confirmed, and those that it has rejected: int64, ascending."""

    def said_of(self, boundary: str, version: int) -> list[str]:
        """What was found among those that a version of a boundary keeps, as far as it may be seen."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What a truth says of every subject; arrays are in row order, and not to be written to.

    Attributes
    ----------
    positive, known
        bool (N,): right; and whether that is known. Where it is not, `positive` is False.
    p
        float64 (N,): how probably it is right, of soft truths; NaN unknown; None of others.
    values
        float (N,), NaN unknown: what must reach Σ, for a sweep of it; None where there is no Σ.
    kind
        complete, positives_only or verified.
    title
        For an axis: ``chosen fraction ≥ 0.5``.
    sentence
        What it is, of which kind, and how many subjects are right, wrong and unknown.
    columns
        References that it is read from.
    notes
        What must be said beside figures that are made with it.
    soft
        The votes behind it, where it is made of votes that can be soft.
    inclusion, drawn
        Of grades; see `Given`.
    """

    positive: np.ndarray
    known: np.ndarray
    p: np.ndarray | None
    values: np.ndarray | None
    kind: Kind
    title: str
    sentence: str
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()
    soft: Soft | None = None
    inclusion: np.ndarray | None = None
    drawn: np.ndarray | None = None


class Truths:
    """The truths of one survey. One per server."""

    def __init__(self, explore: Explore, notes: Notes, volunteers: Volunteers) -> None:
        self.explore, self.survey, self.notes, self.volunteers = explore, explore.survey, notes, volunteers
        self.experts: Experts | None = None
        self._bases, self._known, self._offers = Cache(8), Cache(12), Cache(4)
        self._limited = Cache(4)

    # ------------------------------------------------------------------------------------------------ what is offered
    def offered(self, context: Context) -> list[dict[str, Any]]:
        """Everything that can be a truth, ready for JSON: votes, scores, tags, grades, and the survey's columns.

        Returns
        -------
        list of dict
            what, reference (of tags the name), by, title, unit, kind (by default), kind_words, labels (of a category,
            with how many each: ``[name, n]``), low, high (of numbers: finite ones), n (with a value, or listed),
            n_taggers, can_be_soft, can_be_limited, and ``truth``: a `Truth` as JSON to begin with.
        """
        key = (self._stamp(), context.run_id, context.map_id, context.lambda_, context.mode)
        found: list[dict[str, Any]] = self._offers.get(key, lambda: self._offered(context))
        return found

    def _stamp(self) -> tuple[Any, ...]:
        experts = self.experts.stamp if self.experts is not None else 0
        return self.survey.generation, self.explore.talk.stamp, self.notes.last, experts

    def _offered(self, context: Context) -> list[dict[str, Any]]:
        titles = self.explore.colors(context.run_id, context.map_id)
        graded = {f"subjects.{name}" for name in self.survey.columns_of_grades()}  # offered as what they are
        numbers = [r for r in titles if "." in r and not self.explore.is_category(r) and r not in graded]
        first = [r for r in (CHOSEN, WEIGHTED) if r in numbers]
        scores = [r for r in numbers if r.startswith("scores.")]
        found = [self._number(Truth("column", r, at_least=0.0), context) for r in (*first, *scores)]
        if CHOSEN in first and "scores.feature_score" in scores:
            found.append(self._number(Truth("product", CHOSEN, "scores.feature_score", 0.0), context))
        found += self._tags()
        found += self._graded()
        found += [
            self._number(Truth("column", r, at_least=0.0), context)
            for r in numbers
            if r not in first and not r.startswith("scores.")
        ]
        names = [r.partition(".")[2] for r in titles if self.explore.is_category(r) and r not in graded]
        known = [name for name in LISTS if self._has_any(name)]
        found += [self._category(name) for name in dict.fromkeys([*known, *names])]
        return [one for one in found if one["n"]]

    def _has_any(self, name: str) -> bool:
        return any(c.name == name for c in self.survey.columns()) and "true" in self.survey.category(name)[1]

    def _number(self, truth: Truth, context: Context) -> dict[str, Any]:
        values = self._values(truth, context)
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
        if truth.column in (CHOSEN, WEIGHTED) and not truth.by:
            sigma = SIGMA
        else:
            sigma = _rounded(float(np.percentile(finite, PERCENTILE))) if len(finite) else 0.0
        truth = replace(truth, at_least=sigma)
        columns = {c.name: c.unit for c in self.survey.columns()}
        unit = columns.get(truth.column.partition(".")[2]) if truth.column.startswith("subjects.") else None
        return self._offer(truth, self._name(truth, context), len(finite), low=low, high=high, unit=unit or "")

    def _category(self, name: str) -> dict[str, Any]:
        codes, labels = self.survey.category(name)
        counts = np.bincount(codes[codes >= 0], minlength=len(labels))
        order = sorted(range(len(labels)), key=lambda i: (-counts[i], labels[i]))[:MOST_LABELS]
        chosen = "true" if "true" in labels else labels[order[-1]] if order else "?"  # the rarest is what is looked for
        truth = Truth("category", f"subjects.{name}", labels=(chosen,))
        told = [[labels[i], int(counts[i])] for i in order]
        return self._offer(truth, name.replace("_", " "), int(counts.sum()), labels=told)

    def _tags(self) -> list[dict[str, Any]]:
        found = [
            self._offer(Truth("talk", g.name), f"Talk: {g.name}", g.n_subjects, n_taggers=g.n_taggers)
            for g in self.explore.talk.groups()[:MOST_GROUPS]
        ]
        tags = list(self.notes.counts().items())[:MOST_GROUPS]
        return found + [self._offer(Truth("tag", tag), f"tag: {tag}", n) for tag, n in tags]

    def _graded(self) -> list[dict[str, Any]]:
        if self.experts is None:
            return []
        found = []
        for campaign_id, name in list(self.experts.names().items())[:MOST_GROUPS]:
            try:
                given = self.experts.given(campaign_id)
            except VoorwerpError:  # opened again a moment ago
                continue
            finite = given.values[np.isfinite(given.values)]
            ends = {"low": float(finite.min()), "high": float(finite.max())} if len(finite) else {}
            truth = Truth("grade", campaign_id, at_least=given.limit)
            found.append(self._offer(truth, f"grades of “{name}”", len(finite), **ends))
        confirmed, rejected = self.experts.followed_up()
        truth = Truth("outcome", "confirmed")
        return [*found, self._offer(truth, "confirmed by follow-up", len(confirmed) + len(rejected))]

    def _offer(self, truth: Truth, title: str, n: int, **more: Any) -> dict[str, Any]:
        kind = self._kind(truth)
        told: dict[str, Any] = {
            "what": truth.what,
            "reference": truth.column,
            "by": truth.by,
            "title": title,
            "unit": "",
            "kind": kind,
            "kind_words": KIND_WORDS[kind],
            "labels": [],
            "low": None,
            "high": None,
            "n": n,
            "n_taggers": None,
            "can_be_soft": self._votes_of(truth) is not None,
            "can_be_limited": truth.column == CHOSEN and self._has_single_votes(),
            "truth": truth.to_json(),
        }
        return told | more

    def _has_single_votes(self) -> bool:
        return bool(self.survey.columns_of_crowd()) and self.volunteers.summary().get("weights") is not None

    # --------------------------------------------------------------------------------------------------- what is right
    def of(self, truth: Truth, context: Context) -> Known:
        """What a truth says of every subject.

        Raises
        ------
        UsageError
            A column, category, tag or run that is not there; or votes that cannot be counted so.
        """
        key = self.key(truth, context)
        found: Known = self._known.get(key, lambda: self._at(truth, context))
        return found

    def _at(self, truth: Truth, context: Context) -> Known:
        base = self.base(truth, context)
        if truth.at_least is None:
            return base
        positive = between(base.values, truth.at_least) if base.values is not None else base.positive
        title = f"{self._name(truth, context)} ≥ {truth.at_least:.6g}"
        p = base.soft.at(truth.at_least) if truth.is_soft and base.soft is not None else None
        sentence = self._sentence(title, base.kind, positive, base.known)
        return replace(base, positive=positive, title=title, sentence=sentence, p=p)

    def base(self, truth: Truth, context: Context) -> Known:
        """What a truth is before Σ: its values, and who has one; kept while Σ moves. Without Σ, as `of`.

        Raises
        ------
        UsageError
            As `of`.
        """
        if truth.at_least is not None:
            truth = replace(truth, at_least=0.0)
        key = self.key(truth, context)
        found: Known = self._bases.get(key, lambda: self._base(truth, context))
        return found

    def key(self, truth: Truth, context: Context) -> tuple[Any, ...]:
        """Of a truth and everything that it is read from: as long as it is the same, so is what the truth says."""
        key: tuple[Any, ...] = (truth, self.survey.generation)
        if any(r.startswith("scores.") for r in truth.references):
            key += (context.run_id, round(context.lambda_, 4), context.mode)
        if any(r.startswith("maps.") for r in truth.references):
            key += (context.map_id,)
        if truth.what == "talk":
            key += (self.explore.talk.stamp,)
        if truth.what == "tag":
            key += (self.notes.last,)
        if truth.what in ("grade", "outcome") and self.experts is not None:
            key += (self.experts.stamp,)
        return key

    def _base(self, truth: Truth, context: Context) -> Known:
        kind, n = self._kind(truth), self.survey.n
        values, votes, given = None, None, None
        notes: list[str] = []
        if truth.what == "grade":
            given = self._experts().given(truth.column)
            values, known, positive = given.values, np.isfinite(given.values), np.zeros(n, np.bool_)
            notes.extend(given.notes)
        elif truth.what == "outcome":
            confirmed, rejected = self._experts().followed_up()
            positive, known = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
            positive[confirmed], known[confirmed], known[rejected] = True, True, True
        elif truth.what in ("talk", "tag"):
            rows = self._tagged(truth)
            positive = np.zeros(n, np.bool_)
            positive[rows] = True
            known = np.ones(n, np.bool_)
        elif truth.what == "category":
            positive, known = self._in_category(truth)
        else:
            values = self._values(truth, context)
            known = np.isfinite(values)
            positive = np.zeros(n, np.bool_)
            if truth.is_soft:
                votes = self._soft(truth, context)
                known = known & votes.voted
                values = np.where(known, values, np.nan)
            if truth.limit is not None:
                notes.append(self._about_limit(truth.limit))
        if kind == "positives_only":
            known = np.ones(n, np.bool_)
        frame = self.survey.frame()
        if not frame.all():
            positive, known = positive & frame, known & frame
            values = np.where(frame, values, np.nan) if values is not None else None
        title = self._name(truth, context)
        sentence = "" if truth.at_least is not None else self._sentence(title, kind, positive, known)
        drawn = (given.inclusion, given.drawn) if given is not None else (None, None)
        return Known(
            positive, known, None, values, kind, title, sentence, truth.references, tuple(notes), votes, *drawn
        )

    def _experts(self) -> Experts:
        if self.experts is None:
            raise UsageError("grades of experts cannot be read here: choose another truth")
        return self.experts

    def sentence(self, title: str, kind: Kind, n_right: int, n_known: int) -> str:
        """What a truth is, how many subjects of the survey are right, wrong and unknown, and its kind."""
        n = int(np.count_nonzero(self.survey.frame()))
        if kind == "positives_only":
            return f"{title}: {n_right:,} listed, {n - n_right:,} unlabelled of all {n:,}; {KIND_WORDS[kind]}"
        counts = f"{n_right:,} right, {n_known - n_right:,} not, {n - n_known:,} unknown of all {n:,}"
        return f"{title}: {counts}; {KIND_WORDS[kind]}"

    def _sentence(self, title: str, kind: Kind, positive: np.ndarray, known: np.ndarray) -> str:
        return self.sentence(title, kind, int(np.count_nonzero(positive)), int(np.count_nonzero(known)))

    def _kind(self, truth: Truth) -> Kind:
        if truth.kind != "":
            return truth.kind
        name = truth.column.partition(".")[2]
        if truth.what in ("grade", "outcome") or name in self.survey.columns_of_grades():
            return "verified"
        is_list = truth.what == "category" and name in LISTS
        is_talk = truth.column.startswith("subjects.") and self._plain(name) in OF_TALK and name in self._crowd()
        return "positives_only" if truth.what in ("talk", "tag") or is_list or is_talk else "complete"

    def _crowd(self) -> list[str]:
        return self.survey.columns_of_crowd()

    @staticmethod
    def _plain(name: str) -> str:
        return name.removeprefix("volunteers_")

    def _name(self, truth: Truth, context: Context) -> str:
        """For a person, without Σ."""
        if truth.what == "talk":
            return f"Talk tag {truth.column}"
        if truth.what == "tag":
            return f"tagged {truth.column}"
        if truth.what == "outcome":
            return "confirmed by follow-up"
        if truth.what == "grade":
            names = self.experts.names() if self.experts is not None else {}
            return f"grades of “{names.get(truth.column, truth.column)}”"
        titles = self.explore.colors(context.run_id, context.map_id)
        named = [titles.get(r) or r.partition(".")[2].replace("_", " ") for r in truth.references]
        if truth.what == "category":
            shown = ", ".join(truth.labels[:4]) + (", …" if len(truth.labels) > 4 else "")
            return f"{named[0]} is {shown}"
        words = " × ".join(named)
        if truth.limit is not None:
            words += f" (first {counted(truth.limit, 'vote')})"
        return words + (", soft" if truth.is_soft else "")

    # ---------------------------------------------------------------------------------------------------- reading
    def _tagged(self, truth: Truth) -> np.ndarray:
        if truth.what == "talk":
            return self.explore.talk.rows(truth.column)
        rows = self.survey.rows_of(self.notes.tagged(truth.column))
        if not len(rows):
            raise UsageError(f'nobody has tagged a subject "{truth.column}"; choose another truth')
        return rows

    def _in_category(self, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
        name = truth.column.partition(".")[2]
        names = [c.name for c in self.survey.columns() if c.dtype == "category"]
        if not truth.column.startswith("subjects.") or name not in names:
            raise no_such_column(name, "the columns of categories", names)
        codes, labels = self.survey.category(name)
        strange = [label for label in truth.labels if label not in labels]
        if strange:
            has = ", ".join(labels[:10]) + (", …" if len(labels) > 10 else "")
            raise UsageError(f'"{strange[0]}" is no value of {name}; it has {has or "none"}')
        wanted = np.array([label in truth.labels for label in labels] + [False])
        return wanted[codes], codes >= 0

    def _values(self, truth: Truth, context: Context) -> np.ndarray:
        """What must reach Σ, float (N,), NaN unknown."""
        parts = [self._column(reference, truth, context) for reference in truth.references]
        return parts[0] if len(parts) == 1 else np.asarray(parts[0] * parts[1].astype(np.float64))

    def _column(self, reference: str, truth: Truth, context: Context) -> np.ndarray:
        if truth.limit is not None and reference in (CHOSEN, WEIGHTED):
            k, n = self._first_votes(reference, truth.limit)
            with np.errstate(invalid="ignore"):
                return np.asarray(np.where(n > 0, k / n, np.nan))
        if truth.limit is not None and self._is_of_votes(reference):
            raise UsageError(
                f"only the chosen fraction can be counted from the first votes alone, not {reference.partition('.')[2]}"
            )
        if truth.limit is not None and not any(self._is_of_votes(r) for r in truth.references):
            raise UsageError("a limit of votes needs a truth that is counted from votes: leave the limit out")
        if reference.startswith("subjects.") and reference.partition(".")[2] == "":
            raise UsageError("a truth needs the name of a column")
        told = context.run_id, context.lambda_, context.mode, context.map_id
        if reference.startswith("scores.") and not context.run_id:
            raise UsageError("there is no run: choose one under Scores, or another truth")
        values = np.asarray(self.explore.values(reference, *told))
        if np.isinf(values).any():
            values = np.where(np.isinf(values), np.nan, values)
        return values

    def _is_of_votes(self, reference: str) -> bool:
        table, _, name = reference.partition(".")
        return table == "subjects" and name in self._crowd() and self._plain(name) not in OF_TALK

    # ------------------------------------------------------------------------------------------------------ votes
    def _votes_of(self, truth: Truth) -> tuple[str, str] | None:
        """Which of a truth's columns is a fraction of votes, and the column of how many; None where none is."""
        crowd = self._crowd()
        for reference in truth.references:
            name = reference.partition(".")[2]
            if not reference.startswith("subjects.") or name not in crowd:
                continue
            prefix = name[: len(name) - len(self._plain(name))]
            n = "n_effective" if self._plain(name) == "weighted_chosen_fraction" else "n_votes"
            n = prefix + n if prefix + n in crowd else n
            is_fraction = self._plain(name) in ("chosen_fraction", "weighted_chosen_fraction")
            if (is_fraction or self._plain(name).startswith("fraction_")) and n in crowd:
                return reference, f"subjects.{n}"
        return None

    def _soft(self, truth: Truth, context: Context) -> Soft:
        found = self._votes_of(truth)
        if found is None:
            raise UsageError("only a fraction of votes can be soft: how many voted is not known of this truth")
        reference, counts = found
        if truth.limit is not None:
            k, n = self._first_votes(reference, truth.limit)
        else:
            n = np.nan_to_num(np.asarray(self.explore.values(counts), np.float64))
            fraction = np.asarray(self.explore.values(reference), np.float64)
            n = np.where(np.isfinite(fraction), n, 0.0)
            k = np.minimum(np.nan_to_num(fraction) * n, n)
            if reference != WEIGHTED:
                k = np.rint(k)
        tuned = (n > 0) & self.half("tune")
        if not tuned.any():
            raise UsageError("nobody has voted on a subject of the tune half: this truth cannot be soft")
        try:
            prior = fit(k[tuned], n[tuned])
        except ValueError as error:  # no subject has two votes
            raise UsageError(f"this truth cannot be soft: {error}") from None
        others = [r for r in truth.references if r != reference]
        scale = self._column(others[0], truth, context).astype(np.float64) if others else None
        return Soft(k, n, prior, scale)

    def _first_votes(self, reference: str, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Chosen and votes among the first `limit` of each subject, float64 (N,) both; who has fewer has them all."""
        if reference != CHOSEN:
            raise UsageError("a limit counts all votes alike: choose the chosen fraction, not the weighted one")
        votes, told = self.volunteers.votes(), self.volunteers.summary()
        if votes is None:
            raise UsageError(
                "only totals are known of these votes, not their order: a limit cannot count the first ones"
            )
        if told.get("answer") not in votes.answers:
            raise UsageError("votes are being counted anew; try again in a moment")
        key = (self.survey.generation, told.get("key"), limit)
        found: tuple[np.ndarray, np.ndarray] = self._limited.get(
            key, lambda: first_votes(votes, votes.answers.index(told["answer"]), limit, told["basis"] == "views")
        )
        return found

    def _about_limit(self, limit: int) -> str:
        _, n = self._first_votes(CHOSEN, limit)
        n_all, n_short = int((n > 0).sum()), int(((n > 0) & (n < limit)).sum())
        return (
            f"only the first {counted(limit, 'vote')} of each subject count; {n_short:,} of {n_all:,} subjects have "
            f"fewer and count with those they have{'' if self._is_timed() else UNTIMED}"
        )

    def _is_timed(self) -> bool:
        """Whether the time of every vote in the files is known; ingest has sorted them by it then."""
        path = self.survey.path / CLASSIFICATIONS

        def look() -> bool:
            return not path.exists() or pq.read_table(path, columns=["created_at"]).column(0).null_count == 0

        return bool(self._limited.get(("timed", self.survey.generation), look))

    # ---------------------------------------------------------------------------------------------- halves, circles
    def half(self, name: str) -> np.ndarray:
        """Rows of a half, bool (N,), of those who count (`Survey.frame`): all of them where the survey has no halves.

        See `has_halves`: without them there is nothing to keep apart.
        """
        codes, labels = self.survey.category("half")
        if not self.has_halves:
            return self.survey.frame()
        if name not in labels:
            return np.zeros(self.survey.n, np.bool_)
        return np.asarray((codes == labels.index(name)) & self.survey.frame())

    @property
    def has_halves(self) -> bool:
        """Whether the survey is split into tune and test."""
        return "tune" in self.survey.category("half")[1]

    def atoms(self, references: Iterable[str], run_id: str, map_id: str = "") -> set[str]:
        """What columns are made of: two that share one of these say partly the same.

        The anomaly score is made of image and feature score, ranks of several runs of all scores; everything that is
        counted from votes is one, and so is Talk. Scores of a run that learned from labels, and places on a map of it,
        are made of what the labels are made of, too.
        """
        found: set[str] = set()
        run = self.explore.runs().get(run_id)
        graded: Mapping[str, str] = self.survey.about_grades().get("columns", {})
        for reference in references:
            table, _, name = reference.partition(".")
            if table in ("scores", "maps"):
                found |= self.explore.learned_from(run_id if table == "scores" else map_id)
            is_rank = table == "scores" and run is not None and run.kind == "ranks"
            if is_rank or (reference == "scores.anomaly_score" and self.explore.mixes(run_id)):
                found |= {f"scores.{score}" for score in SCORES}
            elif table == "subjects" and name in graded:
                found.add(graded[name])
            elif table == "subjects" and name in self._crowd():
                found.add("talk" if self._plain(name) in OF_TALK else "votes")
            else:
                found.add(reference)
        return found

    def made_of(self, truth: Truth, run_id: str, map_id: str = "") -> set[str]:
        """What a truth is made of; see `atoms`."""
        if truth.what == "talk":
            return {"talk"}
        if truth.what in ("grade", "outcome"):
            return {f"grade:{truth.column}" if truth.what == "grade" else "follow-up"}
        return {f"tag:{truth.column}"} if truth.what == "tag" else self.atoms(truth.references, run_id, map_id)

    def circular(
        self, truth: Truth, keep: Term, learning: Learning | None, context: Context, more: Iterable[str] = ()
    ) -> list[str]:
        """Titles of what a boundary and its truth have in common (science rule 4); [] where they are independent.

        Parameters
        ----------
        learning
            Knows what each classifier was taught.
        more
            References that are looked at beside those of the boundary.
        """
        mine = self.made_of(truth, context.run_id, context.map_id)
        titles: Mapping[str, str] = self.explore.colors(context.run_id, context.map_id)
        found = [
            titles.get(reference) or reference.partition(".")[2].replace("_", " ")
            for reference in dict.fromkeys((*columns(keep), *more))
            if self.atoms((reference,), context.run_id, context.map_id) & mine
        ]
        for sha in classifiers(keep):
            target = taught(learning, sha)
            if target is not None and self.made_of(target, context.run_id, context.map_id) & mine:
                found.append(f"{self._name(target, context)} (what the classifier was taught)")
            elif self.explore.learned_from(looks_at(learning, sha)) & mine:
                found.append("what the latent vectors that the classifier looks at learned from")
        return found


def taught(learning: Learning | None, sha256: str) -> Truth | None:
    """The truth that a classifier was taught; None where that cannot be told."""
    try:
        told = learning.look(sha256).about.get("truth") if learning is not None else None
        return Truth.from_json(told) if told is not None else None
    except (VoorwerpError, TruthError):
        return None


def looks_at(learning: Learning | None, sha256: str) -> str:
    """The run whose latent vectors a classifier looks at; "" where that cannot be told."""
    try:
        told = learning.look(sha256).about.get("run") if learning is not None else None
    except (VoorwerpError, TruthError):
        return ""
    return str(told.get("run_id", "")) if isinstance(told, Mapping) else ""


def first_votes(votes: Votes, answer: int, limit: int, by_views: bool) -> tuple[np.ndarray, np.ndarray]:
    """Chosen and seen among the first `limit` votes of each subject, float64 (n_subjects,) both.

    Parameters
    ----------
    by_views
        Every view counts; else the first of each volunteer.
    """
    if by_views:
        opens = np.flatnonzero(votes.opens)
        pairs = np.column_stack([votes.classification, votes.subject])
        _, view = np.unique(pairs, axis=0, return_inverse=True)
        view = view.reshape(-1)
        chose = np.zeros(int(view.max(initial=-1)) + 1, np.bool_)
        chose[view[votes.answer == answer]] = True
        subject, said = votes.subject[opens], chose[view[opens]]
    else:
        subject, _, said = binary(votes, answer)
    order = np.argsort(subject, kind="stable")
    ordered = subject[order]
    starts = np.searchsorted(ordered, ordered)  # where each subject begins
    early = order[np.arange(len(order)) - starts < limit]
    n = np.bincount(subject[early], minlength=votes.n_subjects).astype(np.float64)
    return np.bincount(subject[early], weights=said[early], minlength=votes.n_subjects), n


def _rounded(value: float) -> float:
    """Three digits that count."""
    return float(f"{value:.3g}")
