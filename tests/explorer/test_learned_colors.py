"""What classifiers score, as a coloring of the map and an order of the gallery."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from explorer.contours import mean_lines
from explorer.errors import UsageError
from explorer.services.boundaries import Context
from explorer.services.desk import Desk
from explorer.services.explore import LEARNED, Color, Plane
from explorer.state import Draft
from models.boundary import And, Learned
from models.truth import Truth

TRUTH = Truth("column", column="subjects.magnitude", at_least=19)


@pytest.fixture(scope="module")
def desk(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    path = tmp_path_factory.mktemp("colors") / "survey"
    shutil.copytree(finished_survey, path, ignore=shutil.ignore_patterns("server.lock"))
    with Desk.open(path) as desk:
        yield desk


@pytest.fixture(scope="module")
def context(desk: Desk) -> Context:
    return Context(next(iter(desk.explore.runs())), next(iter(desk.explore.maps())))


@pytest.fixture(scope="module")
def sha(desk: Desk, context: Context) -> str:
    return desk.learning.fit(context.run_id, TRUTH, context)


def test_a_classifiers_score_is_a_color_and_an_order(desk: Desk, context: Context, sha: str):
    explore, reference = desk.explore, LEARNED + sha
    scores = desk.learning.balanced(sha, context)
    np.testing.assert_array_equal(explore.values(reference, context.run_id), scores)
    order = explore.order(reference, context.run_id, 0.2, descending=True)
    assert (np.diff(scores[order]) <= 0).all()
    plane = Plane(context.map_id)
    frame, paint = explore.frame(plane, (-50, 50, -50, 50), 64, 64, Color(reference, context.run_id), "")
    assert frame.n_in_view == explore.survey.n
    assert (paint.scale.value(0), paint.scale.value(1)) == pytest.approx((scores.min(), scores.max()), abs=1e-3)
    assert 0.5 in mean_lines(explore.index(plane), explore.index(plane).bounds, scores)


def test_it_is_called_by_the_boundary_that_is_kept_with_it(desk: Desk, context: Context, sha: str):
    explore, reference = desk.explore, LEARNED + sha
    assert explore.can_color(reference, context.run_id)  # before any is kept, too
    assert explore.color_title(reference, context.run_id) == "Learned score"
    assert reference not in explore.colorings(context.run_id)
    desk.boundaries.save("rings", Draft(And((Learned(sha),)), TRUTH), context, "local")
    assert explore.colorings(context.run_id)[reference] == "Learned score of rings"
    assert reference not in explore.colors(context.run_id)  # it is no column
    assert reference not in explore.axes(context.run_id, context.map_id)
    entry = desk.boundaries.rename("rings", "arcs", "local")
    assert explore.color_title(reference, context.run_id) == "Learned score of arcs"
    desk.boundaries.undo(entry.id, "local")
    assert explore.color_title(reference, context.run_id) == "Learned score of rings"
    assert explore.colorings("") == explore.colors("")


def test_what_is_no_classifier_is_no_color(desk: Desk, context: Context):
    for name in ("", "x", "0" * 64):
        assert not desk.explore.can_color(LEARNED + name, context.run_id)
        with pytest.raises(UsageError, match="classifier"):
            desk.explore.values(LEARNED + name, context.run_id)
    assert desk.explore.can_color("count", context.run_id)
