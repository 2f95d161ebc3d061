"""What a run's folder tells while it is at work, thinned out for a screen: its log, device and memory, scores by epoch.

Files of any length are read at their end, or at even steps: a day of training has a hundred megabytes of progress.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from explorer.services.jobs import LOG
from models.artifacts import HISTORY, PROGRESS

LINES = 200  # of the log
WIDE = 2000  # characters of one of its lines
POINTS = 200  # of a curve
WHOLE = 512 * 1024  # bytes up to which a file is read whole
BLOCK = 4096  # bytes read at each step of a longer one: a line of history, one of progress, and what was before them

#: Escape sequences of terminals, and control characters that are no tabs.
_UNPRINTABLE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b.|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def watched(folder: Path) -> dict[str, Any]:
    """What `explorer.services.runs` adds to a run in full, ready for JSON.

    Returns
    -------
    log
        The last `LINES` lines that the worker printed, as text.
    device
        "cpu", "cuda:0 NAME"; None where that was not told.
    memory
        `use_of`.
    distributions
        `distributions_of`.
    """
    use = use_of(folder)
    return {
        "log": log_of(folder),
        "device": use.pop("device"),
        "memory": use,
        "distributions": distributions_of(folder),
    }


def log_of(folder: Path) -> str:
    """The end of a run's log: what a terminal would show of it, without its colors; "" where there is none."""
    try:
        with (folder / LOG).open("rb") as file:
            size = file.seek(0, 2)
            start = max(0, size - LINES * 500)
            file.seek(start)
            lines = file.read().decode("utf-8", "replace").split("\n")
    except FileNotFoundError:
        return ""
    if start:
        del lines[0]  # cut off
    shown = (line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)  # a bar that is drawn again and again
    return "\n".join(_UNPRINTABLE.sub("", line)[:WIDE] for line in list(shown)[-LINES - 1 :]).strip("\n")


def use_of(folder: Path) -> dict[str, Any]:
    """Device and memory of a run over time.

    Returns
    -------
    device
        The last that was told, or None.
    of_mb
        All memory of its GPU, in MB; None on a CPU.
    points
        At most `POINTS` of [seconds, memory_mb, gpu use in %, gpu memory in MB], None for what was not told. Seconds
        count while it is at work: not the night between an interruption and going on.
    attempts
        For each point, the attempt that it is of.
    """
    device, of_mb, points, attempts = None, None, list[list[float | None]](), list[int]()
    seconds, before = 0.0, None
    for record in records(folder / PROGRESS, POINTS):
        if "device" not in record:  # of an older Voorwerp, or before its first look
            continue
        with suppress(KeyError, TypeError, ValueError):
            at, attempt = datetime.fromisoformat(record["at"]).timestamp(), int(record["attempt"])
            if before is not None and before[1] == attempt:
                seconds += max(0.0, at - before[0])
            before = at, attempt
            gpu = record["gpu"] or {}
            device, of_mb = record["device"], gpu.get("of_mb", of_mb)
            points.append([round(seconds, 1), record["memory_mb"], gpu.get("use"), gpu.get("memory_mb")])
            attempts.append(attempt)
    return {"device": device, "of_mb": of_mb, "points": points, "attempts": attempts}


def distributions_of(folder: Path) -> dict[str, Any] | None:
    """Percentiles of the watched images' scores by epoch of the encoder; None where none are told.

    Returns
    -------
    n, images
        How many images, "validation" or "training".
    of
        Epochs of the encoder in all.
    percent
        Which percentiles.
    epochs
        At most `POINTS` epochs.
    image_score, feature_score
        For each of them, its percentiles.
    """
    found: dict[str, Any] = {"epochs": [], "image_score": [], "feature_score": []}
    for record in records(folder / HISTORY, POINTS):
        if scores := record.get("scores"):
            images = "validation" if record["validation"] else "training"
            found |= {"n": scores["n"], "images": images, "of": record["of"], "percent": scores["percent"]}
            found["epochs"].append(record["epoch"])
            for name in ("image_score", "feature_score"):
                found[name].append([value if value is None else float(f"{value:.4g}") for value in scores[name]])
    return found if found["epochs"] else None


def records(path: Path, n: int) -> list[dict[str, Any]]:
    """At most `n` records of a file of JSON lines, at even steps, the last whole one among them; [] without a file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size <= WHOLE:
                file.seek(0)
                lines = file.read().split(b"\n")[:-1]  # what follows the last line end is not written yet
                lines = [lines[i * (len(lines) - 1) // (n - 1)] for i in range(n)] if len(lines) > n else lines
            else:
                lines = [line for i in range(n) if (line := _line_at(file, i * (size - BLOCK) // (n - 1)))]
                file.seek(max(0, size - 4 * BLOCK))
                lines += file.read().split(b"\n")[-2:-1]
    except FileNotFoundError:
        return []
    return list(_parsed(dict.fromkeys(lines)))[-n:]


def _line_at(file: Any, start: int) -> bytes:
    """The first whole line that begins in the block at byte `start`, b"" where none does."""
    file.seek(start)
    found = file.read(BLOCK).split(b"\n")
    whole = found[:-1] if start == 0 else found[1:-1]
    return whole[0] if whole else b""


def _parsed(lines: Any) -> Iterator[dict[str, Any]]:
    for line in lines:
        with suppress(orjson.JSONDecodeError):  # cut off when its writer was killed
            found = orjson.loads(line)
            if isinstance(found, dict):
                yield found
