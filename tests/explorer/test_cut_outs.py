"""`voorwerp create --cut-out`: which sources are found, how they are cut out, and how they are grouped and halved."""

import csv
import gzip
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import skimage
from astropy.io import fits
from astropy.table import Column, Table
from astropy.wcs import WCS
from PIL import Image

from explorer.cli import main
from explorer.errors import IngestError, UsageError
from explorer.ingest import detection
from explorer.ingest.add import add
from explorer.ingest.calibration import how_made
from explorer.ingest.cut_outs import create_cut_outs
from explorer.ingest.decoder import Reading, read_original
from explorer.ingest.detection import COLUMNS, detect
from explorer.ingest.groups import (
    connected,
    group_cut_outs,
    half_of,
    identical_pairs,
    overlap_pairs,
    sky_pairs,
)
from explorer.ingest.images import CreateOptions
from explorer.survey import Survey, check
from models.images import CONTEXT, ImageError, Stretch, area_average, corner
from tests.explorer.killed import tree
from tests.explorer.making import finished
from tests.mosaics import ARCSEC_PER_PX, write_mosaic

HUBBLE = Path(skimage.__file__).parent / "data" / "hubble_deep_field.jpg"


def make(path: Path, *images: Path, **options: Any) -> dict[str, Any]:
    catalogue = options.pop("catalogue", None)
    told = CreateOptions(**{"size": 32, "workers": 1, **options})
    return finished(create_cut_outs(path, images, told, catalogue))


def sky(
    path: Path, places: list[tuple[float, float, float]], *, side: int = 300, star: tuple[int, int] | None = None
) -> Path:
    """An image of Gaussian galaxies (x, y, sigma) on noise, written to `path`."""
    rng = np.random.default_rng(0)
    light = rng.normal(20, 3, (side, side))
    y, x = np.mgrid[:side, :side]
    for cx, cy, sigma in places:
        light += 150 * np.exp(-((x - cx) ** 2 / 2 + (y - cy) ** 2 / 0.8) / sigma**2)
    if star:
        light += 3000 * np.exp(-((x - star[0]) ** 2 + (y - star[1]) ** 2) / 2 / 2.0**2)
    color = light[:, :, None] * np.array([1, 0.9, 1.0])
    Image.fromarray(np.clip(color, 0, 255).astype(np.uint8)).save(path)
    return path


def find(*files: Path, **reading: Any) -> dict[str, np.ndarray]:
    return detect(tuple(str(file) for file in files), Reading(**reading))


PLACES = [(60.0, 40.0, 4.0), (200.3, 80.6, 3.0), (120.0, 220.0, 5.0), (30.0, 292.0, 3.0)]


# ---------------------------------------------------------------------------------------------------------- detection
def test_planted_galaxies_are_found_where_they_are(tmp_path: Path) -> None:
    found = find(sky(tmp_path / "sky.png", PLACES))
    assert list(found) == list(COLUMNS)
    for k, (x, y, sigma) in enumerate(PLACES[:3]):
        assert found["x"][k] == pytest.approx(x, abs=0.3)
        assert found["y"][k] == pytest.approx(y, abs=0.3)
        assert found["semi_major"][k] == pytest.approx(sigma, rel=0.2)
        assert found["semi_minor"][k] < found["semi_major"][k]
        assert abs(found["position_angle"][k]) < 10
    assert (found["n_pixels"] >= 30).all()
    assert (np.diff(found["y"]) > 0).all()
    assert len(found["x"]) == 4


def test_saturated_stars_and_sources_cut_by_the_edge_are_left_out(tmp_path: Path) -> None:
    found = find(sky(tmp_path / "sky.png", [*PLACES[:3], (298.0, 150.0, 5.0)], star=(250, 250)))
    assert len(found["x"]) == 3
    assert found["x"].max() < 210


