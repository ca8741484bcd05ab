"""UNets, our own and diffusers': one call, one meaning of the condition, the laws that training relies on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.backbones.text import TextEncoder
from framework.backbones.unet import SIZES, UNet, unet
from framework.backbones.unet_blocks import Attention
from modalities.images.diffusers_unet import DiffusersTextUNet, DiffusersUNet

CAPTIONS = ["a red circle", "", "a blue square left of a red circle"]


def text() -> TextEncoder:
    return TextEncoder(width=16, layers=1, buckets=64, length=12)


def own(**changes: object) -> UNet:
    numbers: dict[str, object] = {
        "width": 16, "multipliers": (1, 2), "blocks": 1, "attention": (1,), "heads": 2,
        "num_classes": 3, "text": text(),
    }  # fmt: skip
    return UNet(**(numbers | changes))  # type: ignore[arg-type]


def diffusers_text() -> nn.Module:
    pytest.importorskip("diffusers")
    return DiffusersTextUNet(
        text(), widths=(16, 32), blocks=1, attention=(1,), head_width=8, num_classes=3, norm_groups=8
    )


def diffusers_plain() -> nn.Module:
    pytest.importorskip("diffusers")
    return DiffusersUNet(widths=(16, 32), blocks=1, attention=(1,), head_width=8, num_classes=3, norm_groups=8)


MODELS: dict[str, Callable[[], nn.Module]] = {
    "own": own,
    "own, patch 2": lambda: own(patch=2),
    "own, classes only": lambda: own(text=None),
    "own, text only": lambda: own(num_classes=None),
    "own, unconditional": lambda: own(num_classes=None, text=None),
    "diffusers": diffusers_plain,
    "diffusers, text": diffusers_text,
}
WITH_TEXT = ["own", "own, patch 2", "own, text only", "diffusers, text"]
WITH_CLASSES = ["own", "own, patch 2", "own, classes only", "diffusers", "diffusers, text"]


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return perturbed(MODELS[request.param]())


def perturbed(model: nn.Module, seed: int = 0) -> nn.Module:
    """Away from the zero initialisation, where half of the network is silent; in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return model.eval()


def inputs(size: int = 8, channels: int = 3) -> tuple[Tensor, Tensor, TensorDict]:
    """Three noisy images with a condition that holds everything: a network reads what it was made for."""
    generator = torch.Generator().manual_seed(1)
    tokens, mask = text().tokenize(CAPTIONS)
    condition = TensorDict({"label": torch.tensor([0, 3, 1]), "tokens": tokens, "text_mask": mask}, batch_size=[3])
    return (
        torch.randn(3, channels, size, size, generator=generator),
        torch.tensor([0.0, 400.0, 1000.0]),
        condition,
    )


def with_(condition: TensorDict, **changes: Tensor) -> TensorDict:
    return TensorDict({**condition.to_dict(), **changes}, batch_size=condition.batch_size)


def test_output_has_the_shape_and_type_of_the_image(model: nn.Module) -> None:
    x_t, level, condition = inputs()
    out = model(x_t, level, condition)
    assert out.shape == x_t.shape and out.dtype == torch.float32 and out.isfinite().all()


@pytest.mark.parametrize("size", SIZES)
def test_fresh_output_is_exactly_zero(size: str) -> None:
    x_t, level, condition = inputs()
    with torch.no_grad():
        assert not unet(size, num_classes=3, text=text(), patch=2)(x_t, level, condition).any()


