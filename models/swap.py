"""SWAP: who of the volunteers can be relied on, and how probable it is that a subject is worth choosing.

Marshall et al. 2016 (Space Warps I). Of each volunteer two probabilities are learned,

- P_L, ``p_chosen``: that they choose a subject that is worth it, Pr("chosen" | real);
- P_D, ``p_passed``: that they pass over one that is not, Pr("passed" | dud),

and every vote moves its subject's probability p by Bayes' rule:

- chosen: p' = p P_L / (p P_L + (1 − p)(1 − P_D)),
- passed: p' = p (1 − P_L) / (p (1 − P_L) + (1 − p) P_D).

Here the odds of p are summed as logarithms, which is the same and loses nothing next to 0 and 1. A volunteer of whom
nothing is known (P_L = P_D = ½) moves nothing. `swap` takes votes in the order of time, `offline` all at once.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
from numba import njit
from scipy.special import expit, logit, xlogy

OPEN, DETECTED, REJECTED = 0, 1, -1
UNKNOWN = -1  # of `gold`

#: What a probability must pass a threshold by, in log odds: one that is equal but for rounding has not crossed it.
ROUNDING = 1e-9


# ------------------------------------------------------------------------------------------------------- settings
@dataclass(frozen=True, slots=True)
class Settings:
    """What SWAP assumes and when it is sure. As it stands: Space Warps' first stage.

    Attributes
    ----------
    prior
        p of a subject that nobody has seen, between 0 and 1, both excluded.
    p_initial
        P_L and P_D of a volunteer of whom nothing is known, between 0 and 1, both excluded.
    skepticism
        `p_initial` counts as much as 2 + `skepticism` training subjects of each kind; ≥ 0.
    detect, reject
        A subject is detected above the one, rejected below the other; 1 and 0: never.
    hasty
        Votes on a subject that has crossed a threshold are left out. Otherwise all count, and it may come back.
    retires
        What is not shown again: what was rejected only, or what was detected as well.
    p_min
        p never falls below it; 0: no floor.
    clip
        P_L and P_D stay between `clip` and 1 − `clip`; from 0, excluded with `trajectories`, to ½, excluded.
    mode
        Who teaches: ``supervised``, subjects of known answer; ``unsupervised``, all subjects by the p they have so far,
        as if no answer were known; ``both``, those of known answer by it and all others by their p. Unsupervised,
        `p_initial` is above ½: volunteers who move nothing would never learn anything.
    rescore
        Volunteers learn from all votes first; then every vote counts with what they are at the end.
    errors
        Shares (of the duds that are detected, of the real ones that are rejected), or None. `detect` and `reject` are
        then taken from the subjects of known answer: see `thresholds`. These have taught the volunteers too, so the
        shares promise more than subjects of unknown answer will keep.
    trajectories
        0: P_L and P_D are taken as known. Otherwise p is the geometric mean of so many, each of which draws
        P ~ Binomial(N, P) / N anew at every vote, N being what P was learned from (Marshall et al. 2016).
    seed
        Of these draws.

    Raises
    ------
    ValueError
        A setting lies outside its range.
    """

    prior: float = 2e-4
    p_initial: float = 0.5
    skepticism: float = 2.0
    detect: float = 0.95
    reject: float = 1e-7
    hasty: bool = True
    retires: Literal["rejected", "both"] = "rejected"
    p_min: float = 2e-8
    clip: float = 0.01
    mode: Literal["supervised", "unsupervised", "both"] = "supervised"
    rescore: bool = False
    errors: tuple[float, float] | None = None
    trajectories: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("prior", "p_initial"):
            if not 0 < (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} of SWAP lies between 0 and 1, not at {value}")
        if not 0 <= self.reject <= self.detect <= 1:
            raise ValueError(
                f"SWAP's reject and detect are 0 ≤ reject ≤ detect ≤ 1, not {self.reject} and {self.detect}"
            )
        if not 0 <= self.p_min < 1:
            raise ValueError(f"p_min of SWAP lies from 0 to below 1, not at {self.p_min}")
        if not 0 <= self.clip < 0.5 or (self.trajectories and not self.clip):
            least = "above 0, with trajectories," if self.trajectories else "from 0"
            raise ValueError(f"clip of SWAP lies {least} to below 0.5, not at {self.clip}")
        if not self.clip <= self.p_initial <= 1 - self.clip:
            raise ValueError(
                f"p_initial of SWAP, {self.p_initial}, lies outside what clip leaves, {self.clip} to its rest"
            )
        if self.skepticism < 0 or self.trajectories < 0:
            raise ValueError("skepticism and trajectories of SWAP are not negative")
        if self.mode not in ("supervised", "unsupervised", "both"):
            raise ValueError(f'SWAP is "supervised", "unsupervised" or "both", not "{self.mode}"')
        if self.mode == "unsupervised" and self.p_initial <= 0.5:
            raise ValueError(f"unsupervised SWAP learns nothing from p_initial {self.p_initial}: set it above 0.5")
        if self.retires not in ("rejected", "both"):
            raise ValueError(f'SWAP retires "rejected" or "both", not "{self.retires}"')
        if self.errors is not None and not all(0 < share <= 1 for share in self.errors):
            raise ValueError(f"shares of errors of SWAP lie above 0 and up to 1, not at {self.errors}")


#: Settings that were published: Space Warps' two stages on CFHTLS (Marshall et al. 2016), Galaxy Zoo Express
#: (Beck et al. 2018) and swap-2 as the Zooniverse has it.
PRESETS: Mapping[str, Settings] = MappingProxyType(
    {
        "spacewarps": Settings(),
        "spacewarps-2": Settings(detect=1.0, reject=0.0),
        "beck": Settings(prior=0.5, detect=0.99, reject=0.004, retires="both", p_min=0.001),
        "swap2": Settings(
            prior=0.12, skepticism=0.0, retires="both", p_min=0.0, clip=0.0, rescore=True, errors=(0.01, 0.10)
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Swap:
    """What SWAP made of M votes of V volunteers on S subjects.

    Attributes
    ----------
    probability
        float64 (S,): p after the last vote that was used; the prior where there was none.
    state
        int8 (S,): 1 detected, −1 rejected, 0 neither. Subjects of known answer have one too.
    retired_after
        int64 (S,): votes after which a subject was retired; −1 where it was not. Subjects of known answer never are.
    p_chosen, p_passed
        float64 (V,): P_L and P_D as they are at the end.
    n_seen, n_training
        int64 (V,): votes, used or not, and those of them on subjects of known answer that taught.
    skill
        float64 (V,), bits from 0 to 1: see `skill`.
    contribution
        float64 (V,), bits: the skill that a volunteer had at each vote that was used on a subject of unknown answer,
        summed.
    used
        bool (M,): votes that moved a subject's probability.
    detect, reject
        The thresholds, of the settings or as found.
    """

    probability: np.ndarray
    state: np.ndarray
    retired_after: np.ndarray
    p_chosen: np.ndarray
    p_passed: np.ndarray
    n_seen: np.ndarray
    n_training: np.ndarray
    skill: np.ndarray
    contribution: np.ndarray
    used: np.ndarray
    detect: float
    reject: float


# ---------------------------------------------------------------------------------------------------- information
def skill(p_chosen: np.ndarray, p_passed: np.ndarray, p: float = 0.5) -> np.ndarray:
    """Information that the next vote of a volunteer is expected to give on a subject of probability `p`, in bits.

    The mutual information of vote and truth. At p = ½, SWAP's skill, it is 0 for who chooses at random, whatever the
    rate, and 1 for who is always right, or always wrong.

    With S(x) = x log₂ x: p [S(P_L) + S(1 − P_L)] + (1 − p) [S(P_D) + S(1 − P_D)] − S(p P_L + (1 − p)(1 − P_D))
    − S(p (1 − P_L) + (1 − p) P_D) (Marshall et al. 2016).

    Parameters
    ----------
    p_chosen, p_passed
        P_L and P_D, any shape, from 0 to 1.
    p
        From 0 to 1.
    """

    def s(x: np.ndarray) -> np.ndarray:
        found: np.ndarray = xlogy(x, x) / math.log(2)
        return found

    yes, no = np.asarray(p_chosen, dtype=float), np.asarray(p_passed, dtype=float)
    known = p * (s(yes) + s(1 - yes)) + (1 - p) * (s(no) + s(1 - no))
    found: np.ndarray = np.maximum(known - s(p * yes + (1 - p) * (1 - no)) - s(p * (1 - yes) + (1 - p) * no), 0)
    return found


def information(chosen: np.ndarray, p: np.ndarray, p_chosen: np.ndarray, p_passed: np.ndarray) -> np.ndarray:
    """Information that one vote gave on its subject, in bits: how far p' is from p, as a Kullback–Leibler divergence.

    With M_CL and M_CN the probabilities of that vote on a real one and on a dud, and p_c = p M_CL + (1 − p) M_CN:
    p (M_CL / p_c) log₂(M_CL / p_c) + (1 − p)(M_CN / p_c) log₂(M_CN / p_c) (Marshall et al. 2016). From p to certainty
    it is −log₂ p, 12.3 bits at Space Warps' prior; to certain absence −log₂(1 − p), .0003 bits.

    Parameters
    ----------
    chosen
        bool, any shape: what was said.
    p
        Before the vote, from 0 to 1.
    p_chosen, p_passed
        P_L and P_D. A vote that they exclude gives NaN.
    """
    yes, no = np.asarray(p_chosen, dtype=float), np.asarray(p_passed, dtype=float)
    real = np.where(chosen, yes, 1 - yes)
    dud = np.where(chosen, 1 - no, no)
    with np.errstate(divide="ignore", invalid="ignore"):
        either = p * real + (1 - p) * dud
        real, dud = real / either, dud / either
        found: np.ndarray = (p * xlogy(real, real) + (1 - p) * xlogy(dud, dud)) / math.log(2)
    return found


# -------------------------------------------------------------------------------------------------------- kernels
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    kernel: Callable[..., Any] = njit(cache=True, nogil=True, error_model="numpy")(function)
    return kernel


def _s(x: float) -> float:
    return x * math.log2(x) if x > 0 else 0.0


_s = _compiled(_s)


#: A subject and a volunteer while votes are gone through; what belongs together lies together in memory.
_SUBJECT = np.dtype(
    [("log_odds", "f8"), ("n_used", "i4"), ("crossed_at", "i4"), ("state", "i1"), ("gold", "i1")], align=True
)
_VOLUNTEER = np.dtype(
    [
        ("p_chosen", "f8"),
        ("p_passed", "f8"),
        ("n_chosen", "f8"),  # what the first was learned from, and the second
        ("n_passed", "f8"),
        ("chosen", "f8"),  # what "chosen" adds to log odds, and "passed"
        ("passed", "f8"),
        ("skill", "f8"),
        ("contribution", "f8"),
    ]
)


def _describe(who: Any) -> None:
    """What a volunteer's votes add to log odds, and their skill."""
    yes, no = who.p_chosen, who.p_passed
    who.chosen = math.log(yes / (1 - no))
    who.passed = math.log((1 - yes) / no)
    chosen = (yes + 1 - no) / 2
    known = (_s(yes) + _s(1 - yes) + _s(no) + _s(1 - no)) / 2
    who.skill = max(0.0, known - _s(chosen) - _s(1 - chosen))


