"""What a run found, for people to read: tables, curves and matrices in ``findings.json`` of its folder.

The page of runs draws them and the command line prints the tables, whatever the kind. A kind may write them again and
again while it is at work; each time they are whole.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from models.artifacts import write_json

FINDINGS = "findings.json"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts and numbers under named columns; a missing number is None."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a curve; `low` and `high` are its 95 % interval, empty for none. `is_points`: not joined."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    is_points: bool = False


@dataclass(frozen=True, slots=True)
class Curve:
    """Lines over one axis, which `x` and `y` name with units. `has_diagonal`: y = x is where it should be."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    note: str = ""
    has_diagonal: bool = False


@dataclass(frozen=True, slots=True)
class Matrix:
    """Counts by `rows` (what is) and `columns` (what was said)."""

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    counts: Sequence[Sequence[float]]
    note: str = ""


@dataclass(slots=True)
class Findings:
    """All of a run's, in the order that a person reads: what was found in a sentence or two, then what says so.

    Attributes
    ----------
    sentences
        The result, with k of n and intervals.
    caveats
        What to know before believing it: simulated, few, in-sample.
    """

    sentences: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    matrices: list[Matrix] = field(default_factory=list)

    def write(self, directory: Path) -> None:
        """Write them, whole or not at all; a number that is not finite becomes null."""
        write_json(directory / FINDINGS, _finite(asdict(self)))


def read_findings(directory: Path) -> Mapping[str, Any] | None:
    """What `Findings.write` wrote; None where there is nothing (yet)."""
    try:
        found: Mapping[str, Any] = json.loads((directory / FINDINGS).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found


def _finite(value: Any) -> Any:
    if hasattr(value, "tolist"):  # of numpy
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
