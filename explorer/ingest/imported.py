"""``voorwerp import-run``: latent vectors and scores computed elsewhere (Zoobot, Astronomaly, AnomalyMatch) as a run.

The result is a run folder of kind "score" like any other, so that maps are laid out from it and every screen shows it.
It is written under a hidden name and takes its own at the end: whole, or not at all.
"""

import difflib
import hashlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from explorer import code_version
from explorer.errors import IngestError, UsageError, no_such_column
from explorer.ingest.build import create_table_only
from explorer.ingest.catalogues import TIME_LIMIT_S, broken_parquet_said, notes_of, read_catalogue, sky_columns
from explorer.ingest.decoder import Decoders
from explorer.ingest.join import match_ids
from explorer.ingest.stacks import Array, arrays_of, refusing
from explorer.ingest.tables import with_ids
from explorer.survey import RUNS, SURVEY_TOML, Survey, counted
from models import artifacts
from models.artifacts import RUN_JSON, SCORES_SCHEMA, Run
from models.images import Crop, ImageError

#: Files that hold arrays. Vectors may also come as a table (`explorer.ingest.catalogues.FORMATS`).
ARRAY_SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".hdf")
#: The longest latent vector.
LONGEST = 65_536

_BLOCK = 1 << 24  # values that are read, checked and written at once
_PARTS = ("image_score", "feature_score")
_SCORES = (*_PARTS, "anomaly_score")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What `import_run` may be told; at least one of `latents` and `scores`.

    Attributes
    ----------
    latents
        ``FILE`` or ``FILE:KEY``. npy; npz and HDF5, where KEY names the array; Parquet, where KEY names a column
        of lists or all numeric columns are taken; CSV and every other table, all numeric columns.
    scores
        A table, see `explorer.ingest.catalogues.read_catalogue`.
    id_column
        Column (array, dataset) of the ids; None goes by the order of rows.
    score_column
        The table's column that becomes the anomaly score; None takes ``anomaly_score``, if it has one.
    ascending
        Low values are the anomalous ones: the anomaly score is the column with its sign changed.
    name
        A word for the run's name.
    """

    latents: str | None = None
    scores: Path | None = None
    id_column: str | None = None
    score_column: str | None = None
    ascending: bool = False
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import made: the run, its rows, and sentences about what went into it and what did not."""

    run_id: str
    n_rows: int
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vectors:
    """Latent vectors as they were read: float32 (n, d), memory-mapped, and their ids where the file has them."""

    file: Path
    values: np.ndarray
    ids: pa.Array | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Scores:
    """A table of scores: its ids where it has them, and what of it a run keeps.

    Attributes
    ----------
    columns
        Name in ``scores.parquet`` → float64 (n,), NaN where missing: numeric columns, ``anomaly_score`` among them
        where one was chosen.
    others
        The other columns: texts, ids, positions. They make a new survey's own columns.
    """

    ids: pa.Array | None
    columns: dict[str, np.ndarray]
    others: pa.Table
    n: int
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entries:
    """Vectors and scores side by side.

    Attributes
    ----------
    ids
        Text (n,), each once; None where nothing has ids.
    of_vectors, of_scores
        int64 (n,): the row there, -1 where it has none.
    """

    ids: pa.Array | None
    of_vectors: np.ndarray
    of_scores: np.ndarray


