# SPDX-License-Identifier: Apache-2.0
"""One table of solvers, shapes, dtypes and conditions, and makers of test matrices."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jaxalign as ja

# (d_target, d_source): square, wider target, wider source.
SHAPES = ((16, 16), (24, 16), (16, 24))
# At 1 all singular values are tied; at 1e5 float32 is close to its end.
CONDITIONS = (1.0, 10.0, 1e3, 1e5)
METHODS = ("svd", "qdwh", "newton_schulz")
ITERATIVE = ("qdwh", "newton_schulz")
DTYPES = (np.float32, np.float64)

# What compiles anew; conditions, ranks and ties run inside each case.
POLAR_CASES = (
    ("svd", SHAPES[0], np.float64),
    ("svd", SHAPES[2], np.float32),
    ("qdwh", SHAPES[0], np.float64),
    ("qdwh", SHAPES[1], np.float32),
    ("newton_schulz", SHAPES[0], np.float64),
    ("newton_schulz", SHAPES[2], np.float32),
)
"""Each method square and not, in both dtypes; the table of solvers has the others."""

ANCHORS = 48
"""Rows of every problem of the table of solvers; fewer by weights of 0."""


@dataclasses.dataclass(frozen=True)
class SolverCase:
    """A way to a map from paired rows, and what is promised of it.

    Attributes:
      name: of the test.
      shape: ``(d_target, d_source)``.
      dtype: of the rows and of all that comes of them.
      solve: from `Moments`, or from ``(source, target, weights)`` if `by_rows`.
      loss: what the map is the optimum of.
      matrix: reads the map off the solution.
      by_rows: whether single rows are asked for.
      isometry: whether the map is orthonormal along its shorter side.
      proper: whether its determinant is +1.
      descent: whether the optimum is found by iteration on the maps.
      needs_rank: whether rows that leave the map open must not pass.
    """

    name: str
    shape: tuple[int, int]
    dtype: Any
    solve: Callable[..., Any]
    loss: Literal["trace", "squares", "scaled squares", "ridge", "weighted"]
    matrix: Callable[[Any], jax.Array]
    by_rows: bool = False
    isometry: bool = True
    proper: bool = False
    descent: bool = False
    needs_rank: bool = True

    def __str__(self) -> str:
        return f"{self.name}-{'x'.join(map(str, self.shape))}-{self.dtype.__name__}"

    @property
    def square(self) -> bool:
        """Whether the widths are equal."""
        return self.shape[0] == self.shape[1]

    def x64(self):
        """Enable float64 where the case is one; it costs compilations elsewhere."""
        wide = self.dtype == np.float64
        return jax.enable_x64(True) if wide else contextlib.nullcontext()

    def rows(self, seed, **options) -> tuple[np.ndarray, np.ndarray]:
        """Draw correlated rows of the case's widths and dtype."""
        rng = np.random.default_rng(seed)
        d_target, d_source = self.shape
        return rows_pair(
            rng, ANCHORS, d_source, d_target, dtype=self.dtype, mean=0.9, **options
        )

    def run(self, source, target, weights=None) -> Any:
        """Solve from rows of the table's number, all of weight 1 by default."""
        weights = np.ones(ANCHORS) if weights is None else weights
        rows = source, target, weights.astype(self.dtype)
        with self.x64():
            return (
                self.solve(*rows) if self.by_rows else self.solve(table_moments(*rows))
            )


def solver_cases() -> Iterator[SolverCase]:
    """Yield the table: methods x shapes x dtypes of every solver of the package."""
    square, tall, wide = (6, 6), (9, 6), (6, 9)
    single, double = DTYPES
    for method, shape, dtype in (
        ("svd", square, single),
        ("svd", square, double),
        ("svd", tall, single),
        ("qdwh", square, single),
        ("newton_schulz", square, single),
    ):
        yield SolverCase(
            f"polar-{method}",
            shape,
            dtype,
            functools.partial(_polar, method=method),
            "trace",
            matrix=lambda found: found.factor,
            needs_rank=method != "svd",
        )
    # What Procrustes makes of a factor, it makes of that of any method.
    yield _procrustes(square, single)
    yield _procrustes(square, double)
    yield _procrustes(square, single, proper=True)
    yield _procrustes(square, single, method="newton_schulz", proper=True)
    yield _procrustes(square, single, scale="least_squares")
    yield _procrustes(tall, single, scale="energy")
    yield _procrustes(wide, single, objective="trace", method="qdwh")
    yield _procrustes(wide, double)
    yield _procrustes(wide, single, scale="least_squares")
    for ridge, shape in itertools.product((0.0, 0.1), (square, wide)):
        yield SolverCase(
            f"linear-{ridge}",
            shape,
            single,
            functools.partial(ja.solve.solve_linear, ridge=ridge),
            "ridge",
            matrix=lambda found: found.matrix,
            isometry=False,
            needs_rank=ridge == 0,
        )
    for loss, shape in (("tukey", square), ("huber", tall), ("l1", square)):
        yield SolverCase(
            f"robust-{loss}",
            shape,
            single,
            functools.partial(_robust, loss=loss),
            "weighted",
            matrix=lambda found: found.rotation,
            by_rows=True,
            descent=True,
        )
    yield SolverCase(
        "consensus",
        square,
        single,
        _consensus,
        "squares",
        matrix=lambda found: found.between(0, 1),
        by_rows=True,
        descent=True,
    )