_describe = _compiled(_describe)


def _learn(who: Any, chosen: bool, q: float, clip: float) -> None:
    """A volunteer's P_L and P_D after a subject that is worth choosing with probability q."""
    if q > 0:
        p = (who.p_chosen * who.n_chosen + (q if chosen else 0.0)) / (who.n_chosen + q)
        who.p_chosen = min(max(p, clip), 1 - clip)
        who.n_chosen += q
    if q < 1:
        p = (who.p_passed * who.n_passed + (0.0 if chosen else 1 - q)) / (who.n_passed + 1 - q)
        who.p_passed = min(max(p, clip), 1 - clip)
        who.n_passed += 1 - q
    _describe(who)


_learn = _compiled(_learn)


def _draw(p: float, n: float, clip: float, random: np.random.Generator) -> float:
    """A P that was learned from n, as it might be: Binomial(n, p) / n."""
    drawn: float = min(max(random.binomial(int(n), p) / int(n), clip), 1 - clip)
    return drawn


_draw = _compiled(_draw)


def _sweep(
    subject: np.ndarray,
    volunteer: np.ndarray,
    said: np.ndarray,
    subjects: np.ndarray,
    volunteers: np.ndarray,
    trajectories: np.ndarray,  # (S, 0), or log odds (S, draws)
    used: np.ndarray,
    floor: float,
    low: float,  # thresholds: log odds, or with trajectories log p
    high: float,
    clip: float,
    hasty: bool,
    gold_teaches: bool,
    others_teach: bool,
    random: np.random.Generator,
) -> None:
    """Every vote in its turn: first it moves its subject, then its volunteer learns."""
    draws = trajectories.shape[1]
    for i in range(subject.size):
        s, chosen = subject[i], said[i]
        what, who = subjects[s], volunteers[volunteer[i]]
        if not (hasty and what.state != 0):
            if draws > 0:
                value = 0.0
                for t in range(draws):
                    yes = _draw(who.p_chosen, who.n_chosen, clip, random)
                    no = _draw(who.p_passed, who.n_passed, clip, random)
                    moved = trajectories[s, t] + math.log(yes / (1 - no) if chosen else (1 - yes) / no)
                    trajectories[s, t] = max(moved, floor)
                    value -= math.log1p(math.exp(-trajectories[s, t])) / draws
                what.log_odds = value - math.log1p(-math.exp(value))
            else:
                value = max(what.log_odds + (who.chosen if chosen else who.passed), floor)
                what.log_odds = value
            now = 1 if value > high else (-1 if value < low else 0)
            what.n_used += 1
            if now != what.state:
                what.state = now
                what.crossed_at = what.n_used
            if what.gold < 0:
                who.contribution += who.skill
            used[i] = True
        if what.gold >= 0:
            if gold_teaches:
                _learn(who, chosen, float(what.gold), clip)
        elif others_teach and used[i]:
            _learn(who, chosen, 1 / (1 + math.exp(-what.log_odds)), clip)


