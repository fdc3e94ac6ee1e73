# SPDX-License-Identifier: Apache-2.0
"""Embed pictures and their texts with one model or two, into folders of rows.

Each model gets a folder laid out as clip-retrieval and autofaiss expect. A run that
was killed goes on where it stopped. Needs extras: pip install 'jaxalign[encoders,data]'
"""

import argparse

from jaxalign.cli.answer import Answer
from jaxalign.cli.parser import CommandParser

EXTRA = "encoders,data"
EXAMPLES = """
  jaxalign embed pictures/ --models=openai/clip-vit-base-patch32 --out=rows
      one model: rows of pictures and captions in rows/source
  jaxalign embed pictures/ --models=old/model,new/model --out=rows
      two models in one pass: rows/source and rows/target, ready for jaxalign fit
  jaxalign embed train.tar --models=old/model --out=rows --store_dtype=float16
"""


def add_arguments(parser: CommandParser) -> None:
    """Add this command's flags."""
    add = parser.add_argument
    add(
        "pictures",
        metavar="PICTURES",
        help="a folder of pictures with captions.csv, WebDataset tar files, a folder "
        "that TFDS has prepared, or a named data set such as openmoji",
    )
    add(
        "--models",
        required=True,
        metavar="A[,B]",
        help="checkpoint folders, or models of the Hugging Face hub as owner/name or "
        "owner/name@revision",
    )
    add("--out", required=True, help="folder for the rows")
    add("--split", help="which split of the data; default: the one for evaluation")
    add("--data_dir", help="where prepared data sets live")
    add("--batch_size", type=int, default=128, help="examples a step")
    add("--dtype", default="float32", choices=("float32", "bfloat16"), help="to encode")
    add(
        "--store_dtype",
        default="float32",
        choices=("float32", "float16"),
        help="of the rows on disk",
    )
    add("--max_examples", type=int, help="only the first so many")
    add("--part_examples", type=int, help="examples a file")
    add("--strict", action="store_true", help="end at a picture that cannot be read")
    add("--workers", type=int, help="processes that decode ahead; 0: a thread does")
    add("--threads", type=int, default=2, help="threads that decode, in each of them")
    add("--verify", action="store_true", help="read all files again at the end")


def run(arguments: argparse.Namespace) -> Answer:
    """Embed what the stores miss."""
    from jaxalign.workflows import embed

    return answer_of(
        embed.embed_pictures(
            arguments.pictures,
            arguments.models,
            arguments.out,
            split=arguments.split,
            data_dir=arguments.data_dir,
            batch_size=arguments.batch_size,
            encoder_dtype=arguments.dtype,
            store_dtype=arguments.store_dtype,
            max_examples=arguments.max_examples,
            part_examples=arguments.part_examples,
            strict=arguments.strict,
            workers=arguments.workers,
            threads=arguments.threads,
            verify=arguments.verify,
        )
    )


def answer_of(stores) -> Answer:
    """Say which stores were written."""
    from jaxalign.workflows.embed import describe_stores

    facts = {
        role: {
            "folder": store.folder,
            "rows": len(store),
            "skipped": len(store.skipped),
            "space": store.space,
            "widths": {name: store.dim(name) for name in store.modalities},
        }
        for role, store in stores.items()
    }
    return Answer(
        describe_stores(stores).splitlines(),
        {"stores": facts, "files": [store.folder for store in stores.values()]},
    )
