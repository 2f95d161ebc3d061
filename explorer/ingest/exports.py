"""``voorwerp ingest``: what volunteers said, taken into a survey, whatever files it comes in.

Every file is recognised by its content and read once, a part at a time, into a folder of its own; then ids become
subjects, and what is new is written. All of it takes its place at the end: stopped before, the survey is as it was. A
call that is stopped while the files take their places, in the last milliseconds, is finished by the same call, which
finds what is there already and adds nothing twice.
"""

import contextlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from explorer import survey as layout
from explorer.errors import IngestError, SurveyError, UsageError
from explorer.ingest import flat, reduced, zooniverse
from explorer.ingest.add import added_rows, rows_before
from explorer.ingest.aside import Aside, Taken
from explorer.ingest.build import create_table_only, full_disk_said, integers_of, write_subjects
from explorer.ingest.catalogues import notes_of, read_catalogue
from explorer.ingest.classifications import NOT_THERE, Merged, Parts, Volunteers, merge
from explorer.ingest.matching import Described, Names, columns_of, match
from explorer.ingest.recognise import Recognised, recognise
from explorer.ingest.records import Source
from explorer.ingest.tables import with_ids
from explorer.survey import Survey, counted
from explorer.votes import (
    CLASSIFICATIONS,
    EXPERIENCE,
    EXPERIENCE_SCHEMA,
    GOLD,
    GOLD_SCHEMA,
    SET_ASIDE,
    SET_ASIDE_SCHEMA,
    SOURCES,
    TALK_COMMENTS,
    TALK_COMMENTS_SCHEMA,
    TALK_TAGS,
    TALK_TAGS_SCHEMA,
    TOTALS,
    TOTALS_SCHEMA,
)
from models import artifacts
from models.progress import Progress

#: Kinds that say which subjects there are.
_NAMING = ("classifications", "subjects", "votes", "gold", "reduced", "outcomes")
_TALK = {"talk_tags": (TALK_TAGS, TALK_TAGS_SCHEMA), "talk_comments": (TALK_COMMENTS, TALK_COMMENTS_SCHEMA)}
#: What is written in this order; the list of sources last: what is not in it is taken in again.
_ORDER = (layout.SUBJECTS, CLASSIFICATIONS, TOTALS, GOLD, EXPERIENCE, TALK_TAGS, TALK_COMMENTS, SET_ASIDE, SOURCES)
#: Lines that are named of a reason.
_LINES_NAMED = 3
#: Name of the folder in which a call works, within the survey.
_WORKING = ".ingest."


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """What `ingest` may be told.

    Attributes
    ----------
    experience
        Files that say how much volunteers have done elsewhere: ``user_name,n``, or another project's export.
    name
        Of a survey that is made; None takes the folder's.
    """

    experience: Sequence[Path | str] = ()
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Ingested:
    """What a call did.

    Attributes
    ----------
    refused
        Sentences about files that were not recognised.
    n_new
        Subjects that were added; all of them where the survey is new.
    reasons
        File → reason → rows set aside.
    """

    taken: tuple[Taken, ...]
    refused: tuple[str, ...]
    n_subjects: int
    n_new: int
    is_new: bool
    reasons: dict[str, dict[str, int]]
    notes: tuple[str, ...]

    def sentences(self) -> list[str]:
        """All of it for a person, but for what was refused."""
        said = []
        for taken in self.taken:
            words = [f"{taken.n_taken:,} of {counted(taken.n_rows, 'row')} taken"]
            if taken.n_known:
                words.append(f"{taken.n_known:,} known already")
            if taken.n_aside:
                words.append(f"{taken.n_aside:,} set aside")
            if taken.n_rows and taken.n_known == taken.n_rows:
                words = ["it was taken before, and nothing changes"]
            said.append(f"{taken.file}: {taken.what}; {', '.join(words)}")
            said += [f"  {n:,} × {reason}" for reason, n in self.reasons.get(taken.file, {}).items()]
            said += [f"  {note}" for note in taken.notes]
        subjects = counted(self.n_subjects, "subject")
        if self.is_new:
            said.append(f"{subjects}, without images: a new survey")
        elif self.n_new:
            said.append(f"{self.n_new:,} subjects are new; the survey has {self.n_subjects:,}")
        return [*said, *self.notes]


@dataclass(slots=True)
class _File:
    """A file while it is taken in."""

    source: Source
    recognised: Recognised
    is_experience: bool
    parts: Parts | None = None
    table: pa.Table | None = None
    counts: dict[str, int] = field(default_factory=dict)
    workflows: set[str] = field(default_factory=set)
    n_rows: int = 0
    n_bad: int = 0
    notes: list[str] = field(default_factory=list)
    taken: Taken | None = None


