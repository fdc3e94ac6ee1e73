# SPDX-License-Identifier: Apache-2.0
"""Optimisation on the Stiefel manifold: geometry, optax transformations, fits."""

from jaxalign.stiefel import contrib as contrib
from jaxalign.stiefel.components import component as component
from jaxalign.stiefel.components import reflect as reflect
from jaxalign.stiefel.draws import random_point as random_point
from jaxalign.stiefel.draws import random_tangent as random_tangent
from jaxalign.stiefel.feasibility import check_on_manifold as check_on_manifold
from jaxalign.stiefel.fit import fit as fit
from jaxalign.stiefel.geodesic import geodesic_distance as geodesic_distance
from jaxalign.stiefel.geometry import inner_product as inner_product
from jaxalign.stiefel.geometry import project_tangent as project_tangent
from jaxalign.stiefel.geometry import riemannian_gradient as riemannian_gradient
from jaxalign.stiefel.geometry import tangent_norm as tangent_norm
from jaxalign.stiefel.geometry import transport as transport
from jaxalign.stiefel.landing import land_updates as land_updates
from jaxalign.stiefel.landing import to_landing_direction as to_landing_direction
from jaxalign.stiefel.objectives import consensus_objective as consensus_objective
from jaxalign.stiefel.objectives import (
    least_squares_objective as least_squares_objective,
)
from jaxalign.stiefel.objectives import procrustes_objective as procrustes_objective
from jaxalign.stiefel.objectives import robust_objective as robust_objective
from jaxalign.stiefel.objectives import weighted_objective as weighted_objective
from jaxalign.stiefel.optimizers import cayley_adam as cayley_adam
from jaxalign.stiefel.optimizers import cayley_sgd as cayley_sgd
from jaxalign.stiefel.optimizers import landing as landing
from jaxalign.stiefel.optimizers import pogo as pogo
from jaxalign.stiefel.optimizers import riemannian_adam as riemannian_adam
from jaxalign.stiefel.optimizers import riemannian_sgd as riemannian_sgd
from jaxalign.stiefel.paths import label_paths as label_paths
from jaxalign.stiefel.pogo import orthonormalize_updates as orthonormalize_updates
from jaxalign.stiefel.retractions import RETRACTIONS as RETRACTIONS
from jaxalign.stiefel.retractions import retract as retract
from jaxalign.stiefel.solution import History as History
from jaxalign.stiefel.solution import StiefelSolution as StiefelSolution
from jaxalign.stiefel.steps import limit_cayley_step as limit_cayley_step
from jaxalign.stiefel.steps import retract_updates as retract_updates
from jaxalign.stiefel.stream import StreamSolution as StreamSolution
from jaxalign.stiefel.stream import fit_stream as fit_stream
from jaxalign.stiefel.transforms import (
    scale_by_riemannian_adam as scale_by_riemannian_adam,
)
from jaxalign.stiefel.transforms import to_riemannian_gradient as to_riemannian_gradient
from jaxalign.stiefel.transforms import trace_tangent as trace_tangent
