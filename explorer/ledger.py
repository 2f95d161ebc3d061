"""The ledger: an append-only log of everything people decide, and of every job they start.

A row is never changed or removed (triggers refuse it); undo is a row. Current state is a view over the log and can be
replayed to any date. `Ledger.append` returns only after the row is on the disk, and a repeated client UUID returns the
first row: a retry after a lost answer is no second vote.

One thread writes. Rows that wait at the same time share one commit, so a commit's fsync is paid once for many of them.
Several processes (a server, the command line) may use one ledger at once.
"""

import contextlib
import hashlib
import json
import os
import queue
import re
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from explorer import code_version
from explorer.errors import LedgerError
from models.artifacts import write_bytes
from models.boundary import BoundaryError, classifiers, from_json

SCHEMA_VERSION = 1
LEDGER = "ledger.db"
SELECTIONS = "selections"
CLASSIFIERS = "classifiers"

#: Above this many subjects a selection is a bitmap file instead of a list in its row.
MAX_LISTED = 10_000
#: Seconds to wait for another process's transaction.
BUSY_TIMEOUT = 30.0
#: Rows in one commit at most, so that the first of a long queue is not kept waiting.
MAX_GROUP = 512

#: Where sqlite's write-ahead log is unsafe: its shared memory does not reach other machines.
NETWORK_FILE_SYSTEMS = {
    *("afs", "beegfs", "ceph", "cifs", "davfs", "fhgfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
    *("ocfs2", "panfs", "smb3", "smbfs", "fuse.ceph", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
}

_METADATA = sa.MetaData()
ENTRIES = sa.Table(
    "entries",
    _METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("client_id", sa.Text, nullable=False, unique=True),
    sa.Column("survey_id", sa.Text, nullable=False),
    sa.Column("at", sa.Text, nullable=False),  # UTC, ISO 8601 with microseconds: sorts as text; never decreases with id
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False, index=True),
    sa.Column("subject_id", sa.BigInteger, index=True),
    sa.Column("run_id", sa.Text),
    sa.Column("map_id", sa.Text),
    sa.Column("boundary_id", sa.Text),
    sa.Column("code_version", sa.Text, nullable=False),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("undoes", sa.ForeignKey("entries.id"), index=True),
    sqlite_autoincrement=True,
)


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
        The survey folder; ``ledger.db`` is made in it.
    survey_id
        The survey's UUID; a ledger of another survey is refused.
    url
        A SQLAlchemy URL instead of ``ledger.db``. Only ``sqlite:///…`` is open today.

    Attributes
    ----------
    guard
        Asked with who and a kind (see `allow`) before anything is kept; None where everybody may do everything.

    Raises
    ------
    LedgerError
        A network file system, another schema version, another survey's ledger, or not a ledger.
    """

    guard: Callable[[str, str], None] | None = None

    def __init__(self, survey_path: Path | str, survey_id: str, url: str | None = None) -> None:
        self.path = Path(survey_path)
        self.survey_id = survey_id
        self._dialect = _SQLite(sa.make_url(url) if url else sa.URL.create("sqlite", database=str(self.path / LEDGER)))
        self._dialect.create(survey_id)
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._writer = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._writer.start()

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
        answers: list[Entry | LedgerError] = []
        try:
            with self._dialect.write(self.survey_id) as connection:
                for request in group:
                    try:
                        answers.append(self._insert(connection, request.values))
                    except LedgerError as error:  # this one alone is refused
                        answers.append(error)
        except BaseException as error:  # nothing of the group is kept; each one waiting must hear of it
            for request in group:
                request.answer.set_exception(self._dialect.refusal(error))
            return
        for request, answer in zip(group, answers, strict=True):
            if isinstance(answer, LedgerError):
                request.answer.set_exception(answer)
            else:
                request.answer.set_result(answer)

    def _insert(self, connection: sa.Connection, values: dict[str, Any]) -> Entry:
        first = connection.execute(sa.select(ENTRIES).where(ENTRIES.c.client_id == values["client_id"])).one_or_none()
        if first is not None:
            if any(getattr(first, name) != value for name, value in values.items()):
                raise LedgerError(
                    f"the UUID {values['client_id']} stands for another decision already (entry {first.id}); "
                    "a new decision needs a new one"
                )
            return _entry(first, set())
        if (target := values["undoes"]) is not None:
            if connection.execute(sa.select(ENTRIES.c.id).where(ENTRIES.c.id == target)).one_or_none() is None:
                raise LedgerError(f"there is no entry {target} in the ledger to undo")
            if target in _undone(connection, None, _undoing(sa.select(sa.literal(target)))):
                raise LedgerError(f"entry {target} is undone already")
        last = connection.execute(sa.select(ENTRIES.c.at).order_by(ENTRIES.c.id.desc()).limit(1)).scalar()
        at = datetime.now(UTC).isoformat(timespec="microseconds")
        at = max(at, last or at)  # a clock set back must not reorder the log
        row = {**values, "at": at, "survey_id": self.survey_id, "code_version": code_version()}
        entry_id = connection.execute(sa.insert(ENTRIES).values(row).returning(ENTRIES.c.id)).scalar_one()
        return Entry(id=entry_id, **{**row, "payload": json.loads(row["payload"])})

    # --------------------------------------------------------------------------------------------------- read
    def entries(
        self,
        kind: str | Collection[str] | None = None,
        since: int = 0,
        at: datetime | str | None = None,
        include_undone: bool = False,
        subject_id: int | None = None,
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
        """
        until = _timestamp(at)
        kinds = [kind] if isinstance(kind, str) else kind
        query = sa.select(ENTRIES).where(ENTRIES.c.id > since).order_by(ENTRIES.c.id)
        undoing: sa.FromClause = ENTRIES
        if subject_id is not None:  # by its index alone: that of kinds leads to far more
            undoing = _undoing(sa.select(ENTRIES.c.id).where(ENTRIES.c.subject_id == int(subject_id)))
            is_on_it = ENTRIES.c.subject_id == int(subject_id)
            query = query.where(sa.or_(is_on_it, ENTRIES.c.id.in_(sa.select(undoing.c.id))))
        elif kinds is not None:
            query = query.where(ENTRIES.c.kind.in_(kinds))
        if until is not None:
            query = query.where(ENTRIES.c.at <= until)
        with self._dialect.read() as connection:
            undone = _undone(connection, until, undoing, since)
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
            row = connection.execute(sa.select(ENTRIES).where(ENTRIES.c.id == int(entry_id))).one_or_none()
            if row is None:
                raise LedgerError(f"there is no entry {entry_id} in the ledger")
            return _entry(row, _undone(connection, None, _undoing(sa.select(sa.literal(int(entry_id))))))

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
        rows = np.unique(rows)
        payload: dict[str, Any] = {"action": "save", "name": name, "n": len(rows)}
        if len(rows) <= MAX_LISTED:
            payload["subject_ids"] = [str(i) for i in subject_ids[rows].tolist()]
        else:
            mask = np.zeros(len(subject_ids), np.bool_)
            mask[rows] = True
            content = np.packbits(mask, bitorder="little").tobytes()
            payload["bitmap"] = hashlib.sha256(content).hexdigest()
            path = self.path / SELECTIONS / payload["bitmap"]
            if not path.exists():
                try:
                    write_bytes(path, content)
                except OSError as error:
                    raise self._dialect.refusal(error) from error
        return self.append("selection", payload, who=who, client_id=client_id)

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
        if "subject_ids" in entry.payload:
            ids = np.array([int(i) for i in entry.payload["subject_ids"]], np.int64)
            members = subject_ids[np.isin(subject_ids, ids)]
        else:
            members = subject_ids[self._bitmap(entry.payload["bitmap"], len(subject_ids))]
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


def check(survey_path: Path, survey_id: str, subject_ids: np.ndarray) -> list[str]:
    """Every problem of a survey's ledger, one sentence each; [] when it is sound, or not there yet.

    Looks at: the database's own structure, its schema and survey, every selection there is now, and the classifiers of
    every boundary.
    """
    file = survey_path / LEDGER
    if not file.exists():
        return []
    try:
        with Ledger(survey_path, survey_id) as ledger:
            problems = ledger._dialect.problems()
            for name in ledger.selection_names():
                try:
                    ledger.selection(name, subject_ids)
                except LedgerError as error:
                    problems.append(str(error))
            problems += _problems_of_boundaries(survey_path, ledger.entries("boundary"))
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


def _undoing(targets: sa.Select) -> sa.CTE:
    """The entries that take back any of `targets`, those that take back these, and so on: by index, few are read."""
    columns = ENTRIES.c.id, ENTRIES.c.undoes, ENTRIES.c.at
    first = sa.select(*columns).where(ENTRIES.c.undoes.in_(targets)).cte("undoing", recursive=True)
    return first.union_all(sa.select(*columns).where(ENTRIES.c.undoes == first.c.id))


def _undone(connection: sa.Connection, until: str | None, undoing: sa.FromClause = ENTRIES, since: int = 0) -> set[int]:
    """Ids of entries taken back, by the entries in `undoing`; all of those behind `since` are among them.

    An undo has a greater id than what it undoes, so one pass from the end decides all.
    """
    query = sa.select(undoing.c.id, undoing.c.undoes).where(undoing.c.undoes.is_not(None), undoing.c.id > since)
    if until is not None:
        query = query.where(undoing.c.at <= until)
    undone: set[int] = set()
    for entry_id, target in connection.execute(query.order_by(undoing.c.id.desc())):
        if entry_id not in undone:
            undone.add(target)
    return undone


def _entry(row: Any, undone: set[int]) -> Entry:
    *told, payload, undoes = row  # in the order of `Entry`
    return Entry(*[*told, json.loads(payload), undoes, told[0] in undone])


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


# --------------------------------------------------------------------------------- all that only SQLite understands
def file_system_of(path: Path, mountinfo: str) -> tuple[str, str]:
    """Mount point and type of the file system that holds `path`, by the text of ``/proc/self/mountinfo``.

    The last of equally long matches wins: it is mounted over the others. ("", "") when nothing matches.
    """
    best = ("", "")
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        mount = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), left.split(" ")[4])  # a blank is \040
        if path.is_relative_to(mount) and len(mount) >= len(best[0]):
            best = (mount, right.split(" ")[0])
    return best


