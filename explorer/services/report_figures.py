"""The figures of a report: the study's 2 to 6, S5 and S11 remade from a survey, and those of its boundary.

Each is drawn in the style of `explorer.services.figures`, and says in its caption what it shows, of whom, and what must
not be read from it. What cannot be drawn is a sentence that says what is missing and how to get it. The study's
supplement was not at hand: S5 and S11 are remade by what they are about (votes weighted by experience; the weight λ).

Votes are compared with anything in the tune half alone: the test half is told by frozen versions only (science rule 3).
"""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.stats import rankdata

from explorer.errors import UsageError, VoorwerpError
from explorer.services.boundaries import Boundaries, Context
from explorer.services.explore import Explore, Plane
from explorer.services.figure_six import FEATURE, NOT_COMPARABLE, Claim, Six, against, figure6
from explorer.services.figures import INK, LINE, PICKED, QUIET, Add, Drawn, elided, laid_out, number
from explorer.services.inference import Inference
from explorer.services.judge import TROUBLES, Judge
from explorer.services.learned import Learning
from explorer.services.losses import Groups
from explorer.services.notes import Notes
from explorer.services.pictures import asked, crops
from explorer.services.talk import Talk
from explorer.services.truths import CHOSEN, WEIGHTED, Truths
from explorer.state import Draft
from models.artifacts import Run
from models.boundary import And, Region, Term, classifiers, leaves
from models.mixing import MODE_TITLES
from models.rates import Ranked
from models.truth import Truth

#: Told apart without color, too: by their dashes.
COLORS = ("#0072b2", "#c25700", "#117a55", "#7b3fa0", "#8a6d00", "#5b6472")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (2, 2)), "-")
PERCENTILES = (5, 50, 95, 99)
SCORES = ("scores.image_score", "scores.feature_score", "scores.anomaly_score")
#: Groups of a figure or table, at most; cells of a map's side; Σ of a curve; seconds that a network may take.
MOST_GROUPS, CELLS, SIGMAS, PATIENCE = 24, 140, 24, 120.0
HALVES = {"tune": "the tune half", "all": "the whole survey"}
LAMBDAS = np.round(np.linspace(0, 1, 21), 2)


