"""An autoencoder is trained, resumed, saved and judged as everything else; and diffusion models live in its latents."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from experiments import evaluate, sample, train
from experiments.configuration import compose
from framework import load
from framework.backbones.autoencoder import KLAutoencoder
from framework.build import USER_CONFIG, build
from framework.conditions import Unconditional
from framework.errors import UserError
from framework.files import sha256
from framework.latents import Autoencoder, TrainedAutoencoder, as_picture, as_state, load_autoencoder
from framework.metrics.feature_net import FeatureNet
from framework.metrics.measurement import read_metrics
from framework.metrics.reconstruction import psnr
from framework.noise import BatchKey
from framework.objectives.autoencoder import AutoencoderObjective
from framework.spaces import Euclidean, Masked
from framework.store import ModelFolderError
from framework.training.autoencoder import latent_statistics
from framework.training.checkpoints import latest
from modalities.images.data import ShapesData
from modalities.images.modality import Images

SMALL = [
    "experiment=images/shapes_vae",
    "debug=fast",
    "logger=csv",
    "backbone.width=8",
    "data.train_length=40",
    "data.validation_length=24",
    "data.batch_size=8",
    "objective.adversarial=0.1",
    "optimizer.lr=0.01",
    "ema.half_life=8",
]


def go(command: Any, name: str, *overrides: str) -> Any:
    return command.run(compose(name, list(overrides)))


@pytest.fixture(scope="module")
def patched() -> Any:
    """A classifier of shapes that is not trained: its features are as good as any for a test."""
    with pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(5)
        network = FeatureNet(3, 3, width=4).eval()
        patch.setattr(Images, "_classifier", lambda self, data: network)
        yield


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory, patched: Any) -> Path:
    run = tmp_path_factory.mktemp("runs") / "vae"
    go(train, "train", *SMALL, f"run={run}")
    return run


@pytest.fixture(scope="module")
def latent(vae: Path) -> Path:
    """A diffusion model on the latents."""
    run = vae.parent / "latent"
    small = ["backbone.width=8", "data.train_length=16", "data.validation_length=16", "data.batch_size=8"]
    words = ["experiment=images/shapes_latent", f"autoencoder.run={vae}", "debug=fast", "logger=csv"]
    go(train, "train", *words, *small, f"run={run}")
    return run


def pictures() -> tuple[Images, dict[str, Any]]:
    data = ShapesData(train_length=40, validation_length=8, batch_size=40)
    data.setup()
    return Images(Unconditional(), 16, 3), next(iter(data.train_dataloader()))


def test_the_run_explains_itself(vae: Path) -> None:
    assert {"config.yaml", "metrics.csv", "checkpoints", "model", "samples"} <= {path.name for path in vae.iterdir()}
    columns = (vae / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train/l1", "train/kl", "train/perceptual", "train/discriminator", "val/loss", "val/l1"} <= set(columns)
    assert (vae / "samples" / "step-00000004" / "sheet.png").is_file()
    assert "autoencoder" in (vae / "model" / "README.md").read_text()


def test_latents_of_the_training_data_have_zero_mean_and_unit_variance(vae: Path) -> None:
    modality, batch = pictures()
    z = TrainedAutoencoder(str(vae)).encode(modality.encode(batch)[0])
    assert z.shape == (40, 4, 8, 8)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3), correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_what_is_saved_is_the_average_and_gives_the_same_reconstructions(vae: Path) -> None:
    modality, batch = pictures()
    x, condition = modality.encode(batch)
    weights = torch.load(latest(vae), weights_only=True)["state_dict"]
    average = {name.removeprefix("ema.network."): w for name, w in weights.items() if name.startswith("ema.network.")}
    network = KLAutoencoder(3, width=8)
    network.load_state_dict(average)
    loaded = load_autoencoder(vae)
    torch.testing.assert_close(loaded.reconstruct(x, condition), network.eval()(x).x.detach())
    held = TrainedAutoencoder(str(vae / "model"))
    torch.testing.assert_close(held.decode(held.encode(x)), loaded.reconstruct(x, condition), atol=1e-4, rtol=1e-4)
    assert held == TrainedAutoencoder(str(vae)) and len({held, TrainedAutoencoder(str(vae))}) == 1


def test_a_handful_of_pictures_is_learnt_by_heart() -> None:
    modality, batch = pictures()
    x = modality.encode(batch)[0][:4]
    torch.manual_seed(0)
    network, objective = KLAutoencoder(3, 8), AutoencoderObjective(kl=1e-5)
    objective.prepare(3, None)
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    before = psnr(x, network(x).x.detach(), 2.0).mean()
    for step in range(100):
        loss = objective(network, x, None, BatchKey(0, step, 0, 4)).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = psnr(x, network(x).x.detach(), 2.0).mean()
    assert after > 20 and after > before + 8


def test_resumed_equals_uninterrupted(vae: Path, tmp_path: Path, patched: Any) -> None:
    parts = tmp_path / "parts"
    shutil.copytree(vae, parts)
    for newer in (parts / "checkpoints").glob("step-00000004*"):
        newer.unlink()
    go(train, "train", f"resume={parts}")
    whole, again = (torch.load(latest(run), weights_only=True) for run in (vae, parts))
    assert any(name.startswith("objective.discriminator") for name in whole["state_dict"])
    assert all(torch.equal(weight, again["state_dict"][name]) for name, weight in whole["state_dict"].items())
    assert (vae / "model" / "model.safetensors").read_bytes() == (parts / "model" / "model.safetensors").read_bytes()


def test_statistics_count_real_positions_of_each_item_once() -> None:
    class Clips:
        """Rows of (C, F) = (1, 4), as masked modalities have them."""

        space = Masked((1, 4))

        def encode(self, batch: Any) -> Any:
            from tensordict import TensorDict

            x, lengths = batch
            mask = torch.arange(x.shape[1]) < lengths[:, None]
            return x, TensorDict({"mask": mask}, batch_size=[len(x)])

    class Batches(list):  # type: ignore[type-arg]
        dataset = range(5)

    torch.manual_seed(0)
    network = KLAutoencoder(1, 4, (1, 1), latent_channels=2)
    x, lengths = torch.randn(5, 8, 1, 4), torch.tensor([8, 6, 4, 2, 8])
    held = Autoencoder(Clips(), network)  # type: ignore[arg-type]
    batches = Batches([(x[:3], lengths[:3]), (x[[3, 4, 0]], lengths[[3, 4, 0]]), (x[:3], lengths[:3])])
    mean, std = latent_statistics(held, batches)
    own = [network.encode(row[None, :n].transpose(1, 2))[0].detach().flatten(2)[0] for row, n in zip(x, lengths)]  # noqa: B905
    every = torch.cat(own, dim=1)
    torch.testing.assert_close(mean, every.mean(1))
    torch.testing.assert_close(std, every.std(1, correction=0))


def test_layouts_are_told_by_the_space() -> None:
    from tensordict import TensorDict

    x = torch.randn(2, 5, 3, 4)
    condition = TensorDict({"mask": torch.tensor([[True] * 5, [True] * 2 + [False] * 3])}, batch_size=[2])
    space = Masked((3, 4))
    picture, mask = as_picture(x, condition, space)
    assert picture.shape == (2, 3, 5, 4) and mask is not None and mask[1, 0, :, 0].tolist() == [True] * 2 + [False] * 3
    assert torch.equal(as_state(picture, space), x)
    image, nothing = as_picture(x, condition, Euclidean((5, 3, 4)))
    assert image is x and nothing is None
    with pytest.raises(UserError, match="reads pictures"):
        as_picture(x, condition, Masked(12))


def test_evaluation_reports_reconstructions(vae: Path, tmp_path: Path, patched: Any) -> None:
    go(evaluate, "evaluate", f"run={vae}", "n=20", f"out={tmp_path}")
    metrics = read_metrics(tmp_path / "metrics.json")
    assert set(metrics) == {"psnr", "ssim", "frechet"}
    for measurement in metrics.values():
        assert measurement.n == 20 and measurement.low <= measurement.value <= measurement.high
    assert (tmp_path / "reconstructions" / "sheet.png").is_file()
    with pytest.raises(UserError, match="takes no steps"):
        go(evaluate, "evaluate", f"run={vae}", "steps=4")


def test_a_diffusion_model_lives_in_latents(vae: Path, latent: Path, tmp_path: Path) -> None:
    model = load(latent)
    assert tuple(model.modality.space.shape) == (4, 8, 8)  # type: ignore[attr-defined]
    images = model.sample("a red circle", 2, steps=2).samples
    assert images.shape == (2, 3, 16, 16) and images.dtype == torch.uint8
    go(sample, "sample", f"run={latent}", "prompt=a red circle", "n=1", "steps=2", f"out={tmp_path / 'out'}")
    assert (tmp_path / "out" / "00000.png").is_file()


def test_a_moved_model_brings_its_autoencoder(vae: Path, latent: Path, tmp_path: Path) -> None:
    expected = load(latent).sample("a red circle", 2, steps=2).samples
    moved = shutil.copytree(latent / "model", tmp_path / "elsewhere")
    config = yaml.safe_load((moved / "config.yaml").read_text())
    assert config["modality"]["autoencoder"] == {
        "_target_": "framework.latents.TrainedAutoencoder",
        "path": "autoencoder",
    }
    hidden = vae.rename(vae.with_name("hidden"))
    try:
        assert torch.equal(load(moved).sample("a red circle", 2, steps=2).samples, expected)
    finally:
        hidden.rename(vae)


def test_a_model_folder_reads_no_other_folder(vae: Path, latent: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(latent / "model", tmp_path / "model")
    config = yaml.safe_load((folder / "config.yaml").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    for path in (str(vae), "../autoencoder", "..", "autoencoder/../autoencoder"):
        config["modality"]["autoencoder"]["path"] = path
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        manifest["sha256"]["config.yaml"] = sha256(folder / "config.yaml")
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(ModelFolderError, match="not in this folder"):
            load(folder)


def test_a_changed_autoencoder_is_found(latent: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(latent / "model", tmp_path / "model")
    weights = folder / "autoencoder" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelFolderError, match="does not match its checksum"):
        load(folder)
    manifest = folder / "autoencoder" / "manifest.json"
    known = json.loads(manifest.read_text())
    known["sha256"]["model.safetensors"] = sha256(weights)
    manifest.write_text(json.dumps(known))
    with pytest.raises(ModelFolderError, match="does not match its checksum"):
        load(folder)


def test_one_is_not_taken_for_the_other(vae: Path, latent: Path) -> None:
    with pytest.raises(ModelFolderError, match="holds an autoencoder, which is not sampled"):
        load(vae)
    with pytest.raises(ModelFolderError, match="holds a diffusion model"):
        TrainedAutoencoder(str(latent))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["condition_dropout=0.1"], "an autoencoder has no condition_dropout"),
        (["schedule=flow"], "an autoencoder has no schedule"),
        (["backbone=images/unet_class", "~backbone.width", "+backbone.width=8"], "not UNet"),
        (["modality.channels=1"], "states of images have 1 channels"),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], message: str, tmp_path: Path, patched: Any) -> None:
    fixed = ["backbone.channels=3"] if message.startswith("states") else []
    with pytest.raises(UserError, match=message):
        go(train, "train", *SMALL, *words, *fixed, f"run={tmp_path / 'run'}")


def test_the_presets_are_what_they_say() -> None:
    objective = build({"_target_": "framework.objectives.autoencoder.AutoencoderObjective"}, USER_CONFIG)
    assert objective.discriminator is None and objective.features is None and objective.adversarial == 0
