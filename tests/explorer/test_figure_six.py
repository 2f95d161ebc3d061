"""Figure 6: each score's boundaries out of fold against their own truth, and all of them against one truth."""

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import precision_score, recall_score

from explorer.errors import UsageError
from explorer.services.figure_six import NOT_COMPARABLE, against, figure6, scores_of
from explorer.services.learned import Learning
from explorer.survey import SUBJECTS
from models.artifacts import LATENTS
from models.truth import Truth
from tests.explorer.judged import Judged, N, opened, write_judged

PLANTED = Truth("category", "subjects.planted", labels=("ring",))


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    """Latents that know the feature score well, votes a little, and a planted class a little."""
    folder = write_judged(tmp_path_factory.mktemp("six") / "survey")
    rng = np.random.default_rng(0)
    [run] = (folder / "runs").iterdir()
    feature = pq.read_table(run / "scores.parquet").column("feature_score").to_numpy()
    latents = rng.standard_normal((N, 6))
    latents[:, 0] = 8 * feature
    np.save(run / LATENTS, latents.astype(np.float32))
    is_ring = rng.random(N) < np.clip(feature**2 / 2, 0, 1)
    table = pq.read_table(folder / SUBJECTS)
    planted = pa.array(np.where(is_ring, "ring", "none"))
    table = table.append_column(pa.field("planted", pa.string(), metadata={"kind": "category"}), planted)
    pq.write_table(table, folder / SUBJECTS)
    with opened(folder) as found:
        yield found


@pytest.fixture(scope="module")
def learning(at: Judged) -> Learning:
    return Learning(at.explore, at.truths)


def test_the_three_scores_of_the_paper(at: Judged) -> None:
    found = scores_of(at.truths, at.context)
    assert list(found) == ["chosen", "feature", "product"]
    assert found["product"].references == (found["chosen"].column, found["feature"].column)


def test_a_point_is_the_standard_definitions_out_of_fold(at: Judged, learning: Learning) -> None:
    six = figure6(learning, at.truths, at.context, {"feature": [0.8, 0.5], "chosen": [0.2]})
    by_name = {curve.name: curve for curve in six.curves}
    assert [p.sigma for p in by_name["feature"].points] == [0.5, 0.8]
    assert by_name["product"].points == ()
    half = at.survey.column("half") == "tune"
    assert not (~half)[six.rows].any()
    point = by_name["feature"].points[1]
    assert point.scores is not None
    positive = at.survey.scores(at.context.run_id)["feature_score"][six.rows] >= np.float32(0.8)
    kept = point.scores >= 0
    assert point.n_positive == positive.sum()
    assert point.rates["precision"].value == pytest.approx(precision_score(positive, kept), abs=1e-12)
    assert point.rates["recall"].value == pytest.approx(recall_score(positive, kept), abs=1e-12)
    assert point.rates["kept"].value == pytest.approx(kept.mean(), abs=1e-12)
    voted = by_name["chosen"].points[0].scores
    assert voted is not None
    np.testing.assert_array_equal(np.isnan(voted), six.rows >= 500)  # without votes it is not known
    told = json.loads(json.dumps(six.to_json(), allow_nan=False))
    assert told["note"] == NOT_COMPARABLE


def test_sigma_beyond_the_data_is_a_sentence_and_the_rest_goes_on(at: Judged, learning: Learning) -> None:
    six = figure6(learning, at.truths, at.context, {"feature": [0.5, 99.0]})
    good, beyond = next(curve for curve in six.curves if curve.name == "feature").points
    assert good.trouble == "" and "none of the" in beyond.trouble
    assert beyond.rates == {}


def test_a_grid_of_itself_runs_from_many_positives_to_few(at: Judged, learning: Learning) -> None:
    six = figure6(learning, at.truths, at.context, 5)
    for curve in six.curves:
        shares = [p.n_positive for p in curve.points]
        assert shares == sorted(shares, reverse=True)
        assert len(shares) >= 3
    assert six.curves[0].nearest(0.4) is six.curves[0].points[0]


def test_one_truth_judges_all_at_an_equal_kept_fraction(at: Judged, learning: Learning) -> None:
    six = figure6(learning, at.truths, at.context, 6)
    claim = against(six, learning, at.truths, at.context, PLANTED, 0.2, reps=200)
    assert [j.name for j in claim.judged] == ["chosen", "feature", "product"]
    for judged in claim.judged:
        assert judged.rates["kept"].value == pytest.approx(0.2)
        precision, recall, base = (judged.rates[name].value for name in ("precision", "recall", "base"))
        assert precision * 0.2 == pytest.approx(recall * base)  # the identity that unmasks exchanged values
    assert claim.n == 248 or claim.n == int(np.isfinite(six.curves[0].points[0].scores).sum())
    difference = claim.differences["product", "chosen"]["recall"]
    ours = {j.name: j.rates["recall"].value for j in claim.judged}
    assert difference.value == pytest.approx(ours["product"] - ours["chosen"])
    assert difference.low <= difference.value <= difference.high
    assert claim.circular == ()
    json.dumps(claim.to_json(), allow_nan=False)


def test_a_truth_that_shares_with_the_scores_is_named(at: Judged, learning: Learning) -> None:
    six = figure6(learning, at.truths, at.context, {"feature": [0.5]})
    own = Truth("column", "scores.feature_score", at_least=0.7)
    assert against(six, learning, at.truths, at.context, own, reps=50).circular


def test_what_cannot_be_judged_is_a_sentence(at: Judged, learning: Learning) -> None:
    six = figure6(learning, at.truths, at.context, {"feature": [0.5]})
    with pytest.raises(UsageError, match="no boundary of"):
        against(six, learning, at.truths, at.context, PLANTED, at={"feature": 0.6})
    with pytest.raises(UsageError, match="between 0 and 1"):
        against(six, learning, at.truths, at.context, PLANTED, 1.5)
    nobody = Truth("column", "subjects.magnitude", at_least=99.0)
    with pytest.raises(UsageError, match="no right one among"):
        against(six, learning, at.truths, at.context, nobody)
    with pytest.raises(UsageError, match="no threshold to move"):
        figure6(learning, at.truths, at.context, 3, {"planted": PLANTED})
    with pytest.raises(UsageError, match="there is no run"):
        figure6(learning, at.truths, replace(at.context, run_id=""), 3)
