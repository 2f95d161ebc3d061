"""A run with clusters, as the kind "cluster" leaves it, without anything being learned."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from explorer.survey import Survey
from models.artifacts import Run
from models.clusters import Cluster, write_clusters


def write_run(
    survey: Survey,
    cluster: np.ndarray,
    novelty: Sequence[float | None],
    run_id: str = "cluster-1",
    created_at: str = "2026-01-02T00:00:00+00:00",
) -> Path:
    """A finished run.

    Parameters
    ----------
    cluster
        int (N,): of each row of the survey; those of -1 have no vector.
    novelty
        Of clusters 0, 1, …: 0 means that it is labelled ("spiral"), None that nothing is.
    """
    folder = survey.run_folder(run_id)
    folder.mkdir(parents=True)
    rows = np.flatnonzero(np.asarray(cluster) >= 0)
    run = Run(run_id=run_id, kind="cluster", code_version="0", config={}, state="done", created_at=created_at)
    run.write(folder / "run.json")
    told = [
        Cluster(k, int((cluster == k).sum()), far, *(("spiral", 3, (2, 3)) if far == 0 else ("", 0, (0, 0))))
        for k, far in enumerate(novelty)
    ]
    ids, one = survey.subject_ids[rows], np.ones(len(rows))
    write_clusters(folder, ids, np.asarray(cluster)[rows], one, one, told)
    return folder
