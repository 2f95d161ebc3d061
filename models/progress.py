"""`Progress`: what every long job yields."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long job is.

    Attributes
    ----------
    done, total
        Work done and work in all, in the job's own unit (images, epochs); 0 ≤ done ≤ total.
    message
        One short phrase for a person: what is going on now.
    metrics
        Named numbers of this moment (losses, images per second). The last record of a job carries its totals.
    """

    done: int
    total: int
    message: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
