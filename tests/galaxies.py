"""Synthetic galaxies for the tests: quick to make, never twice the same, and not to be taken for data."""

from pathlib import Path

import numpy as np
from astropy.io import fits
from PIL import Image


def galaxy(rng: np.random.Generator, size: int = 48) -> np.ndarray:
    """One tilted exponential disc with a bulge on noise, in its own color: uint8 (size, size, 3)."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2 + rng.uniform(-1, 1, (2, 1, 1))
    angle, flat, scale = rng.uniform(0, np.pi), rng.uniform(0.3, 1), rng.uniform(0.06, 0.16) * size
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    radius = np.hypot(along, across / flat)
    light = np.exp(-radius / scale) + 0.8 * np.exp(-((radius / (0.3 * scale)) ** 2))
    color = rng.uniform(0.5, 1, 3)
    image = 200 * light[..., None] * color + rng.normal(12, 4, (size, size, 3))
    return np.clip(image, 0, 255).astype(np.uint8)


def write_galaxies(folder: Path, n: int, *, size: int = 48, seed: int = 0) -> list[Path]:
    """Write `n` galaxies to `folder`, ``000.png``, ``001.jpg`` and so on in turn; the same for the same seed."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"{i:03d}.{'jpg' if i % 2 else 'png'}" for i in range(n)]
    for path in paths:
        Image.fromarray(galaxy(rng, size)).save(path)
    return paths


def write_fits_galaxies(folder: Path, n: int, *, size: int = 64, seed: int = 1) -> list[Path]:
    """Write `n` three-band cubes (g, r, i; nJy) around 10ʰ +2° at 0.2″ a pixel; number 2 has missing pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = [folder / f"cube{i:03d}.fits" for i in range(n)]
    for i, path in enumerate(paths):
        light = np.moveaxis(galaxy(rng, size).astype(np.float32), 2, 0) - 12  # (band, y, x), sky at 0
        values = light * np.array([0.5, 0.8, 1.1], np.float32)[:, None, None]
        if i == 2:
            values[:, 4:9, 4:9] = np.nan
        header = fits.Header({"BUNIT": "nJy"})
        for axis, kind, center, step in ((1, "RA---TAN", 150 + i / 100, -0.2), (2, "DEC--TAN", 2.0, 0.2)):
            told = {"CTYPE": kind, "CUNIT": "deg", "CRPIX": (size + 1) / 2, "CRVAL": center, "CDELT": step / 3600}
            header.update({f"{name}{axis}": value for name, value in told.items()})
        fits.writeto(path, values, header)
    return paths
