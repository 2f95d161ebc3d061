"""``voorwerp create --cut-out MOSAIC --catalogue TABLE`` beside astropy's `Cutout2D`; and one mosaic of 4 GB."""

import csv
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS

from explorer.ingest.cut_outs import create_cut_outs
from explorer.ingest.decoder import n_cores
from explorer.ingest.images import CreateOptions
from explorer.survey import Survey
from models.images import Stretch
from tests.benchmarks.create import peak_of
from tests.benchmarks.row import Row
from tests.mosaics import write_mosaic

ROUNDS = 3
EXTENT = 64
#: Values shown as 0 and as 1.
LOW, HIGH = -5.0, 50.0


def ours(survey: Path, image: Path, catalogue: Path, originals: Literal["keep", "link"]) -> None:
    """The whole of ``voorwerp create --cut-out``, decoding processes included."""
    stretch = Stretch("linear", low=(LOW,), high=(HIGH,))
    options = CreateOptions(EXTENT, extent=EXTENT, id_column="id", stretch=stretch, originals=originals)
    for _ in create_cut_outs(survey, [image], options, catalogue):
        pass


def theirs(target: Path, image: Path, catalogue: Path) -> None:
    """A loop to the same pixels: one `Cutout2D` of the memory-mapped mosaic each, stretched, one array, one file."""
    with catalogue.open(newline="") as file:
        places = [(float(row["ra"]), float(row["dec"])) for row in csv.DictReader(file)]
    crops = np.empty((len(places), EXTENT, EXTENT, 1), np.uint8)
    with fits.open(image, memmap=True) as opened:
        wcs = WCS(opened[0].header)
        x, y = wcs.all_world2pix(*np.transpose(places), 0)
        for i in range(len(places)):
            values = Cutout2D(opened[0].data, (x[i], y[i]), EXTENT).data.astype(np.float32)
            shown = np.clip((values[::-1] - np.float32(LOW)) / np.float32(HIGH - LOW), 0, 1)
            crops[i, :, :, 0] = np.floor(shown * np.float32(255) + np.float32(0.5))
    np.save(target, crops)


def speed() -> list[Row]:
    """Median seconds of alternating rounds; the first of each warms the file cache and is not counted."""
    side, n = 6144, 3_000
    seconds: dict[str, list[float]] = {"theirs": [], "link": [], "keep": []}
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-cut-out-") as name:
        folder = Path(name)
        image, catalogue = write_mosaic(folder, side, n)

        def timed(what: str, act: Callable[[], None]) -> None:
            start = time.perf_counter()
            act()
            seconds[what].append(time.perf_counter() - start)

        for _ in range(ROUNDS + 1):
            timed("theirs", lambda: theirs(folder / "crops.npy", image, catalogue))
            for each in ("link", "keep"):
                shutil.rmtree(folder / each, ignore_errors=True)
                timed(each, partial(ours, folder / each, image, catalogue, each))
        for originals in ("link", "keep"):
            opened = Survey.open(folder / originals)
            if not np.array_equal(opened.images[:], np.load(folder / "crops.npy")):
                raise RuntimeError("the two ways do not give the same pixels")
            opened.close()
    median = {what: statistics.median(each[1:]) for what, each in seconds.items()}
    what = (
        f"{n:,} cut-outs of {EXTENT} px from a FITS mosaic of {side:,} × {side:,} px, {n_cores()} cores, median of "
        f"{ROUNDS} alternating rounds"
    )
    notes = {
        "link": "ours also writes thumbnails, quality, hashes, sky positions, and syncs them to disk",
        "keep": f"ours also keeps {3 * EXTENT} px around each as FITS with its WCS, compressed",
    }
    alternative = "one process: astropy.nddata.Cutout2D of the memory-mapped mosaic, np.save: equal pixels"
    return [
        Row(
            "cut-out" if originals == "link" else f"cut-out-{originals}",
            f"{what}, --originals {originals}",
            median[originals],
            median["theirs"],
            median["theirs"] / median[originals],
            "s",
            alternative,
            note=note,
            extra=dict(seconds),
        )
        for originals, note in notes.items()
    ]


def memory() -> Row:
    """Seconds and peak memory of 100,000 cut-outs from a mosaic of 4 GiB."""
    side, n, limit = 32_768, 100_000, 2_048.0
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-cut-out-") as name:
        folder = Path(name)
        image, catalogue = write_mosaic(folder, side, n)
        arguments: list[Any] = [folder / "survey", "--cut-out", image, "--catalogue", catalogue, "--id-column", "id"]
        peak, seconds = peak_of([*arguments, "--size", 32, "--extent", 32])
        opened = Survey.open(folder / "survey")
        n_subjects = opened.n
        opened.close()
    if n_subjects != n:
        raise RuntimeError(f"{n_subjects:,} of {n:,} places became subjects")
    return Row(
        "cut-out-memory",
        f"peak memory of all processes: {n:,} cut-outs of 32 px from a mosaic of {side:,} × {side:,} float32 (4 GiB)",
        peak,
        limit,
        limit / peak,
        "MiB",
        "the 2 GiB it may take",
        target=1,
        note=f"in {seconds:,.0f} s, with {3 * 32} px around each kept as FITS",
        extra={"seconds": seconds},
    )


LONG_ROWS = {"cut-out": speed, "cut-out-memory": memory}
