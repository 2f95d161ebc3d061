"""Deep metric learning: losses by hand, what is held out stays out, a run that was stopped ends in the same bytes."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from explorer.errors import UsageError
from explorer.kinds.autoencoder import AutoencoderConfig
from explorer.kinds.metric import KIND, MetricConfig
from models import autoencoder, metric
from models.artifacts import ArtifactError, Workspace
from models.findings import read_findings
from models.labels import read_labels, write_labels
from tests.models.networks import finish, tiny, trained, workspace

CONFIG = MetricConfig(epochs=8, folds=2, width=4, embedding_size=8, batch=16, learning_rate=0.01, device="cpu")
#: Images without any label, of which the first is constant.
N_MORE = 12


def rings(n: int, size: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Disks and rings on noise: uint8 (n, size, size, 3), and which are rings, int64 (n,)."""
    random = np.random.default_rng(seed)
    is_ring = np.arange(n) % 2
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    at = random.uniform(-1, 1, (2, n, 1, 1))
    r = np.hypot(x - at[0], y - at[1])
    light = np.where(is_ring[:, None, None] == 1, np.exp(-((r - 5) ** 2) / 2), np.exp(-(r**2) / 8))
    made = light[..., None] * random.uniform(100, 200, (n, 1, 1, 3)) + random.normal(20, 8, (n, size, size, 3))
    return np.clip(made, 0, 255).astype(np.uint8), is_ring


def made(folder: Path, n: int = 60, crowd_errors: float | None = None, **told: Any) -> Workspace:
    """A run's folder over disks and rings, with labels by experts, and by amateurs who err as often as told."""
    images, is_ring = rings(n + N_MORE)
    images[n] = 9
    space = workspace(folder, images, first_id=100)
    names, random = np.array(["disk", "ring"]), np.random.default_rng(4)
    columns: dict[str, Any] = {
        "subject_id": np.arange(n) + 100,
        "expert": names[is_ring[:n]].tolist(),
        "duplicate_group": np.arange(n),
        "is_test": np.zeros(n, bool),
    }
    about: dict[str, Any] = {"expert": {"source": "column:kind", "words": "column kind", "is_simulated": False}}
    if crowd_errors is not None:
        wrong = random.random(n) < crowd_errors
        columns["amateur"] = names[np.where(wrong, 1 - is_ring[:n], is_ring[:n])].tolist()
        about["amateur"] = {"source": "votes", "words": "votes: ring? (simulated)", "is_simulated": True}
    columns |= told
    write_labels(space.directory, columns, ["disk", "ring"], about)
    return space


# --------------------------------------------------------------------------------------------------------- losses
def normal(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("scale", [1.0, 12.0])
def test_proxy_nca_is_its_closed_form(scale):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(7, 5)), random.integers(3, size=7)
    made = metric.criterion_of("proxy_nca", 3, 5, scale, 0.05).double()
    (proxies,) = (p.detach().numpy() for p in made.parameters())
    squared = ((normal(x)[:, None] - normal(proxies)[None]) ** 2).sum(2)
    terms = [
        -math.log(math.exp(-scale * d[c]) / sum(math.exp(-scale * e) for e in d))
        for d, c in zip(squared, y, strict=True)
    ]
    assert made(torch.from_numpy(x), torch.from_numpy(y)).item() == pytest.approx(np.mean(terms), rel=1e-9)


def test_proxy_nca_of_two_proxies_by_hand():
    made = metric.criterion_of("proxy_nca", 2, 2, 1.0, 0.05)
    with torch.no_grad():
        next(made.parameters()).copy_(torch.tensor([[3.0, 0.0], [0.0, 0.5]]))
    loss = made(torch.tensor([[2.0, 0.0]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-2)), rel=1e-6)  # d² are 0 and 2, lengths count nothing


def test_proxy_nca_at_the_largest_scale_loses_nobody():
    made = metric.criterion_of("proxy_nca", 2, 2, 20.0, 0.05)
    with torch.no_grad():
        next(made.parameters()).copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    loss = made(torch.tensor([[-1.0, 0.0]]), torch.tensor([0]))
    assert loss.item() == pytest.approx(80, rel=1e-4)  # above it, exp(-4 s) would be 0 and the worst would not count


