"""Votes of other tools, and what follow-up found later: both come in, are kept once, and say where they are from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from explorer.errors import UsageError
from explorer.services.vetting import KIND, OUTCOME
from explorer.services.vote_files import Line, read_votes
from explorer.survey import Survey, counted

if TYPE_CHECKING:
    from explorer.services.desk import Desk

#: Votes that are written at once: they share a commit.
AT_ONCE = 16
IMPORT = "import"  # how such a vote came


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of a file of votes.

    Attributes
    ----------
    n_new, n_changed, n_same
        Votes that are taken: new ones, those of an earlier import that say something else now, those that are there.
    aside
        Line number and reason of each line that is not taken.
    n_blank
        Lines without a grade.
    columns
        What was read from which column.
    n_notes
        Comments that became notes on their subjects.
    """

    n_lines: int
    n_new: int
    n_changed: int
    n_same: int
    n_blank: int
    n_notes: int
    aside: tuple[tuple[int, str], ...]
    graders: tuple[str, ...]
    columns: Mapping[str, str]

    def sentences(self) -> list[str]:
        """For a person."""
        taken = f"{self.n_new:,} new, {self.n_changed:,} changed, {self.n_same:,} there already"
        told = [f"{counted(self.n_lines, 'line')}: {taken}, of {counted(len(self.graders), 'grader')}"]
        told += [f"{self.n_blank:,} have no grade"] if self.n_blank else []
        told += [f"{counted(self.n_notes, 'comment')} became notes"] if self.n_notes else []
        told += [f"{len(self.aside):,} set aside:"] if self.aside else []
        return told + [f"  line {number:,}: {why}" for number, why in self.aside]


def import_votes(
    desk: Desk,
    campaign_id: str,
    content: bytes,
    who: str,
    *,
    file: str = "",
    columns: Mapping[str, str] | None = None,
    grader: str = "",
    meant: Mapping[str, str] | None = None,
    with_comments: bool = True,
) -> Imported:
    """Take in votes that were given in another tool; each counts as its grader's. The same file again changes nothing.

    A vote that its grader gave here is never replaced by one of a file; one of an earlier import is, by what the file
    says now.

    Parameters
    ----------
    content
        The CSV; see `explorer.services.vote_files.read_votes` for it, `columns`, `grader` and `meant`.
    who
        Whoever imports.
    file
        Its name, which the votes keep.

    Raises
    ------
    UsageError
        The file is none, or the campaign is closed or not there.
    LedgerError
        A vote could not be kept; those before it are.
    """
    campaign = desk.campaigns.get(campaign_id)
    if not campaign.is_open:
        raise UsageError(f"the campaign “{campaign.plan.name}” is closed; open it again to import votes")
    survey, read = desk.explore.survey, read_votes(content, campaign.plan.scheme, columns, grader, meant)
    aside = list(read.aside)
    rows = rows_of(survey, [line.subject for line in read.lines])
    of_campaign = campaign.index_of(rows) >= 0
    votes = desk.vetting.votes(campaign.id)
    votes = votes[(votes["role"] != "repeat") & (votes["via"] != "adjudication")]
    told = zip(votes["who"], votes["row"], votes["grade"], votes["interesting"], votes["via"], strict=True)
    held = {(who_, int(row)): (key, bool(flag), via) for who_, row, key, flag, via in told}
    wanted: list[tuple[Line, int]] = []
    seen: dict[tuple[str, int], int] = {}
    n_changed = n_same = 0
    for line, row, is_in in zip(read.lines, rows.tolist(), of_campaign.tolist(), strict=True):
        if row < 0:
            aside.append((line.number, f'there is no subject "{line.subject[:60]}" in this survey'))
            continue
        if not is_in:
            aside.append((line.number, f'"{line.subject[:60]}" is not in the campaign “{campaign.plan.name}”'))
            continue
        if (earlier := seen.setdefault((line.grader, row), line.number)) != line.number:
            aside.append((line.number, f"{line.grader} has graded it in line {earlier:,} already"))
            continue
        before = held.get((line.grader, row))
        if before is not None and before[2] != IMPORT:
            aside.append((line.number, f"{line.grader} has graded it here, and that stays"))
        elif before is not None and before[:2] == (line.grade, line.is_interesting):
            n_same += 1
        else:
            n_changed += before is not None
            wanted.append((line, row))
    ids = survey.subject_ids
    name = file.replace("\\", "/").rsplit("/", 1)[-1]

    def keep(told: tuple[Line, int]) -> None:
        line, row = told
        payload: dict[str, Any] = {"campaign": campaign.id, "grade": line.grade, "interesting": line.is_interesting}
        payload |= {"via": IMPORT, "grader": line.grader, "file": name} | ({"voted_at": line.at} if line.at else {})
        if line.seconds == line.seconds:
            payload |= {"seconds": min(line.seconds, campaign.plan.idle_s), "seconds_raw": line.seconds}
        desk.ledger.append(
            KIND,
            payload,
            who=who,
            subject_id=int(ids[row]),
            run_id=campaign.source.get("run_id") or None,
            map_id=campaign.source.get("map_id") or None,
            boundary_id=campaign.boundary_id,
        )

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="import") as pool:
        list(pool.map(keep, wanted))
    n_notes = 0
    if with_comments:
        for line, row in zip(read.lines, rows.tolist(), strict=True):
            if line.comment and row >= 0 and campaign.index_of(np.array([row]))[0] >= 0:
                there = {(note.who, note.text) for note in desk.notes.notes(int(ids[row]))}
                if (line.grader, line.comment) not in there:
                    desk.notes.add_note(int(ids[row]), line.comment, who=line.grader)
                    n_notes += 1
    return Imported(
        read.n_lines,
        len(wanted) - n_changed,
        n_changed,
        n_same,
        read.n_blank,
        n_notes,
        tuple(sorted(aside)),
        tuple(dict.fromkeys(line.grader for line in read.lines)),
        read.columns,
    )


def rows_of(survey: Survey, names: Sequence[str]) -> np.ndarray:
    """Rows of subjects by source id, else by a file's name without folder and suffix, else by subject id; -1: none."""
    found = np.full(len(names), -1, np.int64)
    if not names:
        return found
    known = survey.arrow("source_id").cast(pa.string())

    def look(texts: list[str]) -> np.ndarray:
        at = pc.index_in(pa.array(texts, pa.string()), value_set=known)
        return np.asarray(pc.fill_null(at, -1).to_numpy(zero_copy_only=False), np.int64)

    base = [name.replace("\\", "/").rsplit("/", 1)[-1] for name in names]
    for texts in (list(names), base, [name.rsplit(".", 1)[0] for name in base]):
        found = np.where(found < 0, look(texts), found)
    for i in np.flatnonzero(found < 0).tolist():
        text = names[i].strip()
        if text.isdigit() and int(text) < 2**63:
            found[i] = survey.rows_of(np.array([int(text)], np.int64))[0]
    return found


# ----------------------------------------------------------------------------------------------------- later outcomes
def keep_outcome(desk: Desk, row: int, outcome: str, source: str, who: str) -> bool:
    """What follow-up found of a subject; whether it is new: the same of the same source is kept once.

    Raises
    ------
    UsageError
        As `Vetting.set_outcome`.
    """
    before = desk.ledger.entries(OUTCOME, subject_id=int(desk.explore.survey.subject_ids[row]))
    if before and before[-1].payload == {"outcome": outcome, "source": " ".join(source.split())}:
        return False
    desk.vetting.set_outcome(row, outcome, source, who=who)
    return True
