"""Rows `ingest` and `ingest-votes`: exports of votes taken in, beside the Zooniverse's own aggregation code and pandas.

Seconds are those of processor time of all processes, start-up included: what else the machine does counts less.
"""

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tests.benchmarks import peers
from tests.benchmarks.row import Row

EXPORTS = Path(__file__).parents[2] / ".." / "shared" / "data" / "zooniverse_exports"
PEER = "panoptes-aggregation"
WORKFLOW, VERSION = "10", "16.55"
N, N_SUBJECTS, N_VOLUNTEERS = 50_000, 5_000, 2_000
N_FLAT, N_ITEMS = 5_000_000, 200_000
WANTED, WANTED_FLAT = 20_000, 1_000_000  # rows per second

_PANDAS = """
import sys, pandas
table = pandas.read_csv(sys.argv[1], dtype="category")
table.to_parquet(sys.argv[2])
"""


def timed(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of processor time of the processes that `run` starts and waits for, and seconds on the clock."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - began


def voorwerp(folder: Path, *arguments: str | Path) -> None:
    """Run our command, its secrets in `folder`."""
    command = [Path(sys.executable).with_name("voorwerp"), *arguments]
    environment = {**os.environ, "VOORWERP_CONFIG": str(folder / "config")}
    subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)


def write_export(path: Path) -> None:
    """A real export's rows again and again, with other ids, subjects, volunteers and times."""
    with (EXPORTS / "cls_export.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    at = {name: i for i, name in enumerate(header)}
    random = np.random.default_rng(0)
    subjects = 90_000_000 + random.integers(0, N_SUBJECTS, N)
    volunteers = random.integers(0, N_VOLUNTEERS, N)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for i in range(N):
            cells = list(rows[i % len(rows)])
            old, new = cells[at["subject_ids"]], str(subjects[i])
            cells[at["classification_id"]] = str(600_000_000 + i)
            cells[at["user_name"]] = f"volunteer {volunteers[i]}"
            cells[at["user_id"]] = str(1 + volunteers[i])
            cells[at["created_at"]] = f"2024-03-{1 + i // 2_400:02d} {i // 100 % 24:02d}:{i % 60:02d}:00 UTC"
            cells[at["subject_ids"]] = new
            cells[at["subject_data"]] = cells[at["subject_data"]].replace(old, new)
            writer.writerow(cells)


def their_counts(reductions: Path) -> Counter[tuple[int, str, str]]:
    """(subject, task, answer) → votes."""
    found: Counter[tuple[int, str, str]] = Counter()
    with reductions.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            for answer in ("yes", "no"):
                if row[f"data.{answer}"]:
                    found[int(row["subject_id"]), row["task"], answer] = int(float(row[f"data.{answer}"]))
    return found


def our_counts(survey: Path) -> Counter[tuple[int, str, str]]:
    """The same, from the survey's votes."""
    names = ["subject_id", "task", "answer"]
    table = pq.read_table(survey / "classifications.parquet", columns=names)
    subjects, tasks, answers = (table.column(name).to_pylist() for name in names)
    return Counter(zip(subjects, tasks, (answer.lower() for answer in answers), strict=True))


def export() -> Row:
    """A classification export to counted votes, and the same by extract and reduce."""
    peers.environment(PEER)
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-") as scratch:
        folder = Path(scratch)
        file = folder / "export.csv"
        write_export(file)
        size = file.stat().st_size

        def theirs() -> None:
            name = f"workflow_{WORKFLOW}_V{VERSION}"
            told = EXPORTS.resolve() / "wf_export.csv"
            peers.run(PEER, PEER.replace("-", "_"), "config", told, WORKFLOW, "-v", VERSION, cwd=folder)
            extractor = f"Extractor_config_{name}.yaml"
            peers.run(PEER, PEER.replace("-", "_"), "extract", "-hb", file, extractor, cwd=folder)
            reducer = f"Reducer_config_{name}_question_extractor.yaml"
            extracted = "question_extractor_extractions.csv"
            peers.run(PEER, PEER.replace("-", "_"), "reduce", "-hb", extracted, reducer, cwd=folder)

        ours_s, ours_wall = timed(lambda: voorwerp(folder, "ingest", folder / "survey", file))
        theirs_s, theirs_wall = timed(theirs)
        if our_counts(folder / "survey") != their_counts(folder / "question_reducer_reductions.csv"):
            raise RuntimeError("the two count other votes")
    return Row(
        name="ingest",
        what=f"{N:,} classifications of two questions, {size / 1e6:,.0f} MB of a real export's rows with other ids: "
        "taken in and counted",
        ours=N / ours_s,
        theirs=N / theirs_s,
        ratio=theirs_s / ours_s,
        unit="classifications/s",
        alternative="panoptes_aggregation, extract and reduce",
        target=20,
        note=f"per second of processor time; both count the same votes; on the clock {N / ours_wall:,.0f}/s, "
        f"theirs {N / theirs_wall:,.0f}/s; held to {WANTED:,}/s on two cores",
        extra={"ours wall s": ours_wall, "theirs wall s": theirs_wall, "ours s": ours_s, "theirs s": theirs_s},
    )


def votes() -> Row:
    """Flat votes into a survey, and pandas' way from CSV to Parquet, which neither checks nor hashes."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-") as scratch:
        folder = Path(scratch)
        file = folder / "votes.csv"
        random = np.random.default_rng(0)
        columns = [random.integers(0, high, N_FLAT) for high in (N_ITEMS, N_VOLUNTEERS, 2)]
        np.savetxt(file, np.stack(columns, axis=1), "%d", ",", header="item,worker,label", comments="")
        script = (
            "import sys; from explorer.ingest.exports import ingest; [None for _ in ingest(sys.argv[1], [sys.argv[2]])]"
        )
        command = [sys.executable, "-c", script, folder / "survey", file]
        environment = {**os.environ, "VOORWERP_CONFIG": str(folder / "config")}
        ours_s, ours_wall = timed(lambda: subprocess.run(command, check=True, env=environment))
        theirs = [sys.executable, "-c", _PANDAS, file, folder / "votes.parquet"]
        theirs_s, theirs_wall = timed(lambda: subprocess.run(theirs, check=True))
        n = pq.read_metadata(folder / "survey" / "classifications.parquet").num_rows
        if n != N_FLAT:
            raise RuntimeError(f"{n:,} of {N_FLAT:,} votes were taken")
        sources = json.loads((folder / "survey" / "sources.json").read_text())["files"]
    return Row(
        name="ingest-votes",
        what=f"{N_FLAT:,} synthetic votes of {N_VOLUNTEERS:,} volunteers on {N_ITEMS:,} items, item,worker,label",
        ours=N_FLAT / ours_s,
        theirs=N_FLAT / theirs_s,
        ratio=theirs_s / ours_s,
        unit="votes/s",
        alternative="pandas: read_csv and to_parquet",
        note=f"per second of processor time; on the clock {N_FLAT / ours_wall:,.0f}/s, theirs "
        f"{N_FLAT / theirs_wall:,.0f}/s; held to {WANTED_FLAT:,}/s on two cores",
        extra={"ours wall s": ours_wall, "theirs wall s": theirs_wall, "sources": sources},
    )


ROWS = {"ingest-votes": votes}
LONG_ROWS = {"ingest": export}
