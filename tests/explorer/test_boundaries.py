"""Boundaries of a survey: whom they keep, their versions, what was seen of the test half, and the file."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.cells import CellIndex
from explorer.errors import LedgerError, UsageError, VoorwerpError
from explorer.ledger import CLASSIFIERS, Ledger, check
from explorer.services.boundaries import (
    MAX_BYTES,
    QUANTILES,
    Boundaries,
    Context,
    Learning,
    Saved,
    _distribution,
    from_file,
)
from explorer.services.explore import Explore
from explorer.state import Draft
from explorer.survey import Survey
from models import drift
from models.artifacts import MAP_JSON, RUN_JSON, Run, sha256_file, write_coordinates, write_scores
from models.boundary import And, Gate, Learned, Not, Or, Region, Term
from models.classifier import Basis, Classifier, fit
from models.truth import Truth
from tests.explorer.small_survey import write_survey

N = 400
SCORE = "scores.feature_score"
PLANE = ("maps.umap_1", "maps.umap_2")
GATE = Gate(SCORE, 1.0)
TRUTH = Truth("column", "subjects.chosen_fraction", at_least=0.5)
RANDOM = np.random.default_rng(5)
LATENTS = RANDOM.normal(size=(N, 6)).astype(np.float32)
XY = RANDOM.normal(size=(N, 3)).astype(np.float32)
IMAGE, FEATURE = RANDOM.gamma(2, 1, (2, N)).astype(np.float32)
FEATURE[:10] = np.nan
XY[5:15] = np.nan
LATENTS[7] = np.nan
KIND = np.array(["spiral", "elliptical", "merger", None], object)[RANDOM.integers(0, 4, N)]
IS_KNOWN = np.array([True, None], object)[(RANDOM.uniform(size=N) < 0.7).astype(int)]
HALF = np.where(RANDOM.uniform(size=N) < 0.5, "tune", "test")
CHANCE = np.where(RANDOM.uniform(size=N) < 0.3, 1.0, 0.125)


def make_survey(path: Path, **of_info: Any) -> Survey:
    """400 subjects with a run, a map, a column of categories and halves."""
    write_survey(path, N, 4)
    if of_info:
        told = (path / "survey.toml").read_text()
        for name, value in of_info.items():
            told = "\n".join(f'{name} = "{value}"' if row.startswith(f"{name} =") else row for row in told.split("\n"))
        (path / "survey.toml").write_text(told)
    table = pq.read_table(path / "subjects.parquet")
    ours = {"half": HALF, "inclusion_probability": CHANCE, "is_known": IS_KNOWN}
    for name, values in ours.items():
        k = table.schema.get_field_index(name)
        table = table.set_column(k, table.schema.field(k), pa.array(values, table.schema.field(k).type))
    table = table.append_column(pa.field("kind", pa.string(), metadata={"kind": "category"}), pa.array(KIND))
    table = table.append_column("chosen_fraction", pa.array(np.linspace(0, 1, N)))
    pq.write_table(table, path / "subjects.parquet")
    survey = Survey.open(path)
    run, placed = path / "runs" / "r", path / "maps" / "m"
    run.mkdir(parents=True)
    placed.mkdir(parents=True)
    told = {"subject_id": survey.subject_ids, "split": ["unseen"] * N, "quality": ["ok"] * N}
    scores = {"image_score": IMAGE, "feature_score": FEATURE, "anomaly_score": 0.8 * IMAGE + 0.2 * FEATURE}
    write_scores(run, LATENTS, told | scores)
    Run("r", "score", "test", {}, state="done", n_rows=N, checkpoint_sha256="c" * 64).write(run / RUN_JSON)
    write_coordinates(placed, survey.subject_ids, XY)
    Run("m", "map", "test", {}, state="done", n_rows=N).write(placed / MAP_JSON)
    return survey


class Classifiers:
    """Stored classifiers, without fitting: what `Boundaries` asks of those who learn."""

    def __init__(self, survey: Survey) -> None:
        self.survey = survey

    def get(self, sha256: str) -> Classifier:
        try:
            content = (self.survey.path / CLASSIFIERS / f"{sha256}.json").read_bytes()
        except OSError:
            raise UsageError(f"there is no classifier {sha256[:8]}") from None
        return Classifier.from_json(json.loads(content))

    look = get

    def add(self, told: object) -> str:
        made = Classifier.from_json(told)
        (self.survey.path / CLASSIFIERS).mkdir(exist_ok=True)
        (self.survey.path / CLASSIFIERS / f"{made.sha256}.json").write_bytes(made.to_bytes())
        return made.sha256

    def balanced(self, sha256: str, context: Context) -> np.ndarray:
        latents, rows = self.survey.latents(context.run_id)
        found = np.full(self.survey.n, np.nan, np.float32)
        found[rows] = self.get(sha256).balanced(latents)
        return found

    def probability(self, sha256: str, context: Context) -> np.ndarray:
        latents, _ = self.survey.latents(context.run_id)
        return self.get(sha256).probability(latents)


HERE = Context("r", "m")


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Survey]:
    """Its ledger is another in each test."""
    made = make_survey(tmp_path_factory.mktemp("boundaries") / "survey")
    yield made
    made.close()


@pytest.fixture
def boundaries(survey: Survey) -> Iterator[Boundaries]:
    for path in survey.path.glob("ledger.db*"):
        path.unlink()
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        yield Boundaries(Explore(survey), ledger, Classifiers(survey))


@pytest.fixture
def model(boundaries: Boundaries) -> str:
    known = np.isfinite(LATENTS).all(1)
    basis = Basis.fit(LATENTS, 3)
    made = fit(basis, basis.project(LATENTS[known]), LATENTS[known, 0] + LATENTS[known, 1] > 1)
    learning = boundaries.learning
    assert learning is not None
    return learning.add(made.to_json())


def draft(*terms: Term, truth: Truth | None = TRUTH) -> Draft:
    return Draft(And(terms), truth)


# ----------------------------------------------------------------------------------------------------- whom it keeps
def test_a_gate_a_region_and_categories_keep_whom_they_should(boundaries: Boundaries) -> None:
    kept = boundaries.kept(GATE, HERE)
    assert np.array_equal(kept.yes, FEATURE >= 1) and np.array_equal(kept.unknown, np.isnan(FEATURE))
    angle = np.linspace(0, 2 * np.pi, 50, endpoint=False)
    outline = np.column_stack((np.cos(angle), np.sin(angle) * (1 + 0.5 * np.cos(5 * angle))))
    kept = boundaries.kept(Region(*PLANE, outline.tolist()), HERE)
    assert np.array_equal(kept.unknown, np.isnan(XY[:, 0]))
    wanted = shapely.contains_xy(shapely.Polygon(outline), np.nan_to_num(XY[:, :2], nan=99.0))
    assert np.array_equal(kept.yes, wanted) and 50 < wanted.sum() < 350
    kept = boundaries.kept(Gate("subjects.kind", labels=("merger", "spiral")), HERE)
    assert np.array_equal(kept.yes, np.isin(KIND.astype(str), ["merger", "spiral"]))
    assert np.array_equal(kept.unknown, KIND == None)  # noqa: E711
    known = np.array([value is True for value in IS_KNOWN])
    for label, wanted in (("true", known), ("false", ~known)):  # no entry is a no
        kept = boundaries.kept(Gate("subjects.is_known", labels=(label,)), HERE)
        assert np.array_equal(kept.yes, wanted) and not kept.unknown.any()
    assert boundaries.kept(Gate("scores.split", labels=("unseen",)), HERE).yes.all()


def test_lambda_and_its_mode_move_a_gate_on_the_mixed_score(boundaries: Boundaries) -> None:
    gate = Gate("scores.anomaly_score", 2.0)
    for weight in (0.2, 0.7):
        kept = boundaries.kept(gate, Context("r", "m", weight))
        mixed = (1 - weight) * IMAGE + weight * FEATURE
        certain = np.isnan(mixed) | (np.abs(mixed - 2) > 1e-4)
        assert np.array_equal(kept.yes[certain], (mixed >= 2)[certain])
    standard = boundaries.kept(gate, Context("r", "m", 0.2, "standardised")).yes
    assert standard.sum() < boundaries.kept(gate, HERE).yes.sum()


def test_a_region_on_a_plane_of_scores_uses_the_context(boundaries: Boundaries) -> None:
    box = Region("scores.image_score", "scores.anomaly_score", ((1, 1.5), (9, 9)), "box")
    some = [boundaries.kept(box, Context("r", "", weight)).yes for weight in (0.0, 1.0)]
    for weight, kept in zip((0.0, 1.0), some, strict=True):
        mixed = (1 - weight) * IMAGE + weight * FEATURE
        assert np.array_equal(kept, (IMAGE > 1) & (IMAGE < 9) & (mixed > 1.5) & (mixed < 9))
    assert not np.array_equal(*some)


def test_a_learned_term_keeps_by_its_balanced_score_and_knows_nothing_without_a_latent_vector(
    boundaries: Boundaries, model: str
) -> None:
    kept = boundaries.kept(Learned(model), HERE)
    assert np.flatnonzero(kept.unknown).tolist() == [7]
    positive = LATENTS[:, 0] + LATENTS[:, 1] > 1
    assert (kept.yes == positive)[np.arange(N) != 7].mean() > 0.75
    assert boundaries.kept(Learned(model, 0.5, "probability"), HERE).yes.sum() < kept.yes.sum()


@pytest.mark.parametrize(
    ("term", "context", "sentence"),
    [
        (GATE, Context("", "m"), "scores.feature_score is a score, and no run is chosen"),
        (Region(*PLANE, ((0, 0), (1, 1)), "box"), Context("r"), "maps.umap_1 is a column of a map, and no map is ch"),
        (Gate("scores.feature", 1), HERE, 'column "feature" is not in the scores; did you mean "feature_score"'),
        (Gate("subjects.kind", 1), HERE, "subjects.kind is a column of categories: choose some of them"),
        (Gate("subjects.chosen_fraction", labels=("a",)), HERE, "is no column of categories: give limits instead"),
        (Gate("subjects.kin", labels=("a",)), HERE, 'column "kin" is not in the categories; did you mean "kind"'),
        (Gate(SCORE, labels=("a",)), HERE, "scores.feature_score is no column of categories"),
        (Region("subjects.kind", PLANE[0], ((0, 0), (1, 1)), "box"), HERE, "subjects.kind is a column of categories"),
    ],
)
def test_what_is_not_there_is_a_sentence(boundaries: Boundaries, term: Term, context: Context, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        boundaries.kept(Not(And((term,))), context)


def test_without_classifiers_a_learned_term_says_so(boundaries: Boundaries, model: str) -> None:
    alone = Boundaries(boundaries.explore, boundaries.ledger)
    for ask in (
        lambda: alone.kept(Learned(model), HERE),
        lambda: alone.save("x", draft(Learned(model)), HERE, "ada"),
    ):
        with pytest.raises(UsageError, match="has a learned classifier, and here are none"):
            ask()


def test_a_region_is_looked_up_once_and_a_limit_moves_without_it(boundaries: Boundaries) -> None:
    box = Region(*PLANE, ((-1, -1), (1, 1)), "box")
    boundaries.kept(And((box, GATE)), HERE)
    index = boundaries.explore.index
    boundaries.explore.index = None  # type: ignore[assignment,method-assign]  # not asked again
    boundaries.kept(And((box, Gate(SCORE, 1.5))), HERE)
    boundaries.explore.index = index  # type: ignore[method-assign]


@given(st.floats(0, 100))
def test_a_percentile_and_its_value_lead_to_each_other(percentile: float) -> None:
    ordered = np.sort(np.random.default_rng(3).normal(size=77))

    class Fixed(Boundaries):
        def __init__(self) -> None:
            pass

        def _in_order(self, reference: str, context: Context) -> np.ndarray:
            return ordered

    value = Fixed().value_at(SCORE, percentile, HERE)
    assert value == pytest.approx(np.percentile(ordered, percentile), abs=1e-12)
    assert Fixed().percentile_of(SCORE, value, HERE) == pytest.approx(percentile, abs=1e-6)


def test_percentiles_at_the_ends_and_of_columns_without_values(boundaries: Boundaries) -> None:
    finite = FEATURE[np.isfinite(FEATURE)]
    assert boundaries.value_at(SCORE, 0, HERE) == finite.min() and boundaries.value_at(SCORE, 100, HERE) == finite.max()
    assert boundaries.percentile_of(SCORE, -5, HERE) == 0 and boundaries.percentile_of(SCORE, 1e9, HERE) == 100
    with pytest.raises(UsageError, match="background_rms has no value for any subject"):
        boundaries.value_at("subjects.background_rms", 50, HERE)


# ---------------------------------------------------------------------------------------------------------- versions
def test_saving_makes_versions_and_none_is_changed(boundaries: Boundaries) -> None:
    first = boundaries.save(" arcs ", draft(GATE), HERE, "ada")
    assert (first.name, first.version, first.truth, first.context, first.who) == ("arcs", 1, TRUTH, HERE, "ada")
    assert boundaries.save("arcs", draft(GATE), HERE, "bo") == first  # the same is no version
    second = boundaries.save("arcs", draft(Gate(SCORE, 2)), HERE, "bo", note="stricter")
    third = boundaries.save("arcs", draft(Gate(SCORE, 2)), Context("r", "m", 0.5), "bo")
    assert boundaries.versions("arcs") == [first, second, third]
    assert [one.version for one in boundaries.versions("arcs")] == [1, 2, 3] and second.note == "stricter"
    assert boundaries.get("arcs") == third and boundaries.get("arcs", 1) == first
    assert boundaries.get("arcs").draft == Draft(third.keep, TRUTH, "arcs", 3)
    assert boundaries.names(at=first.at) == ["arcs"] and boundaries.get("arcs", at=first.at) == first
    for ask, sentence in (
        (lambda: boundaries.get("arcs", 9), "“arcs” has no version 9; it has 1, 2, 3"),
        (lambda: boundaries.get("ring"), "there is no boundary “ring”; there are: “arcs”"),
    ):
        with pytest.raises(UsageError, match=sentence):
            ask()


def test_undo_takes_back_and_brings_back_and_no_number_is_given_twice(boundaries: Boundaries) -> None:
    boundaries.save("arcs", draft(GATE), HERE, "ada")
    second = boundaries.save("arcs", draft(Gate(SCORE, 2)), HERE, "ada")
    undone = boundaries.undo(second.entry_id, "bo")
    assert [one.version for one in boundaries.versions("arcs")] == [1]
    third = boundaries.save("arcs", draft(Gate(SCORE, 3)), HERE, "ada")
    assert third.version == 3
    boundaries.undo(undone.id, "ada")
    assert [one.version for one in boundaries.versions("arcs")] == [1, 2, 3]
    dropped = boundaries.drop("arcs", "ada")
    assert boundaries.names() == []
    assert boundaries.save("arcs", draft(GATE), HERE, "ada").version == 4
    boundaries.undo(dropped.id, "ada")
    assert [one.version for one in boundaries.versions("arcs")] == [1, 2, 3]
    assert [one.version for one in boundaries.versions("arcs (2)")] == [4]
    with pytest.raises(LedgerError, match="is undone already"):
        boundaries.undo(dropped.id, "ada")
    other = boundaries.ledger.append("tag", {"tag": "x"}, who="ada", subject_id=1)
    with pytest.raises(UsageError, match="is no decision on a boundary"):
        boundaries.undo(other.id, "ada")


def test_rename_duplicate_and_drop(boundaries: Boundaries) -> None:
    boundaries.save("arcs", draft(GATE), HERE, "ada")
    boundaries.save("arcs", draft(Gate(SCORE, 2)), HERE, "ada")
    renamed = boundaries.rename("arcs", "rings", "bo")
    assert boundaries.names() == ["rings"] and [one.version for one in boundaries.versions("rings")] == [1, 2]
    copy = boundaries.duplicate("rings", "arcs", "bo", version=1)
    assert (copy.version, copy.keep, copy.note) == (3, And((GATE,)), "copy of “rings”, version 1")
    for ask in (lambda: boundaries.rename("arcs", "rings", "bo"), lambda: boundaries.duplicate("arcs", "rings", "bo")):
        with pytest.raises(UsageError, match="there is a boundary “rings” already"):
            ask()
    boundaries.undo(renamed.id, "bo")  # "arcs" is taken by now
    assert {name: [v.version for v in boundaries.versions(name)] for name in boundaries.names()} == {
        "arcs": [1, 2],
        "arcs (2)": [3],
    }
    boundaries.drop("arcs (2)", "bo")
    assert boundaries.names() == ["arcs"]
    with pytest.raises(UsageError, match="there is no boundary “gone”"):
        boundaries.drop("gone", "bo")


def test_a_rename_that_is_undone_gives_the_name_back(boundaries: Boundaries) -> None:
    boundaries.save("arcs", draft(GATE), HERE, "ada")
    renamed = boundaries.rename("arcs", "rings", "bo")
    boundaries.save("rings", draft(Gate(SCORE, 5)), HERE, "ada")
    boundaries.undo(renamed.id, "bo")
    assert {name: [one.version for one in boundaries.versions(name)] for name in boundaries.names()} == {
        "arcs": [1, 2],
    }
    assert boundaries.save("rings", draft(GATE), HERE, "ada").version == 3  # "rings", version 2, was another


def test_an_answer_that_was_lost_is_given_again(boundaries: Boundaries) -> None:
    ids = [str(uuid.uuid4()) for _ in range(5)]
    first = boundaries.save("arcs", draft(GATE), HERE, "ada", ids[0])
    boundaries.save("arcs", draft(Gate(SCORE, 2)), HERE, "ada", ids[1])
    assert boundaries.save("arcs", draft(GATE), HERE, "ada", ids[0]) == first
    for _ in range(2):
        boundaries.duplicate("arcs", "copy", "ada", ids[2])
        boundaries.rename("arcs", "rings", "ada", ids[3]) if _ == 0 else None
    assert boundaries.names() == ["copy", "rings"] or boundaries.names() == ["rings", "copy"]
    assert len(boundaries.versions("copy")) == 1
    for _ in range(2):
        boundaries.drop("copy", "ada", ids[4])
    assert len(boundaries.ledger.entries("boundary")) == 5
    with pytest.raises(LedgerError, match="stands for another decision already"):
        boundaries.save("rings", draft(Gate(SCORE, 9)), HERE, "ada", ids[0])


def test_many_who_save_at_once_get_a_version_each(boundaries: Boundaries) -> None:
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda k: boundaries.save("arcs", draft(Gate(SCORE, k)), HERE, f"person {k}"), range(12)))
    assert sorted(one.version for one in made) == list(range(1, 13))
    assert boundaries.versions("arcs") == sorted(made, key=lambda one: one.version)


@pytest.mark.parametrize("seed", range(4))
def test_undo_brings_back_what_was_and_no_version_is_ever_another(boundaries: Boundaries, seed: int) -> None:
    random = np.random.default_rng(seed)

    def standing() -> dict[str, list[Saved]]:
        return {name: boundaries.versions(name) for name in boundaries.names()}

    ever: dict[tuple[str, int], int] = {}
    for k in range(12):
        before, names = standing(), boundaries.names()
        what = random.choice(["save", "save", "rename", "drop", "duplicate"]) if names else "save"
        name = str(random.choice(names)) if names else "a"
        free = next(n for n in "abcdefghijklmnop" if n not in names)
        if what == "save":
            saved = boundaries.save(str(random.choice(["a", "b", name])), draft(Gate(SCORE, k)), HERE, "ada")
            entry, own = saved.entry_id, (saved.name, saved.version)
            assert ever.setdefault(own, entry) == entry
        elif what == "duplicate":
            entry = boundaries.duplicate(name, free, "ada").entry_id
        else:
            entry = (boundaries.rename(name, free, "ada") if what == "rename" else boundaries.drop(name, "ada")).id
        after = standing()
        undone = boundaries.undo(entry, "bo")
        assert standing() == before
        if random.uniform() < 0.8:
            boundaries.undo(undone.id, "bo")
            assert standing() == after


@pytest.mark.parametrize("name", ["", "   ", "x" * 61, "a\x00b"])
def test_a_name_can_be_seen(boundaries: Boundaries, name: str) -> None:
    with pytest.raises(UsageError, match="a boundary has a name of 1 to 60 characters"):
        boundaries.save(name, draft(GATE), HERE, "ada")


def test_a_boundary_too_large_or_with_a_classifier_that_is_gone_is_not_saved(boundaries: Boundaries) -> None:
    with pytest.raises(UsageError, match=r"the boundary cannot be saved: .*200 terms at most"):
        boundaries.save("many", draft(*(Gate(SCORE, k) for k in range(200))), HERE, "ada")
    with pytest.raises(UsageError, match="there is no classifier aaaaaaaa"):
        boundaries.save("gone", draft(Learned("a" * 64)), HERE, "ada")
    assert boundaries.names() == [] and not boundaries.ledger.entries("boundary")


# ----------------------------------------------------------------------------------------------------- the test half
def test_the_test_half_is_counted_once_for_each_version_and_truth_and_stays_seen(boundaries: Boundaries) -> None:
    first = boundaries.save("arcs", draft(GATE), HERE, "ada")
    second = boundaries.save("arcs", draft(Gate(SCORE, 2)), HERE, "ada")
    stricter = Truth("column", "subjects.chosen_fraction", at_least=0.6)
    with pytest.raises(UsageError, match="freeze “arcs”, version 1, before its test numbers are shown"):
        boundaries.reveal(first, TRUTH, "ada")
    assert boundaries.revealed(TRUTH) == 0
    for _ in range(2):
        assert boundaries.freeze("arcs", 1, "ada").is_frozen
    assert [one.is_frozen for one in boundaries.versions("arcs")] == [True, False]
    assert (boundaries.revealed(TRUTH), boundaries.revealed(stricter)) == (1, 0)
    for _ in range(2):
        boundaries.reveal(first, stricter, "bo")
        boundaries.reveal(first, TRUTH, "bo")
    assert (boundaries.revealed(TRUTH), boundaries.revealed(stricter), boundaries.revealed(None)) == (1, 1, 0)
    boundaries.freeze("arcs", 2, "ada")
    assert boundaries.revealed(TRUTH) == 2
    freeze = next(e for e in boundaries.ledger.entries("boundary") if e.payload["action"] == "freeze")
    with pytest.raises(UsageError, match="were seen, and that is not taken back"):
        boundaries.undo(freeze.id, "ada")
    boundaries.undo(second.entry_id, "ada")
    boundaries.drop("arcs", "ada")
    assert boundaries.revealed(TRUTH) == 2
    boundaries.save("loose", Draft(And((GATE,))), HERE, "ada")
    assert boundaries.freeze("loose", 1, "ada").is_frozen and boundaries.revealed(TRUTH) == 2


# ------------------------------------------------------------------------------------------------------------ a file
def saved_with_all(boundaries: Boundaries, model: str) -> bytes:
    region = Region(*PLANE, ((-1, -1), (2, -1), (2, 2), (-1, 2)))
    gate = Gate(SCORE, boundaries.value_at(SCORE, 40, HERE), low_percentile=40)
    either = Or((gate, Learned(model, 0.4)))
    kinds = Not(Gate("subjects.kind", labels=("elliptical",)))
    saved = boundaries.save(
        "all", draft(region, either, kinds, Gate("subjects.chosen_fraction", high=0.9)), HERE, "ada"
    )
    return boundaries.to_file(boundaries.freeze("all", saved.version, "ada"))


def test_a_file_has_all_that_another_survey_needs(boundaries: Boundaries, model: str) -> None:
    content = saved_with_all(boundaries, model)
    file, saved = from_file(content), boundaries.get("all")
    assert (file.keep, file.truth, file.context, file.is_frozen) == (saved.keep, TRUTH, HERE, True)
    assert (file.survey_id, file.survey, file.name, file.version) == ("survey-1", "Five", "all", 1)
    assert file.run["checkpoint_sha256"] == "c" * 64
    coordinates = boundaries.survey.map_folder("m") / "coordinates.parquet"
    assert file.map["coordinates_sha256"] == sha256_file(coordinates)
    assert file.classifiers.keys() == {model}
    assert np.array_equal(
        file.classifiers[model].balanced(LATENTS[:5]), Classifiers(boundaries.survey).get(model).balanced(LATENTS[:5])
    )
    assert file.from_people == ("subjects.chosen_fraction",)
    gate, learned, chosen = file.thresholds
    assert (gate["path"], gate["limit"], gate["percentile_set"]) == ([1, 0], "low", 40)
    assert gate["percentile"] == pytest.approx(40) and gate["value"] == pytest.approx(np.nanpercentile(FEATURE, 40))
    assert (learned["classifier"], learned["value"]) == (model, 0.4)
    assert (chosen["limit"], chosen["percentile_set"]) == ("high", None)
    assert "ada" not in content.decode()  # who saved it is nobody else's business
    kept, tune = boundaries.kept(saved.keep, HERE), HALF == "tune"
    counts = [int((part & tune).sum()) for part in (kept.yes, kept.no, kept.unknown)]
    assert [file.kept[name] for name in ("yes", "no", "unknown")] == counts and sum(counts) == tune.sum()
    weights = 1 / CHANCE
    assert file.kept["weighted_share"] == pytest.approx(weights[kept.yes & tune].sum() / weights[tune].sum())


def test_the_drift_reference_is_of_the_tune_half(boundaries: Boundaries, model: str) -> None:
    file, tune = from_file(saved_with_all(boundaries, model)), HALF == "tune"
    yes = boundaries.kept(boundaries.get("all").keep, HERE).yes
    told = file.drift["columns"]
    assert {
        SCORE,
        "scores.image_score",
        "scores.anomaly_score",
        *PLANE,
        "subjects.chosen_fraction",
        model,
    } == told.keys()
    for part, mask in (("all", tune), ("kept", tune & yes)):
        values = FEATURE[mask & np.isfinite(FEATURE)]
        one = told[SCORE][part]
        assert one["n"] == len(values) and len(one["quantiles"]) == QUANTILES
        assert (one["quantiles"][0], one["quantiles"][-1]) == (values.min(), values.max())
        assert one["quantiles"][500] == pytest.approx(np.median(values))
    latents = file.drift["latents"]
    known = drift.unpacked(latents).astype(np.float64)
    wanted = LATENTS[tune & np.isfinite(LATENTS).all(1)]
    np.testing.assert_allclose(np.sort(known, axis=0), np.sort(wanted, axis=0), rtol=1e-3, atol=1e-4)
    apart = np.sqrt(np.square(known[:, None] - known).sum(2))
    nearest = np.sort(apart, axis=1)[:, 1 : latents["k"] + 1].mean(1)
    assert (latents["n"], latents["n_sample"], latents["size"]) == (len(wanted), len(wanted), 6)
    assert latents["percentiles"]["99.9"] == pytest.approx(np.percentile(nearest, 99.9), rel=1e-5)


def test_a_distribution_tells_ks_distances_to_a_thousandth() -> None:
    random = np.random.default_rng(2)
    a, b = random.normal(size=40_000), random.normal(0.2, 1.1, 30_000)
    quantiles = np.array(_distribution(a)["quantiles"])
    grid = np.sort(np.concatenate([a, b]))
    exact = np.abs(
        np.searchsorted(np.sort(a), grid, "right") / len(a) - np.searchsorted(np.sort(b), grid, "right") / len(b)
    ).max()
    from_file_alone = np.abs(
        np.interp(grid, quantiles, np.linspace(0, 1, QUANTILES)) - np.searchsorted(np.sort(b), grid, "right") / len(b)
    ).max()
    assert from_file_alone == pytest.approx(exact, abs=1 / (QUANTILES - 1))


def test_another_survey_takes_a_file_in_and_keeps_the_same(boundaries: Boundaries, model: str, tmp_path: Path) -> None:
    file = from_file(saved_with_all(boundaries, model))
    other = make_survey(tmp_path / "other", survey_id="survey-2", name="Other")
    with Ledger(other.path, other.info.survey_id) as ledger:
        there = Boundaries(Explore(other), ledger, Classifiers(other))
        assert there.lacks(file, HERE) == []
        taken = there.take_in(file, HERE, "eve")
        assert taken.note == "“all”, version 1, of the survey “Five”" and not taken.is_frozen
        assert np.array_equal(there.kept(taken.keep, HERE).yes, boundaries.kept(file.keep, HERE).yes)
        with pytest.raises(UsageError, match="there is a boundary “all” already; give this one another name"):
            there.take_in(file, HERE, "eve")
        assert there.take_in(file, HERE, "eve", name="mine").name == "mine"
        assert check(other.path, "survey-2", other.subject_ids) == []
        again = from_file(there.to_file(taken))
        assert again.keep == file.keep and again.drift == file.drift
    other.close()


def test_what_another_survey_lacks_is_said(boundaries: Boundaries, model: str, tmp_path: Path) -> None:
    file = from_file(saved_with_all(boundaries, model))
    bare = Survey.open(write_survey(tmp_path / "bare", 8))
    with Ledger(bare.path, bare.info.survey_id) as ledger:
        lacks = Boundaries(Explore(bare), ledger).lacks(file, Context())
    bare.close()
    assert lacks[:2] == [
        "it uses the scores or latent vectors of a run, and no run is chosen here",
        "it uses a map, and no map is chosen here",
    ]
    text = "\n".join(lacks)
    for part in (
        "and[0]: maps.umap_1 is a col",
        "and[1].or[0]: scores.feature_score is a s",
        'and[3]: column "chosen_f',
    ):
        assert part in text
    assert 'and[2].not: column "kind" is not in the categories' in text


def test_another_network_and_another_map_are_said(boundaries: Boundaries, model: str, tmp_path: Path) -> None:
    file = from_file(saved_with_all(boundaries, model))
    other = make_survey(tmp_path / "other", survey_id="survey-2")
    run = Run.read(other.run_folder("r") / RUN_JSON)
    run.checkpoint_sha256, run.preprocessing = "d" * 64, {"size": 64}
    run.write(other.run_folder("r") / RUN_JSON)
    write_coordinates(other.map_folder("m"), other.subject_ids, XY + 1)
    np.save(other.run_folder("r") / "latents.npy", np.zeros((N, 9), np.float32))
    table = pq.read_table(other.path / "subjects.parquet")
    kind = pa.array(["spiral"] * N)
    pq.write_table(
        table.set_column(table.schema.get_field_index("kind"), table.field("kind"), kind),
        other.path / "subjects.parquet",
    )
    other.close()
    other = Survey.open(other.path)
    with Ledger(other.path, other.info.survey_id) as ledger:
        lacks = Boundaries(Explore(other), ledger).lacks(file, HERE)
    other.close()
    assert lacks == [
        "its scores are of another network (checkpoint cccccccc, here dddddddd); score this survey with that one",
        "its network's images were prepared otherwise than those of this survey",
        "its regions lie on another map; place these subjects on that one first",
        "its classifier works on latent vectors of 6 numbers, and this run's have 9",
        "no subject here has elliptical in subjects.kind",
    ]


def test_a_map_that_was_placed_on_the_one_of_the_file_is_as_good(
    boundaries: Boundaries, model: str, tmp_path: Path
) -> None:
    file = from_file(saved_with_all(boundaries, model))
    survey = make_survey(tmp_path / "same")
    for name, inputs in (("later", {"map": "m"}), ("last", {"map": "later"}), ("other", {})):
        folder = survey.path / "maps" / name
        folder.mkdir()
        write_coordinates(folder, survey.subject_ids, XY + 1)
        Run(name, "map", "test", {}, state="done", n_rows=N, inputs=inputs).write(folder / MAP_JSON)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        there = Boundaries(Explore(survey), ledger, Classifiers(survey))
        assert [there.lacks(file, Context("r", name)) for name in ("m", "later", "last")] == [[], [], []]
        [problem] = there.lacks(file, Context("r", "other"))
        assert problem.startswith("its regions lie on another map")
        unsaid = there.lacks(replace(file, run={}, map={}), Context("r", "m"))
        assert [problem.partition(" ")[0] for problem in unsaid] == ["it", "its"]  # it says neither run nor map
        assert "which run" in unsaid[0] and "on another map" in unsaid[1]
    survey.close()


def test_a_detector_fitted_again_is_another_one(boundaries: Boundaries, model: str, tmp_path: Path) -> None:
    file = from_file(saved_with_all(boundaries, model))
    survey = make_survey(tmp_path / "same")
    run = Run.read(survey.run_folder("r") / RUN_JSON)
    run.checkpoint_sha256 = None
    run.write(survey.run_folder("r") / RUN_JSON)
    survey.close()
    survey = Survey.open(survey.path)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        there = Boundaries(Explore(survey), ledger, Classifiers(survey))
        for run_id, problems in (("r", 0), ("before", 1)):
            told = there.lacks(replace(file, run={**file.run, "checkpoint_sha256": None, "run_id": run_id}), HERE)
            assert len(told) == problems and all("fitted anew" in one for one in told)
    survey.close()


def _wrong(told: dict[str, Any], change: str) -> dict[str, Any]:
    """A file's content with one thing changed: ``place = value`` or ``del place``."""
    changed: dict[str, Any] = json.loads(json.dumps(told))
    exec(change, {"f": changed, "model": next(iter(told["classifiers"]))})  # noqa: S102
    return changed