_sweep = _compiled(_sweep)


# ------------------------------------------------------------------------------------------------ in order of time
def swap(
    subject: np.ndarray,
    volunteer: np.ndarray,
    said: np.ndarray,
    n_subjects: int,
    n_volunteers: int,
    gold: np.ndarray,
    settings: Settings = PRESETS["spacewarps"],
) -> Swap:
    """Go through votes in the order of time: each moves its subject, and teaches where the answer is known.

    Parameters
    ----------
    subject, volunteer
        int (M,): 0 … S − 1 and 0 … V − 1, of each vote, in the order of time. A volunteer's second vote on the same
        subject counts like any other: leave it out before.
    said
        bool (M,): whether the subject was chosen.
    n_subjects, n_volunteers
        S and V.
    gold
        int8 (S,): 1 worth choosing, 0 not (a dud), −1 unknown. What is known teaches and does not count as
        contribution; the probability of such a subject comes from its votes like any other, so that it can be judged.
    settings
        One of `PRESETS`, or one's own.

    Raises
    ------
    ValueError
        Columns of other lengths, codes out of range, or `Settings.errors` without answers of both kinds.

    Notes
    -----
    After a training subject P ← (P N + right) / (N + 1), N ← N + 1, of the one of P_L and P_D that it tests; from
    N = 2 + skepticism, clipped each time. After one of unknown answer, where such teach, with q its p after this very
    vote and c = 1 for "chosen", 0 otherwise: P_L ← (P_L N_L + q c) / (N_L + q), N_L ← N_L + q, and
    P_D ← (P_D N_D + (1 − q)(1 − c)) / (N_D + 1 − q), N_D ← N_D + 1 − q.
    """
    if settings.errors is not None:
        _need_both(gold)
        free = replace(settings, errors=None, detect=1.0, reject=0.0)
        scores = swap(subject, volunteer, said, n_subjects, n_volunteers, gold, free).probability
        reject, detect = thresholds(scores, gold, settings.prior, *settings.errors)
        found = replace(settings, errors=None, detect=detect, reject=reject)
        return swap(subject, volunteer, said, n_subjects, n_volunteers, gold, found)

    subject, volunteer, said, gold = _checked(subject, volunteer, said, n_subjects, n_volunteers, gold)
    if settings.mode == "unsupervised":
        gold = np.full_like(gold, UNKNOWN)
    volunteers = np.zeros(n_volunteers, _VOLUNTEER)
    volunteers["p_chosen"] = volunteers["p_passed"] = settings.p_initial
    volunteers["n_chosen"] = volunteers["n_passed"] = 2 + settings.skepticism
    if n_volunteers:
        _describe(volunteers[0])
        volunteers[1:] = volunteers[0]
    scale = np.log if settings.trajectories else logit
    with np.errstate(divide="ignore"):
        low, high = scale(settings.reject) - ROUNDING, scale(settings.detect) + ROUNDING
        floor = float(logit(settings.p_min))
    random = np.random.default_rng(settings.seed)

    for learning in (True, False) if settings.rescore else (True,):
        subjects = np.zeros(n_subjects, _SUBJECT)
        subjects["log_odds"], subjects["gold"] = logit(settings.prior), gold
        trajectories = np.full((n_subjects, settings.trajectories), logit(settings.prior))
        volunteers["contribution"] = 0
        used = np.zeros(subject.size, bool)
        gold_teaches = learning and settings.mode != "unsupervised"
        others_teach = learning and settings.mode != "supervised"
        rules = (floor, low, high, settings.clip, settings.hasty, gold_teaches, others_teach)
        _sweep(subject, volunteer, said, subjects, volunteers, trajectories, used, *rules, random)

    is_known = gold >= 0
    state = subjects["state"].copy()
    retired = (state == REJECTED) | ((state == DETECTED) & (settings.retires == "both"))
    return Swap(
        probability=expit(subjects["log_odds"]),
        state=state,
        retired_after=np.where(retired & ~is_known, subjects["crossed_at"], -1).astype(np.int64),
        p_chosen=volunteers["p_chosen"].copy(),
        p_passed=volunteers["p_passed"].copy(),
        n_seen=np.bincount(volunteer, minlength=n_volunteers),
        n_training=np.bincount(volunteer[is_known[subject]], minlength=n_volunteers),
        skill=volunteers["skill"].copy(),
        contribution=volunteers["contribution"].copy(),
        used=used,
        detect=settings.detect,
        reject=settings.reject,
    )


