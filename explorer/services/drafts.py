"""Boundaries at work that links name: a reload, or a colleague, finds the one that was never saved."""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path
from typing import Any

from explorer.state import Draft
from models.artifacts import write_bytes
from models.boundary import BoundaryError, from_json, to_json
from models.truth import Truth, TruthError

#: Where in a survey they stand, how many are kept, and characters of a sha256 in a link.
RECENT = "boundaries/recent"
REMEMBERED = 500
SHORT = 20


def draft_to_json(draft: Draft) -> dict[str, Any]:
    """A draft as plain JSON."""
    return {
        "keep": to_json(draft.keep),
        "truth": draft.truth.to_json() if draft.truth is not None else None,
        "name": draft.name,
        "version": draft.version,
        "follows": draft.follows,
    }


def draft_from_json(told: dict[str, Any]) -> Draft:
    """The draft that `draft_to_json` told.

    Raises
    ------
    BoundaryError, TruthError, KeyError, TypeError
        It is none.
    """
    truth = Truth.from_json(told["truth"]) if told["truth"] is not None else None
    return Draft(from_json(told["keep"]), truth, str(told["name"]), int(told["version"]), told["follows"] is True)


class Drafts:
    """Drafts in files named by what they hold: the newest `REMEMBERED` of them.

    Parameters
    ----------
    survey_path
        The survey folder.
    """

    def __init__(self, survey_path: Path) -> None:
        self._folder = survey_path / RECENT
        self._writing = threading.Lock()

    def put(self, draft: Draft) -> str:
        """Keep a draft; returns its id in a link. It is on the disk then.

        Raises
        ------
        OSError
            It cannot be written.
        """
        content = json.dumps(draft_to_json(draft), sort_keys=True, allow_nan=False).encode()
        name = hashlib.sha256(content).hexdigest()[:SHORT]
        path = self._folder / name
        with self._writing:
            if not path.exists():
                self._folder.mkdir(parents=True, exist_ok=True)
                write_bytes(path, content)
                kept = sorted(self._folder.iterdir(), key=lambda p: p.stat().st_mtime)
                for old in kept[:-REMEMBERED]:
                    old.unlink(missing_ok=True)
        return name

    def get(self, name: str) -> Draft | None:
        """A draft by its id in a link; None where it is not there, or damaged."""
        if not (name.isalnum() and name.isascii() and len(name) == SHORT):
            return None
        try:
            content = (self._folder / name).read_bytes()
            if hashlib.sha256(content).hexdigest()[:SHORT] != name:
                return None
            return draft_from_json(json.loads(content))
        except (OSError, ValueError, BoundaryError, TruthError, KeyError, TypeError):
            return None
