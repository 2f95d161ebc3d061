"""The export: every format read back by the library its readers use; what a spreadsheet may not run; exact values."""

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from astropy.io import fits, votable
from astropy.table import Table
from hypothesis import strategies as st

from explorer.cli import main
from explorer.errors import UsageError
from explorer.ingest.build import create_table_only
from explorer.ledger import Ledger
from explorer.services import export
from explorer.services.explore import Explore, _text
from explorer.services.export import (
    EXPORTS,
    csv_bytes,
    fits_bytes,
    parquet_bytes,
    regions_bytes,
    selection_table,
    votable_bytes,
)
from explorer.state import Selection
from explorer.survey import Survey
from tests.conftest import FIRST_ID


def test_nothing_in_a_csv_is_a_formula() -> None:
    texts = ["=1+1", "+1", "-1", "@a", "\t=1", "\r=1", "\n=1", "plain", "", None]
    table = pa.table({"=HYPERLINK(1)": pa.array(texts), "n": pa.array([-1] * len(texts))})
    rows = list(csv.reader(io.StringIO(csv_bytes(table).decode(), newline="")))
    assert rows[0] == ["'=HYPERLINK(1)", "n"]
    assert [row[0] for row in rows[1:]] == [*(f"'{text}" for text in texts[:7]), "plain", "", ""]
    assert {row[1] for row in rows[1:]} == {"-1"}  # numbers stay numbers


def test_values_are_shown_with_all_their_digits() -> None:
    single = pa.array([0.1], pa.float32()).to_pylist()[0]
    values = [588848901523702001, 149.123456789, single, 17.0, 1e300, True, "x", None, float("nan")]
    shown = ["588848901523702001", "149.123456789", "0.1", "17.0", "1e+300", "True", "x", None, None]
    assert [_text(value) for value in values] == shown


# ----------------------------------------------------------------------------------------------- formats, read back
@pytest.fixture(scope="module")
def odd() -> pa.Table:
    """Every type and every kind of text that a user's columns may have, with gaps."""
    columns = {
        "subject_id": pa.array([FIRST_ID, FIRST_ID + 1, FIRST_ID + 2]),
        "source_id": pa.array([str(FIRST_ID), "a<b> & \"c\" 'd' }{", "λ\u0007"]),
        "ra": pa.array([1.25, None, float("nan")]),
        "dec": pa.array([-0.1, 2.0, 3.0]),
        "crop_side": pa.array([64, None, None], pa.int32()),
        "pixel_scale_arcsec": pa.array([0.5, None, None], pa.float32()),
        "score": pa.array([0.1, None, float("-inf")], pa.float32()),
        "SCORE": pa.array([1e300, float("inf"), 5e-324]),
        "tiny": pa.array([-128, None, 127], pa.int8()),
        "lowest": pa.array([-(2**63), None, 2**63 - 1]),
        "huge": pa.array([2**64 - 1, None, 0], pa.uint64()),
        "flag": pa.array([True, None, False]),
        "note": pa.array(["two\r\nlines", "", None]),
        "day": pa.array([0, None, 1], pa.date32()),
        "list": pa.array([[1, 2], None, []]),
        "nothing": pa.nulls(3),
    }
    provenance = {"survey": "<Five> & 'λ'", "selection": "f" * 64, "run_id": "", "lambda": 0.2}
    table = pa.table(columns).replace_schema_metadata({"voorwerp": json.dumps(provenance)})
    field = table.schema.field("ra").with_metadata({"unit": "deg"})
    return table.set_column(2, field, table.column("ra"))


