"""Who of 1.5 million is inside a drawn outline, exactly: the map's index, beside matplotlib's test of each point."""

import statistics
import time
from collections.abc import Callable

import numpy as np
from matplotlib.path import Path as Outline

from explorer.cells import CellIndex
from explorer.raster import warm
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import cloud

N, VERTICES, ROUNDS = 1_500_000, 200, 9
WANTED_MS = 40


def outlines(points: np.ndarray) -> dict[str, np.ndarray]:
    """Two that a hand might draw, of different size, and one whose edges all cross each other: float64 (200, 2)."""
    random = np.random.default_rng(0)
    half = np.ptp(points, axis=0) / 2
    turn = np.linspace(0, 2 * np.pi, VERTICES, endpoint=False)
    drawn = {}
    for name, reach in (("small", 0.3), ("large", 0.6)):
        radius = reach * (1 + 0.2 * np.cos(7 * turn) + 0.02 * random.normal(size=VERTICES))
        drawn[name] = np.column_stack((np.cos(turn), np.sin(turn))) * radius[:, None]
    drawn["crossing"] = random.uniform(-0.7, 0.7, (VERTICES, 2))
    return {name: path * half + points.min(axis=0) + half for name, path in drawn.items()}


def median_ms(ask: Callable[[], object], rounds: int) -> float:
    """Milliseconds of the middle one of some rounds."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        ask()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times)


def rows() -> list[Row]:
    """Ours ends with one bool a subject, in row order; equal to theirs, or the row fails."""
    points = cloud(N)[0][:, :2].astype(np.float32)
    wide = points.astype(np.float64)
    warm()
    index = CellIndex(points[:, 0], points[:, 1])
    found = []
    for name, outline in outlines(wide).items():
        ours, theirs = index.inside(outline).mask(), Outline(outline).contains_points(wide)
        if not 0 < ours.sum() < N or not np.array_equal(ours, theirs):
            raise RuntimeError(f"{name}: {ours.sum():,} are inside, {int(theirs.sum()):,} for matplotlib")
        us = median_ms(lambda outline=outline: index.inside(outline).mask(), ROUNDS)  # type: ignore[misc]
        them = median_ms(lambda outline=outline: Outline(outline).contains_points(wide), 3)  # type: ignore[misc]
        found.append(
            Row(
                f"polygon-{name}",
                f"{N:,} synthetic subjects, {VERTICES} vertices, {int(ours.sum()):,} inside: exact membership",
                us,
                them,
                them / us,
                "ms",
                "matplotlib's Path.contains_points of the same points: equal answers",
                target=5.0,
                limit=WANTED_MS,
            )
        )
    return found


ROWS = {"polygon": rows}