def ingest(
    path: Path | str, files: Sequence[Path | str], options: IngestOptions | None = None
) -> Generator[Progress, None, Ingested]:
    """Take files of volunteers' work into a survey; make it, without images, where the folder does not exist.

    Parameters
    ----------
    files
        As `explorer.ingest.recognise.recognise` knows them, in any order.

    Yields
    ------
    Progress
        In kB of the files.

    Raises
    ------
    UsageError
        No file, or one that is not there.
    IngestError
        No file could be recognised; a new survey without any file that says which subjects there are; no subject of
        the files is in the survey; a full disk.
    SurveyError
        The folder is something else, or another command writes into it.
    """
    path, options = Path(path), options or IngestOptions()
    given = [(Path(file), False) for file in files] + [(Path(file), True) for file in options.experience]
    if not given:
        raise UsageError("there is nothing to ingest; name exports, tables of votes, or Talk's comments and tags")
    for file, _ in given:
        if not file.is_file():
            raise UsageError(f"{file} does not exist" if not file.exists() else f"{file} is a folder; name its files")
    is_new = not path.exists() or (path.is_dir() and not any(path.iterdir()))
    with contextlib.ExitStack() as stack:
        stack.enter_context(full_disk_said(path))
        if is_new:
            path.parent.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
            call = _Call(path, folder, None, str(uuid.uuid4()), options)
        else:
            survey = Survey.open(path)
            stack.callback(survey.close)
            stack.enter_context(survey.lock())
            for stray in path.glob(f"{_WORKING}*"):  # of a call that was killed
                shutil.rmtree(stray)
            survey.refresh()
            if survey.n_added:
                raise SurveyError(f"another command has just added to {path}; start again")
            folder = Path(tempfile.mkdtemp(dir=path, prefix=_WORKING, suffix=".tmp"))
            call = _Call(path, folder, survey, survey.info.survey_id, options)
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return (yield from call.run(given))


