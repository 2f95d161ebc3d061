"""Columns of a large survey as arrays in files that are mapped into memory: the process holds none of them.

They are made of the survey's own files and lie in ``kept/``, which may be deleted at any time: what is missing, or was
made of a file that has changed since, is made again. Where nothing can be written they are in memory.

::

    kept/NAME-STAMP.npy     numbers, or codes of categories
    kept/NAME-STAMP.arrow   texts, as one Arrow record batch
    kept/NAME-STAMP.json    what is small: labels of categories, what was found out about a file

STAMP is a digest of everything that the file was made of, so that what is out of date is never found.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from models.artifacts import write_json

KEPT = "kept"

#: Changes with how the files are made.
_VERSION = 1
#: Seconds after which a temporary file is nobody's.
_LEFT_S = 24 * 3600.0


class Kept:
    """The kept files of one survey. Thread-safe: what two make at once is written twice, whole each time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def array(
        self, name: str, stamp: object, dtype: Any, shape: tuple[int, ...], fill: Callable[[np.ndarray], None]
    ) -> np.ndarray:
        """An array of this name, read-only.

        Parameters
        ----------
        stamp
            All that it is made of: values that have a `repr` of their own.
        fill
            Writes into the array, which is not cleared, when it is not there.
        """
        path = self._path(name, stamp, "npy")
        if (found := _mapped(path, dtype, shape)) is not None:
            return found
        try:
            with self._made(name, path) as temporary:
                array = np.lib.format.open_memmap(temporary, "w+", dtype, shape)
                with temporary.open(
                    "r+b"
                ) as file:  # a full disk is an error here, and not the end of the process later
                    os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
                fill(array)
                array.flush()
                del array
            found = _mapped(path, dtype, shape)
        except OSError:
            found = None
        if found is None:
            found = np.empty(shape, dtype)
            fill(found)
            found.flags.writeable = False
        return found

    def texts(self, name: str, stamp: object, read: Callable[[], pa.Array]) -> pa.Array:
        """An Arrow array of this name; ``read()`` makes it when it is not there."""
        path = self._path(name, stamp, "arrow")
        with contextlib.suppress(OSError, pa.ArrowException):
            return _texts(path)
        array = read()
        try:
            with self._made(name, path) as temporary:
                batch = pa.record_batch([array], names=["column"])
                with pa.OSFile(str(temporary), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
                    writer.write_batch(batch)
            mapped = _texts(path)
        except (OSError, pa.ArrowException):
            return array
        del array, batch
        pa.default_memory_pool().release_unused()
        return mapped

    def note(self, name: str, stamp: object, make: Callable[[], Any]) -> Any:
        """A small JSON value of this name."""
        path = self._path(name, stamp, "json")
        with contextlib.suppress(OSError, ValueError):
            return json.loads(path.read_bytes())
        value = make()
        with contextlib.suppress(OSError):
            self.folder.mkdir(exist_ok=True)
            self._drop(name, path)
            write_json(path, value)
        return value

    def _path(self, name: str, stamp: object, suffix: str) -> Path:
        plain = re.sub(r"[^A-Za-z0-9_.]+", "_", name)[:80]
        told = hashlib.sha256(repr((_VERSION, name, stamp)).encode()).hexdigest()[:24]
        return self.folder / f"{plain}-{told}.{suffix}"

    @contextlib.contextmanager
    def _made(self, name: str, path: Path) -> Iterator[Path]:
        """A temporary file that takes the name on a clean exit; older ones of what it holds go."""
        self.folder.mkdir(exist_ok=True)
        drop_left(self.folder)
        handle, temporary = tempfile.mkstemp(dir=self.folder, prefix=".", suffix=".tmp")
        os.close(handle)
        try:
            yield Path(temporary)
            Path(temporary).chmod(0o644)
            self._drop(name, path)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _drop(self, name: str, path: Path) -> None:
        """Remove what was made of files as they were before."""
        plain = path.name.rpartition("-")[0]
        for older in self.folder.glob(f"{plain}-*{path.suffix}"):
            if older != path and re.fullmatch(
                rf"{re.escape(plain)}-[0-9a-f]{{24}}{re.escape(path.suffix)}", older.name
            ):
                older.unlink(missing_ok=True)


def drop_left(folder: Path) -> None:
    """Remove the temporary files of processes that were killed: those that nobody has written to for `_LEFT_S`."""
    for left in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_S:
                left.unlink()


def _mapped(path: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.dtype == dtype and found.shape == shape else None


def _texts(path: Path) -> pa.Array:
    column = pa.ipc.open_file(pa.memory_map(str(path))).read_all().column(0)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
