"""A small convolutional autoencoder: its reconstruction error is an anomaly score, its code a latent vector.

The network is that of CzSL (Jiménez et al. 2023, MNRAS; arXiv:2302.00366): three 3 × 3 convolutions with max pooling
down to the code, the same way back up. It is trained to make the squared error small.

Images are float32 in [0, 1], (B, C, H, W). Shapes in the comments: 64 pixels, 3 bands, width 16, 8 code channels.
"""

import json
import shutil
import time
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from models.artifacts import (
    CHECKPOINT,
    PARTS,
    ArtifactError,
    Workspace,
    medians_by_split,
    scratch_array,
    write_bytes,
    write_json,
    write_scores,
)
from models.progress import Progress
from models.reading import SHARD, is_constant, n_shards, part_path, read_part, score_shards, write_part
from models.scoring import PLAN, device_of, one_thread_each, pick_device, to_tensor
from models.steps import take_step
from models.train import groups_of, split_rows
from models.wgan import image_score

POOLINGS = 3  # halvings between the image and the code: 64 → 8
PIECE = 128  # images that are scored at once


class Config(Protocol):
    """See `explorer.kinds.autoencoder.AutoencoderConfig`."""

    @property
    def epochs(self) -> int: ...
    @property
    def batch(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def code_channels(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    @property
    def validation(self) -> float: ...
    @property
    def train_on(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...


class Autoencoder(nn.Module):
    """Image (B, 3, 64, 64) → code (B, 8, 8, 8) → image."""

    def __init__(self, bands: int, width: int, code_channels: int) -> None:
        super().__init__()
        down, up = nn.MaxPool2d(2), nn.Upsample(scale_factor=2)

        def convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
            return nn.Conv2d(channels_in, channels_out, 3, padding=1)

        self.encoder = nn.Sequential(
            *(convolution(bands, width), nn.ReLU(), down),  # (B, 16, 32, 32)
            *(convolution(width, code_channels), nn.ReLU(), down),  # (B, 8, 16, 16)
            *(convolution(code_channels, code_channels), nn.ReLU(), down),  # (B, 8, 8, 8)
        )
        self.decoder = nn.Sequential(
            *(convolution(code_channels, code_channels), nn.ReLU(), up),  # (B, 8, 16, 16)
            *(convolution(code_channels, code_channels), nn.ReLU(), up),  # (B, 8, 32, 32)
            *(convolution(code_channels, width), nn.ReLU(), up),  # (B, 16, 64, 64)
            *(convolution(width, bands), nn.Sigmoid()),  # (B, 3, 64, 64)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))  # type: ignore[no-any-return]


def build(bands: int, config: Config) -> Autoencoder:
    """The network with the weights that the seed gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return Autoencoder(bands, config.width, config.code_channels)


# ------------------------------------------------------------------------------------------------------- training
def train(
    model: Autoencoder, images: np.ndarray, held_out: np.ndarray, config: Config
) -> Iterator[tuple[float, float]]:
    """Train on uint8 (n, H, W, C); after each epoch, its mean loss and that on `held_out` (NaN without any).

    The loss of an image is Σ (x - x')² over pixels and bands: its score.
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    random = np.random.default_rng(config.seed)
    for _ in range(config.epochs):
        order, total = random.permutation(len(images)), 0.0
        for i in range(0, len(order), config.batch):
            x = to_tensor(images[order[i : i + config.batch]], device)
            loss = image_score(x, model(x)).mean()
            take_step(optimizer, loss)
            total += loss.item() * len(x)
        errors = [score_batch(model, held_out[i : i + 512])["error"] for i in range(0, len(held_out), 512)]
        yield total / len(images), float(np.concatenate(errors).mean()) if errors else float("nan")


def score_batch(model: Autoencoder, images: np.ndarray) -> dict[str, np.ndarray]:
    """Of uint8 (n, H, W, C): code float32 (n, 512), error Σ (x - x')² float32 (n,), and whether it is constant."""
    with torch.inference_mode():
        x = to_tensor(images, next(model.parameters()).device)
        code = model.encoder(x)
        error = image_score(x, model.decoder(code)).cpu().numpy()
        return {"code": code.flatten(1).cpu().numpy(), "error": error, "constant": is_constant(images)}


# ----------------------------------------------------------------------------------------------------- the kind
def run(config: Config, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Train on a random part of the survey's crops, then score all of them.

    A run that was stopped trains anew, unless it had come to scoring: then finished shards are kept.

    Raises
    ------
    ArtifactError
        No images, a size that cannot be halved three times, or a loss that is not finite.
    """
    images = workspace.images
    if images is None or len(images) < 2:
        raise ArtifactError("the survey has no images to train on; an autoencoder needs at least two")
    n, size, _, bands = images.shape
    if size % 2**POOLINGS:
        raise ArtifactError(f"the autoencoder halves the image {POOLINGS} times: size {size} is not a multiple of 8")
    torch.set_num_threads(workspace.threads)
    device = pick_device(config.device)
    model = build(bands, config).to(device)
    groups = groups_of(np.arange(n), workspace.duplicate_groups)
    rows, held_out = split_rows(groups, config.validation, config.train_on, config.seed, workspace.left_out)
    if not rows.size:
        raise ArtifactError(f"no image is left to train on; take --validation below {config.validation:g}")

    parts, checkpoint = workspace.directory / PARTS, workspace.directory / CHECKPOINT
    losses = resume(model, checkpoint, n)
    if losses is None:
        shutil.rmtree(parts, ignore_errors=True)
        yield Progress(0, config.epochs, f"reading {len(rows) + len(held_out):,} images")
        seen, validation = (np.concatenate(list(taken(images, chosen))) for chosen in (rows, held_out))
        started, losses = time.perf_counter(), {}
        for epoch, (loss, validation_loss) in enumerate(train(model, seen, validation, config), 1):
            if not np.isfinite(loss):
                raise ArtifactError(f"the loss is {loss} after epoch {epoch}; take a smaller --learning-rate")
            losses = {"train_loss": loss, "validation_loss": validation_loss}
            rate = epoch * len(seen) / (time.perf_counter() - started)
            yield Progress(epoch, config.epochs, "training", losses | {"images_per_second": rate})
        losses = {name: loss for name, loss in losses.items() if np.isfinite(loss)}
        about = json.dumps({"losses": losses, "n": n, "preprocessing": dict(workspace.preprocessing)}, sort_keys=True)
        weights = {name: weight.cpu().contiguous() for name, weight in model.state_dict().items()}
        write_bytes(checkpoint, to_safetensors(weights, metadata={"voorwerp": about}))

    plan = {"n": n, "shard": SHARD, "device": device.type}
    if not (parts / PLAN).exists() or json.loads((parts / PLAN).read_bytes()) != plan:
        shutil.rmtree(parts, ignore_errors=True)
        write_json(parts / PLAN, plan)
    rate = yield from score_shards(
        images,
        parts,
        SHARD,
        lambda: partial(score_block, model, workspace.threads),
        workspace.pool,
        "models.autoencoder:score_shard",
    )
    yield Progress(n, n, "writing scores", {"images_per_second": rate})
    split = np.full(n, "unseen", "U10")
    split[rows], split[held_out] = "train", "validation"
    results = join(workspace, [part_path(parts, number) for number in range(n_shards(n, SHARD))], split)
    about_run = {"n_train": len(rows), "n_validation": len(held_out), "device": device.type}
    return {"score_title": "Autoencoder reconstruction error", **losses, **results, **about_run}


def score_shard(config: Config, workspace: Workspace, number: int) -> dict[str, Any]:
    """Write part `number` of a run that has come to scoring, whole or not at all: see `Pool.map`, which calls it.

    Returns
    -------
    dict
        ``n``, images of this part; ``seconds`` that they took.

    Raises
    ------
    ArtifactError
        It has not come to scoring, or this process has not the device that it scores on.
    """
    started, parts, images = time.perf_counter(), workspace.directory / PARTS, workspace.images
    try:
        plan = json.loads((parts / PLAN).read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{workspace.directory} has no {PARTS}/{PLAN}; scoring has ended or not begun") from None
    model = build(images.shape[-1], config)
    if resume(model, workspace.directory / CHECKPOINT, plan["n"]) is None:
        raise ArtifactError(f"{workspace.directory} has no network of {plan['n']:,} images; resume the run")
    score = partial(score_block, model.to(device_of(plan, workspace)), workspace.threads)
    n = write_part(images, parts, number, plan["shard"], score)
    return {"n": n, "seconds": time.perf_counter() - started}


def score_block(model: Autoencoder, threads: int, images: np.ndarray, first: int) -> dict[str, np.ndarray]:
    """As `score_batch`, whatever row the `first` image is in; how many `threads` there are changes nothing."""
    pieces = [images[i : i + PIECE] for i in range(0, len(images), PIECE)]
    lanes = 1 if next(model.parameters()).device.type == "cuda" else threads
    found = one_thread_each(partial(score_batch, model), pieces, lanes)
    return {name: np.concatenate([columns[name] for columns in found]) for name in found[0]}


def resume(model: Autoencoder, checkpoint: Path, n: int) -> dict[str, float] | None:
    """Load what an earlier attempt has trained on the same `n` images, and return its losses; None without one."""
    if not checkpoint.exists():
        return None
    with safe_open(checkpoint, framework="pt") as file:
        about = json.loads(file.metadata()["voorwerp"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    if about["n"] != n:
        return None
    model.load_state_dict(weights)
    losses: dict[str, float] = about["losses"]
    return losses


def taken(images: Any, rows: np.ndarray) -> Iterator[np.ndarray]:
    """The images of ascending rows, block by block; at least one block, which may be empty."""
    for i in range(0, max(1, len(rows)), 512):
        yield np.asarray(images[rows[i : i + 512]]) if len(rows) else np.empty((0, *images.shape[1:]), np.uint8)


def join(workspace: Workspace, parts: list[Path], split: np.ndarray) -> dict[str, Any]:
    """Write ``latents.npy`` and ``scores.parquet`` from the parts; how many were not scored, and medians per split."""
    n, latents, at = len(workspace.subject_ids), None, 0
    error, quality = np.empty(n, np.float32), np.full(n, "ok", object)
    for path in parts:
        part = read_part(path)
        if part is None:
            raise ArtifactError(f"{path} cannot be read; resume the run, which makes it anew")
        code, errors, constant = part["code"], part["error"], part["constant"]
        code[constant], errors[constant] = np.nan, np.nan
        if latents is None:
            latents = scratch_array(workspace.directory, np.float32, (n, code.shape[1]))
        here = slice(at, at + len(code))
        latents[here], error[here], quality[here] = code, errors, np.where(constant, "constant image", "ok")
        at += len(code)
    columns = {
        "subject_id": workspace.subject_ids,
        "split": split,
        "image_score": error,
        "feature_score": np.full(n, np.nan, np.float32),
        "anomaly_score": error,
        "quality": quality,
    }
    write_scores(workspace.directory, latents, columns)
    return {"splits": medians_by_split(columns), "n_not_scored": int((quality != "ok").sum())}
