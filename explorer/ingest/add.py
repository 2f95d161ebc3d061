"""`add`: new subjects after those that a survey has, prepared alike. Nothing is reordered, removed or written into.

The work lies in parts/ as that of `create` does, and is taken up again by the same command. Shards of images grow under
temporary names; the survey's last one is made anew, its old images first. subjects.parquet is written last and is the
commit: until then the survey is the old one, whole, and what lies beyond its rows does not count.
"""

import itertools
import json
import os
import shutil
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from explorer import survey as layout
from explorer.errors import IngestError, SurveyError, UsageError
from explorer.ingest import groups
from explorer.ingest.build import (
    CHUNK,
    COMMAND_JSON,
    LISTING,
    PLAN_JSON,
    TABLE_COLUMNS,
    Base,
    Build,
    differing,
    full_disk_said,
    integers_of,
    regrouped,
    write_contact_sheet,
    write_subjects,
)
from explorer.ingest.calibration import how_read
from explorer.ingest.decoder import Decoded, Decoders
from explorer.ingest.images import CreateOptions, blocks, list_images
from explorer.ingest.report import write_report
from explorer.ingest.tables import subjects_of
from explorer.survey import ROW_GROUP, SUBJECTS_SCHEMA, Pack, Survey, SurveyInfo
from models import artifacts
from models.progress import Progress


@dataclass(frozen=True, slots=True)
class AddOptions:
    """What `add` may be told; the rest is as the survey was made.

    Attributes
    ----------
    path_column, id_column, bands, hdu, dataset, workers
        See `explorer.ingest.images.CreateOptions`; left out, files are read as `create` was told to.
    """

    path_column: str | None = None
    id_column: str | None = None
    bands: tuple[str, ...] = ()
    hdu: str | None = None
    dataset: str | None = None
    workers: int | None = None


def add(
    path: Path | str, sources: Sequence[Path | str], options: AddOptions | None = None
) -> Generator[Progress, None, dict[str, Any]]:
    """Add subjects to a survey. Run again after an interruption, it goes on where it was.

    Subjects whose id the survey has are passed over, even where their file is another one now: what is there stays.
    Where ids are integers, an image with another id goes to quarantine, and a table with one is refused.

    Parameters
    ----------
    path
        The survey folder.
    sources
        As for `explorer.ingest.images.create`; for a survey without images one table.

    Yields
    ------
    Progress
        In images.

    Returns
    -------
    dict
        See `explorer.ingest.build.Build.totals`; and n_added, n_refused (of these sources), n_there (passed over: the
        survey has their ids), n_joined (added subjects that show what one from before shows), n_twins (others that
        show what another added one shows).

    Raises
    ------
    UsageError
        An option that is not possible, or does not fit the survey.
    IngestError
        No image, columns of another type, a table's ids of another kind, a full disk.
    SurveyError
        No survey, a damaged one, or one that another command writes to.
    """
    path, options = Path(path), options or AddOptions()
    survey = Survey.open(path)
    try:
        if not sources:
            raise UsageError("there is nothing to add; name folders, manifests or images")
        if survey.info.originals == "none" and survey.has_images:
            raise UsageError(f"{path} is a copy without originals; add to the survey that it was packed from")
        if survey.info.reading.get("is_cut_out"):
            raise UsageError(
                f"{path} was made with --cut-out, and adding cut-outs is not possible yet; create a survey of its own "
                "from the new mosaic"
            )
        if survey.info.crop == "none":
            return (yield from _add_rows(survey, sources, options))
        return (yield from _add_images(survey, [Path(source).absolute() for source in sources], options))
    finally:
        survey.close()


