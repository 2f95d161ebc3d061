"""Numbers of a boundary: what moves by look-ups is what counting anew gives; curves, budget, losses, bad input."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score

from explorer.errors import UsageError, VoorwerpError
from explorer.services.boundaries import Context
from explorer.state import Draft
from explorer.survey import SUBJECTS
from models.boundary import And, Gate, Learned, Not, Or, Region, Term
from models.rates import wilson
from models.truth import Truth
from tests.explorer.judged import TAGS, VOTED, Judged, N, opened, write_judged

CHOSEN, FEATURE, IMAGE = "subjects.chosen_fraction", "scores.feature_score", "scores.image_score"
VOTES = Truth("column", CHOSEN, at_least=0.3)
KIND = Truth("category", "subjects.kind", labels=("ring",))
MAP = Region("maps.umap_1", "maps.umap_2", ((-8.0, -8.0), (9.0, -7.0), (8.0, 9.0), (-7.0, 5.0)))
BOUNDARIES: dict[str, Term] = {
    "gate": Gate(FEATURE, low=0.5),
    "both": And((Gate(FEATURE, low=0.5, high=0.9), MAP)),
    "missing": Or((Gate("subjects.magnitude", low=18.2), And((MAP, Gate(FEATURE, low=0.7))))),
    "not": And((Not(And((Gate("subjects.magnitude", high=17.5), MAP))), Gate(IMAGE, low=0.3))),
}


@pytest.fixture(scope="module")
def at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    with opened(write_judged(tmp_path_factory.mktemp("judge") / "survey")) as found:
        yield found


def numbers(at: Judged, keep: Term, truth: Truth | None = VOTES, moving: Any = None, **more: Any) -> dict[str, Any]:
    found = at.judge.numbers(Draft(keep, truth), at.context, moving, **more)
    json.dumps(found, allow_nan=False)
    return found


def tuned(at: Judged) -> np.ndarray:
    codes, labels = at.survey.category("half")
    return codes == labels.index("tune")


@pytest.mark.parametrize("keep", BOUNDARIES.values(), ids=BOUNDARIES)
def test_rates_are_scikit_learns_on_the_tune_half(at: Judged, keep: Term):
    found = numbers(at, keep)
    known = at.truths.of(VOTES, at.context)
    kept = at.boundaries.kept(keep, at.context)
    mine = tuned(at) & known.known
    assert found["half"] == "tune" and found["n"] == tuned(at).sum() and not found["trouble"]
    told = found["rates"]
    for name, score in (("precision", precision_score), ("recall", recall_score)):
        assert told[name]["value"] == pytest.approx(score(known.positive[mine], kept.yes[mine]), abs=1e-12)
        low, high = wilson(told[name]["k"], told[name]["n"])
        assert (told[name]["low"], told[name]["high"]) == pytest.approx((float(low), float(high)))
    assert told["kept"]["k"] == (kept.yes & tuned(at)).sum() and told["kept"]["n"] == found["n"]
    assert told["base"]["k"] == known.positive[mine].sum() and told["base"]["n"] == mine.sum()
    assert found["n_kept"] == kept.yes.sum() and found["n_all"] == N
    assert found["unknown"] == {
        "truth": (tuned(at) & ~known.known).sum(),
        "boundary": (kept.unknown & tuned(at)).sum(),
    }


MOVES = [
    ("gate", (), FEATURE),
    ("both", (0,), FEATURE),
    ("missing", (0,), "subjects.magnitude"),
    ("missing", (1, 1), FEATURE),
    ("not", (0, 0, 0), "subjects.magnitude"),
    ("not", (1,), IMAGE),
]
SOFT = replace(VOTES, is_soft=True)


@pytest.mark.parametrize("truth", [VOTES, KIND, Truth("talk", "merger"), SOFT], ids=["votes", "kind", "talk", "soft"])
@pytest.mark.parametrize(("name", "path", "column"), MOVES)
def test_a_moving_limit_gives_what_counting_anew_gives(at: Judged, name: str, path: Any, column: str, truth: Truth):
    from models.boundary import at as term_at
    from models.boundary import replaced

    values = at.boundaries.source(at.context).column(column)
    steps = [*np.nanquantile(values, [0, 0.1, 0.5, 0.97, 1]).tolist(), float(np.nanmax(values)) + 1]
    for low in steps:
        for high in (None, steps[3]):
            leaf = term_at(BOUNDARIES[name], path)
            keep = replaced(BOUNDARIES[name], path, replace(leaf, low=low, high=high))  # type: ignore[arg-type]
            moved, still = numbers(at, keep, truth, path), numbers(at, keep, truth)
            for part in ("n_kept", "n", "unknown", "circular", "kind", "half", "title", "stale", "lost", "lost_of"):
                assert moved[part] == still[part], part
            assert moved["rates"] == still["rates"]
            assert moved["cost"]["images"] == still["n_kept"]
            assert (moved["soft"] is None) == (truth is not SOFT)
            for rate, told in (moved["soft"] or {}).items():
                for key, value in told.items():
                    assert value == (pytest.approx(still["soft"][rate][key]) if key != "note" else value)


@pytest.mark.parametrize("is_soft", [False, True])
@pytest.mark.parametrize("keep", BOUNDARIES.values(), ids=BOUNDARIES)
def test_a_moving_sigma_gives_what_counting_anew_gives(at: Judged, keep: Term, is_soft: bool):
    for sigma in (0.0, 1 / 9, 0.2, 3 / 9, 0.5, 0.7):
        truth = replace(VOTES, at_least=sigma, is_soft=is_soft)
        moved, still = numbers(at, keep, truth, "truth"), numbers(at, keep, truth)
        assert moved["trouble"] == still["trouble"]
        assert moved["title"] == still["title"] and moved["sentence"] == still["sentence"]
        assert moved["rates"] == still["rates"]
        assert (moved["soft"] is None) == (still["soft"] is None)
        for rate, told in (moved["soft"] or {}).items():
            assert told["value"] == pytest.approx(still["soft"][rate]["value"])
    product = Truth("product", CHOSEN, FEATURE, 0.2)
    assert numbers(at, keep, product, "truth")["rates"] == numbers(at, keep, product)["rates"]


def test_soft_rates_expect_what_draws_of_the_truth_give(at: Judged):
    found = numbers(at, BOUNDARIES["both"], SOFT)
    known = at.truths.of(SOFT, at.context)
    assert known.p is not None
    kept, mine = at.boundaries.kept(BOUNDARIES["both"], at.context).yes, tuned(at) & known.known
    expected = known.p[mine & kept].sum() / (mine & kept).sum()
    assert found["soft"]["precision"]["value"] == pytest.approx(expected)
    assert found["soft"]["recall"]["value"] == pytest.approx(known.p[mine & kept].sum() / known.p[mine].sum())
    assert found["soft"]["kept"] == found["rates"]["kept"]
    assert any("are expected to truly do" in note["sentence"] for note in found["notes"])


def test_lists_have_no_f1_and_precision_at_least(at: Judged):
    found = numbers(at, BOUNDARIES["gate"], Truth("talk", "merger"))
    assert found["kind"] == "positives_only"
    assert found["rates"]["f1"]["value"] is None
    assert "at least" in found["rates"]["precision"]["note"]
    assert found["rates"]["lift"]["value"] is not None
    in_half = sum(tuned(at)[list(TAGS["merger"][0])])
    assert found["unknown"]["truth"] == found["n"] - in_half


def test_circular_truths_are_named(at: Judged):
    assert numbers(at, Gate(FEATURE, low=0.5), Truth("column", FEATURE, at_least=0.4))["circular"] == ["Feature score"]
    assert numbers(at, Gate(FEATURE, low=0.5))["circular"] == []


# ---------------------------------------------------------------------------------------------------- what is lost
def test_what_is_thrown_away_is_told_worst_first_and_can_be_fetched(at: Judged):
    keep = BOUNDARIES["both"]
    kept = at.boundaries.kept(keep, at.context).yes
    found = numbers(at, keep)
    by_name = {one["name"]: one for one in found["lost"]}
    assert set(by_name) == {*TAGS, "ring", "spiral", "elliptical"}
    shares = [one["k"] / one["n"] for one in found["lost"]]
    assert shares == sorted(shares)
    for name, (subjects, people) in TAGS.items():
        one = by_name[name]
        assert (one["k"], one["n"]) == (kept[list(subjects)].sum(), len(subjects))
        assert one["n_taggers"] == len(people) and one["half"] == "all"
        gone = at.judge.thrown_away(Draft(keep, VOTES), at.context, one["reference"])
        assert gone.tolist() == [i for i in subjects if not kept[i]]
    codes, labels = at.survey.category("kind")
    ring = codes == labels.index("ring")
    assert (by_name["ring"]["k"], by_name["ring"]["n"]) == ((kept & ring).sum(), ring.sum())
    gone = at.judge.thrown_away(Draft(keep, VOTES), at.context, by_name["ring"]["reference"])
    np.testing.assert_array_equal(gone, np.flatnonzero(ring & ~kept))
    assert found["classes"] == {"column": "subjects.kind", "offered": ["subjects.kind"]}


def test_groups_that_are_the_truth_are_told_of_the_tune_half_alone(at: Judged):
    keep, half = BOUNDARIES["both"], tuned(at)
    found = numbers(at, keep, Truth("talk", "merger"))
    assert found["lost_of"] == {"tag": "tune", "class": "all"}
    merger = next(one for one in found["lost"] if one["name"] == "merger")
    assert merger["n"] == sum(half[list(TAGS["merger"][0])]) and merger["half"] == "tune"
    gone = at.judge.thrown_away(Draft(keep, Truth("talk", "merger")), at.context, "talk:merger")
    assert half[gone].all() and len(gone) == merger["n"] - merger["k"]
    found = numbers(at, keep, KIND)
    assert found["lost_of"] == {"tag": "all", "class": "tune"}
    assert found["rates"]["recall"]["k"] == next(one["k"] for one in found["lost"] if one["name"] == "ring")


def test_right_classes_come_before_those_that_are_lost_on_purpose(at: Judged):
    lost = numbers(at, BOUNDARIES["both"], replace(KIND, labels=("ring", "spiral")))["lost"]
    right = {one["name"]: one["is_right"] for one in lost}
    assert right == {"ring": True, "spiral": True, "elliptical": False, **dict.fromkeys(TAGS)}
    assert [one["name"] for one in lost][-1] == "elliptical"
    shares = [one["k"] / one["n"] for one in lost[:-1]]
    assert shares == sorted(shares)
    assert {one["is_right"] for one in numbers(at, BOUNDARIES["both"])["lost"]} == {None}  # the truth is no class


def test_classifiers_are_called_by_what_they_are_and_a_gate_without_limits_says_so(at: Judged):
    shas = [at.learning.fit(at.context.run_id, KIND, at.context, "linear", n) for n in (3, 4)]
    assert at.boundaries.titles_of(Learned(shas[0])) == {shas[0]: "Linear, 3 components"}
    keep = And((Learned(shas[0]), Gate(FEATURE), Learned(shas[1])))
    titles = {shas[0]: "Linear, 3 components (term 1)", shas[1]: "Linear, 4 components (term 3)"}
    assert at.boundaries.titles_of(keep) == titles
    notes = numbers(at, keep)["notes"]
    assert {"path": [1], "sentence": "limits nothing yet"} in notes
    assert titles[shas[0]] in [one["title"] for one in at.judge.curves(Draft(keep, VOTES), at.context)["pr"]]


def test_cells_where_nothing_is_kept(at: Judged):
    found = at.judge.empty(Draft(BOUNDARIES["both"], VOTES), at.context, grid=12)
    xy = at.survey.coordinates(at.context.map_id)[:, :2].astype(float)
    kept, seen = at.boundaries.kept(BOUNDARIES["both"], at.context).yes, 0
    assert found["cells"] and found["n_placed"] == N
    for x0, x1, y0, y1, n in found["cells"]:
        close = 1e-9
        inside = (xy > (x0 + close, y0 + close)).all(1) & (xy < (x1 - close, y1 - close)).all(1)
        assert n >= 5 and inside.sum() <= n and not kept[inside].any()
        seen += n
    assert found["n"] == seen
    assert at.judge.empty(Draft(), at.context)["cells"] == []


# ----------------------------------------------------------------------------------------------------------- cost
def test_hours_and_what_they_find(at: Judged):
    found = numbers(at, BOUNDARIES["gate"], seconds=9.0, graders=2)
    cost, precision = found["cost"], found["rates"]["precision"]
    assert cost["images"] == found["n_kept"] and not cost["measured"]
    assert cost["hours"] == pytest.approx(found["n_kept"] * 9 * 2 / 3600)
    for end in ("value", "low", "high"):
        assert cost["found_per_hour"][end] == pytest.approx(precision[end] * 200)
    assert numbers(at, BOUNDARIES["gate"])["cost"]["seconds"] == 5
    assert "give more than 0" in numbers(at, BOUNDARIES["gate"], seconds=0.0)["trouble"]


# --------------------------------------------------------------------------------------------------------- curves
def test_curves_are_the_rates_at_every_place(at: Judged):
    keep = And((Gate(FEATURE, low=0.5), MAP))
    found = at.judge.curves(Draft(keep, VOTES), at.context)
    json.dumps(found, allow_nan=False)
    known, mine = at.truths.of(VOTES, at.context), tuned(at)
    limit = found["limit"]
    assert limit["reference"] == FEATURE and limit["path"] == [0] and limit["at"] == 0.5 and len(limit["x"]) <= 200
    feature = at.survey.scores(at.context.run_id)["feature_score"]
    for i in range(0, len(limit["x"]), 17):
        x = limit["x"][i]
        told = numbers(at, And((Gate(FEATURE, low=x), MAP)))["rates"]
        assert limit["precision"][i] == told["precision"]["value"]
        assert limit["recall_all"][i] == pytest.approx(told["recall"]["value"], abs=1e-12)
        assert limit["f1"][i] == pytest.approx(told["f1"]["value"], abs=1e-12)
        above = (known.positive & mine & (feature >= x)).sum()  # science rule 23: of those above the floor
        assert limit["recall"][i] == pytest.approx(told["recall"]["k"] / above if above else math.nan, nan_ok=True) or (
            limit["recall"][i] is None and not above
        )
    sigma = found["sigma"]
    for i in range(0, len(sigma["x"]), 5):
        told = numbers(at, keep, replace(VOTES, at_least=sigma["x"][i]))["rates"]
        if told is not None:
            assert sigma["recall"][i] == pytest.approx(told["recall"]["value"])
            assert sigma["precision"][i] == told["precision"]["value"]
            assert sigma["kept"][i] == told["kept"]["value"]
    rates = numbers(at, keep)["rates"]
    assert found["boundary"]["at"] == [rates["precision"]["value"], rates["recall"]["value"]]


def test_precision_and_recall_of_scores_are_scikit_learns(at: Judged):
    found = at.judge.curves(Draft(Gate(FEATURE, low=0.5), Truth("column", FEATURE, at_least=0.6)), at.context)
    circular = {one["reference"]: one["circular"] for one in found["pr"]}
    assert circular == {"scores.anomaly_score": True, FEATURE: True, IMAGE: False}
    found = at.judge.curves(Draft(Gate(FEATURE, low=0.5), VOTES), at.context)
    known = at.truths.of(VOTES, at.context)
    mine = tuned(at) & known.known
    for one in found["pr"]:
        values = at.boundaries.source(at.context).column(one["reference"])
        assert one["ap"] == pytest.approx(average_precision_score(known.positive[mine], values[mine]), abs=1e-12)
        assert len(one["threshold"]) == len(one["precision"]) == len(one["recall"]) <= 200
        i = len(one["threshold"]) // 2
        kept = values[mine] >= one["threshold"][i]
        assert one["precision"][i] == pytest.approx(precision_score(known.positive[mine], kept), abs=1e-12)
        assert (one["at"] is not None) == (one["reference"] == FEATURE)
    assert found["ceiling"] is None


def test_the_ceiling_of_a_soft_truth_is_above_every_order_in_expectation(at: Judged):
    found = at.judge.curves(Draft(Gate(FEATURE, low=0.5), SOFT), at.context)
    soft = numbers(at, Gate(FEATURE, low=0.5), SOFT)["soft"]
    recall, precision = found["ceiling"]["recall"], found["ceiling"]["precision"]
    assert np.interp(soft["recall"]["value"], recall, precision) >= soft["precision"]["value"] - 1e-9


def test_the_budget_is_counting_along_each_order(at: Judged):
    keep = BOUNDARIES["both"]
    draft = Draft(keep, VOTES)
    found = at.judge.budget(draft, at.context, seconds=10, graders=2, hours=1)
    json.dumps(found, allow_nan=False)
    known = at.truths.of(VOTES, at.context)
    mine = tuned(at) & known.known
    scale = N / mine.sum()
    assert found["at"] == {"images": 180, "hours": 1} and found["n"] == N and found["n_known"] == mine.sum()
    by_reference = {one["reference"]: one for one in found["curves"]}
    assert {one["kind"] for one in found["curves"]} == {"score", "boundary", "random"}
    order = np.argsort(-at.survey.scores(at.context.run_id)["feature_score"][mine], kind="stable")
    cumulated = np.concatenate([[0], np.cumsum(known.positive[mine][order])])
    looked = np.rint(np.array(found["looked"]) / scale).astype(int)
    np.testing.assert_allclose(by_reference[FEATURE]["found"], cumulated[looked] * scale)
    kept = at.boundaries.kept(keep, at.context).yes[mine]
    tp = (kept & known.positive[mine]).sum()
    assert np.interp(kept.sum() * scale, found["looked"], by_reference["draft"]["found"]) == pytest.approx(
        tp * scale, rel=0.05
    )
    assert by_reference["random"]["found"][-1] == pytest.approx(known.positive[mine].sum() * scale)
    assert "scaled to the 600 of the survey" in found["notes"][0]
    at_rest = at.judge.budget(draft, at.context)["at"]
    assert at_rest["images"] == numbers(at, keep)["n_kept"] and at_rest["hours"] == at_rest["images"] * 5 / 3600
    with pytest.raises(UsageError, match="cannot be spent"):
        at.judge.budget(draft, at.context, hours=math.inf)


def test_saved_boundaries_stand_in_the_budget_and_frozen_ones_show_their_test(at: Judged):
    keep = BOUNDARIES["both"]
    saved = at.boundaries.save("first", Draft(keep, VOTES), at.context, who="p")
    draft = Draft(keep, VOTES, saved.name, saved.version)
    assert at.judge.numbers(draft, at.context)["test"] is None
    titles = [one["title"] for one in at.judge.budget(Draft(Gate(IMAGE, low=0.5), VOTES), at.context)["curves"]]
    assert f"first v{saved.version}" in titles and "this boundary" in titles
    at.boundaries.freeze(saved.name, saved.version, who="p")
    test = at.judge.numbers(draft, at.context)["test"]
    known, codes = at.truths.of(VOTES, at.context), at.survey.category("half")
    mine = (codes[0] == codes[1].index("test")) & known.known
    kept = at.boundaries.kept(keep, at.context).yes
    assert test["rates"]["recall"]["value"] == recall_score(known.positive[mine], kept[mine])
    assert test["n_revealed"] == 1
    for other in (replace(draft, truth=KIND), replace(draft, keep=MAP), replace(draft, version=0)):
        assert at.judge.numbers(other, at.context)["test"] is None


def test_what_scores_and_the_boundary_follow(at: Judged):
    found = at.judge.follows(Draft(Gate(FEATURE, low=0.5), VOTES), at.context)
    json.dumps(found, allow_nan=False)
    boundary, *scores = found["of"]
    assert boundary["title"] == "kept by the boundary"
    assert boundary["columns"][0]["reference"] == FEATURE
    rho = [abs(c["rho"]) for c in boundary["columns"]]
    assert rho == sorted(rho, reverse=True)
    assert {one["reference"] for one in scores} == {"scores.anomaly_score", FEATURE, IMAGE}
    assert len(at.judge.follows(Draft(), at.context)["of"]) == 3


# ----------------------------------------------------------------------------------------------------- classifiers
def test_a_classifier_shares_its_target_flatters_itself_and_is_judged_out_of_fold(at: Judged):
    sha = at.learning.fit(at.context.run_id, KIND, at.context, components=8)
    keep = And((Learned(sha), Gate(FEATURE, low=0.1)))
    found = numbers(at, keep, KIND)
    assert found["circular"] == ["kind is ring (what the classifier was taught)"]
    assert any("its rates here flatter it" in note["sentence"] for note in found["notes"])
    assert not found["stale"]
    few = found["few"]
    assert "out of fold by duplicate group, 5 times 5 folds" in few["sentence"]
    oof = at.learning.out_of_fold(sha, at.context)
    known, feature = at.truths.of(KIND, at.context), at.survey.scores(at.context.run_id)["feature_score"]
    mine = tuned(at) & known.known
    kept = [((one >= 0.5) & (feature >= 0.1))[mine] for one in oof]
    recall = np.mean([k[known.positive[mine]].mean() for k in kept])
    assert few["rates"]["recall"]["value"] == pytest.approx(recall)
    assert few["rates"]["f1"]["value"] < found["rates"]["f1"]["value"]
    other = numbers(at, keep, VOTES)
    assert other["stale"] and other["circular"] == []
    assert not at.judge.numbers(Draft(keep, VOTES, follows=False), at.context)["stale"]
    for low in (0.2, 0.5, 0.9):
        moved, still = (numbers(at, And((Learned(sha, low), *keep.terms[1:])), KIND, how) for how in ((0,), None))
        assert moved["rates"] == still["rates"] and moved["lost"] == still["lost"]
    curves = at.judge.curves(Draft(keep, KIND), at.context)
    [classifier] = [one for one in curves["pr"] if one["kind"] == "classifier"]
    assert classifier["circular"] and classifier["at"] is not None
    budget = at.judge.budget(Draft(keep, KIND), at.context)
    assert {one["kind"] for one in budget["curves"]} == {"score", "classifier", "boundary", "random"}
    alone = at.judge.follows(Draft(Learned(sha), KIND), at.context)["of"][0]
    assert alone["title"] == "balanced score of the classifier"
    as_probability = at.judge.out_of_fold(Draft(Learned(sha, 0.3, "probability"), KIND), at.context)
    assert as_probability["rates"]["recall"]["value"] is not None


# ------------------------------------------------------------------------------------------------------ bad input
@pytest.mark.parametrize(
    ("keep", "truth", "sentence"),
    [
        (Gate(FEATURE, low=0.5), None, "no truth is chosen"),
        (Gate(FEATURE, low=0.5), Truth("column", CHOSEN, at_least=9), "no subject of the tune half reaches Σ"),
        (Gate(FEATURE, low=0.5), Truth("column", CHOSEN, at_least=0), "every subject of the tune half of known truth"),
        (Gate(FEATURE, low=0.5), Truth("column", "subjects.gone", at_least=1), 'column "gone" is not'),
        (Gate(FEATURE, low=0.5), Truth("tag", "nobody's"), "nobody has tagged"),
        (Gate("subjects.gone", low=0.5), VOTES, 'column "gone" is not'),
        (Gate("subjects.kind", low=0.5), VOTES, "is a column of categories"),
        (Learned("0" * 64), VOTES, "classifier"),
        (Gate("subjects.kind", labels=("arc",)), VOTES, "keeps no subject of the survey"),
    ],
)
@pytest.mark.parametrize("moving", [None, (), "truth"])
def test_what_cannot_be_judged_is_a_sentence_with_null_numbers(
    at: Judged, keep: Term, truth: Truth | None, sentence: str, moving: Any
):
    found = numbers(at, keep, truth, moving)
    assert sentence in found["trouble"] and "\n" not in found["trouble"]
    if "keeps no subject" not in sentence:
        assert found["rates"] is None and found["soft"] is None and found["weighted"] is None
        if truth is not None or not isinstance(keep, Gate):
            with pytest.raises(VoorwerpError):
                at.judge.curves(Draft(keep, truth), at.context)


def test_odd_regions_are_said_in_their_place(at: Judged):
    far = Region("maps.umap_1", "maps.umap_2", ((900.0, 900.0), (901.0, 900.0), (901.0, 901.0)))
    found = numbers(at, far)
    assert found["n_kept"] == 0 and "this region holds no subject" in found["trouble"]
    assert found["rates"]["recall"]["k"] == 0 and found["rates"]["precision"]["value"] is None
    assert found["notes"][0] == {"path": [], "sentence": "this region holds no subject"}
    bow = Region("maps.umap_1", "maps.umap_2", ((-9.0, -9.0), (9.0, 9.0), (9.0, -9.0), (-9.0, 9.0)))
    found = numbers(at, And((Gate(FEATURE, low=0.1), bow)))
    assert found["notes"][0]["path"] == [1] and "crosses itself" in found["notes"][0]["sentence"]
    assert found["rates"]["precision"]["value"] is not None and not found["trouble"]


def test_scores_that_are_missing_are_unknown_and_unlike_scales_are_exact(tmp_path: Path):
    folder = write_judged(tmp_path / "survey", with_votes=False)
    [run] = (folder / "runs").iterdir()
    table = pq.read_table(run / "scores.parquet")
    rng = np.random.default_rng(0)
    feature = np.where(rng.random(N) < 0.3, np.nan, rng.random(N) * 1e9).astype(np.float32)
    at_column = table.schema.get_field_index("feature_score")
    table = table.set_column(at_column, table.schema.field(at_column), pa.array(feature, from_pandas=True))
    pq.write_table(table, run / "scores.parquet")
    with opened(folder) as found:
        plane = Region(FEATURE, IMAGE, ((2e8, 0.2), (8e8, 0.2), (8e8, 0.9), (2e8, 0.9)))
        told = found.judge.numbers(Draft(plane, KIND), found.context)
        image = found.survey.scores(found.context.run_id)["image_score"]
        inside = (feature > 2e8) & (feature < 8e8) & (image > 0.2) & (image < 0.9)
        assert told["n_kept"] == inside.sum() and not told["trouble"]
        assert told["unknown"]["boundary"] == (np.isnan(feature) & tuned(found)).sum()
        moved = found.judge.numbers(Draft(Gate(FEATURE, low=5e8), KIND), found.context, ())
        assert moved["n_kept"] == (feature >= 5e8).sum()


def test_few_positives_are_said(at: Judged):
    found = numbers(at, BOUNDARIES["gate"], Truth("talk", "arc"))
    assert found["few"]["sentence"].startswith("only ") and found["few"]["rates"] is None
    assert numbers(at, BOUNDARIES["gate"], replace(VOTES, at_least=0.1))["few"] is None


def test_a_sample_gives_rates_of_the_survey(tmp_path: Path):
    folder = write_judged(tmp_path / "survey")
    [run] = (folder / "runs").iterdir()
    feature = pq.read_table(run / "scores.parquet").column("feature_score").to_numpy()
    rng = np.random.default_rng(5)
    top = feature >= np.quantile(feature, 0.8)
    pi = np.where(top, 1.0, 0.25)
    pi[~top & (rng.random(N) > 0.25)] = np.nan
    table = pq.read_table(folder / SUBJECTS)
    index = table.schema.get_field_index("inclusion_probability")
    pq.write_table(
        table.set_column(index, table.schema.field(index), pa.array(pi, from_pandas=True)), folder / SUBJECTS
    )
    with opened(folder) as found:
        told = found.judge.numbers(Draft(Gate(FEATURE, low=0.5), VOTES), found.context)
        known, mine = found.truths.of(VOTES, found.context), tuned(found) & np.isfinite(pi)
        w, kept = np.where(mine & known.known, 1 / pi, 0), feature >= 0.5
        assert told["weighted"]["recall"]["value"] == pytest.approx(
            np.nansum(w * kept * known.positive) / np.nansum(w * known.positive)
        )
        per_hour = told["cost"]["found_per_hour"]["value"]
        assert per_hour == pytest.approx(told["weighted"]["precision"]["value"] * 720)
        moved = found.judge.numbers(Draft(Gate(FEATURE, low=0.5), VOTES), found.context, ())
        assert moved["weighted"] == told["weighted"]
        sigma = found.judge.numbers(Draft(Gate(FEATURE, low=0.5), VOTES), found.context, "truth")
        assert sigma["weighted"] == told["weighted"]
        one = feature[np.flatnonzero(mine)[0]]  # meant by a Σ a little above it, too, as scores are in single precision
        draft = Draft(Gate(FEATURE, low=0.5), Truth("column", FEATURE, at_least=float(one) * (1 + 1e-9)))
        sigma, rest = (found.judge.numbers(draft, found.context, moving) for moving in ("truth", None))
        assert sigma["weighted"] == rest["weighted"] and sigma["rates"] == rest["rates"]


def test_without_halves_all_are_judged_and_that_is_said(tmp_path: Path):
    folder = write_judged(tmp_path / "survey", with_votes=False)
    table = pq.read_table(folder / SUBJECTS)
    index = table.schema.get_field_index("half")
    pq.write_table(table.set_column(index, table.schema.field(index), pa.nulls(N, pa.string())), folder / SUBJECTS)
    with opened(folder) as found:
        told = found.judge.numbers(Draft(Gate(FEATURE, low=0.5), KIND), found.context)
        assert told["half"] == "all" and told["n"] == N
        assert any("has no halves" in note["sentence"] for note in told["notes"])


def test_drafts_are_known_by_their_content(at: Judged):
    draft = Draft(BOUNDARIES["both"], VOTES)
    key = at.judge.keep(draft, at.context)
    assert at.judge.known(key) == (draft, at.context)
    assert at.judge.keep(draft, replace(at.context, lambda_=0.5)) != key
    assert at.judge.keep(draft, Context(at.context.run_id, at.context.map_id)) == key
    with pytest.raises(UsageError, match="not known to the server any more"):
        at.judge.known("0")


def test_votes_are_of_those_who_voted(at: Judged):
    assert numbers(at, BOUNDARIES["gate"])["rates"]["base"]["n"] == tuned(at)[:VOTED].sum()


@pytest.mark.parametrize("has_halves", [True, False])
def test_who_was_planted_or_withdrawn_counts_nowhere(tmp_path: Path, has_halves: bool):
    folder = write_judged(tmp_path / "survey")
    table = pq.read_table(folder / SUBJECTS)
    planted, withdrawn = np.arange(N) % 11 == 2, np.arange(N) % 13 == 3  # of every tag and class
    if not has_halves:
        index = table.schema.get_field_index("half")
        table = table.set_column(index, table.schema.field(index), pa.nulls(N, pa.string()))
    index = table.schema.get_field_index("is_withdrawn")
    table = table.set_column(index, table.schema.field(index), pa.array([True if w else None for w in withdrawn]))
    table = table.append_column("injected_kind", pa.array(np.where(planted, "arc", None)))
    pq.write_table(table, folder / SUBJECTS)
    frame = ~(planted | withdrawn)
    with opened(folder) as found:
        kept = found.boundaries.kept(BOUNDARIES["both"], found.context).yes
        assert (kept & planted).any() and (kept & withdrawn).any()
        tune = tuned(found) & frame if has_halves else frame
        rest, moved = numbers(found, BOUNDARIES["both"]), numbers(found, BOUNDARIES["both"], moving=(0,))
        for told in (rest, moved, numbers(found, BOUNDARIES["both"], moving="truth")):
            assert (told["n_kept"], told["n_all"], told["n"]) == ((kept & frame).sum(), frame.sum(), tune.sum())
            assert told["cost"]["images"] == (kept & frame).sum()
            assert told["rates"] == rest["rates"] and told["sentence"] == rest["sentence"]
            merger = next(one for one in told["lost"] if one["name"] == "merger")
            assert (merger["k"], merger["n"]) == ((kept & frame)[:60].sum(), frame[:60].sum())
            assert (
                sum(one["n"] for one in told["lost"] if one["of"] == "class") == (frame & (np.arange(N) % 50 > 0)).sum()
            )
        assert rest["rates"]["kept"]["k"] == (kept & tune).sum()
        known = found.truths.of(VOTES, found.context)
        assert not (known.known & ~frame).any() and f"{(frame & ~known.known).sum():,} unknown" in rest["sentence"]
        draft = Draft(BOUNDARIES["both"], VOTES)
        gone = found.judge.thrown_away(draft, found.context, "talk:merger")
        assert gone.tolist() == np.flatnonzero(frame[:60] & ~kept[:60]).tolist()
        budget = found.judge.budget(draft, found.context)
        assert budget["n"] == frame.sum() and budget["at"]["images"] == (kept & frame).sum()
        assert found.judge.empty(draft, found.context)["n_placed"] == frame.sum()
        saved = found.boundaries.save("all", draft, found.context, "ada")
        assert json.loads(found.boundaries.to_file(saved))["kept"]["yes"] == (kept & tune).sum()


def test_who_is_withdrawn_later_counts_no_more(tmp_path: Path):
    folder = write_judged(tmp_path / "survey", with_votes=False)
    with opened(folder) as found:
        draft = Draft(And(()), KIND)
        assert found.judge.numbers(draft, found.context)["n_kept"] == N
        table = pq.read_table(folder / SUBJECTS)
        index = table.schema.get_field_index("is_withdrawn")
        gone = pa.array([True, False] + [None] * (N - 2))
        pq.write_table(table.set_column(index, table.schema.field(index), gone), folder / SUBJECTS)
        found.survey.refresh()
        assert found.judge.numbers(draft, found.context)["n_kept"] == N - 1
