"""The network of votes: its layers and loss, what a run says and refuses, that a kill changes nothing, and the loop."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from explorer.kinds.bayes import KIND, BayesConfig
from models import bayesian
from models.acquisition import bald
from models.artifacts import ArtifactError, Workspace, read_latents
from models.bayesian import PRESETS, Settings, VoteNetwork, seen, settings_of, simulate_loop, vote_loss
from models.findings import read_findings
from models.fitting import Recipe, network_of
from models.labels import write_labels
from models.steps import Feed
from tests.models.networks import PREPROCESSING, finish

CPU = torch.device("cpu")
TINY = BayesConfig(epochs=4, width=4, dense=8, samples=5, folds=2, batch=16, learning_rate=5e-3)
PAPER = BayesConfig(preset="paper", size=16, epochs=2, width=4, dense=8, batch=16, folds=0)


def voted(n: int = 60, seed: int = 0, size: int = 16) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise of different brightness: the brighter, the more of its votes. Images, k and n."""
    random = np.random.default_rng(seed)
    light = random.random(n)
    images = light[:, None, None, None] * 150 + random.integers(0, 60, (n, size, size, 3))
    n_votes = random.integers(20, 41, n)
    return images.astype(np.uint8), random.binomial(n_votes, 0.05 + 0.9 * light), n_votes


def workspace(folder: Path, images: np.ndarray, k: Any, n: Any, is_simulated: bool = False, **more: Any) -> Workspace:
    """A run that was started on these votes; the last fifth is the test half."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = np.arange(len(images)) + 100
    is_test = np.arange(len(images)) >= len(images) * 4 // 5
    columns = {"subject_id": ids, "n_chosen": k, "n_votes": n, "is_test": is_test, "duplicate_group": ids, **more}
    told = {"votes": {"source": "votes", "words": "question T0", "is_simulated": is_simulated}}
    write_labels(folder, columns, [], told)
    return Workspace(folder, images, ids, {}, PREPROCESSING)


def run(folder: Path, config: BayesConfig = TINY, **more: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    _, results = finish(bayesian.run(config, workspace(folder, *voted(), **more)))
    return pd.read_parquet(folder / "scores.parquet"), results


# ---------------------------------------------------------------------------------------------------- layers and loss
def test_the_papers_layers():
    settings = settings_of(BayesConfig(preset="paper"), 64, np.array([40]))
    model = VoteNetwork(3, settings)
    shapes = [tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")]
    assert shapes == [
        (32, 1, 3, 3),
        (32, 32, 3, 3),
        (64, 32, 3, 3),
        (64, 64, 3, 3),
        (128, 64, 3, 3),
        (128, 128, 3, 3),
        (128, 8 * 8 * 128),
        (2, 128),
    ]
    assert model.body(torch.zeros(2, 1, 128, 128)).shape == (2, 8 * 8 * 128)
    assert [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)] == [0.5]
    assert not [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    recipe = settings.recipe
    assert (recipe.optimizer, recipe.learning_rate, recipe.batch, recipe.epochs) == ("adam", 1e-3, 256, 125)
    assert (settings.steps, settings.samples, settings.expected_votes) == (15, 15, 40)
    assert (recipe.patience, recipe.is_annealed, recipe.is_turned, recipe.weight_decay) == (0, False, False, 0)


def test_the_form_says_what_the_presets_are():
    fields = {f.name: f.metadata for f in KIND.config.__dataclass_fields__.values()}
    for preset, values in PRESETS.items():
        for name, value in values.items():
            if value is not None:
                assert fields[name]["presets"][preset] == value


def test_the_loss_by_hand():
    rho, k, n = torch.tensor([0.25, 0.5]), torch.tensor([3.0, 0.0]), torch.tensor([4.0, 2.0])
    expected = (-(3 * math.log(0.25) + math.log(0.75)) - 2 * math.log(0.5)) / 2
    assert vote_loss(rho, k, n).item() == pytest.approx(expected, rel=1e-6)
    sure = vote_loss(torch.tensor([0.0]), torch.tensor([2.0]), torch.tensor([2.0]))
    assert sure.item() == pytest.approx(-2 * math.log(1e-8), rel=1e-5)
    # it is least at k / n
    of = [vote_loss(torch.tensor([r]), torch.tensor([3.0]), torch.tensor([4.0])).item() for r in (0.7, 0.75, 0.8)]
    assert of[1] < min(of[0], of[2])


@pytest.mark.parametrize("preset", ["modern", "paper"])
def test_samples_are_those_of_the_network_with_dropout_on(preset):
    config = BayesConfig(preset=preset, size=16, width=4, dense=8, samples=400)
    network = network_of(3, lambda: VoteNetwork(3, settings_of(config, 16, np.array([9]))), CPU)
    images, _, _ = voted(6)
    feed, rows = Feed(images, CPU), np.arange(6)
    rho = bayesian.posterior(network, feed, rows, rows, 1)
    assert rho.shape == (6, 400)
    torch.manual_seed(0)
    network.eval()
    network.dropout.train()
    with torch.no_grad():
        theirs = torch.stack([network(feed[rows]) for _ in range(400)], 1).numpy()
    spread = theirs.std(1)
    assert (spread > 0).all()
    assert (np.abs(rho.mean(1) - theirs.mean(1)) < 5 * spread * math.sqrt(2 / 400)).all()
    np.testing.assert_allclose(rho.std(1), spread, rtol=0.25)


def test_the_papers_eye():
    settings = settings_of(PAPER, 40, np.array([40]))
    x = torch.from_numpy(voted(5, size=40)[0] / 255).float().permute(0, 3, 1, 2)
    plain = seen(x, settings, is_varied=False)
    assert plain.shape == (5, 1, 16, 16)
    assert torch.equal(plain, seen(x, settings, is_varied=False))
    torch.manual_seed(1)
    varied = seen(x, settings, is_varied=True)
    assert not torch.allclose(varied[0], plain[0], atol=1e-3)
    np.testing.assert_allclose(varied.mean((1, 2, 3)), plain.mean((1, 2, 3)), atol=0.08)  # brightness ± .05
    # zoom 1.2: of a crop of 96, what lies within the central 80 is seen, and nothing else
    frame = torch.zeros(1, 1, 96, 96)
    frame[..., 10:86, 10:86] = 1
    inner = seen(frame, replace(settings, size=80), is_varied=False)
    assert inner[..., 4:-4, 4:-4].min() == 1 and inner[..., 0, 0].max() == 0
    assert inner.mean().item() == pytest.approx(76**2 / 80**2, rel=0.01)


# ------------------------------------------------------------------------------------------------------------ a run
def test_what_a_run_leaves(tmp_path):
    found, results = run(tmp_path, replace(TINY, epochs=25))
    assert list(found.columns[-3:]) == ["predicted_fraction", "predicted_spread", "acquisition"]
    np.testing.assert_array_equal(found["anomaly_score"], found["acquisition"])
    assert found["predicted_fraction"].between(0, 1).all() and (found["predicted_spread"] >= 0).all()
    assert read_latents(tmp_path).shape == (60, 8)
    # the acquisition is BALD of the samples of the latents
    images, k, n = voted()
    assert results["expected_votes"] == round(float(np.median(n[:48])))
    network = VoteNetwork(3, settings_of(TINY, 16, n[:48]))
    from safetensors.torch import load_file

    network.load_state_dict(load_file(tmp_path / "checkpoint.safetensors"))
    rho = bayesian.posterior(network.eval(), Feed(images, CPU), np.arange(60), np.arange(60), TINY.seed)
    np.testing.assert_allclose(found["acquisition"], bald(rho, results["expected_votes"]), rtol=1e-3, atol=1e-5)
    # it has learned, and says so
    assert np.corrcoef(found["predicted_fraction"][48:], (k / n)[48:])[0, 1] > 0.8
    assert results["rmse"] < results["constant_rmse"] and results["n_out_of_fold"] == 48
    assert found["split"][48:].eq("unseen").all() and found["split"][:48].isin(["train", "validation"]).all()
    told = read_findings(tmp_path)
    assert "better than a constant rate" in told["sentences"][0]
    assert "of 48 subjects" in told["sentences"][1]
    assert "whole numbers, so a 90 % interval holds at least 90 %, by the model" in told["sentences"][1]
    assert "48 subjects with votes of the tune half (question T0); 12 of the test half" in " ".join(told["caveats"])
    assert "simulated" not in json.dumps(told)
    assert [curve["has_diagonal"] for curve in told["curves"]] == [True, True]
    assert len(told["tables"][1]["rows"]) == 11
    picture = sorted((tmp_path / "grids").glob("*.json"))[-1]
    words = json.loads(picture.read_text())["rows"]
    assert len(words) == 5 and "teach most" in words[0] and "teach least" in words[1] and "too low" in words[4]
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert {line["stage"] for line in history} == {"fold 1 of 2", "fold 2 of 2", "all votes"}


@pytest.mark.parametrize(("config", "after"), [(TINY, 4), (TINY, 9), (PAPER, 3)])
def test_a_run_that_was_stopped_ends_in_the_same_bytes(tmp_path, monkeypatch, config, after):
    monkeypatch.setattr("models.fitting.SAVE_EVERY", 0.0)
    _, results = run(tmp_path / "whole", config)
    job = bayesian.run(config, workspace(tmp_path / "cut", *voted()))
    for _ in range(after):
        next(job)
    job.close()
    _, again = run(tmp_path / "cut", config)
    assert again == results
    for name in ("scores.parquet", "latents.npy", "checkpoint.safetensors", "findings.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    pictures = [sorted(path.name for path in (tmp_path / name / "grids").iterdir()) for name in ("cut", "whole")]
    assert pictures[0] == pictures[1]


def test_shards_change_nothing(tmp_path, monkeypatch):
    first, _ = run(tmp_path / "a")
    monkeypatch.setattr("models.describing.SHARD", 7)
    again, _ = run(tmp_path / "b")
    for name in ("predicted_fraction", "predicted_spread", "acquisition"):
        np.testing.assert_allclose(first[name], again[name], rtol=1e-4, atol=1e-6)  # convolutions round by batch


def test_the_test_half_teaches_nothing(tmp_path):
    images, k, n = voted()
    other = np.where(np.arange(60) >= 48, n - k, k)
    for name, votes in (("a", k), ("b", other)):
        finish(bayesian.run(TINY, workspace(tmp_path / name, images, votes, n)))
    for name in ("scores.parquet", "findings.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_simulated_votes_are_called_so(tmp_path):
    run(tmp_path, is_simulated=True)
    told = read_findings(tmp_path)
    assert all("simulated" in sentence for sentence in told["sentences"])
    assert all("simulated" in part["title"] for part in (*told["tables"], *told["curves"]))
    assert "simulated" in told["caveats"][0]


def test_a_constant_image_has_no_score(tmp_path):
    images, k, n = voted()
    images[5] = 9
    finish(bayesian.run(TINY, workspace(tmp_path, images, k, n)))
    found = pd.read_parquet(tmp_path / "scores.parquet")
    assert found["quality"][5] == "constant image" and found["split"][5] == "unseen"
    assert found.loc[5, ["acquisition", "predicted_fraction", "anomaly_score"]].isna().all()


def test_too_few_for_folds_is_told(tmp_path):
    images, k, n = voted()
    k, n = np.where(np.arange(60) < 3, k, 0), np.where(np.arange(60) < 3, n, 0)
    _, results = finish(bayesian.run(TINY, workspace(tmp_path, images, k, n)))
    assert "rmse" not in results and results["n_voted"] == 3
    assert any("No calibration: there are too few" in told for told in read_findings(tmp_path)["caveats"])


# -------------------------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda k, n: (k * 0, n * 0), "no subject of this run has votes to learn from; take in classifications"),
        (lambda k, n: (k * 0, n), r"all 48 subjects with votes have the same fraction, 0: there is nothing"),
        (lambda k, n: (n / 2, n), r"all 48 subjects with votes have the same fraction, 0\.5: there is nothing"),
        (lambda k, n: (n + 1, n), r"subject 100 was chosen by \d+ of \d+, which cannot be"),
        (lambda k, n: (np.where(np.arange(60) >= 47, k, 0), np.where(np.arange(60) >= 47, n, 0)), "1 of the 13 subj"),
    ],
)
def test_votes_that_teach_nothing_are_a_sentence(tmp_path, change, sentence):
    images, k, n = voted()
    with pytest.raises(ArtifactError, match=sentence):
        finish(bayesian.run(TINY, workspace(tmp_path, images, *change(k, n))))


def test_other_sizes_and_missing_images_are_a_sentence(tmp_path):
    with pytest.raises(ArtifactError, match=r"halves the image 4 times, and 12 px is no multiple of 16"):
        finish(bayesian.run(TINY, workspace(tmp_path, *voted(size=12))))
    with pytest.raises(ArtifactError, match=r"40 px is no multiple of 16"):
        finish(bayesian.run(replace(TINY, size=40), workspace(tmp_path, *voted())))
    with pytest.raises(ArtifactError, match="the survey has no images"):
        finish(bayesian.run(TINY, replace(workspace(tmp_path, *voted()), images=None)))


# --------------------------------------------------------------------------------------------------- the paper's loop
PATTERNS = np.array([0.03, 0.97, 0.1, 0.9, 0.2, 0.8])


def toy(n: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Most images are empty and their votes a coin's; the others are a bar, whose place is the fraction."""
    random = np.random.default_rng(seed)
    is_bar, which = random.random(n) < share, random.integers(0, 6, n)
    images = random.integers(0, 30, (n, 16, 16, 1))
    for i in np.flatnonzero(is_bar):
        at = 1 + 5 * (which[i] % 3)
        line = images[i, at : at + 3] if which[i] < 3 else images[i, :, at : at + 3]
        line += 180
    return images.astype(np.uint8), random.binomial(40, np.where(is_bar, PATTERNS[which], 0.5)), is_bar


