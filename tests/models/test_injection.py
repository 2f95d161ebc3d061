"""Planted sources: flux, place, PSF and noise are what was asked for."""

import math

import numpy as np
import pytest

from models import injection
from models.injection import KINDS, Form, InjectionError, add, drawn, host_flux, planted, stored

SHAPE, CENTER = (161, 171), (85.0, 80.0)


def moments(light: np.ndarray, center: tuple[float, float] = CENTER) -> tuple[float, float, float]:
    """Mean x and y, and root mean square distance, from `center`, px."""
    y, x = np.indices(light.shape)
    x, y = x - center[0], y - center[1]
    share = light / light.sum()
    return float((share * x).sum()), float((share * y).sum()), float(np.sqrt((share * (x**2 + y**2)).sum()))


@pytest.mark.parametrize("kind", KINDS)
def test_flux_is_conserved_whatever_size_and_psf(kind: injection.Kind) -> None:
    for size, psf in ((2.0, 1.5), (12.0, 1.5), (12.0, 5.0), (20.0, 3.0)):
        light = drawn(Form(kind, size, psf, 0.6), SHAPE, CENTER)
        assert light.sum() == pytest.approx(1, abs=0.01), (size, psf)
        assert (light >= 0).all()


def test_what_lies_outside_of_the_image_is_lost() -> None:
    whole = drawn(Form("trail", 400, 2.0, 0.0), SHAPE, CENTER)
    assert whole.sum() == pytest.approx(171 / 400, rel=0.02)  # a trail from side to side


def test_a_point_is_as_wide_as_its_psf() -> None:
    for fwhm in (6.0, 12.0):
        row = drawn(Form("ring", 0.01, fwhm), (101, 101), (50, 50))[50, 50:]
        half = np.interp(-row[0] / 2, -row, np.arange(len(row)))  # falls from the middle on
        pixel = math.sqrt(fwhm**2 + 8 * math.log(2) / 12)  # the pixel adds 1/12 px² to the variance
        assert 2 * half == pytest.approx(pixel, rel=0.01)


def test_each_kind_is_where_its_size_says() -> None:
    size, angle = 20.0, math.radians(60)
    away = size * math.cos(angle), size * math.sin(angle)  # y grows downwards
    for kind in ("tail", "double"):
        x, y, _ = moments(drawn(Form(kind, size, 2.0, angle), SHAPE, CENTER))
        assert (x, y) == pytest.approx(away, abs=0.6), kind
    for kind in ("ring", "trail"):
        x, y, _ = moments(drawn(Form(kind, size, 2.0, angle), SHAPE, CENTER))
        assert (x, y) == pytest.approx((0, 0), abs=0.05), kind
    assert moments(drawn(Form("ring", size, 2.0), SHAPE, CENTER))[2] == pytest.approx(size, rel=0.05)
    x, y, spread = moments(drawn(Form("arc", size, 2.0, angle), SHAPE, CENTER))
    assert math.atan2(y, x) == pytest.approx(angle, abs=0.02)
    assert spread == pytest.approx(size, rel=0.05)  # all of it near the radius
    assert math.hypot(x, y) == pytest.approx(size * math.exp(-(injection.ARC_SIGMA**2) / 2), rel=0.05)


def test_a_tail_points_away_and_an_arc_lies_across() -> None:
    for kind, along in (("tail", True), ("arc", False)):
        light = drawn(Form(kind, 24.0, 2.0, 0.0), SHAPE, CENTER)
        y, x = np.indices(SHAPE)
        x = x - moments(light)[0] - CENTER[0]
        y = y - CENTER[1]
        spread_x, spread_y = (light * x**2).sum(), (light * y**2).sum()
        assert (spread_x > 3 * spread_y) == along, kind
        assert (spread_y > 3 * spread_x) != along, kind


def test_kinds_differ() -> None:
    lights = [drawn(Form(kind, 15.0, 2.5, 0.3), SHAPE, CENTER) for kind in KINDS]
    for i, one in enumerate(lights):
        for other in lights[:i]:
            assert np.abs(one - other).sum() > 0.3  # of at most 2


