"""What of a source's rows could not be taken, each with file, line and reason; and what a source gave in all.

Readers of Talk are called with ``(survey: Survey, path: Path, source: str, aside: Aside, before: pa.Table)`` and return
a `Taken`: `source` is the first 16 digits of the file's sha256, `before` the rows that the survey has, by the file's
schema, and those that are new come after them in `Taken.table`. They write nothing: the files of a call are written at
its end.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from explorer.votes import SET_ASIDE_SCHEMA


@dataclass(frozen=True, slots=True)
class Taken:
    """What one file gave.

    Attributes
    ----------
    kind
        What it was recognised as: see `explorer.ingest.recognise`.
    file
        Its name, without folders.
    what
        The kind in words, for a person: ``classification export``.
    n_rows
        Rows (CSV) or elements (JSON) of it: those taken, those known and those set aside.
    n_taken
        Rows that are new to the survey.
    n_known
        Rows that the survey has already, from an earlier export or an earlier file.
    n_aside
        Rows that were set aside, each with its reason.
    notes
        Sentences on what a person should know: encodings, answers that say nothing, what was left as it is.
    table
        Of Talk: all rows that the survey has afterwards, those from before first, by the schema of its file.
    """

    kind: str
    file: str
    what: str
    n_rows: int
    n_taken: int
    n_known: int = 0
    n_aside: int = 0
    notes: tuple[str, ...] = ()
    table: pa.Table | None = field(default=None, compare=False, repr=False)


class Aside:
    """Rows that could not be taken; nothing is left out without being counted here.

    Reasons are few and the same for many rows, as ``annotations are not JSON``: they are counted by themselves. What is
    particular of a row is its id. No reason and no id holds anything that a person wrote, or a name.
    """

    def __init__(self) -> None:
        self._parts: list[pa.Table] = []
        self._rows: list[tuple[str, int | None, str | None, str, str]] = []
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, file: str, line: int | None, id: str | None, reason: str, source: str) -> None:  # noqa: A002
        """Set one row aside.

        Parameters
        ----------
        file
            Its name, without folders.
        line
            From 1; of JSON, the element. None where the source has no such thing.
        id
            Of the classification, comment or subject, as written.
        source
            The first 16 digits of the file's sha256.
        """
        self._rows.append((file, line, id, reason, source))
        self._counts[source, reason] += 1
        if len(self._rows) >= 1 << 16:
            self._flush()

    def add_many(
        self, file: str, lines: Sequence[int] | pa.Array, ids: Iterable[str | None] | pa.Array, reason: str, source: str
    ) -> None:
        """Set many rows aside for one reason."""
        self._flush()
        lines = pa.array(lines, pa.int64())
        if n := len(lines):
            one = [pa.array([text]).dictionary_encode() for text in (file, reason, source)]
            words = [pa.DictionaryArray.from_arrays(pa.nulls(n, pa.int32()).fill_null(0), w.dictionary) for w in one]
            columns = [words[0], lines, pa.array(ids, pa.string()), words[1], words[2]]
            self._parts.append(pa.table(columns, schema=SET_ASIDE_SCHEMA))
            self._counts[source, reason] += n

    def counts(self, source: str) -> dict[str, int]:
        """Reason → rows of one file, the most frequent first."""
        return dict(Counter({r: n for (s, r), n in self._counts.items() if s == source}).most_common())

    def count(self, source: str) -> int:
        """Rows of one file that were set aside."""
        return sum(self.counts(source).values())

    def __len__(self) -> int:
        return sum(self._counts.values())

    def table(self) -> pa.Table:
        """All of them by `explorer.votes.SET_ASIDE_SCHEMA`, in the order in which they were set aside."""
        self._flush()
        return pa.concat_tables([SET_ASIDE_SCHEMA.empty_table(), *self._parts]).unify_dictionaries()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [pa.array(c, f.type) for c, f in zip(columns, SET_ASIDE_SCHEMA, strict=True)]
            self._parts.append(pa.table(arrays, schema=SET_ASIDE_SCHEMA))
            self._rows = []
