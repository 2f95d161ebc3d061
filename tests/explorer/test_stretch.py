"""The survey's stretch: chosen once from a sample, stored, reused, the same after an interruption."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from explorer.errors import UsageError
from explorer.ingest.build import PLAN_JSON
from explorer.ingest.calibration import SAMPLED, evenly
from explorer.ingest.images import CreateOptions, create
from explorer.survey import Survey
from models.images import PERCENTILES, Stretch, prepare
from tests.broken import fits_bytes
from tests.explorer.making import make
from tests.galaxies import write_galaxies


def stretch_of(survey: Path) -> Stretch:
    opened = Survey.open(survey)
    opened.close()
    return opened.info.stretch


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 images of 16 × 16 px in two bands, each brighter than the one before."""
    rng = np.random.default_rng(0)
    values = rng.normal(0, 1, (600, 16, 16, 2)) + np.arange(600)[:, None, None, None] / 10
    values[:, :, :, 1] *= 2
    path = tmp_path_factory.mktemp("stack") / "stack.npy"
    np.save(path, values.astype(np.float32))
    return path


def test_percentiles_are_of_images_at_even_distances(stack: Path, tmp_path: Path) -> None:
    totals = make(tmp_path / "survey", stack)
    stretch = stretch_of(tmp_path / "survey")
    chosen = np.load(stack)[evenly(600, SAMPLED)].reshape(-1, 2)
    low, high = np.percentile(chosen, PERCENTILES, axis=0)
    assert (stretch.mode, stretch.percentiles) == ("percentile", PERCENTILES)
    assert stretch.low == pytest.approx(low, rel=1e-5)
    assert stretch.high == pytest.approx(high, rel=1e-5)
    assert f"the stretch is from a sample of {SAMPLED} of 600 images" in totals["notes"]


def test_images_stay_comparable_unless_each_is_stretched_by_itself(stack: Path, tmp_path: Path) -> None:
    for name, options in (("all", {}), ("each", {"stretch": Stretch("percentile", per_image=True)})):
        make(tmp_path / name, stack, **options)
        opened = Survey.open(tmp_path / name)
        means = opened.images[:].mean(axis=(1, 2, 3))
        opened.close()
        if name == "all":
            assert means[550] > 10 * means[50]
        else:
            assert means[550] == pytest.approx(means[50], rel=0.2)


def test_an_interrupted_survey_keeps_its_stretch(stack: Path, tmp_path: Path) -> None:
    options = CreateOptions(size=16, workers=1, name="survey")
    making = create(tmp_path / "survey", [stack], options)
    for progress in making:
        if progress.message == "decoding":
            break
    making.close()
    plan = json.loads((tmp_path / "survey" / "parts" / PLAN_JSON).read_text())
    assert plan["stretch"]["mode"] == "percentile"
    plan["stretch"]["low"] = [-3.0, -4.0]  # it is taken from the plan, not found anew
    (tmp_path / "survey" / "parts" / PLAN_JSON).write_text(json.dumps(plan))
    make(tmp_path / "survey", stack, name="survey")
    assert stretch_of(tmp_path / "survey").low == (-3.0, -4.0)


def test_the_same_files_give_the_same_stretch(stack: Path, tmp_path: Path) -> None:
    for name in "ab":
        make(tmp_path / name, stack, stretch=Stretch("lupton"), workers=2 if name == "b" else 1)
    assert stretch_of(tmp_path / "a") == stretch_of(tmp_path / "b")


def test_another_surveys_stretch_is_used_as_it_is(stack: Path, tmp_path: Path, voorwerp: Callable[..., str]) -> None:
    voorwerp("create", tmp_path / "first", stack, "--size", 16, "--percentiles", "5,95")
    np.save(tmp_path / "later.npy", np.load(stack)[:20] + 3)
    voorwerp("create", tmp_path / "second", tmp_path / "later.npy", "--size", 16, "--stretch-from", tmp_path / "first")
    first, second = stretch_of(tmp_path / "first"), stretch_of(tmp_path / "second")
    assert first == second
    assert first.percentiles == (5, 95)


def test_another_surveys_stretch_goes_by_the_names_of_the_bands(
    stack: Path, tmp_path: Path, voorwerp: Callable[..., str]
) -> None:
    told = ("--size", 16, "--bands", "g,i")
    voorwerp("create", tmp_path / "first", stack, *told, "--stretch-low", "0,50", "--stretch-high", "100,300")
    told = ("--size", 16, "--stretch-from", tmp_path / "first")
    voorwerp("create", tmp_path / "second", stack, *told, "--bands", "i,g")
    assert stretch_of(tmp_path / "second") == Stretch("linear", (50, 0), (300, 100))
    with pytest.raises(UsageError, match="stretch is for the bands g, i, the images have g, r; name them alike"):
        make(
            tmp_path / "third",
            stack,
            bands=("g", "r"),
            stretch=stretch_of(tmp_path / "first"),
            stretch_bands=("g", "i"),
        )


