"""Training: first the Wasserstein GAN with gradient penalty, then the encoder into its latent space.

Two loops, each a generator of `Epoch`:

`train_gan`      critic and generator; the gradient norm near 1 and a critic loss that slowly rises to 0 are good signs
`train_encoder`  encoder, with generator and critic frozen; the loss is the anomaly score it will later be used for

`run` drives them and keeps what they say: ``history.jsonl``, ``grids/``, a verdict (`models.divergence`), and the state
to go on from (`models.resume`).
"""

import hashlib
import math
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any, Literal, Protocol, cast

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from models.artifacts import (
    CHECKPOINT,
    RUN_JSON,
    ArtifactError,
    Run,
    Workspace,
    now,
    read_columns,
    scratch_array,
    sha256_file,
    write_table,
)
from models.board import Board
from models.divergence import SOUND, Yardstick, has_diverged, is_sound, not_a_number, verdict_of, word_of
from models.grids import COLUMNS, Grids, is_due
from models.memory import Batch
from models.parallel import Leader, number_of, share_images
from models.progress import Progress
from models.resume import Bookmark, Order
from models.scoring import SPLIT, SPLIT_SCHEMA, load_checkpoint, pick_device, pixel_hashes, to_tensor
from models.sound import BEFORE, sentence_of
from models.steps import EncoderSteps, Feed, GanSteps, Precision, critic_loss_beside_fakes, laid_out, lowered, set_tf32
from models.wgan import WGAN, Architecture, EncoderActivation, anomaly_score, build, scores_of

MEMORY_SHARE = 0.4  # of the free memory that the training images may take; above, they are read from a scratch file
BLOCK = 64  # images read at once to take those
SAMPLE = 4096  # images from which the mean image is taken
MANY = 20_000  # images whose latent vectors give the principal axes
PERCENT = (1, 5, 25, 50, 75, 95, 99)  # of the scores' distributions, epoch by epoch
WATCHED = (256, 4096)  # training images whose scores are watched where none are held out: as many as a tenth, within
ALIKE = 64  # generated and real images whose pixel distances say whether the generator has collapsed


