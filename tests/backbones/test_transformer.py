"""The diffusion transformer: padding is not there, positions are relative, every condition is heard."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.backbones.rotary import waves
from framework.backbones.text import TextEncoder
from framework.backbones.transformer import SIZES, DiffusionTransformer, transformer
from framework.errors import UserError

LABELS = {"digit": 4, "speaker": 2}
CAPTIONS = ["a red circle", "", "a blue square left of a red circle"]
LENGTHS = torch.tensor([7, 3, 10])


def text() -> TextEncoder:
    return TextEncoder(width=16, layers=1, buckets=64, length=12)


def model(**changes: object) -> DiffusionTransformer:
    torch.manual_seed(0)
    numbers: dict[str, object] = {"width": 32, "layers": 2, "heads": 2, "labels": LABELS, "text": text()}
    return DiffusionTransformer(5, **(numbers | changes))  # type: ignore[arg-type]


def perturbed(network: nn.Module, seed: int = 0) -> nn.Module:
    """Away from the zero initialisation, where most of the network is silent; in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, p in sorted(network.named_parameters()):
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network.eval()


def inputs(n: int = 10, axes: int = 1) -> tuple[Tensor, Tensor, Tensor, TensorDict]:
    """Three sequences of n tokens at positions 0, ..., n - 1 on each axis, with a condition that holds everything."""
    generator = torch.Generator().manual_seed(1)
    tokens, mask = text().tokenize(CAPTIONS)
    labels = {"digit": torch.tensor([0, 4, 2]), "speaker": torch.tensor([1, 0, 2])}
    condition = TensorDict({"tokens": tokens, "text_mask": mask, **labels}, batch_size=[3])
    positions = torch.arange(n)[:, None].expand(n, axes)
    return torch.randn(3, n, 5, generator=generator), positions, torch.tensor([0.0, 400.0, 1000.0]), condition


def with_(condition: TensorDict, **changes: Tensor) -> TensorDict:
    return TensorDict({**condition.to_dict(), **changes}, batch_size=condition.batch_size)


def first(lengths: Tensor, n: int) -> Tensor:
    """The mask (B, n) of the first `lengths` tokens."""
    return torch.arange(n) < lengths[:, None]


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_fresh_output_is_exactly_zero(size: str) -> None:
    x, positions, level, condition = inputs()
    with torch.no_grad():
        out = transformer(size, 5, 7, labels=LABELS, text=text())(x, positions, level, condition)
    assert out.shape == (3, 10, 7) and out.dtype == torch.float32 and not out.any()


@pytest.mark.parametrize(("size", "millions"), [("tiny", 1.7), ("small", 8.7), ("base", 130)])
def test_sizes_have_the_parameters_that_their_docstring_says(size: str, millions: float) -> None:
    with torch.device("meta"):
        network = transformer(size, 128)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.02)
    assert f"{size} ({millions} M" in transformer.__doc__


def test_an_unknown_size_names_the_nearest() -> None:
    assert set(SIZES) == {"tiny", "small", "base"}
    with pytest.raises(UserError, match="did you mean 'small'"):
        transformer("smal", 5)


def test_padding_neither_attends_nor_is_attended_to() -> None:
    """What lies in padding, even NaN, and how much of it there is, changes nothing where tokens are real."""
    network = perturbed(model())
    x, positions, level, condition = inputs()
    mask = first(LENGTHS, 10)
    with torch.no_grad():
        out = network(x, positions, level, condition, mask)
        junk = torch.where(mask[..., None], x, torch.nan)
        assert torch.equal(network(junk, positions, level, condition, mask), out)
        longer = torch.cat([x, torch.full((3, 6, 5), 1e6)], dim=1)
        more = network(longer, torch.arange(16)[:, None], level, condition, first(LENGTHS, 16))
        torch.testing.assert_close(more[:, :10], out, atol=1e-6, rtol=0)
        for i, n in enumerate(LENGTHS.tolist()):
            alone = network(x[i : i + 1, :n], positions[:n], level[i : i + 1], condition[i : i + 1])
            torch.testing.assert_close(alone, out[i : i + 1, :n], atol=1e-6, rtol=0)
    assert not out[~mask].any() and not more[:, 10:].any()
    assert out[mask].abs().min() > 0


def test_padding_gets_no_gradient_and_a_row_of_padding_no_nan() -> None:
    network = perturbed(model())
    x, positions, level, condition = inputs()
    mask = first(torch.tensor([7, 0, 10]), 10)
    x.requires_grad_()
    out = network(x, positions, level, condition, mask)
    out.square().sum().backward()
    assert x.grad is not None and not x.grad[~mask].any() and x.grad[mask].abs().min() > 0
    assert not out[1].any()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("axes", [1, 2])
def test_only_differences_of_positions_matter(axes: int) -> None:
    network = perturbed(model(axes=axes))
    x, positions, level, condition = inputs(axes=axes)
    with torch.no_grad():
        out = network(x, positions, level, condition)
        shifted = network(x, positions + torch.tensor([23, 9][:axes]), level, condition)
        stretched = network(x, 2 * positions, level, condition)
    torch.testing.assert_close(shifted, out, atol=1e-4, rtol=1e-4)
    assert (stretched - out).abs().max() > 1e-2


def test_tokens_and_positions_may_come_in_any_order() -> None:
    network = perturbed(model())
    x, positions, level, condition = inputs()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = network(x, positions, level, condition)
        torch.testing.assert_close(
            network(x[:, order], positions[order], level, condition), out[:, order], atol=1e-5, rtol=1e-4
        )


