"""`explorer.services.crowd`: what the page of volunteers shows, against slow counts, closed forms and real crowds."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest

from explorer.errors import UsageError
from explorer.ingest.build import create_table_only
from explorer.ingest.exports import ingest
from explorer.ledger import Ledger
from explorer.services.counting import Counting
from explorer.services.crowd import (
    N_BARS,
    Crowd,
    Cut,
    Machine,
    bars,
    cumulative,
    differences,
    fewest,
    percentiles,
    quadrants,
    rate,
    replayed,
)
from explorer.services.explore import Explore
from explorer.services.volunteers import Volunteers
from explorer.survey import Survey
from models.retirement import Recorded
from tests.voters import N_VOLUNTEERS, truth, write_crowd

N = 150
SCORE = Machine("subjects.score")


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Crowd]:
    with contextlib.closing(Survey.open(folder)) as survey, Ledger(folder, survey.info.survey_id) as ledger:
        explore = Explore(survey)
        volunteers = Volunteers(survey, ledger, explore.talk)
        volunteers.recount()
        survey.refresh()
        yield Crowd(volunteers, explore)


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 subjects, a machine score that knows the truth but for noise, and a crowd. Shared: copy it to change it."""
    folder = tmp_path_factory.mktemp("crowded") / "survey"
    score = truth(N) + np.random.default_rng(1).normal(0, 0.5, N)
    score[7] = np.nan
    create_table_only(folder, pa.table({"source_id": [str(i) for i in range(N)], "score": score}), "a survey")
    write_crowd(folder)
    return folder


@pytest.fixture(scope="module")
def crowd(crowded: Path) -> Iterator[Crowd]:
    with opened(crowded) as crowd:
        yield crowd


# ------------------------------------------------------------------------------------------------- pure functions
def test_a_rate_is_shown_with_wilsons_interval_and_of_nothing_it_is_anything():
    shown = rate(3, 10)
    assert (shown["k"], shown["n"]) == (3, 10)
    assert (shown["low"], shown["high"]) == pytest.approx((0.10779, 0.60322), abs=1e-5)
    assert rate(0, 0) == {"k": 0, "n": 0, "low": 0.0, "high": 1.0}