class _Call:
    def __init__(self, path: Path, folder: Path, survey: Survey | None, survey_id: str, options: IngestOptions) -> None:
        self._path, self._folder, self._survey, self._survey_id = path, folder, survey, survey_id
        self._options = options
        self._made = folder / "made"
        self._parts = folder / "parts"
        self._made.mkdir()
        self._parts.mkdir()
        self._aside = Aside()
        self._volunteers = Volunteers(survey_id)
        self._zooniverse, self._items = Names(), Names()
        self._described = {True: Described(), False: Described()}
        self._outcomes = {True: Described(), False: Described()}
        self._subject_ids: dict[bool, np.ndarray] = {}
        self._is_news: dict[bool, np.ndarray] = {}
        self._sources = self._read_sources()
        self._workflows: zooniverse.Workflows = self._sources.get("workflows", {})
        self._named: zooniverse.Workflows = {}
        self._taken: list[Taken] = []
        self._notes: list[str] = []
        self._reasons: dict[str, dict[str, int]] = {}

    def _read_sources(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads((self._path / SOURCES).read_bytes())
        except FileNotFoundError:
            return {"files": {}, "workflows": {}}
        except ValueError:
            raise SurveyError(f"{self._path / SOURCES} is no JSON; put back a copy") from None
        return found

    # ------------------------------------------------------------------------------------------------------- reading
    def run(self, given: Sequence[tuple[Path, bool]]) -> Generator[Progress, None, Ingested]:
        """All of it."""
        files, refused = self._recognised(given)
        if not files and not self._taken:
            raise IngestError(refused[0] if len(refused) == 1 else "no file was taken: " + "; ".join(refused))
        if self._survey is None and not any(f.recognised.kind in _NAMING and not f.is_experience for f in files):
            raise IngestError(self._without_subjects(files))
        total, done = sum(f.source.n_bytes for f in files), 0
        for file in sorted(files, key=lambda f: f.recognised.kind != "workflows"):  # its answers name the others'
            for n in self._read(file):
                yield self._at(done + min(n, file.source.n_bytes), total, f"kB read, {file.source.name}")
            done += file.source.n_bytes
            yield self._at(done, total, f"kB read, {file.source.name}")
        if not files:
            return self._ingested(refused, 0)
        yield Progress(0, 0, "finding subjects")
        n_new = self._find_subjects(files)
        yield Progress(0, 0, "putting votes in order")
        self._merge(files)
        yield Progress(0, 0, "writing")
        self._write_sources(files)
        self._commit()
        return self._ingested(refused, n_new)

    def _without_subjects(self, files: Sequence[_File]) -> str:
        """Why no survey can be made of files that name no subjects, and which of them are damaged besides."""
        kinds = list(dict.fromkeys(f.recognised.what for f in files))
        do = "do" if len(kinds) > 1 or kinds[0].startswith("Talk") else "does"
        said = (
            f"the survey {self._path} does not exist yet, and {' and '.join(kinds)} alone {do} not say which subjects "
            "there are; give a subject export, classifications, votes or a reduced table too"
        )
        for file in files:
            if file.recognised.kind in _TALK and (number := _damaged(file.source.path)):
                said += f" ({file.source.name} is damaged besides: its element {number:,} cannot be read)"
        return said

    @staticmethod
    def _at(done: int, total: int, message: str) -> Progress:
        return Progress(done // 1_000, total // 1_000, message)

    def _recognised(self, given: Sequence[tuple[Path, bool]]) -> tuple[list[_File], list[str]]:
        files, refused, seen = [], [], set()
        known = self._sources["files"]
        for path, is_experience in given:
            source = Source.examine(path)
            if source.sha256 in seen:
                continue
            seen.add(source.sha256)
            if (record := known.get(source.sha256)) is not None and not self._may_give_more(record):
                n, what = record["n_rows"], record["what"]
                self._taken.append(Taken(record["kind"], source.name, what, n, 0, n_known=n))
                continue
            try:
                recognised = recognise(source)
                if is_experience and recognised.kind not in ("experience", "classifications", "votes"):
                    raise IngestError(
                        f"{path} is a {recognised.what}; --experience takes user_name,n or another project's "
                        "classification export"
                    )
                files.append(_File(source, recognised, is_experience or recognised.kind == "experience"))
            except IngestError as error:
                refused.append(str(error))
        return files, refused

    def _may_give_more(self, record: dict[str, Any]) -> bool:
        """Whether rows of a file taken before may be of subjects that the survey has got since."""
        n = 0 if self._survey is None else self._survey.n
        return bool(record["n_aside"]) and n != record.get("n_subjects", n)

    def _read(self, file: _File) -> Iterator[int]:
        """Read one file into its parts."""
        kind, recognised, notes = file.recognised.kind, file.recognised, file.notes
        if file.is_experience:
            read = flat.read_experience(recognised, self._volunteers, self._aside)
            file.counts, file.workflows, file.n_rows, file.n_bad, found = read
            notes += found
            return
        if kind == "workflows":
            workflows, file.n_rows, file.n_bad, found = zooniverse.read_workflows(recognised, self._aside)
            notes += found
            self._workflows = zooniverse.merged(self._workflows, workflows)
            return
        if kind in _TALK:
            return
        is_zooniverse = kind in ("classifications", "subjects", "reduced") or (
            kind in ("votes", "outcomes") and "item" not in {c.lower() for c in recognised.columns}
        )
        names = self._zooniverse if is_zooniverse else self._items
        described = self._described[is_zooniverse]
        parts = file.parts = Parts(file.source, self._parts, names, is_zooniverse, notes=notes)
        if kind == "classifications":
            reading = zooniverse.Classifications(
                recognised, parts, self._volunteers, described, self._workflows, self._aside
            )
            yield from reading.read()
            self._named = zooniverse.merged(self._named, reading.workflows)
        elif kind == "subjects":
            yield from zooniverse.read_subjects(recognised, parts, described, self._aside)
        elif kind == "votes":
            yield from flat.read_votes(recognised, parts, self._volunteers, self._aside)
        elif kind == "gold":
            file.table = flat.read_gold(recognised, parts, self._aside)
        elif kind == "reduced":
            file.table = reduced.read_totals(recognised, parts, self._aside)
        else:
            reduced.read_outcomes(recognised, parts, self._outcomes[is_zooniverse], self._aside)
        file.n_rows, file.n_bad = parts.n_rows, parts.n_bad

    # ------------------------------------------------------------------------------------------------------ subjects
    def _names(self, is_zooniverse: bool) -> Names:
        return self._zooniverse if is_zooniverse else self._items

    def _find_subjects(self, files: Sequence[_File]) -> int:
        """Make the survey's subjects, or find them; how many are new."""
        listed = _Listed(self._zooniverse.texts(), self._items.texts())
        if self._survey is None:
            return self._make_survey(listed, files)
        survey = self._survey
        found = {}
        for kind in (True, False):
            names = self._names(kind)
            matched = match(survey, names.texts(), kind, self._described[kind].table(len(names)))
            found[kind], self._subject_ids[kind] = matched.subject_ids, matched.subject_ids.copy()
            of_all = counted(len(names), "subject")
            self._notes += [f"{n:,} of {of_all} of the files found by {how}" for how, n in matched.by.items()]
        has_images = survey.info.crop != "none"
        if len(listed.ids) and has_images and not any((ids >= 0).any() for ids in found.values()):
            raise IngestError(
                f"no subject of the files is in {self._path}: theirs is called {listed.ids[0].as_py()}, the survey's "
                f"{survey.source_ids([0])[0]}; give the subject export too, whose metadata names the images"
            )
        linked, zooniverse_ids = self._linked(survey, found[True])
        outcomes = self._outcomes_of(listed) if any(f.recognised.kind == "outcomes" for f in files) else pa.table({})
        new = None if has_images else self._rows_to_add(survey, listed)
        for kind in (True, False):
            self._is_news[kind] = (self._subject_ids[kind] >= 0) & (found[kind] < 0)
        self._is_news[True] |= linked
        columns = self._new_columns(survey, listed, outcomes)
        if zooniverse_ids is None and new is None and not columns:
            return 0
        if zooniverse_ids is not None:
            columns["zooniverse_subject_id"] = (layout.SUBJECTS_SCHEMA.field("zooniverse_subject_id"), zooniverse_ids)
        self._write_subjects(survey, columns, new)
        if any(f.recognised.kind in _TALK for f in files):  # its readers look the new ones up
            self._place(layout.SUBJECTS)
            self._survey = Survey.open(self._path)
            survey.close()
        return len(new[1]) if new is not None else 0

    def _make_survey(self, listed: "_Listed", files: Sequence[_File]) -> int:
        if not len(listed.ids):
            raise IngestError(f"{self._path} was not made: {self._set_aside(files)}")
        table = self._typed(listed.ids, self._metadata(listed, self._outcomes_of(listed)))
        table = with_ids(table, listed.ids).append_column("zooniverse_subject_id", listed.zooniverse_ids)
        name = self._options.name or self._path.absolute().name
        made = self._folder / "survey"
        create_table_only(made, table, name, notes_of(table), self._survey_id)
        self._made = made
        self._survey = survey = Survey.open(made)
        for kind in (True, False):
            self._subject_ids[kind] = survey.subject_ids[listed.rows(kind)]
            self._is_news[kind] = np.ones(len(self._subject_ids[kind]), bool)
        return survey.n

    def _metadata(self, listed: "_Listed", outcomes: pa.Table) -> pa.Table:
        """What is known of the subjects listed, as text: metadata, and after them outcomes."""
        table = listed.spread({k: columns_of(self._described[k].table(len(self._names(k)))) for k in (True, False)})
        for name in outcomes.column_names:
            own = name
            while own in table.column_names:
                own += "_given"
            table = table.append_column(own, outcomes.column(name))
        if left_out := self._described[True].left_out:
            self._notes.append(f"metadata {', '.join(sorted(left_out)[:3])} and more were left out: too many keys")
        return table

    def _outcomes_of(self, listed: "_Listed") -> pa.Table:
        return listed.spread({k: self._outcomes[k].table(len(self._names(k))) for k in (True, False)})

    def _typed(self, ids: pa.Array, table: pa.Table) -> pa.Table:
        """Text columns with the types that all of their values have; without those that have none."""
        table = table.select([name for name in table.column_names if table.column(name).null_count < len(ids)])
        ours = {"source_id", "zooniverse_subject_id"}
        table = table.rename_columns([f"{n}_given" if n.lower() in ours else n for n in table.column_names])
        if not table.column_names:
            return pa.table({})
        file = self._parts / "subjects.parquet"
        pq.write_table(table.append_column("source_id", ids), file)
        return read_catalogue(file, as_text=["source_id"]).drop_columns(["source_id"])

    def _linked(self, survey: Survey, subject_ids: np.ndarray) -> tuple[np.ndarray, pa.Array | None]:
        """Which of Zooniverse's subjects get into the survey's column of their ids; that column, None as it is."""
        numbers = _numbers(self._zooniverse.texts())
        rows = survey.rows_of(subject_ids)
        before = survey.arrow("zooniverse_subject_id")
        is_free = before.is_null().to_numpy(zero_copy_only=False)
        codes = np.flatnonzero(rows >= 0)
        codes = codes[is_free[rows[codes]] & numbers.is_valid().to_numpy(zero_copy_only=False)[codes]]
        taken, first = np.unique(rows[codes], return_index=True)
        linked = np.zeros(len(rows), bool)
        linked[codes[first]] = True
        if several := len(codes) - len(taken):
            self._notes.append(f"{several:,} of Zooniverse's subjects show what another one does: votes are joined")
        if not len(taken):
            return linked, None
        values = np.array(before.fill_null(0).to_numpy())
        values[taken] = numbers.fill_null(0).to_numpy()[codes[first]]
        is_free[taken] = False
        return linked, pa.array(values, mask=is_free)

    def _rows_to_add(self, survey: Survey, listed: "_Listed") -> tuple[pa.Schema, pa.Table] | None:
        """Subjects that a survey without images does not have yet, and the schema with them; None: there are none."""
        there = np.full(len(listed.ids), -1, np.int64)
        for kind in (False, True):
            there[listed.rows(kind)] = np.maximum(there[listed.rows(kind)], self._subject_ids[kind])
        is_new = there < 0
        numbers = integers_of(survey.ids_as_text())
        if numbers is not None and np.array_equal(numbers, survey.subject_ids):  # others' ids do not fit
            is_new &= _numbers(listed.ids).is_valid().to_numpy(zero_copy_only=False)
        if is_new.any():
            rows = pa.array(np.flatnonzero(is_new))
            table = self._typed(listed.ids, self._metadata(listed, self._outcomes_of(listed)))
            ids, zooniverse_ids = listed.ids.take(rows), listed.zooniverse_ids.take(rows)
            given = table.take(rows) if table.column_names else table
            try:
                schema, added = added_rows(
                    survey, with_ids(given, ids).append_column("zooniverse_subject_id", zooniverse_ids)
                )
            except IngestError as error:
                self._notes.append(f"metadata of the new subjects were left out: {error}")
                bare = with_ids(pa.table({}), ids).append_column("zooniverse_subject_id", zooniverse_ids)
                schema, added = added_rows(survey, bare)
            there[is_new] = added.column("subject_id").to_numpy()
        for kind in (True, False):
            self._subject_ids[kind] = there[listed.rows(kind)]
        return (schema, added) if is_new.any() else None

    def _new_columns(
        self, survey: Survey, listed: "_Listed", outcomes: pa.Table
    ) -> dict[str, tuple[pa.Field, pa.Array]]:
        """Outcomes as columns of the subjects that are there, in the survey's order; a column that is there stays."""
        if not outcomes.column_names:
            return {}
        typed = self._typed(listed.ids, outcomes)
        row_of = np.full(survey.n, -1, np.int64)
        for kind in (True, False):
            rows = survey.rows_of(self._subject_ids[kind])
            row_of[rows[rows >= 0]] = listed.rows(kind)[rows >= 0]
        taken = pa.array(np.maximum(row_of, 0), mask=row_of < 0)
        there = {column.name for column in survey.columns()}
        columns = {}
        for column in typed.schema:
            if column.name in there:
                self._notes.append(f'the survey has a column "{column.name}" already, and it stays as it is')
            else:
                columns[column.name] = (column, typed.column(column.name).combine_chunks().take(taken))
        return columns

    def _write_subjects(
        self, survey: Survey, columns: dict[str, tuple[pa.Field, pa.Array]], new: tuple[pa.Schema, pa.Table] | None
    ) -> None:
        schema = new[0] if new is not None else pq.read_schema(self._path / layout.SUBJECTS)
        for name, (column, _) in columns.items():
            if name not in schema.names:
                schema = schema.append(column)

        def rows() -> Iterator[pa.RecordBatch]:
            start = 0
            for batch in rows_before(survey, schema):
                arrays = [
                    columns[f.name][1].slice(start, len(batch)).cast(f.type)
                    if f.name in columns
                    else batch.column(f.name)
                    for f in schema
                ]
                start += len(batch)
                yield pa.record_batch(arrays, schema=schema)
            if new is not None:
                added, n = new[1], len(new[1])
                arrays = [added.column(f.name) if f.name in added.column_names else pa.nulls(n, f.type) for f in schema]
                yield from pa.table(arrays, schema=schema).to_batches(layout.ROW_GROUP)

        write_subjects(self._made, schema, rows())

    # --------------------------------------------------------------------------------------------------------- votes
    def _merge(self, files: Sequence[_File]) -> None:
        """What of the files is new, behind what the survey has; each file's account."""
        votes = [f for f in files if f.parts is not None and f.recognised.kind in ("classifications", "votes")]
        merged: dict[int, Merged] = {}
        if votes:
            parts = [f.parts for f in votes if f.parts is not None]
            before = self._path / CLASSIFICATIONS
            ids = [self._subject_ids[part.is_zooniverse] for part in parts]
            there = before if before.exists() else None
            found = merge(there, parts, ids, self._made / CLASSIFICATIONS, self._aside, self._parts)
            merged = {id(f): m for f, m in zip(votes, found, strict=True)}
            if not any(m.n_taken for m in found):
                (self._made / CLASSIFICATIONS).unlink()
        for file in files:
            kind = file.recognised.kind
            if file.is_experience:
                self._take_experience(file)
            elif id(file) in merged:
                m = merged[id(file)]
                if m.n_members:
                    file.notes.append(f"{m.n_members:,} subjects seen beside others are not in the survey: set aside")
                self._account(file, m.n_taken, m.n_known, file.n_bad + m.n_aside)
            elif kind == "workflows":
                self._account(file, file.n_rows - file.n_bad, 0, file.n_bad)
            elif kind in ("subjects", "outcomes"):
                self._take_described(file)
            elif kind == "reduced":
                self._take_table(file, TOTALS, TOTALS_SCHEMA, ["subject_id", "workflow_id", "task", "answer"])
            elif kind == "gold":
                self._take_table(file, GOLD, GOLD_SCHEMA, ["subject_id", "workflow_id", "task"])
            else:
                self._take_talk(file)

    def _account(self, file: _File, n_taken: int, n_known: int, n_aside: int) -> None:
        recognised = file.recognised
        what = "experience elsewhere" if file.is_experience else recognised.what
        notes = tuple(file.notes)
        file.taken = Taken(recognised.kind, file.source.name, what, file.n_rows, n_taken, n_known, n_aside, notes)
        self._taken.append(file.taken)

    def _take_described(self, file: _File) -> None:
        """Rows of a subject export, or of outcomes: what subjects they are of."""
        parts = file.parts
        if parts is None or not parts.rows:
            self._account(file, 0, 0, file.n_bad)
            return
        lines, codes = np.array(parts.rows, np.int64).T
        ids = self._subject_ids[parts.is_zooniverse][codes]
        is_news = self._is_news[parts.is_zooniverse][codes] | (file.recognised.kind == "outcomes")
        is_first = np.zeros(len(codes), bool)
        is_first[np.unique(codes, return_index=True)[1]] = True
        n_aside = self._without_subject(file, lines[ids < 0], codes[ids < 0])
        n_taken = int((is_news & is_first & (ids >= 0)).sum())
        self._account(file, n_taken, int((ids >= 0).sum()) - n_taken, file.n_bad + n_aside)

    def _without_subject(self, file: _File, lines: np.ndarray, codes: np.ndarray) -> int:
        """Set rows of subjects aside that the survey does not have; how many rows."""
        if len(lines) and file.parts is not None:
            lines, first = np.unique(lines, return_index=True)
            texts = file.parts.names.texts().take(pa.array(codes[first]))
            self._aside.add_many(file.source.name, lines, texts, NOT_THERE, file.source.key)
        return len(lines)

    def _before(self, name: str, schema: pa.Schema) -> pa.Table:
        """A file of the survey as it will be, as far as it is known now."""
        for folder in (self._made, self._path):
            if (folder / name).exists():
                return pq.read_table(folder / name, schema=schema)
        return schema.empty_table()

    def _take_table(self, file: _File, name: str, schema: pa.Schema, keys: list[str]) -> None:
        """Totals, or gold labels: a row of the same key is replaced, and known where it says the same."""
        parts, table = file.parts, file.table
        if parts is None or table is None or not len(table):
            self._account(file, 0, 0, file.n_bad)
            return
        codes, lines = table.column("subject").to_numpy(), table.column("line").to_numpy()
        ids = self._subject_ids[parts.is_zooniverse][codes]
        n_aside = self._without_subject(file, lines[ids < 0], codes[ids < 0])
        key = pa.array([file.source.key] * len(table), pa.string())
        table = table.append_column("subject_id", pa.array(ids)).append_column("source", key)
        table = table.filter(pa.array(ids >= 0))
        before = self._before(name, schema)
        with duckdb.connect(":memory:") as database:
            database.register("given", table)
            again = f"SELECT line FROM (SELECT line, row_number() OVER (PARTITION BY {', '.join(keys)} ORDER BY line) "
            lines_again = database.sql(again + "AS nth FROM given) WHERE nth > 1").fetchnumpy()["line"]
            if len(lines_again):
                is_again = np.isin(table.column("line").to_numpy(), lines_again)
                of_again = table.filter(pa.array(is_again))
                n_aside += self._put_aside(file, of_again, reduced.AGAIN)
                table = table.filter(pa.array(~is_again))
                database.register("given", table)
            database.register("held", before)
            same = " AND ".join(f"g.{n} IS NOT DISTINCT FROM h.{n}" for n in schema.names if n not in ("source", *keys))
            by_key = f"USING ({', '.join(keys)})"
            known = database.sql(f"SELECT DISTINCT line FROM given g JOIN held h {by_key} WHERE {same}").fetchnumpy()
            kept = database.sql(f"SELECT h.* FROM held h ANTI JOIN given g {by_key}").to_arrow_table()
        n_lines = len(np.unique(table.column("line").to_numpy()))
        n_known = len(known["line"])
        both = [pa.table([part.column(n) for n in schema.names], schema.names) for part in (kept, table)]
        if n_known < n_lines:
            artifacts.write_table(self._made / name, pa.concat_tables([_as(part, schema) for part in both]))
        self._account(file, n_lines - n_known, n_known, file.n_bad + n_aside)

    def _put_aside(self, file: _File, rows: pa.Table, reason: str) -> int:
        lines = np.unique(rows.column("line").to_numpy())
        texts = pa.nulls(len(lines), pa.string())
        self._aside.add_many(file.source.name, lines, texts, reason, file.source.key)
        return len(lines)

    def _take_experience(self, file: _File) -> None:
        """Counts by volunteer; those of an earlier file of the same workflows, or of the same name, make way."""
        before = self._before(EXPERIENCE, EXPERIENCE_SCHEMA)
        older = [
            digest[:16]
            for digest, record in self._sources["files"].items()
            if record.get("is_experience")
            and (
                bool(file.workflows & set(record.get("workflows", ())))
                or (not file.workflows and not record.get("workflows") and record["name"] == file.source.name)
            )
        ]
        others = before.filter(
            pc.invert(pc.is_in(before.column("source").cast(pa.string()), value_set=pa.array(older, pa.string())))
        )
        n = len(file.counts)
        rows = pa.table(
            [
                pa.array(file.counts.keys(), pa.string()),
                pa.array(file.counts.values(), pa.int64()),
                pa.array([file.source.key] * n, pa.string()).dictionary_encode(),
            ],
            schema=EXPERIENCE_SCHEMA,
        )
        artifacts.write_table(self._made / EXPERIENCE, pa.concat_tables([others, rows]).unify_dictionaries())
        file.notes.append(f"of {counted(n, 'volunteer')}")
        self._account(file, file.n_rows - file.n_bad, 0, file.n_bad)

    def _take_talk(self, file: _File) -> None:
        from explorer.ingest import talk

        name, schema = _TALK[file.recognised.kind]
        read = talk.ingest_tags if file.recognised.kind == "talk_tags" else talk.ingest_comments
        before = self._before(name, schema)
        if self._survey is None:
            raise SurveyError(f"{self._path} is no survey")
        taken = read(self._survey, file.source.path, file.source.key, self._aside, before)
        if taken.table is not None and taken.n_taken:
            artifacts.write_table(self._made / name, taken.table)
        file.n_rows = taken.n_rows
        file.taken = replace(taken, table=None)
        self._taken.append(file.taken)

    # ------------------------------------------------------------------------------------------------------- writing
    def _set_aside(self, files: Sequence[_File]) -> str:
        """What became of files no row of which can be used: counts by reason, with the first lines of each."""
        table, said = self._aside.table(), []
        for file in files:
            if (reasons := self._aside.counts(file.source.key)) and file.parts is not None:
                mine = table.filter(pc.equal(table.column("source").cast(pa.string()), file.source.key))
                of_row, lines = mine.column("reason").cast(pa.string()).to_pylist(), mine.column("line").to_pylist()
                named = []
                for reason, n in reasons.items():
                    first = [line for line, r in zip(lines, of_row, strict=True) if r == reason][:_LINES_NAMED]
                    where = f"line{'s' * (n > 1)} {', '.join(map(str, first))}{', …' * (n > len(first))}"
                    named.append(f"{n:,} × {reason} ({where})")
                rows = f"all {file.n_rows:,} rows" if file.n_rows > 1 else "the only row"
                were = "were" if file.n_rows > 1 else "was"
                said.append(f"{rows} of {file.source.name} {were} set aside: {', '.join(named)}")
        return "; ".join(said) or "no row of the files names a subject"

    def _write_sources(self, files: Sequence[_File]) -> None:
        subjects = next(p for f in (self._made, self._path) if (p := f / layout.SUBJECTS).exists())
        is_again = any(file.source.sha256 in self._sources["files"] for file in files)
        for file in files:
            t = file.taken
            assert t is not None
            reasons = self._reasons.setdefault(file.source.name, {})  # of files of one name in several folders, all
            for reason, n in self._aside.counts(file.source.key).items():
                reasons[reason] = reasons.get(reason, 0) + n
            workflows = file.parts.workflows if file.parts is not None else file.workflows
            self._sources["files"][file.source.sha256] = {
                "name": file.source.name,
                "kind": t.kind,
                "what": t.what,
                "n_rows": t.n_rows,
                "n_taken": t.n_taken,
                "n_known": t.n_known,
                "n_aside": t.n_aside,
                "n_subjects": pq.read_metadata(subjects).num_rows,
                "taken_at": artifacts.now(),
                "is_experience": file.is_experience,
                "workflows": sorted(map(str, workflows)),
            }
        self._sources["workflows"] = zooniverse.merged(self._named, self._workflows)
        artifacts.write_json(self._made / SOURCES, self._sources)
        if len(self._aside) or is_again:
            before = self._before(SET_ASIDE, SET_ASIDE_SCHEMA)
            others = _without(before, [file.source.key for file in files])
            table = pa.concat_tables([others, self._aside.table()]).unify_dictionaries()
            artifacts.write_table(self._made / SET_ASIDE, table)

    def _commit(self) -> None:
        if self._made.name == "survey":
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._made.rename(self._path)
            artifacts.fsync_directory(self._path.parent)
            return
        for name in _ORDER:
            self._place(name)

    def _place(self, name: str) -> None:
        if (self._made / name).exists():
            (self._made / name).replace(self._path / name)
            artifacts.fsync_directory(self._path)

    def _ingested(self, refused: Sequence[str], n_new: int) -> Ingested:
        survey = Survey.open(self._path)
        n = survey.n
        survey.close()
        is_new = self._made.name == "survey"
        return Ingested(tuple(self._taken), tuple(refused), n, n_new, is_new, self._reasons, tuple(self._notes))


class _Listed:
    """All subjects that the files name, a row each: Zooniverse's, then the items of other tables that are none of them.

    Attributes
    ----------
    ids
        Their texts.
    zooniverse_ids
        int64, null where an id is not Zooniverse's.
    """

    def __init__(self, zooniverse: pa.Array, items: pa.Array) -> None:
        self._n_zooniverse = len(zooniverse)
        among = pc.is_in(items, value_set=zooniverse).to_numpy(zero_copy_only=False)
        self._own = np.flatnonzero(~among)
        own = items.take(pa.array(self._own))
        self.ids = pa.concat_arrays([zooniverse, own])
        self.zooniverse_ids = pa.concat_arrays([_numbers(zooniverse), pa.nulls(len(own), pa.int64())])
        self._rows = {
            True: np.arange(len(zooniverse)),
            False: pc.index_in(items, value_set=self.ids).to_numpy(zero_copy_only=False).astype(np.int64),
        }

    def rows(self, is_zooniverse: bool) -> np.ndarray:
        """The row of each subject by its number."""
        rows: np.ndarray = self._rows[is_zooniverse]
        return rows

    def spread(self, tables: dict[bool, pa.Table]) -> pa.Table:
        """Tables whose rows are subjects by number, as one of the rows listed."""
        own = tables[False].take(pa.array(self._own)) if tables[False].column_names else tables[False]
        both = []
        for table, n in ((tables[True], self._n_zooniverse), (own, len(self._own))):
            columns = {name: table.column(name) for name in table.column_names}
            both.append(pa.table({"": pa.nulls(n, pa.int8()), **columns}))  # a table without columns has no rows
        return pa.concat_tables(both, promote_options="default").drop_columns([""])


def _damaged(path: Path) -> int:
    """Number of the first element of a Talk export that cannot be read; 0 where all can."""
    from explorer.ingest import talk

    return next((number for number, _, is_whole in talk.elements(path) if not is_whole), 0)


def _numbers(texts: pa.Array) -> pa.Array:
    """Ids as int64; null where one is not an integer as usually written."""
    is_number = pc.match_substring_regex(texts, "^(0|[1-9][0-9]{0,17})$")
    return pc.if_else(is_number, texts, pa.scalar(None, pa.string())).cast(pa.int64())


def _as(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Columns of a schema's names in its types."""
    return pa.table(
        [
            table.column(f.name).cast(pa.string()).dictionary_encode().cast(f.type)
            if pa.types.is_dictionary(f.type)
            else table.column(f.name).cast(f.type)
            for f in schema
        ],
        schema=schema,
    )


def _without(table: pa.Table, sources: list[str]) -> pa.Table:
    """The rows of other sources."""
    is_theirs = pc.is_in(table.column("source").cast(pa.string()), value_set=pa.array(sources, pa.string()))
    return table.filter(pc.invert(is_theirs))
