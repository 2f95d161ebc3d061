"""Campaigns by clusters: frozen, novel ones first, graded a grid at a time; what such votes are taken for."""

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explorer.errors import LedgerError, UsageError
from explorer.kinds.finetune import KIND, FinetuneConfig
from explorer.people import Person
from explorer.services.acquiring import left_of, outside_of, outside_words
from explorer.services.boundaries import Context
from explorer.services.campaign_view import CampaignView
from explorer.services.campaigns import Campaign, Plan
from explorer.services.candidates import Asked, candidates, provenance
from explorer.services.clusters import NONE, words
from explorer.services.desk import Desk
from explorer.services.labels import freeze
from explorer.services.queues import GRID_APART
from explorer.services.vetting import Item, effort_words
from models.clusters import Cluster
from models.grades import SCHEMES
from models.labels import write_labels
from tests.explorer.clustered import write_run
from tests.explorer.vetted import vetting_of, write_graded

#: Of 300 rows: cluster 0 has 100, 1 has 60, 2 has 120; the last 20 are in none. 1 is newest, 0 is labelled.
OF = np.repeat([0, 1, 2, -1], [100, 60, 120, 20])
NOVELTY = [0.0, 1.5, 0.5]
IN_ORDER = [1, 2, 0, NONE]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk.open(write_graded(tmp_path / "survey", 300)) as desk:
        write_run(desk.explore.survey, OF, NOVELTY)
        for name, rows in (("known", [150, 151]), ("duds", [10, 11])):
            desk.ledger.save_selection(name, np.array(rows), desk.explore.survey.subject_ids, who="grader-0")
        yield desk


def made(desk: Desk, rows: Any = 300, name: str = "Odd ones", **told: Any) -> Campaign:
    plan = Plan(name, **{"scheme": SCHEMES["yes-no"], "repeats": 0.0, "order": "clusters", **told})
    rows = np.arange(rows) if isinstance(rows, int) else rows
    return desk.campaigns.make(plan, rows, {"region": "the first"}, "grader-0")


def grids(desk: Desk, one: Campaign, who: str, size: int = 25) -> list[list[Item]]:
    """A grader's grids in their order, as the page cuts them."""
    found, start = [], 0
    queue = desk.vetting.queue(one.id, who)
    for n in desk.vetting.spans(one.id, who)[1]:
        found += [queue.window(start + i, min(size, n - i)) for i in range(0, n, size)]
        start += n
    return found


def give(desk: Desk, one: Campaign, who: str, grid: list[Item], grade: str = "N", **told: Any) -> Any:
    told = {"n_keys": 1, "n_clicks": 0} | told
    return desk.vetting.bulk(one.id, who, {i.key: grade for i in grid}, seconds=10.0, via="grid", **told)


def cluster_of(one: Campaign, item: Item) -> int:
    assert one.clusters is not None
    return one.clusters.told[one.clusters.of[int(one.index_of([item.row])[0])]].cluster


# ----------------------------------------------------------------------------------------------------------- frozen
def test_grids_go_through_the_clusters_novel_ones_first_each_shuffled_for_each_grader(desk: Desk):
    one = made(desk)
    orders = {}
    for who in ("grader-1", "grader-2"):
        items = list(desk.vetting.queue(one.id, who))
        orders[who] = [i.row for i in items]
        clusters = [cluster_of(one, i) for i in items]
        assert list(dict.fromkeys(clusters)) == IN_ORDER
        assert Counter(clusters) == {1: 60, 2: 120, 0: 98, NONE: 20}  # two of cluster 0 are withdrawn or planted
        assert desk.vetting.spans(one.id, who)[1] == [60, 120, 98, 20]
    assert orders["grader-1"] != orders["grader-2"]
    assert sorted(orders["grader-1"][:60]) == sorted(orders["grader-2"][:60]) == list(range(100, 160))
    again = vetting_of(desk.explore.survey, desk.ledger)
    assert [i.row for i in again.queue(one.id, "grader-1")] == orders["grader-1"]


