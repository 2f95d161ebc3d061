"""The boundary at work: what it keeps, what it is judged against, what that is worth, throws away and costs."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
import panel as pn
import param
from panel.custom import JSComponent
from panel.viewable import Viewer

from explorer import ASSETS
from explorer.errors import UsageError, VoorwerpError
from explorer.services.boundaries import Boundaries, Context, Saved, from_file
from explorer.services.cost import cut_for
from explorer.services.explore import Explore
from explorer.services.labels import groups as groups_of
from explorer.services.purest import cut_pure
from explorer.services.truths import Truths
from explorer.state import Draft, ExplorerState, Selection
from explorer.views.components import CSS
from models import boundary
from models.artifacts import ArtifactError
from models.boundary import And, Gate, Learned, Not, Or, Path, Region, Term
from models.truth import Truth

if TYPE_CHECKING:
    from explorer.services.judge import Judge

#: Bins and percentiles that the page draws a column with and turns values into; sketched corners of a region.
BINS, SKETCHED = 48, 64
POINTS = np.unique(np.concatenate([np.linspace(0, 100, 201), [0.01, 0.05, 0.1, 0.2, 99.8, 99.9, 99.95, 99.99]]))
#: Above so many medians the greatest value of a positive column is far: its slider is logarithmic.
FAR = 20.0
#: Characters of a file that is taken in.
MOST_TEXT = 5_000_000

GROUPS = {"scores": "Scores", "maps": "Map", "subjects": "Columns"}
#: What a person may be wrong about; each is one sentence.
TROUBLES = (VoorwerpError, ArtifactError, ValueError)


class Sides(JSComponent):
    """The tabs on top of the right column."""

    side = param.String("subject", doc="Which is shown (`explorer.state.SIDES`).")

    _esm = ASSETS / "sides.js"
    _stylesheets: ClassVar[list[str]] = [CSS]


class BoundaryPanel(JSComponent):
    """The panel; `asked` is called with what a person did there."""

    shown = param.Boolean(False, doc="Whether it is in sight: its keys are dead while it is not.")
    n = param.Integer(0, doc="Subjects of the survey.")
    draft = param.Dict({"keep": {"type": "and", "path": [], "terms": []}}, doc="The boundary as it is shown.")
    offered = param.List([], doc="What may count as right (`Truths.offered`), with a group each.")
    columns = param.List([], doc="Columns a gate may be on: [group, [[reference, title], …]].")
    scales = param.Dict({}, doc="Per column of the draft how it is spread: `scale_of`.")
    learned = param.Dict({}, doc="What is known of each classifier of the draft, by sha256.")
    numbers = param.Dict({}, doc="`Judge.numbers`, and about: the truth in words.")
    counting = param.Boolean(False, doc="Whether the numbers are not yet those of what is shown.")
    bare = param.Dict({}, doc="n, said: on how many subjects of the plane nothing is kept around them.")
    saved = param.List([], doc="Boundaries: name, newest version, is_frozen.")
    versions = param.List([], doc="Versions of the one that is open, newest first.")
    compared = param.Dict({}, doc="Another boundary beside this one; {} for none.")
    fitting = param.Dict({}, doc="going, message: the classifier that is being fitted.")
    checked = param.String("", doc="What experts found in the version that is open; nothing once it is changed.")
    revealed = param.Integer(0, doc="How often the test half was shown for this truth.")
    has_report = param.Boolean(False)
    file = param.Dict({}, doc="name, text: what was exported last; n counts.")
    said = param.String("", doc="One sentence on what was done, or why not.")
    is_wrong = param.Boolean(False, doc="Whether it says why not.")
    can_take_back = param.Boolean(False, doc="Whether it names something in the ledger that can be undone.")
    answered = param.Integer(0, doc="Counts the sentences.")
    heard = param.Integer(0, doc="Number of the last message that was acted on, numbers and all.")
    draws = param.Boolean(False, doc="Whether what is drawn on the map becomes a region.")
    asked: Callable[[dict[str, Any]], None] | None = None

    _esm = ASSETS / "boundary.js"
    _stylesheets: ClassVar[list[str]] = [CSS, (ASSETS / "boundary.css").read_text()]

    def _handle_msg(self, msg: Any) -> None:
        if self.asked is not None and isinstance(msg, dict):
            self.asked(msg)


class BoundaryView(Viewer):
    """Follows `ExplorerState.draft`, and edits it; what is slow runs beside the event loop, and the newest wins.

    Parameters
    ----------
    learning
        The classifiers; None where there are none.

    Attributes
    ----------
    report
        Writes a report of a boundary and returns a sentence on it; None where there is no report.
    """

    def __init__(
        self,
        state: ExplorerState,
        explore: Explore,
        boundaries: Boundaries,
        judge: Judge,
        truths: Truths,
        learning: Any = None,
        report: Callable[[Draft, Context], Coroutine[Any, Any, str]] | None = None,
        **params: Any,
    ) -> None:
        super().__init__(**params)
        self.state, self.explore = state, explore
        self.boundaries, self.judge, self.truths, self.learning, self.report = (
            boundaries,
            judge,
            truths,
            learning,
            report,
        )
        self.sides = Sides(height=32, sizing_mode="stretch_width", margin=0, side=state.side)
        self.panel = BoundaryPanel(
            sizing_mode="stretch_both", margin=0, n=explore.survey.n, has_report=report is not None
        )
        self.panel.asked = self._hear
        self.sides.param.watch(lambda event: setattr(state, "side", event.new), "side")
        self.panel.param.watch(lambda event: setattr(state, "draws", event.new), "draws")
        self.panel.draws = state.draws
        self._saved: Saved | None = None  # what the draft was saved as or opened from
        self._taken_back: int | None = None  # the entry that "Undo" beside a sentence takes back
        self._other = ""  # what is compared with
        self._seconds: float | None = None
        self._graders = 1
        self._classes: str | None = None
        self._is_ours = False  # the page shows the moved limit already
        self._moving: Path | Literal["truth"] | None = None
        self._wanted: tuple[Draft, Context, Path | Literal["truth"] | None, int] | None = None
        self._is_counting = False
        self._scales: OrderedDict[tuple[Any, ...], dict[str, Any]] = OrderedDict()
        self._facts: dict[str, dict[str, Any]] = {}
        self._fit_wanted: dict[str, tuple[Draft, Path | None, dict[str, Any]]] = {}  # the newest of each kind
        self._is_fitting = self._refit_rests = False
        self._titles: dict[str, str] = {}  # hours may move a limit before the panel was ever looked at
        self._is_stale = True
        self._last = boundaries.last
        self._affording, self._n_afforded = asyncio.Lock(), 0
        self._at_work: set[str] = set()
        self._wanted_again: set[str] = set()
        state.param.watch(lambda event: self._follow(event.old, event.new), "draft")
        state.param.watch(lambda *_: self._turn(), "side")
        state.param.watch(lambda *_: self._turn_below(), "pane")
        state.param.watch(lambda event: setattr(self.panel, "draws", event.new), "draws")
        state.param.watch(lambda *_: self.refresh(), ["run_id", "map_id"])
        state.param.watch(lambda *_: self._mix(), ["lambda_", "lambda_mode"])
        state.param.watch(lambda *_: self._once("bare", self._count_bare), ["x", "y"])
        self._turn()

    def __panel__(self) -> pn.viewable.Viewable:
        return self.panel

    @property
    def context(self) -> Context:
        """Whose scores and which map the draft means."""
        state = self.state
        return Context(state.run_id, state.map_id, state.lambda_, state.lambda_mode)

    # --------------------------------------------------------------------------------------------- session → page
    def _turn(self) -> None:
        """The other side of the right column."""
        is_shown = self.state.side == "boundary"
        self.sides.side = self.state.side
        self.panel.param.update(shown=is_shown, visible=is_shown)
        if is_shown and self._is_stale:
            self.refresh()

    def _turn_below(self) -> None:
        """The curves may be in sight now."""
        if self._is_stale:
            self._count_aside()

    def refresh(self) -> None:
        """Offer what survey, run and ledger have now, and count anew."""
        if self.state.side != "boundary":
            self._count_aside()
            return
        self._is_stale = False
        context = self.context
        titles = self.explore.axes(context.run_id, context.map_id) | self.explore.colors(context.run_id, context.map_id)
        self._titles = {r: title for r, title in titles.items() if "." in r}
        self.panel.columns = _grouped(self._titles)
        self._list()
        self._show_draft()
        self._count(None)
        self._once("offer", self._offer)

    def poll(self) -> None:
        """Once a second: what was saved, renamed, frozen or deleted in another tab, or from a script."""
        if (last := self.boundaries.last) != self._last:
            self._last = last
            self.refresh()

    def _count_aside(self) -> None:
        """The panel is not in sight: it is made anew when it is; the curves want the numbers nevertheless."""
        self._is_stale = True
        if self.state.pane == "curves" and self.state.side != "boundary":
            self._count(None)

    def _mix(self) -> None:
        """λ is another: what is counted from the anomaly score is."""
        if self.state.side != "boundary":
            self._count_aside()
            return
        self._count(None)
        self._once("spread", self._spread)
        self._once("offer", self._offer)

    def _once(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Work that is at work already is done once more after that, however often it was asked for."""
        if self.state.side != "boundary":
            return
        self._wanted_again.add(name)
        if name not in self._at_work:
            self._at_work.add(name)
            pn.state.execute(partial(self._repeat, name, work))

    async def _repeat(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            while name in self._wanted_again:
                self._wanted_again.discard(name)
                await work()
        finally:
            self._at_work.discard(name)

    async def _offer(self) -> None:
        try:
            offered = await asyncio.to_thread(self.truths.offered, self.context)
        except TROUBLES:
            return
        told = [{"group": _group_of(one), **one} for one in offered]
        pn.state.execute(partial(setattr, self.panel, "offered", told), schedule=True)

    def _list(self) -> None:
        """The boundaries that are saved."""
        found = []
        for name in reversed(self.boundaries.names()):
            newest = self.boundaries.versions(name)[-1]
            found.append({"name": name, "version": newest.version, "is_frozen": newest.is_frozen})
        self.panel.saved = found
        self._place()

    def _place(self) -> None:
        """Which version the draft was saved as, and which others there are."""
        name, version = self.state.draft.name, self.state.draft.version
        versions: list[Saved] = []
        if name in {one["name"] for one in self.panel.saved}:
            versions = self.boundaries.versions(name)
        self._saved = next((one for one in versions if one.version == version), None)
        told = [
            {"version": v.version, "at": v.at[:16].replace("T", " "), "is_frozen": v.is_frozen} for v in versions[::-1]
        ]
        self.panel.param.update(versions=told, revealed=self.boundaries.revealed(self.state.draft.truth))

    @property
    def is_changed(self) -> bool:
        """Whether the draft says otherwise than what it was saved as."""
        draft = self.state.draft
        if self._saved is None:
            return draft.truth is not None or draft.keep != And(())
        return (draft.keep, draft.truth) != (self._saved.keep, self._saved.truth)

    def _follow(self, old: Draft, new: Draft) -> None:
        """The draft is another: here, on the map, by undo."""
        if old.truth != new.truth and old.keep == new.keep:
            self._refit(self.state.is_tuning)
        elif self._refit_rests and not self.state.is_tuning:
            self._refit(False)
        if self.state.side != "boundary":
            self._count_aside()
            return
        if (old.name, old.version) != (new.name, new.version) or (old.truth != new.truth and not self._is_ours):
            self._place()
        if not self._is_ours:
            self._show_draft()
        self._count(self._moving if self._is_ours else None)

    def _show_draft(self) -> None:
        draft = self.state.draft
        told = {
            "name": draft.name,
            "version": draft.version,
            "changed": self.is_changed,
            "is_frozen": bool(self._saved and self._saved.is_frozen),
            "follows": draft.follows,
            "undo": self.state.can_undo_draft,
            "redo": self.state.can_redo_draft,
            "truth": draft.truth and draft.truth.to_json(),
            "keep": self._shown(draft.keep, ()),
        }
        self.panel.draft = told
        self._once("spread", self._spread)

    def _shown(self, term: Term, path: Path) -> dict[str, Any]:
        """A term as the page draws it: a region by few corners, whatever it has."""
        told: dict[str, Any] = {"path": list(path)}
        match term:
            case And() | Or():
                terms = [self._shown(one, (*path, k)) for k, one in enumerate(term.terms)]
                return told | {"type": "and" if isinstance(term, And) else "or", "terms": terms}
            case Not():
                return told | {"type": "not", "terms": [self._shown(term.term, (*path, 0))]}
            case Gate():
                names = self.explore.labels(term.column)
                return told | {
                    "type": "gate",
                    "title": self._title(term.column),
                    "column": term.column,
                    "is_category": bool(term.labels) or bool(names),
                    "names": list(dict.fromkeys([*names, *term.labels])),
                    "labels": list(term.labels),
                    "low": term.low,
                    "high": term.high,
                    "low_percentile": term.low_percentile,
                    "high_percentile": term.high_percentile,
                }
            case Region():
                outline = term.outline()
                n = len(term.vertices)
                about = f"freehand, {n:,} corners" if term.shape == "freehand" else f"{n:,} corners"
                return told | {
                    "type": "region",
                    "title": f"{term.shape.capitalize()} region"
                    if term.shape == "freehand"
                    else term.shape.capitalize(),
                    "plane": f"{self._title(term.x)} × {self._title(term.y)}",
                    "about": about if term.shape in ("polygon", "freehand") else "",
                    "crosses": n <= 2_000
                    and term.shape in ("polygon", "freehand")
                    and boundary.crosses_itself(outline),
                    "sketch": sketch(outline),
                }
            case Learned():
                return told | {
                    "type": "learned",
                    "title": self._facts.get(term.model, {}).get("title", "Learned classifier"),
                    "model": term.model,
                    "low": term.low,
                    "scale": term.scale,
                }

    def _title(self, reference: str) -> str:
        return self._titles.get(reference) or reference.partition(".")[2].replace("_", " ")

    async def _spread(self) -> None:
        """How the columns of the draft are spread, and what is known of its classifiers, how good they are last."""
        draft, context = self.state.draft, self.context
        wanted = {leaf.column for _, leaf in boundary.leaves(draft.keep) if isinstance(leaf, Gate) and not leaf.labels}
        for judged in (False, True):
            scales, facts = await asyncio.to_thread(self._measure, wanted, draft, context, judged)
            if scales != self.panel.scales or facts != self.panel.learned:
                pn.state.execute(partial(self._measured, scales, facts), schedule=True)
            if not boundary.classifiers(draft.keep) or self.state.draft.keep != draft.keep:
                break

    def _measure(
        self, columns: set[str], draft: Draft, context: Context, judged: bool
    ) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
        found: dict[str, Any] = {}
        source = self.boundaries.source(context)
        for reference in columns:
            if not self.explore.is_category(reference):
                found[reference] = self._scale((reference, context), partial(source.column, reference))
        truth = draft.truth
        if truth is not None and truth.at_least is not None:
            base = replace(truth, at_least=0.0, is_soft=False, kind="")
            found[key_of(truth)] = self._scale((base, context), lambda: self.truths.base(base, context).values)
        facts = {sha: self._about(sha, context, judged) for sha in boundary.classifiers(draft.keep)}
        return {reference: scale for reference, scale in found.items() if scale}, facts

    def _scale(self, key: tuple[Any, ...], values: Callable[[], np.ndarray | None]) -> dict[str, Any]:
        key = (self.explore.survey.generation, *key)
        if key not in self._scales:
            try:
                found = values()
            except TROUBLES:  # the numbers say why
                found = None
            self._scales[key] = scale_of(found) if found is not None else {}
            while len(self._scales) > 32:
                self._scales.popitem(last=False)
        return self._scales[key]

    def _about(self, sha: str, context: Context, judged: bool) -> dict[str, Any]:
        """What is known of a classifier, ready for the page."""
        if self._facts.get(sha, {}).get("is_judged"):
            return self._facts[sha]
        try:
            if self.learning is None:
                raise UsageError("the boundary has a learned classifier, and here are none")
            told = about_classifier(self.learning.what(sha, context, judged))
            values = self.boundaries.source(context).balanced(sha)
        except TROUBLES as error:
            return {"trouble": str(error)}
        counts, _ = np.histogram(values[np.isfinite(values)], BINS, (0, 1))
        scale = {"low": 0, "high": 1, "log": False, "integral": False, "bins": counts.tolist()}
        return told | {"scale": scale, "is_judged": judged}

    def _measured(self, scales: dict[str, Any], facts: dict[str, dict[str, Any]]) -> None:
        is_new = any(sha not in self._facts for sha in facts)
        self._facts |= facts
        self.panel.param.update(scales=scales, learned=facts)
        if is_new:  # the classifier has a name now
            self._show_draft()

    # ---------------------------------------------------------------------------------------------------- numbers
    def _count(self, moving: Path | Literal["truth"] | None, number: int = 0) -> None:
        """Count what the draft is worth, as soon as the count before it is done."""
        number = max(number, self._wanted[3] if self._wanted else 0)
        self._wanted = (self.state.draft, self.context, moving, number)
        if moving is None:
            self.panel.counting = True
        if not self._is_counting:
            self._is_counting = True
            pn.state.execute(self._work)

    async def _work(self) -> None:
        """Count until nothing newer is wanted."""
        try:
            while self._wanted is not None:
                (draft, context, moving, number), self._wanted = self._wanted, None
                numbers = await asyncio.to_thread(self._numbers, draft, context, moving)
                pn.state.execute(partial(self._show_numbers, numbers, number, draft, context), schedule=True)
        finally:
            self._is_counting = False
        if moving is None:
            self._once("bare", self._count_bare)
            self._once("compare", self._compare)

    def _numbers(self, draft: Draft, context: Context, moving: Path | Literal["truth"] | None) -> dict[str, Any]:
        try:
            told = self.judge.numbers(
                draft, context, moving, seconds=self._seconds, graders=self._graders, classes=self._classes
            )
        except TROUBLES as error:
            return {"trouble": str(error)}
        cost = told.get("cost")
        about = str(told.get("sentence") or told.get("title") or "").partition(";")[0]
        return told | {"about": about, "cost": cost and cost | {"total": self.explore.survey.n}}

    def _show_numbers(self, numbers: dict[str, Any], number: int, draft: Draft, context: Context) -> None:
        is_of_now = (draft, context) == (self.state.draft, self.context)
        self.panel.param.update(
            numbers=numbers,
            heard=max(number, self.panel.heard),
            counting=self.panel.counting and not is_of_now,
        )

    async def _count_bare(self) -> None:
        """Where on the plane nothing is kept."""
        draft, context, x, y = self.state.draft, self.context, self.state.x, self.state.y

        def count() -> dict[str, Any]:
            try:
                found = self.judge.empty(draft, context, x=x, y=y)
            except TROUBLES:  # the numbers say why
                return {}
            return {"n": found["n"], "said": found["said"] if found["n_placed"] else ""}

        bare = await asyncio.to_thread(count)
        if bare != self.panel.bare:
            pn.state.execute(partial(setattr, self.panel, "bare", bare), schedule=True)

    # --------------------------------------------------------------------------------------------- page → session
    def _say(self, said: str, *, wrong: bool = False, entry: int | None = None) -> None:
        self._taken_back = entry
        self.panel.param.update(
            said=said, is_wrong=wrong, can_take_back=entry is not None, answered=self.panel.answered + 1
        )

    def _hear(self, message: dict[str, Any]) -> None:
        """What a person did; nonsense (an old page's, say) changes nothing."""
        number = message.get("number")
        number = number if isinstance(number, int) and not isinstance(number, bool) else 0
        is_counted, n_said = False, self.panel.answered
        try:
            match message:
                case {"move": "hours", "change": {"hours": int() | float() as hours, "path": list(path)}}:
                    pn.state.execute(
                        partial(
                            self.afford,
                            float(hours),
                            _path(path),
                            settled=message.get("settled") is True,
                            number=number,
                        )
                    )
                    is_counted = True
                case {"move": "truth" | list() as what, "change": dict(change)}:
                    is_counted = self.move(
                        "truth" if what == "truth" else _path(what),
                        change,
                        settled=message.get("settled") is True,
                        number=number,
                    )
                case {"act": str(name)}:
                    self.act(name, message)
            if self.panel.is_wrong and self.panel.answered == n_said:  # what was wrong is over
                self._say("")
        except (*TROUBLES, KeyError, TypeError) as error:
            self._say(
                str(error) if isinstance(error, TROUBLES) else "the page sent what is no edit; reload it", wrong=True
            )
            self._show_draft()
        finally:
            if not is_counted:
                self.panel.heard = max(number, self.panel.heard)

    def move(self, what: Path | Literal["truth"], change: Mapping[str, Any], *, settled: bool, number: int = 0) -> bool:
        """Set limits of a term, or of the truth, within a gesture or as its end.

        Parameters
        ----------
        change
            ``low``, ``high`` (a number, or None for no limit), ``low_percentile``, ``high_percentile`` (0 to 100, or
            None); of the truth ``at_least``.

        Returns
        -------
        bool
            Whether numbers will follow.
        """
        draft = self.state.draft
        if what == "truth":
            if draft.truth is None:
                raise UsageError("no truth is chosen")
            new = replace(draft, truth=replace(draft.truth, at_least=float(change["at_least"])))
        else:
            leaf = boundary.at(draft.keep, what)
            if isinstance(leaf, Learned):
                moved: Term = replace(leaf, low=float(change["low"]))
            elif isinstance(leaf, Gate):
                moved = self._moved(leaf, change)
            else:
                raise UsageError("this term has no limit to move")
            new = replace(draft, keep=boundary.replaced(draft.keep, what, moved))
        return self._set(new, what, settled=settled, number=number)

    def _set(self, new: Draft, moving: Path | Literal["truth"], *, settled: bool, number: int) -> bool:
        self._is_ours, self._moving = not settled, moving
        try:
            if new == self.state.draft:
                self._count(None if settled else moving, number)
            else:
                self.state.tune(new)
                self._count(None if settled else moving, number)
            if settled:
                self.state.settle_draft()
                if moving == "truth":
                    self._place()
                    self._refit(False)
                self._show_draft()
        finally:
            self._is_ours = False
        return True

    def _moved(self, gate: Gate, change: Mapping[str, Any]) -> Gate:
        limits: dict[str, float | None] = {}
        for end in ("low", "high"):
            name = f"{end}_percentile"
            if end in change:
                limits |= {end: None if change[end] is None else float(change[end]), name: None}
            if name in change and change[name] is None:
                limits |= {end: None, name: None}
            elif name in change:
                percentile = float(change[name])
                if not 0 <= percentile <= 100:
                    raise UsageError(f"a percentile is 0 to 100, not {percentile:g}")
                limits |= {end: self.boundaries.value_at(gate.column, percentile, self.context), name: percentile}
        return replace(gate, **cast(Any, limits))

    def act(self, name: str, told: Mapping[str, Any]) -> None:
        """One thing that a person did beside moving a limit.

        Raises
        ------
        VoorwerpError, BoundaryError, TruthError
            Why it cannot be done.
        """
        state, draft = self.state, self.state.draft
        match name, told:
            case "undo", _:
                state.undo_draft()
            case "redo", _:
                state.redo_draft()
            case "truth", _:
                self.choose(told)
            case "gate", {"column": str(column)}:
                self.add(self._gate(column))
            case "set", {"path": list(path), "labels": list(labels)}:
                gate = boundary.at(draft.keep, _path(path))
                if isinstance(gate, Gate):
                    self._replace(_path(path), replace(gate, labels=tuple(map(str, labels))))
            case "negate", {"path": list(path)}:
                self.negate(_path(path))
            case "join", {"path": list(path), "as": "and" | "or" as word}:
                group = boundary.at(draft.keep, _path(path))
                if isinstance(group, And | Or):
                    self._replace(_path(path), (And if word == "and" else Or)(group.terms))
            case "remove", {"path": list(path)}:
                self._replace(_path(path), None)
            case "copy", {"path": list(path)}:
                self._copy(_path(path))
            case "group", {"path": list(path)}:
                self._replace(_path(path), And((boundary.at(draft.keep, _path(path)),)))
            case "ungroup", {"path": list(path)}:
                self.dissolve(_path(path))
            case "show", {"path": list(path)}:
                self._show_on_map(_path(path))
            case "follows", {"on": bool(on)}:
                state.edit(replace(draft, follows=on))
            case "fit", {"kind": "linear" | "nonlinear" as kind, "components": int() | float() as components}:
                of = told.get("path")
                self.fit(
                    _path(of) if isinstance(of, list) else None, kind, components, within=told.get("within") is True
                )
            case "pure", {"path": list(path)}:
                pn.state.execute(partial(self.purify, _path(path)))
            case "cost", _:
                self.price(told.get("seconds"), told.get("graders"))
            case "classes", {"column": str(column)}:
                self._classes = column
                self._count(None)
            case "select", _:
                pn.state.execute(self.select)
            case "lost", {"reference": str(reference)}:
                pn.state.execute(partial(self.select_lost, reference))
            case "report", _:
                pn.state.execute(self._report)
            case _:
                self._keep(name, told)

    def _keep(self, name: str, told: Mapping[str, Any]) -> None:
        """What is decided in the ledger, and files."""
        boundaries, draft = self.boundaries, self.state.draft
        match name, told:
            case "save", {"name": str(to)}:
                self.save(to)
            case "open", {"name": str(other)}:
                version = told.get("version")
                self.open(other, version if isinstance(version, int) else None)
            case "new", _:
                self.state.edit(Draft(truth=draft.truth))
                self._say("")
            case "duplicate", {"name": str(other)}:
                to = self._free(other)
                saved = boundaries.duplicate(other, to, self.state.person.name, version=draft.version or None)
                self.state.edit(replace(saved.draft, follows=draft.follows))
                self._list()
                self._show_draft()
                self._say(f"copied as “{to}”", entry=saved.entry_id)
            case "rename", {"name": str(other), "to": str(to)}:
                entry = boundaries.rename(other, to, self.state.person.name)
                if draft.name == other:
                    self.state.replace_draft(replace(draft, name=" ".join(to.split())))
                self._list()
                self._show_draft()
                self._say(f"“{other}” is called “{to}” now", entry=entry.id)
            case "drop", {"name": str(other)}:
                entry = boundaries.drop(other, self.state.person.name)
                self._list()
                self._show_draft()
                self._say(f"“{other}” deleted; what it keeps is still here, unsaved", entry=entry.id)
            case "take back", _ if self._taken_back is not None:
                boundaries.undo(self._taken_back, self.state.person.name)
                if draft.name and draft.name not in boundaries.names():  # it was renamed, or its first version undone
                    found = [n for n in boundaries.names() if n not in {one["name"] for one in self.panel.saved}]
                    if found:
                        self.state.replace_draft(replace(draft, name=found[-1]))
                self._list()
                self._show_draft()
                self._say("taken back")
            case "freeze", _:
                pn.state.execute(self.freeze)
            case "compare", {"name": str(other)}:
                self._other = other
                if other:
                    self._once("compare", self._compare)
                else:
                    self.panel.compared = {}
            case "export", _:
                pn.state.execute(self.export)
            case "import", {"text": str(text)}:
                pn.state.execute(partial(self.take, text))

    # ------------------------------------------------------------------------------------------------------- edits
    def choose(self, told: Mapping[str, Any]) -> None:
        """Choose a truth of those that are offered, or change how the one that is chosen counts."""
        draft, truth = self.state.draft, self.state.draft.truth
        if told.get("none"):
            self.state.edit(replace(draft, truth=None))
            return
        if "offered" in told:
            offered = self.panel.offered or self.truths.offered(self.context)  # as it was read beside the event loop
            found = [o for o in offered if key_of(Truth.from_json(o["truth"])) == told["offered"]]
            if not found:
                raise UsageError("this truth is not there any more; choose another")
            self.state.edit(replace(draft, truth=Truth.from_json(found[0]["truth"])))
            return
        if truth is None:
            raise UsageError("no truth is chosen")
        change: dict[str, Any] = {}
        if "kind" in told:
            change["kind"] = told["kind"]
        if "is_soft" in told:
            change["is_soft"] = told["is_soft"] is True
        if "limit" in told:
            limit = told["limit"]
            change["limit"] = None if limit is None else int(limit)
        if "labels" in told:
            change["labels"] = tuple(map(str, told["labels"]))
        self.state.edit(replace(draft, truth=replace(truth, **change)))

    def add(self, term: Term) -> None:
        """One more term, beside those of the outermost group."""
        draft = self.state.draft
        self.state.edit(replace(draft, keep=boundary.check(boundary.with_term(draft.keep, (), term))))

    def _gate(self, column: str) -> Gate:
        if column not in self._titles:
            raise UsageError(f"there is no column {column} here")
        labels = self.explore.labels(column)
        return Gate(column, labels=tuple(labels[: boundary.MAX_LABELS])) if labels else Gate(column)

    def _replace(self, path: Path, term: Term | None) -> None:
        draft = self.state.draft
        keep = boundary.replaced(draft.keep, path, term)
        if not isinstance(keep, And | Or):
            keep = And((keep,))
        self.state.edit(replace(draft, keep=boundary.check(keep)))

    def negate(self, path: Path) -> None:
        """Keep what a term does not keep; or again what it does."""
        keep = self.state.draft.keep
        if path and isinstance(boundary.at(keep, path[:-1]), Not):
            self._replace(path[:-1], boundary.at(keep, path))
        else:
            self._replace(path, Not(boundary.at(keep, path)))

    def _copy(self, path: Path) -> None:
        keep = self.state.draft.keep
        term = boundary.at(keep, path)
        group = boundary.at(keep, path[:-1]) if path else None
        if isinstance(group, And | Or):
            k = path[-1]
            self._replace(path[:-1], type(group)((*group.terms[: k + 1], term, *group.terms[k + 1 :])))
        else:
            self.add(term)

    def dissolve(self, path: Path) -> None:
        """Take a group's terms out of it, where the group around it joins them alike; else a group of one."""
        keep = self.state.draft.keep
        group, parent = boundary.at(keep, path), boundary.at(keep, path[:-1]) if path else None
        if not isinstance(group, And | Or) or not isinstance(parent, And | Or):
            raise UsageError("only a group inside another can be dissolved")
        if len(group.terms) > 1 and type(group) is not type(parent):
            words = {And: "all of", Or: "any of"}
            raise UsageError(
                f"“{words[type(group)]}” within “{words[type(parent)]}” cannot be dissolved: join it alike first"
            )
        k = path[-1]
        self._replace(path[:-1], type(parent)((*parent.terms[:k], *group.terms, *parent.terms[k + 1 :])))

    def _show_on_map(self, path: Path) -> None:
        region = boundary.at(self.state.draft.keep, path)
        if isinstance(region, Region):
            self.state.param.update(x=region.x, y=region.y, solid=False, draws=True)

    def price(self, seconds: Any, graders: Any) -> None:
        """What one look costs."""
        if seconds is not None and not 0 < float(seconds) <= 86_400:
            raise UsageError(f"a look takes more than 0 seconds and at most a day, not {seconds:g}")
        if graders is not None and not 1 <= int(graders) <= 1_000:
            raise UsageError(f"each image has 1 to 1,000 graders, not {graders:g}")
        self._seconds = float(seconds) if seconds is not None else self._seconds
        self._graders = int(graders) if graders is not None else self._graders
        self._count(None)

    async def afford(self, hours: float, path: Path, *, settled: bool, number: int = 0) -> None:
        """Move one limit so that what is kept can be looked at in so many hours of experts; one after the other."""
        self._n_afforded += 1
        mine = self._n_afforded
        async with self._affording:
            draft, context = self.state.draft, self.context

            def cut() -> float | None:
                if mine != self._n_afforded and not settled:  # a newer one waits
                    return None
                n = int(self.judge.costs.of(self._seconds, self._graders).images(hours) + 1e-6)
                return cut_for(draft.keep, path, self.boundaries.source(context), n)

            try:
                low = await asyncio.to_thread(cut)
            except TROUBLES as error:
                pn.state.execute(partial(self._say, str(error), wrong=True), schedule=True)
                low = None

        def move() -> None:
            # the limit before it may have been set meanwhile; anything else is an edit that this is not of
            if low is None or _without_low(self.state.draft.keep, path) != _without_low(draft.keep, path):
                self.panel.heard = max(number, self.panel.heard)
                if settled:
                    self.state.settle_draft()
                return
            self.move(path, {"low": low}, settled=settled, number=number)
            if not settled:  # its own slider does not move by itself
                self._show_draft()

        pn.state.execute(move, schedule=True)

    async def purify(self, path: Path) -> None:
        """Move one limit up until nothing false of the tune half is kept; one step of undo."""
        draft, context = self.state.draft, self.context

        def cut() -> tuple[float, str]:
            if draft.truth is None:
                raise UsageError("what is false is known by a truth: choose one first")
            known = self.truths.of(draft.truth, context)
            return cut_pure(
                draft.keep,
                path,
                self.boundaries.source(context),
                known,
                self.truths.half("tune"),
                groups_of(self.explore.survey),
            )

        try:
            low, said = await asyncio.to_thread(cut)
        except TROUBLES as error:
            pn.state.execute(partial(self._say, str(error), wrong=True), schedule=True)
            return

        def move() -> None:
            if self.state.draft != draft:
                self._say("the boundary was edited meanwhile: no limit was moved", wrong=True)
                return
            self.move(path, {"low": low}, settled=True)
            self._say(said)

        pn.state.execute(move, schedule=True)

    # ------------------------------------------------------------------------------------------------- classifiers
    def fit(self, path: Path | None, kind: str, components: float, *, within: bool) -> None:
        """Fit a classifier to the truth; at a path in place of the one that is there, else as one more term."""
        draft = self.state.draft
        if self.learning is None:
            raise UsageError("nothing can be learned here")
        if draft.truth is None:
            raise UsageError("a classifier learns from a truth: choose one first")
        if not self.context.run_id:
            raise UsageError("a classifier learns on a run's latent vectors, and no run is chosen")
        how = {"kind": kind, "components": int(components) if components >= 1 else components, "within": within}
        self._fit_wanted["asked"] = (draft, path, how)
        self._start_fitting()

    def _refit(self, is_moving: bool) -> None:
        """The truth moved: what follows it is fitted again, to the newest truth only."""
        draft, self._refit_rests = self.state.draft, is_moving
        if draft.truth is None or not draft.follows or not boundary.classifiers(draft.keep):
            return
        self._fit_wanted["follows"] = (draft, None, {"is_moving": is_moving})
        self._start_fitting()

    def _start_fitting(self) -> None:
        if self.learning is not None and not self._is_fitting:
            self._is_fitting = True
            self.panel.fitting = {"going": True, "message": "Fitting …"}
            pn.state.execute(self._learn)

    async def _learn(self) -> None:
        error = ""
        try:
            while self._fit_wanted:
                is_asked = "asked" in self._fit_wanted
                draft, path, how = self._fit_wanted.pop("asked" if is_asked else "follows")
                try:
                    if is_asked:
                        sha = await asyncio.to_thread(self._fitted, draft, path, how, self.context)
                        pn.state.execute(partial(self._put, draft, path, sha), schedule=True)
                    else:
                        error = ""
                        made = await asyncio.to_thread(self._fitted_again, draft, self.context, how["is_moving"])
                        pn.state.execute(partial(self._put_again, made), schedule=True)
                except TROUBLES as trouble:
                    if is_asked:  # what follows does not hush it
                        pn.state.execute(partial(self._say, str(trouble), wrong=True), schedule=True)
                    else:
                        error = str(trouble)
        finally:
            self._is_fitting = False
            pn.state.execute(partial(self._end_fitting, error), schedule=True)

    def _fitted(self, draft: Draft, path: Path | None, how: Mapping[str, Any], context: Context) -> str:
        rest = None
        if how["within"]:
            rest = boundary.replaced(draft.keep, path, None) if path is not None else draft.keep
        sha: str = self.learning.fit(context.run_id, draft.truth, context, how["kind"], how["components"], within=rest)
        return sha

    def _fitted_again(self, draft: Draft, context: Context, is_moving: bool) -> dict[str, str]:
        """sha256 of each classifier of a draft → of the one that was fitted in the same way to its truth."""
        if draft.truth is None:
            return {}
        shas = boundary.classifiers(draft.keep)
        return {sha: self.learning.refit(sha, draft.truth, context, is_moving=is_moving) for sha in shas}

    def _put(self, draft: Draft, path: Path | None, sha: str) -> None:
        """A classifier that a person asked for: one step of undo."""
        now = self.state.draft
        if path is None:
            self.state.edit(replace(now, keep=boundary.check(boundary.with_term(now.keep, (), Learned(sha)))))
        elif now.keep == draft.keep:
            old = boundary.at(now.keep, path)
            new = replace(old, model=sha) if isinstance(old, Learned) else Learned(sha)
            self.state.edit(replace(now, keep=boundary.replaced(now.keep, path, new)))
        else:
            self._say("the boundary was edited while the classifier was fitted; fit it again", wrong=True)
            return
        self._say("")

    def _put_again(self, made: Mapping[str, str]) -> None:
        """Classifiers that followed the truth: no step of undo of their own."""
        now = self.state.draft
        keep = now.keep
        for old, new in made.items():  # it is called as the one before it: nothing jumps
            if "title" in self._facts.get(old, {}):
                self._facts.setdefault(new, {"title": self._facts[old]["title"]})
        for path, leaf in boundary.leaves(keep):
            if isinstance(leaf, Learned) and made.get(leaf.model, leaf.model) != leaf.model:
                keep = boundary.replaced(keep, path, replace(leaf, model=made[leaf.model]))
        if keep != now.keep:
            self.state.replace_draft(replace(now, keep=keep))

    def _end_fitting(self, error: str) -> None:
        if error:
            self._say(error, wrong=True)
        self.panel.fitting = {"going": self._is_fitting, "message": "Fitting …"} if self._is_fitting else {}

    # ------------------------------------------------------------------------------------------------- kept by name
    def save(self, name: str) -> None:
        """Save the draft as the next version under a name; it is on the disk before the screen says so."""
        draft = self.state.draft
        saved = self.boundaries.save(name, draft, self.context, self.state.person.name)
        is_new = self._saved is None or saved.entry_id != self._saved.entry_id
        self.state.settle_draft()
        self.state.replace_draft(replace(draft, name=saved.name, version=saved.version))
        self._list()
        self._show_draft()
        self._say(f"saved as “{saved.name}” v{saved.version}", entry=saved.entry_id if is_new else None)

    def open(self, name: str, version: int | None = None) -> None:
        """Go on from a saved version, the newest unless told; it was tuned with a run and a map, which are shown."""
        saved = self.boundaries.get(name, version)
        state, context = self.state, saved.context
        change: dict[str, Any] = {"lambda_": context.lambda_, "lambda_mode": context.mode}
        missing = []
        if context.run_id in self.explore.runs():
            change["run_id"] = context.run_id
        elif context.run_id:
            missing.append("run")
        if context.map_id in self.explore.maps():
            change["map_id"] = context.map_id
        elif context.map_id:
            missing.append("map")
        state.edit(replace(saved.draft, follows=state.draft.follows))
        for key, value in change.items():
            if getattr(state, key) != value:
                setattr(state, key, value)
        self._list()
        self._show_draft()
        said = f"it was tuned with a {' and a '.join(missing)} that is not here any more" if missing else ""
        self._say(said, wrong=bool(missing))

    def _free(self, name: str) -> str:
        names, k = set(self.boundaries.names()), 2
        while f"{name} {k}" in names:
            k += 1
        return f"{name} {k}"

    async def freeze(self) -> None:
        """Freeze the version that is open: its numbers on the test half are shown from now on."""
        saved = self._saved
        if saved is None or self.is_changed:
            self._say("save the boundary first: a version is frozen", wrong=True)
            return
        try:
            await asyncio.to_thread(self.boundaries.freeze, saved.name, saved.version, self.state.person.name)
            said, wrong = f"“{saved.name}” v{saved.version} is frozen; its test numbers are below", False
        except TROUBLES as error:
            said, wrong = str(error), True

        def show() -> None:
            self._list()
            self._show_draft()
            self._count(None)
            self._say(said, wrong=wrong)

        pn.state.execute(show, schedule=True)

    async def _compare(self) -> None:
        """Numbers of another boundary beside these, against the truth of the moment."""
        if not self._other:
            return
        draft, context, other = self.state.draft, self.context, self._other

        def count() -> dict[str, Any]:
            saved = self.boundaries.get(other)
            beside = Draft(saved.keep, draft.truth, saved.name, saved.version)
            mine, theirs = (self.judge.numbers(one, context).get("rates") or {} for one in (draft, beside))
            a, b = (self.boundaries.kept(keep, context).yes for keep in (draft.keep, saved.keep))
            return {
                "title_a": "this one",
                "title_b": f"{saved.name} v{saved.version}",
                "rates": [[name, mine.get(name), theirs.get(name)] for name in mine if name != "base"],
                "both": int((a & b).sum()),
                "only_a": int((a & ~b).sum()),
                "only_b": int((b & ~a).sum()),
                "note": "" if saved.context == context else "tuned with another run, map or λ, and judged with these",
            }

        try:
            compared = await asyncio.to_thread(count)
        except TROUBLES as error:
            pn.state.execute(partial(self._say, str(error), wrong=True), schedule=True)
            return

        def show() -> None:
            if self._other == other:  # it may have been closed meanwhile
                self.panel.compared = compared

        pn.state.execute(show, schedule=True)

    async def export(self) -> None:
        """Hand the version that is open to the browser as a file."""
        saved = self._saved
        if saved is None or self.is_changed:
            self._say("save the boundary first: a version is exported", wrong=True)
            return
        self._say("measuring the survey for the file …")
        try:
            content = await asyncio.to_thread(self.boundaries.to_file, saved)
        except TROUBLES as error:
            pn.state.execute(partial(self._say, str(error), wrong=True), schedule=True)
            return
        name = "".join(c if c.isalnum() or c in "-_" else "_" for c in saved.name)
        told = {
            "name": f"{name}-v{saved.version}.boundary.json",
            "text": content.decode(),
            "n": self.panel.file.get("n", 0) + 1,
        }

        def hand() -> None:
            self.panel.file = told
            self._say(f"{told['name']} written")

        pn.state.execute(hand, schedule=True)

    async def take(self, text: str) -> None:
        """Take in a boundary's file; what it keeps becomes the draft, unsaved."""
        try:
            if len(text) > MOST_TEXT:
                raise UsageError(f"the file has more than {MOST_TEXT / 1e6:.0f} MB; `voorwerp boundary apply` takes it")
            keep, truth, said, problems = await asyncio.to_thread(self._read, text)
        except TROUBLES as error:
            pn.state.execute(partial(self._say, str(error), wrong=True), schedule=True)
            return

        def show() -> None:
            self.state.edit(Draft(keep, truth, follows=False))
            self._say("; ".join([said, *problems]), wrong=bool(problems))

        pn.state.execute(show, schedule=True)

    def _read(self, text: str) -> tuple[Term, Truth | None, str, list[str]]:
        file = from_file(text.encode())
        for classifier in file.classifiers.values():
            if self.learning is None:
                raise UsageError("the boundary has a learned classifier, and nothing is learned here")
            self.learning.add(classifier.to_json())
        said = f"“{file.name}” v{file.version} of {file.survey} taken in, not saved yet"
        return file.keep, file.truth, said, self.boundaries.lacks(file, self.context)

    # ---------------------------------------------------------------------------------------------------- selecting
    async def select(self) -> None:
        """Let what is kept become the selection."""
        draft, context = self.state.draft, self.context
        try:
            yes = (await asyncio.to_thread(self.boundaries.kept, draft.keep, context)).yes
        except TROUBLES as error:
            pn.state.execute(partial(self._say, str(error), wrong=True), schedule=True)
            return
        title = f"{draft.name} v{draft.version}" if draft.name and not self.is_changed else "kept by the boundary"
        self._select(np.flatnonzero(yes), title, f"{int(yes.sum()):,} selected")

    async def select_lost(self, reference: str) -> None:
        """Let those of a tag or a class that are not kept become the selection, and show them in the gallery."""
        draft, context = self.state.draft, self.context

        def find() -> np.ndarray:
            return np.asarray(self.judge.thrown_away(draft, context, reference))

        try:
            rows = await asyncio.to_thread(find)
        except TROUBLES as error:
            pn.state.execute(partial(self._say, str(error), wrong=True), schedule=True)
            return
        name = next((one["name"] for one in self.panel.numbers.get("lost", []) if one["reference"] == reference), "")
        self._select(rows, f"{name} not kept", f"{len(rows):,} of “{name}” that are not kept are selected")

    def _select(self, rows: np.ndarray, title: str, said: str) -> None:
        region = Selection.of_rows(rows, self.explore.survey.n)
        region.title = title

        def show() -> None:
            self.state.select(region, "replace")
            if self.state.pane not in ("gallery", "table", "apart"):
                self.state.pane = "gallery"
            self._say(said)

        pn.state.execute(show, schedule=True)

    async def _report(self) -> None:
        if self.report is None:
            return
        self._say("writing the report …")
        try:
            said, wrong = await self.report(self.state.draft, self.context), False
        except TROUBLES as error:
            said, wrong = str(error), True
        pn.state.execute(partial(self._say, said, wrong=wrong), schedule=True)


# ------------------------------------------------------------------------------------------------------ pure functions
def key_of(truth: Truth) -> str:
    """What a truth is, whatever its threshold: its value in the page's list."""
    return "|".join((truth.what, truth.column, truth.by))


def _group_of(offered: Mapping[str, Any]) -> str:
    """Under which heading a truth is offered."""
    what, reference = offered["what"], offered["reference"]
    if what == "talk":
        return "Tags on Talk"
    if what == "tag":
        return "Our own tags"
    if what in ("grade", "outcome"):
        return "Experts"
    if offered.get("can_be_soft") or what == "product":
        return "Votes"
    if what == "category":
        return "Classes"
    return "Scores" if reference.startswith("scores.") else "Map" if reference.startswith("maps.") else "Columns"


def _grouped(titles: Mapping[str, str]) -> list[list[Any]]:
    found: dict[str, list[list[str]]] = {title: [] for title in GROUPS.values()}
    for reference, title in titles.items():
        found.setdefault(GROUPS.get(reference.partition(".")[0], ""), []).append([reference, title])
    return [[group, options] for group, options in found.items() if options]


def _path(told: list[Any]) -> Path:
    if not all(isinstance(k, int) and not isinstance(k, bool) for k in told):
        raise UsageError("the page named no term of the boundary; reload it")
    return tuple(told)


def _without_low(keep: Term, path: Path) -> Term | None:
    """A boundary whatever the lower limit of one term is; None where there is no such term."""
    try:
        leaf = boundary.at(keep, path)
        if isinstance(leaf, Learned):
            return boundary.replaced(keep, path, replace(leaf, low=0.0))
        if isinstance(leaf, Gate):
            return boundary.replaced(keep, path, replace(leaf, low=None, low_percentile=None))
    except boundary.BoundaryError:
        pass
    return None


def scale_of(values: np.ndarray) -> dict[str, Any]:
    """How a column is spread, for a slider: its ends, counts between them, and percentiles; {} without a value.

    Returns
    -------
    dict
        low, high (least and greatest finite value), log (whether the slider is), integral, bins (counts of `BINS` of
        equal width on the slider), points (percentiles) and quantiles (their values).
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if not len(finite):
        return {}
    finite.sort()
    low, high = float(finite[0]), float(finite[-1])
    quantiles = np.interp(POINTS / 100 * (len(finite) - 1), np.arange(len(finite)), finite)
    median = float(finite[len(finite) // 2])
    is_log = low > 0 and high > FAR * median
    edges = np.geomspace(low, high, BINS + 1) if is_log else np.linspace(low, high, BINS + 1)
    edges[0], edges[-1] = low, high
    counts = (
        np.diff(np.searchsorted(finite, edges[1:-1]), prepend=0, append=len(finite)) if high > low else [len(finite)]
    )
    is_integral = not is_log and high - low <= 10_000 and bool((finite == np.round(finite)).all())
    return {
        "low": low,
        "high": high,
        "log": is_log,
        "integral": is_integral,
        "bins": np.asarray(counts).tolist(),
        "points": POINTS.tolist(),
        "quantiles": quantiles.tolist(),
    }


def sketch(outline: np.ndarray) -> list[list[float]]:
    """An outline by at most `SKETCHED` of its corners, within a square of 1; y goes up."""
    corners = outline[np.unique(np.linspace(0, len(outline) - 1, SKETCHED).astype(int))]
    low, high = corners.min(axis=0), corners.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    return [[round(float(x), 4), round(float(y), 4)] for x, y in (corners - low) / span]


def about_classifier(told: Mapping[str, Any]) -> dict[str, Any]:
    """What `Learning.what` says of a classifier, as the page shows it."""
    fold: Mapping[str, Any] = told.get("out_of_fold") or {}
    repeats, folds = told.get("n_repeats", 0), told.get("n_folds", 0)
    how = f"out of fold ({folds} folds by duplicate group, {repeats} repeats) at balanced score .5"
    kind = {"linear": "Linear", "nonlinear": "Non-linear"}[told["kind"]]
    within = f", within {told['within']}" if told.get("within") else ""
    return {
        "title": f"{kind}, {told['components']} components",
        "kind": told["kind"],
        "components": told["components"],
        "sentence": told["sentence"],
        "short": f"{told['n']:,} subjects, {told['n_positive']:,.0f} of them right{within}; components hold "
        f"{told['explained']:.0%} of the variance; out of fold:",
        "out_of_fold": [
            [title, *_figure(fold[name], is_percent=name == "kept"), how]
            for name, title in OUT_OF_FOLD
            if fold.get(name)
        ],
        "reliability": told.get("reliability") or [],
        "trouble": told.get("trouble", ""),
    }


#: What is told of a classifier out of fold.
OUT_OF_FOLD = (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1"), ("kept", "Kept"))


def _figure(rate: Mapping[str, Any], *, is_percent: bool) -> tuple[str, str]:
    """A rate with its interval, and its k of n."""
    value, low, high, note, k, n = (rate.get(name) for name in ("value", "low", "high", "note", "k", "n"))
    if value is None:
        return str(note or "–"), ""
    least = "≥ " if "at least" in str(note) else ""
    scale, digits, unit = (100, 1, " %") if is_percent else (1, 2, "")
    ends = f" [{scale * low:.{digits}f}, {scale * high:.{digits}f}]" if low is not None and high is not None else ""
    of = f"{k:,.0f} of {n:,.0f}" if k is not None and n is not None else ""
    return f"{least}{scale * value:.{digits}f}{unit}{ends}", of
