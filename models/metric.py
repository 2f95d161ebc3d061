"""Deep metric learning: an embedding in which images of one class are each other's nearest.

A network is fitted so that distances mean class, by losses of pytorch-metric-learning (Variawa, van Zyl & Woolway 2022,
IEEE Access 10, doi:10.1109/ACCESS.2022.3150881): *Proxy-NCA* (Movshovitz-Attias et al. 2017, arXiv:1703.07464; here the
class's own proxy counts in the denominator, too), *normalized softmax* (Zhai & Wu 2019, arXiv:1811.12649),
*contrastive* and *triplet* over all pairs and triplets of a batch. The cross-entropy of a plain classifier on the same
network is the control. Labels of amateurs, of experts, or of amateurs first and then of experts.

Embeddings are compared by angle: rows of ``latents.npy`` have length 1. They are judged out of fold, by
`models.retrieval`; the run's latents come from a network of all labels in the tune half.

Images are float32 in [0, 1], (B, C, H, W). Shapes in the comments: 64 pixels, 3 bands, width 16, embedding 64.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from pytorch_metric_learning import losses as library
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from models import features
from models.artifacts import CHECKPOINT, ArtifactError, Workspace, write_bytes
from models.autoencoder import POOLINGS, Autoencoder, taken
from models.czsl import HANDED
from models.describing import describe_all, write_described
from models.findings import Findings, Matrix, Table
from models.fitting import Draw, Epoch, Recipe, Standing, fit, network_of, outputs, turned
from models.grids import write_rows
from models.judging import Figure
from models.labels import LISTED, Labels, folds_of, read_labels
from models.progress import Progress
from models.ranking import NEIGHBORS
from models.reading import is_constant
from models.retrieval import METRICS, chance, mean, mean_of_classes, mean_over_classes, retrieve, vote
from models.scoring import load_checkpoint, pick_device, to_tensor
from models.steps import Feed

LossName = Literal["normalized_softmax", "proxy_nca", "contrastive", "triplet", "cross_entropy"]
#: Whose labels: a fit to one, or "both", amateurs' and then experts'.
Regime = Literal["both", "expert", "amateur"]

LOSSES: dict[LossName, str] = {
    "normalized_softmax": "normalized softmax",
    "proxy_nca": "Proxy-NCA",
    "contrastive": "contrastive",
    "triplet": "triplet",
    "cross_entropy": "cross-entropy",
}
CONTROL: LossName = "cross_entropy"
COMPARED: dict[str, tuple[LossName, ...]] = {
    "none": (),
    "cross_entropy": (CONTROL,),
    "proxies": ("normalized_softmax", "proxy_nca", CONTROL),
    "all": tuple(LOSSES),
}
REGIMES: dict[Regime, str] = {"both": "amateurs, then experts", "expert": "experts", "amateur": "amateurs"}
ORIENTATIONS = {"all": 8, "rotations": 4, "none": 1}

#: Margin of triplets, as squared distances of unit vectors go from 0 to 4; contrastive's are the library's, 0 and 1.
MARGIN = 0.2
PROXY_RATE = 10.0  # × the step size: proxies are few, and far from where they belong
PRETRAINED_RATE = 0.1  # × the step size, of what was trained before
PER_CLASS = 4  # of one class after the other in a batch
LEAST_PHOTOGRAPHS = 96  # pixels of side below which the network trained on photographs sees too little
REFERENCES = 20_000  # labelled subjects, drawn at random, that vote for the class of others
PIECE = 256  # images embedded at once
PICTURES = 8  # rows of a picture
LIVE, LOOKED_AT = 5, 300  # pictures while the first fold is fitted, and of how many held-out subjects at most


class Preset(NamedTuple):
    """What a preset says of settings that are left empty; epochs None: as many as show `IMAGES` images."""

    compare: str
    softmax_scale: float
    temperature: float
    epochs: int | None
    patience: int
    folds: int
    is_annealed: bool


#: Scales of the modern preset were chosen on one half of 3,937 galaxies and judged on the other (tests/benchmarks).
PRESETS = {
    "modern": Preset("cross_entropy", 1.0, 0.5, None, 0, 3, True),
    "paper": Preset("all", 1.0, 0.05, 60, 0, 5, False),
}
IMAGES, FEWEST, MOST = 20_000, 8, 30
UNKNOWN = (
    "The preset is what is told of Variawa et al. 2022: losses at their library's settings, amateurs before experts. "
    "Network, embedding, image size, optimizer, epochs and miner are not known; those here are ours."
)


class Config(Protocol):
    """See `explorer.kinds.metric.MetricConfig`."""

    @property
    def preset(self) -> str: ...
    @property
    def loss(self) -> LossName: ...
    @property
    def compare(self) -> str | None: ...
    @property
    def learn_from(self) -> str: ...
    @property
    def backbone(self) -> str: ...
    @property
    def embedding_size(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def size(self) -> int | None: ...
    @property
    def softmax_scale(self) -> float | None: ...
    @property
    def temperature(self) -> float | None: ...
    @property
    def epochs(self) -> int | None: ...
    @property
    def patience(self) -> int | None: ...
    @property
    def batch(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def turn(self) -> str: ...
    @property
    def folds(self) -> int | None: ...
    @property
    def validation(self) -> float: ...
    @property
    def neighbors(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...


def turn_of(config: Config, classes: Sequence[str]) -> str:
    """Orientations in which images are shown; a mirror image of a class with a sense of rotation is none of it."""
    if config.turn != "auto":
        return config.turn
    return "rotations" if any(HANDED.search(name.casefold()) for name in classes) else "all"


def preset_of(config: Config) -> Preset:
    """The preset's values with those that the config tells in their place."""
    told = {name: value for name in Preset._fields if (value := getattr(config, name, None)) is not None}
    return PRESETS[config.preset]._replace(**told)


