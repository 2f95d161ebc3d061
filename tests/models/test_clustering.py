"""Deep clustering: its formulas by hand and by slow loops, what a run writes, labels held out, resuming, bad input."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from explorer.kinds.cluster import KIND, ClusterConfig
from models import clustering
from models.artifacts import RUN_JSON, ArtifactError, Run, Workspace, write_scores
from models.clustering import (
    DEC,
    PRESETS,
    Autoencoder,
    Layer,
    Scale,
    Vectors,
    begin_head,
    bic,
    choose_number,
    divergence,
    efforts,
    k_means,
    pixels,
    shuffled,
    soft_assignment,
    take_target,
    target_distribution,
    weights_at,
)
from models.clusters import read_clusters
from models.labels import LABELS, write_labels
from tests.models.networks import PREPROCESSING, blobs, finish

N, GROUPS = 160, 4
TINY: dict[str, Any] = {"layers": "16", "code_size": 3, "epochs": 4, "rounds": 3, "update_every": 4, "batch": 32}
TINY |= {"multitask_epochs": 3, "clusters": 5, "device": "cpu"}


def vectors(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, 6) around `GROUPS` far points, and around which, int64 (n,)."""
    random = np.random.default_rng(seed)
    which = np.arange(n) % GROUPS
    centers = np.array([[8, 0, 0], [0, 8, 0], [0, 0, 8], [-8, -8, -8]], float)
    x = np.concatenate([centers[which], np.zeros((n, 3))], 1) + random.normal(0, 0.5, (n, 6))
    return x.astype(np.float32), which


def score_run(folder: Path, x: np.ndarray, ids: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    none = np.full(len(x), np.nan, np.float32)
    columns = {"subject_id": ids, "split": ["unseen"] * len(x), "image_score": none, "feature_score": none}
    write_scores(folder, x, {**columns, "anomaly_score": none, "quality": ["ok"] * len(x)})
    return folder


def labelled(folder: Path, ids: np.ndarray, names: list[str | None], **more: Any) -> None:
    """Labels by experts: `names` of each, None for none; `is_test`, `classes` and `is_simulated` where they differ."""
    about = {
        "expert": {"source": "column:kind", "words": "column kind", "is_simulated": more.get("is_simulated", False)}
    }
    columns = {"subject_id": ids, "expert": names, "is_test": more.get("is_test", np.zeros(len(ids), bool))}
    columns["duplicate_group"] = more.get("groups", -1 - ids)
    classes = more.get("classes") or sorted({name for name in names if name})
    write_labels(folder, columns, classes, about)


def space(folder: Path, x: np.ndarray | None = None, images: Any = None) -> Workspace:
    x = vectors()[0] if x is None else x
    ids = np.arange(len(x)) + 1000
    scored = score_run(folder / "score", x, ids)
    (folder / "run").mkdir()
    return Workspace(folder / "run", images, ids, {"score": scored}, PREPROCESSING)


def run(workspace: Workspace, **settings: Any) -> dict[str, Any]:
    _, results = finish(clustering.run(ClusterConfig(**{**TINY, **settings}), workspace))
    found: dict[str, Any] = results
    return found


def findings(workspace: Workspace) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workspace.directory / "findings.json").read_bytes())
    return found


# ------------------------------------------------------------------------------------------------------- formulas
def test_q_by_hand():
    code = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    centers = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    # 1 / (1 + 0) and 1 / (1 + 1); 1 / (1 + 9) and 1 / (1 + 4)
    expected = torch.tensor([[2 / 3, 1 / 3], [1 / 3, 2 / 3]])
    torch.testing.assert_close(soft_assignment(code, centers), expected)


def test_p_by_hand():
    q = torch.tensor([[0.9, 0.1], [0.6, 0.4]], dtype=torch.float64)
    first = np.array([0.81 / 1.5, 0.01 / 0.5])
    second = np.array([0.36 / 1.5, 0.16 / 0.5])
    expected = np.stack([first / first.sum(), second / second.sum()])
    np.testing.assert_allclose(target_distribution(q).numpy(), expected)
    assert target_distribution(q)[1, 0] < 0.5  # the large cluster loses its doubtful member


