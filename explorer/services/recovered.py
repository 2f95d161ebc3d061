"""Selection functions: what each boundary keeps of planted sources, by flux and size; as JSON, CSV and a figure."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from explorer import __version__
from explorer.errors import UsageError, VoorwerpError
from explorer.ledger import CLASSIFIERS
from explorer.services.boundaries import Boundaries, Context
from explorer.services.colors import CATEGORIES, blend
from explorer.services.crowd import rate
from explorer.services.explore import Explore
from explorer.services.export import FORMULA
from explorer.services.figures import INK, QUIET, WIDTHS, Add, Drawn, Width, elided, laid_out, number
from explorer.services.injecting import Scored
from explorer.survey import Survey
from models.artifacts import ArtifactError
from models.boundary import Gate, Term, columns, evaluate, in_words
from models.classifier import Classifier, ClassifierError
from models.images import QUALITY_COLUMNS


@dataclass(frozen=True, slots=True)
class Line:
    """A boundary whose selection function is asked for, with the context that it was drawn in."""

    name: str
    keep: Term
    context: Context
    version: int = 0

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name}, version {self.version}" if self.version else self.name


@dataclass(frozen=True, slots=True)
class Cell:
    """What a boundary keeps of one flux and size.

    Attributes
    ----------
    kept
        Of all planted: k, n, and the 95 % interval (Wilson) low, high.
    gained
        The same of those whose host as it is, is not kept.
    n_unknown
        Planted of which the boundary cannot tell; they are not kept.
    inside
        Median share of the flux within the network's square.
    """

    flux: float
    size: float
    kept: Mapping[str, Any]
    gained: Mapping[str, Any]
    n_unknown: int
    inside: float


@dataclass(frozen=True, slots=True)
class Function:
    """The selection function of one boundary.

    Attributes
    ----------
    hosts
        What is kept of the hosts as they are: k, n, low, high.
    cells
        By size, then by flux.
    refused
        Why there is none; "" where there is one.
    of_hosts
        Columns of the boundary for which the host's value stands.
    """

    line: Line
    words: str
    hosts: Mapping[str, Any] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()
    refused: str = ""
    of_hosts: tuple[str, ...] = ()


def top_line(explore: Explore, context: Context, share: float) -> Line:
    """The top of the survey by anomaly score as a boundary, its limit as a raw score."""
    scores = explore.values("scores.anomaly_score", context.run_id, context.lambda_, context.mode)
    scores = scores[np.isfinite(scores) & explore.survey.frame()]
    percentile = round(100 * (1 - share), 6)
    gate = Gate("scores.anomaly_score", low=float(np.percentile(scores, percentile)), low_percentile=percentile)
    return Line(f"top {100 * share:g} % by anomaly score", gate, context)


def stored_classifiers(survey: Survey) -> Callable[[str], Classifier]:
    """The classifiers that the survey's boundaries refer to, by sha256."""

    def read(sha256: str) -> Classifier:
        path = survey.path / CLASSIFIERS / f"{sha256}.json"
        try:
            return Classifier.from_bytes(path.read_bytes(), sha256)
        except (OSError, ClassifierError) as error:
            raise UsageError(f"the boundary's classifier {path} cannot be used: {error}") from None

    return read


def recovered(scored: Scored, lines: Sequence[Line], boundaries: Boundaries) -> list[Function]:
    """The selection function of each boundary, or why it has none."""
    return [_function(scored, line, boundaries) for line in lines]


def _function(scored: Scored, line: Line, boundaries: Boundaries) -> Function:
    explore, context = scored.explore, line.context
    words = in_words(line.keep, explore.axes(context.run_id, context.map_id))
    looks_at = columns(line.keep)
    if said := boundaries.from_people(line.keep):
        gates = ", ".join(reference.partition(".")[2] for reference in said)
        return Function(line, words, refused=f"not deployable: gate on {gates}, which nobody has said of the planted")
    if context.run_id and context.run_id != scored.run.run_id:
        return Function(line, words, refused=f"it is of run {context.run_id}; plant for that one with --run")
    map_id = context.map_id if any(reference.startswith("maps.") for reference in looks_at) else ""
    try:
        source = scored.source(map_id, context.lambda_, context.mode, stored_classifiers(explore.survey))
        if missing := source.missing(line.keep):
            names = ", ".join(missing)
            return Function(line, words, refused=f"not deployable: the planted have no {names}")
        kept = evaluate(line.keep, source)
    except (ArtifactError, VoorwerpError, ValueError) as error:
        return Function(line, words, refused=str(error))
    own = {f"subjects.{name}" for name in QUALITY_COLUMNS}
    of_hosts = tuple(r for r in looks_at if r.startswith("subjects.") and r not in own)
    hosts, cells = cells_of(scored.planted.table, scored.planted.n_hosts, kept.yes, kept.unknown)
    return Function(line, words, hosts, cells, of_hosts=of_hosts)


