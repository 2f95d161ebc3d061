"""A truth says what it is, goes through JSON and back, and refuses what does not go together, in a sentence."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.truth import Truth, TruthError

NAMES = st.text(min_size=1, max_size=20)
REFERENCES = st.builds(lambda table, name: f"{table}.{name}", st.sampled_from(["subjects", "scores", "maps"]), NAMES)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
KINDS = st.sampled_from(["", "complete", "positives_only", "verified"])
LIMITS = st.none() | st.integers(1, 1000)


@st.composite
def truths(draw):
    what = draw(st.sampled_from(["column", "product", "category", "talk", "tag"]))
    told = {"what": what, "kind": draw(KINDS)}
    told["column"] = draw(REFERENCES if what in ("column", "product", "category") else NAMES)
    if what == "product":
        told["by"] = draw(REFERENCES)
    if what in ("column", "product"):
        told |= {"at_least": draw(NUMBERS), "is_soft": draw(st.booleans()), "limit": draw(LIMITS)}
    if what == "category":
        told["labels"] = tuple(draw(st.lists(NAMES, min_size=1, max_size=4)))
    return Truth(**told)


@given(truths())
def test_any_truth_comes_back_from_json_as_it_was(truth):
    again = Truth.from_json(json.loads(json.dumps(truth.to_json(), allow_nan=False)))
    assert again == truth
    assert hash(again) == hash(truth)


def test_json_says_only_what_is_not_the_default():
    assert Truth("column", "subjects.chosen_fraction", at_least=0).to_json() == {
        "what": "column",
        "column": "subjects.chosen_fraction",
        "at_least": 0.0,
    }
    assert Truth("talk", "merger", kind="complete").to_json() == {
        "what": "talk",
        "column": "merger",
        "kind": "complete",
    }


def test_references_are_the_columns_that_are_read():
    product = Truth("product", "subjects.chosen_fraction", "scores.feature_score", 1.5)
    assert product.references == ("subjects.chosen_fraction", "scores.feature_score")
    assert product.has_threshold
    assert Truth("tag", "merger").references == ()
    assert not Truth("category", "subjects.kind", labels=("merger",)).has_threshold


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"what": "votes", "column": "subjects.x"}, r"what is one of column, .*; found 'votes'"),
        ({"what": "column", "column": "subjects.x"}, "at_least is a finite number; found None"),
        ({"what": "column", "column": "subjects.x", "at_least": float("nan")}, "at_least is a finite number"),
        ({"what": "column", "column": "subjects.x", "at_least": True}, "at_least is a finite number; found True"),
        ({"what": "column", "column": "x", "at_least": 1}, "column is a column as TABLE.NAME"),
        ({"what": "column", "column": "", "at_least": 1}, "column is missing"),
        ({"what": "column", "column": 5, "at_least": 1}, "column is a text"),
        ({"what": "product", "column": "subjects.x", "at_least": 1}, "by is the second column of a product"),
        ({"what": "product", "column": "subjects.x", "by": "y", "at_least": 1}, "by is a column as TABLE.NAME"),
        ({"what": "column", "column": "subjects.x", "by": "subjects.y", "at_least": 1}, "second column of a product"),
        ({"what": "category", "column": "subjects.x"}, "labels are what counts of a category"),
        ({"what": "category", "column": "subjects.x", "labels": "spiral"}, "labels is a list of texts"),
        ({"what": "category", "column": "subjects.x", "labels": [1]}, "labels is a list of texts"),
        ({"what": "tag", "column": "merger", "at_least": 1}, "at_least does not belong to a tag"),
        ({"what": "tag", "column": "merger", "is_soft": True}, "is_soft does not belong to a tag"),
        ({"what": "tag", "column": "merger", "limit": 10}, "limit does not belong to a tag"),
        ({"what": "column", "column": "subjects.x", "at_least": 1, "limit": 0}, "limit is a number of votes"),
        ({"what": "column", "column": "subjects.x", "at_least": 1, "limit": True}, "limit is a number of votes"),
        ({"what": "column", "column": "subjects.x", "at_least": 1, "is_soft": 1}, "is_soft is true or false"),
        ({"what": "tag", "column": "merger", "kind": "gold"}, r"kind is one of complete, .*found 'gold'"),
        ({"what": "tag", "column": "merger", "sigma": 1}, "'sigma' is no entry of a truth"),
        ({"column": "merger"}, "what is missing"),
        (["tag", "merger"], "a truth is an object"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(told, match):
    with pytest.raises(TruthError, match=match) as caught:
        Truth.from_json(told)
    assert "\n" not in str(caught.value)