class Config(Protocol):
    """See `explorer.kinds.train.TrainConfig`: None takes the preset's value."""

    @property
    def preset(self) -> Literal["fast", "paper"]: ...
    @property
    def epochs(self) -> int | None: ...
    @property
    def encoder_epochs(self) -> int | None: ...
    @property
    def batch(self) -> int | None: ...
    @property
    def encoder_batch(self) -> int | None: ...
    @property
    def width(self) -> int | None: ...
    @property
    def latent_size(self) -> int: ...
    @property
    def learning_rate(self) -> float | None: ...
    @property
    def encoder_learning_rate(self) -> float | None: ...
    @property
    def beta_1(self) -> float: ...
    @property
    def beta_2(self) -> float: ...
    @property
    def n_critic(self) -> int: ...
    @property
    def gradient_penalty(self) -> float: ...
    @property
    def feature_weight(self) -> float: ...
    @property
    def encoder_activation(self) -> EncoderActivation: ...
    @property
    def validation(self) -> float: ...
    @property
    def train_on(self) -> int | None: ...
    @property
    def seed(self) -> int: ...
    @property
    def precision(self) -> Precision: ...
    @property
    def device(self) -> str: ...
    @property
    def processes(self) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a preset and the config's own values come to.

    Attributes
    ----------
    epochs, encoder_epochs
        Passes over the training images.
    generator_steps, encoder_steps
        Where a preset names steps instead, it takes as many passes as give them: a small survey needs more passes.
    batch, encoder_batch
        Images a step.
    learning_rate, encoder_learning_rate
        Adam's step size.
    is_annealed
        Whether the encoder's step size falls to zero along a cosine; the papers keep it constant.
    is_turned
        Whether the encoder sees each batch in one of the eight orientations of a square, at random; the papers have
        enough images not to. Some hundred images are learned by heart in one orientation, and those held out for
        validation would then look like anomalies.
    """

    width: int
    batch: int
    encoder_batch: int
    learning_rate: float
    encoder_learning_rate: float
    is_annealed: bool
    is_turned: bool
    epochs: int = 0
    encoder_epochs: int = 0
    generator_steps: int = 0
    encoder_steps: int = 0

    def resolve(self, config: Config, n_train: int) -> "Recipe":
        """With the values that `config` gives, and epochs for `n_train` images."""
        batch = min(config.batch or self.batch, n_train)
        encoder_batch = min(config.encoder_batch or self.encoder_batch, n_train)
        return replace(
            self,
            width=config.width or self.width,
            batch=batch,
            encoder_batch=encoder_batch,
            learning_rate=config.learning_rate or self.learning_rate,
            encoder_learning_rate=config.encoder_learning_rate or self.encoder_learning_rate,
            epochs=config.epochs or self.epochs or math.ceil(self.generator_steps / (n_train // batch)),
            encoder_epochs=config.encoder_epochs
            or self.encoder_epochs
            or math.ceil(self.encoder_steps / (n_train // encoder_batch)),
        )


PRESETS = {
    # A few minutes on a laptop, for thousands of images as for hundreds.
    "fast": Recipe(
        width=16,
        batch=16,
        encoder_batch=32,
        learning_rate=3e-4,
        encoder_learning_rate=1e-3,
        is_annealed=True,
        is_turned=True,
        generator_steps=1000,
        encoder_steps=1500,
    ),
    # Mantha et al. 2024; what they leave open (betas, critic steps, penalty) is Storey-Fisher et al. 2021.
    "paper": Recipe(
        width=64,
        batch=1024,
        encoder_batch=256,
        learning_rate=1e-4,
        encoder_learning_rate=1e-4,
        is_annealed=False,
        is_turned=False,
        epochs=500,
        encoder_epochs=500,
    ),
}


# ----------------------------------------------------------------------------------------------------- the loops
@dataclass(frozen=True, slots=True)
class Epoch:
    """What a loop says after each epoch.

    Attributes
    ----------
    train, validation
        Mean losses by name; `validation` is empty where no images are held out.
    gradient_norm
        Median and highest over the epoch's steps.
    scores
        float64 (n,) image and feature score of always the same images, by name; empty while the GAN is trained.
    """

    number: int
    train: dict[str, float]
    validation: dict[str, float]
    images_per_second: float
    seconds: float
    gradient_norm: dict[str, float] | None = None
    scores: dict[str, np.ndarray] = field(default_factory=dict)


def train_gan(
    model: WGAN,
    images: np.ndarray,
    rows: np.ndarray,
    validation_rows: np.ndarray,
    recipe: Recipe,
    config: Config,
    bookmark: Bookmark,
) -> Iterator[Epoch]:
    """Train critic and generator on ``images[rows]``.

    An epoch has one generator step for each batch of the training images; before each, the critic takes `n_critic`
    steps on fresh batches, and so sees every image `n_critic` times an epoch.
    """
    feed = Feed(images, bookmark.device)
    steps = GanSteps(model, feed, recipe.learning_rate, config, bookmark.team)
    order = Order(rows, recipe.batch, config.seed)
    bookmark.begin("gan", steps.optimizers, order)
    for epoch in bookmark.epochs(recipe.epochs):
        for _ in bookmark.steps(len(rows) // recipe.batch):
            bookmark.note(steps.take([next(order) for _ in range(config.n_critic)]))
        train = dict(zip(("critic_loss", "generator_loss", "gradient_norm"), bookmark.means(), strict=True))
        rate = bookmark.n_fresh * config.n_critic * recipe.batch / bookmark.seconds
        validation = validate_gan(model, feed, validation_rows, recipe, config)
        yield Epoch(epoch, train, validation, rate, bookmark.seconds, bookmark.steps_of(2))


def validate_gan(model: WGAN, feed: Feed, rows: np.ndarray, recipe: Recipe, config: Config) -> dict[str, float]:
    """The critic's mean loss and gradient norm on these rows, by the same random numbers in every epoch."""
    if not len(rows):
        return {}
    means = torch.zeros(2, dtype=torch.float64, device=feed.device)
    with torch.no_grad(), torch.random.fork_rng([feed.device] if feed.device.type == "cuda" else []):
        torch.manual_seed(config.seed)
        for i in range(0, len(rows), recipe.batch):
            real = feed[rows[i : i + recipe.batch]]
            losses = critic_loss_beside_fakes(model, real, len(real), config)
            means += torch.stack(losses).double() * (len(real) / len(rows))
    return dict(zip(("critic_loss", "gradient_norm"), means.tolist(), strict=True))


