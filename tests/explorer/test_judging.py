"""``voorwerp judge`` and `explorer.services.judging`, on runs whose figures are known by hand."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer import cli
from explorer.errors import UsageError
from explorer.services.explore import Explore
from explorer.services.judging import verdicts
from explorer.survey import Survey
from models.artifacts import RUN_JSON, Run, write_scores
from models.labels import write_labels
from tests.explorer.small_survey import write_survey

N = 40


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    """40 subjects, 4 of them mergers: rows 0 to 3; even rows are the tune half; one has no kind."""
    path = write_survey(tmp_path / "survey", N)
    table = pq.read_table(path / "subjects.parquet")
    kind = ["merger"] * 4 + ["plain"] * (N - 5) + [None]
    half = [None if row > 35 else "tune" if row % 2 == 0 else "test" for row in range(N)]  # some are in neither
    at = table.schema.get_field_index("half")
    table = table.set_column(at, table.schema.field(at), pa.array(half))
    field = pa.field("kind", pa.string(), metadata={"kind": "category"})
    pq.write_table(table.append_column(field, pa.array(kind)), path / "subjects.parquet")
    return path


def add_run(path: Path, run_id: str, config: dict[str, object], **scores: np.ndarray) -> None:
    folder = path / "runs" / run_id
    folder.mkdir(parents=True)
    ids = pq.read_table(path / "subjects.parquet").column("subject_id").to_numpy()
    nothing = np.full(N, np.nan, np.float32)
    columns = {name: scores.get(name, nothing) for name in ("image_score", "feature_score", "anomaly_score")}
    split = ["train" if row < 30 else "validation" for row in range(N)]
    write_scores(folder, None, {"subject_id": ids, "split": split, "quality": ["ok"] * N, **columns})
    Run(run_id, "score", "test", config, state="done", n_rows=N).write(folder / RUN_JSON)


FALLING = np.arange(N, 0, -1, dtype=np.float32)


def test_each_score_is_judged_on_all_and_by_what_the_network_saw(survey: Path) -> None:
    add_run(survey, "a", {}, image_score=FALLING, feature_score=-FALLING, anomaly_score=FALLING)
    found = list(verdicts(Explore(Survey.open(survey)), "kind", ["merger"], ["a"], [(0.2, "raw"), (0.8, "raw")]))
    auc = {(v.score, v.part): v.judgement.auc.value for v in found}
    assert auc["Image score", "all"] == 1
    assert auc["Feature score", "all"] == 0
    assert auc["Anomaly score (λ = 0.2)", "train"] == 1
    assert auc["Anomaly score (λ = 0.8)", "all"] == 0
    assert np.isnan(auc["Image score", "validation"])  # none is looked for there
    counts = {v.part: (v.judgement.n, v.judgement.n_positive) for v in found if v.score == "Image score"}
    assert counts == {"all": (39, 4), "train": (30, 4), "validation": (9, 0)}  # the one without a kind is left out


def test_a_run_of_one_number_is_judged_once_and_by_half(survey: Path) -> None:
    add_run(survey, "p", {"method": "pca"}, image_score=FALLING, anomaly_score=FALLING)
    explore = Explore(Survey.open(survey))
    (tune, *_) = verdicts(explore, "kind", ["merger"], ["p"], [(0.2, "raw")], half="tune")
    assert (tune.score, tune.judgement.n, tune.judgement.n_positive) == ("Anomaly score", 18, 2)
    everything = [v.score for v in verdicts(explore, "kind", ["merger"], ["p"], [(0.2, "raw")])]
    assert set(everything) == {"Anomaly score"}
    with pytest.raises(UsageError, match='"mergers" is no value of kind; it has merger, plain'):
        list(verdicts(explore, "kind", ["mergers"], ["p"], []))
    with pytest.raises(UsageError, match='column "knid" is not in the columns of categories; did you mean "kind"'):
        list(verdicts(explore, "knid", ["merger"], ["p"], []))


def test_the_command_prints_the_table_and_asks_for_the_reference(
    survey: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["judge", str(survey), "kind", "merger"]) == 2
    assert "has no finished score run" in capsys.readouterr().err
    add_run(survey, "a", {}, image_score=FALLING, feature_score=-FALLING, anomaly_score=FALLING)
    assert cli.main(["judge", str(survey), "kind", "merger", "--lambda", "0,1", "--half", "all"]) == 0
    out = capsys.readouterr().out
    assert "kind = merger; the whole survey" in out
    assert "the test half was looked at 1 time for kind = merger" in out
    assert "1.000 [1.00, 1.00]" in out
    assert "no PCA-32 reconstruction error stands beside it" in out
    add_run(survey, "p", {"method": "pca", "on": "pixels", "n_components": 32}, anomaly_score=FALLING)
    assert cli.main(["judge", str(survey), "kind", "merger"]) == 0
    out = capsys.readouterr().out
    assert "tune half" in out
    assert "PCA-32" not in out.replace("PCA-32 reconstruction error │", "")
    assert cli.main(["judge", str(survey), "kind", "merger", "--run", "b"]) == 2
    assert "b is not a finished score run" in capsys.readouterr().err
    add_run(survey, "empty", {})
    assert cli.main(["judge", str(survey), "kind", "merger", "--run", "empty"]) == 2
    assert "none of empty has a score to judge" in capsys.readouterr().err
    cli.main(["judge", str(survey), "kind", "merger", "--half", "test"])
    assert "the test half was looked at 2 times for kind = merger" in capsys.readouterr().out


def test_a_run_that_learned_from_the_truth_is_said_to_be_circular(
    survey: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_run(survey, "plain", {}, image_score=FALLING, anomaly_score=FALLING)
    add_run(survey, "taught", {}, image_score=FALLING, anomaly_score=FALLING)
    about = {"expert": {"source": "column:kind", "words": "column kind", "atoms": ["subjects.kind"]}}
    columns = {"subject_id": [1], "is_test": [False], "duplicate_group": [-1]}
    write_labels(survey / "runs" / "taught", columns, ["merger", "plain"], about)
    assert cli.main(["judge", str(survey), "kind", "merger", "--half", "tune"]) == 0
    said = capsys.readouterr().out
    assert "circular: taught learned from what kind says" in said and "circular: plain" not in said
