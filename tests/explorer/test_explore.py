"""What the screens ask of the data, against slow obvious answers."""

import json
import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer.errors import JobError, SurveyError, UsageError
from explorer.ingest.build import create_table_only
from explorer.ingest.imported import ImportOptions, import_run
from explorer.ledger import Ledger
from explorer.services.explore import RANKS, Color, Explore, Plane
from explorer.services.export import selection_table
from explorer.services.jobs import JobService
from explorer.services.listing import Listed, Listing
from explorer.state import COMPONENTS, Selection
from explorer.survey import Survey
from models.artifacts import COORDINATES, COORDINATES_SCHEMA, Run, check_run, write_scores, write_table
from tests.conftest import FIRST_ID
from tests.explorer.small_survey import write_survey


@pytest.fixture(scope="module")
def explore(finished_survey: Path):
    survey = Survey.open(finished_survey)
    yield Explore(survey)
    survey.close()


@pytest.fixture(scope="module")
def run_id(explore: Explore) -> str:
    return next(iter(explore.runs()))


def test_lambda_mixes_image_and_feature_score(explore: Explore, run_id: str):
    image, feature = (explore.values(f"scores.{name}", run_id) for name in ("image_score", "feature_score"))
    np.testing.assert_array_equal(explore.values("scores.anomaly_score", run_id, 0.0), image)
    np.testing.assert_array_equal(explore.values("scores.anomaly_score", run_id, 1.0), feature)
    np.testing.assert_allclose(
        explore.values("scores.anomaly_score", run_id, 0.3), 0.7 * image + 0.3 * feature, rtol=1e-6
    )


def test_the_stored_anomaly_score_is_that_of_the_default_lambda(explore: Explore, run_id: str):
    stored = explore.survey.scores(run_id)["anomaly_score"]
    np.testing.assert_allclose(explore.values("scores.anomaly_score", run_id, 0.2), stored, rtol=1e-5)


def test_standardised_scores_are_mixed_in_units_of_their_own_spread(explore: Explore, run_id: str):
    def slow(values: np.ndarray) -> np.ndarray:
        median = np.median(values)
        return (values - median) / (1.4826 * np.median(np.abs(values - median)))

    image, feature = (explore.values(f"scores.{name}", run_id) for name in ("image_score", "feature_score"))
    mixed = explore.values("scores.anomaly_score", run_id, 0.3, "standardised")
    np.testing.assert_allclose(mixed, 0.7 * slow(image) + 0.3 * slow(feature), rtol=1e-4, atol=1e-5)
    order = explore.order("scores.anomaly_score", run_id, 0.3, True, "standardised")
    assert order.tolist() == np.argsort(-mixed, kind="stable").tolist()
    assert order.tolist() != explore.order("scores.anomaly_score", run_id, 0.3, True).tolist()
    found = {s["name"]: s["value"] for s in explore.hover(4, run_id, 0.3, "standardised")["scores"]}
    assert (found["anomaly_score"], found["image_score"]) == (float(mixed[4]), float(image[4]))


def test_lambda_has_a_say_in_an_anomaly_score_that_is_mixed_and_in_no_other(
    explore: Explore, run_id: str, tables_only: tuple[Explore, str, str]
):
    assert explore.is_mixed(Color("scores.anomaly_score", run_id))
    assert not explore.is_mixed(Color("scores.image_score", run_id))
    assert not tables_only[0].is_mixed(Color("scores.anomaly_score", tables_only[1]))
    assert tables_only[0].colors(tables_only[1])["scores.anomaly_score"] == "Anomaly score (gan)"


def test_an_unknown_column_is_refused_with_the_near_miss(explore: Explore, run_id: str):
    with pytest.raises(UsageError, match='did you mean "magnitude"'):
        explore.values("subjects.magnitud", run_id)
    with pytest.raises(UsageError, match='did you mean "feature_score"'):
        explore.values("scores.feature_scor", run_id)