def test_normalized_softmax_is_its_closed_form():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(6, 4)), random.integers(3, size=6)
    made = metric.criterion_of("normalized_softmax", 3, 4, 1.0, 0.05).double()
    (weights,) = (p.detach().numpy().T for p in made.parameters())
    logits = normal(x) @ normal(weights).T / 0.05
    terms = [np.log(np.exp(row - row[c]).sum()) for row, c in zip(logits, y, strict=True)]
    assert made(torch.from_numpy(x), torch.from_numpy(y)).item() == pytest.approx(np.mean(terms), rel=1e-9)


def test_proxy_nca_is_normalized_softmax_of_another_scale():
    x, y = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    proxies, weights = (
        metric.criterion_of("proxy_nca", 3, 4, 4.0, 1),
        metric.criterion_of("normalized_softmax", 3, 4, 1, 1 / 8),
    )
    with torch.no_grad():
        next(weights.parameters()).copy_(next(proxies.parameters()).T)
    assert weights(x, y).item() == pytest.approx(proxies(x, y).item(), rel=1e-5)


def test_pairs_and_triplets_by_hand():
    x = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    y = torch.tensor([0, 0, 1])
    apart = [math.sqrt(0.8), math.sqrt(0.4)]  # of the pair of one class, and of the pair nearer than 1 of two
    assert metric.criterion_of("contrastive", 2, 2, 1, 1)(x, y).item() == pytest.approx(
        apart[0] + (1 - apart[1]), rel=1e-5
    )
    # triplets (0, 1, 2) and (1, 0, 2): the first has 2 far enough away
    assert metric.criterion_of("triplet", 2, 2, 1, 1)(x, y).item() == pytest.approx(
        apart[0] - apart[1] + metric.MARGIN, rel=1e-5
    )


# ------------------------------------------------------------------------------------------------------- batches
def test_batches_have_all_classes_alike():
    y = np.array([0] * 90 + [1] * 8 + [2] * 2)
    draw = metric.balanced(np.arange(100) + 1000, y, 24)
    order = draw(np.random.default_rng(0))
    assert len(order) == 24 * (len(order) // 24) and len(order) >= 72
    for batch in order.reshape(-1, 24):
        np.testing.assert_array_equal(np.bincount(y[batch - 1000], minlength=3), [8, 8, 8])
    commons = order[y[order - 1000] == 0]
    assert len(np.unique(commons)) == len(commons)  # nobody twice while others wait
    np.testing.assert_array_equal(draw(np.random.default_rng(0)), order)


def test_validation_is_of_whole_groups_and_loses_no_class():
    groups, y = np.repeat(np.arange(40), 2), np.repeat(np.arange(40) % 4, 2)
    held = metric.split_of(y, groups, 0.2, 0)
    assert 0 < held.sum() < 30
    assert not set(groups[held]) & set(groups[~held])
    assert not metric.split_of(np.array([0, 1, 1]), np.arange(3), 0.2, 0).any()


# ----------------------------------------------------------------------------------------------------------- a run
@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any], list[Any]]:
    """A run by experts and amateurs, with a group of the test half."""
    folder = tmp_path_factory.mktemp("metric") / "run"
    is_test = np.arange(60) >= 50
    space = made(folder, crowd_errors=0.2, is_test=is_test)
    records, results = finish(metric.run(CONFIG, space))
    return space, results, records


def test_like_lies_by_like(done):
    space, results, _ = done
    latents, scores = np.load(space.directory / "latents.npy"), pd.read_parquet(space.directory / "scores.parquet")
    is_ring = rings(60 + N_MORE)[1]
    assert np.isnan(latents[60]).all() and scores["quality"][60] == "constant image"
    there = np.arange(len(latents)) != 60
    np.testing.assert_allclose(np.linalg.norm(latents[there], axis=1), 1, rtol=1e-5)
    unseen = (scores["split"] == "unseen").to_numpy() & there
    assert unseen.sum() == 10 + N_MORE - 1
    assert np.mean((scores["share_ring"][unseen] > 0.5) == is_ring[unseen]) > 0.85
    np.testing.assert_allclose(scores["share_ring"][there] + scores["share_disk"][there], 1, rtol=1e-6)
    assert results["map_low"] <= results["map"] <= results["map_high"]
    assert results["map"] > 0.75 and results["n_queries"] == 50
    assert results["color"] == "share_ring"
    assert scores["split"].value_counts()["train"] == results["n_train"]


