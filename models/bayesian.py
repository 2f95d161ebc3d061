"""A network of votes: k of n volunteers choose a subject, k ~ Binomial(n, ρ(image)), and how sure it is of ρ.

Dropout before the last layer is left on when it predicts: each of T passes is a network of its own, a sample of the
posterior (Gal & Ghahramani 2016, arXiv:1506.02142). Where these disagree about the votes, votes would teach it most:
see `models.acquisition`, which has what needs no network.

Preset ``paper`` is Walmsley et al. 2020 (MNRAS 491, 1554; arXiv:1905.07424) and their released code: layers, dropout of
.5 on the dense layer alone, Adam at 1e-3, batches of 256 and 15 of them to an epoch, 125 epochs, T = 15, N = 40, loss
-[k ln(ρ + 1e-8) + (n - k) ln(1 - ρ + 1e-8)], flips, any rotation, zoom 1.1 to 1.3, contrast .98 to 1.02, brightness
± .05, gray as the mean of the bands, 128 px. Where it differs:

- their 256-px images are cut to 128 px; a survey's crops are resampled to 128 px whatever side they have (`size`);
- what rotation brings in from outside is mirrored (theirs: black), resampling is bilinear (theirs: nearest);
- predictions are of the image at the middle zoom, 1.2, neither turned nor mirrored (theirs: as in training);
- the dense layer's dropout is the only one, so T samples cost one pass of the layers before it.

Preset ``modern`` is smaller, in color, with batch norm, AdamW and a step that falls, images turned by quarters, and
ends where the likelihood of validation votes is best. Images are float32 in [0, 1], (B, C, H, W).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from models.acquisition import (
    DEVIATION,
    LEVELS,
    Calibration,
    bald,
    bootstrapped,
    calibrate,
    constant,
    dropped,
    log_loss,
    rmse_difference,
)
from models.artifacts import CHECKPOINT, ArtifactError, Workspace, sha256_file, write_bytes
from models.autoencoder import taken
from models.describing import describe_all, write_described
from models.findings import Curve, Findings, Line, Table
from models.fitting import Epoch, Recipe, Standing, fit, network_of, outputs
from models.grids import COLUMNS, write_rows
from models.labels import Labels, folds_of, read_labels
from models.progress import Progress
from models.rates import share
from models.reading import is_constant
from models.scoring import pick_device, to_tensor
from models.steps import Feed

HALVINGS = 4  # of the image down to the dense layer: sides are multiples of 16
ZOOM = (1.1, 1.3)
CONTRAST = (0.98, 1.02)
BRIGHTNESS = 0.05
PIECE = 256  # images that are described at once
MODERN_SIDE = 64  # crops are made no larger by themselves
VALIDATION = 7  # one in so many groups
FEWEST_TO_VALIDATE = 3 * VALIDATION  # groups; below, all epochs are made

PRESETS: dict[str, dict[str, Any]] = {
    "modern": {
        "expected_votes": None,
        "samples": 30,
        "size": None,
        "width": 16,
        "dense": 64,
        "epochs": 60,
        "batch": 32,
        "learning_rate": 1e-3,
        "patience": 12,
    },
    "paper": {
        "expected_votes": 40,
        "samples": 15,
        "size": 128,
        "width": 32,
        "dense": 128,
        "epochs": 125,
        "batch": 256,
        "learning_rate": 1e-3,
        "patience": 0,
    },
}
PAPER_STEPS = 15  # to an epoch, however many images there are


class Config(Protocol):
    """See `explorer.kinds.bayes.BayesConfig`."""

    @property
    def preset(self) -> Literal["modern", "paper"]: ...
    @property
    def expected_votes(self) -> int | None: ...
    @property
    def samples(self) -> int | None: ...
    @property
    def size(self) -> int | None: ...
    @property
    def width(self) -> int | None: ...
    @property
    def dense(self) -> int | None: ...
    @property
    def dropout(self) -> float: ...
    @property
    def epochs(self) -> int | None: ...
    @property
    def batch(self) -> int | None: ...
    @property
    def learning_rate(self) -> float | None: ...
    @property
    def patience(self) -> int | None: ...
    @property
    def folds(self) -> int: ...
    @property
    def precision(self) -> Literal["float32", "bfloat16"]: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """A network of votes and how it is fitted, nothing left open.

    Attributes
    ----------
    layers
        Whose layers, and whose augmentations.
    size
        Side that it sees, a multiple of 16.
    samples, expected_votes
        T and N of `models.acquisition`.
    steps
        Batches to an epoch; 0: one pass.
    """

    layers: Literal["modern", "paper"]
    size: int
    width: int
    dense: int
    dropout: float
    samples: int
    expected_votes: int
    recipe: Recipe
    steps: int
    seed: int


def settings_of(config: Config, side: int, n_votes: np.ndarray) -> Settings:
    """What a config means for crops of `side` pixels and these numbers of votes.

    Raises
    ------
    ArtifactError
        A side that cannot be halved four times.
    """
    names = ("expected_votes", "samples", "size", "width", "dense", "epochs", "batch", "learning_rate", "patience")
    told = {name: PRESETS[config.preset][name] if (v := getattr(config, name)) is None else v for name in names}
    size = told["size"] or min(MODERN_SIDE, side - side % 2**HALVINGS)
    if size < 2**HALVINGS or size % 2**HALVINGS:
        raise ArtifactError(
            f"the network halves the image {HALVINGS} times, and {size or side} px is no multiple of 16; "
            "take --size 64, or as many as the crops have"
        )
    is_paper = config.preset == "paper"
    recipe = Recipe(
        told["epochs"],
        told["batch"],
        told["learning_rate"],
        optimizer="adam" if is_paper else "adamw",
        weight_decay=0.0 if is_paper else 0.01,
        is_turned=not is_paper,
        patience=told["patience"],
        is_annealed=not is_paper,
        precision=config.precision,
    )
    return Settings(
        layers=config.preset,
        size=size,
        width=told["width"],
        dense=told["dense"],
        dropout=config.dropout,
        samples=told["samples"],
        expected_votes=told["expected_votes"] or max(1, round(float(np.median(n_votes)))),
        recipe=recipe,
        steps=PAPER_STEPS if is_paper else 0,
        seed=config.seed,
    )


# ----------------------------------------------------------------------------------------------------- the network
class VoteNetwork(nn.Module):
    """Image → ρ. Shapes in the comments: preset paper, 128 pixels, width 32, dense 128."""

    def __init__(self, bands: int, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        w, side = settings.width, settings.size // 2**HALVINGS
        pool = nn.MaxPool2d(2)
        if settings.layers == "paper":
            self.body = nn.Sequential(
                *(*convolution(1, w), *convolution(w, w), pool),  # (B, 32, 64, 64)
                *(*convolution(w, 2 * w), *convolution(2 * w, 2 * w), pool),  # (B, 64, 32, 32)
                *(*convolution(2 * w, 4 * w), pool),  # (B, 128, 16, 16)
                *(*convolution(4 * w, 4 * w), pool),  # (B, 128, 8, 8)
                nn.Flatten(),
            )
        else:
            self.body = nn.Sequential(
                *(*convolution(bands, w, is_normed=True), pool),
                *(*convolution(w, 2 * w, is_normed=True), pool),
                *(*convolution(2 * w, 4 * w, is_normed=True), pool),
                *(*convolution(4 * w, 4 * w, is_normed=True), pool),
                nn.Flatten(),
            )
        self.dense = nn.Sequential(nn.Linear(4 * w * side**2, settings.dense), nn.ReLU())  # (B, 128)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(settings.dense, 2)  # not chosen, chosen

    def latents(self, x: Tensor) -> Tensor:
        """What the dense layer says, (B, 128), before dropout."""
        return self.dense(self.body(seen(x, self.settings, is_varied=self.training)))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """ρ, float32 (B,): a sample of it in training mode, without dropout in evaluation mode."""
        return torch.softmax(self.head(self.dropout(self.latents(x))).float(), 1)[:, 1]

    def last(self) -> tuple[np.ndarray, float]:
        """w and b of ρ = 1 / (1 + exp(-(w·h + b))): a softmax of two is the logistic function of their difference."""
        weight, bias = (p.detach().double().cpu().numpy() for p in (self.head.weight, self.head.bias))
        return weight[1] - weight[0], float(bias[1] - bias[0])


def convolution(channels_in: int, channels_out: int, *, is_normed: bool = False) -> list[nn.Module]:
    """3 × 3, and ReLU; batch norm between where it `is_normed`."""
    layer = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=not is_normed)
    return [layer, nn.BatchNorm2d(channels_out), nn.ReLU()] if is_normed else [layer, nn.ReLU()]


def seen(x: Tensor, settings: Settings, *, is_varied: bool) -> Tensor:
    """The images as the network's layers get them, (B, C or 1, size, size); `is_varied`: with paper's augmentations."""
    if settings.layers == "modern":
        return _resampled(x, settings.size)
    x = x.mean(1, keepdim=True)
    x = _resampled(x, min(x.shape[-1], math.ceil(settings.size * sum(ZOOM) / 2)))
    n = len(x)
    zoom, angle, flip = torch.full((n,), sum(ZOOM) / 2), torch.zeros(n), torch.ones(n)
    if is_varied:
        zoom, angle = _uniform(n, *ZOOM), _uniform(n, -math.pi, math.pi)
        flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0)  # one axis: with a rotation, as both
    cos, sin, zero = torch.cos(angle) / zoom, torch.sin(angle) / zoom, torch.zeros(n)
    rows = torch.stack([cos * flip, -sin, zero, sin * flip, cos, zero], 1).reshape(n, 2, 3).to(x.device)
    grid = nn.functional.affine_grid(rows, [n, 1, settings.size, settings.size], align_corners=False)
    x = nn.functional.grid_sample(x, grid, "bilinear", "reflection", align_corners=False)
    if not is_varied:
        return x
    contrast, brightness = (
        v.to(x.device)[:, None, None, None] for v in (_uniform(n, *CONTRAST), _uniform(n, -BRIGHTNESS, BRIGHTNESS))
    )
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * contrast + mean + brightness


def _resampled(x: Tensor, side: int) -> Tensor:
    if x.shape[-1] == side:
        return x
    return nn.functional.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=True)


def _uniform(n: int, low: float, high: float) -> Tensor:
    return low + (high - low) * torch.rand(n)


def vote_loss(rho: Tensor, k: Tensor, n: Tensor) -> Tensor:
    """-[k ln(ρ + 1e-8) + (n - k) ln(1 - ρ + 1e-8)], mean over a batch (B,): the binomial's, less what ρ is not in."""
    return -(k * torch.log(rho + 1e-8) + (n - k) * torch.log(1 - rho + 1e-8)).mean()


