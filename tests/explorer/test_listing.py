"""The table's service, against slow obvious answers."""

import asyncio
from contextlib import closing
from pathlib import Path

import numpy as np
import orjson
import pytest

from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.explore import Explore
from explorer.services.filters import FilterError
from explorer.services.listing import MOST_COLUMNS, MOST_ROWS, NAME, SHOWN, Listed, Listing, decimals
from explorer.state import ExplorerState, Selection
from explorer.survey import Survey
from explorer.views.table import TableView
from tests.conftest import FIRST_ID

N = 200


@pytest.fixture(scope="module")
def listing(finished_survey: Path):
    survey = Survey.open(finished_survey)
    with closing(Ledger(survey.path, survey.info.survey_id)) as ledger:
        yield Listing(Explore(survey), ledger)
    survey.close()


@pytest.fixture(scope="module")
def told(listing: Listing) -> dict[str, str]:
    """The run and the map."""
    return {"run_id": next(iter(listing.explore.runs())), "map_id": next(iter(listing.explore.maps()))}


@pytest.fixture
def view(listing: Listing, told: dict[str, str]) -> TableView:
    return TableView(ExplorerState(N, **told), listing.explore, listing)


def test_a_header_of_the_map_orders_the_gallery_too(view: TableView):
    column = next(c["reference"] for c in view.table.columns if c["reference"].startswith("maps."))
    view.table._handle_msg({"sort": column, "descending": False})
    assert (view.state.sort, view.state.descending, view.table.sort) == (column, False, column)


def test_what_is_listed_is_called_by_its_filter_unless_it_is_a_part_of_a_selection(view: TableView):
    asyncio.run(view._select("magnitude < 19", False, "replace"))
    assert view.state.selection.title == "magnitude < 19"
    asyncio.run(view._select("shape = spiral", True, "replace"))
    assert 0 < view.state.selection.count < N / 2
    assert view.state.selection.title == ""


def json(page: dict) -> dict:
    """As the page reads it."""
    return orjson.loads(orjson.dumps(page, option=orjson.OPT_SERIALIZE_NUMPY))


def test_the_columns_are_the_name_the_scores_and_what_the_survey_has(listing: Listing, told: dict[str, str]):
    columns = {c["reference"]: c for c in listing.columns(**told)}
    assert next(iter(columns)) == NAME
    assert columns[NAME]["title"] == "Subject"
    assert columns["scores.anomaly_score"]["title"] == "Anomaly score"
    assert [columns[f"subjects.{name}"]["kind"] for name in ("magnitude", "shape", "note")] == [
        "number",
        "category",
        "text",
    ]
    assert columns["subjects.duplicate_group"]["kind"] == "id"
    assert not columns["subjects.duplicate_group"]["shown"]
    assert "subjects.ra" not in columns  # nobody has one
    assert 1 < sum(c["shown"] for c in columns.values()) <= SHOWN
    assert not [r for r in listing.columns() if r["reference"].startswith("scores.")]


def test_a_page_has_the_lines_of_the_order_exact_and_missing_as_null(listing: Listing, told: dict[str, str]):
    listed = Listed(sort="subjects.magnitude", descending=False, **told)
    columns = [NAME, "subjects.magnitude", "subjects.shape", "scores.feature_score"]
    page = json(listing.page(listed, columns, 195, MOST_ROWS))
    assert (page["of"], page["total"], page["start"]) == (N, N, 195)
    assert page["rows"] == [196, 197, 198, 199, 3]  # the one without a magnitude is last
    assert page["cells"][NAME] == [str(FIRST_ID + row) for row in page["rows"]]
    assert page["cells"]["subjects.magnitude"] == [20.92, 20.94, 20.96, 20.98, None]
    assert page["cells"]["subjects.shape"] == ["spiral", "elliptical", "spiral", "elliptical", "elliptical"]
    scores = listing.explore.values("scores.feature_score", told["run_id"])[page["rows"]]
    np.testing.assert_array_equal(np.array(page["cells"]["scores.feature_score"], np.float32), scores)
    assert page["decimals"]["subjects.magnitude"] == 2
    assert "subjects.shape" not in page["decimals"]


def test_a_filter_and_a_selection_narrow_the_table_in_any_order(listing: Listing, told: dict[str, str]):
    selection = Selection.of_rows(np.arange(50), N)
    listed = Listed(listing.explore.keep(selection), "magnitude > 17.5 and shape = spiral", NAME, **told)
    magnitude = listing.survey.column("magnitude")
    wanted = [row for row in range(49, -1, -1) if row % 2 == 0 and magnitude[row] > 17.5]
    assert listing.rows(listed).tolist() == wanted
    page = listing.page(listed, [], 2, 3, focus=wanted[4])
    assert (page["of"], page["total"], page["place"]) == (50, len(wanted), 4)
    assert page["rows"].tolist() == wanted[2:5]
    assert listing.page(listed, [], 0, 1, focus=1)["place"] == -1
    assert listing.region(listed).rows().tolist() == wanted[::-1]


