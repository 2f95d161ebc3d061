"""CzSL beside experts only on real galaxies: `gz1_images`, central 212 px area-averaged to 64.

Five folds; of each training fold 5 % have the label that stands for the experts', those and the next 20 % have
amateurs' votes. "Experts" are the reference (crowd majority), not astronomers; the images that these have labelled
(`gz1_votes_expert`) are reported apart. Amateurs are three votes an image, drawn from its own fractions where these are
known, else from those of a random image of the same reference class: simulated.
"""

import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image

from explorer.kinds.czsl import CzslConfig
from models.classes import Difference, differences, figures, percent, points
from models.czsl import AMATEURS, CZSL, EXPERTS, Learner, Task, plan_of
from models.fitting import Standing
from models.steps import Feed
from tests.benchmarks.row import Row

SHARED = Path(__file__).parents[3] / "shared" / "data"
IMAGES, VOTES = SHARED / "gz1_images", SHARED / "gz1_votes_expert" / "gz1_votes_expert.csv"
EXTENT, SIZE = 212, 64
FOLDS, N_VOTES = 5, 3
EXPERT, AMATEUR = 0.05, 0.25  # of a training fold; amateurs have seen the experts', too
#: Of a merger set, all others to one merger: the published one's.
RATIO = 14.36
GALAXY = {"elliptical": "EL", "clockwise": "CW", "anticlockwise": "ACW", "edge": "EDGE"}
MERGER = {"other": "OTHER", "merger": "MG"}


