"""Kind ``cluster``: groups of like subjects, for labelling by the grid."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from explorer.kinds import Kind


@dataclass(frozen=True, slots=True)
class ClusterConfig:
    """How to cluster. Fields left empty take the preset's value (see `models.clustering.PRESETS`)."""

    preset: Literal["modern", "paper"] = field(
        default="modern",
        metadata={
            "is_everyday": True,
            "help": "modern: a small autoencoder trained whole, AdamW, as many clusters as the vectors have; paper: "
            "500-500-2000-10 trained layer by layer, SGD, 50 clusters (Xie et al. 2016; Wright et al. 2019)",
            "choices": ("modern", "paper"),
        },
    )
    on: Literal["latents", "images"] = field(
        default="latents",
        metadata={
            "is_everyday": True,
            "help": "what is clustered: latent vectors of a score run, or the images themselves",
            "choices": ("latents", "images"),
        },
    )
    clusters: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": "4 to 50, by BIC", "paper": 50},
            "is_everyday": True,
            "help": "how many (modern: 4 to 50, by the information criterion of k-means on the vectors; paper 50)",
            "unit": "clusters",
            "low": 2,
            "high": 1000,
        },
    )
    expert: str = field(
        default="", metadata={"is_everyday": True, "help": "labels by experts; clusters far from them are novel"}
    )
    amateur: str = field(
        default="", metadata={"help": "labels by amateurs, for subjects that experts have not labelled"}
    )
    classes: Literal["found", "grades"] = field(
        default="found",
        metadata={"help": "of a campaign: found or not, or each grade a class", "choices": ("found", "grades")},
    )
    means: str = field(
        default="",
        metadata={"help": "names that differ between sources: smooth=E, features=S; nothing after = leaves one out"},
    )
    multitask: bool = field(
        default=True,
        metadata={"is_everyday": True, "help": "learn from the labels, too, then cluster again"},
    )
    least_labels: int = field(
        default=3,
        metadata={
            "help": "labels with which a cluster is no longer novel",
            "unit": "labels",
            "low": 1,
            "high": 100_000,
        },
    )
    held_out: float = field(
        default=0.3,
        metadata={
            "help": "share of the labels that is kept to judge by, and not learned from",
            "low": 0.1,
            "high": 0.8,
        },
    )
    layers: str | None = field(
        default=None,
        metadata={
            "presets": {"modern": "256-128", "paper": "500-500-2000"},
            "help": "sizes of the layers between vector and code (modern 256-128, paper 500-500-2000)",
        },
    )
    code_size: int = field(default=10, metadata={"help": "length of the code", "low": 2, "high": 512})
    scale: Literal["all", "each", "length"] | None = field(
        default=None,
        metadata={
            "presets": {"modern": "all", "paper": "length"},
            "help": "how vectors are scaled: all numbers by one unit, each by its own, or each vector to the length of "
            "√(its numbers) (modern all, paper length)",
            "choices": ("all", "each", "length"),
        },
    )
    side: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 24, "paper": "as they are"},
            "help": "on images: the side that they are averaged to, 0 for as they are (modern 24, paper 0)",
            "unit": "pixels",
            "low": 0,
            "high": 512,
        },
    )
    epochs: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 60, "paper": 400},
            "help": "passes of the pre-training (modern 60; paper 400 for each layer and 400 for the whole)",
            "low": 1,
            "high": 100_000,
        },
    )
    rounds: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": 20, "paper": 143},
            "help": "how often the target is taken anew, at most (modern 20, paper 143: 20,000 steps)",
            "low": 1,
            "high": 100_000,
        },
    )
    update_every: int | None = field(
        default=None,
        metadata={
            "presets": {"modern": "a pass, 30 to 140", "paper": 140},
            "help": "steps between two targets (modern: a pass, 30 to 140; paper 140)",
            "unit": "steps",
            "low": 1,
            "high": 100_000,
        },
    )
    tolerance: float = field(
        default=0.001,
        metadata={"help": "clustering ends when a smaller share changes its cluster", "low": 0.0, "high": 1.0},
    )
    reconstruction: float | None = field(
        default=None,
        metadata={
            "presets": {"modern": 10, "paper": 0},
            "help": "weight of the reconstruction while clustering, which keeps the code from collapsing (Guo et al. "
            "2017; modern 10, paper 0)",
            "low": 0.0,
            "high": 1e6,
        },
    )
    batch: int = field(default=256, metadata={"help": "subjects a step", "unit": "subjects", "low": 2, "high": 65_536})
    multitask_epochs: int = field(
        default=80,
        metadata={
            "help": "T, passes of the multitask stage at most; it ends 10 after the best",
            "low": 1,
            "high": 10_000,
        },
    )
    schedule: Literal["falling", "constant"] = field(
        default="falling",
        metadata={
            "help": "weights of labels and clustering. falling: α = 1 - t / T, β = 1 - α, as the paper means it; "
            "constant: α = 1, β = 0, as its published code does by a slip",
            "choices": ("falling", "constant"),
        },
    )
    gamma: float = field(
        default=1.0,
        metadata={"help": "γ, weight of the reconstruction in the multitask stage", "low": 0.0, "high": 1e6},
    )
    fit_on: int = field(
        default=50_000,
        metadata={
            "help": "fit to a random sample of at most this many, and all that have labels; the others are placed",
            "unit": "subjects",
            "low": 4,
            "high": 10_000_000,
        },
    )
    seed: int = field(default=1234, metadata={"help": "fixes sample, weights and order", "low": 0, "high": 2**31 - 1})
    device: Literal["auto", "cpu", "cuda"] = field(
        default="auto", metadata={"help": "auto takes CUDA where there is one", "choices": ("auto", "cpu", "cuda")}
    )


def _at(config: ClusterConfig) -> Mapping[str, Any]:
    if config.on == "latents":
        return {}
    return {"needs": (), "needs_images": True, "needs_latents": False}


KIND = Kind(
    name="cluster",
    title="Cluster for labelling by the grid",
    about="Finds groups of like subjects, novel ones first, so that a whole grid of them can be labelled at once.",
    config=ClusterConfig,
    run="models.clustering:run",
    needs=("score",),
    needs_latents=True,
    provides="score",
    at=_at,
    on_what="a score run; on images: none",
    labels=("expert", "amateur"),
)
