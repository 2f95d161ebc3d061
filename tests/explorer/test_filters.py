"""The language of filters: against DuckDB's SQL on random tables, its own text, and what it says of nonsense."""

import re
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services.explore import Explore
from explorer.services.filters import (
    MAX_LENGTH,
    MAX_NESTING,
    Columns,
    FilterError,
    columns_of,
    complete,
    parse,
    reader,
)
from explorer.survey import Survey
from tests.explorer.small_survey import write_survey

SHAPES = ["odd one", "ring", "spiral", 'the "eye"', "true"]
LABELS = {"subjects.shape": SHAPES, "scores.split": ["train", "unseen"]}
COLUMNS = Columns(
    {
        "scores.anomaly_score": "number",
        "scores.feature_score": "number",
        "scores.image_score": "number",
        "scores.split": "category",
        "subjects.feature_score": "number",
        "subjects.ra": "number",
        "subjects.magnitude": "number",
        "subjects.my column": "number",
        "subjects.u.mag": "number",
        "subjects.shape": "category",
        "subjects.source_id": "id",
        "subjects.note": "text",
        "subjects.is_known": "truth",
        "maps.is_off_map": "truth",
        "maps.knn_percentile": "number",
    },
    labels=lambda reference: LABELS.get(reference, []),
    selections=("Rings", 'a "b"'),
)

N = 60


def table(seed: int, n: int = N) -> dict[str, Any]:
    """Columns by reference as `Read` gives them: many ties, a third missing."""
    rng = np.random.default_rng(seed)

    def gappy(values: np.ndarray) -> np.ndarray:
        return np.where(rng.random(n) < 0.3, np.nan, values)

    found: dict[str, Any] = {
        reference: gappy(rng.integers(-2, 4, n).astype(float))
        for reference, kind in COLUMNS.kinds.items()
        if kind == "number"
    }
    for reference, kind in COLUMNS.kinds.items():
        if kind == "truth":
            found[reference] = gappy(rng.integers(0, 2, n).astype(float))
        if kind in ("text", "id"):
            texts = rng.choice(["", "a", "Ab", "58771", "b_%", "5877"], n)
            found[reference] = pa.array([t if rng.random() > 0.3 else None for t in texts], pa.string())
        if kind == "category":
            labels = LABELS[reference]
            found[reference] = rng.integers(-1, len(labels), n).astype(np.int32), labels
    for name in COLUMNS.selections:
        found[f"selection:{name}"] = rng.random(n) < 0.5
    return found


def in_duckdb(columns: dict[str, Any], where: str) -> list[int]:
    """The rows that SQL keeps; ``row`` is their number and a column is called by its reference."""

    def arrow(reference: str, values: Any) -> pa.Array:
        if isinstance(values, tuple):
            return pa.array([values[1][code] if code >= 0 else None for code in values[0]], pa.string())
        if isinstance(values, np.ndarray) and COLUMNS.kinds.get(reference) == "truth":
            return pa.array([None if v != v else bool(v) for v in values], pa.bool_())
        return pa.array(values, from_pandas=True) if isinstance(values, np.ndarray) else values

    rows = pa.table({"row": np.arange(N)} | {r: arrow(r, v) for r, v in columns.items()})
    connection = duckdb.connect()
    connection.register("subjects", rows)
    with closing(connection):
        return [row for (row,) in connection.execute(f'select "row" from subjects where {where} order by 1').fetchall()]


def quoted(text: str, quote: str = '"') -> str:
    return quote + text.replace(quote, quote * 2) + quote


# what a person writes, and the same in SQL
NUMBERS = [r for r, kind in COLUMNS.kinds.items() if kind == "number"]
number_columns = st.sampled_from(NUMBERS).map(lambda r: (f"{r.split('.')[0]}.{quoted(r.split('.', 1)[1])}", quoted(r)))
constants = st.integers(-3, 4).map(lambda v: (str(v), f"({v}.0)"))
numbers = st.recursive(
    number_columns,
    lambda inner: (
        st.tuples(inner, st.sampled_from("+-*/"), inner | constants).map(
            lambda t: (f"({t[0][0]} {t[1]} {t[2][0]})", f"({t[0][1]} {t[1]} {_divisor(t[1], t[2][1])})")
        )
        | inner.map(lambda t: (f"-{t[0]}", f"(-{t[1]})"))
    ),
    max_leaves=4,
)


def _divisor(sign: str, sql: str) -> str:
    return f"nullif({sql}, 0)" if sign == "/" else sql


