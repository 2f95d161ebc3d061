"""The nearest of 1.5 million latent vectors in a file: all compared, beside scikit-learn's brute force in memory."""

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from models.embedding import nearest
from tests.benchmarks.row import Row

N, D, K, QUERIES = 1_500_000, 128, 12, 9


def anonymous() -> float:
    """Memory of this process that no file is behind, in MiB; NaN where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")), float("nan"))


def rows() -> Row:
    """Seconds a query, warm, in the median; the first query of a file that is in no cache is in the note."""
    from sklearn.neighbors import NearestNeighbors

    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-nearest-", dir=".") as name:
        path, random = Path(name) / "latents.npy", np.random.default_rng(0)
        array = np.lib.format.open_memmap(path, "w+", np.float32, (N, D))
        for start in range(0, N, 50_000):
            array[start : start + 50_000] = random.standard_normal((50_000, D), np.float32)
        array.flush()
        nearest(array[:1000], 0, K)  # compiles
        del array
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        latents = np.load(path, mmap_mode="r")
        before = anonymous()
        took, found = [], {}
        for row in random.integers(0, N, QUERIES + 1).tolist():
            began = time.perf_counter()
            found[row] = nearest(latents, row, K)
            took.append(time.perf_counter() - began)
        grown = anonymous() - before
        in_memory = np.array(latents)
        theirs = []
        searcher = NearestNeighbors(n_neighbors=K + 1, algorithm="brute").fit(in_memory)
        for row, (indices, _) in found.items():
            began = time.perf_counter()
            others = searcher.kneighbors(in_memory[row : row + 1], return_distance=False)[0]
            theirs.append(time.perf_counter() - began)
            if set(others.tolist()) - {row} != set(indices.tolist()):
                raise RuntimeError(f"the {K} nearest of row {row} differ from scikit-learn's")
    ours, other = statistics.median(took[1:]), statistics.median(theirs[1:])
    return Row(
        name="neighbors",
        what=f"{K} nearest of {N:,} × {D} float32, memory-mapped, exact; median of {QUERIES} queries, warm",
        ours=ours,
        theirs=other,
        ratio=other / ours,
        unit="s",
        alternative='scikit-learn NearestNeighbors(algorithm="brute"), all in memory',
        note=f"cold {took[0]:.2f} s; {grown:.0f} MiB of memory taken",
        extra={"seconds": took, "theirs": theirs, "anonymous_mib": grown},
    )


ROWS = {"neighbors": rows}
