# SPDX-License-Identifier: Apache-2.0
"""How fast the closed form is, beside SciPy, torch and what the machine could do.

    python -m experiments.benchmarks.procrustes

Sections: `memory` and `memory_large`, a fit from rows in memory; `store`, from a store
on disk; `groups` and `bootstrap`, fits of many subsets; `batched`, many problems in one
call; `scaling`, over the number of devices.

All that is compared takes turns in one process; medians are printed with the ratio that
is asked for. Ratios say more than seconds: machines differ, and vary. torch is left out
where it is not installed. BLAS settings of the environment slow or speed the peers, not
us: unset OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE.
"""

import dataclasses
import functools
import os
import typing
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from absl import flags

import jaxalign as ja
from experiments import launch
from experiments.benchmarks import (
    launch_benchmark,
    procrustes_bootstrap,
    procrustes_disk,
    procrustes_scaling,
)
from experiments.benchmarks.alternating import median_seconds
from experiments.benchmarks.cone_rows import cone_pairs
from experiments.benchmarks.launch_benchmark import ROUNDS, chosen_sections
from experiments.benchmarks.lines import Line, run_sections
from jaxalign.solve.polar import PolarMethod

_REST = 0.3
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large each comparison is."""

    memory: tuple[tuple[int, int], ...] = ((100_000, 512), (100_000, 768))
    memory_large: tuple[tuple[int, int], ...] = ((1_000_000, 768),)
    classes: int = 100
    class_rows: int = 50_000
    class_width: int = 512
    subsets: int = 60
    replicates: int = 1000
    problems: int = 64
    problem_width: int = 512
    disk_bytes: int = 20_000_000_000
    disk_width: int = 768


TINY = Sizes(
    memory=((2000, 64),),
    memory_large=((4000, 64),),
    classes=10,
    class_rows=1000,
    class_width=32,
    subsets=6,
    replicates=20,
    problems=4,
    problem_width=32,
    disk_bytes=4_000_000,
    disk_width=64,
)


def fit(source: jax.Array, target: jax.Array) -> jax.Array:
    """Fit a rotation from rows in memory, by jaxalign."""
    empty = ja.moments.init_moments(source.shape[1], target.shape[1])
    moments = ja.moments.update_moments(empty, source, target)
    return jax.block_until_ready(ja.solve.solve_procrustes(moments).rotation)


@jax.jit
def _plain(source, target):
    """Multiply and factorise, no more: the least that any solver does."""
    product = jnp.matmul(target.T, source, precision=_HIGHEST)
    u, _, vt = jnp.linalg.svd(product, full_matrices=False)
    return jnp.matmul(u, vt, precision=_HIGHEST)


def fit_scipy(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Fit by SciPy on centred rows."""
    centred = source - source.mean(axis=0), target - target.mean(axis=0)
    return scipy.linalg.orthogonal_procrustes(*centred)[0].T


def torch_fit() -> Callable[..., Any] | None:
    """Return a fit by torch on shared memory, or None without torch."""
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    torch.set_num_threads(os.cpu_count() or 1)

    def fit_torch(source: np.ndarray, target: np.ndarray):
        x, y = torch.from_numpy(source), torch.from_numpy(target)
        x, y = x - x.mean(0), y - y.mean(0)
        u, _, vt = torch.linalg.svd(y.T @ x, full_matrices=False)
        return u @ vt

    return fit_torch


def time_memory(n: int, d: int, rounds: int) -> list[Line]:
    """Time a fit from rows in memory against its peers and its ceiling."""
    source, target = cone_pairs(n, d)
    # The same memory for all: aligned arrays are used where they lie.
    x, y = jax.device_put(source), jax.device_put(target)
    calls = {
        "jaxalign": lambda: fit(x, y),
        "ceiling": lambda: jax.block_until_ready(_plain(x, y)),
        "scipy": lambda: fit_scipy(source, target),
    }
    fit_torch = torch_fit()
    if fit_torch is not None:
        calls["torch"] = lambda: fit_torch(source, target)
    agreement = float(np.abs(np.asarray(fit(x, y)) - fit_scipy(source, target)).max())
    seconds = median_seconds(calls, rounds=rounds, warmups=1, rest=_REST)
    own = seconds["jaxalign"]
    wanted = {"scipy": 1.3 if n < 500_000 else 1.5, "torch": 1.6, "ceiling": 0.8}
    return [
        Line(
            "fit from memory",
            f"{n:,} x {d}, jaxalign",
            own,
            note=f"|dQ| {agreement:.0e}",
        ),
        *(
            Line(
                "fit from memory",
                f"{n:,} x {d}, {name}",
                seconds[name],
                ratio=seconds[name] / own,
                wanted=wanted[name],
            )
            for name in ("scipy", "torch", "ceiling")
            if name in seconds
        ),
    ]


