"""Trainings whose process gets SIGKILL at random moments, taken up again: do they end in the same bytes?"""

import tempfile
from pathlib import Path

import numpy as np

from explorer.survey import Survey
from tests.benchmarks.row import Row
from tests.explorer.small_survey import write_survey
from tests.killed_trainings import contents, killed

N_KILLS, EACH = 50, 5
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
    """Trainings killed five times each; every one must end with the bytes of one that nothing interrupted."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-") as name:
        survey = Survey.open(write_survey(Path(name) / "survey", n=96, size=32))
        n_trainings = n_kills // EACH
        n_of_some, resumed, n_equal, where, seeds = n_trainings // 5, [], 0, [], []
        for n, rows in ((n_trainings - n_of_some, None), (n_of_some, np.arange(0, 96, 2))):  # of all, of a selection
            found = killed(survey, config, [0, *[EACH] * n], rows)
            at_once, *others = found["folders"]
            expected = contents(at_once)
            n_equal += sum(contents(folder) == expected for folder in others)
            resumed += others
            where += found["where"]
            seeds.append(found["seed"])
        survey.close()
    if n_equal < len(resumed):
        raise RuntimeError(
            f"of {len(resumed)} trainings only {n_equal} have the bytes of those at once (VOORWERP_KILL_SEED: {seeds})"
        )
    return Row(
        name="train-kills",
        what=f"{n_kills} × SIGKILL at random moments of a training, resumed by the job service",
        ours=len(where),
        theirs=n_kills,
        ratio=len(where) / n_kills,
        unit="kills in the middle of work",
        alternative="kills; checkpoint, Adam moments, random states, grids and history are those of a run at once",
        target=1.0,
        note=f"{len(resumed)} trainings ({n_of_some} of a selection), each killed {EACH} times, end in the bytes of "
        f"those at once; seeds {' and '.join(map(str, seeds))}",
        extra={"epochs_at_kill": where, "seeds": seeds},
    )


LONG_ROWS = {"train-kills": train_kills}
