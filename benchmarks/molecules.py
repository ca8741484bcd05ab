"""Our networks over points in space beside EDM's as it was published: training and sampling, on QM9's sizes.

Molecules have as many atoms as those of QM9 (the histogram below, hydrogens included); positions and features are
random, since nothing here depends on them. EDM's side (peers_egnn.py) is run as EDM runs it: a training batch of random
molecules is padded to its largest, a sampling batch to the largest molecule of the data, 29 atoms. Ours takes batches
of molecules of about one size, padded to a multiple of 2; the sizes of our batches are the quantiles of the histogram,
one a round.

`egnn` is the same function as EDM's, with the same weights: outputs are compared before anything is timed. The pair
transformer of about that width reads and predicts bonds as well, which EDM's network does not. A training step is
forward, squared error, backward and AdamW; sampling is the forward pass without gradients. All sides take turns in one
process and are timed in processor seconds on one thread (on a GPU: seconds, synchronised). A ratio is theirs / ours, of
the seconds of all rounds; its range is that of their rounds against the mean of ours.

    python -m benchmarks.molecules [--rounds 15] [--only small] [--device cpu]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.machine import RESULTS, report
from benchmarks.peers_egnn import ScatterEGNN
from framework.backbones.egnn import EGNN, edm_weights
from framework.backbones.pair_transformer import pair_transformer
from framework.backbones.points import centred

ATOMS = {
    3: 2, 4: 4, 5: 3, 6: 9, 7: 15, 8: 48, 9: 115, 10: 297, 11: 622, 12: 1200, 13: 1990, 14: 2846, 15: 3453, 16: 3644,
    17: 3337, 18: 2778, 19: 2419, 20: 1659, 21: 1360, 22: 624, 23: 772, 24: 186, 25: 357, 26: 30, 27: 116, 29: 17,
}  # fmt: skip
"""27,903 random molecules of QM9 by the number of their atoms."""
FEATURES, BONDS, MULTIPLE = 6, 4, 2  # five elements and a charge, as in EDM
LARGEST = max(ATOMS)


@dataclass(frozen=True)
class Case:
    """A width at which the sides meet.

    Attributes:
        width, layers: of EDM's network.
        size: of the pair transformer.
        batch: molecules of a batch.
    """

    width: int
    layers: int
    size: str
    batch: int


CASES = {"small": Case(64, 4, "tiny", 64), "published": Case(256, 9, "base", 16)}


@dataclass(frozen=True)
class Batch:
    """Random molecules, padded."""

    positions: Tensor
    nodes: Tensor
    pairs: Tensor
    time: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Side:
    """A network, the batches that it is given in each round, and how it is called."""

    network: nn.Module
    training: list[Batch]
    sampling: list[Batch]
    call: Callable[[Batch], tuple[Tensor, ...]]


def sizes() -> Tensor:
    """The atoms of every molecule, in rising order."""
    return torch.tensor([n for n, count in ATOMS.items() for _ in range(count)])


def batch_of(counts: Tensor, size: int, generator: torch.Generator, device: str) -> Batch:
    """Molecules of `counts` atoms, padded to `size`."""
    b = len(counts)
    mask = torch.arange(size) < counts[:, None]
    positions = centred(1.5 * torch.randn(b, size, 3, generator=generator), mask)
    nodes = torch.randn(b, size, FEATURES, generator=generator) * mask[..., None]
    bonds = torch.randn(b, size, size, BONDS, generator=generator)
    made = (positions, nodes, bonds + bonds.transpose(1, 2), torch.rand(b, generator=generator), mask)
    return Batch(*(x.to(device) for x in made))


def buckets(rounds: int, batch: int, generator: torch.Generator, device: str) -> list[Batch]:
    """Ours: in each round, molecules of one bucket; the buckets are quantiles of the histogram."""
    everything = sizes()
    padded = (everything + MULTIPLE - 1) // MULTIPLE * MULTIPLE
    made = []
    for k in range(rounds):
        size = int(padded[int((k + 0.5) / rounds * len(padded))])
        inside = everything[padded == size]
        counts = inside[torch.randint(len(inside), (batch,), generator=generator)]
        made.append(batch_of(counts, size, generator, device))
    return made


def padded_to_largest(
    rounds: int, batch: int, largest: int | None, generator: torch.Generator, device: str
) -> list[Batch]:
    """Theirs: random molecules, padded to `largest`, or to the largest of the batch."""
    everything, made = sizes(), []
    for _ in range(rounds):
        counts = everything[torch.randint(len(everything), (batch,), generator=generator)]
        made.append(batch_of(counts, int(counts.max()) if largest is None else largest, generator, device))
    return made


def sides(case: Case, rounds: int, device: str) -> dict[str, Side]:
    """EDM's network, ours with the same weights, and the pair transformer."""
    torch.manual_seed(0)
    peer = ScatterEGNN(FEATURES, case.width, case.layers).to(device)
    egnn = EGNN(FEATURES, out_nodes=FEATURES, width=case.width, layers=case.layers).to(device)
    egnn.load_state_dict(edm_weights(peer.state_dict(), FEATURES))
    ours = pair_transformer(case.size, FEATURES, BONDS, FEATURES, BONDS).to(device)
    generator = torch.Generator().manual_seed(0)
    theirs = [padded_to_largest(rounds, case.batch, n, generator, device) for n in (None, LARGEST)]
    bucketed = buckets(rounds, case.batch, generator, device)
    return {
        "edm": Side(peer, *theirs, lambda b: peer(b.positions, b.nodes, b.time, b.mask)),
        "egnn": Side(
            egnn,
            bucketed,
            bucketed,
            lambda b: egnn(b.positions, b.nodes, b.pairs[..., :0], 1000 * b.time, b.mask)[:2],
        ),
        f"pair_transformer {case.size}": Side(
            ours, bucketed, bucketed, lambda b: ours(b.positions, b.nodes, b.pairs, 1000 * b.time, b.mask)
        ),
    }


