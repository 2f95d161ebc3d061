"""`check --deep`: every pixel of a survey against what says that it is as it was written."""

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from explorer import survey as layout
from explorer.ingest.decoder import Decoders, damage
from explorer.survey import Survey
from models.images import ImageError, digest
from models.progress import Progress

#: Subjects that are named of each kind of problem, and originals that are looked at in one call.
NAMED, BLOCK = 5, 64


def verify(path: Path | str, workers: int = 1) -> Generator[Progress, None, dict[str, Any]]:
    """Read every crop and every original that is kept; `explorer.survey.check` has found no problem before.

    Crops are compared with digests.npy. Originals are opened as far as it takes to see damage, in a process of their
    own: see `explorer.ingest.decoder.damage`.

    Yields
    ------
    Progress
        In crops and originals.

    Returns
    -------
    dict
        problems: one sentence each, which names the first `NAMED` subjects by row and id.
    """
    survey = Survey.open(path)
    try:
        n = survey.n if survey.has_images else 0
        keeps = n > 0 and survey.info.originals == "keep"
        total = n * (1 + keeps)
        crops: dict[int, str] = {}
        originals: dict[int, str] = {}
        if n:
            written = np.load(survey.path / layout.DIGESTS, allow_pickle=False)[:n]
            per_shard = (survey.images.shards or survey.images.chunks)[0]
            for start in range(0, n, per_shard):
                crops |= _crops(survey, start, written[start : start + per_shard])
                yield Progress(min(start + per_shard, n), total, "reading crops")
        if keeps:
            with Decoders(survey.info.cut, workers) as decoders:
                for start in range(0, n, BLOCK):
                    stop = min(start + BLOCK, n)
                    contents = [survey.original(row)[0] for row in range(start, stop)]
                    found = _asked(decoders, contents)
                    originals |= {start + i: reason for i, reason in enumerate(found) if reason is not None}
                    yield Progress(n + stop, total, "reading originals")
        problems = _said(survey, layout.IMAGES, "crops", crops)
        problems += _said(survey, layout.ORIGINALS, "originals", originals)
        return {"problems": problems}
    finally:
        survey.close()


def _crops(survey: Survey, start: int, written: np.ndarray) -> dict[int, str]:
    """Row → what is wrong with its crop, of one shard; `written` holds the shard's digests."""
    try:
        images = np.asarray(survey.images[start : start + len(written)])
    except Exception as error:  # zarr's codecs raise many kinds on broken bytes
        return dict.fromkeys(range(start, start + len(written)), f"cannot be read ({str(error).splitlines()[0]})")
    found = np.frombuffer(b"".join(map(digest, images)), np.uint64).reshape(-1, 2)
    odd = np.flatnonzero((found != written).any(axis=1))
    return dict.fromkeys((start + odd).tolist(), "is not what was written")


def _asked(decoders: Decoders, contents: Sequence[bytes]) -> list[str | None]:
    """`damage` of each; where one ends the process, they are looked at one by one."""
    try:
        found: list[str | None] = decoders.call(damage, contents)
    except ImageError as error:
        if len(contents) == 1:
            return [str(error)]
        return [reason for content in contents for reason in _asked(decoders, [content])]
    return found


def _said(survey: Survey, name: str, things: str, bad: dict[int, str]) -> list[str]:
    if not bad:
        return []
    rows = list(bad)[:NAMED]
    first = [f"row {row} (id {id_}) {bad[row]}" for row, id_ in zip(rows, survey.source_ids(rows), strict=True)]
    more = f"; and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
    said = f"{len(bad):,} of {survey.n:,} {things} are damaged: {'; '.join(first)}{more}"
    return [f"{survey.path / name}: {said}; put back a copy"]
