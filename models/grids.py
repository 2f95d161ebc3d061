"""Pictures of a training: a few images, always the same, as the networks make them after an epoch.

``grids/00012.png`` is 3 rows of 8 images at their own pixels. While the GAN is trained: real, and twice generated from
always the same z. While the encoder is: real, reconstructed, and the residual, the sum over bands of the absolute
difference, from black to white on one scale that ``grids/scale.json`` states.
"""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from models.artifacts import GRIDS, write_bytes, write_json
from models.images import rgb_of

COLUMNS = 8
AT_MOST = 60  # grids of one run


def is_due(done: int, total: int, *, is_last: bool) -> bool:
    """Whether epoch `done` of `total` gets a grid: evenly spread, and the `is_last` one of each of two stages."""
    return is_last or done % math.ceil(total / (AT_MOST - 2)) == 0


def write_rows(folder: Path, done: int, rows: Sequence[tuple[str, np.ndarray]], bands: Sequence[str] | None) -> None:
    """Write pictures of another kind than a training's: rows of images, each with a word on what it shows.

    ``grids/NNNNN.json`` has the words, and how many columns there are.

    Parameters
    ----------
    folder
        The run's folder.
    done
        Lines of ``history.jsonl`` after which they were made.
    rows
        What a row shows, and its images, uint8 (n, H, W, C); beyond the longest row the picture stays black.
    bands
        Names of the bands, for red, green and blue; None where they have none.
    """
    n_bands = rows[0][1].shape[-1]
    rgb = list(rgb_of(bands if bands is not None and len(bands) == n_bands else [""] * n_bands))
    height, width = rows[0][1].shape[1:3]
    columns = max(len(images) for _, images in rows)
    picture = np.zeros((len(rows) * height, columns * width, 3), np.uint8)
    for i, (_, images) in enumerate(rows):
        for j, image in enumerate(images):
            picture[i * height : (i + 1) * height, j * width : (j + 1) * width] = image[..., rgb]
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG")
    write_json(folder / GRIDS / f"{done:05d}.json", {"rows": [word for word, _ in rows], "columns": columns})
    write_bytes(folder / GRIDS / f"{done:05d}.png", content.getvalue())


class Grids:
    """Writes the grids of one run.

    Parameters
    ----------
    real
        uint8 (n, H, W, C), n ≤ `COLUMNS`; columns beyond stay black.
    subject_ids
        (n,): whose images they are.
    mean
        float (H, W, C), the mean training image in [0, 1]: white in a residual is what this would leave of `real`, at
        the 99.5th percentile of its pixels.
    bands
        Names of the bands, for red, green and blue; None where they have none.
    """

    def __init__(
        self, folder: Path, real: np.ndarray, subject_ids: np.ndarray, mean: np.ndarray, bands: Sequence[str] | None
    ) -> None:
        self.folder, self.real = folder / GRIDS, real
        named = bands is not None and len(bands) == real.shape[3]
        self.rgb = rgb_of(bands if named and bands is not None else [""] * real.shape[3])
        self.white = max(float(np.percentile(np.abs(real / 255 - mean).sum(3), 99.5)), 1 / 255)
        scale: dict[str, Any] = {
            "residual_black": 0.0,
            "residual_white": self.white,
            "residual": "sum over bands of |x - x'|, x in [0, 1]",
            "subject_ids": [str(i) for i in subject_ids],
        }
        write_json(self.folder / "scale.json", scale)

    def write_generated(self, done: int, made: np.ndarray) -> np.ndarray:
        """Write the grid of the GAN's stage from uint8 (2 · `COLUMNS`, H, W, C), and return it."""
        made = made[..., self.rgb]
        return self._write(done, [self.real[..., self.rgb], made[:COLUMNS], made[COLUMNS:]])

    def write_reconstructed(self, done: int, reconstruction: np.ndarray) -> np.ndarray:
        """Write the grid of the encoder's stage from uint8 (n, H, W, C), and return it."""
        residual = np.abs(self.real / 255 - reconstruction / 255).sum(3)
        grey = (np.clip(residual / self.white, 0, 1) * 255).round().astype(np.uint8)
        residuals = np.repeat(grey[..., None], 3, 3)
        return self._write(done, [self.real[..., self.rgb], reconstruction[..., self.rgb], residuals])

    def _write(self, done: int, rows: list[np.ndarray]) -> np.ndarray:
        _, height, width, _ = rows[0].shape
        picture = np.zeros((len(rows) * height, COLUMNS * width, 3), np.uint8)
        for i, row in enumerate(rows):
            for j, image in enumerate(row[:COLUMNS]):
                picture[i * height : (i + 1) * height, j * width : (j + 1) * width] = image
        content = io.BytesIO()
        Image.fromarray(picture).save(content, "PNG")
        write_bytes(self.folder / f"{done:05d}.png", content.getvalue())
        return picture
