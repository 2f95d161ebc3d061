"""The radix sort, against numpy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from explorer.services import orders
from explorer.services.orders import Orders, argsort, below, mixed, narrowed, page, percentile, place, rows_at, warm
from explorer.state import Selection
from models.mixing import mix

KERNELS = [kernel for kernel in vars(orders).values() if hasattr(kernel, "signatures")]
LONG = 700_000  # more than one thread's work


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


def columns(n: int) -> dict[str, np.ndarray]:
    """Columns that each make sorting hard in their own way."""
    rng = np.random.default_rng(n)
    values = rng.standard_normal(n)
    gaps = np.where(rng.random(n) < 0.3, np.nan, values)
    return {
        "continuous": values,
        "single precision": values.astype(np.float32),
        "missing": gaps,
        "mostly missing": np.where(rng.random(n) < 0.999, np.nan, values).astype(np.float32),
        "few values": rng.integers(0, 3, n).astype(np.float32),
        "one value": np.full(n, 2.5),
        "one value and a few": np.where(rng.random(n) < 1e-4, values, 7.0),
        "in order": np.arange(n, dtype=np.float32),
        "of every size": values * 10.0 ** rng.integers(-30, 30, n),
        "a wave": np.sin(np.arange(n) * (2 * np.pi / 64)),
    }


@pytest.mark.parametrize("name", columns(1))
def test_a_long_column_sorts_as_numpys_does_and_any_page_of_it_is_a_part_of_that(name: str):
    values = columns(LONG)[name]
    within = Selection.of_rows(np.flatnonzero(np.random.default_rng(1).random(LONG) < 0.4), LONG)
    for descending in (False, True):
        order = argsort(values, descending=descending)
        np.testing.assert_array_equal(order, slow(values, descending))
        some = order[within.mask()[order]]
        np.testing.assert_array_equal(narrowed(order, within), some)
        for whole, of in ((order, None), (some, within)):
            for start in (0, 1, len(whole) // 3, len(whole) - 30, len(whole)):
                found = page(values, start, 50, descending=descending, within=of)
                np.testing.assert_array_equal(found, whole[start : start + 50])
            for at in (0, len(whole) // 2, len(whole) - 1):
                assert place(values, int(whole[at]), descending=descending, within=of) == at


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_pages_of_any_floats_are_parts_of_numpys_stable_sort(dtype):
    few = [0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, 1.0]
    elements = st.sampled_from(few) | st.floats(width=8 * np.dtype(dtype).itemsize)

    @given(
        hnp.arrays(dtype, st.integers(1, 300), elements=elements), st.integers(0, 300), st.integers(1, 300), st.data()
    )
    def compare(values: np.ndarray, start: int, count: int, data: st.DataObject) -> None:
        n = len(values)
        mask = data.draw(hnp.arrays(np.bool_, n))
        within = Selection.of_rows(np.flatnonzero(mask), n)
        for descending in (False, True):
            order = slow(values, descending)
            some = order[mask[order]]
            assert page(values, start, count, descending=descending).tolist() == order[start : start + count].tolist()
            found = page(values, start, count, descending=descending, within=within)
            assert found.tolist() == some[start : start + count].tolist()
        assert rows_at(within, start, count).tolist() == np.flatnonzero(mask)[start : start + count].tolist()
        row = data.draw(st.integers(0, n - 1))
        assert within.rank(row) == mask[:row].sum()
        if np.isfinite(values[row]):
            finite = values[np.isfinite(values)]
            assert below(values, values[row]) == ((finite < values[row]).sum(), len(finite))

    compare()


def test_a_sample_that_misleads_costs_time_and_not_the_order(monkeypatch: pytest.MonkeyPatch):
    values = np.random.default_rng(0).random(5000)
    right = slow(values, False)
    for ends in ((2**63, 2**63 + 1), (0, 2**64 - 1), (2**64 - 2, 2**64 - 1)):
        monkeypatch.setattr(orders, "_ends", lambda *_, ends=ends: tuple(map(np.uint64, ends)))
        assert page(values, 70, 20).tolist() == right[70:90].tolist()


def test_the_mixed_score_is_to_the_bit_what_numpy_makes_of_it():
    rng = np.random.default_rng(0)
    image, feature = rng.standard_normal((2, LONG)).astype(np.float32)
    image[::7] = np.nan
    for weight in (0.0, 0.2, 1 / 3, 1.0):
        np.testing.assert_array_equal(mixed(image, feature, weight), mix(image, feature, weight))


def test_pages_are_the_same_before_and_after_the_order_is_there():
    rng = np.random.default_rng(3)
    values, n_read = rng.standard_normal(LONG), []

    def read() -> np.ndarray:
        n_read.append(1)
        return values

    kept = Orders(LONG)
    some = Selection.of_rows(np.flatnonzero(rng.random(LONG) < 0.5), LONG)
    few = Selection.of_rows([5, 3, 77, LONG - 1], LONG)
    places = [(0, 100), (some.count // 2, 100), (some.count - 10, 100), (some.count, 5), (3, 0)]
    told = [(within, *at) for within in (None, some, few) for at in places]
    before = [kept.page("column", read, True, *one).tolist() for one in told]
    assert not kept.is_whole("column", True) or kept.whole("column", read, True) is not None
    whole = kept.whole("column", read, True)
    n_read.clear()
    assert [kept.page("column", read, True, *one).tolist() for one in told] == before
    assert not n_read
    order = slow(values, True)
    np.testing.assert_array_equal(whole, order)
    for (within, start, count), found in zip(told, before, strict=True):
        rows = order if within is None else order[within.mask()[order]]
        assert found == rows[start : start + count].tolist()
    np.testing.assert_array_equal(kept.of("column", read, True, some), order[some.mask()[order]])
    np.testing.assert_array_equal(
        kept.of("column", read, False, few), slow(values, False)[few.mask()[slow(values, False)]]
    )


def test_of_several_orders_that_are_asked_for_in_turn_the_last_is_made(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(orders, "_SETTLED", 60)
    kept, values = Orders(10), np.arange(10.0)
    for weight in range(4):
        kept.prepare(("score", weight), lambda: values, False)
    monkeypatch.setattr(orders, "_SETTLED", 0)
    kept.prepare(("score", 4), lambda: values, False)
    kept.wait()
    assert [kept.is_whole(("score", weight), False) for weight in range(5)] == [False] * 4 + [True]


def test_orders_are_kept_by_their_bytes():
    kept = Orders(1000, nbytes=9000)
    for weight in range(4):
        kept.whole(weight, lambda: np.arange(1000.0), False)
    assert [kept.is_whole(weight, False) for weight in range(4)] == [False, False, True, True]


def test_after_warming_up_no_column_waits_for_a_compiler():
    warm()
    before = {kernel: len(kernel.signatures) for kernel in KERNELS}
    some = Selection.of_rows([0, 3], 5)
    for dtype in (np.float32, np.float64):
        column = np.arange(5, dtype=dtype)
        argsort(column)
        column.flags.writeable = False
        argsort(column, descending=True)
        for within in (None, some):
            page(column, 1, 2, within=within)
            place(column, 3, within=within)
        below(column, 2)
        long = np.zeros(LONG, dtype)
        argsort(long)
        page(long, 5, 2)
    mixed(long.astype(np.float32), np.zeros(LONG, np.float32), 0.2)
    kept = Orders(5)
    kept.whole("column", lambda: column, False)
    kept.page("column", lambda: column, False, some, 0, 1)
    assert {kernel: len(kernel.signatures) for kernel in KERNELS} == before


def test_percentiles_of_a_long_column_are_numpys():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(LONG)
    values[::9] = np.nan
    for percent in (0, 0.1, 50, 99, 99.9, 100):
        assert percentile(values, percent) == pytest.approx(np.nanpercentile(values, percent), rel=1e-12)
    assert np.isnan(percentile(np.full(3, np.nan), 50))
    assert percentile(np.array([1.0, -np.inf]), 50) is None
    assert percentile(np.array([4.0], np.float32), 99) == 4
    assert percentile(np.arange(1001.0), 99.9) == 999  # where a value stands there is nothing to interpolate
