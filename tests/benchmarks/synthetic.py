"""A survey without images of synthetic subjects: a cloud on the map, and a score. Its name says what it is."""

import numpy as np

N_BLOBS = 60


def cloud(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points that look like a UMAP map: 60 Gaussian blobs of differing weight and width.

    Returns
    -------
    xyz
        float32 (n, 3), |x| and |y| mostly below 12.
    score
        float32 (n,), in (0, 1), higher to the upper right.
    """
    rng = np.random.default_rng(seed)
    center, width = rng.uniform(-10, 10, (N_BLOBS, 2)), rng.gamma(2.0, 0.25, N_BLOBS) + 0.05
    blob = rng.choice(N_BLOBS, n, p=rng.dirichlet(np.full(N_BLOBS, 1.5)))
    xy = center[blob] + rng.standard_normal((n, 2)) * width[blob, None]
    score = 1 / (1 + np.exp(-(xy[:, 0] * 0.2 + xy[:, 1] * 0.1 + rng.standard_normal(n) * 0.7)))
    return np.column_stack([xy, rng.standard_normal(n)]).astype(np.float32), score.astype(np.float32)
