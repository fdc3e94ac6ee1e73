# SPDX-License-Identifier: Apache-2.0
"""The main job: fit one orthogonal map on images, and see whether texts cross too.

    python -m experiments.align

Embeds the data set with both models, fits the map (and all that it is compared with) on
the images of anchor classes, and evaluates on classes that the map never saw and on
emoji that neither model saw. Prints a table; writes `results.json`, `map.safetensors`
and `report.html` to --workdir.
"""

import sys
import textwrap
import time

from absl import flags

from experiments import launch
from experiments.two_models import read_models
from jaxalign.evaluate.baselines import DEFAULT
from jaxalign.report.table import format_table
from jaxalign.workflows.paper import Config, load, run, tiny


def main() -> None:
    """Read the flags, run, and print the table."""
    started = time.perf_counter()
    config = Config(
        **read_models(),
        fit_on=launch.FIT_ON.value,
        seeds=launch.parse_seeds(),
        full=FULL.value,
    )
    if launch.TINY.value:
        config = tiny(config)
    # What can be wrong with models and data shows before the results' folder is made.
    source, target = load(config)
    workdir = launch.open_workdir("runs/align")
    rows, remarks = run(config, source, target, workdir)
    print(format_table(rows, headline=DEFAULT, fit_on=config.fit_on))
    for remark in remarks:
        text = textwrap.fill(remark.replace(" %", "\xa0%"), 96)
        print("\n" + text.replace("\xa0", " "))
    print(
        f"\nWritten to {workdir}: report.html (open it), results.json, map.safetensors."
        f"\n{time.perf_counter() - started:.0f} s in all."
    )
    sys.stdout.flush()


FULL = flags.DEFINE_boolean(
    "full",
    False,
    "Also show the paper's map uncentred, one rotation used in other ways, least "
    "squares and an MLP.",
)
flags.adopt_module_key_flags(launch)

if __name__ == "__main__":
    launch.launch(main)
