"""Which subject of a survey another's id means: Zooniverse's subjects, and the items of flat tables."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from explorer.ingest.build import integers_of
from explorer.survey import Survey

#: Keys of a subject's metadata that are kept; what comes after them is counted.
MOST_KEYS = 200
#: Longest value that is kept as a column.
_LONGEST = 2_000
#: Where the name of a subject's file on Zooniverse stands among its metadata.
LOCATION = "#location"
#: Where a manifest of ours (`explorer.services.zooniverse`) says which subject of which survey it is.
OWN_ID, OWN_SURVEY = "#voorwerp_subject_id", "#voorwerp_survey_id"
_BLOCK = 4_096


class Names:
    """Texts as numbers from 0, in the order in which they were first seen."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        """The number of a text."""
        codes = self._codes
        found = codes.get(text)
        if found is None:
            found = codes[text] = len(codes)
        return found

    def codes(self, texts: Sequence[str]) -> np.ndarray:
        """Their numbers, int32."""
        known = self._codes
        found = list(map(known.get, texts))
        if None in found:
            found = [self.code(text) if code is None else code for code, text in zip(found, texts, strict=True)]
        return np.array(found, np.int32)

    def __contains__(self, text: str) -> bool:
        return text in self._codes

    def __len__(self) -> int:
        return len(self._codes)

    def texts(self) -> pa.Array:
        """All of them, by number."""
        return pa.array(self._codes.keys(), pa.string())


class Described:
    """What is known of subjects beside their ids: metadata of Zooniverse, outcomes; a row each, all as text.

    Keys that begin with # or // are hidden from volunteers; they are no columns of a survey, but may join its images.
    """

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._codes: list[int] = []
        self._columns: dict[str, list[str | None]] = {}
        self._keys: dict[str, None] = {}
        #: Keys beyond `MOST_KEYS`.
        self.left_out: set[str] = set()

    def add(self, code: int, metadata: Mapping[str, Any]) -> None:
        """What is known of the subject of that number; values that are lists or objects are left out."""
        n = len(self._codes)
        self._codes.append(code)
        for key, value in metadata.items():
            text = _text(value)
            if text is None:
                continue
            column = self._columns.get(key)
            if column is None:
                if key not in self._keys:
                    if len(self._keys) >= MOST_KEYS:
                        if len(self.left_out) < MOST_KEYS:
                            self.left_out.add(key)
                        continue
                    self._keys[key] = None
                column = self._columns[key] = []
            if len(column) <= n:
                column.extend([None] * (n - len(column)))
                column.append(text)
        if n + 1 >= _BLOCK:
            self._flush()

    def _flush(self) -> None:
        if self._codes:
            n = len(self._codes)
            arrays = {k: pa.array([*c, *[None] * (n - len(c))], pa.string()) for k, c in self._columns.items()}
            self._tables.append(pa.table([pa.array(self._codes, pa.int32()), *arrays.values()], ["", *arrays]))
            self._codes, self._columns = [], {}

    def table(self, n: int) -> pa.Table:
        """Text columns whose row i is the subject of number i, of `n`; the first row of a subject counts."""
        self._flush()
        if not self._tables:
            return pa.table({})
        table = pa.concat_tables(self._tables, promote_options="default").combine_chunks()
        codes = table.column("").to_numpy()
        first = np.full(n, -1, np.int64)
        first[codes[::-1]] = np.arange(len(codes))[::-1]
        rows = pa.array(np.where(first < 0, 0, first), mask=first < 0)
        return table.drop_columns([""]).take(rows)


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value if value and len(value) <= _LONGEST else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None


def columns_of(described: pa.Table) -> pa.Table:
    """Those of its columns that a survey gets, by the names that they get: hidden ones are left out."""
    chosen: dict[str, pa.ChunkedArray] = {}
    for key in described.column_names:
        name = key.lstrip("!").strip()  # shown only after the classification
        if name and not key.startswith(("#", "//")) and name.lower() not in {n.lower() for n in chosen}:
            chosen[name] = described.column(key)
    return pa.table(chosen)


@dataclass(frozen=True, slots=True)
class Matched:
    """What ids mean in a survey.

    Attributes
    ----------
    subject_ids
        int64 (n,), -1 where there is no such subject.
    by
        In words what was joined with what → how many.
    """

    subject_ids: np.ndarray
    by: Mapping[str, int]


def subjects_of_zooniverse(survey: Survey, ids: Any) -> np.ndarray:
    """The subjects of Zooniverse's ids: int64 (n,), -1 where the survey knows none."""
    wanted = np.asarray(ids, np.int64)
    known = survey.arrow("zooniverse_subject_id")
    rows = np.flatnonzero(known.is_valid().to_numpy(zero_copy_only=False))
    if not len(rows):
        return np.full(len(wanted), -1, np.int64)
    values = known.drop_null().to_numpy()
    order = np.argsort(values, kind="stable")
    place = np.minimum(np.searchsorted(values, wanted, sorter=order), len(values) - 1)
    found = order[place]
    return np.where(values[found] == wanted, survey.subject_ids[rows[found]], -1)


