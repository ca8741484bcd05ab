"""The laws of product processes and of splitting, on data whose joint denoiser is exact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from tensordict import TensorDict

from framework.build import Allow, build
from framework.categories import Array, Categories, Nodes, Pairs
from framework.certify.chains import CHAIN_2, ChainDenoiser
from framework.certify.gaussian_mixture import PLANE, MixtureDenoiser
from framework.certify.label_and_point import LabelAndPoint, LabelAndPointDenoiser, Law, law_error, terminal_law
from framework.denoiser import Prediction
from framework.errors import UserError
from framework.ledger import Ledger
from framework.noise import SampleKey
from framework.processes.categorical import Categorical, Uniform
from framework.processes.gaussian import Gaussian
from framework.processes.product import Product
from framework.sampler import Progress, sample
from framework.schedules import Cosine, Flow, LinearVP
from framework.solvers.categorical.ancestral import Ancestral
from framework.solvers.categorical.confidence import ConfidenceOrder
from framework.solvers.categorical.first_hitting import FirstHitting
from framework.solvers.categorical.kernels import KernelSolver
from framework.solvers.categorical.remdm import Cap, Confident, ReMDM
from framework.solvers.categorical.tau_leaping import TauLeaping
from framework.solvers.ddim import DDIM, DDPM
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.edm import Heun
from framework.solvers.plan import Solver
from framework.solvers.splitting import Splitting
from framework.spaces import Euclidean, ZeroCentreOfMass
from framework.spaces import Product as ProductSpace

DATA = LabelAndPoint()
SPACE = ProductSpace({"label": Categories(2, Array((1,))), "point": Euclidean((1,))})


def even(steps: int) -> torch.Tensor:
    return torch.arange(steps, -1, -1, dtype=torch.float64) / steps


def nothing(rows: int) -> TensorDict:
    return TensorDict({}, batch_size=[rows])


def key(rows: int, seed: int = 0) -> SampleKey:
    return SampleKey(seed, tuple(range(rows)))


def sampled_law(solver: Splitting, steps: int, rows: int, ledger: Ledger | None = None) -> Law:
    process = DATA.process()
    denoiser = LabelAndPointDenoiser(DATA, process, ledger)
    x = sample(denoiser, solver, even(steps), SPACE, nothing(rows), key(rows), process=process, ledger=ledger)
    weight = torch.full((rows,), 1 / rows, dtype=torch.float64)
    return Law(x["label"][:, 0], x["point"][:, 0].double(), weight)


@pytest.mark.parametrize("categorical", [Ancestral(), TauLeaping()], ids=["ancestral", "tau_leaping"])
def test_order_of_convergence(categorical: KernelSolver) -> None:
    """By enumeration: the errors of label, mismatch and point halve with the step."""
    solver = Splitting(DDIM(), categorical)
    coarse, fine = (law_error(DATA, terminal_law(solver, DATA, DATA.process(), even(n))) for n in (20, 40))
    for a, b in zip(
        (coarse.label, coarse.mismatch, coarse.point), (fine.label, fine.mismatch, fine.point), strict=True
    ):
        slope = float(torch.tensor(a / b).log2())
        assert solver.order - 0.1 < slope < solver.order + 0.2, (coarse, fine)


def test_a_multistep_solver_of_the_point_is_more_exact_and_still_of_order_one() -> None:
    """Where tokens change, what it remembers is of another token: its error has the order of the others'."""
    process = DATA.process(label=Cosine())
    errors = {
        (solver, n): law_error(DATA, terminal_law(Splitting(solver), DATA, process, even(n))).point
        for solver in (DDIM(), DPMpp2M())
        for n in (20, 40, 80)
    }
    assert all(errors[DPMpp2M(), n] < errors[DDIM(), n] / 3 for n in (20, 40, 80))
    slope = float(torch.tensor(errors[DPMpp2M(), 20] / errors[DPMpp2M(), 80]).log2()) / 2
    assert 0.9 < slope < 1.4, errors


def test_clocks_are_the_components_own() -> None:
    """A label that is settled in early noise, or late, still comes out with the right law."""
    for label in (Cosine(), LinearVP(0.1, 40.0)):
        error = law_error(DATA, terminal_law(Splitting(), DATA, DATA.process(label=label), even(40)))
        assert error.label < 2e-3 and abs(error.mismatch) < 6e-3 and error.point < 1e-2, error


def test_the_quadrature_is_exact_to_what_is_reported() -> None:
    laws = [terminal_law(Splitting(), DATA, DATA.process(), even(10), nodes) for nodes in (200, 300)]
    a, b = (law_error(DATA, law) for law in laws)
    assert a.point == pytest.approx(b.point, abs=1e-6) and a.label == pytest.approx(b.label, abs=1e-6)


