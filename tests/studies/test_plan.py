"""What a budget buys: as many steps as it allows, counted as the ledger will count them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from benchmarks.groups import group
from framework.denoiser import Angle, Denoiser
from framework.errors import UserError
from framework.grids import Karras, UniformFlow, UniformTime
from framework.guidance.classifier_free import ClassifierFree, Guidance
from framework.guidance.composed import Composed
from framework.guidance.embedded import Embedded
from framework.guidance.energy import EnergyGuided
from framework.model import Model, SamplingDefaults
from framework.parametrizations import V
from framework.processes.by_component import ByComponent
from framework.schedules import Flow, Schedule
from framework.solvers.adaptive import RK45
from framework.solvers.categorical.ancestral import Ancestral
from framework.solvers.categorical.tau_leaping import TauLeaping
from framework.solvers.ddim import DDIM
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.edm import Heun
from framework.solvers.sde_dpmpp import SDEDPMpp2M
from framework.solvers.splitting import Splitting
from framework.state import Condition
from framework.studies.cell import Choice, Protocol
from framework.studies.cost import count_flops
from framework.studies.counting import evaluations, most_steps, own_solver, weight
from framework.studies.plan import Study, Tuning
from tests.judged_points import Judged, LabelledNet
from tests.testing.token_toys import Graphs

SOLVERS = group("solver")
COUNTED = ("euler", "heun", "dpm_solver_2", "dpm_solver_3", "dpmpp_2m", "dpmpp_3s", "unipc", "restart", "rk4", "ddpm")


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return Model(Judged(), LabelledNet(dropout=0.0), Flow(), V())


class Nowhere(torch.nn.Module):
    """A network of graphs that says nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x_t: TensorDict, noise_level: torch.Tensor, condition: TensorDict) -> TensorDict:
        logits = {name: torch.zeros(*x_t[name].shape, k) + self.weight for name, k in (("kinds", 3), ("links", 2))}
        return TensorDict({"points": 0 * x_t["points"], **logits}, batch_size=x_t.batch_size)


def graphs() -> Model:
    defaults = SamplingDefaults(solver=Splitting(SDEDPMpp2M(), TauLeaping()))
    return Model(Graphs(), Nowhere(), Flow(), V(), Angle(), defaults, ByComponent())


@pytest.mark.parametrize("name", COUNTED)
@pytest.mark.parametrize("guidance", [None, ClassifierFree(3.0), ClassifierFree(3.0, [-2.0, 2.0]), Embedded(3.0)])
def test_the_count_is_what_the_ledger_says(model: Model, name: str, guidance: Guidance | None) -> None:
    solver, cost = SOLVERS[name], weight(guidance, 1.0)
    for grid in (UniformFlow(), Karras()):
        steps, count = most_steps(21, lambda n, g=grid: evaluations(model, solver, g, n, cost))
        ledger = model.sample([0, 1], solver=solver, grid=grid, steps=steps, guidance=guidance).ledger
        assert ledger.evaluations_per_sample == count <= 21
        assert evaluations(model, solver, grid, steps + 1, cost) > 21


def test_a_backward_pass_counts_by_its_operations(model: Model) -> None:
    _, backward = count_flops(model, [0, 1])
    assert 0.3 < backward < 3
    guidance = Composed([ClassifierFree(2.0), EnergyGuided(lambda x, condition: x.square().sum(1))])
    ledger = model.sample([0, 1], solver=DDIM(), grid=UniformTime(), steps=5, guidance=guidance).ledger
    counted = evaluations(model, DDIM(), UniformTime(), 5, weight(guidance, backward))
    assert counted == pytest.approx((ledger.forward + backward * ledger.backward) / 2)


class Twice:
    """A stranger's guidance, which asks twice and takes the mean."""

    def __call__(self, denoiser: Denoiser, negative: Condition) -> Denoiser:
        return ClassifierFree(0.5)(denoiser, negative)


class TwiceAtAPrice(Twice):
    def cost(self, schedule: Schedule, t: Tensor, backward: float) -> Tensor:
        return torch.full_like(t, 2.0)


