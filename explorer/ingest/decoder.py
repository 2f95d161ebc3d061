"""Decode outside images in processes of their own, with limits on memory and time: one bad file never stops the rest.

The parent's half is `Decoders`; the child's is `serve`, started as ``python -m explorer.ingest.decoder``. The child
imports numpy and Pillow only, so that it is at work within 0.2 s.
"""

import contextlib
import fcntl
import os
import resource
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Self

import numpy as np
from PIL import Image

from explorer.errors import IngestError
from models.images import Crop, ImageError, Prepared, cut_out, decode, file_size, is_color, open_header, prepare

#: Seconds one image may take, and bytes of address space a decoding process may have.
TIME_LIMIT_S = 30.0
MEMORY_LIMIT = 4 << 30


@dataclass(slots=True)
class Decoded:
    """What became of the images of one block.

    Attributes
    ----------
    good
        Positions in the block, rising; the arrays and lists below are aligned to it.
    crops
        uint8 (len(good), size, size, bands).
    quality
        float32 (len(good), 4): `models.images.QUALITY_COLUMNS`.
    originals
        What people look at: for a file its length as it was decoded (the writer copies the file itself), for a cut-out
        the PNG of its wider context.
    bad
        (position, reason) of the others.
    """

    good: list[int]
    crops: np.ndarray
    quality: np.ndarray
    digests: list[bytes]
    thumbnails: list[bytes]
    originals: list[int | bytes]
    bad: list[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class CutOut:
    """A square of a large image around (x, y), px; the center of the first pixel is (0, 0).

    `context` is the side of the wider square that people look at, px.
    """

    path: str
    x: float
    y: float
    context: int


def decode_block(items: Sequence[str | CutOut], crop: Crop, time_limit_s: float = 0) -> Decoded:
    """Decode files, or cut from images, one after another; what cannot be a subject goes to ``bad`` with its reason.

    Parameters
    ----------
    time_limit_s
        When above 0, an image that takes longer ends this process by SIGALRM: only for a process that may die.
    """
    good: list[int] = []
    made: list[Prepared] = []
    originals: list[int | bytes] = []
    bad: list[tuple[int, str]] = []
    for position, item in enumerate(items):
        if time_limit_s:
            signal.setitimer(signal.ITIMER_REAL, time_limit_s)
        try:
            if isinstance(item, CutOut):
                prepared, original = cut_out(_large_image(item.path, crop.n_bands), item.x, item.y, item.context, crop)
                originals.append(original)
            else:
                if not item:
                    raise ImageError("the manifest gives no path")
                path = Path(item)
                prepared = prepare(path, crop)
                originals.append(file_size(path))
            made.append(prepared)
            good.append(position)
        except ImageError as error:
            bad.append((position, str(error)))
        except MemoryError:
            bad.append((position, "needs more memory to decode than one image may take"))
        except OSError as error:
            bad.append((position, f"cannot be read ({error.strerror or error})"))
    if time_limit_s:
        signal.setitimer(signal.ITIMER_REAL, 0)
    crops = np.stack([p.crop for p in made]) if made else np.empty((0, crop.size, crop.size, crop.n_bands), np.uint8)
    quality = np.array([p.quality for p in made], np.float32).reshape(-1, 4)
    return Decoded(good, crops, quality, [p.digest for p in made], [p.thumbnail for p in made], originals, bad)


@lru_cache(maxsize=1)
def _large_image(path: str, n_bands: int) -> Image.Image:
    """The decoded image that many cut-outs in a row come from."""
    return decode(open_header(Path(path)), n_bands)


def n_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_color(path: str) -> bool:
    """Whether the file's header can be read and says that the image is in color."""
    with contextlib.suppress(ImageError, OSError, MemoryError), open_header(Path(path)) as header:
        return is_color(header)
    return False


def serve(tasks: Connection, answers: Connection) -> None:
    """The child: call what the parent asks for until it hangs up.

    A task is (function, arguments, seconds it may take or 0); the answer is its result, or the `ImageError` it raised.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    answers.send("ready")
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the parent is gone
        memory_limit = tasks.recv()
        with contextlib.suppress(ValueError, OSError):  # a lower limit may be set already
            resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
        while True:
            function, arguments, seconds = tasks.recv()
            signal.setitimer(signal.ITIMER_REAL, seconds)
            try:
                answer = function(*arguments)
            except ImageError as error:
                answer = error
            except MemoryError:
                answer = ImageError("needs more memory than one image may take")
            signal.setitimer(signal.ITIMER_REAL, 0)
            answers.send(answer)


# ------------------------------------------------------------------------------------------------------- the parent
_ENVIRONMENT = {
    # one thread each: the matrix products are small, and every core has a process of its own
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    # memory freed after one image is kept for the next: page faults would take a quarter of the time
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
}


class _Child:
    """One decoding process and the pipe to it."""

    def __init__(self, memory_limit: int) -> None:
        self.answers, to_parent = Pipe(duplex=False)
        from_parent, self.tasks = Pipe(duplex=False)
        with contextlib.suppress(OSError, AttributeError):  # room for a whole block, so that the child goes on at once
            fcntl.fcntl(to_parent.fileno(), fcntl.F_SETPIPE_SZ, 1 << 20)
        theirs = (from_parent.fileno(), to_parent.fileno())
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        environment = {**os.environ, **_ENVIRONMENT}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "explorer.ingest.decoder", *map(str, theirs)],
            pass_fds=theirs,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
        )
        from_parent.close()
        to_parent.close()
        self.ready = False
        self._memory_limit = memory_limit
        self.task: tuple[_Block, list[int]] | None = None

    def greet(self) -> None:
        """Take the "ready" and answer with the limit."""
        self.answers.recv()
        self.ready = True
        self.tasks.send(self._memory_limit)

    def close(self) -> None:
        """End the process: it holds nothing that could be lost."""
        self._hang_up()
        self.process.kill()
        self.process.wait()
        self._stderr.close()

    def _hang_up(self) -> None:
        self.answers.close()
        self.tasks.close()

    def death(self) -> str:
        """Why the process ended, as a reason for the image it was at."""
        self._hang_up()
        code = self.process.wait()
        self._stderr.seek(0)
        last = self._stderr.read().decode(errors="replace").strip().splitlines()[-1:]
        self._stderr.close()
        if code == -signal.SIGALRM:
            return "decoding took longer than one image may"
        if code == -signal.SIGKILL:
            return "the process that decoded it was killed, most likely for want of memory"
        return f"the process that decoded it ended with code {code}{': ' + last[0] if last else ''}"


@dataclass(slots=True)
class _Block:
    """A block on its way: answers come in any order, and in pieces when its process died."""

    key: Any
    items: Sequence[str | CutOut]
    n_left: int
    parts: list[tuple[list[int], Decoded]] = field(default_factory=list)

    def joined(self, crop: Crop) -> Decoded:
        if len(self.parts) == 1 and len(self.parts[0][0]) == len(self.items):
            return self.parts[0][1]
        result = decode_block([], crop)
        parts = sorted(self.parts, key=lambda part: part[0][0])  # after a death each part is one image
        for positions, part in parts:
            result.good += [positions[i] for i in part.good]
            result.bad += [(positions[i], reason) for i, reason in part.bad]
            result.digests += part.digests
            result.thumbnails += part.thumbnails
            result.originals += part.originals
        result.crops = np.concatenate([part.crops for _, part in parts])
        result.quality = np.concatenate([part.quality for _, part in parts])
        return result


class Decoders:
    """Decoding processes, one per core; use as a context manager.

    Parameters
    ----------
    crop
        How the network's input is cut.
    n
        Processes; None takes one per core this process may use.
    time_limit_s, memory_limit
        Per image, and bytes of address space per process.
    """

    def __init__(
        self,
        crop: Crop,
        n: int | None = None,
        time_limit_s: float = TIME_LIMIT_S,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self.crop = crop
        self._memory_limit = memory_limit
        self._time_limit_s = time_limit_s
        self._children = [_Child(self._memory_limit) for _ in range(n or n_cores())]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._children:
            child.close()

    def call(self, function: Callable[..., Any], *arguments: Any, seconds: float = TIME_LIMIT_S) -> Any:
        """One call in a child process; not while `decode` is at work.

        Raises
        ------
        ImageError
            What the function raised, or why its process died.
        """
        child = self._children[0]
        try:
            if not child.ready:
                child.greet()
            child.tasks.send((function, arguments, seconds))
            answer = child.answers.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            if not child.ready:
                raise self._cannot_start(child) from None
            reason = child.death()
            self._children[0] = _Child(self._memory_limit)
            raise ImageError(reason) from None
        if isinstance(answer, ImageError):
            raise answer
        return answer

    def any_color(self, paths: Iterable[str]) -> bool:
        """Whether the header of any of these files says color; unreadable ones do not count."""
        for path in paths:
            with contextlib.suppress(ImageError):
                if self.call(has_color, path):
                    return True
        return False

    @staticmethod
    def _cannot_start(child: _Child) -> IngestError:
        return IngestError(f"images cannot be decoded: {child.death().replace('decoded it', 'should decode them')}")

    def decode(self, blocks: Iterable[tuple[Any, Sequence[str | CutOut]]]) -> Iterator[tuple[Any, Decoded]]:
        """Decode blocks of files or cut-outs on all processes; results come in the order of `blocks`.

        Each block is (key, items); the key comes back with the result. At most three blocks per process are on their
        way, whatever the number of blocks.
        """
        source = iter(blocks)
        order: deque[_Block] = deque()
        retries: deque[tuple[_Block, list[int]]] = deque()
        exhausted = False
        while True:
            for child in self._children:
                if not child.ready or child.task is not None:
                    continue
                if retries:
                    self._hand(child, *retries.popleft())
                elif not exhausted and len(order) < 3 * len(self._children):
                    following = next(source, None)
                    if following is None:
                        exhausted = True
                        continue
                    key, items = following
                    block = _Block(key, items, len(items))
                    order.append(block)
                    self._hand(child, block, list(range(len(items))))
            while order and order[0].n_left == 0:
                done = order.popleft()
                yield done.key, done.joined(self.crop)
            if exhausted and not order:
                return
            if len(order) >= 3 * len(self._children) or exhausted or all(c.task or not c.ready for c in self._children):
                self._receive(retries)

    def _hand(self, child: _Child, block: _Block, positions: list[int]) -> None:
        child.task = (block, positions)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it died: its pipe says so when it is read
            items = [block.items[i] for i in positions]
            child.tasks.send((decode_block, (items, self.crop, self._time_limit_s), 0))

    def _receive(self, retries: deque[tuple[_Block, list[int]]]) -> None:
        """Wait for one or more answers; a process that died is replaced and its block goes on image by image."""
        waited = {child.answers: child for child in self._children if child.task or not child.ready}
        for connection in wait(list(waited)):
            child = waited[connection]  # type: ignore[index]
            try:
                if not child.ready:
                    child.greet()
                    continue
                answer = child.answers.recv()
            except (EOFError, ConnectionResetError):
                self._bury(child, retries)
                continue
            assert child.task is not None
            block, positions = child.task
            child.task = None
            if isinstance(answer, ImageError):  # the block as a whole was too much
                self._retry(block, positions, str(answer), retries)
                continue
            block.parts.append((positions, answer))
            block.n_left -= len(positions)

    def _bury(self, child: _Child, retries: deque[tuple[_Block, list[int]]]) -> None:
        if child.task is None:
            raise self._cannot_start(child)
        reason = child.death()
        self._children[self._children.index(child)] = _Child(self._memory_limit)
        self._retry(*child.task, reason, retries)

    def _retry(
        self, block: _Block, positions: list[int], reason: str, retries: deque[tuple[_Block, list[int]]]
    ) -> None:
        """Go on image by image; where it was one image already, that one is bad."""
        if len(positions) > 1:
            retries.extend((block, [i]) for i in positions)
            return
        result = decode_block([], self.crop)
        result.bad.append((0, reason))
        block.parts.append((positions, result))
        block.n_left -= 1


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1]), writable=False), Connection(int(sys.argv[2]), readable=False))
