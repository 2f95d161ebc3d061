"""A boundary as an object: its algebra, its regions, its JSON, and the sentences for what is wrong with one."""

import json
import math
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.boundary import (
    ELLIPSE_CORNERS,
    MAX_DEPTH,
    MAX_TERMS,
    MAX_VERTICES,
    And,
    BoundaryError,
    Gate,
    Kept,
    Learned,
    Not,
    Or,
    Path,
    Region,
    Term,
    alternatives,
    at,
    check,
    classifiers,
    columns,
    crosses_itself,
    evaluate,
    from_json,
    in_words,
    leaves,
    replaced,
    to_json,
    walk,
    with_term,
)

N = 60
NUMBERS = ("scores.feature_score", "subjects.magnitude", "maps.umap_1", "maps.umap_2")
LABELS = ("spiral", "elliptical", "merger")
MODELS = ("a" * 64, "0123456789abcdef" * 4)


@dataclass
class Table:
    """A source of random columns with gaps; membership of a plane by a rule of its own, one point at a time."""

    n: int = N
    asked: list[str] = field(default_factory=list)

    def _values(self, name: str) -> np.ndarray:
        random = np.random.default_rng(sum(name.encode()))
        values = random.uniform(0, 1, self.n).astype(np.float32)
        values[random.uniform(size=self.n) < 0.2] = np.nan
        return values

    def column(self, reference: str) -> np.ndarray:
        self.asked.append(reference)
        return self._values(reference)

    def codes(self, reference: str) -> tuple[np.ndarray, list[str]]:
        return np.random.default_rng(7).integers(-1, 3, self.n), list(LABELS)

    def inside(self, x: str, y: str, outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = np.column_stack((self._values(x), self._values(y))).astype(np.float64)
        placed = np.isfinite(at).all(axis=1)
        return even_odd(np.where(placed[:, None], at, 0), outline), placed

    def balanced(self, model: str) -> np.ndarray:
        return self._values(model)

    def probability(self, model: str) -> np.ndarray:
        return self._values(model) ** 2


def even_odd(points: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """By the angle that each edge turns around the point: an odd sum of full turns is inside. Not on an edge."""
    to = outline - points[:, None]
    angle = np.arctan2(to[..., 1], to[..., 0])
    turned = np.diff(angle, append=angle[:, :1], axis=1)
    turns = ((turned + np.pi) % (2 * np.pi) - np.pi).sum(axis=1) / (2 * np.pi)
    return np.asarray(np.rint(turns) % 2 == 1)


numbers = st.floats(-2, 2, allow_subnormal=False)
limits = st.one_of(st.none(), st.floats(0, 1, width=32))
vertices = st.tuples(numbers, numbers)
regions = st.one_of(
    st.builds(
        Region,
        st.sampled_from(NUMBERS),
        st.sampled_from(NUMBERS),
        st.lists(vertices, min_size=3, max_size=9).map(tuple),
        st.sampled_from(("polygon", "freehand")),
    ),
    st.builds(
        Region, st.sampled_from(NUMBERS), st.sampled_from(NUMBERS), st.tuples(vertices, vertices), st.just("box")
    ),
)
gates = st.one_of(
    st.builds(Gate, st.sampled_from(NUMBERS), limits, limits),
    st.builds(Gate, st.just("subjects.kind"), labels=st.lists(st.sampled_from(LABELS), min_size=1, unique=True)),
)
classified = st.builds(Learned, st.sampled_from(MODELS), st.floats(0, 1), st.sampled_from(("balanced", "probability")))
leaf = st.one_of(regions, gates, classified)


def _groups(inner: st.SearchStrategy[Term]) -> st.SearchStrategy[Term]:
    several = st.lists(inner, max_size=4).map(tuple)
    return st.one_of(st.builds(Not, inner), st.builds(And, several), st.builds(Or, several))


terms = st.recursive(leaf, _groups, max_leaves=8)


def same(a: Kept, b: Kept) -> bool:
    return bool(np.array_equal(a.yes, b.yes) and np.array_equal(a.no, b.no))


def keeps(term: Term, source: Table | None = None) -> Kept:
    return evaluate(term, source or Table())


# ---------------------------------------------------------------------------------------------------------- algebra
@given(terms)
def test_nobody_is_kept_and_thrown_away_and_the_rest_is_unknown(term: Term) -> None:
    kept = keeps(term)
    assert not (kept.yes & kept.no).any()
    assert (kept.yes.astype(int) + kept.no + kept.unknown == 1).all()


@given(terms)
def test_not_swaps_and_twice_it_is_nothing(term: Term) -> None:
    once, kept = keeps(Not(term)), keeps(term)
    assert np.array_equal(once.yes, kept.no) and np.array_equal(once.no, kept.yes)
    assert same(keeps(Not(Not(term))), kept)


@settings(max_examples=60)
@given(terms, terms)
def test_de_morgan(a: Term, b: Term) -> None:
    assert same(keeps(Not(And((a, b)))), keeps(Or((Not(a), Not(b)))))
    assert same(keeps(Not(Or((a, b)))), keeps(And((Not(a), Not(b)))))


@settings(max_examples=40)
@given(terms, terms, terms)
def test_and_and_or_are_idempotent_commutative_associative_and_distribute(a: Term, b: Term, c: Term) -> None:
    for group, other in ((And, Or), (Or, And)):
        assert same(keeps(group((a, a))), keeps(a))
        assert same(keeps(group((a,))), keeps(a))
        assert same(keeps(group((a, b))), keeps(group((b, a))))
        assert same(keeps(group((a, group((b, c))))), keeps(group((a, b, c))))
        assert same(keeps(group((a, other((b, c))))), keeps(other((group((a, b)), group((a, c))))))
        assert same(keeps(group((a, other((a, b))))), keeps(a))


@given(terms)
def test_the_empty_and_keeps_all_the_empty_or_none_and_they_are_neutral(term: Term) -> None:
    assert keeps(And()).yes.all() and keeps(Or()).no.all()
    assert same(keeps(And((term, And()))), keeps(term))
    assert same(keeps(Or((term, Or()))), keeps(term))
    assert keeps(And((term, Or()))).no.all() and keeps(Or((term, And()))).yes.all()


def test_unknown_is_what_kleene_says() -> None:
    class Three(Table):
        def column(self, reference: str) -> np.ndarray:
            one = [1, 0, math.nan]
            return np.array(np.repeat(one, 3) if reference == "scores.a" else np.tile(one, 3), np.float32)

    a, b, source = Gate("scores.a", 1), Gate("scores.b", 1), Three(9)
    text = {(True, False): "y", (False, True): "n", (False, False): "u"}

    def said(term: Term) -> str:
        kept = evaluate(term, source)
        return "".join(text[bool(y), bool(n)] for y, n in zip(kept.yes, kept.no, strict=True))

    assert said(And((a, b))) == "ynunnnunu"
    assert said(Or((a, b))) == "yyyynuyuu"
    assert said(Not(a)) == "nnnyyyuuu"


@given(terms, st.data())
def test_alternatives_are_the_whole_with_the_leaf_forced(term: Term, data: st.DataObject) -> None:
    known = leaves(term)
    if not known:
        return
    path, _ = data.draw(st.sampled_from(known))

    class Missing(Table):
        def column(self, reference: str) -> np.ndarray:
            return np.full(self.n, np.nan) if reference == "scores.nowhere" else super().column(reference)

    forced = (And(), Or(), Gate("scores.nowhere", 0))
    masks = alternatives(term, path, Table())
    for mask, instead in zip(masks, forced, strict=True):
        assert np.array_equal(mask, evaluate(replaced(term, path, instead), Missing()).yes)
    here = keeps(at(term, path))
    together = np.where(here.yes, masks[0], np.where(here.no, masks[1], masks[2]))
    assert np.array_equal(together, keeps(term).yes)


def test_alternatives_ask_no_other_column_than_the_others() -> None:
    source = Table()
    alternatives(And((Gate(NUMBERS[0], 0.5), Not(Or((Gate(NUMBERS[1], 0.5), Gate(NUMBERS[2], 0.1)))))), (0,), source)
    assert source.asked == [NUMBERS[1], NUMBERS[2]]
    with pytest.raises(BoundaryError, match=r"no term at \[1, 5\]"):
        alternatives(And((Or(), Or())), (1, 5), source)


# ------------------------------------------------------------------------------------------------------------ limits
def test_a_gate_has_no_answer_where_the_value_is_missing() -> None:
    values = Table().column(NUMBERS[0])
    kept = keeps(Gate(NUMBERS[0], 0.25, 0.75))
    assert np.array_equal(kept.unknown, np.isnan(values)) and kept.unknown.any()
    assert np.array_equal(kept.yes, (values >= 0.25) & (values <= 0.75))
    has_any = keeps(Gate(NUMBERS[0]))
    assert np.array_equal(has_any.yes, ~np.isnan(values)) and not has_any.no.any()
    assert not keeps(Gate(NUMBERS[0], 0.75, 0.25)).yes.any()


def test_a_gate_of_categories_knows_only_those_of_the_survey() -> None:
    codes, _ = Table().codes("subjects.kind")
    kept = keeps(Gate("subjects.kind", labels=("merger", "in no survey")))
    assert np.array_equal(kept.yes, codes == 2) and np.array_equal(kept.unknown, codes == -1)


def test_a_classifier_is_cut_on_the_scale_that_was_chosen() -> None:
    values = Table().balanced(MODELS[0])
    assert np.array_equal(keeps(Learned(MODELS[0], 0.5)).yes, values >= 0.5)
    kept = keeps(Learned(MODELS[0], 0.5, "probability"))
    assert np.array_equal(kept.yes, values**2 >= 0.5) and np.array_equal(kept.unknown, np.isnan(values))


# ----------------------------------------------------------------------------------------------------------- regions
def _away_from(points: np.ndarray, outline: np.ndarray) -> np.ndarray:
    line = shapely.LinearRing(outline)
    return np.asarray(shapely.distance(shapely.points(points), line)) > 1e-9


@given(st.integers(3, 200), st.integers(0, 2**32 - 1))
def test_a_star_shaped_outline_holds_what_shapely_says(k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    angle = np.sort(random.uniform(0, 2 * np.pi, k))
    outline = random.uniform(0.1, 1, k)[:, None] * np.column_stack((np.cos(angle), np.sin(angle)))
    points = random.uniform(-1, 1, (300, 2))
    points = points[_away_from(points, outline)]
    polygon = shapely.Polygon(outline)
    if not polygon.is_valid:  # more than half a turn between two corners
        return
    region = Region("maps.umap_1", "maps.umap_2", outline.tolist())
    assert not crosses_itself(region.vertices)
    assert np.array_equal(even_odd(points, region.outline()), shapely.contains_xy(polygon, points))


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=12))
@example([(0, 0), (2, 0), (1, 0)])
@example([(0, 0), (4, 0), (4, 4), (2, 0), (0, 4)])
@example([(0, 0), (1, 1), (1, 0), (0, 1)])
def test_an_outline_crosses_itself_where_shapely_finds_it_not_simple(corners: list[tuple[int, int]]) -> None:
    distinct = [c for c, before in zip(corners, [corners[-1], *corners[:-1]], strict=True) if c != before]
    if len(set(distinct)) >= 3:
        crosses = not shapely.LinearRing(distinct).is_simple
        assert crosses_itself(corners) == crosses
        with patch("models.boundary.PAIRS_AT_ONCE", 3):
            assert crosses_itself(corners) == crosses


def test_a_point_and_a_line_do_not_cross_themselves() -> None:
    assert not crosses_itself([(1, 1)] * 4)
    assert not crosses_itself([(0, 0), (1, 0)])


def test_a_freehand_outline_of_the_largest_size_is_looked_through_soon() -> None:
    angle = np.linspace(0, 2 * np.pi, MAX_VERTICES, endpoint=False)
    circle = np.column_stack((np.cos(angle), np.sin(angle)))
    assert not crosses_itself(circle)
    circle[5000] *= 0.5
    assert not crosses_itself(circle)
    circle[5000] *= -4
    assert crosses_itself(circle)


def test_a_box_is_told_by_any_two_opposite_corners() -> None:
    boxes = [((0.2, 0.3), (0.8, 0.9)), ((0.8, 0.3), (0.2, 0.9)), ((0.8, 0.9), (0.2, 0.3))]
    first, *others = (keeps(Region(*NUMBERS[2:], corners, "box")) for corners in boxes)
    x, y = (Table()._values(name) for name in NUMBERS[2:])
    assert np.array_equal(first.yes, (x > 0.2) & (x < 0.8) & (y > 0.3) & (y < 0.9)) and first.yes.any()
    assert np.array_equal(first.unknown, np.isnan(x) | np.isnan(y))
    assert all(same(first, other) for other in others)


def test_an_ellipse_is_a_polygon_of_128_corners_on_its_line() -> None:
    outline = Region(*NUMBERS[2:], ((3, 10), (-1, 4)), "ellipse").outline()
    assert outline.shape == (ELLIPSE_CORNERS, 2) and not crosses_itself(outline)
    np.testing.assert_allclose(((outline - [1, 7]) / [2, 3]) ** 2 @ [1, 1], 1)
    assert shapely.Polygon(outline).area == pytest.approx(6 * np.pi, rel=1e-3)
    assert np.isfinite(Region(*NUMBERS[2:], ((-1.7e308, 0), (1.7e308, 1)), "ellipse").outline()).all()


def test_a_star_of_five_points_has_a_hole_by_the_even_odd_rule() -> None:
    turn = np.arange(5) * 2 * (2 * np.pi / 5)
    star = np.column_stack((np.sin(turn), np.cos(turn)))
    assert crosses_itself(star)
    assert even_odd(np.array([[0, 0], [0, 0.7]]), star).tolist() == [False, True]


# ------------------------------------------------------------------------------------------------------------- parts
@given(terms, st.data())
def test_what_is_put_at_a_path_is_there_and_all_else_stays(term: Term, data: st.DataObject) -> None:
    path: Path = data.draw(st.sampled_from([path for path, _ in walk(term)]))
    new = Gate("subjects.new", 1)
    changed = replaced(term, path, new)
    assert at(changed, path) == new
    assert replaced(changed, path, at(term, path)) == term
    others = [(p, one) for p, one in leaves(term) if p[: len(path)] != path]
    assert [(p, one) for p, one in leaves(changed) if p != path] == others


@given(terms, st.data())
def test_what_is_taken_away_leaves_the_other_leaves_in_their_order(term: Term, data: st.DataObject) -> None:
    path: Path = data.draw(st.sampled_from([path for path, _ in walk(term)]))
    left = replaced(term, path, None)
    assert [one for _, one in leaves(left)] == [one for p, one in leaves(term) if p[: len(path)] != path]


def test_a_group_that_loses_its_last_term_goes_too() -> None:
    gate, other = Gate("subjects.a", 1), Gate("subjects.b", 2)
    assert replaced(And((gate, Not(Or((other,))))), (1, 0, 0), None) == And((gate,))
    assert replaced(Or((gate,)), (0,), None) == And()  # and not the "or" that keeps nobody
    assert replaced(gate, (), None) == And()


def test_a_term_is_added_to_a_group_or_beside_what_is_none() -> None:
    gate, other = Gate("subjects.a", 1), Gate("subjects.b", 2)
    assert with_term(And(), (), gate) == And((gate,))
    assert with_term(And((gate, Or((gate,)))), (1,), other) == And((gate, Or((gate, other))))
    assert with_term(gate, (), other) == And((gate, other))
    assert with_term(Not(gate), (0,), other) == Not(And((gate, other)))


def test_columns_and_classifiers_are_each_named_once() -> None:
    region = Region("maps.umap_1", "scores.feature_score", ((0, 0), (1, 1)), "box")
    term = And((region, Not(Gate("scores.feature_score", 1)), Gate("subjects.kind", labels=("a",)), Learned(MODELS[1])))
    assert columns(term) == ("maps.umap_1", "scores.feature_score", "subjects.kind")
    assert classifiers(And((term, Learned(MODELS[0]), Learned(MODELS[1])))) == (MODELS[1], MODELS[0])


# -------------------------------------------------------------------------------------------------------------- JSON
@given(terms)
def test_json_brings_back_the_same_to_the_last_bit(term: Term) -> None:
    assert from_json(json.loads(json.dumps(to_json(term), allow_nan=False))) == term
    assert hash(from_json(to_json(term))) == hash(term)


GATE = {"column": "scores.feature_score", "low": 0.5}
WRONG = [
    ({"and": [{"gate": GATE}, {"gate": GATE}, {"gate": GATE | {"low": "0.5"}}]}, r"and\[2\].gate.low: '0.5' is not a"),
    ({"gate": GATE | {"low": math.nan}}, "gate.low: nan is not a finite number"),
    ({"gate": GATE | {"high": 10**400}}, "gate.high: 1000.*… is not a finite number"),
    ({"gate": GATE | {"low": True}}, "gate.low: True is not a number"),
    ({"gate": GATE | {"low_percentile": 101}}, "gate.low_percentile: a percentile is 0 to 100, not 101"),
    ({"gate": GATE | {"high_percentile": 50}}, "gate.high_percentile: it records how high was set, and there is no"),
    ({"gate": GATE | {"labels": ["a"]}}, "gate.labels: a gate has limits or categories, not both"),
    ({"gate": {"column": "subjects.kind", "labels": ["a", "a"]}}, r"gate.labels\[1\]: the category 'a' is there twice"),
    ({"gate": {"column": "subjects.kind", "labels": "a"}}, "gate.labels: the categories are a list of texts, not 'a'"),
    ({"gate": GATE | {"lower": 1}}, "gate: a gate term has no 'lower'; it has column, low, high"),
    ({"gate": {"low": 1}}, "gate.column: it is missing"),
    ({"gate": {"column": "feature_score"}}, "gate.column: a column is named TABLE.NAME, the table one of subjects"),
    ({"gate": {"column": "talk.x"}}, "not 'talk.x'"),
    ({"gate": {"column": "scores."}}, "not 'scores.'"),
    ({"gate": {"column": ["scores", "x"]}}, "gate.column: a column is named by a text"),
    ({"gate": [GATE]}, "gate: a gate term is told by names and values"),
    ({"not": {"or": [{"region": {"x": "maps.umap_1"}}]}}, r"not.or\[0\].region.y: it is missing"),
    ({"and": {}}, "and: “and” has a list of terms, not {}"),
    ({"and": [], "or": []}, "a term is one of and, or, not, region, gate, learned"),
    ({"xor": []}, "there is no term 'xor'; there are and, or"),
    (None, "a term is one of .* not None"),
    ({"learned": {"model": "../../etc/passwd"}}, "learned.model: a classifier is named by its sha256"),
    ({"learned": {"model": "A" * 64}}, "learned.model"),
    ({"learned": {"model": "a" * 64, "low": 1.5}}, "learned.low: a classifier's limit is 0 to 1, not 1.5"),
    ({"learned": {"model": "a" * 64, "scale": ["balanced"]}}, "learned.scale: the scale is one of balanced, prob"),
]
REGION = {"x": "maps.umap_1", "y": "maps.umap_2", "vertices": [[0, 0], [1, 0], [1, 1]]}
WRONG += [
    ({"region": REGION | {"shape": "star"}}, "region.shape: a region is one of polygon, freehand, box, ellipse, not"),
    ({"region": REGION | {"shape": "box"}}, "region.vertices: a box is told by 2 opposite corners, not 3"),
    ({"region": REGION | {"vertices": [[0, 0], [1, 1]]}}, "region.vertices: a polygon has 3 to 10,000 vertices, not 2"),
    ({"region": REGION | {"vertices": [[0, 0], [1, 1], [1, None]]}}, r"region.vertices\[2\]: None is not a number"),
    ({"region": REGION | {"vertices": [[0, 0], [1, 1], [1, 1, 1]]}}, r"region.vertices\[2\]: a vertex is a pair"),
    ({"region": REGION | {"vertices": 5}}, "region.vertices: the vertices are a list of pairs"),
    ({"region": REGION | {"vertices": [[0, 0]] * (MAX_VERTICES + 1)}}, "region.vertices: an outline has 10,000 ver"),
    ({"and": [{"region": REGION | {"vertices": [[0, 0]] * 6000}}] * 2}, r"and\[1\]: its regions have 10,000 vertices"),
    ({"or": [{"gate": GATE}] * MAX_TERMS}, r"or\[199\]: a boundary has 200 terms at most"),
]


@pytest.mark.parametrize(("told", "sentence"), WRONG, ids=[sentence[:30] for _, sentence in WRONG])
def test_what_is_wrong_is_said_with_its_place(told: object, sentence: str) -> None:
    with pytest.raises(BoundaryError, match=sentence) as raised:
        from_json(told)
    assert len(str(raised.value)) < 400 and "\n" not in str(raised.value)


def test_nesting_has_a_limit_in_a_file_and_in_an_object() -> None:
    told: dict[str, object] = {"gate": GATE}
    for _ in range(MAX_DEPTH):
        told = {"not": told}
    term = from_json(told)
    with pytest.raises(BoundaryError, match=r"not\.not.*: terms are nested deeper than 20"):
        from_json({"not": told})
    with pytest.raises(BoundaryError, match=r"not\.not.*: terms are nested deeper than 20"):
        check(Not(term))
    for _ in range(100_000):
        told = {"not": told}
    with pytest.raises(BoundaryError, match="nested deeper"):
        from_json(told)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["and", "or", "not", "gate", "region", "learned", "column", "low", "x", "vertices"]),
            inner,
            max_size=3,
        ),
    ),
)


