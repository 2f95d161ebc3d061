"""``voorwerp create`` killed at random moments: for the tests, and, with more of them, for the benchmarks."""

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_CREATE = """
import os, sys
if int(sys.argv[1]) < 4096:  # a test: one decoding process starts sooner than two
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from explorer.ingest import build, cut_outs
build.SHARD = int(sys.argv[1])
from explorer.cli import main
print("begun", file=sys.stderr, flush=True)
sys.exit(main(["create", *sys.argv[2:]]))
"""


def create(survey: Path, arguments: Sequence[Any], shard: int, kill_after_s: float | None = None) -> float:
    """Run ``voorwerp create`` with shards of `shard` images; kill it this long after it has begun.

    Returns
    -------
    float
        Seconds from its begin to the end.

    Raises
    ------
    RuntimeError
        It failed by itself; the message is what it said.
    """
    command = [sys.executable, "-c", _CREATE, *map(str, (shard, survey, *arguments))]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = [process.stderr.readline()]
        start = time.monotonic()
        if kill_after_s is not None:
            killer = threading.Timer(kill_after_s, process.send_signal, [signal.SIGKILL])
            killer.start()
        said += process.stderr.readlines()
        code = process.wait()
        seconds = time.monotonic() - start
        if kill_after_s is not None:
            killer.cancel()
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"voorwerp create ended with {code}: {''.join(said)}")
    return seconds


def kill_and_compare(folder: Path, arguments: Sequence[Any], shard: int, n_kills: int) -> dict[str, Any]:
    """Create one survey at once, and one that is killed again and again.

    Returns
    -------
    dict
        As of `killed`; seconds: of the one made at once.
    """
    arguments = [*arguments, "--name", "one"]
    seconds = create(folder / "at_once", arguments, shard)
    expected = digest_of(folder / "at_once")
    return {**killed(folder / "killed", arguments, shard, n_kills, seconds, expected), "seconds": seconds}


def killed(
    survey: Path,
    arguments: Sequence[Any],
    shard: int,
    n_kills: int,
    seconds: float,
    expected: dict[str, str],
    seed: int = 7,
) -> dict[str, Any]:
    """Create a survey that is killed `n_kills` times at random moments of its work, and finish it.

    One that is finished before all kills have come is removed and begun again.

    Parameters
    ----------
    seconds, expected
        What it takes at once, and `digest_of` it.

    Returns
    -------
    dict
        are_equal: whether it has the same bytes; n_whole: how many times it was begun again; survey: its folder.
    """
    moments = random.Random(seed)
    n_whole, are_equal = 0, True
    longest = seconds * max(0.3, 1.6 / n_kills)  # so that the kills are spread over the whole of the work
    for _ in range(n_kills):
        create(survey, arguments, shard, moments.uniform(0, longest))
        if (survey / "survey.toml").exists() and not (survey / "parts").exists():
            n_whole += 1
            are_equal &= digest_of(survey) == expected
            shutil.rmtree(survey)
    create(survey, arguments, shard)
    are_equal &= digest_of(survey) == expected
    return {"are_equal": are_equal, "n_whole": n_whole, "survey": survey}


def digest_of(survey: Path) -> dict[str, str]:
    """File → sha256 of everything but what tells two surveys apart: survey_id and created_at."""
    digests = {}
    for path in sorted(survey.rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            if path.name == "survey.toml":
                lines = content.splitlines()
                content = b"\n".join(line for line in lines if not line.startswith((b"survey_id", b"created_at")))
            digests[str(path.relative_to(survey))] = hashlib.sha256(content).hexdigest()
    return digests
