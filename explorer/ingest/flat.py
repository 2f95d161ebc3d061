"""Flat tables of single votes, of known answers, and of what volunteers have done elsewhere; a row each.

Votes are ``item,worker,label``, or with classification ids as ``classification_id,user_name,workflow_id,…,
task_answer,subject_ids``. They are read by columns: a million a second and more.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from explorer.ingest.aside import Aside
from explorer.ingest.classifications import Parts, Volunteers
from explorer.ingest.recognise import ANSWER, ELSEWHERE, ITEM, TRUTH, VOLUNTEER, Recognised, column
from explorer.ingest.records import CUT_OFF, WRONG_COLUMNS, Records
from explorer.ingest.zooniverse import ANONYMOUS, NO_ID, NO_WORKFLOW_ID, times_of
from explorer.votes import GRID_TASK, NO_WORKFLOW

_BLOCK = 1 << 24
_WORD = pa.dictionary(pa.int32(), pa.string())
#: As many as surely fit into an int64.
_DIGITS = 18

NO_ITEM = "it names no subject"
NO_WORKER = "it names no volunteer"
NO_NUMBER = "the number of classifications is none"


class _Columns:
    """A table's columns in batches, each with the lines of its rows; rows of another width are set aside."""

    def __init__(self, recognised: Recognised, names: dict[str, str], words: tuple[str, ...], aside: Aside) -> None:
        self._source, self._delimiter = recognised.source, recognised.delimiter
        self._columns, self._names, self._words, self._aside = recognised.columns, names, words, aside
        self.n_bad = 0
        self.n_read = 0

    def __iter__(self) -> Iterator[tuple[np.ndarray, dict[str, pa.Array]]]:
        if self._delimiter == " " or self._source.encoding != "utf-8" or self._source.has_quotes:
            yield from self._slowly()
            return
        bad: set[int] = set()

        def refuse(row: Any) -> str:
            bad.add(row.number)
            return "skip"

        kinds = {c: _WORD if name in self._words else pa.string() for name, c in self._names.items()}
        several = "subject" if "subject" in self._words else None
        if several:
            kinds[self._names[several]] = pa.string()  # there are many, and the reader is slow at many
        read = pyarrow.csv.ReadOptions(
            use_threads=False, block_size=_BLOCK, skip_rows=1, column_names=list(self._columns)
        )
        parse = pyarrow.csv.ParseOptions(
            delimiter=self._delimiter, invalid_row_handler=refuse, ignore_empty_lines=False, quote_char=False
        )
        convert = pyarrow.csv.ConvertOptions(column_types=kinds, include_columns=list(kinds), strings_can_be_null=False)
        line = 2
        with self._source.as_utf8() as file, pyarrow.csv.open_csv(file, read, parse, convert) as reader:
            for batch in reader:
                self.n_read += batch.nbytes
                lines = np.arange(line, line + len(batch) + len(bad))
                if bad:
                    lines = lines[~np.isin(lines, list(bad))][: len(batch)]
                line = int(lines[-1]) + 1 if len(lines) else line
                columns = {name: batch.column(place) for place, name in enumerate(self._names)}
                if several:
                    columns[several] = _coded(columns[several])
                blank = _is_blank(columns)
                if pc.any(blank).as_py():
                    filled = pc.invert(blank)
                    lines = lines[filled.to_numpy(zero_copy_only=False)]
                    columns = {name: column.filter(filled) for name, column in columns.items()}
                if len(lines):
                    yield lines, columns
        for number in sorted(bad):
            is_cut = not self._source.ends_whole and number >= line
            self.refuse(number, None, CUT_OFF if is_cut else WRONG_COLUMNS)

    def _slowly(self) -> Iterator[tuple[np.ndarray, dict[str, pa.Array]]]:
        """Row by row: quotation marks, other encodings and blanks are read as they are."""
        records = Records(self._source, self._delimiter)
        at = {name: self._columns.index(c) for name, c in self._names.items()}
        lines: list[int] = []
        held: list[list[str]] = []
        for line, fields in records:
            if isinstance(fields, str):
                self.refuse(line, None, fields)
                continue
            lines.append(line)
            held.append(fields)
            if len(held) >= 1 << 16:
                yield self._batch(lines, held, at)
                lines, held = [], []
        if held:
            yield self._batch(lines, held, at)

    def _batch(
        self, lines: list[int], held: list[list[str]], at: dict[str, int]
    ) -> tuple[np.ndarray, dict[str, pa.Array]]:
        arrays = {name: pa.array([fields[place] for fields in held], pa.string()) for name, place in at.items()}
        coded = {name: a.dictionary_encode() if name in self._words else a for name, a in arrays.items()}
        return np.array(lines, np.int64), coded

    def refuse(self, line: int, id_: str | None, reason: str) -> None:
        """Set a row aside."""
        self.n_bad += 1
        self._aside.add(self._source.name, line, id_, reason, self._source.key)

    def without(
        self, lines: np.ndarray, columns: dict[str, pa.Array], is_bad: Any, id_name: str | None, reason: str
    ) -> tuple[np.ndarray, dict[str, pa.Array]]:
        """The rows that are not bad; the others are set aside."""
        if not pc.any(is_bad).as_py():
            return lines, columns
        chosen = is_bad.to_numpy(zero_copy_only=False)
        ids = columns[id_name].filter(is_bad).cast(pa.string()) if id_name else pa.nulls(int(chosen.sum()), pa.string())
        self.n_bad += len(ids)
        self._aside.add_many(self._source.name, lines[chosen], ids, reason, self._source.key)
        good = pc.invert(is_bad)
        return lines[~chosen], {name: column.filter(good) for name, column in columns.items()}


