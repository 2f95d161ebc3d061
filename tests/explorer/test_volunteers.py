"""`explorer.services.volunteers`: from votes in files and in the ledger to a consensus and the survey's columns."""

import contextlib
import csv
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from explorer.commands.counting import show
from explorer.errors import SurveyError, UsageError
from explorer.ingest.build import create_table_only
from explorer.ledger import Ledger
from explorer.services.counting import Counting, binary
from explorer.services.volunteers import CLASSIFICATION, Volunteers, recount
from explorer.survey import Survey
from explorer.votes import (
    CLASSIFICATIONS,
    CLASSIFICATIONS_SCHEMA,
    CONSENSUS_SCHEMA,
    EXPERIENCE_SCHEMA,
    GOLD_SCHEMA,
    NO_WORKFLOW,
    OWN_WORKFLOW,
    TOTALS,
    TOTALS_SCHEMA,
    VOLUNTEERS_SCHEMA,
    volunteer_hash,
)
from models.artifacts import write_table

DAY = datetime(2026, 1, 1, tzinfo=UTC)
N = 20  # subjects 1000 … 1019


def table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.table([pa.array([row.get(f.name) for row in rows], f.type) for f in schema], schema=schema)


def vote(i: int, subject: int, volunteer: str, answer: str = "", **more: Any) -> dict[str, Any]:
    """One row of classifications.parquet."""
    return {
        "classification_id": i,
        "subject_id": 1000 + subject,
        "workflow_id": 7,
        "workflow_version": "3.1",
        "task": "T0",
        "answer": answer,
        "volunteer": volunteer,
        "created_at": DAY + timedelta(hours=i),
        "is_live": True,
        "is_simulated": False,
        "source": "test",
    } | more


def write_votes(folder: Path, rows: list[dict[str, Any]]) -> None:
    write_table(folder / CLASSIFICATIONS, table(rows, CLASSIFICATIONS_SCHEMA))


