"""The ledger: an append-only log of everything people decide, and of every job they start.

A row is never changed or removed (triggers refuse it); undo is a row. Current state is a view over the log and can be
replayed to any date. `Ledger.append` returns only after the row is on the disk, and a repeated client UUID returns the
first row: a retry after a lost answer is no second vote.

It is the file ``ledger.db`` in the survey's folder, or the rows of that survey in the PostgreSQL database that
`VOORWERP_LEDGER` names (`explorer.databases`).

One thread writes. Rows that wait at the same time share one commit, so a commit's fsync is paid once for many of them.
Several processes (a server, the command line) may use one ledger at once.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import queue
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from explorer import code_version, databases
from explorer.databases import ENTRIES
from explorer.errors import LedgerError
from models.artifacts import write_bytes, write_json
from models.boundary import BoundaryError, classifiers, from_json
from models.grades import CANNOT_JUDGE

LEDGER = "ledger.db"
SELECTIONS = "selections"
CLASSIFIERS = "classifiers"
#: In the environment: the URL of a PostgreSQL database that holds the ledgers instead of files in the surveys' folders.
ADDRESS = "VOORWERP_LEDGER"
#: Left in a survey's folder whose ledger is in such a database, so that nobody begins a second one by forgetting that.
ELSEWHERE = "ledger.json"

#: Above this many subjects a selection is a bitmap file instead of a list in its row.
MAX_LISTED = 10_000
#: Rows in one commit at most, so that the first of a long queue is not kept waiting.
MAX_GROUP = 512
MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger.

    Attributes
    ----------
    id
        Grows by time; never used twice.
    client_id
        UUID made by whoever decided, before sending.
    at
        UTC, ISO 8601.
    run_id, map_id, boundary_id
        What the person was looking at.
    undoes
        The entry that this one takes back; its kind is then "undo".
    undone
        Whether an entry taken into account (see `Ledger.entries`) takes this one back.
    """

    id: int
    client_id: str
    survey_id: str
    at: str
    who: str
    kind: str
    subject_id: int | None
    run_id: str | None
    map_id: str | None
    boundary_id: str | None
    code_version: str
    payload: dict[str, Any]
    undoes: int | None
    undone: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """A named set of subjects. `subject_ids` is int64, in the survey's row order."""

    name: str
    subject_ids: np.ndarray
    who: str
    at: str


@dataclass(frozen=True, slots=True)
class _Request:
    """An append on its way to the writer."""

    values: dict[str, Any]
    answer: Future[Entry]