def import_run(path: Path | str, options: ImportOptions) -> Imported:
    """Make a run from latent vectors, scores, or both; first the survey, without images, where there is none.

    Raises
    ------
    UsageError
        Nothing to import, or a column that is not there.
    IngestError
        A file that cannot be read, ids that are there twice, lengths that do not agree, or no id of the survey.
    SurveyError
        Another command writes into the survey.
    """
    path = Path(path)
    if options.latents is None and options.scores is None:
        raise UsageError("there is nothing to import; give --latents, --scores or both")
    if options.scores is None and (options.score_column or options.ascending):
        raise UsageError("--score-column and --ascending are about the table of --scores; give one")
    with tempfile.TemporaryDirectory(prefix="voorwerp-") as scratch:
        vectors = None if options.latents is None else read_vectors(options.latents, options, Path(scratch))
        scores = None if options.scores is None else read_scores(options.scores, options)
        said = [*([vectors.sentence] if vectors else []), *(scores.sentences if scores else [])]
        entries = _side_by_side(vectors, scores, options, said)
        if not (path / SURVEY_TOML).exists():
            _make_survey(path, entries, scores, options)
            said.insert(
                0, f"{path.name} is a new survey of {counted(len(entries.of_vectors), 'subject')} without images"
            )
        survey = Survey.open(path)
        try:
            with survey.lock():
                at = _entry_of_each_subject(survey, entries, options, said)
                run = _write(survey, at, entries, vectors, scores, options, said)
        finally:
            survey.close()
    return Imported(run.run_id, run.n_rows or 0, tuple(said))


# ------------------------------------------------------------------------------------------------------ the vectors
def read_vectors(told: str, options: ImportOptions, scratch: Path) -> Vectors:
    """Latent vectors from ``FILE`` or ``FILE:KEY``, as float32 in a file below `scratch`.

    Raises
    ------
    IngestError
        No such file, or no matrix of numbers in it.
    """
    path, key = Path(told), None
    if not path.exists() and ":" in told:
        file, _, key = told.rpartition(":")
        path = Path(file)
    if not path.is_file():
        raise IngestError(f"{path} does not exist" if not path.exists() else f"{path} is a folder, not a file")
    target = scratch / "vectors.npy"
    suffix = path.suffix.lower()
    if suffix in ARRAY_SUFFIXES:
        with Decoders(Crop(8), 1) as decoders:
            arguments = (str(path.absolute()), key, options.id_column, str(target))
            try:
                texts, named = decoders.call(copy_array, *arguments, seconds=TIME_LIMIT_S)
            except ImageError as error:
                raise IngestError(f"{path}: {str(error).replace('one image', 'one file')}") from None
        ids, words = None if texts is None else pa.array(texts, pa.string()), f'"{named}" of ' if named else ""
    elif suffix == ".parquet" and (lists := _list_column(path, key)) is not None:
        ids, words = _copy_lists(path, lists, options.id_column, target), f'"{lists}" of '
    else:
        ids, words = _copy_columns(path, key, options, target)
    values: np.ndarray = np.load(target, mmap_mode="r", allow_pickle=False)
    n, d = values.shape
    return Vectors(path, values, ids, f"{counted(n, 'latent vector')} of length {d:,} from {words}{path.name}")


def copy_array(path: str, key: str | None, id_name: str | None, target: str) -> tuple[list[str] | None, str]:
    """Copy a matrix from npy, npz or HDF5 into the npy file `target`; return its ids as text, and its name.

    Only for a process that may die.

    Raises
    ------
    ImageError
        No such array, or not a matrix of numbers.
    OSError
        The file cannot be read.
    """
    with refusing(path):
        arrays = arrays_of(path)
        array = _chosen(arrays, key)
        ids = _ids(arrays[id_name], id_name) if id_name in arrays else None
        n, d = array.shape
        n_bytes = n * d * 4
        if n_bytes > shutil.disk_usage(Path(target).parent).free / 2:
            raise ImageError(f"its {n_bytes:,} bytes do not fit on the disk of temporary files; set TMPDIR to another")
        copy = np.lib.format.open_memmap(target, mode="w+", dtype=np.float32, shape=(n, d))
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and is said so
            for here in _blocks(n, d):
                copy[here] = array.take(here.start, here.stop)
        copy.flush()
        return ids, array.name


