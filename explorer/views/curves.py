"""The pane "Curves": precision, recall and cost of the boundary at work, linked both ways with its thresholds."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import panel as pn
import param
from panel.custom import JSComponent
from panel.viewable import Viewer

from explorer import ASSETS
from explorer.errors import UsageError, VoorwerpError
from explorer.services.boundaries import Context
from explorer.services.explore import Explore
from explorer.state import Draft, ExplorerState
from explorer.views.components import CSS
from models.boundary import (
    And,
    BoundaryError,
    Gate,
    Learned,
    Not,
    Path,
    Term,
    at,
    classifiers,
    columns,
    leaves,
    replaced,
    with_term,
)
from models.truth import Truth, TruthError

if TYPE_CHECKING:
    from explorer.services.judge import Judge
    from explorer.services.learned import Learning
    from explorer.services.truths import Truths

#: The fraction whose votes may be known one by one.
CHOSEN = "subjects.chosen_fraction"
#: How the curves name a classifier, before its sha256.
LEARNED = "learned."


class CurvesPane(JSComponent):
    """Four plots, whose curves the page reads from ``/boundary/…``; `asked` is called with what was done there."""

    shown = param.Boolean(False, doc="Whether the pane is in sight; it fetches nothing while it is not.")
    draft_id = param.String("", doc="Id of the draft that the server knows; empty without a truth.")
    trouble = param.String("", doc="Why there is nothing to judge, where it is not that no truth was chosen.")
    run_id = param.String("")
    map_id = param.String("")
    lambda_ = param.Number(0.2)
    lambda_mode = param.String("raw")
    mixes = param.Boolean(False, doc="Whether λ means something.")
    at = param.Dict(
        {}, doc='Where the dots stand: "limits" by reference, "sigma", "images", "hours", "seconds", "graders".'
    )
    truth = param.Dict({}, doc='"title", "words", "circular", "votes" (most of a subject, 0 unknown), "limit".')
    scores = param.List([], doc='What a lower limit can be on: {"reference", "title"}.')
    can_refit = param.Boolean(False, doc="Whether a classifier can be fitted within what is kept.")
    busy = param.Boolean(False, doc="Whether one is being fitted.")
    said = param.String("", doc="Why what was done could not be followed.")
    read = param.Integer(0, doc="Grows when the same curves are to be read anew.")
    answered = param.Integer(0, doc="Counts the messages that were acted on.")
    asked: Callable[[dict[str, Any]], None] | None = None

    _esm = ASSETS / "curves.js"
    _stylesheets: ClassVar[list[str]] = [CSS, (ASSETS / "curves.css").read_text()]

    def _handle_msg(self, msg: Any) -> None:
        if self.asked is not None and isinstance(msg, dict):
            self.asked(msg)


class CurvesView(Viewer):
    """Curves of the session's draft; a click on one moves a threshold, Σ, or how many hours there are.

    Parameters
    ----------
    learning
        Fits again within what is kept; None where nothing can be learned.
    set_hours
        Called with hours, the path of the term whose lower limit is to move, and whether the gesture is over; None
        leaves the budget curve to be read only.
    """

    def __init__(
        self,
        state: ExplorerState,
        explore: Explore,
        judge: Judge,
        truths: Truths,
        learning: Learning | None = None,
        set_hours: Callable[[float, Path, bool], None] | None = None,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.state, self.explore, self.judge, self.truths, self.learning = state, explore, judge, truths, learning
        self.set_hours = set_hours
        self._cost: dict[str, float] = {}
        self._asked: tuple[Any, ...] = ()
        self._circular: list[str] = []
        self._most_votes = (-1, 0)
        self.pane = CurvesPane(sizing_mode="stretch_both", margin=0)
        self.pane.asked = self._hear
        state.param.watch(lambda *_: self._follow(), ["draft", "lambda_", "lambda_mode"])
        state.param.watch(lambda *_: self.refresh(), ["run_id", "map_id"])
        self.pane.param.watch(lambda *_: self._follow(), "shown")
        self.refresh()

    def __panel__(self) -> CurvesPane:
        return self.pane

    # ------------------------------------------------------------------------------------------ session → page
    @property
    def context(self) -> Context:
        """Where scores and places come from now."""
        state = self.state
        return Context(state.run_id, state.map_id, state.lambda_, state.lambda_mode)

    def refresh(self) -> None:
        """Offer the scores that the survey, the run and the map have now, and read the curves anew."""
        state = self.state
        self._titles = self.explore.colors(state.run_id, state.map_id)
        scores = {r: title for r, title in self._titles.items() if r.startswith("scores.")}
        self.pane.param.update(
            scores=[{"reference": r, "title": title} for r, title in scores.items() if not self.explore.is_category(r)],
            run_id=state.run_id,
            map_id=state.map_id,
            mixes=self.explore.mixes(state.run_id),
            read=self.pane.read + 1,
        )
        self._follow()

    def follow_numbers(self, numbers: Mapping[str, Any]) -> None:
        """Let the dot of the budget follow what `Judge.numbers` said of the draft while a limit moves."""
        cost = numbers.get("cost") or {}
        told = {name: cost.get(name) for name in ("images", "hours", "seconds", "graders")}
        self._cost = {name: float(v) for name, v in told.items() if v is not None}
        self._follow()

    def _follow(self) -> None:
        if not self.pane.shown:
            return
        state, draft = self.state, self.state.draft
        draft_id, trouble = "", ""
        if draft.truth is not None:
            try:
                draft_id = self.judge.keep(draft, self.context)
            except (VoorwerpError, BoundaryError, TruthError) as error:
                trouble = str(error)
        self.pane.param.update(
            lambda_=round(state.lambda_, 3),
            lambda_mode=state.lambda_mode,
            at=self._cost | {"limits": limits(draft.keep), "sigma": draft.truth.at_least if draft.truth else None},
            truth=self._about(draft),
            can_refit=self.learning is not None and draft.truth is not None and bool(state.run_id),
            trouble=trouble,
            draft_id=draft_id,
        )

    def _about(self, draft: Draft) -> dict[str, Any]:
        """The truth, for the head of the pane."""
        truth = draft.truth
        if truth is None:
            return {}
        words = in_words(truth, self._titles)
        sigma = "" if truth.at_least is None else f" ≥ {truth.at_least:.4g}"
        circular, votes = self._shared(truth, draft.keep), self._votes(truth)
        return {"title": words, "words": words + sigma, "circular": circular, "votes": votes, "limit": truth.limit}

    def _shared(self, truth: Truth, keep: Term) -> list[str]:
        """What the truth has in common with the boundary; asked again only where that can have changed."""
        key = (
            replace(truth, at_least=0.0 if truth.has_threshold else None),
            columns(keep),
            classifiers(keep),
            self.context,
        )
        if key != self._asked:
            self._asked, self._circular = key, []
            with contextlib.suppress(VoorwerpError):  # the curves say what is wrong
                self._circular = self.truths.circular(truth, keep, self.learning, self.context)
        return self._circular

    def _votes(self, truth: Truth) -> int:
        """Most votes of a subject, where they are known one by one and the truth counts them; else 0."""
        if not truth.has_threshold or CHOSEN not in truth.references:
            return 0
        generation = self.explore.survey.generation
        if self._most_votes[0] != generation:
            self._most_votes = (generation, 0)
            pn.state.execute(self._count_votes)
        return self._most_votes[1]

    async def _count_votes(self) -> None:
        def most() -> int:
            if self.truths.volunteers.summary().get("weights") is None:
                return 0  # only totals are known
            n_votes = self.explore.values("subjects.n_votes")
            return int(np.nanmax(n_votes, initial=0))

        with contextlib.suppress(VoorwerpError):  # without a limit there is no slider
            self._most_votes = (self._most_votes[0], await asyncio.to_thread(most))
            self._follow()

    # ------------------------------------------------------------------------------------------ page → session
    def _hear(self, message: dict[str, Any]) -> None:
        said = ""
        try:
            self._act(message)
        except (VoorwerpError, BoundaryError, TruthError) as error:
            said = str(error)
        finally:
            self.pane.param.update(said=said, answered=self.pane.answered + 1)

    def _act(self, message: dict[str, Any]) -> None:
        state, draft = self.state, self.state.draft
        settled = message.get("settled") is True
        match message:
            case {"act": "boundary"}:
                state.side = "boundary"
            case {"act": "refit"}:
                pn.state.execute(self._refit)
            case {"color": str(color)}:
                if color in self._titles:
                    state.color = color
            case {"limit": {"reference": str(reference), "value": value}}:
                self._tune(replace(draft, keep=with_limit(draft.keep, reference, _number(value))), settled)
            case {"sigma": value} if draft.truth is not None and draft.truth.has_threshold:
                self._tune(replace(draft, truth=replace(draft.truth, at_least=_number(value))), settled)
            case {"votes": value} if draft.truth is not None and draft.truth.has_threshold:
                most, limit = self.pane.truth.get("votes", 0), int(_number(value))
                self._tune(replace(draft, truth=replace(draft.truth, limit=limit if limit < most else None)), settled)
            case {"hours": value, "reference": str(reference)}:
                self._afford(_number(value), reference, settled)

    def _afford(self, hours: float, reference: str, settled: bool) -> None:
        """Let a limit move so that what is kept is looked at in so many hours; a gate more where there is none."""
        if self.set_hours is None:
            return
        draft = self.state.draft
        path = path_of(draft.keep, reference)
        if path is None:
            draft = replace(draft, keep=_both(draft.keep, Gate(reference)))
            self._tune(draft, settled=False)
            path = path_of(draft.keep, reference)
        if path is not None:
            self.set_hours(hours, path, settled)

    async def _refit(self) -> None:
        """Fit another classifier within what is kept, and keep what both keep: anomalies of the anomalies."""
        state, draft, pane = self.state, self.state.draft, self.pane
        if self.learning is None or draft.truth is None or pane.busy:
            return
        pane.param.update(busy=True, said="")
        try:
            fit = partial(self.learning.fit, state.run_id, draft.truth, self.context, within=draft.keep)
            model = await asyncio.to_thread(fit)
        except (VoorwerpError, BoundaryError, TruthError, ValueError) as error:
            pane.said = str(error)
        else:
            if (state.draft.keep, state.draft.truth) == (draft.keep, draft.truth):
                state.edit(replace(draft, keep=_both(draft.keep, Learned(model))))
            else:
                pane.said = "the boundary moved while the classifier was fitted; fit again"
        finally:
            pane.busy = False

    def _tune(self, draft: Draft, settled: bool) -> None:
        self.state.tune(draft)
        if settled:
            self.state.settle_draft()


def limits(keep: Term) -> dict[str, float]:
    """Where a boundary cuts: the lower limit of each column and classifier that it keeps the high values of."""
    found: dict[str, float] = {}
    for path, leaf in leaves(keep):
        if not _is_positive(keep, path):
            continue
        if isinstance(leaf, Gate) and leaf.low is not None:
            found.setdefault(leaf.column, leaf.low)
        elif isinstance(leaf, Learned):
            found.setdefault(LEARNED + leaf.model, leaf.low)
    return found


def path_of(keep: Term, reference: str) -> Path | None:
    """Where a boundary has a lower limit on a column or a classifier, or could have one; None nowhere."""
    for path, leaf in leaves(keep):
        name = LEARNED + leaf.model if isinstance(leaf, Learned) else leaf.column if isinstance(leaf, Gate) else ""
        if name == reference and _is_positive(keep, path) and not (isinstance(leaf, Gate) and leaf.labels):
            return path
    return None


def with_limit(keep: Term, reference: str, value: float) -> Term:
    """The boundary with a lower limit on a column or a classifier: moved where there is one, else one gate more.

    Raises
    ------
    BoundaryError
        The reference names neither.
    """
    path = path_of(keep, reference)
    leaf = at(keep, path) if path is not None else None
    share = min(1.0, max(0.0, value))
    if path is not None and isinstance(leaf, Learned):
        return replaced(keep, path, replace(leaf, low=share))
    if path is not None and isinstance(leaf, Gate):
        if leaf.high is not None and leaf.high < value:  # the range goes upwards
            leaf = replace(leaf, high=None, high_percentile=None)
        return replaced(keep, path, replace(leaf, low=value, low_percentile=None))
    is_learned = reference.startswith(LEARNED)
    return _both(keep, Learned(reference.removeprefix(LEARNED), share) if is_learned else Gate(reference, low=value))


def _both(keep: Term, new: Term) -> Term:
    return with_term(keep, (), new) if isinstance(keep, And) else And((keep, new))


def _is_positive(keep: Term, path: Path) -> bool:
    """Whether what a term keeps is never taken away by a `Not` around it."""
    return not any(isinstance(at(keep, path[:depth]), Not) for depth in range(len(path)))


def in_words(truth: Truth, titles: dict[str, str]) -> str:
    """A truth for a person, without Σ."""
    if truth.what == "talk":
        return f"Talk tag {truth.column}"
    if truth.what == "tag":
        return f"tagged {truth.column}"
    named = [titles.get(r) or r.partition(".")[2].replace("_", " ") for r in truth.references]
    if truth.what == "category":
        return f"{named[0]} is {', '.join(truth.labels[:3])}{', …' if len(truth.labels) > 3 else ''}"
    return " × ".join(named) + (", soft" if truth.is_soft else "")


def _number(value: Any) -> float:
    """A finite number that the page sent.

    Raises
    ------
    UsageError
        It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError("the page sent a threshold that is no number; reload it")
    return float(value)