def test_columns_that_tell_nothing_are_not_offered(explore: Explore, run_id: str):
    offered = explore.colors(run_id)
    assert {"count", "scores.feature_score", "subjects.magnitude", "subjects.shape"} <= offered.keys()
    assert not {"subjects.ra", "subjects.inclusion_probability", "subjects.nan_fraction"} & offered.keys()


@pytest.mark.parametrize("descending", [True, False])
def test_an_order_is_sorted_with_the_missing_last_and_a_selection_keeps_it(
    explore: Explore, run_id: str, descending: bool
):
    magnitude = explore.survey.column("magnitude")
    order = explore.order("subjects.magnitude", run_id, 0.2, descending)
    assert sorted(order.tolist()) == list(range(explore.survey.n))
    assert np.isnan(magnitude[order[-1]])
    steps = np.diff(magnitude[order[:-1]])
    assert (steps <= 0).all() if descending else (steps >= 0).all()
    selection = Selection.of_rows([7, 3, 11], explore.survey.n)
    kept = explore.ordered(explore.keep(selection), "subjects.magnitude", run_id, 0.2, descending)
    assert kept.tolist() == [row for row in order.tolist() if row in (7, 3, 11)]


@pytest.mark.parametrize(
    "reference",
    ["", "subjects.magnitude", "subjects.shape", "subjects.source_id", "scores.anomaly_score", "maps.umap_1"],
)
@pytest.mark.parametrize("descending", [True, False])
def test_a_page_and_a_place_are_those_of_the_whole_order(
    explore: Explore, run_id: str, reference: str, descending: bool
):
    told = reference, run_id, 0.35, descending, "raw", next(iter(explore.maps()))
    some = Selection.of_rows(np.arange(0, 200, 3), 200)
    for within, selection_id in ((None, ""), (some, explore.keep(some))):
        rows = explore.ordered(selection_id, *told).tolist()
        assert sorted(rows) == (list(range(200)) if within is None else some.rows().tolist())
        for start, count in ((0, 5), (40, 10), (60, 200), (200, 1)):
            assert explore.page(within, *told, start, count).tolist() == rows[start : start + count]
        for row in (0, 3, 99, 198):
            assert explore.place_in(within, row, *told) == rows.index(row)
    assert explore.place_in(some, 1, *told) is None
    assert explore.place_in(None, 200, *told) is None


def test_categories_are_ordered_by_their_names(explore: Explore, run_id: str):
    order = explore.order("subjects.shape", run_id, 0.2, False)
    codes, labels = explore.survey.category("shape")
    names = [labels[c] for c in codes[order]]
    assert names == sorted(names)


def test_a_selection_that_the_server_forgot_is_a_sentence(explore: Explore):
    with pytest.raises(UsageError, match="draw it again"):
        explore.selection("0" * 64)
    assert explore.selection("") is None


def test_a_subject_stands_where_counting_puts_it(explore: Explore, run_id: str):
    values = explore.values("scores.feature_score", run_id)
    for row in (0, 17, 199):
        found = explore.standing("scores.feature_score", row, run_id, 0.2)
        assert found == {"value": float(values[row]), "below": int((values < values[row]).sum()), "of": 200}


def test_neighbours_are_the_nearest_latent_vectors(explore: Explore, run_id: str):
    latents, rows = explore.survey.latents(run_id)
    distance = np.linalg.norm(np.asarray(latents) - np.asarray(latents[5]), axis=1)
    expected = [int(rows[i]) for i in np.argsort(distance, kind="stable") if i != 5][:12]
    assert [row for row, _ in explore.neighbours(int(rows[5]), run_id)] == expected


def test_those_alike_in_a_column_are_the_nearest_values(explore: Explore, run_id: str):
    for reference, row in (("subjects.magnitude", 7), ("scores.image_score", 11), ("subjects.saturated_fraction", 5)):
        values = explore.values(reference, run_id).astype(float)
        slow = sorted((abs(values[i] - values[row]), i) for i in range(200) if i != row and np.isfinite(values[i]))
        for k in (1, 12, 500):
            assert explore.alike(reference, row, k, run_id) == [(i, values[i]) for _, i in slow[:k]]
    assert explore.alike("subjects.magnitude", 3, 12, run_id) == []  # it has none
    with pytest.raises(UsageError, match='did you mean "magnitude"'):
        explore.alike("subjects.magnitud", 7, 12, run_id)


