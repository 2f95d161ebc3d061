"""Tiny networks, galaxies and workspaces for the tests of training and scoring."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.artifacts import CHECKPOINT, Workspace
from models.scoring import save
from models.wgan import WGAN, Architecture, build

PREPROCESSING = {"size": 32, "crop": "center", "extent": None, "bands": ["r", "g", "b"], "range": [0, 1]}


def finish(job: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    """Every record of a job, and what it returns."""
    records = []
    while True:
        try:
            records.append(next(job))
        except StopIteration as end:
            return records, end.value


def blobs(n: int, size: int = 32, bands: int = 3, seed: int = 0) -> np.ndarray:
    """uint8 (n, size, size, bands): round blobs of different widths on noise."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    width = random.uniform(2, size / 5, (n, 1, 1, 1))
    light = np.exp(-((x**2 + y**2)[None, :, :, None]) / (2 * width**2)) * random.uniform(100, 200, (n, 1, 1, bands))
    return np.clip(light + random.normal(20, 4, light.shape), 0, 255).astype(np.uint8)


def tiny(size: int = 32, bands: int = 3, seed: int = 0, width: int = 4, latent_size: int = 8) -> WGAN:
    """An untrained network with the principal axes of random latent vectors."""
    model = build(Architecture(size, bands, width, latent_size), seed).eval()
    model.find_axes(torch.randn(200, latent_size, generator=torch.Generator().manual_seed(seed)))
    return model


def trained(folder: Path, model: WGAN, preprocessing: dict[str, Any] | None = None) -> Path:
    """A training run's folder that holds `model`."""
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / CHECKPOINT, model, PREPROCESSING if preprocessing is None else preprocessing)
    return folder


def workspace(folder: Path, images: Any, train: Path | None = None, first_id: int = 0) -> Workspace:
    """An empty run folder over `images`."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.arange(len(images)) + first_id
    return Workspace(folder, images, ids, {"train": train} if train else {}, PREPROCESSING, threads=1)
