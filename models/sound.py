"""The weights from before a training diverged, kept for whoever wants to look at them, or go on from them.

After every epoch in which nothing diverged they are copied in memory, on their own device; the disk gets them only when
a later one does.
"""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.artifacts import CHECKPOINT
from models.scoring import save
from models.wgan import WGAN

#: A checkpoint like the other, from before the training diverged.
BEFORE = "before.safetensors"


class LastSound:
    """The weights after the last epoch in which nothing diverged.

    Parameters
    ----------
    folder
        The run's folder, which gets `BEFORE`.
    preprocessing
        For the checkpoint.
    """

    def __init__(self, folder: Path, preprocessing: Mapping[str, Any]) -> None:
        self.folder, self.preprocessing = folder, preprocessing
        self.weights: dict[str, Tensor] = {}
        self.epoch: tuple[str, int] | None = None  # stage and epoch that they are of
        self.is_kept = False

    def note(self, model: WGAN, stage: str, epoch: int) -> None:
        """`epoch` of `stage` went well. (Taken up again within an epoch: the one before.) Fresh weights are not noted.

        Epoch 0 of the encoder's stage are the finished generator and critic.
        """
        if stage == "gan" and epoch == 0:
            return
        self.epoch, self.is_kept = (stage, epoch), False
        now = model.state_dict()
        if not self.weights:
            self.weights = {name: torch.empty_like(weight) for name, weight in now.items()}
        with torch.no_grad():
            for name, weight in now.items():
                self.weights[name].copy_(weight)

    def recall(self, kept: Mapping[str, Any] | None) -> None:
        """Go on as after a `keep` that answered `kept`: the training was taken up again after it had diverged."""
        if kept and (self.folder / BEFORE).exists():
            self.epoch, self.is_kept = (kept["stage"], kept["epoch"]), True

    def keep(self, model: WGAN) -> dict[str, Any] | None:
        """The training diverged: write the weights from before, once; say of which stage and epoch they are.

        Parameters
        ----------
        model
            What network they are of; its own weights are not touched.

        Returns
        -------
        dict or None
            ``{"stage", "epoch"}`` for the history; None where no epoch was sound.
        """
        if self.epoch is None:
            return None
        if not self.is_kept:
            sound = deepcopy(model)
            sound.load_state_dict(self.weights)
            save(self.folder / BEFORE, sound, self.preprocessing)
            self.is_kept = True
        return {"stage": self.epoch[0], "epoch": self.epoch[1]}

    def become_the_checkpoint(self) -> None:
        """The training ends here: what was kept is its checkpoint."""
        if self.is_kept:
            (self.folder / BEFORE).replace(self.folder / CHECKPOINT)

    def forget(self) -> None:
        """The training recovered, and ended well."""
        (self.folder / BEFORE).unlink(missing_ok=True)


def sentence_of(kept: Mapping[str, Any] | None, name: str) -> str:
    """``the weights from before, after epoch 6 of generator and critic, are kept in NAME``; "" of None."""
    if kept is None:
        return ""
    whose = "the encoder" if kept["stage"] == "encoder" else "generator and critic"
    when = f"after epoch {kept['epoch']} of {whose}" if kept["epoch"] else "the finished generator and critic"
    return f"the weights from before, {when}, are kept in {name}"
