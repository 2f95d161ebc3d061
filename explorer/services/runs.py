"""What the page of runs asks: every run in a line, and of a training its history by epoch and its pictures.

A training writes into its folder, epoch by epoch::

    history.jsonl     {"stage": "gan" | "encoder", "epoch", "of", "train": {…}, "validation": {…}, "word", …}
    grids/00012.png   after epoch 12, counted over both stages: three rows of pictures
    grids/scale.json  what their residuals are scaled by
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from explorer.errors import JobError
from explorer.kinds import kinds
from explorer.services.jobs import Job, JobService
from models.artifacts import GRIDS, HISTORY, Run
from models.divergence import SOUND

SCALE = "scale.json"

#: Settings that are told of a run even where they are the kind's defaults, and how.
TOLD = {"preset": "", "method": "", "on": "", "feature_weight": "λ ", "lambda_mode": "", "seed": "seed "}


class Runs:
    """Reads the runs of one survey for the page. Callable from a script; thread-safe."""

    def __init__(self, jobs: JobService) -> None:
        self.jobs, self.survey = jobs, jobs.survey
        self._defaults = {name: _defaults(kind.config) for name, kind in kinds().items()}

    def listed(self) -> list[dict[str, Any]]:
        """Every run and map, newest first, ready for JSON."""
        known = self._read()
        return [self._line(job, known) for job in self.jobs.recent() if job.run_id in known]

    def detail(self, run_id: str, start: int, attempt: int) -> dict[str, Any]:
        """One run in full.

        Parameters
        ----------
        start, attempt
            Bytes of ``history.jsonl`` that are known already, read in that attempt of the run. A run that was taken up
            again has rewritten its history: it is told from the beginning.

        Raises
        ------
        JobError
            No such run.
        """
        run = self._run(run_id)
        folder = self._folder(run)
        lines, start, end = history(folder, start if attempt == run.attempt else 0)
        return {
            "run_id": run_id,
            "attempt": run.attempt,
            "code_version": run.code_version,
            "finished_at": run.finished_at,
            "settings": [["λ" if name == "feature_weight" else name, value] for name, value in self._settings(run)],
            "inputs": [[name, value] for name, value in run.inputs.items() if name != "subject_ids"],
            "results": [[n, v] for n, v in run.results.items() if isinstance(v, int | float | str) and n != "verdict"],
            "verdict": run.results.get("verdict"),
            "is_sound": run.results.get("verdict") == SOUND,
            "history": {"start": start, "end": end, "lines": lines},
            "grids": grids(folder),
            "scale": scale(folder),
        }

    def grid(self, run_id: str, epoch: int) -> bytes:
        """The PNG of a training's pictures after an epoch.

        Raises
        ------
        JobError
            No such run, or it has no pictures of that epoch.
        """
        try:
            return (self._folder(self._run(run_id)) / GRIDS / f"{epoch:05d}.png").read_bytes()
        except FileNotFoundError:
            raise JobError(f"{run_id} has no pictures after epoch {epoch}") from None

    def _settings(self, run: Run) -> Iterator[tuple[str, Any]]:
        """What a run was told, without what its method has no use for."""
        kind = kinds().get(run.kind)
        of = {f.name: f.metadata["of"] for f in dataclasses.fields(kind.config) if "of" in f.metadata} if kind else {}
        method = run.config.get("method", "wgan")
        for name, value in run.config.items():
            if value is not None and (name not in of or method in of[name]):
                yield name, value

    def _read(self) -> dict[str, Run]:
        return {run.run_id: run for run in (*self.survey.runs(state=None), *self.survey.maps(state=None))}

    def _run(self, run_id: str) -> Run:
        known = self._read()
        if run_id not in known:  # the id comes from outside: it is a path only once it is one of ours
            raise JobError(f"there is no run {run_id[:60]!r} in this survey")
        return known[run_id]

    def _folder(self, run: Run) -> Path:
        runs = self.survey.run_folder(run.run_id)
        return runs if runs.exists() else self.survey.map_folder(run.run_id)

    def _line(self, job: Job, known: Mapping[str, Run]) -> dict[str, Any]:
        run = known[job.run_id]
        return {
            "run_id": job.run_id,
            "kind": job.kind,
            "title": job.title,
            "state": job.state,
            "created_at": run.created_at,
            "series": run.series,
            "about": self._about(run, known),
            "done": job.done,
            "total": job.total,
            "message": job.message,
            "rate": job.rate,
            "time_left": job.time_left,
            "error": job.error,
        }

    def _about(self, run: Run, known: Mapping[str, Run]) -> str:
        """What tells a run from others of its kind: ``fast · λ 0.2 · seed 1234 · width 32``."""
        defaults = self._defaults.get(run.kind, {})
        if "map" in run.inputs:
            return f"placed on {run.inputs['map']}"
        config = dict(self._settings(run))
        if config.get("method") == "wgan":  # what a score is unless it says otherwise
            del config["method"]
        if config.get("lambda_mode") == "raw":
            del config["lambda_mode"]
        if training := known.get(run.inputs.get("train", "")):
            config["seed"] = training.seed
        words = [f"{word}{_spell(config[name])}" for name, word in TOLD.items() if config.get(name) is not None]
        for name, value in config.items():
            if name not in TOLD and name in defaults and value not in (None, defaults[name]):
                words.append(f"{name.replace('_', ' ')} {_spell(value)}")
        if n_combined := sum("." in name for name in run.inputs):
            settings = dict.fromkeys(member["setting"] for member in run.results.get("runs", ()))
            words.append(f"{n_combined} runs" + (f" of {next(iter(settings))}" if len(settings) == 1 else ""))
        return " · ".join(words)


def _defaults(config: type) -> dict[str, Any]:
    return {f.name: f.default for f in dataclasses.fields(config)}


def _spell(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def history(folder: Path, start: int) -> tuple[list[Any], int, int]:
    """The whole lines of ``history.jsonl`` from byte `start` on, where they start, and where they end.

    From the beginning where the file has become shorter than `start`.
    """
    try:
        with (folder / HISTORY).open("rb") as file:
            size = file.seek(0, 2)
            start = start if start <= size else 0
            file.seek(start)
            content = file.read()
    except FileNotFoundError:
        return [], 0, 0
    content = content[: content.rfind(b"\n") + 1]  # what follows the last line end is not written yet
    lines = []
    for line in content.splitlines():
        with contextlib.suppress(orjson.JSONDecodeError):  # cut off when its writer was killed
            lines.append(orjson.loads(line))
    return lines, start, start + len(content)


def grids(folder: Path) -> list[int]:
    """Epochs that have pictures, ascending."""
    names = (re.fullmatch(r"(\d{5,})\.png", path.name) for path in (folder / GRIDS).glob("*.png"))
    return sorted(int(name[1]) for name in names if name)


def scale(folder: Path) -> dict[str, Any] | None:
    """What the residuals of the pictures are scaled by; None where that is not written (yet)."""
    try:
        found: dict[str, Any] = orjson.loads((folder / GRIDS / SCALE).read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return found
