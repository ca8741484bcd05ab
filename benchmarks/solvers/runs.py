"""What each process of a benchmark does first."""

from __future__ import annotations

import warnings

import diffusers
import torch


def quiet() -> None:
    """One thread a process, and no warnings of the schedulers' own."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    diffusers.utils.logging.set_verbosity_error()
