"""Fine-tuning from vetting: experts' grades teach a network what is of interest, and it says it of every subject.

Preset ``modern``: the convolutions of the anomaly model's encoder (or small ones, begun anew), mean and maximum of
their last feature map, and a head of two layers with dropout. Both classes are drawn equally often, every image in a
random orientation; AdamW, the encoder's step a tenth of the head's; it ends when the loss on held-out groups stops to
fall, where there are enough of them.

Preset ``paper`` is the last step of CzSL (Jiménez et al. 2023, arXiv:2302.00366), the closest that we know to
fine-tune an unsupervised encoder on few labels by experts: all layers from the encoder on, two dense layers of 256 and
128, mean squared error of the softmax on one-hot grades, plain SGD with step 0.01, batches of 32, 100 epochs, the last
weights. It differs: the encoder is that of the anomaly model where there is one (theirs: of an autoencoder; begun anew
it has their three convolutions); it learns from all that is given, where they set 30 % aside and do not use it; folds
are ours; and probabilities are corrected, as follows.

What is learned from a balanced draw is no probability. Log odds are corrected by the share that is of interest
(science rule 19): that of the survey where experts' subjects were drawn at random with known probability, else that of
the graded ones, and it is said which.

Graded subjects of the tune half are judged out of fold, whole duplicate groups together; all others by a network that
learned from all of them. Their duplicates, too, get what those said who had not seen them. The survey's test half
teaches nothing and counts nowhere. Images are float32 in [0, 1], (B, C, H, W). Shapes in the comments: 64 pixels,
3 bands, an encoder of width 16.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import save as to_safetensors
from scipy.special import logit
from torch import Tensor, nn

from models.artifacts import (
    CHECKPOINT,
    RUN_JSON,
    SCORES,
    ArtifactError,
    Run,
    Workspace,
    read_columns,
    sha256_file,
    write_bytes,
)
from models.autoencoder import Autoencoder, taken
from models.classifier import corrected
from models.describing import describe_all, write_described
from models.estimates import Compared, compare
from models.findings import Curve, Findings, Line, Table
from models.fitting import Recipe, Standing, fit, network_of, outputs
from models.grids import COLUMNS, write_rows
from models.labels import LISTED, Labels, folds_of, read_labels
from models.progress import Progress
from models.rates import Rate, wilson
from models.scoring import load_checkpoint, pick_device, to_tensor
from models.steps import Feed
from models.weighted import weighted
from models.wgan import Encoder

COLUMN = "probability_of_interest"
VECTOR = {"modern": 64, "paper": 128}  # length of the latent vector: the layer before the last
HIDDEN = 256  # of preset paper
SLOWER = 0.1  # step of an encoder that is gone on with, beside the head's
DROPOUT = 0.5
LEAST = 128  # images that an epoch takes at least, of fewer again and again
VALIDATION = 5  # one in so many groups holds the loss by which a fit ends
FEWEST_TO_VALIDATE = 10 * VALIDATION  # groups of either class: ten of them say when to end; with fewer, all epochs
PIECE = 256  # images that are described at once
BINS = 8  # of the reliability curve
FEW = 100  # graded subjects below which it is said that they are few

PRESETS: dict[str, dict[str, Any]] = {
    "modern": {"epochs": 30, "batch": 32, "learning_rate": 1e-3, "patience": 8},
    "paper": {"epochs": 100, "batch": 32, "learning_rate": 0.01, "patience": 0},
}


class Config(Protocol):
    """See `explorer.kinds.finetune.FinetuneConfig`: None takes the preset's value."""

    @property
    def preset(self) -> Literal["modern", "paper"]: ...
    @property
    def begin(self) -> Literal["encoder", "fresh"]: ...
    @property
    def folds(self) -> int: ...
    @property
    def epochs(self) -> int | None: ...
    @property
    def batch(self) -> int | None: ...
    @property
    def learning_rate(self) -> float | None: ...
    @property
    def patience(self) -> int | None: ...
    @property
    def width(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...


# ---------------------------------------------------------------------------------------------------------- network
def fresh_stages(bands: int, width: int) -> nn.Sequential:
    """Convolutions of preset modern that nobody has trained: (B, 3, 64, 64) → (B, 64, 8, 8)."""

    def stage(channels_in: int, channels_out: int) -> list[nn.Module]:
        convolution = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(channels_out), nn.ReLU(), nn.MaxPool2d(2)]

    return nn.Sequential(*stage(bands, width), *stage(width, 2 * width), *stage(2 * width, 4 * width))


