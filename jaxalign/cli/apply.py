# SPDX-License-Identifier: Apache-2.0
"""Carry the rows of an old store to the new model's space, in the same format.

No row is dropped or moved; metadata and ids come along; a bad row comes out as NaN.
A run that was killed goes on where it stopped, and ends in the same bytes. --for=rows
(default) writes rows that can stand beside the new model's own, compared by cosine.
--for=search writes rows that the new model's own queries, untouched, search by cosine
as well as they can be: it finds more, but these must not be mixed with other rows.
"""

import argparse

from jaxalign.cli.answer import Answer
from jaxalign.cli.parser import CommandParser

EXAMPLES = """
  jaxalign apply map.safetensors old.npy carried.npy
  jaxalign apply map.safetensors old_store/ carried_store/
  jaxalign apply map.safetensors old_store/::image carried_store/
  jaxalign apply map.safetensors old.npy for_search.npy --for=search
  jaxalign apply map.safetensors rows.parquet::embedding carried.parquet
"""


def add_arguments(parser: CommandParser) -> None:
    """Add this command's flags."""
    add = parser.add_argument
    add("map", metavar="MAP", help="the map's file")
    add("rows", metavar="IN", help="rows of the old model")
    add("out", metavar="OUT", help="a new file or folder of the same format")
    add(
        "--for", dest="form", default="rows", choices=("rows", "search"), help="see top"
    )
    add(
        "--queries",
        metavar="ROWS",
        help="new rows that stand for queries; --for=search",
    )
    add("--dtype", help="of the output; default: that of the input")
    add("--modality", help="name a lone matrix, or select one of a folder")
    add("--normalize", choices=("unit", "none"), help="default: as the map was fitted")
    add("--force", action="store_true", help="even rows that fit the other side better")
    add("--overwrite", action="store_true", help="replace an older OUT")


def run(arguments: argparse.Namespace) -> Answer:
    """Carry rows."""
    from jaxalign.workflows.apply import apply

    normalize = arguments.normalize
    done = apply(
        arguments.map,
        arguments.rows,
        arguments.out,
        form=arguments.form,
        queries=arguments.queries,
        dtype=arguments.dtype,
        modality=arguments.modality,
        normalize=None if normalize is None else normalize == "unit",
        force=arguments.force,
        overwrite=arguments.overwrite,
    )
    widths = ", ".join(
        f"{name} {width:,} {done.dtype[name]}" for name, width in done.widths.items()
    )
    lines = [f"Written: {done.path}, {done.rows:,} rows ({widths})."]
    if done.bad:
        lines.append(f"{done.bad:,} are NaN: they were not finite, or zero.")
    if done.resumed:
        lines.append(f"{done.resumed:,} were there already, of a run that was killed.")
    facts = {
        "rows_read": done.rows,
        "rows_used": done.rows - done.bad,
        "rows_bad": done.bad,
        "rows_resumed": done.resumed,
        "widths": done.widths,
        "dtypes": done.dtype,
        "files": [done.path],
    }
    return Answer(lines, facts)
