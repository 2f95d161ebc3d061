"""A billion synthetic subjects on one map: its index made out of core within 4 GiB, opened, drawn and picked from.

Too many for a survey (its subject ids alone are 8 GB), so that this is the index and the renderer by themselves.
``VOORWERP_BENCH_BILLION`` sets another number of subjects, ``VOORWERP_BENCH_SURVEYS`` the folder that takes 33 bytes a
subject (28 while it is made) until the row is done.
"""

import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from explorer.cells import CellIndex, View
from explorer.pyramid import Column
from explorer.raster import Frame, Paint, Scale, render
from explorer.services.shards import Source, build
from tests.benchmarks.row import Row
from tests.benchmarks.synthetic import KEPT, N_BLOBS

N = int(os.environ.get("VOORWERP_BENCH_BILLION", 1_000_000_000))
CHUNK = 1 << 22
#: Anonymous memory that making and using the index may take.
LIMIT = 4 << 30


def write_arrays(folder: Path, n: int) -> None:
    """``x.npy``, ``y.npy`` and ``score.npy`` of n points in 60 blobs, in no order: float32, 12 bytes a point."""
    rng = np.random.default_rng(0)
    center = rng.uniform(-10, 10, (2, N_BLOBS)).astype(np.float32)
    width = (rng.gamma(2.0, 0.25, N_BLOBS) + 0.05).astype(np.float32)
    weight = rng.dirichlet(np.full(N_BLOBS, 1.5))
    blob_of = np.searchsorted(np.cumsum(weight), (np.arange(1 << 16) + 0.5) / (1 << 16)).clip(0, N_BLOBS - 1)
    files = {name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (n,)) for name in "xy"}
    files["score"] = np.lib.format.open_memmap(folder / "score.npy", "w+", np.float32, (n,))

    def write(first: int) -> None:
        part = slice(first, min(n, first + CHUNK))
        m, chance = part.stop - first, np.random.default_rng(first + 1)
        blob = blob_of[chance.integers(0, 1 << 16, m, np.uint16)]
        x, y = (chance.standard_normal(m, np.float32) * width[blob] + center[k][blob] for k in (0, 1))
        files["x"][part], files["y"][part] = x, y
        files["score"][part] = 1 / (1 + np.exp(-(x * 0.2 + y * 0.1 + chance.standard_normal(m, np.float32) * 0.7)))

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as executor:
        for _ in executor.map(write, range(0, n, CHUNK)):
            pass
    for array in files.values():
        array.flush()


class Memory:
    """RssAnon of this process, looked at all the time; `peak` in bytes."""

    def __init__(self) -> None:
        self.peak = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._end.wait(0.02):
            self.peak = max(self.peak, anonymous())

    def close(self) -> int:
        """Stop; the peak."""
        self._end.set()
        self._thread.join()
        return self.peak


def anonymous() -> int:
    """RssAnon of this process, bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


# ----------------------------------------------------------------------------------------------- the alternatives
#: Subjects that an alternative is given: it scans all of them, so that N take N / SAMPLE times as long.
SAMPLE = 10_000_000
WIDTH, HEIGHT = 894, 705
#: Of the map's width, that views show.
SHARES = (1.0, 0.1, 0.01)


def timed(work: Callable[[], Any], n: int = 1) -> list[float]:
    """Seconds of n calls."""
    found = []
    for _ in range(n):
        begin = time.perf_counter()
        work()
        found.append(time.perf_counter() - begin)
    return found


def by_argsort(x: np.ndarray, y: np.ndarray, score: np.ndarray, grid: int) -> None:
    """The index as numpy makes it in memory: cell of each point, a stable argsort, and four columns in that order."""
    cx = ((x - x.min()) * ((grid - 1) / np.ptp(x))).astype(np.int32)
    cy = ((y - y.min()) * ((grid - 1) / np.ptp(y))).astype(np.int32)
    cells = cy * grid + cx
    order = np.argsort(cells, kind="stable")
    _ = x[order], y[order], score[order], order.astype(np.uint32)
    np.cumsum(np.bincount(cells, minlength=grid * grid))


def lasso(center: tuple[float, float], radius: float) -> np.ndarray:
    """An outline of 100 vertices as a hand draws it."""
    angle = np.linspace(0, 2 * np.pi, 100, endpoint=False)
    reach = radius * (1 + 0.2 * np.sin(5 * angle))
    return np.column_stack([center[0] + reach * np.cos(angle), center[1] + reach * np.sin(angle)])


def views(index: CellIndex, share: float, n: int = 12) -> list[View]:
    """Views of a share of the map's width, around subjects taken at random."""
    x0, x1, y0, y1 = index.bounds
    wide, tall = (x1 - x0) * share / 2, (y1 - y0) * share / 2
    chosen = np.random.default_rng(7).integers(0, len(index), n)
    if share >= 1:
        return [index.bounds] * n
    return [
        (float(x) - wide, float(x) + wide, float(y) - tall, float(y) + tall)
        for x, y in zip(index.x[chosen], index.y[chosen], strict=True)
    ]


