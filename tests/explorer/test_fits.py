"""FITS images: sections against astropy's whole arrays, cubes, extensions, compression, units, the sky, surveys."""

import csv
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from explorer.errors import UsageError
from explorer.ingest.calibration import how_made
from explorer.ingest.decoder import Decoders, Item, Reading, decode_block, read_original
from explorer.ingest.fits import open_section_reader
from explorer.survey import Survey, check
from models.images import Crop, ImageError, Stretch, read_linear
from tests.broken import fits_bytes
from tests.explorer.making import make

HEIGHT, WIDTH = 50, 60


def planes(n: int = 3, seed: int = 0) -> np.ndarray:
    """Noise around 100 with a bright corner, so that flips and swaps show: float32 (n, HEIGHT, WIDTH)."""
    values = np.random.default_rng(seed).normal(100, 10, (n, HEIGHT, WIDTH)).astype(np.float32)
    values[:, :10, :20] += 50
    return values


def header(scale: float = 0.2, ra: float = 359.9999, dec: float = 60.0, angle: float = 30.0) -> fits.Header:
    """A tangent plane, turned by `angle` deg, of `scale` arcsec per px."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval, wcs.wcs.crpix = [ra, dec], [20.0, 12.0]
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    wcs.wcs.cd = scale / 3600 * np.array([[-c, s], [s, c]])
    made = wcs.to_header()
    made["BUNIT"], made["SATURATE"], made["FILTER"] = "nJy", 160.0, "r"
    return made


# ------------------------------------------------------------------------------------------------------------ sections
def as_is(path: Path, values: np.ndarray) -> Path:
    fits.writeto(path, values, header())
    return path


def gzipped(path: Path, values: np.ndarray) -> Path:
    as_is(path.with_suffix(".plain"), values)
    packed = path.with_suffix(".fits.gz")
    packed.write_bytes(gzip.compress(path.with_suffix(".plain").read_bytes()))
    return packed


def in_tiles(path: Path, values: np.ndarray) -> Path:
    hdu = fits.CompImageHDU(values, header(), compression_type="GZIP_2", quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path.with_suffix(".fits.fz"))
    return path.with_suffix(".fits.fz")


@pytest.mark.parametrize("write", [as_is, gzipped, in_tiles])
@pytest.mark.parametrize("kind", ["f4", "f8", "i2", "i4", "u2", "u1"])
def test_a_section_is_the_flipped_part_of_the_whole_array(
    write: Callable[[Path, np.ndarray], Path], kind: str, tmp_path: Path
) -> None:
    values = planes().astype(kind)
    reader = open_section_reader(write(tmp_path / "a.fits", values))
    assert reader.shape == (HEIGHT, WIDTH, 3)
    expected = values[:, ::-1].transpose(1, 2, 0).astype(np.float32)
    assert np.array_equal(reader.read(0, 0, HEIGHT, WIDTH), expected)
    part = reader.read(5, 6, 20, 30)
    assert (part.dtype, part.dtype.isnative) == (np.float32, True)
    assert np.array_equal(part, expected[5:25, 6:36])
    for box in ((-1, 0, 5, 5), (0, 0, HEIGHT + 1, 5), (0, WIDTH - 4, 5, 5), (0, 0, 0, 5)):
        with pytest.raises(ValueError, match="are not inside of"):
            reader.read(*box)


@pytest.mark.parametrize("is_gzipped", [False, True])
def test_scale_zero_and_blank_are_applied(is_gzipped: bool, tmp_path: Path) -> None:
    stored = np.arange(HEIGHT * WIDTH, dtype=np.int16).reshape(HEIGHT, WIDTH)
    content = fits_bytes(stored, BSCALE=0.5, BZERO=-7.0, BLANK=33)
    path = tmp_path / "a.fits"
    path.write_bytes(gzip.compress(content) if is_gzipped else content)
    expected = stored * 0.5 - 7
    expected[stored == 33] = np.nan
    found = open_section_reader(path).read(0, 0, HEIGHT, WIDTH)[::-1, :, 0]
    assert np.array_equal(found, expected.astype(np.float32), equal_nan=True)


def test_infinite_values_are_missing(tmp_path: Path) -> None:
    values = planes(1)
    values[0, 3, 4], values[0, 5, 6] = np.inf, -np.inf
    found = open_section_reader(as_is(tmp_path / "a.fits", values)).read(0, 0, HEIGHT, WIDTH)
    assert np.argwhere(np.isnan(found[::-1, :, 0])).tolist() == [[3, 4], [5, 6]]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says what a process took")
def test_a_file_larger_than_memory_is_read_in_sections_without_its_bytes(tmp_path: Path) -> None:
    """A sparse 12 GB mosaic: the process may have 4 GiB of address space."""
    side = 55_000
    path = tmp_path / "mosaic.fits"
    with path.open("wb") as file:
        file.write(fits_bytes(NAXIS1=side, NAXIS2=side)[:2880])
        file.truncate(2880 + side * side * 4 + 2880)
        row, column = 40_000, 30_000  # in FITS's own rows
        file.seek(2880 + (row * side + column) * 4)
        file.write(np.array([5, 6, 7], ">f4").tobytes())
    with Decoders(Crop(8, n_bands=1), 1) as decoders:
        part, peak = decoders.call(_section_of, str(path), side - 1 - row - 2, column - 1)
    assert part[2, 1:4].tolist() == [5, 6, 7]
    assert peak < 300 << 20


def _section_of(path: str, top: int, left: int) -> tuple[np.ndarray, int]:
    part = open_section_reader(path).read(top, left, 300, 300)[:, :, 0]
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())  # of this process alone
    return part, int(peak) * 1024


# ---------------------------------------------------------------------------------------------------- HDUs and planes
@pytest.fixture(scope="module")
def extensions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a table and the bands G, R, I, the last with a mask behind it."""
    path = tmp_path_factory.mktemp("extensions") / "a.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.arange(3.0))], name="CAT")
    images = [fits.ImageHDU(values, header(), name=name) for name, values in zip("GRI", planes(), strict=True)]
    mask = fits.ImageHDU(np.zeros((9, 9), np.int16), name="MASK")
    fits.HDUList([fits.PrimaryHDU(), table, *images, mask]).writeto(path)
    return path


