"""Fine-tuning: who teaches and who is judged, what is told beside the old score, and that a kill changes nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from explorer.kinds.finetune import FinetuneConfig
from models import finetune
from models.artifacts import (
    RUN_JSON,
    SCORES,
    SCORES_SCHEMA,
    ArtifactError,
    Run,
    Workspace,
    read_columns,
    read_latents,
    write_scores,
)
from models.estimates import compare
from models.findings import read_findings
from models.labels import read_labels, write_labels
from models.wgan import Architecture, build
from tests.models.networks import finish, tiny, trained, workspace

CONFIG = FinetuneConfig(epochs=4, folds=3, width=4, batch=16, patience=0, learning_rate=0.01, device="cpu")
SIZE = 16
N_MORE = 12  # images without a grade, of which the first is constant


def dots(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, every third image with a bright dot: uint8 (n, 16, 16, 3), and which, bool (n,)."""
    random = np.random.default_rng(seed)
    is_bright = np.arange(n) % 3 == 0
    made = random.normal(60, 15, (n, SIZE, SIZE, 3))
    for i in np.flatnonzero(is_bright):
        y, x = random.integers(2, SIZE - 4, 2)
        made[i, y : y + 3, x : x + 3] += 140
    return np.clip(made, 0, 255).astype(np.uint8), is_bright


def put_old(folder: Path, ids: np.ndarray, values: np.ndarray, *columns: str, **inputs: str) -> Path:
    """A finished score run; `columns` have the same values."""
    folder.mkdir(parents=True)
    n = len(ids)
    filled: dict[str, Any] = {name: values.astype(np.float32) for name in (*SCORES_SCHEMA.names, *columns)}
    filled |= {"subject_id": ids, "split": ["unseen"] * n, "quality": ["ok"] * n}
    write_scores(folder, None, filled)
    Run(folder.name, "score", "1", {}, state="done", inputs=dict(inputs)).write(folder / RUN_JSON)
    return folder


def made(
    folder: Path, n: int = 60, inclusion: float | None = 0.5, is_simulated: bool = False, **told: Any
) -> Workspace:
    """A run's folder over noise and dots, graded right; every fifth is of the test half; a useless old score."""
    images, is_bright = dots(n + N_MORE)
    images[n] = 9
    space = workspace(folder / "run", images, first_id=100)
    columns: dict[str, Any] = {
        "subject_id": np.arange(n) + 100,
        "expert": np.where(is_bright[:n], "found", "not found").tolist(),
        "is_found": is_bright[:n].tolist(),
        "inclusion_probability": np.full(n, np.nan if inclusion is None else inclusion),
        "duplicate_group": np.arange(n),
        "is_test": np.arange(n) % 5 == 4,
    }
    about = {"expert": {"source": "campaign:Dots", "words": "grades of “Dots”", "is_simulated": is_simulated}}
    about["expert"]["notes"] = ["2 of 62 subjects drawn have no grade"]
    write_labels(space.directory, columns | told, ["not found", "found"], about)
    old = put_old(folder / "old", space.subject_ids, np.random.default_rng(5).random(len(images)))
    return replace(space, parents={"score": old})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any]]:
    """A run that had enough time to learn."""
    space = made(tmp_path_factory.mktemp("done"), n=120)
    config = replace(CONFIG, epochs=8)
    return space, finish(finetune.run(config, space))[1]


