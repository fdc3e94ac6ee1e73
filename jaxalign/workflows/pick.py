# SPDX-License-Identifier: Apache-2.0
"""Pick the rows of a store that should be embedded with the new model first."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxalign.anchors.pick import draw_pool, pick_rows
from jaxalign.atomic_files import write_atomically
from jaxalign.errors import ArgumentError
from jaxalign.rows import open_rows
from jaxalign.workflows.outputs import check_new_file
from jaxalign.workflows.progress import progress

BATCH_SIZE = 4096


class Picked(NamedTuple):
    """What was picked.

    Attributes:
      numbers: of the rows, the most useful first.
      ids: of these rows, or None where the store has none.
      rows: in the store.
      modality: whose rows were compared.
      path: of the file that was written, or None.
    """

    numbers: np.ndarray
    ids: np.ndarray | None
    rows: int
    modality: str
    path: Path | None


def pick(
    reference: str,
    n: int,
    *,
    seed: int = 0,
    out: str | None = None,
    modality: str | None = None,
    id_column: str | None = None,
    overwrite: bool = False,
    call: str = "jaxalign pick",
) -> Picked:
    """Pick rows that cover a store, and write their ids, or row numbers, to a file.

    Args:
      reference: see `open_rows`.
      n: how many to pick.
      seed: of the draw from a large store, and of ties.
      out: a text file, one id or row number a line, the most useful first.
      modality: whose rows count. Default: the only one, or "image".
      id_column: of a foreign folder or a parquet file.
      overwrite: replace `out`.
      call: named in errors.

    Raises:
      ValueError: for a reference that cannot be read, an `out` that cannot be written,
        or more rows than there are.
    """
    path = None if out is None else check_new_file(out, "--out", overwrite=overwrite)
    rows = open_rows(reference, id_column=id_column, call=call, argument="ROWS")
    name = modality or next(iter(rows.rows))
    if modality is None and "image" in rows.rows:
        name = "image"
    if name not in rows.rows:
        expected = f"one of {', '.join(rows.rows)}"
        raise ArgumentError("--modality", expected, repr(name))
    if not 1 <= n <= len(rows):
        expected = f"1 to {len(rows):,}, the rows of {reference}"
        raise ArgumentError("--n", expected, n, "pick fewer")
    pool = draw_pool(len(rows), n, seed=seed)
    width = rows.rows[name].shape[1]
    drawn = np.empty((len(pool), width), np.float32)
    with progress(f"Reading {name} rows", len(pool), "rows") as report:
        for start in range(0, len(pool), BATCH_SIZE):
            part = slice(start, start + BATCH_SIZE)
            drawn[part] = rows.rows[name].take(pool[part])
            report(min(start + BATCH_SIZE, len(pool)))
    numbers = pool[pick_rows(drawn, n, seed=seed)]
    ids = None
    if rows.has_ids:
        ids = np.array([_id_of(rows, int(number)) for number in numbers])
    if path is not None:
        lines = numbers if ids is None else ids
        write_atomically(path, "".join(f"{one}\n" for one in lines).encode())
    return Picked(numbers, ids, len(rows), name, path)


def _id_of(rows, number: int) -> str:
    """Read one id."""
    return str(rows.ids(number, number + 1)[0])
