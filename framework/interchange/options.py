"""diffusers' schedulers by name: their options, and what each is when a configuration does not say (diffusers 0.42).

A saved configuration often holds options of other schedulers, left from the one that it was made from. diffusers
ignores them, and so does `Options`; an option that no scheduler has is refused.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framework.errors import UserError

Values = dict[str, Any]

_BETAS: Values = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "trained_betas": None,
    "prediction_type": "epsilon",
}
_SPACING: Values = {"timestep_spacing": "linspace", "steps_offset": 0}
_CURVES: Values = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_CLIP: Values = {"clip_sample": True, "clip_sample_range": 1.0}
_THRESHOLD: Values = {"thresholding": False, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0}
_FLOW: Values = {"use_flow_sigmas": False, "flow_shift": 1.0}
_DYNAMIC: Values = {"use_dynamic_shifting": False, "time_shift_type": "exponential"}
_ZERO_SNR: Values = {"rescale_betas_zero_snr": False}
_LATENT: Values = {"beta_start": 0.00085, "beta_end": 0.012}
_DPM: Values = {
    "solver_order": 2,
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
    "final_sigmas_type": "zero",
}
_DPM_TABLE: Values = {"lambda_min_clipped": -math.inf, "variance_type": None}
_EDM: Values = {
    "sigma_min": 0.002,
    "sigma_max": 80.0,
    "sigma_data": 0.5,
    "sigma_schedule": "karras",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "rho": 7.0,
    "final_sigmas_type": "zero",
}
_KARRAS_LIKE: Values = {**_BETAS, **_LATENT, **_CURVES, **_SPACING}

SCHEDULERS: dict[str, Values] = {
    "DDPMScheduler": {
        **_BETAS,
        **_CLIP,
        **_THRESHOLD,
        **_SPACING,
        **_ZERO_SNR,
        "timestep_spacing": "leading",
        "variance_type": "fixed_small",
    },
    "DDIMScheduler": {
        **_BETAS,
        **_CLIP,
        **_THRESHOLD,
        **_SPACING,
        **_ZERO_SNR,
        "timestep_spacing": "leading",
        "set_alpha_to_one": True,
    },
    "PNDMScheduler": {
        **_BETAS,
        **_SPACING,
        "timestep_spacing": "leading",
        "skip_prk_steps": False,
        "set_alpha_to_one": False,
    },
    "EulerDiscreteScheduler": {
        **_BETAS,
        **_CURVES,
        **_SPACING,
        **_ZERO_SNR,
        "interpolation_type": "linear",
        "sigma_min": None,
        "sigma_max": None,
        "timestep_type": "discrete",
        "final_sigmas_type": "zero",
    },
    "EulerAncestralDiscreteScheduler": {**_BETAS, **_SPACING, **_ZERO_SNR},
    "HeunDiscreteScheduler": {**_KARRAS_LIKE, **_CLIP, "clip_sample": False},
    "LMSDiscreteScheduler": {**_BETAS, **_CURVES, **_SPACING},
    "KDPM2DiscreteScheduler": _KARRAS_LIKE,
    "DPMSolverSDEScheduler": {**_KARRAS_LIKE, "noise_sampler_seed": None},
    "DPMSolverMultistepScheduler": {
        **_BETAS,
        **_DPM,
        **_DPM_TABLE,
        **_THRESHOLD,
        **_CURVES,
        **_FLOW,
        **_DYNAMIC,
        **_SPACING,
        **_ZERO_SNR,
        "lower_order_final": True,
        "euler_at_final": False,
        "use_lu_lambdas": False,
    },
    "DPMSolverSinglestepScheduler": {
        **_BETAS,
        **_DPM,
        **_DPM_TABLE,
        **_THRESHOLD,
        **_CURVES,
        **_FLOW,
        **_DYNAMIC,
        "lower_order_final": False,
    },
    "DEISMultistepScheduler": {
        **_BETAS,
        **_THRESHOLD,
        **_CURVES,
        **_FLOW,
        **_DYNAMIC,
        **_SPACING,
        "solver_order": 2,
        "algorithm_type": "deis",
        "solver_type": "logrho",
        "lower_order_final": True,
    },
    "UniPCMultistepScheduler": {
        **_BETAS,
        **_THRESHOLD,
        **_CURVES,
        **_FLOW,
        **_DYNAMIC,
        **_SPACING,
        **_ZERO_SNR,
        "solver_order": 2,
        "predict_x0": True,
        "solver_type": "bh2",
        "lower_order_final": True,
        "disable_corrector": [],
        "solver_p": None,
        "final_sigmas_type": "zero",
        "sigma_min": None,
        "sigma_max": None,
        "shift_terminal": None,
    },
    "SASolverScheduler": {
        **_BETAS,
        **_DPM_TABLE,
        **_THRESHOLD,
        **_CURVES,
        **_FLOW,
        **_SPACING,
        "predictor_order": 2,
        "corrector_order": 2,
        "tau_func": None,
        "algorithm_type": "data_prediction",
        "lower_order_final": True,
    },
    "IPNDMScheduler": {"num_train_timesteps": 1000, "trained_betas": None},
    "EDMEulerScheduler": _EDM,
    "EDMDPMSolverMultistepScheduler": {
        **_EDM,
        **_DPM,
        **_THRESHOLD,
        "lower_order_final": True,
        "euler_at_final": False,
    },
    "FlowMatchEulerDiscreteScheduler": {
        **_CURVES,
        **_DYNAMIC,
        "num_train_timesteps": 1000,
        "shift": 1.0,
        "base_shift": 0.5,
        "max_shift": 1.15,
        "base_image_seq_len": 256,
        "max_image_seq_len": 4096,
        "invert_sigmas": False,
        "shift_terminal": None,
        "stochastic_sampling": False,
    },
    "FlowMatchHeunDiscreteScheduler": {"num_train_timesteps": 1000, "shift": 1.0},
}

# Options that other schedulers left behind in published configurations.
_ELSEWHERE = {"skip_prk_steps", "set_alpha_to_one", "clip_sample", "interpolation_type", "use_karras_sigmas"}
KNOWN = {name for options in SCHEDULERS.values() for name in options} | _ELSEWHERE
CLASS = "_class_name"


def load(config: Mapping[str, Any] | str | Path) -> Values:
    """The configuration itself, or what the file (or the folder's scheduler_config.json) holds.

    Raises:
        UserError: there is no such file, or it is not a JSON object.
    """
    if isinstance(config, Mapping):
        return dict(config)
    path = Path(config)
    path = path / "scheduler_config.json" if path.is_dir() else path
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"no scheduler configuration can be read from {path}: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no scheduler configuration but a {type(values).__name__}")
    return values


class Options:
    """A configuration with the defaults of its class.

    Raises:
        UserError: the class or an option is unknown.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        name = str(config.get(CLASS, ""))
        self.name = name.removeprefix("Flax")
        if self.name not in SCHEDULERS:
            near = difflib.get_close_matches(self.name, SCHEDULERS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UserError(
                f"there is no counterpart here to the scheduler {name!r}{hint} Supported are {', '.join(SCHEDULERS)}"
            )
        given = {option: value for option, value in config.items() if not option.startswith("_")}
        for option in given:
            if option not in KNOWN:
                near = difflib.get_close_matches(option, SCHEDULERS[self.name], 1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise UserError(
                    f"{self.name} has no option {option!r}{hint} It has {', '.join(sorted(SCHEDULERS[self.name]))}"
                )
        known = SCHEDULERS[self.name]
        self.values: Values = {**known, **{option: value for option, value in given.items() if option in known}}

    def __getitem__(self, option: str) -> Any:
        """The option's value; None where the class has no such option."""
        return self.values.get(option)

    def one_of(self, option: str, *allowed: Any) -> Any:
        """The option's value, if it is one of these.

        Raises:
            UserError: it is not.
        """
        value = self[option]
        if value not in allowed:
            choices = ", ".join(repr(choice) for choice in allowed)
            raise UserError(f"{self.name} with {option}={value!r} has no counterpart here; supported: {choices}")
        return value
