"""Two boundaries against one truth: whom both keep, and what one finds more at an equal kept fraction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from explorer.errors import UsageError
from explorer.services.boundaries import Saved
from explorer.services.desk import Desk
from models import boundary
from models.boundary import Gate, Leaf, Learned, Path, Term, alternatives, leaves, replaced
from models.limits import between
from models.truth import Truth
from models.weighted import Difference, paired


@dataclass(frozen=True, slots=True)
class Compared:
    """Two boundaries, of the tune half.

    Attributes
    ----------
    both, only_a, only_b, neither
        How many each keeps; a subject of which it is not known whether it is in is not kept.
    right
        The same four of those known to be right.
    n_right
        Those right.
    differences
        Of A less B at equal kept fraction: "precision" and "recall"; None where that cannot be, and `note` says why.
    note
        What was moved to make the kept fractions equal, or "".
    """

    n: int
    both: int
    only_a: int
    only_b: int
    right: tuple[int, int, int]
    n_right: int
    differences: dict[str, Difference] | None
    note: str


def compare(desk: Desk, a: Saved, b: Saved, truth: Truth) -> Compared:
    """Compare two boundaries on the tune half, each by the run and map that it was saved with.

    Raises
    ------
    VoorwerpError
        One cannot be evaluated, or the truth is not there.
    """
    tune = desk.truths.half("tune")
    known = desk.truths.of(truth, a.context)
    rows = np.flatnonzero(tune)
    if not len(rows):
        raise UsageError("no subject is in the tune half, so nothing can be compared")
    one, other = (desk.boundaries.kept(x.keep, x.context).yes[rows] for x in (a, b))
    parts = one & other, one & ~other, ~one & other
    right = (known.positive & known.known)[rows]
    note, differences = "", None
    n_one, n_other = int(one.sum()), int(other.sum())
    mine, theirs = one, other
    if abs(n_one - n_other) > max(1.0, 0.01 * min(n_one, n_other)):
        note = (
            f"A keeps {n_one:,} and B {n_other:,} of {len(rows):,}: at different kept fractions precision and recall "
            "say little of which is better"
        )
        # the wider one is cut down: a limit that is in its place is there
        for x, wanted, is_a in ((b, n_one, False), (a, n_other, True)):
            moved = _moved(desk, x, wanted, rows)
            if moved is None:
                continue
            mask, words = moved
            note = f"{'A' if is_a else 'B'} is compared with {words}, so that both keep {wanted:,}"
            mine, theirs = (mask, other) if is_a else (one, mask)
            break
    try:
        p = (known.p if known.p is not None else known.positive.astype(np.float64))[rows]
        is_known = known.known[rows] & np.isfinite(p)
        if truth.is_of_experts:
            note = "; ".join(filter(None, (note, "graded subjects were chosen: they do not tell which is better")))
        else:
            differences = paired(mine, theirs, np.nan_to_num(p), desk.learning.groups()[rows], known=is_known)
    except ValueError:
        note = note or "the kept fractions differ"
    counts: Any = (int(part.sum()) for part in parts)
    both, only_a, only_b = counts
    of_right: Any = tuple(int((part & right).sum()) for part in parts)
    return Compared(len(rows), both, only_a, only_b, of_right, int(right.sum()), differences, note)


def _moved(desk: Desk, saved: Saved, wanted: int, rows: np.ndarray) -> tuple[np.ndarray, str] | None:
    """Whom a boundary keeps with one limit where it keeps so many of `rows`, and in words; None where none can."""
    for path, leaf in leaves(saved.keep):
        found = _at_count(desk, saved, path, leaf, wanted, rows)
        if found is not None:
            return found
    return None


def _at_count(
    desk: Desk, saved: Saved, path: Path, leaf: Leaf, wanted: int, rows: np.ndarray
) -> tuple[np.ndarray, str] | None:
    is_low = isinstance(leaf, Learned) or (isinstance(leaf, Gate) and leaf.low is not None and leaf.high is None)
    is_high = isinstance(leaf, Gate) and leaf.high is not None and leaf.low is None
    if not is_low and not is_high:
        return None
    source = desk.boundaries.source(saved.context)
    if isinstance(leaf, Learned):
        values = (source.balanced if leaf.scale == "balanced" else source.probability)(leaf.model)[rows]
    elif isinstance(leaf, Gate):
        values = source.column(leaf.column)[rows]
    else:
        return None
    if_yes, if_no, if_unknown = (mask[rows] for mask in alternatives(saved.keep, path, source))
    has = ~np.isnan(values)
    base = int((if_no & has).sum() + (if_unknown & ~has).sum())
    turned = if_yes & ~if_no & has  # whom this limit decides
    if (if_no & ~if_yes & has).any() or not base < wanted <= base + int(turned.sum()):
        return None
    ordered = np.sort(values[turned])
    k = wanted - base
    limit = float(ordered[len(ordered) - k] if is_low else ordered[k - 1])
    inside = between(values, limit if is_low else None, None if is_low else limit)
    mask = np.where(has, np.where(inside, if_yes, if_no), if_unknown)
    if abs(int(mask.sum()) - wanted) > max(1.0, 0.01 * wanted):  # many have the same value
        return None
    limits: dict[str, Any] = {"low": limit} if is_low else {"high": limit}
    if isinstance(leaf, Gate):
        limits |= {f"{name}_percentile": None for name in limits}
    there: Term = replace(leaf, **limits) if not (isinstance(leaf, Learned) and not 0 <= limit <= 1) else leaf
    titles = desk.explore.colors(saved.context.run_id, saved.context.map_id)
    return mask, boundary.in_words(replaced(saved.keep, path, there), titles)