def test_q_p_and_their_divergence_are_those_of_slow_loops():
    random = np.random.default_rng(2)
    z, mu = random.normal(size=(11, 3)), random.normal(size=(4, 3))
    q = np.zeros((11, 4))
    for i in range(11):
        for j in range(4):
            q[i, j] = (1 + ((z[i] - mu[j]) ** 2).sum()) ** -1
        q[i] /= q[i].sum()
    p = np.zeros((11, 4))
    for i in range(11):
        for j in range(4):
            p[i, j] = q[i, j] ** 2 / sum(q[k, j] for k in range(11))
        p[i] /= p[i].sum()
    kl = sum(p[i, j] * math.log(p[i, j] / q[i, j]) for i in range(11) for j in range(4)) / 11
    ours = soft_assignment(torch.from_numpy(z), torch.from_numpy(mu))
    np.testing.assert_allclose(ours.numpy(), q)
    target = target_distribution(ours)
    np.testing.assert_allclose(target.numpy(), p)
    assert divergence(target, ours).item() == pytest.approx(kl)


def test_divergence_of_equal_ones_is_nothing_and_of_a_sure_one_is_its_surprise():
    p = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert divergence(p, p).item() == 0
    assert divergence(p[:1], torch.tensor([[0.25, 0.75]])).item() == pytest.approx(math.log(4))


def test_the_weights_fall_as_the_paper_means_and_stay_as_its_code_does():
    assert [weights_at(t, 4, "falling") for t in (1, 2, 3, 4)] == [(1, 0), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75)]
    assert weights_at(3, 4, "constant") == (1, 0)


def test_bic_by_hand():
    # two clusters of 3 in one dimension, inertia 4: σ² = 4 / (1 · (6 - 2)) = 1
    likelihood = 6 * math.log(0.5) - 3 * math.log(2 * math.pi) - 2
    assert bic(4, np.array([3, 3]), 1) == pytest.approx(likelihood - (2 * 2) / 2 * math.log(6))


def test_the_number_is_that_of_far_groups():
    x, _ = vectors(400)
    assert choose_number(x, 2, 0) == GROUPS
    assert choose_number(x[:50], 7, 0) == 7  # too few for more than what is needed


def test_scales():
    random = np.random.default_rng(0)
    x = (random.normal(size=(500, 3)) * [1, 10, 0] + 5).astype(np.float32)
    each, all_, length = (Scale.of(x, how)(x) for how in ("each", "all", "length"))
    np.testing.assert_allclose(each.std(0), [1, 1, 0], atol=1e-3)
    np.testing.assert_allclose(np.square(all_).mean(), 1, rtol=1e-4)
    np.testing.assert_allclose(all_[:, 1].std() / all_[:, 0].std(), x[:, 1].std() / x[:, 0].std(), rtol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(length, axis=1), math.sqrt(3), rtol=1e-5)
    assert not Scale.of(x, "length")(np.zeros((1, 3), np.float32)).any()


def test_pixels_are_means_over_areas():
    images = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)
    small = pixels(images, 4)
    np.testing.assert_allclose(small[0, 0], np.mean([0, 1, 8, 9]) / 255, rtol=1e-6)
    assert small.shape == (1, 16)
    np.testing.assert_allclose(pixels(images, 0)[0], np.arange(64) / 255, rtol=1e-6)


def test_shuffles_come_whole_one_after_another():
    drawn = shuffled(np.random.default_rng(0), np.array([3, 4, 5]), 8)
    assert sorted(drawn[:3]) == [3, 4, 5] and sorted(drawn[3:6]) == [3, 4, 5] and len(drawn) == 8


def test_the_network_of_the_paper():
    network = Autoencoder(499, [500, 500, 2000], 10)
    assert [tuple(layer.weight.shape) for layer in network.encoder] == [(500, 499), (500, 500), (2000, 500), (10, 2000)]
    assert [tuple(layer.weight.shape) for layer in network.decoder] == [(2000, 10), (500, 2000), (500, 500), (499, 500)]
    preset = PRESETS["paper"]
    assert (preset.clustering.optimizer, preset.clustering.learning_rate, preset.clustering.momentum) == (
        "sgd",
        0.01,
        0.9,
    )
    assert preset.update_every == (140, 140) and preset.is_layerwise and preset.epochs == 400


def test_a_layer_alone_is_rectified_but_at_the_ends():
    network = Autoencoder(4, [5], 2)
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    first, last = Layer(network, 0).eval(), Layer(network, 1).eval()
    torch.testing.assert_close(first(x), network.decoder[1](network.encoder[0](x).relu()))
    h = network.encoder[0](x).relu()
    torch.testing.assert_close(last(h), network.decoder[0](network.encoder[1](h)).relu())
    assert first.there is network.encoder[0] and last.back is network.decoder[0]