def test_exact_data_has_no_error() -> None:
    rows = 200_000
    data = DATA.sample(rows, 0)
    weight = torch.full((rows,), 1 / rows, dtype=torch.float64)
    error = law_error(DATA, Law(data["label"][:, 0], data["point"][:, 0], weight))
    assert max(error.label, abs(error.mismatch), error.point) < 5 / rows**0.5


def test_samples_follow_the_enumerated_law() -> None:
    """The loop's draws against the enumeration, within four standard errors, where the law is far from the data's."""
    rows, steps = 4000, 4
    ledger = Ledger()
    drawn, law = (
        sampled_law(Splitting(DDIM()), steps, rows, ledger),
        terminal_law(Splitting(DDIM()), DATA, DATA.process(), even(steps)),
    )
    assert ledger.calls == steps and ledger.forward == steps * rows
    for f in (lambda y, x: y.double(), lambda y, x: x, lambda y, x: x**2, lambda y, x: y * torch.sin(2 * x)):
        got = f(drawn.label, drawn.point)
        expected = float((law.weight * f(law.label, law.point)).sum())
        assert abs(float(got.mean()) - expected) < 4 * float(got.std()) / rows**0.5
    assert law_error(DATA, law).point > 0.1


class Apart:
    """Independent components: a point of the plane and a chain, each with its exact denoiser."""

    def __init__(self, chain: Categorical) -> None:
        self.chain, self.schedule = ChainDenoiser(CHAIN_2, chain), LinearVP()
        self.plane = MixtureDenoiser(PLANE, self.schedule)

    def __call__(self, x_t: TensorDict, t: torch.Tensor, condition: TensorDict) -> Prediction:
        clean = {
            "point": self.plane(x_t["point"], t, condition).clean,
            "tokens": self.chain(x_t["tokens"], t, condition).clean,
        }
        return Prediction(TensorDict(clean, batch_size=x_t.batch_size), x_t, 1.0, 0.0)


@pytest.mark.parametrize("continuous", [DDIM(), DDPM(), DPMpp2M()], ids=str)
@pytest.mark.parametrize(
    "categorical", [Ancestral(), TauLeaping(), ReMDM(Cap(0.2)), ReMDM(Confident()), ConfidenceOrder()], ids=str
)
def test_independent_components_are_sampled_as_if_alone(continuous: Solver, categorical: KernelSolver) -> None:
    """With its own key's component each is bit for bit what its own solver makes of it, memory and noise included."""
    rows, times = 6, even(5)
    tokens = CHAIN_2.process(schedule=Cosine())
    apart = Apart(tokens)
    point = Gaussian(apart.schedule, Euclidean((2,)))
    process = Product({"point": point, "tokens": tokens})
    space = ProductSpace({"point": point.space, "tokens": tokens.space})
    solver = Splitting(continuous, categorical)
    x = sample(apart, solver, times, space, nothing(rows), key(rows), process=process)
    own = key(rows)
    alone = sample(apart.plane, continuous, times, point.space, nothing(rows), own.component("point"))
    assert torch.equal(x["point"], alone)
    alone = sample(
        apart.chain, categorical, times, tokens.space, nothing(rows), own.component("tokens"), process=tokens
    )
    assert torch.equal(x["tokens"], alone)


MOLECULES = Product(
    {
        "positions": Gaussian(Flow(), ZeroCentreOfMass(3)),
        "atoms": Categorical(Cosine(), Categories(3, Nodes())),
        "bonds": Categorical(Flow(), Categories(2, Pairs()), Uniform()),
    }
)
MOLECULE_SPACE = ProductSpace({name: part.space for name, part in MOLECULES.processes.items()})


def sets(*sizes: int, width: int = 5) -> TensorDict:
    mask = torch.arange(width)[None] < torch.tensor(sizes)[:, None]
    return TensorDict({"mask": mask}, batch_size=[len(sizes)])


class Molecules:
    """Some joint denoiser of sets, in which every component depends on every other."""

    schedule = Flow()

    def __call__(self, x_t: TensorDict, t: torch.Tensor, condition: TensorDict) -> Prediction:
        positions, atoms, bonds = x_t["positions"], x_t["atoms"], x_t["bonds"]
        distance = torch.where(bonds > 0, (positions[:, :, None] - positions[:, None]).square().sum(-1), 0.0)
        heat = distance.sum(2) + 0.3 * atoms
        clean = {
            "positions": torch.tanh(positions * heat[..., None]),
            "atoms": torch.stack([heat, -heat, torch.ones_like(heat)], -1).softmax(-1),
            "bonds": torch.stack([heat[:, :, None] + heat[:, None], torch.ones_like(distance)], -1).softmax(-1),
        }
        return Prediction(TensorDict(clean, batch_size=x_t.batch_size), x_t, 1.0, 0.0)