# ------------------------------------------------------------------------------------------------------------ images
def _add_images(survey: Survey, places: list[Path], options: AddOptions) -> Generator[Progress, None, dict[str, Any]]:
    info, told = survey.info, _as_created(survey, options)
    command = {"add": [str(p) for p in places], **told.told()}
    with full_disk_said(survey.path), Addition(survey, command, told.originals) as build:
        if not build.is_finished:
            with Decoders(info.cut, options.workers) as decoders:
                if build.plan is None:
                    yield Progress(0, 0, "listing images")
                    listed = build.without_those_there(list_images(build.parts, places, told, decoders))
                    if not listed["n"]:
                        return {**build.totals(), "n_there": listed["n_there"]}
                    build.write_plan({**listed, **_plan_of(info, told), **build.fitted(listed)})
                assert build.plan is not None
                roots = [str(p) for p in places if p.is_dir()]
                build.crop, decoders.reading = how_read(build.plan, info.cut, told.originals, roots)
                decoders.crop = build.crop
                yield from build.take(decoders.decode(blocks(build.parts / LISTING, build.next_index)), "decoding")
            yield from build.end_images()
            build.finish(info.name)
        totals = build.totals()
        build.remove_parts()
    return totals


def _as_created(survey: Survey, options: AddOptions) -> CreateOptions:
    """The options of `create` by which images are read as the survey's were."""
    info, reading = survey.info, survey.info.reading
    names = tuple(band.partition("=")[0].strip() for band in options.bands)
    if names and names != info.bands:
        raise UsageError(f"--bands names {', '.join(names)}; the bands of {survey.path} are {', '.join(info.bands)}")
    picks = reading.get("picks")
    bands = tuple(f"{name}={pick}" for name, pick in zip(info.bands, picks, strict=True)) if picks else info.bands
    return CreateOptions(
        size=info.size,
        crop=info.cut.mode,
        extent=info.extent,
        path_column=options.path_column,
        id_column=options.id_column,
        extent_arcsec=info.extent_arcsec,
        bands=options.bands or bands,
        hdu=options.hdu or reading.get("hdu"),
        dataset=options.dataset or reading.get("dataset"),
        stretch=info.stretch,
        pixel_scale_arcsec=reading.get("pixel_scale"),
        originals="link" if info.originals == "link" else "keep",
    )


def _plan_of(info: SurveyInfo, told: CreateOptions) -> dict[str, Any]:
    """What `create` looks at some of the images for; here it is known."""
    plan: dict[str, Any] = {
        "bands": list(info.bands),
        "stretch": info.stretch.to_dict(),
        "reading": told.reading().to_dict(),
        "pixel_scale_arcsec": told.pixel_scale_arcsec,
        "extent_arcsec": told.extent_arcsec,
    }
    return {name: value for name, value in plan.items() if value is not None}