def test_the_target_says_who_changed():
    x, _ = vectors()
    network = Autoencoder(6, [8], 3)
    feed = Vectors(x, torch.device("cpu"))
    dec, target = DEC(network, torch.randn(4, 3), N, 2), torch.zeros(N, 4)
    take_target(dec, feed, target)
    assert dec.changed == 1 and dec.round == 1
    torch.testing.assert_close(target.sum(1), torch.ones(N))
    take_target(dec, feed, target)
    assert dec.changed == 0 and dec.round == 2
    dec.assigned[:40] += 1
    take_target(dec, feed, target)
    assert dec.changed == 40 / N


def test_the_head_begins_with_what_clusters_are_called():
    dec = DEC(Autoencoder(6, [8], 3), torch.randn(3, 3), N, 2)
    begin_head(dec, np.array([[90, 10], [80, 30], [0, 0]]))
    shares = dec.head(torch.eye(3)).softmax(1).detach().numpy()
    assert shares[0, 0] == pytest.approx(0.9, abs=0.02)
    assert shares[1].argmax() == 1  # the cluster of most of the minority is the minority's
    assert shares[2, 0] == pytest.approx(171 / 212, abs=0.001)  # nothing is known of it but how many there are of each


# ----------------------------------------------------------------------------------------------------- what it finds
@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any]]:
    """Four far groups, two of one class, one of another, one without labels; a tenth of the labels in the test half."""
    folder = tmp_path_factory.mktemp("cluster")
    x, which = vectors(240)
    x[7] = np.nan
    workspace = space(folder, x, blobs(240, 16))
    ids = workspace.subject_ids
    rows = np.flatnonzero((which < 3) & (np.arange(240) % 5 < 3))
    is_test = np.arange(len(rows)) % 10 == 0
    names = [["smooth", "smooth", "ring"][w] for w in which[rows]]
    # labels of the test half are wrong: who looked at them would be found out
    names = [
        ("ring" if name == "smooth" else "smooth") if test else name for name, test in zip(names, is_test, strict=True)
    ]
    labelled(workspace.directory, ids[rows], names, is_test=is_test)
    settings = {"layers": "32", "epochs": 30, "rounds": 6, "update_every": 10, "multitask_epochs": 6, "clusters": None}
    return workspace, run(workspace, **settings)


def test_far_groups_become_clusters_and_the_unlabelled_one_is_novel(made):
    workspace, results = made
    table, told = read_clusters(workspace.directory)
    _, which = vectors(240)
    of = dict(zip(table.column("subject_id").to_pylist(), table.column("cluster").to_pylist(), strict=True))
    assert 1007 not in of and len(of) == 239
    members = pd.crosstab(which[np.array(list(of)) - 1000], np.array(list(of.values())))
    assert (members.to_numpy() > 0).sum(0).max() == 1  # no cluster mixes two groups
    first = told[0]
    assert first.novelty > 0 and first.n_labelled == 0 and first.label == ""
    assert which[next(i for i, c in of.items() if c == first.cluster) - 1000] == 3
    assert {one.label for one in told if one.n_labelled} == {"smooth", "ring"}
    assert sum(one.n for one in told) == 239
    assert results["purity"] == 1 and results["f1_head"] == 1 and results["f1c"] == 1
    assert results["color"] == "novelty" and results["n_not_scored"] == 1


def test_columns_of_the_map(made):
    workspace, _ = made
    scores = pd.read_parquet(workspace.directory / "scores.parquet")
    table, _ = read_clusters(workspace.directory)
    at = scores.set_index("subject_id").loc[table.column("subject_id").to_pylist()]
    np.testing.assert_array_equal(at["cluster"], table.column("cluster").to_numpy())
    np.testing.assert_array_equal(at["cluster_probability"], table.column("probability").to_numpy())
    lost = scores.set_index("subject_id").loc[1007]
    assert lost["quality"] == "no latent vector" and np.isnan(lost["cluster"]) and np.isnan(lost["novelty"])
    latents = np.load(workspace.directory / "latents.npy")
    assert latents.shape == (240, 3) and np.isnan(latents[7]).all()