def match(survey: Survey, names: pa.Array, is_zooniverse: bool, described: pa.Table) -> Matched:
    """The subjects that ids of Zooniverse, or items of a table, mean.

    Parameters
    ----------
    names
        Their texts.
    described
        What is known of them, row by row; may be without columns.
    """
    found = np.full(len(names), -1, np.int64)
    by: dict[str, int] = {}

    def take(how: str, subjects: np.ndarray) -> None:
        fits = (found < 0) & (subjects >= 0)
        if fits.any():
            by[how] = int(fits.sum())
            found[fits] = subjects[fits]

    ids = integers_of(names) if len(names) else np.empty(0, np.int64)
    if is_zooniverse and ids is not None:
        take("zooniverse_subject_id", subjects_of_zooniverse(survey, ids))
    if is_zooniverse and {OWN_ID, OWN_SURVEY} <= set(described.column_names):
        take("the id that our export gave it", _by_own_id(survey, described))
    if is_zooniverse and len(described.columns) and (found < 0).any():
        for how, subjects in _by_metadata(survey, described, found < 0):
            take(how, subjects)
    if (found < 0).any():
        take("source_id", _among(survey, names, survey.ids_as_text()))
    if not is_zooniverse and (found < 0).any():
        take("the image's name", _by_image(survey, names))
        if ids is not None:
            take("zooniverse_subject_id", subjects_of_zooniverse(survey, ids))
    return Matched(found, by)


def _by_own_id(survey: Survey, described: pa.Table) -> np.ndarray:
    """By the subject_id that an export of this very survey wrote; -1 where it is another survey's, or none."""
    is_ours = pc.equal(described.column(OWN_SURVEY), survey.info.survey_id)
    ids = pc.if_else(is_ours, described.column(OWN_ID), None).combine_chunks()
    known = pa.array(survey.subject_ids).cast(pa.string())
    rows = pc.fill_null(pc.index_in(ids, value_set=known, skip_nulls=True), -1).to_numpy(zero_copy_only=False)
    return np.where(rows < 0, -1, survey.subject_ids[rows])


def _among(survey: Survey, texts: Any, values: Any) -> np.ndarray:
    """subject_id of the one row whose value each text is; -1 where none, or more than one, has it."""
    rows = np.asarray(pc.fill_null(pc.index_in(texts, value_set=values), -1).to_numpy(zero_copy_only=False))
    missing = pc.is_null(texts).to_numpy(zero_copy_only=False)
    counted = pc.value_counts(values)
    several = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
    if len(several):
        missing = missing | pc.is_in(texts, value_set=several).to_numpy(zero_copy_only=False)
    return np.where((rows < 0) | missing, -1, survey.subject_ids[rows])


def _stem(names: Any) -> Any:
    """Names of files without folders and suffix."""
    return pc.replace_substring_regex(_base(names), r"\.[A-Za-z][A-Za-z0-9]{1,4}(\.(gz|fz))?$", "")


def _base(names: Any) -> Any:
    return pc.replace_substring_regex(names, r"^.*[/\\]", "")


def _by_image(survey: Survey, texts: Any) -> np.ndarray:
    """By source_id as a file's name, by the image's name, then without suffixes."""
    found = np.full(len(texts), -1, np.int64)
    images = survey.arrow("image")
    for values in (survey.ids_as_text(), images):
        for shorten in (_base, _stem):
            subjects = _among(survey, shorten(texts), shorten(values))
            found = np.where(found < 0, subjects, found)
    return found


def _by_metadata(survey: Survey, described: pa.Table, is_left: np.ndarray) -> Sequence[tuple[str, np.ndarray]]:
    """What joins most of those left, first: keys that name files before others."""
    tried = []
    for key in described.column_names:
        texts = described.column(key).combine_chunks()
        subjects = _by_image(survey, texts)
        if n := int(((subjects >= 0) & is_left).sum()):
            says_file = bool(re.search("file|image|location", key, re.IGNORECASE))
            tried.append((says_file, n, key, subjects))
    tried.sort(key=lambda t: t[:2], reverse=True)
    # a number that happens to be an id somewhere joins few of them: only the best key counts
    return [(f'"{tried[0][2]}" with the image\'s name', tried[0][3])] if tried else []
