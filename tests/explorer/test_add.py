"""`explorer.ingest.add`: subjects are added, and nothing that was there changes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from explorer.cli import main
from explorer.errors import IngestError, SurveyError, UsageError
from explorer.ingest import build, groups
from explorer.ingest.add import AddOptions, add
from explorer.ingest.images import CreateOptions, create
from explorer.ingest.tables import create_from_table
from explorer.survey import Survey, check
from models import artifacts
from models.artifacts import Run
from models.images import Linear, Stretch, prepare, write_linear
from tests.explorer.killed import tree
from tests.explorer.making import finished
from tests.galaxies import write_galaxies


def manifest(file: Path, *rows: str) -> Path:
    file.write_text("\n".join(rows) + "\n")
    return file


@pytest.fixture(scope="module")
def galaxies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred images; the first seventy are a survey's, in shards of 64, and the rest waits in a manifest."""
    folder = tmp_path_factory.mktemp("galaxies")
    paths = write_galaxies(folder / "images", 100)
    rows = [f"{1000 + i},images/{p.name},{i / 2},{10 + i},{'ab'[i % 2]}" for i, p in enumerate(paths)]
    manifest(folder / "first.csv", "id,path,mag,ra,kind", *rows[:70])
    manifest(folder / "more.csv", "id,path,mag,ra,kind", *rows[70:])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(build, "SHARD", 64)
        finished(create(folder / "survey", [folder / "first.csv"], CreateOptions(size=32, id_column="id", workers=1)))
    return folder


@pytest.fixture
def survey(galaxies: Path, tmp_path: Path) -> Path:
    shutil.copytree(galaxies / "survey", tmp_path / "survey")
    return tmp_path / "survey"


def test_what_is_added_comes_after_and_is_prepared_alike(survey: Path, galaxies: Path) -> None:
    before = Survey.open(galaxies / "survey")
    totals = finished(add(survey, [galaxies / "more.csv"], AddOptions(id_column="id", workers=1)))
    assert (totals["n_added"], totals["n_subjects"], totals["n_refused"]) == (30, 100, 0)
    assert check(survey) == []
    opened = Survey.open(survey)
    assert opened.subject_ids.tolist() == list(range(1000, 1100))
    assert opened.images.shape == (100, 32, 32, 3)
    assert json.loads((survey / "images.zarr" / "zarr.json").read_text())["chunk_grid"]["configuration"][
        "chunk_shape"
    ] == [64, 32, 32, 3]
    for row in (0, 63, 64, 69):
        assert opened.subject(row) == before.subject(row)
        assert opened.original(row) == before.original(row)
        assert np.array_equal(opened.images[row], before.images[row])
    for row in (70, 99):
        path = galaxies / "images" / sorted(p.name for p in (galaxies / "images").iterdir())[row]
        assert np.array_equal(opened.images[row], prepare(path, opened.info.cut).crop)
        assert opened.original(row)[0] == path.read_bytes()
        assert opened.subject(row)["mag"] == row / 2
    digests = np.load(survey / "digests.npy")
    assert np.array_equal(digests[:70], np.load(galaxies / "survey" / "digests.npy"))
    assert digests[99].tobytes() == prepare(path, opened.info.cut).digest
    assert opened.info == before.info
    before.close()
    opened.close()


def test_added_at_once_or_in_two_steps_it_is_the_same(survey: Path, galaxies: Path, tmp_path: Path) -> None:
    rows = (galaxies / "more.csv").read_text().splitlines()
    for name, part in (("a.csv", rows[1:12]), ("b.csv", rows[12:])):
        manifest(galaxies / name, rows[0], *part)
        finished(add(survey, [galaxies / name], AddOptions(id_column="id", workers=1)))
    shutil.copytree(galaxies / "survey", tmp_path / "other")
    finished(add(tmp_path / "other", [galaxies / "more.csv"], AddOptions(id_column="id", workers=1)))
    packs = ("originals", "thumbnails")  # as many files as there were steps
    in_two, at_once = (
        {k: v for k, v in tree(p).items() if not k.startswith(packs)} for p in (survey, tmp_path / "other")
    )
    assert in_two == at_once
    assert check(survey) == []


def test_a_running_reader_keeps_what_it_had(survey: Path, galaxies: Path) -> None:
    reading = Survey.open(survey)
    before = reading.images[64:70]
    finished(add(survey, [galaxies / "more.csv"], AddOptions(id_column="id", workers=1)))
    assert reading.refresh() is False
    assert reading.n == 70
    assert np.array_equal(reading.images[64:70], before)
    assert reading.subject(69)["mag"] == 34.5
    reading.close()


