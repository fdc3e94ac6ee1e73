# SPDX-License-Identifier: Apache-2.0
"""Objectives of a map: PyTrees to be called on points, differentiable, jit-safe."""

from jaxalign.stiefel.objectives.consensus import (
    consensus_objective as consensus_objective,
)
from jaxalign.stiefel.objectives.contrastive import (
    contrastive_objective as contrastive_objective,
)
from jaxalign.stiefel.objectives.cosine import cosine_objective as cosine_objective
from jaxalign.stiefel.objectives.csls import csls_objective as csls_objective
from jaxalign.stiefel.objectives.kernel import kernel_objective as kernel_objective
from jaxalign.stiefel.objectives.kernel import reference_gram as reference_gram
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
