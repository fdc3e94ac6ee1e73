# SPDX-License-Identifier: Apache-2.0
"""One table of objectives, made of rows, and what all tests of them measure."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import jaxalign as ja
from jaxalign.stiefel import contrib, objectives
from tests.cases import orthonormal

# (d_target, d_source): square, wider target, wider source.
SHAPES = ((5, 5), (6, 4), (3, 5))
ROWS = 12
LABELS = np.arange(ROWS) % 4


def moments_of_rows(source, target, weights=None) -> ja.Moments:
    """Moments with Grams; leading axes are groups."""
    if source.ndim == 2:
        empty = ja.moments.init_moments(source.shape[-1], target.shape[-1], grams=True)
        return ja.moments.update_moments(empty, source, target, weights=weights)
    parts = [
        moments_of_rows(source[g], target[g], None if weights is None else weights[g])
        for g in range(len(source))
    ]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


def _reference(d):
    """Second moment of a few fixed reference rows."""
    rows = np.random.default_rng(99).standard_normal((4, d))
    return jnp.asarray(rows.T @ rows / 4)


def _procrustes(source, target, weights=None):
    return objectives.procrustes_objective(moments_of_rows(source, target, weights))


def _least_squares(source, target, weights=None):
    return objectives.least_squares_objective(moments_of_rows(source, target, weights))


def _kernel(source, target, weights=None):
    return contrib.kernel_objective(
        moments_of_rows(source, target, weights), _reference(target.shape[-1])
    )


def _from_rows(make, **options):
    def build(source, target, weights=None):
        return make(source, target, weights=weights, **options)

    return build


def _labelled(source, target, weights=None):
    return contrib.contrastive_objective(
        source,
        target,
        weights=weights,
        target_weights=weights,
        labels=LABELS,
        target_labels=LABELS,
        temperature=0.3,
        centring="both",
    )


def _weighted(source, target, weights=None):
    return objectives.weighted_objective(
        [
            (_procrustes(source, target, weights), 0.5),
            (contrib.cosine_objective(source, target, weights=weights), 2.0),
        ]
    )


_contrastive = functools.partial(
    _from_rows, contrib.contrastive_objective, temperature=0.3, centring="both"
)
_robust = functools.partial(_from_rows, objectives.robust_objective, threshold=0.8)
_cosine = functools.partial(_from_rows, contrib.cosine_objective)
_csls = functools.partial(_from_rows, contrib.csls_objective, neighbours=3)

OBJECTIVES: dict[str, Callable] = {
    "procrustes": _procrustes,
    "least_squares": _least_squares,
    "kernel": _kernel,
    "huber": _robust(loss="huber"),
    "l1": _robust(loss="l1"),
    "cosine-map": _cosine(centring="map"),
    "cosine-query": _cosine(centring="query"),
    "cosine-both": _cosine(centring="both"),
    "contrastive": _contrastive(),
    "contrastive-blocks": _contrastive(block_size=5),
    "contrastive-labels": _labelled,
    "csls": _csls(centring="both", block_size=5),
    "weighted": _weighted,
}


def random_rows(seed, shape, *, n=ROWS, leading=()):
    """Rows of both sides with means, not related."""
    rng = np.random.default_rng(seed)
    d_target, d_source = shape
    source = rng.standard_normal((*leading, n, d_source)) + 0.3
    target = rng.standard_normal((*leading, n, d_target)) - 0.2
    return source, target


def random_weights(seed, n=ROWS):
    return np.random.default_rng(seed).uniform(0.5, 2.0, n)


def problem(seed, shape):
    """Rows of both sides, weights, and their moments."""
    source, target = random_rows(seed, shape, n=30)
    weights = random_weights(seed + 1, 30)
    return source, target, weights, moments_of_rows(source, target, weights)


def centred(rows, weights):
    """Rows about their weighted mean."""
    return rows - weights @ rows / weights.sum()


def random_map(seed, shape):
    return orthonormal(np.random.default_rng(1000 + seed), *shape)


@jax.jit
def value_and_gradient(objective, point):
    return jax.value_and_grad(lambda p: jnp.sum(objective(p)))(point)


def riemannian(point, gradient):
    """Part of a gradient that is tangent at the point, by NumPy."""
    point, gradient = np.asarray(point), np.asarray(gradient)
    if point.shape[0] < point.shape[1]:
        return riemannian(point.T, gradient.T).T
    across = point.T @ gradient
    return gradient - point @ (across + across.T) / 2


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def products(function, *arguments) -> int:
    """Matrix products in the compiled program."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    return text.count(" dot(") + text.count("matmul") + text.count("gemm")
