"""Shapes on pixels: closed forms, and what turning, scaling and noise must not change."""

import numpy as np
import pytest

from models.morphology import CENTER_STEPS, asymmetry, ellipticity, n_peaks, shapes, sky

SIDE = 48


def gaussian(y0: float = 23.5, x0: float = 23.5, long: float = 5, short: float = 5, angle: float = 0) -> np.ndarray:
    """An elliptical Gaussian of peak 100; `angle` in radians."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(float)
    along = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
    across = -(x - x0) * np.sin(angle) + (y - y0) * np.cos(angle)
    return 100 * np.exp(-0.5 * ((along / long) ** 2 + (across / short) ** 2))


def test_what_is_symmetric_about_any_center_near_the_middle_has_no_asymmetry() -> None:
    for shift in (0.0, 0.5, -1.0):
        assert asymmetry(gaussian(23.5 + shift, 23.5 - shift, 6, 3, 0.7)[None])[0] == pytest.approx(0, abs=2e-3)


def test_what_has_nothing_on_its_other_side_has_an_asymmetry_of_two() -> None:
    assert asymmetry(gaussian(14, 14, 1.5, 1.5)[None])[0] == pytest.approx(2, abs=0.01)


def test_asymmetry_is_that_of_the_slow_way() -> None:
    image = np.random.default_rng(3).random((20, 20)).astype(np.float32)
    image[:3] = image[-3:] = image[:, :3] = image[:, -3:] = 0  # no sky noise: B is 0, and the sky's level too
    margin = -(-CENTER_STEPS // 2)
    least = np.inf
    for cy in np.arange(-CENTER_STEPS, CENTER_STEPS + 1) / 2 + 9.5:
        for cx in np.arange(-CENTER_STEPS, CENTER_STEPS + 1) / 2 + 9.5:
            differences = [
                abs(image[y, x] - image[min(max(int(2 * cy - y), 0), 19), min(max(int(2 * cx - x), 0), 19)])
                for y in range(margin, 20 - margin)
                for x in range(margin, 20 - margin)
            ]
            least = min(least, sum(differences))
    total = abs(image[margin : 20 - margin, margin : 20 - margin]).sum()
    assert asymmetry(image[None])[0] == pytest.approx(least / total, rel=1e-5)


def test_noise_alone_adds_next_to_nothing_and_a_companion_does() -> None:
    noise = np.random.default_rng(1).normal(0, 1, (40, SIDE, SIDE))
    alone = asymmetry(gaussian()[None] + noise)
    disturbed = asymmetry((gaussian() + gaussian(23.5, 36, 3, 3))[None] + noise)
    assert np.abs(alone).max() < 0.06
    assert disturbed.min() > 0.4


@pytest.mark.parametrize("ratio", [1.0, 0.6, 0.3])
@pytest.mark.parametrize("angle", [0.0, 0.5, 2.0])
def test_ellipticity_is_one_minus_the_axis_ratio(ratio: float, angle: float) -> None:
    image = gaussian(long=5, short=5 * ratio, angle=angle)
    assert ellipticity(image[None])[0] == pytest.approx(1 - ratio, abs=0.03)


def test_ellipticity_is_that_of_the_source_in_the_middle() -> None:
    neighbor = gaussian(6, 40, 2, 2)
    assert ellipticity((gaussian(long=5, short=2.5) + neighbor)[None])[0] == pytest.approx(0.5, abs=0.03)


def test_peaks_are_counted_one_by_one() -> None:
    one, two = gaussian(), gaussian(14, 14, 2, 2) + gaussian(33, 33, 2, 2)
    faint = gaussian() + 0.1 * gaussian(8, 8, 2, 2)  # a tenth of the brightest
    noise = np.random.default_rng(2).normal(0, 1, (SIDE, SIDE))
    assert n_peaks(np.stack([one, two, faint, one + noise, two + noise])).tolist() == [1, 2, 1, 1, 2]


def test_scale_level_and_company_change_nothing() -> None:
    noise = np.random.default_rng(5).normal(0, 1, (3, SIDE, SIDE))
    images = np.stack([gaussian(), gaussian(long=6, short=2), gaussian(20, 28, 3, 3)]) + noise
    together = shapes(images)
    for i, image in enumerate(images):
        alone = shapes((7 * image + 300)[None])
        for one, many in zip(alone, together, strict=True):
            assert one[0] == pytest.approx(many[i], rel=1e-4, abs=1e-5)


def test_an_empty_image_has_no_shape() -> None:
    measured = shapes(np.zeros((1, 32, 32)))
    assert np.isnan(measured.asymmetry[0])
    assert measured.n_peaks[0] == 0
    assert np.isnan(measured.ellipticity[0])


def test_the_sky_is_measured_in_the_frame() -> None:
    images = np.random.default_rng(0).normal(50, 3, (5, 64, 64))
    images[:, 20:44, 20:44] += 1000
    level, noise = sky(images)
    assert np.abs(level.ravel() - 50).max() < 0.5
    assert np.abs(noise.ravel() - 3).max() < 0.3
