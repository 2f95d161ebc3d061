"""Labelling whole grids: keys and clicks for each labelled subject of `gz1_images`, against one key for each.

A simulated person knows every class (reference: the crowd's majority), gives a grid the class of most by one key, and
clicks on the exceptions. Grids are cut from deep clusters (kind ``cluster``, preset modern), from k-means of the same
vectors with as many clusters, and from the shuffled survey; with 20 % of the labels, from the multitask clusters, and
from the order of a logistic regression on the same labels and vectors. Labels that were learned from are in no grid.

Vectors: the first 64 principal components of EfficientNet-lite0's features (long), or of the pixels at 32 px (short).
Nothing was chosen on these classes: presets and numbers of clusters are as they come. Intervals: duplicate groups drawn
again, seeds and shuffles averaged.
"""

import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from explorer.kinds.cluster import ClusterConfig
from explorer.survey import Survey
from models import clustering
from models.artifacts import Workspace, write_scores
from models.clustering import Scale, k_means, pixels
from models.clusters import GRID, Effort, effort, nmi, read_clusters
from models.labels import folds_of, write_labels
from tests.benchmarks.label_yield import DATA, voorwerp
from tests.benchmarks.row import Row

SIZES = (GRID, 36)
SEEDS, TRIALS, REPLICATES = 3, 5, 1000
LABELLED = 5  # one in so many is labelled beforehand
#: Name → class of each label, None: left out. "dont_know" are artifacts and stars.
SMOOTH = dict.fromkeys(("edge", "clockwise", "anticlockwise", "merger"), "featured") | {"elliptical": "smooth"}
TASKS: dict[str, Callable[[str], str | None]] = {
    "merger": lambda label: "merger" if label == "merger" else "no merger",
    "featured": SMOOTH.get,
    "classes": lambda label: label,
}
WORDS = {
    "merger": "binary: merger or not",
    "featured": "binary: smooth or featured",
    "classes": "six classes: elliptical, edge, clockwise, anticlockwise, merger, don't know",
}
#: The published best: 87.0 % fewer clicks (supernovae) to 92.8 % (MNIST), pure grids for nothing.
PUBLISHED = 0.87


# ------------------------------------------------------------------------------------------------------- the vectors
def survey(folder: Path, size: int) -> tuple[Path, np.ndarray, np.ndarray, Callable[[int], np.ndarray]]:
    """A survey of the images, their labels and duplicate groups, and its pixels as principal components."""
    path = folder / "gz1"
    source = DATA / "labels.csv"
    voorwerp("create", path, source, "--id-column", "OBJID", "--extent", 212, "--size", size, "--originals", "link")
    with closing(Survey.open(path)) as opened:
        labels = opened.arrow("label").to_pandas().to_numpy(str)
        group = opened.arrow("duplicate_group").to_pandas().to_numpy(float)
        images = np.concatenate([pixels(np.asarray(opened.images[i : i + 256]), 32) for i in range(0, opened.n, 256)])
    groups = np.where(np.isnan(group), -1 - np.arange(len(group)), group).astype(np.int64)
    return path, labels, groups, lambda n: PCA(n, random_state=0).fit_transform(images).astype(np.float32)


def features(path: Path) -> np.ndarray:
    """Latent vectors of a features run: 64 principal components."""
    voorwerp("run", path, "features", "--fit-on", 1500)
    with closing(Survey.open(path)) as opened:
        run = next(run for run in opened.runs() if run.kind == "features")
        return np.asarray(np.load(opened.run_folder(run.run_id) / "latents.npy"))


# ------------------------------------------------------------------------------------------------------ the clusters
def deep(x: np.ndarray, seed: int, classes: np.ndarray | None = None, known: np.ndarray | None = None) -> np.ndarray:
    """Clusters of the kind, int64 (n,), learned from the classes of those `known` where there are any."""
    ids = np.arange(len(x))
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-clusters-") as name:
        scored, run = Path(name) / "score", Path(name) / "run"
        scored.mkdir()
        run.mkdir()
        none = np.full(len(x), np.nan, np.float32)
        columns = {"subject_id": ids, "split": ["unseen"] * len(x), "image_score": none, "feature_score": none}
        write_scores(scored, x, {**columns, "anomaly_score": none, "quality": ["ok"] * len(x)})
        if classes is not None and known is not None:
            about = {"expert": {"source": "reference", "words": "reference (crowd majority)", "is_simulated": False}}
            told = {"subject_id": ids[known], "expert": classes[known].tolist()}
            told |= {"is_test": np.zeros(known.sum(), bool), "duplicate_group": -1 - ids[known]}
            write_labels(run, told, sorted({one for one in classes if one}), about)
        workspace = Workspace(run, None, ids, {"score": scored}, {})
        for _ in clustering.run(ClusterConfig(seed=seed, held_out=0.1, device="cpu"), workspace):
            pass
        found = np.full(len(x), -1)
        table, _ = read_clusters(run)
        found[table.column("subject_id").to_numpy()] = table.column("cluster").to_numpy()
        return np.asarray(found)


