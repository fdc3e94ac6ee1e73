# SPDX-License-Identifier: Apache-2.0
"""A residual multilayer perceptron fitted on paired rows: the flexible baseline.

It starts as the Procrustes map and may learn anything beyond it. It needs rows, not
moments, and has no inverse.
"""

import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Bool, Float, Int

from jaxalign.array_types import Array, ArrayLike
from jaxalign.errors import ArgumentError, check_count
from jaxalign.float_rows import float_rows, paired_rows
from jaxalign.moments import init_moments, update_moments
from jaxalign.moments.weights import row_weights
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass
from jaxalign.solve.procrustes import solve_procrustes
from jaxalign.status import Checked, Status


@pytree_dataclass
class MlpSolution(Checked):
    """A fitted residual perceptron; call it on rows.

    Attributes:
      parameters: ``skip (d_target, d_source)``, ``inner (hidden, d_source)``,
        ``inner_bias (hidden,)``, ``outer (d_target, hidden)``.
      source_mean: of the anchors, ``(d_source,)``.
      target_mean: of the anchors, ``(d_target,)``.
      source_scale: root mean squared norm of the centred source anchors.
      target_scale: the same for the target.
      held_out_errors: relative squared error on the held-out anchors at each look,
        ``(looks,)``; 1 is as good as the mean.
      best_step: the step whose parameters were kept, int32; 0 is the Procrustes map.
      status: a `Status` code.
    """

    made_by: ClassVar[str] = "fit_mlp"

    parameters: dict[str, Float[Array, "..."]]
    source_mean: Float[Array, " d_source"]
    target_mean: Float[Array, " d_target"]
    source_scale: Float[Array, ""]
    target_scale: Float[Array, ""]
    held_out_errors: Float[Array, " looks"]
    best_step: Int[Array, ""]
    status: Int[Array, ""]

    def __call__(
        self,
        rows: Float[ArrayLike, "n d_source"],
        *,
        source_mean: Float[ArrayLike, " d_source"] | None = None,
        target_mean: Float[ArrayLike, " d_target"] | None = None,
    ) -> Float[Array, "n d_target"]:
        """Carry rows over; give both means of another modality to carry that one.

        Args:
          rows: shape ``(n, d_source)``.
          source_mean: subtracted first; default that of the anchors.
          target_mean: added last; default that of the anchors.

        Returns:
          Rows of the target space, shape ``(n, d_target)``, not normalised.

        Raises:
          ValueError: if the rows have another width, or are not real floating numbers.
        """
        width = self.source_mean.shape[0]
        rows = float_rows("MlpSolution", "rows", rows, width=width)
        dtype = self.source_mean.dtype
        before = self.source_mean if source_mean is None else source_mean
        after = self.target_mean if target_mean is None else target_mean
        centred = jnp.asarray(rows, dtype) - jnp.asarray(before, dtype)[None, :]
        moved = _forward(self.parameters, centred / self.source_scale)
        return self.target_scale * moved + jnp.asarray(after, dtype)[None, :]

    def unscaled(self) -> dict[str, Float[Array, "..."]]:
        """Fold the two scales in: weights that work on rows about their mean alone.

        Returns:
          ``skip``, ``inner``, ``inner_bias`` and ``outer``, as `residual_layer` and an
          `AlignmentMap` take them.
        """
        parts, grow = self.parameters, self.target_scale
        return {
            "skip": parts["skip"] * (grow / self.source_scale),
            "inner": parts["inner"] / self.source_scale,
            "inner_bias": parts["inner_bias"],
            "outer": parts["outer"] * grow,
        }


