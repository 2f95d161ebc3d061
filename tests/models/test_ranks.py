"""Ranks of several runs: definitions against slow and obvious ones, ties, missing scores, runs of unlike subjects."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from explorer.kinds.ranks import RanksConfig
from models.artifacts import ArtifactError, Run, Workspace, check_run, write_scores
from models.ranks import combine, highest, in_top, members, named, overlap, run, spearman
from tests.models.networks import finish

few_values = arrays(np.float64, st.tuples(st.integers(2, 4), st.integers(3, 30)), elements=st.integers(0, 5).map(float))


# ---------------------------------------------------------------------------------------------------- definitions
def slow_percentile(value: float, values: list[float]) -> float:
    """Share of the values below, and half of those equal, of 100."""
    below, equal = sum(v < value for v in values), sum(v == value for v in values)
    return 100 * (below + equal / 2) / len(values)


@given(few_values)
def test_the_top_holds_its_share_and_whoever_is_tied_with_its_last(runs: np.ndarray) -> None:
    scores = runs[0]
    last = sorted(scores, reverse=True)[max(1, round(0.2 * len(scores))) - 1]
    np.testing.assert_array_equal(in_top(scores, 0.2), scores >= last)


def test_the_top_one_percent_of_few_is_one() -> None:
    assert in_top(np.arange(20.0)).sum() == 1
    assert in_top(np.arange(1000.0)).sum() == 10


@given(few_values)
def test_spearman_is_scipys_and_undefined_for_a_run_that_ranks_all_equal(runs: np.ndarray) -> None:
    found = spearman(scipy.stats.rankdata(runs, axis=1))
    for i, j in itertools.product(range(len(runs)), repeat=2):
        if np.ptp(runs[i]) == 0 or np.ptp(runs[j]) == 0:
            assert np.isnan(found[i, j])
        else:
            assert found[i, j] == pytest.approx(scipy.stats.spearmanr(runs[i], runs[j]).statistic, abs=1e-9)


def test_overlap_is_one_only_for_the_same_set() -> None:
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 1], bool)
    assert (overlap(a, a), overlap(a, b), overlap(a, ~a)) == (1.0, 1 / 3, 0.0)


@given(few_values)
def test_combined_ranks_are_those_of_a_slow_count(runs: np.ndarray) -> None:
    found = combine(runs)
    n = runs.shape[1]
    for i in range(n):
        ranks = [sum(run > run[i]) + (sum(run == run[i]) + 1) / 2 for run in runs]
        at = [slow_percentile(run[i], list(run)) for run in runs]
        tops = [run[i] >= sorted(run)[-1] for run in runs]  # 1 % of at most 30 is one
        assert found.rank_mean[i] == pytest.approx(np.mean(ranks))
        assert found.percentile[i] == pytest.approx(np.mean(at))
        assert found.rank_spread[i] == pytest.approx(np.sqrt(np.mean((np.array(at) - np.mean(at)) ** 2)), abs=1e-9)
        assert found.top1_share[i] == pytest.approx(np.mean(tops))
        assert found.is_fragile[i] == (any(tops) and not all(tops))


@given(few_values, st.randoms(use_true_random=False))
def test_the_order_of_subjects_and_of_runs_changes_nothing(runs: np.ndarray, random: Any) -> None:
    subjects, order = list(range(runs.shape[1])), list(range(len(runs)))
    random.shuffle(subjects)
    random.shuffle(order)
    before, after = combine(runs), combine(runs[order][:, subjects])
    for name in ("percentile", "rank_mean", "rank_spread", "top1_share", "is_fragile"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name)[subjects], atol=1e-9)
    for name in ("spearman", "top1_overlap"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name)[np.ix_(order, order)], atol=1e-9)


def test_identical_runs_have_no_spread_and_nothing_is_fragile() -> None:
    scores = np.random.default_rng(0).normal(size=500)
    found = combine(np.stack([scores, scores * 3 + 7, np.exp(scores)]))  # the same order in other units
    assert found.rank_spread.max() == 0
    assert not found.is_fragile.any()
    np.testing.assert_allclose(found.spearman, 1)
    np.testing.assert_array_equal(found.top1_overlap, 1)
    np.testing.assert_array_equal(np.argsort(found.rank_mean), np.argsort(-scores))


def test_a_subject_without_a_score_in_one_run_is_ranked_in_none() -> None:
    scores = np.array([[5.0, np.nan, 3.0, 1.0, 2.0], [1.0, 9.0, 3.0, 5.0, np.inf]])
    found = combine(scores)
    assert np.isnan(found.percentile[[1, 4]]).all()
    assert np.isnan(found.is_fragile[[1, 4]]).all()
    np.testing.assert_allclose(found.rank_mean, [2, np.nan, 2, 2, np.nan])
    np.testing.assert_allclose(found.spearman, [[1, -1], [-1, 1]])
    np.testing.assert_array_equal(found.is_fragile[[0, 2, 3]], [1, 0, 1])


def test_the_highest_are_those_that_rank_high_in_every_run() -> None:
    runs = np.array([[9.0, 8, 7, 1, np.nan], [1.0, 8, 7, 9, 10]])  # the first and the fourth are high in one only
    assert list(highest(combine(runs), 2)) == [1, 2]
    assert len(highest(combine(runs), 10)) == 4


# ---------------------------------------------------------------------------------------------------------- a run
def write_run(
    runs: Path, run_id: str, kind: str = "score", config: Mapping[str, Any] | None = None, **inputs: str
) -> Path:
    (runs / run_id).mkdir(parents=True)
    made = Run(run_id, kind, "0", dict(config or {}), seed=(config or {}).get("seed", 0), state="done", inputs=inputs)
    made.write(runs / run_id / "run.json")
    return runs / run_id


def write_scored(
    runs: Path,
    run_id: str,
    ids: list[int],
    scores: list[float],
    split: list[str | None] | None = None,
    config: Mapping[str, Any] | None = None,
    **inputs: str,
) -> Path:
    folder = write_run(runs, run_id, "score", config, **inputs)
    missing = [float("nan")] * len(ids)
    split = ["train"] * len(ids) if split is None else split
    quality = ["ok" if np.isfinite(score) else "constant" for score in scores]
    columns = {"subject_id": ids, "split": split, "image_score": missing, "feature_score": missing}
    write_scores(folder, None, columns | {"anomaly_score": scores, "quality": quality})
    return folder


def ranked(runs: Path, subject_ids: list[int], *folders: Path) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """What the kind returns and writes."""
    out = runs / "ranked"
    out.mkdir()
    parents = {f"score.{i}": folder for i, folder in enumerate(folders, 1)}
    _, results = finish(run(RanksConfig(), Workspace(out, None, np.array(subject_ids), parents, {})))
    Run("ranked", "ranks", "0", {}, state="done", results=results, provides="score").write(out / "run.json")
    assert check_run(out, np.array(subject_ids)) == []
    return results, pq.read_table(out / "scores.parquet").to_pydict()


BIG = 588848901523702001


def test_runs_of_unlike_subjects_meet_where_they_overlap(tmp_path: Path) -> None:
    ids = [BIG + i for i in range(6)]
    a = write_scored(tmp_path, "a", [ids[3], ids[1], ids[0], ids[2]], [4, 2, 1, 3])
    b = write_scored(tmp_path, "b", [ids[1], ids[2], ids[3], ids[4]], [10, 30, 20, 40])
    results, table = ranked(tmp_path, ids, a, b)
    assert table["subject_id"] == ids[1:4]
    assert table["rank_mean"] == [3, 1.5, 1.5]
    assert table["anomaly_score"] == pytest.approx([100 / 6, 200 / 3, 200 / 3])
    assert table["is_fragile"] == [0, 1, 1]
    assert (results["n_runs"], results["n_subjects"], results["n_not_in_every_run"]) == (2, 3, 2)
    assert (results["n_fragile"], results["n_without_score"]) == (2, 0)
    assert results["highest"] == [str(i) for i in (ids[2], ids[3], ids[1])]
    assert (results["n_in_every_top"], results["highest_in_every_top"]) == (0, [])  # each run has another first
    (pair,) = results["pairs"]
    assert pair == {"a": "a", "b": "b", "spearman": pytest.approx(0.5), "top1_overlap": 0.0}


def test_a_missing_score_stays_missing_and_says_of_how_many(tmp_path: Path) -> None:
    a = write_scored(tmp_path, "a", [1, 2, 3], [1, float("nan"), 3])
    b = write_scored(tmp_path, "b", [1, 2, 3], [1, 2, 3])
    results, table = ranked(tmp_path, [1, 2, 3], a, b)
    assert table["quality"] == ["ok", "no score in 1 of 2 runs", "ok"]
    assert table["anomaly_score"][1] is None
    assert (results["n_subjects"], results["n_without_score"]) == (2, 1)
    assert (results["n_in_every_top"], results["highest"], results["highest_in_every_top"]) == (1, ["3", "1"], ["3"])


def test_a_subject_counts_as_what_any_network_saw_of_it(tmp_path: Path) -> None:
    scores = [1.0, 2, 3, 4, 5]
    a = write_scored(tmp_path, "a", [1, 2, 3, 4, 5], scores, ["unseen", "validation", "validation", None, "unseen"])
    b = write_scored(tmp_path, "b", [1, 2, 3, 4, 5], scores, ["unseen", "unseen", "train", "validation", "train"])
    assert ranked(tmp_path, [1, 2, 3, 4, 5], a, b)[1]["split"] == ["unseen", "validation", "train", None, "train"]


def test_runs_with_no_scored_subject_in_common_are_refused(tmp_path: Path) -> None:
    a = write_scored(tmp_path, "a", [1, 2], [1, float("nan")])
    b = write_scored(tmp_path, "b", [2, 3], [1, 2])
    with pytest.raises(ArtifactError, match="no subject has a score in all of a, b; choose runs of the same"):
        ranked(tmp_path, [1, 2, 3], a, b)


def test_runs_that_rank_all_equal_have_no_correlation(tmp_path: Path) -> None:
    a, b = (write_scored(tmp_path, name, [1, 2], [1, 1]) for name in "ab")
    results, _ = ranked(tmp_path, [1, 2], a, b)
    assert results["pairs"][0]["spearman"] is None
    assert results["pairs"][0]["top1_overlap"] == 1


def test_agreement_is_told_over_seeds_and_over_settings(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folders = []
    for weight, seed in itertools.product((0.0, 0.5), (7, 8)):
        name = f"{weight}-{seed}"
        write_run(tmp_path, f"t{name}", "train", {"feature_weight": weight, "seed": seed})
        scores = list(random.normal(size=50))
        config = {"feature_weight": weight, "method": "wgan"}
        folders.append(write_scored(tmp_path, name, list(range(50)), scores, config=config, train=f"t{name}"))
    results, _ = ranked(tmp_path, list(range(50)), *folders)
    assert [(r["setting"], r["seed"]) for r in results["runs"]] == [
        ("λ = 0", 7),
        ("λ = 0", 8),
        ("λ = 0.5", 7),
        ("λ = 0.5", 8),
    ]
    rho = {(pair["a"], pair["b"]): pair["spearman"] for pair in results["pairs"]}
    assert len(rho) == 6
    others = {"n_pairs": 1, "top1_overlap": 0.0, "n_fragile": 2}
    assert results["over_seeds"] == {
        "λ = 0": others | {"spearman": pytest.approx(rho["0.0-7", "0.0-8"])},
        "λ = 0.5": others | {"spearman": pytest.approx(rho["0.5-7", "0.5-8"])},
    }
    assert results["over_settings"]["8"]["spearman"] == pytest.approx(rho["0.0-8", "0.5-8"])
    assert set(results["over_settings"]) == {"7", "8"}
    assert results["n_fragile"] == 4  # of four runs, each with another in its top 1 %
    assert results["score_title"] == "Mean rank percentile over 4 runs of λ = 0 and λ = 0.5"


def test_a_run_is_called_by_what_sets_it_apart(tmp_path: Path) -> None:
    write_run(tmp_path, "t", "train", {"feature_weight": 0.2, "seed": 7})
    wgan = {"feature_weight": 0.5, "method": "wgan", "lambda_mode": "standardised"}
    found = members(
        [
            write_run(tmp_path, "a", "score", wgan, train="t"),
            write_run(tmp_path, "b", "score", {"feature_weight": 0.2, "seed": 5}, train="gone"),
            write_run(tmp_path, "c", "score", {"feature_weight": 0.2, "method": "pca", "on": "pixels", "seed": 5}),
            write_run(tmp_path, "d", "score", {"imported": True}),
            write_run(tmp_path, "e", "autoencoder", {"seed": 3}),
        ]
    )
    assert [(m.setting, m.seed) for m in found] == [
        ("λ = 0.5 standardised, trained at 0.2", 7),
        ("λ = 0.2", None),
        ("pca on pixels", 5),
        ("d", None),
        ("autoencoder", 3),
    ]


def test_runs_that_differ_in_more_than_their_seed_are_of_two_settings(tmp_path: Path) -> None:
    told = {"feature_weight": 0.2, "method": "wgan", "preset": "compact", "center": None, "batch": 64, "device": "cpu"}
    for seed, others in ((7, {}), (8, {}), (9, {"batch": 8})):
        write_run(tmp_path, f"t{seed}", "train", {"feature_weight": 0.2, "seed": seed, "batch": 16} | others)
    wgan = [
        write_run(tmp_path, "a", "score", told, train="t7"),
        write_run(tmp_path, "b", "score", told | {"batch": 8, "device": "cuda"}, train="t8"),
        write_run(tmp_path, "c", "score", told | {"center": 0.2}, train="t7"),
        write_run(tmp_path, "d", "score", told | {"preset": "paper"}, train="t7"),
        write_run(tmp_path, "e", "score", {"feature_weight": 0.2}, train="t8"),  # from before there were presets
        write_run(tmp_path, "f", "score", told, train="t9"),
    ]
    assert [m.setting for m in members(wgan[:2])] == ["λ = 0.2", "λ = 0.2"]
    compact, paper = "λ = 0.2, preset compact", "λ = 0.2, preset paper"
    assert [m.setting for m in members(wgan[:5])] == [compact, compact, f"{compact}, center 0.2", paper, paper]
    assert [m.setting for m in members([wgan[0], wgan[5]])] == [
        "λ = 0.2, trained with batch 16",
        "λ = 0.2, trained with batch 8",
    ]
    knn = {"method": "knn", "on": "pixels", "n_neighbors": 5, "fit_on": 100}
    detectors = [
        write_run(tmp_path, "k", "score", knn | {"seed": 1}),
        write_run(tmp_path, "l", "score", knn | {"seed": 2, "n_neighbors": 9}),
        write_run(tmp_path, "m", "autoencoder", {"seed": 1, "batch": 8}),
        write_run(tmp_path, "n", "autoencoder", {"seed": 2, "batch": 4}),
    ]
    found = members([*wgan[:2], *detectors])
    assert [m.setting for m in found[2:]] == [
        "knn on pixels, n neighbors 5",
        "knn on pixels, n neighbors 9",
        "autoencoder, batch 8",
        "autoencoder, batch 4",
    ]
    assert named(found[:2]) == "2 runs of λ = 0.2"
    assert named(found[:4]) == ("4 runs of λ = 0.2, knn on pixels, n neighbors 5 and knn on pixels, n neighbors 9")
    assert named(found) == "6 runs of 5 settings"
