"""The radix sort, against numpy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from explorer.services import orders
from explorer.services.orders import argsort, warm

KERNELS = (orders._keys, orders._counts, orders._sorted_rows)


def slow(values: np.ndarray, descending: bool) -> np.ndarray:
    missing = np.isnan(values)
    keys = np.where(missing, np.inf, -values if descending else values)
    return np.lexsort([np.arange(len(values)), keys, missing]).astype(np.uint32)


def check(values: np.ndarray) -> None:
    for descending in (False, True):
        order = argsort(values, descending=descending)
        assert order.dtype == np.uint32
        np.testing.assert_array_equal(order, slow(values, descending))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_floats_sort_as_numpys_stable_sort_does(dtype):
    few = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1.0, -1.0, float(np.finfo(dtype).smallest_subnormal)]
    width = 8 * np.dtype(dtype).itemsize
    elements = st.sampled_from(few) | st.floats(width=width)

    @given(hnp.arrays(dtype, st.integers(0, 60), elements=elements))
    def compare(values: np.ndarray) -> None:
        check(values)

    compare()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_values_of_every_size_sort_as_numpys_do(dtype):
    rng = np.random.default_rng(0)
    values = (rng.standard_normal(20_000) * 10.0 ** rng.integers(-30, 30, 20_000)).astype(dtype)
    values[rng.random(20_000) < 0.1] = np.nan
    check(values)
    check(np.round(values.clip(-9, 9)))  # ties
    check(values[::-3])  # not contiguous


def test_minus_zero_is_zero_and_ties_go_by_row_both_ways():
    values = np.array([0.0, 1.0, -0.0, 1.0, np.nan, 0.0])
    assert argsort(values).tolist() == [0, 2, 5, 1, 3, 4]
    assert argsort(values, descending=True).tolist() == [1, 3, 0, 2, 5, 4]


def test_infinities_stand_before_what_is_missing():
    values = np.array([np.nan, np.inf, -np.inf, 0.0], np.float32)
    assert argsort(values).tolist() == [2, 3, 1, 0]
    assert argsort(values, descending=True).tolist() == [1, 3, 2, 0]


def test_whole_numbers_sort_and_an_empty_column_has_no_order():
    assert argsort(np.array([3, 1, 2])).tolist() == [1, 2, 0]
    assert argsort(np.array([], np.float32)).tolist() == []


def test_the_column_is_left_as_it_was():
    values = np.array([2.0, -0.0, 1.0])
    argsort(values)
    assert np.signbit(values).tolist() == [False, True, False]


def test_only_one_column_is_sorted():
    with pytest.raises(ValueError, match=r"one column is sorted, not an array of shape \(2, 2\)"):
        argsort(np.zeros((2, 2)))


def test_after_warming_up_no_column_waits_for_a_compiler():
    warm()
    before = {kernel: len(kernel.signatures) for kernel in KERNELS}
    for dtype in (np.float32, np.float64):
        column = np.arange(5, dtype=dtype)
        argsort(column)
        column.flags.writeable = False
        argsort(column, descending=True)
    assert {kernel: len(kernel.signatures) for kernel in KERNELS} == before
