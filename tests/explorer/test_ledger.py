"""The ledger: every sentence of its docstrings, and what survives kills, crowds and a full disk."""

import contextlib
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from explorer import code_version
from explorer.databases import file_system_of
from explorer.errors import LedgerError
from explorer.ledger import MAX_LISTED, Entry, Ledger, check
from tests.postgres_at_hand import Server

SURVEY_ID = "0b6e1f5e-0000-4000-8000-000000000001"
IDS = np.arange(30_000, dtype=np.int64) * 3 + 588848901523702001


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where ledgers lie in this test, and in the processes that it starts."""
    if request.param == "postgres":
        server: Server = request.getfixturevalue("postgres")
        monkeypatch.setenv("VOORWERP_LEDGER", server.url(server.emptied()))
    return str(request.param)


@pytest.fixture
def ledger(tmp_path: Path, place: str) -> Iterator[Ledger]:
    with Ledger(tmp_path, SURVEY_ID) as opened:
        yield opened


@pytest.fixture
def filed(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path, SURVEY_ID) as opened:
        yield opened


@contextlib.contextmanager
def kept_waiting(ledger: Ledger) -> Iterator[None]:
    """Another one writes for the length of the block, so that a queue forms."""
    with Ledger(ledger.path, SURVEY_ID) as other, other._dialect.write(SURVEY_ID):
        yield


def test_an_entry_says_who_when_what_and_where(ledger: Ledger) -> None:
    before = datetime.now(UTC)
    entry = ledger.append(
        "vote", {"grade": 3}, who="ada", subject_id=588848901523702001, run_id="r", map_id="m", boundary_id="b"
    )
    assert before <= datetime.fromisoformat(entry.at) <= datetime.now(UTC)
    assert (entry.who, entry.kind, entry.subject_id, entry.payload) == ("ada", "vote", 588848901523702001, {"grade": 3})
    assert (entry.run_id, entry.map_id, entry.boundary_id) == ("r", "m", "b")
    assert (entry.survey_id, entry.code_version, entry.undoes, entry.undone) == (SURVEY_ID, code_version(), None, False)
    assert ledger.entries() == [entry]


def test_a_second_ledger_on_the_same_folder_reads_what_the_first_wrote(ledger: Ledger) -> None:
    first = ledger.append("tag", {"tag": "merger"}, who="ada")
    with Ledger(ledger.path, SURVEY_ID) as other:
        assert other.entries() == [first]
        second = other.append("tag", {"tag": "ring"}, who="bo")
    assert ledger.entries(since=first.id) == [second]


def test_a_repeated_uuid_returns_the_first_entry(ledger: Ledger) -> None:
    client_id = str(uuid.uuid4())
    first = ledger.append("vote", {"grade": 1, "note": "ø"}, who="ada", client_id=client_id)
    again = ledger.append("vote", {"note": "ø", "grade": 1}, who="ada", client_id=client_id.upper())
    assert again == first
    assert len(ledger.entries()) == 1
    with pytest.raises(LedgerError, match=rf"stands for another decision already \(entry {first.id}\)"):
        ledger.append("vote", {"grade": 2}, who="ada", client_id=client_id)
    with pytest.raises(LedgerError, match="is not a UUID"):
        ledger.append("vote", {"grade": 2}, who="ada", client_id="7")


def test_the_same_uuid_from_many_threads_is_one_row(ledger: Ledger) -> None:
    client_id = str(uuid.uuid4())
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: ledger.append("vote", {}, who="ada", client_id=client_id).id, range(40)))
    assert len(ids) == 1
    assert len(ledger.entries()) == 1


def test_undo_is_a_row_and_can_be_undone(ledger: Ledger) -> None:
    vote = ledger.append("vote", {"grade": 1}, who="ada")
    undo = ledger.undo(vote.id, who="bo")
    assert (undo.kind, undo.undoes) == ("undo", vote.id)
    assert ledger.entries() == []
    assert [(e.id, e.undone) for e in ledger.entries(include_undone=True)] == [(vote.id, True), (undo.id, False)]
    with pytest.raises(LedgerError, match=f"entry {vote.id} is undone already"):
        ledger.undo(vote.id, who="ada")
    redo = ledger.undo(undo.id, who="ada")
    assert ledger.entries() == [vote]
    ledger.undo(vote.id, who="ada")
    assert ledger.entries() == []
    assert [e.id for e in ledger.entries("undo")] == [redo.id, redo.id + 1]
    with pytest.raises(LedgerError, match="there is no entry 99 in the ledger to undo"):
        ledger.undo(99, who="ada")
    with pytest.raises(LedgerError, match=r"by Ledger\.undo"):
        ledger.append("undo", {}, who="ada")


def test_entries_on_one_subject_come_with_those_that_took_them_back(ledger: Ledger) -> None:
    random.seed(5)
    for _ in range(120):
        standing = [e.id for e in ledger.entries(include_undone=True) if not e.undone]
        if standing and random.random() < 0.5:
            ledger.undo(random.choice(standing), who="ada")
        else:
            ledger.append(random.choice(("tag", "note")), {}, who="ada", subject_id=random.randrange(4))
    everything = {e.id: e for e in ledger.entries(include_undone=True)}

    def subject_of(entry_id: int) -> int | None:
        entry = everything[entry_id]
        return entry.subject_id if entry.undoes is None else subject_of(entry.undoes)

    middle = everything[60].at
    for subject in range(5):
        slow = [e for e in everything.values() if subject_of(e.id) == subject]
        assert ledger.entries(include_undone=True, subject_id=subject) == slow
        assert ledger.entries("tag", subject_id=subject) == [e for e in slow if e.kind == "tag" and not e.undone]
        then = [e.id for e in ledger.entries(("tag", "note"), at=middle) if e.subject_id == subject]
        assert [e.id for e in ledger.entries(("tag", "note"), at=middle, subject_id=subject)] == then
    for since in (0, 17, 90):
        later = [e for e in everything.values() if e.id > since]
        assert ledger.entries(since=since, include_undone=True) == later
        assert ledger.entries(["note", "undo"], since, None, True) == [e for e in later if e.kind != "tag"]
    assert [ledger.entry(i) for i in everything] == list(everything.values())
    with pytest.raises(LedgerError, match="there is no entry 999 in the ledger"):
        ledger.entry(999)


@pytest.mark.parametrize(
    ("payload", "who", "sentence"),
    [({"x": float("nan")}, "ada", "cannot be written as JSON"), ({"x": object()}, "ada", "JSON"), ({}, "", "says who")],
)
def test_an_entry_that_cannot_be_kept_is_refused(ledger: Ledger, payload: dict, who: str, sentence: str) -> None:
    with pytest.raises(LedgerError, match=sentence):
        ledger.append("vote", payload, who=who)
    assert ledger.entries() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET who = 'eve'",
        "DELETE FROM entries",
        "REPLACE INTO entries SELECT * FROM entries",
        "INSERT OR REPLACE INTO entries SELECT * FROM entries",
    ],
)
def test_rows_cannot_be_changed_even_from_outside(filed: Ledger, statement: str) -> None:
    entry = filed.append("vote", {"grade": 1}, who="ada")
    connection = sqlite3.connect(filed.path / "ledger.db")
    with pytest.raises(sqlite3.Error, match="append-only"):
        connection.execute(statement)
    connection.close()
    assert filed.entries() == [entry]


def test_every_commit_waits_for_the_disk(filed: Ledger) -> None:
    with filed._dialect.write(SURVEY_ID) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL: the log is synced at each commit
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_appends_that_wait_together_share_a_commit(ledger: Ledger) -> None:
    commits = []
    sa.event.listen(
        ledger._dialect._engine,
        "before_cursor_execute",
        lambda _c, _k, statement, *_: commits.append(1) if statement == "COMMIT" else None,
    )
    with ThreadPoolExecutor(32) as pool:
        with kept_waiting(ledger):
            answers = [pool.submit(ledger.append, "vote", {"n": n}, who="ada") for n in range(32)]
            time.sleep(0.3)
        assert len({answer.result().id for answer in answers}) == 32
    assert len(commits) <= 4


def test_one_refused_entry_does_not_take_its_group_with_it(ledger: Ledger) -> None:
    with ThreadPoolExecutor(9) as pool:
        with kept_waiting(ledger):
            good = [pool.submit(ledger.append, "vote", {"n": n}, who="ada") for n in range(7)]
            bad = pool.submit(ledger.undo, 999, who="ada")
            time.sleep(0.2)
        assert isinstance(bad.exception(), LedgerError)
        assert {g.result().payload["n"] for g in good} == set(range(7))
    assert len(ledger.entries()) == 7


def test_one_group_knows_its_own_uuids_and_undos(ledger: Ledger) -> None:
    """What stands in the same group is there for those behind it: a repeated UUID, a vote to take back."""
    client_id, undo_id = str(uuid.uuid4()), str(uuid.uuid4())
    ledger.append("vote", {"n": 0}, who="ada")
    group: list = []
    queued, ledger._requests = ledger._requests, Mock(put=group.append)
    with ThreadPoolExecutor(16) as pool:
        jobs = []
        for task in (
            lambda: ledger.append("vote", {"n": 1}, who="ada", client_id=client_id),
            lambda: ledger.append("vote", {"n": 1}, who="ada", client_id=client_id),
            lambda: ledger.append("vote", {"n": 2}, who="ada", client_id=client_id),
            lambda: ledger.undo(2, who="ada", client_id=undo_id),
            lambda: ledger.undo(2, who="ada"),
            lambda: ledger.undo(2, who="ada", client_id=undo_id),
            lambda: ledger.append("vote", {"n": 3}, who="ada"),
        ):
            jobs.append(pool.submit(task))
            while len(group) < len(jobs):
                time.sleep(0.001)
        ledger._requests = queued
        ledger._commit(group)
        first, again, other, undo, twice, undo_again, last = (job.exception() or job.result() for job in jobs)
    assert again == first
    assert "stands for another decision already (entry 2)" in str(other)
    assert undo_again == undo
    assert undo.undoes == 2
    assert str(twice) == "entry 2 is undone already"
    assert [e.payload["n"] for e in ledger.entries()] == [0, 3]
    assert (first.id, undo.id, last.id) == (2, 3, 4)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"who": "a\0"}, "the entry's who holds a character that no text may hold"),
        ({"who": "ada", "run_id": "\ud800"}, "the entry's run_id holds"),
        ({"who": "ada", "subject_id": 2**63}, "the entry's subject_id is 9223372036854775808, beyond 64 bits"),
    ],
)
def test_what_no_database_takes_is_refused_alone(ledger: Ledger, words: dict, sentence: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        with kept_waiting(ledger):
            good = [pool.submit(ledger.append, "vote", {"text": "a\0b"}, who="ada") for _ in range(3)]
            with pytest.raises(LedgerError, match=sentence):
                ledger.append("vote", {}, **words)
            with pytest.raises(LedgerError, match="the entry's payload holds a character"):
                ledger.append("vote", {"note": "\udfff"}, who="ada")
        assert len({g.result().id for g in good}) == 3
    assert [e.payload["text"] for e in ledger.entries()] == ["a\0b"] * 3


def test_a_closed_ledger_refuses_and_close_keeps_what_waits(tmp_path: Path, place: str) -> None:
    ledger = Ledger(tmp_path, SURVEY_ID)
    kept, refused = [], []

    def decide() -> None:
        for n in range(200):
            try:
                kept.append(ledger.append("vote", {"n": n}, who="ada").id)
            except LedgerError as error:
                refused.append(str(error))

    threads = [threading.Thread(target=decide) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.05)
    ledger.close()
    ledger.close()  # twice is once
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert refused
    assert set(refused) == {"the ledger is closed; the decision was not kept"}
    with Ledger(tmp_path, SURVEY_ID) as again:
        assert sorted(e.id for e in again.entries()) == sorted(kept)


# ------------------------------------------------------------------------------------------------------ replay
def slow_replay(log: list[tuple[int, int | None]]) -> list[int]:
    """Ids that count: an entry counts when no entry that counts takes it back, straight from that sentence."""

    def counts(entry_id: int) -> bool:
        return not any(target == entry_id and counts(i) for i, target in log)

    return [i for i, target in log if target is None and counts(i)]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(st.one_of(st.none(), st.integers(0, 30)), max_size=14))
def test_replay_to_any_date_equals_the_obvious_one(tmp_path: Path, place: str, steps: list[int | None]) -> None:
    log: list[tuple[int, int | None]] = []
    moments: list[str] = []
    folder = tmp_path / uuid.uuid4().hex
    folder.mkdir()
    with Ledger(folder, folder.name) as ledger:
        for step in steps:
            if step is None or not log:
                entry = ledger.append("vote", {}, who="ada")
            else:
                try:
                    entry = ledger.undo(log[step % len(log)][0], who="ada")
                except LedgerError:  # undone already
                    continue
            log.append((entry.id, entry.undoes))
            moments.append(entry.at)
        for n, moment in enumerate(moments, 1):
            seen = [e for e in zip(moments, log, strict=True) if e[0] <= moment]
            assert len(seen) >= n
            assert [e.id for e in ledger.entries(at=moment)] == slow_replay([entry for _, entry in seen])
        assert [e.id for e in ledger.entries()] == slow_replay(log)
        assert ledger.entries(at=datetime.now(UTC) - timedelta(days=1)) == []


def test_a_clock_set_back_does_not_reorder_the_log(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ledger.append("vote", {}, who="ada")

    class Yesterday(datetime):
        @classmethod
        def now(cls, tz=None):  # type: ignore[no-untyped-def]
            return datetime.now(tz) - timedelta(days=1)

    monkeypatch.setattr("explorer.ledger.datetime", Yesterday)
    assert ledger.append("vote", {}, who="ada").at == first.at


def test_a_date_without_a_zone_is_utc_and_nonsense_is_a_sentence(ledger: Ledger) -> None:
    entry = ledger.append("vote", {}, who="ada")
    assert ledger.entries(at="2999-01-01") == [entry]
    assert ledger.entries(at=datetime(2000, 1, 1)) == []
    with pytest.raises(LedgerError, match="'yesterday' is not a date"):
        ledger.entries(at="yesterday")


# -------------------------------------------------------------------------------------------------- selections
@pytest.mark.parametrize("n", [0, 10, MAX_LISTED, MAX_LISTED + 1, len(IDS)])
def test_a_selection_comes_back_exactly(ledger: Ledger, n: int) -> None:
    rows = np.random.default_rng(n).permutation(len(IDS))[:n]
    entry = ledger.save_selection("odd ones", rows, IDS, who="ada")
    assert ("bitmap" in entry.payload) == (n > MAX_LISTED)
    found = ledger.selection("odd ones", IDS)
    assert np.array_equal(found.subject_ids, IDS[np.sort(rows)])
    grown = np.concatenate([IDS, IDS[-1:] + 1])  # a subject added later is in no older selection
    assert np.array_equal(ledger.selection("odd ones", grown).subject_ids, found.subject_ids)


def test_selections_are_renamed_dropped_replaced_and_brought_back(ledger: Ledger) -> None:
    a = ledger.save_selection("a", np.array([1, 2]), IDS, who="ada")
    rename = ledger.rename_selection("a", "b", who="ada")
    assert ledger.selection_names() == ["b"]
    assert ledger.selection_names(at=a.at) == ["a"]
    ledger.save_selection("c", np.array([5]), IDS, who="ada")
    with pytest.raises(LedgerError, match='a selection "c" already'):
        ledger.rename_selection("b", "c", who="ada")
    drop = ledger.drop_selection("c", who="ada")
    with pytest.raises(LedgerError, match='there is no selection "c"; there are: "b"'):
        ledger.selection("c", IDS)
    ledger.undo(drop.id, who="ada")
    assert ledger.selection("c", IDS).subject_ids.tolist() == [IDS[5]]
    replaced = ledger.save_selection("c", np.array([6]), IDS, who="bo")
    assert ledger.selection("c", IDS).who == "bo"
    ledger.undo(replaced.id, who="bo")
    assert ledger.selection("c", IDS).subject_ids.tolist() == [IDS[5]]
    ledger.undo(rename.id, who="ada")
    assert ledger.selection_names() == ["a", "c"]
    ledger.undo(a.id, who="ada")
    assert ledger.selection_names() == ["c"]


def test_a_damaged_bitmap_is_a_sentence(ledger: Ledger) -> None:
    entry = ledger.save_selection("all", np.arange(len(IDS)), IDS, who="ada")
    bitmap = ledger.path / "selections" / entry.payload["bitmap"]
    bitmap.write_bytes(bitmap.read_bytes()[:-1])
    with pytest.raises(LedgerError, match="is damaged"):
        ledger.selection("all", IDS)
    bitmap.unlink()
    with pytest.raises(LedgerError, match="is missing"):
        ledger.selection("all", IDS)
    with pytest.raises(LedgerError, match="only 0 are in the survey"):
        ledger.save_selection("few", np.array([0]), IDS, who="ada")
        ledger.selection("few", IDS[1:])


# ----------------------------------------------------------------------------------- kills, crowds, a full disk
APPEND = """
import sys, uuid
from explorer.ledger import Ledger
ledger = Ledger(sys.argv[1], sys.argv[2])
for n in range(int(sys.argv[3])):
    print(ledger.append("vote", {"n": n, "from": sys.argv[4]}, who="child").id, flush=True)
