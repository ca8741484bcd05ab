"""The transformer over time: padding is not there, and a clip is the same wherever it lies in its canvas."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn
from torch.nn import functional

from framework.backbones.text import TextEncoder
from framework.errors import UserError
from modalities.audio.transformer import TimeTransformer

LENGTHS = torch.tensor([13, 5, 16])


def model(patch: int = 4, **changes: object) -> TimeTransformer:
    torch.manual_seed(0)
    numbers: dict[str, object] = {"width": 32, "layers": 2, "heads": 2, "labels": {"digit": 3, "speaker": 2}}
    return TimeTransformer(2, 3, patch, **(numbers | changes))  # type: ignore[arg-type]


def perturbed(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network.eval()


def inputs(frames: int = 16) -> tuple[Tensor, Tensor, TensorDict]:
    """Three clips of 13, 5 and 16 frames of 2 channels and 3 bands, with noise in the padding too."""
    x_t = torch.randn(3, frames, 2, 3, generator=torch.Generator().manual_seed(1))
    labels = {"digit": torch.tensor([0, 3, 1]), "speaker": torch.tensor([1, 0, 2])}
    mask = torch.arange(frames) < LENGTHS[:, None]
    return x_t, torch.tensor([0.0, 400.0, 1000.0]), TensorDict({"mask": mask, **labels}, batch_size=[3])


def with_(condition: TensorDict, **changes: Tensor) -> TensorDict:
    return TensorDict({**condition.to_dict(), **changes}, batch_size=condition.batch_size)


@pytest.mark.parametrize("patch", [1, 2, 4, 5])
def test_shape_is_kept_and_padding_is_zero(patch: int) -> None:
    x_t, level, condition = inputs()
    with torch.no_grad():
        assert not model(patch)(x_t, level, condition).any(), "fresh output is exactly zero"
        out = perturbed(model(patch))(x_t, level, condition)
    real = condition["mask"]
    assert out.shape == x_t.shape and out.dtype == torch.float32
    assert not out[~real].any() and out[real].abs().min() > 0


@pytest.mark.parametrize("patch", [1, 2, 4, 5])
def test_padding_and_the_length_of_the_canvas_never_matter(patch: int) -> None:
    """13 frames fill no whole number of pieces of 2, 4 or 5: what shares a piece with padding is exact too."""
    network = perturbed(model(patch))
    x_t, level, condition = inputs()
    real = condition["mask"]
    with torch.no_grad():
        out = network(x_t, level, condition)
        junk = torch.where(real[..., None, None], x_t, torch.nan)
        assert torch.equal(network(junk, level, condition), out)
        for more in (1, 7):
            wider = with_(condition, mask=functional.pad(real, (0, more)))
            longer = network(functional.pad(x_t, (0, 0, 0, 0, 0, more), value=1e6), level, wider)
            torch.testing.assert_close(longer[:, :16], out, atol=1e-6, rtol=0)
            assert not longer[:, 16:].any()
        for i, n in enumerate(LENGTHS.tolist()):
            own = with_(condition[i : i + 1], mask=real[i : i + 1, :n])
            alone = network(x_t[i : i + 1, :n], level[i : i + 1], own)
            torch.testing.assert_close(alone, out[i : i + 1, :n], atol=1e-6, rtol=0)


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_clip_is_the_same_later_in_its_canvas(pieces: int) -> None:
    network = perturbed(model(patch=4))
    x_t, level, condition = inputs()
    later = 4 * pieces
    moved = with_(condition, mask=functional.pad(condition["mask"], (later, 0)))
    with torch.no_grad():
        out = network(x_t, level, condition)
        shifted = network(functional.pad(x_t, (0, 0, 0, 0, later, 0)), level, moved)
    torch.testing.assert_close(shifted[:, later:], out, atol=1e-5, rtol=1e-5)


def test_frames_of_equal_content_are_told_apart_by_their_place() -> None:
    """In silence every piece has an output of its own, and it changes with the length of the clip."""
    network = perturbed(model(patch=2))
    _, level, condition = inputs()
    silence, same = torch.zeros(3, 16, 2, 3), condition[:1].expand(3).contiguous()
    mask = torch.arange(16) < torch.tensor([16, 15, 10])[:, None]
    with torch.no_grad():
        out = network(silence, level[:1].expand(3), with_(same, mask=mask))
    pieces = out[0].unflatten(0, (-1, 2)).flatten(1)
    assert (torch.cdist(pieces, pieces) + torch.eye(8)).min() > 1e-3
    assert (out[0, :10] - out[1, :10]).abs().max() > 1e-3 and (out[0, :10] - out[2, :10]).abs().max() > 1e-3


def test_a_clip_without_frames_is_zero_and_makes_no_nan() -> None:
    network = perturbed(model())
    x_t, level, condition = inputs()
    empty = torch.arange(16) < torch.tensor([13, 0, 16])[:, None]
    out = network(x_t, level, with_(condition, mask=empty))
    out.square().sum().backward()
    assert not out[1].any() and all(p.grad.isfinite().all() for p in network.parameters())


def test_noise_level_and_every_label_are_heard() -> None:
    network = perturbed(model())
    x_t, level, condition = inputs()
    with torch.no_grad():
        out = network(x_t, level, condition)
        changed = {
            "noise level": network(x_t, level + 50, condition),
            "digit": network(x_t, level, with_(condition, digit=torch.tensor([1, 2, 3]))),
            "speaker": network(x_t, level, with_(condition, speaker=torch.tensor([0, 1, 0]))),
        }
    for name, value in changed.items():
        assert (value - out).abs().amax((1, 2, 3)).min() > 1e-3, name


def test_words_are_heard() -> None:
    encoder = TextEncoder(width=16, layers=1, buckets=64, length=8)
    network = perturbed(model(labels=None, text=encoder))
    x_t, level, condition = inputs()
    said, meant = (encoder.tokenize(words) for words in (["seven", "two by theo", ""], ["six", "two by lucas", "one"]))
    with torch.no_grad():
        one, other = (
            network(x_t, level, with_(condition, tokens=tokens, text_mask=mask)) for tokens, mask in (said, meant)
        )
    assert (one - other).abs().amax((1, 2, 3)).min() > 1e-3


def test_gradients_reach_every_parameter() -> None:
    network = perturbed(model())
    x_t, level, condition = inputs()
    network(x_t, level, condition).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_pieces_of_no_frames_are_refused() -> None:
    with pytest.raises(UserError, match="patch=0"):
        model(patch=0)