class Services(Protocol):
    """What a report asks; a server's desk has all of it, and so has `explorer.services.report.opened`."""

    @property
    def explore(self) -> Explore: ...
    @property
    def notes(self) -> Notes: ...
    @property
    def truths(self) -> Truths: ...
    @property
    def learning(self) -> Learning: ...
    @property
    def boundaries(self) -> Boundaries: ...
    @property
    def judge(self) -> Judge: ...
    @property
    def inference(self) -> Inference: ...
    @property
    def talk(self) -> Talk: ...


Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True)
class Table:
    """Numbers behind a figure, as they stand in a CSV file."""

    head: tuple[str, ...]
    rows: Rows

    def to_csv(self) -> bytes:
        """UTF-8; floats in full, what is not known is empty; a text that a spreadsheet would run is quoted."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.head)
        for row in self.rows:
            writer.writerow([_cell(value) for value in row])
        return out.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, (float, np.floating)) and not np.isfinite(value)):
        return ""
    if isinstance(value, np.generic):
        value = value.item()
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


@dataclass(frozen=True)
class Figure:
    """One of a report.

    Attributes
    ----------
    name
        Of its files, without suffix.
    number
        "2", "5c", "S11", or "" for one that the study has not.
    drawn
        None where it cannot be: `missing` says why, and what to do.
    tables
        Name of a CSV file, without suffix → what is in it.
    """

    name: str
    number: str
    title: str
    drawn: Drawn | None = None
    missing: str = ""
    warning: str = ""
    tables: Mapping[str, Table] = field(default_factory=dict)


@dataclass
class _Chart:
    """What stands above the caption (`explorer.services.figures.Content`)."""

    title: str
    height: float
    sentences: Sequence[str]
    drawing: Callable[[Add], None]

    def said(self) -> Iterator[str]:
        yield from self.sentences

    def draw(self, add: Add) -> None:
        self.drawing(add)


class Missing(UsageError):
    """A figure cannot be drawn of this survey: why."""


class Figures:
    """The figures of one report.

    Parameters
    ----------
    draft
        The boundary and its truth; `And(())` and a truth of votes, or None, where there is none.
    provenance
        Name → value, for the files' metadata.
    quick
        Fewer Σ and repetitions.
    """

    def __init__(
        self, desk: Services, draft: Draft, context: Context, provenance: dict[str, str], quick: bool = False
    ) -> None:
        self.desk, self.draft, self.context, self.provenance, self.quick = desk, draft, context, provenance, quick
        self.explore, self.survey = desk.explore, desk.explore.survey
        self.told = context.run_id, context.lambda_, context.mode, context.map_id
        self.titles = self.explore.colors(context.run_id, context.map_id)
        self.simulated = simulated(self.explore)
        self.tune = np.asarray(desk.truths.half("tune")) & ~np.asarray(self.survey.planted())
        self.half = "tune half" if desk.truths.has_halves else "survey"

    def all(self) -> list[tuple[str, Callable[[], Figure]]]:
        """Title and maker of every figure, in the report's order."""
        found: list[tuple[str, str, str, Callable[[str, str, str], Figure]]] = [
            ("figure_2", "2", "Examples: image, reconstruction, residual", self.examples),
            ("figure_3", "3", "The three scores", self.histograms),
            ("figure_4", "4", "The map, colored by scores and votes", self.maps),
            ("figure_5a", "5a", "Chosen fraction against the scores", self.votes),
            ("figure_5b", "5b", "Chosen fraction and feature score by group", self.groups),
            ("figure_5c", "5c", "A lower limit on the feature score", self.limit),
            ("figure_5d", "5d", "Precision against recall for three scores", self.precision_recall),
            ("figure_6", "6", "Learned boundaries as Σ moves", self.six),
            ("figure_S5", "S5", "Votes weighted by experience", self.weights),
            ("figure_S11", "S11", "The weight λ of the feature score", self.mixing),
        ]
        if self.draft.keep != And(()):
            found.append(("boundary_losses", "", "What the boundary throws away", self.losses))
        found.append(("budget", "", "Interesting ones found against images looked at", self.budget))
        if classifiers(self.draft.keep):
            found.append(("reliability", "", "Reliability of the learned probabilities", self.reliability))
        return [(title, self._making(name, label, title, make)) for name, label, title, make in found]

    def _making(
        self, name: str, label: str, title: str, make: Callable[[str, str, str], Figure]
    ) -> Callable[[], Figure]:
        def made() -> Figure:
            try:
                return make(name, label, title)
            except TROUBLES as error:
                return Figure(name, label, title, missing=str(error))

        return made

    def _lay(
        self,
        told: tuple[str, str, str],
        height: float,
        sentences: Sequence[str],
        draw: Callable[[Add], None],
        tables: Mapping[str, Table],
        *,
        shows_votes: bool = False,
        warning: str = "",
    ) -> Figure:
        """A figure with a caption: what is simulated is said first."""
        name, label, title = told
        what = "votes" if shows_votes and self.simulated == "votes" else self.simulated == "data" and "data"
        first = [f"Simulated {what}."] if what else []
        title = f"{title} (simulated votes)" if what == "votes" else title
        caption = " ".join([*first, *([f"{warning[0].upper()}{warning[1:]}."] if warning else []), *sentences])
        chart = _Chart(title, height, sentences, draw)
        drawn = laid_out(
            chart,
            f"{'Simulated: ' if what else ''}{title}, {self.survey.info.name}",
            caption,
            self.provenance,
            with_caption=False,
        )
        return Figure(name, label, title, drawn, warning=warning, tables=tables)

    # ------------------------------------------------------------------------------------------------- what there is
    def run(self) -> Run:
        """The score run."""
        found = self.explore.runs().get(self.context.run_id)
        if found is None:
            raise Missing(f"there are no scores: `voorwerp run {self.survey.path.name} score` makes a run of them")
        return found

    def score(self, reference: str) -> np.ndarray:
        """A column, float (N,)."""
        return np.asarray(self.desk.boundaries.source(self.context).column(reference), np.float64)

    def scores(self) -> list[str]:
        """Those of the three that the run has."""
        self.run()
        found = [name for name in SCORES if name in self.titles]
        found = found or [name for name in self.titles if name.startswith("scores.")][:3]
        if not found:
            raise Missing(f"run {self.context.run_id} has no score that is a number")
        return found

    def title(self, reference: str) -> str:
        """A column's."""
        title = self.titles.get(reference, reference)
        if reference == "scores.anomaly_score" and self.explore.mixes(self.context.run_id):
            return f"{title} (λ = {self.context.lambda_:.3g})"
        return title

    @cached_property
    def chosen(self) -> str:
        """The chosen fraction: weighted, where there is one; "" without votes."""
        return next((name for name in (WEIGHTED, CHOSEN) if name in self.titles), "")

    def must_have_votes(self) -> str:
        """The chosen fraction's reference."""
        if not self.chosen:
            name = self.survey.path.name
            raise Missing(
                f"there are no votes: `voorwerp ingest {name} FILE` takes in an export of classifications and "
                f"`voorwerp simulate {name}` simulates some"
            )
        return self.chosen

    def of_run(self) -> str:
        """A sentence on whose scores are shown."""
        return f"Scores of run {self.context.run_id}; λ acts on {MODE_TITLES[self.context.mode]}."

    # ------------------------------------------------------------------------------------------------------ figure 2
    def examples(self, *told: str) -> Figure:
        names, rows = self.scores(), []
        values = {name: self.score(name) for name in names}
        main = names[-1]
        order = np.argsort(np.nan_to_num(values[main], nan=-np.inf), kind="stable")
        order = order[np.isfinite(values[main][order])]
        if not len(order):
            raise Missing(f"no subject has {self.title(main)}")
        why: dict[int, str] = {}
        for name in names:
            ranked = np.argsort(-np.nan_to_num(values[name], nan=-np.inf), kind="stable")
            row = next((int(r) for r in ranked[: len(names) + 1] if int(r) not in why), int(ranked[0]))
            why.setdefault(row, f"highest {_short(self.titles.get(name, name)).lower()}")
        for q in (99, 95, 50, 5):
            why.setdefault(int(order[round((len(order) - 1) * q / 100)]), f"{q} % {_short(self.titles[main]).lower()}")
        rows = list(why)
        if not self.survey.has_images:
            raise Missing("this survey has no images")
        real = crops(self.survey, np.array(rows))
        made, note = None, ""
        try:
            futures = asked(self.desk.inference, self.explore, np.array(rows), self.context.run_id)
            made = np.stack([picture for future in futures for picture in future.result(PATIENCE)])
        except (VoorwerpError, TimeoutError, OSError) as error:
            note = f"No reconstructions: {str(error) or 'the network did not answer in time'}."
        residual, gain = None, 1.0
        if made is not None:
            residual = np.abs(real.astype(np.float32) - made)
            gain = float(max(1.0, np.floor(255 / max(1.0, float(np.percentile(residual, 99))))))
            residual = np.clip(residual * gain, 0, 255).astype(np.uint8)
        stacks = [("image", real)]
        if made is not None and residual is not None:
            shown = f" × {gain:g}" if gain > 1 else ""
            stacks += [("reconstruction", made), (f"residual{shown}", residual)]
        rgb, ids = list(self.survey.info.rgb), self.survey.source_ids(np.array(rows))
        left, gap = 7.0, 1.5
        side = (178 - left - gap * (len(rows) - 1)) / len(rows)
        side = min(side, 30.0)
        below = 5.0 + 3.0 * (len(names) + 1)

        def draw(add: Add) -> None:
            for i, row in enumerate(rows):
                x = left + i * (side + gap)
                for j, (label, pictures) in enumerate(stacks):
                    axes = add(x, 5 + j * (side + gap), side, side)
                    axes.imshow(pictures[i][..., rgb] if pictures.shape[-1] > 1 else pictures[i][..., 0], cmap="gray")
                    axes.set(xticks=[], yticks=[])
                    for spine in axes.spines.values():
                        spine.set_visible(False)
                    if i == 0:
                        axes.set_ylabel(label, size=6.5, labelpad=2)
                    if j == 0:
                        axes.set_title(elided(why[row], side + 1, 6), size=6, pad=2, color=QUIET)
                axes = add(x, 5 + len(stacks) * (side + gap), side, below - 5)
                axes.set(xlim=(0, side), ylim=(below - 5, 0))
                axes.axis("off")
                axes.text(0, 2.4, elided(ids[i], side, 6), size=6, va="baseline")
                for k, name in enumerate(names):
                    text = f"{_short(self.titles[name])} {number(float(values[name][row]))}"
                    axes.text(0, 5.4 + 3.0 * k, elided(text, side, 6), size=6, va="baseline", color=QUIET)

        said = [
            "Subjects with the highest of each score, and at some percentiles of the "
            f"{self.titles[main].lower()}; the network's crop, what the network makes of it, and the absolute "
            f"difference "
            f"in 8-bit values{f', {gain:g} times' if gain > 1 else ''}."
            if made is not None
            else f"The highest of each score, and subjects at some percentiles of the {self.titles[main].lower()}.",
            *([note] if note else []),
            self.of_run(),
        ]
        table = Table(
            ("row", "id", "why", *names),
            [(row, ids[i], why[row], *(float(values[n][row]) for n in names)) for i, row in enumerate(rows)],
        )
        height = 5 + len(stacks) * (side + gap) + below - 5
        return self._lay(_three(told), height, said, draw, {told[0]: table})

    # ------------------------------------------------------------------------------------------------------ figure 3
    def histograms(self, *told: str) -> Figure:
        names = self.scores()
        values = {name: self.score(name) for name in names}
        values = {name: v[np.isfinite(v)] for name, v in values.items()}
        bins: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        is_log: dict[str, bool] = {}
        for name, v in values.items():
            if not len(v):
                raise Missing(f"no subject has {self.title(name)}")
            edges, is_log[name] = _edges(v, 60)
            bins[name] = np.histogram(v, edges)
        width = 178 / len(names)

        def draw(add: Add) -> None:
            for i, name in enumerate(names):
                counts, edges = bins[name]
                axes = add(13 + i * width, 7, width - 15, 42)
                axes.stairs(counts, edges, fill=True, color="#c9d6e2", edgecolor=PICKED, linewidth=0.7)
                axes.set_yscale("log")
                _plain_logs(axes.yaxis, (1.0,))
                if is_log[name]:
                    axes.set_xscale("log")
                    _plain_logs(axes.xaxis)
                axes.set(xlim=(edges[0], edges[-1]), ylim=(0.7, counts.max() * 2.2))
                axes.set_xlabel(elided(self.title(name), width - 12, 7), labelpad=2)
                if i == 0:
                    axes.set_ylabel("subjects", labelpad=2)
                for q, at in zip(PERCENTILES, np.percentile(values[name], PERCENTILES), strict=True):
                    axes.axvline(at, color=INK, linewidth=0.6, linestyle=(0, (3, 2)))
                    axes.annotate(
                        f"{q}",
                        (at, 1.0),
                        (0, 1.5),
                        xycoords=("data", "axes fraction"),
                        size=5.2,
                        ha="center",
                        textcoords="offset points",
                        color=QUIET,
                        annotation_clip=False,
                    )

        marks = {name: np.percentile(v, PERCENTILES) for name, v in values.items()}
        said = [
            f"Numbers of subjects, logarithmic, of {max(map(len, values.values())):,} that have the score; dashed: "
            f"percentiles {', '.join(map(str, PERCENTILES))}. "
            + "; ".join(f"{self.titles[n]}: " + ", ".join(number(float(x)) for x in m) for n, m in marks.items())
            + ".",
            "Raw scores depend on the network: compare percentiles between surveys, not values.",
            self.of_run(),
        ]
        rows = [
            (name, float(a), float(b), int(c))
            for name, (counts, edges) in bins.items()
            for a, b, c in zip(edges[:-1], edges[1:], counts, strict=True)
        ]
        shares = [(n, q, float(x)) for n, m in marks.items() for q, x in zip(PERCENTILES, m, strict=True)]
        tables = {
            told[0]: Table(("score", "from", "to", "subjects"), rows),
            f"{told[0]}_percentiles": Table(("score", "percentile", "value"), shares),
        }
        return self._lay(_three(told), 60, said, draw, tables)

    # ------------------------------------------------------------------------------------------------------ figure 4
    def maps(self, *told: str) -> Figure:
        if not self.context.map_id:
            raise Missing(f"there is no map: `voorwerp run {self.survey.path.name} map` makes one")
        plane = Plane(self.context.map_id)
        at = self.explore.at(plane, np.arange(self.survey.n))
        placed = np.isfinite(at).all(axis=1)
        ends = np.percentile(at[placed], (0.05, 99.95), axis=0)
        pad = 0.03 * (ends[1] - ends[0])
        (x0, y0), (x1, y1) = ends[0] - pad, ends[1] + pad
        n = max(24, min(CELLS, int(np.sqrt(placed.sum()) / 2)))
        column = np.floor((at[:, 0] - x0) / (x1 - x0) * n)
        line = np.floor((at[:, 1] - y0) / (y1 - y0) * n)
        inside = placed & (column >= 0) & (column < n) & (line >= 0) & (line < n)
        cell = np.where(inside, line * n + column, 0).astype(np.int64)
        panels: list[tuple[str, str, np.ndarray, str]] = []
        wanted = [*(SCORES if self.context.run_id else ()), *([self.chosen] if self.chosen else [])]
        for name in (w for w in wanted if w in self.titles):
            v = self.score(name)
            has = np.isfinite(v)
            ranked = np.full(len(v), np.nan)
            if name == self.chosen:
                ranked[has] = v[has]
            elif has.any():
                ranked[has] = 100 * (rankdata(v[has]) - 0.5) / has.sum()
            label = "chosen fraction" if name == self.chosen else "percentile"
            panels.append((self.title(name), name, ranked, label))
        if self.draft.keep != And(()):
            kept = self.desk.boundaries.kept(self.draft.keep, self.context)
            share = np.where(kept.unknown, np.nan, kept.yes.astype(float))
            panels.append(("Kept by the boundary", "kept", share, "kept fraction"))
        if not panels:
            raise Missing("there are neither scores nor votes to color the map by")
        means, tables = [], []
        for _, name, v, _ in panels:
            here = inside & np.isfinite(v)
            count = np.bincount(cell[here], minlength=n * n)
            with np.errstate(invalid="ignore"):
                mean = np.bincount(cell[here], v[here], n * n) / np.where(count, count, np.nan)
            means.append(mean.reshape(n, n))
            tables += [(name, int(k % n), int(k // n), int(count[k]), float(mean[k])) for k in np.flatnonzero(count)]
        columns = min(3, len(panels))
        w = (178 - 4) / columns
        lines = -(-len(panels) // columns)
        h = w - 12
        outlines = [
            leaf
            for _, leaf in leaves(self.draft.keep)
            if isinstance(leaf, Region) and {leaf.x, leaf.y} == {plane.x, plane.y}
        ]

        def draw(add: Add) -> None:
            for i, ((title, name, _, label), mean) in enumerate(zip(panels, means, strict=True)):
                x, y = 4 + (i % columns) * w, 5 + (i // columns) * (h + 9)
                axes = add(x, y, h, h)
                own = name in (self.chosen, "kept")
                top = max(1e-9, float(np.nanpercentile(mean, 99.5))) if own else 100.0
                image = axes.imshow(
                    mean,
                    extent=(x0, x1, y0, y1),
                    origin="lower",
                    aspect="auto",
                    cmap="viridis",
                    vmin=0,
                    vmax=top,
                    interpolation="nearest",
                )
                axes.set(xticks=[], yticks=[], xlim=(x0, x1), ylim=(y0, y1))
                axes.set_title(elided(title, h + 2, 7), size=7, pad=2.5, loc="left")
                for region in outlines:
                    points = region.outline() if region.x == plane.x else region.outline()[:, ::-1]
                    axes.plot(*np.vstack([points, points[:1]]).T, color="#c2185b", linewidth=1.0)
                bar = add(x + h + 1, y, 1.8, h)
                axes.figure.colorbar(image, cax=bar)
                bar.tick_params(labelsize=5.2, pad=1, length=1.5)
                bar.set_ylabel(label, size=5.5, labelpad=1)

        off = int((placed & ~inside).sum())
        quality = self.explore.maps()[self.context.map_id].results
        words = [
            f"{key.replace('_', ' ')} {quality[key]:.3f}"
            for key in ("trustworthiness", "neighbor_preservation")
            if isinstance(quality.get(key), (int, float))
        ]
        said = [
            f"Map {self.context.map_id}: {int(inside.sum()):,} of {self.survey.n:,} subjects in {n} × {n} cells; "
            f"the mean of a cell, empty ones white{f'; {off:,} lie beyond the frame' if off else ''}.",
            *(
                ["Scores as percentiles of the survey, so that panels compare; votes as fractions."]
                if self.chosen
                else ["Scores as percentiles of the survey, so that panels compare."]
            ),
            *([f"Outlined: the {len(outlines)} drawn parts of the boundary on this map."] if outlines else []),
            *([f"Of the map: {', '.join(words)}."] if words else []),
            "Distances between far parts of such a map mean little, and its axes have no unit.",
            *([self.of_run()] if self.context.run_id else []),
        ]
        table = Table(("colored by", "column", "line", "subjects", "mean"), tables)
        height = 5 + lines * (h + 9) - 4
        return self._lay(_three(told), height, said, draw, {told[0]: table}, shows_votes=bool(self.chosen))

    # ----------------------------------------------------------------------------------------------------- figure 5
    def votes(self, *told: str) -> Figure:
        chosen, names = self.must_have_votes(), self.scores()
        fraction = self.score(chosen)
        bins, means, tables, rho, is_log = {}, {}, [], {}, {}
        steps = np.unique(fraction[self.tune & np.isfinite(fraction)])
        levels = np.linspace(0, 1, 26)
        if 1 < len(steps) <= 40:  # of few votes only some fractions can be
            levels = np.concatenate([[steps[0] - 0.02], (steps[1:] + steps[:-1]) / 2, [steps[-1] + 0.02]])
        for name in names:
            v = self.score(name)
            rows = self.tune & np.isfinite(v) & np.isfinite(fraction)
            if rows.sum() < 10:
                raise Missing(f"only {rows.sum()} subjects of the {self.half} have votes and {self.title(name)}")
            x, y = v[rows], fraction[rows]
            edges, is_log[name] = _edges(x, 44)
            counts, _, _ = np.histogram2d(x, y, (edges, levels))
            parts = np.array_split(np.argsort(x, kind="stable"), min(16, max(3, len(x) // 60)))
            means[name] = np.array(
                [[np.median(x[p]), y[p].mean(), y[p].std() / np.sqrt(len(p)), len(p)] for p in parts]
            )
            bins[name] = counts, edges
            rho[name] = float(np.corrcoef(rankdata(x), rankdata(y))[0, 1]), len(x)
            tables += [(name, *map(float, m)) for m in means[name]]
        width = 178 / len(names)
        most = max(c.max() for c, _ in bins.values())

        def draw(add: Add) -> None:
            image: Any = None
            for i, name in enumerate(names):
                counts, edges = bins[name]
                axes = add(13 + i * width * 0.97, 5, width - 17, 44)
                image = axes.pcolormesh(
                    edges,
                    levels,
                    np.where(counts > 0, counts, np.nan).T,
                    cmap="Blues",
                    norm=LogNorm(0.6, most),
                    rasterized=True,
                )
                m = means[name]
                axes.errorbar(m[:, 0], m[:, 1], 1.96 * m[:, 2], color="#c25700", linewidth=1.2, elinewidth=0.8)
                if is_log[name]:
                    axes.set_xscale("log")
                    _plain_logs(axes.xaxis)
                axes.set(xlim=(edges[0], edges[-1]), ylim=(min(0.0, levels[0]), 1.02))
                axes.set_xlabel(elided(self.title(name), width - 10, 7), labelpad=2)
                axes.set_title(f"ρ = {rho[name][0]:+.2f}".replace("-", "−"), size=6, pad=2, loc="right", color=QUIET)
                if i == 0:
                    axes.set_ylabel(elided(self.titles[chosen], 46, 6), size=6, labelpad=2)
            bar = add(174, 5, 1.6, 44)
            bar.figure.colorbar(image, cax=bar)
            bar.tick_params(labelsize=5.0, pad=1, length=1.5)
            bar.minorticks_off()
            _plain_logs(bar.yaxis, (1.0,))
            bar.set_title("n", size=5.5, pad=2)

        n = max(k for _, k in rho.values())
        said = [
            f"{self.titles[chosen][0].upper()}{self.titles[chosen][1:]} of {n:,} subjects of the {self.half}, "
            f"in cells; "
            "line: the mean among as many subjects of similar score, with its 95 % interval. ρ: Spearman's "
            "rank correlation.",
            "Votes are few per subject: part of the vertical spread is counting noise.",
            self.of_run(),
        ]
        head = ("score", "median score", "mean chosen fraction", "standard error", "subjects")
        ranks = Table(("score", "spearman", "subjects"), [(n, *r) for n, r in rho.items()])
        return self._lay(
            _three(told),
            60,
            said,
            draw,
            {told[0]: Table(head, tables), f"{told[0]}_correlation": ranks},
            shows_votes=True,
        )

    def _group(self, among: np.ndarray | None = None) -> Groups:
        """Tags of Talk, else the classes of a column."""
        losses = self.desk.judge.losses
        found = losses.tags(among)
        if found.names:
            return found
        offered = losses.offered()
        if not offered:
            raise Missing(
                "there are neither tags nor a column of classes: `voorwerp tags` takes in those of Talk, "
                "`voorwerp join` a catalog"
            )
        return losses.classes(offered[0], among)

    def groups(self, *told: str) -> Figure:
        chosen = self.must_have_votes()
        second = FEATURE if FEATURE in self.titles else ""
        columns = [chosen, *([second] if second else [])]
        values = {name: self.score(name) for name in columns}
        found = self._group()
        rows = []
        for name, members, n_taggers in zip(found.names, found.members, found.n_taggers, strict=True):
            here = members[self.tune[members] & np.isfinite(values[chosen][members])]
            if len(here):
                rows.append((name, here, n_taggers))
        if not rows:
            raise Missing(f"no subject with a tag or class in the {self.half} has votes")
        rows = sorted(rows, key=lambda r: -float(np.median(values[chosen][r[1]])))
        shown = sorted(sorted(rows, key=lambda r: -len(r[1]))[:MOST_GROUPS], key=lambda r: rows.index(r))
        rest = self.tune & np.isfinite(values[chosen])
        shown.append((f"all of the {self.half}", np.flatnonzero(rest), None))
        stats: dict[str, list[Any]] = {name: [] for name in columns}
        tables = []
        for name, here, n_taggers in shown:
            for column in columns:
                v = values[column][here]
                v = v[np.isfinite(v)]
                quartiles = np.percentile(v, (25, 50, 75)) if len(v) else np.full(3, np.nan)
                stats[column].append(quartiles)
                tables.append((name, column, len(v), n_taggers, *map(float, quartiles)))
        high = 3.6 * len(shown) + 3
        w = (178 - 44) / len(columns)

        def draw(add: Add) -> None:
            for i, column in enumerate(columns):
                axes = add(42 + i * w, 3, w - 7, high)
                for y, quartiles in enumerate(stats[column]):
                    color = INK if y == len(shown) - 1 else PICKED
                    axes.plot(quartiles[[0, 2]], [y, y], color=color, linewidth=1.4, alpha=0.55, solid_capstyle="butt")
                    axes.plot(quartiles[1], y, "o", color=color, markersize=2.6)
                axes.set(ylim=(len(shown) - 0.4, -0.6), yticks=range(len(shown)))
                axes.grid(axis="x", color="#e4e7eb", linewidth=0.5)
                axes.set_axisbelow(True)
                if i == 0:
                    axes.set_xlim(left=0)
                    axes.set_yticklabels([elided(f"{n} ({len(h):,})", 38, 6) for n, h, _ in shown])
                else:
                    axes.set_yticklabels([])
                axes.set_xlabel(elided(self.titles[column], w - 4, 7), labelpad=2)

        what = (
            "Talk tags, their spellings merged"
            if found.of == "tag"
            else f"classes of column {self.desk.judge.losses.offered()[0]}"
        )
        said = [
            f"Median (dot) and quartiles (line) of subjects of the {self.half}, by {what}; in brackets how many.",
            *(
                ["A subject may have several tags; tags of few volunteers say what these saw (number of taggers: CSV)."]
                if found.of == "tag"
                else []
            ),
            *([f"The {MOST_GROUPS} largest of {len(rows)}."] if len(rows) > MOST_GROUPS else []),
        ]
        head = ("group", "column", "subjects", "taggers", "quartile 1", "median", "quartile 3")
        return self._lay(_three(told), high + 12, said, draw, {told[0]: Table(head, tables)}, shows_votes=True)

    def _truth(self) -> Truth:
        if self.draft.truth is None:
            raise Missing(
                "there is nothing to judge by: neither votes, nor a boundary with a truth of its own; draw one in the "
                "app and save it"
            )
        return self.draft.truth

    @cached_property
    def is_of_votes(self) -> bool:
        """Whether the truth is made of votes."""
        columns = {f"subjects.{name}" for name in self.survey.columns_of_crowd()}
        return self.draft.truth is not None and bool(columns & set(self.draft.truth.references))

    def curves(self) -> dict[str, Any]:
        """Those of `Judge`."""
        self._truth()
        return self.desk.judge.curves(self.draft, self.context, FEATURE if FEATURE in self.titles else None)

    def of_truth(self) -> str:
        """A sentence on the truth."""
        known = self.desk.truths.of(self._truth(), self.context)
        return f"Truth: {known.title}, by the {self.half}."

    def _circular(self, references: Sequence[str], keep: Term | None = None) -> str:
        """The warning that circular curves carry; ""."""
        shared = self.desk.truths.circular(
            self._truth(), keep or And(()), self.desk.learning, self.context, tuple(references)
        )
        return f"circular: the truth shares {', '.join(shared)} with what is judged" if shared else ""

    def limit(self, *told: str) -> Figure:
        self.scores()
        found = self.curves()["limit"]
        if found is None:
            is_graded = self._truth().is_of_experts
            raise Missing(
                "graded subjects were chosen to be looked at: see the curves of every score, which are weighted"
                if is_graded
                else "the run has no score to put a lower limit on"
            )
        x = _array(found["x"])
        lines = [("precision", found["precision"]), ("recall, of those above the limit", found["recall"])]
        lines += [("recall, of all", found["recall_all"])]
        if found["f1"] is not None:
            lines.append(("F1, with the recall of all", found["f1"]))
        counts = {name: _array(v) for name, v in found["counts"].items()}

        def draw(add: Add) -> None:
            axes = add(14, 3, 112, 52)
            for i, (label, y) in enumerate(lines):
                axes.plot(x, _array(y), color=COLORS[i], linestyle=DASHES[i], linewidth=1.2, label=label)
            if found["at"] is not None:
                axes.axvline(found["at"], color=INK, linewidth=0.6)
                axes.annotate(
                    "the boundary's limit",
                    (found["at"], 1),
                    (2, -6),
                    xycoords=("data", "axes fraction"),
                    textcoords="offset points",
                    size=5.5,
                    color=QUIET,
                )
            high = x[np.isfinite(x)]
            axes.set(ylim=(0, 1.02))
            if len(high) > 1:
                axes.set_xlim(high.min(), _reach(high, counts["tp"] + counts["fp"]))
            axes.set_xlabel(f"lower limit on {found['title']}", labelpad=2)
            axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=6, frameon=False, handlelength=3)

        whole = "everything" if self.draft.keep == And(()) else "the boundary, its other terms as they are"
        said = [
            f"Of {whole}, with a lower limit on {found['title'].lower()} that moves.",
            "The limit changes recall's denominator: of those above it (as the study's figure 5c), and of all.",
            "Curves of fewer kept subjects are wider: the counts behind every point are in the CSV.",
            self.of_truth(),
        ]
        rows = [
            tuple(
                _at(column, i)
                for column in (
                    x,
                    found["precision"],
                    found["recall"],
                    found["recall_all"],
                    found["f1"],
                    *counts.values(),
                )
            )
            for i in range(len(x))
        ]
        table = Table(
            (
                "limit",
                "precision",
                "recall_above",
                "recall_all",
                "f1",
                *(f"{c}_above" if c == "fn" else c for c in counts),
            ),
            rows,
        )
        return self._lay(
            _three(told),
            66,
            said,
            draw,
            {told[0]: table},
            shows_votes=self.is_of_votes,
            warning=self._circular([found["reference"]], self.draft.keep),
        )

    @cached_property
    def learned(self) -> Six | str:
        if not self.context.run_id:
            self.run()
        try:
            n = 7 if self.quick else SIGMAS
            return figure6(self.desk.learning, self.desk.truths, self.context, n)
        except TROUBLES as error:
            return str(error)

    def precision_recall(self, *told: str) -> Figure:
        self.scores()
        six = self.learned
        curves, why, why_not = [], "", six if isinstance(six, str) else ""
        try:
            curves, point = self.curves()["pr"], self.curves()["boundary"]["at"]
        except TROUBLES as error:
            why, point = str(error), None
        if why and why_not:
            raise Missing(f"{why_not}; {why}")
        tables = {}
        if isinstance(six, Six):
            tables[told[0]] = _of_six(six)
        if curves:
            rows = [
                (c["reference"], t, p, r, c["circular"])
                for c in curves
                for t, p, r in zip(c["threshold"], c["precision"], c["recall"], strict=True)
            ]
            tables[f"{told[0]}_one_truth"] = Table(("score", "threshold", "precision", "recall", "circular"), rows)

        def draw(add: Add) -> None:
            left, right = add(14, 7, 68, 58), add(104, 7, 68, 58)
            left.set_title(NOT_COMPARABLE, size=6.5, pad=3, color="#b3261e", loc="left")
            if isinstance(six, Six):
                for i, curve in enumerate(six.curves):
                    points = [p for p in curve.points if not p.trouble]
                    r = _array([p.rates["recall"].value for p in points])
                    p_ = _array([p.rates["precision"].value for p in points])
                    left.plot(
                        r,
                        p_,
                        color=COLORS[i],
                        linestyle=DASHES[i],
                        marker="o",
                        markersize=1.8,
                        linewidth=1,
                        label=curve.title,
                    )
                left.legend(
                    loc="best",
                    fontsize=5.5,
                    edgecolor="none",
                    framealpha=0.85,
                    title="learned from, and judged by",
                    title_fontsize=5.5,
                )
            else:
                _says(left, six)
            if curves:
                right.set_title("all against one truth", size=6.5, pad=3, loc="left")
                for i, c in enumerate(curves):
                    i %= len(COLORS)
                    mark = " (circular)" if c["circular"] else ""
                    right.plot(
                        c["recall"],
                        c["precision"],
                        color=COLORS[i],
                        linestyle=DASHES[i],
                        linewidth=1,
                        alpha=0.5 if mark else 1,
                        label=f"{c['title']}: AP {c['ap']:.3f}{mark}",
                    )
                if point:
                    right.plot(point[1], point[0], "D", color=INK, markersize=3.5, label="the boundary")
                right.legend(loc="upper right", fontsize=5.5, frameon=False)
            else:
                _says(right, why)
            for axes in (left, right):
                axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
                axes.set_xlabel("recall", labelpad=2)
                axes.set_ylabel("precision", labelpad=2)

        said = [
            "Left: boundaries learned from the latent vectors, out of fold, as the study made them: each is "
            "judged by the "
            "truth that it was taught, Σ moving along the curve. Three questions, three base rates: which "
            "curve is higher "
            "says nothing of which score is better.",
            "Right: every score alone, its threshold moving, against one truth.",
            *([self.of_truth()] if curves else []),
        ]
        names = [c["reference"] for c in curves if not c["reference"].startswith("learned.")]
        warning = f"left: {NOT_COMPARABLE}"
        if curves and (shared := self._circular(names)):
            warning += f"; right: {shared}"
        return self._lay(_three(told), 76, said, draw, tables, shows_votes=bool(self.chosen), warning=warning)

    # ------------------------------------------------------------------------------------------------------ figure 6
    def common(self) -> tuple[Truth, str] | None:
        """A truth that shares nothing with votes and scores: the boundary's, else tags, else a column of classes."""
        truths, names = self.desk.truths, (*SCORES, self.chosen)
        told = [name for name in names if name in self.titles]

        def is_free(truth: Truth) -> bool:
            return not truths.circular(truth, And(()), None, self.context, told)

        if self.draft.truth is not None and is_free(self.draft.truth):
            return self.draft.truth, "the boundary's own truth"
        groups = self.desk.talk.groups()
        if groups:
            name = max(groups, key=lambda g: g.n_subjects).name
            truth = Truth("talk", name)
            return (truth, "the commonest tag") if is_free(truth) else None
        for column in self.desk.judge.losses.offered():
            found = self.desk.judge.losses.classes(column)
            order = sorted(range(len(found.names)), key=lambda i: -found.sizes[i])
            labels = tuple(found.names[i] for i in order[1:])
            if labels and found.sizes[order[0]] > 0.5 * found.sizes.sum():
                truth = Truth("category", f"subjects.{column.removeprefix('subjects.')}", labels=labels)
                if is_free(truth):
                    return truth, f"all classes of {column.removeprefix('subjects.')} but the commonest"
        return None

    @cached_property
    def claim(self) -> Claim | str:
        """The three boundaries against one truth at equal kept fraction; why not."""
        if not isinstance(self.learned, Six):
            return self.learned
        common = self.common()
        if common is None:
            return (
                "there is no truth apart from votes and scores (no tags, no classes): which score's boundary "
                "finds more "
                "cannot be said"
            )
        try:
            return against(
                self.learned,
                self.desk.learning,
                self.desk.truths,
                self.context,
                common[0],
                reps=200 if self.quick else 2000,
            )
        except TROUBLES as error:
            return str(error)

    def six(self, *told: str) -> Figure:
        self.run()
        six = self.learned
        if isinstance(six, str):
            raise Missing(six)
        claim = self.claim
        names = ("precision", "recall", "kept")
        tables = {told[0]: _of_six(six)}
        if isinstance(claim, Claim):
            tables[f"{told[0]}_one_truth"] = of_claim(claim)

        def draw(add: Add) -> None:
            w = 178 / len(six.curves)
            for i, curve in enumerate(six.curves):
                axes = add(12 + i * w, 9, w - 15, 46)
                points = [p for p in curve.points if not p.trouble]
                x = np.array([p.sigma for p in points])
                for k, name in enumerate(names):
                    rates = [p.rates[name] for p in points]
                    y = _array([r.value for r in rates])
                    axes.fill_between(
                        x,
                        _array([r.low for r in rates]),
                        _array([r.high for r in rates]),
                        color=COLORS[k],
                        alpha=0.15,
                        linewidth=0,
                    )
                    axes.plot(
                        x,
                        y,
                        color=COLORS[k],
                        linestyle=DASHES[k],
                        linewidth=1.1,
                        label="kept fraction" if name == "kept" else name,
                    )
                axes.set(ylim=(0, 1.02))
                axes.set_xlabel(elided(f"Σ of {curve.title}", w - 8, 6.5), size=6.5, labelpad=2)
                if i == 0:
                    axes.set_title(NOT_COMPARABLE, size=6.5, pad=3, color="#b3261e", loc="left")
                if i == len(six.curves) - 1:
                    axes.legend(loc="best", fontsize=5.5, frameon=True, edgecolor="none", framealpha=0.85)
            if isinstance(claim, Claim):
                _draw_claim(add, claim, {c.name: c.title for c in six.curves}, 68)

        said = [
            f"Logistic regressions (balanced classes, cut at balanced score ½) of the principal components of "
            f"the latent "
            f"vectors, out of fold, of {len(six.rows):,} subjects of the {self.half}; the truth of each is its "
            f"score ≥ Σ. "
            "Bands: 95 % (Wilson).",
            "In the study, precision and recall of this figure as printed imply a base rate above 1; "
            "exchanged, they agree "
            "with the public votes. Here both are by their standard definitions.",
        ]
        if isinstance(claim, Claim):
            common = self.common()
            said.append(
                f"Below: a boundary of each score (the Σ nearest to 5 % positives), each keeping "
                f"{100 * claim.fraction:g} % "
                f"of {claim.n:,} subjects, against one and the same truth, {claim.truth} "
                f"({common[1] if common else ''}; "
                f"{number(claim.n_positive)} positive); bars: 95 %. Paired differences are in the table."
            )
        else:
            said.append(f"Not compared against one truth: {claim}.")
        height = 66 + (7 * len(claim.judged) + 11 if isinstance(claim, Claim) else 0)
        return self._lay(_three(told), height, said, draw, tables, shows_votes=True, warning=NOT_COMPARABLE)

    # --------------------------------------------------------------------------------------------------- supplement
    def weights(self, *told: str) -> Figure:
        self.must_have_votes()
        if not {WEIGHTED, CHOSEN} <= set(self.titles):
            raise Missing(
                "there is no weighted chosen fraction: `voorwerp consensus` with weights by experience counts one"
            )
        plain, weighted = self.score(CHOSEN), self.score(WEIGHTED)
        rows = self.tune & np.isfinite(plain) & np.isfinite(weighted)
        if not rows.any():
            raise Missing(f"no subject of the {self.half} has votes")
        x, shift = plain[rows], (weighted - plain)[rows]
        settings = self.survey.about_crowd().get("settings", {})
        w = float(settings.get("experienced_weight", 2.0))
        grid = np.linspace(0, 1, 201)
        low, high = grid / (w - (w - 1) * grid) - grid, w * grid / (1 + (w - 1) * grid) - grid
        try:
            found = self._group()
            groups = [
                (name, members[rows[members]])
                for name, members in zip(found.names, found.members, strict=True)
                if rows[members].any()
            ]
        except UsageError:
            groups = []
        groups = sorted(groups, key=lambda g: -len(g[1]))[:12]
        moved = [np.percentile((weighted - plain)[r], (25, 50, 75)) for _, r in groups]
        rng = np.random.default_rng(0)
        some = np.sort(rng.permutation(len(x))[:8000])
        jitter = rng.uniform(-0.008, 0.008, len(some))

        def draw(add: Add) -> None:
            axes = add(16, 4, 84 if groups else 150, 52)
            axes.plot(x[some] + jitter, shift[some], ".", color=PICKED, markersize=1.4, alpha=0.35, rasterized=True)
            axes.plot(grid, low, color=INK, linewidth=0.7, linestyle=DASHES[1])
            axes.plot(grid, high, color=INK, linewidth=0.7, linestyle=DASHES[1])
            axes.axhline(0, color=LINE, linewidth=0.5)
            axes.set(xlim=(-0.02, 1.02))
            axes.set_xlabel("chosen fraction, every vote the same", labelpad=2)
            axes.set_ylabel("weighted − unweighted", labelpad=2)
            if groups:
                side = add(132, 4, 44, 52)
                for y, q in enumerate(moved):
                    side.plot(q[[0, 2]], [y, y], color=PICKED, linewidth=1.4, alpha=0.55)
                    side.plot(q[1], y, "o", color=PICKED, markersize=2.6)
                side.axvline(0, color=LINE, linewidth=0.5)
                side.set(ylim=(len(groups) - 0.4, -0.6), yticks=range(len(groups)))
                side.set_yticklabels([elided(f"{n} ({len(r):,})", 27, 6) for n, r in groups])
                side.set_xlabel("weighted − unweighted", labelpad=2)

        some_words = f" ({len(some):,} of them drawn, spread a little sideways)" if len(some) < len(x) else ""
        said = [
            f"What weighting votes by experience (× {w:g}) does to the chosen fraction of {len(x):,} subjects of the "
            f"{self.half}{some_words}. Dashed: the most that this weight can move it.",
            f"It lowers the fraction of {int((shift < -1e-9).sum()):,} and raises that of "
            f"{int((shift > 1e-9).sum()):,}; "
            f"its median shift is {number(float(np.median(shift)))}."
            if np.abs(shift).max() > 1e-9
            else "It moves none: nobody here counts as experienced.",
            *(["Right: median and quartiles of the shift by group, in brackets how many."] if groups else []),
            "The study's supplement was not at hand: this is what it is said to show.",
        ]
        table = Table(
            ("chosen fraction", "weighted chosen fraction", "subjects"),
            [
                (float(a), float(b), int(n))
                for (a, b), n in zip(*_unique(np.column_stack([x, weighted[rows]])), strict=True)
            ],
        )
        return self._lay(_three(told), 67, said, draw, {told[0]: table}, shows_votes=True)

    def mixing(self, *told: str) -> Figure:
        run = self.run()
        if not self.explore.mixes(run.run_id):
            raise Missing(f"run {run.run_id} has one score: there is nothing to mix")
        wanted = ("scores.image_score", FEATURE)
        image, feature = (self.score(name) for name in wanted)
        good = np.isfinite(image) & np.isfinite(feature)
        top = max(1, round(0.01 * int(good.sum())))
        now = self.score("scores.anomaly_score")[good]
        first = set(np.argsort(-now, kind="stable")[:top].tolist())
        truth, known = self.draft.truth, None
        try:
            if truth is not None:
                known = self.desk.truths.of(truth, self.context)
        except TROUBLES:
            known = None
        rows, ranked_parts = [], (rankdata(image[good]), rankdata(feature[good]))
        judged = self.tune[good]
        for lambda_ in LAMBDAS:
            mixed = self.explore.values("scores.anomaly_score", run.run_id, float(lambda_), self.context.mode)[good]
            ranked = rankdata(mixed)
            same = len(first & set(np.argsort(-mixed, kind="stable")[:top].tolist())) / top
            ap = None
            if known is not None:
                r = Ranked(mixed[judged], known.positive[good][judged], known.known[good][judged])
                ap = float(r.average_precision) if known.positive[good][judged].any() else None
            rows.append((float(lambda_), same, *(float(np.corrcoef(ranked, p)[0, 1]) for p in ranked_parts), ap))
        shown = np.array([[np.nan if v is None else v for v in row] for row in rows])
        has_ap = bool(np.isfinite(shown[:, 4]).any())

        def draw(add: Add) -> None:
            axes = add(14, 4, 74 if has_ap else 110, 50)
            for k, label in enumerate(
                ("top 1 % shared with λ of this report", "ρ with the image score", "ρ with the feature score")
            ):
                axes.plot(
                    shown[:, 0], shown[:, k + 1], color=COLORS[k], linestyle=DASHES[k], linewidth=1.2, label=label
                )
            axes.axvline(self.context.lambda_, color=INK, linewidth=0.6)
            axes.set(xlim=(0, 1), ylim=(min(0.0, float(np.nanmin(shown[:, 1:4]))), 1.02))
            axes.set_xlabel("λ, the weight of the feature score", labelpad=2)
            axes.legend(loc="lower center", fontsize=5.5, frameon=True, edgecolor="none", framealpha=0.85)
            if has_ap:
                right = add(106, 4, 70, 50)
                right.plot(shown[:, 0], shown[:, 4], color=COLORS[3], linewidth=1.2)
                right.axvline(self.context.lambda_, color=INK, linewidth=0.6)
                right.set(xlim=(0, 1), ylim=(0, 1.15 * float(np.nanmax(shown[:, 4]))))
                right.set_xlabel("λ, the weight of the feature score", labelpad=2)
                right.set_ylabel("average precision", labelpad=2)

        said = [
            f"What another λ in S_anom = (1 − λ) S_image + λ S_feature, of {MODE_TITLES[self.context.mode]}, "
            f"would change "
            f"among {int(good.sum()):,} subjects with both scores; vertical line: λ = {self.context.lambda_:.3g}. "
            "ρ: Spearman's rank correlation with the score alone.",
            *(
                [f"Right: average precision against {known.title if known else ''}, by the {self.half}."]
                if has_ap
                else []
            ),
            "A network trained with another λ would score otherwise: this re-mixes the scores of one run.",
            "The study's supplement was not at hand: this is what it is said to show.",
        ]
        head = ("lambda", "top 1 % shared", "spearman image", "spearman feature", "average precision")
        return self._lay(
            _three(told),
            65,
            said,
            draw,
            {told[0]: Table(head, rows)},
            shows_votes=has_ap and self.is_of_votes,
            warning=self._circular(list(wanted)) if has_ap else "",
        )

    # --------------------------------------------------------------------------------------------------- the boundary
    def losses(self, *told: str) -> Figure:
        found = self.desk.judge.lost(self.draft, self.context)
        if not found:
            raise Missing("there are neither tags nor a column of classes to say what is thrown away")
        shown = found[:MOST_GROUPS]
        high = 3.8 * len(shown) + 2

        def draw(add: Add) -> None:
            axes = add(46, 3, 126, high)
            n_right = sum(one["is_right"] is not False for one in shown)
            if 0 < n_right < len(shown):
                axes.axhline(n_right - 0.5, color=LINE, linewidth=0.6)
            for y, one in enumerate(shown):
                axes.plot([100 * one["low"], 100 * one["high"]], [y, y], color=PICKED, linewidth=1.4, alpha=0.5)
                axes.plot(100 * one["k"] / one["n"], y, "o", color=PICKED, markersize=2.8)
            axes.set(xlim=(0, 100), ylim=(len(shown) - 0.4, -0.6), yticks=range(len(shown)))
            axes.set_yticklabels([elided(f"{o['name']} ({o['k']:,} of {o['n']:,})", 42, 6) for o in shown])
            axes.grid(axis="x", color="#e4e7eb", linewidth=0.5)
            axes.set_axisbelow(True)
            axes.set_xlabel("kept, %", labelpad=2)

        halves = sorted({HALVES.get(one["half"], one["half"]) for one in shown})
        has_aim = any(one["is_right"] is False for one in shown)
        last = ", those that are not right, which it is to lose, last" if has_aim else ""
        said = [
            "Of each tag and class, how many the boundary keeps, the most thrown away first"
            f"{last}; "
            "lines: 95 % "
            "intervals, of tags "
            f"with the taggers as the unit. Counted in: {', '.join(halves)}.",
        ]
        head = ("group", "of", "kept", "n", "low", "high", "taggers", "half")
        rows = [tuple(one[k] for k in ("name", "of", "k", "n", "low", "high", "n_taggers", "half")) for one in found]
        return self._lay(_three(told), high + 13, said, draw, {told[0]: Table(head, rows)})

    def budget(self, *told: str) -> Figure:
        self._truth()
        found = self.desk.judge.budget(self.draft, self.context)
        x, curves = _array(found["looked"]), found["curves"]

        def draw(add: Add) -> None:
            axes = add(16, 3, 96, 56)
            for i, curve in enumerate(curves):
                style = ("#9aa1ac", "-") if curve["kind"] == "random" else (COLORS[i % 6], DASHES[i % 6])
                y = _array(curve["found"])
                axes.fill_between(
                    x, _array(curve["low"]), _array(curve["high"]), color=style[0], alpha=0.07, linewidth=0
                )
                mark = " (circular)" if curve["circular"] else ""
                label = elided(curve["title"] + mark, 52, 6)
                axes.plot(x, y, color=style[0], linestyle=style[1], linewidth=1.1, label=label)
            if 0 < found["at"]["images"] < x.max():
                axes.axvline(found["at"]["images"], color=INK, linewidth=0.6)
            axes.set(xlim=(0, x.max()), ylim=(0, None))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
            axes.set_xlabel("images looked at", labelpad=2)
            axes.set_ylabel("interesting ones found", labelpad=2)
            axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), fontsize=6, frameon=False, handlelength=3)

        hours = f"{found['seconds']:g} s a look" + ("" if found["measured"] else " (not measured)")
        said = [
            *(f"{note[0].upper()}{note[1:]}." for note in found["notes"]),
            "Bands: 95 % (bootstrap by duplicate group).",
            f"Vertical line: {found['at']['images']:,.0f} images, {_time_of(found['at']['hours'])} of experts "
            f"at {hours}."
            if 0 < found["at"]["images"] < x.max()
            else "",
            self.of_truth(),
        ]
        rows = [
            (c["title"], float(x[i]), _at(c["found"], i), _at(c["low"], i), _at(c["high"], i), c["circular"])
            for c in curves
            for i in range(len(x))
        ]
        table = Table(("order", "looked", "found", "low", "high", "circular"), rows)
        names = [c["reference"] for c in curves if c["circular"]]
        warning = f"circular: the truth is part of {len(names)} of these orders" if names else ""
        return self._lay(
            _three(told),
            70,
            [s for s in said if s],
            draw,
            {told[0]: table},
            shows_votes=self.is_of_votes,
            warning=warning,
        )

    def reliability(self, *told: str) -> Figure:
        found = [self.desk.learning.what(sha, self.context) for sha in classifiers(self.draft.keep)]
        called = self.desk.boundaries.titles_of(self.draft.keep)
        usable = [one for one in found if one.get("reliability")]
        if not usable:
            raise Missing("; ".join(one["trouble"] for one in found if one.get("trouble")) or "it was not judged")

        def draw(add: Add) -> None:
            axes = add(18, 4, 58, 58)
            axes.plot([0, 1], [0, 1], color=LINE, linewidth=0.6)
            most = 0.02
            for i, one in enumerate(usable):
                p, value, low, high = (
                    _array([b[k] for b in one["reliability"]]) for k in ("p", "value", "low", "high")
                )
                axes.errorbar(
                    p,
                    value,
                    (value - low, high - value),
                    color=COLORS[i % 6],
                    marker="o",
                    markersize=2.6,
                    linewidth=0.9,
                    elinewidth=0.7,
                    label=elided(called[one["sha256"]], 30, 6),
                )
                most = max(most, float(np.nanmax(p)), float(np.nanmax(high)))
            axes.set(xlim=(0, 1.05 * most), ylim=(0, 1.05 * most))
            axes.set_xlabel("probability that the classifier tells", labelpad=2)
            axes.set_ylabel("share that is positive", labelpad=2)
            axes.legend(loc="upper left", bbox_to_anchor=(1.04, 1.0), fontsize=6, frameon=False)

        said = [
            "Prior-corrected probabilities, out of fold by duplicate group, against how many of those are "
            "positive; bins of "
            "as equal numbers as ties allow, bars 95 % (Wilson).",
            "On the diagonal a probability means what it says. Balanced scores, by which a boundary cuts, are not "
            "probabilities.",
        ]
        rows = [
            (one["sha256"], *(b[k] for k in ("from", "to", "p", "k", "n", "value", "low", "high")))
            for one in usable
            for b in one["reliability"]
        ]
        head = ("classifier", "from", "to", "mean probability", "k", "n", "share", "low", "high")
        return self._lay(_three(told), 73, said, draw, {told[0]: Table(head, rows)}, shows_votes=self.is_of_votes)


# ------------------------------------------------------------------------------------------------------------- small
def simulated(explore: Explore) -> str:
    """What of a survey is simulated: its "data", its "votes", or nothing."""
    survey = explore.survey
    if any("simulated" in text.lower() for text in (survey.info.name, *survey.info.notes)):
        return "data"
    return "votes" if survey.about_crowd().get("is_simulated") else ""


def of_claim(claim: Claim) -> Table:
    """Each boundary's rates against the common truth, then the paired differences."""
    rows: list[tuple[Any, ...]] = [
        (j.name, "", j.sigma, name, r.k, r.n, r.value, r.low, r.high)
        for j in claim.judged
        for name, r in j.rates.items()
        if name in ("precision", "recall", "kept")
    ]
    for (one, other), both in claim.differences.items():
        rows += [
            (one, other, None, f"difference of {key}", None, None, d.value, d.low, d.high) for key, d in both.items()
        ]
    return Table(("score", "less", "sigma", "what", "k", "n", "value", "low", "high"), rows)


def _of_six(six: Six) -> Table:
    names, rows = ("precision", "recall", "f1", "kept", "base"), []
    for curve in six.curves:
        for p in curve.points:
            told: list[Any] = []
            for name in names:
                rate = p.rates.get(name)
                told += [rate.value, rate.low, rate.high] if rate is not None else [None] * 3
            rows.append((curve.name, p.sigma, p.n_positive, *told, p.trouble))
    head = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    return Table(("score", "sigma", "positives", *head, "trouble"), rows)


def _draw_claim(add: Add, claim: Claim, titles: Mapping[str, str], top: float) -> None:
    high = 7.0 * len(claim.judged)
    for i, key in enumerate(("precision", "recall")):
        axes = add(52 + 64 * i, top, 58, high)
        ends = []
        for y, judged in enumerate(claim.judged):
            rate = judged.rates[key]
            if rate.value is None or rate.low is None or rate.high is None:
                continue
            axes.plot([rate.low, rate.high], [y, y], color=COLORS[y % 6], linewidth=1.6, alpha=0.5)
            axes.plot(rate.value, y, "o", color=COLORS[y % 6], markersize=3)
            ends.append(rate.high)
        axes.set(xlim=(0, min(1.02, 1.15 * max(ends, default=1))), ylim=(len(claim.judged) - 0.4, -0.6))
        axes.set_yticks(range(len(claim.judged)))
        axes.set_yticklabels(
            [elided(f"{titles.get(j.name, j.name)} ≥ {number(j.sigma)}", 48, 6) for j in claim.judged] if i == 0 else []
        )
        axes.set_xlabel(f"{key} against one truth", labelpad=2)
        axes.grid(axis="x", color="#e4e7eb", linewidth=0.5)


def _three(told: Sequence[str]) -> tuple[str, str, str]:
    return told[0], told[1], told[2]


def _array(values: Any) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in values], np.float64)


def _time_of(hours: float) -> str:
    """Hours by two digits, below one minutes."""
    return f"{float(f'{hours:.2g}'):,g} h" if hours >= 1 else f"{max(1, round(60 * hours)) if hours else 0} min"


def _at(values: Any, i: int) -> Any:
    return None if values is None else values[i]


def _short(title: str) -> str:
    """Of a score, for little room."""
    return title.removesuffix(" score")


def _unique(pairs: np.ndarray) -> tuple[list[Any], list[int]]:
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    return found.tolist(), counts.tolist()


def _reach(x: np.ndarray, kept: np.ndarray) -> float:
    """Up to where a limit still keeps some ten subjects."""
    enough = x[: len(kept)][kept[: len(x)] >= 10]
    return float(enough.max()) if len(enough) > 1 and enough.max() > x.min() else float(x.max())


def _says(axes: Axes, why: str) -> None:
    """A sentence where a panel would be."""
    axes.text(0.5, 0.5, textwrap.fill(why, 38), size=6, color=QUIET, ha="center", va="center", transform=axes.transAxes)


def _plain_logs(axis: Axis, subs: tuple[float, ...] = (1.0, 2.0, 5.0)) -> None:
    """1, 10, 100 rather than powers: the style has no mathematical text."""
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(lambda v, _: number(float(v))))
    axis.set_minor_formatter(NullFormatter())


def _edges(values: np.ndarray, n: int) -> tuple[np.ndarray, bool]:
    """Of n cells from the least to the greatest value, logarithmic where that tells more; and whether they are."""
    low, high = float(values.min()), float(values.max())
    is_log = low > 0 and high > 8 * low
    edges = np.geomspace(low, high, n + 1) if is_log else np.linspace(low, max(high, low + 1e-9), n + 1)
    edges[0], edges[-1] = min(edges[0], low), max(edges[-1], high)
    return edges, is_log
