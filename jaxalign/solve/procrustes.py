# SPDX-License-Identifier: Apache-2.0
"""Orthogonal Procrustes from accumulated moments: the solve step of the data flow.

Moments of a few anchors go in, one orthogonal map comes out, with what tells how far
the anchors determine it. Reference: Schoenemann, "A generalized solution of the
orthogonal Procrustes problem", 1966.
"""

import functools
import typing
from collections.abc import Iterable
from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxalign.array_types import Array, ArrayLike
from jaxalign.moments import Moments
from jaxalign.solve.polar import thin_svd
from jaxalign.status import Status, check_status

_HIGHEST = jax.lax.Precision.HIGHEST

Scale = Literal["none", "least_squares", "energy"]
SCALES: tuple[str, ...] = typing.get_args(Scale)


@typing.no_type_check
@flax.struct.dataclass
class ProcrustesSolution:
    """Best orthogonal map for a batch of moments.

    Attributes:
      rotation: Q, shape ``(*batch, d_target, d_source)``.
      scale: factor of the rotated rows, ``(*batch)``.
      singular_values: of the cross-covariance, descending, ``(*batch, k)`` with k the
        smaller width.
      rank: directions that the anchors determine, ``(*batch)``, int32.
      residual: sum over anchors of ``|scale * Q x_c - y_c|**2``, ``(*batch)``; NaN if
        ``d_source > d_target`` and the moments hold no Gram.
      status: `Status` codes, ``(*batch)``.
    """

    rotation: Float[Array, "*batch d_target d_source"]
    scale: Float[Array, "*batch"]
    singular_values: Float[Array, "*batch k"]
    rank: Int[Array, "*batch"]
    residual: Float[Array, "*batch"]
    status: Int[Array, "*batch"]

    def check(self, *, allow: Iterable[Status] = ()) -> "ProcrustesSolution":
        """Return itself, or raise `SolveError` for a status not in `allow`."""
        check_status(self.status, call="solve_procrustes", allow=allow)
        return self


