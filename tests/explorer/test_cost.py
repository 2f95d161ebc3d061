"""How long a look takes, by the vetting log, without pauses and what was taken back; and what so many hours reach."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.cost import ENOUGH, Cost, Costs, cut_for
from models.boundary import And, Gate, Not, Or, Region, evaluate


def test_the_vetting_log_says_how_long_a_look_takes(tmp_path: Path):
    with Ledger(tmp_path, "survey-1") as ledger:
        assert Costs(ledger).of() == Cost(5.0, 1, False)
        entries = [
            ledger.append("vote", {"seconds": 4000.0 if i == 0 else 2.0 + (i % 3)}, who="p") for i in range(ENOUGH + 10)
        ]
        ledger.append("vote", {"grade": 3}, who="p")
        cost = Costs(ledger).of(graders=2)
        assert (cost.measured, cost.n, cost.graders) == (True, ENOUGH + 9, 2)
        assert cost.seconds == pytest.approx(sum(2.0 + (i % 3) for i in range(1, ENOUGH + 10)) / (ENOUGH + 9))
        assert Costs(ledger).of(7.0).seconds == 7 and not Costs(ledger).of(7.0).measured
        for entry in entries[5:]:
            ledger.undo(entry.id, who="p")
        assert Costs(ledger).of() == Cost(5.0, 1, False)


def test_a_mosaic_is_as_many_looks_as_it_had(tmp_path: Path):
    with Ledger(tmp_path, "survey-1") as ledger:
        mosaic = {"via": "mosaic", "grades": {str(k): "X" for k in range(30)}, "kept": ["40", "41"]}
        mosaic |= {"repeats": {"3": "X"}, "kept_repeats": ["4"], "seconds": 17.0}
        ledger.append("vote", mosaic, who="grader-1")
        assert Costs(ledger).of() == Cost(0.5, 1, True, 34)
        ledger.append("vote", {"seconds": 18.0}, who="grader-1")
        assert Costs(ledger).of() == Cost(1.0, 1, True, 35)
        ledger.append("vote", {**mosaic, "seconds": 34 * 301.0}, who="grader-1")  # a pause
        ledger.append("vote", {**mosaic, "via": "grid", "seconds": 3.4}, who="grader-1")  # a whole grid: no looks
        assert Costs(ledger).of().n == 35


def test_hours_are_images_times_seconds_times_graders_and_back():
    cost = Cost(9.0, 2)
    assert cost.hours(400) == 2 and cost.images(2) == 400
    for seconds, graders in ((0, 1), (float("nan"), 1), (5, 0), (5, 2000), (1e6, 1)):
        with pytest.raises(UsageError, match=r"give"):
            Cost(seconds, graders)


class Arrays:
    """A source over arrays."""

    def __init__(self, **columns: np.ndarray) -> None:
        self.columns = {f"subjects.{name}": values for name, values in columns.items()}
        self.n = len(next(iter(columns.values())))

    def column(self, reference: str) -> np.ndarray:
        return self.columns[reference]


@pytest.mark.parametrize("n", [0, 1, 7, 25, 60, 100])
@pytest.mark.parametrize("shape", ["and", "not", "or"])
def test_no_limit_keeps_more_of_what_is_allowed_than_the_one_that_is_found(n: int, shape: str):
    rng = np.random.default_rng(n)
    a = np.round(rng.normal(size=100), 1)
    a[:5] = np.nan
    source, b = Arrays(a=a, b=rng.normal(size=100)), Gate("subjects.b", 0.3)
    gate = Gate("subjects.a", high=1.2)
    whole, path = {"and": (And((gate, b)), (0,)), "not": (And((Not(gate), b)), (0, 0)), "or": (Or((gate, b)), (0,))}[
        shape
    ]

    def with_low(low: float) -> int:
        moved = replace(gate, low=low)
        inner = {"and": And((moved, b)), "not": And((Not(moved), b)), "or": Or((moved, b))}[shape]
        return int(evaluate(inner, source).yes.sum())

    every = {low: with_low(low) for low in np.unique(a[a <= 1.2])}
    best = max((k for k in every.values() if k <= n), default=None)
    if best is None:
        with pytest.raises(UsageError, match="narrow another"):
            cut_for(whole, path, source, n)
    else:
        assert with_low(cut_for(whole, path, source, n)) == best


def test_a_region_has_no_limit_for_hours_to_move():
    source = Arrays(a=np.arange(4.0), b=np.arange(4.0))
    with pytest.raises(UsageError, match="lower limit"):
        cut_for(And((Region("subjects.a", "subjects.b", ((0, 0), (2, 2)), "box"),)), (0,), source, 2)
