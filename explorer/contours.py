"""Lines over the map: of equal density, and where the mean of a value passes a level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from contourpy import contour_generator
from scipy.ndimage import distance_transform_edt, gaussian_filter

from explorer.cells import CellIndex, View
from explorer.raster import _count, _sums


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
    counts = np.zeros((2, cells + 2 * pad, cells + 2 * pad), np.uint32)
    place = (index.x, index.y, index.rows, np.zeros(1, np.uint64), index.start, index.grid, *index._box(wide))
    _count(*place, wide[0], wide[2], 1 / dx, 1 / dy, counts, False)
    inner = slice(pad, pad + cells)
    density = gaussian_filter(counts[1].astype(np.float32), np.clip(0.14 * cells * n ** (-1 / 6), 1.5, pad / 4))
    away = distance_transform_edt(counts[1] == 0) - max(2.0, cells / math.sqrt(n))  # a mean spacing is near
    density *= np.exp(-(np.maximum(0, away) ** 2) / 4)
    order = np.argsort(-density[inner, inner], axis=None, kind="stable")
    held = np.cumsum(counts[1, inner, inner].ravel()[order])
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
    shape = (2, cells + 2, cells + 2)
    total, known, count = np.zeros(shape, np.float32), np.zeros(shape, np.uint32), np.zeros(shape, np.uint32)
    place = (index.x, index.y, index.rows, np.zeros(1, np.uint64), index.start, index.grid)
    told = np.asarray(values, np.float32)[index.rows]
    _sums(*place, *index._box((x0, x1, y0, y1)), x0, y0, 1 / dx, 1 / dy, told, total, known, count, False)
    sums, weights = (_with_neighbors(grid[1].astype(np.float64)) for grid in (total, known))
    mean = np.ma.masked_invalid(np.divide(sums, weights, out=np.full(shape[1:], np.nan), where=weights >= 4))
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
    within = (index.x >= x0) & (index.x <= x1) & (index.y >= y0) & (index.y <= y1)
    n = int(within.sum())
    part: list[float] = []
    for values, low, high in ((index.x, x0, x1), (index.y, y0, y1)):
        known = values[within][:: max(1, n // 100_000)]  # in the order of their cells: an even sample
        a, b = np.quantile(known, (0.001, 0.999)) if known.size else (low, high)
        margin = 0.1 * (b - a) + 1e-3 * (high - low)
        part += [max(low, float(a - margin)), min(high, float(b + margin))]
    return n, (part[0], part[1], part[2], part[3])
