# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a file of rows, from the rows alone, and what to do about it.

Finds rows with NaN, infinity or zeros, equal rows, norms that are not 1, half
precision, constant columns; with --map also rows of another width, another model, or
of the map's other side. Looks at every row once, in constant memory.
"""

import argparse
import dataclasses

from jaxalign.cli.answer import Answer
from jaxalign.cli.parser import CommandParser

EXAMPLES = """
  jaxalign doctor old.npy
  jaxalign doctor old_store/::image --map=map.safetensors
  jaxalign doctor rows.parquet::embedding --json
"""


def add_arguments(parser: CommandParser) -> None:
    """Add this command's flags."""
    add = parser.add_argument
    add("rows", metavar="ROWS", help="rows.npy, rows.npz::key, folder/, ...")
    add("--map", help="a map's file: are these rows of its source side?")
    add("--modality", help="name a lone matrix, or select one of a folder")


def run(arguments: argparse.Namespace) -> Answer:
    """Look at all rows."""
    from jaxalign.workflows.doctor import examine

    found = examine(arguments.rows, map_path=arguments.map, modality=arguments.modality)
    widths = ", ".join(
        f"{name} {of.shape[1]:,} {of.dtype.name}"
        for name, of in found.rows.rows.items()
    )
    lines = [f"{found.rows.reference}: {len(found.rows):,} rows ({widths})"]
    several = len(found.health) > 1
    for one in found.findings:
        where = f"{one.modality}: " if several else ""
        lines.append(f"{one.level}: {where}{one.text}")
        lines.append(f"    {one.advice}")
    if not found.findings:
        lines.append("Nothing found: finite, unit norms, no equal rows.")
    facts = {
        "rows": {
            name: {
                "rows": one.rows,
                "width": one.width,
                "dtype": found.rows.rows[name].dtype.name,
                "bad": one.bad,
                "norms": list(one.norms),
            }
            for name, one in found.health.items()
        },
        "kind": found.rows.kind,
        "space": found.rows.space,
        "findings": [dataclasses.asdict(one) for one in found.findings],
    }
    return Answer(lines, facts)
