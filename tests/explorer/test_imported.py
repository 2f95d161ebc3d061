"""Vectors and scores made elsewhere become a run like any other, or nothing at all."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from explorer.errors import IngestError, UsageError
from explorer.ingest.build import create_table_only
from explorer.ingest.imported import Imported, ImportOptions, import_run
from explorer.survey import Survey, check
from models.artifacts import read_latents
from tests.conftest import FIRST_ID

N, D = 6, 4
IDS = [FIRST_ID + i for i in range(N)]


@pytest.fixture
def survey(tmp_path: Path) -> Path:
    """Six subjects whose ids are beyond 2⁵³."""
    create_table_only(tmp_path / "survey", pa.table({"source_id": [str(i) for i in IDS]}), "Six")
    return tmp_path / "survey"


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, D)).astype(np.float32)


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """Scores of five of the six and of a stranger, in another order, with an integer and a text beside them."""
    rows = ["objid,gan score,n_votes,label"]
    rows += [f"{IDS[i]},{i / 10},{i},{'ab'[i % 2]}" for i in (4, 2, 0, 1, 3)]
    (tmp_path / "scores.csv").write_text("\n".join([*rows, "77,9.5,9,c"]) + "\n")
    return tmp_path / "scores.csv"


def columns_of(survey: Path, made: Imported) -> dict[str, list]:
    return pq.read_table(survey / "runs" / made.run_id / "scores.parquet").to_pydict()


def config_of(survey: Path, made: Imported) -> dict:
    return json.loads((survey / "runs" / made.run_id / "run.json").read_text())


# ----------------------------------------------------------------------------------------------------- what it makes
def test_scores_meet_subjects_by_exact_ids_and_strangers_are_named(survey: Path, scores: Path):
    made = import_run(survey, ImportOptions(scores=scores, id_column="objid", score_column="gan score"))
    found = columns_of(survey, made)
    assert found["subject_id"] == IDS[:5]
    np.testing.assert_allclose(found["anomaly_score"], [0, 0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    assert "gan score" not in found  # the same number would be on every screen twice
    assert config_of(survey, made)["config"]["score_column"] == "gan score"
    assert found["n_votes"] == [0, 1, 2, 3, 4]
    assert found["image_score"] == found["feature_score"] == found["split"] == [None] * 5
    assert found["quality"] == ["ok"] * 5
    assert '1 ids are not in the survey, the first is "77"' in made.sentences
    assert check(survey) == []


def test_a_run_says_where_it_is_from_without_a_path_of_this_machine(survey: Path, scores: Path, tmp_path: Path):
    options = ImportOptions(scores=scores, id_column="objid", score_column="gan score", name="my GAN")
    made = import_run(survey, options)
    run = config_of(survey, made)
    assert (run["kind"], run["state"], run["n_rows"]) == ("score", "done", 5)
    assert run["config"]["imported"] is True
    assert run["config"]["sources"] == ["scores.csv"]
    assert run["inputs"].keys() == {"scores", "subject_ids"}
    assert str(tmp_path) not in json.dumps(run)
    assert made.run_id.endswith("-my-GAN")


def test_ascending_changes_the_sign_and_says_so(survey: Path, scores: Path):
    made = import_run(survey, ImportOptions(None, scores, "objid", "gan score", ascending=True))
    found = columns_of(survey, made)
    np.testing.assert_allclose(found["anomaly_score"], [0, -0.1, -0.2, -0.3, -0.4], rtol=1e-6)
    assert config_of(survey, made)["config"]["ascending"] is True
    assert any('minus "gan score"' in note for note in config_of(survey, made)["results"]["notes"])


def test_columns_of_our_names_are_taken_as_such_and_others_do_not_clash(survey: Path, tmp_path: Path):
    table = {"id": IDS, "image_score": np.arange(6.0), "anomaly_score": np.arange(6.0) + 1, "split": np.arange(6)}
    pq.write_table(pa.table(table), tmp_path / "t.parquet")
    found = columns_of(survey, import_run(survey, ImportOptions(scores=tmp_path / "t.parquet", id_column="id")))
    assert found["image_score"] == [0, 1, 2, 3, 4, 5]
    assert found["anomaly_score"] == [1, 2, 3, 4, 5, 6]
    assert found["split"] == [None] * 6
    assert found["split_given"] == [0, 1, 2, 3, 4, 5]


def test_scores_that_are_not_finite_are_missing_with_their_reason(survey: Path, tmp_path: Path):
    (tmp_path / "t.csv").write_text("s,n\n1,0\nnan,1\ninf,2\n,3\n5,4\n6,5\n")
    found = columns_of(survey, import_run(survey, ImportOptions(scores=tmp_path / "t.csv", score_column="s")))
    assert found["anomaly_score"] == [1, None, None, None, 5, 6]
    assert found["quality"] == ["ok", *["no anomaly score"] * 3, "ok", "ok"]


# ------------------------------------------------------------------------------------------------- formats of vectors
def written(kind: str, folder: Path, vectors: np.ndarray) -> str:
    """The vectors in a file of a kind, backwards where it has ids: what --latents is told."""
    path, back, ids = folder / f"v.{kind}", vectors[::-1], np.array(IDS[::-1])
    if kind == "npy":
        np.save(path, vectors.astype(">f8"))
    elif kind == "npz":
        np.savez(path, X=back, objid=ids, other=np.zeros((N, 2)))
        return f"{path}:X"
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("model/latents", data=back, chunks=(2, D), compression="gzip")
            file["objid"] = [str(i) for i in ids]
        return f"{path}:model/latents"
    elif kind == "parquet":
        pq.write_table(pa.table({"objid": ids, "z": back.tolist()}), path)
    elif kind == "columns.parquet":
        pq.write_table(pa.table({"objid": ids, **{f"z{i}": back[:, i] for i in range(D)}}), path)
    else:
        table = Table({"objid": ids, **{f"z{i}": back[:, i] for i in range(D)}})
        table.write(path, format={"csv": "ascii.csv", "fits": "fits"}[kind])
    return str(path)


@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "parquet", "columns.parquet", "csv", "fits"])
def test_vectors_of_every_format_are_aligned_with_the_scores(
    survey: Path, tmp_path: Path, vectors: np.ndarray, kind: str
):
    id_column = None if kind == "npy" else "objid"
    made = import_run(survey, ImportOptions(written(kind, tmp_path, vectors), id_column=id_column))
    latents = read_latents(survey / "runs" / made.run_id)
    np.testing.assert_allclose(latents, vectors, rtol=1e-6)
    assert columns_of(survey, made)["subject_id"] == IDS
    assert check(survey) == []
    opened = Survey.open(survey)
    assert opened.latents(made.run_id)[1].tolist() == list(range(N))
    opened.close()


def test_vectors_and_scores_of_different_subjects_are_one_run(
    survey: Path, scores: Path, tmp_path: Path, vectors: np.ndarray
):
    np.savez(tmp_path / "v.npz", X=vectors[3:], objid=np.array(IDS[3:]))
    made = import_run(survey, ImportOptions(f"{tmp_path}/v.npz:X", scores, "objid", "gan score"))
    latents, found = read_latents(survey / "runs" / made.run_id), columns_of(survey, made)
    assert found["subject_id"] == IDS
    assert np.isnan(latents[:3]).all()
    np.testing.assert_array_equal(latents[3:], vectors[3:])
    assert found["anomaly_score"][5] is None
    assert found["quality"] == [*["no latent vector"] * 3, "ok", "ok", "no anomaly score"]


def test_a_vector_that_is_not_finite_is_flagged(survey: Path, tmp_path: Path, vectors: np.ndarray):
    vectors[2, 1] = np.inf
    np.save(tmp_path / "v.npy", vectors)
    made = import_run(survey, ImportOptions(f"{tmp_path}/v.npy"))
    assert columns_of(survey, made)["quality"][2] == "latent vector with values that are not finite"
    assert any(s.startswith("1 latent vectors have values") for s in made.sentences)


# ------------------------------------------------------------------------------------------------------ what is wrong
def test_ids_that_are_there_twice_are_refused_and_named(survey: Path, tmp_path: Path):
    (tmp_path / "t.csv").write_text(f"id,s\n{IDS[0]},1\n{IDS[1]},2\n{IDS[0]},3\n")
    with pytest.raises(IngestError, match=f'1 ids more than once, the first is "{IDS[0]}"'):
        import_run(survey, ImportOptions(scores=tmp_path / "t.csv", id_column="id"))
    assert not list((survey / "runs").glob("*"))


def test_without_ids_the_counts_must_agree(survey: Path, tmp_path: Path, vectors: np.ndarray):
    np.save(tmp_path / "v.npy", vectors[:5])
    with pytest.raises(IngestError, match="5 rows and 6 subjects"):
        import_run(survey, ImportOptions(f"{tmp_path}/v.npy"))
    (tmp_path / "t.csv").write_text("s\n1\n2\n")
    with pytest.raises(IngestError, match=r"5 vectors and .* 2 rows"):
        import_run(survey, ImportOptions(f"{tmp_path}/v.npy", tmp_path / "t.csv"))


def test_ids_that_are_no_subjects_are_refused(survey: Path, tmp_path: Path):
    (tmp_path / "t.csv").write_text("id,s\n1,1\n2,2\n")
    with pytest.raises(IngestError, match=r'none of 2 ids .* the first is "1"'):
        import_run(survey, ImportOptions(scores=tmp_path / "t.csv", id_column="id"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({}, "nothing to import"),
        ({"score_column": "gan_score"}, 'did you mean "gan score"'),
        ({"score_column": "label"}, "holds no numbers"),
        ({"id_column": "obj_id"}, 'column "obj_id" is not in'),
        ({"ascending": True}, "needs --score-column"),
    ],
)
def test_what_was_told_wrongly_is_a_sentence(survey: Path, scores: Path, options: dict, sentence: str):
    with pytest.raises(UsageError, match=sentence):
        import_run(survey, ImportOptions(**({"scores": scores, **options} if options else {})))


def test_pickled_arrays_links_and_other_shapes_are_refused(survey: Path, tmp_path: Path, vectors: np.ndarray):
    np.save(tmp_path / "o.npy", np.array([[{}]] * N, object), allow_pickle=True)
    np.save(tmp_path / "c.npy", vectors.astype(complex))
    np.save(tmp_path / "flat.npy", vectors[:, 0])
    np.save(tmp_path / "short.npy", vectors)
    (tmp_path / "short.npy").write_bytes((tmp_path / "short.npy").read_bytes()[:-9])
    np.savez(tmp_path / "two.npz", a=vectors, b=vectors)
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["X"] = vectors
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["X"] = h5py.ExternalLink("other.h5", "X")
        file["a"] = vectors[:, 0]
    told = {
        "o.npy": "Python objects",
        "c.npy": "complex64|complex128",
        "flat.npy": "a matrix of numbers",
        "short.npy": "truncated",
        "two.npz": "FILE:KEY",
        "two.npz:aa": 'did you mean "a"',
        "link.h5:X": 'has no array "X"',
        "none.npy": "does not exist",
    }
    for name, sentence in told.items():
        with pytest.raises(IngestError, match=sentence):
            import_run(survey, ImportOptions(f"{tmp_path}/{name}"))
    assert check(survey) == []


def test_an_import_that_is_killed_at_any_moment_is_a_whole_run_or_none(tmp_path: Path):
    n = 30_000
    create_table_only(tmp_path / "survey", pa.table({"source_id": [str(i) for i in range(n)]}), "Many")
    np.save(tmp_path / "v.npy", np.ones((n, 64), np.float32))
    code = (
        "import sys; from explorer.ingest.imported import *; print('ready', flush=True); "
        "import_run(sys.argv[1], ImportOptions(sys.argv[2]))"
    )
    for wait in (0.25, 0.4, 0.55):
        command = [sys.executable, "-c", code, str(tmp_path / "survey"), str(tmp_path / "v.npy")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        survey = Survey.open(tmp_path / "survey")
        for run in survey.runs(state=None):
            assert run.state == "done"
            assert len(survey.latents(run.run_id)[0]) == n
        survey.close()
    import_run(tmp_path / "survey", ImportOptions(f"{tmp_path}/v.npy"))
    assert check(tmp_path / "survey") == []


# --------------------------------------------------------------------------------------------------- without a survey
def test_where_there_is_no_survey_one_is_made_of_the_ids_and_the_other_columns(tmp_path: Path):
    rows = "\n".join(f"{i},{10 + k},{-k},{k / 7},{'ab'[k % 2]}" for k, i in enumerate(IDS))
    (tmp_path / "t.csv").write_text(f"objid,RA,DEC,score,type\n{rows}\n")
    made = import_run(tmp_path / "new", ImportOptions(None, tmp_path / "t.csv", "objid", "score"))
    survey = Survey.open(tmp_path / "new")
    assert not survey.has_images
    assert survey.source_ids(range(N)) == [str(i) for i in IDS]
    assert survey.column("ra").tolist() == [10, 11, 12, 13, 14, 15]
    assert survey.category("type")[1] == ["a", "b"]
    assert survey.scores(made.run_id)["anomaly_score"][5] == np.float32(5 / 7)
    survey.close()
    assert check(tmp_path / "new") == []


def test_a_survey_is_not_begun_for_an_import_that_cannot_be(tmp_path: Path):
    (tmp_path / "t.csv").write_text("id,s\n1,1\n1,2\n")
    with pytest.raises(IngestError, match="more than once"):
        import_run(tmp_path / "new", ImportOptions(scores=tmp_path / "t.csv", id_column="id"))
    assert not (tmp_path / "new").exists()


# -------------------------------------------------------------------------------------------------------- real data
def test_vectors_of_galaxy10_become_a_survey_with_a_map(
    shared_data: Path, tmp_path: Path, voorwerp: Callable[..., str]
):
    file = shared_data / "galaxy10_embedding" / "galaxy10_pca20.npz"
    with np.load(file) as arrays:  # the layout of all takes half a minute
        vectors, labels = arrays["X"][:1000], arrays["label_inferred"][:1000]
    file = tmp_path / "thousand.npz"
    np.savez(file, X=vectors, label_inferred=labels)
    said = voorwerp("import-run", tmp_path / "s", "--latents", f"{file}:X", "--scores", file)
    assert "1,000 latent vectors of length 20" in said
    assert "in the order of their rows" in said
    assert "done" in voorwerp("run", tmp_path / "s", "map", "--n-epochs", 2)
    assert "import" in voorwerp("jobs", tmp_path / "s")
    voorwerp("check", tmp_path / "s")
    survey = Survey.open(tmp_path / "s")
    assert np.isfinite(survey.coordinates(survey.maps()[0].run_id)).all()
    assert (survey.scores(survey.runs("score")[0].run_id)["label_inferred"] == labels).all()
    survey.close()


def test_all_vectors_of_galaxy10_become_a_survey_without_images(shared_data: Path, tmp_path: Path):
    file = shared_data / "galaxy10_embedding" / "galaxy10_pca20.npz"
    made = import_run(tmp_path / "s", ImportOptions(f"{file}:X"))
    assert made.n_rows == 17_736
    with np.load(file) as arrays:
        np.testing.assert_array_equal(read_latents(tmp_path / "s" / "runs" / made.run_id), arrays["X"])


def test_the_hsc_scores_become_a_run_with_exact_ids(shared_data: Path, tmp_path: Path):
    file = shared_data / "hsc_gan_catalog" / "anomaly_catalog_hsc_disc3sigma_without_holdout.csv"
    options = ImportOptions(None, file, "HSC_object_id", "combined_score_normalized")
    made = import_run(tmp_path / "hsc", options)
    survey = Survey.open(tmp_path / "hsc")
    assert survey.n == made.n_rows == 13_340
    assert survey.source_ids([0]) == ["43356908874130036"]
    scores = survey.scores(made.run_id)
    np.testing.assert_allclose(scores["anomaly_score"][0], 3.0107433795928955, rtol=1e-6)
    np.testing.assert_allclose(scores["discriminator_score_normalized"][0], 3.0567095279693604, rtol=1e-6)
    assert np.isfinite(scores["generator_score_normalized"]).all()
    survey.close()