@pytest.mark.parametrize(
    ("told", "which", "names"),
    [
        ({}, [0], ("r",)),  # the first image; its FILTER names it
        ({"hdu": "I"}, [2], ("r",)),
        ({"hdu": "3"}, [1], ("r",)),
        ({"hdu": "I,G"}, [2, 0], ("I", "G")),
        ({"bands": ("g", "r", "i")}, [0, 1, 2], ("g", "r", "i")),
        ({"bands": ("x", "y"), "picks": ("I", "R")}, [2, 1], ("x", "y")),
    ],
)
def test_bands_are_chosen_among_extensions(
    extensions: Path, told: dict[str, Any], which: list[int], names: tuple[str, ...]
) -> None:
    reader = open_section_reader(extensions, **told)
    found = reader.read(0, 0, HEIGHT, WIDTH)
    assert np.array_equal(found, planes()[which][:, ::-1].transpose(1, 2, 0))
    assert reader.names == names


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"hdu": "Z"}, r"has no HDU Z; it has 0 PRIMARY, 1 CAT, 2 G, 3 R"),
        ({"hdu": "17"}, "has no HDU 17"),
        ({"hdu": "CAT"}, "HDU 1 holds no image"),
        ({"hdu": "0"}, "HDU 0 holds no image"),
        ({"hdu": "G,MASK"}, "HDU 5 has 9 × 9 px, HDU 2 60 × 50 px"),
        ({"bands": ("x", "y"), "picks": ("G", "Z")}, "has no HDU G or Z"),
    ],
)
def test_what_cannot_be_chosen_is_said(extensions: Path, told: dict[str, Any], reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        open_section_reader(extensions, **told)


def test_planes_of_a_cube_are_picked_from_0(tmp_path: Path) -> None:
    cube = as_is(tmp_path / "a.fits", planes(9))
    reader = open_section_reader(cube, bands=("b", "r"), picks=("7", "2"))
    assert np.array_equal(reader.read(0, 0, HEIGHT, WIDTH), planes(9)[[7, 2]][:, ::-1].transpose(1, 2, 0))
    with pytest.raises(ImageError, match="is a cube of 9 planes; choose up to 5 with --bands"):
        open_section_reader(cube)
    with pytest.raises(ImageError, match="has no plane 9; it has 9, counted from 0"):
        open_section_reader(cube, bands=("b",), picks=("9",))


# -------------------------------------------------------------------------------------------------------------- the sky
def test_the_sky_is_the_one_of_astropy_upside_down(tmp_path: Path) -> None:
    reader = open_section_reader(as_is(tmp_path / "a.fits", planes(1)))
    wcs = WCS(header())
    for x, y in ((0.0, 0.0), (29.5, 24.5), (59.0, 3.0)):
        sky = reader.sky(x, y)
        assert sky is not None
        ra, dec = wcs.wcs_pix2world(x, HEIGHT - 1 - y, 0)
        assert (sky.ra, sky.dec) == pytest.approx((float(ra), float(dec)), abs=1e-9)
        back = reader.pixels(np.array([sky.ra]), np.array([sky.dec]))
        assert np.ravel(back) == pytest.approx([x, y], abs=1e-6)
    assert reader.pixel_scale == pytest.approx(0.2)
    assert sky.cd == pytest.approx(WCS(header()).pixel_scale_matrix.ravel(), rel=1e-3, abs=1e-8)
    assert (reader.unit, reader.saturated) == ("nJy", 160)


def test_other_frames_become_icrs(tmp_path: Path) -> None:
    made = header()
    made["CTYPE1"], made["CTYPE2"], made["CRVAL1"], made["CRVAL2"] = "GLON-TAN", "GLAT-TAN", 120.0, 30.0
    fits.writeto(tmp_path / "a.fits", planes(1), made)
    reader = open_section_reader(tmp_path / "a.fits")
    sky = reader.sky(19.0, HEIGHT - 12.0)  # at CRPIX
    theirs = WCS(made).pixel_to_world(19.0, 11.0).icrs
    assert sky is not None
    assert (sky.ra, sky.dec) == pytest.approx((theirs.ra.deg, theirs.dec.deg))
    assert np.ravel(reader.pixels(np.array([sky.ra]), np.array([sky.dec]))) == pytest.approx(
        [19, HEIGHT - 12], abs=1e-5
    )


def test_the_far_side_of_the_sky_is_not_in_the_image(tmp_path: Path) -> None:
    reader = open_section_reader(as_is(tmp_path / "a.fits", planes(1)))
    x, y = reader.pixels(np.array([179.9999, np.nan, 359.9999]), np.array([-60.0, 0.0, 60.0]))
    assert np.isnan(x).tolist() == np.isnan(y).tolist() == [True, True, False]


# ------------------------------------------------------------------------------------------------------------- surveys
@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of different sizes, with WCS, one of them with another pixel scale."""
    path = tmp_path_factory.mktemp("folder") / "images"
    path.mkdir()
    for i in range(8):
        values = planes(1, seed=i)[0]
        values[25:27, 28:32] = 200 + i
        fits.writeto(path / f"{i}.fits", values[: HEIGHT - i], header(0.4 if i == 7 else 0.2, ra=10 + i / 10, dec=5))
    return path


def test_a_folder_of_fits_becomes_a_survey_with_coordinates_and_one_stretch(folder: Path, tmp_path: Path) -> None:
    totals = make(tmp_path / "survey", folder, extent=20)
    assert (totals["n_subjects"], totals["n_quarantined"]) == (8, 0)
    assert check(tmp_path / "survey") == []
    opened = Survey.open(tmp_path / "survey")
    assert opened.info.bands == ("r",)
    assert opened.info.stretch.mode == "percentile"
    assert opened.info.pixel_scale_arcsec is None  # not the same for all
    subject = opened.subject(3)
    ra, dec = WCS(header(0.2, ra=10.3, dec=5)).wcs_pix2world(29.5, 23.0, 0)
    assert (subject["ra"], subject["dec"]) == pytest.approx((float(ra), float(dec)), abs=1e-3 / 3600 * 1000)
    assert opened.column("pixel_scale_arcsec")[[0, 7]] == pytest.approx([0.2, 0.4], rel=1e-4)
    linear, names = read_linear(opened.original(3)[0])
    whole = fits.getdata(folder / "3.fits")[::-1]
    assert names == ["r"]
    assert np.array_equal(linear.values[:, :, 0], whole)  # three extents are more than the image
    left, top, side = (int(subject[f"crop_{name}"]) for name in ("left", "top", "side"))
    assert (left, top, side) == (20, 13, 20)
    shown = opened.info.stretch.apply(linear.values[top : top + side, left : left + side])
    assert abs(np.asarray(opened.images[3]).mean() / 255 - shown.mean()) < 0.01
    opened.close()


def test_context_is_three_extents_and_the_key_lies_in_it(folder: Path, tmp_path: Path) -> None:
    make(tmp_path / "survey", folder, extent=10)
    opened = Survey.open(tmp_path / "survey")
    linear, _ = read_linear(opened.original(0)[0])
    subject = opened.subject(0)
    assert linear.values.shape == (30, 30, 1)
    assert [subject[f"crop_{name}"] for name in ("left", "top", "side")] == [10, 10, 10]
    whole = fits.getdata(folder / "0.fits")[::-1]
    assert np.array_equal(linear.values[10:20, 10:20, 0], whole[20:30, 25:35])
    wcs = WCS(header(0.2, ra=10, dec=5))
    assert (linear.ra, linear.dec) == pytest.approx(
        tuple(float(v) for v in wcs.wcs_pix2world(29.5, HEIGHT - 1 - 24.5, 0))
    )
    opened.close()


def test_that_the_first_of_several_images_was_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(2):
        images = [fits.ImageHDU(values, name=name) for name, values in zip("IGR", planes(seed=i), strict=True)]
        fits.HDUList([fits.PrimaryHDU(), *images]).writeto(tmp_path / "images" / f"{i}.fits")
    said = "each file holds 3 images (I, G, R); the first was read: --hdu or --bands name others"
    assert said in make(tmp_path / "survey", tmp_path / "images")["notes"]
    for name, told in (("hdu", {"hdu": "G"}), ("bands", {"bands": ("g", "r", "i")})):
        assert not [note for note in make(tmp_path / name, tmp_path / "images", **told)["notes"] if "images (" in note]


def test_the_key_of_an_original_that_is_reduced_is_in_whole_px(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(100, 10, (1103, 1105)).astype(np.float32)
    fits.writeto(tmp_path / "a.fits", values, header())
    make(tmp_path / "survey", tmp_path / "a.fits", extent=1025)
    opened = Survey.open(tmp_path / "survey")
    linear, _ = read_linear(opened.original(0)[0])
    assert linear.values.shape == (512, 512, 1)
    assert [opened.subject(0)[f"crop_{name}"] for name in ("left", "top", "side")] == [0, 0, 512]
    assert opened.subject(0)["pixel_scale_arcsec"] == pytest.approx(0.4, rel=1e-4)
    assert (opened.subject(0)["ra"], opened.subject(0)["dec"]) == (linear.ra, linear.dec)
    opened.close()


def test_an_extent_in_arcsec_is_another_number_of_px_in_each_image(folder: Path, tmp_path: Path) -> None:
    make(tmp_path / "survey", folder, extent_arcsec=4)
    opened = Survey.open(tmp_path / "survey")
    assert opened.info.extent_arcsec == 4
    assert opened.info.extent is None
    assert opened.column("crop_side")[[0, 7]].tolist() == [20, 10]
    opened.close()
    make(tmp_path / "told", folder, extent_arcsec=4, pixel_scale_arcsec=0.1)
    opened = Survey.open(tmp_path / "told")
    assert set(opened.column("crop_side")) == {40}
    assert opened.info.pixel_scale_arcsec == 0.1
    opened.close()


def test_an_extent_in_arcsec_needs_a_pixel_scale(folder: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.fits").write_bytes(fits_bytes(planes(1)[0]))
    with pytest.raises(UsageError, match="none of 1 images looked at says one; give it with --pixel-scale"):
        make(tmp_path / "survey", images, extent_arcsec=4)
    (images / "b.fits").write_bytes((folder / "0.fits").read_bytes())
    make(tmp_path / "survey", images, extent_arcsec=4)
    (reason,) = pq.read_table(tmp_path / "survey" / "quarantine.parquet").column("reason").to_pylist()
    assert reason == "its pixel scale is not known (it has no WCS that solves); give it with --pixel-scale"


def test_one_file_per_band(tmp_path: Path) -> None:
    rows = [["id", "path_i", "path_g", "path_r"]]
    for i in range(3):
        for band, values in zip("gri", planes(seed=i), strict=True):
            fits.writeto(tmp_path / f"{i}{band}.fits", values, header())
        rows.append([str(i), *(f"{i}{band}.fits" for band in "igr")])
    with (tmp_path / "m.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    for bands, names in (((), ("i", "g", "r")), (("g", "r", "i"), ("g", "r", "i"))):
        path = tmp_path / "".join(names)
        make(path, tmp_path / "m.csv", id_column="id", bands=bands, extent=40)
        opened = Survey.open(path)
        assert opened.info.bands == names
        linear, _ = read_linear(opened.original(1)[0])
        order = ["gri".index(name) for name in names]
        assert np.array_equal(linear.values, planes(seed=1)[order][:, ::-1].transpose(1, 2, 0))
        assert opened.images.shape == (3, 16, 16, 3)
        opened.close()


def test_bands_that_do_not_show_the_same_sky_are_refused(tmp_path: Path) -> None:
    bands = [tmp_path / "g.fits", tmp_path / "r.fits"]
    item, crop = Item(tuple(map(str, bands))), Crop(16, n_bands=2)
    reading = Reading(bands=("g", "r"), stretch=Stretch("linear", (0,), (200,)))
    away = header(dec=60.04)
    near = header(dec=60.00004)
    double = header(scale=0.4)
    double["CRPIX1"], double["CRPIX2"] = 30.5 + (20 - 30.5) / 2, 25.5 + (12 - 25.5) / 2  # the same center
    fits.writeto(bands[0], planes()[0], header())
    for other, reasons in (
        (away, ["band r is 720 px away from band g on the sky"]),
        (double, ["band r has 0.4 arcsec per px, band g 0.2"]),
        (near, []),
        (None, []),
    ):
        fits.writeto(bands[1], planes()[1], other, overwrite=True)
        assert [reason for _, reason, _ in decode_block([item], crop, reading=reading).bad] == reasons


def test_linked_originals_are_read_where_they_are(folder: Path, tmp_path: Path) -> None:
    make(tmp_path / "survey", folder, originals="link", extent=10)
    opened = Survey.open(tmp_path / "survey")
    content, _ = opened.original(2)
    assert content.startswith(b'{"link"') and str(folder / "2.fits").encode() in content
    linear, names = read_linear(read_original(json.loads(content), *how_made(opened.info)))
    assert names == ["r"]
    assert np.array_equal(linear.values[:, :, 0], fits.getdata(folder / "2.fits")[::-1][9:39, 15:45])
    assert [opened.subject(2)[f"crop_{name}"] for name in ("left", "top", "side")] == [10, 10, 10]  # of what is seen
    opened.close()


def test_a_cut_from_a_mosaic_has_its_own_place_on_the_sky(tmp_path: Path) -> None:
    path = as_is(tmp_path / "mosaic.fits", planes())
    item = Item((str(path),), None, 20.0, 30.0, 24)
    reading = Reading(bands=("g", "r", "i"), stretch=Stretch("linear", (50.0,), (150.0,)))
    decoded = decode_block([item], Crop(8, "center", 8), reading=reading)
    assert decoded.good == [0]
    ra, dec, scale, left, top, side = decoded.places[0]
    assert (scale, left, top, side) == (pytest.approx(0.2), 8, 8, 8)
    linear, names = read_linear(bytes(decoded.originals[0]))  # type: ignore[arg-type]
    corner = (20 - 11, 30 - 11)
    expected = planes()[:, ::-1].transpose(1, 2, 0)[corner[1] : corner[1] + 24, corner[0] : corner[0] + 24]
    assert names == ["g", "r", "i"]
    assert np.array_equal(linear.values, expected)
    center = open_section_reader(path).sky(corner[0] + 11.5, corner[1] + 11.5)
    assert center is not None
    assert (ra, dec) == pytest.approx((center.ra, center.dec))
    assert np.array_equal(
        decoded.crops[0], np.clip((expected[8:16, 8:16] - 50) / 100 * 255 + 0.5, 0, 255).astype(np.uint8)
    )


def test_m51_is_read_and_shown_the_right_way_up(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "single_images" / "M51_photutils.fits"
    make(tmp_path / "survey", path, extent=300, size=60)
    opened = Survey.open(tmp_path / "survey")
    theirs = fits.getdata(path)[::-1].astype(np.float32)
    linear, _ = read_linear(opened.original(0)[0])
    assert np.array_equal(linear.values[:, :, 0], theirs)
    averaged = theirs[106:406, 106:406].reshape(60, 5, 60, 5).mean((1, 3))
    (low,), (high,) = opened.info.stretch.low, opened.info.stretch.high
    expected = 255 * np.clip((averaged - low) / (high - low), 0, 1)
    assert np.abs(opened.images[0][:, :, 0] - expected).max() <= 0.51
    opened.close()
