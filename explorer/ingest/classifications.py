"""Single votes while they are taken in: parts on disk, then one file in the order of time. Memory does not grow.

Readers write parts (`Parts`), in which a subject is a number and a volunteer a hash. `merge` gives the numbers their
subjects, leaves out what the survey has already, sets aside what it cannot use, and sorts.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from explorer.ingest.aside import Aside
from explorer.ingest.build import sql_path
from explorer.ingest.matching import Names
from explorer.ingest.records import Source
from explorer.votes import CLASSIFICATIONS_SCHEMA, volunteer_hash
from models import artifacts

#: The first id given to votes that have none; those of a file ascend from there, below all of Zooniverse's.
FIRST_ID = -(1 << 52)
#: Rows written at once.
BATCH = 1 << 17

NOT_THERE = "no such subject in the survey"
TWICE = "a classification id that an earlier row of the file has"

PART_SCHEMA = pa.schema(
    [
        pa.field("line", pa.int64()),
        pa.field("subject", pa.int32()),
        *(CLASSIFICATIONS_SCHEMA.field(n) for n in CLASSIFICATIONS_SCHEMA.names if n not in ("subject_id", "source")),
    ]
)


#: Columns whose values are few.
_WORDS = [f.name for f in CLASSIFICATIONS_SCHEMA if pa.types.is_dictionary(f.type)]
_OTHERS = [f.name for f in CLASSIFICATIONS_SCHEMA if f.name not in _WORDS]


class Volunteers:
    """Names as hashes, each computed once."""

    def __init__(self, survey_id: str) -> None:
        self._survey_id = survey_id
        self._known: dict[str, str] = {}

    def hashes(self, names: Sequence[str]) -> list[str]:
        """Of names, in their order."""
        known = self._known
        new = [name for name in dict.fromkeys(names) if name not in known]
        known.update(zip(new, volunteer_hash(new, self._survey_id), strict=True))
        return [known[name] for name in names]


@dataclass(slots=True)
class Parts:
    """The votes of one file, on disk.

    Attributes
    ----------
    folder
        Where they are written.
    names
        Of the subjects, which a row names by number.
    has_ids
        Whether classification ids are the source's own.
    n_rows
        Rows of the file that were looked at; with `n_bad` of them set aside by the reader.
    notes
        Sentences for a person.
    workflows
        Ids of the workflows in it.
    ascends
        Whether every id is above all of the rows before.
    has_times
        Whether a time is known.
    rows
        Of files that describe subjects: line and number of each.
    """

    source: Source
    folder: Path
    names: Names
    is_zooniverse: bool
    has_ids: bool = True
    n_rows: int = 0
    n_bad: int = 0
    notes: list[str] = field(default_factory=list)
    workflows: set[int] = field(default_factory=set)
    ascends: bool = True
    has_times: bool = False
    rows: list[tuple[int, int]] = field(default_factory=list)
    _last_id: int = -(1 << 63)
    _files: list[Path] = field(default_factory=list)

    def write(self, columns: Mapping[str, Any]) -> None:
        """Keep rows: a column of `PART_SCHEMA` each, those left out are null."""
        n = len(columns["line"])
        if not n:
            return
        if self.has_ids:
            ids = np.asarray(columns["classification_id"], np.int64)[_first_of(np.asarray(columns["line"]))]
            self.ascends &= bool(ids[0] > self._last_id and (np.diff(ids) > 0).all())
            self._last_id = max(self._last_id, int(ids.max()))
        columns = {"is_simulated": np.zeros(n, bool), **columns}
        arrays = [
            pa.nulls(n, field.type) if columns.get(field.name) is None else _typed(columns[field.name], field.type)
            for field in PART_SCHEMA
        ]
        self.has_times |= arrays[PART_SCHEMA.get_field_index("created_at")].null_count < n
        file = self.folder / f"{self.source.key}.{len(self._files):05d}.parquet"
        pq.write_table(
            pa.table(arrays, schema=PART_SCHEMA), file, compression="lz4", use_dictionary=_WORDS, write_statistics=False
        )
        self._files.append(file)

    @property
    def files(self) -> list[Path]:
        """In the order of the source."""
        return self._files


def _typed(given: Any, kind: pa.DataType) -> pa.Array:
    array = given if isinstance(given, pa.Array | pa.ChunkedArray) else pa.array(given)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(kind):
        return array.cast(kind) if pa.types.is_dictionary(array.type) else array.cast(pa.string()).dictionary_encode()
    return array.cast(kind)


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of a file's votes, in rows of the file.

    Attributes
    ----------
    n_taken
        New to the survey, with one subject of it at least.
    n_known
        There already.
    n_aside
        Set aside here.
    n_members
        Subjects of grids, or of other classifications of several, that the survey lacks, where others were taken.
    """

    n_taken: int = 0
    n_known: int = 0
    n_aside: int = 0
    n_members: int = 0


