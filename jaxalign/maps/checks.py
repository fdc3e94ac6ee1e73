# SPDX-License-Identifier: Apache-2.0
"""What `fit_map` asks of a user's rows and options, before any arithmetic.

Each refusal names the argument, what was expected, what came, and what to do.
"""

import numbers
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import Modality
from jaxalign.maps.alignment_map import KINDS
from jaxalign.solve.procrustes import SCALES

ALL = "all"


def as_float(rows) -> np.ndarray:
    """Rows in the accumulation dtype: half precision overflows before it is checked."""
    return np.asarray(rows).astype(jax.dtypes.canonicalize_dtype(float), copy=False)


def check_options(pairs, fit_on, scale, kind, ridge, proper, batch_size) -> None:
    """Refuse options that do not exist or do not go together."""
    if not isinstance(pairs, Mapping) or not pairs or ALL in pairs:
        got = sorted(pairs) if isinstance(pairs, Mapping) else type(pairs).__name__
        raise ValueError(
            "`fit_map(pairs=...)`: expected a dictionary of modality to (source, "
            f"target), {ALL!r} not among them, got {got}; pass "
            "{'image': (source_rows, target_rows)}."
        )
    if fit_on != ALL and fit_on not in pairs:
        raise ValueError(
            f"`fit_map(fit_on={fit_on!r})`: expected {ALL!r} or one of "
            f"{sorted(pairs)}; add pairs of that modality, or name another."
        )
    if scale is not None and scale not in SCALES:
        raise ValueError(
            f"`fit_map(scale={scale!r})`: expected one of {SCALES}; leave it out for "
            "the default."
        )
    if kind not in KINDS:
        raise ValueError(
            f"`fit_map(kind={kind!r})`: expected one of {KINDS}; leave it out for an "
            "orthogonal map."
        )
    if ridge is not None and (kind != "linear" or not _is_size(ridge)):
        raise ValueError(
            f"`fit_map(ridge={ridge!r}, kind={kind!r})`: expected a finite number of "
            "at least 0, and kind='linear'; leave ridge out for the other kinds."
        )
    if proper and kind != "orthogonal":
        raise ValueError(
            f"`fit_map(proper=True, kind={kind!r})`: expected kind='orthogonal'; leave "
            "proper out for the other kinds."
        )
    if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
        raise ValueError(
            f"`fit_map(batch_size={batch_size!r})`: expected a whole number of at "
            "least 1; leave it out."
        )


def check_spaces(source_space, target_space) -> None:
    """Refuse spaces that are no fingerprints: a file could not hold them."""
    for name, space in (("source_space", source_space), ("target_space", target_space)):
        if space is not None and not isinstance(space, str):
            raise ValueError(
                f"`fit_map({name}={space!r})`: expected a string such as "
                "`encoders.space`, or None."
            )


def _is_size(value) -> bool:
    """Tell whether a value is a finite number of at least 0."""
    return isinstance(value, numbers.Real) and 0 <= float(value) < float("inf")


def check_pairs(pairs) -> dict[Modality, tuple[np.ndarray, np.ndarray]]:
    """Bring rows to the host; refuse what cannot pair or cannot be embeddings."""
    widths = None
    hosts = {}
    for name, sides in pairs.items():
        call = f"`fit_map(pairs[{name!r}])`"
        if not isinstance(sides, tuple | list) or len(sides) != 2:
            raise ValueError(
                f"{call}: expected a pair (source, target), got "
                f"{type(sides).__name__}; pass {{{name!r}: (source_rows, "
                "target_rows)}."
            )
        # A memory map stays one, to be read block by block.
        source, target = (
            side if isinstance(side, np.ndarray) else np.asarray(side) for side in sides
        )
        shapes = (source.shape, target.shape)
        if any(len(shape) != 2 for shape in shapes) or shapes[0][0] != shapes[1][0]:
            raise ValueError(
                f"{call}: expected shapes (n, d_source) and (n, d_target) with one n, "
                f"got {shapes[0]} and {shapes[1]}; row i of both must be one anchor."
            )
        if shapes[0][0] < 2:
            raise ValueError(
                f"{call}: expected at least 2 anchors, got {shapes[0][0]}; pass more "
                "pairs, at best more than the embeddings have dimensions."
            )
        found = (shapes[0][1], shapes[1][1])
        if widths is not None and found != widths:
            raise ValueError(
                f"{call}: expected widths {widths} as of the other modalities, got "
                f"{found}; all modalities share one source and one target model."
            )
        widths = found
        for side, rows in (("source", source), ("target", target)):
            _check_rows(call, side, rows)
        hosts[name] = (source, target)
    return hosts


def _check_rows(call, side, rows, block=65536) -> None:
    """Refuse rows not floating, not finite, zero, or out of range, block by block."""
    if not jnp.issubdtype(rows.dtype, jnp.floating):
        raise ValueError(
            f"{call}: expected floating {side} rows, got {rows.dtype}; convert them "
            "with `rows.astype(numpy.float32)`."
        )
    largest = 0.0
    for start in range(0, rows.shape[0], block):
        part = as_float(rows[start : start + block])
        for fault, bad in (
            ("finite", ~np.all(np.isfinite(part), axis=1)),
            ("nonzero", ~np.any(part, axis=1)),
        ):
            if np.any(bad):
                first = start + int(np.argmax(bad))
                raise ValueError(
                    f"{call}: expected {fault} {side} rows, got {int(bad.sum())} that "
                    f"are not, the first at row {first}; drop these anchors on both "
                    "sides, or embed them again."
                )
        largest = max(largest, float(np.max(np.abs(part))))
    _check_size(call, side, largest)


def _check_size(call, side, largest) -> None:
    """Refuse rows whose squares would overflow in a sum, or vanish."""
    limits = jnp.finfo(jax.dtypes.canonicalize_dtype(float))
    # The factors leave room for 1e10 summed squares, and for spreads 1e-5 of the size.
    high, low = 1e-5 * float(limits.max) ** 0.5, 1e5 * float(limits.tiny) ** 0.5
    if not low <= largest <= high:
        raise ValueError(
            f"{call}: expected {side} rows of a size between {low:.0e} and {high:.0e}, "
            f"got a largest entry of {largest:.0e}, whose square is out of the range "
            f"of {limits.dtype}; normalise the rows, such as each by its norm."
        )
