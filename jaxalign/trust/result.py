# SPDX-License-Identifier: Apache-2.0
"""What an assessment of a map returns: numbers, intervals and bounds, no verdicts."""

from typing import ClassVar

from jaxtyping import Float, Int

from jaxalign.array_types import Array
from jaxalign.pytrees import pytree_dataclass, static_field
from jaxalign.status import Checked
from jaxalign.trust.delta import DeltaIntervals
from jaxalign.trust.intervals import Interval
from jaxalign.trust.learning import LearningCurve
from jaxalign.trust.metrics import FitMetrics


@pytree_dataclass
class AngleBound:
    """How far Q may be from the population's, in radians, scalars.

    Attributes:
      typical: median over replicates of the angle between replicate and fit.
      bound: the angle to the population's Q is below it with the confidence `level`.
    """

    typical: Float[Array, ""]
    bound: Float[Array, ""]


@pytree_dataclass
class Trust(Checked):
    """How far to trust a map; scalars unless said otherwise.

    Attributes:
      anchors: rows of weight above 0.
      blocks: effective number of blocks, (sum n)^2 / sum n^2.
      directions: of the narrower space, all that a map has to determine.
      rank: directions that the anchors determine up to rounding.
      determined: leading ones of these along which Q errs by less than 0.2 radian, root
        mean square; angles are measured on them.
      sensitivity: the most that Q moves for an error in the cross-covariance.
      metrics: an `Interval` of agreement and residuals, for the best map of the
        population from which the blocks come: how well a map could do.
      delta: the same to first order, without replicates; None for a source wider than
        the target.
      held_out: `Interval` of the relative error of this map on new rows, means and all:
        how well it does.
      largest_angle: bound of the largest principal angle to the population's Q.
      geodesic_angle: bound of the root of the sum of the squared angles.
      learning: how the held-out error falls with anchors, and how many are missing.
      status: `Status` code, int32.
      level: confidence of all intervals and bounds.
    """

    made_by: ClassVar[str] = "assess_map"

    anchors: Int[Array, ""]
    blocks: Float[Array, ""]
    directions: Int[Array, ""]
    rank: Int[Array, ""]
    determined: Int[Array, ""]
    sensitivity: Float[Array, ""]
    metrics: FitMetrics[Interval]
    delta: DeltaIntervals | None
    held_out: Interval
    largest_angle: AngleBound
    geodesic_angle: AngleBound
    learning: LearningCurve
    status: Int[Array, ""]
    level: float = static_field(default=0.95)