# ---------------------------------------------------------------------------------------------------- the networks
class Small(nn.Module):
    """Image (B, 3, 64, 64) → (B, 64), from scratch."""

    def __init__(self, bands: int, width: int) -> None:
        super().__init__()

        def block(channels_in: int, channels_out: int, side: int = 3, stride: int = 1) -> list[nn.Module]:
            convolution = nn.Conv2d(channels_in, channels_out, side, stride, side // 2, bias=False)
            return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU()]

        self.layers = nn.Sequential(
            *block(bands, width, 5, 2),  # (B, 16, 32, 32)
            nn.MaxPool2d(2),
            *block(width, 2 * width),  # (B, 32, 16, 16)
            nn.MaxPool2d(2),
            *block(2 * width, 4 * width),  # (B, 64, 8, 8)
            *block(4 * width, 4 * width),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),  # (B, 64)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


class Photographs(nn.Module):
    """Image (B, C, H, W) → (B, 1280): EfficientNet-lite0, see `models.features`."""

    def __init__(self, rgb: Sequence[int]) -> None:
        super().__init__()
        self.network, self.rgb = features.network(), list(rgb)

    def forward(self, x: Tensor) -> Tensor:
        x = (x[:, self.rgb] - features.MEAN) / features.DEVIATION
        made: Tensor = self.network.extract_features(x)  # type: ignore[operator]
        return made.mean((2, 3))


