"""Folders of diffusers: theirs opens here, ours opens there, and the images are the same."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import framework
from framework.conditions import ClassCondition, Unconditional
from framework.denoiser import TableIndex
from framework.errors import UserError
from framework.grids import UniformTime
from framework.guidance.classifier_free import ClassifierFree
from framework.interchange import from_diffusers
from framework.model import Model, SamplingDefaults
from framework.parametrizations import Epsilon, V
from framework.schedules import DDPMBetas, Flow
from framework.solvers.ddim import DDIM
from framework.solvers.dpmpp import DPMpp2M
from framework.spaces import Euclidean
from framework.store import ModelFolderError, load
from modalities.images.diffusers_unet import DiffusersUNet
from modalities.images.modality import Images

diffusers = pytest.importorskip("diffusers")
SCHEDULERS = {
    "ddim": ("DDIMScheduler", {"clip_sample": False, "timestep_spacing": "trailing"}),
    "ddpm": ("DDPMScheduler", {"clip_sample": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}),
    "dpmpp": ("DPMSolverMultistepScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing", "prediction_type": "v_prediction"}),
}


def perturb(network: torch.nn.Module) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.02 * torch.randn(p.shape))


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Our samples start from a tensor of the test's, as theirs do; on the way neither side draws any noise."""

    def begin_with(noise: Tensor) -> None:
        left = [noise]
        monkeypatch.setattr(
            Euclidean, "noise", lambda self, key, condition: left.pop() if left else torch.zeros_like(noise)
        )
        module = "diffusers.schedulers.scheduling_ddpm.randn_tensor"
        monkeypatch.setattr(module, lambda shape, **_: torch.zeros(shape))

    return begin_with


def pixels_folder(folder: Path, scheduler: str) -> Any:
    unet = diffusers.UNet2DModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    perturb(unet)
    name, options = SCHEDULERS[scheduler]
    pipeline = diffusers.DDPMPipeline(unet, getattr(diffusers, name)(**options))
    pipeline.save_pretrained(folder)
    return pipeline


def walk(unet: Any, scheduler: Any, x: Tensor, steps: int) -> Tensor:
    """What their pipelines do, in floating point."""
    scheduler.set_timesteps(steps)
    x = x * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        with torch.no_grad():
            output = unet(scheduler.scale_model_input(x, t), t).sample
        x = scheduler.step(output, t, x, return_dict=False)[0]
    return x


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_their_pixels_open_here(tmp_path: Path, same_noise: Any, scheduler: str) -> None:
    pipeline = pixels_folder(tmp_path, scheduler)
    noise = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    same_noise(noise)
    ours: list[Tensor] = []
    model = load(tmp_path)
    model.modality.decode = lambda state, condition: ours.append(state) or torch.zeros(2, 3, 8, 8)  # type: ignore
    model.sample(n=2, steps=5)
    theirs = walk(pipeline.unet, pipeline.scheduler, noise, 5)
    assert float((ours[0] - theirs).abs().max()) < 1e-4 * float(theirs.abs().max())


