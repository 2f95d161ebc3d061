"""What if subjects had been retired otherwise: rules replayed on recorded votes, one vote per volunteer and subject.

A replay takes votes one by one and stops where the rule says: after a fixed number (`limits`), when SWAP is sure
(`thresholds`), or when a machine's label and the first volunteers agree (`cascade`; Willi et al. 2018, MEE 9). What it
decided is held against gold labels, and against the votes of that subject that it did not use. Only recorded votes are
replayed (science rule 12): no limit goes beyond them, and subjects that the survey's own rule cut short of a limit are
marked and left out of its figures. Where the order of votes is not known, many random orders are taken, and figures
are their means.

Every interval is of 95 %, from resampling subjects. Ties count by chance: half right, where two labels are even.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numba import njit

from models.consensus import Votes, interval
from models.swap import DETECTED, OPEN, Settings, swap

REPLICATES = 1000
#: Up to so many subjects are resampled. Above, the interval is the normal one that resampling converges to.
RESAMPLED = 2000
#: Votes replayed over all random orders of one rule, about: few subjects need many orders, many subjects few.
REPLAYED = 300_000

_jit = njit(cache=True, nogil=True)


# ---------------------------------------------------------------------------------------------------- what is replayed
@dataclass(frozen=True)
class Recorded:
    """Votes as labels, one per volunteer and subject, the first; in the order of time.

    Attributes
    ----------
    subject, volunteer
        int32 (M,).
    label
        int16 (M,), 0…n_labels−1. Of a single answer: 1 where it was given, 0 where not. Of all answers: the answer's
        index, or the number of answers where nothing was chosen.
    n_subjects, n_volunteers, n_labels
        How many there are.
    """

    subject: np.ndarray
    volunteer: np.ndarray
    label: np.ndarray
    n_subjects: int
    n_volunteers: int
    n_labels: int

    @cached_property
    def by_subject(self) -> tuple[np.ndarray, np.ndarray]:
        """``(starts, label)``: the labels of subject s in the order of time, ``label[starts[s]:starts[s + 1]]``."""
        return _grouped(self.subject, self.label, self.n_subjects)

    @cached_property
    def n_votes(self) -> np.ndarray:
        """int64 (n_subjects,)."""
        n: np.ndarray = np.diff(self.by_subject[0])
        return n


def recorded(votes: Votes, answer: int | None = None) -> Recorded:
    """The votes to replay: whether volunteers gave one answer, or which of all answers they gave.

    Parameters
    ----------
    answer
        Index of the one; None for all, where they exclude each other. A question of one answer needs none.

    Raises
    ------
    ValueError
        All are asked for, and some views give several.
    """
    if answer is None and len(votes.answers) == 1:
        answer = 0
    is_vote = votes.opens & votes.is_first
    subject, volunteer = votes.subject[is_vote], votes.volunteer[is_vote]
    n_several = int(votes.is_first.sum() - is_vote.sum())
    if answer is None:
        if n_several:
            raise ValueError(
                f"volunteers could give several answers at once to this question, and {n_several} times did; "
                "replay one answer at a time"
            )
        label, n_labels = votes.answer[is_vote], len(votes.answers) + 1
        label = np.where(label < 0, n_labels - 1, label).astype(np.int16)
    elif not 0 <= answer < len(votes.answers):
        raise ValueError(f"answer {answer} is none of the {len(votes.answers)} answers, which count from 0")
    elif n_several:
        gave = votes.is_first & (votes.answer == answer)
        pair = votes.subject.astype(np.int64) * votes.n_volunteers + votes.volunteer
        label, n_labels = np.isin(pair[is_vote], pair[gave]).astype(np.int16), 2
    else:
        label, n_labels = (votes.answer[is_vote] == answer).astype(np.int16), 2
    return Recorded(subject, volunteer, label, votes.n_subjects, votes.n_volunteers, n_labels)


# ------------------------------------------------------------------------------------------------------------ results
@dataclass(frozen=True)
class Rate:
    """k of n, and its interval.

    Attributes
    ----------
    k, n
        Over random orders, their means: k may be no whole number.
    low, high
        Of k / n: 2.5 % and 97.5 % points over resampled subjects; NaN where n is 0. Where all subjects are alike, which
        resampling cannot see beyond, the Beta interval of k of n.
    """

    k: float
    n: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """k / n; NaN of nothing."""
        return self.k / self.n if self.n else float("nan")


@dataclass(frozen=True)
class Replay:
    """What a rule would have done.

    Attributes
    ----------
    rule
        In words.
    n_subjects
        Subjects that its figures are of.
    n_orders
        Random orders; 0: the recorded one.
    spent
        Votes used, the mean over the orders.
    saved
        Votes not used, of those recorded for these subjects; of a cascade, of those that its limit alone would spend.
    early
        Subjects that a threshold decided, retired by it or not, or machine and volunteers; a limit decides none so.
    gold, unused, everyone
        Decisions that are the gold label; what most of the subject's unused votes say; what most of all its votes say,
        used ones among them, so that the last is high by construction. On what SWAP leaves open nothing is decided.
    is_cut_short
        bool (n_subjects of the survey,): recorded votes end before the limit. Left out of every figure.
    used, right
        float (n_subjects of the survey,): votes used and agreement with gold, subject by subject; NaN where left out.
    """

    rule: str
    n_subjects: int
    n_orders: int
    spent: float
    saved: Rate
    early: Rate
    gold: Rate
    unused: Rate
    everyone: Rate
    is_cut_short: np.ndarray
    used: np.ndarray
    right: np.ndarray

    @property
    def n_cut_short(self) -> int:
        """Subjects marked as cut short."""
        return int(self.is_cut_short.sum())


# -------------------------------------------------------------------------------------------------------------- rules
def limits(
    votes: Recorded,
    after: Sequence[int],
    gold: np.ndarray | None = None,
    *,
    orders: int | None,
    share: float = 0.5,
    seed: int = 0,
) -> list[Replay]:
    """Retire after a fixed number of votes; the label is what most of them say.

    Parameters
    ----------
    after
        Limits, each from 1 to the most votes that any subject has.
    gold
        int (n_subjects,): the true label, −1 where it is not known.
    orders
        Random orders to take; None: the recorded order, where time is known. See `enough_orders`.
    share
        With two labels: the second is decided when more than this share of the votes say so.
    seed
        Of the random orders and the resampling.

    Raises
    ------
    ValueError
        A limit that no subject's votes reach.
    """
    machine = np.full(votes.n_subjects, -1, np.int64)
    return _fixed(votes, after, machine, 0, gold, orders, share, seed)


def cascade(
    votes: Recorded,
    machine: np.ndarray,
    limit: int,
    first: int = 1,
    gold: np.ndarray | None = None,
    *,
    orders: int | None,
    share: float = 0.5,
    seed: int = 0,
) -> Replay:
    """Retire early with the machine's label where the first volunteers all give it, else after the limit.

    The rules of Camera Catalogue's live experiment (specs §7): "blank?" and "vehicle?" with one volunteer, species with
    two.

    Parameters
    ----------
    machine
        int (n_subjects,): the machine's label, −1 where it has none or is not to be trusted. It must not have been made
        with the votes or the gold label of its own subject (see `out_of_fold`).
    limit
        Votes of a subject that is not retired early.
    first
        How many volunteers must agree.

    Raises
    ------
    ValueError
        A limit that no subject's votes reach, more first volunteers than the limit, or labels that are none.
    """
    machine = _labels_of(machine, votes, "the machine's")
    if not 1 <= first <= limit:
        raise ValueError(f"the first volunteers are at least 1 and at most the limit, {limit}; found {first}")
    return _fixed(votes, [limit], machine, first, gold, orders, share, seed)[0]


def thresholds(
    votes: Recorded,
    settings: Settings,
    gold: np.ndarray | None = None,
    in_training: np.ndarray | None = None,
    *,
    orders: int | None,
    share: float = 0.5,
    seed: int = 0,
) -> Replay:
    """Retire when SWAP's probability crosses a threshold (`models.swap`); who never crosses uses all its votes.

    Parameters
    ----------
    gold
        int (n_subjects,): 1 worth choosing, 0 not, −1 not known.
    in_training
        bool (n_subjects,): gold subjects that SWAP is shown as training. They are in no figure (science rule 13).
    orders
        Random orders of all votes; None: the recorded order.
    share
        The votes that SWAP did not use say "chosen" when more than this share of them do.

    Raises
    ------
    ValueError
        More than two labels, or training subjects without gold.
    """
    if votes.n_labels != 2:
        raise ValueError(f"SWAP decides between two labels, and this question has {votes.n_labels}; choose one answer")
    if settings.rescore or settings.errors is not None:
        raise ValueError(
            "SWAP's rescore and errors look at votes that are cast later, which no replay knows; set neither"
        )
    truth = _gold_of(gold, votes)
    trains = np.zeros(votes.n_subjects, bool) if in_training is None else np.asarray(in_training, bool)
    if (trains & (truth < 0)).any():
        raise ValueError(f"{int((trains & (truth < 0)).sum())} training subjects have no gold label; leave them out")
    settings = replace(settings, hasty=True)  # who is retired is seen no more
    taught = np.where(trains, truth, -1).astype(np.int8)
    random = np.random.default_rng(seed)
    counted, sums = ~trains & (votes.n_votes > 0), _Sums.zeros(1, votes.n_subjects)
    subject, volunteer, said = votes.subject, votes.volunteer, votes.label == 1
    for _ in range(orders or 1):
        if orders is not None:
            order = random.permutation(len(votes.label))
            subject, volunteer, said = votes.subject[order], votes.volunteer[order], votes.label[order] == 1
        found = swap(subject, volunteer, said, votes.n_subjects, votes.n_volunteers, taught, settings)
        starts, label = _grouped(subject, said.astype(np.int16), votes.n_subjects)
        _score(
            starts,
            label,
            np.where(counted, np.where(found.retired_after > 0, found.retired_after, votes.n_votes), 0),
            np.where(found.state == OPEN, -2, np.where(found.state == DETECTED, 1, 0)),
            truth,
            2,
            share,
            sums.used[0],
            sums.early[0],
            sums.decided[0],
            sums.gold[0],
            sums.unused[0],
            sums.n_unused[0],
            sums.everyone[0],
        )
    rule = f"SWAP: chosen above {settings.detect:g}, not chosen below {settings.reject:g}"
    base = np.where(counted, votes.n_votes, 0)[None]
    return _replays([rule], truth, counted[None], np.zeros_like(counted)[None], base, sums, orders, seed)[0]


def enough_orders(votes: Recorded) -> int:
    """How many random orders make chance small beside the subjects' own scatter: 5 to 200, fewer for more votes."""
    return int(np.clip(REPLAYED // max(len(votes.label), 1), 5, 200))


def difference(a: Replay, b: Replay, seed: int = 0) -> tuple[float, float, float]:
    """Agreement with gold of one rule less that of another, on the subjects that both judge: value, low, high."""
    gain = a.right - b.right
    gain = gain[~np.isnan(gain)]
    if not len(gain):
        return float("nan"), float("nan"), float("nan")
    low, high = _resampled(gain, np.ones(len(gain)), np.random.default_rng(seed), {})
    return float(gain.mean()), low, high


def out_of_fold(
    score: np.ndarray,
    label: np.ndarray,
    groups: np.ndarray | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """A machine's label from a score: above or below the cut that separates the other folds' labels best.

    Parameters
    ----------
    score
        float (n,), higher is label 1; NaN gets no label.
    label
        int (n,): 1, 0, or −1 where it is not known.
    groups
        int (n,): subjects of one group are in one fold (`duplicate_group`; science rule 2).

    Returns
    -------
    int64 (n,): 1, 0, or −1 without a score. No subject's own label, nor its group's, has moved its cut: the one of
    highest balanced accuracy in the other folds.

    Raises
    ------
    ValueError
        A fold is left without subjects of both labels to learn from.
    """
    score, label = np.asarray(score, np.float64), np.asarray(label)
    _, group = np.unique(np.arange(len(score)) if groups is None else groups, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(np.arange(group.max(initial=-1) + 1) % n_folds)[group]
    made = np.full(len(score), -1, np.int64)
    for part in range(n_folds):
        learns = (fold != part) & (label >= 0) & ~np.isnan(score)
        n_1, n_0 = int((label[learns] == 1).sum()), int((label[learns] == 0).sum())
        if not n_1 or not n_0:
            raise ValueError(f"outside fold {part} there are {n_1} subjects of label 1 and {n_0} of label 0: no cut")
        values, at = np.unique(score[learns], return_inverse=True)
        ones = np.bincount(at, label[learns] == 1, len(values))
        zeros = np.bincount(at, label[learns] == 0, len(values))
        gain = (n_1 - np.cumsum(ones)) / n_1 + np.cumsum(zeros) / n_0  # of the cut just above each value
        best = int(np.argmax(gain))
        cut = values[best] if best + 1 == len(values) else (values[best] + values[best + 1]) / 2
        mine = (fold == part) & ~np.isnan(score)
        made[mine] = score[mine] > cut
    return made


def warm() -> None:
    """Compile every kernel into numba's cache on disk, so that nobody's first replay waits for it."""
    one = np.zeros(1, np.int32)
    votes = Recorded(one, one, np.zeros(1, np.int16), 1, 1, 2)
    limits(votes, [1], orders=1)
    thresholds(votes, Settings(mode="both"), orders=1)


# ---------------------------------------------------------------------------------------------------------- the figures
@dataclass(frozen=True)
class _Sums:
    """What `_score` adds up over the orders: (rules, n_subjects) each."""

    used: np.ndarray
    early: np.ndarray
    decided: np.ndarray
    gold: np.ndarray
    unused: np.ndarray
    n_unused: np.ndarray
    everyone: np.ndarray

    @classmethod
    def zeros(cls, n_rules: int, n_subjects: int) -> _Sums:
        return cls(*(np.zeros((n_rules, n_subjects)) for _ in range(7)))


def _labels_of(labels: np.ndarray, votes: Recorded, whose: str) -> np.ndarray:
    labels = np.asarray(labels, np.int64)
    if labels.shape != (votes.n_subjects,) or not ((labels >= -1) & (labels < votes.n_labels)).all():
        found = f"shape {labels.shape}, {labels.min(initial=0)} to {labels.max(initial=0)}"
        raise ValueError(
            f"{whose} labels are −1 to {votes.n_labels - 1}, one of {votes.n_subjects} subjects; found {found}"
        )
    return labels


def _gold_of(gold: np.ndarray | None, votes: Recorded) -> np.ndarray:
    return np.full(votes.n_subjects, -1, np.int64) if gold is None else _labels_of(gold, votes, "gold")


def _fixed(
    votes: Recorded,
    after: Sequence[int],
    machine: np.ndarray,
    first: int,
    gold: np.ndarray | None,
    orders: int | None,
    share: float,
    seed: int,
) -> list[Replay]:
    """Limits, and with `first` > 0 retirement before them where the machine's label is the first volunteers'."""
    truth, most = _gold_of(gold, votes), int(votes.n_votes.max(initial=0))
    for limit in after:
        if not 1 <= limit <= most:
            raise ValueError(
                f"a limit of {limit} votes cannot be replayed: no subject has more than {most}; choose 1 to {most}"
            )
    if not 0 <= share < 1:
        raise ValueError(f"the share that decides is at least 0 and below 1, not {share}")
    limit_of = np.array(after, np.int64)[:, None]
    counted = votes.n_votes >= limit_of
    sums = _Sums.zeros(len(after), votes.n_subjects)
    starts, label = votes.by_subject
    _replay(
        starts,
        label,
        np.where(counted, limit_of, 0),
        machine,
        first,
        truth,
        votes.n_labels,
        share,
        orders or 0,
        np.random.default_rng(seed),
        sums.used,
        sums.early,
        sums.decided,
        sums.gold,
        sums.unused,
        sums.n_unused,
        sums.everyone,
    )
    if first:
        who = "the first volunteer" if first == 1 else f"the first {first} volunteers"
        rules = [f"machine and {who} agree, else {n} vote{'s' * (n != 1)}" for n in after]
        base = np.where(counted, limit_of, 0)
    else:
        rules, base = [f"{n} vote{'s' * (n != 1)}" for n in after], np.where(counted, votes.n_votes, 0)
    return _replays(rules, truth, counted, (votes.n_votes > 0) & ~counted, base, sums, orders, seed)


def _replays(
    rules: list[str],
    truth: np.ndarray,
    counted: np.ndarray,
    is_cut_short: np.ndarray,
    base: np.ndarray,
    sums: _Sums,
    orders: int | None,
    seed: int,
) -> list[Replay]:
    """Rates over subjects, and their intervals; `counted`, `is_cut_short`, `base`: (rules, n_subjects)."""
    n, random = orders or 1, np.random.default_rng(seed)
    used, decided, right = sums.used / n, sums.decided / n, sums.gold / n
    judged = np.where(truth >= 0, decided, 0)
    draws: dict[int, np.ndarray] = {}
    replays = []
    for i, rule in enumerate(rules):
        n_counted = counted[i].astype(np.float64)

        def rate(above: np.ndarray, below: np.ndarray) -> Rate:
            return _rate(above, below, random, draws)

        replays.append(
            Replay(
                rule,
                n_subjects=int(counted[i].sum()),
                n_orders=orders or 0,
                spent=float(used[i].sum()),
                saved=_rate(base[i] - used[i], base[i].astype(np.float64), random, draws, of_subjects=False),
                early=rate(sums.early[i] / n, n_counted),
                gold=rate(right[i], judged[i]),
                unused=rate(sums.unused[i] / n, sums.n_unused[i] / n),
                everyone=rate(sums.everyone[i] / n, decided[i]),
                is_cut_short=is_cut_short[i],
                used=np.where(counted[i], used[i], np.nan),
                right=np.divide(right[i], judged[i], out=np.full(len(truth), np.nan), where=judged[i] > 0),
            )
        )
    return replays


def _rate(
    above: np.ndarray,
    below: np.ndarray,
    random: np.random.Generator,
    draws: dict[int, np.ndarray],
    of_subjects: bool = True,
) -> Rate:
    """Σ above / Σ below over subjects (n,)."""
    k, n = float(above.sum()), float(below.sum())
    if not n:
        return Rate(0.0, 0.0, float("nan"), float("nan"))
    if of_subjects and ((above == 0).all() or (above == below).all()):
        low, high = interval(np.array([k]), np.array([n]))
        return Rate(k, n, float(low[0]), float(high[0]))
    ends = _resampled(above, below, random, draws)
    return Rate(k, n, max(ends[0], 0.0), min(ends[1], 1.0))  # the normal interval may go beyond


def _resampled(
    above: np.ndarray, below: np.ndarray, random: np.random.Generator, draws: dict[int, np.ndarray]
) -> tuple[float, float]:
    """The 95 % interval of Σ above / Σ below over resampled subjects; those that add nothing to Σ below are not drawn.

    `draws` keeps how often each of n subjects is drawn, (replicates, n), from one rate to the next.
    """
    is_in = below > 0
    above, below = above[is_in], below[is_in]
    size = len(above)
    if size > RESAMPLED:
        ratio = above.sum() / below.sum()
        error = 1.96 * np.sqrt(np.square(above - ratio * below).sum()) / below.sum()
        return float(ratio - error), float(ratio + error)
    if size not in draws:
        drawn = random.integers(size, size=(REPLICATES, size)) + size * np.arange(REPLICATES)[:, None]
        draws[size] = (
            np.bincount(drawn.ravel(), minlength=REPLICATES * size).reshape(REPLICATES, size).astype(np.float64)
        )
    values = np.sort(draws[size] @ above / (draws[size] @ below))
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


# ------------------------------------------------------------------------------------------------------------ kernels
@_jit
def _grouped(subject: np.ndarray, label: np.ndarray, n_subjects: int) -> tuple[np.ndarray, np.ndarray]:
    """`Recorded.by_subject`."""
    starts = np.zeros(n_subjects + 1, np.int64)
    for s in subject:
        starts[s + 1] += 1
    for s in range(n_subjects):
        starts[s + 1] += starts[s]
    to, labels = starts[:-1].copy(), np.empty(len(label), np.int16)
    for i in range(len(subject)):
        s = subject[i]
        labels[to[s]] = label[i]
        to[s] += 1
    return starts, labels


@_jit
def _decide(counts: np.ndarray, share: float, shares: np.ndarray) -> None:
    """The labels that most give, 1 / n each where n tie: `shares` (labels,); of two, the second above `share`."""
    if len(counts) == 2:
        over = counts[1] - share * (counts[0] + counts[1])
        shares[1] = 1.0 if over > 1e-9 else 0.5 if over > -1e-9 else 0.0
        shares[0] = 1.0 - shares[1]
        return
    most = counts.max()
    n_tied = (counts == most).sum()
    for i in range(len(counts)):
        shares[i] = 1.0 / n_tied if counts[i] == most else 0.0


@_jit
def _score(
    starts: np.ndarray,
    label: np.ndarray,
    stop: np.ndarray,
    given: np.ndarray,
    truth: np.ndarray,
    n_labels: int,
    share: float,
    used: np.ndarray,
    early: np.ndarray,
    decided: np.ndarray,
    gold: np.ndarray,
    unused: np.ndarray,
    n_unused: np.ndarray,
    everyone: np.ndarray,
) -> None:
    """Add one replay of every subject: `stop` votes used (0: left out); label `given`, −1: of those votes, −2: none."""
    counts, rest = np.empty(n_labels, np.int64), np.empty(n_labels, np.int64)
    mine, theirs = np.empty(n_labels), np.empty(n_labels)
    for s in range(len(stop)):
        n = stop[s]
        if n == 0:
            continue
        used[s] += n
        if given[s] == -2:
            continue
        decided[s] += 1
        counts[:] = 0
        rest[:] = 0
        for at in range(starts[s], starts[s] + n):
            counts[label[at]] += 1
        for at in range(starts[s] + n, starts[s + 1]):
            rest[label[at]] += 1
        if given[s] >= 0:
            early[s] += 1
            mine[:] = 0
            mine[given[s]] = 1
        else:
            _decide(counts, share, mine)
        if truth[s] >= 0:
            gold[s] += mine[truth[s]]
        if starts[s] + n < starts[s + 1]:
            n_unused[s] += 1
            _decide(rest, share, theirs)
            for i in range(n_labels):
                unused[s] += mine[i] * theirs[i]
        _decide(counts + rest, share, theirs)
        for i in range(n_labels):
            everyone[s] += mine[i] * theirs[i]


@_jit
def _replay(
    starts: np.ndarray,
    label: np.ndarray,
    limits: np.ndarray,
    machine: np.ndarray,
    first: int,
    truth: np.ndarray,
    n_labels: int,
    share: float,
    n_orders: int,
    random: np.random.Generator,
    used: np.ndarray,
    early: np.ndarray,
    decided: np.ndarray,
    gold: np.ndarray,
    unused: np.ndarray,
    n_unused: np.ndarray,
    everyone: np.ndarray,
) -> None:
    """Every rule on every order: `limits` (rules, n_subjects), 0 where a subject is left out; 0 orders: as recorded."""
    label, n_subjects = label.copy(), len(starts) - 1
    stop, given = np.empty(n_subjects, np.int64), np.empty(n_subjects, np.int64)
    for _ in range(max(n_orders, 1)):
        if n_orders:
            for s in range(n_subjects):
                for i in range(starts[s + 1] - 1, starts[s], -1):
                    j = starts[s] + int(random.random() * (i + 1 - starts[s]))
                    label[i], label[j] = label[j], label[i]
        for rule in range(len(limits)):
            for s in range(n_subjects):
                stop[s], given[s] = limits[rule, s], -1
                if first == 0 or stop[s] == 0:
                    continue
                agrees = True
                for at in range(starts[s], starts[s] + first):
                    agrees = agrees and label[at] == machine[s]
                if agrees:
                    stop[s], given[s] = first, machine[s]
            _score(
                starts,
                label,
                stop,
                given,
                truth,
                n_labels,
                share,
                used[rule],
                early[rule],
                decided[rule],
                gold[rule],
                unused[rule],
                n_unused[rule],
                everyone[rule],
            )
