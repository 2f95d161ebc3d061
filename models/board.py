"""A training's history as TensorBoard events, for those who live there: ``tensorboard --logdir SURVEY/runs``.

``tensorboard/`` in the run's folder gets what ``history.jsonl`` and ``grids/`` get, epoch by epoch, counted over both
stages. They are a copy: whatever goes wrong with it is one line in the log, and the training goes on.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = "tensorboard"
FLUSH_EVERY = 1.0  # seconds: what a kill may cost

SAYS_HOW = "no TensorBoard events are written: tensorboard is not installed here (pip install 'voorwerp[tensorboard]')"


class Board:
    """Writes the events of one training.

    Parameters
    ----------
    folder
        The run's folder.
    first
        The epoch that comes next, from 1. What an attempt before this one wrote of it, or after it, is void.
    settings
        Of the training, by name; shown as text.
    """

    def __init__(self, folder: Path, first: int, settings: Mapping[str, Any]) -> None:
        self.writer: Any = None
        self.word = ""
        self.flushed_at = 0.0
        try:
            from torch.utils.tensorboard import SummaryWriter  # an extra, and half a second
        except ImportError:
            print(SAYS_HOW, flush=True)
            return
        events = folder / FOLDER
        try:
            self.writer = SummaryWriter(str(events), purge_step=first if events.exists() else None)
            if first == 1:
                rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
                self.writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", 0)
        except Exception as error:
            self._give_up(error)

    def add(
        self, epoch: int, record: Mapping[str, Any], scores: Mapping[str, np.ndarray], grid: np.ndarray | None
    ) -> None:
        """Write an epoch, counted over both stages.

        Parameters
        ----------
        record
            Its line in the history.
        scores
            float (n,) scores of the watched images, by name.
        grid
            uint8 (H, W, 3): its pictures, where it has any.
        """
        if self.writer is None:
            return
        try:
            for tag, value in scalars_of(record).items():
                self.writer.add_scalar(tag, value, epoch)
            for name, values in scores.items():
                self.writer.add_histogram(name, values[np.isfinite(values)], epoch)
            if grid is not None:
                self.writer.add_image("grid", grid, epoch, dataformats="HWC")
            if record["word"] != self.word:
                self.word = record["word"]
                self.writer.add_text("word", self.word or "nothing is wrong any more", epoch)
            if time.monotonic() - self.flushed_at > FLUSH_EVERY:
                self.writer.flush()
                self.flushed_at = time.monotonic()
        except Exception as error:
            self._give_up(error)

    def close(self) -> None:
        """Write what is left."""
        if self.writer is not None:
            try:
                self.writer.close()
            except Exception as error:
                self._give_up(error)
            self.writer = None

    def _give_up(self, error: Exception) -> None:
        self.writer = None
        what = str(error) or type(error).__name__
        print(f"TensorBoard events end here, and the training goes on without them: {what}", flush=True)


def scalars_of(record: Mapping[str, Any]) -> dict[str, float]:
    """What a line of the history is drawn as: ``{"critic_loss/train": …, "image_score/p50": …, "spread": …}``."""
    found = {f"{name}/{part}": value for part in ("train", "validation") for name, value in record[part].items()}
    found |= {name: record[name] for name in ("spread", "images_per_second")}
    if record["gradient_norm"]:
        found |= {f"gradient_norm/{name}_step": value for name, value in record["gradient_norm"].items()}
    if scores := record["scores"]:
        for name in ("image_score", "feature_score"):
            found |= {f"{name}/p{p}": value for p, value in zip(scores["percent"], scores[name], strict=True)}
    return {tag: value for tag, value in found.items() if value is not None}
