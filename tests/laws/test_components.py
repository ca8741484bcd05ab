"""States with tokens: their processes, their denoiser, their loss, guidance of them, and self-conditioning."""

from __future__ import annotations

import math

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.categories import Array, Categories
from framework.component_denoiser import ComponentDenoiser
from framework.denoiser import Angle, Prediction
from framework.errors import UserError
from framework.guidance.classifier_free import ClassifierFree
from framework.noise import BatchKey, SampleKey
from framework.objectives.components import ComponentObjective
from framework.objectives.distances import MSE
from framework.objectives.distortions import MovedRows
from framework.objectives.times import Uniform as UniformTimes
from framework.objectives.weightings import Constant
from framework.parametrizations import Data, Epsilon
from framework.processes.by_component import ByComponent
from framework.processes.categorical import Categorical, Mask, Uniform
from framework.processes.gaussian import Gaussian
from framework.processes.product import Product
from framework.sampler import sample
from framework.schedules import Flow, Shifted
from framework.self_conditioning import Remembering, RememberingEachRun, in_training
from framework.solvers.categorical.ancestral import Ancestral
from framework.solvers.ddim import DDIM
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.splitting import Splitting, fitting
from framework.spaces import Euclidean
from framework.spaces import Product as ProductSpace
from framework.state import Condition

CLASSES = 3
SPACE = ProductSpace({"point": Euclidean((2,)), "label": Categories(CLASSES, Array((1,)))})


def nothing(rows: int) -> TensorDict:
    return TensorDict({}, batch_size=[rows])


class Constantly(nn.Module):
    """Says the same of every state: a point, and logits; it counts what it was told before."""

    self_conditioned = True

    def __init__(self, point: Tensor, logits: Tensor) -> None:
        super().__init__()
        self.point, self.logits = nn.Parameter(point), nn.Parameter(logits)
        self.heard: list[Tensor | None] = []

    def forward(self, x_t: TensorDict, level: Tensor, condition: Condition) -> TensorDict:
        previous = condition.get("previous")
        self.heard.append(None if previous is None else previous["label"])
        rows = len(level)
        parts = {"point": self.point.expand(rows, 2), "label": self.logits.expand(rows, 1, CLASSES)}
        return TensorDict(parts, batch_size=[rows])


def denoiser(network: nn.Module, processes: ByComponent | None = None) -> ComponentDenoiser:
    process = (processes or ByComponent()).process(SPACE, Flow())
    return ComponentDenoiser(network, process, Flow(), Data(), SPACE, Angle())


def test_the_space_says_what_each_component_is() -> None:
    clock = Shifted(Flow(), 3.0)
    process = ByComponent(tokens={"label": Uniform()}, clocks={"point": clock}).process(SPACE, Flow())
    assert isinstance(process, Product)
    point, label = process.processes["point"], process.processes["label"]
    assert isinstance(point, Gaussian) and point.schedule is clock
    assert isinstance(label, Categorical) and label.states == CLASSES and isinstance(label.schedule, Flow)
    assert isinstance(ByComponent().process(Euclidean((2,)), Flow()), Gaussian)
    masked = ByComponent().process(Categories(2, Array((4,))), Flow())
    assert isinstance(masked, Categorical) and isinstance(masked.stationary, Mask)
    smooth = ProductSpace({"a": Euclidean((1,)), "b": Euclidean((2,))})
    assert isinstance(ByComponent().process(smooth, Flow()), Gaussian)  # which every solver can undo


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (ByComponent(tokens={"point": Mask()}), "tokens names point; here it may name label"),
        (ByComponent(clocks={"other": Flow()}), "clocks names other; here it may name label, point"),
    ],
)
def test_a_component_that_is_not_there_is_named(wrong: ByComponent, message: str) -> None:
    with pytest.raises(UserError, match=message):
        wrong.process(SPACE, Flow())


