# SPDX-License-Identifier: Apache-2.0
"""Fit a map from rows of two models: a verdict, the map, and how to use it.

SOURCE and TARGET hold rows of the old and the new model, row i of both of one thing
(or the same ids). Rows are divided by their norms; pairs with a NaN, infinite or zero
row are left out and counted. The verdict comes from pairs that were held out: usable,
weak, none or too_few. Moments are kept beside the map, so that --add takes more pairs.
"""

import argparse

from jaxalign.cli.answer import Answer
from jaxalign.cli.parser import CommandParser

EXAMPLES = """
  jaxalign fit old.npy new.npy --out=map.safetensors
  jaxalign fit old_store/ new_store/ --id_column=image_path --out=map.safetensors
  jaxalign fit --pair=image:a.npy:b.npy --pair=text:c.npy:d.npy --out=map.safetensors
  jaxalign fit old.npy new_1000.npy --picked=ids.txt        of jaxalign pick
  jaxalign fit old.npy new.npy --require=usable --json      for scripts: exit code 3
  jaxalign fit --add=map.safetensors more_old.npy more_new.npy
  jaxalign fit --models=old/model,new/model --pictures=folder/ --out=map.safetensors
"""


def add_arguments(parser: CommandParser) -> None:
    """Add this command's flags."""
    add = parser.add_argument
    add("source", metavar="SOURCE", nargs="?", help="rows of the old model")
    add("target", metavar="TARGET", nargs="?", help="rows of the new model")
    add("--out", help="the map's file (map.safetensors, or that of --add)")
    add("--overwrite", action="store_true", help="replace an older --out")
    add("--modality", help="name two lone matrices, or select one of folders")
    parser.add_repeatable(
        "--pair", metavar="NAME:SOURCE:TARGET", help="rows of one modality; repeat"
    )
    add("--match", default="auto", choices=("auto", "id", "position"), help="of rows")
    add("--id_column", help="column with the ids, of parquet or a folder's metadata")
    add("--picked", metavar="FILE", help="rows of SOURCE that TARGET has, see pick")
    add("--normalize", choices=("unit", "none"), help="rows by their norms (unit)")
    add("--skip_bad", action="store_true", help="leave out any number of bad pairs")
    add("--purpose", help="search (default), rewrite, cross or zero_shot")
    add("--family", help="names, separated by commas, to choose from; such as ridge")
    add("--fit_on", help="modality to fit the matrix on, or all; default: chosen")
    add("--require", help="usable or weak: below it write nothing, exit with 3")
    add("--add", metavar="MAP", help="a map that these pairs are added to")
    add("--force", action="store_true", help="--add even pairs that MAP does not fit")
    add("--map_only", action="store_true", help="keep no moments for --add beside it")
    add("--models", metavar="A,B", help="embed --pictures with these, then fit")
    add("--pictures", help="folder of pictures with captions.csv, see jaxalign embed")


def run(arguments: argparse.Namespace) -> Answer:
    """Fit a map."""
    from jaxalign.workflows import fit

    out = arguments.out or arguments.add or "map.safetensors"
    options = fit.FitOptions(
        source=arguments.source,
        target=arguments.target,
        pairs=arguments.pair,
        modality=arguments.modality,
        id_column=arguments.id_column,
        match=arguments.match,
        picked=arguments.picked,
        normalize=None
        if arguments.normalize is None
        else arguments.normalize == "unit",
        skip_bad=arguments.skip_bad,
        purpose=arguments.purpose,
        families=tuple(filter(None, (arguments.family or "").split(","))),
        fit_on=arguments.fit_on,
        add=arguments.add,
        force=arguments.force,
        out=out,
        overwrite=arguments.overwrite,
        require=arguments.require,
        map_only=arguments.map_only,
    )
    if arguments.models or arguments.pictures:
        found = fit.fit_models(options, arguments.models, arguments.pictures)
    else:
        found = fit.fit(options)
    return Answer(fit.describe(found), fit.facts_of(found), found.unmet)