def by_regression(x: np.ndarray, classes: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of everybody the likeliest class, as clusters, and 1 - its probability, to sort each by."""
    scaled = StandardScaler().fit_transform(x)
    made = LogisticRegression(max_iter=2000).fit(scaled[known], classes[known])
    shares = made.predict_proba(scaled)
    return shares.argmax(1), 1 - shares.max(1)


# ------------------------------------------------------------------------------------------------------- the figures
class Cost:
    """What a way of making grids costs, seeds and shuffles averaged."""

    def __init__(self, made: list[Effort], n_classes: int) -> None:
        self.n = made[0].n
        self.grids = float(np.mean([one.n_grids for one in made]))
        self.pure = float(np.mean([one.pure.mean() for one in made]))
        self.clicks = np.mean([one.exceptions for one in made], 0) * (1 if n_classes == 2 else 2)
        self.saved = float(np.mean([one.saved.mean() for one in made]))
        self.published = float(np.mean([one.saved_published.mean() for one in made]))

    def drawn(self, weights: np.ndarray) -> np.ndarray:
        """Saved, of subjects that each count `weights` (b, n) times: a grid's key is shared by those in it."""
        return np.asarray(1 - (weights @ self.clicks) / weights.sum(1) - self.grids / self.n)

    def to_json(self, weights: np.ndarray) -> dict[str, Any]:
        low, high = np.percentile(self.drawn(weights), [2.5, 97.5])
        return {
            "n": self.n,
            "saved": round(self.saved, 4),
            "interval": [round(float(low), 4), round(float(high), 4)],
            "saved_as_published": round(self.published, 4),
            "pure": round(self.pure, 3),
            "grids": round(self.grids, 1),
        }


def weights_of(groups: np.ndarray) -> np.ndarray:
    """How often each subject counts when its groups are drawn again, float (replicates, n)."""
    random, codes = np.random.default_rng(0), np.unique(groups, return_inverse=True)[1]
    n = codes.max() + 1
    counts = np.stack([np.bincount(random.integers(n, size=n), minlength=n) for _ in range(REPLICATES)])
    return np.asarray(counts[:, codes], np.float64)


def compare(
    x: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    name: str,
    seeds: int,
    clusters: dict[int, np.ndarray],
    has_labels: bool,
) -> dict[str, Any]:
    """Every way's cost for one task: {size: {way: figures}}, and differences of ways."""
    told = [TASKS[name](label) for label in labels]
    kept = np.array([one is not None for one in told])
    names, codes = np.unique([one or "" for one in told], return_inverse=True)
    if "" in names:
        codes = codes - 1
    classes = np.array([one or "" for one in told])
    known = np.zeros(len(x), bool)
    if has_labels:
        fold = np.full(len(x), -1)
        fold[kept] = folds_of(groups[kept], codes[kept], LABELLED, 0)
        known = fold == 0
    asked = np.flatnonzero(kept & ~known)
    weights, n_classes = weights_of(groups[asked]), len(np.unique(codes[kept]))
    ways: dict[str, list[tuple[np.ndarray, np.ndarray | None]]] = {"random": [(np.zeros(len(x), int), None)]}
    scaled = Scale.of(x, "all")(x)
    ways["dec"] = [(clusters[seed], None) for seed in range(seeds)]
    ways["k-means"] = [(k_means(scaled, len(np.unique(clusters[s])), s, 4).labels_, None) for s in range(seeds)]
    if has_labels:
        ways["multitask"] = [(deep(x, seed, classes, known), None) for seed in range(seeds)]
        ways["regression"] = [by_regression(x, classes, known)]
    found: dict[str, Any] = {"n_known": int(known.sum()), "nmi": {}}
    for way, made in ways.items():
        found["nmi"][way] = round(float(np.mean([nmi(cluster[asked], codes[asked]) for cluster, _ in made])), 3)
    for size in SIZES:
        costs = {
            way: Cost(
                [
                    effort(cluster[asked], codes[asked], size, TRIALS, seed, None if near is None else near[asked])
                    for seed, (cluster, near) in enumerate(made)
                ],
                n_classes,
            )
            for way, made in ways.items()
        }
        found[str(size)] = {way: cost.to_json(weights) for way, cost in costs.items()}
        best = costs["multitask" if has_labels else "dec"].drawn(weights)
        found[str(size)]["less"] = {
            way: [round(float(q), 4) for q in np.percentile(best - cost.drawn(weights), [2.5, 50, 97.5])]
            for way, cost in costs.items()
        }
    return found


def rows(
    what: str, of: str, x: np.ndarray, labels: np.ndarray, groups: np.ndarray, seeds: int, has_labels: bool
) -> list[Row]:
    """A row for each task."""
    clusters = {seed: deep(x, seed) for seed in range(seeds)}
    made = []
    for name in TASKS:
        found = compare(x, labels, groups, name, seeds, clusters, has_labels)
        ways, k = ("dec", "multitask") if has_labels else ("dec",), len(np.unique(clusters[0]))
        made += [row(what, of, name, way, found, k, seeds) for way in ways]
    return made


def row(what: str, of: str, name: str, way: str, found: dict[str, Any], k: int, seeds: int) -> Row:
    """One way of one task, against one key for each subject."""
    best, other = found[str(GRID)][way], {w: f for w, f in found[str(GRID)].items() if w not in (way, "less")}
    others = "; ".join(f"{w} {f['saved']:.1%} ({f['saved_as_published']:.1%})" for w, f in other.items())
    low, high = best["interval"]
    with_labels = f", {found['n_known']:,} labels known beforehand" if way == "multitask" else ""
    return Row(
        name=f"clustering-{what}-{way}-{name}",
        what=f"{best['n']:,} of gz1_images labelled by grids of {GRID}, {WORDS[name]} (crowd majority); {of}; "
        f"{k} clusters, mean of {seeds} seeds × {TRIALS} shuffles{with_labels}",
        ours=1 - best["saved"],
        theirs=1.0,
        ratio=1 / (1 - best["saved"]),
        unit="keys and clicks a subject",
        alternative="one by one, a key each",
        target=round(1 / (1 - PUBLISHED), 2),
        note=f"saved {best['saved']:.1%} [{low:.1%}, {high:.1%}], as published (clicks alone) "
        f"{best['saved_as_published']:.1%}; {others}",
        extra={"figures": found, "seeds": seeds},
    )


def short() -> list[Row]:
    """Principal components of the pixels, one seed, no labels."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-clustering-") as name:
        _, labels, groups, components = survey(Path(name), 64)
        return rows("pixels", "PCA-64 of pixels at 32 px", components(64), labels, groups, 1, False)


def whole() -> list[Row]:
    """Image features, with and without labels, three seeds."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-clustering-") as name:
        path, labels, groups, _ = survey(Path(name), 160)
        return rows("features", "PCA-64 of EfficientNet-lite0", features(path), labels, groups, SEEDS, True)


