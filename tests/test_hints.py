"""What a network is shown of its own sample: drawn in training, said by a task, kept where guidance drops the words."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.backbones.unet import UNet
from framework.conditions import ClassCondition
from framework.editing.known import Known
from framework.editing.observed import AveragePool, Keep
from framework.editing.shown import Shown, shown_measurement, shown_part
from framework.errors import UserError
from framework.guidance.classifier_free import ClassifierFree
from framework.hints import HINT, KnownPart, Measured
from framework.model import Model
from framework.noise import BatchKey, SampleKey
from framework.objectives.distances import MSE
from framework.objectives.objective import Objective
from framework.objectives.times import Uniform
from framework.objectives.weightings import Constant
from framework.parametrizations import Data
from framework.schedules import Flow
from framework.training.module import DiffusionTraining
from framework.training.optimizer import AdamW
from modalities.images.modality import Images

KEY = SampleKey(0, tuple(range(400)))


def test_known_parts_are_boxes_or_what_surrounds_them_or_nothing() -> None:
    x = torch.randn(400, 2, 12, 12)
    hint = KnownPart(nothing=0.25).draw(x, KEY)
    assert hint.shape == (400, 3, 12, 12)
    known = hint[:, 2].bool()
    assert torch.equal(hint[:, :2], torch.where(known[:, None], x, 0.0))
    share = known.flatten(1).float().mean(1)
    assert 0.2 < float((share == 0).float().mean()) < 0.35, "a quarter, and the boxes that are all there is"
    assert len(torch.unique(share)) > 50 and float(share.max()) > 0.8
    boxes = known | ~known.any(2, keepdim=True).expand_as(known)
    assert boxes.any()


def test_measurements_are_shown_in_the_states_own_shape() -> None:
    x = torch.randn(400, 3, 8, 8)
    pool = AveragePool({"2": 4, "3": 4})
    hint = Measured(pool, nothing=0.5).draw(x, KEY)
    shown = hint[:, 3].flatten(1).amax(1) > 0
    assert 0.4 < float(shown.float().mean()) < 0.6
    torch.testing.assert_close(pool.apply(hint[shown, :3]), pool.apply(x[shown]))
    assert not hint[~shown].any()
    assert Measured(pool).of_seen(AveragePool({2: 4, 3: 4}), torch.zeros(1, 3, 2, 2)) is not None
    assert Measured(pool).of_seen(AveragePool({2: 2, 3: 2}), torch.zeros(1, 3, 4, 4)) is None, "another measurement"
    assert Measured(pool).of_known(x, x > 0) is None and KnownPart().of_seen(Keep(x > 0), x) is None
    for wrong in (lambda: KnownPart(1.5), lambda: Measured(pool, -1)):
        with pytest.raises(UserError, match="probability from 0 to 1"):
            wrong()


class Copies(nn.Module):
    """Says the known part of its hint, and minus one elsewhere; keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(()))
        self.seen: list[TensorDict] = []

    def forward(self, x_t: Tensor, noise_level: Tensor, condition: TensorDict) -> Tensor:
        self.seen.append(condition)
        hint = condition[HINT]
        return torch.where(hint[:, -1:] > 0, hint[:, :-1], -1.0)


def shown_model() -> Model:
    return Model(Images(ClassCondition(["a", "b"]), 8, 3, hint=KnownPart()), Copies(), Flow(), Data())


def test_a_task_shows_it_to_both_halves_of_guidance() -> None:
    model, state = shown_model(), torch.rand(2, 3, 8, 8)
    mask = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    mask[..., :4] = True
    tasks = shown_part(model.modality, state, mask.expand(state.shape))
    assert len(tasks) == 1 and isinstance(tasks[0], Shown)
    samples = model.sample("a", 3, negative="b", guidance=ClassifierFree(2.0), steps=2, tasks=tasks).samples
    expected = ((state[[0, 1, 0]] + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(samples[..., :4], expected[..., :4]) and not samples[..., 4:].any()
    seen = model.network.seen[-1]  # type: ignore[union-attr,index]
    assert seen["label"].tolist() == [0, 0, 0, 1, 1, 1] and torch.equal(seen[HINT][:3], seen[HINT][3:])
    model.sample("a", 2, steps=2, guidance=ClassifierFree(2.0))
    assert not model.network.seen[-1][HINT].any(), "nothing is shown where nothing is known"  # type: ignore[union-attr,index]
    assert shown_measurement(model.modality, AveragePool({2: 2}), torch.zeros(1, 3, 4, 8)) == ()


def test_training_shows_it_and_reads_it() -> None:
    """The loss of a network that reads the hint has a gradient in the channels of the hint."""
    modality = Images(ClassCondition(["a", "b"]), 8, 3, hint=KnownPart(nothing=0.0))
    network = UNet(3, 8, (1, 1), 1, (), num_classes=2, hint_channels=4)
    with torch.no_grad():
        network.head[-1].weight.normal_()
    model = Model(modality, network, Flow(), Data())
    training = DiffusionTraining(model, Objective(Uniform(), Constant(), MSE()), AdamW(), condition_dropout=0.5)
    batch = {"image": torch.randint(0, 256, (8, 3, 8, 8), dtype=torch.uint8), "label": torch.zeros(8, dtype=torch.long)}
    x_0, condition = training.encode(batch)
    assert condition[HINT].shape == (8, 4, 8, 8) and not condition[HINT].any()
    training.loss(x_0, condition, BatchKey(0, 0, 0, 8)).backward()
    gradient = network.stem.weight.grad
    assert gradient is not None and gradient.shape[1] == 7 and float(gradient[:, 3:].abs().min()) > 0


def test_an_inpainting_model_takes_the_known_part_from_a_file_and_the_plain_one_does_not() -> None:
    plain = Images(ClassCondition(["a", "b"]), 8, 3)
    state, mask = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8, dtype=torch.bool)
    assert shown_part(plain, state, mask) == () and isinstance(Known(state, mask), Known)


def test_a_preset_fills_in_how_many_channels_the_network_reads() -> None:
    config = {
        "modality": {"size": 8, "channels": 3, "hint": {"_target_": "framework.hints.KnownPart"}, "condition": {}},
        "backbone": {"channels": None},
    }
    assert Images.adapt(config, None)["backbone"] == {"channels": 3, "hint_channels": 4}
