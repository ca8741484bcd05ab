"""Each fault of a modality fails the check that is there for it, in words that name it, and no sound one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from framework.metrics.measurement import Measurement
from framework.solvers.dpmpp import DPMpp2M
from framework.solvers.plan import Stage
from framework.spaces import Euclidean, ZeroCentreOfMass
from tests.testing.planted import NETWORKS, condition, fails, points, sets, space
from tests.testing.toys import SoundPoints


class Opaque:
    """Samples that can be counted and not cut."""

    def __init__(self, points: torch.Tensor) -> None:
        self.points = points

    def __len__(self) -> int:
        return len(self.points)


class NaNSolver(DPMpp2M):
    def plan(self, schedule: Any, times: Any) -> tuple[Stage, ...]:
        return tuple(replace(stage, states=(float("nan"),)) for stage in super().plan(schedule, times))


def never_zero(self: Any, samples: Any, prompts: Any, data: Any, seed: int, options: Any) -> Any:
    """Half of what noise gets is lost by real samples, too."""
    found = SoundPoints.evaluate(self, samples, prompts, data, seed, options)
    value = found["spread"].value + 1.0
    return {**found, "spread": Measurement(value, value - 0.01, value + 0.01, len(samples), seed)}


FAULTS = {
    "another version": points("contract", "version 0", *NETWORKS, api_version=0),
    "padding that is not zero": sets(
        "encoding",
        "entries of padding are not zero",
        "oracle",
        encode=lambda self, batch: (batch["points"] + 1, condition(mask=batch["mask"])),
    ),
    "states off their centre": sets(
        "encoding",
        "projection moves them",
        "oracle",
        encode=lambda self, batch: (
            torch.where(batch["mask"][..., None], batch["points"] + 1, 0.0),
            condition(mask=batch["mask"]),
        ),
    ),
    "states of no unit scale": points(
        "encoding",
        "standard deviation of state is",
        encode=lambda self, batch: (100 * batch["point"], condition(label=batch["label"])),
        decode=lambda self, state, said: state.float() / 100,
    ),
    "states that are not finite": points(
        "encoding",
        "are not finite",
        *("round_trip", "oracle", *NETWORKS),
        encode=lambda self, batch: (batch["point"] / 0, condition(label=batch["label"])),
    ),
    "noise that is not projected": sets(
        "noise",
        "noise is not zero in padding",
        "degrees_of_freedom",
        space=space(
            ZeroCentreOfMass,
            noise=lambda self, key, said: key.normal((said["mask"].shape[1], 2), torch.zeros(())),
        ),
    ),
    "noise off its centre": sets(
        "noise",
        "noise is not in the space",
        "degrees_of_freedom",
        space=space(
            ZeroCentreOfMass,
            noise=lambda self, key, said: torch.where(
                said["mask"][..., None], key.normal((said["mask"].shape[1], 2), torch.zeros(())), 0.0
            ),
        ),
    ),
    "noise of another variance": points(
        "noise",
        "times the variance of standard noise",
        "degrees_of_freedom",
        space=space(Euclidean, noise=lambda self, key, said: 1.3 * Euclidean.noise(self, key, said)),
    ),
    "dimensions miscounted": points(
        "degrees_of_freedom",
        "says 4 degrees of freedom",
        space=space(
            Euclidean, degrees_of_freedom=lambda self, said: torch.full(said.batch_size, 4.0, dtype=torch.float64)
        ),
    ),
    "a projection that bends": points(
        "projection",
        "not linear",
        "noise",
        "encoding",
        "oracle",
        space=space(Euclidean, project=lambda self, x, said: x.clamp(-1, 1)),
    ),
    "noise of the whole batch": points(
        "noise_of_a_sample",
        "is another when it is drawn alone",
        "batch_invariance",
        space=space(Euclidean, noise=lambda self, key, said: Euclidean.noise(self, key, said).flip(0)),
    ),
    "a codec that loses information": points(
        "round_trip", "decoding and encoding again changes state by", decode=lambda self, state, said: state.round()
    ),
    "samples that cannot be sliced": points(
        "decoding",
        "cannot be sliced",
        "rendering",
        "evaluation",
        decode=lambda self, state, said: Opaque(state),
        join=lambda self, parts: parts,
    ),
    "a sample that is lost": points(
        "decoding", "7 samples of 8 states", "evaluation", decode=lambda self, state, said: state[1:]
    ),
    "a part that is left out": points(
        "decoding", "join makes 4 samples of 8 in 2 parts", "evaluation", join=lambda self, parts: parts[0]
    ),
    "parts in another order": points(
        "decoding", "join of the parts is not the whole", join=lambda self, parts: torch.cat(list(parts)[::-1])
    ),
    "items that are all one": points(
        "oracle",
        "one and the same state",
        "evaluation",
        encode=lambda self, batch: (torch.ones(8, 2) * torch.tensor([1.0, -1.0]), condition(label=batch["label"])),
    ),
    "null of another shape": points(
        "null_condition",
        "label has rows of shape (1,) and not ()",
        null=lambda self, said: condition(label=torch.full((len(said), 1), 2)),
    ),
    "null of fewer rows": points(
        "null_condition", "batch_size [1] of [8]", null=lambda self, said: condition(label=torch.tensor([2]))
    ),
    "null that goes on": points(
        "null_condition",
        "null of the null condition is another in label",
        null=lambda self, said: condition(label=(said["label"] + 1) % 3),
    ),
    "null that takes the mask": sets(
        "null_condition",
        "masks and sizes must stay",
        null=lambda self, said: condition(mask=torch.ones_like(said["mask"])),
    ),
    "parse with other keys": points(
        "prompts",
        "label missing",
        parse=lambda self, prompts: condition(kind=SoundPoints.parse(self, prompts)["label"]),
    ),
    "parse of another dtype": points(
        "prompts",
        "label is torch.int32 and not torch.int64",
        parse=lambda self, prompts: condition(label=SoundPoints.parse(self, prompts)["label"].int()),
    ),
    "a prompt that breaks": points(
        "absurd_prompts", "raises ValueError", parse=lambda self, prompts: super(SoundPoints, self).parse(prompts)
    ),
    "files that are not there": points(
        "rendering", "sheet.png, which it did not write", render=lambda self, s, p, folder, m: [folder / "sheet.png"]
    ),
    "nothing rendered": points("rendering", "wrote nothing", render=lambda self, s, p, folder, m: []),
    "metrics that punish the truth": points(
        "evaluation", "real items fall short of the ceiling: spread", evaluate=never_zero
    ),
    "metrics that are numbers": points(
        "evaluation", "no Measurement", evaluate=lambda self, s, p, d, seed, o: {"spread": 0.1}
    ),
    "a solver that fails": points("solvers", "NaNSolver is not finite", solvers={"NaNSolver": NaNSolver()}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault(name):
    fails(FAULTS[name])
