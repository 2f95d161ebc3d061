"""Kind ``train``: the anomaly model, wGAN-GP and encoder."""

from dataclasses import dataclass, field
from typing import Literal

from explorer.kinds import Kind


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train. Fields left empty take the preset's value (see `models.train.PRESETS`)."""

    preset: Literal["fast", "paper"] = field(
        default="fast",
        metadata={
            "is_everyday": True,
            "help": "fast: minutes on a laptop; paper: Mantha et al. 2024, for a GPU",
            "choices": ("fast", "paper"),
        },
    )
    epochs: int | None = field(
        default=None,
        metadata={
            "presets": {"fast": "1,000 steps", "paper": 500},
            "is_everyday": True,
            "help": "passes of the generator over the training images (fast: as many as give 1,000 steps, paper 500)",
            "low": 1,
            "high": 100_000,
        },
    )
    encoder_epochs: int | None = field(
        default=None,
        metadata={
            "presets": {"fast": "1,500 steps", "paper": 500},
            "is_everyday": True,
            "help": "passes of the encoder over the training images (fast: as many as give 1,500 steps, paper 500)",
            "low": 1,
            "high": 100_000,
        },
    )
    batch: int | None = field(
        default=None,
        metadata={
            "presets": {"fast": 16, "paper": 1024},
            "help": "images a step of generator and critic (fast 16, paper 1024)",
            "unit": "images",
            "low": 2,
            "high": 65_536,
        },
    )
    encoder_batch: int | None = field(
        default=None,
        metadata={
            "presets": {"fast": 32, "paper": 256},
            "help": "images a step of the encoder (fast 32, paper 256)",
            "unit": "images",
            "low": 1,
            "high": 65_536,
        },
    )
    width: int | None = field(
        default=None,
        metadata={
            "presets": {"fast": 16, "paper": 64},
            "help": "channels of the first layer (fast 16, paper 64)",
            "unit": "channels",
            "low": 1,
            "high": 512,
        },
    )
    latent_size: int = field(default=128, metadata={"help": "length of the latent vector", "low": 1, "high": 4096})
    learning_rate: float | None = field(
        default=None,
        metadata={
            "presets": {"fast": 0.0003, "paper": 0.0001},
            "help": "Adam's step, generator and critic (fast 3e-4, paper 1e-4)",
            "low": 1e-7,
            "high": 1.0,
        },
    )
    encoder_learning_rate: float | None = field(
        default=None,
        metadata={
            "presets": {"fast": 0.001, "paper": 0.0001},
            "help": "Adam's step, encoder (fast 1e-3, paper 1e-4)",
            "low": 1e-7,
            "high": 1.0,
        },
    )
    beta_1: float = field(default=0.5, metadata={"help": "Adam's decay of the mean", "low": 0.0, "high": 0.9999})
    beta_2: float = field(default=0.9, metadata={"help": "Adam's decay of the variance", "low": 0.0, "high": 0.99999})
    n_critic: int = field(
        default=5, metadata={"help": "critic steps for one generator step", "unit": "steps", "low": 1, "high": 100}
    )
    gradient_penalty: float = field(
        default=10.0, metadata={"help": "λ_GP, weight of the gradient penalty", "low": 0.0, "high": 1e6}
    )
    feature_weight: float = field(
        default=0.2,
        metadata={
            "is_everyday": True,
            "help": "λ, share of the feature score in the encoder's loss",
            "low": 0.0,
            "high": 1.0,
        },
    )
    encoder_activation: Literal["linear", "tanh3"] = field(
        default="linear",
        metadata={"help": "the encoder's last layer: linear, or 3 tanh(y)", "choices": ("linear", "tanh3")},
    )
    validation: float = field(
        default=0.1, metadata={"help": "share of the images held out for validation", "low": 0.0, "high": 0.9}
    )
    train_on: int | None = field(
        default=None,
        metadata={
            "presets": {"fast": "all", "paper": "all"},
            "help": "train on a random subset of this many (default: all)",
            "unit": "images",
            "low": 2,
        },
    )
    seed: int = field(
        default=1234,
        metadata={"is_everyday": True, "help": "fixes weights, split and order", "low": 0, "high": 2**31 - 1},
    )
    precision: Literal["float32", "ieee", "bfloat16"] = field(
        default="float32",
        metadata={
            "help": "of the networks' layers while training. float32: convolutions of GPUs in TF32, as PyTorch does by "
            "itself; ieee: nothing in TF32; bfloat16: faster on GPUs and on CPUs with AMX, the gradient penalty in "
            "float32",
            "choices": ("float32", "ieee", "bfloat16"),
        },
    )
    device: Literal["auto", "cpu", "cuda"] = field(
        default="auto", metadata={"help": "auto takes CUDA where there is one", "choices": ("auto", "cpu", "cuda")}
    )
    processes: int | None = field(
        default=None,
        metadata={
            "help": "that share every batch, one to a GPU (default: as many as the job has GPUs, else 1)",
            "low": 1,
            "high": 64,
        },
    )


KIND = Kind(
    name="train",
    title="Train the anomaly model",
    about="Learns what the images have in common: a generator, its critic, and an encoder. Scores build on it.",
    config=TrainConfig,
    run="models.train:run",
    needs_images=True,
    optional=("train",),  # generator and critic are taken from it
)
