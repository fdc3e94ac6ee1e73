# SPDX-License-Identifier: Apache-2.0
"""First-order intervals: derivatives against differences, widths against replicates."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import jaxalign as ja
from jaxalign.solve.scale import SCALES
from jaxalign.trust.frame import adjoint, influence, sensitivity, singular_frame
from jaxalign.trust.metrics import METRICS, symmetric_metrics
from jaxalign.trust.replicates import STEP, fit_metrics, near_weights, refit
from tests.cases import prescribed, reference_moments
from tests.trust.planted_blocks import Population, fit_by_rows, moments_of_blocks

STEP_OF_DIFFERENCE = 1e-6
POPULATION = Population(5, 0.5)
# To the scales on which intervals are symmetric.
CARRY = {
    "agreement": np.arctanh,
    "relative_residual": np.log,
    "mean_square_residual": np.log,
}


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


@functools.partial(jax.jit, static_argnames="proper")
def answers(cross, rank, change, direction, *, proper):
    """What Q does for a change of C, by one program."""
    frame = singular_frame(cross, rank, proper=proper)
    gradient = adjoint(frame, direction)
    return sensitivity(frame, rank), gradient, influence(frame, change), frame.v


SHAPES = [((6, 6), False), ((7, 5), False), ((5, 7), False), ((6, 6), True)]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("shape", "proper"), [*SHAPES, ((1, 1), False)])
def test_sensitivity_and_derivatives_are_those_of_the_jacobian(shape, proper):
    rng = np.random.default_rng(3)
    cross = prescribed(rng, shape, 10.0, dtype=np.float64)
    if proper and np.linalg.det(cross) > 0:
        # The case in which the last singular value counts as negative.
        cross[:, 0] *= -1
    exact = jacobian(proper_polar if proper else polar, cross)
    change, direction = rng.standard_normal((2, *shape))
    most, gradient, found, v = answers(
        cross, np.int32(min(shape)), change, direction, proper=proper
    )
    assert most == pytest.approx(np.linalg.norm(exact, 2), rel=1e-6, abs=1e-9)
    moved = (exact @ change.ravel()).reshape(shape)
    np.testing.assert_allclose(
        np.sum(gradient * change), np.sum(direction * moved), rtol=1e-6, atol=1e-9
    )
    assert found.curvature == pytest.approx(np.sum(moved * change), rel=1e-6, abs=1e-9)
    turned = (moved.T if shape[0] < shape[1] else moved) @ np.asarray(v)
    np.testing.assert_allclose(
        found.turned, np.sum(turned**2, axis=0), rtol=1e-6, atol=1e-9
    )


@pytest.mark.usefixtures("x64")
def test_what_rounding_alone_holds_has_no_derivative():
    cross = prescribed(np.random.default_rng(0), (6, 6), 2.0, rank=3, dtype=np.float64)
    most, _, found, _ = answers(cross, np.int32(3), *np.ones((2, 6, 6)), proper=False)
    assert np.all(np.isfinite(found.turned))
    # Of the part that is determined: 1 over the last value above rounding.
    assert most == pytest.approx(2.0)


@pytest.mark.parametrize("scale", SCALES)
def test_metrics_are_those_of_the_rows(scale):
    source, target = POPULATION.draw(0, 400)
    moments = reference_moments(source, target)
    fitted = fit_by_rows(source, target, np.ones(400), scale)
    found = symmetric_metrics(
        np.sum(fitted["rotation"] * moments["cross_covariance"]),
        moments["source_energy"],
        moments["target_energy"],
        moments["count"],
        scale=scale,
    )
    for name in METRICS:
        expected = CARRY[name](fitted[name])
        assert float(getattr(found, name)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("x64")
def test_errors_and_bias_are_sums_over_blocks_of_differences():
    scale = "energy"
    source, target = (side.astype(np.float64) for side in POPULATION.draw(0, 400))
    group = np.arange(400) % 16
    counts = np.bincount(group, weights=np.arange(400) >= 40)
    kept = (np.arange(400) >= 40).astype(np.float64)
    moments = moments_of_blocks(source, target, group, 16, weights=kept)
    found = ja.trust.delta_intervals(moments, scale=scale)

    def carried(block, step):
        """Fit with one block's weight changed, on the scales of the intervals."""
        weights = kept * np.where(group == block, 1.0 + step, 1.0)
        fitted = fit_by_rows(source, target, weights, scale)
        return np.array([CARRY[name](fitted[name]) for name in METRICS])

    at = carried(0, 0.0)
    up, down = (
        np.stack([carried(block, step) for block in range(16)])
        for step in (1e-3, -1e-3)
    )
    first = (up - down) / 2e-3
    bias = 0.5 * np.sum((up + down - 2 * at) / 1e-6, axis=0) * 16 / 15
    error = np.sqrt(np.sum(first**2, axis=0) * 16 / 15)
    dof = counts.sum() ** 2 / np.sum(counts**2) - 1
    half = scipy.stats.t.ppf(0.975, dof) * error
    for place, name in enumerate(METRICS):
        interval, carry = getattr(found.metrics, name), CARRY[name]
        expected = at[place] - bias[place]
        assert carry(interval.estimate) == pytest.approx(expected, rel=1e-4)
        width = carry(interval.high) - carry(interval.low)
        assert width == pytest.approx(2 * half[place], rel=1e-3)