WRONG = [
    ("del f['keep']", "keep: it is missing in the boundary's file"),
    ("f['more'] = 1", "'more' is no entry of a boundary's file; it has voorwerp"),
    ("f['voorwerp'] = 'map'", "is JSON, but no boundary that Voorwerp wrote"),
    ("f['schema'] = 2", "the boundary has schema version 2; this Voorwerp reads version 1"),
    ("f['version'] = True", "version: it is a whole number in a boundary's file, not True"),
    ("f['version'] = 0", "version: it is 1 or more, not 0"),
    ("f['name'] = ' '", "name: a boundary has a name of 1 to 60 characters"),
    ("f['lambda'] = 1.5", "lambda: it is 0 to 1, not 1.5"),
    ("f['lambda_mode'] = 'odd'", "lambda_mode: it is one of raw, standardised, not 'odd'"),
    ("f['keep']['and'][1]['or'][0]['gate']['low'] = '1'", r"keep\.and\[1\]\.or\[0\]\.gate\.low: '1' is not a number"),
    ("f['keep'] = {}", "keep: a term is one of and, or, not"),
    ("f['truth']['what'] = 'odd'", "truth: what is one of column"),
    ("f['thresholds'] = [1]", r"thresholds\[0\]: it is an object, not 1"),
    ("f['from_people'] = [1]", r"from_people\[0\]: it is a text, not 1"),
    ("f['classifiers'] = {}", "classifiers: the boundary uses ........…, and the file does not have it"),
    (
        "f['classifiers']['b' * 64] = f['classifiers'][model]",
        "classifiers.bbbbbbbb: its content is not what its sha256",
    ),
    ("f['classifiers'][model]['intercept'] = 5.0", "its content is not what its sha256 says; the file was changed"),
    ("f['classifiers'][model] = 5", "classifiers.........: a classifier is a JSON object"),
    ("f['keep']['and'][1]['or'].pop()", "classifiers: the boundary does not use"),
    ("f['drift']['columns'] = []", r"drift.columns: it is an object, not \[\]"),
    ("f['drift']['columns']['scores.image_score'] = {}", "drift.columns.scores.image_score.all: it has a number n"),
    ("f['drift']['columns']['scores.image_score']['all']['quantiles'].pop()", "they are 1,001 finite numbers; found"),
    ("f['drift']['columns']['scores.image_score']['all']['quantiles'].reverse()", "quantiles: they are not in order"),
    ("f['drift']['latents'] = {'percentiles': {}}", "drift.latents: it has percentiles with 99.9 among them"),
    ("f['drift']['latents']['k'] = None", "drift.latents: it has numbers n, k and size"),
    ("f['drift']['latents']['k'] = 5000", "drift.latents.k: 5000 neighbors are to be among"),
    ("f['drift']['latents']['sample'] = 'AA=='", "drift.latents: the sample of latent vectors has 1 bytes"),
]


