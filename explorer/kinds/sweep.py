"""Kind ``sweep``: a saved boundary's rates as the truth's Σ moves, and as one of its limits does."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from explorer.kinds import Kind


@dataclass(frozen=True, slots=True)
class SweepConfig:
    """What is swept, and how far."""

    boundary: str = field(default="", metadata={"is_everyday": True, "help": "name of the saved boundary"})
    version: int | None = field(default=None, metadata={"help": "its version (the newest)", "low": 1})
    n_points: int = field(
        default=30, metadata={"is_everyday": True, "help": "values of Σ, and of the limit", "low": 2, "high": 1000}
    )
    sigma_low: float | None = field(
        default=None,
        metadata={"help": "least Σ, in the truth's own unit (the value that 40 % of the tune half reach)"},
    )
    sigma_high: float | None = field(
        default=None, metadata={"help": "highest Σ (the value that 1 % of the tune half reach)"}
    )
    gate: str | None = field(
        default=None,
        metadata={
            "is_everyday": True,
            "help": "also move the limit of the boundary's gate on this column, as feature_score, or of its "
            '"classifier"; the truth then stands as it was saved',
        },
    )
    limit: Literal["low", "high"] | None = field(
        default=None,
        metadata={"help": "which limit of the gate (the lower where it has one)", "choices": ("low", "high")},
    )
    gate_low: float | None = field(
        default=None, metadata={"help": "least limit, in the column's own unit (the least value in the tune half)"}
    )
    gate_high: float | None = field(
        default=None, metadata={"help": "highest limit (the value that 1 % of the tune half reach)"}
    )

    def __post_init__(self) -> None:
        for low, high in (("sigma_low", "sigma_high"), ("gate_low", "gate_high")):
            first, last = getattr(self, low), getattr(self, high)
            if first is not None and last is not None and not first < last:
                raise ValueError(f"{low} is {first:g} and {high} {last:g}; the first must be below the second")
        for name in ("limit", "gate_low", "gate_high"):
            if self.gate is None and getattr(self, name) is not None:
                raise ValueError(f"{name} is of a gate; tell which (--gate)")


def check(told: Mapping[str, Any], parents: Mapping[str, Path]) -> None:
    """Refuse a sweep of nothing."""
    from explorer.errors import UsageError

    if not told.get("boundary"):
        raise UsageError(
            "which boundary? tell its name (--boundary NAME); `voorwerp boundary list SURVEY` has those saved"
        )


KIND = Kind(
    name="sweep",
    title="Sweep a boundary",
    about="Tells precision, recall, F1 and kept fraction of a saved boundary as the truth's Σ, or one of its limits, "
    "moves: on the tune half.",
    config=SweepConfig,
    run="explorer.services.sweeping:run",
    check=check,
)
