# SPDX-License-Identifier: Apache-2.0
"""A matrix that was found elsewhere: by `jaxalign.stiefel.fit`, or by anything else.

The anchors then give the means, the scales and the residuals of the map alone.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Float

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError, check_option
from jaxalign.families.family import Family, Needs, Solved, Structure
from jaxalign.float_rows import float_array
from jaxalign.moments import Moments
from jaxalign.solve.polar import orthogonality_bound, orthogonality_error
from jaxalign.solve.scale import ORTHOGONAL_SCALE, Scale
from jaxalign.status import Status


@dataclasses.dataclass(frozen=True, eq=False)
class Given(Family):
    """A matrix as it is, determinant and all; stored in the moments' dtype.

    Attributes:
      matrix: ``(d_target, d_source)``, such as `point` of `jaxalign.stiefel.fit`.
      structure: ``"isometry"`` (default: orthonormal columns, or rows if they are
        fewer, up to rounding) or ``"general"``, any matrix.

    Notes:
      The scale "energy" compares all of the spread, since a matrix does not tell what
      the anchors determine.
    """

    name: ClassVar[str] = "given"
    simplicity: ClassVar[int] = 0

    matrix: Float[ArrayLike, "d_target d_source"]
    structure: Structure = "isometry"

    def __post_init__(self):
        check_option("Given", "structure", self.structure, ("isometry", "general"))
        shape = "(d_target, d_source)"
        matrix = float_array("Given", "matrix", self.matrix, axes=2, expected=shape)
        if matrix.ndim != 2:
            raise ArgumentError("Given(matrix=...)", f"shape {shape}", matrix.shape)
        # Within `jax.jit` a matrix has no values yet.
        if not isinstance(matrix, Tracer) and not jnp.all(jnp.isfinite(matrix)):
            raise ArgumentError(
                "Given(matrix=...)",
                "a finite matrix",
                "one with NaN or infinity",
                "look at how it was found",
            )
        object.__setattr__(self, "matrix", matrix)
        if self.structure == "isometry":
            _check_orthonormal(matrix)

    @property
    def default_scale(self) -> Scale:
        """That of the orthogonal family for an isometry."""
        return ORTHOGONAL_SCALE if self.structure == "isometry" else "none"

    @property
    def needs(self) -> Needs:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Grams for the energy of rows, unless the matrix keeps it."""
        return "cross" if self.structure == "isometry" else "grams"

    def solve(self, moments: Moments) -> Solved:
        """Return the matrix, for each batch entry."""
        matrix = jnp.asarray(self.matrix, moments.count.dtype)
        return Solved(
            matrix=jnp.broadcast_to(matrix, moments.cross_covariance.shape),
            status=jnp.full(moments.groups, Status.OK.value, jnp.int32),
            structure=self.structure,
        )

    def check_widths(self, call: str, d_source: int, d_target: int) -> None:
        """Raise unless the matrix has the anchors' widths."""
        shape = self.matrix.shape
        if shape != (d_target, d_source):
            turned = ", transposed" if shape == (d_source, d_target) else ""
            raise ArgumentError(
                f"{call}(family=Given(matrix=...))",
                f"a matrix (d_target, d_source) = {(d_target, d_source)}, the anchors' "
                "widths",
                f"shape {shape}",
                f"pass it{turned} as `fit` gives it in `point`",
            )

    def describe(self) -> str:
        """Say in a few words what the map is."""
        return "given matrix"

    def to_json(self) -> dict[str, Any]:
        """Give the family as JSON values; the map itself holds the matrix."""
        return {"name": self.name, "structure": self.structure}


def _check_orthonormal(matrix: ArrayLike) -> None:
    """Raise for a matrix that is not orthonormal up to rounding."""
    wide = jnp.asarray(matrix, jax.dtypes.canonicalize_dtype(np.float64))
    error = float(orthogonality_error(wide))
    bound = orthogonality_bound(jnp.asarray(matrix, jnp.float32))
    if not error <= bound:
        short = "columns" if wide.shape[0] >= wide.shape[1] else "rows"
        raise ArgumentError(
            "Given(matrix=...)",
            f"orthonormal {short}, |Q'Q - I| at most {bound:.1e}",
            f"{error:.2g}",
            "pass `ja.solve.polar_factor(matrix).factor`, the nearest such matrix, or "
            "structure='general'",
        )
