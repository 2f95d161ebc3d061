"""How long a look takes: by the vetting log, without pauses and without what was taken back."""

from pathlib import Path

import pytest

from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.cost import ENOUGH, Cost, Costs


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


def test_hours_are_images_times_seconds_times_graders_and_back():
    cost = Cost(9.0, 2)
    assert cost.hours(400) == 2 and cost.images(2) == 400
    for seconds, graders in ((0, 1), (float("nan"), 1), (5, 0), (5, 2000), (1e6, 1)):
        with pytest.raises(UsageError, match=r"give"):
            Cost(seconds, graders)