def _member(r: str, texts: list[str], negated: bool) -> tuple[str, str]:
    word = "not in" if negated else "in"
    ours = f"{r.split('.')[1]} {word} ({', '.join(map(quoted, texts))})"
    return ours, f"({quoted(r)} {word} ({', '.join(quoted(t, chr(39)) for t in texts)}))"


compared = st.tuples(numbers, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), numbers | constants).map(
    lambda t: (f"{t[0][0]} {t[1]} {t[2][0]}", f"({t[0][1]} {t[1]} {t[2][1]})")
)
between = st.tuples(numbers, st.sampled_from(["", "not "]), constants, numbers | constants).map(
    lambda t: (f"{t[0][0]} {t[1]}between {t[2][0]} and {t[3][0]}",
               f"({t[0][1]} {t[1]}between {t[2][1]} and {t[3][1]})")
)  # fmt: skip
among = st.tuples(number_columns, st.sampled_from(["", "not "]), st.lists(constants, min_size=1, max_size=3)).map(
    lambda t: (f"{t[0][0]} {t[1]}in ({', '.join(c[0] for c in t[2])})",
               f"({t[0][1]} {t[1]}in ({', '.join(c[1] for c in t[2])}))")
)  # fmt: skip
members = st.one_of(
    st.builds(_member, st.just(r), st.lists(st.sampled_from(texts), min_size=1, max_size=3), st.booleans())
    for r, texts in (LABELS | {"subjects.source_id": ["5877", "Ab"], "subjects.note": ["", "b_%"]}).items()
)
contains = st.tuples(
    st.sampled_from(["subjects.shape", "subjects.source_id", "subjects.note"]), st.sampled_from(["5877", "A", "_", "I"])
).map(lambda t: (f'{t[0]} ~ "{t[1]}"', f"contains(lower({quoted(t[0])}), lower('{t[1]}'))"))
missing = st.tuples(
    st.sampled_from([r for r in COLUMNS.kinds if r not in NUMBERS]).map(lambda r: (r, quoted(r))) | numbers,
    st.sampled_from(["", "not "]),
).map(lambda t: (f"{t[0][0]} is {t[1]}missing", f"({t[0][1]} is {t[1]}null)"))
truths = st.sampled_from(["subjects.is_known", "maps.is_off_map"]).map(lambda r: (r, quoted(r)))
kept = st.sampled_from(COLUMNS.selections).map(lambda n: (f"selection({quoted(n)})", quoted(f"selection:{n}")))
conditions = st.recursive(
    st.one_of(compared, between, among, members, contains, missing, truths, kept),
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(
            lambda t: (f"({t[0][0]}) {t[1]} ({t[2][0]})", f"({t[0][1]} {t[1]} {t[2][1]})")
        )
        | inner.map(lambda t: (f"not ({t[0]})", f"(not {t[1]})"))
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(conditions, st.integers(0, 20))
def test_a_filter_keeps_the_rows_that_sql_keeps_and_its_own_text_means_the_same(condition: tuple[str, str], seed: int):
    ours, sql = condition
    columns = table(seed)
    found = parse(ours, COLUMNS)
    assert np.flatnonzero(found.rows(columns.__getitem__)).tolist() == in_duckdb(columns, sql)
    again = parse(found.text, COLUMNS)
    assert again == found and again.text == found.text and set(again.references) == set(found.references)


@pytest.mark.parametrize("text", ["magnitude > 1", "magnitude = 1", "magnitude in (1, 2)", "magnitude / ra > 1",
                                  "magnitude between 0 and ra", 'note ~ "a"', "shape = ring", "is_known",
                                  "magnitude > 50%"])  # fmt: skip
def test_a_condition_and_its_opposite_both_leave_out_what_is_missing(text: str):
    columns = table(3)
    yes, no = (parse(t, COLUMNS).rows(columns.__getitem__) for t in (text, f"not ({text})"))
    assert yes.dtype == no.dtype == np.bool_ and yes.shape == (N,)
    assert not (yes & no).any() and not (yes | no).all() and yes.any() and no.any()


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("feature_score > 99%", "feature_score > 99%"),
        ("anomaly_score >= 12.5 AND not is_known", "anomaly_score >= 12.5 and not is_known"),
        ("ra between 150 and 151", "ra between 150 and 151"),
        ("shape in (spiral, 'odd one')", 'shape in (spiral, "odd one")'),
        ("Shape==SPIRAL", "shape = spiral"),
        ("shape <> spiral", "shape != spiral"),
        ("not shape in (ring)", "shape != ring"),
        ("magnitude is null", "magnitude is missing"),
        ("not magnitude is missing", "magnitude is not missing"),
        ("source_id ~ 5877", 'source_id ~ "5877"'),
        ("source_id = 588848901523702001", 'source_id = "588848901523702001"'),
        ("split = unseen", "split = unseen"),
        ("knn_percentile > 99", "knn_percentile > 99"),
        ("image_score / feature_score > 2", "image_score / feature_score > 2"),
        ("off_map", "is_off_map"),
        ("is_known = false", "not is_known"),
        ("is_known != no", "is_known"),
        ('"my column" > 3', '"my column" > 3'),
        ("u.mag > 3", '"u.mag" > 3'),
        ("scores.feature_score > subjects.feature_score", "feature_score > subjects.feature_score"),
        ('subjects."feature_score" > 1e3', "subjects.feature_score > 1000"),
        ("shape = true", 'shape = "true"'),
        ('shape = "the ""eye"""', 'shape = "the ""eye"""'),
        ("selection('Rings')", 'selection("Rings")'),
        ("((ra > 3)) and (ra < 4 and (is_known or off_map))", "ra > 3 and ra < 4 and (is_known or is_off_map)"),
        ("not not ra > - -3", "not not ra > --3"),
        ("99% <= ra", "99% <= ra"),
        ("-(ra+2)*3/(ra*2) - (1-ra) < -4", "-(ra + 2) * 3 / (ra * 2) - (1 - ra) < -4"),
    ],
)
def test_what_people_write_has_one_form(text: str, canonical: str):
    found = parse(text, COLUMNS)
    assert found.text == str(found) == canonical
    assert parse(canonical, COLUMNS) == found


