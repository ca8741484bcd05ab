"""How many of the valid and connected molecules are distinct, how many of these are new, and how many are all of it.

    unique   distinct SMILES / valid and connected molecules
    novel    distinct SMILES that are not in the training data / distinct SMILES
    vun      distinct new SMILES / all samples

so that vun = valid_connected * unique * novel. Uniqueness falls with the number of samples (the share of distinct ones
among more draws from the same model): compare n.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import numpy as np
from jaxtyping import Float, Int

from framework.metrics.measurement import Measurement
from modalities.molecules.metrics.measured import blocks_of, set_share, share, without_each


def novelty(smiles: Sequence[str | None], training: Set[str], seed: int) -> dict[str, Measurement]:
    """Measure `unique`, `novel` and `vun`.

    Arguments:
        smiles: of each sample, None where it is not valid; written as `training` is (`Validity.connected_smiles`).
        training: SMILES of the training data.
        seed: of the samples; also of the blocks.

    Returns:
        `unique` of the valid ones, `novel` of the unique ones, `vun` of all: each one's n is its denominator.
    """
    labels = blocks_of(len(smiles), seed)
    counted = np.array([text is not None for text in smiles], bool)
    distinct = sorted({text for text in smiles if text is not None})
    new = np.array([text not in training for text in distinct], bool)
    row = {text: i for i, text in enumerate(distinct)}
    kinds = np.array([row[text] for text in smiles if text is not None], np.int64)

    valid, first = int(counted.sum()), len(distinct)
    lost, lost_new = _lost(kinds, labels[counted], labels), _lost(kinds, labels[counted], labels, new)
    # Each sample is nearly a trial: it repeats no other, or it does.
    unique = set_share(first, valid, _shares(first - lost, without_each(counted, labels)), (first, valid), seed)
    found = int(new.sum())
    everything = without_each(np.ones(len(smiles)), labels)
    vun = set_share(found, len(smiles), _shares(found - lost_new, everything), (found, len(smiles)), seed)
    return {"unique": unique, "novel": share(new, seed), "vun": vun}


def _lost(
    kinds: Int[np.ndarray, " v"],
    own: Int[np.ndarray, " v"],
    labels: Int[np.ndarray, " n"],
    which: np.ndarray | None = None,
) -> Float[np.ndarray, " b"]:
    """How many kinds (of those that `which` names) go with each block: all of their copies are in it."""
    blocks = int(labels.max()) + 1 if len(labels) else 0
    if not len(kinds):
        return np.zeros(blocks)
    lowest = np.full(kinds.max() + 1, blocks)
    highest = np.full(kinds.max() + 1, -1)
    np.minimum.at(lowest, kinds, own)
    np.maximum.at(highest, kinds, own)
    gone = lowest == highest if which is None else (lowest == highest) & which
    return np.bincount(lowest[gone], minlength=blocks).astype(np.float64)


def _shares(counts: np.ndarray, totals: np.ndarray) -> Float[np.ndarray, " b"]:
    return np.divide(counts, totals, out=np.full(len(totals), np.nan), where=totals > 0)
