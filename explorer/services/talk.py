"""What volunteers said of subjects on Talk: tags in groups, comments, and what of it is drawn on the map.

Read again by itself when an ingest, or whoever edits the survey's ``tag_groups.toml``, changed a file. A tag's group is
always that of the map as it is now; `trouble` says why where that cannot be read.
"""

from __future__ import annotations

import difflib
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from explorer.errors import SurveyError, UsageError
from explorer.ingest.tags import How, TagGroups, study_groups
from explorer.raster import Overlay, overlay
from explorer.services.counting import read_table, stamp_of
from explorer.state import Selection
from explorer.survey import Survey, counted
from explorer.votes import TAG_GROUPS, TALK_COMMENTS, TALK_COMMENTS_SCHEMA, TALK_TAGS, TALK_TAGS_SCHEMA

#: What a reference of the overlay begins with; alone it means the commonest groups.
PREFIX = "talk:"
#: Groups that are drawn together, and groups that are offered by name.
DRAWN, OFFERED = 8, 200
#: Characters of a group's name in the legend.
LONGEST = 26
#: Markers in all.
MARKERS = 5_000


@dataclass(frozen=True)
class TagGroup:
    """Tags that mean the same.

    Attributes
    ----------
    n_subjects, n_taggers, n_tags
        Subjects that have one, volunteers who gave one, and how often one was given.
    n_by_one
        Of `n_tags`, those of the volunteer who gave the most.
    members
        Raw tag → subjects that have it, and how it came into the group; the commonest first.
    """

    name: str
    n_subjects: int
    n_taggers: int
    n_tags: int
    n_by_one: int
    members: dict[str, tuple[int, How]]


@dataclass(frozen=True)
class _Said:
    """Talk at one moment; arrays of tags are row-aligned with each other, likewise those of comments."""

    tag_row: np.ndarray  # int64 (T,) the survey's rows
    tag: np.ndarray  # int32 (T,) into raw
    tagger: np.ndarray  # int32 (T,) into people; unknown ones are one
    tags: pa.Table
    raw: list[str]
    how: list[How]
    group_of: np.ndarray  # int32 (raw,) into names
    names: list[str]
    study_of: np.ndarray  # int32 (raw,) into study, -1: in none
    study: list[str]
    people: list[str]
    comment_row: np.ndarray  # int64 (C,), ascending
    comments: pa.Table
    trouble: str
    groups: dict[bool, list[TagGroup]] = field(default_factory=dict)

    def groups_of(self, is_study: bool) -> tuple[np.ndarray, list[str]]:
        """Group of every tag, int32 (T,), and the groups' names."""
        codes, names = (self.study_of, self.study) if is_study else (self.group_of, self.names)
        return codes[self.tag] if len(codes) else self.tag, names