def _chosen(arrays: Mapping[str, Array], key: str | None) -> Array:
    """The matrix that is meant: the one named, else the only one."""
    matrices = [a for a in arrays.values() if len(a.shape) == 2 and a.dtype.kind in "fiu" and not a.refused]
    held = ", ".join(arrays) or "nothing"
    if key is not None and key.strip("/") not in arrays:
        near = difflib.get_close_matches(key, arrays, n=1)
        raise ImageError(f'has no array "{key}"; ' + (f'did you mean "{near[0]}"?' if near else f"it holds {held}"))
    if key is None and len(arrays) > 1 and len(matrices) != 1:
        raise ImageError(f"does not say which array holds the vectors; write FILE:KEY (it holds {held})")
    if not arrays:
        raise ImageError("holds no array")
    array = arrays[key.strip("/")] if key is not None else (matrices or list(arrays.values()))[0]
    if array.refused:
        raise ImageError(f"{array.name} {array.refused}")
    if array not in matrices or not array.shape[0] or not 1 <= array.shape[1] <= LONGEST:
        raise ImageError(
            f"holds {array.dtype} {array.shape}; a matrix of numbers (n, d) with d up to {LONGEST:,} is expected"
        )
    return array


def _ids(array: Array, name: str | None) -> list[str]:
    if len(array.shape) != 1 or array.refused or not (array.is_text or array.dtype.kind in "iu"):
        raise ImageError(f'"{name}" holds {array.dtype} {array.shape}; ids are integers or text, one each')
    values = array.take(0, array.shape[0]).tolist()
    return [v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values]


def _list_column(path: Path, key: str | None) -> str | None:
    """The column of lists of a Parquet file: the one named, else the only one; None where there is none."""
    with broken_parquet_said(path):
        schema = pq.read_schema(path)
    lists = [
        f.name
        for f in schema
        if (pa.types.is_list(f.type) or pa.types.is_large_list(f.type) or pa.types.is_fixed_size_list(f.type))
        and (pa.types.is_floating(f.type.value_type) or pa.types.is_integer(f.type.value_type))
    ]
    if key is not None and key not in lists:
        raise no_such_column(key, f"the columns of lists of {path}", lists)
    if key is None and len(lists) > 1:
        raise UsageError(f"{path} has several columns of lists; write FILE:KEY with one of {', '.join(lists)}")
    return key or (lists[0] if lists else None)


def _copy_lists(path: Path, column: str, id_column: str | None, target: Path) -> pa.Array | None:
    """Copy a Parquet file's column of lists; a null list is a row of NaN. Return the ids."""
    with broken_parquet_said(path), pq.ParquetFile(path) as file:
        n, names, copy, start = file.metadata.num_rows, file.schema_arrow.names, None, 0
        has_ids = id_column is not None and id_column in names
        ids: list[pa.Array] = []
        for batch in file.iter_batches(4096, columns=[column, *([id_column] if has_ids else [])]):
            lists = batch.column(column)
            lengths = set(pc.list_value_length(lists).drop_null().to_pylist())
            if copy is not None:
                lengths.add(copy.shape[1])
            if len(lengths) > 1 or 0 in lengths:
                raise IngestError(f'column "{column}" of {path} has lists of several lengths; vectors are of one')
            if copy is None and lengths:
                copy = np.lib.format.open_memmap(target, mode="w+", dtype=np.float32, shape=(n, lengths.pop()))
                copy[:] = np.nan
            if copy is not None:
                is_there = lists.is_valid().to_numpy(zero_copy_only=False)
                flat = lists.flatten().cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
                copy[start + np.flatnonzero(is_there)] = flat.reshape(-1, copy.shape[1])
            if has_ids:
                ids.append(_id_texts(batch.column(id_column), str(id_column), path))
            start += len(batch)
    if copy is None:
        raise IngestError(f'column "{column}" of {path} holds no vector')
    copy.flush()
    return pa.chunked_array(ids, pa.string()).combine_chunks() if has_ids else None


def _id_texts(ids: pa.Array, name: str, path: Path) -> pa.Array:
    if pa.types.is_floating(ids.type):
        raise IngestError(
            f'column "{name}" of {path} holds {ids.type}, which loses the last digits of long ids; '
            "write it as integer or text"
        )
    return ids.cast(pa.string())


