"""The steps of a training, as every process of it makes them: images to tensors, losses, gradients, Adam.

A training in several processes (`models.parallel`) gives each a share of every batch. All draw the random numbers of
the whole batch and take their part of them, so that what is computed does not depend on the number of processes, but
for rounding.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from models.scoring import to_tensor
from models.wgan import WGAN, Generator, critic_loss, encoder_loss, generator_loss

Precision = Literal["float32", "ieee", "bfloat16"]

RESIDENT_SHARE = 0.4  # of the GPU's free memory that all images may take; above, each batch is sent there


class Config(Protocol):
    """What the steps need of a training's config."""

    @property
    def latent_size(self) -> int: ...
    @property
    def beta_1(self) -> float: ...
    @property
    def beta_2(self) -> float: ...
    @property
    def gradient_penalty(self) -> float: ...
    @property
    def feature_weight(self) -> float: ...
    @property
    def seed(self) -> int: ...
    @property
    def precision(self) -> Precision: ...


class Share(NamedTuple):
    """Which part of every batch a process computes: that of `rank`, 0 to `of` - 1."""

    rank: int = 0
    of: int = 1

    def part(self, n: int) -> slice:
        """Its part of a batch of `n` ≥ `of`."""
        return slice(n * self.rank // self.of, n * (self.rank + 1) // self.of)


class Team:
    """The processes of a training: this one alone (several: `models.parallel`)."""

    share = Share()

    def begin(self, stage: str, state: Mapping[str, Tensor]) -> None:
        """Bring the others to where this process stands at the beginning of `stage`."""

    def tell(self, **what: Any) -> None:
        """Have the others make the step that this process makes now."""

    def add(self, parameters: Iterable[Tensor], losses: Tensor) -> Tensor:
        """Sum the parameters' gradients, in place, and the losses over all processes."""
        return losses

    def close(self) -> None:
        """End the others."""


ALONE = Team()


# ----------------------------------------------------------------------------------------------------- the images
class Feed:
    """Batches of uint8 images (N, H, W, C) as float32 (B, C, H, W) in [0, 1] on `device`.

    On a GPU all images lie in its memory, where `RESIDENT_SHARE` of what is free holds them. Else a batch goes there
    from pinned memory on a stream of its own, while the step before is computed: nothing waits for it here.
    """

    def __init__(self, images: np.ndarray, device: torch.device) -> None:
        self.images, self.device = images, device
        self.resident: Tensor | None = None
        self.stream: torch.cuda.Stream | None = None
        if device.type != "cuda":
            return
        if images.nbytes <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
            self.resident = torch.empty(images.shape, dtype=torch.uint8, device=device)
            for i in range(0, len(images), 4096):
                self.resident[i : i + 4096].copy_(torch.from_numpy(np.ascontiguousarray(images[i : i + 4096])))
        else:
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def __getitem__(self, rows: np.ndarray) -> Tensor:
        if self.resident is not None:
            at = torch.from_numpy(rows).pin_memory().to(self.device, non_blocking=True)
            return to_unit(self.resident.index_select(0, at))
        if self.stream is None:
            return to_tensor(self.images[rows], self.device)
        pinned = torch.empty((len(rows), *self.images.shape[1:]), dtype=torch.uint8, pin_memory=True)
        np.take(self.images, rows, axis=0, out=pinned.numpy(), mode="clip")  # "raise" would copy once more
        with torch.cuda.stream(self.stream):
            sent = pinned.to(self.device, non_blocking=True)
        now = torch.cuda.current_stream(self.device)
        now.wait_stream(self.stream)
        sent.record_stream(now)
        return to_unit(sent)


def to_unit(images: Tensor) -> Tensor:
    """uint8 (B, H, W, C) → float32 (B, C, H, W) in [0, 1], as `to_tensor` does."""
    return images.permute(0, 3, 1, 2).to(torch.float32) / 255


# ---------------------------------------------------------------------------------------------------- the numbers
def lowered(config: Config, device: torch.device) -> torch.autocast:
    """Within it the networks' layers compute in the config's precision; the losses see to it that they are float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bfloat16")


def set_tf32(precision: Precision) -> None:
    """What GPUs may do to float32: TF32 in convolutions but for "ieee", none in matrices. So torch does by itself."""
    if torch.cuda.is_available():
        torch.backends.cudnn.allow_tf32 = precision != "ieee"
        torch.set_float32_matmul_precision("highest")


def laid_out(model: WGAN, device: torch.device) -> WGAN:
    """`model` on `device`; on a GPU in the order its convolutions are fastest in (channels last: no gain on a CPU)."""
    model = model.to(device)
    if device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def latent(n: int, size: int, device: torch.device) -> Tensor:
    """z ~ N(0, 1), (n, size)."""
    return torch.randn(n, size, device=device)


def turn(x: Tensor, orientation: int) -> Tensor:
    """(B, C, H, W) in one of eight orientations: quarter turns by `orientation` mod 4, mirrored from 4 on."""
    x = torch.rot90(x, orientation % 4, (2, 3))
    return x.flip(3) if orientation >= 4 else x


def generate_part(generator: Generator, n: int, config: Config, device: torch.device, share: Share) -> Tensor:
    """The share's part of `n` images generated now, (part, C, H, W), noise as in a batch of all."""
    part = share.part(n)
    z = latent(n, config.latent_size, device)[part]
    return generator(z, of=(n, part))  # type: ignore[no-any-return]


def critic_loss_beside_fakes(
    model: WGAN, real: Tensor, n: int, config: Config, share: Share | None = None
) -> tuple[Tensor, Tensor]:
    """The critic's loss and mean gradient norm on `real`, the share's part of `n` images, and as many generated now."""
    share = share or Share()
    with lowered(config, real.device), torch.no_grad():
        fake = generate_part(model.generator, n, config, real.device, share)
    epsilon = torch.rand(n, device=real.device)[share.part(n)]
    with lowered(config, real.device):
        return critic_loss(model.critic, real, fake, epsilon, config.gradient_penalty)


def adam(parameters: Iterable[Tensor], learning_rate: float, config: Config) -> torch.optim.Adam:
    """Adam with the config's betas, all parameters in one kernel."""
    return torch.optim.Adam(parameters, learning_rate, (config.beta_1, config.beta_2), fused=True)


def take_step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of gradient descent."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def take_step_together(
    optimizer: torch.optim.Optimizer, loss: Tensor, also: Sequence[Tensor], n: int, part: int, team: Team
) -> Tensor:
    """One step on the mean `loss` of the `part` images that are here of a batch of `n`.

    Returns
    -------
    Mean over the whole batch of `loss` and what is `also` to be known, (1 + k,).
    """
    optimizer.zero_grad(set_to_none=True)
    known = torch.stack([loss.detach(), *also])
    if part < n:
        loss, known = loss * (part / n), known * (part / n)
    loss.backward()  # type: ignore[no-untyped-call]
    known = team.add([p for group in optimizer.param_groups for p in group["params"]], known)
    optimizer.step()
    return known


