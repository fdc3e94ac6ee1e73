# SPDX-License-Identifier: Apache-2.0
"""Every solver by the same invariants: one table of cases, one property a test."""

import jax
import numpy as np
import pytest
import scipy.linalg

from jaxalign.status import Status
from tests.cases import (
    ANCHORS,
    accepted,
    orthonormal,
    planted_rows,
    reference_moments,
    rows_pair,
    solver_cases,
    stack,
    table_moments,
)
from tests.collectives import assert_no_collective
from tests.tolerances import LINEAR, POLAR, PROCRUSTES, SUMS, descent, eps

CASES = tuple(solver_cases())
ISOMETRIES = tuple(case for case in CASES if case.isometry)
BY_NAME = {str(case): case for case in CASES}
# One of each way to compute a map: what is batched does not depend on the rest.
BATCHED = [
    BY_NAME[name]
    for name in (
        "polar-svd-6x6-float32",
        "polar-qdwh-6x6-float32",
        "polar-newton_schulz-6x6-float32",
        "procrustes-proper-6x6-float32",
        "procrustes-6x9-float64",
        "linear-0.1-6x6-float32",
    )
]
# Of either determinant, where a map has one.
SIGNED = tuple(
    (case, reflect)
    for case in CASES
    for reflect in (False, True)
    if not reflect or (case.square and not case.proper)
)
# Orthonormal rows leave a map to a narrower space open.
TIED = tuple(case for case in ISOMETRIES if case.shape[0] >= case.shape[1])
every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_isometry = pytest.mark.parametrize("case", ISOMETRIES, ids=str)


def tolerance(case):
    """Error of a map from rows of condition number at most 10."""
    if case.descent:
        return descent(case.dtype)
    return (PROCRUSTES if case.isometry else LINEAR) * eps(case.dtype)


def solved(case, source, target, weights=None):
    """Solve, and return the solution with its map in float64."""
    found = case.run(source, target, weights)
    return found, np.asarray(case.matrix(found), np.float64)


def loss_of(case, found, source, target):
    """Make the function of the map that it must minimise, in float64."""
    weights = np.asarray(found.weights) if case.loss == "weighted" else None
    exact = reference_moments(source, target, weights)
    cross, gram = exact["cross_covariance"], exact["source_gram"]

    def loss(matrix):
        inner, energy = np.sum(matrix * cross), np.sum((matrix @ gram) * matrix)
        if case.loss == "trace":
            return -inner
        if case.loss == "scaled squares":
            return -(inner**2) / energy
        penalty = 0.0
        if case.loss == "ridge":
            strength = float(found.ridge) * np.trace(gram) / len(gram)
            penalty = strength * np.sum(matrix**2)
        return energy - 2.0 * inner + penalty

    return loss, float(exact["source_energy"] + exact["target_energy"])


@every_isometry
def test_map_is_orthonormal(case):
    _, matrix = solved(case, *case.rows(0))
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    identity = np.eye(len(matrix))
    # A map through a frame is a product of two.
    bound = 2 * POLAR * eps(case.dtype)
    np.testing.assert_allclose(matrix @ matrix.T, identity, atol=bound)
    if case.proper:
        assert np.linalg.det(matrix) > 0


@every_case
def test_no_map_near_or_far_along_a_tangent_is_better(case):
    rng = np.random.default_rng(1)
    rows = case.rows(1, noise=1.0)
    found, matrix = solved(case, *rows)
    assert accepted(found)
    loss, energy = loss_of(case, found, *rows)
    # Below this a difference is rounding of the sums.
    slack = SUMS * eps(case.dtype) * energy
    best = loss(matrix)
    rises = []
    for size in (1e-2, 1e-1, 1.0):
        for _ in range(5):
            left, right = (size * rng.standard_normal((d, d)) for d in case.shape)
            if case.isometry:
                left, right = (scipy.linalg.expm(a - a.T) for a in (left, right))
                # Along the shorter side only the frame turns; along both, all.
                other = left @ matrix @ right
            else:
                other = matrix + size * rng.standard_normal(matrix.shape)
            rises.append(loss(other) - best)
    assert min(rises) > -slack
    assert max(rises) > 100 * slack