def test_it_tells_interesting_from_not_and_says_by_how_much_beside_the_old_score(done) -> None:
    space, results = done
    table = read_columns(space.directory / SCORES, SCORES_SCHEMA)
    p = table.column("probability_of_interest").to_numpy()
    assert np.isnan(p[120]) and np.isfinite(np.delete(p, 120)).all()  # a constant image says nothing
    assert ((p >= 0) & (p <= 1))[np.isfinite(p)].all()
    bright = np.arange(132) % 3 == 0
    rest = np.arange(121, 132)
    assert p[rest][bright[rest]].min() > p[rest][~bright[rest]].max()
    assert results["AUC"] > 0.9 > 0.7 > results["old_AUC"]
    assert results["n_graded"] == 96 and results["n_of_interest"] == 32
    assert results["score_title"] == "Probability of interest"
    latents = read_latents(space.directory)
    assert latents.shape == (132, 64) and np.isnan(latents[120]).all()
    said = read_findings(space.directory)
    assert said is not None
    text = " ".join(said["sentences"])
    assert (
        "96 graded subjects (32 of interest by grades of “Dots”)" in text
        and "they stand for 192 of the tune half" in text
    )
    assert "by the anomaly score; difference" in text and "so the two are not told apart" not in text.split(".")[0]
    assert "24 graded subjects are of the survey's test half" in " ".join(said["caveats"])
    assert "2 of 62 subjects drawn have no grade." in said["caveats"]
    assert [t["title"] for t in said["tables"]] == ["For the survey's tune half, out of fold (grades of “Dots”)"]
    assert [row[0] for row in said["tables"][0]["rows"]] == ["AUC", "average precision", "found in the first 100"]
    curve = said["curves"][0]
    assert curve["has_diagonal"] and len(curve["lines"][0]["x"]) == len(curve["lines"][0]["low"]) > 2
    rows = json.loads(max((space.directory / "grids").glob("*.json")).read_text())["rows"]
    assert rows == [
        "not graded, most probable",
        "not graded, most unsure",
        "experts found, network least",
        "turned down, network most",
    ]


def test_the_split_says_who_taught(done) -> None:
    space, _ = done
    split = np.array(read_columns(space.directory / SCORES, SCORES_SCHEMA).column("split").to_pylist())
    graded = np.arange(120) % 5 != 4
    assert set(split[:120][graded]) == {"train"} and set(split[:120][~graded]) == {"unseen"}
    assert set(split[120:]) == {"unseen"}


def test_the_test_half_changes_nothing(tmp_path: Path) -> None:
    told = []
    for name in ("right", "wrong"):
        space = made(tmp_path / name)
        if name == "wrong":
            labels = read_labels(space)
            is_found = np.where(labels.is_test[:60], labels.is_found[:60] == 0, labels.is_found[:60] > 0)
            space = made(tmp_path / "wronger", is_found=is_found.tolist())
        results = finish(finetune.run(CONFIG, space))[1]
        p = read_columns(space.directory / SCORES, SCORES_SCHEMA).column("probability_of_interest").to_numpy()
        told.append((p, {name: value for name, value in results.items() if name != "seconds"}))
    np.testing.assert_array_equal(told[0][0], told[1][0])
    assert told[0][1]["AUC"] == told[1][1]["AUC"]


def test_a_run_that_was_stopped_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole, cut = made(tmp_path / "whole"), made(tmp_path / "cut")
    finish(finetune.run(CONFIG, whole))
    for stop_after in (3, 9):
        job = finetune.run(CONFIG, cut)
        for _, _ in zip(range(stop_after), job, strict=False):
            pass
        job.close()
    finish(finetune.run(CONFIG, cut))
    for name in (SCORES, "latents.npy", "checkpoint.safetensors", "findings.json"):
        assert (whole.directory / name).read_bytes() == (cut.directory / name).read_bytes(), name


def test_thirty_grades_are_enough_and_said_to_be_few(tmp_path: Path) -> None:
    space = made(tmp_path, n=30, inclusion=None)
    finish(finetune.run(replace(CONFIG, folds=5), space))
    said = read_findings(space.directory)
    assert said is not None
    assert "Few are graded: 24, 8 of them of interest." in said["caveats"]
    assert any("for the whole survey is not estimable" in sentence for sentence in said["sentences"])
    assert [t["title"] for t in said["tables"]] == ["Of those graded, out of fold (grades of “Dots”)"]
    assert "that of those graded, which may be more or fewer than in the survey" in " ".join(said["sentences"])