def solve_procrustes(
    moments: Moments,
    *,
    method: Literal["svd"] = "svd",
    proper: bool = False,
    scale: Scale = "none",
) -> ProcrustesSolution:
    r"""Solve orthogonal Procrustes from accumulated moments, batched over leading axes.

    With centred anchors :math:`x_i` (source) and :math:`y_i` (target), finds
    :math:`Q` with orthonormal columns (rows, if ``d_source > d_target``) that maximises
    :math:`\langle Q, C \rangle`, where ``moments.cross_covariance`` is
    :math:`C = \sum_i y_i x_i^\top = U \Sigma V^\top`. The optimum is
    :math:`Q = U V^\top`; where ``d_source <= d_target`` it is also the least-squares
    optimum :math:`\min_Q \sum_i |Q x_i - y_i|^2`, whatever the scale.

    Args:
      moments: of the anchors; batched over leading axes. Without Grams unless
        ``d_source > d_target`` and a scale or the residual is wanted.
      method: static; how the polar factor is computed.
      proper: static; only determinant +1: the last column of :math:`U`, of the
        smallest singular value, is negated if need be. Equal widths only.
      scale: static. With :math:`E = \mathrm{tr}(Q G_x Q^\top)` the energy of the
        rotated source rows: ``"none"`` is 1; ``"least_squares"`` is
        :math:`\langle Q, C \rangle / E`; ``"energy"`` is
        :math:`\sqrt{\sum_i |y_i|^2 / E}`, which gives the aligned rows the spread of
        the target rows.

    Returns:
      The solution; call `check()` on the host to raise on trouble.

    Raises:
      ValueError: if `moments` is no `Moments`, an option is unknown, `proper` comes
        with unequal widths, or a scale needs a Gram that is missing.

    Notes:
      Unique only if ``rank`` equals the smaller width (with `proper`, one less is
      enough); else the part of Q outside the leading ``rank`` singular vectors is
      arbitrary, see `identified_directions`. ``rank`` counts singular values above
      rounding, and is never more than the number of anchors less one. Where
      ``d_source > d_target`` the SVD maximises the trace but not least squares, and
      may be far from that optimum. Cost O(d^3) per entry; no communication if sharded
      on the batch axes.

    References:
      Schoenemann, "A generalized solution of the orthogonal Procrustes problem", 1966.
      Kabsch, "A discussion of the solution for the best rotation", 1978 (proper).

    >>> import jaxalign as ja
    >>> rows = jnp.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]])
    >>> turned = rows @ jnp.array([[0.0, -1.0], [1.0, 0.0]]).T
    >>> moments = ja.update_moments(ja.init_moments(2, 2), rows, turned)
    >>> solve_procrustes(moments).rotation.round(3).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    _check_options(moments, method, proper, scale)
    return _solve(moments, proper=proper, scale=scale)


@functools.partial(jax.jit, static_argnames=("proper", "scale"))
def _solve(moments, *, proper, scale):
    """Solve by SVD; jitted whole, since eager calls would compile each operation."""
    cross = moments.cross_covariance
    u, s, vt = thin_svd(cross)
    if proper:
        # det(U V') is +-1; (..., d) @ (..., d) on the last column only.
        sign = jnp.linalg.det(jnp.matmul(u, vt, precision=_HIGHEST))
        flip = jnp.where(sign < 0, -1.0, 1.0).astype(u.dtype)
        u = u.at[..., :, -1].multiply(flip[..., None])
    # (..., d_target, k) @ (..., k, d_source)
    rotation = jnp.matmul(u, vt, precision=_HIGHEST)
    rank = _rank(s, moments)
    factor = fit_scale(moments, rotation, scale=scale)
    needed = s.shape[-1] - 1 if proper else s.shape[-1]
    return ProcrustesSolution(
        rotation=rotation,
        scale=factor,
        singular_values=s,
        rank=rank,
        residual=map_residual(moments, rotation, factor),
        status=_status(moments, factor, rank >= needed),
    )


def projected_energy(
    moments: Moments, matrix: Float[ArrayLike, "*batch d_target d_source"]
) -> Float[Array, "*batch"] | None:
    r"""Sum the squared norms of the centred source rows after ``matrix``.

    This is :math:`\mathrm{tr}(Q G_x Q^\top)`; None if it takes a Gram that the moments
    do not hold. For orthonormal columns it is the source energy itself.
    """
    if moments.source_gram is None:
        return None
    # (..., d_target, d_source) @ (..., d_source, d_source)
    turned = jnp.matmul(matrix, moments.source_gram, precision=_HIGHEST)
    return jnp.sum(turned * matrix, axis=(-2, -1))


def fit_scale(
    moments: Moments,
    rotation: Float[ArrayLike, "*batch d_target d_source"],
    *,
    scale: Scale,
    isometry: bool = True,
    within: tuple[Array, Array] | None = None,
) -> Float[Array, "*batch"]:
    r"""Fit the factor of rows that `rotation` already turns, by the rule `scale`.

    The moments need not be those that `rotation` was fitted on: a map has one rotation
    and a scale per modality.

    Args:
      moments: of the rows to be scaled.
      rotation: shape ``(..., d_target, d_source)``.
      scale: static; see `solve_procrustes`.
      isometry: static; whether `rotation` has orthonormal columns or rows. If not, the
        moments must hold Grams.
      within: U and V of `identified_directions`, or None. With them the rule "energy"
        is :math:`\sqrt{\mathrm{tr}(U^\top G_y U) / \mathrm{tr}(V^\top G_x V)}`, of
        rows projected on what the fit determines; the other rules do not read them.

    Returns:
      The factor, shape ``(...)``; NaN or infinite if the rows have no spread.

    Raises:
      ValueError: if the energy of the rotated rows takes a Gram that is missing.
    """
    if scale == "none":
        return jnp.ones_like(moments.source_energy)
    if scale != "energy":
        within = None
    energy = _rotated_energy(moments, rotation, isometry)
    if energy is None or (within and moments.source_gram is None):
        raise ValueError(
            f"`solve_procrustes(scale={scale!r})`: expected moments with Gram matrices "
            f"for a map from width {moments.d_source} to {moments.d_target}"
            f"{' that the anchors leave partly open' if within else ''}, got none; "
            "make them by `init_moments(..., grams=True)`, or pass scale='none'."
        )
    if within is not None:
        on_target, on_source = within
        return jnp.sqrt(
            _energy_along(moments.target_gram, on_target)
            / _energy_along(moments.source_gram, on_source)
        )
    if scale == "energy":
        return jnp.sqrt(moments.target_energy / energy)
    return _inner(rotation, moments.cross_covariance) / energy


@jax.jit
def identified_directions(
    moments: Moments, rank: Int[ArrayLike, "*batch"]
) -> tuple[Float[Array, "*batch d_target k"], Float[Array, "*batch d_source k"]]:
    r"""Singular vectors of the cross-covariance that the anchors determine.

    Args:
      moments: that the rotation was fitted on.
      rank: of that fit, as `solve_procrustes` gives it.

    Returns:
      U (target) and V (source), with zeros in the columns beyond `rank`. There
      :math:`Q = U V^\top` is fitted; what it does to the rest is arbitrary.
    """
    u, _, vt = thin_svd(moments.cross_covariance)
    kept = (jnp.arange(u.shape[-1]) < rank[..., None]).astype(u.dtype)[..., None, :]
    return u * kept, jnp.swapaxes(vt, -1, -2) * kept


def map_residual(
    moments: Moments,
    matrix: Float[ArrayLike, "*batch d_target d_source"],
    scale: Float[ArrayLike, "*batch"],
    *,
    isometry: bool = True,
) -> Float[Array, "*batch"]:
    """Sum the squared errors of ``scale * matrix`` over the anchors of the moments.

    NaN where the energy takes a Gram that the moments do not hold.
    """
    energy = _rotated_energy(moments, matrix, isometry)
    if energy is None:
        return jnp.full_like(moments.source_energy, jnp.nan)
    fit = _inner(matrix, moments.cross_covariance)
    residual = moments.target_energy + scale * (scale * energy - 2.0 * fit)
    # A perfect fit is a difference of equal sums: rounding may take it below 0.
    return jnp.maximum(residual, jnp.zeros_like(residual))


def _rotated_energy(moments, matrix, isometry):
    """Energy of the rows after `matrix`, by the source energy where that is exact."""
    if isometry and moments.d_source <= moments.d_target:
        return moments.source_energy
    return projected_energy(moments, matrix)


def _energy_along(gram, basis):
    """Energy of rows with that Gram matrix, projected on orthonormal columns."""
    # (..., d, d) @ (..., d, k)
    return _inner(basis, jnp.matmul(gram, basis, precision=_HIGHEST))


def _inner(left, right):
    """Frobenius inner product over the last two axes."""
    return jnp.sum(left * right, axis=(-2, -1))


def _rank(s, moments):
    """Singular values above rounding, at most the anchors' number less one."""
    widest = max(moments.d_source, moments.d_target)
    # Strict comparison: an all-zero matrix must have rank 0.
    cutoff = s[..., :1] * widest * float(jnp.finfo(s.dtype).eps)
    numerical = jnp.sum(s > cutoff, axis=-1, dtype=jnp.int32)
    return jnp.minimum(numerical, jnp.maximum(moments.rows - 1, 0))


