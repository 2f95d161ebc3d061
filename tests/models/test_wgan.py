"""Shapes, initial weights, and losses against cases worked out by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from models.wgan import (
    Architecture,
    anomaly_score,
    build,
    critic_loss,
    encoder_loss,
    feature_score,
    generator_loss,
    gradient_norm,
    image_score,
)


class LinearCritic(nn.Module):
    """D(x) = w · x: its gradient is w everywhere."""

    def __init__(self, w: Tensor) -> None:
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.w).flatten(1).sum(1)


@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("size", "side"), [(32, 2), (64, 4), (96, 6), (128, 8)])
def test_shapes(size: int, side: int, bands: int) -> None:
    model = build(Architecture(size, bands, width=2, latent_size=7), seed=0).eval()
    x = torch.rand(3, bands, size, size)
    assert model.encoder(x).shape == (3, 7)
    assert model.critic(x).shape == (3,)
    assert model.critic.features(x).shape == (3, 16 * side * side)
    assert model.architecture.n_features == 16 * side * side
    made = model.generator(torch.randn(3, 7))
    assert made.shape == (3, bands, size, size)
    assert 0 <= made.min() <= made.max() <= 1


def test_the_papers_network_has_the_papers_layers() -> None:
    model = build(Architecture(96, 3), seed=0)
    assert [tuple(s.weight.shape) for s in model.critic.stages] == [
        (64, 3, 5, 5),
        (128, 64, 5, 5),
        (256, 128, 5, 5),
        (512, 256, 5, 5),
    ]
    assert model.critic.judge.weight.shape == (1, 18432)
    assert model.generator.expand.weight.shape == (18432, 128)
    assert [tuple(s.weight.shape) for s in model.generator.stages] == [
        (512, 256, 5, 5),
        (256, 128, 5, 5),
        (128, 64, 5, 5),
        (64, 3, 5, 5),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 50, "bands": 3}, "size 50 is not a multiple of 16"),
        ({"size": 0, "bands": 3}, "size 0 is not a multiple of 16"),
        ({"size": 32, "bands": 0}, "bands is 0; it must be at least 1"),
        ({"size": 32, "bands": 3, "encoder_activation": "relu"}, '"relu"; it must be "linear" or "tanh3"'),
    ],
)
def test_an_impossible_architecture_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Architecture(**arguments)  # type: ignore[arg-type]


def test_a_seed_gives_the_weights_and_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, same, other = (build(Architecture(32, 1, width=2), seed) for seed in (1, 1, 2))
    assert torch.rand(1) == expected
    assert torch.equal(one.critic.stages[0].weight, same.critic.stages[0].weight)
    assert not torch.equal(one.critic.stages[0].weight, other.critic.stages[0].weight)


def test_initial_weights_have_the_stated_spread_and_no_bias() -> None:
    model = build(Architecture(32, 3, width=32), seed=0)
    layer = model.critic.stages[2]  # 64 → 128 channels
    assert layer.weight.std().item() == pytest.approx(math.sqrt(4 / (64 * 25 + 128 * 25 / 4)), rel=0.02)
    layer = model.generator.stages[0]  # 256 → 128 channels
    assert layer.weight.std().item() == pytest.approx(math.sqrt(4 / (256 * 25 / 4 + 128 * 25)), rel=0.02)
    layer = model.encoder.project
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / (layer.in_features + layer.out_features)), rel=0.02)
    assert all((p == 0).all() for name, p in model.named_parameters() if name.endswith("bias"))


def test_the_generator_is_noisy_in_training_only() -> None:
    generator = build(Architecture(32, 1, width=2), seed=0).generator
    z = torch.randn(2, 128)
    assert not torch.equal(generator(z), generator(z))
    generator.eval()
    assert torch.equal(generator(z), generator(z))


def test_the_bounded_encoder_stays_within_three() -> None:
    model = build(Architecture(32, 1, width=2, encoder_activation="tanh3"), seed=0)
    model.encoder.project.weight.data *= 1000
    z = model.encoder(torch.rand(4, 1, 32, 32))
    assert z.abs().max() <= 3
    assert z.abs().max() > 2.9


# --------------------------------------------------------------------------------------------------------- losses
def test_the_gradient_norm_of_a_linear_critic_is_that_of_its_weights() -> None:
    w = torch.full((3, 4, 4), 0.5)  # norm 0.5 · sqrt(48)
    norm = gradient_norm(LinearCritic(w), torch.rand(5, 3, 4, 4), torch.rand(5, 3, 4, 4), torch.rand(5))
    torch.testing.assert_close(norm, torch.full((5,), 0.5 * math.sqrt(48)))


def test_the_gradient_norm_written_out_is_that_of_a_double_backward() -> None:
    """The same norms, and the same gradients of the penalty by every weight; those by biases are zero."""
    critic = build(Architecture(32, 2, width=3), seed=0).critic.double()
    for parameter in critic.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    real, fake, epsilon = (torch.rand(shape, dtype=torch.float64) for shape in ((4, 2, 32, 32), (4, 2, 32, 32), (4,)))
    norm = gradient_norm(critic, real, fake, epsilon)
    ((norm - 1) ** 2).mean().backward()
    found = {name: p.grad for name, p in critic.named_parameters()}
    critic.zero_grad()
    y = torch.lerp(real, fake, epsilon.view(-1, 1, 1, 1)).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(y).sum(), y, create_graph=True)
    expected = gradient.flatten(1).norm(dim=1)
    ((expected - 1) ** 2).mean().backward()
    torch.testing.assert_close(norm, expected)
    for name, parameter in critic.named_parameters():
        if found[name] is None:
            assert name.endswith("bias")
            assert parameter.grad is None or not parameter.grad.any()
        else:
            torch.testing.assert_close(found[name], parameter.grad, msg=name)


def test_a_part_of_a_batch_gets_the_noise_that_it_gets_in_the_whole() -> None:
    generator = build(Architecture(32, 1, width=2), seed=0).generator
    z = torch.randn(5, 128)
    torch.manual_seed(3)
    whole = generator(z)
    torch.manual_seed(3)
    torch.testing.assert_close(generator(z[2:4], of=(5, slice(2, 4))), whole[2:4])


def test_the_gradient_is_taken_between_real_and_fake() -> None:
    def square(y: Tensor) -> Tensor:
        return (y**2).flatten(1).sum(1) / 2  # gradient y

    critic = nn.Module()
    critic.forward = square  # type: ignore[method-assign]
    real, fake = torch.zeros(3, 1, 1, 1), torch.ones(3, 1, 1, 1)
    norm = gradient_norm(critic, real, fake, torch.tensor([0.0, 0.25, 1.0]))
    torch.testing.assert_close(norm, torch.tensor([0.0, 0.25, 1.0]))


def test_the_critic_loss_of_a_linear_critic() -> None:
    w = torch.zeros(1, 2, 2)
    w[0, 0, 0] = 3.0  # D(x) = 3 x₀₀, gradient norm 3
    real, fake = torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2)
    real[:, 0, 0, 0] = torch.tensor([1.0, 2.0])
    fake[:, 0, 0, 0] = torch.tensor([0.5, 0.5])
    loss, norm = critic_loss(LinearCritic(w), real, fake, torch.rand(2), penalty=10.0)
    assert loss.item() == pytest.approx(3 * 0.5 - 3 * 1.5 + 10 * (3 - 1) ** 2)
    assert norm.item() == pytest.approx(3)


def test_the_penalty_pulls_the_gradient_norm_towards_one() -> None:
    critic = LinearCritic(torch.full((1, 1, 1), 5.0))
    same = torch.rand(4, 1, 1, 1)
    loss, _ = critic_loss(critic, same, same, torch.rand(4), penalty=10.0)
    loss.backward()
    assert critic.w.grad is not None
    assert critic.w.grad.item() == pytest.approx(2 * 10 * (5 - 1))


def test_the_generator_loss_is_minus_the_mean_verdict() -> None:
    critic = LinearCritic(torch.ones(1, 1, 1))
    assert generator_loss(critic, torch.tensor([1.0, 4.0]).view(2, 1, 1, 1)).item() == pytest.approx(-2.5)


def test_scores_are_sums_for_each_image() -> None:
    x, made = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    made[0] = 0.5
    made[1, 0, 0, 0] = 2
    assert image_score(x, made).tolist() == [48 * 0.25, 4]
    assert feature_score(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])).tolist() == [4 + 9]


def test_the_anomaly_score_of_the_published_sample_row() -> None:
    score = anomaly_score(torch.tensor([189.56734]), torch.tensor([347.53247]))
    assert score.item() == pytest.approx(221.160, abs=1e-3)


def test_the_encoder_loss_is_the_mean_anomaly_score_and_reaches_the_encoder() -> None:
    model = build(Architecture(32, 2, width=2, latent_size=5), seed=0).eval()
    x = torch.rand(3, 2, 32, 32)
    loss, mean_image, mean_feature = encoder_loss(model, x, feature_weight=0.3)
    expected, images_sum, features_sum = [], 0.0, 0.0
    for image in x:
        made = model.generator(model.encoder(image[None]))
        pixels = ((image - made) ** 2).sum()
        features = ((model.critic.features(image[None]) - model.critic.features(made)) ** 2).sum()
        expected.append((0.7 * pixels + 0.3 * features).item())
        images_sum += pixels.item()
        features_sum += features.item()
    assert loss.item() == pytest.approx(sum(expected) / 3, rel=1e-5)
    assert mean_image.item() == pytest.approx(images_sum / 3, rel=1e-5)
    assert mean_feature.item() == pytest.approx(features_sum / 3, rel=1e-5)
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.encoder.project.parameters())


def test_scores_are_those_of_the_published_script_one_image_at_a_time() -> None:
    """compute_anomaly_scores.py of Mantha et al.: batch mean over a batch of one, then the sum over everything."""
    model = build(Architecture(32, 3, width=2, latent_size=5), seed=1).eval()
    x = torch.rand(4, 3, 32, 32)
    with torch.inference_mode():
        made = model.reconstruct(x)
        image = image_score(x, made)
        feature = feature_score(model.critic.features(x), model.critic.features(made))
        for i, one in enumerate(x.split(1)):
            again = model.generator(model.encoder(one))
            s_image = (one - again).pow(2).mean(0).sum()
            s_feature = (model.critic.features(one) - model.critic.features(again)).pow(2).mean(0).sum()
            published = (1 - 0.2) * s_image + 0.2 * s_feature
            torch.testing.assert_close(anomaly_score(image, feature)[i], published)


def test_in_bfloat16_losses_are_float32_and_near_those_of_float32() -> None:
    model = build(Architecture(32, 2, width=4, latent_size=5), seed=0).eval()
    x, fake, epsilon = torch.rand(4, 2, 32, 32), torch.rand(4, 2, 32, 32), torch.rand(4)
    found = []
    for is_lowered in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_lowered):
            loss_c, norm = critic_loss(model.critic, x, fake, epsilon, penalty=10.0)
            losses = [loss_c, norm, generator_loss(model.critic, fake), *encoder_loss(model, x)]
        assert all(loss.dtype == torch.float32 for loss in losses)
        found.append(torch.stack([loss.detach() for loss in losses]))
    assert not torch.equal(*found)
    torch.testing.assert_close(*found, rtol=0.03, atol=0.003)
    assert found[0][1] == found[1][1]  # the gradient norm is not lowered
