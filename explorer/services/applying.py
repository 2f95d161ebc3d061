"""A boundary applied to a survey that it was not tuned in: the same network, the same map, and what drifted.

The steps, each of which a script can take: `brought` reads the boundary; `refuse` says what cannot be applied anywhere
else; `found_run` looks for a run of the same network here, and where there is none `adopt` brings the training over,
with which the ordinary job scores this survey (`scoring`); `found_map` and `place_on` do the same for the map; `apply`
says whom it keeps, who is a stranger and what drifted; `keep` writes that into the ledger.

An adopted training is a copy of its folder whose ``run.json`` says where it is from (``inputs.adopted_from``: the
survey's id). A map on which subjects were placed has no layout of its own; its ``map.json`` names the one it has
(``inputs.placed_on``: sha256 of those coordinates), so regions mean the same on both.
"""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import pyarrow as pa

from explorer import code_version
from explorer.errors import UsageError, VoorwerpError
from explorer.ingest.decoder import n_cores
from explorer.kinds import kind
from explorer.services import boundaries as service
from explorer.services.boundaries import BEYOND, PLACED_ON, BoundaryFile, Context, Saved
from explorer.services.desk import Desk
from explorer.services.export import FORMULA
from explorer.state import Draft
from models import artifacts, boundary
from models.artifacts import COORDINATES_SCHEMA, LATENTS, MAP_JSON, RUN_JSON, Run
from models.boundary import Gate, Term, leaves, replaced
from models.drift import Shift, difference, distances, effective, shift, unpacked
from models.embedding import (
    KNN_DISTANCES,
    OFF_MAP,
    PLACING,
    SHARD,
    finished,
    percentiles,
    place,
    quality,
)
from models.embedding import share as share_file
from models.progress import Progress
from models.rates import Rate, share

#: Among a run's inputs: the id of the survey that it was trained in.
ADOPTED_FROM = "adopted_from"
#: What of a run's folder is of the process that made it.
OF_PROCESS = ("lock", "cancel", artifacts.RESUME, "parts", artifacts.SUBJECTS)


class RefusedError(VoorwerpError):
    """A boundary that cannot be applied here: one sentence."""


# ------------------------------------------------------------------------------------------------------- the boundary
def brought(desk: Desk, what: str, tuned: Desk | None = None, version: int | None = None) -> BoundaryFile:
    """The boundary to apply: a file's, or by its name one of the tuning survey's, or, without that, of this one's own.

    Raises
    ------
    UsageError
        There is no such file and no such boundary, or the file is none.
    """
    path = Path(what)
    if path.is_file():
        if version is not None:
            raise UsageError("a file has one version; leave out --version")
        return service.from_file(path.read_bytes())
    of = (tuned or desk).boundaries
    if what not in of.names():
        hint = "" if tuned else "; give its file, or --from the survey that it is in"
        known = ", ".join(f"“{name}”" for name in of.names()) or "none"
        raise UsageError(
            f"there is no file {what}, and no boundary “{what}” in {of.survey.path} (there: {known}){hint}"
        )
    return service.from_file(of.to_file(of.get(what, version)))


def refuse(desk: Desk, file: BoundaryFile, is_by_percentile: bool = False) -> None:
    """Refuse what can be applied nowhere else (science rule 20).

    Raises
    ------
    RefusedError
        It has gates on what people said; or its scores mean nothing elsewhere, being no network's, or standardised by
        each survey's own median and spread.
    """
    said = dict.fromkeys((*file.from_people, *desk.boundaries.from_people(file.keep)))
    if said:
        names = " and ".join(said)
        raise RefusedError(
            f"“{file.name}” is not deployable: it limits {names}, which people said of the subjects of "
            f"“{file.survey}”, and nobody has looked at these; take that gate out, or "
            "teach a classifier the same and use it instead"
        )
    is_own = file.survey_id == desk.explore.survey.info.survey_id
    if needs_run(file) and not file.run.get("checkpoint_sha256") and not is_own:
        raise RefusedError(
            f"“{file.name}” is not deployable: {file.run.get('run_id') or 'its run'} has no network behind it but "
            f"scores of “{file.survey}”'s own making (a detector fitted there, or imported), which mean nothing "
            "elsewhere"
        )
    is_mixed = any(c == "scores.anomaly_score" for c in boundary.columns(file.keep))
    if is_mixed and file.context.mode == "standardised" and not is_by_percentile and not is_own:
        raise RefusedError(
            f"“{file.name}” limits the standardised anomaly score, whose zero and unit are each survey's own median "
            "and spread; limit image or feature score instead, or the raw mix, or apply it with --percentiles"
        )


