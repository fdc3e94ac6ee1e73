# SPDX-License-Identifier: Apache-2.0
"""What trust costs: resampled fits and first-order intervals, from blocks of moments.

Both start from moments that one pass has left, and read no row: replicates cost a solve
each, and the first order one solve in all.
"""

import jax
import numpy as np

import jaxalign as ja
from experiments.benchmarks.alternating import median_seconds
from experiments.benchmarks.cone_rows import cone_pairs
from experiments.benchmarks.lines import Line

BLOCKS = 64
# Solves of one batch, of which the time of one is taken.
_BATCH = 16


def time_bootstrap(n: int, d: int, replicates: int, rounds: int) -> list[Line]:
    """Time intervals by replicates, and to first order, beside as many solves."""
    source, target = cone_pairs(n, d)
    block = ja.trust.block_of_rows(np.arange(n), blocks=BLOCKS)
    x, y, group = (jax.device_put(one) for one in (source, target, block))
    empty = ja.moments.init_moments(d, d, groups=BLOCKS)

    def accumulate() -> ja.Moments:
        return jax.block_until_ready(
            ja.moments.update_moments(empty, x, y, group=group)
        )

    moments = accumulate()
    subsets = np.random.default_rng(0).integers(0, 3, (_BATCH, BLOCKS))

    def solve() -> jax.Array:
        reduced = ja.moments.reduce_groups(moments, subsets)
        return jax.block_until_ready(ja.solve.solve_procrustes(reduced).rotation)

    def first_order(curvature: bool) -> object:
        found = ja.trust.delta_intervals(moments, curvature=curvature)
        return jax.block_until_ready(found)

    seconds = median_seconds(
        {
            "pass": accumulate,
            "solve": solve,
            "first order": lambda: first_order(False),
            "without bias": lambda: first_order(True),
            "replicates": lambda: jax.block_until_ready(
                ja.assess_map(moments, replicates=replicates)
            ),
        },
        rounds=rounds,
        warmups=1,
    )
    # Halves and folds are held out beside the replicates.
    solves = replicates + 128
    each = seconds["solve"] / _BATCH
    title = f"trust from {BLOCKS} blocks, {n:,} x {d}"
    return [
        Line(title, "the pass over rows, paid once", seconds["pass"]),
        Line(title, f"batched solve, each of {_BATCH}", each),
        Line(
            title,
            f"assess_map, {replicates:,} replicates, of {solves:,} such solves",
            seconds["replicates"],
            ratio=seconds["replicates"] / (solves * each),
            note="angles take singular values of their own; no row is read",
        ),
        Line(title, "delta_intervals, first order", seconds["first order"]),
        Line(
            title,
            "delta_intervals, bias taken off",
            seconds["without bias"],
            note=f"O(d^3) for each of {BLOCKS} blocks",
        ),
    ]
