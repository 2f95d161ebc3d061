"""Linked trainings: one for each λ and seed, each scored with its λ, then ranked together.

With several seeds, the runs of each λ are ranked together first: what changes from seed to seed is noise. What changes
from λ to λ is meant to, so a ranking over all runs, which comes last, mixes the two and says of what it is.

What a series is made of stands in the ledger; its runs carry its id. So it is gone on with from any process, and what
is done is not done again.
"""

import itertools
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from explorer.errors import UsageError
from explorer.kinds import kind
from explorer.ledger import Ledger
from explorer.services.jobs import Job, JobService, checked_config
from models.artifacts import Run

MOST = 100  # trainings


@dataclass(frozen=True, slots=True)
class Series:
    """What a series is made of.

    Attributes
    ----------
    config, parents
        Settings of every training besides λ and seed, and the run that all take generator and critic over from, if any.
    feature_weights, seeds
        λ and seeds: one training for each pair.
    selection
        The name of what the trainings are of, as `JobService.start` takes it.
    everything
        Of the whole survey, whatever the parent is of.
    """

    series_id: str
    config: Mapping[str, Any]
    parents: Sequence[str]
    feature_weights: Sequence[float]
    seeds: Sequence[int]
    selection: str | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A run that has been started or taken up again, and where in the series it is: "training 3 of 12, λ = 0.5"."""

    run_id: str
    heading: str


def plan(
    service: JobService,
    config: Mapping[str, Any],
    parents: Sequence[str],
    feature_weights: Sequence[float],
    n_seeds: int,
    who: str,
    selection: str | None = None,
    everything: bool = False,
) -> Series:
    """Write a new series into the ledger; `steps` runs it.

    Parameters
    ----------
    config
        Settings of the trainings that differ from the defaults. The first seed is its ``seed``.

    Raises
    ------
    UsageError
        No training or more than `MOST`, a λ twice, several seeds of one parent, or a setting that is wrong.
    """
    if n_seeds < 1:
        raise UsageError(f"--seeds is {n_seeds:,}; it must be at least 1")
    n_weights = len(feature_weights)
    if (n := n_weights * n_seeds) > MOST:
        raise UsageError(f"{n_weights} λ with {n_seeds:,} seeds are {n:,} trainings; a series has {MOST} at most")
    if len(set(feature_weights)) < n_weights:
        raise UsageError("λ has a value twice; write each once")
    if parents and n_seeds > 1:
        raise UsageError("the networks of --parent have one seed; leave out --parent or --seeds")
    train = kind("train")
    first = checked_config(train, config).seed
    seeds = range(first, first + n_seeds)
    for weight, seed in itertools.product(feature_weights, seeds):
        checked_config(train, {**config, "feature_weight": weight, "seed": seed})
    known = planned(service.ledger)
    stem = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-series"
    names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    series_id = next(name for name in names if name not in known)
    made = Series(series_id, dict(config), list(parents), list(feature_weights), list(seeds), selection, everything)
    service.ledger.append("series", asdict(made), who=who)
    return made


def planned(ledger: Ledger) -> dict[str, Series]:
    """Every series by its id, the oldest first."""
    return {entry.payload["series_id"]: Series(**entry.payload) for entry in ledger.entries("series")}


def lambdas_of(series: Series) -> str:
    """``0, 0.2, 0.5``."""
    return ", ".join(f"{weight:g}" for weight in series.feature_weights)


def seeds_of(series: Series) -> str:
    """``1234`` or ``1234 to 1236``."""
    return " to ".join(str(seed) for seed in sorted({series.seeds[0], series.seeds[-1]}))


def state_of(linked: Sequence[Job]) -> str:
    """The state of a series: that of its newest run that is not done.

    Where all are, it was interrupted between two of them, unless the last has been: the ranking of all that are scored.
    """
    n_scored = sum(job.kind == "score" for job in linked)
    is_ranked = any(job.results.get("n_runs") == n_scored for job in linked if job.kind == "ranks")
    return next((job.state for job in linked if job.state != "done"), "done" if is_ranked else "interrupted")


def runs_of(service: JobService, series: Series) -> list[Run]:
    """The runs of a series in any state, newest first."""
    return [run for run in service.survey.runs(state=None) if run.series == series.series_id]


def steps(service: JobService, series: Series, who: str) -> Generator[Step, None, None]:
    """Start or take up again, one after another, the runs of a series that are not done.

    Whoever asks for the next step has waited until the run of the last one is over. A training that has failed is left
    out of the ranking. With the weights of one seed's first training the others of that seed train their encoder only.
    """
    pairs = list(itertools.product(series.seeds, series.feature_weights))
    trained: dict[int, str] = {}
    scored: dict[float, list[str]] = {weight: [] for weight in series.feature_weights}
    for i, (seed, weight) in enumerate(pairs, 1):
        heading = f"{i} of {len(pairs)}, λ = {weight:g}, seed {seed}"
        config = {**series.config, "seed": seed, "feature_weight": weight}
        parents = series.parents or ([trained[seed]] if seed in trained else [])
        run_id = yield from _brought_to_its_end(service, series, f"training {heading}", "train", config, parents, who)
        if run_id is None:
            continue
        trained.setdefault(seed, run_id)
        config = {name: value for name, value in config.items() if name in ("feature_weight", "device")}
        run_id = yield from _brought_to_its_end(service, series, f"scoring {heading}", "score", config, [run_id], who)
        scored[weight] += [run_id] if run_id else []
    rankings = [(f"comparing ranks over seeds, λ = {weight:g}", of_weight) for weight, of_weight in scored.items()]
    if len(rankings) == 1 or len(series.seeds) == 1:
        rankings = []
    rankings.append(("comparing ranks of all runs", list(itertools.chain(*scored.values()))))
    for heading, of_runs in rankings:
        if len(of_runs) > 1:
            yield from _brought_to_its_end(service, series, heading, "ranks", {}, of_runs, who)


def _brought_to_its_end(
    service: JobService,
    series: Series,
    heading: str,
    kind_name: str,
    config: Mapping[str, Any],
    parents: Sequence[str],
    who: str,
) -> Generator[Step, None, str | None]:
    """The id of the series' run of this kind, settings and parents; None where it does not end well.

    A training counts whatever its parent: another one may have been the first to be done of its seed.
    """

    begun = [
        run.run_id
        for run in runs_of(service, series)
        if run.kind == kind_name
        and config.items() <= run.config.items()
        and (kind_name == "train" or set(parents) == {run.inputs[name] for name in run.inputs.keys() - {"subject_ids"}})
    ]
    if not begun:
        # what builds on a training is of the same subjects
        of = (series.selection, series.everything) if kind_name == "train" else (None, False)
        run_id = service.start(kind_name, config, parents, who, series.series_id, *of)
    elif service.job(run_id := begun[0]).state != "done":
        service.resume(run_id, who)
    else:
        return run_id
    yield Step(run_id, heading)
    return run_id if service.job(run_id).state == "done" else None