@pytest.mark.parametrize(
    ("text", "start", "said"),
    [
        ("", 0, "the filter ends where a condition, such as feature_score > 99%, is expected"),
        ("featur_score > 3", 0, 'no column is called "featur_score"; did you mean "feature_score"?'),
        ("ra > 3 and zzz > 3", 11, 'no column is called "zzz"; there are anomaly_score, feature_score, image_score'),
        ("maps.ra > 3", 0, 'no column is called "maps.ra"; did you mean "ra"?'),
        ("not ra", 4, "ra is a number and no condition; compare it, as in ra > 99%"),
        ("shape", 0, 'shape is a category and no condition; compare it, as in shape = "odd one"'),
        ("note or ra > 3", 0, "note is a text and no condition"),
        ("shape > 3", 6, '">" needs numbers, and shape is a category: it takes =, !=, "in" and ~'),
        ("shape = spirl", 8, 'no subject has "spirl" as its shape; did you mean "spiral"?'),
        ("shape = missing", 8, 'write "shape is missing", or quote the word'),
        ("is_known > 3", 9, "is_known is yes or no: it stands alone, or takes = and !="),
        ("is_known + 1 > 3", 0, "is_known is yes or no, a number is expected"),
        ("ra >", 4, "the filter ends where a column or a number is expected"),
        ("ra > shape", 5, "shape is a category, a number is expected"),
        ("ra > (ra > 3)", 5, "found a condition where a number is expected"),
        ("ra > 3 & ra < 4", 7, 'found "&" where "and", "or" or the end is expected; did you mean "and"?'),
        ("1 < 2", 0, "nothing here is a column"),
        ("1 + 2", 0, "1 + 2 is a number and no condition"),
        ("1 < ra < 3", 7, 'found a second "<"; write "between 1 and 2" for a range'),
        ("(ra > 3", 7, 'the filter ends where ")" is expected'),
        ("ra > 101%", 5, "a percentile is from 0% to 100%, not 101%"),
        ("ra + 5% > 3", 5, "a percentile stands alone beside the sign"),
        ("5% > 6%", 5, "both sides are percentiles"),
        ("5% between 1 and 2", 0, "a percentile stands right of what it is the percentile of"),
        ("ra ~ 3", 3, '"~" looks into texts'),
        ("ra > 1e999", 5, "1e999 is more than a number can hold"),
        ("ra in (1, x)", 10, 'found "x" where a number is expected'),
        ("ra is here", 6, 'found "here" where "missing" or "not missing" is expected'),
        ('"no end > 3', 0, 'the quote "no end > 3 has no end'),
        ('selection("ring")', 10, 'no selection is called "ring"; did you mean "Rings"?'),
        ("selection(3)", 10, 'found "3" where the name of a selection in quotes is expected'),
        ("ra > 3; drop table subjects", 6, 'found ";" where "and", "or" or the end is expected'),
        ("__import__('os')", 0, 'no column is called "__import__"'),
        ("ra > 3\ud800", 6, 'found "?"'),
        ("(" * 60 + "ra > 3", MAX_NESTING, f"more than {MAX_NESTING} conditions stand within each other"),
        ("not " * 60 + "is_known", 4 * MAX_NESTING, "more than"),
        ("ra > " + "-" * 60 + "3", 5 + MAX_NESTING, "more than"),
    ],
)
def test_nonsense_is_a_sentence_with_its_place(text: str, start: int, said: str):
    with pytest.raises(FilterError, match=re.escape(f"character {start + 1}: {said}")) as raised:
        parse(text, COLUMNS)
    assert raised.value.start == start < raised.value.end
    assert isinstance(raised.value, UsageError)