def test_a_row_is_the_same_alone_and_in_a_batch() -> None:
    network = perturbed(model())
    x, positions, level, condition = inputs()
    with torch.no_grad():
        together = network(x, positions, level, condition)
        for i in range(3):
            alone = network(x[i : i + 1], positions, level[i : i + 1], condition[i : i + 1])
            torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=1e-5)


def test_noise_level_and_every_condition_are_heard() -> None:
    network = perturbed(model())
    x, positions, level, condition = inputs()
    other, other_mask = text().tokenize(["a green cross", "a", "a blue square right of a red circle"])
    with torch.no_grad():
        out = network(x, positions, level, condition)
        changed = {
            "noise level": network(x, positions, level.flip(0) + 7, condition),
            "digit": network(x, positions, level, with_(condition, digit=torch.tensor([1, 2, 4]))),
            "speaker": network(x, positions, level, with_(condition, speaker=torch.tensor([0, 1, 0]))),
            "text": network(x, positions, level, with_(condition, tokens=other, text_mask=other_mask)),
        }
    for name, value in changed.items():
        assert (value - out).abs().amax((1, 2)).min() > 1e-3, name


def test_words_are_attended_to_and_not_only_their_mean() -> None:
    """With the way of the pooled text cut, a change of one word still reaches the output."""
    network = perturbed(model())
    nn.init.zeros_(network.pooled.linear.weight)
    x, positions, level, condition = inputs()
    other, other_mask = text().tokenize(["a red square", "circle", "a blue square right of a red circle"])
    with torch.no_grad():
        out = network(x, positions, level, condition)
        changed = network(x, positions, level, with_(condition, tokens=other, text_mask=other_mask))
    assert (changed - out).abs().amax((1, 2)).min() > 1e-4


def test_padding_of_the_text_never_matters() -> None:
    network = perturbed(model())
    x, positions, level, condition = inputs()
    tokens, mask = condition["tokens"], condition["text_mask"]
    with torch.no_grad():
        out = network(x, positions, level, condition)
        junk = network(x, positions, level, with_(condition, tokens=torch.where(mask, tokens, 9)))
    assert torch.equal(junk, out)


def test_labels_are_known_by_name_and_not_by_order() -> None:
    network = perturbed(model())
    twin = model(labels=dict(reversed(LABELS.items())))
    twin.load_state_dict(network.state_dict())
    x, positions, level, condition = inputs()
    with torch.no_grad():
        assert torch.equal(twin.eval()(x, positions, level, condition), network(x, positions, level, condition))


def test_gradients_reach_every_parameter() -> None:
    network = perturbed(model())
    x, positions, level, condition = inputs()
    mask = first(LENGTHS, 10)
    for digit, speaker in [([0, 1, 2], [0, 1, 2]), ([3, 4, 4], [0, 1, 2])]:
        labels = {"digit": torch.tensor(digit), "speaker": torch.tensor(speaker)}
        network(x, positions, level, with_(condition, **labels), mask).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
    for embedding in network.labels:
        assert (embedding.weight.grad.abs().sum(1) > 0).all(), "every class and the null class learn"


def test_a_few_steps_wake_the_whole_network() -> None:
    """From the zero initialisation, gradients pass the last layer after one step and all after a few."""
    network = model()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    x, positions, level, condition = inputs()
    for _ in range(4):
        optimizer.zero_grad()
        (network(x, positions, level, condition) - x).square().mean().backward()
        optimizer.step()
    assert [name for name, p in network.named_parameters() if not p.grad.any()] == []


def test_sixteen_bits_compute_and_float32_comes_out() -> None:
    network = perturbed(model())
    x, positions, level, condition = inputs()
    mask = first(LENGTHS, 10)
    with torch.no_grad():
        exact = network(x, positions, level, condition, mask)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = network(x, positions, level, condition, mask)
        half = network.bfloat16()(x, positions, level, condition, mask)
    for out in (mixed, half):
        assert out.dtype == torch.float32
        assert (out - exact).norm() < 0.05 * exact.norm()


def test_numbers_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(UserError, match="multiple of 2 \\* axes \\* heads = 12"):
        model(heads=3, axes=2)
    with pytest.raises(UserError, match="layers=0"):
        model(layers=0)
    x, positions, level, condition = inputs()
    with pytest.raises(ValueError, match="need positions \\(10, 1\\), got \\(9, 1\\)"):
        model()(x, positions[:9], level, condition)


def test_it_learns_a_small_set_by_heart() -> None:
    """Predicting x_0 of 64 fixed waves from their labels and x_t, the squared error falls to less than a fifth."""
    generator = torch.Generator().manual_seed(0)
    frequency, phase = torch.rand(2, 64, 1, generator=generator)
    data = (2**0.5 * torch.sin((0.05 + 0.3 * frequency) * torch.arange(256) / 4 + 6.28 * phase)).unflatten(1, (8, 32))
    place = waves(torch.arange(8), 8).expand(64, -1, -1)
    torch.manual_seed(0)
    network = DiffusionTransformer(40, 32, width=32, layers=2, heads=4, labels={"which": 64})
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    condition, positions = TensorDict({"which": torch.arange(64)}, batch_size=[64]), torch.arange(8)[:, None]
    losses = []
    for _ in range(80):
        t = 0.9 * torch.rand(64, generator=generator)
        x_t = torch.lerp(data, torch.randn(data.shape, generator=generator), t[:, None, None])
        loss = (network(torch.cat([x_t, place], 2), positions, 1000 * t, condition) - data).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(1.0, abs=0.05), "a fresh network says zero"
    assert sum(losses[-20:]) / 20 < losses[0] / 5, losses[-20:]
