"""A boundary applied to a survey that nobody has inspected: by a real network, adopted; strangers, drift, refusals."""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.stats import ks_2samp

from explorer import cli
from explorer.errors import UsageError
from explorer.ledger import Ledger
from explorer.services import applying
from explorer.services.applying import RefusedError, apply, as_csv, brought, found_map, found_run, lacking, refuse
from explorer.services.boundaries import PLACED_ON, Context
from explorer.services.comparing import compare
from explorer.services.desk import Desk
from explorer.state import Draft
from explorer.survey import Survey, check
from models.artifacts import Run, sha256_file
from models.boundary import And, Gate, Learned, Not, Region, Term
from models.drift import unpacked
from models.embedding import place
from models.truth import Truth
from tests.explorer.making import finished, make
from tests.galaxies import write_galaxies

PLANE = ("maps.umap_1", "maps.umap_2")
FEATURE = "scores.feature_score"
TRUTH = Truth("category", "subjects.shape", labels=("spiral",))
N_STRANGE = 4


@pytest.fixture(scope="module")
def tuned(finished_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A survey with a network, a map, and the boundaries "all" (region, gate, classifier), "said" and "mixed"."""
    path = shutil.copytree(finished_survey, tmp_path_factory.mktemp("tuned") / "survey")
    with Desk.open(path) as desk:
        (run_id,), (map_id,) = desk.explore.runs(), desk.explore.maps()
        here = Context(run_id, map_id)
        x, y = (desk.boundaries.source(here).column(name) for name in PLANE)
        box = Region(
            *PLANE, ((float(x.min()) - 1, float(np.median(y))), (float(x.max()) + 1, float(y.max()) + 1)), "box"
        )
        low = desk.boundaries.value_at(FEATURE, 10, here)
        sha = desk.learning.fit(run_id, TRUTH, here, components=3)
        told: dict[str, Term] = {
            "all": And((box, Gate(FEATURE, low=low, low_percentile=10), Learned(sha, 0.3))),
            "said": And((Gate("subjects.n_votes", low=3),)),
            "mixed": Gate("scores.anomaly_score", low=0.0),
            "low": Gate(FEATURE, low=low),
            "half": Gate(FEATURE, low=desk.boundaries.value_at(FEATURE, 50, here)),
        }
        for name, keep in told.items():
            context = replace(here, mode="standardised") if name == "mixed" else here
            desk.boundaries.save(name, Draft(keep, TRUTH), context, "ada")
        yield desk


def make_new(folder: Path, *, size: int = 32) -> Path:
    """80 galaxies of another seed, and some images that are nothing of the kind."""
    paths = write_galaxies(folder / "images", 80, seed=11)
    rng = np.random.default_rng(0)
    for i in range(N_STRANGE):
        paths.append(folder / "images" / f"strange{i}.png")
        board = np.indices((48, 48)).sum(0) // (2 + i) % 2 * 255
        noise = rng.integers(0, 2, (48, 48, 3)) * 20
        Image.fromarray((board[..., None] - noise).clip(0, 255).astype(np.uint8)).save(paths[-1])
    make(folder / "new", *paths, size=size, crop="center")
    return folder / "new"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A survey without runs. Copy it to change it."""
    return make_new(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def new(tuned: Desk, plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """`plain`, scored by the adopted network and placed on the map of `tuned`."""
    path = shutil.copytree(plain, tmp_path_factory.mktemp("new") / "new")
    with Desk.open(path) as desk:
        file = brought(desk, "all", tuned)
        train_id = applying.adopt(desk, tuned, file, "ada")
        assert applying.adopt(desk, tuned, file, "ada") == train_id  # once
        run_id = applying.scoring(desk, tuned, file, train_id, "ada")
        assert desk.jobs.wait(run_id).state == "done"
        finished(applying.place_on(desk, tuned, file, run_id))  # type: ignore[arg-type]
    with Desk.open(path) as desk:
        yield desk


def context_of(desk: Desk, file: Any) -> Context:
    run_id = found_run(desk, file)
    return Context(run_id, found_map(desk, file, run_id), file.context.lambda_, file.context.mode)


# ------------------------------------------------------------------------------------------------- network and map
def test_the_network_and_the_map_are_those_of_the_tuning_survey(tuned: Desk, new: Desk) -> None:
    here, there = new.explore.survey, tuned.explore.survey
    (train,), (theirs,) = here.runs("train"), there.runs("train")
    assert train.checkpoint_sha256 == theirs.checkpoint_sha256
    assert train.inputs["adopted_from"] == there.info.survey_id == train.results["adopted"]["survey_id"]
    (score,), (ours,) = new.explore.runs().values(), tuned.explore.runs().values()
    told = ("latent_axes", "center", "feature_stage", "precision")
    assert [score.results[name] for name in told] == [ours.results[name] for name in told]
    (placed,), (map_id,) = new.explore.maps().values(), tuned.explore.maps()
    folder = there.map_folder(map_id)
    assert placed.inputs[PLACED_ON] == sha256_file(folder / "coordinates.parquet")
    latents, rows = here.latents(score.run_id)
    theirs_latents, their_rows = there.latents(ours.run_id)
    wanted, _ = place(np.array(theirs_latents), there.coordinates(map_id)[their_rows], np.array(latents), k=14)
    np.testing.assert_allclose(here.coordinates(placed.run_id)[rows], wanted, rtol=1e-4, atol=1e-4)
    assert set(here.placing(placed.run_id)) == {"is_placed", "knn_percentile", "is_off_map"}
    assert placed.results["trustworthiness"] > 0.3
    assert check(here.path) == []


def test_the_same_image_gets_the_same_score_and_place(tuned: Desk, tmp_path: Path, finished_survey: Path) -> None:
    """The tuning survey under another id: every subject is kept as it was there, and no score drifted."""
    path = shutil.copytree(finished_survey, tmp_path / "twin")
    told = (path / "survey.toml").read_text()
    (path / "survey.toml").write_text(told.replace(tuned.explore.survey.info.survey_id, "0" * 8 + "-twin"))
    (path / "ledger.db").unlink()
    with Desk.open(path) as desk:
        file = brought(desk, "all", tuned)
        context = context_of(desk, file)
        assert context.run_id and context.map_id == ""  # an equal map of another survey is not looked for by its bytes
        finished(applying.place_on(desk, tuned, file, context.run_id))  # type: ignore[arg-type]
    with Desk.open(path) as desk:
        applied = apply(desk, file, context_of(desk, file))
        want = tuned.boundaries.kept(tuned.boundaries.get("all").keep, tuned.boundaries.get("all").context)
        np.testing.assert_array_equal(applied.yes, want.yes)
        assert all(one.p is not None and one.p > 0.05 for _, _, one in applied.shifts)
        assert applied.is_kept_otherwise.startswith("the kept fraction is not shown to differ")


def test_found_map_wants_its_own_run(tuned: Desk, new: Desk) -> None:
    file = brought(new, "all", tuned)
    assert found_map(new, file, found_run(new, file)) and found_map(new, file, "another") == ""
    assert found_map(new, replace(file, map={}), found_run(new, file)) == ""


# -------------------------------------------------------------------------------------------------------- who is kept
def test_whom_it_keeps_and_who_is_a_stranger(tuned: Desk, new: Desk) -> None:
    """Region, gate and classifier by hand; strangers by distances to the sample in the file, all compared."""
    file = brought(new, "all", tuned)
    applied = apply(new, file, context_of(new, file))
    source = new.boundaries.source(applied.context)
    box, gate, learned = file.keep.terms  # type: ignore[union-attr]
    x, y = (source.column(name) for name in PLANE)
    (x0, y0), (x1, y1) = box.vertices
    inside = (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
    feature = source.column(FEATURE)
    latents, rows = new.explore.survey.latents(applied.context.run_id)
    balanced = np.full(len(x), np.nan)
    balanced[rows] = file.classifiers[learned.model].balanced(np.array(latents))
    np.testing.assert_array_equal(applied.yes, inside & (feature >= np.float32(gate.low)) & (balanced >= learned.low))
    told = file.drift["latents"]
    sample = unpacked(told).astype(np.float64)
    far = np.sort(np.linalg.norm(np.array(latents)[:, None] - sample, axis=2), axis=1)[:, : told["k"]].mean(1)
    np.testing.assert_allclose(applied.distance[rows], far, rtol=1e-4)
    np.testing.assert_array_equal(applied.stranger[rows], far > told["percentiles"]["99.9"])
    assert applied.stranger[-N_STRANGE:].all() and applied.stranger.sum() < 20
    assert applied.strangers.k == applied.stranger.sum() and applied.strangers.n == len(rows)
    assert not set(applied.rows()) & set(np.flatnonzero(applied.stranger))
    assert set(applied.rows(with_strangers=True)) == set(np.flatnonzero(applied.yes))
    shifts = {name: one for name, _, one in applied.shifts}
    there = tuned.explore.survey.scores(file.context.run_id)["feature_score"][tuned.truths.half("tune")]
    assert shifts[FEATURE].distance == pytest.approx(ks_2samp(there, feature).statistic, abs=0.01)
    assert not any(name.startswith("maps.") for name in shifts) and learned.model in shifts


def test_strangers_come_first_in_the_table_and_in_the_ledger(tuned: Desk, new: Desk) -> None:
    file = brought(new, "all", tuned)
    applied = apply(new, file, context_of(new, file))
    saved, selections = applying.keep(new, applied, "ada")
    assert saved is not None and (saved.name, saved.version, saved.keep) == ("all", 1, file.keep)
    assert f"“all”, version 1, of the survey “{file.survey}”" in saved.note
    assert list(selections) == ["all applied: strangers", "all applied"]
    ids = new.explore.survey.subject_ids
    kept = new.ledger.selection("all applied", ids).subject_ids
    assert set(kept) == set(ids[applied.rows()]) and selections["all applied"] == len(kept)
    again, _ = applying.keep(new, applied, "ada")
    assert again is not None and again.version == 1  # the same once more is the same
    with pytest.raises(UsageError, match="another boundary “all”"):
        applying.keep(new, replace(applied, keep=Gate(FEATURE, low=1.0)), "ada")
    rows = list(csv.DictReader(io.StringIO(as_csv(new, applied))))
    marks = [row["is_stranger"] == "true" for row in rows]
    assert marks == sorted(marks, reverse=True) and sum(marks) == applied.stranger.sum()
    first = [float(row["latent_distance"]) for row in rows if row["is_stranger"] == "true"]
    assert first == sorted(first, reverse=True)
    told = applying.as_json(applied)
    json.dumps(told, allow_nan=False)
    assert told["kept"]["here"]["k"] == applied.yes.sum() and told["strangers"]["k"] == applied.stranger.sum()


def test_raw_limits_hold_unless_percentiles_are_asked_for(tuned: Desk, new: Desk) -> None:
    file = brought(new, "half", tuned)
    context = context_of(new, file)
    raw, anew = apply(new, file, context), apply(new, file, context, is_by_percentile=True)
    assert raw.keep == file.keep and anew.keep != file.keep
    values = new.boundaries.source(context).column(FEATURE)
    assert isinstance(anew.keep, Gate) and anew.keep.low == pytest.approx(np.median(values))
    assert anew.yes.mean() == pytest.approx(0.5, abs=0.02) and "was percentile 50" in anew.notes[0]
    np.testing.assert_array_equal(raw.yes, values >= np.float32(file.keep.low))  # type: ignore[union-attr]
    broken = replace(file, thresholds=[])
    with pytest.raises(UsageError, match="does not say which percentile"):
        apply(new, broken, context, is_by_percentile=True)


def test_a_survey_may_apply_its_own(tuned: Desk) -> None:
    file = brought(tuned, "all")
    applied = apply(tuned, file, context_of(tuned, file))
    np.testing.assert_array_equal(applied.yes, tuned.boundaries.kept(file.keep, file.context).yes)
    saved, _ = applying.keep(tuned, applied, "ada")
    assert saved is None and len(tuned.boundaries.versions("all")) == 1


# ----------------------------------------------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    "term",
    [
        Gate("subjects.chosen_fraction", low=0.5),
        Gate("subjects.volunteers_chosen_fraction", low=0.5),
        Gate("subjects.t01_smooth_votes", low=5),
        Gate("subjects.tag_group", labels=("merger",)),
        And((Gate(FEATURE, low=1), Not(Gate("subjects.grade", high=2)))),
    ],
)
def test_what_people_said_is_not_deployable(tuned: Desk, new: Desk, term: Term) -> None:
    """Also where a file was written over so that it does not say it."""
    file = replace(brought(new, "low", tuned), keep=term, from_people=())
    with pytest.raises(RefusedError, match=r"“low” is not deployable: it limits subjects\.\w+, which people said"):
        apply(new, file, context_of(new, file))


def test_standardised_scores_have_no_meaning_elsewhere(tuned: Desk, new: Desk) -> None:
    file = brought(new, "mixed", tuned)
    with pytest.raises(RefusedError, match="standardised anomaly score, whose zero and unit are each survey's own"):
        apply(new, file, context_of(new, file))
    refuse(new, file, is_by_percentile=True)
    refuse(tuned, brought(tuned, "mixed"))


def test_scores_without_a_network_are_of_one_survey(tuned: Desk, new: Desk) -> None:
    file = brought(new, "low", tuned)
    other = replace(file, run=dict(file.run) | {"checkpoint_sha256": None})
    with pytest.raises(RefusedError, match=r"is not deployable: \S+-score has no network behind it"):
        apply(new, other, context_of(new, file))
    refuse(tuned, other)
    refuse(new, replace(other, keep=Gate("subjects.magnitude", low=18), run={}))


def test_without_the_network_or_the_map_it_says_what_to_do(tuned: Desk, plain: Path, tmp_path: Path) -> None:
    with Desk.open(shutil.copytree(plain, tmp_path / "plain")) as desk:
        file = brought(desk, "all", tuned)
        with pytest.raises(RefusedError, match=r"no run of the network .* --from TUNING_SURVEY` brings that network"):
            apply(desk, file, context_of(desk, file))
        assert "no places on it" in lacking(file, "run", "", tmp_path)
        with pytest.raises(UsageError, match="there is no file nothing, and no boundary “nothing”"):
            brought(desk, "nothing")
        with pytest.raises(RefusedError, match=r"“all” is of the survey .*, and .* is "):
            applying.adopt(desk, desk, file, "ada")
        wrong = replace(file, run=dict(file.run) | {"checkpoint_sha256": "0" * 64})
        with pytest.raises(RefusedError, match="is another than that of “all”"):
            applying.adopt(desk, tuned, wrong, "ada")
        wrong = replace(file, run=dict(file.run) | {"run_id": "none"})
        with pytest.raises(RefusedError, match="has no training behind none"):
            applying.adopt(desk, tuned, wrong, "ada")
        assert not desk.explore.survey.runs(state=None)


def test_images_cut_in_another_way_are_refused(tuned: Desk, tmp_path: Path) -> None:
    with Desk.open(make_new(tmp_path, size=24)) as desk:
        file = brought(desk, "all", tuned)
        with pytest.raises(RefusedError, match=r"does not fit this survey: .*size 32 there, 24 here"):
            applying.adopt(desk, tuned, file, "ada")


def test_another_network_or_setting_is_not_taken_for_it(tuned: Desk, new: Desk) -> None:
    file = brought(new, "low", tuned)
    run_id = found_run(new, file)
    for change in ({"checkpoint_sha256": "0" * 64}, {"checkpoint_sha256": None}, {"settings": {"latent_axes": 0}}):
        other = replace(file, run=dict(file.run) | change)
        assert found_run(new, other) == ""
        with pytest.raises(RefusedError, match="cannot stand for the run of “low”"):
            found_run(new, other, run_id)
        assert new.boundaries.lacks(other, context_of(new, file))
    with pytest.raises(UsageError, match='there is no finished run "odd"'):
        found_run(new, file, "odd")


# ------------------------------------------------------------------------------------------------------------ compare
def test_two_boundaries_are_compared_at_equal_kept_fraction(tuned: Desk) -> None:
    a, b = tuned.boundaries.get("half"), tuned.boundaries.get("low")
    found = compare(tuned, a, b, TRUTH)
    tune = tuned.truths.half("tune")
    one, other = (tuned.boundaries.kept(x.keep, x.context).yes[tune] for x in (a, b))
    assert (found.n, found.both) == (tune.sum(), (one & other).sum())
    assert (found.only_a, found.only_b) == ((one & ~other).sum(), (other & ~one).sum())
    assert "B is compared with" in found.note and f"keep {one.sum():,}" in found.note
    assert found.differences is not None  # the same score at the same kept fraction is the same cut
    assert all(one.value == 0 for one in found.differences.values())


def test_what_cannot_be_moved_is_not_compared(tuned: Desk) -> None:
    a = tuned.boundaries.get("low")
    b = tuned.boundaries.save("one", Draft(Gate("subjects.shape", labels=("spiral",)), TRUTH), a.context, "ada")
    c = replace(b, keep=Gate("subjects.shape", labels=("spiral", "elliptical")))
    assert compare(tuned, a, b, TRUTH).differences is not None  # A's limit rises
    found = compare(tuned, c, b, TRUTH)
    assert found.differences is None and "at different kept fractions" in found.note
    tuned.boundaries.drop("one", "ada")


# ------------------------------------------------------------------------------------------------------- the commands
def test_the_commands(
    tuned: Desk, plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fit, show, export, apply with the network brought along, in one go; a refusal is one sentence and exit code 1."""
    monkeypatch.setenv("COLUMNS", "200")

    def voorwerp(*arguments: object) -> str:
        capsys.readouterr()
        assert cli.main([str(one) for one in arguments]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    here, there = shutil.copytree(plain, tmp_path / "new"), tuned.explore.survey.path
    said = voorwerp("boundary", "fit", there, "spirals", "--truth-class", "shape=spiral", "--components", 3)
    assert "out of fold" in said and "circular" in said and "“spirals”, version 1" in said
    assert voorwerp("boundary", "show", there, "spirals", "--test").count("test half") > 1
    assert "shown 1 time for this truth" in voorwerp("boundary", "show", there, "spirals")
    assert "spirals" in voorwerp("boundary", "show", there)
    said = voorwerp("boundary", "compare", there, "spirals", "half", "--truth", "magnitude >= 19")
    assert "paired" in said and "“spirals”: the boundary has a classifier that was fitted on the tune half" in said
    voorwerp("boundary", "export", there, "spirals", tmp_path / "s.json")
    assert cli.main(["boundary", "apply", str(here), str(tmp_path / "s.json")]) == 1
    assert "brings that network over" in capsys.readouterr().err
    said = voorwerp("boundary", "apply", here, "spirals", "--from", there, "--out", tmp_path / "s.csv")
    assert "scores this survey" in said and "strangers, to be looked at first" in said and "drift of" in said
    assert "selections, strangers first: “spirals applied: strangers”" in said
    assert "scores this survey" not in voorwerp("boundary", "apply", here, tmp_path / "s.json", "--no-save")
    survey = Survey.open(here)
    with Ledger(here, survey.info.survey_id) as ledger:
        assert {"spirals applied", "spirals applied: strangers"} <= set(ledger.selection_names())
        n = ledger.selection_counts()["spirals applied"]
    survey.close()
    assert len([row for row in (tmp_path / "s.csv").read_text().splitlines() if ",false,true," in row]) == n
    assert Run.read(next((here / "runs").glob("*train")) / "run.json").inputs["adopted_from"]
    voorwerp("boundary", "rename", here, "spirals", "arms")
    assert "arms  1" in voorwerp("boundary", "list", here)
    entry = voorwerp("boundary", "drop", here, "arms").split("undo")[1].split()[1]
    assert "arms" not in voorwerp("boundary", "list", here)
    voorwerp("boundary", "undo", here, entry.rstrip("`"))
    assert "arms  1" in voorwerp("boundary", "list", here)
    assert cli.main(["boundary", "fit", str(there), "x"]) == 2
    assert "a classifier is fitted to a truth" in capsys.readouterr().err