def _copy_columns(path: Path, key: str | None, options: ImportOptions, target: Path) -> tuple[pa.Array | None, str]:
    """Copy all numeric columns of a table but the scores and positions; return the ids, and which columns they are."""
    if key is not None:
        raise UsageError(f'{path} is a table, whose numeric columns are the vectors; leave ":{key}" out')
    table = _read_table(path, options.id_column)
    left_out = {*_positions(table), options.score_column, *_SCORES}
    names = [name for name in _numeric(table, options.id_column) if name not in left_out]
    if not names:
        raise IngestError(f"{path} has no numeric columns to take latent vectors from")
    copy = np.lib.format.open_memmap(target, mode="w+", dtype=np.float32, shape=(len(table), len(names)))
    with np.errstate(over="ignore"):
        for i, name in enumerate(names):
            copy[:, i] = _floats(table.column(name))
    copy.flush()
    ids = table.column(options.id_column).combine_chunks() if options.id_column in table.column_names else None
    words = f"the column {names[0]}" if len(names) == 1 else f"the {len(names):,} columns {names[0]} … {names[-1]}"
    return ids, f"{words} of "


# ------------------------------------------------------------------------------------------------------- the scores
def read_scores(path: Path, options: ImportOptions) -> Scores:
    """A table's numeric columns as scores; the anomaly score is the one that `options` chooses.

    Raises
    ------
    UsageError
        The score column is not there, or holds no numbers.
    """
    table = _read_table(path, options.id_column)
    numeric = [name for name in _numeric(table, options.id_column) if name not in _positions(table)]
    chosen = options.score_column
    if chosen is not None and chosen not in table.column_names:
        raise no_such_column(chosen, str(path), table.column_names)
    if chosen is not None and chosen not in numeric:
        raise UsageError(f'column "{chosen}" of {path} holds no numbers that could be a score')
    if chosen is None:
        chosen = "anomaly_score" if "anomaly_score" in numeric else None
    if chosen is None and options.ascending:
        raise UsageError("--ascending needs --score-column: which column is meant?")
    columns: dict[str, np.ndarray] = {}
    for name in numeric:
        kept = name
        while (kept in SCORES_SCHEMA.names and kept not in _PARTS) or kept in columns:
            kept += "_given"
        if name != chosen or name in _PARTS:  # the anomaly score is that number; the run's config has its name
            columns[kept] = _floats(table.column(name))
    words = f"no column of {path.name} is the anomaly score; --score-column names one"
    if chosen is not None:
        values = _floats(table.column(chosen))
        columns["anomaly_score"] = -values if options.ascending else values
        words = f'the anomaly score is {"minus " if options.ascending else ""}"{chosen}" of {path.name}'
    ids = table.column(options.id_column).combine_chunks() if options.id_column in table.column_names else None
    others = [name for name in table.column_names if name not in numeric and name != options.id_column]
    return Scores(ids, columns, table.select(others), len(table), (words, *notes_of(table)))


def _read_table(path: Path, id_column: str | None) -> pa.Table:
    return read_catalogue(path, as_text=[] if id_column is None else [id_column], needed=False)


def _numeric(table: pa.Table, id_column: str | None) -> list[str]:
    return [f.name for f in table.schema if f.metadata[b"kind"] == b"number" and f.name != id_column]


def _positions(table: pa.Table) -> tuple[str, ...]:
    try:
        return sky_columns(table)
    except UsageError:
        return ()


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return np.asarray(column.cast(pa.float64(), safe=False).to_numpy(), np.float64)


