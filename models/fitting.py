"""One loop for every network that learns from labels, and what it goes on from.

    standing = Standing(workspace.directory, {"seed": 1, ...})
    for epoch in fit("classifier, fold 2", network, loss, feed, rows, validation_rows, recipe, seed, standing):
        yield Progress(...)

A run is a series of such fits. Each that is done, and the one at work, stands in ``parts/``; what an epoch draws
depends on seed and epoch alone, so a run that was killed ends in the same bytes on the CPU. Epochs are lines of
``history.jsonl``, their losses drawn by name on the page of runs.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from models.artifacts import HISTORY, PARTS, ArtifactError, write_bytes
from models.resume import History
from models.steps import Feed, turn

SAVE_EVERY = 20.0  # seconds of fitting that a kill may cost, and one epoch

#: Images float32 (B, C, H, W) in [0, 1] and their rows, int64 (B,) → mean loss of the batch.
Loss = Callable[[Tensor, np.ndarray], Tensor]
#: Random numbers of an epoch → rows in the order that it takes them, int64; none ends the fit (DEC's own rule does so).
Draw = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is fitted.

    Attributes
    ----------
    is_turned
        Every image in one of the eight orientations of a square, drawn anew each time; without `is_mirrored` in one of
        the four that leave its handedness (of spiral arms, say) as it is.
    patience
        Epochs without a smaller validation loss after which it ends, with the weights of the smallest; 0: all epochs,
        with the last weights, as the papers do.
    is_annealed
        The step size falls to zero along a cosine.
    precision
        bfloat16: the layers by autocast; losses are float32.
    """

    epochs: int
    batch: int
    learning_rate: float
    optimizer: Literal["sgd", "adam", "adamw"] = "adamw"
    momentum: float = 0.0
    weight_decay: float = 0.0
    is_turned: bool = False
    is_mirrored: bool = True
    patience: int = 0
    is_annealed: bool = False
    precision: Literal["float32", "bfloat16"] = "float32"


@dataclass(frozen=True, slots=True)
class Epoch:
    """What a fit says after each epoch: losses by name, and images a second. `is_best`: of those so far."""

    number: int
    of: int
    train: dict[str, float]
    validation: dict[str, float]
    images_per_second: float
    is_best: bool


@dataclass(slots=True)
class _State:
    epoch: int = 0
    best: float = float("inf")
    best_epoch: int = 0
    is_done: bool = False
    tensors: dict[str, Tensor] = field(default_factory=dict)


class Standing:
    """Which fits of a run are done, and where the one at work stands.

    Parameters
    ----------
    folder
        The run's folder.
    about
        What the fits depend on, name → JSON value: what was saved with other values is refused.

    Raises
    ------
    ArtifactError
        What was saved cannot be read or is of another run.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.parts = folder / PARTS
        self.about = json.loads(json.dumps(about))
        self.parts.mkdir(exist_ok=True)
        for left in self.parts.glob(".*.tmp"):  # of a process that was killed while it wrote
            left.unlink()
        n_lines = max((self._read(path)[0]["n_history"] for path in self.parts.glob("fit-*.safetensors")), default=0)
        self.history = History(folder / HISTORY, n_lines)

    def path(self, name: str) -> Path:
        """Where the fit called `name` stands."""
        return self.parts / f"fit-{hashlib.sha256(name.encode()).hexdigest()[:20]}.safetensors"

    def _read(self, path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        try:
            with safe_open(path, framework="pt") as file:
                told = json.loads((file.metadata() or {})["voorwerp"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            theirs = dict(told["about"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path} cannot be read ({error}); remove it to fit that part anew") from None
        for name in [*self.about, *theirs]:
            if self.about.get(name) != theirs.get(name):
                raise ArtifactError(
                    f"{path} belongs to another run: {name} was {theirs.get(name)}, is {self.about.get(name)}; "
                    f"remove {self.parts} to begin anew"
                )
        return told, tensors

    def load(self, name: str) -> _State | None:
        """Where a fit stands; None where it has not begun."""
        if not (path := self.path(name)).exists():
            return None
        told, tensors = self._read(path)
        return _State(told["epoch"], told["best"], told["best_epoch"], told["is_done"], tensors)

    def save(self, name: str, state: _State) -> None:
        """Write where a fit stands, whole or not at all."""
        self.history.sync()
        told = {"about": self.about, "name": name, "n_history": len(self.history.records), "epoch": state.epoch}
        told |= {"best": state.best, "best_epoch": state.best_epoch, "is_done": state.is_done}
        content = {key: tensor.detach().cpu().contiguous() for key, tensor in state.tensors.items()}
        write_bytes(self.path(name), to_safetensors(content, metadata={"voorwerp": json.dumps(told, sort_keys=True)}))

    def keep(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep what was made of a finished fit (predictions, figures), so that it is not made again."""
        self.save(name, _State(is_done=True, tensors={k: torch.from_numpy(np.asarray(v)) for k, v in arrays.items()}))

    def kept(self, name: str) -> dict[str, np.ndarray] | None:
        """What `keep` kept; None without."""
        state = self.load(name)
        return None if state is None else {key: tensor.numpy() for key, tensor in state.tensors.items()}


