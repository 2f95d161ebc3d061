"""A limit on a column, compared as a person means it: in the precision in which the column is held.

7 of 10 in single precision is a little below .7, and whoever keeps all from .7 on means it too. So a limit on numbers
that are all exact in single precision is the number of that precision nearest to it, whichever type holds them; on all
others it is itself. What a person typed stays as it is: only the comparison rounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Numbers that are looked at first: most columns of double precision show themselves there.
FIRST = 4096


def is_single(values: np.ndarray) -> bool:
    """Whether all of them but NaN are exact in single precision."""
    if values.dtype == np.float32:
        return True
    return all(_is_single(part) for part in (values[:FIRST], values[FIRST:]))


def _is_single(values: np.ndarray) -> bool:
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(((values.astype(np.float32) == values) | np.isnan(values)).all())


def nearest(limit: Any, single: bool, is_low: bool) -> np.ndarray:
    """What values are compared with: of one limit or an array of them, float32 where `single`, else float64.

    A limit beyond single precision stays beyond all its finite numbers, and short of infinity.
    """
    given = np.asarray(limit, np.float64)
    if not single:
        return given
    with np.errstate(over="ignore"):
        found = given.astype(np.float32)
    most = np.finfo(np.float32).max
    beyond = np.isfinite(given) & (found == np.float32(-np.inf if is_low else np.inf))
    return np.asarray(np.where(beyond, -most if is_low else most, found), np.float32)


def between(
    values: np.ndarray, low: float | None = None, high: float | None = None, single: bool | None = None
) -> np.ndarray:
    """low ≤ value ≤ high, bool (N,); False for NaN.

    Parameters
    ----------
    single
        Whether they are a part of values that are `is_single`; None to look at them.
    """
    found: np.ndarray = ~np.isnan(values)
    if low is None and high is None:
        return found
    values = np.asarray(values, np.float64) if values.dtype.kind != "f" else values
    single = is_single(values) if single is None else single
    # in the type of the values: float32 need not be made wide, and single numbers in float64 compare alike
    if low is not None:
        found &= values >= nearest(low, single, True).astype(values.dtype)
    if high is not None:
        found &= values <= nearest(high, single, False).astype(values.dtype)
    return found
