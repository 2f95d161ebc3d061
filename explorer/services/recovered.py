"""Selection functions: what each boundary keeps of planted sources, by flux and size; as JSON, CSV and a figure."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from explorer import __version__
from explorer.errors import SurveyError
from explorer.services.crowd import rate
from explorer.services.explore import Explore
from explorer.services.foreign import Scorer
from explorer.services.injecting import Scored
from models.artifacts import ArtifactError
from models.boundary import Gate, Term, columns, evaluate, in_words
from models.images import QUALITY_COLUMNS
from models.mixing import Mode


@dataclass(frozen=True, slots=True)
class Line:
    """A boundary whose selection function is asked for, with the context that it was drawn in."""

    name: str
    keep: Term
    run_id: str
    map_id: str
    lambda_: float
    mode: Mode
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
    hosts: Mapping[str, Any] | None = None
    cells: tuple[Cell, ...] = ()
    refused: str = ""
    of_hosts: tuple[str, ...] = ()


def top_line(explore: Explore, run_id: str, map_id: str, lambda_: float, mode: Mode, share: float) -> Line:
    """The top of the survey by anomaly score as a boundary, its limit as a raw score."""
    scores = explore.values("scores.anomaly_score", run_id, lambda_, mode)
    scores = scores[np.isfinite(scores)]
    limit = float(np.quantile(scores, 1 - share))
    gate = Gate("scores.anomaly_score", low=limit, low_percentile=100 * (1 - share))
    return Line(f"top {100 * share:g} % by anomaly score", gate, run_id, map_id, lambda_, mode)


def recovered(
    scored: Scored,
    lines: Sequence[Line],
    classifier: Callable[[str], Scorer] | None = None,
) -> list[Function]:
    """The selection function of each boundary, or why it has none."""
    found = []
    for line in lines:
        titles = scored.explore.axes(line.run_id, line.map_id)
        words = in_words(line.keep, titles)
        refused = _refusal(scored, line)
        if refused:
            found.append(Function(line, words, refused=refused))
            continue
        source = scored.source(line.map_id, line.lambda_, line.mode, classifier)
        if missing := source.missing(line.keep):
            found.append(Function(line, words, refused=_missing(scored, missing)))
            continue
        kept = evaluate(line.keep, source)
        own = {f"subjects.{name}" for name in QUALITY_COLUMNS}
        of_hosts = tuple(r for r in columns(line.keep) if r.startswith("subjects.") and r not in own)
        hosts, cells = cells_of(scored.planted.table, scored.planted.n_hosts, kept.yes, kept.unknown)
        found.append(Function(line, words, hosts, cells, of_hosts=of_hosts))
    return found


def _refusal(scored: Scored, line: Line) -> str:
    if line.run_id and line.run_id != scored.run.run_id:
        return f"it is of run {line.run_id}; plant for that one with --run"
    if line.map_id and any(reference.startswith("maps.") for reference in columns(line.keep)):
        try:
            scored.placed(line.map_id)
        except (ArtifactError, SurveyError) as error:
            return f"its map cannot be used: {error}"
    return ""


def _missing(scored: Scored, missing: Sequence[str]) -> str:
    crowd = {f"subjects.{name}" for name in scored.explore.survey.columns_of_crowd()}
    names = [name.partition(".")[2] or name for name in missing]
    if any(name in crowd for name in missing):
        gates = [name.partition(".")[2] for name in missing if name in crowd]
        return f"not deployable: gate on {', '.join(gates)}, which is made of what volunteers said"
    return f"not deployable: it looks at {', '.join(names)}, which planted copies do not have"


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
        about |= {"run": line.run_id, "map": line.map_id, "lambda": line.lambda_, "mode": line.mode}
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
            assert one.hosts is not None
            kept, gained = cell.kept, cell.gained
            values = [_harmless(one.line.name), one.line.version, plan.kind, cell.flux, cell.size, kept["k"], kept["n"]]
            values += [f"{kept['k'] / kept['n']:.6g}", f"{kept['low']:.6g}", f"{kept['high']:.6g}", cell.n_unknown]
            values += [gained["k"], gained["n"], one.hosts["k"], one.hosts["n"], f"{cell.inside:.4g}"]
            writer.writerow(values)
    return out.getvalue()


def _harmless(text: str) -> str:
    """A name that no spreadsheet runs."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
