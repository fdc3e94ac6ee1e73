# SPDX-License-Identifier: Apache-2.0
"""Least squares and ridge from moments: the real competitor of an orthogonal map.

Reference: Hoerl and Kennard, "Ridge regression: biased estimation for nonorthogonal
problems", 1970.
"""

import functools
import typing
from collections.abc import Iterable, Sequence

import flax.struct
import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxalign.array_types import Array, ArrayLike
from jaxalign.moments import Moments, merge_moments
from jaxalign.solve.scale import map_residual
from jaxalign.status import Status, check_status

_HIGHEST = jax.lax.Precision.HIGHEST

DEFAULT_RIDGES: tuple[float, ...] = (
    1e-6,
    1e-5,
    1e-4,
    1e-3,
    1e-2,
    3e-2,
    0.1,
    0.3,
    1.0,
    3.0,
    10.0,
)


@typing.no_type_check
@flax.struct.dataclass
class LinearSolution:
    """Best linear map for a batch of moments.

    Attributes:
      matrix: shape ``(*batch, d_target, d_source)``, on centred rows.
      ridge: its strength, relative to the mean eigenvalue, ``(*batch)``.
      rank: of the source Gram, ``(*batch)``, int32.
      residual: sum of squared errors over the anchors, penalty left out, ``(*batch)``.
      status: `Status` codes, ``(*batch)``.
    """

    matrix: Float[Array, "*batch d_target d_source"]
    ridge: Float[Array, "*batch"]
    rank: Int[Array, "*batch"]
    residual: Float[Array, "*batch"]
    status: Int[Array, "*batch"]

    def check(self, *, allow: Iterable[Status] = ()) -> "LinearSolution":
        """Return itself, or raise `SolveError` for a status not in `allow`."""
        check_status(self.status, call="solve_linear", allow=allow)
        return self


@typing.no_type_check
@flax.struct.dataclass
class RidgeChoice:
    """The ridge that predicts held-out anchors best.

    Attributes:
      ridge: the chosen strength, a scalar.
      ridges: the strengths tried, ``(r,)``.
      errors: mean squared error per held-out anchor, ``(r,)``.
    """

    ridge: Float[Array, ""]
    ridges: Float[Array, " r"]
    errors: Float[Array, " r"]


def solve_linear(
    moments: Moments, *, ridge: float | Float[ArrayLike, ""]
) -> LinearSolution:
    r"""Solve ridge regression from accumulated moments, batched over leading axes.

    With centred anchors :math:`x_i`, :math:`y_i`, minimises
    :math:`\sum_i |M x_i - y_i|^2 + \lambda |M|_F^2`, so that
    :math:`M = C (G_x + \lambda I)^{-1}` with ``moments.cross_covariance`` :math:`C` and
    ``moments.source_gram`` :math:`G_x`. The strength ``ridge`` is relative to the mean
    eigenvalue of the source Gram: :math:`\lambda = \mathrm{ridge} \cdot
    \mathrm{tr}(G_x) / d_{source}`, which means the same for any number of anchors.

    Args:
      moments: of the anchors, made with ``grams=True``.
      ridge: strength, at least 0. At 0 it is least squares, of minimum norm where the
        anchors do not determine it, as far as the Gram can tell (see Notes).

    Returns:
      The solution; ``matrix`` has the shape of the cross-covariance.

    Raises:
      ValueError: if `moments` holds no Grams, or `ridge` is negative.

    Notes:
      Solved in the eigenbasis of :math:`G_x`. At ``ridge=0`` eigenvalues below
      ``d * eps`` of the largest are left out, since they are rounding: for embeddings
      in float32 that can be most of them, a regularised map in effect. Enable x64 to
      resolve smaller ones, or solve from rows by `solve_least_squares`. Status is
      RANK_DEFICIENT only there: a positive ridge makes the solution unique. Cost
      O(d^3).

    References:
      Hoerl and Kennard, "Ridge regression", Technometrics, 1970.

    >>> import jaxalign as ja
    >>> rows = jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
    >>> empty = ja.init_moments(2, 2, grams=True)
    >>> solution = solve_linear(ja.update_moments(empty, rows, 3.0 * rows), ridge=0.0)
    >>> bool(jnp.allclose(solution.matrix, 3.0 * jnp.eye(2), atol=1e-5))
    True
    """
    _check_grams("solve_linear", moments)
    if isinstance(ridge, float | int) and not ridge >= 0:
        raise ValueError(
            f"`solve_linear(ridge={ridge})`: expected a number of at least 0; 0 is "
            "least squares, and 0.1 a mild ridge."
        )
    return _solve(moments, ridge)


@jax.jit
def _solve(moments, ridge):
    """Solve in the eigenbasis of the source Gram."""
    strength = jnp.full_like(moments.count, ridge)
    spectrum = _Spectrum.of(moments)
    matrix = spectrum.matrix(strength)
    rank = jnp.sum(spectrum.kept, axis=-1, dtype=jnp.int32)
    rank = jnp.minimum(rank, jnp.maximum(moments.rows - 1, 0))
    finite = jnp.all(jnp.isfinite(matrix), axis=(-2, -1))
    short = (strength == 0) & (rank < moments.d_source)
    return LinearSolution(
        matrix=matrix,
        ridge=strength,
        rank=rank,
        residual=map_residual(
            moments, matrix, jnp.ones_like(moments.count), isometry=False
        ),
        status=jnp.select(
            [~finite, moments.rows < 2, short],
            [
                jnp.int32(Status.NON_FINITE),
                jnp.int32(Status.TOO_FEW_ANCHORS),
                jnp.int32(Status.RANK_DEFICIENT),
            ],
            jnp.int32(Status.OK),
        ),
    )


