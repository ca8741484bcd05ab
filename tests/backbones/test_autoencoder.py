"""The autoencoder: its bottleneck by the book, padding that never weighs, and pictures of any size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.distributions import kl_divergence as kl_by_torch

from framework.backbones.autoencoder import KLAutoencoder
from framework.errors import UserError
from framework.metrics.feature_net import FeatureNet
from framework.metrics.reconstruction import psnr, ssim
from framework.noise import BatchKey
from framework.objectives.autoencoder import AutoencoderObjective, kl_divergence


def stirred(seed: int = 0, **settings: object) -> KLAutoencoder:
    """A network none of whose layers is at its beginning, where residual branches are zero."""
    torch.manual_seed(seed)
    network = KLAutoencoder(**{"channels": 2, "width": 8, "multipliers": (1, 2, 2), "latent_channels": 3, **settings})  # type: ignore[arg-type]
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return network.eval().requires_grad_(False)


def rows(mask_lengths: list[int], height: int, width: int) -> Tensor:
    """A mask (B, 1, H, W) of pictures that end after so many rows."""
    real = torch.arange(height) < torch.tensor(mask_lengths)[:, None]
    return real[:, None, :, None].expand(-1, 1, -1, width)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (12, 20), (13, 7), (4, 1)])
def test_pictures_of_any_size_come_back_in_their_size(height: int, width: int) -> None:
    network = stirred()
    x = torch.randn(2, 2, height, width)
    mean, log_variance = network.encode(x)
    assert mean.shape == log_variance.shape == (2, 3, *network.latent_size(height, width))
    assert network.latent_size(height, width) == (-(-height // 4), -(-width // 4))
    assert network(x).x.shape == x.shape
    assert network.decode(mean).shape[-2:] == (4 * mean.shape[-2], 4 * mean.shape[-1])


def test_padding_does_not_weigh() -> None:
    """A picture of 10 rows is coded the same on a canvas of its own, on a larger one, and whatever lies beyond."""
    network = stirred()
    x = torch.randn(1, 2, 10, 12)
    alone = network(x)
    for more, beyond in ((2, 0.0), (14, 0.0), (14, 5.0)):
        canvas = torch.nn.functional.pad(x, (0, 0, 0, more), value=beyond)
        mask = rows([10], 10 + more, 12)
        padded = network(canvas, mask)
        torch.testing.assert_close(padded.mean[:, :, :3], alone.mean)
        torch.testing.assert_close(padded.log_variance[:, :, :3], alone.log_variance)
        torch.testing.assert_close(padded.x[:, :, :10], alone.x)
        assert not bool(padded.mean[:, :, 3:].any())


def test_padding_does_not_weigh_in_the_loss() -> None:
    network = stirred()
    objective = AutoencoderObjective(kl=0.1, perceptual=1.0, adversarial=0.5)
    torch.manual_seed(1)
    objective.prepare(2, FeatureNet(2, 3, width=4))
    x = torch.randn(2, 2, 16, 8)
    mask = rows([16, 8], 16, 8)
    other = torch.where(mask, x, 7.0)
    one, two = (objective(network, given, mask, BatchKey(0, 0, 0, 2)) for given in (x, other))
    torch.testing.assert_close(one.loss, two.loss)
    assert {"l1", "kl", "perceptual", "generator", "discriminator"} == set(one.parts)
    alone = objective(network, x[1:, :, :8], None, None)
    both = objective(network, x, mask, None)
    for name in ("l1", "kl"):
        torch.testing.assert_close(both.parts[name][1:], alone.parts[name])


def test_a_latent_depends_on_its_surroundings_alone() -> None:
    network = stirred()
    x = torch.randn(1, 2, 128, 8)
    changed = x.clone()
    changed[:, :, 96:] += 3
    torch.testing.assert_close(network.encode(x)[0][:, :, :8], network.encode(changed)[0][:, :, :8])


def test_kl_of_a_standard_normal_is_zero_and_else_the_closed_form() -> None:
    zero = torch.zeros(2, 3, 4, 4)
    assert kl_divergence(zero, zero).tolist() == [0, 0]
    mean, log_variance = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    posterior = Normal(mean, (0.5 * log_variance).exp())
    each = kl_by_torch(posterior, Normal(zero, zero + 1))
    torch.testing.assert_close(kl_divergence(mean, log_variance), each.sum((1, 2, 3)))
    mask = rows([4, 2], 4, 4)
    torch.testing.assert_close(kl_divergence(mean, log_variance, mask)[1], each[1, :, :2].sum())


def test_latents_are_standardised_and_back() -> None:
    network = stirred()
    network.latent_mean.copy_(torch.tensor([1.0, -2.0, 0.5]))
    network.latent_std.copy_(torch.tensor([2.0, 0.1, 3.0]))
    x = torch.randn(2, 2, 8, 8)
    mean = network.encode(x)[0]
    z = network.to_latents(x)
    torch.testing.assert_close(z[:, 1], (mean[:, 1] + 2) / 0.1)
    torch.testing.assert_close(network.from_latents(z), network(x).x, atol=1e-4, rtol=1e-4)


def test_the_discriminator_and_the_autoencoder_learn_from_their_own_losses_alone() -> None:
    torch.manual_seed(0)
    network = KLAutoencoder(1, 4, (1, 1), latent_channels=2)
    objective = AutoencoderObjective(adversarial=1.0, discriminator_width=4)
    objective.prepare(1, None)
    assert objective.discriminator is not None
    decoded = network(torch.randn(2, 1, 8, 8)).x
    generator, own = objective.discriminator.losses(decoded, torch.randn(2, 1, 8, 8), None)
    generator.sum().backward(retain_graph=True)
    assert all(p.grad is None for p in objective.parameters())
    assert network.read.weight.grad is not None
    network.zero_grad()
    own.sum().backward()
    assert all(p.grad is not None for p in objective.parameters())
    assert network.read.weight.grad is None


def test_features_are_frozen_whatever_is_trained() -> None:
    objective = AutoencoderObjective(perceptual=1.0)
    features = FeatureNet(1, 2, width=4)
    objective.prepare(1, features)
    objective.train()
    before = {name: value.clone() for name, value in features.state_dict().items()}
    x = torch.randn(2, 1, 8, 8, requires_grad=True)
    assert objective.features is not None
    distance = objective.features(x, torch.zeros(2, 1, 8, 8), None)
    distance.sum().backward()
    assert x.grad is not None and x.grad.abs().max() > 0 and (distance > 0).all()
    assert all(torch.equal(before[name], value) for name, value in features.state_dict().items())
    assert objective.features(x.detach(), x.detach(), None).abs().max() == 0


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="at least one level"):
        KLAutoencoder(3, multipliers=())
    with pytest.raises(UserError, match="not negative"):
        AutoencoderObjective(kl=-1.0)
    with pytest.raises(UserError, match="there is none for these data"):
        AutoencoderObjective(perceptual=1.0).prepare(3, None)


def test_psnr_and_ssim_by_hand() -> None:
    x = torch.rand(3, 2, 16, 16)
    assert psnr(x, x, 1.0).tolist() == [100.0] * 3
    torch.testing.assert_close(psnr(x, x + 0.1, 1.0), torch.full((3,), 20.0, dtype=torch.float64), atol=1e-4, rtol=0)
    half = torch.where(torch.arange(16)[:, None] < 8, 0.1, 0.2)
    mask = (torch.arange(2) < 1).expand(3, 2)
    torch.testing.assert_close(psnr(torch.zeros(3, 2), torch.tensor([[0.1, 9.0]] * 3), 1.0, mask)[0].item(), 20.0)
    assert psnr(x, x + half, 1.0)[0] < 20
    torch.testing.assert_close(ssim(x, x, 1.0), torch.ones(3, dtype=torch.float64))
    # Of constant pictures only the means' term is left.
    a, b, c1 = 0.2, 0.6, 1e-4
    flat = ssim(torch.full((1, 1, 16, 16), a), torch.full((1, 1, 16, 16), b), 1.0)
    torch.testing.assert_close(flat.item(), (2 * a * b + c1) / (a**2 + b**2 + c1), atol=1e-5, rtol=0)
    assert ssim(x, 1 - x, 1.0).max() < 0