def fit_votes(
    name: str,
    network: VoteNetwork,
    feed: Feed,
    k: np.ndarray,
    n: np.ndarray,
    rows: np.ndarray,
    validation_rows: np.ndarray,
    seed: int,
    standing: Standing,
) -> Iterator[Epoch]:
    """Fit `network` to the votes k of n (N,) of the images at `rows`: see `models.fitting.fit`."""
    settings = network.settings
    votes = torch.from_numpy(np.stack([k, n]).astype(np.float32)).to(feed.device)
    batch = settings.recipe.batch

    def loss(x: Tensor, at: np.ndarray) -> Tensor:
        of = torch.from_numpy(at).to(feed.device)
        return vote_loss(network(x), votes[0, of], votes[1, of])

    def draw(random: np.random.Generator) -> np.ndarray:
        if not settings.steps:
            order = random.permutation(rows)
            return order[:-1] if len(order) > 1 and len(order) % batch == 1 else order  # a norm needs more than one
        wanted = settings.steps * batch
        return np.concatenate([random.permutation(rows) for _ in range(-(-wanted // len(rows)))])[:wanted]

    yield from fit(name, network, loss, feed, rows, validation_rows, settings.recipe, seed, standing, draw)


def posterior(network: VoteNetwork, feed: Feed, rows: np.ndarray, numbers: np.ndarray, seed: int) -> np.ndarray:
    """T samples of ρ for the images at `rows`, float32 (n, T); `numbers` are theirs in the survey (see `dropped`)."""
    settings = network.settings
    h = outputs(network.eval().latents, feed, rows, PIECE)
    return dropped(h, numbers, *network.last(), settings.dropout, settings.samples, seed)


# ------------------------------------------------------------------------------------------------- the paper's loop
@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One turn of `simulate_loop`.

    Attributes
    ----------
    labels
        int64: rows whose votes it was fitted to, in the order they were taken.
    errors, log_losses
        float64 (E,), of the evaluation's subjects: predicted fraction - k / n, and -ln p(k) in nats.
    """

    number: int
    labels: np.ndarray
    errors: np.ndarray
    log_losses: np.ndarray

    @property
    def rmse(self) -> float:
        """Root mean squared error of the fraction."""
        return float(np.sqrt((self.errors**2).mean()))

    @property
    def log_loss(self) -> float:
        """Mean -ln p(k), in nats."""
        return float(self.log_losses.mean())


def simulate_loop(
    feed: Feed,
    k: np.ndarray,
    n: np.ndarray,
    pool: np.ndarray,
    evaluation: np.ndarray,
    how: Literal["bald", "random"],
    settings: Settings,
    folder: Path,
    initial: int = 256,
    acquired: int = 128,
    turns: int = 25,
    later: Recipe | None = None,
    *,
    is_warm: bool = False,
) -> Iterator[Step]:
    """What active learning would have needed: votes that are known are hidden, and told for whom they are asked.

    Walmsley et al. 2020, §4.3: `initial` subjects at random, then `turns` times `acquired` more, by what they would
    teach or at random; the recorded votes answer. Both ways begin with the same subjects and weights. Who is asked for
    is the best of the whole pool (theirs: of four shards of 4,096 at a time).

    Parameters
    ----------
    k, n
        (N,): recorded votes of the feed's images.
    pool, evaluation
        Rows, int64: who may be asked for, and whom the error is of. None is in both.
    folder
        Where fits stand, so that a loop that was stopped goes on.
    later
        How it is fitted after the first turn; None: as in it.
    is_warm
        Fits go on from the weights of the turn before; else they begin anew.

    Yields
    ------
    After each fit, `turns` + 1 times.

    Raises
    ------
    ArtifactError
        The pool is too small.
    """
    if (needed := initial + turns * acquired) > len(pool):
        raise ArtifactError(f"the loop asks for {needed:,} subjects, and the pool has {len(pool):,}")
    if np.isin(evaluation, pool).any():
        raise ArtifactError("subjects of the evaluation are in the pool; keep them apart")
    folder.mkdir(parents=True, exist_ok=True)
    standing = Standing(folder, {"settings": asdict(settings), "how": how, "is_warm": is_warm})
    random = np.random.default_rng([settings.seed, 3])
    labels = random.permutation(pool)[:initial]
    bands, network = feed.images.shape[-1], None
    for turn in range(turns + 1):
        now = replace(settings, recipe=later) if later is not None and turn else settings
        if network is None or not is_warm:
            network = network_of(settings.seed, lambda now=now: VoteNetwork(bands, now), feed.device)  # type: ignore[misc]
        network.settings = now
        nobody = np.empty(0, np.int64)
        for _ in fit_votes(f"turn {turn}", network, feed, k, n, labels, nobody, settings.seed + turn, standing):
            pass
        rho = posterior(network, feed, evaluation, evaluation, settings.seed)
        wrong = rho.mean(1, dtype=np.float64) - k[evaluation] / n[evaluation]
        yield Step(turn, labels, wrong, log_loss(rho, k[evaluation], n[evaluation]))
        if turn == turns:
            return
        left = np.setdiff1d(pool, labels)
        if how == "bald":
            told = bald(posterior(network, feed, left, left, settings.seed + turn), settings.expected_votes)
            more = left[np.argsort(-told, kind="stable")[:acquired]]
        else:
            more = random.choice(left, acquired, replace=False)
        labels = np.concatenate([labels, more])


# -------------------------------------------------------------------------------------------------------- the kind
@dataclass(frozen=True, slots=True, eq=False)
class _Voted:
    """Who has votes to learn from: rows in the survey, images, votes, groups, and strata that folds are evened by."""

    rows: np.ndarray
    images: np.ndarray
    k: np.ndarray
    n: np.ndarray
    groups: np.ndarray
    strata: np.ndarray

    @property
    def n_groups(self) -> int:
        return len(np.unique(self.groups))


def voted_of(labels: Labels, workspace: Workspace) -> _Voted:
    """Subjects of the tune half that have votes.

    Raises
    ------
    ArtifactError
        None or one has; votes that cannot be; or all are alike.
    """
    k, n = labels.n_chosen, labels.n_votes
    has = n > 0
    if not has.any():
        raise ArtifactError(
            "no subject of this run has votes to learn from; take in classifications, or name others with --votes"
        )
    if (wrong := np.flatnonzero(has & ~((k >= 0) & (k <= n)))).size:
        i = wrong[0]
        raise ArtifactError(
            f"subject {workspace.subject_ids[i]} was chosen by {k[i]:g} of {n[i]:g}, which cannot be; count again"
        )
    may = has & ~labels.is_test
    if workspace.left_out is not None:
        may &= ~workspace.left_out
    rows = np.flatnonzero(may)
    images = np.concatenate(list(taken(workspace.images, rows)))
    if len(rows) and (is_flat := is_constant(images)).any():
        rows, images = rows[~is_flat], images[~is_flat]
    if len(rows) < 2:
        raise ArtifactError(
            f"{len(rows)} of the {int(has.sum()):,} subjects with votes may be learned from (the test half is left "
            "alone, and so is a constant image); this needs two or more, so take in more votes"
        )
    fraction = k[rows] / n[rows]
    if np.ptp(fraction) == 0:
        raise ArtifactError(
            f"all {len(rows):,} subjects with votes have the same fraction, {fraction[0]:.3g}: there is nothing to "
            "tell them apart by; take in votes on another question, or more of them"
        )
    strata = np.searchsorted(np.quantile(fraction, (0.2, 0.4, 0.6, 0.8)), fraction)
    return _Voted(rows, images, k[rows], n[rows], labels.groups[rows], strata)


def run(config: Config, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Fit networks that each leave a fold out, tell how right they are, fit one to all votes, and describe every image.

    Raises
    ------
    ArtifactError
        No images, or votes that nothing can be learned from (`voted_of`).
    """
    images = workspace.images
    if images is None or not len(images):
        raise ArtifactError("the survey has no images; votes are predicted from them")
    labels = read_labels(workspace)
    yield Progress(0, 1, "reading images with votes")
    voted = voted_of(labels, workspace)
    settings = settings_of(config, images.shape[1], voted.n)
    torch.set_num_threads(workspace.threads)
    device = pick_device(config.device)
    n_folds = config.folds if voted.n_groups >= 2 * config.folds and config.folds > 1 else 0
    total = (n_folds + 1) * settings.recipe.epochs
    feed, bands = Feed(voted.images, device), images.shape[-1]
    whose = b"".join(np.ascontiguousarray(part).tobytes() for part in (voted.rows, voted.k, voted.n))
    about = {
        **asdict(settings),
        "folds": n_folds,
        "device": device.type,
        "votes of": hashlib.sha256(whose).hexdigest()[:12],
        "preprocessing": dict(workspace.preprocessing),
    }
    standing = Standing(workspace.directory, about)
    names = workspace.preprocessing.get("bands")

    def fitted(name: str, rows: np.ndarray, number: int) -> Generator[Progress, None, tuple[VoteNetwork, np.ndarray]]:
        """The network of fold `number` (the last: of all), fitted to `rows`, and which of them validated it."""
        seed, held = settings.seed + number, np.zeros(len(rows), bool)
        if settings.recipe.patience and len(np.unique(voted.groups[rows])) >= FEWEST_TO_VALIDATE:
            held = folds_of(voted.groups[rows], voted.strata[rows], VALIDATION, seed) == 0
        network: VoteNetwork = network_of(seed, lambda: VoteNetwork(bands, settings), device)
        before = number * settings.recipe.epochs
        for epoch in fit_votes(name, network, feed, voted.k, voted.n, rows[~held], rows[held], seed, standing):
            losses = {"train_loss": epoch.train["loss"]}
            if epoch.validation:
                losses["validation_loss"] = epoch.validation["loss"]
            yield Progress(before + epoch.number, total, name, {**losses, "images_per_second": epoch.images_per_second})
        return network, rows[held]

    everyone = np.arange(len(voted.rows))
    fold = folds_of(voted.groups, voted.strata, n_folds, settings.seed) if n_folds else np.zeros(len(everyone), int)
    rho = np.full((len(everyone), settings.samples), np.nan, np.float32)
    for number in range(n_folds):
        name, out = f"fold {number + 1} of {n_folds}", everyone[fold == number]
        kept = standing.kept(f"samples of {name}")
        if kept is None:
            network, _ = yield from fitted(name, everyone[fold != number], number)
            kept = {"rho": posterior(network, feed, out, voted.rows[out], settings.seed)}
            standing.keep(f"samples of {name}", kept)
            rho[out] = kept["rho"]
            learned = judged(voted, rho, fold, settings.seed)
            findings_of(labels, voted, settings, learned, rho, fold, n_folds).write(workspace.directory)
            write_rows(workspace.directory, len(standing.history.records), _mistaken(voted, rho), names)
        rho[out] = kept["rho"]
    learned = judged(voted, rho, fold, settings.seed)

    network, validation = yield from fitted("all votes", everyone, n_folds)
    network.eval()
    weights = {name: weight.detach().cpu().contiguous() for name, weight in network.state_dict().items()}
    told = json.dumps({"settings": asdict(settings), "preprocessing": dict(workspace.preprocessing)}, sort_keys=True)
    write_bytes(workspace.directory / CHECKPOINT, to_safetensors(weights, metadata={"voorwerp": told}))

    def describe(block: np.ndarray) -> Mapping[str, np.ndarray]:
        pieces = []
        with torch.inference_mode():
            for i in range(0, len(block), PIECE):
                h = network.latents(to_tensor(block[i : i + PIECE], device))
                pieces.append(h.float().cpu().numpy())
        return {"latents": np.concatenate(pieces)}

    by = {"network": sha256_file(workspace.directory / CHECKPOINT), "device": device.type}
    latents, _ = yield from describe_all(workspace, by, describe)
    if latents is None:
        raise ArtifactError("no image was described; resume the run")
    columns = yield from predicted(latents, network, settings)
    split = np.full(len(images), "unseen", "U10")
    split[voted.rows] = "train"
    split[voted.rows[validation]] = "validation"
    results = write_described(workspace, latents, columns, split, settings.seed, columns["acquisition"])
    findings_of(labels, voted, settings, learned, rho, fold, n_folds).write(workspace.directory)
    rows = _taught(columns, images)
    if learned is not None:
        rows += _mistaken(voted, rho)[1:]
    write_rows(workspace.directory, len(standing.history.records), rows, names)
    return {
        "score_title": f"What {settings.expected_votes} votes would teach, nats",
        "n_voted": len(voted.rows),
        "expected_votes": settings.expected_votes,
        **_numbers(learned),
        **results,
        "device": device.type,
    }


def predicted(
    latents: np.ndarray, network: VoteNetwork, settings: Settings
) -> Generator[Progress, None, dict[str, np.ndarray]]:
    """The columns of every image, float32 (N,), from the dense layer's output: samples differ behind it alone."""
    n, (weight, bias) = len(latents), network.last()
    columns = {name: np.empty(n, np.float32) for name in ("predicted_fraction", "predicted_spread", "acquisition")}
    for i in range(0, n, 4096):
        rows = np.arange(i, min(i + 4096, n))
        rho = dropped(latents[rows], rows, weight, bias, settings.dropout, settings.samples, settings.seed)
        columns["predicted_fraction"][rows] = rho.mean(1, dtype=np.float64)
        columns["predicted_spread"][rows] = rho.std(1, dtype=np.float64)
        columns["acquisition"][rows] = bald(rho, settings.expected_votes)
        yield Progress(int(rows[-1]) + 1, n, "what its votes would teach")
    return columns


# ---------------------------------------------------------------------------------------------------- how right it is
def judged(voted: _Voted, rho: np.ndarray, fold: np.ndarray, seed: int) -> dict[str, Any] | None:
    """What is known of predictions out of fold, as far as there are any: rows, `Calibration`, comparisons.

    The constant rate that stands beside a fold is that of the other folds.
    """
    n = np.maximum(np.rint(voted.n), 1)
    k = np.minimum(np.rint(voted.k), n)
    parts, at = [], []
    for number in np.unique(fold):
        out = np.flatnonzero((fold == number) & np.isfinite(rho).all(1))
        if len(out):
            others = fold != number
            parts.append(calibrate(rho[out], k[out], n[out], constant(k[others], n[others])))
            at.append(out)
    if not parts:
        return None
    rows = np.concatenate(at)
    whole = _joined(parts)
    groups = voted.groups[rows]
    squares = [whole.error**2, whole.constant_error**2]
    return {
        "rows": rows,
        "calibration": whole,
        "rmse": bootstrapped(groups, squares[:1], np.sqrt, seed),
        "constant_rmse": bootstrapped(groups, squares[1:], np.sqrt, seed),
        "rmse_difference": bootstrapped(groups, squares, rmse_difference, seed),
        "log_loss": bootstrapped(groups, [whole.log_loss], lambda x: x, seed),
        "constant_log_loss": bootstrapped(groups, [whole.constant_log_loss], lambda x: x, seed),
        "log_loss_difference": bootstrapped(
            groups, [whole.log_loss, whole.constant_log_loss], lambda ours, theirs: ours - theirs, seed
        ),
    }


def _joined(parts: list[Calibration]) -> Calibration:
    """Of several folds, one."""

    def covered(ones: list[Any]) -> Any:
        k, n = sum(one.k for one in ones), sum(one.n for one in ones)
        rate = share(k, n)
        expected = sum(one.expected * one.n for one in ones) / n
        return replace(ones[0], expected=expected, k=k, n=n, low=rate.low, high=rate.high)

    levels = tuple(covered([part.levels[i] for part in parts]) for i in range(len(LEVELS)))
    return Calibration(
        levels=levels,
        within=covered([part.within for part in parts]),
        coverage_error=float(np.mean([abs(one.k / one.n - one.expected) for one in levels])),
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("log_loss", "constant_log_loss", "error", "constant_error")
        },
    )


def findings_of(
    labels: Labels,
    voted: _Voted,
    settings: Settings,
    learned: Mapping[str, Any] | None,
    rho: np.ndarray,
    fold: np.ndarray,
    n_folds: int,
) -> Findings:
    """What to tell a person."""
    found = Findings()
    simulated = "simulated votes" if labels.is_simulated else "votes"
    n = len(voted.rows)
    n_test = int(((labels.n_votes > 0) & labels.is_test).sum())
    if labels.is_simulated:
        found.caveats.append("The votes are simulated: nothing here says how well people's votes are predicted.")
    found.caveats.append(
        f"Learned from {n:,} subjects with {simulated} of the tune half ({labels.words('votes') or 'votes'}); "
        f"{n_test:,} of the test half were left alone."
    )
    found.caveats.append(
        "Acquisition is what this network does not know, as dropout samples it; it ranks subjects, and says nothing "
        "of how interesting one is."
    )
    if labels.n_strangers:
        found.caveats.append(f"{labels.n_strangers:,} subjects with votes are not among those of this run.")
    if (np.rint(voted.n) != voted.n).any() or (np.rint(voted.k) != voted.k).any():
        found.caveats.append("Weighted votes are no whole numbers: for calibration they were rounded.")
    if learned is None:
        found.sentences.append(f"Learned from the {simulated} of {n:,} subjects; nothing was held out to judge it by.")
        if not n_folds:
            found.caveats.append("No calibration: there are too few subjects for the folds, or none were asked for.")
        return found
    told: Calibration = learned["calibration"]
    n_done = len(np.unique(fold[learned["rows"]]))
    of_folds = "" if n_done == n_folds else f" ({n_done} of {n_folds} folds so far)"
    ninety = told.levels[LEVELS.index(0.9)]
    rmse, difference = learned["rmse"], learned["rmse_difference"]
    verdict = _verdict(difference)
    found.sentences += [
        f"Out of fold{of_folds}, the fraction of {simulated} is predicted to {rmse[0]:.3f} [{rmse[1]:.3f}, "
        f"{rmse[2]:.3f}] (root mean squared error, {told.levels[0].n:,} subjects): {verdict} a constant rate, "
        f"{learned['constant_rmse'][0]:.3f} (difference {_spell(difference)}).",
        f"90 % intervals hold the counted {simulated} of {ninety.k:,} of {ninety.n:,} subjects, "
        f"{_percent(ninety.k / ninety.n)} [{_percent(ninety.low)}, {_percent(ninety.high)}]. Counts are whole "
        f"numbers, so a 90 % interval holds at least 90 %, by the model {_percent(ninety.expected)}: {_trust(ninety)}.",
    ]
    of_counts = learned["log_loss_difference"]
    if of_counts[1] > 0:
        found.sentences.append(
            f"The counted {simulated} are less probable to it than to a constant rate, by {of_counts[0]:.2f} "
            f"[{of_counts[1]:.2f}, {of_counts[2]:.2f}] nats a subject: its predictions are too sure, or wrong."
        )
    of = f"out of fold, {told.levels[0].n:,} subjects" + (", simulated" if labels.is_simulated else "")
    found.tables.append(
        Table(
            f"Predicted {simulated} beside a constant rate ({of})",
            ("figure", "model", "constant rate", "difference [95 %]"),
            (
                (
                    "error of the fraction (RMSE)",
                    round(rmse[0], 4),
                    round(learned["constant_rmse"][0], 4),
                    _spell(difference),
                ),
                (
                    "-ln probability of the counts, nats a subject",
                    round(learned["log_loss"][0], 3),
                    round(learned["constant_log_loss"][0], 3),
                    _spell(learned["log_loss_difference"]),
                ),
                ("coverage error, mean over levels", round(told.coverage_error, 4), None, ""),
            ),
            "Below 0, the model is better. The constant rate is a beta-binomial fitted to the other folds. Intervals: "
            "bootstrap over groups of the same sky.",
        )
    )
    within = told.within
    found.tables.append(
        Table(
            f"Where counts lie ({of})",
            ("interval", "model says", "counted", "k of n", "95 %"),
            [
                (
                    f"central {_percent(one.level)}" if one is not within else f"within {DEVIATION} of the prediction",
                    round(one.expected, 4),
                    round(one.k / one.n, 4),
                    f"{one.k:,} of {one.n:,}",
                    f"[{one.low:.3f}, {one.high:.3f}]",
                )
                for one in (*told.levels, within)
            ],
            "Counts are whole, so an interval holds a little more than it is asked to: what the model says is what "
            "its own intervals hold. The last row is how Walmsley et al. 2020 state their coverage error.",
        )
    )
    found.curves.append(
        Curve(
            f"Coverage of {simulated} ({of})",
            "share of counts that the model says its intervals hold",
            "share of counts that they hold",
            [
                Line(
                    "central intervals",
                    [one.expected for one in told.levels],
                    [one.k / one.n for one in told.levels],
                    [one.low for one in told.levels],
                    [one.high for one in told.levels],
                )
            ],
            "Below the diagonal, it is surer than it should be.",
            has_diagonal=True,
        )
    )
    found.curves.append(_reliability(voted, rho, learned, simulated, of))
    return found


def _reliability(voted: _Voted, rho: np.ndarray, learned: Mapping[str, Any], simulated: str, of: str) -> Curve:
    """Subjects by predicted fraction in up to ten bins of equal number: what was predicted, and what was counted."""
    rows = learned["rows"]
    guess, counted = rho[rows].mean(1, dtype=np.float64), voted.k[rows] / voted.n[rows]
    order = np.argsort(guess, kind="stable")
    bins = [part for part in np.array_split(order, min(10, max(1, len(rows) // 5))) if len(part)]
    means = [bootstrapped(voted.groups[rows][part], [counted[part]], lambda x: x) for part in bins]
    return Curve(
        f"Predicted and counted fraction of {simulated} ({of})",
        "predicted fraction, mean of a bin",
        "counted fraction, mean of the same subjects",
        [
            Line(
                "subjects by what is predicted",
                [float(guess[part].mean()) for part in bins],
                [mean[0] for mean in means],
                [mean[1] for mean in means],
                [mean[2] for mean in means],
                is_points=True,
            )
        ],
        "Intervals: bootstrap over groups of the same sky.",
        has_diagonal=True,
    )


def _verdict(difference: tuple[float, float, float]) -> str:
    if difference[2] < 0:
        return "better than"
    return "worse than" if difference[1] > 0 else "not shown to be better than"


def _trust(one: Any) -> str:
    if one.low <= one.expected <= one.high:
        return "that agrees"
    return "it is surer than it should be" if one.high < one.expected else "it is less sure than it could be"


def _spell(figure: tuple[float, float, float]) -> str:
    return f"{figure[0]:+.3f} [{figure[1]:+.3f}, {figure[2]:+.3f}]"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %".replace(".0 %", " %")


def _numbers(learned: Mapping[str, Any] | None) -> dict[str, Any]:
    if learned is None:
        return {}
    told: Calibration = learned["calibration"]
    return {
        "rmse": round(learned["rmse"][0], 5),
        "constant_rmse": round(learned["constant_rmse"][0], 5),
        "log_loss": round(learned["log_loss"][0], 5),
        "constant_log_loss": round(learned["constant_log_loss"][0], 5),
        "coverage_error": round(told.coverage_error, 5),
        "n_out_of_fold": told.levels[0].n,
    }


def _mistaken(voted: _Voted, rho: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Rows of pictures, of who is predicted out of fold: highest fraction, and the largest errors to both sides."""
    rows = np.flatnonzero(np.isfinite(rho).all(1))
    guess, counted = rho[rows].mean(1, dtype=np.float64), voted.k[rows] / voted.n[rows]
    high = rows[np.argsort(-guess, kind="stable")[:COLUMNS]]
    over = np.argsort(counted - guess, kind="stable")[:COLUMNS]
    under = np.argsort(guess - counted, kind="stable")[:COLUMNS]
    return [
        ("highest predicted fraction, out of fold", voted.images[high]),
        (f"predicted too high: first {guess[over[0]]:.2f}, counted {counted[over[0]]:.2f}", voted.images[rows[over]]),
        (f"predicted too low: first {guess[under[0]]:.2f}, counted {counted[under[0]]:.2f}", voted.images[rows[under]]),
    ]


def _taught(columns: Mapping[str, np.ndarray], images: Any) -> list[tuple[str, np.ndarray]]:
    """Rows of pictures, of all subjects: whose votes would teach most and least, and the highest predicted fraction."""
    told, fraction = columns["acquisition"], columns["predicted_fraction"]
    order = np.argsort(-told, kind="stable")
    order = order[np.isfinite(told[order])]
    most, least = order[:COLUMNS], order[::-1][:COLUMNS]
    high = order[np.argsort(-fraction[order], kind="stable")[:COLUMNS]]

    def pick(rows: np.ndarray) -> np.ndarray:
        return np.stack([np.asarray(images[int(row) : int(row) + 1])[0] for row in rows])

    return [
        (f"votes would teach most: {told[most[0]]:.2f} to {told[most[-1]]:.2f} nats", pick(most)),
        (f"votes would teach least: {told[least[0]]:.2g} to {told[least[-1]]:.2g} nats", pick(least)),
        (f"highest predicted fraction: {fraction[high[0]]:.2f} to {fraction[high[-1]]:.2f}", pick(high)),
    ]
