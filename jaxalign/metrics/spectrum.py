# SPDX-License-Identifier: Apache-2.0
"""How many dimensions embeddings really use: what anchors can say of a map."""

import numpy as np
from jaxtyping import Float

from jaxalign.array_types import ArrayLike
from jaxalign.errors import check_number
from jaxalign.float_rows import float_rows


def dimensions_used(rows: Float[ArrayLike, "n d"], *, share: float = 0.99) -> int:
    """Count the principal directions that hold a share of the variance.

    A map fitted on these rows is well determined on that many dimensions; on the others
    it rests on the little variance that is left, and is close to arbitrary.

    Args:
      rows: ``(n, d)``.
      share: of the variance about the mean, in (0, 1].

    Returns:
      The smallest number of principal directions with that share, 0 without variance.

    Raises:
      ValueError: for a share outside (0, 1], or if `rows` is no matrix of real floating
        rows.

    >>> dimensions_used(np.array([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.1]]))
    1
    """
    check_number(
        "dimensions_used",
        "share",
        share,
        above=0.0,
        most=1.0,
        remedy="0.99 is 99 % of the variance",
    )
    centred = np.asarray(float_rows("dimensions_used", "rows", rows), np.float64)
    centred = centred - centred.mean(axis=0)
    variances = np.linalg.svd(centred, compute_uv=False) ** 2
    total = variances.sum()
    if total == 0:
        return 0
    # Rounding may leave the sum of all a little short of the whole.
    reached = np.cumsum(variances) >= share * total * (1 - 1e-12)
    return int(reached.argmax()) + 1
