# SPDX-License-Identifier: Apache-2.0
"""A function of one matrix over batches: any axes, `vmap`, split over devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.solve.over_matrices import over_matrices


def parts(matrix):
    return matrix.T @ matrix, jnp.trace(matrix @ matrix.T)


def expected(batch):
    gram = np.swapaxes(batch, -1, -2) @ batch
    return gram, np.trace(gram, axis1=-2, axis2=-1)


def assert_parts(found, batch):
    for one, other in zip(found, expected(batch), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,), (1,)])
def test_leading_axes(batch):
    rows = np.random.default_rng(0).standard_normal((*batch, 4, 3)).astype(np.float32)
    assert_parts(over_matrices(parts, rows), rows)


def test_vmap_adds_axes():
    rows = np.random.default_rng(1).standard_normal((2, 3, 4, 5)).astype(np.float32)
    one = jax.vmap(lambda m: over_matrices(parts, m))
    assert_parts(one(rows), rows)
    assert_parts(jax.vmap(one)(rows), rows)
    assert_parts(jax.vmap(one, in_axes=1)(rows), np.swapaxes(rows, 0, 1))


@pytest.mark.compiled_text
@pytest.mark.parametrize("spec", [("data",), (None, "data"), (None, None, "data")])
def test_split_over_any_axis_gives_the_same(spec):
    rows = np.random.default_rng(2).standard_normal((8, 8, 8, 3)).astype(np.float32)
    sharding = jax.NamedSharding(ja.sharding.data_mesh(), jax.P(*spec))
    solve = jax.jit(lambda m: over_matrices(parts, m))
    assert_parts(solve(jax.device_put(rows, sharding)), rows)
    # Inside a matrix it must be gathered; over batches it must not.
    text = solve.lower(jax.device_put(rows, sharding)).compile().as_text()
    assert ("all-gather" in text) == (spec[-2:] == (None, "data") and len(spec) == 3)


def test_explicit_meshes_and_shard_map():
    rows = np.random.default_rng(3).standard_normal((8, 4, 3)).astype(np.float32)
    explicit = jax.make_mesh((8,), ("rows",))
    split = jax.device_put(rows, jax.NamedSharding(explicit, jax.P("rows")))
    assert_parts(jax.jit(lambda m: over_matrices(parts, m))(split), rows)
    mapped = jax.shard_map(
        lambda m: over_matrices(parts, m),
        mesh=ja.sharding.data_mesh(),
        in_specs=jax.P(ja.sharding.DATA_AXIS),
        out_specs=jax.P(ja.sharding.DATA_AXIS),
    )
    assert_parts(jax.jit(mapped)(rows), rows)
