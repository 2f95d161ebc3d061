"""Wasserstein GAN with gradient penalty, and an encoder back into its latent space.

The architecture is Storey-Fisher et al. 2021 (MNRAS 508, 2946), which Mantha et al. 2024 (Citizen Science: Theory and
Practice 9, 40) builds on: four 5 × 5 convolutions of stride 2, no normalization layers. Where they have 96 × 96 pixels,
three bands and base width 64, here are any multiple of 16, any number of bands and any base width.

Images are float32 in [0, 1], (B, C, H, W). Shapes in the comments: 96 pixels, 3 bands, width 64, latent size 128.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

STAGES = 4  # halvings between the image and the last feature map: 96 → 6, 64 → 4, 32 → 2

EncoderActivation = Literal["linear", "tanh3"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """What must be equal for weights to fit.

    Attributes
    ----------
    size
        Image side in pixels, a multiple of 16.
    bands
        Number of bands (channels), at least 1.
    width
        Channels after the critic's first convolution; 64 in the papers.
    latent_size
        Length of the latent vector z ~ N(0, 1); 128 in the papers.
    encoder_activation
        "linear", or "tanh3": 3 tanh(y), which keeps z where the generator has been trained. Storey-Fisher's
        tanh(1e-7 y) starts every z at zero and needs a hundred times the learning rate to leave it; it is not offered.
    """

    size: int
    bands: int
    width: int = 64
    latent_size: int = 128
    encoder_activation: EncoderActivation = "linear"

    def __post_init__(self) -> None:
        if self.size < 16 or self.size % 2**STAGES:
            raise ValueError(f"the network halves the image {STAGES} times: size {self.size} is not a multiple of 16")
        for name in ("bands", "width", "latent_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.encoder_activation not in ("linear", "tanh3"):
            raise ValueError(f'encoder_activation is "{self.encoder_activation}"; it must be "linear" or "tanh3"')

    @property
    def side(self) -> int:
        """Side of the last feature map in pixels."""
        return self.size >> STAGES

    @property
    def channels(self) -> list[int]:
        """Channels from the image to the last feature map: [3, 64, 128, 256, 512]."""
        return [self.bands] + [self.width * 2**i for i in range(STAGES)]

    @property
    def n_features(self) -> int:
        """Length of the critic's feature vector: 512 · 6 · 6 = 18432."""
        return self.channels[-1] * self.side**2


class Generator(nn.Module):
    """z (B, 128) → image (B, 3, 96, 96) in [0, 1].

    Storey-Fisher add Gaussian noise (standard deviation 0.1) to the activations after the second stage, always. Here
    it is on while training and off in ``eval()``, as dropout is: a score must be a function of the image alone, or the
    same subject would rank differently in two runs.
    """

    def __init__(self, architecture: Architecture, noise: float = 0.1) -> None:
        super().__init__()
        c, side = architecture.channels[::-1], architecture.side  # [512, 256, 128, 64, 3]
        self.shape, self.noise = (c[0], side, side), noise
        self.expand = nn.Linear(architecture.latent_size, c[0] * side * side)
        self.stages = nn.ModuleList(
            nn.ConvTranspose2d(c[i], c[i + 1], 5, stride=2, padding=2, output_padding=1) for i in range(STAGES)
        )

    def forward(self, z: Tensor, of: tuple[int, slice] | None = None) -> Tensor:
        """`of` a larger batch: its size, and which part `z` is; the noise is then that part of the batch's."""
        x = self.expand(z).relu().view(-1, *self.shape)  # (B, 512, 6, 6)
        x = self.stages[0](x).relu()  # (B, 256, 12, 12)
        x = self.stages[1](x).relu()  # (B, 128, 24, 24)
        if self.training and self.noise:
            n, part = of or (len(x), slice(None))
            x = x + self.noise * torch.randn(n, *x.shape[1:], dtype=x.dtype, device=x.device)[part]
        x = self.stages[2](x).relu()  # (B, 64, 48, 48)
        x = self.stages[3](x)  # (B, 3, 96, 96)
        return x.float().sigmoid()  # type: ignore[no-any-return]


