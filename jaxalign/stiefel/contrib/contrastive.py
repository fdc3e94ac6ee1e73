# SPDX-License-Identifier: Apache-2.0
"""Contrastive loss of aligned rows against target rows: what retrieval asks for.

The softmax over candidates is what zero-shot classification and retrieval read, so the
rows that come near without belonging count, and not the distance to the partner alone.
Reference: van den Oord, Li, Vinyals, "Representation Learning with Contrastive
Predictive Coding", 2018, arXiv 1807.03748 (InfoNCE).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError, check_count
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass, static_field
from jaxalign.stiefel.objectives.points import as_point, over_problems
from jaxalign.stiefel.objectives.rows import (
    Centring,
    PreparedRows,
    aligned_rows,
    check_per_row,
    prepare_rows,
    unit_rows,
)

# In place of minus infinity, whose derivative is NaN where nothing else is left.
_NEVER = -1e30


@pytree_dataclass
class ContrastiveObjective:
    """InfoNCE of aligned source rows against target rows; make it by its factory.

    Attributes:
      rows: prepared; source rows padded to whole blocks.
      temperature: what cosines are divided by, a scalar or ``(*g)``.
      labels: of the source rows, ``(*g, n)``, or None: row i belongs to row i.
      target_labels: of the target rows, ``(*g, m)``, or None.
      block_size: static; source rows scored at a time, 0 for all at once.
      symmetric: static; whether target rows look for source rows too.
    """

    rows: PreparedRows
    temperature: Float[Array, "*g"]
    labels: Int[Array, "*g n"] | None
    target_labels: Int[Array, "*g m"] | None
    block_size: int = static_field()
    symmetric: bool = static_field()

    def __call__(
        self, point: Float[ArrayLike, "*batch d_target d_source"]
    ) -> Float[Array, "..."]:
        """Value at each point, shape: the leading axes of point and data, broadcast."""
        rows = self.rows
        point = as_point("contrastive_objective", point, rows.point_like())
        one = functools.partial(
            _one, block_size=self.block_size, symmetric=self.symmetric
        )
        arrays = [point, rows.source, rows.target, rows.added, rows.share, rows.kept]
        arrays += [rows.target_share, rows.target_kept, self.temperature]
        signature = "(t,s),(n,s),(m,t),(t),(n),(n),(m),(m),()"
        if self.labels is not None:
            arrays += [self.labels, self.target_labels]
            signature += ",(n),(m)"
        return over_problems(one, signature, *arrays)


def contrastive_objective(
    source: Float[ArrayLike, "*g n d_source"],
    target: Float[ArrayLike, "*g m d_target"],
    *,
    temperature: float | Float[ArrayLike, "..."] = 0.05,
    weights: Shaped[ArrayLike, "... n"] | None = None,
    target_weights: Shaped[ArrayLike, "... m"] | None = None,
    labels: Int[ArrayLike, "... n"] | None = None,
    target_labels: Int[ArrayLike, "... m"] | None = None,
    symmetric: bool = True,
    source_mean: Float[ArrayLike, "... d_source"] | None = None,
    target_mean: Float[ArrayLike, "... d_target"] | None = None,
    scale: float | Float[ArrayLike, "..."] = 1.0,
    centring: Centring = "map",
    block_size: int = 1024,
) -> ContrastiveObjective:
    r"""Make the contrastive objective of aligned source rows against target rows.

    With :math:`c_{ij} = \cos(s Q (x_i - \bar x) + a, z_j)` (rows, ``scale`` and
    ``centring`` as in `cosine_objective`), ``temperature`` :math:`\tau` and the
    positives :math:`P(i)` of source row i,

    .. math::

        f(Q) = -\sum_i \frac{w_i}{\sum w} \log
               \frac{\sum_{j \in P(i)} e^{c_{ij} / \tau}}{\sum_j e^{c_{ij} / \tau}},

    and if ``symmetric`` the mean of this and of the same with the sides exchanged.

    Args:
      source: ``(..., n, d_source)``, of any norm; leading axes are problems.
      target: ``(..., m, d_target)``: images, captions, or one text a class.
      temperature: above 0; a number, or one a problem. Data, not static.
      weights: ``(n,)`` or ``(..., n)``, not negative, of the rows in the mean. 0 is
        padding, which may hold anything, NaN too. Default: all 1.
      target_weights: ``(m,)`` or ``(..., m)``: 0 is padding, never a candidate; else
        the weight of the exchanged direction. Default: `weights` where there are no
        labels, else all 1.
      labels: ``(n,)`` or ``(..., n)``; source row i belongs to every target row of its
        label. None: to target row i, and ``m`` is ``n``.
      target_labels: ``(m,)``; with `labels` or not at all: those of the rows again for
        classes of paired rows, ``jnp.arange(m)`` for one text a class.
      symmetric: static.
      source_mean: see `cosine_objective`.
      target_mean: what the map adds, so of the TARGET MODALITY OF THE SOURCE ROWS:
        where images look for texts, pass the mean of the target images. Default: the
        weighted mean of `target`, right where both are of one modality, or for
        ``centring="both"``.
      scale: see `cosine_objective`.
      centring: static.
      block_size: static; source rows scored at a time.

    Returns:
      The objective, at least 0, and about ``log(m)`` for a map that knows nothing.

    Raises:
      ArgumentError: if shapes do not fit, an option is unknown, or a temperature that
        can be seen is not above 0.

    Notes:
      O(n d_source d_target + n m d_target) an evaluation; the gradient costs as much
      again, and once more where rows go by blocks, which are then scored anew. Memory
      O(block_size * m) with and without the gradient, one copy of the rows apart. A
      row of which no positive is there does not count. No closed form: start from the
      one of `procrustes_objective`. Blocks are cut from consecutive rows: for rows
      split over devices pass a `block_size` of at least n.

    References:
      van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive
      Coding", 2018, arXiv 1807.03748.

    >>> rows = jnp.eye(2)
    >>> zero = jnp.zeros(2)
    >>> objective = contrastive_objective(
    ...     rows, rows, temperature=1.0, source_mean=zero, target_mean=zero
    ... )
    >>> value = jax.jit(lambda point: objective(point))(jnp.eye(2))
    >>> bool(jnp.isclose(value, jnp.log(1.0 + jnp.exp(-1.0))))
    True
    """
    call = "contrastive_objective"
    _check_options(temperature, labels, target_labels, block_size)
    rows = prepare_rows(
        call,
        source,
        target,
        weights=weights,
        target_weights=target_weights,
        paired=labels is None,
        source_mean=source_mean,
        target_mean=target_mean,
        scale=scale,
        centring=centring,
        unit=True,
    )
    check_per_row(call, "labels", labels, source.shape[:-1])
    check_per_row(call, "target_labels", target_labels, target.shape[:-1])
    own = None if labels is None else jnp.asarray(labels)
    others = None if target_labels is None else jnp.asarray(target_labels)
    blocked = source.shape[-2] > block_size
    if blocked:
        rows, own = _whole_blocks(rows, own, block_size)
    return ContrastiveObjective(
        rows=rows,
        temperature=jnp.asarray(temperature, rows.source.dtype),
        labels=own,
        target_labels=others,
        block_size=block_size if blocked else 0,
        symmetric=symmetric,
    )


def _one(
    point,
    source,
    target,
    added,
    share,
    kept,
    target_share,
    target_kept,
    temperature,
    labels=None,
    target_labels=None,
    *,
    block_size,
    symmetric,
):
    """Value of one problem."""
    m = target.shape[0]
    by_index = labels is None

    def score(rows, rows_kept, own):
        """Log-sums of a block: by row over all and positives, and so by column."""
        aligned = unit_rows(aligned_rows(point, rows, added))
        # (b, d_target) @ (d_target, m)
        logits = product(aligned, target.T) / temperature
        seen = rows_kept[:, None] & target_kept[None, :]
        tables = [jnp.where(seen, logits, _NEVER)]
        if target_labels is not None:
            same = own[:, None] == target_labels[None, :]
            tables.append(jnp.where(seen & same, logits, _NEVER))
        by_row = [jax.nn.logsumexp(table, axis=1) for table in tables]
        if by_index:
            # The only positive is the partner: no table of them.
            pair = jnp.sum(aligned * own, axis=-1) / temperature
            by_row.append(jnp.where(rows_kept, pair, _NEVER))
        columns = tables if symmetric else []
        return by_row, [jax.nn.logsumexp(table, axis=0) for table in columns]

    # Partners, padded to whole blocks as the source rows are.
    partners = jnp.pad(target, ((0, source.shape[0] - m), (0, 0))) if by_index else None
    own = partners if by_index else labels
    if not block_size:
        by_row, by_column = score(source, kept, own)
    else:

        def step(sums, block):
            by_row, by_column = score(*block)
            return jax.tree.map(jnp.logaddexp, sums, by_column), by_row

        tables = (1 if by_index else 2) if symmetric else 0
        sums = [jnp.full((m,), _NEVER, source.dtype)] * tables
        blocks = jax.tree.map(
            lambda side: side.reshape(-1, block_size, *side.shape[1:]),
            (source, kept, own),
        )
        # A block's scores are made anew for the gradient, not kept.
        step = jax.checkpoint(step, prevent_cse=False)
        by_column, by_row = jax.lax.scan(step, sums, blocks)
        by_row = [one.reshape(-1) for one in by_row]
    value = _mean_loss(by_row[0], by_row[1], share)
    if not symmetric:
        return value
    positive = by_row[1][:m] if by_index else by_column[1]
    return 0.5 * (value + _mean_loss(by_column[0], positive, target_share))


def _mean_loss(everything, positive, share):
    """Weighted mean over the rows that have a positive."""
    # NaN compares false, and a row that is not finite is to be seen.
    has = ~(positive <= 0.5 * _NEVER) & (share > 0)
    share = jnp.where(has, share, jnp.zeros_like(share))
    loss = jnp.where(has, everything - positive, jnp.zeros_like(share))
    total = jnp.sum(share)
    return jnp.sum(share * loss) / jnp.where(total > 0, total, jnp.ones_like(total))


def _whole_blocks(rows, labels, block_size):
    """Pad the source side to a multiple of the block by rows that do not count."""
    short = -rows.source.shape[-2] % block_size

    def pad(side, axis):
        width = [(0, 0)] * side.ndim
        width[axis] = (0, short)
        return jnp.pad(side, width)

    padded = dataclasses.replace(
        rows,
        source=pad(rows.source, -2),
        share=pad(rows.share, -1),
        kept=pad(rows.kept, -1),
    )
    return padded, None if labels is None else pad(labels, -1)


def _check_options(temperature, labels, target_labels, block_size):
    """Raise for a temperature not above 0, or labels of one side alone."""
    seen = isinstance(temperature, float | int | np.ndarray | np.generic)
    if seen and not np.all(np.asarray(temperature) > 0):
        raise ArgumentError(
            f"contrastive_objective(temperature={temperature})",
            "a number above 0, that cosines are divided by",
            remedy="CLIP ends at 0.01",
        )
    if (labels is None) != (target_labels is None):
        raise ArgumentError(
            "contrastive_objective(labels, target_labels)",
            "both or neither",
            "one of them",
            "for one text a class pass target_labels=jnp.arange(classes), for "
            "paired rows of classes target_labels=labels",
        )
    check_count("contrastive_objective", "block_size", block_size)
