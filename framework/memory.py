"""The most memory that a piece of work needed: of a GPU what was allocated, elsewhere what the process had resident."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType

import torch

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """A context in which the peak is measured; `bytes` holds it afterwards, 0 where the system does not tell.

    Args:
        device: where the work is done.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.bytes = device, 0

    def __enter__(self) -> Peak:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            with contextlib.suppress(OSError):  # then it is the peak since the process began
                RESET.write_text("5")  # Linux begins the peak of resident memory anew
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bytes = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else _resident_peak()


def _resident_peak() -> int:
    """VmHWM of /proc, or what getrusage knows."""
    try:
        lines = STATUS.read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return 0
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024
