"""Kill a command at its k-th touch of the disk, for many k, and see what is left. A process of its own: it forks.

``python -m tests.explorer.killed ACTION SOURCE WORK``: ACTION is a function below that is given a copy of SOURCE; after
each kill ``ACTION_left`` looks at what is left, and whatever it raises ends this process with its traceback.
"""

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr  # noqa: F401 - once, not in every child

from explorer.errors import SchemaError
from explorer.ingest import add as add_module
from explorer.ingest.add import AddOptions
from explorer.ingest.add import add as adding
from explorer.ingest.decoder import Decoders, Reading, decode_block
from explorer.ingest.migrate import migrate as migrating
from explorer.ledger import Ledger
from explorer.survey import Survey, check
from models.images import Crop

#: Kills are at this many moments, at even distances, and at each of the last ones.
SPREAD, LAST = 4, 5
_TOUCHES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "shutil.copyfile", "ctypes.dlsym"}


def migrate(survey: Path) -> None:
    for _ in migrating(survey):
        pass


def migrate_left(survey: Path, original: Path) -> None:
    if survey.exists():
        try:
            Survey.open(survey).close()
        except SchemaError:  # the old one, whole
            assert tree(survey) == tree(original)
    migrate(survey)
    assert check(survey) == []
    opened = Survey.open(survey)
    with Ledger(survey, opened.info.survey_id) as ledger:
        assert ledger.selection_names() == ["Three that stood out"]
    assert tree(survey.with_name("survey.schema1")) == tree(original)
    assert not survey.with_name(".survey.migrating").exists()
    assert opened.n == 25
    opened.close()


class InProcess(Decoders):
    """Decodes right here: a child for each of so many starts would take most of the time."""

    def __init__(self, crop: Crop, n: int | None = None) -> None:
        self.crop, self.reading, self._children = crop, Reading(), []

    def call(self, function: Callable[..., Any], *arguments: Any, seconds: float = 0) -> Any:
        return function(*arguments)

    def decode(self, blocks: Iterable[Any]) -> Iterator[Any]:
        for key, items in blocks:
            yield key, decode_block(items, self.crop, reading=self.reading)


def add(survey: Path) -> None:
    add_module.Decoders = InProcess  # type: ignore[misc]
    for _ in adding(survey, [survey.parents[2] / "more"], AddOptions(workers=1)):
        pass


def add_left(survey: Path, original: Path) -> None:
    before, opened = Survey.open(original), Survey.open(survey)
    assert check(survey) == []
    was_committed = opened.n > before.n
    assert opened.n == (before.n + 30 if was_committed else before.n)
    assert opened.images.shape[0] == opened.n
    for row in range(before.n):
        assert opened.subject(row) == before.subject(row)
        assert opened.original(row) == before.original(row)
    assert np.array_equal(opened.images[: before.n], before.images[:])
    opened.close()
    if not was_committed or (survey / "parts" / "command.json").exists():
        add(survey)
    at_once = survey.parents[2] / "at_once" / "survey"
    assert tree(survey) == tree(at_once)
    assert not list(survey.glob("parts/*"))
    assert not list(survey.rglob("*.working"))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file's bytes, but for what holding and reading leave."""
    left = ("lock", "-wal", "-shm")
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and not p.name.endswith(left)
    }


def in_a_child(work: Callable[[], None]) -> int:
    """The exit status of a fork that does this."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitpid(pid, 0)[1]


def counting(folder: Path, at: int | None, report: Path | None = None) -> None:
    """Count touches below `folder`; at the given one this process is killed."""
    n = 0
    prefix = str(folder.parent)

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal n
        if event in _TOUCHES and (event == "ctypes.dlsym" or any(str(a).startswith(prefix) for a in arguments)):
            n += 1
            if report is not None:
                os.write(counted, b".")
            if n == at:
                os.kill(os.getpid(), signal.SIGKILL)

    counted = os.open(report, os.O_WRONLY | os.O_CREAT) if report is not None else -1
    sys.addaudithook(hook)


def main(action: str, source: Path, work: Path) -> None:
    act, look = globals()[action], globals()[f"{action}_left"]

    def doing(k: int | None, report: Path | None = None) -> tuple[Path, int]:
        folder = work / str(k) / "survey"
        shutil.copytree(source, folder)

        def act_until_killed() -> None:
            counting(folder, k, report)
            act(folder)

        return folder, in_a_child(act_until_killed)

    at_once, status = doing(None, work.parent / "touches")
    assert status == 0
    at_once.parent.rename(work.parent / "at_once")
    n = (work.parent / "touches").stat().st_size
    moments = sorted({*np.linspace(1, n, SPREAD).astype(int).tolist(), *range(n - LAST, n + 1)})
    for k in moments:
        folder, status = doing(k)
        assert os.WIFSIGNALED(status), f"touch {k} of {n} was not reached"
        assert in_a_child(partial(look, folder, source)) == 0, f"killed at touch {k} of {n}"
        shutil.rmtree(folder.parent)
    print(f"killed at {len(moments)} of {n} moments")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
