"""``voorwerp join``: columns of a table that others made, beside the survey's own, by id or by place on the sky.

Subjects stay as they are and in their order. ``subjects.parquet`` is rewritten whole under a temporary name and takes
its place at the end: a join that is stopped has not happened.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from explorer.errors import IngestError, UsageError, no_such_column
from explorer.ingest.catalogues import notes_of, read_catalogue, sky_columns, sky_positions
from explorer.survey import ROW_GROUP, SUBJECTS, SUBJECTS_SCHEMA, Survey, counted
from models import artifacts

#: The survey's columns that an id is looked for in, in this order.
ID_COLUMNS = ("source_id", "subject_id", "zooniverse_subject_id")
KNOWN = "is_known"
KNOWN_NAME = "known_name"

_UNITS_ARCSEC = {"arcsec": 1.0, "arcmin": 60.0, "deg": 3600.0}
_LARGEST_RADIUS_ARCSEC = 36_000.0


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """What `join` may be told; one of `on` and `sky`.

    Attributes
    ----------
    on
        ``COLUMN`` of the table, or ``SUBJECT_COLUMN=TABLE_COLUMN``.
    sky
        A radius with its unit: ``2arcsec``, ``0.5arcmin``, ``0.001deg``.
    columns
        The table's columns that are joined; None takes all but the key (with `known`: none).
    prefix
        Put before each name.
    replace
        Whether columns that are there already are written anew.
    known
        Flag the matched as known objects.
    name_column
        With `known`: the table's column of their names, kept as ``known_name``.
    name
        What the separation column is called after; None takes the table's file name.
    strict
        Refuse a table with a key twice, in place of taking the first row.
    """

    on: str | None = None
    sky: str | None = None
    columns: Sequence[str] | None = None
    prefix: str = ""
    replace: bool = False
    known: bool = False
    name_column: str | None = None
    name: str | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """Which row of the table belongs to each subject.

    Attributes
    ----------
    rows
        int64 (N,), -1 where none does.
    by
        In words: ``source_id = objid``, or ``within 2 arcsec``.
    n_doubled
        Rows of the table left aside because an earlier one has their key.
    n_several
        Subjects with more than one candidate within the radius, of which the nearest was taken.
    separation_arcsec
        float32 (N,), NaN where unmatched; None for a match by id.
    """

    rows: np.ndarray
    by: str
    n_doubled: int = 0
    n_several: int = 0
    separation_arcsec: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Joined:
    """What a join did.

    Attributes
    ----------
    n_matched, n_subjects
        Subjects with a row of the table, of all.
    n_rows_used, n_rows
        Rows of the table that belong to a subject, of all.
    n_shared
        Subjects that share their row with another.
    columns
        Names as they are in the survey now.
    notes
        Sentences about what the table's reader left out.
    """

    match: Match
    n_matched: int
    n_subjects: int
    n_rows_used: int
    n_rows: int
    n_shared: int
    columns: tuple[str, ...]
    notes: tuple[str, ...]

    def sentences(self) -> list[str]:
        """All of it for a person."""
        said = [f"{self.n_matched:,} of {counted(self.n_subjects, 'subject')} matched ({self.match.by})"]
        if unused := self.n_rows - self.n_rows_used:
            belong = "belongs" if unused == 1 else "belong"
            said.append(f"{unused:,} of the table's {counted(self.n_rows, 'row')} {belong} to no subject")
        if self.match.n_doubled:
            said.append(
                f"{counted(self.match.n_doubled, 'row')} with a key that an earlier row has; the first was taken"
            )
        if self.match.n_several:
            several = counted(self.match.n_several, "subject")
            said.append(f"{several} with several rows within the radius; the nearest was taken")
        if self.n_shared:
            said.append(f"{self.n_shared:,} subjects share their row of the table with another subject")
        said.append(f"columns: {', '.join(self.columns)}")
        return [*said, *self.notes]


def join(path: Path | str, table_path: Path | str, options: JoinOptions) -> Joined:
    """Add a table's columns to a survey, matched by id or by place; at any time, also while a server shows the survey.

    Parameters
    ----------
    table_path
        See `explorer.ingest.catalogues.read_catalogue`.

    Raises
    ------
    UsageError
        Columns that are not there, names that are taken, a radius without unit, positions that cannot be used.
    IngestError
        A table that cannot be read, a key twice where that is refused, or no match at all.
    SurveyError
        No such survey, or another command writes into it.
    """
    if bool(options.on) == bool(options.sky):
        raise UsageError("a join needs one of --on COLUMN and --sky RADIUS")
    if options.name_column is not None and not options.known:
        raise UsageError("--name-column names known objects; use it with --known")
    survey = Survey.open(path)
    try:
        with survey.lock():
            survey.refresh()
            return _join(survey, Path(table_path), options)
    finally:
        survey.close()


def _join(survey: Survey, table_path: Path, options: JoinOptions) -> Joined:
    told, _, key = (options.on or "").rpartition("=")
    table = read_catalogue(table_path, as_text=(key,) if options.on else ())
    name = _identifier(options.name or table_path.name.split(".")[0])
    wanted = _wanted(table, options, key, table_path)
    targets = {column: f"{options.prefix}{column}" for column in wanted}
    separation = None if options.sky is None else f"{options.prefix}{name}_sep_arcsec"
    if options.name_column is not None and options.name_column not in table.column_names:
        raise no_such_column(options.name_column, str(table_path), table.column_names)

    match = match_sky(survey, table, options.sky) if options.sky else match_ids(survey, table, key, told or None)
    _check_names(survey, list(targets.values()), separation, options.replace)
    is_matched = match.rows >= 0
    if match.n_doubled and options.strict:
        doubled = counted(match.n_doubled, "row")
        raise IngestError(f"{table_path} has {doubled} whose key an earlier row has; make keys unique")
    if not is_matched.any():
        seen, hint = _unlike(survey, table, key, match.by.partition(" = ")[0]) if options.on else ("", "")
        raise IngestError(
            f"no row of {table_path} belongs to a subject of {survey.path} ({match.by}{seen}); nothing changed{hint}"
        )

    rows = pa.array(match.rows, mask=~is_matched)
    new: dict[str, tuple[pa.Field, pa.ChunkedArray]] = {}
    for column, target in targets.items():
        field = table.schema.field(column)
        metadata = {**field.metadata, b"source": table_path.name.encode()}
        new[target] = (pa.field(target, field.type, metadata=metadata), table.column(column).take(rows))
    if separation is not None:
        metadata = {"kind": "number", "unit": "arcsec", "source": table_path.name}
        values = pa.chunked_array([pa.array(match.separation_arcsec, pa.float32(), from_pandas=True)])
        new[separation] = (pa.field(separation, pa.float32(), metadata=metadata), values)
    if options.known:
        new |= _known(survey, table, options.name_column, rows, is_matched)
    rewrite(survey, new)
    used, shared = np.unique(match.rows[is_matched], return_counts=True)
    return Joined(
        match=match,
        n_matched=int(is_matched.sum()),
        n_subjects=survey.n,
        n_rows_used=len(used),
        n_rows=table.num_rows,
        n_shared=int(shared[shared > 1].sum()),
        columns=tuple(new),
        notes=tuple(notes_of(table)),
    )


# -------------------------------------------------------------------------------------------------------- the match
def match_ids(survey: Survey, table: pa.Table, key: str, column: str | None = None) -> Match:
    """Match a text column of the table with a column of the survey, character by character.

    Parameters
    ----------
    column
        The survey's; None takes the id that is called as `key` is, else the one of `ID_COLUMNS` where most subjects
        find a row.
    """
    keys = table.column(key).combine_chunks()
    given = np.append(np.flatnonzero(keys.is_valid().to_numpy(zero_copy_only=False)), -1)  # rows that have a key
    keys = keys.drop_null()
    n_doubled = len(keys) - len(pc.unique(keys))
    known = [c.name for c in survey.columns()]
    candidates = [column] if column is not None else [key] if key in ID_COLUMNS else list(ID_COLUMNS)
    best: Match | None = None
    for candidate in candidates:
        if candidate not in known:
            raise no_such_column(candidate, SUBJECTS, known)
        ids = pq.read_table(survey.path / SUBJECTS, columns=[candidate]).column(0)
        if pa.types.is_floating(ids.type):
            raise UsageError(f'column "{candidate}" of the survey holds floats, which are no ids; match by another one')
        found = pc.index_in(ids.cast(pa.string()), keys).fill_null(-1).to_numpy()
        match = Match(given[found], f"{candidate} = {key}", n_doubled)
        if best is None or (match.rows >= 0).sum() > (best.rows >= 0).sum():
            best = match
    assert best is not None
    return best


def _unlike(survey: Survey, table: pa.Table, key: str, tried: str) -> tuple[str, str]:
    """A key of each side, where none of a column's matched; and the flag that would match most, if there is one."""
    path = survey.path / SUBJECTS
    keys = pc.unique(table.column(key).drop_null())
    ours = pq.read_table(path, columns=[tried]).column(0).drop_null()
    if not len(keys) or not len(ours):
        return f": {SUBJECTS if len(keys) else 'the table'} has none", ""
    best, n_best = "", min(len(keys), survey.n) / 2
    for field in pq.read_schema(path):
        if pa.types.is_string(field.type) or field.name in ID_COLUMNS:
            ids = pc.unique(pq.read_table(path, columns=[field.name]).column(0).cast(pa.string()))
            n = pc.sum(pc.is_in(keys, value_set=ids)).as_py()
            best, n_best = (field.name, n) if n > n_best else (best, n_best)
    hint = f"; did you mean --on {best}={key}?" if best else ""
    return f': the survey has "{ours[0].as_py()}", the table "{keys[0].as_py()}"', hint


