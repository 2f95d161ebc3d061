"""Latent vectors and anomaly scores: from a checkpoint and a survey's crops to ``latents.npy`` and ``scores.parquet``.

The scores are those of Mantha et al. 2024: z = E(x), x' = G(z); sums over pixels and over the critic's features of
squared differences, one number per image (`models.wgan.image_score`, `feature_score`, `anomaly_score`). Higher is more
anomalous. `models.scorer` says what the scores of preset "compact" do otherwise.
"""

import copy
import hashlib
import json
import shutil
import time
from collections import OrderedDict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, Protocol, TypeVar, cast

import numpy as np
import pyarrow as pa
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from scipy.stats import rankdata
from torch import Tensor

from models.artifacts import (
    CHECKPOINT,
    PARTS,
    ArtifactError,
    Workspace,
    medians_by_split,
    read_columns,
    scratch_array,
    write_bytes,
    write_json,
    write_scores,
)
from models.memory import Batch
from models.mixing import Mode, center_and_spread, mix
from models.progress import Progress
from models.ranks import in_top, overlap, spearman
from models.reading import (
    BLOCK,
    SHARD,
    is_constant,
    n_shards,
    part_path,
    read_part,
    sample_of,
    score_shards,
    write_part,
)
from models.scorer import PRESETS, Scorer, Settings
from models.wgan import WGAN, Architecture, anomaly_score

SPLIT = "split.parquet"  # written by the training run
SPLIT_SCHEMA = pa.schema([("subject_id", pa.int64()), ("split", pa.string()), ("pixels_hash", pa.uint64())])

AUTO_FROM = 16_384  # images from which looking for a faster precision pays
MIN_SPEARMAN, MIN_OVERLAP = 0.9999, 0.99  # what a lower precision must reach beside float32
MIN_SPEED_RATIO = 1.2  # below, bfloat16 is not worth the comparison

BATCH = {"cpu": 64, "cuda": 1024}  # images at once, where nothing else is asked for
LOOK = 64  # images whose pixels one thread looks at

PLAN = "plan.json"  # in a run's parts: what fixes the scores

Piece = TypeVar("Piece")
Answer = TypeVar("Answer")


# ----------------------------------------------------------------------------------------------------- checkpoint
def save(path: Path, model: WGAN, preprocessing: Mapping[str, Any]) -> None:
    """Write weights, architecture and preprocessing to one safetensors file, whole or not at all.

    Architecture and preprocessing are JSON under the single metadata key ``voorwerp`` (the order of several keys is not
    fixed by the format, and equal checkpoints shall be equal bytes).
    """
    about = {
        "network": {name: getattr(model.architecture, name) for name in Architecture.__dataclass_fields__},
        "preprocessing": dict(preprocessing),
    }
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    write_bytes(path, to_safetensors(weights, metadata={"voorwerp": json.dumps(about, sort_keys=True)}))