def test_first_order_spread_is_that_of_replicates():
    # 64 blocks in an uneven spectrum. 400 replicates know a width to 3.5 %; three
    # times that.
    population, groups, level = Population(8, 0.5, 0.5), 64, 0.11
    rows = population.draw(1, 2000)
    blocks = moments_of_blocks(*rows, ja.trust.block_of_rows(np.arange(2000)), groups)
    weights = near_weights(groups, 400, seed=1)
    moments, solution = refit(blocks, weights, scale="none", proper=False)
    found = ja.trust.delta_intervals(blocks, scale="none")
    # 1.998: Student's t with 63 degrees of freedom.
    t = 2 * 1.998 / STEP
    for name in METRICS:
        spread = np.std(getattr(fit_metrics(moments, solution), name))
        interval, carry = getattr(found.metrics, name), CARRY[name]
        width = carry(float(interval.high)) - carry(float(interval.low))
        assert width == pytest.approx(t * float(spread), rel=level), name

    rotations = np.asarray(solution.rotation)
    fitted = fit_by_rows(*rows, np.ones(2000), "none")["rotation"]
    cross = np.asarray(jnp.sum(blocks.cross_covariance, axis=0))
    _, _, vt = np.linalg.svd(cross)
    apart = (rotations - fitted) @ vt.T / STEP
    spread = np.sqrt(np.mean(np.sum(apart**2, axis=1), axis=0))
    np.testing.assert_allclose(np.asarray(found.turned), spread, rtol=level)
    direction = np.zeros((8, 8), np.float32)
    direction[0, 1] = 1.0
    entry = ja.trust.rotation_interval(blocks, direction)
    assert entry.estimate == pytest.approx(fitted[0, 1], abs=1e-5)
    sides = float(np.std(rotations[:, 0, 1]))
    assert entry.high - entry.low == pytest.approx(t * sides, rel=level)


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    moments = ja.moments.init_moments(3, 2, groups=8)
    with pytest.raises(ValueError, match="moments="):
        ja.trust.delta_intervals(moments)
    with pytest.raises(ValueError, match="level=1"):
        ja.trust.delta_intervals(ja.moments.init_moments(2, 2, groups=8), level=1.0)
    for direction in (np.zeros((3, 2)), np.zeros((2, 3), complex), [[0.0] * 3] * 2):
        with pytest.raises(ValueError, match="direction="):
            ja.trust.rotation_interval(moments, direction)