class Ledger:
    """The log of one survey.

    Parameters
    ----------
    survey_path
        The survey folder; ``ledger.db`` is made in it, unless `ADDRESS` in the environment names a database.
    survey_id
        The survey's UUID; a ledger of another survey is refused.
    url
        A SQLAlchemy URL instead: ``sqlite:///…`` or ``postgresql+psycopg://…``.

    Attributes
    ----------
    guard
        Asked with who and a kind (see `allow`) before anything is kept; None where everybody may do everything.
    newest
        The last entry that was made through this object, 0 before the first: whoever has read as far knows all of it.

    Raises
    ------
    LedgerError
        A network file system, another schema version, another survey's ledger, or not a ledger; a server that cannot
        be reached; or the survey's ledger is elsewhere (see `address`).
    """

    guard: Callable[[str, str], None] | None = None

    def __init__(self, survey_path: Path | str, survey_id: str, url: str | sa.URL | None = None) -> None:
        self.path = Path(survey_path)
        self.survey_id = survey_id
        self._dialect = databases.opened(_parsed(url) if url else address(self.path))
        self._dialect.create(survey_id)
        self._ours = ENTRIES.c.survey_id == survey_id
        if url is None and not isinstance(self._dialect, databases.SQLite):
            self._check_place()
            leave_word(self.path, self.name)
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self.newest = 0
        self._writer = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._writer.start()

    def _check_place(self) -> None:
        """Refuse an empty database where the survey's folder says that the decisions are in another one."""
        elsewhere = self.path / ELSEWHERE
        if not elsewhere.exists() or _told(elsewhere) == self.name:
            return
        with self._dialect.read() as connection:
            is_empty = connection.execute(sa.select(ENTRIES.c.id).where(self._ours).limit(1)).one_or_none() is None
        if is_empty:
            self._dialect.close()
            raise LedgerError(
                f"the decisions on {self.path} are in {_told(elsewhere)}, and {ADDRESS} names {self.name}, which has "
                f"none; correct {ADDRESS}, or remove {elsewhere} to begin there"
            )

    # -------------------------------------------------------------------------------------------------- write
    def append(
        self,
        kind: str,
        payload: Mapping[str, Any],
        *,
        who: str,
        client_id: str | None = None,
        subject_id: int | None = None,
        run_id: str | None = None,
        map_id: str | None = None,
        boundary_id: str | None = None,
    ) -> Entry:
        """Add one entry and wait until it is on the disk.

        Parameters
        ----------
        kind
            "selection", "job", or any other word but "undo".
        payload
            A JSON object; NaN is refused.
        client_id
            A UUID. With one that is there already, the first entry is returned and nothing is added.

        Raises
        ------
        LedgerError
            The entry is not kept: a full disk, another content under the same UUID, or a closed ledger.
        AccessError
            They may not: see `guard`.
        """
        if kind == "undo":
            raise LedgerError("an entry is undone by Ledger.undo, not by an entry of that kind")
        self.allow(who, kind)
        return self._submit(
            kind=kind,
            payload=_canonical(payload),
            who=who,
            client_id=client_id,
            subject_id=None if subject_id is None else int(subject_id),
            run_id=run_id,
            map_id=map_id,
            boundary_id=boundary_id,
            undoes=None,
        )

    def allow(self, who: str, kind: str) -> None:
        """Refuse who may not decide what is of this kind; "undo": take back what another decided.

        Raises
        ------
        AccessError
            They may not.
        """
        if self.guard is not None:
            self.guard(who, kind)

    def undo(self, entry_id: int, *, who: str, client_id: str | None = None) -> Entry:
        """Take back an entry by adding one. Undoing an undo brings the first one back.

        Raises
        ------
        LedgerError
            No such entry, or it is undone already.
        AccessError
            They may not: see `guard`.
        """
        if self.guard is not None:
            target = first = self.entry(entry_id)
            while first.undoes is not None:
                first = self.entry(first.undoes)
            self.allow(who, first.kind if target.who == who else "undo")
        return self._submit(
            kind="undo",
            payload="{}",
            who=who,
            client_id=client_id,
            subject_id=None,
            run_id=None,
            map_id=None,
            boundary_id=None,
            undoes=int(entry_id),
        )

    def _submit(self, *, who: str, client_id: str | None, **values: Any) -> Entry:
        if not who:
            raise LedgerError("every entry of the ledger says who made it; this one does not")
        try:
            client_id = str(uuid.UUID(client_id)) if client_id else str(uuid.uuid4())
        except ValueError:
            raise LedgerError(f"{client_id!r} is not a UUID; every decision needs one of its own") from None
        request = _Request({**values, "who": who, "client_id": client_id}, Future())
        _check(request.values)  # what no database takes would take its whole group with it
        with self._closing:
            if self._closed:
                raise LedgerError("the ledger is closed; the decision was not kept")
            self._requests.put(request)
        return request.answer.result()

    def _write(self) -> None:
        """The writer thread: take what waits, commit it in one transaction, then answer."""
        while (request := self._requests.get()) is not None:
            group = [request]
            while len(group) < MAX_GROUP and not self._requests.empty():
                following = self._requests.get()
                if following is None:
                    self._requests.put(None)  # close() came meanwhile: finish this group, then stop
                    break
                group.append(following)
            self._commit(group)

    def _commit(self, group: list[_Request]) -> None:
        began = time.monotonic()
        while True:
            try:
                with self._dialect.write(self.survey_id) as connection:
                    answers = self._insert(connection, [request.values for request in group])
                break
            except BaseException as error:  # nothing of the group is kept; each one waiting must hear of it
                if self._dialect.is_worth_another_try(error, began):
                    continue
                for request in group:
                    request.answer.set_exception(self._dialect.refusal(error))
                return
        self.newest = max([self.newest, *(answer.id for answer in answers if isinstance(answer, Entry))])
        for request, answer in zip(group, answers, strict=True):
            if isinstance(answer, LedgerError):
                request.answer.set_exception(answer)
            else:
                request.answer.set_result(answer)

    def _insert(self, connection: sa.Connection, group: Sequence[dict[str, Any]]) -> list[Entry | LedgerError]:
        """Add what is not there yet, in its order; an answer each, an error where this one alone is refused.

        Few statements for the whole group: each costs as much as the row that it brings.
        """
        is_last = ENTRIES.c.id == sa.select(sa.func.max(ENTRIES.c.id)).where(self._ours).scalar_subquery()
        is_known = ENTRIES.c.client_id.in_([values["client_id"] for values in group])
        query = sa.select(ENTRIES).where(self._ours, sa.or_(is_known, is_last))
        known: dict[str, dict[str, Any]] = {row["client_id"]: {**row} for row in connection.execute(query).mappings()}
        last_id, last_at = max(((row["id"], row["at"]) for row in known.values()), default=(0, ""))
        new: list[dict[str, Any]] = []
        answers: list[Entry | LedgerError] = []
        for values in group:
            try:
                row = known.get(values["client_id"])
                if row is None:
                    if values["undoes"] is not None:
                        self._flush(connection, new)  # it may be among those
                        self._check_undo(connection, values["undoes"])
                    # a clock set back must not reorder the log
                    last_at = max(datetime.now(UTC).isoformat(timespec="microseconds"), last_at)
                    last_id += 1
                    told = {"id": last_id, "at": last_at, "survey_id": self.survey_id, "code_version": code_version()}
                    row = known[values["client_id"]] = {**values, **told}
                    new.append(dict(row))
                elif any(row[name] != value for name, value in values.items()):
                    raise LedgerError(
                        f"the UUID {values['client_id']} stands for another decision already (entry {row['id']}); "
                        "a new decision needs a new one"
                    )
                answers.append(Entry(**{**row, "payload": json.loads(row["payload"])}))
            except LedgerError as error:
                answers.append(error)
        self._flush(connection, new)
        return answers

    @staticmethod
    def _flush(connection: sa.Connection, new: list[dict[str, Any]]) -> None:
        if new:
            connection.execute(sa.insert(ENTRIES), new)
            new.clear()

    def _check_undo(self, connection: sa.Connection, target: int) -> None:
        if connection.execute(sa.select(ENTRIES.c.id).where(self._ours, ENTRIES.c.id == target)).one_or_none() is None:
            raise LedgerError(f"there is no entry {target} in the ledger to undo")
        if target in self._undone(connection, None, self._undoing(sa.select(sa.literal(target)))):
            raise LedgerError(f"entry {target} is undone already")

    # --------------------------------------------------------------------------------------------------- read
    def entries(
        self,
        kind: str | Collection[str] | None = None,
        since: int = 0,
        at: datetime | str | None = None,
        include_undone: bool = False,
        subject_id: int | None = None,
        limit: int | None = None,
    ) -> list[Entry]:
        """Entries in the order they were made, as of one moment.

        Parameters
        ----------
        kind
            Only this kind, or these. Without it, entries of kind "undo" are returned only with `include_undone`.
        since
            Only entries with a greater id.
        at
            The log as it stood at this date (UTC where it has no time zone); later undos do not count.
        include_undone
            Also entries that were taken back, marked `undone`, and the entries that took them back.
        subject_id
            Only entries on this subject, and those that took them back.
        limit
            At most so many, the first ones: a long log is read in parts. Only with `include_undone`.
        """
        until = _timestamp(at)
        kinds = [kind] if isinstance(kind, str) else kind
        query = sa.select(ENTRIES).where(self._ours, ENTRIES.c.id > since).order_by(ENTRIES.c.id)
        undoing: sa.FromClause = ENTRIES
        if subject_id is not None:  # by its index alone: that of kinds leads to far more
            undoing = self._undoing(sa.select(ENTRIES.c.id).where(self._ours, ENTRIES.c.subject_id == int(subject_id)))
            is_on_it = ENTRIES.c.subject_id == int(subject_id)
            query = query.where(sa.or_(is_on_it, ENTRIES.c.id.in_(sa.select(undoing.c.id))))
        elif kinds is not None:
            query = query.where(ENTRIES.c.kind.in_(kinds))
        if until is not None:
            query = query.where(ENTRIES.c.at <= until)
        if limit is not None:
            query = query.limit(limit)
        with self._dialect.read() as connection:
            undone = self._undone(connection, until, undoing, since)
            found = [_entry(row, undone) for row in connection.execute(query)]
        if kinds is not None:
            found = [entry for entry in found if entry.kind in kinds]
        elif not include_undone:
            found = [entry for entry in found if entry.undoes is None]
        return found if include_undone else [entry for entry in found if not entry.undone]

    def entry(self, entry_id: int) -> Entry:
        """One entry as it stands now.

        Raises
        ------
        LedgerError
            There is none of this id.
        """
        with self._dialect.read() as connection:
            query = sa.select(ENTRIES).where(self._ours, ENTRIES.c.id == int(entry_id))
            row = connection.execute(query).one_or_none()
            if row is None:
                raise LedgerError(f"there is no entry {entry_id} in the ledger")
            return _entry(row, self._undone(connection, None, self._undoing(sa.select(sa.literal(int(entry_id))))))

    def _undoing(self, targets: sa.Select) -> sa.CTE:
        """The entries that take back any of `targets`, those that take back these, and so on; few are read."""
        columns = ENTRIES.c.id, ENTRIES.c.undoes, ENTRIES.c.at, ENTRIES.c.survey_id
        first = sa.select(*columns).where(self._ours, ENTRIES.c.undoes.in_(targets)).cte("undoing", recursive=True)
        return first.union_all(sa.select(*columns).where(self._ours, ENTRIES.c.undoes == first.c.id))

    def _undone(
        self, connection: sa.Connection, until: str | None, undoing: sa.FromClause = ENTRIES, since: int = 0
    ) -> set[int]:
        """Ids of entries taken back, by the entries in `undoing`; all of those behind `since` are among them.

        An undo has a greater id than what it undoes, so one pass from the end decides all.
        """
        query = sa.select(undoing.c.id, undoing.c.undoes).where(
            undoing.c.survey_id == self.survey_id, undoing.c.undoes.is_not(None), undoing.c.id > since
        )
        if until is not None:
            query = query.where(undoing.c.at <= until)
        undone: set[int] = set()
        for entry_id, target in connection.execute(query.order_by(undoing.c.id.desc())):
            if entry_id not in undone:
                undone.add(target)
        return undone

    # --------------------------------------------------------------------------------------------- selections
    def save_selection(
        self, name: str, rows: np.ndarray, subject_ids: np.ndarray, *, who: str, client_id: str | None = None
    ) -> Entry:
        """Keep a set of subjects under a name; one of the same name is replaced (and can be brought back by undo).

        Parameters
        ----------
        rows
            int64 (n,), the subjects' rows in the survey.
        subject_ids
            int64 (N,), all of the survey's ids in row order.
        """
        if not name.strip():
            raise LedgerError("a selection needs a name to be saved")
        self.allow(who, "selection")
        payload = {"action": "save", "name": name, **self.written(rows, subject_ids)}
        return self.append("selection", payload, who=who, client_id=client_id)

    def written(self, rows: np.ndarray, subject_ids: np.ndarray) -> dict[str, Any]:
        """A set of rows as an entry has it: ``n``, and ``subject_ids`` as text, or ``bitmap``, by now on the disk.

        Raises
        ------
        LedgerError
            The bitmap's file could not be written.
        """
        rows = np.asarray(rows, np.int64)
        rows = rows if (np.diff(rows) > 0).all() else np.unique(rows)
        if len(rows) <= MAX_LISTED:
            return {"n": len(rows), "subject_ids": [str(i) for i in subject_ids[rows].tolist()]}
        mask = np.zeros(len(subject_ids), np.bool_)
        mask[rows] = True
        content = np.packbits(mask, bitorder="little").tobytes()
        name = hashlib.sha256(content).hexdigest()
        path = self.path / SELECTIONS / name
        if not path.exists():
            try:
                write_bytes(path, content)
            except OSError as error:
                raise self._dialect.refusal(error) from error
        return {"n": len(rows), "bitmap": name}

    def read_back(self, told: Mapping[str, Any], subject_ids: np.ndarray) -> np.ndarray:
        """The rows that `written` wrote, int64, ascending, of those that are in the survey.

        Raises
        ------
        LedgerError
            The bitmap's file is missing or damaged.
        """
        if "subject_ids" in told:
            ids = np.array([int(i) for i in told["subject_ids"]], np.int64)
            return np.flatnonzero(np.isin(subject_ids, ids))
        return self._bitmap(told["bitmap"], len(subject_ids))

    def rename_selection(self, name: str, to: str, *, who: str, client_id: str | None = None) -> Entry:
        """Give a named selection another name, which must be free."""
        if not to.strip():
            raise LedgerError("a selection needs a name")
        names = self._saved(None)
        self._must_exist(name, names)
        if to in names:
            raise LedgerError(f'there is a selection "{to}" already; drop it first or choose another name')
        payload = {"action": "rename", "name": name, "to": to}
        return self.append("selection", payload, who=who, client_id=client_id)

    def drop_selection(self, name: str, *, who: str, client_id: str | None = None) -> Entry:
        """Remove a name; the selection's row stays in the log."""
        self._must_exist(name, self._saved(None))
        return self.append("selection", {"action": "drop", "name": name}, who=who, client_id=client_id)

    def selection_counts(self, at: datetime | str | None = None) -> dict[str, int]:
        """Names of the selections there are and how many subjects each has, in the order they were saved."""
        return {name: entry.payload["n"] for name, entry in self._saved(at).items()}

    def selection_names(self, at: datetime | str | None = None) -> list[str]:
        """Names of the selections there are, in the order they were saved."""
        return list(self._saved(at))

    def selection(self, name: str, subject_ids: np.ndarray, at: datetime | str | None = None) -> Selection:
        """A named selection, now or as of a date.

        Parameters
        ----------
        subject_ids
            int64 (N,), all of the survey's ids in row order.

        Raises
        ------
        LedgerError
            No selection of that name, or its bitmap file is missing or damaged.
        """
        saved = self._saved(at)
        self._must_exist(name, saved)
        entry = saved[name]
        members = subject_ids[self.read_back(entry.payload, subject_ids)]
        if len(members) != entry.payload["n"]:
            raise LedgerError(
                f'the selection "{name}" has {entry.payload["n"]:,} subjects, only {len(members):,} are in the survey'
            )
        return Selection(name, members, entry.who, entry.at)

    def _bitmap(self, sha256: str, n_rows: int) -> np.ndarray:
        path = self.path / SELECTIONS / sha256
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise LedgerError(f"{path} is missing; the selection cannot be read") from None
        if hashlib.sha256(content).hexdigest() != sha256:
            raise LedgerError(f"{path} is damaged (its sha256 is not its name); the selection cannot be read")
        # subjects added since then are beyond the bitmap's end: not selected
        bits = np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little")[:n_rows].astype(np.bool_)
        return np.flatnonzero(bits)

    def _saved(self, at: datetime | str | None) -> dict[str, Entry]:
        """Name → the entry that saved it, by replaying the log."""
        return saved_names(self.entries("selection", at=at))

    @staticmethod
    def _must_exist(name: str, names: Iterable[str]) -> None:
        if name not in names:
            known = ", ".join(f'"{n}"' for n in names) or "none"
            raise LedgerError(f'there is no selection "{name}"; there are: {known}')

    @property
    def name(self) -> str:
        """What sentences call it: its file, or its database without a password."""
        return self._dialect.name

    # -------------------------------------------------------------------------------------------------- close
    def close(self) -> None:
        """Commit what waits, then let go of the file."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._requests.put(None)
        self._writer.join()
        self._dialect.close()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --------------------------------------------------------------------------------------------------------- where it is
def address(survey_path: Path) -> sa.URL:
    """Where the ledger of a survey is: the one that `ADDRESS` names in the environment, or the file in its folder.

    Raises
    ------
    LedgerError
        Not a URL; or decisions were kept in the other place, where nobody would see them any more.
    """
    file, elsewhere = survey_path / LEDGER, survey_path / ELSEWHERE
    told = os.environ.get(ADDRESS)
    if not told:
        if elsewhere.exists():
            raise LedgerError(
                f"the decisions on {survey_path} are in {_told(elsewhere)}; say where as {ADDRESS}="
                "postgresql+psycopg://HOST/DATABASE in the environment"
            )
        return in_file(file)
    url = _parsed(told)
    if url.get_backend_name() != "sqlite" and not elsewhere.exists() and _has_entries(file):
        raise LedgerError(
            f"{file} holds the decisions on this survey, and {ADDRESS} names a database; "
            f"move them with `voorwerp ledger copy {survey_path} --to-postgres`, or unset {ADDRESS}"
        )
    return url


def in_file(file: Path) -> sa.URL:
    """The URL of a ledger in a file of its own."""
    return sa.URL.create("sqlite", database=str(file))


def _parsed(url: str | sa.URL) -> sa.URL:
    parsed = None
    with contextlib.suppress(sa.exc.ArgumentError, ValueError):  # their texts may bring the password
        parsed = sa.make_url(url)
    if parsed is None or re.search(r"[^\w.:,-]", parsed.host or ""):  # what is behind an @ of it, unquoted
        raise LedgerError(
            f"{ADDRESS} is not a URL that can be read; write it as postgresql+psycopg://USER@HOST:PORT/DATABASE, "
            "what is no letter or digit of a password as %XX"
        )
    return parsed


def _told(elsewhere: Path) -> str:
    try:
        return str(json.loads(elsewhere.read_text())["ledger"])
    except (OSError, ValueError, KeyError, TypeError):
        return "a PostgreSQL database"


def _has_entries(file: Path) -> bool:
    if not file.exists():
        return False
    try:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            return connection.execute("SELECT 1 FROM entries LIMIT 1").fetchone() is not None
    except sqlite3.OperationalError as error:
        return "no such table" not in str(error)
    except sqlite3.DatabaseError:  # damaged: it may
        return True


def is_there(survey_path: Path) -> bool:
    """Whether a survey has a ledger yet; one in a database is taken to be there."""
    return bool(os.environ.get(ADDRESS)) or any((survey_path / name).exists() for name in (LEDGER, ELSEWHERE))


def leave_word(survey_path: Path, name: str) -> None:
    """Say in the survey's folder that its ledger is elsewhere, for who comes without `ADDRESS`."""
    if not (survey_path / ELSEWHERE).exists() or _told(survey_path / ELSEWHERE) != name:
        with contextlib.suppress(OSError):  # a folder that only reads
            write_json(survey_path / ELSEWHERE, {"ledger": name})