def test_no_file_that_was_there_is_written_into(survey: Path, galaxies: Path, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    shutil.copytree(survey, linked, copy_function=lambda a, b: Path(b).hardlink_to(a))
    before = tree(survey)
    finished(add(linked, [galaxies / "more.csv"], AddOptions(id_column="id", workers=1)))
    assert tree(survey) == before
    assert check(linked) == []


def test_old_groups_and_halves_stay_and_new_rows_join_them(tmp_path: Path) -> None:
    paths = write_galaxies(tmp_path / "images", 6)
    for old, new in ((0, 6), (3, 7), (3, 8)):
        shutil.copy(paths[old], tmp_path / "images" / f"copy{new}{paths[old].suffix}")
    copies = sorted((tmp_path / "images").glob("copy*"))
    first = [f"{i},{paths[i]},{20 + i},0" for i in range(5)]
    # 5 is within 1″ of 1 and of 2's place by way of nobody; 9 and 10 are within 1″ of each other only
    more = [f"5,{paths[5]},21.0001,0", *(f"{6 + i},{copy},," for i, copy in enumerate(copies))]
    finished(
        create(
            tmp_path / "s", [manifest(tmp_path / "a.csv", "id,path,ra,dec", *first)], CreateOptions(32, id_column="id")
        )
    )
    before = pq.read_table(tmp_path / "s" / "subjects.parquet")
    totals = finished(
        add(tmp_path / "s", [manifest(tmp_path / "b.csv", "id,path,ra,dec", *more)], AddOptions(id_column="id"))
    )
    after = pq.read_table(tmp_path / "s" / "subjects.parquet")
    assert after.slice(0, 5).equals(before)
    assert after.column("duplicate_group").to_pylist() == [0, 1, 2, 3, 4, 1, 0, 3, 3]
    assert after.column("half").to_pylist() == groups.half_of(np.array([0, 1, 2, 3, 4, 1, 0, 3, 3])).tolist()
    assert (totals["n_joined"], totals["n_twins"]) == (4, 0)


def test_rows_that_touch_several_groups_join_the_first_and_do_not_merge_them() -> None:
    none = np.arange(2, 7, dtype=np.uint64)
    digests = np.stack([none, none], axis=1)
    arcsec = 1 / 3600
    # old: 0 and 1 are 1.6″ apart; a new one lies between them, the next touches only that one
    ra = np.array([10, 10 + 1.6 * arcsec, 10 + 0.8 * arcsec, 10 + 0.8 * arcsec, 50])
    dec = np.array([0, 0, 0, 0.9 * arcsec, 0])
    assert groups.extend(np.array([0, 1]), digests, ra, dec).tolist() == [0, 0, 4]
    ra[2:4], dec[2:4] = 30, [0, 0.9 * arcsec]
    assert groups.extend(np.array([0, 1]), digests, ra, dec).tolist() == [2, 2, 4]
    digests[3] = digests[1]  # and by way of its twin the first new one joins as well
    assert groups.extend(np.array([0, 1]), digests, ra, dec).tolist() == [1, 1, 4]


def test_columns_that_only_one_side_has_are_missing_on_the_other(survey: Path, galaxies: Path) -> None:
    rows = [line.split(",") for line in (galaxies / "more.csv").read_text().splitlines()[1:4]]
    told = [f"{r[0]},{galaxies / r[1]},7,new{r[0]}" for r in rows]
    finished(add(survey, [manifest(galaxies / "c.csv", "id,path,mag,remark", *told)], AddOptions(id_column="id")))
    table = pq.read_table(survey / "subjects.parquet")
    assert table.column("mag").to_pylist()[-4:] == [34.5, 7.0, 7.0, 7.0]  # integers in a column of floats
    assert table.column("kind").to_pylist()[-4:] == ["b", None, None, None]
    assert table.column("remark").to_pylist()[-4:] == [None, "new1070", "new1071", "new1072"]
    assert Survey.open(survey).varies("remark")


def test_integers_beyond_two_to_the_53_stay_exact_in_a_column_of_smaller_ones(tmp_path: Path) -> None:
    paths = write_galaxies(tmp_path / "images", 3)
    first = manifest(tmp_path / "a.csv", "id,path,parent", f"1,{paths[0]},7", f"2,{paths[1]},8")
    finished(create(tmp_path / "s", [first], CreateOptions(32, id_column="id", workers=1)))
    more = manifest(tmp_path / "b.csv", "id,path,parent", f"3,{paths[2]},588848901523702001")
    finished(add(tmp_path / "s", [more], AddOptions(id_column="id", workers=1)))
    assert Survey.open(tmp_path / "s").column("parent").tolist() == ["7", "8", "588848901523702001"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            ["id,path,mag", "9,images/070.png,588848901523702001"],
            'column "mag" holds integers in what is added that lose digits as double, which it holds in',
        ),
        (
            ["id,path,mag", "9,images/070.png,bright"],
            r'column "mag" holds string in what is added, and double in .*survey',
        ),
    ],
)
def test_what_does_not_go_with_the_survey_is_one_sentence(
    survey: Path, galaxies: Path, rows: list[str], sentence: str
) -> None:
    before = tree(survey)
    with pytest.raises((IngestError, UsageError), match=sentence) as caught:
        finished(add(survey, [manifest(galaxies / "bad.csv", *rows)], AddOptions(id_column="id", workers=1)))
    assert "\n" not in str(caught.value)
    assert tree(survey) == before
    assert not (survey / "parts").exists()


