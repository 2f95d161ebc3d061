"""What is said of clusters: files, labels, novelty, and clicks, against counting by hand and slow loops."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import homogeneity_score

from models.artifacts import ArtifactError
from models.clusters import (
    CLUSTERS,
    CLUSTERS_JSON,
    Cluster,
    by_novelty,
    crosstab,
    distances,
    effort,
    exceptions_of,
    homogeneity,
    label_map,
    nmi,
    novelty,
    purity,
    read_clusters,
    write_clusters,
)

TOLD = [Cluster(1, 2, 1.5, "", 0, (0, 0)), Cluster(0, 1, 0.0, "ring", 1, (1, 1))]


def write(folder: Path) -> None:
    write_clusters(folder, np.array([7, 8, 2**60]), np.array([1, 1, 0]), np.ones(3), np.zeros(3), TOLD)


# ------------------------------------------------------------------------------------------------------ the files
def test_what_is_written_is_read(tmp_path):
    write(tmp_path)
    table, told = read_clusters(tmp_path)
    assert told == TOLD
    assert table.column("subject_id").to_pylist() == [7, 8, 2**60]
    assert [str(field.type) for field in table.schema] == ["int64", "int32", "float", "float"]


def test_a_list_that_is_missing_or_damaged_is_said(tmp_path):
    with pytest.raises(ArtifactError, match=rf"{CLUSTERS} is missing"):
        read_clusters(tmp_path)
    write(tmp_path)
    (tmp_path / CLUSTERS_JSON).write_text('[{"cluster": 1}]')
    with pytest.raises(ArtifactError, match="does not list clusters"):
        read_clusters(tmp_path)
    (tmp_path / CLUSTERS_JSON).unlink()
    with pytest.raises(ArtifactError, match=rf"{CLUSTERS_JSON} is missing"):
        read_clusters(tmp_path)


def test_novel_ones_come_first_then_those_of_which_least_is_labelled():
    made = [
        Cluster(0, 10, 0.0, "a", 5, (0, 0)),
        Cluster(1, 10, 0.0, "a", 4, (0, 0)),
        Cluster(2, 10, 0.3, "", 1, (0, 0)),
        Cluster(3, 10, 1.2, "", 0, (0, 0)),
    ]
    assert [one.cluster for one in by_novelty(made)] == [3, 2, 1, 0]


# --------------------------------------------------------------------------------------------- clusters and labels
def test_novelty_is_in_median_distances_between_centers():
    centers = np.array([[0.0, 0], [3, 4], [6, 8], [0, 10]])
    pairs = sorted(np.hypot(*(a - b)) for i, a in enumerate(centers) for b in centers[i + 1 :])
    unit = (pairs[2] + pairs[3]) / 2
    labelled = np.array([True, False, False, False])
    np.testing.assert_allclose(novelty(centers, labelled), np.array([0, 5, 10, 10]) / unit)
    labelled[3] = True
    np.testing.assert_allclose(novelty(centers, labelled)[2], np.hypot(6, 2) / unit)
    point = np.array([[0.0, 2]])
    np.testing.assert_allclose(novelty(centers, labelled, point), [2 / unit])


def test_without_labels_or_with_equal_centers_nothing_is_novel():
    centers = np.array([[0.0, 0], [1, 1]])
    assert np.isnan(novelty(centers, np.zeros(2, bool))).all()
    assert np.isnan(novelty(np.zeros((3, 2)), np.ones(3, bool))).all()
    assert np.isnan(novelty(centers[:1], np.ones(1, bool))).all()


def test_distances_are_those_of_a_slow_loop():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(7, 3)).astype(np.float32), random.normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(distances(a, b), [[np.linalg.norm(x - y) for y in b] for x in a], rtol=1e-6)


def test_counts_leave_out_who_has_no_label():
    counts = crosstab(np.array([0, 0, 1, 1, 1]), np.array([1, -1, 0, 0, 2]), 3, 3)
    assert counts.tolist() == [[0, 1, 0], [2, 0, 1], [0, 0, 0]]


def test_a_cluster_stands_for_the_class_of_most_of_its_labels():
    assert label_map(np.array([[3, 1], [1, 4], [0, 0]])).tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    ("counts", "meant"),
    [
        ([[9, 1], [8, 3], [7, 0]], [0, 1, 0]),  # the cluster of most minority examples is the minority's
        ([[9, 3], [0, 0]], [0, -1]),  # not the only cluster of the other class
        ([[9, 0], [8, 0]], [0, 0]),  # a class without labels has none
        ([[9, 2, 1], [8, 3, 1], [7, 0, 2]], [0, 1, 2]),  # the rarest chooses first
    ],
)
def test_every_class_has_a_cluster_at_least(counts, meant):
    assert label_map(np.array(counts)).tolist() == meant


def test_purity_counts_the_majority_or_the_class_that_others_say():
    counts = np.array([[3, 1], [1, 4], [0, 0]])
    assert (purity(counts).k, purity(counts).n) == (7, 9)
    told = purity(counts, np.array([0, 0, -1]))
    assert (told.k, told.n) == (4, 9)
    assert purity(np.array([[0, 5]]), np.array([-1])).k == 0  # a cluster that is not called anything calls nobody right
    assert purity(np.zeros((2, 2), int)).value is None


def entropies(label, cluster):
    """Of the class, of the cluster, of the class within clusters, in nats, by counting."""

    def of(codes):
        shares = np.unique(codes, return_counts=True)[1] / len(codes)
        return -(shares * np.log(shares)).sum()

    within = sum((cluster == one).mean() * of(label[cluster == one]) for one in np.unique(cluster))
    return of(label), of(cluster), within


def test_homogeneity_and_nmi_are_those_of_their_definitions():
    random = np.random.default_rng(1)
    label, cluster = random.integers(0, 3, 200), random.integers(0, 5, 200)
    cluster[label == 0] = 1
    of_class, of_cluster, within = entropies(label, cluster)
    assert homogeneity(cluster, label) == pytest.approx(1 - within / of_class)
    assert nmi(cluster, label) == pytest.approx(2 * (of_class - within) / (of_class + of_cluster))
    hidden = np.where(random.random(200) < 0.5, label, -1)
    known = hidden >= 0
    assert homogeneity(cluster, hidden) == pytest.approx(homogeneity_score(label[known], cluster[known]))
    assert homogeneity(label, label) == pytest.approx(1)
    assert np.isnan(homogeneity(cluster, np.zeros(200, int)))
    assert np.isnan(nmi(cluster, np.full(200, -1)))


# --------------------------------------------------------------------------------------------------- effort saved
@pytest.mark.parametrize(
    ("shown", "clicks"),
    [([0] * 25, 0), ([0] * 24 + [1], 1), ([0, 1], 1), ([0, 0, 1, 2], 2), ([0, 1, 2], 2), ([], 0)],
)
def test_exceptions_of_a_grid_are_those_that_are_not_of_its_largest_class(shown, clicks):
    assert exceptions_of(np.array(shown, int)).sum() == clicks


def test_a_pure_cluster_costs_a_key_a_grid_and_no_clicks():
    made = effort(np.repeat([0, 1], [50, 26]), np.repeat([0, 1], [50, 26]))
    assert (made.n, made.n_grids) == (76, 4)
    assert made.published.tolist() == [0] * 5
    assert made.whole.tolist() == [4] * 5
    assert made.pure.tolist() == [1] * 5
    np.testing.assert_allclose(made.saved, 1 - 4 / 76)
    assert made.saved_published.tolist() == [1] * 5


def test_one_grid_costs_its_smaller_class_whatever_the_order():
    label = np.repeat([0, 1], [20, 5])
    made = effort(np.zeros(25, int), label)
    assert made.published.tolist() == [5] * 5
    assert made.whole.tolist() == [6] * 5
    assert made.exceptions.tolist() == label.tolist()


def test_of_more_than_two_classes_an_exception_also_takes_a_key():
    made = effort(np.zeros(25, int), np.repeat([0, 1, 2], [20, 3, 2]))
    assert made.published.tolist() == [5] * 5
    assert made.whole.tolist() == [1 + 2 * 5] * 5


def test_a_short_grid_is_filled_up_only_as_published():
    label = np.array([0, 0, 0, 1])
    made = effort(np.zeros(4, int), label, size=8, trials=200, seed=3)
    assert made.whole.tolist() == [2] * 200
    # four more are drawn of the four: 1 + Binomial(4, 1/4) of the smaller class on average, or fewer of the larger
    k = np.arange(5)
    share = np.array([81, 108, 54, 12, 1]) / 256
    assert made.published.mean() == pytest.approx((np.minimum(1 + k, 7 - k) * share).sum(), abs=0.15)


def test_grids_are_those_of_a_slow_loop():
    random = np.random.default_rng(5)
    cluster, label = random.integers(0, 4, 300), random.integers(0, 2, 300)
    made = effort(cluster, label, size=9, trials=3, seed=8)
    for trial in range(3):
        again, keys = np.random.default_rng([8, trial]), 0
        for one in range(4):
            rows = list(again.permutation(np.flatnonzero(cluster == one)))
            while rows:
                grid, rows = rows[:9], rows[9:]
                keys += 1 + min(sum(label[i] == 0 for i in grid), sum(label[i] == 1 for i in grid))
                if len(grid) < 9:
                    again.choice(np.flatnonzero(cluster == one), 9 - len(grid))
        assert made.whole[trial] == keys


def test_the_same_seed_gives_the_same_clicks_and_another_others():
    random = np.random.default_rng(5)
    cluster, label = random.integers(0, 3, 200), random.integers(0, 2, 200)
    np.testing.assert_array_equal(effort(cluster, label).whole, effort(cluster, label).whole)
    assert (effort(cluster, label, seed=1).whole != effort(cluster, label, seed=2).whole).any()


def test_sorted_subjects_make_purer_grids():
    label = np.tile([0, 1], 100)
    made = effort(np.zeros(200, int), label, near=label.astype(float))
    assert made.published.tolist() == [0] * 5


def test_who_has_no_class_cannot_be_labelled():
    with pytest.raises(ArtifactError, match="every subject must have one of each"):
        effort(np.zeros(2, int), np.array([0, -1]))
    with pytest.raises(ArtifactError, match="3 clusters"):
        effort(np.zeros(3, int), np.array([0, 1]))
    with pytest.raises(ArtifactError, match="0 clusters"):
        effort(np.zeros(0, int), np.zeros(0, int))
