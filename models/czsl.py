"""Learning from amateurs, experts and unlabelled images together: CzSL, "citizen science learning".

Jiménez, Alfaro, Torres Torres and Triguero 2023, MNRAS; arXiv:2302.00366. Four steps:

1. a convolutional autoencoder (`models.autoencoder.Autoencoder`) learns from images without any labels;
2. a classifier on its encoder is trained on what amateurs said;
3. label transfer: where experts and amateurs have both spoken, a small network learns what experts make of the votes,
   and says it where only amateurs have spoken;
4. the classifier is fine-tuned on the experts' labels and the transferred ones.

Preset ``paper`` does as the paper and its published code: the layers, without norms; weights by Glorot, biases 0; plain
SGD with step 0.01, batches of 32 (256 is recorded, but never handed to the fit), 100 epochs, 70 % of what is given for
training, the last epoch's weights; binary cross-entropy for the autoencoder, mean squared error on one-hot targets for
the classifier; scikit-learn's MLPClassifier (8, 7, 5, 3) on vote fractions and one-hot experts; nothing turned, nothing
frozen. It differs where the code's way would mislead: the 30 % and the folds are drawn at random, stratified, with
whole duplicate groups (the code takes contiguous rows, so that four of its five folds share their labels); the
autoencoder sees all images, those held out too, without labels, and by a random share of 70 % (the code: those of the
training fold); a transferred label is the class of the largest output (outputs of one-hot targets need not name one);
AUC is given on probabilities, too, beside that of hard labels, which is all that the code has.

Preset ``modern`` has the same layers with batch norms, AdamW, cross-entropy, every image in a random orientation,
transferred labels as probabilities, a step that falls along a cosine, and the weights of the smallest validation loss,
where it ends if that stops falling; few images are taken again and again in an epoch; bfloat16 on GPUs.

Whoever is judged is left out of all that learns from labels, in every step. The survey's test half is neither trained
on nor counted. Images are float32 in [0, 1], (B, C, H, W). Shapes in the comments: 64 pixels, 3 bands, n classes.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import re
import warnings
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from models.artifacts import CHECKPOINT, ArtifactError, Workspace, scratch_array, write_bytes
from models.autoencoder import POOLINGS, Autoencoder
from models.classes import FIGURES, differences, figures, g_mean, percent, points, spread
from models.describing import describe_all, write_described
from models.findings import Findings, Matrix, Table
from models.fitting import Recipe, Standing, fit, network_of, outputs
from models.grids import COLUMNS, write_rows
from models.labels import LISTED, Labels, folds_of, read_labels
from models.progress import Progress
from models.scoring import pick_device, to_tensor
from models.steps import Feed
from models.train import MEMORY_SHARE, free_memory

Balance = Literal["none", "under", "over", "weights"]

HIDDEN, VECTOR = 256, 128  # units of the dense layers; the second's are the latent vector
RARE = 0.15  # share of the labels below which accuracy says little of a class
FEW = 100  # labels by experts below which it is said that they are few
PIECE = 256  # images that are described at once
#: A class called so differs from its mirror image.
HANDED = re.compile(r"(^|[^a-z])((anti|counter)?-?clockwise|a?cw|ccw|left|right)($|[^a-z])")

CZSL, EXPERTS, AMATEURS, BARE = "CzSL", "experts only", "amateurs only", "no autoencoder"


class Config(Protocol):
    """See `explorer.kinds.czsl.CzslConfig`: None takes the preset's value."""

    @property
    def preset(self) -> Literal["modern", "paper"]: ...
    @property
    def targets(self) -> Literal["hard", "fractions"]: ...
    @property
    def balance(self) -> Balance: ...
    @property
    def compare(self) -> Literal["few", "all", "none"]: ...
    @property
    def folds(self) -> int | None: ...
    @property
    def seeds(self) -> int | None: ...
    @property
    def autoencoder_epochs(self) -> int | None: ...
    @property
    def epochs(self) -> int | None: ...
    @property
    def batch(self) -> int | None: ...
    @property
    def learning_rate(self) -> float | None: ...
    @property
    def validation(self) -> float | None: ...
    @property
    def flips(self) -> Literal["auto", "yes", "no"]: ...
    @property
    def width(self) -> int: ...
    @property
    def code_channels(self) -> int: ...
    @property
    def train_on(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """What a preset sets."""

    folds: int
    seeds: int
    autoencoder_epochs: int
    epochs: int
    batch: int
    learning_rate: float
    validation: float
    patience: int = 0
    least: int = 0  # images that an epoch takes, of fewer again and again: else some had as good as no steps
    is_paper: bool = False


PRESETS = {
    "modern": Plan(3, 1, 8, 15, 16, 2e-3, 0.2, patience=5, least=256),
    "paper": Plan(5, 10, 100, 100, 32, 0.01, 0.3, is_paper=True),
}


def plan_of(config: Config) -> Plan:
    """The preset's plan with what the config says otherwise."""
    preset = PRESETS[config.preset]
    names = ("folds", "seeds", "autoencoder_epochs", "epochs", "batch", "learning_rate", "validation")
    told = {name: getattr(config, name) for name in names if getattr(config, name) is not None}
    return Plan(**{name: told.get(name, getattr(preset, name)) for name in Plan.__dataclass_fields__})


# ------------------------------------------------------------------------------------------------------ the networks
def normed(layers: nn.Sequential) -> nn.Sequential:
    """The layers with a batch norm between each convolution and its ReLU."""
    found: list[nn.Module] = []
    for layer, after in zip(layers, [*list(layers)[1:], None], strict=True):
        found.append(layer)
        if isinstance(layer, nn.Conv2d) and isinstance(after, nn.ReLU):
            found.append(nn.BatchNorm2d(layer.out_channels))
    return nn.Sequential(*found)


def make_autoencoder(bands: int, width: int, code_channels: int, is_paper: bool) -> Autoencoder:
    """(B, 3, 64, 64) → code (B, 8, 8, 8) → (B, 3, 64, 64)."""
    network = Autoencoder(bands, width, code_channels)
    if is_paper:
        glorot(network)
        return network
    network.encoder, network.decoder = normed(network.encoder), normed(network.decoder)
    return network


def glorot(network: nn.Module) -> None:
    """Weights uniform by Glorot and Bengio 2010, biases 0: what the paper's library draws."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class Classifier(nn.Module):
    """Image (B, 3, 64, 64) → code (B, 512) → vector (B, 128) → logits (B, n)."""

    def __init__(
        self, bands: int, size: int, n_classes: int, width: int = 16, code_channels: int = 8, is_paper: bool = True
    ) -> None:
        super().__init__()
        self.encoder = make_autoencoder(bands, width, code_channels, is_paper).encoder
        length = code_channels * (size // 2**POOLINGS) ** 2
        self.dense = nn.Sequential(
            nn.Flatten(), nn.Linear(length, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, VECTOR), nn.ReLU()
        )
        self.head = nn.Linear(VECTOR, n_classes)
        if is_paper:
            glorot(self)

    def vector(self, x: Tensor) -> Tensor:
        """(B, 128), before the last layer."""
        return self.dense(self.encoder(x))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.vector(x))  # type: ignore[no-any-return]


def reconstruction_loss(made: Tensor, x: Tensor) -> Tensor:
    """Mean binary cross-entropy of pixels in [0, 1], in float32, 1e-7 from either end as in the paper's library."""
    made = made.float().clamp(1e-7, 1 - 1e-7)
    return -(x * made.log() + (1 - x) * (1 - made).log()).mean()


def class_loss(logits: Tensor, targets: Tensor, weights: Tensor, is_paper: bool) -> Tensor:
    """Mean over images of weight × loss, in float32.

    The loss of an image is the squared error of the softmax, mean over classes (paper), else the cross-entropy.

    Parameters
    ----------
    logits, targets
        (B, n); targets sum to 1.
    weights
        (B,).
    """
    logits = logits.float()
    each = (targets - logits.softmax(1)).square().mean(1) if is_paper else -(targets * logits.log_softmax(1)).sum(1)
    return (weights * each).mean()


# -------------------------------------------------------------------------------------------------- labels and samples
def transfer(
    features: np.ndarray, classes: np.ndarray, n_classes: int, to: np.ndarray, is_paper: bool, seed: int = 0
) -> np.ndarray:
    """What experts would say of votes, learned where both have spoken: the paper's label transfer.

    Parameters
    ----------
    features
        float (n, F): shares of the votes.
    classes
        int64 (n,): what experts said of them.
    to
        float (m, F): whom to say it of.

    Returns
    -------
    float64 (m, n_classes), rows sum to 1. Paper: the class is its largest; a row of outputs that are all 0 is even.
    """
    known, codes = np.unique(classes, return_inverse=True)
    found = np.zeros((len(to), n_classes))
    if len(known) == 1 or not len(to):
        found[:, known[0]] = 1
        return found
    model: Any
    if is_paper:
        model = MLPClassifier((8, 7, 5, 3), alpha=1e-4, max_iter=300, random_state=0)
        answers: np.ndarray = np.eye(len(known))[codes]
    else:
        model = make_pipeline(
            StandardScaler(), MLPClassifier((16,), alpha=0.1, solver="lbfgs", max_iter=500, random_state=seed)
        )
        answers = codes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        made = model.fit(features, answers).predict_proba(to)
    total = made.sum(1, keepdims=True)
    found[:, known] = np.divide(made, total, out=np.full_like(made, 1 / len(known)), where=total > 0)
    return found


def sampled(classes: np.ndarray, balance: Balance, random: np.random.Generator) -> np.ndarray:
    """Places of `classes`, int64 (n,), to train on, ascending: all, or as many of every class that is there.

    "under": as many as the rarest has, drawn without replacement; "over": as many as the most frequent has, the rarer
    ones' again and again, drawn with replacement beyond the first time.
    """
    if balance not in ("under", "over"):
        return np.arange(len(classes))
    places = [np.flatnonzero(classes == one) for one in np.unique(classes)]
    sizes = [len(rows) for rows in places]
    if balance == "under":
        drawn = [random.choice(rows, min(sizes), replace=False) for rows in places]
    else:
        drawn = [np.append(rows, random.choice(rows, max(sizes) - len(rows))) for rows in places]
    return np.sort(np.concatenate(drawn))


def class_weights(classes: np.ndarray, n_classes: int, balance: Balance) -> np.ndarray:
    """float32 (n_classes,): how much an image of each counts; with "weights" as much in all as those of any other."""
    counts = np.bincount(classes, minlength=n_classes)
    if balance != "weights":
        return np.ones(n_classes, np.float32)
    there = counts > 0
    return np.where(there, len(classes) / (there.sum() * np.maximum(counts, 1)), 0).astype(np.float32)


def held_out_of(groups: np.ndarray, classes: np.ndarray, part: float, seed: int) -> np.ndarray:
    """bool (n,): about `part` of the rows, in tenths, whole groups, stratified; none of fewer than 20 groups.

    A class that would be gone stays.
    """
    if round(10 * part) == 0 or len(np.unique(groups)) < 20:
        return np.zeros(len(groups), bool)
    out: np.ndarray = folds_of(groups, classes, 10, seed) < round(10 * part)
    return np.asarray(out & np.isin(classes, classes[~out]))


def soft_targets(labels: Labels, classes: Sequence[str]) -> np.ndarray:
    """Shares of the votes as targets, float32 (N, n), rows sum to 1 or are NaN.

    Columns of fractions that are called as the classes are; of two classes else k of n, for that class which amateurs
    named where k of n is larger.

    Raises
    ------
    ArtifactError
        There is neither.
    """
    names = [name.casefold() for name in labels.fraction_names]
    if all(one.casefold() in names for one in classes):
        found = labels.fractions[:, [names.index(one.casefold()) for one in classes]].astype(np.float64)
        total = found.sum(1, keepdims=True)
        shares = np.divide(found, total, out=np.full_like(found, np.nan), where=total > 0)
        return np.asarray(shares, np.float32)
    told = (labels.n_votes > 0) & (labels.amateur >= 0)
    if len(classes) == 2 and told.any():
        part = np.full(len(labels.n_votes), np.nan)
        np.divide(labels.n_chosen, labels.n_votes, out=part, where=labels.n_votes > 0)
        means = [part[told & (labels.amateur == labels.classes.index(one))] for one in classes]
        first = (means[0].mean() if len(means[0]) else -1.0) > (means[1].mean() if len(means[1]) else -1.0)
        return np.stack([part, 1 - part] if first else [1 - part, part], 1).astype(np.float32)
    missing = [one for one in classes if one.casefold() not in names]
    raise ArtifactError(
        f'there is no share of the votes for class "{missing[0]}" '
        f"(there are {', '.join(labels.fraction_names) or 'none'}); take --targets hard"
    )


# -------------------------------------------------------------------------------------------------------- the task
@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What is learned, of the m images that are fitted to.

    Attributes
    ----------
    classes
        Those that experts have used.
    rows
        int64 (m,), ascending: which of the run's subjects.
    images
        uint8 (m, H, W, C).
    expert, amateur
        int64 (m,), -1 for none.
    targets
        float32 (m, n): of amateurs; NaN for none.
    features
        float32 (m, F): what is transferred from; NaN for none.
    groups
        (m,).
    is_pictured
        bool (m,): whom the autoencoder learns from.
    caveats
        What to know of the labels.
    """

    classes: tuple[str, ...]
    rows: np.ndarray
    images: np.ndarray
    expert: np.ndarray
    amateur: np.ndarray
    targets: np.ndarray
    features: np.ndarray
    groups: np.ndarray
    is_pictured: np.ndarray
    caveats: tuple[str, ...] = ()

    @property
    def has_amateurs(self) -> bool:
        """Whether amateurs have said anything."""
        return bool(np.isfinite(self.targets[:, 0]).any())


def task_of(config: Config, workspace: Workspace, labels: Labels) -> Task:
    """What there is to learn, or one sentence on what is missing.

    Raises
    ------
    ArtifactError
        No images, no labels by experts, one class, a class with one label, or soft targets without shares.
    """
    images = workspace.images
    if images is None or len(images) < 2:
        raise ArtifactError("the survey has no images to learn from; give it images")
    n, size = images.shape[:2]
    if size % 2**POOLINGS:
        raise ArtifactError(f"the autoencoder halves the image {POOLINGS} times: size {size} is not a multiple of 8")
    usable = ~labels.is_test
    if workspace.left_out is not None:
        usable &= ~workspace.left_out
    is_expert = usable & (labels.expert >= 0)
    if not is_expert.any():
        raise ArtifactError(
            f"none of the {int(usable.sum()):,} subjects that may be learned from has a label by experts "
            f"(the test half is left alone); grade some first; {LISTED}"
        )
    counts = np.bincount(labels.expert[is_expert], minlength=len(labels.classes))
    used = np.flatnonzero(counts)
    if len(used) == 1:
        raise ArtifactError(
            f'experts have only said "{labels.classes[used[0]]}" of the subjects that may be learned from; '
            "a classifier needs two classes"
        )
    for code in used:
        if (n_groups := len(np.unique(labels.groups[is_expert & (labels.expert == code)]))) < 2:
            raise ArtifactError(
                f'class "{labels.classes[code]}" has {n_groups} subject with a label by experts, and can not be both '
                "learned and judged; label more of it, or leave it out"
            )
    classes = tuple(labels.classes[code] for code in used)
    code_of = np.full(len(labels.classes) + 1, -1)  # the last one is for -1
    code_of[used] = np.arange(len(used))
    expert, amateur = np.where(is_expert, code_of[labels.expert], -1), np.where(usable, code_of[labels.amateur], -1)
    n_unused = int((usable & (labels.amateur >= 0) & (amateur < 0)).sum())
    caveats = []
    if (amateur >= 0).any():
        targets = np.full((n, len(classes)), np.nan, np.float32)
        if config.targets == "fractions":
            shares = soft_targets(labels, classes)
            targets[usable] = shares[usable]
        else:
            targets[amateur >= 0] = np.eye(len(classes), dtype=np.float32)[amateur[amateur >= 0]]
        only = np.flatnonzero(np.isfinite(targets[:, 0]) & ~is_expert)
        if len(only) > config.train_on:
            left_aside = np.random.default_rng([config.seed, 4]).permutation(only)[config.train_on :]
            targets[left_aside] = np.nan
            caveats.append(
                f"Of {len(only):,} subjects that only amateurs have labelled {config.train_on:,} at random were taken."
            )
        features, told = features_of(labels, amateur, len(classes))
        caveats += [told] if told else []
    else:
        targets, features = np.full((n, len(classes)), np.nan, np.float32), np.empty((n, 0), np.float32)
        caveats.append("There are no labels by amateurs: it learned from experts and, without labels, from all images.")
    notes = (note for told in labels.about.values() for note in told.get("notes", ()))
    caveats += [f"{note[:1].upper()}{note[1:]}." for note in notes]
    if labels.is_simulated:
        caveats.append("Labels are simulated: nothing here says anything about people.")
    if labels.n_strangers:
        caveats.append(f"{labels.n_strangers:,} labelled subjects are not among this run's; they were left aside.")
    if n_test := int((labels.is_test & ((labels.expert >= 0) | (labels.amateur >= 0))).sum()):
        caveats.append(f"{n_test:,} labelled subjects of the survey's test half were neither learned from nor counted.")
    if n_unused:
        caveats.append(f"{n_unused:,} labels by amateurs name classes that no expert has used; they were left aside.")
    if (n_expert := int(is_expert.sum())) < FEW:
        caveats.append(f"Experts have labelled {n_expert:,} subjects only.")
    left = np.flatnonzero(~workspace.left_out) if workspace.left_out is not None else np.arange(n)
    drawn = np.random.default_rng([config.seed, 3]).choice(left, min(len(left), config.train_on), replace=False)
    is_pictured = np.zeros(n, bool)
    is_pictured[drawn] = True
    rows = np.flatnonzero(is_pictured | (expert >= 0) | np.isfinite(targets[:, 0]))
    return Task(
        classes,
        rows,
        taken(images, rows, workspace),
        expert[rows],
        amateur[rows],
        targets[rows],
        features[rows],
        labels.groups[rows],
        is_pictured[rows],
        tuple(caveats),
    )


def features_of(labels: Labels, amateur: np.ndarray, n_classes: int) -> tuple[np.ndarray, str]:
    """What labels are transferred from, float32 (N, F), NaN for none, and what to say of it.

    Shares of the votes; else k of n; else the class that amateurs named.
    """
    if labels.fraction_names and np.isfinite(labels.fractions).all(1).any():
        is_whole = np.isfinite(labels.fractions).all(1, keepdims=True)
        return np.where(is_whole, labels.fractions, np.nan).astype(np.float32), ""
    if (labels.n_votes > 0).any():
        part = np.full((len(amateur), 1), np.nan, np.float32)
        np.divide(labels.n_chosen, labels.n_votes, out=part[:, 0], where=labels.n_votes > 0, casting="unsafe")
        return part, ""
    found = np.eye(n_classes, dtype=np.float32)[amateur]
    found[amateur < 0] = np.nan
    return found, "Without votes, labels were transferred from the class alone that amateurs named."


def taken(images: Any, rows: np.ndarray, workspace: Workspace) -> np.ndarray:
    """uint8 (m, H, W, C): images of ascending rows, in memory where they fit, else in a file."""
    shape = (len(rows), *images.shape[1:])
    is_small = math.prod(shape) <= MEMORY_SHARE * free_memory()
    found = np.empty(shape, np.uint8) if is_small else scratch_array(workspace.directory, np.uint8, shape)
    for i in range(0, len(rows), 512):
        found[i : i + 512] = images[rows[i : i + 512]]
    return found


# -------------------------------------------------------------------------------------------------------- the fits
Step = Generator[Progress, None, Any]


@dataclass(slots=True)
class Learner:
    """All fits of a run, one after another; `done` of `total` epochs."""

    config: Config
    plan: Plan
    task: Task
    feed: Feed
    standing: Standing
    is_mirrored: bool
    total: int
    done: int = 0

    def recipe(self, epochs: int) -> Recipe:
        plan, on_gpu = self.plan, self.feed.device.type == "cuda"
        return Recipe(
            epochs,
            plan.batch,
            plan.learning_rate,
            "sgd" if plan.is_paper else "adamw",
            weight_decay=0.0 if plan.is_paper else 0.01,
            is_turned=not plan.is_paper,
            is_mirrored=self.is_mirrored,
            is_annealed=not plan.is_paper,
            patience=plan.patience,
            precision="bfloat16" if on_gpu and not plan.is_paper else "float32",
        )

    def follow(self, name: str, epochs: Iterator[Any], n: int) -> Iterator[Progress]:
        """What a fit of `n` epochs says, as progress."""
        end = self.done + n
        for epoch in epochs:
            self.done = min(self.done + 1, end)
            told = {"train_loss": epoch.train, "validation_loss": epoch.validation}
            losses = {called: values["loss"] for called, values in told.items() if values}
            yield Progress(self.done, self.total, name, {**losses, "images_per_second": epoch.images_per_second})
        self.done = end

    def autoencoder(self, number: int) -> Step:
        """The autoencoder of a seed."""
        plan, task, config, seed = self.plan, self.task, self.config, self.config.seed + number
        name = "autoencoder" if plan.seeds == 1 else f"autoencoder, seed {number + 1}"
        bands = task.images.shape[-1]
        device = self.feed.device
        network = network_of(
            seed, lambda: make_autoencoder(bands, config.width, config.code_channels, plan.is_paper), device
        )
        rows = np.flatnonzero(task.is_pictured)
        out = held_out_of(task.groups[rows], np.zeros(len(rows)), plan.validation, seed)

        def loss(x: Tensor, _: np.ndarray) -> Tensor:
            return reconstruction_loss(network(x), x)

        recipe = self.recipe(plan.autoencoder_epochs)
        made = fit(name, network, loss, self.feed, rows[~out], rows[out], recipe, seed, self.standing)
        yield from self.follow(name, made, recipe.epochs)
        return network.eval()

    def classifier(self, seed: int, encoder: nn.Module | None) -> Classifier:
        """A classifier at the beginning; None: its encoder is as the seed draws it."""
        bands, size = self.task.images.shape[-1], self.task.images.shape[1]
        config, n, is_paper = self.config, len(self.task.classes), self.plan.is_paper
        network: Classifier = network_of(
            seed,
            lambda: Classifier(bands, size, n, config.width, config.code_channels, is_paper),
            self.feed.device,
        )
        if encoder is not None:
            network.encoder.load_state_dict(encoder.state_dict())
        return network

    def taught(self, name: str, network: Classifier, rows: np.ndarray, targets: np.ndarray, seed: int) -> Step:
        """Fit `network` in place to `targets`, float32 (m, n), of `rows`.

        Returns
        -------
        The same network.
        """
        plan, task = self.plan, self.task
        classes = targets[rows].argmax(1)
        out = held_out_of(task.groups[rows], classes, plan.validation, seed)
        validation, kept = rows[out], rows[~out]
        classes = targets[kept].argmax(1)
        weights = class_weights(classes, len(task.classes), self.config.balance)
        kept = kept[sampled(classes, self.config.balance, np.random.default_rng([seed, 5]))]
        aims = torch.from_numpy(np.nan_to_num(targets)).to(self.feed.device)
        counts = torch.from_numpy(weights[np.nan_to_num(targets).argmax(1)]).to(self.feed.device)

        def loss(x: Tensor, batch: np.ndarray) -> Tensor:
            return class_loss(network(x), aims[batch], counts[batch], plan.is_paper)

        def draw(random: np.random.Generator) -> np.ndarray:
            passes = [random.permutation(kept) for _ in range(-(-max(plan.least, len(kept)) // len(kept)))]
            return np.concatenate(passes)[: max(plan.least, len(kept))]

        recipe = self.recipe(plan.epochs)
        made = fit(name, network, loss, self.feed, kept, validation, recipe, seed, self.standing, draw)
        yield from self.follow(name, made, recipe.epochs)
        return network.eval()

    def learned(self, where: str, out: np.ndarray, seed: int, encoder: nn.Module | None, says: str = CZSL) -> Step:
        """CzSL without what is `out`, bool (m,): networks by way, and where labels were transferred, what that said.

        Returns
        -------
        dict, and float64 (m, n) or None.
        """
        task = self.task
        is_expert = (task.expert >= 0) & ~out
        is_amateur = np.isfinite(task.targets[:, 0]) & ~out
        network, found = self.classifier(seed, encoder), {}
        aims = np.full(task.targets.shape, np.nan, np.float32)
        transferred = None
        if is_amateur.any():
            rows = np.flatnonzero(is_amateur)
            yield from self.taught(f"{says}: amateurs{where}", network, rows, task.targets, seed)
            found[AMATEURS] = copy.deepcopy(network)
            has = np.isfinite(task.features).all(1)
            both, to = is_expert & has, has & (task.expert < 0) & is_amateur
            if both.any():
                n, is_paper = len(task.classes), self.plan.is_paper
                transferred = transfer(
                    task.features[both], task.expert[both], n, np.nan_to_num(task.features), is_paper, seed
                )
                aims[to] = np.eye(n)[transferred[to].argmax(1)] if is_paper else transferred[to]
        aims[is_expert] = np.eye(len(task.classes), dtype=np.float32)[task.expert[is_expert]]
        rows = np.flatnonzero(np.isfinite(aims[:, 0]))
        yield from self.taught(f"{says}: experts{where}", network, rows, aims, seed)
        found[CZSL] = network
        return found, transferred

    def ways(self) -> list[str]:
        """What is judged beside one another."""
        found = [CZSL]
        if self.config.compare != "none":
            found.append(EXPERTS)
            if self.task.has_amateurs:
                found.append(AMATEURS)
                found += [BARE] if self.config.compare == "all" else []
        return found

    def judge(self, number: int, fold: int, out: np.ndarray, encoder: nn.Module) -> Step:
        """What every way says of the experts' subjects that are `out` of its training: probabilities by way.

        Under "transfer": what the label transfer says of them, NaN where nothing.
        """
        task, seeds = self.task, self.plan.seeds
        rows = np.flatnonzero(out & (task.expert >= 0))
        where = f", fold {fold + 1}" + (f", seed {number + 1}" if seeds > 1 else "")
        seed = self.config.seed + 1000 * (number + 1) + fold
        if (kept := self.standing.kept(f"judged{where}")) is not None:
            self.done += self.fits_of_fold() * self.plan.epochs
            return kept
        ways = self.ways()
        networks, transferred = yield from self.learned(where, out, seed, encoder)
        if EXPERTS in ways:
            aims = np.full(task.targets.shape, np.nan, np.float32)
            is_expert = (task.expert >= 0) & ~out
            aims[is_expert] = np.eye(len(task.classes), dtype=np.float32)[task.expert[is_expert]]
            network = self.classifier(seed, None)
            yield from self.taught(f"{EXPERTS}{where}", network, np.flatnonzero(is_expert), aims, seed)
            networks[EXPERTS] = network
        if BARE in ways:
            bare, _ = yield from self.learned(where, out, seed, None, BARE)
            networks[BARE] = bare[CZSL]
        said = {way: softmax(outputs(networks[way], self.feed, rows)) for way in ways}
        if transferred is not None:
            has = np.isfinite(task.features[rows]).all(1, keepdims=True)
            said["transfer"] = np.where(has, transferred[rows], np.nan)
        self.standing.keep(f"judged{where}", said)
        return said

    def fits_of_fold(self) -> int:
        """How many fits `judge` makes."""
        ways, two = self.ways(), 1 + self.task.has_amateurs
        return two + (EXPERTS in ways) + two * (BARE in ways)


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 (n, n_classes)."""
    made = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return np.asarray(made / made.sum(1, keepdims=True))


# -------------------------------------------------------------------------------------------------- what was found
@dataclass(slots=True)
class Judged:
    """What every way has said so far of the experts' n subjects, out of fold.

    Attributes
    ----------
    truth, groups, folds
        (n,): int64 codes of the experts' labels; who belongs together; who is held out when.
    amateur
        int64 (n,): -1 for none.
    said
        By way, float64 (seeds, n, n_classes); NaN where it has not come to yet. "transfer": of label transfer.
    """

    truth: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    amateur: np.ndarray
    said: dict[str, np.ndarray]

    def put(self, number: int, fold: int, said: Mapping[str, np.ndarray], seeds: int) -> None:
        """Take in what `Learner.judge` returned."""
        for way, probabilities in said.items():
            whole = self.said.setdefault(way, np.full((seeds, len(self.truth), probabilities.shape[1]), np.nan))
            whole[number, self.folds == fold] = probabilities

    def table(self, ways: Sequence[str]) -> list[list[Any]]:
        """A row for each way: its figures, mean and deviation over folds and seeds, as texts."""
        rows: list[list[Any]] = []
        for way in ways:
            each = []
            for probabilities in self.said[way]:
                for fold in np.unique(self.folds):
                    at = self.folds == fold
                    if np.isfinite(probabilities[at]).all():
                        each.append(figures(self.truth[at], probabilities[at]))
            if each:
                cells = [spread([one[name] for one in each]) for name in FIGURES]
                rows.append([way, *_beside_g_mean(cells, self.found_of_rarest(way))])
        return rows

    @property
    def rarest(self) -> int:
        """The class that fewest of the experts' labels are of."""
        counts = np.bincount(self.truth)
        return int(np.where(counts > 0, counts, len(self.truth) + 1).argmin())

    def found_of_rarest(self, way: str) -> str:
        """How many of the rarest class a way found of those that it has come to, mean over seeds."""
        own = [one[self.truth == self.rarest] for one in self.said[way]]
        own = [one[np.isfinite(one).all(1)] for one in own]
        own = [one for one in own if len(one)]
        n = max(map(len, own), default=0)
        k = float(np.mean([(one.argmax(1) == self.rarest).mean() * n for one in own])) if own else 0.0
        return percent(k, n) if n else "–"

    def whole_transfer(self) -> np.ndarray | None:
        """float64 (seeds, n, n_classes): of label transfer, once every fold of every seed is through."""
        said = self.said.get("transfer")
        is_through = len(self.whole(CZSL)) == len(self.said.get(CZSL, ()))
        return said if is_through else None

    def whole(self, way: str) -> np.ndarray:
        """float64 (k, n, n_classes): of the seeds that have been through all folds."""
        said = self.said.get(way)
        return said[np.isfinite(said).all((1, 2))] if said is not None else np.empty((0, 0, 0))


def findings_of(
    task: Task, judged: Judged, ways: Sequence[str], parts: int, of: int, caveats: Sequence[str]
) -> Findings:
    """What is known after `parts` of `of` folds."""
    found, simulated = Findings(), "simulated " if any("simulated" in one for one in caveats) else ""
    n, ours = len(judged.truth), judged.whole(CZSL)
    by = f"{simulated}labels by experts"
    if not len(ours):
        found.sentences.append(f"{parts} of {of} folds are judged so far.")
    else:
        said = ours.argmax(2)
        k = float((said == judged.truth).sum(1).mean())
        seeds = f", mean of {len(said)} seeds" if len(said) > 1 else ""
        majority = int(np.bincount(judged.truth).max())
        found.sentences.append(
            f"{CZSL} agrees with the {by} of {percent(k, n)} subjects that it had not learned from{seeds}; to name the "
            f"most frequent class always, {percent(majority, n)}."
        )
        for way in (EXPERTS, AMATEURS, BARE):
            theirs = judged.whole(way)
            if way not in ways or len(theirs) != len(ours):
                continue
            told = differences(judged.truth, said, theirs.argmax(2), judged.groups)
            verdict = "" if told["accuracy"].is_told else "; by accuracy the two are not told apart"
            found.sentences.append(
                f"{CZSL} minus {way}, the same subjects: accuracy {points(told['accuracy'])}, "
                f"G-mean {points(told['g_mean'])}{verdict}."
            )
    found.sentences += lowered(judged, by)
    rows = judged.table([way for way in ways if way in judged.said])
    if rows:
        found.tables.append(
            Table(
                f"Judged by {by}, out of fold",
                ["way", *_beside_g_mean(list(FIGURES.values()), f"found of {task.classes[judged.rarest]}")],
                rows,
                "Mean ± standard deviation over folds and seeds. G-mean: geometric mean of the recalls of all classes. "
                f"Found of {task.classes[judged.rarest]}: of the rarest class, as far as folds are through; of several "
                "seeds the mean. AUC of hard labels is what the paper gives; each class against all others.",
            )
        )
    found.tables += transfer_table(task, judged, by)
    if len(ours):
        counts = np.zeros((len(task.classes),) * 2)
        for one in ours.argmax(2):
            np.add.at(counts, (judged.truth, one), 1 / len(ours))
        title = f"What {simulated}experts said (rows), and what {CZSL} predicted, out of fold"
        found.matrices.append(Matrix(title, task.classes, task.classes, np.round(counts, 1).tolist()))
    found.caveats += caveats
    return found


def _beside_g_mean(cells: Sequence[str], text: str) -> list[str]:
    """A row of figures with a text behind that of G-mean."""
    at = list(FIGURES).index("g_mean") + 1
    return [*cells[:at], text, *cells[at:]]


def transferred_of(judged: Judged) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Truth (n,), amateurs (1, n) and label transfer (seeds, n), where all three have spoken; and groups (n,)."""
    said = judged.whole_transfer()
    if said is None:
        return None
    has = (judged.amateur >= 0) & np.isfinite(said).all((0, 2))
    if not has.any():
        return None
    return judged.truth[has], judged.amateur[has][None], said[:, has].argmax(2), judged.groups[has]


def lowered(judged: Judged, by: str) -> list[str]:
    """A sentence where label transfer agrees less with experts than amateurs do by themselves."""
    if (there := transferred_of(judged)) is None:
        return []
    truth, amateur, made, groups = there
    told = differences(truth, made, np.repeat(amateur, len(made), 0), groups)["accuracy"]
    k, after = int((amateur[0] == truth).sum()), float((made == truth).sum(1).mean())
    if after >= k:
        return []
    verdict = "beyond its interval" if told.is_told else "within its interval: it may be chance"
    return [
        f"Label transfer lowers the agreement of amateurs with the {by}, from {percent(k, len(truth))} to "
        f"{percent(after, len(truth))}: {points(told)}, {verdict}."
    ]


def transfer_table(task: Task, judged: Judged, by: str) -> list[Table]:
    """Amateurs and label transfer beside experts, on the subjects where all three have spoken."""
    if (there := transferred_of(judged)) is None:
        return []
    truth, amateur, made, groups = there
    n = len(truth)
    is_rare = truth == judged.rarest
    n_rare = int(is_rare.sum())

    def of_rarest(k: float) -> str:
        return percent(k, n_rare) if n_rare else "–"

    rows = [
        [
            "amateurs",
            percent(float((amateur[0] == truth).sum()), n),
            f"{g_mean(truth, amateur[0]):.3f}",
            of_rarest(float((amateur[0] == truth)[is_rare].sum())),
        ],
        [
            "after label transfer",
            percent(float((made == truth).sum(1).mean()), n),
            f"{np.mean([g_mean(truth, one) for one in made]):.3f}",
            of_rarest(float((made == truth)[:, is_rare].sum(1).mean())),
        ],
    ]
    told = differences(truth, made, np.repeat(amateur, len(made), 0), groups)
    note = f"Transfer minus amateurs: accuracy {points(told['accuracy'])}, G-mean {points(told['g_mean'])}."
    columns = ["labels", "agree", "G-mean", f"found of {task.classes[judged.rarest]}"]
    return [Table(f"Label transfer: agreement with {by}, out of fold", columns, rows, note)]


# --------------------------------------------------------------------------------------------------------- the kind
def run(config: Config, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Judge all ways fold by fold, then learn from all labels and describe every subject.

    Raises
    ------
    ArtifactError
        What is missing (see `task_of`), or a loss that is not finite.
    """
    torch.set_num_threads(workspace.threads)
    plan, labels = plan_of(config), read_labels(workspace)
    yield Progress(0, 1, "reading images")
    task = task_of(config, workspace, labels)
    device = pick_device(config.device)
    is_handed = any(HANDED.search(name.casefold()) for name in task.classes)
    is_mirrored = config.flips == "yes" or (config.flips == "auto" and not is_handed)
    about = {"rows": _sha(task.rows, task.expert, task.targets, task.features), "device": device.type}
    settings = {name: getattr(config, name) for name in Config.__dict__ if not name.startswith("_")}
    standing = Standing(workspace.directory, {"config": settings, **about})
    learner = Learner(config, plan, task, Feed(task.images, device), standing, is_mirrored, 1)

    experts = np.flatnonzero(task.expert >= 0)
    truth, groups = task.expert[experts], task.groups[experts]
    least = min(len(np.unique(groups[truth == one])) for one in np.unique(truth))
    n_folds = min(plan.folds, least)
    folds = folds_of(groups, truth, n_folds, config.seed)
    learner.total = plan.seeds * (plan.autoencoder_epochs + n_folds * learner.fits_of_fold() * plan.epochs)
    learner.total += (1 + task.has_amateurs) * plan.epochs
    rarest = int(np.bincount(truth).min())
    caveats = [*task.caveats, *_caveats(config, plan, n_folds, is_mirrored)]
    if rarest < RARE * len(truth):
        said = "" if config.balance != "none" else "; to give them more weight: Balance: over (--balance over)"
        caveats.insert(0, f"The rarest class has {rarest:,} of {len(truth):,} labels: look at G-mean and AUC{said}.")
    judged = Judged(truth, groups, folds, task.amateur[experts], {})
    ways, pictures, parts = learner.ways(), Pictures(workspace, standing, task), plan.seeds * n_folds
    findings_of(task, judged, ways, 0, parts, caveats).write(workspace.directory)

    first: nn.Module | None = None
    for number in range(plan.seeds):
        autoencoder = yield from learner.autoencoder(number)
        if first is None:
            first = autoencoder.encoder
            pictures.reconstructed(autoencoder, learner.feed)
        for fold in range(n_folds):
            out = np.isin(task.groups, groups[folds == fold])
            said = yield from learner.judge(number, fold, out, autoencoder.encoder)
            judged.put(number, fold, said, plan.seeds)
            told = findings_of(task, judged, ways, number * n_folds + fold + 1, parts, caveats)
            told.write(workspace.directory)
    networks, _ = yield from learner.learned(", all labels", np.zeros(len(task.rows), bool), config.seed, first)
    network: Classifier = networks[CZSL]
    weights = {name: tensor.cpu().contiguous() for name, tensor in network.state_dict().items()}
    told_of = {"classes": task.classes, "preprocessing": dict(workspace.preprocessing)}
    content = to_safetensors(weights, metadata={"voorwerp": json.dumps(told_of, sort_keys=True)})
    write_bytes(workspace.directory / CHECKPOINT, content)

    names = safe_names(task.classes)

    def describe(images: np.ndarray) -> dict[str, np.ndarray]:
        return described(network, names, images)

    latents, columns = yield from describe_all(workspace, {"network": hashlib.sha256(content).hexdigest()}, describe)
    split = np.full(len(workspace.subject_ids), "unseen", "U10")
    split[task.rows[(task.expert >= 0) | np.isfinite(task.targets[:, 0])]] = "train"
    probabilities = np.stack([columns[name] for name in names], 1)
    pictures.judged(probabilities, judged)
    interest = [name for one, name in zip(task.classes, names, strict=True) if one == "found"]
    anomaly = columns[interest[0]] if interest else None
    results = write_described(workspace, latents, columns, split, config.seed, anomaly)
    ours = judged.whole(CZSL)
    mean = {f"out_of_fold_{name}": _mean(name, truth, ours) for name in ("accuracy", "g_mean", "auc")}
    return {
        "score_title": "Probability of found" if interest else "Mean distance to neighbors in the classifier's vector",
        "color": interest[0] if interest else names[int(np.bincount(truth).argmin())],  # the rarest class's probability
        "classes": dict(zip(names, task.classes, strict=True)),
        "n_experts": len(experts),
        "n_amateurs": int(np.isfinite(task.targets[:, 0]).sum()),
        "device": device.type,
        **mean,
        **results,
    }


def _mean(name: str, truth: np.ndarray, said: np.ndarray) -> float:
    return round(float(np.mean([figures(truth, one)[name] for one in said])), 4)


def _caveats(config: Config, plan: Plan, n_folds: int, is_mirrored: bool) -> list[str]:
    found = []
    if n_folds < plan.folds:
        found.append(f"The rarest class has {n_folds} subjects: {n_folds} folds, not {plan.folds}.")
    if not is_mirrored and not plan.is_paper and config.flips == "auto":
        found.append("Images were turned but not mirrored: a class's name says which way it turns.")
    found.append(
        "The autoencoder has seen all images, without labels. The columns are of a network that learned from all "
        "labels but the test half's: of subjects in split train they are in-sample, the figures here are not."
    )
    return found


def _sha(*arrays: np.ndarray) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def safe_names(classes: Sequence[str]) -> list[str]:
    """A column for each class: "probability_spiral_acw"; short, and no two alike."""
    found: list[str] = []
    for number, name in enumerate(classes):
        word = re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")[:32].strip("_") or str(number)
        called = f"probability_{word}"
        found.append(called if called not in found else f"{called}_{number}")
    return found


def described(network: Classifier, names: Sequence[str], images: np.ndarray) -> dict[str, np.ndarray]:
    """Of uint8 (n, H, W, C): probability of each class, the class's number, entropy in nats, and the vector."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    device = next(network.parameters()).device
    with torch.inference_mode():
        for i in range(0, len(images), PIECE):
            vector = network.vector(to_tensor(images[i : i + PIECE], device))
            found.append((vector.float().cpu().numpy(), network.head(vector).float().cpu().numpy()))
    vectors, logits = (np.concatenate(one) for one in zip(*found, strict=True))
    p = softmax(logits)
    columns = {name: p[:, i].astype(np.float32) for i, name in enumerate(names)}
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(1)
    return {
        **columns,
        "predicted_class": p.argmax(1).astype(np.float32),
        "class_entropy": entropy.astype(np.float32),
        "latents": vectors,
    }


@dataclass(frozen=True, slots=True)
class Pictures:
    """A few rows of images that a person wants to see."""

    workspace: Workspace
    standing: Standing
    task: Task

    def write(self, rows: Sequence[tuple[str, np.ndarray]]) -> None:
        rows = [(word, images) for word, images in rows if len(images)]
        if rows:
            bands = self.workspace.preprocessing.get("bands")
            write_rows(self.workspace.directory, len(self.standing.history.records), rows, bands)

    def reconstructed(self, autoencoder: Autoencoder, feed: Feed) -> None:
        """Images that the autoencoder learned from, and what it makes of them."""
        rows = np.flatnonzero(self.task.is_pictured)[:COLUMNS]
        made = outputs(autoencoder, feed, rows)
        back = (np.clip(made, 0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
        self.write([("image", self.task.images[rows]), ("as the autoencoder makes it", back)])

    def judged(self, probabilities: np.ndarray, judged: Judged) -> None:
        """The surest of each class and the most unsure of all subjects; out of fold, what was mistaken for what."""
        task, images = self.task, self.workspace.images
        p = np.nan_to_num(probabilities, nan=0.0)
        said, largest = p.argmax(1), p.max(1)
        there = np.flatnonzero(np.isfinite(probabilities).all(1))
        rows = []
        for code, name in enumerate(task.classes[:4]):
            of = there[said[there] == code]
            rows.append((f"surest of {name}", of[np.argsort(-largest[of], kind="stable")[:COLUMNS]]))
        rows.append(("most unsure", there[np.argsort(largest[there], kind="stable")[:COLUMNS]]))
        mean = judged.whole(CZSL).mean(0)
        theirs, subjects = mean.argmax(1), task.rows[task.expert >= 0]
        pairs = Counter((int(a), int(b)) for a, b in zip(judged.truth, theirs, strict=True) if a != b)
        for (a, b), _ in pairs.most_common(2):
            at = np.flatnonzero((judged.truth == a) & (theirs == b))
            at = at[np.argsort(-mean[at, b], kind="stable")[:COLUMNS]]
            rows.append((f"{task.classes[a]} taken for {task.classes[b]}", subjects[at]))
        self.write([(word, np.stack([images[int(i)] for i in of]) if len(of) else of) for word, of in rows])