def test_a_votable_holds_every_value_as_it_was(odd: pa.Table):
    content = votable_bytes(odd)
    file = votable.parse(io.BytesIO(content), verify="exception")
    table = file.get_first_table().to_table()
    assert file.version == "1.4"
    assert table.colnames == odd.column_names
    assert table["subject_id"].tolist() == [FIRST_ID, FIRST_ID + 1, FIRST_ID + 2]
    assert table["source_id"].tolist() == [str(FIRST_ID), "a<b> & \"c\" 'd' }{", "λ\ufffd"]
    assert table["note"].tolist() == ["two\r\nlines", "", ""]
    assert table["score"].dtype == np.float32
    assert table["score"][0] == np.float32(0.1) and table["score"][2] == -np.inf
    assert table["SCORE"].tolist() == [1e300, float("inf"), 5e-324]
    assert table["lowest"].tolist() == [-(2**63), None, 2**63 - 1]
    assert table["huge"].tolist() == [str(2**64 - 1), "", "0"]
    assert table["flag"].tolist() == [True, None, False]
    assert table["tiny"].tolist() == [-128, None, 127]
    assert table["day"].tolist() == ["1970-01-01", "", "1970-01-02"]
    assert table["list"].tolist() == ["[1, 2]", "", "[]"]
    assert (str(table["ra"].unit), np.isnan(np.ma.filled(table["ra"], np.nan)).tolist()) == ("deg", [False, True, True])


def test_a_votable_says_where_it_came_from_and_what_its_columns_mean(odd: pa.Table):
    resource = votable.parse(io.BytesIO(votable_bytes(odd)), verify="exception").resources[0]
    assert {info.name: info.value for info in resource.infos} == {
        "survey": "<Five> & 'λ'",
        "selection": "f" * 64,
        "lambda": "0.2",
    }
    ucds = {field.name: field.ucd for field in resource.tables[0].fields if field.ucd}
    assert ucds == {
        "subject_id": "meta.id",
        "source_id": "meta.id;meta.main",
        "ra": "pos.eq.ra;meta.main",
        "dec": "pos.eq.dec;meta.main",
    }
    assert resource.coordinate_systems[0].system == "ICRS"


def test_a_fits_table_holds_every_value_as_it_was(odd: pa.Table):
    content = fits_bytes(odd)
    assert len(content) % 2880 == 0
    with fits.open(io.BytesIO(content), logical_as_bytes=True) as file:
        file.verify("exception")
        header, rows = file[1].header, file[1].data
        assert rows["subject_id"].tolist() == [FIRST_ID, FIRST_ID + 1, FIRST_ID + 2]
        assert rows["source_id"].tolist() == [str(FIRST_ID), "a<b> & \"c\" 'd' }{", "\\u03bb\\x07"]
        assert rows["note"].tolist() == ["two\\r\\nlines", "", ""]
        assert rows["flag"].tolist() == [b"T", b"", b"F"]
        assert rows["huge"].tolist() == [str(2**64 - 1), "", "0"]
        assert rows["SCORE_"].tolist() == [1e300, float("inf"), 5e-324]
        assert np.isnan(rows["ra"]).tolist() == [False, True, True]
    assert header["TUNIT3"] == "deg"
    assert (header["SURVEY"], header["SELECTED"], header["LAMBDA"]) == (r"<Five> & '\u03bb'", "f" * 64, 0.2)
    table = Table.read(io.BytesIO(fits_bytes(odd.drop_columns(["flag"]))))
    assert table["lowest"].tolist() == [-(2**63), None, 2**63 - 1]
    assert table["tiny"].tolist() == [-128, None, 127]
    assert table["crop_side"].tolist() == [64, None, None]


def test_the_header_of_a_fits_table_has_numbers_as_numbers_under_names_one_can_read(tmp_path: Path):
    create_table_only(tmp_path / "survey", pa.table({"source_id": ["a", "b", "c"]}), "Three")
    survey = Survey.open(tmp_path / "survey")
    table = selection_table(Explore(survey), Selection.of_rows([0, 2], survey.n), "", "", 0.2, "standardised")
    header = fits.getheader(io.BytesIO(fits_bytes(table)), 1)
    assert (header["LAMBDA"], header["LAMBMODE"]) == (0.2, "standardised")
    assert (header["NSEL"], header["NSUBJ"]) == (2, 3)
    assert (header["SURVEYID"], header.comments["SURVEYID"]) == (survey.info.survey_id, "id of the survey")
    assert {"SURVEY", "VERSION", "SELECTED", "EXPORTED"} <= set(header)
    survey.close()


