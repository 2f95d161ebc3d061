"""How many interesting galaxies an expert finds per look: every strategy on `gz1_images`, oracle = the crowd's label.

A survey is made by the command line as a person would (central 212 px at 160 px, as the reference has them), with three
detectors and image features; what is learned on comes from the same code that serves campaigns. Beside it runs
`../shared/tools/label_yield.py` itself: its own features, and its own loop on the same subsets.

Targets: 61 mergers, 29 artifacts, both together, among 3,966. Twenty random 80 % subsets; the interval is the 2.5 and
97.5 percentile over them. They share most of their galaxies: it says how much hangs on who is there, not what another
survey would give.
"""

import contextlib
import io
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler

from explorer.services.acquiring import Acquiring
from explorer.services.campaigns import Campaign, Plan
from explorer.services.explore import Explore
from explorer.survey import Survey
from models.grades import SCHEMES
from models.ranking import BATCH, RANDOM, Votes, order
from tests.benchmarks.row import Row

SHARED = Path(__file__).parents[3] / "shared"
DATA, TOOL = SHARED / "data" / "gz1_images", SHARED / "tools" / "label_yield.py"
TARGETS = {"mergers": ["merger"], "artifacts": ["dont_know"], "both": ["merger", "dont_know"]}
#: Strategy and share of random draws: the first is what a campaign does unless told.
WAYS = (
    ("mix", RANDOM),
    ("greedy", 0.0),
    ("uncertain", 0.0),
    ("bald", 0.0),
    ("novel", 0.0),
    ("random", 1.0),
)
LOOKS, SUBSETS, SHARE = (100, 200, 400), 20, 0.8
#: What is aimed at after 400 looks on all of them, and what the reference finds there.
AIMS = {"mergers": (25, 10), "artifacts": (27, 23), "both": (70, 40)}

Features = tuple[Mapping[str, np.ndarray], np.ndarray, np.ndarray]  # spaces, order before votes, duplicate groups