@pytest.fixture(scope="module")
def written(survey: Survey, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ledger")
    with Ledger(folder, survey.info.survey_id) as ledger:
        made = Boundaries(Explore(survey), ledger, learning := Classifiers(survey))
        basis = Basis.fit(LATENTS, 2)
        known = np.isfinite(LATENTS).all(1)
        sha256 = learning.add(fit(basis, basis.project(LATENTS[known]), LATENTS[known, 0] > 1).to_json())
        told: dict[str, Any] = json.loads(saved_with_all(made, sha256))
    return told


@pytest.mark.parametrize(("change", "sentence"), WRONG, ids=[change[:60] for change, _ in WRONG])
def test_a_file_that_is_wrong_is_refused_by_a_sentence(written: dict[str, Any], change: str, sentence: str) -> None:
    from_file(json.dumps(written).encode())
    with pytest.raises(UsageError, match=sentence) as raised:
        from_file(json.dumps(_wrong(written, change)).encode())
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is no JSON"),
        (b"\x80\x04pickle", "the file is no JSON"),
        (b"[1]", "is JSON, but no boundary"),
        (b'{"voorwerp": "boundary", "schema": NaN}', "the file is no JSON"),
        (b"[" * 100_000, "the file is no JSON"),
        (b" " * (MAX_BYTES + 1), "the file has 50 MB, and a boundary at most 50 MB"),
    ],
)
def test_what_is_no_file_of_ours_is_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        from_file(content)