@pytest.mark.parametrize(("case", "reflect"), SIGNED, ids=str)
def test_planted_map_comes_back_with_its_determinant(case, reflect):
    rng = np.random.default_rng(2)
    d_target, d_source = case.shape
    source, _, planted = planted_rows(rng, ANCHORS, d_source, reflect=reflect)
    if d_target > d_source:
        planted = orthonormal(rng, d_target, d_source)
    if d_target < d_source:
        planted = planted[:d_target]
    if d_target < d_source and case.loss == "trace":
        # The trace finds it if the rows lie where the map reads.
        source = source @ planted.T @ planted
    source = source.astype(case.dtype)
    target = (source @ planted.T + 0.3).astype(case.dtype)
    found, matrix = solved(case, source, target)
    if case.name == "linear-0.1":
        # A ridge shrinks: the direction of the map comes back, not its size.
        inner = np.sum(matrix * planted)
        assert inner > 0.9 * np.linalg.norm(matrix) * np.linalg.norm(planted)
        return
    assert accepted(found)
    np.testing.assert_allclose(matrix, planted, atol=tolerance(case))
    if case.name.startswith("procrustes") and case.square:
        assert float(found.scale) == pytest.approx(1.0, rel=tolerance(case))


@every_case
def test_turning_the_source_turns_the_map(case):
    rng = np.random.default_rng(3)
    source, target = case.rows(3)
    turn = orthonormal(rng, case.shape[1], case.shape[1])
    if case.proper:
        turn[0] *= np.sign(np.linalg.det(turn))
    _, plain = solved(case, source, target)
    _, turned = solved(case, (source @ turn).astype(case.dtype), target)
    # Each of the two errs.
    np.testing.assert_allclose(turned, plain @ turn, atol=2 * tolerance(case))


@pytest.mark.parametrize(
    "case", [c for c in ISOMETRIES if c.square and c.loss != "weighted"], ids=str
)
@pytest.mark.parametrize("condition", [1.0, 10.0, 1e3])
def test_map_is_that_of_scipy_in_float64(case, condition):
    rng = np.random.default_rng(4)
    d = case.shape[0]
    # The cross-covariance's singular values go with the squares of the rows'.
    spectrum = np.geomspace(1.0, condition**-0.5, d)
    source = orthonormal(rng, ANCHORS, d) * spectrum * np.sqrt(ANCHORS)
    target = source @ orthonormal(rng, d, d)
    target = target + 0.1 * spectrum[-1] * rng.standard_normal(target.shape)
    source, target = (side.astype(case.dtype) for side in (source, target))
    exact = [side.astype(np.float64) for side in (source, target)]
    exact = [side - side.mean(axis=0) for side in exact]
    expected = scipy.linalg.orthogonal_procrustes(*exact)[0].T
    if case.proper:
        u, _, vt = np.linalg.svd(exact[1].T @ exact[0])
        u[:, -1] *= np.linalg.det(u @ vt)
        expected = u @ vt
    _, matrix = solved(case, source, target)
    bound = tolerance(case) * max(1.0, condition / 10.0)
    np.testing.assert_allclose(matrix, expected, atol=bound)


@pytest.mark.parametrize("case", [c for c in CASES if not c.isometry], ids=str)
def test_linear_map_is_that_of_scipy_in_float64(case):
    source, target = case.rows(5)
    found, matrix = solved(case, source, target)
    exact = reference_moments(source, target)
    gram = exact["source_gram"]
    penalty = float(found.ridge) * np.trace(gram) / len(gram) * np.eye(len(gram))
    expected = scipy.linalg.solve(gram + penalty, exact["cross_covariance"].T).T
    np.testing.assert_allclose(matrix, expected, atol=tolerance(case))


