# SPDX-License-Identifier: Apache-2.0
"""Carrying rows on disk to the target space, from file to file in constant memory."""

import collections
import concurrent.futures
import contextlib
import functools
import numbers
import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.atomic_files import open_atomically
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.read_ahead import ReadAhead, touch

DTYPES = ("float16", "float32")

_HIGHEST = jax.lax.Precision.HIGHEST
# Rows of a block, batches that wait to be written, bytes between two syncs.
_BLOCK, _WAITING, _SYNC_BYTES = 1024, 2, 1 << 27


def carry_rows(
    amap: AlignmentMap,
    rows: Float[ArrayLike, "n d_source"],
    path: str | os.PathLike[str],
    modality: Modality = "image",
    *,
    space: str | None = None,
    normalize: bool = True,
    dtype: str = "float32",
    batch_size: int = 8192,
    report: Callable[[int], None] = lambda done: None,
) -> Path:
    """Carry rows to the target space and write them as one `.npy` file.

    Reading, computing and writing go on at once; in memory are a few batches, whatever
    the number of rows. The file appears when it is whole.

    Args:
      amap: the map.
      rows: shape ``(n, d_source)``, floating; best mapped from a file by
        ``numpy.load(..., mmap_mode="r")`` or `EmbeddingStore.rows`.
      path: of the file to write; an older one is replaced.
      modality: of the rows.
      space: fingerprint of the space of `rows`; checked if the map knows its own.
      normalize: divide each row that comes out by its norm, as cosine indexes want.
      dtype: of the file, "float16" or "float32".
      batch_size: rows a step.
      report: told the rows written so far.

    Returns:
      The path.

    Raises:
      ValueError: for another dtype, a batch without rows, no row, entries that are out
        of the range of float16, or as the map does. Then no file appears.

    Notes:
      A row that is not finite stays NaN, which no search finds. Cost O(n d_source
      d_target), or what the disk takes if that is longer.

    >>> import tempfile, jaxalign as ja
    >>> rows = np.eye(3, dtype=np.float32)
    >>> amap = ja.fit_map({"image": (rows, rows)})
    >>> path = carry_rows(amap, rows, tempfile.mkdtemp() + "/rows.npy")
    >>> np.load(path).shape
    (3, 3)
    """
    if dtype not in DTYPES:
        raise ValueError(
            f"`carry_rows(dtype={dtype!r})`: expected one of {DTYPES}; float16 halves "
            "the file."
        )
    shape = getattr(rows, "shape", type(rows).__name__)
    whole = isinstance(batch_size, numbers.Integral) and batch_size >= 1
    if not whole or len(shape) != 2 or not shape[0]:
        raise ValueError(
            f"`carry_rows(rows=..., batch_size={batch_size})`: expected an array of "
            f"shape (n, {amap.d_source}) with a row or more and whole batches of at "
            f"least 1, got shape {shape}; read a file by "
            "`numpy.load(path, mmap_mode='r')`."
        )
    target, n = Path(path), rows.shape[0]
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": (n, amap.d_target),
    }
    carry = _batch_carrier(amap, rows, modality, space=space, normalize=normalize)
    unsynced: list[int] = []
    with (
        contextlib.closing(ReadAhead()) as ahead,
        open_atomically(target) as stream,
        concurrent.futures.ThreadPoolExecutor(1) as writer,
    ):
        np.lib.format.write_array_header_1_0(stream, header)

        def write(carried: jax.Array) -> int:
            with np.errstate(over="ignore"):
                block = np.asarray(carried).astype(dtype, copy=False)
            # Float32 has the range of what was computed, and costs no look.
            if dtype == "float16" and np.any(np.isinf(block)):
                raise ValueError(
                    "`carry_rows(dtype='float16')`: expected entries up to 65504, got "
                    f"{float(np.nanmax(np.abs(carried))):.3g}; pass normalize=True, or "
                    "dtype='float32'."
                )
            stream.write(block.data.cast("B"))
            unsynced.append(block.nbytes)
            if sum(unsynced) >= _SYNC_BYTES:
                # Bit by bit: else the disk would be idle now, and busy at the end.
                stream.flush()
                os.fsync(stream.fileno())
                unsynced.clear()
            return len(block)

        done = 0
        pending: collections.deque[concurrent.futures.Future[int]] = collections.deque()
        for start in range(0, n, batch_size):
            carried = carry(rows[start : start + batch_size])
            following = rows[start + batch_size : start + 2 * batch_size]
            ahead.start(lambda following=following: touch(following))
            while len(pending) >= _WAITING:
                # Batches are written while others are computed.
                done += pending.popleft().result()
                report(done)
            pending.append(writer.submit(write, carried))
        for written in pending:
            done += written.result()
            report(done)
    return target


def _batch_carrier(
    amap: AlignmentMap, rows, modality: Modality, *, space, normalize: bool
) -> Callable[[ArrayLike], jax.Array]:
    """Return what carries a batch: a product and a sum where the map is a matrix."""
    # What is wrong with the rows or the names shows on the first.
    amap(rows[:1], modality, space=space)
    if amap.kind == "mlp":
        return lambda batch: amap(batch, modality, normalize=normalize)
    scaled = amap.scales[modality] * amap.matrix
    moved = jnp.matmul(scaled, amap.source_means[modality], precision=_HIGHEST)
    offset = amap.target_means[modality] - moved

    def carry(batch: ArrayLike) -> jax.Array:
        # Aligned rows of a memory map are used where they lie.
        return _carry(jax.device_put(batch), scaled, offset, normalize=normalize)

    return carry


@functools.partial(jax.jit, static_argnames="normalize")
def _carry(rows, matrix, offset, *, normalize):
    """Carry rows in blocks that stay in the cache."""

    def block(part):
        # (k, d_source) @ (d_source, d_target)
        part = part.astype(matrix.dtype)
        moved = jnp.matmul(part, matrix.T, precision=_HIGHEST) + offset[None, :]
        if not normalize:
            return moved
        norms = jnp.linalg.norm(moved, axis=-1, keepdims=True)
        return moved / jnp.maximum(norms, float(jnp.finfo(moved.dtype).tiny))

    n, width = rows.shape
    if n % _BLOCK or n <= _BLOCK:
        return block(rows)
    carried = jax.lax.map(block, rows.reshape(-1, _BLOCK, width))
    return carried.reshape(n, -1)
