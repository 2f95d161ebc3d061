"""`models.images`: what is read, what is refused and why, and every promise of the docstrings."""

import gzip
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.visualization import make_lupton_rgb
from astropy.wcs import WCS
from PIL import Image

from models.images import (
    MAX_PIXELS,
    PERCENTILES,
    QUALITY_COLUMNS,
    THUMBNAIL_SIDE,
    Crop,
    ImageError,
    Linear,
    Stretch,
    area_average,
    background_rms,
    corner,
    cut_out,
    decode,
    digest,
    is_color,
    media_type,
    open_header,
    prepare,
    prepare_linear,
    read_linear,
    reduced,
    rgb_of,
    write_linear,
)


def encoded(pixels: np.ndarray, kind: str = "PNG", mode: str | None = None) -> bytes:
    """An image file's bytes."""
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, kind)
    return buffer.getvalue()


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, shape, np.uint8)


def png_of_size(width: int, height: int, depth: int = 8, color: int = 2, data: bytes = bytes(100)) -> bytes:
    """A PNG of any header and data."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


# ------------------------------------------------------------------------------------------------- area averaging
def slow_area_average(pixels: np.ndarray, size: int) -> np.ndarray:
    """Every output pixel, one input pixel at a time."""
    height, width, n_bands = pixels.shape
    result = np.zeros((size, size, n_bands))
    for i in range(size):
        for j in range(size):
            y0, y1 = i * height / size, (i + 1) * height / size
            x0, x1 = j * width / size, (j + 1) * width / size
            area = 0.0
            for y in range(height):
                for x in range(width):
                    a = max(0, min(y1, y + 1) - max(y0, y)) * max(0, min(x1, x + 1) - max(x0, x))
                    result[i, j] += a * pixels[y, x]
                    area += a
            result[i, j] /= area
    return result


@pytest.mark.parametrize(
    ("height", "width", "size", "n_bands"),
    [(16, 16, 8, 3), (21, 21, 8, 3), (13, 29, 10, 1), (8, 8, 8, 3), (5, 7, 12, 3), (31, 30, 9, 5)],
)
def test_area_average_equals_the_slow_obvious_one(height: int, width: int, size: int, n_bands: int) -> None:
    pixels = noise(height, width, n_bands)
    assert np.allclose(area_average(pixels, size), slow_area_average(pixels, size), atol=1e-3)


def test_area_average_keeps_the_mean_and_the_units_of_16_bits() -> None:
    pixels = np.random.default_rng(1).integers(0, 65536, (53, 47, 1)).astype(np.uint16)
    assert area_average(pixels, 11).mean() == pytest.approx(pixels.mean(), rel=1e-5)


# --------------------------------------------------------------------------------------------------------- what is read
def test_the_center_is_cut_and_averaged() -> None:
    pixels = noise(40, 40, 3)
    made = prepare(encoded(pixels), Crop(8, "center", 16))
    expected = np.floor(area_average(pixels[12:28, 12:28], 8) + 0.5)
    assert np.array_equal(made.crop, expected.astype(np.uint8))


def test_without_an_extent_the_pixels_stay_as_they_are() -> None:
    pixels = noise(40, 41, 3)
    assert np.array_equal(prepare(encoded(pixels), Crop(16)).crop, pixels[12:28, 12:28])


def test_resize_takes_the_whole_image_and_squeezes_it() -> None:
    pixels = noise(20, 40, 3)
    made = prepare(encoded(pixels), Crop(10, "resize"))
    assert np.allclose(made.crop, area_average(pixels, 10), atol=0.51)


def test_grey_stays_one_band_or_becomes_three_equal_ones() -> None:
    grey = encoded(noise(20, 20))
    one, three = (prepare(grey, Crop(10, "resize", n_bands=n)).crop for n in (1, 3))
    assert one.shape == (10, 10, 1)
    assert np.array_equal(three, np.repeat(one, 3, axis=2))


def test_16_bits_are_scaled_from_their_full_range() -> None:
    pixels = np.linspace(0, 65535, 16 * 16).reshape(16, 16).astype(np.uint16)
    for kind in ("PNG", "TIFF"):
        made = prepare(encoded(pixels, kind), Crop(16, n_bands=1))
        assert np.abs(made.crop[:, :, 0] - pixels / 257).max() <= 0.51


@pytest.mark.parametrize(("color", "n_channels"), [(2, 3), (4, 2), (6, 4)])
def test_a_png_of_16_bits_a_color_is_refused_and_names_the_way_out(color: int, n_channels: int) -> None:
    rows = b"".join(b"\x00" + bytes(range(i, i + 16 * n_channels)) for i in range(8))
    with pytest.raises(ImageError, match="of which only 8 would be read; save it as 16-bit TIFF or FITS"):
        open_header(png_of_size(8, 8, 16, color, rows))
    assert open_header(png_of_size(8, 8, 16, 0)).mode == "I;16"


def test_floats_from_0_to_1_are_read_and_others_refused() -> None:
    pixels = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    made = prepare(encoded(pixels, "TIFF"), Crop(16, n_bands=1))
    assert np.abs(made.crop[:, :, 0] - pixels * 255).max() <= 0.51
    with pytest.raises(ImageError, match="float values from 0 to 3; only 0 to 1 is read"):
        prepare(encoded(3 * pixels, "TIFF"), Crop(16, n_bands=1))


def test_32_bit_integers_outside_16_bits_are_refused() -> None:
    pixels = np.arange(256, dtype=np.int32).reshape(16, 16) * 1000
    with pytest.raises(ImageError, match="integer values from 0 to 255000; only 0 to 65535"):
        prepare(encoded(pixels, "TIFF"), Crop(16, n_bands=1))


def test_palettes_are_looked_up_and_transparent_pixels_lie_over_black() -> None:
    pixels = noise(16, 16, 3)
    palette = Image.fromarray(pixels).convert("P", palette=Image.Palette.ADAPTIVE)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    assert np.array_equal(prepare(buffer.getvalue(), Crop(16)).crop, np.asarray(palette.convert("RGB")))
    alpha = np.full((16, 16, 1), 255, np.uint8)
    alpha[:8] = 0
    crop = prepare(encoded(np.concatenate([pixels, alpha], axis=2)), Crop(16)).crop
    assert not crop[:8].any()
    assert np.array_equal(crop[8:], pixels[8:])


def test_a_color_image_in_a_grey_survey_is_refused() -> None:
    with pytest.raises(ImageError, match="is a color image in a survey of grey images"):
        prepare(encoded(noise(16, 16, 3)), Crop(16, n_bands=1))
    with open_header(encoded(noise(16, 16))) as grey, open_header(encoded(noise(16, 16, 3))) as color:
        assert (is_color(grey), is_color(color)) == (False, True)


# --------------------------------------------------------------------------------------------------- what is refused
def test_a_huge_header_is_refused_before_memory_is_asked_for() -> None:
    with pytest.raises(ImageError, match="promises"):
        open_header(png_of_size(100_000, 100_000))
    with pytest.raises(ImageError, match=f"10,000 × 10,000 pixels; at most {MAX_PIXELS:,}"):
        open_header(png_of_size(10_000, 10_000))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_truncated_files_are_refused(kind: str, share: float) -> None:
    content = encoded(noise(64, 64, 3), kind)
    with pytest.raises(ImageError):
        prepare(content[: int(len(content) * share)], Crop(32))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"\x00" * 1000, "is not a PNG, JPEG or TIFF image"),
        (b"<html>not found</html>", "is not a PNG, JPEG or TIFF image"),
        (encoded(np.full((32, 32, 3), 7, np.uint8)), "constant: every pixel is 7, 7, 7"),
        (encoded(np.full((32, 32, 3), (10, 20, 30), np.uint8)), "constant: every pixel is 10, 20, 30"),
        (encoded(np.zeros((32, 32, 3), np.uint8), "JPEG"), "constant: every pixel is 0, 0, 0"),
        (encoded(np.full((32, 32), np.nan, np.float32), "TIFF"), "every value is missing"),
    ],
)
def test_what_cannot_be_a_subject_is_refused_with_its_reason(content: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        prepare(content, Crop(16))


def test_other_formats_are_not_tried() -> None:
    with pytest.raises(ImageError, match="is not a PNG, JPEG or TIFF image"):
        prepare(encoded(noise(16, 16, 3), "GIF"), Crop(16))


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is not a regular file"):
        open_header(tmp_path)
    with pytest.raises(ImageError, match="there is no such file"):
        open_header(tmp_path / "absent.png")


# ------------------------------------------------------------------------------------------------------------ quality
def test_quality_columns() -> None:
    assert QUALITY_COLUMNS == ("edge_fraction", "saturated_fraction", "nan_fraction", "background_rms")
    pixels = noise(20, 20, 3)
    pixels[5:10, 5:15] = 255  # a quarter of the central 10 × 20, half of the central 10 × 10
    edge, saturated, missing, _ = prepare(encoded(pixels), Crop(10)).quality
    assert (edge, missing) == (0, 0)
    assert saturated == pytest.approx(0.5)


def test_outside_the_image_the_median_is_filled_in() -> None:
    pixels = noise(10, 10, 3)
    made = prepare(encoded(pixels), Crop(20))
    assert made.quality[0] == pytest.approx(0.75)
    assert np.array_equal(made.crop[5:15, 5:15], pixels)
    assert np.array_equal(made.crop[0, 0], np.median(pixels, axis=(0, 1)).astype(np.uint8))


def test_missing_values_are_counted_and_filled_with_the_median() -> None:
    pixels = np.random.default_rng(0).uniform(0, 1, (16, 16)).astype(np.float32)
    pixels[:4] = np.nan
    made = prepare(encoded(pixels, "TIFF"), Crop(16, n_bands=1))
    assert made.quality[2] == pytest.approx(0.25)
    assert np.abs(made.crop[:4] / 255 - np.median(pixels[4:])).max() < 0.01


def test_background_rms_is_the_noise_of_the_outer_frame() -> None:
    pixels = np.random.default_rng(0).normal(50, 4, (64, 64, 1)).astype(np.float32)
    pixels[10:54, 10:54] += 100  # a source, which the frame does not see
    assert background_rms(pixels) == pytest.approx(4, rel=0.1)


# ------------------------------------------------------------------------------------- thumbnail, digest, cut-outs
@pytest.mark.parametrize(("height", "width"), [(423, 423), (200, 1000), (128, 64), (40, 50), (1300, 3)])
def test_a_thumbnail_shows_the_whole_image_and_is_never_enlarged(height: int, width: int) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2] = 200
    made = prepare(encoded(pixels), Crop(8, "resize"))
    image = Image.open(io.BytesIO(made.thumbnail))
    scale = min(1, THUMBNAIL_SIDE / max(height, width))
    assert image.format == "JPEG"
    assert image.size == (max(1, round(width * scale)), max(1, round(height * scale)))
    shown = np.asarray(image)
    assert abs(int(shown[1, 0, 0]) - 200) < 12
    assert shown[-2, 0, 0] < 12


def test_what_is_missing_is_grey_on_a_thumbnail() -> None:
    pixels = np.zeros((32, 32), np.float32)
    pixels[:16] = 0.8
    pixels[8:24, 8:24] = np.nan
    pixels[10:20, 10:20] = np.inf
    shown = np.asarray(Image.open(io.BytesIO(prepare(encoded(pixels, "TIFF"), Crop(8, "resize", n_bands=1)).thumbnail)))
    assert (abs(shown[11:21, 11:21].astype(int) - 128) < 12).all()
    assert shown[2, 2] > 190
    assert shown[30, 2] < 12


def test_digests_are_equal_when_pixels_are() -> None:
    pixels = noise(16, 16, 3)
    png, tiff = (prepare(encoded(pixels, kind), Crop(16)) for kind in ("PNG", "TIFF"))
    assert png.digest == tiff.digest == digest(pixels)
    pixels[3, 3, 0] ^= 1
    assert digest(pixels) != png.digest


def test_media_types() -> None:
    pixels = noise(8, 8, 3)
    for kind in ("PNG", "JPEG", "TIFF"):
        assert media_type(encoded(pixels, kind)) == f"image/{kind.lower()}"
    assert media_type(b"GIF89a") == "application/octet-stream"


def test_a_cut_out_is_centered_on_its_source_and_keeps_its_surroundings() -> None:
    pixels = noise(100, 120, 3)
    with open_header(encoded(pixels)) as header:
        image = decode(header, 3)
        made, original = cut_out(image, 60.0, 40.0, 25, Crop(9))
        assert np.array_equal(made.crop, pixels[36:45, 56:65])
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(original))), pixels[28:53, 48:73])
        made, original = cut_out(image, 1.0, 40.0, 25, Crop(9))
    assert made.quality[0] == pytest.approx(3 / 9)
    assert Image.open(io.BytesIO(original)).size == (14, 25)


def test_the_corner_puts_the_middle_next_to_the_center() -> None:
    assert corner(60.0, 9) == 56
    for side in (8, 9):
        for center in np.linspace(20, 21, 11):
            assert abs(corner(center, side) + (side - 1) / 2 - center) <= 0.5 + 1e-9


# ------------------------------------------------------------------------------------------- linear values and stretch
def measured(height: int = 30, width: int = 40, bands: int = 3, seed: int = 0) -> np.ndarray:
    """Noise around 2 with a bright source in the middle."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    source = 40 * np.exp(-((y - height / 2) ** 2 + (x - width / 2) ** 2) / 20)
    return (rng.normal(2, 1, (height, width, bands)) + source[:, :, None]).astype(np.float32)