# ------------------------------------------------------------------------------------------------------ the steps
class GanSteps:
    """Steps of critic and generator. No step waits for the device: losses stay there until they are asked for."""

    def __init__(self, model: WGAN, feed: Feed, learning_rate: float, config: Config, team: Team = ALONE) -> None:
        torch.manual_seed(config.seed)
        self.model, self.feed, self.config, self.team = model.train().requires_grad_(True), feed, config, team
        self.critic = adam(model.critic.parameters(), learning_rate, config)
        self.generator = adam(model.generator.parameters(), learning_rate, config)
        self.optimizers: dict[str, torch.optim.Optimizer] = {"critic": self.critic, "generator": self.generator}

    def take(self, batches: Sequence[np.ndarray]) -> Tensor:
        """A step of the critic on each batch of rows, one of the generator: (critic loss, generator loss, norm)."""
        self.team.tell(batches=batches)
        of_critic = [self.step_critic(rows) for rows in batches][-1]
        return torch.cat([of_critic[:1], self.step_generator(len(batches[0])), of_critic[1:]])

    def step_critic(self, rows: np.ndarray) -> Tensor:
        """One step of the critic on a batch: (loss, gradient norm)."""
        n, part = len(rows), self.team.share.part(len(rows))
        self.model.critic.requires_grad_(True)
        loss, norm = critic_loss_beside_fakes(self.model, self.feed[rows[part]], n, self.config, self.team.share)
        return take_step_together(self.critic, loss, [norm], n, part.stop - part.start, self.team)

    def step_generator(self, n: int) -> Tensor:
        """One step of the generator with `n` images: (loss,)."""
        config, share, device = self.config, self.team.share, self.feed.device
        part = share.part(n)
        self.model.critic.requires_grad_(False)
        with lowered(config, device):
            loss = generator_loss(self.model.critic, generate_part(self.model.generator, n, config, device, share))
        return take_step_together(self.generator, loss, [], n, part.stop - part.start, self.team)


