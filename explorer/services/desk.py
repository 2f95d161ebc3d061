"""What the sessions and handlers of one server share: one of each service, opened together and closed together."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from explorer.caches import Cache
from explorer.ledger import Ledger
from explorer.services.acquiring import Acquiring
from explorer.services.address import Remembered
from explorer.services.agreed import Agreed
from explorer.services.boundaries import Boundaries
from explorer.services.campaign_view import CampaignView
from explorer.services.campaigns import Campaigns
from explorer.services.compared import Changes
from explorer.services.crowd import Crowd
from explorer.services.drafts import Drafts
from explorer.services.dropped import Drops
from explorer.services.explore import Explore, newest
from explorer.services.graded import Graded
from explorer.services.groups import Groups
from explorer.services.histograms import Histograms
from explorer.services.inference import Inference
from explorer.services.jobs import JobService
from explorer.services.judge import Judge
from explorer.services.learned import Learning
from explorer.services.learned_colors import LearnedColors
from explorer.services.listing import Listing
from explorer.services.notes import Notes
from explorer.services.originals import Originals
from explorer.services.pulse import Pulse
from explorer.services.retraining import Retraining, Schedule
from explorer.services.runs import Runs
from explorer.services.samp import Samp
from explorer.services.talk import Talk
from explorer.services.truths import Truths
from explorer.services.vetting import Vetting
from explorer.services.volunteers import Volunteers
from explorer.survey import Survey

if TYPE_CHECKING:
    from explorer.services.cluster import Scheduler  # it brings what only a cluster needs

#: Seconds that a frame waits for the index of a large map; then the page says how far it is.
PATIENCE_S = 2.0


@dataclass(frozen=True)
class Desk:
    """The services of one survey; `samp` is None where no program of the visitor's desktop can be reached, `retraining`
    where nothing is trained again.

    `frames` are the threads of what follows a hand on the map, and of nothing else; `slow` are those of what takes
    seconds, `deciding` those of decisions on runs.
    `compared` has the last answers on what sets a selection apart, by everything that went into them.
    """

    explore: Explore
    ledger: Ledger
    notes: Notes
    jobs: JobService
    runs: Runs
    changes: Changes
    originals: Originals
    inference: Inference
    drops: Drops
    listing: Listing
    groups: Groups
    histograms: Histograms
    remembered: Remembered
    drafts: Drafts
    talk: Talk
    volunteers: Volunteers
    crowd: Crowd
    truths: Truths
    learning: Learning
    boundaries: Boundaries
    judge: Judge
    campaigns: Campaigns
    vetting: Vetting
    acquiring: Acquiring
    agreed: Agreed
    graded: Graded
    retraining: Retraining | None = None
    samp: Samp | None = None
    frames: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(max(2, os.cpu_count() or 2), thread_name_prefix="frames")
    )
    slow: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2, thread_name_prefix="slow"))
    deciding: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4, thread_name_prefix="deciding"))
    compared: Cache = field(default_factory=lambda: Cache(16))

    @cached_property
    def campaign_view(self) -> CampaignView:
        """What the sheets of campaigns ask: one for all pages."""
        return CampaignView(self)

    @cached_property
    def pulse(self) -> Pulse:
        """What the pages ask every second."""
        return Pulse(self)

    @classmethod
    @contextmanager
    def open(
        cls,
        path: Path,
        has_samp: bool = False,
        scheduler: Scheduler | None = None,
        workers: int | None = None,
        retrain: Schedule | None = None,
    ) -> Iterator[Desk]:
        """Open a survey's services for the length of the block.

        Parameters
        ----------
        has_samp
            Whether other programs on this machine may be spoken to.
        scheduler, workers
            Who computes; see `JobService`.
        retrain
            What is trained again, and when.
        """
        survey = Survey.open(path)
        try:
            with Ledger(survey.path, survey.info.survey_id) as ledger:
                explore, jobs = Explore(survey), JobService(survey, ledger, scheduler=scheduler, workers=workers)
                explore.indices.patience = PATIENCE_S
                explore.indices.begin(survey.info.default_map or newest(explore.maps()))
                volunteers, notes = Volunteers(survey, ledger, explore.talk), Notes(ledger, explore)
                truths = Truths(explore, notes, volunteers)
                learning = Learning(explore, truths)
                boundaries = Boundaries(explore, ledger, learning)
                explore.classifiers = LearnedColors(boundaries, learning)
                campaigns = Campaigns(explore, ledger, boundaries, notes)
                vetting = Vetting(explore, ledger, campaigns)
                graded = truths.experts = jobs.graded = Graded(explore, ledger, campaigns, vetting)
                inference = Inference(survey)
                retraining = None
                if retrain is not None:

                    def count() -> None:
                        volunteers.poll()
                        graded.poll()

                    retraining = Retraining(jobs, retrain, count, lambda name: campaigns.get(name).id)
                desk = cls(
                    explore=explore,
                    ledger=ledger,
                    notes=notes,
                    jobs=jobs,
                    runs=Runs(jobs),
                    changes=Changes(explore, jobs),
                    originals=Originals(survey),
                    inference=inference,
                    drops=Drops(explore, inference),
                    listing=Listing(explore, ledger),
                    groups=Groups(explore),
                    histograms=Histograms(explore),
                    remembered=Remembered(survey.path),
                    drafts=Drafts(survey.path),
                    talk=explore.talk,
                    volunteers=volunteers,
                    crowd=Crowd(volunteers, explore),
                    truths=truths,
                    learning=learning,
                    boundaries=boundaries,
                    judge=Judge(explore, boundaries, truths, explore.talk, notes),
                    campaigns=campaigns,
                    vetting=vetting,
                    acquiring=Acquiring(campaigns, vetting, explore),
                    agreed=Agreed(campaigns, vetting, explore),
                    graded=graded,
                    retraining=retraining,
                    samp=Samp() if has_samp else None,
                )
                try:
                    yield desk
                finally:
                    for pool in (desk.frames, desk.slow, desk.deciding):
                        pool.shutdown(wait=False, cancel_futures=True)
                    desk.acquiring.close()
                    if desk.retraining is not None:
                        desk.retraining.close()
                    desk.runs.close()
                    jobs.stop()
                    desk.inference.close()
                    desk.drops.close()
                    desk.originals.close()
                    if desk.samp is not None:
                        desk.samp.close()
        finally:
            survey.close()