def test_gradients_reach_every_parameter(model: nn.Module) -> None:
    x_t, level, condition = inputs()
    condition = with_(condition, label=torch.tensor([0, 1, 2]))
    model(x_t, level, condition).square().sum().backward()
    model(x_t, level, with_(condition, label=torch.tensor([3, 3, 3]))).square().sum().backward()
    silent = [name for name, p in model.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    # diffusers gives biases to keys, and softmax ignores them but for rounding: they may be silent.
    assert [name for name in silent if not name.endswith("to_k.bias")] == []
    for name, p in model.named_parameters():
        if name.endswith(("label.weight", "class_embedding.weight")):
            assert (p.grad.abs().sum(1) > 0).all(), "every class and the null class learn"


def test_a_few_steps_wake_the_whole_network() -> None:
    """From the zero initialisation, gradients pass the last layer after one step and all after a few."""
    torch.manual_seed(0)
    model = own()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x_t, level, condition = inputs()
    for _ in range(4):
        optimizer.zero_grad()
        (model(x_t, level, condition) - x_t).square().mean().backward()
        optimizer.step()
    silent = [name for name, p in model.named_parameters() if not p.grad.any()]
    assert silent == []


def test_a_row_is_the_same_alone_and_in_a_batch(model: nn.Module) -> None:
    x_t, level, condition = inputs()
    with torch.no_grad():
        together = model(x_t, level, condition)
        for i in range(3):
            alone = model(x_t[i : i + 1], level[i : i + 1], condition[i : i + 1])
            torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", WITH_TEXT)
def test_padding_of_the_text_never_matters(name: str) -> None:
    model = perturbed(MODELS[name]())
    x_t, level, condition = inputs()
    noise = torch.where(condition["text_mask"], condition["tokens"], 33)
    with torch.no_grad():
        a, b = model(x_t, level, condition), model(x_t, level, with_(condition, tokens=noise))
        assert torch.equal(a, b)
        longest = int(condition["text_mask"].sum(1).max())
        cut = {key: condition[key][:, :longest] for key in ("tokens", "text_mask")}
        torch.testing.assert_close(model(x_t, level, with_(condition, **cut)), a, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", WITH_TEXT)
def test_words_matter(name: str) -> None:
    model = perturbed(MODELS[name]())
    x_t, level, condition = inputs()
    tokens, mask = text().tokenize(["a green circle", "a square", "a red circle left of a blue square"])
    with torch.no_grad():
        change = model(x_t, level, condition) - model(x_t, level, with_(condition, tokens=tokens, text_mask=mask))
    assert (change.abs().amax((1, 2, 3)) > 1e-4).all()


def test_cross_attention_alone_hears_the_text() -> None:
    """With the pooled path cut, the words still reach the image."""
    model = perturbed(own())
    assert model.pooled is not None
    with torch.no_grad():
        model.pooled.linear.weight.zero_()
    x_t, level, condition = inputs()
    with torch.no_grad():
        relabelled = with_(condition[[1, 2, 0]], label=condition["label"])
        change = model(x_t, level, condition) - model(x_t, level, relabelled)
    assert (change.abs().amax((1, 2, 3)) > 1e-4).all()


@pytest.mark.parametrize("name", WITH_CLASSES)
def test_the_class_matters(name: str) -> None:
    model = perturbed(MODELS[name]())
    x_t, level, condition = inputs()
    with torch.no_grad():
        change = model(x_t, level, condition) - model(x_t, level, with_(condition, label=torch.tensor([1, 2, 3])))
    assert (change.abs().amax((1, 2, 3)) > 1e-4).all()


def test_the_noise_level_matters_between_whole_numbers(model: nn.Module) -> None:
    x_t, level, condition = inputs()
    with torch.no_grad():
        change = model(x_t, level, condition) - model(x_t, (level - 0.5).abs(), condition)
    assert (change.abs().amax((1, 2, 3)) > 1e-5).all()


@pytest.mark.parametrize(("patch", "size"), [(1, 2), (1, 6), (2, 4), (2, 12), (4, 8)])
def test_any_canvas_that_divides(patch: int, size: int) -> None:
    model = perturbed(own(patch=patch))
    x_t, level, condition = inputs(size)
    assert model(x_t, level, condition).shape == x_t.shape


def test_canvas_may_be_oblong() -> None:
    x_t, level, condition = inputs()
    assert own()(x_t[:, :, :4], level, condition).shape == (3, 3, 4, 8)


def test_canvas_that_does_not_divide_is_refused(model: nn.Module) -> None:
    x_t, level, condition = inputs(9)
    with pytest.raises(ValueError, match=r"9x9 pixels .* must be multiples of"):
        model(x_t, level, condition)


@pytest.mark.parametrize("channels", [1, 4])
def test_other_numbers_of_channels(channels: int) -> None:
    x_t, level, condition = inputs(channels=channels)
    assert own(channels=channels)(x_t, level, condition).shape == x_t.shape


def test_channels_last_computes_the_same() -> None:
    model, x_t, level, condition = perturbed(own()), *inputs()
    with torch.no_grad():
        a = model(x_t, level, condition)
        b = model.to(memory_format=torch.channels_last)(
            x_t.contiguous(memory_format=torch.channels_last), level, condition
        )
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_bfloat16_by_autocast_and_by_weights(model: nn.Module) -> None:
    x_t, level, condition = inputs()
    with torch.no_grad():
        exact = model(x_t, level, condition)
        with torch.autocast("cpu", torch.bfloat16):
            cast = model(x_t, level, condition)
        low = model.bfloat16()(x_t, level, condition)
    for out in (cast, low):
        assert out.dtype == torch.float32
        assert (out - exact).norm() < 0.1 * exact.norm()


def test_neighbouring_noise_levels_differ_in_bfloat16() -> None:
    model = perturbed(own()).bfloat16()
    assert not torch.equal(model.noise(torch.tensor([999.0])), model.noise(torch.tensor([1000.0])))


def test_compiles_into_one_graph() -> None:
    model, (x_t, level, condition) = perturbed(own(patch=2)), inputs()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x_t, level, condition), model(x_t, level, condition))