@pytest.mark.parametrize(("q", "stretch", "minimum"), [(8.0, 5.0, 0.0), (3.0, 0.5, -2.0), (20.0, 100.0, 1.5)])
def test_the_lupton_stretch_of_three_bands_is_the_one_of_astropy(q: float, stretch: float, minimum: float) -> None:
    values = measured(seed=3).astype(np.float64)
    red, green, blue = (values[:, :, band] for band in range(3))
    theirs = make_lupton_rgb(red, green, blue, minimum=minimum, stretch=stretch, Q=q)
    ours = Stretch("lupton", q=q, stretch=stretch, minimum=minimum).apply(values)
    assert np.abs((ours * 255).astype(np.uint8).astype(int) - theirs).max() <= 1
    assert ours.max() > 0.04  # something is shown at all


def test_one_and_five_bands_have_a_lupton_stretch_too() -> None:
    for bands in (1, 5):
        shown = Stretch("lupton", q=8, stretch=5, minimum=0).apply(measured(bands=bands))
        assert shown.shape[2] == bands
        assert 0 <= shown.min() < shown.max() <= 1
    one = measured(bands=1)
    slope = 0.1 / np.arcsinh(0.8)
    expected = np.clip(slope * np.arcsinh(8 * np.clip(one, 0, None) / 5), 0, 1)
    assert np.allclose(Stretch("lupton", q=8, stretch=5, minimum=0).apply(one), expected, atol=1e-6)


def test_a_missing_band_does_not_hide_the_others_and_stays_missing() -> None:
    values = measured()
    values[3, 4, 1] = np.nan
    for stretch in (Stretch("lupton", q=8, stretch=5, minimum=0), Stretch("linear", (0,), (10,)), Stretch()):
        shown = stretch.apply(values, 100.0)
        assert np.isnan(shown[3, 4]).tolist() == [False, True, False]
        assert np.isfinite(np.delete(shown.reshape(-1, 3), 3 * 40 + 4, axis=0)).all()


def test_linear_goes_from_low_to_high_of_each_band_and_is_cut_there() -> None:
    values = np.array([[[0, 0], [5, 5], [10, 10], [20, 20]]], np.float32)
    shown = Stretch("linear", (0, 5), (10, 15)).apply(values)
    assert np.allclose(shown, [[[0, 0], [0.5, 0], [1, 0.5], [1, 1]]])
    assert np.allclose(Stretch("linear", (0,), (10,)).apply(values)[..., 1], [[0, 0.5, 1, 1]])


def test_percentiles_come_from_the_sample_and_each_image_has_its_own_only_where_asked() -> None:
    sample = np.stack([np.arange(1001.0), 2 * np.arange(1001.0)], axis=1)
    sample[::7] = np.nan
    known = sample[np.isfinite(sample[:, 0])]
    stretch = Stretch("percentile", percentiles=(10, 90)).derived(sample)
    assert np.allclose(stretch.low, np.percentile(known, 10, axis=0))
    assert np.allclose(stretch.high, np.percentile(known, 90, axis=0))
    assert Stretch("percentile").derived(sample).percentiles == PERCENTILES
    dim, bright = measured(bands=1), 100 * measured(bands=1)
    each = Stretch("percentile", per_image=True)
    assert np.allclose(each.apply(dim), each.apply(bright), atol=1e-5)
    together = Stretch("percentile").derived(dim.reshape(-1, 1))
    assert together.apply(bright).mean() > 2 * together.apply(dim).mean()