def load(names: dict[str, str]) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Labels with votes where these are known, images uint8 (n, 64, 64, 3), and the classes' names."""
    if not VOTES.exists() or not IMAGES.exists():
        raise SystemExit(f"{IMAGES} and {VOTES} are test data that are handed out apart")
    table = pd.read_csv(IMAGES / "labels.csv", dtype={"OBJID": str})
    votes = pd.read_csv(
        VOTES, dtype={"OBJID": str}, usecols=["OBJID", "ES_EXPERT", "MG_EXPERT", *GALAXY.values(), "MG"]
    )
    table = table[table.label != "dont_know"].merge(votes, on="OBJID", how="left", validate="1:1")
    random = np.random.default_rng(0)
    if "merger" in names:
        table["label"] = np.where(table.label == "merger", "merger", "other")
        others = np.flatnonzero(table.label == "other")
        n_others = round(RATIO * int((table.label == "merger").sum()))
        drawn = np.append(np.flatnonzero(table.label == "merger"), random.choice(others, n_others, replace=False))
        table["OTHER"] = 1 - table.MG
    else:
        drawn = np.flatnonzero(table.label.isin(list(names)))
    table = table.iloc[random.permutation(drawn)].reset_index(drop=True)
    images = np.empty((len(table), SIZE, SIZE, 3), np.uint8)
    for i, name in enumerate(table.filename):
        with Image.open(IMAGES / name) as file:
            left, top = ((side - EXTENT) // 2 for side in file.size)
            crop = file.convert("RGB").crop((left, top, left + EXTENT, top + EXTENT))
        images[i] = np.asarray(crop.resize((SIZE, SIZE), Image.Resampling.BOX))
    return table, images, list(names)


def vote(table: pd.DataFrame, names: dict[str, str], seed: int) -> np.ndarray:
    """Votes for each class, int64 (n, n_classes), `N_VOTES` an image."""
    random = np.random.default_rng([seed, 15])
    shares = table[list(names.values())].to_numpy(np.float64)
    known = np.isfinite(shares).all(1) & (np.nansum(shares, 1) > 0)
    for name in names:
        of_class = (table.label == name).to_numpy()
        donors = np.flatnonzero(of_class & known)
        shares[of_class & ~known] = shares[random.choice(donors, int((of_class & ~known).sum()))]
    return random.multinomial(N_VOTES, shares / shares.sum(1, keepdims=True))


def shares_of(truth: np.ndarray, training: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a label by experts and rows with amateurs': `EXPERT` and `AMATEUR` of each class, at least two."""
    expert, amateur = [], []
    for one in np.unique(truth):
        rows = random.permutation(training[truth[training] == one])
        expert.append(rows[: max(2, round(EXPERT * len(rows)))])
        amateur.append(rows[: round(AMATEUR * len(rows))])
    return np.concatenate(expert), np.concatenate(amateur)


def judged(
    table: pd.DataFrame, images: np.ndarray, names: dict[str, str], config: CzslConfig, n_folds: int
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Truth, the rows that were judged, probabilities by way (seeds, n, n_classes), and the amateurs' accuracy."""
    torch.set_num_threads(1)
    n, classes = len(table), list(names)
    truth = table.label.map({name: code for code, name in enumerate(classes)}).to_numpy(np.int64)
    fold = np.random.default_rng(1).permutation(n) % FOLDS
    plan, device = plan_of(config), torch.device("cpu")
    feed, tested = Feed(images, device), np.flatnonzero(fold < n_folds)
    said: dict[str, np.ndarray] = {}
    agree = []
    is_pictured = np.zeros(n, bool)
    is_pictured[np.random.default_rng(2).permutation(n)[: config.train_on]] = True
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-czsl-") as folder:
        for seed in range(plan.seeds):
            votes = vote(table, names, seed)
            encoder = None
            for number in range(n_folds):
                out = fold == number
                random = np.random.default_rng([seed, number])
                expert_rows, amateur_rows = shares_of(truth, np.flatnonzero(~out), random)
                expert, amateur = np.full(n, -1), np.full(n, -1)
                expert[expert_rows], expert[out] = truth[expert_rows], truth[out]
                amateur[amateur_rows] = votes[amateur_rows].argmax(1)
                agree.append((amateur == truth)[amateur_rows].mean())
                targets = np.full((n, len(classes)), np.nan, np.float32)
                targets[amateur_rows] = np.eye(len(classes), dtype=np.float32)[amateur[amateur_rows]]
                features = np.full(votes.shape, np.nan, np.float32)
                features[amateur_rows] = votes[amateur_rows] / N_VOTES
                rows = np.arange(n)
                task = Task(tuple(classes), rows, images, expert, amateur, targets, features, rows, is_pictured)
                here = Path(folder) / f"{seed}-{number}"
                here.mkdir()
                learner = Learner(config, plan, task, feed, Standing(here, {}), "merger" in names, 1)
                if encoder is None:
                    encoder = end(learner.autoencoder(seed)).encoder
                for way, p in end(learner.judge(seed, number, out, encoder)).items():
                    whole = said.setdefault(way, np.full((plan.seeds, n, len(classes)), np.nan))
                    whole[seed, out] = p
    return truth, tested, {way: p[:, tested] for way, p in said.items()}, np.array(agree)


def end(job: Generator[Any, None, Any]) -> Any:
    """What a job returns."""
    while True:
        try:
            next(job)
        except StopIteration as stop:
            return stop.value


def compare(name: str, names: dict[str, str], config: CzslConfig, n_folds: int) -> Row:
    """One task: CzSL beside experts only on the same subjects."""
    table, images, classes = load(names)
    truth, tested, said, agree = judged(table, images, names, config, n_folds)
    figure = "g_mean" if "merger" in names else "accuracy"
    at, groups = truth[tested], np.arange(len(tested))
    mean = {
        way: {key: float(np.mean([figures(at, one)[key] for one in said[way]])) for key in figures(at, said[way][0])}
        for way in (CZSL, EXPERTS, AMATEURS)
    }
    told = {way: differences(at, said[CZSL].argmax(2), said[way].argmax(2), groups) for way in (EXPERTS, AMATEURS)}
    difference = told[EXPERTS][figure]
    verdict = "above" if difference.low > 0 else "below" if difference.high < 0 else "not told apart"
    own = int(np.isfinite(table.MG).sum())
    ours, theirs = mean[CZSL][figure], mean[EXPERTS][figure]
    aucs = ", ".join(f"{way} {each['auc']:.3f}" for way, each in mean.items())
    unit = {"accuracy": "accuracy", "g_mean": "G-mean"}[figure]
    return Row(
        name=f"czsl-{name}",
        what=f"{unit} of {', '.join(classes)} on {len(tested):,} galaxies held out, reference (crowd majority); "
        f"experts on 5 %, simulated amateurs ({N_VOTES} votes, {100 * agree.mean():.1f} % agree) on 25 % of the rest, "
        f"{len(said[CZSL])} seeds",
        ours=ours,
        theirs=theirs,
        ratio=(1 - theirs) / (1 - ours),
        unit=unit,
        alternative="experts only, the same network",
        note=f"CzSL minus experts only {points(difference)}: {verdict}; minus amateurs only "
        f"{points(told[AMATEURS][figure])}; AUC {aucs}; "
        f"{own:,} of {len(table):,} images have votes of their own; {apart(table, tested, said, classes)}",
        extra={
            "figures": mean,
            "differences": {way: {k: spelled(d) for k, d in one.items()} for way, one in told.items()},
        },
    )


def spelled(difference: Difference) -> list[float]:
    """For the JSON."""
    return [difference.value, difference.low, difference.high]


def apart(table: pd.DataFrame, tested: np.ndarray, said: dict[str, np.ndarray], classes: list[str]) -> str:
    """What is found on the images that astronomers have labelled."""
    here = table.iloc[tested]
    if "merger" in classes:
        known = here.MG_EXPERT.notna().to_numpy()
        truth = here.MG_EXPERT[known].to_numpy(np.int64)
        of_class = np.arange(2)
    else:
        known = here.ES_EXPERT.isin(["L", "M"]).to_numpy()
        truth = (here.ES_EXPERT[known] == "L").to_numpy(np.int64)
        of_class = np.array([0, 1, 1, 1])  # elliptical, or not
    right = {way: (of_class[said[way][:, known].argmax(2)] == truth).sum(1).mean() for way in (CZSL, EXPERTS)}
    text = ", ".join(f"{way} {percent(round(float(k), 1), len(truth))}" for way, k in right.items())
    return (
        f"of those that astronomers have labelled, {'merger' if 'merger' in classes else 'elliptical'} or not: {text}"
    )


def short() -> list[Row]:
    """One seed; the galaxies in three of the five folds."""
    config = CzslConfig(seeds=1, train_on=1200)
    return [
        compare("galaxies", GALAXY, config, 3),
        compare("mergers", MERGER, CzslConfig(seeds=1, balance="over", autoencoder_epochs=6), FOLDS),
    ]


def whole() -> list[Row]:
    """Five seeds, all folds, the autoencoder on all images."""
    return [
        compare("galaxies-whole", GALAXY, CzslConfig(seeds=5), FOLDS),
        compare("mergers-whole", MERGER, CzslConfig(seeds=5, balance="over"), FOLDS),
    ]


LONG_ROWS = {"czsl": short, "czsl-whole": whole}
