"""Two runs of one survey: how alike they rank its subjects, and who moves into and out of the top.

A score is in units of one network, so runs are compared by ranks: 1 is the most anomalous, tied subjects share the mean
of their ranks. All that is said is of the subjects scored in both runs; planted and withdrawn ones are left out. The
top is the highest share of these in each run, with all that tie with its last (`models.ranks.in_top`).

Training with another seed alone moves subjects, too: `Changes.noise` says how much, where runs of the same setting with
other seeds are there. Intervals are of 95 %: Wilson's of shares, Bonett and Wright's of rank correlations.
"""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from explorer.caches import Cache
from explorer.errors import SurveyError, UsageError, no_such_column
from explorer.services.apart import LEVEL, correlation_of_ranks
from explorer.services.explore import SCORES, Explore
from explorer.services.jobs import JobService
from explorer.services.orders import argsort
from explorer.state import Selection
from models import artifacts
from models.artifacts import ArtifactError, Run
from models.mixing import MODE_TITLES, Mode, mix, mixed_with
from models.ranks import Member, members
from models.rates import share

#: Cells along each side of the density.
BINS = 96
#: Subjects told one by one, at most.
MOST_POINTS = 2_000
#: Of each kind of movers that are told with their ranks.
MOST_MOVERS = 24
#: Runs of one setting with other seeds that are looked at, at most.
MOST_SEEDS = 4
#: Runs whose scores are kept in memory.
KEPT = 8

#: What a run's network saw of a subject.
TRAINED = "train"
SPLITS = {
    "neither": "Trained on by neither",
    "both": "Trained on by both",
    "a": "Trained on by A only",
    "b": "Trained on by B only",
    "unknown": "Not known",
}

#: Who moved: into the top, out of it; who was in it and still is.
Which = Literal["in", "out", "both"]
WHICH: tuple[Which, ...] = ("in", "out", "both")


@dataclass(frozen=True, slots=True)
class Pair:
    """Which runs are compared, and how. Hashable: the key of what is kept.

    Attributes
    ----------
    score
        A score that both runs have.
    lambda_a, lambda_b, mode
        How the anomaly scores are mixed; None: each as its run was scored.
    top
        The share of the subjects that is the top, above 0 and below 1.
    """

    a: str
    b: str
    score: str = "anomaly_score"
    lambda_a: float | None = None
    lambda_b: float | None = None
    mode: Mode | None = None
    top: float = 0.01

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """The pair that a page asks for; whether its runs exist is `Changes`' to say.

        Raises
        ------
        UsageError
            It is no pair.
        """
        texts, numbers = ("a", "b", "score", "mode"), ("lambda_a", "lambda_b", "top")
        is_right = {"a", "b"} <= told.keys() <= {*texts, *numbers}
        for name, value in told.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            is_right &= isinstance(value, str) if name in texts else is_number
        if not is_right:
            raise UsageError("two runs are to be compared in a way that is not known here; reload the page")
        return cls(**told)


@dataclass(frozen=True, slots=True)
class Scored:
    """What a run says of every row: a score, float32 (N,), NaN without; and what its network saw, int8 (N,).

    `seen` is 1 where it was trained on the subject, 0 where not, -1 where that is not known.
    """

    values: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True, slots=True)
