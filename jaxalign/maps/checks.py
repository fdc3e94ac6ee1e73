# SPDX-License-Identifier: Apache-2.0
"""What a fit of maps asks of a user's options, before any arithmetic.

Each refusal names the call and the argument, what was expected, what came, and what to
do. The call is the one that the user wrote: several share these checks.
"""

import numbers
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import Modality
from jaxalign.solve.robust import LOSSES
from jaxalign.solve.scale import SCALES

ALL = "all"
FIT_KINDS = ("orthogonal", "linear", "mlp", "mean_only")


def check_modalities(call: str, pairs) -> None:
    """Refuse what is no dictionary of modality to rows."""
    if not isinstance(pairs, Mapping) or not pairs or ALL in pairs:
        got = sorted(pairs) if isinstance(pairs, Mapping) else type(pairs).__name__
        raise ValueError(
            f"`{call}(pairs=...)`: expected a dictionary of modality to (source, "
            f"target), {ALL!r} not among them, got {got}; pass "
            "{'image': (source_rows, target_rows)}."
        )


def default_fit_on(call: str, modalities, fit_on: Modality | None) -> Modality:
    """Return the modality to fit on: the one given, the only one, or "image".

    Raises:
      ValueError: if none is given and several could be meant.
    """
    if fit_on is not None:
        return fit_on
    names = sorted(modalities)
    if len(names) == 1:
        return names[0]
    if "image" in names:
        return "image"
    raise ValueError(
        f"`{call}(fit_on=None)`: expected {ALL!r} or one of {names}, as there are "
        "several modalities and 'image' is none of them; name the one to fit on."
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