LOOP = Settings("modern", 16, 4, 16, 0.5, 20, 40, Recipe(1, 32, 5e-3, is_annealed=True), 60, 0)


def loops(folder: Path, seed: int, how: str, turns: int = 3, is_warm: bool = False) -> tuple[list[Any], np.ndarray]:
    (images, k, is_bar), (others, of_others, _) = toy(600, 0.06, seed), toy(200, 1, seed + 1000)
    feed, k = Feed(np.concatenate([images, others]), CPU), np.concatenate([k, of_others])
    n, settings = np.full(800, 40), replace(LOOP, seed=seed)
    made = simulate_loop(
        feed, k, n, np.arange(600), np.arange(600, 800), how, settings, folder, 20, 12, turns, is_warm=is_warm
    )
    return list(made), is_bar


def test_bald_beats_random_where_few_images_have_anything_to_teach(tmp_path):
    gain = []
    for seed in range(2):
        ours, is_bar = loops(tmp_path / f"bald{seed}", seed, "bald", 2)
        theirs, _ = loops(tmp_path / f"random{seed}", seed, "random", 2)
        assert ours[0].rmse == theirs[0].rmse  # they begin alike
        assert [len(step.labels) for step in ours] == [len(step.labels) for step in theirs] == [20, 32, 44]
        assert len(np.unique(ours[-1].labels)) == 44
        asked, drawn = (is_bar[steps[-1].labels[20:]].mean() for steps in (ours, theirs))
        assert asked > 3 * drawn  # coins are noise, not ignorance: it does not ask for them
        gain.append(theirs[-1].log_loss - ours[-1].log_loss)
    assert sum(gain) > 0, gain


