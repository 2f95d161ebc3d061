"""Planted sources as subjects of the survey: for volunteers to train on, and as known objects; flagged for ever.

They are added as any image is (`explorer.ingest.add`), with columns that say what was planted into whom:
``injected_kind``, ``injected_flux``, ``injected_size``, ``injected_unit`` and ``injected_host``, the host's id as text.
A subject with an ``injected_kind`` is none of the sky's. They are flagged as known objects, and are in neither half.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tifffile
from PIL import Image

from explorer.errors import IngestError, UsageError
from explorer.ingest.add import AddOptions, add
from explorer.ingest.calibration import how_made
from explorer.ingest.decoder import Decoders
from explorer.ingest.images import BLOCK
from explorer.ingest.join import KNOWN, rewrite
from explorer.services.injecting import CROPS, Host, Hosts, Planted, copies
from explorer.survey import PLANTED, SUBJECTS_SCHEMA, Survey
from models import artifacts
from models.images import write_linear
from models.progress import Progress

FILES, TABLE = "images", "subjects.parquet"
FLUX, SIZE, UNIT, HOST = (f"injected_{name}" for name in ("flux", "size", "unit", "host"))
#: Integer ids of what is planted are above all that catalogues give: SDSS's begin with 1.2 × 10¹⁸.
FIRST_ID = 9 * 10**18
_MOST = 10**5


def identified(survey: Survey, planted: Planted) -> list[str]:
    """Ids of what was planted, in order, without the hosts; the same plan has the same.

    Raises
    ------
    UsageError
        There is more than ids are kept for.
    """
    n = planted.table.num_rows - planted.n_hosts
    digest = hashlib.sha256(json.dumps([planted.plan.told(), survey.info.survey_id], sort_keys=True).encode())
    if not pc.all(pc.equal(survey.ids_as_text(), pa.array(survey.subject_ids).cast(pa.string()))).as_py():
        return [f"planted-{planted.plan.kind}-{digest.hexdigest()[:10]}-{i:05d}" for i in range(n)]
    if n >= _MOST:
        raise UsageError(f"{n:,} planted sources are more than can be added at once; plant fewer")
    first = FIRST_ID + int(digest.hexdigest()[:15], 16) % (2 * 10**12) * _MOST
    return [str(first + i) for i in range(n)]


def write_files(survey: Survey, planted: Planted) -> Generator[Progress, None, pa.Table]:
    """Write the planted images as files, and a table of them that `add` takes; what is there is written anew.

    Raises
    ------
    IngestError
        A host has changed since it was planted into.
    """
    plan, table, folder = planted.plan, planted.table, planted.folder / FILES
    folder.mkdir(exist_ok=True)
    ids = identified(survey, planted)
    crops = np.load(planted.folder / CROPS, mmap_mode="r", allow_pickle=False)
    records: list[dict[str, Any]] = []
    hosts = table.column("host_row").to_pylist()[: planted.n_hosts]
    with Hosts(survey) as reader:
        for row in hosts:
            yield Progress(len(records), len(ids), "writing images")
            host = reader.read(row)
            about = survey.subject(row)
            for record, values, crop in list(copies(reader, host, plan))[1:]:
                i = len(records)
                if not np.array_equal(crop, crops[planted.n_hosts + i]):
                    raise IngestError(f"host {record['host']} is not what it was when it was planted into; plant anew")
                path = _write(folder / ids[i], host, values, survey)
                told = {"id": ids[i], "path": str(path.absolute()), PLANTED: plan.kind, FLUX: record["flux"]}
                unit = f"flux: {plan.unit}; size: {plan.sizes[0].unit}"
                told |= {SIZE: record["size"], UNIT: unit, HOST: record["host"]}
                records.append(told | {"ra": about["ra"], "dec": about["dec"]})
    fields = [("id", pa.string()), ("path", pa.string()), (PLANTED, pa.string()), (FLUX, pa.float64())]
    fields += [(SIZE, pa.float64()), (UNIT, pa.string()), (HOST, pa.string())]
    if any(record["ra"] is not None for record in records):
        fields += [("ra", pa.float64()), ("dec", pa.float64())]  # the same sky as the host's: in one half with it
    made = pa.Table.from_pylist(records, pa.schema(fields))
    artifacts.write_table(planted.folder / TABLE, made)
    return made


def _write(stem: Path, host: Host, values: np.ndarray, survey: Survey) -> Path:
    """One image in a file that is read as its host's was: the same kind of values, none lost."""
    linear = host.linear
    if linear.top is None:
        path = stem.with_name(f"{stem.name}.fits.gz")
        artifacts.write_bytes(path, write_linear(replace(linear, values=values), survey.info.bands))
        return path
    dtype = {255.0: np.uint8, 65535.0: np.uint16}.get(linear.top, np.float32)
    pixels = np.ascontiguousarray(values.astype(dtype))
    is_grey = pixels.shape[2] == 1 or (dtype != np.uint8 and bool((pixels == pixels[:, :, :1]).all()))
    if host.is_stacked:
        path = stem.with_name(f"{stem.name}.npy")
        artifacts.write_array(path, pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    elif is_grey or dtype == np.uint8:
        path = stem.with_name(f"{stem.name}.{'tif' if dtype == np.float32 else 'png'}")
        Image.fromarray(pixels[:, :, 0] if is_grey else pixels).save(path)
    else:
        path = stem.with_name(f"{stem.name}.tif")
        tifffile.imwrite(path, pixels, photometric="rgb")
    return path


def add_planted(survey: Survey, planted: Planted) -> Generator[Progress, None, dict[str, Any]]:
    """Add what was planted to the survey, flagged as known. Stopped at any moment, the same call goes on.

    Returns
    -------
    dict
        n (planted), n_added, n_there (from before), n_flagged.

    Raises
    ------
    UsageError
        A survey of cut-outs, which cannot be added to yet.
    IngestError
        The network would not see of the files what was scored; nothing was added.
    """
    info = survey.info
    if info.reading.get("is_cut_out"):
        raise UsageError(
            f"{survey.path} was made with --cut-out, and nothing can be added to such a survey yet; leave out --add"
        )
    ids = identified(survey, planted)
    there = pc.is_in(pa.array(ids), value_set=survey.ids_as_text()).to_numpy(zero_copy_only=False)
    crop, reading = how_made(info)
    picks = tuple(f"{band}={i}" for i, band in enumerate(info.bands)) if reading.picks else ()
    hdu = "0" if reading.hdu else None
    if not there.all():
        table = yield from write_files(survey, planted)
        files = table.column("path").to_pylist()
        crops = np.load(planted.folder / CROPS, mmap_mode="r", allow_pickle=False)[planted.n_hosts :]
        own = replace(reading, hdu=hdu, picks=tuple(str(i) for i in range(len(info.bands))) if picks else ())
        n_unlike = 0
        with Decoders(crop, 1, reading=own) as decoders:
            blocks = [(start, files[start : start + BLOCK]) for start in range(0, len(files), BLOCK)]
            for start, decoded in decoders.decode(iter(blocks)):
                yield Progress(start, len(files), "checking")
                same = (decoded.crops == crops[start : start + BLOCK][decoded.good]).all(axis=(1, 2, 3))
                n_unlike += len(files[start : start + BLOCK]) - int(same.sum())
        if n_unlike:
            raise IngestError(
                f"of {n_unlike:,} of {len(files):,} planted images the network would see something else than what was "
                "scored, because of how this survey's files are read; nothing was added"
            )
    options = AddOptions("path", "id", bands=picks, hdu=hdu)
    totals = yield from add(survey.path, [planted.folder / TABLE], options)
    n_flagged = _flag(survey.path, ids)
    return {
        "n": len(ids),
        "n_added": totals.get("n_added", 0),
        "n_there": totals.get("n_there", 0),
        "n_flagged": n_flagged,
    }


def _flag(path: Path, ids: list[str]) -> int:
    """Flag what was planted as known, and take it out of both halves, so that no rate counts it; how many there are."""
    survey = Survey.open(path)
    try:
        with survey.lock():
            survey.refresh()
            chosen = pc.is_in(survey.ids_as_text(), value_set=pa.array(ids))
            values = {KNOWN: pa.scalar(True), "half": pa.scalar(None, pa.string())}
            new = {name: pc.if_else(chosen, value, survey.arrow(name)) for name, value in values.items()}
            rewrite(survey, {n: (SUBJECTS_SCHEMA.field(n), pa.chunked_array([v])) for n, v in new.items()})
            return int(pc.sum(chosen).as_py() or 0)
    finally:
        survey.close()
