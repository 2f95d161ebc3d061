"""Rows of delimited text that others wrote: every one with its line, none lost to a quotation mark or an encoding."""

import codecs
import csv
import hashlib
import io
import itertools
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

#: A row that goes over more lines than this is one whose quotation mark was not closed.
MOST_LINES = 64
#: Lines that a note names one by one.
_NAMED = 3
_BLOCK = 1 << 20

WRONG_COLUMNS = "another number of columns than the header"
CUT_OFF = "the file ends within the row"

csv.field_size_limit(sys.maxsize)  # a drawing has thousands of points


@dataclass(slots=True)
class Source:
    """A file as it was found.

    Attributes
    ----------
    sha256
        Of its bytes.
    n_bytes
        How many there are.
    encoding
        "utf-8", "utf-16", or "mixed": lines that are not UTF-8 are read as Windows-1252.
    ends_whole
        Whether its last line ends with a line break.
    has_quotes
        Whether there is a quotation mark in it.
    other_lines
        Lines of a mixed file that were not UTF-8, as far as it was read.
    """

    path: Path
    sha256: str
    n_bytes: int
    encoding: str
    ends_whole: bool
    has_quotes: bool
    other_lines: list[int] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The file's name, without folders."""
        return self.path.name

    @property
    def key(self) -> str:
        """The first 16 digits of its sha256: what its rows are marked with."""
        return self.sha256[:16]

    @classmethod
    def examine(cls, path: Path) -> Self:
        """Look at every byte once.

        Raises
        ------
        OSError
            It cannot be read.
        """
        digest, decoder = hashlib.sha256(), codecs.getincrementaldecoder("utf-8")()
        n_bytes, last, encoding, has_quotes = 0, b"\n", "utf-8", False
        with path.open("rb") as handle:
            while block := handle.read(_BLOCK):
                if not n_bytes and block[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                    encoding = "utf-16"
                digest.update(block)
                n_bytes, last = n_bytes + len(block), block[-1:]
                has_quotes = has_quotes or b'"' in block
                if encoding == "utf-8":
                    try:
                        decoder.decode(block)
                    except UnicodeDecodeError:
                        encoding = "mixed"
            if encoding == "utf-8":
                try:
                    decoder.decode(b"", final=True)
                except UnicodeDecodeError:
                    encoding = "mixed"
        return cls(path, digest.hexdigest(), n_bytes, encoding, last in (b"\n", b"\r", b"\0"), has_quotes)

    def lines(self) -> Iterator[str]:
        """The lines with their ends, without a byte order mark."""
        if self.encoding != "mixed":
            encoding = "utf-8-sig" if self.encoding == "utf-8" else "utf-16"
            with self.path.open(encoding=encoding, errors="replace", newline="") as text:
                yield from text
            return
        self.other_lines.clear()
        with self.path.open("rb") as handle:
            for number, line in enumerate(handle, 1):
                try:
                    yield line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError:
                    self.other_lines.append(number)
                    yield line.decode("cp1252", errors="replace")

    def as_utf8(self) -> io.BufferedIOBase:
        """The whole as UTF-8 without a byte order mark, for readers that take nothing else."""
        handle = self.path.open("rb")
        if self.encoding == "utf-8":
            if handle.read(3) != codecs.BOM_UTF8:
                handle.seek(0)
            return handle
        handle.close()
        return io.BufferedReader(_Encoded(self.lines()))

    def notes(self) -> list[str]:
        """What a person should know of its encoding, once it was read."""
        if self.encoding == "utf-16":
            return ["it is UTF-16, and was read so"]
        if not self.other_lines:
            return []
        n = len(self.other_lines)
        named = ", ".join(map(str, self.other_lines[:_NAMED])) + (", …" if n > _NAMED else "")
        are = f"line {named} is" if n == 1 else f"{n:,} lines are"
        return [f"{are} not UTF-8 and {'was' if n == 1 else 'were'} read as Windows-1252"
                + (f" ({named})" if n > 1 else "")]  # fmt: skip


class _Encoded(io.RawIOBase):
    """Lines of text as a stream of UTF-8."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self._left = lines, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "memoryview | bytearray") -> int:  # type: ignore[override]
        while not self._left:
            line = next(self._lines, None)
            if line is None:
                return 0
            self._left = line.encode("utf-8", errors="replace")
        n = min(len(buffer), len(self._left))
        buffer[:n], self._left = self._left[:n], self._left[n:]
        return n


class Records:
    """The rows of delimited text, in order, each with the line that it begins on.

    Iterating gives ``(line, fields)``; where a row cannot be read, ``fields`` is the reason, a text. After a row that
    goes over several lines and cannot be read, reading goes on with its second line: a quotation mark that was not
    closed takes no more than its own row.

    Parameters
    ----------
    delimiter
        " " takes any number of blanks.

    Attributes
    ----------
    header
        The names of the columns.
    n_read
        Characters read so far.
    """

    def __init__(self, source: Source, delimiter: str) -> None:
        self._source, self._delimiter = source, delimiter
        self._back: deque[str] = deque()
        self._lines = source.lines()
        self._held: list[str] = []
        self._line = 0
        self.n_read = 0
        self._rows = self._split() if delimiter == " " else csv.reader(self._fed(), delimiter=delimiter)
        self.header = [name.strip() for name in next(self._rows, [])]
        self._held = []

    def _fed(self) -> "_Feed":
        return _Feed(self)

    def _split(self) -> Iterator[list[str]]:
        for line in self._fed():
            yield line.split()

    def __iter__(self) -> Iterator[tuple[int, list[str] | str]]:
        n = len(self.header)
        for fields in self._rows:
            held, self._held = self._held, []
            if len(held) > 1:
                self._last = held
            else:
                self._last = []
            line = self._line - len(held) + 1
            if len(fields) == n:
                yield line, fields
            elif fields:  # a line without anything is no row
                at_end = not self._source.ends_whole and self.is_last() and len(held) == 1
                self.go_back()
                yield line, CUT_OFF if at_end and len(fields) < n else WRONG_COLUMNS

    def is_last(self) -> bool:
        """Whether the file has no line after the last row."""
        if self._back:
            return False
        following = next(self._lines, None)
        if following is not None:
            self._back.append(following)
        return following is None

    def go_back(self) -> bool:
        """Read on from the second line of the last row; whether it has one. For who finds the row to be nonsense."""
        again, self._last = self._last[1:], []
        self._back.extendleft(reversed(again))
        self._line -= len(again)
        return bool(again)


class _Feed:
    """Lines for the parser: those put back first."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        records = self._records
        if len(records._held) >= MOST_LINES:
            raise StopIteration  # the parser gives what it has, and is asked again
        line = records._back.popleft() if records._back else next(records._lines)
        records._held.append(line)
        records._line += 1
        records.n_read += len(line)
        return line


def first_lines(source: Source, n: int) -> list[str]:
    """At most `n` lines, of at most a million characters each."""
    return [line[:1_000_000] for line in itertools.islice(source.lines(), n)]