def by_percentile(desk: Desk, file: BoundaryFile, context: Context) -> tuple[Term, list[str]]:
    """The boundary with each limit at the value that has the same percentile here, and a sentence for each.

    Regions and classifiers stay as they are.

    Raises
    ------
    UsageError
        A column has no values here, or the file does not tell a percentile.
    """
    told = {(tuple(one.get("path", ())), one.get("limit")): one for one in file.thresholds}
    keep, said = file.keep, []
    for path, leaf in leaves(file.keep):
        if not isinstance(leaf, Gate):
            continue
        moved: dict[str, Any] = {}
        for limit in ("low", "high"):
            raw = getattr(leaf, limit)
            if raw is None:
                continue
            percentile = told.get((path, limit), {}).get("percentile")
            if isinstance(percentile, bool) or not isinstance(percentile, int | float) or not 0 <= percentile <= 100:
                raise UsageError(
                    f"the file does not say which percentile {raw:g} of {leaf.column} was; apply it as it is"
                )
            value = desk.boundaries.value_at(leaf.column, percentile, context)
            moved |= {limit: value, f"{limit}_percentile": percentile}
            said.append(f"{leaf.column}: {raw:.6g} was percentile {percentile:.4g}, which is {value:.6g} here")
        if moved:
            keep = replaced(keep, path, replace(leaf, **moved))
    return keep, said


# ---------------------------------------------------------------------------------------------------------- the network
def needs_run(file: BoundaryFile) -> bool:
    """Whether it looks at scores or latent vectors, or at a map, which is made of those."""
    return bool(file.classifiers) or any(c.startswith(("scores.", "maps.")) for c in boundary.columns(file.keep))


def needs_map(file: BoundaryFile) -> bool:
    """Whether it looks at a map."""
    return any(c.startswith("maps.") for c in boundary.columns(file.keep))


def found_run(desk: Desk, file: BoundaryFile, asked: str | None = None) -> str:
    """The run to apply it by: the one asked for, or the newest that is of the same network; "" for none.

    Raises
    ------
    UsageError
        The run asked for is not there.
    RefusedError
        It is of another network.
    """
    runs = desk.explore.runs()
    if asked is not None and asked not in runs:
        raise UsageError(f'there is no finished run "{asked}"; there are: {", ".join(runs) or "none"}')
    if not file.run:
        return asked or ""
    if asked is not None:
        if why := _unlike(desk, file, runs[asked]):
            raise RefusedError(f"{asked} cannot stand for the run of “{file.name}”: {why}")
        return asked
    return next((run_id for run_id, run in runs.items() if not _unlike(desk, file, run)), "")


def _unlike(desk: Desk, file: BoundaryFile, run: Run) -> str:
    """Why a run is not of a file's network; "" where it is."""
    theirs, ours = file.run.get("checkpoint_sha256"), desk.boundaries.checkpoint(run)
    if file.survey_id == desk.explore.survey.info.survey_id and file.run.get("run_id") == run.run_id:
        return ""
    if not theirs or theirs != ours:
        return f"its checkpoint is {str(ours)[:8]}, that of “{file.survey}” {str(theirs)[:8]}"
    if words := unlike_images(file.run.get("preprocessing"), run.preprocessing):
        return words
    there, here = file.run.get("settings"), service.settings_of(run)
    both = (there if isinstance(there, dict) else {}).keys() & here.keys()
    words = ", ".join(f"{n.replace('_', ' ')} {file.run['settings'][n]}, here {here[n]}" for n in both)
    return f"its settings differ ({words})" if any(file.run["settings"][n] != here[n] for n in both) else ""


def unlike_images(theirs: object, ours: Mapping[str, Any]) -> str:
    """What of the preparation of images differs, in words; "" for nothing."""
    if not isinstance(theirs, Mapping):
        return "the file does not say how its images were prepared"
    names = [n for n in dict.fromkeys((*theirs, *ours)) if theirs.get(n) != ours.get(n)]
    words = "; ".join(f"{n} {theirs.get(n)} there, {ours.get(n)} here" for n in names)
    return f"its images were prepared otherwise ({words})" if names else ""


