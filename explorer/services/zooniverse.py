"""Subjects for a new project on Zooniverse: a folder of images, and manifests that name them.

::

    manifest.csv              a line a subject: its image, and the ids by which its classifications find back
    voorwerp-<id>.jpg         what people look at, at its own resolution
    left_out.csv              subjects whose image cannot be shown, and why; only where there are some
    export.json               what was exported; `explorer.services.panoptes` keeps beside it what it has uploaded

More than `MAX_SUBJECTS` become parts, part-1, part-2 …, each with a manifest of its own. No score, vote or place on a
map goes along, and nothing at all that volunteers see but the image: all columns begin with #, which hides them. The
limits are those of Zooniverse's project builder: images below 1,000 KB, and 10,000 subjects an account.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from explorer import __version__
from explorer.errors import SurveyError, UsageError
from explorer.ingest.matching import OWN_ID, OWN_SURVEY
from explorer.services.originals import Originals
from explorer.survey import Survey
from models.artifacts import now, replacing_folder, sha256_json
from models.progress import Progress

MANIFEST = "manifest.csv"
LEFT_OUT = "left_out.csv"
RECORD = "export.json"
IMAGE, SOURCE_ID = "#image", "#source_id"

MAX_BYTES = 1_000_000
MAX_SUBJECTS = 10_000
#: Images above this side are averaged down in any case.
LARGEST = 8_192
#: Images below this side are no images any more: what is too large even then is left out.
SMALLEST = 64
#: What the project builder takes for the name of a file, wherever it stands; and what a spreadsheet would run.
_MISREAD = re.compile(r"\.(jpe?g|png|gif|svg|mp3|mp4|m4a|mpeg|txt|json)|^[=+\-@\t\r]", re.IGNORECASE)


def export_subjects(
    survey: Survey, rows: np.ndarray, folder: Path, longest: int | None = None
) -> Generator[Progress, None, dict[str, Any]]:
    """Write images and manifests of subjects into `folder`, whole or not at all.

    Parameters
    ----------
    rows
        int64 (n,), in the survey.
    longest
        Images are averaged down to sides of so many px at most; None leaves them as they are. Nothing is enlarged.

    Returns
    -------
    dict
        The content of ``export.json``, and ``is_new``: False where the folder holds the same export already.

    Raises
    ------
    UsageError
        No subjects, no images to look at, a size that is none, or a folder of something else.
    SurveyError
        Not one of the images can be shown.
    """
    folder = Path(folder)
    if not len(rows):
        raise UsageError("there is no subject to export: nothing is selected")
    if survey.info.originals == "none":
        raise UsageError(f"{survey.path} has no images that volunteers could look at")
    if longest is not None and longest < SMALLEST:
        raise UsageError(f"images of {longest} px show nothing; --size {SMALLEST} is the least")
    ids = [str(i) for i in survey.subject_ids[rows].tolist()]
    asked = {"survey_id": survey.info.survey_id, "subjects": sha256_json(ids), "longest": longest}
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        record = read_record(folder)
        if {name: record.get(name) for name in asked} != asked:
            raise UsageError(f"{folder} holds another export; name a new folder")
        return record | {"is_new": False}
    sources = survey.source_ids(rows)
    with_sources = not any(_MISREAD.search(source) for source in sources)
    originals = Originals(survey)
    lines: list[dict[str, str]] = []
    left_out: list[tuple[str, str, str]] = []
    parts: list[str] = []
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing_folder(folder) as temporary:
            several = len(rows) > MAX_SUBJECTS
            for k, row in enumerate(rows.tolist()):
                yield Progress(k, len(rows), "writing images")
                part = f"part-{len(parts) + 1}" if several else ""
                try:
                    image = _image(originals, row, longest or LARGEST)
                except SurveyError as error:
                    left_out.append((ids[k], sources[k], str(error)))
                else:
                    name = f"voorwerp-{ids[k]}.jpg"
                    (temporary / part).mkdir(exist_ok=True)
                    (temporary / part / name).write_bytes(image)
                    told = {IMAGE: name, OWN_ID: ids[k], OWN_SURVEY: survey.info.survey_id}
                    lines.append(told | ({SOURCE_ID: sources[k]} if with_sources else {}))
                if lines and (len(lines) == MAX_SUBJECTS or k == len(rows) - 1):
                    (temporary / part / MANIFEST).write_bytes(
                        _csv([list(lines[0]), *(list(x.values()) for x in lines)])
                    )
                    parts.append(part)
                    lines = []
            if not parts:
                raise SurveyError(f"none of {len(rows):,} images can be exported; the first: {left_out[0][2]}")
            if left_out:
                (temporary / LEFT_OUT).write_bytes(_csv([["subject_id", "source_id", "reason"], *left_out]))
            record = asked | {
                "parts": parts,
                "n_subjects": len(rows) - len(left_out),
                "n_left_out": len(left_out),
                "has_source_ids": with_sources,
                "voorwerp_version": __version__,
                "exported_at": now(),
            }
            (temporary / RECORD).write_text(json.dumps(record, indent=2) + "\n")
    finally:
        originals.close()
    return record | {"is_new": True}


def read_record(folder: Path) -> dict[str, Any]:
    """The content of ``export.json``.

    Raises
    ------
    UsageError
        The folder is no export of ours.
    """
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text())
        if isinstance(record, dict) and isinstance(record["parts"], list):
            return record
    except (OSError, ValueError, KeyError):
        pass
    raise UsageError(f"{folder} is there already, and is no export for Zooniverse; name a new folder")


def read_manifests(folder: Path) -> list[tuple[Path, dict[str, str]]]:
    """Every image of an export and its metadata, in order.

    Raises
    ------
    UsageError
        A manifest is missing or is not what was written.
    """
    found = []
    for part in read_record(folder)["parts"]:
        path = folder / part / MANIFEST
        try:
            with path.open(newline="", encoding="utf-8") as file:
                found += [(folder / part / line[IMAGE], dict(line)) for line in csv.DictReader(file)]
        except (OSError, KeyError, ValueError, TypeError):
            raise UsageError(f"{path} is not the manifest that was exported; export it again") from None
    return found


def _image(originals: Originals, row: int, longest: int) -> bytes:
    """A row's original as JPEG of at most `MAX_BYTES`: smaller, where it would have more."""
    while longest >= SMALLEST:
        content, width, height = originals.shown(row, longest)
        if len(content) <= MAX_BYTES:
            return content
        longest = int(min(longest, max(width, height)) * min(0.9, (MAX_BYTES / len(content)) ** 0.5))
    raise SurveyError(f"its image has more than {MAX_BYTES:,} bytes at any size")


def _csv(lines: list[Any]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue().encode()
