"""Votes by what they teach, beside votes at random: the loop of Walmsley et al. 2020 on `gz1_images`, votes simulated.

The galaxies are real; their votes are not (science.md, rule 15). Each is of a class by the crowd's majority, each class
has a probability of being chosen, a galaxy departs from it by a logit of its own, N(0, .5), and 40 simulated volunteers
vote. "Is it featured?" tells ellipticals from the rest; then "is it edge-on?" and "is it a merger?", where 61 of 3,966
have most of what there is to learn. Classes by majority are noisy, and that noise cannot be learned: so there is "is it
thin?", too, whose probability rises with the ellipticity that is measured on the galaxy's pixels.

A fixed quarter of the galaxies is for evaluation: none of them is ever asked for. The rest is the pool. Both ways begin
with the same labels and weights; the seed is that of weights, first labels, order and samples. Compared is how many
labels each needs for the error (RMSE of the fraction) that both reach, on curves that are the mean over seeds, made
falling. The interval is a bootstrap of evaluation galaxies and seeds at once.

What could be chosen (layers, steps, rate) was chosen on a part of the pool, with other votes, never on the evaluation.
"""

from __future__ import annotations

import csv
import tempfile
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from models.bayesian import Settings, Step, simulate_loop
from models.fitting import Recipe
from models.images import area_average
from models.morphology import shapes
from models.steps import Feed
from tests.benchmarks.row import Row

GALAXIES = Path(__file__).parents[2] / ".." / "shared" / "data" / "gz1_images"
EXTENT = 212
VOTES = 40
NOISE = 0.5  # standard deviation of a galaxy's logit around its class
#: Probability of being chosen, by class.
QUESTIONS = {
    "featured": {
        "elliptical": 0.1,
        "edge": 0.7,
        "clockwise": 0.9,
        "anticlockwise": 0.9,
        "merger": 0.8,
        "dont_know": 0.3,
    },
    "edge": {
        "elliptical": 0.05,
        "edge": 0.85,
        "clockwise": 0.05,
        "anticlockwise": 0.05,
        "merger": 0.2,
        "dont_know": 0.1,
    },
    "merger": {
        "elliptical": 0.03,
        "edge": 0.05,
        "clockwise": 0.08,
        "anticlockwise": 0.08,
        "merger": 0.7,
        "dont_know": 0.15,
    },
}
THIN = "thin"
THIN_AT, THIN_WITHIN = 0.6, 0.06  # ellipticity at which half say so, and the width of the logistic rise
RESAMPLED = 1000


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it: the layers' width, steps of a fit, how the loop goes, how often, and which questions."""

    width: int
    epochs: int  # of ten steps
    initial: int
    acquired: int
    turns: int
    seeds: int
    questions: tuple[str, ...]


SIDE = 32
SHORT = Size(width=8, epochs=12, initial=32, acquired=32, turns=4, seeds=5, questions=("featured",))
WHOLE = Size(width=8, epochs=12, initial=32, acquired=32, turns=8, seeds=8, questions=(*QUESTIONS, THIN))


def galaxies(side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """The central 212 px at `side` px, uint8 (N, side, side, 3), and the classes by the crowd."""
    if not GALAXIES.is_dir():
        raise FileNotFoundError(f"the real galaxies are not here ({GALAXIES} does not exist)")
    with (GALAXIES / "labels.csv").open(newline="") as handle:
        listed = list(csv.DictReader(handle))
    crops = np.empty((len(listed), side, side, 3), np.uint8)
    for i, line in enumerate(listed):
        with Image.open(GALAXIES / line["filename"]) as image:
            left, top = (image.width - EXTENT) // 2, (image.height - EXTENT) // 2
            cut = np.asarray(image.convert("RGB").crop((left, top, left + EXTENT, top + EXTENT)))
        crops[i] = np.floor(area_average(cut, side) + 0.5)
    return crops, np.array([line["label"] for line in listed])


def probabilities(question: str, classes: np.ndarray, crops: np.ndarray) -> np.ndarray:
    """How probably a volunteer chooses each galaxy, before its own noise: by its class, or its shape on the pixels."""
    if question != THIN:
        return np.array([QUESTIONS[question][name] for name in classes])
    flat = np.nan_to_num(shapes(crops.astype(np.float32).mean(axis=-1)).ellipticity)
    return np.clip(1 / (1 + np.exp(-(flat - THIN_AT) / THIN_WITHIN)), 0.02, 0.98)


def simulated_votes(p: np.ndarray, question: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """k and n of simulated volunteers: from `probabilities`, and nothing else that is known of a galaxy."""
    random = np.random.default_rng([seed, zlib.crc32(question.encode())])
    p = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + random.normal(0, NOISE, len(p)))))
    return random.binomial(VOTES, p), np.full(len(p), VOTES)