def test_too_wide_or_too_large_for_fits_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UsageError, match=r"1,000 columns, FITS takes 999; export Parquet"):
        fits_bytes(pa.table({str(i): [1] for i in range(1000)}))
    monkeypatch.setattr(export, "MAX_FITS", 1000)
    with pytest.raises(UsageError, match=r'the longest text of "b" has 600 characters'):
        fits_bytes(pa.table({"a": [1, 2], "b": ["x" * 600, ""]}))


def test_an_empty_selection_is_a_file_without_rows(odd: pa.Table):
    none = odd.slice(0, 0)
    assert len(Table.read(io.BytesIO(votable_bytes(none)), format="votable")) == 0
    assert len(Table.read(io.BytesIO(fits_bytes(none)))) == 0
    assert regions_bytes(none).decode().splitlines()[-1] == "fk5"


def test_rows_in_many_batches_are_all_there_and_in_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(export, "BATCH", 7)
    table = pa.table({"subject_id": np.arange(100), "source_id": [f"é{i}" for i in range(100)]})
    read = Table.read(
        io.BytesIO(votable_bytes(pa.concat_tables([table.slice(0, 33), table.slice(33)]))), format="votable"
    )
    assert read["subject_id"].tolist() == list(range(100))
    assert read["source_id"].tolist() == [f"é{i}" for i in range(100)]


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=5))
def test_any_text_stays_in_its_cell(texts: list[str]):
    table = pa.table({"before": range(len(texts)), "text": texts, "after": range(len(texts))})
    read = votable.parse(io.BytesIO(votable_bytes(table)), verify="exception").get_first_table().to_table()
    kept = [re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]", "\ufffd", text) for text in texts]
    assert [text.strip() for text in read["text"]] == [text.strip() for text in kept]  # astropy strips some
    with fits.open(io.BytesIO(fits_bytes(table))) as file:
        escaped = [t if t.isascii() and t.isprintable() else t.encode("unicode_escape").decode() for t in texts]
        found = file[1].data["text"].tolist()
        assert [text.rstrip() for text in found] == [text.rstrip() for text in escaped]  # FITS pads with blanks
        assert file[1].data["after"].tolist() == list(range(len(texts)))


# --------------------------------------------------------------------------------------------------------- regions
def test_a_region_is_the_crop_where_its_size_is_known_and_else_a_point():
    table = pa.table(
        {
            "source_id": ["a", "b", "c", "d"],
            "ra": [1.25, 2.5, None, 4.0],
            "dec": [-0.5, 1e-7, 3.0, float("nan")],
            "crop_side": pa.array([64, None, 64, 64], pa.int32()),
            "pixel_scale_arcsec": pa.array([0.5, 0.5, 0.5, 0.5], pa.float32()),
        }
    )
    assert regions_bytes(table).decode().splitlines() == [
        "# Region file format: DS9 version 4.1",
        "# 2 of 4 subjects have no RA and Dec and are left out",
        "fk5",
        'box(1.25,-0.5,32",32",0) # text={a}',
        "point(2.5,1e-7) # point=circle text={b}",
    ]


def test_the_surveys_pixel_scale_stands_in_for_that_of_a_subject(odd: pa.Table):
    table = odd.set_column(5, "pixel_scale_arcsec", pa.nulls(3, pa.float32())).slice(0, 1)
    table = table.replace_schema_metadata({"voorwerp": json.dumps({"pixel_scale_arcsec": 0.25})})
    assert regions_bytes(table).decode().splitlines()[-1] == f'box(1.25,-0.1,16",16",0) # text={{{FIRST_ID}}}'


