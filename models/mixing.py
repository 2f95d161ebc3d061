"""λ: how an image score and a feature score become one anomaly score.

S_anom = (1 - λ) S_image + λ S_feature, either of the raw sums (Mantha et al. 2024), or of both scores standardised over
the survey: the sums of a critic with large features outweigh those of the pixels at any λ, standardised ones do not.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np

from models.artifacts import ArtifactError

Mode = Literal["raw", "standardised"]

#: λ of Mantha et al. 2024.
PUBLISHED = 0.2

#: What an axis says of each.
MODE_TITLES: dict[str, str] = {"raw": "raw sums", "standardised": "standardised"}

#: A normal distribution's standard deviation in units of its median absolute deviation.
SD_OF_MAD = 1.4826


def center_and_spread(scores: np.ndarray) -> tuple[float, float]:
    """Median and median absolute deviation (MAD) of the finite ones among (n,) scores; NaN, NaN without any."""
    finite = scores[np.isfinite(scores)].astype(np.float64)
    if not finite.size:
        return float("nan"), float("nan")
    median = float(np.median(finite))
    return median, float(np.median(np.abs(finite - median)))


def standardise(scores: np.ndarray, name: str = "score") -> np.ndarray:
    """(s - median) / (1.4826 MAD), float32 (n,), NaN where missing.

    Raises
    ------
    ArtifactError
        The MAD is 0: more than half of the scores are equal.
    """
    median, mad = center_and_spread(scores)
    if mad == 0:
        raise ArtifactError(f"the {name} cannot be standardised, half of its values or more are {median:g}; take raw")
    return ((scores - median) / (SD_OF_MAD * mad)).astype(np.float32)


def mixed_with(config: Mapping[str, Any]) -> tuple[float, Mode]:
    """λ and mode that a score run's config says; as published where it says nothing."""
    return config.get("feature_weight", PUBLISHED), config.get("lambda_mode", "raw")


def mix(image: np.ndarray, feature: np.ndarray, feature_weight: float, mode: Mode = "raw") -> np.ndarray:
    """The anomaly score, float32 (n,), of image and feature scores (n,), λ = `feature_weight` in [0, 1].

    Raises
    ------
    ArtifactError
        As `standardise`.
    """
    if mode == "standardised":
        image, feature = standardise(image, "image score"), standardise(feature, "feature score")
    weight = np.float32(feature_weight)
    return ((1 - weight) * image + weight * feature).astype(np.float32, copy=False)