def thresholds(
    probability: np.ndarray, gold: np.ndarray, prior: float, false_share: float = 0.01, missed_share: float = 0.10
) -> tuple[float, float]:
    """``reject`` and ``detect`` from subjects of known answer, as swap-2 finds them.

    Parameters
    ----------
    probability, gold
        (S,): see `Swap` and `swap`.
    prior
        ``reject`` ≤ `prior` ≤ ``detect``.
    false_share
        ``detect`` is the lowest p of a dud that fewer than this share of the duds lie above.
    missed_share
        ``reject`` is the highest p of a real one that fewer than this share of the real ones lie below.

    Raises
    ------
    ValueError
        There is no dud, or none that is real.
    """
    _need_both(gold)
    duds = np.sort(probability[gold == 0])
    real = np.sort(probability[gold == 1])
    above = (duds.size - np.searchsorted(duds, duds, "right")) / duds.size  # 1 − 9/10 is below 1/10 by rounding
    below = np.searchsorted(real, real, "left") / real.size
    return min(float(real[below < missed_share][-1]), prior), max(float(duds[above < false_share][0]), prior)


# --------------------------------------------------------------------------------------------------- all at once
def _expect(
    subject: np.ndarray, volunteer: np.ndarray, said: np.ndarray, weights: np.ndarray, log_odds: np.ndarray
) -> None:
    """Each subject's votes, added to its log odds."""
    for i in range(subject.size):
        log_odds[subject[i]] += weights[volunteer[i], 1 if said[i] else 0]


