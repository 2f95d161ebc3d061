"""`Row`: one line of the benchmarks' table."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """Ours beside a named alternative, both measured in this run, on this machine, on the same data.

    Attributes
    ----------
    name
        The row's name, ``group`` or ``group-detail``.
    what
        What was measured, in words, with its numbers: how many subjects, rounds, pixels.
    ours, theirs
        The two figures, in `unit`.
    ratio
        How many times better ours is: > 1 is better, whether the unit is a time or a rate.
    alternative
        What `theirs` is.
    target
        The ratio that the project holds itself to, or None. A missed target is shown, it does not fail the run.
    note
        Anything a reader must know to judge the figure.
    extra
        Further numbers, kept in the JSON.
    """

    name: str
    what: str
    ours: float
    theirs: float
    ratio: float
    unit: str
    alternative: str
    target: float | None = None
    note: str = ""
    extra: dict[str, Any] = field(default_factory=dict)
