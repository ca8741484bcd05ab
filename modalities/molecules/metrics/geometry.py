"""How far the distributions of bond lengths, angles, dihedrals, sizes and elements are from the data's.

Per type of bond, angle and dihedral (see `internal`) the Wasserstein distance of one dimension,

    W1 = int |F(x) - G(x)| dx,        F, G: the cumulative distributions of samples and data,

in Angstrom or degrees, and of these the mean weighted by how often the data have each type. A type that the samples
have none of has no distance: it is left out of the mean, and `NAME_covered` is the share of the data's values whose
type was measured. Dihedrals are folded to [0, 180] degrees, where a distance on the circle is one on the line.

Of sizes (atoms of a molecule) and elements it is the Jensen-Shannon divergence in bits, from 0 (equal) to 1 (nothing
shared).

All of them are above zero for finite samples of the data themselves: compare with the ceiling at the same n.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from framework.metrics.measurement import Measurement
from modalities.molecules.metrics.internal import Internal, internal_coordinates
from modalities.molecules.metrics.measured import SHARE, blocks_of, jackknifed, unknown
from modalities.molecules.molecule import Molecule


def geometry(samples: Sequence[Molecule], reference: Sequence[Molecule], seed: int) -> dict[str, Measurement]:
    """`bond_length_w1` (Angstrom), `angle_w1`, `dihedral_w1` (degrees), and how much of the data each covers.

    Arguments:
        samples: molecules that are valid; their number is n.
        reference: of the data.
        seed: of the samples; also of the jackknife's blocks.
    """
    labels = blocks_of(len(samples), seed)
    own, real = internal_coordinates(samples), internal_coordinates(reference)
    result = {}
    for name in own:
        distances, covered = weighted_w1(own[name], real[name], labels)
        result[f"{name}_w1"] = _measured(distances, len(samples), seed, (0.0, math.inf))
        result[f"{name}_covered"] = _measured(covered, len(samples), seed, SHARE)
    return result


def composition(samples: Sequence[Molecule], reference: Sequence[Molecule], seed: int) -> dict[str, Measurement]:
    """`size_js` and `element_js`: divergences in bits of the numbers of atoms, and of the elements of all atoms."""
    labels = blocks_of(len(samples), seed)
    sizes = [np.array([len(molecule) for molecule in part], np.int64) for part in (samples, reference)]
    rows = [np.repeat(np.arange(len(part)), size) for part, size in zip((samples, reference), sizes, strict=True)]
    elements = [
        np.concatenate([np.zeros(0, np.int64), *(molecule.elements for molecule in part)])
        for part in (samples, reference)
    ]
    divergences = {
        "size_js": js_divergences(sizes[0], sizes[1], labels),
        "element_js": js_divergences(elements[0], elements[1], labels[rows[0]]),
    }
    return {name: _measured(values, len(samples), seed, SHARE) for name, values in divergences.items()}


def weighted_w1(
    samples: Internal, reference: Internal, labels: Int[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """The mean W1 over types and the share of the reference that it covers.

    Arguments:
        labels: the jackknife's block of each molecule of the samples.

    Returns:
        first of all samples, then without each block; NaN where no type is in both.
    """
    own_block = labels[samples.molecules]
    own_rows, real_rows = _by_type(samples.types), _by_type(reference.types)
    columns = 1 + (int(labels.max()) + 1 if len(labels) else 0)
    total, weight = np.zeros(columns), np.zeros(columns)
    for kind, real in real_rows.items():
        if kind not in own_rows:
            continue
        rows = own_rows[kind]
        distances = w1_distances(samples.values[rows], reference.values[real], own_block[rows], columns - 1)
        measured = np.isfinite(distances)
        total[measured] += len(real) * distances[measured]
        weight += len(real) * measured
    means = np.divide(total, weight, out=np.full(columns, np.nan), where=weight > 0)
    return means, weight / len(reference.values) if len(reference.values) else np.full(columns, np.nan)


def w1_distances(
    samples: Float[np.ndarray, " n"], reference: Float[np.ndarray, " m"], block: Int[np.ndarray, " n"], blocks: int
) -> Float[np.ndarray, " c"]:
    """W1 of two samples on the line: first of all, then without each block; NaN where none are left.

    One sort serves all: the cumulative distribution without a block is a count that leaves out its members.
    """
    values = np.concatenate([samples, reference])
    order = np.argsort(values, kind="stable")
    member = np.zeros((blocks + 1, len(values)))
    member[:, : len(samples)] = np.arange(-1, blocks)[:, None] != block
    gaps = np.diff(values[order])
    ours = np.cumsum(member[:, order], axis=1)
    theirs = np.cumsum(order >= len(samples)) / len(reference)
    left = ours[:, -1:]
    shares = np.divide(ours, left, out=np.full(ours.shape, np.nan), where=left > 0)
    distances: np.ndarray = np.abs(shares - theirs)[:, :-1] @ gaps if len(gaps) else np.zeros(blocks + 1)
    return distances


def js_divergences(
    samples: Int[np.ndarray, " n"], reference: Int[np.ndarray, " m"], block: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " c"]:
    """Jensen-Shannon divergences in bits of whole numbers: first of all samples, then without each block."""
    if not len(samples) or not len(reference):
        return np.full(1, np.nan)
    kinds, rows = np.unique(np.concatenate([samples, reference]), return_inverse=True)
    counts = np.zeros((int(block.max()) + 1, len(kinds)))
    np.add.at(counts, (block, rows[: len(samples)]), 1)
    ours = np.concatenate([counts.sum(0)[None], counts.sum(0) - counts])
    left = ours.sum(1, keepdims=True)
    p = np.divide(ours, left, out=np.full(ours.shape, np.nan), where=left > 0)
    q = np.broadcast_to(np.bincount(rows[len(samples) :], minlength=len(kinds)) / len(reference), p.shape)
    middle = (p + q) / 2
    return (_relative(p, middle) + _relative(q, middle)) / 2


def _relative(p: np.ndarray, q: np.ndarray) -> Float[np.ndarray, " c"]:
    """sum p log2(p / q), row by row; 0 log 0 is 0."""
    ratios = np.divide(p, q, out=np.ones(p.shape), where=p != 0)
    bits: np.ndarray = (p * np.log2(ratios)).sum(1)
    return bits


def _by_type(types: Int[np.ndarray, " k"]) -> dict[int, Int[np.ndarray, " j"]]:
    order = np.argsort(types, kind="stable")
    kinds, starts = np.unique(types[order], return_index=True)
    return dict(zip(kinds.tolist(), np.split(order, starts[1:]), strict=True)) if len(types) else {}


def _measured(values: np.ndarray, n: int, seed: int, support: tuple[float, float]) -> Measurement:
    return jackknifed(float(values[0]), values[1:], n, seed, support) if n else unknown(seed)
