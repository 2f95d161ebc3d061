"""Series that the server carries on: one thread each takes one step after another (see `explorer.services.series`).

Nothing is kept here that is not in the ledger or in the run folders. A server that is killed leaves the series
interrupted between two steps or in one; whoever goes on with it, here or by `voorwerp resume`, does what is not done.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from explorer.errors import JobError, UsageError, VoorwerpError
from explorer.services.jobs import JobService
from explorer.services.series import Series, Step, plan, planned, runs_of, steps
from models.artifacts import ArtifactError


@dataclass(slots=True)
class _Course:
    """A series at work here. `mutex` is held while its next step is begun, and while it is told to stop."""

    steps: Generator[Step, None, None]
    step: Step
    is_stopped: bool = False
    mutex: threading.Lock = field(default_factory=threading.Lock)


class Underway:
    """The series of one survey that this process carries on. Thread-safe."""

    def __init__(self, jobs: JobService) -> None:
        self.jobs = jobs
        self.said: dict[str, str] = {}  # why a series did not go on
        self._courses: dict[str, _Course] = {}
        self._mutex = threading.Lock()
        self._setting_out = threading.Lock()  # one at a time: asked for twice at once, a series is begun once
        self._closed = False

    def begin(
        self,
        config: Mapping[str, Any],
        parents: Sequence[str],
        feature_weights: Sequence[float],
        n_seeds: int,
        who: str,
        **of: Any,
    ) -> str:
        """Plan a series and start its first training; returns the series' id.

        Parameters
        ----------
        of
            Of what subjects, as `explorer.services.series.plan` takes it.

        Raises
        ------
        VoorwerpError, ArtifactError
            What `plan` and `JobService.start` raise.
        """
        with self._setting_out:
            series = plan(self.jobs, config, parents, feature_weights, n_seeds, who, **of)
            self._set_out(series, who)
        return series.series_id

    def go_on(self, series_id: str, who: str) -> None:
        """Go on with a series where it stands.

        Raises
        ------
        UsageError
            There is no such series.
        JobError
            It is at work, or nothing is left to do.
        """
        series = planned(self.jobs.ledger).get(series_id)
        if series is None:
            raise UsageError(f'there is no series "{series_id[:60]}"')
        with self._setting_out:
            at_work = [run.run_id for run in runs_of(self.jobs, series) if not self.jobs.job(run.run_id).is_over]
            if self.step(series_id) or at_work:
                raise JobError(f"{series_id} is at work{f' on {at_work[0]}' if at_work else ''}")
            self._set_out(series, who)

    def cancel(self, series_id: str, who: str) -> None:
        """Stop a series, and the run that it is at.

        Raises
        ------
        JobError
            It is not at work here.
        """
        with self._mutex:
            course = self._courses.get(series_id)
        if course is None:
            raise JobError(f"{series_id} is not at work here; cancel the run that it is at")
        with course.mutex:
            course.is_stopped = True
            run_id = course.step.run_id
        with contextlib.suppress(JobError):  # it has just ended
            self.jobs.cancel(run_id, who)

    def step(self, series_id: str) -> Step | None:
        """Where a series at work is; None for one that is not at work here."""
        with self._mutex:
            course = self._courses.get(series_id)
        return None if course is None else course.step

    def close(self) -> None:
        """Begin no further step; called before the jobs are stopped."""
        with self._mutex:
            self._closed = True
            courses = tuple(self._courses.values())
        for course in courses:
            with course.mutex:
                course.is_stopped = True

    def _set_out(self, series: Series, who: str) -> None:
        going = steps(self.jobs, series, who)
        if (step := next(going, None)) is None:
            raise JobError(f"{series.series_id} is done; there is nothing to go on with")
        course = _Course(going, step)
        with self._mutex:
            if self._closed:
                raise JobError("the server is being stopped")
            self.said.pop(series.series_id, None)
            self._courses[series.series_id] = course
        threading.Thread(target=self._carry_on, args=(series.series_id, course), name="series", daemon=True).start()

    def _carry_on(self, series_id: str, course: _Course) -> None:
        try:
            while True:
                state = self.jobs.wait(course.step.run_id).state
                with course.mutex:
                    if course.is_stopped or state in ("cancelled", "interrupted"):
                        return
                    step = next(course.steps, None)
                    if step is None:
                        return
                    course.step = step
        except (VoorwerpError, ArtifactError, OSError) as error:
            self.said[series_id] = str(error)
        finally:
            with self._mutex:
                del self._courses[series_id]