def network_of(seed: int, make: Callable[[], nn.Module], device: torch.device) -> Any:
    """What `make` makes, with the weights that the seed gives, on the device; channels last on a GPU."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make().to(device)
    return network.to(memory_format=torch.channels_last) if device.type == "cuda" else network  # type: ignore[call-overload]


def optimizer_of(recipe: Recipe, groups: Sequence[Mapping[str, Any]]) -> torch.optim.Optimizer:
    """The recipe's optimizer; each group may have a step size of its own (``lr``)."""
    given = [{"lr": recipe.learning_rate, **group} for group in groups]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(given, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay)
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(given, recipe.learning_rate, weight_decay=recipe.weight_decay)


def fit(
    name: str,
    network: nn.Module,
    loss: Loss,
    feed: Feed,
    rows: np.ndarray,
    validation_rows: np.ndarray,
    recipe: Recipe,
    seed: int,
    standing: Standing,
    draw: Draw | None = None,
    groups: Sequence[Mapping[str, Any]] | None = None,
) -> Iterator[Epoch]:
    """Fit all parameters of `network` to the images at `rows`; it ends with the weights that it is to have.

    Parameters
    ----------
    name
        What is fitted, for a person: the stage in ``history.jsonl``; different for every fit of a run.
    network
        Its parameters are fitted and its state is kept: a criterion with parameters belongs into it.
    feed
        The images.
    validation_rows
        What the validation loss is taken of; may be empty, then all epochs are made and the last weights kept.
    seed
        Fixes what every epoch draws.
    draw
        The rows of an epoch, where these are not a shuffle of all: for balanced or repeated ones.
    groups
        Of parameters, with settings of their own; None: all alike.

    Yields
    ------
    After each epoch; nothing where the fit is done already.

    Raises
    ------
    ArtifactError
        A loss that is not finite, or nothing to fit to.
    """
    if not len(rows):
        raise ArtifactError(f"{name}: there is nothing to fit to")
    device = feed.device
    optimizer = optimizer_of(recipe, groups or [{"params": list(network.parameters())}])
    rates = [group["lr"] for group in optimizer.param_groups]
    state = standing.load(name) or _State()
    if state.tensors:
        _put_back(network, optimizer, state)
    if state.is_done:
        network.eval()
        return
    best = {key: tensor for key, tensor in state.tensors.items() if key.startswith("best.")}
    saved = time.perf_counter()
    while state.epoch < recipe.epochs and not _is_over(state, recipe, len(validation_rows)):
        number = state.epoch + 1
        random, started, total, n = np.random.default_rng([seed, number]), time.perf_counter(), 0.0, 0
        torch.manual_seed(int(random.integers(2**62)))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            falls = (1 + np.cos(np.pi * state.epoch / recipe.epochs)) / 2
            group["lr"] = rate * (falls if recipe.is_annealed else 1)
        order = draw(random) if draw else random.permutation(rows)
        if not len(order):
            break
        network.train()
        losses, sizes = [], []
        for i in range(0, len(order), recipe.batch):
            batch = order[i : i + recipe.batch]
            x = feed[batch]
            if recipe.is_turned:
                x = turned(x, random.integers(8 if recipe.is_mirrored else 4, size=len(batch)))
            with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                value = loss(x, batch)
            optimizer.zero_grad(set_to_none=True)
            value.float().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(value.detach().float())
            sizes.append(len(batch))
        n = sum(sizes)
        total = float((torch.stack(losses).double().cpu() * torch.tensor(sizes)).sum())
        mean, seconds = total / n, time.perf_counter() - started
        if not np.isfinite(mean):
            raise ArtifactError(f"{name}: the loss is {mean} after epoch {number}; take a smaller --learning-rate")
        validation = mean_loss(network, loss, feed, validation_rows, recipe) if len(validation_rows) else None
        state.epoch = number
        is_best = validation is not None and validation < state.best
        if validation is not None and is_best:
            state.best, state.best_epoch = validation, number
            if recipe.patience:
                best = {f"best.{key}": tensor.detach().clone() for key, tensor in network.state_dict().items()}
        told = {} if validation is None else {"loss": validation}
        rate = n / max(seconds, 1e-9)
        standing.history.add(
            {"stage": name, "epoch": number, "of": recipe.epochs, "train": {"loss": mean}, "validation": told}
            | {"images_per_second": rate, "word": ""}
        )
        if time.perf_counter() - saved > SAVE_EVERY:
            state.tensors = {**_tensors(network, optimizer), **best}
            standing.save(name, state)
            saved = time.perf_counter()
        yield Epoch(number, recipe.epochs, {"loss": mean}, told, rate, is_best)
    if recipe.patience and best:
        network.load_state_dict({key.removeprefix("best."): tensor for key, tensor in best.items()})
    network.eval()
    state.is_done, state.tensors = True, {f"network.{key}": tensor for key, tensor in network.state_dict().items()}
    standing.save(name, state)


