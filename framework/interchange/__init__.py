"""What other software calls a sampler, said in our parts.

    sampling.py      Sampling: schedule, parametrisation, grid and solver, and what a network and a picture need besides
    options.py       diffusers' schedulers by name, their options and defaults
    read.py          from_diffusers: a scheduler_config.json as a Sampling
    read_levels.py   its tables of betas and its grids
    read_solver.py   its solvers
    write.py         to_diffusers: the way back

Nothing here imports diffusers.
"""

from framework.interchange.read import from_diffusers
from framework.interchange.sampling import ByLength, Sampling, ScaledTime
from framework.interchange.write import to_diffusers

__all__ = ["ByLength", "Sampling", "ScaledTime", "from_diffusers", "to_diffusers"]
