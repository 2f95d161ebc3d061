"""Tables meet the survey by exact ids and by place on the sky; nothing is lost, guessed or half done."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from explorer.errors import IngestError, SurveyError, UsageError
from explorer.ingest.build import create_table_only
from explorer.ingest.catalogues import read_catalogue
from explorer.ingest.join import JoinOptions, join, match_sky, radius_of
from explorer.survey import SUBJECTS, Survey, check
from tests.conftest import FIRST_ID

N = 6


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    """Six subjects along the equator, 0.001° apart from ra 359.998 on, with a column of their own."""
    columns = {
        "source_id": [str(FIRST_ID + i) for i in range(N)],
        "ra": (359.998 + 0.001 * np.arange(N)) % 360,
        "dec": np.zeros(N),
        "z": np.arange(N) / 10,
    }
    create_table_only(tmp_path / "survey", pa.table(columns), "Six")
    return tmp_path / "survey"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def column(survey: Path, name: str) -> list[object]:
    values: list[object] = pq.read_table(survey / SUBJECTS, columns=[name]).column(0).to_pylist()
    return values


# -------------------------------------------------------------------------------------------------------------- ids
def test_ids_meet_as_text_and_everything_is_counted(survey: Path, tmp_path: Path):
    rows = f"OBJID,mass\n{FIRST_ID + 4},4.5\n{FIRST_ID},0.5\n{FIRST_ID + 4},9\n7,7\n,8\n"
    joined = join(survey, write(tmp_path / "t.csv", rows), JoinOptions(on="OBJID"))
    assert (joined.n_matched, joined.n_rows_used, joined.n_rows, joined.match.n_doubled) == (2, 2, 5, 1)
    assert joined.sentences() == [
        "2 of 6 subjects matched (source_id = OBJID)",
        "3 of the table's 5 rows belong to no subject",
        "1 row with a key that an earlier row has; the first was taken",
        "columns: mass",
    ]
    assert column(survey, "mass") == [0.5, None, None, None, 4.5, None]
    assert check(survey) == []


def test_ids_that_differ_in_one_digit_beyond_a_double_do_not_meet(survey: Path, tmp_path: Path):
    table = write(tmp_path / "t.csv", f"id,a\n{FIRST_ID + 1},1\n{FIRST_ID + 100},2\n0{FIRST_ID},3\n")
    join(survey, table, JoinOptions(on="source_id=id"))
    assert column(survey, "a") == [None, 1, None, None, None, None]


def test_any_own_column_can_be_the_key_but_floats_cannot(survey: Path, tmp_path: Path):
    join(survey, write(tmp_path / "t.csv", f"id,host\n{FIRST_ID},A\n{FIRST_ID + 1},A\n"), JoinOptions(on="id"))
    joined = join(survey, write(tmp_path / "h.csv", "name,richness\nA,30\n"), JoinOptions(on="host=name"))
    assert column(survey, "richness") == [30, 30, None, None, None, None]
    assert joined.n_shared == 2
    with pytest.raises(UsageError, match="holds floats"):
        join(survey, write(tmp_path / "z.csv", "z,a\n0.1,1\n"), JoinOptions(on="z=z"))


def test_a_key_twice_is_refused_when_strict(survey: Path, tmp_path: Path):
    before = (survey / SUBJECTS).read_bytes()
    table = write(tmp_path / "t.csv", f"id,a\n{FIRST_ID},1\n{FIRST_ID},2\n")
    with pytest.raises(IngestError, match="1 row whose key"):
        join(survey, table, JoinOptions(on="id", strict=True))
    assert (survey / SUBJECTS).read_bytes() == before


def test_columns_come_with_unit_kind_and_where_they_are_from(survey: Path, tmp_path: Path):
    table = Table({"objid": [FIRST_ID, FIRST_ID + 1], "flux": np.array([1, 2], np.float32), "obj2": [2**60 + 1, 2**60]})
    table["flux"].unit = "nJy"
    table.write(tmp_path / "cat.fits")
    join(survey, tmp_path / "cat.fits", JoinOptions(on="objid"))
    field = pq.read_schema(survey / SUBJECTS).field("flux")
    assert field.metadata == {b"kind": b"number", b"unit": b"nJy", b"source": b"cat.fits"}
    opened = Survey.open(survey)
    assert {c.name: (c.dtype, c.unit) for c in opened.columns()}["flux"] == ("number", "nJy")
    assert opened.column("obj2")[:3].tolist() == [str(2**60 + 1), str(2**60), None]
    opened.close()


# ------------------------------------------------------------------------------------------------------------ names
def test_names_that_are_taken_are_refused_unless_prefixed_or_replaced(survey: Path, tmp_path: Path):
    table = write(tmp_path / "t.csv", f"id,z\n{FIRST_ID},9\n")
    with pytest.raises(UsageError, match='has a column "z" already; --replace'):
        join(survey, table, JoinOptions(on="id"))
    join(survey, table, JoinOptions(on="id", prefix="new_"))
    assert column(survey, "new_z")[0] == 9
    join(survey, table, JoinOptions(on="id", replace=True))
    assert column(survey, "z") == [9, None, None, None, None, None]
    assert column(survey, "new_z")[0] == 9


def test_the_real_mistake_is_said_before_a_name_that_is_taken(survey: Path, tmp_path: Path):
    table = write(tmp_path / "t.csv", f"id,ra,dec,z\n{FIRST_ID},0,0,9\n")
    with pytest.raises(UsageError, match='"2parsec" is no radius'):
        join(survey, table, JoinOptions(sky="2parsec"))
    with pytest.raises(UsageError, match=r'column "Bname" is not in subjects.parquet'):
        join(survey, table, JoinOptions(on="Bname=id"))
    join(survey, table, JoinOptions(sky="2arcsec", known=True))
    with pytest.raises(UsageError, match=r'separations "t_sep_arcsec" already; --replace .* --name gives this one'):
        join(survey, table, JoinOptions(sky="2arcsec", known=True))
    again = join(survey, table, JoinOptions(sky="2arcsec", known=True, name="again"))
    assert "again_sep_arcsec" in again.columns


@pytest.mark.parametrize("name", ["half", "RA", "subject_id", "is_withdrawn"])
def test_the_surveys_own_columns_never_change(survey: Path, tmp_path: Path, name: str):
    table = write(tmp_path / "t.csv", f"id,{name}\n{FIRST_ID},9\n")
    with pytest.raises(UsageError, match="of its own, which no table can change"):
        join(survey, table, JoinOptions(on="id", replace=True))


def test_chosen_columns_only_with_the_near_miss(survey: Path, tmp_path: Path):
    table = write(tmp_path / "t.csv", f"id,alpha,beta\n{FIRST_ID},1,2\n")
    assert join(survey, table, JoinOptions(on="id", columns=["beta"])).columns == ("beta",)
    with pytest.raises(UsageError, match='did you mean "alpha"'):
        join(survey, table, JoinOptions(on="id", columns=["alpa"]))


def test_no_match_at_all_changes_nothing(survey: Path, tmp_path: Path):
    before = (survey / SUBJECTS).read_bytes()
    with pytest.raises(IngestError, match=r"belongs to a subject of .*nothing changed"):
        join(survey, write(tmp_path / "t.csv", "id,a\n1,2\n"), JoinOptions(on="id"))
    assert (survey / SUBJECTS).read_bytes() == before


def test_where_no_key_matches_one_of_each_side_is_shown_and_the_column_that_would(survey: Path, tmp_path: Path):
    files = "".join(f"{FIRST_ID + i},{i}.png\n" for i in range(N))
    join(survey, write(tmp_path / "f.csv", f"id,file\n{files}"), JoinOptions(on="id"))
    table = write(tmp_path / "t.csv", "name,a\n0.png,1\n1.png,2\nx.png,3\n")
    sentence = rf'source_id = name: the survey has "{FIRST_ID}", the table "0.png"\); .* did you mean --on file=name\?$'
    with pytest.raises(IngestError, match=sentence):
        join(survey, table, JoinOptions(on="name"))
    assert join(survey, table, JoinOptions(on="file=name")).n_matched == 2
    with pytest.raises(IngestError, match=r"nothing changed$"):
        join(survey, write(tmp_path / "u.csv", "name,b\n9.png,1\n"), JoinOptions(on="name"))


@pytest.mark.parametrize("options", [JoinOptions(), JoinOptions(on="id", sky="2arcsec")])
def test_a_join_is_by_id_or_by_place(survey: Path, tmp_path: Path, options: JoinOptions):
    with pytest.raises(UsageError, match="one of --on COLUMN and --sky RADIUS"):
        join(survey, write(tmp_path / "t.csv", "id,a\n1,2\n"), options)


# ------------------------------------------------------------------------------------------------------------ known
def test_known_objects_are_flagged_and_named_and_stay_so(survey: Path, tmp_path: Path):
    first = write(tmp_path / "a.csv", f"id,name,z\n{FIRST_ID},Arp 220,1\n")
    joined = join(survey, first, JoinOptions(on="id", known=True, name_column="name"))
    assert joined.columns == ("is_known", "known_name")
    second = write(tmp_path / "b.csv", f"id,name\n{FIRST_ID + 2},M 51\n")
    join(survey, second, JoinOptions(on="id", known=True, name_column="name"))
    assert column(survey, "is_known") == [True, None, True, None, None, None]
    assert column(survey, "known_name") == ["Arp 220", None, "M 51", None, None, None]
    assert column(survey, "z")[0] == 0.0
    with pytest.raises(UsageError, match="use it with --known"):
        join(survey, second, JoinOptions(on="id", name_column="name"))


# -------------------------------------------------------------------------------------------------------------- sky
def test_places_meet_across_ra_zero_and_the_nearest_wins(survey: Path, tmp_path: Path):
    rows = "ra,dec,name\n359.9999,0,a\n0.0001,0.0001,b\n0.0002,0,c\n180,0,far\n"
    joined = join(survey, write(tmp_path / "near by.csv", rows), JoinOptions(sky="1arcsec"))
    assert column(survey, "name") == [None, None, "a", None, None, None]
    assert joined.match.n_several == 2 - 1
    np.testing.assert_allclose(column(survey, "near_by_sep_arcsec")[2], 0.36, rtol=1e-5)
    assert column(survey, "near_by_sep_arcsec")[3] is None
    assert "ra" not in joined.columns


@given(
    pole=st.sampled_from([-90.0, 90.0, 0.0]),
    seed=st.integers(0, 2**31),
    radius=st.floats(0.5, 500.0),
)
def test_places_agree_with_astropy_at_the_poles_and_everywhere(pole: float, seed: int, radius: float):
    random = np.random.default_rng(seed)

    def places(n: int) -> tuple[np.ndarray, np.ndarray]:
        return random.uniform(-0.1, 0.1, n) % 360 if pole == 0 else random.uniform(0, 360, n), np.clip(
            pole + random.uniform(-0.1, 0.1, n), -90, 90
        )

    ours, theirs = places(15), places(25)

    class Subjects:
        n = 15

        @staticmethod
        def column(name: str) -> np.ndarray:
            return ours[0] if name == "ra" else ours[1]

    match = match_sky(Subjects(), pa.table({"ra": theirs[0], "dec": theirs[1]}), f"{radius}arcsec")
    a, b = SkyCoord(*ours, unit="deg"), SkyCoord(*theirs, unit="deg")
    _, separation, _ = a.match_to_catalog_sky(b)
    is_near = separation.arcsec <= radius
    assert ((match.rows >= 0) == is_near).all()
    taken = b[match.rows[is_near]]  # of several at the pole itself, any
    np.testing.assert_allclose(a[is_near].separation(taken).arcsec, separation.arcsec[is_near], atol=1e-6)
    np.testing.assert_allclose(match.separation_arcsec[is_near], separation.arcsec[is_near], rtol=1e-5)
    within = (a[:, None].separation(b[None, :]).arcsec <= radius).sum(1)
    assert match.n_several == int((within > 1).sum())


@pytest.mark.parametrize(("text", "arcsec"), [("2arcsec", 2), ("0.5 arcmin", 30), ("1e-3deg", 3.6)])
def test_a_radius_has_its_unit(text: str, arcsec: float):
    assert radius_of(text) == pytest.approx(arcsec)


@pytest.mark.parametrize("text", ["2", "arcsec", "-1arcsec", "2 parsec", "0arcsec", "11deg", "nanarcsec"])
def test_a_radius_that_is_none_is_a_sentence(text: str):
    with pytest.raises(UsageError, match="radius"):
        radius_of(text)


# ---------------------------------------------------------------------------------------------------- interruptions
def test_one_command_writes_at_a_time(survey: Path, tmp_path: Path):
    table = write(tmp_path / "t.csv", f"id,a\n{FIRST_ID},1\n")
    opened = Survey.open(survey)
    with opened.lock(), pytest.raises(SurveyError):
        join(survey, table, JoinOptions(on="id"))
    opened.close()


def test_an_open_survey_sees_the_columns_after_a_refresh(survey: Path, tmp_path: Path):
    opened = Survey.open(survey)
    join(survey, write(tmp_path / "t.csv", f"id,a\n{FIRST_ID},1\n"), JoinOptions(on="id"))
    assert opened.refresh()
    assert opened.column("a")[0] == 1
    opened.close()


def test_a_join_that_is_killed_at_any_moment_has_happened_or_not(tmp_path: Path):
    n = 60_000
    table = pa.table({"source_id": [str(i) for i in range(n)], "z": np.arange(n) / 7})
    create_table_only(tmp_path / "survey", table, "Many")
    before = pq.read_table(tmp_path / "survey" / SUBJECTS)
    pq.write_table(pa.table({"id": np.arange(n), "a": np.arange(n) + 0.5}), tmp_path / "t.parquet")
    code = (
        "import sys; from explorer.ingest.join import *; print('ready', flush=True); "
        "join(sys.argv[1], sys.argv[2], JoinOptions(on='id', replace=True))"
    )
    for wait in (0.02, 0.08, 0.15, 0.25):
        command = [sys.executable, "-c", code, str(tmp_path / "survey"), str(tmp_path / "t.parquet")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        after = pq.read_table(tmp_path / "survey" / SUBJECTS)
        assert after.select(before.column_names).equals(before)
        assert after.num_columns in (before.num_columns, before.num_columns + 1)
        assert check(tmp_path / "survey") == []
    join(tmp_path / "survey", tmp_path / "t.parquet", JoinOptions(on="id", replace=True))
    assert pq.read_table(tmp_path / "survey" / SUBJECTS, columns=["a"]).column(0).to_numpy()[-1] == n - 0.5
    assert not list((tmp_path / "survey").glob(".*.tmp"))


# -------------------------------------------------------------------------------------------------------- real data
def test_the_hsc_catalogue_meets_itself_by_place(shared_data: Path, tmp_path: Path):
    path = shared_data / "hsc_gan_catalog" / "anomaly_catalog_hsc_disc3sigma_without_holdout.csv"
    table = read_catalogue(path, as_text=("HSC_object_id",))
    columns = [table.column("HSC_object_id"), table.column("ra"), table.column("dec")]
    create_table_only(tmp_path / "survey", pa.table(columns, names=["source_id", "ra", "dec"]), "HSC")
    joined = join(tmp_path / "survey", path, JoinOptions(sky="2arcsec", name="hsc"))
    assert joined.n_matched == joined.n_rows == 13_340
    found = pq.read_table(tmp_path / "survey" / SUBJECTS)
    same = [str(i) for i in found.column("HSC_object_id").to_pylist()]
    assert sum(a != b for a, b in zip(same, found.column("source_id").to_pylist(), strict=True)) == 0
    assert max(found.column("hsc_sep_arcsec").to_pylist()) < 0.001


def test_the_command_says_what_it_did(survey: Path, tmp_path: Path, voorwerp: Callable[..., str]):
    Table({"objid": [FIRST_ID, 5], "name": ["M 51", "nobody"]}).write(tmp_path / "known.vot", format="votable")
    told = ["--on", "objid", "--known", "--name-column", "name"]
    assert voorwerp("join", survey, tmp_path / "known.vot", *told).splitlines() == [
        "1 of 6 subjects matched (source_id = objid)",
        "1 of the table's 2 rows belongs to no subject",
        "columns: is_known, known_name",
    ]
    assert column(survey, "known_name") == ["M 51", None, None, None, None, None]
