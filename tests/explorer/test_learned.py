"""Classifiers of a survey: fitted on the tune half alone, judged out of fold, kept by their hash, refused elsewhere."""

import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression

from explorer.errors import UsageError
from explorer.ledger import CLASSIFIERS
from explorer.services.boundaries import Context
from explorer.services.learned import Learning, refit_within
from explorer.state import Draft
from explorer.survey import SUBJECTS, SURVEY_TOML
from models.artifacts import LATENTS, RUN_JSON, SCORES, Run
from models.boundary import And, Gate, Learned, evaluate
from models.classifier import Classifier, out_of_fold
from models.truth import Truth
from tests.explorer.judged import Judged, N, opened, write_judged, write_votes

RARE = Truth("column", "subjects.oddness", at_least=2.0)
D = 12


def learnable(folder: Path) -> Path:
    """A survey with latents of all but the last ten, odd by their direction; every 50th oddness is unknown."""
    write_judged(folder, with_votes=False)
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((N - 10, D)).astype(np.float32)
    latents[7] = np.nan
    [run] = (folder / "runs").iterdir()
    table = pq.read_table(run / SCORES).slice(0, N - 10)
    pq.write_table(table, run / SCORES)
    np.save(run / LATENTS, latents)
    told = Run.read(run / RUN_JSON)
    told.checkpoint_sha256, told.n_rows, told.preprocessing = "c" * 64, N - 10, {"size": 32}
    told.write(run / RUN_JSON)
    subjects = pq.read_table(folder / SUBJECTS)
    oddness = np.full(N, np.nan)
    oddness[: N - 10] = np.nan_to_num(latents[:, 0]) + np.nan_to_num(latents[:, 1]) + rng.normal(0, 0.7, N - 10)
    oddness[::50] = np.nan
    subjects = subjects.append_column("oddness", pa.array(oddness, from_pandas=True))
    at = subjects.schema.get_field_index("duplicate_group")
    groups = pa.array([2**62 + i // 2 if i < 500 else None for i in range(N)], pa.int64())
    subjects = subjects.set_column(at, subjects.schema.field(at), groups)
    pq.write_table(subjects, folder / SUBJECTS)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return learnable(tmp_path_factory.mktemp("learned") / "survey")


@pytest.fixture
def at(folder: Path) -> Iterator[Judged]:
    with opened(folder) as found:
        yield found


@pytest.fixture
def learning(at: Judged) -> Learning:
    return Learning(at.explore, at.truths)


def fitted(learning: Learning, at: Judged, truth: Truth = RARE, **how: object) -> str:
    return learning.fit(at.context.run_id, truth, at.context, components=8, **how)  # type: ignore[arg-type]


def tune(at: Judged) -> np.ndarray:
    return at.survey.column("half") == "tune"


# ------------------------------------------------------------------------------------------------------------ fitting
def test_it_is_fitted_on_the_known_of_the_tune_half_alone(at: Judged, learning: Learning) -> None:
    made = learning.get(fitted(learning, at))
    latents, rows = at.survey.latents(at.context.run_id)
    oddness = at.survey.column("oddness")
    has_latents = np.zeros(N, bool)
    has_latents[rows[np.isfinite(latents).all(axis=1)]] = True
    used = tune(at) & has_latents & np.isfinite(oddness)
    assert made.n == int(used.sum())
    assert made.n_positive == int((oddness[used] >= 2).sum())
    assert made.basis.n == int((tune(at) & has_latents).sum())
    x = made.basis.project(latents[used[: N - 10]])
    theirs = LogisticRegression(class_weight="balanced", tol=1e-12, max_iter=1000).fit(x, oddness[used] >= 2)
    np.testing.assert_allclose(made.weights, theirs.coef_[0], atol=1e-5)


def test_the_test_half_moves_nothing(folder: Path, tmp_path: Path, at: Judged, learning: Learning) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other, ignore=shutil.ignore_patterns("ledger.db*", CLASSIFIERS))
    subjects = pq.read_table(other / SUBJECTS)
    is_test = ~tune(at)
    changed = np.where(is_test, 100.0, at.survey.column("oddness"))
    index = subjects.schema.get_field_index("oddness")
    pq.write_table(subjects.set_column(index, "oddness", pa.array(changed, from_pandas=True)), other / SUBJECTS)
    [run] = (other / "runs").iterdir()
    latents = np.load(run / LATENTS)
    latents[is_test[: N - 10]] *= 9
    np.save(run / LATENTS, latents)
    with opened(other) as found:
        again = Learning(found.explore, found.truths)
        theirs, ours = again.get(fitted(again, found)), learning.get(fitted(learning, at))
    np.testing.assert_array_equal(theirs.weights, ours.weights)
    assert theirs.prior == ours.prior


def test_the_same_truth_is_the_same_classifier_whatever_was_moved_between(at: Judged, learning: Learning) -> None:
    first = fitted(learning, at)
    for sigma in (1.5, 1.7, 1.9):
        moved = fitted(learning, at, replace(RARE, at_least=sigma), is_moving=True)
        assert at.truths.circular(RARE, Learned(moved), learning, at.context)
        assert not (learning.folder / f"{moved}.json").exists()  # nor for the numbers beside it
    assert fitted(learning, at) == first
    warm = fitted(learning, at, is_moving=True)
    np.testing.assert_allclose(learning.get(warm).weights, learning.get(first).weights, atol=1e-6)


def test_within_is_fitted_among_the_kept_alone(at: Judged, learning: Learning) -> None:
    gate = Gate("scores.feature_score", low=0.5)
    made = learning.get(fitted(learning, at, within=gate))
    kept = tune(at) & (np.nan_to_num(at.survey.scores(at.context.run_id)["feature_score"], nan=-1) >= 0.5)
    latents, rows = at.survey.latents(at.context.run_id)
    kept_rows = kept[rows] & np.isfinite(latents).all(axis=1)
    assert made.basis.n == int(kept_rows.sum())
    assert made.about["within"] == {"gate": {"column": "scores.feature_score", "low": 0.5}}
    told = learning.what(made.sha256, at.context, judge=False)
    assert "within what is kept by" in told["sentence"]
    again = learning.get(learning.refit(made.sha256, replace(RARE, at_least=1.0), at.context))
    assert again.basis.sha256 == made.basis.sha256
    assert again.n_positive > made.n_positive


def test_a_mask_takes_the_place_of_the_tune_half(at: Judged, learning: Learning) -> None:
    sha = fitted(learning, at, mask=np.arange(N) < 300)
    assert learning.get(sha).basis.n == 299  # the eighth has no latent vector
    assert learning.what(sha, at.context)["trouble"] == ""
    elsewhere = Learning(at.explore, at.truths)
    assert "not recorded" in elsewhere.what(sha, at.context)["trouble"]


def test_iterated_anomalies_go_one_round_further_each_time(at: Judged, learning: Learning) -> None:
    draft = Draft(keep=Gate("scores.feature_score", low=0.3), truth=RARE)
    once = refit_within(learning, draft, at.context, components=8)
    twice = refit_within(learning, replace(once, truth=replace(RARE, at_least=2.5)), at.context, components=4)
    assert isinstance(twice.keep, And) and len(twice.keep.terms) == 3
    at.boundaries.learning = learning
    source = at.boundaries.source(at.context)
    kept = [int(evaluate(d.keep, source).yes.sum()) for d in (draft, once, twice)]
    assert kept[0] > kept[1] > kept[2] > 0
    with pytest.raises(UsageError, match="choose a truth first"):
        refit_within(learning, Draft(), at.context)


@pytest.mark.parametrize(
    ("sigma", "says"),
    [(99.0, "none of the .* lower its threshold"), (-99.0, "every one of the .* raise its threshold")],
)
def test_a_truth_of_one_class_is_a_sentence(at: Judged, learning: Learning, sigma: float, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        fitted(learning, at, replace(RARE, at_least=sigma))


def test_nothing_to_learn_from_is_a_sentence(at: Judged, learning: Learning) -> None:
    with pytest.raises(UsageError, match="there is no run"):
        learning.fit("", RARE, at.context)
    with pytest.raises(UsageError, match="has no latent vectors"):
        learning.fit("20990101-000000-score", RARE, at.context)
    with pytest.raises(UsageError, match="0 subjects with a latent vector are kept"):
        fitted(learning, at, within=Gate("scores.feature_score", low=99))
    with pytest.raises(UsageError, match="components cannot be kept"):
        learning.fit(at.context.run_id, RARE, at.context, components=2.5)


# ------------------------------------------------------------------------------------------------------------ scoring
def test_everybody_with_a_latent_vector_has_a_score(at: Judged, learning: Learning) -> None:
    sha = fitted(learning, at)
    balanced, probability = learning.balanced(sha, at.context), learning.probability(sha, at.context)
    assert np.flatnonzero(np.isnan(balanced)).tolist() == [7, *range(N - 10, N)]
    made, (latents, rows) = learning.get(sha), at.survey.latents(at.context.run_id)
    np.testing.assert_allclose(balanced[rows], made.balanced(latents), atol=1e-6)
    odds = balanced / (1 - balanced) * made.prior / (1 - made.prior)
    np.testing.assert_allclose(probability[rows], (odds / (1 + odds))[rows], rtol=1e-3, atol=1e-6)
    assert learning.balanced(sha, at.context) is balanced


def test_a_boundary_reads_it_and_knows_what_it_was_taught(at: Judged, learning: Learning) -> None:
    sha = fitted(learning, at)
    at.boundaries.learning = learning
    kept = at.boundaries.kept(Learned(sha), at.context)
    np.testing.assert_array_equal(kept.yes, np.nan_to_num(learning.balanced(sha, at.context)) >= 0.5)
    assert int(kept.unknown.sum()) == 11
    assert learning.target(sha) == RARE
    [shared] = at.truths.circular(RARE, Learned(sha), learning, at.context)
    assert "what the classifier was taught" in shared


# ------------------------------------------------------------------------------------------------------------ judging
def test_judged_out_of_fold_on_the_tune_half(at: Judged, learning: Learning) -> None:
    sha = fitted(learning, at)
    told = json.loads(json.dumps(learning.what(sha, at.context), allow_nan=False))
    assert (told["n_repeats"], told["n_folds"], told["trouble"]) == (5, 5, "")
    scores = learning.out_of_fold(sha, at.context)
    assert scores.shape == (5, N)
    known = np.isfinite(scores[0])
    assert int(known.sum()) == told["n"] and not known[~tune(at)].any()
    positive = at.truths.of(RARE, at.context).positive
    hits = ((scores >= 0.5) & positive).sum() / 5
    assert told["out_of_fold"]["recall"]["k"] == pytest.approx(hits)
    assert told["out_of_fold"]["recall"]["n"] == told["n_positive"]
    assert told["out_of_fold"]["recall"]["value"] > 0.6
    assert sum(b["n"] for b in told["reliability"]) == told["n"]
    assert sum(b["k"] for b in told["reliability"]) == told["n_positive"]


def test_folds_are_of_duplicate_groups(at: Judged, learning: Learning, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(classifier: Classifier, projected: np.ndarray, p: np.ndarray, groups: np.ndarray, *more: object):
        asked.append(groups)
        return out_of_fold(classifier, projected, p, groups, *more)

    monkeypatch.setattr("explorer.services.learned.out_of_fold", spy)
    learning.out_of_fold(fitted(learning, at), at.context)
    has_latent = (np.arange(N) < N - 10) & (np.arange(N) != 7)
    rows = np.flatnonzero(tune(at) & has_latent)
    groups = np.where(rows >= 500, -rows, rows // 2)  # those without a group are on their own
    np.testing.assert_array_equal(asked[0][:, None] == asked[0], groups[:, None] == groups)


def test_whoever_is_tagged_later_is_judged_anew(at: Judged, learning: Learning) -> None:
    latents, rows = at.survey.latents(at.context.run_id)
    odd = [int(row) for row in rows[latents[:, 0] > 1] if tune(at)[row]]
    for row in odd[:12]:
        at.notes.add_tag(int(at.survey.subject_ids[row]), "odd", who="p")
    sha = fitted(learning, at, Truth("tag", "odd"))
    told = learning.what(sha, at.context)
    assert told["out_of_fold"]["recall"]["n"] == 12 and "at least" in told["out_of_fold"]["precision"]["note"]
    at.notes.add_tag(int(at.survey.subject_ids[odd[12]]), "odd", who="p")
    assert learning.what(sha, at.context)["out_of_fold"]["recall"]["n"] == 13


def test_a_soft_truth_is_learned_and_judged(tmp_path: Path) -> None:
    folder = learnable(tmp_path / "survey")
    write_votes(folder, np.random.default_rng(0))
    with opened(folder) as at:
        learning = Learning(at.explore, at.truths)
        truth = Truth("column", "subjects.chosen_fraction", at_least=0.3, is_soft=True)
        sha = fitted(learning, at, truth)
        made = learning.get(sha)
        known = at.truths.of(truth, at.context)
        latents, rows = at.survey.latents(at.context.run_id)
        used = tune(at) & known.known & np.isin(np.arange(N), rows[np.isfinite(latents).all(axis=1)])
        assert known.p is not None
        assert made.n_positive == pytest.approx(known.p[used].sum())
        told = learning.what(sha, at.context)
        assert told["trouble"] == ""
        assert sum(b["k"] for b in told["reliability"]) == pytest.approx(known.p[used].sum())


# ------------------------------------------------------------------------------------------------------------ keeping
def test_it_is_found_again_by_its_hash(at: Judged, learning: Learning) -> None:
    sha = fitted(learning, at)
    path = learning.folder / f"{sha}.json"
    assert Classifier.from_bytes(path.read_bytes(), sha).sha256 == sha
    again = Learning(at.explore, at.truths)
    np.testing.assert_array_equal(again.balanced(sha, at.context), learning.balanced(sha, at.context))
    assert again.what(sha, at.context) == learning.what(sha, at.context)


def test_one_that_is_not_there_or_was_changed_is_a_sentence(at: Judged, learning: Learning) -> None:
    with pytest.raises(UsageError, match=r"is not in .*fit it again"):
        learning.get("0" * 64)
    with pytest.raises(UsageError, match="named by its sha256"):
        learning.get("../../etc/passwd")
    sha = fitted(learning, at, replace(RARE, at_least=1.2))
    path = learning.folder / f"{sha}.json"
    path.write_bytes(path.read_bytes().replace(b'"seed":0', b'"seed":1'))
    with pytest.raises(UsageError, match="was changed"):
        Learning(at.explore, at.truths).balanced(sha, at.context)


def test_it_is_refused_where_another_network_made_the_vectors(folder: Path, tmp_path: Path, at: Judged) -> None:
    learning = Learning(at.explore, at.truths)
    made = learning.get(fitted(learning, at))
    same, other = tmp_path / "same", tmp_path / "other"
    for path, checkpoint in ((same, "c" * 64), (other, "d" * 64)):
        shutil.copytree(folder, path, ignore=shutil.ignore_patterns("ledger.db*", CLASSIFIERS))
        text = (path / SURVEY_TOML).read_text()
        (path / SURVEY_TOML).write_text(text.replace(at.survey.info.survey_id, f"another-{path.name}"))
        [run] = (path / "runs").iterdir()
        told = Run.read(run / RUN_JSON)
        told.checkpoint_sha256 = checkpoint
        told.write(run / RUN_JSON)
    with opened(same) as found:
        there = Learning(found.explore, found.truths)
        sha = there.add(json.loads(made.to_bytes()))
        assert (there.folder / f"{sha}.json").exists()
        np.testing.assert_array_equal(there.balanced(sha, found.context), learning.balanced(sha, at.context))
        assert there.problem(sha, found.context) == ""
        assert "fitted in another survey" in there.what(sha, found.context)["trouble"]
    with opened(other) as found:
        there = Learning(found.explore, found.truths)
        sha = there.add(json.loads(made.to_bytes()))
        with pytest.raises(UsageError, match="no run of this survey is of that network"):
            there.balanced(sha, found.context)
        assert "checkpoint cccccccccccc" in there.problem(sha, found.context)


def test_a_file_that_brings_no_classifier_is_a_sentence(learning: Learning) -> None:
    with pytest.raises(UsageError, match="schema version 7"):
        learning.add({"schema_version": 7})


def test_many_threads_fit_and_score_at_once(at: Judged, learning: Learning) -> None:
    sigmas, made, errors = np.linspace(0.5, 2.5, 8), {}, []

    def work(sigma: float) -> None:
        try:
            sha = fitted(learning, at, replace(RARE, at_least=sigma))
            made[sigma] = sha, learning.balanced(sha, at.context)
        except Exception as error:  # whatever it is, the test is to say it
            errors.append(error)

    threads = [threading.Thread(target=work, args=(s,)) for s in sigmas]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    alone = Learning(at.explore, at.truths)
    for sigma, (sha, scores) in made.items():
        assert fitted(alone, at, replace(RARE, at_least=sigma)) == sha
        np.testing.assert_array_equal(alone.balanced(sha, Context(at.context.run_id)), scores)
