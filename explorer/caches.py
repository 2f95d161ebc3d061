"""What is slow to make, kept for whoever asks next."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

#: Bytes of what is the system's again as soon as it is let go, as a column of more than a million; and of what may be
#: free for the next frames, which are smaller.
COLUMN_BYTES, FREE_BYTES = 4 << 20, 64 << 20
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt, as malloc.h has them

#: Containers of more members are not looked into by `size_of`: they hold small things.
_LOOKED_INTO = 64
#: Seconds after which all that a cache keeps is measured anew; what is put there, at once.
MEASURED_S = 1.0


def _of_libc(name: str) -> Callable[..., int] | None:
    """A function of the C library; None where it has none of that name (these are glibc's)."""
    return getattr(ctypes.CDLL(None), name, None) if os.name == "posix" else None


def give_back_columns() -> None:
    """Once a process: what is larger than `COLUMN_BYTES` goes back to the system when it is let go.

    Else glibc, which learns from what it is given back, keeps it among what stays.
    """
    if (mallopt := _of_libc("mallopt")) is not None:
        mallopt(_MMAP_THRESHOLD, COLUMN_BYTES)
        mallopt(_TRIM_THRESHOLD, FREE_BYTES)


def give_back() -> None:
    """Give the system back what is free: much of what drawing took for a moment is kept."""
    if (trim := _of_libc("malloc_trim")) is not None:
        trim(0)


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array lies in a file and is mapped: the system takes its memory back when it needs it."""
    base: Any = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return isinstance(base, mmap.mmap)


def size_of(value: Any, depth: int = 4) -> int:
    """Bytes of memory that the arrays of a value take; what is mapped from a file takes none.

    Looks into tuples, lists, mappings, dataclasses and plain objects; something else may say its ``nbytes``.
    """
    if isinstance(value, np.ndarray):
        return 0 if is_mapped(value) else value.nbytes
    if isinstance(value, bytes | bytearray):
        return len(value)
    if depth == 0 or value is None or isinstance(value, str | int | float | type):
        return 0
    if isinstance(nbytes := getattr(value, "nbytes", None), int):
        return nbytes
    if isinstance(value, tuple | list):
        members = list(value) if len(value) <= _LOOKED_INTO else []
    elif isinstance(value, dict):
        members = list(value.values()) if len(value) <= _LOOKED_INTO else []
    elif is_dataclass(value):
        members = [getattr(value, field.name) for field in fields(value)]
    else:
        members = list(getattr(value, "__dict__", {}).values())
    return sum(size_of(member, depth - 1) for member in members)


class Cache:
    """The last few of what is slow to make, by a key of all that went into it. Thread-safe; each is made once.

    Parameters
    ----------
    size
        How many are kept at most.
    nbytes
        Bytes that all of them may take (`size_of`); None: any. What was made last is kept, however large.
    """

    def __init__(self, size: int, nbytes: int | None = None) -> None:
        self._size, self._nbytes = size, nbytes
        self._kept: OrderedDict[Hashable, object] = OrderedDict()
        self._sizes: dict[Hashable, int] = {}
        self._measured = 0.0
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The kept value of `key`, or ``make()``."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]  # type: ignore[return-value]
            making = self._making.setdefault(key, threading.Lock())
        with making:
            with self._lock:
                if key in self._kept:
                    return self._kept[key]  # type: ignore[return-value]
            try:
                value = make()
                self.put(key, value)
                return value
            finally:
                with self._lock:
                    self._making.pop(key, None)

    def kept(self, key: Hashable) -> Any:
        """The kept value of `key`; None where there is none, and nothing is made."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: Hashable, value: object) -> None:
        """Keep a value that was made elsewhere."""
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            while len(self._kept) > self._size:
                self._sizes.pop(self._kept.popitem(last=False)[0], None)
            if self._nbytes is None:
                return
            if time.monotonic() - self._measured > MEASURED_S:  # some values grow while they are kept
                self._sizes = {kept: size_of(value) for kept, value in self._kept.items()}
                self._measured = time.monotonic()
            else:
                self._sizes[key] = size_of(value)
            total = sum(self._sizes.values())
            for kept in list(self._kept)[:-1]:
                if total <= self._nbytes:
                    break
                if size := self._sizes.get(kept, 0):
                    del self._kept[kept], self._sizes[kept]
                    total -= size

    @property
    def nbytes(self) -> int:
        """Bytes that the kept values take."""
        with self._lock:
            values = list(self._kept.values())
        return sum(map(size_of, values))