def test_an_id_cannot_break_out_of_its_label():
    evil = "x}\nimage; circle(1,1,1) # text={ \x00\u2028y\\"
    columns = {"source_id": [evil], "ra": [1.0], "dec": [2.0]}
    columns |= {"crop_side": pa.nulls(1, pa.int32()), "pixel_scale_arcsec": pa.nulls(1, pa.float32())}
    lines = regions_bytes(pa.table(columns)).decode().split("fk5\n")[1]
    assert lines == "point(1,2) # point=circle text={x) image; circle(1,1,1) # text=( y\\}\n"


# ------------------------------------------------------------------------------------------- a survey's own subjects
def test_every_format_holds_the_same_subjects_with_scores_and_map(finished_survey: Path):
    survey = Survey.open(finished_survey)
    explore = Explore(survey)
    run_id, map_id = next(iter(explore.runs())), next(iter(explore.maps()))
    rows = [3, 5, 70]
    table = selection_table(explore, Selection.of_rows(rows, survey.n), run_id, map_id, 0.2)
    ids = [str(FIRST_ID + row) for row in rows]
    read = {
        "csv": list(csv.DictReader(io.StringIO(csv_bytes(table).decode(), newline=""))),
        "parquet": pq.read_table(io.BytesIO(parquet_bytes(table))).to_pylist(),
        "votable": list(Table.read(io.BytesIO(votable_bytes(table)), format="votable")),
        "fits": list(Table.read(io.BytesIO(fits_bytes(table)))),
    }
    assert read.keys() | {"regions"} == EXPORTS.keys()
    for records in read.values():
        assert [str(record["source_id"]) for record in records] == ids
        assert [int(record["subject_id"]) for record in records] == [FIRST_ID + row for row in rows]
        for name in ("anomaly_score", "umap_1"):
            found = np.array([float(record[name]) for record in records], np.float32)
            np.testing.assert_array_equal(found, table.column(name).to_numpy())
        assert {str(record["run_id"]) for record in records} == {run_id}
        assert not any(str(record["is_withdrawn"]).lower() == "true" for record in records)
    survey.close()


def test_a_score_of_the_runs_own_is_exported_too(finished_survey: Path, tmp_path: Path):
    shutil.copytree(finished_survey, tmp_path / "survey")
    survey = Survey.open(tmp_path / "survey")
    run_id = survey.runs("score")[0].run_id
    path = survey.run_folder(run_id) / "scores.parquet"
    scores = pq.read_table(path)
    pq.write_table(scores.append_column("zoobot_odd", pa.array(np.arange(200) / 8)), path)
    table = selection_table(Explore(survey), None, run_id, "", 0.2)
    at = survey.rows_of(scores.column("subject_id").to_numpy())
    np.testing.assert_array_equal(table.column("zoobot_odd").to_numpy()[at], np.arange(200) / 8)
    survey.close()