def test_a_pipeline_of_theirs_is_sampled_by_the_command(tmp_path: Path) -> None:
    pixels_folder(tmp_path / "theirs", "ddim")
    command = ["sample", f"run={tmp_path / 'theirs'}", "n=2", "steps=2", f"out={tmp_path / 'samples'}"]
    done = subprocess.run([sys.executable, "-m", "experiments.cli", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "samples" / "00000.png").is_file()


@pytest.fixture(scope="module")
def stable_diffusion(clip_folder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the layout of Stable Diffusion 1.x with random weights and tiny widths."""
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("sd")
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, sample_size=16, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=16,
        attention_head_dim=2, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    perturb(unet)
    scheduler = diffusers.PNDMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, skip_prk_steps=True, steps_offset=1,
        set_alpha_to_one=False,
    )  # fmt: skip
    parts = {"text_encoder": CLIPTextModel.from_pretrained(clip_folder), "unet": unet, "vae": vae}
    tokenizer = CLIPTokenizer.from_pretrained(clip_folder)
    tokenizer.model_max_length = 20
    pipeline = diffusers.StableDiffusionPipeline(
        **parts, tokenizer=tokenizer, scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


def test_stable_diffusion_opens_here_and_gives_the_same_image(stable_diffusion: Path, same_noise: Any) -> None:
    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(stable_diffusion, safety_checker=None)
    pipeline.scheduler = diffusers.DDIMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    how = from_diffusers(pipeline.scheduler.config)
    begin = float(
        how.schedule.sigma(how.grid(how.schedule, 8)[0])
    )  # at which of their steps ours begin, and they do not
    settings = {"num_inference_steps": 8, "guidance_scale": 4.0, "latents": begin * latents, "output_type": "np"}
    theirs = pipeline("ab cd", negative_prompt="dc", **settings).images
    same_noise(latents)
    model = load(stable_diffusion)
    ours = model.sample(
        "ab cd", negative="dc", steps=8, guidance=ClassifierFree(4.0), solver=how.solver, grid=how.grid
    ).samples
    assert ours.shape == (1, 3, 16, 16)
    assert float((ours / 255 - torch.from_numpy(theirs).permute(0, 3, 1, 2)).abs().max()) <= 0.5 / 255 + 1e-4


def test_stable_diffusion_is_sampled_as_it_is(stable_diffusion: Path) -> None:
    model = load(stable_diffusion)
    assert model.defaults.steps == 50 and model.defaults.guidance is not None
    assert model.sample("ab", n=2, steps=3).samples.shape == (2, 3, 16, 16)


def of_their_kind(**changes: Any) -> Model:
    network = DiffusersUNet(widths=(8, 16), blocks=1, attention=(1,), head_width=8, norm_groups=4)
    perturb(network)
    network.eval().requires_grad_(False)
    parts: dict[str, Any] = {
        "modality": Images(Unconditional(), size=8, channels=3), "network": network, "schedule": DDPMBetas(),
        "parametrization": Epsilon(), "noise_level": TableIndex(1000),
        "defaults": SamplingDefaults(DDIM(), from_trailing(), 5),
    }  # fmt: skip
    return Model(**(parts | changes))


def from_trailing() -> Any:
    return from_diffusers({"_class_name": "DDIMScheduler", "timestep_spacing": "trailing", "clip_sample": False}).grid


def test_ours_opens_there_and_gives_the_same_image(tmp_path: Path, same_noise: Any) -> None:
    model = of_their_kind()
    files = model.modality.export(model, tmp_path)
    assert tmp_path / "model_index.json" in files
    pipeline = diffusers.DDIMPipeline.from_pretrained(tmp_path)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    theirs = pipeline(generator=torch.Generator().manual_seed(0), num_inference_steps=5, output_type="np").images
    same_noise(noise)
    ours = model.sample(n=1).samples / 255
    assert float((ours - torch.from_numpy(theirs).permute(0, 3, 1, 2)).abs().max()) <= 0.5 / 255 + 1e-4
    same_noise(noise)
    again = load(tmp_path).sample(n=1, steps=5).samples / 255
    assert torch.equal(ours, again)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schedule": Flow(), "parametrization": V()}, "no scheduler of diffusers samples so"),
        ({"network": torch.nn.Linear(1, 1)}, "diffusers has no Linear"),
        ({"defaults": SamplingDefaults(DPMpp2M(), UniformTime(3.0))}, "no scheduler of diffusers samples so"),
    ],
)
def test_what_diffusers_cannot_say_is_refused(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    model = of_their_kind(**change)
    with pytest.raises(UserError, match=match):
        model.modality.export(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_other_pipelines_and_damaged_ones_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline", "transformer": ["a", "b"]}))
    with pytest.raises(ModelFolderError, match="is a FluxPipeline of diffusers; what can be opened"):
        load(tmp_path)
    pixels_folder(tmp_path / "cut", "ddim")
    for file in (tmp_path / "cut" / "unet").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(ModelFolderError, match="holds no UNet2DModel in safetensors"):
        load(tmp_path / "cut")
    assert framework.load is load


def test_classes_of_theirs_are_numbers(tmp_path: Path) -> None:
    network = DiffusersUNet(widths=(8, 16), blocks=1, attention=(1,), head_width=8, norm_groups=4, num_classes=3)
    model = of_their_kind(network=network, modality=Images(ClassCondition(["a", "b", "c"]), size=8, channels=3))
    model.modality.export(model, tmp_path)
    again = load(tmp_path)
    network.eval()
    torch.testing.assert_close(again.sample("2", n=1, steps=3).samples, model.sample("c", n=1, steps=3).samples)
