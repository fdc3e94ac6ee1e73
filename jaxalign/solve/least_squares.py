# SPDX-License-Identifier: Apache-2.0
"""Least squares from the anchors' rows, for spectra that moments cannot resolve.

A Gram matrix squares the condition number of its rows. Embeddings use few of their
dimensions: in float32 their Gram keeps the first third, and least squares from it is
one that leaves the rest out, a regularised map under another name. A QR factor of the
rows keeps all, and is folded up block by block like moments are.

Reference: Demmel, Grigori, Hoemmen, Langou, "Communication-optimal parallel and
sequential QR and LU factorizations", 2012, arXiv 0808.2664.
"""

import dataclasses
from collections.abc import Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import float_rows


@dataclasses.dataclass(frozen=True)
class LeastSquaresSolution:
    """The linear map with the least error on its anchors.

    Attributes:
      matrix: ``(d_target, d_source)``, float64, on centred rows.
      rank: of the source rows.
      residual: sum of squared errors over the anchors.
    """

    matrix: Float[np.ndarray, "d_target d_source"]
    rank: int
    residual: float


def solve_least_squares(
    blocks: Iterable[
        tuple[Float[ArrayLike, "n d_source"], Float[ArrayLike, "n d_target"]]
    ],
) -> LeastSquaresSolution:
    r"""Solve least squares from blocks of centred rows, in float64.

    Minimises :math:`\sum_i |M x_i - y_i|^2` over all matrices :math:`M`, with
    :math:`x_i` and :math:`y_i` the rows of the source and of the target in `blocks`. Of
    several optima, the one of the least Frobenius norm.

    Args:
      blocks: ``(source, target)`` rows of shapes ``(n, d_source)`` and
        ``(n, d_target)``, any n each, centred over all blocks.

    Returns:
      The solution.

    Raises:
      ValueError: without a block, or if rows are not real floating numbers, or do not
        pair.

    Notes:
      The triangular factor of ``[source, target]`` takes one block after another, so
      that no more than a block is held: cost O(n (d_source + d_target)^2). Singular
      values below the rounding of the rows' own dtype, relative to the largest, are
      left out, as LAPACK's drivers do. What the last ones carry is noise for any rows
      but the anchors; `solve_linear` with a ridge is the map to use.

    >>> rows = np.array([[1.0, -1.0], [-1.0, 0.0], [0.0, 1.0]])
    >>> found = solve_least_squares([(rows, 3.0 * rows)])
    >>> found.rank, bool(np.allclose(found.matrix, 3.0 * np.eye(2)))
    (2, True)
    """
    factor: np.ndarray | None = None
    d_source, widths, rounding = 0, (None, None), 0.0
    for block in blocks:
        source, target = (
            float_rows("solve_least_squares", "blocks", side, width=width)
            for side, width in zip(block, widths, strict=True)
        )
        if source.shape[0] != target.shape[0]:
            raise ArgumentError(
                "solve_least_squares(blocks=...)",
                "as many target rows as source rows in a block",
                f"{source.shape[0]} and {target.shape[0]}",
                "row i of both must be the same anchor",
            )
        widths = d_source, _ = source.shape[1], target.shape[1]
        rounding = max(rounding, float(jnp.finfo(source.dtype).eps))
        sides = [np.asarray(side, np.float64) for side in (source, target)]
        # (n, d_source + d_target), below the factor of the blocks before
        rows = np.concatenate(sides, axis=1)
        stacked = rows if factor is None else np.concatenate([factor, rows])
        factor = np.asarray(np.linalg.qr(stacked, mode="r"))
    if factor is None:
        raise ArgumentError(
            "solve_least_squares(blocks=...)",
            "at least one block of rows",
            "none",
            "pass [(source_rows, target_rows)]",
        )
    left, right = factor[:, :d_source], factor[:, d_source:]
    transposed, _, rank, _ = np.linalg.lstsq(left, right, rcond=rounding)
    residual = float(np.sum(np.square(right - left @ transposed)))
    return LeastSquaresSolution(transposed.T, int(rank), residual)
