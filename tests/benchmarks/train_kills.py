"""Trainings whose process gets SIGKILL at random moments, taken up again: do they end in the same bytes?"""

import tempfile
from pathlib import Path

import torch

from explorer.survey import Survey
from tests.benchmarks.row import Row
from tests.explorer.small_survey import write_survey
from tests.killed_trainings import at_once, contents, killed

N_KILLS = 50
CONFIG = {
    "epochs": 40,
    "encoder_epochs": 120,
    "batch": 8,
    "encoder_batch": 8,
    "width": 4,
    "latent_size": 8,
    "device": "cpu",
}


def train_kills(n_kills: int = N_KILLS, config: dict[str, object] = CONFIG) -> Row:
    """One training after another until all kills have come; every one finished must have the bytes of that at once."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-") as name:
        survey = Survey.open(write_survey(Path(name) / "survey", n=96, size=32))
        seconds = at_once(survey, Path(name) / "at_once", config)
        found = killed(survey, config, n_kills, seconds)
        expected = contents(Path(name) / "at_once")
        different = [folder.name for folder in found["folders"] if contents(folder) != expected]
        survey.close()
    if different:
        raise RuntimeError(f"after {found['n_landed']} kills not the bytes of the training at once: {different}")
    return Row(
        name="train-kills",
        what=f"{n_kills} × SIGKILL at random moments of a training, resumed by the job service",
        ours=found["n_landed"],
        theirs=n_kills,
        ratio=found["n_landed"] / n_kills,
        unit="kills in the middle of work",
        alternative="kills; checkpoint, Adam moments, random states, grids and history are those of a run at once",
        target=0.8,
        note=f"{len(found['folders'])} trainings finished, each with equal bytes; at once it takes {seconds:.0f} s",
        extra={"epochs_at_kill": found["where"]},
    )


LONG_ROWS = {"train-kills": train_kills}
