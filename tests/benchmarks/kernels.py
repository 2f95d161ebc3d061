"""Frames of the map beside datashader's, of the same points in the same order: each kernel alone, without a page."""

import statistics
import time
from collections.abc import Callable

import datashader as ds
import numpy as np
import pandas as pd

from explorer import pyramid, raster
from explorer.cells import CellIndex
from explorer.pyramid import Column
from explorer.raster import Paint, Scale, render
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import cloud

SIZES = {"": 1_500_000, "-10m": 10_000_000}
WIDTH, HEIGHT, ROUNDS = 894, 705, 15
ALTERNATIVE = "datashader Canvas.points, the points in cell order, without shading"


def times(*asks: Callable[[], object], rounds: int = ROUNDS) -> list[list[float]]:
    """Milliseconds of each of some calls, one after the other, round by round: what disturbs one disturbs all."""
    found: list[list[float]] = [[] for _ in asks]
    for _ in range(rounds):
        for ask, took in zip(asks, found, strict=True):
            began = time.perf_counter()
            ask()
            took.append(1000 * (time.perf_counter() - began))
    return found


def of_size(suffix: str, n: int) -> list[Row]:
    """Each kernel on a cloud of n, drawn from end to end; and the count of a twentieth of it, where it is densest."""
    points, score = cloud(n)
    index = CellIndex(points[:, 0], points[:, 1])
    values, kinds = index.sorted(score), (index.rows % 10).astype(np.uint8)
    table = pd.DataFrame({"x": index.x, "y": index.y, "v": values, "k": pd.Categorical.from_codes(kinds, range(10))})
    column = Column(values)
    scales = {a: (Scale.of_spread if a == "std" else Scale.of)(score, "linear") for a in ("max", "mean", "std")}
    paints = {"count": Paint.count()} | {a: Paint.of_column(column, scale, a) for a, scale in scales.items()}  # type: ignore[arg-type]
    paints["category"] = Paint.of_codes(kinds, [str(k) for k in range(10)], "kinds")
    reductions = {"count": ds.count(), "category": ds.by("k", ds.count())}
    reductions |= {a: getattr(ds, a)("v") for a in scales}
    whole = index.bounds
    center, side = np.median(points[::101, :2], axis=0), (whole[1] - whole[0]) / 40
    small = (center[0] - side, center[0] + side, center[1] - side, center[1] + side)
    views = {name: (name, whole) for name in paints} | {"zoomed": ("count", tuple(map(float, small)))}
    found = []

    def canvas(view: tuple[float, ...], name: str) -> object:
        return ds.Canvas(WIDTH, HEIGHT, view[:2], view[2:]).points(table, "x", "y", reductions[name])

    for row, (name, view) in views.items():
        paint, n_in_view = paints[name], render(index, view, WIDTH, HEIGHT, paints[name]).n_in_view
        canvas(view, name)
        ours, theirs = times(
            lambda paint=paint, view=view: render(index, view, WIDTH, HEIGHT, paint),  # type: ignore[misc]
            lambda view=view, name=name: canvas(view, name),  # type: ignore[misc]
        )
        found.append(told(f"kernels-{row}{suffix}", f"{n_in_view:,} points in view, {name}", ours, theirs))
    if n > raster.BUDGET:
        paint = paints["max"]
        while not render(index, whole, WIDTH, HEIGHT, paint, coarse=True).is_coarse:  # made when asked for twice
            pyramid._maker.submit(lambda: None).result()
        ours, theirs = times(
            lambda: render(index, whole, WIDTH, HEIGHT, paint, coarse=True), lambda: canvas(whole, "max")
        )
        note = "ours is drawn of cells, as while the map moves; theirs of all points"
        found.append(told(f"kernels-coarse{suffix}", f"{n:,} points in view, max", ours, theirs, note))
    return found


def told(name: str, what: str, ours: list[float], theirs: list[float], note: str = "") -> Row:
    """A row of medians; ours ends with the bytes of a frame, theirs with an array of numbers."""
    us, them = statistics.median(ours), statistics.median(theirs)
    what = (
        f"{what}, {WIDTH} × {HEIGHT} px: one frame, median of {len(ours)} (fastest {min(ours):.1f}, {min(theirs):.1f})"
    )
    return Row(name, what, us, them, them / us, "ms", ALTERNATIVE, target=1, note=note, each=ours, theirs_each=theirs)


def rows() -> list[Row]:
    """Every kernel, at each size."""
    raster.warm()
    return [row for suffix, n in SIZES.items() for row in of_size(suffix, n)]


ROWS = {"kernels": rows}