def test_what_a_lupton_stretch_leaves_open_is_derived_from_the_noise() -> None:
    sample = np.random.default_rng(0).normal(7, 2, (100_000, 3))
    derived = Stretch("lupton").derived(sample)
    noise = 2 / np.sqrt(3)
    assert derived.q == 8
    assert derived.minimum == pytest.approx(7 - 2 * noise, abs=0.05)
    assert derived.stretch == pytest.approx(20 * noise, rel=0.02)
    told = Stretch("lupton", q=3, minimum=1).derived(sample)
    assert (told.q, told.minimum) == (3, 1)


@pytest.mark.parametrize(
    "stretch",
    [
        Stretch(),
        Stretch("linear", (0.0, 1.0), (5.0, 6.0)),
        Stretch("percentile", (0.0,), (5.0,), (1.0, 99.0)),
        Stretch("percentile", per_image=True),
        Stretch("lupton", q=8.0, stretch=0.5, minimum=-0.1),
    ],
)
def test_a_stretch_survives_json(stretch: Stretch) -> None:
    assert Stretch.from_dict(json.loads(json.dumps(stretch.to_dict()))) == stretch


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"mode": "log"}, 'there is no stretch "log"'),
        ({"mode": "linear", "low": [1], "high": [1]}, "a higher high value"),
        ({"mode": "linear", "low": [1, 2], "high": [3]}, "for each band"),
        ({"mode": "linear", "low": [float("nan")], "high": [3]}, "finite numbers"),
        ({"mode": "linear", "low": ["a"], "high": ["b"]}, "finite numbers"),
        ({"mode": "percentile", "percentiles": [99, 1]}, "the lower one first"),
        ({"mode": "lupton", "q": 0}, "above 0"),
        ({"mode": "linear", "gamma": 2}, 'a stretch has no "gamma"'),
    ],
)
def test_a_stretch_that_is_not_possible_is_refused(told: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Stretch.from_dict(told)


def test_values_are_averaged_before_they_are_stretched() -> None:
    values = measured(32, 32)
    stretch = Stretch("lupton", q=8, stretch=2, minimum=0)
    made = prepare_linear(Linear(values), 0, 0, None, Crop(8, "resize"), stretch)
    expected = stretch.apply(area_average(values, 8)) * 255
    assert np.abs(made.crop - expected).max() <= 0.51
    after = area_average(stretch.apply(values), 8) * 255
    assert np.abs(made.crop - after).max() > 2  # the other order would be another image


def test_eight_bits_as_linear_values_give_the_crop_of_the_fast_path() -> None:
    pixels = noise(40, 41, 3)
    fast = prepare(encoded(pixels), Crop(16, "center", 30))
    slow = prepare_linear(Linear(pixels.astype(np.float32), 255.0), 5, 5, 30, Crop(16, "center", 30), Stretch())
    assert np.array_equal(fast.crop, slow.crop)
    assert fast.quality == pytest.approx(slow.quality, rel=1e-4)
    assert fast.digest == slow.digest
    assert fast.place[3:] == slow.place[3:] == (5, 5, 30)


def test_quality_of_linear_values() -> None:
    values = np.random.default_rng(0).uniform(1, 2, (40, 40, 2)).astype(np.float32)
    values[10:15, 10:30] = 9  # a quarter of the central 20 × 20
    values[20, 10:30, 0] = np.nan  # 20 of 800
    stretch = Stretch("linear", (0,), (4,))
    linear = Linear(values)
    edge, saturated, missing, _ = prepare_linear(linear, 10, 10, 20, Crop(20, n_bands=2), stretch).quality
    assert (edge, saturated, missing) == pytest.approx((0, 0.25, 20 / 800))
    level = prepare_linear(Linear(values, saturated=10.0), 10, 10, 20, Crop(20, n_bands=2), stretch).quality[1]
    assert level == 0  # the file knows better than the stretch
    outside = prepare_linear(linear, 30, 30, 20, Crop(20, n_bands=2), stretch)
    assert outside.quality[0] == pytest.approx(0.75)
    sky = np.random.default_rng(1).normal(2, 0.1, (64, 64, 1)).astype(np.float32)
    made = prepare_linear(Linear(sky), 0, 0, 64, Crop(64, n_bands=1), Stretch("linear", (0,), (4,)))
    assert made.quality[3] == pytest.approx(0.1 / 4, rel=0.15)


def test_a_band_without_a_value_is_black_and_the_others_stay() -> None:
    values = measured()
    values[:, :, 1] = np.nan
    made = prepare_linear(Linear(values), 0, 0, 30, Crop(10), Stretch("linear", (0,), (50,)))
    assert made.crop[:, :, 1].max() == 0
    assert made.crop[:, :, 0].max() > 100
    with pytest.raises(ImageError, match="every value is missing"):
        prepare_linear(Linear(np.full((9, 9, 1), np.nan, np.float32)), 0, 0, 9, Crop(8, n_bands=1), Stretch())


def test_a_measured_band_without_a_signal_is_refused_by_its_name() -> None:
    stretch, crop = Stretch("linear", (0,), (50,)), Crop(10)
    for value, reason in ((np.nan, "^band r is missing everywhere$"), (0, "^band r is constant: every pixel is 0$")):
        values = measured()
        values[5:25, 5:35, 1] = value  # around it there are others
        with pytest.raises(ImageError, match=reason):
            prepare_linear(Linear(values), 10, 5, 20, crop, stretch, bands=("g", "r", "i"))
        assert prepare_linear(Linear(values), 0, 0, 30, crop, stretch, bands=("g", "r", "i")).crop.any()
        assert prepare_linear(Linear(values), 10, 5, 20, crop, stretch).crop.any()


def test_the_thumbnail_of_linear_values_shows_three_bands_and_missing_as_grey() -> None:
    values = np.zeros((64, 64, 5), np.float32)
    values[:, :, 2], values[:, :, 1], values[:, :, 0] = 10, 5, np.linspace(0, 0.1, 64)
    values[:20, :20] = np.nan
    made = prepare_linear(
        Linear(values), 0, 0, None, Crop(8, "resize", n_bands=5), Stretch("linear", (0,), (10,)), (2, 1, 0)
    )
    shown = np.asarray(Image.open(io.BytesIO(made.thumbnail))).astype(int)
    assert np.abs(shown[50, 50] - (255, 128, 0)).max() < 12
    assert np.abs(shown[5, 5] - 128).max() < 12


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_an_original_of_linear_values_is_fits_and_comes_back_whole(bands: int) -> None:
    values = measured(bands=bands)
    values[2, 3, 0] = np.nan
    cd = (-1e-5, 2e-6, 2e-6, 1e-5)
    linear = Linear(values, None, 0.0367, 150.1, 2.2, "nJy/pixel", cd, 60_000.0)
    names = list("grizy")[:bands]
    content = write_linear(linear, names)
    assert content == write_linear(linear, names)
    back, back_names = read_linear(content)
    assert back_names == names
    assert np.array_equal(back.values, values, equal_nan=True)
    assert (back.ra, back.dec, back.pixel_scale, back.unit, back.cd) == (150.1, 2.2, 0.0367, "nJy/pixel", cd)
    assert (back.top, back.saturated) == (None, 60_000)
    with fits.open(io.BytesIO(gzip.decompress(content))) as file:
        file.verify("exception")
        theirs = np.atleast_3d(np.moveaxis(file[0].data, 0, -1)) if bands > 1 else file[0].data[:, :, None]
        assert np.array_equal(theirs[::-1], values, equal_nan=True)  # the first row of FITS is at the bottom
        wcs = WCS(file[0].header).celestial
    assert wcs.wcs_pix2world(19.5, 14.5, 0) == pytest.approx([150.1, 2.2])
    east, north = np.array(wcs.wcs_pix2world([[19.5, 14.5], [20.5, 14.5]], 0).T)
    assert ((east[1] - east[0]) * np.cos(np.radians(2.2)), north[1] - north[0]) == pytest.approx(cd[::2], rel=1e-3)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x1f\x8b" + bytes(50), gzip.compress(b"SIMPLE"), gzip.compress(bytes(9000))],
    ids=["nothing", "no gzip", "no header", "no FITS"],
)
def test_what_is_no_original_is_refused(content: bytes) -> None:
    with pytest.raises(ImageError):
        read_linear(content)