def cells_of(
    table: pa.Table, n_hosts: int, kept: np.ndarray, unknown: np.ndarray
) -> tuple[Mapping[str, Any], tuple[Cell, ...]]:
    """What is kept of the hosts as they are, and of each size and flux.

    Parameters
    ----------
    table
        Of `Planted`: the hosts first.
    kept, unknown
        bool (n,), row by row.
    """
    rows, flux, size, inside = (table.column(name).to_numpy() for name in ("host_row", "flux", "size", "inside"))
    host_kept = dict(zip(rows[:n_hosts].tolist(), kept[:n_hosts].tolist(), strict=True))
    was_kept = np.array([host_kept[row] for row in rows.tolist()])
    cells = []
    for one_size in dict.fromkeys(size[n_hosts:].tolist()):
        for one_flux in dict.fromkeys(flux[n_hosts:].tolist()):
            here = (size == one_size) & (flux == one_flux)
            new = here & ~was_kept
            cells.append(
                Cell(
                    one_flux,
                    one_size,
                    rate(int(kept[here].sum()), int(here.sum())),
                    rate(int(kept[new].sum()), int(new.sum())),
                    int(unknown[here].sum()),
                    float(np.median(inside[here])),
                )
            )
    return rate(int(kept[:n_hosts].sum()), n_hosts), tuple(cells)


# --------------------------------------------------------------------------------------------------------------- files
def as_json(scored: Scored, functions: Sequence[Function], command: str = "") -> dict[str, Any]:
    """Everything, with where it came from."""
    survey, run, planted = scored.explore.survey, scored.run, scored.planted
    trained = {one.run_id: one.checkpoint_sha256 for one in survey.runs("train")}
    boundaries = []
    for one in functions:
        line = one.line
        about: dict[str, Any] = {"name": line.name, "version": line.version, "words": one.words}
        about |= line.context.to_json()
        if one.refused:
            boundaries.append(about | {"refused": one.refused})
            continue
        cells = [asdict(cell) for cell in one.cells]
        boundaries.append(about | {"hosts": one.hosts, "host_values_of": list(one.of_hosts), "cells": cells})
    return {
        "voorwerp": "injection",
        "schema": 1,
        "code": __version__,
        "command": command,
        "survey": survey.info.name,
        "survey_id": survey.info.survey_id,
        "run": run.run_id,
        "checkpoint_sha256": trained.get(run.inputs["train"]),
        "plan": planted.plan.told(),
        "unit_of_counts": planted.unit,
        "n_hosts": planted.n_hosts,
        "set_aside": dict(planted.set_aside),
        "hosts_rescored_off_by": scored.off_by,
        "boundaries": boundaries,
    }


def as_csv(scored: Scored, functions: Sequence[Function]) -> str:
    """A line for each boundary, size and flux."""
    plan = scored.planted.plan
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ["boundary", "version", "kind", f"flux_{plan.unit}", f"size_{plan.sizes[0].unit}", "k", "n", "fraction"]
    names += ["low", "high", "n_unknown", "gained_k", "gained_n", "hosts_k", "hosts_n", "inside"]
    writer.writerow(names)
    for one in functions:
        for cell in one.cells:
            kept, gained = cell.kept, cell.gained
            values = [
                re.sub(FORMULA, r"'\1", one.line.name),
                one.line.version,
                plan.kind,
                cell.flux,
                cell.size,
                kept["k"],
                kept["n"],
            ]
            values += [f"{kept['k'] / kept['n']:.6g}", f"{kept['low']:.6g}", f"{kept['high']:.6g}", cell.n_unknown]
            values += [gained["k"], gained["n"], one.hosts["k"], one.hosts["n"], f"{cell.inside:.4g}"]
            writer.writerow(values)
    return out.getvalue()


# -------------------------------------------------------------------------------------------------------------- figure
#: Panels of a figure at most.
MOST_PANELS = 12


