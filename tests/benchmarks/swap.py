"""Rows `swap` and `swap-gold`: how fast SWAP is, and how often it is right, on crowds whose answers are known."""

import json
import statistics
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from models.swap import PRESETS, swap
from tests.benchmarks import peers
from tests.benchmarks.row import Row
from tests.known_answers import (
    REPEATS,
    SETTINGS,
    Crowd,
    Judged,
    by_offline,
    by_swap,
    halves,
    judged,
    majority,
    read_crowd,
    right,
)
from tests.models.test_swap import swap_slow

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "crowd_gold"
N_VOTES, N_SUBJECTS, N_VOLUNTEERS = 10_000_000, 500_000, 20_000
N_SLOW = 100_000
ROUNDS = 5
WANTED = 5e6  # votes per second

UNTAUGHT = replace(SETTINGS, mode="unsupervised", p_initial=0.75)
WAYS = {
    "majority": majority,
    "SWAP, in a random order": by_swap(SETTINGS),
    "SWAP, rescored": by_swap(replace(SETTINGS, rescore=True)),
    "SWAP, all teach, rescored": by_swap(replace(SETTINGS, mode="both", rescore=True)),
    "SWAP, nobody taught, in a random order": by_swap(UNTAUGHT),
    "SWAP offline": by_offline(SETTINGS),
    "SWAP offline, averages": by_offline(SETTINGS, expectation="average"),
    "SWAP offline, nobody taught": by_offline(UNTAUGHT),
}
OURS = "SWAP, rescored"


def speed() -> Row:
    """Supervised SWAP of synthetic votes beside the same in plain Python; compiled before.

    Both run on one thread, so seconds are those of its processor time: what else the machine does counts less.
    """
    random = np.random.default_rng(0)
    subject = random.integers(0, N_SUBJECTS, N_VOTES, dtype=np.int32)
    # few volunteers give most of the votes
    volunteer = (N_VOLUNTEERS * random.random(N_VOTES) ** 3).astype(np.int32)
    gold = np.where(random.random(N_SUBJECTS) < 0.1, random.random(N_SUBJECTS) < 0.5, -1).astype(np.int8)
    truth = np.where(gold >= 0, gold, random.random(N_SUBJECTS) < 0.05)
    said = random.random(N_VOTES) < np.where(truth[subject] == 1, 0.8, 0.1)
    rates: dict[str, list[float]] = {}
    walls: list[float] = []
    swap(subject[:1], volunteer[:1], said[:1], N_SUBJECTS, N_VOLUNTEERS, gold)
    for name in ("spacewarps", "spacewarps-2", "beck"):
        for _ in range(ROUNDS):
            began, started = time.perf_counter(), time.process_time()
            swap(subject, volunteer, said, N_SUBJECTS, N_VOLUNTEERS, gold, PRESETS[name])
            rates.setdefault(name, []).append(N_VOTES / (time.process_time() - started))
            walls.append(time.perf_counter() - began)
    few = (subject[:N_SLOW] // 100, volunteer[:N_SLOW] // 100, said[:N_SLOW])
    started = time.process_time()
    swap_slow((*few, N_SUBJECTS // 100, N_VOLUNTEERS // 100, gold[: N_SUBJECTS // 100]), PRESETS["spacewarps"])
    slow = N_SLOW / (time.process_time() - started)
    middle = {name: statistics.median(values) for name, values in rates.items()}
    ours = middle["spacewarps"]
    return Row(
        name="swap",
        what=f"{N_VOTES:,} synthetic votes of {N_VOLUNTEERS:,} volunteers on {N_SUBJECTS:,} subjects, a tenth known: "
        f"supervised, median of {ROUNDS}",
        ours=ours,
        theirs=slow,
        ratio=ours / slow,
        unit="votes/s",
        alternative=f"plain Python, {N_SLOW:,} of them",
        target=WANTED / slow,
        note=f"per second of processor time, one thread; held to {WANTED:,.0f} votes/s; where no vote is left out "
        f"{middle['spacewarps-2']:,.0f}",
        extra={"rates": rates, "wall seconds": walls},
    )


def crowd_kit(crowd: Crowd, given: list[np.ndarray]) -> dict[str, list[list[float]]]:
    """P of each subject by crowd-kit, each way: once, or for each repeat."""
    asked = {
        "task": crowd.subject.tolist(),
        "worker": crowd.volunteer.tolist(),
        "label": crowd.said.astype(int).tolist(),
        "given": [{int(i): int(crowd.truth[i]) for i in np.flatnonzero(known)} for known in given],
    }
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-") as folder:
        votes, answers = Path(folder) / "votes.json", Path(folder) / "answers.json"
        votes.write_text(json.dumps(asked))
        peers.run("crowd-kit", "python", Path(__file__).with_name("stock_crowd.py"), votes, answers)
        found: dict[str, list[list[float]]] = json.loads(answers.read_text())
    return found


def gold(name: str) -> Row:
    """One crowd, every way, by the protocol of `tests.known_answers`."""
    crowd = read_crowd(DATA / name)
    repeats = list(halves(crowd))
    correct: dict[str, np.ndarray] = {}
    for way, of_one in WAYS.items():
        correct[way] = np.full((REPEATS, crowd.truth.size), np.nan)
        for seed, given in repeats:
            known = np.where(given, crowd.truth, -1).astype(np.int8)
            correct[way][seed, ~given] = right(of_one(crowd, known, seed), crowd.truth)[~given]
    for way, answers in crowd_kit(crowd, [given for _, given in repeats]).items():
        values = np.full((REPEATS, crowd.truth.size), np.nan)
        for seed, given in repeats:
            p = np.array(answers[seed if len(answers) > 1 else 0])
            values[seed, ~given] = right(p, crowd.truth)[~given]
        correct[f"crowd-kit: {way}"] = values
    theirs = "crowd-kit: Dawid–Skene"
    found, beside = judged(correct, "majority"), judged(correct, theirs)
    print(f"{name}: {crowd.truth.size} subjects, {crowd.n_volunteers} volunteers, {crowd.said.size:,} votes")
    print(f"Half of the answers given, {REPEATS} times: accuracy on the others, difference to majority and to {theirs}")
    for way, one in found.items():
        to_theirs = beside[way]
        print(
            f"  {way:40s} {one.accuracy:.3f} [{one.accuracy_low:.3f}, {one.accuracy_high:.3f}]   {difference(one)}   "
            f"{difference(to_theirs)}"
        )
    return Row(
        name=f"swap-gold-{name}",
        what=f"accuracy of SWAP, rescored, on the half of {crowd.truth.size} answers that it was not given, "
        f"{REPEATS} times",
        ours=found[OURS].accuracy,
        theirs=found[theirs].accuracy,
        ratio=found[OURS].accuracy / found[theirs].accuracy,
        unit="right",
        alternative=f"{theirs}, given none",
        note=f"difference {difference(beside[OURS])}; to the majority {difference(found[OURS])}",
        extra={
            "to the majority": {way: asdict(one) for way, one in found.items()},
            f"to {theirs}": {way: asdict(one) for way, one in beside.items()},
        },
    )


def difference(one: Judged) -> str:
    """With its interval."""
    return f"{one.difference:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"


def golds() -> list[Row]:
    """Both crowds of yes or no."""
    peers.environment("crowd-kit")
    return [gold(name) for name in ("bluebird", "rte")]


ROWS = {"swap": speed}
LONG_ROWS = {"swap-gold": golds}
