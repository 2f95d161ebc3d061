"""The demo survey: galaxies of the Hubble Deep Field image in the scikit-image wheel, scored by a checkpoint of ours.

Every step goes the ordinary way, and one that is done is not done again: started a second time, or after an
interruption, the demo goes on where it was.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from explorer import ASSETS
from explorer.errors import SurveyError
from explorer.ingest.cut_outs import create_cut_outs
from explorer.ingest.images import CreateOptions
from explorer.ledger import Ledger
from explorer.services import simulated
from explorer.services.campaigns import KIND as CAMPAIGN
from explorer.services.jobs import JobService
from explorer.services.simulated_grades import simulate_grades
from explorer.survey import SURVEY_TOML, Survey
from explorer.votes import CLASSIFICATIONS
from models.artifacts import CHECKPOINT, RUN_JSON, Run, fsync_directory, sha256_file, write_bytes
from models.progress import Progress

CREDIT = "NASA/STScI"
NAME = f"Hubble Deep Field (credit: {CREDIT})"
SELECTION = "Ten highest feature scores"
#: Quality gates of the selection: nothing cut off by the image's edge, next to nothing saturated, no missing pixels.
MAX_SATURATED = 0.01


def asset() -> Path:
    """The folder of the demo's training run.

    Raises
    ------
    SurveyError
        It is not there.
    """
    folder = ASSETS / "demo"
    if not (folder / RUN_JSON).exists():
        raise SurveyError(f"the demo's checkpoint is not in {folder}; `make assets` trains it")
    return folder


def image() -> Path:
    """The Hubble Deep Field in the installed scikit-image.

    Raises
    ------
    SurveyError
        scikit-image is not installed, or comes without the image.
    """
    found = importlib.util.find_spec("skimage")
    if found is None or found.origin is None:
        raise SurveyError("the demo's image comes with scikit-image, which is not installed; run make install")
    path = Path(found.origin).parent / "data" / "hubble_deep_field.jpg"
    if not path.exists():
        raise SurveyError(f"{path} is missing; install scikit-image again")
    return path


def create(folder: Path) -> Generator[Progress, None, dict[str, Any]] | None:
    """What makes the survey in `folder`, cut as the checkpoint's training images were; None where it is made already.

    Raises
    ------
    SurveyError
        `folder` is another survey.
    """
    cut = Run.read(asset() / RUN_JSON).preprocessing
    if not (folder / SURVEY_TOML).exists():
        return create_cut_outs(folder, [image()], CreateOptions(size=cut["size"], extent=cut["extent"], name=NAME))
    survey = Survey.open(folder)
    name, preprocessing = survey.info.name, survey.preprocessing
    survey.close()
    if name != NAME:
        raise SurveyError(f'{folder} is the survey "{name}", not the demo; give the demo another folder')
    if preprocessing != cut:
        raise SurveyError(f"{folder} was made for an older checkpoint of the demo; remove it, or give another folder")
    return None


def place_checkpoint(survey: Survey) -> str:
    """Put the demo's training run among the survey's runs, whole or not at all; return its run_id.

    Raises
    ------
    SurveyError
        The checkpoint is not the one that its run.json describes.
    """
    source = asset()
    run = Run.read(source / RUN_JSON)
    if not (source / CHECKPOINT).exists() or sha256_file(source / CHECKPOINT) != run.checkpoint_sha256:
        raise SurveyError(
            f"{source / CHECKPOINT} is not the file that its {RUN_JSON} describes (sha256 differs); "
            "get it again, or train it by `make assets`"
        )
    folder = survey.run_folder(run.run_id)
    if not (folder / RUN_JSON).exists():  # it makes the folder a run, so it comes last
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(p.relative_to(source) for p in source.rglob("*") if p.is_file()):
            if path.name != RUN_JSON:
                write_bytes(folder / path, (source / path).read_bytes())
        run.write(folder / RUN_JSON)
        fsync_directory(folder.parent)
    return run.run_id


def start_unless_done(jobs: JobService, kind: str, parents: Mapping[str, str], who: str) -> tuple[str, bool]:
    """The run of this kind on these parents, and whether it is done; else it is started, or gone on with."""
    known = [run for run in (*jobs.survey.runs(kind, None), *jobs.survey.maps(None)) if run.kind == kind]
    same = [run for run in known if all(run.inputs.get(name) == run_id for name, run_id in parents.items())]
    states = {run.run_id: jobs.job(run.run_id).state for run in same}
    for run_id, state in states.items():
        if state == "done":
            return run_id, True
    for run_id, state in states.items():
        if state in ("pending", "running"):
            return run_id, False
        if state == "interrupted":
            jobs.resume(run_id, who)
            return run_id, False
    return jobs.start(kind, {}, parents, who), False


def let_vote(survey: Survey) -> Generator[Progress, None, dict[str, Any]] | None:
    """What lets simulated volunteers vote on the demo's galaxies; None where there are votes already.

    What is worth choosing is measured on the pixels: `explorer.services.simulated.worth_by_morphology`.
    """
    if (survey.path / CLASSIFICATIONS).exists():
        return None
    return _vote(survey)


def let_grade(survey: Survey, ledger: Ledger, who: str) -> Generator[Progress, None, dict[str, Any]] | None:
    """What lets simulated experts grade some of the demo's galaxies; None where they have. See `let_vote`."""
    if any(entry.payload.get("source", {}).get("is_simulated") for entry in ledger.entries(CAMPAIGN)):
        return None
    return _grade(survey, ledger, who)


def _grade(survey: Survey, ledger: Ledger, who: str) -> Generator[Progress, None, dict[str, Any]]:
    worth = yield from simulated.worth_by_morphology(survey)
    return simulate_grades(survey, ledger, worth, who)


def _vote(survey: Survey) -> Generator[Progress, None, dict[str, Any]]:
    worth = yield from simulated.worth_by_morphology(survey)
    return simulated.simulate(survey, worth, mix=True)  # own votes are another workflow's


def highest(survey: Survey, run_id: str, n: int = 10) -> np.ndarray:
    """Rows (int64) of the `n` highest feature scores after the quality gates, highest first, one a duplicate group."""
    scores = survey.scores(run_id)
    feature = scores["feature_score"]
    good = np.isfinite(feature) & (scores["quality"] == "ok")
    good &= survey.column("edge_fraction") == 0
    good &= survey.column("saturated_fraction") <= MAX_SATURATED
    good &= survey.column("nan_fraction") == 0
    rows = np.flatnonzero(good)
    rows = rows[np.argsort(-feature[rows], kind="stable")]
    groups = survey.column("duplicate_group")[rows]
    first = np.unique(groups, return_index=True)[1]
    return rows[np.sort(first)][:n]
