"""What the page of runs asks: every run in a line, and of one its history by epoch, its pictures and its findings.

Whatever learns writes into its folder, epoch by epoch::

    history.jsonl     {"stage": "gan" | "encoder" | any name, "epoch", "of", "train": {…}, "validation": {…}, "word", …}
    grids/00012.png   after line 12 of the history: rows of pictures
    grids/00012.json  what the rows show; a training of the anomaly model has none: its page knows
    grids/scale.json  what the residuals of such a training are scaled by
    findings.json     what was found, see `models.findings`
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import re
import struct
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from explorer.errors import JobError, UsageError
from explorer.kinds import Kind, kinds
from explorer.services.jobs import Job, JobService, checked_config, plain_type
from explorer.services.labels import Source, offered, sources
from explorer.services.selected import words_of
from explorer.services.series import Series, lambdas_of, planned, seeds_of, state_of
from explorer.services.underway import Underway
from explorer.services.watched import watched
from models.artifacts import GRIDS, HISTORY, LATENTS, RESUME, ArtifactError, Run
from models.divergence import SOUND
from models.findings import FINDINGS, read_findings
from models.labels import about_labels

SCALE = "scale.json"
NO_RUNS = ("subject_ids", "labels")  # among a run's inputs
NO_RESULTS = ("verdict", "color", "score_title")  # told elsewhere
SIMULATED = " (simulated)"

#: Settings that are told of a run even where they are the kind's defaults, and how.
TOLD = {"preset": "", "method": "", "on": "", "feature_weight": "λ ", "lambda_mode": "", "seed": "seed "}
#: Settings that name where labels come from, and how their sources are told.
LABELLED = {"expert": "experts: ", "amateur": "amateurs: ", "votes": ""}
#: The order of kinds in the form, group by group; others come after those of their group.
ORDER = ("train", "score", "autoencoder", "features", "ranks", "czsl", "metric", "bayes", "cluster", "finetune", "map")
#: How kinds are grouped (`Kind.group`), and what a person reads above each group.
GROUPS = {"anomaly": "Anomaly", "labels": "Learn from labels", "map": "Map", "other": "Other"}


class SettingError(UsageError):
    """A setting was refused; `field` is its name."""

    def __init__(self, message: str, field: str) -> None:
        super().__init__(message)
        self.field = field


class Runs:
    """Reads the runs of one survey for the page. Callable from a script; thread-safe."""

    def __init__(self, jobs: JobService) -> None:
        self.jobs, self.survey = jobs, jobs.survey
        self.underway = Underway(jobs)
        self._defaults = {name: _defaults(kind.config) for name, kind in kinds().items()}

    def listed(self) -> list[dict[str, Any]]:
        """Every run and map, newest first, ready for JSON."""
        known = self._read()
        return [self._line(job, known) for job in self.jobs.recent() if job.run_id in known]

    def series(self, lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The linked runs that are among `lines` (of `listed`), newest first, ready for JSON."""
        members: dict[str, list[str]] = {}
        for line in lines:
            if line["series"]:
                members.setdefault(line["series"], []).append(line["run_id"])
        if not members:
            return []
        jobs, plans = {job.run_id: job for job in self.jobs.recent()}, planned(self.jobs.ledger)
        return [
            self._series(series_id, [jobs[run_id] for run_id in run_ids if run_id in jobs], plans.get(series_id))
            for series_id, run_ids in members.items()
        ]

    def _series(self, series_id: str, linked: Sequence[Job], made: Series | None) -> dict[str, Any]:
        step = self.underway.step(series_id)
        n_trained = sum(job.kind == "train" and job.state == "done" for job in linked)
        n = len(made.feature_weights) * len(made.seeds) if made else 0
        return {
            "series_id": series_id,
            "about": f"λ {lambdas_of(made)} · seeds {seeds_of(made)}" if made else "",
            "state": "running" if step else state_of(linked),
            "is_here": step is not None,
            "step": step.heading if step else "",
            "said": self.underway.said.get(series_id, ""),
            "n_trained": n_trained,
            "n": n,
        }

    # ------------------------------------------------------------------------------------------------- start
    def kinds(self) -> dict[str, Any]:
        """What a form is made of, ready for JSON: every kind with its settings, and what runs may be of."""
        known = kinds()

        def place(name: str) -> tuple[int, int, str]:
            return list(GROUPS).index(known[name].group), ORDER.index(name) if name in ORDER else len(ORDER), name

        there = sources(self.survey, self.jobs.ledger, self.jobs.graded)
        return {
            "kinds": [self._form(known[name], there) for name in sorted(known, key=place)],
            "groups": list(GROUPS.items()),
            "selections": [[name, n] for name, n in reversed(self.jobs.ledger.selection_counts().items())],
        }

    def _form(self, kind: Kind, there: Sequence[Source]) -> dict[str, Any]:
        hints = typing.get_type_hints(kind.config)
        fields = []
        for field in dataclasses.fields(kind.config):
            type_, is_optional = plain_type(hints[field.name])
            known = {name: field.metadata[name] for name in ("help", "unit", "low", "high") if name in field.metadata}
            default = None if field.default is dataclasses.MISSING else field.default
            if field.name in kind.labels:
                known |= offered(there, field.name)
            fields.append(
                {
                    "name": field.name,
                    "type": type_.__name__,
                    "default": default,
                    "is_optional": is_optional,
                    "is_required": field.default is dataclasses.MISSING
                    and field.default_factory is dataclasses.MISSING,
                    "choices": field.metadata.get("choices"),
                    "of": field.metadata.get("of"),
                    "presets": field.metadata.get("presets"),
                    "is_everyday": field.metadata.get("is_everyday", False),
                    **known,
                }
            )
        lacks = kind.needs_images and not self.survey.has_images
        return {
            "name": kind.name,
            "title": kind.title,
            "about": kind.about,
            "group": kind.group,
            "fields": fields,
            "lacks": "this survey has no images" if lacks else "",
            "is_of_subjects": kind.needs_images or bool(kind.builds_on),
        }

    def builds_on(self, kind_name: str, config: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The finished runs that a run with these settings may build on: a list for each kind, the newest first.

        Raises
        ------
        UsageError
            No such kind, or a setting that is wrong.
        """
        kind = self._kind(kind_name)
        kind = kind.set_to(self._checked(kind, config))
        known = self._read()
        lines = {line["run_id"]: line for line in self.listed()}
        found = []
        for how in ("needs", "optional", "many"):
            for name in getattr(kind, how):
                runs = [
                    {"run_id": run.run_id, "title": lines[run.run_id]["title"], "about": lines[run.run_id]["about"]}
                    | {"created_at": run.created_at, "selection": run.selection}
                    for run in known.values()
                    if run.state == "done" and run.counts_as(name) and run.run_id in lines
                    if not kind.needs_latents or name == "map" or (self._folder(run) / LATENTS).exists()
                ]
                found.append({"kind": name, "how": how, "runs": sorted(runs, key=_age, reverse=True)})
        return found

    def decide(self, what: str, asked: Any, who: str) -> dict[str, str]:
        """Start, cancel, resume or delete, as `asked`; every page that asks after that sees it.

        Raises
        ------
        SettingError
            See `start`.
        UsageError, JobError
            It cannot be done, or not now.
        """
        if not isinstance(asked, dict):
            raise UsageError("what was sent is no JSON object; reload the page")
        name, typed = (str(asked.get(key, "")) for key in ("run", "typed"))
        acts: dict[str, Callable[[], dict[str, str] | None]] = {
            "start": lambda: self.start(asked, who),
            "cancel": lambda: self.cancel(name, who),
            "resume": lambda: self.resume(name, who),
            "delete": lambda: self.delete(name, typed, who),
        }
        try:
            return acts[what]() or {}
        except ArtifactError as error:
            raise JobError(str(error)) from None
        finally:
            self.jobs.recent(0)

    def start(self, asked: Any, who: str) -> dict[str, str]:
        """Start what a form asks for; its ``run_id``, or with several λ or seeds its ``series_id``.

        Parameters
        ----------
        asked
            ``kind``; ``config``: settings that differ from the defaults; ``parents``: run_ids; ``selection`` (the name
            of a kept one) or ``everything``: of what, else of what the parents are of; ``feature_weights``,
            ``n_seeds``: of a series.

        Raises
        ------
        SettingError
            A setting that is out of range, of the wrong type or unknown.
        UsageError, JobError, ArtifactError
            Anything else that keeps the run from being started; nothing is left of it then.
        """
        match asked:
            case {"kind": str(name), "config": dict(config), "parents": list(parents)} if all(
                isinstance(parent, str) for parent in parents
            ):
                pass
            case _:
                raise UsageError("what is to be started is not told as kind, config and parents; reload the page")
        kind, selection = self._kind(name), asked.get("selection") or None
        weights, n_seeds = asked.get("feature_weights"), asked.get("n_seeds", 1)
        if not (weights is None or (isinstance(weights, list) and all(isinstance(w, int | float) for w in weights))):
            raise SettingError("λ is not a list of numbers", "feature_weight")
        if not isinstance(n_seeds, int) or not isinstance(selection, str | None):
            raise UsageError("seeds must be a whole number, and a selection the name of one")
        self._checked(kind, config)
        of: dict[str, Any] = {"selection": selection} if selection else {}
        of |= {"everything": True} if asked.get("everything") is True and not selection else {}
        if weights is None and n_seeds == 1:
            return {"run_id": self.jobs.start(name, config, parents, who, **of)}
        if name != "train":
            raise UsageError(f"{name} is no training; only trainings are run with several λ or seeds")
        chosen = [float(w) for w in weights or [kind.config().feature_weight]]
        for weight in chosen:
            self._checked(kind, {"feature_weight": weight})
        if len(set(chosen)) < len(chosen):
            raise SettingError("λ has a value twice; write each once", "feature_weight")
        config = {key: value for key, value in config.items() if key != "feature_weight"}
        return {"series_id": self.underway.begin(config, parents, chosen, n_seeds, who, **of)}

    def cancel(self, name: str, who: str) -> None:
        """Stop a run, or a series with the run that it is at.

        Raises
        ------
        JobError
            There is no such run, or it is over.
        """
        if self.underway.step(name):
            self.underway.cancel(name, who)
        else:
            self._run(name)
            self.jobs.cancel(name, who)

    def resume(self, name: str, who: str) -> None:
        """Go on with a run, or with a series.

        Raises
        ------
        JobError
            There is no such run, it is at work, or it is done.
        """
        if name in planned(self.jobs.ledger):
            self.underway.go_on(name, who)
        else:
            self._run(name)
            self.jobs.resume(name, who)

    def delete(self, run_id: str, typed: str, who: str) -> None:
        """Remove a run for good, where its name was typed.

        Raises
        ------
        JobError
            Another name was typed, there is no such run, it is at work, or other runs build on it.
        """
        self._run(run_id)
        if typed != run_id:
            raise JobError(f'"{typed[:60]}" is not the name of this run; type {run_id} to delete it')
        self.jobs.delete(run_id, who)

    def close(self) -> None:
        """Begin nothing more."""
        self.underway.close()

    @staticmethod
    def _kind(name: str) -> Kind:
        known = kinds()
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(sorted(known))}"
            raise UsageError(f'there is no run kind "{name[:60]}"; {hint}')
        return known[name]

    @staticmethod
    def _checked(kind: Kind, config: Mapping[str, Any]) -> Any:
        try:
            return checked_config(kind, config)
        except UsageError as error:
            named = re.match(rf"{kind.name}: (\w+) is ", str(error))
            raise SettingError(str(error).removeprefix(f"{kind.name}: "), named[1] if named else "") from None

    # ------------------------------------------------------------------------------------------------ follow
    def detail(self, run_id: str, start: int, attempt: int, found: str = "") -> dict[str, Any]:
        """One run in full.

        Parameters
        ----------
        start, attempt
            Bytes of ``history.jsonl`` that are known already, read in that attempt of the run. A run that was taken up
            again has rewritten its history: it is told from the beginning.
        found
            ``found_at`` of the findings that are known already; they are told where they are others.

        Raises
        ------
        JobError
            No such run.
        """
        known = self._read()
        run = self._run(run_id)
        folder, defaults = self._folder(run), self._defaults.get(run.kind, {})
        lines, start, end = history(folder, start if attempt == run.attempt else 0)
        found_at = written_at(folder / FINDINGS)
        return {
            "run_id": run_id,
            "attempt": run.attempt,
            "code_version": run.code_version,
            "finished_at": run.finished_at,
            "settings": [["λ" if name == "feature_weight" else name, value] for name, value in self._settings(run)],
            "own": [[name, value] for name, value in self._settings(run) if value != defaults.get(name)],
            "inputs": [[name, value] for name, value in run.inputs.items() if name not in NO_RUNS],
            "labels": labels_of(folder),
            "results": [
                [n, v] for n, v in run.results.items() if isinstance(v, int | float | str) and n not in NO_RESULTS
            ],
            "verdict": run.results.get("verdict"),
            "is_sound": run.results.get("verdict") == SOUND,
            "history": {"start": start, "end": end, "lines": lines},
            "grids": (numbers := grids(folder)),
            "rows": {str(number): told for number in numbers if (told := rows_of(folder, number))},
            "scale": scale(folder),
            "found_at": found_at,
            **({} if found_at == found else {"findings": read_findings(folder)}),
            **watched(folder),
            "stands_at": stands_at(folder),
            "built_on_by": sorted(other.run_id for other in known.values() if run_id in other.inputs.values()),
        }

    def grid(self, run_id: str, epoch: int) -> bytes:
        """The PNG of a run's pictures after so many epochs.

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
            "selection": run.selection,
            "of": words_of(run, self._folder(run), self.survey.n),
            "started_by": run.started_by,
            "device": job.device,
            "memory_mb": job.memory,
            "finished_at": run.finished_at,
            "has_scores": run.state == "done" and run.counts_as("score"),
            "is_map": run.state == "done" and run.kind == "map",
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
        told = {name: config.pop(name) for name in LABELLED if name in config}
        if told.get("votes") and told.get("votes") == told.get("amateur"):
            del told["votes"]  # said once
        words += [LABELLED[name] + re.sub("^(campaign|column):", "", source) for name, source in told.items() if source]
        for name, value in config.items():
            if name not in TOLD and name in defaults and value not in (None, defaults[name]):
                words.append(f"{name.replace('_', ' ')} {_spell(value)}")
        if n_combined := sum("." in name for name in run.inputs):
            settings = dict.fromkeys(member["setting"] for member in run.results.get("runs", ()))
            words.append(f"{n_combined} runs" + (f" of {next(iter(settings))}" if len(settings) == 1 else ""))
        return " · ".join(words)


def _age(line: Mapping[str, Any]) -> tuple[str, str]:
    return line["created_at"], line["run_id"]


def stands_at(folder: Path) -> dict[str, Any] | None:
    """The stage, and the epoch in it, that a training goes on from: ``{"stage": "gan", "epoch": 12}``; None without.

    Read from the header of ``resume.safetensors``: its length as uint64, then JSON.
    """
    try:
        with (folder / RESUME).open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(size, 10_000_000)))
        state = json.loads(header["__metadata__"]["voorwerp"])
        return {"stage": str(state["stage"]), "epoch": int(state["epoch"]) + 1}
    except (FileNotFoundError, KeyError, TypeError, ValueError, struct.error):
        return None


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


