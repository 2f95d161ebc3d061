"""What runs learn from: every source, brought to the same classes, frozen, checked; and what is circular with it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from explorer.cli import main
from explorer.errors import JobError, UsageError
from explorer.kinds import Kind, czsl, finetune, metric
from explorer.services.boundaries import Context
from explorer.services.desk import Desk
from explorer.services.explore import newest
from explorer.services.jobs import JobService, check_labels
from explorer.services.labels import Frozen, Source, by_itself, freeze, offered, sources
from explorer.services.runs import Runs
from explorer.survey import check
from models.artifacts import RUN_JSON, Run, write_scores
from models.boundary import And, Gate
from models.labels import LABELS, about_labels
from models.truth import Truth
from tests.explorer.graded import grade, keep, opened, plan
from tests.explorer.labelled import LEARN, NEEDY, LearnConfig, N, lenses, write_labelled, write_totals

ROOT = Path(__file__).parents[2]
MIXED = [8, 7]  # planted, withdrawn


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """For what decides nothing."""
    with opened(write_labelled(tmp_path_factory.mktemp("still") / "survey")) as desk:
        yield desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with opened(write_labelled(tmp_path / "survey")) as desk:
        yield desk


def frozen(desk: Desk, **settings: str) -> Frozen:
    return freeze(desk.explore.survey, desk.ledger, LEARN, LearnConfig(**settings), _ids(desk), desk.graded)


def _ids(desk: Desk) -> np.ndarray:
    return desk.explore.survey.subject_ids


def by_row(desk: Desk, found: Frozen, name: str) -> dict[int, object]:
    rows = desk.explore.survey.rows_of(found.columns["subject_id"]).tolist()
    return dict(zip(rows, list(found.columns[name]), strict=True))


def test_a_campaign_says_who_was_found_and_how_they_were_drawn(desk: Desk) -> None:
    made = lenses(desk)
    desk.campaigns.close(made.id, "owner-1")
    found = frozen(desk)  # the only one there is
    assert found.settings == {"expert": "campaign:Lenses", "amateur": "", "votes": ""}
    assert found.classes == ["not found", "found"]
    expert, is_found, pi = (by_row(desk, found, n) for n in ("expert", "is_found", "inclusion_probability"))
    assert {row for row, name in expert.items() if name == "found"} == {0, 1}
    assert {row for row, value in is_found.items() if value} == {0, 1}
    assert 3 not in expert and 7 not in expert and 8 not in expert  # cannot judge; withdrawn, planted
    assert len(expert) == 60 - 3 + len(made.audit)
    assert {pi[row] for row in (0, 1, 2)} == {1.0}
    outside = [row for row in pi if row >= 60]
    assert set(outside) == set(made.audit.tolist()) and all(0.1 < pi[row] < 0.2 for row in outside)
    assert found.about["expert"]["words"] == "grades of “Lenses”"
    assert found.about["expert"]["notes"] == [f"1 of {58 + len(made.audit)} subjects drawn have no grade"]


def test_without_an_audit_nobody_was_drawn_at_random(desk: Desk) -> None:
    desk.campaigns.close(lenses(desk, audit=0).id, "owner-1")
    assert np.isnan(frozen(desk).columns["inclusion_probability"]).all()
    keep(desk, "everyone", np.arange(N))
    made = desk.campaigns.of_selection(plan("Drawn"), "everyone", "owner-1", n=50)
    grade(desk, made, "grader-1", {})
    desk.campaigns.close(made.id, "owner-1")
    pi = frozen(desk, expert="Drawn").columns["inclusion_probability"]
    assert len(pi) == len(made.rows) and pi == pytest.approx(made.source["inclusion"])


def test_levels_in_turn_that_were_not_all_graded_are_no_draw(desk: Desk) -> None:
    keep(desk, "everyone", np.arange(N))
    made = desk.campaigns.of_selection(plan("Levels", order="stratified", strata="kind"), "everyone", "owner-1", n=50)
    grade(desk, made, "grader-1", {int(made.rows[0]): "Q"})
    desk.campaigns.close(made.id, "owner-1")
    found = frozen(desk, expert="Levels")
    assert len(found.columns["inclusion_probability"]) == len(made.rows) - 1
    assert np.isnan(found.columns["inclusion_probability"]).all()


def test_grades_themselves_are_classes_by_rising_value(desk: Desk) -> None:
    desk.campaigns.close(lenses(desk).id, "owner-1")
    found = frozen(desk, classes="grades")
    assert found.classes == ["X", "C", "B", "A"]
    expert = by_row(desk, found, "expert")
    assert [expert[row] for row in (0, 1, 2, 4)] == ["A", "B", "C", "X"]
    assert by_row(desk, found, "is_found")[1] is True
    merged = frozen(desk, classes="grades", means="A=yes, B=yes, C=")
    assert merged.classes == ["X", "yes"]
    assert 2 not in by_row(desk, merged, "expert")


def test_while_it_is_open_and_blind_a_campaign_teaches_nothing(desk: Desk) -> None:
    made = lenses(desk)
    assert all("Lenses" not in source.text for source in sources(desk.explore.survey, desk.ledger))
    for name in ("campaign:Lenses", "Lenses"):
        with pytest.raises(UsageError, match="“Lenses” is blind and open, so nobody is told its grades; close it"):
            frozen(desk, expert=name)
    desk.campaigns.close(made.id, "owner-1")
    assert frozen(desk, expert="Lenses").settings["expert"] == "campaign:Lenses"
    desk.campaigns.reopen(made.id, "owner-1")
    with pytest.raises(UsageError, match="blind and open"):
        frozen(desk, expert="campaign:Lenses")
    lenses(desk, "Seen", is_blind=False)
    assert frozen(desk, expert="Seen").classes == ["not found", "found"]


def test_columns_of_classes_of_yes_and_no_and_of_few_numbers(still: Desk) -> None:
    desk = still
    kind = frozen(desk, expert="column:kind")
    assert kind.classes == ["elliptical", "odd", "spiral"]
    expert = by_row(desk, kind, "expert")
    assert len(expert) == N - 2 and all(row not in expert for row in MIXED)
    assert [expert[row] for row in (0, 1, 2)] == ["spiral", "elliptical", "odd"]
    assert set(kind.columns["is_found"]) == {None}
    assert set(kind.columns["inclusion_probability"]) == {1.0}  # everybody has one
    is_found = by_row(desk, frozen(desk, expert="kind", look_for="odd, spiral"), "is_found")
    assert [is_found[row] for row in (0, 1, 2)] == [True, False, True]
    ring = by_row(desk, frozen(desk, expert="is_ring"), "is_found")
    assert [ring[row] for row in (0, 1, 5)] == [True, False, True]
    assert frozen(desk, expert="n_arms").classes == ["9", "10", "11", "12"]


def test_the_test_half_is_marked_and_groups_are_told(still: Desk) -> None:
    desk = still
    found = frozen(desk, expert="column:kind")
    test, group = by_row(desk, found, "is_test"), by_row(desk, found, "duplicate_group")
    assert test[0] and not test[1] and test[100] and test[101] and not test[102]
    assert group[100] == group[101] != group[102]
    assert all(test[row] == test[row + 1] for row in range(100, 120, 2))


def test_votes_are_k_of_n_what_most_said_and_shares(desk: Desk) -> None:
    ids = _ids(desk)[:100]
    smooth = np.arange(100) % 11  # of ten; 5 is a tie
    write_totals(desk.explore.survey.path, ids, {"smooth": smooth, "features": 10 - smooth})
    desk.volunteers.recount()
    desk.explore.survey.refresh()
    found = frozen(desk, amateur="votes", expert="none")
    assert found.settings == {"expert": "", "amateur": "votes", "votes": "votes"}
    amateur = by_row(desk, found, "amateur")
    assert [amateur[row] for row in (0, 5, 6)] == ["features", None, "smooth"]
    assert len(amateur) == 98
    share = by_row(desk, found, "fraction_smooth")
    assert share[6] == pytest.approx(0.6) and by_row(desk, found, "n_votes")[6] == 10
    k = by_row(desk, found, "n_chosen")[6]
    assert k == (6 if desk.explore.survey.about_crowd()["answer"] == "smooth" else 4)
    both = frozen(desk, expert="kind", amateur="votes", means="smooth=elliptical, features=spiral")
    assert both.classes == ["elliptical", "odd", "spiral"]
    assert by_row(desk, both, "amateur")[6] == "elliptical"


def test_chosen_of_a_grid_is_found(desk: Desk) -> None:
    write_totals(desk.explore.survey.path, _ids(desk)[:50], {"chosen": np.arange(50) % 11})
    desk.volunteers.recount()
    desk.explore.survey.refresh()
    desk.campaigns.close(lenses(desk).id, "owner-1")
    found = frozen(desk)
    assert found.settings == {"expert": "campaign:Lenses", "amateur": "votes", "votes": "votes"}
    amateur = by_row(desk, found, "amateur")
    assert [amateur[row] for row in (0, 4, 5, 10)] == ["not found", "not found", "found", "found"]
    assert frozen(desk, expert="kind").settings["amateur"] == ""  # nobody asked: what does not match is left out


@pytest.mark.parametrize(
    "settings, sentence",
    [
        ({"expert": "column:knid"}, 'column "knid" is not in subjects.parquet; did you mean "kind"'),
        ({"expert": "column:flux_of_it"}, "subjects.parquet; it has kind, is_ring, n_arms"),
        ({"expert": "knd"}, 'no labels by experts called "knd"; did you mean "column:kind"'),
        ({"expert": "Zwicky"}, r"called \"Zwicky\"; there are column:kind \(198\), .*column:is_ring \(198\)"),
        ({"expert": "column:magnitude"}, '"magnitude" holds numbers, which are no classes; take another'),
        ({"expert": "column:n_stars"}, "has more than 20 different numbers"),
        ({"expert": "column:source_id"}, "is ours, and no class of the sky"),
        ({"expert": "column:half"}, "is ours, and no class of the sky"),
        ({"expert": "column:shape"}, "has one value at most"),
        ({"expert": "votes"}, "nobody has voted on any subject"),
        ({"votes": "column:kind"}, 'counts votes, and "column:kind" has none'),
        ({"expert": "kind", "amateur": "kind"}, "takes column:kind as experts and as amateurs"),
        (
            {"expert": "kind", "amateur": "is_ring"},
            r'say "false", and column kind know only elliptical, odd, spiral;',
        ),
        ({"expert": "kind", "means": "spirla=S"}, 'no label is "spirla", which is to mean "S"; did you mean "spiral"'),
        ({"expert": "kind", "means": "spiral"}, "write it as smooth=E, features=S"),
        ({"expert": "kind", "look_for": "odds"}, 'no label is "odds", which is to be looked for; did you mean "odd"'),
    ],
)
def test_what_cannot_be_learned_from_is_a_sentence(still: Desk, settings: dict[str, str], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        frozen(still, **settings)


def test_what_means_nothing_is_left_out(still: Desk) -> None:
    found = frozen(still, expert="kind", amateur="is_ring", means="true=odd, false=")
    amateur = by_row(still, found, "amateur")
    assert amateur[0] == "odd" and amateur[1] is None


def test_of_several_sources_none_is_taken_unless_it_must_be(still: Desk) -> None:
    desk = still
    survey = desk.explore.survey
    assert frozen(desk).settings["expert"] == ""
    with pytest.raises(UsageError, match=r"of which there are several: say which by --expert; there are column:kind"):
        freeze(survey, desk.ledger, NEEDY, LearnConfig(), _ids(desk), desk.graded)
    told = [Source("column:kind", "", 5, False), Source("campaign:A", "", 5, False), Source("votes", "", 5, True)]
    assert [by_itself(told, name) for name in ("expert", "amateur", "votes")] == ["campaign:A", "votes", "votes"]
    assert by_itself([*told, Source("campaign:B", "", 5, False)], "expert") == "none"
    assert offered(told, "votes") == {"sources": [["votes", ": 5 subjects"]], "by_itself": "votes"}


def test_nobody_of_the_run_is_labelled(desk: Desk) -> None:
    desk.campaigns.close(lenses(desk, audit=0).id, "owner-1")
    with pytest.raises(UsageError, match=r"none of 57 labelled subjects is among the 50 that the run is of"):
        freeze(desk.explore.survey, desk.ledger, LEARN, LearnConfig(), _ids(desk)[150:], desk.graded)


def learnt(desk: Desk, kind: Kind, subject_ids: np.ndarray, **settings: str) -> Frozen:
    return freeze(desk.explore.survey, desk.ledger, kind, LearnConfig(**settings), subject_ids, desk.graded)


CLASSES, IS_FOUND = replace(LEARN, learns="classes"), replace(NEEDY, learns="is_found")


def test_labels_that_cannot_teach_are_refused_before_there_is_a_run(still: Desk) -> None:
    """Kinds: elliptical, odd, spiral by turns; rings are every fifth; the test half is every fourth."""
    survey = still.explore.survey
    row = np.arange(N)
    rows = lambda mask: survey.subject_ids[mask]  # noqa: E731
    listed = rf"`voorwerp labels {re.escape(str(survey.path))}` lists what there is"
    with pytest.raises(UsageError, match=rf"learn learns from labels, and none suggest themselves.*; {listed}"):
        learnt(still, CLASSES, survey.subject_ids)
    half = np.array(survey.category("half")[0]) == survey.category("half")[1].index("test")
    for kind, settings in ((CLASSES, {"expert": "is_ring"}), (IS_FOUND, {"expert": "is_ring"})):
        with pytest.raises(UsageError, match=rf"column is_ring: all \d+ are of the test half.*{listed}"):
            learnt(still, kind, rows(half), **settings)
        with pytest.raises(UsageError, match=r"all \d+ labels of the tune half are (false|turned down), and two"):
            learnt(still, kind, rows(~half & (row % 5 != 0)), **settings)
        one = np.flatnonzero(~half & (row % 5 == 0) & (row > 130))[:1]
        with pytest.raises(UsageError, match=r"one label of the tune half only is (true|of interest)"):
            learnt(still, kind, rows(~half & ((row % 5 != 0) | np.isin(row, one))), **settings)
        assert learnt(still, kind, survey.subject_ids, **settings).settings["expert"] == "column:is_ring"
    with pytest.raises(UsageError, match="tell by --look-for which of elliptical, odd, spiral are of interest"):
        learnt(still, IS_FOUND, survey.subject_ids, expert="kind")
    with pytest.raises(UsageError, match=rf"needy learns from labels by experts, of which.*{listed}"):
        learnt(still, IS_FOUND, survey.subject_ids)


def test_kinds_that_need_classes_say_so() -> None:
    told = {kind.name: kind.learns for kind in (czsl.KIND, metric.KIND, finetune.KIND)}
    assert told == {"czsl": "classes", "metric": "classes", "finetune": "is_found"}


# ---------------------------------------------------------------------------------------------------------- as runs
@pytest.fixture
def jobs(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobService]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    kinds = [f"tests.explorer.labelled:{name}" for name in ("LEARN", "NEEDY")]
    service = JobService(desk.explore.survey, desk.ledger, kinds)
    service.graded = desk.graded
    yield service
    service.stop()


def test_a_run_learns_from_what_was_frozen(desk: Desk, jobs: JobService) -> None:
    made = lenses(desk)
    desk.campaigns.close(made.id, "owner-1")
    desk.ledger.save_selection("some", np.arange(20, 60), _ids(desk), who="owner-1")
    run_id = jobs.start("learn", {}, None, "owner-1", selection="some")
    job = jobs.wait(run_id)
    assert job.state == "done", job.error
    assert job.results["classes"] == ["not found", "found"]
    assert (job.results["n_expert"], job.results["n_strangers"]) == (40, 17 + len(made.audit))
    assert job.results["n_test"] == 10
    assert job.results["expert"] == "campaign:Lenses"  # resolved when it was started
    run = Run.read(desk.explore.survey.run_folder(run_id) / RUN_JSON)
    assert len(run.inputs["labels"]) == 64
    assert desk.ledger.entries("job")[-1].payload["labels"] == run.inputs["labels"]
    assert [name for name, _ in desk.runs.detail(run_id, 0, 1)["inputs"]] == []


def test_labels_that_have_changed_are_refused(desk: Desk, jobs: JobService) -> None:
    folder = desk.explore.survey.run_folder("cut-short")
    folder.mkdir(parents=True)
    run = Run("cut-short", "learn", "1", {}, state="interrupted")
    run.inputs = {"labels": frozen(desk, expert="kind").write(folder)}
    run.write(folder / RUN_JSON)
    check_labels(run, folder)
    frozen(desk, expert="is_ring").write(folder)
    run.state = "done"
    run.write(folder / RUN_JSON)
    told = check(desk.explore.survey.path)
    assert any("labels.parquet is not what cut-short learned from" in problem for problem in told)
    run.state = "interrupted"
    run.write(folder / RUN_JSON)
    with pytest.raises(JobError, match=r"labels.parquet is not what cut-short was started with \(sha256 differs\)"):
        jobs.resume("cut-short", "owner-1")
    (folder / LABELS).unlink()
    with pytest.raises(JobError, match=r"labels.parquet is gone, from which cut-short learns"):
        jobs.resume("cut-short", "owner-1")


def test_a_run_that_cannot_begin_leaves_nothing(desk: Desk, jobs: JobService) -> None:
    with pytest.raises(UsageError, match="did you mean"):
        jobs.start("learn", {"expert": "column:knid"}, None, "owner-1")
    assert not list((desk.explore.survey.path / "runs").glob("*learn*"))


def test_the_form_offers_what_there_is(desk: Desk) -> None:
    desk.campaigns.close(lenses(desk).id, "owner-1")
    kinds = Runs(desk.jobs).kinds()["kinds"]
    fields = [f for kind in kinds for f in kind["fields"] if f["name"] == "expert"]
    assert fields
    for field in fields:
        assert field["by_itself"] == "campaign:Lenses"
        assert field["sources"][0][0] == "campaign:Lenses"
        assert field["sources"][0][1].startswith("grades of “Lenses”: ")


def test_the_command_lists_them(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk.campaigns.close(lenses(desk).id, "owner-1")
    assert main(["labels", str(desk.explore.survey.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "campaign:Lenses" and lines[0].endswith("subjects")
    assert any(line.startswith("column:kind") for line in lines)


# --------------------------------------------------------------------------------------------------------- circular
def test_what_learned_from_a_truth_is_circular_with_it(desk: Desk) -> None:
    made = lenses(desk)
    desk.campaigns.close(made.id, "owner-1")
    survey, ids = desk.explore.survey, _ids(desk)
    missing = np.full(N, np.nan, np.float32)
    for run_id, source in (("learned", "campaign:Lenses"), ("other", "column:kind")):
        folder = survey.run_folder(run_id)
        folder.mkdir(parents=True)
        sha = frozen(desk, expert=source).write(folder)
        columns = {"subject_id": ids, "split": ["unseen"] * N, "image_score": missing, "feature_score": missing}
        columns |= {"anomaly_score": missing, "quality": ["ok"] * N, "probability": np.linspace(0, 1, N)}
        write_scores(folder, None, columns)
        run = Run(run_id, "learn", "1", {}, provides="score", inputs={"labels": sha, "subject_ids": "x"})
        run.state = "done"
        run.write(folder / RUN_JSON)
    desk.explore.look_again()
    keep = And((Gate("scores.probability", low=0.5),))
    grades, kind = Truth("grade", made.id, at_least=2.0), Truth("category", "subjects.kind", labels=("odd",))

    def circular(truth: Truth, run_id: str) -> list[str]:
        return desk.truths.circular(truth, keep, None, Context(run_id, ""))

    assert circular(grades, "learned") and not circular(grades, "other")
    assert circular(kind, "other") and not circular(kind, "learned")
    assert about_labels(survey.run_folder("learned"))["expert"]["atoms"] == [f"grade:{made.id}"]
    known = desk.acquiring._known_of(made)  # a campaign learns nothing from what its own grades taught
    assert list(known.spaces) == ["the scores of 1 run"]


def test_what_learned_from_labels_is_no_default_score() -> None:
    runs = {
        "20260103-000000-bayes": Run("20260103-000000-bayes", "bayes", "1", {}),
        "20260102-000000-score": Run("20260102-000000-score", "score", "1", {}, selection="top"),
        "20260101-000000-score": Run("20260101-000000-score", "score", "1", {}),
    }
    assert newest(runs) == "20260101-000000-score"
    del runs["20260101-000000-score"]
    assert newest(runs) == "20260102-000000-score"
    del runs["20260102-000000-score"]
    assert newest(runs) == "20260103-000000-bayes"
    assert newest({}) == ""
