"""Subjects from large images: sources are found, and each is cut out with its surroundings.

The network's crop is `extent` px around the source; what people look at is `CONTEXT` times as wide, at the image's
own resolution. Where the crop leaves the image, the median of the part inside is filled in and ``edge_fraction`` is
above 0; the wider cut ends at the image's edge.
"""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from explorer.errors import IngestError, UsageError
from explorer.ingest.build import CHUNK, LISTING, LISTING_SCHEMA, Build, full_disk_said
from explorer.ingest.decoder import Decoders, Item, has_color
from explorer.ingest.detection import COLUMNS, detect
from explorer.ingest.images import CreateOptions
from models import artifacts
from models.images import ImageError, corner
from models.progress import Progress

#: Side of the cut that people look at, in extents.
CONTEXT = 3
#: The default extent: this many times the median semi-major axis, so that a usual source has sky around it.
EXTENT_IN_SEMI_MAJORS = 14
DETECTION_LIMIT_S = 600.0


@dataclass(frozen=True, slots=True)
class CutOutOptions:
    """What `create_cut_outs` may be told.

    Attributes
    ----------
    size
        Side of the network's crop, px.
    extent
        Side of the square cut around each source, px of the image; None takes `EXTENT_IN_SEMI_MAJORS` times the median
        semi-major axis of the sources found, rounded to even, at least 16.
    name
        The survey's name; None takes the folder's.
    """

    size: int = 64
    extent: int | None = None
    name: str | None = None


def create_cut_outs(
    path: Path | str, images: Sequence[Path | str], options: CutOutOptions | None = None
) -> Generator[Progress, None, dict[str, Any]]:
    """Make a survey folder from the sources of large images. Run again after an interruption, it goes on where it was.

    Yields
    ------
    Progress
        In sources.

    Returns
    -------
    dict
        See `explorer.ingest.build.Build.totals`.

    Raises
    ------
    UsageError
        An option that is not possible.
    IngestError
        An image that cannot be read or has no source, a folder that is in use, a full disk.
    """
    options = options or CutOutOptions()
    crop = CreateOptions(size=options.size, extent=options.extent).check()
    path = Path(path)
    places = [Path(image).absolute() for image in images]
    if len({place.stem for place in places}) != len(places):
        raise UsageError("two of the images have the same name; the names of their sources would be the same, too")
    told = {"cut_outs": [str(p) for p in places], **asdict(options)}
    with full_disk_said(path), Build(path, told, crop) as build:
        if not build.is_finished:
            with Decoders(crop) as decoders:
                if build.plan is None:
                    yield Progress(0, 0, "finding sources")
                    build.write_plan(_find(build.parts, places, options, decoders))
                assert build.plan is not None
                n, extent = build.plan["n"], build.plan["extent"]
                build.crop = decoders.crop = replace(crop, extent=extent, n_bands=len(build.plan["bands"]))
                for rows, decoded in decoders.decode(
                    _blocks(build.parts / LISTING, build.next_index, CONTEXT * extent)
                ):
                    build.keep(rows, decoded)
                    metrics = {"accepted": float(build.n_accepted), "quarantined": float(build.n_refused)}
                    yield Progress(build.next_index, n, "cutting out", metrics)
            build.end_images()
            if build.n_accepted == 0:
                raise build.nothing_left()
            yield Progress(n, n, "joining")
            build.finish(options.name or path.absolute().name, cut_out_extent=extent)
        build.remove_parts()
    return build.totals()


def _find(parts: Path, images: list[Path], options: CutOutOptions, decoders: Decoders) -> dict[str, Any]:
    """Write the listing of every source; returns the plan: n, integer_ids, bands, extent."""
    found = []
    color = False
    for image in images:
        try:
            found.append(decoders.call(detect, image, seconds=DETECTION_LIMIT_S))
            color |= decoders.call(has_color, str(image))
        except ImageError as error:
            raise IngestError(f"{image} cannot be cut out: {error}") from None
        except OSError as error:
            raise IngestError(f"{image} cannot be read ({error.strerror or error})") from None
    sources = {name: np.concatenate([columns[name] for columns in found]) for name in COLUMNS}
    counts = [len(columns["x"]) for columns in found]
    extent = options.extent
    if extent is None:
        extent = max(16, 2 * round(EXTENT_IN_SEMI_MAJORS * float(np.median(sources["semi_major"])) / 2))
    sources["original_x"] = np.array([max(0, corner(x, CONTEXT * extent)) for x in sources["x"]], np.float64)
    sources["original_y"] = np.array([max(0, corner(y, CONTEXT * extent)) for y in sources["y"]], np.float64)
    n = sum(counts)
    listed: dict[str, Any] = {
        "index": np.arange(n),
        "source_id": [
            f"{image.stem}_{i:05d}" for image, count in zip(images, counts, strict=True) for i in range(count)
        ],
        "image": [image.name for image, count in zip(images, counts, strict=True) for _ in range(count)],
        "paths": [[str(image)] for image, count in zip(images, counts, strict=True) for _ in range(count)],
    }
    units = {**COLUMNS, "original_x": "px", "original_y": "px"}
    fields = list(LISTING_SCHEMA)
    arrays = [pa.array(listed[f.name], f.type) if f.name in listed else pa.nulls(n, f.type) for f in fields]
    for k, (name, unit) in enumerate(units.items()):
        metadata = {"name": name, "kind": "number", **({"unit": unit} if unit else {})}
        fields.append(pa.field(f"c{k}", pa.float64(), metadata=metadata))
        arrays.append(pa.array(sources[name]))
    artifacts.write_table(parts / LISTING, pa.table(arrays, schema=pa.schema(fields)))
    return {"n": n, "integer_ids": False, "bands": ["r", "g", "b"] if color else ["grey"], "extent": extent}


def _blocks(listing: Path, start: int, context: int) -> Iterator[tuple[list[dict[str, Any]], list[Item]]]:
    """Blocks of listed sources from index `start` on."""
    with pq.ParquetFile(listing) as file:
        schema = file.schema_arrow
        alias = {f.metadata[b"name"]: f.name for f in schema if f.metadata and b"name" in f.metadata}
        x, y = alias[b"x"], alias[b"y"]
        for batch in file.iter_batches(CHUNK, columns=["index", "source_id", "image", "paths", "member", x, y]):
            rows = [row for row in batch.to_pylist() if row["index"] >= start]
            if rows:
                yield rows, [Item((row["paths"][0],), None, row[x], row[y], context) for row in rows]
