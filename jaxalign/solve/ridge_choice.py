# SPDX-License-Identifier: Apache-2.0
"""How much ridge: by held-out groups or generalised cross-validation, from moments.

No second pass over rows: a group's squared error under any map follows from its
moments. With the rows at hand, `leave_one_out` leaves out each by itself.

References: Stone, "Cross-validatory choice and assessment of statistical predictions",
1974; Golub, Heath, Wahba, "Generalized cross-validation as a method for choosing a good
ridge parameter", 1979.
"""

import functools
import typing
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.errors import ArgumentError, check_option
from jaxalign.moments import Moments, merge_moments, reduce_groups, subtract_moments
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass
from jaxalign.solve.gram_spectrum import GramSpectrum, check_grams
from jaxalign.solve.scale import map_residual

RidgeRule = Literal["groups", "gcv"]
RIDGE_RULES: tuple[str, ...] = typing.get_args(RidgeRule)

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


@pytree_dataclass
class RidgeChoice:
    """The ridge that predicts held-out anchors best.

    Attributes:
      ridge: the chosen strength, a scalar.
      ridges: the strengths tried, ``(r,)``.
      errors: mean squared error per held-out anchor, ``(r,)``; by ``"gcv"`` an estimate
        of it.
    """

    ridge: Float[Array, ""]
    ridges: Float[Array, " r"]
    errors: Float[Array, " r"]


def choose_ridge(
    folds: Sequence[Moments] | Moments,
    ridges: Sequence[float] = DEFAULT_RIDGES,
    *,
    by: RidgeRule = "groups",
) -> RidgeChoice:
    r"""Choose the ridge by held-out groups of the anchors, or without leaving any out.

    By ``"groups"`` each is predicted by the map, and about the means, of the others.
    Its squared error needs no second pass over rows: with the group's :math:`n`,
    :math:`C`, :math:`G_x` and target energy :math:`E_y`, and the error :math:`e` at its
    mean, it is :math:`E_y - 2 \langle M, C \rangle + \mathrm{tr}(M G_x M^\top) +
    n |e|^2`. By ``"gcv"`` the error on the anchors themselves, :math:`R`, is corrected
    for the freedom :math:`f = 1 + \sum_j \lambda_j / (\lambda_j + \lambda)` that the
    fit had: :math:`(R / n) / (1 - f / n)^2`.

    Args:
      folds: moments of disjoint sets of anchors, at least two, with Grams: a list, or
        one Moments with leading axes of groups. Rows that show the same thing belong in
        one group, or the choice comes out too weak. By ``"gcv"``: one Moments without
        groups.
      ridges: strengths to try, each at least 0, relative as in `solve_linear`.
      by: static.

    Returns:
      The choice; of equal errors, the first.

    Raises:
      ValueError: with fewer than two folds, no ridge, a negative ridge, an unknown
        rule, or no Grams.

    Notes:
      One eigendecomposition a group, shared by all ridges: O(groups * d^3), a group
      after the other, so that memory does not grow with their number. Grouped moments
      are subtracted from their total, a list is merged: where one group is nearly all
      of the rows, the list is the more accurate. GCV is blind to rows that repeat, as
      leaving out single rows is.

    References:
      Golub, Heath, Wahba, "Generalized cross-validation", Technometrics, 1979.

    >>> from jaxalign.moments import init_moments, update_moments
    >>> rows = jnp.array([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0], [3.0, 1.0]])
    >>> empty = init_moments(2, 2, grams=True)
    >>> float(choose_ridge(update_moments(empty, rows, rows), by="gcv").ridge) < 1e-2
    True
    """
    _check(folds, ridges, by)
    if isinstance(folds, Moments):
        strengths = jnp.asarray(ridges, folds.count.dtype)
        rule = _gcv_errors if by == "gcv" else _grouped_errors
        errors = rule(folds, strengths)
    else:
        strengths = jnp.asarray(ridges, folds[0].count.dtype)
        errors = _listed_errors(folds, strengths)
    return RidgeChoice(
        ridge=strengths[jnp.argmin(errors)], ridges=strengths, errors=errors
    )


