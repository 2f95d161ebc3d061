"""A run that learned from labels, made by hand: stages, pictures whose rows have words, findings of every sort."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from models.artifacts import RUN_JSON, Run, write_scores
from models.findings import Curve, Findings, Line, Matrix, Table
from models.grids import write_rows
from models.labels import write_labels

FOUND = "20270101-000000-found"
#: As a column of a table from outside may be called.
NASTY = "<b onclick=alert(1)>ring</b>"
CLASSES = ["smooth", NASTY]


def history_of(*stages: tuple[str, int, int]) -> list[dict[str, Any]]:
    """Lines of the history: of each stage its name, how many epochs it made, and of how many."""
    return [
        {"stage": name, "epoch": epoch, "of": of, "train": {"loss": 1 / epoch}, "validation": {"loss": 2 / epoch}}
        | {"images_per_second": 100.0, "word": ""}
        for name, n, of in stages
        for epoch in range(1, n + 1)
    ]


def findings_of(n: int = 12) -> Findings:
    """Something of every sort; `n` is how many experts said smooth."""
    x = np.arange(1, 6)
    return Findings(
        sentences=[f"Accuracy .9 ({n} of {n + 2}, 95 % interval .6 to 1).", "Experts only do worse."],
        caveats=["The labels are simulated."],
        tables=[Table("By class", ["class", "n", "recall"], [["smooth", n, 0.9], [NASTY, 2, None]], "tune half")],
        curves=[
            Curve(
                "Labels against error (simulated)",
                "labelled subjects",
                "error",
                [Line("BALD", x, 1 / x, 0.8 / x, 1.2 / x), Line("random", x, 1.5 / x)],
            ),
            Curve("Calibration", "nominal", "covered", [Line("all", x / 5, x / 6, is_points=True)], has_diagonal=True),
        ],
        matrices=[Matrix("Said and predicted", CLASSES, CLASSES, [[n, 1], [0, 2]])],
    )


def write_found(survey: Path, subject_ids: np.ndarray, run_id: str = FOUND, state: str = "done") -> Path:
    """The folder of such a run, whose own column ``predicted`` is what the map is to be colored by."""
    folder = survey / "runs" / run_id
    (folder / "grids").mkdir(parents=True)
    lines = history_of(("network", 2, 2), ("classifier, fold 1", 3, 5), ("classifier, fold 2", 2, 5))
    (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    random = np.random.default_rng(0)
    for done, words in (
        (2, ["real", "made again"]),
        (7, ["surest smooth", "most unsure", f"smooth taken for {NASTY}"]),
    ):
        write_rows(folder, done, [(word, random.integers(0, 255, (4, 16, 16, 3), np.uint8)) for word in words], None)
    n = len(subject_ids)
    values = random.random((2, n)).astype(np.float32)
    missing = np.full(n, np.nan, np.float32)
    scores = {"subject_id": subject_ids, "split": np.full(n, "unseen"), "quality": np.full(n, "ok")}
    scores |= {"image_score": missing, "feature_score": missing, "anomaly_score": values[0], "predicted": values[1]}
    write_scores(folder, None, scores)
    findings_of().write(folder)
    columns = {"subject_id": subject_ids[:2], "expert": CLASSES, "amateur": [None, "smooth"], "is_test": [False, False]}
    about = {
        "expert": {"source": "campaign:A", "words": "grades of A", "is_simulated": True},
        "amateur": {"source": "votes", "words": "the simulated votes", "is_simulated": True},
    }
    write_labels(folder, columns | {"duplicate_group": [-1, -2]}, CLASSES, about)
    config = {"epochs": 5, "seed": 7}
    run = Run(run_id, "autoencoder", "test", config, state=state, provides="score")
    run.results, run.inputs = {"accuracy": 0.9, "color": "predicted", "score_title": "Odd"}, {"labels": "0" * 64}
    run.created_at = "2027-01-01T00:00:00+00:00"
    run.write(folder / RUN_JSON)
    return folder