def load_checkpoint(folder: Path, preprocessing: Mapping[str, Any] | None = None) -> WGAN:
    """The network of a training run, on the CPU, in evaluation mode.

    Parameters
    ----------
    folder
        The training run's folder.
    preprocessing
        How the images to come were cut. None takes the checkpoint without asking.

    Raises
    ------
    ArtifactError
        No checkpoint, not one of ours, weights that do not fit, or trained on images cut in another way.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        raise ArtifactError(f"{folder} has no {CHECKPOINT}; train first")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["voorwerp"])
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        model = WGAN(Architecture(**about["network"]))
        no_axes = {"latent_mean": model.latent_mean, "latent_axes": model.latent_axes}  # kept since they are used
        model.load_state_dict(no_axes | weights)
        trained_on = dict(about["preprocessing"])
    except SafetensorError as error:
        raise ArtifactError(f"{path} is not a whole safetensors file ({error})") from None
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"{path} does not hold a network this Voorwerp can build ({reason})") from None
    if preprocessing is not None:
        for name in sorted(trained_on.keys() | preprocessing.keys(), key=lambda n: (n != "size", n != "bands", n)):
            theirs, ours = trained_on.get(name), preprocessing.get(name)
            if theirs != ours:
                raise ArtifactError(
                    f"{path} was trained on images with {name} {_spell(theirs)}, this survey has {_spell(ours)}; "
                    "train on this survey, or create it in the same way"
                )
    return model.eval()


def _spell(value: Any) -> str:
    return (
        "not stated"
        if value is None
        else ", ".join(map(str, value))
        if isinstance(value, (list, tuple))
        else str(value)
    )


class Reconstructor:
    """A loaded network that answers what it makes of images as stored, and where its critic sees a difference."""

    def __init__(self, scorer: Scorer, device: str = "auto") -> None:
        self.device = pick_device(device)
        self.scorer = scorer.eval().to(self.device)

    def reconstruct(self, images: np.ndarray) -> np.ndarray:
        """Reconstruct uint8 (n, H, W, C) as uint8 of the same shape."""
        with torch.inference_mode():
            x = self.scorer.reconstruct(self._taken(images))
        return (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    def feature_residual(self, images: np.ndarray) -> np.ndarray:
        """Where in each image the critic sees a difference between it and its reconstruction.

        Parameters
        ----------
        images
            uint8 (n, H, W, C).

        Returns
        -------
        float32 (n, side, side), side = H / 16, or H / 2^stage where the score takes an earlier stage: squared
        differences of the critic's feature maps, summed over channels and weighted as in the score. They sum to
        S_feature of the image. Cell (i, j) is centered on pixel (i, j) · H / side and sees what is around it (of stage
        4, 30 px), so that borders are not sharp.
        """
        with torch.inference_mode():
            return self.scorer.feature_residual(self._taken(images)).cpu().numpy()

    def _taken(self, images: np.ndarray) -> Tensor:
        architecture = self.scorer.model.architecture
        expected = (architecture.size, architecture.size, architecture.bands)
        if images.ndim != 4 or images.shape[1:] != expected or images.dtype != np.uint8:
            raise ArtifactError(f"images are {images.dtype} {images.shape}; uint8 (n, {expected}) is expected")
        return to_tensor(images, self.device)


def load_model(
    folder: Path, preprocessing: Mapping[str, Any], score_config: Mapping[str, Any] | None = None, device: str = "auto"
) -> Reconstructor:
    """The network of the training run in `folder`, ready to reconstruct crops made by `preprocessing`.

    Parameters
    ----------
    score_config
        The config of the score run whose reconstructions are asked for; None reconstructs as published.

    Raises
    ------
    ArtifactError
        As `load_checkpoint`, or the network cannot be used in that way.
    """
    return Reconstructor(scorer_of(load_checkpoint(folder, preprocessing), score_config or {"preset": "paper"}), device)


def scorer_of(model: WGAN, config: Mapping[str, Any]) -> Scorer:
    """The network as a score run's config uses it; runs from before there were presets are as published.

    Raises
    ------
    ArtifactError
        The network has no principal axes.
    """
    settings = PRESETS[config.get("preset", "paper")]
    told = {name: config[name] for name in settings._fields if config.get(name) is not None}
    if told.get("latent_axes", 0) > model.architecture.latent_size:
        size = model.architecture.latent_size
        raise ArtifactError(f"latent_axes is {told['latent_axes']}; the network's latent vectors have {size} axes")
    try:
        return Scorer(model, settings._replace(**told))
    except ValueError as error:
        raise ArtifactError(str(error)) from None


# ------------------------------------------------------------------------------------------------- one batch
def pick_device(device: str) -> torch.device:
    """The device called "auto" (CUDA where there is one), "cpu" or "cuda".

    Raises
    ------
    ArtifactError
        CUDA was asked for and there is none.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise ArtifactError("there is no CUDA device on this machine; use device auto or cpu")
    return torch.device("cuda" if available and device in ("auto", "cuda") else "cpu")


