"""Kind ``score``: latent vectors and image, feature and anomaly scores of every subject."""

from dataclasses import dataclass, field
from typing import Literal

from explorer.kinds import Kind


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    """How to score."""

    feature_weight: float = field(
        default=0.2,
        metadata={
            "help": "λ in anomaly score = (1 - λ) image score + λ feature score",
            "low": 0.0,
            "high": 1.0,
        },
    )
    batch: int = field(default=64, metadata={"help": "images at once", "unit": "images", "low": 1, "high": 8192})
    precision: Literal["auto", "float32", "bfloat16"] = field(
        default="auto",
        metadata={
            "help": "auto takes bfloat16 where it is faster and, on a sample of the run, ranks as float32 does",
            "choices": ("auto", "float32", "bfloat16"),
        },
    )
    device: Literal["auto", "cpu", "cuda"] = field(
        default="auto", metadata={"help": "auto takes CUDA where there is one", "choices": ("auto", "cpu", "cuda")}
    )


KIND = Kind(
    name="score",
    title="Score every subject",
    config=ScoreConfig,
    run="models.scoring:run",
    needs=("train",),
    needs_images=True,
)
