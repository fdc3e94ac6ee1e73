# SPDX-License-Identifier: Apache-2.0
"""What the rows alone tell: one pass over a store, in constant memory, by NumPy alone.

Nothing here judges: `RowHealth` counts what is not finite, zero, equal or constant, and
keeps the norms and a sample; what that means for a map is said where the map is known.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

SHOWN = 5
SAMPLE = 4096
# Rows that are compared with each other: 8 bytes each.
MOST_COMPARED = 1 << 22
_SEED = 0


class Faulty(NamedTuple):
    """Rows with one fault.

    Attributes:
      count: how many.
      first: numbers of the first few.
    """

    count: int
    first: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class RowHealth:
    """One matrix of rows, as a pass over it found it.

    Attributes:
      rows: number of rows.
      width: their width.
      not_finite: rows with NaN or infinity.
      zero: rows of zeros.
      repeated: rows equal to an earlier one, among the first `compared`.
      compared: rows that were compared with each other.
      norms: smallest, root mean square and largest norm of the other rows; NaN if there
        is none.
      mean: of these, ``(width,)``, float64.
      constant: numbers of the columns that hold one value.
      half_values: whether every number has a float16 of the same value.
      sample: finite rows that are not zero, ``(s, width)``, drawn evenly.
    """

    rows: int
    width: int
    not_finite: Faulty
    zero: Faulty
    repeated: Faulty
    compared: int
    norms: tuple[float, float, float]
    mean: Float[np.ndarray, " width"]
    constant: Int[np.ndarray, " c"]
    half_values: bool
    sample: Float[np.ndarray, "s width"]

    @property
    def bad(self) -> int:
        """Rows that cannot be embeddings: not finite, or zero."""
        return self.not_finite.count + self.zero.count


def examine_rows(
    batches: Iterable[np.ndarray],
    *,
    rows: int,
    width: int,
    sample: int = SAMPLE,
    report: Callable[[int], None] = lambda done: None,
) -> RowHealth:
    """Pass over rows once and count what is wrong with them.

    Args:
      batches: consecutive rows, ``(n, width)`` each, floating; all of `rows`.
      rows: number of all rows.
      width: of the rows.
      sample: rows to keep, at most; every so-and-so-manyth.
      report: told the rows looked at so far.

    Returns:
      What was found.

    Notes:
      Memory is a batch, the sample, and 8 bytes for each of the first four million
      rows, by which equal ones are found. Cost O(rows width).

    >>> found = examine_rows([np.array([[3.0, 4.0], [0.0, 0.0]])], rows=2, width=2)
    >>> found.norms[2], found.zero
    (5.0, Faulty(count=1, first=(1,)))
    """
    faults: dict[str, tuple[int, list[int]]] = {"finite": (0, []), "zero": (0, [])}
    low, high, squares, good_rows = np.inf, 0.0, 0.0, 0
    total = np.zeros(width)
    least, most = np.full(width, np.inf), np.full(width, -np.inf)
    kept: list[np.ndarray] = []
    hashes: list[np.ndarray] = []
    half, done = True, 0
    step = max(1, -(-rows // max(1, sample)))
    weights = _hash_weights(width)
    for arrived in batches:
        batch = np.asarray(arrived)
        wide = np.float64 if batch.dtype.itemsize > 4 else np.float32
        batch = batch.astype(wide, copy=False)
        half = half and (arrived.dtype == np.float16 or _is_half(batch))
        numbers = done + np.arange(len(batch))
        finite = np.asarray(np.isfinite(batch).all(axis=1))
        # Entries that are not finite have no norm; they are counted apart.
        clean = batch if finite.all() else np.where(finite[:, None], batch, 0)
        energy = np.einsum("nd,nd->n", clean, clean, dtype=np.float64)
        zero = finite & ~np.asarray(clean.any(axis=1))
        good = finite & ~zero
        for name, faulty in (("finite", ~finite), ("zero", zero)):
            count, first = faults[name]
            first += numbers[faulty][: SHOWN - len(first)].tolist()
            faults[name] = (count + int(faulty.sum()), first)
        if good.any():
            norms = np.sqrt(energy[good])
            low, high = min(low, norms.min()), max(high, norms.max())
            squares += float(energy.sum())
            good_rows += int(good.sum())
            total += clean.sum(axis=0, dtype=np.float64)
            of_good = clean[good]
            np.minimum(least, of_good.min(axis=0), out=least)
            np.maximum(most, of_good.max(axis=0), out=most)
            kept.append(clean[good & (numbers % step == 0)].astype(np.float32))
        if done < MOST_COMPARED:
            hashes.append(_hashes(clean[: MOST_COMPARED - done], weights))
            hashes[-1][~good[: len(hashes[-1])]] = 0
        done += len(batch)
        report(done)
    typical = float(np.sqrt(squares / good_rows)) if good_rows else np.nan
    joined = np.concatenate([*hashes, np.zeros(0, np.uint64)])
    return RowHealth(
        rows=done,
        width=width,
        not_finite=_faulty(*faults["finite"]),
        zero=_faulty(*faults["zero"]),
        repeated=_repeated(joined),
        compared=len(joined),
        norms=(
            (float(low), typical, float(high)) if good_rows else (np.nan,) * 3  # pyright: ignore[reportArgumentType]
        ),
        mean=total / max(1, good_rows),
        constant=np.flatnonzero((least == most) & (good_rows > 1)),
        half_values=half,
        sample=np.concatenate([*kept, np.zeros((0, width), np.float32)]),
    )


def _faulty(count: int, first: list[int]) -> Faulty:
    return Faulty(count, tuple(first))


def _is_half(batch: np.ndarray) -> bool:
    """Whether a few rows hold nothing but values of float16."""
    few = batch[:64]
    with np.errstate(over="ignore", invalid="ignore"):
        there_and_back = few.astype(np.float16).astype(few.dtype)
    return bool(np.array_equal(there_and_back, few, equal_nan=True))


def _hash_weights(width: int) -> np.ndarray:
    """Odd numbers of 64 bits, one a column."""
    drawn = np.random.default_rng(_SEED).integers(0, 2**63, width, dtype=np.uint64)
    return drawn * np.uint64(2) + np.uint64(1)


def _hashes(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A number of 64 bits a row, equal for equal rows: a weighted sum of their bits."""
    bits = np.ascontiguousarray(rows + rows.dtype.type(0))  # -0.0 is 0.0
    whole = np.uint64 if bits.dtype.itemsize == 8 else np.uint32
    return np.einsum("nd,d->n", bits.view(whole).astype(np.uint64), weights)


def _repeated(hashes: np.ndarray) -> Faulty:
    """Rows whose number an earlier row has; 0 stands for rows that do not count."""
    numbers = np.flatnonzero(hashes)
    order = numbers[np.argsort(hashes[numbers], kind="stable")]
    again = np.sort(order[1:][hashes[order[1:]] == hashes[order[:-1]]])
    return Faulty(len(again), tuple(again[:SHOWN].tolist()))
