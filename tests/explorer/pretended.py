"""Kinds ``train`` and ``score`` that pretend: the settings of the real ones, ranks from a random generator, no torch.

A file ``fail-0.5-1235`` in the survey's folder makes the training with λ = 0.5 and seed 1235 fail; so ``cancel-…`` and
``interrupt-…``; ``collapse-…`` gives it a verdict.
"""

from collections.abc import Generator
from typing import Any

import numpy as np

from explorer.kinds import Kind
from explorer.kinds.score import ScoreConfig
from explorer.kinds.train import TrainConfig
from models.artifacts import ArtifactError, Run, Workspace, write_scores
from models.progress import Progress

N_TRAIN = 36  # images, where not fewer are asked for
COLLAPSE = "the generator makes one image for every z (collapse)"


def train(config: TrainConfig, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Do what a file says, else nothing."""
    survey, which = workspace.directory.parents[1], f"{config.feature_weight:g}-{config.seed}"
    yield Progress(1, 2, "pretending")
    if (survey / f"fail-{which}").exists():
        raise ArtifactError("the critic's loss is not a number")
    if (survey / f"cancel-{which}").exists():
        (workspace.directory / "cancel").touch()
    if (survey / f"interrupt-{which}").exists():
        raise KeyboardInterrupt
    yield Progress(2, 2, "pretending")
    said = {"verdict": COLLAPSE} if (survey / f"collapse-{which}").exists() else {}
    n_train = min(config.train_on or N_TRAIN, N_TRAIN)
    return {"taken_from": [path.name for path in workspace.parents.values()], "n_train": n_train} | said


def score(config: ScoreConfig, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Scores of the seed's own, noisier with greater λ."""
    yield Progress(0, 1, "pretending")
    seed = Run.read(workspace.parents["train"] / "run.json").seed
    n = len(workspace.subject_ids)
    missing = np.full(n, np.nan)
    scores = np.random.default_rng(seed).normal(size=n)
    scores += config.feature_weight * np.random.default_rng(seed + 99).normal(size=n)
    columns = {"subject_id": workspace.subject_ids, "split": ["train"] * n, "image_score": missing}
    write_scores(
        workspace.directory, None, columns | {"feature_score": missing, "anomaly_score": scores, "quality": ["ok"] * n}
    )
    yield Progress(1, 1, "pretending")
    return {}


TRAIN = Kind("train", "Pretend to train", TrainConfig, "tests.explorer.pretended:train", optional=("train",))
SCORE = Kind("score", "Pretend to score", ScoreConfig, "tests.explorer.pretended:score", needs=("train",))
