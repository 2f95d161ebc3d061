"""λ: raw sums or standardised scores."""

import numpy as np
import pytest

from models.artifacts import ArtifactError
from models.mixing import center_and_spread, mix, standardise


def test_center_and_spread_are_the_median_and_the_median_distance_from_it() -> None:
    assert center_and_spread(np.array([1, 2, 3, 4, 100, np.nan, np.inf], np.float32)) == (3, 1)
    assert np.isnan(center_and_spread(np.full(3, np.nan, np.float32))).all()


def test_a_normal_sample_is_standardised_to_mean_0_and_deviation_1() -> None:
    sample = np.random.default_rng(0).normal(50, 7, 100_000).astype(np.float32)
    scores = standardise(np.append(sample, np.float32(np.nan)))
    assert scores.dtype == np.float32 and np.isnan(scores[-1])
    assert np.mean(scores[:-1]) == pytest.approx(0, abs=0.02)
    assert np.std(scores[:-1]) == pytest.approx(1, abs=0.02)


def test_a_score_that_is_mostly_one_value_cannot_be_standardised() -> None:
    mostly = np.array([2, 2, 2, 9], np.float32)
    with pytest.raises(ArtifactError, match="the feature score cannot be standardised, half of its values or"):
        mix(np.arange(4, dtype=np.float32), mostly, 0.2, "standardised")
    assert mix(np.arange(4, dtype=np.float32), mostly, 1.0).tolist() == mostly.tolist()


def test_the_unit_of_a_score_matters_to_raw_sums_only() -> None:
    random = np.random.default_rng(1)
    image, feature = random.gamma(2, 1, (2, 500)).astype(np.float32)
    raw, louder = (mix(image, feature * unit, 0.2) for unit in (1, 1000))
    assert np.argmax(raw) != np.argmax(louder) == np.argmax(feature)
    standardised = [mix(image, feature * unit, 0.2, "standardised") for unit in (1, 1000)]
    np.testing.assert_allclose(*standardised, rtol=1e-4, atol=1e-5)


def test_a_mix_is_float32_and_missing_where_either_is() -> None:
    image, feature = np.array([1, np.nan, 3], np.float32), np.array([10, 20, np.nan], np.float32)
    for mode in ("raw", "standardised"):
        mixed = mix(np.append(image, [5, 6]), np.append(feature, [1, 2]), 0.5, mode)  # type: ignore[arg-type]
        assert mixed.dtype == np.float32
        assert np.isnan(mixed).tolist() == [False, True, True, False, False]
    assert mix(image, feature, 0.5)[0] == 5.5
