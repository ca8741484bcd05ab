"""The transformer of pictures: any canvas that its squares fill, each square in its place."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.backbones.patch_transformer import PatchTransformer
from framework.backbones.text import TextEncoder
from framework.errors import UserError


def model(**changes: object) -> PatchTransformer:
    torch.manual_seed(0)
    encoder = TextEncoder(width=16, layers=1, buckets=64, length=8)
    numbers: dict[str, object] = {"width": 32, "layers": 2, "heads": 2, "num_classes": 3, "text": encoder}
    return PatchTransformer(**(numbers | changes))  # type: ignore[arg-type]


def perturbed(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network.eval()


def inputs(height: int = 8, width: int = 8) -> tuple[Tensor, Tensor, TensorDict]:
    tokens, mask = TextEncoder(width=16, buckets=64, length=8).tokenize(["a red circle", "", "a cross"])
    condition = TensorDict({"label": torch.tensor([0, 3, 1]), "tokens": tokens, "text_mask": mask}, batch_size=[3])
    x_t = torch.randn(3, 3, height, width, generator=torch.Generator().manual_seed(1))
    return x_t, torch.tensor([0.0, 400.0, 1000.0]), condition


def test_fresh_output_is_exactly_zero() -> None:
    x_t, level, condition = inputs()
    with torch.no_grad():
        assert not model()(x_t, level, condition).any()


@pytest.mark.parametrize(("height", "width", "patch"), [(8, 8, 1), (8, 12, 4), (6, 4, 2), (2, 2, 2)])
def test_any_canvas_that_squares_fill(height: int, width: int, patch: int) -> None:
    x_t, level, condition = inputs(height, width)
    with torch.no_grad():
        out = perturbed(model(patch=patch))(x_t, level, condition)
    assert out.shape == x_t.shape and out.dtype == torch.float32 and out.isfinite().all() and out.any()


def test_a_canvas_that_squares_do_not_fill_is_refused() -> None:
    with pytest.raises(UserError, match="8x9 pixels cannot be cut into squares of 2"):
        model()(*inputs(8, 9))
    with pytest.raises(UserError, match="patch=0"):
        model(patch=0)


def test_squares_go_back_to_where_they_came_from() -> None:
    """With attention and all blocks silent, an output pixel depends on the pixels of its own square alone."""
    network = perturbed(model())
    for block in network.transformer.blocks:
        nn.init.zeros_(block.modulation.weight)
        nn.init.zeros_(block.modulation.bias)
        nn.init.zeros_(block.words.out.weight)
    x_t, level, condition = inputs(6, 8)
    x_t.requires_grad_()
    network(x_t, level, condition)[0, 0, 3, 4].backward()
    assert x_t.grad is not None
    touched = x_t.grad[0].abs().sum(0) > 0
    expected = torch.zeros(6, 8, dtype=torch.bool)
    expected[2:4, 4:6] = True
    assert torch.equal(touched, expected)


def test_squares_of_equal_content_are_told_apart_by_their_place() -> None:
    """On a blank canvas every square has an output of its own: rotary positions alone would give all the same."""
    _, level, condition = inputs()
    with torch.no_grad():
        out = perturbed(model(patch=2))(torch.zeros(3, 3, 8, 8), level, condition)
    squares = nn.functional.pixel_unshuffle(out, 2).flatten(2)[0].T
    assert (torch.cdist(squares, squares) + torch.eye(16)).min() > 1e-3


def test_a_row_is_the_same_alone_and_in_a_batch() -> None:
    network = perturbed(model())
    x_t, level, condition = inputs()
    with torch.no_grad():
        together = network(x_t, level, condition)
        for i in range(3):
            alone = network(x_t[i : i + 1], level[i : i + 1], condition[i : i + 1])
            torch.testing.assert_close(alone, together[i : i + 1], atol=1e-5, rtol=1e-5)


def test_class_and_text_are_heard() -> None:
    network = perturbed(model())
    x_t, level, condition = inputs()
    classes = TensorDict({**condition.to_dict(), "label": torch.tensor([1, 0, 3])}, batch_size=[3])
    said = {name: condition[name].roll(1, 0) for name in ("tokens", "text_mask")}
    words = TensorDict({**condition.to_dict(), **said}, batch_size=[3])
    with torch.no_grad():
        out = network(x_t, level, condition)
        for changed in (classes, words):
            assert (network(x_t, level, changed) - out).abs().amax((1, 2, 3)).min() > 1e-3


def test_gradients_reach_every_parameter() -> None:
    network = perturbed(model())
    x_t, level, condition = inputs()
    network(x_t, level, condition).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []
