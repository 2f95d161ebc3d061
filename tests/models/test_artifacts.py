"""What is found wrong with a run's folder."""

from pathlib import Path

import numpy as np
import pytest

from models.artifacts import CHECKPOINT, RUN_JSON, Run, check_run, sha256_file, write_scores

IDS = np.arange(3)


@pytest.mark.parametrize(("kind", "provides"), [("train", ""), ("autoencoder", "score")])
def test_a_runs_own_checkpoint_is_checked_whatever_its_kind(tmp_path: Path, kind: str, provides: str) -> None:
    folder = tmp_path / f"20260101-000000-{kind}"
    folder.mkdir()
    checkpoint = folder / CHECKPOINT
    checkpoint.write_bytes(b"weights")
    missing = np.full(3, np.nan)
    scores = {"image_score": missing, "feature_score": missing, "anomaly_score": np.arange(3.0)}
    write_scores(folder, None, {"subject_id": IDS, "split": ["unseen"] * 3, "quality": ["ok"] * 3} | scores)
    run = Run(folder.name, kind, "0", {}, state="done", provides=provides)
    run.checkpoint_sha256 = sha256_file(checkpoint)
    run.write(folder / RUN_JSON)
    assert check_run(folder, IDS) == []
    checkpoint.write_bytes(b"weighty")
    assert check_run(folder, IDS) == [f"{checkpoint} is not the file that run.json describes (sha256 differs)"]
    checkpoint.unlink()
    assert check_run(folder, IDS) == [f"{checkpoint} is missing; run {kind} again"]