class Addition(Build):
    """Subjects on their way into a survey that is there; see `Build`."""

    def __init__(self, survey: Survey, command: Mapping[str, Any], originals: Literal["keep", "link"]) -> None:
        self.survey = survey
        super().__init__(survey.path, command, survey.info.cut, originals)

    @property
    def temporary(self) -> tuple[str, ...]:
        """A survey that is there has other writers, too: only what is written under its lock."""
        mine = (
            layout.SUBJECTS,
            layout.DIGESTS,
            layout.QUARANTINE,
            layout.REPORT,
            layout.CONTACT_SHEET,
            layout.SURVEY_TOML,
        )
        return (*(f".{name}" for name in mine), f"{layout.IMAGES}/")

    def _locked(self) -> int:
        return _locked(self.survey)

    def _take(self, command: dict[str, Any]) -> None:
        begun, planned = self.parts / COMMAND_JSON, self.parts / PLAN_JSON
        found = json.loads(begun.read_bytes()) if begun.exists() else None
        if found is not None and found["command"] != command:
            if planned.exists() and found.get("n_before") == self.survey.n:
                raise IngestError(
                    f"another `voorwerp add` was stopped on {self.path} ({differing(found['command'], command)}); "
                    f"finish it by the same command, or remove {self.parts} to give it up"
                )
            shutil.rmtree(self.parts)  # all that is in it is in the survey, or nothing was made yet
            found = None
        if found is None or found["n_before"] == self.survey.n:
            self.base = Base(self.survey.n, _packs_of(self.path, self.survey.n))
        self.parts.mkdir(exist_ok=True)
        n_refused = pq.ParquetFile(self.path / layout.QUARANTINE).metadata.num_rows
        self._begin(found or {"command": command, "n_before": self.survey.n, "n_refused_before": n_refused})
        if not self.is_finished:
            self._remove_beyond()

    def _remove_beyond(self) -> None:
        """Remove packs that an `add` which was given up has left: those here must follow the survey's."""
        for folder in (layout.ORIGINALS, layout.THUMBNAILS):
            for file in (self.path / folder).glob("[0-9]*.*"):
                if int(file.stem) >= self.base.n_packs + self.n_shards:
                    file.unlink()

    @property
    def is_finished(self) -> bool:
        """Only the removal of parts/ is left to do."""
        return bool(self.survey.n != self.begun["n_before"])

    @cached_property
    def per_shard(self) -> int:
        """Images in one file of images.zarr."""
        return int(self._zarr["chunk_grid"]["configuration"]["chunk_shape"][0])

    @cached_property
    def _zarr(self) -> dict[str, Any]:
        """zarr.json, which must be as `create` writes it."""
        file = self.path / layout.IMAGES / "zarr.json"
        try:
            found: dict[str, Any] = json.loads(file.read_bytes())
            sharding = found["codecs"][0]
            image = [self.crop.size, self.crop.size, len(self.survey.info.bands)]
            ours = sharding["name"] == "sharding_indexed" and found["data_type"] == "uint8"
            ours &= sharding["configuration"]["chunk_shape"] == [CHUNK, *image]
            ours &= sharding["configuration"]["codecs"] == [{"name": "bytes"}]
            ours &= found["chunk_grid"]["configuration"]["chunk_shape"][0] % CHUNK == 0
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise SurveyError(f"{file} cannot be read ({type(error).__name__}: {error})") from None
        if not ours:
            raise SurveyError(f"{file} is not laid out as `voorwerp create` does; nothing can be added to it")
        return found

    def images_before(self, start: int) -> bytes:
        """The network's crops of the survey from row `start` on."""
        return np.ascontiguousarray(self.survey.images[start : self.survey.n]).tobytes()

    # --------------------------------------------------------------------------------------------------- the listing
    def without_those_there(self, listed: Mapping[str, Any]) -> dict[str, Any]:
        """The plan after images whose id the survey has are taken out of the listing; ``n_there`` counts them."""
        there = self.survey.ids_as_text()
        file = self.parts / LISTING
        n = 0
        with pq.ParquetFile(file) as before, artifacts.replacing(file) as after:
            batches = before.iter_batches(ROW_GROUP)
            new = (batch.filter(pc.invert(pc.is_in(batch["source_id"], value_set=there))) for batch in batches)
            with pq.ParquetWriter(after, before.schema_arrow) as writer:
                for table in regrouped(new, ROW_GROUP):
                    index = pa.array(np.arange(n, n + len(table)))
                    writer.write_table(table.set_column(0, before.schema_arrow.field(0), index))
                    n += len(table)
        return {**listed, "n": n, "n_there": listed["n"] - n}

    def keep(self, rows: Sequence[Mapping[str, Any]], decoded: Decoded) -> None:
        """As for `Build`; where ids are integers, others go to quarantine."""
        assert self.plan is not None
        if self.plan["integer_ids"]:
            thumbnails = dict(zip(decoded.good, decoded.thumbnails, strict=True))
            for position, row in enumerate(rows):
                if integers_of(pa.array([row["source_id"]])) is None:
                    reason = f'id "{row["source_id"]}" is no integer, as the ids of this survey are'
                    decoded.bad.append((position, reason, thumbnails.get(position)))
        super().keep(rows, decoded)

    def fitted(self, listed: Mapping[str, Any]) -> dict[str, Any]:
        """What of the plan depends on the subjects that are there; whether ids are integers.

        Raises
        ------
        IngestError
            Bands or columns that do not go with those that are there.
        """
        bands = self.survey.info.bands
        if listed["bands"] and tuple(listed["bands"]) != bands:
            raise IngestError(
                f"the sources have a file for each of {', '.join(listed['bands'])}; the bands of {self.path} are "
                f"{', '.join(bands)}"
            )
        own = self._own_columns()
        table = pq.read_table(self.parts / LISTING, columns=list(own))
        _schema(self.survey, list(own.values()), {own[alias].name: table.column(alias) for alias in own})
        return {"integer_ids": _has_integer_ids(self.survey)}

    # ---------------------------------------------------------------------------------------------------- last step
    def finish(self, name: str, cut_out_extent: int | None = None) -> None:
        """Join the parts into the survey; subjects.parquet is written last."""
        survey, n_before = self.survey, self.survey.n
        assert self.plan is not None
        joined = self._gather(None)
        n = n_before + len(joined.digests)
        digests = np.concatenate([_digests(survey), joined.digests])
        ids, group_ids = _identified(survey, joined.subject_ids, digests, joined.places)
        made = {"subject_id": ids, "duplicate_group": group_ids, "half": groups.half_of(group_ids)}
        artifacts.write_array(self.path / layout.DIGESTS, digests)
        self._join_refused(self.begun["n_refused_before"])
        write_report(self.path, name, n)
        artifacts.write_json(
            self.path / layout.IMAGES / "zarr.json", {**self._zarr, "shape": [n, *self._zarr["shape"][1:]]}
        )
        write_contact_sheet(self.path, n, self.crop, survey.info.bands, self.per_shard)
        scale = survey.info.pixel_scale_arcsec
        if scale and not (joined.pixel_scale and abs(joined.pixel_scale - scale) <= 1e-4 * scale):
            scale = survey.info.reading.get("pixel_scale")  # not the same for all any more, unless it was told
        notes = tuple(dict.fromkeys([*survey.info.notes, *self.plan.get("notes", ())]))
        if (scale, notes) != (survey.info.pixel_scale_arcsec, survey.info.notes):
            replace(survey.info, pixel_scale_arcsec=scale, notes=notes).write(self.path / layout.SURVEY_TOML)
        schema = _schema(survey, list(self._own_columns().values()))
        write_subjects(self.path, schema, itertools.chain(rows_before(survey, schema), self._subjects(schema, made)))

    def nothing_left(self) -> IngestError:
        """As for `Build`; what is refused goes to quarantine all the same."""
        self._join_refused(self.begun["n_refused_before"])
        report = write_report(self.path, self.survey.info.name, self.survey.n)
        return IngestError(f"{super().nothing_left()}; nothing was added, and {report} shows them")

    def totals(self) -> dict[str, Any]:
        """As `Build.totals`, and n_added, n_refused, n_there, n_joined, n_twins."""
        totals = super().totals()
        n_there = (self.plan or {}).get("n_there", 0)
        n_refused = totals["n_quarantined"] - self.begun["n_refused_before"]
        return {**totals, "n_refused": n_refused, "n_there": n_there, **_added(self.path, self.begun["n_before"])}