def copy(source: Ledger, target: Ledger) -> int:
    """Copy every entry into an empty ledger, with its id and date; returns how many.

    Raises
    ------
    LedgerError
        The target has other entries already, or one cannot be read or written.
    """
    n = 0
    try:
        with target._dialect.write(target.survey_id) as writing, source._dialect.read() as reading:
            here, there = (
                connection.execute(
                    sa.select(ENTRIES.c.id, ENTRIES.c.client_id).where(ours).order_by(ENTRIES.c.id)
                ).all()
                for connection, ours in ((writing, target._ours), (reading, source._ours))
            )
            if here and here != there:
                raise LedgerError(f"{target.name} holds other decisions on this survey already; nothing was copied")
            if here:  # copied before, and stopped then
                return len(here)
            if there:
                query = sa.select(ENTRIES).where(source._ours).order_by(ENTRIES.c.id)
                rows = reading.execute(query.execution_options(yield_per=MAX_GROUP))
                for part in rows.mappings().partitions():
                    writing.execute(sa.insert(ENTRIES), [dict(row) for row in part])
                    n += len(part)
    except sa.exc.DBAPIError as error:
        raise target._dialect.refusal(error) from None
    return n


def moved(survey_path: Path, survey_id: str, to_database: bool) -> tuple[int, str]:
    """Move a survey's ledger between its folder and the database of `ADDRESS`: how many entries, and where they are.

    What they are copied from stays: the file as ``ledger.db.copied``, the rows of the database where they are.

    Raises
    ------
    LedgerError
        No database is named, the survey is served, or there are other decisions at the target.
    """
    told, file, elsewhere = os.environ.get(ADDRESS), survey_path / LEDGER, survey_path / ELSEWHERE
    url = _parsed(told) if told else None
    if url is None or url.get_backend_name() == "sqlite":
        raise LedgerError(f"name the database first: {ADDRESS}=postgresql+psycopg://HOST/DATABASE in the environment")
    if to_database and not file.exists():
        raise LedgerError(f"{file} is not there; nothing is to be copied")
    with _unserved(survey_path):
        with Ledger(survey_path, survey_id, in_file(file)) as ours, Ledger(survey_path, survey_id, url) as shared:
            n = copy(ours, shared) if to_database else copy(shared, ours)
            name = shared.name if to_database else ours.name
        if to_database:
            leave_word(survey_path, name)
            file.rename(file.with_name(f"{LEDGER}.copied"))
        else:
            elsewhere.unlink(missing_ok=True)
    return n, name