def encoder_stages(encoder: Encoder) -> nn.Sequential:
    """The convolutions of the anomaly model's encoder, a copy: (B, 3, 64, 64) → (B, 128, 4, 4)."""
    stages: list[nn.Module] = []
    for stage in encoder.stages:
        copy = nn.Conv2d(stage.in_channels, stage.out_channels, 5, stride=2, padding=2)  # type: ignore[arg-type]
        copy.load_state_dict(stage.state_dict())
        stages += [copy, nn.ReLU()]
    return nn.Sequential(*stages)


class Pooled(nn.Module):
    """Mean and maximum over the last feature map: (B, 128, 4, 4) → (B, 256)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)


class Network(nn.Module):
    """Image (B, 3, 64, 64) → vector (B, 64) → log odds of interest (B,), of a draw as it was trained on."""

    def __init__(self, stages: nn.Sequential, bands: int, size: int, preset: Literal["modern", "paper"]) -> None:
        super().__init__()
        self.stages, self.preset = stages, preset
        n = VECTOR[preset]
        with torch.inference_mode():
            channels, *sides = stages.eval()(torch.zeros(1, bands, size, size)).shape[1:]
        if preset == "modern":
            layers: list[nn.Module] = [Pooled(), nn.LayerNorm(2 * channels), nn.Dropout(DROPOUT)]
            self.dense = nn.Sequential(*layers, nn.Linear(2 * channels, n), nn.ReLU())
        else:
            length = channels * sides[0] * sides[1]
            layers = [nn.Flatten(), nn.Linear(length, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, n), nn.ReLU()]
            self.dense = nn.Sequential(*layers)
        self.head = nn.Linear(n, 1 if preset == "modern" else 2)

    def vector(self, x: Tensor) -> Tensor:
        """(B, 64), before the last layer."""
        return self.dense(self.stages(x))  # type: ignore[no-any-return]

    def odds(self, vector: Tensor) -> Tensor:
        """Log odds (B,) of vectors (B, 64)."""
        said = self.head(vector)
        return said[:, 0] if self.preset == "modern" else said[:, 1] - said[:, 0]  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.odds(self.vector(x))


def loss_of(odds: Tensor, found: Tensor, weights: Tensor, preset: Literal["modern", "paper"]) -> Tensor:
    """Mean over images of weight × loss, in float32: cross-entropy, or (paper) the squared error of the softmax.

    Parameters
    ----------
    odds, found, weights
        (B,); `found` is 1 or 0.
    """
    odds = odds.float()
    if preset == "modern":
        each = nn.functional.binary_cross_entropy_with_logits(odds, found, reduction="none")
    else:
        each = (odds.sigmoid() - found) ** 2  # of both classes the same: their mean
    return (weights * each).mean()


# ---------------------------------------------------------------------------------------------------- what is graded
@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """The tune half's graded subjects, n of them, and m duplicates that nobody graded behind them.

    Attributes
    ----------
    rows
        int64 (n + m,): among the run's images.
    found
        bool (n,): of interest by experts.
    groups
        int64 (n,).
    folds
        int64 (n + m,): in which each is held out.
    inclusion
        float64 (n,): probability of having been drawn; NaN where it was chosen.
    prior, prior_rate
        Share that is of interest, by which log odds are corrected, and what it was counted from.
    is_drawn
        Whether graded subjects stand for the survey.
    """

    rows: np.ndarray
    found: np.ndarray
    groups: np.ndarray
    folds: np.ndarray
    inclusion: np.ndarray
    prior: float
    prior_rate: Rate
    is_drawn: bool

    @property
    def n(self) -> int:
        return len(self.found)

    @property
    def n_folds(self) -> int:
        return int(self.folds.max()) + 1


def graded_of(labels: Labels, workspace: Workspace, n_folds: int, seed: int) -> Graded:
    """Who teaches, who is judged in which fold, and what they stand for.

    Raises
    ------
    ArtifactError
        Nobody was graded, all to the same effect, or one of the two has fewer than two groups.
    """
    known = np.isfinite(labels.is_found)
    if not known.any():
        names = f"tell by --look-for which of {', '.join(labels.classes)} are of interest" if labels.classes else LISTED
        raise ArtifactError(f"no subject has a grade that says whether it is of interest; {names}")
    left_out = workspace.left_out if workspace.left_out is not None else np.zeros(len(known), bool)
    rows = np.flatnonzero(known & ~labels.is_test & ~left_out)
    if not len(rows):
        raise ArtifactError(
            f"all {int(known.sum()):,} graded subjects are of the survey's test half, which nothing learns from; "
            f"grade others; {LISTED}"
        )
    found, groups = labels.is_found[rows] > 0, labels.groups[rows]
    n_groups = [len(np.unique(groups[found == one])) for one in (True, False)]
    for n, what in zip(n_groups, ("of interest", "turned down"), strict=True):
        if n < 2:
            one = "none is" if n == 0 else "only one is (duplicates count once)"
            raise ArtifactError(
                f"of {len(rows):,} graded subjects of the tune half {one} {what}; two of each kind are the least that "
                "can be learned from and judged: grade more"
            )
    fold = folds_of(groups, found, min(n_folds, *n_groups), seed)
    more, their_fold = _duplicates(workspace, rows, fold)
    pi = labels.inclusion[rows]
    is_drawn = bool(np.isfinite(pi).all())
    everyone = np.ones(len(rows), bool)
    base = weighted(everyone, found, everyone, pi if is_drawn else None, groups)["base"]
    prior = float(np.average(found, weights=1 / pi if is_drawn else None))
    every = np.concatenate([rows, more])
    return Graded(every, found, groups, np.concatenate([fold, their_fold]), pi, prior, base, is_drawn)


def _duplicates(workspace: Workspace, rows: np.ndarray, fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Subjects that show the same as a graded one and were not graded, and in which fold that is held out."""
    groups = workspace.duplicate_groups
    if groups is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    of = {int(group): int(f) for group, f in zip(groups[rows], fold, strict=True) if group >= 0}
    others = np.setdiff1d(np.flatnonzero(np.isin(groups, list(of))), rows)
    return others, np.array([of[int(group)] for group in groups[others]], np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Old:
    """The score that it is judged beside: of every subject of the run, float64 (N,), NaN without."""

    values: np.ndarray
    words: str
    has_learned: bool  # from labels, other than out of fold


def old_of(workspace: Workspace) -> Old | None:
    """The score of the run that it was told to build on: its probability of interest, else its anomaly score."""
    folder = workspace.parents.get("score")
    if folder is None:
        return None
    table = read_columns(folder / SCORES, pa.schema([("subject_id", pa.int64()), ("anomaly_score", pa.float32())]))
    run = Run.read(folder / RUN_JSON)
    name = COLUMN if COLUMN in table.column_names else "anomaly_score"
    ids, values = table.column("subject_id").to_numpy(), table.column(name).cast(pa.float64()).to_numpy()
    order = np.argsort(ids, kind="stable")
    at = order[np.minimum(np.searchsorted(ids, workspace.subject_ids, sorter=order), len(ids) - 1)]
    aligned = np.where(ids[at] == workspace.subject_ids, values[at], np.nan)
    words = (
        "earlier probability of interest" if name == COLUMN else str(run.results.get("score_title", "anomaly score"))
    )
    lower = words[:1].lower() + words[1:] if words[1:2].islower() else words  # PCA-32 stays
    return Old(aligned, f"{lower} of {run.run_id}", name != COLUMN and "labels" in run.inputs)


def encoder_of(workspace: Workspace, config: Config) -> tuple[Encoder | None, str]:
    """The encoder to go on from, and where it is from, in words; None to begin anew."""
    if config.begin == "fresh":
        return None, "fresh weights"
    folder: Path | None = workspace.parents.get("train")
    scored = workspace.parents.get("score")
    while folder is None and scored is not None and (scored / RUN_JSON).exists():
        inputs = Run.read(scored / RUN_JSON).inputs
        folder = scored.parent / inputs["train"] if "train" in inputs else None
        scored = scored.parent / inputs["score"] if "score" in inputs else None  # of an earlier fine-tuning
    if folder is None or not (folder / CHECKPOINT).exists():
        return None, "fresh weights, because the scores are of no training"
    return load_checkpoint(folder, workspace.preprocessing).encoder, f"the encoder of {folder.name}"


# ------------------------------------------------------------------------------------------------------------ fitting
@dataclass(frozen=True, slots=True)
class Settings:
    """How a network is fitted, nothing left open."""

    preset: Literal["modern", "paper"]
    recipe: Recipe
    seed: int


def settings_of(config: Config, device: torch.device) -> Settings:
    """The preset's values where the config has none."""
    own = {name: value for name in PRESETS["modern"] if (value := getattr(config, name)) is not None}
    plan = {**PRESETS[config.preset], **own}
    if config.preset == "paper":
        recipe = Recipe(plan["epochs"], plan["batch"], plan["learning_rate"], "sgd", patience=plan["patience"])
    else:
        recipe = Recipe(
            plan["epochs"],
            plan["batch"],
            plan["learning_rate"],
            weight_decay=0.05,
            is_turned=True,
            patience=plan["patience"],
            is_annealed=True,
            precision="bfloat16" if device.type == "cuda" else "float32",
        )
    return Settings(config.preset, recipe, config.seed)


def balanced(rows: np.ndarray, found: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """An epoch's rows, int64: both classes equally often, each subject of a class as often as another, but for one."""
    half = max(len(rows), LEAST) // 2
    parts = []
    for one in (True, False):
        mine = rows[found[rows] == one]
        times = -(-half // len(mine))
        parts.append(np.concatenate([random.permutation(mine) for _ in range(times)])[:half])
    return random.permutation(np.concatenate(parts))


class Learner:
    """Fits networks to the graded subjects."""

    def __init__(
        self,
        graded: Graded,
        images: np.ndarray,
        encoder: Encoder | None,
        settings: Settings,
        width: int,
        device: torch.device,
        standing: Standing,
    ) -> None:
        self.graded, self.encoder, self.settings, self.width = graded, encoder, settings, width
        self.device, self.standing = device, standing
        self.feed, self.size, self.bands = Feed(images, device), images.shape[1], images.shape[3]
        self.found = torch.from_numpy(graded.found.astype(np.float32)).to(device)
        self.total = (graded.n_folds + 1) * settings.recipe.epochs

    def make(self) -> Network:
        """A network before it has seen a grade."""
        preset = self.settings.preset
        if self.encoder is not None:
            stages = encoder_stages(self.encoder)
        elif preset == "modern":
            stages = fresh_stages(self.bands, self.width)
        else:
            stages = Autoencoder(self.bands, self.width, 8).encoder
        return Network(stages, self.bands, self.size, preset)

    def fitted(self, name: str, rows: np.ndarray, number: int) -> Generator[Progress, None, tuple[Network, np.ndarray]]:
        """A network fitted to the graded subjects at `rows`, in evaluation mode, and those that said when to end."""
        settings, graded = self.settings, self.graded
        seed, held = settings.seed + number, np.zeros(len(rows), bool)
        few = min(len(np.unique(graded.groups[rows][graded.found[rows] == one])) for one in (True, False))
        if settings.recipe.patience and few >= FEWEST_TO_VALIDATE:
            held = folds_of(graded.groups[rows], graded.found[rows], VALIDATION, seed) == 0
        network: Network = network_of(seed, self.make, self.device)
        weights = np.ones(graded.n, np.float32)
        for one in (True, False):  # of the held out: both classes weigh the same, as they do in what is drawn
            mine = rows[held][graded.found[rows[held]] == one]
            weights[mine] = held.sum() / (2 * max(len(mine), 1))
        weight = torch.from_numpy(weights).to(self.device)

        def loss(x: Tensor, at: np.ndarray) -> Tensor:
            index = torch.from_numpy(at).to(self.device)
            return loss_of(network(x), self.found[index], weight[index], settings.preset)

        is_modern = settings.preset == "modern"
        slower = SLOWER if self.encoder is not None and is_modern else 1.0
        groups: list[dict[str, Any]] = [
            {"params": list(network.stages.parameters()), "lr": settings.recipe.learning_rate * slower},
            {"params": [*network.dense.parameters(), *network.head.parameters()]},
        ]
        epochs = fit(
            name,
            network,
            loss,
            self.feed,
            rows[~held],
            rows[held],
            settings.recipe,
            seed,
            self.standing,
            draw=(lambda random: balanced(rows[~held], graded.found, random)) if is_modern else None,
            groups=groups,
        )
        before = number * settings.recipe.epochs
        for epoch in epochs:
            losses = {"train_loss": epoch.train["loss"], "images_per_second": epoch.images_per_second}
            losses |= {"validation_loss": epoch.validation["loss"]} if epoch.validation else {}
            yield Progress(before + epoch.number, self.total, name, losses)
        network.eval()
        return network, rows[held]

    def shift(self, rows: np.ndarray) -> float:
        """What log odds of a network that learned from `rows` are too high by, before the share of interest counts."""
        return 0.0 if self.settings.preset == "modern" else float(logit(self.graded.found[rows].mean()))


# --------------------------------------------------------------------------------------------------------- findings
def reliability(p: np.ndarray, found: np.ndarray, inclusion: np.ndarray, bins: int = BINS) -> dict[str, list[float]]:
    """How often what is called p is of interest, in bins of as many subjects as ties allow.

    Parameters
    ----------
    inclusion
        π, float (n,): each subject stands for 1 / π; ones for the graded alone.

    Returns
    -------
    dict
        ``p`` (mean), ``value`` and its 95 % interval ``low``, ``high`` (Wilson's at the effective number, Kish 1965),
        and ``k`` of ``n`` as counted.
    """
    order = np.argsort(p, kind="stable")
    p, found, w = p[order], found[order].astype(np.float64), 1 / inclusion[order]
    starts = np.unique(np.searchsorted(p, p[(np.arange(bins) * len(p)) // bins]))  # the first is 0
    told: dict[str, list[float]] = {name: [] for name in ("p", "value", "low", "high", "k", "n")}
    for start, end in zip(starts, [*starts[1:], len(p)], strict=True):
        mine = slice(start, end)
        value, effective = np.average(found[mine], weights=w[mine]), w[mine].sum() ** 2 / (w[mine] ** 2).sum()
        low, high = wilson(value * effective, effective)
        numbers = (np.average(p[mine], weights=w[mine]), value, low, high, found[mine].sum(), end - start)
        for name, number in zip(told, numbers, strict=True):
            told[name].append(float(number))
    return told


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """What is known out of fold: log odds of the graded, float64 (n,), NaN of folds that are not through."""

    odds: np.ndarray
    probability: np.ndarray
    of_graded: Compared
    of_survey: Compared | None

    @property
    def best(self) -> Compared:
        """For the survey where that can be told."""
        return self.of_survey or self.of_graded


def judged_of(graded: Graded, odds: np.ndarray, old: Old | None, seed: int) -> Judged:
    """Judge what is known so far, beside the old score."""
    before = old.values[graded.rows[: graded.n]] if old is not None else None
    told = compare(odds, before, graded.found, np.ones(graded.n), graded.groups, seed=seed)
    whole = compare(odds, before, graded.found, graded.inclusion, graded.groups, seed=seed) if graded.is_drawn else None
    return Judged(odds, corrected(odds, graded.prior), told, whole)


def findings_of(graded: Graded, judged: Judged, labels: Labels, old: Old | None, begun: str) -> Findings:
    """What was found, the old score beside it."""
    found = Findings()
    grades = labels.words("expert") or "grades"
    grades = f"simulated {grades}" if labels.is_simulated and "simulated" not in grades.lower() else grades
    told, n_through = judged.best, int(np.isfinite(judged.odds).sum())
    if n_through < graded.n:
        found.sentences.append(f"{n_through:,} of {graded.n:,} graded subjects of the tune half are judged so far.")
    whom = f"Judged by {told.n:,} graded subjects ({told.n_positive:,} of interest by {grades}), "
    whom += "each by what it had not taught"
    if judged.of_survey is not None:
        is_all = told.of == told.n
        whom += (
            "; they are all of the tune half"
            if is_all
            else (f"; drawn at random, they stand for {told.of:,.0f} of the tune half")
        )
    for name in ("average precision", "AUC"):
        if name in told.new:
            by = " (simulated grades)" if labels.is_simulated else ""
            found.sentences.append(_sentence(name, told, old, 3) + by + ".")
    for name in [name for name in told.new if name.startswith("found")][:1]:
        where = "survey's tune half" if judged.of_survey is not None else "graded"
        found.sentences.append(_sentence(f"{name.capitalize()} of the {where}", told, old, 1, name) + ".")
    found.sentences.append(whom + ".")
    if judged.of_survey is None:
        found.sentences.append(
            "How good it is for the whole survey is not estimable: subjects were chosen to be graded, not drawn with "
            "known probability; a campaign with audit draws (or of a random draw) tells it."
        )
    rate = graded.prior_rate
    if rate.value is not None and rate.low is not None and rate.high is not None:
        of = "the survey" if graded.is_drawn else "those graded, which may be more or fewer than in the survey"
        found.sentences.append(
            f"Probabilities are by a share of interest of {100 * graded.prior:.2g} % "
            f"[{100 * rate.low:.2g}, {100 * rate.high:.2g}] ({rate.k:g} of {rate.n:,.0f}), that of {of}."
        )
    found.caveats += _caveats(graded, labels, old, begun)
    columns = ["", "fine-tuned", old.words if old is not None else "", "difference"][: 2 if old is None else 4]
    for title, one in (("For the survey's tune half", judged.of_survey), ("Of those graded", judged.of_graded)):
        is_same = one is judged.of_graded and graded.is_drawn and len(np.unique(graded.inclusion)) == 1
        if one is None or not one.new or is_same:
            continue
        rows = [
            [
                name,
                _spell(new, name),
                *([_spell(one.old[name], name), _spell(one.difference[name], name)] if old else []),
            ]
            for name, new in one.new.items()
        ]
        note = f"{one.n_positive:,} of {one.n:,} of interest; 95 % intervals draw whole duplicate groups"
        found.tables.append(Table(f"{title}, out of fold ({grades})", columns, rows, note))
    done = np.isfinite(judged.odds)
    if n_through == graded.n:
        pi = graded.inclusion if graded.is_drawn else np.ones(graded.n)
        bins = reliability(judged.probability[done], graded.found[done], pi)
        line = Line("out of fold", bins["p"], bins["value"], bins["low"], bins["high"])
        title = f"Reliability: how often what is called p is of interest ({grades})"
        found.curves.append(Curve(title, "probability of interest", "share of interest", [line], "", True))
    return found


def _sentence(words: str, told: Compared, old: Old | None, digits: int, name: str = "") -> str:
    name = name or words
    text = f"{words[:1].upper()}{words[1:]} {told.new[name].spell(digits, digits)}"
    if old is None or name not in told.old:
        return text
    gap = told.difference[name]
    verdict = "" if gap.low > 0 or gap.high < 0 else ", so the two are not told apart"
    beside = f"{told.old[name].spell(digits, digits)} by the {old.words.rpartition(' of ')[0]}"
    return f"{text}, beside {beside}; difference {gap.spell(digits, digits)}{verdict}"


def _spell(figure: Any, name: str) -> str:
    return str(figure.spell(1, 1) if name.startswith("found") else figure.spell(3, 3))


def _caveats(graded: Graded, labels: Labels, old: Old | None, begun: str) -> list[str]:
    told = []
    if labels.is_simulated:
        told.append(
            f"The grades are simulated ({labels.words('expert')}): figures say how it would go, not what is there."
        )
    told += [f"{note[:1].upper()}{note[1:]}." for note in labels.about.get("expert", {}).get("notes", ())]
    if graded.n < FEW:
        told.append(f"Few are graded: {graded.n:,}, {int(graded.found.sum()):,} of them of interest.")
    if n := int((np.isfinite(labels.is_found) & labels.is_test).sum()):
        told.append(f"{n:,} graded subjects are of the survey's test half: they taught nothing and are in no figure.")
    if labels.n_strangers:
        told.append(f"{labels.n_strangers:,} labels are of subjects that this run is not of.")
    if old is not None and old.has_learned:
        told.append(f"The {old.words} learned from labels itself, perhaps from these: it may look better than it is.")
    return [*told, f"Begun from {begun}."]


# ------------------------------------------------------------------------------------------------------------ the kind
def run(config: Config, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Fit networks that each leave a fold out, judge them, fit one to all grades, and say how probable each subject is.

    Raises
    ------
    ArtifactError
        No images, or grades that nothing can be learned from (`graded_of`).
    """
    if workspace.images is None or not len(workspace.images):
        raise ArtifactError("the survey has no images; what is of interest is learned from them")
    yield Progress(0, 1, "reading grades")
    labels = read_labels(workspace)
    graded = graded_of(labels, workspace, config.folds, config.seed)
    old, (encoder, begun) = old_of(workspace), encoder_of(workspace, config)
    torch.set_num_threads(workspace.threads)
    device = pick_device(config.device)
    settings = settings_of(config, device)
    order = np.argsort(graded.rows, kind="stable")  # images are read by ascending rows
    images = np.concatenate(list(taken(workspace.images, graded.rows[order])))[np.argsort(order, kind="stable")]
    whose = b"".join(np.ascontiguousarray(part).tobytes() for part in (graded.rows, graded.found, graded.folds))
    about = {
        **asdict(settings),
        "width": config.width,
        "begun": begun,
        "device": device.type,
        "grades": hashlib.sha256(whose).hexdigest()[:12],
        "preprocessing": dict(workspace.preprocessing),
    }
    standing = Standing(workspace.directory, about)
    learner = Learner(graded, images, encoder, settings, config.width, device, standing)
    names, everyone = workspace.preprocessing.get("bands"), np.arange(graded.n)
    odds = np.full(len(graded.rows), np.nan)
    for number in range(graded.n_folds):
        name = f"fold {number + 1} of {graded.n_folds}"
        kept = standing.kept(f"odds of {name}")
        rows, out = everyone[graded.folds[: graded.n] != number], np.flatnonzero(graded.folds == number)
        if kept is None:
            network, _ = yield from learner.fitted(name, rows, number)
            kept = {"odds": outputs(network, learner.feed, out).astype(np.float64) - learner.shift(rows)}
            standing.keep(f"odds of {name}", kept)
        odds[out] = kept["odds"]
        judged = judged_of(graded, odds[: graded.n], old, config.seed)
        findings_of(graded, judged, labels, old, begun).write(workspace.directory)
        write_rows(workspace.directory, len(standing.history.records), _mistaken(graded, judged, images), names)

    network, validation = yield from learner.fitted("all grades", everyone, graded.n_folds)
    weights = {name: weight.detach().cpu().contiguous() for name, weight in network.state_dict().items()}
    told: dict[str, Any] = {"kind": "finetune", "preset": settings.preset, "prior": graded.prior, "begun": begun}
    told["preprocessing"] = dict(workspace.preprocessing)
    content = to_safetensors(weights, metadata={"voorwerp": json.dumps(told, sort_keys=True)})
    write_bytes(workspace.directory / CHECKPOINT, content)

    def describe(block: np.ndarray) -> Mapping[str, np.ndarray]:
        vectors, said = [], []
        with torch.inference_mode():
            for i in range(0, len(block), PIECE):
                vectors.append(vector := network.vector(to_tensor(block[i : i + PIECE], device)).float())
                said.append(network.odds(vector))
        return {"latents": torch.cat(vectors).cpu().numpy(), "odds": torch.cat(said).cpu().numpy()}

    by = {"network": sha256_file(workspace.directory / CHECKPOINT), "device": device.type}
    latents, columns = yield from describe_all(workspace, by, describe)
    everything = columns["odds"].astype(np.float64) - learner.shift(everyone)
    known = np.isfinite(everything[graded.rows])  # constant images have none
    everything[graded.rows[known]] = odds[known]
    probability = np.where(np.isfinite(everything), corrected(everything, graded.prior), np.nan)
    split = np.full(len(probability), "unseen", "U10")
    split[graded.rows[: graded.n]] = "train"
    split[graded.rows[validation]] = "validation"
    results = write_described(
        workspace, latents, {COLUMN: probability.astype(np.float32)}, split, config.seed, probability
    )
    yield Progress(1, 1, "judging")
    judged = judged_of(graded, odds[: graded.n], old, config.seed)
    findings_of(graded, judged, labels, old, begun).write(workspace.directory)
    pictures = _surest(everything, graded, workspace.images) + _mistaken(graded, judged, images)
    write_rows(workspace.directory, len(standing.history.records), pictures, names)
    simulated = " (simulated grades)" if labels.is_simulated else ""
    return {
        "score_title": f"Probability of interest{simulated}",
        "n_graded": graded.n,
        "n_of_interest": int(graded.found.sum()),
        "share_of_interest": graded.prior,
        **{name.replace(" ", "_"): figure.value for name, figure in judged.best.new.items()},
        **{f"old_{name.replace(' ', '_')}": figure.value for name, figure in judged.best.old.items()},
        **results,
    }


Pictures = list[tuple[str, np.ndarray]]


def _mistaken(graded: Graded, judged: Judged, images: np.ndarray) -> Pictures:
    """Where network and experts differ most, out of fold."""
    odds, found = judged.odds, graded.found
    told: Pictures = []
    for one, sign, words in ((True, 1, "experts found, network least"), (False, -1, "turned down, network most")):
        mine = np.flatnonzero(np.isfinite(odds) & (found == one))
        first = mine[np.argsort(sign * odds[mine], kind="stable")][:COLUMNS]
        told.append((words, images[first]))
    return [row for row in told if len(row[1])]


def _surest(odds: np.ndarray, graded: Graded, images: Any) -> Pictures:
    """What nobody has graded: the most probable, and those as probable as not among as many of each."""
    rest = np.setdiff1d(np.flatnonzero(np.isfinite(odds)), graded.rows)
    told: Pictures = []
    for words, key in (("not graded, most probable", -odds[rest]), ("not graded, most unsure", np.abs(odds[rest]))):
        first = rest[np.argsort(key, kind="stable")][:COLUMNS]
        ascending = np.sort(first)
        if len(first):
            pictures = np.concatenate(list(taken(images, ascending)))
            told.append((words, pictures[np.searchsorted(ascending, first)]))
    return told