def plumbing() -> list[Row]:
    """`galaxy10_embedding`: plumbing alone, as its encoder was trained on these very labels."""
    with np.load(DATA.parent / "galaxy10_embedding" / "galaxy10_pca20.npz") as file:
        x, label = np.asarray(file["X"], np.float32), file["label_inferred"].astype(np.int64)
    cluster, n = deep(x, 0), len(x)
    made = effort(cluster, label, GRID, TRIALS)
    start = effort(k_means(Scale.of(x, "all")(x), len(np.unique(cluster)), 0, 4).labels_, label, GRID, TRIALS)
    return [
        Row(
            name="clustering-galaxy10",
            what=f"plumbing only (the vectors were trained on these classes): {n:,} subjects in "
            f"{len(np.unique(cluster))} clusters, {len(np.unique(label))} classes, grids of {GRID}",
            ours=1 - float(made.saved.mean()),
            theirs=1 - float(start.saved.mean()),
            ratio=(1 - float(start.saved.mean())) / (1 - float(made.saved.mean())),
            unit="keys and clicks a subject",
            alternative="k-means",
            note=f"clicks alone, as published: {made.saved_published.mean():.1%} saved; NMI {nmi(cluster, label):.3f}",
        )
    ]


LONG_ROWS: dict[str, Any] = {
    "clustering-short": short,
    "clustering-whole": whole,
    "clustering-galaxy10": plumbing,
}
