# SPDX-License-Identifier: Apache-2.0
"""A user's anchors, looked at once before they are fitted on.

Every row of both sides is read: whether it is finite and not zero, how large its
entries are, and how long it is. Rows on an accelerator are looked at there.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.buckets import pad_to_bucket
from jaxalign.float_rows import check_float_rows, native_floats
from jaxalign.maps.checks import check_modalities

_BLOCK = 65536


@dataclasses.dataclass(frozen=True)
class AnchorRows:
    """Paired rows of one modality, and what looking at them has shown.

    Attributes:
      source: ``(n, d_source)``, NumPy (memory-mapped too) or JAX.
      target: ``(n, d_target)``.
      good: ``(n,)``, false for pairs of which a row is not finite or is zero; None if
        there is none.
      source_norms: ``(n,)`` norms of the source rows.
      target_norms: of the target rows.
    """

    source: ArrayLike
    target: ArrayLike
    good: Bool[np.ndarray, " n"] | None
    source_norms: Float[np.ndarray, " n"]
    target_norms: Float[np.ndarray, " n"]

    @property
    def sides(self) -> tuple[ArrayLike, ArrayLike]:
        """Source and target rows."""
        return self.source, self.target

    @property
    def skipped(self) -> int:
        """Pairs that are left out."""
        return 0 if self.good is None else int(np.sum(~self.good))

    @property
    def anchors(self) -> int:
        """Pairs that are left."""
        return self.source.shape[0] - self.skipped

    def norm_ranges(
        self, weights: ArrayLike | None
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """Smallest and largest norm of each side, of the pairs that have a weight."""
        counted = (
            np.ones(len(self.source_norms), bool) if self.good is None else self.good
        )
        if weights is not None:
            counted = counted & (np.asarray(weights) != 0)
        source, target = self.source_norms[counted], self.target_norms[counted]
        return (
            (float(source.min()), float(source.max())),
            (float(target.min()), float(target.max())),
        )


class _Seen(NamedTuple):
    """What one side's rows showed."""

    finite: np.ndarray
    nonzero: np.ndarray
    norms: np.ndarray
    largest: float


def as_float(rows: Any) -> np.ndarray:
    """Rows in the accumulation dtype: half precision overflows before it is checked."""
    return np.asarray(rows).astype(jax.dtypes.canonicalize_dtype(float), copy=False)


def check_pairs(call: str, pairs: Any) -> dict[Modality, tuple[np.ndarray, np.ndarray]]:
    """Validate anchors as `inspect_pairs` does, and return them on the host."""
    found = inspect_pairs(call, pairs)
    return {
        name: (np.asarray(rows.source), np.asarray(rows.target))
        if any(isinstance(side, jax.Array) for side in rows.sides)
        else rows.sides  # pyright: ignore[reportReturnType]
        for name, rows in found.items()
    }


def inspect_pairs(
    call: str, pairs: Any, *, skip_bad: bool = False
) -> dict[Modality, AnchorRows]:
    """Validate anchors, and look at every row.

    Args:
      call: named in errors.
      pairs: by modality, ``(source, target)``.
      skip_bad: mark pairs with a row that is not finite or is zero, instead of raising.

    Returns:
      The rows by modality. A memory map stays one; rows on one accelerator stay there.

    Raises:
      ValueError: for what cannot pair, or cannot be embeddings.
    """
    check_modalities(call, pairs)
    widths, found = None, {}
    for name, sides in pairs.items():
        argument = f"pairs[{name!r}]"
        if not isinstance(sides, tuple | list) or len(sides) != 2:
            raise ValueError(
                f"`{call}({argument})`: expected a pair (source, target), got "
                f"{type(sides).__name__}; pass {{{name!r}: (source_rows, "
                "target_rows)}."
            )
        source, target = (
            _stay(check_float_rows(call, f"{argument}, {side}", rows))
            for side, rows in zip(("source", "target"), sides, strict=True)
        )
        if isinstance(source, jax.Array) != isinstance(target, jax.Array):
            source, target = np.asarray(source), np.asarray(target)
        _check_shapes(f"`{call}({argument})`", source.shape, target.shape, widths)
        widths = (source.shape[1], target.shape[1])
        found[name] = _inspect(f"`{call}({argument})`", source, target, skip_bad)
    return found


