# SPDX-License-Identifier: Apache-2.0
"""Rows as real models make them, for timing: on a cone, of norm 1, paired by a turn."""

from pathlib import Path

import jax
import numpy as np
from tqdm import tqdm

MEAN_NORM = 0.93
"""Of the rows of a narrow text space (FIELD figures of sentence encoders)."""

# What JAX's buffers are aligned to: rows so placed are used where they lie.
_ALIGNMENT = 64


def aligned(rows: int, width: int) -> np.ndarray:
    """Allocate float32 rows that NumPy, torch and JAX can share without a copy."""
    size = rows * width * 4
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    offset = -memory.ctypes.data % _ALIGNMENT
    return memory[offset : offset + size].view(np.float32).reshape(rows, width)


def cone_pairs(n: int, d: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw n paired unit rows of width d, in memory."""
    pair = aligned(n, d), aligned(n, d)
    for start in range(0, n, 50_000):
        stop = min(start + 50_000, n)
        block = draw(stop - start, d, seed, start)
        for side, rows in zip(pair, block, strict=True):
            side[start:stop] = rows
    return pair


def write_cone_pairs(folder: Path, n: int, d: int) -> tuple[Path, Path]:
    """Write n paired unit rows as two `.npy` files, block by block."""
    block = 100_000
    paths = folder / "source.npy", folder / "target.npy"
    files = [
        np.lib.format.open_memmap(path, "w+", np.float32, (n, d)) for path in paths
    ]
    # Rows repeat after a block: products take as long, and drawing takes none.
    drawn = draw(min(block, n), d, 0, 0)
    for start in tqdm(range(0, n, block), desc="Writing rows", leave=False):
        stop = min(start + block, n)
        for file, rows in zip(files, drawn, strict=True):
            file[start:stop] = rows[: stop - start]
    for file in files:
        file.flush()
    return paths


def draw(n: int, d: int, seed: int, start: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one block of unit rows on two cones, of widths that fall off."""
    turn = np.asarray(jax.random.orthogonal(jax.random.key(seed), d))
    rng = np.random.default_rng((seed, start))
    spread = np.sqrt((1 - MEAN_NORM**2) / d) * np.geomspace(2.0, 0.2, d)
    latent = rng.standard_normal((n, d), dtype=np.float32) * spread.astype(np.float32)
    noise = rng.standard_normal((n, d), dtype=np.float32) * np.float32(0.3 * spread[-1])
    source = latent + MEAN_NORM * turn[0]
    target = latent @ turn.T + noise + MEAN_NORM * turn[1]
    return tuple(
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (source, target)
    )
