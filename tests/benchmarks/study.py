"""The paper's conclusion where the truth is known: 20,000 simulated galaxies, planted oddities, simulated volunteers.

Figure 6 as the paper made it judges each score's boundaries against their own truth; the claim that volunteers' choice
times the feature score makes the best boundary is judged here against one planted truth, at equal kept fraction
(science rule 4). Everything but the votes' visibility runs through the command line. ``python -m
tests.benchmarks.study SURVEY`` judges a survey that was made already, and prints every figure.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from explorer.ledger import Ledger
from explorer.services import simulated
from explorer.services.boundaries import Context
from explorer.services.explore import Explore
from explorer.services.figure_six import Point, against, figure6
from explorer.services.learned import Learning, taught
from explorer.services.notes import Notes
from explorer.services.truths import Truths
from explorer.services.volunteers import Volunteers, recount
from explorer.survey import Survey
from models.simulate import Crowd
from models.truth import Truth
from models.weighted import top
from tests.benchmarks.anomaly import voorwerp
from tests.benchmarks.row import Row
from tests.planted import CLASSES, WORTH, write_planted

N = int(os.environ.get("VOORWERP_STUDY", "20000"))
PLANTED = Truth("category", "subjects.class", labels=WORTH)
#: Kept fractions at which boundaries are compared; the first is the paper's.
FRACTIONS = (0.2, 0.1, 0.05)
#: Shares of positives that a boundary is taught with, as the paper's chosen fraction ≥ .1 and ≥ .5.
TAUGHT = (0.38, 0.05)
#: Kept fractions at which it is counted what is left of each class.
GRID = (0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05, 0.02)


def make(folder: Path, n: int = N) -> Path:
    """Images, survey, a training, scores, a map, and votes of 12 simulated volunteers on each."""
    survey = folder / "survey"
    name = "Simulated galaxies with planted oddities"
    voorwerp("create", survey, write_planted(folder / "images", n), "--size", 32, "--extent", 48, "--name", name)
    for kind in ("train", "score", "map"):
        voorwerp("run", survey, kind)
    opened = Survey.open(survey)
    codes, labels = opened.category("class")
    visibility = np.zeros(opened.n, np.float32)
    for kind in WORTH:
        visibility[codes == labels.index(kind)] = CLASSES[kind][1]
    worth = simulated.Worth(visibility > 0, visibility, "planted class, each as visible as its class")
    simulated.simulate(opened, worth, 12, 0, Crowd(n_volunteers=600))
    opened.close()
    recount(survey)
    return survey


def judged(survey: Path) -> dict[str, Any]:
    """Every figure, for JSON: see the keys."""
    opened = Survey.open(survey)
    try:
        with Ledger(opened.path, opened.info.survey_id) as ledger:
            explore = Explore(opened)
            truths = Truths(explore, Notes(ledger, explore), Volunteers(opened, ledger, explore.talk))
            return _judged(explore, truths, Learning(explore, truths))
    finally:
        opened.close()


def _judged(explore: Explore, truths: Truths, learning: Learning) -> dict[str, Any]:
    context = Context(next(iter(explore.runs())), next(iter(explore.maps()), ""))
    six = figure6(learning, truths, context)
    codes, labels = explore.survey.category("class")
    kind = codes[six.rows]
    known = truths.of(PLANTED, context)
    positive, _ = taught(known, six.rows)
    groups = learning.groups()[six.rows]
    told: dict[str, Any] = {"n": len(six.rows), "n_positive": float(positive.sum()), "own": [], "common": []}
    told["classes"] = {name: int((kind == labels.index(name)).sum()) for name in CLASSES}
    for base in TAUGHT:
        chosen = {curve.name: point for curve in six.curves if (point := curve.nearest(base)) is not None}
        at = {name: point.sigma for name, point in chosen.items()}
        for name, point in chosen.items():
            told["own"].append({"taught": base, "score": name, "sigma": point.sigma, **_rates(point)})
        for fraction in FRACTIONS:
            claim = against(six, learning, truths, context, PLANTED, fraction, at)
            told["common"].append({"taught": base, **claim.to_json()})
        for name, point in chosen.items():
            told.setdefault("left", []).append({"taught": base, "score": name, **_left(point, kind, labels, positive)})
    raw = {
        name: explore.values(f"scores.{name}", context.run_id)[six.rows] for name in ("feature_score", "anomaly_score")
    }
    raw["chosen_fraction"] = explore.survey.column("chosen_fraction")[six.rows]
    raw["chosen x feature"] = raw["chosen_fraction"] * raw["feature_score"]
    for name, values in raw.items():  # without a classifier: the columns themselves
        told["left"].append({"taught": None, "score": name, **_left_of(values, kind, labels, positive)})
    told["n_groups"] = len(np.unique(groups))
    return told


def _rates(point: Point) -> dict[str, Any]:
    return {name: point.rates[name].to_json() for name in ("precision", "recall", "f1", "kept", "base")}


def _left(point: Point, kind: np.ndarray, labels: list[str], positive: np.ndarray) -> dict[str, Any]:
    assert point.scores is not None
    return _left_of(point.scores, kind, labels, positive)


def _left_of(scores: np.ndarray, kind: np.ndarray, labels: list[str], positive: np.ndarray) -> dict[str, Any]:
    """What is left of the planted and of each class when so much is kept."""
    scores = np.where(np.isfinite(scores), scores, -np.inf)
    found: dict[str, list[int]] = {name: [] for name in ("planted", *CLASSES)}
    for fraction in GRID:
        kept = top(scores, fraction)
        found["planted"].append(round(float(kept @ positive)))
        for name in CLASSES:
            found[name].append(round(float(kept[kind == labels.index(name)].sum())))
    return {"kept": list(GRID), "found": found}


def study() -> list[Row]:
    """Recall of the planted at a kept fraction of .2: the product's boundary beside the chosen fraction's."""
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-study-") as name:
        told = judged(make(Path(name)))
    (claim,) = [c for c in told["common"] if (c["taught"], c["fraction"]) == (TAUGHT[1], FRACTIONS[0])]
    recall = {j["name"]: j["rates"]["recall"] for j in claim["judged"]}
    (pair,) = [p for p in claim["differences"] if {p["name"], p["other"]} == {"product", "chosen"}]
    ours, theirs = recall["product"], recall["chosen"]
    difference = pair["recall"]
    return [
        Row(
            name="study",
            what=f"recall of {ours['n']:.0f} planted oddities among {claim['n']:,} simulated galaxies, 20 % kept: the "
            "boundary taught with chosen fraction × feature score",
            ours=ours["value"],
            theirs=theirs["value"],
            ratio=ours["value"] / theirs["value"],
            unit="recall",
            alternative="boundary taught with the chosen fraction alone",
            note=f"{pair['name']} − {pair['other']}: {difference['value']:+.3f} "
            f"[{difference['low']:+.3f}, {difference['high']:+.3f}]",
            extra=told,
        )
    ]


LONG_ROWS = {"study": study}


def main(survey: Path) -> None:
    """Print every figure."""
    told = judged(survey)
    print(f"{told['n']:,} of the tune half, {told['n_positive']:.0f} planted: {told['classes']}")
    print("each against its own truth: not comparable")
    for one in told["own"]:
        said = ", ".join(f"{key} {one[key]['value']:.3f}" for key in ("base", "precision", "recall", "f1", "kept"))
        print(f"  taught {one['taught']:.2f}: {one['score']:8} Σ {one['sigma']:.4g}: {said}")
    print("all against the planted truth, at equal kept fraction")
    for one in told["common"]:
        for j in one["judged"]:
            p, r = j["rates"]["precision"], j["rates"]["recall"]
            print(
                f"  taught {one['taught']:.2f}, kept {one['fraction']:.2f}: {j['name']:8} "
                f"P {p['value']:.3f} [{p['low']:.3f}, {p['high']:.3f}] "
                f"R {r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}] ({r['k']:.0f} of {r['n']:.0f})"
            )
        for d in one["differences"]:
            r = d["recall"]
            print(f"      {d['name']} − {d['other']}: recall {r['value']:+.3f} [{r['low']:+.3f}, {r['high']:+.3f}]")
    print("what is left of each class")
    for one in told["left"]:
        print(f"  taught {one['taught']}: {one['score']}")
        print("    kept     " + " ".join(f"{f:5.2f}" for f in one["kept"]))
        for name, found in one["found"].items():
            n = told["n_positive"] if name == "planted" else told["classes"][name]
            print(f"    {name:8} " + " ".join(f"{k / n:5.2f}" for k in found) + f"  of {n:.0f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
