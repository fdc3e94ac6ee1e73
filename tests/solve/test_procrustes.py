# SPDX-License-Identifier: Apache-2.0
"""Procrustes by invariants: planted maps come back, nothing near does better."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

import jaxalign as ja
from jaxalign.solve.procrustes import identified_directions
from jaxalign.solve.scale import fit_scale
from tests.cases import (
    moments_of,
    orthonormal,
    planted_rows,
    rows_pair,
)
from tests.tolerances import POLAR, PROCRUSTES, SUMS, eps

F32 = eps(np.float32)


def squared_error(rotation, scale, source, target):
    x, y = (np.asarray(side, np.float64) for side in (source, target))
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    return np.sum((scale * x @ np.asarray(rotation, np.float64).T - y) ** 2)


@pytest.mark.parametrize("reflect", [False, True])
def test_planted_rotation_comes_back_with_its_determinant(reflect):
    source, target, planted = planted_rows(
        np.random.default_rng(6), 400, 6, reflect=reflect, means=(0.93, 0.33)
    )
    solution = ja.solve.solve_procrustes(moments_of(source, target)).check()
    np.testing.assert_allclose(solution.rotation, planted, atol=PROCRUSTES * F32)
    sign = -1.0 if reflect else 1.0
    assert np.linalg.det(solution.rotation) == pytest.approx(sign, abs=1e-4)


@pytest.mark.parametrize(
    # The widths, and the programs, of the table of solvers.
    ("d_target", "d_source", "scale"),
    [
        (6, 6, "none"),
        (6, 6, "least_squares"),
        (9, 6, "energy"),
        (6, 9, "least_squares"),
        (6, 9, "energy"),
    ],
)
def test_residual_and_scale_are_those_of_the_rows(d_target, d_source, scale):
    source, target = rows_pair(np.random.default_rng(1), 100, d_source, d_target)
    moments = moments_of(source, target)
    solution = ja.solve.solve_procrustes(moments, scale=scale)
    rotation, factor = solution.rotation, float(solution.scale)
    expected = squared_error(rotation, factor, source, target)
    bound = SUMS * F32 * float(moments.source_energy + moments.target_energy)
    assert abs(float(solution.residual) - expected) <= bound
    if scale == "least_squares":
        for other in (0.99 * factor, 1.01 * factor):
            assert squared_error(rotation, other, source, target) > expected
    if scale == "energy":
        x = source - source.mean(axis=0)
        spread = np.sum((factor * x @ np.asarray(rotation).T) ** 2)
        assert spread == pytest.approx(float(moments.target_energy), rel=SUMS * F32)


@pytest.mark.parametrize(("d_target", "d_source"), [(6, 6), (9, 6)])
def test_no_turned_map_does_better(d_target, d_source):
    rng = np.random.default_rng(2)
    source, target = rows_pair(rng, 60, d_source, d_target, noise=1.0)
    rotation = np.asarray(
        ja.solve.solve_procrustes(moments_of(source, target)).rotation
    )
    best = squared_error(rotation, 1.0, source, target)
    for size in (1e-2, 1e-1, 1.0):
        for _ in range(20):
            skew = size * rng.standard_normal((d_target, d_target))
            turned = scipy.linalg.expm(skew - skew.T) @ rotation
            assert squared_error(turned, 1.0, source, target) >= best


def test_narrower_target_maximises_the_trace():
    rng = np.random.default_rng(3)
    moments = moments_of(*rows_pair(rng, 60, 9, 6), grams=False)
    solution = ja.solve.solve_procrustes(moments)
    cross = np.asarray(moments.cross_covariance, np.float64)
    best = np.sum(np.asarray(solution.rotation) * cross)
    assert best == pytest.approx(float(solution.singular_values.sum()), rel=1e-5)
    for _ in range(50):
        assert np.sum(orthonormal(rng, 6, 9) * cross) < best
    # Without the Gram the energy after the projection is unknown: said, not guessed.
    assert np.isnan(float(solution.residual))


def test_proper_gives_the_best_of_determinant_one():
    rng = np.random.default_rng(5)
    source, target, _ = planted_rows(rng, 200, 6, reflect=True, noise=0.3)
    moments = moments_of(source, target)
    solution = ja.solve.solve_procrustes(moments, proper=True)
    assert np.linalg.det(solution.rotation) == pytest.approx(1.0, abs=1e-5)
    best = squared_error(solution.rotation, 1.0, source, target)
    assert float(solution.residual) == pytest.approx(best, rel=1e-4)
    for _ in range(30):
        skew = 0.1 * rng.standard_normal((6, 6))
        turned = scipy.linalg.expm(skew - skew.T) @ np.asarray(solution.rotation)
        assert squared_error(turned, 1.0, source, target) >= best * (1 - 1e-6)


@pytest.mark.parametrize("n", [8, 16, 17, 40])
def test_rank_counts_the_anchors(n):
    source, target, planted = planted_rows(np.random.default_rng(0), n, 16)
    solution = ja.solve.solve_procrustes(moments_of(source, target))
    assert int(solution.rank) == min(n - 1, 16)
    enough = n > 16
    wanted = ja.Status.OK if enough else ja.Status.RANK_DEFICIENT
    assert int(solution.status) == wanted
    # On the span of the anchors the planted map is back, whatever the rest.
    centred = source - source.mean(axis=0)
    moved, expected = centred @ np.asarray(solution.rotation).T, centred @ planted.T
    np.testing.assert_allclose(moved, expected, atol=PROCRUSTES * F32)
    if not enough:
        with pytest.raises(ja.SolveError, match="RANK_DEFICIENT"):
            solution.check()
        assert solution.check(allow=[ja.Status.RANK_DEFICIENT]) is solution


def test_rank_stays_below_the_number_of_anchors_whatever_the_noise():
    # Rounding can lift a null singular value above the cutoff; the count knows better.
    moments = moments_of(*rows_pair(np.random.default_rng(0), 50, 6, 6))
    few = dataclasses.replace(moments, rows=np.int32(4))
    assert int(ja.solve.solve_procrustes(few).rank) == 3
    assert int(ja.solve.solve_linear(few, ridge=0.0).rank) == 3


def test_low_rank_rows_are_reported():
    rng = np.random.default_rng(6)
    source, target = rows_pair(rng, 100, 4, 4)
    wide = orthonormal(rng, 16, 4).astype(np.float32)
    solution = ja.solve.solve_procrustes(moments_of(source @ wide.T, target @ wide.T))
    assert int(solution.rank) == 4
    assert int(solution.status) == ja.Status.RANK_DEFICIENT


def test_with_a_proper_map_one_direction_less_is_enough():
    source, target, planted = planted_rows(np.random.default_rng(0), 6, 6)
    moments = moments_of(source, target)
    assert int(ja.solve.solve_procrustes(moments).status) == ja.Status.RANK_DEFICIENT
    proper = ja.solve.solve_procrustes(moments, proper=True).check()
    # Six anchors only: the spectrum is whatever the draw gives.
    np.testing.assert_allclose(proper.rotation, planted, atol=10 * PROCRUSTES * F32)


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        (np.ones((1, 6), np.float32), ja.Status.TOO_FEW_ANCHORS),
        (np.full((5, 6), np.nan, np.float32), ja.Status.NON_FINITE),
        (np.ones((5, 6), np.float32), ja.Status.NON_FINITE),
    ],
)
def test_hopeless_rows_get_a_code(rows, code):
    solution = ja.solve.solve_procrustes(moments_of(rows, rows), scale="energy")
    assert int(solution.status) == code
    with pytest.raises(ja.SolveError, match=code.name):
        solution.check()


@pytest.mark.parametrize(
    ("method", "proper"), [("qdwh", False), ("newton_schulz", True)]
)
def test_methods_find_the_same_map_spectrum_and_rank(method, proper):
    source, target, _ = planted_rows(
        np.random.default_rng(9), 200, 6, reflect=True, noise=0.3
    )
    moments = moments_of(source, target)
    one = ja.solve.solve_procrustes(moments, proper=proper).check()
    other = ja.solve.solve_procrustes(moments, proper=proper, method=method)
    other.check()
    np.testing.assert_allclose(other.rotation, one.rotation, atol=2 * POLAR * F32)
    largest = float(one.singular_values[0])
    np.testing.assert_allclose(
        other.singular_values, one.singular_values, atol=POLAR * F32 * largest
    )
    assert int(other.rank) == int(one.rank)
    assert int(other.iterations) > 0 == int(one.iterations)


@pytest.mark.usefixtures("x64")
def test_gradient_is_that_of_finite_differences():
    # Of all fields that have a derivative, along the cross-covariance.
    rng = np.random.default_rng(10)
    source, target, _ = planted_rows(rng, 40, 6, reflect=True, noise=0.3)
    moments = moments_of(source.astype(np.float64), target.astype(np.float64))

    @jax.jit
    def fields(cross):
        changed = dataclasses.replace(moments, cross_covariance=cross)
        found = ja.solve.solve_procrustes(changed, proper=True, scale="least_squares")
        return found.rotation, found.scale, found.singular_values, found.residual

    check_grads(fields, (moments.cross_covariance,), order=1, atol=1e-5, rtol=1e-5)


def test_an_arbitrary_rotation_has_no_derivative_and_its_residual_has_one():
    rng = np.random.default_rng(11)
    source, target, _ = planted_rows(rng, 5, 6, noise=0.3)
    moments = moments_of(source, target)

    def slope(read):
        def found(cross):
            changed = dataclasses.replace(moments, cross_covariance=cross)
            return read(ja.solve.solve_procrustes(changed))

        return jax.grad(found)(moments.cross_covariance)

    assert np.all(np.isnan(slope(lambda found: jnp.sum(found.rotation**3))))
    by_residual = slope(lambda found: found.residual)
    # The sum of the singular values has the slope Q on the determined part.
    expected = -2.0 * ja.solve.solve_procrustes(moments).rotation
    u = identified_directions(moments, jnp.int32(4)).target
    np.testing.assert_allclose(u.T @ by_residual, u.T @ expected, atol=1e-4)


def test_the_spread_of_a_part_is_nan_without_grams():
    rng = np.random.default_rng(12)
    few = moments_of(*planted_rows(rng, 4, 6, noise=0.3)[:2])
    other = moments_of(*planted_rows(rng, 40, 6, noise=0.3)[:2])
    bare = dataclasses.replace(other, source_gram=None, target_gram=None)
    found = ja.solve.solve_procrustes(few)
    for rank, known in ((3, False), (6, True)):
        within = identified_directions(few, jnp.int32(rank))
        options = {"scale": "energy", "within": within}
        scale = fit_scale(bare, found.rotation, **options)
        assert np.isfinite(scale) == known
        assert np.isfinite(fit_scale(other, found.rotation, **options))


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    with pytest.raises(ValueError, match="moments="):
        ja.solve.solve_procrustes(np.eye(4, dtype=np.float32))
    moments = ja.moments.init_moments(9, 6)
    for options in (
        {"method": "qr"},
        {"scale": "unit"},
        {"objective": "cosine"},
        {"max_iterations": 0},
        # Widths do not allow it, or Grams are missing.
        {"proper": True},
        {"objective": "least_squares"},
        {"scale": "energy"},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(options))}="):
            ja.solve.solve_procrustes(moments, **options)