class _SQLite:
    """Opens, begins and explains errors for SQLite; another database is another class like this one."""

    def __init__(self, url: sa.URL) -> None:
        if url.get_backend_name() != "sqlite" or not url.database:
            raise LedgerError(
                f"a ledger at {url.render_as_string(hide_password=True)} cannot be opened; use sqlite:///PATH"
            )
        self.file = Path(url.database)
        self._refuse_network()
        self._engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT}, pool_size=2, max_overflow=8)
        sa.event.listen(self._engine, "connect", self._configure)

    def _refuse_network(self) -> None:
        mountinfo = Path("/proc/self/mountinfo")
        if mountinfo.exists():
            mount, kind = file_system_of(self.file.parent.resolve(), mountinfo.read_text())
            if kind in NETWORK_FILE_SYSTEMS:
                raise LedgerError(
                    f"{self.file} lies on a network file system ({kind} at {mount}) where decisions could be lost; "
                    "move the survey to a local disk"
                )

    @staticmethod
    def _configure(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, and which
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA foreign_keys=ON")
        connection.execute("PRAGMA recursive_triggers=ON")  # so that REPLACE meets the trigger on DELETE

    def create(self, survey_id: str) -> None:
        """Make the tables where there are none; check those that are there."""
        try:
            with self._engine.connect() as connection:
                self._write_ahead(connection)
            with self._begin("BEGIN IMMEDIATE") as connection:
                found = connection.exec_driver_sql("PRAGMA user_version").scalar()
                tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
                if tables == 0:
                    _METADATA.create_all(connection)
                    for action in ("UPDATE", "DELETE"):
                        connection.exec_driver_sql(
                            f"CREATE TRIGGER entries_refuse_{action.lower()} BEFORE {action} ON entries "
                            "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
                        )
                    connection.exec_driver_sql(
                        "CREATE TRIGGER entries_refuse_replace BEFORE INSERT ON entries "
                        "WHEN EXISTS (SELECT 1 FROM entries WHERE id = NEW.id OR client_id = NEW.client_id) "
                        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
                    )
                    connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")
                elif found != SCHEMA_VERSION:
                    raise LedgerError(
                        f"{self.file} has schema version {found}; this Voorwerp reads version {SCHEMA_VERSION}"
                    )
                owner = connection.execute(sa.select(ENTRIES.c.survey_id).order_by(ENTRIES.c.id).limit(1)).scalar()
            if owner is not None and owner != survey_id:
                raise LedgerError(f"{self.file} belongs to the survey {owner}, not to {survey_id}; put back its own")
        except sa.exc.DBAPIError as error:
            self.close()
            raise LedgerError(f"{self.file} cannot be opened as a ledger ({error.orig}){self._unwritable()}") from error
        except LedgerError:
            self.close()
            raise

    def _unwritable(self) -> str:
        """Why nothing can be written beside the file, and what to do; "" where it can."""
        folder = self.file.parent
        if os.access(folder, os.W_OK):
            return ""
        is_read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
        why = "is on a disk that is mounted read-only" if is_read_only else "may not be written by you"
        return f": {folder} {why}; copy the survey to where you may write"

    def _write_ahead(self, connection: sa.Connection) -> None:
        # Changing the journal mode does not wait for other connections, so two processes that open a new ledger at
        # once would make one of them fail.
        deadline = time.monotonic() + BUSY_TIMEOUT
        while True:
            try:
                mode = connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar()
            except sa.exc.OperationalError as error:
                if "locked" not in str(error.orig) or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
                continue
            if mode != "wal":
                raise LedgerError(f"{self.file} cannot use a write-ahead log here; move the survey to a local disk")
            return

    @contextlib.contextmanager
    def _begin(self, statement: str) -> Iterator[sa.Connection]:
        with self._engine.connect() as connection:
            connection.exec_driver_sql(statement)
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                with contextlib.suppress(sa.exc.DBAPIError):  # a full disk has rolled back already
                    connection.exec_driver_sql("ROLLBACK")
                raise

    def write(self, survey_id: str) -> contextlib.AbstractContextManager[sa.Connection]:
        """A transaction that is the only writer from its beginning. (One file holds one survey: its lock is enough.)"""
        return self._begin("BEGIN IMMEDIATE")

    def read(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """A transaction that sees one moment of the log."""
        return self._begin("BEGIN")

    def problems(self) -> list[str]:
        """What SQLite itself finds wrong with the file, one sentence each."""
        with self.read() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(5)").scalars().all()
        return [f"{self.file} is damaged ({' '.join(text.split())}); put back a copy" for text in found if text != "ok"]

    def refusal(self, error: BaseException) -> LedgerError:
        """The sentence for whoever waits for an entry that could not be kept."""
        reason = str(error.orig) if isinstance(error, sa.exc.DBAPIError) else str(error)
        if "is full" in reason or "No space left" in reason:
            reason = "the disk is full; free some space and repeat it"
        elif "locked" in reason:
            reason = f"another process kept it busy for {BUSY_TIMEOUT:.0f} s; repeat it"
        return LedgerError(f"the decision was not kept in {self.file}: {reason}")

    def close(self) -> None:
        self._engine.dispose()