def _listed_errors(folds, ridges):
    """Error of each fold under the map of the others, which are merged."""
    errors, count = jnp.zeros_like(ridges), jnp.zeros_like(folds[0].count)
    for index, fold in enumerate(folds):
        others = [*folds[:index], *folds[index + 1 :]]
        rest = functools.reduce(merge_moments, others)
        errors = errors + _held_out_errors(rest, fold, ridges)
        count = count + fold.count
    return errors / count


@jax.jit
def _grouped_errors(moments, ridges):
    """Error of each group under the map of the others, by subtraction."""
    flat = jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[moments.count.ndim :]), moments
    )
    whole = reduce_groups(flat)

    def held_out(group):
        return _held_out_errors(subtract_moments(whole, group), group, ridges)

    def add(errors, group):
        # An empty group has no error, may leave nothing to fit, and costs nothing.
        empty = (group.rows == 0) | (group.count == 0)
        found = jax.lax.cond(empty, lambda _: jnp.zeros_like(ridges), held_out, group)
        return errors + found, None

    errors, _ = jax.lax.scan(add, jnp.zeros_like(ridges), flat)
    return errors / whole.count


@jax.jit
def _gcv_errors(moments, ridges):
    """Error on the anchors, corrected for the degrees of freedom of the fit."""
    spectrum = GramSpectrum.of(moments)
    # Squared length of the target's image along each eigenvector, (d_source,)
    along = jnp.sum(jnp.square(spectrum.turned), axis=-2)

    def error(ridge):
        inverse = spectrum.inverse(ridge)
        explained = jnp.sum(along * inverse * (2.0 - spectrum.values * inverse))
        left = jnp.maximum(moments.target_energy - explained, 0.0)
        freedom = 1.0 + jnp.sum(spectrum.values * inverse)
        share = 1.0 - freedom / moments.rows.astype(freedom.dtype)
        found = left / moments.count / jnp.square(share)
        # A fit with as much freedom as anchors says nothing of others.
        rounding = float(jnp.finfo(found.dtype).eps) ** 0.5
        return jnp.where(share > rounding, found, jnp.full_like(found, jnp.inf))

    return jax.lax.map(error, ridges)


@jax.jit
def _held_out_errors(rest, fold, ridges):
    """Summed squared error on `fold` of the maps fitted on `rest`, one per ridge."""
    spectrum = GramSpectrum.of(rest)

    def error(ridge):
        matrix = spectrum.matrix(ridge)
        spread = map_residual(fold, matrix, jnp.ones_like(fold.count), isometry=False)
        offset = fold.source_mean - rest.source_mean
        missed = product(matrix, offset)
        missed = missed + rest.target_mean - fold.target_mean
        return spread + fold.count * jnp.sum(jnp.square(missed))

    return jax.lax.map(error, ridges)


def _check(folds, ridges, by):
    """Validate folds, strengths and the rule."""
    check_option(
        "choose_ridge",
        "by",
        by,
        RIDGE_RULES,
        remedy="'groups' suits rows of which several show one thing",
    )
    one = isinstance(folds, Moments)
    grouped = one and bool(folds.count.ndim)
    if by == "gcv" and (not one or grouped):
        raise ArgumentError(
            "choose_ridge(by='gcv')",
            "one Moments without groups",
            "groups" if grouped else type(folds).__name__,
            "merge them first, as by `reduce_groups`",
        )
    number = len(folds) if not one else folds.count.size if grouped else 1
    if by == "groups" and number < 2:
        raise ArgumentError(
            "choose_ridge(folds=...)",
            "at least 2 folds",
            number,
            "split the anchors, and make one Moments of each part, or pass by='gcv'",
        )
    if not len(ridges) or not all(ridge >= 0 for ridge in ridges):
        raise ArgumentError(
            f"choose_ridge(ridges={tuple(ridges)})",
            "one number or more, each at least 0",
            remedy="leave it out for the default grid",
        )
    for fold in [folds] if one else folds:
        check_grams("choose_ridge", fold)
