"""The gallery's sections: a selection by categories, equal-count bins of a number, or clusters in latent space.

A group is asked for in words: ``values:subjects.NAME`` (categories), ``quartiles:REFERENCE``, ``deciles:REFERENCE``
(any numeric column) or ``clusters:K``. Callable from a script; thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from explorer.caches import Cache
from explorer.errors import UsageError, no_such_column
from explorer.services.explore import Explore
from models.artifacts import LATENTS
from models.mixing import Mode

#: Sections at most; rarer categories go into one.
MOST = 200
#: How many clusters may be asked for.
FEWEST_CLUSTERS, MOST_CLUSTERS = 4, 24
#: Latent vectors that clusters are fitted on, at most; every subject is then put into the nearest.
FITTED = 100_000
SEED = 0
#: Bytes of orders with sections that are kept.
KEPT_BYTES = 500 << 20
BINS = {"quartiles": 4, "deciles": 10}


@dataclass(frozen=True, slots=True)
class Group:
    """One section: `k` subjects, from place `start` of the grouped order on."""

    title: str
    start: int
    k: int


class Grouped:
    """An order cut into sections.

    Parameters
    ----------
    rows
        uint32 (n,): section after section, each in the order that was given; or what makes it, once it is asked for.
    groups
        None of them empty; together they hold every row.
    note
        What the sections are, in one sentence; may be empty.
    page
        ``page(start, count)``: a part of `rows` without the whole; None: there is no such way.
    place
        ``place(row)``: where a row stands in `rows`, None where it does not; likewise.
    """

    def __init__(
        self,
        rows: np.ndarray | Callable[[], np.ndarray],
        groups: tuple[Group, ...],
        note: str = "",
        page: Callable[[int, int], np.ndarray] | None = None,
        place: Callable[[int], int | None] | None = None,
    ) -> None:
        self.groups, self.note = groups, note
        self._rows, self._page, self._place = rows, page, place

    @property
    def rows(self) -> np.ndarray:
        """All of it."""
        return self._rows() if callable(self._rows) else self._rows

    def page(self, start: int, count: int) -> np.ndarray:
        """Places `start` … `start` + `count` - 1, fewer at the end."""
        return self.rows[start : start + count] if self._page is None else self._page(start, count)

    def place(self, row: int) -> int | None:
        """Where a row stands; None where it does not."""
        return place_of(self.rows, row) if self._place is None else self._place(row)


class Groups:
    """Makes the sections of one survey for many sessions."""

    def __init__(self, explore: Explore) -> None:
        self.explore = explore
        self._grouped = Cache(8, KEPT_BYTES)
        self._clusters = Cache(8)

    def ordered(
        self,
        group: str,
        selection_id: str,
        sort: str,
        run_id: str,
        lambda_: float,
        descending: bool,
        mode: Mode = "raw",
        map_id: str = "",
    ) -> Grouped:
        """A selection (every subject for the empty id) in an order, cut into sections; "" makes one.

        Categories come by their number in the selection, bins in the direction of the order, clusters by size; subjects
        without a value last.

        Raises
        ------
        UsageError
            No such grouping or column, or the run has no latent vectors.
        """
        told = (run_id, round(lambda_, 4), mode, map_id)

        if not group:
            explore, within = self.explore, self.explore.selection(selection_id)
            by = sort, run_id, lambda_, descending, mode, map_id
            n = explore.survey.n if within is None else within.count
            return Grouped(
                partial(explore.ordered, selection_id, *by),
                (Group("", 0, n),),
                page=lambda start, count: explore.page(within, *by, start, count),
                place=lambda row: explore.place_in(within, row, *by),
            )

        def make() -> Grouped:
            rows = self.explore.ordered(selection_id, sort, run_id, lambda_, descending, mode, map_id)
            codes, titles, note = self._codes(group, rows, descending, *told)
            return _cut(rows, codes, titles, note)

        key = (self.explore.survey.generation, group, selection_id, sort, descending, *told)
        return self._grouped.get(key, make)

    def has_clusters(self, run_id: str) -> bool:
        """Whether a run has latent vectors to cluster."""
        return bool(run_id) and (self.explore.survey.run_folder(run_id) / LATENTS).exists()

    # ------------------------------------------------------------------------------------------- who is in which
    def _codes(
        self, group: str, rows: np.ndarray, descending: bool, run_id: str, lambda_: float, mode: Mode, map_id: str
    ) -> tuple[np.ndarray, list[str], str]:
        """int16 code of each of `rows` (-1: none), the title of each code in the order of the sections, and a note."""
        how, _, what = group.partition(":")
        if how == "values":
            if not self.explore.is_category(what):
                columns = [f"subjects.{c.name}" for c in self.explore.survey.columns() if c.dtype == "category"]
                raise no_such_column(what, "the columns of categories", columns)
            return *by_value(rows, *self.explore.survey.category(what.partition(".")[2])), ""
        if how in BINS:
            values = self.explore.values(what, run_id, lambda_, mode, map_id)[rows]
            codes, titles = by_count(values, BINS[how])
            if descending:
                codes = np.where(codes < 0, codes, len(titles) - 1 - codes).astype(np.int16)
                titles = titles[::-1]
            name = what.partition(".")[2].replace("_", " ")
            note = f"{how} of {name} among those shown, equal in number as far as ties allow; lowest and highest value"
            return codes, titles, note
        if how == "clusters":
            k = int(what) if what.isascii() and what.isdigit() else 0
            codes, note = self.clusters(run_id, k)
            return codes[rows], [f"cluster {i + 1}" for i in range(k)], note
        raise UsageError(f'there is no grouping "{how[:40]}"; there are values, {", ".join(BINS)}, clusters')

    def clusters(self, run_id: str, k: int) -> tuple[np.ndarray, str]:
        """k-means clusters of a run's latent vectors, numbered by size: int16 (N,), row order; and how it was done.

        -1 where a subject has no latent vector. Equal runs and k give equal clusters.

        Raises
        ------
        UsageError
            `k` is not 4 … 24, or the run has too few latent vectors.
        """
        if not FEWEST_CLUSTERS <= k <= MOST_CLUSTERS:
            raise UsageError(f"there can be {FEWEST_CLUSTERS} to {MOST_CLUSTERS} clusters")
        if not self.has_clusters(run_id):
            raise UsageError("this run has no latent vectors to cluster; choose another under Scores")
        return self._clusters.get((run_id, k), lambda: self._fit(run_id, k))

    def _fit(self, run_id: str, k: int) -> tuple[np.ndarray, str]:
        from sklearn.cluster import MiniBatchKMeans  # a second, paid by whoever asks for clusters

        latents, rows = self.explore.survey.latents(run_id)
        blocks = [slice(start, start + 65_536) for start in range(0, len(latents), 65_536)]
        known = np.concatenate([np.isfinite(latents[block]).all(axis=1) for block in blocks])
        finite = np.flatnonzero(known)
        if len(finite) < k:
            raise UsageError(f"{k} clusters need as many latent vectors; this run has {len(finite):,}")
        fitted = finite
        if len(finite) > FITTED:
            fitted = np.sort(np.random.default_rng(SEED).choice(finite, FITTED, replace=False))
        model = MiniBatchKMeans(k, random_state=SEED, batch_size=4096, n_init=3).fit(
            np.ascontiguousarray(latents[fitted])
        )
        codes = np.full(self.explore.survey.n, -1, np.int16)
        for block in blocks:
            here = known[block]
            if here.any():
                codes[rows[block][here]] = model.predict(np.ascontiguousarray(latents[block][here]))
        sizes = np.bincount(codes[codes >= 0], minlength=k)
        place = np.empty(k + 1, np.int16)
        place[np.argsort(-sizes, kind="stable")] = np.arange(k)
        place[-1] = -1
        note = (
            f"k-means of the run’s latent vectors, k = {k}, seed {SEED}, fitted on {len(fitted):,} of {len(finite):,}; "
            "numbered by size: clusters are no classes"
        )
        return place[codes], note


def place_of(rows: np.ndarray, row: int) -> int | None:
    """Where a row stands in an order; None where it does not."""
    at = np.flatnonzero(rows == row)
    return int(at[0]) if len(at) else None


def by_value(rows: np.ndarray, codes: np.ndarray, labels: list[str]) -> tuple[np.ndarray, list[str]]:
    """Categories, the commonest among `rows` first, ties by name; beyond `MOST` the rarest are one."""
    here = codes[rows]
    counts = np.bincount(here[here >= 0], minlength=len(labels))
    present = sorted(np.flatnonzero(counts).tolist(), key=lambda c: (-counts[c], labels[c]))
    kept = present if len(present) <= MOST else present[: MOST - 1]
    place = np.full(len(labels) + 1, len(kept), np.int16)
    place[kept] = np.arange(len(kept))
    place[-1] = -1
    titles = [labels[c] for c in kept]
    if len(kept) < len(present):
        titles.append(f"{len(present) - len(kept):,} other values")
    return place[here], titles


def by_count(values: np.ndarray, n: int) -> tuple[np.ndarray, list[str]]:
    """At most `n` bins of equal number, lowest first; equal values share a bin, NaN has none.

    Titles say the lowest and the highest value of each bin, in as many digits as tell these and the titles apart.
    """
    known = np.isfinite(values)
    finite = values[known]
    codes = np.full(len(values), -1, np.int16)
    if not len(finite):
        return codes, []
    ordered = np.sort(finite)
    cuts = np.unique(ordered[-(-np.arange(1, n) * len(ordered) // n)]) if len(ordered) >= n else np.unique(ordered)
    cuts = cuts[cuts > ordered[0]]
    codes[known] = np.searchsorted(cuts, finite, side="right")
    starts = np.searchsorted(ordered, cuts)
    lowest, highest = ordered[[0, *starts]], ordered[[*(starts - 1), -1]]
    words: list[str] = []
    for digits in range(5, 18):
        ends = [(f"{low:.{digits}g}", f"{high:.{digits}g}") for low, high in zip(lowest, highest, strict=True)]
        words = [low if low == high else f"{low} – {high}" for low, high in ends]
        is_told = [(a == b) == (low == high) for (a, b), low, high in zip(ends, lowest, highest, strict=True)]
        if all(is_told) and len(set(words)) == len(words):
            break
    return codes, words


def _cut(rows: np.ndarray, codes: np.ndarray, titles: list[str], note: str) -> Grouped:
    """Section after section: none empty, those without a value last."""
    codes = np.where(codes < 0, len(titles), codes).astype(np.int16)
    counts = np.bincount(codes, minlength=len(titles) + 1)
    starts = np.concatenate([[0], np.cumsum(counts)])
    groups = [
        Group(title, int(start), int(k))
        for title, start, k in zip([*titles, "no value"], starts, counts, strict=False)
        if k
    ]
    return Grouped(rows[np.argsort(codes, kind="stable")], tuple(groups), note)
