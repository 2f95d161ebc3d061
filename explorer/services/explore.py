"""What every screen asks of the data: frames, picks, orders, one subject in full. Callable from a script; thread-safe.

One `Explore` per server. Results that are slow to make are kept by a key of all that went into them.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import numpy as np
import pyarrow.compute as pc

from explorer.caches import Cache
from explorer.cells import CellIndex, Cloud, View, bounds
from explorer.errors import UsageError, VoorwerpError, no_such_column
from explorer.kinds import kinds, learning
from explorer.pyramid import Column
from explorer.raster import SAMPLE, Aggregate, Frame, Norm, Paint, Scale, commonest, extremes, in_order, render
from explorer.services.indices import Indices
from explorer.services.links import hms, links
from explorer.services.orders import Background, Orders, below, mixed, place, rows_at
from explorer.services.talk import Talk
from explorer.state import COMPONENTS, Selection
from explorer.survey import SUBJECTS_SCHEMA, Scores, Survey
from models.artifacts import LATENTS, ArtifactError, Run
from models.artifacts import SCORES as RUN_SCORES
from models.embedding import nearest
from models.labels import about_labels, about_taught
from models.mixing import Mode, mix, standardise

#: The scores of the paper's model, and what a person reads; which of them a run has: `Explore.score_titles`.
SCORES = {"anomaly_score": "Anomaly score", "feature_score": "Feature score", "image_score": "Image score"}

#: Columns of a run that combines the ranks of others, and what a person reads; the subject panel says them in one line.
RANKS = {
    "rank_mean": "Mean rank",
    "rank_spread": "Spread of rank (percentile points)",
    "top1_share": "Share of runs with it in their top 1 %",
    "is_fragile": "Fragile (top 1 % of some runs only)",
}

#: A map's own columns, and what a person reads.
PLACING = {
    "knn_percentile": "Distance to nearest neighbors (percentile)",
    "is_off_map": "Off the map",
    "is_placed": "Placed by its neighbors",
}

#: A map's components: axes, not colors.
AXES = {f"umap_{k}": f"UMAP {k}" for k in (1, 2, 3)}

#: Subjects drawn at most while a 3-D view is turned.
MOVING = 2_000_000

#: Bytes of frames that are kept for whoever looks at the same: when a page is opened, when a view is gone back to.
FRAMES_BYTES = 64_000_000

#: Bytes of selections that no session has any more.
SELECTED_BYTES = 128 << 20

#: Bytes of columns that are kept in memory.
KEPT_BYTES = 1 << 30

#: Columns that the subject panel shows in other ways than as a line of a table.
SHOWN_APART = ("crop_left", "crop_top", "crop_side", "is_known", "is_withdrawn")

CHOSEN_FRACTION = "subjects.chosen_fraction"

#: Columns of the chosen question that the subject panel shows as lines of their own.
OF_CROWD = (
    *("chosen_fraction", "chosen_low", "chosen_high", "n_chosen", "n_votes", "n_classifications"),
    *("weighted_chosen_fraction", "n_effective", "vote_entropy", "swap_probability", "majority_answer"),
)


#: What a reference of a classifier's scores begins with; its sha256 follows.
LEARNED = "learned."


class Classifiers(Protocol):
    """Who knows what learned classifiers score; `Explore` is told of one by whoever opens both."""

    def names(self) -> Mapping[str, str]:
        """sha256 → what a person calls it, of those that boundaries are kept with."""

    def knows(self, sha256: str, run_id: str) -> bool:
        """Whether there is such a classifier, and it works on the latent vectors of a run."""

    def scores(self, sha256: str, run_id: str) -> np.ndarray:
        """Balanced scores by a run's latent vectors, float (N,), NaN without one.

        Raises
        ------
        VoorwerpError
            There is no such classifier, or it does not work on this run.
        """


@dataclass(frozen=True, slots=True)
class Color:
    """What the map is coloured by. Hashable: the key of a cached `Paint`.

    Attributes
    ----------
    by
        ``count``, ``scores.NAME`` (of `run_id`), ``subjects.NAME``, ``maps.NAME`` of the map that is painted, or
        ``learned.SHA256`` of a classifier.
    lambda_
        For ``scores.anomaly_score`` of a run that has both: S_anom = (1 - λ) S_image + λ S_feature, 0 ≤ λ ≤ 1.
    mode
        There: of the raw sums, or of both scores standardised by median and MAD.
    """

    by: str = "count"
    run_id: str = ""
    lambda_: float = 0.2
    aggregate: Aggregate = "max"
    norm: Norm = "percentile"
    mode: Mode = "raw"


@dataclass(frozen=True, slots=True)
class Plane:
    """The two columns that the map lies in, or the map's three components, turned. Hashable: the key of an index.

    Attributes
    ----------
    x, y
        References of numeric columns; ``maps.umap_1`` and ``maps.umap_2`` are the map itself.
    run_id, lambda_, mode
        Whose scores an axis has, and how they are mixed (`Color`); set to their defaults where no axis is a score, so
        that equal planes are equal.
    turn
        Yaw and pitch in radians of the 3-D view; the axes then do not matter. None in 2-D.
    """

    map_id: str = ""
    x: str = COMPONENTS[0]
    y: str = COMPONENTS[1]
    run_id: str = ""
    lambda_: float = 0.2
    mode: Mode = "raw"
    turn: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.turn is not None:
            self._set(x=COMPONENTS[0], y=COMPONENTS[1])
        elif not any(axis.startswith("maps.") for axis in (self.x, self.y)):
            self._set(map_id="")
        axes = (self.x, self.y)
        if not any(axis.startswith("scores.") for axis in axes):
            self._set(run_id="")
        if "scores.anomaly_score" not in axes:
            self._set(lambda_=0.2, mode="raw")
        self._set(lambda_=round(self.lambda_, 4))

    @property
    def is_map(self) -> bool:
        """Whether it is a map as it lies, in its first two components."""
        return bool(self.map_id) and self.turn is None and (self.x, self.y) == COMPONENTS[:2]

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def newest(runs: Mapping[str, Run]) -> str:
    """What the app opens with of finished runs or maps, newest first: the first that is of the whole survey.

    What learned from labels comes after what did not: an acquisition or a probability is no anomaly score. Where all
    are of selections, it is the first; "" where there is none.
    """
    apart = learning()
    ordered = sorted(runs, key=lambda run_id: (runs[run_id].kind in apart, runs[run_id].selection is not None))
    return next(iter(ordered), "")


class Explore:
    """Reads one survey for many sessions."""

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        self.talk = Talk(survey)
        self.classifiers: Classifiers | None = None
        self.indices = Indices(survey)
        self._indices = Cache(8, 3 << 30)
        self._turned = Cache(2)  # apart: each is another, and none is slow to make
        self._extents = Cache(64)
        self._counted = Cache(64)
        self._values = Cache(16, KEPT_BYTES)
        self._mixed = Cache(3, KEPT_BYTES // 2)
        self._sorting_scores = Background()
        self._paints = Cache(16)
        self._scales = Cache(64)
        self._of_clouds = Cache(16, 1 << 30)
        self._frames = Cache(500, FRAMES_BYTES)
        self._orders = Orders(survey.n)
        self._titles = Cache(64)
        self._selections: OrderedDict[str, Selection] = OrderedDict()
        self._living: weakref.WeakValueDictionary[str, Selection] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, dict[str, Run]]] = {}
        self._learned: dict[str, frozenset[str]] = {}  # what is frozen does not change
        self._simulated: dict[str, bool] = {}

    # ----------------------------------------------------------------------------------------- runs and maps
    def learned_from(self, run_id: str) -> frozenset[str]:
        """What the labels of a run or map, and of all that it builds on, are made of: atoms (see `Truths.atoms`)."""
        if run_id not in self._learned:
            run = self.runs().get(run_id) or self.maps().get(run_id)
            if run is None:
                return frozenset()
            folder = self.survey.run_folder(run_id) if run_id in self.runs() else self.survey.map_folder(run_id)
            found = {atom for told in about_labels(folder).values() for atom in told.get("atoms", ())}
            self._learned[run_id] = frozenset(found).union(*map(self.learned_from, run.inputs.values()))
        return self._learned[run_id]

    def runs(self) -> dict[str, Run]:
        """Finished score runs by id, newest first."""
        return self._read("runs", lambda: self.survey.runs("score"))

    def maps(self) -> dict[str, Run]:
        """Finished maps by id, newest first."""
        return self._read("maps", self.survey.maps)

    def _read(self, what: str, read: Callable[[], list[Run]]) -> dict[str, Run]:
        """Run folders change under us; a dragging mouse asks fifty times a second. Read at most once a second."""
        at, found = self._seen.get(what, (-1.0, {}))
        if time.monotonic() - at > 1:
            found = {run.run_id: run for run in read()}
            self._seen[what] = (time.monotonic(), found)
        return found

    def look_again(self) -> None:
        """Read runs and maps anew when they are asked for next: one has just been finished."""
        self._seen.clear()

    # --------------------------------------------------------------------------------------------- selections
    def keep(self, selection: Selection) -> str:
        """Make a selection known to the handlers under its id: while a session has it, and the last few beyond that."""
        with self._lock:
            self._living[selection.id] = selection
            self._selections[selection.id] = selection
            self._selections.move_to_end(selection.id)
            most = min(256, max(4, SELECTED_BYTES // max(1, selection.words.nbytes)))
            while len(self._selections) > most:
                self._selections.popitem(last=False)
        return selection.id

    def selection(self, selection_id: str) -> Selection | None:
        """The selection of an id; None for the empty id.

        Raises
        ------
        UsageError
            An id that this server does not know.
        """
        if not selection_id:
            return None
        with self._lock:
            found = self._living.get(selection_id)
            if found is None:
                raise UsageError("this selection is not known to the server any more; draw it again or reload the page")
            return found

    # ------------------------------------------------------------------------------------------------ columns
    def colorings(self, run_id: str, map_id: str = "") -> dict[str, str]:
        """Everything the map can be coloured by: `colors`, and what the classifiers of kept boundaries score."""
        names = self.classifiers.names() if self.classifiers is not None and run_id else {}
        return self.colors(run_id, map_id) | {LEARNED + sha: f"Learned score of {name}" for sha, name in names.items()}

    def can_color(self, reference: str, run_id: str, map_id: str = "") -> bool:
        """Whether the map can be coloured by a reference; also by a classifier that no boundary is kept with."""
        if not reference.startswith(LEARNED):
            return reference in self.colors(run_id, map_id)
        return self.classifiers is not None and self.classifiers.knows(reference.removeprefix(LEARNED), run_id)

    def color_title(self, reference: str, run_id: str, map_id: str = "") -> str:
        """What a person reads of a coloring."""
        known = self.colorings if reference.startswith(LEARNED) else self.colors
        return known(run_id, map_id).get(reference, "Learned score" if reference.startswith(LEARNED) else reference)

    def colors(self, run_id: str, map_id: str = "") -> dict[str, str]:
        """Every column the map can be coloured by: reference → what a person reads; the survey's own columns first.

        A column of one value, or of none, tells nothing and is left out.
        """
        key = ("colors", self.survey.generation, run_id, map_id)
        return dict(self._titles.get(key, lambda: self._colors(run_id, map_id)))

    def _colors(self, run_id: str, map_id: str) -> dict[str, str]:
        found = {"count": "Number of subjects", "share": "Selected share"}
        found |= {f"scores.{name}": title for name, title in self.score_titles(run_id).items()}
        columns = self.survey.columns()
        ours = set(SUBJECTS_SCHEMA.names)
        for column in sorted(columns, key=lambda c: c.name in ours):
            if column.dtype in ("number", "category") and self.survey.varies(column.name):
                unit = f" ({column.unit})" if column.unit else ""
                found[f"subjects.{column.name}"] = column.name.replace("_", " ") + unit
        placing = self._placing(map_id)
        for name, title in PLACING.items():
            if name in placing and len(np.unique(placing[name][np.isfinite(placing[name])])) > 1:
                found[f"maps.{name}"] = title
        titles = Counter(found.values())
        return {reference: t if titles[t] == 1 else f"{t} [{reference}]" for reference, t in found.items()}

    def score_titles(self, run_id: str) -> dict[str, str]:
        """The scores that a run has, name → what a person reads: those of `SCORES` first, then numbers of its own.

        An anomaly score is called what its run calls it (``score_title`` among its results); an imported one says which
        column it was; what was learned from simulated labels says so. A score without any finite value is left out; {}
        for no run.
        """

        def make() -> dict[str, str]:
            numbers = [name for name, kind in self.survey.score_kinds(run_id).items() if kind == "number"]
            scores = self.survey.scores(run_id)
            has = [
                name
                for name in numbers
                if (scores.has_any(name) if isinstance(scores, Scores) else _has_any(scores[name]))
            ]
            ours = {name: title for name, title in SCORES.items() if name in has}
            run = self.runs().get(run_id)
            if run is not None and "anomaly_score" in has:
                ours["anomaly_score"] = run.results.get("score_title", ours["anomaly_score"])
                if column := run.config.get("score_column"):
                    sign = "minus " if run.config.get("ascending") else ""
                    ours["anomaly_score"] += f" ({sign}{column.replace('_', ' ')})"
            own = RANKS if run is not None and run.kind == "ranks" else {}
            ours |= {name: own.get(name, name.replace("_", " ")) for name in has if name not in SCORES}
            if self.is_simulated(run_id):  # first: the end of a title is what a narrow list cuts
                plain = {name: re.sub(r" \(simulated \w+\)$", "", title) for name, title in ours.items()}
                ours = {name: t if "simulated" in t else f"simulated: {t}" for name, t in plain.items()}
            return ours

        if not run_id:
            return {}
        try:
            return self._titles.get(run_id, make)
        except VoorwerpError:  # damaged: its values say how, when they are asked for
            return dict(SCORES)

    def is_simulated(self, run_id: str) -> bool:
        """Whether a run of scores learned from simulated labels, or builds on one that did."""
        if run_id not in self._simulated:
            learned = about_taught(self.survey.run_folder(run_id))
            self._simulated[run_id] = any(of.get("is_simulated") for of in learned)
        return self._simulated[run_id]

    def mixes(self, run_id: str) -> bool:
        """Whether λ means something: the run has both an image score and a feature score."""
        return {"image_score", "feature_score"} <= self.score_titles(run_id).keys()

    def check_mode(self, run_id: str, mode: Mode) -> None:
        """Raise the `UsageError` that says why the scores of a run cannot be mixed in this way, if they cannot."""
        if mode != "raw" and self.mixes(run_id):
            self.values("scores.anomaly_score", run_id, mode=mode)

    def is_mixed(self, color: Color) -> bool:
        """Whether λ has a say in this colouring."""
        return color.by == "scores.anomaly_score" and self.mixes(color.run_id)

    def default_color(self, run_id: str) -> str:
        """What a map of a run is coloured by at first: what its kind says, else its anomaly score, else a number."""
        titles = self.score_titles(run_id)
        if (own := self.own_color(run_id)) in titles:
            return f"scores.{own}"
        return "scores.anomaly_score" if "anomaly_score" in titles else "count"

    def own_color(self, run_id: str) -> str:
        """The column that a run's kind, or the run itself, says that it is looked at by; "" where none does."""
        if (run := self.runs().get(run_id)) is None:
            return ""
        kind = kinds().get(run.kind)
        return str(run.results.get("color") or (kind.color if kind else ""))

    def default_sort(self, run_id: str) -> str:
        """By what subjects are ordered at first: the anomaly score, else what volunteers chose; "" as in the survey."""
        wanted = (self.default_color(run_id), CHOSEN_FRACTION)
        return next((reference for reference in wanted if "." in reference and reference in self.colors(run_id)), "")

    def default_axes(self, run_id: str, map_id: str) -> tuple[str, str]:
        """The plane that is shown at first: the map; where there is none, what volunteers chose over how many voted."""
        axes = self.axes(run_id, map_id)
        other = next((name for name in ("scores.anomaly_score", "subjects.n_votes") if name in axes), "")
        return (CHOSEN_FRACTION, other) if not map_id and other and CHOSEN_FRACTION in axes else COMPONENTS[:2]

    def labels(self, reference: str) -> list[str]:
        """Category names of a colouring, in legend order; [] for numbers."""
        if not self.is_category(reference):
            return []
        return self._legend(reference)[1]

    def is_category(self, reference: str) -> bool:
        """Whether a reference names a column of categories."""
        table, _, name = reference.partition(".")
        if table != "subjects":
            return False
        key = ("categories", self.survey.generation)
        return name in self._titles.get(key, lambda: {c.name for c in self.survey.columns() if c.dtype == "category"})

    def values(
        self, reference: str, run_id: str = "", lambda_: float = 0.2, mode: Mode = "raw", map_id: str = ""
    ) -> np.ndarray:
        """A numeric column by reference, float (N,) in row order, NaN where missing.

        Raises
        ------
        UsageError
            No such column, it is not numeric, or a score cannot be standardised.
        """
        table, _, name = reference.partition(".")
        if table == "scores":
            known = SCORES | self.score_titles(run_id)
            if name not in known:
                raise no_such_column(name, "the scores", known)
            scores = self._values.get(("scores", run_id), lambda: self.survey.scores(run_id))
            if name != "anomaly_score" or not self.mixes(run_id):
                return scores[name]
            image, feature = (self._score(run_id, scores, part, mode) for part in ("image_score", "feature_score"))
            key = "mixed", run_id, round(lambda_, 6), mode
            return self._mixed.get(key, lambda: mixed(image, feature, lambda_))
        if table == "maps":
            if name in AXES:
                if not map_id:
                    raise UsageError("there is no map yet: its components cannot be shown")
                return self.survey.coordinates(map_id)[:, int(name[-1]) - 1]
            if name not in PLACING:
                raise no_such_column(name, "the map's own columns", AXES | PLACING)
            placing = self._placing(map_id)
            return placing[name] if name in placing else np.full(self.survey.n, np.nan, np.float32)  # an older map
        if table == "learned" and self.classifiers is not None:
            return self.classifiers.scores(name, run_id)
        numeric = [c.name for c in self.survey.columns() if c.dtype == "number"]
        if table != "subjects" or name not in numeric:
            raise no_such_column(name or reference, "the numeric columns", numeric)
        return self.survey.column(name)

    def _score(self, run_id: str, scores: Mapping[str, np.ndarray], name: str, mode: Mode) -> np.ndarray:
        """A score as it is mixed; standardising takes a while at a million, and λ is dragged."""
        if mode == "raw":
            return scores[name]
        try:
            return self._values.get((mode, run_id, name), lambda: standardise(scores[name], SCORES[name].lower()))
        except ArtifactError as error:
            raise UsageError(str(error)) from None

    # ---------------------------------------------------------------------------------------------- the map
    def axes(self, run_id: str, map_id: str = "") -> dict[str, str]:
        """Every column that can be an axis: reference → what a person reads; the map's components first."""
        key = ("axes", self.survey.generation, run_id, map_id)
        return dict(self._titles.get(key, lambda: self._axes(run_id, map_id)))

    def _axes(self, run_id: str, map_id: str) -> dict[str, str]:
        found = {}
        if map_id:
            with contextlib.suppress(VoorwerpError, ArtifactError):  # the frame says why a map cannot be read
                known = self.indices.components(map_id)
                if known is None:
                    known = np.isfinite(self.survey.coordinates(map_id)).any(axis=0).tolist()
                found = {f"maps.{name}": title for (name, title), has in zip(AXES.items(), known, strict=True) if has}
        colors = self.colors(run_id, map_id)
        return found | {r: t for r, t in colors.items() if "." in r and not self.is_category(r)}

    def is_solid(self, map_id: str) -> bool:
        """Whether a map has three components."""
        return f"maps.{list(AXES)[2]}" in self.axes("", map_id)

    def _cloud(self, map_id: str) -> Cloud:
        """A map's three components."""
        return self._indices.get(("cloud", map_id), lambda: Cloud(*self.indices.coordinates(map_id)))

    def index(self, plane: Plane, moving: bool = False) -> CellIndex:
        """The subjects that have a place in a plane, in cell order.

        Parameters
        ----------
        moving
            While a 3-D view is turned: an even sample of `MOVING` subjects at most.

        Raises
        ------
        UsageError
            An axis is no numeric column.
        NotReadyError
            The map is large, its index is being made, and `Indices.patience` is over.
        """
        if plane.is_map and (found := self.indices.of_map(plane.map_id)) is not None:
            return found

        def make() -> CellIndex:
            if plane.turn is not None:
                return self._cloud(plane.map_id).turned(*plane.turn)
            return CellIndex(*self._axes_of(plane))

        if moving and plane.turn is not None:
            return self._cloud(plane.map_id).turned(*plane.turn, MOVING)
        kept = self._indices if plane.turn is None else self._turned
        return kept.get((self.survey.generation, plane), make)

    def _axes_of(self, plane: Plane, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Both columns of a flat plane, float32 (2, m); NaN where a value is missing."""
        told = plane.run_id, plane.lambda_, plane.mode, plane.map_id
        return np.array([self.values(axis, *told)[rows] for axis in (plane.x, plane.y)], np.float32)

    def extent(self, plane: Plane) -> tuple[View, int]:
        """The rectangle that holds the subjects of a plane, and how many there are; much sooner than an index.

        Of a 3-D view the same for every turn: the square that nine in ten never leave.
        """
        if plane.turn is not None:
            cloud = self._cloud(plane.map_id)
            return (-cloud.reach, cloud.reach, -cloud.reach, cloud.reach), len(cloud)

        if plane.is_map and (found := self.indices.extent(plane.map_id)) is not None:
            return found

        def make() -> tuple[View, int]:
            x, y = self._axes_of(plane)
            placed = np.isfinite(x) & np.isfinite(y)
            return bounds(x[placed], y[placed]), int(placed.sum())

        return self._extents.get((self.survey.generation, plane), make)

    def at(self, plane: Plane, rows: np.ndarray) -> np.ndarray:
        """Where rows stand in a plane, float32 (m, 2); of a 3-D view before it is turned, (m, 3). NaN: nowhere."""
        if plane.turn is not None:
            return self._cloud(plane.map_id).at(rows)
        if plane.is_map and (index := self.indices.of_map(plane.map_id)) is not None:
            return index.at(rows)
        at = self._axes_of(plane, np.asarray(rows, np.int64)).T
        at[~np.isfinite(at).all(axis=1)] = np.nan
        return at

    def _placing(self, map_id: str) -> Mapping[str, np.ndarray]:
        """A map's own columns; {} for no map and for one that cannot be read: its frame says why."""
        try:
            return self.survey.placing(map_id) if map_id else {}
        except (VoorwerpError, ArtifactError):
            return {}

    def n_on_map(self, map_id: str) -> int:
        """Subjects on a map; 0 where it cannot be read."""
        try:
            return self.extent(Plane(map_id))[1] if map_id else 0
        except (VoorwerpError, ArtifactError):
            return 0

    def off_map(self, map_id: str) -> np.ndarray:
        """Rows placed by their neighbors, farther from these than the fitted ones from theirs; farthest first."""
        placing = self._placing(map_id)
        if not {"is_off_map", "knn_percentile"} <= placing.keys():
            return np.empty(0, np.int64)
        rows = np.flatnonzero(placing["is_off_map"] == 1)
        return rows[np.argsort(-placing["knn_percentile"][rows], kind="stable")]

    def place(self, row: int, map_id: str) -> dict[str, Any]:
        """Where a subject stands on a map: the percentile of its distance to its neighbors, whether it is off."""
        placing = self._placing(map_id)
        found = {name: float(placing[name][row]) for name in ("knn_percentile", "is_off_map") if name in placing}
        percentile = found.get("knn_percentile", np.nan)
        return {
            "knn_percentile": percentile if np.isfinite(percentile) else None,
            "is_off_map": found.get("is_off_map") == 1,
        }

    def about_map(self, map_id: str) -> list[str]:
        """What a map is worth, in words: who is on it, and what of the latent space it keeps."""
        run = self.maps().get(map_id)
        if run is None:
            return []
        said, results = [], run.results
        n_on_map, n_off = self.n_on_map(map_id), len(self.off_map(map_id))
        if n_off or n_on_map < self.survey.n:
            off = f", {n_off:,} of them far from all others" if n_off else ""
            said.append(f"{n_on_map:,} of {self.survey.n:,} on the map{off}")
        if "trustworthiness" in results and "neighbor_preservation" in results:
            sample = f"k = {results.get('quality_k')}, {results.get('quality_n', 0):,} subjects"
            said.append(
                f"trustworthiness {results['trustworthiness']:.2f}, "
                f"neighbors kept {results['neighbor_preservation']:.2f} ({sample})"
            )
        return said

    def paint(self, plane: Plane, color: Color, map_id: str = "") -> Paint:
        """The colour of every subject of a plane; `map_id` is the map whose own columns may be the colour."""
        if color.by == "count":
            return Paint.count(color.norm)
        if color.by == "share":
            return Paint.share(color.norm)
        if plane.turn is not None:
            plane = replace(plane, turn=(0.0, 0.0))  # a cloud's colors hold for every turn

        def make() -> Paint:
            points = self.index(plane) if plane.turn is None else self._cloud(plane.map_id)
            if self.is_category(color.by):
                codes, _ = self.survey.category(color.by.partition(".")[2])
                table, names = self._legend(color.by)
                placed = self._in_order(points, color.by, lambda: table[codes], dtype=np.uint8)
                return Paint.of_codes(placed, names, (self.survey.generation, color.by))
            told = replace(color, aggregate="std" if color.aggregate == "std" else "max")  # max and mean share a scale
            key = "scale", self.survey.generation, map_id or plane.map_id, told
            scale = self._scales.get(key, lambda: self._scale(color, map_id or plane.map_id))
            return Paint.of_column(self._column(points, color, map_id or plane.map_id, scale), scale, color.aggregate)

        return self._paints.get((self.survey.generation, plane, map_id, color), make)

    def _parts(self, color: Color, map_id: str) -> dict[str, Callable[[], np.ndarray]]:
        """The columns in row order that a coloring is made of: its own, or the two that λ mixes."""
        run_id, mode = color.run_id, color.mode
        if not self.is_mixed(color):
            return {color.by: lambda: self.values(color.by, run_id, color.lambda_, mode, map_id)}
        scores = self._values.get(("scores", run_id), lambda: self.survey.scores(run_id))
        return {
            f"scores.{name}": lambda name=name: self._score(run_id, scores, name, mode)  # type: ignore[misc]
            for name in ("image_score", "feature_score")
        }

    def _column(self, points: CellIndex | Cloud, color: Color, map_id: str, scale: Scale) -> Column:
        """Numbers in the order of the points; those that λ mixes are mixed only where they are drawn."""
        parts = self._parts(color, map_id)
        of = color.run_id, map_id, color.mode if len(parts) == 2 else "raw"
        less = scale.less if color.by.startswith("subjects.") else 0.0  # the others are single to begin with
        first, *second = (self._in_order(points, name, make, *of, less=less) for name, make in parts.items())
        key = self.survey.generation, *parts, *of, less
        weight = color.lambda_ if second else 0.0
        lasting = self.indices.lasting(next(iter(parts)), *of)
        beside = self.indices.beside(points, lasting) if isinstance(points, CellIndex) and not less else None
        return Column(first, second[0] if second else None, weight, scale.middle - less, key, beside, less)

    def _in_order(
        self,
        points: CellIndex | Cloud,
        reference: str,
        make: Callable[[], np.ndarray],
        run_id: str = "",
        map_id: str = "",
        mode: Mode = "raw",
        dtype: Any = np.float32,
        less: float = 0.0,
    ) -> np.ndarray:
        """A column, or what is above `less` in it, in the order of an index, which keeps it, or of a cloud."""
        key = self.indices.lasting(reference, run_id, map_id, mode)
        key = (*key, "less", less) if less else key

        def above() -> np.ndarray:
            return make() - less if less else make()

        if isinstance(points, CellIndex):
            return self.indices.column(points, key, above, dtype)
        return self._of_clouds.get(
            (self.survey.generation, id(points), key), lambda: (points, in_order(points, above()))
        )[1]

    def _scale(self, color: Color, map_id: str) -> Scale:
        """How a column's values become levels."""
        parts = [make() for make in self._parts(color, map_id).values()]
        values, ends = parts[0], None
        if len(parts) == 2:  # the whole is not mixed for its scale: λ is dragged
            step = max(1, self.survey.n // SAMPLE)
            values = mix(parts[0][::step], parts[1][::step], color.lambda_)
            if np.count_nonzero(np.isfinite(values)) < SAMPLE // 10:  # few of the survey have both
                values = mix(parts[0], parts[1], color.lambda_)
            elif color.aggregate != "std":
                ends = extremes(parts[0], parts[1], color.lambda_)
        return Scale.of_spread(values, color.norm) if color.aggregate == "std" else Scale.of(values, color.norm, ends)

    def _legend(self, reference: str) -> tuple[np.ndarray, list[str]]:
        """Of a column of categories: place in the legend by code, and the names there."""
        return self._titles.get(
            ("legend", self.survey.generation, reference),
            lambda: commonest(*self.survey.category(reference.partition(".")[2])),
        )

    def frame(
        self,
        plane: Plane,
        view: View,
        width: int,
        height: int,
        color: Color,
        selection_id: str,
        density: float = 1.0,
        map_id: str = "",
        moving: bool = False,
        coarse: bool = False,
        is_wanted: Callable[[], bool] = lambda: True,
    ) -> tuple[Frame, Paint]:
        """One view of a plane, rendered, and the paint it was rendered with; `coarse`, `is_wanted` as in `render`."""
        paint = self.paint(plane, color, map_id)
        selection = self.selection(selection_id)

        def make() -> Frame:
            index = self.index(plane, moving)
            return render(index, view, width, height, paint, selection, density, coarse, is_wanted)

        if color.by not in ("count", "share") and not self.is_mixed(color):
            color = replace(color, lambda_=0.0)
        asked = plane, view, width, height, color, selection_id, density, map_id, moving, coarse
        return self._frames.get((self.survey.generation, *asked), make), paint

    # ---------------------------------------------------------------------------------------------- orders
    def order(
        self, reference: str, run_id: str, lambda_: float, descending: bool, mode: Mode = "raw", map_id: str = ""
    ) -> np.ndarray:
        """All rows by a column: uint32 (N,), missing last, ties by row; categories and texts by name."""
        return self._sorted(None, reference, run_id, lambda_, descending, mode, map_id)

    def ordered(
        self,
        selection_id: str,
        reference: str,
        run_id: str,
        lambda_: float,
        descending: bool,
        mode: Mode = "raw",
        map_id: str = "",
    ) -> np.ndarray:
        """The rows of a selection (all rows for the empty id) by a column: uint32. See `page` for a part of them."""
        return self._sorted(self.selection(selection_id), reference, run_id, lambda_, descending, mode, map_id)

    def page(
        self,
        within: Selection | None,
        reference: str,
        run_id: str,
        lambda_: float,
        descending: bool,
        mode: Mode = "raw",
        map_id: str = "",
        start: int = 0,
        count: int = 200,
    ) -> np.ndarray:
        """Places `start` … `start + count` - 1 of a selection's rows, or of all, by a column: uint32, fewer at the end.

        As `ordered` has them, and nobody waits for a whole order; the selection need not be kept.

        Raises
        ------
        UsageError
            As `values`.
        """
        if not reference:
            everyone = self.survey.n if within is None else within.count
            stop = max(start, min(start + count, everyone))
            return np.arange(start, stop, dtype=np.uint32) if within is None else rows_at(within, start, stop - start)
        key = self._sorting(reference, run_id, lambda_, mode, map_id)
        if self._is_text(reference):
            return self._sorted(within, reference, run_id, lambda_, descending, mode, map_id)[start : start + count]
        read = partial(self._keys, reference, run_id, lambda_, mode, map_id)
        return self._orders.page(key, read, descending, within, start, count)

    def place_in(
        self,
        within: Selection | None,
        row: int,
        reference: str,
        run_id: str,
        lambda_: float,
        descending: bool,
        mode: Mode = "raw",
        map_id: str = "",
    ) -> int | None:
        """The place of a row in `ordered`; None where it is not in the selection."""
        if not 0 <= row < self.survey.n or (within is not None and row not in within):
            return None
        if not reference:
            return row if within is None else within.rank(row)
        if self._is_text(reference):
            rows = self._sorted(within, reference, run_id, lambda_, descending, mode, map_id)
            return int(np.flatnonzero(rows == row)[0])
        return place(self._keys(reference, run_id, lambda_, mode, map_id), row, descending=descending, within=within)

    def _sorted(
        self,
        within: Selection | None,
        reference: str,
        run_id: str,
        lambda_: float,
        descending: bool,
        mode: Mode,
        map_id: str,
    ) -> np.ndarray:
        if not reference:
            return self.page(within, "", run_id, lambda_, descending, mode, map_id, 0, self.survey.n)
        key = self._sorting(reference, run_id, lambda_, mode, map_id)
        if self._is_text(reference) and not self._orders.is_whole(key, descending):
            texts = self.survey.arrow(reference.partition(".")[2])
            way = "descending" if descending else "ascending"
            self._orders.put(key, descending, np.asarray(pc.array_sort_indices(texts, order=way), np.uint32))
        read = partial(self._keys, reference, run_id, lambda_, mode, map_id)
        return self._orders.of(key, read, descending, within)

    def _keys(self, reference: str, run_id: str, lambda_: float, mode: Mode, map_id: str) -> np.ndarray:
        """What a column is sorted by: float (N,), NaN where missing; categories by their place among the labels."""
        if not self.is_category(reference):
            return self.values(reference, run_id, lambda_, mode, map_id)
        codes, _ = self.survey.category(reference.partition(".")[2])  # its labels are sorted
        return np.where(codes < 0, np.float32(np.nan), codes.astype(np.float32))

    def _is_text(self, reference: str) -> bool:
        table, _, name = reference.partition(".")
        return table == "subjects" and any(c.name == name and c.dtype in ("text", "id") for c in self.survey.columns())

    def _sorting(self, reference: str, run_id: str, lambda_: float, mode: Mode, map_id: str) -> tuple[object, ...]:
        """What an order depends on: the map matters to a map's columns only, λ to the mixed score."""
        mixed = (round(lambda_, 4), mode) if reference == "scores.anomaly_score" else ()
        of_run, of_map = reference.startswith(("scores.", LEARNED)), reference.startswith("maps.")
        return self.survey.generation, reference, of_run and run_id, of_map and map_id, mixed

    # ------------------------------------------------------------------------------------------- one subject
    def neighbours(self, row: int, run_id: str, k: int = 12) -> list[tuple[int, float]]:
        """The k nearest in latent space: (row, Euclidean distance), nearest first; [] where the run has no latents."""

        def make() -> list[tuple[int, float]]:
            if not (self.survey.run_folder(run_id) / LATENTS).exists():  # only scores were imported
                return []
            latents, rows = self.survey.latents(run_id)
            at = np.flatnonzero(rows == row)
            if not at.size or np.isnan(latents[at[0]]).any():
                return []
            found, distances = nearest(latents, int(at[0]), min(k, len(latents) - 1))
            return [(int(rows[i]), float(d)) for i, d in zip(found, distances, strict=True)]

        return self._values.get(("neighbours", run_id, row, k), make) if run_id else []

    def alike(
        self,
        reference: str,
        row: int,
        k: int = 12,
        run_id: str = "",
        lambda_: float = 0.2,
        mode: Mode = "raw",
        map_id: str = "",
    ) -> list[tuple[int, float]]:
        """The k others whose value of a numeric column is nearest: (row, value), nearest first, equally near by row.

        [] where the subject has no value.

        Raises
        ------
        UsageError
            As `values`.
        """
        values = np.asarray(self.values(reference, run_id, lambda_, mode, map_id), np.float64)
        apart = np.abs(values - values[row])
        apart[row] = np.nan
        near = np.flatnonzero(np.isfinite(apart))
        if k < len(near):
            near = near[apart[near] <= np.partition(apart[near], k - 1)[k - 1]]
        near = near[np.argsort(apart[near], kind="stable")[:k]]
        return [(int(i), float(values[i])) for i in near]

    def n_below(self, value: float, reference: str, run_id: str, lambda_: float, mode: Mode = "raw") -> tuple[int, int]:
        """How many finite values of a numeric column are below a finite one, and how many there are. Exact.

        Found by a pass over the column; of a large survey by bisection, once the column is sorted in the background.
        """
        key = self._sorting(reference, run_id, lambda_, mode, "")
        values = self.values(reference, run_id, lambda_, mode)
        if values.dtype not in (np.float32, np.float64):
            values = values.astype(np.float64)
        if not self.survey.is_large:
            return below(values, value)
        n = self._counted.get(key, lambda: below(values, np.inf)[1])
        if (found := self._orders.n_below(key, values, value, n)) is not None:
            return found, n
        if (ordered := self._values.kept(("ordered", key))) is not None:
            return int(np.searchsorted(ordered, values.dtype.type(value))), n
        if reference.startswith("scores.") and not self.is_mixed(Color(reference, run_id)):
            rise = partial(self._rising, run_id, reference, values)
            self._sorting_scores.ask(key, lambda: self._values.get(("ordered", key), rise))
        else:
            self._orders.prepare(key, lambda: values, True)
        return below(values, value)

    def _rising(self, run_id: str, reference: str, values: np.ndarray) -> np.ndarray:
        """The finite values of a score of a large survey, rising, mapped: they do not change while the run stands."""

        def fill(to: np.ndarray) -> None:
            to[:] = values
            to.sort()  # NaN comes last

        about = (self.survey.run_folder(run_id) / RUN_SCORES).stat()
        stamp = about.st_size, about.st_mtime_ns, self.survey.stamp
        kept = self.survey.kept.array(f"{run_id}.{reference}.rising", stamp, values.dtype, values.shape, fill)
        first = int(np.searchsorted(kept, -np.inf, side="right"))
        return kept[first : first + below(values, np.inf)[1]]

    def wait(self) -> None:
        """Wait until the orders that are asked for in the background are there: for tests and benchmarks."""
        self._orders.wait()
        self._sorting_scores.wait()

    def standing(self, reference: str, row: int, run_id: str, lambda_: float, mode: Mode = "raw") -> dict[str, Any]:
        """A score of one subject and where it stands: value, and k of n scored subjects that are below it."""
        value = float(self.values(reference, run_id, lambda_, mode)[row])
        if not np.isfinite(value):
            return {"value": None, "below": None, "of": self.n_below(0.0, reference, run_id, lambda_, mode)[1]}
        n, of = self.n_below(value, reference, run_id, lambda_, mode)
        return {"value": value, "below": n, "of": of}

    def scores_of(self, row: int, run_id: str, lambda_: float, mode: Mode = "raw") -> list[dict[str, Any]]:
        """Every score of a subject, with its standing."""
        mixes = self.mixes(run_id)
        return [
            {
                "name": name,
                "title": title,
                "mixed": mixes and name == "anomaly_score",
                **self.standing(f"scores.{name}", row, run_id, lambda_, mode),
            }
            for name, title in self.score_titles(run_id).items()
            if not (name in RANKS and self._is_ranks(run_id))
        ]

    def _is_ranks(self, run_id: str) -> bool:
        run = self.runs().get(run_id)
        return run is not None and run.kind == "ranks"

    def fragile(self, rows: np.ndarray, run_id: str) -> list[int]:
        """Positions in `rows` of subjects that are in the top 1 % of some runs and not of all; [] for other runs."""
        if not self._is_ranks(run_id):
            return []
        scores = self._values.get(("scores", run_id), lambda: self.survey.scores(run_id))
        if "is_fragile" not in scores:
            return []
        found: list[int] = np.flatnonzero(scores["is_fragile"][rows] == 1).tolist()
        return found

    def rank(self, row: int, run_id: str) -> dict[str, Any] | None:
        """Where a subject stands in several runs at once; None for a run that does not combine any.

        Mean rank (1 is the most anomalous) and its standard deviation over the runs, in ranks; how many runs, and their
        settings, λ among them; whether it is in the top 1 % of some of them and not of all.
        """
        if not self._is_ranks(run_id):
            return None
        scores = self._values.get(("scores", run_id), lambda: self.survey.scores(run_id))
        results = self.runs()[run_id].results
        mean, spread, fragile = (float(scores[name][row]) for name in ("rank_mean", "rank_spread", "is_fragile"))
        if not np.isfinite(mean):
            return None
        n = results["n_subjects"]
        return {
            "mean": mean,
            "spread": spread / 100 * n,
            "of": n,
            "n_runs": results["n_runs"],
            "settings": sorted({run["setting"] for run in results.get("runs", ())}),
            "is_fragile": fragile == 1,
        }

    def subject(self, row: int, run_id: str, lambda_: float, mode: Mode = "raw") -> dict[str, Any]:
        """One subject in full, ready for JSON: ids and large integers as text."""
        record = self.survey.subject(row)
        source_id = str(record.pop("source_id"))
        subject_id = str(record.pop("subject_id"))
        columns = {c.name: c for c in self.survey.columns()}
        crowd = self._crowd_of(record)
        texts = self._score_texts(row, run_id)
        return {
            "row": row,
            "subject_id": subject_id,
            "source_id": source_id,
            "scores": self.scores_of(row, run_id, lambda_, mode),
            "rank": self.rank(row, run_id),
            "split": texts.get("split"),
            "quality": texts.get("quality"),
            "columns": [
                {"name": name, "value": _text(value), "unit": columns[name].unit, "kind": columns[name].dtype}
                for name, value in record.items()
                if name not in SHOWN_APART and _text(value) is not None
            ],
            "crowd": crowd,
            "sky": self._sky_of(record),
            "is_known": record.get("is_known") is True,
            "is_withdrawn": record.get("is_withdrawn") is True,
            "size": self.survey.info.size,
        }

    def _score_texts(self, row: int, run_id: str) -> dict[str, str]:
        """What a run says of a subject in words."""
        kinds = self.survey.score_kinds(run_id) if run_id else {}
        found = {}
        for name in ("split", "quality"):
            scores = self.survey.scores(run_id) if kinds.get(name) == "text" else {}
            if isinstance(scores, Scores):
                if (text := scores.text(name, row)) is not None:
                    found[name] = text
                if not scores.has_read(name):  # whoever looks at one looks at more
                    self._sorting_scores.ask(("texts", run_id, name), partial(scores.category, name))
            elif name in scores:
                codes, labels = self.survey.score_category(run_id, name)
                if codes[row] >= 0:
                    found[name] = labels[codes[row]]
        return found

    def _crowd_of(self, record: dict[str, object]) -> dict[str, Any] | None:
        """What volunteers answered, taken out of a record; None where nobody was asked anything in this survey."""
        said = {name: record.pop(name) for name in self.survey.columns_of_crowd() if name in record}
        about = self.survey.about_crowd()
        if "title" not in about:
            return None
        told = {name: said.get(name, said.get(f"volunteers_{name}")) for name in OF_CROWD}
        answers = [(name, value) for name, value in said.items() if name.startswith("fraction_") and value is not None]
        return told | {
            "title": about["title"],
            "answer": about["answer"],
            "basis": about["basis"],
            "is_simulated": about["is_simulated"],
            "answers": sorted(answers, key=lambda one: -one[1]),  # type: ignore[operator]  # numbers, these
        }

    def _sky_of(self, record: dict[str, object]) -> dict[str, Any] | None:
        """Where a subject is, for people and for other archives; None where that is not known."""
        ra, dec = record.get("ra"), record.get("dec")
        if not isinstance(ra, float) or not isinstance(dec, float):
            return None
        side, scale = record.get("crop_side"), record.get("pixel_scale_arcsec") or self.survey.info.pixel_scale_arcsec
        fov = 3 * side * scale if isinstance(side, int) and isinstance(scale, float) else 60.0
        return {"ra": ra, "dec": dec, "text": f"{hms(ra, dec)}   ({ra:.5f}, {dec:+.5f})", "links": links(ra, dec, fov)}

    def hover(self, row: int, run_id: str, lambda_: float, mode: Mode = "raw") -> dict[str, Any]:
        """What the card under the mouse says of a subject."""
        return {
            "row": row,
            "source_id": self.survey.source_ids([row])[0],
            "has_image": self.survey.has_images,
            "scores": self.scores_of(row, run_id, lambda_, mode),
        }


def _has_any(values: np.ndarray) -> bool:
    """Whether a column has a finite value; most have one early."""
    blocks = range(0, len(values), 1 << 20)
    return any(bool(np.isfinite(values[first : first + (1 << 20)]).any()) for first in blocks)


def _text(value: object) -> str | None:
    """A table's value as exact text; None where missing."""
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return None
    if isinstance(value, float) and abs(value) < 3e38 and float(np.float32(value)) == value:
        return str(np.float32(value))  # its own digits, not those it got by becoming a double
    return str(value)