def on_host(
    rows: Mapping[Modality, AnchorRows],
    weights: Mapping[Modality, np.ndarray],
    groups: Mapping[Modality, np.ndarray],
) -> tuple[dict[Modality, tuple[np.ndarray, np.ndarray]], dict, dict]:
    """Bring anchors to the host, without the pairs that are left out.

    Returns:
      Sides, weights and groups by modality.
    """

    def kept(name: Modality, values: ArrayLike) -> np.ndarray:
        good = rows[name].good
        return np.asarray(values) if good is None else np.asarray(values)[good]

    def host(name: Modality, side: ArrayLike) -> np.ndarray:
        # A memory map without bad rows stays one.
        mapped = isinstance(side, np.memmap) and rows[name].good is None
        return side if mapped else kept(name, side)  # pyright: ignore[reportReturnType]

    sides = {
        name: (host(name, part.source), host(name, part.target))
        for name, part in rows.items()
    }
    return (
        sides,
        {name: kept(name, values) for name, values in weights.items()},
        {name: kept(name, values) for name, values in groups.items()},
    )


def without_bad(
    rows: Mapping[Modality, AnchorRows], weights: Mapping[Modality, np.ndarray]
) -> dict[Modality, np.ndarray]:
    """Return weights that are 0 for the pairs that are left out."""
    found = dict(weights)
    for name, part in rows.items():
        if part.good is not None:
            found[name] = as_float(weights.get(name, np.ones(len(part.good))))
            found[name] = np.where(part.good, found[name], 0.0)
    return found


def _stay(rows: ArrayLike) -> ArrayLike:
    """Leave rows where they are, but those split over devices."""
    if isinstance(rows, jax.Array) and len(rows.sharding.device_set) > 1:
        return np.asarray(rows)
    if isinstance(rows, np.ndarray) and not isinstance(rows, np.memmap):
        return native_floats(rows)
    return rows


def _check_shapes(argument, source, target, widths) -> None:
    """Raise unless rows pair, are two or more, and have the common widths."""
    if source[0] != target[0]:
        raise ValueError(
            f"{argument}: expected shapes (n, d_source) and (n, d_target) with one "
            f"n, got {source} and {target}; row i of both must be one anchor."
        )
    if source[0] < 2:
        raise ValueError(
            f"{argument}: expected at least 2 anchors, got {source[0]}; pass "
            "more pairs, at best more than the embeddings have dimensions."
        )
    if widths is not None and (source[1], target[1]) != widths:
        raise ValueError(
            f"{argument}: expected widths {widths} as of the other modalities, got "
            f"{(source[1], target[1])}; all modalities share one source and one "
            "target model."
        )


def _inspect(argument, source, target, skip_bad) -> AnchorRows:
    """Look at both sides, and raise for bad rows unless they are skipped."""
    sides = {"source": _look(source), "target": _look(target)}
    for fault, bad in (
        ("finite", {side: ~seen.finite for side, seen in sides.items()}),
        ("nonzero", {side: ~seen.nonzero for side, seen in sides.items()}),
    ):
        if skip_bad or not any(map(np.any, bad.values())):
            continue
        counts = " and ".join(
            f"{int(rows.sum())} {side} rows that are not, the first at row "
            f"{int(np.argmax(rows))}"
            for side, rows in bad.items()
            if rows.any()
        )
        raise ValueError(
            f"{argument}: expected {fault} rows, got {counts}; drop these pairs on "
            "both sides, as `fit_map(..., skip_bad=True)` does, or embed them again."
        )
    for side, seen in sides.items():
        _check_size(argument, side, seen.largest)
    one, other = sides.values()
    good = one.finite & one.nonzero & other.finite & other.nonzero
    if good.sum() < 2:
        raise ValueError(
            f"{argument}: expected at least 2 anchors whose rows are finite and not "
            f"zero, got {int(good.sum())} of {len(good)}; embed them again."
        )
    return AnchorRows(
        source,
        target,
        None if good.all() else good,
        one.norms,
        other.norms,
    )


def _look(rows: ArrayLike) -> _Seen:
    """Look at the rows of one side, block by block on the host."""
    if isinstance(rows, jax.Array):
        n = rows.shape[0]
        seen = jax.device_get(_look_on_device(pad_to_bucket(rows)))
        finite, nonzero, norms, largest = seen
        return _Seen(finite[:n], nonzero[:n], norms[:n], float(largest))
    parts = [
        _look_at_block(as_float(rows[start : start + _BLOCK]))
        for start in range(0, rows.shape[0], _BLOCK)
    ]
    return _Seen(
        np.concatenate([part.finite for part in parts]),
        np.concatenate([part.nonzero for part in parts]),
        np.concatenate([part.norms for part in parts]),
        max(part.largest for part in parts),
    )


def _look_at_block(rows: np.ndarray) -> _Seen:
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
        return _Seen(finite, nonzero, np.sqrt(squares), largest)


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
        raise ValueError(
            f"{argument}: expected {side} rows of a size between {low:.0e} and "
            f"{high:.0e}, got a largest entry of {largest:.0e}, whose square is out of "
            f"the range of {limits.dtype}; normalise the rows, such as each by its "
            "norm."
        )
