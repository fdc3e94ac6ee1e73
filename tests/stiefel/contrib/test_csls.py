# SPDX-License-Identifier: Apache-2.0
"""Relaxed CSLS: by loops, with padding, by blocks, and in how much memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.stiefel.contrib import csls_objective
from tests.stiefel.objectives.table import (
    SHAPES,
    random_map,
    random_rows,
    random_weights,
    unit,
    value_and_gradient,
)
from tests.tolerances import OBJECTIVE, eps

F64 = eps(np.float64)

pytestmark = pytest.mark.usefixtures("x64")


def loop(cosines, weights, k):
    """Weighted mean of -2 cos + the means of the k nearest, row by row."""
    kept = np.flatnonzero(weights)
    total = 0.0
    for i in kept:
        to_targets = np.sort(cosines[i, kept])[::-1][:k]
        to_sources = np.sort(cosines[kept, i])[::-1][:k]
        total += weights[i] * (
            -2 * cosines[i, i] + to_targets.mean() + to_sources.mean()
        )
    return total / weights.sum()


# In blocks and at once, for wider and narrower targets.
@pytest.mark.parametrize(
    ("shape", "block_size", "k"),
    [(SHAPES[1], 5, 1), (SHAPES[1], 100, 4), (SHAPES[2], 5, 4)],
)
def test_values_are_those_of_a_loop(shape, block_size, k):
    source, target = random_rows(0, shape)
    weights, point = random_weights(1), random_map(2, shape)
    weights[[3, 11]] = 0.0
    mean = weights @ source / weights.sum(), weights @ target / weights.sum()
    cosines = unit((source - mean[0]) @ point.T + mean[1]) @ unit(target).T
    target[3], source[11] = np.nan, np.inf
    objective = csls_objective(
        source, target, weights=weights, neighbours=k, block_size=block_size
    )
    found, _ = value_and_gradient(objective, jnp.asarray(point))
    expected = loop(cosines, weights, k)
    assert float(found) == pytest.approx(expected, rel=OBJECTIVE * F64)


def test_fewer_rows_than_neighbours_are_all_neighbours():
    source, target = random_rows(3, (5, 5))
    weights = (np.arange(12) < 4).astype(float)
    point = jnp.asarray(random_map(4, (5, 5)))
    all_of_them, four = (
        value_and_gradient(
            csls_objective(source, target, weights=weights, neighbours=k), point
        )
        for k in (10, 4)
    )
    for one, other in zip(all_of_them, four, strict=True):
        np.testing.assert_allclose(one, other, atol=OBJECTIVE * F64)


def test_partners_that_are_nearest_cost_nothing_with_one_neighbour():
    source, target = random_rows(8, (5, 5))
    near = csls_objective(source, source, neighbours=1)
    found, _ = value_and_gradient(near, jnp.eye(5))
    assert float(found) == pytest.approx(0.0, abs=OBJECTIVE * F64)
    far = csls_objective(source, target, neighbours=1)
    assert float(value_and_gradient(far, jnp.eye(5))[0]) > 0.1


@pytest.mark.compiled_text
def test_memory_is_that_of_a_block():
    n, d, block, k = 4096, 8, 128, 10
    with jax.enable_x64(False):
        source, target = (
            rows.astype(np.float32) for rows in random_rows(9, (d, d), n=n)
        )

        def bytes_of(block_size):
            objective = csls_objective(
                source, target, neighbours=k, block_size=block_size
            )
            compiled = value_and_gradient.lower(objective, jnp.eye(d)).compile()
            return compiled.memory_analysis().temp_size_in_bytes

        table = 4 * n * n
        assert bytes_of(n) >= table
        # Scores of a block and their order, its neighbours, and copies of the rows.
        rows = 4 * n * d
        bound = 6 * 4 * block * n + 4 * 4 * block * k * d + 16 * rows
        assert bytes_of(block) <= bound < table


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    rows = np.ones((4, 3))
    for name, options in (
        ("neighbours=", {}),
        ("neighbours=", {"neighbours": 0}),
        ("block_size=", {"neighbours": 2, "block_size": 0}),
    ):
        with pytest.raises(ValueError, match=name):
            csls_objective(rows, rows, **options)
    with pytest.raises(ValueError, match=r"\(source, target\)"):
        csls_objective(rows, rows[:2])