@contextlib.contextmanager
def _unserved(survey_path: Path) -> Iterator[None]:
    """Hold what a server would hold."""
    file = survey_path / "server.lock"
    with contextlib.ExitStack() as held:
        if file.exists():
            handle = held.enter_context(file.open("rb"))
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise LedgerError(f"a server is at work on {survey_path}; stop it, then copy") from None
        yield


def check(survey_path: Path, survey_id: str, subject_ids: np.ndarray, *, is_copy: bool = False) -> list[str]:
    """Every problem of a survey's ledger, one sentence each; [] when it is sound, or not there yet.

    Looks at: the database's own structure, its schema and survey, every selection there is now, the subjects of every
    campaign, the classifiers of every boundary, and whether the campaign, the grade and the subject of every vote are
    there. `is_copy`: of the file in the folder, wherever this machine's ledgers are.
    """
    file = survey_path / LEDGER
    if not (file.exists() if is_copy else is_there(survey_path)):
        return []
    try:
        with Ledger(survey_path, survey_id, in_file(file) if is_copy else None) as ledger:
            problems = ledger._dialect.problems()
            for name in ledger.selection_names():
                try:
                    ledger.selection(name, subject_ids)
                except LedgerError as error:
                    problems.append(str(error))
            for entry in ledger.entries("campaign"):
                for told in entry.payload.get("sets", {}).values():
                    called = f'the campaign "{entry.payload["plan"]["name"]}"'
                    try:
                        if (n := len(ledger.read_back(told, subject_ids))) != told["n"]:
                            problems.append(f"{called} has {told['n']:,} subjects of which {n:,} are in the survey")
                    except LedgerError as error:
                        problems.append(str(error).replace("the selection cannot", f"{called} cannot"))
            problems += _problems_of_boundaries(survey_path, ledger.entries("boundary"))
            problems += _problems_of_votes(ledger.entries(("campaign", "vote"), include_undone=True), subject_ids)
    except LedgerError as error:
        return [str(error)]
    except sa.exc.DBAPIError as error:
        return [f"{file} cannot be read ({error.orig}); put back a copy"]
    return problems