def test_a_guidance_of_ones_own_says_what_it_costs(model: Model) -> None:
    counted = evaluations(model, DDIM(), UniformTime(), 5, weight(TwiceAtAPrice(), 1.0))
    sampled = model.sample([0, 1], solver=DDIM(), grid=UniformTime(), steps=5, guidance=TwiceAtAPrice())
    assert counted == sampled.ledger.evaluations_per_sample == 10
    for silent in (Twice(), Composed([Twice()])):
        with pytest.raises(UserError, match=r"Twice.* cost\(schedule, t, backward\)"):
            evaluations(model, DDIM(), UniformTime(), 5, weight(silent, 1.0))


def test_an_energy_without_a_pass_back_costs_nothing(model: Model) -> None:
    guidance = EnergyGuided(lambda x, condition: x.square().sum(1), through_network=False)
    assert evaluations(model, DDIM(), UniformTime(), 5, weight(guidance, 2.0)) == 5


def test_too_small_a_budget_says_what_a_step_costs(model: Model) -> None:
    cost = weight(None, 1.0)
    with pytest.raises(UserError, match="1 step cost 2 evaluations, more than 1"):
        most_steps(1, lambda n: evaluations(model, SOLVERS["midpoint"], UniformFlow(), n, cost))


@pytest.mark.parametrize(
    ("solver", "reason"),
    [(Ancestral(), "these states have none"), (Splitting(), "these states have none")],
)
def test_tokens_solvers_do_not_apply_to_continuous_states(model: Model, solver: object, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        own_solver(model, solver)


def test_an_adaptive_solver_has_no_budget(model: Model) -> None:
    with pytest.raises(UserError, match="chooses its own steps"):
        evaluations(model, own_solver(model, RK45()), UniformFlow(), 5, weight(None, 1.0))


def test_on_a_product_a_solver_moves_its_own_components_beside_the_models_own() -> None:
    model = graphs()
    assert own_solver(model, DPMpp2M()) == Splitting(DPMpp2M(), TauLeaping())
    assert own_solver(model, Ancestral()) == Splitting(SDEDPMpp2M(), Ancestral())
    cost = weight(None, 1.0)
    assert most_steps(7, lambda n: evaluations(model, own_solver(model, DPMpp2M()), UniformFlow(), n, cost)) == (7, 7)
    with pytest.raises(UserError, match="evaluates 2 times in the step"):
        own_solver(model, Heun())


def choices(*names: str) -> list[Choice]:
    return [Choice(name, {"_target_": name}) for name in names]


def study(**changes: object) -> Study:
    given = {
        "name": "s", "axis": "s", "solvers": choices("a", "b"), "grids": choices("g"), "guidance": choices("n"),
        "budgets": [4.0], "seeds": [0], "protocol": Protocol(),
    }  # fmt: skip
    return Study(**{**given, **changes})  # type: ignore[arg-type]


def test_labels_say_what_differs_and_nothing_else() -> None:
    a, g, n = Choice("a"), Choice("g"), Choice("n")
    assert study().label("", a, g, n) == "a"
    assert study(grids=choices("g", "h")).label("", a, g, n) == "a · g"
    assert study(solvers=choices("a"), grids=choices("g", "h")).label("", a, g, n) == "g"
    assert study(solvers=choices("a")).label("cosine", a, g, n) == "cosine"
    assert study(solvers=choices("a")).label("", a, g, n) == "a"


def test_every_solver_has_as_many_trials_and_its_own_self_is_among_them() -> None:
    options = {"a": choices("a1", "a2", "a3")}
    tuning = Tuning([9], 8, choices("g", "h", "i", "j"), options, trials=4)
    for solver in choices("a", "b"):
        tried = tuning.candidates(solver)
        assert len(set((x.name, y.name) for x, y in tried)) == 4
        assert (tried[0][0].name, tried[0][1].name) == (solver.name, "g")
        assert tried == tuning.candidates(solver)


def test_tuning_on_what_is_compared_is_refused() -> None:
    with pytest.raises(UserError, match="share"):
        study(tuning=Tuning([0], 8, choices("g")))


@pytest.mark.parametrize("empty", ["solvers", "grids", "guidance", "budgets", "seeds"])
def test_an_empty_list_is_refused(empty: str) -> None:
    with pytest.raises(UserError, match=empty):
        study(**{empty: []})


def test_there_is_a_study_for_every_axis() -> None:
    from experiments.explain import choices as options

    found = set(options("study", "compare"))
    wanted = {"solvers", "grids", "solvers_best_grid", "tuned", "guidance", "schedules", "objectives", "small", "full"}
    assert wanted <= found and (Path(__file__).parents[2] / "conf/study/base.yaml").is_file()
