"""`Row`: one line of the benchmarks' table."""

from dataclasses import dataclass, field
from typing import Any, Literal


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
        Further numbers, kept in the JSON. ``ours_ms``, ``ours_s`` (``theirs_…``) are taken for `each` where that is
        empty.
    limit
        The figure, in `unit`, that ours is held to beside the ratio, or None.
    better
        Whether a "lower" or a "higher" figure is better: what `limit` bounds.
    each, theirs_each
        The single measurements of which the figures are the medians, in `unit`: their spread is the noise that
        ``make bench-compare`` allows for.
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
    limit: float | None = None
    better: Literal["lower", "higher"] = "lower"
    each: list[float] = field(default_factory=list)
    theirs_each: list[float] = field(default_factory=list)

    @property
    def is_met(self) -> bool | None:
        """Whether ours keeps to the ratio and to the limit; None where there is neither."""
        if self.target is None and self.limit is None:
            return None
        keeps_ratio = self.target is None or self.ratio >= self.target
        keeps_limit = self.limit is None or (
            self.ours <= self.limit if self.better == "lower" else self.ours >= self.limit
        )
        return keeps_ratio and keeps_limit
