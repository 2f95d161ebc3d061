"""What is right, wrong and unknown under every truth; votes, softness, limits and circles against slow ways."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import beta

from explorer.errors import UsageError
from explorer.votes import CLASSIFICATIONS
from models.boundary import And, Gate, Region
from models.truth import Truth
from tests.explorer.judged import TAGS, VOTED, Judged, N, opened, write_judged

CHOSEN, FEATURE = "subjects.chosen_fraction", "scores.feature_score"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_judged(tmp_path_factory.mktemp("truths") / "survey")


@pytest.fixture(scope="module")
def at(folder: Path) -> Iterator[Judged]:
    with opened(folder) as found:
        yield found


def votes_of(folder: Path) -> dict[int, list[bool]]:
    """Subject → its votes in the order of time."""
    found: dict[int, list[bool]] = defaultdict(list)
    for row in pq.read_table(folder / CLASSIFICATIONS).to_pylist():
        found[row["subject_id"]].append(row["answer"] == "yes")
    return found


def test_who_has_no_votes_is_unknown_not_wrong(at: Judged, folder: Path):
    known = at.truths.of(Truth("column", CHOSEN, at_least=0.5), at.context)
    votes = votes_of(folder)
    assert known.kind == "complete"
    assert not known.known[VOTED:].any() and known.known[:VOTED].all()
    assert not known.positive[VOTED:].any()
    for i, said in votes.items():
        assert known.positive[i] == (2 * sum(said) >= len(said))
    n_right = int(known.positive.sum())
    assert f"{n_right} right, {VOTED - n_right} not, {N - VOTED} unknown of all {N}" in known.sentence


def test_a_fraction_that_is_sigma_reaches_it(at: Judged, folder: Path):
    """Ninths in single precision are above those in double; from and up to one is exactly what was counted."""
    for k in range(10):
        known = at.truths.of(Truth("column", CHOSEN, at_least=k / 9), at.context)
        expected = {i for i, said in votes_of(folder).items() if 9 * sum(said) >= k * len(said)}
        assert set(np.flatnonzero(known.positive)) == expected
        gate = at.boundaries.kept(Gate(CHOSEN, low=k / 9), at.context)
        assert set(np.flatnonzero(gate.yes)) == expected  # as a gate at the same limit
        gate = at.boundaries.kept(Gate(CHOSEN, high=k / 9), at.context)
        upto = {i for i, said in votes_of(folder).items() if 9 * sum(said) <= k * len(said)}
        assert set(np.flatnonzero(gate.yes)) == upto


def test_scores_products_and_categories(at: Judged):
    feature = at.survey.scores(at.context.run_id)["feature_score"]
    fraction = at.survey.column("chosen_fraction")
    known = at.truths.of(Truth("column", FEATURE, at_least=0.5), at.context)
    np.testing.assert_array_equal(known.positive, feature >= 0.5)
    assert known.known.all() and known.columns == (FEATURE,)
    product = at.truths.of(Truth("product", CHOSEN, FEATURE, 0.3), at.context)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(product.positive, fraction * feature.astype(float) >= 0.3)
    assert int(product.known.sum()) == VOTED
    kind = at.truths.of(Truth("category", "subjects.kind", labels=("ring", "spiral")), at.context)
    assert int(kind.known.sum()) == N - N // 50
    assert [bool(x) for x in kind.positive[1:6]] == [True, False, True, True, False]


def test_lists_leave_nobody_wrong(at: Judged):
    merger = at.truths.of(Truth("talk", "merger"), at.context)
    assert merger.kind == "positives_only" and merger.known.all()
    assert set(np.flatnonzero(merger.positive)) == set(TAGS["merger"][0])
    assert "540 unlabelled" in merger.sentence and "precision is “at least”" in merger.sentence
    listed = at.truths.of(Truth("category", "subjects.is_known", labels=("true",)), at.context)
    assert listed.kind == "positives_only" and int(listed.positive.sum()) == 15
    entry = at.notes.add_tag(int(at.survey.subject_ids[5]), "lens", who="p")
    own = at.truths.of(Truth("tag", "lens"), at.context)
    assert np.flatnonzero(own.positive).tolist() == [5]
    at.notes.undo(entry.id, who="p")
    with pytest.raises(UsageError, match='nobody has tagged a subject "lens"'):
        at.truths.of(Truth("tag", "lens"), at.context)


def test_a_kind_may_be_chosen(at: Judged):
    verified = at.truths.of(Truth("category", "subjects.kind", labels=("ring",), kind="verified"), at.context)
    assert verified.kind == "verified"
    assert "needs an audit" in verified.sentence


def test_soft_votes_are_the_betas_that_the_tune_half_gives(at: Judged, folder: Path):
    known = at.truths.of(Truth("column", CHOSEN, at_least=0.5, is_soft=True), at.context)
    assert known.soft is not None and known.p is not None
    prior = known.soft.prior
    for i, said in list(votes_of(folder).items())[:40]:
        k, n = sum(said), len(said)
        assert known.p[i] == pytest.approx(beta.sf(0.5, prior.a + k, prior.b + n - k), abs=1e-12)
    assert np.isnan(known.p[VOTED:]).all() and not known.known[VOTED:].any()


@pytest.mark.parametrize("sigma", [-0.1, 0.0, 0.2, 0.9])
def test_soft_products_are_what_draws_of_the_true_fraction_say(at: Judged, sigma: float):
    known = at.truths.of(Truth("product", CHOSEN, FEATURE, sigma, is_soft=True), at.context)
    assert known.soft is not None and known.p is not None and known.soft.scale is not None
    scale = known.soft.scale.copy()
    scale[:5] = [-0.5, 0.0, -0.05, 2.0, 0.3]
    changed = type(known.soft)(known.soft.k, known.soft.n, known.soft.prior, scale)
    p, rng = changed.at(sigma), np.random.default_rng(0)
    for i in range(8):
        a, b = changed.prior.a + changed.k[i], changed.prior.b + changed.n[i] - changed.k[i]
        assert p[i] == pytest.approx(np.mean(rng.beta(a, b, 40_000) * scale[i] >= sigma), abs=0.012)


@pytest.mark.parametrize("limit", [1, 3, 6, 20])
def test_a_limit_counts_the_first_votes(at: Judged, folder: Path, limit: int):
    known = at.truths.of(Truth("column", CHOSEN, at_least=0.4, limit=limit), at.context)
    assert known.values is not None
    for i, said in votes_of(folder).items():
        assert known.values[i] == pytest.approx(np.mean(said[:limit]))
    n_short = sum(len(said) < limit for said in votes_of(folder).values())
    assert f"{n_short} of {VOTED} subjects have fewer" in known.notes[0]
    assert f"first {limit} vote" in known.title
    is_timed = pq.read_table(folder / CLASSIFICATIONS).column("created_at").null_count == 0
    assert ("when they were cast is not known" in known.notes[0]) != is_timed


def test_what_was_counted_from_the_same_is_circular(at: Judged):
    def circular(truth: Truth, *columns: str) -> list[str]:
        return at.truths.circular(truth, And(tuple(Gate(c, low=0) for c in columns)), None, at.context)

    votes = Truth("column", CHOSEN, at_least=0.5)
    assert circular(votes, "subjects.n_votes", FEATURE) == ["n votes"]
    assert circular(votes, "subjects.swap_probability") == ["swap probability"]
    assert circular(votes, "subjects.n_tags", "subjects.magnitude") == []
    feature = Truth("column", FEATURE, at_least=0.5)
    assert circular(feature, "scores.anomaly_score") == ["Anomaly score"]
    assert circular(feature, "scores.image_score") == []
    assert circular(Truth("column", "scores.anomaly_score", at_least=1), "scores.image_score") == ["Image score"]
    assert circular(Truth("product", CHOSEN, FEATURE, 0.1), FEATURE, "subjects.chosen_low") != []
    assert circular(Truth("talk", "merger"), "subjects.n_taggers", "subjects.n_votes") == ["n taggers"]
    region = Region(FEATURE, "subjects.magnitude", ((0, 0), (1, 0), (1, 1)))
    assert at.truths.circular(feature, region, None, at.context) == ["Feature score"]


def test_everything_that_is_offered_can_be_taken(at: Judged):
    offered = at.truths.offered(at.context)
    references = [one["reference"] for one in offered]
    assert references[0] == CHOSEN and FEATURE in references and "merger" in references
    assert offered[0]["truth"] == {"what": "column", "column": CHOSEN, "at_least": 0.5}
    by_reference = {(one["what"], one["reference"]): one for one in offered}
    assert by_reference["talk", "merger"]["n_taggers"] == 3
    assert by_reference["column", CHOSEN]["can_be_soft"] and by_reference["column", CHOSEN]["can_be_limited"]
    assert not by_reference["column", FEATURE]["can_be_soft"]
    assert by_reference["category", "subjects.is_known"]["truth"]["labels"] == ["true"]
    counts = [n for _, n in by_reference["category", "subjects.kind"]["labels"]]
    assert counts == sorted(counts, reverse=True) and sum(counts) == N - N // 50
    assert by_reference["product", CHOSEN]["by"] == FEATURE
    for one in offered:
        known = at.truths.of(Truth.from_json(one["truth"]), at.context)
        assert known.kind == one["kind"] and known.sentence


@pytest.mark.parametrize(
    ("truth", "sentence"),
    [
        (Truth("column", "subjects.chosen_fracton", at_least=0.5), 'did you mean "chosen_fraction"'),
        (Truth("column", "scores.depth", at_least=0.5), 'column "depth" is not in the scores'),
        (Truth("category", "subjects.kind", labels=("arc",)), '"arc" is no value of kind; it has elliptical, ring'),
        (Truth("category", "subjects.magnitude", labels=("arc",)), "not in the columns of categories"),
        (Truth("talk", "mergr"), 'did you mean "merger"'),
        (Truth("column", FEATURE, at_least=0.5, is_soft=True), "only a fraction of votes can be soft"),
        (Truth("column", FEATURE, at_least=0.5, limit=5), "a limit of votes needs a truth that is counted from votes"),
        (Truth("column", "subjects.chosen_low", at_least=0.5, limit=5), "only the chosen fraction can be counted"),
        (Truth("column", "subjects.weighted_chosen_fraction", at_least=0.5, limit=5), "not the weighted one"),
    ],
)
def test_what_cannot_be_is_a_sentence(at: Judged, truth: Truth, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        at.truths.of(truth, at.context)


def test_without_votes_or_a_run_there_are_sentences(tmp_path: Path):
    with opened(write_judged(tmp_path / "survey", with_votes=False)) as found:
        with pytest.raises(UsageError, match="chosen_fraction"):
            found.truths.of(Truth("column", CHOSEN, at_least=0.5), found.context)
        none = type(found.context)()
        with pytest.raises(UsageError, match="there is no run"):
            found.truths.of(Truth("column", FEATURE, at_least=0.5), none)
        assert {one["what"] for one in found.truths.offered(none)} == {"column", "category"}