def fit_mlp(
    source: Float[ArrayLike, "n d_source"],
    target: Float[ArrayLike, "n d_target"],
    *,
    seed: int = 0,
    hidden: int = 256,
    steps: int = 1000,
    batch_size: int = 256,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-2,
    evaluate_every: int = 50,
    held_out: Bool[ArrayLike, " n"] | None = None,
    weights: Float[ArrayLike, " n"] | None = None,
) -> MlpSolution:
    r"""Fit a residual perceptron on paired rows by AdamW.

    On centred rows, each side divided by its root mean squared norm, the map is
    :math:`W x + V \mathrm{gelu}(U x + b)` with ``skip`` :math:`W` started at the
    Procrustes rotation and ``outer`` :math:`V` at 0. Some anchors are held out; the
    parameters with the smallest error there are kept.

    Args:
      source: anchors, shape ``(n, d_source)``.
      target: anchors, shape ``(n, d_target)``, row i of the same thing.
      seed: of the split, the initial values and the batches.
      hidden: static; width of the hidden layer.
      steps: static; steps of AdamW, rounded up to a multiple of `evaluate_every`.
      batch_size: static; rows a step, drawn with replacement.
      learning_rate: peak of a cosine schedule with a short warm-up.
      weight_decay: decoupled, on all parameters.
      evaluate_every: static; steps between two looks at the held-out anchors.
      held_out: mask of shape ``(n,)``, true for anchors kept for the selection;
        default a random tenth. Where several rows show one thing, hold out whole
        things.
      weights: of the anchors, ``(n,)``, not negative: in the means, the scales and the
        start, in how often a row is drawn, and in the selection. Default: all alike.

    Returns:
      The solution; same inputs and seed, same bits.

    Raises:
      ValueError: if the rows do not pair, there are fewer than ten, none is left
        to train or to select on, or the weights are not valid.

    Notes:
      One jitted scan, compiled once per shape. Cost O(steps * batch * d * hidden).

    References:
      Loshchilov and Hutter, "Decoupled weight decay regularization", arXiv 1711.05101.
    """
    source, target = paired_rows("fit_mlp", source, target)
    if source.shape[0] < 10:
        raise ArgumentError(
            "fit_mlp(source, target)",
            "at least 10 rows",
            source.shape[0],
            "pass more anchors, a tenth of which is held out",
        )
    for name, value in (
        ("hidden", hidden),
        ("steps", steps),
        ("batch_size", batch_size),
        ("evaluate_every", evaluate_every),
    ):
        check_count("fit_mlp", name, value)
    n = source.shape[0]
    if held_out is None:
        chosen = np.random.default_rng(seed).permutation(n) < max(1, n // 10)
    else:
        chosen = np.asarray(held_out)
    if chosen.shape != (n,) or chosen.all() or not chosen.any():
        raise ArgumentError(
            "fit_mlp(held_out=...)",
            f"a mask of shape ({n},) that holds out some rows, not all",
            f"shape {chosen.shape} with {int(chosen.sum())}",
            "leave it out for a random tenth",
        )
    if weights is not None:
        weights = row_weights("fit_mlp", weights, n)
        _check_weights(weights, chosen)
    return _train(
        jnp.asarray(source),
        jnp.asarray(target),
        None if weights is None else jnp.asarray(weights),
        jnp.asarray(np.flatnonzero(~chosen)),
        jnp.asarray(np.flatnonzero(chosen)),
        jax.random.key(seed),
        learning_rate,
        weight_decay,
        hidden=hidden,
        looks=math.ceil(steps / evaluate_every),
        evaluate_every=evaluate_every,
        batch_size=batch_size,
    )


def residual_layer(
    parameters: dict[str, Float[Array, "..."]], rows: Float[Array, "n d_source"]
) -> Float[Array, "n d_target"]:
    """Give what the perceptron adds to a linear map: ``outer @ gelu(inner x + bias)``.

    Args:
      parameters: at least ``inner``, ``inner_bias`` and ``outer``.
      rows: ``(n, d_source)``, centred.
    """
    # (n, d_source) @ (d_source, hidden)
    inner = product(rows, parameters["inner"].T) + parameters["inner_bias"][None, :]
    # (n, hidden) @ (hidden, d_target)
    return product(jax.nn.gelu(inner), parameters["outer"].T)


def _forward(parameters, rows):
    """Apply the residual perceptron to centred, scaled rows (n, d_source)."""
    skip = product(rows, parameters["skip"].T)
    return skip + residual_layer(parameters, rows)


def _check_weights(weights, held_out) -> None:
    """Raise if the weights leave nothing to train or to select on."""
    found = np.asarray(weights)
    whole = np.all(np.isfinite(found) & (found >= 0))
    if not whole or not found[held_out].any() or not found[~held_out].any():
        raise ArgumentError(
            "fit_mlp(weights=...)",
            f"shape {held_out.shape}, finite, not negative, some positive among the "
            "held-out anchors and among the others",
            f"shape {found.shape}",
            "leave it out for equal weights",
        )


@functools.partial(
    jax.jit, static_argnames=("hidden", "looks", "evaluate_every", "batch_size")
)
def _train(
    source,
    target,
    weights,
    training,
    held_out,
    key,
    learning_rate,
    weight_decay,
    *,
    hidden,
    looks,
    evaluate_every,
    batch_size,
):
    """Train from the Procrustes map and keep the best look at the held-out rows."""
    d_source, d_target = source.shape[1], target.shape[1]
    empty = init_moments(d_source, d_target)
    moments = update_moments(empty, source, target, weights=weights)
    # A start that had seen the held-out rows would win the selection unfairly.
    seen = update_moments(
        empty,
        source[training],
        target[training],
        weights=None if weights is None else weights[training],
    )
    rotation = solve_procrustes(seen).rotation
    dtype = rotation.dtype
    source_scale = jnp.sqrt(moments.source_energy / moments.count)
    target_scale = jnp.sqrt(moments.target_energy / moments.count)
    x = (source.astype(dtype) - moments.source_mean[None, :]) / source_scale
    y = (target.astype(dtype) - moments.target_mean[None, :]) / target_scale
    inner_key, batch_key = jax.random.split(key)
    inner = jax.random.normal(inner_key, (hidden, d_source), dtype)
    parameters = {
        "skip": rotation,
        "inner": inner,
        "inner_bias": jnp.zeros((hidden,), dtype),
        "outer": jnp.zeros((d_target, hidden), dtype),
    }
    total = looks * evaluate_every
    shape = optax.warmup_cosine_decay_schedule(
        0.0, 1.0, max(1, total // 20), max(2, total)
    )
    optimizer = optax.adamw(
        lambda count: learning_rate * shape(count), weight_decay=weight_decay
    )

    def loss(parameters, rows, of_rows=None):
        error = _forward(parameters, x[rows]) - y[rows]
        return jnp.average(jnp.sum(jnp.square(error), axis=-1), weights=of_rows)

    def draw(step_key):
        if weights is None:
            return jax.random.randint(step_key, (batch_size,), 0, training.shape[0])
        # A row is drawn as often as its weight says; one of weight 0 never.
        upto = jnp.cumsum(weights[training].astype(dtype))
        at = upto[-1] * jax.random.uniform(step_key, (batch_size,), dtype)
        places = jnp.searchsorted(upto, at, side="right")
        return jnp.minimum(places, training.shape[0] - 1)

    held_weights = None if weights is None else weights[held_out]

    def step(carry, step_key):
        parameters, state = carry
        rows = training[draw(step_key)]
        grads = jax.grad(loss)(parameters, rows)
        updates, state = optimizer.update(grads, state, parameters)
        return (optax.apply_updates(parameters, updates), state), None

    def look(carry, scanned):
        current, best, best_error, best_step = carry
        index, look_key = scanned
        current, _ = jax.lax.scan(
            step, current, jax.random.split(look_key, evaluate_every)
        )
        error = loss(current[0], held_out, held_weights)
        better = error < best_error
        best = jax.tree.map(
            lambda new, old: jnp.where(better, new, old), current[0], best
        )
        best_step = jnp.where(better, (index + 1) * evaluate_every, best_step)
        best_error = jnp.where(better, error, best_error)
        return (current, best, best_error, best_step), error

    start = loss(parameters, held_out, held_weights)
    carry = (
        (parameters, optimizer.init(parameters)),
        parameters,
        start,
        jnp.int32(0),
    )
    scanned = (jnp.arange(looks, dtype=jnp.int32), jax.random.split(batch_key, looks))
    (_, best, _, best_step), errors = jax.lax.scan(look, carry, scanned)
    finite = jnp.isfinite(start)
    return MlpSolution(
        parameters=best,
        source_mean=moments.source_mean,
        target_mean=moments.target_mean,
        source_scale=source_scale,
        target_scale=target_scale,
        held_out_errors=jnp.concatenate([start[None], errors]),
        best_step=best_step,
        status=jnp.where(
            finite, jnp.int32(Status.OK), jnp.int32(Status.NON_FINITE)
        ).astype(jnp.int32),
    )