def rows_of(folder: Path, number: int) -> dict[str, Any] | None:
    """What the rows of a picture show, and how many columns it has; None where that is not written."""
    try:
        told = orjson.loads((folder / GRIDS / f"{number:05d}.json").read_bytes())
        return {"rows": [str(word) for word in told["rows"]], "columns": int(told["columns"])}
    except (FileNotFoundError, orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def labels_of(folder: Path) -> list[list[str]]:
    """What a run learns from: settings and, in words, where their labels come from; [] where it learns from none."""
    return [
        [setting, str(of.get("words", "")) + (SIMULATED if says_not(of) else "")]
        for setting, of in about_labels(folder).items()
    ]


def says_not(of: Mapping[str, Any]) -> bool:
    """Whether labels are simulated and their words do not say so."""
    return bool(of.get("is_simulated")) and "simulated" not in str(of.get("words", "")).lower()


def written_at(path: Path) -> str:
    """When a file was written, to tell whether it is another; "" where there is none."""
    try:
        return str(path.stat().st_mtime_ns)
    except FileNotFoundError:
        return ""


def scale(folder: Path) -> dict[str, Any] | None:
    """What the residuals of the pictures are scaled by; None where that is not written (yet)."""
    try:
        found: dict[str, Any] = orjson.loads((folder / GRIDS / SCALE).read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return found
