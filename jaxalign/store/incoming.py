# SPDX-License-Identifier: Apache-2.0
"""Validating a batch of rows before it is written, and converting it for the disk."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from jaxalign.errors import ArgumentError, shorten
from jaxalign.store.plan import Plan

# Columns that readers of such folders know come first, in this order.
KNOWN_COLUMNS = ("id", "image_path", "caption", "label")
COLUMN_TYPES = {"string": pa.string(), "int64": pa.int64()}


class Batch(NamedTuple):
    """Rows of some examples in order, with their metadata.

    Attributes:
      rows: modality to (n, d) in the plan's dtype, C-contiguous.
      table: n rows of metadata, `id` among them; no columns if n is 0.
      skipped: (id, reason) of examples without a row.
    """

    rows: dict[str, np.ndarray]
    table: pa.Table
    skipped: list[tuple[str, str]]

    @property
    def ids(self) -> list[str]:
        """The rows' ids."""
        return self.table["id"].to_pylist() if self.table.num_columns else []

    @property
    def columns(self) -> dict[str, str]:
        """The metadata's columns, each with its type's name."""
        return {field.name: str(field.type) for field in self.table.schema}


def order_columns(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Put columns in the one order that all parts have.

    >>> list(order_columns({"width": 0, "label": 0, "colour": 0, "id": 0}))
    ['id', 'label', 'colour', 'width']
    """
    known = [name for name in KNOWN_COLUMNS if name in columns]
    others = sorted(set(columns) - set(known))
    return {name: columns[name] for name in [*known, *others]}


def check_batch(
    call: str,
    plan: Plan,
    *,
    rows: Mapping[str, Any],
    ids: Sequence | np.ndarray,
    columns: Mapping[str, Sequence | np.ndarray],
    skipped: Sequence[tuple[str, str]],
) -> Batch:
    """Check a batch and convert it.

    Raises:
      ValueError: if widths, counts, dtypes or columns do not fit, a row is not finite
        in the plan's dtype, or an id comes twice.
    """
    names = _check_ids(call, ids)
    pairs = [(str(name), str(reason)) for name, reason in skipped]
    if not names:
        return Batch(rows={}, table=pa.table({}), skipped=pairs)
    if set(rows) != set(plan.modalities):
        expected = f"rows of {sorted(plan.modalities)}"
        remedy = "append all modalities of an example at once"
        raise ArgumentError(call, expected, sorted(rows), remedy)
    return Batch(
        rows={
            modality: _check_rows(call, plan, modality, rows[modality], names)
            for modality in plan.modalities
        },
        table=_make_table(call, names, columns),
        skipped=pairs,
    )


def _check_ids(call: str, ids: Sequence | np.ndarray) -> list[str]:
    """Validate ids: strings, each once."""
    names = list(ids)
    wrong = [name for name in names if not isinstance(name, str) or "\0" in name]
    if wrong:
        expected = "ids that are strings without NUL"
        raise ArgumentError(call, expected, repr(wrong[0]), "convert them with `str`")
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        remedy = "make them unique, such as by a number"
        raise ArgumentError(call, "ids that differ", f"{twice[0]!r} twice", remedy)
    return [str(name) for name in names]


def _check_rows(
    call: str, plan: Plan, modality: str, given: Any, ids: list[str]
) -> np.ndarray:
    """Return rows in the plan's dtype; raise if it cannot hold them."""
    found = np.asarray(given)
    shape = (len(ids), plan.modalities[modality])
    if found.shape != shape:
        expected = f"{modality} rows of shape {shape}, one for each id"
        remedy = "pass one row an example that is not skipped"
        raise ArgumentError(call, expected, found.shape, remedy)
    # bfloat16 comes from another package, and is not an np.floating.
    if not np.issubdtype(found.dtype, np.floating) and found.dtype.name != "bfloat16":
        remedy = "convert them with `rows.astype(numpy.float32)`"
        raise ArgumentError(call, f"floating {modality} rows", found.dtype, remedy)
    with np.errstate(over="ignore", under="ignore"):
        kept = np.ascontiguousarray(found.astype(plan.storage_dtype, copy=False))
    bad = ~np.isfinite(kept).all(axis=1)
    if not bad.any():
        return kept
    some = shorten([repr(ids[index]) for index in np.flatnonzero(bad)])
    if np.isfinite(found[bad].astype(np.float64)).all():
        expected = f"{modality} rows within {plan.dtype}'s range"
        got = f"{bad.sum()} beyond it, of {some}"
        remedy = "normalise the rows, or create the store with dtype='float32'"
    else:
        expected = f"finite {modality} rows"
        got = f"{bad.sum()} with NaN or infinity, of {some}"
        remedy = "look at these examples, and or pass them as skipped"
    raise ArgumentError(call, expected, got, remedy)


def _make_table(
    call: str, ids: list[str], columns: Mapping[str, Sequence | np.ndarray]
) -> pa.Table:
    """Build the metadata's table."""
    if "id" in columns:
        raise ArgumentError(
            call, "columns beside the ids", "one named 'id'", "leave it out"
        )
    values = order_columns({"id": ids, **columns})
    return pa.table(
        {
            name: _make_column(call, name, column, len(ids))
            for name, column in values.items()
        }
    )


def _make_column(
    call: str, name: str, values: Sequence | np.ndarray, count: int
) -> pa.Array:
    """Convert a column of strings or of whole numbers."""
    plain = list(values.tolist() if isinstance(values, np.ndarray) else values)
    if len(plain) != count:
        expected = f"column {name!r} to have one value for each of the {count} ids"
        remedy = "leave out those of skipped examples"
        raise ArgumentError(call, expected, len(plain), remedy)
    if all(isinstance(value, str) for value in plain):
        kind = pa.string()
    elif all(
        isinstance(value, int | np.integer) and not isinstance(value, bool)
        for value in plain
    ):
        kind = pa.int64()
    else:
        kinds = sorted({type(value).__name__ for value in plain})
        expected = f"column {name!r} to hold strings or whole numbers, all of one kind"
        raise ArgumentError(call, expected, kinds, "convert them with `str` or `int`")
    try:
        return pa.array(plain, type=kind)
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        expected = f"column {name!r} to fit {kind}"
        remedy = "convert or leave out what does not"
        raise ArgumentError(call, expected, str(error), remedy) from error