def test_bars_put_every_k_of_n_where_exact_arithmetic_does():
    pairs = [(k, n) for n in range(1, 60) for k in range(n + 1)]
    fractions = np.array([k / n for k, n in pairs], np.float32)
    told = bars(np.append(fractions, np.nan))
    slow = np.zeros(N_BARS, int)
    for k, n in pairs:
        if k:
            slow[-(-k * N_BARS // n) - 1] += 1  # ⌈20 k / n⌉, in whole numbers
    assert told["bins"].tolist() == slow.tolist()
    assert (told["n"], told["never"]) == (len(pairs), 59)
    assert told["quartiles"] == pytest.approx(np.percentile(fractions.astype(float), (25, 50, 75)))
    assert bars(np.full(4, np.nan)) | {"bins": []} == {"n": 0, "never": 0, "bins": [], "quartiles": None}


def test_differences_count_every_subject_once_and_keep_to_the_papers_bound():
    random = np.random.default_rng(0)
    n = random.integers(4, 20, 500)
    heavy = random.integers(0, n + 1)  # of the n, those whose vote counts twice
    heavy_k, light_k = random.integers(0, heavy + 1), random.integers(0, n - heavy + 1)
    fraction, weighted = (heavy_k + light_k) / n, (2 * heavy_k + light_k) / (n + heavy)
    told = differences(fraction.astype(np.float32), weighted.astype(np.float32), (n * 1.0))
    assert told is not None
    assert told["cells"].sum() == 500 == told["n"]
    assert told["raised"]["k"] == (weighted - fraction > 1e-6).sum()
    assert told["lowered"]["k"] == (weighted - fraction < -1e-6).sum()
    assert told["furthest"] <= told["reach"] and told["furthest"] <= 3 - 2 * np.sqrt(2) + 1e-6  # at c = 2 − √2
    assert told["effective"][1] == np.median(n)
    assert differences(fraction, np.full(500, np.nan), n * 1.0) is None
    same = differences(fraction, fraction, n * 1.0)
    assert same is not None and same["raised"]["k"] == same["lowered"]["k"] == 0


def test_who_gives_how_much():
    given = np.array([1.0, 4, np.nan, 5, 0])
    curve = dict(cumulative(given))
    assert curve[0.0] == 0 and curve[0.2] == 0.5 and curve[0.4] == 0.9 and curve[1.0] == 1
    assert fewest(given) == {"k": 1, "n": 5} and fewest(given, 0.9) == {"k": 2, "n": 5}
    assert cumulative(np.zeros(3)) == [] and fewest(np.full(3, np.nan)) is None


def test_standings_are_shares_below_and_ties_stand_together():
    score = np.array([3.0, 1, np.nan, 2, 2, 9])
    found = percentiles(score, np.array([True, True, True, True, True, False]))
    assert found.tolist()[:2] == [0.75, 0] and np.isnan(found[[2, 5]]).all()
    assert found[3] == found[4] == 0.25


def test_quadrants_part_all_subjects_that_have_both():
    random = np.random.default_rng(2)
    score, fraction = random.normal(size=400), random.integers(0, 11, 400) / np.float32(10)
    score[:20], fraction[10:40] = np.nan, np.nan
    tags = np.where(random.random(400) < 0.2, 2.0, np.nan)
    found = quadrants(score, fraction, tags, Cut(80, 0.3))
    parts = [found.masks[name] for name in ("rejected", "missed", "both", "rest")]
    both = np.isfinite(score) & np.isfinite(fraction)
    assert (np.sum(parts, axis=0) == both).all() and found.n == both.sum()
    standing = [(score[both] < s).mean() if known else np.nan for s, known in zip(score, both, strict=True)]
    for row in range(400):  # one by one
        high, chosen = standing[row] >= 0.8, fraction[row] > 0.29
        assert found.masks["missed"][row] == (both[row] and not high and chosen)
        assert found.masks["tagged"][row] == (np.isfinite(fraction[row]) and not chosen and tags[row] == 2)
    shown = found.rows("missed")
    assert (np.diff(fraction[shown]) <= 0).all() and (np.diff(score[found.rows("rejected")]) <= 0).all()


def test_replays_of_many_votes_are_of_whole_subjects_drawn_at_random():
    subject = np.repeat(np.arange(100, dtype=np.int32), 9)
    votes = Recorded(subject, np.tile(np.arange(9, dtype=np.int32), 100), np.ones(900, np.int16), 120, 9, 2)
    gold = np.where(np.arange(120) < 40, np.arange(120) % 2, -1).astype(np.int8)
    few = replayed(votes, gold, is_timed=False, most_votes=300)
    assert (few.votes.n_votes == 9).all() and len(few.rows) == 33 and few.n_left_out == 67
    assert few.orders == 3 and few.rows.max() < 100
    everything = replayed(votes, gold, is_timed=True)
    assert everything.orders is None and everything.n_left_out == 0
    assert [int((everything.trains & (everything.gold == kind)).sum()) for kind in (0, 1)] == [10, 10]
    assert not replayed(votes, np.full(120, -1, np.int8), True).trains.any()


# ------------------------------------------------------------------------------------------------------ the service
def test_the_head_says_what_is_counted_and_what_is_left_out(crowd: Crowd):
    told = crowd.overview()
    assert told["state"] == "votes" and told["is_simulated"]
    assert told["n"] == {"votes": 12 * N - 20, "volunteers": N_VOLUNTEERS, "subjects": N, "survey": N, "unknown": 0}
    assert [q["title"] for q in told["questions"] if q["chosen"]] == ["workflow 7 · T0 · chosen"]
    out = {one["name"]: one["n"] for one in told["left_out"]}
    assert out == {"live_only": 20, "leave_out_anonymous": None}
    assert told["why_not"] == {}
    orjson.dumps(told)


def test_fractions_are_those_of_the_votes_overall_and_by_tag(crowd: Crowd):
    told = crowd.fractions()
    votes = crowd.volunteers.votes()
    assert votes is not None
    seen, chosen = (np.bincount(votes.subject, minlength=N), np.bincount(votes.subject[votes.answer == 0], minlength=N))
    assert told["all"]["n"] == N and told["all"]["never"] == (chosen == 0).sum()
    groups = {group["group"]: group for group in told["groups"]}
    assert groups["merger"]["n"] == groups["merger"]["n_tagged"] == N // 5 + 1
    mergers = [*range(0, N, 5), 2]
    assert groups["merger"]["quartiles"][1] == pytest.approx(np.median((chosen / seen)[mergers]))
    assert groups["merger"]["low"] <= groups["merger"]["quartiles"][1] <= groups["merger"]["high"]
    assert (groups["voorwerp"]["n_taggers"], groups["voorwerp"]["low"]) == (1, None)  # one person: no interval
    assert told["difference"]["n"] == N
    orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)


def test_people_are_hashes_and_the_skilled_come_first(crowd: Crowd):
    told = crowd.people()
    assert told is not None
    assert (told["n"], told["n_anonymous"], len(told["list"])) == (N_VOLUNTEERS, 3, N_VOLUNTEERS)
    assert told["n_classifications"] == 12 * N - 20 and told["n_contributing"] > 0
    given = [person["contribution"] for person in told["list"]]
    assert given == sorted(given, reverse=True)
    best = [int(person["volunteer"], 16) for person in told["list"][:8]]
    assert np.mean(best) > 20  # of 0 … 29 by how often they are right
    assert told["list"][0]["n_elsewhere"] in (None, 500)
    assert told["curves"]["classifications"][-1] == (1, 1)
    orjson.dumps(told)


def test_what_ifs_spend_less_and_say_what_that_costs(crowd: Crowd):
    told = crowd.retirement()
    assert told["against"] == "known answers" and told["votes"] == 12 * N - 20
    spent = [replay["spent"] / replay["n_subjects"] for replay in told["curve"]]
    assert spent == pytest.approx([replay["limit"] for replay in told["curve"]])
    first, last = told["curve"][0]["agreement"], told["curve"][-1]["agreement"]
    assert first["share"] < last["share"] and first["low"] <= first["share"] <= first["high"]
    limit = crowd.what_if("limit", {"limit": 3})
    assert limit["saved"]["k"] == limit["recorded"] - limit["spent"] and limit["orders"] == 0
    swap = crowd.what_if("swap", {"prior": 0.2, "detect": 0.99, "reject": 0.01, "limit": 3})
    assert swap["gain"]["low"] <= swap["gain"]["value"] <= swap["gain"]["high"]
    assert swap["agreement"]["share"] > limit["agreement"]["share"]
    cascade = crowd.what_if("cascade", {"percentile": 80, "first": 1, "limit": 5}, SCORE)
    assert 0 < cascade["early"]["k"] <= cascade["early"]["n"] and cascade["saved"]["n"] <= 5 * N
    with pytest.raises(UsageError, match="a limit of 99 votes cannot be replayed"):
        crowd.what_if("limit", {"limit": 99})
    with pytest.raises(UsageError, match='no rule "hunch"'):
        crowd.what_if("hunch", {})


def test_a_quadrant_counts_shows_and_selects_the_same_subjects(crowd: Crowd):
    assert [score["reference"] for score in crowd.scores("")] == ["subjects.score"]
    cut = Cut(80, 0.5)
    told = crowd.disagreement(SCORE, cut)["quadrants"]
    assert sum(told[name]["k"] for name in ("rejected", "missed", "both", "rest")) == N - 1
    for name in ("rejected", "missed", "tagged", "both"):
        region = crowd.region(SCORE, cut, name)
        assert region.count == told[name]["k"] >= told[name]["n_sure"]
        assert set(told[name]["rows"]) <= set(region.rows().tolist())
        for (k, n), row in zip(told[name]["chosen"], told[name]["rows"], strict=True):
            assert (k / n >= 0.5) == (name in ("missed", "both")), row
    assert told["both"]["k"] > told["missed"]["k"]
    picture = crowd.disagreement(SCORE, cut)["picture"]
    assert picture["cells"].sum() == picture["n"] == N - 1
    with pytest.raises(UsageError, match="no quadrant"):
        crowd.region(SCORE, cut, "all")


def test_without_a_machine_score_the_tagged_are_still_found(crowd: Crowd):
    told = crowd.disagreement(Machine(), Cut(90, 0.9))
    assert told["n"] == 0 and told["quadrants"]["missed"]["n"] == 0
    assert told["quadrants"]["tagged"]["k"] > 0


def test_another_way_to_count_is_another_answer(crowded: Path, tmp_path: Path):
    with opened(Path(shutil.copytree(crowded, tmp_path / "survey"))) as crowd:
        before = crowd.fractions()
        told = asdict(crowd.volunteers.settings) | {"leave_out_anonymous": True, "weights": "none"}
        crowd.volunteers.decide(replace(Counting.of(told)), who="local")
        crowd.explore.survey.refresh()
        head = crowd.overview()
        assert head["n"]["volunteers"] == N_VOLUNTEERS - 3
        assert {o["name"]: o["n"] for o in head["left_out"]}["leave_out_anonymous"] > 0
        after = crowd.fractions()
        assert after["all"]["bins"].tolist() != before["all"]["bins"].tolist()
        assert after["difference"] is None or after["difference"]["furthest"] == 0


def test_a_survey_that_nobody_voted_on(tmp_path: Path):
    create_table_only(tmp_path / "survey", pa.table({"source_id": ["1", "2"]}), "a survey")
    with opened(tmp_path / "survey") as crowd:
        assert crowd.overview()["state"] == "none"
        assert crowd.people() is None and "why" in crowd.retirement()
        with pytest.raises(UsageError, match="there are no votes yet"):
            crowd.fractions()


# --------------------------------------------------------------------------------------------------------- real data
def test_bluebird_is_replayed_as_rule_12_says(shared_data: Path, tmp_path: Path):
    folder = tmp_path / "bluebird"
    files = [shared_data / "crowd_gold" / "bluebird" / name for name in ("label.csv", "truth.csv")]
    for _ in ingest(folder, files):
        pass
    with opened(folder) as crowd:
        told = {replay["limit"]: replay for replay in crowd.retirement()["curve"]}
        assert told[21]["agreement"]["share"] == pytest.approx(0.765, abs=0.01)
        assert told[39]["agreement"]["share"] == pytest.approx(0.759, abs=0.005)  # every vote: the majority
        swap = crowd.what_if("swap", {"prior": 0.5, "detect": 0.95, "reject": 0.05, "limit": 21})
        assert swap["saved"]["share"] > 0.3 and swap["gain"]["low"] > 0
        people = crowd.people()
        assert people is not None and people["n_skilled"] == 39
        assert people["n_contributing"] == 0  # every answer is known
        assert people["half"]["contribution"] is None and people["curves"]["contribution"] == []
        seen = [person["n_subjects"] for person in people["list"]]
        assert seen == sorted(seen, reverse=True) and max(people["points"]["n_subjects"]) == seen[0] > 0
        overview = crowd.overview()
        assert overview["n"]["volunteers"] == 39 and overview["why_not"].keys() == {"experience", "log"}