class Ranked:
    """The subjects that two runs have in common.

    Attributes
    ----------
    rows
        int64 (n,), ascending.
    a, b
        Their ranks in each, float64 (n,): 1 is the highest score, ties averaged.
    top_a, top_b
        bool (n,): whether they are in the top.
    """

    rows: np.ndarray
    a: np.ndarray
    b: np.ndarray
    top_a: np.ndarray
    top_b: np.ndarray

    def moved(self, which: Which) -> np.ndarray:
        """Who moved in, out, or stayed in the top: bool (n,)."""
        sets = {"in": (~self.top_a, self.top_b), "out": (self.top_a, ~self.top_b), "both": (self.top_a, self.top_b)}
        before, after = sets[which]
        found: np.ndarray = before & after
        return found


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks of finite values (n,) from the highest down, float64: 1 … n, ties averaged."""
    order = argsort(values, descending=True)
    ordered, n = values[order], len(values)
    found = np.empty(n)
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    if len(starts) == n:
        found[order] = np.arange(1.0, n + 1)
        return found
    ends = np.append(starts[1:], n)
    found[order] = np.repeat((starts + 1 + ends) / 2, ends - starts)
    return found


def in_top(values: np.ndarray, top: float) -> np.ndarray:
    """`models.ranks.in_top` of finite values (n,) in linear time."""
    k = min(len(values), max(1, round(top * len(values))))
    found: np.ndarray = values >= np.partition(values, len(values) - k)[len(values) - k]
    return found


class Changes:
    """Compares the runs of one survey. Callable from a script; thread-safe; what is slow to make is kept."""

    def __init__(self, explore: Explore, jobs: JobService) -> None:
        self.explore, self.survey, self.jobs = explore, explore.survey, jobs
        self._scored, self._ranked, self._told, self._names = Cache(KEPT), Cache(3), Cache(16), Cache(256)

    # --------------------------------------------------------------------------------------------------- two runs
    def compare(self, pair: Pair) -> dict[str, Any]:
        """How alike two runs rank, ready for JSON.

        Returns
        -------
        dict
            ``a``, ``b``: each run, its λ and mode. ``n`` subjects scored in both, ``n_only_a``, ``n_only_b`` in one,
            ``n_left_out`` planted or withdrawn. ``spearman``; ``overlap``, ``moved_in`` and ``moved_out``: rates (k of
            n, interval); ``counts`` of the quadrants. ``splits``: the same by what the networks saw. ``movers``: who
            moved farthest, "in", "out", "up" and "down". ``density`` and ``points``: for a plot, by top fraction
            u = (rank - ½) / n, logarithmic. ``caveats``: sentences.

        Raises
        ------
        UsageError
            The same run twice, no such run or score, or no subject has a score in both.
        SurveyError
            The scores of one cannot be read.
        """
        pair = self._checked(pair)
        found: dict[str, Any] = self._told.get(("compare", self._key(pair)), lambda: self._compare(pair))
        return found

    def selected(self, pair: Pair, which: Which) -> Selection:
        """Who moved into the top ("in"), out of it ("out"), or is in the top of both ("both").

        Raises
        ------
        UsageError, SurveyError
            As `compare`; or `which` is something else.
        """
        if which not in WHICH:
            raise UsageError(f'"{which}" of two runs is none of {", ".join(WHICH)}')
        pair = self._checked(pair)
        ranked = self._rank(pair)
        found = Selection.of_rows(ranked.rows[ranked.moved(which)], self.survey.n)
        words = {"in": "moved into the", "out": "moved out of the", "both": "in both runs'"}
        found.title = f"{words[which]} top {100 * pair.top:g} %"
        return found

    def _key(self, pair: Pair) -> tuple[Any, ...]:
        return self.survey.generation, pair

    def _checked(self, pair: Pair) -> Pair:
        """The pair with λ and mode of each run where they were not told."""
        if pair.a == pair.b:
            raise UsageError(f"{pair.a} is compared with itself; choose two runs")
        if not 0 < pair.top < 1:
            raise UsageError(f"the top is {pair.top:g} of the subjects; it must be a share above 0 and below 1")
        if pair.mode is not None and pair.mode not in MODE_TITLES:
            raise UsageError(f'λ mixes {" or ".join(MODE_TITLES)}, not "{pair.mode}"')
        weights = []
        for run_id, weight in ((pair.a, pair.lambda_a), (pair.b, pair.lambda_b)):
            run = self._run(run_id)
            if pair.score not in (known := self._scores_of(run_id)):
                raise no_such_column(pair.score, f"the scores of {run_id}", known)
            weight = mixed_with(run.config)[0] if weight is None else weight
            if not 0 <= weight <= 1:
                raise UsageError(f"λ is {weight:g}; it must be between 0 and 1")
            weights.append(round(weight, 4) if self._mixes(run_id, pair.score) else None)
        return replace(pair, lambda_a=weights[0], lambda_b=weights[1])

    def _mixes(self, run_id: str, score: str) -> bool:
        return score == "anomaly_score" and {"image_score", "feature_score"} <= set(self._scores_of(run_id))

    def _scores_of(self, run_id: str) -> list[str]:
        """The scores that have a value, those of `SCORES` first: by what the file says of itself, nothing is loaded."""
        path = self.survey.run_folder(run_id) / artifacts.SCORES

        def make() -> list[str]:
            with _reading(path):
                about = pq.read_metadata(path)
            found = []
            for i, field in enumerate(about.schema.to_arrow_schema()):
                if field.name == "subject_id" or not (
                    pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
                ):
                    continue
                groups = (about.row_group(g).column(i).statistics for g in range(about.num_row_groups))
                if any(s is None or s.num_values for s in groups):
                    found.append(field.name)
            return sorted(found, key=lambda name: list(SCORES).index(name) if name in SCORES else len(SCORES))

        return self._names.get(run_id, make)

    def _run(self, run_id: str) -> Run:
        runs = self.explore.runs()
        if run_id not in runs:
            near = difflib.get_close_matches(run_id[:200], runs, n=1)
            hint = f'; did you mean "{near[0]}"?' if near else f"; there are {', '.join(runs) or 'none'}"
            raise UsageError(f'there is no finished run of scores "{run_id[:60]}" in this survey{hint}')
        return runs[run_id]

    def _mode(self, run_id: str, pair: Pair) -> Mode:
        return pair.mode or mixed_with(self._run(run_id).config)[1]

    def _of(self, run_id: str, weight: float | None, pair: Pair) -> Scored:
        """What a run says; kept apart from `Survey.scores`, whose texts are heavy and stay."""
        mixes = self._mixes(run_id, pair.score)
        mode = self._mode(run_id, pair) if mixes else "raw"
        weight = mixed_with(self._run(run_id).config)[0] if weight is None else weight
        key = run_id, pair.score, *((weight, mode) if mixes else ())
        return self._scored.get(key, lambda: self._read(run_id, pair.score, weight if mixes else None, mode))

    def _read(self, run_id: str, score: str, weight: float | None, mode: Mode) -> Scored:
        """`weight` is λ where the score is mixed of two."""
        names = [score] if weight is None else ["image_score", "feature_score"]
        path = self.survey.run_folder(run_id) / artifacts.SCORES
        with _reading(path):
            table = pq.read_table(path, columns=["subject_id", "split", *names], read_dictionary=["split"])
        rows = self.survey.rows_of(table.column("subject_id").to_numpy())
        known = rows >= 0  # others were added since the survey was opened

        def spread(values: np.ndarray, fill: float, dtype: Any) -> np.ndarray:
            found = np.full(self.survey.n, fill, dtype)
            found[rows[known]] = values[known]
            return found

        parts = [spread(table.column(n).cast(pa.float32(), safe=False).to_numpy(), np.nan, np.float32) for n in names]
        seen = np.full(len(rows), -1, np.int8)
        split = table.column("split").combine_chunks()
        split = split.chunk(0) if isinstance(split, pa.ChunkedArray) else split
        if isinstance(split, pa.DictionaryArray) and len(split.dictionary):
            meant = np.array([word == TRAINED for word in split.dictionary.to_pylist()] + [-1], np.int8)
            seen = meant[split.indices.fill_null(len(meant) - 1).to_numpy(zero_copy_only=False)]
        try:
            values = parts[0] if weight is None else mix(parts[0], parts[1], weight, mode)
        except ArtifactError as error:
            raise UsageError(f"{run_id}: {error}") from None
        return Scored(values, spread(seen, -1, np.int8))

    def _rank(self, pair: Pair) -> Ranked:
        def make() -> Ranked:
            one, other = (self._of(r, w, pair).values for r, w in ((pair.a, pair.lambda_a), (pair.b, pair.lambda_b)))
            rows = np.flatnonzero(np.isfinite(one) & np.isfinite(other) & self.survey.frame())
            if not len(rows):
                raise UsageError(f"no subject has a score in both {pair.a} and {pair.b}; choose runs of the same")
            x, y = one[rows], other[rows]
            return Ranked(rows, ranks(x), ranks(y), in_top(x, pair.top), in_top(y, pair.top))

        return self._ranked.get(self._key(pair), make)

    def _compare(self, pair: Pair) -> dict[str, Any]:
        ranked = self._rank(pair)
        n = len(ranked.rows)
        one, other = self._of(pair.a, pair.lambda_a, pair), self._of(pair.b, pair.lambda_b, pair)
        has_a, has_b, frame = np.isfinite(one.values), np.isfinite(other.values), self.survey.frame()
        counts = {which: int(ranked.moved(which).sum()) for which in WHICH}
        n_a, n_b = int(ranked.top_a.sum()), int(ranked.top_b.sum())
        told = {
            "a": self._about(pair.a, pair.lambda_a, pair),
            "b": self._about(pair.b, pair.lambda_b, pair),
            "score": pair.score,
            "scores": self._scores_of_both(pair),
            "top": pair.top,
            "n": n,
            "n_only_a": int((has_a & ~has_b & frame).sum()),
            "n_only_b": int((has_b & ~has_a & frame).sum()),
            "n_left_out": int(((has_a | has_b) & ~frame).sum()),
            "has_images": self.survey.has_images,
            "n_top_a": n_a,
            "n_top_b": n_b,
            "counts": {
                "stayed": counts["both"],
                "in": counts["in"],
                "out": counts["out"],
                "neither": n - n_a - n_b + counts["both"],
            },
            "spearman": _spearman(ranked.a, ranked.b),
            "overlap": share(counts["both"], max(n_a, n_b)).to_json(),
            "moved_in": share(counts["in"], n_b).to_json(),
            "moved_out": share(counts["out"], n_a).to_json(),
            "splits": _by_split(ranked, one.seen[ranked.rows], other.seen[ranked.rows]),
            "movers": self._movers(ranked),
        }
        u_a, u_b = (ranked.a - 0.5) / n, (ranked.b - 0.5) / n
        told |= {"density": _density(u_a, u_b), "points": self._points(ranked, u_a, u_b)}
        return told | {"caveats": self._caveats(pair, told)}

    def _about(self, run_id: str, weight: float | None, pair: Pair) -> dict[str, Any]:
        run = self._run(run_id)
        return {
            "run_id": run_id,
            "kind": run.kind,
            "created_at": run.created_at,
            "title": self._title(run, pair.score),
            "lambda": weight,
            "mode": self._mode(run_id, pair) if weight is not None else None,
            "n_runs": run.results.get("n_runs") if run.kind == "ranks" else None,
        }

    def _scores_of_both(self, pair: Pair) -> dict[str, str]:
        """The scores that both runs have, name → what a person reads."""
        one, other = (self._scores_of(run_id) for run_id in (pair.a, pair.b))
        return {name: SCORES.get(name, name.replace("_", " ")) for name in one if name in other}

    def _title(self, run: Run, score: str) -> str:
        title: str = SCORES.get(score, score.replace("_", " "))
        return self.explore.score_titles(run.run_id).get(score, title)

    # ------------------------------------------------------------------------------------------------ who moved
    def _movers(self, ranked: Ranked) -> dict[str, list[dict[str, Any]]]:
        """Who moved farthest: across the line of the top by how many times their rank changed, else by ranks."""
        factor = np.log(ranked.a / ranked.b)  # above 0: up
        change = ranked.a - ranked.b
        found = {}
        for which, far in (("in", factor), ("out", -factor)):
            at = np.flatnonzero(ranked.moved("in" if which == "in" else "out"))
            found[which] = at[_highest(far[at], MOST_MOVERS)]
        for which, far in (("up", change), ("down", -change)):
            at = _highest(far, MOST_MOVERS)
            found[which] = at[far[at] > 0]
        return {which: self._named(ranked, at) for which, at in found.items()}

    def _named(self, ranked: Ranked, at: np.ndarray) -> list[dict[str, Any]]:
        ids = self._ids(ranked.rows[at])
        columns = zip(ranked.rows[at].tolist(), ids, ranked.a[at].tolist(), ranked.b[at].tolist(), strict=True)
        return [{"row": row, "id": name, "rank_a": a, "rank_b": b} for row, name, a, b in columns]

    def _ids(self, rows: np.ndarray) -> list[str]:
        return self.survey.source_ids(rows)

    def _points(self, ranked: Ranked, u_a: np.ndarray, u_b: np.ndarray) -> dict[str, Any]:
        """The subjects that are told one by one: those in the top of either, the highest of them where there are more.

        ``kind`` is 0 in the top of both, 1 moved in, 2 moved out.
        """
        at = np.flatnonzero(ranked.top_a | ranked.top_b)
        if len(at) > MOST_POINTS:
            crossed = ranked.top_a[at] != ranked.top_b[at]
            far = np.where(crossed, np.abs(np.log(u_a[at] / u_b[at])), 0)
            first = _highest(far, MOST_POINTS // 4)
            rest = np.setdiff1d(np.arange(len(at)), first)
            high = rest[_highest(-np.minimum(u_a[at], u_b[at])[rest], MOST_POINTS - len(first))]
            at = at[np.sort(np.concatenate([first, high]))]
        kind = np.where(ranked.top_a[at], np.where(ranked.top_b[at], 0, 2), 1)
        return {
            "row": ranked.rows[at].tolist(),
            "id": self._ids(ranked.rows[at]),
            "a": ranked.a[at].tolist(),
            "b": ranked.b[at].tolist(),
            "kind": kind.tolist(),
            "of": int((ranked.top_a | ranked.top_b).sum()),
        }

    def _caveats(self, pair: Pair, told: Mapping[str, Any]) -> list[str]:
        said = []
        for name, run_id in (("A", pair.a), ("B", pair.b)):
            for training, verdict in self.jobs.unsound(run_id).items():
                built = f" is built on {training}, of which" if training != run_id else f" is {training}, of which"
                said.append(f"{name}{built} it was said: {verdict}")
        wanted = max(1, round(pair.top * told["n"]))
        for name, n_top in (("A", told["n_top_a"]), ("B", told["n_top_b"])):
            if n_top > 1.05 * wanted and n_top > wanted + 1:
                said.append(f"{name}'s top has {n_top:,} subjects in place of {wanted:,}: so many tie with its last")
        if wanted < 20:
            said.append(f"the top has {wanted:,} of {told['n']:,} subjects: too few to tell much")
        sees = {s["name"]: s["n"] for s in told["splits"]}
        if n_one := sees.get("a", 0) + sees.get("b", 0):
            said.append(
                f"{n_one:,} of {told['n']:,} subjects were trained on by one of the two only, "
                "and what a network was trained on it reconstructs better: see the figures by split"
            )
        return said

    # ---------------------------------------------------------------------------------------------- noise of seeds
    def noise(self, pair: Pair) -> dict[str, Any]:
        """What other seeds of the same setting change, beside what changes from a to b; ready for JSON.

        Returns
        -------
        dict
            ``groups``: for the setting of a, and of b where it is another, its runs and every two of them with overlap
            and Spearman on the ``n`` subjects scored in all; [] where a setting has one seed. ``pair``: the same of a
            and b. ``is_seed_alone``: a and b differ in their seed only. ``steady_in``, ``steady_out``: of those moved,
            how many every seed moves: in the top by all runs of one setting and by none of the other's. ``said``: the
            answer in words.

        Raises
        ------
        UsageError, SurveyError
            As `compare`.
        """
        pair = self._checked(pair)
        found: dict[str, Any] = self._told.get(("noise", self._key(pair), self._known()), lambda: self._noise(pair))
        return found

    def _known(self) -> frozenset[str]:
        return frozenset(self.explore.runs())

    def _groups(self, pair: Pair) -> tuple[list[list[Member]], bool]:
        """The runs of a's setting and of b's, each with another seed; whether both are of one setting."""
        runs = {run_id: run for run_id, run in self.explore.runs().items() if run.kind != "ranks"}
        told = {m.run_id: m for m in members([self.survey.run_folder(run_id) for run_id in runs])}
        groups: dict[str, list[Member]] = {}
        for run_id in (pair.a, pair.b):
            own = told.get(run_id)
            if own is None or own.seed is None:
                continue
            group = groups.setdefault(own.setting, [])
            if own.seed not in {m.seed for m in group}:
                group.append(own)
            series = runs[run_id].series
            others = [m for m in told.values() if m.setting == own.setting]
            others.sort(key=lambda m: runs[m.run_id].series != series)  # its own series first, the newest within
            for other in others:
                if len(group) < MOST_SEEDS and other.seed not in {m.seed for m in group}:
                    group.append(other)
        a, b = told.get(pair.a), told.get(pair.b)
        is_alone = a is not None and b is not None and a.setting == b.setting and a.seed != b.seed
        return list(groups.values()), is_alone

    def _noise(self, pair: Pair) -> dict[str, Any]:
        groups, is_alone = self._groups(pair)
        weights = {pair.a: pair.lambda_a, pair.b: pair.lambda_b}
        values: dict[str, np.ndarray] = {}
        for group in groups:
            weight = next((weights[m.run_id] for m in group if m.run_id in weights), None)
            for member in group:
                values[member.run_id] = self._of(member.run_id, weights.get(member.run_id, weight), pair).values
        for run_id, weight in weights.items():
            if run_id not in values:
                values[run_id] = self._of(run_id, weight, pair).values
        common = self.survey.frame().copy()
        for one in values.values():
            common &= np.isfinite(one)
        rows = np.flatnonzero(common)
        told: dict[str, Any] = {
            "n": len(rows),
            "groups": [],
            "pair": None,
            "is_seed_alone": is_alone,
            "steady_in": None,
            "steady_out": None,
        }
        if not len(rows) or not any(len(group) > 1 for group in groups):
            return told | {"said": self._unrepeated(pair, groups)}
        placed = {run_id: ranks(one[rows]) for run_id, one in values.items()}
        tops = {run_id: in_top(one[rows], pair.top) for run_id, one in values.items()}

        def alike(a: str, b: str) -> dict[str, Any]:
            k, n = int((tops[a] & tops[b]).sum()), max(int(tops[a].sum()), int(tops[b].sum()))
            return {
                "a": a,
                "b": b,
                "overlap": share(k, n).to_json(),
                "spearman": _spearman(placed[a], placed[b])["value"],
            }

        told["pair"] = alike(pair.a, pair.b)
        for group in groups:
            pairs = [alike(one.run_id, other.run_id) for one, other in itertools.combinations(group, 2)]
            runs = [{"run_id": m.run_id, "seed": m.seed} for m in group]
            told["groups"].append({"setting": group[0].setting, "runs": runs, "pairs": pairs})
        if len(groups) == 2:
            (some_a, all_a), (some_b, all_b) = ((_any(tops, group), _all(tops, group)) for group in groups)
            moved_in, moved_out = ~tops[pair.a] & tops[pair.b], tops[pair.a] & ~tops[pair.b]
            told["steady_in"] = share(int((moved_in & all_b & ~some_a).sum()), int(moved_in.sum())).to_json()
            told["steady_out"] = share(int((moved_out & all_a & ~some_b).sum()), int(moved_out.sum())).to_json()
        return told | {"said": _verdict(told, pair.top)}

    def _unrepeated(self, pair: Pair, groups: Sequence[Sequence[Member]]) -> str:
        combined = [x for x, run_id in (("A", pair.a), ("B", pair.b)) if self._run(run_id).kind == "ranks"]
        if combined:
            return f"{' and '.join(combined)} combine{'s' if len(combined) == 1 else ''} the ranks of several runs"
        if not groups:
            return "neither run has a seed: what changes is no noise of training"
        return (
            "no other seed of either setting has been scored, so how much of the change is noise of training is not "
            "known; `voorwerp run SURVEY train --seeds 3` trains with several"
        )


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever is wrong with a table is said in one sentence."""
    try:
        yield
    except FileNotFoundError:
        raise SurveyError(f"{path} is missing; the run is incomplete") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise SurveyError(f"{path} cannot be read ({str(error).splitlines()[0]})") from None


