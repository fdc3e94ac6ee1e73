# SPDX-License-Identifier: Apache-2.0
"""What a pass costs against the number of rows and of devices: model and measurement.

The virtual devices of one machine share its processors, so more of them make nothing
faster here: what is measured is the work and the memory of each, the collectives, and
that splitting costs little. What 256 chips would take is arithmetic, and printed as it.
"""

import functools
import json
import subprocess
import sys

import jax

import jaxalign as ja
from experiments.benchmarks.alternating import median_seconds
from experiments.benchmarks.cone_rows import cone_pairs
from experiments.benchmarks.lines import Line

DEVICES = (1, 2, 4, 8)

# A TPU v5e chip, by its maker's page: 197 TFLOP/s in bfloat16, 819 GB/s of memory, 200
# GB/s to its neighbours. Products of float32 at the highest precision take six passes.
_CHIP_FLOPS, _CHIP_BYTES, _LINK_BYTES = 197e12 / 6, 819e9, 200e9

_MEASURE = """
import json, re, sys
import jax

devices, n, d, rounds = json.loads(sys.argv[1])
jax.config.update("jax_num_cpu_devices", devices)
import jaxalign as ja
from experiments.benchmarks.alternating import median_seconds
from experiments.benchmarks.cone_rows import cone_pairs
from jaxalign.moments.finish import reduce_devices
from jaxalign.moments.passes import init_local

source, target = cone_pairs(n, d)
mesh = ja.sharding.data_mesh()
seconds = median_seconds(
    {
        "pass": lambda: ja.accumulate_moments(
            ja.anchors.array_pairs(source, target, batch_size=8192), mesh=mesh
        ).count.block_until_ready()
    },
    rounds=rounds,
)
local = init_local(d, d, mesh, groups=None, grams=False)
points = [source[0], target[0]]
text = reduce_devices(mesh).lower(local, *points).compile().as_text()
pattern = r" (all-reduce|all-gather|all-to-all|collective-permute)(?:-start)?\\("
print(json.dumps([seconds["pass"], len(re.findall(pattern, text))]))
"""


def time_scaling(n: int, d: int, rounds: int) -> list[Line]:
    """Time passes over more rows, and over more virtual devices."""
    source, target = cone_pairs(2 * n, d)
    empty = ja.moments.init_moments(d, d)
    sizes = [n // 4, n // 2, n, 2 * n]

    def update(rows: int) -> None:
        jax.block_until_ready(
            ja.moments.update_moments(empty, source[:rows], target[:rows]).count
        )

    seconds = median_seconds(
        {str(rows): functools.partial(update, rows) for rows in sizes}, rounds=rounds
    )
    title = f"cost against rows, d = {d} (model: linear)"
    first = seconds[str(sizes[0])] / sizes[0]
    lines = [
        Line(
            title,
            f"{rows:,} rows, per row against the fewest",
            seconds[str(rows)],
            ratio=seconds[str(rows)] / rows / first,
        )
        for rows in sizes
    ]
    title = f"cost against devices, {n:,} x {d}, on the processors of one machine"
    for devices in DEVICES:
        taken, collectives = _on_devices(devices, n, d, rounds)
        lines.append(
            Line(
                title,
                f"{devices} devices: {-(-n // devices):,} rows each",
                taken,
                note=f"{collectives} all-reduce of {d * d + 2 * d + 6:,} numbers",
            )
        )
    return [*lines, *estimate(1_000_000_000, 768, 256)]


def estimate(n: int, d: int, chips: int) -> list[Line]:
    """Estimate a pass on many chips from their makers' figures."""
    title = (
        f"estimate by arithmetic, not measured: {n:.0e} rows, d = {d}, {chips} chips"
    )
    product = 2 * n * d * d / chips / _CHIP_FLOPS
    memory = 2 * n * d * 4 / chips / _CHIP_BYTES
    # A ring sends each number twice, less one part.
    reduce = 2 * (chips - 1) / chips * (d * d + 2 * d + 6) * 4 / _LINK_BYTES
    feed = 2 * n * d * 4 / chips / 1e9
    return [
        Line(
            title,
            "products",
            product,
            note=f"2 n d^2 / {chips} / {_CHIP_FLOPS / 1e12:.0f} TFLOP/s",
        ),
        Line(
            title,
            "reading rows from the chip's memory",
            memory,
            note=f"8 n d bytes / {chips} / {_CHIP_BYTES / 1e9:.0f} GB/s",
        ),
        Line(
            title,
            "one all-reduce at the end",
            reduce,
            note=f"2 (d^2 + 2 d + 6) 4 bytes / {_LINK_BYTES / 1e9:.0f} GB/s",
        ),
        Line(
            title,
            "reading rows from disks, 1 GB/s a chip",
            feed,
            note="what binds: 8 n d bytes / chips / 1 GB/s",
        ),
    ]


def _on_devices(devices: int, n: int, d: int, rounds: int) -> tuple[float, int]:
    """Return the seconds of a pass, and its collectives, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-c", _MEASURE, json.dumps([devices, n, d, rounds])],
        capture_output=True,
        text=True,
        check=True,
    )
    taken, collectives = json.loads(run.stdout)
    return taken, collectives
