"""Deep metric learning on real images: MAP of its embeddings beside that of a plain classifier of the same network.

`gz1_images`: 3,937 galaxies with a reference label (the crowd's majority: elliptical, spiral clockwise, anticlockwise,
edge-on, merger; who got "don't know" is left out), central 212 px at 64 px. Scales of the losses were chosen on one
random half; here that half teaches and the other is judged, so nothing was chosen on what is judged. `mirabest_png`:
792 radio galaxies, FRI and FRII, whole stamps at 64 px, two folds, and nothing was chosen on them.

Crowd → expert: the 253 galaxies of `gz1_images` that have expert labels in `gz1_votes_expert` (early, late, neither);
the crowd's majority counts as early (elliptical), late (spirals, edge-on) and neither (merger).

Differences are paired over the held-out queries, which are each other's references. Intervals resample queries; values
of several seeds are averaged before.
"""

import csv
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from explorer.kinds.metric import MetricConfig
from models import metric
from models.artifacts import Workspace
from models.judging import Figure
from models.labels import read_labels, write_labels
from models.metric import Cells, LossName, Regime, column
from models.retrieval import METRICS, average, mean, mean_over_classes
from tests.benchmarks.row import Row

DATA = Path(__file__).parents[3] / "shared" / "data"
SIDE, CENTER = 64, 212
#: The crowd's majority in the experts' words.
EXPERT = {"M": "early", "L": "late", "N": "neither"}
CROWD = {"elliptical": "early", "clockwise": "late", "anticlockwise": "late", "edge": "late", "merger": "neither"}
CONTROL: LossName = "cross_entropy"
OURS: tuple[LossName, ...] = ("normalized_softmax", "proxy_nca")
SEEDS = (1234, 5, 77)


