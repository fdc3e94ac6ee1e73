# SPDX-License-Identifier: Apache-2.0
"""What a fit of maps asks of a user's rows and options, before any arithmetic.

Each refusal names the call and the argument, what was expected, what came, and what to
do. The call is the one that the user wrote: several share these checks.
"""

import numbers
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import Modality
from jaxalign.solve.robust import LOSSES
from jaxalign.solve.scale import SCALES

ALL = "all"
FIT_KINDS = ("orthogonal", "linear", "mlp", "mean_only")


def as_float(rows) -> np.ndarray:
    """Rows in the accumulation dtype: half precision overflows before it is checked."""
    return np.asarray(rows).astype(jax.dtypes.canonicalize_dtype(float), copy=False)


def check_modalities(call: str, pairs) -> None:
    """Refuse what is no dictionary of modality to rows."""
    if not isinstance(pairs, Mapping) or not pairs or ALL in pairs:
        got = sorted(pairs) if isinstance(pairs, Mapping) else type(pairs).__name__
        raise ValueError(
            f"`{call}(pairs=...)`: expected a dictionary of modality to (source, "
            f"target), {ALL!r} not among them, got {got}; pass "
            "{'image': (source_rows, target_rows)}."
        )


def check_options(
    call: str,
    modalities,
    *,
    fit_on,
    scale=None,
    kind="orthogonal",
    ridge=None,
    proper=False,
    identified_only=False,
    rank=None,
    loss=None,
    batch_size=1,
    kinds=FIT_KINDS,
) -> None:
    """Refuse options that do not exist or do not go together."""
    if fit_on != ALL and fit_on not in modalities:
        raise ValueError(
            f"`{call}(fit_on={fit_on!r})`: expected {ALL!r} or one of "
            f"{sorted(modalities)}; add pairs of that modality, or name another."
        )
    if scale is not None and scale not in SCALES:
        raise ValueError(
            f"`{call}(scale={scale!r})`: expected one of {SCALES}; leave it out for "
            "the default."
        )
    if kind not in kinds:
        raise ValueError(
            f"`{call}(kind={kind!r})`: expected one of {kinds}; leave it out for "
            "an orthogonal map, and pass identified_only=True for a partial isometry."
        )
    if ridge is not None and (kind != "linear" or not _is_size(ridge)):
        raise ValueError(
            f"`{call}(ridge={ridge!r}, kind={kind!r})`: expected a finite number of "
            "at least 0, and kind='linear'; leave ridge out for the other kinds."
        )
    if proper and kind != "orthogonal":
        raise ValueError(
            f"`{call}(proper=True, kind={kind!r})`: expected kind='orthogonal'; leave "
            "proper out for the other kinds."
        )
    if (identified_only or rank is not None) and kind != "orthogonal":
        raise ValueError(
            f"`{call}(identified_only={identified_only!r}, rank={rank!r}, "
            f"kind={kind!r})`: expected kind='orthogonal'; leave both out for the "
            "other kinds."
        )
    if proper and (identified_only or rank is not None):
        raise ValueError(
            f"`{call}(proper=True, identified_only=...)`: expected one of the two: a "
            "part of a rotation has no determinant; leave proper out."
        )
    if rank is not None and not (isinstance(rank, numbers.Integral) and int(rank) >= 1):
        raise ValueError(
            f"`{call}(rank={rank!r})`: expected a whole number of at least 1; leave "
            "it out to keep all that the anchors identify."
        )
    if loss is not None and (kind != "orthogonal" or loss not in LOSSES):
        raise ValueError(
            f"`{call}(loss={loss!r}, kind={kind!r})`: expected one of {LOSSES}, and "
            "kind='orthogonal'; leave loss out where all pairs are right."
        )
    if not isinstance(batch_size, numbers.Integral) or batch_size < 1:
        raise ValueError(
            f"`{call}(batch_size={batch_size!r})`: expected a whole number of at "
            "least 1; leave it out."
        )


def check_widths(call: str, kind: str, d_source: int, d_target: int) -> None:
    """Refuse a map of means alone between widths that differ."""
    if kind == "mean_only" and d_source != d_target:
        raise ValueError(
            f"`{call}(kind='mean_only')`: expected equal widths, got {d_source} and "
            f"{d_target}; use kind='orthogonal'."
        )


def check_spaces(call: str, source_space, target_space) -> None:
    """Refuse spaces that are no fingerprints: a file could not hold them."""
    for name, space in (("source_space", source_space), ("target_space", target_space)):
        if space is not None and not isinstance(space, str):
            raise ValueError(
                f"`{call}({name}={space!r})`: expected a string such as "
                "`encoders.space`, or None."
            )


def _is_size(value) -> bool:
    """Tell whether a value is a finite number of at least 0."""
    return isinstance(value, numbers.Real) and 0 <= float(value) < float("inf")


