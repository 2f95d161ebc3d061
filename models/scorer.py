"""`Scorer`: a trained network, and how its scores are taken.

As published (Mantha et al. 2024) the generator is given the whole latent vector, every pixel and every feature counts
alike, and features are those of the critic's last stage. All of it can be changed without training again:

`latent_axes`    The generator is given the latent vector's part along the first k principal axes of the training set.
                 A network that can express much reconstructs oddities, too; what it makes of the few things that vary
                 most is what a common galaxy looks like.
`center`         Residuals count by a Gaussian around the image's center, where the subject is; the field around it has
                 neighbors and stars of its own.
`feature_stage`  An earlier stage of the critic sees less of the image at once, and more exactly where.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.reading import center_weights
from models.wgan import STAGES, WGAN, feature_score, image_score


class Settings(NamedTuple):
    """How scores are taken.

    Attributes
    ----------
    latent_axes
        k; 0, or the latent size, for the whole latent vector.
    center
        Standard deviation of the weight around the center, as a share of the image's side; 0 for equal weights.
    feature_stage
        1 to 4: the critic's stage whose features are compared.
    """

    latent_axes: int = 0
    center: float = 0.0
    feature_stage: int = STAGES


PRESETS = {"compact": Settings(8, 0.14, 3), "paper": Settings()}


class Scorer(nn.Module):
    """Scores and reconstructions of images, float32 (B, C, H, W) in [0, 1].

    Raises
    ------
    ValueError
        Principal axes are asked of a network that was trained before they were kept.
    """

    pixel_weights: Tensor
    cell_weights: Tensor

    def __init__(self, model: WGAN, settings: Settings = PRESETS["paper"]) -> None:
        super().__init__()
        if settings.latent_axes >= model.architecture.latent_size:
            settings = settings._replace(latent_axes=0)
        if settings.latent_axes and not model.latent_axes.any():
            raise ValueError(
                "the network has no principal axes of its latent vectors; train again, or take preset paper"
            )
        self.model, self.settings = model, settings
        size, side = model.architecture.size, model.architecture.size >> settings.feature_stage
        self.register_buffer("pixel_weights", torch.from_numpy(center_weights(size, size, settings.center)))  # (H, W)
        self.register_buffer(
            "cell_weights", torch.from_numpy(center_weights(side, size, settings.center))
        )  # (side, side)

    def generate(self, z: Tensor) -> Tensor:
        """x' of latent vectors (B, latent_size): (B, C, H, W) in [0, 1]."""
        if k := self.settings.latent_axes:
            mean, axes = self.model.latent_mean, self.model.latent_axes[:k]  # (D,) (k, D)
            z = mean + (z - mean) @ axes.T @ axes
        return self.model.generator(z)  # type: ignore[no-any-return]

    def reconstruct(self, x: Tensor) -> Tensor:
        """x', (B, C, H, W) in [0, 1]."""
        return self.generate(self.model.encoder(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z (B, latent_size), S_image and S_feature (B,), float32; the networks run in their weights' precision."""
        dtype = self.model.critic.judge.weight.dtype
        z = self.model.encoder(x.to(dtype))
        reconstruction = self.generate(z)  # float32
        real, made = self.features(torch.cat([x, reconstruction]).to(dtype)).chunk(2)
        root = self.pixel_weights.sqrt()
        return z.float(), image_score(x * root, reconstruction * root), feature_score(real, made)

    def feature_residual(self, x: Tensor) -> Tensor:
        """Weighted squared differences of the critic's features, summed over channels: (B, side, side)."""
        real, made = self.features(torch.cat([x, self.reconstruct(x)])).chunk(2)
        return (real - made).square().view(len(x), -1, *self.cell_weights.shape).sum(1)

    def features(self, x: Tensor) -> Tensor:
        """The critic's features times the square roots of their weights, float32 (B, n)."""
        features = self.model.critic.features(x, self.settings.feature_stage).float()
        return (features.view(len(x), -1, *self.cell_weights.shape) * self.cell_weights.sqrt()).flatten(1)