def test_a_stretch_for_other_bands_is_refused(stack: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the stretch is for 3 bands, the images have 2"):
        make(tmp_path / "survey", stack, stretch=Stretch("linear", (0, 0, 0), (1, 1, 1)))


def test_linear_without_limits_goes_from_the_lowest_to_the_highest_value(stack: Path, tmp_path: Path) -> None:
    make(tmp_path / "survey", stack, stretch=Stretch("linear"))
    chosen = np.load(stack)[evenly(600, SAMPLED)].reshape(-1, 2)
    assert stretch_of(tmp_path / "survey").low == pytest.approx(chosen.min(axis=0))
    assert stretch_of(tmp_path / "survey").high == pytest.approx(chosen.max(axis=0))


def test_pictures_keep_their_range_and_the_bytes_of_the_fast_path(tmp_path: Path) -> None:
    paths = write_galaxies(tmp_path / "images", 4)
    make(tmp_path / "survey", tmp_path / "images", size=32)
    opened = Survey.open(tmp_path / "survey")
    assert opened.info.stretch == Stretch()
    assert "stretch" not in opened.preprocessing
    for row, path in enumerate(paths):
        made = prepare(path, opened.info.cut)
        assert np.array_equal(opened.images[row], made.crop)
        assert opened.original(row)[0] == path.read_bytes()
    opened.close()


def test_pictures_may_be_stretched_and_stay_as_they_are(tmp_path: Path) -> None:
    paths = write_galaxies(tmp_path / "images", 4)
    make(tmp_path / "survey", tmp_path / "images", size=32, stretch=Stretch("linear", (10.0,), (60.0,)))
    opened = Survey.open(tmp_path / "survey")
    plain = prepare(paths[2], opened.info.cut).crop.astype(float)
    assert np.abs(opened.images[2] - np.clip((plain - 10) / 50 * 255, 0, 255)).max() <= 0.51
    assert opened.original(2)[0] == paths[2].read_bytes()
    assert [opened.subject(2)[f"crop_{name}"] for name in ("left", "top", "side")] == [8, 8, 32]
    assert opened.preprocessing["stretch"] == {"mode": "linear", "low": [10.0], "high": [60.0]}
    opened.close()


def test_a_grey_picture_becomes_three_bands_among_color_and_is_refused_among_others(tmp_path: Path) -> None:
    write_galaxies(tmp_path / "images", 3)
    grey = np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8)
    Image.fromarray(grey).save(tmp_path / "images" / "grey.png")
    make(tmp_path / "color", tmp_path / "images", size=32, stretch=Stretch("linear", (0, 10, 20), (100, 110, 120)))
    opened = Survey.open(tmp_path / "color")
    expected = np.clip((grey[8:40, 8:40, None] - np.array([0.0, 10, 20])) / 100 * 255, 0, 255)
    assert np.abs(opened.images[3] - expected).max() <= 0.51
    opened.close()
    np.save(tmp_path / "images" / "physical.npy", np.random.default_rng(0).normal(0, 1, (48, 48, 2)))
    for name in ("000.png", "001.jpg", "002.png"):
        (tmp_path / "images" / name).unlink()
    totals = make(tmp_path / "mixed", tmp_path / "images", bands=("g", "r"))
    assert "pictures and physical values stand side by side; they are compared as they are" in totals["notes"]
    refused = pq.read_table(tmp_path / "mixed" / "quarantine.parquet").to_pydict()
    assert (refused["source"], refused["reason"]) == (["grey.png"], ["has 1 band in a survey of 2"])


def test_units_are_said_and_unlike_ones_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(3):
        (tmp_path / "images" / f"{i}.fits").write_bytes(fits_bytes(BUNIT="nJy"))
    totals = make(tmp_path / "survey", tmp_path / "images")
    assert "values are in nJy" in totals["notes"]
    (tmp_path / "images" / "3.fits").write_bytes(fits_bytes(BUNIT="adu"))
    totals = make(tmp_path / "other", tmp_path / "images")
    assert "values are in unlike units: adu, nJy" in totals["notes"]


def test_places_at_even_distances_have_both_ends() -> None:
    assert evenly(0, 4) == []
    assert evenly(3, 4) == [0, 1, 2]
    assert evenly(10, 4) == [0, 3, 6, 9]