class Talk:
    """What Talk says of the subjects of one survey. Thread-safe."""

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        self._lock = threading.Lock()
        self._held: tuple[Any, _Said] | None = None
        self._own, self._n_heard = TALK_TAGS_SCHEMA.empty_table(), 0

    def hear(self, tags: pa.Table) -> None:
        """Take the tags that volunteers gave on our own page, all of them, by `TALK_TAGS_SCHEMA`, beside Talk's."""
        self._own, self._n_heard = tags, self._n_heard + 1

    # ------------------------------------------------------------------------------------------------------ reading
    def _key(self) -> tuple[Any, ...]:
        files = (stamp_of(self.survey.path / name) for name in (TALK_TAGS, TALK_COMMENTS, TAG_GROUPS))
        return self.survey.n, self._n_heard, *files

    def _now(self) -> _Said:
        key = self._key()
        with self._lock:
            if self._held is None or self._held[0] != key:
                self._held = key, self._read()
            return self._held[1]

    def _read(self) -> _Said:
        path, trouble = self.survey.path, ""
        of_talk = read_table(path / TALK_TAGS, TALK_TAGS_SCHEMA).select(TALK_TAGS_SCHEMA.names).cast(TALK_TAGS_SCHEMA)
        tags, tag_row = self._by_subject(pa.concat_tables([of_talk, self._own]).unify_dictionaries())
        comments, comment_row = self._by_subject(read_table(path / TALK_COMMENTS, TALK_COMMENTS_SCHEMA))
        try:
            groups = TagGroups.of(path)
        except SurveyError as error:
            groups, trouble = TagGroups.default(), f"{error}; until then the default groups are used"
        tag, raw = _codes(tags["tag"])
        tagger, people = _codes(tags["volunteer"])
        uses = np.bincount(tag, minlength=len(raw))
        found = groups.grouped(dict(zip(raw, uses.tolist(), strict=True)))
        study = study_groups()
        group_of, names = _coded([found[r].group for r in raw])
        study_of, study_names = _coded([study.get(r) for r in raw])
        return _Said(
            tag_row=tag_row,
            tag=tag,
            tagger=tagger,
            tags=tags,
            raw=raw,
            how=[found[r].how for r in raw],
            group_of=group_of,
            names=names,
            study_of=study_of,
            study=study_names,
            people=people,
            comment_row=comment_row,
            comments=comments,
            trouble=trouble,
        )

    def _by_subject(self, table: pa.Table) -> tuple[pa.Table, np.ndarray]:
        """A table of Talk in the order of its subjects, and their rows; what is of no subject here is left out."""
        rows = self.survey.rows_of(table["subject_id"].to_numpy())
        order = np.argsort(rows, kind="stable")[np.count_nonzero(rows < 0) :]
        return table.take(pa.array(order)), rows[order]

    @property
    def trouble(self) -> str:
        """What is wrong with the survey's own map of tags; else nothing."""
        return self._now().trouble

    @property
    def stamp(self) -> tuple[Any, ...]:
        """As long as it is the same, nothing has changed."""
        return self._key()

    # ------------------------------------------------------------------------------------------------------- groups
    def groups(self, is_study: bool = False) -> list[TagGroup]:
        """The groups that subjects of the survey have, the commonest first.

        Parameters
        ----------
        is_study
            By the grouping of the study, in which many tags are in no group, rather than by the survey's map.
        """
        said = self._now()
        with self._lock:
            if is_study not in said.groups:
                said.groups[is_study] = _groups(said, is_study)
            return said.groups[is_study]

    def rows(self, group: str, is_study: bool = False) -> np.ndarray:
        """Rows of the subjects with a tag of a group: int64, ascending.

        Raises
        ------
        UsageError
            No such group; the message offers the near miss.
        """
        return np.unique(self.taggings(group, is_study)[0])

    def selection(self, group: str) -> Selection:
        """The subjects with a tag of a group."""
        return Selection.of_rows(self.rows(group), self.survey.n)

    def taggings(self, group: str, is_study: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Who gave which subject a tag of a group: rows int64 and taggers int32, (M,) each; see `models.tagging`."""
        said = self._now()
        codes, names = said.groups_of(is_study)
        if group not in names:
            raise _no_such_group(group, names)
        is_it = codes == names.index(group)
        return said.tag_row[is_it], said.tagger[is_it]

    def taggings_raw(self, tag: str) -> tuple[np.ndarray, np.ndarray]:
        """Who gave which subject a raw tag: as `taggings`."""
        said = self._now()
        if tag not in said.raw:
            raise _no_such_group(tag, said.raw)
        is_it = said.tag == said.raw.index(tag)
        return said.tag_row[is_it], said.tagger[is_it]

    # ----------------------------------------------------------------------------------------------------- subjects
    def columns(self) -> dict[str, Any]:
        """Talk as columns in row order.

        Returns
        -------
        dict
            n_comments, n_tags, n_taggers
                int32 (N,): comments, tags given, and volunteers who gave one.
            tag_group
                object (N,): the rarest group of a subject, by subjects of the survey, then by name; None: no tag.
        """
        said, n = self._now(), self.survey.n
        codes, names = said.groups_of(False)
        pairs = (
            np.unique(np.column_stack([said.tag_row, said.tagger]), axis=0)
            if len(said.tag_row)
            else np.empty((0, 2), int)
        )
        rarest = np.full(n, None, object)
        size = {group.name: group.n_subjects for group in self.groups()}
        rank = np.empty(len(names), np.int64)
        rank[sorted(range(len(names)), key=lambda i: (-size[names[i]], names[i]))] = np.arange(len(names))
        order = np.argsort(rank[codes], kind="stable") if len(codes) else codes
        rarest[said.tag_row[order]] = np.array(names, object)[codes[order]]  # of several the last stays: the rarest
        return {
            "n_comments": np.bincount(said.comment_row, minlength=n).astype(np.int32),
            "n_tags": np.bincount(said.tag_row, minlength=n).astype(np.int32),
            "n_taggers": np.bincount(pairs[:, 0], minlength=n).astype(np.int32),
            "tag_group": rarest,
        }

    def of(self, row: int) -> dict[str, Any] | None:
        """All that is said of a subject, as plain text and ready for JSON; who is a hash, "" where that is not known.

        Returns
        -------
        dict or None
            None in a survey of whose subjects nobody has said anything.
            tags
                group, tag, who, at, n_subjects (of the group in the survey); each tag once a volunteer.
            comments
                text, who, at, discussion; oldest first.
            n_taggers
                Volunteers who gave a tag.
            trouble
                See `Talk.trouble`.
        """
        said = self._now()
        if not len(said.tag_row) and not len(said.comment_row):
            return None
        size = {group.name: group.n_subjects for group in self.groups()}
        first, last = np.searchsorted(said.tag_row, [row, row + 1])
        tags: dict[tuple[str, str], dict[str, Any]] = {}
        for i in range(first, last):
            raw, who, at = said.raw[said.tag[i]], said.people[said.tagger[i]], said.tags["created_at"][i].as_py()
            group = said.names[said.group_of[said.tag[i]]]
            told = {"group": group, "tag": raw, "who": who, "at": _when(at), "n_subjects": size[group]}
            tags.setdefault((raw, who), told)
        first, last = np.searchsorted(said.comment_row, [row, row + 1])
        comments = [
            {
                "text": c["text"],
                "who": c["volunteer"] or "",
                "at": _when(c["created_at"]),
                "discussion": c["discussion"],
            }
            for c in said.comments.slice(first, last - first).to_pylist()
        ]
        return {
            "tags": sorted(tags.values(), key=lambda tag: (tag["at"], tag["group"])),
            "comments": sorted(comments, key=lambda comment: comment["at"]),
            "n_taggers": len({tag["who"] for tag in tags.values()}),
            "trouble": said.trouble,
        }

    # ------------------------------------------------------------------------------------------------------ overlay
    def titles(self) -> dict[str, str]:
        """What may be drawn above the map: reference → title, with subjects and taggers; the commonest, then each."""
        groups = self.groups()
        if not groups:
            return {}
        named = {f"{PREFIX}{g.name}": f"{g.name} ({g.n_subjects:,} by {g.n_taggers:,})" for g in groups[:OFFERED]}
        together = f"the {DRAWN} commonest tags" if len(groups) > DRAWN else "all tags"
        return {PREFIX: together} | named

    def overlays(self, reference: str) -> list[Overlay]:
        """Groups as markers: ``talk:GROUP``, or ``talk:`` for the commonest, rarest first. A subject may be in several.

        Labels say how many people gave the tag: what one person looked for is no census.

        Raises
        ------
        UsageError
            No such group.
        """
        name = reference.removeprefix(PREFIX)
        chosen = list(enumerate(self.groups()[:DRAWN]))
        if name:
            self.rows(name)
            chosen = [(0, group) for group in self.groups() if group.name == name]
        found, left = [], MARKERS
        for place, group in reversed(chosen):
            if left > 0:
                name = group.name if len(group.name) <= LONGEST else f"{group.name[: LONGEST - 1]}…"
                label = f"{name} · {counted(group.n_taggers, 'tagger')}"
                found.append(overlay(label, self.rows(group.name), left, place))
                left -= len(found[-1].rows)
        return found


def _groups(said: _Said, is_study: bool) -> list[TagGroup]:
    codes, names = said.groups_of(is_study)
    order = np.argsort(codes, kind="stable")
    edges = np.searchsorted(codes[order], np.arange(len(names) + 1))
    found = []
    for name, at in zip(names, np.split(order, edges)[1:-1], strict=True):
        rows, taggers, tags = said.tag_row[at], said.tagger[at], said.tag[at]
        _, n_by_each = np.unique(taggers, return_counts=True)
        subjects = Counter(tag for _, tag in {*zip(rows.tolist(), tags.tolist(), strict=True)})
        members: dict[str, tuple[int, How]] = {
            said.raw[tag]: (n, "listed" if is_study else said.how[tag]) for tag, n in subjects.most_common()
        }
        counts = len(np.unique(rows)), len(n_by_each), len(at), int(n_by_each.max())
        found.append(TagGroup(name, *counts, members))
    return sorted(found, key=lambda group: (-group.n_subjects, group.name))


def _coded(texts: list[str | None]) -> tuple[np.ndarray, list[str]]:
    """Codes int32, -1 for None, and the sorted texts they mean."""
    names = sorted({text for text in texts if text is not None})
    place = {name: i for i, name in enumerate(names)}
    return np.array([-1 if text is None else place[text] for text in texts], np.int32), names


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Codes int32 and the texts they mean; a missing one is ""."""
    encoded = column.cast(pa.string()).fill_null("").combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int32), encoded.dictionary.to_pylist()


def _no_such_group(name: str, names: list[str]) -> UsageError:
    near = difflib.get_close_matches(name, names, n=1)
    hint = f'did you mean "{near[0]}"?' if near else f"there are {len(names):,} others"
    return UsageError(f'no subject has the tag "{name}"; {hint}')


def _when(at: Any) -> str:
    return at.isoformat() if at is not None else ""
