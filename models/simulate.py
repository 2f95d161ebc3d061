"""Simulated volunteers: who they are, what they see and when, and what they say, drawn from known classes.

What is worth choosing comes from classes that were planted, or from morphology measured on pixels
(`models.morphology`); nothing here knows a score or a latent vector. Every draw follows from one seed.

A volunteer who looks at a subject worth choosing pays attention to it with probability v · exp(−t/τ): v is the
visibility of the subject's class, t how many subjects the volunteer has seen in this session, τ the volunteer's
stamina. With attention P("chosen" | worth choosing) is the volunteer's own; without, it is what it is for everything
else, 1 − P("not" | not). So a tired volunteer's skill falls to none, and never below.
"""

from dataclasses import dataclass

import numpy as np

#: Seconds of a day, and the part of it in which sessions begin.
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """What volunteers are drawn from.

    Attributes
    ----------
    n_volunteers
        How many there are; who happens to see nothing does not appear.
    p_chosen, p_passed
        Means of P("chosen" | worth choosing) and P("not" | not), in (0, 1).
    concentration
        Of the Beta distributions that they are drawn from: the higher, the more alike the volunteers.
    activity_sigma
        Standard deviation of the logarithm of activity; 2 gives a tenth of the volunteers most of the views.
    stamina
        Median of τ, subjects; drawn with a scatter of a factor 2.
    session
        Mean length of a session, subjects.
    grid
        Subjects that are seen, and answered, at once.
    seconds
        Median time on one subject, s.
    days
        From the first session to the last, days.
    """

    n_volunteers: int = 60
    p_chosen: float = 0.75
    p_passed: float = 0.9
    concentration: float = 12.0
    activity_sigma: float = 1.5
    stamina: float = 200.0
    session: float = 80.0
    grid: int = 16
    seconds: float = 2.0
    days: float = 60.0

    def __post_init__(self) -> None:
        for name in ("n_volunteers", "concentration", "stamina", "session", "grid", "seconds", "days"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("p_chosen", "p_passed"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1")
        if self.activity_sigma < 0:
            raise ValueError(f"activity_sigma is {self.activity_sigma}; it must not be below 0")


@dataclass(frozen=True, slots=True)
class People:
    """The volunteers, float64 (V,) each.

    Attributes
    ----------
    p_chosen, p_passed
        P("chosen" | worth choosing) and P("not" | not), with full attention.
    activity
        Share of all views that fall to each, on average; they sum to 1.
    stamina
        τ, subjects.
    session
        Subjects in a session, whole numbers.
    """

    p_chosen: np.ndarray
    p_passed: np.ndarray
    activity: np.ndarray
    stamina: np.ndarray
    session: np.ndarray


@dataclass(frozen=True, slots=True)
class Simulated:
    """Votes in order of time, (M,) each.

    Attributes
    ----------
    subject, volunteer
        int32, from 0.
    classification
        int64, from 0 in order of time: the subjects of one grid share it.
    chosen
        bool.
    at_s
        float64, seconds from the campaign's beginning to the end of the grid.
    seconds
        float32, that the whole grid took.
    position
        int32, t: what the volunteer had seen before in the session.
    people
        Who they are.
    """

    subject: np.ndarray
    volunteer: np.ndarray
    classification: np.ndarray
    chosen: np.ndarray
    at_s: np.ndarray
    seconds: np.ndarray
    position: np.ndarray
    people: People


def people(crowd: Crowd, rng: np.random.Generator) -> People:
    """Draw the volunteers."""
    n = crowd.n_volunteers
    activity = np.exp(crowd.activity_sigma * rng.standard_normal(n))
    return People(
        p_chosen=rng.beta(crowd.concentration * crowd.p_chosen, crowd.concentration * (1 - crowd.p_chosen), n),
        p_passed=rng.beta(crowd.concentration * crowd.p_passed, crowd.concentration * (1 - crowd.p_passed), n),
        activity=activity / activity.sum(),
        stamina=crowd.stamina * np.exp(np.log(2) * rng.standard_normal(n)),
        session=np.maximum(crowd.grid, np.rint(crowd.session * rng.standard_exponential(n))),
    )


def votes(
    is_worth: np.ndarray, n_views: int, seed: int, visibility: np.ndarray | None = None, crowd: Crowd | None = None
) -> Simulated:
    """Let volunteers vote on subjects.

    Parameters
    ----------
    is_worth
        bool (S,): whether the subject is worth choosing.
    n_views
        Volunteers who see each subject, all different.
    seed
        The same seed gives the same votes.
    visibility
        float (S,) in [0, 1]: how well a subject of its class can be seen for what it is; 1 where not given. It says
        nothing about subjects that are not worth choosing.

    Raises
    ------
    ValueError
        More views than half the volunteers, nothing to look at, or visibilities beyond [0, 1].
    """
    crowd = crowd or Crowd()
    is_worth = np.asarray(is_worth, np.bool_)
    n_subjects = len(is_worth)
    seen = np.ones(n_subjects) if visibility is None else np.asarray(visibility, np.float64)
    if not 1 <= n_views <= crowd.n_volunteers // 2:
        raise ValueError(
            f"{n_views} views of each subject by different volunteers need 2 volunteers or more for each view; "
            f"there are {crowd.n_volunteers}"
        )
    if n_subjects == 0:
        raise ValueError("there is no subject to look at")
    if seen.shape != is_worth.shape or not ((seen >= 0) & (seen <= 1)).all():
        raise ValueError("visibility must be a number between 0 and 1 for each subject")
    rng = np.random.default_rng(seed)
    crew = people(crowd, rng)

    volunteer = _who(crew.activity, n_subjects, n_views, rng).ravel()
    # each volunteer's subjects in random order: shuffle all, then sort by volunteer and keep that order
    order = rng.permutation(np.arange(n_subjects * n_views, dtype=np.int32 if n_subjects < 2**26 else np.int64))
    volunteer = volunteer[order]
    # numpy sorts 16 bits by radix, ten times as fast
    by_volunteer = np.argsort(volunteer.astype(np.uint16) if crowd.n_volunteers < 2**16 else volunteer, kind="stable")
    order, volunteer = order[by_volunteer], volunteer[by_volunteer]
    subject = (order // n_views).astype(np.int32)
    position, ends_s, spent_s, sizes = _when(volunteer, crew, crowd, rng)

    careless = 1 - crew.p_passed[volunteer]
    attention = seen[subject] * np.exp(-position / crew.stamina[volunteer])
    p = np.where(is_worth[subject], careless + (crew.p_chosen[volunteer] - careless) * attention, careless)
    chosen = rng.random(len(subject)) < p

    grids = np.argsort(ends_s, kind="stable")
    firsts, sizes = (np.cumsum(sizes) - sizes)[grids], sizes[grids]
    # the views of each grid lie together: whole runs of them are put in order
    by_time = np.repeat(firsts - (np.cumsum(sizes) - sizes), sizes) + np.arange(len(subject))
    return Simulated(
        subject=subject[by_time],
        volunteer=volunteer[by_time].astype(np.int32),
        classification=np.repeat(np.arange(len(grids)), sizes),
        chosen=chosen[by_time],
        at_s=np.repeat(ends_s[grids], sizes),
        seconds=np.repeat(spent_s[grids], sizes),
        position=position[by_time],
        people=crew,
    )


def grades(is_worth: np.ndarray, n_graders: int, seed: int, visibility: np.ndarray | None = None) -> np.ndarray:
    """What simulated experts say: whether each finds each subject worth it.

    They are as volunteers with full attention, but better: P("yes" | worth it) is .95 on average, P("no" | not) .98.

    Parameters
    ----------
    is_worth, visibility
        As in `votes`.

    Returns
    -------
    bool (S, `n_graders`)

    Raises
    ------
    ValueError
        No grader, nothing to look at, or visibilities beyond [0, 1].
    """
    is_worth = np.asarray(is_worth, np.bool_)
    seen = np.ones(len(is_worth)) if visibility is None else np.asarray(visibility, np.float64)
    if n_graders < 1:
        raise ValueError(f"{n_graders} graders grade nothing; take one at least")
    if not len(is_worth):
        raise ValueError("there is no subject to look at")
    if seen.shape != is_worth.shape or not ((seen >= 0) & (seen <= 1)).all():
        raise ValueError("visibility must be a number between 0 and 1 for each subject")
    rng = np.random.default_rng([seed, 1])
    crowd = Crowd(n_volunteers=n_graders, p_chosen=0.95, p_passed=0.98, concentration=100.0)
    crew = people(crowd, rng)
    careless = 1 - crew.p_passed
    p = np.where(is_worth[:, None], careless + (crew.p_chosen - careless) * seen[:, None], careless)
    return np.asarray(rng.random((len(is_worth), n_graders)) < p)


def _who(activity: np.ndarray, n_subjects: int, n_views: int, rng: np.random.Generator) -> np.ndarray:
    """Different volunteers for each subject, int32 (S, n_views), one after another in proportion to their activity.

    Whoever comes up twice for a subject is drawn again, which is what drawing them one by one gives.
    """
    edges = np.cumsum(activity)
    edges[-1] = 1.0
    drawn = np.searchsorted(edges, rng.random((n_subjects, n_views)), side="right").astype(np.int32)
    rows = np.arange(n_subjects)
    while len(rows):
        ordered = np.sort(drawn[rows], axis=1)
        rows = rows[(ordered[:, 1:] == ordered[:, :-1]).any(axis=1)]
        here = drawn[rows]
        order = np.argsort(here, axis=1, kind="stable")
        ordered = np.take_along_axis(here, order, axis=1)
        again = np.zeros(here.shape, np.bool_)  # the earlier one of two stays
        np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
        here[again] = np.searchsorted(edges, rng.random(int(again.sum())), side="right")
        drawn[rows] = here
    return drawn


def _when(
    volunteer: np.ndarray, crew: People, crowd: Crowd, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Position in the session of each view, sorted by volunteer; of each grid its end and length, s, and its views."""
    n = len(volunteer)
    counts = np.bincount(volunteer, minlength=crowd.n_volunteers)
    nth = np.arange(n, dtype=np.int32) - np.repeat(np.cumsum(counts) - counts, counts).astype(np.int32)
    position = nth % np.repeat(crew.session.astype(np.int32), counts)
    opens = np.flatnonzero(position % crowd.grid == 0)  # a session's first view has position 0
    sizes = np.diff(np.append(opens, n))
    spent = crowd.seconds * sizes * np.exp(0.5 * rng.standard_normal(len(sizes)))
    begins = position[opens] == 0  # the grids that a session begins with
    session = np.cumsum(begins) - 1
    starts = rng.uniform(0, crowd.days, int(session[-1]) + 1) * DAY_S
    ends = np.cumsum(spent)
    return position, ends - (ends - spent)[begins][session] + starts[session], spent.astype(np.float32), sizes
