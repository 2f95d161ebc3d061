"""The bar on top: which survey, what computes, which scores and which map are on screen."""

from __future__ import annotations

from typing import Any

import panel as pn
from panel.viewable import Viewer

from explorer.services.explore import Explore
from explorer.services.jobs import Job, JobService
from explorer.state import ExplorerState
from explorer.views.components import TopBar
from models.artifacts import Run
from models.mixing import mixed_with


def line(job: Job) -> str:
    """One job as a person reads it."""
    share = f"{100 * job.done / job.total:.0f} %" if job.total else ""
    words = [job.title, job.state if job.state != "running" else "", share, job.message, job.time_left]
    return " · ".join(word for word in words if word)


def title(run: Run) -> str:
    """A run as a person tells it from others: when, what (``score-2``, an imported run's name), and by which score."""
    words = [run.results["score_title"]] if "score_title" in run.results else []
    if run.kind == "score" and not words and "feature_weight" in run.config:
        weight, mode = mixed_with(run.config)
        told = {name: run.config.get(name) for name in ("latent_axes", "center", "feature_stage")}
        words = [run.config.get("preset", "paper"), f"λ = {weight:g}" + ("" if mode == "raw" else f" {mode}")]
        words += [f"{name.replace('_', ' ')} {value:g}" for name, value in told.items() if value is not None]
    score = f": {', '.join(words)}" if words else ""
    return f"{run.created_at[:19].replace('T', ' ')} {run.run_id.split('-', 2)[-1]}{score}"


class ShellView(Viewer):
    """Follows the run folders, which the session polls; the dialog of runs asks ``/training`` itself while open."""

    def __init__(self, state: ExplorerState, explore: Explore, jobs: JobService, **params: Any) -> None:
        super().__init__(**params)
        self.state, self.explore, self.jobs = state, explore, jobs
        self.bar = TopBar(
            survey=explore.survey.info.name, n=explore.survey.n, sizing_mode="stretch_width", margin=0, height=52
        )
        if pn.state.curdoc is not None:  # the page itself says that the server is away, and asks for it
            pn.state.curdoc.config.update(reconnect_session=False, notify_connection_status=False)
        for name in ("run_id", "map_id", "theme"):
            self.bar.param.watch(self._set, name)
            state.param.watch(lambda event: setattr(self.bar, event.name, event.new), name)
        self.refresh()

    def _set(self, event: Any) -> None:
        known = {"run_id": self.explore.runs(), "map_id": self.explore.maps()}
        if event.name not in known or event.new in known[event.name]:
            setattr(self.state, event.name, event.new)

    def say(self, text: str) -> None:
        """One sentence that stays in the bar; none for the empty text."""
        self.bar.notice = text

    def refresh(self) -> None:
        """What computes, and the runs and maps there are; the first that appears is taken."""
        state = self.state
        runs, maps = self.explore.runs(), self.explore.maps()
        if not state.run_id and runs:
            state.run_id = next(iter(runs))
            state.color = self.explore.default_color(state.run_id)
        if not state.map_id and maps:
            state.map_id = next(iter(maps))
        going = [job for status in ("running", "pending") for job in self.jobs.recent() if job.state == status]
        text = line(going[0]) if going else ""
        if len(going) > 1:
            text += f" · {len(going) - 1} more waiting"
        new = {
            "line": text,
            "runs": [[run_id, title(run)] for run_id, run in runs.items()],
            "maps": [[run_id, title(run)] for run_id, run in maps.items()],
            "run_id": state.run_id,
            "map_id": state.map_id,
        }
        self.bar.param.update(**{name: value for name, value in new.items() if getattr(self.bar, name) != value})

    def __panel__(self) -> pn.viewable.Viewable:
        return self.bar
