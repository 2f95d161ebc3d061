"""Looking subjects up, against astropy and against slow obvious answers."""

import random
from pathlib import Path

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from hypothesis import strategies as st

from explorer.errors import UsageError
from explorer.services.lookup import RADIUS, cone_of, find
from explorer.survey import Survey
from tests.explorer.small_survey import write_survey

BIG = 588848901523702001


def survey_of(path: Path, **columns: list) -> Survey:
    """A survey whose subjects have these columns; of the others, only subject_id and source_id have values."""
    n = len(next(iter(columns.values())))
    write_survey(path, n, size=1)
    table = pq.read_table(path / "subjects.parquet")
    given = {"subject_id": np.arange(n) + BIG, "source_id": [str(BIG + i) for i in range(n)]} | columns
    for name, values in given.items():
        i = table.schema.get_field_index(name)
        table = table.set_column(i, table.schema.field(i), pa.array(values, table.schema.field(i).type))
    pq.write_table(table, path / "subjects.parquet")
    return Survey.open(path)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory):
    opened = survey_of(
        tmp_path_factory.mktemp("lookup") / "survey",
        source_id=["A-1", "a-22", "NGC 1300", "7", "x,y", "J100024.0+021200", "150", "galaxy_seven"],
        zooniverse_subject_id=[None, 91, 92, None, None, 93, None, None],
        image=["plates/hdf.fits.gz", "hdf.jpg", "m51.png", None, "hdf.jpg", "150", "A-1", "deep/m101.tif"],
        ra=[150.0, 150.001, 359.9999, 0.0001, None, 10.0, 200.0, 200.0],
        dec=[2.0, 2.0, 0.0, 0.0, None, 89.999, -89.9999, 89.999],
    )
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "text, rows",
    [
        ("A-1", [0]),  # a source_id, although an image has this name too
        (" a-22\n", [1]),
        ("NGC 1300", [2]),
        ("'NGC 1300'", [2]),
        ("x,y", [4]),
        ('"x,y"', [4]),
        ("7", [3]),
        (str(BIG + 4), [4]),  # a subject_id beyond 2⁵³
        ("92", [2]),  # a zooniverse_subject_id
        ("m51.png", [2]),
        ("m51", [2]),
        ("deep/m101.tif", [7]),
        ("m101", [7]),
        ("hdf.jpg", [1, 4]),
        ("J100024.0+021200", [5]),  # a coordinate, were it not an id
        ("GALAXY_SEVEN", [7]),
        ("galaxy_s", [7]),
    ],
)
def test_an_id_is_found_by_the_most_exact_name_that_fits(survey: Survey, text: str, rows: list[int]):
    found = find(survey, text)
    assert (found.rows.dtype, found.rows.tolist(), found.kind, found.missing) == (np.uint32, rows, "id", [])


def test_an_id_one_digit_off_is_not_found_but_its_neighbours_are_named(tmp_path: Path):
    survey = survey_of(tmp_path / "survey", source_id=[str(BIG), str(BIG + 1), "12", "13"])
    found = find(survey, str(BIG + 5))
    assert (found.rows.tolist(), found.missing) == ([], [str(BIG + 5)])
    assert found.message.startswith(f'"{BIG + 5}" is not in this survey; did you mean {BIG // 10}')
    survey.close()


def test_an_ambiguous_beginning_is_not_guessed_at(tmp_path: Path):
    survey = survey_of(tmp_path / "survey", source_id=["Abc1", "abC2", "abc", "ABC", "xyz"])
    found = find(survey, "aBc")
    assert (found.rows.tolist(), found.missing) == ([], ["aBc"])
    assert found.message == '"aBc" is not in this survey; 4 ids begin so: Abc1, abC2, abc and 1 more'
    assert find(survey, "XYZ").message == 'found xyz: but for the case "XYZ"'
    survey.close()


def test_a_list_keeps_its_order_and_names_what_is_missing(survey: Survey):
    found = find(survey, 'm51.png, b\nA-1; "x,y"\tA-1\r\nNGC 1300\nc')
    assert (found.rows.tolist(), found.kind, found.missing) == ([2, 0, 4], "list", ["b", "c"])
    assert found.message == "4 of 6 found; 2 are not in this survey: b, c"  # m51.png and NGC 1300 are one subject