class Critic(nn.Module):
    """Image (B, 3, 96, 96) → how real it looks, (B,), unbounded; its last feature map is the feature space."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        c = architecture.channels
        self.stages = nn.ModuleList(nn.Conv2d(c[i], c[i + 1], 5, stride=2, padding=2) for i in range(STAGES))
        self.judge = nn.Linear(architecture.n_features, 1)

    def features(self, x: Tensor, stage: int = STAGES) -> Tensor:
        """Activations of convolution `stage`, 1 to 4, flattened; of the last: (B, 18432)."""
        for convolution in self.stages[:stage]:  # (B, 64, 48, 48) (B, 128, 24, 24) (B, 256, 12, 12) (B, 512, 6, 6)
            x = nn.functional.leaky_relu(convolution(x), 0.2)
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.judge(self.features(x)).squeeze(1)  # type: ignore[no-any-return]

    def gradient(self, x: Tensor) -> Tensor:
        """∇_x D(x) of each image, (B, C, H, W); differentiable by the weights, without a graph of the way forward.

        D is linear wherever no activation changes its sign: the gradient is the transposed convolutions in turn, each
        with the slopes found on the way forward, which are constant. Autograd's double backward would give the same,
        and carry the zeros of the slopes' own derivatives all the way back once more.
        """
        slopes = []
        with torch.no_grad():
            for convolution in self.stages:
                x = convolution(x)
                slopes.append(torch.where(x > 0, 1.0, 0.2))
                x = x * slopes[-1]
        gradient = self.judge.weight.view(1, *x.shape[1:])  # (1, 512, 6, 6)
        for convolution, slope in zip(reversed(self.stages), reversed(slopes), strict=True):
            weight = cast(nn.Conv2d, convolution).weight
            gradient = nn.functional.conv_transpose2d(gradient * slope, weight, None, 2, 2, output_padding=1)
        return gradient


class Encoder(nn.Module):
    """Image (B, 3, 96, 96) → z (B, 128)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        c = architecture.channels
        self.stages = nn.ModuleList(nn.Conv2d(c[i], c[i + 1], 5, stride=2, padding=2) for i in range(STAGES))
        self.project = nn.Linear(architecture.n_features, architecture.latent_size)
        self.bounded = architecture.encoder_activation == "tanh3"

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x).relu()
        z = self.project(x.flatten(1))  # (B, 128)
        return 3 * z.tanh() if self.bounded else z  # type: ignore[no-any-return]


class WGAN(nn.Module):
    """The three networks under one roof, so that one checkpoint holds them.

    Attributes
    ----------
    latent_mean, latent_axes
        (128,) and (128, 128): mean and principal axes, a row each and the largest variance first, of the latent vectors
        of the training images. Zeros until the encoder is trained.
    """

    latent_mean: Tensor
    latent_axes: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.generator = Generator(architecture)
        self.critic = Critic(architecture)
        self.encoder = Encoder(architecture)
        self.register_buffer("latent_mean", torch.zeros(architecture.latent_size))
        self.register_buffer("latent_axes", torch.zeros(architecture.latent_size, architecture.latent_size))
        self.apply(initialize)

    def reconstruct(self, x: Tensor) -> Tensor:
        """x' = G(E(x)), (B, C, H, W) in [0, 1]."""
        return self.generator(self.encoder(x))  # type: ignore[no-any-return]

    def find_axes(self, latents: Tensor) -> None:
        """Take mean and principal axes from the latent vectors of the training images (n, 128)."""
        points = latents.double()
        mean = points.mean(0)
        _, axes = torch.linalg.eigh((points - mean).T @ (points - mean))  # columns, the smallest variance first
        self.latent_mean.copy_(mean)
        self.latent_axes.copy_(axes.flip(1).T)


