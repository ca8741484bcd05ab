"""Solvers, from a scheduler's options; see read.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from framework.errors import UserError
from framework.interchange.options import Options
from framework.interchange.read_levels import ratio_at
from framework.interchange.sampling import ByLength
from framework.schedules import TabulatedBetas
from framework.solvers.adams import DEIS, LMS, LogRatio
from framework.solvers.ancestral import EulerAncestral
from framework.solvers.ddim import DDIM, DDPM
from framework.solvers.dpm_solver import DPMSolver2, DPMSolver3
from framework.solvers.dpmpp import DPMpp2M, DPMpp2S, DPMpp3M, DPMpp3S
from framework.solvers.dpmpp_sde import DPMppSDE
from framework.solvers.edm import Euler, Heun
from framework.solvers.exponential import DataPrediction, NoisePrediction
from framework.solvers.ipndm import IPNDM
from framework.solvers.plan import Solver
from framework.solvers.sa_solver import SASolver
from framework.solvers.sde_dpmpp import SDEDPMpp1, SDEDPMpp2M, SDEDPMpp2MHeun, SDEDPMpp3M
from framework.solvers.unipc import BH1, BH2, UniP, UniPC

TAU_STEPS = (200, 800)  # SASolverScheduler adds noise between these time steps


@dataclass(frozen=True)
class _Rules:
    """How the order falls in the last steps: in short runs, and in all others."""

    few: int
    many: int

    @classmethod
    def of(cls, options: Options, end: int) -> _Rules:
        """Theirs falls to 1 in the last step (and to 2 before it) in runs of fewer than 15, if lower_order_final."""
        order = options["solver_order"]
        many = 1 if options["euler_at_final"] and end == 1 else 0
        few = order - 1 if options["lower_order_final"] else many
        if end == 0 and few == 1:
            few = 0  # the step to the data is of first order in any case
        return cls(max(few, many), many)

    def choose(self, make: Callable[[int], Solver]) -> Solver:
        return make(self.many) if self.few == self.many else ByLength(make(self.few), make(self.many))

    def ignored(self, notes: list[str]) -> None:
        if self.few or self.many:
            notes.append("the order does not fall in the last steps, as lower_order_final has it")


def multistep(options: Options, end: int, notes: list[str]) -> Solver:
    algorithms = ("dpmsolver", "dpmsolver++", "sde-dpmsolver++", "deis")
    algorithm = options.one_of("algorithm_type", *(algorithms[1:] if options.name.startswith("EDM") else algorithms))
    algorithm = "dpmsolver++" if algorithm == "deis" else algorithm
    order = options.one_of("solver_order", 1, 2, 3)
    kind = options.one_of("solver_type", "midpoint", "heun", "logrho", "bh1", "bh2")
    kind = "heun" if kind == "heun" else "midpoint"
    rules = _Rules.of(options, end)
    if algorithm == "sde-dpmsolver++":
        rules.ignored(notes)
        if order == 3:
            notes.append("the third-order update of their sde-dpmsolver++ has a wrong sign; this is k-diffusion's")
            return SDEDPMpp3M()
        return SDEDPMpp1() if order == 1 else SDEDPMpp2MHeun() if kind == "heun" else SDEDPMpp2M()
    if order == 1:
        return DDIM()
    if algorithm == "dpmsolver":
        if order == 3:
            notes.append("their third-order update halves the second derivative; this is the exact integral (DEIS)")
            return rules.choose(lambda last: DEIS(3, LogRatio(), last))
        if kind == "heun":
            return rules.choose(lambda last: DEIS(2, LogRatio(), last))
        return rules.choose(lambda last: UniP(2, BH2(), NoisePrediction(), last))
    if order == 3:
        return rules.choose(DPMpp3M)
    if kind == "heun":
        rules.ignored(notes)
        return SASolver(predictor_order=2, corrector_order=0, tau=0.0)
    return rules.choose(DPMpp2M)


def _singlestep(options: Options, notes: list[str]) -> Solver:
    algorithm = options.one_of("algorithm_type", "dpmsolver", "dpmsolver++")
    order = options.one_of("solver_order", 1, 2, 3)
    if order == 1:
        return DDIM()
    options.one_of("solver_type", "midpoint")
    notes.append(
        f"a step here is {order} of theirs, which uses the grid's nodes as inner times: for n of their steps take "
        f"n / {order}; the inner times are here at even parts of the step in log(sigma / alpha)"
    )
    if order == 2:
        return DPMpp2S() if algorithm == "dpmsolver++" else DPMSolver2()
    return DPMpp3S() if algorithm == "dpmsolver++" else DPMSolver3()


def _unipc(options: Options) -> Solver:
    order = options.one_of("solver_order", 1, 2, 3)
    step = {"bh1": BH1()}.get(options.one_of("solver_type", "bh1", "bh2", "midpoint", "heun", "logrho"), BH2())
    kind = DataPrediction() if options["predict_x0"] else NoisePrediction()
    last = order - 1 if options["lower_order_final"] else 0
    options.one_of("solver_p", None)
    off = set(options["disable_corrector"])
    if not off:
        return UniPC(order, step, kind, last)
    if off >= set(range(options["num_train_timesteps"])):
        return UniP(order, step, kind, last)
    raise UserError(
        f"{options.name} with disable_corrector={sorted(off)} has no counterpart here: the corrector is on in every "
        "step ([]) or in none (all step indices, up to num_train_timesteps)"
    )


def _sa_solver(options: Options, table: TabulatedBetas, notes: list[str]) -> Solver:
    options.one_of("tau_func", None)
    options.one_of("algorithm_type", "data_prediction")
    low, high = tau_range(table)
    notes.append("the weights of order 2 are the exact ones, without the terms that the authors' code adds")
    if options["lower_order_final"]:
        notes.append("the order does not fall in the last steps, as lower_order_final has it")
    return SASolver(options["predictor_order"], options["corrector_order"], 1.0, low, high)


def solver_of(options: Options, table: TabulatedBetas, end: int, notes: list[str]) -> Solver:
    simple: dict[str, Callable[[], Solver]] = {
        "DDPMScheduler": DDPM,
        "DDIMScheduler": DDIM,
        "EulerDiscreteScheduler": Euler,
        "EulerAncestralDiscreteScheduler": EulerAncestral,
        "HeunDiscreteScheduler": Heun,
        "LMSDiscreteScheduler": LMS,
        "KDPM2DiscreteScheduler": DPMSolver2,
        "DPMSolverSDEScheduler": DPMppSDE,
    }
    if options.name in simple:
        return simple[options.name]()
    if options.name == "PNDMScheduler":
        notes.append("the first steps are by Adams-Bashforth of lower order and not by Runge-Kutta steps (iPNDM)")
        return IPNDM()
    if options.name == "DPMSolverMultistepScheduler":
        return multistep(options, end, notes)
    if options.name == "DPMSolverSinglestepScheduler":
        return _singlestep(options, notes)
    if options.name == "UniPCMultistepScheduler":
        return _unipc(options)
    if options.name == "SASolverScheduler":
        return _sa_solver(options, table, notes)
    order = options.one_of("solver_order", 1, 2, 3)
    return DDIM() if order == 1 else _Rules.of(options, end).choose(lambda last: DEIS(order, LogRatio(), last))


def tau_range(table: TabulatedBetas) -> tuple[float, float]:
    """The ratios between which SASolverScheduler adds noise, a rounding error wider than the levels themselves."""
    timesteps = len(table.betas)
    low, high = (ratio_at(table, timesteps, min(step + 1, timesteps)) for step in TAU_STEPS)
    return low * (1 - 1e-9), high * (1 + 1e-9)