def _problems_of_boundaries(survey_path: Path, entries: Iterable[Entry]) -> list[str]:
    """What cannot be read of the boundaries that were saved, and of the classifiers that they name."""
    problems = []
    named: dict[str, str] = {}  # the first that names it
    for entry in entries:
        if entry.payload.get("action") != "save":
            continue
        called = f'the boundary "{entry.payload["name"]}", version {entry.payload["version"]}'
        try:
            for sha256 in classifiers(from_json(entry.payload["keep"])):
                named.setdefault(sha256, called)
        except BoundaryError as error:
            problems.append(f"{called} cannot be read (entry {entry.id} of the ledger): {error}")
    for sha256, called in named.items():
        path = survey_path / CLASSIFIERS / f"{sha256}.json"
        try:
            if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
                problems.append(f"{path} is damaged (its sha256 is not its name); {called} cannot be applied")
        except OSError as error:
            reason = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
            problems.append(f"{path} {reason}; {called} cannot be applied")
    return problems


def _problems_of_votes(entries: Iterable[Entry], subject_ids: np.ndarray) -> list[str]:
    """Votes of experts that no campaign counts: of one that is not there, or with a grade or subject it cannot have."""
    grades: dict[str, set[str | None]] = {}
    called: dict[str, str] = {}
    wrong: dict[str, list[int]] = {}
    there = set(subject_ids.tolist())
    for entry in entries:
        told, campaign = entry.payload, str(entry.payload.get("campaign"))
        if entry.kind == "campaign" and told.get("action") == "open":
            scheme = told.get("plan", {}).get("scheme", {})
            grades[campaign] = {grade.get("key") for grade in scheme.get("grades", ())} | {CANNOT_JUDGE}
            called[campaign] = f'the campaign "{told.get("plan", {}).get("name")}"'
        if entry.kind != "vote" or entry.undone:
            continue
        if campaign not in grades:
            wrong.setdefault(f"of the campaign {campaign}, which the ledger does not have", []).append(entry.id)
            continue
        given = {str(entry.subject_id): told.get("grade")} if entry.subject_id is not None else {}
        given |= {} if entry.subject_id is not None else {**told.get("grades", {}), **told.get("repeats", {})}
        for subject, grade in given.items():
            if grade not in grades[campaign]:
                wrong.setdefault(f"with the grade {grade!r}, which {called[campaign]} does not have", []).append(
                    entry.id
                )
            elif not subject.isdigit() or int(subject) not in there:
                wrong.setdefault(f"in {called[campaign]} on subjects that the survey does not have", []).append(
                    entry.id
                )
    return [
        f"{len(ids):,} vote{'s are' if len(ids) > 1 else ' is'} {what}, and not counted (first: entry {ids[0]})"
        for what, ids in wrong.items()
    ]


