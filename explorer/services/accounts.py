"""Accounts of a survey: who may come in, as what, and who is logged in.

``accounts.json`` and ``logins.json`` lie beside the survey's other secrets (`explorer.secret`), never in its folder.
A password is kept as its argon2 hash. A login is a random secret that the browser has in a cookie; kept is its SHA-256,
so that it holds after a restart of the server. Each login is bound to the account's `stamp`, which is new whenever the
account is made or its password is set: removing an account, or setting another password, ends its logins at once.
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
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from explorer.errors import AccessError, SurveyError, UsageError
from explorer.people import LOCAL, ROLES, SERVER, Person, Role
from explorer.secret import folder_of
from models.artifacts import write_bytes

ACCOUNTS, LOGINS = "accounts.json", "logins.json"
#: Characters of a password.
SHORTEST, LONGEST = 10, 1000
#: A login holds so long, whether it is used or not; so many of one account do at once, the latest.
LOGIN_DAYS, MOST_LOGINS = 14, 50
NAME = re.compile(r"\w[\w.@+-]{0,79}")
#: Who stands in the ledger without an account.
RESERVED = {LOCAL.name, SERVER.name}
#: What a vetter may decide; the rest is an owner's.
VETTERS = frozenset({"vote", "tag", "note", "place", "selection", "outcome"})
#: Votes of those who came by a link, and how they stand in the ledger.
VOLUNTEERS, VOLUNTEER = "classification", "volunteer:"


@dataclass(frozen=True, slots=True)
class Account:
    """Who may come in.

    Attributes
    ----------
    hash
        argon2's, with its parameters; empty for whoever comes by the login of a provider.
    stamp
        Logins of another stamp hold no more.
    made_at
        UTC, ISO 8601.
    """

    name: str
    role: Role
    hash: str
    stamp: str
    made_at: str

    @property
    def person(self) -> Person:
        """Who it is, and what they may do."""
        return Person(self.name, self.role)


@dataclass(frozen=True, slots=True)
class _Login:
    """A browser that is logged in; `until` in seconds since 1970."""

    sha256: str
    name: str
    stamp: str
    until: float


T = TypeVar("T", Account, _Login)


class _Kept(Generic[T]):
    """A list in a file of secrets. Thread-safe; what another process changes counts at the next look."""

    def __init__(self, file: Path, kind: type[T]) -> None:
        self.file = file
        self._kind: Callable[..., T] = kind
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int, int] | None, tuple[T, ...]] = (None, ())

    def listed(self) -> tuple[T, ...]:
        """All of them.

        Raises
        ------
        SurveyError
            The file cannot be read, or others may read it.
        """
        with self._lock:
            try:
                found = self.file.stat()
            except FileNotFoundError:
                return ()
            except OSError as error:
                raise SurveyError(f"{self.file} cannot be read ({error.strerror}); see to it that it can") from None
            stamp = found.st_ino, found.st_mtime_ns, found.st_size
            if stamp != self._read[0]:
                if found.st_mode & 0o077:
                    raise SurveyError(f"{self.file} may be read by others; chmod 600 it, or remove it")
                try:
                    told = json.loads(self.file.read_bytes())[self.file.stem]
                    self._read = stamp, tuple(self._kind(**one) for one in told)
                except (OSError, ValueError, KeyError, TypeError) as error:
                    raise SurveyError(f"{self.file} cannot be read ({error}); put back a copy") from None
            return self._read[1]

    @contextlib.contextmanager
    def changing(self) -> Iterator[list[T]]:
        """All of them, to be changed by one thread and process at a time."""
        handle = os.open(self.file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            found = list(self.listed())
            yield found
            told = {self.file.stem: [asdict(one) for one in found]}
            write_bytes(self.file, json.dumps(told, indent=2, ensure_ascii=False).encode(), 0o600)
        finally:
            fcntl.flock(handle, fcntl.LOCK_UN)  # a process that was forked meanwhile has it open, too
            os.close(handle)


class Accounts:
    """The accounts of a survey, and its logins. Thread-safe.

    Parameters
    ----------
    hasher
        argon2's parameters; RFC 9106's for little memory unless told.
    clock
        Seconds since 1970.
    """

    def __init__(
        self, survey_id: str, hasher: PasswordHasher | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        folder = folder_of(survey_id)
        self._kept, self._logins = _Kept(folder / ACCOUNTS, Account), _Kept(folder / LOGINS, _Login)
        self._hasher, self._clock = hasher or PasswordHasher(), clock
        self._were_there = False

    @property
    def are_there(self) -> bool:
        """Whether one must log in: once there was an account this holds until the server ends, lest the last one
        removed opened the door."""
        self._were_there = self._were_there or bool(self.listed())
        return self._were_there

    def listed(self) -> tuple[Account, ...]:
        """Every account, in the order they were made.

        Raises
        ------
        SurveyError
            The file cannot be read, or others may read it.
        """
        return self._kept.listed()

    def of(self, name: str) -> Account | None:
        """The account of a name, however its letters are written."""
        wanted = folded(name)
        return next((account for account in self.listed() if folded(account.name) == wanted), None)

    # ---------------------------------------------------------------------------------------------------- changes
    def add(self, name: str, role: Role, password: str | None) -> Account:
        """Make an account; without a password it is for whoever a provider knows by this name.

        Raises
        ------
        UsageError
            The name is taken or cannot be one, there is no such role, or the password is too short.
        """
        name = unicodedata.normalize("NFC", name)
        if not NAME.fullmatch(name):
            raise UsageError(f"{name!r} cannot be a name: it takes 1 to 80 letters, digits, and . _ - + @ between them")
        if folded(name) in RESERVED:
            raise UsageError(f'"{name}" stands for somebody without an account; choose another name')
        if role not in ROLES:
            raise UsageError(f'there is no role "{role}"; choose one of {", ".join(ROLES)}')
        made = datetime.now(UTC).isoformat(timespec="seconds")
        account = Account(name, role, self._hashed(name, password), secrets.token_hex(8), made)
        with self._kept.changing() as accounts:
            if any(folded(other.name) == folded(name) for other in accounts):
                raise UsageError(f'there is an account "{name}" already; remove it first, or choose another name')
            accounts.append(account)
        return account

    def remove(self, name: str) -> Account:
        """Remove an account; its logins end at once."""
        with self._changing(name) as (accounts, at):
            return accounts.pop(at)

    def set_role(self, name: str, role: Role) -> Account:
        """Give an account another role, from the next request on."""
        if role not in ROLES:
            raise UsageError(f'there is no role "{role}"; choose one of {", ".join(ROLES)}')
        with self._changing(name) as (accounts, at):
            accounts[at] = replace(accounts[at], role=role)
            return accounts[at]

    def set_password(self, name: str, password: str | None) -> Account:
        """Set another password, or none for the login of a provider; logins made before end at once."""
        hashed = self._hashed(name, password)
        with self._changing(name) as (accounts, at):
            accounts[at] = replace(accounts[at], hash=hashed, stamp=secrets.token_hex(8))
            return accounts[at]

    @contextlib.contextmanager
    def _changing(self, name: str) -> Iterator[tuple[list[Account], int]]:
        """All accounts, and where one of them stands.

        Raises
        ------
        UsageError
            There is none of this name.
        """
        with self._kept.changing() as accounts:
            found = [i for i, account in enumerate(accounts) if folded(account.name) == folded(name)]
            if not found:
                known = ", ".join(account.name for account in accounts) or "none"
                raise UsageError(f'there is no account "{name}"; those of this survey: {known}')
            yield accounts, found[0]

    def _hashed(self, name: str, password: str | None) -> str:
        if password is None:
            return ""
        password = unicodedata.normalize("NFC", password)
        if not SHORTEST <= len(password) <= LONGEST:
            raise UsageError(f"a password has {SHORTEST} to {LONGEST:,} characters; this one has {len(password):,}")
        if folded(password) == folded(name):
            raise UsageError("a password that is the account's name is no secret; choose another one")
        return self._hasher.hash(password)

    # ----------------------------------------------------------------------------------------------------- logins
    @cached_property
    def _decoy(self) -> str:
        """A hash that no password has, so that an unknown name takes as long as a wrong password."""
        return self._hasher.hash(secrets.token_hex(32))

    def check(self, name: str, password: str) -> Account | None:
        """The account of a name and its password. Takes long on purpose: not for an event loop."""
        account = self.of(name)
        hashed = account.hash if account is not None and account.hash else self._decoy
        password = unicodedata.normalize("NFC", password[: LONGEST + 1])
        try:
            self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return None
        if account is None or not account.hash:
            return None
        if self._hasher.check_needs_rehash(hashed):
            fresh = self._hasher.hash(password)
            with self._kept.changing() as accounts:
                if account in accounts:  # nobody changed it meanwhile
                    accounts[accounts.index(account)] = account = replace(account, hash=fresh)
        return account

    def log_in(self, account: Account) -> str:
        """Begin a login; its secret, which is not kept. Waits for the disk."""
        secret, now = secrets.token_urlsafe(32), self._clock()
        with self._logins.changing() as logins:
            logins[:] = [login for login in logins if self._holder(login) is not None and login.until > now]
            own = [login for login in logins if login.name == account.name]
            for oldest in own[: max(0, len(own) - MOST_LOGINS + 1)]:
                logins.remove(oldest)
            logins.append(_Login(_sha256(secret), account.name, account.stamp, now + LOGIN_DAYS * 86_400))
        return secret

    def log_out(self, secret: str) -> None:
        """End a login. Waits for the disk."""
        sha256 = _sha256(secret)
        with self._logins.changing() as logins:
            logins[:] = [login for login in logins if login.sha256 != sha256]

    def visitor(self, secret: str) -> Person | None:
        """Who has this secret, as they are now; None where it is no login, or one that has ended."""
        if not secret:
            return None
        sha256, now = _sha256(secret), self._clock()
        for login in self._logins.listed():
            if login.sha256 == sha256:
                account = self._holder(login) if login.until > now else None
                return None if account is None else account.person
        return None

    def _holder(self, login: _Login) -> Account | None:
        found = (one for one in self.listed() if one.name == login.name and one.stamp == login.stamp)
        return next(found, None)

    # ------------------------------------------------------------------------------------------------------ ledger
    def guard(self, who: str, kind: str) -> None:
        """What `Ledger.guard` asks: refuse what they may not decide, by whatever screen or request it came.

        Raises
        ------
        AccessError
            They have no account any more, or their role does not allow it.
        """
        if not self.are_there or who == SERVER.name or (kind == VOLUNTEERS and who.startswith(VOLUNTEER)):
            return
        account = next((one for one in self.listed() if one.name == who), None)
        if account is None:
            raise AccessError(f"{who} has no account here any more; this was not kept")
        account.person.must("vetter" if kind in VETTERS else "owner")


class Tries:
    """How often a key failed lately: after `most` within `seconds` it must wait.

    Parameters
    ----------
    clock
        Seconds that only grow.
    """

    def __init__(
        self, most: int = 5, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic, keys: int = 50_000
    ) -> None:
        self.most, self.seconds, self.keys, self.clock = most, seconds, keys, clock
        self._failed: dict[str, list[float]] = {}

    def wait(self, *keys: str) -> float:
        """Seconds until each of the keys may try again; 0 for now."""
        now = self.clock()
        return max((self._wait(key, now) for key in keys), default=0.0)

    def _wait(self, key: str, now: float) -> float:
        failed = [at for at in self._failed.get(key, ()) if at > now - self.seconds]
        return failed[-self.most] + self.seconds - now if len(failed) >= self.most else 0.0

    def fail(self, *keys: str) -> None:
        """Count a try that failed against each key; those that failed longest ago are forgotten first."""
        now = self.clock()
        for key in keys:
            failed = [at for at in self._failed.pop(key, ()) if at > now - self.seconds]
            self._failed[key] = [*failed, now][-self.most :]
        while len(self._failed) > self.keys:
            del self._failed[next(iter(self._failed))]


def folded(name: str) -> str:
    """A name as it is compared: however its letters are written."""
    return unicodedata.normalize("NFKC", name.strip()).casefold()


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
