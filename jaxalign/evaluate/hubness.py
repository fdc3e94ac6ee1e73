# SPDX-License-Identifier: Apache-2.0
"""Hubness offsets: one number an index row that keeps hubs from winning every search.

In many dimensions a few index rows lie near most queries. How near a row lies to what
is usually asked shows on the aligned anchors, before any query comes: its offset is
measured once, stored with the index, and subtracted from its cosines (`top_k`).

References:
  Lample, Conneau, Ranzato, Denoyer, Jegou, "Word translation without parallel data",
  2018, arXiv 1710.04087 (CSLS; here its index side alone, measured on anchors).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxalign.array_types import ArrayLike
from jaxalign.evaluate.blocks import pad_rows
from jaxalign.evaluate.cosine import unit_rows
from jaxalign.evaluate.retrieval import top_k

# Up to so many rows are padded to a multiple, so that sets of nearly one size share a
# compiled program; beyond, a copy would cost more than a compilation.
_PADDED, _PAD = 8192, 256


def hubness_offsets(
    aligned_anchors: Float[ArrayLike, "n d"],
    index: Float[ArrayLike, "m d"],
    *,
    k: int = 5,
    block_size: int = 4096,
) -> Float[Array, " m"]:
    r"""Measure how near each index row lies to what is usually asked.

    With :math:`N_k(y)` the `k` anchors :math:`x` nearest to the index row :math:`y`,
    the offset is :math:`\frac{1}{2k} \sum_{x \in N_k(y)} \cos(x, y)`, to be subtracted
    from the cosines of :math:`y`.

    Args:
      aligned_anchors: ``(n, d)``, brought to the index's space as queries will be; a
        sample of the queries to come does as well.
      index: ``(m, d)``, rows of any norm, as they will be searched.
      k: static; anchors averaged over, between 1 and ``n``.
      block_size: static; anchors scored at a time.

    Returns:
      ``(m,)`` offsets, between -0.5 and 0.5.

    Raises:
      ValueError: if widths differ, or `k` does not fit.

    Notes:
      O(n m d) time, in blocks: no m x n table is held. An anchor that stands in the
      index itself pushes its own row down: measure with others, or accept it.

    >>> hub, other = [1.0, 0.0], [0.0, 1.0]
    >>> anchors = jnp.array([hub, [0.8, 0.6], [0.8, -0.6]])
    >>> offsets = hubness_offsets(anchors, jnp.array([hub, other]), k=2)
    >>> [round(offset, 2) for offset in offsets.tolist()]
    [0.45, 0.15]
    """
    if not 1 <= k <= aligned_anchors.shape[0]:
        raise ValueError(
            f"`hubness_offsets(k={k})`: expected 1 to {aligned_anchors.shape[0]}, the "
            "number of anchors; pass more anchors, or a smaller k."
        )
    n, m = aligned_anchors.shape[0], index.shape[0]
    # A padded anchor is out of reach.
    away = np.zeros(n, np.float32)
    if max(n, m) <= _PADDED:
        aligned_anchors, index = (pad_rows(x, _PAD) for x in (aligned_anchors, index))
        away = np.pad(away, (0, -n % _PAD), constant_values=np.inf)
    cosines, _ = top_k(index, aligned_anchors, k, offsets=away, block_size=block_size)
    return jnp.asarray(0.5 * np.asarray(cosines[:, :k]).mean(axis=1)[:m])


@jax.jit
def append_offsets(
    index: Float[ArrayLike, "m d"], offsets: Float[ArrayLike, " m"]
) -> Float[Array, "m d_plus_1"]:
    """Make index rows whose inner product with `append_one` is cosine minus offset.

    So any index for inner products (FAISS, a vector store) takes offsets, as one more
    dimension.

    Args:
      index: ``(m, d)``, rows of any norm.
      offsets: ``(m,)``.

    Returns:
      ``(m, d + 1)``: unit rows, and minus the offset. Not unit rows: the store must not
      normalise them.

    Raises:
      ValueError: if there is not one offset a row.
    """
    if offsets.shape != index.shape[:1]:
        raise ValueError(
            f"`append_offsets(offsets=...)`: expected shape {index.shape[:1]}, got "
            f"{offsets.shape}; give one offset per index row."
        )
    units = unit_rows(index)
    last = -jnp.asarray(offsets, units.dtype)[:, None]
    return jnp.concatenate([units, last], axis=1)


@jax.jit
def append_one(queries: Float[ArrayLike, "n d"]) -> Float[Array, "n d_plus_1"]:
    """Make queries for an index of `append_offsets`: unit rows, and a 1."""
    units = unit_rows(queries)
    return jnp.concatenate([units, jnp.ones_like(units[:, :1])], axis=1)