def _average(
    subject: np.ndarray,
    volunteer: np.ndarray,
    said: np.ndarray,
    matrix: np.ndarray,
    p: np.ndarray,
    total: np.ndarray,
) -> None:
    """Each subject's p after each one of its votes alone, summed."""
    for i in range(subject.size):
        s, v = subject[i], volunteer[i]
        real = p[s] * (matrix[v, 0] if said[i] else 1 - matrix[v, 0])
        dud = (1 - p[s]) * (1 - matrix[v, 1] if said[i] else matrix[v, 1])
        total[s] += real / (real + dud)


def _maximize(subject: np.ndarray, volunteer: np.ndarray, said: np.ndarray, q: np.ndarray, sums: np.ndarray) -> None:
    """Of each volunteer Σ q c, Σ q, Σ (1 − q)(1 − c) and Σ (1 − q)."""
    for i in range(subject.size):
        v, worth = volunteer[i], q[subject[i]]
        if said[i]:
            sums[v, 0] += worth
        else:
            sums[v, 2] += 1 - worth
        sums[v, 1] += worth
        sums[v, 3] += 1 - worth


_expect, _average, _maximize = _compiled(_expect), _compiled(_average), _compiled(_maximize)


def offline(
    subject: np.ndarray,
    volunteer: np.ndarray,
    said: np.ndarray,
    n_subjects: int,
    n_volunteers: int,
    gold: np.ndarray,
    settings: Settings = PRESETS["spacewarps"],
    *,
    a: float = 1.0,
    start: float = 0.75,
    expectation: Literal["product", "average"] = "product",
    max_iterations: int = 100,
    tolerance: float = 1e-5,
) -> Swap:
    """SWAP without an order of votes, by expectation and maximization in turn; no answer needs to be known.

    Parameters
    ----------
    subject, volunteer, said, n_subjects, n_volunteers, gold
        As for `swap`, in any order. What is known is believed in the second step.
    settings
        Of these `prior`, `detect`, `reject`, `errors` and `mode` count: "unsupervised" looks at no known answer.
    a
        Votes of each kind, right and wrong, that each volunteer is given beforehand (Laplace's is 1); > 0.
    start
        P_L and P_D of everyone at first. At ½ nothing would tell "chosen" from "passed".
    expectation
        First step. ``product``: p by Bayes' rule from the prior and all of a subject's votes. ``average``: the mean of
        the p's after each of its votes alone, from the p it had: what Space Warps did offline. That is no posterior.
    max_iterations, tolerance
        Until the root of the mean square of what p changes is below `tolerance`.

    Raises
    ------
    ValueError
        As `swap`; `a` or `start` out of range.

    Notes
    -----
    Second step: P_L = (a + Σ p c) / (2a + Σ p), P_D = (a + Σ (1 − p)(1 − c)) / (2a + Σ (1 − p)).
    """
    if a <= 0 or not 0 < start < 1:
        raise ValueError(f"of offline SWAP a is above 0 and start between 0 and 1, not {a} and {start}")
    if expectation not in ("product", "average"):
        raise ValueError(f'the expectation of offline SWAP is "product" or "average", not "{expectation}"')
    subject, volunteer, said, gold = _checked(subject, volunteer, said, n_subjects, n_volunteers, gold)
    if settings.mode == "unsupervised":
        gold = np.full_like(gold, UNKNOWN)
    is_known = gold >= 0
    n_votes = np.bincount(subject, minlength=n_subjects)
    matrix = np.full((n_volunteers, 2), start)
    p = np.full(n_subjects, settings.prior)
    for _ in range(max_iterations):
        before = p
        if expectation == "product":
            log_odds = np.full(n_subjects, logit(settings.prior))
            yes, no = matrix.T
            _expect(subject, volunteer, said, np.log([(1 - yes) / no, yes / (1 - no)]).T, log_odds)
            p = expit(log_odds)
        else:
            total = np.zeros(n_subjects)
            _average(subject, volunteer, said, matrix, before, total)
            p = np.divide(total, n_votes, out=before.copy(), where=n_votes > 0)
        sums = np.zeros((n_volunteers, 4))
        _maximize(subject, volunteer, said, np.where(is_known, gold, p), sums)
        matrix = (a + sums[:, ::2]) / (2 * a + sums[:, 1::2])
        if np.sum((p - before) ** 2) <= tolerance**2 * n_subjects:
            break

    reject, detect = settings.reject, settings.detect
    if settings.errors is not None:
        reject, detect = thresholds(p, gold, settings.prior, *settings.errors)
    skills = skill(matrix[:, 0], matrix[:, 1])
    n_seen = np.bincount(volunteer, minlength=n_volunteers)
    n_training = np.bincount(volunteer[is_known[subject]], minlength=n_volunteers)
    return Swap(
        probability=p,
        state=np.where(p > detect, DETECTED, np.where(p < reject, REJECTED, OPEN)).astype(np.int8),
        retired_after=np.full(n_subjects, -1),
        p_chosen=matrix[:, 0].copy(),
        p_passed=matrix[:, 1].copy(),
        n_seen=n_seen,
        n_training=n_training,
        skill=skills,
        contribution=skills * (n_seen - n_training),
        used=np.ones(subject.size, bool),
        detect=detect,
        reject=reject,
    )