def test_a_subject_in_full_has_exact_ids_as_text(explore: Explore, run_id: str):
    row = explore.survey.row_of_source(str(FIRST_ID))
    assert row is not None
    subject = explore.subject(row, run_id, 0.2)
    assert subject["source_id"] == subject["subject_id"] == str(FIRST_ID)
    assert [s["name"] for s in subject["scores"]] == ["anomaly_score", "feature_score", "image_score"]
    assert {c["name"]: c["value"] for c in subject["columns"]}["note"] == "=1+0"


def test_a_paint_is_made_once_for_one_colour_and_again_for_another(explore: Explore, run_id: str):
    map_id = next(iter(explore.maps()))
    first = explore.paint(Plane(map_id), Color("scores.anomaly_score", run_id, 0.2))
    assert explore.paint(Plane(map_id), Color("scores.anomaly_score", run_id, 0.2)) is first
    assert explore.paint(Plane(map_id), Color("scores.anomaly_score", run_id, 0.3)) is not first
    assert explore.paint(Plane(map_id), Color("scores.anomaly_score", run_id, 0.2, mode="standardised")) is not first


# ------------------------------------------------------------------------------------------- runs made elsewhere
@pytest.fixture(scope="module")
def tables_only(tmp_path_factory: pytest.TempPathFactory):
    """A survey without images of eight subjects and two imported runs: one of scores, one of vectors alone."""
    folder = tmp_path_factory.mktemp("tables_only")
    rows = [f"{FIRST_ID + i},{i / 8},{i * i},{'' if i else 1}" for i in range(8)]
    (folder / "scores.csv").write_text("\n".join(["objid,gan,n_votes,feature_score", *rows]) + "\n")
    np.save(folder / "latents.npy", np.eye(8, dtype=np.float32))
    scores = import_run(folder / "survey", ImportOptions(None, folder / "scores.csv", "objid", "gan", name="scores"))
    vectors = import_run(folder / "survey", ImportOptions(f"{folder}/latents.npy", name="vectors"))
    survey = Survey.open(folder / "survey")
    yield Explore(survey), scores.run_id, vectors.run_id
    survey.close()


def test_an_imported_run_offers_what_it_has_and_its_own_numbers(tables_only: tuple[Explore, str, str]):
    explore, scores, vectors = tables_only
    assert explore.score_titles(scores) == {
        "anomaly_score": "Anomaly score (gan)",
        "feature_score": "Feature score",
        "n_votes": "n votes",
    }
    assert explore.score_titles(vectors) == explore.score_titles("") == {}
    assert [c for c in explore.colors(scores) if c.startswith("scores.")] == [
        f"scores.{name}" for name in explore.score_titles(scores)
    ]
    assert [c for c in explore.colors(vectors) if c.startswith("scores.")] == []
    assert explore.default_color(scores) == "scores.anomaly_score"
    assert explore.default_color(vectors) == "count"


def test_lambda_means_nothing_without_both_scores(tables_only: tuple[Explore, str, str], explore: Explore, run_id: str):
    imported, scores, vectors = tables_only
    assert explore.mixes(run_id)
    assert not imported.mixes(scores)
    assert not imported.mixes(vectors)
    expected = np.arange(8, dtype=np.float32) / 8
    for lambda_ in (0.0, 1.0):
        np.testing.assert_array_equal(imported.values("scores.anomaly_score", scores, lambda_), expected)


def test_the_numbers_of_an_imported_run_order_stand_and_hover(tables_only: tuple[Explore, str, str]):
    explore, scores, _ = tables_only
    assert explore.order("scores.n_votes", scores, 0.2, True).tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    hovered = {s["name"]: s for s in explore.hover(3, scores, 0.2)["scores"]}
    assert (hovered["n_votes"]["value"], hovered["n_votes"]["below"], hovered["n_votes"]["of"]) == (9, 3, 8)
    assert hovered["feature_score"]["value"] is None
    with pytest.raises(UsageError, match='did you mean "n_votes"'):
        explore.values("scores.n_vote", scores)


