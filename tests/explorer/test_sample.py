"""Subject sets by design: who is certain, who is drawn, with which probability, and that weights undo the design."""

import json
import math
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer import cli
from explorer.errors import UsageError
from explorer.ingest.join import JoinOptions, join
from explorer.ledger import Ledger
from explorer.services.explore import Explore
from explorer.services.sampling import DESIGN, Design, Drawn, _allocated, draw, reference, sample
from explorer.survey import Survey, check
from models.artifacts import Run, write_scores
from tests.explorer.small_survey import write_survey

N = 200
RUN = "20260101-000000-score"


def drawn_from(
    scores: np.ndarray, groups: np.ndarray | None = None, frame: np.ndarray | None = None, **told: object
) -> Drawn:
    n = len(scores)
    told = {"top": 0.0, "n_random": 0, "strata": None, "allocation": "proportional", "seed": 0} | told
    every = np.ones(n, bool) if frame is None else frame
    return draw(every, np.arange(n) if groups is None else groups, highest=scores, **told)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 subjects with a score, a kind, a magnitude, and the first forty in pairs. Copy it to change it."""
    path = write_survey(tmp_path_factory.mktemp("sample") / "survey", N)
    survey = Survey.open(path)
    scores = np.random.default_rng(0).permutation(N).astype(np.float32)
    columns = dict.fromkeys(("image_score", "feature_score", "anomaly_score"), scores)
    columns |= {"subject_id": survey.subject_ids, "split": ["unseen"] * N, "quality": ["ok"] * N}  # type: ignore[dict-item]
    folder = survey.run_folder(RUN)
    folder.mkdir(parents=True)
    write_scores(folder, np.zeros((N, 4), np.float32), columns)
    Run(RUN, "score", "0.1.0", {}, state="done", n_rows=N).write(folder / "run.json")
    survey.close()
    table = pq.read_table(path / "subjects.parquet")
    i = table.schema.get_field_index("duplicate_group")
    groups = [k // 2 if k < 40 else None if k < 60 else k for k in range(N)]
    table = table.set_column(i, table.schema.field(i), pa.array(groups, pa.int64()))
    i = table.schema.get_field_index("source_id")
    table = table.set_column(i, table.schema.field(i), pa.array([f"s{k}" for k in range(N)]))
    kind = pa.field("kind", pa.string(), metadata={"kind": "category"})
    table = table.append_column(kind, pa.array([("spiral", "elliptical", "odd")[min(k % 20, 2)] for k in range(N)]))
    table = table.append_column("magnitude", pa.array(np.linspace(15, 25, N)))
    pq.write_table(table, path / "subjects.parquet")
    return path


@pytest.fixture
def survey(scored: Path, tmp_path: Path) -> Iterator[Survey]:
    opened = Survey.open(shutil.copytree(scored, tmp_path / "survey"))
    yield opened
    opened.close()


# ------------------------------------------------------------------------------------------------------- the draw
def test_the_top_is_certain_and_the_rest_has_one_probability() -> None:
    scores = np.random.default_rng(1).permutation(1000).astype(float)
    drawn = drawn_from(scores, top=0.01, n_random=99)
    assert drawn.n_top == drawn.n_certain == 10
    assert set(np.flatnonzero(drawn.probability == 1)) == set(np.flatnonzero(scores >= 990))
    rest = drawn.probability[np.isfinite(drawn.probability) & (drawn.probability < 1)]
    assert rest.tolist() == [0.1] * 99
    assert (1 / drawn.probability[drawn.rows]).sum() == pytest.approx(1000)


def test_shares_are_rounded_up_to_whole_subjects() -> None:
    scores = np.arange(150.0)
    for top, expected in ((0.01, 2), (0.1, 15), (1.0, 150), (1e-9, 1)):
        assert drawn_from(scores, top=top).n_top == expected


def test_who_has_no_score_is_never_in_the_top_and_can_be_drawn() -> None:
    scores = np.full(50, np.nan)
    scores[:3] = 1.0, 2.0, 3.0
    drawn = drawn_from(scores, top=0.5, n_random=47)
    assert drawn.n_top == 3
    assert np.isfinite(drawn.probability).all()


def test_who_is_outside_the_frame_is_never_drawn() -> None:
    frame = np.arange(100) % 2 == 0
    drawn = drawn_from(np.arange(100.0), frame=frame, top=0.1, n_random=1000)
    assert drawn.n_frame == 50
    assert drawn.rows.tolist() == np.flatnonzero(frame).tolist()


def test_groups_are_drawn_whole_with_the_probability_of_a_group() -> None:
    groups = np.repeat(np.arange(100), 3)
    scores = np.random.default_rng(2).permutation(300).astype(float)
    drawn = drawn_from(scores, groups, top=0.01, n_random=30, seed=5)
    inside = np.isfinite(drawn.probability).reshape(100, 3)
    assert (inside.all(axis=1) == inside.any(axis=1)).all()
    assert drawn.n_top == 3
    assert drawn.n_certain % 3 == 0
    (stratum,) = drawn.strata
    assert stratum.n_groups_drawn == 10
    assert stratum.probability == 10 / stratum.n_groups


def test_every_subject_is_drawn_as_often_as_its_probability_says() -> None:
    n, groups = 60, np.concatenate([np.repeat(np.arange(10), 3), np.arange(10, 40)])
    codes = np.where(np.arange(n) < 24, 0, 1)
    hits, claimed = np.zeros(n), np.zeros(n)
    for seed in range(2000):
        drawn = drawn_from(np.arange(n, dtype=float), groups, n_random=20, strata=(codes, ["a", "b"]), seed=seed)
        hits[drawn.rows] += 1
        claimed[drawn.rows] = drawn.probability[drawn.rows]
    assert np.abs(hits / 2000 - claimed).max() < 5 * math.sqrt(0.25 / 2000)


def test_weights_undo_the_design() -> None:
    """The weighted rate of the set is that of the survey on average, the plain rate is not."""
    rng = np.random.default_rng(3)
    scores = rng.random(2000)
    is_odd = rng.random(2000) < scores**4 * 0.5
    plain, weighted = [], []
    for seed in range(200):
        drawn = drawn_from(scores, top=0.05, n_random=200, seed=seed)
        weight = 1 / drawn.probability[drawn.rows]
        plain.append(is_odd[drawn.rows].mean())
        weighted.append((weight * is_odd[drawn.rows]).sum() / weight.sum())
    error = np.std(weighted) / math.sqrt(200)
    assert np.mean(weighted) == pytest.approx(is_odd.mean(), abs=4 * error)
    assert np.mean(plain) > is_odd.mean() + 10 * error


@pytest.mark.parametrize(
    ("n", "sizes", "allocation", "expected"),
    [
        (10, [50, 30, 20], "proportional", [5, 3, 2]),
        (10, [500, 499, 1], "proportional", [4, 5, 1]),
        (10, [98, 1, 1], "proportional", [8, 1, 1]),
        (30, [50, 30, 2], "equal", [14, 14, 2]),
        (9, [50, 30, 20], "equal", [3, 3, 3]),
        (100, [50, 30, 20], "equal", [50, 30, 20]),
        (0, [50, 30], "equal", [0, 0]),
    ],
)
def test_what_falls_to_each_stratum(n: int, sizes: list[int], allocation: str, expected: list[int]) -> None:
    given = _allocated(n, sizes, allocation)  # type: ignore[arg-type]
    assert given == expected
    assert sum(given) == min(n, sum(sizes))


def test_the_seed_draws_the_same_and_another_one_another() -> None:
    scores = np.random.default_rng(4).random(500)
    one, same, other = (drawn_from(scores, n_random=50, seed=seed) for seed in (1, 1, 2))
    assert one.rows.tolist() == same.rows.tolist() != other.rows.tolist()


# ------------------------------------------------------------------------------------------------------ in a survey
def design(survey: Survey, **told: object) -> Design:
    given = {"top": 0.05, "by": "scores.anomaly_score", "n_random": 40, "run_id": RUN} | told
    return Design(**given)  # type: ignore[arg-type]


def test_column_selection_and_ledger_say_the_same(survey: Survey) -> None:
    explore, problems = Explore(survey), check(survey.path)  # it has no originals
    told = design(survey, where="magnitude < 24", strata="subjects.kind", seed=7)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        drawn = sample(explore, told, "First set", ledger, "ada")
        kept = ledger.selection("First set", survey.subject_ids)
        assert survey.rows_of(kept.subject_ids).tolist() == drawn.rows.tolist()
        (entry,) = ledger.entries("sample")
    column = survey.column("inclusion_probability")
    assert np.array_equal(column, drawn.probability, equal_nan=True)
    assert (survey.column("magnitude")[drawn.rows] < 24).all()
    assert entry.run_id == RUN
    assert entry.payload["design"] == {
        "top": 0.05, "by": "scores.anomaly_score", "n_random": 40, "strata": "subjects.kind", "seed": 7,
        "allocation": "proportional", "where": "magnitude < 24", "run_id": RUN, "map_id": "", "lambda": 0.2,
        "mode": "raw",
    }  # fmt: skip
    assert (entry.payload["selection"], entry.payload["n"]) == ("First set", len(drawn.rows))
    assert sum(stratum["n_subjects"] for stratum in entry.payload["strata"]) == drawn.n_frame - drawn.n_certain
    metadata = pq.read_schema(survey.path / "subjects.parquet").field("inclusion_probability").metadata
    assert json.loads(metadata[DESIGN.encode()]) == entry.payload["design"] | {"n_frame": drawn.n_frame}
    assert check(survey.path) == problems
    # pairs show the same sky
    inside = np.isfinite(column)[:40].reshape(20, 2) & (survey.column("magnitude")[:40] < 24).reshape(20, 2)
    assert (inside.all(axis=1) == inside.any(axis=1)).all()


def test_the_design_outlives_a_join(survey: Survey, tmp_path: Path) -> None:
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        sample(Explore(survey), design(survey), "A", ledger, "ada")
    (tmp_path / "more.csv").write_text("id,z\ns1,0.5\ns2,0.7\n")
    join(survey.path, tmp_path / "more.csv", JoinOptions(on="source_id=id"))
    metadata = pq.read_schema(survey.path / "subjects.parquet").field("inclusion_probability").metadata
    assert json.loads(metadata[DESIGN.encode()])["n_random"] == 40


def test_a_second_sample_needs_replace_and_the_ledger_has_both(survey: Survey) -> None:
    explore = Explore(survey)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        sample(explore, design(survey), "A", ledger, "ada")
        before = survey.column("inclusion_probability").copy()
        with pytest.raises(UsageError, match=r"of 5. subjects, and a survey has one, whatever its name; --replace"):
            sample(explore, design(survey, seed=1), "B", ledger, "ada")
        assert np.array_equal(survey.column("inclusion_probability"), before, equal_nan=True)
        assert ledger.selection_names() == ["A"]
        sample(explore, design(survey, seed=1), "B", ledger, "ada", replace=True)
        assert not np.array_equal(survey.column("inclusion_probability"), before, equal_nan=True)
        assert len(ledger.entries("sample")) == 2
        assert ledger.selection_names() == ["A", "B"]


def test_the_name_of_another_selection_is_not_taken(survey: Survey) -> None:
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        ledger.save_selection("Mine", np.array([1]), survey.subject_ids, who="ada")
        with pytest.raises(UsageError, match='there is a selection "Mine" already'):
            sample(Explore(survey), design(survey), "Mine", ledger, "ada")
    assert np.isnan(survey.column("inclusion_probability")).all()


def test_numbers_make_strata_by_their_quarters(survey: Survey) -> None:
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        told = design(survey, top=0.0, by="", strata="subjects.magnitude", n_random=20, allocation="equal")
        drawn = sample(Explore(survey), told, "A", ledger, "ada")
    assert [(s.label, s.n_subjects) for s in drawn.strata] == [
        (f"in its {word} quarter", 50) for word in ("lowest", "second", "third", "highest")
    ]
    assert all(4 <= s.n_drawn <= 6 for s in drawn.strata)


def test_who_is_withdrawn_is_not_drawn(survey: Survey) -> None:
    table = pq.read_table(survey.path / "subjects.parquet")
    i = table.schema.get_field_index("is_withdrawn")
    flags = pa.array([True] * 150 + [None] * 50, pa.bool_())
    pq.write_table(table.set_column(i, table.schema.field(i), flags), survey.path / "subjects.parquet")
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        drawn = sample(Explore(survey), design(survey, top=0.1, n_random=100), "A", ledger, "ada")
    assert drawn.n_frame == 50
    assert drawn.rows.tolist() == list(range(150, 200))


def test_what_was_planted_is_not_drawn(survey: Survey) -> None:
    table = pq.read_table(survey.path / "subjects.parquet")
    kinds = pa.array([None] * 170 + ["arc"] * 30, pa.string())
    pq.write_table(table.append_column("injected_kind", kinds), survey.path / "subjects.parquet")
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        drawn = sample(Explore(survey), design(survey, top=0.1, n_random=153), "A", ledger, "ada")
    assert drawn.n_frame == 170
    assert drawn.rows.tolist() == list(range(170))


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"top": 0.0, "n_random": 0}, "an empty set is no sample"),
        ({"top": 0.0}, "--by says what the top is highest by; give --top"),
        ({"by": ""}, "--top needs --by COLUMN"),
        ({"top": 1.5}, "the top is 1.5 of the subjects"),
        ({"n_random": 0, "strata": "subjects.kind"}, "--strata says how the random part is drawn"),
        ({"by": "subjects.kind"}, '"subjects.kind" does not hold numbers, so nothing is highest by it'),
        ({"strata": "subjects.source_id"}, '"subjects.source_id" holds ids, which make no strata'),
        ({"strata": "subjects.kind", "n_random": 2}, "2 subjects at random cannot come from all 3 strata"),
        ({"where": "magnitude > 90"}, "there is no subject to draw from"),
        ({"n_random": -1}, "-1 subjects cannot be drawn"),
    ],
)
def test_what_makes_no_sample_is_refused(survey: Survey, told: dict[str, object], message: str) -> None:
    with (
        Ledger(survey.path, survey.info.survey_id) as ledger,
        pytest.raises(UsageError, match=message.replace(".", r"\.")),
    ):
        sample(Explore(survey), design(survey, **told), "A", ledger, "ada")
    assert np.isnan(survey.column("inclusion_probability")).all()


def test_bare_names_mean_scores_first(survey: Survey) -> None:
    explore = Explore(survey)
    assert reference(explore, "anomaly_score", RUN, "") == "scores.anomaly_score"
    assert reference(explore, "kind", RUN, "") == "subjects.kind"
    with pytest.raises(UsageError, match='column "anomaly_scor" is not in this survey; did you mean "anomaly_score"'):
        reference(explore, "anomaly_scor", RUN, "")


def test_the_command_says_the_design_in_words(survey: Survey, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(survey.path)
    assert cli.main(["sample", path, "--top", "1%", "--by", "anomaly_score", "--random", "50"]) == 0
    said = capsys.readouterr().out
    assert "200 subjects could be drawn\ncertain: the 2 with the highest anomaly_score (top 1 %)" in said
    assert "subjects that show the same sky were drawn together or not at all" in said
    assert "which stand for " in said
    assert 'kept as the selection "Sample"' in said
    assert cli.main(["sample", path, "--random", "5"]) == 2
    assert "has a sample already" in capsys.readouterr().err
    assert cli.main(["sample", path, "--top", "5%", "--replace"]) == 0
    assert "nothing of the rest was drawn, so it says nothing about the rest" in capsys.readouterr().out
    assert cli.main(["sample", path, "--random", "5", "--by", "nonsense", "--name", "X"]) == 2
    assert 'column "nonsense" is not in this survey' in capsys.readouterr().err, "before it is said that one is there"
    assert cli.main(["sample", path, "--top", "5%", "--by", "kind", "--name", "X"]) == 2
    assert '"subjects.kind" does not hold numbers' in capsys.readouterr().err
    assert cli.main(["sample", path, "--random", "200", "--replace"]) == 0
    said = capsys.readouterr().out
    assert "you asked for" not in said
    assert "note: the sample is the whole survey\n" in said
    assert cli.main(["sample", path, "--random", "500", "--replace", "--where", "kind = spiral"]) == 0
    said = capsys.readouterr().out
    assert re.search(r"you asked for 500 at random; there are \d+\n", said)
    assert "note: the sample is all that could be drawn\n" in said
    for wrong in ("0%", "120%", "many"):
        assert cli.main(["sample", path, "--top", wrong]) == 2
        assert f'"{wrong}" is no share; write 1% or 0.01' in capsys.readouterr().err
