"""The databases that a ledger may lie in: SQLite beside the survey, or PostgreSQL.

Each class opens one, begins its transactions, and says in a sentence what is wrong; `explorer.ledger` knows no
difference between them. A row is committed when it is on the disk: SQLite with ``synchronous=FULL`` in WAL,
PostgreSQL with ``synchronous_commit`` on.
"""

import contextlib
import hashlib
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa

from explorer.errors import LedgerError

SCHEMA_VERSION = 1
#: Seconds to wait for another process's transaction.
BUSY_TIMEOUT = 30.0
#: Seconds for which a vote waits for a PostgreSQL server that restarts.
PATIENCE = 15.0

#: Where sqlite's write-ahead log is unsafe: its shared memory does not reach other machines.
NETWORK_FILE_SYSTEMS = {
    *("afs", "beegfs", "ceph", "cifs", "davfs", "fhgfs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"),
    *("ocfs2", "panfs", "smb3", "smbfs", "fuse.ceph", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
}

METADATA = sa.MetaData()
ENTRIES = sa.Table(
    "entries",
    METADATA,
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


class Database(Protocol):
    """What a ledger needs of its database.

    Attributes
    ----------
    name
        What sentences call it; without a password.
    """

    name: str

    def create(self, survey_id: str) -> None:
        """Make the tables where there are none; check those that are there."""

    def write(self, survey_id: str) -> contextlib.AbstractContextManager[sa.Connection]:
        """A transaction that is the survey's only writer from its beginning, on the disk at its end."""

    def read(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """A transaction that sees one moment of the log."""

    def problems(self) -> list[str]:
        """What the database itself finds wrong, one sentence each."""

    def is_worth_another_try(self, error: BaseException, began: float) -> bool:
        """Whether to repeat a transaction that failed, begun first at `began` (monotonic); waits a little if so."""

    def refusal(self, error: BaseException) -> LedgerError:
        """The sentence for whoever waits for an entry that could not be kept."""

    def close(self) -> None:
        """Let go of it."""


def opened(url: sa.URL) -> Database:
    """The database at a URL.

    Raises
    ------
    LedgerError
        Not one of those that we know, or what speaks to it is not installed.
    """
    match url.get_backend_name():
        case "sqlite" if url.database:
            return SQLite(url)
        case "postgresql" if url.database:
            return Postgres(url)
    raise LedgerError(
        f"a ledger at {url.render_as_string(hide_password=True)} cannot be opened; "
        "use sqlite:///PATH or postgresql+psycopg://HOST/DATABASE"
    )


@contextlib.contextmanager
def _begin(engine: sa.Engine, statement: str) -> Iterator[sa.Connection]:
    """A transaction that this statement begins; committed at its end, taken back at any error."""
    with contextlib.ExitStack() as held:
        connection = held.enter_context(engine.connect())
        try:
            connection.exec_driver_sql(statement)
        except sa.exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
            connection = held.enter_context(engine.connect())  # the server was restarted: the pool is empty now
            connection.exec_driver_sql(statement)
        try:
            yield connection
            connection.exec_driver_sql("COMMIT")
        except BaseException:
            with contextlib.suppress(sa.exc.SQLAlchemyError):  # a full disk, a lost connection: rolled back already
                connection.exec_driver_sql("ROLLBACK")
            raise


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


class SQLite:
    """One file, one survey."""

    def __init__(self, url: sa.URL) -> None:
        self.file = Path(str(url.database))
        self.name = str(self.file)
        self._refuse_network()
        self._engine = sa.create_engine(
            url, connect_args={"timeout": BUSY_TIMEOUT}, pool_size=2, max_overflow=8, hide_parameters=True
        )
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
            with self.write(survey_id) as connection:
                found = connection.exec_driver_sql("PRAGMA user_version").scalar()
                tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar()
                if tables == 0:
                    METADATA.create_all(connection)
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

    def write(self, survey_id: str) -> contextlib.AbstractContextManager[sa.Connection]:
        """A transaction that is the only writer from its beginning. (One file holds one survey: its lock is enough.)"""
        return _begin(self._engine, "BEGIN IMMEDIATE")

    def read(self) -> contextlib.AbstractContextManager[sa.Connection]:
        """A transaction that sees one moment of the log."""
        return _begin(self._engine, "BEGIN")

    def problems(self) -> list[str]:
        """What SQLite itself finds wrong with the file, one sentence each."""
        with self.read() as connection:
            found = connection.exec_driver_sql("PRAGMA quick_check(5)").scalars().all()
        return [f"{self.file} is damaged ({' '.join(text.split())}); put back a copy" for text in found if text != "ok"]

    def is_worth_another_try(self, error: BaseException, began: float) -> bool:
        """Never: SQLite has waited already."""
        return False

    def refusal(self, error: BaseException) -> LedgerError:
        """The sentence for whoever waits for an entry that could not be kept."""
        reason = str(error.orig) if isinstance(error, sa.exc.DBAPIError) else str(error)
        if "is full" in reason or "No space left" in reason:
            reason = "the disk is full; free some space and repeat it"
        elif "locked" in reason:
            reason = f"another process kept it busy for {BUSY_TIMEOUT:.0f} s; repeat it"
        return LedgerError(f"the decision was not kept in {self.file}: {reason}")

    def close(self) -> None:
        """Close every connection to the file."""
        self._engine.dispose()


# ----------------------------------------------------------------------------- all that only PostgreSQL understands
#: The tables' own schema, so that a database may hold other things too.
SCHEMA = "voorwerp"
_TABLES = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = '{SCHEMA}') THEN CREATE SCHEMA {SCHEMA}; END IF; END $$;
CREATE TABLE {SCHEMA}.entries (
    id bigint NOT NULL,
    client_id text NOT NULL,
    survey_id text NOT NULL,
    at text COLLATE "C" NOT NULL,
    who text NOT NULL,
    kind text NOT NULL,
    subject_id bigint,
    run_id text,
    map_id text,
    boundary_id text,
    code_version text NOT NULL,
    payload text NOT NULL,
    undoes bigint,
    PRIMARY KEY (survey_id, id),
    UNIQUE (survey_id, client_id),
    FOREIGN KEY (survey_id, undoes) REFERENCES {SCHEMA}.entries (survey_id, id)
);
CREATE INDEX entries_kind ON {SCHEMA}.entries (survey_id, kind, id);
CREATE INDEX entries_subject ON {SCHEMA}.entries (survey_id, subject_id) WHERE subject_id IS NOT NULL;
CREATE INDEX entries_undoes ON {SCHEMA}.entries (survey_id, undoes) WHERE undoes IS NOT NULL;
CREATE FUNCTION {SCHEMA}.refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$;
CREATE TRIGGER entries_refuse_change BEFORE UPDATE OR DELETE ON {SCHEMA}.entries
    FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.refuse();
CREATE TRIGGER entries_refuse_truncate BEFORE TRUNCATE ON {SCHEMA}.entries
    FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.refuse();
ALTER TABLE {SCHEMA}.entries ENABLE ALWAYS TRIGGER entries_refuse_change;
ALTER TABLE {SCHEMA}.entries ENABLE ALWAYS TRIGGER entries_refuse_truncate;
CREATE TABLE {SCHEMA}.schema_version (version integer NOT NULL);
INSERT INTO {SCHEMA}.schema_version VALUES ({SCHEMA_VERSION})
"""
#: Of each connection. A server may be set to answer a COMMIT before it is on the disk: never to us.
_SESSION = f"""
SELECT set_config('search_path', '{SCHEMA}', false),
       set_config('lock_timeout', '{BUSY_TIMEOUT:.0f}s', false),
       set_config('synchronous_commit', 'on', false) WHERE true
"""
_KEEPALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
#: SQLSTATEs of a server that goes down or comes up, and of a connection that broke.
_PASSING = {"57P01", "57P02", "57P03", "08000", "08003", "08006", "08001", "08004"}


class Postgres:
    """A database that several surveys may share: every row says of which survey it is.

    Ids count from 1 in each survey. An advisory lock per survey makes their order the order of the commits, whoever
    writes: without it a reader that asks for what came after an id could miss a slower transaction's lower one.
    """

    def __init__(self, url: sa.URL) -> None:
        asked = url.normalized_query
        host = url.host or ",".join(asked.get("host", ())) or os.environ.get("PGHOST") or "this machine"
        port = url.port or ",".join(asked.get("port", ())) or os.environ.get("PGPORT") or 5432
        self.name = f"the PostgreSQL database {url.database} at {host}:{port}"
        try:
            self._engine = sa.create_engine(
                url.set(drivername="postgresql+psycopg"),
                isolation_level="AUTOCOMMIT",  # we say BEGIN ourselves, and which
                pool_size=4,
                max_overflow=12,
                hide_parameters=True,
                connect_args={"connect_timeout": 10, "application_name": "voorwerp", **_KEEPALIVE},
            )
        except ImportError:
            raise LedgerError(f"{self.name} needs psycopg; pip install 'voorwerp[postgres]'") from None
        sa.event.listen(self._engine, "connect", self._configure)

    @staticmethod
    def _configure(connection: Any, _: object) -> None:
        connection.execute(_SESSION)
        if not connection.autocommit:
            connection.commit()

    def create(self, survey_id: str) -> None:
        """Make the tables where there are none; check those that are there."""
        try:
            with _begin(self._engine, "BEGIN") as connection:
                encoding, is_copy = connection.exec_driver_sql(
                    "SELECT current_setting('server_encoding'), pg_is_in_recovery()"
                ).one()
                if encoding != "UTF8":
                    raise LedgerError(f"{self.name} is in {encoding}; make one with ENCODING 'UTF8'")
                if is_copy:
                    raise LedgerError(f"{self.name} is a copy that only reads; name its primary server")
                is_made = self._is_made(connection)
            if not is_made:
                with _begin(self._engine, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE") as connection:
                    connection.exec_driver_sql(_lock("tables"))
                    if not self._is_made(connection):  # another process was quicker
                        for statement in _TABLES.split(";\n"):
                            connection.exec_driver_sql(statement)
            with _begin(self._engine, "BEGIN") as connection:
                version = connection.exec_driver_sql(f"SELECT max(version) FROM {SCHEMA}.schema_version").scalar()
                if version != SCHEMA_VERSION:
                    raise LedgerError(
                        f"{self.name} has schema version {version}; this Voorwerp reads version {SCHEMA_VERSION}"
                    )
        except sa.exc.DBAPIError as error:
            self.close()
            raise self._unopened(error) from None  # its own text would bring the whole statement
        except LedgerError:
            self.close()
            raise

    @staticmethod
    def _is_made(connection: sa.Connection) -> bool:
        # not to_regclass: it answers from a cache that waiting for a lock does not renew
        return (
            connection.exec_driver_sql(
                "SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
                f"WHERE nspname = '{SCHEMA}' AND relname = 'entries'"
            ).scalar()
            is not None
        )

    def _unopened(self, error: sa.exc.DBAPIError) -> LedgerError:
        reason = _reason(error)
        if "password" in reason:
            hint = "; give it as PGPASSWORD, in ~/.pgpass, or in VOORWERP_LEDGER, never on the command line"
        elif "does not exist" in reason:
            hint = "; make it, or correct VOORWERP_LEDGER"
        elif "permission denied" in reason:
            hint = f"; its owner may allow it: CREATE SCHEMA {SCHEMA} AUTHORIZATION you"
        else:
            hint = "; is it running, and does VOORWERP_LEDGER name it?" if error.orig and not _state(error) else ""
        return LedgerError(f"{self.name} cannot be opened as a ledger ({reason}){hint}")

    @contextlib.contextmanager
    def write(self, survey_id: str) -> Iterator[sa.Connection]:
        """A transaction that is the survey's only writer from its beginning: later statements see all before it."""
        with _begin(self._engine, f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {_lock(survey_id)}") as connection:
            yield connection

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one moment of the log."""
        try:
            with _begin(self._engine, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY") as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            raise LedgerError(f"{self.name} cannot be read ({_reason(error)}); repeat it") from None

    def problems(self) -> list[str]:
        """Settings by which the server could lose a row, and triggers that are gone, one sentence each."""
        with self.read() as connection:
            off = connection.exec_driver_sql(
                "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'"
            ).scalars()
            problems = [f"{self.name} may lose rows when its machine fails: its {name} is off" for name in off]
            kept = connection.exec_driver_sql(
                f"SELECT count(*) FROM pg_trigger WHERE tgrelid = '{SCHEMA}.entries'::regclass AND NOT tgisinternal "
                "AND left(tgname, 15) = 'entries_refuse_' AND tgenabled = 'A'"
            ).scalar()
        if kept != 2:
            problems.append(f"{self.name} no longer refuses changes: triggers of {SCHEMA}.entries are gone or disabled")
        return problems

    def is_worth_another_try(self, error: BaseException, began: float) -> bool:
        """While a server restarts. What was committed and not answered is found by its UUID, and no second row."""
        if not _is_passing(error) or time.monotonic() - began > PATIENCE:
            return False
        time.sleep(0.1)
        return True

    def refusal(self, error: BaseException) -> LedgerError:
        """The sentence for whoever waits for an entry that could not be kept."""
        if _is_passing(error):
            reason = _reason(error) if isinstance(error, sa.exc.DBAPIError) else str(error)
            return LedgerError(
                f"it is not known whether the decision was kept in {self.name} ({reason}); repeat it: it counts once"
            )
        reason = _reason(error) if isinstance(error, sa.exc.DBAPIError) else str(error)
        state = _state(error)
        if state == "53100":
            reason = "the server's disk is full; free some space and repeat it"
        elif state == "55P03":
            reason = f"another process kept it busy for {BUSY_TIMEOUT:.0f} s; repeat it"
        return LedgerError(f"the decision was not kept in {self.name}: {reason}")

    def close(self) -> None:
        """Close every connection to the server."""
        self._engine.dispose()


def _lock(name: str) -> str:
    """Waits for others that hold this name's lock, then holds it until the transaction's end.

    The name as a hash: in one message with BEGIN, no parameters can be given.
    """
    key = int.from_bytes(hashlib.sha256(f"voorwerp {name}".encode()).digest()[:8], "big", signed=True)
    return f"SELECT pg_advisory_xact_lock({key})"


def _state(error: BaseException) -> str | None:
    """The SQLSTATE; None where the server did not say one, as when it was not reached."""
    return getattr(error.orig, "sqlstate", None) if isinstance(error, sa.exc.DBAPIError) else None


def _is_passing(error: BaseException) -> bool:
    """Whether the server was not there for a moment: it restarts, or the connection broke."""
    if not isinstance(error, sa.exc.DBAPIError):
        return False
    if error.connection_invalidated or _state(error) in _PASSING:
        return True
    return isinstance(error, sa.exc.OperationalError) and _state(error) is None and "password" not in _reason(error)


def _reason(error: sa.exc.DBAPIError) -> str:
    """What the server or its client library says, in one line."""
    text = " ".join(str(error.orig).split())
    _, _, fatal = text.rpartition("FATAL: ")
    _, _, why = re.sub(r" Is the server running .*", "", fatal).rpartition(" failed: ")
    return why.strip().removesuffix(".")