def adopt(desk: Desk, tuned: Desk, file: BoundaryFile, who: str) -> str:
    """Bring the training that a boundary's scores are of over from the survey that has it; its run id here.

    Raises
    ------
    RefusedError
        There is none, it is another, or its images were prepared otherwise than this survey's.
    """
    here, there = desk.explore.survey, tuned.explore.survey
    if there.info.survey_id != file.survey_id:
        raise RefusedError(
            f"“{file.name}” is of the survey {file.survey_id}, and {there.path} is {there.info.survey_id}"
        )
    scored = tuned.explore.runs().get(str(file.run.get("run_id")))
    trained = {run.run_id: run for run in there.runs("train")}
    source = trained.get(scored.inputs.get("train", "")) if scored is not None else None
    if scored is None or source is None or not source.checkpoint_sha256:
        raise RefusedError(
            f"{there.path} has no training behind {file.run.get('run_id')}, so these subjects cannot be scored alike; "
            "detectors and imported scores mean nothing elsewhere"
        )
    if source.checkpoint_sha256 != file.run.get("checkpoint_sha256"):
        raise RefusedError(f"the network behind {scored.run_id} in {there.path} is another than that of “{file.name}”")
    if words := unlike_images(source.preprocessing, here.preprocessing):
        raise RefusedError(
            f"the network of “{file.survey}” does not fit this survey: {words}; create the survey anew with its "
            "settings"
        )
    if not here.has_images:
        raise RefusedError(f"{here.path} has no images, so no network can score it")
    for run in here.runs("train"):
        if run.checkpoint_sha256 == source.checkpoint_sha256:
            return run.run_id
    folder, name = there.run_folder(source.run_id), source.run_id
    if artifacts.sha256_file(folder / artifacts.CHECKPOINT) != source.checkpoint_sha256:
        raise RefusedError(f"{folder / artifacts.CHECKPOINT} is not the file that its run describes; it is damaged")
    while here.run_folder(name).exists():
        name += "-adopted"
    (here.path / "runs").mkdir(exist_ok=True)
    with artifacts.replacing_folder(here.run_folder(name)) as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*OF_PROCESS))
        adopted = {"survey_id": file.survey_id, "survey": file.survey, "run_id": source.run_id, "at": artifacts.now()}
        inputs = source.inputs | {ADOPTED_FROM: file.survey_id}
        inputs.pop("subject_ids", None)  # of other subjects
        about = replace(source, run_id=name, inputs=inputs, results=source.results | {"adopted": adopted})
        replace(about, selection=None).write(copy / RUN_JSON)  # what builds on it is of this survey
    desk.ledger.append("adopt", adopted, who=who, run_id=name)
    return name


def scoring(desk: Desk, tuned: Desk, file: BoundaryFile, train_id: str, who: str) -> str:
    """Start the job that scores this survey with an adopted training, as the tuning survey was scored; its run id.

    Raises
    ------
    VoorwerpError
        It cannot be started.
    """
    run, scores = tuned.explore.runs()[str(file.run["run_id"])], kind("score")
    known = {one.name for one in fields(scores.config)}
    config = {name: value for name, value in {**scores.before, **run.config}.items() if name in known}
    # the machine may be another; how exact it was shall not be
    config |= {"device": "cpu" if config.get("device") == "cpu" else "auto"}
    config |= {"precision": run.results.get("precision", "float32")}
    return desk.jobs.start("score", config, {"train": train_id}, who)


# -------------------------------------------------------------------------------------------------------------- the map
def found_map(desk: Desk, file: BoundaryFile, run_id: str) -> str:
    """A map of a run's subjects on which places mean what they mean in the file; "" for none."""
    if not file.map:
        return ""
    maps = desk.explore.maps()
    placed = [name for name, run in maps.items() if run.inputs.get(PLACED_ON) == file.map.get("coordinates_sha256")]
    own = [file.context.map_id] if file.survey_id == desk.explore.survey.info.survey_id else []
    for name in (*placed, *own):
        if name in maps and (name in own or maps[name].inputs.get("score") == run_id):
            return name
    return ""