ledger.close()
"""


def start_child(folder: Path, n: int, name: str = "a") -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", APPEND, str(folder), SURVEY_ID, str(n), name]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_every_acknowledged_row_survives_sigkill(tmp_path: Path, place: str) -> None:
    acknowledged: list[int] = []
    n_kills = 5 if place == "sqlite" else 3
    for seed in range(n_kills):
        with start_child(tmp_path, 1_000_000) as child:
            assert child.stdout is not None
            acknowledged.append(int(child.stdout.readline()))
            time.sleep(random.Random(seed).uniform(0, 0.15))
            child.send_signal(signal.SIGKILL)
            acknowledged += [int(line) for line in child.stdout if line.endswith("\n")]
        assert child.returncode == -signal.SIGKILL
        if place == "sqlite":
            connection = sqlite3.connect(tmp_path / "ledger.db")
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            connection.close()
        with Ledger(tmp_path, SURVEY_ID) as ledger:
            found = [e.id for e in ledger.entries()]
        assert set(acknowledged) <= set(found)
        assert len(found) <= len(acknowledged) + 1 + seed  # at most one unanswered row a kill
    assert len(set(acknowledged)) == len(acknowledged) > n_kills


def test_threads_and_processes_at_once_lose_nothing(tmp_path: Path, place: str) -> None:
    children = [start_child(tmp_path, 60, name) for name in "ab"]  # they also race to make the file
    with Ledger(tmp_path, SURVEY_ID) as ledger, ThreadPoolExecutor(8) as pool:
        ours = list(pool.map(lambda n: ledger.append("vote", {"n": n}, who="parent").id, range(240)))
        theirs = []
        for child in children:
            output, _ = child.communicate(timeout=30)
            assert child.returncode == 0
            theirs += [int(line) for line in output.split()]
        entries = ledger.entries()
    assert len(theirs) == 120
    assert sorted(ours + theirs) == [e.id for e in entries]
    assert [e.at for e in entries] == sorted(e.at for e in entries)


def test_a_full_disk_keeps_nothing_and_says_so(filed: Ledger) -> None:
    """A limit on file size stands for the disk: writes fail in the middle as they do on a full one."""
    kept = [filed.append("vote", {"n": n}, who="ada").id for n in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (filed.path / "ledger.db-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 5_000, hard))
    try:
        with pytest.raises(LedgerError, match="the decision was not kept"):
            filed.append("vote", {"note": "x" * 50_000}, who="ada")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [e.id for e in filed.entries()] == kept
    kept.append(filed.append("vote", {"note": "x" * 50_000}, who="ada").id)
    assert [e.id for e in filed.entries()] == kept


def test_a_database_that_may_not_grow_says_the_disk_is_full(filed: Ledger) -> None:
    sa.event.listen(
        filed._dialect._engine, "checkout", lambda connection, *_: connection.execute("PRAGMA max_page_count=1")
    )
    with pytest.raises(LedgerError, match=r"not kept in .*ledger\.db: the disk is full; free some space and repeat it"):
        filed.append("vote", {"note": "x" * 200_000}, who="ada")
    assert filed.entries() == []


# -------------------------------------------------------------------------------------------------- wrong files
def test_another_schema_version_is_refused(filed: Ledger) -> None:
    connection = sqlite3.connect(filed.path / "ledger.db")
    connection.execute("PRAGMA user_version=7")
    connection.close()
    with pytest.raises(LedgerError, match="schema version 7; this Voorwerp reads version 1"):
        Ledger(filed.path, SURVEY_ID)


def test_another_surveys_ledger_is_refused(filed: Ledger) -> None:
    filed.append("vote", {}, who="ada")
    with pytest.raises(LedgerError, match=f"belongs to the survey {SURVEY_ID}, not to other"):
        Ledger(filed.path, "other")


def test_check_says_every_problem_of_a_ledger(tmp_path: Path) -> None:
    assert check(tmp_path, SURVEY_ID, IDS) == []
    assert not (tmp_path / "ledger.db").exists()
    with Ledger(tmp_path, SURVEY_ID) as ledger:
        ledger.save_selection("many", np.arange(MAX_LISTED + 1), IDS, who="ada")
        ledger.save_selection("few", np.arange(3), IDS, who="ada")
        for i in range(200):
            ledger.append("tag", {"tag": f"{i} " * 200}, who="ada")
    assert check(tmp_path, SURVEY_ID, IDS) == []
    next((tmp_path / "selections").iterdir()).unlink()
    missing, short = check(tmp_path, SURVEY_ID, IDS[1:])
    assert "is missing; the selection cannot be read" in missing
    assert 'the selection "few" has 3 subjects, only 2 are in the survey' in short
    (other,) = check(tmp_path, "another", IDS)
    assert "belongs to the survey" in other
    content = bytearray((tmp_path / "ledger.db").read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    (tmp_path / "ledger.db").write_bytes(content)
    assert any("damaged" in problem or "cannot be read" in problem for problem in check(tmp_path, SURVEY_ID, IDS))


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(LedgerError, match=r"ledger.db cannot be opened as a ledger \(file is not a database\)"):
        Ledger(tmp_path, SURVEY_ID)
    with pytest.raises(LedgerError, match="mysql://me:\\*\\*\\*@host/db cannot be opened"):
        Ledger(tmp_path, SURVEY_ID, url="mysql://me:secret@host/db")


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 22 0:35 / /home rw,relatime - nfs4 server:/home rw
41 40 0:36 / /home/local\\040disk rw - ext4 /dev/vdb rw
42 22 0:37 / /data rw - ext4 /dev/vdc rw
43 42 0:38 / /data rw - fuse.sshfs me@host: rw
44 22 0:39 / /größe rw - cifs //host/share rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/homes/x", ("/", "ext4")),
        ("/home/x", ("/home", "nfs4")),
        ("/home/local disk/x", ("/home/local disk", "ext4")),
        ("/data/survey", ("/data", "fuse.sshfs")),
        ("/größe/survey", ("/größe", "cifs")),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, expected: tuple[str, str]) -> None:
    assert file_system_of(Path(path), MOUNTS) == expected


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.databases.file_system_of", lambda *_: ("/home", "nfs4"))
    with pytest.raises(LedgerError, match=r"network file system \(nfs4 at /home\) where decisions could be lost"):
        Ledger(tmp_path, SURVEY_ID)
    assert not (tmp_path / "ledger.db").exists()


def test_a_long_log_is_read_in_parts_and_the_ledger_knows_the_newest_of_its_own(tmp_path: Path):
    with Ledger(tmp_path, "survey-1") as ledger:
        assert ledger.newest == 0
        made = [ledger.append("vote", {"k": k}, who="grader-1") for k in range(7)]
        last = ledger.undo(made[2].id, who="grader-1")
        assert ledger.newest == last.id
        everything = ledger.entries(include_undone=True)
        found: list[Entry] = []
        while part := ledger.entries(since=found[-1].id if found else 0, include_undone=True, limit=3):
            assert len(part) <= 3
            found += part
        assert [e.id for e in found] == [e.id for e in everything] and len(found) == 8
        with Ledger(tmp_path, "survey-1") as other:
            assert other.newest == 0
            other.append("vote", {"k": 9}, who="grader-2")
            assert ledger.newest == last.id
