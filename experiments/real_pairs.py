# SPDX-License-Identifier: Apache-2.0
r"""Searches between two real models: the paper's map, the default, and the choice.

    python -m experiments.real_pairs --rows=FOLDER
    python -m experiments.real_pairs --source_rows=old.npy --target_rows=new.npy

FOLDER holds public embeddings of real models, see `SETS`: files that are missing are
left out, and named. Or bring two matrices of your own, row i of both of one thing. Of
each set k rows are drawn as anchors, the others are asked for in both directions:
source queries in target rows, and target queries in source rows. Rows that are equal on
either side count as one thing. Prints a table, and writes `results.json`.
"""

import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

import jaxalign as ja
from experiments import launch
from jaxalign.errors import ArgumentError
from jaxalign.families.scorer import Side
from jaxalign.heldout.things import number_things
from jaxalign.report.results import library_versions
from jaxalign.report.table import align_columns

_ROWS = flags.DEFINE_string("rows", None, "Folder with the files of real models.")
_SOURCE_ROWS = flags.DEFINE_string(
    "source_rows", None, "A .npy file of your own: rows of the source model."
)
_TARGET_ROWS = flags.DEFINE_string(
    "target_rows", None, "A .npy file of your own: the same things by the target model."
)
_ANCHORS = flags.DEFINE_list(
    "anchors", ["50", "100"], "Numbers of anchors for --source_rows and --target_rows."
)
_DRAWS = flags.DEFINE_integer("draws", 20, "Draws of anchors of each set.", 1)
_UNUSED = ("source", "target", "dtype", "dataset", "data_dir", "fit_on", "seeds")
TINY_DRAWS = 2


@dataclasses.dataclass(frozen=True)
class RealSet:
    """Rows of two real models in one file.

    Attributes:
      name: in the table.
      file: an .npz file.
      source: array of the source model's rows in it.
      target: array of the target model's.
      anchors: how many are drawn.
      origin: where the rows were published, and under which licence.
    """

    name: str
    file: str
    source: str
    target: str
    anchors: tuple[int, ...]
    origin: str


SETS = (
    RealSet(
        "ImageNet class texts, CLIP B/32 -> L/14",
        "imagenet_class_texts.npz",
        "clip_b32",
        "clip_l14",
        (50, 100, 500),
        "github.com/woctezuma/heroku-clip (MIT), FoamoftheSea/Dill-CLIP (Apache-2.0)",
    ),
    RealSet(
        "film posters, CLIP B/32 -> SigLIP base",
        "poster_images.npz",
        "clip_b32",
        "siglip_base",
        (50,),
        "github.com/pulp-analytics/horror-metrics-pipeline (MIT)",
    ),
    RealSet(
        "COCO class texts, CLIP B/32 -> SigLIP so400m",
        "coco_class_texts.npz",
        "clip_b32_a_cname",
        "siglip_so400m",
        (40,),
        "github.com/facebookresearch/Detic, xiaomoguhz/DeCLIP (Apache-2.0)",
    ),
)

Pair = tuple[np.ndarray, np.ndarray]


def load_sets(folder: Path) -> dict[RealSet, Pair]:
    """Read the files that are there; say which are not."""
    found, missing = {}, []
    for one in SETS:
        path = folder / one.file
        if not path.is_file():
            missing.append(one)
            continue
        with np.load(path, allow_pickle=False) as arrays:
            lacking = {one.source, one.target} - set(arrays)
            if lacking:
                raise ArgumentError(
                    f"--rows={str(folder)!r}",
                    f"arrays {one.source!r} and {one.target!r} in {one.file}",
                    sorted(arrays),
                    f"make the file of {one.origin}",
                )
            source, target = arrays[one.source], arrays[one.target]
        found[one] = (source.astype(np.float32), target.astype(np.float32))
    names = "; ".join(f"{one.file} (of {one.origin})" for one in missing)
    if not found:
        raise ArgumentError(
            f"--rows={str(folder)!r}",
            f"a folder with one or more of {names}",
            "none of them",
            "name the folder, or bring rows of your own: --source_rows, --target_rows",
        )
    if missing:
        print(f"Left out, since they are not in {folder}: {names}.", file=sys.stderr)
    return found


