"""Long steps of the product, to their end."""

from collections.abc import Generator
from pathlib import Path
from typing import Any

from explorer.ingest.images import CreateOptions, create
from models.progress import Progress


def finished(steps: Generator[Progress, None, dict[str, Any]]) -> dict[str, Any]:
    """Take every step; the totals."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            totals: dict[str, Any] = end.value
            return totals


def make(path: Path, *sources: Path, **options: Any) -> dict[str, Any]:
    """Make a survey in this process with one decoder, 16 px crops unless told; the totals."""
    return finished(create(path, sources, CreateOptions(**{"size": 16, "workers": 1, **options})))