@pytest.mark.parametrize("case", TIED, ids=str)
def test_tied_singular_values_are_no_trouble(case):
    rng = np.random.default_rng(6)
    d_target, d_source = case.shape
    source = np.sqrt(ANCHORS) * orthonormal(rng, ANCHORS - 1, d_source)
    # Orthonormal after centring too: columns of mean zero.
    source = scipy.linalg.helmert(ANCHORS).T @ source
    planted = orthonormal(rng, d_target, d_source)
    if case.proper:
        planted[:, 0] *= np.sign(np.linalg.det(planted))
    rows = [side.astype(case.dtype) for side in (source, source @ planted.T)]
    found, matrix = solved(case, *rows)
    assert accepted(found)
    np.testing.assert_allclose(matrix, planted, atol=tolerance(case))


@every_case
@pytest.mark.parametrize("lack", ["anchors", "rank", "all"])
def test_what_the_anchors_leave_open_does_not_pass(case, lack):
    source, target = case.rows(7)
    weights = np.ones(ANCHORS)
    if lack == "rank":
        rng = np.random.default_rng(7)
        flat = rows_pair(rng, ANCHORS, 3, 3, dtype=case.dtype)
        source, target = (
            (side @ orthonormal(rng, 3, d)).astype(case.dtype)
            for side, d in zip(flat, (case.shape[1], case.shape[0]), strict=True)
        )
    else:
        weights[{"anchors": 4, "all": 0}[lack] :] = 0.0
    found, _ = solved(case, source, target, weights)
    # A ridge makes the map unique, and the SVD's factor is orthonormal at any rank.
    assert accepted(found) == (not case.needs_rank and not hopeless(case, lack))
    if hasattr(found, "rank"):
        assert int(found.rank) == {"anchors": 3, "rank": 3, "all": 0}[lack]


def hopeless(case, lack):
    """Whether there is nothing to solve from; a bare matrix may be zero."""
    return lack == "all" and not case.name.startswith("polar")


@every_case
def test_what_is_not_finite_is_said(case):
    source, target = case.rows(8)
    target[3, 2] = np.nan
    found, _ = solved(case, source, target)
    assert not accepted(found)
    if hasattr(found, "status"):
        assert int(found.status) == Status.NON_FINITE


@pytest.mark.compiled_text
@pytest.mark.parametrize("case", BATCHED, ids=str)
def test_batch_is_a_loop_split_over_devices_and_traced_once(case):
    devices = jax.devices()
    traced = []

    def solve(moments):
        traced.append(1)
        return case.solve(moments)

    with case.x64():
        rows = [case.rows(seed) for seed in range(len(devices))]
        ones = np.ones(ANCHORS, case.dtype)
        parts = [table_moments(*pair, ones) for pair in rows]
        mesh = jax.make_mesh(
            (len(devices),), ("data",), axis_types=(jax.sharding.AxisType.Auto,)
        )
        sharding = jax.NamedSharding(mesh, jax.P("data"))
        batch = jax.device_put(stack(*parts), sharding)
        jitted = jax.jit(solve)
        text = jitted.lower(batch).compile().as_text()
        assert_no_collective(text)
        found = jitted(batch)
        jitted(batch)
        assert len(traced) == 1
        assert case.matrix(found).sharding.is_equivalent_to(sharding, 3)
        for index in (0, 5):
            one = jax.tree.map(lambda leaf, i=index: np.asarray(leaf)[i], found)
            alone = case.solve(parts[index])
            bound = tolerance(case)
            np.testing.assert_allclose(case.matrix(one), case.matrix(alone), atol=bound)
            assert accepted(one) == accepted(alone)
            for name in ("scale", "rank"):
                if hasattr(alone, name):
                    other = getattr(alone, name)
                    np.testing.assert_allclose(getattr(one, name), other, rtol=bound)