def test_an_output_becomes_a_mean_and_probabilities() -> None:
    logits = torch.tensor([0.0, math.log(2), math.log(5)])
    made = denoiser(Constantly(torch.tensor([1.0, -1.0]), logits))
    x = TensorDict({"point": torch.randn(4, 2), "label": torch.zeros(4, 1, dtype=torch.int64)}, batch_size=[4])
    prediction = made(x, torch.full((4,), 0.5, dtype=torch.float64), nothing(4))
    assert prediction.tokens == ("label",)
    assert torch.allclose(prediction.clean["label"], torch.tensor([1 / 8, 2 / 8, 5 / 8]).expand(4, 1, 3))
    assert torch.equal(prediction.clean["point"], torch.tensor([1.0, -1.0]).expand(4, 2))
    with pytest.raises(UserError, match="Epsilon prediction does not say"):
        ComponentDenoiser(nn.Identity(), ByComponent().process(SPACE, Flow()), Flow(), Epsilon(), SPACE, Angle())


def test_the_loss_is_the_weighted_sum_of_a_distance_and_a_cross_entropy() -> None:
    logits = torch.tensor([0.0, math.log(2), math.log(5)])
    network = Constantly(torch.tensor([1.0, -1.0]), logits)
    x_0 = TensorDict({"point": torch.zeros(3, 2), "label": torch.tensor([[0], [1], [2]])}, batch_size=[3])
    objective = ComponentObjective(
        UniformTimes(), Constant(), MSE(), weights={"point": 0.5, "label": 2.0}, self_conditioning=0.0
    )
    terms = objective(denoiser(network), x_0, nothing(3), BatchKey(0, 0, size=3))
    entropy = -torch.tensor([1 / 8, 2 / 8, 5 / 8]).log()
    assert torch.allclose(terms.loss, 0.5 * 1.0 + 2 * entropy)
    learned = ComponentObjective(
        UniformTimes(), Constant(), MSE(), weights={"point": 0.5, "label": 2.0}, balance="learned"
    )
    first = learned(denoiser(network), x_0, nothing(3), BatchKey(0, 0, size=3)).loss
    assert torch.allclose(first, 0.5 * 1.0 - math.log(0.5) + 2 * entropy - math.log(2.0))
    first.mean().backward()
    assert learned.logarithms is not None  # at the best weight exp(-u) e = 1
    assert float(learned.logarithms["point"].grad) == pytest.approx(1 - 0.5 * 1.0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="weights names lable"):
        ComponentObjective(UniformTimes(), Constant(), MSE(), weights={"lable": 1.0})(
            denoiser(network), x_0, nothing(3), BatchKey(0, 0, size=3)
        )


def test_a_network_hears_what_it_said_last_in_the_rows_that_are_chosen() -> None:
    network = Constantly(torch.zeros(2), torch.tensor([0.0, 0.0, 9.0]))
    made = denoiser(network)
    x = TensorDict({"point": torch.randn(4, 2), "label": torch.zeros(4, 1, dtype=torch.int64)}, batch_size=[4])
    t = torch.full((4,), 0.5, dtype=torch.float64)
    rows = torch.tensor([True, False, True, False])
    told = in_training(made, x, t, nothing(4), rows)["previous"]
    assert not told["label"].requires_grad
    assert torch.equal(told["label"].sum((1, 2)).round(), rows.float())
    again = Remembering(made)
    network.heard.clear()
    for _ in range(3):
        again(x, t, nothing(4))
    again(x[:2], t[:2], nothing(2))  # other rows: it begins anew
    assert [heard is None for heard in network.heard] == [True, False, False, True]
    assert torch.allclose(network.heard[1], torch.tensor([0.0, 0.0, 9.0]).softmax(-1).expand(4, 1, 3))  # type: ignore[arg-type]


def test_each_of_many_runs_begins_with_nothing_said() -> None:
    """A run's times fall, or stay where a method asks twice; a higher one is another run's."""
    network = Constantly(torch.zeros(2), torch.zeros(CLASSES))
    told = RememberingEachRun(denoiser(network))
    x = TensorDict({"point": torch.zeros(2, 2), "label": torch.full((2, 1), CLASSES)}, batch_size=[2])
    for time in (1.0, 0.5, 0.5, 0.2, 0.9, 0.1, 1.0):
        told(x, torch.full((2,), time, dtype=torch.float64), nothing(2))
    assert [heard is None for heard in network.heard] == [True, False, False, False, True, False, True]


