"""Score crops that are in no survey with a finished score run's own network and settings, in a process of its own.

``python -P -m models.rescoring FOLDER``: ``FOLDER/ask.json`` says with what (see `Ask`), ``FOLDER/crops.npy`` holds the
crops, uint8 (n, size, size, bands). ``latents.npy`` and ``scores.npz`` (image_score, feature_score; NaN where a crop is
constant or its score not finite) come to lie beside them. Progress goes to stdout, a line of JSON each; an error that a
person can act on is the last line, and the process ends with 1.
"""

import json
import sys
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.artifacts import LATENTS, ArtifactError, replacing, write_array
from models.progress import Progress
from models.reading import is_constant
from models.scoring import BATCH, load_checkpoint, pick_device, prepare, score_images, scorer_of

ASK, CROPS, SCORES = "ask.json", "crops.npy", "scores.npz"
BLOCK = 1024  # crops between two words of progress


@dataclass(frozen=True, slots=True)
class Ask:
    """With what crops are scored.

    Attributes
    ----------
    train
        Folder of the training run.
    config
        That of the score run.
    preprocessing
        How the crops were cut: it must be what the network was trained on.
    precision
        Which one the score run took.
    """

    train: str
    config: dict[str, Any]
    preprocessing: dict[str, Any]
    precision: str = "float32"
    threads: int = 1


def rescore(folder: Path) -> Generator[Progress, None, None]:
    """See the module.

    Raises
    ------
    ArtifactError
        The network cannot be read, or was trained on images cut in another way.
    """
    ask = Ask(**json.loads((folder / ASK).read_bytes()))
    crops = np.load(folder / CROPS, mmap_mode="r", allow_pickle=False)
    torch.set_num_threads(ask.threads)
    device = pick_device("auto" if ask.config.get("device", "auto") == "cuda" else ask.config.get("device", "auto"))
    scorer = scorer_of(load_checkpoint(Path(ask.train), ask.preprocessing), ask.config)
    network = prepare(scorer, device, ask.precision)
    parts = []
    for start in range(0, len(crops), BLOCK):
        yield Progress(start, len(crops), "scoring")
        block = np.array(crops[start : start + BLOCK])
        latents, image, feature = score_images(network, block, int(ask.config.get("batch") or BATCH[device.type]))
        bad = is_constant(block) | ~(np.isfinite(latents).all(1) & np.isfinite(image) & np.isfinite(feature))
        latents[bad], image[bad], feature[bad] = np.nan, np.nan, np.nan
        parts.append((latents, image, feature))
    latents, image, feature = (np.concatenate(part) for part in zip(*parts, strict=True))
    write_array(folder / LATENTS, latents)
    with replacing(folder / SCORES) as handle:
        np.savez(handle, image_score=image, feature_score=feature)
    yield Progress(len(crops), len(crops), "scoring")


def main(folder: Path) -> int:
    """Run, and tell stdout how it goes; the exit code."""
    try:
        for progress in rescore(folder):
            print(json.dumps(asdict(progress)), flush=True)
    except ArtifactError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