def test_a_subject_without_an_image_is_shown_in_full(tables_only: tuple[Explore, str, str]):
    explore, scores, vectors = tables_only
    assert explore.neighbours(3, scores) == []
    assert len(explore.neighbours(3, vectors)) == 7
    assert explore.subject(3, scores, 0.2)["source_id"] == str(FIRST_ID + 3)


def test_what_needs_images_is_refused_before_it_starts(tables_only: tuple[Explore, str, str]):
    survey = tables_only[0].survey
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        service = JobService(survey, ledger)
        for kind in ("train", "score"):
            with pytest.raises(JobError, match="this survey has no images"):
                service.start(kind, {}, None, "test")
        with pytest.raises(JobError, match="has no latent vectors, which map is made from"):
            service.start("map", {}, {"score": tables_only[1]}, "test")
        service.stop()
    assert survey.maps(state=None) == []
    assert {run.run_id for run in survey.runs(state=None)} == set(tables_only[1:])


def test_a_map_is_coloured_by_its_own_columns_where_it_has_them(finished_survey: Path, tmp_path: Path):
    shutil.copytree(finished_survey, tmp_path / "survey")
    with closing(Survey.open(tmp_path / "survey")) as survey:
        explore = Explore(survey)
        run_id, map_id = next(iter(explore.runs())), next(iter(explore.maps()))
        path = survey.map_folder(map_id) / COORDINATES
        table = pq.read_table(path).select(COORDINATES_SCHEMA.names)
        pq.write_table(table, path)
        assert not any(name.startswith("maps.") for name in explore.colors(run_id, map_id))
        assert np.isnan(explore.values("maps.knn_percentile", map_id=map_id)).all()
    n = len(table)
    is_off_map, percentile = np.arange(n) == 3, np.linspace(0, 100, n, dtype=np.float32)
    own = {"is_placed": np.zeros(n, bool), "knn_percentile": percentile, "is_off_map": is_off_map}
    for name, values in own.items():
        table = table.append_column(name, pa.array(values))
    pq.write_table(table, path)
    with closing(Survey.open(tmp_path / "survey")) as survey:
        explore = Explore(survey)
        offered = explore.colors(run_id, map_id).keys()
        assert {"maps.knn_percentile", "maps.is_off_map"} <= offered
        assert "maps.is_placed" not in offered  # of one value
        rows = survey.rows_of(table.column("subject_id").to_numpy())
        assert (explore.values("maps.knn_percentile", map_id=map_id)[rows] == percentile).all()
        explore.paint(Plane(map_id), Color("maps.is_off_map", run_id))
        with pytest.raises(UsageError, match='did you mean "is_off_map"'):
            explore.values("maps.is_of_map", map_id=map_id)


def test_a_map_that_cannot_be_read_takes_nothing_else_down(finished_survey: Path, tmp_path: Path):
    shutil.copytree(finished_survey, tmp_path / "survey")
    with closing(Survey.open(tmp_path / "survey")) as survey:
        explore = Explore(survey)
        run_id, map_id = next(iter(explore.runs())), next(iter(explore.maps()))
        (survey.map_folder(map_id) / COORDINATES).unlink()
        assert explore.colors(run_id, map_id) == explore.colors(run_id)
        assert np.isnan(explore.values("maps.is_off_map", map_id=map_id)).all()
        assert (len(explore.off_map(map_id)), explore.n_on_map(map_id)) == (0, 0)
        assert explore.place(0, map_id) == {"knn_percentile": None, "is_off_map": False}
        assert explore.about_map(map_id)[0] == f"0 of {survey.n} on the map"
        with pytest.raises(SurveyError, match=r"coordinates\.parquet is missing"):
            explore.index(Plane(map_id))


