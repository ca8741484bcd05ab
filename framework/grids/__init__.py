"""Where a sampler steps: n steps as n + 1 decreasing times, from noise to t = 0.

    grid.py               the role, and the checks
    formulas.py           UniformTime, UniformLogSNR, UniformFlow, Karras, Quadratic
    tables.py             Trailing, Leading, Explicit
    align_your_steps.py   AYS: published noise levels, interpolated
    levels.py             the grids of published samplers, on a table's levels
    gits.py, ld3.py       grids that are fitted to a denoiser
    fitted.py             their role, and what a fit comes to: a file of log-SNRs
    teacher.py            what they are fitted to: trajectories with many steps
    differentiable.py     how far a solver ends from its teacher, and the gradient of that
    cache.py, identity.py where fits are kept, and under which name

The first four are named here. The fitted ones are imported from their own files, since they sample, and sampling needs
grids.
"""

from framework.grids.align_your_steps import LogLinear
from framework.grids.formulas import Karras, Quadratic, UniformFlow, UniformLogSNR, UniformTime
from framework.grids.grid import Grid, check_times
from framework.grids.tables import Explicit, Leading, Trailing

__all__ = [
    "Explicit",
    "Grid",
    "Karras",
    "Leading",
    "LogLinear",
    "Quadratic",
    "Trailing",
    "UniformFlow",
    "UniformLogSNR",
    "UniformTime",
    "check_times",
]
