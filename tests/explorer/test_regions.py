"""What is drawn on the map as a part of a boundary, against plain sets of subjects."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.services.regions import MOST_VERTICES, drawn_on, joined, reshaped, simplified, without
from explorer.state import MODES
from models.boundary import And, BoundaryError, Gate, Learned, Not, Or, Region, Term, columns, evaluate
from tests.explorer.test_raster import even_odd

X, Y = "maps.umap_1", "maps.umap_2"
OTHER = "scores.feature_score"
N = 60
CUT = Gate(OTHER, low=0.1)
MODEL = Learned("0" * 64)


@dataclass
class Few:
    """Sixty subjects, some of them without a place or without a score."""

    n: int = N

    def column(self, reference: str) -> np.ndarray:
        values = np.random.default_rng(len(reference) + ord(reference[-1])).uniform(-1, 1, N)
        values[[4, 7] if reference == X else [11]] = np.nan
        return values

    def inside(self, x: str, y: str, outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = self.column(x), self.column(y)
        placed = np.isfinite(at[0]) & np.isfinite(at[1])
        return even_odd(*at, outline) & placed, placed

    def balanced(self, model: str) -> np.ndarray:
        return (self.column(OTHER) + 1) / 2


def box(x0: float, x1: float, y0: float, y1: float, x: str = X, y: str = Y) -> Region:
    return Region(x, y, ((x0, y0), (x1, y1)), "box")


LEFT, RIGHT, LOW = box(-1, 0, -1, 1), box(0, 1, -1, 1), box(-1, 1, -1, 0)
ELSEWHERE = box(-0.5, 1, -0.5, 1, OTHER, Y)
sides = st.floats(-1, 1, allow_nan=False, width=16)
boxes = st.builds(box, sides, sides, sides, sides)
rests = st.lists(st.sampled_from([CUT, MODEL, ELSEWHERE, Not(CUT), Or((ELSEWHERE, CUT)), Or((LEFT, CUT))]), max_size=3)


@given(rests, st.lists(st.tuples(st.sampled_from(MODES), boxes), min_size=1, max_size=6))
def test_what_is_drawn_one_after_the_other_meets_as_selections_do_and_replaces_nothing(
    rest: list[Term], steps: list[tuple[str, Region]]
):
    few, keep, drawn = Few(), And(tuple(rest)), None
    for mode, region in steps:
        keep = joined(keep, region, mode)
        inside, placed = few.inside(X, Y, region.outline())
        if mode == "subtract":
            inside = placed & ~inside
        drawn = inside if drawn is None else drawn | inside if mode in ("replace", "add") else drawn & inside
    np.testing.assert_array_equal(evaluate(keep, few).yes, drawn & evaluate(And(tuple(rest)), few).yes)
    assert keep.terms[-len(rest) :] == tuple(rest) or not rest


@given(rests, boxes, st.sampled_from(MODES))
def test_subjects_without_a_place_are_unknown_and_never_kept(rest: list[Term], region: Region, mode: str):
    kept = evaluate(joined(joined(And(tuple(rest)), LEFT, "add"), region, mode), Few())
    assert not kept.yes[[4, 7]].any()


def test_the_boundary_stays_in_order():
    keep = joined(And((CUT, MODEL)), LEFT, "replace")
    assert keep == And((LEFT, CUT, MODEL))
    keep = joined(keep, RIGHT, "add")
    assert keep == And((Or((LEFT, RIGHT)), CUT, MODEL))
    keep = joined(keep, LOW, "subtract")
    assert keep == And((Or((LEFT, RIGHT)), Not(LOW), CUT, MODEL))
    assert joined(keep, ELSEWHERE, "add") == And((ELSEWHERE, Or((LEFT, RIGHT)), Not(LOW), CUT, MODEL))
    assert joined(keep, LOW, "replace") == joined(keep, LOW, "add")
    assert joined(keep, RIGHT, "intersect") == And((Or((LEFT, RIGHT)), RIGHT, Not(LOW), CUT, MODEL))
    back = joined(keep, LOW, "add")
    assert back == And((Or((And((Or((LEFT, RIGHT)), Not(LOW))), LOW)), CUT, MODEL))


def test_a_group_that_mixes_the_plane_with_others_is_opened_and_an_alternative_to_them_is_left_alone():
    assert joined(And((And((LEFT, CUT)), MODEL)), RIGHT, "add") == And((Or((LEFT, RIGHT)), CUT, MODEL))
    grouped = And((CUT, MODEL))
    assert joined(And((grouped,)), LEFT, "add") == And((LEFT, grouped))
    either = Or((LEFT, CUT))
    assert joined(either, RIGHT, "replace") == And((RIGHT, either))
    assert joined(Or(()), RIGHT, "add") == And((RIGHT, Or(())))  # nothing is kept, and stays so


def test_regions_on_a_plane_are_named_by_path_and_by_whether_they_count_for_or_against():
    keep = And((Or((LEFT, ELSEWHERE)), Not(RIGHT), Not(Or((CUT, Not(LOW))))))
    told = [(d.path, d.region, d.is_added) for d in drawn_on(keep, X, Y)]
    assert told == [((0, 0), LEFT, True), ((1, 0), RIGHT, False), ((2, 0, 1, 0), LOW, True)]
    assert [d.path for d in drawn_on(keep, OTHER, Y)] == [(0, 1)]
    assert drawn_on(keep, Y, X) == []


def test_a_region_takes_other_vertices_and_nothing_else_changes():
    keep = And((Or((LEFT, RIGHT)), CUT))
    assert reshaped(keep, (0, 1), [[0.2, -1], [1, 1]], X, Y) == And((Or((LEFT, box(0.2, 1, -1, 1))), CUT))
    with pytest.raises(BoundaryError, match="2 opposite corners, not 3"):
        reshaped(keep, (0, 1), [[0, 0], [1, 1], [1, 0]], X, Y)
    with pytest.raises(BoundaryError, match="finite"):
        reshaped(keep, (0, 1), [[0, 0], [math.inf, 1]], X, Y)
    for path in ((1,), (0,), ()):
        with pytest.raises(BoundaryError, match="has changed meanwhile"):
            reshaped(keep, path, [[0, 0], [1, 1]], X, Y)
    with pytest.raises(BoundaryError, match="no term at"):
        reshaped(keep, (5,), [[0, 0], [1, 1]], X, Y)


def test_a_region_that_is_removed_leaves_no_empty_group_behind():
    keep = And((Or((LEFT, RIGHT)), Not(LOW), CUT))
    assert without(keep, (0, 0), X, Y) == And((RIGHT, Not(LOW), CUT))
    assert without(keep, (1, 0), X, Y) == And((Or((LEFT, RIGHT)), CUT))
    assert without(And((LEFT,)), (0,), X, Y) == And(())
    assert without(LEFT, (), X, Y) == And(())
    assert columns(without(And((ELSEWHERE, LEFT)), (1,), X, Y)) == (OTHER, Y)
    with pytest.raises(BoundaryError, match="has changed meanwhile"):
        without(keep, (2,), X, Y)


def test_too_many_terms_are_refused():
    keep = And(tuple(Gate(OTHER, low=k / 300) for k in range(199)))
    with pytest.raises(BoundaryError, match="200 terms at most"):
        joined(keep, LEFT, "add")


@settings(max_examples=30)
@given(st.integers(3, 2000), st.integers(0, 2**32 - 1), st.floats(0, 30))
def test_a_simplified_outline_is_near_the_hands_line_and_small(n: int, seed: int, shake: float):
    random = np.random.default_rng(seed)
    turn = np.linspace(0, 2 * np.pi, n, endpoint=False)
    radius = 200 + random.normal(0, shake, n)
    pixels = np.column_stack((radius * np.cos(turn), radius * np.sin(turn)))
    per_pixel = 0.01, 250.0
    found, tolerance = simplified(pixels * per_pixel, per_pixel)
    assert 3 <= len(found) <= MOST_VERTICES
    at = [int(np.flatnonzero((pixels * per_pixel == v).all(axis=1))[0]) for v in found]
    assert at == sorted(at)  # some of its own, in their order
    a, b = found / per_pixel, np.roll(found / per_pixel, -1, axis=0)
    along = b - a
    away = pixels[:, None] - a
    share = np.clip((away * along).sum(2) / np.maximum((along**2).sum(1), 1e-30), 0, 1)
    assert np.hypot(*np.moveaxis(away - share[..., None] * along, 2, 0)).min(axis=1).max() <= tolerance + 1e-6


def test_a_circle_drawn_by_hand_loses_most_of_its_vertices_and_a_line_stays_an_outline():
    turn = np.linspace(0, 2 * np.pi, 1200)
    found, tolerance = simplified(np.column_stack((150 * np.cos(turn), 150 * np.sin(turn))), (1.0, 1.0))
    assert len(found) < 60
    assert tolerance == 1
    line, _ = simplified(np.column_stack((np.arange(50.0), np.zeros(50))), (1.0, 1.0))
    assert len(line) == 3
    dot, _ = simplified(np.zeros((5, 2)), (1.0, 1.0))
    assert len(dot) == 3
