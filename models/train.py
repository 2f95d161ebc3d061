"""Training: first the Wasserstein GAN with gradient penalty, then the encoder into its latent space.

Two loops, each a generator of `Progress`, one record an epoch:

`train_gan`      critic and generator; the gradient norm near 1 and a critic loss that slowly rises to 0 are good signs
`train_encoder`  encoder, with generator and critic frozen; the loss is the anomaly score it will later be used for
"""

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from models.artifacts import CHECKPOINT, ArtifactError, Workspace, scratch_array, write_table
from models.progress import Progress
from models.scoring import SPLIT, SPLIT_SCHEMA, pick_device, pixel_hashes, save, to_tensor
from models.wgan import WGAN, Architecture, EncoderActivation, build, critic_loss, encoder_loss, generator_loss

MEMORY_SHARE = 0.4  # of the free memory that the training images may take; above, they are read from a scratch file
SAVE_EVERY = 120.0  # seconds between checkpoints while training


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
    def device(self) -> str: ...


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
def train_gan(
    model: WGAN, images: np.ndarray, rows: np.ndarray, recipe: Recipe, config: Config, device: torch.device
) -> Iterator[Progress]:
    """Train critic and generator on ``images[rows]``; one record an epoch.

    An epoch has one generator step for each batch of the training images; before each, the critic takes `n_critic`
    steps on fresh batches, and so sees every image `n_critic` times an epoch.

    Metrics: ``critic_loss``, ``generator_loss``, ``gradient_norm`` (means of the epoch), ``images_per_second``.
    """
    model.train().requires_grad_(True)
    generator, critic = model.generator, model.critic
    betas = (config.beta_1, config.beta_2)
    critic_optimizer = torch.optim.Adam(critic.parameters(), recipe.learning_rate, betas)
    generator_optimizer = torch.optim.Adam(generator.parameters(), recipe.learning_rate, betas)
    real_rows = endless_batches(rows, recipe.batch, np.random.default_rng(config.seed))
    steps = len(rows) // recipe.batch
    for epoch in range(1, recipe.epochs + 1):
        started, losses = time.perf_counter(), []
        for _ in range(steps):
            critic.requires_grad_(True)
            for _ in range(config.n_critic):
                real = to_tensor(images[next(real_rows)], device)
                with torch.no_grad():
                    fake = generator(latent(recipe.batch, config.latent_size, device))
                epsilon = torch.rand(recipe.batch, device=device)
                loss_c, norm = critic_loss(critic, real, fake, epsilon, config.gradient_penalty)
                take_step(critic_optimizer, loss_c)
            critic.requires_grad_(False)
            loss_g = generator_loss(critic, generator(latent(recipe.batch, config.latent_size, device)))
            take_step(generator_optimizer, loss_g)
            losses.append(torch.stack([loss_c.detach(), loss_g.detach(), norm]))
        means = torch.stack(losses).mean(0).tolist()
        stop_unless_finite(sum(means), "the GAN", epoch)
        metrics = dict(zip(("critic_loss", "generator_loss", "gradient_norm"), means, strict=True))
        metrics["images_per_second"] = steps * config.n_critic * recipe.batch / (time.perf_counter() - started)
        yield Progress(epoch, recipe.epochs, "training generator and critic", metrics)


def train_encoder(
    model: WGAN,
    images: np.ndarray,
    rows: np.ndarray,
    validation_rows: np.ndarray,
    recipe: Recipe,
    config: Config,
    device: torch.device,
) -> Iterator[Progress]:
    """Train the encoder on ``images[rows]``, generator and critic frozen and without noise; one record an epoch.

    Metrics: ``encoder_loss``, ``validation_loss`` (means of the anomaly score), ``images_per_second``.
    """
    model.eval().requires_grad_(False)
    encoder = model.encoder.train().requires_grad_(True)
    betas = (config.beta_1, config.beta_2)
    optimizer = torch.optim.Adam(encoder.parameters(), recipe.encoder_learning_rate, betas)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.encoder_epochs)
    order = np.random.default_rng(config.seed + 1)
    for epoch in range(1, recipe.encoder_epochs + 1):
        started, losses = time.perf_counter(), []
        for batch in batches(order.permutation(rows), recipe.encoder_batch):
            x = to_tensor(images[batch], device)
            if recipe.is_turned:
                x = turn(x, int(order.integers(8)))
            loss = encoder_loss(model, x, config.feature_weight)
            take_step(optimizer, loss)
            losses.append(loss.detach())
        if recipe.is_annealed:
            schedule.step()
        mean = torch.stack(losses).mean().item()
        stop_unless_finite(mean, "the encoder", epoch)
        metrics = {
            "encoder_loss": mean,
            "images_per_second": len(losses) * recipe.encoder_batch / (time.perf_counter() - started),
        }
        if len(validation_rows):
            metrics["validation_loss"] = validation_loss(model, images, validation_rows, recipe, config, device)
        yield Progress(epoch, recipe.encoder_epochs, "training the encoder", metrics)


