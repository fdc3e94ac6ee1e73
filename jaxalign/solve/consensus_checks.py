# SPDX-License-Identifier: Apache-2.0
"""Whether moments of pairs can make one frame: shapes, indices, connections."""

from collections.abc import Sequence

import jax

from jaxalign.errors import ArgumentError, check_count
from jaxalign.moments import Moments


def check_pairs(
    pair_moments: Sequence[Moments] | Moments,
    pairs: Sequence[tuple[int, int]],
    width: int | None,
    max_iterations: int,
    *,
    call: str = "solve_consensus",
) -> tuple[list[Moments], tuple[int, ...], int]:
    """Raise if parts do not fit; return moments by pair, widths, and the frame's.

    Raises:
      ValueError: naming the pair or model at fault.
    """
    parts = _as_list(pair_moments, call)
    if len(parts) != len(pairs) or not parts:
        raise ArgumentError(
            f"{call}(pair_moments, pairs)",
            "as many moments as pairs, at least one",
            f"{len(parts)} and {len(pairs)}",
            "pass one Moments a pair",
        )
    widths: dict[int, int] = {}
    for part, (i, j) in zip(parts, pairs, strict=True):
        if not isinstance(part, Moments) or part.groups:
            got = f"groups {part.groups}" if isinstance(part, Moments) else type(part)
            raise ArgumentError(
                f"{call}(pair_moments, pairs)",
                f"Moments without groups for the pair {(i, j)}",
                got,
                "merge groups by `reduce_groups`",
            )
        if i == j or min(i, j) < 0:
            raise ArgumentError(
                f"{call}(pairs=...)",
                "two models, numbered from 0",
                (i, j),
                "a model is not aligned to itself",
            )
        for model, own in ((i, part.d_source), (j, part.d_target)):
            if widths.setdefault(model, own) != own:
                raise ArgumentError(
                    f"{call}(pair_moments, pairs)",
                    f"one width for model {model}",
                    f"{widths[model]} and {own}",
                    "check that each pair is (source, target) as its moments are",
                )
    if len({frozenset(pair) for pair in pairs}) != len(pairs):
        raise ArgumentError(
            f"{call}(pairs=...)",
            "each two models once",
            "some twice",
            "merge the moments of the same pair",
        )
    models = len(widths)
    lonely = _unreached(pairs, max(widths) + 1)
    if lonely:
        raise ArgumentError(
            f"{call}(pairs=...)",
            f"pairs that connect models 0 to {max(widths)}",
            f"none from model 0 to {lonely}",
            "add a pair, or solve each connected set by itself",
        )
    narrowest = min(widths.values())
    if width is not None and not 1 <= width <= narrowest:
        raise ArgumentError(
            f"{call}(width={width})",
            f"1 to {narrowest}, the width of the narrowest model",
            remedy="leave it out for that",
        )
    check_count(call, "max_iterations", max_iterations)
    return parts, tuple(widths[model] for model in range(models)), width or narrowest


def _as_list(pair_moments, call):
    """One Moments a pair, whichever way they came."""
    if isinstance(pair_moments, Moments):
        if pair_moments.count.ndim != 1:
            raise ArgumentError(
                f"{call}(pair_moments=...)",
                "one leading axis of pairs",
                pair_moments.count.shape,
                "pass a list of Moments",
            )
        number = pair_moments.count.shape[0]
        return [
            jax.tree.map(lambda leaf, p=p: leaf[p], pair_moments) for p in range(number)
        ]
    return list(pair_moments)


def _unreached(pairs, models):
    """Models that no chain of pairs links to model 0."""
    reached, grown = set(), {0}
    while grown != reached:
        reached = grown
        grown = reached | {
            model for pair in pairs if reached & set(pair) for model in pair
        }
    return sorted(set(range(models)) - reached)