def choose_ridge(
    folds: Sequence[Moments], ridges: Sequence[float] = DEFAULT_RIDGES
) -> RidgeChoice:
    r"""Choose the ridge by cross-validation over folds of the anchors.

    Each fold is predicted by the map, and about the means, of the others. Its squared
    error needs no second pass over rows: with the fold's :math:`n`, :math:`C`,
    :math:`G_x` and target energy :math:`E_y`, and the error :math:`e` at its mean, it
    is :math:`E_y - 2 \langle M, C \rangle + \mathrm{tr}(M G_x M^\top) + n |e|^2`.

    Args:
      folds: moments of disjoint sets of anchors, at least two, with Grams. Rows that
        show the same thing belong in one fold, or the choice comes out too weak.
      ridges: strengths to try, each at least 0, relative as in `solve_linear`.

    Returns:
      The choice; of equal errors, the first.

    Raises:
      ValueError: with fewer than two folds, no ridge, a negative ridge, or no Grams.

    Notes:
      One eigendecomposition a fold, shared by all ridges: O(folds * d^3).
    """
    if len(folds) < 2:
        raise ValueError(
            f"`choose_ridge(folds=...)`: expected at least 2 folds, got {len(folds)}; "
            "split the anchors, and make one Moments of each part."
        )
    if not ridges or not all(ridge >= 0 for ridge in ridges):
        raise ValueError(
            f"`choose_ridge(ridges={tuple(ridges)})`: expected one number or more, "
            "each at least 0; leave it out for the default grid."
        )
    for fold in folds:
        _check_grams("choose_ridge", fold)
    strengths = jnp.asarray(ridges, folds[0].count.dtype)
    errors, count = jnp.zeros_like(strengths), jnp.zeros_like(folds[0].count)
    for index, fold in enumerate(folds):
        others = [*folds[:index], *folds[index + 1 :]]
        rest = functools.reduce(merge_moments, others)
        errors = errors + _held_out_errors(rest, fold, strengths)
        count = count + fold.count
    errors = errors / count
    return RidgeChoice(
        ridge=strengths[jnp.argmin(errors)], ridges=strengths, errors=errors
    )


@typing.no_type_check
class _Spectrum(typing.NamedTuple):
    """Source Gram in its eigenbasis, ready for any ridge."""

    values: Float[Array, "*batch d_source"]
    kept: typing.Any
    vectors: Float[Array, "*batch d_source d_source"]
    turned: Float[Array, "*batch d_target d_source"]

    @classmethod
    def of(cls, moments: Moments) -> "_Spectrum":
        values, vectors = jnp.linalg.eigh(moments.source_gram)
        values = jnp.maximum(values, jnp.zeros_like(values))
        cutoff = (
            values[..., -1:] * values.shape[-1] * float(jnp.finfo(values.dtype).eps)
        )
        # (..., d_target, d_source) @ (..., d_source, d_source)
        turned = jnp.matmul(moments.cross_covariance, vectors, precision=_HIGHEST)
        return cls(values, values > cutoff, vectors, turned)

    def matrix(self, ridge: Float[Array, "*batch"]) -> Float[Array, "*batch t s"]:
        penalty = ridge[..., None] * jnp.mean(self.values, axis=-1, keepdims=True)
        used = self.kept | (penalty > 0)
        shifted = jnp.where(used, self.values + penalty, jnp.ones_like(self.values))
        inverse = jnp.where(used, 1.0 / shifted, jnp.zeros_like(shifted))
        basis = jnp.swapaxes(self.vectors, -1, -2)
        # (..., d_target, d_source) @ (..., d_source, d_source)
        return jnp.matmul(
            self.turned * inverse[..., None, :], basis, precision=_HIGHEST
        )


@jax.jit
def _held_out_errors(rest, fold, ridges):
    """Summed squared error on `fold` of the maps fitted on `rest`, one per ridge."""
    spectrum = _Spectrum.of(rest)

    def error(ridge):
        matrix = spectrum.matrix(ridge)
        spread = map_residual(fold, matrix, jnp.ones_like(fold.count), isometry=False)
        offset = fold.source_mean - rest.source_mean
        missed = jnp.matmul(matrix, offset, precision=_HIGHEST)
        missed = missed + rest.target_mean - fold.target_mean
        return spread + fold.count * jnp.sum(jnp.square(missed))

    return jax.lax.map(error, ridges)


def _check_grams(call, moments):
    """Refuse what is no `Moments`, and moments without Gram matrices."""
    if not isinstance(moments, Moments):
        raise ValueError(
            f"`{call}(...)`: expected Moments, got {type(moments).__name__}; make them "
            "by `init_moments(..., grams=True)` and `update_moments`."
        )
    if moments.source_gram is None:
        raise ValueError(
            f"`{call}(...)`: expected moments with Gram matrices, got none; make them "
            "by `init_moments(d_source, d_target, grams=True)`."
        )
