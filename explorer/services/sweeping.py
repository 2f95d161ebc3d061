"""Kind ``sweep``: a saved boundary judged again and again while Σ of its truth moves, or one of its own limits.

It is a boundary's line in the paper's figure 6 (`explorer.services.figure_six` fits one anew for each Σ; here it stands
as it was saved). Everything is of the tune half, or of all subjects where a survey has no halves (science rule 3).
Where boundary and truth share a column, the sweep says so, and no best value is told of it (rule 4). Rates are as the
kind of truth allows (rule 5), with Wilson's intervals (rule 24). The files of a run::

    sweep.parquet   one row for each value and way of counting, by `SCHEMA`
    sweep.json      boundary, truth, half, circularity, what moved and over which values
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.boundaries import Boundaries, Saved
from explorer.services.explore import Explore
from explorer.services.figure_six import NOT_COMPARABLE
from explorer.services.graded import experts
from explorer.services.judge import Judge
from explorer.services.learned import Learning
from explorer.services.learned_colors import LearnedColors
from explorer.services.notes import Notes
from explorer.services.sampling import reference
from explorer.services.truths import Truths
from explorer.services.volunteers import Volunteers
from explorer.state import Draft
from explorer.survey import Survey
from models.artifacts import Workspace, write_json, write_table
from models.boundary import Gate, Learned, in_words, leaves, replaced
from models.boundary import Path as TermPath
from models.progress import Progress

if TYPE_CHECKING:
    from explorer.kinds.sweep import SweepConfig

TABLE, ABOUT = "sweep.parquet", "sweep.json"
RATES = ("precision", "recall", "f1", "kept", "base")
PARTS = ("", "_k", "_n", "_low", "_high")
#: Ways of counting, as `Judge.numbers` calls them: as seen, by probabilities of the votes, weighted for the survey.
WAYS = {"rates": "as seen", "soft": "soft", "weighted": "weighted"}
#: The name of a classifier where a gate's column is told.
CLASSIFIER = "classifier"
#: Shares of the tune half that reach the least and the highest Σ, as in the paper's figure.
REACHED = (0.4, 0.01)

#: A rate that cannot be estimated is null, with its interval; `trouble` says why none can.
SCHEMA = pa.schema(
    [
        ("moved", pa.string()),  # "sigma", or the reference of the column whose limit moved
        ("at", pa.float64()),
        ("counted", pa.string()),  # one of `WAYS`
        ("n_kept", pa.int64()),  # of the whole survey
        *((f"{rate}{part}", pa.float64()) for rate in RATES for part in PARTS),
        ("trouble", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Moved:
    """What moves, and over which values.

    Attributes
    ----------
    name
        "sigma", or the column's reference.
    title
        For a person.
    path
        Of the term in the boundary; None for Σ.
    values
        float64 (n,), ascending.
    """

    name: str
    title: str
    path: TermPath | None
    limit: Literal["low", "high"]
    values: np.ndarray


class Sweeps:
    """What sweeps of one survey need, open."""

    def __init__(self, survey: Survey, ledger: Ledger) -> None:
        self.survey, self.explore = survey, Explore(survey)
        notes = Notes(ledger, self.explore)
        self.truths = Truths(self.explore, notes, Volunteers(survey, ledger, self.explore.talk))
        learning = Learning(self.explore, self.truths)
        self.boundaries = Boundaries(self.explore, ledger, learning)
        self.truths.experts = experts(self.explore, ledger, self.boundaries, notes)
        self.explore.classifiers = LearnedColors(self.boundaries, learning)
        self.judge = Judge(self.explore, self.boundaries, self.truths, self.explore.talk, notes)

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> Iterator[Sweeps]:
        """Those of the survey in a folder, for the length of the block."""
        with contextlib.closing(Survey.open(path)) as survey, Ledger(path, survey.info.survey_id) as ledger:
            yield cls(survey, ledger)

    def over_sigma(self, saved: Saved, config: SweepConfig) -> Moved | None:
        """Σ of the boundary's truth; None where that has none.

        Raises
        ------
        UsageError
            The boundary was saved without a truth, or nobody in the tune half has a value.
        """
        if saved.truth is None:
            raise UsageError(
                f"{saved.name}, version {saved.version}, was saved without a truth; save it again with what it is "
                "judged against"
            )
        if saved.truth.at_least is None or saved.truth.is_of_experts:  # these know nothing of who was not looked at
            return None
        base = self.truths.base(saved.truth, saved.context)
        title = self.truths.of(saved.truth, saved.context).title.rpartition(" ≥ ")[0]
        values = self._spread(base.values, title, config.sigma_low, config.sigma_high, REACHED, config.n_points)
        return Moved("sigma", title, None, "low", values)

    def over_gate(self, saved: Saved, config: SweepConfig) -> Moved | None:
        """The limit that is asked for; None where none is.

        Raises
        ------
        UsageError
            The boundary has no such gate, or several.
        """
        if config.gate is None:
            return None
        found: list[tuple[TermPath, Gate | Learned]] = []
        is_learned, name = config.gate == CLASSIFIER, CLASSIFIER
        if not is_learned:
            name = reference(self.explore, config.gate, saved.context.run_id, saved.context.map_id)
        for path, leaf in leaves(saved.keep):
            if isinstance(leaf, Learned if is_learned else Gate) and (
                is_learned or (isinstance(leaf, Gate) and leaf.column == name and not leaf.labels)
            ):
                assert isinstance(leaf, Gate | Learned)
                found.append((path, leaf))
        if len(found) != 1:
            columns = [leaf.column for _, leaf in leaves(saved.keep) if isinstance(leaf, Gate) and not leaf.labels]
            columns += [CLASSIFIER for _, leaf in leaves(saved.keep) if isinstance(leaf, Learned)]
            known = ", ".join(dict.fromkeys(columns)) or "none"
            raise UsageError(
                f"{saved.name}, version {saved.version}, has {len(found) or 'no'} gates on {name} with a limit, and "
                f"one is swept; those with a limit are on {known}"
            )
        [(path, leaf)] = found
        if isinstance(leaf, Learned):
            if config.limit == "high":
                raise UsageError("a classifier has a lower limit only; leave out limit")
            values = np.linspace(_or(config.gate_low, 0.05), _or(config.gate_high, 0.95), config.n_points)
            return Moved(name, f"{leaf.scale} score of the classifier", path, "low", values)
        limit = config.limit or ("high" if leaf.low is None and leaf.high is not None else "low")
        column = self.boundaries.source(saved.context).column(name)
        title = self.explore.colors(saved.context.run_id, saved.context.map_id).get(name, name)
        values = self._spread(column, title, config.gate_low, config.gate_high, (1.0, 0.01), config.n_points)
        return Moved(name, title, path, limit, values)

    def _spread(
        self,
        values: np.ndarray | None,
        title: str,
        low: float | None,
        high: float | None,
        reached: tuple[float, float],
        n: int,
    ) -> np.ndarray:
        """`n` values at most: evenly between limits that are told, else evenly in rank, by who of the tune half
        `reached` them."""
        known = np.empty(0) if values is None else np.asarray(values, np.float64)[self.truths.half("tune")]
        known = known[np.isfinite(known)]
        if not len(known):
            raise UsageError(f"no subject of the tune half has a value of {title}; there is nothing to sweep")
        first, last = (float(np.quantile(known, 1 - share, method="nearest")) for share in reached)
        if low is not None or high is not None:
            first, last = _or(low, first), _or(high, last)
            if not first < last:
                raise UsageError(f"{title} is swept from {first:g} to {last:g}; the first must be below the second")
            return np.linspace(first, last, n)
        return np.unique(np.quantile(known, 1 - np.geomspace(*reached, n), method="nearest"))

    def rows(self, saved: Saved, moved: Moved) -> Iterator[list[dict[str, Any]]]:
        """For each value the rows of the table, one for each way of counting."""
        for value in moved.values:
            draft, moving = at_value(saved, moved, float(value))
            told = self.judge.numbers(draft, saved.context, moving)
            rows = []
            for way, word in WAYS.items():
                if not told[way] and (way != "rates"):
                    continue
                row: dict[str, Any] = {"moved": moved.name, "at": float(value), "counted": word}
                row |= {"n_kept": told["n_kept"], "trouble": told["trouble"] or None}
                for name in RATES:
                    rate = (told[way] or {}).get(name) or {}
                    row |= {
                        f"{name}{part}": rate.get(part[1:] or "value") for part in ("", "_k", "_n", "_low", "_high")
                    }
                rows.append(row)
            yield rows


def at_value(saved: Saved, moved: Moved, value: float) -> tuple[Draft, Any]:
    """The boundary and its truth with what moves at a value, and what that is called by `Judge.numbers`."""
    if moved.path is None:
        assert saved.truth is not None
        return Draft(saved.keep, replace(saved.truth, at_least=value)), "truth"
    leaf = dict(leaves(saved.keep))[moved.path]
    if isinstance(leaf, Gate):
        changed: Gate | Learned = replace(leaf, **{moved.limit: value, f"{moved.limit}_percentile": None})  # type: ignore[arg-type]
    else:
        assert isinstance(leaf, Learned)
        changed = replace(leaf, low=value)
    return Draft(replaced(saved.keep, moved.path, changed), saved.truth), moved.path


def _or(told: float | None, otherwise: float) -> float:
    return otherwise if told is None else told


def run(config: SweepConfig, workspace: Workspace) -> Generator[Progress, None, dict[str, Any]]:
    """Sweep a boundary of `workspace.survey`; see the module.

    Returns
    -------
    dict
        ``boundary``, ``version``, ``truth``, ``half`` with ``n_tune``; ``n_sigma`` and ``n_limits``, values swept;
        ``circular``, where it is; else of each sweep where F1 is best: ``best_f1_sigma``, ``sigma_of_best_f1``, and
        the same of ``limit``.

    Raises
    ------
    UsageError
        No such boundary, no truth, no such gate, or nothing that moves.
    """
    if workspace.survey is None:
        raise UsageError("boundaries are kept in a survey's folder, and this run has none")
    yield Progress(0, config.n_points, "opening the survey")
    with Sweeps.open(workspace.survey) as sweeps:
        if len(workspace.subject_ids) != sweeps.survey.n:
            raise UsageError("a sweep is of the whole survey: a boundary was tuned there; leave out the selection")
        saved = sweeps.boundaries.get(config.boundary, config.version)
        every = [sweep for sweep in (sweeps.over_sigma(saved, config), sweeps.over_gate(saved, config)) if sweep]
        if not every:
            raise UsageError(
                f"the truth of {saved.name} has no Σ to move; tell by gate which of its limits is to be swept"
            )
        total, rows = sum(len(moved.values) for moved in every), list[dict[str, Any]]()
        done = 0
        for moved in every:
            for found in sweeps.rows(saved, moved):
                rows += found
                done += 1
                yield Progress(done, total, f"sweeping {'Σ' if moved.path is None else moved.title}")
        about = about_of(sweeps, saved, every)
    write_table(workspace.directory / TABLE, pa.Table.from_pylist(rows, schema=SCHEMA))
    write_json(workspace.directory / ABOUT, about)
    return summary(about, every, rows)


def about_of(sweeps: Sweeps, saved: Saved, every: list[Moved]) -> dict[str, Any]:
    """What must stand beside the numbers, ready for JSON."""
    assert saved.truth is not None
    context = saved.context
    told = sweeps.judge.numbers(saved.draft, context)
    titles = dict(sweeps.explore.colors(context.run_id, context.map_id)) | sweeps.boundaries.titles_of(saved.keep)
    return {
        "boundary": saved.name,
        "version": saved.version,
        "keeps": in_words(saved.keep, titles),
        "truth": saved.truth.to_json(),
        "truth_title": told["title"] or "unknown",
        "truth_kind": told["kind_words"],
        "context": context.to_json(),
        "half": told["half"],
        "n": told["n"],
        "n_survey": told["n_all"],
        "circular": list(told["circular"]),
        "is_simulated": sweeps.truths.volunteers.is_simulated,
        "notes": [note["sentence"] for note in told["notes"]] + ([told["few"]["sentence"]] if told["few"] else []),
        "note": f"as Σ moves, {NOT_COMPARABLE} from one Σ to the next",
        "moved": [
            {"name": moved.name, "title": moved.title, "limit": None if moved.path is None else moved.limit}
            | {"n": len(moved.values), "first": float(moved.values[0]), "last": float(moved.values[-1])}
            for moved in every
        ],
    }


def summary(about: dict[str, Any], every: list[Moved], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The numbers to keep of a run; none that flatters where boundary and truth are circular."""
    found = {"boundary": about["boundary"], "version": about["version"], "truth": about["truth_title"]}
    found |= {"half": about["half"], "n_tune": about["n"]}
    found |= {"n_limits" if moved.path is not None else "n_sigma": len(moved.values) for moved in every}
    if about["circular"]:
        return found | {"circular": f"boundary and truth share {', '.join(about['circular'])}"}
    for moved in every:
        known = [
            row for row in rows if row["moved"] == moved.name and row["counted"] == "as seen" and row["f1"] is not None
        ]
        best = max(known, key=lambda row: row["f1"], default=None)
        if best is not None and math.isfinite(best["f1"]):
            name = "sigma" if moved.path is None else "limit"
            found |= {f"{name}_of_best_f1": best["at"], f"best_f1_{name}": best["f1"]}
    return found
