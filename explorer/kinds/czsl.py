"""Kind ``czsl``: a classifier that learns from experts, amateurs and unlabelled images together."""

from dataclasses import dataclass, field
from typing import Literal

from explorer.kinds import Kind


@dataclass(frozen=True, slots=True)
class CzslConfig:
    """How to learn. Fields left empty take the preset's value (see `models.czsl.PRESETS`)."""

    preset: Literal["modern", "paper"] = field(
        default="modern",
        metadata={
            "is_everyday": True,
            "help": "modern: batch norms, AdamW, minutes on a laptop; paper: Jiménez et al. 2023, ten seeds, for a GPU",
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
    votes: str = field(
        default="", metadata={"is_everyday": True, "help": "votes whose shares labels are transferred from"}
    )
    classes: Literal["found", "grades"] = field(
        default="found",
        metadata={"help": "of a campaign: found or not, or each grade a class", "choices": ("found", "grades")},
    )
    means: str = field(
        default="",
        metadata={"help": "names that differ between sources: smooth=E, features=S; nothing after = leaves one out"},
    )
    targets: Literal["hard", "fractions"] = field(
        default="hard",
        metadata={
            "help": "what is learned of amateurs: their labels, or the shares of their votes",
            "choices": ("hard", "fractions"),
        },
    )
    balance: Literal["none", "under", "over", "weights"] = field(
        default="none",
        metadata={
            "is_everyday": True,
            "help": "of classes of different size: fewer of the frequent, more of the rare, or weights in the loss",
            "choices": ("none", "under", "over", "weights"),
        },
    )
    compare: Literal["few", "all", "none"] = field(
        default="few",
        metadata={
            "help": "beside it, in the same folds: experts only and amateurs only (few), without autoencoder too (all)",
            "choices": ("few", "all", "none"),
        },
    )
    folds: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 3, "paper": 5},
            "help": "parts of the experts' labels, each judged by what learned from the others (modern 3, paper 5)",
            "low": 2,
            "high": 20,
        },
    )
    seeds: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 1, "paper": 10},
            "is_everyday": True,
            "help": "times that all of it is done, with other random numbers (modern 1, paper 10)",
            "low": 1,
            "high": 100,
        },
    )
    autoencoder_epochs: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 8, "paper": 100},
            "help": "passes of the autoencoder over its images (modern 8, paper 100)",
            "low": 1,
            "high": 100_000,
        },
    )
    epochs: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 15, "paper": 100},
            "is_everyday": True,
            "help": "passes of the classifier over its images, in each of two stages (modern: at most 15, paper 100)",
            "low": 1,
            "high": 100_000,
        },
    )
    batch: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 16, "paper": 32},
            "help": "images a step (modern 16, paper 32)",
            "unit": "images",
            "low": 2,
            "high": 65_536,
        },
    )
    learning_rate: float | None = field(
        default=None,
        metadata={
            "presets": {"modern": 0.002, "paper": 0.01},
            "help": "the optimizer's step (modern 2e-3, paper 0.01)",
            "low": 1e-7,
            "high": 1.0,
        },
    )
    validation: float | None = field(
        default=None,
        metadata={
            "presets": {"modern": 0.2, "paper": 0.3},
            "help": "share of what is given for training that is held out, in tenths (modern 0.2, paper 0.3)",
            "low": 0.0,
            "high": 0.9,
        },
    )
    flips: Literal["auto", "yes", "no"] = field(
        default="auto",
        metadata={
            "help": "preset modern: mirror images, too; auto: unless a class is called clockwise, left or the like",
            "choices": ("auto", "yes", "no"),
        },
    )
    width: int = field(
        default=16, metadata={"help": "channels of the first layer", "unit": "channels", "low": 1, "high": 512}
    )
    code_channels: int = field(
        default=8,
        metadata={"help": "channels of the code: its length is this × (size / 8)²", "low": 1, "high": 512},
    )
    train_on: int = field(
        default=20_000,
        metadata={
            "help": "of all images, and of those that amateurs alone have labelled, at most this many at random",
            "unit": "images",
            "low": 2,
            "high": 1_000_000,
        },
    )
    seed: int = field(default=1234, metadata={"help": "fixes weights, folds and order", "low": 0, "high": 2**31 - 1})
    device: Literal["auto", "cpu", "cuda"] = field(
        default="auto", metadata={"help": "auto takes CUDA where there is one", "choices": ("auto", "cpu", "cuda")}
    )


KIND = Kind(
    name="czsl",
    title="Learn classes from experts, amateurs and all images",
    about="Learns classes from a few labels by experts, more by amateurs, and all images without any (CzSL).",
    config=CzslConfig,
    run="models.czsl:run",
    needs_images=True,
    provides="score",
    labels=("expert", "amateur", "votes"),
    needs_labels=("expert",),
    learns="classes",
)
