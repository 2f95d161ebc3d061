"""SAMP against a real hub and a real client: those of astropy, on loopback, with a lock file of their own."""

import contextlib
import gc
import os
import queue
import socket
import stat
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pytest
from astropy.table import Table

from explorer.errors import SampError
from explorer.services import samp as service
from explorer.services.samp import Samp
from tests.conftest import FIRST_ID

with warnings.catch_warnings():
    # deprecated since astropy 8.0, which is why the product has its own; a hub to test against is welcome still
    warnings.simplefilter("ignore")
    from astropy import samp as peers

TABLE = pa.table({"subject_id": [FIRST_ID, FIRST_ID + 1], "source_id": [str(FIRST_ID), "λ"], "ra": [1.5, None]})


@pytest.fixture
def lock_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the hub of this test is, and no other."""
    path = tmp_path / "a folder" / "samp lock"
    path.parent.mkdir()
    monkeypatch.setenv("SAMP_HUB", f"std-lockurl:{path.as_uri()}")
    return path


@contextlib.contextmanager
def running_hub(lock_file: Path) -> Iterator[peers.SAMPHubServer]:
    hub = peers.SAMPHubServer(addr="127.0.0.1", web_profile=False, lockfile=str(lock_file), mode="multiple")
    environment = os.environ.pop("SAMP_HUB")  # astropy does not unquote it
    try:
        hub.start()
    finally:
        os.environ["SAMP_HUB"] = environment
    try:
        yield hub
    finally:
        hub.stop()


@pytest.fixture(autouse=True)
def offline() -> Iterator[None]:
    with peers.conf.set_temp("use_internet", False):
        yield


@pytest.fixture
def hub(lock_file: Path) -> Iterator[peers.SAMPHubServer]:
    with running_hub(lock_file) as running:
        yield running


@pytest.fixture
def samp() -> Iterator[Samp]:
    opened = Samp()
    yield opened
    opened.close()


class Receiver:
    """An application as TOPCAT is one: takes tables and positions."""

    def __init__(self, hub: peers.SAMPHubServer, name: str) -> None:
        self.got: queue.Queue[tuple[str, dict]] = queue.Queue()
        self.client = peers.SAMPIntegratedClient(name=name, addr="127.0.0.1")
        self.client.connect(hub=hub)
        for mtype in ("table.load.votable", "coord.pointAt.sky"):
            self.client.bind_receive_notification(mtype, self._receive)

    def _receive(self, private_key, sender_id, mtype, params, extra):
        self.got.put((mtype, params))

    def next(self) -> tuple[str, dict]:
        return self.got.get(timeout=10)


@pytest.fixture
def topcat(hub: peers.SAMPHubServer) -> Iterator[Receiver]:
    receiver = Receiver(hub, "topcat")
    yield receiver
    receiver.client.disconnect()


def test_a_table_that_was_sent_is_loaded_with_exact_ids(samp: Samp, topcat: Receiver):
    assert samp.send_table(TABLE, "Two of λ") == ["topcat"]
    mtype, params = topcat.next()
    assert (mtype, params["name"]) == ("table.load.votable", "Two of ?")
    url = urlsplit(params["url"])
    assert (url.scheme, url.netloc) == ("file", "")
    table = Table.read(unquote(url.path), format="votable")
    assert table["subject_id"].tolist() == [FIRST_ID, FIRST_ID + 1]
    assert table["source_id"].tolist() == [str(FIRST_ID), "λ"]


def test_what_was_sent_is_readable_by_this_user_only_and_gone_in_the_end(samp: Samp, topcat: Receiver):
    samp.send_table(TABLE, "a")
    path = Path(unquote(urlsplit(topcat.next()[1]["url"]).path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    samp.close()
    assert not path.parent.exists()


def test_a_position_arrives_with_all_its_digits(samp: Samp, topcat: Receiver):
    assert samp.point_at(150.123456789012, -2.2) == ["topcat"]
    mtype, params = topcat.next()
    assert (mtype, float(params["ra"]), float(params["dec"])) == ("coord.pointAt.sky", 150.123456789012, -2.2)


def test_without_a_hub_one_sentence_says_what_to_do(samp: Samp, lock_file: Path):
    for call in (lambda: samp.send_table(TABLE, "a"), lambda: samp.point_at(1, 2)):
        with pytest.raises(
            SampError, match=r"^no SAMP hub runs on this machine; start TOPCAT or Aladin, then try again$"
        ):
            call()


def test_a_hub_where_nobody_takes_tables_is_said_to_be_one(samp: Samp, hub: peers.SAMPHubServer):
    with pytest.raises(SampError, match="no application at the SAMP hub takes tables"):
        samp.send_table(TABLE, "a")
    with pytest.raises(SampError, match="takes positions on the sky"):
        samp.point_at(1, 2)


def test_no_position_is_no_message(samp: Samp, topcat: Receiver):
    with pytest.raises(SampError, match="has no RA and Dec"):
        samp.point_at(float("nan"), 2)
    assert topcat.got.empty()


def test_a_restarted_hub_is_found_again(samp: Samp, lock_file: Path):
    with running_hub(lock_file), pytest.raises(SampError, match="no application at the SAMP hub takes"):
        samp.point_at(1, 2)
    with pytest.raises(SampError, match="no SAMP hub runs"):
        samp.point_at(1, 2)
    with running_hub(lock_file) as second:
        receiver = Receiver(second, "aladin")
        assert samp.send_table(TABLE, "a") == ["aladin"]
        assert receiver.next()[0] == "table.load.votable"
        receiver.client.disconnect()


def test_closing_leaves_the_hub_and_no_socket(topcat: Receiver):
    samp = Samp()
    samp.point_at(1, 2)
    assert "Voorwerp" in names(topcat)
    samp.close()
    samp.close()
    assert "Voorwerp" not in names(topcat)
    gc.collect()  # a socket left open would warn here


def names(receiver: Receiver) -> list[str]:
    client = receiver.client
    return [client.get_metadata(i).get("samp.name", "") for i in client.get_registered_clients()]


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1:80/",
        "http://127.0.0.1.example.org/",
        "http://example.org\\:80/xmlrpc",
        "http://127.0.0.1@example.org/",
        "https://127.0.0.1/",
        "file:///etc/passwd",
        "http://[::1/",
    ],
)
def test_a_hub_on_another_machine_is_refused_unasked(
    url: str, samp: Samp, lock_file: Path, monkeypatch: pytest.MonkeyPatch
):
    lock_file.write_text(f"samp.secret=s\nsamp.hub.xmlrpc.url={url}\n")
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: pytest.fail("it was asked"))
    with pytest.raises(SampError, match="is not on this machine's loopback address; nothing is sent to it"):
        samp.point_at(1, 2)


@pytest.mark.parametrize(
    "place", ["std-lockurl:http://example.org/lock", "other:x", "std-lockurl:file://example.org/a"]
)
def test_a_lock_file_on_another_machine_is_refused(place: str, samp: Samp, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SAMP_HUB", place)
    with pytest.raises(SampError, match="only a lock file on this machine is used"):
        samp.point_at(1, 2)


def test_a_lock_file_that_says_too_little_or_is_a_pipe_is_refused(samp: Samp, lock_file: Path):
    lock_file.write_bytes(b"# nothing\n\xff=\xfe\nsamp.secret=s\n")
    with pytest.raises(SampError, match=r"lacks samp\.hub\.xmlrpc\.url or samp\.secret"):
        samp.point_at(1, 2)
    lock_file.unlink()
    os.mkfifo(lock_file)
    with pytest.raises(SampError, match="no SAMP hub runs"):
        samp.point_at(1, 2)


def test_a_dead_hub_and_a_silent_one_cost_a_few_seconds_at_most(
    samp: Samp, lock_file: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(service, "TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        lock_file.write_text(f"samp.secret=s\nsamp.hub.xmlrpc.url=http://127.0.0.1:{listening.getsockname()[1]}/\n")
        started = time.monotonic()
        with pytest.raises(SampError, match=r"does not answer \(no answer within 0\.3 s\)"):
            samp.point_at(1, 2)
        assert time.monotonic() - started < 2
    with pytest.raises(SampError, match=r"does not answer \(Connection refused\)"):
        samp.point_at(1, 2)


def test_an_answer_that_is_no_samp_is_one_sentence_too(samp: Samp, lock_file: Path):
    def answer(content: bytes) -> None:
        with listening.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content))

    for content in (b"hello", b"<methodResponse><params><param><value>x</value></param></params></methodResponse>"):
        with socket.create_server(("127.0.0.1", 0)) as listening:
            lock_file.write_text(f"samp.secret=s\nsamp.hub.xmlrpc.url=http://127.0.0.1:{listening.getsockname()[1]}/\n")
            thread = threading.Thread(target=answer, args=(content,))
            thread.start()
            with pytest.raises(SampError, match="does not answer"):
                samp.point_at(1, 2)
            thread.join()


def test_the_secret_of_another_hub_does_not_let_us_in(samp: Samp, hub: peers.SAMPHubServer, lock_file: Path):
    lines = lock_file.read_text().splitlines()
    lock_file.write_text("\n".join("samp.secret=wrong" if line.startswith("samp.secret") else line for line in lines))
    with pytest.raises(SampError, match="does not answer"):
        samp.point_at(1, 2)
