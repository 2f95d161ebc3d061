"""Thumbnails of a survey, made again where they are missing or damaged. `create` makes them; this is the repair.

Callable from a script. A file of many is replaced as a whole, so that a server may run meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from explorer.errors import SurveyError
from explorer.ingest.build import SHARD
from explorer.services.originals import Originals
from explorer.services.pictures import crops
from explorer.survey import ORIGINALS, THUMBNAILS, Pack, Survey
from models import artifacts
from models.images import THUMBNAIL_SIDE, thumbnail

#: Crops that are read at once.
BLOCK = 256


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows `first` … `stop` - 1, of which file `number` holds the thumbnails; `reason` says what is wrong with it."""

    number: int
    first: int
    stop: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Remade:
    """What became of a repair: thumbnails made of originals, and of the network's crops where there was no original."""

    of_originals: int
    of_crops: int


def shards(survey: Survey) -> list[Shard]:
    """Every file of thumbnails that the survey should have, and what is wrong with it.

    Raises
    ------
    SurveyError
        The survey has no images, or nothing says any more which rows a file held.
    """
    if survey.images is None:
        raise SurveyError(f"{survey.path} has no images, so it has no thumbnails")
    found, first = [], 0
    for number, n in enumerate(_sizes(survey)):
        stop = min(first + n, survey.n)
        if stop > first or not n:
            reason = _reason(survey.path / THUMBNAILS / f"{number:05d}.pack", n, stop - first)
            found.append(Shard(number, first, first + n, reason))
        first += n
    if first < survey.n:
        raise SurveyError(f"{survey.path / ORIGINALS} ends before row {first:,}: nothing says which file it is in")
    return found


def _sizes(survey: Survey) -> list[int]:
    """Rows of each file: as of the originals, which were written along with them; else as the tables say that are."""
    for folder in (ORIGINALS, THUMBNAILS):
        tables = sorted((survey.path / folder).glob("*.npy"))
        if tables and tables[-1].stem == f"{len(tables) - 1:05d}":
            try:
                sizes = [len(Pack.offsets(path)) - 1 for path in tables]
            except SurveyError:
                continue
            if sum(sizes) >= survey.n:
                return sizes
    if any((survey.path / THUMBNAILS).glob("*.pack")):
        raise SurveyError(
            f"{survey.path / THUMBNAILS} has files without tables, and nothing says which rows they held; "
            "move that folder away, and all are made anew"
        )
    return [min(SHARD, survey.n - first) for first in range(0, survey.n, SHARD)]


def _reason(path: Path, n: int, n_subjects: int) -> str:
    """What is wrong with a file of `n` thumbnails, the first `n_subjects` of which are wanted; "" for nothing."""
    try:
        offsets = Pack.offsets(path.with_suffix(".npy"))
    except SurveyError:
        return "its table cannot be read"
    if len(offsets) != n + 1 or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        return "its table is wrong"
    if not path.is_file():
        return "it is missing"
    content = path.read_bytes()
    if len(content) != offsets[-1]:
        return f"it has {len(content):,} bytes, its table says {offsets[-1]:,}"
    for start, stop in zip(offsets[:n_subjects].tolist(), offsets[1:].tolist(), strict=False):
        if content[start : start + 3] != b"\xff\xd8\xff" or content[stop - 2 : stop] != b"\xff\xd9":
            return "a picture in it is no JPEG"
    return ""


def remake(survey: Survey, wanted: list[Shard], progress: Callable[[float], None] = lambda share: None) -> Remade:
    """Make the thumbnails of some files anew: of the originals, else of the network's crops.

    Raises
    ------
    SurveyError
        A crop cannot be read either, or another command writes to the survey.
    """
    total, done, of_originals = sum(s.stop - s.first for s in wanted), 0, 0
    (survey.path / THUMBNAILS).mkdir(exist_ok=True)
    originals = Originals(survey)
    try:
        with survey.lock():
            for shard in wanted:
                made = []
                for picture, is_original in _made(survey, originals, shard):
                    made.append(picture)
                    of_originals += is_original
                    done += 1
                    progress(done / total)
                _write(survey.path / THUMBNAILS / f"{shard.number:05d}.pack", made)
    finally:
        originals.close()
    return Remade(of_originals, total - of_originals)


def _made(survey: Survey, originals: Originals, shard: Shard) -> Iterator[tuple[bytes, bool]]:
    """The thumbnail of each row of a file, and whether it is one of the original."""
    for first in range(shard.first, shard.stop, BLOCK):
        rows = np.arange(first, min(first + BLOCK, shard.stop))
        cut = None
        for row in rows.tolist():
            if row >= survey.n:  # what an `add` that was stopped has left: no subject
                yield b"", False
                continue
            try:
                yield originals.shown(row, THUMBNAIL_SIDE)[0], True
                continue
            except SurveyError:
                cut = crops(survey, rows[rows < survey.n]) if cut is None else cut
            crop = cut[row - first]
            shown = crop[..., 0] if crop.shape[-1] == 1 else crop[..., list(survey.info.rgb)]
            yield thumbnail(Image.fromarray(np.ascontiguousarray(shown))), False


def _write(path: Path, pictures: list[bytes]) -> None:
    """A file and its table, each whole or not there; the table last, as it makes the file count."""
    offsets = np.concatenate([[0], np.cumsum([len(p) for p in pictures], dtype=np.int64)]).astype(np.int64)
    for to in (path, path.with_suffix(".npy")):
        working = to.with_name(f"{to.name}.working")
        with working.open("wb") as file:
            if to.suffix == ".npy":
                np.save(file, offsets, allow_pickle=False)
            else:
                file.write(b"".join(pictures))
            file.flush()
            os.fsync(file.fileno())
        working.replace(to)
        artifacts.fsync_directory(path.parent)
