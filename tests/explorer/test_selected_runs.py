"""Runs of a selection: whom they are of, what they read, and where their results stand in the survey."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from explorer import cli
from explorer.commands.running import what_differs
from explorer.errors import JobError, UsageError
from explorer.kinds import kinds
from explorer.ledger import Ledger
from explorer.services import selected
from explorer.services.boundaries import Boundaries, Context
from explorer.services.explore import Explore, newest
from explorer.services.jobs import JobService, find_run
from explorer.services.judging import is_reference
from explorer.services.runs import Runs
from explorer.services.selected import SomeCrops, keep_top, members, words_of
from explorer.state import Draft
from explorer.survey import PLANTED, SUBJECTS, Survey
from explorer.worker import iterate, workspace_of
from models.artifacts import SCORES, Run, check_run, read_columns, write_scores
from models.boundary import Gate
from tests.explorer.small_survey import write_survey

N = 60
TINY = {"epochs": 1, "encoder_epochs": 1, "batch": 8, "encoder_batch": 8, "width": 2, "latent_size": 4, "device": "cpu"}
ROWS = np.arange(3, N, 4)  # 15 of them
NAME = "the odd ones"


class Still:
    """What progress is told to, and nobody reads."""

    def report(self, progress: object) -> None: ...


class AtOnce(JobService):
    """Its jobs are done in this process before `start` returns: what a worker does, without the process."""

    def _spawn(self, run: Run, folder: Path, lock: int) -> None:
        kind = kinds()[run.kind]
        config = kind.config(**run.config)
        kind = kind.set_to(config)
        workspace = workspace_of(self.survey, kind, run, folder)
        run.results = iterate(kind, config, workspace, Still(), folder)  # type: ignore[arg-type]
        run.state = "done"
        run.write(find_run(self.survey, run.run_id))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_survey(tmp_path / "survey", n=N, size=16)


@pytest.fixture
def service(path: Path) -> Iterator[AtOnce]:
    survey = Survey.open(path)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        ledger.save_selection(NAME, ROWS, survey.subject_ids, who="ada")
        yield AtOnce(survey, ledger)
    survey.close()


def with_columns(path: Path, **columns: Any) -> None:
    """Put columns into subjects.parquet."""
    table = pq.read_table(path / SUBJECTS)
    for name, values in columns.items():
        if name in table.column_names:
            at = table.column_names.index(name)
            table = table.set_column(at, table.schema.field(name), pa.array(values, table.schema.field(name).type))
        else:
            table = table.append_column(name, pa.array(values))
    pq.write_table(table, path / SUBJECTS)


def run_of(service: JobService, run_id: str) -> Run:
    return Run.read(find_run(service.survey, run_id))


def scored_by_hand(survey: Survey, run_id: str, scores: np.ndarray, rows: np.ndarray | None = None) -> str:
    """A finished score run with these anomaly scores, of all subjects or of some; latent vectors at random."""
    ids = survey.subject_ids if rows is None else survey.subject_ids[rows]
    folder = survey.run_folder(run_id)
    folder.mkdir(parents=True)
    missing = np.full(len(ids), np.nan, np.float32)
    columns = {"subject_id": ids, "split": ["unseen"] * len(ids), "image_score": missing, "feature_score": missing}
    quality = np.where(np.isfinite(scores), "ok", "no score")
    latents = np.random.default_rng(3).normal(size=(len(ids), 4)).astype(np.float32)
    write_scores(folder, latents, {**columns, "anomaly_score": scores.astype(np.float32), "quality": quality})
    made = Run(run_id, "score", "0", {}, state="done", n_rows=len(ids), created_at="2026-01-01T00:00:00+00:00")
    made.write(folder / "run.json")
    return run_id


# -------------------------------------------------------------------------------------------------- the images
class Counted:
    """An array that notes what is read of it."""

    def __init__(self, array: Any) -> None:
        self._array, self.reads = array, list[tuple[int, int]]()
        self.shape, self.dtype, self.ndim, self.chunks = array.shape, array.dtype, array.ndim, array.chunks

    def __getitem__(self, key: Any) -> np.ndarray:
        first, last = (key.start, key.stop) if isinstance(key, slice) else (key, key + 1)
        self.reads.append((first, last))
        return np.asarray(self._array[key])


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> zarr.Array:
    values = np.random.default_rng(0).integers(0, 255, (5000, 2, 2, 1), np.uint8)
    return zarr.create_array(
        tmp_path_factory.mktemp("crops") / "images.zarr", data=values, chunks=(64, 2, 2, 1), shards=(2048, 2, 2, 1)
    )


@pytest.mark.parametrize("share", [0.001, 0.05, 0.5, 1.0])
def test_some_crops_are_those_of_their_rows_however_they_are_asked_for(crops: zarr.Array, share: float) -> None:
    random = np.random.default_rng(1)
    rows = np.flatnonzero(random.random(5000) < share)
    assert len(rows)
    seen, expected = SomeCrops(crops, rows), np.asarray(crops[:])[rows]
    n = len(rows)
    assert (len(seen), seen.shape, seen.dtype, seen.ndim) == (n, expected.shape, expected.dtype, 4)
    some = random.integers(0, n, 40)  # in any order, some twice
    for key in (slice(None), slice(n // 3, n // 2), slice(0, 0), slice(n - 1, None), slice(None, None, 3), some):
        found = seen[key]
        assert found.flags.owndata and found.flags.writeable
        np.testing.assert_array_equal(found, expected[key])
    np.testing.assert_array_equal(seen[n // 2], expected[n // 2])
    np.testing.assert_array_equal(seen[-1], expected[-1])
    with pytest.raises(IndexError):
        seen[n]


def test_every_chunk_is_read_once_a_slice_and_never_too_many_images_at_once(crops: zarr.Array) -> None:
    rows = np.r_[np.arange(10, 3000, 3), np.arange(4000, 5000, 90)]
    counted = Counted(crops)
    seen = SomeCrops(counted, rows)
    seen[:]
    chunks = [range(first // 64, (last - 1) // 64 + 1) for first, last in counted.reads]
    flat = [chunk for part in chunks for chunk in part]
    assert len(flat) == len(set(flat))  # no chunk twice
    assert set(flat) == set((rows // 64).tolist())  # and none that nobody asked for
    assert max(last - first for first, last in counted.reads) <= SomeCrops.AT_ONCE
    assert len(counted.reads) < 25  # neighbors together: 47 chunks hold the first part alone


# ------------------------------------------------------------------------------------------- train, score, map
def test_a_network_of_a_selection_its_scores_and_its_map_are_of_the_same_subjects(service: AtOnce) -> None:
    survey = service.survey
    ids = survey.subject_ids[ROWS]
    train = service.start("train", TINY, None, "ada", selection=NAME)
    run = run_of(service, train)
    assert run.selection == NAME
    assert run.inputs["subject_ids"] == hashlib.sha256(ids.tobytes()).hexdigest()
    assert run.results["n_train"] + run.results["n_validation"] == len(ROWS)
    split = pq.read_table(survey.run_folder(train) / "split.parquet").column("subject_id").to_numpy()
    assert sorted(split) == sorted(ids)
    np.testing.assert_array_equal(np.load(survey.run_folder(train) / "subjects.npy"), ids)
    entry = service.ledger.entries("job")[-1]
    assert (entry.payload["selection"], entry.payload["n"]) == (NAME, len(ROWS))

    # what the selection is called and has may change: what builds on the training is of what it was trained on
    service.ledger.save_selection(NAME, np.arange(9), survey.subject_ids, who="ada")
    service.ledger.drop_selection(NAME, who="ada")
    score = service.start("score", {"device": "cpu"}, [train], "ada")
    laid_out = service.start("map", {"n_neighbors": 4, "n_epochs": 20}, [score], "ada")
    for run_id in (score, laid_out):
        assert run_of(service, run_id).selection == NAME
        assert run_of(service, run_id).inputs["subject_ids"] == run.inputs["subject_ids"]
        assert check_run(find_run(survey, run_id).parent, survey.subject_ids) == []
    others = np.setdiff1d(np.arange(N), ROWS)
    scores = survey.scores(score)
    assert np.isfinite(scores["anomaly_score"][ROWS]).all() and np.isnan(scores["anomaly_score"][others]).all()
    assert set(scores["split"][ROWS]) == {"train", "validation"} and set(scores["split"][others]) == {None}
    coordinates = survey.coordinates(laid_out)
    assert np.isfinite(coordinates[ROWS]).all() and np.isnan(coordinates[others]).all()
    latents, rows = survey.latents(score)
    assert len(latents) == len(ROWS) and rows.tolist() == ROWS.tolist()
    assert words_of(run, survey.run_folder(train), survey.n) == f"of “{NAME}”, 15 of 60 subjects"


def test_everything_is_scored_by_a_network_of_a_selection_where_told(service: AtOnce) -> None:
    train = service.start("train", TINY, None, "ada", selection=NAME)
    score = service.start("score", {"device": "cpu"}, [train], "ada", everything=True)
    run = run_of(service, score)
    assert run.selection is None
    assert not (service.survey.run_folder(score) / "subjects.npy").exists()
    scores = service.survey.scores(score)
    assert np.isfinite(scores["anomaly_score"]).all()
    assert set(np.delete(scores["split"], ROWS)) == {"unseen"}
    assert set(scores["split"][ROWS]) == {"train", "validation"}
    # images of the selection have the same scores, whoever is scored beside them
    alone = service.survey.scores(service.start("score", {"device": "cpu"}, [train], "ada"))["anomaly_score"]
    np.testing.assert_allclose(alone[ROWS], scores["anomaly_score"][ROWS], rtol=1e-5)
    assert run_of(service, service.start("map", {"n_epochs": 20}, [score], "ada")).selection is None


def test_a_map_of_a_selection_takes_its_vectors_from_scores_of_all(service: AtOnce) -> None:
    survey = service.survey
    score = scored_by_hand(survey, "20260101-000000-score", np.arange(N, dtype=np.float32))
    laid_out = service.start("map", {"n_neighbors": 4, "n_epochs": 20}, [score], "ada", selection=NAME)
    folder = survey.map_folder(laid_out)
    ids = pq.read_table(folder / "coordinates.parquet").column("subject_id").to_numpy()
    np.testing.assert_array_equal(ids, survey.subject_ids[ROWS])
    latents = np.load(survey.run_folder(score) / "latents.npy")
    np.testing.assert_array_equal(np.load(folder / "latents.npy"), latents[ROWS])
    assert run_of(service, laid_out).results["n_subjects"] == len(ROWS)
    assert run_of(service, laid_out).results["n_left_out"] == 0  # whoever was not asked for was not left out


@pytest.mark.parametrize("method", ["pca", "knn"])
@pytest.mark.parametrize("on", ["pixels", "latents"])
def test_detectors_are_fitted_to_the_selection_and_score_it_alone(service: AtOnce, method: str, on: str) -> None:
    survey = service.survey
    scored_by_hand(survey, "20260101-000000-score", np.arange(N, dtype=np.float32))
    config = {"method": method, "on": on, "n_components": 2, "n_neighbors": 2}
    run_id = service.start("score", config, None, "ada", selection=NAME)
    scores = survey.scores(run_id)
    assert np.isfinite(scores["anomaly_score"][ROWS]).all()
    assert np.isnan(np.delete(scores["anomaly_score"], ROWS)).all()
    table = read_columns(survey.run_folder(run_id) / SCORES, pa.schema([]))
    assert table.num_rows == len(ROWS)


def test_ranks_of_two_runs_of_a_selection_are_of_it_and_mixed_ones_of_all(service: AtOnce) -> None:
    survey, config = service.survey, {"method": "pca", "n_components": 2}
    a = service.start("score", config, None, "ada", selection=NAME)
    b = service.start("score", {**config, "seed": 3}, None, "ada", selection=NAME)
    ranks = service.start("ranks", {}, [a, b], "ada")
    assert run_of(service, ranks).selection == NAME
    assert run_of(service, ranks).results["n_subjects"] == len(ROWS)
    whole = service.start("score", config, None, "ada")
    mixed = service.start("ranks", {}, [a, whole], "ada")
    assert run_of(service, mixed).selection is None  # and holds whoever is in both
    assert pq.read_metadata(survey.run_folder(mixed) / SCORES).num_rows == len(ROWS)


def test_what_a_survey_knows_of_its_subjects_is_told_of_the_selection_alone(path: Path) -> None:
    planted = [None] * N
    planted[7] = planted[8] = "arc"
    with_columns(path, **{PLANTED: planted, "duplicate_group": [*range(N - 1), 51]})
    survey = Survey.open(path)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        ledger.save_selection(NAME, ROWS, survey.subject_ids, who="ada")
        service = AtOnce(survey, ledger)
        run_id = service.start("score", {"method": "pca", "n_components": 2}, None, "ada", selection=NAME)
        folder = survey.run_folder(run_id)
        workspace = workspace_of(survey, kinds()["score"], Run.read(folder / "run.json"), folder)
        assert workspace.left_out is not None and workspace.duplicate_groups is not None
        assert workspace.left_out.tolist() == [row == 7 for row in ROWS]
        groups = workspace.duplicate_groups  # 51 and 59 show the same, and both are in the selection
        assert groups[12] == groups[14] and len(set(groups.tolist())) == len(ROWS) - 1
        np.testing.assert_array_equal(workspace.images[:], np.asarray(survey.images[:])[ROWS])
        assert survey.scores(run_id)["split"][7] == "unseen"  # nothing is fitted to what was planted
    survey.close()


# ------------------------------------------------------------------------------------------------- whom it is of
def test_a_boundarys_kept_set_is_a_selection_too(service: AtOnce) -> None:
    survey = service.survey
    run_id = scored_by_hand(survey, "20260101-000000-score", np.arange(N, dtype=np.float32))
    boundaries = Boundaries(Explore(survey), service.ledger)
    keep = Gate("scores.anomaly_score", low=40.0)
    boundaries.save("promising", Draft(keep), Context(run_id), "ada")
    assert members(survey, service.ledger, "promising").tolist() == list(range(40, N))
    service.ledger.save_selection("promising", ROWS, survey.subject_ids, who="ada")
    assert members(survey, service.ledger, "promising").tolist() == ROWS.tolist()  # what was kept goes first
    assert members(survey, service.ledger, "boundary:promising").tolist() == list(range(40, N))


def test_a_selection_that_cannot_be_is_a_sentence_and_leaves_nothing(service: AtOnce) -> None:
    survey, ledger = service.survey, service.ledger
    ledger.save_selection("none", np.empty(0, np.int64), survey.subject_ids, who="ada")
    ledger.save_selection("pair", np.array([2, 9]), survey.subject_ids, who="ada")
    for name, sentence in {
        "the odd one": 'there is no selection or boundary "the odd one"; did you mean "the odd ones"?',
        "xyz": 'there is no selection or boundary "xyz"; there are: "the odd ones", "none", "pair"',
        "none": 'the selection "none" has no subjects; choose another one',
        "pair": 'the selection "pair" has 2 subjects; a run of a selection takes 4 or more',
    }.items():
        with pytest.raises(UsageError) as error:
            service.start("train", TINY, None, "ada", selection=name)
        assert str(error.value) == sentence
    with pytest.raises(UsageError, match="consensus reads what the survey knows of all its subjects; leave out"):
        service.start("consensus", {}, None, "ada", selection=NAME)
    with pytest.raises(UsageError, match="leave out one or the other"):
        service.start("train", TINY, None, "ada", selection=NAME, everything=True)
    assert not (survey.path / "runs").exists()
    assert ledger.entries("job") == []


def test_a_selection_of_planted_subjects_alone_is_refused(path: Path) -> None:
    with_columns(path, **{PLANTED: ["arc" if row in ROWS else None for row in range(N)]})
    survey = Survey.open(path)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        ledger.save_selection(NAME, ROWS, survey.subject_ids, who="ada")
        with pytest.raises(UsageError, match=r"^in the selection \"the odd ones\" are planted subjects only"):
            members(survey, ledger, NAME)
    survey.close()


def test_the_top_of_a_run_is_kept_once_under_its_name(path: Path) -> None:
    with_columns(path, **{PLANTED: ["arc" if row == 59 else None for row in range(N)]})
    with_columns(path, is_withdrawn=[row == 58 for row in range(N)])
    survey = Survey.open(path)
    scores = np.arange(N, dtype=np.float32)
    scores[57], scores[:8] = np.nan, 100  # of 57 that count eight are equal and highest
    run_id = scored_by_hand(survey, "20260101-000000-score", scores)
    with Ledger(survey.path, survey.info.survey_id) as ledger:
        with pytest.raises(UsageError, match="no finished score run"):
            keep_top(survey, ledger, 0.05, "20260101-000000-scores", "ada")
        name = keep_top(survey, ledger, 0.1, None, "ada")
        assert name == f"top 10 % of {run_id}"
        assert survey.rows_of(ledger.selection(name, survey.subject_ids).subject_ids).tolist() == [0, 1, 2, 3, 4, 5]
        keep_top(survey, ledger, 0.1, run_id, "ada")
        assert len(ledger.entries("selection")) == 1
        keep_top(survey, ledger, 0.2, run_id, "bob")  # ceil(11.4)
        found = survey.rows_of(ledger.selection(f"top 20 % of {run_id}", survey.subject_ids).subject_ids)
        assert found.tolist() == [*range(8), 53, 54, 55, 56]
        for share in (0.0, 1.0, -0.1, float("nan")):
            with pytest.raises(UsageError, match="above 0 and below 1"):
                keep_top(survey, ledger, share, run_id, "ada")
    survey.close()


def test_linked_runs_are_of_the_same_subjects_though_the_name_goes_to_others(service: AtOnce) -> None:
    config = {"method": "pca", "n_components": 2}
    first = service.start("score", config, None, "ada", "s1", selection=NAME)
    service.ledger.save_selection(NAME, np.arange(9), service.survey.subject_ids, who="ada")
    second, alone = (service.start("score", config, None, "ada", series, NAME) for series in ("s1", None))
    subjects = [run_of(service, run_id).inputs["subject_ids"] for run_id in (first, second, alone)]
    assert subjects[0] == subjects[1] != subjects[2]


# --------------------------------------------------------------------------------------------- what can go wrong
def test_subjects_that_are_gone_or_others_stop_the_run(service: AtOnce, tmp_path: Path) -> None:
    survey = service.survey
    run_id = service.start("score", {"method": "pca", "n_components": 2}, None, "ada", selection=NAME)
    folder = survey.run_folder(run_id)
    run, kind = Run.read(folder / "run.json"), kinds()["score"]
    ids = np.load(folder / "subjects.npy")
    for content, sentence in (
        (ids[:-1], "does not have the subjects that"),
        (ids.astype(np.int32), "holds int32"),
        (ids[None], r"\(1, 15\); int64 ids"),
    ):
        np.save(folder / "subjects.npy", content)
        with pytest.raises(JobError, match=sentence):
            workspace_of(survey, kind, run, folder)
    (folder / "subjects.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(JobError, match="not a readable npy array"):
        workspace_of(survey, kind, run, folder)
    (folder / "subjects.npy").unlink()
    with pytest.raises(JobError, match="is missing, so nobody knows whom the run is of; start a new run"):
        workspace_of(survey, kind, run, folder)
    strangers = ids + 10_000
    run.inputs["subject_ids"] = selected.hash_of(strangers)
    selected.freeze(folder, strangers)
    with pytest.raises(JobError, match=r"has 15 subjects not in .*survey; start a new run"):
        workspace_of(survey, kind, run, folder)


def test_a_run_that_cannot_be_begun_leaves_no_folder(service: AtOnce, monkeypatch: pytest.MonkeyPatch) -> None:
    survey = service.survey

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(selected, "write_array", full)
    with pytest.raises(JobError, match="the disk is full; free some space and repeat it"):
        service.start("score", {"method": "pca"}, None, "ada", selection=NAME)
    assert list((survey.path / "runs").iterdir()) == []
    assert service.list() == []


# ------------------------------------------------------------------------------------------------ on the screen
def test_the_app_opens_with_what_is_of_the_whole_survey(service: AtOnce) -> None:
    survey = service.survey
    whole = scored_by_hand(survey, "20260101-000000-score", np.arange(N, dtype=np.float32))
    some = service.start("score", {"method": "pca", "n_components": 2}, None, "ada", selection=NAME)
    explore = Explore(survey)
    assert list(explore.runs()) == [some, whole]  # newest first
    assert newest(explore.runs()) == whole
    assert newest({some: explore.runs()[some]}) == some
    assert newest({}) == ""
    lines = {line["run_id"]: line for line in Runs(service).listed()}
    assert "of “the odd ones”, 15 of 60 subjects" in what_differs(lines, some)
    assert (lines[some]["of"], lines[whole]["of"]) == ("of “the odd ones”, 15 of 60 subjects", "")


def test_a_selections_pca_is_no_reference_for_a_network_of_the_survey(service: AtOnce) -> None:
    whole = service.start("score", {"method": "pca", "n_components": 8}, None, "ada")
    run = run_of(service, whole)
    run.config["n_components"] = 32  # which 60 images of 16 px have room for, and a quick test has not
    assert is_reference(run)
    run.selection = NAME
    assert not is_reference(run)


# ------------------------------------------------------------------------------------------------ command line
def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_line_says_whom_a_run_is_of(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    survey = Survey.open(path)
    scored_by_hand(survey, "20260101-000000-score", np.arange(N, dtype=np.float32))
    flags = ["--method", "pca", "--n-components", 2]
    code, out, err = said(capsys, "run", path, "score", *flags, "--top", 0.25)
    assert code == 0, err
    assert "of “top 25 % of 20260101-000000-score”, 15 of 60 subjects" in err
    (made,) = [run for run in survey.runs("score") if run.selection is not None]
    assert (made.n_rows, made.selection) == (15, "top 25 % of 20260101-000000-score")
    assert json.loads((survey.run_folder(made.run_id) / "run.json").read_text())["state"] == "done"
    for wrong, sentence in {
        ("--top", "0.1", "--selection", "x"): "--selection and --top say two things; a run is of one",
        ("--everything", "--selection", "x"): "--selection and --everything say two things; a run is of one",
        ("--of", "x"): "--of x says whose top; tell --top, too: 0.05 for 5 %",
        ("--selection", "top 25 % of 20260101"): "did you mean",
    }.items():
        code, out, err = said(capsys, "run", path, "score", *flags, *wrong)
        assert (code, out) == (2, "") and sentence in err
    survey.close()
