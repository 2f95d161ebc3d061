"""Runs: what computes, in one line, and the dialog where every run and training is followed."""

from __future__ import annotations

from typing import Any

import panel as pn
from panel.viewable import Viewer

from explorer.services.jobs import Job, JobService
from explorer.views.components import RunsLine


def line(job: Job) -> str:
    """One job as a person reads it."""
    share = f"{100 * job.done / job.total:.0f} %" if job.total else ""
    words = [job.title, job.state if job.state != "running" else "", share, job.message, job.time_left]
    return " · ".join(word for word in words if word)


class RunsView(Viewer):
    """The line follows the run folders, which the session polls; the dialog asks ``/training`` itself while open."""

    def __init__(self, jobs: JobService, **params: Any) -> None:
        super().__init__(**params)
        self.jobs = jobs
        self.line = RunsLine(margin=(0, 12), styles={"align-self": "center", "min-width": "0"})
        self.refresh()

    def refresh(self) -> None:
        """Read the run folders."""
        going = [job for state in ("running", "pending") for job in self.jobs.recent() if job.state == state]
        text = line(going[0]) if going else ""
        if len(going) > 1:
            text += f" · {len(going) - 1} more waiting"
        if text != self.line.line:
            self.line.line = text

    def __panel__(self) -> pn.viewable.Viewable:
        return self.line
