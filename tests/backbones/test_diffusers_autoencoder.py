"""diffusers' autoencoders in the place of ours: the same numbers, any size, and nothing but ours once taken over."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments import train
from experiments.configuration import compose
from framework import load
from framework.backbones.diffusers_autoencoder import DiffusersAutoencoder, pretrained
from framework.build import MODEL_FOLDER, build
from framework.errors import UserError
from framework.latents import TrainedAutoencoder

diffusers = pytest.importorskip("diffusers")

KL = {
    "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4, "latent_channels": 3, "sample_size": 16,
    "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2,
}  # fmt: skip
TINY = {
    "encoder_block_out_channels": [8, 8], "decoder_block_out_channels": [8, 8], "num_encoder_blocks": [1, 1],
    "num_decoder_blocks": [1, 1], "latent_channels": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Fresh networks as diffusers saves them: each kind, and a pipeline's folder with a `vae` in it."""
    place = tmp_path_factory.mktemp("diffusers")
    torch.manual_seed(0)
    diffusers.AutoencoderKL(**KL).save_pretrained(place / "kl")
    diffusers.AutoencoderTiny(**TINY).save_pretrained(place / "tiny")
    diffusers.AutoencoderKL(**KL).save_pretrained(place / "pipeline" / "vae")
    diffusers.VQModel(norm_num_groups=4, block_out_channels=(8,)).save_pretrained(place / "vq")
    return {path.name: path for path in place.iterdir()}


def picture(height: int = 16, width: int = 16) -> Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_kl_gives_the_numbers_that_diffusers_gives(folders: dict[str, Path]) -> None:
    ours, theirs = pretrained(str(folders["kl"])).eval(), diffusers.AutoencoderKL.from_pretrained(folders["kl"]).eval()
    x = picture()
    mean, log_variance = ours.encode(x)
    posterior = theirs.encode(x).latent_dist
    assert torch.equal(mean, posterior.mean) and torch.equal(log_variance, posterior.logvar)
    assert torch.equal(ours.decode(mean), theirs.decode(mean).sample)
    assert (ours.channels, ours.latent_channels, ours.stride) == (3, 3, 2)


@torch.no_grad()
def test_tiny_gives_the_numbers_that_diffusers_gives(folders: dict[str, Path]) -> None:
    ours = pretrained(str(folders["tiny"])).eval()
    theirs = diffusers.AutoencoderTiny.from_pretrained(folders["tiny"]).eval()
    x = picture()
    mean, deviation = ours.posterior(x)
    assert torch.equal(mean, theirs.encode(x).latents) and float(deviation.max()) < 1e-6
    assert torch.equal(ours.decode(mean), theirs.decode(mean).sample)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["kl", "tiny", "pipeline"])
def test_pictures_of_any_size_come_back_in_their_size(folders: dict[str, Path], kind: str) -> None:
    network = pretrained(str(folders[kind])).eval()
    coded = network(picture(13, 10))
    assert coded.x.shape == (2, 3, 13, 10)
    assert coded.mean.shape[-2:] == network.latent_size(13, 10) == (7, 5)


def test_it_is_made_from_plain_values(folders: dict[str, Path]) -> None:
    network = pretrained(str(folders["kl"]))
    target = "framework.backbones.diffusers_autoencoder.DiffusersAutoencoder"
    again = build({"_target_": target, "kind": network.kind, "settings": network.settings}, MODEL_FOLDER)
    again.load_state_dict(network.state_dict())


def test_what_is_no_autoencoder_is_told(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder of diffusers"):
        pretrained(str(tmp_path))
    with pytest.raises(UserError, match="holds diffusers' VQModel"):
        pretrained(str(folders["vq"]))
    with pytest.raises(UserError, match="not supported as an autoencoder"):
        DiffusersAutoencoder("VQModel", {})
    network = pretrained(str(folders["kl"]))
    mask = torch.ones(2, 1, 16, 16, dtype=torch.bool)
    network.encode(picture(), mask)
    mask[0, 0, 8:] = False
    with pytest.raises(UserError, match="reads whole pictures"):
        network.encode(picture(), mask)


def test_without_diffusers_people_are_told(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"pip install 'diffract\[diffusers\]'"):
        pretrained(str(folders["kl"]))


def test_a_model_is_trained_in_its_latents(folders: dict[str, Path], tmp_path: Path) -> None:
    """Taken over, measured on the data, and carried by the model: the folder that it came from is not needed again."""
    run = tmp_path / "run"
    small = ["data.train_length=40", "data.validation_length=8", "data.batch_size=8", "backbone.width=8"]
    words = ["experiment=images/shapes_latent", f"autoencoder.pretrained={folders['kl']}", "debug=fast", "logger=csv"]
    train.run(compose("train", [*words, *small, f"run={run}"]))
    held = TrainedAutoencoder(str(run / "autoencoder"))
    assert isinstance(held.network, DiffusersAutoencoder)
    model = load(run)
    assert tuple(model.modality.space.shape) == (3, 8, 8)  # type: ignore[attr-defined]
    samples = model.sample("a red circle", 2, steps=2).samples
    assert samples.shape == (2, 3, 16, 16)
    from modalities.images.data import ShapesData

    data = ShapesData(train_length=40, validation_length=8, batch_size=40)
    z = held.encode(next(iter(data.train_dataloader()))["image"].float() / 127.5 - 1)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4, rtol=0)
