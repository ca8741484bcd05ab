"""diffusers' scheduler configurations become our parts, and back: the round trip, and samples of both from one network.

The network is exact: it is told what diffusers' pipelines tell theirs (a time step, c_noise) and answers with what
`prediction_type` asks for, so that schedule, parametrisation, noise level, grid and solver are all held by the samples.
"""

from __future__ import annotations

import inspect
import json
import math
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor, nn

from framework.betas import LinearBetas, ScaledLinearBetas, ZeroTerminal
from framework.certify.gaussian_mixture import PLANE
from framework.clipping import Clip, DynamicThreshold
from framework.denoiser import Denoiser, LogSigma, NetworkDenoiser, TableIndex
from framework.errors import UserError
from framework.grids import Trailing, UniformTime
from framework.grids.levels import FlowLevels, KarrasCurve, LeadingStride, Linspace, TableLevels
from framework.interchange import ByLength, Sampling, ScaledTime, from_diffusers, to_diffusers
from framework.interchange.options import CLASS, SCHEDULERS
from framework.parametrizations import Epsilon, Flow, V
from framework.sampler import Loop, sample
from framework.schedules import DDPMBetas, LinearVP, TabulatedBetas
from framework.schedules import Flow as StraightPath
from framework.solvers.ddim import DDIM
from framework.solvers.dpmpp import DPMpp2M, DPMpp3M
from framework.solvers.edm import Euler, Heun
from tests.peers.bed import KEY, NOTHING, SPACE, start

# Theirs: numpy 2 and torch deprecate what their set_timesteps does.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

STABLE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
UNCLIPPED = {"clip_sample": False}


def config(name: str, **options: Any) -> dict[str, Any]:
    return {CLASS: f"{name}Scheduler", **options}


