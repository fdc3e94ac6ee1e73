# SPDX-License-Identifier: Apache-2.0
"""Looking at every row of a user's anchors once, before anything is fitted on them.

Is each row finite and not zero, how long is it, and how large are its entries? Rows on
an accelerator are looked at there.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxalign.array_types import ArrayLike
from jaxalign.buckets import pad_to_bucket
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import check_float_rows, native_floats

_BLOCK = 65536


class Inspected(NamedTuple):
    """One side's rows and what looking at them has shown.

    Attributes:
      rows: ``(n, d)``, NumPy (memory-mapped too) or JAX.
      finite: ``(n,)``.
      nonzero: ``(n,)``.
      norms: ``(n,)``.
      largest: the largest entry of finite rows, by absolute value.
    """

    rows: ArrayLike
    finite: Bool[np.ndarray, " n"]
    nonzero: Bool[np.ndarray, " n"]
    norms: Float[np.ndarray, " n"]
    largest: float

    @property
    def good(self) -> Bool[np.ndarray, " n"]:
        """True for rows that can be embeddings."""
        return self.finite & self.nonzero


def as_float(rows: Any) -> np.ndarray:
    """Rows in the accumulation dtype: half precision overflows before it is checked."""
    return np.asarray(rows).astype(jax.dtypes.canonicalize_dtype(float), copy=False)


def inspect_sides(
    argument: str,
    sides: dict[str, ArrayLike],
    *,
    paired: bool,
    skip_bad: bool,
) -> dict[str, Inspected]:
    """Look at source and target rows, and raise for what cannot be embeddings.

    Args:
      argument: the call and the argument, named in errors.
      sides: "source" and "target" rows.
      paired: whether row i of both sides is one anchor.
      skip_bad: accept rows that are not finite or are zero, if two good ones are left.
    """
    seen = {side: _look(rows) for side, rows in sides.items()}
    if not skip_bad:
        _refuse_bad(argument, seen)
    for side, found in seen.items():
        _check_size(argument, side, found.largest)
    good = [found.good for found in seen.values()]
    counted = [np.logical_and(*good)] if paired else good
    for rows in counted:
        if rows.sum() < 2:
            raise ArgumentError(
                argument,
                "at least 2 anchors whose rows are finite and not zero",
                f"{int(rows.sum())} of {len(rows)}",
                "embed them again",
            )
    return seen


def stay(call: str, argument: str, rows: Any) -> ArrayLike:
    """Validate rows, and leave them where they are, but those split over devices."""
    rows = check_float_rows(call, argument, rows)
    if isinstance(rows, jax.Array) and len(rows.sharding.device_set) > 1:
        return np.asarray(rows)
    if isinstance(rows, np.ndarray) and not isinstance(rows, np.memmap):
        return native_floats(rows)
    return rows


def good_rows(rows: ArrayLike) -> Bool[np.ndarray, " n"]:
    """Tell which rows are finite and not zero, block by block on the host."""
    return _look(rows).good if rows.shape[0] else np.zeros(0, bool)


def _refuse_bad(argument: str, seen: dict[str, Inspected]) -> None:
    """Raise for rows that are not finite, or zero, on both sides in one message."""
    for fault, name in (("finite", "finite"), ("nonzero", "nonzero")):
        bad = {side: ~getattr(found, name) for side, found in seen.items()}
        counts = " and ".join(
            f"{int(rows.sum())} {side} rows that are not, the first at row "
            f"{int(np.argmax(rows))}"
            for side, rows in bad.items()
            if rows.any()
        )
        if counts:
            raise ArgumentError(
                argument,
                f"{fault} rows",
                counts,
                "drop these pairs on both sides, as `Anchors(..., skip_bad=True)` "
                "does, or embed them again",
            )


def _look(rows: ArrayLike) -> Inspected:
    """Look at the rows of one side, block by block on the host."""
    n = rows.shape[0]
    if isinstance(rows, jax.Array):
        finite, nonzero, norms, largest = jax.device_get(
            _look_on_device(pad_to_bucket(rows))
        )
        return Inspected(rows, finite[:n], nonzero[:n], norms[:n], float(largest))
    parts = [
        _look_at_block(as_float(rows[start : start + _BLOCK]))
        for start in range(0, n, _BLOCK)
    ]
    finite, nonzero, norms, largest = zip(*parts, strict=True)
    return Inspected(
        rows,
        np.concatenate(finite),
        np.concatenate(nonzero),
        np.concatenate(norms),
        max(largest),
    )


def _look_at_block(
    rows: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Look at rows in memory, in one pass where nothing is wrong."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squares = np.einsum("nd,nd->n", rows, rows)
        largest = float(np.max(np.abs(rows), initial=0.0))
    finite = np.asarray(np.isfinite(squares))
    if not finite.all():
        # Either not finite, or so large that its square is not.
        finite = np.asarray(np.all(np.isfinite(rows), axis=1))
        largest = float(np.max(np.abs(rows[finite]), initial=0.0))
    nonzero = squares != 0
    if not nonzero.all():
        nonzero = np.asarray(np.any(rows, axis=1))
    with np.errstate(invalid="ignore"):
        return finite, nonzero, np.sqrt(squares), largest


@jax.jit
def _look_on_device(rows):
    """Look at rows where they are."""
    rows = rows.astype(jax.dtypes.canonicalize_dtype(float))
    finite = jnp.all(jnp.isfinite(rows), axis=1)
    sizes = jnp.where(finite[:, None], jnp.abs(rows), jnp.zeros_like(rows))
    norms = jnp.linalg.norm(rows, axis=1)
    return finite, jnp.any(rows != 0, axis=1), norms, jnp.max(sizes)


def _check_size(argument, side, largest) -> None:
    """Raise for rows whose squares would overflow in a sum, or vanish."""
    limits = jnp.finfo(jax.dtypes.canonicalize_dtype(float))
    # The factors leave room for 1e10 summed squares, and for spreads 1e-5 of the size.
    high, low = 1e-5 * float(limits.max) ** 0.5, 1e5 * float(limits.tiny) ** 0.5
    if not low <= largest <= high:
        raise ArgumentError(
            argument,
            f"{side} rows of a size between {low:.0e} and {high:.0e}",
            f"a largest entry of {largest:.0e}, whose square is out of the range of "
            f"{limits.dtype}",
            "normalise the rows, such as each by its norm",
        )