def saved_names(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Name → the entry that saved it, of entries of kind "selection" that are not undone, in their order."""
    names: dict[str, Entry] = {}
    for entry in entries:
        name = entry.payload["name"]
        match entry.payload["action"]:
            case "save":
                names.pop(name, None)
                names[name] = entry
            case "drop":
                names.pop(name, None)
            case "rename" if name in names:  # its save may be undone by now
                names[entry.payload["to"]] = names.pop(name)
    return names


def _entry(row: Any, undone: set[int]) -> Entry:
    *told, payload, undoes = row  # in the order of `Entry`
    return Entry(*[*told, json.loads(payload), undoes, told[0] in undone])


def _check(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if isinstance(value, str) and ("\0" in value or not _is_unicode(value)):
            raise LedgerError(f"the entry's {name} holds a character that no text may hold; it was not kept")
        if isinstance(value, int) and not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
            raise LedgerError(f"the entry's {name} is {value}, beyond 64 bits; it was not kept")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        return False
    return True


def _canonical(payload: Mapping[str, Any]) -> str:
    try:
        return json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise LedgerError(f"the entry cannot be written as JSON ({error}); it was not kept") from None


def _timestamp(at: datetime | str | None) -> str | None:
    if at is None:
        return None
    try:
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    except ValueError:
        raise LedgerError(f"{at!r} is not a date; write it as 2026-01-31 or 2026-01-31T12:00:00") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
