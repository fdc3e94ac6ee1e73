# SPDX-License-Identifier: Apache-2.0
"""What a map's file or a store holds, on one screen; no row is read."""

import argparse

from jaxalign.cli.answer import Answer
from jaxalign.cli.parser import CommandParser

EXAMPLES = """
  jaxalign inspect map.safetensors     family, widths, anchors, verdict
  jaxalign inspect old_store/          rows, widths, dtype, ids, columns
  jaxalign inspect rows.npz::image
"""


def add_arguments(parser: CommandParser) -> None:
    """Add this command's flags."""
    parser.add_argument("path", metavar="PATH", help="a map's file, or rows")


def run(arguments: argparse.Namespace) -> Answer:
    """Look."""
    from jaxalign.workflows.inspect import inspect

    found = inspect(arguments.path)
    return Answer(found.lines, found.facts)
