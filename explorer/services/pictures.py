"""Small pictures by the pack: many subjects in one answer. Callable from a script; thread-safe."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Literal

import numpy as np
import orjson

from explorer.errors import UsageError
from explorer.services.explore import Explore
from explorer.services.films import Film
from explorer.services.inference import Inference
from explorer.services.originals import png
from explorer.survey import Survey

#: What a subject can be shown as.
Kind = Literal["original", "crop", "reconstruction", "residual"]
KINDS: tuple[Kind, ...] = ("original", "crop", "reconstruction", "residual")


def reconstructs(explore: Explore, run_id: str) -> bool:
    """Whether a network stands behind a score run."""
    run = explore.runs().get(run_id)
    return run is not None and "train" in run.inputs


def pack(survey: Survey, rows: np.ndarray, contents: list[bytes]) -> bytes:
    """Pictures of rows in one answer, all integers little-endian.

    uint32 n, uint32 row × n, uint32 length × (n + 1), then the source ids as a JSON list, then the pictures; an empty
    one for each where `contents` is empty.
    """
    rows = np.asarray(rows, "<u4")
    parts = [orjson.dumps(survey.source_ids(rows)), *(contents or [b""] * len(rows))]
    lengths = np.array([len(part) for part in parts], "<u4")
    return b"".join([struct.pack("<I", len(rows)), rows.tobytes(), lengths.tobytes(), *parts])


def page(survey: Survey, rows: np.ndarray, shown: Sequence[Film], more: Mapping[str, Any] | None = None) -> bytes:
    """A page of the gallery in one answer: uint32 length (little-endian) of a JSON head, the head, then the films.

    The head has `rows`, their source ids as `names`, of each film ``[at, width, height, pitch, bytes]``, and `more`.
    """
    told = {
        "rows": rows.tolist(),
        "names": survey.source_ids(rows),
        "films": [(film.at, film.width, film.height, film.pitch, len(film.content)) for film in shown],
        **(more or {}),
    }
    head = orjson.dumps(told)
    return b"".join([struct.pack("<I", len(head)), head, *(film.content for film in shown)])


def crops(survey: Survey, rows: np.ndarray) -> np.ndarray:
    """The network's crops of rows, uint8 (n, H, W, C): every chunk that holds some is read once.

    Raises
    ------
    UsageError
        The survey has no images.
    """
    images = survey.images
    if images is None:
        raise UsageError("this survey has no images")
    rows = np.asarray(rows, np.int64)
    found = np.empty((len(rows), *images.shape[1:]), np.uint8)
    chunk = rows // images.chunks[0]
    for number in np.unique(chunk):
        here = np.flatnonzero(chunk == number)
        first = rows[here].min()
        found[here] = np.asarray(images[first : rows[here].max() + 1])[rows[here] - first]
    return found


def crop_pictures(survey: Survey, rows: np.ndarray) -> list[bytes]:
    """The crops as PNG."""
    return [png(crop, survey.info.rgb) for crop in crops(survey, rows)]


def crop_films(survey: Survey, rows: np.ndarray) -> list[Film]:
    """The crops as one PNG, one below the other."""
    return _as_film(crops(survey, rows), survey.info.rgb)


def _as_film(pictures: np.ndarray, rgb: tuple[int, int, int]) -> list[Film]:
    """Pictures uint8 (n, H, W, bands) of a network: without loss, for their pixels are looked at."""
    if not len(pictures):
        return []
    n, height, width, bands = pictures.shape
    content = png(pictures.reshape(n * height, width, bands), rgb)
    return [Film(tuple(range(n)), width, height, height, content)]


def asked(inference: Inference, explore: Explore, rows: np.ndarray, run_id: str) -> list[Future[list[np.ndarray]]]:
    """Ask a run's network for reconstructions: futures of batches, which may be cancelled.

    Raises
    ------
    UsageError
        The run has no network.
    """
    if not reconstructs(explore, run_id):
        raise UsageError("this run has no model that reconstructs; choose another under Scores")
    return inference.reconstruct_many(run_id, rows.tolist())


def model_films(survey: Survey, rows: np.ndarray, made: Iterable[np.ndarray], residual: bool) -> list[Film]:
    """Reconstructions as one PNG, or the absolute difference of each to its crop in the same 8-bit values."""
    if not len(rows):
        return []
    pictures = np.stack(list(made))
    if residual:
        pictures = np.abs(crops(survey, rows).astype(np.int16) - pictures).astype(np.uint8)
    return _as_film(pictures, survey.info.rgb)
