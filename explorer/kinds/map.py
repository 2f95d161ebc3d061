"""Kind ``map``: UMAP of the latent vectors, three components."""

from dataclasses import dataclass, field
from typing import Literal

from explorer.kinds import Kind


@dataclass(frozen=True, slots=True)
class MapConfig:
    """How to lay out the map. Fields left empty take the preset's value (see `models.embedding.PRESETS`)."""

    preset: Literal["fast", "paper"] = field(
        default="fast",
        metadata={
            "help": "fast: UMAP's defaults, three components; "
            "paper: Mantha et al. 2024 (learning rate 0.001, 1000 epochs, five components of which three are kept)",
            "choices": ("fast", "paper"),
        },
    )
    n_neighbors: int = field(
        default=15, metadata={"help": "neighbors that shape the map", "unit": "subjects", "low": 2, "high": 200}
    )
    min_dist: float = field(
        default=0.1, metadata={"help": "how close points may lie", "unit": "map units", "low": 0.0, "high": 1.0}
    )
    n_epochs: int | None = field(
        default=None,
        metadata={
            "help": "rounds of layout (fast: 500 below 10,000 subjects, else 200; paper: 1000)",
            "low": 1,
            "high": 10_000,
        },
    )
    seed: int = field(default=1234, metadata={"help": "fixes the layout", "low": 0, "high": 2**31 - 1})


KIND = Kind(
    name="map",
    title="Lay out the map",
    config=MapConfig,
    run="models.embedding:run",
    needs=("score",),
    folder="maps",
    needs_latents=True,
)