class Embedder(nn.Module):
    """Image (B, C, H, W) → embedding (B, 64), each normalized to mean 0 and deviation 1 (Zhai & Wu 2019)."""

    def __init__(self, backbone: nn.Module, n_features: int, embedding_size: int, size: int | None) -> None:
        super().__init__()
        self.backbone, self.size = backbone, size
        self.project = nn.Linear(n_features, embedding_size)
        self.norm = nn.LayerNorm(embedding_size, elementwise_affine=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.size and x.shape[-1] != self.size:
            x = nn.functional.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        return self.norm(self.project(self.backbone(x).flatten(1)))  # type: ignore[no-any-return]

    def unit(self, x: Tensor) -> Tensor:
        """Embeddings of length 1."""
        return nn.functional.normalize(self(x).float())


class CrossEntropy(nn.Module):
    """The control: a linear classifier on the embedding."""

    def __init__(self, n_classes: int, embedding_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(embedding_size, n_classes)

    def forward(self, embedding: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.linear(embedding), labels)


def criterion_of(
    loss: LossName, n_classes: int, embedding_size: int, softmax_scale: float, temperature: float
) -> nn.Module:
    """What takes embeddings (B, d) and labels int64 (B,) to a loss; all but cross-entropy normalize them to length 1.

    ``normalized_softmax``: mean of -log exp(cos(x, w_y) / T) / Σ_k exp(cos(x, w_k) / T).
    ``proxy_nca``: mean of -log exp(-s d²(x, p_y)) / Σ_k exp(-s d²(x, p_k)), the sum over all proxies. As d² is
    2 - 2 cos, it is normalized softmax at T = 1 / 2s: the library's T = 0.05 is its s = 10, and its s = 1 is T = 0.5.
    """
    if loss == "normalized_softmax":
        made: nn.Module = library.NormalizedSoftmaxLoss(n_classes, embedding_size, temperature=temperature)
    elif loss == "proxy_nca":
        made = library.ProxyNCALoss(n_classes, embedding_size, softmax_scale=softmax_scale)
    elif loss == "contrastive":
        made = library.ContrastiveLoss()
    elif loss == "triplet":
        made = library.TripletMarginLoss(margin=MARGIN)
    else:
        made = CrossEntropy(n_classes, embedding_size)
    return made


class Learner(nn.Module):
    """An embedder and what it is fitted by, proxies and all."""

    def __init__(self, embedder: Embedder, criterion: nn.Module) -> None:
        super().__init__()
        self.embedder, self.criterion = embedder, criterion


@dataclass(frozen=True, slots=True)
class Start:
    """What an embedder begins with.

    Attributes
    ----------
    weights
        Of the backbone, where it was trained before.
    words
        For a person.
    size
        Side that images are resampled to; None: as they are.
    """

    make: Any
    n_features: int
    weights: Mapping[str, Tensor] | None
    words: str
    size: int | None = None


def start_of(config: Config, workspace: Workspace) -> Start:
    """The backbone that the config and the parents name.

    Raises
    ------
    ArtifactError
        A run that cannot be read, or of images that were cut in another way; packages that are not installed.
    """
    bands = workspace.images.shape[-1]
    if folder := workspace.parents.get("train"):
        model = load_checkpoint(folder, workspace.preprocessing)
        kept = {key: tensor.detach().clone() for key, tensor in model.encoder.state_dict().items()}
        _check_size(config, model.architecture.size, folder)
        architecture = model.architecture
        return Start(
            lambda: type(model)(architecture).encoder, architecture.latent_size, kept, f"the encoder of {folder.name}"
        )
    if folder := workspace.parents.get("autoencoder"):
        width, code, kept = _autoencoder_of(folder, workspace)
        _check_size(config, workspace.images.shape[1], folder)
        n = code * (workspace.images.shape[1] // 2**POOLINGS) ** 2
        return Start(lambda: Autoencoder(bands, width, code).encoder, n, kept, f"the encoder of {folder.name}")
    if config.backbone == "photographs":
        rgb = features.rgb_of_crops(workspace)
        weights = {f"network.{key}": tensor for key, tensor in features.packaged().items()}
        side = config.size or max(LEAST_PHOTOGRAPHS, workspace.images.shape[1])
        return Start(lambda: Photographs(rgb), 1280, weights, "EfficientNet-lite0, trained on photographs", side)
    small = "a small network from scratch"
    return Start(lambda: Small(bands, config.width), 4 * config.width, None, small, config.size)


def _check_size(config: Config, size: int, folder: Path) -> None:
    if config.size and config.size != size:
        raise ArtifactError(f"the encoder of {folder.name} takes images of {size} px; leave out --size {config.size}")


def _autoencoder_of(folder: Path, workspace: Workspace) -> tuple[int, int, dict[str, Tensor]]:
    path = folder / CHECKPOINT
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["voorwerp"])
            own = [name for name in file.keys() if name.startswith("encoder.")]  # noqa: SIM118 (not a dict)
            weights = {name.removeprefix("encoder."): file.get_tensor(name) for name in own}
        width, code = weights["0.weight"].shape[0], weights["3.weight"].shape[0]
        cut = dict(about["preprocessing"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path} does not hold an autoencoder ({error}); name another run") from None
    if cut != dict(workspace.preprocessing):
        raise ArtifactError(f"{path} was trained on images cut in another way; name a run of this survey")
    return width, code, weights


def learner_of(
    config: Config, start: Start, loss: LossName, n_classes: int, seed: int, device: torch.device
) -> Learner:
    """Embedder and criterion with the weights that the seed gives, and those that were trained before.

    All losses begin with the same embedder.
    """

    def make() -> nn.Module:
        backbone = start.make()
        if start.weights is not None:
            backbone.load_state_dict(start.weights)
        embedder = Embedder(backbone, start.n_features, config.embedding_size, start.size)
        scale, temperature = preset_of(config).softmax_scale, preset_of(config).temperature
        return Learner(embedder, criterion_of(loss, n_classes, config.embedding_size, scale, temperature))

    made: Learner = network_of(seed, make, device)
    return made


# --------------------------------------------------------------------------------------------------- the labels
@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """The n labelled subjects of the tune half.

    Attributes
    ----------
    rows
        int64 (n,), ascending: which of the survey's.
    images
        uint8 (n, H, W, C).
    labels
        By "amateur" and "expert": int64 (n,), -1 without.
    truth
        Which of the two judges.
    fold
        int64 (n,): where each is held out.
    regimes
        What can be compared; the first makes the embedding.
    n_test
        Labelled subjects of the test half, which are left alone.
    """

    rows: np.ndarray
    images: np.ndarray
    labels: Mapping[str, np.ndarray]
    truth: Literal["amateur", "expert"]
    groups: np.ndarray
    fold: np.ndarray
    classes: tuple[str, ...]
    regimes: tuple[Regime, ...]
    n_test: int

    @property
    def judged(self) -> np.ndarray:
        """Class by whom judges, int64 (n,), -1 without."""
        return self.labels[self.truth]


def task_of(config: Config, workspace: Workspace, labels: Labels) -> Task:
    """The labelled subjects, whose labels teach and whose judge.

    Experts judge, where there are any.

    Raises
    ------
    ArtifactError
        No labels, those that were asked for are not there, one class only, or a class with one member.
    """
    may = ~labels.is_test
    if workspace.left_out is not None:
        may &= ~workspace.left_out
    given = {"amateur": np.where(may, labels.amateur, -1), "expert": np.where(may, labels.expert, -1)}
    there = [name for name in ("expert", "amateur") if (given[name] >= 0).any()]
    if not there:
        n = int(((labels.expert >= 0) | (labels.amateur >= 0)).sum())
        rest = f": all {n:,} labels are of the test half" if n else ""
        raise ArtifactError(
            f"metric learns from labels, and there are none{rest}; name --expert or --amateur; {LISTED}"
        )
    if config.learn_from != "all" and config.learn_from not in there:
        raise ArtifactError(
            f"there are no labels by {REGIMES[config.learn_from]} to learn from; name them by --{config.learn_from}"  # type: ignore[index]
        )
    rows = np.flatnonzero((given["amateur"] >= 0) | (given["expert"] >= 0))
    images = np.concatenate(list(taken(workspace.images, rows)))
    seen = ~is_constant(images)
    rows, images = rows[seen], images[seen]
    own = {name: values[rows] for name, values in given.items()}
    truth: Literal["amateur", "expert"] = "expert" if "expert" in there else "amateur"
    for name in there:
        _check_classes(own[name], labels, name, is_judge=name == truth, groups=labels.groups[rows])
    every: tuple[Regime, ...] = ("both", "expert", "amateur") if len(there) == 2 else (truth,)
    first: Regime = every[0] if config.learn_from == "all" else config.learn_from  # type: ignore[assignment]
    strata = np.where(own[truth] >= 0, own[truth], len(labels.classes) + own["amateur"])
    fold = folds_of(labels.groups[rows], strata, preset_of(config).folds, config.seed)
    n_test = int((labels.is_test & ((labels.expert >= 0) | (labels.amateur >= 0))).sum())
    order = (first, *(regime for regime in every if regime != first))
    return Task(rows, images, own, truth, labels.groups[rows], fold, labels.classes, order, n_test)


def _check_classes(codes: np.ndarray, labels: Labels, who: str, *, is_judge: bool, groups: np.ndarray) -> None:
    whose = f"{REGIMES[who]} ({labels.words(who)})" if labels.words(who) else REGIMES[who]  # type: ignore[index]
    there = np.unique(codes[codes >= 0])
    if len(there) < 2:
        only = f'"{labels.classes[there[0]]}"' if len(there) else "none"
        raise ArtifactError(
            f"the labels by {whose} are of one class only, {only}; an embedding needs two: label others, too"
        )
    if not is_judge:
        return
    for code in there:
        if len(np.unique(groups[codes == code])) < 2:
            raise ArtifactError(
                f'the class "{labels.classes[code]}" has one member only among the labels by {whose}; '
                f"label another one, or leave it out by --means {labels.classes[code]}="
            )


def split_of(y: np.ndarray, groups: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Who of n labelled ones is held out for validation, bool (n,): whole groups, classes spread; nobody of too few."""
    held = np.zeros(len(y), bool)
    if share <= 0:
        return held
    parts = max(2, round(1 / share))
    if len(np.unique(groups)) < 2 * parts:
        return held
    held = folds_of(groups, y, parts, seed) == 0
    return held if len(np.unique(y[~held])) == len(np.unique(y)) else np.zeros(len(y), bool)


def balanced(rows: np.ndarray, y: np.ndarray, batch: int) -> Draw:
    """Draws an epoch of about as many as there are rows, of each class as many, `PER_CLASS` of one after the other.

    Whoever is of a rare class comes several times. Batches are whole, so that each has pairs of one class.
    """
    members = [rows[y == c] for c in np.unique(y)]
    each = PER_CLASS * max(1, math.ceil(len(rows) / len(members) / PER_CLASS))

    def draw(random: np.random.Generator) -> np.ndarray:
        columns = []
        for own in members:
            turns = [random.permutation(own) for _ in range(math.ceil(each / len(own)))]
            columns.append(np.concatenate(turns)[:each].reshape(-1, PER_CLASS))
        table = np.stack(columns, 1)  # (rounds, classes, PER_CLASS)
        order = np.concatenate([turn[random.permutation(len(members))].ravel() for turn in table])
        return order[: max(batch, len(order) // batch * batch)]

    return draw


def spread(rows: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """Rows for a validation loss in which classes count alike as far as that is cheap: rare ones several times."""
    if not len(rows):
        return rows
    classes, counts = np.unique(y, return_counts=True)
    each = min(int(counts.max()), 2 * math.ceil(len(rows) / len(classes)))
    random = np.random.default_rng([seed, 17])
    found = [np.resize(random.permutation(rows[y == c]), each) for c in classes]
    return random.permutation(np.concatenate(found))


# ---------------------------------------------------------------------------------------------------------- fits
@dataclass(slots=True)
class Bench:
    """All that the fits of a run have in common, and what is done."""

    config: Config
    workspace: Workspace
    task: Task
    start: Start
    feed: Feed
    standing: Standing
    total: int = 0
    done: int = 0
    targets: dict[str, Tensor] = field(default_factory=dict)

    def epochs_of(self, n: int) -> int:
        """Epochs of a fit to n images."""
        told = preset_of(self.config).epochs
        return told or min(MOST, max(FEWEST, math.ceil(IMAGES / max(n, 1))))

    def recipe(self, n: int) -> Recipe:
        """How a fit to n images goes."""
        preset = preset_of(self.config)
        return Recipe(
            self.epochs_of(n),
            self.config.batch,
            self.config.learning_rate,
            "adamw",
            weight_decay=1e-4,
            patience=preset.patience,
            is_annealed=preset.is_annealed,
            precision="bfloat16" if self.feed.device.type == "cuda" else "float32",
        )

    def learner(self, loss: LossName, seed: int) -> Learner:
        """A new one."""
        return learner_of(self.config, self.start, loss, len(self.task.classes), seed, self.feed.device)

    def fit(
        self, name: str, learner: Learner, who: Literal["amateur", "expert"], among: np.ndarray, seed: int
    ) -> Generator[Epoch, None, np.ndarray]:
        """Fit to those of bool (n,) `among` with a label by `who`; returns who was held out to validate, bool (n,)."""
        labels, task, turns = self.task.labels[who], self.task, ORIENTATIONS[turn_of(self.config, self.task.classes)]
        rows = np.flatnonzero(among & (labels >= 0))
        y = labels[rows]
        held = split_of(y, task.groups[rows], self.config.validation, seed)
        target = self.targets.setdefault(who, torch.from_numpy(labels).to(self.feed.device))

        def loss(x: Tensor, batch: np.ndarray) -> Tensor:
            if learner.training and turns > 1:
                x = turned(x, torch.randint(turns, (len(x),)).numpy())
            embedding = learner.embedder(x)
            with torch.autocast(x.device.type, enabled=False):
                at = torch.from_numpy(batch).to(x.device)
                made: Tensor = learner.criterion(embedding.float(), target[at])
            return made

        rate = self.config.learning_rate
        backbone, others = learner.embedder.backbone, list(learner.embedder.project.parameters())
        proxies = list(learner.criterion.parameters())
        if isinstance(learner.criterion, CrossEntropy):
            others, proxies = others + proxies, []
        groups: list[dict[str, Any]] = [
            {"params": list(backbone.parameters()), "lr": rate * (PRETRAINED_RATE if self.start.weights else 1)},
            {"params": others},
            {"params": proxies, "lr": rate * PROXY_RATE, "weight_decay": 0.0},
        ]
        yield from fit(
            name,
            learner,
            loss,
            self.feed,
            rows[~held],
            spread(rows[held], y[held], seed),
            self.recipe(int((~held).sum())),
            seed,
            self.standing,
            balanced(rows[~held], y[~held], self.config.batch),
            [group for group in groups if group["params"]],
        )
        learner.eval()
        validation = np.zeros(len(labels), bool)
        validation[rows[held]] = True
        return validation

    def embed(self, learner: Learner, at: np.ndarray) -> np.ndarray:
        """Embeddings of length 1 of the task's images `at`, float32 (n, d)."""
        return outputs(learner.embedder.unit, self.feed, at, PIECE)

    def look(self, learner: Learner, fold: int) -> dict[str, np.ndarray]:
        """Of some held-out subjects, what a picture of them needs: see `judge`."""
        task = self.task
        queries = np.flatnonzero((task.fold == fold) & (task.judged >= 0))
        if len(queries) > LOOKED_AT:
            queries = np.sort(np.random.default_rng([self.config.seed, 29]).choice(queries, LOOKED_AT, replace=False))
        x, y = self.embed(learner, queries), task.judged[queries]
        found = retrieve(x, y, task.groups[queries], len(task.classes), k=self.config.neighbors, seed=self.config.seed)
        nearest = np.where(found.nearest >= 0, queries[found.nearest], -1)
        return {"queries": queries, "nearest": nearest, "held_out.map": found.values["map"]}

    def judge(self, learner: Learner, fold: int) -> dict[str, np.ndarray]:
        """How well held-out subjects are found, among each other and among the others: arrays to keep."""
        task, config = self.task, self.config
        queries = np.flatnonzero((task.fold == fold) & (task.judged >= 0))
        references = np.flatnonzero((task.fold != fold) & (task.judged >= 0))
        q, r = self.embed(learner, queries), self.embed(learner, references)
        y, n_classes = task.judged, len(task.classes)
        found: dict[str, np.ndarray] = {"queries": queries}
        among = retrieve(q, y[queries], task.groups[queries], n_classes, k=config.neighbors, seed=config.seed)
        there = (r, y[references], task.groups[references])
        trained = retrieve(q, y[queries], task.groups[queries], n_classes, *there, k=config.neighbors, seed=config.seed)
        for where, one in (("held_out", among), ("training", trained)):
            found |= {f"{where}.{name}": values for name, values in one.values.items()}
            found |= {f"{where}.predicted": one.predicted, f"{where}.n_relevant": one.n_relevant}
            found[f"{where}.chance"] = chance(one.n_relevant, one.n_references)
        found["shares"] = trained.shares
        found["nearest"] = np.where(among.nearest >= 0, queries[among.nearest], -1)
        return found


# ------------------------------------------------------------------------------------------------------- findings
#: Loss and regime → what `Bench.judge` found in each fold that is done.
Cells = dict[tuple[LossName, Regime], list[dict[str, np.ndarray]]]


def column(folds: Sequence[Mapping[str, np.ndarray]], name: str) -> np.ndarray:
    """What was found of all queries so far, by the folds in turn."""
    return np.concatenate([fold[name] for fold in folds])


def findings_of(
    config: Config, task: Task, labels: Labels, cells: Cells, n_folds: int, words: str, *, is_done: bool
) -> Findings:
    """What is to be said of what was judged so far."""
    told = Findings()
    first = (config.loss, task.regimes[0])
    if not (folds := cells.get(first)):
        return told
    title = "simulated labels: " if labels.is_simulated else ""
    queries = column(folds, "queries")
    groups, y = task.groups[queries], task.judged[queries]
    score = {name: column(folds, f"held_out.{name}") for name in METRICS}
    so_far = "" if len(folds) == n_folds else f" So far, {len(folds)} of {n_folds} folds."
    told.sentences += [
        _named(config, task, labels, folds) + so_far,
        _retrieved(score, column(folds, "held_out.chance"), y, groups),
    ]
    paired: list[list[Any]] = []
    better: list[str] = []
    for loss in LOSSES:
        there = loss != config.loss and (loss, first[1]) in cells
        if there and _pair(told, paired, cells, task, first, (loss, first[1]), LOSSES[loss]):
            better.append(f"Loss: {loss} (--loss {loss})")
    for regime in task.regimes[1:]:
        key: tuple[LossName, Regime] = (config.loss, regime)
        if key in cells and _pair(told, paired, cells, task, first, key, REGIMES[regime]):
            asked = "all" if regime == "both" else regime
            better.append(f"Learn from: {asked} (--learn-from {asked})")
    if better:
        told.sentences.append(f"By MAP it would be better otherwise. To try: {', or '.join(better)}.")
    told.sentences.append(_sources(task, labels))
    told.caveats = caveats(config, task, labels, folds, words, is_done=is_done)
    for where, caption in (
        ("held_out", "held-out subjects among each other, each left out in turn"),
        ("training", "held-out subjects among those that it learned from"),
    ):
        rows = [_row(task, cells[key], key, where) for key in sorted(cells, key=lambda key: _place(key, first))]
        note = (
            f"accuracy: most of the {config.neighbors} nearest; 95 % intervals draw duplicate groups of queries; "
            f"by chance MAP would be {_chance(folds, where)}"
        )
        columns = ["loss", "taught by", "queries", "lone", *METRICS.values(), "MAP, mean over classes"]
        told.tables.append(Table(f"{title}Retrieval: {caption}", columns, rows, note))
    if paired:
        told.tables.append(
            Table(
                f"{title}MAP of {LOSSES[first[0]]}, taught by {REGIMES[first[1]]}, minus that of another",
                ["other loss", "taught by", "queries", "difference", "mean over classes"],
                paired,
                "paired over the same held-out queries, 95 % intervals over duplicate groups",
            )
        )
    by_class = []
    for code in np.unique(y):
        own = y == code
        figure = mean(score["map"][own], groups[own])
        by_class.append([task.classes[code], int(own.sum()), figure.spell(3, 3)])
    told.tables.append(Table(f"{title}MAP by class", ["class", "queries", "MAP"], by_class, f"{LOSSES[first[0]]}"))
    said = column(folds, "training.predicted")
    counts = np.zeros((len(task.classes), len(task.classes)), np.int64)
    np.add.at(counts, (y[said >= 0], said[said >= 0]), 1)
    told.matrices.append(
        Matrix(
            f"{title}Class by the {config.neighbors} nearest that it learned from, out of fold",
            list(task.classes),
            list(task.classes),
            counts.tolist(),
            f"rows: what {REGIMES[task.truth]} say",
        )
    )
    return told


def _named(config: Config, task: Task, labels: Labels, folds: Sequence[Mapping[str, np.ndarray]]) -> str:
    """How often the nearest name the class, beside the most frequent class for everybody."""
    queries, named = column(folds, "queries"), column(folds, "training.accuracy")
    known = np.isfinite(named)
    named, y, groups = named[known], task.judged[queries][known], task.groups[queries][known]
    taught = f"{_title(LOSSES[config.loss])}, taught by {REGIMES[task.regimes[0]]}"
    simulated = "simulated " if labels.is_simulated else ""
    said = (
        f"{taught}: out of fold, the {config.neighbors} nearest that it learned from name the {simulated}class of "
        f"{int(named.sum()):,} of {counted_of(len(named))}"
    )
    if not len(named):
        return said + "."
    by_it = (y == np.bincount(y).argmax()).astype(np.float64)
    told = mean(named - by_it, groups)
    verdict = "above" if told.low > 0 else "below" if told.high < 0 else "not told apart from"
    over = mean_of_classes(named, y, groups).spell(3, 3)
    return (
        f"{said}, {mean(named, groups).spell(3, 3)}, mean over classes {over}; by accuracy {verdict} always naming the "
        f"most frequent class, {int(by_it.sum()):,} of {len(y):,}, {by_it.mean():.3f}, mean over classes "
        f"{mean_over_classes(by_it, y):.3f}."
    )


def counted_of(n: int) -> str:
    """How many were held out, in words."""
    return f"{n:,} held-out subject{'' if n == 1 else 's'}"


def _retrieved(score: Mapping[str, np.ndarray], by_chance: np.ndarray, y: np.ndarray, groups: np.ndarray) -> str:
    """How well held-out subjects find their like among each other."""
    value, nearest = score["map"], score["precision_at_1"]
    n = int(np.isfinite(value).sum())
    found = f"MAP {mean(value, groups).spell(3, 3)} over {counted_of(n)} among each other"
    if not n:
        return found + "."
    over = mean_of_classes(value, y, groups).spell(3, 3)
    first = mean(nearest, groups).spell(3, 3)
    return (
        f"{found} (by chance {_finite_mean(by_chance):.3f}), mean over classes {over} (by chance "
        f"{mean_over_classes(by_chance, y):.3f}). The nearest other one is of its class for "
        f"{int(np.nansum(nearest)):,} of {n:,}, {first}."
    )


def _sources(task: Task, labels: Labels) -> str:
    said = [
        f"{REGIMES[name]} are {labels.words(name) or 'not named'}, {int((task.labels[name] >= 0).sum()):,} labels"
        for name in REGIMES
        if name in task.labels and (task.labels[name] >= 0).any()
    ]
    return f"{_title('; '.join(said))} in the tune half; {REGIMES[task.truth]} judge."


def _chance(folds: Sequence[Mapping[str, np.ndarray]], where: str) -> str:
    return f"{_finite_mean(column(folds, f'{where}.chance')):.3f}"


def _place(key: tuple[LossName, Regime], first: tuple[LossName, Regime]) -> tuple[int, int]:
    losses: list[LossName] = [first[0], *(loss for loss in LOSSES if loss != first[0])]
    regimes: list[Regime] = [first[1], *(regime for regime in REGIMES if regime != first[1])]
    return losses.index(key[0]), regimes.index(key[1])


def _row(task: Task, folds: Sequence[Mapping[str, np.ndarray]], key: tuple[LossName, Regime], where: str) -> list[Any]:
    queries = column(folds, "queries")
    values = {name: column(folds, f"{where}.{name}") for name in METRICS}
    lone = int((column(folds, f"{where}.n_relevant") == 0).sum())
    figures = [mean(values[name], task.groups[queries]).spell(3, 3) for name in METRICS]
    over = mean_over_classes(values["map"], task.judged[queries])
    return [LOSSES[key[0]], REGIMES[key[1]], len(queries) - lone, lone, *figures, round(over, 3)]


def difference(
    cells: Cells, task: Task, ours: tuple[LossName, Regime], theirs: tuple[LossName, Regime], name: str = "map"
) -> tuple[Figure, Figure, int]:
    """Mean difference of a figure over the queries that both were judged by, held out; over classes; and how many."""
    n = min(len(cells[ours]), len(cells[theirs]))
    a, b = (column(cells[key][:n], f"held_out.{name}") for key in (ours, theirs))
    queries = column(cells[ours][:n], "queries")
    groups = task.groups[queries]
    over = mean_of_classes(a - b, task.judged[queries], groups)
    return mean(a - b, groups), over, int(np.isfinite(a - b).sum())


def _pair(
    told: Findings,
    rows: list[list[Any]],
    cells: Cells,
    task: Task,
    ours: tuple[LossName, Regime],
    theirs: tuple[LossName, Regime],
    name: str,
) -> bool:
    """Tell of the difference; whether the other one is better beyond the interval, and no worse over classes."""
    figure, over, n = difference(cells, task, ours, theirs)
    if not n:
        return False
    rows.append([LOSSES[theirs[0]], REGIMES[theirs[1]], n, _signed(figure), _signed(over)])
    other = f"that of {name}" if ours[0] != theirs[0] else f"that of the same loss taught by {name}"
    verb = "above" if figure.low > 0 else "below" if figure.high < 0 else "not told apart from"
    told.sentences.append(
        f"Its MAP is {verb} {other}: {_signed(figure)}, mean over classes {_signed(over)}, paired over {counted_of(n)}."
    )
    return figure.high < 0 and not over.low > 0


def _signed(figure: Figure) -> str:
    return f"{figure.value:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}]"


def _title(text: str) -> str:
    return text[:1].upper() + text[1:]


def caveats(
    config: Config,
    task: Task,
    labels: Labels,
    folds: Sequence[Mapping[str, np.ndarray]],
    words: str,
    *,
    is_done: bool,
) -> list[str]:
    """What to know before believing it."""
    found = [
        f"The labels by {REGIMES[name]} are simulated ({labels.words(name)})."
        for name in REGIMES
        if labels.about.get(name, {}).get("is_simulated")
    ]
    if task.truth == "amateur":
        found.append("No expert judges here: amateurs' labels are held out to judge what amateurs' labels taught.")
    found.append(
        "On the map, subjects with labels lie where they were taught to lie; figures are out of fold, of networks that "
        "had not seen them. Shares of the nearest, among the columns, are out of fold for them, too."
    )
    if config.preset == "paper":
        found.append(UNKNOWN)
    found.append(f"It began with {words}; classes are shown alike often.")
    if n := task.n_test:
        verb = "subject of the test half is" if n == 1 else "subjects of the test half are"
        found.append(f"{n:,} labelled {verb} left alone.")
    if labels.n_strangers:
        found.append(f"{labels.n_strangers:,} labels are of subjects that the run is not of; they are left out.")
    lone = int((column(folds, "held_out.n_relevant") == 0).sum())
    if lone:
        found.append(f"{lone:,} held-out subjects are the only ones of their class in their fold: lone, in no figure.")
    y = task.judged[task.judged >= 0]
    few = [f"{task.classes[c]} ({int((y == c).sum())})" for c in np.unique(y) if (y == c).sum() < 20]
    if few:
        found.append(f"Classes with fewer than 20 labelled subjects say little: {', '.join(few)}.")
    return found


# ------------------------------------------------------------------------------------------------------- pictures
def shown_rows(task: Task, judged: Mapping[str, np.ndarray], seed: int) -> list[tuple[str, np.ndarray]]:
    """Rows of a picture: a query, then its nearest among the held-out ones; of each class the best found and the worst.

    Returns
    -------
    What a row shows, in words, and uint8 (1 + k, H, W, C).
    """
    queries, near, value = judged["queries"], judged["nearest"], judged["held_out.map"]
    y = task.judged[queries]
    is_there = np.isfinite(value)
    classes = [c for c in np.unique(y) if (is_there & (y == c)).any()]
    if len(classes) > PICTURES // 2:
        drawn = np.random.default_rng([seed, 19]).choice(len(classes), PICTURES // 2, replace=False)
        classes = [classes[i] for i in sorted(drawn)]
    rows = []
    for c in classes:
        own = np.flatnonzero(is_there & (y == c))
        order = own[np.argsort(-value[own], kind="stable")]
        for i, word in ((order[0], "found best"), (order[-1], "found worst")):
            if word == "found worst" and len(order) == 1:
                continue
            at = near[i][near[i] >= 0]
            theirs = [task.classes[code] for code in task.judged[at]]
            same = sum(name == task.classes[c] for name in theirs)
            rows.append(
                (
                    f"{task.classes[c]}, {word} (average precision {value[i]:.2f}); its nearest, {same} of "
                    f"{len(theirs)} of its class: {', '.join(theirs)}",
                    task.images[np.concatenate([[queries[i]], at])],
                )
            )
    return rows


# -------------------------------------------------------------------------------------------------------- the kind
def run(config: Config, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Judge losses and whose labels out of fold, then embed every image by a network of all labels.

    A run that was stopped goes on with the fit that it was at.

    Raises
    ------
    ArtifactError
        No images, labels that do not do (see `task_of`), a parent that cannot be used, or a loss that is not finite.
    """
    if workspace.images is None or len(workspace.images) < 2:
        raise ArtifactError("the survey has no images; an embedding needs some, and labels")
    if workspace.images.shape[1] < 16 and not config.size:
        raise ArtifactError(f"crops of {workspace.images.shape[1]} px are too small for the network; take --size 16")
    torch.set_num_threads(workspace.threads)
    labels = read_labels(workspace)
    yield Progress(0, 1, "reading the labelled images")
    bench = bench_of(config, workspace, labels)
    task, start, n_folds = bench.task, bench.start, preset_of(config).folds
    plan = [(loss, fold) for loss in losses_of(config) for fold in range(n_folds)]
    bench.total = sum(_planned(bench, loss, fold) for loss, fold in plan) + _planned_last(bench)
    cells: Cells = {}
    for loss, fold in plan:
        yield from judge_fold(bench, loss, fold, cells)
        findings_of(config, task, labels, cells, n_folds, start.words, is_done=False).write(workspace.directory)
    folds = cells[config.loss, task.regimes[0]]
    whole = {name: column(folds, name) for name in ("queries", "nearest", "held_out.map")}
    _show(bench, shown_rows(task, whole, config.seed))
    results = yield from embed_all(bench, labels, folds)
    told = findings_of(config, task, labels, cells, n_folds, start.words, is_done=True)
    told.write(workspace.directory)
    score = mean(whole["held_out.map"], task.groups[whole["queries"]])
    n = int(np.isfinite(whole["held_out.map"]).sum())
    return {
        "score_title": f"Mean distance to {NEIGHBORS} neighbors in the embedding",
        **results,
        **(
            {"map": round(score.value, 4), "map_low": round(score.low, 4), "map_high": round(score.high, 4)}
            if n
            else {}
        ),
        "n_queries": n,
        "is_simulated": labels.is_simulated,
        "device": bench.feed.device.type,
    }


def bench_of(config: Config, workspace: Workspace, labels: Labels) -> Bench:
    """Everything that fits need, and what of them is kept in the run's folder.

    Raises
    ------
    ArtifactError
        Labels that do not do (see `task_of`), a parent that cannot be used, or what is kept is of another run.
    """
    device = pick_device(config.device)
    task, start = task_of(config, workspace, labels), start_of(config, workspace)
    about = {name: getattr(config, name) for name in _settings()} | {"n": len(task.rows), "start": start.words}
    standing = Standing(workspace.directory, about | {"labels": labels_hash(task), "device": device.type})
    return Bench(config, workspace, task, start, Feed(task.images, device), standing)


def losses_of(config: Config) -> list[LossName]:
    """Losses that are fitted: that of the embedding first, then those beside it."""
    return [config.loss, *(loss for loss in COMPARED[preset_of(config).compare] if loss != config.loss)]


def _settings() -> list[str]:
    return [name for name, value in vars(Config).items() if isinstance(value, property) and name != "device"]


def labels_hash(task: Task) -> str:
    """Of who is labelled as what: fits of other labels are other fits."""
    arrays = (task.rows, task.labels["amateur"], task.labels["expert"], task.groups, task.fold)
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def stages(task: Task, regime: Regime) -> tuple[Literal["amateur", "expert"], ...]:
    """Whose labels a regime takes one after the other."""
    return ("amateur", "expert") if regime == "both" else (regime,)


def _chains(bench: Bench, loss: LossName) -> list[tuple[Regime, ...]]:
    """What is fitted in a fold: chains whose stages go on from each other, by what each stage makes.

    The loss of the run is fitted in every regime, the others as the embedding is.
    """
    regimes = bench.task.regimes if loss == bench.config.loss else bench.task.regimes[:1]
    if "both" not in regimes:
        return [(regime,) for regime in regimes]
    rest: list[tuple[Regime, ...]] = [("expert",)] if "expert" in regimes else []
    return [("amateur", "both"), *rest]


def _n_of(bench: Bench, who: str, among: np.ndarray) -> int:
    return int((among & (bench.task.labels[who] >= 0)).sum())


def _planned(bench: Bench, loss: LossName, fold: int) -> int:
    among = bench.task.fold != fold
    makes = [regime for chain in _chains(bench, loss) for regime in chain]
    return sum(bench.epochs_of(_n_of(bench, stages(bench.task, r)[-1], among)) for r in makes)


def _planned_last(bench: Bench) -> int:
    among = np.ones(len(bench.task.rows), bool)
    return sum(bench.epochs_of(_n_of(bench, who, among)) for who in stages(bench.task, bench.task.regimes[0]))


def judge_fold(bench: Bench, loss: LossName, fold: int, cells: Cells) -> Generator[Progress, None, None]:
    """Fit and judge everything of one loss that one fold is held out of; what was kept is not done again."""
    task, config = bench.task, bench.config
    among = task.fold != fold
    for chain in _chains(bench, loss):
        names = {made: f"{LOSSES[loss]}, {REGIMES[made]}, fold {fold + 1}" for made in chain}
        kept = {made: bench.standing.kept(f"judged: {name}") for made, name in names.items()}
        learner = None if all(kept.values()) else bench.learner(loss, config.seed + fold)
        for made, name in names.items():
            planned = bench.done + bench.epochs_of(_n_of(bench, stages(task, made)[-1], among))
            found = kept[made]
            if learner is not None:
                is_first = fold == 0 and loss == config.loss and made == task.regimes[0]
                fitting = bench.fit(name, learner, stages(task, made)[-1], among, config.seed + fold)
                for epoch in fitting:
                    yield _progress(bench, epoch, name, loss)
                    if is_first and epoch.number % max(1, epoch.of // LIVE) == 0:
                        learner.eval()
                        _show(bench, shown_rows(task, bench.look(learner, fold), config.seed))
                if found is None:
                    found = bench.judge(learner, fold)
                    bench.standing.keep(f"judged: {name}", found)
            assert found is not None
            bench.done = planned
            cells.setdefault((loss, made), []).append(found)
            yield Progress(bench.done, bench.total, f"judged: {name}", {"map": _finite_mean(found["held_out.map"])})


def _finite_mean(values: np.ndarray) -> float:
    there = values[np.isfinite(values)]
    return float(there.mean()) if len(there) else 0.0


def _progress(bench: Bench, epoch: Epoch, name: str, loss: LossName) -> Progress:
    numbers = {"train_loss": epoch.train["loss"], "images_per_second": epoch.images_per_second}
    if "loss" in epoch.validation:
        numbers["validation_loss"] = epoch.validation["loss"]
    return Progress(min(bench.done + epoch.number, bench.total), bench.total, name, numbers)


def _show(bench: Bench, rows: list[tuple[str, np.ndarray]]) -> None:
    if rows:
        bands = bench.workspace.preprocessing.get("bands")
        write_rows(bench.workspace.directory, len(bench.standing.history.records), rows, bands)


def embed_all(
    bench: Bench, labels: Labels, folds: Sequence[Mapping[str, np.ndarray]]
) -> Generator[Progress, None, dict[str, Any]]:
    """Fit to all labels of the tune half, and embed every image: latents, and each class's share of the nearest."""
    task, config, workspace = bench.task, bench.config, bench.workspace
    learner = bench.learner(config.loss, config.seed)
    everyone = np.ones(len(task.rows), bool)
    split = np.full(len(workspace.subject_ids), "unseen", "U10")
    held, seen = np.zeros(len(task.rows), bool), np.zeros(len(task.rows), bool)
    for who in stages(task, task.regimes[0]):
        name = f"{LOSSES[config.loss]}, all labels by {REGIMES[who]}"
        fitting = bench.fit(name, learner, who, everyone, config.seed)
        while True:
            try:
                epoch = next(fitting)
            except StopIteration as end:
                validation: np.ndarray = end.value
                break
            yield _progress(bench, epoch, name, config.loss)
        held |= validation
        seen |= (task.labels[who] >= 0) & ~validation
        bench.done += bench.epochs_of(_n_of(bench, who, everyone))
    split[task.rows[held]] = "validation"
    split[task.rows[seen]] = "train"
    digest = save(workspace.directory / CHECKPOINT, learner, config, task, bench.start, workspace)
    references = np.flatnonzero(task.judged >= 0)
    if len(references) > REFERENCES:
        references = np.sort(np.random.default_rng([config.seed, 23]).choice(references, REFERENCES, replace=False))
    known, y = bench.embed(learner, references), task.judged[references]
    names = share_names(task.classes)

    def describe(images: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            pieces = [images[i : i + PIECE] for i in range(0, len(images), PIECE)]
            made = [learner.embedder.unit(to_tensor(piece, bench.feed.device)).cpu().numpy() for piece in pieces]
        x = np.concatenate(made)
        shares = vote(x, known, y, len(names), config.neighbors)
        return {"latents": x, **{name: shares[:, i] for i, name in enumerate(names)}}

    latents, columns = yield from describe_all(workspace, {"weights": digest}, describe)
    shares = column(folds, "shares")
    at = task.rows[column(folds, "queries")]
    for i, name in enumerate(names):  # of whom it learned from: by the network that had not seen them
        columns[name][at] = shares[:, i]
    results = write_described(workspace, latents, columns, split, config.seed)
    there = [code for code in range(len(names)) if (task.judged == code).any()]
    return {**results, "color": names[there[-1]], "n_train": int(seen.sum()), "n_validation": int((held & ~seen).sum())}


def share_names(classes: Sequence[str]) -> list[str]:
    """Columns for the share of each class among the nearest: ``share_spiral``, each its own."""
    found: list[str] = []
    for text in classes:
        name = "share_" + (re.sub(r"\W+", "_", text.lower()).strip("_") or "class")
        while name in found:
            name += "_"
        found.append(name)
    return found


def save(path: Path, learner: Learner, config: Config, task: Task, start: Start, workspace: Workspace) -> str:
    """Write the embedder and its proxies as the run's checkpoint; a hash of its weights."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in learner.state_dict().items()}
    about = {
        "network": start.words,
        "loss": config.loss,
        "classes": list(task.classes),
        "preprocessing": dict(workspace.preprocessing),
    }
    content = to_safetensors(weights, metadata={"voorwerp": json.dumps(about, sort_keys=True)})
    write_bytes(path, content)
    return hashlib.sha256(content).hexdigest()