# --------------------------------------------------------------------------------------------------------- checks
def _need_both(gold: np.ndarray) -> None:
    n_real, n_duds = int((np.asarray(gold) == 1).sum()), int((np.asarray(gold) == 0).sum())
    if not (n_real and n_duds):
        raise ValueError(
            f"thresholds from known answers need real subjects and duds, and there are {n_real} and {n_duds}: "
            "set detect and reject, and errors to None"
        )


def _checked(
    subject: np.ndarray, volunteer: np.ndarray, said: np.ndarray, n_subjects: int, n_volunteers: int, gold: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The columns as the kernels want them: their indices are not checked again."""
    subject, volunteer, said, gold = (np.asarray(column) for column in (subject, volunteer, said, gold))
    if subject.ndim != 1 or not subject.shape == volunteer.shape == said.shape:
        shapes = f"{subject.shape}, {volunteer.shape} and {said.shape}"
        raise ValueError(f"subject, volunteer and said of SWAP's votes are one per vote, but of shapes {shapes}")
    for name, codes, n in (("subject", subject, n_subjects), ("volunteer", volunteer, n_volunteers)):
        if codes.size and not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(f"{name} of SWAP's votes holds {codes.dtype}, not whole numbers")
        if codes.size and not 0 <= codes.min() <= codes.max() < n:
            raise ValueError(
                f"{name} of SWAP's votes goes from {codes.min()} to {codes.max()}; its codes go from 0 to {n - 1}"
            )
    if said.size and said.dtype != bool:
        raise ValueError(f"said of SWAP's votes holds {said.dtype}, not true or false")
    if gold.shape != (n_subjects,) or not np.isin(gold, (-1, 0, 1)).all():
        raise ValueError(f"gold of SWAP has one of -1, 0 and 1 for each of {n_subjects} subjects")
    return (
        np.ascontiguousarray(subject, np.int32),
        np.ascontiguousarray(volunteer, np.int32),
        np.ascontiguousarray(said, bool),
        np.ascontiguousarray(gold, np.int8),
    )


def warm() -> None:
    """Compile every kernel into numba's cache on disk."""
    subject, volunteer, said = np.zeros(1, np.int32), np.zeros(1, np.int32), np.ones(1, np.bool_)
    arguments = (subject, volunteer, said, 1, 1, np.full(1, UNKNOWN, np.int8))
    swap(*arguments)
    offline(*arguments)