def own_set() -> dict[RealSet, Pair]:
    """Read two matrices of the user's."""
    sides = []
    for name, flag in (("source_rows", _SOURCE_ROWS), ("target_rows", _TARGET_ROWS)):
        path = Path(flag.value or "")
        if not path.is_file() or path.suffix != ".npy":
            raise ArgumentError(
                f"--{name}", "an .npy file", flag.value, "pass both sides, or --rows"
            )
        try:
            rows = np.load(path, allow_pickle=False)
        except ValueError as error:
            raise ArgumentError(
                f"--{name}", "an .npy file of numbers", f"{flag.value!r} ({error})"
            ) from error
        if rows.ndim != 2 or rows.dtype.kind != "f" or not np.all(np.isfinite(rows)):
            raise ArgumentError(
                f"--{name}",
                "finite floating rows (n, d)",
                f"{rows.dtype} of shape {rows.shape}",
                "leave out rows that are no embeddings",
            )
        sides.append(rows)
    counts = [text.strip() for text in _ANCHORS.value]
    if not counts or not all(text.isdigit() for text in counts):
        raise ArgumentError(
            "--anchors", "whole numbers", _ANCHORS.value, "write --anchors=50,100"
        )
    sizes = tuple(map(int, counts))
    if len(sides[0]) != len(sides[1]) or not 3 <= min(sizes) <= max(sizes) < len(
        sides[0]
    ):
        raise ArgumentError(
            "--anchors",
            f"3 or more, and fewer than the {len(sides[0])} rows of either side",
            f"{sizes} of {[len(side) for side in sides]} rows",
            "the others are asked for",
        )
    one = RealSet("your rows", _SOURCE_ROWS.value or "", "", "", sizes, "yours")
    return {one: (sides[0], sides[1])}


def top1(of, rows: Pair, things: np.ndarray, rows_are: Side, use=None) -> float:
    """Share of queries that find a row of their thing first."""
    source, target = rows
    asks, held = (source, target) if rows_are == "target" else (target, source)
    index = ja.search.prepare(of, held, rows_are=rows_are, use=use)
    found = np.asarray(index.search(asks, 1)[1])[:, 0]
    return float(np.mean(things[found] == things))


def one_draw(rows: Pair, things: np.ndarray, k: int, seed: int) -> dict[str, dict]:
    """Fit on k anchors, ask for the others; top-1 by method and direction."""
    order = np.random.default_rng(seed).permutation(len(things))
    source, target = rows
    anchors = source[order[:k]], target[order[:k]]
    rest = source[order[k:]], target[order[k:]]
    asked = things[order[k:]]
    choice = ja.choose_map(anchors)
    methods = {
        "paper": (ja.fit_map(anchors, ja.families.PAPER), ja.search.Use.PAPER),
        "default": (ja.fit_map(anchors), None),
        "chosen": (choice, None),
    }
    sides: tuple[Side, ...] = ("target", "source")
    found: dict[str, dict] = {
        name: {side: top1(of, rest, asked, side, use) for side in sides}
        for name, (of, use) in methods.items()
    }
    found["chosen"]["family"] = choice.candidate.family.describe()
    return found


def mean_and_error(values) -> tuple[float, float]:
    """Mean over draws of the mean of both directions, and its standard error."""
    both = np.mean(values, axis=1)
    error = np.std(both, ddof=1) / np.sqrt(len(both)) if len(both) > 1 else np.nan
    return float(np.mean(both)), float(error)


def run(sets: dict[RealSet, Pair], draws: int, workdir: Path) -> list[str]:
    """Run all sets and draws; write the figures, and return the table's lines."""
    heads = [["set", "anchors", "paper", "default", "chosen"]]
    lines, results = [], []
    total = draws * sum(len(one.anchors) for one in sets)
    with tqdm(total=total, unit=" fits") as bar:
        for one, rows in sets.items():
            numbered = number_things(ja.Anchors(rows)).rows["rows"]
            for k in one.anchors:
                found = []
                for seed in range(draws):
                    found.append(one_draw(rows, numbered.known("ids"), k, seed))
                    bar.update()
                cells = []
                for name in heads[0][2:]:
                    values = [[d[name]["target"], d[name]["source"]] for d in found]
                    mean, error = mean_and_error(values)
                    cells.append(f"{mean:.3f} +- {error:.3f}")
                lines.append([one.name, str(k), *cells])
                results.append({**dataclasses.asdict(one), "k": k, "draws": found})
                text = json.dumps({"rows": results, "versions": library_versions()})
                (workdir / "results.json").write_text(text)
    return align_columns(heads, lines)


def main() -> None:
    """Read the flags, run, and print the table."""
    started = time.perf_counter()
    own, folder = _SOURCE_ROWS.value or _TARGET_ROWS.value, _ROWS.value
    if bool(own) == bool(folder):
        raise ArgumentError(
            "--rows",
            "a folder, or else --source_rows and --target_rows",
            "both" if own else "neither",
            "see --help",
        )
    sets = own_set() if folder is None else load_sets(Path(folder))
    workdir = launch.open_workdir("runs/real_pairs")
    draws = min(_DRAWS.value, TINY_DRAWS) if launch.TINY.value else _DRAWS.value
    print("\n".join(run(sets, draws, workdir)))
    print(
        "\ntop-1 among the rows that are no anchors: mean over draws and over both "
        "directions, with its\nstandard error over draws."
    )
    for one in sets:
        print(f"{one.name}: {one.file}, {one.origin}")
    print(
        f"\nWritten to {workdir}: results.json. {time.perf_counter() - started:.0f} s."
    )


flags.adopt_module_key_flags(launch)

if __name__ == "__main__":
    launch.launch(main, unused=_UNUSED)
