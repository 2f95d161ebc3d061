"""Lines over the map: of equal density, and where the mean of a value passes a level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from contourpy import contour_generator
from scipy.ndimage import distance_transform_edt, gaussian_filter

from explorer.cells import CellIndex, View
from explorer.pyramid import Column
from explorer.raster import BUDGET, counted, in_order, points_within, summed


@dataclass(frozen=True, slots=True)
class Contour:
    """A line of equal density.

    Attributes
    ----------
    share
        Of the subjects in view that stand where it is at least as dense.
    lines
        float64 (k, 2) each, data coordinates; a closed one ends where it begins.
    """

    share: float
    lines: list[np.ndarray]


def contours(index: CellIndex, view: View, shares: tuple[float, ...] = (0.5, 0.8, 0.95)) -> list[Contour]:
    """Lines around the densest places of a view that hold the given shares of its subjects; [] for fewer than ten.

    Density is a count on a grid of 240 × 240 cells over where the subjects in view are but for the farthest few,
    smoothed by a Gaussian that narrows as the subjects become more (as n^-1/6, Scott's rule for two dimensions) and
    takes in what lies just outside; it fades out a few cells away from any subject.
    """
    n, (x0, x1, y0, y1) = _held(index, view)
    if n < 10:
        return []
    cells, pad = 240, 64
    dx, dy = (x1 - x0) / cells, (y1 - y0) / cells
    wide = (x0 - pad * dx, x1 + pad * dx, y0 - pad * dy, y1 + pad * dy)
    counts, _ = counted(index, wide, cells + 2 * pad, cells + 2 * pad, coarse=True)
    inner = slice(pad, pad + cells)
    density = gaussian_filter(counts.astype(np.float32), np.clip(0.14 * cells * n ** (-1 / 6), 1.5, pad / 4))
    away = distance_transform_edt(counts == 0) - max(2.0, cells / math.sqrt(n))  # a mean spacing is near
    density *= np.exp(-(np.maximum(0, away) ** 2) / 4)
    order = np.argsort(-density[inner, inner], axis=None, kind="stable")
    held = np.cumsum(counts[inner, inner].ravel()[order])
    edge = slice(pad - 1, pad + cells + 1)  # lines run up to the frame
    at = np.arange(-0.5, cells + 1)
    lines = contour_generator(x0 + at * dx, y0 + at * dy, density[edge, edge])
    found = []
    for share in shares:
        level = density[inner, inner].ravel()[order[min(int(np.searchsorted(held, share * n)), order.size - 1)]]
        found.append(Contour(share, [np.asarray(line) for line in lines.lines(float(level))]))
    return found


def mean_lines(
    index: CellIndex, view: View, values: np.ndarray, levels: tuple[float, ...] = (0.25, 0.5, 0.75)
) -> dict[float, list[np.ndarray]]:
    """Lines where the mean of a cell passes a level: level → float64 (k, 2) each, in data coordinates.

    Cells are squares of a grid over where the subjects in view are but for the farthest few, the more the more subjects
    there are: about four to a cell, 12 to 120 cells a side. A cell's mean is of its own subjects, counted fourfold, of
    those of the four cells beside it, counted twice, and of those at its corners. There is no mean, and no line, where
    these counts are not four: where it has none with a value of its own, and few around it. {} for fewer than ten in
    view.

    Parameters
    ----------
    values
        float (N,) in row order, NaN where missing.
    """
    n, (x0, x1, y0, y1) = _held(index, view)
    if n < 10:
        return {}
    cells = int(np.clip(math.sqrt(n / 4), 12, 120))
    dx, dy = (x1 - x0) / cells, (y1 - y0) / cells
    x0, x1, y0, y1 = x0 - dx, x1 + dx, y0 - dy, y1 + dy  # lines run up to the frame
    shape = (cells + 2, cells + 2)
    known, total = summed(index, (x0, x1, y0, y1), *shape, Column(in_order(index, values)))
    sums, weights = _with_neighbors(total), _with_neighbors(known)
    mean = np.ma.masked_invalid(np.divide(sums, weights, out=np.full(shape, np.nan), where=weights >= 4))
    at = np.arange(-0.5, cells + 1)
    lines = contour_generator(x0 + dx * (at + 1), y0 + dy * (at + 1), mean)
    return {level: [np.asarray(line) for line in lines.lines(level)] for level in levels}


def _with_neighbors(grid: np.ndarray) -> np.ndarray:
    """Every cell four times, its neighbors twice, those at its corners once."""
    wide = np.pad(grid, 1)
    tall = wide[:-2] + 2 * wide[1:-1] + wide[2:]
    together: np.ndarray = tall[:, :-2] + 2 * tall[:, 1:-1] + tall[:, 2:]
    return together


def _held(index: CellIndex, view: View) -> tuple[int, View]:
    """How many are in view, and the part of it that holds them: but for one in a thousand on each side."""
    x0, x1, y0, y1 = view
    if points_within(index, view) > 4 * BUDGET:
        return _held_by_cells(index, view)
    cx0, cx1, cy0, cy1 = index.box(view)
    rows = np.arange(cy0, cy1 + 1) * index.grid
    runs = [slice(a, b) for a, b in zip(index.start[rows + cx0], index.start[rows + cx1 + 1], strict=True)]
    x, y = (np.concatenate([v[run] for run in runs]) if runs else v[:0] for v in (index.x, index.y))
    within = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
    n = int(within.sum())
    part: list[float] = []
    for values, low, high in ((x, x0, x1), (y, y0, y1)):
        known = values[within][:: max(1, n // 100_000)]  # in the order of their cells: an even sample
        a, b = np.quantile(known, (0.001, 0.999)) if known.size else (low, high)
        part += _with_margin(a, b, low, high)
    return n, (part[0], part[1], part[2], part[3])


def _held_by_cells(index: CellIndex, view: View) -> tuple[int, View]:
    """As `_held`, of so many that counts of a thousand strips each way say it as well."""
    counts, n = counted(index, view, 1000, 1000, coarse=True)
    part: list[float] = []
    for axis, (low, high) in enumerate((view[:2], view[2:])):
        held = np.cumsum(counts.sum(axis=axis, dtype=np.int64))
        first, last = np.searchsorted(held, (0.001 * held[-1], 0.999 * held[-1]))
        step = (high - low) / 1000
        part += _with_margin(low + first * step, low + (last + 1) * step, low, high)
    return n, (part[0], part[1], part[2], part[3])


def _with_margin(a: float, b: float, low: float, high: float) -> list[float]:
    margin = 0.1 * (b - a) + 1e-3 * (high - low)
    return [max(low, float(a - margin)), min(high, float(b + margin))]
