"""Kind ``map``: UMAP of the latent vectors, three components."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from explorer.errors import UsageError
from explorer.kinds import Kind


@dataclass(frozen=True, slots=True)
class MapConfig:
    """How to lay out the map. Fields left empty take the preset's value (see `models.embedding.PRESETS`).

    With a finished map told as a parent, its layout stands: new subjects are placed on it, and no setting may be told.
    """

    preset: Literal["fast", "seeded", "paper"] = field(
        default="fast",
        metadata={
            "is_everyday": True,
            "help": "fast: as trustworthy as UMAP's defaults in less time; on four threads or more, and on a GPU with "
            "cuML, no two maps are quite equal (map.json says is_reproducible); "
            "seeded: UMAP's defaults on one thread, the same bytes for the same seed and number of threads; "
            "paper: Mantha et al. 2024 (learning rate 0.001, 1000 epochs, five components of which three are kept)",
            "choices": ("fast", "seeded", "paper"),
        },
    )
    n_neighbors: int = field(
        default=15,
        metadata={
            "is_everyday": True,
            "help": "neighbors that shape the map",
            "unit": "subjects",
            "low": 2,
            "high": 200,
        },
    )
    min_dist: float = field(
        default=0.1,
        metadata={
            "is_everyday": True,
            "help": "how close points may lie",
            "unit": "map units",
            "low": 0.0,
            "high": 1.0,
        },
    )
    n_epochs: int | None = field(
        default=None,
        metadata={
            "presets": {
                "fast": "500; above 10,000 subjects 100",
                "seeded": "500; above 10,000 subjects 200",
                "paper": 1000,
            },
            "help": "rounds of layout (up to 10,000 subjects 500, above fast 100 and seeded 200; paper 1000)",
            "low": 1,
            "high": 10_000,
        },
    )
    fit_on: int | None = field(
        default=None,
        metadata={
            "presets": {
                "fast": "all; above 200,000 subjects 100,000",
                "seeded": "all; above 200,000 subjects 100,000",
                "paper": "all; above 200,000 subjects 100,000",
            },
            "help": "lay out this many, a sample that has all of the top 1 % by anomaly score and of the sparsest 1 %, "
            "and place the others on it (all up to 200,000; of more, 100,000)",
            "unit": "subjects",
            "low": 1000,
        },
    )
    seed: int = field(default=1234, metadata={"help": "fixes the layout", "low": 0, "high": 2**31 - 1})


def _check(told: Mapping[str, Any], parents: Mapping[str, Path]) -> None:
    from models.artifacts import check_network  # the list of kinds is quick, and needs no pyarrow

    if "map" not in parents:
        return
    if told:
        raise UsageError(
            f"map: {', '.join(told)} would lay out a new map, but subjects are to be placed on {parents['map'].name} "
            "as it is; leave out one or the other"
        )
    check_network(parents["map"], parents["score"])


KIND = Kind(
    name="map",
    title="Lay out the map",
    about="Lays the subjects out by their latent vectors: like beside like.",
    config=MapConfig,
    run="models.embedding:run",
    needs=("score",),
    optional=("map",),
    folder="maps",
    needs_latents=True,
    check=_check,
)