def test_a_list_may_be_separated_by_blanks_in_part(survey: Survey):
    assert find(survey, "A-1 a-22 7").rows.tolist() == [0, 1, 3]
    found = find(survey, "A-1 a-22\nNGC 1300\nno such")
    assert (found.rows.tolist(), found.missing) == ([0, 1, 2], ["no such"])
    assert find(survey, "A-1\na-22").message == "all 2 found"


def test_of_many_missing_ids_the_first_are_named(survey: Survey):
    found = find(survey, "A-1\n" + "\n".join(f"q{i}" for i in range(8)))
    assert found.message == "1 of 9 found; 8 are not in this survey: q0, q1, q2, q3, q4 and 3 more"
    assert len(found.missing) == 8


def test_two_whole_numbers_are_ids_where_one_of_them_is(survey: Survey):
    assert find(survey, "150 7").rows.tolist() == [6, 3]
    assert find(survey, "7, 2").missing == ["2"]
    assert find(survey, "151 2").kind == "coordinate"
    assert find(survey, "7000 8000").missing == ["7000", "8000"]  # no place on the sky either


def test_a_long_list_of_ids_beyond_two_to_the_53_is_exact(tmp_path: Path):
    n = 20_000
    survey = survey_of(tmp_path / "survey", source_id=[f"g{i}" for i in range(n)])
    wanted = random.Random(0).sample(range(2 * n), 10_000)
    found = find(survey, ", ".join(str(BIG + i) for i in wanted))
    assert found.rows.tolist() == [i for i in wanted if i < n]
    assert found.missing == [str(BIG + i) for i in wanted if i >= n]
    survey.close()


@hypothesis.given(st.text(max_size=60) | st.from_regex(r"[-+\d:hmsdJ°'\"′″ ,.]{1,30}", fullmatch=True))
def test_whatever_is_typed_gets_one_sentence(survey: Survey, text: str):
    found = find(survey, text)
    assert found.message and "\n" not in found.message
    assert len(found.rows) <= survey.n


@pytest.mark.parametrize("text", ["", "  \n", ",;\n,", '""', "\ud800"])
def test_nothing_typed_finds_nothing(survey: Survey, text: str):
    assert find(survey, text).rows.size == 0


# ---------------------------------------------------------------------------------------------------- coordinates
@pytest.mark.parametrize(
    "text, place, radius",
    [
        ("150.1 2.2", "150.1d 2.2d", RADIUS),
        ("150.1, +2.2", "150.1d 2.2d", RADIUS),
        ("150.1+2.2", "150.1d 2.2d", RADIUS),
        ("-10.5 2.2", "349.5d 2.2d", RADIUS),
        ("150.1\t-2.2 5arcsec", "150.1d -2.2d", 5),
        ("150.1d −2.2d 5″", "150.1d -2.2d", 5),
        ("(150.1, 2.2)", "150.1d 2.2d", RADIUS),
        ("RA=150.1 Dec=2.2 r=5''", "150.1d 2.2d", 5),
        ("RA: 10:00:24, Dec: -00:12:06.5 2′", "10h00m24s -0d12m06.5s", 120),
        ("10:00:24 +02:12:00", "10h00m24s 2d12m00s", RADIUS),
        ("10:00:24.05-02:12:00.7 1.5'", "10h00m24.05s -2d12m0.7s", 90),
        ("10:00 -02:12", "10h00m00s -2d12m00s", RADIUS),
        ("10 00 24 +02 12 00", "10h00m24s 2d12m00s", RADIUS),
        ("10 00 24.5 -00 00 01.5 0.1deg", "10h00m24.5s -0d00m1.5s", 360),
        ("10h00m24s +2d12m", "10h00m24s 2d12m00s", RADIUS),
        ("10h00m24.5s -2°12′5.5″", "10h00m24.5s -2d12m5.5s", RADIUS),
        ("10h -2d 1 degree", "10h00m00s -2d00m00s", 3600),
        ("10h 00m 24s, -02d 12m 00s, 3 arcmin", "10h00m24s -2d12m00s", 180),
    ],
)
def test_a_coordinate_is_where_astropy_says(text: str, place: str, radius: float):
    cone, expected = cone_of(text), SkyCoord(place)
    assert cone is not None
    assert (cone.ra, cone.dec, cone.radius) == pytest.approx((expected.ra.deg, expected.dec.deg, radius), abs=1e-9)


