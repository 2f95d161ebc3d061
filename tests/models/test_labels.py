"""Frozen labels: into the order of the images and back, and folds that keep groups whole."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.artifacts import ArtifactError, Workspace
from models.labels import folds_of, read_labels, write_labels


def workspace(folder: Path, ids: list[int]) -> Workspace:
    return Workspace(folder, None, np.array(ids, np.int64), {}, {})


def test_labels_come_in_the_order_of_the_images(tmp_path):
    columns = {
        "subject_id": [30, 10, 99],
        "expert": ["B", None, "A"],
        "amateur": ["A", "B", "A"],
        "is_found": [True, None, False],
        "n_chosen": [3, None, 1],
        "n_votes": [7, None, 2],
        "is_test": [False, True, False],
        "duplicate_group": [5, 6, 7],
        "fraction_smooth": [0.25, None, 1.0],
    }
    about = {"expert": {"source": "column:kind", "words": "column kind", "is_simulated": True}}
    write_labels(tmp_path, columns, ["A", "B"], about)
    found = read_labels(workspace(tmp_path, [10, 20, 30]))
    assert found.classes == ("A", "B")
    np.testing.assert_array_equal(found.expert, [-1, -1, 1])
    np.testing.assert_array_equal(found.amateur, [1, -1, 0])
    np.testing.assert_array_equal(found.is_found, [np.nan, np.nan, 1])
    np.testing.assert_array_equal(found.n_chosen, [0, 0, 3])
    np.testing.assert_array_equal(found.n_votes, [0, 0, 7])
    np.testing.assert_array_equal(found.is_test, [True, False, False])
    np.testing.assert_array_equal(found.groups, [6, -21, 5])
    np.testing.assert_array_equal(found.fractions, np.array([[np.nan], [np.nan], [0.25]], np.float32))
    assert found.fraction_names == ("smooth",)
    assert found.n_strangers == 1
    assert found.is_simulated
    assert found.words("expert") == "column kind"


def test_labels_of_nobody_here_are_a_sentence(tmp_path):
    columns = {"subject_id": [7, 8], "expert": ["A", "A"], "duplicate_group": [1, 2]}
    write_labels(tmp_path, columns, ["A"], {})
    with pytest.raises(ArtifactError, match="none of the 2 labelled subjects is among those that the run is of"):
        read_labels(workspace(tmp_path, [1, 2]))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), min_size=40, max_size=120), st.integers(0, 5))
def test_a_group_is_in_one_fold(pairs, seed):
    groups, classes = np.array(pairs).T
    if len(np.unique(groups)) < 5:
        return
    folds = folds_of(groups, classes, 5, seed)
    for group in np.unique(groups):
        assert len(np.unique(folds[groups == group])) == 1
    assert set(folds) <= set(range(5))


def test_classes_are_spread_over_folds():
    classes = np.array([0] * 90 + [1] * 10)
    folds = folds_of(np.arange(100), classes, 5, 0)
    np.testing.assert_array_equal(np.bincount(folds[classes == 1]), [2] * 5)
    np.testing.assert_array_equal(np.bincount(folds[classes == 0]), [18] * 5)


def test_fewer_groups_than_folds_is_a_sentence():
    with pytest.raises(ArtifactError, match="3 labelled groups of subjects do not make 5 folds"):
        folds_of(np.array([1, 2, 3, 3]), np.zeros(4), 5, 0)