def test_labels_of_the_test_half_are_neither_learned_from_nor_counted(made):
    workspace, _ = made
    _, told = read_clusters(workspace.directory)
    table = pd.read_parquet(workspace.directory / "labels.parquet")
    assert sum(one.n_labelled for one in told) == int((~table["is_test"] & (table["subject_id"] != 1007)).sum())
    assert all(k == n for k, n in (one.purity for one in told))  # the wrong ones would have told
    assert any("test half" in words for words in findings(workspace)["caveats"])


def test_findings_judge_every_stage_by_labels_that_were_held_out(made):
    workspace, _ = made
    found = findings(workspace)
    stages = found["tables"][0]
    assert [row[0] for row in stages["rows"]] == ["k-means", "clustering", "multitask", "reclustering"]
    counts = pd.read_parquet(workspace.directory / "labels.parquet")
    n = int((~counts["is_test"]).sum())
    held = int(stages["rows"][0][2].split(" of ")[1].rstrip(")"))
    assert 0.2 * n < held < 0.4 * n and f"by {held} labels" in stages["note"]
    assert "simulated" not in json.dumps(found)
    titles = [table["title"] for table in found["tables"]]
    assert "Clusters, novel ones first" in titles
    assert not any("Effort" in title for title in titles)  # so few do not fill a grid of each cluster
    assert any("fewer than 3 labels: the novel ones come first" in words for words in found["sentences"])


def test_effort_is_told_beside_grids_of_anybody():
    cluster = np.repeat([0, 1], 100)
    told = efforts(cluster, cluster, 0, " (simulated labels)")
    assert "simulated" in told.title
    assert [row[0] for row in told.rows] == ["25, clusters", "25, at random", "36, clusters", "36, at random"]
    assert told.rows[0][1:4] == [200, 8, "100%"] and told.rows[0][4] == "96.0% ± 0.0%"
    assert told.rows[0][5] == "100.0% ± 0.0%"


def test_pictures_show_who_is_nearest_to_each_center(made):
    workspace, _ = made
    lines = len((workspace.directory / "history.jsonl").read_text().splitlines())
    told = json.loads((workspace.directory / "grids" / f"{lines:05d}.json").read_bytes())
    assert told["columns"] <= clustering.SHOWN
    assert told["rows"][0].startswith("cluster ") and "novelty" in told["rows"][0]


def test_a_run_that_was_stopped_ends_in_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("models.fitting.SAVE_EVERY", 0.0)
    _, which = vectors()
    made = {}
    for name, stops in (("whole", ()), ("stopped", (3, 3, 4, 3, 3, 2))):
        workspace = space(tmp_path / name)
        labelled(workspace.directory, workspace.subject_ids[:100], [["a", "b"][w % 2] for w in which[:100]])
        for stop in stops:
            job = clustering.run(ClusterConfig(**TINY), workspace)
            assert all(next(job, None) for _ in range(stop))
            job.close()
        run(workspace)
        names = ["scores.parquet", "latents.npy", "clusters.parquet", "clusters.json", "findings.json"]
        made[name] = {file: (workspace.directory / file).read_bytes() for file in [*names, "checkpoint.safetensors"]}
    assert made["whole"] == made["stopped"]


def test_another_seed_gives_other_clusters_and_the_same_the_same(tmp_path):
    made = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        workspace = space(tmp_path / name)
        run(workspace, seed=seed, clusters=12)
        made.append((workspace.directory / "clusters.parquet").read_bytes())
    assert made[0] == made[1] != made[2]


def test_without_labels_there_are_clusters_and_no_novelty(tmp_path):
    workspace = space(tmp_path)
    results = run(workspace)
    _, told = read_clusters(workspace.directory)
    assert all(one.novelty is None and one.label == "" for one in told)
    assert "novelty" not in pd.read_parquet(workspace.directory / "scores.parquet")
    assert results["color"] == "cluster_probability"
    assert findings(workspace)["caveats"] == [
        "there are no labels: nothing says which clusters are new, or what they hold"
    ]


def test_a_source_that_is_none_is_no_labels(tmp_path):
    workspace = space(tmp_path)
    write_labels(workspace.directory, {"subject_id": []}, [], {})
    run(workspace)
    assert "there are no labels" in findings(workspace)["caveats"][0]


