"""What a boundary is worth against a truth: its rates, what it throws away, what it costs, and the curves around it.

Live numbers are those of the tune half (science rule 3). What is kept, what it costs and what is thrown away are of the
whole survey: a person vets all of it, and tags and classes say nothing of a truth that is not made of them. Where they
are what the truth is made of, they are counted in the tune half alone, or the test half would be told. Who was planted
or withdrawn is in none of these (`Survey.frame`).

While one limit moves, everything else stands still, is sorted once and kept: a move is look-ups
(`models.rates.Sweep`). `Judge.numbers` never fails: what cannot be answered is a sentence in ``trouble``, and the
numbers that it concerns are null.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from explorer.caches import Cache
from explorer.errors import UsageError, VoorwerpError
from explorer.services import apart
from explorer.services.cost import Cost, Costs
from explorer.services.explore import Explore
from explorer.services.losses import NO_GROUPS, Groups, Losses
from explorer.services.notes import Notes
from explorer.services.talk import Talk
from explorer.services.truths import KIND_WORDS, Known, Soft, Truths, taught
from explorer.state import COMPONENTS, Draft
from models.artifacts import ArtifactError, sha256_json
from models.boundary import (
    And,
    BoundaryError,
    Gate,
    Kept,
    Learned,
    Not,
    Path,
    Region,
    Source,
    Term,
    alternatives,
    at,
    classifiers,
    crosses_itself,
    evaluate,
    in_words,
    leaves,
    replaced,
    to_json,
)
from models.budget import Budget, budget, places, random
from models.classifier import ClassifierError, corrected
from models.limits import between, is_single, nearest
from models.rates import NO_AUDIT, Counts, Ranked, Rate, Sweep, count, rates, ratio
from models.truth import Truth, TruthError
from models.votes_truth import ceiling
from models.weighted import weighted

if TYPE_CHECKING:
    from explorer.services.boundaries import Boundaries, Context, Saved

#: Positives of the tune half below which rates are told out of fold, too (science rule 3).
FEW = 100
#: Subjects of the tune half up to which that is done at once: many fits.
AT_ONCE = 20_000
#: Points of a curve, at most.
POINTS = 200
#: Subjects of a cell of the map from which on it is said that nothing of it is kept.
IN_CELL = 5
#: Drafts that are remembered for curves.
REMEMBERED = 256
#: Subjects drawn with known probability up to which weighted rates follow a moving limit.
WEIGHTED_LIVE = 20_000
#: Different pairs of votes up to which a soft truth follows a moving Σ.
MOST_PAIRS = 5_000
#: Share of the survey that a sample must stand for, so that rates of it are those of the survey.
STANDS_FOR = 0.8
#: Scores of a run, and saved boundaries, that have a budget curve.
MOST_SCORES, MOST_SAVED = 8, 8

Moving = Path | Literal["truth"] | None
#: What a question may fail with that a person can do something about.
TROUBLES = (VoorwerpError, ArtifactError, BoundaryError, TruthError, ClassifierError)
NO_TRUTH = "no truth is chosen: choose what the boundary is judged against"


@dataclass(frozen=True, eq=False)
class _Halves:
    """Who is in which half; in a survey without halves all are in the tune half, which is then called "all"."""

    name: str
    tune: np.ndarray
    test: np.ndarray
    groups: np.ndarray  # int (N,): duplicate groups; a subject without one is its own
    frame: np.ndarray  # bool (N,): who counts at all

    @cached_property
    def rows(self) -> np.ndarray:
        """Rows of the tune half."""
        return np.flatnonzero(self.tune)

    @cached_property
    def n(self) -> int:
        """Subjects of the survey that count."""
        return int(np.count_nonzero(self.frame))


# ---------------------------------------------------------------------------------------------- a boundary, counted
class _Cut:
    """Whom a boundary keeps, and how to count it; `_Moved` answers the same by look-ups."""

    def __init__(self, kept: Kept, halves: _Halves) -> None:
        self.kept, self.halves = kept, halves
        self._of_classes: tuple[Groups, np.ndarray] | None = None  # while Σ moves, nothing else is thrown away

    @cached_property
    def n_kept(self) -> int:
        return int(np.count_nonzero(self.kept.yes & self.halves.frame))

    @cached_property
    def n_unknown(self) -> int:
        """Of the tune half."""
        return int(np.count_nonzero(self.kept.unknown[self.halves.rows]))

    @cached_property
    def tuned(self) -> np.ndarray:
        """bool (n_tune,): who of the tune half is kept."""
        return np.asarray(self.kept.yes[self.halves.rows])

    def counts(self, known: Known) -> Counts:
        rows = self.halves.rows
        return count(self.tuned, known.positive[rows], known.known[rows])

    def expected(self, p: np.ndarray) -> float:
        """Σ p of the kept of the tune half."""
        return float(np.nansum(p[self.halves.rows][self.tuned]))

    def among(self, rows: np.ndarray) -> np.ndarray:
        """Whether each of some rows is kept."""
        return np.asarray(self.kept.yes[rows])

    def of_classes(self, groups: Groups) -> np.ndarray:
        held = self._of_classes
        if held is None or held[0] is not groups:
            held = self._of_classes = (groups, groups.counted(self.kept.yes[groups.rows]))
        return held[1]


@dataclass(frozen=True, eq=False)
class _Ready:
    """All of a boundary but one limit, sorted: of the tune half, of those it refuses there, of the whole survey."""

    values: np.ndarray
    masks: tuple[np.ndarray, np.ndarray, np.ndarray]
    tuned: Sweep
    refused: Sweep
    whole: Sweep
    p_sums: np.ndarray | None  # (n_valued + 1,): what each value of the tune half adds to Σ p of the kept
    p_rest: float


class _Moved:
    """A boundary with its limit somewhere; see `_Cut`."""

    def __init__(self, ready: _Ready, low: float | None, high: float | None, halves: _Halves) -> None:
        self.ready, self.low, self.high, self.halves = ready, low, high, halves
        self._counts = ready.tuned.at(low, high)
        self.n_kept = ready.whole.at(low, high).kept
        self.n_unknown = self._counts.n - self._counts.kept - ready.refused.at(low, high).kept

    def counts(self, known: Known) -> Counts:
        return self._counts

    def expected(self, p: np.ndarray) -> float:
        if self.ready.p_sums is None:
            return math.nan
        first, end = self.ready.tuned.places(self.low, self.high)
        return float(self.ready.p_rest + self.ready.p_sums[end] - self.ready.p_sums[first])

    def among(self, rows: np.ndarray) -> np.ndarray:
        values = self.ready.values[rows]
        yes, no, unsure = (mask[rows] for mask in self.ready.masks)
        inside = between(values, self.low, self.high, self.ready.whole.is_single)
        return np.asarray(np.where(np.isnan(values), unsure, np.where(inside, yes, no)))

    def of_classes(self, groups: Groups) -> np.ndarray:
        return self.ready.whole.tracked_at(self.low, self.high)


@dataclass(frozen=True, eq=False)
class _ReadyTruth:
    """A boundary that stands still, and all of a truth but Σ, in the tune half."""

    sweep: Sweep  # over the truth's values; its "positive" are the kept
    n_kept: int
    n_kept_known: int
    is_single: bool
    pairs_kept: np.ndarray | None  # how many have each pair of votes: kept, and all; None where there are too many
    pairs_all: np.ndarray | None
    values: np.ndarray  # of the whole survey, in order, without the missing

    def sigma(self, sigma: float) -> float:
        """Σ as it is compared in the whole survey, of which the sweep is a part."""
        return float(nearest(sigma, self.is_single, True))

    def n_right(self, sigma: float) -> int:
        """Subjects of the survey that reach Σ."""
        return len(self.values) - int(np.searchsorted(self.values, self.values.dtype.type(self.sigma(sigma))))

    def counts(self, sigma: float) -> Counts:
        reached = self.sweep.at(low=self.sigma(sigma))
        tp, fn, n_known = reached.tp, reached.fp, len(self.sweep.values)
        fp = self.n_kept_known - tp
        unknown = self.n_kept - self.n_kept_known
        return Counts(tp, fp, fn, n_known - tp - fp - fn, unknown, self.sweep.n - n_known)


def _is_quick(soft: Soft) -> bool:
    """Whether a soft truth follows a moving Σ: weighted votes of each subject are a pair of their own."""
    return soft.scale is None and len(soft.pairs[0]) <= MOST_PAIRS


def _expected(counts: Counts, found: float, total: float) -> Counts:
    """Counts of a soft truth: of those known, `found` are expected among the kept and `total` in all."""
    n_kept, n = counts.tp + counts.fp, counts.known
    found, total = min(found, n_kept), min(total, n)
    lost = max(0.0, total - found)
    parts: Any = (found, n_kept - found, lost, n - n_kept - lost, counts.kept_unknown, counts.unknown)
    return Counts(*parts)


class Judge:
    """Judges the boundaries of one survey. One per server; thread-safe."""

    def __init__(self, explore: Explore, boundaries: Boundaries, truths: Truths, talk: Talk, notes: Notes) -> None:
        self.explore, self.survey = explore, explore.survey
        self.boundaries, self.truths, self.talk, self.notes = boundaries, truths, talk, notes
        self.costs, self.losses = Costs(notes.ledger), Losses(explore)
        self._lock = threading.Lock()
        self._drafts: OrderedDict[str, tuple[Draft, Context]] = OrderedDict()
        self._halves, self._samples, self._cuts = Cache(2), Cache(2), Cache(4)
        self._ready, self._ready_truths, self._curves = Cache(3), Cache(4), Cache(24)

    # ------------------------------------------------------------------------------------------------------ drafts
    def keep(self, draft: Draft, context: Context) -> str:
        """Make a draft known to the handlers under its id: the last 256 are."""
        told = {
            "keep": to_json(draft.keep),
            "truth": draft.truth.to_json() if draft.truth else None,
            "saved": [draft.name, draft.version, draft.follows],
            "context": [context.run_id, context.map_id, context.lambda_, context.mode],
        }
        key = sha256_json(told)
        with self._lock:
            self._drafts[key] = (draft, context)
            self._drafts.move_to_end(key)
            while len(self._drafts) > REMEMBERED:
                self._drafts.popitem(last=False)
        return key

    def known(self, draft_id: str) -> tuple[Draft, Context]:
        """The draft of an id, and what it was looked at in.

        Raises
        ------
        UsageError
            An id that this server does not know.
        """
        with self._lock:
            if draft_id not in self._drafts:
                raise UsageError("this boundary is not known to the server any more; move it, or reload the page")
            return self._drafts[draft_id]

    # ----------------------------------------------------------------------------------------------------- numbers
    def numbers(
        self,
        draft: Draft,
        context: Context,
        moving: Moving = None,
        *,
        seconds: float | None = None,
        graders: int = 1,
        classes: str | None = None,
    ) -> dict[str, Any]:
        """Everything that stands beside a boundary, ready for JSON.

        Parameters
        ----------
        moving
            Path of the gate or classifier whose limit is being moved, or "truth" while Σ is: what stands still is then
            not counted again. None for a boundary at rest.
        seconds, graders
            Of a look: see `explorer.services.cost.Costs.of`.
        classes
            The column whose classes are told as thrown away; None for the first of `Losses.offered`.

        Returns
        -------
        dict
            half, n
                Where rates are from, and its subjects.
            trouble
                "", or why there are no rates, or what is odd about them.
            notes
                What must be said beside: ``path`` of a term, or null, and a ``sentence``.
            title, sentence, kind, kind_words, circular
                Of the truth; `circular` has titles of what it shares with the boundary.
            unknown
                ``truth`` (unlabelled, of positives only) and ``boundary``: subjects of the half.
            rates, soft, weighted
                See `models.rates.Rate.to_json`; null where there are none. `soft` expects each vote truth by its
                probability, `weighted` stands for the survey that a sample was drawn from.
            n_kept, n_all
                Of the whole survey, but for who was planted or withdrawn.
            cost
                images, seconds, graders, hours (of all graders), found_per_hour, measured.
            lost, lost_of, lost_more
                The groups of which the least is kept; in which half tags and classes are counted; how many groups more.
                ``is_right`` of each class of the very column that the truth is a category of, null of any other: those
                that are not right come last, losing them is the aim.
            classes
                ``column``, and those ``offered``.
            test
                rates and n_revealed, of a frozen version as it was saved.
            few
                With fewer than `FEW` positives a sentence, and ``rates`` out of fold where there is a classifier.
            stale
                A classifier was taught another truth than this one: its refit has not landed.
        """
        found: dict[str, Any] = dict.fromkeys(("rates", "soft", "weighted", "n_kept", "cost", "test", "few"))
        found |= {
            "half": "tune",
            "n": 0,
            "n_all": 0,
            "trouble": "",
            "notes": [],
            "title": "",
            "sentence": "",
        }
        found |= {"kind": None, "kind_words": "", "circular": [], "unknown": {"truth": None, "boundary": None}}
        found |= {"lost": [], "lost_of": {}, "lost_more": 0, "classes": None, "stale": False}
        try:
            halves, cost = self._half(), self.costs.of(seconds, graders)
            found |= {"half": halves.name, "n": len(halves.rows), "n_all": halves.n}
            cut, known = self._cut(draft, context, moving, classes)
        except TROUBLES as error:
            return found | {"trouble": str(error)}
        found |= {"n_kept": cut.n_kept, "cost": _cost(cost, cut.n_kept)}
        found["unknown"]["boundary"] = cut.n_unknown
        trouble = []
        if moving is None:
            found["notes"] = self._about_terms(draft.keep, context)
        if not cut.n_kept:
            why = [note["sentence"] for note in found["notes"] if note["path"] is not None]
            trouble.append("; ".join(["the boundary keeps no subject of the survey", *why[:1]]))
        try:
            found |= self._lost(draft, context, cut, classes)
        except TROUBLES as error:
            trouble.append(str(error))
        try:
            if draft.truth is None:
                raise UsageError(NO_TRUTH)
            if known is None:
                known = self.truths.of(draft.truth, context)  # says why not
            self._judge(found, draft, draft.truth, context, cut, known, cost, moving)
        except TROUBLES as error:
            trouble.append(str(error))
        return found | {"trouble": "; ".join(trouble)}

    def _judge(
        self,
        found: dict[str, Any],
        draft: Draft,
        truth: Truth,
        context: Context,
        cut: _Cut | _Moved,
        known: Known,
        cost: Cost,
        moving: Moving,
    ) -> None:
        """Write what depends on the truth.

        Raises
        ------
        UsageError
            There can be no rates: why.
        """
        soft: Counts | None = None
        title, sentence = known.title, known.sentence
        if moving == "truth" and truth.at_least is not None and isinstance(cut, _Cut):
            ready = self._ready_truth(draft.keep, truth, context, cut, known)
            counts, title = ready.counts(truth.at_least), f"{known.title} ≥ {truth.at_least:.6g}"
            n_known = int(np.count_nonzero(known.known)) if known.kind == "positives_only" else len(ready.values)
            sentence = self.truths.sentence(title, known.kind, ready.n_right(truth.at_least), n_known)
            if ready.pairs_kept is not None and ready.pairs_all is not None and known.soft is not None:
                p = known.soft.of_pairs(truth.at_least)
                soft = _expected(counts, float(p @ ready.pairs_kept), float(p @ ready.pairs_all))
        else:
            counts = cut.counts(known)
            if known.p is not None:
                soft = _expected(counts, cut.expected(known.p), float(np.nansum(known.p[cut.halves.rows])))
        learning = self.boundaries.learning
        models = classifiers(draft.keep)
        found["title"], found["sentence"], found["kind"] = title, sentence, known.kind
        found["kind_words"] = KIND_WORDS[known.kind]
        found["circular"] = self.truths.circular(truth, draft.keep, learning, context)
        found["stale"] = draft.follows and any(taught(learning, sha) != truth for sha in models)
        unlabelled = counts.fp + counts.tn if known.kind == "positives_only" else counts.unknown
        found["unknown"]["truth"] = unlabelled
        _check_two_classes(counts, known, truth.at_least, title, cut.halves)
        plain = rates(counts, known.kind)
        found["rates"], best = _json(plain), plain["precision"]
        if soft is not None:
            expected = rates(soft, known.kind)
            found["soft"], best = _json(expected), expected["precision"]
        drawn = self._weighted(cut, known, truth.at_least, moving)
        if drawn is not None:
            found["weighted"], best = _json(drawn), drawn["precision"]
        found["cost"] = _cost(cost, cut.n_kept, best)
        if moving is None:
            found["notes"] += [
                {"path": None, "sentence": note} for note in self._about(draft, known, halves=cut.halves)
            ]
            found["test"] = self._test(draft, context, known)
            found["few"] = self._few(draft, context, known, counts)

    # ------------------------------------------------------------------------------------------ who is kept, quickly
    def _half(self) -> _Halves:
        def make() -> _Halves:
            has, n = self.truths.has_halves, self.survey.n
            test = self.truths.half("test") if has else np.zeros(n, np.bool_)
            given = self.survey.arrow("duplicate_group")
            known, ids = given.is_valid().to_numpy(zero_copy_only=False), given.fill_null(0).to_numpy()
            groups = np.where(known, ids, ids.max(initial=0) + 1 + np.arange(n))
            return _Halves("tune" if has else "all", self.truths.half("tune"), test, groups, self.survey.frame())

        found: _Halves = self._halves.get(self.survey.generation, make)
        return found

    def _cut(
        self, draft: Draft, context: Context, moving: Moving, classes: str | None
    ) -> tuple[_Cut | _Moved, Known | None]:
        """Who is kept, and what the truth says of everybody: while Σ moves, before Σ; None where there is none."""
        truth = draft.truth
        if moving == "truth" and truth is not None and truth.at_least is not None:
            return self._still(draft.keep, context), self._truth(draft, context, is_moving=True)
        known = self._truth(draft, context)
        leaf = at(draft.keep, moving) if isinstance(moving, tuple) else None
        if isinstance(moving, tuple) and isinstance(leaf, Learned):
            ready = self._get_ready(draft, context, moving, leaf, known, classes)
            return _Moved(ready, leaf.low, None, self._half()), known
        if isinstance(moving, tuple) and isinstance(leaf, Gate) and not leaf.labels:
            ready = self._get_ready(draft, context, moving, leaf, known, classes)
            return _Moved(ready, leaf.low, leaf.high, self._half()), known
        return self._still(draft.keep, context), known

    def _truth(self, draft: Draft, context: Context, is_moving: bool = False) -> Known | None:
        """None where there is none, or none that can be: whoever needs it asks again, and is told why."""
        if draft.truth is None:
            return None
        try:
            return (self.truths.base if is_moving else self.truths.of)(draft.truth, context)
        except TROUBLES:
            return None

    def _still(self, keep: Term, context: Context) -> _Cut:
        key = self.survey.generation, keep, context
        found: _Cut = self._cuts.get(key, lambda: _Cut(self.boundaries.kept(keep, context), self._half()))
        return found

    def _get_ready(
        self,
        draft: Draft,
        context: Context,
        path: Path,
        leaf: Gate | Learned,
        known: Known | None,
        classes: str | None,
    ) -> _Ready:
        none = {"low": None, "high": None, "low_percentile": None, "high_percentile": None}
        open_leaf: Term = replace(leaf, **none) if isinstance(leaf, Gate) else replace(leaf, low=0.0)  # type: ignore[arg-type]
        keep = replaced(draft.keep, path, open_leaf)
        groups = self._classes(draft, context, classes)
        of_truth = self.truths.key(draft.truth, context) if draft.truth is not None and known is not None else ()
        key = (self.survey.generation, keep, path, context, of_truth, classes, len(groups.rows))
        found: _Ready = self._ready.get(key, lambda: self._make_ready(keep, context, path, leaf, known, groups))
        return found

    def _make_ready(
        self, keep: Term, context: Context, path: Path, leaf: Gate | Learned, known: Known | None, groups: Groups
    ) -> _Ready:
        source: Source = self.boundaries.source(context)
        if isinstance(leaf, Gate):
            values = source.column(leaf.column)
        else:
            values = source.balanced(leaf.model) if leaf.scale == "balanced" else source.probability(leaf.model)
        masks = alternatives(keep, path, source)
        refusing = alternatives(Not(keep), (0, *path), source)
        rows, n = self._half().rows, len(values)
        order = np.argsort(values) if isinstance(leaf, Learned) else self._order(leaf.column, context)
        tuned_order = order
        if len(rows) < n:
            place = np.full(n, -1, np.int64)
            place[rows] = np.arange(len(rows))
            tuned_order = place[order]
            tuned_order = tuned_order[tuned_order >= 0]
        nobody = np.zeros(n, np.bool_)
        positive, is_known = (known.positive, known.known) if known is not None else (nobody, nobody)
        mine, (yes, no, unsure) = values[rows], (m[rows] for m in masks)
        tuned = Sweep(mine, yes, no, unsure, positive[rows], is_known[rows], order=tuned_order)
        none = nobody[rows]
        on, off, open_ = (m[rows] for m in refusing)
        refused = Sweep(mine, on, off, open_, none, none, order=tuned_order)
        all_yes, all_no, all_unsure = (m & self._half().frame for m in masks)
        whole = Sweep(values, all_yes, all_no, all_unsure, nobody, nobody, groups.members, order)
        p_sums, p_rest = None, 0.0
        if known is not None and known.p is not None:
            p = np.nan_to_num(known.p[rows])
            p_rest = float(p @ np.where(np.isnan(mine), unsure, no))
            change = p * (yes.astype(np.int8) - no.astype(np.int8))
            p_sums = np.concatenate([[0.0], np.cumsum(change[tuned_order[: len(tuned.values)]])])
        return _Ready(values, masks, tuned, refused, whole, p_sums, p_rest)

    def _order(self, reference: str, context: Context) -> np.ndarray:
        of = context.run_id, context.lambda_, False, context.mode, context.map_id
        return self.explore.order(reference, *of)

    def _ready_truth(self, keep: Term, truth: Truth, context: Context, cut: _Cut, base: Known) -> _ReadyTruth:
        key = (keep, context, self.truths.key(replace(truth, at_least=0.0), context))

        def make() -> _ReadyTruth:
            rows = cut.halves.rows
            values = base.values if base.values is not None else np.full(self.survey.n, np.nan)
            single = is_single(values)
            mine = np.where(base.known[rows], values[rows], np.nan).astype(np.float32 if single else np.float64)
            yes, no = np.ones(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
            valued = ~np.isnan(mine)
            pairs_kept = pairs_all = None
            if base.soft is not None and _is_quick(base.soft):
                k, _, pair = base.soft.pairs
                voted = (pair[rows] >= 0) & valued
                pairs_all = np.bincount(pair[rows][voted], minlength=len(k))
                pairs_kept = np.bincount(pair[rows][voted & cut.tuned], minlength=len(k))
            n_kept, n_kept_known = int(np.count_nonzero(cut.tuned)), int(np.count_nonzero(cut.tuned & valued))
            sweep = Sweep(mine, yes, no, no, cut.tuned, yes)
            whole = np.sort(values[base.known & ~np.isnan(values)].astype(mine.dtype))
            return _ReadyTruth(sweep, n_kept, n_kept_known, single, pairs_kept, pairs_all, whole)

        found: _ReadyTruth = self._ready_truths.get(key, make)
        return found

    # ------------------------------------------------------------------------------------------- what must be said
    def _about_terms(self, keep: Term, context: Context) -> list[dict[str, Any]]:
        """What is odd about single terms, each with its path."""
        source = self.boundaries.source(context)
        titles = dict(self.explore.colors(context.run_id, context.map_id)) | self.boundaries.titles_of(keep)
        found: list[dict[str, Any]] = []
        for path, leaf in leaves(keep):
            said = []
            try:
                if isinstance(leaf, Region) and leaf.shape in ("polygon", "freehand") and crosses_itself(leaf.vertices):
                    said.append(
                        "this outline crosses itself: by the even-odd rule what it goes around twice is outside"
                    )
                kept = self.boundaries.kept(leaf, context)
                if not kept.yes.any():
                    words = in_words(leaf, titles)
                    if not kept.no.any():
                        said.append(f"no subject has a value for this: {words}")
                    elif isinstance(leaf, Region):
                        said.append("this region holds no subject")
                    else:
                        said.append(f"no subject is {words}" if isinstance(leaf, Gate) else f"no subject has {words}")
                elif isinstance(leaf, Gate) and not leaf.labels and leaf.low is None and leaf.high is None:
                    said.append("limits nothing yet")
                elif isinstance(leaf, Gate) and not leaf.labels and np.isinf(source.column(leaf.column)).any():
                    said.append(f"{titles.get(leaf.column, leaf.column)} is infinite for some subjects")
            except TROUBLES as error:
                said.append(str(error))
            found += [{"path": list(path), "sentence": sentence} for sentence in said]
        return found

    def _about(self, draft: Draft, known: Known, halves: _Halves) -> list[str]:
        """What must be said of the rates."""
        said = list(known.notes)
        if halves.name == "all":
            said.append("the survey has no halves: these rates are of all subjects, and nothing is left to test on")
        if classifiers(draft.keep):
            where = "the tune half" if halves.name == "tune" else "these subjects"
            said.append(
                f"the boundary has a classifier that was fitted on {where}: its rates here flatter it; those out of "
                "fold, or of the test half, do not"
            )
        if known.p is not None:
            rows = halves.rows
            positive = known.positive[rows] & known.known[rows]
            if positive.any():
                share = float(np.nanmean(known.p[rows][positive]))
                said.append(
                    f"of the {int(positive.sum()):,} subjects whose votes reach Σ, {share:.0%} are expected to truly do"
                )
        return said

    def _test(self, draft: Draft, context: Context, known: Known) -> dict[str, Any] | None:
        """Numbers of the test half: of a frozen version that is as it was saved, against its own truth."""
        saved = self._saved_as(draft)
        if saved is None or not saved.is_frozen or saved.truth != draft.truth or saved.context != context:
            return None
        halves = self._half()
        rows = np.flatnonzero(halves.test)
        if not len(rows):
            return None
        kept = self.boundaries.kept(draft.keep, context).yes
        counts = count(kept[rows], known.positive[rows], known.known[rows])
        return {"rates": _json(rates(counts, known.kind)), "n": len(rows), "n_revealed": self._n_revealed(draft.truth)}

    def _n_revealed(self, truth: Truth | None) -> int:
        return self.boundaries.revealed(truth)

    def _saved_as(self, draft: Draft) -> Saved | None:
        if not draft.name or not draft.version:
            return None
        try:
            saved = self.boundaries.get(draft.name, draft.version)
        except TROUBLES:
            return None
        return saved if saved.keep == draft.keep else None

    def _few(self, draft: Draft, context: Context, known: Known, counts: Counts) -> dict[str, Any] | None:
        n_positive = counts.tp + counts.fn
        if n_positive >= FEW:
            return None
        sentence = f"only {n_positive:,} subjects of this half are right: the intervals are wide"
        if not classifiers(draft.keep):
            return {"sentence": sentence, "rates": None}
        if len(self._half().rows) > AT_ONCE:
            return {"sentence": f"{sentence}; judge the classifier out of fold", "rates": None}
        try:
            told = self.out_of_fold(draft, context)
        except TROUBLES as error:
            return {"sentence": f"{sentence}; out of fold it cannot be judged: {error}", "rates": None}
        return {"sentence": f"{sentence}; {told['sentence']}", "rates": told["rates"]}

    def out_of_fold(self, draft: Draft, context: Context) -> dict[str, Any]:
        """Rates of the tune half where every classifier scores by fits that saw neither a subject nor its group.

        Slow where the tune half is large. Repeats are pooled: k and n are means over them.

        Returns
        -------
        dict
            rates, n_repeats, sentence.

        Raises
        ------
        UsageError
            No truth; or a classifier that cannot be refitted here.
        """
        if draft.truth is None:
            raise UsageError(NO_TRUTH)
        known, learning, rows = self.truths.of(draft.truth, context), self.boundaries.learning, self._half().rows
        judging = getattr(learning, "out_of_fold", None)
        if learning is None or judging is None:
            raise UsageError("there are no classifiers here")
        scores = {sha: judging(sha, context) for sha in classifiers(draft.keep)}
        n_repeats = max((len(one) for one in scores.values()), default=1)
        source, parts = self.boundaries.source(context), []
        for repeat in range(n_repeats):
            one = {sha: found[min(repeat, len(found) - 1)] for sha, found in scores.items()}
            prior = {sha: learning.look(sha).prior for sha in one}
            kept = evaluate(draft.keep, _OutOfFold(source, one, prior)).yes
            c = count(kept[rows], known.positive[rows], known.known[rows])
            parts.append([c.tp, c.fp, c.fn, c.tn, c.kept_unknown, c.unknown])
        means: Any = np.mean(parts, axis=0).tolist()
        words = f"out of fold by duplicate group, {n_repeats} times 5 folds, pooled"
        return {"rates": _json(rates(Counts(*means), known.kind)), "n_repeats": n_repeats, "sentence": words}

    # ---------------------------------------------------------------------------------------- of the drawn sample
    def _weighted(
        self, cut: _Cut | _Moved, known: Known, sigma: float | None, moving: Moving
    ) -> dict[str, Rate] | None:
        """Rates of the survey that a sample was drawn from (science rule 1), or a campaign; None where none was."""
        halves = cut.halves
        pi, mine, rows = self._sample() if known.inclusion is None else self._of_campaign(known)
        if not len(mine) or (moving is not None and len(mine) > WEIGHTED_LIVE):
            return None
        if moving == "truth" and sigma is not None and known.values is not None:
            if known.soft is not None and not _is_quick(known.soft):
                return None
            p = known.soft.at(sigma)[rows] if known.soft is not None else between(known.values, sigma)[rows]
        else:
            p = known.p[rows] if known.p is not None else known.positive[rows]
        is_known = known.known[rows] & np.isfinite(p)
        drawn = None if known.drawn is None else known.drawn[rows]
        return weighted(cut.among(rows), np.nan_to_num(p), is_known, pi[rows], halves.groups[rows], known.kind, drawn)

    def _of_campaign(self, known: Known) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `_sample`, of who was drawn for a campaign: those that were not stand for nobody."""
        halves = self._half()
        assert known.inclusion is not None and known.drawn is not None
        mine = np.flatnonzero(known.drawn & halves.tune)
        return known.inclusion, mine, mine if (known.inclusion[halves.rows] > 0).all() else halves.rows

    def _sample(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """π of every subject, float (N,); the rows of the tune half that were drawn; and those that rates are of.

        A sample without random draws stands for itself alone: who is not in it could not be drawn, and counts so.
        """

        def make() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            pi, halves = self.survey.column("inclusion_probability"), self._half()
            drawn = np.isfinite(pi) & (pi > 0)
            mine = np.flatnonzero(drawn & halves.tune)
            stands_for = float((1 / pi[drawn]).sum())
            return pi, mine, mine if stands_for >= STANDS_FOR * halves.n else halves.rows

        found: tuple[np.ndarray, np.ndarray, np.ndarray] = self._samples.get(self.survey.generation, make)
        return found

    # --------------------------------------------------------------------------------------------- what is lost
    def _classes(self, draft: Draft, context: Context, classes: str | None) -> Groups:
        offered = self.losses.offered()
        column = classes or (offered[0] if offered else "")
        if not column:
            return NO_GROUPS
        return self.losses.classes(column, self._half().tune if self._is_of_truth(draft, context, column) else None)

    def _is_of_truth(self, draft: Draft, context: Context, column: str) -> bool:
        """Whether classes, or Talk's tags (``talk``), are what the truth is made of."""
        if draft.truth is None or not self.truths.has_halves:
            return False
        mine = {"talk"} if column == "talk" else self.truths.atoms((column,), context.run_id)
        return bool(mine & self.truths.made_of(draft.truth, context.run_id))

    @staticmethod
    def _right(truth: Truth | None, column: str, groups: Groups) -> dict[str, bool]:
        """Reference of each class of the column that the truth is a category of → whether it is a right one."""
        if truth is None or truth.what != "category" or truth.column != column:
            return {}
        return {reference: reference.partition("=")[2] in truth.labels for reference in groups.references}

    def _lost(self, draft: Draft, context: Context, cut: _Cut | _Moved, classes: str | None) -> dict[str, Any]:
        offered = self.losses.offered()
        column = classes or (offered[0] if offered else "")
        of_talk = self._is_of_truth(draft, context, "talk")
        of_class = bool(column) and self._is_of_truth(draft, context, column)
        halves = {"tag": "tune" if of_talk else "all", "class": "tune" if of_class else "all"}
        tags = self.losses.tags(self._half().tune if of_talk else None)
        is_kept = cut.among(tags.rows)
        k = tags.counted(is_kept)
        told = tags.told(k, tags.effective(is_kept, k), halves["tag"])
        groups = self._classes(draft, context, classes)
        told += groups.told(cut.of_classes(groups), groups.sizes.astype(np.float64), halves["class"])
        right = self._right(draft.truth, column, groups)
        told = [one | {"is_right": right.get(one["reference"])} for one in told]
        # what is right comes before what is lost on purpose
        told.sort(key=lambda one: (one["is_right"] is False, one["k"] / one["n"], -one["n"]))
        n = int(np.count_nonzero(tags.sizes)) + int(np.count_nonzero(groups.sizes))
        named = {"column": column, "offered": offered} if column else None
        return {"lost": told, "lost_of": halves, "lost_more": n - len(told), "classes": named}

    def lost(self, draft: Draft, context: Context, classes: str | None = None) -> list[dict[str, Any]]:
        """What a cut throws away: kept of total per Talk tag group and per class, the least first (see `numbers`).

        Raises
        ------
        VoorwerpError
            The boundary cannot be evaluated here, or there is no such column.
        """
        found: list[dict[str, Any]] = self._lost(draft, context, self._still(draft.keep, context), classes)["lost"]
        return found

    def thrown_away(self, draft: Draft, context: Context, reference: str) -> np.ndarray:
        """Rows of a group (``reference`` of `lost`) that are not kept: int64, ascending; of the half told there.

        Raises
        ------
        UsageError
            No such group.
        """
        rows = self.losses.rows(reference)
        name = "talk" if reference.startswith("talk:") else f"subjects.{reference[6:].partition('=')[0]}"
        if self._is_of_truth(draft, context, name):
            rows = rows[self._half().tune[rows]]
        return np.asarray(rows[~self._still(draft.keep, context).among(rows)])

    def empty(
        self, draft: Draft, context: Context, grid: int | None = None, x: str = COMPONENTS[0], y: str = COMPONENTS[1]
    ) -> dict[str, Any]:
        """Parts of a plane where nothing is kept, as cells of an even grid over all that lie in it.

        Parameters
        ----------
        grid
            Cells a side; None for as many as leave twelve subjects to a cell on average, 4 to 48.

        Returns
        -------
        dict
            cells (x0, x1, y0, y1, n of each with at least `IN_CELL` subjects and none kept), n (subjects in them),
            n_placed, said.

        Raises
        ------
        VoorwerpError
            The boundary cannot be evaluated here, or an axis is not there.
        """
        source = self.boundaries.source(context)
        at_x, at_y = (np.asarray(source.column(axis), np.float64) for axis in (x, y))
        kept = self._still(draft.keep, context).kept.yes
        placed = np.flatnonzero(np.isfinite(at_x) & np.isfinite(at_y) & self._half().frame)
        grid = max(1, min(grid, 256)) if grid else int(np.clip(math.sqrt(len(placed) / 12), 4, 48))
        found: dict[str, Any] = {"cells": [], "n": 0, "n_placed": len(placed), "said": "nothing lies in this plane"}
        if not len(placed):
            return found
        edges = [np.linspace(v[placed].min(), v[placed].max(), grid + 1) for v in (at_x, at_y)]
        cell = np.zeros(len(placed), np.int64)
        for values, edge in zip((at_x, at_y), edges, strict=True):
            width = (edge[-1] - edge[0]) or 1.0
            place = np.minimum(((values[placed] - edge[0]) / width * grid).astype(np.int64), grid - 1)
            cell = cell * grid + place
        n = np.bincount(cell, minlength=grid * grid)
        n_kept = np.bincount(cell[kept[placed]], minlength=grid * grid)
        bare = np.flatnonzero((n >= IN_CELL) & (n_kept == 0))
        found["cells"] = [
            [*edges[0][[i, i + 1]].tolist(), *edges[1][[j, j + 1]].tolist(), int(n[c])]
            for c in bare.tolist()
            for i, j in [divmod(c, grid)]
        ]
        found["n"] = int(n[bare].sum())
        found["said"] = f"nothing is kept where {found['n']:,} of {len(placed):,} subjects lie"
        return found

    # ---------------------------------------------------------------------------------------------------- curves
    def curves(self, draft: Draft, context: Context, reference: str | None = None) -> dict[str, Any]:
        """The curves around a boundary in the tune half: along a limit, along every score, along Σ.

        Parameters
        ----------
        reference
            Of the score on which `limit` is a lower limit; None for ``scores.feature_score``, else the first.

        Returns
        -------
        dict
            limit
                Of the boundary with a lower limit on one score, else none: title, reference, path (of its gate in the
                boundary, or null), x, precision, recall (of those above the limit), recall_all, f1, counts (``fn`` of
                those above the limit), at.
            pr
                Of every score and classifier alone: title, reference, threshold, precision, recall, ap, at
                ([precision, recall] where the boundary cuts it), circular, kind.
            boundary
                ``at``: precision and recall of the boundary, or null.
            ceiling
                What the best order can expect of a soft truth; null otherwise.
            sigma
                Of this boundary against Σ: x, precision, recall, kept, counts, at; null for a truth without Σ.
            notes

        Raises
        ------
        VoorwerpError
            No truth, or one that cannot be judged by: why.
        """
        if draft.truth is None:
            raise UsageError(NO_TRUTH)
        truth = draft.truth
        key = ("curves", draft.keep, context, reference, self.truths.key(truth, context))
        found: dict[str, Any] = self._curves.get(key, lambda: self._make_curves(draft, truth, context, reference))
        return found

    def _scores(self, context: Context) -> dict[str, str]:
        """The run's scores: reference → title."""
        titles = self.explore.colors(context.run_id, context.map_id)
        return {r: title for r, title in titles.items() if r.startswith("scores.") and not self.explore.is_category(r)}

    def _make_curves(self, draft: Draft, truth: Truth, context: Context, reference: str | None) -> dict[str, Any]:
        known = self.truths.of(truth, context)
        cut, rows = self._still(draft.keep, context), self._half().rows
        counts = cut.counts(known)
        _check_two_classes(counts, known, truth.at_least, known.title, cut.halves)
        if truth.is_of_experts:
            return self._curves_of_drawn(draft, truth, context, known, cut)
        positive, is_known = known.positive[rows], known.known[rows]
        scores = self._scores(context)
        wanted = reference or next((r for r in ("scores.feature_score", *scores) if r in scores), None)
        told = rates(counts, known.kind)
        point = [told["precision"].value, told["recall"].value]
        notes = self._about(draft, known, cut.halves)
        if known.kind == "positives_only":
            notes.append("precision is “at least”: who is not listed is no negative")
        along = self._alone(draft, context)
        found: dict[str, Any] = {
            "half": cut.halves.name,
            "limit": self._along_limit(draft, context, known, wanted) if wanted else None,
            "pr": [],
            "boundary": {"at": point if None not in point else None},
            "ceiling": None,
            "sigma": self._along_sigma(draft.keep, cut, truth, context),
            "notes": notes,
        }
        for name, (title, values, low, kind) in along.items():
            ranked = Ranked(values[rows], positive, is_known)
            precision, recall, threshold = ranked.precision_recall()
            some = _thinned(recall[:-1])
            cell = None
            if low is not None:
                mine = rates(ranked.at(low), known.kind)
                cell = [mine["precision"].value, mine["recall"].value]
            found["pr"].append(
                {
                    "title": title,
                    "reference": name,
                    "threshold": _floats(threshold[some]),
                    "precision": _floats(precision[some]),
                    "recall": _floats(recall[some]),
                    "ap": ranked.average_precision,
                    "at": cell if cell and None not in cell else None,
                    "circular": bool(self._shares(truth, context, name)),
                    "kind": kind,
                }
            )
        if known.p is not None:
            precision, recall = ceiling(known.p[rows][is_known & np.isfinite(known.p[rows])])
            some = _thinned(recall)
            found["ceiling"] = {"precision": _floats(precision[some]), "recall": _floats(recall[some])}
        return found

    def _curves_of_drawn(self, draft: Draft, truth: Truth, context: Context, known: Known, cut: _Cut) -> dict[str, Any]:
        """Precision and recall of every score by subjects that were drawn, each standing for 1 / π (science rule 5).

        Raises
        ------
        UsageError
            Nothing that could be below a limit was drawn at random: recall is not estimable, so there is no curve.
        """
        halves = cut.halves
        told = self._weighted(cut, known, truth.at_least, None) if known.inclusion is not None else None
        if known.inclusion is None or told is None or told["recall"].value is None:
            why = NO_AUDIT if told is None else told["recall"].note
            raise UsageError(f"recall is {why}; draw an audit with a campaign, or choose another truth for curves")
        assert known.drawn is not None
        rows = np.flatnonzero(known.drawn & known.known & halves.tune)
        positive, weight = known.positive[rows], 1 / known.inclusion[rows]
        point = [told["precision"].value, told["recall"].value]
        notes = [*self._about(draft, known, halves), "weighted by how the graded subjects were drawn"]
        curves = []
        for name, (title, values, low, kind) in self._alone(draft, context).items():
            precision, recall, threshold = weighted_curve(values[rows], positive, weight)
            some = _thinned(recall)
            at_low = int(np.searchsorted(threshold, low)) if low is not None else len(threshold)
            curves.append(
                {
                    "title": title,
                    "reference": name,
                    "threshold": _floats(threshold[some]),
                    "precision": _floats(precision[some]),
                    "recall": _floats(recall[some]),
                    "ap": float(-np.sum(np.diff(np.append(recall, 0.0)) * precision)),
                    "at": [float(precision[at_low]), float(recall[at_low])] if at_low < len(threshold) else None,
                    "circular": bool(self._shares(truth, context, name)),
                    "kind": kind,
                }
            )
        nothing = dict.fromkeys(("limit", "ceiling", "sigma"))
        boundary = {"at": point if None not in point else None}
        return {"half": halves.name, "pr": curves, "boundary": boundary, "notes": notes, **nothing}

    def _alone(
        self, draft: Draft, context: Context
    ) -> dict[str, tuple[str, np.ndarray, float | None, Literal["score", "classifier"]]]:
        """Every score of the run and every classifier of a boundary: title, values, the lower limit it has, kind."""
        source, found = self.boundaries.source(context), {}
        parts, called = leaves(draft.keep), self.boundaries.titles_of(draft.keep)
        low = {leaf.column: leaf.low for _, leaf in parts if isinstance(leaf, Gate) and leaf.low is not None}
        for name, title in list(self._scores(context).items())[:MOST_SCORES]:
            found[name] = (title, source.column(name), low.get(name), "score")
        for _, leaf in parts:
            if isinstance(leaf, Learned):
                title = called[leaf.model]
                at_low = leaf.low if leaf.scale == "balanced" else None
                found[f"learned.{leaf.model}"] = (title, source.balanced(leaf.model), at_low, "classifier")
        return found  # type: ignore[return-value]

    def _shares(self, truth: Truth, context: Context, reference: str) -> list[str]:
        """What a truth has in common with a score, or a classifier (``learned.SHA256``)."""
        learning = self.boundaries.learning
        if reference.startswith("learned."):
            return self.truths.circular(truth, Learned(reference.removeprefix("learned.")), learning, context)
        return self.truths.circular(truth, And(()), learning, context, (reference,))

    def _along_limit(self, draft: Draft, context: Context, known: Known, reference: str) -> dict[str, Any]:
        gates = [
            (path, leaf)
            for path, leaf in leaves(draft.keep)
            if isinstance(leaf, Gate) and leaf.column == reference and not leaf.labels
        ]
        source, rows = self.boundaries.source(context), self._half().rows
        values = source.column(reference)
        path, gate = gates[0] if gates else (None, None)
        if path is not None and gate is not None:
            masks = alternatives(draft.keep, path, source)
        else:
            kept = self._still(draft.keep, context).kept.yes
            masks = (kept, np.zeros_like(kept), np.zeros_like(kept))
        positive, is_known = known.positive[rows], known.known[rows]
        yes, no, unsure = (m[rows] for m in masks)
        sweep = Sweep(values[rows], yes, no, unsure, positive, is_known)
        found = sweep.curve(POINTS, other=gate.high if gate is not None else None)
        above = Ranked(values[rows], positive, is_known)._sweep.curve(grid=found.x)
        told: dict[str, Any] = {
            "title": self.explore.colors(context.run_id, context.map_id).get(reference, reference),
            "reference": reference,
            "path": list(path) if path is not None else None,
            "x": _floats(found.x),
            "precision": _floats(found.precision),
            # what a boundary keeps below the limit, if it does, is no part of those above it
            "recall": _floats(np.minimum(ratio(found.tp, above.tp), 1.0)),
            "recall_all": _floats(found.recall),
            "f1": None if known.kind == "positives_only" else _floats(found.f1),
            "at": gate.low if gate is not None else None,
        }
        fn = np.maximum(above.tp - found.tp, 0)
        told["counts"] = {"tp": found.tp.tolist(), "fp": found.fp.tolist(), "fn": fn.tolist(), "tn": found.tn.tolist()}
        return told

    def _along_sigma(self, keep: Term, cut: _Cut, truth: Truth, context: Context) -> dict[str, Any] | None:
        if truth.at_least is None:
            return None
        ready = self._ready_truth(keep, truth, context, cut, self.truths.base(truth, context))
        x = ready.sweep.grid(POINTS)
        each = [ready.counts(float(sigma)) for sigma in x]
        tp, fp, fn, tn = (np.array([getattr(c, name) for c in each]) for name in ("tp", "fp", "fn", "tn"))
        kept = np.array([c.kept / max(c.n, 1) for c in each])
        return {
            "x": _floats(x),
            "precision": _floats(ratio(tp, tp + fp)),
            "recall": _floats(ratio(tp, tp + fn)),
            "kept": _floats(kept),
            "counts": {"tp": tp.tolist(), "fp": fp.tolist(), "fn": fn.tolist(), "tn": tn.tolist()},
            "at": truth.at_least,
        }

    # ----------------------------------------------------------------------------------------------------- budget
    def budget(
        self,
        draft: Draft,
        context: Context,
        seconds: float | None = None,
        graders: int = 1,
        hours: float | None = None,
    ) -> dict[str, Any]:
        """Interesting ones found against images looked at, in the order of every score, boundary and classifier.

        By the tune half, scaled to the survey. Of a boundary, those that it keeps come first in random order.

        Parameters
        ----------
        hours
            Expert hours that there are; None for what looking at all that the boundary keeps takes.

        Returns
        -------
        dict
            n (images of the survey that count), n_known (subjects judged by), looked, curves (title, reference, found,
            low, high, kind, circular), at (images, hours), seconds, graders, measured, notes.

        Raises
        ------
        VoorwerpError
            No truth, or one that cannot be judged by; or a cost that cannot be.
        """
        if draft.truth is None:
            raise UsageError(NO_TRUTH)
        truth, cost = draft.truth, self.costs.of(seconds, graders)
        if truth.is_of_experts:
            raise UsageError(
                "what looking would find is not told by subjects that were chosen to be looked at; choose another truth"
            )
        if hours is not None and not (math.isfinite(hours) and hours >= 0):
            raise UsageError(f"{hours:g} hours cannot be spent; give 0 or more")
        saved = [one for one in self._saved() if one.context == context and one.keep != draft.keep]
        named = tuple((one.name, one.version, one.entry_id) for one in saved)
        key = ("budget", draft.keep, draft.name, draft.version, context, self.truths.key(truth, context), named)
        held: dict[str, Any] = self._curves.get(key, lambda: self._make_budget(draft, truth, context, saved))
        n_kept = self._still(draft.keep, context).n_kept
        images = cost.images(hours) if hours is not None else float(n_kept)
        spent = {"images": images, "hours": cost.hours(images)}
        return held | {
            "at": spent,
            "seconds": cost.seconds,
            "graders": cost.graders,
            "measured": cost.measured,
        }

    def _saved(self) -> list[Saved]:
        """The last version of each boundary that is saved."""
        return [self.boundaries.get(name) for name in self.boundaries.names()[-MOST_SAVED:]]

    def _make_budget(self, draft: Draft, truth: Truth, context: Context, saved: list[Saved]) -> dict[str, Any]:
        known = self.truths.of(truth, context)
        halves, cut = self._half(), self._still(draft.keep, context)
        rows, n = halves.rows, halves.n
        _check_two_classes(cut.counts(known), known, truth.at_least, known.title, halves)
        is_known = known.known[rows]
        p = np.nan_to_num(known.p[rows]) if known.p is not None else known.positive[rows]
        if known.p is not None:
            is_known = is_known & np.isfinite(known.p[rows])
        n_known = int(np.count_nonzero(is_known))
        looked, scale = places(n_known, POINTS), n / n_known
        groups = halves.groups[rows] if len(np.unique(halves.groups[rows])) < len(rows) else None
        curves = []

        def add(title: str, reference: str, kind: str, circular: bool, found: Budget) -> None:
            ends = {name: _floats(getattr(found, name) * scale) for name in ("found", "low", "high")}
            curves.append({"title": title, "reference": reference, "kind": kind, "circular": circular} | ends)

        def of(keep: Term) -> np.ndarray:
            kept = self.boundaries.kept(keep, context)
            return np.asarray(np.where(kept.unknown, np.nan, kept.yes)[rows])

        for name, (title, values, _, kind) in self._alone(draft, context).items():
            circular = bool(self._shares(truth, context, name))
            add(title, name, kind, circular, budget(values[rows], p, is_known, looked, groups))
        learning = self.boundaries.learning
        lacking = []
        for one in saved:
            try:
                circular = bool(self.truths.circular(truth, one.keep, learning, context))
                found = budget(of(one.keep), p, is_known, looked, groups)
            except TROUBLES:
                lacking.append(one.name)
                continue
            add(f"{one.name} v{one.version}", f"boundary.{one.name}", "boundary", circular, found)
        if draft.keep != And(()):
            title = f"{draft.name} v{draft.version}" if self._saved_as(draft) else "this boundary"
            circular = bool(self.truths.circular(truth, draft.keep, learning, context))
            add(title, "draft", "boundary", circular, budget(of(draft.keep), p, is_known, looked, groups))
        add("random order", "random", "random", False, random(p, is_known, looked))
        part = "tune half" if halves.name == "tune" else "survey"
        notes = [
            f"by the {n_known:,} subjects of the {part} whose truth is known, scaled to the {n:,} of the survey",
            "of a boundary what it keeps comes first, in random order",
            *self._about(draft, known, halves),
        ]
        if lacking:
            notes.append(f"not shown, as they cannot be evaluated here: {', '.join(lacking)}")
        if known.kind == "positives_only":
            notes.append("found are those listed: who is not listed is no negative")
        return {"n": n, "n_known": n_known, "looked": _floats(looked * scale), "curves": curves, "notes": notes}

    # ---------------------------------------------------------------------------------------------------- follows
    def follows(self, draft: Draft, context: Context) -> dict[str, Any]:
        """What every score, and the boundary, goes along with: rank correlations with all columns, strongest first.

        A boundary of one classifier is its balanced score; any other is 1 for who is kept and 0 for who is not.

        Returns
        -------
        dict
            ``of``: title, reference, n, n_compared, columns (reference, title, n, rho, low, high, is_marked, same);
            ``notes``.
        """
        key = ("follows", self.survey.generation, draft.keep, context)
        found: dict[str, Any] = self._curves.get(key, lambda: self._make_follows(draft, context))
        return found

    def _make_follows(self, draft: Draft, context: Context) -> dict[str, Any]:
        told: Any = {"run_id": context.run_id, "map_id": context.map_id}
        told |= {"lambda_": context.lambda_, "mode": context.mode}
        found = [apart.correlations(self.explore, name, **told) for name in list(self._scores(context))[:MOST_SCORES]]
        if draft.keep != And(()):
            keep, source = draft.keep, self.boundaries.source(context)
            if isinstance(keep, Learned):
                values, title = source.balanced(keep.model), "balanced score of the classifier"
            else:
                kept = self.boundaries.kept(keep, context)
                values, title = np.where(kept.unknown, np.nan, kept.yes), "kept by the boundary"
            if len(np.unique(values[np.isfinite(values)])) > 1:
                found.insert(0, apart.correlations(self.explore, "", values=values, title=title, **told))
        notes = []
        if any(one.n_compared < one.n for one in found):
            notes.append(f"by a random sample of {found[0].n_compared:,} of {found[0].n:,} subjects")
        return {
            "of": [
                {
                    "title": one.title,
                    "reference": one.reference,
                    "n": one.n,
                    "n_compared": one.n_compared,
                    "columns": [
                        {name: getattr(c, name) for name in ("reference", "title", "n", "rho", "low", "high")}
                        | {"is_marked": c.is_marked, "same": list(c.same)}
                        for c in one.columns
                    ],
                }
                for one in found
            ],
            "notes": notes,
        }


class _OutOfFold:
    """A source whose classifiers score by fits that did not see the subject, where there are such."""

    def __init__(self, source: Source, scores: dict[str, np.ndarray], prior: dict[str, float]) -> None:
        self._source, self._scores, self._prior = source, scores, prior

    @property
    def n(self) -> int:
        return self._source.n

    def column(self, reference: str) -> np.ndarray:
        return self._source.column(reference)

    def codes(self, reference: str) -> Any:
        return self._source.codes(reference)

    def inside(self, x: str, y: str, outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._source.inside(x, y, outline)

    def balanced(self, model: str) -> np.ndarray:
        found = self._scores[model]
        return np.asarray(np.where(np.isnan(found), self._source.balanced(model), found))

    def probability(self, model: str) -> np.ndarray:
        found = np.clip(self._scores[model].astype(np.float64), 1e-12, 1 - 1e-12)
        made = corrected(np.log(found / (1 - found)), self._prior[model])
        return np.asarray(np.where(np.isnan(found), self._source.probability(model), made))


# -------------------------------------------------------------------------------------------------------- small parts
def _check_two_classes(counts: Counts, known: Known, sigma: float | None, title: str, halves: _Halves) -> None:
    """Raise the sentence that says why there are no rates, if there can be none."""
    where = "tune half" if halves.name == "tune" else "survey"
    n_known, n_positive = counts.known, counts.tp + counts.fn
    if not n_known:
        raise UsageError(f"the truth of no subject of the {where} is known ({title}): choose another truth")
    if not n_positive and sigma is not None and known.values is not None:
        values = known.values[halves.rows]
        highest = float(np.nanmax(values)) if np.isfinite(values).any() else math.nan
        raise UsageError(f"no subject of the {where} reaches Σ: the highest value is {highest:.6g}; lower Σ ({title})")
    if not n_positive:
        raise UsageError(f"no subject of the {where} is right ({title}): choose another truth")
    if n_positive == n_known and known.kind == "complete":
        lower = "raise Σ" if sigma is not None else "choose another truth"
        raise UsageError(f"every subject of the {where} of known truth is right ({title}): {lower}")


def _cost(cost: Cost, n_kept: int, precision: Rate | None = None) -> dict[str, Any]:
    an_hour = 3600 / (cost.seconds * cost.graders)
    per_hour = None
    if precision is not None:
        parts = (precision.value, precision.low, precision.high)
        value, low, high = (None if part is None else part * an_hour for part in parts)
        per_hour = Rate(precision.k, precision.n, value, low, high, precision.note).to_json()
    return {
        "images": n_kept,
        "seconds": cost.seconds,
        "graders": cost.graders,
        "hours": cost.hours(n_kept),
        "found_per_hour": per_hour,
        "measured": cost.measured,
        "n_measured": cost.n,
    }


def _json(told: dict[str, Rate]) -> dict[str, Any]:
    return {name: rate.to_json() for name, rate in told.items()}


def _floats(values: np.ndarray) -> list[float | None]:
    """For JSON, where NaN is null."""
    return [None if value != value else value for value in np.asarray(values, np.float64).tolist()]


def weighted_curve(
    values: np.ndarray, positive: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall at every value, ascending, where who has that value or more is kept, by weights.

    Parameters
    ----------
    values
        float (n,); who has none (NaN) is never kept.
    positive
        bool (n,).
    weight
        float (n,): how many subjects each stands for.

    Returns
    -------
    precision, recall, thresholds
        float64 (t,).
    """
    total = float(weight[positive].sum())
    has = np.isfinite(values)
    order = np.argsort(values[has], kind="stable")
    ordered, mass = values[has][order], weight[has][order]
    found = np.where(positive[has][order], mass, 0.0)
    firsts = np.flatnonzero(np.diff(ordered, prepend=-np.inf) > 0)
    tp, kept = (np.cumsum(part[::-1])[::-1][firsts] for part in (found, mass))
    return tp / kept, tp / total if total else np.full(len(firsts), np.nan), ordered[firsts]


def _thinned(recall: np.ndarray) -> np.ndarray:
    """Places of at most `POINTS` of a curve that runs along recall: half at even steps of it, half at even places."""
    n = len(recall)
    if n <= POINTS:
        return np.arange(n)
    even = np.linspace(0, n - 1, POINTS // 2).round().astype(np.int64)
    down = np.sort(recall)
    steps = np.searchsorted(down, np.linspace(down[0], down[-1], POINTS // 2))
    if recall[0] > recall[-1]:
        steps = n - 1 - steps
    found: np.ndarray = np.unique(np.concatenate([even, np.clip(steps, 0, n - 1)]))
    return found
