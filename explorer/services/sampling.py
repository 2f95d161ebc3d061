"""Subject sets by design: what scores highest, and a random part of the rest, each with the probability of being drawn.

A set of the highest scores alone says nothing about what lies below. With some of the rest drawn at random, every rate
can be given for the survey as a whole, each subject weighted by the inverse of its inclusion probability (Horvitz &
Thompson 1952, JASA 47, 663). What shows the same sky is drawn together or not at all: the unit is the duplicate group.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from explorer.errors import UsageError, no_such_column
from explorer.ingest.join import rewrite
from explorer.ledger import Ledger
from explorer.services.explore import Explore
from explorer.services.filters import columns_of, parse, reader
from explorer.survey import SUBJECTS, SUBJECTS_SCHEMA, Survey, counted
from models.mixing import Mode

INCLUSION = "inclusion_probability"
#: Kind of the ledger's entry, and the key of the column's metadata that holds the design.
SAMPLE, DESIGN = "sample", "design"
#: Different numbers beyond which a column is cut into quarters to make strata; and the most strata there may be.
MOST_VALUES, MOST_STRATA = 20, 100

Allocation = Literal["proportional", "equal"]


@dataclass(frozen=True, slots=True)
class Design:
    """How a set is drawn.

    Attributes
    ----------
    top
        What is certain to be in it: the highest by `by`, as a share of the frame (0 to 1).
    by
        The column that says what is highest; "" where `top` is 0.
    n_random
        Subjects drawn from the rest; on average, where duplicate groups differ in size.
    strata
        A column whose classes are drawn from one by one: categories, up to 20 numbers, else quarters; "" for none.
    allocation
        How `n_random` falls to strata: by their size, or evenly.
    where
        A filter: subjects for which it does not hold are not in the frame; "" for none.
    seed
        The same seed draws the same set.
    run_id, map_id, lambda_, mode
        What `by`, `strata` and `where` are read from.
    """

    top: float = 0.0
    by: str = ""
    n_random: int = 0
    strata: str = ""
    allocation: Allocation = "proportional"
    where: str = ""
    seed: int = 0
    run_id: str = ""
    map_id: str = ""
    lambda_: float = 0.2
    mode: Mode = "raw"

    def __post_init__(self) -> None:
        if not 0 <= self.top <= 1:
            raise UsageError(f"the top is {self.top:g} of the subjects; it must be from 0 to 1 (100 %)")
        if self.n_random < 0:
            raise UsageError(f"{self.n_random:,} subjects cannot be drawn; give 0 or more")
        if not self.top and not self.n_random:
            raise UsageError("an empty set is no sample; give --top, --random, or both")
        if self.top and not self.by:
            raise UsageError("--top needs --by COLUMN, which says what is highest")
        if self.by and not self.top:
            raise UsageError("--by says what the top is highest by; give --top, too")
        if self.strata and not self.n_random:
            raise UsageError("--strata says how the random part is drawn; give --random, too")


@dataclass(frozen=True, slots=True)
class Stratum:
    """Of one stratum of the rest: its label, subjects and groups in it, groups drawn and the subjects in these."""

    label: str
    n_subjects: int
    n_groups: int
    n_groups_drawn: int
    n_drawn: int

    @property
    def probability(self) -> float:
        """Of each of its subjects to be drawn."""
        return self.n_groups_drawn / self.n_groups


@dataclass(frozen=True, slots=True)
class Drawn:
    """A set.

    Attributes
    ----------
    probability
        float64 (N,): of being drawn, of those who are; NaN for everyone else.
    n_frame
        Subjects that could have been.
    n_top
        The highest; `n_certain` counts also those who show the same sky as one of them.
    strata
        Of the rest; one without a label where there are no strata.
    """

    probability: np.ndarray
    n_frame: int
    n_top: int
    n_certain: int
    strata: tuple[Stratum, ...]

    @property
    def rows(self) -> np.ndarray:
        """int64, ascending."""
        return np.flatnonzero(np.isfinite(self.probability))

    def sentences(self, design: Design) -> list[str]:
        """The design and what came of it, for a person."""
        drawn = self.probability[self.rows]
        said = [f"{counted(self.n_frame, 'subject')} could be drawn{f' ({design.where})' if design.where else ''}"]
        if design.top:
            column = design.by.partition(".")[2]
            same = self.n_certain - self.n_top
            said.append(
                f"certain: the {self.n_top:,} with the highest {column} (top {100 * design.top:g} %)"
                + (f" and {same:,} that show the same sky as one of them" if same else "")
            )
        other = "other " if design.top else ""
        for stratum in self.strata if design.n_random else ():
            of = f" with {design.strata.partition('.')[2]} {stratum.label}" if design.strata else ""
            said.append(
                f"at random: {stratum.n_drawn:,} of the {other}{stratum.n_subjects:,}{of}, "
                f"each with probability {stratum.probability:.4g}"
            )
        if design.n_random > (n_rest := sum(stratum.n_subjects for stratum in self.strata)):
            said.append(f"you asked for {design.n_random:,} at random; there are {n_rest:,}")
        if any(stratum.n_groups < stratum.n_subjects for stratum in self.strata) and design.n_random:
            said.append("subjects that show the same sky were drawn together or not at all")
        n = counted(len(self.rows), "subject")
        said.append(
            f"the set has {n}, which stand for {(1 / drawn).sum():,.0f} of {self.n_frame:,}"
            if design.n_random
            else f"the set has {n}; nothing of the rest was drawn, so it says nothing about the rest"
        )
        if len(self.rows) == self.n_frame:
            is_all = self.n_frame == len(self.probability)
            said.append(f"note: the sample is {'the whole survey' if is_all else 'all that could be drawn'}")
        return said


def draw(
    frame: np.ndarray,
    groups: np.ndarray,
    top: float,
    highest: np.ndarray | None,
    n_random: int,
    strata: tuple[np.ndarray, list[str]] | None,
    allocation: Allocation,
    seed: int,
) -> Drawn:
    """Draw a set: whole groups, the top for certain, the rest by simple random sampling without replacement.

    Parameters
    ----------
    frame
        bool (N,): who can be drawn.
    groups
        int64 (N,): the same number for those who are drawn together. Only members in the frame count.
    top
        Share of the frame, rounded up to whole subjects. A group with one of them is in the set as a whole.
    highest
        float (N,), NaN where missing: those are never in the top. None where `top` is 0.
    n_random
        Subjects, on average.
    strata
        Codes (int, N) and labels. A group belongs to the stratum of its first row.
    """
    n = len(frame)
    probability = np.full(n, np.nan)
    rows = np.flatnonzero(frame)
    is_certain = np.zeros(n, np.bool_)
    n_top = 0
    if top and highest is not None:
        known = rows[np.isfinite(highest[rows])]
        first = known[np.argsort(-highest[known], kind="stable")][: math.ceil(top * len(rows) - 1e-9)]
        n_top = len(first)
        is_certain[rows] = np.isin(groups[rows], groups[first])
        probability[is_certain] = 1.0
    rest = rows[~is_certain[rows]]
    rng = np.random.default_rng(seed)
    units, first_of, unit, sizes = np.unique(groups[rest], return_index=True, return_inverse=True, return_counts=True)
    codes, labels = (np.zeros(n, np.int64), [""]) if strata is None else strata
    of_unit = codes[rest][first_of] if len(rest) else np.empty(0, np.int64)
    present = [code for code in range(len(labels)) if (of_unit == code).any()]
    n_subjects = [int(sizes[of_unit == code].sum()) for code in present]
    made = []
    for code, size, share in zip(present, n_subjects, _allocated(n_random, n_subjects, allocation), strict=True):
        members = np.flatnonzero(of_unit == code)
        n_units = min(len(members), max(round(share * len(members) / size), 1)) if share else 0
        taken = np.zeros(len(units), np.bool_)
        taken[members[rng.permutation(len(members))[:n_units]]] = True
        drawn = rest[taken[unit]]
        probability[drawn] = n_units / len(members)
        made.append(Stratum(labels[code], size, len(members), n_units, len(drawn)))
    return Drawn(probability, len(rows), n_top, int(is_certain.sum()), tuple(made))


def _allocated(n: int, sizes: list[int], allocation: Allocation) -> list[int]:
    """How many of `n` fall to strata of these sizes: by largest remainder, one at least, and no more than there are."""
    if n == 0 or n >= sum(sizes):
        return sizes if n else [0] * len(sizes)
    if n < len(sizes):
        raise UsageError(f"{counted(n, 'subject')} at random cannot come from all {len(sizes):,} strata; draw more")
    weights = np.array(sizes if allocation == "proportional" else [1] * len(sizes), np.float64)
    given = np.zeros(len(sizes), np.int64)
    while (left := n - int(given.sum())) > 0:  # what a small stratum cannot take falls to the others
        is_open = given < sizes
        share = left * weights * is_open / weights[is_open].sum()
        more = np.floor(share).astype(np.int64)
        remainders = np.where(is_open, share - more, -1)
        more[np.argsort(-remainders, kind="stable")[: left - int(more.sum())]] += 1
        given = np.minimum(given + more, sizes)
    for empty in np.flatnonzero(given == 0):
        given[np.argmax(given)] -= 1
        given[empty] = 1
    return [int(value) for value in given]


def drawn_by(explore: Explore, design: Design, ledger: Ledger) -> Drawn:
    """Read what a design names, and draw.

    Raises
    ------
    UsageError
        Columns that are not there or not what is needed, too many strata, or nobody to draw from.
    """
    survey = explore.survey
    columns = columns_of(explore, design.run_id, design.map_id, ledger)
    read = reader(explore, design.run_id, design.map_id, design.lambda_, design.mode, ledger)
    frame = survey.frame().copy()
    if design.where:
        frame &= parse(design.where, columns).rows(read)
    if not frame.any():
        raise UsageError("there is no subject to draw from: the filter holds for none")
    highest = None
    if design.top:
        if columns.kinds.get(design.by) != "number":
            raise UsageError(f'"{design.by}" does not hold numbers, so nothing is highest by it; name another column')
        highest = np.asarray(read(design.by), np.float64)
    strata = _strata(read(design.strata), columns.kinds[design.strata], design.strata) if design.strata else None
    column = pq.read_table(survey.path / SUBJECTS, columns=["duplicate_group"]).column(0)
    codes = column.combine_chunks().dictionary_encode().indices.fill_null(-1).to_numpy().astype(np.int64)
    codes = np.where(codes < 0, survey.n + np.arange(survey.n), codes)  # who has no group is one alone
    return draw(frame, codes, design.top, highest, design.n_random, strata, design.allocation, design.seed)


def reference(explore: Explore, name: str, run_id: str, map_id: str) -> str:
    """The column that a bare name means, a score before a column of the survey.

    Raises
    ------
    UsageError
        There is none.
    """
    columns = columns_of(explore, run_id, map_id)
    found = name if name in columns.kinds else columns.find(name)
    if found is None:
        raise no_such_column(name, "this survey", [known.partition(".")[2] for known in columns.kinds])
    return found


def _strata(values: Any, kind: str, name: str) -> tuple[np.ndarray, list[str]]:
    """Codes and labels of a column's classes; who has no value is a class of its own."""
    if kind == "category":
        codes, labels = np.array(values[0]), list(values[1])
    elif kind in ("number", "truth"):
        numbers = np.asarray(values, np.float64)
        known = np.unique(numbers[np.isfinite(numbers)])
        if len(known) <= MOST_VALUES:
            codes, labels = np.searchsorted(known, numbers), [f"{value:g}" for value in known]
        else:
            edges = np.quantile(numbers[np.isfinite(numbers)], (0.25, 0.5, 0.75))
            codes = np.searchsorted(edges, numbers, side="left")
            labels = [f"in its {word} quarter" for word in ("lowest", "second", "third", "highest")]
        codes = np.where(np.isfinite(numbers), codes, -1)
    else:
        raise UsageError(f'"{name}" holds {kind}s, which make no strata; name a column of categories or numbers')
    if len(labels) > MOST_STRATA:
        raise UsageError(f'"{name}" has {len(labels):,} categories; strata can be {MOST_STRATA} at most')
    return np.where(codes < 0, len(labels), codes).astype(np.int64), [*labels, "missing"]


