"""A training whose process gets SIGKILL at random moments ends as one that nothing interrupted."""

from pathlib import Path

from explorer.survey import Survey
from tests.explorer.small_survey import write_survey
from tests.killed_trainings import at_once, contents, killed

CONFIG = {
    "epochs": 4,
    "encoder_epochs": 12,
    "batch": 8,
    "encoder_batch": 8,
    "width": 2,
    "latent_size": 4,
    "device": "cpu",
}


def test_killed_at_random_moments_and_resumed_it_ends_in_the_same_bytes(tmp_path: Path) -> None:
    survey = Survey.open(write_survey(tmp_path / "survey", n=48, size=16))
    seconds = at_once(survey, tmp_path / "at_once", CONFIG)
    found = killed(survey, CONFIG, n_kills=5, seconds=seconds)
    assert found["n_landed"] >= 3  # the kills came in time
    for folder in found["folders"]:
        assert contents(folder) == contents(tmp_path / "at_once")
        assert not (folder / "resume.safetensors").exists()
    survey.close()
