"""In which order an expert looks: what to look at next by all votes so far, and how many finds are left.

A subject is a row of one or more feature spaces: scores of runs and other numbers, each made normal by its rank
(`of_columns`), and principal components of vectors (`of_vectors`). Which of them, alone or together, is learned on is
chosen by cross-validation over the votes so far (`choose`). The model is logistic regression with balanced classes.

The strategies:

- greedy: the most probably interesting first;
- uncertain: those whose probability is nearest to one half;
- bald: where an ensemble of models, each on its own bootstrap of the votes, disagrees most (mutual information of the
  answer and the model: Houlsby et al. 2011, arXiv:1112.5745);
- novel: the farthest from all that was voted on;
- mix: `MIX` of the batch greedy, the rest novel ones among the probable;
- run: by what another model says that it would learn of each, votes here or none;
- random: what all others are measured against.

Until there are votes of both kinds, every strategy but random and run follows `cold`, the order before any vote.

Whatever the strategy, a share of a batch is drawn at random from all that nobody has looked at. What greedy looks find
says nothing about what is left; these draws do (`remaining`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np
from scipy.special import expit, gammaln, ndtri

from models.classifier import Basis, ClassifierError, folds, minimise
from models.rates import wilson

Strategy = Literal["mix", "greedy", "uncertain", "bald", "novel", "run", "random"]
STRATEGIES: dict[Strategy, str] = {
    "mix": "the most probable first, some of them unlike all that was voted on",
    "greedy": "the most probable first",
    "uncertain": "those that the model cannot decide on first",
    "bald": "those first on which models of different halves of the votes disagree",
    "novel": "those most unlike all that was voted on first",
    "run": "those first of which the newest run with an acquisition would learn most",
    "random": "at random",
}

#: Looks between two fits, and the share of them drawn at random.
BATCH, RANDOM = 25, 0.2
#: Share of the batch's other looks that mix takes by probability alone.
MIX = 0.8
#: Novel ones of a mix are among so many times the batch's most probable.
NOVEL_AMONG = 8
#: C of ``Σ loss + ½ |w|² / C``, and the variance of a feature space in all: each counts alike, however many columns.
PENALTY, VARIANCE = 0.05, 10.0
#: Bootstraps of bald.
N_MODELS = 16
#: Folds and repeats of the choice among feature spaces; votes of either kind below which nothing can be chosen.
FOLDS, REPEATS, LEAST = 5, 3, 4
#: Principal components of vectors.
COMPONENTS = 64
#: Rows that distances are measured to at most, and rows taken at a time.
SAMPLE, CHUNK = 4096, 65_536
#: Neighbors of `isolation`.
NEIGHBORS = 20
#: Numbers of finds that the likelihood is computed at, at most.
GRID = 4000


class RankingError(ValueError):
    """What cannot be ranked or estimated, in one sentence."""


# ----------------------------------------------------------------------------------------------------- feature spaces
def normal_scores(values: np.ndarray) -> np.ndarray:
    """Numbers (n,) as normal ones of the same order, float32; equal ones stay equal, what is not finite gets 0."""
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    found = np.zeros(len(values), np.float32)
    if known.any():
        _, place, times = np.unique(values[known], return_inverse=True, return_counts=True)
        middle = (np.cumsum(times) - times / 2) / known.sum()
        found[known] = ndtri(middle)[place]
    return found


def of_columns(columns: Iterable[np.ndarray]) -> np.ndarray:
    """A feature space of numeric columns (n,): their normal scores, and the squares of these; float32 (n, 2 k).

    A square lets what is interesting lie at both ends of a column. Columns of one value are left out.
    """
    made = [normal_scores(column) for column in columns]
    linear = [column for column in made if column.std() > 0]
    if not linear:
        raise RankingError("no column differs between subjects; there is nothing to rank by")
    x = np.stack(linear, axis=1)
    x = np.hstack([x, (x * x - 1) / np.float32(math.sqrt(2))])
    x *= np.float32(math.sqrt(VARIANCE / x.shape[1]))
    return np.ascontiguousarray(x, np.float32)


def of_vectors(vectors: np.ndarray, n_components: int = COMPONENTS) -> np.ndarray:
    """A feature space of vectors, float (n, d): their principal components, float32 (n, k).

    Components keep their relative sizes; their variances sum to `VARIANCE`. A vector that is not
    finite lies in the middle.

    Raises
    ------
    RankingError
        The vectors do not differ, or there are fewer than two.
    """
    try:
        basis = Basis.fit(vectors, n_components)
    except ClassifierError as error:
        raise RankingError(str(error)) from None
    x = basis.project(vectors)
    x *= basis.deviation * np.float32(math.sqrt(VARIANCE / float((basis.deviation.astype(np.float64) ** 2).sum())))
    np.nan_to_num(x, copy=False, nan=0.0)
    return x


def isolation(x: np.ndarray, seed: int = 0) -> np.ndarray:
    """Mean distance to the `NEIGHBORS` nearest of at most `SAMPLE` random rows, float32 (n,): far ones are unusual."""
    n = len(x)
    drawn = np.sort(np.random.default_rng([seed, 1]).choice(n, min(n, SAMPLE), replace=False))
    k = min(NEIGHBORS, len(drawn) - 1)
    if k < 1:
        return np.zeros(n, np.float32)
    found = np.empty(n, np.float32)
    for start in range(0, n, CHUNK // 16):
        part = slice(start, min(start + CHUNK // 16, n))
        squared = _squared(x[part], x[drawn])
        own = np.searchsorted(drawn, np.arange(part.start, part.stop))
        is_own = drawn[np.minimum(own, len(drawn) - 1)] == np.arange(part.start, part.stop)
        squared[np.flatnonzero(is_own), own[is_own]] = np.inf
        found[part] = np.sqrt(np.partition(squared, k - 1, axis=1)[:, :k]).mean(axis=1)
    return found


def novelty(x: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Distance of each row of x to the nearest of `seen`, float32; of many seen ones, to `SAMPLE` evenly taken."""
    if len(seen) > SAMPLE:
        seen = seen[np.linspace(0, len(seen) - 1, SAMPLE).astype(np.int64)]
    found = np.empty(len(x), np.float32)
    for start in range(0, len(x), CHUNK // 16):
        part = slice(start, start + CHUNK // 16)
        found[part] = np.sqrt(_squared(x[part], seen).min(axis=1))
    return found


def _squared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances of float32 (n, k) and (m, k): (n, m), not negative."""
    found: np.ndarray = (a * a).sum(axis=1)[:, None] - 2 * (a @ b.T)
    found += (b * b).sum(axis=1)
    np.maximum(found, 0, out=found)
    return found


def before_votes(scores: Sequence[np.ndarray], x: np.ndarray | None = None) -> np.ndarray:
    """The order before any vote, float32 (n,), higher first: mean percentile of anomaly scores, else `isolation` of x.

    Raises
    ------
    RankingError
        There is neither.
    """
    made = [np.asarray(score, np.float64) for score in scores if np.isfinite(score).any()]
    if not made:
        if x is None:
            raise RankingError("nothing says which subjects are unusual: start a score run or a features run")
        return isolation(x)
    total = np.zeros(len(made[0]), np.float64)
    for score in made:
        known = np.flatnonzero(np.isfinite(score))
        place = np.full(len(score), 0.5)
        place[known[np.argsort(score[known], kind="stable")]] = (np.arange(len(known)) + 0.5) / len(known)
        total += place
    return (total / len(made)).astype(np.float32)


# ------------------------------------------------------------------------------------------------------------ learning
@dataclass(frozen=True, slots=True)
class Votes:
    """What was found so far.

    Attributes
    ----------
    rows
        int64 (m,): who has an outcome, each subject once, whatever number of people voted on it.
    positive
        bool (m,).
    groups
        int (m,): duplicate groups; what is in one stays in one fold.
    looked
        int64: who was shown or is on its way to be; they are not offered again. `rows` are among them.
    """

    rows: np.ndarray
    positive: np.ndarray
    groups: np.ndarray
    looked: np.ndarray

    @property
    def has_both(self) -> bool:
        """Whether something was found, and something was not."""
        return bool(self.positive.any() and not self.positive.all())


@dataclass(frozen=True, slots=True)
class Chosen:
    """The feature spaces that are learned on.

    Attributes
    ----------
    names
        Of the spaces; those together make the model's input.
    precision
        Average precision out of fold of each candidate, by its names joined with " + "; {} where nothing was compared.
    n, n_positive
        Votes that it was chosen by.
    """

    names: tuple[str, ...]
    precision: dict[str, float]
    n: int
    n_positive: int

    def sentence(self) -> str:
        """For a person who grades."""
        found = f"{self.n_positive:,} of {self.n:,}"
        if not self.precision:
            return f"Learned on {_listed(self.names)}; {found} votes are finds, too few to compare features by."
        own = self.precision[" + ".join(self.names)]
        others = sorted((v for k, v in self.precision.items() if k != " + ".join(self.names)), reverse=True)
        beside = f" (the next best {others[0]:.2f})" if others else ""
        return (
            f"Learned on {_listed(self.names)}: average precision {own:.2f}{beside} out of fold over {self.n:,} "
            f"subjects with votes, {self.n_positive:,} of them finds."
        )


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def fit(
    x: np.ndarray, positive: np.ndarray, weights: np.ndarray | None = None, start: np.ndarray | None = None
) -> np.ndarray:
    """Balanced logistic regression of float32 (m, k) on bool (m,): float64 (k + 1,), the intercept last.

    `start`: the optimum of nearly the same votes; only how soon it is found differs.

    Raises
    ------
    RankingError
        There are not two kinds, or no minimum was found.
    """
    positive = np.asarray(positive, np.bool_)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    some, none = float(w[positive].sum()), float(w[~positive].sum())
    if not some or not none:
        raise RankingError("a model needs votes of both kinds")
    total = w * (some + none) / 2 / np.where(positive, some, none)
    try:
        return minimise(x, np.where(positive, total, 0).astype(np.float32), total.astype(np.float32), PENALTY, start)
    except ClassifierError as error:
        raise RankingError(str(error)) from None


def logits(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Balanced log odds of float32 (n, k): float32 (n,)."""
    return np.asarray(x @ w[:-1].astype(np.float32) + np.float32(w[-1]))


def average_precision(score: np.ndarray, positive: np.ndarray) -> float:
    """Mean over the positive ones of the share of positive ones among those not below them; 0 where there are none."""
    order = np.argsort(-score, kind="stable")
    hit = positive[order]
    if not hit.any():
        return 0.0
    return float((np.cumsum(hit)[hit] / (np.flatnonzero(hit) + 1)).mean())


def candidates(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Each space alone, each two together, and all."""
    found = [c for k in (1, 2) for c in combinations(names, k)]
    return [*found, tuple(names)] if len(names) > 2 else found


def choose(spaces: Mapping[str, np.ndarray], votes: Votes, seed: int = 0) -> Chosen:
    """Which spaces to learn on, by average precision out of fold, pooled per repeat; whole groups in one fold.

    With fewer than `LEAST` groups of either kind nothing is compared and all are taken together. The first of equal
    candidates is taken.
    """
    names = tuple(spaces)
    n, n_positive = len(votes.rows), int(votes.positive.sum())
    with_some = len(np.unique(votes.groups[votes.positive]))
    least = min(with_some, len(np.unique(votes.groups)) - with_some)
    if least < LEAST or len(names) < 2:
        return Chosen(names, {}, n, n_positive)
    rng = np.random.default_rng([seed, 2])
    split = [folds(votes.positive, votes.groups, min(FOLDS, least), rng) for _ in range(REPEATS)]
    made = {name: x[votes.rows] for name, x in spaces.items()}
    precision = {}
    for some in candidates(names):
        x = np.hstack([made[name] for name in some])
        whole = fit(x, votes.positive)
        precision[" + ".join(some)] = float(np.mean([_out_of_fold(x, votes.positive, fold, whole) for fold in split]))
    best = max(candidates(names), key=lambda c: precision[" + ".join(c)])
    return Chosen(best, precision, n, n_positive)


def _out_of_fold(x: np.ndarray, positive: np.ndarray, fold: np.ndarray, start: np.ndarray) -> float:
    score = np.empty(len(x), np.float32)
    for i in range(int(fold.max()) + 1):
        held = fold == i
        if positive[~held].all() or not positive[~held].any():
            score[held] = 0
            continue
        score[held] = logits(x[held], fit(x[~held], positive[~held], start=start))
    return average_precision(score, positive)


# ------------------------------------------------------------------------------------------------------ the next batch
@dataclass(frozen=True, slots=True)
class Batch:
    """What to look at next.

    Attributes
    ----------
    rows
        int64 (b,), none looked at before, in an order that does not tell which were drawn at random.
    random
        int64: those of `rows` that were drawn at random, out of `n_unseen` that nobody had looked at.
    sentence
        How it was chosen, for a person.
    chosen
        None before there are votes of both kinds.
    """

    rows: np.ndarray
    random: np.ndarray
    n_unseen: int
    strategy: Strategy
    sentence: str
    chosen: Chosen | None = field(default=None)

    def to_json(self) -> dict[str, Any]:
        """What the ledger keeps beside the rows."""
        return {
            "strategy": self.strategy,
            "sentence": self.sentence,
            "n_unseen": self.n_unseen,
            "learned_on": list(self.chosen.names) if self.chosen else [],
            "average_precision": dict(self.chosen.precision) if self.chosen else {},
        }


def order(
    spaces: Mapping[str, np.ndarray],
    cold: np.ndarray,
    votes: Votes,
    strategy: Strategy = "mix",
    n: int = BATCH,
    share_random: float = RANDOM,
    seed: int = 0,
    among: np.ndarray | None = None,
    by: np.ndarray | None = None,
) -> Batch:
    """The next `n` to look at; fewer where fewer are left.

    Parameters
    ----------
    spaces
        By what a person calls them: float32 (N, k) each, finite; the simplest first.
    cold
        float (N,): the order before votes of both kinds, higher first (`before_votes`).
    share_random
        Of `n`, rounded up: drawn uniformly from all unseen.
    seed
        Another one for each batch of a campaign.
    among
        int64: the rows to choose from; None for all.
    by
        float (N,): what "run" goes by, higher first, those without a value last; other strategies have no use for it.

    Raises
    ------
    RankingError
        An unknown strategy, no feature space for one that learns here, or nothing to go by for "run".
    """
    if strategy not in get_args(Strategy):
        raise RankingError(f"{strategy!r} is no strategy; there are {', '.join(STRATEGIES)}")
    if not spaces and strategy not in ("random", "run"):
        raise RankingError("there is nothing to learn on: start a score run or a features run")
    if strategy == "run" and by is None:
        raise RankingError("there is no run with an acquisition to go by: start one that learns from votes")
    unseen = np.ones(len(cold), np.bool_) if among is None else np.zeros(len(cold), np.bool_)
    if among is not None:
        unseen[among] = True
    unseen[votes.looked] = False
    left = np.flatnonzero(unseen)
    rng = np.random.default_rng([seed, 3])
    n = min(n, len(left))
    n_random = n if strategy == "random" else min(n, math.ceil(share_random * n))
    random = rng.choice(left, n_random, replace=False)
    unseen[random] = False
    rest, wanted = np.flatnonzero(unseen), n - n_random
    if strategy == "random" or not wanted:
        chosen, picked, sentence = None, np.empty(0, np.int64), "Drawn at random."
    elif strategy == "run" and by is not None:
        chosen, picked = None, _best(np.where(np.isfinite(by), by, -np.inf), rest, wanted)
        sentence = f"{STRATEGIES[strategy][0].upper()}{STRATEGIES[strategy][1:]}."
    elif not votes.has_both:
        chosen, picked = None, _best(cold, rest, wanted)
        lacking = "nothing was found yet" if not votes.positive.any() else "everything so far is a find"
        sentence = f"By how unusual they are: {lacking}, and a model needs votes of both kinds."
    else:
        chosen = choose(spaces, votes, seed)
        picked = _picked([spaces[name] for name in chosen.names], votes, strategy, rest, wanted, rng)
        sentence = f"{STRATEGIES[strategy][0].upper()}{STRATEGIES[strategy][1:]}. {chosen.sentence()}"
    rows = rng.permutation(np.concatenate([picked, random]))
    return Batch(rows, np.sort(random), len(left), strategy, sentence, chosen)


def _best(score: np.ndarray, rows: np.ndarray, n: int) -> np.ndarray:
    """The n of `rows` with the highest score, highest first, equal ones by row."""
    own = score[rows]
    if n < len(rows):
        kept = np.flatnonzero(own >= np.partition(own, len(own) - n)[len(own) - n])
        rows, own = rows[kept], own[kept]
    return np.asarray(rows[np.argsort(-own, kind="stable")[:n]])


def _picked(
    spaces: Sequence[np.ndarray], votes: Votes, strategy: Strategy, rest: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    """The n of `rest` that a strategy takes by a model of the votes."""
    known = _taken(spaces, votes.rows)
    if strategy == "novel":
        pool = rest if len(rest) <= CHUNK else rng.choice(rest, CHUNK, replace=False)
        return np.asarray(pool[_apart(_taken(spaces, pool), known, n)])
    if strategy == "bald":
        return _best(disagreement(spaces, votes, rng), rest, n)
    score = _logits(spaces, fit(known, votes.positive))
    if strategy == "uncertain":
        return _best(-np.abs(score), rest, n)
    if strategy == "greedy":
        return _best(score, rest, n)
    probable = _best(score, rest, NOVEL_AMONG * n)
    first, others = np.split(probable, [math.ceil(MIX * n)])
    return np.concatenate([first, others[_apart(_taken(spaces, others), known, n - len(first))]])


def _taken(spaces: Sequence[np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Rows of several feature spaces beside each other: float32 (m, k)."""
    return np.hstack([x[rows] for x in spaces])


def _logits(spaces: Sequence[np.ndarray], w: np.ndarray) -> np.ndarray:
    """Balanced log odds of all subjects, float32 (N,), by weights of the spaces beside each other."""
    edges = np.cumsum([x.shape[1] for x in spaces])[:-1]
    parts = np.split(w[:-1].astype(np.float32), edges)
    found = np.full(len(spaces[0]), np.float32(w[-1]))
    for x, part in zip(spaces, parts, strict=True):
        found += x @ part
    return found


def _apart(pool: np.ndarray, seen: np.ndarray, n: int) -> np.ndarray:
    """Which n of `pool`, float32 (m, k), are farthest from `seen` and from each other, one after another: indices."""
    far, taken = novelty(pool, seen), []
    for _ in range(min(n, len(pool))):
        i = int(far.argmax())
        taken.append(i)
        far = np.minimum(far, np.sqrt(_squared(pool, pool[i : i + 1])[:, 0]))
        far[i] = -1
    return np.array(taken, np.int64)


def disagreement(spaces: Sequence[np.ndarray], votes: Votes, rng: np.random.Generator) -> np.ndarray:
    """Mutual information of answer and model, float32 (N,), nats: entropy of the mean minus mean entropy.

    Of `N_MODELS` models, each on a bootstrap of the duplicate groups that has both kinds.
    """
    known = _taken(spaces, votes.rows)
    _, group = np.unique(votes.groups, return_inverse=True)
    n, n_groups = len(spaces[0]), int(group.max()) + 1
    mean, inner, made = np.zeros(n, np.float32), np.zeros(n, np.float32), 0
    for _ in range(20 * N_MODELS):
        weights = rng.multinomial(n_groups, np.full(n_groups, 1 / n_groups))[group]
        drawn = weights > 0
        if not votes.positive[drawn].any() or votes.positive[drawn].all():
            continue
        p = expit(_logits(spaces, fit(known[drawn], votes.positive[drawn], weights[drawn])))
        mean, inner, made = mean + p, inner + _entropy(p), made + 1
        if made == N_MODELS:
            break
    return np.asarray(_entropy(mean / max(made, 1)) - inner / max(made, 1))


def _entropy(p: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-7, 1 - 1e-7)
    return np.asarray(-(p * np.log(p) + (1 - p) * np.log1p(-p)))


# -------------------------------------------------------------------------------------------------------- what is left
@dataclass(frozen=True, slots=True)
class Step:
    """A random draw from what had not been looked at.

    Attributes
    ----------
    n_unseen
        Out of how many it was drawn.
    n_found
        Finds among all others of the campaign: those looked at before it.
    n_drawn, n_positive
        How many of the draw have an outcome, and how many of these are finds.
    """

    n_unseen: int
    n_found: int
    n_drawn: int
    n_positive: int


@dataclass(frozen=True, slots=True)
class Left:
    """How many finds are left among those not looked at, with the 95 % interval.

    Attributes
    ----------
    n
        The most probable number. None, with `low` and `high`, where there were no random draws.
    n_unseen
        Among how many.
    n_drawn, n_positive
        Of all random draws.
    n_waiting
        Left for the second pass, without a grade yet: while there are any, the graded ones are those that were turned
        down, and nothing is estimated.
    """

    n: int | None
    low: int | None
    high: int | None
    n_unseen: int
    n_drawn: int
    n_positive: int
    n_waiting: int = 0

    def sentence(self, where: str = "below this point") -> str:
        """For a person who asks whether to go on."""
        if self.n_waiting:
            wait = "1 waits" if self.n_waiting == 1 else f"{self.n_waiting:,} wait"
            return f"How many are left cannot be said yet: {wait} for a second look, and these are not like the others."
        if self.n is None or self.high is None:
            return (
                "How many are left cannot be said: nothing drawn at random was graded yet, and what greedy looks find "
                "says nothing about the rest."
            )
        drawn = f"{self.n_positive:,} of {self.n_drawn:,} random draws were finds"
        if self.n == 0:
            return f"At most {self.high:,} finds are left {where} (95 %); {drawn}."
        return (
            f"About {self.n:,} ({self.low:,}–{self.high:,}) {'find is' if self.n == 1 else 'finds are'} left "
            f"{where}; {drawn}."
        )

    def to_json(self) -> dict[str, Any]:
        """For a page."""
        return {
            "n": self.n,
            "low": self.low,
            "high": self.high,
            "n_unseen": self.n_unseen,
            "n_drawn": self.n_drawn,
            "n_positive": self.n_positive,
            "sentence": self.sentence(),
        }


def remaining(steps: Iterable[Step], n_found: int, n_unseen: int) -> Left:
    """How many finds are left after campaigns of greedy looks with random draws among them.

    Of T finds in all, a draw of r from U unseen has k of them with the probability of the hypergeometric distribution
    of r from U with T - f positive ones, f having been found before: given everything before, whatever was looked at
    and why. The product over draws is the likelihood of T. The estimate is where it is greatest, the interval the
    shortest that holds 95 % of it (all T equally probable beforehand), which is not of equal tails: it reaches none
    left where nothing speaks against that.

    Parameters
    ----------
    n_found
        Finds so far, however they were looked at.
    n_unseen
        Subjects without an outcome.

    Raises
    ------
    RankingError
        Draws that cannot be.
    """
    drawn = [step for step in steps if step.n_drawn]
    for step in drawn:
        if not 0 <= step.n_positive <= step.n_drawn <= step.n_unseen or step.n_found < 0:
            raise RankingError(f"{step.n_positive:,} finds of {step.n_drawn:,} drawn from {step.n_unseen:,} cannot be")
    if n_unseen < 0 or n_found < 0:
        raise RankingError(f"{n_found:,} found and {n_unseen:,} unseen cannot be")
    k, r = sum(step.n_positive for step in drawn), sum(step.n_drawn for step in drawn)
    if not n_unseen:
        return Left(0, 0, 0, 0, r, k)
    if not drawn:
        return Left(None, None, None, n_unseen, 0, 0)
    left = _grid(n_unseen)
    log = np.zeros(len(left))
    for step in drawn:
        log += _log_hypergeometric(step.n_positive, step.n_unseen, left + n_found - step.n_found, step.n_drawn)
    best = int(log.argmax())
    if not np.isfinite(log[best]):
        raise RankingError("the draws contradict each other: more or fewer were found than there can be")
    width = np.diff(np.concatenate([[-0.5], (left[1:] + left[:-1]) / 2, [n_unseen + 0.5]]))
    density = np.exp(log - log[best])
    mass = density * width / (density @ width)
    falling = np.argsort(-density, kind="stable")
    inside = falling[: int(np.searchsorted(np.cumsum(mass[falling]), 0.95)) + 1]
    return Left(int(left[best]), int(left[inside.min()]), int(left[inside.max()]), n_unseen, r, k)


def remaining_of_groups(groups: np.ndarray, is_found: np.ndarray, n_all: int) -> Left:
    """How many finds are left where duplicate groups were drawn whole: who shows the same sky says the same thing.

    Everything is counted in draws that are worth as much, the drawn ones being worth n / (Σ s² / Σ s) for groups of s
    (Kish 1965, all of a group alike), and told in subjects again: no narrower than it is, and the same without groups.

    Parameters
    ----------
    groups
        int (n,), of those drawn.
    is_found
        bool (n,).
    n_all
        What they were drawn from, themselves included.
    """
    n, k = len(groups), int(is_found.sum())
    sizes = np.unique(groups, return_counts=True)[1].astype(np.float64)
    worth = float((sizes**2).sum() / sizes.sum()) if n else 1.0
    if worth == 1:
        return remaining([Step(n_all, 0, n, k)], k, n_all - n)
    drawn = max(1, round(n / worth))
    positive, whole = min(drawn, round(k / worth)), max(drawn, round(n_all / worth))
    told = remaining([Step(whole, 0, drawn, positive)], positive, whole - drawn)
    if told.n is None or told.low is None or told.high is None:
        return replace(told, n_unseen=n_all - n)
    most = n_all - n
    best, low, high = (min(most, round(value * worth)) for value in (told.n, told.low, told.high))
    return Left(best, low, high, most, n, k)


def _grid(n: int) -> np.ndarray:
    """0 … n, or some of these, each a small share above the one before: int64, rising."""
    if n < GRID:
        return np.arange(n + 1)
    return np.unique(np.concatenate([np.arange(GRID // 2), np.geomspace(GRID // 2, n, GRID // 2).round(), [n]])).astype(
        np.int64
    )


def _log_hypergeometric(k: int, n: int, positive: np.ndarray, r: int) -> np.ndarray:
    """log P of k positive ones in r drawn from n, of which `positive` (int64) are; -inf where that cannot be."""
    a = positive.astype(np.float64)
    possible = (a >= k) & (n - a >= r - k)
    a = np.where(possible, a, k)
    b = n - a

    def choose_log(top: Any, bottom: float) -> Any:
        return gammaln(top + 1) - gammaln(bottom + 1) - gammaln(top - bottom + 1)

    found = choose_log(a, k) + choose_log(np.maximum(b, r - k), r - k) - choose_log(float(n), r)
    return np.where(possible, found, -np.inf)


def next_find(n_found: int, n_looks: int, seconds: float) -> dict[str, Any]:
    """How long the next find takes at the present pace: the latest looks and the seconds that one takes.

    Returns
    -------
    dict
        ``hours`` per find with ``low`` and ``high`` (None where nothing was found: no upper limit), and a sentence.
    """
    low, high = (float(bound) for bound in wilson(n_found, n_looks))
    hours = seconds * n_looks / n_found / 3600 if n_found else None
    least, most = seconds / high / 3600 if high else None, seconds / low / 3600 if low and n_found else None
    if not n_looks:
        return {"hours": None, "low": None, "high": None, "sentence": ""}
    found = f"The last {n_looks:,} looks found {n_found:,}"
    if hours is None or least is None or most is None:
        told = f"{found}: the next one takes {_duration(least or 0)} or more at {seconds:.0f} s a look."
    else:
        told = f"{found}: one each {_duration(hours)} ({_duration(least)}–{_duration(most)}) at {seconds:.0f} s a look."
    return {"hours": hours, "low": least, "high": most, "sentence": told}


def _duration(hours: float) -> str:
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.1f} h"
