"""A survey's crops block by block, for whatever goes over all of them."""

import time
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
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


def write_part(
    images: Any, parts: Path, number: int, shard: int, score: Score, block: int = BLOCK
) -> Generator[int, None, int]:
    """Score shard `number` and write its part, whole or not at all; images done so far, then all of them.

    A part that is there and whole is left as it is.
    """
    start, path = number * shard, part_path(parts, number)
    stop = min(start + shard, len(images))
    if is_whole(path, stop - start):
        return stop - start
    blocks, done = [], 0
    for read in read_ahead(images, start, stop, block):
        blocks.append(score(read, start + done))
        done += len(read)
        yield done
    columns = {name: np.concatenate([found[name] for found in blocks]) for name in blocks[0]}
    with replacing(path) as handle:
        np.savez(handle, allow_pickle=False, **columns)
    return done


def score_shards(
    images: Any,
    parts: Path,
    shard: int,
    score: Callable[[], Score],
    pool: Pool | None = None,
    function: str = "",
    note: Callable[[], str] = str,
    unit: str = "images",
) -> Generator[Progress, None, float]:
    """Write what `score()` says of every image to ``parts/NNNNN.npz``, but for those that are there; images a second.

    Parameters
    ----------
    shard
        Images in a part.
    score
        Makes a `Score`; called only where this process has something to do.
    pool, function
        Workers among whom the missing parts are shared out, and what they are to call, as ``"module:function"`` (see
        `Pool.map`). What they leave undone is done here. An answer's "note" goes into the message.
    note
        What there is to say beside "scoring" where it is done here; "" for nothing.
    """
    n, started, fresh, rate = len(images), time.perf_counter(), 0, 0.0
    sizes = {number: min(shard, n - number * shard) for number in range(n_shards(n, shard))}
    missing = {number: size for number, size in sizes.items() if not is_whole(part_path(parts, number), size)}
    done = n - sum(missing.values())
    if done:
        yield Progress(done, n, "scoring: found finished parts")
    if pool is not None and missing and (n_workers := pool.n_workers):
        numbers = list(missing)
        yield Progress(done, n, f"scoring on {_workers(n_workers)}")
        for index, answer in pool.map(function, [{"number": number} for number in numbers]):
            size = missing.pop(numbers[index], 0)  # a part may be done twice
            done, fresh = done + size, fresh + size
            rate = fresh / (time.perf_counter() - started)
            message = _message(f"scoring on {_workers(pool.n_workers)}", answer.get("note", ""))
            yield Progress(done, n, message, {f"{unit}_per_second": rate})
    if not missing:
        return rate
    scoring = score()
    for number, size in missing.items():
        for so_far in write_part(images, parts, number, shard, scoring):
            rate = (fresh + so_far) / (time.perf_counter() - started)
            yield Progress(done + so_far, n, _message("scoring", note()), {f"{unit}_per_second": rate})
        done, fresh = done + size, fresh + size
    return rate


def _message(what: str, note: str) -> str:
    return f"{what}; {note}" if note else what


def _workers(n: int) -> str:
    return f"{n} worker" if n == 1 else f"{n} workers"


def read_ahead(images: Any, start: int, stop: int, block: int = BLOCK) -> Iterator[np.ndarray]:
    """The images from `start` to `stop` in blocks; the next block is read while the caller works on this one."""
    with ThreadPoolExecutor(1) as reader:
        edges = range(start, stop, block)
        coming = None
        for i in edges:
            ready = coming.result() if coming else np.asarray(images[i : min(i + block, stop)])
            following = i + block
            coming = (
                reader.submit(lambda a, b: np.asarray(images[a:b]), following, min(following + block, stop))
                if following < stop
                else None
            )
            yield ready


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
