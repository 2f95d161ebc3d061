"""Kind ``autoencoder``: reconstruction error and code of a small convolutional autoencoder.

All of a detector of one's own: a config, and a function that writes scores.
"""

from dataclasses import dataclass, field
from typing import Literal

from explorer.kinds import Kind


@dataclass(frozen=True, slots=True)
class AutoencoderConfig:
    """How to train the autoencoder; it then scores every subject."""

    epochs: int = field(
        default=20, metadata={"is_everyday": True, "help": "passes over the training images", "low": 1, "high": 100_000}
    )
    batch: int = field(default=32, metadata={"help": "images a step", "unit": "images", "low": 1, "high": 65_536})
    width: int = field(
        default=16,
        metadata={
            "is_everyday": True,
            "help": "channels of the first layer",
            "unit": "channels",
            "low": 1,
            "high": 512,
        },
    )
    code_channels: int = field(
        default=8,
        metadata={"help": "channels of the code: its length is this × (size / 8)²", "low": 1, "high": 512},
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "Adam's step", "low": 1e-7, "high": 1.0})
    validation: float = field(
        default=0.1, metadata={"help": "share of the images held out for validation", "low": 0.0, "high": 0.9}
    )
    train_on: int = field(
        default=20_000,
        metadata={
            "help": "train on a random subset of at most this many",
            "unit": "images",
            "low": 2,
            "high": 1_000_000,
        },
    )
    seed: int = field(default=1234, metadata={"help": "fixes weights, split and order", "low": 0, "high": 2**31 - 1})
    device: Literal["auto", "cpu", "cuda"] = field(
        default="auto", metadata={"help": "auto takes CUDA where there is one", "choices": ("auto", "cpu", "cuda")}
    )


KIND = Kind(
    name="autoencoder",
    title="Train an autoencoder and score every subject",
    about="Trains a small autoencoder, and scores every subject by how badly that reproduces it.",
    config=AutoencoderConfig,
    run="models.autoencoder:run",
    needs_images=True,
    provides="score",
    is_shared=True,
)
