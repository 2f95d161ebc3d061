"""``voorwerp purity`` on a survey whose figures are known by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer import cli
from explorer.errors import UsageError
from explorer.services.explore import Explore
from explorer.services.purest import Asked, purest
from explorer.survey import Survey
from models.artifacts import RUN_JSON, Run, write_scores
from models.labels import write_labels
from tests.explorer.small_survey import write_survey

N = 80
#: Every fourth subject is a merger, and all of these but the first score above everybody else.
KIND = ["merger" if row % 4 == 0 else "plain" for row in range(N)]
SCORE = np.array([row / 100 + (10 if row % 4 == 0 and row else 0) for row in range(N)], np.float32)


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    """The first 40 are the tune half."""
    path = write_survey(tmp_path / "survey", N)
    table = pq.read_table(path / "subjects.parquet")
    at = table.schema.get_field_index("half")
    table = table.set_column(at, table.schema.field(at), pa.array(["tune" if row < 40 else "test" for row in range(N)]))
    for name, values in (
        ("kind", pa.array(KIND)),
        ("votes", pa.array([0.3 if row == 39 else 0.0 for row in range(N)])),
    ):
        metadata = {"kind": "category"} if name == "kind" else None
        table = table.append_column(pa.field(name, values.type, metadata=metadata), values)
    pq.write_table(table, path / "subjects.parquet")
    folder = path / "runs" / "a"
    folder.mkdir(parents=True)
    nothing = np.full(N, np.nan, np.float32)
    columns = {"image_score": nothing, "feature_score": nothing, "anomaly_score": SCORE, "badness": -SCORE}
    ids = table.column("subject_id").to_numpy()
    write_scores(folder, None, {"subject_id": ids, "split": ["unseen"] * N, "quality": ["ok"] * N, **columns})
    Run("a", "score", "test", {}, state="done", n_rows=N).write(folder / RUN_JSON)
    return path


def test_the_limit_is_of_the_tune_half(survey: Path) -> None:
    found = purest(Explore(Survey.open(survey)), Asked("anomaly_score", "a", "kind", ["merger"]))
    assert "Above 0.39 lie 90.0% [59.6, 98.2] (9 of 10) of the positives and none of 30 negatives" in found.sentences[0]
    assert found.sentences[1].endswith("49 lie above.")  # 19 mergers and the 30 plain ones of the test half from 41 on
    assert found.caveats == [] and len(found.tables) == 1


def test_low_scores_may_be_the_positive_ones(survey: Path) -> None:
    explore = Explore(Survey.open(survey))
    high = purest(explore, Asked("anomaly_score", "a", "kind", ["merger"]))
    low = purest(explore, Asked("badness", "a", "kind", ["merger"], is_low=True))
    assert low.sentences == high.sentences and "sign changed" in low.tables[0].title


def test_a_simulated_truth_is_called_so(survey: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explore = Explore(Survey.open(survey))
    monkeypatch.setattr(explore.survey, "columns_of_crowd", lambda: ["kind"])
    asked = Asked("anomaly_score", "a", "kind", ["merger"])
    monkeypatch.setattr(explore.survey, "about_crowd", lambda: {"is_simulated": False})
    assert "simulated" not in purest(explore, asked).sentences[0]
    monkeypatch.setattr(explore.survey, "about_crowd", lambda: {"is_simulated": True})
    found = purest(explore, asked, has_test=True)
    assert "(9 of 10) of the simulated positives and none of 30 simulated negatives" in found.sentences[0]
    assert found.caveats == ["kind is simulated: figures say how it would go, not what is there"]
    assert all("simulated kind = merger" in table.title for table in found.tables)


def test_votes_are_a_control(survey: Path) -> None:
    found = purest(Explore(Survey.open(survey)), Asked("anomaly_score", "a", "kind", ["merger"], "votes"))
    (rows,) = (table.rows for table in found.tables)
    at = next(row for row in rows if row[0].endswith("20%"))
    assert at[1] == pytest.approx(0.38) and at[4] == "1 of 1"


def test_a_score_that_learned_from_the_truth_is_circular(survey: Path) -> None:
    about = {"expert": {"source": "column:kind", "words": "column kind", "atoms": ["subjects.kind"]}}
    write_labels(survey / "runs" / "a", {"subject_id": [0]}, [], about)
    found = purest(Explore(Survey.open(survey)), Asked("anomaly_score", "a", "kind", ["merger"]))
    assert found.caveats[0].startswith("circular: a learned from kind")


def test_a_score_that_builds_on_one_that_learned_from_the_truth_is_circular(
    survey: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = survey / "runs" / "first"
    folder.mkdir()
    Run("first", "czsl", "test", {}, provides="score", state="done", n_rows=N).write(folder / RUN_JSON)
    about = {"expert": {"source": "campaign:X", "words": "", "is_simulated": True, "atoms": ["grade:7"]}}
    write_labels(folder, {"subject_id": [1], "is_test": [False], "duplicate_group": [-1]}, [], about)
    Run("a", "finetune", "test", {}, provides="score", state="done", n_rows=N, inputs={"score": "first"}).write(
        survey / "runs" / "a" / RUN_JSON
    )
    asked = Asked("anomaly_score", "a", "kind", ["merger"])
    explore = Explore(Survey.open(survey))
    assert explore.score_titles("a")["badness"] == "simulated: badness"
    assert purest(explore, asked).caveats == ["the score learned from simulated labels"]
    monkeypatch.setattr(explore.survey, "about_grades", lambda: {"columns": {"kind": "grade:7"}})
    assert purest(explore, asked).caveats[0].startswith("circular: a learned from kind")


def test_the_command_prints_and_counts_looks_at_the_test_half(survey: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["purity", str(survey), "--truth", "kind=merger"]) == 0
    told = capsys.readouterr().out
    assert "(9 of 10)" in told and "test half" not in told.replace("tune half", "")
    for times in ("1 time", "2 times"):
        assert cli.main(["purity", str(survey), "--truth", "kind=merger", "--run", "a", "--test"]) == 0
        told = capsys.readouterr().out
        assert "The same limit on the test half" in told and f"looked at {times} for kind = merger" in told


def test_what_cannot_be_is_said(survey: Path, capsys: pytest.CaptureFixture[str]) -> None:
    explore = Explore(Survey.open(survey))
    with pytest.raises(UsageError, match='"anomaly" is not in the scores of a; did you mean "anomaly_score"'):
        purest(explore, Asked("anomaly", "a", "kind", ["merger"]))
    with pytest.raises(UsageError, match='"ring" is no value of kind'):
        purest(explore, Asked("anomaly_score", "a", "kind", ["ring"]))
    with pytest.raises(UsageError, match="no subject with a score is negative"):
        purest(explore, Asked("anomaly_score", "a", "kind", ["merger", "plain"]))
    for arguments, words in (
        (["--truth", "kind"], "names no values"),
        (["--truth", "kind=merger", "--run", "b"], "b is not a finished run"),
        (["--truth", "kind=merger", "--column", "other"], "no finished run of"),
    ):
        assert cli.main(["purity", str(survey), *arguments]) != 0
        assert words in capsys.readouterr().err