def test_how_subjects_came_on_the_map_is_exported_where_the_map_says_it(finished_survey: Path, tmp_path: Path):
    shutil.copytree(finished_survey, tmp_path / "survey")
    survey = Survey.open(tmp_path / "survey")
    map_id = survey.maps()[0].run_id
    path = survey.map_folder(map_id) / "coordinates.parquet"
    bare = pq.read_table(path).select(["subject_id", "umap_1", "umap_2", "umap_3"])
    own = {
        "is_placed": pa.array(np.arange(bare.num_rows) < 4),
        "knn_percentile": pa.array(np.linspace(0, 100, bare.num_rows), pa.float32()),
        "is_off_map": pa.array(np.arange(bare.num_rows) == 2),
    }
    pq.write_table(pa.table([*bare.columns, *own.values()], [*bare.column_names, *own])[1:], path)  # one is not on it
    table = selection_table(Explore(survey), None, "", map_id, 0.2)
    at = survey.rows_of(bare.column("subject_id").to_numpy())
    read = {
        "parquet": pq.read_table(io.BytesIO(parquet_bytes(table))),
        "csv": pa.csv.read_csv(io.BytesIO(csv_bytes(table))),
    }
    in_votable = Table.read(io.BytesIO(votable_bytes(table)), format="votable")
    in_fits = fits.getdata(io.BytesIO(fits_bytes(table)), logical_as_bytes=True)
    for name, values in own.items():
        expected = [None, *values.to_pylist()[1:]]
        for form, rows in read.items():
            assert rows.column(name).cast(values.type).take(pa.array(at)).to_pylist() == expected, form
        np.testing.assert_array_equal(np.array(in_votable[name][at[1:]]), expected[1:])
        assert in_votable[name].mask[at[0]]
        in_bytes = {None: b"", False: b"F", True: b"T"} if name.startswith("is_") else {None: np.nan}
        np.testing.assert_array_equal(in_fits[name][at], [in_bytes.get(value, value) for value in expected])
    pq.write_table(bare, path)
    survey.close()
    survey = Survey.open(tmp_path / "survey")
    assert not own.keys() & set(selection_table(Explore(survey), None, "", map_id, 0.2).column_names)
    survey.close()


def test_withdrawn_subjects_are_exported_and_flagged(image_survey: Path, tmp_path: Path):
    shutil.copytree(image_survey, tmp_path / "survey")
    path = tmp_path / "survey" / "subjects.parquet"
    table = pq.read_table(path)
    i = table.schema.get_field_index("is_withdrawn")
    flags = pc.equal(table.column("subject_id"), FIRST_ID + 7)
    pq.write_table(table.set_column(i, table.schema.field(i), flags), path)
    survey = Survey.open(tmp_path / "survey")
    exported = selection_table(Explore(survey), None, "", "", 0.2)
    assert exported.num_rows == 200
    assert exported.filter(exported.column("is_withdrawn")).column("source_id").to_pylist() == [str(FIRST_ID + 7)]
    survey.close()


# ---------------------------------------------------------------------------------------------------- command line
@pytest.mark.parametrize("name", ["a.csv", "a.parquet", "a.vot", "a.xml", "a.FITS"])
def test_the_command_writes_what_the_suffix_says(
    name: str, finished_survey: Path, tmp_path: Path, voorwerp: Callable[..., str]
):
    said = voorwerp("export", finished_survey, tmp_path / name)
    assert said == f"200 of 200 subjects are in {tmp_path / name}\n"
    start = (tmp_path / name).read_bytes()[:4]
    expected = {
        ".csv": b'"sub',
        ".parquet": b"PAR1",
        ".vot": b"<?xm",
        ".xml": b"<?xm",
        ".FITS": b"SIMP",
    }
    assert start == expected[Path(name).suffix]


def test_as_many_regions_are_said_as_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    survey, file = tmp_path / "survey", tmp_path / "a.reg"
    places = {"ra": [1.25, None, 3.0], "dec": [0.5, 2.0, -3.0]}
    create_table_only(survey, pa.table({"source_id": ["a", "b", "c"], **places}), "Three")
    assert main(["export", str(survey), str(file)]) == 0
    said = "2 of 3 subjects are in {0}\n1 without RA and Dec is left out: a region needs both\n"
    assert capsys.readouterr().out == said.format(file)
    create_table_only(tmp_path / "no", pa.table({"source_id": ["a", "b"]}), "Nowhere")
    assert main(["export", str(tmp_path / "no"), str(tmp_path / "no.reg")]) == 2
    assert "none of 2 subjects has RA and Dec, which regions need" in capsys.readouterr().err
    assert not (tmp_path / "no.reg").exists()