def build(architecture: Architecture, seed: int) -> WGAN:
    """The networks with the weights that `seed` gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return WGAN(architecture)


def initialize(layer: nn.Module) -> None:
    """Uniform, standard deviation sqrt(4 / (fan_in + fan_out)) in convolutions, Glorot in linear layers; biases 0.

    A convolution of stride 2 uses each input in a quarter of its kernel, a transposed one fills each output from a
    quarter: that fan is divided by stride².
    """
    if isinstance(layer, nn.Conv2d):
        fan_in, fan_out = layer.in_channels * 25.0, layer.out_channels * 25 / 4
    elif isinstance(layer, nn.ConvTranspose2d):
        fan_in, fan_out = layer.in_channels * 25 / 4, layer.out_channels * 25
    elif isinstance(layer, nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
        return
    else:
        return
    bound = math.sqrt(3) * math.sqrt(4 / (fan_in + fan_out))
    nn.init.uniform_(layer.weight, -bound, bound)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


# --------------------------------------------------------------------------------------------------------- losses
# The networks may answer in bfloat16; every mean, sum and norm is float32, and so is all of the gradient penalty.
def gradient_norm(critic: nn.Module, real: Tensor, fake: Tensor, epsilon: Tensor) -> Tensor:
    """||∇_y D(y)||₂ over all pixels of each y = x + ε (G(z) - x), (B,); differentiable.

    Parameters
    ----------
    epsilon
        (B,) in [0, 1], one per image.
    """
    y = torch.lerp(real, fake, epsilon.view(-1, 1, 1, 1))
    with torch.autocast(y.device.type, enabled=False):
        if isinstance(critic, Critic):
            gradient = critic.gradient(y)
        else:
            (gradient,) = torch.autograd.grad(critic(y.requires_grad_(True)).sum(), y, create_graph=True)
        return gradient.flatten(1).norm(dim=1)  # type: ignore[no-any-return]


def critic_loss(
    critic: nn.Module, real: Tensor, fake: Tensor, epsilon: Tensor, penalty: float
) -> tuple[Tensor, Tensor]:
    """E[D(G(z))] - E[D(x)] + λ_GP E[(||∇_y D(y)||₂ - 1)²], and the mean gradient norm.

    Gulrajani et al. 2017 (arXiv:1704.00028), equation 3; `penalty` is λ_GP, 10 in the papers.
    """
    norm = gradient_norm(critic, real, fake, epsilon)
    verdict, verdict_of_fakes = critic(torch.cat([real, fake])).float().chunk(2)
    loss = verdict_of_fakes.mean() - verdict.mean() + penalty * ((norm - 1) ** 2).mean()
    return loss, norm.detach().mean()


def generator_loss(critic: nn.Module, fake: Tensor) -> Tensor:
    """-E[D(G(z))]."""
    return -critic(fake).float().mean()  # type: ignore[no-any-return]


def image_score(x: Tensor, reconstruction: Tensor) -> Tensor:
    """S_image: sum of squared differences over all pixels and bands of each image, (B,) float32.

    Mantha et al. 2024, as in their scoring script: sums, not means; images in [0, 1].
    """
    return (x.float() - reconstruction.float()).square().flatten(1).sum(1)


def feature_score(features: Tensor, features_of_reconstruction: Tensor) -> Tensor:
    """S_feature: sum of squared differences over the critic's features of each image, (B,) float32.

    In units of one network: only ranks compare between two trainings.
    """
    return (features.float() - features_of_reconstruction.float()).square().flatten(1).sum(1)


Scores = TypeVar("Scores", Tensor, np.ndarray)


def anomaly_score(image: Scores, feature: Scores, feature_weight: float = 0.2) -> Scores:
    """S_anom = (1 - λ) S_image + λ S_feature."""
    return (1 - feature_weight) * image + feature_weight * feature


def scores_of(model: WGAN, x: Tensor) -> tuple[Tensor, Tensor]:
    """S_image and S_feature of each image, (B,) and (B,) float32."""
    reconstruction = model.reconstruct(x)
    image = image_score(x, reconstruction)
    return image, feature_score(model.critic.features(x), model.critic.features(reconstruction))


def encoder_loss(model: WGAN, x: Tensor, feature_weight: float = 0.2) -> tuple[Tensor, Tensor, Tensor]:
    """The batch's mean anomaly score, which the encoder is trained to make small, and its mean image and feature score.

    The generator and the critic are taken as they are; the caller freezes them.
    """
    image, feature = scores_of(model, x)
    loss = anomaly_score(image, feature, feature_weight).mean()
    return loss, image.detach().mean(), feature.detach().mean()