def make(folder: Path, ids: Iterable[int], **columns: list[Any]) -> None:
    create_table_only(folder, pa.table({"source_id": [str(i) for i in ids]} | columns), "a survey")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A survey of twenty subjects without images and without votes."""
    make(tmp_path / "survey", range(1000, 1000 + N))
    return tmp_path / "survey"


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Volunteers]:
    with contextlib.closing(Survey.open(folder)) as survey, Ledger(folder, survey.info.survey_id) as ledger:
        yield Volunteers(survey, ledger)


def row_of(folder: Path, subject: int, answer: str = "yes", **where: Any) -> dict[str, Any]:
    found = [
        row
        for row in pq.read_table(folder / "consensus.parquet").to_pylist()
        if row["subject_id"] == 1000 + subject
        and row["answer"] == answer
        and all(row[k] == v for k, v in where.items())
    ]
    assert len(found) == 1
    return found[0]


TWICE = [
    vote(1, 0, "a", "yes"),
    vote(2, 0, "b"),
    vote(3, 0, "a"),  # again, and changed: by volunteers the first counts
    vote(4, 0, "c", "yes"),
    vote(5, 1, "a"),
    vote(6, 1, "b"),
]


def test_a_survey_without_votes_has_nothing_to_count(folder: Path) -> None:
    with opened(folder) as volunteers:
        assert not volunteers.is_stale() and not volunteers.poll()
        assert volunteers.questions() == [] and volunteers.votes() is None and volunteers.summary() == {}
        assert volunteers.survey.columns_of_crowd() == []
    assert recount(folder) == ["nobody has voted on any subject of this survey"]
    assert not (folder / "consensus.parquet").exists()


def test_volunteers_count_once_and_views_as_often_as_they_came(folder: Path) -> None:
    write_votes(folder, TWICE)
    assert recount(folder) == [
        "workflow 7 · T0 · yes: 6 classifications of 2 subjects by 3 volunteers, fractions by volunteers"
    ]
    found = pq.read_table(folder / "consensus.parquet")
    assert found.schema.equals(CONSENSUS_SCHEMA)
    by_people = row_of(folder, 0)
    assert (by_people["n_classifications"], by_people["n_volunteers"]) == (4, 3)
    assert (by_people["n_chosen"], by_people["n_chosen_volunteers"]) == (2, 2)
    assert by_people["chosen_fraction"] == pytest.approx(2 / 3)
    assert by_people["chosen_low"] < 2 / 3 < by_people["chosen_high"]
    with opened(folder) as volunteers:
        told = volunteers.decide(Counting(basis="views"), who="test")
        assert told["basis"] == "views" and volunteers.settings.basis == "views"
    assert row_of(folder, 0)["chosen_fraction"] == 0.5
    assert row_of(folder, 1)["chosen_fraction"] == 0


def test_the_columns_of_the_survey_are_those_of_the_chosen_question(folder: Path) -> None:
    write_votes(folder, [*TWICE, *(vote(10 + i, 2, "b", "ring", task="T1") for i in range(2))])
    with opened(folder) as volunteers:
        volunteers.poll()
        survey = volunteers.survey
        assert survey.refresh() and survey.generation == 1
        assert survey.column("chosen_fraction")[:3] == pytest.approx([2 / 3, 0, np.nan], nan_ok=True)
        assert survey.column("n_chosen")[:3].tolist() == [2, 0, 0]
        assert survey.column("n_votes")[:3].tolist() == [3, 2, 0]
        assert survey.column("n_classifications")[:3].tolist() == [4, 2, 0]
        assert np.isfinite(survey.column("swap_probability")[:2]).all()
        assert np.isnan(survey.column("swap_probability")[2])
        assert [(q.task, q.answer, q.n_subjects, q.n_votes) for q in volunteers.questions()] == [
            ("T0", "yes", 2, 6),
            ("T1", "ring", 1, 2),
        ]
        assert not volunteers.poll()
        volunteers.decide(Counting(task="T1"), who="test")
        survey.refresh()
        assert survey.column("chosen_fraction")[:3] == pytest.approx([np.nan, np.nan, 1], nan_ok=True)
        with pytest.raises(UsageError, match='nobody has answered "rings"; did you mean "ring"'):
            volunteers.decide(Counting(task="T1", answer="rings"), who="test")
        with pytest.raises(UsageError, match="nobody was asked task T9 of workflow 7; there are 7 T0, 7 T1"):
            volunteers.decide(Counting(workflow_id=7, task="T9"), who="test")
        assert volunteers.settings.task == "T1"


def test_a_column_of_the_survey_is_not_hidden_by_one_of_the_same_name(tmp_path: Path) -> None:
    make(tmp_path / "survey", [1000, 1001], chosen_fraction=[0.125, 0.25])
    write_votes(tmp_path / "survey", TWICE)
    recount(tmp_path / "survey")
    with contextlib.closing(Survey.open(tmp_path / "survey")) as survey:
        assert survey.column("chosen_fraction").tolist() == [0.125, 0.25]
        assert survey.column("volunteers_chosen_fraction")[0] == pytest.approx(2 / 3)


FLAGGED = [
    vote(1, 0, "a", "yes"),
    vote(2, 0, "b", "yes", is_live=False),
    vote(3, 0, "c", "yes", is_gold=True),
    vote(4, 0, "d", "yes", is_repeat=True),
    vote(5, 0, "e", is_anonymous=True),
    vote(6, 0, "f", workflow_version="2.9"),
    vote(7, 0, "g", created_at=None),
]


@pytest.mark.parametrize(
    ("settings", "k", "n", "left_out"),
    [
        (
            {},
            1,
            4,
            {
                "cast before the project's launch": 1,
                "gold-standard answers": 1,
                "subject seen before, or workflow finished": 1,
            },
        ),
        ({"live_only": False, "leave_out_gold": False, "leave_out_repeats": False}, 4, 7, {}),
        ({"leave_out_anonymous": True, "team": ("a",)}, 0, 2, {"anonymous sessions": 1, "team accounts": 1}),
        ({"versions": ("3.0", "")}, 1, 3, {"another workflow version": 1}),
        ({"versions": ("", "2.10")}, 0, 1, {"another workflow version": 3}),
        ({"since": "2026-01-02"}, 0, 1, {"earlier": 3}),
        ({"until": "2026-01-01"}, 1, 4, {}),
    ],
)
def test_what_is_left_out_is_counted(
    folder: Path, settings: dict[str, Any], k: int, n: int, left_out: dict[str, int]
) -> None:
    write_votes(folder, FLAGGED)
    with opened(folder) as volunteers:
        told = volunteers.decide(Counting(**settings), who="test")
        volunteers.survey.refresh()
        assert (volunteers.survey.column("n_chosen")[0], volunteers.survey.column("n_votes")[0]) == (k, n)
        assert left_out.items() <= told["left_out"].items()
        assert volunteers.left_out == told["left_out"]
        assert sum(told["left_out"].values()) + n == len(FLAGGED)


def test_before_the_launch_there_is_nothing_else_to_count(folder: Path) -> None:
    write_votes(folder, [row | {"is_live": False} for row in TWICE])
    with opened(folder) as volunteers:
        assert volunteers.recount()["left_out"] == {}


def test_experience_weighs_more(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_votes(folder, TWICE)
    write_table(
        folder / "experience.parquet", table([{"volunteer": "a", "n_elsewhere": 100, "source": "x"}], EXPERIENCE_SCHEMA)
    )
    with opened(folder) as volunteers:
        volunteers.recount()
        assert row_of(folder, 0)["weighted_chosen_fraction"] == pytest.approx(3 / 4)
        assert row_of(folder, 0)["n_effective"] == pytest.approx(16 / 6)
        people = dict(zip(volunteers.people()["volunteer"], volunteers.people()["n_elsewhere"], strict=True))
        assert people["a"] == 100 and np.isnan(people["b"])
        volunteers.survey.refresh()
        show(volunteers)
        assert "│ weighted" in capsys.readouterr().out
        volunteers.decide(Counting(weights="experience", threshold=101), who="test")
        assert row_of(folder, 0)["weighted_chosen_fraction"] == pytest.approx(2 / 3)
        volunteers.decide(Counting(weights="log", threshold=100), who="test")
        assert row_of(folder, 0)["weighted_chosen_fraction"] == pytest.approx(3 / 4)


def test_several_answers_have_a_column_each(folder: Path) -> None:
    rows = [
        vote(1, 0, "a", "spiral"),
        vote(2, 0, "b", "spiral"),
        vote(3, 0, "c", "Edge-on!"),
        vote(4, 1, "a", "Edge-on!"),
    ]
    rows += [vote(5, 1, "b", "spiral")]
    write_votes(folder, rows)
    with opened(folder) as volunteers:
        told = volunteers.recount()
        survey = volunteers.survey
        survey.refresh()
        assert told["answer"] == "spiral"  # the commonest
        assert survey.column("fraction_spiral")[:3] == pytest.approx([2 / 3, 0.5, np.nan], nan_ok=True)
        assert survey.column("fraction_edge_on")[:2] == pytest.approx([1 / 3, 0.5])
        assert survey.column("majority_answer")[:3].tolist() == ["spiral", None, None]  # one of two is none


def test_a_list_of_very_many_answers_has_rows_of_those_that_were_given(folder: Path) -> None:
    """In parts of 64, and the same as at once."""
    random = np.random.default_rng(1)
    drawn = [
        (int(s), f"a{int(a):03}") for s, a in zip(random.integers(0, 4, 200), random.integers(0, 150, 200), strict=True)
    ]
    write_votes(folder, [vote(i, s, f"v{i}", a) for i, (s, a) in enumerate(drawn)])
    with opened(folder) as volunteers:
        told = volunteers.recount()
        counts = Counter(drawn)
        assert len({answer for _, answer in drawn}) > 64
        found = pq.read_table(folder / "consensus.parquet").to_pylist()
        given = {(row["subject_id"] - 1000, row["answer"]): row["n_chosen"] for row in found if row["n_chosen"]}
        assert given == dict(counts)
        zeros = [row for row in found if not row["n_chosen"]]
        assert {row["answer"] for row in zeros} <= {told["answer"]}
        for subject in range(4):
            k = np.array([n for (s, _), n in counts.items() if s == subject])
            bits = -(k / k.sum() * np.log2(k / k.sum())).sum()
            said = [row["entropy"] for row in found if row["subject_id"] == 1000 + subject]
            assert said == pytest.approx([bits] * len(said))
        volunteers.survey.refresh()
        assert np.isfinite(volunteers.survey.column("chosen_fraction")[:4]).all()
        assert not any(name.startswith("fraction_") for name in volunteers.survey.columns_of_crowd())


def test_totals_are_by_views_and_have_no_weights(folder: Path) -> None:
    rows = [
        {"subject_id": 1000 + i, "workflow_id": 7, "task": "T0", "answer": "chosen", "n_classifications": 20}
        | {"n_volunteers": 10, "n_chosen": 3 * i, "source": "x"}
        for i in range(5)
    ]
    write_table(folder / "totals.parquet", table([*rows, rows[0] | {"subject_id": 5}], TOTALS_SCHEMA))
    with opened(folder) as volunteers:
        told = volunteers.recount()
        assert (told["basis"], told["weights"], told["n_votes"], told["n_unknown"]) == ("views", None, 100, 1)
        volunteers.survey.refresh()
        assert volunteers.survey.column("chosen_fraction")[:6] == pytest.approx(
            [0, 0.15, 0.3, 0.45, 0.6, np.nan], nan_ok=True
        )
        assert "weighted_chosen_fraction" not in volunteers.survey.columns_of_crowd()
        assert volunteers.votes() is None and len(volunteers.people()["volunteer"]) == 0
        assert volunteers.questions()[0].n_volunteers is None


def test_simulated_votes_say_so(folder: Path) -> None:
    write_votes(folder, [row | {"is_simulated": True} for row in TWICE])
    assert recount(folder)[0].startswith("simulated votes: ")
    with opened(folder) as volunteers:
        assert volunteers.is_simulated and volunteers.questions()[0].is_simulated


def grid(subjects: list[int], chosen: list[int], training: list[int] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "grid_id": str(uuid.uuid4()),
        "task": "T0",
        "subjects": [str(1000 + i) for i in subjects],
        "chosen": chosen,
        "tags": {},
        "training": training or [],
        "seconds": 9.5,
        "link": None,
        "open_link": False,
        "level": 1,
    } | more


def test_votes_of_our_own_page_are_in_the_consensus_at_the_next_look(folder: Path) -> None:
    with opened(folder) as volunteers:
        volunteers.ledger.append(CLASSIFICATION, grid([0, 1, 2, 3], [1], training=[3]), who="volunteer:aa")
        assert volunteers.poll()
        assert row_of(folder, 1, "chosen", workflow_id=OWN_WORKFLOW)["chosen_fraction"] == 1
        assert row_of(folder, 0, "chosen")["n_volunteers"] == 1
        with pytest.raises(AssertionError):
            row_of(folder, 3, "chosen")  # a training subject
        entry = volunteers.ledger.append(CLASSIFICATION, grid([1, 4], [], open_link=True), who="volunteer:bb")
        assert volunteers.poll()
        assert row_of(folder, 1, "chosen")["chosen_fraction"] == 0.5
        told = volunteers.decide(Counting(leave_out_open_links=True), who="test")
        assert told["left_out"] == {"came by an open link": 1}
        assert row_of(folder, 1, "chosen")["chosen_fraction"] == 1
        volunteers.ledger.undo(entry.id, who="volunteer:bb")
        assert volunteers.poll()
        assert volunteers.left_out == {}
        assert not volunteers.poll()


def test_an_answer_that_was_taken_back_and_given_anew_is_counted_as_it_is_now(folder: Path) -> None:
    with opened(folder) as volunteers:
        first = volunteers.ledger.append(CLASSIFICATION, grid([0, 1], [0]), who="volunteer:aa")
        assert volunteers.poll()
        volunteers.ledger.undo(first.id, who="volunteer:aa")
        volunteers.ledger.append(CLASSIFICATION, grid([0, 1], [1]), who="volunteer:aa")
        assert volunteers.poll()
        assert [row_of(folder, i, "chosen")["n_chosen"] for i in (0, 1)] == [0, 1]


def test_votes_cast_while_others_are_counted_come_next(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(folder) as volunteers:
        ledger, elsewhere, entries = volunteers.ledger, volunteers._elsewhere, volunteers.ledger.entries
        first = ledger.append(CLASSIFICATION, grid([0], [0]), who="volunteer:aa")

        def late(names: np.ndarray) -> np.ndarray:
            monkeypatch.undo()
            ledger.append(CLASSIFICATION, grid([0], [0]), who="volunteer:bb")
            return elsewhere(names)

        monkeypatch.setattr(volunteers, "_elsewhere", late)
        assert volunteers.poll() and volunteers.poll() and not volunteers.poll()
        assert row_of(folder, 0, "chosen")["n_chosen"] == 2

        def later(kinds: Any, **more: Any) -> Any:
            if not more:  # everything anew, after an undo
                monkeypatch.undo()
                ledger.append(CLASSIFICATION, grid([0], [0]), who="volunteer:cc")
            return entries(kinds, **more)

        ledger.undo(first.id, who="volunteer:aa")
        monkeypatch.setattr(ledger, "entries", later)
        assert volunteers.poll()
        volunteers.poll()
        assert row_of(folder, 0, "chosen")["n_chosen"] == 2


def test_votes_without_a_version_stay_whatever_versions_are_counted(folder: Path) -> None:
    write_votes(folder, TWICE)
    with opened(folder) as volunteers:
        volunteers.ledger.append(CLASSIFICATION, grid([0], [0]), who="volunteer:aa")
        volunteers.decide(Counting(versions=("3.0", "4.0")), who="test")
        assert row_of(folder, 0, "chosen", workflow_id=OWN_WORKFLOW)["n_volunteers"] == 1
        volunteers.decide(Counting(versions=("3.2", "")), who="test")
        assert volunteers.left_out == {"another workflow version": 6}


@pytest.mark.parametrize(("basis", "fraction"), [("views", 0.5), ("volunteers", 0.75)])
def test_totals_that_know_both_countings_are_counted_as_decided(folder: Path, basis: Any, fraction: float) -> None:
    numbers = {"n_classifications": 10, "n_chosen": 5, "n_volunteers": 4, "n_chosen_volunteers": 3}
    of_it = {"subject_id": 1000, "workflow_id": 7, "task": "T0", "answer": "yes"}
    write_table(folder / TOTALS, table([of_it | numbers], TOTALS_SCHEMA))
    with opened(folder) as volunteers:
        assert volunteers.decide(Counting(basis=basis), who="test")["basis"] == basis
        assert row_of(folder, 0)["chosen_fraction"] == fraction


def test_training_subjects_teach_and_are_counted_nowhere(folder: Path) -> None:
    with opened(folder) as volunteers:
        ledger, ids = volunteers.ledger, volunteers.survey.subject_ids
        ledger.save_selection("Training", np.arange(6), ids, who="test")
        ledger.save_selection("Duds", np.arange(6, 12), ids, who="test")
        for who, is_good in (("good", True), ("bad", False)):
            for i in range(6):
                right = [0] if is_good or i % 2 else [1]  # cell 0 is a known object, cell 1 a dud, cell 2 is asked
                told = grid([i, 6 + i, 12 + i], right, training=[0, 1])
                ledger.append(CLASSIFICATION, told, who=f"volunteer:{who}")
        told = volunteers.recount()
        assert (told["n_votes"], told["n_subjects"], told["n_gold"]) == (12, 6, 12)
        assert told["skill_from"].startswith("SWAP, taught by 6 subjects")
        people = volunteers.people()
        skill = dict(zip(people["volunteer"], people["skill"], strict=True))
        assert skill["good"] > skill["bad"]
        assert people["n_gold"].tolist() == [12, 12]
        volunteers.survey.refresh()
        assert np.isnan(volunteers.survey.column("chosen_fraction")[:12]).all()
        assert np.isnan(volunteers.survey.column("swap_probability")[:12]).all()
        assert np.isfinite(volunteers.survey.column("swap_probability")[12:18]).all()


def test_tags_of_our_own_page_stand_beside_those_of_talk(folder: Path) -> None:
    with opened(folder) as volunteers:
        told = grid([0, 1, 2], [1], tags={"1": ["Rings", "blue"], "2": ["ring"]})
        entry = volunteers.ledger.append(CLASSIFICATION, told, who="volunteer:aa")
        assert volunteers.poll()
        volunteers.survey.refresh()
        assert volunteers.survey.column("n_tags")[:4].tolist() == [0, 2, 1, 0]
        groups = {group.name: group.n_subjects for group in volunteers.talk.groups()}
        assert groups == {"ring": 2, "blue": 1}
        said = volunteers.talk.of(1)
        assert said is not None and [(tag["group"], tag["who"]) for tag in said["tags"]] == [
            ("blue", "aa"),
            ("ring", "aa"),
        ]
        volunteers.ledger.undo(entry.id, who="volunteer:aa")
        assert volunteers.poll()
        assert volunteers.talk.groups() == []


def test_our_own_votes_and_those_of_files_stand_side_by_side(folder: Path) -> None:
    write_votes(folder, TWICE)
    with opened(folder) as volunteers:
        volunteers.ledger.append(CLASSIFICATION, grid([0, 1], [0]), who="volunteer:aa")
        told = volunteers.recount()
        assert told["workflow_id"] == 7  # the most votes
        assert row_of(folder, 0, "chosen", workflow_id=OWN_WORKFLOW)["n_volunteers"] == 1
        assert row_of(folder, 0, "yes", workflow_id=7)["n_volunteers"] == 3
        told = volunteers.decide(Counting(workflow_id=OWN_WORKFLOW), who="test")
        assert (told["n_votes"], told["n_volunteers"]) == (2, 1)


def test_one_answer_against_all_others(folder: Path) -> None:
    rows = [
        vote(1, 0, "a", "ring"),
        vote(1, 0, "a", "arc"),
        vote(2, 0, "b", "arc"),
        vote(3, 0, "a", "lens"),
        vote(4, 1, "b"),
    ]
    write_votes(folder, rows)
    with opened(folder) as volunteers:
        votes = volunteers.votes()
        assert votes is not None and votes.answers == ("arc", "lens", "ring")
        subject, volunteer, said = binary(votes, votes.answers.index("ring"))
        assert subject.tolist() == [0, 0, 1] and said.tolist() == [True, False, False]
        assert len(set(volunteer.tolist())) == 2


def test_a_damaged_file_of_votes_is_one_sentence(folder: Path) -> None:
    (folder / CLASSIFICATIONS).write_bytes(b"half a file")
    with (
        opened(folder) as volunteers,
        pytest.raises(SurveyError, match=r"not a readable Parquet file.*ingest its sources again"),
    ):
        volunteers.recount()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"basis": "both"}, "basis is one of views, volunteers"),
        ({"weights": "x"}, "weights is one of none, experience"),
        ({"threshold": 0}, "threshold of experience"),
        ({"since": "tomorrow"}, "'tomorrow' is not a day"),
        ({"versions": ("a", "")}, "'a' is not a workflow version"),
    ],
)
def test_a_way_to_count_that_is_none(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Counting(**settings)


def test_skill_is_learned_from_gold_where_there_is_some(shared_data: Path, tmp_path: Path) -> None:
    """The bluebirds: 39 workers, 108 images, all of known answer."""
    with (shared_data / "crowd_gold/bluebird/truth.csv").open() as file:
        truth = {int(row["item"]): row["truth"] for row in csv.DictReader(file)}
    with (shared_data / "crowd_gold/bluebird/label.csv").open() as file:
        labels = list(csv.DictReader(file))
    make(tmp_path / "survey", truth)
    folder = tmp_path / "survey"
    common = {"workflow_id": 0, "task": "T0", "created_at": None, "is_live": None}
    write_votes(
        folder,
        [vote(i, int(r["item"]) - 1000, r["worker"], r["label"], **common) for i, r in enumerate(labels)],
    )
    with opened(folder) as volunteers:
        crowd = volunteers.recount()
        assert (crowd["n_votes"], crowd["n_subjects"], crowd["n_volunteers"], crowd["answer"]) == (4212, 108, 39, "1")
        assert crowd["n_gold"] == 0 and crowd["skill_from"].startswith("offline SWAP")
        volunteers.survey.refresh()
        is_bird = np.array([truth[i] == "1" for i in volunteers.survey.subject_ids])
        alone = ((volunteers.survey.column("swap_probability") > 0.5) == is_bird).mean()
        gold = [{"subject_id": i, "workflow_id": 0, "task": "", "answer": a, "source": "x"} for i, a in truth.items()]
        write_table(folder / "gold.parquet", table(gold, GOLD_SCHEMA))
        assert volunteers.poll()
        told = volunteers.summary()
        assert told["n_gold"] == 108 and told["skill_from"].startswith("SWAP, taught by")
        people = volunteers.people()
        assert set(people) == set(VOLUNTEERS_SCHEMA.names)
        assert (people["n_gold"] == 108).all() and (people["skill"] > 0.3).any()
        majority = (volunteers.survey.column("fraction_1") > 0.5) == is_bird
        assert majority.mean() == pytest.approx(0.759, abs=0.001)
        assert alone > majority.mean()
        assert replace(volunteers.settings) == Counting()


def test_the_command_counts_and_decides(folder: Path, voorwerp: Callable[..., str]) -> None:
    write_votes(folder, [*FLAGGED, *(vote(10 + i, 2, "b", "[bold]ring", task="T1") for i in range(2))])
    said = voorwerp("consensus", folder)
    assert "T0 · yes: 4 classifications of 1 subject by 4 volunteers, fractions by volunteers" in said
    assert "left out: 1 cast before the project's launch" in said
    assert "[bold]ring" in said
    assert "counted is the question with most votes; --workflow, --task, --answer choose another" in said
    assert "from now on" not in said
    assert re.search(r"│ counted │ +7 │ T0 +│ yes", said) and said.count("│ counted │") == 1
    assert "│ weighted" not in said, "nobody weighs more than others"
    said = voorwerp("consensus", folder, "--leave-out", "anonymous", "--basis", "views", "--team", "Hanny")
    assert "6 classifications of 1 subject by 6 volunteers, fractions by views" in said
    assert "left out: 1 anonymous sessions" in said
    assert "votes are counted this way from now on, on the screen too" in said
    assert "from now on" not in voorwerp("consensus", folder, "--basis", "views"), "it is so already"
    with opened(folder) as volunteers:
        settings = volunteers.settings
        assert settings.leave_out_anonymous and not settings.leave_out_gold and not settings.live_only
        assert settings.team == tuple(volunteer_hash(["hanny "], volunteers.survey.info.survey_id))
        assert len(volunteers.ledger.entries("counting")) == 1
    assert "4 classifications" not in voorwerp("consensus", folder)


def test_the_command_names_where_votes_are_from_and_says_that_nothing_is_tagged(
    folder: Path, voorwerp: Callable[..., str]
) -> None:
    elsewhere = [vote(40, 3, "d", "yes", workflow_id=NO_WORKFLOW), vote(41, 3, "e", "no", workflow_id=NO_WORKFLOW)]
    drawn = [vote(50, 3, "f", "yes", workflow_id=NO_WORKFLOW, task="T2", is_simulated=True)]
    write_votes(folder, [*FLAGGED, *elsewhere, *drawn])
    with opened(folder) as volunteers:
        volunteers.ledger.append(CLASSIFICATION, grid([0, 1], [0]), who="volunteer:x")
    said = voorwerp("consensus", folder, "--by-tag", "groups", "--task", "T0", "--workflow", 7)
    assert "no subject of this survey is tagged" in said and "Chosen fraction by tag" not in said
    assert "counted is the question chosen by --workflow 7 --task T0" in said
    assert re.search(r"│ counted │ +7 │ T0 +│ yes", said)
    for words in ("our own page │ T0 +│ chosen", "– │ T0 +│ yes", "simulated │ T2 +│ yes"):
        assert re.search(rf"│ +│ +{words}", said), words


def test_the_command_replays_rules_of_retirement(
    shared_data: Path, tmp_path: Path, voorwerp: Callable[..., str]
) -> None:
    voorwerp("ingest", tmp_path / "survey", *(shared_data / "crowd_gold/bluebird").glob("*.csv"))
    said = voorwerp("replay", tmp_path / "survey", "--limit", 3, "--limit", 21, "--swap", 0.95, 0.05)
    assert re.search(r"3 votes +│ +324 of 4,212 │ +0\.923, 3,888 of 4,212", said)
    found = re.findall(r"(0\.\d{3}|1\.000) \[0\.\d{3}, [01]\.\d{3}\], ([\d,.]+) of ([\d,.]+)", said)
    assert len(found) >= 3
    for share, k, n in found:
        assert float(k.replace(",", "")) / float(n.replace(",", "")) == pytest.approx(float(share), abs=0.0011)
    said = voorwerp("replay", tmp_path / "survey")
    assert re.findall(r"(\d+) votes? ", said)[0] == "1" and " 1 vote " in said
    assert len(re.findall(r"│ \d+ votes? ", said)) == 8
    assert re.search(r"│ 39 votes ", said) and len(re.findall(r"│ SWAP", said)) == 1
    assert "Agreement with known answers" in said and "SWAP is taught by 54 of the 108" in said
    with pytest.raises(AssertionError, match="no finished score run"):
        voorwerp("replay", tmp_path / "survey", "--cascade", 90)
    with pytest.raises(AssertionError, match="39"):
        voorwerp("replay", tmp_path / "survey", "--limit", 40)