def test_a_loop_that_was_stopped_goes_on_and_a_warm_one_keeps_its_weights(tmp_path):
    whole, _ = loops(tmp_path / "whole", 1, "bald", 1)
    first = loops(tmp_path / "cut", 1, "bald", 0)[0]
    rest, _ = loops(tmp_path / "cut", 1, "bald", 1)
    assert [step.log_loss for step in rest] == [step.log_loss for step in whole]
    np.testing.assert_array_equal(rest[1].labels, whole[1].labels)
    assert first[0].log_loss == whole[0].log_loss
    warm, _ = loops(tmp_path / "warm", 1, "bald", 1, is_warm=True)
    assert warm[0].log_loss == whole[0].log_loss and warm[1].log_loss != whole[1].log_loss


def test_a_loop_needs_a_pool(tmp_path):
    feed, k = Feed(np.zeros((30, 16, 16, 1), np.uint8), CPU), np.arange(30) % 5
    n = np.full(30, 9)
    with pytest.raises(ArtifactError, match="asks for 30 subjects, and the pool has 20"):
        next(simulate_loop(feed, k, n, np.arange(20), np.arange(20, 30), "bald", LOOP, tmp_path, 10, 10, 2))
    with pytest.raises(ArtifactError, match="of the evaluation are in the pool"):
        next(simulate_loop(feed, k, n, np.arange(20), np.arange(19, 30), "bald", LOOP, tmp_path, 10, 5, 2))
