"""The transformer of two streams, text from two encoders, and guidance that is learnt."""

from __future__ import annotations

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.backbones.joint_transformer import JointTransformer
from framework.backbones.text import TextEncoder
from framework.backbones.text_pair import PairTokenizer, TextPair
from framework.errors import UserError
from framework.guidance.classifier_free import ClassifierFree
from framework.guidance.embedded import SCALE, Embedded, with_scale
from framework.model import Model
from framework.noise import BatchKey
from framework.objectives.distances import MSE
from framework.objectives.distilled import DistilledGuidance
from framework.objectives.times import Uniform
from framework.objectives.weightings import Constant
from framework.parametrizations import V
from framework.schedules import Cosine, Flow
from tests.toy import PointNet, Points, point_model


def perturbed(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return network.double().eval()


def small(**settings: object) -> JointTransformer:
    torch.manual_seed(0)
    text = TextEncoder(width=16, layers=1, heads=2, buckets=64, length=8)
    return JointTransformer(text, width=32, layers=2, heads=2, **settings)  # type: ignore[arg-type]


def said(network: JointTransformer, texts: list[str]) -> TensorDict:
    tokens, mask = network.text.tokenize(texts)
    return TensorDict({"tokens": tokens, "text_mask": mask}, batch_size=[len(texts)])


X, LEVEL = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(1)).double(), torch.tensor([10.0, 900.0])


def test_a_fresh_network_is_zero_and_every_parameter_learns() -> None:
    network = small(guidance=True)
    assert not network(X.float(), LEVEL, said(network, ["a", "b"])).any()
    network = perturbed(network).train()
    network(X, LEVEL.double(), said(network, ["a b", "c"])).square().sum().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


def test_padding_is_never_heard_and_words_are() -> None:
    network = perturbed(small())
    condition = said(network, ["a red circle", "blue"])
    out = network(X, LEVEL.double(), condition)
    other = condition.clone()
    other["tokens"] = torch.where(condition["text_mask"], condition["tokens"], 7)
    torch.testing.assert_close(network(X, LEVEL.double(), other), out, rtol=1e-12, atol=1e-12)
    moved = network(X, LEVEL.double(), said(network, ["a red square", "blue"]))
    assert not torch.allclose(moved[0], out[0], atol=1e-3)
    torch.testing.assert_close(moved[1], out[1], rtol=1e-12, atol=1e-12)


def test_each_sample_is_its_own() -> None:
    network = perturbed(small())
    condition = said(network, ["a red circle", "blue"])
    whole = network(X, LEVEL.double(), condition)
    alone = network(X[1:], LEVEL[1:].double(), condition[1:])
    torch.testing.assert_close(alone, whole[1:], rtol=1e-10, atol=1e-12)


def test_the_scale_is_heard_and_one_is_what_is_left_unsaid() -> None:
    network = perturbed(small(guidance=True))
    condition = said(network, ["a", "b"])
    out = network(X, LEVEL.double(), condition)
    torch.testing.assert_close(network(X, LEVEL.double(), with_scale(condition, torch.ones(2).double())), out)
    assert not torch.allclose(network(X, LEVEL.double(), with_scale(condition, torch.full((2,), 3.0))), out, atol=1e-3)
    assert SCALE not in condition.keys()  # noqa: SIM118


@pytest.mark.parametrize("wrong", [{"width": 30}, {"heads": 3}, {"patch": 0}])
def test_sizes_that_do_not_fit(wrong: dict[str, int]) -> None:
    settings = {"width": 32, "heads": 2, "patch": 2} | wrong
    with pytest.raises(UserError, match="multiple of 4"):
        JointTransformer(TextEncoder(16, 1, 2, 64, 8), **settings)
    network = small(patch=4)
    with pytest.raises(UserError, match="squares of 4"):
        network(torch.zeros(1, 3, 6, 8), torch.zeros(1), said(network, ["a"]))


def test_a_pair_of_encoders_is_an_encoder() -> None:
    torch.manual_seed(0)
    first, second = TextEncoder(16, 1, 2, 64, 5), TextEncoder(24, 1, 2, 128, 7)
    pair = TextPair(first, second, width=16)
    tokens, mask = pair.tokenize(["a red circle", ""])
    assert tokens.shape == (2, 12) and torch.equal(
        tokens, PairTokenizer(first, second).tokenize(["a red circle", ""])[0]
    )
    words, pooled = pair(tokens, mask)
    assert words.shape == (2, 12, 16) and pooled.shape == (2, 16)
    torch.testing.assert_close(words[:, :5], pair.words[0](first(tokens[:, :5], mask[:, :5]).sequence))
    network = JointTransformer(pair, width=32, layers=1, heads=2)
    assert network(X.float(), LEVEL, said(network, ["a", "b"])).shape == X.shape


class Scaled(nn.Module):
    """A student that says exactly what the guided teacher would: its loss must be zero."""

    def __init__(self, teacher: Model) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.teacher = (teacher,)

    def forward(self, x_t: Tensor, noise_level: Tensor, condition: TensorDict) -> Tensor:
        network, null = self.teacher[0].network, self.teacher[0].modality.null(condition.exclude(SCALE))
        positive = network(x_t, noise_level, condition)
        negative = network(x_t, noise_level, null)
        return negative + condition[SCALE][:, None] * (positive - negative)


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Model:
    """What every folder holds that an objective asks for."""
    model = point_model(dropout=0.0)
    monkeypatch.setattr("framework.store.load", lambda folder: model)
    return model


def distillation() -> DistilledGuidance:
    return DistilledGuidance(Uniform(), Constant(), MSE(), teacher="outputs/guided")


def test_the_lesson_is_what_guidance_says(teacher: Model) -> None:
    objective = distillation()
    student = Model(Points(), Scaled(teacher), Flow(), V())
    x_0 = torch.randn(64, 2)
    condition = TensorDict({"label": torch.arange(64) % 2}, batch_size=[64])
    key = BatchKey(0, 0, 0, 64)
    assert float(objective(student.denoiser(), x_0, condition, key).error.max()) < 1e-6
    deaf = Model(Points(), PointNet(dropout=0.0), Flow(), V())
    assert float(objective(deaf.denoiser(), x_0, condition, key).error.mean()) > 1e-3


def test_another_schedule_of_the_teacher_is_refused(teacher: Model) -> None:
    objective = distillation()
    student = Model(Points(), PointNet(), Cosine(), V())
    condition = TensorDict({"label": torch.zeros(4, dtype=torch.int64)}, batch_size=[4])
    with pytest.raises(UserError, match="the teacher's schedule is Flow"):
        objective(student.denoiser(), torch.randn(4, 2), condition, BatchKey(0, 0, 0, 4))


def test_embedded_guidance_is_one_evaluation_and_the_same_sample() -> None:
    teacher = point_model(dropout=0.0)
    student = Model(Points(), Scaled(teacher), Flow(), V())
    guided = teacher.sample([0, 1], 6, guidance=ClassifierFree(3.0), steps=8)
    told = student.sample([0, 1], 6, guidance=Embedded(3.0), steps=8)
    torch.testing.assert_close(told.samples, guided.samples, rtol=1e-4, atol=1e-5)
    assert told.ledger.evaluations_per_sample == 8 and guided.ledger.evaluations_per_sample == 16


@pytest.mark.parametrize("scales", [(2.0, 1.0), (1.0,), (-1.0, 2.0)])
def test_scales_that_are_no_range(scales: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="0 <= low < high"):
        DistilledGuidance(Uniform(), Constant(), MSE(), teacher="nowhere", scales=scales)
