"""A run's settings from before there were as many: what they mean when it is taken up again."""

import signal
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from explorer.kinds.score import ScoreConfig
from explorer.survey import Survey
from explorer.worker import Networks, run_job
from models.artifacts import Run
from tests.explorer.small_survey import write_survey
from tests.models.networks import tiny, trained


@pytest.fixture
def restored_signals() -> Iterator[None]:
    """A worker ends its process, and leaves SIGTERM ignored."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def survey(tmp_path: Path) -> Iterator[Survey]:
    """Five subjects and a training of the size that they have."""
    survey = Survey.open(write_survey(tmp_path / "survey", size=16))
    trained(survey.run_folder("t"), tiny(size=16, width=2, latent_size=16), dict(survey.preprocessing))
    Run("t", "train", "0", {}, state="done").write(survey.run_folder("t") / "run.json")
    yield survey
    survey.close()


def scored(survey: Survey, run_id: str, *unsaid: str) -> Run:
    """An interrupted score run whose stored config lacks the `unsaid` settings, brought to its end."""
    config = {name: value for name, value in asdict(ScoreConfig(device="cpu")).items() if name not in unsaid}
    path = survey.run_folder(run_id) / "run.json"
    path.parent.mkdir()
    preprocessing = dict(survey.preprocessing)
    Run(run_id, "score", "0", config, preprocessing=preprocessing, inputs={"train": "t"}, state="interrupted").write(
        path
    )
    assert run_job(survey.path, run_id, None, None) == 0
    return Run.read(path)


@pytest.mark.usefixtures("restored_signals")
def test_a_score_run_of_before_there_were_presets_is_resumed_as_published_and_says_so(survey: Survey) -> None:
    old = scored(survey, "old", "preset", "latent_axes", "center", "feature_stage", "n_components")
    new = scored(survey, "new")
    assert (old.results["latent_axes"], new.results["latent_axes"]) == (0, 8)
    assert old.config == asdict(ScoreConfig(device="cpu", preset="paper"))
    assert new.config == asdict(ScoreConfig(device="cpu"))
    networks = Networks(survey)  # reconstructions are those of the scores
    for run in (old, new):
        residual = networks.answer(run.run_id, "feature_residual", [0, 1])
        scores = survey.scores(run.run_id)["feature_score"][:2]
        assert residual.sum((1, 2)) == pytest.approx(scores, rel=1e-4)
