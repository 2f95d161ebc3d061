"""Kind ``score``: an anomaly score of every subject: the trained model's, or that of a detector that needs none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from explorer.kinds import Kind


@dataclass(frozen=True, slots=True)
class ScoreConfig:
    """How to score."""

    method: Literal["wgan", "pca", "iforest", "knn"] = field(
        default="wgan",
        metadata={
            "is_everyday": True,
            "help": "wgan: the trained model's image and feature scores; pca: reconstruction error of principal "
            "components; iforest: isolation forest; knn: mean distance to the nearest neighbors",
            "choices": ("wgan", "pca", "iforest", "knn"),
        },
    )
    on: Literal["pixels", "latents"] = field(
        default="pixels",
        metadata={
            "is_everyday": True,
            "of": ("pca", "iforest", "knn"),
            "help": "pca, iforest, knn: what they look at; latents are those of a score run",
            "choices": ("pixels", "latents"),
        },
    )
    preset: Literal["compact", "paper"] = field(
        default="compact",
        metadata={
            "is_everyday": True,
            "of": ("wgan",),
            "help": "wgan: compact reconstructs from the 8 principal axes along which the latent vectors vary most and "
            "weighs residuals around the center; paper: Mantha et al. 2024",
            "choices": ("compact", "paper"),
        },
    )
    latent_axes: int | None = field(
        default=None,
        metadata={
            "presets": {"compact": 8, "paper": 0},
            "of": ("wgan",),
            "help": "wgan: principal axes to reconstruct from, 0 for all (compact 8, paper 0)",
            "low": 0,
        },
    )
    center: float | None = field(
        default=None,
        metadata={
            "presets": {"compact": 0.14, "paper": 0},
            "help": "σ of the Gaussian weight of pixels around the center, 0 for equal weights (compact 0.14, else 0)",
            "unit": "sides",
            "low": 0.0,
            "high": 10.0,
        },
    )
    feature_stage: int | None = field(
        default=None,
        metadata={
            "presets": {"compact": 3, "paper": 4},
            "of": ("wgan",),
            "help": "wgan: the critic's stage whose features are compared (compact 3, paper 4)",
            "low": 1,
            "high": 4,
        },
    )
    feature_weight: float = field(
        default=0.2,
        metadata={
            "is_everyday": True,
            "of": ("wgan",),
            "help": "wgan: λ in anomaly score = (1 - λ) image score + λ feature score",
            "low": 0.0,
            "high": 1.0,
        },
    )
    lambda_mode: Literal["raw", "standardised"] = field(
        default="raw",
        metadata={
            "of": ("wgan",),
            "help": "wgan: λ mixes the raw sums, or the scores standardised by median and MAD",
            "choices": ("raw", "standardised"),
        },
    )
    n_components: int = field(
        default=32,
        metadata={
            "of": ("pca", "iforest", "knn"),
            "help": "pca, and iforest and knn on pixels: principal components",
            "low": 1,
            "high": 1024,
        },
    )
    n_neighbors: int = field(
        default=10, metadata={"of": ("knn",), "help": "knn: neighbors", "unit": "subjects", "low": 1, "high": 1000}
    )
    fit_on: int = field(
        default=20_000,
        metadata={
            "of": ("pca", "iforest", "knn"),
            "help": "pca, iforest, knn: size of the random sample that they are fitted to",
            "unit": "subjects",
            "low": 2,
            "high": 1_000_000,
        },
    )
    seed: int = field(
        default=1234,
        metadata={
            "of": ("pca", "iforest", "knn"),
            "help": "pca, iforest, knn: fixes sample and fit",
            "low": 0,
            "high": 2**31 - 1,
        },
    )
    batch: int | None = field(
        default=None,
        metadata={
            "of": ("wgan",),
            "help": "images at once (64, on a GPU 1024); halved where the GPU's memory does not hold them",
            "unit": "images",
            "low": 1,
            "high": 8192,
        },
    )
    precision: Literal["auto", "float32", "bfloat16"] = field(
        default="auto",
        metadata={
            "of": ("wgan",),
            "help": "auto takes bfloat16 where it is faster and, on a sample of the run, ranks as float32 does",
            "choices": ("auto", "float32", "bfloat16"),
        },
    )
    device: Literal["auto", "cpu", "cuda"] = field(
        default="auto",
        metadata={"of": ("wgan",), "help": "auto takes CUDA where there is one", "choices": ("auto", "cpu", "cuda")},
    )

    def __post_init__(self) -> None:
        if self.method == "wgan" and self.on == "latents":
            raise ValueError("wgan scores pixels; on latents there are pca, iforest and knn")
        for name in ("latent_axes", "feature_stage"):
            if self.method != "wgan" and getattr(self, name) is not None:
                raise ValueError(f"{name} is of the trained model's scores; {self.method} has none")


def _at(config: ScoreConfig) -> Mapping[str, Any]:
    if config.method == "wgan":
        return {}
    detector = {"run": "models.detectors:run", "needs": ()}
    if config.on == "pixels":
        return detector
    return detector | {"needs": ("score",), "needs_images": False, "needs_latents": True, "is_shared": False}


KIND = Kind(
    name="score",
    title="Score every subject",
    about="Gives every subject an anomaly score: by a trained model, or by a detector that needs none.",
    config=ScoreConfig,
    run="models.scoring:run",
    needs=("train",),
    needs_images=True,
    before={"preset": "paper"},
    at=_at,
    on_what="a train run; pca, iforest and knn on latents: a score run, on pixels: none",
    is_shared=True,
)