def place_on(desk: Desk, tuned: Desk, file: BoundaryFile, run_id: str) -> Generator[Progress, None, str]:
    """Place the subjects of a run on the tuning survey's map by their latent vectors, as a map run here; its id.

    Raises
    ------
    RefusedError
        The map is not there any more, or another.
    ArtifactError
        What placing takes is missing.
    """
    here, there = desk.explore.survey, tuned.explore.survey
    map_id = str(file.map.get("map_id"))
    onto = tuned.explore.maps().get(map_id)
    if onto is None:
        raise RefusedError(f"{there.path} has no map {map_id} any more, on which the regions of “{file.name}” lie")
    folder = there.map_folder(map_id)
    if artifacts.sha256_file(folder / artifacts.COORDINATES) != file.map.get("coordinates_sha256"):
        raise RefusedError(f"the map {map_id} of {there.path} is another than the one “{file.name}” was drawn on")
    scored = there.run_folder(str(file.run.get("run_id") or onto.inputs.get("score")))
    threads = n_cores()
    base = yield from finished(folder, scored, threads)
    is_fitted = ~base.is_placed
    reference, places, own = (
        np.asarray(base.latents[is_fitted]),
        base.coordinates[is_fitted],
        base.knn_distance[is_fitted],
    )
    latents, rows = here.latents(run_id)
    coordinates, knn = np.full((len(rows), 3), np.nan, np.float32), np.full(len(rows), np.nan, np.float32)
    for start in range(0, len(rows), SHARD):
        yield Progress(start, len(rows), "placing subjects on the map")
        block = slice(start, start + SHARD)
        coordinates[block], knn[block] = place(reference, places, np.asarray(latents[block]), base.k, threads)
    has = np.isfinite(coordinates).all(axis=1)
    if not has.any():
        raise RefusedError(f"no subject of {run_id} has a latent vector, so none has a place on the map")
    yield Progress(len(rows), len(rows), "measuring the map's quality")
    placed, ids = coordinates[has], here.subject_ids[rows[has]]
    percentile = percentiles(own, knn[has])
    columns = [ids, *placed.T, np.ones(len(ids), bool), percentile, percentile > OFF_MAP]
    names = [*COORDINATES_SCHEMA.names, "is_placed", "knn_percentile", "is_off_map"]
    results = {
        "n_subjects": len(ids),
        "n_left_out": int((~has).sum()),
        "n_neighbors": base.k + 1,
        "threads": threads,
        "is_reproducible": base.is_reproducible,
        "n_fitted": 0,
        "n_placed": len(ids),
        "n_off_map": int((percentile > OFF_MAP).sum()),
        "adopted": {"survey_id": file.survey_id, "survey": file.survey, "map_id": map_id},
    }
    if len(ids) > 3:
        results |= quality(np.asarray(latents[has]), placed)
    (here.path / "maps").mkdir(exist_ok=True)
    name = first = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-map"
    for n in range(2, 1000):
        if not here.map_folder(name).exists():
            break
        name = f"{first}-{n}"
    run = Run(
        run_id=name,
        kind="map",
        code_version=code_version(),
        config=onto.config,
        seed=onto.seed,
        state="done",
        finished_at=artifacts.now(),
        preprocessing=dict(here.preprocessing),
        inputs={"score": run_id, PLACED_ON: str(file.map["coordinates_sha256"]), ADOPTED_FROM: file.survey_id},
        n_rows=len(ids),
        results=results,
    )
    with artifacts.replacing_folder(here.map_folder(name)) as made:
        artifacts.write_table(made / artifacts.COORDINATES, pa.table(columns, names))
        if has.all():
            share_file(here.run_folder(run_id) / LATENTS, made / LATENTS)
        else:
            artifacts.write_array(made / LATENTS, np.asarray(latents[has]))
        artifacts.write_array(made / KNN_DISTANCES, knn[has])
        quantiles = {str(q): float(np.quantile(own, q)) for q in (0.5, 0.9, 0.95, 0.99, 0.999)}
        artifacts.write_json(made / PLACING, {"k": base.k, "knn_distance_quantiles": quantiles})
        run.write(made / MAP_JSON)
    return name


