# SPDX-License-Identifier: Apache-2.0
"""Objectives of a map: PyTrees to be called on points, differentiable, jit-safe."""

from jaxalign.stiefel.objectives.consensus import (
    consensus_objective as consensus_objective,
)
from jaxalign.stiefel.objectives.least_squares import (
    least_squares_objective as least_squares_objective,
)
from jaxalign.stiefel.objectives.procrustes import (
    procrustes_objective as procrustes_objective,
)
from jaxalign.stiefel.objectives.robust import robust_objective as robust_objective
from jaxalign.stiefel.objectives.weighted import (
    weighted_objective as weighted_objective,
)
