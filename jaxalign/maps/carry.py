# SPDX-License-Identifier: Apache-2.0
"""Carrying rows on disk to the target space, from file to file in constant memory."""

import collections
import concurrent.futures
import contextlib
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.atomic_files import open_atomically
from jaxalign.buckets import pad_to_bucket
from jaxalign.errors import ArgumentError, check_count, check_option, check_path
from jaxalign.float_rows import check_float_rows, native_floats, wide_dtype
from jaxalign.maps.alignment_map import AlignmentMap, check_map
from jaxalign.maps.norms import check_norms, norm_range, rescale_rows
from jaxalign.precise import product
from jaxalign.read_ahead import ReadAhead, touch
from jaxalign.unit_rows import unit_rows

DTYPES = ("float16", "float32")

# Rows of a block, batches that wait to be written, bytes between two syncs.
_BLOCK, _WAITING, _SYNC_BYTES = 1024, 2, 1 << 27


def carry_rows(
    amap: AlignmentMap,
    rows: Float[ArrayLike, "n d_source"],
    path: str | os.PathLike[str],
    modality: Modality | None = None,
    *,
    space: str | None = None,
    normalize: bool = True,
    normalize_input: bool = False,
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
      modality: of the rows; may be left out where the map holds one alone.
      space: fingerprint of the space of `rows`; checked if the map knows its own.
      normalize: divide each row that comes out by its norm, as cosine indexes want.
      normalize_input: bring each row to the norm of the anchors first, see
        `AlignmentMap`.
      dtype: of the file, "float16" or "float32".
      batch_size: rows a step.
      report: told the rows written so far.

    Returns:
      The path.

    Raises:
      ValueError: for another dtype, a batch without rows, no row, entries that are out
        of the range of float16, or as the map does (norms unlike those of the anchors
        are met batch by batch). Then no file appears.

    Notes:
      A row that is not finite stays NaN, which no search finds. Cost O(n d_source
      d_target), or what the disk takes if that is longer.

    >>> import tempfile, jaxalign as ja
    >>> rows = np.eye(3, dtype=np.float32)
    >>> amap = ja.fit_map((rows, rows))
    >>> path = carry_rows(amap, rows, tempfile.mkdtemp() + "/rows.npy")
    >>> np.load(path).shape
    (3, 3)
    """
    check_option("carry_rows", "dtype", dtype, DTYPES, remedy="float16 halves the file")
    check_count("carry_rows", "batch_size", batch_size)
    target = check_path("carry_rows", "path", path)
    check_map("carry_rows", "amap", amap)
    rows = check_float_rows("carry_rows", "rows", rows, width=amap.d_source)
    if not rows.shape[0]:
        raise ArgumentError(
            "carry_rows(rows=...)",
            f"one row or more of shape (n, {amap.d_source})",
            "none",
            "read a file by `numpy.load(path, mmap_mode='r')`",
        )
    modality = amap.check_modality("carry_rows(modality={})", modality)
    n = rows.shape[0]
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": (n, amap.d_target),
    }
    carry = _batch_carrier(
        amap,
        rows,
        modality,
        space=space,
        normalize=normalize,
        normalize_input=normalize_input,
    )
    unsynced: list[int] = []
    with (
        contextlib.closing(ReadAhead()) as ahead,
        open_atomically(target) as stream,
        concurrent.futures.ThreadPoolExecutor(1) as writer,
    ):
        np.lib.format.write_array_header_1_0(stream, header)

        def write(batch: _Carried) -> int:
            batch.check()
            carried = np.asarray(batch.rows)[: batch.count]
            with np.errstate(over="ignore"):
                block = carried.astype(dtype, copy=False)
            # Float32 has the range of what was computed, and costs no look.
            if dtype == "float16" and np.any(np.isinf(block)):
                raise ArgumentError(
                    "carry_rows(dtype='float16')",
                    "entries up to 65504",
                    f"{float(np.nanmax(np.abs(carried))):.3g}",
                    "pass normalize=True, or dtype='float32'",
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


class _Carried(NamedTuple):
    """A batch on its way to the file: carried rows, padded, and the norms that came."""

    rows: jax.Array
    count: int
    low: jax.Array
    high: jax.Array
    norms: jax.Array | None

    def check(self) -> None:
        """Raise for rows whose norms lie outside those of the map's anchors."""
        if self.norms is not None:
            check_norms("carry_rows(rows=...)", self.low, self.high, self.norms)


def _batch_carrier(
    amap: AlignmentMap,
    rows: ArrayLike,
    modality: Modality,
    *,
    space: str | None,
    normalize: bool,
    normalize_input: bool,
) -> Callable[[ArrayLike], _Carried]:
    """Return what carries a batch: a product and a sum where the map is a matrix."""
    # What is wrong with the rows or the names shows on the first.
    amap(rows[:1], modality, space=space, normalize_input=normalize_input)
    part = amap.numbers.part(modality)
    norms = part.source_norms
    if part.residual is not None:

        def carry_by_map(batch: ArrayLike) -> _Carried:
            moved = amap(
                batch, modality, normalize=normalize, normalize_input=normalize_input
            )
            return _Carried(moved, len(batch), moved, moved, None)

        return carry_by_map
    wide = jax.tree.map(lambda leaf: leaf.astype(wide_dtype(leaf.dtype)), part)
    scaled = wide.scale * wide.matrix
    moved_mean = product(scaled, wide.source_mean)
    offset = wide.target_mean - moved_mean
    checked = None if normalize_input else norms

    def carry(batch: ArrayLike) -> _Carried:
        # Aligned rows of a memory map are used where they lie; the last batch is
        # padded, so that few programs serve files of any length.
        padded = jax.device_put(pad_to_bucket(native_floats(batch)))
        moved, low, high = _carry(
            padded,
            scaled,
            offset,
            norms,
            normalize=normalize,
            normalize_input=normalize_input,
        )
        return _Carried(moved, batch.shape[0], low, high, checked)

    return carry


@functools.partial(jax.jit, static_argnames=("normalize", "normalize_input"))
def _carry(rows, matrix, offset, norms, *, normalize, normalize_input):
    """Carry rows in blocks that stay in the cache; with their range of norms."""

    def block(part):
        # (k, d_source) @ (d_source, d_target)
        part = part.astype(matrix.dtype)
        low, high = norm_range(part)
        if normalize_input:
            part = rescale_rows(part, norms)
        moved = product(part, matrix.T) + offset[None, :]
        if normalize:
            moved = unit_rows(moved)
        return moved, low, high

    n, width = rows.shape
    if n % _BLOCK or n <= _BLOCK:
        return block(rows)
    moved, low, high = jax.lax.map(block, rows.reshape(-1, _BLOCK, width))
    return moved.reshape(n, -1), jnp.min(low), jnp.max(high)