def match_sky(survey: Survey, table: pa.Table, radius: str) -> Match:
    """Match each subject with the nearest row of the table within a radius, by great-circle distance."""
    radius_arcsec = radius_of(radius)
    ra, dec = sky_positions(table)
    placed = np.flatnonzero(np.isfinite(ra))
    ours_ra, ours_dec = survey.column("ra"), survey.column("dec")
    ours = np.flatnonzero(np.isfinite(ours_ra) & np.isfinite(ours_dec))
    if not len(ours):
        raise UsageError(f"no subject of {survey.path} has ra and dec; match with --on")
    if not len(placed):
        raise UsageError("no row of the table has a position on the sky; match with --on")
    from scipy.spatial import cKDTree

    tree = cKDTree(unit_vectors(ra[placed], dec[placed]))
    points = unit_vectors(ours_ra[ours], ours_dec[ours])
    chord = 2 * np.sin(np.radians(radius_arcsec / 3600) / 2)
    found = tree.query(points, distance_upper_bound=np.nextafter(chord, 9))  # the bound itself would be outside
    distance, place = np.asarray(found[0]), np.asarray(found[1])
    is_near = np.isfinite(distance)
    n_within = tree.query_ball_point(points[is_near], chord, return_length=True)
    rows = np.full(survey.n, -1, np.int64)
    rows[ours[is_near]] = placed[place[is_near]]
    separation = np.full(survey.n, np.nan, np.float32)
    separation[ours[is_near]] = np.degrees(2 * np.arcsin(distance[is_near] / 2)) * 3600
    words = f"within {radius_arcsec:g} arcsec"
    return Match(rows, words, n_several=int((n_within > 1).sum()), separation_arcsec=separation)


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Points on the unit sphere, float64 (n, 3), of `ra` and `dec` in degrees."""
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)], axis=1)


def radius_of(text: str) -> float:
    """A radius as text, with its unit, in arcsec.

    Raises
    ------
    UsageError
        No number, no unit, or not between 0 and 10 degrees.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([a-z]*)\s*", text)
    if found is None or found[2] not in _UNITS_ARCSEC:
        raise UsageError(f'"{text}" is no radius; write a number and its unit, as 2arcsec, 0.5arcmin or 0.001deg')
    radius = float(found[1]) * _UNITS_ARCSEC[found[2]]
    if not 0 < radius <= _LARGEST_RADIUS_ARCSEC:
        raise UsageError(f"a radius of {text.strip()} is not possible; choose above 0 and up to 10deg")
    return radius