def test_the_command_exports_a_named_selection_with_the_newest_run(
    finished_survey: Path, tmp_path: Path, voorwerp: Callable[..., str]
):
    shutil.copytree(finished_survey, tmp_path / "survey")
    survey = Survey.open(tmp_path / "survey")
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        ledger.save_selection("two odd ones", np.array([4, 9]), survey.subject_ids, who="a")
    voorwerp("export", tmp_path / "survey", tmp_path / "two.parquet", "--selection", "two odd ones")
    table = pq.read_table(tmp_path / "two.parquet")
    assert table.column("source_id").to_pylist() == [str(FIRST_ID + 4), str(FIRST_ID + 9)]
    assert table.column("run_id").to_pylist() == [survey.runs("score")[0].run_id] * 2
    survey.close()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["a.txt"], "has none of the suffixes .csv"),
        (["a.csv", "--run", "no"], 'there is no finished run "no"; there are: [0-9-]+score'),
        (["a.csv", "--selection", "no"], '"no"'),
        (["nowhere/a.csv"], "/nowhere to write a.csv in; make it, or name another"),
    ],
)
def test_a_wrong_command_writes_nothing_and_says_why(
    arguments: list[str], sentence: str, finished_survey: Path, tmp_path: Path, voorwerp: Callable[..., str]
):
    with pytest.raises(AssertionError, match=sentence.replace(".", r"\.")):
        voorwerp("export", finished_survey, tmp_path / arguments[0], *arguments[1:])
    assert not list(tmp_path.iterdir())


def test_the_command_finds_subjects(image_survey: Path, voorwerp: Callable[..., str]):
    said = voorwerp("find", image_survey, FIRST_ID + 3, "no", FIRST_ID)
    assert said.splitlines() == [str(FIRST_ID + 3), str(FIRST_ID), "2 of 3 found; 1 is not in this survey: no"]
    said = voorwerp("find", image_survey, "no such", FIRST_ID)
    assert said.splitlines() == [str(FIRST_ID), "1 of 2 found; 1 is not in this survey: no such"]
    with pytest.raises(AssertionError, match=r"ended with 1:\s+no subject of this survey has RA and Dec"):
        voorwerp("find", image_survey, "150.1", "-2.2")
    with pytest.raises(AssertionError, match=r"ended with 1:\s+no subject of this survey has RA and Dec"):
        voorwerp("find", image_survey, "150.1163 2.2058", "5arcsec")  # one place, half of it quoted


def test_the_commands_take_a_filter(finished_survey: Path, tmp_path: Path, voorwerp: Callable[..., str]):
    voorwerp("export", finished_survey, tmp_path / "top.csv", "--where", "feature_score > 95% and shape = spiral")
    with closing(Survey.open(finished_survey)) as survey:
        score = next(iter(Explore(survey).runs()))
        feature, shape = survey.scores(score)["feature_score"], survey.column("shape")
    expected = (feature > np.percentile(feature, 95)) & (shape == "spiral")
    with (tmp_path / "top.csv").open() as handle:
        ids = [int(row["source_id"]) - FIRST_ID for row in csv.DictReader(handle)]
    assert ids == np.flatnonzero(expected).tolist()
    said = voorwerp("find", finished_survey, "--where", "feature_score > 95% and shape = spiral").splitlines()
    assert [int(line) - FIRST_ID for line in said[:-1]] == ids
    assert said[-1] == f"feature_score > 95% and shape = spiral: {len(ids)} of 200 subjects"
    said = voorwerp("find", finished_survey, FIRST_ID, FIRST_ID + 3, "--where", "magnitude is missing")
    assert said.splitlines()[0] == str(FIRST_ID + 3)
    for arguments, match in (
        (["find", finished_survey, "--where", "featur_score > 3"], 'did you mean "feature_score"'),
        (["find", finished_survey], "nothing to find"),
        (["export", finished_survey, tmp_path / "x.csv", "--where", "shape = sprial"], 'did you mean "spiral"'),
        (["find", finished_survey, "--where", "shape = spiral", "--run", "no"], 'no finished run "no"'),
    ):
        with pytest.raises(AssertionError, match=match):
            voorwerp(*arguments)
