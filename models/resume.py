"""Where a training stands, kept in files, so that one that was killed goes on as if nothing had happened.

``resume.safetensors`` holds all that the next step depends on: weights, Adam's moments and step counts, the states of
the random generators, the order of the images and the place in it, the losses of the epoch at work; numbers that are no
arrays are JSON in its metadata. It is written whole or not at all. ``history.jsonl`` has one line an epoch; on the way
back it is cut to as many lines as there were when the state was saved.
"""

import errno
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from models.artifacts import CHECKPOINT, GRIDS, HISTORY, RESUME, ArtifactError, write_bytes
from models.memory import Batch
from models.scoring import save as save_checkpoint
from models.sound import LastSound
from models.steps import ALONE, put_back, state_of
from models.wgan import WGAN

STAGES = ("gan", "encoder")
SAVE_EVERY = 120.0  # seconds of training that a kill may cost at most
SAVE_SHARE = 0.02  # of the time: what is quickly saved is saved more often, so that a cancelled training goes on

#: Raised where a step computes the same in another order: to go on from a state before that would end in other bytes
#: than either version, and nobody would know.
VERSION = 2


class Order:
    """Whole batches of `rows` for ever, shuffled anew in each pass; a pass's remainder is left for the next shuffle."""

    def __init__(self, rows: np.ndarray, size: int, seed: int) -> None:
        self.rows, self.size = rows, size
        self.random = np.random.default_rng(seed)
        self.shuffled, self.at = np.empty(0, np.int64), 0

    def __next__(self) -> np.ndarray:
        """The next `size` rows, sorted: the order they are read in."""
        if self.at + self.size > len(self.shuffled):
            self.shuffled, self.at = self.random.permutation(self.rows), 0
        self.at += self.size
        return np.sort(self.shuffled[self.at - self.size : self.at])


class History:
    """The epochs so far: ``history.jsonl``.

    Parameters
    ----------
    n
        Lines to keep of those that are there.

    Raises
    ------
    ArtifactError
        There are fewer.
    """

    def __init__(self, path: Path, n: int) -> None:
        self.path = path
        lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []  # a last line without an end was cut off
        if len(lines) < n:
            raise ArtifactError(
                f"{path} has {len(lines)} epochs where {RESUME} was saved after {n}; "
                f"remove both to train from the beginning, or start a new run"
            )
        self.records: list[dict[str, Any]] = [json.loads(line) for line in lines[:n]]
        write_bytes(path, b"".join(line + b"\n" for line in lines[:n]))

    def add(self, record: dict[str, Any]) -> None:
        """Append one epoch, whole or not at all; what is not finite is refused."""
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        with self.path.open("ab", buffering=0) as file:
            at = file.seek(0, os.SEEK_END)
            if file.write(line) < len(line):  # the disk takes no more, and says so from the next write on
                file.truncate(at)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self.records.append(record)

    def sync(self) -> None:
        """Make the lines durable."""
        with self.path.open("ab") as file:
            os.fsync(file.fileno())


