"""A survey's crops block by block, for whatever goes over all of them."""

import time
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from models.artifacts import Pool, replacing
from models.progress import Progress

BLOCK = 512  # rows read at once, while the block before is computed
SHARD = 4096  # images in one of parts/NNNNN.npz: what a killed run loses at most

#: A block of images (n, …), and the row of its first → columns by name, each of length n.
Score = Callable[[np.ndarray, int], Mapping[str, np.ndarray]]


def n_shards(n: int, shard: int) -> int:
    """Parts of `n` images in shards of `shard`."""
    return -(-n // shard)


def part_path(parts: Path, number: int) -> Path:
    """Where the scores of shard `number` are."""
    return parts / f"{number:05d}.npz"


def read_part(path: Path) -> dict[str, np.ndarray] | None:
    """The columns of one part, all of one length; None where there is none, or it cannot be read whole."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as part:
            columns = {name: part[name] for name in part.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        return None
    return columns if columns and len({len(column) for column in columns.values()}) == 1 else None


def is_whole(path: Path, n: int) -> bool:
    """Whether the part at `path` can be read and is of `n` images."""
    columns = read_part(path)
    return columns is not None and len(next(iter(columns.values()))) == n


def write_parts(
    images: Any, parts: Path, numbers: Sequence[int], shard: int, score: Score, block: int = BLOCK
) -> Generator[int, None, None]:
    """Score some shards, one after another, and write the part of each, whole or not at all; images done so far.

    While a block is scored the next one is read, of the next shard too, and the part before is written.
    """
    ends = {number: min((number + 1) * shard, len(images)) for number in numbers}
    places = [
        (number, i, min(i + block, ends[number]))
        for number in numbers
        for i in range(number * shard, ends[number], block)
    ]
    found, done, writing = [], 0, None
    with ThreadPoolExecutor(1) as writer:
        for (number, start, stop), read in zip(places, read_ahead(images, [p[1:] for p in places]), strict=True):
            found.append(score(read, start))
            done += len(read)
            yield done
            if stop == ends[number]:
                if writing is not None:
                    writing.result()
                writing, found = writer.submit(_write_part, part_path(parts, number), found), []
        if writing is not None:
            writing.result()


def _write_part(path: Path, blocks: Sequence[Mapping[str, np.ndarray]]) -> None:
    columns = {name: np.concatenate([found[name] for found in blocks]) for name in blocks[0]}
    with replacing(path) as handle:
        np.savez(handle, allow_pickle=False, **columns)


def write_part(images: Any, parts: Path, number: int, shard: int, score: Score, block: int = BLOCK) -> int:
    """As `write_parts`, of one shard; a part that is there and whole is left as it is. How many images it has."""
    size = min(shard, len(images) - number * shard)
    if not is_whole(part_path(parts, number), size):
        deque(write_parts(images, parts, [number], shard, score, block), maxlen=0)
    return size


def score_shards(
    images: Any,
    parts: Path,
    shard: int,
    score: Callable[[], Score],
    pool: Pool | None = None,
    function: str = "",
    note: Callable[[], str] = str,
    unit: str = "images",
    block: int = BLOCK,
) -> Generator[Progress, None, float]:
    """Write what `score()` says of every image to ``parts/NNNNN.npz``, but for those that are there; images a second.

    Parameters
    ----------
    shard
        Images in a part.
    score
        Makes a `Score`; called only where this process has something to do.
    pool, function
        Workers among whom the missing parts are shared out, where there are several, and what they are to call, as
        ``"module:function"`` (see `Pool.map`). What they leave undone is done here. An answer's "note" goes into the
        message.
    note
        What there is to say beside "scoring" where it is done here; "" for nothing.
    """
    n, started, fresh, rate = len(images), time.perf_counter(), 0, 0.0
    sizes = {number: min(shard, n - number * shard) for number in range(n_shards(n, shard))}
    missing = {number: size for number, size in sizes.items() if not is_whole(part_path(parts, number), size)}
    done = n - sum(missing.values())
    if done:
        yield Progress(done, n, "scoring: found finished parts")
    if pool is not None and len(missing) > 1 and (n_workers := pool.n_workers):
        numbers = list(missing)
        yield Progress(done, n, f"scoring on {_workers(n_workers)}")
        for index, answer in pool.map(function, [{"number": number} for number in numbers]):
            size = missing.pop(numbers[index], 0)  # a part may be done twice
            done, fresh = done + size, fresh + size
            rate = fresh / (time.perf_counter() - started)
            message = _message(f"scoring on {_workers(pool.n_workers)}", answer.get("note", ""))
            yield Progress(done, n, message, {f"{unit}_per_second": rate})
        there = {path.name for path in parts.iterdir()}  # on a network file system, asking for one may find it too late
        lost = {number: sizes[number] for number in numbers if part_path(parts, number).name not in there}
        done -= sum(size for number, size in lost.items() if number not in missing)
        missing = lost
    if not missing:
        return rate
    before = fresh
    for so_far in write_parts(images, parts, list(missing), shard, score(), block):
        rate = (before + so_far) / (time.perf_counter() - started)
        yield Progress(done + so_far, n, _message("scoring", note()), {f"{unit}_per_second": rate})
    return rate


def _message(what: str, note: str) -> str:
    return f"{what}; {note}" if note else what


def _workers(n: int) -> str:
    return f"{n} worker" if n == 1 else f"{n} workers"


def read_ahead(images: Any, places: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    """The images from start to stop, for each of `places`; the next are read while the caller works on these."""
    with ThreadPoolExecutor(1) as reader:
        coming: Future[np.ndarray] | None = None
        for i, place in enumerate(places):
            ready = coming.result() if coming else _read(images, *place)
            coming = reader.submit(_read, images, *places[i + 1]) if i + 1 < len(places) else None
            yield ready


def _read(images: Any, start: int, stop: int) -> np.ndarray:
    return np.asarray(images[start:stop])


def sample_of(images: Any, n: int) -> Iterator[np.ndarray]:
    """About `n` images in evenly spaced blocks from all over the survey."""
    n = min(n, len(images))
    size = min(BLOCK, n)
    starts = np.linspace(0, len(images) - size, n // size).astype(int)
    return (np.asarray(images[start : start + size]) for start in starts)


def is_constant(images: np.ndarray) -> np.ndarray:
    """bool (n,): images (n, …) of one value throughout; there is nothing to score."""
    flat = images.reshape(len(images), -1)
    return np.asarray(flat.min(1) == flat.max(1))


def center_weights(side: int, size: int, center: float) -> np.ndarray:
    """How much each place of an image counts: a Gaussian around its center, exp(-r² / 2σ²), σ = `center` · `size`.

    Cell (i, j) of `side` × `side` looks at pixel (i, j) · size / side of `size` × `size`, as a critic's features do.

    Returns
    -------
    float32 (side, side), in (0, 1]; all 1 for `center` 0.
    """
    if not center:
        return np.ones((side, side), np.float32)
    offset = np.arange(side) * (size / side) - (size - 1) / 2
    return np.exp(-(offset[:, None] ** 2 + offset**2) / (2 * (center * size) ** 2)).astype(np.float32)