def time_groups(sizes: Sizes, rounds: int) -> list[Line]:
    """Time subsets of classes from one grouped pass against a loop of fits."""
    n, d, classes = sizes.class_rows, sizes.class_width, sizes.classes
    source, target = cone_pairs(n, d)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    chosen = np.zeros((2 * sizes.subsets, classes), bool)
    for row in chosen:
        size = rng.choice(
            [classes // 20 or 1, classes // 10, classes // 4, classes // 2]
        )
        row[rng.choice(classes, max(size, 2), replace=False)] = True
    x, y, group = (jax.device_put(one) for one in (source, target, labels))
    empty = ja.moments.init_moments(d, d, groups=classes)
    plain = ja.moments.init_moments(d, d)

    def grouped() -> ja.Moments:
        return jax.block_until_ready(
            ja.moments.update_moments(empty, x, y, group=group)
        )

    moments = grouped()

    def solve(subsets: np.ndarray) -> jax.Array:
        reduced = ja.moments.reduce_groups(moments, subsets)
        return jax.block_until_ready(ja.solve.solve_procrustes(reduced).rotation)

    def by_scipy() -> None:
        for subset in chosen[: sizes.subsets]:
            rows = subset[labels]
            fit_scipy(source[rows], target[rows])

    seconds = median_seconds(
        {
            "ungrouped": lambda: jax.block_until_ready(
                ja.moments.update_moments(plain, x, y)
            ),
            "grouped": grouped,
            "solve": lambda: solve(chosen[: sizes.subsets]),
            "solve twice": lambda: solve(chosen),
            "scipy": by_scipy,
        },
        rounds=rounds,
        warmups=1,
        rest=_REST,
    )
    own = seconds["grouped"] + seconds["solve"]
    title = f"{sizes.subsets} subsets of {classes} classes, {n:,} x {d}"
    return [
        Line(title, "ungrouped pass", seconds["ungrouped"]),
        Line(
            title,
            "grouped pass, of ungrouped (at most 2)",
            seconds["grouped"],
            ratio=seconds["grouped"] / seconds["ungrouped"],
            at_most=2.0,
        ),
        Line(title, f"batched solve, {sizes.subsets} subsets", seconds["solve"]),
        Line(
            title, f"batched solve, {2 * sizes.subsets} subsets", seconds["solve twice"]
        ),
        Line(title, "jaxalign: grouped pass and solve", own),
        Line(
            title,
            "scipy, a loop of fits",
            seconds["scipy"],
            ratio=seconds["scipy"] / own,
            wanted=4.0,
        ),
    ]


def time_batched(sizes: Sizes, rounds: int) -> list[Line]:
    """Time many factorisations at once against a loop."""
    count, d = sizes.problems, sizes.problem_width
    rng = np.random.default_rng(0)
    matrices = rng.standard_normal((count, d, d), dtype=np.float32)
    # Well conditioned, as iterative methods would choose; svd does not care.
    well = np.empty_like(matrices)
    for index, matrix in enumerate(matrices):
        u, _, vt = np.linalg.svd(matrix)
        well[index] = (u * np.geomspace(1.0, 0.1, d).astype(np.float32)) @ vt
    stacked = jax.device_put(well)

    def scipy_loop() -> None:
        for matrix in well:
            u, _, vt = scipy.linalg.svd(matrix, full_matrices=False)
            _ = u @ vt

    @jax.jit
    def naive(batch):
        u, _, vt = jnp.linalg.svd(batch, full_matrices=False)
        return jnp.matmul(u, vt, precision=_HIGHEST)

    def own(method: PolarMethod) -> Callable[[], Any]:
        solve = jax.jit(functools.partial(ja.solve.polar_factor, method=method))
        return lambda: jax.block_until_ready(solve(stacked).factor)

    calls: dict[str, Callable[[], object]] = {
        "scipy, a loop": scipy_loop,
        "jnp.linalg.svd, one batch": lambda: jax.block_until_ready(naive(stacked)),
    }
    calls |= {f"jaxalign {name}": own(name) for name in typing.get_args(PolarMethod)}
    seconds = median_seconds(calls, rounds=rounds, warmups=1, rest=_REST)
    title = f"{count} problems of d = {d}, condition 10"
    base = seconds["scipy, a loop"]
    return [
        Line(
            title,
            name,
            taken,
            ratio=base / taken,
            wanted=1.6 if name == "jaxalign svd" else None,
        )
        for name, taken in seconds.items()
    ]


SECTIONS: dict[str, Callable[[Sizes, int], list[Line]]] = {
    "memory": lambda sizes, rounds: [
        line for n, d in sizes.memory for line in time_memory(n, d, rounds)
    ],
    "memory_large": lambda sizes, rounds: [
        line for n, d in sizes.memory_large for line in time_memory(n, d, rounds)
    ],
    "groups": time_groups,
    "bootstrap": lambda sizes, rounds: procrustes_bootstrap.time_bootstrap(
        sizes.class_rows, sizes.class_width, sizes.replicates, rounds
    ),
    "batched": time_batched,
    "store": lambda sizes, rounds: procrustes_disk.time_store(
        sizes.disk_bytes, sizes.disk_width, rounds
    ),
    "scaling": lambda sizes, rounds: procrustes_scaling.time_scaling(
        sizes.class_rows, sizes.class_width, rounds
    ),
}


def main() -> None:
    """Run the sections, print their lines as they come, and keep them."""
    sizes = TINY if launch.TINY.value else Sizes()
    sections = {
        name: lambda section=section: [section(sizes, ROUNDS.value)]
        for name, section in SECTIONS.items()
    }
    chosen = {name: sections[name] for name in chosen_sections(sections)}
    workdir = launch.open_workdir("runs/benchmark_procrustes")
    run_sections(chosen, workdir / "benchmark.json")


flags.adopt_module_key_flags(launch_benchmark)

if __name__ == "__main__":
    launch.launch(main, unused=launch_benchmark.UNUSED)