def test_findings_tell_every_loss_and_whose_labels(done):
    space, results, _ = done
    told = read_findings(space.directory)
    assert told is not None
    held_out, training, paired, by_class = told["tables"]
    cells = [tuple(row[:2]) for row in held_out["rows"]]
    assert cells == [
        ("normalized softmax", "amateurs, then experts"),
        ("normalized softmax", "experts"),
        ("normalized softmax", "amateurs"),
        ("cross-entropy", "amateurs, then experts"),
        ("cross-entropy", "amateurs"),
    ]
    assert [row[2:4] for row in held_out["rows"]] == [[50, 0]] * 5
    assert held_out["columns"][4:9] == ["k-NN accuracy", "R-precision", "MAP", "MAP@R", "P@1"]
    assert len(training["rows"]) == 5 and len(by_class["rows"]) == 2
    assert [tuple(row[:2]) for row in paired["rows"]] == [
        ("cross-entropy", "amateurs, then experts"),
        ("normalized softmax", "experts"),
        ("normalized softmax", "amateurs"),
    ]
    assert all("simulated" in table["title"].lower() for table in told["tables"] + told["matrices"])
    assert not any(sentence.startswith("Simulated") for sentence in told["sentences"])
    assert any("are simulated" in caveat for caveat in told["caveats"])
    assert told["sentences"][-1] == (
        "Experts are column kind, 50 labels; amateurs are votes: ring? (simulated), 50 labels in the tune half; "
        "experts judge."
    )
    first, second, third = told["sentences"][:3]
    assert "name the simulated class of" in first and "of 50 held-out subjects" in first
    assert "always naming the most frequent class, 25 of 50, 0.500, mean over classes 0.500" in first
    assert f"MAP {results['map']:.3f}" in second and "(by chance 0.5" in second
    assert "that of cross-entropy" in third and "mean over classes" in third
    assert any("10 labelled subjects of the test half are left alone" in line for line in told["caveats"])
    assert sum(sum(row) for row in told["matrices"][0]["counts"]) == 50


@pytest.mark.parametrize(
    ("ours", "theirs", "advice"),
    [
        (("normalized_softmax", "both"), ("normalized_softmax", "expert"), "Learn from: expert (--learn-from expert)"),
        (("normalized_softmax", "both"), ("cross_entropy", "both"), "Loss: cross_entropy (--loss cross_entropy)"),
    ],
)
def test_what_is_better_names_its_setting_and_accuracy_its_baseline(tmp_path, ours, theirs, advice):
    space = made(tmp_path, 40, 0.1, expert=["disk"] * 34 + ["ring"] * 6)
    task = metric.task_of(CONFIG, space, read_labels(space))
    judged = np.flatnonzero(task.judged >= 0)

    def cell(value: float, right: np.ndarray) -> list[dict[str, np.ndarray]]:
        found = {"queries": judged, "training.accuracy": right, "training.predicted": task.judged[judged]}
        for where in ("held_out", "training"):
            found |= {f"{where}.{name}": np.full(40, value) + 0.001 * np.arange(40) for name in metric.METRICS}
            found |= {f"{where}.n_relevant": np.full(40, 5), f"{where}.chance": np.full(40, 0.5)}
        return [found | {"training.accuracy": right}]

    is_common = (task.judged[judged] == 0).astype(float)
    cells: Any = {ours: cell(0.5, is_common), theirs: cell(0.6, is_common)}
    told = metric.findings_of(CONFIG, task, read_labels(space), cells, 1, "a network", is_done=True)
    assert (
        "of 34 of 40 held-out subjects, 0.850 [" in told.sentences[0] and "mean over classes 0.500" in told.sentences[0]
    )
    assert "not told apart from always naming the most frequent class, 34 of 40, 0.850" in told.sentences[0]
    assert any(sentence.endswith(f"To try: {advice}.") for sentence in told.sentences)
    cells[theirs] = cell(0.4, is_common)
    told = metric.findings_of(CONFIG, task, read_labels(space), cells, 1, "a network", is_done=True)
    assert not any("To try" in sentence for sentence in told.sentences)