def merge(
    before: Path | None,
    parts: Sequence[Parts],
    subject_ids: Sequence[np.ndarray],
    target: Path,
    aside: Aside,
    folder: Path,
) -> list[Merged]:
    """Write the survey's votes and those of `parts` into one file, in the order of time; of unknown time as they come.

    Parameters
    ----------
    before
        classifications.parquet as it is; None where there is none.
    subject_ids
        For each of `parts` the survey's subject of each number, -1 where there is none.
    target
        The file to write.
    folder
        For what does not fit into memory.

    Returns
    -------
    list of Merged
        One for each of `parts`.
    """
    settings: dict[str, Any] = {"threads": 2, "memory_limit": "512MB", "temp_directory": str(folder / "spill")}
    with duckdb.connect(":memory:", config=settings) as database:
        database.execute("SET TimeZone = 'UTC'")
        held = [*([before] if before is not None else [])]
        is_sorted = not any(_has_times(file) for file in held) and not any(part.has_times for part in parts)
        merged = []
        with artifacts.replacing(target) as file, _writer(file) as writer:
            if is_sorted:  # no time is known: the order is that of the sources
                for table in _tables(held):
                    writer.write_table(table)
            for number, part in enumerate(parts):
                new = _New(database, part, subject_ids[number], held, aside)
                kept = folder / f"new.{number:05d}.parquet"
                is_last = is_sorted and part is parts[-1]  # nobody will look its votes up
                with contextlib.nullcontext() if is_last else _writer(kept, "lz4") as own:
                    for table in new.tables():
                        if own is not None:
                            own.write_table(table)
                        if is_sorted:
                            writer.write_table(table)
                if not is_last:
                    held.append(kept)
                merged.append(new.merged())
            if not is_sorted:
                for table in _in_time(database, held):
                    writer.write_table(table)
    return merged


def _writer(file: Any, compression: str = "zstd") -> pq.ParquetWriter:
    return pq.ParquetWriter(
        file,
        CLASSIFICATIONS_SCHEMA,
        compression=compression,
        use_dictionary=_WORDS,
        write_statistics=_OTHERS,  # those of words take a third of the time, and nobody looks at them
    )


def _has_times(path: Path) -> bool:
    metadata, place = pq.read_metadata(path), CLASSIFICATIONS_SCHEMA.get_field_index("created_at")
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return any(g.column(place).statistics.null_count < g.num_rows for g in groups)


def _tables(files: Sequence[Path]) -> Iterator[pa.Table]:
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(BATCH):
                yield pa.Table.from_batches([batch])


def _in_time(database: duckdb.DuckDBPyConnection, files: Sequence[Path]) -> Iterator[pa.Table]:
    """All rows of `files`, sorted; those of one classification stay in their order."""
    names = ", ".join(f'"{name}"' for name in CLASSIFICATIONS_SCHEMA.names)
    each = [
        f"SELECT {names}, {number} AS file_number, file_row_number AS row FROM {_parquet([path], rows=True)}"
        for number, path in enumerate(files)
    ]
    order = (
        "created_at NULLS LAST, CASE WHEN created_at IS NULL THEN file_number END, "
        "CASE WHEN created_at IS NULL THEN row END, classification_id, file_number, row"
    )
    found = database.sql(f"SELECT {names} FROM ({' UNION ALL '.join(each)}) ORDER BY {order}")
    for batch in found.to_arrow_reader(BATCH):
        arrays = [_typed(batch.column(f.name), f.type) for f in CLASSIFICATIONS_SCHEMA]
        yield pa.table(arrays, schema=CLASSIFICATIONS_SCHEMA)


def _parquet(files: Sequence[Path], rows: bool = False) -> str:
    listed = ", ".join(sql_path(file) for file in files)
    return f"read_parquet([{listed}]{', file_row_number = true' if rows else ''})"