class EncoderSteps:
    """Steps of the encoder, generator and critic frozen and without noise."""

    def __init__(self, model: WGAN, feed: Feed, learning_rate: float, config: Config, team: Team = ALONE) -> None:
        torch.manual_seed(config.seed + 1)
        self.model, self.feed, self.config, self.team = model.eval().requires_grad_(False), feed, config, team
        encoder = model.encoder.train().requires_grad_(True)
        self.encoder = adam(encoder.parameters(), learning_rate, config)
        self.optimizers: dict[str, torch.optim.Optimizer] = {"encoder": self.encoder}

    def take(self, rows: np.ndarray, orientation: int, learning_rate: float) -> Tensor:
        """One step on a batch in this orientation: (loss, image score, feature score)."""
        self.team.tell(rows=rows, orientation=orientation, learning_rate=learning_rate)
        self.encoder.param_groups[0]["lr"] = learning_rate
        part = self.team.share.part(len(rows))
        x = turn(self.feed[rows[part]], orientation)
        with lowered(self.config, self.feed.device):
            loss, image, feature = encoder_loss(self.model, x, self.config.feature_weight)
        return take_step_together(self.encoder, loss, [image, feature], len(rows), len(x), self.team)


STEPS: dict[str, type[GanSteps] | type[EncoderSteps]] = {"gan": GanSteps, "encoder": EncoderSteps}


# ------------------------------------------------------------------------------------------------------ the state
def state_of(model: WGAN, optimizers: Mapping[str, torch.optim.Optimizer], device: torch.device) -> dict[str, Tensor]:
    """All tensors that the next step depends on: weights, Adam's moments and step counts, random states."""
    tensors = {f"model.{name}": weight for name, weight in model.state_dict().items()}
    for name, optimizer in optimizers.items():
        for number, moments in optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{name}.{number}.{what}": tensor for what, tensor in moments.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def put_back(
    tensors: Mapping[str, Tensor],
    model: WGAN,
    optimizers: Mapping[str, torch.optim.Optimizer],
    device: torch.device,
) -> None:
    """Bring everything to where `state_of` found it.

    Raises
    ------
    KeyError, TypeError, ValueError, RuntimeError
        The tensors are those of something else.
    """
    model.load_state_dict(_under("model.", tensors))
    for name, optimizer in optimizers.items():
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in _under(f"adam.{name}.", tensors).items():
            number, _, what = key.partition(".")
            moments.setdefault(int(number), {})[what] = tensor
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
        for parameter, known in optimizer.state.items():  # one kernel goes over all of them: in the same memory order
            for what, moment in known.items():
                if moment.shape == parameter.shape:
                    known[what] = torch.empty_like(parameter).copy_(moment)
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], device)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