def test_stages_and_pictures_are_told_while_at_work(done):
    space, _, records = done
    lines = [json.loads(line) for line in (space.directory / "history.jsonl").read_text().splitlines()]
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    assert stages[:3] == [
        "normalized softmax, amateurs, fold 1",
        "normalized softmax, amateurs, then experts, fold 1",
        "normalized softmax, experts, fold 1",
    ]
    assert stages[-2:] == ["normalized softmax, all labels by amateurs", "normalized softmax, all labels by experts"]
    grids = sorted((space.directory / "grids").glob("*.json"))
    assert len(grids) > 1
    told = json.loads(grids[-1].read_bytes())
    assert told["columns"] == 8
    assert [row.split(",")[0] for row in told["rows"]] == ["disk", "disk", "ring", "ring"]
    assert "found worst" in told["rows"][1]
    assert all(record.done <= record.total for record in records)


def test_nobody_is_judged_by_what_saw_them(tmp_path, monkeypatch):
    """Who is held out, and who shows the same sky, is in no fit that judges them; the test half is in none."""
    n = 40
    groups = np.arange(n) // 2
    is_test = np.isin(groups, [3, 11])
    space = made(tmp_path, n, 0.1, duplicate_group=groups, is_test=is_test)
    fitted: list[tuple[str, np.ndarray]] = []
    monkeypatch.setattr(
        metric, "fit", lambda name, *rest: iter(fitted.append((name, np.concatenate([rest[3], rest[4]]))) or ())
    )
    finish(metric.run(replace(CONFIG, compare="none"), space))
    task = metric.task_of(CONFIG, space, read_labels(space))
    assert not set(task.rows) & set(np.flatnonzero(is_test))
    assert len(fitted) == 2 * 3 + 2
    for name, rows in fitted:
        if "fold" in name:
            fold = int(name[-1]) - 1
            out = task.groups[task.fold == fold]
            assert len(out) and not set(task.groups[rows]) & set(out)
        assert not is_test[task.rows[rows]].any()


def test_a_run_that_was_stopped_ends_in_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("models.fitting.SAVE_EVERY", 0.0)
    config = replace(CONFIG, epochs=3, loss="proxy_nca", compare="none")
    finish(metric.run(config, made(tmp_path / "whole", 40)))
    space = made(tmp_path / "stopped", 40)
    for n_records in (3, 4, 5):  # each time it comes a little farther
        job = metric.run(config, space)
        for _ in range(n_records):
            next(job)
        job.close()
    finish(metric.run(config, space))
    for name in ("latents.npy", "scores.parquet", "findings.json", "checkpoint.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name
    lines = [(tmp_path / part / "history.jsonl").read_text().splitlines() for part in ("whole", "stopped")]
    epochs = [[(json.loads(line)["stage"], json.loads(line)["train"]) for line in part] for part in lines]
    assert epochs[0] == epochs[1]


@pytest.mark.parametrize("loss", ["contrastive", "triplet"])
def test_pairwise_losses_fit_too(tmp_path, loss):
    config = replace(CONFIG, loss=loss, compare="none", turn="rotations")
    _, results = finish(metric.run(config, made(tmp_path, 40)))
    assert results["map"] > 0.6


def test_it_goes_on_from_an_autoencoder_or_the_anomaly_model(tmp_path):
    images, _ = rings(20 + N_MORE, 32)
    config = replace(CONFIG, epochs=1, compare="none")
    told = workspace(tmp_path / "autoencoder", images, first_id=100)
    finish(autoencoder.run(AutoencoderConfig(epochs=1, width=4, code_channels=2, device="cpu"), told))
    trained(tmp_path / "train", tiny(32))
    for kind in ("autoencoder", "train"):
        space = made(tmp_path / f"on-{kind}", 20)
        space = replace(space, images=images, parents={kind: tmp_path / kind})
        start = metric.start_of(config, space)
        learner = metric.learner_of(config, start, "cross_entropy", 2, 0, torch.device("cpu"))
        for name, tensor in learner.embedder.backbone.state_dict().items():
            assert torch.equal(tensor, start.weights[name])  # type: ignore[index]
        _, results = finish(metric.run(config, space))
        assert results["n_queries"] == 20
        assert f"the encoder of {kind}" in " ".join(read_findings(space.directory)["caveats"])  # type: ignore[index]
    with pytest.raises(ArtifactError, match="cut in another way"):
        metric.start_of(config, replace(space, parents={"autoencoder": told.directory}, preprocessing={"size": 32}))


def test_it_goes_on_from_photographs(tmp_path):
    config = replace(CONFIG, epochs=1, compare="none", backbone="photographs", size=32, validation=0.0)
    _, results = finish(metric.run(config, made(tmp_path, 12)))
    assert results["n_queries"] == 12


# -------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("told", "sentence"),
    [
        ({"expert": ["ring"] * 20}, r'the labels by experts \(column kind\) are of one class only, "ring"'),
        ({"expert": ["disk"] * 19 + ["ring"]}, 'the class "ring" has one member only among the labels by experts'),
        ({"expert": [None] * 20}, "metric learns from labels, and there are none; name --expert or --amateur"),
        ({"is_test": [True] * 20}, "there are none: all 20 labels are of the test half"),
        ({"subject_id": np.arange(20)}, "none of the 20 labelled subjects is among those that the run is of"),
        ({"duplicate_group": [1, 1, 2, 2] * 5}, "2 labelled groups of subjects do not make 3 folds"),
        ({"amateur": ["ring"] * 20}, "the labels by amateurs are of one class only"),
    ],
)
def test_labels_that_do_not_do_are_a_sentence(tmp_path, told, sentence):
    with pytest.raises(ArtifactError, match=sentence):
        finish(metric.run(replace(CONFIG, folds=3), made(tmp_path, 20, **told)))