def test_a_later_run_or_a_lost_one_changes_nothing_in_a_campaign(desk: Desk):
    survey, one = desk.explore.survey, made(desk)
    assert one.plan.clusters == "cluster-1"  # the newest there was
    before = [i.key for i in desk.vetting.queue(one.id, "grader-1")]
    write_run(survey, OF[::-1].copy(), [None, None, None], "cluster-2", "2026-02-02T00:00:00+00:00")
    shutil.rmtree(survey.run_folder("cluster-1"))
    again = vetting_of(survey, desk.ledger)
    assert [i.key for i in again.queue(one.id, "grader-1")] == before
    other = made(desk, name="Others")
    assert other.clusters is not None and other.plan.clusters == "cluster-2"
    # nothing is labelled: the smaller first; the first rows are in none
    assert [one.cluster for one in other.clusters.told] == [1, 0, 2, NONE]


def test_a_campaign_of_a_million_keeps_its_clusters_as_bitmaps(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    plain = made(desk)
    monkeypatch.setattr("explorer.ledger.MAX_LISTED", 10)
    one = made(desk, name="Large")
    (entry,) = [e for e in desk.ledger.entries("campaign") if e.payload["campaign"] == one.id]
    assert all("bitmap" in c["members"] for c in entry.payload["clusters"]["clusters"])
    assert one.clusters is not None and plain.clusters is not None
    assert one.clusters.told == plain.clusters.told and (one.clusters.of == plain.clusters.of).all()
    for file in (desk.explore.survey.path / "selections").iterdir():
        file.unlink()
    with pytest.raises(LedgerError):
        vetting_of(desk.explore.survey, desk.ledger).campaigns.get(one.id)


def test_clusters_of_simulated_labels_say_so(desk: Desk):
    folder = desk.explore.survey.run_folder("cluster-1")
    columns = {"subject_id": desk.explore.survey.subject_ids[:2], "expert": ["spiral", "spiral"]}
    write_labels(folder, columns, ["spiral"], {"expert": {"source": "x", "words": "x", "is_simulated": True, "n": 2}})
    one = made(desk)
    assert one.clusters is not None and one.clusters.is_simulated
    about = CampaignView(desk).detail(one.id, Person("grader-0", "owner"))["about"]
    assert any("first (simulated labels)" in line for line in about)


def test_what_cannot_be_a_campaign_by_clusters_is_said(desk: Desk):
    with pytest.raises(UsageError, match='the run "cluster-9" has no clusters to grade by; there are cluster-1'):
        made(desk, clusters="cluster-9")
    with pytest.raises(UsageError, match="none of the 20 subjects is in a cluster of the run cluster-1"):
        made(desk, np.arange(280, 300))
    with pytest.raises(UsageError, match='clusters are gone through by the order "clusters"'):
        made(desk, order="seeded", clusters="cluster-1")
    (desk.explore.survey.run_folder("cluster-1") / "clusters.json").write_text("[]")
    with pytest.raises(UsageError, match="does not say what its cluster 0 is; make the run again"):
        made(desk)
    (desk.explore.survey.run_folder("cluster-1") / "clusters.json").unlink()
    with pytest.raises(UsageError, match=r"clusters\.json is missing"):
        made(desk)
    (desk.explore.survey.run_folder("cluster-1") / "clusters.parquet").unlink()
    with pytest.raises(UsageError, match="no run of this survey has clusters to grade by"):
        made(desk)


def test_known_objects_duds_and_audit_draws_lie_among_their_like(desk: Desk):
    one = made(desk, np.arange(60, 230), known="known", duds="duds", audit=20)
    items = list(desk.vetting.queue(one.id, "grader-1"))
    assert {i.role for i in items} == {"subject", "audit", "known", "dud"}
    assert [cluster_of(one, i) for i in items] == sorted((cluster_of(one, i) for i in items), key=IN_ORDER.index)
    assert {cluster_of(one, i) for i in items if i.role == "known"} == {1}
    assert {cluster_of(one, i) for i in items if i.role == "dud"} == {0}


def test_a_repeat_is_in_its_own_cluster_and_never_in_the_same_grid(desk: Desk):
    one = made(desk, repeats=0.1)
    items = list(desk.vetting.queue(one.id, "grader-1"))
    repeats = [i for i in items if i.role == "repeat"]
    assert len(repeats) == 28  # a tenth of 278, though the last cluster is too small for any
    first = {i.row: i for i in items if i.role == "subject"}
    at = {i.key: k for k, i in enumerate(items)}
    assert all(at[i.key] - at[first[i.row].key] > GRID_APART for i in repeats)
    assert all(OF[i.row] != -1 for i in repeats)
    for grid in grids(desk, one, "grader-1", 36):
        assert len({i.row for i in grid}) == len(grid)
    clusters = [cluster_of(one, i) for i in items]
    assert list(dict.fromkeys(clusters)) == IN_ORDER  # a repeat elsewhere would be a cluster once more


# -------------------------------------------------------------------------------------------------------- the votes
def test_a_grid_is_one_entry_one_step_to_undo_and_says_what_hands_did(desk: Desk):
    one, who = made(desk), "grader-1"
    grid = grids(desk, one, who)[0]
    marked = grid[3]
    grades = {i.key: "Y" if i is marked else "N" for i in grid}
    entry = desk.vetting.bulk(one.id, who, grades, seconds=9.0, via="grid", n_keys=2, n_clicks=1)
    told = entry.payload
    assert (told["via"], told["cluster"], told["n_keys"], told["n_clicks"]) == ("grid", 1, 2, 1)
    assert Counter(told["grades"].values()) == {"N": 24, "Y": 1}
    votes = desk.vetting.votes(one.id)
    assert set(votes["via"]) == {"grid"} and votes["row"][votes["grade"] == "Y"].tolist() == [marked.row]
    assert desk.vetting.marks(one.id, who)[2] == "m" * 25 + "." * 273
    assert desk.vetting.standing(one.id, who)["effort"] == {
        "n": 25,
        "n_grid": 25,
        "n_keys": 2,
        "n_clicks": 1,
        "saved": pytest.approx(0.88),
    }
    assert effort_words(desk.vetting.effort(one.id)) == (
        "25 subjects in 2 key presses and 1 click: 88 % fewer than one by one"
    )
    assert desk.vetting.undo(one.id, who)["what"] == "took back 25 looks of a grid"
    assert not len(desk.vetting.votes(one.id))
    assert desk.vetting.effort(one.id) == {"n": 0, "n_grid": 0, "n_keys": 2, "n_clicks": 1, "saved": None}
    assert effort_words(desk.vetting.effort(one.id)) == ""
    assert desk.vetting.redo(one.id, who)["what"] == "brought back 25 looks of a grid"
    assert desk.vetting.effort(one.id)["saved"] == pytest.approx(0.88)
    again = vetting_of(desk.explore.survey, desk.ledger)
    assert again.effort(one.id) == desk.vetting.effort(one.id)
    # one by one is a key each, and what was changed one by one is a grid's no more
    desk.vetting.vote(one.id, who, grid[0].key, "Y", seconds=1.0)
    desk.vetting.vote(one.id, who, grids(desk, one, who)[1][0].key, "Y", seconds=1.0)
    assert desk.vetting.effort(one.id) | {"saved": 0} == {"n": 26, "n_grid": 24, "n_keys": 4, "n_clicks": 1, "saved": 0}


def test_marked_ones_wait_for_one_by_one_where_there_are_more_grades(desk: Desk):
    one, who = made(desk, scheme=SCHEMES["abcx"]), "grader-1"
    grid = grids(desk, one, who)[0]
    grades = {i.key: "X" for i in grid[2:]}
    desk.vetting.bulk(one.id, who, grades, kept=[i.key for i in grid[:2]], seconds=9.0, via="grid", n_keys=1)
    assert desk.vetting.marks(one.id, who)[2][:27] == "kk" + "m" * 23 + ".."  # type: ignore[index]
    assert desk.vetting.waiting(one.id).tolist() == sorted(i.row for i in grid[:2])
    assert desk.vetting.effort(one.id)["n"] == 23


def test_what_is_no_grid_is_refused(desk: Desk):
    one, who = made(desk), "grader-1"
    all_of_them = grids(desk, one, who, 60)
    with pytest.raises(UsageError, match="a grid has 36 subjects at most; this one has 60"):
        give(desk, one, who, all_of_them[0])
    with pytest.raises(UsageError, match="a grid is of one cluster"):
        give(desk, one, who, [all_of_them[0][0], all_of_them[-1][0]])
    for n in (-1, True, 1.5, 10**6):
        with pytest.raises(UsageError, match="key presses and clicks are whole numbers"):
            give(desk, one, who, all_of_them[0][:5], n_keys=n)
    with pytest.raises(UsageError, match="'single' is no way to grade many at once"):
        desk.vetting.bulk(one.id, who, {all_of_them[0][0].key: "N"}, seconds=1, via="single")  # type: ignore[arg-type]
    plain = made(desk, 60, "Plain", order="seeded")
    with pytest.raises(UsageError, match='"Plain" is not graded by clusters'):
        give(desk, plain, who, list(desk.vetting.queue(plain.id, who))[:5])
    assert "effort" not in desk.vetting.standing(plain.id, who)
    assert desk.vetting.spans(plain.id, who)[1] == []
    assert not len(desk.vetting.votes(one.id)) and not len(desk.vetting.votes(plain.id))


# --------------------------------------------------------------------------------------- what they are taken for
def test_grids_are_no_random_draw_so_nothing_is_estimated_of_what_is_left(desk: Desk):
    one, who = made(desk), "grader-1"
    some, *rest = grids(desk, one, who)
    for k in range(3):
        give(desk, one, who, [some, *rest][k], "Y")
    told = desk.acquiring.left(one.id)
    assert told["n"] is None and "novel ones first, which is no random draw" in told["sentence"]
    report = desk.agreed.report(one.id)
    assert report["n_grid"] == report["n_votes"] == 75 - 15  # the third grid of the first cluster has 10
    assert report["left"]["n"] is None and report["left"]["sentence"] == told["sentence"].replace("  ", " ")
    assert any("graded cluster by cluster, novel ones first" in note for note in report["purity"]["notes"])
    assert any("60 of 60 grades were given to whole grids" in line for line in desk.agreed.report_lines(one.id))
    sheet = CampaignView(desk)
    left = sheet.left(one.id, Person("grader-0", "owner"))
    assert left["sentence"] == told["sentence"] and left["estimate"] is None
    said = sheet.detail(one.id, Person("grader-0", "owner"))
    assert "60 subjects in 3 key presses and 0 clicks: 95 % fewer than one by one" in said["note"]
    assert "by the clusters of cluster-1, those far from what is labelled first" in said["about"]
    for grid in rest[2:]:
        give(desk, one, who, grid)
    assert desk.acquiring.left(one.id)["n"] == 0  # everything was looked at: nothing is left
    assert not any("cluster by cluster" in note for note in desk.agreed.report(one.id)["purity"]["notes"])


def test_audit_draws_say_what_is_outside_only_when_all_of_them_are_graded(desk: Desk):
    rows = np.r_[60:130, 170:230]  # outside are some of each cluster
    one, who = made(desk, rows, audit=60), "grader-1"
    first, *rest = grids(desk, one, who)
    graded = [i.row for i in first if i.role == "audit"]
    assert 0 < len(graded) < 60
    nobody = np.empty(0, np.int64)
    told = outside_of(one, np.array(graded), np.zeros(len(graded), np.bool_), nobody)
    assert told.n is None
    said = outside_words(one, told, "outside")
    assert f"audit draws lie in their clusters, and {len(graded)} of 60 are graded so far" in said
    give(desk, one, who, first)
    assert desk.acquiring.left(one.id)["outside"]["n"] is None
    for grid in rest:
        give(desk, one, who, grid)
    assert desk.acquiring.left(one.id)["outside"]["n"] == 0
    assert left_of(one, one.rows, nobody, nobody).n == 0


def test_files_tell_which_votes_were_given_to_grids(desk: Desk):
    one, who = made(desk), "grader-1"
    first, second, *_ = grids(desk, one, who)
    give(desk, one, who, first, "Y")
    desk.vetting.vote(one.id, who, second[0].key, "Y", seconds=1.0)
    desk.vetting.vote(one.id, "grader-2", next(i.key for i in desk.vetting.queue(one.id, "grader-2")), "Y", seconds=1.0)
    table = candidates(desk, one, Asked()).to_pandas()
    by_row = dict(zip(table["subject_id"], table["via"], strict=True))
    ids = desk.explore.survey.subject_ids
    assert by_row[ids[second[0].row]] == "single" and "grid" in {by_row[ids[i.row]] for i in first}
    assert set(by_row.values()) <= {"grid", "single", "grid;single"}
    assert provenance(desk, one, Asked())["n_grid_votes"] == 25


def test_labels_say_how_many_of_them_were_given_to_grids(desk: Desk):
    one = made(desk, 200)
    first, second, *_ = grids(desk, one, "grader-1")
    give(desk, one, "grader-1", first, "Y")
    give(desk, one, "grader-1", second)
    desk.campaigns.close(one.id, "grader-0")
    config = FinetuneConfig(expert="campaign:Odd ones")
    found = freeze(desk.explore.survey, desk.ledger, KIND, config, desk.explore.survey.subject_ids, desk.graded)
    assert any(note.startswith("50 of 50 grades were given to whole grids") for note in found.about["expert"]["notes"])
    assert np.isnan(found.columns["inclusion_probability"]).all()


def test_a_truth_of_a_campaign_that_was_cut_short_says_so(desk: Desk):
    one, who = made(desk), "grader-1"
    give(desk, one, who, grids(desk, one, who)[0], "Y")
    desk.campaigns.close(one.id, "grader-0")
    notes = desk.graded.given(one.id).notes
    assert any("273 subjects not yet: rates are of those that came first" in note for note in notes)


def test_how_new_a_cluster_is_in_words_and_its_class_only_where_nothing_is_blind():
    def of(novelty: float | None, label: str = "") -> Cluster:
        return Cluster(3, 10, novelty, label, 4 if label else 0, (3, 4) if label else (0, 0))

    assert words(of(1.2), False) == words(of(1.2), True) == "far from everything labelled so far"
    assert words(of(1.2), False, True) == "far from everything labelled so far (simulated labels)"
    assert words(of(0.5), False) == "at some distance from what is labelled"
    assert words(of(0.1), False) == "near what is labelled"
    assert words(of(0.0, "spiral"), False) == "labelled ones are among them"
    assert words(of(0.0, "spiral"), True) == "labelled “spiral”, 3 of 4 are"
    assert words(of(None), False) == "nothing was labelled when it was made"
    assert words(Cluster(NONE, 3, None, "", 0, (0, 0)), False) == "in no cluster"


def test_the_form_offers_runs_with_clusters_and_makes_a_campaign_of_one(desk: Desk):
    view, owner = CampaignView(desk), Person("grader-0", "owner")
    assert view.overview(owner)["clusters"] == [{"run": "cluster-1", "title": "cluster-1, cluster"}]
    plan = {"name": "By form", "scheme": "abcx", "order": "clusters", "clusters": "cluster-1"}
    one = view.make({"plan": plan, "source": {"kept": "known"}}, Context("", "", 0.2, "raw"), owner)
    assert one.clusters is not None and [c.cluster for c in one.clusters.told] == [1]


# ------------------------------------------------------------------------------------------------ just made elsewhere
def test_a_campaign_that_another_process_made_is_known_at_once(desk: Desk):
    desk.campaigns.listed()  # what was read now is not read again for a while
    elsewhere = vetting_of(desk.explore.survey, desk.ledger).campaigns
    for name in ("One", "Two"):
        plan = Plan(name, SCHEMES["yes-no"])
        one = elsewhere.make(plan, np.arange(5), {"region": "x"}, "grader-0")
        desk.campaigns._reader.seen = (
            desk.ledger.newest
        )  # as in another process, whose entries a ledger does not hear of
        assert desk.campaigns.get(one.id if name == "One" else name).id == one.id
    with pytest.raises(UsageError, match='there is no campaign "Three"'):
        desk.campaigns.get("Three")
