r"""A bound on the log-likelihood of tokens under masked diffusion (Sahoo et al. 2024, arXiv:2406.07524, eq. 10).

With m = 1 - alpha(t), the share of masks, and p(x_0 | x_t) what the denoiser says of each token,

    -log p(x_0) <= int_0^1 dm / m  E_{x_t} [ sum over masks i of -log p(x_0^i | x_t) ],

whatever the schedule. It is the mean, over all orders in which the tokens may be revealed, of the negative logarithm of
the probability with which that order reveals them: for the exact denoiser an equality.

The integral is estimated without bias at `levels` values of m a sample, one drawn in each of as many equal parts.
"""

from __future__ import annotations

import torch
from jaxtyping import Float64
from torch import Tensor

from framework.denoiser import Denoiser
from framework.errors import UserError
from framework.noise import NoiseKey
from framework.processes.categorical import Categorical
from framework.processes.process import Process
from framework.schedules import as_times
from framework.solvers.categorical.first_hitting import time_of_alpha
from framework.state import Condition, State

RAREST = 1e-30  # a probability that rounding has made zero


def token_bound(
    denoiser: Denoiser, process: Process, x_0: State, condition: Condition, key: NoiseKey, levels: int = 16
) -> Float64[Tensor, " b"]:
    """Estimates of the bound on -log p(x_0 | condition) of each row, in nats.

    Args:
        denoiser: what says p(x_0 | x_t), guided or not.
        process: of the state: tokens alone, whose noise is a mask.
        x_0: clean tokens (B, *positions).
        condition: TensorDict with batch_size [B].
        key: of what is masked when.
        levels: evaluations of each row.

    Raises:
        UserError: the process is another.
    """
    if not isinstance(process, Categorical) or process.mask_token is None or not isinstance(x_0, Tensor):
        raise UserError("this bound is for states of tokens alone whose noise is a mask (processes: null)")
    if levels < 1:
        raise UserError(f"the bound needs at least one level, got {levels}")
    layout, schedule = process.space.layout, process.schedule
    clean, valid = layout.pack(x_0), layout.valid(condition)
    most = 1 - float(schedule.alpha(as_times(1.0)))
    drawn = key.component("levels").uniform((levels,), torch.zeros((), dtype=torch.float64))
    total = torch.zeros(len(clean), dtype=torch.float64)
    with torch.no_grad():
        for level, u in enumerate(drawn.cpu().unbind(1)):
            masked_share = most * (level + 1 - u) / levels  # in (0, most]
            t = time_of_alpha(schedule, 1 - masked_share, 1.0, 0.0)
            x_t, _ = process.corrupt(x_0, t, key.at(level + 1), condition)
            said = denoiser(x_t, t, condition).clean
            assert isinstance(said, Tensor)
            chosen = layout.pack(said).double().gather(-1, clean.unsqueeze(-1)).squeeze(-1)
            masked = valid & (layout.pack(x_t) == process.mask_token)
            nats = torch.where(masked, -chosen.clamp(min=RAREST).log(), 0.0).sum(1).cpu()
            total += most * nats / masked_share / levels
    return total