class _Panels:
    """Recovered fraction against flux, a line for each size; a panel for each boundary.

    Attributes
    ----------
    height
        mm.
    """

    title = "Recovered of planted sources"

    def __init__(self, scored: Scored, functions: Sequence[Function], width: float) -> None:
        self.scored, self.plan = scored, scored.planted.plan
        self.functions = [one for one in functions if not one.refused][:MOST_PANELS]
        if not self.functions:
            raise UsageError("no boundary has a selection function, so there is nothing to draw")
        self.across = 1 if width < 100 or len(self.functions) == 1 else 2
        self.left, self.gap, self.top = 12.0, 8.0, 6.0
        self.wide = (width - 3.0 - self.left - (self.across - 1) * (self.gap + self.left)) / self.across
        self.high = min(58.0, 0.62 * self.wide)
        self.pitch = self.top + self.high + 9.5
        self.height = self.pitch * math.ceil(len(self.functions) / self.across) + 5.0

    def said(self) -> Iterator[str]:
        """The caption's sentences."""
        plan, planted = self.plan, self.scored.planted
        unit = f" (counts: {planted.unit})" if plan.unit == "counts" else ""
        yield (
            f"Kept of {planted.n_hosts:,} images of the survey with a planted {plan.kind}, by its {plan.title}{unit}, "
            f"and size; PSF {plan.psf} (FWHM). Bars: 95 % intervals (Wilson)."
        )
        yield "Grey: kept of the same images as they are, with its interval; so many are not kept for their source."
        if any(one.of_hosts for one in self.functions):
            names = dict.fromkeys(r.partition(".")[2] for one in self.functions for r in one.of_hosts)
            yield f"Values of {', '.join(names)} are those of the image before."
        yield f"Scores are of run {self.scored.run.run_id}."

    def draw(self, add: Add) -> None:
        """Draw into axes that `add` makes."""
        for k, one in enumerate(self.functions):
            row, column = divmod(k, self.across)
            x = self.left + column * (self.wide + self.gap + self.left)
            self._panel(add(x, row * self.pitch + self.top, self.wide, self.high), one, column == 0)
        strip = add(self.left, self.height - 5.0, self.wide, 4.0)
        strip.set_axis_off()
        for color, size in zip(self._colors(), self.plan.sizes, strict=True):
            strip.plot([], [], color=color, marker="o", markersize=3, linewidth=0.9, label=str(size))
        strip.legend(ncols=8, loc="center left", frameon=False, borderaxespad=0, handlelength=1.6, fontsize=6.0)

    def _colors(self) -> list[str]:
        return [blend(CATEGORIES[k % len(CATEGORIES)], INK, 0.75) for k in range(len(self.plan.sizes))]

    def _panel(self, axes: Any, one: Function, is_first: bool) -> None:
        plan, hosts = self.plan, one.hosts
        axes.axhspan(hosts["low"], hosts["high"], color="#e3e6ea", linewidth=0)
        axes.axhline(hosts["k"] / hosts["n"], color=QUIET, linewidth=0.6, dashes=(3, 2))
        is_log = plan.unit != "mag" and len(plan.fluxes) > 1
        ordered = sorted(plan.fluxes)
        step = min(np.diff(np.log(ordered) if is_log else ordered), default=1.0)
        for k, (color, size) in enumerate(zip(self._colors(), plan.sizes, strict=True)):
            cells = sorted((c for c in one.cells if c.size == size.value), key=lambda c: c.flux)
            aside = 0.06 * step * (k - (len(plan.sizes) - 1) / 2)  # or bars would hide each other
            x = [c.flux * math.exp(aside) if is_log else c.flux + aside for c in cells]
            y = np.array([c.kept["k"] / c.kept["n"] for c in cells])
            low, high = (np.array([c.kept[name] for c in cells]) for name in ("low", "high"))
            bars = np.clip([y - low, high - y], 0, None)
            axes.errorbar(x, y, bars, color=color, marker="o", markersize=3, linewidth=0.9, elinewidth=0.6, capsize=1.5)
        if is_log:
            axes.set_xscale("log")
        axes.set_xticks(ordered, [number(flux) for flux in ordered])
        axes.minorticks_off()
        if plan.unit == "mag":
            axes.invert_xaxis()
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel(plan.title[0].upper() + plan.title[1:], labelpad=2)
        if is_first:
            axes.set_ylabel("Kept of planted", labelpad=2)
        axes.set_title(elided(one.line.title, self.wide, 7.0), size=7.0, pad=3, loc="left")


def figure(scored: Scored, functions: Sequence[Function], width: Width = "double", at: datetime | None = None) -> Drawn:
    """Recovered fraction by flux and size, for every boundary that has one; `figures.written` makes the file.

    Raises
    ------
    UsageError
        None has.
    """
    survey, run, plan = scored.explore.survey, scored.run, scored.planted.plan
    content = _Panels(scored, functions, WIDTHS[width])
    checkpoints = {one.run_id: one.checkpoint_sha256 or "" for one in survey.runs("train")}
    provenance = {
        "survey": f"{survey.info.name} ({survey.info.survey_id})",
        "run": run.run_id,
        "checkpoint": checkpoints.get(run.inputs["train"], "")[:16],
        "planted": f"{plan.kind}, seed {plan.seed}, hosts of the {plan.half} half",
        "Voorwerp": __version__,
    }
    told = {name: value for name, value in provenance.items() if value}
    caption = " ".join([*content.said(), *survey.info.notes])
    return laid_out(content, f"{content.title}, {survey.info.name}", caption, told, width, at=at)
