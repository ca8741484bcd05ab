"""LPIPS from files: the numbers of another implementation with the same weights, and words for the wrong files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from framework.backbones.autoencoder import KLAutoencoder
from framework.errors import UserError
from framework.noise import BatchKey
from framework.objectives.autoencoder import AutoencoderObjective
from framework.objectives.lpips import LPIPS, WIDTHS

models = pytest.importorskip("torchvision.models")
theirs = pytest.importorskip("torchmetrics.functional.image.lpips")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """AlexNet's features, not trained, and weights of channels that are not negative."""
    place = tmp_path_factory.mktemp("lpips")
    torch.manual_seed(0)
    network = {name: w for name, w in models.alexnet().state_dict().items() if name.startswith("features.")}
    torch.save(network, place / "alexnet.pth")
    linear = {f"lin{i}.model.1.weight": torch.rand(1, n, 1, 1) for i, n in enumerate(WIDTHS["alex"])}
    save_file(linear, place / "linear.safetensors")
    return str(place / "alexnet.pth"), str(place / "linear.safetensors")


def pictures(size: int = 64) -> tuple[Tensor, Tensor]:
    x = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return x, (x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))).clamp(-1, 1)


def test_the_numbers_are_those_of_torchmetrics(files: tuple[str, str]) -> None:
    ours = LPIPS(*files)
    other = theirs._LPIPS(pretrained=False, net="alex", pnet_rand=True, use_dropout=True).eval()
    stages = [layer for stage in ours.stages for layer in stage]
    mine = [layer for layer in stages if isinstance(layer, torch.nn.Conv2d)]
    their = [layer for layer in other.net.modules() if isinstance(layer, torch.nn.Conv2d)]
    for a, b in zip(their, mine, strict=True):
        a.load_state_dict(b.state_dict())
    for i, linear in enumerate(other.lins):
        linear.model[-1].weight.data.copy_(getattr(ours, f"weight_{i}"))
    x, y = pictures()
    with torch.no_grad():
        torch.testing.assert_close(ours(x, y), other(x, y).flatten(), rtol=1e-4, atol=1e-6)


def test_it_is_a_distance_that_small_pictures_have_too(files: tuple[str, str]) -> None:
    distance = LPIPS(*files)
    x, y = pictures(16)
    assert not distance(x, x).any() and bool((distance(x, y) > 0).all())
    torch.testing.assert_close(distance(x, y), distance(y, x))
    assert not distance.train().training and not any(p.requires_grad for p in distance.parameters())


def test_an_autoencoder_learns_by_it(files: tuple[str, str]) -> None:
    objective, network = AutoencoderObjective(perceptual=0.5, lpips=LPIPS(*files)), KLAutoencoder(3, 4)
    objective.prepare(3, None)
    terms = objective(network, pictures(16)[0], None, BatchKey(0, 0, 0, 3))
    assert bool((terms.parts["perceptual"] > 0).all())
    terms.loss.mean().backward()
    assert all(p.grad is not None for p in network.parameters())
    with pytest.raises(UserError, match="3 channels, not of 1"):
        objective.prepare(1, None)


def test_wrong_files_are_told(files: tuple[str, str], tmp_path: Path) -> None:
    features, linear = files
    with pytest.raises(UserError, match="is not there"):
        LPIPS(str(tmp_path / "alexnet.pth"), linear)
    with pytest.raises(UserError, match="not those of torchvision's vgg"):
        LPIPS(features, linear, "vgg")
    with pytest.raises(UserError, match="no weights"):
        LPIPS(features, features)
    with pytest.raises(UserError, match="not 'squeeze'"):
        LPIPS(features, linear, "squeeze")
    with pytest.raises(UserError, match=r"objective\.perceptual"):
        AutoencoderObjective(lpips=LPIPS(features, linear))