class Bookmark:
    """Counts a training's epochs and steps, and saves where it stands.

    A loop asks it for both, so that it goes on where it was::

        bookmark.begin("gan", {"critic": adam}, order)
        for epoch in bookmark.epochs(60):
            for _ in bookmark.steps(100):
                ...
                bookmark.note(losses)
            means = bookmark.means()

    Parameters
    ----------
    folder
        The run's folder.
    preprocessing
        For the checkpoint that is saved along with the state.
    about
        What the training depends on, name → JSON value: a state saved with other values is refused.
    batches
        Images a step by stage. What the saved state went on with, where memory did not suffice, is taken from it.

    Raises
    ------
    ArtifactError
        The saved state cannot be read, or is that of another training.
    """

    def __init__(
        self,
        folder: Path,
        model: WGAN,
        preprocessing: Mapping[str, Any],
        about: Mapping[str, Any],
        device: torch.device,
        batches: Mapping[str, Batch] | None = None,
    ) -> None:
        self.folder, self.model, self.preprocessing, self.device = folder, model, preprocessing, device
        self.about = json.loads(json.dumps(about))  # as it will read: a tuple is a list
        self.batches, self.team = dict(batches or {}), ALONE
        self.stage, self.epoch, self.step = "", 0, 0  # epochs of the stage, and steps of the epoch, that are done
        self.losses: list[Tensor] = []
        self.started, self.n_fresh, self.saved_at = time.perf_counter(), 0, time.perf_counter()
        self.took = 0.1  # seconds, by guess before the first
        for name in (f".{CHECKPOINT}", f".{RESUME}", f"{GRIDS}/"):
            for left in folder.glob(f"{name}.*.tmp"):  # of a process that was killed while it wrote
                left.unlink()
        self.found, self.tensors = self._read(folder / RESUME)
        for stage, batch in self.batches.items():
            batch.used = min(batch.used, self.found.get("batches", {}).get(stage, batch.used))
        self.history = History(folder / HISTORY, self.found["n_history"] if self.found else 0)
        self.sound = LastSound(folder, preprocessing)

    def _read(self, path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
        if not path.exists():
            return {}, {}
        try:
            with safe_open(path, framework="pt") as file:
                found = json.loads((file.metadata() or {})["voorwerp"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
            theirs, version = dict(found["about"]), found.get("version", 1)
            is_whole = STAGES.index(found["stage"]) >= 0 and found["tensors"] == sorted(tensors)
            if not is_whole or not {"epoch", "step", "n_history", "order"} <= found.keys():
                raise ValueError("something is missing")
        except (SafetensorError, OSError) as error:
            raise ArtifactError(f"{path} is not a whole safetensors file ({error}); {_WAY_OUT}") from None
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path} is not the state of a training ({error}); {_WAY_OUT}") from None
        if version != VERSION:
            raise ArtifactError(
                f"{path} was saved by another version of this program, whose steps round differently; "
                f"go on with that version, {_WAY_OUT}"
            )
        for name in [*self.about, *theirs]:
            if self.about.get(name) != theirs.get(name):
                raise ArtifactError(
                    f"{path} belongs to another training: {name} was {theirs.get(name)}, is {self.about.get(name)}; "
                    f"{_WAY_OUT}"
                )
        return found, tensors

    def is_past(self, stage: str) -> bool:
        """Whether the saved state is of a stage after this one."""
        return bool(self.found) and STAGES.index(self.found["stage"]) > STAGES.index(stage)

    def begin(self, stage: str, optimizers: Mapping[str, torch.optim.Optimizer], order: Order) -> None:
        """Begin a stage, or put everything back as it was if the saved state is of this one."""
        self.stage, self.epoch, self.step, self.losses = stage, 0, 0, []
        self.optimizers, self.order = dict(optimizers), order
        if self.found.get("stage") == stage:
            self._go_back()
        self.team.begin(stage, state_of(self.model, self.optimizers, self.device))
        if any(batch.words for batch in self.batches.values()):
            self.save()  # taken up again, it need not find out once more what memory does not hold
        self._note_sound()

    def _go_back(self) -> None:
        found, tensors, order = self.found, self.tensors, self.order
        try:
            put_back(tensors, self.model, self.optimizers, self.device)
            order.shuffled, order.at = tensors["order"].numpy(), int(found["order"]["at"])
            order.random.bit_generator.state = found["order"]["random"]
            self.losses = list(tensors["losses"].to(self.device)) if "losses" in tensors else []
            self.epoch, self.step = int(found["epoch"]), int(found["step"])
            self.step = self.step * int(found["order"]["size"]) // order.size  # as many images into the epoch
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ArtifactError(f"{self.folder / RESUME} does not fit this training ({reason}); {_WAY_OUT}") from None
        self.found, self.tensors = {}, {}

    def _note_sound(self) -> None:
        last = self.history.records[-1] if self.history.records else {}
        if last.get("has_diverged"):
            self.sound.recall(last["kept"])
        else:
            self.sound.note(self.model, self.stage, self.epoch)

    # ------------------------------------------------------------------------------------------------------- count
    def epochs(self, n: int) -> Iterator[int]:
        """The epochs that are left of `n`, from 1."""
        while self.epoch < n:
            self.started, self.n_fresh = time.perf_counter(), 0
            yield self.epoch + 1
            self.epoch, self.step, self.losses = self.epoch + 1, 0, []
            self._save_if_due()

    def steps(self, n: int) -> Iterator[int]:
        """The steps that are left of the epoch's `n`, from 1."""
        while self.step < n:
            yield self.step + 1
            self.step += 1
            self.n_fresh += 1
            self._save_if_due()

    def note(self, losses: Tensor) -> None:
        """Keep the losses (k,) of a step."""
        self.losses.append(losses.detach())

    def means(self) -> list[float]:
        """Mean losses of the epoch's steps, (k,)."""
        return torch.stack(self.losses).mean(0).tolist()

    def steps_of(self, position: int) -> dict[str, float]:
        """Median and highest of one loss over the epoch's steps."""
        values = torch.stack(self.losses)[:, position]
        return {"median": values.median().item(), "highest": values.max().item()}

    @property
    def seconds(self) -> float:
        """Since the epoch began, or was taken up again: `n_fresh` steps have been made in them."""
        return time.perf_counter() - self.started

    # -------------------------------------------------------------------------------------------------------- save
    def _save_if_due(self) -> None:
        if time.perf_counter() - self.saved_at > min(SAVE_EVERY, self.took / SAVE_SHARE):
            self.save()

    def save(self) -> None:
        """Write checkpoint and state; where losses or weights are not finite, nothing: what was is kept."""
        started = time.perf_counter()
        if self.losses and not bool(torch.stack(self.losses).isfinite().all()):
            return
        if not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            return  # lost in the last step, whose losses were still taken before it
        tensors = state_of(self.model, self.optimizers, self.device)
        tensors["order"] = torch.from_numpy(self.order.shuffled)
        if self.losses:
            tensors["losses"] = torch.stack(self.losses).cpu()
        state = {
            "version": VERSION,
            "about": self.about,
            "batches": {stage: batch.used for stage, batch in self.batches.items()},
            "stage": self.stage,
            "epoch": self.epoch,
            "step": self.step,
            "n_history": len(self.history.records),
            "tensors": sorted(tensors),
            "order": {"at": self.order.at, "size": self.order.size, "random": self.order.random.bit_generator.state},
        }
        self.history.sync()
        save_checkpoint(self.folder / CHECKPOINT, self.model, self.preprocessing)
        content = to_safetensors(tensors, metadata={"voorwerp": json.dumps(state, sort_keys=True)})
        write_bytes(self.folder / RESUME, content)
        self.saved_at = time.perf_counter()
        self.took = self.saved_at - started


_WAY_OUT = "remove it to train from the beginning, or start a new run"
