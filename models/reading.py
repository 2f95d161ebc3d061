"""A survey's crops block by block, for whatever goes over all of them."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from models.artifacts import replacing
from models.progress import Progress

BLOCK = 512  # rows read at once, while the block before is computed
SHARD = 4096  # images in one of parts/NNNNN.npz: what a killed run loses at most


def score_shards(
    images: Any, parts: Path, score: Callable[[np.ndarray], Mapping[str, np.ndarray]]
) -> Generator[Progress, None, float]:
    """Write what `score` says of every image to ``parts/NNNNN.npz``, but for those that are there; images a second.

    `score` gets a block of images (n, …) and answers columns by name, each of length n.
    """
    n, started, fresh, rate = len(images), time.perf_counter(), 0, 0.0
    for number, start in enumerate(range(0, n, SHARD)):
        stop, path = min(start + SHARD, n), parts / f"{number:05d}.npz"
        if path.exists():
            yield Progress(stop, n, "scoring: found finished parts")
            continue
        blocks, done = [], start
        for block in read_ahead(images, start, stop):
            blocks.append(score(block))
            done, fresh = done + len(block), fresh + len(block)
            rate = fresh / (time.perf_counter() - started)
            yield Progress(done, n, "scoring", {"images_per_second": rate})
        columns = {name: np.concatenate([found[name] for found in blocks]) for name in blocks[0]}
        with replacing(path) as handle:
            np.savez(handle, allow_pickle=False, **columns)
    return rate


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
