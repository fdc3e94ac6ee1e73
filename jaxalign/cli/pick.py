# SPDX-License-Identifier: Apache-2.0
"""Which rows of an old store to embed with the new model first, before any pairs exist.

Picks rows that stand for the whole store: each row should be close to a picked one.
On rows of real models, maps fitted on them do better than on as many random ones.
Prints, or writes, one id a line (row numbers where there are no ids), the most useful
first: the first 100 are a pick of 100.
"""

import argparse

from jaxalign.cli.answer import Answer
from jaxalign.cli.parser import CommandParser

EXAMPLES = """
  jaxalign pick old.npy --n=1000 --out=numbers.txt
      then embed these with the new model, in this order, and:
      jaxalign fit old.npy new.npy --picked=numbers.txt
  jaxalign pick old_store/::image --n=500 --id_column=image_path --out=ids.txt
"""


def add_arguments(parser: CommandParser) -> None:
    """Add this command's flags."""
    add = parser.add_argument
    add("rows", metavar="ROWS", help="rows.npy, rows.npz::key, folder/, ...")
    add("--n", type=int, default=1000, help="how many to pick (1000)")
    add("--seed", type=int, default=0, help="another seed, another pick")
    add("--out", help="text file for the ids; default: print them")
    add("--modality", help="whose rows count, of a folder with several (image)")
    add("--id_column", help="column with the ids, of parquet or a folder's metadata")
    add("--overwrite", action="store_true", help="replace an older --out")


def run(arguments: argparse.Namespace) -> Answer:
    """Pick rows."""
    from jaxalign.workflows.pick import pick

    found = pick(
        arguments.rows,
        arguments.n,
        seed=arguments.seed,
        out=arguments.out,
        modality=arguments.modality,
        id_column=arguments.id_column,
        overwrite=arguments.overwrite,
    )
    kept = found.numbers if found.ids is None else found.ids
    lines = [str(one) for one in kept]
    if found.path is not None:
        word = "row numbers" if found.ids is None else "ids"
        lines = [
            f"Picked {len(kept):,} of {found.rows:,} rows, by {found.modality}: {word} "
            f"in {found.path}."
        ]
    facts = {
        "modality": found.modality,
        "rows_read": found.rows,
        "numbers": found.numbers.tolist(),
        "ids": None if found.ids is None else found.ids.tolist(),
        "files": [] if found.path is None else [found.path],
    }
    return Answer(lines, facts)