def _status(moments, factor, unique):
    """Choose the code that explains most: bad numbers, too few rows, low rank."""
    finite = jnp.isfinite(moments.source_energy) & jnp.isfinite(moments.target_energy)
    finite &= jnp.all(jnp.isfinite(moments.cross_covariance), axis=(-2, -1))
    return jnp.select(
        [~finite, moments.rows < 2, ~jnp.isfinite(factor), ~unique],
        [
            jnp.int32(Status.NON_FINITE),
            jnp.int32(Status.TOO_FEW_ANCHORS),
            jnp.int32(Status.NON_FINITE),
            jnp.int32(Status.RANK_DEFICIENT),
        ],
        jnp.int32(Status.OK),
    )


def _check_options(moments, method, proper, scale):
    """Refuse what is no `Moments`, and options that do not exist or do not fit."""
    if not isinstance(moments, Moments):
        shape = getattr(moments, "shape", None)
        got = type(moments).__name__ if shape is None else f"an array of shape {shape}"
        raise ValueError(
            f"`solve_procrustes(moments=...)`: expected Moments, got {got}; for a bare "
            "matrix use polar_factor."
        )
    if method != "svd":
        raise ValueError(
            f"`solve_procrustes(method={method!r})`: expected 'svd'; leave it out."
        )
    if scale not in SCALES:
        raise ValueError(
            f"`solve_procrustes(scale={scale!r})`: expected one of {SCALES}; 'energy' "
            "suits rows that sit in cones of unequal width."
        )
    if proper and moments.d_source != moments.d_target:
        raise ValueError(
            "`solve_procrustes(proper=True)`: expected equal widths, got "
            f"{moments.d_source} and {moments.d_target}; a rectangular map has no "
            "determinant, so leave proper=False."
        )