@torch.no_grad()
def difference(theirs: Side, ours: Side) -> float:
    """The largest difference of outputs, in units of the largest output."""
    batch = theirs.training[0]
    pairs = list(zip(theirs.call(batch), ours.call(batch), strict=True))
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def trainer(side: Side) -> Callable[[Batch], None]:
    """A training step."""
    optimizer = torch.optim.AdamW(side.network.parameters(), lr=1e-4)

    def step(batch: Batch) -> None:
        optimizer.zero_grad(set_to_none=True)
        sum(out.square().mean() for out in side.call(batch)).backward()  # type: ignore[union-attr]
        optimizer.step()

    return step


def sampler(side: Side) -> Callable[[Batch], None]:
    """A network call of sampling."""

    @torch.no_grad()
    def step(batch: Batch) -> None:
        side.call(batch)

    return step


def seconds(run: Callable[[Batch], None], batch: Batch, device: str) -> float:
    """Of the processor, or on a GPU of the clock."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    _synchronise(device)
    start = clock()
    run(batch)
    _synchronise(device)
    return clock() - start


def _synchronise(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def measure(case: Case, rounds: int, device: str) -> dict[str, Any]:
    """Molecules/s of all sides in training and sampling, and the ratios to EDM's."""
    all_sides = sides(case, rounds, device)
    result: dict[str, Any] = {
        "width": case.width, "layers": case.layers, "batch": case.batch,
        "parameters": {name: sum(p.numel() for p in s.network.parameters()) for name, s in all_sides.items()},
        "largest_relative_difference_of_egnn_to_edm": difference(all_sides["edm"], all_sides["egnn"]),
    }  # fmt: skip
    for kind, make in (("training", trainer), ("sampling", sampler)):
        runs = {name: (make(side), getattr(side, kind)) for name, side in all_sides.items()}
        for run, batches in runs.values():
            run(batches[0])
        spent: dict[str, list[float]] = {name: [] for name in runs}
        for k in range(rounds):
            for name, (run, batches) in runs.items():
                spent[name].append(seconds(run, batches[k], device))
        theirs = sum(spent["edm"]) / rounds
        result[kind] = {
            name: {
                "steps_per_second": rounds / sum(values),
                "molecules_per_second": case.batch * rounds / sum(values),
                "seconds": values,
                "ratio": theirs * rounds / sum(values),
                "ratio_range": [min(spent["edm"]) * rounds / sum(values), max(spent["edm"]) * rounds / sum(values)],
            }
            for name, values in spent.items()
        }
    return result


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """A row a network."""
    lines = [
        "| width x layers, batch | network | parameters | training steps/s | ratio | sampling molecules/s | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in results.values():
        for name, training in case["training"].items():
            sampling = case["sampling"][name]
            lines.append(
                f"| {case['width']} x {case['layers']}, {case['batch']} | {name} | {case['parameters'][name]:,} "
                f"| {training['steps_per_second']:.3g} | {_ratio(training)} "
                f"| {sampling['molecules_per_second']:.3g} | {_ratio(sampling)} |"
            )
    return "\n".join(lines) + "\n"


def _ratio(result: dict[str, Any]) -> str:
    low, high = result["ratio_range"]
    return f"{result['ratio']:.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = {}
    for name in arguments.only:
        results[name] = measure(CASES[name], arguments.rounds, arguments.device)
        print(markdown({name: results[name]}), flush=True)
    if set(arguments.only) == set(CASES):
        suffix = "" if arguments.device == "cpu" else f"_{arguments.device}"
        command = f"python -m benchmarks.molecules --rounds {arguments.rounds} --device {arguments.device}"
        report(f"molecules{suffix}", command, {"cases": results})
        (RESULTS / f"molecules{suffix}.md").write_text(markdown(results))


if __name__ == "__main__":
    main()