def test_flux_by_band_and_missing_pixels_stay() -> None:
    image = np.full((*SHAPE, 3), 7.0, np.float32)
    image[10, 20] = np.nan
    new = planted(image, "ring", [100, 0, 2000], 10.0, 2.0, np.random.default_rng(0), angle=0.0, center=CENTER)
    assert new.dtype == np.float32
    added = np.nansum(new.astype(np.float64) - 7, axis=(0, 1))
    assert added == pytest.approx([100, 0, 2000], rel=0.01, abs=1e-6)
    assert np.isnan(new[10, 20]).all() and np.isnan(new).sum() == 3
    assert (image[~np.isnan(image)] == 7).all()  # a copy


def test_the_same_seed_gives_the_same_image_and_another_does_not() -> None:
    image = np.zeros((*SHAPE, 1), np.float32)
    one, same, other = (
        planted(image, "arc", [500], 12.0, 2.0, np.random.default_rng(seed), gain=2.0) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_noise_of_the_source_is_that_of_its_photons() -> None:
    image = np.zeros((*SHAPE, 1), np.float32)
    light = drawn(Form("ring", 10.0, 3.0), SHAPE, CENTER)
    rng, gain, flux = np.random.default_rng(1), 4.0, 3000.0
    sums = [float(add(image, light, [flux], rng, gain).sum(dtype=np.float64)) for _ in range(400)]
    assert np.mean(sums) == pytest.approx(flux * light.sum(), abs=4 * math.sqrt(flux / gain / 400))
    assert np.std(sums) == pytest.approx(math.sqrt(flux / gain), rel=0.15)
    assert add(image, light, [flux], rng).sum(dtype=np.float64) == pytest.approx(flux * light.sum())  # none: no noise


def test_whole_values_keep_faint_light_and_their_range() -> None:
    rng = np.random.default_rng(2)
    values = np.full((200, 200, 1), 12.3, np.float32)
    held = stored(values, 255.0, rng)
    assert set(np.unique(held)) == {12, 13}
    assert held.mean() == pytest.approx(12.3, abs=0.01)
    whole = np.full((5, 5, 1), 9.0, np.float32)
    np.testing.assert_array_equal(stored(whole, 255.0, rng), whole)
    assert stored(values + 300, 255.0, rng).max() == 255
    assert stored(values, None, rng)[0, 0, 0] == np.float32(12.3)
    assert stored(values, None, rng, saturated=10.0).max() == 10
    assert stored(values, 1.0, rng).max() == 1


def test_flux_of_the_host_is_above_its_background() -> None:
    image = np.full((*SHAPE, 2), 5.0, np.float32)
    host = add(image, drawn(Form("double", 0.5, 3.0), SHAPE, CENTER), [400, 40], np.random.default_rng(0))
    host[3, 3] = np.nan
    left, top = 45, 40
    assert host_flux(host, (left, top, left + 81, top + 81)) == pytest.approx([400, 40], rel=0.02)


def test_what_cannot_be_planted_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InjectionError, match="there is no kind"):
        Form("jet", 1.0, 1.0)  # type: ignore[arg-type]
    for size, psf in ((0.0, 1.0), (1.0, -2.0), (math.nan, 1.0), (math.inf, 1.0)):
        with pytest.raises(InjectionError, match="is not possible"):
            Form("arc", size, psf)
    image, light = np.zeros((9, 9, 2), np.float32), np.zeros((9, 9))
    for flux in ([1.0], [1.0, -1.0], [1.0, math.nan]):
        with pytest.raises(InjectionError, match="each of 2 bands"):
            add(image, light, flux, np.random.default_rng(0))
    with pytest.raises(InjectionError, match="gain"):
        add(image, light, [1, 1], np.random.default_rng(0), 0.0)
    with pytest.raises(InjectionError, match="cannot be drawn"):
        drawn(Form("ring", 1e7, 1.0), (32, 32), (16, 16))
    monkeypatch.setitem(__import__("sys").modules, "galsim", None)
    with pytest.raises(InjectionError, match=r"voorwerp\[simulate\]"):
        drawn(Form("arc", 3.0, 1.0), (32, 32), (16, 16))