# ------------------------------------------------------------------------------------------- which belongs to which
def _side_by_side(vectors: Vectors | None, scores: Scores | None, options: ImportOptions, said: list[str]) -> Entries:
    """By id where both have one, else in the order of rows."""
    for source, held in ((options.latents, vectors), (options.scores, scores)):
        if held is not None and held.ids is not None:
            _check_unique(held.ids, str(source))
    if options.id_column is not None and not any(
        held is not None and held.ids is not None for held in (vectors, scores)
    ):
        where = " or ".join(str(source) for source in (options.latents, options.scores) if source is not None)
        raise UsageError(f'column "{options.id_column}" is not in {where}')
    if vectors is None or scores is None:
        held = vectors or scores
        assert held is not None
        n = len(vectors.values) if vectors is not None else scores.n if scores is not None else 0
        rows, none = np.arange(n), np.full(n, -1)
        return Entries(held.ids, rows if vectors else none, rows if scores else none)
    n = len(vectors.values)
    if vectors.ids is None or scores.ids is None:
        if n != scores.n:
            raise IngestError(
                f"{options.latents} has {n:,} vectors and {options.scores} {scores.n:,} rows; without ids in both "
                "they must agree"
            )
        said.append("vectors and scores were put together in the order of their rows")
        return Entries(vectors.ids if vectors.ids is not None else scores.ids, np.arange(n), np.arange(n))
    of_scores = pc.index_in(vectors.ids, scores.ids).fill_null(-1).to_numpy()
    more = np.flatnonzero(pc.index_in(scores.ids, vectors.ids).is_null().to_numpy(zero_copy_only=False))
    if n_lonely := int((of_scores < 0).sum()):
        said.append(f"{n_lonely:,} vectors have no row in the table of scores")
    if len(more):
        said.append(f"{len(more):,} rows of the table of scores have no vector")
    ids = pa.concat_arrays([vectors.ids, scores.ids.take(pa.array(more))])
    return Entries(ids, np.append(np.arange(n), np.full(len(more), -1)), np.append(of_scores, more))


def _check_unique(ids: pa.Array, source: str) -> None:
    if ids.null_count:
        raise IngestError(f"{source} has {ids.null_count:,} rows without an id; every row needs one")
    if len(pc.unique(ids)) != len(ids):
        counts = ids.value_counts()
        twice = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
        raise IngestError(
            f'{source} has {len(twice):,} ids more than once, the first is "{twice[0].as_py()}"; a subject has one row'
        )


def _make_survey(path: Path, entries: Entries, scores: Scores | None, options: ImportOptions) -> None:
    """A survey without images whose subjects are the entries; texts and positions beside the scores are its columns."""
    n = len(entries.of_vectors)
    ids = entries.ids if entries.ids is not None else pa.array([str(i) for i in range(n)])
    beside = pa.table({})
    if scores is not None and scores.others.num_columns:
        beside = scores.others.take(pa.array(entries.of_scores, mask=entries.of_scores < 0))
    names = " and ".join(Path(str(source)).name for source in (options.latents, options.scores) if source is not None)
    create_table_only(path, with_ids(beside, ids), path.absolute().name, [f"made from {names}, without images"])


def _entry_of_each_subject(survey: Survey, entries: Entries, options: ImportOptions, said: list[str]) -> np.ndarray:
    """int64 (N,): the entry of each subject, -1 where it has none."""
    n = len(entries.of_vectors)
    if entries.ids is None:
        if n != survey.n:
            raise IngestError(
                f"there are {n:,} rows and {survey.n:,} subjects in {survey.path}; without --id-column they must agree"
            )
        said.append("rows were taken in the order of the survey's subjects")
        return np.arange(n)
    key = str(options.id_column)
    match = match_ids(survey, pa.table({key: entries.ids}), key)
    is_used = np.zeros(n, bool)
    is_used[match.rows[match.rows >= 0]] = True
    first = "" if is_used.all() else f', the first is "{entries.ids[int(np.argmin(is_used))].as_py()}"'
    if not is_used.any():
        raise IngestError(f"none of {n:,} ids is in {survey.path}{first}; nothing was imported")
    said.append(f"{int(is_used.sum()):,} of {survey.n:,} subjects have a row ({match.by})")
    if unknown := int((~is_used).sum()):
        said.append(f"{unknown:,} ids are not in the survey{first}")
    return match.rows