def train_encoder(
    model: WGAN,
    images: np.ndarray,
    rows: np.ndarray,
    validation_rows: np.ndarray,
    recipe: Recipe,
    config: Config,
    bookmark: Bookmark,
) -> Iterator[Epoch]:
    """Train the encoder on ``images[rows]``, generator and critic frozen and without noise.

    It has seeds of its own: what comes out depends on the generator and the critic, and not on how they were trained.
    """
    feed, rate = Feed(images, bookmark.device), recipe.encoder_learning_rate
    steps = EncoderSteps(model, feed, rate, config, bookmark.team)
    order = Order(rows, recipe.encoder_batch, config.seed + 1)
    watched = watched_rows(rows, validation_rows)
    bookmark.begin("encoder", steps.optimizers, order)
    for epoch in bookmark.epochs(recipe.encoder_epochs):
        if recipe.is_annealed:
            rate = recipe.encoder_learning_rate * (1 + math.cos(math.pi * (epoch - 1) / recipe.encoder_epochs)) / 2
        for _ in bookmark.steps(len(rows) // recipe.encoder_batch):
            batch = next(order)
            orientation = int(order.random.integers(8)) if recipe.is_turned else 0
            bookmark.note(steps.take(batch, orientation, rate))
        train = dict(zip(ENCODER_LOSSES, bookmark.means(), strict=True))
        per_second = bookmark.n_fresh * recipe.encoder_batch / bookmark.seconds
        scores = score_watched(model, feed, watched, recipe, config)
        validation = means_of(scores, config.feature_weight) if len(validation_rows) else {}
        yield Epoch(epoch, train, validation, per_second, bookmark.seconds, scores=scores)


ENCODER_LOSSES = ("encoder_loss", "image_score", "feature_score")


def watched_rows(rows: np.ndarray, validation_rows: np.ndarray) -> np.ndarray:
    """Whose scores are followed: the validation images, or where there are none, training images at even steps."""
    if len(validation_rows):
        return validation_rows
    few, many = WATCHED
    return rows[:: math.ceil(len(rows) / min(max(few, len(rows) // 10), many))]


def score_watched(model: WGAN, feed: Feed, rows: np.ndarray, recipe: Recipe, config: Config) -> dict[str, np.ndarray]:
    """float64 (n,) image and feature score of these rows' images, by name."""
    batches = (rows[i : i + recipe.encoder_batch] for i in range(0, len(rows), recipe.encoder_batch))
    with torch.inference_mode(), lowered(config, feed.device):
        parts = [torch.stack(scores_of(model, feed[batch])) for batch in batches]
    return dict(zip(ENCODER_LOSSES[1:], torch.cat(parts, 1).cpu().double().numpy(), strict=True))


def means_of(scores: dict[str, np.ndarray], feature_weight: float) -> dict[str, float]:
    """Mean anomaly, image and feature score."""
    image, feature = scores.values()
    anomaly = anomaly_score(image, feature, feature_weight)
    return dict(zip(ENCODER_LOSSES, (float(part.mean()) for part in (anomaly, image, feature)), strict=True))


# ------------------------------------------------------------------------------------------------------ the data
def split_rows(
    groups: np.ndarray, validation: float, train_on: int | None, seed: int, left_out: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw training and validation rows; rows of one group stay together.

    Parameters
    ----------
    groups
        (n,), equal for images of the same thing.
    validation
        Share held out, 0 to 1.
    train_on
        At most about this many training rows, from a random subset of the groups; None takes all.
    left_out
        bool (n,): rows that are in neither.

    Returns
    -------
    train, validation
        int64, sorted, disjoint.
    """
    if left_out is not None and left_out.any():
        kept = np.flatnonzero(~left_out)
        train, held_out = split_rows(groups[kept], validation, train_on, seed)
        return kept[train], kept[held_out]
    _, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    before = np.cumsum(sizes[order]) - sizes[order]  # rows in the groups drawn earlier
    n_used = len(groups) if train_on is None else min(len(groups), math.ceil(train_on / (1 - validation)))
    n_validation = round(validation * n_used)
    code = np.empty(len(sizes), np.int8)
    code[order] = np.where(before < n_validation, 2, np.where(before < n_used, 1, 0))
    code_of_row = code[group_of]
    return np.flatnonzero(code_of_row == 1), np.flatnonzero(code_of_row == 2)


def groups_of(hashes: np.ndarray, duplicate_groups: np.ndarray | None) -> np.ndarray:
    """The group of every row: its duplicate group where that is known (≥ 0), else the images with its very pixels."""
    _, same_pixels = np.unique(hashes, return_inverse=True)
    if duplicate_groups is None:
        return same_pixels
    return np.where(duplicate_groups >= 0, duplicate_groups, duplicate_groups.max() + 1 + same_pixels)


def gather(images: Any, directory: Path) -> np.ndarray:
    """All crops as one uint8 array (N, H, W, C): in memory where they fit, else in a scratch file under `directory`.

    A training step reads random rows; a chunked store would decode a whole chunk for each.
    """
    n_bytes = math.prod(images.shape)
    if n_bytes <= MEMORY_SHARE * free_memory():
        return np.asarray(images[:])
    scratch = scratch_array(directory, np.uint8, tuple(images.shape))
    for i in range(0, len(images), 4096):
        scratch[i : i + 4096] = images[i : i + 4096]
    return scratch


def free_memory() -> int:
    """Bytes of memory that a process could still take; 4 GiB where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * 1024**3


# ------------------------------------------------------------------------------------------------------ the kind
def run(config: Config, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Train on the survey's crops; write ``checkpoint.safetensors``, ``split.parquet``, ``history.jsonl``, ``grids/``.

    Goes on where ``resume.safetensors`` was saved, if it is there. With a training run as a parent, generator and
    critic are taken from it, and only the encoder is trained.

    Raises
    ------
    ArtifactError
        No images, too few, a size the network cannot take, no such device, a saved state or a parent that does not
        belong to this training, or a loss that is not finite.
    """
    if workspace.images is None or len(workspace.images) == 0:
        raise ArtifactError("the survey has no images to train on")
    n, height, width, bands = workspace.images.shape
    if height != width:
        raise ArtifactError(f"the survey's crops are {height} × {width} pixels; training needs square ones")
    device = pick_device(config.device)
    n_processes = number_of(config.processes, device)

    yield Progress(0, 1, f"reading {n:,} images")
    file: IO[bytes] | None = None
    if n_processes == 1:
        images = gather(workspace.images, workspace.directory)
    else:
        images, file = share_images(workspace.images, workspace.directory)
    hashes = np.concatenate([pixel_hashes(images[i : i + 4096]) for i in range(0, n, 4096)])
    groups = groups_of(hashes, workspace.duplicate_groups)
    rows, validation_rows = split_rows(groups, config.validation, config.train_on, config.seed, workspace.left_out)
    if len(rows) < 2:
        n_groups = len(np.unique(groups))
        raise ArtifactError(
            f"{n} images, {n_groups} of them different, leave {len(rows)} to train on; at least 2 are needed"
        )
    recipe = PRESETS[config.preset].resolve(config, len(rows))
    try:
        architecture = Architecture(height, bands, recipe.width, config.latent_size, config.encoder_activation)
    except ValueError as error:
        raise ArtifactError(str(error)) from None
    parent = workspace.parents.get("train")
    split = split_table(workspace, hashes, rows, validation_rows)
    write_table(workspace.directory / SPLIT, split)

    about = {
        **asdict(cast(Any, config)),
        "preprocessing": dict(workspace.preprocessing),
        "images": hashlib.sha256(hashes[rows].tobytes() + hashes[validation_rows].tobytes()).hexdigest()[:12],
        "generator and critic": parent and sha256_file(parent / CHECKPOINT)[:12],
    }
    n_processes = min(n_processes, recipe.batch, recipe.encoder_batch)
    batches = {
        "gan": Batch(recipe.batch, least=max(n_processes, min(2, recipe.batch))),
        "encoder": Batch(recipe.encoder_batch, least=n_processes),
    }
    course = Course(config, workspace, device, recipe, architecture, images, rows, validation_rows, split, about)
    while True:
        try:
            return (yield from course.go(batches, n_processes, file))
        except torch.OutOfMemoryError:
            pass  # its traceback holds tensors, until here
        batches[course.stage].halve()
        yield Progress(0, 1, f"{batches[course.stage].words}; going on from what was saved last")


@dataclass
class Course:
    """A training that can be begun again, where memory did not suffice, from the beginning or what was saved last."""

    config: Config
    workspace: Workspace
    device: torch.device
    recipe: Recipe
    architecture: Architecture
    images: np.ndarray
    rows: np.ndarray
    validation_rows: np.ndarray
    split: pa.Table
    about: dict[str, Any]
    stage: str = "gan"

    def go(
        self, batches: dict[str, Batch], n_processes: int, file: IO[bytes] | None
    ) -> Generator[Progress, None, dict[str, Any]]:
        """Train to the end, in `n_processes`; where they are several, they find the images in `file`."""
        config, workspace, images, device = self.config, self.workspace, self.images, self.device
        rows, validation_rows = self.rows, self.validation_rows
        set_tf32(config.precision)
        threads = max(1, workspace.threads // n_processes) if device.type == "cpu" else workspace.threads
        torch.set_num_threads(threads)
        model = build(self.architecture, config.seed)
        stages = [
            ("gan", self.recipe.epochs, train_gan, "training generator and critic"),
            ("encoder", self.recipe.encoder_epochs, train_encoder, "training the encoder"),
        ]
        parent = workspace.parents.get("train")
        if parent is not None:
            take_over(model, parent, config, self.recipe, workspace, self.split)
            del stages[0]
        model = laid_out(model, device)
        bookmark = Bookmark(workspace.directory, model, workspace.preprocessing, self.about, device, batches)
        recipe = replace(self.recipe, batch=batches["gan"].used, encoder_batch=batches["encoder"].used)
        yardstick, mean = measure(images, rows, validation_rows, config.feature_weight)
        some = rows[np.linspace(0, len(rows) - 1, min(ALIKE, len(rows))).round().astype(int)]
        # they may happen to be all the same: then, a gray level in one pixel
        real_distance = max(pixel_distance(to_tensor(images[some], torch.device("cpu"))), 1 / 255)
        shown = np.concatenate([validation_rows, rows])[:COLUMNS]
        bands_named = workspace.preprocessing.get("bands")
        grids = Grids(workspace.directory, images[shown], workspace.subject_ids[shown], mean, bands_named)

        total, before = sum(n_epochs for _, n_epochs, _, _ in stages), 0
        n_parameters = sum(weight.numel() for weight in model.parameters())
        log(
            f"{n_parameters:,} parameters, {len(rows):,} images to train on and {len(validation_rows):,} held out; "
            f"{device.type}, {n_processes} process(es), {threads} thread(s), torch {torch.__version__}; "
            f"{len(bookmark.history.records)} of {total} epochs are done"
        )
        board = Board(workspace.directory, len(bookmark.history.records) + 1, self.about)
        if file is not None:
            rates = {"gan": recipe.learning_rate, "encoder": recipe.encoder_learning_rate}
            bookmark.team = Leader(n_processes, device, file, images.shape, self.architecture, config, rates, threads)
        try:
            for self.stage, n_epochs, loop, message in stages:
                if words := batches[self.stage].words:
                    message = f"{message}; {words}"
                if not bookmark.is_past(self.stage):
                    for epoch in loop(model, images, rows, validation_rows, recipe, config, bookmark):
                        done = before + epoch.number
                        made = generate(model, config.seed)
                        spread = pixel_distance(made) / real_distance
                        record = keep(bookmark, self.stage, n_epochs, epoch, spread, yardstick)
                        grid = None
                        if is_due(done, total, is_last=epoch.number == n_epochs):
                            if self.stage == "gan":
                                grid = grids.write_generated(done, to_pixels(made[: 2 * COLUMNS]))
                            else:
                                grid = grids.write_reconstructed(done, reconstruct(model, images[shown]))
                        board.add(done, record, epoch.scores, grid)
                        rate = {"images_per_second": epoch.images_per_second}
                        yield Progress(done, total, message, metrics_of(record) | rate)
                    if self.stage == "encoder":
                        model.find_axes(encode(model, images, rows, recipe.encoder_batch))
                    bookmark.save()
                before += n_epochs
        finally:
            bookmark.team.close()
            board.close()
        records = bookmark.history.records
        last = {name: value for record in records for name, value in metrics_of(record).items()}
        verdict = verdict_of(records)
        kept = next((record["kept"] for record in reversed(records) if record.get("has_diverged")), None)
        if verdict == SOUND:
            bookmark.sound.forget()
        elif kept:
            verdict += f"; {sentence_of(kept, BEFORE)}"
        return last | {
            "verdict": verdict,
            "n_train": len(rows),
            "n_validation": len(validation_rows),
            "epochs": recipe.epochs,
            "encoder_epochs": recipe.encoder_epochs,
            "batch": recipe.batch,
            "encoder_batch": recipe.encoder_batch,
            "batch_asked": batches["gan"].asked,
            "encoder_batch_asked": batches["encoder"].asked,
            "learning_rate": recipe.learning_rate,
            "encoder_learning_rate": recipe.encoder_learning_rate,
            "width": recipe.width,
            "precision": config.precision,
            "tf32": device.type == "cuda" and config.precision != "ieee",
            "n_parameters": n_parameters,
            "device": device.type,
            "processes": n_processes,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "seconds": round(sum(record["seconds"] for record in records), 1),
        }


def split_table(workspace: Workspace, hashes: np.ndarray, rows: np.ndarray, validation_rows: np.ndarray) -> pa.Table:
    """Which subjects the network sees; what is not in the table is unseen."""
    seen = np.concatenate([rows, validation_rows])
    columns = {
        "subject_id": workspace.subject_ids[seen],
        "split": ["train"] * len(rows) + ["validation"] * len(validation_rows),
        "pixels_hash": hashes[seen],
    }
    return pa.table(columns, schema=SPLIT_SCHEMA)


# ------------------------------------------------------------------------------------------------- what is watched
def measure(
    images: np.ndarray, rows: np.ndarray, validation_rows: np.ndarray, feature_weight: float
) -> tuple[Yardstick, np.ndarray]:
    """What the training is held against: the yardstick, and the mean training image (H, W, C).

    Sums of bytes are exact in whatever order: the images are read block by block.

    Raises
    ------
    ArtifactError
        The training images are all the same.
    """
    judged = validation_rows if len(validation_rows) else rows
    (n, sums, squares), (m, judged_sums, judged_squares) = (sums_of(images, chosen) for chosen in (rows, judged))
    mean, variance = sums / n, (n * squares - sums**2) / n**2
    if not variance.any():
        raise ArtifactError(
            f"the {n:,} images to train on are all the same, so there is nothing to learn; train on more of the survey"
        )
    # the mean over images of (x - mean)², written out
    score = float((judged_squares - 2 * mean * judged_sums + m * mean**2).sum()) / m / 255**2
    return Yardstick(math.sqrt(mean.size), score, feature_weight), (mean / 255).astype(np.float32)


def sums_of(images: np.ndarray, rows: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """Of at most `SAMPLE` of ``images[rows]`` at even steps: how many, their sum, that of their squares, (H, W, C)."""
    rows = rows[:: math.ceil(len(rows) / SAMPLE)]
    sums, squares = np.zeros((2, *images.shape[1:]), np.int64)
    for i in range(0, len(rows), BLOCK):
        block = images[rows[i : i + BLOCK]].astype(np.uint16)
        sums += block.sum(0, dtype=np.int64)
        squares += np.square(block).sum(0, dtype=np.int64)
    return len(rows), sums, squares


def pixel_distance(images: Tensor) -> float:
    """Mean Euclidean distance over all pixels and bands between two of the images (n, …), n ≥ 2, in [0, 1]."""
    points = images.flatten(1).double()
    points = points - points.mean(0)  # images that are nearly the same must not cancel below
    products = points @ points.T
    squares = products.diagonal()[:, None] + products.diagonal() - 2 * products
    n = len(points)
    return float(squares.clamp(min=0).sqrt().fill_diagonal_(0).sum()) / (n * (n - 1))


def generate(model: WGAN, seed: int, n: int = ALIKE) -> Tensor:
    """(n, C, H, W) float32: images without noise, from the same z each time."""
    z = torch.randn(n, model.architecture.latent_size, generator=torch.Generator().manual_seed(seed))
    was_training = model.generator.training
    with torch.inference_mode():
        made: Tensor = model.generator.eval()(z.to(model.critic.judge.weight.device)).cpu()
    model.generator.train(was_training)
    return made


def reconstruct(model: WGAN, images: np.ndarray) -> np.ndarray:
    """uint8 (n, H, W, C) for the same."""
    with torch.inference_mode():
        return to_pixels(model.reconstruct(to_tensor(images, model.critic.judge.weight.device)).cpu())


def encode(model: WGAN, images: np.ndarray, rows: np.ndarray, batch: int) -> Tensor:
    """Latent vectors (n, latent_size) of ``images[rows]``, or of `MANY` of them at even steps."""
    rows = rows[:: math.ceil(len(rows) / MANY)]
    device = model.critic.judge.weight.device
    with torch.inference_mode():
        parts = [model.encoder(to_tensor(images[rows[i : i + batch]], device)) for i in range(0, len(rows), batch)]
    return torch.cat(parts)


def to_pixels(images: Tensor) -> np.ndarray:
    """Float (n, C, H, W) in [0, 1] → uint8 (n, H, W, C)."""
    return (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def keep(bookmark: Bookmark, stage: str, of: int, epoch: Epoch, spread: float, yardstick: Yardstick) -> dict[str, Any]:
    """Add an epoch to the history, with a word on it; return its line.

    Raises
    ------
    ArtifactError
        A loss is not finite: nothing good comes after it.
    """
    record: dict[str, Any] = {
        "stage": stage,
        "epoch": epoch.number,
        "of": of,
        "train": {name: finite(value) for name, value in epoch.train.items()},
        "validation": {name: finite(value) for name, value in epoch.validation.items()},
        "spread": finite(spread),
        "gradient_norm": epoch.gradient_norm and {name: finite(norm) for name, norm in epoch.gradient_norm.items()},
        "scores": distributions(epoch.scores),
        "images_per_second": round(epoch.images_per_second, 1),
        "seconds": round(epoch.seconds, 3),
    }
    records = [*bookmark.history.records, record]
    record["word"] = word_of(records, yardstick)
    if record["word"].partition(":")[0] != (records[-2]["word"].partition(":")[0] if records[1:] else ""):
        log(f"{whose(stage)}, epoch {epoch.number} of {of}: {record['word'] or 'nothing is wrong any more'}")
    record["has_diverged"] = has_diverged(records, yardstick)
    if record["has_diverged"]:
        record["kept"] = bookmark.sound.keep(bookmark.model)
    elif is_sound(records, yardstick):
        bookmark.sound.note(bookmark.model, stage, epoch.number)
    bookmark.history.add(record)
    if not_a_number(records, yardstick):
        bookmark.sound.become_the_checkpoint()
        what = "the GAN" if stage == "gan" else "the encoder"
        kept = sentence_of(record["kept"], CHECKPOINT)
        raise ArtifactError(
            f"training {what} stopped in epoch {epoch.number}: {record['word']}, "
            f"or look for broken images with voorwerp check{'; ' + kept if kept else ''}"
        )
    return record


def whose(stage: str) -> str:
    """A stage as a person calls it."""
    return "the encoder" if stage == "encoder" else "generator and critic"


def log(line: str) -> None:
    """Write a line into the run's log, where what is printed goes."""
    print(f"{now()} {line}", flush=True)


def distributions(scores: dict[str, np.ndarray]) -> dict[str, Any] | None:
    """Percentiles of the watched images' scores, for the history; None where there are none."""
    if not scores:
        return None
    found = {name: [finite(float(q)) for q in np.percentile(values, PERCENT)] for name, values in scores.items()}
    return {"n": len(next(iter(scores.values()))), "percent": list(PERCENT), **found}


def finite(value: float) -> float | None:
    """None for what is no number: JSON has no NaN."""
    return value if math.isfinite(value) else None


def metrics_of(record: dict[str, Any]) -> dict[str, float]:
    """A line's losses under one name each: those in training as they are, and as ``validation_…``."""
    validation = {f"validation_{name.removeprefix('encoder_')}": value for name, value in record["validation"].items()}
    return {**record["train"], **validation}


# ------------------------------------------------------------------------------------------------------- a parent
#: What two trainings with the same generator and critic may differ in. All else must agree, new settings too.
OF_THE_ENCODER = {
    "preset",  # what it comes to is compared
    "generator_steps",
    "encoder_steps",
    "encoder_epochs",
    "encoder_batch",
    "encoder_learning_rate",
    "encoder_activation",
    "feature_weight",
    "is_annealed",
    "is_turned",
    "device",
    "processes",  # the same but for rounding
}


def take_over(model: WGAN, folder: Path, config: Config, recipe: Recipe, workspace: Workspace, split: pa.Table) -> None:
    """Give `model` the generator and the critic of the training run in `folder`.

    Raises
    ------
    ArtifactError
        They are not those that `config` would give on these images.
    """
    theirs, run = load_checkpoint(folder, workspace.preprocessing), Run.read(folder / RUN_JSON)
    known = {field.name for field in fields(cast(Any, config))}
    told = type(config)(**{name: value for name, value in run.config.items() if name in known})
    rows = split.column("split").to_pylist().count("train")
    ours_by_name = asdict(cast(Any, config)) | asdict(recipe)
    theirs_by_name = asdict(cast(Any, told)) | asdict(PRESETS[told.preset].resolve(told, rows))
    for name in ours_by_name:
        if name not in OF_THE_ENCODER and ours_by_name[name] != theirs_by_name[name]:
            raise ArtifactError(
                f"{run.run_id} was trained with {name} {theirs_by_name[name]}, this run has {ours_by_name[name]}; "
                f"give it the same {name}, or train without --parent"
            )
    if not read_columns(folder / SPLIT, SPLIT_SCHEMA).select(SPLIT_SCHEMA.names).equals(split):
        raise ArtifactError(f"{run.run_id} was trained on other images of this survey; train without --parent")
    model.generator.load_state_dict(theirs.generator.state_dict())
    model.critic.load_state_dict(theirs.critic.state_dict())
