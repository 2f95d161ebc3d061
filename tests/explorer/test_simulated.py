"""Simulated votes in a survey: from pixels and known classes alone, marked, apart from real ones, and removable."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer import cli
from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services import demo, simulated
from explorer.services.explore import Explore
from explorer.services.filters import columns_of
from explorer.services.simulated import Worth, remove, simulate, table_of, worth_by_column, worth_by_morphology
from explorer.services.volunteers import recount
from explorer.survey import Survey
from explorer.votes import CLASSIFICATIONS, CLASSIFICATIONS_SCHEMA
from models.artifacts import Run, write_scores
from models.simulate import Crowd, votes
from tests.explorer.making import finished
from tests.explorer.small_survey import write_survey

N = 40


@pytest.fixture
def survey(tmp_path: Path) -> Iterator[Survey]:
    opened = Survey.open(write_survey(tmp_path / "survey", N))
    yield opened
    opened.close()


def some(survey: Survey) -> Worth:
    is_worth = np.arange(survey.n) < 8
    return Worth(is_worth, is_worth.astype(np.float32), "planted")


def measured(survey: Survey) -> Worth:
    worth = finished(worth_by_morphology(survey))
    assert isinstance(worth, Worth)
    return worth


def kept(survey: Survey) -> pa.Table:
    return pq.read_table(survey.path / CLASSIFICATIONS)


def test_every_vote_is_marked_and_in_the_schema(survey: Survey) -> None:
    totals = simulate(survey, some(survey), n_views=12, seed=3)
    table = kept(survey)
    assert table.schema.equals(CLASSIFICATIONS_SCHEMA)
    assert totals["n_votes"] == table.num_rows == N * 12
    assert table.column("is_simulated").to_pylist() == [True] * table.num_rows
    assert table.column("volunteer").to_pylist()[0].startswith("simulated-")
    assert set(table.column("source").to_pylist()) == {"simulated"}
    assert set(table.column("answer").to_pylist()) == {"", "chosen"}
    assert sorted(set(table.column("subject_id").to_pylist())) == sorted(survey.subject_ids.tolist())
    times = table.column("created_at").to_numpy()
    assert (times[1:] >= times[:-1]).all()
    assert table.column("answer").to_pylist().count("chosen") == totals["n_chosen"]


def test_shuffled_scores_and_latents_change_no_vote(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    images = np.asarray(survey.images[:]).copy()
    images[:6, 10:20, 4:28] = 255  # some that stand out
    monkeypatch.setattr(Survey, "images", images)
    scores = rng.random(N).astype(np.float32)
    found = []
    for order in (np.arange(N), rng.permutation(N)):
        folder = survey.run_folder("20260101-000000-score")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        columns = dict.fromkeys(("image_score", "feature_score", "anomaly_score"), scores[order])
        columns |= {"subject_id": survey.subject_ids, "split": ["unseen"] * N, "quality": ["ok"] * N}  # type: ignore[dict-item]
        write_scores(folder, rng.random((N, 4)).astype(np.float32)[order], columns)
        Run("20260101-000000-score", "score", "0.1.0", {}, state="done", n_rows=N).write(folder / "run.json")
        again = Survey.open(survey.path)
        assert np.array_equal(again.scores("20260101-000000-score")["image_score"], scores[order])
        simulate(again, measured(again), seed=1, replace=True)
        again.close()
        found.append((survey.path / CLASSIFICATIONS).read_bytes())
    assert found[0] == found[1]


def test_no_score_latent_map_or_vote_is_even_read(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("simulated votes know nothing of this")

    for name in ("scores", "latents", "coordinates", "placing", "column", "category"):
        monkeypatch.setattr(Survey, name, refuse)
    simulate(survey, measured(survey))
    assert (survey.path / CLASSIFICATIONS).exists()


def test_the_most_asymmetric_and_elongated_are_worth_choosing(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    y, x = np.mgrid[:32, :32] - 15.5
    noise = np.random.default_rng(1).normal(0, 2, (N, 32, 32))
    images = 30 + 150 * np.exp(-0.5 * (x**2 + y**2) / 9) + noise
    images[5] += 120 * np.exp(-0.5 * ((x - 8) ** 2 + y**2) / 4)
    images[9] = 30 + 150 * np.exp(-0.5 * (x**2 / 36 + y**2 / 2)) + noise[9]
    pixels = np.repeat(images.clip(0, 255).astype(np.uint8)[..., None], 3, axis=3)
    monkeypatch.setattr(Survey, "images", pixels)
    worth = measured(survey)
    assert {5, 9} <= set(np.flatnonzero(worth.is_worth))
    assert worth.is_worth.sum() <= 5
    assert (worth.visibility[~worth.is_worth] == 0).all()
    assert worth.visibility[5] == 1.0


def test_a_known_class_is_a_column_of_categories(survey: Survey) -> None:
    table = pq.read_table(survey.path / "subjects.parquet")
    kinds = pa.array(["plain", "ring", None, "merger"] * (N // 4))
    table = table.append_column("kind", kinds).append_column("score", pa.array(np.arange(N, dtype=float)))
    pq.write_table(table, survey.path / "subjects.parquet")
    survey.refresh()
    worth = worth_by_column(survey, "kind", ["ring", "merger"], 0.5)
    assert np.flatnonzero(worth.is_worth).tolist() == [i for i in range(N) if i % 4 in (1, 3)]
    assert set(worth.visibility.tolist()) == {0.5}
    with pytest.raises(UsageError, match='"score" holds numbers, which are no known classes'):
        worth_by_column(survey, "score", ["1.0"])
    with pytest.raises(UsageError, match=r'no subject of .* has kind = "rings"'):
        worth_by_column(survey, "kind", ["rings"])
    with pytest.raises(UsageError, match=r'column "knd" is not in subjects\.parquet; did you mean "kind"'):
        worth_by_column(survey, "knd", ["ring"])


def test_simulated_votes_stand_in_for_each_other_only_when_asked(survey: Survey) -> None:
    simulate(survey, some(survey), seed=1)
    first = kept(survey)
    with pytest.raises(UsageError, match="has 480 simulated votes already; --replace makes them anew"):
        simulate(survey, some(survey), seed=2)
    simulate(survey, some(survey), seed=2, replace=True)
    assert kept(survey).num_rows == first.num_rows
    assert not kept(survey).equals(first)


def test_real_votes_are_not_mixed_with_unless_asked_and_stay(survey: Survey) -> None:
    said = votes(np.arange(N) < 4, 3, seed=9, crowd=Crowd(n_volunteers=10))
    real = table_of(said, survey.subject_ids)
    i = real.schema.get_field_index("is_simulated")
    for flag in (False, None):  # flat tables do not say
        table = real.set_column(i, CLASSIFICATIONS_SCHEMA.field(i), pa.array([flag] * real.num_rows, pa.bool_()))
        pq.write_table(table, survey.path / CLASSIFICATIONS)
        with pytest.raises(UsageError, match="has votes of real volunteers"):
            simulate(survey, some(survey))
        assert kept(survey).equals(table)
        simulate(survey, some(survey), mix=True)
        both = kept(survey)
        assert both.num_rows == real.num_rows + N * 12
        assert both.schema.equals(CLASSIFICATIONS_SCHEMA)
        flags = np.array([f is True for f in both.column("is_simulated").to_pylist()])
        ids = both.column("classification_id").to_numpy()
        assert not set(ids[flags]) & set(ids[~flags])
        assert remove(survey) == N * 12
        assert sorted(kept(survey).to_pylist(), key=str) == sorted(table.to_pylist(), key=str)


def test_votes_on_our_own_page_are_real_ones(survey: Survey) -> None:
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        ledger.append("classification", {"subjects": [], "chosen": []}, who="volunteer:0123")
    with pytest.raises(UsageError, match="has votes of real volunteers"):
        simulate(survey, some(survey))


def test_removed_they_leave_no_file(survey: Survey) -> None:
    assert remove(survey) == 0
    simulate(survey, some(survey))
    assert remove(survey) == N * 12
    assert not (survey.path / CLASSIFICATIONS).exists()


def test_the_command_says_simulated_and_what_is_worth_choosing(
    survey: Survey, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["simulate", str(survey.path), "--views", "5"]) == 0
    said = capsys.readouterr().out
    assert f"{N * 5} simulated votes of " in said
    assert "simulated volunteers on 40 subjects, " in said
    assert "morphology measured on pixels" in said
    assert cli.main(["simulate", str(survey.path), "--class", "half"]) == 2
    assert "--class and --worth go together" in capsys.readouterr().err
    assert cli.main(["simulate", str(survey.path), "--views", "50", "--replace"]) == 2
    assert "50 views of each subject by different volunteers need" in capsys.readouterr().err
    assert cli.main(["simulate", str(survey.path), "--remove"]) == 0
    assert "200 simulated votes removed" in capsys.readouterr().out


def test_every_column_made_of_simulated_votes_says_so_where_its_name_stands(survey: Survey) -> None:
    simulate(survey, some(survey))
    recount(survey.path)
    survey.refresh()
    titles = Explore(survey).colors("")
    assert titles["subjects.chosen_fraction"] == "chosen fraction (simulated)"
    assert titles["subjects.vote_entropy"] == "vote entropy (bit, simulated)"
    of_talk = {"n_comments", "n_tags", "n_taggers", "tag_group"}
    units = {column.name: column.unit or "" for column in survey.columns() if column.name in survey.columns_of_crowd()}
    assert {name for name, unit in units.items() if "simulated" not in unit} <= of_talk
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        notes = columns_of(Explore(survey), ledger=ledger).notes
    assert notes["subjects.chosen_fraction"] == "simulated"


def test_the_demo_is_voted_on_once(survey: Survey) -> None:
    voting = demo.let_vote(survey)
    assert voting is not None
    assert finished(voting)["n_votes"] == N * 12
    before = (survey.path / CLASSIFICATIONS).read_bytes()
    assert demo.let_vote(survey) is None
    assert (survey.path / CLASSIFICATIONS).read_bytes() == before


def test_surveys_without_images_need_a_class(survey: Survey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Survey, "images", None)
    with pytest.raises(UsageError, match="has no images to measure; --class COLUMN --worth VALUE"):
        measured(survey)
    assert simulated.MEASURES.keys() == {"asymmetry", "n_peaks", "ellipticity"}


def test_real_votes_that_come_later_are_said_to_stand_beside(
    survey: Survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    votes_file = tmp_path / "votes.csv"
    lines = [f"{i},w{v},{(k + v) % 2}" for k, i in enumerate(survey.subject_ids) for v in range(3)]
    votes_file.write_text("\n".join(["item,worker,label", *lines]) + "\n")
    table = pq.read_table(survey.path / "subjects.parquet")
    i = table.schema.get_field_index("source_id")
    ids = table.column("subject_id").cast(pa.string())
    pq.write_table(table.set_column(i, table.schema.field(i), ids), survey.path / "subjects.parquet")
    survey.refresh()
    simulate(survey, some(survey))
    assert cli.main(["ingest", str(survey.path), str(votes_file)]) == 0
    said = capsys.readouterr().out
    assert "480 simulated votes of this survey stand beside these" in said
    assert kept(survey).num_rows == N * 15
    assert remove(survey) == N * 12
    assert cli.main(["ingest", str(survey.path), str(votes_file)]) == 0
    assert "simulated" not in capsys.readouterr().out