def validation_loss(
    model: WGAN, images: np.ndarray, rows: np.ndarray, recipe: Recipe, config: Config, device: torch.device
) -> float:
    """Mean anomaly score of ``images[rows]``."""
    total = 0.0
    with torch.inference_mode():
        for i in range(0, len(rows), recipe.encoder_batch):
            batch = rows[i : i + recipe.encoder_batch]
            loss = encoder_loss(model, to_tensor(images[batch], device), config.feature_weight)
            total += loss.item() * len(batch)
    return total / len(rows)


def latent(n: int, size: int, device: torch.device) -> Tensor:
    """z ~ N(0, 1), (n, size)."""
    return torch.randn(n, size, device=device)


def turn(x: Tensor, orientation: int) -> Tensor:
    """(B, C, H, W) in one of eight orientations: quarter turns by `orientation` mod 4, mirrored from 4 on."""
    x = torch.rot90(x, orientation % 4, (2, 3))
    return x.flip(3) if orientation >= 4 else x


def batches(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Whole batches of `rows`, each sorted (reading order); the remainder is left for the next shuffle."""
    for i in range(0, len(rows) - size + 1, size):
        yield np.sort(rows[i : i + size])


def endless_batches(rows: np.ndarray, size: int, order: np.random.Generator) -> Iterator[np.ndarray]:
    """Whole batches of `rows` for ever, shuffled anew in every pass."""
    while True:
        yield from batches(order.permutation(rows), size)


def take_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of gradient descent."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def stop_unless_finite(loss: float, what: str, epoch: int) -> None:
    """Raise `ArtifactError` for a loss that is no number: nothing good comes after it."""
    if not math.isfinite(loss):
        raise ArtifactError(
            f"training {what} stopped in epoch {epoch}: the loss is {loss}; "
            "lower the learning rate, or look for broken images with voorwerp check"
        )


# ------------------------------------------------------------------------------------------------------ the data
def split_rows(groups: np.ndarray, validation: float, train_on: int | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw training and validation rows; rows of one group stay together.

    Parameters
    ----------
    groups
        (n,), equal for images of the same thing.
    validation
        Share held out, 0 to 1.
    train_on
        At most about this many training rows, from a random subset of the groups; None takes all.

    Returns
    -------
    train, validation
        int64, sorted, disjoint.
    """
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
    """Train on the survey's crops; write ``checkpoint.safetensors`` and ``split.parquet``.

    Raises
    ------
    ArtifactError
        No images, too few, a size the network cannot take, no such device, or a loss that is not finite.
    """
    if workspace.images is None or len(workspace.images) == 0:
        raise ArtifactError("the survey has no images to train on")
    n, height, width, bands = workspace.images.shape
    if height != width:
        raise ArtifactError(f"the survey's crops are {height} × {width} pixels; training needs square ones")
    device = pick_device(config.device)
    torch.set_num_threads(workspace.threads)
    torch.manual_seed(config.seed)

    yield Progress(0, 1, f"reading {n:,} images")
    images = gather(workspace.images, workspace.directory)
    hashes = np.concatenate([pixel_hashes(images[i : i + 4096]) for i in range(0, n, 4096)])
    groups = groups_of(hashes, workspace.duplicate_groups)
    rows, validation_rows = split_rows(groups, config.validation, config.train_on, config.seed)
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
    write_split(workspace, hashes, rows, validation_rows)

    model = build(architecture, config.seed).to(device)
    checkpoint = workspace.directory / CHECKPOINT
    total, started, saved = recipe.epochs + recipe.encoder_epochs, time.perf_counter(), time.perf_counter()
    last: dict[str, float] = {}
    for offset, loop in (
        (0, train_gan(model, images, rows, recipe, config, device)),
        (recipe.epochs, train_encoder(model, images, rows, validation_rows, recipe, config, device)),
    ):
        for progress in loop:
            last |= progress.metrics
            if time.perf_counter() - saved > SAVE_EVERY:
                save(checkpoint, model, workspace.preprocessing)
                saved = time.perf_counter()
            yield Progress(offset + progress.done, total, progress.message, progress.metrics)
    save(checkpoint, model, workspace.preprocessing)
    last.pop("images_per_second")
    return last | {
        "n_train": len(rows),
        "n_validation": len(validation_rows),
        "epochs": recipe.epochs,
        "encoder_epochs": recipe.encoder_epochs,
        "batch": recipe.batch,
        "encoder_batch": recipe.encoder_batch,
        "learning_rate": recipe.learning_rate,
        "encoder_learning_rate": recipe.encoder_learning_rate,
        "width": recipe.width,
        "n_parameters": sum(weight.numel() for weight in model.parameters()),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seconds": round(time.perf_counter() - started, 1),
    }


def write_split(workspace: Workspace, hashes: np.ndarray, rows: np.ndarray, validation_rows: np.ndarray) -> None:
    """Write which subjects the network has seen; what is not in the table is unseen."""
    seen = np.concatenate([rows, validation_rows])
    columns = {
        "subject_id": workspace.subject_ids[seen],
        "split": ["train"] * len(rows) + ["validation"] * len(validation_rows),
        "pixels_hash": hashes[seen],
    }
    write_table(workspace.directory / SPLIT, pa.table(columns, schema=SPLIT_SCHEMA))