def _procrustes(shape, dtype, *, objective=None, **options):
    """Make a case of Procrustes; options of the call are spelt out in its name."""
    wide = shape[0] < shape[1]
    scaled = options.get("scale") == "least_squares"
    squares = "scaled squares" if scaled else "squares"
    named = [str(value) for value in (*options.values(), objective) if value]
    return SolverCase(
        "-".join(["procrustes", *named]).replace("True", "proper"),
        shape,
        dtype,
        functools.partial(ja.solve.solve_procrustes, objective=objective, **options),
        "trace" if objective == "trace" else squares,
        matrix=lambda found: found.rotation,
        proper=options.get("proper", False),
        descent=wide and objective != "trace",
    )


def _polar(moments, method):
    return ja.solve.polar_factor(moments.cross_covariance, method=method)


def _robust(source, target, weights, loss):
    return ja.solve.solve_robust(source, target, weights=weights, loss=loss)


def _consensus(source, target, weights):
    # The third model sees what the second sees, turned: it adds no opinion.
    pairs = ((source, target), (target, target[:, ::-1]), (target[:, ::-1], source))
    moments = [table_moments(*pair, weights) for pair in pairs]
    return ja.solve.solve_consensus(moments, ((0, 1), (1, 2), (2, 0)))


def table_moments(source, target, weights) -> ja.Moments:
    """Moments with Grams, of as many rows as they are."""
    empty = ja.moments.init_moments(source.shape[1], target.shape[1], grams=True)
    return ja.moments.update_moments(
        empty, source, target, weights=jnp.asarray(weights)
    )


def accepted(found) -> bool:
    """Whether a solution says that it may be used."""
    if isinstance(found, ja.solve.PolarFactor):
        return bool(found.converged)
    return int(found.status) == ja.Status.OK


