"""One file per run kind: its config, a title, and what to run, as text.

A kind file defines ``KIND``. The server and the command line import it (it must stay light: no torch); only the worker
imports the function that ``Kind.run`` names. To add a kind, add a file here.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self

from explorer.errors import UsageError


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of run.

    Attributes
    ----------
    name
        The word on the command line and in run.json.
    title
        What a person reads: "Train the anomaly model".
    about
        What it does, in one sentence, for somebody who chooses among kinds.
    config
        A frozen dataclass. Each field's ``metadata`` has ``help``, and where they apply ``unit``, ``low``, ``high``
        (inclusive range) and ``choices``: flags, forms and checks are built from it. ``of`` are the methods that have
        a use for it; ``presets`` says what it is in each preset where it is left empty; a form shows ``is_everyday``
        fields first.
    run
        ``"module:function"``; the function takes (config, `models.artifacts.Workspace`) and yields
        `models.progress.Progress`. It writes its artifacts into the workspace and returns the numbers to keep in
        run.json (``dict``, the generator's return value).
    needs
        Kinds of finished runs that this one builds on; the newest is taken unless told.
    folder
        "runs" or "maps".
    needs_images
        Whether a survey without images is refused.
    needs_latents
        Whether the runs it builds on must have latent vectors: imported ones may be scores alone.
    provides
        Another kind as which its runs count: "score" where the run folder holds scores.parquet, and perhaps
        latents.npy, by `models.artifacts.write_scores`.
    optional
        Kinds of finished runs that this one builds on where it is told to, never by itself.
    many
        Kinds of finished runs of which it builds on several, two or more, each told. They are called "score.1",
        "score.2" … in run.json and in the workspace.
    before
        What a run from before a setting came was set to, where that is not the setting's default.
    at
        What settings change: a function from the config to fields of this `Kind` with other values.
    on_what
        What it builds on, in words, where that depends on settings.
    is_shared
        Whether it shares out its parts among the workers of `models.artifacts.Workspace.pool`, where there is one.
    labels
        Settings that name where labels come from (see `explorer.services.labels`): "expert", "amateur", "votes". They
        are frozen into the run's folder when it is started, and read by `models.labels.read_labels`.
    needs_labels
        Those of `labels` without which there is nothing to do: left empty, they are the only source there is.
    learns
        What labels of the tune half it can do nothing without: "classes", two with two members each, by experts, or by
        amateurs where no expert says anything; or "is_found", as many of interest and turned down.
    color
        Column of its scores that the map is colored by where nobody chose one; "" is its anomaly score. A run for which
        that depends on its labels names it among its results, as ``color``.
    check
        Raises one sentence where the settings that were told (name → value) and the runs it would build on (kind →
        folder) do not go together: what can be known before the run is made.
    """

    name: str
    title: str
    config: type
    run: str
    needs: tuple[str, ...] = ()
    folder: str = field(default="runs")
    needs_images: bool = False
    needs_latents: bool = False
    provides: str = ""
    optional: tuple[str, ...] = ()
    many: tuple[str, ...] = ()
    before: Mapping[str, Any] = field(default_factory=dict)
    at: Callable[[Any], Mapping[str, Any]] | None = None
    on_what: str = ""
    check: Callable[[Mapping[str, Any], Mapping[str, Path]], None] | None = None
    is_shared: bool = False
    about: str = ""
    labels: tuple[str, ...] = ()
    needs_labels: tuple[str, ...] = ()
    learns: Literal["", "classes", "is_found"] = ""
    color: str = ""

    @property
    def group(self) -> str:
        """Which kinds it stands with where people choose one: see `explorer.services.runs.GROUPS`."""
        if self.labels:
            return "labels"
        if self.folder == "maps":
            return "map"
        return "anomaly" if self.needs_images or self.provides == "score" else "other"

    @property
    def builds_on(self) -> tuple[str, ...]:
        """Every kind of run that it may be told to build on."""
        return (*self.needs, *self.optional, *self.many)

    @property
    def builds_on_what(self) -> str:
        """What it builds on, in words: "a score run, or a map run where told"; "" for nothing."""
        words = [f"a {name} run" for name in self.needs]
        words += [f"several {name} runs" for name in self.many]
        words += [f"a {name} run where told" for name in self.optional]
        return self.on_what or ", or ".join(words)

    @property
    def is_of_subjects(self) -> bool:
        """Whether it works on images or on what runs have made of them: then it may be told which subjects."""
        return self.needs_images or bool(self.builds_on)

    def set_to(self, config: Any) -> Self:
        """The kind as it is with these settings."""
        return replace(self, **self.at(config)) if self.at else self


def kinds() -> dict[str, Kind]:
    """All kinds by name."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        kind = importlib.import_module(f"{__name__}.{module.name}").KIND
        found[kind.name] = kind
    return found


def learning() -> frozenset[str]:
    """Names of the kinds that learn from labels."""
    return frozenset(name for name, kind in kinds().items() if kind.labels)


def kind(name: str) -> Kind:
    """The kind called `name`, or a `UsageError` that lists them."""
    known = kinds()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(sorted(known))}"
        raise UsageError(f'there is no run kind "{name}"; {hint}')
    return known[name]


def kind_at(path: str) -> Kind:
    """The `Kind` at ``"module:NAME"``: one that lives outside this package."""
    module, _, name = path.partition(":")
    found = getattr(importlib.import_module(module), name, None)
    if not isinstance(found, Kind):
        raise UsageError(f"{path} is not a run kind; write it as module:NAME of a Kind")
    return found
