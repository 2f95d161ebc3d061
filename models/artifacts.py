"""The run folder: file names, columns, dtypes, schema version; how its files are written, read and checked.

``runs/<run_id>/``
    run.json                what ran: kind, config, seed, preprocessing, hashes, rows, state. "done" is written last.
    checkpoint.safetensors  the weights, where the kind trains
    progress.jsonl          one `Progress` a line
    history.jsonl           one epoch a line, where the kind trains: losses in training and validation, a word on them
    grids/NNNNN.png         real, generated or reconstructed images after epoch NNNNN; scale.json: of the residuals
    resume.safetensors      where a training stands; removed when it is done
    latents.npy             float32 (n, latent_size)
    scores.parquet          row i is row i of latents.npy
    subjects.npy            int64 (n,): whom it is of, in the survey's row order; absent where it is of all
``maps/<map_id>/``
    map.json                as run.json, plus quality of the map
    coordinates.parquet     subject_id, umap_1, umap_2, umap_3
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA_VERSION = 1

RUN_JSON = "run.json"
MAP_JSON = "map.json"
CHECKPOINT = "checkpoint.safetensors"
PROGRESS = "progress.jsonl"
HISTORY = "history.jsonl"
GRIDS = "grids"
RESUME = "resume.safetensors"
PARTS = "parts"  # of a run at work, whatever its kind keeps to go on with: gone once it is done
LATENTS = "latents.npy"
SCORES = "scores.parquet"
SUBJECTS = "subjects.npy"
COORDINATES = "coordinates.parquet"

#: Columns that others rely on. Kinds may add columns after these.
SCORES_SCHEMA = pa.schema(
    [
        ("subject_id", pa.int64()),
        ("split", pa.string()),  # train, validation or unseen: what the scoring network saw of this subject
        ("image_score", pa.float32()),
        ("feature_score", pa.float32()),
        ("anomaly_score", pa.float32()),  # (1 - λ) image_score + λ feature_score at the run's λ
        ("quality", pa.string()),  # "ok", or why a score is missing
    ]
)
COORDINATES_SCHEMA = pa.schema(
    [("subject_id", pa.int64()), ("umap_1", pa.float32()), ("umap_2", pa.float32()), ("umap_3", pa.float32())]
)

State = Literal["pending", "running", "done", "failed", "cancelled", "interrupted"]


class ArtifactError(ValueError):
    """A run or map folder is not what it claims to be. The message is one sentence for a person."""


# ------------------------------------------------------------------------------------------- whole files or none
def fsync_directory(directory: Path) -> None:
    """Make the names in `directory` durable."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def replacing(path: Path, mode: int | None = None) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path`; on a clean exit it is fsynced and takes the name, else it is removed.

    `mode` are the file's permissions, those of any new file unless told.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        umask = os.umask(0)
        os.umask(umask)
        # mkstemp makes 0600, which would hide a shared survey from a group
        temporary.chmod(0o666 & ~umask if mode is None else mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_directory(path.parent)


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`; on a clean exit it takes the name, which is free or an empty folder's."""
    umask = os.umask(0)
    os.umask(umask)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    try:
        yield temporary
        temporary.chmod(0o777 & ~umask)
        fsync_directory(temporary)
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_directory(path.parent)


def write_bytes(path: Path, content: bytes, mode: int | None = None) -> None:
    """Write `content` to `path`, whole or not at all; `mode`: see `replacing`."""
    with replacing(path, mode) as handle:
        handle.write(content)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON (NaN refused), whole or not at all."""
    write_bytes(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def write_array(path: Path, array: np.ndarray) -> None:
    """Write `array` as npy (object arrays refused), whole or not at all."""
    with replacing(path) as handle:
        np.save(handle, array, allow_pickle=False)


def write_table(path: Path, table: pa.Table) -> None:
    """Write `table` as Parquet, whole or not at all."""
    with replacing(path) as handle:
        pq.write_table(table, handle, compression="zstd")


def scratch_array(directory: Path, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A writable array on the disk that holds `directory`, in a file without a name: it goes with the process.

    Its space is taken at once: a full disk is an OSError here, and not the end of the process at some later write.
    """
    with tempfile.TemporaryFile(dir=directory) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, math.prod(shape) * np.dtype(dtype).itemsize)
        return np.memmap(file, dtype, "r+" if hasattr(os, "posix_fallocate") else "w+", shape=shape)


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_json(content: Any) -> str:
    """Hex sha256 of a JSON value in canonical form: the cache key of a config."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


# --------------------------------------------------------------------------------------------------- run.json
def now() -> str:
    """UTC time as ISO 8601 with seconds: ``2026-01-02T03:04:05+00:00``."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(slots=True)
class Run:
    """The content of ``run.json`` (and, with the map's quality under `results`, of ``map.json``).

    Attributes
    ----------
    inputs
        What the run read, as name → id or sha256: ``{"images": "<sha256>", "train": "<run_id>"}``.
    preprocessing
        How the network's input was cut from the image: size, extent, crop, bands, value range.
    results
        Numbers the kind wants kept: losses, trustworthiness.
    provides
        Another kind as which this run counts: see `explorer.kinds.Kind`.
    series
        The id of the linked runs that it is one of; None where it stands alone.
    selection
        The name of the selection that it was made of; None where it is of the whole survey. Its subjects are in
        ``subjects.npy``.
    started_by
        Who asked for it.
    resources
        Where it runs, as far as it is known: ``{"scheduler": "tls://…", "workers": 2, "device": "cuda", …}``.
    ticket
        Of the last time it was handed to a scheduler: a task with another one is out of date.
    error
        One sentence when `state` is "failed".
    """

    run_id: str
    kind: str
    code_version: str
    config: dict[str, Any]
    seed: int = 0
    state: State = "pending"
    schema_version: int = SCHEMA_VERSION
    created_at: str = field(default_factory=now)
    finished_at: str | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)
    checkpoint_sha256: str | None = None
    n_rows: int | None = None
    results: dict[str, Any] = field(default_factory=dict)
    attempt: int = 1
    error: str | None = None
    provides: str = ""
    series: str | None = None
    selection: str | None = None
    started_by: str = ""
    resources: dict[str, Any] = field(default_factory=dict)
    ticket: str = ""

    def counts_as(self, kind: str) -> bool:
        """Whether it is a run of this kind, or provides what one does."""
        return kind in (self.kind, self.provides)

    def write(self, path: Path) -> None:
        """Write to `path` (``…/run.json`` or ``…/map.json``), whole or not at all."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check `path`.

        Raises
        ------
        ArtifactError
            No such file, not JSON, another schema version, or fields missing.
        """
        try:
            content = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise ArtifactError(f"{path.parent} is not a run: it has no {path.name}") from None
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ArtifactError(f"{path} is not readable JSON ({error}); the run cannot be used") from None
        if not isinstance(content, dict):
            raise ArtifactError(f"{path} does not hold one JSON object; the run cannot be used")
        found = content.get("schema_version")
        if found != SCHEMA_VERSION:
            raise ArtifactError(f"{path} has schema version {found}; this Voorwerp reads version {SCHEMA_VERSION}")
        names = {f.name for f in fields(cls)}
        missing = {"run_id", "kind", "code_version", "config", "state"} - content.keys()
        if missing:
            raise ArtifactError(f"{path} lacks {', '.join(sorted(missing))}; the run cannot be used")
        return cls(**{k: v for k, v in content.items() if k in names})


class Pool(Protocol):
    """Worker processes that share the parts of one run among them."""

    @property
    def n_workers(self) -> int:
        """How many there are now."""

    def map(self, function: str, parts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Have each of `parts` done by some worker, and say which is done, in whatever order that happens.

        Parameters
        ----------
        function
            ``"module:function"``, called there as ``function(config, workspace, **part)`` with the run's own config and
            workspace (without a pool). It writes its part into the workspace, whole or not at all, and must not mind
            doing so twice: a part whose worker has died is done again elsewhere.
        parts
            JSON values by name, never arrays.

        Yields
        ------
        The part's index and what `function` returned: JSON values by name.
        """


@dataclass(frozen=True, slots=True)
class Workspace:
    """Everything a kind's function gets: where to read, where to write. The worker fills it in.

    Attributes
    ----------
    directory
        The run's (or map's) folder; it exists.
    images
        The network's crops, array-like (N, H, W, C) uint8, read by slices; None for a survey without images.
    subject_ids
        int64 (N,), row order.
    parents
        Finished runs this one builds on, kind → folder: ``{"train": …/runs/20260102-030405-train}``; of a kind that
        takes several, "score.1", "score.2" ….
    preprocessing
        Copied into run.json; a checkpoint applies only to equal preprocessing.
    threads
        CPU threads the kind may use.
    duplicate_groups
        int (N,), equal where two subjects show the same thing, -1 where unknown: a split keeps groups whole. None where
        nothing is known.
    left_out
        bool (N,): images that are none of the sky's (sources were planted into them). Nothing is fitted to them; they
        are scored like all others. None for none.
    pool
        Workers to share out parts to; None where there is this process alone.
    survey
        The survey's folder, for a kind that reads more than images; None where there is none.
    """

    directory: Path
    images: Any
    subject_ids: np.ndarray
    parents: Mapping[str, Path]
    preprocessing: Mapping[str, Any]
    threads: int = 1
    duplicate_groups: np.ndarray | None = None
    left_out: np.ndarray | None = None
    pool: Pool | None = None
    survey: Path | None = None


# ------------------------------------------------------------------------------------------- scores and latents
def write_scores(directory: Path, latents: np.ndarray | None, columns: Mapping[str, Any]) -> None:
    """Write ``latents.npy`` and ``scores.parquet``: row i of one is row i of the other.

    Parameters
    ----------
    latents
        float32 (n, d), or None where the method has none.
    columns
        All of `SCORES_SCHEMA`, each of length n, then any others of the method's own. Missing scores are NaN or null.

    Raises
    ------
    ArtifactError
        A column missing, or lengths differ.
    """
    missing = [name for name in SCORES_SCHEMA.names if name not in columns]
    if missing:
        raise ArtifactError(f"scores lack the column {missing[0]!r}")
    arrays = [pa.array(columns[f.name], type=f.type, from_pandas=True) for f in SCORES_SCHEMA]
    extra = [name for name in columns if name not in SCORES_SCHEMA.names]
    arrays += [pa.array(columns[name], from_pandas=True) for name in extra]
    lengths = {len(a) for a in arrays} | ({len(latents)} if latents is not None else set())
    if len(lengths) != 1:
        raise ArtifactError(f"scores and latents differ in length: {sorted(lengths)}")
    if latents is not None:
        write_array(directory / LATENTS, np.ascontiguousarray(latents, np.float32))
    write_table(directory / SCORES, pa.table(arrays, names=[*SCORES_SCHEMA.names, *extra]))


def medians_by_split(columns: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Of the columns that `write_scores` takes: scored subjects, and each score's median, per split that has any."""
    split, is_ok = np.asarray(columns["split"], str), np.asarray(columns["quality"], str) == "ok"
    found = {}
    for name in ("unseen", "train", "validation"):
        of_split = (split == name) & is_ok
        if of_split.any():
            medians = {
                f"median_{score}": float(np.median(columns[score][of_split]))
                for score in ("image_score", "feature_score", "anomaly_score")
                if np.isfinite(columns[score][of_split]).all()
            }
            found[name] = {"n": int(of_split.sum()), **medians}
    return found


def write_coordinates(directory: Path, subject_ids: np.ndarray, coordinates: np.ndarray) -> None:
    """Write ``coordinates.parquet`` from int64 (n,) ids and float32 (n, 3) map coordinates."""
    columns = [pa.array(subject_ids, pa.int64())] + [pa.array(coordinates[:, i], pa.float32()) for i in range(3)]
    write_table(directory / COORDINATES, pa.table(columns, schema=COORDINATES_SCHEMA))


def read_columns(path: Path, required: pa.Schema) -> pa.Table:
    """Read a Parquet table and check that it has the `required` columns.

    Raises
    ------
    ArtifactError
        The file is missing, is not Parquet, or lacks a column.
    """
    try:
        table = pq.read_table(path)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; the run is incomplete") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise ArtifactError(f"{path} is not a readable Parquet file ({str(error).splitlines()[0]})") from None
    for name in required.names:
        if name not in table.column_names:
            raise ArtifactError(f"{path} lacks the column {name!r}; it has {', '.join(table.column_names)}")
    return table


def read_latents(directory: Path) -> np.ndarray:
    """Memory-map ``latents.npy``: float32 (n, d).

    Raises
    ------
    ArtifactError
        Missing, truncated, pickled, or not a float32 matrix.
    """
    path = directory / LATENTS
    try:
        latents: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing; the run is incomplete") from None
    except (ValueError, EOFError, OSError) as error:
        raise ArtifactError(f"{path} is not a readable npy array ({error})") from None
    if latents.ndim != 2 or latents.dtype != np.float32:
        raise ArtifactError(f"{path} holds {latents.dtype} {latents.shape}; a float32 matrix (n, d) is expected")
    return latents


def read_subjects(directory: Path) -> np.ndarray:
    """``subjects.npy``: whom the run is of, int64 (n,), in the survey's row order.

    Raises
    ------
    ArtifactError
        Missing, truncated, pickled, or not one row of int64.
    """
    path = directory / SUBJECTS
    try:
        subject_ids: np.ndarray = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing, so nobody knows whom the run is of; start a new run") from None
    except (ValueError, EOFError, OSError) as error:
        raise ArtifactError(f"{path} is not a readable npy array ({error})") from None
    if subject_ids.ndim != 1 or subject_ids.dtype != np.int64:
        raise ArtifactError(f"{path} holds {subject_ids.dtype} {subject_ids.shape}; int64 ids (n,) are expected")
    return subject_ids


def check_network(mapped: Path, scored: Path) -> None:
    """Check that the vectors of a score run are of the network that made those of a finished map, by their folders.

    Raises
    ------
    ArtifactError
        They are of another one, or what made them is gone. Scores without a training are of a network of their own.
    """
    about = Run.read(mapped / MAP_JSON)
    scores = Run.read(scored.parent / about.inputs.get("score", "") / RUN_JSON), Run.read(scored / RUN_JSON)
    theirs, ours = (
        Run.read(scored.parent / run.inputs["train"] / RUN_JSON) if "train" in run.inputs else run for run in scores
    )
    if (theirs.checkpoint_sha256 or theirs.run_id) != (ours.checkpoint_sha256 or ours.run_id):
        raise ArtifactError(
            f"{about.run_id} is a map of vectors made by {theirs.run_id}, and those of {scored.name} are made by "
            f"{ours.run_id}; score with the map's own network, or make a map anew"
        )


def check_run(directory: Path, subject_ids: np.ndarray | None = None) -> list[str]:
    """Every problem of a finished run or map folder, one sentence each; [] when sound.

    Parameters
    ----------
    subject_ids
        The survey's ids; the run's must be among them.
    """
    problems: list[str] = []
    is_map = (directory / MAP_JSON).exists()
    try:
        run = Run.read(directory / (MAP_JSON if is_map else RUN_JSON))
    except ArtifactError as error:
        return [str(error)]
    if run.run_id != directory.name:
        problems.append(f"{directory} says that it is {run.run_id}; give the folder that name")
    if run.state != "done":
        return problems
    checkpoint = directory / CHECKPOINT
    if run.checkpoint_sha256 is not None:
        if not checkpoint.exists():
            problems.append(f"{checkpoint} is missing; run {run.kind} again")
        elif sha256_file(checkpoint) != run.checkpoint_sha256:
            problems.append(f"{checkpoint} is not the file that {RUN_JSON} describes (sha256 differs)")
    if (labels := run.inputs.get("labels")) is not None:
        path = directory / "labels.parquet"
        if not path.exists() or sha256_file(path) != labels:
            problems.append(f"{path} is not what {run.run_id} learned from (missing, or sha256 differs)")
    tables: Sequence[tuple[str, pa.Schema]] = (
        [(COORDINATES, COORDINATES_SCHEMA)] if is_map else [(SCORES, SCORES_SCHEMA)] if run.counts_as("score") else []
    )
    for name, schema in tables:
        try:
            table = read_columns(directory / name, schema)
            ids = table.column("subject_id").to_numpy()
            if run.n_rows is not None and len(ids) != run.n_rows:
                problems.append(f"{directory / name} has {len(ids):,} rows, its run says {run.n_rows:,}")
            if len(np.unique(ids)) != len(ids):
                problems.append(f"{directory / name} has the same subject twice")
            if subject_ids is not None and (stray := int((~np.isin(ids, subject_ids)).sum())):
                problems.append(f"{directory / name} has {stray:,} subjects that are not in the survey")
            if name == SCORES and (directory / LATENTS).exists():
                latents = read_latents(directory)
                if len(latents) != len(ids):
                    problems.append(
                        f"{directory}: {LATENTS} has {len(latents):,} rows, {SCORES} {len(ids):,}; they must be aligned"
                    )
        except ArtifactError as error:
            problems.append(str(error))
    return problems