def test_simulated_grades_are_called_so_everywhere(tmp_path: Path) -> None:
    space = made(tmp_path, is_simulated=True)
    results = finish(finetune.run(CONFIG, space))[1]
    said = read_findings(space.directory)
    assert said is not None and results["score_title"] == "Probability of interest (simulated grades)"
    assert "(simulated grades)" in said["sentences"][0]
    assert any("of interest by simulated grades of “Dots”" in sentence for sentence in said["sentences"])
    assert all("simulated" in one["title"] for one in [*said["tables"], *said["curves"]])
    assert said["caveats"][0].startswith("The grades are simulated (grades of “Dots”)")


def test_it_goes_on_from_the_encoder_of_the_scores_and_paper_does_too(tmp_path: Path) -> None:
    space = made(tmp_path)
    model = build(Architecture(SIZE, 3, 4, 8), 0)
    trained(tmp_path / "training", model, dict(space.preprocessing))
    scores = put_old(tmp_path / "scored", space.subject_ids, np.zeros(72), train="training")
    again = put_old(tmp_path / "finetuned", space.subject_ids, np.zeros(72), score="scored")
    for preset, built_on in (("modern", scores), ("paper", again)):
        where = made(tmp_path / preset)
        where = replace(where, parents={"score": built_on})
        finish(finetune.run(replace(CONFIG, preset=preset, epochs=2, folds=2), where))
        said = read_findings(where.directory)
        assert said is not None and "Begun from the encoder of training." in said["caveats"]
        assert read_latents(where.directory).shape[1] == finetune.VECTOR[preset]
    stages = finetune.encoder_stages(model.encoder)
    x = torch.rand(2, 3, SIZE, SIZE)
    wanted = x
    for stage in model.encoder.stages:
        wanted = stage(wanted).relu()
    torch.testing.assert_close(stages(x), wanted)
    stages[0].weight.data.zero_()  # a copy: the anomaly model stays as it is
    assert model.encoder.stages[0].weight.abs().sum() > 0
    fresh = made(tmp_path / "fresh")
    finish(finetune.run(replace(CONFIG, begin="fresh", epochs=1, folds=2), replace(fresh, parents={"score": scores})))
    said = read_findings(fresh.directory)
    assert said is not None and "Begun from fresh weights." in said["caveats"]


def test_the_last_finetune_run_is_what_the_next_is_judged_beside(tmp_path: Path) -> None:
    space = made(tmp_path)
    bright = (np.arange(72) % 3 == 0).astype(np.float32)
    before = put_old(tmp_path / "before", space.subject_ids, bright, "probability_of_interest")
    old = finetune.old_of(replace(space, parents={"score": before}))
    assert old is not None and old.words == "earlier probability of interest of before"
    np.testing.assert_array_equal(old.values, bright)
    other = put_old(tmp_path / "other", space.subject_ids[::-1][:70].copy(), np.arange(70.0))
    aligned = finetune.old_of(replace(space, parents={"score": other}))
    assert aligned is not None
    np.testing.assert_array_equal(aligned.values[2:], np.arange(70.0)[::-1])
    assert np.isnan(aligned.values[:2]).all() and aligned.words == "anomaly score of other"
    run = Run.read(other / RUN_JSON)
    run.results = {"score_title": "PCA-32 reconstruction error"}
    run.write(other / RUN_JSON)
    named = finetune.old_of(replace(space, parents={"score": other}))
    assert named is not None and named.words == "PCA-32 reconstruction error of other"


@pytest.mark.parametrize(
    "told, sentence",
    [
        ({"is_found": [None] * 60}, "says whether it is of interest; tell by --look-for which of not found, found"),
        ({"is_found": [True] * 60}, "of 48 graded subjects of the tune half none is turned down; two of each kind"),
        ({"is_found": [i == 0 for i in range(60)]}, r"only one is \(duplicates count once\) of interest"),
        ({"is_found": [i < 3 for i in range(60)], "duplicate_group": [0, 0, 0, *range(3, 60)]}, "only one is"),
        ({"is_test": [True] * 60}, "all 60 graded subjects are of the survey's test half"),
    ],
)
def test_what_cannot_be_learned_from_is_a_sentence(tmp_path: Path, told: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ArtifactError, match=sentence):
        finish(finetune.run(CONFIG, made(tmp_path, **told)))


