"""`migrate`: a survey folder of schema 1 becomes one of schema 2. Copy, check, swap.

The new folder grows beside the old one as ``.NAME.migrating`` and takes its name in one step; the old one stays as
``NAME.schema1``. Large files, which nothing ever writes into, are hard-linked where the file system can. Stopped at any
moment, SURVEY is either the old or the new one, whole, and the same command finishes.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import sqlite3
import sys
import tomllib
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from explorer import ledger
from explorer import survey as layout
from explorer.errors import SchemaError, SurveyError
from explorer.ingest.build import QUARANTINE_SCHEMA, full_disk_said
from explorer.ingest.report import write_report
from explorer.survey import ROW_GROUP, SCHEMA_VERSION, SUBJECTS_SCHEMA, SurveyInfo, check, write_lock
from models import artifacts
from models.images import corner, digest
from models.progress import Progress

#: Files of this many bytes and more are linked rather than copied.
LINKED_BYTES = 1 << 20
#: The columns of schema 1, which the user's follow.
FIRST_COLUMNS = SUBJECTS_SCHEMA.names[:13]
#: Written anew, or of no use to another folder.
_NOT_COPIED = {
    *(layout.SURVEY_TOML, layout.SUBJECTS, layout.QUARANTINE, layout.WRITE_LOCK, layout.PARTS, "server.lock"),
    *(ledger.LEDGER, f"{ledger.LEDGER}-wal", f"{ledger.LEDGER}-shm"),
}
_LOCKS = ("server.lock", "runs/*/lock", "maps/*/lock")


def migrate(path: Path | str, discard_old: bool = False) -> Generator[Progress, None, dict[str, Any]]:
    """Bring a survey folder up to date.

    Parameters
    ----------
    path
        The survey folder.
    discard_old
        Remove the old folder at the end instead of keeping it beside.

    Yields
    ------
    Progress
        In images.

    Returns
    -------
    dict
        migrated: whether SURVEY is another now; old: where the old folder is, "" where there is none; problems: what
        `explorer.survey.check` says of the copy. With problems nothing is swapped or removed.

    Raises
    ------
    SchemaError
        A schema version that is not known.
    SurveyError
        No survey, one in use, a damaged one, or another folder where the old one is to be kept.
    """
    path = Path(path).resolve()
    working, kept = path.parent / f".{path.name}.migrating", path.parent / f"{path.name}.schema1"
    if not path.exists() and kept.is_dir() and (working / layout.SURVEY_TOML).exists():
        with write_lock(kept):  # whoever swaps holds the old folder's, under any name
            working.rename(path)  # it was stopped between two renames
        artifacts.fsync_directory(path.parent)
    version = _version(path)
    if version == SCHEMA_VERSION:
        if working.is_dir():
            with write_lock(working):
                if _version(working) == 1:  # it was stopped right after the swap
                    working.rename(kept)
                else:
                    shutil.rmtree(working, ignore_errors=True)
            artifacts.fsync_directory(path.parent)
        if discard_old:
            _discard(kept)
        return {"migrated": False, "old": str(kept) if (kept / layout.SURVEY_TOML).exists() else "", "problems": []}
    if version != 1:
        raise SchemaError(
            f"{path / layout.SURVEY_TOML} has schema version {version}; this Voorwerp brings version 1 to "
            f"{SCHEMA_VERSION}"
        )
    if kept.exists():
        raise SurveyError(f"{kept} is there already, where the old folder would be kept; move it away first")
    with full_disk_said(path), write_lock(path), _unused(path):
        shutil.rmtree(working, ignore_errors=True)
        try:
            problems = yield from _copy(path, working)
        except BaseException:
            shutil.rmtree(working, ignore_errors=True)
            raise
        if problems:
            shutil.rmtree(working, ignore_errors=True)
            said = [problem.replace(str(working), str(path)) for problem in problems]
            return {"migrated": False, "old": "", "problems": said}
        os.sync()
        swap(working, path, kept)
    if discard_old:
        _discard(kept)
    return {"migrated": True, "old": "" if discard_old else str(kept), "problems": []}


def _version(path: Path) -> Any:
    file = path / layout.SURVEY_TOML
    try:
        return tomllib.loads(file.read_text(encoding="utf-8")).get("schema_version")
    except FileNotFoundError:
        raise SurveyError(f"{path} is not a survey: it has no {layout.SURVEY_TOML}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SurveyError(f"{file} cannot be read ({error}); put back a copy of it") from None


def _discard(kept: Path) -> None:
    """Remove the old folder; what says that it is a survey goes first."""
    (kept / layout.SURVEY_TOML).unlink(missing_ok=True)
    shutil.rmtree(kept, ignore_errors=True)


@contextlib.contextmanager
def _unused(path: Path) -> Iterator[None]:
    """Hold what a server and the workers would hold."""
    with contextlib.ExitStack() as held:
        for pattern in _LOCKS:
            for file in path.glob(pattern):
                handle = held.enter_context(file.open("rb"))
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    who = "a server" if file.parent == path else f"the run {file.parent.name}"
                    raise SurveyError(f"{who} is at work on {path}; stop it, then migrate") from None
        yield


# -------------------------------------------------------------------------------------------------------------- copy
def _copy(old: Path, new: Path) -> Generator[Progress, None, list[str]]:
    """Make the folder of schema 2; returns what `check` says of it."""
    files = [file for file in _files(old) if file.relative_to(old).parts[0] not in _NOT_COPIED and file.name != "lock"]
    new.mkdir()
    shutil.copystat(old, new)
    for i, file in enumerate(files):
        if i % 1024 == 0:
            yield Progress(i, len(files), "copying files")
        copy_file(file, new / file.relative_to(old))
    told = tomllib.loads((old / layout.SURVEY_TOML).read_text(encoding="utf-8"))
    if (old / ledger.LEDGER).exists():
        copy_ledger(old / ledger.LEDGER, new / ledger.LEDGER)
    n = _subjects(old, new, told)
    yield from _digests(new, n)
    quarantine = pq.read_table(old / layout.QUARANTINE) if (old / layout.QUARANTINE).exists() else None
    refused = QUARANTINE_SCHEMA.empty_table()
    if quarantine is not None:
        pictures = pa.nulls(len(quarantine), pa.binary())
        refused = quarantine.append_column("thumbnail", pictures).select(QUARANTINE_SCHEMA.names)
    artifacts.write_table(new / layout.QUARANTINE, refused.cast(QUARANTINE_SCHEMA))
    write_report(new, told["name"], n)
    known = {k: v for k, v in told.items() if k in SurveyInfo.__slots__ and k != "schema_version"}
    lists = {"bands": tuple(told["bands"]), "notes": tuple(told.get("notes", ()))}
    SurveyInfo(**{"extent": None, **known, **lists}).write(new / layout.SURVEY_TOML)
    yield Progress(n, n, "checking")
    _compare(old, new)
    ids = pq.read_table(new / layout.SUBJECTS, columns=["subject_id"]).column(0).to_numpy()
    return check(new) + ledger.check(new, told["survey_id"], ids)


def _files(folder: Path) -> Iterator[Path]:
    """Files and links; a linked folder, on another disk, is one link."""
    for below in sorted(folder.rglob("*")):
        if below.is_symlink() or not below.is_dir():
            yield below


def copy_file(source: Path, target: Path) -> None:
    """Copy a file with its times; a large one is linked where the file system can: nothing writes into it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    if source.stat().st_size >= LINKED_BYTES:
        with contextlib.suppress(OSError):
            target.hardlink_to(source)
            return
    shutil.copy2(source, target)