def lacking(file: BoundaryFile, run_id: str, map_id: str, here: Path) -> str:
    """What to do where no run or map here is that of the file; "" where nothing is missing."""
    again = f"`voorwerp boundary apply {here} … --from TUNING_SURVEY`"
    if needs_run(file) and not run_id:
        return (
            f"{here} has no run of the network that “{file.name}” was tuned with (checkpoint "
            f"{str(file.run.get('checkpoint_sha256'))[:8]}, of the survey “{file.survey}”); {again} brings that "
            "network over and scores this survey with it"
        )
    if needs_map(file) and not map_id:
        return (
            f"the regions of “{file.name}” lie on the map {file.map.get('map_id')} of the survey “{file.survey}”, and "
            f"these subjects have no places on it; {again} places them"
        )
    return ""


# ----------------------------------------------------------------------------------------------------------- the answer
@dataclass(frozen=True, slots=True, eq=False)
class Applied:
    """Whom a boundary keeps here, and what is not as it was where it was tuned.

    Attributes
    ----------
    keep
        As it was applied: with `--percentiles` not the file's.
    yes, unknown, considered, stranger
        bool (N,). Considered are all subjects but known objects, withdrawn and planted ones, who are left out.
    distance
        float32 (N,): mean distance to the nearest of the tuning survey's sample; NaN without a latent vector.
    limit
        The tuning survey's 99.9 % point of that; None where it is not known.
    shifts
        What drifted: (reference, title, `Shift`), the greatest distance first.
    tuned, kept
        Kept fractions there (tune half) and here (considered; strangers count by what the boundary says of them).
    tuned_weighted, kept_weighted
        By inclusion probability; None where nobody was drawn with a known one.
    notes
        What must be said beside.
    """

    file: BoundaryFile
    context: Context
    keep: Term
    yes: np.ndarray = field(repr=False)
    unknown: np.ndarray = field(repr=False)
    considered: np.ndarray = field(repr=False)
    stranger: np.ndarray = field(repr=False)
    distance: np.ndarray = field(repr=False)
    limit: float | None
    shifts: Sequence[tuple[str, str, Shift]]
    tuned: Rate
    kept: Rate
    tuned_weighted: Rate | None
    kept_weighted: Rate | None
    notes: tuple[str, ...]

    def rows(self, with_strangers: bool = False) -> np.ndarray:
        """Rows of the kept, without strangers unless asked for."""
        return np.flatnonzero(self.yes if with_strangers else self.yes & ~self.stranger)

    @property
    def strangers(self) -> Rate:
        """Of the considered with a latent vector; in the tuning survey it was 0.1 %."""
        known = self.considered & np.isfinite(self.distance)
        return share(int(self.stranger.sum()), int(known.sum()), empty="nobody has a latent vector to compare")

    @property
    def is_kept_otherwise(self) -> str:
        """The kept fractions, there and here, in one sentence."""
        weighted = self.tuned_weighted is not None and self.kept_weighted is not None
        a = self.tuned_weighted if weighted and self.tuned_weighted else self.tuned
        b = self.kept_weighted if weighted and self.kept_weighted else self.kept
        found = difference(a, b)
        if found is None:
            return "the kept fractions cannot be compared"
        d, low, high = found
        by = "by weight, " if weighted else ""
        words = f"{by}{100 * d:+.2f} percentage points [{100 * low:+.2f}, {100 * high:+.2f}]"
        if low <= 0 <= high:
            return f"the kept fraction is not shown to differ from the tuning survey's: {words}"
        return f"{'more' if d > 0 else 'less'} is kept than in the tuning survey: {words}"


