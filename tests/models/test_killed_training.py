"""A training whose process gets SIGKILL at random moments ends as one that nothing interrupted."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

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


@pytest.mark.parametrize(("n_kills", "rows"), [(3, None), (2, np.arange(0, 60, 2))])
def test_killed_at_random_moments_and_resumed_it_ends_in_the_same_bytes(
    tmp_path: Path, n_kills: int, rows: np.ndarray | None
) -> None:
    survey = Survey.open(write_survey(tmp_path / "survey", n=40 if rows is None else 60, size=16))
    found = killed(survey, CONFIG, [0, n_kills], rows)
    at_once, resumed = found["folders"]
    again = f"VOORWERP_KILL_SEED={found['seed']}"
    assert len(found["where"]) == n_kills, again
    assert contents(resumed) == contents(at_once), again
    assert not (resumed / "resume.safetensors").exists(), again
    n_seen = pq.read_metadata(resumed / "split.parquet").num_rows
    assert n_seen == (40 if rows is None else len(rows))
    survey.close()
