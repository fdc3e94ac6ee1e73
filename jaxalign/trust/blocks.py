# SPDX-License-Identifier: Apache-2.0
"""Rows to blocks by a hash of their ids: what a bootstrap without rows resamples.

Done on the host before moments are accumulated: the block of a row is its group in
`update_moments`. A row's block depends on its id alone, not on batches, order, device
or process, so that a pass may be split, resumed or repeated at will.

Reference: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014
(the mixing function).
"""

import numpy as np
from jaxtyping import Int, Shaped

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def block_of_rows(
    ids: Shaped[ArrayLike, " n"],
    *,
    blocks: int = 64,
    seed: int = 0,
    labels: Int[ArrayLike, " n"] | None = None,
) -> Int[np.ndarray, " n"]:
    r"""Assign each row to a block by a hash of its id.

    With the mixing function :math:`m` of SplitMix64 on 64-bit words, the hash of a
    number :math:`i` (``ids``) is :math:`h = m(m(i) + s)` with :math:`s` = m(``seed``);
    that of a string goes through its code points, :math:`h \leftarrow m(h + c)`, from 0
    to the same last step. The block is :math:`\lfloor h B / 2^{64} \rfloor`, for
    :math:`B` = ``blocks``, from the upper 32 bits.

    Args:
      ids: shape ``(n,)``: whole numbers (a row's number in its data set) or strings.
        Rows that belong together (pictures of one thing) should share an id, since
        what is resampled must be independent.
      blocks: B, at least 2. With G blocks, errors are known to about
        ``1 / sqrt(2 G)`` of themselves.
      seed: another one deals rows to blocks anew.
      labels: shape ``(n,)``, classes numbered from 0; groups are then class x block,
        ``labels * blocks + block``.

    Returns:
      Shape ``(n,)``, int32: each row's block, for ``update_moments(group=...)``.

    Raises:
      ValueError: if ids are neither whole numbers nor strings, or numbers do not fit.

    Notes:
      About 20 ns a row for numbers. Equal numbers hash alike whatever their dtype.

    >>> block_of_rows(np.arange(6), blocks=4).tolist() == [
    ...     int(block_of_rows(np.array([i]), blocks=4)[0]) for i in range(6)
    ... ]
    True
    """
    array = np.asarray(ids)
    if array.ndim != 1 or array.dtype.kind not in "iuUS":
        raise ArgumentError(
            "block_of_rows(ids=...)",
            "whole numbers or strings of shape (n,)",
            f"{array.dtype} of shape {array.shape}",
            "number the rows by `numpy.arange`, or pass their ids",
        )
    if not 2 <= blocks < 2**31:
        raise ArgumentError(
            f"block_of_rows(blocks={blocks})", "at least 2", remedy="64 is usual"
        )
    # Unsigned numbers wrap around by design; arrays do it without a warning.
    seeded = _mix(np.array([seed & (2**64 - 1)], np.uint64))
    if array.dtype.kind in "iu":
        hashed = _mix(array.astype(np.uint64))
    else:
        hashed = _hash_strings(array)
    upper = _mix(hashed + seeded) >> np.uint64(32)
    block = (upper * np.uint64(blocks)) >> np.uint64(32)
    if labels is None:
        return block.astype(np.int32)
    return _within_classes(block, np.asarray(labels), blocks)


def half_samples(
    blocks: int, replicates: int, *, seed: int = 0
) -> Int[np.ndarray, "replicates blocks"]:
    """Draw weights of balanced half-samples: half the blocks count twice, half not.

    Every second replicate is the complement of the one before, so that first-order
    errors of the mean over replicates cancel.

    Args:
      blocks: number of blocks to draw from.
      replicates: how many; an odd blocks' number gives halves one larger and smaller.
      seed: of the draws; the same seed gives the same bits.

    Returns:
      Weights 0 or 2, shape ``(replicates, blocks)``.

    Notes:
      A bootstrap whose weights all lie at one distance from 1. Efron's multinomial
      weights do not: over G blocks the size of their deviation varies by
      ``1 / sqrt(2 G)``, which spreads the norm of a many-dimensional error, such as
      that of a rotation, more than the truth does.

    References:
      McCarthy, "Pseudo-replication: half samples", 1969; Praestgaard, Wellner,
      "Exchangeably weighted bootstraps of the general empirical process", 1993.

    >>> half_samples(4, 2).sum(axis=1).tolist()
    [4, 4]
    """
    half = np.zeros((-(-replicates // 2), blocks), np.int32)
    half[:, : blocks // 2] = 2
    first = np.random.default_rng(seed).permuted(half, axis=1)
    pairs = np.stack([first, 2 - first], axis=1)
    return pairs.reshape(-1, blocks)[:replicates]


def _mix(words):
    """Mix 64-bit words so that each output bit depends on all input bits."""
    words = words + _GOLDEN
    words = (words ^ (words >> np.uint64(30))) * _FIRST
    words = (words ^ (words >> np.uint64(27))) * _SECOND
    return words ^ (words >> np.uint64(31))


def _hash_strings(array):
    """Hash strings, one code point after another for all rows at once."""
    width = array.dtype.itemsize // (4 if array.dtype.kind == "U" else 1)
    code = np.uint32 if array.dtype.kind == "U" else np.uint8
    hashed = np.zeros(len(array), np.uint64)
    if not width:
        return hashed
    points = np.ascontiguousarray(array).view(code).reshape(len(array), width)
    for column in points.astype(np.uint64, copy=False).T:
        # Zeros only pad short strings: a wider array must give the same hash.
        hashed = np.where(column != 0, _mix(hashed + column), hashed)
    return hashed


def _within_classes(block, labels, blocks):
    """Number the pairs of class and block."""
    good = labels.shape == block.shape and labels.dtype.kind in "iu"
    if not good or (labels.size and labels.min() < 0):
        raise ArgumentError(
            "block_of_rows(labels=...)",
            f"whole numbers from 0, of shape {block.shape}",
            f"{labels.dtype} of shape {labels.shape}",
            "number the classes by `numpy.unique(..., return_inverse=True)`",
        )
    groups = labels.astype(np.int64) * blocks + block.astype(np.int64)
    if groups.size and groups.max() >= 2**31:
        raise ArgumentError(
            "block_of_rows(labels=...)",
            "fewer than 2**31 groups",
            f"labels up to {labels.max()} times {blocks} blocks",
            "use fewer blocks",
        )
    return groups.astype(np.int32)