def test_where_everybody_is_lone_no_figure_is_made_up(tmp_path):
    _, results = finish(metric.run(replace(CONFIG, epochs=1), made(tmp_path, 4)))
    told = read_findings(tmp_path)
    assert told is not None
    assert "map" not in results and results["n_queries"] == 0
    assert "MAP – over 0 held-out subjects" in told["sentences"][1] and len(told["sentences"]) == 3
    assert any(line.startswith("4 held-out subjects are the only ones of their class") for line in told["caveats"])


def test_labels_of_others_are_a_caveat(tmp_path):
    ids = np.where(np.arange(40) < 3, np.arange(40) + 5000, np.arange(40) + 100)
    config = replace(CONFIG, preset="paper", epochs=1, compare="none")
    finish(metric.run(config, made(tmp_path, 40, subject_id=ids)))
    told = read_findings(tmp_path)
    assert told is not None
    assert "3 labels are of subjects that the run is not of; they are left out." in told["caveats"]
    assert metric.UNKNOWN in told["caveats"]


def test_whose_labels_are_not_there(tmp_path):
    with pytest.raises(ArtifactError, match="there are no labels by amateurs to learn from; name them by --amateur"):
        finish(metric.run(replace(CONFIG, learn_from="amateur"), made(tmp_path, 20)))


def test_settings_that_do_not_go_together(tmp_path):
    assert KIND.check is not None
    with pytest.raises(UsageError, match="leave out one of them"):
        KIND.check({"backbone": "photographs"}, {"train": tmp_path})
    with pytest.raises(UsageError, match="not both"):
        KIND.check({}, {"train": tmp_path, "autoencoder": tmp_path})
    with pytest.raises(UsageError, match="learns from labels"):
        KIND.check({"expert": "none", "amateur": "none"}, {})


def test_presets_are_what_is_told():
    assert metric.preset_of(MetricConfig(preset="paper")).softmax_scale == 1
    assert metric.preset_of(MetricConfig(preset="paper", softmax_scale=8.0)).softmax_scale == 8
    assert metric.preset_of(MetricConfig(preset="paper")).temperature == 0.05
    assert metric.preset_of(MetricConfig()).compare == "cross_entropy"
    assert metric.turn_of(MetricConfig(), ["edge", "Clockwise"]) == "rotations"
    assert metric.turn_of(MetricConfig(), ["edge"]) == "all"
    assert metric.turn_of(MetricConfig(turn="none"), ["edge"]) == "none"
    assert metric.share_names(["Spiral (cw)", "spiral_cw", "–"]) == [
        "share_spiral_cw",
        "share_spiral_cw_",
        "share_class",
    ]