def test_dropout_acts_in_training_alone() -> None:
    model, (x_t, level, condition) = perturbed(own(dropout=0.5)), inputs()
    assert torch.equal(model(x_t, level, condition), model(x_t, level, condition))
    model.train()
    assert not torch.equal(model(x_t, level, condition), model(x_t, level, condition))


def test_same_seed_same_network() -> None:
    torch.manual_seed(3)
    first = own().state_dict()
    torch.manual_seed(3)
    second = own().state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    ("size", "low", "high"), [("tiny", 0.8, 1.6), ("small", 4, 6), ("base", 16, 20), ("cifar", 52, 62)]
)
def test_sizes_hold_what_they_promise(size: str, low: float, high: float) -> None:
    with torch.device("meta"):
        count = sum(p.numel() for p in unet(size).parameters()) / 1e6
    assert low < count < high


def test_unknown_size_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="did you mean 'small'"):
        unet("smal")


def test_levels_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match=r"levels \[2\], but the levels are 0 to 1"):
        own(attention=(1, 2))
    with pytest.raises(ValueError, match=r"levels \[2\]"):
        DiffusersUNet(widths=(32, 32), attention=(2,))


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="choose a divisor of 32"):
        own(heads=5)


def test_diffusers_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=r"widths \[16\] are not multiples of norm_groups=32"):
        DiffusersUNet(widths=(16, 32), attention=())


def test_attention_is_softmax_over_the_valid_keys() -> None:
    """Against the formula softmax(q k^T / sqrt(d)) v, written out for one head."""
    torch.manual_seed(0)
    layer = Attention(4, heads=1, context_width=6)
    nn.init.normal_(layer.out.weight)
    x, context = torch.randn(2, 3, 4), torch.randn(2, 5, 6)
    mask = torch.tensor([[True, True, False, True, False], [True, False, False, False, False]])
    query = x @ layer.query.weight.T
    key, value = (context @ layer.key_value.weight.T).split(4, dim=-1)
    scores = (query @ key.transpose(1, 2) / 2).masked_fill(~mask[:, None], -torch.inf)
    torch.testing.assert_close(layer(x, context, mask), scores.softmax(-1) @ value @ layer.out.weight.T)