def sample(folder: Path, n: int) -> tuple[list[np.ndarray], float]:
    """x, y and score of the first subjects, in memory, and how many times as many there are."""
    few = min(n, SAMPLE)
    names = ("x", "y", "score")
    return [np.array(np.load(folder / f"{k}.npy", mmap_mode="r", allow_pickle=False)[:few]) for k in names], n / few


def making(folder: Path, n: int) -> list[Row]:
    """Make the index of the arrays in a folder."""
    memory, marks, begin, used = Memory(), dict[float, float](), time.perf_counter(), time.process_time()

    def progress(share: float) -> None:
        if round(20 * share) / 20 not in marks:
            marks[round(20 * share) / 20] = time.perf_counter() - begin
            print(f"{share:.0%} in {time.perf_counter() - begin:,.0f} s, {memory.peak / 2**20:,.0f} MiB", flush=True)

    index = build(folder / "index", Source.of_arrays(folder, ["score"]), progress=progress)
    seconds, used, peak = time.perf_counter() - begin, time.process_time() - used, memory.close()
    sizes = {file.name: file.stat().st_size for file in (folder / "index").rglob("*.npy")}
    (x, y, score), times = sample(folder, n)
    each = [times * s for s in timed(lambda: by_argsort(x, y, score, index.grid), 3)]
    theirs = statistics.median(each)
    return [
        Row(
            name="billion-build",
            what=f"{n:,} synthetic points and a score: the index and what pyramids begin with, out of core",
            ours=seconds,
            theirs=theirs,
            ratio=theirs / seconds,
            unit="s",
            alternative=f"numpy's argsort by cell and four takes {of_sample(n)}, nothing written",
            note=f"{used:,.0f} s of processor time; {sum(sizes.values()) / n:.1f} bytes a subject on the disk",
            extra={"processor_s": used, "marks": marks, "bytes": sizes, "n": n, "grid": index.grid, "theirs": each},
        ),
        of_memory("billion-build-memory", "while the index is made", peak),
    ]


def of_sample(n: int) -> str:
    """What an alternative is measured of."""
    return f"of {min(n, SAMPLE):,} subjects in memory, × {n / min(n, SAMPLE):g}"


def of_memory(name: str, what: str, peak: int) -> Row:
    """A row of the most anonymous memory."""
    ours, theirs = peak / 2**20, LIMIT / 2**20
    said = f"most anonymous memory {what}"
    return Row(name, said, ours, theirs, theirs / ours, "MiB", "what it may take", target=1)


