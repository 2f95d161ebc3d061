"""What is PostgreSQL's own: triggers, several surveys in one database, restarts, sentences, and moving to and fro."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa

from explorer import ledger as ledger_module
from explorer.errors import LedgerError
from explorer.ledger import Ledger, check, is_there, moved
from explorer.services.pack import pack
from explorer.survey import Survey
from tests.postgres_at_hand import PASSWORD, Server, server

IDS = np.arange(100, dtype=np.int64) + 588848901523702001


@pytest.fixture
def url(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database, which the environment names."""
    url = postgres.url(postgres.emptied())
    monkeypatch.setenv("VOORWERP_LEDGER", url)
    return url


def into(server: Server, url: str) -> psycopg.Connection:
    """A connection without the ledger."""
    return server.connect(sa.make_url(url).database or "")


def rows(server: Server, url: str) -> list[tuple]:
    with into(server, url) as connection:
        return connection.execute("SELECT survey_id, id, who FROM voorwerp.entries ORDER BY 1, 2").fetchall()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE voorwerp.entries SET who = 'eve'",
        "UPDATE voorwerp.entries SET who = 'eve' WHERE false",
        "DELETE FROM voorwerp.entries",
        "TRUNCATE voorwerp.entries CASCADE",
        "INSERT INTO voorwerp.entries TABLE voorwerp.entries ON CONFLICT (survey_id, id) DO UPDATE SET who = 'eve'",
        "SET session_replication_role = replica; DELETE FROM voorwerp.entries",
    ],
)
def test_rows_cannot_be_changed_even_by_the_tables_owner(
    tmp_path: Path, postgres: Server, url: str, statement: str
) -> None:
    with Ledger(tmp_path, "one") as ledger, into(postgres, url) as connection:
        entry = ledger.append("vote", {"grade": 1}, who="a")
        with pytest.raises(psycopg.Error, match="append-only"):
            connection.execute(statement)
        assert ledger.entries() == [entry]


def test_surveys_share_a_database_and_see_nothing_of_each_other(tmp_path: Path, postgres: Server, url: str) -> None:
    uuids = [str(uuid.uuid4()) for _ in range(3)]
    with Ledger(tmp_path, "one") as one, Ledger(tmp_path, "two") as two:
        for client_id in uuids:  # a UUID is one decision of each survey
            for ledger, grade in ((one, 1), (two, 2)):
                ledger.append("vote", {"grade": grade}, who="a", client_id=client_id, subject_id=7)
        one.save_selection("kept", np.arange(3), IDS, who="a")
        undo = two.undo(3, who="b")
        assert [e.payload["grade"] for e in one.entries("vote")] == [1, 1, 1]
        assert [e.id for e in two.entries(subject_id=7, include_undone=True)] == [1, 2, 3, 4]
        assert [e.id for e in one.entries(subject_id=7, include_undone=True)] == [1, 2, 3]
        assert [e.undone for e in one.entries("vote", include_undone=True)] == [False] * 3
        assert (one.entry(3).undone, two.entry(3).undone) == (False, True)
        assert two.selection_names() == []
        assert one.entry(4).kind == "selection"
        assert two.entry(4) == undo
        with pytest.raises(LedgerError, match="no entry 5"):
            one.undo(5, who="a")
    assert [row[:2] for row in rows(postgres, url)] == [(s, n) for s in ("one", "two") for n in (1, 2, 3, 4)]


def test_the_order_of_ids_is_that_of_commits_for_many_writers(tmp_path: Path, url: str) -> None:
    """A reader that asks for what is behind the last id it saw misses nothing, while four write."""
    ledgers = [Ledger(tmp_path, "one") for _ in range(4)]
    with Ledger(tmp_path, "one") as reader:
        done, seen = threading.Event(), []

        def follow() -> None:
            while True:
                was_done = done.is_set()
                seen.extend(reader.entries(since=seen[-1].id if seen else 0))
                if was_done:
                    return

        follower = threading.Thread(target=follow)
        follower.start()
        with ThreadPoolExecutor(16) as pool:
            made = list(pool.map(lambda n: ledgers[n % 4].append("vote", {"n": n}, who="a").id, range(400)))
        done.set()
        follower.join()
        assert sorted(made) == [e.id for e in seen] == list(range(1, 401))
        assert [e.at for e in seen] == sorted(e.at for e in seen)
    for ledger in ledgers:
        ledger.close()


