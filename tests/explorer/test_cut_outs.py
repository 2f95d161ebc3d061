"""`voorwerp create --cut-out`: which sources are found, how they are cut out, and how they are grouped and halved."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from PIL import Image

from explorer.cli import main
from explorer.errors import IngestError, UsageError
from explorer.ingest.cut_outs import create_cut_outs
from explorer.ingest.decoder import Reading
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
from models.images import CONTEXT, ImageError, corner

HUBBLE = Path(skimage.__file__).parent / "data" / "hubble_deep_field.jpg"


def make(path: Path, *images: Path, **options: Any) -> dict[str, Any]:
    making = create_cut_outs(path, images, CreateOptions(**{"size": 32, **options}))
    while True:
        try:
            next(making)
        except StopIteration as end:
            totals: dict[str, Any] = end.value
            return totals


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


def test_halves_depend_on_the_group_alone_and_are_even() -> None:
    ids = np.concatenate([np.arange(10_000), 588848901523702001 + np.arange(10_000)])
    halves = half_of(ids)
    assert np.array_equal(half_of(ids[::-1]), halves[::-1])
    for part in (halves[:10_000], halves[10_000:]):
        assert 4_800 < (part == "tune").sum() < 5_200
    assert set(halves) == {"tune", "test"}