def test_a_map_of_subjects_added_while_the_server_runs_takes_nothing_else_down(finished_survey: Path, tmp_path: Path):
    shutil.copytree(finished_survey, tmp_path / "survey")
    with closing(Survey.open(tmp_path / "survey")) as survey:
        explore = Explore(survey)
        run_id, map_id = next(iter(explore.runs())), next(iter(explore.maps()))
        path = survey.map_folder(map_id) / COORDINATES
        table = pq.read_table(path)
        added = table.slice(0, 1).set_column(0, "subject_id", pa.array([10**9], pa.int64()))
        pq.write_table(pa.concat_tables([table, added]), path)
        assert explore.colors(run_id, map_id) == explore.colors(run_id)
        assert explore.place(0, map_id)["knn_percentile"] is None
        with pytest.raises(SurveyError, match="has 1 subjects"):
            explore.index(Plane(map_id))


# ------------------------------------------------------------------------------------- runs that provide a score
def test_a_run_that_provides_a_score_is_one_with_all_its_own_columns(tmp_path: Path):
    survey = Survey.open(write_survey(tmp_path / "survey"))
    folder = survey.run_folder("20260101-000000-ranks")
    folder.mkdir(parents=True)
    own = {
        "rank_mean": np.array([3.5, 1, 2, 5, 4], np.float32),
        "rank_spread": np.array([0, 1, 2, 3, np.nan], np.float32),
        "top1_share": np.array([0, 1, 0.5, 0, 0], np.float32),
        "is_fragile": np.array([False, False, True, False, False]),
    }
    missing = np.full(5, np.nan, np.float32)
    scores = {"image_score": missing, "feature_score": missing, "anomaly_score": 100 - own["rank_mean"]}
    ids = {"subject_id": survey.subject_ids, "split": ["unseen"] * 5, "quality": ["ok"] * 5}
    write_scores(folder, None, ids | scores | own)
    run = Run(folder.name, "ranks", "0", {}, state="done", n_rows=5, provides="score")
    run.results["score_title"] = "Mean rank percentile"
    run.write(folder / "run.json")
    explore = Explore(survey)
    assert list(explore.runs()) == [run.run_id]
    assert check_run(folder, survey.subject_ids) == []
    titles = {"anomaly_score": "Mean rank percentile"} | {name: RANKS[name] for name in own}
    assert explore.score_titles(run.run_id) == titles
    assert {f"scores.{name}" for name in own} <= explore.colors(run.run_id).keys()
    assert explore.order("scores.rank_mean", run.run_id, 0.2, False).tolist() == [1, 2, 0, 4, 3]
    assert explore.order("scores.rank_spread", run.run_id, 0.2, True).tolist() == [3, 2, 1, 0, 4]
    assert explore.values("scores.is_fragile", run.run_id).tolist() == [0, 0, 1, 0, 0]
    assert explore.fragile(np.array([4, 2, 0, 2]), run.run_id) == [1, 3]
    assert explore.fragile(np.array([2]), "") == []
    listing = Listing(explore)
    columns = {column["reference"]: column["title"] for column in listing.columns(run.run_id)}
    assert columns["scores.is_fragile"] == "Fragile (top 1 % of some runs only)"
    page = listing.page(Listed(where="is_fragile = 1", run_id=run.run_id), ["scores.rank_mean"], 0, 5)
    assert page["rows"] == [2]
    table = selection_table(explore, None, run.run_id, "", 0.2)
    assert table.column("top1_share").to_pylist() == own["top1_share"].tolist()
    (folder / "scores.parquet").unlink()
    assert "scores.parquet is missing" in check_run(folder, survey.subject_ids)[0]
    survey.close()


def test_planes_that_show_the_same_are_equal():
    assert Plane("m", run_id="r", lambda_=0.7) == Plane("m", run_id="s")  # no axis is a score
    assert Plane("m", "scores.feature_score", "scores.image_score", "r", 0.7) == Plane(
        "", "scores.feature_score", "scores.image_score", "r"
    )
    assert Plane("m", "scores.anomaly_score", run_id="r", lambda_=0.7) != Plane("m", "scores.anomaly_score", run_id="r")
    assert Plane("m", "subjects.ra", turn=(0.0, 1.0)) == Plane("m", turn=(0.0, 1.0))