@pytest.mark.parametrize("on", ["images", "latents"])
def test_the_preset_of_the_paper_trains_layer_by_layer(tmp_path, on):
    workspace = space(tmp_path, images=blobs(N, 16))
    run(workspace, preset="paper", on=on, layers="32-32", epochs=3, clusters=3)
    stages = [json.loads(line)["stage"] for line in (workspace.directory / "history.jsonl").read_text().splitlines()]
    assert list(dict.fromkeys(stages)) == ["Layer 1 of 3", "Layer 2 of 3", "Layer 3 of 3", "Autoencoder", "Clustering"]


def test_constant_images_are_in_no_cluster(tmp_path):
    images = blobs(N, 16)
    images[5] = 3
    workspace = space(tmp_path, images=images)
    results = run(workspace, on="images", side=8)
    table, _ = read_clusters(workspace.directory)
    assert 1005 not in table.column("subject_id").to_pylist() and results["n_not_scored"] == 1
    scores = pd.read_parquet(workspace.directory / "scores.parquet")
    assert scores["quality"][5] == "constant image" and np.isnan(scores["anomaly_score"][5])


def test_it_is_fitted_to_a_sample_and_all_that_have_labels(tmp_path):
    workspace = space(tmp_path)
    _, which = vectors()
    labelled(workspace.directory, workspace.subject_ids[-30:], [["a", "b"][w % 2] for w in which[-30:]])
    results = run(workspace, fit_on=50)
    split = pd.read_parquet(workspace.directory / "scores.parquet")["split"]
    assert 50 <= results["n_fit"] < 80 and (split == "train").sum() == results["n_fit"]
    assert (split[-30:] == "train").all()
    assert len(read_clusters(workspace.directory)[0]) == N


def test_simulated_labels_are_called_so_in_every_title_and_sentence(tmp_path):
    workspace = space(tmp_path)
    _, which = vectors()
    labelled(workspace.directory, workspace.subject_ids, [["a", "b"][w % 2] for w in which], is_simulated=True)
    run(workspace)
    found = findings(workspace)
    assert all("simulated" in table["title"] for table in found["tables"])
    assert all("simulated" in sentence for sentence in found["sentences"] if "label" in sentence)


def test_amateurs_stand_in_where_no_expert_said_anything(tmp_path):
    workspace = space(tmp_path)
    _, which = vectors()
    names = [["a", "b"][w % 2] for w in which]
    about = {who: {"source": who, "words": who, "is_simulated": False} for who in ("expert", "amateur")}
    expert = [name if i < 50 else None for i, name in enumerate(names)]
    wrong = [{"a": "b", "b": "a"}[name] if i < 50 else name for i, name in enumerate(names)]
    ids = workspace.subject_ids
    columns = {"subject_id": ids, "expert": expert, "amateur": wrong, "duplicate_group": -1 - ids}
    write_labels(workspace.directory, columns, ["a", "b"], about)
    known = clustering.known_of(ClusterConfig(**TINY), workspace)
    assert [known.classes[code] for code in known.label] == names
    assert "110 of the 160 labels are by amateurs" in known.caveats[0]