def orthonormal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Orthonormal columns (rows, if there are fewer), in float64."""
    tall = rng.standard_normal((max(rows, columns), min(rows, columns)))
    q, _ = np.linalg.qr(tall)
    return q if rows >= columns else q.T


def prescribed(rng, shape, condition, *, rank=None, dtype=np.float32) -> np.ndarray:
    """Make a matrix with singular values from 1 down to 1 / condition, then zeros."""
    k = min(shape)
    rank = k if rank is None else rank
    values = np.zeros(k)
    values[:rank] = np.geomspace(1.0, 1.0 / condition, rank)
    left, right = orthonormal(rng, shape[0], k), orthonormal(rng, k, shape[1])
    return ((left * values) @ right).astype(dtype)


def rows_pair(rng, n, d_source, d_target, *, noise=0.3, mean=0.0, dtype=np.float32):
    """Correlated rows, source and target, each about a mean of the given norm."""
    mix = orthonormal(rng, d_target, d_source)
    source = rng.standard_normal((n, d_source)) * np.geomspace(1.0, 0.5, d_source)
    target = source @ mix.T + noise * rng.standard_normal((n, d_target))
    return tuple(
        (side + mean * np.ones(side.shape[1]) / np.sqrt(side.shape[1])).astype(dtype)
        for side in (source, target)
    )


def planted_rows(rng, n, d, *, reflect=False, noise=0.0, means=(0.0, 0.0)):
    """Rows related by a square planted rotation of known determinant, and it."""
    rotation = orthonormal(rng, d, d)
    wanted = -1.0 if reflect else 1.0
    rotation[:, 0] *= wanted * np.sign(np.linalg.det(rotation))
    source = rng.standard_normal((n, d)) / np.sqrt(d)
    target = source @ rotation.T + noise * rng.standard_normal((n, d)) / np.sqrt(d)
    directions = orthonormal(rng, 2, d) if d > 1 else np.ones((2, 1))
    source, target = (
        (side + mean * direction).astype(np.float32)
        for side, mean, direction in zip(
            (source, target), means, directions, strict=True
        )
    )
    return source, target, rotation


def moments_of(source, target, *, weights=None, grams=True) -> ja.Moments:
    """Moments of one batch, padded to a few sizes so that tests share compilations."""
    if isinstance(source, np.ndarray):
        size = -(-len(source) // 400) * 400
        source, mask = ja.sharding.pad_rows(source, size)
        target, _ = ja.sharding.pad_rows(target, size)
        weights = mask if weights is None else ja.sharding.pad_rows(weights, size)[0]
        weights = weights.astype(np.float32)
    empty = ja.moments.init_moments(source.shape[1], target.shape[1], grams=grams)
    return ja.moments.update_moments(empty, source, target, weights=weights)


def reference_moments(source, target, weights=None) -> dict[str, np.ndarray]:
    """Compute the same in float64 by NumPy, in one go."""
    x, y = np.asarray(source, np.float64), np.asarray(target, np.float64)
    w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64)
    source_mean, target_mean = w @ x / w.sum(), w @ y / w.sum()
    xc, yc = x - source_mean, y - target_mean
    return {
        "count": w.sum(),
        "source_mean": source_mean,
        "target_mean": target_mean,
        "cross_covariance": (w[:, None] * yc).T @ xc,
        "source_energy": np.sum(w[:, None] * xc**2),
        "target_energy": np.sum(w[:, None] * yc**2),
        "source_gram": (w[:, None] * xc).T @ xc,
        "target_gram": (w[:, None] * yc).T @ yc,
    }


def assert_moments_close(moments, expected, tolerance) -> None:
    """Compare, relative to the energies for sums and to the rows for means."""
    energy = float(
        np.sqrt(np.asarray(expected["source_energy"] * expected["target_energy"]))
    )
    energy = max(
        energy, float(expected["source_energy"]), float(expected["target_energy"])
    )
    for name, value in expected.items():
        found = getattr(moments, name)
        if found is None:
            continue
        size = energy if np.ndim(value) == 2 or "energy" in name else 1.0
        size = max(size, float(np.max(np.abs(value)))) if size == 1.0 else size
        worst = float(np.max(np.abs(np.asarray(found, np.float64) - value)))
        assert worst <= tolerance * size, f"{name}: {worst / size} > {tolerance}"


def as_dict(moments) -> dict[str, np.ndarray]:
    """Make the moments comparable by `assert_moments_close`."""
    names = reference_moments(np.zeros((2, 1)), np.zeros((2, 1)))
    return {
        name: np.asarray(getattr(moments, name), np.float64)
        for name in names
        if getattr(moments, name) is not None
    }


def stack(*trees):
    """Stack PyTrees along a new leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


# Points of the Stiefel manifold: square, tall, wide, a single vector.
POINT_SHAPES = ((6, 6), (9, 5), (5, 9), (7, 1))
RETRACTION_CASES = tuple(
    itertools.product(
        ("qr", "polar", "cayley", "cayley_iterative"), POINT_SHAPES, DTYPES
    )
)


def x64_for(dtype):
    """Float64 needs x64, which costs compilations elsewhere."""
    wide = np.dtype(dtype) == np.float64
    return jax.enable_x64(True) if wide else contextlib.nullcontext()


def tangent_pair(rng, shape, size, *, determinant=None, dtype=np.float64):
    """Make a point and a tangent vector of the given spectral norm, in float64."""
    point = orthonormal(rng, *shape)
    if determinant is not None:
        point[:, 0] *= determinant * np.sign(np.linalg.det(point))
    tall = point if shape[0] >= shape[1] else point.T
    vector = rng.standard_normal(tall.shape)
    inner = tall.T @ vector
    vector = vector - tall @ (inner + inner.T) / 2
    norm = np.linalg.norm(vector, 2)
    vector = vector * (size / norm) if norm > 0 else vector
    vector = vector if shape[0] >= shape[1] else vector.T
    return point.astype(dtype), vector.astype(dtype)


def manifold_error(point) -> float:
    """Largest entry of Q'Q - I on the shorter side, in float64."""
    point = np.asarray(point, np.float64)
    tall = point if point.shape[0] >= point.shape[1] else point.T
    return float(np.max(np.abs(tall.T @ tall - np.eye(tall.shape[1]))))
