"""The anomaly model judged on real galaxies, beside PCA-32 on the same pixels: `gz1_images`, central 212 px → 64 px.

Everything runs through the command line, as a person would: create, train, score by every method, judge. The labels are
the crowd's majority, and 1.5 and 0.7 % of the images: the intervals say what that is worth. `VOORWERP_EPOCHS` shortens
or lengthens the training.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from explorer.services.explore import Explore
from explorer.services.judging import Verdict, verdicts
from explorer.survey import Survey
from tests.benchmarks.row import Row

DATA = Path(__file__).parents[3] / "shared" / "data" / "gz1_images"
CLASSES = ("interesting", "artifact_or_star")
TRAIN = ("--epochs", os.environ.get("VOORWERP_EPOCHS", "60"))
METHODS = (
    ("score", "--preset", "compact"),
    ("score", "--preset", "paper"),
    ("score", "--method", "pca"),
    ("score", "--method", "iforest"),
    ("score", "--method", "knn"),
    ("score", "--method", "iforest", "--on", "latents"),
    ("score", "--method", "knn", "--on", "latents"),
)


def voorwerp(*arguments: object) -> None:
    """Run the command; its error is the row's."""
    command = [sys.executable, "-m", "explorer.cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def make(survey: Path) -> None:
    """The survey, one training, and a score run of every method."""
    source = DATA / "labels.csv"
    voorwerp("create", survey, source, "--id-column", "OBJID", "--extent", 212, "--size", 64, "--originals", "link")
    voorwerp("run", survey, "train", *TRAIN)
    for method in METHODS:
        voorwerp("run", survey, *method)


def figures(survey: Path) -> dict[str, list[Verdict]]:
    """Class → every score of every run, on all subjects and by split."""
    opened = Survey.open(survey)
    explore = Explore(opened)
    mixes = [(value, mode) for mode in ("raw", "standardised") for value in (0.2, 0.5, 0.8)]
    found = {name: list(verdicts(explore, "kind", [name], list(explore.runs()), mixes)) for name in CLASSES}
    opened.close()
    return found


def gz1() -> list[Row]:
    """S_feature of the default scores beside PCA-32, a row for each class; every other figure in the JSON."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-anomaly-") as name:
        survey = Path(name) / "gz1"
        make(survey)
        found = figures(survey)
        runs = {run.run_id: run.config for run in Survey.open(survey).runs("score")}
    rows = []
    for name, judged in found.items():
        whole = [v for v in judged if v.part == "all"]
        (ours,) = [v for v in whole if v.score == "Feature score" and runs[v.run_id]["preset"] == "compact"]
        (theirs,) = [v for v in whole if runs[v.run_id]["method"] == "pca"]
        a, b = ours.judgement, theirs.judgement
        rows.append(
            Row(
                name=f"anomaly-{name}",
                what=f"AUC of S_feature for {a.n_positive} {name} among {a.n:,} galaxies, labels by the crowd",
                ours=a.auc.value,
                theirs=b.auc.value,
                ratio=a.auc.value / b.auc.value,
                unit="AUC",
                alternative="PCA-32 reconstruction error",
                note=f"[{a.auc.low:.2f}, {a.auc.high:.2f}] beside [{b.auc.low:.2f}, {b.auc.high:.2f}]; "
                f"first 100, 200, 400: {', '.join(f.spell(0, 0) for f in a.found.values())} beside "
                f"{', '.join(f.spell(0, 0) for f in b.found.values())}",
                extra={"figures": [line(v, runs) for v in judged]},
            )
        )
    return rows


def line(verdict: Verdict, runs: dict[str, dict[str, object]]) -> dict[str, object]:
    """One verdict for the JSON."""
    judged, config = verdict.judgement, runs[verdict.run_id]
    return {
        "method": config["method"] if config["method"] != "wgan" else f"wgan {config['preset']}",
        "score": verdict.score,
        "part": verdict.part,
        "n": judged.n,
        "n_positive": judged.n_positive,
        "auc": [judged.auc.value, judged.auc.low, judged.auc.high],
        "average_precision": [
            judged.average_precision.value,
            judged.average_precision.low,
            judged.average_precision.high,
        ],
        "found": {k: [f.value, f.low, f.high] for k, f in judged.found.items()},
    }


LONG_ROWS = {"anomaly-gz1": gz1}
