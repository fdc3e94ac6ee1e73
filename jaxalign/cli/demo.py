# SPDX-License-Identifier: Apache-2.0
"""See it work: fit one map on pictures, and ask whether texts cross too.

Takes two small models that ship with the package, a CLIP and a SigLIP trained apart on
drawings of emoji, fits the map on pictures of half of the classes, and asks about the
other half. Downloads nothing. Writes report.html, results.json and map.safetensors.
Needs the extra: pip install 'jaxalign[demo]'
"""

import argparse

from jaxalign.cli.answer import Answer
from jaxalign.cli.parser import CommandParser, read_seeds

EXTRA = "demo"
EXAMPLES = """
  jaxalign demo                    two minutes on two cores
  jaxalign demo --tiny             the same work at toy size, in seconds
  jaxalign demo --full --out=runs  all methods and tables, as the paper shows them
"""


def add_arguments(parser: CommandParser) -> None:
    """Add this command's flags."""
    add = parser.add_argument
    add("--out", default="jaxalign-demo", help="folder for the results")
    add("--tiny", action="store_true", help="toy size, in seconds")
    add("--full", action="store_true", help="print every table, and try more maps")
    add("--seeds", default="0,1,2", help="one split of classes each")
    add("--source", default="jaxalign/openmoji-clip", help="source model")
    add("--target", default="jaxalign/openmoji-siglip", help="target model")
    add("--data_dir", help="where prepared data sets live")


def run(arguments: argparse.Namespace) -> Answer:
    """Run the paper's experiment."""
    seeds = read_seeds("--seeds", arguments.seeds)
    from jaxalign.compilation_cache import use_compilation_cache
    from jaxalign.evaluate.baselines import DEFAULT
    from jaxalign.report.table import format_table
    from jaxalign.workflows import paper
    from jaxalign.workflows.outputs import open_folder

    config = paper.Config(
        source=arguments.source,
        target=arguments.target,
        dataset="openmoji/tiny" if arguments.tiny else "openmoji",
        data_dir=arguments.data_dir,
        seeds=seeds,
        full=arguments.full,
    )
    config = paper.tiny(config) if arguments.tiny else config
    use_compilation_cache()
    models = paper.load(config)
    folder = open_folder(arguments.out, "--out")
    rows, remarks = paper.run(config, *models, folder)
    lines = paper.summarise(rows, config)
    if arguments.full:
        table = format_table(rows, headline=DEFAULT, fit_on=config.fit_on)
        lines = [table, *(f"\n{remark}" for remark in remarks), ""]
    lines.append(f"Written to {folder}: report.html (open it), results.json, and the")
    lines.append("map. Next: jaxalign inspect " + str(folder / "map.safetensors"))
    files = ["report.html", "results.json", "map.safetensors"]
    return Answer(
        lines,
        {
            "rows": [row.to_json() for row in rows],
            "remarks": remarks,
            "files": [folder / name for name in files],
        },
    )
