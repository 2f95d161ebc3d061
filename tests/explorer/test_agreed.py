"""What graders of a campaign agree on: each part of the report against slow counts, and what is kept apart from it."""

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from explorer.errors import UsageError
from explorer.ingest.build import create_table_only
from explorer.ledger import Ledger
from explorer.services.agreed import BY_ACQUISITION, Agreed, report_lines
from explorer.services.campaigns import Batch, Campaign, Plan
from explorer.services.explore import Explore
from explorer.survey import Survey
from models.agreement import NO_PAIR, Ratings, alpha, cohen, fleiss
from models.grades import CANNOT_JUDGE, SCHEMES, Grade, Scheme
from models.rates import share
from tests.explorer.vetted import vetting_of, write_graded

N = 80
ABCX = SCHEMES["abcx"]
KINDS = Scheme(
    "Kinds",
    (
        Grade("A", "merger", 1, "Two nuclei or tails."),
        Grade("B", "spiral", 0, "Arms, and one nucleus."),
        Grade("C", "elliptical", 0, "Smooth."),
    ),
    "nominal",
    1,
)


class Votes:
    """Votes as they are told by `Vetting.votes`, written down by hand."""

    def __init__(self) -> None:
        self.cast: list[dict] = []

    def add(self, campaign, row, who, grade, role="subject", via="single", seconds=3.0, interesting=False, own=None):
        value = campaign.plan.scheme.value(grade)
        at = f"2026-01-01T00:00:00.{len(self.cast):06d}+00:00"
        one = {"row": row, "subject_id": row, "who": who, "grade": grade, "value": value, "interesting": interesting}
        one |= {"seconds": seconds, "at": at, "role": role, "via": via, "n_revisions": 0}
        self.cast.append(one | {"is_informed": own is not None, "independent": grade if own is None else own})

    def votes(self, campaign_id, at=None):
        names = ["row", "subject_id", "who", "grade", "value", "interesting", "seconds", "at", "role", "via"]
        table = pd.DataFrame(self.cast, columns=[*names, "n_revisions", "is_informed", "independent"])
        return table if at is None else table[table["at"] <= at]

    def waiting(self, campaign_id, at=None):
        return np.empty(0, np.int64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 subjects; the last ten show five pieces of sky."""
    path = tmp_path_factory.mktemp("agreed") / "survey"
    ra = [*map(float, range(70)), *(100.0 + i // 2 for i in range(10))]
    create_table_only(path, pa.table({"source_id": [str(i) for i in range(N)], "ra": ra, "dec": [0.0] * N}), "a survey")
    return path


@pytest.fixture
def bench(folder: Path, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """Agreed on a campaign of rows 0 … 29, with 8 audit draws, two known objects and two duds, and nobody's votes."""
    plan = Plan("Lenses", ABCX, graders=3)
    campaign = Campaign(
        "0123456789ab",
        plan,
        rows=np.arange(30),
        audit=np.arange(40, 48),
        n_outside=46,
        known=np.array([60, 61]),
        duds=np.array([62, 63]),
        source={"region": "the selection “tail”", "inclusion": 1.0, "n_source": 30},
        who="owner",
        at="2026-01-01T00:00:00+00:00",
    )
    with (
        contextlib.closing(Survey.open(folder)) as survey,
        Ledger(tmp_path, survey.info.survey_id) as ledger,
    ):
        votes = Votes()
        told = {campaign.id: campaign}
        campaigns = SimpleNamespace(get=told.__getitem__, ledger=ledger)
        made = SimpleNamespace(campaign=campaign, votes=votes, ledger=ledger, survey=survey)

        def grade(row, grades, **more):
            """One key for each of grader-1, grader-2, …; a dash for none."""
            for i, key in enumerate(grades):
                if key != "-":
                    votes.add(told[campaign.id], row, f"grader-{i + 1}", key, **more)
            ledger.append("vote", {"campaign": campaign.id}, who="grader-1")

        def be(**changes):
            told[campaign.id] = replace(told[campaign.id], **changes)
            ledger.append("campaign", {}, who="owner")

        made.grade, made.be, made.agreed = grade, be, Agreed(campaigns, votes, Explore(survey))
        made.report = lambda at=None: made.agreed.report(campaign.id, at)
        yield made


def seen(told, *names):
    return tuple(told[name] for name in names)


# -------------------------------------------------------------------------------------------------------- agreement
def test_agreement_is_of_independent_grades_of_real_subjects(bench):
    """Repeats, known objects, duds and adjudications count for none of it; audit draws and those of two grades do."""
    grades = {0: "AAB", 1: "XX-", 2: "ABX", 3: "C--", 4: "XXX", 5: "QAA", 6: "BBB", 40: "XXC"}
    for row, keys in grades.items():
        bench.grade(row, keys, role="audit" if row == 40 else "subject")
    values = np.array([[{"A": 3, "B": 2, "C": 1, "X": 0}.get(k, np.nan) for k in keys] for keys in grades.values()])
    for row, keys, role in ((60, "AAX", "known"), (62, "XXA", "dud"), (0, "XXX", "repeat")):
        bench.grade(row, keys, role=role)
    bench.grade(2, "A", via="adjudication")
    report = bench.report()
    ratings = Ratings.of(values, categories=[0, 1, 2, 3], positive=2)
    for name, expected in (("alpha", alpha(ratings, "ordinal")), ("fleiss", fleiss(ratings))):
        assert report[name] == {**report[name], **expected.to_json()}
    assert report["alpha"]["level"] == "ordinal" and (report["fleiss"]["m"], report["fleiss"]["n_equal_m"]) == (3, 5)
    assert report["fleiss"]["n_left_out"] == 2  # 1 and 5: two grades each
    assert seen(report, "n_graders", "n_subjects", "n_all", "n_votes", "n_cannot") == (3, 8, 38, 20, 1)
    assert report["grades"] == {"A": 5, "B": 5, "C": 2, "X": 8}
    pair, expected = report["pairs"][0][2], cohen(ratings, 0, 2, reps=500)
    assert (pair["kappa"], pair["low"], pair["n"]) == (expected.value, expected.low, expected.n)
    assert pair["prevalence"] == expected.prevalence.to_json()
    assert pair["positive_agreement"] == expected.positive_agreement.to_json()
    assert pair["weighted"]["value"] == cohen(ratings, 0, 2, "ordinal", reps=1).value
    assert report["pairs"][2][0] == pair and report["pairs"][1][1] is None
    assert pair["disagreed"] == [2, 0, 40] and pair["n_disagreed"] == 3  # A and X are farther apart than A and B
    assert bench.agreed.disagreement(bench.campaign.id, "grader-1", "grader-3").tolist() == [2, 0, 40]
    json.dumps(report, allow_nan=False)


def test_a_grade_changed_after_others_were_told_counts_for_agreement_as_it_was_before(bench):
    for row, keys in enumerate(["AA", "XX", "BB", "CX", "XX"]):
        bench.grade(row, keys)
    before = bench.report()
    bench.votes.cast[:] = [v for v in bench.votes.cast if not (v["row"] == 3 and v["who"] == "grader-1")]
    bench.votes.add(bench.campaign, 3, "grader-1", "X", own="C")
    bench.grade(5, "AX")
    bench.votes.cast[-1] |= {"is_informed": True, "independent": ""}  # the campaign is not blind
    after = bench.report()
    assert seen(after, "n_changed", "n_informed", "n_votes") == (1, 1, 12)
    assert after["pairs"][0][1]["disagreed"] == [5, 3] and before["pairs"][0][1]["disagreed"] == [3]
    assert bench.agreed.disputed(bench.campaign.id).tolist() == [5]  # they do not differ on 3 any more
    levels = {grade["grade"]: grade["subjects"]["k"] for grade in after["purity"]["grades"]}
    assert levels["C"] == 1 and levels["X"] == 3  # the outcomes are of the grades as they stand; 5 is 1.5, which is C
    assert any("1 grade of these given with those of others in sight" in line for line in report_lines(after))


def test_a_cell_that_opens_nothing_says_who_is_missing(bench):
    bench.grade(0, "AA")
    with pytest.raises(UsageError, match="“Lenses”"):
        bench.agreed.disagreement(bench.campaign.id, "grader-1", "grader-9")


def test_nominal_grades_of_one_value_are_told_apart(bench):
    """Spiral and elliptical are worth the same, 0, and are no agreement."""
    bench.be(plan=Plan("Kinds", KINDS, graders=2, outcome="majority"))
    for row, keys in enumerate(["AA", "BB", "CC", "BC", "CB", "AA", "BC", "BB"]):
        bench.grade(row, keys)
    report = bench.report()
    codes = np.array([["ABC".index(k) for k in keys] for keys in ["AA", "BB", "CC", "BC", "CB", "AA", "BC", "BB"]])
    expected = alpha(Ratings.coded(codes, [1, 0, 0], [True, False, False]), "nominal")
    assert report["alpha"]["value"] == expected.value and report["alpha"]["level"] == "nominal"
    assert report["pairs"][0][1]["n_disagreed"] == 3 and "weighted" not in report["pairs"][0][1]
    assert bench.agreed.disputed(bench.campaign.id).tolist() == [3, 4, 6]
    assert bench.agreed.dispersion(bench.campaign.id).tolist() == [0, 0, 0, 1, 1, 0, 1, 0]
    grades = {grade["grade"]: grade["subjects"]["k"] for grade in report["purity"]["grades"]}
    assert grades == {"A": 2, "B": 2, "C": 1} and report["purity"]["n_without_level"] == 3
    assert "at_least" not in report["purity"]["grades"][0]


def test_without_votes_or_with_one_grader_there_are_words(bench):
    report = bench.report()
    assert report["alpha"]["value"] is None and report["alpha"]["note"] and report["pairs"] == []
    assert report["purity"]["found"]["value"] is None and report["dispersion"]["mean_deviation"] is None
    assert report_lines(report) and json.dumps(report, allow_nan=False)
    bench.grade(0, "A")
    bench.grade(1, "-B")
    report = bench.report()
    assert report["alpha"]["note"] == NO_PAIR and report["fleiss"]["m"] is None and report["pairs"][0][1] is None
    assert any(NO_PAIR in line for line in report_lines(report))


# --------------------------------------------------------------------------------------------------------- graders
def test_each_grader_against_known_objects_duds_and_themselves(bench):
    for row, keys, role in ((60, "AXQ", "known"), (61, "BBB", "known"), (62, "XAX", "dud"), (63, "XXX", "dud")):
        bench.grade(row, keys, role=role)
    bench.grade(0, "AB", seconds=2.0, interesting=True)
    bench.grade(1, "XQ", seconds=8.0)
    for row, keys in ((0, "AC"), (1, "XX")):
        bench.grade(row, keys, role="repeat")
    bench.grade(0, "-A", via="adjudication")
    one, two, three = bench.report()["graders"]
    assert [g["who"] for g in (one, two, three)] == ["grader-1", "grader-2", "grader-3"]
    assert one["known"] == share(2, 2).to_json() and one["duds"] == share(2, 2).to_json()
    assert two["known"] == share(1, 2).to_json() and two["false_alarms"] == share(1, 2).to_json()
    assert two["duds"]["k"] == 1 and two["confusion"]["duds"] == {"A": 1, "B": 0, "C": 0, "X": 1, "Q": 0}
    assert seen(three["known"], "k", "n") == (1, 1) and "1 of 2 could not be judged" in three["known"]["note"]
    assert seen(one["self_agreement"], "k", "n", "n_cannot") == (2, 2, 0)
    assert seen(two["self_agreement"], "k", "n", "n_cannot") == (0, 1, 1)  # B, then C; and one that could not be judged
    assert seen(three["self_agreement"], "n", "value") == (0, None)
    assert seen(one, "n", "n_cannot", "n_interesting") == (2, 0, 1) and seen(two, "n", "n_cannot") == (1, 1)
    assert three["n"] == 0 and one["seconds_median"] == 3.0  # of 3, 3, 3, 3, 2, 8, 3, 3
    assert bench.report()["n_graders"] == 2 and len(bench.report()["pairs"]) == 3


# -------------------------------------------------------------------------------------------------- the region's purity
def test_purity_by_outcome_and_by_single_votes(bench):
    grades = ["AAA", "AAB", "BBC", "CCX", "XXX", "XXX", "QQQ"]  # means 3, 2.67, 1.67, 0.67, 0, 0
    for row, keys in enumerate(grades):
        bench.grade(row, keys)
    bench.grade(40, "AAA", role="audit")  # is outside of the region
    purity = bench.report()["purity"]
    by = {grade["grade"]: grade for grade in purity["grades"]}
    assert [grade["grade"] for grade in purity["grades"]] == ["A", "B", "C", "X"]
    assert {k: seen(g["subjects"], "k", "n") for k, g in by.items()} == {
        "A": (1, 6),
        "B": (1, 6),
        "C": (1, 6),
        "X": (3, 6),
    }
    assert {k: g["at_least"]["k"] for k, g in by.items()} == {"A": 1, "B": 2, "C": 3, "X": 6}
    assert {k: seen(g["votes"], "k", "n") for k, g in by.items()} == {
        "A": (5, 18),
        "B": (3, 18),
        "C": (3, 18),
        "X": (7, 18),
    }
    assert seen(purity["found"], "k", "n", "low", "high") == seen(share(2, 6).to_json(), "k", "n", "low", "high")
    assert purity["n_cannot"] == 1 and purity["region"] == "the selection “tail”"
    votes, naive = by["X"]["votes"], share(7, 18).to_json()
    assert votes["high"] - votes["low"] > 1.2 * (naive["high"] - naive["low"])  # votes of one subject are alike
    assert any("23 of 30 subjects have no vote yet" in note for note in purity["notes"])


@pytest.mark.parametrize(("rule", "found"), [("mean", 1), ("median", 2), ("any", 3), ("majority", 2)])
def test_purity_is_by_the_rule_that_was_written_down(bench, rule, found):
    bench.be(plan=Plan("Lenses", ABCX, graders=3, outcome=rule))
    for row, keys in enumerate(["AAB", "BBX", "AXX", "CCC"]):  # means 2.67, 1.33, 1, 1; medians 3, 2, 0, 1
        bench.grade(row, keys)
    assert bench.report()["purity"]["found"]["k"] == found


def test_an_adjudication_is_the_outcome_and_no_vote(bench):
    for row, keys in enumerate(["AXX", "AAX", "BB"]):
        bench.grade(row, keys)
    before = bench.report()
    bench.grade(0, "A", via="adjudication")
    bench.grade(1, "Q", via="adjudication")
    bench.grade(2, "X", via="adjudication")
    bench.grade(2, "A", via="adjudication")  # the last one holds
    after = bench.report()
    assert after["alpha"] == before["alpha"] and after["n_votes"] == before["n_votes"]
    assert seen(before["purity"]["found"], "k", "n") == (2, 3)
    assert seen(after["purity"]["found"], "k", "n") == (2, 2) and after["purity"]["n_cannot"] == 1
    assert after["n_adjudicated"] == 3 and after["dispersion"]["n_waiting"] == 0
    assert {g["grade"]: g["subjects"]["k"] for g in after["purity"]["grades"]} == {"A": 2, "B": 0, "C": 0, "X": 0}


def test_purity_is_weighted_where_the_survey_was_drawn(folder, bench):
    """Ten that were kept all, ten of which one in five was drawn: the one found among these stands for five."""
    pi = np.full(N, np.nan)
    pi[:10], pi[10:20] = 1.0, 0.2
    bench.agreed.survey = SimpleNamespace(
        column=lambda name: pi, arrow=bench.survey.arrow, n=N, rows_of=bench.survey.rows_of, generation=1
    )
    bench.be(rows=np.arange(20))
    for row in range(20):
        bench.grade(row, "A" if row in (0, 1, 2, 10) else "X")
    purity = bench.report()["purity"]
    assert seen(purity["found"], "k", "n", "value") == (4, 20, 0.2)
    assert purity["found"]["weighted"]["value"] == pytest.approx((3 + 5) / (10 + 50))
    assert purity["found"]["weighted"]["low"] < 8 / 60 < purity["found"]["weighted"]["high"]
    assert any("weighted by inclusion probability" in note for note in purity["notes"])
    assert any("weighted" in line for line in report_lines(bench.report()))


def test_the_same_sky_twice_is_one_subject_to_the_intervals(bench):
    bench.be(rows=np.arange(70, 80))
    for row in range(70, 80):
        bench.grade(row, "AA" if row < 76 else "XX")
    twice = bench.report()["purity"]["found"]
    assert seen(twice, "k", "n") == (6, 10)
    assert seen(twice, "low", "high") == pytest.approx(seen(share(3, 5).to_json(), "low", "high"))


# ------------------------------------------------------------------------------------------------------- adjudication
def test_the_most_disputed_come_first_and_those_adjudicated_stand_apart(bench):
    for row, keys in {3: "AX", 4: "AB", 5: "AA", 6: "AAXX", 7: "AAX", 8: "QA", 9: "AX", 40: "CX"}.items():
        bench.grade(row, keys, role="audit" if row == 40 else "subject")
    # deviations 1.5, .5, 0, 1.5, 1.41, none, 1.5, .5: of equal ones those with fewest grades first
    assert bench.agreed.disputed(bench.campaign.id).tolist() == [3, 9, 6, 7, 4, 40]
    apart = bench.agreed.dispersion(bench.campaign.id)
    assert apart.index.tolist() == [3, 4, 5, 6, 7, 9, 40]
    assert apart.tolist() == pytest.approx([1.5, 0.5, 0, 1.5, math.sqrt(2), 1.5, 0.5])
    for row, key in ((9, "A"), (5, "X"), (6, "Q")):
        bench.grade(row, key, via="adjudication")
    assert bench.agreed.disputed(bench.campaign.id).tolist() == [3, 7, 4, 40]
    assert bench.agreed.adjudicated(bench.campaign.id).tolist() == [9, 6, 5]
    told = bench.report()["dispersion"]
    assert seen(told["differ"], "k", "n") == (6, 7) and told["n_waiting"] == 4
    assert told["levels"] == [{"value": 0.0, "n": 1}, {"value": 1.0, "n": 2}, {"value": 3.0, "n": 4}]


# ----------------------------------------------------------------------------------------------------------- follow-up
def test_precision_is_recomputed_against_what_follow_up_said(bench):
    for row, keys in enumerate(["AA", "AB", "BB", "XX", "XX", "QQ", "CC"]):
        bench.grade(row, keys)
    assert bench.report()["against_outcomes"]["precision"]["value"] is None
    ids = bench.survey.subject_ids
    said = {0: "confirmed", 1: "rejected", 2: "open", 3: "confirmed", 4: "rejected", 5: "confirmed", 70: "confirmed"}
    for row, what in said.items():
        told = {"outcome": what, "source": "a spectrum"}
        bench.ledger.append("outcome", told, who="grader-1", subject_id=int(ids[row]))
    told = bench.report()["against_outcomes"]
    assert seen(told["precision"], "k", "n") == (1, 2) and seen(told["missed"], "k", "n") == (1, 2)
    assert seen(told["by_grades"], "k", "n") == (2, 4)  # and this is what grades had said of the same four
    assert seen(told, "n_found", "n_followed", "n_not_judged") == (3, 4, 1)
    assert {g["grade"]: (g["k"], g["n"]) for g in told["grades"]} == {
        "A": (1, 1),
        "B": (0, 1),
        "C": (0, 0),
        "X": (1, 2),
    }
    later = {"outcome": "confirmed", "source": "another spectrum"}
    entry = bench.ledger.append("outcome", later, who="grader-1", subject_id=int(ids[1]))
    assert seen(bench.report()["against_outcomes"]["precision"], "k", "n") == (2, 2)  # the last word holds
    bench.ledger.undo(entry.id, who="grader-1")
    assert seen(bench.report()["against_outcomes"]["precision"], "k", "n") == (1, 2)


# --------------------------------------------------------------------------------------------------------- what is left
def test_the_audit_says_how_many_are_outside(bench):
    for row in range(40, 48):
        bench.grade(row, "AA" if row == 40 else "XX", role="audit")
    left = bench.report()["left"]
    assert bench.agreed.left(bench.campaign.id) == left
    assert seen(left, "n_drawn", "n_positive", "n_unseen") == (8, 1, 38)
    assert left["low"] <= left["n"] <= left["high"] and abs(left["n"] - 46 / 8 + 1) <= 1
    assert "in what the source does not keep" in left["sentence"] and left["sentence"] in report_lines(bench.report())


def test_without_an_audit_what_is_left_is_among_those_to_be_graded(bench):
    """They are graded in a random order, so that those graded so far are a random draw of them."""
    bench.be(audit=np.empty(0, np.int64))
    for row in range(12):
        bench.grade(row, "AA" if row < 4 else "XX")
    left = bench.report()["left"]
    assert seen(left, "n_drawn", "n_positive", "n_unseen") == (12, 4, 18)
    assert left["low"] < left["n"] < left["high"] and "among those not looked at" in left["sentence"]
    bench.be(rows=np.arange(12))
    assert bench.report()["left"] is None


def test_by_acquisition_what_is_left_comes_of_the_random_draws_alone(bench):
    plan = Plan("Lenses", ABCX, order="acquisition")
    batches = (
        Batch(np.arange(5), np.array([20, 21, 22]), 30, "greedy", "owner", ""),
        Batch(np.arange(5, 10), np.array([23, 24]), 22, "greedy", "owner", ""),
    )
    bench.be(plan=plan, batches=batches, audit=np.empty(0, np.int64))
    for row in (*range(10), 20, 21, 22, 23):
        bench.grade(row, "A" if row < 6 or row == 20 else "X")
    report = bench.report()
    left = report["left"]
    assert seen(left, "n_drawn", "n_positive", "n_unseen") == (4, 1, 16)  # 24 has no vote yet
    assert 0 <= left["low"] <= left["n"] <= left["high"] <= 16
    assert BY_ACQUISITION in report["purity"]["notes"]


# ------------------------------------------------------------------------------------------------------------- caching
def test_a_report_is_made_once_until_something_is_decided_and_of_any_date(bench):
    bench.grade(0, "AA")
    first = bench.report()
    assert bench.report() is first
    between = bench.votes.cast[-1]["at"]
    bench.grade(1, "AX")
    second = bench.report()
    assert second is not first and (first["n_votes"], second["n_votes"]) == (2, 4)
    assert bench.report(between)["n_votes"] == 2
    bench.ledger.append("tag", {"tag": "ring"}, who="grader-1", subject_id=int(bench.survey.subject_ids[0]))
    assert bench.report() is second  # a tag changes nothing here


def test_lines_for_a_terminal_say_each_number_with_its_k_of_n(bench):
    for row, keys in enumerate(["AAB", "XXX", "AXB", "QCC", "BBB", "XXX", "AAA", "XCX"]):
        bench.grade(row, keys)
    bench.grade(60, "AAX", role="known")
    bench.grade(0, "ABB", role="repeat")
    report = bench.report()
    lines = bench.agreed.report_lines(bench.campaign.id)
    assert lines == report_lines(report)
    assert lines[0] == "8 subjects of 38 graded by 3 graders, 23 grades; “cannot judge” 1, flagged interesting 0"
    value = report["alpha"]["value"]
    assert lines[1].startswith(f"Krippendorff's alpha (ordinal): {value:.2f} [")
    assert "prevalence" in lines[1] and "positive agreement" in lines[1]
    assert "of those with just 3 grades; 1 subject with other numbers left out" in lines[2]
    assert sum(line.startswith("Cohen's kappa, grader-") for line in lines) == 3
    assert any(
        line.startswith("grader-3: ") and "0 of 1" in line and "of known objects found" in line for line in lines
    )
    assert any(line.startswith("  A (certain): ") for line in lines)
    assert not any(word in line for line in lines for word in ("nan", "None", CANNOT_JUDGE + "("))


# ----------------------------------------------------------------------------------------- with the services themselves
def test_through_queues_votes_and_the_ledger(tmp_path):
    """Two graders who differ on every third subject, through their own blind queues, with all that is mixed in."""
    with (
        contextlib.closing(Survey.open(write_graded(tmp_path / "survey", 200))) as survey,
        Ledger(survey.path, survey.info.survey_id) as ledger,
    ):
        vetting = vetting_of(survey, ledger)
        for name, rows in (("known", range(150, 153)), ("duds", range(153, 155))):
            ledger.save_selection(name, np.array(rows), survey.subject_ids, who="owner")
        plan = Plan("Odd ones", ABCX, graders=2, known="known", duds="duds", audit=10, repeats=0.2)
        campaign = vetting.campaigns.make(plan, np.arange(30), {"region": "the first thirty"}, "owner")
        agreed = Agreed(vetting.campaigns, vetting, vetting.explore)
        for who in ("grader-1", "grader-2"):
            for item in vetting.queue(campaign.id, who):
                is_odd = item.role == "known" or (item.row % 3 == 0 and (who == "grader-1" or item.row % 2))
                vetting.vote(campaign.id, who, item.key, "A" if is_odd and item.role != "dud" else "X", seconds=2.0)
        report = agreed.report(campaign.id)
        rows, graders, values = vetting.matrix(campaign.id)
        groups = np.searchsorted(*(np.unique(survey.column("duplicate_group")), survey.column("duplicate_group")[rows]))
        ratings = Ratings.of(values, [0, 1, 2, 3], 2, groups)
        assert [g["who"] for g in report["graders"]] == graders
        assert report["alpha"]["value"] == alpha(ratings, "ordinal").value
        assert report["pairs"][0][1]["kappa"] == cohen(ratings, 0, 1).value
        differ = [row for row in rows.tolist() if row % 6 == 0]
        assert sorted(report["pairs"][0][1]["disagreed"]) == differ
        assert agreed.disputed(campaign.id).tolist() == differ
        for grader in report["graders"]:
            assert seen(grader["known"], "k", "n") == (len(campaign.known),) * 2
            assert seen(grader["false_alarms"], "k", "n") == (0, len(campaign.duds))
            assert grader["self_agreement"]["k"] == grader["self_agreement"]["n"] > 0
            assert grader["seconds_median"] == 2.0 and grader["n"] == campaign.n_real
        assert report["left"]["n_drawn"] == len(campaign.audit)
        assert set(vetting.outcomes(campaign.id).query("is_found")["row"]) == {r for r in rows.tolist() if r % 6 == 3}
        region = [row for row in campaign.rows.tolist() if row % 6 == 3]
        assert seen(report["purity"]["found"], "k", "n") == (len(region), len(campaign.rows))

        then = vetting.votes(campaign.id)["at"].max().to_pydatetime()
        vetting.adjudicate(campaign.id, differ[1], "A", who="grader-3")
        item = next(i for i in vetting.queue(campaign.id, "grader-2") if i.row == differ[0] and i.role == "subject")
        assert vetting.told(campaign.id, "grader-2", item.key)["votes"]
        vetting.vote(campaign.id, "grader-2", item.key, "A", seconds=2.0)
        vetting.set_outcome(region[0], "confirmed", "a spectrum", who="grader-3")
        after = agreed.report(campaign.id)
        assert after["alpha"] == report["alpha"] and after["n_changed"] == 1 and after["n_informed"] == 0
        assert agreed.disputed(campaign.id).tolist() == differ[2:]
        assert agreed.adjudicated(campaign.id).tolist() == [differ[1]]
        assert after["purity"]["found"]["k"] == len(region) + 2
        assert seen(after["against_outcomes"]["precision"], "k", "n") == (1, 1)
        of_then = agreed.report(campaign.id, then)
        assert of_then["purity"] == report["purity"] and of_then["against_outcomes"] == report["against_outcomes"]