def test_every_entry_of_another_type_is_refused(written: dict[str, Any]) -> None:
    for name in written:
        for value in (None, 3.5, "x", [3], {"a": 1}):
            changed = written | {name: value}
            try:
                from_file(json.dumps(changed).encode())
            except VoorwerpError as error:
                assert name in str(error) or name in ("voorwerp", "schema"), (name, value, str(error))


# --------------------------------------------------------------------------------------------------- voorwerp check
def test_check_misses_a_classifier_that_a_boundary_names(boundaries: Boundaries, model: str) -> None:
    survey = boundaries.survey

    def problems() -> list[str]:
        return check(survey.path, survey.info.survey_id, survey.subject_ids)

    saved = boundaries.save("learned", draft(Learned(model)), HERE, "ada")
    assert problems() == []
    path = survey.path / CLASSIFIERS / f"{model}.json"
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == model
    path.write_bytes(content + b" ")
    assert [p.partition(" is ")[2] for p in problems()] == [
        'damaged (its sha256 is not its name); the boundary "learned", version 1 cannot be applied'
    ]
    path.unlink()
    assert [p.partition(" is ")[2] for p in problems()] == [
        'missing; the boundary "learned", version 1 cannot be applied'
    ]
    boundaries.undo(saved.entry_id, "ada")
    assert problems() == []