class _New:
    """The rows of one file that the survey does not have.

    Parameters
    ----------
    held
        The files of votes that are there.
    """

    def __init__(
        self,
        database: duckdb.DuckDBPyConnection,
        part: Parts,
        subject_ids: np.ndarray,
        held: Sequence[Path],
        aside: Aside,
    ) -> None:
        self._part, self._subject_ids, self._aside = part, subject_ids, aside
        self._database, self._held = database, held
        self._texts = part.names.texts()
        self._n_taken = self._n_aside = self._n_members = 0
        none = np.empty(0, np.int64)
        self._known = self._twice = none
        if part.files and held:
            self._known = self._lines_known()
        if part.files and part.has_ids and not part.ascends:
            self._twice = self._lines_twice()
        self._next_id = FIRST_ID if part.has_ids else self._first_free()

    def merged(self) -> Merged:
        """What came of it, after `tables`."""
        return Merged(self._n_taken, len(self._known), self._n_aside, self._n_members)

    def tables(self) -> Iterator[pa.Table]:
        """Its new rows by the schema; the others are set aside."""
        source = pa.array([self._part.source.key]).dictionary_encode().dictionary
        for file in self._part.files:
            table = pq.read_table(file)
            lines = table.column("line").to_numpy()
            subjects = self._subject_ids[table.column("subject").to_numpy()]
            is_open = ~_among(lines, self._known)
            is_twice = _among(lines, self._twice) & is_open
            if is_twice.any():
                self._n_aside += self._put_aside(table, is_twice & _first_of(lines), "classification_id", TWICE)
                is_open &= ~is_twice
            chosen = is_open & (subjects >= 0)
            if (lost := is_open & ~chosen).any():
                self._without_subject(table, lines, chosen, lost)
            if not chosen.any():
                continue
            if not chosen.all():
                table, subjects, lines = table.filter(pa.array(chosen)), subjects[chosen], lines[chosen]
            self._n_taken += int(_first_of(lines).sum())
            n = len(subjects)
            columns = {name: table.column(name) for name in table.column_names}
            columns["subject_id"] = pa.array(subjects)
            columns["source"] = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), source)
            if not self._part.has_ids:
                columns["classification_id"] = pa.array(np.arange(self._next_id, self._next_id + n))
                self._next_id += n
            yield pa.table([columns[f.name] for f in CLASSIFICATIONS_SCHEMA], schema=CLASSIFICATIONS_SCHEMA)

    def _without_subject(self, table: pa.Table, lines: np.ndarray, chosen: np.ndarray, lost: np.ndarray) -> None:
        has_some = np.isin(lines, lines[chosen])
        whole = lost & ~has_some
        self._n_aside += int(_first_of(lines[whole]).sum()) if whole.any() else 0
        codes = table.column("subject").to_numpy()
        rows = np.flatnonzero(lost)
        _, first = np.unique(np.stack([lines[rows], codes[rows]]), axis=1, return_index=True)
        rows = rows[np.sort(first)]  # once for each subject, however many answers it got
        self._n_members += int(has_some[rows].sum())
        ids = self._texts.take(pa.array(codes[rows]))
        self._aside.add_many(self._part.source.name, pa.array(lines[rows]), ids, NOT_THERE, self._part.source.key)

    def _put_aside(self, table: pa.Table, rows: np.ndarray, id_column: str, reason: str) -> int:
        chosen = table.filter(pa.array(rows))
        ids = chosen.column(id_column).cast(pa.string()).combine_chunks()
        lines = chosen.column("line").combine_chunks()
        self._aside.add_many(self._part.source.name, lines, ids, reason, self._part.source.key)
        return len(chosen)

    def _lines_twice(self) -> np.ndarray:
        """Lines whose classification id an earlier line has."""
        part = _parquet(self._part.files)
        return self._lines(
            f"""SELECT DISTINCT p.line FROM {part} p JOIN (
                    SELECT classification_id, min(line) AS first FROM {part} GROUP BY ALL HAVING max(line) > min(line)
                ) d USING (classification_id) WHERE p.line > d.first ORDER BY p.line"""
        )

    def _lines_known(self) -> np.ndarray:
        """Lines that the survey has already: by their ids, else by who said what of which subject, and how often."""
        part, held = _parquet(self._part.files), _parquet(self._held)
        if self._part.has_ids:
            ids = f"SELECT classification_id FROM {held} WHERE is_simulated IS NOT TRUE"  # these have ids of ours
            return self._lines(f"SELECT DISTINCT line FROM {part} WHERE classification_id IN ({ids}) ORDER BY line")
        numbers = pa.table({"subject": np.arange(len(self._subject_ids)), "subject_id": self._subject_ids})
        self._database.register("numbers", numbers)
        same = "subject_id, workflow_id, volunteer, task, answer"
        lines = self._lines(
            f"""WITH mine AS (SELECT line, {same}, row_number() OVER (PARTITION BY {same} ORDER BY line) AS nth
                              FROM {part} JOIN numbers USING (subject)),
                     theirs AS (SELECT {same}, count(*) AS n FROM {held} WHERE classification_id < 0 GROUP BY ALL)
                SELECT line FROM mine JOIN theirs USING ({same}) WHERE nth <= n ORDER BY line"""
        )
        self._database.unregister("numbers")
        return lines

    def _first_free(self) -> int:
        """The first id that no vote without one of its own has."""
        if not self._held:
            return FIRST_ID
        query = f"SELECT max(classification_id) FROM {_parquet(self._held)} WHERE classification_id < 0"
        found = self._database.sql(query).fetchall()[0][0]
        return FIRST_ID if found is None else int(found) + 1

    def _lines(self, query: str) -> np.ndarray:
        return np.asarray(self._database.sql(query).fetchnumpy()["line"], np.int64)


def _among(lines: np.ndarray, sorted_lines: np.ndarray) -> np.ndarray:
    if not len(sorted_lines):
        return np.zeros(len(lines), bool)
    place = np.minimum(np.searchsorted(sorted_lines, lines), len(sorted_lines) - 1)
    return np.asarray(sorted_lines[place] == lines)


def _first_of(lines: np.ndarray) -> np.ndarray:
    """Whether each is the first row of its line; rows of a line stand together, and in one part."""
    return np.asarray(np.diff(lines, prepend=-1) != 0)