def test_a_filter_has_a_longest_length_and_its_chains_may_be_as_long():
    with pytest.raises(FilterError, match="2,001 characters, 2,000 are the most"):
        parse("a" * (MAX_LENGTH + 1), COLUMNS)
    columns = table(0)
    long = "+".join(["ra"] * 660) + " > 660"
    np.testing.assert_array_equal(parse(long, COLUMNS).rows(columns.__getitem__), columns["subjects.ra"] > 1)
    long = " or ".join(["ra>1"] * 240)
    np.testing.assert_array_equal(parse(long, COLUMNS).rows(columns.__getitem__), columns["subjects.ra"] > 1)
    deep = "(" * MAX_NESTING + "is_known" + ")" * MAX_NESTING
    assert parse(deep, COLUMNS).text == "is_known"


@given(st.text(max_size=60) | st.lists(st.sampled_from(
    ["ra", "shape", "is_known", "and", "or", "not", "(", ")", ">", "=", "~", "in", ",", "is", "missing", "3", "%", "-",
     "between", '"', "'", "selection", "spiral", "source_id", " "]), max_size=14).map(" ".join))  # fmt: skip
def test_any_text_is_a_filter_or_a_sentence_and_can_be_completed(text: str):
    try:
        found = parse(text, COLUMNS)
    except FilterError as error:
        assert str(error) and error.start < error.end
    else:
        assert parse(found.text, COLUMNS) == found
    for cursor in (0, len(text) // 2, len(text)):
        for offer in complete(text, cursor, COLUMNS):
            assert 0 <= offer.start <= cursor <= offer.end <= len(text)


def test_a_percentile_is_that_of_the_subjects_that_have_a_value():
    columns = table(5)
    ra = np.where(columns["subjects.ra"] == 0, np.nan, columns["subjects.ra"])
    for text, values in (
        ("ra > 70%", columns["subjects.ra"]),
        ("70% < ra", columns["subjects.ra"]),
        ("image_score / ra > 70%", columns["scores.image_score"] / ra),
    ):  # fmt: skip
        with np.errstate(invalid="ignore"):
            expected = values > np.percentile(values[np.isfinite(values)], 70)
        np.testing.assert_array_equal(parse(text, COLUMNS).rows(columns.__getitem__), expected)
    nothing = {"subjects.ra": np.full(4, np.nan)}
    assert not parse("ra > 0%", COLUMNS).rows(nothing.__getitem__).any()
    assert not parse("not ra != 0%", COLUMNS).rows(nothing.__getitem__).any()


def test_a_score_is_compared_as_it_is_stored():
    values = {"scores.feature_score": np.array([0.1, 0.2, np.nan, 1e30], np.float32)}
    for text, expected in (("= 0.1", [0]), ("> 0.1", [1, 3]), ("in (0.1, 1e99)", [0]), ("< 1e99", [0, 1, 3])):
        found = parse(f"feature_score {text}", COLUMNS).rows(values.__getitem__)
        assert np.flatnonzero(found).tolist() == expected


def test_each_column_is_read_once():
    columns, asked = table(1), []

    def read(reference: str) -> Any:
        asked.append(reference)
        return columns[reference]

    found = parse("ra > 1 and (ra < 3 or not ra between 0 and 5%) and shape = ring", COLUMNS)
    found.rows(read)
    assert sorted(asked) == sorted(found.references) == ["subjects.ra", "subjects.shape"]


# ---------------------------------------------------------------------------------------------------- completion
@pytest.mark.parametrize(
    ("text", "first", "others"),
    [
        ("", "anomaly_score", ["shape", "is_known", "not", "selection("]),
        ("FEA", "feature_score", ["subjects.feature_score"]),
        ("ra ", ">", ["between", "is missing"]),
        ("shape ", "=", ["not in (", "~"]),
        ("is_known ", "is missing", ["and", "or"]),
        ("ra > ", "anomaly_score", ["magnitude"]),
        ("ra > 3 ", "and", ["or"]),
        ("(ra > 3 ", "and", ["or", ")"]),
        ("ra between 3 ", "and", []),
        ("ra is ", "missing", ["not"]),
        ("shape = ", '"odd one"', ["ring", "spiral"]),
        ("shape = sp", "spiral", []),
        ("shape in (ring, ", '"odd one"', ["spiral"]),
        ('shape = "od', '"odd one"', []),
        ('"my', '"my column"', []),
        ('selection("R', '"Rings"', []),
        ("ra > 3 and not kno", "is_known", []),
    ],
)
def test_what_may_come_next_is_offered(text: str, first: str, others: list[str]):
    offers = [offer.text for offer in complete(text, len(text), COLUMNS)]
    assert offers[0] == first
    assert set(others) <= set(offers)


def test_a_completion_takes_the_place_of_the_whole_word_at_the_cursor():
    text = "shape = spi and ra > 3"
    (offer,) = complete(text, text.index("i and"), COLUMNS)
    assert text[: offer.start] + offer.text + text[offer.end :] == "shape = spiral and ra > 3"
    assert offer.kind == "category"


@pytest.mark.parametrize("text", ["x > 3 and ra", "shape = nothing and ", "shape in (ring", "ra > 3 ra "])
def test_nothing_is_offered_behind_nonsense_or_a_whole_word(text: str):
    assert complete(text, len(text), COLUMNS) == []


# ---------------------------------------------------------------------------------------------------- of a survey
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("feature_score > 90%", lambda s, r: r["feature_score"] > np.percentile(r["feature_score"], 90)),
        ("magnitude is missing", lambda s, r: np.isnan(s.column("magnitude"))),
        ("shape = spiral and not is_known", lambda s, r: s.column("shape") == "spiral"),
        ('source_id ~ "02001"', lambda s, r: np.arange(s.n) == 0),
        ("split is not missing", lambda s, r: np.ones(s.n, bool)),
        ("is_known or is_withdrawn or is_known is missing", lambda s, r: np.zeros(s.n, bool)),
        ("umap_1 > 50%", None),
        ('selection("three") and magnitude > 17.02', lambda s, r: np.isin(np.arange(s.n), [2, 7])),
    ],
)
def test_a_survey_is_read_as_a_session_sees_it(finished_survey: Path, tmp_path: Path, text: str, expected: Any):
    with closing(Survey.open(finished_survey)) as survey, Ledger(tmp_path, "s") as ledger:
        explore = Explore(survey)
        run_id, map_id = next(iter(explore.runs())), next(iter(explore.maps()))
        ledger.save_selection("three", np.array([1, 2, 7]), survey.subject_ids, who="me")
        columns = columns_of(explore, run_id, map_id, ledger)
        found = parse(text, columns).rows(reader(explore, run_id, map_id, ledger=ledger))
        if expected is None:
            assert found.sum() == survey.n // 2
        else:
            np.testing.assert_array_equal(found, expected(survey, survey.scores(run_id)))


