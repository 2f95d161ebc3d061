"""Training of critic and generator beside the loop that one writes first: eager float32, a DataLoader.

Both train the same networks (96 px, three bands, five critic steps for one of the generator) from the same weights on
the same images, in the same torch with the same threads, in turn. Images per second are those that the critic sees.
Then both take the same steps, same batches and same random numbers, and their losses must differ by less than those of
two orders of the plain loop do.

On a GPU: the papers' width and batch 1,024, 8 DataLoader workers. On a CPU: less of each, so that it ends.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from explorer.kinds.train import TrainConfig
from models.resume import Order
from models.steps import Feed, GanSteps, laid_out, latent, set_tf32
from models.wgan import WGAN, Architecture, build, generator_loss
from tests.benchmarks.row import Row
from tests.models.networks import blobs

SIZE, BANDS = 96, 3

#: Dense peaks in FLOP/s as their maker states them, by the name that the driver gives; others are not stated.
PEAKS: dict[str, dict[str, float]] = {
    "NVIDIA H100 80GB HBM3": {"bfloat16": 989e12, "tf32": 495e12, "ieee": 67e12},
    "NVIDIA H100 PCIe": {"bfloat16": 756e12, "tf32": 378e12, "ieee": 51e12},
    "NVIDIA H200": {"bfloat16": 989e12, "tf32": 495e12, "ieee": 67e12},
    "NVIDIA A100-SXM4-80GB": {"bfloat16": 312e12, "tf32": 156e12, "ieee": 19.5e12},
    "NVIDIA A100-SXM4-40GB": {"bfloat16": 312e12, "tf32": 156e12, "ieee": 19.5e12},
    "NVIDIA A100 80GB PCIe": {"bfloat16": 312e12, "tf32": 156e12, "ieee": 19.5e12},
}


class Scale(NamedTuple):
    """How much is measured.

    Attributes
    ----------
    images, width, batch, workers
        Of the training; `workers` read for the plain loop.
    warm, timed, rounds
        Generator steps that are not counted, that are timed at once, and how often.
    steps, steps_width
        Critic steps whose losses are compared, and the width of the networks that take them.
    """

    images: int
    width: int
    batch: int
    workers: int
    warm: int
    timed: int
    rounds: int
    steps: int
    steps_width: int


ON_CPU = Scale(images=256, width=16, batch=8, workers=2, warm=1, timed=1, rounds=5, steps=30, steps_width=8)
ON_GPU = Scale(images=8192, width=64, batch=1024, workers=8, warm=3, timed=10, rounds=5, steps=200, steps_width=64)


# --------------------------------------------------------------------------------------------------- the plain loop
class Images(Dataset[Tensor]):
    """Images of a .npy file, one at a time, as tutorials read them."""

    def __init__(self, path: Path) -> None:
        self.images = np.load(path, mmap_mode="r")

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Tensor:
        return torch.from_numpy(self.images[i].copy()).permute(2, 0, 1).float() / 255


def for_ever(loader: DataLoader[Tensor]) -> Iterator[Tensor]:
    while True:
        yield from loader


class Plain:
    """WGAN-GP as Gulrajani et al.'s equation 3 is usually written in torch."""

    def __init__(self, model: WGAN, config: TrainConfig, rate: float, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.model, self.config, self.device = model.to(device).train(), config, device
        betas = (config.beta_1, config.beta_2)
        self.critic = torch.optim.Adam(model.critic.parameters(), rate, betas)
        self.generator = torch.optim.Adam(model.generator.parameters(), rate, betas)

    def take(self, batches: list[Tensor]) -> list[Tensor]:
        """A step of the critic on each batch, then one of the generator: the critic's losses."""
        critic, config = self.model.critic, self.config
        losses = []
        for batch in batches:
            real = batch.to(self.device)
            fake = self.model.generator(latent(len(real), config.latent_size, self.device)).detach()
            epsilon = torch.rand(len(real), device=self.device).view(-1, 1, 1, 1)
            y = (real + epsilon * (fake - real)).requires_grad_(True)
            (gradient,) = torch.autograd.grad(critic(y).sum(), y, create_graph=True)
            norm = gradient.flatten(1).norm(dim=1)
            loss = critic(fake).mean() - critic(real).mean() + config.gradient_penalty * ((norm - 1) ** 2).mean()
            self.critic.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.critic.step()
            losses.append(loss.detach())
        loss = generator_loss(critic, self.model.generator(latent(len(batches[0]), config.latent_size, self.device)))
        self.generator.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.generator.step()
        return losses


# -------------------------------------------------------------------------------------------------------- measuring
def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """How long it takes, the device's share included."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def losses_of(
    images: np.ndarray, width: int, scale: Scale, config: TrainConfig, device: torch.device, *, plain: bool, order: int
) -> np.ndarray:
    """The critic's loss at each of `scale.steps` steps, (n,)."""
    batches = Order(np.arange(len(images)), scale.batch, order)
    model = build(Architecture(SIZE, BANDS, width), config.seed)
    found: list[Tensor] = []
    if plain:
        loop = Plain(model, config, 1e-4, device)
        feed = Feed(images, torch.device("cpu"))
        while len(found) < scale.steps:
            found += loop.take([feed[next(batches)].contiguous() for _ in range(config.n_critic)])
    else:
        steps = GanSteps(laid_out(model, device), Feed(images, device), 1e-4, config)
        while len(found) < scale.steps:
            found += [steps.step_critic(next(batches))[0] for _ in range(config.n_critic)]
            steps.step_generator(scale.batch)
    return torch.stack(found).double().cpu().numpy()


def flops_of(work: Callable[[], Any]) -> float:
    """Floating point operations of its convolutions and matrix products."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def measure(precision: str, target: float | None, name: str) -> Row:
    """Our loop in `precision` beside the plain one."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    scale = ON_GPU if device.type == "cuda" else ON_CPU
    config = TrainConfig(precision=precision)  # type: ignore[arg-type]
    n_critic = config.n_critic
    images = blobs(scale.images, SIZE, BANDS)
    architecture = Architecture(SIZE, BANDS, scale.width)
    set_tf32(config.precision)
    with tempfile.TemporaryDirectory(prefix="voorwerp-bench-train-") as folder:
        np.save(Path(folder) / "images.npy", images)
        loader = DataLoader(
            Images(Path(folder) / "images.npy"), scale.batch, shuffle=True, num_workers=scale.workers, drop_last=True
        )
        coming, order = for_ever(loader), Order(np.arange(len(images)), scale.batch, config.seed)
        plain = Plain(build(architecture, config.seed), config, 1e-4, device)
        ours = GanSteps(laid_out(build(architecture, config.seed), device), Feed(images, device), 1e-4, config)

        def take_theirs(n: int) -> None:
            for _ in range(n):
                plain.take([next(coming) for _ in range(n_critic)])

        def take_ours(n: int) -> None:
            for _ in range(n):
                ours.take([next(order) for _ in range(n_critic)])

        take_theirs(scale.warm), take_ours(scale.warm)
        n_images = scale.timed * n_critic * scale.batch
        rates: dict[str, list[float]] = {"theirs": [], "ours": []}
        for _ in range(scale.rounds):
            rates["theirs"].append(n_images / seconds_of(lambda: take_theirs(scale.timed), device))
            rates["ours"].append(n_images / seconds_of(lambda: take_ours(scale.timed), device))
        flops = flops_of(lambda: take_ours(1)) / (n_critic * scale.batch)
    a, b, ours_losses = (
        losses_of(images, scale.steps_width, scale, config, device, plain=plain, order=order)
        for plain, order in ((True, 0), (True, 1), (False, 0))
    )
    off, spread = (float(np.abs(other - a).mean()) for other in (ours_losses, b))
    if off >= spread:
        raise RuntimeError(f"losses differ by {off:.3g} from the plain loop's, whose two orders differ by {spread:.3g}")
    ours_rate, theirs_rate = (statistics.median(rates[whose]) for whose in ("ours", "theirs"))
    note = (
        f"critic losses over {len(a)} steps differ by {off:.2g} in the mean, those of two orders of the plain loop by "
        f"{spread:.2g}; {flops / 1e9:.2f} GFLOP an image"
    )
    extra: dict[str, Any] = {"rates": rates, "flops_per_image": flops, "loss_difference": off, "loss_spread": spread}
    if device.type == "cuda":
        card = torch.cuda.get_device_name(device)
        unit = {"float32": "tf32"}.get(precision, precision)
        peak = PEAKS.get(card, {}).get(unit)
        share = f"{ours_rate * flops / peak:.0%} of its peak in {unit}" if peak else "peak not known"
        note = f"{card}, {share}; {note}"
        extra |= {"device": card, "peak": peak}
    return Row(
        name=name,
        what=f"train {SIZE} px, width {scale.width}, batch {scale.batch}, n_critic {n_critic}, {precision}, "
        f"{device.type}, {torch.get_num_threads()} threads; median of {scale.rounds}",
        ours=ours_rate,
        theirs=theirs_rate,
        ratio=statistics.median(o / t for o, t in zip(rates["ours"], rates["theirs"], strict=True)),
        unit="images/s",
        alternative=f"plain eager float32 loop, torch's defaults, DataLoader with {scale.workers} workers",
        target=target,
        note=note,
        extra=extra,
    )


def train() -> Row:
    """What is fastest where the row runs: bfloat16 on a GPU, float32 on a CPU."""
    return measure("bfloat16", 4.0, "train") if torch.cuda.is_available() else measure("float32", 1.0, "train")


def float32() -> list[Row]:
    """The default precision on a GPU; on a CPU that is row `train`."""
    return [measure("float32", None, "train-float32")] if torch.cuda.is_available() else []


LONG_ROWS = {"train": train, "train-float32": float32}
