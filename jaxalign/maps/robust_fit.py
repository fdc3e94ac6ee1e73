# SPDX-License-Identifier: Apache-2.0
"""Weights of a user's anchors that wrong pairs do not get: the robust rotation.

What `solve_robust` believes of each pair multiplies the user's weight of it. Then the
fit goes its usual way, so that means, scales and residuals leave wrong pairs out too.
"""

from typing import Any

import numpy as np

from jaxalign.array_types import Modality
from jaxalign.maps.anchor_moments import Pairs, Weights
from jaxalign.maps.anchor_rows import as_float
from jaxalign.solve.robust import Loss, solve_robust
from jaxalign.status import Status

# Of its given weight: what a pair has to lose to count as disbelieved.
DISBELIEVED = 0.1


def believe_rows(
    pairs: Pairs, weights: Weights, *, loss: Loss, proper: bool
) -> tuple[dict[Modality, np.ndarray], dict[str, Any]]:
    """Weigh the anchors of each modality by how far a map of the others bears them out.

    Args:
      pairs: the modalities to fit on; each is judged by its own pairs.
      weights: of rows, as given.
      loss: see `solve_robust`.
      proper: see `solve_robust`.

    Returns:
      New weights by modality, and what there is to note of them.
    """
    believed, of_modalities = {}, {}
    for name, (source, target) in pairs.items():
        given = as_float(weights.get(name, np.ones(len(source))))
        found = solve_robust(
            as_float(source),
            as_float(target),
            weights=given,
            loss=loss,
            # By spreads ("energy") wrong pairs would set the scale, clean rows would
            # all miss, and a huber or l1 fit would never leave that.
            scale="least_squares",
            proper=proper,
        )
        found.check(allow=[Status.RANK_DEFICIENT, Status.NOT_CONVERGED])
        believed[name] = np.asarray(found.weights)
        low = believed[name] < DISBELIEVED * given
        of_modalities[name] = {
            "share_below_0.1": float(np.mean(low[given > 0])),
            "status": Status(int(found.status)).name,
        }
    return believed, {"loss": loss, "robust": of_modalities}