def test_a_score_that_is_mixed_is_compared_as_it_is_mixed(finished_survey: Path):
    with closing(Survey.open(finished_survey)) as survey:
        explore = Explore(survey)
        run_id = next(iter(explore.runs()))
        found = parse("anomaly_score = feature_score", columns_of(explore, run_id))
        assert found.rows(reader(explore, run_id, lambda_=1.0)).all()
        assert not found.rows(reader(explore, run_id, lambda_=0.2)).all()


def test_a_survey_without_runs_has_columns_too(tmp_path: Path):
    with closing(Survey.open(write_survey(tmp_path / "survey"))) as survey:
        explore = Explore(survey)
        columns = columns_of(explore)
        assert columns.kinds["subjects.source_id"] == "id" and columns.kinds["subjects.is_known"] == "truth"
        assert parse("not is_known", columns).rows(reader(explore)).all()
        assert not parse("ra > 3 or ra <= 3", columns).rows(reader(explore)).any()


@pytest.mark.parametrize(
    "text", ["magnitude >= .7", "magnitude <= .7", "magnitude = .7", ".7 <= magnitude", "not magnitude < .7"]
)
def test_seven_of_ten_in_single_precision_is_seven_of_ten(text: str):
    held = np.array([7 / 10], np.float32)
    for values in (held, held.astype(np.float64)):
        assert parse(text, COLUMNS).rows(lambda _, values=values: values).tolist() == [True]
    wide = np.array([7 / 10, 0.1 + 0.2])  # not exact in single precision: compared as they are
    assert parse("magnitude = .7", COLUMNS).rows(lambda _: wide).tolist() == [True, False]
    assert parse("magnitude <= .3", COLUMNS).rows(lambda _: wide).tolist() == [False, False]