def test_a_survey_that_is_written_to_or_laid_out_otherwise_is_refused(survey: Path, galaxies: Path) -> None:
    options = AddOptions(id_column="id", workers=1)
    making = add(survey, [galaxies / "more.csv"], options)
    next(making)
    with pytest.raises(SurveyError, match=r"another command is writing to .*survey; wait for it or stop it"):
        finished(add(survey, [galaxies / "more.csv"], options))
    with pytest.raises(SurveyError, match="another command is writing"), Survey.open(survey).lock():
        pass
    making.close()
    with pytest.raises(UsageError, match="there is nothing to add"):
        finished(add(survey, [], options))
    with pytest.raises(UsageError, match=r"--bands names g, r; the bands of .* are r, g, b"):
        finished(add(survey, [galaxies / "more.csv"], AddOptions(bands=("g", "r"))))
    zarr = survey / "images.zarr" / "zarr.json"
    zarr.write_text(zarr.read_text().replace("sharding_indexed", "of_another_program"))
    with pytest.raises(SurveyError, match="is not laid out as `voorwerp create` does"):
        finished(add(survey, [galaxies / "more.csv"], options))


def test_another_add_is_refused_until_the_stopped_one_is_finished_or_given_up(survey: Path, galaxies: Path) -> None:
    options = AddOptions(id_column="id", workers=1)
    making = add(survey, [galaxies / "more.csv"], options)
    for record in making:
        if record.message == "decoding":
            break
    making.close()
    assert check(survey) == []
    manifest(galaxies / "one.csv", "id,path", "2000,images/099.jpg")
    with pytest.raises(IngestError, match=r"another `voorwerp add` was stopped on .*; finish it by the same command"):
        finished(add(survey, [galaxies / "one.csv"], options))
    shutil.rmtree(survey / "parts")
    finished(add(survey, [galaxies / "one.csv"], options))
    assert Survey.open(survey).subject_ids.tolist() == [*range(1000, 1070), 2000]
    assert check(survey) == []


