# SPDX-License-Identifier: Apache-2.0
"""Ridge by leaving out each anchor by itself, exactly, from the rows.

The error of a row under the fit without it follows from the fit with it and from the
row's own leverage; nothing is fitted twice. Reference: Allen, "The relationship between
variable selection and data augmentation and a method for prediction", 1974.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import paired_rows
from jaxalign.moments import init_moments, update_moments
from jaxalign.moments.weights import row_weights
from jaxalign.precise import product
from jaxalign.solve.gram_spectrum import GramSpectrum
from jaxalign.solve.ridge_choice import DEFAULT_RIDGES, RidgeChoice


def leave_one_out(
    source: Float[ArrayLike, "n d_source"],
    target: Float[ArrayLike, "n d_target"],
    ridges: Sequence[float] = DEFAULT_RIDGES,
    *,
    weights: Shaped[ArrayLike, " n"] | None = None,
) -> RidgeChoice:
    r"""Choose the ridge by the exact leave-one-out error.

    With the fit's error :math:`e_i` on row :math:`i` of weight :math:`w_i`, and its
    leverage :math:`h_i = w_i (1 / \sum_j w_j + x_i^\top (G_x + \lambda I)^{-1} x_i)`
    (:math:`x_i` centred), the error of the fit without the row is
    :math:`e_i / (1 - h_i)`, means fitted anew included.

    Args:
      source: rows, shape ``(n, d_source)``.
      target: shape ``(n, d_target)``; row i belongs to row i of `source`.
      ridges: strengths to try, each at least 0, relative as in `solve_linear` to the
        mean eigenvalue of ALL rows' Gram: :math:`\lambda` stays as a row is left out.
      weights: shape ``(n,)``, not negative; 0 is padding. Default: all 1.

    Returns:
      The choice, with the weighted mean squared errors.

    Raises:
      ValueError: if there are no ridges, one is negative, or shapes do not pair.

    Notes:
      Cost O(n d_source (d_source + d_target)) a ridge and O(d_source^3) once; memory a
      few copies of the rows. Rows that show the same thing make the choice too weak:
      leave out groups by `choose_ridge`.

    References:
      Allen, "The relationship between variable selection and data augmentation and a
      method for prediction", Technometrics, 1974.

    >>> rows = jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [3.0, 1.0]])
    >>> float(leave_one_out(rows, rows).ridge) < 1e-2
    True
    """
    if not len(ridges) or not all(ridge >= 0 for ridge in ridges):
        raise ArgumentError(
            f"leave_one_out(ridges={tuple(ridges)})",
            "one number or more, each at least 0",
            remedy="leave it out for the default grid",
        )
    source, target = paired_rows("leave_one_out", source, target)
    if weights is not None:
        weights = row_weights("leave_one_out", weights, source.shape[0])
    empty = init_moments(source.shape[1], target.shape[1], grams=True)
    moments = update_moments(empty, source, target, weights=weights)
    strengths = jnp.asarray(ridges, moments.count.dtype)
    errors = _errors(moments, source, target, weights, strengths)
    return RidgeChoice(
        ridge=strengths[jnp.argmin(errors)], ridges=strengths, errors=errors
    )


@jax.jit
def _errors(moments, source, target, weights, ridges):
    """Weighted mean of the squared leave-one-out errors, one per ridge."""
    dtype = moments.count.dtype
    if weights is None:
        weights = jnp.ones(source.shape[:1], dtype)
    weights = jnp.asarray(weights, dtype)
    kept = (weights > 0)[:, None]
    spectrum = GramSpectrum.of(moments)
    source = jnp.asarray(source, dtype) - moments.source_mean[None, :]
    target = jnp.asarray(target, dtype) - moments.target_mean[None, :]
    source, target = (jnp.where(kept, side, 0.0) for side in (source, target))
    # (n, d_source) @ (d_source, d_source)
    turned = product(source, spectrum.vectors)
    eps = float(jnp.finfo(dtype).eps)

    def error(ridge):
        inverse = spectrum.inverse(ridge)[None, :]
        # (n, d_source) @ (d_source, d_target)
        moved = product(turned * inverse, spectrum.turned.T)
        reach = jnp.sum(jnp.square(turned) * inverse, axis=-1)
        free = 1.0 - weights * (1.0 / moments.count + reach)
        squares = jnp.sum(jnp.square(target - moved), axis=-1)
        found = jnp.sum(weights * squares / jnp.square(free)) / moments.count
        # A row that rules its own fit, as without ridge and with few anchors.
        ruled = jnp.min(jnp.where(weights > 0, free, 1.0)) <= eps**0.5
        return jnp.where(ruled, jnp.full_like(found, jnp.inf), found)

    return jax.lax.map(error, ridges)
