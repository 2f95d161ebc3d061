"""``voorwerp create`` beside the loop that a user writes with Pillow; and its memory at ten times the images."""

import csv
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

from explorer.ingest.build import SHARD
from explorer.ingest.decoder import n_cores
from explorer.ingest.images import CreateOptions, create
from explorer.survey import Survey
from models.images import area_average
from tests.benchmarks.row import Row
from tests.interruptions import digest_of, kill_and_compare, killed

GALAXIES = Path(__file__).parents[2] / ".." / "shared" / "data" / "gz1_images"
ROUNDS = 5
SIZE, EXTENT = 64, 212


def listed() -> list[dict[str, str]]:
    """The manifest's rows."""
    if not GALAXIES.is_dir():
        raise FileNotFoundError(f"the real galaxies are not here ({GALAXIES} does not exist)")
    with (GALAXIES / "labels.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


def plain(paths: list[Path], target: Path) -> None:
    """A loop to the same pixels: decode, cut the center, average exactly, one array, one file; and nothing else."""
    crops = np.empty((len(paths), SIZE, SIZE, 3), np.uint8)
    for i, path in enumerate(paths):
        crops[i] = np.floor(area_average(np.asarray(center(path)), SIZE) + 0.5)
    np.save(target, crops)


def plain_box(paths: list[Path], target: Path) -> None:
    """The same with Pillow's BOX filter, which takes or leaves whole pixels: quicker, other pixels."""
    crops = np.empty((len(paths), SIZE, SIZE, 3), np.uint8)
    for i, path in enumerate(paths):
        crops[i] = np.asarray(center(path).resize((SIZE, SIZE), Image.Resampling.BOX))
    np.save(target, crops)


def center(path: Path) -> Image.Image:
    """The part that is cut out."""
    with Image.open(path) as image:
        left, top = (image.width - EXTENT) // 2, (image.height - EXTENT) // 2
        return image.convert("RGB").crop((left, top, left + EXTENT, top + EXTENT))


def ours(folder: Path) -> None:
    """The whole of ``voorwerp create``, decoding processes included."""
    options = CreateOptions(SIZE, "center", EXTENT, path_column="filename", id_column="OBJID")
    for _ in create(folder, [GALAXIES / "labels.csv"], options):
        pass


def speed() -> list[Row]:
    """Median seconds of alternating rounds; the first of each warms the file cache and is not counted."""
    paths = [GALAXIES / row["filename"] for row in listed()]
    seconds: dict[str, list[float]] = {"plain": [], "plain_box": [], "ours": []}
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-create-") as folder:
        survey, array = Path(folder) / "survey", Path(folder) / "crops.npy"

        def timed(name: str, act: Callable[[], None]) -> None:
            start = time.perf_counter()
            act()
            seconds[name].append(time.perf_counter() - start)

        for _ in range(ROUNDS + 1):
            timed("plain_box", lambda: plain_box(paths, array))
            timed("plain", lambda: plain(paths, array))
            shutil.rmtree(survey, ignore_errors=True)
            timed("ours", lambda: ours(survey))
        opened = Survey.open(survey)
        if not np.array_equal(opened.images[:], np.load(array)):
            raise RuntimeError("the two ways do not give the same pixels")
        opened.close()
    exact, box, mine = (statistics.median(seconds[name][1:]) for name in ("plain", "plain_box", "ours"))
    what = (
        f"{len(paths):,} JPEGs of 423 px, central {EXTENT} px averaged to {SIZE}, {n_cores()} cores, "
        f"median of {ROUNDS} alternating rounds"
    )
    note = "ours also keeps originals, thumbnails, quality, hashes, and syncs them to disk"
    return [
        Row(
            "create",
            what,
            mine,
            exact,
            exact / mine,
            "s",
            "one process: PIL open, crop, the same area average, np.save: equal pixels",
            target=1.35,
            note=note,
            extra=dict(seconds),
        ),
        Row(
            "create-box",
            what,
            mine,
            box,
            box / mine,
            "s",
            "one process: PIL open, crop, resize BOX, np.save: other pixels",
            note=note,
        ),
    ]


def manifest(path: Path, n: int) -> None:
    """`n` rows over the same galaxies, each with an id of its own; some are there twice whatever `n`."""
    rows = listed()
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "path", "kind"])
        for i in range(n):
            row = rows[i % 3_900]
            writer.writerow([f"g{i}", (GALAXIES / row["filename"]).resolve(), row["kind"]])