def apply(desk: Desk, file: BoundaryFile, context: Context, is_by_percentile: bool = False) -> Applied:
    """Apply a boundary to this survey. Its classifiers are stored here from now on.

    Parameters
    ----------
    context
        The run and map here that are the file's; λ and its mode are the file's own.
    is_by_percentile
        Set each limit to the value of the same percentile here, in place of the raw value (science rule 20).

    Raises
    ------
    RefusedError
        It is not deployable, or something that it needs is not here.
    """
    refuse(desk, file, is_by_percentile)
    if why := lacking(file, context.run_id, context.map_id, desk.explore.survey.path):
        raise RefusedError(why)
    for classifier in file.classifiers.values():
        desk.learning.add(classifier.to_json())
    if problems := desk.boundaries.lacks(file, context):
        more = f" (and {len(problems) - 1} more: {'; '.join(problems[1:])})" if len(problems) > 1 else ""
        raise RefusedError(f"“{file.name}” cannot be applied here: {problems[0]}{more}")
    keep, notes = by_percentile(desk, file, context) if is_by_percentile else (file.keep, [])
    if is_by_percentile:
        notes = [f"limits were set anew by percentile: {line}" for line in notes] or [
            "no limit had a percentile to set"
        ]
    survey = desk.explore.survey
    considered = ~survey.planted()
    for name in ("is_known", "is_withdrawn"):
        codes, labels = survey.category(name)
        if "true" in labels:
            considered &= codes != labels.index("true")
    found = desk.boundaries.kept(keep, context)
    yes, unknown = found.yes & considered, found.unknown & considered
    distance, limit, about = _distances(desk, file, context)
    notes += about
    stranger = np.zeros(survey.n, np.bool_) if limit is None else considered & (distance > limit)
    shifts, about = _shifts(desk, file, context, considered)
    told = file.kept
    chance = survey.column("inclusion_probability")
    drawn = considered & (chance > 0)
    part, of = told.get("weighted_share"), told.get("weighted_n")
    return Applied(
        file=file,
        context=context,
        keep=keep,
        yes=yes,
        unknown=unknown,
        considered=considered,
        stranger=stranger,
        distance=distance,
        limit=limit,
        shifts=shifts,
        tuned=_told(told.get("yes"), told.get("n")),
        kept=share(int(yes.sum()), int(considered.sum()), empty="no subject is left to apply it to"),
        tuned_weighted=_told(part * of, of) if _is_number(part) and _is_number(of) else None,
        kept_weighted=effective(1 / chance[drawn], yes[drawn]) if drawn.any() else None,
        notes=(*notes, *about),
    )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _told(k: Any, n: Any) -> Rate:
    if not _is_number(k) or not _is_number(n) or not 0 <= k <= n:
        return share(0, 0, empty="the file does not say it")
    return share(k, n)


def _distances(desk: Desk, file: BoundaryFile, context: Context) -> tuple[np.ndarray, float | None, list[str]]:
    """How far each subject is from the tuning survey's sample, float32 (N,), and from where on it is a stranger."""
    survey, told = desk.explore.survey, file.drift.get("latents")
    far = np.full(survey.n, np.nan, np.float32)
    if not told or not context.run_id:
        return far, None, ["the file has no latent vectors, so nobody can be told to be a stranger"]
    if not (survey.run_folder(context.run_id) / LATENTS).exists():
        return far, None, [f"{context.run_id} has no latent vectors, so nobody can be told to be a stranger"]
    latents, rows = survey.latents(context.run_id)
    if latents.shape[1] != told["size"]:
        return far, None, [f"latent vectors have {told['size']} numbers there and {latents.shape[1]} here"]
    far[rows] = distances(unpacked(told), latents, told["k"], n_cores())
    notes = []
    if told["n"] < 1000:
        notes.append(
            f"the 99.9 % point of distances is of {told['n']:,} subjects, so about the greatest of them: strangers are "
            "told roughly"
        )
    return far, float(told["percentiles"][f"{BEYOND:g}"]), notes


def _shifts(
    desk: Desk, file: BoundaryFile, context: Context, considered: np.ndarray
) -> tuple[list[tuple[str, str, Shift]], list[str]]:
    """How each score and limited column is shifted; not places on a map: who is placed lies between those laid out."""
    source, titles = desk.boundaries.source(context), desk.explore.colors(context.run_id, context.map_id)
    found, notes = [], []
    for name, told in file.drift["columns"].items():
        if name.startswith("maps."):
            continue
        is_classifier = "." not in name
        if not is_classifier and name.startswith("scores.") and not context.run_id:
            continue
        try:
            values = source.balanced(name) if is_classifier else source.column(name)
        except VoorwerpError as error:
            notes.append(f"{name} is not compared: {error}")
            continue
        there = told["all"]
        one = shift(np.array(there["quantiles"]), there["n"], values[considered])
        title = (
            f"classifier {name[:8]}" if is_classifier else titles.get(name) or name.partition(".")[2].replace("_", " ")
        )
        found.append((name, title, one))
    found.sort(key=lambda one: -(one[2].distance or 0.0))
    return found, notes


