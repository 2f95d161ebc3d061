"""The order of a million numbers in tens of milliseconds: a radix sort that needs no particular processor."""

from __future__ import annotations

import numpy as np
from numba import njit

_jit = njit(cache=True, nogil=True)
_BITS = 11
_BUCKETS = 1 << _BITS


def argsort(values: np.ndarray, *, descending: bool = False) -> np.ndarray:
    """The rows of a column in order: NaN last either way, ties by row.

    Parameters
    ----------
    values
        Real numbers (N,), N < 2³²; float32 and float64 as they are, others as float64. -0.0 equals 0.0.

    Returns
    -------
    order
        uint32 (N,).

    Raises
    ------
    ValueError
        Not one column.
    """
    values = np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"one column is sorted, not an array of shape {values.shape}")
    if values.dtype == np.float32:
        bits = np.ascontiguousarray(values).view(np.uint32)
        keys = _keys(bits, np.uint32(1 << 31), np.uint32(0x7F800000), descending)
    else:
        bits = np.ascontiguousarray(values, np.float64).view(np.uint64)
        keys = _keys(bits, np.uint64(1 << 63), np.uint64(0x7FF0000000000000), descending)
    return _sorted_rows(keys, _counts(keys))


def warm() -> None:
    """Compile every kernel into numba's cache on disk, so that nobody's first sort waits for it."""
    for dtype in (np.float32, np.float64):
        column = np.zeros(2, dtype)
        argsort(column)
        column.flags.writeable = False  # another type to numba
        argsort(column)


@_jit
def _keys(bits: np.ndarray, sign: np.unsignedinteger, infinity: np.unsignedinteger, descending: bool) -> np.ndarray:
    """Unsigned integers in the order of the floats they are made of, NaN last; `sign`, `infinity`: bits of theirs."""
    keys = np.empty_like(bits)
    for i in range(len(bits)):
        b = bits[i]
        size = b & ~sign
        if size > infinity:
            keys[i] = sign | ~sign
            continue
        if size == 0:
            b = size
        key = ~b if b & sign else b | sign
        keys[i] = ~key if descending else key
    return keys


@_jit
def _counts(keys: np.ndarray) -> np.ndarray:
    """How often each value of each digit stands in the keys: uint32 (digits, buckets), all in one pass."""
    n_digits = (8 * keys.itemsize + _BITS - 1) // _BITS
    counts = np.zeros((n_digits, _BUCKETS), np.uint32)
    for i in range(len(keys)):
        key = np.uint64(keys[i])
        for digit in range(n_digits):
            counts[digit, (key >> np.uint64(_BITS * digit)) & np.uint64(_BUCKETS - 1)] += 1
    return counts


@_jit
def _sorted_rows(keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Rows by key, lowest digit first; a digit that is the same in every key is passed over. `keys` is spent."""
    n = len(keys)
    rows, rows_to, keys_to = np.arange(n).astype(np.uint32), np.empty(n, np.uint32), np.empty_like(keys)
    starts = np.empty(_BUCKETS, np.int64)
    for digit in range(len(counts)):
        if counts[digit].max() == n:
            continue
        at = 0
        for bucket in range(_BUCKETS):
            starts[bucket] = at
            at += int(counts[digit, bucket])
        shift = np.uint64(_BITS * digit)
        for i in range(n):
            mine = np.int64((np.uint64(keys[i]) >> shift) & np.uint64(_BUCKETS - 1))
            to = starts[mine]
            starts[mine] = to + 1
            keys_to[to] = keys[i]
            rows_to[to] = rows[i]
        keys, keys_to = keys_to, keys
        rows, rows_to = rows_to, rows
    return rows