# ---------------------------------------------------------------------------------------------------------- the run
def _write(
    survey: Survey,
    at: np.ndarray,
    entries: Entries,
    vectors: Vectors | None,
    scores: Scores | None,
    options: ImportOptions,
    said: list[str],
) -> Run:
    """Write the run's folder, its subjects in the survey's order."""
    runs = survey.path / RUNS
    runs.mkdir(exist_ok=True)
    for stray in runs.glob(".*.tmp"):  # of an import that was killed
        shutil.rmtree(stray)
    run_id = _run_id(runs, options.name)
    rows = np.flatnonzero(at >= 0)
    of_vectors, of_scores = entries.of_vectors[at[rows]], entries.of_scores[at[rows]]
    quality = np.full(len(rows), "ok", object)
    columns: dict[str, Any] = {name: np.full(len(rows), np.nan) for name in _SCORES}
    if scores is not None:
        for name, values in scores.columns.items():
            columns[name] = np.where(of_scores >= 0, values[of_scores], np.nan)
            columns[name][~np.isfinite(columns[name])] = np.nan
        quality[np.isnan(columns["anomaly_score"])] = "no anomaly score" if "anomaly_score" in scores.columns else "ok"
    files = {"latents": vectors.file} if vectors is not None else {}
    files |= {"scores": options.scores} if options.scores is not None else {}
    with artifacts.replacing_folder(runs / run_id) as folder:
        latents = None
        if vectors is not None:
            latents = _gathered(vectors.values, of_vectors, folder)
            is_whole = np.concatenate([np.isfinite(latents[here]).all(1) for here in _blocks(*latents.shape)])
            is_absent = of_vectors < 0
            quality[is_absent] = "no latent vector"
            quality[~is_whole & ~is_absent] = "latent vector with values that are not finite"
            if broken := int((~is_whole & ~is_absent).sum()):
                said.append(f"{broken:,} latent vectors have values that are not finite; they get no place on a map")
        identity = {"subject_id": survey.subject_ids[rows], "split": [None] * len(rows), "quality": quality.tolist()}
        artifacts.write_scores(folder, latents, {**identity, **columns})
        run = Run(
            run_id=run_id,
            kind="score",
            code_version=code_version(),
            config={
                "imported": True,
                "sources": [Path(told).name for told in (options.latents, options.scores) if told is not None],
                "id_column": options.id_column,
                "score_column": options.score_column,
                "ascending": options.ascending,
            },
            state="done",
            finished_at=artifacts.now(),
            inputs={name: artifacts.sha256_file(file) for name, file in files.items()}
            | {"subject_ids": hashlib.sha256(survey.subject_ids.tobytes()).hexdigest()},
            n_rows=len(rows),
            results={"n_subjects": len(rows), "notes": list(said)},
        )
        run.write(folder / RUN_JSON)
    return run


def _run_id(runs: Path, name: str | None) -> str:
    word = re.sub(r"[^A-Za-z0-9_]+", "-", name or "import").strip("-") or "import"
    first = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{word[:60]}"
    taken = (f"{first}-{n}" if n > 1 else first for n in range(1, 1000))
    return next(run_id for run_id in taken if not (runs / run_id).exists())


def _gathered(values: np.ndarray, rows: np.ndarray, folder: Path) -> np.ndarray:
    """Rows of a matrix, NaN for -1, gathered on disk: float32 (m, d)."""
    gathered = artifacts.scratch_array(folder, np.float32, (len(rows), values.shape[1]))
    for here in _blocks(*gathered.shape):
        of = rows[here]
        gathered[here] = np.where(of[:, None] >= 0, values[of], np.float32(np.nan))
    return gathered


def _blocks(n: int, d: int) -> Iterator[slice]:
    """Slices of the rows of a matrix (n, d), each of some 64 MB."""
    step = max(1, _BLOCK // d)
    return (slice(start, min(start + step, n)) for start in range(0, n, step))