def apart(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Pool and evaluation: rows, three quarters and one."""
    order = np.random.default_rng(5).permutation(n)
    return np.sort(order[n // 4 :]), np.sort(order[: n // 4])


def settings_of(size: Size, seed: int) -> Settings:
    """The modern layers, small; as many steps at every fit, however many labels there are."""
    recipe = Recipe(size.epochs, 32, 5e-3, weight_decay=0.01, is_turned=True, is_annealed=True)
    return Settings("modern", SIDE, size.width, 64, 0.5, 30, VOTES, recipe, 10, seed)


def loops(
    crops: np.ndarray,
    votes: tuple[np.ndarray, np.ndarray],
    pool: np.ndarray,
    evaluation: np.ndarray,
    size: Size,
    folder: Path,
) -> dict[str, list[list[Step]]]:
    """Way → seed → turns."""
    feed = Feed(crops, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return {
        how: [
            list(
                simulate_loop(
                    feed,
                    *votes,
                    pool,
                    evaluation,
                    how,  # type: ignore[arg-type]
                    settings_of(size, seed),
                    folder / f"{how}-{seed}",
                    size.initial,
                    size.acquired,
                    size.turns,
                )
            )
            for seed in range(size.seeds)
        ]
        for how in ("bald", "random")
    }


# ------------------------------------------------------------------------------------------------------- figures
def falling(curve: np.ndarray) -> np.ndarray:
    """The nearest curve that never rises (pool adjacent violators): fits are noisy, and labels do no harm."""
    blocks: list[list[float]] = []
    for value in curve:
        blocks.append([float(value), 1.0])
        while len(blocks) > 1 and blocks[-2][0] < blocks[-1][0]:
            (a, m), (b, n) = blocks[-2:]
            blocks[-2:] = [[(a * m + b * n) / (m + n), m + n]]
    return np.concatenate([np.full(int(n), value) for value, n in blocks])


def labels_to(target: float, curve: np.ndarray, labels: np.ndarray) -> float:
    """How many labels a falling `curve` needs to come down to `target`, which it does: between two fits by a line."""
    at = int(np.argmax(curve <= target + 1e-12))
    if at == 0:
        return float(labels[0])
    share = (curve[at - 1] - target) / (curve[at - 1] - curve[at])
    return float(labels[at - 1] + share * (labels[at] - labels[at - 1]))


def needed(ours: np.ndarray, theirs: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Labels that each needs for the error that both reach."""
    a, b = falling(ours), falling(theirs)
    target = max(a[-1], b[-1])
    return labels_to(target, a, labels), labels_to(target, b, labels)


def curves(made: list[list[Step]]) -> dict[str, np.ndarray]:
    """Squared errors and log losses, (seeds, turns, galaxies)."""
    return {
        "rmse": np.array([[step.errors**2 for step in steps] for steps in made]),
        "log loss": np.array([[step.log_losses for step in steps] for steps in made]),
    }


def compare(made: dict[str, list[list[Step]]], figure: str, seed: int = 0) -> dict[str, object]:
    """Ours beside theirs in one figure: mean curves over seeds, labels for the same error, and 95 % intervals."""
    both = {how: curves(steps)[figure] for how, steps in made.items()}
    labels = np.array([len(step.labels) for step in made["bald"][0]])
    n_seeds, _, n = both["bald"].shape
    root = np.sqrt if figure == "rmse" else np.asarray
    mean = {how: root(values.mean(2)).mean(0) for how, values in both.items()}
    ours, theirs = needed(mean["bald"], mean["random"], labels)
    random = np.random.default_rng(seed)
    ratios, differences = [], []
    for _ in range(RESAMPLED):
        weights = random.multinomial(n, np.full(n, 1 / n)) / n
        seeds = random.integers(n_seeds, size=n_seeds)
        drawn = {how: root(values[seeds] @ weights).mean(0) for how, values in both.items()}
        a, b = needed(drawn["bald"], drawn["random"], labels)
        ratios.append(b / a)
        differences.append(drawn["bald"].mean() - drawn["random"].mean())
    return {
        "labels": labels.tolist(),
        "bald": mean["bald"].tolist(),
        "random": mean["random"].tolist(),
        "needed": (ours, theirs),
        "ratio": (theirs / ours, *np.percentile(ratios, (2.5, 97.5)).tolist()),
        "difference": (float(mean["bald"].mean() - mean["random"].mean()), *np.percentile(differences, (2.5, 97.5))),
    }


def measure(size: Size) -> list[Row]:
    """A row for each question."""
    torch.set_num_threads(1)
    crops, classes = galaxies()
    pool, evaluation = apart(len(crops))
    rows = []
    for question in size.questions:
        votes = simulated_votes(probabilities(question, classes, crops), question, 0)
        with tempfile.TemporaryDirectory(prefix="voorwerp-bench-bald-") as name:
            made = loops(crops, votes, pool, evaluation, size, Path(name))
        known = votes[0] / VOTES
        flat = float(np.sqrt(((known[evaluation] - known[pool].mean()) ** 2).mean()))
        told = {figure: compare(made, figure) for figure in ("rmse", "log loss")}
        ours, theirs = told["rmse"]["needed"]
        value, low, high = told["rmse"]["ratio"]
        verdict = "more" if high < 1 else "fewer" if low > 1 else "neither more nor fewer that could be told"
        rows.append(
            Row(
                name=f"bald-{question}",
                what=f"labels for the same error of the predicted fraction, simulated votes ({question}), "
                f"{len(evaluation)} real galaxies held out, pool of {len(pool):,}, {size.seeds} seeds",
                ours=ours,
                theirs=theirs,
                ratio=value,
                unit="labels",
                alternative="the same loop, asked at random",
                target=1.0,
                note=f"simulated; ratio [{low:.2f}, {high:.2f}], {verdict}; {told['rmse']['labels'][0]} to "
                f"{told['rmse']['labels'][-1]} labels, RMSE {told['rmse']['bald'][0]:.3f} to "
                f"{told['rmse']['bald'][-1]:.3f} and {told['rmse']['random'][-1]:.3f} at random, "
                f"constant rate {flat:.3f}; "
                f"mean difference over turns {spell(told['rmse']['difference'])}, of log loss "
                f"{spell(told['log loss']['difference'])} nats",
                extra={**told, "size": asdict(size), "asked": asked(made, classes, size)},
            )
        )
    return rows


def spell(figure: tuple[float, float, float]) -> str:
    """+0.001 [-0.002, +0.003]."""
    return f"{figure[0]:+.3f} [{figure[1]:+.3f}, {figure[2]:+.3f}]"


def asked(made: dict[str, list[list[Step]]], classes: np.ndarray, size: Size) -> dict[str, dict[str, int]]:
    """For whom each way asked, by class, all seeds together."""
    found = {}
    for how, seeds in made.items():
        rows = np.concatenate([steps[-1].labels[size.initial :] for steps in seeds])
        names, counted = np.unique(classes[rows], return_counts=True)
        found[how] = dict(zip(names.tolist(), counted.tolist(), strict=True))
    return found


LONG_ROWS = {"bald": lambda: measure(SHORT), "bald-whole": lambda: measure(WHOLE)}
