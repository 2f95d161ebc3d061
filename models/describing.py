"""A network applied to every image of a survey, shard by shard, and what comes of it as a run's latents and scores."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from models.artifacts import (
    PARTS,
    ArtifactError,
    Workspace,
    medians_by_split,
    scratch_array,
    write_json,
    write_scores,
)
from models.progress import Progress
from models.ranking import isolation
from models.reading import SHARD, is_constant, n_shards, part_path, read_part, score_shards

DESCRIBED = "described"  # folder of the shards, in parts/
PLAN = "plan.json"

#: uint8 (n, H, W, C) → columns float32 (n,) by name, and "latents", float32 (n, d), where it has any.
Describe = Callable[[np.ndarray], Mapping[str, np.ndarray]]


def describe_all(
    workspace: Workspace, about: Mapping[str, Any], describe: Describe
) -> Generator[Progress, None, tuple[np.ndarray | None, dict[str, np.ndarray]]]:
    """What `describe` says of every image: latents float32 (N, d) or None, and columns float32 (N,).

    Constant images get NaN. A run that was stopped keeps its finished shards, as long as `about` is the same: what
    `describe` depends on, JSON values (a hash of the weights).
    """
    parts = workspace.directory / PARTS / DESCRIBED
    plan = {"n": len(workspace.subject_ids), "shard": SHARD, **json.loads(json.dumps(about))}
    if not (parts / PLAN).exists() or json.loads((parts / PLAN).read_bytes()) != plan:
        shutil.rmtree(parts, ignore_errors=True)
        write_json(parts / PLAN, plan)

    def score(images: np.ndarray, first: int) -> dict[str, np.ndarray]:
        return {"constant": is_constant(images), **describe(images)}

    yield from score_shards(workspace.images, parts, SHARD, lambda: score)
    n = len(workspace.subject_ids)
    latents: np.ndarray | None = None
    columns: dict[str, np.ndarray] = {}
    for number in range(n_shards(n, SHARD)):
        part = read_part(path := part_path(parts, number))
        if part is None:
            raise ArtifactError(f"{path} cannot be read; resume the run, which makes it anew")
        here, constant = slice(number * SHARD, number * SHARD + len(part["constant"])), part.pop("constant")
        for name, values in part.items():
            values = values.astype(np.float32)
            values[constant] = np.nan
            if name == "latents":
                if latents is None:
                    latents = scratch_array(workspace.directory, np.float32, (n, values.shape[1]))
                latents[here] = values
            else:
                columns.setdefault(name, np.full(n, np.nan, np.float32))[here] = values
    return latents, columns


def write_described(
    workspace: Workspace,
    latents: np.ndarray | None,
    columns: Mapping[str, np.ndarray],
    split: np.ndarray,
    seed: int,
    anomaly: np.ndarray | None = None,
) -> dict[str, Any]:
    """Write ``latents.npy`` and ``scores.parquet``; results to keep.

    Parameters
    ----------
    columns
        The kind's own, float (N,): colors and axes of the map, by these names.
    split
        (N,): "train", "validation" or "unseen", what the network saw of each subject.
    anomaly
        float (N,); None: how far the nearest others are in the latent vectors.
    """
    n = len(workspace.subject_ids)
    is_there = np.isfinite(latents).all(1) if latents is not None else np.ones(n, bool)
    score = np.full(n, np.nan, np.float32)
    if anomaly is not None:
        score[:] = anomaly
    elif latents is not None and is_there.any():
        score[is_there] = isolation(np.asarray(latents[is_there]), seed)
    missing = np.full(n, np.nan, np.float32)
    scores = {
        "subject_id": workspace.subject_ids,
        "split": split,
        "image_score": missing,
        "feature_score": missing,
        "anomaly_score": score,
        "quality": np.where(is_there, "ok", "constant image"),
    }
    write_scores(workspace.directory, latents, {**scores, **columns})
    return {"splits": medians_by_split(scores), "n_not_scored": int((~is_there).sum())}
