"""Links by which anybody may take part as a volunteer, without an account.

A link's token is shown once, when it is made. Kept is its SHA-256, in ``links.json`` beside the survey's other secrets
(`explorer.secret`): it has 192 random bits, so that its hash says nothing of it. A link that is taken back is so at
once, for those who came by it, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from explorer.errors import SurveyError, UsageError
from explorer.secret import folder_of
from models.artifacts import write_bytes

LINKS = "links.json"
MAX_NAME = 60
#: Grids that may be answered by one link, unless told.
MOST_GRIDS = 100_000


@dataclass(frozen=True, slots=True)
class Invitation:
    """A link, without its token.

    Attributes
    ----------
    id
        Stands with every vote that came by it.
    most_grids
        How many grids may be answered by it.
    made_at, revoked_at
        UTC, ISO 8601; None: it still holds.
    """

    id: str
    name: str
    sha256: str
    most_grids: int
    made_at: str
    revoked_at: str | None = None


class Invitations:
    """The links of a survey. Thread-safe; what another process makes or takes back counts at the next call."""

    def __init__(self, survey_id: str) -> None:
        self.file: Path = folder_of(survey_id) / LINKS
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int] | None, list[Invitation]] = (None, [])

    def make(self, name: str, most_grids: int = MOST_GRIDS) -> str:
        """A new link; its token, which is not kept.

        Raises
        ------
        UsageError
            The name is empty, too long, or that of a link that holds.
        """
        name = " ".join(name.split())
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise UsageError(f"a link has a name of 1 to {MAX_NAME} characters that can be seen")
        if most_grids < 1:
            raise UsageError(f"a link for {most_grids} grids lets nobody in; 1 is the least")
        token = secrets.token_urlsafe(24)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._changing() as links:
            if any(link.name == name and link.revoked_at is None for link in links):
                raise UsageError(f'there is a link "{name}" already; take it back first, or choose another name')
            links.append(Invitation(secrets.token_hex(4), name, _sha256(token), most_grids, now))
        return token

    def revoke(self, name: str) -> Invitation:
        """Take a link back.

        Raises
        ------
        UsageError
            No link of that name holds.
        """
        with self._changing() as links:
            held = [i for i, link in enumerate(links) if link.name == name and link.revoked_at is None]
            if not held:
                known = ", ".join(f'"{link.name}"' for link in links if link.revoked_at is None) or "none"
                raise UsageError(f'no link "{name}" holds; those that do: {known}')
            at = held[0]
            links[at] = replace(links[at], revoked_at=datetime.now(UTC).isoformat(timespec="seconds"))
            return links[at]

    def listed(self) -> list[Invitation]:
        """Every link that was ever made, in that order.

        Raises
        ------
        SurveyError
            The file cannot be read, or others may read it.
        """
        with self._lock:
            try:
                found = self.file.stat()
            except FileNotFoundError:
                return []
            stamp = found.st_ino, found.st_mtime_ns
            if stamp != self._read[0]:
                if found.st_mode & 0o077:
                    raise SurveyError(f"{self.file} may be read by others; chmod 600 it, or remove it")
                try:
                    links = [Invitation(**told) for told in json.loads(self.file.read_bytes())["links"]]
                except (ValueError, KeyError, TypeError) as error:
                    raise SurveyError(f"{self.file} is not a list of links ({error}); put back a copy") from None
                self._read = stamp, links
            return self._read[1]

    def by_token(self, token: str) -> Invitation | None:
        """The link of a token, where it holds."""
        digest = _sha256(token)
        return next((link for link in self.listed() if link.sha256 == digest and link.revoked_at is None), None)

    def by_id(self, link_id: str) -> Invitation | None:
        """The link of an id, where it holds."""
        return next((link for link in self.listed() if link.id == link_id and link.revoked_at is None), None)

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Invitation]]:
        """All links, to be changed by one process at a time."""
        handle = os.open(self.file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            links = list(self.listed())
            yield links
            told = json.dumps({"links": [asdict(link) for link in links]}, indent=2, ensure_ascii=False)
            write_bytes(self.file, told.encode(), 0o600)
        finally:
            os.close(handle)


def served_at(survey: Path) -> tuple[str, bool] | None:
    """Address of the server that runs on a survey, as it wrote it in its lock, and whether links are open there."""
    try:
        handle = os.open(survey / "server.lock", os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        found = re.search(r" at (https?://\S+)( with open links)?$", os.read(handle, 300).decode("utf-8", "replace"))
        return (found[1], bool(found[2])) if found else None
    finally:
        os.close(handle)
    return None  # nobody holds it


def _sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