@pytest.mark.parametrize(
    "name, place, radius",
    [
        ("J100024.05+021200.7", "10:00:24.05 +02:12:00.7", RADIUS),
        ("SDSS J100024.05-021200.7", "10:00:24.05 -02:12:00.7", RADIUS),
        ("J100024+021200", "10:00:24 +02:12:00", 15.02),
        ("WISEA J1000-0212", "10:00:00 -02:12:00", 901.3),
        ("J100024.05+021200.7 3arcsec", "10:00:24.05 +02:12:00.7", 3),
    ],
)
def test_the_name_of_an_object_is_its_place_as_far_as_its_digits_go(name: str, place: str, radius: float):
    cone = cone_of(name)
    expected = SkyCoord(place, unit=(u.hourangle, u.deg))
    assert cone is not None
    assert (cone.ra, cone.dec) == pytest.approx((expected.ra.deg, expected.dec.deg), abs=1e-9)
    assert cone.radius == pytest.approx(radius, rel=1e-3)


@pytest.mark.parametrize("text", ["150.1", "A-1", "1 2 3", "150.1 2.2 5parsec", "150.1\n2.2", "2023-01-02", "J2000"])
def test_other_text_is_no_coordinate(text: str):
    assert cone_of(text) is None


@pytest.mark.parametrize(
    "text", ["150.1 92.5", "400.0 2", "25:00:00 +2:00:00", "10:61:00 +2:00:00", "10h -91d", "1.5 2 0″"]
)
def test_a_place_that_is_not_on_the_sky_is_refused_in_a_sentence(survey: Survey, text: str):
    with pytest.raises(UsageError, match=r"not on the sky|radius"):
        cone_of(text)
    found = find(survey, text)
    assert (found.rows.size, found.kind) == (0, "coordinate")


@pytest.mark.parametrize(
    "text, words",
    [
        ("400 20 5arcsec", "RA 400°, Dec +20° is not on the sky"),
        ("151 2 5parsec", "5parsec is no radius: its unit is arcsec, arcmin or deg"),
        ("10:00:24 +02:12:00 5 pc", "5 pc is no radius"),
    ],
)
def test_a_place_with_a_wrong_radius_or_off_the_sky_is_no_list_of_ids(survey: Survey, text: str, words: str):
    found = find(survey, text)
    assert (found.rows.size, found.kind, found.missing) == (0, "coordinate", [])
    assert found.message.startswith(words)


def test_the_nearest_come_first_with_their_separations(survey: Survey):
    found = find(survey, "150.0008 2.0 5arcsec")
    assert found.rows.tolist() == [1, 0]
    assert found.separations == pytest.approx([0.72, 2.88], rel=2e-3)
    assert found.message == "2 within 5″ of 10:00:00.19 +02:00:00.0; the nearest is 0.72″ away"


def test_the_sky_has_no_seam_at_ra_0_and_none_at_the_poles(survey: Survey):
    assert find(survey, "359.99995 0.0 1arcsec").rows.tolist() == [2, 3]
    assert find(survey, "0.00005 0.0 1arcsec").rows.tolist() == [3, 2]
    assert set(find(survey, "100.0 90.0 5arcsec").rows.tolist()) == {5, 7}
    assert find(survey, "20.0 -90.0 1arcsec").rows.tolist() == [6]


def test_where_nothing_is_near_the_nearest_is_named(survey: Survey):
    found = find(survey, "150.0 2.01")
    assert (found.rows.tolist(), found.missing) == ([], [])
    assert found.message == "none within 10″ of 10:00:00.00 +02:00:36.0; the nearest, A-1, is 36″ away"


def test_separations_are_those_of_astropy(tmp_path: Path):
    sky = np.random.default_rng(0)
    ra, dec = sky.uniform(0, 360, 500), np.degrees(np.arcsin(sky.uniform(-1, 1, 500)))
    survey = survey_of(tmp_path / "survey", ra=ra.tolist(), dec=dec.tolist())
    found = find(survey, "120.0 -75.5 180deg")
    expected = SkyCoord(ra * u.deg, dec * u.deg).separation(SkyCoord(120 * u.deg, -75.5 * u.deg)).arcsec
    assert found.rows.tolist() == np.argsort(expected).tolist()
    np.testing.assert_allclose(found.separations, np.sort(expected), rtol=1e-7)
    survey.close()


def test_a_survey_without_places_says_so(tmp_path: Path):
    survey = survey_of(tmp_path / "survey", source_id=["a", "b"])
    assert find(survey, "150.1 2.2").message.startswith("no subject of this survey has RA and Dec")
    survey.close()
