# SPDX-License-Identifier: Apache-2.0
"""Carrying rows on disk to the target space, from file to file in constant memory."""

import concurrent.futures
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
      ValueError: for another dtype, a batch without rows, no row, or as the map does.

    Notes:
      Cost O(n d_source d_target), or what the disk takes if that is longer.

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
    if batch_size < 1 or rows.ndim != 2 or not rows.shape[0]:
        raise ValueError(
            f"`carry_rows(rows=..., batch_size={batch_size})`: expected rows of shape "
            f"(n, {amap.d_source}) and batches of at least 1, got shape {rows.shape}."
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
            block = np.asarray(carried).astype(dtype, copy=False)
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
