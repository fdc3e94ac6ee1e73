# SPDX-License-Identifier: Apache-2.0
"""How far rows lie outside what a map carries: rows of another domain do more."""

import numpy as np
from jaxtyping import Float

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.maps.alignment_map import AlignmentMap


def outside_share(
    amap: AlignmentMap, rows: Float[ArrayLike, "n d_source"], modality: Modality
) -> float:
    """Return the share of the energy of centred source rows that a map drops.

    Args:
      amap: the map.
      rows: ``(n, d_source)``, finite, of the norms that the map was fitted on.
      modality: whose mean is taken off.

    Returns:
      0 to 1; 0 for a map that is no (partial) isometry.

    >>> from jaxalign.maps.fit import fit_map
    >>> rows = np.eye(4, 8)
    >>> amap = fit_map((rows, rows))
    >>> round(outside_share(amap, np.eye(8)[4:], "rows"), 2)
    1.0
    """
    if amap.structure not in ("isometry", "partial_isometry"):
        return 0.0
    mean = np.asarray(amap.numbers.source_means[modality], np.float64)
    centred = np.asarray(rows, np.float64) - mean
    # |M x| is the norm of what a partial isometry keeps of x.
    kept = centred @ np.asarray(amap.matrix, np.float64).T
    energy = float(np.sum(centred**2))
    return max(0.0, 1.0 - float(np.sum(kept**2)) / energy) if energy else 0.0
