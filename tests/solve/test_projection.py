# SPDX-License-Identifier: Apache-2.0
"""Least squares to a narrower space: better than the trace, stationary, monotone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from tests.cases import moments_of, orthonormal, x64_for
from tests.tolerances import POLAR, descent, eps

F32 = eps(np.float32)


def anisotropic(seed, n=60, d_source=9, d_target=6):
    """Rows of which the widest directions are not the ones that matter."""
    rng = np.random.default_rng(seed)
    source = rng.standard_normal((n, d_source)) * np.geomspace(1.0, 0.1, d_source)
    mix = 0.3 * rng.standard_normal((d_source, d_target))
    target = source @ mix + 0.3 * rng.standard_normal((n, d_target))
    return source.astype(np.float32), target.astype(np.float32)


def squared_error(rotation, source, target, scale=1.0):
    x, y = (np.asarray(side, np.float64) for side in (source, target))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.sum((scale * x @ np.asarray(rotation, np.float64).T - y) ** 2)


@pytest.mark.parametrize("seed", range(3))
def test_beats_the_trace_and_a_thousand_random_maps(seed):
    rng = np.random.default_rng(seed)
    source, target = anisotropic(seed)
    moments = moments_of(source, target)
    solution = ja.solve.solve_procrustes(moments).check()
    assert solution.objective == "least_squares"
    found = squared_error(solution.rotation, source, target)
    assert float(solution.residual) == pytest.approx(found, rel=1e-4)
    trace = ja.solve.solve_procrustes(moments, objective="trace")
    assert trace.objective == "trace"
    assert found < 0.7 * squared_error(trace.rotation, source, target)
    assert (
        float(ja.solve.polar_factor(solution.rotation).orthogonality_error)
        <= POLAR * F32
    )
    maps = (orthonormal(rng, 6, 9) for _ in range(1000))
    assert found <= min(squared_error(one, source, target) for one in maps)


@pytest.mark.parametrize(
    ("scale", "dtype"),
    [("none", np.float32), ("least_squares", np.float32), ("none", np.float64)],
)
def test_solution_is_stationary(scale, dtype):
    with x64_for(dtype):
        rows = (side.astype(dtype) for side in anisotropic(7, 200))
        moments = moments_of(*rows)
        solution = ja.solve.solve_procrustes(moments, scale=scale).check()
    rotation = np.asarray(solution.rotation, np.float64)
    factor = float(solution.scale)
    cross, gram = (
        np.asarray(leaf, np.float64)
        for leaf in (moments.cross_covariance, moments.source_gram)
    )
    slope = cross / factor - rotation @ gram
    across = slope @ rotation.T
    tangent = slope - (across + across.T) / 2 @ rotation
    size = np.linalg.norm(cross) / factor + np.linalg.norm(gram)
    assert np.linalg.norm(tangent) <= descent(dtype) * size


def test_one_step_is_better_than_none_and_says_that_it_is_one():
    moments = moments_of(*anisotropic(8, 200))
    errors, codes = [], []
    for limit in (1, 2000):
        solution = ja.solve.solve_procrustes(moments, max_iterations=limit)
        errors.append(float(solution.residual))
        codes.append(ja.Status(int(solution.status)))
    rounding = POLAR * F32 * float(moments.source_energy + moments.target_energy)
    assert errors[-1] < errors[0] - rounding
    assert codes[0] == ja.Status.NOT_CONVERGED
    assert codes[-1] == ja.Status.OK


def test_scale_is_part_of_the_optimum():
    source, target = anisotropic(9)
    target = 5.0 * target
    moments = moments_of(source, target)
    scaled = ja.solve.solve_procrustes(moments, scale="least_squares").check()
    plain = ja.solve.solve_procrustes(moments).rotation
    energy = np.sum((plain @ moments.source_gram) * plain)
    best = float(np.sum(plain * moments.cross_covariance) / energy)
    found = squared_error(scaled.rotation, source, target, float(scaled.scale))
    assert found < squared_error(plain, source, target, best)


def test_derivative_is_refused_with_a_remedy():
    moments = moments_of(*anisotropic(0))

    def error(cross):
        changed = dataclasses.replace(moments, cross_covariance=cross)
        return ja.solve.solve_procrustes(changed).residual

    with pytest.raises(ValueError, match="objective="):
        jax.grad(error)(jnp.asarray(moments.cross_covariance))
