"""What the page's viewer gets: the source's pixels, what they mean, and where the network's crop lies."""

import io
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from PIL import Image

from explorer.errors import SurveyError
from explorer.services.originals import Originals, png
from explorer.survey import Survey
from tests.galaxies import galaxy, write_fits_galaxies


def picture(survey: Path, row: int) -> tuple[dict[str, Any], bytes]:
    opened = Survey.open(survey)
    originals = Originals(opened)
    try:
        content = originals.picture(row)
    finally:
        originals.close()
        opened.close()
    (n,) = struct.unpack_from("<I", content)
    assert n % 4 == 0
    return json.loads(content[4 : 4 + n]), content[4 + n :]


def planes(header: dict[str, Any], pixels: bytes) -> np.ndarray:
    assert header["type"] == "float32"
    return np.frombuffer(pixels, "<f4").reshape(len(header["bands"]), header["height"], header["width"])


@pytest.fixture(scope="module")
def cubes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cubes")
    write_fits_galaxies(folder, 4)
    return folder


TOLD = ("--size", 16, "--extent", 20, "--bands", "g,r,i")


def test_a_jpeg_or_png_comes_as_its_own_bytes(image_survey: Path) -> None:
    header, pixels = picture(image_survey, 4)
    assert (header["type"], header["width"], header["height"]) == ("image/png", 48, 48)
    assert pixels == (image_survey.parent / "images" / "004.png").read_bytes()
    assert header["crop"] == {"left": 8, "top": 8, "side": 32}
    assert (header["bands"], header["rgb"], header["low"], header["high"]) == (
        ["r", "g", "b"],
        [0, 1, 2],
        [0] * 3,
        [255] * 3,
    )
    assert header["pixel_scale"] is None


def test_linear_values_come_as_they_are_with_unit_scale_and_the_surveys_stretch(
    cubes: Path, tmp_path: Path, voorwerp: Callable[..., str]
) -> None:
    voorwerp("create", tmp_path / "survey", cubes, *TOLD)
    header, pixels = picture(tmp_path / "survey", 2)
    values = planes(header, pixels)
    source = fits.getdata(cubes / "cube002.fits")[:, ::-1]  # top row first
    assert np.array_equal(values, source[:, 2:62, 2:62], equal_nan=True)
    assert header["unit"] == "nJy"
    assert header["pixel_scale"] == pytest.approx(0.2)
    assert header["rgb"] == [2, 1, 0]
    assert header["stretch"]["mode"] == "percentile"
    assert header["low"] == header["stretch"]["low"]
    assert header["crop"] == {"left": 20, "top": 20, "side": 20}


def test_an_exif_orientation_is_not_applied(tmp_path: Path, voorwerp: Callable[..., str]) -> None:
    (tmp_path / "images").mkdir()
    pixels = galaxy(np.random.default_rng(3), 40)[:30]
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    for name in ("a", "b"):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png", exif=exif)
    voorwerp("create", tmp_path / "survey", tmp_path / "images", "--size", 16)
    header, content = picture(tmp_path / "survey", 0)
    assert np.array_equal(np.moveaxis(planes(header, content), 0, 2), pixels)
    assert header["high"] == [255] * 3


def test_a_linked_original_is_read_where_it_lies_and_said_to_be_gone(
    cubes: Path, tmp_path: Path, voorwerp: Callable[..., str]
) -> None:
    write_fits_galaxies(tmp_path / "cubes", 4)
    voorwerp("create", tmp_path / "kept", cubes, *TOLD)
    voorwerp("create", tmp_path / "linked", tmp_path / "cubes", *TOLD, "--originals", "link")
    assert picture(tmp_path / "linked", 1) == picture(tmp_path / "kept", 1)
    (tmp_path / "cubes" / "cube001.fits").unlink()
    with pytest.raises(SurveyError, match=r"stayed outside of the survey, and .*cube001.fits is gone"):
        picture(tmp_path / "linked", 1)


def test_of_a_large_linked_file_the_page_gets_what_would_be_kept(tmp_path: Path, voorwerp: Callable[..., str]) -> None:
    values = np.random.default_rng(1).normal(100, 10, (2101, 2103)).astype(np.float32)
    fits.writeto(tmp_path / "a.fits", values)
    for name, side, shape in (("small", 20, (60, 60)), ("large", 1101, (550, 550))):
        told = ("--size", 16, "--extent", side)
        voorwerp("create", tmp_path / name / "kept", tmp_path / "a.fits", *told)
        voorwerp("create", tmp_path / name / "linked", tmp_path / "a.fits", *told, "--originals", "link")
        header, pixels = picture(tmp_path / name / "linked", 0)
        assert (header["height"], header["width"]) == shape
        assert (header, pixels) == picture(tmp_path / name / "kept", 0)


def test_bands_become_a_picture_by_their_places() -> None:
    pixels = np.arange(4 * 4 * 5, dtype=np.uint8).reshape(4, 4, 5)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(pixels, (3, 2, 1))))), pixels[..., [3, 2, 1]])
    assert Image.open(io.BytesIO(png(pixels[..., :1], (0, 0, 0)))).mode == "L"