def test_check_names_a_boundary_that_cannot_be_read(boundaries: Boundaries) -> None:
    survey = boundaries.survey
    payload = {"action": "save", "name": "bad", "version": 1, "note": "", "keep": {"odd": []}}
    entry = boundaries.ledger.append(
        "boundary", payload | HERE.to_json() | {"truth": None, "boundary": None}, who="ada"
    )
    problems = check(survey.path, survey.info.survey_id, survey.subject_ids)
    assert problems[0].startswith(
        'the boundary "bad", version 1 cannot be read (entry 1 of the ledger): there is no term'
    )
    with pytest.raises(LedgerError, match=f"entry {entry.id} of the ledger cannot be read as a boundary"):
        boundaries.names()


def test_the_classifiers_of_a_survey_are_such_classifiers() -> None:
    from explorer.services import learned

    for name in ("get", "add", "balanced", "probability"):
        assert callable(getattr(learned.Learning, name)) and hasattr(Learning, name)
    assert learned.CLASSIFIERS == CLASSIFIERS


# ---------------------------------------------------------------------------------------------------------- the kernel
@settings(max_examples=60)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 3000), st.integers(3, 60), st.sampled_from([0.1, 1.0, 5.0]), st.booleans()
)
def test_any_outline_holds_whom_its_edges_say_one_by_one(seed: int, n: int, k: int, size: float, coarse: bool) -> None:
    random = np.random.default_rng(seed)
    points = (random.normal(size=(n, 2)) * [1, random.uniform(0.01, 100)]).astype(np.float32)
    if coarse:  # many on one spot, and some on an edge or a corner
        points = np.round(points, 1)
    outline = random.normal(size=(k, 2)) * size * points.std(axis=0) + points.mean(axis=0)
    outline[0] = points[0]
    x, y = points.astype(np.float64).T
    odd = np.zeros(n, np.bool_)
    for (ax, ay), (bx, by) in zip(outline, np.roll(outline, -1, axis=0), strict=True):
        if ay != by:
            odd ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    assert np.array_equal(CellIndex(points[:, 0], points[:, 1]).inside(outline).mask(), odd)
