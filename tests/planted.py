"""A simulated survey of galaxies with planted oddities, for what can only be judged where the truth is known.

Discs with bulges in noise (`tests.galaxies`); into some of them sources are planted by GalSim (`models.injection`):
rare rings and arcs, mergers (a second nucleus, or a tail), and satellite trails, which are artifacts and not worth
choosing. Everything that is made of it is simulated, and to be called so.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
from PIL import Image

from models.injection import Kind, planted
from tests.galaxies import galaxy

#: Class → its share of the survey, and how well volunteers see it for what it is (lenses worst, as in the study).
CLASSES = {"merger": (0.02, 0.8), "ring": (0.006, 0.55), "arc": (0.004, 0.3), "trail": (0.01, 0.0)}
WORTH = ("merger", "ring", "arc")
PSF = 2.5


def _oddity(image: np.ndarray, name: str, rng: np.random.Generator) -> np.ndarray:
    """An image with a source of a class planted into it: sizes and fluxes vary, the fluxes from faint to clear."""
    side = len(image)
    kinds: dict[str, tuple[Kind, ...]] = {
        "merger": ("double", "tail"),
        "ring": ("ring",),
        "arc": ("arc",),
        "trail": ("trail",),
    }
    kind = kinds[name][rng.integers(len(kinds[name]))]
    reach = {"double": (0.12, 0.25), "tail": (0.2, 0.35), "ring": (0.15, 0.3), "arc": (0.15, 0.3), "trail": (1, 1.4)}
    light = {"double": 4e3, "tail": 6e3, "ring": 8e3, "arc": 4e3, "trail": 1e4}[kind] * 10 ** rng.uniform(-0.5, 0.5)
    color = rng.uniform(0.5, 1, 3) if name != "arc" else np.array([0.6, 0.8, 1.0])  # arcs are blue
    return planted(image, kind, light * color, rng.uniform(*reach[kind]) * side, PSF, rng)


def write_planted(folder: Path, n: int, *, size: int = 48, seed: int = 0) -> Path:
    """Write `n` images and ``classes.csv`` (image, class) to a folder, the same for one seed; returns the table."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    shares = [share for share, _ in CLASSES.values()]
    drawn = rng.choice(len(CLASSES) + 1, n, p=[*shares, 1 - sum(shares)])
    names, classes = [], []
    for i, code in enumerate(drawn):
        image, name = galaxy(rng, size).astype(np.float32), [*CLASSES, "ordinary"][code]
        if name != "ordinary":
            image = _oddity(image, name, rng)
        names.append(f"{i:06d}.png")
        classes.append(name)
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(folder / names[-1], compress_level=1)
    table = folder / "classes.csv"
    pa.csv.write_csv(pa.table({"image": names, "class": classes}), table)
    return table