def _is_over(state: _State, recipe: Recipe, n_validation: int) -> bool:
    return bool(recipe.patience and n_validation and state.epoch - state.best_epoch >= recipe.patience)


def mean_loss(network: nn.Module, loss: Loss, feed: Feed, rows: np.ndarray, recipe: Recipe) -> float:
    """The mean loss over `rows`, the network as it is used: no dropout, norms by what they have learned."""
    was, total = network.training, 0.0
    network.eval()
    with torch.inference_mode():
        for i in range(0, len(rows), recipe.batch):
            batch = rows[i : i + recipe.batch]
            with torch.autocast(feed.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
                total += float(loss(feed[batch], batch).float()) * len(batch)
    network.train(was)
    return total / len(rows)


def outputs(network: Callable[[Tensor], Tensor], feed: Feed, rows: np.ndarray, batch: int = 256) -> np.ndarray:
    """What a network in evaluation mode says of the images at `rows`, float32 (n, …)."""
    with torch.inference_mode():
        parts = [network(feed[rows[i : i + batch]]).float().cpu().numpy() for i in range(0, len(rows), batch)]
    return np.concatenate(parts) if parts else np.empty((0,), np.float32)


def turned(x: Tensor, orientations: np.ndarray) -> Tensor:
    """(B, C, H, W), each image in its own of the eight orientations of a square (see `models.steps.turn`)."""
    found = torch.empty_like(x)
    for orientation in np.unique(orientations):
        which = torch.from_numpy(np.flatnonzero(orientations == orientation)).to(x.device)
        found[which] = turn(x[which], int(orientation))
    return found


def _tensors(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors = {f"network.{key}": tensor for key, tensor in network.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"moment.{number}.{what}": torch.as_tensor(t) for what, t in moments.items() if t is not None}
    return tensors


def _put_back(network: nn.Module, optimizer: torch.optim.Optimizer, state: _State) -> None:
    weights = {key.removeprefix("network."): t for key, t in state.tensors.items() if key.startswith("network.")}
    try:
        network.load_state_dict(weights)
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in state.tensors.items():
            if key.startswith("moment."):
                _, number, what = key.split(".", 2)
                moments.setdefault(int(number), {})[what] = tensor
        if moments:
            optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    except (KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArtifactError(f"what was saved does not fit this network ({reason}); start a new run") from None
