# SPDX-License-Identifier: Apache-2.0
"""Reading, carrying and writing blocks of rows at once, in constant memory."""

import collections
import concurrent.futures
from collections.abc import Callable

import jax
import numpy as np

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import native_floats
from jaxalign.maps.carry_block import BLOCK, Block
from jaxalign.maps.norms import check_norms
from jaxalign.read_ahead import touch
from jaxalign.rows.row_set import RowSet
from jaxalign.rows.row_writer import RowWriter

# Steps that wait to be written.
_WAITING = 2


def stream_blocks(
    call: str,
    source: RowSet,
    carriers: dict[Modality, Callable[[ArrayLike], Block]],
    norms: dict[Modality, ArrayLike],
    writer: RowWriter,
    batch_size: int,
    report: Callable[[int], None],
) -> None:
    """Read, carry and write the rows that are not written yet.

    Args:
      call: the call, for errors.
      source: the rows.
      carriers: what carries a block of each modality.
      norms: of the anchors, by modality, where they are known: rows are checked.
      writer: of the output.
      batch_size: rows a step, rounded up to whole blocks.
      report: told the rows that are written so far.
    """
    step = -(-batch_size // BLOCK) * BLOCK
    # On the grid of blocks: rows that are written already are carried again.
    start = writer.done - writer.done % BLOCK
    skipped = writer.done - start

    def read(first: int) -> dict[Modality, np.ndarray]:
        found = {name: rows[first : first + step] for name, rows in source.rows.items()}
        for rows in found.values():
            touch(rows)
        return found

    def write(blocks: list[dict[Modality, Block]], count: int, skip: int) -> int:
        for number, block in enumerate(blocks):
            kept = slice(skip, min(BLOCK, count - number * BLOCK))
            for name, one in block.items():
                _check_block(call, one, norms.get(name), writer.dtypes[name])
            writer.append(
                {
                    name: _to_host(one.rows, writer.dtypes[name])[kept]
                    for name, one in block.items()
                }
            )
            skip = 0
        return count

    done = start
    pending: collections.deque[concurrent.futures.Future[int]] = collections.deque()
    with (
        concurrent.futures.ThreadPoolExecutor(1) as reading,
        concurrent.futures.ThreadPoolExecutor(1) as writing,
    ):
        firsts = range(start, len(source), step)
        following = reading.submit(read, start) if len(firsts) else None
        for first in firsts:
            assert following is not None
            found = following.result()
            following = None
            if first + step < len(source):
                following = reading.submit(read, first + step)
            count = min(step, len(source) - first)
            blocks = [
                {
                    name: carriers[name](_padded(rows, at))
                    for name, rows in found.items()
                }
                for at in range(0, count, BLOCK)
            ]
            while len(pending) >= _WAITING:
                # Steps are written while others are computed.
                done += pending.popleft().result()
                report(done)
            pending.append(writing.submit(write, blocks, count, skipped))
            skipped = 0
        for written in pending:
            done += written.result()
            report(done)


def _padded(rows: np.ndarray, start: int) -> ArrayLike:
    """Return one block of rows on the device; the last is padded by zeros."""
    block = native_floats(rows[start : start + BLOCK])
    if len(block) < BLOCK:
        block = np.concatenate(
            [block, np.zeros((BLOCK - len(block), block.shape[1]), block.dtype)]
        )
    return jax.device_put(block)


def _to_host(rows: jax.Array, dtype: np.dtype) -> np.ndarray:
    """Return rows in the file's dtype: JAX may have none of 64 bits."""
    return np.asarray(rows).astype(dtype, copy=False)


def _check_block(
    call: str, block: Block, norms: ArrayLike | None, dtype: np.dtype
) -> None:
    """Raise for rows unlike the anchors, and for entries that the dtype cannot hold."""
    low, high, largest = map(np.asarray, np.asarray(block.range))
    argument = "rows" if call == "carry_rows" else "source"
    if norms is not None:
        check_norms(f"{call}({argument}=...)", low, high, norms)
    if dtype.name == "float16" and largest > np.finfo(np.float16).max:
        raise ArgumentError(
            f"{call}(dtype='float16')",
            "entries up to 65504",
            f"{largest:.3g}",
            "pass normalize=True, or dtype='float32'",
        )