def test_grades_of_strangers_are_told(tmp_path: Path) -> None:
    space = made(tmp_path, subject_id=[*range(100, 157), 901, 902, 903])
    finish(finetune.run(replace(CONFIG, epochs=1, folds=2), space))
    said = read_findings(space.directory)
    assert said is not None and "3 labels are of subjects that this run is not of." in said["caveats"]
    with pytest.raises(ArtifactError, match="none of the 60 labelled subjects is among those that the run is of"):
        finish(finetune.run(CONFIG, made(tmp_path / "none", subject_id=list(range(1000, 1060)))))


# ------------------------------------------------------------------------------------------------------ small parts
def test_a_duplicate_that_nobody_graded_is_judged_by_who_had_not_seen_it(tmp_path: Path) -> None:
    space = made(tmp_path)
    codes = np.arange(72)
    codes[71] = 3  # shows what the graded subject 3 shows
    graded = finetune.graded_of(read_labels(space), replace(space, duplicate_groups=codes), 3, 1)
    assert graded.rows[-1] == 71 and len(graded.rows) == graded.n + 1
    assert graded.folds[-1] == graded.folds[list(graded.rows).index(3)]
    for group in np.unique(graded.groups):
        assert len(np.unique(graded.folds[: graded.n][graded.groups == group])) == 1


def test_the_share_of_interest_is_that_of_the_survey(tmp_path: Path) -> None:
    """20 drawn with certainty of whom all are of interest, and 40 of 400: 1 in 10 of these."""
    is_found = [True] * 20 + [i % 10 == 0 for i in range(40)]
    space = made(
        tmp_path,
        is_found=is_found,
        inclusion_probability=[1.0] * 20 + [0.1] * 40,
        is_test=[False] * 60,
    )
    graded = finetune.graded_of(read_labels(space), space, 3, 1)
    assert graded.is_drawn and graded.prior == pytest.approx((20 + 40) / (20 + 400))
    assert graded.prior_rate.low is not None and graded.prior_rate.high is not None
    assert graded.prior_rate.low < graded.prior < graded.prior_rate.high
    chosen = made(tmp_path / "chosen", is_found=is_found, inclusion=None, is_test=[False] * 60)
    assert finetune.graded_of(read_labels(chosen), chosen, 3, 1).prior == pytest.approx(24 / 60)


def test_both_classes_are_drawn_equally_often() -> None:
    found = np.arange(100) < 7
    rows = np.arange(2, 100)
    drawn = finetune.balanced(rows, found, np.random.default_rng(0))
    assert len(drawn) == finetune.LEAST and set(drawn) <= set(rows)
    counts = np.bincount(drawn, minlength=100)
    assert counts[:7].sum() == counts[7:].sum() == 64
    assert counts[2:7].max() - counts[2:7].min() <= 1 and counts[:2].sum() == 0


def test_losses_by_hand() -> None:
    odds, found, weights = torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0]), torch.tensor([1.0, 3.0])
    p = expit(np.array([0.0, 2.0]))
    wanted = (-np.log(p[0]) - 3 * np.log(1 - p[1])) / 2
    assert float(finetune.loss_of(odds, found, weights, "modern")) == pytest.approx(wanted, rel=1e-6)
    one_hot = ((1 - p[0]) ** 2 + 3 * p[1] ** 2) / 2
    assert float(finetune.loss_of(odds, found, weights, "paper")) == pytest.approx(one_hot, rel=1e-6)
    network = finetune.Network(finetune.encoder_stages(tiny(SIZE).encoder), 3, SIZE, "paper").eval()
    v = torch.rand(5, 128)
    torch.testing.assert_close(network.odds(v).sigmoid(), network.head(v).softmax(1)[:, 1])


