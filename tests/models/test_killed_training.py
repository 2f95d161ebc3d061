"""A training whose process gets SIGKILL at random moments ends as one that nothing interrupted."""

from pathlib import Path

from explorer.survey import Survey
from tests.explorer.small_survey import write_survey
from tests.killed_trainings import contents, killed

CONFIG = {
    "epochs": 3,
    "encoder_epochs": 5,
    "batch": 8,
    "encoder_batch": 8,
    "width": 2,
    "latent_size": 4,
    "device": "cpu",
}


def test_killed_at_random_moments_and_resumed_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    survey = Survey.open(write_survey(tmp_path / "survey", n=40, size=16))
    found = killed(survey, CONFIG, n_kills=[0, 5])
    at_once, resumed = found["folders"]
    assert len(set(found["where"])) >= 3  # in several epochs
    assert contents(resumed) == contents(at_once)
    assert not (resumed / "resume.safetensors").exists()
    survey.close()
