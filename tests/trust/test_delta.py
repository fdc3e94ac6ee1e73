# SPDX-License-Identifier: Apache-2.0
"""First-order intervals: derivatives against differences, widths against replicates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.trust.frame import (
    adjoint,
    influence,
    sensitivity,
    singular_frame,
)
from jaxalign.trust.metrics import METRICS
from jaxalign.trust.replicates import STEP, fit_metrics, near_weights, refit
from tests.cases import SHAPES, prescribed
from tests.trust.planted_blocks import Population

STEP_OF_DIFFERENCE = 1e-6


def polar(matrix):
    u, _, vt = np.linalg.svd(matrix, full_matrices=False)
    return u @ vt


def proper_polar(matrix):
    u, _, vt = np.linalg.svd(matrix)
    u[:, -1] *= np.sign(np.linalg.det(u @ vt))
    return u @ vt


def jacobian(function, matrix):
    """Central differences of all entries, (entries of Q, entries of C)."""
    columns = []
    for place in range(matrix.size):
        step = np.zeros(matrix.size)
        step[place] = STEP_OF_DIFFERENCE
        step = step.reshape(matrix.shape)
        change = function(matrix + step) - function(matrix - step)
        columns.append(change.ravel() / (2 * STEP_OF_DIFFERENCE))
    return np.stack(columns, axis=1)


CASES = [*((shape, False) for shape in SHAPES), ((6, 6), True), ((1, 1), False)]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("shape", "proper"), CASES)
def test_sensitivity_and_derivatives_are_those_of_the_jacobian(shape, proper):
    rng = np.random.default_rng(3)
    cross = prescribed(rng, shape, 10.0, dtype=np.float64)
    if proper and np.linalg.det(cross) > 0:
        # The case in which the last singular value counts as negative.
        cross[:, 0] *= -1
    exact = jacobian(proper_polar if proper else polar, cross)
    k = min(shape)
    frame = singular_frame(jnp.asarray(cross), jnp.int32(k), proper=proper)
    assert sensitivity(frame, jnp.int32(k)) == pytest.approx(
        np.linalg.norm(exact, 2), rel=1e-6, abs=1e-9
    )
    change, direction = rng.standard_normal((2, *shape))
    moved = (exact @ change.ravel()).reshape(shape)
    np.testing.assert_allclose(
        np.sum(adjoint(frame, jnp.asarray(direction)) * change),
        np.sum(direction * moved),
        rtol=1e-6,
        atol=1e-9,
    )
    found = influence(frame, jnp.asarray(change))
    assert found.curvature == pytest.approx(np.sum(moved * change), rel=1e-6, abs=1e-9)
    turned = np.sum((moved.T if shape[0] < shape[1] else moved) @ frame.v, axis=0)
    assert turned.shape == found.turned.shape
    squares = (moved.T if shape[0] < shape[1] else moved) @ np.asarray(frame.v)
    np.testing.assert_allclose(
        found.turned, np.sum(squares**2, axis=0), rtol=1e-6, atol=1e-9
    )


@pytest.mark.usefixtures("x64")
def test_what_rounding_alone_holds_has_no_derivative():
    cross = prescribed(np.random.default_rng(0), (6, 6), 2.0, rank=3, dtype=np.float64)
    frame = singular_frame(jnp.asarray(cross), jnp.int32(3), proper=False)
    found = influence(frame, jnp.ones((6, 6)))
    assert np.all(np.isfinite(found.turned))
    # Of the part that is determined: 1 over the last value above rounding.
    assert sensitivity(frame, jnp.int32(3)) == pytest.approx(2.0)


@pytest.mark.parametrize("scale", ["none", "least_squares", "energy"])
@pytest.mark.usefixtures("x64")
def test_errors_and_bias_are_sums_over_blocks_of_differences(scale):
    population = Population(5, 0.5)
    moments = population.blocks(jax.random.key(0), 400, 16)
    found = ja.delta_intervals(moments, scale=scale)

    step = 1e-3 * jnp.eye(16)
    weights = jnp.concatenate([1.0 + step, 1.0 - step, jnp.ones((1, 16))])
    fits = fit_metrics(*refit(moments, weights, scale=scale, proper=False))
    fits = np.stack([getattr(fits, name) for name in METRICS], axis=-1)
    up, down, at = fits[:16], fits[16:32], fits[32:]
    first = (up - down) / 2e-3
    bias = 0.5 * np.sum((up + down - 2 * at) / 1e-6, axis=0) * 16 / 15
    error = np.sqrt(np.sum(first**2, axis=0) * 16 / 15)
    for place, name in enumerate(METRICS):
        carry = np.arctanh if name == "agreement" else np.log
        interval = getattr(found.metrics, name)
        assert carry(interval.estimate) == pytest.approx(
            at[0, place] - bias[place], rel=1e-4
        )
        counts = np.asarray(moments.count)
        dof = counts.sum() ** 2 / np.sum(counts**2) - 1
        half = scipy_t(dof) * error[place]
        width = carry(interval.high) - carry(interval.low)
        assert width == pytest.approx(2 * half, rel=1e-3)


def scipy_t(dof):
    import scipy.stats

    return scipy.stats.t.ppf(0.975, dof)


@pytest.fixture(scope="module")
def many():
    """Moments of 64 blocks, in an uneven spectrum."""
    return Population(8, 0.5, 0.5).blocks(jax.random.key(1), 2000, 64)


def test_first_order_widths_are_those_of_replicates(many):
    trust = ja.assess_map(many, replicates=400, chunk=64)
    for name in METRICS:
        one, other = (getattr(m, name) for m in (trust.metrics, trust.delta.metrics))
        # 400 replicates know a width to 3.5 %; three times that.
        width, first_order = one.high - one.low, other.high - other.low
        assert width == pytest.approx(float(first_order), rel=0.11)
        assert one.estimate == pytest.approx(
            float(other.estimate), abs=0.1 * float(width)
        )


def test_first_order_spread_of_the_rotation_is_that_of_replicates(many):
    weights = near_weights(64, 400, seed=1)
    _, solution = refit(many, weights, scale="none", proper=False)
    rotations = np.asarray(solution.rotation)
    cross = np.asarray(ja.reduce_groups(many).cross_covariance)
    u, _, vt = np.linalg.svd(cross)
    apart = (rotations - u @ vt) @ vt.T / STEP
    spread = np.sqrt(np.mean(np.sum(apart**2, axis=1), axis=0))
    turned = ja.delta_intervals(many).turned
    np.testing.assert_allclose(np.asarray(turned), spread, rtol=0.1)
    direction = np.zeros((8, 8), np.float32)
    direction[0, 1] = 1.0
    found = ja.rotation_interval(many, direction)
    assert found.estimate == pytest.approx(float((u @ vt)[0, 1]), abs=1e-5)
    sides = float(np.std(rotations[:, 0, 1])) / STEP
    # 1.998: Student's t with 63 degrees of freedom.
    assert found.high - found.low == pytest.approx(2 * 1.998 * sides, rel=0.11)


@pytest.mark.usefixtures("no_shape_hook")
def test_errors():
    moments = ja.init_moments(3, 2, groups=8)
    with pytest.raises(ValueError, match="use `assess_map`"):
        ja.delta_intervals(moments)
    with pytest.raises(ValueError, match="0.95 is usual"):
        ja.delta_intervals(ja.init_moments(2, 2, groups=8), level=1.0)
    with pytest.raises(ValueError, match=r"pass y\[:, None\]"):
        ja.rotation_interval(moments, np.zeros((3, 2)))
