"""What a tag's interval is worth, against a bootstrap over taggers; which groups there are."""

from pathlib import Path

import numpy as np
import pytest

from explorer.errors import UsageError
from explorer.services.losses import Groups, Losses
from models.rates import wilson
from tests.explorer.judged import opened, write_judged


def test_one_persons_tags_are_one_look_and_everybodys_are_many():
    """The linearised number of looks is that of a thousand bootstraps over taggers."""
    rng = np.random.default_rng(0)
    n, people = 300, 40
    tagger = rng.integers(0, people, n)
    kept = rng.random(n) < (0.2 + 0.6 * (tagger % 2))  # taggers differ in what they find
    groups = Groups(
        "tag", ["a"], ["talk:a"], np.arange(n), np.array([0, n]), [people], np.arange(n), tagger, np.zeros(people, int)
    )
    k = groups.counted(kept)
    effective = groups.effective(kept, k)[0]
    shares = []
    for _ in range(4000):
        w = np.bincount(rng.integers(0, people, people), minlength=people)[tagger]
        shares.append((w * kept).sum() / w.sum())
    p = k[0] / n
    assert effective == pytest.approx(p * (1 - p) / np.var(shares), rel=0.15)
    assert effective < 0.7 * n
    alone = Groups(
        "tag", ["a"], ["talk:a"], np.arange(9), np.array([0, 9]), [1], np.arange(9), np.zeros(9, int), np.zeros(1, int)
    )
    told = alone.told(np.array([9]), alone.effective(np.ones(9, bool), np.array([9])), "all")[0]
    assert told["low"] == pytest.approx(float(wilson(1, 1)[0]))  # nine by one person are worth one


def test_who_tagged_a_subject_twice_or_with_others_counts_once(tmp_path: Path):
    with opened(write_judged(tmp_path / "survey")) as at:
        tags = Losses(at.explore).tags()
        assert dict(zip(tags.names, tags.sizes.tolist(), strict=True)) == {"merger": 60, "arc": 15, "supernova": 1}
        with pytest.raises(UsageError, match="not in the columns of a few classes"):
            Losses(at.explore).classes("subjects.magnitude")
        with pytest.raises(UsageError, match="there is no group"):
            Losses(at.explore).rows("class:half=tune")
