"""A survey served by the real command on a free port of this machine."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

VOORWERP = Path(sys.executable).with_name("voorwerp")
ADDRESS = re.compile(r"https?://(?:127\.0\.0\.1|localhost):\d+\S*")


_given: set[int] = set()


def free_port() -> int:
    """A TCP port that nobody listens on at this moment, another each time: browsers keep what an address gave."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


@contextlib.contextmanager
def command(arguments: list[str | Path], log: Path) -> Iterator[subprocess.Popen]:
    """Run a program for the length of the block, its output in `log`; end it, and what it started, after."""
    environment = {**os.environ, "COLUMNS": "300", "PYTHONUNBUFFERED": "1"}  # no line is folded, none waits in a buffer
    with log.open("wb") as output:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        for end in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, end)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
                break


@contextlib.contextmanager
def serve(survey: Path, log: Path, timeout: float = 120, port: int | None = None) -> Iterator[str]:
    """``voorwerp serve SURVEY --no-browser``: yields the URL that it prints, token included.

    Raises
    ------
    RuntimeError
        The command ended, or printed no URL within `timeout` seconds; the message has what it printed.
    """
    arguments = [VOORWERP, "serve", survey, "--no-browser", "--port", str(port or free_port())]
    with command(arguments, log) as process:
        yield wait_for_address(process, log, timeout)


def wait_for_address(process: subprocess.Popen, log: Path, timeout: float) -> str:
    """The first loopback URL in `log`."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if found := ADDRESS.search(log.read_text(errors="replace")):
            return found.group()
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}:\n{log.read_text(errors='replace')}")
        time.sleep(0.05)
    raise RuntimeError(f"the server printed no address within {timeout:.0f} s:\n{log.read_text(errors='replace')}")