def n_sampled(survey: Survey) -> int:
    """Subjects that the survey's sample has; 0 where there is none."""
    return int(np.isfinite(survey.column(INCLUSION)).sum())


def write_inclusion(survey: Survey, drawn: Drawn, told: Mapping[str, Any]) -> None:
    """Make a set the survey's sample: its probabilities are the column, its design the column's metadata.

    Call it with the survey locked.
    """
    metadata = {"kind": "number", DESIGN: json.dumps({**told, "n_frame": drawn.n_frame})}
    field = pa.field(INCLUSION, SUBJECTS_SCHEMA.field(INCLUSION).type, metadata=metadata)
    values = pa.chunked_array([pa.array(drawn.probability, pa.float64(), from_pandas=True)])
    rewrite(survey, {INCLUSION: (field, values)})
    survey.refresh()


def sample(explore: Explore, design: Design, name: str, ledger: Ledger, who: str, replace: bool = False) -> Drawn:
    """Draw a set, keep it as a selection, and write everybody's inclusion probability into ``subjects.parquet``.

    The column is null for whoever is not in the set; the design stands in its metadata, and in the ledger with what
    came of it.

    Raises
    ------
    UsageError
        The survey has a sample already, or a selection of that name, and `replace` is not given.
    SurveyError
        Another command writes into the survey.
    """
    survey = explore.survey
    with survey.lock():
        survey.refresh()
        drawn = drawn_by(explore, design, ledger)
        there = n_sampled(survey)
        if there and not replace:
            raise UsageError(
                f"{survey.path} has a sample already, of {counted(there, 'subject')}, and a survey has one, "
                "whatever its name; --replace draws another in its place (the ledger keeps the design of both)"
            )
        if name in ledger.selection_names() and not replace:
            raise UsageError(f'there is a selection "{name}" already; --name another, or --replace it')
        told = asdict(design)
        told["lambda"] = told.pop("lambda_")
        write_inclusion(survey, drawn, told)
        payload = {
            "design": told,
            "selection": name,
            "n_frame": drawn.n_frame,
            "n_certain": drawn.n_certain,
            "n": len(drawn.rows),
            "strata": [asdict(stratum) | {"probability": stratum.probability} for stratum in drawn.strata],
        }
        ledger.append(SAMPLE, payload, who=who, run_id=design.run_id or None, map_id=design.map_id or None)
        ledger.save_selection(name, drawn.rows, survey.subject_ids, who=who)
    return drawn