def _packs_of(path: Path, n: int) -> int:
    """Files of originals, and of thumbnails, that hold the first `n` subjects."""
    counts = []
    for folder in (layout.ORIGINALS, layout.THUMBNAILS):
        ends = np.cumsum([len(Pack.offsets(file)) - 1 for file in sorted((path / folder).glob("*.npy"))])
        place = int(np.searchsorted(ends, n))
        if place == len(ends) or ends[place] != n:
            raise SurveyError(f"{path / folder} does not end with subject {n:,}; `voorwerp check {path}` says more")
        counts.append(place + 1)
    if counts[0] != counts[1]:
        raise SurveyError(
            f"{path} has {counts[0]:,} packs of originals and {counts[1]:,} of thumbnails; nothing can be added"
        )
    return counts[0]


def _digests(survey: Survey) -> np.ndarray:
    """uint64 (n, 2) of the survey's images."""
    file = survey.path / layout.DIGESTS
    try:
        found: np.ndarray = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SurveyError(f"{file} cannot be read ({error}); put back a copy") from None
    if found.dtype != np.uint64 or found.ndim != 2 or found.shape[1] != 2 or len(found) < survey.n:
        raise SurveyError(f"{file} holds {found.dtype} {found.shape}; uint64 ({survey.n}, 2) is expected")
    return found[: survey.n]


