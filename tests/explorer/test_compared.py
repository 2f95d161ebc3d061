"""Two runs of one survey: who moves, against a slow way to say it; by split, beside other seeds, and bad input."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import rankdata, spearmanr

from explorer.cli import main
from explorer.errors import SurveyError, UsageError
from explorer.ledger import Ledger
from explorer.services.compared import BINS, MOST_POINTS, WHICH, Changes, Pair, in_top, ranks
from explorer.services.explore import Explore
from explorer.services.jobs import JobService
from explorer.survey import SUBJECTS, Survey
from models import ranks as models_ranks
from models.artifacts import RUN_JSON, Run, write_scores
from models.rates import wilson
from tests.explorer.small_survey import write_survey

N = 600
A, B = "20260101-000000-score", "20260102-000000-score"


def add_run(survey: Path, run_id: str, scores: Any, split: Any = "unseen", feature: Any = None, **told: Any) -> Path:
    """A finished run of scores; of image and feature scores where `feature` is told. NaN: none."""
    folder = survey / "runs" / run_id
    folder.mkdir(parents=True)
    ids = pq.read_table(survey / SUBJECTS, columns=["subject_id"]).column(0).to_numpy()
    scores, n = np.asarray(scores, np.float32), len(ids)
    missing = np.full(n, np.nan, np.float32)
    columns = {
        "subject_id": ids,
        "split": [split] * n if split is None or isinstance(split, str) else split,
        "image_score": missing if feature is None else scores,
        "feature_score": missing if feature is None else feature,
        "anomaly_score": scores if feature is None else 0.8 * scores + 0.2 * feature,
        "quality": ["ok"] * n,
    }
    write_scores(folder, None, columns)
    config = {"method": "pca", **told.pop("config", {})} if feature is None else told.pop("config", {})
    Run(run_id, "score", "test", config, state="done", n_rows=n, **told).write(folder / RUN_JSON)
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_survey(tmp_path / "survey", N, 8)


class Opened:
    """The services of a survey, for the length of a test."""

    def __init__(self, path: Path) -> None:
        self.survey = Survey.open(path)
        self.ledger = Ledger(path, self.survey.info.survey_id)
        self.changes = Changes(Explore(self.survey), JobService(self.survey, self.ledger))

    def __enter__(self) -> Changes:
        return self.changes

    def __exit__(self, *_: object) -> None:
        self.ledger.close()
        self.survey.close()


@pytest.fixture
def scores() -> Iterator[np.ndarray]:
    rng = np.random.default_rng(1)
    one = rng.normal(size=N)
    yield np.stack([one, one + rng.normal(0, 0.4, N)]).astype(np.float32)


# ------------------------------------------------------------------------------------------------------ definitions
@pytest.mark.parametrize("n_values", [1, 3, 50, 10**6])
def test_ranks_and_top_are_those_of_the_slow_way(n_values: int) -> None:
    values = np.random.default_rng(2).integers(0, n_values, 501).astype(np.float32)
    np.testing.assert_array_equal(ranks(values), 502 - rankdata(values))
    for top in (1e-9, 0.01, 0.3, 0.999):
        np.testing.assert_array_equal(in_top(values, top), models_ranks.in_top(values, top))


def test_figures_are_those_counted_subject_by_subject(path: Path, scores: np.ndarray) -> None:
    scores = np.round(scores, 1)  # ties
    scores[0, [5, 6]], scores[1, [6, 7, 8]] = np.nan, np.nan
    add_run(path, A, scores[0])
    add_run(path, B, scores[1])
    pair = Pair(A, B, top=0.05)
    with Opened(path) as changes:
        told = changes.compare(pair)
        moved = {which: set(changes.selected(pair, which).rows().tolist()) for which in WHICH}
        ids = changes.survey.source_ids(np.arange(N))
    both = [i for i in range(N) if np.isfinite(scores[:, i]).all()]
    rank = [{i: 1 + sum(run[j] > run[i] for j in both) for i in both} for run in scores]
    tops = [{i for i in both if of[i] <= round(0.05 * len(both))} for of in rank]
    assert (told["n"], told["n_only_a"], told["n_only_b"], told["n_left_out"]) == (N - 4, 2, 1, 0)
    assert moved == {"in": tops[1] - tops[0], "out": tops[0] - tops[1], "both": tops[0] & tops[1]}
    k, n_a, n_b = len(tops[0] & tops[1]), len(tops[0]), len(tops[1])
    assert told["counts"] == {"stayed": k, "in": n_b - k, "out": n_a - k, "neither": len(both) - n_a - n_b + k}
    low, high = wilson(k, max(n_a, n_b))
    assert told["overlap"] == {
        "k": k,
        "n": max(n_a, n_b),
        "value": k / max(n_a, n_b),
        "low": low,
        "high": high,
        "note": "",
    }
    assert (told["moved_in"]["k"], told["moved_in"]["n"]) == (n_b - k, n_b)
    assert (told["moved_out"]["k"], told["moved_out"]["n"]) == (n_a - k, n_a)
    found = told["spearman"]
    assert found["value"] == pytest.approx(spearmanr(scores[0][both], scores[1][both]).statistic)
    assert found["low"] < found["value"] < found["high"]
    # who moved farthest: by how many times their rank changed
    middle = [
        {i: (of[i] + sum(run[j] >= run[i] for j in both)) / 2 for i in both}
        for of, run in zip(rank, scores, strict=True)
    ]
    first = told["movers"]["in"][0]
    assert first["row"] == max(sorted(moved["in"]), key=lambda i: middle[0][i] / middle[1][i])
    assert (first["rank_a"], first["rank_b"], first["id"]) == (*(m[first["row"]] for m in middle), ids[first["row"]])
    for which, way in (("up", 1), ("down", -1)):
        far = max(way * (middle[0][i] - middle[1][i]) for i in both)
        assert way * (told["movers"][which][0]["rank_a"] - told["movers"][which][0]["rank_b"]) == far
    # the plot: everybody is in a cell, all of either top are points
    for name in ("ranks", "change"):
        assert len(told["density"][name]) == BINS**2
        assert sum(told["density"][name]) == len(both)
    assert set(told["points"]["row"]) == tops[0] | tops[1]
    kinds = dict(zip(told["points"]["row"], told["points"]["kind"], strict=True))
    assert {row for row, kind in kinds.items() if kind == 1} == moved["in"]
    assert {row for row, kind in kinds.items() if kind == 2} == moved["out"]


def test_no_more_points_are_told_than_a_page_draws(tmp_path: Path) -> None:
    rng, n = np.random.default_rng(0), 6_000
    path = write_survey(tmp_path / "many", n, 1)
    add_run(path, A, rng.normal(size=n))
    add_run(path, B, rng.normal(size=n))
    with Opened(path) as changes:
        told = changes.compare(Pair(A, B, top=0.4))
        points = told["points"]
        assert len(points["row"]) == len(set(points["row"])) == MOST_POINTS < points["of"]
        shown = set(points["row"])
        assert {m["row"] for m in (*told["movers"]["in"], *told["movers"]["out"])} <= shown
        best = np.argsort(-changes.explore.values("scores.anomaly_score", B))[:50]
        assert set(best.tolist()) <= shown


def test_a_run_against_its_own_scores_moves_nobody_and_lambda_moves_them(path: Path, scores: np.ndarray) -> None:
    feature = scores[::-1].copy()
    add_run(path, A, scores[0], feature=feature[0], config={"feature_weight": 0.2})
    add_run(path, B, scores[0], feature=feature[0], config={"feature_weight": 0.2})
    with Opened(path) as changes:
        same = changes.compare(Pair(A, B))
        assert same["overlap"]["value"] == 1
        assert same["spearman"]["value"] == 1
        assert (same["a"]["lambda"], same["a"]["mode"]) == (0.2, "raw")
        assert same["movers"] == {"in": [], "out": [], "up": [], "down": []}
        other = Pair(A, B, lambda_b=1.0, top=0.1)
        told = changes.compare(other)
        assert told["b"]["lambda"] == 1
        expected = models_ranks.in_top(feature[0], 0.1) & ~models_ranks.in_top(
            changes.explore.values("scores.anomaly_score", A, 0.2), 0.1
        )
        np.testing.assert_array_equal(changes.selected(other, "in").mask(), expected)
        assert told["scores"].keys() == {"anomaly_score", "image_score", "feature_score"}
        assert changes.compare(Pair(A, B, "feature_score", lambda_b=0.9))["overlap"]["value"] == 1  # not mixed


# ---------------------------------------------------------------------------------------------- who is meant, and seen
def test_planted_and_withdrawn_subjects_are_left_out(path: Path, scores: np.ndarray) -> None:
    table = pq.read_table(path / SUBJECTS)
    gone = np.arange(N) < 3
    table = table.set_column(table.column_names.index("is_withdrawn"), "is_withdrawn", pa.array(gone))
    table = table.append_column(
        "injected_kind", pa.array(["ring"] * 2 + [None] * (N - 2), pa.string()).take(pa.array(np.arange(N)[::-1]))
    )
    pq.write_table(table, path / SUBJECTS)
    scores[:, gone] = scores[:, -2:] = 100
    add_run(path, A, scores[0])
    add_run(path, B, -scores[1])
    with Opened(path) as changes:
        told = changes.compare(Pair(A, B))
        assert (told["n"], told["n_left_out"]) == (N - 5, 5)
        assert not set(told["points"]["row"]) & {0, 1, 2, N - 2, N - 1}
        assert all(3 <= m["row"] < N - 2 for movers in told["movers"].values() for m in movers)


def test_figures_by_what_the_networks_saw(path: Path, scores: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    splits = [rng.choice(["train", "validation", "unseen", None], N, p=[0.4, 0.2, 0.3, 0.1]) for _ in "ab"]
    add_run(path, A, scores[0], splits[0])
    add_run(path, B, scores[1], splits[1])
    with Opened(path) as changes:
        told = changes.compare(Pair(A, B, top=0.1))
        tops = [models_ranks.in_top(run, 0.1) for run in scores]
    is_known = np.array([x is not None and y is not None for x, y in zip(*splits, strict=True)])
    trained = [np.array([word == "train" for word in split]) for split in splits]
    masks = {
        "neither": is_known & ~trained[0] & ~trained[1],
        "both": is_known & trained[0] & trained[1],
        "a": is_known & trained[0] & ~trained[1],
        "b": is_known & ~trained[0] & trained[1],
        "unknown": ~is_known,
    }
    assert [s["name"] for s in told["splits"]] == list(masks)
    for found in told["splits"]:
        mask = masks[found["name"]]
        assert found["n"] == mask.sum()
        assert (found["stayed"]["k"], found["stayed"]["n"]) == (
            (tops[0] & tops[1] & mask).sum(),
            (tops[0] & mask).sum(),
        )
        assert (found["in"], found["out"]) == ((~tops[0] & tops[1] & mask).sum(), (tops[0] & ~tops[1] & mask).sum())
    n_one = int(masks["a"].sum() + masks["b"].sum())
    assert any(
        f"{n_one:,} of {N:,} subjects were trained on by one of the two only" in said for said in told["caveats"]
    )


def test_caveats_say_what_stands_behind_a_run(path: Path, scores: np.ndarray) -> None:
    training = "20260101-000000-train"
    (path / "runs" / training).mkdir(parents=True)
    verdict = "the critic's gradient norm was 100 times its median"
    Run(training, "train", "test", {}, state="done", results={"verdict": verdict}).write(
        path / "runs" / training / RUN_JSON
    )
    add_run(path, A, np.where(np.arange(N) < 50, 9, scores[0]))
    add_run(path, B, scores[1], inputs={"train": training})
    with Opened(path) as changes:
        said = changes.compare(Pair(A, B))["caveats"]
    assert f"B is built on {training}, of which it was said: {verdict}" in said
    assert "A's top has 50 subjects in place of 6: so many tie with its last" in said
    assert f"the top has 6 of {N} subjects: too few to tell much" in said


# -------------------------------------------------------------------------------------------------------- other seeds
def test_noise_is_what_seeds_of_one_setting_change(path: Path) -> None:
    rng = np.random.default_rng(4)
    truth, other = rng.normal(size=(2, N))
    noise = rng.normal(0, 0.3, (6, N))
    runs = {}
    for i, (name, base) in enumerate([("pca", truth)] * 3 + [("knn", other)] * 3):
        run_id = f"2026010{i + 1}-000000-score"
        runs[run_id] = (base + noise[i]).astype(np.float32)
        add_run(path, run_id, runs[run_id], config={"method": name, "seed": i % 3})
    first, *_, last = runs
    with Opened(path) as changes:
        told = changes.noise(Pair(first, last, top=0.1))
        alone = changes.noise(Pair(first, list(runs)[1], top=0.1))
        assert changes.noise(Pair(first, last, top=0.1)) is told  # kept
    tops = {run_id: models_ranks.in_top(values, 0.1) for run_id, values in runs.items()}
    assert [len(group["runs"]) for group in told["groups"]] == [3, 3]
    assert [{run["seed"] for run in group["runs"]} for group in told["groups"]] == [{0, 1, 2}] * 2
    pairs = [pair for group in told["groups"] for pair in group["pairs"]]
    assert len(pairs) == 6
    for pair in (*pairs, told["pair"]):
        assert pair["overlap"]["k"] == (tops[pair["a"]] & tops[pair["b"]]).sum()
        assert pair["spearman"] == pytest.approx(spearmanr(runs[pair["a"]], runs[pair["b"]]).statistic)
    assert told["said"].startswith("in 6 of 6 pairs of seeds more of the top 10 % stays than from A to B")
    assert told["said"].endswith("larger than what seeds alone make")
    mine, theirs = ([tops[run_id] for run_id in list(runs)[i : i + 3]] for i in (0, 3))
    moved_in = ~tops[first] & tops[last]
    steady = moved_in & np.all(theirs, 0) & ~np.any(mine, 0)
    assert (told["steady_in"]["k"], told["steady_in"]["n"]) == (steady.sum(), moved_in.sum())
    assert 0 < steady.sum() < moved_in.sum()
    assert alone["is_seed_alone"]
    assert alone["said"] == "A and B differ in their seed only: what moved is noise of training"


def test_without_other_seeds_noise_is_said_to_be_unknown(path: Path, scores: np.ndarray) -> None:
    add_run(path, A, scores[0], config={"seed": 1})
    add_run(path, B, scores[1], config={"seed": 1, "method": "knn"})
    with Opened(path) as changes:
        told = changes.noise(Pair(A, B))
    assert told["pair"] is None
    assert "no other seed of either setting has been scored" in told["said"]


# ---------------------------------------------------------------------------------------------------------- bad input
def test_what_cannot_be_compared_is_said_in_a_sentence(path: Path, scores: np.ndarray) -> None:
    add_run(path, A, np.where(np.arange(N) < 300, scores[0], np.nan))
    add_run(path, B, np.where(np.arange(N) < 300, np.nan, scores[1]))
    broken = add_run(path, "20260103-000000-score", scores[0])
    with Opened(path) as changes:
        for pair, sentence in (
            (Pair(A, A), "is compared with itself"),
            (Pair(A, "../.."), f'there is no finished run of scores "../.." in this survey; there are .*{A}'),
            (Pair(A, B + "1"), f'did you mean "{B}"'),
            (Pair(A, B), "no subject has a score in both"),
            (Pair(A, B, "feature_score"), "did you mean|is not in the scores of"),
            (Pair(A, B, "anomaly_scor"), 'did you mean "anomaly_score"'),
            (Pair(A, B, top=0), "must be a share above 0 and below 1"),
            (Pair(A, B, top=1), "must be a share above 0 and below 1"),
            (Pair(A, B, lambda_a=2.0), "λ is 2; it must be between 0 and 1"),
            (Pair(A, B, mode="other"), "λ mixes raw or standardised"),  # type: ignore[arg-type]
        ):
            with pytest.raises(UsageError, match=sentence):
                changes.compare(pair)
        with pytest.raises(UsageError, match='"up" of two runs is none of in, out, both'):
            changes.selected(Pair(A, B), "up")  # type: ignore[arg-type]
        (broken / "scores.parquet").write_bytes(b"PAR1, as it were")
        with pytest.raises(SurveyError, match="cannot be read"):
            changes.compare(Pair(A, broken.name))
        (broken / "scores.parquet").unlink()
        with pytest.raises(SurveyError, match="is missing; the run is incomplete"):
            changes.compare(Pair(A, broken.name))


NO_PAIRS: list[dict[str, Any]] = [
    {},
    {"a": A},
    {"a": A, "b": 5},
    {"a": A, "b": B, "top": "1"},
    {"a": A, "b": B, "top": True},
    {"a": A, "b": B, "x": 1},
    {"a": A, "b": B, "score": None},
    {"a": A, "b": B, "lambda_a": float("nan")},
]


@pytest.mark.parametrize("message", NO_PAIRS)
def test_a_message_that_is_no_pair_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="reload the page"):
        Pair.of(message)


def test_a_message_becomes_a_pair() -> None:
    assert Pair.of({"a": A, "b": B, "top": 0.05, "lambda_b": 1}) == Pair(A, B, lambda_b=1, top=0.05)


# --------------------------------------------------------------------------------------------------------- command
def test_the_command_prints_the_figures_and_keeps_who_moved(
    path: Path, scores: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    feature = scores[::-1]
    for run_id, image, other, seed in ((A, scores[0], feature[0], 1), (B, scores[1], feature[1], 2)):
        add_run(path, run_id, image, feature=other, config={"feature_weight": 0.2}, seed=seed)
    told = ["--top", "5%", "--lambda-b", "1", "--save-in", "New", "--save-out", "Gone"]
    assert main(["compare", str(path), A, B, *told]) == 0
    said = capsys.readouterr().out
    with Opened(path) as changes:
        pair = Pair(A, B, lambda_b=1, top=0.05)
        found = changes.compare(pair)
        for name, which in (("New", "in"), ("Gone", "out")):
            kept = changes.jobs.ledger.selection(name, changes.survey.subject_ids).subject_ids
            expected = changes.survey.subject_ids[changes.selected(pair, which).rows()]  # type: ignore[arg-type]
            np.testing.assert_array_equal(np.sort(kept), np.sort(expected))
    overlap, counts = found["overlap"], found["counts"]
    low, high = wilson(overlap["k"], overlap["n"])
    assert f"A: {A}: Anomaly score, λ = 0.2 raw" in said
    assert f"B: {B}: Anomaly score, λ = 1 raw" in said
    interval = f"{100 * overlap['k'] / 30:.1f} %, {100 * low:.1f} to {100 * high:.1f} %"
    assert f"in the top 5 % of both: {overlap['k']} of 30 ({interval})" in said
    assert f"kept as the selection “New”: the {counts['in']} that moved in" in said
    assert f"trained on by neither: {N} subjects" in said
    first = found["movers"]["in"][0]
    assert f"farthest in: {first['id']} (rank {first['rank_a']:g} → {first['rank_b']:g})" in said
    assert main(["compare", str(path), A, A]) == 2
    assert "is compared with itself; choose two runs" in capsys.readouterr().err
