# SPDX-License-Identifier: Apache-2.0
"""Whether solvers and Stiefel steps are right on this JAX and device.

Planted answers come back, a missing rank is told, batches give what single problems
give, and steps stay on the manifold. References are SciPy's or NumPy's, in float64.
"""

import typing
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from experiments.solvers.problem import LARGEST_ERROR, orthogonality_error, plant
from experiments.solvers.table import run
from experiments.solvers.tuning import Setting, step_length
from jaxalign.moments import init_moments, update_moments
from jaxalign.solve.consensus import solve_consensus
from jaxalign.solve.linear import solve_linear
from jaxalign.solve.polar import PolarMethod, polar_factor
from jaxalign.solve.procrustes import solve_procrustes
from jaxalign.status import Status

EPS = float(np.finfo(np.float32).eps)
# A factor of condition number 10: rounding of the factorisation, 5 eps up to d = 512.
_POLAR = 20.0
# From rows of condition number 10: rounding of sums, times the factor's sensitivity.
_PROCRUSTES = 400.0
# Ridge: errors of the sums, times the condition number of the regularised Gram.
_LINEAR = 400.0
_STEPS = 50
_METHODS = typing.get_args(PolarMethod)

Found = Iterator[tuple[str, float, float]]


def check_polar(tiny: bool) -> Found:
    """Compare polar factors, single, batched and rectangular, with SciPy's."""
    d, batch = (16, 3) if tiny else (256, 4)
    rng = np.random.default_rng(0)
    for shape in ((d, d), (d, d // 2)):
        stack = np.stack([_matrix(rng, *shape, 10.0) for _ in range(batch)])
        exact = np.stack([_polar(one) for one in stack])
        device = jax.device_put(stack)
        name = " x ".join(map(str, shape))
        for method in _METHODS:
            # Of rectangular matrices a batch is enough.
            for part in (slice(None), 0) if shape[0] == shape[1] else (slice(None),):
                found = polar_factor(device[part], method=method)
                errors = [
                    np.abs(np.asarray(found.factor) - exact[part]).max(),
                    np.asarray(found.orthogonality_error).max(),
                    0.0 if found.converged.all() else np.inf,
                ]
                title = name if part == 0 else f"{batch} x {name}"
                yield f"{method}, {title}", float(np.max(errors)), _POLAR * EPS


def check_solvers(tiny: bool) -> Found:
    """Recover planted maps from rows, and tell what rows do not determine."""
    n, d = (400, 16) if tiny else (4000, 256)
    rng = np.random.default_rng(1)
    source = (rng.standard_normal((n, d)) * np.geomspace(1.0, 0.1, d) + 1.0).astype(
        np.float32
    )
    turn = _orthogonal(rng, d)
    for sign in (1.0, -1.0):
        planted = turn.copy()
        planted[:, 0] *= sign * np.sign(np.linalg.det(turn))
        moments = _moments(source, source.astype(np.float64) @ planted.T + 0.5)
        for method in _METHODS:
            found = solve_procrustes(moments, method=method)
            error = np.abs(np.asarray(found.rotation) - planted).max()
            name = f"planted rotation of determinant {sign:+.0f}, {method}"
            yield name, _if_ok(found.status, error), _PROCRUSTES * EPS

    noisy = source @ planted.T + 0.1 * rng.standard_normal((n, d))
    found = solve_procrustes(_moments(source, noisy))
    x, y = (side - side.mean(axis=0) for side in (source.astype(np.float64), noisy))
    expected = scipy.linalg.orthogonal_procrustes(x, y)[0].T
    error = np.abs(np.asarray(found.rotation) - expected).max()
    yield "SciPy's Procrustes, noisy rows", float(error), _PROCRUSTES * EPS

    few = d // 2
    found = solve_procrustes(_moments(source[:few], noisy[:few]))
    told = int(found.status) == Status.RANK_DEFICIENT and int(found.rank) == few - 1
    yield f"rank of {few} rows", 0.0 if told else np.inf, 0.0

    found = solve_linear(_moments(source, noisy, grams=True), ridge=0.1)
    gram = x.T @ x
    strength = 0.1 * np.trace(gram) / d
    expected = np.linalg.solve(gram + strength * np.eye(d), x.T @ y).T
    error = np.abs(np.asarray(found.matrix) - expected).max()
    yield "ridge", _if_ok(found.status, error), _LINEAR * EPS

    second = _orthogonal(rng, d)
    rows = source, source.astype(np.float64) @ turn.T, source @ second.T
    pairs = ((0, 1), (1, 2), (2, 0))
    found = solve_consensus([_moments(rows[i], rows[j]) for i, j in pairs], pairs)
    error = np.abs(np.asarray(found.between(0, 2)) - second).max()
    yield "consensus of three models", _if_ok(found.status, error), _PROCRUSTES * EPS


def check_optimizers(tiny: bool) -> Found:
    """Take steps with each optimiser; the point must stay on the manifold."""
    d = 16 if tiny else 64
    problem = plant(d, 4.0)
    cases = {
        "riemannian_sgd, polar": Setting("polar", 1.0, 0.4),
        "riemannian_sgd, qr": Setting("qr", 1.0),
        "riemannian_sgd, cayley": Setting("cayley", 1.0),
        "riemannian_sgd, cayley_iterative": Setting("cayley_iterative", 0.5),
        "riemannian_adam, polar": Setting("polar", 0.1 * step_length(problem)),
        "cayley_sgd": Setting("", 0.5, 0.4),
        "cayley_adam": Setting("", 0.1 * step_length(problem)),
        "pogo, full": Setting("full", 1.0, 0.4),
        "pogo, mixed": Setting("mixed", 1.0, 0.4),
    }
    for name, setting in cases.items():
        point = run(name.split(",")[0], problem, setting, _STEPS)
        # A point that never moved is on the manifold too.
        moved = problem.excess(point)[0] < 0.5
        error = orthogonality_error(point) if moved else np.inf
        yield f"{name}, {_STEPS} steps", error, LARGEST_ERROR


def _if_ok(status: jax.Array, error: float) -> float:
    """Return the error, or infinity for a solution that says that it is none."""
    return float(error) if int(status) == Status.OK else float("inf")


def _moments(source, target, *, grams=False):
    """Moments of float32 rows on the device."""
    empty = init_moments(source.shape[1], target.shape[1], grams=grams)
    rows = (jnp.asarray(side, jnp.float32) for side in (source, target))
    return update_moments(empty, *rows)


def _orthogonal(rng, d):
    return np.linalg.qr(rng.standard_normal((d, d)))[0]


def _matrix(rng, rows, columns, condition):
    """Draw a float32 matrix of a condition number."""
    left, right = _orthogonal(rng, rows)[:, :columns], _orthogonal(rng, columns)
    values = np.geomspace(1.0, 1.0 / condition, columns)
    return ((left * values) @ right).astype(np.float32)


def _polar(matrix):
    """Polar factor by SciPy in float64."""
    return scipy.linalg.polar(matrix.astype(np.float64))[0]
