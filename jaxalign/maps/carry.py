# SPDX-License-Identifier: Apache-2.0
"""Carrying rows on disk to the target space, from file to file in constant memory."""

import concurrent.futures
import numbers
import os
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.atomic_files import open_atomically
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.read_ahead import ReadAhead, touch

DTYPES = ("float16", "float32")


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
    ahead = ReadAhead()
    with (
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
            return len(block)

        done, pending = 0, None
        for start in range(0, n, batch_size):
            batch = rows[start : start + batch_size]
            carried = amap(batch, modality, space=space, normalize=normalize)
            following = rows[start + batch_size : start + 2 * batch_size]
            ahead.start(lambda following=following: touch(following))
            if pending is not None:
                # One batch is written while this one is computed.
                done += pending.result()
                report(done)
            pending = writer.submit(write, carried)
        if pending is not None:
            report(done + pending.result())
    ahead.close()
    return target
