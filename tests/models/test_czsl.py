"""CzSL: its layers and losses, label transfer, sampling, what it finds, and that a stop changes nothing."""

import json
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.neural_network import MLPClassifier
from torch import nn

from explorer.kinds.czsl import KIND, CzslConfig
from models import czsl
from models.artifacts import ArtifactError, Workspace, read_latents
from models.labels import Labels, read_labels, write_labels
from tests.models.networks import finish

TINY = CzslConfig(epochs=6, batch=24, autoencoder_epochs=2, folds=2, width=4, code_channels=4, seed=3)
N = 72


@pytest.fixture(autouse=True)
def small_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(czsl.PRESETS, "modern", replace(czsl.PRESETS["modern"], least=48))


def galaxies(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, bright around or in the middle: uint8 (n, 16, 16, 3), and which, int64 (n,)."""
    random = np.random.default_rng(seed)
    is_middle = np.arange(n) % 2
    made = random.integers(0, 100, (n, 16, 16, 3))
    made[is_middle == 1, 5:11, 5:11] += 120
    made[is_middle == 0, :3] += 120
    made[is_middle == 0, -3:] += 120
    return made.astype(np.uint8), is_middle


def labelled(folder: Path, change: Mapping[str, Any] | None = None, is_simulated: bool = False) -> Workspace:
    """72 images: experts on 24, amateurs (each sixth wrong) with votes on 60, eight of them in the test half."""
    folder.mkdir(parents=True, exist_ok=True)
    images, middle = galaxies()
    names = np.array(["around", "middle"])
    i = np.arange(N)
    wrong = (i % 6 == 0) ^ middle.astype(bool)
    columns: dict[str, Any] = {
        "subject_id": i + 100,
        "expert": np.where(i < 24, names[middle], None),
        "amateur": np.where(i < 60, names[wrong.astype(int)], None),
        "n_chosen": np.where(wrong, 7.0, 2.0),
        "n_votes": np.where(i < 60, 10.0, np.nan),
        "is_test": (i >= 52) & (i < 60),
        "duplicate_group": i // 2,
        "fraction_around": np.where(i < 60, np.where(wrong, 0.3, 0.8), np.nan),
        "fraction_middle": np.where(i < 60, np.where(wrong, 0.7, 0.2), np.nan),
        **(change or {}),
    }
    write_labels(
        folder,
        {name: list(values) for name, values in columns.items() if values is not None},
        ["around", "middle", "neither"],
        {"expert": {"source": "column:kind", "words": "column kind", "is_simulated": is_simulated}},
    )
    return Workspace(folder, images, i + 100, {}, {"bands": ["r", "g", "b"]}, threads=1)


def labels_of(**change: Any) -> Labels:
    nothing = np.full(4, np.nan)
    known: dict[str, Any] = {
        "classes": ("A", "B"),
        "expert": np.full(4, -1),
        "amateur": np.array([0, 0, 1, -1]),
        "is_found": nothing,
        "n_chosen": np.array([9, 8, 1, 0.0]),
        "n_votes": np.array([10, 10, 10, 0.0]),
        "inclusion": nothing,
        "fractions": np.empty((4, 0), np.float32),
        "fraction_names": (),
        "is_test": np.zeros(4, bool),
        "groups": np.arange(4),
        "n_strangers": 0,
        "about": {},
    }
    return Labels(**known | change)


# ------------------------------------------------------------------------------------------------- layers and losses
def test_the_layers_of_the_paper() -> None:
    network = czsl.Classifier(3, 64, 3)
    shapes = [tuple(p.shape) for name, p in network.named_parameters() if name.endswith("weight")]
    assert shapes == [(16, 3, 3, 3), (8, 16, 3, 3), (8, 8, 3, 3), (256, 512), (128, 256), (3, 128)]
    x = torch.zeros(2, 3, 64, 64)
    assert network.encoder(x).shape == (2, 8, 8, 8)
    assert network.vector(x).shape == (2, 128)
    assert network(x).shape == (2, 3)
    assert sum(p.numel() for p in network.encoder.parameters()) == 448 + 1160 + 584
    assert sum(p.numel() for p in network.parameters()) == 2192 + 512 * 257 - 256 + 32896 + 129 * 3
    whole = czsl.make_autoencoder(3, 16, 8, is_paper=True)
    assert sum(p.numel() for p in whole.parameters()) == 2192 + 584 + 584 + 1168 + 435
    assert not [layer for layer in whole.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_the_modern_preset_has_norms_and_its_encoder_goes_into_the_classifier() -> None:
    whole, network = czsl.make_autoencoder(3, 16, 8, False), czsl.Classifier(3, 64, 2, is_paper=False)
    assert len([layer for layer in whole.modules() if isinstance(layer, nn.BatchNorm2d)]) == 6
    network.encoder.load_state_dict(whole.encoder.state_dict())
    assert isinstance(list(whole.decoder)[-1], nn.Sigmoid)


def test_the_paper_begins_as_its_library_does() -> None:
    network = czsl.Classifier(3, 64, 2)
    layer = network.dense[1]
    assert isinstance(layer, nn.Linear)
    bound = np.sqrt(6 / (512 + 256))
    assert float(layer.bias.detach().abs().max()) == 0
    assert 0.98 * bound < float(layer.weight.detach().abs().max()) <= bound


def test_losses_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
    targets, ones = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.ones(2)
    squared = [(0.01 + 0.01) / 2, (0.64 + 0.64) / 2]
    assert czsl.class_loss(logits, targets, ones, True).item() == pytest.approx(np.mean(squared))
    crossed = [-np.log(0.9), -np.log(0.2)]
    assert czsl.class_loss(logits, targets, ones, False).item() == pytest.approx(np.mean(crossed))
    weights = torch.tensor([0.5, 1.5])
    expected = (0.5 * crossed[0] + 1.5 * crossed[1]) / 2
    assert czsl.class_loss(logits, targets, weights, False).item() == pytest.approx(expected)
    soft = torch.tensor([[0.7, 0.3], [0.7, 0.3]])
    expected = np.mean([-(0.7 * np.log(a) + 0.3 * np.log(b)) for a, b in ((0.9, 0.1), (0.2, 0.8))])
    assert czsl.class_loss(logits, soft, ones, False).item() == pytest.approx(expected)
    made, x = torch.tensor([[0.5, 0.9]]), torch.tensor([[1.0, 0.0]])
    expected = (-np.log(0.5) - np.log(0.1)) / 2
    assert czsl.reconstruction_loss(made, x).item() == pytest.approx(expected, rel=1e-5)


# ------------------------------------------------------------------------------------------- transfer, samples, targets
def test_label_transfer_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    x = random.random((300, 7))
    y = (x[:, 0] + 0.1 * random.normal(size=300) > x[:, 1]).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = MLPClassifier(hidden_layer_sizes=(8, 7, 5, 3), alpha=1e-4, random_state=0, max_iter=300)
        expected = model.fit(x[:200], np.eye(2)[y[:200]]).predict_proba(x[200:])
    found = czsl.transfer(x[:200], y[:200], 2, x[200:], is_paper=True)
    np.testing.assert_array_equal(found.argmax(1), expected.argmax(1))
    np.testing.assert_allclose(found, expected / expected.sum(1, keepdims=True))


def test_label_transfer_learns_what_experts_make_of_votes() -> None:
    random = np.random.default_rng(0)
    x = random.random((400, 3))
    y = (x[:, 0] > 0.7).astype(int)  # amateurs would cut at .5
    found = czsl.transfer(x[:100], y[:100] * 2, 3, x[100:], is_paper=False)
    assert found.shape == (300, 3)
    np.testing.assert_allclose(found.sum(1), 1)
    assert (found[:, 1] == 0).all()  # of a class that no expert named
    assert (found.argmax(1) == 2 * y[100:]).mean() > 0.95
    np.testing.assert_array_equal(czsl.transfer(x[:5], np.ones(5, int), 3, x[:2], True), [[0, 1, 0]] * 2)


def test_sampling_counts() -> None:
    classes, random = np.array([0] * 10 + [1] * 3 + [3] * 5), np.random.default_rng(0)
    for balance in ("none", "weights"):
        np.testing.assert_array_equal(czsl.sampled(classes, balance, random), np.arange(18))
    under = czsl.sampled(classes, "under", random)
    np.testing.assert_array_equal(np.bincount(classes[under]), [3, 3, 0, 3])
    assert len(np.unique(under)) == 9
    over = czsl.sampled(classes, "over", random)
    np.testing.assert_array_equal(np.bincount(classes[over]), [10, 10, 0, 10])
    assert set(over) == set(range(18))  # each at least once
    np.testing.assert_allclose(czsl.class_weights(classes, 4, "weights"), [18 / 30, 18 / 9, 0, 18 / 15], rtol=1e-6)
    np.testing.assert_array_equal(czsl.class_weights(classes, 4, "under"), np.ones(4))


def test_validation_is_stratified_and_takes_no_class_whole() -> None:
    classes = np.array([0] * 90 + [1] * 10 + [2])
    out = czsl.held_out_of(np.arange(101), classes, 0.2, 0)
    np.testing.assert_array_equal(np.bincount(classes[out]), [18, 2])
    assert not czsl.held_out_of(np.arange(19), np.zeros(19), 0.2, 0).any()
    assert not czsl.held_out_of(np.arange(100), np.zeros(100), 0.0, 0).any()


def test_soft_targets() -> None:
    shares = np.array([[0.2, 0.6, 0.2], [0.1, 0, 0], [0, 0, 1], [np.nan] * 3], np.float32)
    named = labels_of(fractions=shares, fraction_names=("b", "a", "artifact"))
    np.testing.assert_allclose(czsl.soft_targets(named, ("A", "B")), [[0.75, 0.25], [0, 1], [np.nan] * 2, [np.nan] * 2])
    counted = [[0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [np.nan, np.nan]]  # A is what was counted: amateurs say so
    np.testing.assert_allclose(czsl.soft_targets(labels_of(), ("A", "B")), counted, rtol=1e-6)
    with pytest.raises(
        ArtifactError, match=r'no share of the votes for class "A" \(there are none\); take --targets hard'
    ):
        czsl.soft_targets(labels_of(classes=("A", "B", "C")), ("A", "B", "C"))


def test_what_labels_are_transferred_from() -> None:
    labels = labels_of()
    part, told = czsl.features_of(labels, labels.amateur, 2)
    np.testing.assert_allclose(part[:, 0], [0.9, 0.8, 0.1, np.nan], rtol=1e-6)
    assert told == ""
    alone = labels_of(n_votes=np.zeros(4))
    hard, told = czsl.features_of(alone, alone.amateur, 2)
    np.testing.assert_array_equal(hard, [[1, 0], [1, 0], [0, 1], [np.nan] * 2])
    assert told == "Without votes, labels were transferred from the class alone that amateurs named."


def test_names_of_columns() -> None:
    names = czsl.safe_names(["Spiral (ACW)", "spiral acw", "?", "x" * 50])
    assert names == ["probability_spiral_acw", "probability_spiral_acw_1", "probability_2", "probability_" + "x" * 32]


@pytest.mark.parametrize(
    ("name", "is_handed"),
    [
        ("clockwise", True),
        ("spiral (ACW)", True),
        ("left arm", True),
        ("cw", True),
        ("leftover", False),
        ("edge", False),
    ],
)
def test_a_name_that_says_which_way_it_turns(name: str, is_handed: bool) -> None:
    assert bool(czsl.HANDED.search(name.casefold())) is is_handed


# ---------------------------------------------------------------------------------------------------------- the kind
def found(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "findings.json").read_text())
    return told


def test_it_learns_and_says_what_it_found(tmp_path: Path) -> None:
    work = labelled(tmp_path, is_simulated=True)
    records, results = finish(czsl.run(replace(TINY, epochs=6, batch=8, compare="all"), work))
    assert results["classes"] == {"probability_around": "around", "probability_middle": "middle"}
    assert (results["n_experts"], results["n_amateurs"]) == (24, 52)
    assert results["out_of_fold_accuracy"] > 0.8
    assert all(a.done <= b.done for a, b in pairwise(records) if a.total == b.total)
    table = pd.read_parquet(tmp_path / "scores.parquet")
    _, middle = galaxies()
    p = table[["probability_around", "probability_middle"]].to_numpy()
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(table["predicted_class"], p.argmax(1))
    assert (p.argmax(1) == middle)[60:].mean() > 0.8  # of whom nobody has said anything
    assert read_latents(tmp_path).shape == (N, 128)
    assert table["split"].value_counts().to_dict() == {"train": 52, "unseen": 20}
    told = found(tmp_path)
    assert told["sentences"][0].startswith("CzSL agrees with the simulated labels by experts of")
    assert [sentence.split(",")[0] for sentence in told["sentences"][1:]] == [
        "CzSL minus experts only",
        "CzSL minus amateurs only",
        "CzSL minus no autoencoder",
    ]
    judged, transferred = told["tables"]
    assert [row[0] for row in judged["rows"]] == ["CzSL", "experts only", "amateurs only", "no autoencoder"]
    assert judged["columns"][2:4] == ["G-mean", "found of around"]
    assert all(re.match(r"\d+ of 12 \(", row[3]) for row in judged["rows"]), judged["rows"]
    assert transferred["rows"][0][1].startswith("20 of 24")  # each sixth is wrong
    assert transferred["title"] == "Label transfer: agreement with simulated labels by experts, out of fold"
    assert transferred["rows"][0][3].startswith("8 of 12") and transferred["note"].startswith("Transfer minus")
    assert np.sum(told["matrices"][0]["counts"]) == 24
    assert told["matrices"][0]["title"].endswith("predicted, out of fold")
    text = " ".join(told["caveats"])
    assert "Labels are simulated" in text
    assert "8 labelled subjects of the survey's test half were neither learned from nor counted" in text
    assert "Experts have labelled 24 subjects only" in text
    pictures = sorted((tmp_path / "grids").glob("*.json"))
    assert json.loads(pictures[0].read_text())["rows"] == ["image", "as the autoencoder makes it"]
    assert json.loads(pictures[-1].read_text())["rows"][:3] == ["surest of around", "surest of middle", "most unsure"]
    with Image.open(pictures[-1].with_suffix(".png")) as picture:
        assert picture.size[0] == 8 * 16


@pytest.mark.parametrize(("n_wrong", "verdict"), [(1, "within its interval"), (12, "beyond its interval"), (0, "")])
def test_label_transfer_that_lowers_agreement_is_said(n_wrong: int, verdict: str) -> None:
    truth, folds = np.arange(40) % 2, np.arange(40) // 20
    made = np.eye(2)[np.where(np.arange(40) < n_wrong, 1 - truth, truth)][None]
    judged = czsl.Judged(truth, np.arange(40), folds, truth.copy(), {czsl.CZSL: made, "transfer": made})
    told = czsl.lowered(judged, "labels by experts")
    assert len(told) == (n_wrong > 0)
    for sentence in told:
        assert sentence.startswith(
            "Label transfer lowers the agreement of amateurs with the labels by experts, from 40 of"
        )
        assert f"to {40 - n_wrong} of 40" in sentence and verdict in sentence


def test_whoever_is_judged_is_learned_from_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: dict[str, np.ndarray] = {}
    as_it_is = czsl.fit

    def watched(name: str, network: Any, loss: Any, feed: Any, rows: Any, validation: Any, *rest: Any) -> Any:
        fitted[name] = np.append(rows, validation)
        return as_it_is(name, network, loss, feed, rows, validation, *rest)

    monkeypatch.setattr(czsl, "fit", watched)
    work = labelled(tmp_path)
    finish(czsl.run(replace(TINY, epochs=1, autoencoder_epochs=1), work))
    labels = read_labels(work)
    assert set(fitted["autoencoder"]) == set(range(N))
    for stage in ("CzSL: amateurs", "CzSL: experts"):
        assert not labels.is_test[fitted[f"{stage}, all labels"]].any()
        judged: set[int] = set()
        for fold in (1, 2):
            out = set(range(24)) - set(fitted[f"{stage}, fold {fold}"])
            groups = set(labels.groups[list(out)])
            assert groups.isdisjoint(labels.groups[fitted[f"{stage}, fold {fold}"]])
            judged |= out
        assert judged == set(range(24))
    assert set(fitted["experts only, fold 1"]) < set(range(24))


def test_a_run_that_was_stopped_ends_in_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.fitting.SAVE_EVERY", 0.0)
    config = replace(TINY, epochs=3)
    _, results = finish(czsl.run(config, labelled(tmp_path / "whole")))
    work, n = labelled(tmp_path / "cut"), 0
    for stop in (2, 4, 9, 20, 31):
        job = czsl.run(config, work)
        for _ in range(stop):
            if next(job, None) is not None:
                n += 1
        job.close()
    _, after = finish(czsl.run(config, work))
    assert after == results
    for name in ("scores.parquet", "latents.npy", "checkpoint.safetensors", "findings.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    stages = [
        [(line["stage"], line["epoch"], line["train"]) for line in map(json.loads, path.read_text().splitlines())]
        for path in (tmp_path / "whole" / "history.jsonl", tmp_path / "cut" / "history.jsonl")
    ]
    assert stages[0] == stages[1]


def test_without_amateurs_it_says_so(tmp_path: Path) -> None:
    gone = dict.fromkeys(["amateur", "n_chosen", "n_votes", "fraction_around", "fraction_middle"])
    _, results = finish(czsl.run(replace(TINY, compare="all"), labelled(tmp_path, gone)))
    assert results["n_amateurs"] == 0
    told = found(tmp_path)
    assert any("There are no labels by amateurs" in one for one in told["caveats"])
    assert [row[0] for row in told["tables"][0]["rows"]] == ["CzSL", "experts only"]
    assert len(told["tables"]) == 1


@pytest.mark.parametrize("balance", ["under", "over", "weights"])
def test_the_paper_imbalanced_with_shares_of_votes(tmp_path: Path, balance: Any) -> None:
    config = replace(TINY, preset="paper", epochs=2, seeds=2, targets="fractions", balance=balance)
    _, results = finish(czsl.run(config, labelled(tmp_path)))
    assert results["n_amateurs"] == 52
    assert "mean of 2 seeds" in found(tmp_path)["sentences"][0]
    lines = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in lines} >= {"autoencoder, seed 2", "CzSL: experts, fold 2, seed 2"}
    assert {line["epoch"] for line in lines} == {1, 2}


def test_a_rare_class_is_told(tmp_path: Path) -> None:
    change = {"expert": np.where((I < 24) & ((I % 2 == 0) | (I < 4)), NAMES, None)}
    finish(czsl.run(replace(TINY, epochs=1, compare="none"), labelled(tmp_path, change)))
    told = found(tmp_path)["caveats"][0]
    assert told.startswith("The rarest class has 2 of 14 labels: look at G-mean and AUC; to give them more weight: ")
    assert told.endswith("Balance: over (--balance over).")


def test_of_very_many_a_random_part_is_learned_from(tmp_path: Path) -> None:
    work = labelled(tmp_path)
    task = czsl.task_of(replace(TINY, train_on=20), work, read_labels(work))
    assert task.is_pictured.sum() == 20
    assert (np.isfinite(task.targets[:, 0]) & (task.expert < 0)).sum() == 20
    assert np.isfinite(task.targets[task.expert >= 0]).all()
    assert "Of 28 subjects that only amateurs have labelled 20 at random were taken." in task.caveats
    assert len(task.rows) < N
    np.testing.assert_array_equal(task.images, work.images[task.rows])


def test_strangers_other_classes_and_few_of_one_are_told(tmp_path: Path) -> None:
    i = np.arange(N)
    _, middle = galaxies()
    names = np.array(["around", "middle"])
    change = {
        "subject_id": np.where(i == 71, 7777, i + 100),
        "amateur": np.where(i == 30, "neither", np.where(i < 60, names[middle], None)),
        "expert": np.where((i < 24) & ((middle == 0) | (i < 8)), names[middle], None),
    }
    finish(czsl.run(replace(TINY, epochs=1, folds=9), labelled(tmp_path, change)))
    text = " ".join(found(tmp_path)["caveats"])
    assert "The rarest class has 4 of 16 labels" not in text
    assert "1 labelled subjects are not among this run's" in text
    assert "1 labels by amateurs name classes that no expert has used" in text
    assert "The rarest class has 4 subjects: 4 folds, not 9." in text


I = np.arange(N)  # noqa: E741
NAMES = np.array(["around", "middle"])[I % 2]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"expert": None}, r"none of the 64 subjects that may be learned from has a label by experts"),
        ({"expert": np.where(I >= 52, NAMES, None), "is_test": I >= 52}, "none of the 52 subjects"),
        ({"expert": np.where(I < 24, "middle", None)}, 'experts have only said "middle"'),
        ({"expert": np.where(I < 24, np.where(I == 3, "neither", NAMES), None)}, 'class "neither" has 1 subject'),
    ],
)
def test_labels_that_do_not_do(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    with pytest.raises(ArtifactError, match=match):
        finish(czsl.run(TINY, labelled(tmp_path, change)))


def test_images_that_do_not_do(tmp_path: Path) -> None:
    work = labelled(tmp_path)
    with pytest.raises(ArtifactError, match="the survey has no images to learn from"):
        finish(czsl.run(TINY, replace(work, images=None)))
    with pytest.raises(ArtifactError, match="size 12 is not a multiple of 8"):
        finish(czsl.run(TINY, replace(work, images=work.images[:, :12, :12])))
    with pytest.raises(ArtifactError, match="take a smaller --learning-rate"):
        finish(czsl.run(replace(TINY, learning_rate=1e38, preset="paper"), work))


def test_its_settings() -> None:
    assert KIND.labels == ("expert", "amateur", "votes")
    plan = czsl.plan_of(CzslConfig(preset="paper"))
    assert (plan.folds, plan.seeds, plan.epochs, plan.batch, plan.learning_rate) == (5, 10, 100, 32, 0.01)
    assert czsl.plan_of(CzslConfig(epochs=7)).epochs == 7
    for name, field in CzslConfig.__dataclass_fields__.items():
        for preset, value in field.metadata.get("presets", {}).items():
            assert getattr(czsl.PRESETS[preset], name) == value, (name, preset)
