# SPDX-License-Identifier: Apache-2.0
"""`map_from_rotation`: a map of a rotation that was found elsewhere, and of moments.

What `jaxalign.stiefel.fit` or any other optimiser ends with is a matrix; a map has
means and scales too, which the moments of the anchors give.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.maps import checks
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.assemble import (
    Fitted,
    check_moments,
    check_spread,
    map_of_moments,
)
from jaxalign.moments import Moments
from jaxalign.solve.polar import orthogonality_bound, orthogonality_error
from jaxalign.solve.scale import Scale


def map_from_rotation(
    rotation: Float[ArrayLike, "d_target d_source"],
    moments: Mapping[Modality, Moments],
    *,
    fit_on: Modality,
    scale: Scale = "energy",
    source_space: str | None = None,
    target_space: str | None = None,
    card: Mapping[str, Any] | None = None,
) -> AlignmentMap:
    r"""Make a map of a rotation, with means and scales for every modality.

    Args:
      rotation: orthonormal columns (rows, if they are fewer), shape ``(d_target,
        d_source)``, as `jaxalign.stiefel.fit` gives in `point`.
      moments: of the anchors by modality, without groups: means, scales and the noted
        residuals are theirs. With Grams where ``d_source > d_target``.
      fit_on: what the rotation was fitted on, a modality of `moments` or ``"all"``;
        noted in the map's card.
      scale: as of `fit_map`; "energy" compares all of the spread.
      source_space: as of `fit_map`.
      target_space: as of `fit_map`.
      card: as of `fit_map`.

    Returns:
      The map, of kind ``"orthogonal"``. Given the rotation of `solve_procrustes`, it is
      that of `map_from_moments`, except that the latter compares energies only within
      the directions that the anchors determine, where they do not determine all.

    Raises:
      ValueError: for a rotation of another shape than the moments', not finite or not
        orthonormal; for moments with groups, without spread or without Grams; for
        options that do not exist.

    Notes:
      The rotation is taken as it is, determinant and all; it is stored in the moments'
      dtype. Costs a few products.

    >>> import numpy as np, jaxalign as ja
    >>> rows = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]], np.float32)
    >>> moments = ja.update_moments(ja.init_moments(2, 2), rows, rows[:, ::-1])
    >>> swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> amap = map_from_rotation(swap, {"image": moments}, fit_on="image")
    >>> bool(np.allclose(amap(rows, "image"), rows[:, ::-1], atol=1e-6))
    True
    """
    call = "map_from_rotation"
    check_moments(call, moments, grouped=False, kind="orthogonal", partial=False)
    checks.check_options(call, moments, fit_on=fit_on, scale=scale)
    checks.check_spaces(call, source_space, target_space)
    first = next(iter(moments.values()))
    _check_rotation(call, rotation, (first.d_target, first.d_source))
    for name, part in moments.items():
        check_spread(f"{call}(moments=...)", name, part)
    matrix = jnp.asarray(rotation, first.count.dtype)
    return map_of_moments(
        call,
        moments,
        Fitted(matrix, {"rotation": "given"}, "orthogonal"),
        fit_on=fit_on,
        scale=scale,
        source_space=source_space,
        target_space=target_space,
        card=card,
    )


def _check_rotation(call, rotation, shape) -> None:
    """Refuse what is no orthonormal matrix of the moments' widths."""
    if not hasattr(rotation, "dtype"):
        raise ValueError(
            f"`{call}(rotation=...)`: expected an array, got {type(rotation).__name__};"
            " pass what `fit` gives in `point`."
        )
    dtype = jnp.result_type(rotation)
    if jnp.shape(rotation) != shape or not jnp.issubdtype(dtype, jnp.floating):
        turned = ", transposed," if jnp.shape(rotation) == shape[::-1] else ""
        raise ValueError(
            f"`{call}(rotation=...)`: expected a floating matrix (d_target, d_source) "
            f"= {shape}, the moments' widths, got {dtype} of shape "
            f"{jnp.shape(rotation)}; pass it{turned} as `fit` gives it in `point`."
        )
    wide = jnp.asarray(rotation, jax.dtypes.canonicalize_dtype(np.float64))
    error = float(orthogonality_error(wide))
    bound = orthogonality_bound(jnp.asarray(rotation, jnp.float32))
    if not error <= bound:
        short = "columns" if shape[0] >= shape[1] else "rows"
        raise ValueError(
            f"`{call}(rotation=...)`: expected orthonormal {short}, |Q'Q - I| at most "
            f"{bound:.1e}, got {error:.2g}; pass `ja.polar_factor(rotation).factor`, "
            "the nearest such matrix, or use `map_from_moments(kind='linear')`."
        )