def test_reliability_counts_whom_subjects_stand_for() -> None:
    random = np.random.default_rng(0)
    p = random.random(4000)
    found = random.random(4000) < p
    told = finetune.reliability(p, found, np.ones(4000), 8)
    np.testing.assert_allclose(told["value"], told["p"], atol=0.06)
    assert all(low <= value <= high for low, value, high in zip(told["low"], told["value"], told["high"], strict=True))
    assert sum(told["n"]) == 4000 and sum(told["k"]) == found.sum()
    pi = np.where(found, 1.0, 0.25)  # who is not of interest was drawn less often
    weighted = finetune.reliability(p, found, pi, 8)
    share = np.array(told["value"])
    np.testing.assert_allclose(weighted["value"], share / (share + 4 * (1 - share)), atol=1e-9)
    assert finetune.reliability(np.full(5, 0.3), np.arange(5) < 2, np.ones(5))["value"] == [0.4]


def test_two_scores_compared_by_a_slow_count() -> None:
    random = np.random.default_rng(3)
    n = 80
    positive, pi = random.random(n) < 0.3, random.choice([0.2, 0.5, 1.0], n)
    new, old = positive + random.normal(0, 0.7, n), random.normal(0, 1, n)
    told = compare(new, old, positive, pi, np.arange(n), (10, 50, 10_000), replicates=200)
    w = 1 / pi
    assert told.of == pytest.approx(w.sum()) and list(told.new) == [
        "AUC",
        "average precision",
        "found in the first 10",
        "found in the first 50",
    ]
    for score, figures in ((new, told.new), (old, told.old)):
        order = np.argsort(-score)
        seen, hit = 0.0, 0.0
        precision, first = 0.0, {10: 0.0, 50: 0.0}
        for i in order:
            for k in first:
                first[k] += positive[i] * min(max(k - seen, 0), w[i])
            seen += w[i]
            hit += w[i] * positive[i]
            precision += w[i] * positive[i] * hit / seen
        auc = sum(
            w[i] * w[j] * (score[i] > score[j]) for i in np.flatnonzero(positive) for j in np.flatnonzero(~positive)
        )
        auc /= w[positive].sum() * w[~positive].sum()
        assert figures["average precision"].value == pytest.approx(precision / hit)
        assert figures["AUC"].value == pytest.approx(auc)
        for k, value in first.items():
            assert figures[f"found in the first {k}"].value == pytest.approx(value)
    for name, gap in told.difference.items():
        assert gap.value == pytest.approx(told.new[name].value - told.old[name].value)
        assert gap.low <= gap.value <= gap.high
    same = compare(new, new, positive, pi, np.arange(n), replicates=50)
    assert all((f.value, f.low, f.high) == (0, 0, 0) for f in same.difference.values())
    alone = compare(np.where(np.arange(n) < 5, np.nan, new), None, positive, pi, np.arange(n), replicates=50)
    assert alone.n == 75 and not alone.old and not alone.difference


def test_a_correction_by_hand() -> None:
    """Balanced log odds 0 with a share of 1 in 10: the probability is the share."""
    assert float(finetune.corrected(np.array([0.0]), 0.1)[0]) == pytest.approx(0.1)
    assert float(finetune.corrected(np.array([logit(0.8)]), 0.5)[0]) == pytest.approx(0.8)


def test_held_out_groups_say_when_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "FEWEST_TO_VALIDATE", 5)
    space = made(tmp_path)
    finish(finetune.run(replace(CONFIG, folds=2, epochs=3, patience=2), space))
    split = np.array(read_columns(space.directory / SCORES, SCORES_SCHEMA).column("split").to_pylist())
    labels = read_labels(space)
    held = split == "validation"
    assert 0 < held.sum() < (split == "train").sum() and not labels.is_test[held].any()
    assert set(labels.is_found[held]) == {0.0, 1.0}
    lines = [json.loads(line) for line in (space.directory / "history.jsonl").read_text().splitlines()]
    assert all(np.isfinite(line["validation"]["loss"]) for line in lines)