@given(json_values)
def test_anything_else_is_refused_by_a_sentence_and_by_nothing_else(told: object) -> None:
    try:
        term = from_json(told)
    except BoundaryError:
        return
    assert from_json(to_json(term)) == term


# ------------------------------------------------------------------------------------------------------------- words
def test_a_boundary_reads_as_a_sentence() -> None:
    region = Region("maps.umap_1", "maps.umap_2", ((0, 0), (1, 1), (1, 0), (0, 1)))
    either = Or((Gate("scores.feature_score", 0.5, low_percentile=90), Learned(MODELS[0], 0.5)))
    titles = {"maps.umap_1": "UMAP 1", "maps.umap_2": "UMAP 2", MODELS[0]: "Linear, 25 components"}
    assert in_words(And((region, Not(Gate("subjects.kind", labels=("artifact",))), either)), titles) == (
        "inside a polygon on UMAP 1 and UMAP 2 (which crosses itself: even-odd rule) and not (kind is artifact) and "
        "(feature score ≥ 0.5 (percentile 90 where it was set) or learned score (linear, 25 components) at "
        "least 0.5)"
    )
    assert in_words(And()) == "everything" and in_words(Or()) == "nothing"
    assert in_words(Gate("subjects.z", 2, 1)) == "z ≥ 2 and ≤ 1, which nothing is"
    assert in_words(Gate("subjects.z")) == "z is known"
    assert in_words(Learned(MODELS[0], 0.25, "probability")) == "learned probability at least 0.25"  # no sha to read


@given(terms)
def test_every_boundary_has_words(term: Term) -> None:
    assert in_words(term).strip() and "None" not in in_words(term)
