"""Files that links name by what they hold: the newest so many of a folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from models.artifacts import write_bytes

#: Kept of each kind, and characters of a sha256 in a link.
REMEMBERED, SHORT = 500, 20


class Recent:
    """A folder of files, each named by the first `SHORT` characters of a hash of its content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writing = threading.Lock()

    def put(self, name: str, content: Callable[[], bytes]) -> str:
        """Keep a content, made where it is new, under its name, which is returned; it is on the disk then.

        Those used longest ago make room.

        Raises
        ------
        OSError
            It cannot be written.
        """
        path = self.folder / name
        with self._writing:
            if path.exists():
                os.utime(path)
            else:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_bytes(path, content())
                kept = sorted(self.folder.iterdir(), key=lambda p: p.stat().st_mtime)
                for old in kept[:-REMEMBERED]:
                    old.unlink(missing_ok=True)
        return name

    def get(self, name: str) -> bytes | None:
        """The content of a name in a link; None where there is none."""
        if not (name.isalnum() and name.isascii() and len(name) == SHORT):
            return None
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return None