def test_images_without_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no source stands out"):
        find(sky(tmp_path / "noise.png", []))
    Image.new("RGB", (90, 90), (5, 5, 5)).save(tmp_path / "flat.png")
    with pytest.raises(ImageError, match="is constant"):
        find(tmp_path / "flat.png")
    Image.fromarray(np.zeros((50, 50), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ImageError, match="is constant"):
        find(tmp_path / "deep.png")


# ---------------------------------------------------------------------------------------------------------- the survey
@pytest.fixture(scope="module")
def hubble(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hubble") / "survey"
    make(path, HUBBLE)
    return path


def test_the_hubble_deep_field_gives_at_least_400_galaxies(hubble: Path) -> None:
    survey = Survey.open(hubble)
    assert survey.n >= 400
    assert survey.source_ids([42]) == ["hubble_deep_field_00042"]
    assert survey.subject_ids.tolist() == list(range(survey.n))
    assert check(hubble) == []
    # a spiral, an elliptical and the tadpole-like pair that anyone sees in this image
    x, y = survey.column("x"), survey.column("y")
    for place in ((123, 401), (727, 473), (513, 439)):
        assert np.hypot(x - place[0], y - place[1]).min() < 4
    # the two brightest stars are not among them
    for place in ((253, 166), (754, 578)):
        assert np.hypot(x - place[0], y - place[1]).min() > 4
    survey.close()


def test_crop_and_context_are_of_the_same_place(hubble: Path) -> None:
    survey = Survey.open(hubble)
    extent = survey.info.extent
    assert extent is not None
    assert extent % 2 == 0
    assert {c.name: c.unit for c in survey.columns()}["x"] == "px"
    image = np.asarray(Image.open(HUBBLE))
    for row in (0, 100, survey.n - 1):
        content, media_type = survey.original(row)
        assert media_type == "image/png"
        wide = np.asarray(Image.open(io.BytesIO(content)))
        left, top = (max(0, corner(survey.column(name)[row], CONTEXT * extent)) for name in ("x", "y"))
        assert np.array_equal(wide, image[top : top + wide.shape[0], left : left + wide.shape[1]])
        assert max(wide.shape) <= CONTEXT * extent
    survey.close()


def test_the_edge_is_filled_and_said(hubble: Path) -> None:
    survey = Survey.open(hubble)
    half = survey.info.extent / 2  # type: ignore[operator]
    x, y, edge = survey.column("x"), survey.column("y"), survey.column("edge_fraction")
    leaves = (x < half - 1) | (y < half - 1) | (x > 1000 - half) | (y > 872 - half)
    assert 0 < leaves.sum() < survey.n / 4
    assert (edge[leaves] > 0).all()
    assert (edge[(x > half) & (y > half) & (x < 998 - half) & (y < 870 - half)] == 0).all()
    survey.close()


def test_an_extent_may_be_told_and_several_images_given(tmp_path: Path) -> None:
    first, second = sky(tmp_path / "a.png", PLACES[:3]), sky(tmp_path / "b.png", PLACES)
    totals = make(tmp_path / "survey", first, second, extent=48, size=24)
    assert totals["n_subjects"] == 7
    survey = Survey.open(tmp_path / "survey")
    assert survey.info.extent == 48
    assert survey.images.shape == (7, 24, 24, 3)
    assert survey.column("image").tolist() == ["a.png"] * 3 + ["b.png"] * 4
    assert survey.source_ids([0, 3]) == ["a_00000", "b_00000"]
    survey.close()


def test_a_crowded_field_is_split_by_sky_tiles_and_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    places = [(20 + 20 * i + rng.uniform(-2, 2), 20 + 20 * j, 2.5) for j in range(14) for i in range(14)]
    totals = make(tmp_path / "survey", sky(tmp_path / "crowded.png", places), extent=24, size=24)
    assert totals["notes"] == []
    totals = make(tmp_path / "tiles", tmp_path / "crowded.png", extent=88, size=24)
    (note,) = totals["notes"]
    assert "groups are sky tiles of 528 px" in note
    survey = Survey.open(tmp_path / "tiles")
    assert survey.info.notes == (note,)
    codes, labels = survey.category("half")
    assert set(labels) <= {"tune", "test"}
    straddles = (survey.column("x") + 0.5 < 44) | (survey.column("y") + 0.5 < 44)
    assert 0 < straddles.sum() < survey.n
    assert np.array_equal(codes == -1, straddles)
    assert totals["n_tune"] + totals["n_test"] == survey.n - straddles.sum()
    survey.close()


def test_sky_tiles_share_no_pixel_between_halves() -> None:
    rng = np.random.default_rng(0)
    n, extent = 16000, 20
    x, y = rng.uniform(0, 600, n), rng.uniform(0, 600, n)
    digests = np.arange(2 * n, dtype=np.uint64).reshape(n, 2)
    groups = group_cut_outs(digests, x, y, np.zeros(n, int), extent)
    assert "of 16,000: groups are sky tiles of 120 px" in groups.notes[0]
    half = half_of(groups.first)
    inside = groups.is_in_a_half
    assert 0.5 < inside.mean() < 0.9
    tune, test = (np.flatnonzero(inside & (half == name)) for name in ("tune", "test"))
    apart = np.maximum(np.abs(x[tune, None] - x[test]), np.abs(y[tune, None] - y[test]))
    assert len(tune) > 100
    assert len(test) > 100
    assert apart.min() >= extent


@pytest.mark.parametrize("content", [b"", b"no image", HUBBLE.read_bytes()[:20_000]])
def test_an_image_that_cannot_be_read_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(IngestError, match=r"bad.jpg cannot be cut out: "):
        make(tmp_path / "survey", tmp_path / "bad.jpg")
    assert not (tmp_path / "survey").exists()


def test_what_is_not_possible(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(IngestError, match=r"absent.png cannot be cut out: there is no such file"):
        make(tmp_path / "survey", tmp_path / "absent.png")
    with pytest.raises(UsageError, match="two of the images have the same name"):
        make(tmp_path / "survey", tmp_path / "a.png", tmp_path / "a.jpg")
    assert main(["create", str(tmp_path / "survey"), "--cut-out", str(HUBBLE), "--id-column", "x"]) == 2
    assert "do not go together without the table that --catalogue names" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------ FITS and 16-bit TIFF
def test_sources_of_measurements_are_found_beside_missing_pixels(tmp_path: Path) -> None:
    """Coordinates are those of the stored array, whose first row is at the bottom, and of the sky."""
    light = np.asarray(Image.open(sky(tmp_path / "sky.png", PLACES[:3])), np.float32)[:, :, 0]
    light[150:160, :150] = np.nan
    header = WCS(naxis=2)
    header.wcs.ctype, header.wcs.crval, header.wcs.cdelt = ["RA---TAN", "DEC--TAN"], [10, 20], [-1e-4, 1e-4]
    for name, values in (("one", light), ("cube", np.stack([light, 3 * light + 500]))):
        fits.writeto(tmp_path / f"{name}.fits", values, header.to_header())
        found = find(tmp_path / f"{name}.fits")
        assert sorted(found["x"].round().tolist()) == [60, 120, 200]
        nearest = found["x"].round().tolist().index(60)
        assert found["y"][nearest] == pytest.approx(40, abs=0.3)
        ra, dec = header.all_pix2world(found["x"], found["y"], 0)
        assert np.allclose(found["ra"], ra)
        assert np.allclose(found["dec"], dec)
        assert (np.diff(found["y"]) < 0).all()  # from top to bottom
    bands = [tmp_path / "g.fits", tmp_path / "r.fits"]
    for band, values in zip(bands, (light, 3 * light + 500), strict=True):
        fits.writeto(band, values)
    assert np.array_equal(find(*bands)["x"], found["x"])
    assert np.isnan(find(*bands)["ra"]).all()


def test_sources_of_a_16_bit_image_are_those_of_the_same_in_8_bits(tmp_path: Path) -> None:
    light = np.asarray(Image.open(sky(tmp_path / "sky.png", PLACES)))[:, :, 0]
    Image.fromarray(light).save(tmp_path / "eight.png")
    Image.fromarray(light.astype(np.uint16) * 257).save(tmp_path / "sixteen.tif")
    eight, sixteen = find(tmp_path / "eight.png"), find(tmp_path / "sixteen.tif")
    for name, values in eight.items():
        assert np.allclose(sixteen[name], values, rtol=1e-4, equal_nan=True)


def test_measurements_that_hold_no_source_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fits.writeto(tmp_path / "missing.fits", np.full((90, 90), np.nan, np.float32))
    with pytest.raises(ImageError, match="is missing"):
        find(tmp_path / "missing.fits")
    fits.writeto(tmp_path / "constant.fits", np.full((90, 90), 7.0, np.float32))
    with pytest.raises(ImageError, match="is constant"):
        find(tmp_path / "constant.fits")
    monkeypatch.setattr(detection, "MAX_PIXELS", 8_000)
    with pytest.raises(ImageError, match=r"has 8,100 values; .* at most 8,000: say where they are with --catalogue"):
        find(tmp_path / "constant.fits")


def test_m51_gives_a_survey_of_its_knots(shared_data: Path, tmp_path: Path) -> None:
    totals = make(tmp_path / "survey", shared_data / "single_images" / "M51_photutils.fits")
    survey = Survey.open(tmp_path / "survey")
    assert 50 <= survey.n == totals["n_subjects"] <= 120
    assert survey.info.bands == ("grey",)
    assert survey.info.stretch.mode == "percentile"
    assert check(tmp_path / "survey") == []
    # the nucleus and a bright star, as anyone sees them; the file's WCS does not solve
    for place in ((256, 258), (346, 188)):
        assert np.hypot(survey.column("x") - place[0], survey.column("y") - place[1]).min() < 5
    assert np.isnan(survey.column("ra")).all()
    spread = survey.images[:].reshape(survey.n, -1).std(axis=1)
    assert (spread > 0).all()
    survey.close()


# ------------------------------------------------------------------------------------------------- at given places
@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A mosaic of 400 px, and a catalogue of 30 galaxies in it; a 31st far away and a 32nd of no place."""
    folder = tmp_path_factory.mktemp("field")
    mosaic, catalogue = write_mosaic(folder, 400, 30)
    with catalogue.open("a") as file:
        file.write("far,10.5,-3,,\nnowhere,,,,\n")
    return mosaic, catalogue


def test_every_row_of_a_catalogue_is_cut_out_in_its_order(field: tuple[Path, Path], tmp_path: Path) -> None:
    mosaic, catalogue = field
    totals = make(tmp_path / "survey", mosaic, catalogue=catalogue, id_column="id", extent=40)
    assert (totals["n_subjects"], totals["n_quarantined"]) == (30, 2)
    survey = Survey.open(tmp_path / "survey")
    assert survey.source_ids(range(30)) == [f"g{i}" for i in range(30)]
    values = fits.getdata(mosaic)
    low, high = survey.info.stretch.low[0], survey.info.stretch.high[0]
    with catalogue.open() as file:
        listed = list(csv.DictReader(file))
    for row in (0, 7, 29):
        subject = survey.subject(row)
        assert float(listed[row]["ra"]) == pytest.approx(subject["ra"], abs=1e-9)
        assert subject["pixel_scale_arcsec"] == pytest.approx(ARCSEC_PER_PX, rel=1e-4)
        x, y = subject["x"], subject["y"]
        assert (x, y) == (pytest.approx(float(listed[row]["x"]), abs=1e-3), subject["y_given"] and pytest.approx(y))
        left, bottom = corner(x, 40), 400 - 40 - corner(399 - y, 40)
        cut = values[bottom : bottom + 40, left : left + 40][::-1, :, None].astype(np.float32)
        shown = np.clip((area_average(cut, 32) - low) / (high - low), 0, 1)
        assert np.abs(survey.images[row].astype(float) - 255 * shown).max() < 0.51
        # what is kept is three times as wide, and its own WCS finds the galaxy in the middle of the network's square
        content, media_type = survey.original(row)
        assert media_type == "application/gzip"
        with fits.open(io.BytesIO(gzip.decompress(content))) as kept:
            assert kept[0].data.shape == (120, 120) if edge_free(x, y, 120, 400) else True
            at_x, at_y = WCS(kept[0].header).celestial.all_world2pix(subject["ra"], subject["dec"], 0)
            assert at_x == pytest.approx(subject["crop_left"] + 19.5, abs=1)
            assert kept[0].data.shape[0] - 1 - at_y == pytest.approx(subject["crop_top"] + 19.5, abs=1)
            assert np.array_equal(kept[0].data[round(float(at_y)), round(float(at_x))], values[round(y), round(x)])
    refused = pq.read_table(tmp_path / "survey" / "quarantine.parquet").to_pylist()
    assert [(r["source"], r["source_id"], r["reason"]) for r in refused] == [
        ("catalogue.csv", "far", "lies outside of the images"),
        ("catalogue.csv", "nowhere", "has no position"),
    ]
    assert check(tmp_path / "survey") == []
    survey.close()


def edge_free(x: float, y: float, side: int, size: int) -> bool:
    return min(x, y, size - x, size - y) > side / 2 + 1


@pytest.mark.parametrize("suffix", [".fits", ".vot", ".parquet"])
def test_catalogues_of_every_format_bring_their_columns_and_units(
    field: tuple[Path, Path], tmp_path: Path, suffix: str
) -> None:
    rows = Table.read(field[1], format="ascii.csv")[:30]
    table = Table({"OBJID": 588848901523702001 + np.arange(30), "RAJ2000": rows["ra"], "DEJ2000": rows["dec"]})
    table["half"] = Column(np.arange(30.0), unit="mag")
    table.write(tmp_path / f"table{suffix}", format={".vot": "votable"}.get(suffix))
    make(tmp_path / "survey", field[0], catalogue=tmp_path / f"table{suffix}", id_column="OBJID", extent_arcsec=6)
    survey = Survey.open(tmp_path / "survey")
    assert survey.subject_ids[29] == 588848901523702030
    assert survey.column("half_given")[:3].tolist() == [0, 1, 2]
    units = {column.name: column.unit for column in survey.columns()}
    assert units["half_given"] == ("mag" if suffix != ".parquet" else units["half_given"])
    assert (survey.info.extent, survey.info.extent_arcsec) == (None, 6)
    assert survey.subject(0)["crop_side"] == 30
    survey.close()


def test_places_may_be_given_in_pixels_of_any_image(field: tuple[Path, Path], tmp_path: Path) -> None:
    """In FITS, y counts from the bottom, as in the stored array, and the sky is filled in; in a PNG from the top."""
    rows = Table.read(field[1], format="ascii.csv")[:30]
    rows[["x", "y", "id"]].write(tmp_path / "places.csv")
    places = {"catalogue": tmp_path / "places.csv", "id_column": "id"}
    make(tmp_path / "fits", field[0], **places)
    survey = Survey.open(tmp_path / "fits")
    assert np.allclose(survey.column("ra"), rows["ra"], atol=1e-7)
    assert np.allclose(survey.column("dec"), rows["dec"], atol=1e-7)
    assert survey.images[:, 14:18, 14:18].mean() > 3 * survey.images[:].mean()
    survey.close()
    values = np.clip(fits.getdata(field[0]) + 5, 0, 255).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "mosaic.png")
    make(tmp_path / "png", tmp_path / "mosaic.png", **places)
    survey = Survey.open(tmp_path / "png")
    assert survey.images[:, 14:18, 14:18].mean() > 1.5 * survey.images[:].mean()
    x, y = (corner(float(rows[name][3]), 32) for name in ("x", "y"))
    assert np.array_equal(survey.images[3, :, :, 0], values[y : y + 32, x : x + 32])
    survey.close()


def test_several_mosaics_are_tiles_and_each_place_is_cut_where_the_edge_is_farthest(
    field: tuple[Path, Path], tmp_path: Path
) -> None:
    with fits.open(field[0]) as file:
        values, header = file[0].data, file[0].header
        fits.writeto(tmp_path / "left.fits", values[:, :250], header)
        right = header.copy()
        right["CRPIX1"] -= 150
        fits.writeto(tmp_path / "right.fits", values[:, 150:], right)
    make(tmp_path / "survey", tmp_path / "left.fits", tmp_path / "right.fits", catalogue=field[1], id_column="id")
    survey = Survey.open(tmp_path / "survey")
    rows = Table.read(field[1], format="ascii.csv")[:30]
    y_margin = np.minimum(rows["y"], 399 - rows["y"])
    left, right_ = (np.minimum(np.minimum(x, 249 - x), y_margin) for x in (rows["x"], rows["x"] - 150))
    expected = np.where(right_ > left, "right.fits", "left.fits")
    assert 5 < (expected == "left.fits").sum() < 25
    assert survey.column("image").tolist() == expected.tolist()
    assert survey.source_ids(range(30)) == [f"g{i}" for i in range(30)]
    survey.close()


def test_as_many_mosaics_as_bands_are_one_image(field: tuple[Path, Path], tmp_path: Path) -> None:
    with fits.open(field[0]) as file:
        for k, band in enumerate("gri"):
            fits.writeto(tmp_path / f"{band}.fits", file[0].data * (1 + k), file[0].header)
    bands = [tmp_path / f"{band}.fits" for band in "gri"]
    options: dict[str, Any] = {"catalogue": field[1], "id_column": "id", "bands": ("g", "r", "i")}
    make(tmp_path / "survey", *bands, stretch=Stretch("linear", low=(-5.0,), high=(100.0,)), **options)
    survey = Survey.open(tmp_path / "survey")
    assert survey.info.bands == ("g", "r", "i")
    assert survey.images.shape == (30, 32, 32, 3)
    assert (survey.images[:, 15, 15, 2] >= survey.images[:, 15, 15, 0]).all()
    survey.close()
    with fits.open(field[0]) as file:
        head = file[0].header
        for axis in "12":  # the same center, and 0.9 % more sky: it shows at the corners
            center = (head[f"NAXIS{axis}"] + 1) / 2
            head[f"CRPIX{axis}"] = center - (center - head[f"CRPIX{axis}"]) / 1.009
            head[f"CDELT{axis}"] *= 1.009
        file.writeto(tmp_path / "shifted.fits")
        fits.writeto(tmp_path / "small.fits", file[0].data[:300], file[0].header)
    with pytest.raises(IngestError, match=r"the bands are not on one grid: .*shifted.fits shows other sky"):
        make(tmp_path / "no", bands[0], bands[1], tmp_path / "shifted.fits", **options)
    with pytest.raises(IngestError, match="band i has 400 × 300 px, band g 400 × 400 px"):
        make(tmp_path / "no", bands[0], bands[1], tmp_path / "small.fits", **options)


def test_a_mosaic_is_not_added_as_one_image(field: tuple[Path, Path], tmp_path: Path) -> None:
    make(tmp_path / "survey", field[0], catalogue=field[1], id_column="id")
    shutil.copy(field[0], tmp_path / "other.fits")
    before = tree(tmp_path / "survey")
    with pytest.raises(UsageError, match=r"was made with --cut-out, .* create a survey of its own from the new mosaic"):
        list(add(tmp_path / "survey", [tmp_path / "other.fits"]))
    assert tree(tmp_path / "survey") == before


def test_linked_cut_outs_are_read_from_the_mosaic(field: tuple[Path, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"catalogue": field[1], "id_column": "id"}
    make(tmp_path / "keep", field[0], **options)
    make(tmp_path / "link", field[0], originals="link", **options)
    kept, linked = Survey.open(tmp_path / "keep"), Survey.open(tmp_path / "link")
    assert np.array_equal(kept.images[:], linked.images[:])
    link = linked.link(3)
    assert link is not None
    told = json.loads(link.to_bytes())
    assert read_original(told, *how_made(linked.info)) == kept.original(3)[0]
    kept.close()
    linked.close()


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("id,ra,dec\na,10,10\n", "none of 1 positions of .*table.csv lies in .*mosaic.fits"),
        ("id,ra,dec\na,150,2\na,150,2\n", 'has the id "a" twice'),
        ("id,ra,dec\n,150,2\n", 'has 1 rows without an id in its column "id"'),
        ("id,name\na,b\n", "the table has no columns ra and dec"),
        ("id,x\na,b\n", "the table has no columns ra and dec"),
        ("id,ra,dec\na,10h00m,02d00m\n", 'column "ra" holds text; give positions as decimal degrees'),
        ("ID,ra,dec\na,150,2\n", 'column "id" is not in .*it has ID'),
    ],
)
def test_catalogues_that_cannot_be_cut_out(field: tuple[Path, Path], tmp_path: Path, table: str, sentence: str) -> None:
    (tmp_path / "table.csv").write_text(table)
    with pytest.raises((IngestError, UsageError), match=sentence):
        make(tmp_path / "survey", field[0], catalogue=tmp_path / "table.csv", id_column="id")
    assert not (tmp_path / "survey").exists()


def test_the_sky_is_not_guessed(field: tuple[Path, Path], tmp_path: Path) -> None:
    fits.writeto(tmp_path / "plain.fits", fits.getdata(field[0]))
    (tmp_path / "sky.csv").write_text("ra,dec\n150,2\n")
    with pytest.raises(IngestError, match=r"plain.fits has no WCS that solves, .* columns x and y"):
        make(tmp_path / "no", tmp_path / "plain.fits", catalogue=tmp_path / "sky.csv")
    with pytest.raises(UsageError, match="an extent in arcsec needs a pixel scale"):
        make(tmp_path / "no", tmp_path / "plain.fits", catalogue=tmp_path / "sky.csv", extent_arcsec=6)
    (tmp_path / "px.csv").write_text("x,y\n150,20\n")
    with pytest.raises(UsageError, match="gives x and y, which name a place in one mosaic, not in 2"):
        make(tmp_path / "no", tmp_path / "plain.fits", field[0], catalogue=tmp_path / "px.csv")


# ------------------------------------------------------------------------------------------------ groups and halves
def test_pairs_equal_the_slow_obvious_ones() -> None:
    rng = np.random.default_rng(0)
    n = 60
    x, y, image = rng.uniform(0, 100, n), rng.uniform(0, 100, n), rng.integers(0, 3, n)
    slow = {
        (i, j)
        for i in range(n)
        for j in range(i + 1, n)
        if image[i] == image[j] and abs(x[i] - x[j]) <= 8 and abs(y[i] - y[j]) <= 8
    }
    assert {tuple(sorted(pair)) for pair in overlap_pairs(x, y, image, 32).tolist()} == slow
    digests = rng.integers(0, 4, (n, 2)).astype(np.uint64)
    first = connected(n, identical_pairs(digests))
    for i in range(n):
        assert first[i] == min(j for j in range(n) if (digests[j] == digests[i]).all())


def test_one_arcsecond_is_measured_on_the_sphere() -> None:
    arcsec = 1 / 3600
    ra = np.array([10, 10 + 1.9 * arcsec, 10 + 2.1 * arcsec + 1.9 * arcsec, np.nan, 359.9999, 0.0001])
    dec = np.array([60.0, 60, 60, 60, 0, 0])  # at 60° a degree of right ascension is half as wide
    assert sorted(map(tuple, np.sort(sky_pairs(ra, dec), axis=1).tolist())) == [(0, 1), (4, 5)]
    assert len(sky_pairs(ra[:1], dec[:1])) == 0


def test_many_at_one_place_are_connected_by_few_pairs() -> None:
    ra, dec = np.array([5.0, *[0.0] * 20_000, 0.0001, 7.0]), np.zeros(20_003)
    pairs = sky_pairs(ra, dec)
    assert len(pairs) == 20_000
    assert connected(len(ra), pairs).tolist() == [0, *[1] * 20_001, 20_002]


def test_groups_go_on_through_common_members() -> None:
    pairs = np.array([[5, 3], [3, 1], [8, 7]])
    assert connected(10, pairs).tolist() == [0, 1, 2, 1, 4, 1, 6, 7, 7, 9]
    assert connected(3, np.empty((0, 2), np.int64)).tolist() == [0, 1, 2]


def test_small_groups_of_cut_outs_are_kept() -> None:
    x, y = np.arange(40) * 100.0, np.zeros(40)
    x[1] = 5  # number 0 lies in its central quarter
    digests = np.arange(80, dtype=np.uint64).reshape(40, 2)
    groups = group_cut_outs(digests, x, y, np.zeros(40, int), 32)
    assert groups.first.tolist() == [0, 0, *range(2, 40)]
    assert groups.is_in_a_half.all()
    assert groups.notes == ()


def test_cut_outs_of_unlike_images_overlap_by_their_place_on_the_sky() -> None:
    """0 and 1 are within 1″; 2 lies in the central quarter of 3; 4 and 5 are as near, but in neither's."""
    ra = np.concatenate([[0, 4, 1000, 1007, 2000, 2009], np.arange(3000, 37_000, 1000)]) * 0.2 / 3600
    n = len(ra)
    image = np.arange(n) % 2
    x = 1000.0 * np.arange(n)
    digests = np.arange(2 * n, dtype=np.uint64).reshape(n, 2)
    groups = group_cut_outs(digests, x, x * 0, image, 32, ra, ra * 0, 0.2)
    assert groups.first[:6].tolist() == [0, 0, 2, 2, 4, 5]
    assert groups.first[6:].tolist() == list(range(6, n))
    unknown = np.full(n, np.nan)
    assert group_cut_outs(digests, x, x * 0, image, 32, unknown, unknown, 0.2).first.tolist() == list(range(n))


def test_halves_depend_on_the_group_alone_and_are_even() -> None:
    ids = np.concatenate([np.arange(10_000), 588848901523702001 + np.arange(10_000)])
    halves = half_of(ids)
    assert np.array_equal(half_of(ids[::-1]), halves[::-1])
    for part in (halves[:10_000], halves[10_000:]):
        assert 4_800 < (part == "tune").sum() < 5_200
    assert set(halves) == {"tune", "test"}