def molecules(condition: TensorDict, samples: tuple[int, ...], solver: Splitting, **how: object) -> TensorDict:
    x = sample(Molecules(), solver, even(6), MOLECULE_SPACE, condition, SampleKey(1, samples), process=MOLECULES, **how)
    assert isinstance(x, TensorDict)
    return x


@pytest.mark.parametrize("continuous", [DDPM(), DPMpp2M()], ids=str)
def test_batch_split_padding_and_projection(continuous: Solver) -> None:
    """Sets with a Gaussian, a masked and a uniform symmetric component, each with its own space and clock."""
    solver, sizes = Splitting(continuous, components={"atoms": ReMDM(Cap(0.1))}), (2, 5, 3, 4)
    condition = sets(*sizes)
    seen: list[Progress] = []
    whole = molecules(condition, (0, 1, 2, 3), solver, hooks=[seen.append])
    split = molecules(sets(4, 5), (3, 1), solver)
    wide = molecules(sets(*sizes, width=7), (0, 1, 2, 3), solver)
    for name in MOLECULES.processes:
        torch.testing.assert_close(split[name], whole[name][[3, 1]], rtol=0, atol=1e-5)
        narrow = wide[name][:, :5, :5] if name == "bonds" else wide[name][:, :5]
        torch.testing.assert_close(narrow, whole[name], rtol=0, atol=1e-5)
        assert torch.equal(MOLECULE_SPACE.components[name].project(whole[name], condition), whole[name]) or (
            name == "positions"
        )
    assert float(whole["positions"].sum(1).abs().max()) < 1e-5
    assert int(whole["atoms"].max()) < 3
    assert [(p.index, p.stages, p.stage.step) for p in seen] == [(i, 6, i) for i in range(6)]
    assert torch.equal(seen[-1].x["bonds"], whole["bonds"])


def test_corruption_of_a_product_is_that_of_its_parts() -> None:
    condition, t = sets(3, 5), torch.tensor([0.3, 0.9], dtype=torch.float64)
    x_0 = MOLECULE_SPACE.project(
        TensorDict(
            {
                "positions": torch.randn(2, 5, 3),
                "atoms": torch.randint(0, 3, (2, 5)),
                "bonds": torch.randint(0, 2, (2, 5, 5)),
            },
            batch_size=[2],
        ),
        condition,
    )
    own = SampleKey(0, (4, 7))
    x_t, done = MOLECULES.corrupt(x_0, t, own, condition)
    for name, part in MOLECULES.processes.items():
        one, what = part.corrupt(x_0[name], t, own.component(name), condition)
        assert torch.equal(x_t[name], one) and torch.equal(done[name], what)


@pytest.mark.parametrize(
    ("solver", "message"),
    [
        (Splitting(Heun()), "evaluates 2 times"),
        (Splitting(Heun(churn=10.0)), "one evaluation a step"),
        (Splitting(components={"charges": Ancestral()}), "'charges'"),
        (Splitting(components={"atoms": DDIM()}), "is categorical"),
        (Splitting(components={"positions": Ancestral()}), "is continuous"),
        (Splitting(components={"atoms": FirstHitting()}), "no kernel"),
        (Splitting(categorical=ConfidenceOrder()), "has no mask"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_refused(solver: Splitting, message: str) -> None:
    with pytest.raises(UserError, match=message):
        molecules(sets(2, 3), (0, 1), solver)


def test_other_processes_and_states_are_refused() -> None:
    with pytest.raises(UserError, match="Product"):
        sample(
            ChainDenoiser(CHAIN_2, CHAIN_2.process()),
            Splitting(),
            even(2),
            CHAIN_2.space,
            nothing(2),
            key(2),
            process=CHAIN_2.process(),
        )
    with pytest.raises(UserError, match="components"):
        molecules(sets(2, 3), (0, 1), Splitting(), initial=TensorDict({"atoms": torch.zeros(2, 5)}, batch_size=[2]))
    with pytest.raises(UserError, match="at least one component"):
        Product({})


def test_the_configuration_is_the_default() -> None:
    path = Path(__file__).parents[2] / "conf" / "solver" / "splitting.yaml"
    assert build(yaml.safe_load(path.read_text()), Allow(("framework",))) == Splitting()