def _is_blank(columns: dict[str, pa.Array]) -> pa.Array:
    """Whether every cell of a row is empty: a line without anything is no row."""
    blank: Any = True
    for cells in columns.values():
        blank = pc.and_(blank, _fits(cells, lambda words: pc.equal(words, "")))
        if not pc.any(blank).as_py():
            break
    return blank


def _fits(column: pa.Array, test: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Which cells a test fits; of coded words each word is tested once."""
    if not pa.types.is_dictionary(column.type):
        return test(column)
    fits = test(column.dictionary)
    if not pc.any(fits).as_py():
        return pa.array(np.zeros(len(column), np.bool_))
    return fits.take(column.indices)


def _coded(texts: pa.Array) -> pa.Array:
    """Words as codes. Numbers are told apart as numbers, four times as fast, where that gives the same words back."""
    lengths = pc.binary_length(texts)
    if (
        not pc.all(pc.ascii_is_decimal(texts)).as_py()
        or pc.max(lengths).as_py() > _DIGITS
        or pc.any(pc.and_(pc.starts_with(texts, "0"), pc.greater(lengths, 1))).as_py()
    ):
        return texts.dictionary_encode()
    coded = texts.cast(pa.int64()).dictionary_encode()
    return pa.DictionaryArray.from_arrays(coded.indices, coded.dictionary.cast(pa.string()))


def _trimmed(column: pa.Array) -> pa.Array:
    """A column of words without the blanks around them."""
    if not pa.types.is_dictionary(column.type):
        return pc.utf8_trim_whitespace(column)
    return pa.DictionaryArray.from_arrays(column.indices, pc.utf8_trim_whitespace(column.dictionary))


def _is_nothing(column: pa.Array) -> pa.Array:
    """Whether cells are empty, or say NA."""
    return _fits(column, lambda words: pc.is_in(pc.utf8_lower(words), value_set=pa.array(["", "na", "nan", "null"])))


def read_votes(recognised: Recognised, parts: Parts, volunteers: Volunteers, aside: Aside) -> Iterator[int]:
    """Take in flat votes; gives the bytes read so far, now and then.

    Without classification ids the votes get some of ours, in the order of the file. The task is T0 unless a column
    ``task`` says otherwise.
    """
    columns = recognised.columns
    names = {
        "subject": column(columns, ITEM),
        "volunteer": column(columns, VOLUNTEER),
        "answer": column(columns, ANSWER),
        "id": column(columns, ("classification_id",)),
        "workflow": column(columns, ("workflow_id",)),
        "version": column(columns, ("workflow_version",)),
        "task": column(columns, ("task",)),
        "time": column(columns, ("created_at", "timestamp", "time")),
    }
    there = {name: c for name, c in names.items() if c is not None and (name != "task" or c != names["subject"])}
    words = ("subject", "volunteer", "answer", "workflow", "version", "task")
    rows = _Columns(recognised, there, words, aside)
    parts.has_ids = "id" in there
    n_good = 0
    for lines, given in rows:
        held = {name: _trimmed(c) for name, c in given.items()}
        nameless = _fits(held["subject"], lambda words: pc.equal(words, ""))
        lines, held = rows.without(lines, held, nameless, None, NO_ITEM)
        lines, held = rows.without(lines, held, _is_nothing(held["volunteer"]), "subject", NO_WORKER)
        if parts.has_ids:
            odd = pc.invert(pc.match_substring_regex(held["id"], "^[0-9]{1,18}$"))
            lines, held = rows.without(lines, held, odd, None, NO_ID)
        if "workflow" in held:
            odd = _fits(held["workflow"], lambda words: pc.invert(pc.match_substring_regex(words, "^[0-9]{0,18}$")))
            lines, held = rows.without(lines, held, odd, None, NO_WORKFLOW_ID)
        if len(lines):
            _write_votes(parts, volunteers, lines, held)
        n_good += len(lines)
        yield rows.n_read
    parts.n_rows, parts.n_bad = n_good + rows.n_bad, rows.n_bad
    parts.notes += recognised.source.notes()


def _write_votes(parts: Parts, volunteers: Volunteers, lines: np.ndarray, held: dict[str, pa.Array]) -> None:
    n = len(lines)
    subject, volunteer = held["subject"], held["volunteer"]
    people = volunteer.dictionary.to_pylist()
    is_anonymous = pc.starts_with(volunteer.dictionary, ANONYMOUS)
    answer = held["answer"]
    answers = pa.array(["" if word.lower() in ("na", "null") else word for word in answer.dictionary.to_pylist()])
    workflow: Any = np.full(n, NO_WORKFLOW, np.int64)
    if "workflow" in held:
        numbers = [int(word) if word else NO_WORKFLOW for word in held["workflow"].dictionary.to_pylist()]
        workflow = np.array(numbers, np.int64)[held["workflow"].indices.to_numpy()]
    parts.write(
        {
            "line": lines,
            "subject": _codes(parts, subject),
            "classification_id": held["id"].cast(pa.int64()) if "id" in held else None,
            "workflow_id": workflow,
            "workflow_version": held.get("version", _constant("", n)),
            "task": held.get("task", _constant(GRID_TASK, n)),
            "answer": pa.DictionaryArray.from_arrays(answer.indices, answers),
            "volunteer": pa.DictionaryArray.from_arrays(volunteer.indices, pa.array(volunteers.hashes(people))),
            "created_at": times_of(held["time"].to_pylist()) if "time" in held else None,
            "is_anonymous": is_anonymous.take(volunteer.indices),
        }
    )
    parts.workflows.update(int(number) for number in np.unique(workflow) if number != NO_WORKFLOW)


def _codes(parts: Parts, subjects: pa.Array) -> np.ndarray:
    """The numbers of subjects; words that only rows set aside have are no subjects."""
    indices = subjects.indices.to_numpy()
    used = np.flatnonzero(np.bincount(indices, minlength=len(subjects.dictionary)))
    codes = np.empty(len(subjects.dictionary), np.int32)
    codes[used] = parts.names.codes(subjects.dictionary.take(pa.array(used)).to_pylist())
    return np.asarray(codes[indices])


def _constant(word: str, n: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), pa.array([word]))


def read_gold(recognised: Recognised, parts: Parts, aside: Aside) -> pa.Table:
    """Known answers: ``line``, ``subject`` (its number), ``workflow_id``, ``task``, ``answer``.

    A subject without a truth is set aside: nothing is known of it.
    """
    names = {"subject": column(recognised.columns, ITEM), "answer": column(recognised.columns, TRUTH)}
    names |= {"workflow": column(recognised.columns, ("workflow_id",)), "task": column(recognised.columns, ("task",))}
    there = {name: c for name, c in names.items() if c is not None and (name != "task" or c != names["subject"])}
    rows = _Columns(recognised, there, (), aside)
    tables = []
    for lines, given in rows:
        held = {name: _trimmed(c) for name, c in given.items()}
        lines, held = rows.without(lines, held, pc.equal(held["subject"], ""), None, NO_ITEM)
        lines, held = rows.without(lines, held, _is_nothing(held["answer"]), "subject", "its truth is missing")
        n = len(lines)
        workflow: Any = np.full(n, NO_WORKFLOW, np.int64)
        if "workflow" in held:
            odd = pc.invert(pc.match_substring_regex(held["workflow"], "^[0-9]{1,18}$"))
            lines, held = rows.without(lines, held, odd, "subject", NO_WORKFLOW_ID)
            n, workflow = len(lines), held["workflow"].cast(pa.int64())
        columns = {
            "line": pa.array(lines),
            "subject": pa.array(parts.names.codes(held["subject"].to_pylist())),
            "workflow_id": pa.array(workflow) if isinstance(workflow, np.ndarray) else workflow,
            "task": held.get("task", pa.array([GRID_TASK] * n, pa.string())),
            "answer": held["answer"],
        }
        tables.append(pa.table(columns))
    parts.n_rows, parts.n_bad = sum(len(t) for t in tables) + rows.n_bad, rows.n_bad
    parts.notes += recognised.source.notes()
    return pa.concat_tables(tables) if tables else pa.table({})


def read_experience(
    recognised: Recognised, volunteers: Volunteers, aside: Aside
) -> tuple[dict[str, int], set[str], int, int, list[str]]:
    """Classifications elsewhere by volunteer's hash, from ``user_name,n`` or from another project's export.

    Returns
    -------
    tuple
        The counts; the workflows that they are of; rows looked at; rows set aside; notes. Anonymous sessions are no
        volunteers that one could meet again: they are set aside.
    """
    columns = recognised.columns
    is_table = recognised.kind == "experience"
    names = {"volunteer": column(columns, VOLUNTEER)}
    names |= {"n": column(columns, ELSEWHERE)} if is_table else {"workflow": column(columns, ("workflow_id",))}
    if names["volunteer"] is None:
        raise ValueError(NO_WORKER)
    there = {name: c for name, c in names.items() if c is not None}
    rows = _Columns(recognised, there, ("volunteer", "workflow"), aside)
    counts: dict[str, int] = {}
    workflows: set[str] = set()
    n_good = 0
    for lines, given in rows:
        held = {name: _trimmed(c) for name, c in given.items()}
        lines, held = rows.without(lines, held, _is_nothing(held["volunteer"]), None, NO_WORKER)
        anonymous = pc.starts_with(held["volunteer"].dictionary, ANONYMOUS).take(held["volunteer"].indices)
        lines, held = rows.without(lines, held, anonymous, None, "an anonymous session")
        if "n" in held:
            odd = pc.invert(pc.match_substring_regex(held["n"], "^[0-9]{1,12}$"))
            lines, held = rows.without(lines, held, odd, None, NO_NUMBER)
        n_good += len(lines)
        if "workflow" in held:
            workflows.update(word for word in held["workflow"].dictionary.to_pylist() if word)
        words = volunteers.hashes(held["volunteer"].dictionary.to_pylist())
        each = held["n"].cast(pa.int64()).to_numpy() if "n" in held else np.ones(len(lines), np.int64)
        sums = np.bincount(held["volunteer"].indices.to_numpy(), each, len(words)).astype(np.int64)
        for word, n in zip(words, sums.tolist(), strict=True):
            if n or "n" in held:
                counts[word] = counts.get(word, 0) + n
    return counts, workflows, n_good + rows.n_bad, rows.n_bad, recognised.source.notes()
