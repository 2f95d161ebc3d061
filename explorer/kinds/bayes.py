"""Kind ``bayes``: a network that predicts k of n votes and knows what it does not know."""

from dataclasses import dataclass, field
from typing import Literal

from explorer.kinds import Kind


@dataclass(frozen=True, slots=True)
class BayesConfig:
    """How votes are learned. Fields left empty take the preset's value (see `models.bayesian.PRESETS`)."""

    preset: Literal["modern", "paper"] = field(
        default="modern",
        metadata={
            "is_everyday": True,
            "help": "modern: a minute for hundreds of images; paper: Walmsley et al. 2020, for a GPU",
            "choices": ("modern", "paper"),
        },
    )
    votes: str = field(
        default="",
        metadata={"is_everyday": True, "help": "whose votes to learn from (default: the only ones there are)"},
    )
    expected_votes: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": "median of the votes", "paper": 40},
            "is_everyday": True,
            "help": "votes that a subject would get if it were shown: acquisition is what so many would tell",
            "unit": "votes",
            "low": 1,
            "high": 10_000,
        },
    )
    samples: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 30, "paper": 15},
            "help": "posterior samples of each prediction (dropout left on)",
            "low": 2,
            "high": 1000,
        },
    )
    size: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": "the crop's, at most 64", "paper": 128},
            "help": "crops are resampled to this side, a multiple of 16",
            "unit": "px",
            "low": 16,
            "high": 512,
        },
    )
    width: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 16, "paper": 32},
            "help": "channels of the first layer",
            "unit": "channels",
            "low": 1,
            "high": 512,
        },
    )
    dense: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 64, "paper": 128},
            "help": "units of the dense layer, which are the latent vector",
            "low": 1,
            "high": 4096,
        },
    )
    dropout: float = field(
        default=0.5,
        metadata={"help": "share of the dense layer's units left out of each sample", "low": 0.01, "high": 0.95},
    )
    epochs: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 60, "paper": 125},
            "is_everyday": True,
            "help": "passes over the images with votes, at most (paper: of 15 steps each)",
            "low": 1,
            "high": 100_000,
        },
    )
    batch: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 32, "paper": 256},
            "help": "images a step",
            "unit": "images",
            "low": 2,
            "high": 65_536,
        },
    )
    learning_rate: float | None = field(
        default=None,
        metadata={"presets": {"modern": 0.001, "paper": 0.001}, "help": "Adam's step", "low": 1e-7, "high": 1.0},
    )
    patience: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 12, "paper": 0},
            "help": "ends after so many epochs without a better likelihood in validation; 0: makes all",
            "unit": "epochs",
            "low": 0,
            "high": 100_000,
        },
    )
    folds: int = field(
        default=3,
        metadata={
            "is_everyday": True,
            "help": "networks that each predict what they have not seen, so that calibration can be told; 0: none",
            "low": 0,
            "high": 20,
        },
    )
    precision: Literal["float32", "bfloat16"] = field(
        default="float32",
        metadata={"help": "of the layers while training", "choices": ("float32", "bfloat16")},
    )
    seed: int = field(
        default=1234,
        metadata={"help": "fixes weights, folds, order and posterior samples", "low": 0, "high": 2**31 - 1},
    )
    device: Literal["auto", "cpu", "cuda"] = field(
        default="auto", metadata={"help": "auto takes CUDA where there is one", "choices": ("auto", "cpu", "cuda")}
    )


KIND = Kind(
    name="bayes",
    title="Predict votes, and what would teach most",
    about="Learns the votes from the images, and says of each subject how much its votes would teach (acquisition).",
    config=BayesConfig,
    run="models.bayesian:run",
    needs_images=True,
    provides="score",
    labels=("votes",),
    color="predicted_fraction",
)
