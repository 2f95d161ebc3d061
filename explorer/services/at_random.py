"""What our own volunteers would choose of the whole survey, where they are shown what a run asks for.

Votes on what was asked for say nothing of the rest. The cells that were drawn at random do: uniformly from all that
were open, so uniformly from those that are open still. Subjects that are retired count with the votes that they have.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from explorer.ledger import Ledger
from explorer.services.classify import KIND, Tally
from explorer.services.training import training_classes
from explorer.survey import Survey, counted
from models.rates import wilson


@dataclass(frozen=True, slots=True)
class ByRandom:
    """The mean chosen fraction of a survey's subjects.

    Attributes
    ----------
    fraction, low, high
        With 95 %, by volunteers: who chooses much does so in all of their cells.
    n_chosen, n
        Of the cells drawn at random that are of open subjects.
    n_volunteers
        Who had these.
    n_open, n_retired
        Subjects.
    """

    fraction: float
    low: float
    high: float
    n_chosen: int
    n: int
    n_volunteers: int
    n_open: int
    n_retired: int

    def sentence(self) -> str:
        """For a person."""
        figures = f"{100 * self.fraction:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"
        retired = f", and {counted(self.n_retired, 'retired subject')} by all votes" if self.n_retired else ""
        return (
            f"of all subjects our volunteers would choose {figures}: {self.n_chosen:,} of {self.n:,} cells drawn at "
            f"random for {counted(self.n_volunteers, 'volunteer')}{retired}; what a run asked for says nothing of "
            "the rest"
        )


def of_survey(survey: Survey, ledger: Ledger) -> ByRandom | None:
    """The estimate by all votes so far; None where no cell was drawn at random beside those that a run asked for."""
    mixed = [entry for entry in ledger.entries(KIND) if entry.payload.get("drawn")]
    if not mixed:
        return None
    tally = Tally(survey, ledger)
    tally.read()
    counts = survey.frame() & (training_classes(survey, ledger) < 0)
    is_retired = counts & (tally.n_views >= int(mixed[-1].payload.get("retire_after", 10)))
    is_open = counts & ~is_retired
    by_volunteer: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for entry_id in tally.standing.values():
        answer = tally.answers[entry_id]
        for cell, way in enumerate(answer.drawn):
            row = int(answer.rows[cell])
            if way == "random" and cell not in answer.training and row >= 0 and is_open[row]:
                by_volunteer[answer.who][0] += cell in answer.chosen
                by_volunteer[answer.who][1] += 1
    k, n = (sum(told[i] for told in by_volunteer.values()) for i in (0, 1))
    if not n:
        return None
    low, high = interval(
        np.array([told[0] for told in by_volunteer.values()]), np.array([*by_volunteer.values()])[:, 1]
    )
    n_open, n_retired = int(is_open.sum()), int(is_retired.sum())
    known = float((tally.n_chosen[is_retired] / tally.n_views[is_retired]).sum())
    fraction, least, most = ((n_open * p + known) / (n_open + n_retired) for p in (k / n, low, high))
    return ByRandom(fraction, least, most, k, n, len(by_volunteer), n_open, n_retired)


def interval(k: np.ndarray, n: np.ndarray) -> tuple[float, float]:
    """Wilson's interval of Σ k of Σ n, as of as many equal votes as they are worth: k (V,) of n (V,) by volunteer.

    They are worth n over the design effect, the ratio of the variance between volunteers to that of single votes
    (Kish 1965), at least 1.
    """
    p, total, many = k.sum() / n.sum(), float(n.sum()), len(n)
    single = p * (1 - p) / total
    between = ((k - p * n) ** 2).sum() * many / max(many - 1, 1) / total**2
    worth = total / max(1.0, between / single) if single > 0 else total
    low, high = wilson(p * worth, worth)
    return float(low), float(high)