def test_originals_that_are_pictures_are_read_as_values() -> None:
    sixteen = np.arange(24 * 24, dtype=np.uint16).reshape(24, 24) * 100
    linear, names = read_linear(encoded(sixteen, "TIFF"))
    assert (linear.top, names) == (65535, ["grey"])
    assert np.array_equal(linear.values[:, :, 0], sixteen)
    linear, names = read_linear(encoded(noise(8, 8, 3)))
    assert (linear.top, names, linear.values.shape) == (255, ["r", "g", "b"], (8, 8, 3))


def test_a_large_original_is_reduced_by_whole_pixels() -> None:
    values = measured(50, 130, 2)
    values[:2, :2] = np.nan
    kept, n = reduced(Linear(values, pixel_scale=0.2, cd=(-1.0, 0.0, 0.0, 1.0)), 64)
    assert (n, kept.values.shape, kept.pixel_scale, kept.cd) == (
        3,
        (16, 43, 2),
        pytest.approx(0.6),
        (-3.0, 0.0, 0.0, 3.0),
    )
    assert kept.values[5, 7] == pytest.approx(values[15:18, 21:24].mean(axis=(0, 1)), rel=1e-5)
    assert kept.values[0, 0] == pytest.approx(np.nanmean(values[:3, :3], axis=(0, 1)), rel=1e-5)
    assert reduced(Linear(values), 130)[1] == 1