def test_runs_from_before_keep_their_own_subjects(
    survey: Path, galaxies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = survey / "runs" / "20260101-000000-score"
    ids = Survey.open(survey).subject_ids
    columns = {name: np.zeros(70) for name in ("image_score", "feature_score", "anomaly_score")}
    artifacts.write_scores(
        folder, None, {"subject_id": ids, "split": ["train"] * 70, **columns, "quality": ["ok"] * 70}
    )
    Run(folder.name, "score", "0", {}, state="done", n_rows=70).write(folder / "run.json")
    finished(add(survey, [galaxies / "more.csv"], AddOptions(id_column="id", workers=1)))
    opened = Survey.open(survey)
    assert np.isfinite(opened.scores(folder.name)["image_score"]).tolist() == [True] * 70 + [False] * 30
    assert main(["check", str(survey)]) == 0
    said = capsys.readouterr().out
    assert "no problem found: 100 subjects, 1 run, 0 maps" in said
    assert "20260101-000000-score: 70 of 100 subjects are scored" in said


def test_the_stretch_is_the_surveys_own_and_never_estimated_anew(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "more").mkdir()
    noise = np.random.default_rng(3)
    for i in range(4):
        np.save(tmp_path / "first" / f"a{i}.npy", noise.normal(10, 2, (40, 40)).astype(np.float32))
        np.save(tmp_path / "more" / f"m{i}.npy", noise.normal(5000, 900, (40, 40)).astype(np.float32))
    finished(create(tmp_path / "s", [tmp_path / "first"], CreateOptions(32, stretch=Stretch("percentile"), workers=1)))
    before = Survey.open(tmp_path / "s").info
    finished(add(tmp_path / "s", [tmp_path / "more"], AddOptions(workers=1)))
    opened = Survey.open(tmp_path / "s")
    assert before.stretch.low
    assert opened.info.stretch == before.stretch
    assert (opened.images[4:] == 255).all()  # far above what was white in the first ones
    assert check(tmp_path / "s") == []


def test_a_pixel_scale_holds_for_the_survey_as_long_as_all_have_it(tmp_path: Path) -> None:
    noise = np.random.default_rng(4)
    for folder, scale in (("first", 0.2), ("same", 0.2), ("other", 0.5)):
        (tmp_path / folder).mkdir()
        for i in range(2):
            values = noise.normal(10, 2, (40, 40, 1)).astype(np.float32)
            degrees = scale / 3600
            linear = Linear(values, pixel_scale=scale, ra=10 + i, dec=0.0, cd=(-degrees, 0.0, 0.0, degrees))
            (tmp_path / folder / f"{folder}{i}.fits.gz").write_bytes(write_linear(linear, ["r"]))
    finished(create(tmp_path / "s", [tmp_path / "first"], CreateOptions(32, workers=1)))
    finished(add(tmp_path / "s", [tmp_path / "same"], AddOptions(workers=1)))
    assert Survey.open(tmp_path / "s").info.pixel_scale_arcsec == pytest.approx(0.2, rel=1e-5)
    finished(add(tmp_path / "s", [tmp_path / "other"], AddOptions(workers=1)))
    opened = Survey.open(tmp_path / "s")
    assert opened.info.pixel_scale_arcsec is None
    assert opened.column("pixel_scale_arcsec") == pytest.approx([0.2, 0.2, 0.2, 0.2, 0.5, 0.5], rel=1e-5)
    assert opened.column("duplicate_group").tolist() == ["0", "1", "0", "1", "0", "1"]  # at the same two places
    assert check(tmp_path / "s") == []


def test_originals_of_a_survey_that_links_are_linked(tmp_path: Path) -> None:
    first, more = write_galaxies(tmp_path / "first", 3), write_galaxies(tmp_path / "more", 3)
    for path in more:
        image = Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        path.unlink()
        image.save(path.with_name(f"more_{path.name}"))
    finished(create(tmp_path / "s", [tmp_path / "first"], CreateOptions(32, originals="link", workers=1)))
    finished(add(tmp_path / "s", [tmp_path / "more"], AddOptions(workers=1)))
    opened = Survey.open(tmp_path / "s")
    assert [Path(opened.link(row).paths[0]).parent.name for row in range(6)] == ["first"] * 3 + ["more"] * 3  # type: ignore[union-attr]
    assert check(tmp_path / "s") == []
    first[0].unlink()
    (problem,) = check(tmp_path / "s")
    assert "1 of 6 linked originals" in problem
    assert str(first[0]) in problem


def test_what_was_refused_is_kept_with_what_is_refused_now(survey: Path, galaxies: Path) -> None:
    (galaxies / "broken.png").write_text("no image")
    rows = (galaxies / "more.csv").read_text().splitlines()
    for i, row in enumerate(rows[1:3]):
        source = manifest(
            galaxies / "d.csv", "id,path", ",".join(row.split(",")[:2]), f"bad{i}".replace("bad", "300") + ",broken.png"
        )
        finished(add(survey, [source], AddOptions(id_column="id", workers=1)))
    refused = pq.read_table(survey / "quarantine.parquet")
    assert refused.column("source_id").to_pylist() == ["3000", "3001"]
    assert "2 of 74 images could not be used" in (survey / "quarantine.html").read_text()


def test_where_every_image_is_refused_quarantine_has_them_and_the_rest_is_as_it_was(
    survey: Path, galaxies: Path
) -> None:
    before = tree(survey)
    source = manifest(galaxies / "none.csv", "id,path", "9,images/absent.png")
    with pytest.raises(IngestError, match=r"none of 1 images can become a subject; .*quarantine.html shows them"):
        finished(add(survey, [source], AddOptions(id_column="id", workers=1)))
    refused = pq.read_table(survey / "quarantine.parquet")
    assert refused.select(["source_id", "reason"]).to_pylist() == [
        {"source_id": "9", "reason": "there is no such file"}
    ]
    assert "1 of 71 images could not be used" in (survey / "quarantine.html").read_text()
    after = tree(survey)
    assert {k: v for k, v in after.items() if "quarantine" not in k} == {
        k: v for k, v in before.items() if "quarantine" not in k
    }
    assert not (survey / "parts").exists()
    assert check(survey) == []


def test_rows_are_added_to_a_survey_without_images(tmp_path: Path) -> None:
    first = manifest(tmp_path / "a.csv", "objid,ra,dec,z", "588848901523702001,10,1,0.1", "588848901523702002,11,1,0.2")
    create_from_table(tmp_path / "s", [first])
    more = manifest(tmp_path / "b.csv", "objid,ra,dec,z,kind", "588848901523702007,11.0001,1,1,ring")
    totals = finished(add(tmp_path / "s", [more]))
    assert (totals["n_added"], totals["n_joined"], totals["n_subjects"]) == (1, 1, 3)
    opened = Survey.open(tmp_path / "s")
    assert opened.subject(2) | {"half": None} == {
        **dict.fromkeys(opened.subject(0)),
        "subject_id": 588848901523702007,
        "source_id": "588848901523702007",
        "ra": 11.0001,
        "dec": 1.0,
        "duplicate_group": 588848901523702002,
        "z": 1.0,
        "kind": "ring",
    }
    assert opened.subject(2)["half"] == opened.subject(1)["half"]
    assert check(tmp_path / "s") == []
    manifest(more, "objid,ra,dec", "588848901523702007,11,1", "588848901523702008,12,1")
    totals = finished(add(tmp_path / "s", [more]))
    assert (totals["n_there"], totals["n_added"], totals["n_subjects"]) == (1, 1, 4)
    assert finished(add(tmp_path / "s", [more])) == {**totals, "n_there": 2, "n_added": 0}
    odd = manifest(tmp_path / "c.csv", "objid,ra,dec", "x,11,1")
    with pytest.raises(IngestError, match=r'the ids of .*s are integers, and "x" is none'):
        finished(add(tmp_path / "s", [odd], AddOptions(id_column="objid")))


def test_the_command_says_what_was_added(survey: Path, galaxies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", str(survey), str(galaxies / "more.csv"), "--id-column", "id"]) == 0
    assert f"30 of 30 are new subjects of {survey}, which has 100" in capsys.readouterr().out
    assert main(["add", str(survey)]) == 2


def test_ids_that_are_there_are_passed_over_and_odd_ones_quarantined(
    survey: Path, galaxies: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["1003,images/080.png", "1071,images/071.jpg", "bad,images/072.png", "1004,absent.png"]
    source = manifest(galaxies / "mixed.csv", "id,path", *rows)
    before = Survey.open(survey).original(3)
    command = ["add", str(survey), str(source), "--id-column", "id"]
    assert main(command) == 0
    assert "2 of 4 are there already and were passed over, 1 added\n" in capsys.readouterr().out
    opened = Survey.open(survey)
    assert (opened.n, opened.subject(70)["subject_id"]) == (71, 1071)
    assert opened.original(3) == before
    assert opened.original(70)[0] == (galaxies / "images" / "071.jpg").read_bytes()
    (refused,) = pq.read_table(survey / "quarantine.parquet").to_pylist()
    assert refused["reason"] == 'id "bad" is no integer, as the ids of this survey are'
    assert refused["thumbnail"].startswith(b"\xff\xd8\xff")
    assert check(survey) == []
    left = tree(survey)
    assert main(["add", str(survey), str(galaxies / "first.csv"), "--id-column", "id"]) == 0
    assert capsys.readouterr().out == f"nothing is new: the ids of all 70 are in {survey} already\n"
    assert tree(survey) == left
    assert not (survey / "parts").exists()


def test_killed_at_any_moment_the_survey_is_whole_and_a_second_add_finishes_to_the_same_bytes(
    galaxies: Path, tmp_path: Path
) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "more").mkdir()
    for path in sorted((galaxies / "images").iterdir())[70:]:
        shutil.copy(path, tmp_path / "more" / f"{path.stem[1:]}9{path.suffix}")
    (tmp_path / "more" / "1.png").write_text("no image")
    command = [sys.executable, "-m", "tests.explorer.killed", "add", str(galaxies / "survey"), str(tmp_path / "work")]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, answer.stderr