def test_labels_are_parted_by_whole_groups(tmp_path):
    workspace = space(tmp_path)
    _, which = vectors()
    groups = np.arange(N) // 4
    labelled(workspace.directory, workspace.subject_ids, [["a", "b"][w % 2] for w in which], groups=groups)
    known = clustering.known_of(ClusterConfig(**TINY), workspace)
    part = known.is_learned + 2 * known.is_stopping + 3 * known.is_judged
    assert set(part) == {1, 2, 3}
    assert all(len(set(part[groups == group])) == 1 for group in range(N // 4))
    assert known.is_judged.mean() == pytest.approx(0.3, abs=0.05)


# ------------------------------------------------------------------------------------------------------- bad input
def test_one_class_alone_makes_clusters_and_a_sentence(tmp_path):
    workspace = space(tmp_path)
    labelled(workspace.directory, workspace.subject_ids[:30], ["ring"] * 30)
    run(workspace)
    assert any('all 30 labels are "ring"' in words for words in findings(workspace)["caveats"])
    assert any(one.novelty is not None for one in read_clusters(workspace.directory)[1])


def test_few_labels_make_clusters_and_a_sentence(tmp_path):
    workspace = space(tmp_path)
    labelled(workspace.directory, workspace.subject_ids[:10], ["ring", "spiral"] * 5)
    run(workspace)
    assert any("10 labels are too few to learn from" in words for words in findings(workspace)["caveats"])


def test_a_class_with_one_member_is_judged_by_none(tmp_path):
    workspace = space(tmp_path)
    labelled(workspace.directory, workspace.subject_ids[:61], ["ring", "spiral"] * 30 + ["lens"])
    run(workspace)
    assert any('class "lens" has 1 label' in words for words in findings(workspace)["caveats"])
    by_class = findings(workspace)["tables"][1]
    assert [row[0] for row in by_class["rows"]] == ["ring", "spiral"]


def test_labels_of_strangers_are_counted(tmp_path):
    workspace = space(tmp_path)
    ids = np.concatenate([workspace.subject_ids[:60], [5, 6]])
    labelled(workspace.directory, ids, ["ring", "spiral"] * 31)
    run(workspace)
    assert "2 labels are of subjects that the run is not of" in findings(workspace)["caveats"]


def test_labels_of_strangers_alone_are_refused(tmp_path):
    workspace = space(tmp_path)
    labelled(workspace.directory, np.array([5, 6]), ["ring", "spiral"])
    with pytest.raises(ArtifactError, match="none of the 2 labelled subjects"):
        run(workspace)


def test_labels_of_the_test_half_alone_are_refused(tmp_path):
    workspace = space(tmp_path)
    labelled(workspace.directory, workspace.subject_ids[:40], ["ring", "spiral"] * 20, is_test=np.ones(40, bool))
    with pytest.raises(ArtifactError, match="no subject outside the test half has a label from column kind"):
        run(workspace)


def test_bad_vectors_get_a_sentence(tmp_path):
    x, _ = vectors()
    with pytest.raises(ArtifactError, match="all 160 vectors are equal"):
        run(space(tmp_path / "equal", np.ones_like(x)))
    with pytest.raises(ArtifactError, match="no subject has a vector"):
        run(space(tmp_path / "none", np.full_like(x, np.nan)))
    with pytest.raises(ArtifactError, match="8 subjects with vectors do not make 5 clusters; take --clusters 2"):
        run(space(tmp_path / "few", x[:8]))
    with pytest.raises(ArtifactError, match="3 subjects have something to cluster"):
        run(space(tmp_path / "fewer", x[:3]))
    with pytest.raises(ArtifactError, match="has no images to cluster"):
        run(space(tmp_path / "images", x), on="images")
    with pytest.raises(ArtifactError, match="are not sizes such as 500-500-2000"):
        run(space(tmp_path / "layers", x), layers="500,x")


def test_fewer_clusters_than_classes_are_refused(tmp_path):
    workspace = space(tmp_path)
    labelled(workspace.directory, workspace.subject_ids[:60], ["ring", "spiral", "lens"] * 20)
    with pytest.raises(ArtifactError, match="2 clusters cannot tell 3 classes apart; take --clusters 3"):
        run(workspace, clusters=2)


def test_a_code_of_one_point_is_said():
    with pytest.raises(ArtifactError, match="fewer than 3 different points"):
        k_means(np.zeros((10, 2), np.float32), 3, 0)


def test_on_images_it_builds_on_no_run():
    assert KIND.set_to(ClusterConfig(on="images")).builds_on == ()
    assert KIND.set_to(ClusterConfig()).needs == ("score",)


def test_vectors_that_learned_from_the_labels_held_out_are_said_to(tmp_path):
    x, which = vectors()
    workspace = space(tmp_path, x)
    names = [f"class {one}" for one in which]
    labelled(workspace.directory, workspace.subject_ids, names)
    table = pq.read_table(workspace.directory / LABELS)
    about = {"expert": {"source": "column:kind", "words": "column kind", "atoms": ["subjects.kind"]}}
    for folder in (workspace.directory, tmp_path / "far"):
        folder.mkdir(exist_ok=True)
        told = {b"voorwerp": json.dumps({"classes": sorted(set(names)), "about": about}).encode()}
        pq.write_table(table.replace_schema_metadata(told), folder / LABELS)
    assert clustering.taught_by(workspace) == ""
    Run("far", "czsl", "1", {}, state="done").write(tmp_path / "far" / RUN_JSON)
    Run("score", "score", "1", {}, state="done", inputs={"score": "far"}).write(tmp_path / "score" / RUN_JSON)
    run(workspace)
    assert any(
        told.startswith("circular: the vectors of score learned from these very labels")
        for told in findings(workspace)["caveats"]
    )