def copy_ledger(source: Path, target: Path) -> None:
    """Copy a ledger as of one moment, whoever has it open.

    Raises
    ------
    SurveyError
        It cannot be read.
    """
    try:
        with (
            contextlib.closing(sqlite3.connect(f"file:{_quoted(source)}?mode=ro", uri=True)) as old,
            contextlib.closing(sqlite3.connect(target)) as new,
        ):
            old.backup(new)
    except sqlite3.Error as error:
        raise SurveyError(f"{source} cannot be copied ({error}); put back a copy of it") from None


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(str(path))


def _subjects(old: Path, new: Path, told: dict[str, Any]) -> int:
    """Write subjects.parquet with the columns of schema 2; returns the number of rows."""
    with pq.ParquetFile(old / layout.SUBJECTS) as file:
        before = file.schema_arrow
        if before.names[: len(FIRST_COLUMNS)] != FIRST_COLUMNS:
            raise SurveyError(f"{old / layout.SUBJECTS} does not begin with the columns of schema 1; put back a copy")
        own: list[pa.Field] = []
        for field in list(before)[len(FIRST_COLUMNS) :]:
            name = field.name
            while name.lower() in SUBJECTS_SCHEMA.names or name in [f.name for f in own]:
                name += "_given"
            own.append(field.with_name(name))
        schema = pa.schema([*SUBJECTS_SCHEMA, *own])
        with (
            artifacts.replacing(new / layout.SUBJECTS) as handle,
            pq.ParquetWriter(handle, schema, compression="zstd") as writer,
        ):
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                places = _places(table, told)
                columns = [table.column(name) for name in FIRST_COLUMNS]
                columns += [
                    places.get(f.name, pa.nulls(len(table), f.type)) for f in list(SUBJECTS_SCHEMA)[len(columns) :]
                ]
                columns += table.columns[len(FIRST_COLUMNS) :]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=ROW_GROUP)
        n: int = file.metadata.num_rows
    return n