def peak_mib(n: int, folder: Path) -> float:
    """Peak memory of ``voorwerp create`` from a manifest of `n` rows over the real galaxies, MiB."""
    manifest(folder / f"{n}.csv", n)
    highest, _ = peak_of([folder / f"survey_{n}", folder / f"{n}.csv", "--id-column", "id", "--extent", EXTENT])
    shutil.rmtree(folder / f"survey_{n}")
    return highest


def peak_of(arguments: Sequence[Any]) -> tuple[float, float]:
    """Highest proportional set size of ``voorwerp create`` and its children, MiB, every 50 ms; and its seconds."""
    command = [sys.executable, "-m", "explorer.cli", "create", *map(str, arguments)]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        highest = 0.0
        while process.poll() is None:
            highest = max(highest, sum(held(psutil.Process(process.pid))))
            time.sleep(0.05)
        if process.returncode:
            raise RuntimeError(f"voorwerp create ended with {process.returncode}")
    return highest, time.perf_counter() - start


def held(process: psutil.Process) -> Iterator[float]:
    """MiB of a process and each of its children."""
    try:
        for member in [process, *process.children(recursive=True)]:
            information: Any = member.memory_full_info()
            yield information.pss / 2**20
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return  # it has just ended


def memory() -> Row:
    """Peak memory at 4,000 and 40,000 images."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-create-") as folder:
        few, many = (peak_mib(n, Path(folder)) for n in (4_000, 40_000))
    return Row(
        "create-memory",
        "peak memory of all processes at 40,000 images",
        many,
        few,
        few / many,
        "MiB",
        "the same at 4,000 images",
        target=0.95,
    )


def small_images(folder: Path, n_rows: int, n_files: int = 20_000) -> Path:
    """A manifest of `n_rows` over `n_files` PNGs of 32 px, each row with an id of its own."""
    if not (folder / "png").exists():
        rng = np.random.default_rng(0)
        for i in range(n_files):
            path = folder / "png" / f"{i % 100:02d}" / f"{i:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(path, compress_level=1)
    path = folder / f"{n_rows}.csv"
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "path", "magnitude"])
        for i in range(n_rows):
            k = i % n_files
            writer.writerow([f"g{i}", f"png/{k % 100:02d}/{k:05d}.png", f"{17 + i % 500 / 100:.2f}"])
    return path


def million() -> list[Row]:
    """Peak memory at 100,000 and a million rows; the million again with five kills."""
    n_kills = 5
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-create-") as name:
        folder = Path(name)

        def arguments(n: int) -> list[Any]:
            return [small_images(folder, n), "--id-column", "id", "--size", 32, "--name", "one"]

        few, _ = peak_of([folder / "few", *arguments(100_000)])
        shutil.rmtree(folder / "few")
        many, seconds = peak_of([folder / "many", *arguments(1_000_000)])
        expected = digest_of(folder / "many")
        shutil.rmtree(folder / "many")
        start = time.perf_counter()
        found = killed(folder / "killed", arguments(1_000_000), SHARD, n_kills, seconds, expected)
        interrupted = time.perf_counter() - start
    if not found["are_equal"]:
        raise RuntimeError("killed and resumed, the survey of a million has other bytes")
    what = "a million rows over 20,000 PNGs of 32 px"
    return [
        Row(
            "create-million",
            f"peak memory of all processes: {what}",
            many,
            few,
            few / many,
            "MiB",
            "the same at 100,000 rows",
            note=f"in {seconds:,.0f} s",
            extra={"seconds": seconds},
        ),
        Row(
            "create-million-kills",
            f"{what}, killed by SIGKILL at {n_kills} random moments and resumed to the same bytes",
            interrupted,
            seconds,
            seconds / interrupted,
            "s",
            "the same at once",
        ),
    ]


def kills() -> Row:
    """Fifty kills at random moments of a survey of 40,000."""
    n, n_kills = 40_000, 50
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-create-") as name:
        folder = Path(name)
        arguments = [small_images(folder, n), "--id-column", "id", "--size", 32]
        found = kill_and_compare(folder, arguments, SHARD, n_kills)
    if not found["are_equal"]:
        raise RuntimeError("killed and resumed, the survey has other bytes")
    return Row(
        "create-kills",
        f"resumed to the same bytes after SIGKILL at a random moment, {n:,} PNGs of 32 px",
        n_kills,
        n_kills,
        1.0,
        "kills",
        "as many kills",
        target=1,
        note=f"{found['n_whole'] + 1} were finished, each like the one made at once in {found['seconds']:.1f} s",
    )


LONG_ROWS = {"create": speed, "create-memory": memory, "create-million": million, "create-kills": kills}