# ------------------------------------------------------------------------------------------------------------- tables
def _add_rows(
    survey: Survey, sources: Sequence[Path | str], options: AddOptions
) -> Generator[Progress, None, dict[str, Any]]:
    """Rows of a table to a survey without images."""
    yield Progress(0, 0, "reading the table")
    table = subjects_of(sources, options.id_column)
    n_before = survey.n
    lock = _locked(survey)
    try:
        n_given = len(table)
        table = table.filter(pc.invert(pc.is_in(table.column("source_id"), value_set=survey.ids_as_text())))
        totals = {"n_refused": 0, "n_there": n_given - len(table)}
        if not len(table):
            return {"n_subjects": n_before, **totals, **_added(survey.path, n_before)}
        schema, added = added_rows(survey, table)
        rows = itertools.chain(rows_before(survey, schema), added.to_batches(ROW_GROUP))
        write_subjects(survey.path, schema, rows)
    finally:
        os.close(lock)
    return {"n_subjects": n_before + len(table), **totals, **_added(survey.path, n_before)}


def added_rows(survey: Survey, table: pa.Table) -> tuple[pa.Schema, pa.Table]:
    """The rows that a table's subjects become behind those of a survey without images, and the schema of both.

    Parameters
    ----------
    table
        As `explorer.ingest.tables.with_ids` makes it; none of its ids is in the survey.

    Raises
    ------
    IngestError
        Ids of another kind than the survey's, columns of another type.
    """
    ids = table.column("source_id")
    _check_ids(survey, ids)
    known = {name: table.column(name) for name in TABLE_COLUMNS if name in table.column_names}
    own = [field for field in table.schema if field.name not in TABLE_COLUMNS]
    ours = {name.lower() for name in SUBJECTS_SCHEMA.names}
    given = [field.with_name(f"{field.name}_given" if field.name.lower() in ours else field.name) for field in own]
    known |= {field.name: table.column(old.name) for old, field in zip(own, given, strict=True)}
    schema = _schema(survey, given, {field.name: known[field.name] for field in given})
    integers = integers_of(pa.chunked_array(ids).combine_chunks()) if _has_integer_ids(survey) else None
    none = np.arange(survey.n + len(table), dtype=np.uint64)
    places = np.stack([table.column(name).to_numpy() for name in ("ra", "dec")])
    new_ids, group_ids = _identified(
        survey, np.arange(len(table)) if integers is None else integers, np.stack([none, none], axis=1), places
    )
    known |= {"subject_id": pa.array(new_ids), "duplicate_group": pa.array(group_ids)}
    known["half"] = pa.array(groups.half_of(group_ids), pa.string())
    columns = [known[f.name].cast(f.type) if f.name in known else pa.nulls(len(table), f.type) for f in schema]
    return schema, pa.table(columns, schema=schema)


# --------------------------------------------------------------------------------------------------------------- both
def _locked(survey: Survey) -> int:
    """The survey's lock, held; the survey as it is now."""
    lock = layout.take_write_lock(survey.path)
    try:
        survey.refresh()
        if pq.ParquetFile(survey.path / layout.SUBJECTS).metadata.num_rows != survey.n:
            raise SurveyError(f"another command has just added to {survey.path}; start again")
    except BaseException:
        os.close(lock)
        raise
    return lock


def _check_ids(survey: Survey, ids: pa.ChunkedArray) -> None:
    """Refuse a table's ids of another kind."""
    if _has_integer_ids(survey):
        odd = pc.invert(pc.match_substring_regex(ids, "^(0|[1-9][0-9]{0,18})$"))
        if pc.any(odd).as_py():
            raise IngestError(
                f'the ids of {survey.path} are integers, and "{ids.filter(odd)[0].as_py()}" is none; give every new '
                "subject one, in a column that --id-column names"
            )


