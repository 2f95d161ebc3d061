"""A survey's crops block by block, for whatever goes over all of them."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

BLOCK = 512  # rows read at once, while the block before is computed


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