# ----------------------------------------------------------------------------------------------------------- data
def gz1() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """uint8 (3937, 64, 64, 3), reference labels, OBJIDs as text."""
    with (DATA / "gz1_images" / "labels.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["label"] != "dont_know"]
    images = np.empty((len(rows), SIDE, SIDE, 3), np.uint8)
    for i, row in enumerate(rows):
        with Image.open(DATA / "gz1_images" / row["filename"]) as image:
            at = tuple((side - CENTER) // 2 for side in image.size)
            box = (*at, at[0] + CENTER, at[1] + CENTER)
            images[i] = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX, box)
    return images, np.array([row["label"] for row in rows]), np.array([row["OBJID"] for row in rows])


def mirabest() -> tuple[np.ndarray, np.ndarray]:
    """uint8 (792, 64, 64, 1) and classes."""
    with (DATA / "mirabest_png" / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    images = np.empty((len(rows), SIDE, SIDE, 1), np.uint8)
    for i, row in enumerate(rows):
        with Image.open(DATA / "mirabest_png" / "images" / row["filename"]) as image:
            images[i, ..., 0] = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return images, np.array([row["label"] for row in rows])


def experts(ids: np.ndarray) -> np.ndarray:
    """What experts say of these galaxies, "" where nothing."""
    with (DATA / "gz1_votes_expert" / "gz1_votes_expert.csv").open() as file:
        said = {row["OBJID"]: EXPERT[row["ES_EXPERT"]] for row in csv.DictReader(file)}
    return np.array([said.get(one, "") for one in ids])


def halves(n: int) -> np.ndarray:
    """Which half is judged, bool (n,): the other is that on which scales were chosen."""
    return np.asarray(np.random.default_rng(5).random(n) < 0.5)


# --------------------------------------------------------------------------------------------------------- judging
def judged(
    images: np.ndarray,
    labels: dict[str, np.ndarray],
    config: MetricConfig,
    losses: Iterable[LossName],
    folds: Iterable[int],
    fold: np.ndarray | None = None,
) -> tuple[metric.Task, Cells]:
    """Fit and judge each loss with these folds held out; `fold` (n,) puts others in the place of random ones."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-metric-") as name:
        ids = np.arange(len(images))
        bands = ["r", "g", "b"] if images.shape[-1] == 3 else ["i"]
        space = Workspace(Path(name), images, ids, {}, {"bands": bands})
        columns: dict[str, Any] = {"subject_id": ids, "duplicate_group": ids}
        columns |= {who: [one or None for one in said] for who, said in labels.items()}
        classes = sorted({one for said in labels.values() for one in said.tolist() if one})
        write_labels(space.directory, columns, classes, {})
        bench = metric.bench_of(config, space, read_labels(space))
        if fold is not None:
            bench.task = replace(bench.task, fold=fold[bench.task.rows])
        cells: Cells = {}
        for loss in losses:
            for held_out in folds:
                for _ in metric.judge_fold(bench, loss, held_out, cells):
                    pass
        return bench.task, cells


def over_seeds(runs: list[Cells], key: tuple[LossName, Regime], name: str, where: str = "held_out") -> np.ndarray:
    """A figure of each query, averaged over seeds whose folds hold out the same queries in the same order."""
    queries = [column(cells[key], "queries") for cells in runs]
    order = [np.argsort(q, kind="stable") for q in queries]
    values = [column(cells[key], f"{where}.{name}")[o] for cells, o in zip(runs, order, strict=True)]
    return average(values)


def figures(task: metric.Task, runs: list[Cells]) -> dict[str, Any]:
    """Every figure of every loss and regime, for the JSON."""
    found: dict[str, Any] = {}
    for key in runs[0]:
        queries = np.sort(column(runs[0][key], "queries"))
        told: dict[str, Any] = {}
        for where in ("held_out", "training"):
            for name in METRICS:
                values = over_seeds(runs, key, name, where)
                told[f"{where}.{name}"] = spelled(mean(values, queries))
            told[f"{where}.map_over_classes"] = mean_over_classes(
                over_seeds(runs, key, "map", where), task.judged[queries]
            )
        found[f"{metric.LOSSES[key[0]]}, {metric.REGIMES[key[1]]}"] = told
    return found


def spelled(figure: Figure) -> list[float]:
    return [figure.value, figure.low, figure.high]


def row(
    name: str,
    what: str,
    task: metric.Task,
    runs: list[Cells],
    ours: tuple[LossName, Regime],
    theirs: tuple[LossName, Regime],
    alternative: str,
) -> Row:
    """MAP of one beside that of another, paired."""
    queries = np.sort(column(runs[0][ours], "queries"))
    a, b = over_seeds(runs, ours, "map"), over_seeds(runs, theirs, "map")
    x, y, apart = mean(a, queries), mean(b, queries), mean(a - b, queries)
    n, seeds = int(np.isfinite(a - b).sum()), f"{len(runs)} seeds" if len(runs) > 1 else "one seed"
    verdict = "above" if apart.low > 0 else "below" if apart.high < 0 else "not told apart"
    return Row(
        name,
        f"{n:,} held-out {what}: MAP of {metric.LOSSES[ours[0]]}, taught by {metric.REGIMES[ours[1]]}; {seeds}",
        x.value,
        y.value,
        x.value / y.value,
        "MAP",
        alternative,
        target=1.0,
        note=f"[{x.low:.3f}, {x.high:.3f}] beside [{y.low:.3f}, {y.high:.3f}]; paired difference {apart.value:+.3f} "
        f"[{apart.low:+.3f}, {apart.high:+.3f}]: {verdict}",
        extra={"figures": figures(task, runs), "difference": spelled(apart)},
    )


# ------------------------------------------------------------------------------------------------------------ rows
def galaxies(losses: tuple[LossName, ...] = OURS, seeds: tuple[int, ...] = SEEDS[:1]) -> list[Row]:
    """The crowd's classes: one half teaches, the other is judged."""
    images, labels, _ = gz1()
    is_judged, runs = halves(len(labels)), []
    for seed in seeds:
        config = MetricConfig(turn="rotations", seed=seed, device="cpu")
        task, cells = judged(images, {"amateur": labels}, config, (*losses, CONTROL), [0], (~is_judged).astype(int))
        runs.append(cells)
    what = "galaxies, reference labels (crowd majority)"
    own: Regime = "amateur"
    return [
        row(f"metric-gz1-{loss}", what, task, runs, (loss, own), (CONTROL, own), "cross-entropy, the same network")
        for loss in losses
    ]


def radio(losses: tuple[LossName, ...] = OURS, seeds: tuple[int, ...] = SEEDS[:1]) -> list[Row]:
    """FRI and FRII, two folds."""
    images, labels = mirabest()
    random, runs = np.random.default_rng(5).random(len(labels)), []
    for seed in seeds:
        config = MetricConfig(folds=2, seed=seed, device="cpu")
        fold = (random < np.median(random)).astype(int)
        task, cells = judged(images, {"expert": labels}, config, (*losses, CONTROL), [0, 1], fold)
        runs.append(cells)
    own: Regime = "expert"
    what = "radio galaxies, FRI and FRII"
    return [
        row(f"metric-mirabest-{loss}", what, task, runs, (loss, own), (CONTROL, own), "cross-entropy, the same network")
        for loss in losses
    ]


def crowd_then_experts(folds: int = 2, seeds: tuple[int, ...] = SEEDS[:1], with_control: bool = False) -> list[Row]:
    """The 253 with expert labels: crowd, then experts, beside experts alone and the crowd alone."""
    images, labels, ids = gz1()
    said = {"amateur": np.array([CROWD[one] for one in labels]), "expert": experts(ids)}
    random = np.random.default_rng(5).permutation(len(ids))
    losses: tuple[LossName, ...] = ("normalized_softmax", CONTROL) if with_control else ("normalized_softmax",)
    runs = []
    for seed in seeds:
        config = MetricConfig(folds=folds, seed=seed, device="cpu")
        task, cells = judged(images, said, config, losses, range(folds), random % folds)
        runs.append(cells)
    own: LossName = "normalized_softmax"
    what = "galaxies with expert labels (early, late, neither)"
    alone: tuple[Regime, ...] = ("expert", "amateur")
    rows = [
        row(f"metric-expert-{who}", what, task, runs, (own, "both"), (own, who), f"{metric.REGIMES[who]} alone")
        for who in alone
    ]
    if with_control:
        control: tuple[LossName, Regime] = (CONTROL, "both")
        stages = "cross-entropy, both stages"
        rows.append(row("metric-expert-control", what, task, runs, (own, "both"), control, stages))
    return rows


def galaxies_long() -> list[Row]:
    """All losses, three seeds."""
    return galaxies((*OURS, "contrastive", "triplet"), SEEDS)


def radio_long() -> list[Row]:
    """All losses, three seeds."""
    return radio((*OURS, "contrastive", "triplet"), SEEDS)


def experts_long() -> list[Row]:
    """Five folds, three seeds, the control too."""
    return crowd_then_experts(5, SEEDS, with_control=True)


LONG_ROWS = {
    "metric-gz1": galaxies,
    "metric-mirabest": radio,
    "metric-expert": crowd_then_experts,
    "metric-gz1-seeds": galaxies_long,
    "metric-mirabest-seeds": radio_long,
    "metric-expert-folds": experts_long,
}