def _has_integer_ids(survey: Survey) -> bool:
    """Whether subject_id is the source's own integer."""
    found = integers_of(survey.ids_as_text())
    return found is not None and np.array_equal(found, survey.subject_ids)


def _schema(survey: Survey, own: Sequence[pa.Field], values: Mapping[str, pa.ChunkedArray] | None = None) -> pa.Schema:
    """The survey's columns and, after them, those that are new.

    Parameters
    ----------
    own
        The added subjects' own columns. One of integers beyond 2⁵³ makes an id of the survey's number of its name.
    values
        Name → values, where they are still to be checked. Where all are missing their type says nothing.

    Raises
    ------
    IngestError
        A column holds another type than the survey's of that name, or integers that it cannot hold.
    """
    schema = pq.read_schema(survey.path / layout.SUBJECTS)
    fields = list(schema)
    for field in own:
        if field.name not in schema.names:
            fields.append(field)
            continue
        place = schema.get_field_index(field.name)
        before = schema.field(place).type
        if before == field.type and pa.types.is_integer(before) and (field.metadata or {}).get(b"kind") == b"id":
            fields[place] = fields[place].with_metadata({**(fields[place].metadata or {}), b"kind": b"id"})
        if values is None or values[field.name].null_count == len(values[field.name]):
            continue
        wider = pa.types.is_floating(before) and (pa.types.is_integer(field.type) or pa.types.is_floating(field.type))
        as_text = pa.types.is_string(before) and pa.types.is_integer(field.type)
        if not (before == field.type or wider or as_text):
            raise IngestError(
                f'column "{field.name}" holds {field.type} in what is added, and {before} in {survey.path}; make them '
                "agree, or give it another name"
            )
        try:
            values[field.name].cast(before)
        except pa.ArrowInvalid:
            raise IngestError(
                f'column "{field.name}" holds integers in what is added that lose digits as {before}, which it holds '
                f"in {survey.path}; give it another name"
            ) from None
    return pa.schema(fields, metadata=schema.metadata)


def rows_before(survey: Survey, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows that are there, as they are; null in columns that are new."""
    with pq.ParquetFile(survey.path / layout.SUBJECTS) as file:
        for batch in file.iter_batches(ROW_GROUP):
            n = len(batch)
            columns = [batch.column(f.name) if f.name in batch.schema.names else pa.nulls(n, f.type) for f in schema]
            yield pa.record_batch(columns, schema=schema)


def _identified(
    survey: Survey, numbers: np.ndarray, digests: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The subject_ids of added rows and the ids of their duplicate groups, int64.

    Parameters
    ----------
    numbers
        Their integer ids, or 0 … n-1 where ids are text.
    digests
        Of all rows, those before first.
    places
        float64 (2, n): RA and Dec of added rows, deg.
    """
    n_before = survey.n
    ids = numbers if _has_integer_ids(survey) else numbers + survey.subject_ids.max() + 1
    table = pq.read_table(survey.path / layout.SUBJECTS, columns=["duplicate_group", "subject_id"])
    group_before = pc.coalesce(*table.columns).to_numpy()
    first_before = survey.rows_of(group_before)
    first_before = np.where(first_before < 0, np.arange(n_before), first_before)
    ra, dec = (np.concatenate([survey.column(name), place]) for name, place in zip(("ra", "dec"), places, strict=True))
    first = groups.extend(first_before, digests, ra, dec)
    of_all = np.concatenate([group_before, ids])
    return ids, of_all[first]


def _added(path: Path, n_before: int) -> dict[str, int]:
    group_ids = pq.read_table(path / layout.SUBJECTS, columns=["duplicate_group"]).column(0).to_numpy()
    before, added = group_ids[:n_before], group_ids[n_before:]
    alone = added[~np.isin(added, before)]
    n_twins = len(alone) - len(np.unique(alone))
    return {"n_added": len(added), "n_joined": len(added) - len(alone), "n_twins": n_twins}
