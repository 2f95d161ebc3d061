"""Subject sets by acquisition: what a run would learn most of, and a random part of the rest with known probabilities.

So is asked what Galaxy Zoo asks every day (Walmsley et al. 2020, MNRAS 491, 1554): the most informative subjects, and
some at random. The informative ones say nothing of the survey; the random part does, for each of it was drawn with a
probability that is kept: in the ledger's entry, as a selection of its own, and as the survey's sample where that has
none.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.campaigns import groups_of
from explorer.services.explore import Explore
from explorer.services.filters import columns_of, parse, reader
from explorer.services.next_up import NEWEST, acquisition, run_of
from explorer.services.sampling import Drawn, draw, n_sampled, write_inclusion
from explorer.survey import Survey, counted

#: Kind of the ledger's entry, and what is behind the name of a set in that of its random part.
KIND, RANDOM_PART = "acquired", " (random)"
ZOONIVERSE_ID = "zooniverse_subject_id"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a set is to be.

    Attributes
    ----------
    n
        Subjects in all.
    random_share
        Of them, drawn at random from all that are not asked for.
    by
        A run, or "newest".
    where
        A filter: others are not in the frame; "" for none.
    retire_after
        Who has so many votes is not in it; 0: whoever has how many.
    is_new
        Nor who is on Zooniverse by an id that the survey knows.
    seed
        The same seed draws the same set.
    """

    n: int = 1000
    random_share: float = 0.2
    by: str = NEWEST
    where: str = ""
    retire_after: int = 0
    is_new: bool = False
    seed: int = 1234

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError(f"a set of {self.n:,} subjects is none; ask for 1 or more")
        if not 0 <= self.random_share <= 1:
            raise UsageError(f"a share of {self.random_share:g} cannot be drawn at random; give 0 to 1")

    @property
    def n_random(self) -> int:
        """Of the n, at least one where a share is asked for."""
        return min(self.n, max(round(self.random_share * self.n), 1)) if self.random_share else 0


@dataclass(frozen=True, slots=True)
class Acquired:
    """What came of it.

    Attributes
    ----------
    n_retired, n_sent
        Who was left out for having enough votes, and for being on Zooniverse.
    is_sample
        Whether it became the survey's sample.
    """

    run_id: str
    drawn: Drawn
    random: np.ndarray
    n_retired: int
    n_sent: int
    is_sample: bool

    def sentences(self) -> list[str]:
        """For a person."""
        drawn, stratum = self.drawn, self.drawn.strata[0] if self.drawn.strata else None
        same = drawn.n_certain - drawn.n_top
        said = [f"{counted(drawn.n_frame, 'subject')} could be asked for"]
        said[0] += f"; {self.n_retired:,} have votes enough" if self.n_retired else ""
        said[0] += f"; {self.n_sent:,} are on Zooniverse already" if self.n_sent else ""
        said.append(
            f"{drawn.n_top:,} of highest acquisition by {self.run_id}"
            + (f", and {same:,} that show the same sky as one of them" if same else "")
        )
        if stratum is not None and len(self.random):
            said.append(
                f"{len(self.random):,} at random of the other {stratum.n_subjects:,}, each with probability "
                f"{stratum.probability:.4g}: only these speak for the rest"
            )
        else:
            said.append("nothing of the rest was drawn at random, so the set says nothing about the rest")
        return said


def n_votes(survey: Survey) -> np.ndarray:
    """How many votes each subject has by the question that is counted, float64 (N,); 0 where there is none."""
    there = survey.columns_of_crowd()  # a survey may have had a column of that name
    name = next((one for one in ("volunteers_n_votes", "n_votes") if one in there), None)
    return np.zeros(survey.n) if name is None else np.nan_to_num(np.asarray(survey.column(name), np.float64))


def acquire(explore: Explore, asked: Asked, name: str, ledger: Ledger, who: str, replace: bool = False) -> Acquired:
    """Draw a set and keep it: selections ``NAME`` and ``NAME (random)``, and an entry with run, design, probability.

    It becomes the survey's sample (`explorer.services.sampling`) where there is none yet, or with `replace`.

    Raises
    ------
    UsageError
        No run to go by, a filter that is none, nobody to ask for, or a selection of that name, without `replace`.
    SurveyError
        The run cannot be read, or another command writes into the survey.
    """
    survey = explore.survey
    run_id = run_of(survey, asked.by)
    with survey.lock():
        survey.refresh()
        taken = [one for one in (name, name + RANDOM_PART) if one in ledger.selection_names()]
        if taken and not replace:
            raise UsageError(f'there is a selection "{taken[0]}" already; --name another, or --replace it')
        values = acquisition(survey, run_id)
        frame = survey.frame().copy()
        if asked.where:
            read = reader(explore, run_id, "", 0.2, "raw", ledger)
            frame &= parse(asked.where, columns_of(explore, run_id, "", ledger)).rows(read)
        is_retired = frame & (n_votes(survey) >= asked.retire_after) if asked.retire_after else np.zeros_like(frame)
        frame &= ~is_retired
        is_sent = (
            frame & survey.arrow(ZOONIVERSE_ID).is_valid().to_numpy(False) if asked.is_new else np.zeros_like(frame)
        )
        frame &= ~is_sent
        if not frame.any():
            raise UsageError("nobody is left to ask for: all are retired, on Zooniverse, or outside of the filter")
        n_known = int((frame & np.isfinite(values)).sum())
        n_top = min(asked.n - asked.n_random, n_known)
        top = n_top / int(frame.sum())
        highest = values.astype(np.float64) if n_top else None
        drawn = draw(frame, groups_of(survey), top, highest, asked.n_random, None, "proportional", asked.seed)
        rows = drawn.rows
        random = rows[~_certain(drawn, values, frame, groups_of(survey))[rows]]
        told = asdict(asked) | {"by": run_id}
        is_sample = replace or not n_sampled(survey)
        if is_sample:
            write_inclusion(survey, drawn, {"acquisition": told})
        payload = {
            "design": told,
            "selection": name,
            "n": len(rows),
            "n_frame": drawn.n_frame,
            "n_certain": drawn.n_certain,
            "probability": drawn.strata[0].probability if drawn.strata else None,
            "random": ledger.written(random, survey.subject_ids),
            "is_sample": is_sample,
        }
        ledger.append(KIND, payload, who=who, run_id=run_id)
        ledger.save_selection(name, rows, survey.subject_ids, who=who)
        if len(random):
            ledger.save_selection(name + RANDOM_PART, random, survey.subject_ids, who=who)
    return Acquired(run_id, drawn, random, int(is_retired.sum()), int(is_sent.sum()), is_sample)


def _certain(drawn: Drawn, values: np.ndarray, frame: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Who was in the set for certain, bool (N,): the highest, and who shows the same sky as one of them."""
    known = np.flatnonzero(frame & np.isfinite(values))
    first = known[np.argsort(-values[known].astype(np.float64), kind="stable")][: drawn.n_top]
    return np.asarray(frame & np.isin(groups, groups[first]))
