"""Simulated experts who grade a campaign: for the demo, for tests, to see what grades would teach. All of it says so.

What they find comes from a class that is known or from morphology measured on pixels (`explorer.services.simulated`),
never from a score, a latent vector or anybody's votes. The campaign is a random draw of the whole survey, closed, and
called "Simulated grades": its columns, truths and labels carry the name, and `Campaign.is_simulated` tells services.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.campaigns import KIND as CAMPAIGN
from explorer.services.campaigns import Campaign, Campaigns, Plan, groups_of
from explorer.services.labels import graded_by
from explorer.services.sampling import draw
from explorer.services.simulated import Worth
from explorer.services.vetting import KIND
from explorer.survey import Survey, counted
from models.grades import SCHEMES
from models.simulate import grades

NAME = "Simulated grades"
#: Subjects that are graded unless told, at most.
N_SUBJECTS = 300
#: Votes that are written at once: they share a commit.
AT_ONCE = 16


def there(campaigns: Campaigns) -> list[Campaign]:
    """The campaigns whose grades are simulated."""
    return [campaign for campaign in campaigns.listed() if campaign.is_simulated]


def simulate_grades(
    survey: Survey,
    ledger: Ledger,
    worth: Worth,
    who: str,
    n_graders: int = 3,
    n_subjects: int | None = None,
    seed: int = 0,
    replace: bool = False,
) -> dict[str, Any]:
    """Let simulated experts grade a random draw of a survey, and close the campaign.

    Parameters
    ----------
    n_subjects
        How many are drawn, whole duplicate groups; None: `N_SUBJECTS`, or all of a smaller survey.
    replace
        Take back the simulated grades that are there.

    Returns
    -------
    dict
        ``campaign`` (its name), ``n_subjects``, ``n_graders``, ``n_votes``, ``n_found`` (votes "yes"), ``n_worth``
        (of those drawn).

    Raises
    ------
    UsageError
        There are simulated grades already, or settings that are not possible.
    """
    campaigns = graded_by(survey, ledger).campaigns
    if (before := there(campaigns)) and not replace:
        raise UsageError(
            f"{survey.path} has simulated grades already, in “{before[0].plan.name}”; --replace makes them anew, "
            "--remove takes them back"
        )
    frame = survey.frame()
    n_subjects = min(N_SUBJECTS, int(frame.sum())) if n_subjects is None else n_subjects
    if n_subjects > frame.sum():
        raise UsageError(f"{counted(n_subjects, 'subject')} cannot be drawn of the {int(frame.sum()):,} that count")
    try:
        plan = Plan(NAME, SCHEMES["yes-no"], n_graders, is_blind=False, repeats=0.0, outcome="majority", seed=seed)
        drawn = draw(frame, groups_of(survey), 0.0, None, n_subjects, None, "proportional", seed)
        yes = grades(worth.is_worth, n_graders, seed, worth.visibility)
    except ValueError as error:
        raise UsageError(str(error)) from None
    for _ in before:
        take_back(survey, ledger, who)
    source = {"region": f"the whole survey; grades simulated from {worth.words}", "is_simulated": True}
    source |= {"n_source": int(frame.sum()), "inclusion": float(drawn.probability[drawn.rows[0]])}
    campaign = campaigns.make(plan, drawn.rows, source, who, kept=np.flatnonzero(frame))

    def keep(told: tuple[int, int]) -> None:
        row, grader = told
        payload = {"campaign": campaign.id, "grade": "Y" if yes[row, grader] else "N", "interesting": False}
        payload |= {"via": "import", "grader": f"simulated-grader-{grader + 1}", "file": "simulated"}
        ledger.append(KIND, payload, who=who, subject_id=int(survey.subject_ids[row]))

    wanted = [(int(row), grader) for row in campaign.rows for grader in range(n_graders)]
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="simulate") as pool:
        list(pool.map(keep, wanted))
    campaigns.close(campaign.id, who)
    return {
        "campaign": campaign.plan.name,
        "n_subjects": len(campaign.rows),
        "n_graders": n_graders,
        "n_votes": len(wanted),
        "n_found": int(yes[campaign.rows].sum()),
        "n_worth": int(worth.is_worth[campaign.rows].sum()),
    }


def take_back(survey: Survey, ledger: Ledger, who: str) -> int:
    """Take back campaigns whose grades are simulated; how many there were. The ledger keeps that they were made."""
    ids = {campaign.id for campaign in there(graded_by(survey, ledger).campaigns)}
    made = [e for e in ledger.entries(CAMPAIGN) if e.payload["action"] == "open" and e.payload["campaign"] in ids]
    for entry in made:
        ledger.undo(entry.id, who=who)
    return len(made)
