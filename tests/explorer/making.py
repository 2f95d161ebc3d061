"""`create`, to its end."""

from pathlib import Path
from typing import Any

from explorer.ingest.images import CreateOptions, create


def make(path: Path, *sources: Path, **options: Any) -> dict[str, Any]:
    """Make a survey in this process with one decoder, 16 px crops unless told; the totals."""
    steps = create(path, sources, CreateOptions(**{"size": 16, "workers": 1, **options}))
    while True:
        try:
            next(steps)
        except StopIteration as end:
            totals: dict[str, Any] = end.value
            return totals
