"""Kind ``ranks``: the anomaly scores of several runs as one ranking, with its spread over the runs."""

from dataclasses import dataclass

from explorer.kinds import Kind


@dataclass(frozen=True, slots=True)
class RanksConfig:
    """Nothing to set: ranks have no unit, and every run counts the same."""


KIND = Kind(
    name="ranks",
    title="Combine the ranks of several score runs",
    about="Makes one ranking of several score runs, and marks the subjects on which they disagree.",
    config=RanksConfig,
    run="models.ranks:run",
    provides="score",
    many=("score",),
)
