# SPDX-License-Identifier: Apache-2.0
r"""The numbers of a map: what is applied inside `jax.jit`, apart from where they came.

Maps of one shape share one compiled program, and can be stacked and mapped over.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike, Modality
from jaxalign.families.family import Structure
from jaxalign.float_rows import wide_dtype
from jaxalign.maps.norms import norm_range, rescale_rows
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass, static_field
from jaxalign.solve.mlp import residual_layer
from jaxalign.unit_rows import unit_rows


@pytree_dataclass
class MapNumbers:
    r"""Arrays of a map of rows, :math:`s (x - \bar x) M^\top + \bar y`: a PyTree.

    Attributes:
      matrix: M, shape ``(d_target, d_source)``.
      scales: s by modality, scalars.
      source_means: by modality, ``(d_source,)``.
      target_means: by modality, ``(d_target,)``.
      source_norms: by modality, ``(3,)``: smallest, root mean square and largest norm
        of the anchors' source rows; None where they are unknown, as in older files.
      target_norms: the same for the target rows.
      residual: of the structure "residual" only, what is added to M x for a centred row
        x, before the scale: ``outer @ gelu(inner @ x + inner_bias)``, with ``inner
        (hidden, d_source)``, ``inner_bias (hidden,)`` and ``outer (d_target, hidden)``.
      structure: static; what holds for the matrix, see `families.family.Structure`.
    """

    matrix: Float[Array, "d_target d_source"]
    scales: dict[Modality, Float[Array, ""]]
    source_means: dict[Modality, Float[Array, " d_source"]]
    target_means: dict[Modality, Float[Array, " d_target"]]
    source_norms: dict[Modality, Float[Array, "3"]] | None = None
    target_norms: dict[Modality, Float[Array, "3"]] | None = None
    residual: dict[str, Float[Array, "..."]] | None = None
    structure: Structure = static_field(default="isometry")

    def part(self, modality: Modality) -> "MapPart":
        """The arrays that rows of one modality meet."""
        norms = self.source_norms
        return MapPart(
            self.matrix,
            self.residual,
            self.scales[modality],
            self.source_means[modality],
            self.target_means[modality],
            None if norms is None else norms[modality],
        )


class MapPart(NamedTuple):
    """The arrays of a map that rows of one modality meet, see `MapNumbers`."""

    matrix: Array
    residual: dict[str, Array] | None
    scale: Array
    source_mean: Array
    target_mean: Array
    source_norms: Array | None


class Applied(NamedTuple):
    """Rows that were carried, and the smallest and largest norm of those that came."""

    rows: Float[Array, "n d_target"]
    low: Float[Array, ""]
    high: Float[Array, ""]


@functools.partial(
    jax.jit, static_argnames=("normalize", "normalize_input", "subtract", "add")
)
def apply_part(
    part: MapPart,
    rows: Float[ArrayLike, "n d_source"],
    *,
    normalize: bool = False,
    normalize_input: bool = False,
    subtract: bool = True,
    add: bool = True,
) -> Applied:
    """Carry rows of one modality: pure, for use inside `jax.jit` and `jax.vmap`.

    Args:
      part: of `MapNumbers.part`.
      rows: ``(n, d_source)``.
      normalize: static; divide each row that comes out by its norm.
      normalize_input: static; bring each row to the norm of the anchors first.
      subtract: static; subtract the source mean.
      add: static; add the target mean.

    Returns:
      Rows in the dtype of the matrix, computed in float32 or better; nothing is
      checked.
    """
    kept, dtype = part.matrix.dtype, wide_dtype(part.matrix.dtype)
    rows = jnp.asarray(rows).astype(dtype)
    part = jax.tree.map(lambda leaf: leaf.astype(dtype), part)
    low, high = norm_range(rows)
    if normalize_input:
        rows = rescale_rows(rows, part.source_norms)
    if subtract:
        rows = rows - part.source_mean[None, :]
    # (n, d_source) @ (d_source, d_target)
    moved = product(rows, part.matrix.T)
    if part.residual is not None:
        moved = moved + residual_layer(part.residual, rows)
    moved = part.scale * moved
    if add:
        moved = moved + part.target_mean[None, :]
    if normalize:
        moved = unit_rows(moved)
    return Applied(moved.astype(kept), low, high)
