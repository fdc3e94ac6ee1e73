# SPDX-License-Identifier: Apache-2.0
"""Synthetic pairs with a planted map: the ground truth of tests and first trials.

Two "models" see the same things; the target's rows are the source's, rotated, scaled
and moved. Each modality sits in a cone of its own, and noise is added on the target
side.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array, Modality
from jaxalign.errors import ArgumentError, check_number
from jaxalign.precise import product
from jaxalign.pytrees import pytree_dataclass
from jaxalign.random_points import draw_orthonormal


@pytree_dataclass
class PlantedPairs:
    """Paired rows of two models, and the map that was planted.

    Attributes:
      pairs: by modality, ``(source (n, d_source), target (n, d_target))``.
      rotation: Q, shape ``(d_target, d_source)``.
      scale: of the planted map, a scalar.
      source_means: of the cones, by modality, ``(d_source,)``; sample means differ.
      target_means: the same for the target, ``(d_target,)``.
    """

    pairs: dict[Modality, tuple[Float[Array, "n s"], Float[Array, "n t"]]]
    rotation: Float[Array, "d_target d_source"]
    scale: Float[Array, ""]
    source_means: dict[Modality, Float[Array, " d_source"]]
    target_means: dict[Modality, Float[Array, " d_target"]]


def planted_pairs(
    key: jax.Array,
    n: int,
    d_source: int,
    d_target: int | None = None,
    *,
    noise: float = 0.0,
    decay: float = 0.0,
    scale: float = 1.0,
    mean_norms: tuple[float, float] = (0.5, 0.5),
    gap: float = 0.5,
    agreement: float = 0.5,
    reflect: bool = False,
    modalities: tuple[Modality, ...] = ("image", "text"),
) -> PlantedPairs:
    r"""Draw paired rows related by one planted map.

    With latent rows :math:`z_i`, source rows are :math:`x_i = \bar x_m + z_i` and
    target rows :math:`y_i = \bar y_m + s Q z_i + \sigma \epsilon_i`, for each
    modality :math:`m`, with one ``rotation`` :math:`Q` and ``scale`` :math:`s`.

    Args:
      key: of all draws.
      n: rows per modality, at least 1.
      d_source: width of the source rows.
      d_target: width of the target rows; default `d_source`.
      noise: :math:`\sigma` relative to the spread of the rotated rows; each noise row
        has expected squared norm ``noise**2`` times theirs.
      decay: standard deviation of latent direction k is ``(k + 1) ** -decay``; 0 is a
        flat spectrum. The directions are turned at random.
      scale: :math:`s`, positive.
      mean_norms: norms of the source and target means; latent rows have expected
        squared norm ``1 - mean_norm**2`` of the source, so rows have about norm one.
      gap: share of each mean, 0 to 1, that is the modality's own direction.
      agreement: correlation of the latent rows of different modalities, 0 to 1: row i
        of each describes one thing.
      reflect: equal widths only: determinant -1 instead of +1.
      modalities: any names.

    Returns:
      The rows, not normalised (normalising would make the planted map inexact).

    Raises:
      ValueError: if `reflect` comes with unequal widths, or a number is out of range.

    >>> planted = planted_pairs(jax.random.key(0), 10, 4, 6)
    >>> planted.rotation.shape, planted.pairs["text"][1].shape
    ((6, 4), (10, 6))
    """
    d_target = d_source if d_target is None else d_target
    if reflect and d_source != d_target:
        got = f"{d_source} and {d_target}"
        remedy = "a rectangular rotation has no determinant"
        raise ArgumentError("planted_pairs(reflect=True)", "equal widths", got, remedy)
    for name, value in (
        ("mean_norms[0]", mean_norms[0]),
        ("mean_norms[1]", mean_norms[1]),
        ("gap", gap),
        ("agreement", agreement),
    ):
        check_number("planted_pairs", name, value, least=0.0, most=1.0)
    numbers = {
        "noise": noise,
        "decay": decay,
        "scale": scale,
        "mean_norms": mean_norms,
        "gap": gap,
        "agreement": agreement,
    }
    return _draw(key, numbers, n, d_source, d_target, reflect, modalities)


@functools.partial(
    jax.jit, static_argnames=("n", "d_source", "d_target", "reflect", "modalities")
)
def _draw(key, numbers, n, d_source, d_target, reflect, modalities):
    """Draw the rows of `planted_pairs`, in one compilation."""
    noise, decay, scale = numbers["noise"], numbers["decay"], numbers["scale"]
    mean_norms, gap = numbers["mean_norms"], numbers["gap"]
    agreement = numbers["agreement"]
    keys = jax.random.split(key, 6)
    rotation = random_rotation(keys[0], d_target, d_source, reflect=reflect)
    dtype, count = rotation.dtype, len(modalities)
    turn = random_rotation(keys[1], d_source, d_source)
    deviations = jnp.arange(1, d_source + 1, dtype=dtype) ** -decay
    spread = jnp.sqrt(1.0 - mean_norms[0] ** 2)
    deviations = deviations * spread / jnp.linalg.norm(deviations)
    # The rows' own axes, each as long as its deviation: (d_source, d_source).
    axes = deviations[:, None] * turn
    source_means = _cones(keys[2], count, d_source, mean_norms[0], gap)
    target_means = _cones(keys[3], count, d_target, mean_norms[1], gap)
    draws = jax.random.normal(keys[4], (count + 1, n, d_source), dtype)
    # The first draw is shared by all modalities, the others are their own.
    latent = jnp.sqrt(agreement) * draws[:1] + jnp.sqrt(1.0 - agreement) * draws[1:]
    # (modalities, n, d_source) @ (d_source, d_source), then @ (d_source, d_target)
    latent = product(latent, axes)
    moved = scale * product(latent, rotation.T)
    # Rows are projected where the target is narrower: the noise goes by what is left.
    left = jnp.linalg.norm(product(axes, rotation.T))
    errors = jax.random.normal(keys[5], moved.shape, dtype)
    moved = moved + noise * scale * left / math.sqrt(d_target) * errors
    source = latent + source_means[:, None, :]
    target = moved + target_means[:, None, :]
    return PlantedPairs(
        pairs={name: (source[k], target[k]) for k, name in enumerate(modalities)},
        rotation=rotation,
        scale=jnp.asarray(scale, dtype),
        source_means={name: source_means[k] for k, name in enumerate(modalities)},
        target_means={name: target_means[k] for k, name in enumerate(modalities)},
    )


def random_rotation(
    key: jax.Array, rows: int, columns: int, *, reflect: bool = False
) -> Float[Array, "rows columns"]:
    """Draw a matrix with orthonormal columns (rows, if fewer), uniformly.

    Args:
      key: of the draw.
      rows: of the matrix.
      columns: of the matrix.
      reflect: of a square matrix, determinant -1 instead of +1; no effect otherwise.

    Returns:
      The matrix, in float32, or float64 when x64 is enabled.
    """
    determinant = None if rows != columns else (-1 if reflect else 1)
    return draw_orthonormal(key, (rows, columns), determinant=determinant)


def _cones(key, count, width, norm, gap):
    """Means of the modalities: a direction common to all, and one of each's own."""
    dtype = jax.dtypes.canonicalize_dtype(float)
    drawn = jax.random.normal(key, (count + 1, width), dtype)
    drawn = drawn / jnp.linalg.norm(drawn, axis=-1, keepdims=True)
    means = (1.0 - gap) * drawn[:1] + gap * drawn[1:]
    return norm * means / jnp.linalg.norm(means, axis=-1, keepdims=True)