def test_a_commit_is_on_the_disk_whatever_the_server_is_set_to(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.url(postgres.database())
    monkeypatch.setenv("VOORWERP_LEDGER", url)
    with into(postgres, url) as connection:
        connection.execute(f'ALTER DATABASE "{sa.make_url(url).database}" SET synchronous_commit = off')
        connection.execute(f'ALTER DATABASE "{sa.make_url(url).database}" SET default_transaction_read_only = on')
    with Ledger(tmp_path, "one") as ledger:
        with ledger._dialect.write("one") as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
        with ledger._dialect.read() as connection, pytest.raises(sa.exc.DBAPIError, match="read-only transaction"):
            connection.execute(sa.insert(ledger_module.ENTRIES).values(id=1))


# ---------------------------------------------------------------------------------------------------------- restarts
def test_votes_go_on_when_the_server_restarts_and_when_it_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server() as own, Ledger(tmp_path, "one", own.url()) as ledger, ThreadPoolExecutor(4) as pool:
        stop = threading.Event()

        def vote() -> list[int]:
            ids = []
            while not stop.is_set():
                ids.append(ledger.append("vote", {"n": len(ids)}, who="a").id)
            return ids

        voters = [pool.submit(vote) for _ in range(4)]
        for how in (signal.SIGINT, signal.SIGKILL):
            n = ledger.append("vote", {}, who="b").id
            own.stop(how)
            own.start()
            assert ledger.append("vote", {}, who="b").id > n
            assert len(ledger.entries()) > n  # reads find it again, too
        stop.set()
        acknowledged = [i for voter in voters for i in voter.result()]
        found = [e.id for e in ledger.entries()]
        assert set(acknowledged) <= set(found)
        assert len(found) == len(acknowledged) + 4  # none was kept twice, though answers were lost
        monkeypatch.setattr("explorer.databases.PATIENCE", 0.3)
        own.stop(signal.SIGQUIT)
        with pytest.raises(LedgerError, match=r"it is not known whether .* repeat it: it counts once") as lost:
            ledger.append("vote", {}, who="a")
        with pytest.raises(LedgerError, match=r"cannot be read .*; repeat it"):
            ledger.entries()
        assert PASSWORD not in str(lost.value)


def test_a_vote_whose_answer_was_lost_is_kept_once(tmp_path: Path, postgres: Server, url: str) -> None:
    """The connection breaks right after the COMMIT has reached the server, before its answer has come."""
    with Ledger(tmp_path, "one") as ledger:
        ledger.append("vote", {"n": 0}, who="a")
        commits = []

        @sa.event.listens_for(ledger._dialect._engine, "after_cursor_execute")
        def lose(connection: sa.Connection, cursor: object, statement: str, *_: object) -> None:
            if statement == "COMMIT":
                commits.append(statement)
                if len(commits) == 1:
                    raise psycopg.errors.AdminShutdown("the connection broke")

        entry = ledger.append("vote", {"n": 1}, who="a")
        assert len(commits) == 2
        assert [(e.id, e.payload["n"]) for e in ledger.entries()] == [(1, 0), (entry.id, 1)]


# --------------------------------------------------------------------------------------------------------- sentences
def test_wrong_password_wrong_place_and_nobody_there_are_sentences(
    tmp_path: Path, postgres: Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed, where = sa.make_url(url), "the PostgreSQL database"
    for wrong, sentence in (
        (parsed.set(password="guessed"), f"{where} .*password authentication failed.* never on the command line"),
        (parsed.set(username="nobody-here"), f"{where} .*password authentication failed"),
        (parsed.set(database="nothing"), 'database "nothing" does not exist.*correct VOORWERP_LEDGER'),
        (parsed.set(port=1), r"cannot be opened as a ledger \(Connection refused\); is it running"),
        (parsed.set(host="nowhere.invalid"), "cannot be opened as a ledger"),
    ):
        monkeypatch.setenv("VOORWERP_LEDGER", wrong.render_as_string(hide_password=False))
        with pytest.raises(LedgerError, match=sentence) as error:
            Ledger(tmp_path, "one")
        text = "".join(traceback.format_exception(error.value)).replace('password="guessed"', "")
        assert "guessed" not in text
        assert PASSWORD not in text
        assert "\n" not in str(error.value)
    for nonsense in (f"postgresql://me:{PASSWORD}@[host/db", "postgresql://me:secret@host:port/db", "secret"):
        monkeypatch.setenv("VOORWERP_LEDGER", nonsense)
        with pytest.raises(
            LedgerError, match=r"VOORWERP_LEDGER is not a URL .*postgresql\+psycopg://USER@HOST"
        ) as error:
            Ledger(tmp_path, "one")
        assert "secret" not in str(error.value)
        assert PASSWORD not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_the_password_may_come_from_pgpassword_or_pgpass(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.url(postgres.emptied(), password=None)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))
    with pytest.raises(LedgerError, match=r"no password supplied.*PGPASSWORD"):
        Ledger(tmp_path, "one", url)
    escaped = PASSWORD.replace("\\", "\\\\").replace(":", "\\:")
    (tmp_path / "pgpass").write_text(f"127.0.0.1:{postgres.port}:*:keeper:{escaped}\n")
    (tmp_path / "pgpass").chmod(0o600)
    Ledger(tmp_path, "one", url).close()
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with Ledger(tmp_path, "one", url.replace("postgresql+psycopg", "postgresql")) as ledger:
        assert ledger.name == f"the PostgreSQL database postgres at 127.0.0.1:{postgres.port}"


def test_without_psycopg_the_sentence_says_what_to_install(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "psycopg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(LedgerError, match=r"needs psycopg; pip install 'voorwerp\[postgres\]'"):
        Ledger(tmp_path, "one")


def test_sqlite_alone_never_imports_psycopg() -> None:
    code = "import sys, explorer.ledger, tempfile; explorer.ledger.Ledger(tempfile.mkdtemp(), 's').close(); "
    code += "sys.exit('psycopg' in sys.modules)"
    environment = {k: v for k, v in os.environ.items() if k != "VOORWERP_LEDGER"}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


def test_another_schema_another_encoding_and_no_rights_are_refused(tmp_path: Path, postgres: Server) -> None:
    url = postgres.url(postgres.emptied())
    Ledger(tmp_path, "one", url).close()
    with into(postgres, url) as connection:
        connection.execute("UPDATE voorwerp.schema_version SET version = 7")
    with pytest.raises(LedgerError, match="schema version 7; this Voorwerp reads version 1"):
        Ledger(tmp_path, "one", url)
    latin = postgres.database("ENCODING 'LATIN1'")
    with pytest.raises(LedgerError, match="is in LATIN1; make one with ENCODING 'UTF8'"):
        Ledger(tmp_path, "one", postgres.url(latin))
    bare = postgres.database()
    with postgres.connect(bare) as connection:
        connection.execute("CREATE ROLE weak LOGIN PASSWORD 'x'")
    weak = sa.make_url(postgres.url(bare)).set(username="weak", password="x").render_as_string(hide_password=False)
    with pytest.raises(LedgerError, match=r"permission denied .*CREATE SCHEMA voorwerp AUTHORIZATION"):
        Ledger(tmp_path, "one", weak)
    Ledger(tmp_path, "one", postgres.url(bare)).close()  # by the owner; who only votes needs no more than this:
    with postgres.connect(bare) as connection:
        connection.execute("GRANT USAGE ON SCHEMA voorwerp TO weak")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA voorwerp TO weak")
        connection.execute("GRANT INSERT ON voorwerp.entries TO weak")
    with Ledger(tmp_path, "one", weak) as ledger:
        ledger.undo(ledger.append("vote", {}, who="a").id, who="a")
        assert [e.id for e in ledger.entries(include_undone=True)] == [1, 2]


def test_many_that_open_a_new_database_at_once_make_it_once(tmp_path: Path, postgres: Server, url: str) -> None:
    with ThreadPoolExecutor(6) as pool:
        for ledger in pool.map(lambda n: Ledger(tmp_path, f"survey {n}"), range(6)):
            ledger.append("vote", {}, who="a")
            ledger.close()
    assert len(rows(postgres, url)) == 6


def test_check_says_what_could_lose_a_row(tmp_path: Path, postgres: Server, url: str) -> None:
    assert check(tmp_path, "one", IDS) == []
    with into(postgres, url) as connection:
        connection.execute("ALTER TABLE voorwerp.entries DISABLE TRIGGER entries_refuse_truncate")
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        connection.execute("SELECT pg_reload_conf()")
        try:
            while connection.execute("SHOW full_page_writes").fetchone() != ("off",):
                pass
            loses, changes = check(tmp_path, "one", IDS)
        finally:
            connection.execute("ALTER SYSTEM RESET full_page_writes")
            connection.execute("SELECT pg_reload_conf()")
    assert "may lose rows when its machine fails: its full_page_writes is off" in loses
    assert "no longer refuses changes" in changes


# --------------------------------------------------------------------------------------------------- there and back
def test_nobody_begins_a_second_ledger_by_forgetting_where_it_is(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_there(tmp_path)
    with Ledger(tmp_path, "one") as ledger:
        ledger.append("vote", {}, who="a")
    monkeypatch.setenv("VOORWERP_LEDGER", postgres.url(postgres.emptied()))
    with pytest.raises(LedgerError, match=r"ledger.db holds the decisions .*voorwerp ledger copy .*--to-postgres"):
        Ledger(tmp_path, "one")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    Ledger(fresh, "two").close()
    other = postgres.url(postgres.database())
    monkeypatch.setenv("VOORWERP_LEDGER", other)
    with pytest.raises(LedgerError, match=r"are in the PostgreSQL database .* names .*, which has none; correct"):
        Ledger(fresh, "two")
    with Ledger(fresh, "two", other) as ledger:  # as a copy of the database has them
        ledger.append("tag", {}, who="a")
    Ledger(fresh, "two").close()
    assert sa.make_url(other).database in (fresh / "ledger.json").read_text()
    monkeypatch.delenv("VOORWERP_LEDGER")
    assert is_there(fresh)
    with pytest.raises(LedgerError, match=r"are in the PostgreSQL database .*VOORWERP_LEDGER=postgresql") as error:
        Ledger(fresh, "two")
    assert check(fresh, "two", IDS) == [str(error.value)]
    assert not (fresh / "ledger.db").exists()


def test_decisions_are_copied_there_and_back_and_packed(
    tmp_path: Path,
    postgres: Server,
    monkeypatch: pytest.MonkeyPatch,
    image_survey: Path,
    voorwerp: Callable[..., str],
) -> None:
    path = shutil.copytree(image_survey, tmp_path / "survey")
    opened = Survey.open(path)
    survey_id, ids = opened.info.survey_id, opened.subject_ids
    opened.close()
    with Ledger(path, survey_id) as ledger:
        ledger.save_selection("kept", np.arange(5), ids, who="a")
        vote = ledger.append("tag", {"tag": "ø\0"}, who="b", subject_id=int(ids[0]))
        ledger.undo(vote.id, who="b")
        with ThreadPoolExecutor(32) as pool:  # more than one part
            list(pool.map(lambda n: ledger.append("tag", {"n": n}, who="a"), range(600)))
        before = ledger.entries(include_undone=True)
    with pytest.raises(LedgerError, match="name the database first: VOORWERP_LEDGER="):
        moved(path, survey_id, True)
    monkeypatch.setenv("VOORWERP_LEDGER", postgres.url(postgres.emptied()))
    said = voorwerp("ledger", "copy", path, "--to-postgres")
    assert f"{len(before)} decisions copied; the PostgreSQL database" in said
    assert PASSWORD not in said
    with Ledger(path, survey_id) as ledger:
        assert ledger.entries(include_undone=True) == before
        assert ledger.append("tag", {"tag": "ring"}, who="b").id == before[-1].id + 1
        after = ledger.entries(include_undone=True)
    assert "no problem found" in voorwerp("check", path)
    for _ in pack(path, tmp_path / "packed", names=True):
        pass
    with Ledger(tmp_path / "packed", survey_id, ledger_module.in_file(tmp_path / "packed" / "ledger.db")) as packed:
        assert packed.entries(include_undone=True) == after
    said = voorwerp("ledger", "copy", path, "--to-sqlite")
    assert f"{len(after)} decisions copied; {path / 'ledger.db'} is the ledger of {path} now" in said
    with pytest.raises(LedgerError, match="holds the decisions on this survey, and VOORWERP_LEDGER names a database"):
        Ledger(path, survey_id)
    with Ledger(path, survey_id, ledger_module.in_file(path / "ledger.db")) as ledger:
        assert ledger.entries(include_undone=True) == after
        assert ledger.append("tag", {"tag": "bar"}, who="b").id == after[-1].id + 1
    with pytest.raises(LedgerError, match="holds other decisions on this survey already; nothing was copied"):
        moved(path, survey_id, True)
    monkeypatch.delenv("VOORWERP_LEDGER")
    with Ledger(path, survey_id) as ledger:
        assert len(ledger.entries(include_undone=True)) == len(after) + 1


def test_a_move_waits_for_no_server_and_goes_on_where_it_was_stopped(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(tmp_path, "one", ledger_module.in_file(tmp_path / "ledger.db")) as ledger:
        entries = [ledger.append("tag", {"n": n}, who="a") for n in range(3)]
    with (tmp_path / "server.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(LedgerError, match=f"a server is at work on {tmp_path}; stop it, then copy"):
            moved(tmp_path, "one", True)
    with monkeypatch.context() as stopped, pytest.raises(KeyboardInterrupt):  # copied, and nothing else yet
        stopped.setattr(ledger_module, "leave_word", Mock(side_effect=KeyboardInterrupt))
        moved(tmp_path, "one", True)
    assert moved(tmp_path, "one", True) == (3, "the PostgreSQL database postgres at " + url.partition("@")[2][:-9])
    with Ledger(tmp_path, "one") as ledger:
        assert ledger.entries() == entries
    assert {file.name for file in tmp_path.iterdir()} == {"ledger.db.copied", "ledger.json", "server.lock"}
    with pytest.raises(LedgerError, match=r"ledger.db is not there; nothing is to be copied"):
        moved(tmp_path, "one", True)