def to_tensor(images: np.ndarray, device: torch.device) -> Tensor:
    """uint8 (B, H, W, C) → float32 (B, C, H, W) in [0, 1]; the memory stays in the order it came (channels last)."""
    return as_input(torch.from_numpy(np.ascontiguousarray(images)).to(device, non_blocking=True))


def as_input(x: Tensor) -> Tensor:
    """As `to_tensor`, of uint8 (B, H, W, C) that is on its device."""
    return x.permute(0, 3, 1, 2).to(torch.float32) / 255


def score_batch(scorer: Scorer, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score uint8 (B, H, W, C).

    Networks run in the precision of the model's weights; differences and sums are float32.

    Returns
    -------
    latents, image_scores, feature_scores
        float32 (B, latent_size), (B,), (B,).
    """
    latents, image, feature = scorer(to_tensor(images, scorer.pixel_weights.device))
    return latents.cpu().numpy(), image.cpu().numpy(), feature.cpu().numpy()


def prepare(scorer: Scorer, device: torch.device, precision: str) -> Scorer:
    """A copy for scoring: on `device`, the networks in `precision` and channels-last order."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    copied = copy.deepcopy(scorer).eval().to(device)
    copied.model.to(dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return copied


def score_images(scorer: Scorer, images: np.ndarray, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """As `score_batch`, for any number of images, `batch` at a time."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        parts = [score_batch(scorer, images[i : i + batch]) for i in range(0, len(images), batch)]
    latents, image, feature = (np.concatenate(part) for part in zip(*parts, strict=True))
    return latents, image, feature


# -------------------------------------------------------------------------------------------------- precision
def agreement(reference: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Spearman's rank correlation of two score vectors (n,), and the overlap of their top 1 % (see `models.ranks`).

    Where all scores of one are equal, 1 if those of the other are, too, else 0.
    """
    ranks = rankdata(np.stack([reference, scores]), axis=1)
    rho = spearman(ranks)[0, 1]
    same = float(np.array_equal(*ranks))
    return same if np.isnan(rho) else float(rho), overlap(in_top(reference), in_top(scores))


def choose_precision(scorer: Scorer, device: torch.device, blocks: Iterable[np.ndarray], batch: int) -> dict[str, Any]:
    """Whether bfloat16 may stand for float32 on images like those in `blocks`, and whether it pays.

    It may where, for the image, feature and anomaly score alike, Spearman ≥ .9999 and the top 1 % overlaps by ≥ 99 %.

    Returns
    -------
    dict
        ``precision``, ``reason``, ``speed_ratio``, and where compared ``spearman``, ``top_overlap``, ``n_checked``.
    """
    candidates = {name: prepare(scorer, device, name) for name in ("float32", "bfloat16")}
    found: dict[str, Any] = {"precision": "float32"}
    scores: dict[str, list[np.ndarray]] = {name: [] for name in candidates}
    for number, block in enumerate(blocks):
        if number == 0:
            ratio = speed_ratio(candidates["float32"], candidates["bfloat16"], block[:batch], batch)
            found["speed_ratio"] = round(ratio, 2)
            if ratio < MIN_SPEED_RATIO:
                return found | {"reason": "bfloat16 is no faster on this machine"}
        for name, candidate in candidates.items():
            _, image, feature = score_images(candidate, block, batch)
            scores[name].append(np.stack([image, feature, anomaly_score(image, feature)]))
    reference, faster = (np.concatenate(scores[name], axis=1) for name in candidates)
    checks = [agreement(a, b) for a, b in zip(reference, faster, strict=True)]
    rho, shared = (min(figures) for figures in zip(*checks, strict=True))
    found |= {"spearman": rho, "top_overlap": shared, "n_checked": reference.shape[1]}
    if rho >= MIN_SPEARMAN and shared >= MIN_OVERLAP:
        return found | {"precision": "bfloat16", "reason": "bfloat16 ranks as float32 does"}
    return found | {"reason": "bfloat16 ranks differently"}


def speed_ratio(slower: Scorer, faster: Scorer, images: np.ndarray, batch: int) -> float:
    """How many times faster the second scores `images`."""
    seconds = []
    for candidate in (slower, faster):
        score_images(candidate, images, batch)  # the first call builds kernels
        started = time.perf_counter()
        for _ in range(3):
            score_images(candidate, images, batch)
        seconds.append(time.perf_counter() - started)
    return seconds[0] / seconds[1]


# ---------------------------------------------------------------------------------------------------- the kind
class Config(Protocol):
    """See `explorer.kinds.score.ScoreConfig`."""

    @property
    def preset(self) -> str: ...
    @property
    def latent_axes(self) -> int | None: ...
    @property
    def center(self) -> float | None: ...
    @property
    def feature_stage(self) -> int | None: ...
    @property
    def feature_weight(self) -> float: ...
    @property
    def lambda_mode(self) -> Mode: ...
    @property
    def batch(self) -> int | None: ...
    @property
    def precision(self) -> str: ...
    @property
    def device(self) -> str: ...


def pixel_hashes(images: np.ndarray) -> np.ndarray:
    """uint64 (n,): equal for equal images. BLAKE2b over the pixels."""
    digests = (hashlib.blake2b(image, digest_size=8).digest() for image in np.ascontiguousarray(images))
    return np.frombuffer(b"".join(digests), np.uint64)


def run(config: Config, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Score every image of the survey; see the module's docstring.

    A plan that fixes the scores is written, then ``parts/NNNNN.npz``, one for each shard of images, by the workers of
    `workspace.pool` or by this process (`score_shard`), and all are joined. How many workers and threads there are does
    not change a bit of it, on CPUs of one kind. Resumes: finished parts are kept if the plan is the same.

    Raises
    ------
    ArtifactError
        No images, or the checkpoint belongs to images cut in another way.
    """
    if workspace.images is None or len(workspace.images) == 0:
        raise ArtifactError("the survey has no images to score")
    images, n = workspace.images, len(workspace.images)
    torch.set_num_threads(workspace.threads)
    model = load_checkpoint(workspace.parents["train"], workspace.preprocessing)
    scorer = scorer_of(model, asdict(cast(Any, config)))
    device = pick_device(config.device)

    parts = workspace.directory / PARTS
    fixed = {
        "n": n,
        "shard": SHARD,
        "weights": fingerprint(model),
        "settings": list(scorer.settings),
        "precision_asked": config.precision,
        "device": device.type,
        "batch": config.batch or BATCH[device.type],
    }
    plan: dict[str, Any] = json.loads((parts / PLAN).read_bytes()) if (parts / PLAN).exists() else {}
    if {k: plan.get(k) for k in fixed} != fixed:
        shutil.rmtree(parts, ignore_errors=True)
        plan = dict(fixed)
        if config.precision != "auto":
            plan["choice"] = {"precision": config.precision, "reason": "asked for"}
        elif n < AUTO_FROM:
            plan["choice"] = {"precision": "float32", "reason": f"fewer than {AUTO_FROM:,} images"}
        else:
            yield Progress(0, n, "comparing bfloat16 with float32")
            sample = sample_of(images, min(max(n // 8, SHARD), 20_000))
            plan["choice"] = choose_precision(scorer, device, sample, plan["batch"])
        write_json(parts / PLAN, plan)

    batch = Batch(plan["batch"])
    rate = yield from score_shards(
        images,
        parts,
        plan["shard"],
        lambda: partial(score_block, prepared(plan, workspace), batch, workspace.threads),
        workspace.pool,
        "models.scoring:score_shard",
        lambda: batch.words,
        block=block_of(plan, workspace.threads),
    )
    yield Progress(n, n, "writing scores", {"images_per_second": rate})
    results = join(workspace, [part_path(parts, number) for number in range(n_shards(n, plan["shard"]))], config)
    results |= Batch(plan["batch"], results.pop("least_batch")).results
    choice = dict(plan["choice"])
    choice["precision_reason"] = choice.pop("reason")
    results |= scorer.settings._asdict()
    return results | {"n_images": n, "images_per_second": round(rate, 1), "device": device.type, **choice}


# ----------------------------------------------------------------------------------------------------- one shard
class Prepared(NamedTuple):
    """What every shard of a plan needs."""

    network: Scorer
    split_of: "SplitLookup"


_PREPARED: OrderedDict[tuple[Any, ...], Prepared] = OrderedDict()
_PREPARING = Lock()


def prepared(plan: Mapping[str, Any], workspace: Workspace) -> Prepared:
    """The network as `plan` uses it; the last two stay with the process.

    Raises
    ------
    ArtifactError
        The checkpoint is not the plan's, or this process has not the device that it says.
    """
    train, precision, device = workspace.parents["train"], plan["choice"]["precision"], device_of(plan, workspace)
    key = (plan["weights"], *plan["settings"], precision, device.type, str(train))
    with _PREPARING:
        if key not in _PREPARED:
            model = load_checkpoint(train, workspace.preprocessing)
            if fingerprint(model) != plan["weights"]:
                raise ArtifactError(
                    f"the checkpoint of {train.name} is not the one that scoring began with; score anew"
                )
            scorer = Scorer(model, Settings(*plan["settings"]))
            _PREPARED[key] = Prepared(prepare(scorer, device, precision), read_split(train))
            while len(_PREPARED) > 2:
                _PREPARED.popitem(last=False)
        _PREPARED.move_to_end(key)
        return _PREPARED[key]


def device_of(plan: Mapping[str, Any], workspace: Workspace) -> torch.device:
    """The device that a plan says.

    Raises
    ------
    ArtifactError
        This process has none.
    """
    if plan["device"] == "cuda" and not torch.cuda.is_available():
        raise ArtifactError(
            f"the scores of {workspace.directory.name} are made on a GPU and this worker has none; "
            "start workers where there are GPUs only, or score with device cpu"
        )
    return torch.device(plan["device"])


def score_shard(config: Config, workspace: Workspace, number: int) -> dict[str, Any]:
    """Write part `number` of the run in `workspace`, whole or not at all: see `run`, and `Pool.map`, which calls it.

    What the scores are is fixed by ``parts/plan.json`` alone, which `run` has written. A part that is there and whole
    is left as it is.

    Returns
    -------
    dict
        ``n``, images of this part; ``seconds`` that they took; ``note`` where there is something to say.

    Raises
    ------
    ArtifactError
        No plan, no such shard, another checkpoint, or not the plan's device.
    """
    started, parts, images = time.perf_counter(), workspace.directory / PARTS, workspace.images
    try:
        plan = json.loads((parts / PLAN).read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{workspace.directory} has no {PARTS}/{PLAN}; scoring has ended or not begun") from None
    if images is None or len(images) != plan["n"] or not 0 <= number < n_shards(plan["n"], plan["shard"]):
        n = 0 if images is None else len(images)
        raise ArtifactError(f"part {number} of {plan['n']:,} images is asked for; the survey has {n:,}")
    batch = Batch(plan["batch"])
    score = partial(score_block, prepared(plan, workspace), batch, workspace.threads)
    n = write_part(images, parts, number, plan["shard"], score, block_of(plan, workspace.threads))
    return {"n": n, "seconds": time.perf_counter() - started, "note": batch.words}


def block_of(plan: Mapping[str, Any], threads: int) -> int:
    """Images that are read at once: whole batches, so that which images share one does not depend on it."""
    batch = int(plan["batch"])
    least = batch * (threads if plan["device"] == "cpu" else 1)
    return -(-max(BLOCK, least) // batch) * batch


def score_block(
    with_what: Prepared, batch: Batch, threads: int, images: np.ndarray, first: int = 0
) -> dict[str, np.ndarray]:
    """The columns of a part for uint8 (n, H, W, C), whatever row the `first` is in.

    On the CPU, `threads` batches are computed at once, each by one thread: how many there are changes nothing then,
    while sums that several threads share come out otherwise in their last bits.
    """
    network, split_of = with_what
    is_on_gpu = network.pixel_weights.device.type == "cuda"

    def score(n: int) -> list[tuple[np.ndarray, ...]]:
        if is_on_gpu:
            return [score_streamed(network, images, n)]
        pieces = [images[i : i + n] for i in range(0, len(images), n)]
        return one_thread_each(partial(_score_piece, network), pieces, threads)

    def look(i: int) -> tuple[np.ndarray, np.ndarray]:
        return is_constant(images[i : i + LOOK]), split_of(images[i : i + LOOK])

    with (
        ThreadPoolExecutor(threads) as others,
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        starts = range(0, len(images), LOOK)
        looked = [others.submit(look, i) for i in starts] if is_on_gpu else []  # while the GPU computes
        scored = batch.fit(score)
        about = [one.result() for one in looked] or list(others.map(look, starts))
    names = ("latents", "image_score", "feature_score")
    columns = {name: np.concatenate(part) for name, part in zip(names, zip(*scored, strict=True), strict=True)}
    constant, split = (np.concatenate(part) for part in zip(*about, strict=True))
    return columns | {"constant": constant, "split": split, "batch": np.full(len(images), batch.used, np.int32)}


def _score_piece(network: Scorer, images: np.ndarray) -> tuple[np.ndarray, ...]:
    with torch.inference_mode():
        return score_batch(network, images)


def score_streamed(network: Scorer, images: np.ndarray, batch: int) -> tuple[np.ndarray, ...]:
    """As `score_images`: while a batch is computed the next one goes to the GPU, and nothing waits before the end."""
    with torch.inference_mode():
        found = [network(as_input(x)) for x in on_device(images, batch, network.pixel_weights.device)]
        return tuple(torch.cat(part).cpu().numpy() for part in zip(*found, strict=True))


def on_device(images: np.ndarray, batch: int, device: torch.device) -> Iterator[Tensor]:
    """Batches of uint8 (n, H, W, C) on `device`; the next is sent while the caller's work on this one is under way.

    To a GPU they go through two buffers of pinned memory, on a stream of their own.
    """
    starts = range(0, len(images), batch)
    if device.type != "cuda":
        yield from (torch.from_numpy(np.ascontiguousarray(images[i : i + batch])).to(device) for i in starts)
        return
    sending = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    working = torch.cuda.current_stream(device)
    buffers = [torch.empty((batch, *images.shape[1:]), dtype=torch.uint8, pin_memory=True) for _ in range(2)]
    sent: list[torch.cuda.Event | None] = [None, None]

    def send(number: int) -> Tensor:
        turn, piece = number % 2, images[starts[number] : starts[number] + batch]
        if (before := sent[turn]) is not None:
            before.synchronize()  # the buffer is free when what it held has gone
        np.copyto(buffers[turn].numpy()[: len(piece)], piece)
        with torch.cuda.stream(sending):
            x = buffers[turn][: len(piece)].to(device, non_blocking=True)
            sent[turn] = sending.record_event()
        return x

    coming = send(0)
    for number in range(len(starts)):
        x, arrived = coming, sent[number % 2]
        assert arrived is not None
        working.wait_event(arrived)
        x.record_stream(working)  # its memory is not to be given away before the work on it is done
        yield x
        if number + 1 < len(starts):
            coming = send(number + 1)


def one_thread_each(work: Callable[[Piece], Answer], pieces: Sequence[Piece], lanes: int) -> list[Answer]:
    """`work` of all `pieces`, `lanes` of them at a time, torch taking one thread for each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if lanes == 1 or len(pieces) == 1:
            return [work(piece) for piece in pieces]
        with ThreadPoolExecutor(min(lanes, len(pieces)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, pieces))
    finally:
        torch.set_num_threads(before)


def fingerprint(model: WGAN) -> str:
    """Hex sha256 of all weights."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.numpy().tobytes())
    return digest.hexdigest()


SPLITS = np.array(["unseen", "train", "validation"])


class SplitLookup:
    """What the training run saw of each image: 0 unseen, 1 train, 2 validation, by the image's pixels.

    Pixels, not subject numbers: an image seen under another id, or in another survey, has been seen all the same, and
    two surveys that both count from 0 do not share subjects.
    """

    def __init__(self, hashes: np.ndarray, codes: np.ndarray) -> None:
        order = np.argsort(hashes, kind="stable")
        self.hashes, self.codes = hashes[order], codes[order]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """int8 (n,) for uint8 (n, H, W, C)."""
        if not len(self.hashes):
            return np.zeros(len(images), np.int8)
        hashes = pixel_hashes(images)
        at = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        return np.where(self.hashes[at] == hashes, self.codes[at], 0).astype(np.int8)


def read_split(folder: Path) -> SplitLookup:
    """The lookup of the training run in `folder`; without its ``split.parquet`` everything is unseen."""
    path = folder / SPLIT
    if not path.exists():
        return SplitLookup(np.empty(0, np.uint64), np.empty(0, np.int8))
    table = read_columns(path, SPLIT_SCHEMA)
    is_train = np.asarray(table.column("split").to_pylist(), dtype="U10") == "train"
    return SplitLookup(table.column("pixels_hash").to_numpy(), np.where(is_train, 1, 2).astype(np.int8))


def join(workspace: Workspace, parts: list[Path], config: Config) -> dict[str, Any]:
    """Write ``latents.npy`` and ``scores.parquet`` from the parts; the latents pass through a scratch file, not memory.

    Returns
    -------
    dict
        Subjects and median scores per split, how many were not scored, ``least_batch``, and what the scores were
        standardised by.
    """
    n = len(workspace.subject_ids)
    latents, read, at, least_batch = None, [], 0, 1 << 30
    for path in parts:
        part = read_part(path)
        if part is None:
            raise ArtifactError(f"{path} cannot be read; resume the run, which makes it anew")
        block, image, feature = part["latents"], part["image_score"], part["feature_score"]
        constant, split = part["constant"], part["split"]
        least_batch = min(least_batch, int(part["batch"].min()))
        finite = np.isfinite(block).all(1) & np.isfinite(image) & np.isfinite(feature)
        quality = np.where(constant, "constant image", np.where(finite, "ok", "score not finite"))
        missing = quality != "ok"
        block[missing], image[missing], feature[missing] = np.nan, np.nan, np.nan
        if latents is None:
            latents = scratch_array(workspace.directory, np.float32, (n, block.shape[1]))
        latents[at : at + len(block)] = block
        at += len(block)
        read.append((split, image, feature, quality))
    split, image, feature, quality = (np.concatenate(column) for column in zip(*read, strict=True))
    columns = {
        "subject_id": workspace.subject_ids,
        "split": SPLITS[split],
        "image_score": image,
        "feature_score": feature,
        "anomaly_score": mix(image, feature, config.feature_weight, config.lambda_mode),
        "quality": quality,
    }
    write_scores(workspace.directory, latents, columns)
    results: dict[str, Any] = {"splits": medians_by_split(columns), "n_not_scored": int((quality != "ok").sum())}
    results["least_batch"] = least_batch
    if config.lambda_mode == "standardised":
        for name in ("image_score", "feature_score"):
            results[f"{name}_median"], results[f"{name}_mad"] = center_and_spread(columns[name])
    return results