class Two:
    """One prediction with a condition, another without."""

    schedule = Flow()

    def __call__(self, x_t: TensorDict, t: Tensor, condition: Condition) -> Prediction:  # type: ignore[override]
        said = condition["said"][:, None]
        label = torch.where(said[..., None] > 0, torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.2, 0.4, 0.4]))
        clean = TensorDict({"point": said.expand(-1, 2), "label": label}, batch_size=[len(said)])
        return Prediction(clean, x_t, 0.5, 0.5, ("label",))


def test_guidance_leads_tokens_on_their_logarithms() -> None:
    x = TensorDict({"point": torch.zeros(2, 2), "label": torch.zeros(2, 1, dtype=torch.int64)}, batch_size=[2])
    t = torch.full((2,), 0.5, dtype=torch.float64)
    condition, negative = (TensorDict({"said": torch.full((2,), v)}, batch_size=[2]) for v in (1.0, 0.0))
    clean = ClassifierFree(3.0)(Two(), negative)(x, t, condition).clean  # type: ignore[arg-type]
    wanted = torch.tensor([0.6**3 / 0.2**2, 0.3**3 / 0.4**2, 0.1**3 / 0.4**2])
    assert torch.allclose(clean["label"], (wanted / wanted.sum()).expand(2, 1, 3), atol=1e-6)
    assert torch.equal(clean["point"], torch.full((2, 2), 3.0))
    alone = ClassifierFree({"label": 2.0})(Two(), negative)(x, t, condition).clean  # type: ignore[arg-type]
    assert torch.equal(alone["point"], torch.ones(2, 2))  # what is not named is not guided
    with pytest.raises(UserError, match="scale names lable; the components here are label, point"):
        ClassifierFree({"lable": 2.0})(Two(), negative)(x, t, condition)  # type: ignore[arg-type]


def test_a_solver_of_one_kind_moves_that_kind() -> None:
    process = ByComponent().process(SPACE, Flow())
    plan = fitting(DDIM(), process)
    assert isinstance(plan, Splitting) and isinstance(plan.continuous, DDIM)
    kernel = fitting(Ancestral(), process)
    assert isinstance(kernel, Splitting) and isinstance(kernel.continuous, DPMpp2M)
    assert fitting(DDIM(), Gaussian(Flow(), Euclidean((2,)))) == DDIM()
    network = Constantly(torch.tensor([1.0, -1.0]), torch.tensor([-99.0, 0.0, -99.0]))
    times = torch.linspace(1, 0, 5, dtype=torch.float64)
    got = sample(denoiser(network), plan, times, SPACE, nothing(3), SampleKey(0, (0, 1, 2)), process=process)  # type: ignore[arg-type]
    assert torch.allclose(got["point"], torch.tensor([1.0, -1.0]).expand(3, 2), atol=1e-6)
    assert got["label"].unique().tolist() == [1]


def test_moved_rows_are_a_share_of_late_samples() -> None:
    rows = 4000
    t = torch.linspace(0, 1, rows, dtype=torch.float64)
    moved = MovedRows(samples=0.5, rows=0.25, scale=0.3, until=0.5)(
        torch.zeros(rows, 8, 3), t, BatchKey(0, 0, size=rows)
    )
    late, early = moved[: rows // 2], moved[rows // 2 :]
    assert bool((early == 0).all())
    each = (late != 0).any(-1)
    assert float(each.any(1).float().mean()) == pytest.approx(0.5 * (1 - 0.75**8), abs=0.04)
    assert float(each.float().mean()) == pytest.approx(0.5 * 0.25, abs=0.01)
    assert float(late[each].std()) == pytest.approx(0.3, rel=0.03)
