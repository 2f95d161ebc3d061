"""The learned boundary: scikit-learn's optimum, honest probabilities and folds, files that are checked."""

import json
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from models import classifier as module
from models.classifier import (
    Basis,
    Classifier,
    ClassifierError,
    Space,
    fit,
    folds,
    minimise,
    out_of_fold,
    reliability,
)


def structured(n: int, d: int = 40, seed: int = 0) -> np.ndarray:
    """Correlated latent vectors, float32 (n, d), far from the origin."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((d, d)) * np.arange(1, d + 1)[:, None] ** -0.7
    return (rng.standard_normal((n, d)) @ mixing + rng.uniform(-3, 3, d)).astype(np.float32)


def planted(n: int = 4000, rarity: float = 4.0, seed: int = 0) -> tuple[Space, np.ndarray, np.ndarray]:
    """Projected latents, which are positive, and with what probability each was to be."""
    space = Space.of(structured(n, seed=seed), np.ones(n, bool), 10)
    rng = np.random.default_rng(seed + 1)
    p = 1 / (1 + np.exp(-(space.projected @ rng.normal(0, 0.8, 10) - rarity)))
    return space, rng.random(n) < p, p


# -------------------------------------------------------------------------------------------------------- components
def test_components_are_scikit_learns_scaled_to_unit_variance() -> None:
    latents = structured(3000)
    basis, pca = Basis.fit(latents, 12), PCA(12, svd_solver="full").fit(latents.astype(np.float64))
    np.testing.assert_allclose(basis.explained, pca.explained_variance_ratio_, rtol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(basis.components * pca.components_, axis=1)), 1, atol=1e-5)
    projected = basis.project(latents)
    np.testing.assert_allclose(projected.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(projected.T, bias=True), np.eye(12), atol=1e-4)
    assert (basis.components[np.arange(12), np.abs(basis.components).argmax(1)] > 0).all()


def test_a_share_of_the_variance_keeps_the_fewest_components_that_hold_it() -> None:
    latents = structured(2000)
    shares = np.cumsum(PCA(svd_solver="full").fit(latents).explained_variance_ratio_)
    assert Basis.fit(latents, 0.75).n_components == int((shares < 0.75).sum()) + 1


def test_no_more_components_than_the_vectors_span() -> None:
    rng = np.random.default_rng(0)
    flat = (rng.standard_normal((500, 3)) @ rng.standard_normal((3, 20))).astype(np.float32)
    assert Basis.fit(flat, 25).n_components == 3


def test_a_vector_that_is_not_finite_is_unknown_and_moves_nothing() -> None:
    latents = structured(1000)
    holed = np.vstack([latents, np.full((1, 40), np.nan, np.float32), np.full((1, 40), np.inf, np.float32)])
    basis = Basis.fit(holed, 5)
    np.testing.assert_allclose(basis.components, Basis.fit(latents, 5).components, atol=1e-6)
    assert basis.n == 1000
    assert np.isnan(basis.project(holed)[1000:]).all()
    assert np.isfinite(basis.project(holed)[:1000]).all()


def test_a_space_has_those_to_fit_on_first_and_leaves_out_whoever_has_no_vector() -> None:
    latents = structured(600)
    latents[[3, 400]] = np.nan
    is_fit = np.arange(600) % 2 == 1
    space = Space.of(latents, is_fit, 5)
    assert space.n_fit == 299  # 3 is odd, 400 is not
    assert len(space.rows) == 598
    assert (space.rows[: space.n_fit] % 2 == 1).all()
    assert (space.rows[space.n_fit :] % 2 == 0).all()
    # one rounding of single precision apart where the processor multiplies other blocks
    np.testing.assert_allclose(space.projected, space.basis.project(latents, space.rows), rtol=0, atol=1e-6)
    np.testing.assert_allclose(space.basis.mean, np.nanmean(latents[is_fit], axis=0), atol=1e-5)


@pytest.mark.parametrize(
    ("latents", "components", "says"),
    [
        (np.ones((50, 4), np.float32), 2, "all the same"),
        (np.full((50, 4), np.nan, np.float32), 2, "0 subjects have a latent vector"),
        (np.eye(4, dtype=np.float32), 0, "0 components"),
        (np.eye(4, dtype=np.float32), 2.5, "2.5 components"),
    ],
)
def test_components_that_cannot_be_are_a_sentence(latents: np.ndarray, components: float, says: str) -> None:
    with pytest.raises(ClassifierError, match=re.escape(says)):
        Basis.fit(latents, components)


# -------------------------------------------------------------------------------------------------------- the optimum
def test_weights_are_those_of_scikit_learns_balanced_regression() -> None:
    space, positive, _ = planted()
    ours = fit(space.basis, space.projected, positive)
    theirs = LogisticRegression(C=1, class_weight="balanced", tol=1e-12, max_iter=10_000)
    theirs.fit(space.projected.astype(np.float64), positive)
    np.testing.assert_allclose(ours.weights, theirs.coef_[0], atol=1e-6)
    assert ours.intercept == pytest.approx(theirs.intercept_[0], abs=1e-6)
    cut = ours.balanced_of(space.projected) >= 0.5
    assert (cut == theirs.predict(space.projected)).mean() > 0.9999


def test_many_chunks_on_many_threads_have_the_same_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    space, positive, _ = planted()
    whole = fit(space.basis, space.projected, positive)
    monkeypatch.setattr(module, "CHUNK", 500)
    monkeypatch.setattr(module, "BLOCK", 128)
    made = []
    for cores in (2, 5):
        monkeypatch.setattr(module.os, "cpu_count", lambda cores=cores: cores)
        made.append(fit(space.basis, space.projected, positive))
    np.testing.assert_allclose(made[0].weights, whole.weights, atol=1e-6)
    assert made[0].sha256 == made[1].sha256


@pytest.mark.parametrize("rarity", [1.0, 4.0, 7.0])
def test_begun_at_a_part_it_ends_at_the_same_optimum(rarity: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every sixteenth of 12,000; at the rarest there are too few, and it begins at nothing."""
    space, positive, _ = planted(12_000, rarity)
    theirs = LogisticRegression(C=1, class_weight="balanced", tol=1e-12, solver="newton-cholesky", max_iter=1000)
    theirs.fit(space.projected.astype(np.float64), positive)
    monkeypatch.setattr(module, "MANY", 1000)
    monkeypatch.setattr(module, "ENOUGH", 20)
    ours = fit(space.basis, space.projected, positive)
    np.testing.assert_allclose(ours.weights, theirs.coef_[0], atol=2e-6)
    part = positive[::16].astype(np.float32)
    assert (module._begun(space.projected[::16], part, np.ones(750, np.float32), 1) is None) == (rarity == 7)


