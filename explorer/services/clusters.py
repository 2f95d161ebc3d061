"""Clusters that a campaign is graded by: read of a run once, when the campaign is made, and kept in it.

A later run, another label or a lost folder changes nothing in a campaign that there is: neither what is in a cluster,
nor which comes first. So a place in a grader's order is for ever, whoever comes back finds the grid that they left, and
all graders see the same clusters in the same order. What new labels make of novelty is for a new run and campaign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow.compute as pc

from explorer.errors import LedgerError, UsageError
from explorer.ledger import Ledger
from explorer.survey import Survey, counted
from models.artifacts import ArtifactError, Run
from models.clusters import CLUSTERS, Cluster, by_novelty, read_clusters
from models.labels import about_labels

#: The number of what the run has put in no cluster: no run's clusters have it.
NONE = -1
#: A cluster's novelty from which on it is far from what is labelled, or near it: in median distances of two centers.
FAR, NEAR = 0.75, 0.4


@dataclass(frozen=True)
class Frozen:
    """The clusters of one campaign, in the order in which they are graded.

    Attributes
    ----------
    told
        As the run told them, novel ones first; last, where there are such, those in no cluster (`NONE`).
    of
        int32 (M,): where in `told` each of `Campaign.items` is.
    is_simulated
        Whether any of the labels that made them novel or not is.
    """

    run_id: str
    told: tuple[Cluster, ...]
    of: np.ndarray = field(repr=False)
    is_simulated: bool = False


def runs_with_clusters(survey: Survey) -> list[Run]:
    """Finished runs that have clusters, newest first."""
    return [run for run in survey.runs() if (survey.run_folder(run.run_id) / CLUSTERS).is_file()]


def freeze(survey: Survey, ledger: Ledger, run_id: str, items: np.ndarray) -> dict[str, Any]:
    """The clusters of a run as a campaign's entry has them: ``run_id``, ``is_simulated`` (whether its labels are) and
    ``clusters``, each with its ``members``.

    Parameters
    ----------
    run_id
        "" for the newest that has clusters.
    items
        int64 (M,): the survey's rows that are graded or mixed in. What has none of them is left out.

    Raises
    ------
    UsageError
        There is no such run, it has no clusters, or none of these subjects is in one.
    """
    runs = [run.run_id for run in runs_with_clusters(survey)]
    if not runs:
        raise UsageError("no run of this survey has clusters to grade by; start one of the kind “cluster” first")
    if run_id and run_id not in runs:
        raise UsageError(f'the run "{run_id}" has no clusters to grade by; there are {", ".join(runs)}')
    run_id = run_id or runs[0]
    try:
        table, told = read_clusters(survey.run_folder(run_id))
    except ArtifactError as error:
        raise UsageError(str(error)) from None
    rows = survey.rows_of(table.column("subject_id").to_numpy())
    given = pc.fill_null(table.column("cluster"), NONE).to_numpy()
    of = np.full(survey.n, NONE, np.int64)
    of[rows[rows >= 0]] = given[rows >= 0]
    own = of[items]
    if not (own != NONE).any():
        raise UsageError(f"none of the {counted(len(items), 'subject')} is in a cluster of the run {run_id}")
    told = by_novelty([one for one in told if one.cluster != NONE])
    if missing := set(np.unique(own).tolist()) - {one.cluster for one in told} - {NONE}:
        raise UsageError(f"the run {run_id} does not say what its cluster {min(missing)} is; make the run again")
    told.append(Cluster(NONE, int((of == NONE).sum()), None, "", 0, (0, 0)))
    return {
        "run_id": run_id,
        "is_simulated": any(of.get("is_simulated") for of in about_labels(survey.run_folder(run_id)).values()),
        "clusters": [
            asdict(one) | {"members": ledger.written(items[own == one.cluster], survey.subject_ids)}
            for one in told
            if (own == one.cluster).any()
        ],
    }


def thaw(survey: Survey, ledger: Ledger, told: Mapping[str, Any], items: np.ndarray) -> Frozen:
    """What `freeze` made.

    Raises
    ------
    LedgerError
        A bitmap is missing or damaged, or somebody is in no cluster.
    """
    of, place = np.full(len(items), -1, np.int32), np.full(survey.n, -1, np.int32)
    clusters = []
    for number, one in enumerate(told["clusters"]):
        listed = one["members"].get("subject_ids")
        rows = (
            ledger.read_back(one["members"], survey.subject_ids)
            if listed is None
            else survey.rows_of([int(i) for i in listed])
        )
        place[rows[rows >= 0]] = number
        clusters.append(Cluster(**{name: one[name] for name in Cluster.__slots__} | {"purity": tuple(one["purity"])}))
    of[:] = place[items]
    if (of < 0).any():
        raise LedgerError(
            f"{counted(int((of < 0).sum()), 'subject')} of a campaign by clusters are in none of them; "
            "its entry in the ledger is damaged"
        )
    return Frozen(str(told["run_id"]), tuple(clusters), of, bool(told.get("is_simulated")))


def words(one: Cluster, is_told: bool, is_simulated: bool = False) -> str:
    """How far a cluster is from what is labelled; with `is_told`, also what its labels are.

    Which class most of it is would tell a grader what to say, so that a blind campaign keeps it back.
    """
    if one.cluster == NONE:
        return "in no cluster"
    if one.novelty is None:
        return "nothing was labelled when it was made"
    if is_told and one.label:
        k, n = one.purity
        said = f"labelled “{one.label}”" + (f", {k:,} of {n:,} are" if n else "")
    elif one.novelty >= FAR:
        said = "far from everything labelled so far"
    elif one.novelty > NEAR:
        said = "at some distance from what is labelled"
    else:
        said = "near what is labelled" if one.novelty > 0 else "labelled ones are among them"
    return said + (" (simulated labels)" if is_simulated else "")
