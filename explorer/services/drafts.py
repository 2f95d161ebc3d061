"""Boundaries at work that links name: a reload, or a colleague, finds the one that was never saved."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from explorer.services.recent import SHORT, Recent
from explorer.state import Draft
from models.boundary import BoundaryError, from_json, to_json
from models.truth import Truth, TruthError

#: Where in a survey they stand.
RECENT = "boundaries/recent"


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
    """Drafts in files named by what they hold (`explorer.services.recent`).

    Parameters
    ----------
    survey_path
        The survey folder.
    """

    def __init__(self, survey_path: Path) -> None:
        self._recent = Recent(survey_path / RECENT)

    def put(self, draft: Draft) -> str:
        """Keep a draft; returns its id in a link. It is on the disk then.

        Raises
        ------
        OSError
            It cannot be written.
        """
        content = json.dumps(draft_to_json(draft), sort_keys=True, allow_nan=False).encode()
        return self._recent.put(hashlib.sha256(content).hexdigest()[:SHORT], lambda: content)

    def get(self, name: str) -> Draft | None:
        """A draft by its id in a link; None where it is not there, or damaged."""
        content = self._recent.get(name)
        if content is None or hashlib.sha256(content).hexdigest()[:SHORT] != name:
            return None
        try:
            return draft_from_json(json.loads(content))
        except (ValueError, BoundaryError, TruthError, KeyError, TypeError):
            return None
