"""Kind ``finetune``: a network that goes on from experts' grades: the probability of interest of every subject."""

from dataclasses import dataclass, field
from typing import Literal

from explorer.kinds import Kind


@dataclass(frozen=True, slots=True)
class FinetuneConfig:
    """How to learn from grades. Fields left empty take the preset's value (see `models.finetune.PRESETS`)."""

    preset: Literal["modern", "paper"] = field(
        default="modern",
        metadata={
            "is_everyday": True,
            "help": "modern: balanced, turned, ends when it stops to learn; paper: the fine-tuning of CzSL, Jiménez et "
            "al. 2023",
            "choices": ("modern", "paper"),
        },
    )
    expert: str = field(
        default="",
        metadata={"is_everyday": True, "help": "whose grades to learn from (default: the only campaign that is told)"},
    )
    look_for: str = field(
        default="",
        metadata={
            "help": "classes that are of interest, with commas, where grades do not say it: merger, ring (default: "
            "what was found; true and yes of a column)"
        },
    )
    means: str = field(default="", metadata={"help": "names of classes that count as others: smooth=E, features=S"})
    begin: Literal["encoder", "fresh"] = field(
        default="encoder",
        metadata={
            "is_everyday": True,
            "help": "encoder: go on from that of the training told, or of the one that made the scores; fresh: begin "
            "anew, on the graded images alone",
            "choices": ("encoder", "fresh"),
        },
    )
    folds: int = field(
        default=5,
        metadata={"help": "parts of the graded subjects, each judged by what the others taught", "low": 2, "high": 20},
    )
    epochs: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 30, "paper": 100},
            "is_everyday": True,
            "help": "passes over the graded images, at most (modern 30, paper 100)",
            "low": 1,
            "high": 100_000,
        },
    )
    batch: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 32, "paper": 32},
            "help": "images a step (modern 32, paper 32)",
            "unit": "images",
            "low": 2,
            "high": 65_536,
        },
    )
    learning_rate: float | None = field(
        default=None,
        metadata={
            "presets": {"modern": 0.001, "paper": 0.01},
            "help": "step size of the head; the encoder's is a tenth in modern (modern 1e-3, paper 1e-2)",
            "low": 1e-7,
            "high": 1.0,
        },
    )
    patience: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 8, "paper": "all epochs"},
            "help": "epochs without a smaller validation loss after which it ends; 0: all epochs (modern 8, paper 0)",
            "low": 0,
            "high": 100_000,
        },
    )
    width: int = field(
        default=16,
        metadata={
            "help": "channels of the first layer where it begins anew",
            "unit": "channels",
            "low": 1,
            "high": 512,
        },
    )
    seed: int = field(default=1234, metadata={"help": "fixes weights, folds and order", "low": 0, "high": 2**31 - 1})
    device: Literal["auto", "cpu", "cuda"] = field(
        default="auto", metadata={"help": "auto takes CUDA where there is one", "choices": ("auto", "cpu", "cuda")}
    )


KIND = Kind(
    name="finetune",
    title="Fine-tuning from vetting",
    about="Learns from experts' grades what is of interest, and gives every subject a probability of it.",
    config=FinetuneConfig,
    run="models.finetune:run",
    needs=("score",),  # judged beside it
    needs_images=True,
    optional=("train",),  # its encoder
    provides="score",
    labels=("expert",),
    needs_labels=("expert",),
    learns="is_found",
    color="probability_of_interest",
)