def voorwerp(*arguments: object) -> None:
    """Run the command; its error is the row's."""
    command = [sys.executable, "-m", "explorer.cli", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def make(survey: Path) -> None:
    """The survey, three detectors, image features."""
    source = DATA / "labels.csv"
    voorwerp("create", survey, source, "--id-column", "OBJID", "--extent", 212, "--size", 160, "--originals", "link")
    fit_on = ("--fit-on", 1500)  # so many say as much as all, in half of the time
    voorwerp("run", survey, "score", "--method", "pca", "--n-components", 4, "--center", 0.16, *fit_on)
    for method in ("iforest", "knn"):
        voorwerp("run", survey, "score", "--method", method, *fit_on)
    voorwerp("run", survey, "features")


def known(survey: Survey, rows: np.ndarray) -> Features:
    """What a campaign of these rows is learned on."""
    acquiring = Acquiring(None, None, Explore(survey))  # type: ignore[arg-type]  # neither is asked
    none = np.empty(0, np.int64)
    plan = Plan("yield", SCHEMES["yes-no"], order="acquisition")
    campaign = Campaign("0" * 12, plan, rows, none, 0, none, none, {}, "benchmark", "")
    found = acquiring._read(campaign, tuple(acquiring.explore.runs()))
    return found.spaces, found.cold, found.groups


def looks(features: Features, target: np.ndarray, strategy: str, share: float, seed: int) -> list[int]:
    """Found after each of `LOOKS`."""
    spaces, cold, groups = features
    looked = np.empty(0, np.int64)
    while len(looked) < LOOKS[-1]:
        votes = Votes(looked, target[looked], groups[looked], looked)
        made = order(spaces, cold, votes, strategy, BATCH, share, 1000 * seed + len(looked))  # type: ignore[arg-type]
        looked = np.concatenate([looked, made.rows])
    return [int(target[looked[:n]].sum()) for n in LOOKS]


def reference() -> dict[str, Any]:
    """The tool's globals, after it ran on all of them: its features, labels and loop."""
    before, sys.argv = sys.argv, [str(TOOL), str(DATA)]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return runpy.run_path(str(TOOL))
    finally:
        sys.argv = before


def reference_looks(tool: Mapping[str, Any], x: np.ndarray, target: np.ndarray) -> list[int]:
    """What the tool's own loop finds on other subjects: its lines that make `x` and `far`, of these."""
    of = tool["looks"].__globals__
    of["x"] = PCA(64, svd_solver="full").fit_transform(StandardScaler().fit_transform(x))
    distances = NearestNeighbors(n_neighbors=20).fit(of["x"]).kneighbors(of["x"])[0]
    of["far"] = np.argsort(-distances.mean(1))
    found = of["looks"](target)
    return [int(found[n - 1]) for n in LOOKS]


def one(path: str, seed: int, rows: np.ndarray, labels: np.ndarray) -> dict[tuple[str, str], list[int]]:
    """(target, way) → found on one subset; every way on the same features."""
    with contextlib.closing(Survey.open(path)) as survey:
        features = known(survey, rows)
    found = {}
    for target, classes in TARGETS.items():
        positive = np.isin(labels[rows], classes)
        for strategy, share in WAYS:
            found[target, spell(strategy, share)] = looks(features, positive, strategy, share, seed)
    return found


def spell(strategy: str, share: float) -> str:
    """As the table has it."""
    return strategy if strategy == "random" or not share else f"{strategy}, {share:.0%} random"


def label_yield() -> list[Row]:
    """A row for each target: the default strategy beside the reference, finds after 400 looks."""
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes to come: two of them share two cores
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-yield-") as name:
        path = Path(name) / "gz1"
        make(path)
        with contextlib.closing(Survey.open(path)) as survey:
            labels = survey.arrow("label").to_pandas().to_numpy(str)
            n = survey.n
            ids = [str(i) for i in survey.source_ids(np.arange(n))]
        rng = np.random.default_rng(9)
        subsets = [np.arange(n)] + [np.sort(rng.choice(n, int(SHARE * n), replace=False)) for _ in range(SUBSETS)]
        with ProcessPoolExecutor(2) as pool:
            jobs = [pool.submit(one, str(path), seed, rows, labels) for seed, rows in enumerate(subsets)]
            tool = reference()
            made = [job.result() for job in jobs]
    theirs = pd.Index(tool["labels"]["OBJID"].astype(str)).get_indexer(ids)
    features = np.concatenate(tool["features"])
    for rows, found in zip(subsets, made, strict=True):
        for target, classes in TARGETS.items():
            positive = np.isin(labels[rows], classes)
            found[target, "reference"] = reference_looks(tool, features[theirs[rows]], positive)
    return [
        row(target, made, [int(np.isin(labels[rows], TARGETS[target]).sum()) for rows in subsets]) for target in TARGETS
    ]


def row(target: str, made: list[dict[tuple[str, str], list[int]]], there: list[int]) -> Row:
    """The row of a target; `made` and `there` (how many there are) are of the whole set, then of each subset."""
    ways = {way: np.array([found[target, way] for found in made]) for _, way in made[0] if (target, way) in made[0]}
    figures = {
        way: {
            "whole": counts[0].tolist(),
            "mean": counts[1:].mean(0).round(1).tolist(),
            "low": np.percentile(counts[1:], 2.5, axis=0).tolist(),
            "high": np.percentile(counts[1:], 97.5, axis=0).tolist(),
        }
        for way, counts in ways.items()
    }
    ours, reference = figures[spell(*WAYS[0])], figures["reference"]
    aim, was = AIMS[target]
    best = ", ".join(f"{way} {told['whole'][-1]}" for way, told in figures.items())
    print(target, figures)
    return Row(
        name=f"yield-{target}",
        what=f"{target} found after {LOOKS[-1]} looks, {SUBSETS} random subsets with {np.mean(there[1:]):.0f} of "
        f"{there[0]} among {int(SHARE * 100)} % of 3,966 galaxies",
        ours=ours["mean"][-1],
        theirs=reference["mean"][-1],
        ratio=ours["mean"][-1] / reference["mean"][-1],
        unit="finds",
        alternative="label_yield.py (EfficientNet-lite0, PCA-64, greedy)",
        target=aim / was,
        note=f"[{ours['low'][-1]:.0f}, {ours['high'][-1]:.0f}] beside [{reference['low'][-1]:.0f}, "
        f"{reference['high'][-1]:.0f}]; of all {there[0]}, where {aim} are aimed at: {best}",
        extra={"figures": figures, "looks": LOOKS, "there": there},
    )


LONG_ROWS = {"yield": label_yield}