def using(folder: Path, n: int) -> list[Row]:
    """Open the index, draw it and pick from it."""
    import datashader
    import pandas as pd
    from matplotlib.path import Path as Outline

    memory = Memory()
    opened = timed(lambda: CellIndex.open(folder / "index"), 3)
    index = CellIndex.open(folder / "index")
    wide = index.bounds[1] - index.bounds[0]
    column = index.read_column("score")
    assert column is not None
    scale = Scale.of(np.array(column[:: max(1, n // 1_000_000)]), "percentile")
    paints = {
        "count": Paint.count(),
        "score": Paint.of_column(
            Column(column, center=scale.value(0.5), key="score", beside=folder / "index" / "columns" / "score"),
            scale,
            "max",
        ),
    }
    drawn: dict[tuple[str, float, str], dict[str, Any]] = {}
    for (name, paint), share, kind in product(paints.items(), SHARES, ("coarse", "exact")):
        many = views(index, share, 2 if share == 1 and kind == "exact" else 12)

        def draw(view: View, paint: Paint = paint, is_coarse: bool = kind == "coarse") -> Frame:
            return render(index, view, WIDTH, HEIGHT, paint, coarse=is_coarse)

        first = [1000 * timed(partial(draw, view))[0] for view in many]
        again = [1000 * timed(partial(draw, view))[0] for view in many]
        frame = draw(many[0])
        told = {"n": frame.n_in_view, "is_coarse": frame.is_coarse, "first": first, "again": again}
        drawn[name, share, kind] = told
        print(name, share, kind, {**told, "first": statistics.median(first), "again": statistics.median(again)})
        if out := os.environ.get("VOORWERP_BENCH_PICTURES"):
            Image.fromarray(frame.pixels[::-1]).save(Path(out) / f"{name}-{share:g}-{kind}.png")
    chosen = np.random.default_rng(8).integers(0, len(index), 200)
    places = list(zip(index.x[chosen].tolist(), index.y[chosen].tolist(), strict=True))
    reach = 0.01 * wide / WIDTH * 5  # five pixels, of a view of a hundredth of the width
    picked = [timed(partial(index.nearest, x, y, reach, reach))[0] for x, y in places]
    outlines = {share: lasso(places[0], share * wide) for share in (0.02, 0.1)}
    inside = {share: timed(partial(index.inside, outline), 3) for share, outline in outlines.items()}
    counts = {share: index.inside(outline).count for share, outline in outlines.items()}
    peak = memory.close()

    (x, y, score), times = sample(folder, n)
    points = pd.DataFrame({"x": x, "y": y, "score": score})
    rows = [of_memory("billion-use-memory", "while it is drawn and picked from", peak)]
    rows[0].extra["open_s"] = opened
    for (name, share, kind), told in drawn.items():
        low_x, high_x, low_y, high_y = views(index, share)[0]
        canvas = datashader.Canvas(WIDTH, HEIGHT, (low_x, high_x), (low_y, high_y))
        work = partial(
            canvas.points, points, "x", "y", datashader.count() if name == "count" else datashader.max("score")
        )
        work()
        ours, theirs = statistics.median(told["again"]), 1000 * times * statistics.median(timed(work, 3))
        what = f"{told['n']:,} subjects in the first view, {len(told['again'])} views, {WIDTH} × {HEIGHT} px"
        rows.append(
            Row(
                name=f"billion-{name}-{share:g}-{kind}",
                what=f"a frame by {name} of {share:.0%} of the map's width, {kind}, seen before; {what}",
                ours=ours,
                theirs=theirs,
                ratio=theirs / ours,
                unit="ms",
                alternative=f"datashader's Canvas.points {of_sample(n)}",
                note=f"at first sight {statistics.median(told['first']):,.1f}" + kind_note(told, kind),
                extra=told,
            )
        )
    near = statistics.median(picked)
    px, py = places[0]
    scan = times * statistics.median(timed(lambda: int(np.argmin((x - px) ** 2 + (y - py) ** 2)), 3))
    rows.append(
        Row(
            name="billion-nearest",
            what=f"the subject nearest to a place; median of {len(picked)} places",
            ours=1000 * near,
            theirs=1000 * scan,
            ratio=scan / near,
            unit="ms",
            alternative=f"numpy's argmin of the distances {of_sample(n)}",
            note=f"95th percentile {1000 * np.quantile(picked, 0.95):.2f}",
        )
    )
    xy = np.column_stack([x, y])
    for share, took in inside.items():
        test = times * timed(partial(Outline(outlines[share]).contains_points, xy))[0]
        rows.append(
            Row(
                name=f"billion-lasso-{share:g}",
                what=f"who is inside an outline of 100 vertices: {counts[share]:,}",
                ours=1000 * statistics.median(took),
                theirs=1000 * test,
                ratio=test / statistics.median(took),
                unit="ms",
                alternative=f"matplotlib's Path.contains_points {of_sample(n)}",
                note=f"at first {1000 * took[0]:,.0f}",
                extra={"each": took},
            )
        )
    return rows


def kind_note(told: dict[str, Any], kind: str) -> str:
    """What a frame turned out to be that was allowed to be coarse."""
    return "; few enough to be drawn one by one" if kind == "coarse" and not told["is_coarse"] else ""


def billion() -> list[Row]:
    """The rows, and nothing left of what they were measured on."""
    KEPT.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="billion-", dir=KEPT.parent) as name:
        write_arrays(Path(name), N)
        return making(Path(name), N) + using(Path(name), N)


LONG_ROWS = {"billion": billion}