def check_modality_weights(call: str, weights, pairs, fit_on) -> dict[Modality, float]:
    """Return a weight for each modality that is fitted on, those of weight 0 left out.

    Raises:
      ValueError: for weights of one modality alone, of unknown ones, or none positive.
    """
    if weights is None:
        return {name: 1.0 for name in (pairs if fit_on == ALL else [fit_on])}
    if fit_on != ALL:
        raise ValueError(
            f"`{call}(modality_weights=..., fit_on={fit_on!r})`: expected "
            f"fit_on={ALL!r}, which mixes modalities; pass it, or leave the weights "
            "out."
        )
    sizes = isinstance(weights, Mapping) and all(map(_is_size, weights.values()))
    if not sizes or not set(weights) <= set(pairs):
        raise ValueError(
            f"`{call}(modality_weights={weights!r})`: expected finite numbers of at "
            f"least 0 by modality, of {sorted(pairs)}; pass {{'image': 1.0, 'text': "
            "2.0}; one that is left out has 1."
        )
    kept = {name: float(weights.get(name, 1.0)) for name in pairs}
    kept = {name: weight for name, weight in kept.items() if weight > 0}
    if not kept:
        raise ValueError(
            f"`{call}(modality_weights={weights!r})`: expected a positive weight for "
            "one modality or more; a weight of 0 leaves a modality out of the fit."
        )
    return kept


def check_weights(call: str, weights, hosts) -> dict[Modality, np.ndarray]:
    """Bring the weights of rows to the host; refuse those that are none."""
    found = _by_modality(call, "weights", weights, hosts)
    for name, values in found.items():
        bad = not jnp.issubdtype(values.dtype, jnp.number)
        bad = bad or not np.all(np.isfinite(values) & (values >= 0))
        if bad or np.count_nonzero(values) < 2:
            raise ValueError(
                f"`{call}(weights[{name!r}])`: expected finite numbers of at least 0, "
                f"two or more of them positive, got {values.dtype} with "
                f"{0 if bad else np.count_nonzero(values)} positive; a weight of 0 "
                "leaves an anchor out."
            )
    return found


def check_groups(call: str, groups, hosts) -> dict[Modality, np.ndarray]:
    """Bring the groups of rows to the host; refuse shapes that do not fit."""
    return _by_modality(call, "groups", groups, hosts)


def _by_modality(call, option, values, hosts) -> dict[Modality, np.ndarray]:
    """One value a row for some modalities, as arrays of the host."""
    if values is None:
        return {}
    if not isinstance(values, Mapping) or not set(values) <= set(hosts):
        got = sorted(values) if isinstance(values, Mapping) else type(values).__name__
        raise ValueError(
            f"`{call}({option}=...)`: expected a dictionary by modality, of "
            f"{sorted(hosts)}, got {got}; pass {{'image': one value a row}}."
        )
    found = {name: np.asarray(rows) for name, rows in values.items()}
    for name, rows in found.items():
        n = hosts[name][0].shape[0]
        if rows.shape != (n,):
            raise ValueError(
                f"`{call}({option}[{name!r}])`: expected shape ({n},), got "
                f"{rows.shape}; pass one value for each anchor."
            )
    return found


def check_pairs(call: str, pairs) -> dict[Modality, tuple[np.ndarray, np.ndarray]]:
    """Bring rows to the host; refuse what cannot pair or cannot be embeddings."""
    check_modalities(call, pairs)
    widths = None
    hosts = {}
    for name, sides in pairs.items():
        argument = f"`{call}(pairs[{name!r}])`"
        if not isinstance(sides, tuple | list) or len(sides) != 2:
            raise ValueError(
                f"{argument}: expected a pair (source, target), got "
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
                f"{argument}: expected shapes (n, d_source) and (n, d_target) with one "
                f"n, got {shapes[0]} and {shapes[1]}; row i of both must be one anchor."
            )
        if shapes[0][0] < 2:
            raise ValueError(
                f"{argument}: expected at least 2 anchors, got {shapes[0][0]}; pass "
                "more pairs, at best more than the embeddings have dimensions."
            )
        found = (shapes[0][1], shapes[1][1])
        if widths is not None and found != widths:
            raise ValueError(
                f"{argument}: expected widths {widths} as of the other modalities, got "
                f"{found}; all modalities share one source and one target model."
            )
        widths = found
        for side, rows in (("source", source), ("target", target)):
            _check_rows(argument, side, rows)
        hosts[name] = (source, target)
    return hosts


def _check_rows(argument, side, rows, block=65536) -> None:
    """Refuse rows not floating, not finite, zero, or out of range, block by block."""
    if not jnp.issubdtype(rows.dtype, jnp.floating):
        raise ValueError(
            f"{argument}: expected floating {side} rows, got {rows.dtype}; convert "
            "them with `rows.astype(numpy.float32)`."
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
                    f"{argument}: expected {fault} {side} rows, got {int(bad.sum())} "
                    f"that are not, the first at row {first}; drop these anchors on "
                    "both sides, or embed them again."
                )
        largest = max(largest, float(np.max(np.abs(part))))
    _check_size(argument, side, largest)


def _check_size(argument, side, largest) -> None:
    """Refuse rows whose squares would overflow in a sum, or vanish."""
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