# --------------------------------------------------------------------------------------------------------- what is kept
def keep(
    desk: Desk, applied: Applied, who: str, name: str = "", with_strangers: bool = False
) -> tuple[Saved | None, dict[str, int]]:
    """Write it into the ledger: the boundary as a version here, its strangers and its kept as selections.

    Returns
    -------
    saved, selections
        The version (None where the boundary is this survey's own), and the number of subjects by selection, strangers
        first.

    Raises
    ------
    UsageError
        There is another boundary of that name.
    """
    file, survey = applied.file, desk.explore.survey
    name = name or file.name
    saved = None
    is_own = file.survey_id == survey.info.survey_id and applied.keep == file.keep
    if not is_own:
        if name in desk.boundaries.names():
            last = desk.boundaries.get(name)
            if last.keep != applied.keep:
                raise UsageError(f"there is another boundary “{name}” in {survey.path}; give this one a --name")
            saved = last if last.context == applied.context else None
        if saved is None:
            note = f"“{file.name}”, version {file.version}, of the survey “{file.survey}” ({file.survey_id})"
            if applied.keep != file.keep:
                note += "; its limits set anew by percentile"
            draft = Draft(applied.keep, file.truth)
            saved = desk.boundaries.save(name, draft, applied.context, who, note=note[: service.MAX_NOTE])
    selections = {}
    # those who were seen first are offered first
    for title, rows in (
        (f"{name} applied: strangers", np.flatnonzero(applied.stranger)),
        (f"{name} applied", applied.rows(with_strangers)),
    ):
        desk.ledger.save_selection(title, rows, survey.subject_ids, who=who)
        selections[title] = len(rows)
    return saved, selections


def as_json(applied: Applied, with_strangers: bool = False) -> dict[str, Any]:
    """All of it that is no list of subjects."""
    file = applied.file
    return {
        "boundary": {"name": file.name, "version": file.version, "survey_id": file.survey_id, "survey": file.survey},
        "context": applied.context.to_json(),
        "keep": boundary.to_json(applied.keep),
        "is_by_percentile": applied.keep != file.keep,
        "n_kept": len(applied.rows(with_strangers)),
        "with_strangers": with_strangers,
        "n_unknown": int(applied.unknown.sum()),
        "n_considered": int(applied.considered.sum()),
        "n_left_out": int((~applied.considered).sum()),
        "strangers": applied.strangers.to_json()
        | {"limit": applied.limit, "within": int((applied.stranger & applied.yes).sum())},
        "kept": {
            "tuned": applied.tuned.to_json(),
            "here": applied.kept.to_json(),
            "tuned_weighted": applied.tuned_weighted and applied.tuned_weighted.to_json(),
            "here_weighted": applied.kept_weighted and applied.kept_weighted.to_json(),
            "sentence": applied.is_kept_otherwise,
        },
        "drift": [
            {
                "reference": name,
                "title": title,
                "distance": one.distance,
                "p": one.p,
                "n_tuned": one.n_tuned,
                "n": one.n,
            }
            for name, title, one in applied.shifts
        ],
        "notes": list(applied.notes),
        "code_version": code_version(),
    }


def as_csv(desk: Desk, applied: Applied) -> str:
    """A line for each stranger, the farthest first, then for each kept subject in row order."""
    survey, out = desk.explore.survey, io.StringIO()
    strangers = np.flatnonzero(applied.stranger)
    rows = np.concatenate([strangers[np.argsort(-applied.distance[strangers], kind="stable")], applied.rows()])
    places = survey.placing(applied.context.map_id) if applied.context.map_id else {}
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["source_id", "subject_id", "is_stranger", "is_kept", "latent_distance", "knn_percentile"])
    on_map = places.get("knn_percentile", np.full(survey.n, np.nan))
    for row, source_id in zip(rows.tolist(), survey.source_ids(rows), strict=True):
        marks = [str(bool(mask[row])).lower() for mask in (applied.stranger, applied.yes)]
        numbers = ["" if np.isnan(v) else f"{v:.6g}" for v in (applied.distance[row], on_map[row])]
        writer.writerow([re.sub(FORMULA, r"'\1", source_id), str(survey.subject_ids[row]), *marks, *numbers])
    return out.getvalue()
