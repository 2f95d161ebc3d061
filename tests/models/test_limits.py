"""Limits on columns in single precision are those that a person meant; on all others they are exact."""

import math

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from models.boundary import Gate
from models.limits import FIRST, between, is_single

limits = st.floats(allow_nan=False, allow_infinity=False)
MOST = float(np.finfo(np.float32).max)


@given(st.integers(0, 200), st.integers(1, 200))
def test_k_of_n_is_at_its_own_fraction_in_either_precision(k: int, n: int) -> None:
    k = min(k, n)
    single, double = np.array([k / n], np.float32), np.array([k / n])
    for values in (single, single.astype(np.float64), double):
        assert between(values, low=k / n).all() and between(values, high=k / n).all()
        assert not between(values, low=k / n + 1e-6).any() and not between(values, high=k / n - 1e-6).any()


def test_seven_of_ten_is_at_a_typed_limit() -> None:
    values = np.array([0.6, 0.7, 0.8, np.nan], np.float32)
    for held in (values, values.astype(np.float64)):
        assert between(held, low=0.7).tolist() == [False, True, True, False]
        assert between(held, high=0.7).tolist() == [True, True, False, False]
    assert between(np.array([0, 1]), low=0.7).tolist() == [False, True]
    assert Gate("subjects.f", low=0.7).low == 0.7  # what was typed is kept


@given(st.lists(st.floats(width=32), min_size=1), limits)
@example([math.inf, MOST, -MOST, -math.inf], 1e300)
@example([math.inf, MOST, -MOST, -math.inf], -1e300)
def test_single_precision_compares_with_the_nearest_of_its_numbers(values: list[float], limit: float) -> None:
    array = np.array(values, np.float32)
    with np.errstate(over="ignore"):
        near = float(np.float32(limit))
    near = limit if math.isinf(near) else near
    low, high = [v >= near for v in array.tolist()], [v <= near for v in array.tolist()]
    assert between(array, low=limit).tolist() == between(array.astype(np.float64), low=limit).tolist() == low
    assert between(array, high=limit).tolist() == between(array.astype(np.float64), high=limit).tolist() == high


@given(st.lists(st.floats(), min_size=1), limits)
def test_double_precision_compares_exactly(values: list[float], limit: float) -> None:
    array = np.array([*values, 0.1 + 0.2])  # which is none of single precision
    assert between(array, low=limit).tolist() == [v >= limit for v in array.tolist()]
    assert between(array, high=limit).tolist() == [v <= limit for v in array.tolist()]


def test_one_number_of_double_precision_anywhere_is_seen() -> None:
    values = np.zeros(FIRST + 10)
    assert is_single(values) and is_single(np.array([np.nan, np.inf, 0.5])) and is_single(np.array([]))
    for at in (0, FIRST - 1, FIRST, len(values) - 1):
        one = values.copy()
        one[at] = 0.1
        assert not is_single(one) and is_single(one.astype(np.float32))