# ------------------------------------------------------------------------------------------------------ the columns
def _wanted(table: pa.Table, options: JoinOptions, key: str, path: Path) -> list[str]:
    if options.columns is not None:
        for column in options.columns:
            if column not in table.column_names:
                raise no_such_column(column, str(path), table.column_names)
        return list(dict.fromkeys(options.columns))
    keys = list(sky_columns(table)) if options.sky else [key]
    return [] if options.known else [column for column in table.column_names if column not in keys]


def _check_names(survey: Survey, names: list[str], separation: str | None, replace: bool) -> None:
    own = {name.lower() for name in SUBJECTS_SCHEMA.names}
    there = {column.name for column in survey.columns()}
    for name in names:
        if name.lower() in own:
            raise UsageError(
                f'the survey has a column "{name}" of its own, which no table can change; '
                "choose others with --columns, or give --prefix"
            )
        if name in there and not replace:
            raise UsageError(
                f'the survey has a column "{name}" already; --replace writes it anew, --prefix gives another name'
            )
    if separation in there and not replace:
        raise UsageError(
            f'the survey has a column of separations "{separation}" already; --replace writes it anew, --name gives '
            "this one another name"
        )


def _identifier(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_") or "table"


def _known(
    survey: Survey, table: pa.Table, name_column: str | None, rows: pa.Array, is_matched: np.ndarray
) -> dict[str, tuple[pa.Field, pa.ChunkedArray]]:
    """Columns of the flag and the names: the matched get theirs, the others keep what they have."""
    before = pq.read_table(survey.path / SUBJECTS, columns=[KNOWN]).column(0)
    chosen = pa.array(is_matched)
    new = {KNOWN: (SUBJECTS_SCHEMA.field(KNOWN), pc.if_else(chosen, True, before))}
    if name_column is not None:
        names = table.column(name_column).cast(pa.string()).take(rows)
        if KNOWN_NAME in {column.name for column in survey.columns()}:
            had = pq.read_table(survey.path / SUBJECTS, columns=[KNOWN_NAME]).column(0).cast(pa.string())
            names = pc.if_else(chosen, names, had)
        new[KNOWN_NAME] = (pa.field(KNOWN_NAME, pa.string(), metadata={"kind": "text"}), names)
    return new


def rewrite(survey: Survey, new: dict[str, tuple[pa.Field, pa.ChunkedArray]]) -> None:
    """Write subjects.parquet with columns added, or in place of those of the same name; hold `Survey.lock`.

    Parameters
    ----------
    new
        Name → field (its metadata is kept) and values in row order.
    """
    path = survey.path / SUBJECTS
    for stray in survey.path.glob(f".{SUBJECTS}.*.tmp"):  # of a command that was killed
        stray.unlink()
    with pq.ParquetFile(path) as old, artifacts.replacing(path) as file:
        fields = {field.name: field for field in old.schema_arrow} | {name: field for name, (field, _) in new.items()}
        schema = pa.schema(list(fields.values()), metadata=old.schema_arrow.metadata)
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            start = 0
            for group in range(old.num_row_groups):
                table = old.read_row_group(group)
                columns = [
                    new[name][1].slice(start, len(table)) if name in new else table.column(name) for name in fields
                ]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=ROW_GROUP)
                start += len(table)