def test_the_region_of_a_table_without_a_filter_is_its_selection_or_everything(listing: Listing):
    selection = Selection.of_rows([3, 4], N)
    assert listing.region(Listed(listing.explore.keep(selection))) == selection
    assert listing.region(Listed()).count == N
    assert listing.region(Listed(where="shape = spiral")).rows().tolist() == list(range(0, N, 2))


def test_the_mixed_score_is_filtered_and_sorted_by_its_lambda(listing: Listing, told: dict[str, str]):
    for lambda_ in (0.0, 1.0):
        listed = Listed("", "anomaly_score > 90%", "scores.anomaly_score", lambda_=lambda_, **told)
        values = listing.explore.values("scores.anomaly_score", told["run_id"], lambda_)
        order = np.argsort(-values, kind="stable")
        above = values[order] > np.percentile(values, 90)
        assert listing.rows(listed).tolist() == order[above].tolist()


def test_texts_and_ids_sort_by_what_they_say(listing: Listing):
    for name in ("source_id", "note", "image"):
        values = listing.survey.column(name)
        for descending in (False, True):
            order = sorted(range(N), key=lambda row: values[row], reverse=descending)
            ties = len(set(values)) == N
            assert ties
            assert listing.rows(Listed(sort=f"subjects.{name}", descending=descending)).tolist() == order


def test_a_maps_own_column_sorts_by_the_map_that_is_shown(listing: Listing, told: dict[str, str]):
    values = listing.explore.values("maps.umap_1", map_id=told["map_id"])
    assert listing.rows(Listed(sort="maps.umap_1", **told)).tolist() == np.argsort(-values, kind="stable").tolist()
    with pytest.raises(UsageError, match="there is no map yet"):
        listing.rows(Listed(sort="maps.umap_1"))


def test_an_order_that_another_lambda_does_not_change_is_not_made_again(listing: Listing, told: dict[str, str]):
    explore, run_id = listing.explore, told["run_id"]

    def orders(reference: str) -> list[np.ndarray]:
        return [explore.order(reference, run_id, lambda_, True) for lambda_ in (0.1, 0.9)]

    for reference in ("subjects.magnitude", "scores.feature_score"):
        first, second = orders(reference)
        assert first is second
    first, second = orders("scores.anomaly_score")
    assert first is not second


def test_a_kept_selection_is_read_anew_whenever_a_filter_names_it(listing: Listing):
    listed = Listed(where='selection("odd ones")')
    with pytest.raises(FilterError, match="odd ones"):
        listing.rows(listed)


def test_what_may_stand_at_the_cursor_comes_as_json(listing: Listing, told: dict[str, str]):
    offered = orjson.loads(orjson.dumps(listing.complete("magn", 4, **told)))
    assert offered[0]["text"] == "magnitude"
    assert (offered[0]["start"], offered[0]["end"], offered[0]["kind"]) == (0, 4, "column")
    assert [o["text"] for o in listing.complete("shape = el", 10, **told)] == ["elliptical"]


def test_nonsense_is_refused_in_a_sentence(listing: Listing):
    with pytest.raises(FilterError) as refused:
        listing.rows(Listed(where="magnitude >> 3"))
    assert (refused.value.start, refused.value.end) == (11, 12)
    with pytest.raises(UsageError, match="a page has 1 to 200 lines"):
        listing.page(Listed(), [], 0, MOST_ROWS + 1)
    with pytest.raises(UsageError, match="at most 60 columns"):
        listing.page(Listed(), [NAME] * (MOST_COLUMNS + 1), 0, 1)
    with pytest.raises(UsageError, match='did you mean "magnitude"'):
        listing.page(Listed(), ["subjects.magnitud"], 0, 1)
    with pytest.raises(UsageError, match="numeric columns"):
        listing.page(Listed(), ["passwords.all"], 0, 1)
    with pytest.raises(UsageError, match="not known to the server any more"):
        listing.page(Listed("gone"), [], 0, 1)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([], 0),
        ([np.nan, np.inf], 0),
        ([0.0, 0.0], 0),
        ([1.0, 2.0, 40.0], 0),
        ([17.02, 18.5], 2),
        (np.array([17.02, 18.5], np.float32), 2),
        ([1 / 3, 2 / 3], 4),
        ([12345.678, 99999.1], 0),
        ([0.25, 0.25], 2),
        ([1e-9, 3e-9], None),
        ([1.5e12, 2.5e15], None),
        ([1e9, 2e9], 0),
        ([1e9, 2e9 + 0.5], None),
    ],
)
def test_decimals_tell_the_values_of_a_column_apart_and_no_more(values, wanted):
    assert decimals(np.asarray(values)) == wanted
