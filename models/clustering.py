"""Deep embedded clustering: an autoencoder's code, pulled into clusters that people can label by the grid.

DEC (Xie, Girshick and Farhadi 2016, ICML; arXiv:1511.06335) trains an autoencoder of vectors, lays k-means centers into
its code, and then sharpens them: what a subject's distances say of its cluster, q, is drawn towards p, which trusts
the sure ones more. With labels (Wright et al. 2019, ACM TSC 2(3)) a softmax that sees nothing but q learns the classes
meanwhile, so that labels act through the clusters; afterwards clustering goes on alone.

    vectors → pre-training → k-means → clustering → [labels: multitask → reclustering] → clusters, code, novelty

Vectors are float32 (B, d): the latent vectors of a score run, or the crops' pixels.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from models import clusters
from models.artifacts import (
    CHECKPOINT,
    SCORES,
    SCORES_SCHEMA,
    ArtifactError,
    Workspace,
    medians_by_split,
    read_columns,
    read_latents,
    scratch_array,
    sha256_file,
    write_bytes,
    write_scores,
)
from models.autoencoder import taken
from models.clusters import Cluster
from models.describing import describe_all
from models.findings import Findings, Table
from models.fitting import Recipe, Standing, fit, network_of, outputs
from models.grids import write_rows
from models.labels import LABELS, Labels, about_labels, about_taught, folds_of, read_labels
from models.progress import Progress
from models.ranking import isolation
from models.rates import Rate, f1
from models.reading import is_constant
from models.scoring import pick_device
from models.steps import RESIDENT_SHARE, Feed

#: Numbers of clusters that are tried where none is told.
CANDIDATES = (4, 6, 8, 12, 16, 24, 32, 50)
CHOOSE_ON, CHOOSE_IN = 10_000, 10  # subjects and principal components that the number is chosen by
#: Of the folds that labels are parted into, the one that the multitask network is stopped by.
N_FOLDS = 10
#: Labelled groups with which classes can be learned.
LEAST_LABELS = 2 * N_FOLDS
PATIENCE = 10  # epochs without a smaller loss of the labels held for that; as in the published code
FEW = clusters.GRID  # labels to a cluster that grids are simulated with
PICTURES = 12  # clusters on a picture
SHOWN = 8  # subjects of each


class Config(Protocol):
    """See `explorer.kinds.cluster.ClusterConfig`."""

    @property
    def preset(self) -> Literal["modern", "paper"]: ...
    @property
    def on(self) -> Literal["latents", "images"]: ...
    @property
    def clusters(self) -> int | None: ...
    @property
    def layers(self) -> str | None: ...
    @property
    def code_size(self) -> int: ...
    @property
    def scale(self) -> Literal["all", "each", "length"] | None: ...
    @property
    def side(self) -> int | None: ...
    @property
    def epochs(self) -> int | None: ...
    @property
    def rounds(self) -> int | None: ...
    @property
    def update_every(self) -> int | None: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def reconstruction(self) -> float | None: ...
    @property
    def batch(self) -> int: ...
    @property
    def multitask(self) -> bool: ...
    @property
    def multitask_epochs(self) -> int: ...
    @property
    def schedule(self) -> Literal["falling", "constant"]: ...
    @property
    def gamma(self) -> float: ...
    @property
    def held_out(self) -> float: ...
    @property
    def least_labels(self) -> int: ...
    @property
    def fit_on(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Preset:
    """What a setting is where it is left empty.

    Attributes
    ----------
    update_every
        Steps between two targets: a pass, but no fewer and no more than these.
    is_layerwise
        The autoencoder is trained layer by layer, inputs and outputs dropped out at random, and then whole.
    pretraining, clustering, multitask
        How each stage is fitted; epochs are the config's.
    """

    clusters: int | None
    layers: str
    scale: Literal["all", "each", "length"]
    side: int
    epochs: int
    rounds: int
    update_every: tuple[int, int]
    reconstruction: float
    is_layerwise: bool
    pretraining: Recipe
    clustering: Recipe
    multitask: Recipe


PRESETS = {
    "modern": Preset(
        clusters=None,
        layers="256-128",
        scale="all",
        side=24,
        epochs=60,
        rounds=20,
        update_every=(30, 140),
        reconstruction=10.0,
        is_layerwise=False,
        pretraining=Recipe(0, 0, 1e-3, "adamw", weight_decay=1e-4, is_annealed=True),
        clustering=Recipe(0, 0, 1e-3, "adamw"),
        multitask=Recipe(0, 0, 1e-3, "adamw", patience=PATIENCE),
    ),
    "paper": Preset(
        clusters=50,
        layers="500-500-2000",
        scale="length",
        side=0,
        epochs=400,
        rounds=143,
        update_every=(140, 140),
        reconstruction=0.0,
        is_layerwise=True,
        pretraining=Recipe(0, 0, 0.1, "sgd", momentum=0.9),
        clustering=Recipe(0, 0, 0.01, "sgd", momentum=0.9),
        multitask=Recipe(0, 0, 1e-3, "adam", patience=PATIENCE),
    ),
}
DROPOUT = 0.2  # of the layer-wise pre-training


# ----------------------------------------------------------------------------------------------------- the networks
class Autoencoder(nn.Module):
    """Vector (B, d) → 500 → 500 → 2000 → code (B, 10) → the same way back. ReLU between; code and output are linear."""

    def __init__(self, size: int, layers: Sequence[int], code_size: int) -> None:
        super().__init__()
        sizes = [size, *layers, code_size]
        self.encoder = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        back = sizes[::-1]
        self.decoder = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(back))

    def encode(self, x: Tensor) -> Tensor:
        return _chain(self.encoder, x)

    def decode(self, code: Tensor) -> Tensor:
        return _chain(self.decoder, code)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class Layer(nn.Module):
    """One layer of the encoder and its counterpart, to be trained alone: h → dropout → layer → dropout → back.

    `before` gives h. The last layer's code and the first one's input are linear, all between are rectified.
    """

    def __init__(self, autoencoder: Autoencoder, number: int) -> None:
        super().__init__()
        last = len(autoencoder.encoder) - 1
        self.there, self.back = autoencoder.encoder[number], autoencoder.decoder[last - number]
        self.dropout = nn.Dropout(DROPOUT)
        self.is_code, self.is_input = number == last, number == 0

    def forward(self, h: Tensor) -> Tensor:
        code = self.there(self.dropout(h))
        code = self.dropout(code if self.is_code else code.relu())
        again: Tensor = self.back(code)
        return again if self.is_input else again.relu()


class DEC(nn.Module):
    """An autoencoder with cluster centers in its code, and a head that tells classes from q alone.

    Attributes
    ----------
    centers
        (k, code).
    assigned
        int64 (n,): the clusters when the target was last taken, of the subjects it is fitted to; -1 before.
    changed
        Share of them that had changed then.
    round
        How often the target was taken.
    """

    assigned: Tensor
    changed: Tensor
    round: Tensor

    def __init__(self, autoencoder: Autoencoder, centers: Tensor, n: int, n_classes: int) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.centers = nn.Parameter(centers.clone())
        self.head = nn.Linear(len(centers), max(n_classes, 1))
        self.register_buffer("assigned", torch.full((n,), -1, dtype=torch.int64))
        self.register_buffer("changed", torch.ones(()))
        self.register_buffer("round", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        return soft_assignment(self.autoencoder.encode(x).float(), self.centers)

    def begin(self) -> None:
        """Forget the assignments of a stage before."""
        self.assigned.fill_(-1)
        self.changed.fill_(1)
        self.round.zero_()


def soft_assignment(code: Tensor, centers: Tensor) -> Tensor:
    """q_ij = (1 + |z_i - μ_j|²)⁻¹, normalized over j: Student's t with one degree of freedom (DEC's equation 1).

    code (B, c), centers (k, c) → (B, k); rows sum to 1.
    """
    squared = (code[:, None] - centers[None]).square().sum(2)
    near = 1 / (1 + squared)
    return near / near.sum(1, keepdim=True)


def target_distribution(q: Tensor) -> Tensor:
    """p_ij = (q_ij² / f_j) / Σ_j' (q_ij'² / f_j'), f_j = Σ_i q_ij (DEC's equation 3): sure ones count more.

    Dividing by the cluster's soft size f keeps large clusters from swallowing all. q, p: (n, k).
    """
    weight = q.square() / q.sum(0)
    return weight / weight.sum(1, keepdim=True)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """KL(P‖Q) = Σ_ij p_ij log(p_ij / q_ij), per row (DEC's equation 2); 0 log 0 is 0."""
    return (torch.xlogy(p, p) - p * q.clamp_min(1e-30).log()).sum(1).mean()


def weights_at(epoch: int, epochs: int, schedule: str) -> tuple[float, float]:
    """α, of the labels' loss, and β, of the clustering's, in `epoch` (1 …) of `epochs`.

    "falling": α = 1 - t / T, β = 1 - α, as Wright et al. meant it, t counted from 0. "constant": α = 1, β = 0
    throughout, which is what their published code does: it sets new weights after the loss was compiled with the first.
    """
    alpha = 1.0 if schedule == "constant" else 1 - (epoch - 1) / epochs
    return alpha, 1 - alpha


def _rectified(layer: nn.Module, x: Tensor) -> Tensor:
    found: Tensor = layer(x)
    return found.relu()


def _chain(layers: nn.ModuleList, x: Tensor) -> Tensor:
    for i, layer in enumerate(layers):
        x = layer(x) if i == len(layers) - 1 else layer(x).relu()
    return x


# ------------------------------------------------------------------------------------------------------ the vectors
@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """How vectors are scaled: (x - mean) / unit, or each to the length √d where `is_length`."""

    mean: np.ndarray
    unit: np.ndarray
    is_length: bool = False

    @classmethod
    def of(cls, x: np.ndarray, how: Literal["all", "each", "length"]) -> Scale:
        """Of float (n, d): "all" numbers by one unit, "each" by its own, or each vector by its "length".

        Raises
        ------
        ArtifactError
            All vectors are the same.
        """
        mean = x.mean(0, dtype=np.float64)
        each = x.std(0, dtype=np.float64)
        if not each.any():
            raise ArtifactError(f"all {len(x):,} vectors are equal, so there are no clusters; build on another run")
        if how == "length":
            return cls(np.zeros_like(mean), np.ones_like(mean), is_length=True)
        unit = np.where(each > 0, each, 1) if how == "each" else np.full_like(each, np.sqrt(np.square(each).mean()))
        return cls(mean, unit)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        if self.is_length:
            length = np.linalg.norm(x, axis=1, keepdims=True)
            return np.asarray(x * math.sqrt(x.shape[1]) / np.where(length > 0, length, 1), np.float32)
        return np.asarray((x - self.mean) / self.unit, np.float32)


class Vectors(Feed):
    """Rows of float32 (n, d) as tensors (B, d) on `device`; all of them lie there where a GPU has the room."""

    def __init__(self, x: np.ndarray, device: torch.device) -> None:
        self.images, self.device = x, device
        self.resident: Tensor | None = None
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cpu" or x.nbytes <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            self.resident = torch.from_numpy(np.ascontiguousarray(x)).to(device)

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        if self.resident is not None:
            return self.resident[torch.from_numpy(rows).to(self.device)]
        return torch.from_numpy(self.images[rows]).to(self.device)


def pixels(images: np.ndarray, side: int) -> np.ndarray:
    """uint8 (n, H, W, C) as float32 (n, side² C) in [0, 1], averaged over areas; side 0: as they are."""
    if side and min(images.shape[1:3]) > side:
        x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
        images = nn.functional.adaptive_avg_pool2d(x, side).permute(0, 2, 3, 1).numpy()
    return np.asarray(images.reshape(len(images), -1) / 255, np.float32)


class Source:
    """The vectors of a run's N subjects, by rows: latent vectors of its parent, or pixels."""

    def __init__(self, config: Config, workspace: Workspace) -> None:
        self.on, self.side = config.on, PRESETS[config.preset].side if config.side is None else config.side
        self.n = len(workspace.subject_ids)
        self.images = workspace.images
        self.may = np.ones(self.n, bool)
        if config.on == "images":
            if workspace.images is None:
                raise ArtifactError("the survey has no images to cluster; take --on latents and a score run with them")
            return
        scored = workspace.parents["score"]
        self.latents = read_latents(scored)
        ids = read_columns(scored / SCORES, SCORES_SCHEMA).column("subject_id").to_numpy()
        if len(ids) != len(self.latents):
            raise ArtifactError(f"{scored} has {len(self.latents):,} vectors, {len(ids):,} scores; score again")
        order = np.argsort(ids, kind="stable")
        at = np.minimum(np.searchsorted(ids, workspace.subject_ids, sorter=order), len(ids) - 1)
        self.at = order[at]
        self.may = ids[self.at] == workspace.subject_ids
        for i in range(0, self.n, 65_536):  # read in blocks: they may be more than memory holds
            here = slice(i, i + 65_536)
            self.may[here] &= np.isfinite(self.latents[self.at[here]]).all(1)

    def sample(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of those that have vectors, and these, float32 (n, d)."""
        if self.on == "latents":
            rows = rows[self.may[rows]]
            return rows, np.asarray(self.latents[self.at[rows]])
        parts = [(~is_constant(block), pixels(block, self.side)) for block in taken(self.images, rows)]
        is_there = np.concatenate([there for there, _ in parts])
        return rows[is_there], np.concatenate([x for _, x in parts])[is_there]


# -------------------------------------------------------------------------------------------------------- k-means
def k_means(code: np.ndarray, k: int, seed: int, n_init: int = 20) -> KMeans:
    """DEC's own beginning: the best of `n_init` k-means, on one thread so that it is the same everywhere.

    Raises
    ------
    ArtifactError
        Fewer than `k` points of the code differ.
    """
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return KMeans(k, n_init=n_init, random_state=seed).fit(code)
        except ConvergenceWarning:
            raise ArtifactError(
                f"the code of {len(code):,} subjects has fewer than {k} different points, so there are no {k} "
                "clusters; take fewer --clusters, or more --epochs"
            ) from None


def bic(inertia: float, sizes: np.ndarray, dimensions: int) -> float:
    """Bayesian information criterion of k-means, larger is better (X-means: Pelleg and Moore 2000, ICML).

    Clusters are taken for round Gaussians of one width, σ² = inertia / (d (n - k)); l - ½ (k - 1 + k d + 1) log n.
    """
    n, k = int(sizes.sum()), len(sizes)
    variance = max(inertia / (dimensions * (n - k)), 1e-300)
    likelihood = float((sizes * np.log(sizes / n)).sum())
    likelihood -= n * dimensions / 2 * math.log(2 * math.pi * variance) + dimensions * (n - k) / 2
    return likelihood - (k * (dimensions + 1)) / 2 * math.log(n)


def choose_number(x: np.ndarray, least: int, seed: int) -> int:
    """The one of `CANDIDATES`, from `least` on, with the largest BIC; a cluster has 20 subjects or more on average.

    It is taken of the vectors' first principal components, before any network draws them together.
    """
    may = [k for k in CANDIDATES if k >= least and len(x) >= 20 * k] or [max(2, least)]
    random = np.random.default_rng([seed, 3])
    x = x if len(x) <= CHOOSE_ON else x[np.sort(random.choice(len(x), CHOOSE_ON, replace=False))]
    with threadpool_limits(1):
        x = PCA(min(CHOOSE_IN, *x.shape), random_state=seed).fit_transform(x)
    found = {}
    for k in may:
        made = k_means(x, k, seed, n_init=4)
        found[k] = bic(float(made.inertia_), np.bincount(made.labels_, minlength=k), x.shape[1])
    return max(found, key=lambda k: found[k])


# ----------------------------------------------------------------------------------------------------- the stages
def pretrain(
    config: Config, autoencoder: Autoencoder, feed: Vectors, standing: Standing, precision: Any
) -> Generator[Progress, None, None]:
    """Fit the autoencoder to reproduce the vectors: whole, or layer by layer and then whole."""
    preset, rows, none = PRESETS[config.preset], np.arange(len(feed.images)), np.empty(0, np.int64)
    epochs = preset.epochs if config.epochs is None else config.epochs
    recipe = replace(preset.pretraining, epochs=epochs, batch=config.batch, precision=precision)

    def error(network: nn.Module) -> Callable[[Tensor, np.ndarray], Tensor]:
        return lambda x, _: (network(x).float() - x).square().mean()

    n_layers = len(autoencoder.encoder) if preset.is_layerwise else 0
    h = feed
    for number in range(n_layers):
        name, layer = f"Layer {number + 1} of {n_layers}", Layer(autoencoder, number)
        for epoch in fit(name, layer, error(layer), h, rows, none, recipe, config.seed, standing):
            yield Progress(epoch.number, epoch.of, name.lower(), {"loss": epoch.train["loss"]})
        h = Vectors(outputs(partial(_rectified, layer.there), h, rows, 4096), feed.device)
    for epoch in fit("Autoencoder", autoencoder, error(autoencoder), feed, rows, none, recipe, config.seed, standing):
        rate = {"loss": epoch.train["loss"], "subjects_per_second": epoch.images_per_second}
        yield Progress(epoch.number, epoch.of, "training the autoencoder", rate)


def cluster(
    name: str, config: Config, dec: DEC, feed: Vectors, standing: Standing, precision: Any
) -> Generator[Progress, None, None]:
    """Pull q towards p, p taken anew every `update_every` steps, until fewer than `tolerance` change their cluster."""
    preset, n, steps = PRESETS[config.preset], len(dec.assigned), steps_of(config, len(dec.assigned))
    weight = preset.reconstruction if config.reconstruction is None else config.reconstruction
    target = torch.zeros(n, len(dec.centers), device=feed.device)
    dec.begin()

    def draw(random: np.random.Generator) -> np.ndarray:
        take_target(dec, feed, target)
        if dec.round > 1 and dec.changed < config.tolerance:
            return np.empty(0, np.int64)
        return shuffled(random, np.arange(n), steps * min(config.batch, n))

    def loss(x: Tensor, rows: np.ndarray) -> Tensor:
        code = dec.autoencoder.encode(x).float()
        value = divergence(target[torch.from_numpy(rows).to(feed.device)], soft_assignment(code, dec.centers))
        return value + weight * (dec.autoencoder.decode(code).float() - x).square().mean() if weight else value

    rounds = preset.rounds if config.rounds is None else config.rounds
    recipe = replace(preset.clustering, epochs=rounds, batch=config.batch, precision=precision)
    for epoch in fit(name, dec, loss, feed, np.arange(n), np.empty(0, np.int64), recipe, config.seed, standing, draw):
        metrics = {"loss": epoch.train["loss"], "changed": float(dec.changed)}
        yield Progress(epoch.number, epoch.of, f"{name.lower()}: {float(dec.changed):.1%} changed", metrics)


def learn(
    config: Config,
    dec: DEC,
    feed: Vectors,
    label: np.ndarray,
    rows: np.ndarray,
    held: np.ndarray,
    standing: Standing,
    precision: Any,
) -> Generator[Progress, None, None]:
    """Multitask: α cross-entropy of the labels, told by q alone, + β KL(P‖Q) + γ reconstruction; p anew every epoch.

    Half of every batch has labels. It ends with the weights of the smallest cross-entropy of the `held` rows.

    Parameters
    ----------
    label
        int (n,), class of each; those outside `rows` and `held` are not looked at.
    """
    n, k, device = len(dec.assigned), len(dec.centers), feed.device
    dec.begin()
    begin_head(dec, clusters.crosstab(assign(dec, feed)[rows], label[rows], k, dec.head.out_features))
    target, classes = torch.zeros(n, k, device=device), torch.from_numpy(label).to(device)
    is_learned = np.isin(np.arange(n), rows)
    half = max(1, config.batch // 2)
    n_batches = min(steps_of(config, n), math.ceil(n / half))
    epochs = config.multitask_epochs

    def draw(random: np.random.Generator) -> np.ndarray:
        take_target(dec, feed, target)
        with_labels = shuffled(random, rows, n_batches * half).reshape(n_batches, half)
        any_of_all = shuffled(random, np.arange(n), n_batches * half).reshape(n_batches, half)
        return np.concatenate([with_labels, any_of_all], 1).ravel()

    def loss(x: Tensor, batch: np.ndarray) -> Tensor:
        code = dec.autoencoder.encode(x).float()
        q, at = soft_assignment(code, dec.centers), torch.from_numpy(batch).to(device)
        if not dec.training:
            return nn.functional.cross_entropy(dec.head(q).float(), classes[at])
        alpha, beta = weights_at(int(dec.round), epochs, config.schedule)
        known = torch.from_numpy(is_learned[batch]).to(device)
        value = alpha * nn.functional.cross_entropy(dec.head(q).float()[known], classes[at][known])
        if beta:
            value = value + beta * divergence(target[at], q)
        if config.gamma:
            value = value + config.gamma * (dec.autoencoder.decode(code).float() - x).square().mean()
        return value

    recipe = replace(PRESETS[config.preset].multitask, epochs=epochs, batch=2 * half, precision=precision)
    for epoch in fit("Multitask", dec, loss, feed, rows, held, recipe, config.seed, standing, draw):
        metrics = {"loss": epoch.train["loss"]} | {f"held_{name}": loss for name, loss in epoch.validation.items()}
        yield Progress(epoch.number, epoch.of, "learning from the labels", metrics)


def begin_head(dec: DEC, counts: np.ndarray) -> None:
    """Give the head what each cluster's labels say: for a subject surely in one, the shares of its classes.

    Every class has a cluster that says it (see `clusters.label_map`). The first step then starts from the clusters'
    own classes, as in the published code, where the cluster of most minority examples is made the minority's.
    """
    counts, meant = counts.astype(np.float64), clusters.label_map(counts)
    prior = (counts.sum(0) + 1) / (counts.sum() + counts.shape[1])
    for i in np.flatnonzero(meant >= 0):
        most = counts[i].argmax()
        counts[i, [most, meant[i]]] = counts[i, [meant[i], most]]
    shares = (counts + prior) / (counts.sum(1, keepdims=True) + 1)
    with torch.no_grad():
        dec.head.weight.copy_(torch.from_numpy(np.log(shares).T))
        dec.head.bias.zero_()


@torch.no_grad()
def take_target(dec: DEC, feed: Vectors, target: Tensor) -> None:
    """Put p of all subjects into `target` (n, k), and into `dec` who is where, and how many that has changed."""
    q = torch.from_numpy(assignments(dec, feed)[1]).to(feed.device)
    target.copy_(target_distribution(q))
    now = q.argmax(1)
    dec.changed.copy_((now != dec.assigned).float().mean())
    dec.assigned.copy_(now)
    dec.round += 1


def assignments(dec: DEC, feed: Vectors) -> tuple[np.ndarray, np.ndarray]:
    """Code float32 (n, c) and q float32 (n, k) of all vectors."""
    code = outputs(dec.autoencoder.encode, feed, np.arange(len(feed.images)), 4096)
    with torch.inference_mode():
        parts = [
            soft_assignment(torch.from_numpy(code[i : i + 4096]).to(feed.device), dec.centers).cpu().numpy()
            for i in range(0, len(code), 4096)
        ]
    return code, np.concatenate(parts)


def steps_of(config: Config, n: int) -> int:
    """Steps between two targets, of `n` subjects."""
    low, high = PRESETS[config.preset].update_every
    return min(high, max(low, math.ceil(n / config.batch))) if config.update_every is None else config.update_every


def assign(dec: DEC, feed: Vectors) -> np.ndarray:
    """The cluster of each vector, int64 (n,)."""
    return np.asarray(assignments(dec, feed)[1].argmax(1))


def shuffled(random: np.random.Generator, rows: np.ndarray, n: int) -> np.ndarray:
    """`n` of the rows, int64: whole shuffles of all one after another, so that none comes much more often."""
    times = -(-n // len(rows))
    return np.concatenate([random.permutation(rows) for _ in range(times)])[:n]


# ------------------------------------------------------------------------------------------------------- the labels
@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What labels say of a run's N subjects, those of the survey's test half aside.

    Attributes
    ----------
    label
        int64 (N,), -1 where nobody said: by experts, else by amateurs.
    is_learned, is_stopping, is_judged
        bool (N,): labels that clusters are named by and multitask is fitted to; that it is stopped by; that it is
        judged by. Whole duplicate groups. Where there are too few, all are learned and none judged.
    caveats
        What to know of them.
    may_learn
        Whether there is something to learn: two classes, and enough of them.
    """

    classes: tuple[str, ...]
    label: np.ndarray
    is_learned: np.ndarray
    is_stopping: np.ndarray
    is_judged: np.ndarray
    caveats: list[str]
    may_learn: bool
    is_simulated: bool

    @property
    def has(self) -> np.ndarray:
        """bool (N,): who has a label."""
        return np.asarray(self.label >= 0)


def known_of(config: Config, workspace: Workspace) -> Known:
    """Read the run's labels and part them.

    Raises
    ------
    ArtifactError
        Labels were told, and no subject outside the test half has one.
    """
    n = len(workspace.subject_ids)
    none = np.zeros(n, bool)
    labels = read_labels(workspace) if (workspace.directory / LABELS).exists() else None
    if labels is None or not {"expert", "amateur"} & labels.about.keys():
        words = "there are no labels: nothing says which clusters are new, or what they hold"
        return Known((), np.full(n, -1), none, none, none, [words], False, False)
    label = np.where(labels.expert >= 0, labels.expert, labels.amateur)
    n_test = int((labels.is_test & (label >= 0)).sum())
    label = np.where(labels.is_test, -1, label)
    has = label >= 0
    if not has.any():
        raise ArtifactError(
            f"no subject outside the test half has a label from {_sources(labels)}; label some, or run without labels"
        )
    caveats = _told(labels, has, n_test)
    found, counts = np.unique(label[has], return_counts=True)
    groups = labels.groups[has]
    is_learned, is_stopping, is_judged = none.copy(), none.copy(), none.copy()
    may_learn = len(found) > 1 and len(np.unique(groups)) >= LEAST_LABELS
    if len(found) == 1:
        caveats.append(f'all {len(groups):,} labels are "{labels.classes[found[0]]}": there is nothing to tell apart')
    elif not may_learn:
        n_groups = len(np.unique(groups))
        caveats.append(f"{n_groups:,} labels are too few to learn from and to judge by; there must be {LEAST_LABELS}")
    if not may_learn:
        is_learned = has
    else:
        fold = np.full(n, N_FOLDS)
        fold[has] = folds_of(groups, label[has], N_FOLDS, config.seed)
        for code, count in zip(found, counts, strict=True):
            if count == 1:
                fold[label == code] = N_FOLDS - 1
                caveats.append(f'class "{labels.classes[code]}" has 1 label: it is learned from, and judged by none')
        n_judged = min(N_FOLDS - 2, max(1, round(config.held_out * N_FOLDS)))
        is_judged, is_stopping = has & (fold < n_judged), has & (fold == n_judged)
        is_learned = has & (fold > n_judged)
    return Known(labels.classes, label, is_learned, is_stopping, is_judged, caveats, may_learn, labels.is_simulated)


def taught_by(workspace: Workspace) -> str:
    """That the vectors learned from what the clusters are judged by, as a caveat; "" where they did not."""
    scored = workspace.parents["score"]
    theirs = {atom for told in about_taught(scored) for atom in told.get("atoms", ())}
    own = {atom for told in about_labels(workspace.directory).values() for atom in told.get("atoms", ())}
    if not theirs & own:
        return ""
    return (
        f"circular: the vectors of {scored.name} learned from these very labels, those held out here too, so that "
        "figures by them are better than they would be of others; cluster vectors that learned from none"
    )


def _sources(labels: Labels) -> str:
    words = [words for setting in ("expert", "amateur") if (words := labels.words(setting))]
    return " and ".join(words) or "any source"


def _told(labels: Labels, has: np.ndarray, n_test: int) -> list[str]:
    caveats = [note for told in labels.about.values() for note in told.get("notes", ())]
    if labels.is_simulated:
        caveats.append("the labels are simulated: so is every figure of them")
    n_amateur = int((has & (labels.expert < 0)).sum())
    if n_amateur and n_amateur < has.sum():
        caveats.append(f"{n_amateur:,} of the {int(has.sum()):,} labels are by amateurs, where no expert said anything")
    if n_test:
        caveats.append(f"{n_test:,} labels are of the survey's test half: neither learned from nor counted")
    if labels.n_strangers:
        caveats.append(f"{labels.n_strangers:,} labels are of subjects that the run is not of")
    return caveats


# ------------------------------------------------------------------------------------------------------ the figures
@dataclass(frozen=True, slots=True, eq=False)
class Standings:
    """How far a stage's clusters tell the classes apart, by labels that were not learned from.

    Attributes
    ----------
    purity
        Share of the judged whose class is what their cluster is called by the learned ones.
    f1_clusters, f1_head
        Mean over the classes of F1, of the clusters' classes ("f1c") and of the head's; NaN where there is none.
    by_class
        Rates of F1 of each class: by clusters, by the head.
    """

    stage: str
    n_clusters: int
    purity: Rate
    homogeneity: float
    nmi: float
    f1_clusters: float
    f1_head: float
    by_class: list[tuple[str, Rate, Rate | None]]


def stand(
    stage: str, known: Known, rows: np.ndarray, assigned: np.ndarray, k: int, said: np.ndarray | None
) -> Standings:
    """Judge a stage's clusters.

    Parameters
    ----------
    rows
        int (n,): whom it is fitted to, among the N.
    assigned
        int (n,), their clusters.
    said
        int (n,), their classes by the head; None without one.
    """
    label, learned, judged = known.label[rows], known.is_learned[rows], known.is_judged[rows]
    counts = clusters.crosstab(assigned[learned], label[learned], k, len(known.classes))
    meant = clusters.label_map(counts)
    tested = clusters.crosstab(assigned[judged], label[judged], k, len(known.classes))
    by_clusters = meant[assigned[judged]]
    by_class = []
    for code, name in enumerate(known.classes):
        if (label[judged] == code).any():
            head = None if said is None else f1_of(said[judged] == code, label[judged] == code)
            by_class.append((name, f1_of(by_clusters == code, label[judged] == code), head))
    return Standings(
        stage,
        k,
        clusters.purity(tested, meant),
        clusters.homogeneity(assigned[judged], label[judged]),
        clusters.nmi(assigned[judged], label[judged]),
        _mean([rate.value for _, rate, _ in by_class]),
        _mean([rate.value for _, _, rate in by_class if rate is not None]),
        by_class,
    )


def f1_of(said: np.ndarray, true: np.ndarray) -> Rate:
    """F1 of bool (n,) against bool (n,)."""
    return f1(int((said & true).sum()), int((said & ~true).sum()), int((~said & true).sum()))


def _mean(values: Sequence[float | None]) -> float:
    return float(np.mean([0.0 if value is None else value for value in values])) if values else math.nan


def describe_stages(stages: Sequence[Standings], n_judged: int, simulated: str) -> list[Table]:
    """The tables of what each stage's clusters tell."""
    if not stages or not n_judged:
        return []
    rows = [
        [
            one.stage,
            one.n_clusters,
            spell(one.purity),
            _digits(one.homogeneity),
            _digits(one.nmi),
            _digits(one.f1_clusters),
            _digits(one.f1_head),
        ]
        for one in stages
    ]
    columns = ("after", "clusters", "purity [95 %]", "homogeneity", "NMI", "F1 of clusters", "F1 of the head")
    note = (
        f"by {n_judged:,} labels that were held out; a cluster is called what most of the other labels in it are; "
        "F1 is the mean over the classes"
    )
    tables = [Table(f"What the clusters tell of the classes{simulated}", columns, rows, note)]
    last = stages[-1]
    heads = {name: rate for one in stages for name, _, rate in one.by_class if rate is not None}
    classes = [
        [name, int(rate.n), spell(rate, False), spell(heads[name], False) if name in heads else ""]
        for name, rate, _ in last.by_class
    ]
    title = f"F1 of each class{simulated}: by clusters after {last.stage}, by the head after multitask"
    return [*tables, Table(title, ("class", "2 TP + FP + FN", "by clusters [95 %]", "by the head [95 %]"), classes)]


def spell(rate: Rate, has_counts: bool = True) -> str:
    """``0.812 [0.741, 0.873] (104 of 128)``."""
    if rate.value is None or rate.low is None or rate.high is None:
        return "–"
    words = f"{rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"
    return f"{words} ({rate.k:g} of {rate.n:g})" if has_counts else words


def _digits(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)


# ----------------------------------------------------------------------------------------------------- the kind
def run(config: Config, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Cluster the subjects of a survey, with labels where there are any.

    A run that was stopped goes on where it was.

    Raises
    ------
    ArtifactError
        No vectors or images, too few of them, labels that are none of these subjects', or a loss that is not finite.
    """
    torch.set_num_threads(workspace.threads)
    device, preset = pick_device(config.device), PRESETS[config.preset]
    precision: Any = "bfloat16" if device.type == "cuda" else "float32"
    known, source = known_of(config, workspace), Source(config, workspace)
    if config.on == "latents" and known.may_learn and (told := taught_by(workspace)):
        known.caveats.append(told)
    yield Progress(0, 1, "reading the vectors")
    rows, x = sample(config, workspace, source, known)
    k_told = preset.clusters if config.clusters is None else config.clusters
    n_classes = len(np.unique(known.label[known.has])) if known.may_learn else 0
    least = max(2, n_classes, k_told or 0)
    if len(rows) < 2 * least:
        raise ArtifactError(
            f"{len(rows):,} subjects with vectors do not make {least} clusters; take --clusters {len(rows) // 4 or 1} "
            "or fewer, or a run of more subjects"
        )
    if k_told and k_told < n_classes:
        raise ArtifactError(f"{k_told} clusters cannot tell {n_classes} classes apart; take --clusters {n_classes}")
    scale = Scale.of(x, preset.scale if config.scale is None else config.scale)
    feed = Vectors(scale(x), device)
    labels = workspace.directory / LABELS
    standing = Standing(
        workspace.directory,
        {"n": len(rows), "size": x.shape[1], "seed": config.seed, "preset": config.preset, "device": device.type}
        | {"labels": sha256_file(labels) if labels.exists() else ""},
    )
    findings, stages = Findings(caveats=list(known.caveats)), []
    simulated = " (simulated labels)" if known.is_simulated else ""
    autoencoder = network_of(config.seed, partial(Autoencoder, x.shape[1], layers_of(config), config.code_size), device)
    yield from pretrain(config, autoencoder, feed, standing, precision)

    centers = standing.kept("k-means")
    if centers is None:
        yield Progress(0, 1, "k-means")
        code = outputs(autoencoder.encode, feed, np.arange(len(rows)), 4096)
        k = k_told or choose_number(feed.images, least, config.seed)
        centers = {"centers": k_means(code, k, config.seed).cluster_centers_.astype(np.float32)}
        standing.keep("k-means", centers)
    start = torch.from_numpy(centers["centers"]).to(device)
    dec: DEC = network_of(config.seed, partial(DEC, autoencoder, start, len(rows), len(known.classes)), device)
    k = len(start)

    def report(stage: str, has_head: bool) -> None:
        code, q = assignments(dec, feed)
        assigned = np.asarray(q.argmax(1))
        if known.may_learn:
            with torch.inference_mode():
                said = dec.head(torch.from_numpy(q).to(device)).argmax(1).cpu().numpy() if has_head else None
            stages.append(stand(stage, known, rows, assigned, k, said))
            findings.tables = describe_stages(stages, int(known.is_judged[rows].sum()), simulated)
        findings.write(workspace.directory)
        nearest_first = clusters.distances(code, dec.centers.detach().cpu().numpy())
        listed = clusters_of(config, known, rows, assigned, dec.centers.detach().cpu().numpy())
        show(workspace, standing, known, listed, rows, assigned, nearest_first)

    report("k-means", False)
    yield from cluster("Clustering", config, dec, feed, standing, precision)
    report("clustering", False)
    if config.multitask and known.may_learn:
        learned, held = (np.flatnonzero(mask[rows]) for mask in (known.is_learned, known.is_stopping))
        yield from learn(config, dec, feed, known.label[rows], learned, held, standing, precision)
        report("multitask", True)
        yield from cluster("Reclustering", config, dec, feed, standing, precision)
        report("reclustering", False)

    yield Progress(0, source.n, "placing every subject")
    dec.eval()
    write_checkpoint(workspace, dec, scale)
    code = yield from describe(config, workspace, source, dec, scale)
    return write(config, workspace, known, stages, findings, dec, code, rows)


def layers_of(config: Config) -> list[int]:
    """Sizes of the layers between vector and code.

    Raises
    ------
    ArtifactError
        They are not whole numbers with hyphens between them.
    """
    told = PRESETS[config.preset].layers if config.layers is None else config.layers
    try:
        sizes = [int(part) for part in told.split("-")]
    except ValueError:
        sizes = [0]
    if min(sizes) < 1:
        raise ArtifactError(f'layers "{told}" are not sizes such as 500-500-2000; write whole numbers above 0')
    return sizes


def sample(config: Config, workspace: Workspace, source: Source, known: Known) -> tuple[np.ndarray, np.ndarray]:
    """Whom the networks are fitted to: a random sample, and all that have labels; rising rows, and their vectors."""
    may = source.may if workspace.left_out is None else source.may & ~workspace.left_out
    rows = np.flatnonzero(may)
    drawn = np.random.default_rng([config.seed, 5]).permutation(rows)[: config.fit_on]
    rows = np.union1d(drawn, np.flatnonzero(may & known.has))
    if not len(rows):
        raise ArtifactError("no subject has a vector to cluster; build on another score run")
    rows, x = source.sample(rows)
    if len(rows) < 4:
        raise ArtifactError(f"{len(rows):,} subjects have something to cluster; there must be 4 or more")
    return rows, x


def write_checkpoint(workspace: Workspace, dec: DEC, scale: Scale) -> None:
    """All that a subject's cluster is told by: the encoder, the centers, the head, and how vectors are scaled."""
    kept = {name: t for name, t in dec.state_dict().items() if name not in ("assigned", "changed", "round")}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in kept.items()}
    tensors |= {"scale.mean": torch.from_numpy(scale.mean), "scale.unit": torch.from_numpy(scale.unit)}
    write_bytes(workspace.directory / CHECKPOINT, to_safetensors(tensors, metadata={"length": str(scale.is_length)}))


def describe(
    config: Config, workspace: Workspace, source: Source, dec: DEC, scale: Scale
) -> Generator[Progress, None, np.ndarray]:
    """The code of every subject, float32 (N, c), NaN where there is none."""
    device = dec.centers.device

    def code_of(x: np.ndarray) -> np.ndarray:
        return outputs(dec.autoencoder.encode, Vectors(scale(x), device), np.arange(len(x)), 4096)

    if config.on == "images":
        about = {"checkpoint": sha256_file(workspace.directory / CHECKPOINT)}
        code, _ = yield from describe_all(
            workspace, about, lambda images: {"latents": code_of(pixels(images, source.side))}
        )
        assert code is not None  # of what describe says, it has latents
        return code
    found = scratch_array(workspace.directory, np.float32, (source.n, dec.centers.shape[1]))
    found[:] = np.nan
    for i in range(0, source.n, 65_536):
        rows, x = source.sample(np.arange(i, min(i + 65_536, source.n)))
        if len(rows):
            found[rows] = code_of(x)
        yield Progress(min(i + 65_536, source.n), source.n, "placing every subject")
    return found


def clusters_of(
    config: Config, known: Known, rows: np.ndarray, assigned: np.ndarray, centers: np.ndarray
) -> list[Cluster]:
    """The clusters of subjects at `rows`, novel ones first; those that nobody is in are left out."""
    k, label = len(centers), known.label[rows]
    n_classes = max(len(known.classes), 1)
    learned = clusters.crosstab(assigned, np.where(known.is_learned[rows], label, -1), k, n_classes)
    judged = clusters.crosstab(assigned, np.where(known.is_judged[rows], label, -1), k, n_classes)
    counted = clusters.crosstab(assigned, label, k, n_classes).sum(1)
    if not (config.multitask and known.may_learn):
        learned = judged = clusters.crosstab(assigned, label, k, n_classes)
    meant, sizes = clusters.label_map(learned), np.bincount(assigned, minlength=k)
    new, is_used = np.full(k, np.nan), sizes > 0
    new[is_used] = clusters.novelty(centers[is_used], counted[is_used] >= config.least_labels)
    return clusters.by_novelty(
        [
            Cluster(
                cluster=i,
                n=int(sizes[i]),
                novelty=None if math.isnan(new[i]) else float(new[i]),
                label=known.classes[meant[i]] if meant[i] >= 0 else "",
                n_labelled=int(counted[i]),
                purity=(int(judged[i, meant[i]]) if meant[i] >= 0 else 0, int(judged[i].sum())),
            )
            for i in np.flatnonzero(is_used).tolist()
        ]
    )


def show(
    workspace: Workspace,
    standing: Standing,
    known: Known,
    listed: Sequence[Cluster],
    rows: np.ndarray,
    assigned: np.ndarray,
    distance: np.ndarray,
) -> None:
    """Write the picture: a row for each of the first clusters, the subjects nearest to its center."""
    if workspace.images is None:
        return
    drawn: list[tuple[str, np.ndarray]] = []
    for one in listed:
        members = np.flatnonzero(assigned == one.cluster)
        if not len(members) or len(drawn) == PICTURES:
            continue
        nearest = np.sort(rows[members[np.argsort(distance[members, one.cluster], kind="stable")[:SHOWN]]])
        drawn.append((words_of(one), np.concatenate([np.asarray(workspace.images[row : row + 1]) for row in nearest])))
    write_rows(workspace.directory, len(standing.history.records), drawn, workspace.preprocessing.get("bands"))


def words_of(one: Cluster) -> str:
    """``cluster 7: 34 subjects, novelty 1.2, called merger (11 of 13)``."""
    words = f"cluster {one.cluster}: {one.n:,} subject{'s' if one.n != 1 else ''}"
    if one.novelty is not None:
        words += f", novelty {one.novelty:.1f}"
    if one.label:
        k, n = one.purity
        words += f", called {one.label}" + (f" ({k:,} of {n:,})" if n else "")
    return words


def write(
    config: Config,
    workspace: Workspace,
    known: Known,
    stages: Sequence[Standings],
    findings: Findings,
    dec: DEC,
    code: np.ndarray,
    fit_rows: np.ndarray,
) -> dict[str, Any]:
    """Write clusters, scores and findings; numbers to keep."""
    n, centers = len(code), dec.centers.detach().cpu().numpy()
    assigned, probability, distance = np.full(n, -1), np.full(n, np.nan, np.float32), np.full(n, np.nan, np.float32)
    for i in range(0, n, 65_536):
        there = i + np.flatnonzero(np.isfinite(code[i : i + 65_536]).all(1))
        if not len(there):
            continue
        with torch.inference_mode():
            q = soft_assignment(torch.from_numpy(code[there]), torch.from_numpy(centers)).numpy()
        assigned[there], probability[there] = q.argmax(1), q.max(1)
        distance[there] = clusters.distances(code[there], centers)[np.arange(len(there)), assigned[there]]
    rows = np.flatnonzero(assigned >= 0)
    listed = clusters_of(config, known, rows, assigned[rows], centers)
    ids = workspace.subject_ids[rows]
    clusters.write_clusters(workspace.directory, ids, assigned[rows], probability[rows], distance[rows], listed)
    used = np.array([one.cluster for one in listed])
    is_labelled = np.array([one.n_labelled >= config.least_labels for one in listed])
    columns: dict[str, np.ndarray] = {
        "cluster": np.where(assigned >= 0, assigned, np.nan).astype(np.float32),
        "cluster_probability": probability,
    }
    if is_labelled.any():
        new = np.full(n, np.nan, np.float32)
        new[rows] = clusters.novelty(centers[used], is_labelled, np.asarray(code[rows]))
        columns["novelty"] = new
    anomaly = np.full(n, np.nan, np.float32)
    anomaly[rows] = isolation(np.asarray(code[rows]), config.seed)
    split = np.full(n, "unseen", "U10")
    split[fit_rows] = "train"
    missing = np.full(n, np.nan, np.float32)
    scores = {
        "subject_id": workspace.subject_ids,
        "split": split,
        "image_score": missing,
        "feature_score": missing,
        "anomaly_score": anomaly,
        "quality": np.where(assigned >= 0, "ok", "constant image" if config.on == "images" else "no latent vector"),
    }
    write_scores(workspace.directory, code, {**scores, **columns})
    results = tell(config, workspace, known, stages, findings, listed, assigned, fit_rows)
    title = "Mean distance to the nearest in the clusters' code"
    color = "novelty" if "novelty" in columns else "cluster_probability"
    told = {"score_title": title, "color": color, "splits": medians_by_split(scores)}
    return {**told, **results, "n_not_scored": n - len(rows)}


def tell(
    config: Config,
    workspace: Workspace,
    known: Known,
    stages: Sequence[Standings],
    findings: Findings,
    listed: Sequence[Cluster],
    assigned: np.ndarray,
    fit_rows: np.ndarray,
) -> dict[str, Any]:
    """Write the findings; numbers to keep."""
    simulated = " (simulated labels)" if known.is_simulated else ""
    sizes = sorted(one.n for one in listed)
    n_new = sum(one.n_labelled < config.least_labels for one in listed)
    findings.sentences = [
        f"{int((assigned >= 0).sum()):,} subjects are in {len(listed)} clusters of {sizes[0]:,} to {sizes[-1]:,}, "
        f"{sizes[len(sizes) // 2]:,} in the middle one."
    ]
    results: dict[str, Any] = {"n_clusters": len(listed), "n_fit": len(fit_rows)}
    if known.has.any():
        least = config.least_labels
        findings.sentences.append(
            f"{n_new} of {len(listed)} clusters have fewer than {least} labels{simulated}: the novel ones come first."
            if n_new
            else f"Every cluster has {least} labels or more{simulated}: none is novel."
        )
    if stages:
        last = stages[-1]
        findings.sentences.append(
            f"Of the labels that were held out, {spell(last.purity)} are what their cluster is called{simulated}; "
            f"{_beside(known, last, assigned)}."
        )
        results |= {"purity": last.purity.value, "homogeneity": _digits(last.homogeneity), "nmi": _digits(last.nmi)}
        heads = [one for one in stages if not math.isnan(one.f1_head)]
        results |= {"f1c": _digits(last.f1_clusters)} | ({"f1_head": _digits(heads[-1].f1_head)} if heads else {})
        judged = np.flatnonzero(known.is_judged & (assigned >= 0))
        if len(judged) >= FEW * len(listed):
            findings.tables.append(efforts(assigned[judged], known.label[judged], config.seed, simulated))
    if config.multitask and known.may_learn and config.schedule == "constant":
        findings.caveats.append(
            "α stayed 1 and β 0: what the published code does, by a slip, where the paper means α = 1 - t / T"
        )
    columns = ("cluster", "subjects", "novelty", "called", "labels", "of held-out labels")
    rows = [
        [
            one.cluster,
            one.n,
            None if one.novelty is None else round(one.novelty, 2),
            one.label,
            one.n_labelled,
            f"{one.purity[0]} of {one.purity[1]}" if one.purity[1] else "",
        ]
        for one in listed
    ]
    note = "novelty: distance of the center to the nearest of a labelled cluster, in median distances of two centers"
    findings.tables.append(Table(f"Clusters, novel ones first{simulated}", columns, rows, note))
    findings.write(workspace.directory)
    return {key: value for key, value in results.items() if value is not None}


def _beside(known: Known, last: Standings, assigned: np.ndarray) -> str:
    """What naming the most frequent class always would give, and which classes the clusters miss altogether."""
    counts = np.bincount(known.label[known.is_judged & (assigned >= 0)], minlength=len(known.classes))
    words = f"to say “{known.classes[int(counts.argmax())]}” always, {int(counts.max()):,} of {int(counts.sum()):,}"
    missed = [name for name, rate, _ in last.by_class if rate.value == 0]
    return words + (f"; “{'” and “'.join(missed)}” they miss altogether" if missed else "")


def efforts(assigned: np.ndarray, label: np.ndarray, seed: int, simulated: str) -> Table:
    """What labelling the held-out subjects by the grid would cost, beside grids of anybody."""
    rows = []
    for size in (25, 36):
        for words, cluster_of in (("clusters", assigned), ("at random", np.zeros_like(assigned))):
            made = clusters.effort(cluster_of, label, size, seed=seed)
            rows.append(
                [
                    f"{size}, {words}",
                    made.n,
                    made.n_grids,
                    f"{made.pure.mean():.0%}",
                    f"{made.saved.mean():.1%} ± {made.saved.std(ddof=1):.1%}",
                    f"{made.saved_published.mean():.1%} ± {made.saved_published.std(ddof=1):.1%}",
                ]
            )
    columns = ("grid", "subjects", "grids", "pure", "keys and clicks saved", "clicks saved, as published")
    note = (
        "against one key for each subject; mean and deviation of 5 shuffles. Saved: a key for each grid and a click on "
        "each exception (and a key, where there are more than two classes); as published, a pure grid costs nothing. "
        "Grids of the held-out alone: larger surveys fill them better"
    )
    return Table(f"Effort saved by labelling whole grids{simulated}", columns, rows, note)
