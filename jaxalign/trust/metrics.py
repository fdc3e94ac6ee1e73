# SPDX-License-Identifier: Apache-2.0
"""What moments tell of a fit: agreement and residuals, as functions of four sums.

The trace of the fit, both energies and the count are all that the metrics need, so that
a replicate or a derivative of the metrics is one of four numbers.
"""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import jax.numpy as jnp

from jaxalign.array_types import Array
from jaxalign.pytrees import pytree_dataclass
from jaxalign.solve.scale import Scale

METRICS = ("agreement", "relative_residual", "mean_square_residual")

Value = TypeVar("Value")


@pytree_dataclass
class FitMetrics(Generic[Value]):
    r"""Metrics of a fit, each an array or an interval.

    Attributes:
      agreement: trace correlation :math:`\langle Q, C \rangle / \sqrt{E_x E_y}`, the
        cosine between all rotated centred rows and all target rows taken as two long
        vectors; at most 1.
      relative_residual: sum of squared errors over the target energy; 0 is perfect.
      mean_square_residual: sum of squared errors over the count.
    """

    agreement: Value
    relative_residual: Value
    mean_square_residual: Value


def symmetric_metrics(trace, source_energy, target_energy, count, *, scale: Scale):
    """Metrics of a fit on scales where their errors are nearly symmetric.

    Args:
      trace: ``<Q, C>``.
      source_energy: of the centred rows, as are all sums.
      target_energy: the same of the target.
      count: sum of weights.
      scale: static; of `solve_procrustes`.

    Returns:
      `FitMetrics` of the inverse hyperbolic tangent and the two logarithms.
    """
    root = jnp.sqrt(source_energy * target_energy)
    if scale == "none":
        residual = source_energy + target_energy - 2.0 * trace
    elif scale == "energy":
        residual = 2.0 * target_energy * (1.0 - trace / root)
    else:
        residual = target_energy - jnp.square(trace) / source_energy
    return to_symmetric(trace / root, residual, target_energy, count)


def to_symmetric(agreement, residual, target_energy, count) -> FitMetrics[Array]:
    """Fisher's z of the agreement, logarithms of the residuals, kept off infinity."""
    info = jnp.finfo(jnp.result_type(agreement))
    nearly = 1.0 - float(info.eps)
    # A residual is a difference of energies: below their rounding it shows nothing, and
    # its logarithm would show that as everything.
    floor = 8.0 * float(info.eps) * target_energy
    residual = jnp.maximum(residual, floor)
    tiny = float(info.tiny)
    return FitMetrics(
        agreement=jnp.arctanh(jnp.clip(agreement, -nearly, nearly)),
        relative_residual=jnp.log(residual / jnp.maximum(target_energy, tiny) + tiny),
        mean_square_residual=jnp.log(residual / jnp.maximum(count, tiny) + tiny),
    )


BACK = FitMetrics[Callable](
    agreement=jnp.tanh, relative_residual=jnp.exp, mean_square_residual=jnp.exp
)


def over_metrics(function: Callable, *metrics: FitMetrics) -> FitMetrics[Any]:
    """Apply a function to each metric of some `FitMetrics` in turn."""
    return FitMetrics(
        **{name: function(*(getattr(m, name) for m in metrics)) for name in METRICS}
    )
