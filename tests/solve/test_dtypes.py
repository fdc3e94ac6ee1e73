# SPDX-License-Identifier: Apache-2.0
"""float32 in, float32 out, with float64 enabled as well: every function of moments."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.solve.procrustes import identified_directions
from jaxalign.trust.angles import map_angles
from tests.cases import METHODS, SHAPES

GROUPS = 8
PAIRS = ((0, 1), (1, 2), (2, 0))
DIRECTION = np.ones((16, 16))


def shapes_of(d_target, d_source, groups=None):
    """Moments with Grams as shapes alone: nothing is compiled or run."""
    make = functools.partial(ja.moments.init_moments, grams=True, groups=groups)
    return jax.eval_shape(functools.partial(make, d_source, d_target))


SQUARE = shapes_of(16, 16)
BLOCKS = shapes_of(16, 16, GROUPS)

CALLS = {
    f"procrustes {shape} {scale}": (
        functools.partial(ja.solve.solve_procrustes, scale=scale),
        shapes_of(*shape),
    )
    for shape in SHAPES
    for scale in ("none", "least_squares", "energy")
}
CALLS |= {
    f"procrustes {method}": (
        functools.partial(ja.solve.solve_procrustes, method=method, proper=True),
        SQUARE,
    )
    for method in METHODS
}
CALLS |= {
    f"polar {method} {dtype}": (
        functools.partial(ja.solve.polar_factor, method=method),
        jax.ShapeDtypeStruct((16, 16), dtype),
    )
    for method in METHODS
    for dtype in ("float32", "bfloat16", "float16")
}
CALLS |= {
    "identified": (lambda m: identified_directions(m, jnp.int32(3)), SQUARE),
    "consensus": (lambda *parts: ja.solve.solve_consensus(parts, PAIRS), *3 * [SQUARE]),
    "linear": (functools.partial(ja.solve.solve_linear, ridge=0.1), SQUARE),
    "ridge by groups": (ja.solve.choose_ridge, BLOCKS),
    "ridge by folds": (lambda *folds: ja.solve.choose_ridge(folds), *2 * [SQUARE]),
    "ridge by gcv": (functools.partial(ja.solve.choose_ridge, by="gcv"), SQUARE),
    "rotation interval": (lambda m: ja.trust.rotation_interval(m, DIRECTION), BLOCKS),
    "angles": (map_angles, *2 * [SQUARE.cross_covariance]),
    "reduced": (ja.moments.reduce_groups, BLOCKS),
    "subsets": (lambda m: ja.moments.reduce_groups(m, np.ones((2, GROUPS))), BLOCKS),
    "decayed": (lambda m: ja.moments.decay_moments(m, np.ones(GROUPS)), BLOCKS),
    "merged": (ja.moments.merge_moments, SQUARE, SQUARE),
    "subtracted": (ja.moments.subtract_moments, SQUARE, SQUARE),
}
CALLS |= {
    f"delta {scale}": (functools.partial(ja.trust.delta_intervals, scale=scale), BLOCKS)
    for scale in ("none", "least_squares", "energy")
}
CALLS |= {
    f"assessed {shape}": (
        functools.partial(ja.assess_map, replicates=20),
        shapes_of(*shape, GROUPS),
    )
    for shape in SHAPES
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.usefixtures("x64")
def test_float32_stays_float32_with_float64_enabled(call):
    function, *arguments = CALLS[call]
    # Traced under strict promotion: a float64 or int64 that meets the rest fails.
    found = jax.eval_shape(function, *arguments)
    dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(found)}
    assert dtypes <= {"float32", "int32", "bool"}
    assert "float32" in dtypes


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("weights", [None, np.ones(12), np.ones(12, bool)])
@pytest.mark.parametrize("dtype", [np.float64, jnp.bfloat16])
def test_rows_of_any_precision_go_into_float32_moments(dtype, weights):
    rows = jax.ShapeDtypeStruct((12, 16), dtype)
    update = functools.partial(ja.moments.update_moments, weights=weights)
    assert jax.eval_shape(update, SQUARE, rows, rows) == SQUARE
    grouped = functools.partial(update, group=np.arange(12) % GROUPS)
    assert jax.eval_shape(grouped, BLOCKS, rows, rows) == BLOCKS


def test_merged_with_float64_moments_they_become_float64():
    with jax.enable_x64(True):
        double = shapes_of(16, 16)
        assert jax.eval_shape(ja.moments.merge_moments, SQUARE, double) == double
