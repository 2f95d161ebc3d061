"""The bar on top: which survey, what computes, which scores and which map are on screen."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import panel as pn
from panel.viewable import Viewer

from explorer.errors import UsageError, VoorwerpError
from explorer.people import LOCAL, ROLES
from explorer.services.explore import Explore
from explorer.services.jobs import Job, JobService, find_run
from explorer.state import ExplorerState
from explorer.views.components import TopBar
from models.artifacts import Run
from models.mixing import mixed_with

#: States of a run that is said to have ended; what was cancelled or interrupted is known to whoever did it.
ENDED = ("done", "failed")


def line(job: Job) -> str:
    """One job as a person reads it."""
    share = f"{100 * job.done / job.total:.0f} %" if job.total else ""
    words = [job.title, job.state if job.state != "running" else "", share, job.message, job.time_left]
    return " · ".join(word for word in words if word)


def title(run: Run, is_simulated: bool = False) -> str:
    """A run as a person tells it from others: when, what (``score-2``, an imported run's name), and by which score."""
    words = [run.results["score_title"]] if "score_title" in run.results else []
    if is_simulated and not any("simulated" in word for word in words):
        words = ["simulated", *words]
    if run.kind == "score" and not words and "feature_weight" in run.config:
        weight, mode = mixed_with(run.config)
        told = {name: run.config.get(name) for name in ("latent_axes", "center", "feature_stage")}
        words = [run.config.get("preset", "paper"), f"λ = {weight:g}" + ("" if mode == "raw" else f" {mode}")]
        words += [f"{name.replace('_', ' ')} {value:g}" for name, value in told.items() if value is not None]
    score = f": {', '.join(words)}" if words else ""
    of = f" of “{run.selection}”" if run.selection is not None else ""
    return f"{run.created_at[:19].replace('T', ' ')} {run.run_id.split('-', 2)[-1]}{of}{score}"


class ShellView(Viewer):
    """Follows the run folders, which the session polls; the dialog of runs asks ``/training`` itself while open.

    What a person does in the dialog reaches the session as a message, an object of one name and what goes with it:
    ``{"color": run_id}``, ``{"map": run_id}``. Whoever registers a name with `hear` answers it.
    """

    def __init__(self, state: ExplorerState, explore: Explore, jobs: JobService, **params: Any) -> None:
        super().__init__(**params)
        self.state, self.explore, self.jobs = state, explore, jobs
        self.bar = TopBar(
            survey=explore.survey.info.name,
            n=explore.survey.n,
            sizing_mode="stretch_width",
            margin=0,
            height=52,
        )
        self._known: dict[str, str] | None = None  # state of each run when it was looked at last
        self._heard: dict[str, Callable[[Any], Any]] = {}
        self.bar.asked = self._hear
        self.hear("color", self.color_by)
        self.hear("map", self.lay_out)
        if pn.state.curdoc is not None:  # the page itself says that the server is away, and asks for it
            pn.state.curdoc.config.update(reconnect_session=False, notify_connection_status=False)
        for name in ("run_id", "map_id", "theme"):
            self.bar.param.watch(self._set, name)
            state.param.watch(lambda event: setattr(self.bar, event.name, event.new), name)
        state.param.watch(lambda *_: self._introduce(), "person")
        self._introduce()
        self.refresh()

    def _introduce(self) -> None:
        """Say who is logged in, where one logs in."""
        person = self.state.person
        told = {"name": person.name, "role": person.role, "may": ROLES[person.role]}
        self.bar.person = {} if person == LOCAL else told

    def _set(self, event: Any) -> None:
        known = {"run_id": self.explore.runs(), "map_id": self.explore.maps()}
        if event.name not in known or event.new in known[event.name]:
            setattr(self.state, event.name, event.new)

    def hear(self, name: str, act: Callable[[Any], Any]) -> None:
        """Let `act` (a function or a coroutine's) answer messages of a name; a `VoorwerpError` of it is said."""
        self._heard[name] = act

    def _hear(self, message: dict[str, Any]) -> None:
        for name, value in message.items():
            if name in self._heard:  # an old page may ask for what is no more
                pn.state.execute(partial(self._answer, self._heard[name], value))

    async def _answer(self, act: Callable[[Any], Any], value: Any) -> None:
        try:
            found = act(value)
            if inspect.isawaitable(found):
                await found
        except VoorwerpError as error:
            self.say(str(error))

    def color_by(self, run_id: str) -> None:
        """Color the map by a run: by what its kind says, else by the score that it is colored by now if the run has it.

        Raises
        ------
        UsageError
            No finished run of scores.
        """
        state, explore = self.state, self.explore
        explore.look_again()
        if run_id not in explore.runs():
            raise UsageError(f"{str(run_id)[:60]} has no scores to color by")
        state.run_id = run_id
        stays = state.color.startswith("scores.") and explore.can_color(state.color, run_id, state.map_id)
        if explore.own_color(run_id) or not stays:
            state.color = explore.default_color(run_id)
        self.refresh()

    def lay_out(self, map_id: str) -> None:
        """Lay subjects out on a map.

        Raises
        ------
        UsageError
            No finished map.
        """
        self.explore.look_again()
        if map_id not in self.explore.maps():
            raise UsageError(f"{str(map_id)[:60]} is no finished map")
        self.state.map_id = map_id
        self.state.param.update(x=self.state.param.x.default, y=self.state.param.y.default)
        self.refresh()

    def say(self, text: str) -> None:
        """One sentence that stays in the bar; none for the empty text."""
        self.bar.notice = text

    def _ended(self) -> list[Job]:
        """Runs that have ended since they were looked at last, the newest first."""
        jobs, before = self.jobs.recent(), self._known
        self._known = {job.run_id: job.state for job in jobs}
        if before is None:
            return []
        return [job for job in jobs if job.state in ENDED and before.get(job.run_id) not in ENDED]

    def _offer(self, ended: Sequence[Job]) -> None:
        """A run that has ended offers itself; of several, the newest. Nothing is taken unasked."""
        offered = self.bar.offer.get("run_id")
        shown = (self.state.run_id, self.state.map_id)
        if offered and (offered in shown or offered not in (self._known or {})):
            self.bar.offer = {}
        for job in ended:
            is_member = job.kind != "ranks" and Run.read(find_run(self.jobs.survey, job.run_id)).series
            if not is_member and job.run_id not in shown and (told := self._told(job)):
                self.bar.offer = told
                return

    def _told(self, job: Job) -> dict[str, str]:
        if job.state == "failed":
            what, word = "open", "See why"
        elif job.run_id in self.explore.runs():
            what, word = "color", "Color by it"
        elif job.run_id in self.explore.maps():
            what, word = "map", "Lay out on it"
        elif job.kind == "train":
            what, word = "score", "Score with it …"
        else:
            return {}
        ended = "failed" if job.state == "failed" else "is done"
        return {"text": f"{job.title}: {ended}", "word": word, "run_id": job.run_id, "do": what}

    def refresh(self) -> None:
        """What computes, and the runs and maps there are; the first that appears is taken."""
        state = self.state
        if ended := self._ended():
            self.explore.look_again()
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
            "runs": [[run_id, title(run, self.explore.is_simulated(run_id))] for run_id, run in runs.items()],
            "maps": [[run_id, title(run)] for run_id, run in maps.items()],
            "run_id": state.run_id,
            "map_id": state.map_id,
        }
        self.bar.param.update(**{name: value for name, value in new.items() if getattr(self.bar, name) != value})
        self._offer(ended)

    def __panel__(self) -> pn.viewable.Viewable:
        return self.bar