# What is read, in how many steps it is sampled (0: not compared), and how far the samples may be from theirs. They have
# float32 tables; between the table's levels they tell the network another time step than the noise level's, since they
# take log(sigma) for linear here and sigma there; and some round it or cut it to a whole number.
FLOAT32, BETWEEN, WHOLE = 1e-5, 2e-4, 5e-3
CASES: dict[str, tuple[dict[str, Any], int, float]] = {
    "DDPM": (config("DDPM", **UNCLIPPED), 10, FLOAT32),
    "DDPM, clipped": (config("DDPM", clip_sample_range=1.1), 10, FLOAT32),
    "DDPM, trailing, v": (
        config("DDPM", **STABLE, **UNCLIPPED, timestep_spacing="trailing", prediction_type="v_prediction"),
        10,
        FLOAT32,
    ),
    "DDPM, linspace": (config("DDPM", **UNCLIPPED, timestep_spacing="linspace"), 7, FLOAT32),
    "DDPM, sigmoid": (config("DDPM", **UNCLIPPED, beta_schedule="sigmoid"), 10, FLOAT32),
    "DDPM, cosine": (config("DDPM", **UNCLIPPED, beta_schedule="squaredcos_cap_v2"), 10, FLOAT32),
    "DDPM, thresholded": (config("DDPM", **UNCLIPPED, thresholding=True, sample_max_value=1.05), 0, 0),
    "DDPM, zero SNR": (
        config(
            "DDPM",
            **UNCLIPPED,
            rescale_betas_zero_snr=True,
            prediction_type="v_prediction",
            timestep_spacing="trailing",
        ),
        10,
        FLOAT32,
    ),
    "DDPM, trained betas": (config("DDPM", **UNCLIPPED, trained_betas=[0.02 + 0.001 * i for i in range(100)]), 0, 0),
    "DDIM": (config("DDIM", **UNCLIPPED), 10, FLOAT32),
    "DDIM, Stable Diffusion": (
        config("DDIM", **STABLE, **UNCLIPPED, set_alpha_to_one=False, steps_offset=1),
        10,
        FLOAT32,
    ),
    "DDIM, zero SNR": (
        config(
            "DDIM",
            **STABLE,
            **UNCLIPPED,
            rescale_betas_zero_snr=True,
            prediction_type="v_prediction",
            timestep_spacing="trailing",
        ),
        10,
        FLOAT32,
    ),
    "PNDM": (config("PNDM", **STABLE, skip_prk_steps=True, steps_offset=1), 0, 0),
    "Euler": (config("EulerDiscrete", **STABLE), 10, BETWEEN),
    "Euler, leading": (config("EulerDiscrete", **STABLE, timestep_spacing="leading", steps_offset=1), 10, FLOAT32),
    "Euler, trailing, sample": (
        config("EulerDiscrete", **STABLE, timestep_spacing="trailing", prediction_type="sample"),
        10,
        FLOAT32,
    ),
    "Euler, Karras": (config("EulerDiscrete", **STABLE, use_karras_sigmas=True), 10, BETWEEN),
    "Euler, exponential": (config("EulerDiscrete", **STABLE, use_exponential_sigmas=True), 10, BETWEEN),
    "Euler, beta": (config("EulerDiscrete", **STABLE, use_beta_sigmas=True), 10, BETWEEN),
    "Euler, Karras within": (
        config("EulerDiscrete", **STABLE, use_karras_sigmas=True, sigma_min=0.05, sigma_max=10.0),
        10,
        BETWEEN,
    ),
    "Euler, video": (
        config(
            "EulerDiscrete",
            **STABLE,
            use_karras_sigmas=True,
            sigma_min=0.002,
            sigma_max=700.0,
            timestep_type="continuous",
            prediction_type="v_prediction",
        ),
        0,
        0,
    ),
    "Euler, to sigma_min": (
        config("EulerDiscrete", **STABLE, timestep_spacing="trailing", final_sigmas_type="sigma_min"),
        10,
        FLOAT32,
    ),
    "Euler, log-linear": (config("EulerDiscrete", **STABLE, interpolation_type="log_linear"), 0, 0),
    "Euler, zero SNR": (
        config(
            "EulerDiscrete",
            **STABLE,
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            prediction_type="v_prediction",
        ),
        10,
        FLOAT32,
    ),
    "Euler, zero SNR of linear betas": (
        config(
            "EulerDiscrete", rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"
        ),
        0,
        0,
    ),
    "EulerAncestral": (config("EulerAncestralDiscrete", **STABLE, timestep_spacing="trailing"), 10, FLOAT32),
    "Heun": (config("HeunDiscrete", beta_schedule="scaled_linear", timestep_spacing="trailing"), 10, FLOAT32),
    "Heun, Karras": (config("HeunDiscrete", use_karras_sigmas=True), 10, BETWEEN),
    "LMS": (config("LMSDiscrete", **STABLE, timestep_spacing="trailing"), 10, FLOAT32),
    "KDPM2": (config("KDPM2Discrete", timestep_spacing="trailing"), 10, BETWEEN),
    "DPM++ SDE": (config("DPMSolverSDE", use_karras_sigmas=True), 0, 0),
    "DPM++ 2M": (config("DPMSolverMultistep", **STABLE), 10, FLOAT32),
    "DPM++ 2M, Karras": (config("DPMSolverMultistep", **STABLE, use_karras_sigmas=True), 10, WHOLE),
    "DPM++ 2M, Lu": (config("DPMSolverMultistep", **STABLE, use_lu_lambdas=True), 10, WHOLE),
    "DPM++ 2M, leading": (
        config("DPMSolverMultistep", **STABLE, timestep_spacing="leading", steps_offset=1),
        10,
        FLOAT32,
    ),
    "DPM++ 2M heun": (
        config("DPMSolverMultistep", **STABLE, solver_type="heun", prediction_type="sample"),
        20,
        FLOAT32,
    ),
    "DPM++ 3M, short": (config("DPMSolverMultistep", **STABLE, solver_order=3), 10, FLOAT32),
    "DPM++ 3M, long": (config("DPMSolverMultistep", **STABLE, solver_order=3), 20, FLOAT32),
    "DPM++ 3M, not lower": (config("DPMSolverMultistep", solver_order=3, lower_order_final=False), 10, FLOAT32),
    "DPM++ 1": (config("DPMSolverMultistep", solver_order=1), 10, FLOAT32),
    "DPM 2M": (
        config("DPMSolverMultistep", algorithm_type="dpmsolver", final_sigmas_type="sigma_min"),
        10,
        FLOAT32,
    ),
    "DPM 2M, Euler last": (
        config("DPMSolverMultistep", algorithm_type="dpmsolver", final_sigmas_type="sigma_min", euler_at_final=True),
        20,
        FLOAT32,
    ),
    "DPM 2M heun": (
        config("DPMSolverMultistep", algorithm_type="dpmsolver", solver_type="heun", final_sigmas_type="sigma_min"),
        20,
        FLOAT32,
    ),
    "DPM, cosine, clipped lambda": (
        config("DPMSolverMultistep", beta_schedule="squaredcos_cap_v2", lambda_min_clipped=-5.1),
        10,
        FLOAT32,
    ),
    "SDE-DPM++ 2M": (config("DPMSolverMultistep", **STABLE, algorithm_type="sde-dpmsolver++"), 10, FLOAT32),
    "DPM++, flow": (
        config("DPMSolverMultistep", use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"),
        10,
        WHOLE,
    ),
    "DPM++ singlestep": (config("DPMSolverSinglestep", **STABLE), 0, 0),
    "DEIS": (config("DEISMultistep", **STABLE), 10, FLOAT32),
    "DEIS 3": (config("DEISMultistep", solver_order=3, timestep_spacing="trailing"), 20, 5 * FLOAT32),
    "UniPC": (config("UniPCMultistep", **STABLE), 10, FLOAT32),
    "UniPC 3": (
        config("UniPCMultistep", solver_order=3, solver_type="bh1", final_sigmas_type="sigma_min"),
        10,
        FLOAT32,
    ),
    "UniPC, noise": (config("UniPCMultistep", predict_x0=False, final_sigmas_type="sigma_min"), 10, FLOAT32),
    "UniP": (config("UniPCMultistep", disable_corrector=list(range(1000))), 10, FLOAT32),
    "UniPC, flow": (
        config("UniPCMultistep", use_flow_sigmas=True, flow_shift=5.0, prediction_type="flow_prediction"),
        10,
        WHOLE,
    ),
    "SASolver": (config("SASolver", **STABLE, predictor_order=1, corrector_order=1), 10, FLOAT32),
    "iPNDM": (config("IPNDM"), 0, 0),
    "EDM Euler": (config("EDMEuler"), 10, FLOAT32),
    "EDM DPM++ 3M": (config("EDMDPMSolverMultistep", solver_order=3, sigma_data=0.8, rho=5.0), 20, FLOAT32),
    "EDM DPM++, exponential": (
        config("EDMDPMSolverMultistep", sigma_schedule="exponential", sigma_max=50.0),
        10,
        FLOAT32,
    ),
    "FlowMatch": (config("FlowMatchEulerDiscrete", shift=3.0), 10, FLOAT32),
    "FlowMatch, plain": (config("FlowMatchEulerDiscrete"), 10, FLOAT32),
    "FlowMatch, terminal": (config("FlowMatchEulerDiscrete", shift=2.0, shift_terminal=0.1), 10, FLOAT32),
    "FlowMatch, Karras": (config("FlowMatchEulerDiscrete", use_karras_sigmas=True), 10, FLOAT32),
    "FlowMatch Heun": (config("FlowMatchHeunDiscrete", shift=3.0), 0, 0),
}
every = pytest.mark.parametrize("values", [case[0] for case in CASES.values()], ids=CASES.keys())
sampled = {name: case for name, case in CASES.items() if case[1]}


@every
def test_round_trip(values: dict[str, Any]) -> None:
    """What is written reads back as the same parts, through a file."""
    read = from_diffusers(values)
    written = json.loads(json.dumps(to_diffusers(read)))
    assert from_diffusers(written) == read
    assert to_diffusers(from_diffusers(written)) == to_diffusers(read)


class Exact(nn.Module):
    """The network that answers exactly: the mean of the data, said as the parametrisation has it."""

    def __init__(self, sampling: Sampling) -> None:
        super().__init__()
        self.sampling = sampling

    def time(self, level: Tensor) -> Tensor:
        """The time that a network is told as `level`."""
        match self.sampling.noise_level:
            case TableIndex(timesteps=steps):
                return (level + 1) / steps
            case ScaledTime(scale=scale):
                return level / scale
            case LogSigma(scale=scale):
                return self.sampling.schedule.time(-2 * level / scale)
        raise AssertionError

    def forward(self, x: Tensor, level: Tensor, condition: TensorDict) -> Tensor:
        t = self.time(level.double())
        alpha, sigma = self.sampling.schedule.alpha(t), self.sampling.schedule.sigma(t)
        kind = self.sampling.parametrization
        x_t = x / kind.input_scale(alpha, sigma)[:, None]
        clean = PLANE.clean_mean(x_t, alpha, sigma)
        return kind.target(clean, (x_t - alpha[:, None] * clean) / sigma[:, None], alpha, sigma)


def pipeline(values: dict[str, Any], network: Exact, steps: int, noise: Iterator[Tensor]) -> tuple[Tensor, Tensor]:
    """Their loop, unchanged; what it starts with and what it ends with, in the scheduler's own scale."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install -e '.[peers]'")
    kind = getattr(diffusers, values[CLASS])
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        warnings.simplefilter("ignore")
        patch.setattr(sys.modules[kind.__module__], "randn_tensor", lambda *a, **k: next(noise), raising=False)
        scheduler = kind.from_config(values)
        scheduler.set_timesteps(steps)
        begin = x = start() * float(getattr(scheduler, "init_noise_sigma", 1.0))
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
            out = network(scaled, torch.full((len(x),), float(t), dtype=torch.float64), NOTHING)
            x = scheduler.step(out, t, x, return_dict=False)[0].double()
    return begin, x


def noise(sampling: Sampling, times: Tensor) -> Iterator[Tensor]:
    """Our draws, stage after stage; zeros where we draw none and they do in vain."""
    assert not isinstance(sampling.solver, Loop)
    for index, stage in enumerate(sampling.solver.plan(sampling.schedule, times)):
        yield SPACE.noise(KEY.at(index + 1), NOTHING) if stage.draw else torch.zeros_like(start())


EXPLODING = ("Euler", "Heun", "LMS", "KDPM2", "EDM")


@pytest.mark.parametrize(("values", "steps", "tolerance"), sampled.values(), ids=sampled.keys())
def test_samples_are_those_of_diffusers(values: dict[str, Any], steps: int, tolerance: float) -> None:
    read = from_diffusers(values)
    network, schedule = Exact(read), read.schedule
    own = steps - 1 if any("no length" in note for note in read.notes) else steps
    times = read.grid(schedule, own)
    begin, end = pipeline(values, network, steps, noise(read, times))
    exploding = values[CLASS].startswith(EXPLODING)
    scale = float(schedule.alpha(times[0])) if exploding else 1.0
    denoiser: Denoiser = NetworkDenoiser(network, schedule, read.parametrization, SPACE, read.noise_level)
    if read.clipping is not None:
        denoiser = read.clipping(denoiser)
    got = sample(denoiser, read.solver, times, SPACE, NOTHING, KEY, initial=scale * begin)
    got = got / float(schedule.alpha(times[-1])) if exploding else got
    distance = (got - end).abs().max()
    assert float(distance) <= tolerance, float(distance)


WITH_SIGMAS = {name: case for name, case in sampled.items() if not name.startswith(("DDPM", "DDIM"))}


@pytest.mark.parametrize("steps", [3, 8, 25])
@pytest.mark.parametrize("values", [case[0] for case in WITH_SIGMAS.values()], ids=WITH_SIGMAS.keys())
def test_grids_are_their_noise_levels(values: dict[str, Any], steps: int) -> None:
    """sigma / alpha at our times are the `sigmas` that they walk, to float32."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install -e '.[peers]'")
    read = from_diffusers(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = getattr(diffusers, values[CLASS]).from_config(values)
        scheduler.set_timesteps(steps)
    theirs = torch.unique_consecutive(scheduler.sigmas.double())
    times = read.grid(read.schedule, len(theirs) - 1)
    straight = isinstance(read.schedule, StraightPath)
    ours = times if straight else torch.exp(-0.5 * read.schedule.log_snr(times))
    torch.testing.assert_close(ours, theirs, rtol=3e-4, atol=2e-6)


def test_defaults_are_those_of_diffusers() -> None:
    """Every option of every supported class, with its default, as the installed diffusers declares it."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install -e '.[peers]'")
    for name, known in SCHEDULERS.items():
        declared = inspect.signature(getattr(diffusers, name).__init__).parameters
        assert {option: p.default for option, p in declared.items() if option != "self"} == known, name


def test_thresholding_is_theirs() -> None:
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install -e '.[peers]'")
    scheduler = diffusers.DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=0.9, sample_max_value=2.5)
    x = 3 * torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(DynamicThreshold(0.9, 2.5).change(x), scheduler._threshold_sample(x))


def test_pndm_starts_otherwise() -> None:
    """PNDM's first step is taken twice; from there on both are Adams-Bashforth, and end close to each other."""
    values = config("PNDM", **STABLE, skip_prk_steps=True, steps_offset=1)
    read = from_diffusers(values)
    assert "Runge-Kutta" in read.notes[-1]
    times = read.grid(read.schedule, 50)
    network = Exact(read)
    begin, end = pipeline(values, network, 50, iter(()))
    denoiser = NetworkDenoiser(network, read.schedule, read.parametrization, SPACE, read.noise_level)
    got = sample(denoiser, read.solver, times, SPACE, NOTHING, KEY, initial=begin)
    assert float((got - end).norm(dim=1).median()) < 0.02


# --- what is made of it ----------------------------------------------------------------------------------------------


def test_stable_diffusion() -> None:
    """The configuration that its checkpoints came with, options of other schedulers among it."""
    read = from_diffusers(
        {
            CLASS: "EulerDiscreteScheduler",
            "_diffusers_version": "0.6.0",
            **STABLE,
            "clip_sample": False,
            "num_train_timesteps": 1000,
            "set_alpha_to_one": False,
            "skip_prk_steps": True,
            "steps_offset": 1,
            "trained_betas": None,
            "timestep_spacing": "leading",
        }
    )
    assert read.schedule == ScaledLinearBetas(1000, 0.00085, 0.012)
    assert (read.parametrization, read.solver) == (Epsilon(), Euler())
    assert read.grid == TableLevels(1000, LeadingStride(1))
    assert read.noise_level == TableIndex(1000) and read.notes == ()


def test_low_order_in_short_runs_only() -> None:
    solver = from_diffusers(config("DPMSolverMultistep", solver_order=3)).solver
    assert solver == ByLength(DPMpp3M(2), DPMpp3M(), below=15)
    times = [torch.linspace(1, 0, n + 1, dtype=torch.float64) for n in (14, 15)]
    assert isinstance(solver, ByLength)
    assert [solver.plan(LinearVP(), t) for t in times] == [
        DPMpp3M(2).plan(LinearVP(), times[0]),
        DPMpp3M().plan(LinearVP(), times[1]),
    ]


def test_dynamic_shifting_is_an_argument() -> None:
    values = config("FlowMatchEulerDiscrete", use_dynamic_shifting=True)
    assert from_diffusers(values, mu=math.log(3.0)).grid == FlowLevels(low=0.001, shift=pytest.approx(3.0))
    with pytest.raises(UserError, match="needs the `mu`"):
        from_diffusers(values)


def test_zero_snr_that_is_not_monotone() -> None:
    """With linear betas alpha^2 before the end is below the 2^-24 that they put at it: the last has less noise."""
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: pip install -e '.[peers]'")
    scheduler = diffusers.EulerDiscreteScheduler(rescale_betas_zero_snr=True)
    assert float(scheduler.alphas_cumprod[-1]) > float(scheduler.alphas_cumprod[-2])
    read = from_diffusers(config("EulerDiscrete", rescale_betas_zero_snr=True, prediction_type="v_prediction"))
    assert read.schedule == ZeroTerminal(LinearBetas()) and read.schedule.zero_terminal_snr
    assert "less noise" in read.notes[0]


OURS: dict[str, tuple[Sampling, str]] = {
    "a pixel model's": (
        Sampling(DDPMBetas(), Epsilon(), Trailing(), DDIM(), TableIndex(), Clip(1.0)),
        "DDIMScheduler",
    ),
    "a latent model's": (
        Sampling(ScaledLinearBetas(), V(), TableLevels(curve=KarrasCurve()), DPMpp2M(), TableIndex()),
        "DPMSolverMultistepScheduler",
    ),
    "a flow's": (
        Sampling(StraightPath(), Flow(), FlowLevels(Linspace(), low=0.001), Euler(), ScaledTime()),
        "FlowMatchEulerDiscreteScheduler",
    ),
    "betas of one's own": (
        Sampling(TabulatedBetas((0.1, 0.2, 0.3)), Epsilon(), Trailing(3), Heun(), TableIndex(3)),
        "HeunDiscreteScheduler",
    ),
}


@pytest.mark.parametrize(("sampling", "name"), OURS.values(), ids=OURS.keys())
def test_ours_is_written(sampling: Sampling, name: str) -> None:
    written = to_diffusers(sampling)
    assert written[CLASS] == name
    back = from_diffusers(written)
    assert (back.grid, back.solver, back.parametrization) == (sampling.grid, sampling.solver, sampling.parametrization)


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (Sampling(LinearVP(), Epsilon(), Trailing(), DDIM(), TableIndex()), "the schedule LinearVP"),
        (Sampling(LinearBetas(), Epsilon(), UniformTime(), DDIM(), TableIndex()), "the grid UniformTime"),
        (Sampling(LinearBetas(), Epsilon(), Trailing(), DDIM(eta=0.5), TableIndex()), "eta=0.5"),
        (Sampling(StraightPath(), Flow(), FlowLevels(), DPMpp2M(), ScaledTime()), "no scheduler"),
    ],
)
def test_what_cannot_be_written_is_named(sampling: Sampling, message: str) -> None:
    with pytest.raises(UserError, match=message):
        to_diffusers(sampling)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no counterpart here to the scheduler ''"),
        (config("EulerDiscret"), "did you mean EulerDiscreteScheduler"),
        (config("LCM"), "Supported are DDPMScheduler"),
        (config("EulerDiscrete", timestep_spacings="leading"), "did you mean 'timestep_spacing'"),
        (config("EulerDiscrete", timestep_spacing="random"), "supported: 'linspace', 'leading', 'trailing'"),
        (config("DDPM", variance_type="learned_range"), "variance_type='learned_range'"),
        (config("DDPM", beta_schedule="laplace"), "beta_schedule='laplace'"),
        (config("DPMSolverMultistep", algorithm_type="sde-dpmsolver"), "algorithm_type='sde-dpmsolver'"),
        (config("UniPCMultistep", disable_corrector=[0]), r"disable_corrector=\[0\]"),
        (config("FlowMatchEulerDiscrete", invert_sigmas=True), "invert_sigmas=True"),
        (config("EDMEuler", prediction_type="v_prediction"), "supported: 'epsilon'"),
        (config("DDIM", rescale_betas_zero_snr=True), "where alpha = 0"),
        (config("DEISMultistep", use_flow_sigmas=True), "ends at its last noise level"),
    ],
)
def test_what_cannot_be_read_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        from_diffusers(values)


def test_reading_files(tmp_path: Path) -> None:
    (tmp_path / "scheduler_config.json").write_text(json.dumps(config("DDIM", **UNCLIPPED)))
    assert from_diffusers(tmp_path) == from_diffusers(tmp_path / "scheduler_config.json")
    with pytest.raises(UserError, match="no scheduler configuration can be read from"):
        from_diffusers(tmp_path / "nothing.json")


def test_reading_needs_no_diffusers() -> None:
    code = "import sys; sys.modules['diffusers'] = None; import framework.interchange"
    subprocess.run([sys.executable, "-c", code], check=True)
