# SPDX-License-Identifier: Apache-2.0
"""How fast searches are made and run, beside what the machine could do and FAISS.

    python -m experiments.benchmarks.search

Sections: `scorer`, a likelihood ratio beside the SVD of a matrix of its size;
`choose`, a choice among all candidates of a search; `prepare`, an index with offsets
beside its two products; `top_k`, exact searches beside FAISS, which is left out where
it is not installed (`pip install faiss-cpu`).

All that is compared takes turns in one process; medians are printed with the ratio that
is asked for. BLAS settings of the environment slow or speed the peers, not us: unset
OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE.
"""

import dataclasses
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import jaxalign as ja
from experiments import launch
from experiments.benchmarks import launch_benchmark
from experiments.benchmarks.alternating import median_seconds
from experiments.benchmarks.cone_rows import aligned, cone_pairs
from experiments.benchmarks.launch_benchmark import ROUNDS, chosen_sections
from experiments.benchmarks.lines import Line, run_sections

_REST = 0.3
_HIGHEST = jax.lax.Precision.HIGHEST


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How large each comparison is."""

    width: int = 768
    anchors: int = 1000
    choose_anchors: int = 5000
    choose_width: int = 512
    index: int = 1_000_000
    queries: int = 1000


TINY = Sizes(
    width=48, anchors=64, choose_anchors=64, choose_width=32, index=4000, queries=64
)


def time_scorer(sizes: Sizes, rounds: int) -> list[Line]:
    """Time the solve of a likelihood ratio beside one SVD."""
    moments = ja.Anchors(cone_pairs(4 * sizes.width, sizes.width)).moments(grams=True)
    own = moments["rows"]
    family, svd = ja.LikelihoodRatio(), jax.jit(jnp.linalg.svd)
    seconds = median_seconds(
        {
            "scorer": lambda: jax.block_until_ready(family.solve(own)),
            "svd": lambda: jax.block_until_ready(svd(own.cross_covariance)),
        },
        rounds=rounds,
        rest=_REST,
    )
    section, what = "likelihood ratio", f"d = {sizes.width}"
    ratio = seconds["scorer"] / seconds["svd"]
    return [
        Line(section, f"SVD, {what}", seconds["svd"]),
        Line(section, f"solve, {what}", seconds["scorer"], ratio, at_most=1.5),
    ]


def time_choose(sizes: Sizes, rounds: int) -> list[Line]:
    """Time a choice, first in this process, and again; in seconds, not ratios."""
    source, target = cone_pairs(sizes.choose_anchors, sizes.width)
    source = np.ascontiguousarray(source[:, : sizes.choose_width])
    seconds = []
    for _ in range(1 + min(rounds, 3)):
        started = time.perf_counter()
        choice = ja.choose_map((source, target))
        seconds.append(time.perf_counter() - started)
    what = f"{sizes.choose_anchors:,} x {sizes.choose_width} -> {sizes.width}"
    section = "choice for a search (asked: 12 s cold, 4 s warm)"
    warm = float(np.median(seconds[1:]))
    note = f"{len(choice.table)} candidates"
    return [
        Line(section, f"{what}, first", seconds[0], seconds[0] / 12.0, at_most=1.0),
        Line(section, f"{what}, again", warm, warm / 4.0, at_most=1.0, note=note),
    ]


@jax.jit
def _products(rows, matrix, asked):
    """Multiply rows by a matrix, and with the anchors, block by block: no more."""

    def step(_, block):
        moved = jnp.matmul(block, matrix, precision=_HIGHEST)
        scores = jnp.matmul(moved, asked.T, precision=_HIGHEST)
        return None, jnp.max(scores, axis=1)

    return jax.lax.scan(step, None, rows.reshape(-1, 1000, rows.shape[1]))[1]


def _tall(count: int, rows: np.ndarray) -> np.ndarray:
    """Repeat rows until there are `count`."""
    index = aligned(count, rows.shape[1])
    for start in range(0, count, len(rows)):
        stop = min(start + len(rows), count)
        index[start:stop] = rows[: stop - start]
    return index


def time_prepare(sizes: Sizes, rounds: int) -> list[Line]:
    """Time an index with offsets beside the two products that it takes."""
    pair = cone_pairs(sizes.anchors, sizes.width)
    drawn = cone_pairs(min(sizes.index, 20_000), sizes.width, seed=1)[1]
    index = _tall(sizes.index, drawn)
    lines = []
    for name, scorer in (("default", None), ("likelihood ratio", ja.LikelihoodRatio())):
        amap = ja.fit_map(pair, scorer=scorer)
        square = jnp.asarray(np.eye(sizes.width, dtype=np.float32))
        asked = jnp.asarray(pair[0])
        seconds = median_seconds(
            {
                "prepare": lambda amap=amap: jax.block_until_ready(
                    ja.search.prepare(amap, index).offsets
                ),
                "products": lambda square=square, asked=asked: jax.block_until_ready(
                    _products(index, square, asked)
                ),
            },
            rounds=rounds,
            warmups=1,
            rest=_REST,
        )
        ratio = seconds["products"] / seconds["prepare"]
        section = f"prepared index, {name}"
        what = f"{sizes.index:,} x {sizes.width}, {sizes.anchors:,} anchors"
        lines += [
            Line(section, f"two products, {what}", seconds["products"]),
            Line(section, f"prepare, {what}", seconds["prepare"], ratio, wanted=0.6),
        ]
    return lines


def faiss_search(vectors: np.ndarray) -> Callable[[np.ndarray, int], object] | None:
    """Return an exact inner-product search by FAISS, or None without it."""
    try:
        import faiss  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    return index.search


def time_top_k(sizes: Sizes, rounds: int) -> list[Line]:
    """Time exact searches among prepared rows beside FAISS on the same vectors."""
    pair = cone_pairs(sizes.anchors, sizes.width)
    source, target = cone_pairs(min(sizes.index, 20_000), sizes.width, seed=1)
    amap = ja.fit_map(pair, scorer=ja.LikelihoodRatio())
    index = ja.search.prepare(amap, _tall(sizes.index, target))
    queries = source[: sizes.queries]
    calls = {"jaxalign": lambda: jax.block_until_ready(index.search(queries, 10))}
    encoded = np.asarray(index.encode(queries))
    by_faiss = faiss_search(np.asarray(index.vectors))
    if by_faiss is not None:
        calls["faiss"] = lambda: by_faiss(encoded, 10)
    seconds = median_seconds(calls, rounds=rounds, warmups=1, rest=_REST)
    section = "top-10, exact"
    what = f"{sizes.queries:,} queries, {sizes.index:,} x {index.vectors.shape[1]}"
    if "faiss" not in seconds:
        return [Line(section, f"jaxalign, {what}", seconds["jaxalign"])]
    ratio = seconds["faiss"] / seconds["jaxalign"]
    return [
        Line(section, f"FAISS flat, {what}", seconds["faiss"]),
        Line(section, f"jaxalign, {what}", seconds["jaxalign"], ratio),
    ]


SECTIONS = {
    "scorer": time_scorer,
    "choose": time_choose,
    "prepare": time_prepare,
    "top_k": time_top_k,
}


def main() -> None:
    """Run the sections, print their lines as they come, and keep them."""
    sizes = TINY if launch.TINY.value else Sizes()
    sections = {
        name: lambda section=section: [section(sizes, ROUNDS.value)]
        for name, section in SECTIONS.items()
    }
    chosen = {name: sections[name] for name in chosen_sections(sections)}
    workdir = launch.open_workdir("runs/benchmark_search")
    run_sections(chosen, workdir / "benchmark.json")


flags.adopt_module_key_flags(launch_benchmark)

if __name__ == "__main__":
    launch.launch(main, unused=launch_benchmark.UNUSED)