def _places(table: pa.Table, told: dict[str, Any]) -> dict[str, pa.Array]:
    """Where the network's crop lies in the original: a cut-out survey of schema 1 had it in columns of its own."""
    extent = told.get("extent")
    if told["crop"] != "center" or not isinstance(extent, int):
        return {}
    places = {"crop_side": pa.array(np.full(len(table), extent, np.int32))}
    if {"x", "y", "original_x", "original_y"} <= set(table.column_names):
        for name, axis in (("crop_left", "x"), ("crop_top", "y")):
            center, start = table.column(axis).to_pylist(), table.column(f"original_{axis}").to_pylist()
            found = [
                corner(c, extent) - int(s) if isinstance(c, float) and isinstance(s, float) else None
                for c, s in zip(center, start, strict=True)
            ]
            places[name] = pa.array(found, pa.int32())
    return places


def _digests(new: Path, n: int) -> Generator[Progress, None, None]:
    """Write digests.npy from the network's crops."""
    if not (new / layout.IMAGES).exists():
        return
    import zarr  # takes half a second

    try:
        images: Any = zarr.open_array(new / layout.IMAGES, mode="r")
        found = bytearray()
        for start in range(0, n, 1024):
            yield Progress(start, n, "comparing images")
            for crop in images[start : min(start + 1024, n)]:
                found += digest(crop)
    except (ValueError, TypeError, OSError, KeyError) as error:
        raise SurveyError(f"{new / layout.IMAGES} cannot be read ({str(error).splitlines()[0]})") from None
    artifacts.write_array(new / layout.DIGESTS, np.frombuffer(bytes(found), np.uint64).reshape(n, 2))


def _compare(old: Path, new: Path) -> None:
    """Refuse a copy that is not what it was made from."""
    with pq.ParquetFile(old / layout.SUBJECTS) as before, pq.ParquetFile(new / layout.SUBJECTS) as after:
        same = before.metadata.num_rows == after.metadata.num_rows
        extra = len(SUBJECTS_SCHEMA) - len(FIRST_COLUMNS)
        for i, name in enumerate(before.schema_arrow.names):
            j = i if i < len(FIRST_COLUMNS) else i + extra
            theirs = before.read([name]).column(0)
            ours = after.read([after.schema_arrow.names[j]]).column(0)
            same &= theirs.null_count == ours.null_count
            if pa.types.is_floating(theirs.type):  # NaN is NaN
                equal = pc.or_(pc.equal(theirs, ours), pc.and_(pc.is_nan(theirs), pc.is_nan(ours)))
            else:
                equal = pc.equal(theirs, ours)
            same &= pc.all(equal).as_py() is not False
    if not same:
        raise SurveyError(f"{new / layout.SUBJECTS} is not what it was copied from; is the disk sound?")


# -------------------------------------------------------------------------------------------------------------- swap
def swap(new: Path, path: Path, kept: Path) -> None:
    """Give `new` the name `path`, and what had it the name `kept`; where the system can, in one step."""
    if exchange(new, path):
        artifacts.fsync_directory(path.parent)
        new.rename(kept)
    else:
        path.rename(kept)
        new.rename(path)
    artifacts.fsync_directory(path.parent)


def exchange(first: Path, second: Path) -> bool:
    """Let two names change places in one step; False where the system cannot."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    at_cwd, exchanging = -100, 2
    if renameat2(at_cwd, os.fsencode(first), at_cwd, os.fsencode(second), exchanging) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):  # a file system that cannot
        return False
    raise OSError(code, os.strerror(code), str(second))
