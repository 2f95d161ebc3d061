"""A training in several processes of one machine, one to a GPU: each has its share of every batch, all take one step.

The job's own process leads: it alone reads the survey, holds the order of the images, validates, saves and tells how
far it is. It says over a socket what comes next (JSON, states as safetensors; nothing is pickled). The gradients are
summed by ``torch.distributed``, NCCL on GPUs and gloo on CPUs, over loopback, in one piece a step. A process whose
leader is gone ends at once: its stdin is a pipe from there.

``python -m models.parallel SOCKET IMAGES``   one of the others; both are file descriptors
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, cast

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from models.artifacts import ArtifactError
from models.steps import STEPS, Config, EncoderSteps, Feed, GanSteps, Share, Team, laid_out, put_back, set_tf32
from models.wgan import WGAN, Architecture

OUT_OF_MEMORY = 75  # exit code of a process whose GPU's memory did not suffice
END_WITHIN = 2.0  # seconds that the others have to end


def number_of(processes: int | None, device: torch.device) -> int:
    """How many processes train: as asked, or one to a GPU; one where there is none.

    Raises
    ------
    ArtifactError
        More than there are GPUs.
    """
    n_gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if n_gpus and processes and processes > n_gpus:
        raise ArtifactError(
            f"processes is {processes}, and this machine offers {n_gpus} GPUs; one process takes one GPU"
        )
    return processes or max(1, n_gpus)


def share_images(images: Any, directory: Path) -> tuple[np.ndarray, IO[bytes]]:
    """All crops (N, H, W, C) in a file without a name on the disk that holds `directory`, for several processes."""
    file = cast("IO[bytes]", tempfile.TemporaryFile(dir=directory))  # noqa: SIM115 (the others are given it)
    shared = np.memmap(file, np.uint8, "w+", shape=tuple(images.shape))
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, shared.nbytes)  # a full disk is an error here, not the end at some write
    for i in range(0, len(images), 4096):
        shared[i : i + 4096] = images[i : i + 4096]
    weakref.finalize(shared, file.close)
    return shared, file


class Group(Team):
    """One of several processes."""

    def __init__(self, share: Share) -> None:
        self.share = share

    def add(self, parameters: Iterable[Tensor], losses: Tensor) -> Tensor:
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), losses])
        dist.all_reduce(flat)
        *sums, losses = torch.split(flat, [*(gradient.numel() for gradient in gradients), len(losses)])
        for gradient, total in zip(gradients, sums, strict=True):
            gradient.copy_(total.view(gradient.shape))
        return losses


class Leader(Group):
    """The job's process; it starts the others and ends them.

    Parameters
    ----------
    n
        Processes in all, at least 2.
    images, shape
        The file of `share_images`, and its array's shape.
    rates
        Learning rate by stage.
    threads
        CPU threads of each.

    Raises
    ------
    ArtifactError
        One of the others did not start, or ends by itself.
    """

    def __init__(
        self,
        n: int,
        device: torch.device,
        images: IO[bytes],
        shape: tuple[int, ...],
        architecture: Architecture,
        config: Config,
        rates: Mapping[str, float],
        threads: int,
    ) -> None:
        super().__init__(Share(0, n))
        self.others: list[tuple[subprocess.Popen[bytes], Connection]] = []
        self.meeting = Path(tempfile.mkdtemp(prefix="voorwerp-train-"))
        try:
            for rank in range(1, n):
                self.others.append(_start(images.fileno()))
                self._send(
                    {
                        "rank": rank,
                        "of": n,
                        "device": f"cuda:{rank}" if device.type == "cuda" else device.type,
                        "meeting": str(self.meeting / "store"),
                        "shape": list(shape),
                        "architecture": asdict(architecture),
                        "config": asdict(cast(Any, config)),
                        "rates": dict(rates),
                        "threads": threads,
                    },
                    self.others[-1:],
                )
            for process, connection in self.others:
                while not connection.poll(0.2):
                    if process.poll() is not None:
                        raise self._fate()
                with contextlib.suppress(EOFError):
                    connection.recv_bytes()
            _join(self.meeting / "store", self.share, device)
        except BaseException:
            self.close()
            raise

    def begin(self, stage: str, state: Mapping[str, Tensor]) -> None:
        self._send({"stage": stage})
        content = to_safetensors(dict(state))
        for _, connection in self.others:
            connection.send_bytes(content)

    def tell(self, **what: Any) -> None:
        self._send({name: _plain(value) for name, value in what.items()})

    def add(self, parameters: Iterable[Tensor], losses: Tensor) -> Tensor:
        try:
            return super().add(parameters, losses)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise self._fate(error) from None

    def close(self) -> None:
        for process, connection in self.others:
            connection.close()
            assert process.stdin is not None
            process.stdin.close()
        for process, _ in self.others:
            try:
                process.wait(END_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.others = []
        if dist.is_initialized():
            dist.destroy_process_group()
        shutil.rmtree(self.meeting, ignore_errors=True)

    def _send(self, message: Mapping[str, Any], to: Any = None) -> None:
        try:
            for _, connection in to or self.others:
                connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise self._fate(error) from None

    def _fate(self, error: Exception | None = None) -> Exception:
        """What became of the others."""
        for rank, (process, _) in enumerate(self.others, 1):
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = process.wait(END_WITHIN)
                if code == OUT_OF_MEMORY:
                    return torch.OutOfMemoryError(f"process {rank} of the training ran out of memory")
                how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
                return ArtifactError(
                    f"process {rank} of the training's {self.share.of} ended {how}; its log may say why, "
                    "and voorwerp resume goes on from what was saved last"
                )
        return error or ArtifactError("a process of the training did not answer")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _start(images: int) -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(images)],
            stdin=subprocess.PIPE,
            pass_fds=(theirs.fileno(), images),
        )
    return process, ours


def _join(store: Path, share: Share, device: torch.device) -> None:
    """Meet the others: all of them are on this machine, and talk over loopback alone."""
    if Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=dist.FileStore(str(store), share.of),  # type: ignore[attr-defined]
        rank=share.rank,
        world_size=share.of,
    )


# -------------------------------------------------------------------------------------------------- one of the others
def follow(connection: Connection, images: IO[bytes]) -> None:
    """Make the steps that the leader tells of, until it says no more."""
    told = json.loads(connection.recv_bytes())
    config, share, device = (
        SimpleNamespace(**told["config"]),
        Share(told["rank"], told["of"]),
        torch.device(told["device"]),
    )
    torch.set_num_threads(told["threads"])
    set_tf32(config.precision)
    crops = np.memmap(images, np.uint8, "r", shape=tuple(told["shape"]))
    connection.send_bytes(b"ready")
    _join(Path(told["meeting"]), share, device)
    model, feed = laid_out(WGAN(Architecture(**told["architecture"])), device), Feed(crops, device)
    steps: GanSteps | EncoderSteps | None = None
    while True:
        message = json.loads(connection.recv_bytes())
        if stage := message.get("stage"):
            steps = STEPS[stage](model, feed, told["rates"][stage], cast(Config, config), Group(share))
            put_back(from_safetensors(connection.recv_bytes()), model, steps.optimizers, device)
        elif isinstance(steps, GanSteps):
            steps.take([np.array(rows) for rows in message["batches"]])
        elif steps is not None:
            steps.take(np.array(message["rows"]), message["orientation"], message["learning_rate"])


def end_with_leader() -> None:
    """End this process as soon as stdin does."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os._exit(0)

    threading.Thread(target=watch, name="leader", daemon=True).start()


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM):  # they reach the leader too, which saves and then ends this one
        signal.signal(number, signal.SIG_IGN)
    end_with_leader()
    connection, images = Connection(int(sys.argv[1])), os.fdopen(int(sys.argv[2]), "rb")
    try:
        follow(connection, images)
    except torch.OutOfMemoryError:
        os._exit(OUT_OF_MEMORY)  # at once: the leader waits for this one's share
    except EOFError:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
