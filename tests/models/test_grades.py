"""Grade schemes, and what becomes of a subject by its votes."""

import numpy as np
import pytest

from models.grades import CANNOT_JUDGE, RULES, SCHEMES, Grade, GradeError, Scheme, is_found, values_of

ABCX = SCHEMES["abcx"]


def test_every_scheme_of_ours_survives_the_ledger_and_rejects_by_its_least_grade() -> None:
    for scheme in SCHEMES.values():
        assert Scheme.from_json(scheme.to_json()) == scheme
        assert scheme.reject.value == min(grade.value for grade in scheme.grades) < scheme.positive
    assert np.isnan(ABCX.value(CANNOT_JUDGE))
    assert ABCX.value("A") == 3


def test_rules_of_outcome_by_hand() -> None:
    nan = np.nan
    votes = np.array([[3, 3, 0], [3, 0, 0], [2, nan, nan], [nan, nan, nan], [2, 2, 1]])
    found = {rule: is_found(values_of(votes, rule, ABCX), rule, ABCX).tolist() for rule in RULES}
    assert found == {
        "mean": [True, False, True, False, False],
        "median": [True, False, True, False, True],
        "any": [True, True, True, False, True],
        "majority": [True, False, True, False, True],
    }
    assert values_of(votes, "mean", ABCX)[[0, 1, 2]].tolist() == [2, 1, 2]
    assert np.isnan(values_of(votes, "majority", ABCX)[3])
    assert values_of(votes, "majority", ABCX)[4] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"positive": 9}, "some grades must reach the limit 9"),
        ({"grades": ABCX.grades[:1]}, "a scheme has 2 to 10 grades, not 1"),
        ({"grades": (ABCX.grades[0], ABCX.grades[0])}, "the same key"),
        ({"grades": (Grade("Q", "?", 1, "?"), ABCX.grades[3])}, "'Q' cannot be the key of a grade"),
        ({"grades": (Grade("B", "b", 2, " "), ABCX.grades[3])}, "the definition of grade"),
        ({"level": "ratio"}, "ordinal, interval or nominal"),
        ({"name": ""}, "a scheme needs a name"),
    ],
)
def test_what_is_no_scheme_is_refused(change: dict, sentence: str) -> None:
    told = {"name": ABCX.name, "grades": ABCX.grades, "level": ABCX.level, "positive": ABCX.positive} | change
    with pytest.raises(GradeError, match=sentence):
        Scheme(**told)


def test_what_is_not_written_as_a_scheme_is_refused() -> None:
    with pytest.raises(GradeError, match="this is no scheme of grades"):
        Scheme.from_json({"name": "x"})
    with pytest.raises(GradeError, match='"Z" is no grade of A B C X; there are A, B, C, X'):
        ABCX.grade("Z")
