"""Grades and later outcomes as truth for boundaries, weighted by how subjects were drawn; and as columns."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from explorer.cli import main
from explorer.errors import UsageError
from explorer.services.boundaries import Context
from explorer.services.desk import Desk
from explorer.services.filters import columns_of, parse, reader
from explorer.services.graded import MAJORITY, drawn_of
from explorer.services.judge import weighted_curve
from explorer.services.report import PAGE, Options, report
from explorer.services.vote_import import keep_outcome
from explorer.state import Draft
from models.boundary import And, Gate
from models.rates import NO_AUDIT, Ranked
from models.truth import Truth, TruthError
from tests.explorer.graded import grade, keep, opened, plan
from tests.explorer.judged import N, write_judged

SCORE = "scores.feature_score"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    write_judged(tmp_path / "survey", with_votes=False)
    with opened(tmp_path / "survey") as desk:
        yield desk


def context(desk: Desk) -> Context:
    return Context(next(iter(desk.explore.runs())), next(iter(desk.explore.maps())))


def top(desk: Desk, n: int) -> tuple[float, np.ndarray]:
    """The limit that keeps `n` subjects by feature score, and their rows."""
    scores = desk.explore.values(SCORE, context(desk).run_id)
    rows = np.sort(np.argsort(-scores, kind="stable")[:n])
    return float(scores[rows].min()), rows


def draft(desk: Desk, limit: float, campaign_id: str, at_least: float = 2.0) -> Draft:
    return Draft(And((Gate(SCORE, low=limit),)), Truth("grade", campaign_id, at_least=at_least))


def test_without_an_audit_recall_is_not_estimable_and_with_one_it_is_weighted(desk: Desk) -> None:
    limit, rows = top(desk, 60)
    keep(desk, "top", rows)
    good = {int(row): "A" for row in rows[:30]}
    told = []
    for audit in (0, 90):
        made = desk.campaigns.of_selection(plan(f"Audit {audit}", audit=audit, is_blind=False), "top", "owner-1")
        found_outside = {int(row): "B" for row in made.audit[:9]}
        grade(desk, made, "grader-1", good | found_outside)
        told.append((made, desk.judge.numbers(draft(desk, limit, made.id), context(desk))))
    (_, blind), (made, numbers) = told
    assert blind["kind"] == "verified"
    assert blind["rates"]["recall"]["note"] == NO_AUDIT
    assert blind["weighted"]["recall"]["value"] is None
    assert "could not be drawn" in blind["weighted"]["recall"]["note"]
    assert any("recall is not estimable" in note["sentence"] for note in blind["notes"])
    half = desk.truths.half("tune")
    mine, audit = rows[half[rows]], made.audit[half[made.audit]]
    positive = int(np.isin(mine, rows[:30]).sum())
    lost = int(np.isin(audit, made.audit[:9]).sum())
    weight = made.n_outside / 90  # each random draw stands for so many
    recall = numbers["weighted"]["recall"]
    assert recall["value"] == pytest.approx(positive / (positive + weight * lost))
    assert recall["low"] < recall["value"] < recall["high"]
    assert (recall["k"], recall["n"]) == (positive, positive + lost)
    assert numbers["weighted"]["precision"]["value"] == pytest.approx(positive / len(mine))
    assert numbers["circular"] == []


def test_curves_are_weighted_or_none(desk: Desk) -> None:
    limit, rows = top(desk, 60)
    keep(desk, "top", rows)
    good = {int(row): "A" for row in rows[:30]}
    for audit in (0, 90):
        made = desk.campaigns.of_selection(plan(f"Audit {audit}", audit=audit, is_blind=False), "top", "owner-1")
        grade(desk, made, "grader-1", good | {int(row): "B" for row in made.audit[:9]})
        asked = draft(desk, limit, made.id)
        with pytest.raises(UsageError, match="what looking would find is not told"):
            desk.judge.budget(asked, context(desk))
        if not audit:
            with pytest.raises(UsageError, match=r"recall is not estimable: .* draw an audit with a campaign"):
                desk.judge.curves(asked, context(desk))
    told = desk.judge.curves(asked, context(desk))
    weighted = desk.judge.numbers(asked, context(desk))["weighted"]
    assert told["boundary"]["at"] == [weighted["precision"]["value"], weighted["recall"]["value"]]
    assert told["limit"] is told["sigma"] is None
    score = next(one for one in told["pr"] if one["reference"] == SCORE)
    assert score["at"] == pytest.approx(told["boundary"]["at"])  # the boundary is a limit on this score
    assert score["recall"][0] == 1


def test_a_weighted_curve_is_that_of_the_survey_that_was_drawn_from() -> None:
    rng = np.random.default_rng(5)
    values, positive = rng.normal(0, 1, 200).round(1), rng.random(200) < 0.3
    times = rng.integers(1, 5, 200)  # how many subjects each stands for
    plain = Ranked(np.repeat(values, times), np.repeat(positive, times), np.ones(times.sum(), bool)).precision_recall()
    precision, recall, thresholds = weighted_curve(values, positive, times.astype(float))
    assert thresholds.tolist() == plain[2].tolist()
    assert precision == pytest.approx(plain[0][:-1])
    assert recall == pytest.approx(plain[1][:-1])


def test_grades_are_hidden_while_a_campaign_is_blind_and_open(desk: Desk) -> None:
    _, rows = top(desk, 20)
    keep(desk, "top", rows)
    made = desk.campaigns.of_selection(plan("Hidden"), "top", "owner-1")
    grade(desk, made, "grader-1", {int(rows[0]): "A"})
    desk.graded.write()
    assert not any(offer["what"] == "grade" for offer in desk.truths.offered(context(desk)))
    with pytest.raises(UsageError, match="“Hidden” is blind and open, so nobody is told its grades; close it first"):
        desk.truths.of(Truth("grade", made.id, at_least=2), context(desk))
    assert desk.explore.survey.columns_of_grades() == []
    desk.campaigns.close(made.id, "owner-1")
    assert desk.graded.poll()
    [offer] = [one for one in desk.truths.offered(context(desk)) if one["what"] == "grade"]
    assert (offer["title"], offer["n"], offer["kind"]) == ("grades of “Hidden”", 20, "verified")
    assert Truth.from_json(offer["truth"]) == Truth("grade", made.id, at_least=2.0)
    known = desk.truths.of(Truth("grade", made.id, at_least=2.0), context(desk))
    assert np.flatnonzero(known.positive).tolist() == [rows[0]]
    assert np.flatnonzero(known.known).tolist() == rows.tolist()
    desk.campaigns.reopen(made.id, "owner-1")
    assert desk.graded.poll()
    assert desk.explore.survey.columns_of_grades() == []
    assert not (desk.explore.survey.path / "grades.parquet").exists()


def test_columns_of_a_closed_campaign_are_colors_filters_and_no_complete_truths(desk: Desk) -> None:
    _, rows = top(desk, 20)
    keep(desk, "top", rows)
    made = desk.campaigns.of_selection(plan("Gäste & arcs", graders=2), "top", "owner-1")
    for who, first in (("grader-1", "A"), ("grader-2", "X")):
        grade(desk, made, who, {int(rows[0]): first, int(rows[1]): "B", int(rows[2]): "Q"}, interesting=(int(rows[5]),))
    desk.campaigns.close(made.id, "owner-1")
    survey, here = desk.explore.survey, context(desk)
    before = survey.generation
    assert desk.graded.poll()
    assert survey.generation == before + 1
    assert not desk.graded.poll()
    assert not desk.graded.write()  # nothing new is written
    stem = "grade_g_ste_arcs"
    assert survey.column(f"{stem}_value")[rows[:4]].tolist() == [1.5, 2.0, pytest.approx(np.nan, nan_ok=True), 0.0]
    assert survey.column(stem)[rows[:4]].tolist() == ["C", "B", "Q", "X"]
    assert f"subjects.{stem}_value" in desk.explore.colors(here.run_id, here.map_id)
    columns = columns_of(desk.explore, here.run_id, here.map_id, desk.ledger)
    read = reader(desk.explore, here.run_id, here.map_id, ledger=desk.ledger)
    assert parse(f"{stem}_is_disputed", columns).rows(read).nonzero()[0].tolist() == [rows[0]]
    assert parse(f'{stem} = "B"', columns).rows(read).nonzero()[0].tolist() == [rows[1]]
    assert parse(f"{stem}_n_interesting = 2", columns).rows(read).nonzero()[0].tolist() == [rows[5]]
    offered = {offer["reference"] for offer in desk.truths.offered(here)}
    assert not any(reference.startswith(f"subjects.{stem}") for reference in offered)
    assert desk.truths.of(Truth("column", f"subjects.{stem}_value", at_least=2.0), here).kind == "verified"
    gate = And((Gate(f"subjects.{stem}_value", low=1.0),))
    assert desk.boundaries.from_people(gate) == (f"subjects.{stem}_value",)  # so it is not deployable
    numbers = desk.judge.numbers(Draft(gate, Truth("grade", made.id, at_least=2.0)), here)
    assert numbers["circular"] == [f"{stem.replace('_', ' ')} value"]


def test_what_was_adjudicated_counts_as_decided(desk: Desk) -> None:
    _, rows = top(desk, 10)
    keep(desk, "top", rows)
    made = desk.campaigns.of_selection(plan("Decided", is_blind=False), "top", "owner-1")
    grade(desk, made, "grader-1", {int(rows[0]): "A"})
    desk.vetting.adjudicate(made.id, int(rows[0]), "X", who="owner-1")
    given = desk.graded.given(made.id)
    assert given.values[rows[0]] == 0
    labels = desk.graded.labels(made.id).set_index("row")
    assert labels.loc[int(rows[0]), ["label", "value", "is_found"]].tolist() == ["X", 0.0, False]


def test_a_majority_is_more_than_half(desk: Desk) -> None:
    _, rows = top(desk, 10)
    keep(desk, "top", rows)
    made = desk.campaigns.of_selection(plan("Most", graders=2, outcome="majority", is_blind=False), "top", "owner-1")
    grade(desk, made, "grader-1", {int(rows[0]): "A", int(rows[1]): "A"})
    grade(desk, made, "grader-2", {int(rows[0]): "B"})
    known = desk.truths.of(Truth("grade", made.id, at_least=desk.graded.given(made.id).limit), context(desk))
    assert desk.graded.given(made.id).limit == MAJORITY
    assert np.flatnonzero(known.positive).tolist() == [rows[0]]


def test_later_outcomes_are_a_truth_and_a_column(desk: Desk) -> None:
    for row, told in ((3, "confirmed"), (4, "rejected"), (5, "confirmed"), (5, "open")):
        keep_outcome(desk, row, told, "a spectrum", "owner-1")
    desk.graded.write()
    known = desk.truths.of(Truth("outcome", "confirmed"), context(desk))
    assert (np.flatnonzero(known.positive).tolist(), np.flatnonzero(known.known).tolist()) == ([3], [3, 4])
    assert known.kind == "verified"
    assert desk.explore.survey.column("follow_up")[[3, 4, 5]].tolist() == ["confirmed", "rejected", None]
    entry = desk.ledger.entries("outcome")[0]
    desk.ledger.undo(entry.id, who="owner-1")
    known = desk.truths.of(Truth("outcome", "confirmed"), context(desk))
    assert np.flatnonzero(known.known).tolist() == [4]


def test_acquisition_weighs_random_draws_for_those_that_were_never_shown(desk: Desk) -> None:
    _, rows = top(desk, 100)
    keep(desk, "top", rows)
    made = desk.campaigns.of_selection(plan("Batches", order="acquisition"), "top", "owner-1")
    made = desk.campaigns.extend(made.id, rows[:20], rows[20:30], "by chance", "owner-1")
    inclusion, drawn, notes = drawn_of(made, desk.explore.survey.frame())
    assert np.flatnonzero(drawn).tolist() == rows[:30].tolist()
    assert inclusion[rows[0]] == 1
    assert inclusion[rows[25]] == inclusion[rows[99]] == pytest.approx(10 / 80)
    assert np.isnan(inclusion[~np.isin(np.arange(N), rows)]).all()
    assert any("recall is rather too low" in note for note in notes)


def test_truths_of_experts_are_of_one_kind() -> None:
    with pytest.raises(TruthError, match="of kind verified"):
        Truth("grade", "0123456789ab", at_least=2, kind="complete")
    with pytest.raises(TruthError, match="its votes are no shares"):
        Truth("grade", "0123456789ab", at_least=2, is_soft=True)
    with pytest.raises(TruthError, match="an outcome that is right is confirmed"):
        Truth("outcome", "rejected")
    truth = Truth("grade", "0123456789ab", at_least=2)
    assert Truth.from_json(truth.to_json()) == truth


def test_a_boundary_is_fitted_to_grades_from_the_command_line(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(desk.explore.survey.path)
    _, rows = top(desk, 300)
    keep(desk, "top", rows)
    made = desk.campaigns.of_selection(plan("Rings"), "top", "owner-1")
    grade(desk, made, "grader-1", {int(row): "A" for row in rows if row % 3 == 0})
    told = ["boundary", "fit", path, "Learned", "--truth-grades", "Rings"]
    assert main(told) == 2
    assert "is blind and open" in capsys.readouterr().err
    desk.campaigns.close(made.id, "owner-1")
    assert main(told) == 0
    said = capsys.readouterr().out
    assert "grades of “Rings” ≥ 2" in said
    assert "verified by design" in said
    saved = desk.boundaries.get("Learned")
    assert saved.truth == Truth("grade", made.id, at_least=2.0)


def test_a_report_of_a_boundary_says_what_experts_found_of_it(desk: Desk, tmp_path: Path) -> None:
    limit, _ = top(desk, 40)
    here = context(desk)
    saved = desk.boundaries.save("High", Draft(And((Gate(SCORE, low=limit),))), here, "owner-1")
    told = plan("Of the boundary")
    made = desk.campaigns.of_boundary(told, "High", 1, "owner-1")
    grade(desk, made, "grader-1", {int(row): "A" for row in made.rows[:10]})
    assert desk.graded.said_of("High", 1) == []  # blind, and open
    desk.campaigns.close(made.id, "owner-1")
    [said] = desk.graded.said_of("High", 1)
    assert "10 of 40 graded (25 % [14, 40]) are looked for; the mean of its grades reaches the limit 2" in said
    making = report(desk, saved.draft, here, tmp_path / "report", Options(quick=True, forms=()))
    while next(making, None) is not None:
        pass
    page = (tmp_path / "report" / PAGE).read_text()
    assert "What experts found" in page
    assert "10 of 40 graded (25 % [14, 40]) are looked for" in page