@given(st.integers(0, 2**31), st.floats(0.01, 100), st.floats(0, 6))
@settings(max_examples=25, deadline=None)
def test_the_gradient_is_zero_at_the_optimum(seed: int, C: float, rarity: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((400, 4)).astype(np.float32)
    p = rng.random(400) < 1 / (1 + np.exp(rarity - 3 * x[:, 0]))
    p[:2] = True, False
    total = rng.uniform(0.1, 2, 400).astype(np.float32)
    w = minimise(x, np.where(p, total, 0).astype(np.float32), total, C)
    residual = total * (1 / (1 + np.exp(-(x @ w[:4] + w[4]))) - p)
    assert np.abs(np.append(residual @ x + w[:4] / C, residual.sum())).max() < 1e-3 * total.sum() / 100


def test_separable_classes_are_held_back_by_the_penalty() -> None:
    x = np.linspace(-1, 1, 200, dtype=np.float32)[:, None]
    theirs = LogisticRegression(C=1, class_weight="balanced", tol=1e-12).fit(x.astype(float), x[:, 0] > 0.5)
    s1, s0 = 2.0, 200 / 300
    is_above = x[:, 0] > 0.5
    w = minimise(x, np.where(is_above, s1, 0).astype(np.float32), np.where(is_above, s1, s0).astype(np.float32))
    np.testing.assert_allclose(w[0], theirs.coef_[0, 0], rtol=1e-2)


def test_a_start_changes_how_soon_and_not_where() -> None:
    space, positive, p = planted()
    neighbor = fit(space.basis, space.projected, p > 0.3)
    cold = fit(space.basis, space.projected, positive)
    warm = fit(space.basis, space.projected, positive, start=neighbor.optimum)
    np.testing.assert_allclose(warm.weights, cold.weights, atol=1e-6)


def test_whole_weights_are_copies_and_no_weight_is_not_there() -> None:
    space, positive, _ = planted(1000)
    weights = np.random.default_rng(3).integers(0, 4, 1000)
    ours = fit(space.basis, space.projected, positive, weights)
    copies = fit(space.basis, np.repeat(space.projected, weights, axis=0), np.repeat(positive, weights))
    np.testing.assert_allclose(ours.weights, copies.weights, atol=1e-6)
    assert ours.prior == pytest.approx(copies.prior)
    assert ours.n == int((weights > 0).sum())


def test_a_soft_truth_counts_each_subject_as_both() -> None:
    space, _, p = planted(1000)
    ours = fit(space.basis, space.projected, p)
    twice = np.vstack([space.projected, space.projected])
    both = fit(space.basis, twice, np.arange(2000) < 1000, np.concatenate([p, 1 - p]))
    np.testing.assert_allclose(ours.weights, both.weights, atol=1e-6)
    assert ours.prior == pytest.approx(p.mean())


@pytest.mark.parametrize(("value", "says"), [(0, "none of the 300"), (1, "every one of the 300")])
def test_a_truth_of_one_class_is_a_sentence(value: int, says: str) -> None:
    space = Space.of(structured(300), np.ones(300, bool), 4)
    with pytest.raises(ClassifierError, match=says):
        fit(space.basis, space.projected, np.full(300, value))


def test_a_kind_or_penalty_that_cannot_be_is_a_sentence() -> None:
    space, positive, _ = planted(300)
    with pytest.raises(ClassifierError, match="'forest' is no kind"):
        fit(space.basis, space.projected, positive, kind="forest")  # type: ignore[arg-type]
    with pytest.raises(ClassifierError, match="C is a positive number"):
        fit(space.basis, space.projected, positive, C=0)


# ------------------------------------------------------------------------------------------------------ the second kind
def shell(n: int = 3000) -> tuple[Space, np.ndarray]:
    """Positive is what lies near the middle: no plane tells it from what is around it."""
    latents = np.random.default_rng(0).standard_normal((n, 4)).astype(np.float32)
    return Space.of(latents, np.ones(n, bool), 4), (latents**2).sum(axis=1) < 1.5


def test_the_nonlinear_kind_learns_what_no_plane_can() -> None:
    space, positive = shell()
    auc = {}
    for kind in ("linear", "nonlinear"):
        made = fit(space.basis, space.projected, positive, kind=kind)
        scores = out_of_fold(made, space.projected, positive, np.arange(len(positive)), repeats=1)[0]
        auc[kind] = roc_auc_score(positive, scores)
    assert auc["linear"] < 0.6
    assert auc["nonlinear"] > 0.95


def test_the_nonlinear_kind_is_the_same_for_the_same_seed() -> None:
    space, positive = shell(1000)
    made = [fit(space.basis, space.projected, positive, kind="nonlinear", seed=seed).sha256 for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]


def test_a_sample_for_the_nonlinear_kind_stands_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    space, positive = shell(6000)
    whole = fit(space.basis, space.projected, positive, kind="nonlinear")
    rows = module._sample(np.arange(6000), positive, np.random.default_rng(0), 2000)
    assert len(rows.rows) == 2000
    assert rows.factor.sum() == pytest.approx(6000)
    assert rows.factor[positive[rows.rows]].sum() == pytest.approx(positive.sum())
    defaults = module._sample.__defaults__
    monkeypatch.setattr(module._sample, "__defaults__", (2000,))
    part = fit(space.basis, space.projected, positive, kind="nonlinear")
    assert defaults == (module.FIT_ON,)
    assert part.prior == whole.prior
    assert roc_auc_score(positive, part.logits(space.projected)) > 0.95


# ----------------------------------------------------------------------------------------------------- probabilities
def test_probabilities_say_how_often_and_balanced_scores_do_not() -> None:
    space, positive, p = planted(40_000)
    made = fit(space.basis, space.projected, positive)
    called = module.corrected(made.logits(space.projected), made.prior)
    assert made.prior == positive.mean()
    assert called.mean() == pytest.approx(positive.mean(), rel=0.1)
    assert np.abs(called - p).mean() < 0.02
    assert made.balanced_of(space.projected).mean() > 2 * positive.mean()
    hit = [b["low"] <= b["p"] <= b["high"] for b in reliability(called, positive)]
    assert sum(hit) >= 8


def test_a_corrected_probability_is_the_closed_form() -> None:
    balanced = np.array([0.1, 0.5, 0.9])
    odds = balanced / (1 - balanced) * 0.05 / 0.95
    np.testing.assert_allclose(module.corrected(np.log(balanced / (1 - balanced)), 0.05), odds / (1 + odds))


def test_reliability_has_bins_of_equal_numbers_and_keeps_ties_together() -> None:
    p = np.concatenate([np.zeros(50), np.linspace(0.1, 1, 50), [np.nan]])
    positive = np.arange(101) >= 90
    found = reliability(p, positive, 10)
    assert [b["n"] for b in found] == [50, 10, 10, 10, 10, 10]
    assert [b["k"] for b in found] == [0, 0, 0, 0, 0, 10]
    assert found[0]["low"] == 0
    assert found[0]["high"] == pytest.approx(1.959964**2 / (50 + 1.959964**2))  # Wilson's of none of 50
    assert reliability(np.array([np.nan]), np.array([True])) == []


# ------------------------------------------------------------------------------------------------------------- folds
@given(st.integers(0, 1000), st.integers(10, 200), st.integers(2, 5))
@settings(deadline=None)
def test_folds_keep_groups_whole_and_share_out_the_positive_ones(seed: int, n: int, n_folds: int) -> None:
    rng = np.random.default_rng(seed)
    groups, positive = rng.integers(0, n // 2, n), rng.random(n) < 0.3
    found = folds(positive, groups, n_folds, rng)
    with_some = [found[groups == g][0] for g in np.unique(groups[positive])]
    assert all(len(set(found[groups == g])) == 1 for g in np.unique(groups))
    counts = np.bincount(with_some, minlength=n_folds)
    assert counts.max() - counts.min() <= 1


def test_nothing_is_learned_out_of_fold_where_there_is_nothing_to_learn() -> None:
    """With 60 components and 300 subjects, memory looks like knowledge; twins in other folds would leak it."""
    rng = np.random.default_rng(0)
    latents = np.repeat(rng.standard_normal((150, 60)), 2, axis=0).astype(np.float32)
    positive = np.repeat(rng.random(150) < 0.3, 2)
    space = Space.of(latents, np.ones(300, bool), 60)
    made = fit(space.basis, space.projected, positive, C=100)
    groups = np.repeat(np.arange(150), 2)
    honest = out_of_fold(made, space.projected, positive, groups, repeats=4).mean(axis=0)
    leaking = out_of_fold(made, space.projected, positive, np.arange(300), repeats=4).mean(axis=0)
    assert roc_auc_score(positive, made.logits(space.projected)) > 0.85
    assert roc_auc_score(positive, leaking) > 0.75
    assert roc_auc_score(positive, honest) < 0.65


def test_out_of_fold_scores_are_those_of_a_fit_without_the_fold() -> None:
    space, positive, _ = planted(800, rarity=1)
    made = fit(space.basis, space.projected, positive)
    weights = np.ones(800)
    weights[:100] = 0
    found = out_of_fold(made, space.projected, positive, np.arange(800), weights, n_folds=3, repeats=2)
    assert found.shape == (2, 800)
    assert np.isnan(found[:, :100]).all()
    rng = np.random.default_rng([0, 2, 1])
    fold = folds(positive[100:], np.arange(700), 3, rng)
    rows = 100 + np.flatnonzero(fold != 2)
    alone = fit(space.basis, space.projected[rows], positive[rows])
    other = 100 + np.flatnonzero(fold == 2)
    np.testing.assert_allclose(found[1, other], alone.logits(space.projected[other]), atol=1e-4)


def test_too_few_groups_to_judge_by_are_a_sentence() -> None:
    space, _, _ = planted(300)
    positive = np.arange(300) < 4
    made = fit(space.basis, space.projected, positive)
    with pytest.raises(ClassifierError, match="1 groups of subjects have a positive member"):
        out_of_fold(made, space.projected, positive, np.maximum(np.arange(300), 4))


def test_few_positives_make_fewer_folds() -> None:
    space, _, _ = planted(300)
    positive = np.arange(300) < 2
    made = fit(space.basis, space.projected, positive)
    assert np.isfinite(out_of_fold(made, space.projected, positive, np.arange(300), repeats=1)).all()


# -------------------------------------------------------------------------------------------------------------- files
@pytest.fixture(params=["linear", "nonlinear"])
def made(request: pytest.FixtureRequest) -> Classifier:
    space, positive, _ = planted(600, rarity=1)
    about = {"run_id": "r", "λ": [0.2, None]}
    return fit(space.basis, space.projected, positive, kind=request.param, about=about, seed=7)


def test_a_file_holds_all_of_a_classifier(made: Classifier) -> None:
    again = Classifier.from_bytes(made.to_bytes(), made.sha256)
    latents = structured(50, seed=9)
    np.testing.assert_array_equal(again.balanced(latents), made.balanced(latents))
    np.testing.assert_array_equal(again.probability(latents), made.probability(latents))
    assert again.to_bytes() == made.to_bytes()
    assert again.about == made.about
    assert again.basis.explained.tolist() == made.basis.explained.tolist()


def test_unknown_latents_have_no_score(made: Classifier) -> None:
    latents = structured(3)
    latents[1, 5] = np.nan
    assert np.isnan(made.balanced(latents)).tolist() == [False, True, False]
    assert np.isnan(made.probability(latents)).tolist() == [False, True, False]


def test_vectors_of_another_length_are_refused(made: Classifier) -> None:
    with pytest.raises(ClassifierError, match="latent vectors of 40 numbers"):
        made.balanced(np.zeros((3, 39), np.float32))


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        (("schema_version",), 9, "schema version 9"),
        (("kind",), "svm", "kind is 'svm'"),
        (("basis",), None, "basis or about is missing"),
        (("about",), "no", "basis or about is missing"),
        (("basis", "mean"), None, "mean is missing"),
        (("basis", "mean", "dtype"), "object", "mean is missing, or no float32 array"),
        (("basis", "mean", "shape"), [10**12], "mean is missing"),
        (("basis", "mean", "shape"), [3], "does not hold"),
        (("basis", "mean", "base64"), "@@@", "does not hold"),
        (("prior",), 1, "prior is a number between 0 and 1"),
        (("prior",), True, "prior is a finite number"),
        (("intercept",), 1e999, "intercept is a finite number"),
        (("n",), -1, "n is a whole number"),
        (("weights",), {"dtype": "float64", "shape": [1], "base64": "AAAAAAAA8H8="}, "not finite"),
        (("weights",), {"dtype": "float64", "shape": [1], "base64": "AAAAAAAAAAA="}, "do not fit its components"),
    ],
)
def test_a_file_that_was_changed_is_a_sentence(made: Classifier, where: tuple[str, ...], value: Any, says: str) -> None:
    told = json.loads(made.to_bytes())
    inner = told
    for name in where[:-1]:
        inner = inner[name]
    inner[where[-1]] = value
    with pytest.raises(ClassifierError, match=re.escape(says)):
        Classifier.from_json(told)


def test_a_file_of_another_content_than_its_name_is_refused(made: Classifier) -> None:
    told = json.loads(made.to_bytes()) | {"intercept": 0.25}
    with pytest.raises(ClassifierError, match="it was changed"):
        Classifier.from_bytes(json.dumps(told).encode(), made.sha256)
    with pytest.raises(ClassifierError, match="not readable JSON"):
        Classifier.from_bytes(b"\x80pickle")
    with pytest.raises(ClassifierError, match="JSON object"):
        Classifier.from_bytes(b"[]")


def test_a_kernel_belongs_to_the_nonlinear_kind_alone(made: Classifier) -> None:
    told = json.loads(made.to_bytes())
    told["kind"] = "linear" if made.kind == "nonlinear" else "nonlinear"
    with pytest.raises(ClassifierError, match="kernel"):
        Classifier.from_json(told)
