# SPDX-License-Identifier: Apache-2.0
"""How fast the Stiefel optimisers are, beside other libraries' and the closed form.

    python -m experiments.benchmarks.stiefel

Sections: `race`, time to a relative suboptimality of 1e-6 on Procrustes from moments,
every method tuned by one rule, then timed in turns; `growth`, our best against the
closed form over condition numbers; `retractions`, a step's time against its products;
`drift`, orthogonality after 10,000 steps. geoopt, pymanopt and torch are left out where
they are not installed. BLAS settings of the environment slow or speed the peers, not
us: unset OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

from absl import flags

from experiments import launch
from experiments.benchmarks import launch_benchmark
from experiments.benchmarks.launch_benchmark import ROUNDS, chosen_sections
from experiments.benchmarks.lines import Line, run_sections
from experiments.benchmarks.stiefel_race import Sizes, time_growth, time_race
from experiments.benchmarks.stiefel_steps import measure_drift, time_retractions
from experiments.solvers.tuning import Budget

_ONLY = flags.DEFINE_list(
    "only", [], "Race these alone: parts of names, such as pogo or geoopt."
)


TINY = Sizes(
    widths=(16,),
    conditions=(10.0,),
    growth_width=16,
    drift_widths=(8,),
    drift_steps=50,
    budget=Budget(steps=200, seconds=0.1, rest=0.0, finalists=1),
    rest=0.0,
    thorough=False,
)

SECTIONS: dict[str, Callable[[Sizes, int], Iterator[list[Line]]]] = {
    "race": time_race,
    "growth": time_growth,
    "retractions": time_retractions,
    "drift": measure_drift,
}


def main() -> None:
    """Run the sections, print their lines as they come, and keep them."""
    sizes = TINY if launch.TINY.value else Sizes()
    sizes = dataclasses.replace(sizes, only=tuple(_ONLY.value))
    sections = {
        name: functools.partial(section, sizes, ROUNDS.value)
        for name, section in SECTIONS.items()
    }
    chosen = {name: sections[name] for name in chosen_sections(sections)}
    workdir = launch.open_workdir("runs/benchmark_stiefel")
    run_sections(chosen, workdir / "benchmark.json")


flags.adopt_module_key_flags(launch_benchmark)

if __name__ == "__main__":
    launch.launch(main, unused=launch_benchmark.UNUSED)