def test_the_center_of_a_reduced_original_is_that_of_the_pixels_that_are_left() -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [359.9999, 60.0], [65.5, 25.5]  # the center of 130 × 50 px
    wcs.wcs.cd = np.array([[-0.8, 0.6], [0.6, 0.8]]) * 0.2 / 3600
    cd = tuple(float(value) for value in wcs.wcs.cd.ravel())
    whole = Linear(measured(50, 130, 1), ra=359.9999, dec=60.0, cd=(cd[0], cd[1], cd[2], cd[3]))
    kept, n = reduced(whole, 64)
    assert n == 3
    ra, dec = wcs.wcs_pix2world(128 / 2, 50 - 1 - 47 / 2, 0)  # of the 129 × 48 px at the top left
    assert (kept.ra, kept.dec) == (pytest.approx(float(ra), abs=1e-9), pytest.approx(float(dec), abs=1e-9))


@pytest.mark.parametrize(
    ("bands", "rgb"),
    [
        (["r", "g", "b"], (0, 1, 2)),
        (["g", "r", "i", "z", "y"], (2, 1, 0)),
        (["R", "I", "G"], (1, 0, 2)),
        (["grey"], (0, 0, 0)),
        (["F606W", "F814W"], (1, 0, 0)),
        (["J", "H", "K"], (2, 1, 0)),
        (["a", "b", "c", "d"], (3, 1, 0)),
    ],
)
def test_which_bands_are_shown_as_red_green_and_blue(bands: list[str], rgb: tuple[int, int, int]) -> None:
    assert rgb_of(bands) == rgb
