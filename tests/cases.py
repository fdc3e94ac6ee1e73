# SPDX-License-Identifier: Apache-2.0
"""One table of shapes, dtypes and condition numbers, and makers of test matrices."""

import itertools

import jax
import numpy as np

import jaxalign as ja

# (d_target, d_source): square, wider target, wider source.
SHAPES = ((16, 16), (24, 16), (16, 24))
# At 1 all singular values are tied; at 1e5 float32 is close to its end.
CONDITIONS = (1.0, 10.0, 1e3, 1e5)
METHODS = ("svd", "qdwh", "newton_schulz")
ITERATIVE = ("qdwh", "newton_schulz")
DTYPES = (np.float32, np.float64)

POLAR_CASES = tuple(itertools.product(METHODS, SHAPES, DTYPES))
"""What compiles anew; conditions, ranks and ties run inside each case."""


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
        source, mask = ja.pad_rows(source, size)
        target, _ = ja.pad_rows(target, size)
        weights = mask if weights is None else ja.pad_rows(weights, size)[0]
        weights = weights.astype(np.float32)
    empty = ja.init_moments(source.shape[1], target.shape[1], grams=grams)
    return ja.update_moments(empty, source, target, weights=weights)


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
