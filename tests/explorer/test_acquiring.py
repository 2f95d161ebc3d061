"""Campaigns by acquisition: batches come by themselves, find more than chance, and are honest about what is left."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorer.errors import AccessError, SurveyError
from explorer.ledger import Ledger
from explorer.services.acquiring import Acquiring, once_a_group
from explorer.services.agreed import Agreed
from explorer.services.campaigns import Campaign, Plan
from explorer.services.graded import Graded
from explorer.services.vetting import Vetting
from explorer.survey import Survey
from models.artifacts import RUN_JSON, Run, write_scores
from models.grades import SCHEMES
from models.ranking import BATCH, RANDOM
from tests.explorer.test_next_up import write_run as write_acquisition
from tests.explorer.vetted import vetting_of, write_graded

N, N_FINDS = 600, 40
#: Rows that are what one looks for.
FINDS = np.sort(np.random.default_rng(5).choice(np.arange(10, 600), N_FINDS, replace=False))


def write_run(path: Path, name: str, seed: int, with_latents: bool = True, kind: str = "score") -> None:
    """A finished run whose scores tell a little, and whose latent vectors tell more."""
    rng = np.random.default_rng(seed)
    folder, is_find = path / "runs" / name, np.isin(np.arange(N), FINDS)
    folder.mkdir(parents=True)
    score = (rng.normal(size=N) + is_find).astype(np.float32)
    latents = rng.normal(size=(N, 16)).astype(np.float32)
    latents[:, :2] += 2 * is_find[:, None]
    columns = {
        "subject_id": np.arange(N) + 588848901523702001,
        "split": np.full(N, "unseen", object),
        "image_score": np.full(N, np.nan, np.float32),
        "feature_score": np.full(N, np.nan, np.float32),
        "anomaly_score": score,
        "quality": np.full(N, "ok", object),
    }
    write_scores(folder, latents if with_latents else None, columns)
    Run(name, kind, "0", {}, state="done", n_rows=N, provides="" if kind == "score" else "score").write(
        folder / RUN_JSON
    )


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("explorer.services.acquiring.PAUSE", 0.01)


@pytest.fixture
def survey(tmp_path: Path) -> Iterator[Survey]:
    path = write_graded(tmp_path / "survey", N)
    write_run(path, "20260102-000001-score", 1)
    write_run(path, "20260102-000002-score", 2, with_latents=False)
    write_run(path, "20260102-000003-features", 3, kind="features")
    opened = Survey.open(path)
    yield opened
    opened.close()


@pytest.fixture
def vetting(survey: Survey) -> Iterator[Vetting]:
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        yield vetting_of(survey, ledger)


@pytest.fixture
def acquiring(vetting: Vetting) -> Iterator[Acquiring]:
    made = acquiring_of(vetting)
    yield made
    made.close()


def acquiring_of(vetting: Vetting) -> Acquiring:
    return Acquiring(vetting.campaigns, vetting, vetting.explore)


def made(vetting: Vetting, **told: Any) -> Campaign:
    plan = Plan("Rings", SCHEMES["yes-no"], **{"repeats": 0.0, "order": "acquisition", **told})
    return vetting.campaigns.make(plan, np.arange(N), {"region": "all"}, "grader-0")


def supplied(acquiring: Acquiring, campaign: Campaign) -> Campaign:
    """The campaign when there is nothing to be done for it any more."""
    acquiring.refresh(campaign.id)
    assert acquiring.wait()
    return acquiring.campaigns.get(campaign.id)


def grade(vetting: Vetting, campaign: Campaign, who: str, n: int) -> list[int]:
    """Grade up to n of what waits for a person, by the truth; whom."""
    waiting = vetting.queue(campaign.id, who).after(None, n, 0)
    for item in waiting:
        vetting.vote(campaign.id, who, item.key, "Y" if item.row in FINDS else "N", seconds=4.0)
    return [item.row for item in waiting]


def test_a_campaign_runs_from_batch_to_batch_and_finds_more_than_chance(vetting: Vetting, acquiring: Acquiring) -> None:
    one = made(vetting)
    assert not len(vetting.queue(one.id, "grader-1"))
    assert "Nothing was chosen yet" in acquiring.about(one.id)["sentence"]
    one = supplied(acquiring, one)
    [first] = one.batches
    assert len(first.rows) == 20 and len(first.random_rows) == RANDOM * BATCH and first.n_unseen == N - 2
    assert first.who == "voorwerp"
    assert "nothing was found yet" in first.model
    seen: list[int] = []
    while len(seen) < 150:
        done = grade(vetting, one, "grader-1", 10)
        assert done, "a grader had to wait"
        seen += done
        one = supplied(acquiring, one)
    found = np.isin(seen, FINDS).sum()
    assert len(set(seen)) == len(seen)
    assert found > 2.5 * N_FINDS * len(seen) / N
    told = acquiring.about(one.id)
    assert told["strategy"] == "mix" and told["problem"] == "" and not told["is_busy"]
    assert "Learned on" in told["sentence"] and "out of fold" in told["sentence"]
    assert told["curve"][0] == [0, 0] and told["curve"][-1] == [len(seen), found]
    left = told["left"]
    graded_random = sum(int(np.isin(batch.random_rows, seen).sum()) for batch in one.batches)
    assert left["n_drawn"] == graded_random
    assert left["n_unseen"] == N - 2 - len(seen)
    assert left["low"] <= N_FINDS - found <= left["high"]
    assert left["next"]["sentence"].startswith("The last 50 looks found ")
    unseen = [batch.n_unseen for batch in one.batches]
    assert unseen == [N - 2 - BATCH * k for k in range(len(unseen))]


def test_scores_vectors_and_image_features_are_candidates(vetting: Vetting, acquiring: Acquiring) -> None:
    known = acquiring._known_of(made(vetting))
    assert list(known.spaces) == ["the scores of 3 runs", "latent vectors of 20260102-000001-score", "image features"]
    assert all(len(x) == N - 2 for x in known.spaces.values())


def test_the_next_batch_is_there_before_the_last_one_ends_and_not_earlier(
    vetting: Vetting, acquiring: Acquiring
) -> None:
    one = supplied(acquiring, made(vetting))
    grade(vetting, one, "grader-1", 12)
    assert len(supplied(acquiring, one).batches) == 1
    grade(vetting, one, "grader-1", 1)
    assert len(supplied(acquiring, one).batches) == 2
    assert len(supplied(acquiring, one).batches) == 2


def test_whoever_is_ahead_of_others_does_not_wait_for_them(vetting: Vetting, acquiring: Acquiring) -> None:
    one = supplied(acquiring, made(vetting, graders=3))
    assert len(grade(vetting, one, "grader-1", 25)) == 25
    one = supplied(acquiring, one)
    assert len(grade(vetting, one, "grader-1", 25)) == 25
    assert len(grade(vetting, one, "grader-2", 50)) == 50


def test_a_subject_counts_once_however_many_people_voted_on_it(vetting: Vetting, acquiring: Acquiring) -> None:
    one = supplied(acquiring, made(vetting, graders=2))
    rows = grade(vetting, one, "grader-1", 25)
    grade(vetting, one, "grader-2", 25)
    told = acquiring.left(one.id)
    assert told["n_drawn"] == 5
    assert told["curve"][-1] == [25, int(np.isin(rows, FINDS).sum())]
    one = supplied(acquiring, one)
    assert "25" not in one.batches[-1].model or "25 subjects with votes" in one.batches[-1].model


def test_what_goes_wrong_is_said_and_does_not_stop_anything(
    vetting: Vetting, acquiring: Acquiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(vetting)
    with monkeypatch.context() as broken:
        broken.setattr("explorer.services.acquiring.order", lambda *_: 1 / 0)
        assert not supplied(acquiring, one).batches
        assert acquiring.about(one.id)["problem"].startswith("choosing the next batch failed (ZeroDivisionError")
        broken.setattr(
            acquiring, "batch", lambda *_: (_ for _ in ()).throw(SurveyError("latents.npy is missing; run it again"))
        )
        supplied(acquiring, one)
        assert acquiring.about(one.id)["problem"] == "latents.npy is missing; run it again"
    assert len(supplied(acquiring, one).batches) == 1
    assert acquiring.about(one.id)["problem"] == ""
    acquiring.refresh("no such campaign")
    assert acquiring.wait()


def test_nobody_waits_while_a_batch_is_chosen_and_many_calls_are_one(
    vetting: Vetting, acquiring: Acquiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = made(vetting)
    begun, may_end, calls = threading.Event(), threading.Event(), []
    choose = acquiring.batch

    def slow(campaign: Campaign, n: int) -> Any:
        calls.append(threading.current_thread().name)
        begun.set()
        assert may_end.wait(30)
        return choose(campaign, n)

    monkeypatch.setattr(acquiring, "batch", slow)
    acquiring.refresh(one.id)
    assert begun.wait(30)
    for _ in range(100):
        acquiring.refresh(one.id)
    assert acquiring.about(one.id)["is_busy"]
    may_end.set()
    assert acquiring.wait()
    assert calls == ["acquiring"]
    assert len(vetting.campaigns.get(one.id).batches) == 1


def test_it_goes_on_after_a_restart_and_two_servers_make_no_batch_twice(survey: Survey, vetting: Vetting) -> None:
    first, other = acquiring_of(vetting), acquiring_of(vetting)
    one = supplied(first, made(vetting))
    grade(vetting, one, "grader-1", 25)
    before = first.left(one.id)
    first.close()
    batch = other.batch(one, BATCH)  # chosen by a server that does not know of the next
    one = supplied(other, one)
    other.close()
    assert len(one.batches) == 2
    assert sorted([*one.batches[1].rows, *one.batches[1].random_rows]) == sorted(batch.rows)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        again = acquiring_of(vetting_of(survey, ledger))
        assert again.left(one.id) == before
        assert again.about(one.id)["sentence"] == one.batches[1].model
        assert len(supplied(again, one).batches) == 2
        again.close()


def test_the_server_may_append_where_a_grader_may_not(vetting: Vetting, acquiring: Acquiring) -> None:
    one = made(vetting)

    def guard(who: str, kind: str) -> None:
        if who != "voorwerp" and kind == "campaign":
            raise AccessError(f"{who} is no owner")

    vetting.ledger.guard = guard
    assert len(supplied(acquiring, one).batches) == 1
    with pytest.raises(AccessError):
        vetting.campaigns.extend(one.id, [0], [], "by hand", "grader-1")


def test_without_scores_batches_are_drawn_at_random_and_say_so(tmp_path: Path) -> None:
    survey = Survey.open(write_graded(tmp_path / "bare", N))
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        vetting = vetting_of(survey, ledger)
        acquiring = acquiring_of(vetting)
        one = supplied(acquiring, made(vetting))
        assert not len(one.batches[0].rows) and len(one.batches[0].random_rows) == BATCH
        assert "start a score run or a features run" in one.batches[0].model
        acquiring.close()
    survey.close()


def test_closed_and_other_campaigns_are_left_alone(vetting: Vetting, acquiring: Acquiring) -> None:
    closed = made(vetting)
    vetting.campaigns.close(closed.id, "grader-0")
    assert not supplied(acquiring, closed).batches
    seeded = vetting.campaigns.make(
        Plan("Seeded", SCHEMES["yes-no"], repeats=0.0), np.arange(100), {"region": "some"}, "grader-0"
    )
    assert not supplied(acquiring, seeded).batches
    assert acquiring.about(seeded.id)["strategy"] is None
    rows = grade(vetting, seeded, "grader-1", 40)
    told = acquiring.left(seeded.id)
    truth = np.isin(np.setdiff1d(seeded.rows, rows), FINDS).sum()
    assert told["n_drawn"] == 40 and told["low"] <= truth <= told["high"]
    assert "among those not graded" in told["sentence"]


def test_a_mosaic_says_nothing_of_what_is_left_before_its_second_pass(vetting: Vetting, acquiring: Acquiring) -> None:
    """What a mosaic turns down is no random draw: finds are what it leaves for later."""
    plan = Plan("Mosaic", SCHEMES["yes-no"], repeats=0.0, audit=30, is_blind=False)
    one = vetting.campaigns.make(plan, np.arange(300), {"region": "some"}, "grader-0")
    looks = vetting.queue(one.id, "grader-1").window(0, 200)
    later = {item.key: item.row for item in looks if item.row in FINDS}
    reject = plan.scheme.reject.key
    vetting.bulk(
        one.id, "grader-1", {i.key: reject for i in looks if i.key not in later}, kept=list(later), seconds=200.0
    )
    waiting = vetting.waiting(one.id)
    assert waiting.tolist() == sorted(later.values()) and len(waiting) > 5
    report = Agreed(vetting.campaigns, vetting, vetting.explore)
    graded = Graded(vetting.explore, vetting.ledger, vetting.campaigns, vetting)
    assert any(note.startswith(f"{len(waiting)} of these wait") for note in graded.given(one.id).notes)
    told = acquiring.left(one.id)
    assert (told["n"], told["low"], told["high"]) == (None, None, None)
    n_mine = int((waiting < 300).sum())
    assert f"{n_mine} wait for a second look" in told["sentence"]
    assert any(f"{n_mine} of these wait" in note for note in report.report(one.id)["purity"]["notes"])
    for n, key in enumerate(later, 1):
        vetting.vote(one.id, "grader-1", key, "Y", seconds=2.0)
        assert len(vetting.waiting(one.id)) == len(later) - n
    told = acquiring.left(one.id)
    truth = np.isin(np.setdiff1d(one.rows, [item.row for item in looks]), FINDS).sum()
    assert told["low"] <= truth <= told["high"]
    assert report.report(one.id)["left"]["high"] is not None


def test_who_decides_that_it_cannot_be_judged_teaches_neither(
    vetting: Vetting, acquiring: Acquiring, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = supplied(acquiring, made(vetting))
    first, *rest = grade(vetting, one, "grader-1", 25)
    vetting.adjudicate(one.id, first, "Q", who="owner-1")
    taught: list[int] = []

    def order(spaces: Any, cold: Any, votes: Any, *_: Any) -> Any:
        taught.extend(one.rows[votes.rows].tolist())
        raise SurveyError("that was all")

    monkeypatch.setattr("explorer.services.acquiring.order", order)
    with pytest.raises(SurveyError):
        acquiring.batch(vetting.campaigns.get(one.id))
    assert sorted(taught) == sorted(rest)


def test_an_audit_says_what_is_left_outside(vetting: Vetting, acquiring: Acquiring) -> None:
    ids = vetting.survey.subject_ids
    vetting.ledger.save_selection("some", np.arange(200), ids, who="grader-0")
    plan = Plan("Audited", SCHEMES["yes-no"], repeats=0.0, order="acquisition", audit=30)
    one = supplied(acquiring, vetting.campaigns.of_selection(plan, "some", "grader-0"))
    while (n := len(grade(vetting, one, "grader-1", 30))) and n:
        one = supplied(acquiring, one)
    told = acquiring.left(one.id)["outside"]
    assert told["n_drawn"] == np.isin(one.audit, vetting.outcomes(one.id)["row"]).sum() > 10
    truth = np.isin(np.setdiff1d(np.arange(200, N), one.audit), FINDS).sum()
    assert told["low"] <= truth <= told["high"]
    assert acquiring.left(one.id)["n"] == 0


def test_everybody_is_offered_in_the_end(vetting: Vetting, acquiring: Acquiring) -> None:
    plan = Plan("Few", SCHEMES["yes-no"], repeats=0.0, order="acquisition", strategy="bald")
    one = supplied(acquiring, vetting.campaigns.make(plan, np.arange(60), {"region": "few"}, "grader-0"))
    seen: list[int] = []
    while done := grade(vetting, one, "grader-1", 10):
        seen += done
        one = supplied(acquiring, one)
    assert sorted(seen) == one.rows.tolist()
    left = acquiring.left(one.id)
    assert (left["n"], left["high"]) == (0, 0)


# ------------------------------------------------------------------------------------------------------- by a run
def test_a_campaign_goes_by_a_runs_acquisition_one_of_each_sky_and_by_a_newer_one_with_its_next_batch(
    vetting: Vetting, acquiring: Acquiring, survey: Survey
) -> None:
    """Rows 100 to 119 show ten skies, twice each; the first run asks for them, the second for the last rows."""
    wanted = np.zeros(N)
    wanted[100:120] = 10 + np.arange(20)
    write_acquisition(survey.path, "20260103-000000-bayes", wanted)
    one = supplied(acquiring, made(vetting, strategy="run"))
    [first] = one.batches
    assert len(first.rows) == 20 and len(first.random_rows) == RANDOM * BATCH
    skies = first.rows[(first.rows >= 100) & (first.rows < 120)]
    at_random = first.random_rows[(first.random_rows >= 100) & (first.random_rows < 120)]
    assert len(skies) >= 10 - len(at_random) and len(np.unique(skies // 2)) == len(skies)
    assert first.model.endswith("would learn most. It is 20260103-000000-bayes.")
    assert acquiring.about(one.id)["strategy"] == "run"
    write_acquisition(survey.path, "20260104-000000-bayes", np.arange(N, dtype=float))
    grade(vetting, one, "grader-1", 20)
    second = supplied(acquiring, one).batches[1]
    assert (second.rows > N - 40).all()
    assert second.model.endswith("It is 20260104-000000-bayes.")


def test_without_a_run_to_go_by_the_votes_are_learned_from_and_that_is_said(
    vetting: Vetting, acquiring: Acquiring
) -> None:
    one = supplied(acquiring, made(vetting, strategy="run"))
    assert "By all votes so far: no run of" in one.batches[0].model
    assert "has a column acquisition" in one.batches[0].model


def test_of_a_sky_that_somebody_has_looked_at_nobody_is_asked_for() -> None:
    by = np.array([1.0, 2.0, np.nan, 5.0, 4.0, 3.0])
    groups = np.array([7, 7, 8, 9, 9, 4])
    found = once_a_group(by, groups, np.array([4]))
    assert np.nan_to_num(found, nan=-1).tolist() == [-1, 2, -1, -1, -1, 3]
