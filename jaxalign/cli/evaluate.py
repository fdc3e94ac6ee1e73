# SPDX-License-Identifier: Apache-2.0
"""How well a map does on new pairs, which it was not fitted on.

Each row of SOURCE is searched among 1,000 rows of TARGET at a time, its partner among
them. Says how often it is found, how far its nearest neighbours are those that the
target model itself gives, and how much of the target's spread the map explains, beside
the same for shuffled pairs.
"""

import argparse

from jaxalign.cli.answer import Answer
from jaxalign.cli.parser import CommandParser

EXAMPLES = """
  jaxalign evaluate map.safetensors new_pairs_old.npy new_pairs_new.npy
  jaxalign evaluate map.safetensors old_store/::image new_store/::image --json
"""


def add_arguments(parser: CommandParser) -> None:
    """Add this command's flags."""
    add = parser.add_argument
    add("map", metavar="MAP", help="the map's file")
    add("source", metavar="SOURCE", help="rows of the old model")
    add("target", metavar="TARGET", help="rows of the new model")
    add("--modality", help="name two lone matrices, or select one of folders")
    add("--match", default="auto", choices=("auto", "id", "position"), help="of rows")
    add("--id_column", help="column with the ids, of parquet or a folder's metadata")
    add("--skip_bad", action="store_true", help="leave out any number of bad pairs")
    add("--require", choices=("usable", "weak"), help="below it exit with 3")


def run(arguments: argparse.Namespace) -> Answer:
    """Evaluate a map."""
    from jaxalign.workflows.evaluate import evaluate
    from jaxalign.workflows.lines import wrap
    from jaxalign.workflows.tell import figure_lines, verdict_facts

    verdict, counts = evaluate(
        arguments.map,
        arguments.source,
        arguments.target,
        modality=arguments.modality,
        id_column=arguments.id_column,
        match=arguments.match,
        skip_bad=arguments.skip_bad,
    )
    unmet = None
    if arguments.require and not verdict.meets(arguments.require):
        unmet = f"--require={arguments.require}, the verdict is {verdict.word}"
    facts = {
        **verdict_facts(verdict),
        "rows_read": counts.read,
        "rows_used": counts.used,
        "rows_skipped": counts.skipped,
        "rows_unmatched": counts.unmatched,
        "files": [],
    }
    return Answer([*wrap(verdict.sentence), *figure_lines(verdict)], facts, unmet)
