"""Every editing task of images with a measured effect, on pictures whose denoiser is exact."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from framework.editing.between import Interpolate
from framework.editing.inverted import Invert
from framework.editing.requests import Edit, Inpaint
from framework.editing.restore import Restore
from framework.errors import UserError
from framework.guidance.classifier_free import ClassifierFree
from framework.metrics.reconstruction import psnr
from framework.model import Model
from framework.solvers.ddim import DDIM
from modalities.images.outpaint import Outpaint
from modalities.images.render import save_png
from modalities.images.style import Style, StyleEnergy
from tests.images.closed_form import NAMES, colour_of, model, nearest, pictures


@pytest.fixture(scope="module")
def exact() -> Model:
    return model()


def shown(index: int) -> Tensor:
    """A picture of the mixture as pixels: uint8 (3, 8, 8)."""
    return ((pictures()[0][index] + 1) * 127.5).round().to(torch.uint8)


@pytest.fixture
def red(tmp_path: Path) -> str:
    """A large red square at the top left."""
    return str(save_png(shown(1), tmp_path / "red.png", {}))


def drawn(exact: Model, request: Any, prompt: Any, n: int = 16, **how: Any) -> Tensor:
    found: Tensor = exact.sample(prompt, n, tasks=request.tasks(exact.modality), **{"steps": 20, **how}).samples
    return found


def colours(images: Sequence[Tensor] | Tensor) -> list[str]:
    return [colour_of(image) for image in images]


def test_inpainting_leaves_known_pixels_and_obeys_the_prompt(exact: Model, red: str) -> None:
    """The square goes, and a blue one comes in its place."""
    samples = drawn(exact, Inpaint(red, redo="x=0-0.5 y=0-0.5", resampling=3), "blue")
    outside = torch.ones(8, 8, dtype=torch.bool)
    outside[:4, :4] = False
    assert torch.equal(samples[:, :, outside], shown(1)[:, outside].expand(16, -1, -1))
    assert colours(samples) == ["blue"] * 16


def test_half_a_square_is_completed_in_its_own_colour(exact: Model, red: str) -> None:
    """Without a word of it: what is known tells the colour, the place and the size."""
    samples = drawn(exact, Inpaint(red, keep="x=0-0.25", resampling=20), None)
    assert torch.equal(samples[..., :2], shown(1)[..., :2].expand(16, -1, -1, -1))
    assert sum(nearest(image) == 1 for image in samples) >= 14


def test_a_mask_from_a_file_is_the_region(exact: Model, red: str, tmp_path: Path) -> None:
    mask = np.zeros((16, 16), np.uint8)
    mask[:8, :8] = 255
    Image.fromarray(mask).save(tmp_path / "the mask.png")
    by_file = drawn(exact, Inpaint(red, redo=f"mask={tmp_path / 'the mask.png'}", resampling=1), "blue", 2)
    by_words = drawn(exact, Inpaint(red, redo="box=0,0,0.5,0.5", resampling=1), "blue", 2)
    assert torch.equal(by_file, by_words)


def test_an_edit_keeps_the_layout_at_low_strength_and_obeys_at_high(exact: Model, red: str) -> None:
    place, obeyed = [], []
    for strength in (0.1, 0.5, 1.0):
        samples = drawn(exact, Edit(red, strength), "blue", 32)
        found = [nearest(image) for image in samples]
        place.append(float(np.mean([i // 2 % 4 == 0 for i in found])))
        obeyed.append(float(np.mean([name == "blue" for name in colours(samples)])))
    assert place[0] == 1 and place[2] < 0.5 and obeyed[2] == 1
    assert place[0] >= place[1] >= place[2]


@pytest.mark.parametrize("through_network", [True, False])
def test_super_resolution_beats_bicubic(exact: Model, tmp_path: Path, through_network: bool) -> None:
    gains = []
    for index in (1, 4, 11, 30):
        small = shown(index).float().unflatten(2, (4, 2)).mean(3).unflatten(1, (4, 2)).mean(2)
        file = str(save_png(small.round().to(torch.uint8), tmp_path / "small.png", {}))
        with Image.open(file) as opened:
            plain = torch.from_numpy(
                np.asarray(opened.resize((8, 8), Image.Resampling.BICUBIC)).transpose(2, 0, 1).copy()
            )
        request = Restore(file, "pool=2", through_network=through_network)
        samples = drawn(exact, request, None, 4, solver=DDIM())
        back = samples.float().unflatten(3, (4, 2)).mean(4).unflatten(2, (4, 2)).mean(3)
        assert float((back - small.round()).abs().max()) <= 3, "what was seen is seen again"
        truth = shown(index)[None]
        gains.append(float(psnr(truth.expand(4, -1, -1, -1), samples, 255.0).mean() - psnr(truth, plain[None], 255.0)))
    assert min(gains) > 3


def test_colours_are_found_again(exact: Model, tmp_path: Path) -> None:
    """Each of the four has a grey of its own. By chance it would be a quarter; with the prompt it is all."""
    right = 0
    for index in (1, 9, 17, 25):
        grey = shown(index).float().mean(0, keepdim=True).round().to(torch.uint8)
        file = str(save_png(grey, tmp_path / "grey.png", {}))
        name = NAMES[index // 8]
        samples = drawn(exact, Restore(file, "grey"), None, 8, solver=DDIM())
        right += colours(samples).count(name)
        assert float((samples.float().mean(1) - grey.float()).abs().mean()) <= 2, "but where colours end"
        assert colours(drawn(exact, Restore(file, "grey"), name, 2, solver=DDIM())) == [name] * 2
    assert right >= 14


def test_a_negative_prompt_lowers_the_rate_of_what_it_names(exact: Model) -> None:
    how: dict[str, Any] = {"guidance": ClassifierFree(2.0), "steps": 20}
    rates = [colours(exact.sample("", 64, negative=n, **how).samples).count("red") / 64 for n in (None, "red")]
    assert rates[0] > 0.3 and rates[1] < rates[0] / 2


def test_inversion_brings_a_picture_back(exact: Model, red: str) -> None:
    back = drawn(exact, Invert(red, source="red"), "red", 1, solver=DDIM(), steps=50)
    assert float(psnr(back, shown(1)[None], 255.0)) > 30
    from_elsewhere = drawn(exact, Invert(red, source="red"), "red", 1, solver=DDIM(), steps=50, seed=7)
    assert torch.equal(back, from_elsewhere), "the seed has no say"


def test_an_inverted_picture_takes_another_colour_and_keeps_its_place(exact: Model, red: str) -> None:
    edited = drawn(exact, Invert(red, source="red", strength=0.8), "blue", 1, solver=DDIM(), steps=50)
    assert nearest(edited[0]) // 8 == NAMES.index("blue")


def test_outpainting_keeps_the_picture_in_its_box(exact: Model, red: str) -> None:
    request = Outpaint(red, share=0.5, place="left", resampling=2)
    samples = drawn(exact, request, "red", 4)
    canvas, region = request.on_canvas(exact.modality)  # type: ignore[arg-type]
    assert region == "box=0.000000,0.250000,0.500000,0.750000"
    assert torch.equal(samples[:, :, 2:6, :4], canvas["image"][:, :, 2:6, :4].expand(4, -1, -1, -1))
    for wrong, words in (({"share": 1.0}, "between 0 and 1"), ({"place": "up"}, "places are centre")):
        with pytest.raises(UserError, match=words):
            Outpaint(red, **wrong)  # type: ignore[arg-type]


def test_a_style_draws_samples_to_the_references_colours(exact: Model, red: str) -> None:
    """Without a prompt a quarter is red; led by a red picture, nearly all are."""
    plain = exact.sample(None, 32, steps=20).samples
    led = drawn(exact, Style(red, scale=20.0, limit=2.0), None, 32)
    assert colours(plain).count("red") < 16 < 28 <= colours(led).count("red")
    energy = StyleEnergy(red).for_modality(exact.modality)
    means = [float(energy(x.float() / 127.5 - 1, None).mean()) for x in (plain, led)]  # type: ignore[arg-type]
    assert means[1] < 0.5 * means[0]


def test_a_strip_leads_from_one_sample_to_the_other(exact: Model) -> None:
    """Its ends are the samples of either noise, or of either prompt, and every frame between moves on."""
    how: dict[str, Any] = {"steps": 20, "solver": DDIM()}
    noises = drawn(exact, Interpolate(to_seed=5, frames=9), "red", 9, **how)
    assert torch.equal(noises[:1], exact.sample("red", 1, seed=0, **how).samples)
    assert torch.equal(noises[-1:], exact.sample("red", 1, seed=5, **how).samples)
    words = drawn(exact, Interpolate(to="blue", frames=9), "red", 9, guidance=ClassifierFree(2.0), **how)
    ends = [exact.sample(name, 1, guidance=ClassifierFree(2.0), **how).samples[0] for name in ("red", "blue")]
    assert float((words[0].float() - ends[0].float()).abs().max()) <= 1
    assert float((words[-1].float() - ends[1].float()).abs().max()) <= 1
    twice = drawn(exact, Interpolate(to_seed=5, frames=3), "red", 6, **how)
    assert torch.equal(twice[3:4], exact.sample("red", 1, first=1, **how).samples), "a second strip has its own noise"
    with pytest.raises(UserError, match="leads somewhere"):
        Interpolate()


def test_requests_that_cannot_be_met_say_so(exact: Model, red: str) -> None:
    modality = exact.modality
    for request, words in (
        (Restore(red, "pool=3"), "blocks divide a side of 8 pixels: 2, 4, 8"),
        (Restore(red, "blur"), "unknown measurement 'blur'"),
        (Inpaint(red, redo="z=0-1"), "unknown region 'z=0-1'"),
        (Inpaint(red, redo="x=0.5-0.2"), "rise from 0 to 1"),
        (Inpaint(red, redo="x=0-0.01"), "no pixel of 8x8"),
    ):
        with pytest.raises(UserError, match=words):
            request.tasks(modality)
    with pytest.raises(UserError, match="noise=-1"):
        Restore(red, "grey", noise=-1)
    with pytest.raises(UserError, match="through_network=false"):
        Restore(red, "grey", noise=0.1, through_network=False)