def test_two_columns_are_a_plane_like_the_map(explore: Explore, run_id: str):
    plane = Plane("", "scores.feature_score", "subjects.magnitude", run_id)
    index = explore.index(plane)
    feature, magnitude = (explore.values(axis, run_id) for axis in (plane.x, plane.y))
    placed = np.flatnonzero(np.isfinite(feature) & np.isfinite(magnitude))
    assert sorted(index.rows.tolist()) == placed.tolist()
    np.testing.assert_allclose(index.at(placed), np.column_stack([feature, magnitude])[placed], rtol=1e-6)
    with pytest.raises(UsageError, match='did you mean "magnitude"'):
        explore.index(Plane("", "subjects.magnitud", "subjects.ra"))


def test_the_extent_of_a_plane_and_where_rows_stand_are_those_of_its_index(explore: Explore, run_id: str):
    map_id = next(iter(explore.maps()))
    rows = np.arange(explore.survey.n)
    for plane in (Plane(map_id), Plane("", "scores.feature_score", "subjects.magnitude", run_id)):
        index = explore.index(plane)
        assert explore.extent(plane) == (index.bounds, len(index))
        np.testing.assert_array_equal(explore.at(plane, rows), index.at(rows))
    planes = [Plane(map_id, turn=(yaw, 0.2)) for yaw in np.linspace(0, 1, 20)]
    assert len({explore.extent(plane) for plane in planes}) == 1
    flat = explore.index(Plane(map_id))
    for plane in planes:
        explore.index(plane)
    assert explore.index(Plane(map_id)) is flat  # turning drives nothing out


def test_a_turned_map_holds_the_same_subjects_in_other_places(explore: Explore):
    map_id = next(iter(explore.maps()))
    flat, turned = explore.index(Plane(map_id)), explore.index(Plane(map_id, turn=(0.3, 0.2)))
    assert sorted(flat.rows.tolist()) == sorted(turned.rows.tolist())
    assert explore.is_solid(map_id)
    color = Color("subjects.magnitude")
    assert explore.paint(Plane(map_id, turn=(0.3, 0.2)), color) is explore.paint(Plane(map_id, turn=(1.0, 0.0)), color)


def test_a_selection_on_somebodys_screen_stays_known_however_many_come_after(explore: Explore):
    n = explore.survey.n
    held, gone = Selection.of_rows([1, 5], n), Selection.of_rows([2], n).id
    name = explore.keep(held)
    explore.keep(Selection.of_rows([2], n))
    for k in range(300):
        explore.keep(Selection.of_rows([k % 100, 100 + k // 100], n))
    assert explore.selection(name) is held
    with pytest.raises(UsageError, match="not known to the server any more"):
        explore.selection(gone)


def test_without_a_map_what_volunteers_chose_is_shown_first(tmp_path: Path) -> None:
    create_table_only(tmp_path / "s", pa.table({"source_id": ["1", "2", "3"]}), "a table")
    with closing(Survey.open(tmp_path / "s")) as survey:
        assert Explore(survey).default_axes("", "") == COMPONENTS
        assert Explore(survey).default_sort("") == ""
        said = {"chosen_fraction": [0.1, 0.5, None], "n_votes": [10, 12, 0], "entropy_unknown": ["a", None, None]}
        about = {"title": "T0 · chosen", "answer": "chosen", "basis": "views", "is_simulated": False}
        write_table(tmp_path / "s" / "crowd.parquet", pa.table(said, metadata={"voorwerp": json.dumps(about)}))
        assert survey.refresh()
        explore = Explore(survey)
        assert explore.default_axes("", "") == ("subjects.chosen_fraction", "subjects.n_votes")
        assert explore.default_axes("", "some-map") == COMPONENTS
        assert explore.default_sort("") == "subjects.chosen_fraction"
        told = explore.subject(1, "", 0.2)["crowd"]
        assert told["chosen_fraction"] == 0.5 and told["n_votes"] == 12 and told["title"] == "T0 · chosen"
        assert told["weighted_chosen_fraction"] is None
        assert [c["name"] for c in explore.subject(1, "", 0.2)["columns"]] == ["duplicate_group", "half"]