# --------------------------------------------------------------------------------------------------------- figures
def _any(tops: Mapping[str, np.ndarray], group: Iterable[Member]) -> np.ndarray:
    return np.asarray(np.logical_or.reduce([tops[m.run_id] for m in group]))


def _all(tops: Mapping[str, np.ndarray], group: Iterable[Member]) -> np.ndarray:
    return np.asarray(np.logical_and.reduce([tops[m.run_id] for m in group]))


def _verdict(told: Mapping[str, Any], top: float) -> str:
    """How the overlap of a and b stands to that of seeds, counted: a few pairs carry no test."""
    if told["is_seed_alone"]:
        return "A and B differ in their seed only: what moved is noise of training"
    mine = told["pair"]["overlap"]["value"]
    seeds = [pair["overlap"]["value"] for group in told["groups"] for pair in group["pairs"]]
    k, n = sum(value > mine for value in seeds), len(seeds)
    size = "larger than" if k == n else "no larger than" if k == 0 else "within"
    return (
        f"in {k} of {n} pair{'s' if n > 1 else ''} of seeds more of the top {100 * top:g} % stays than from A to B: "
        f"the change is {size} what seeds alone make"
    )


def _spearman(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    rho, low, high = correlation_of_ranks(a, b, LEVEL)
    return {"value": None if math.isnan(rho) else rho, "low": low, "high": high, "n": len(a)}


def _highest(values: np.ndarray, k: int) -> np.ndarray:
    """Positions of the k highest, highest first, equal ones as they stand."""
    if k < len(values):
        edge = np.partition(values, len(values) - k)[len(values) - k]
        at = np.flatnonzero(values >= edge)
    else:
        at = np.arange(len(values))
    return np.asarray(at[np.argsort(-values[at], kind="stable")[:k]])


def _by_split(ranked: Ranked, seen_a: np.ndarray, seen_b: np.ndarray) -> list[dict[str, Any]]:
    """The figures by what the networks saw in training; only of those splits that have subjects."""
    masks = {
        "neither": (seen_a == 0) & (seen_b == 0),
        "both": (seen_a == 1) & (seen_b == 1),
        "a": (seen_a == 1) & (seen_b == 0),
        "b": (seen_a == 0) & (seen_b == 1),
        "unknown": (seen_a < 0) | (seen_b < 0),
    }
    found = []
    for name, mask in masks.items():
        n = int(mask.sum())
        if not n:
            continue
        top_a, top_b = ranked.top_a[mask], ranked.top_b[mask]
        stayed, n_a, n_b = int((top_a & top_b).sum()), int(top_a.sum()), int(top_b.sum())
        found.append(
            {
                "name": name,
                "title": SPLITS[name],
                "n": n,
                "in": n_b - stayed,
                "out": n_a - stayed,
                "stayed": share(stayed, n_a, empty="none of them is in A's top").to_json(),
            }
        )
    return found


def _density(u_a: np.ndarray, u_b: np.ndarray) -> dict[str, Any]:
    """Counts by top fraction, logarithmic from half a subject to all: b over a, and change over a.

    Returns
    -------
    dict
        ``low``: log₁₀ of the lowest edge. ``ranks``: `BINS` × `BINS` counts, row by row: bin of log₁₀ u_b, then of
        log₁₀ u_a, each from `low` to 0. ``change``: likewise, of log₁₀ u_a / u_b from `low` to -`low`.
    """
    low = math.log10(0.5 / len(u_a)) if len(u_a) > 1 else -1.0
    x, y = np.log10(u_a), np.log10(u_b)

    def cells(values: np.ndarray, start: float, width: float) -> np.ndarray:
        return np.clip(((values - start) * (BINS / width)).astype(np.int32), 0, BINS - 1)

    across = cells(x, low, -low)
    counts = {
        "ranks": np.bincount(cells(y, low, -low) * BINS + across, minlength=BINS * BINS),
        "change": np.bincount(cells(x - y, low, -2 * low) * BINS + across, minlength=BINS * BINS),
    }
    return {"low": low, "bins": BINS, **{name: found.tolist() for name, found in counts.items()}}
