# SPDX-License-Identifier: Apache-2.0
"""How few classes of anchors are enough: the paper's curves over N classes.

    python -m experiments.few_anchors

Half of the classes are never anchors. Of the others, N are drawn and the map is fitted
on their pictures; it is evaluated on these N classes (other renderings of their
pictures) and on the classes that were never anchors. All fits come from ONE pass over
the rows: moments grouped by class, of which every draw is a subset. Writes
`report.html` with the curves, `results.json` and the map of the most classes.
"""

import dataclasses
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

import jaxalign as ja
from experiments import launch
from experiments.splits import check_splits
from experiments.two_models import TwoModels, read_models
from jaxalign.data import catalog
from jaxalign.evaluate.rows import ResultRow
from jaxalign.pairing.embedded_split import EmbeddedSplit
from jaxalign.report.document import (
    figure,
    finding,
    run_section,
    section,
    write_document,
)
from jaxalign.report.results import library_versions
from jaxalign.report.sweep import Sweep, method_of

SEEN, UNSEEN = "seen classes", "unseen classes"


@dataclasses.dataclass(frozen=True)
class Config(TwoModels):
    """What the experiment depends on; stored with every result."""

    fit_on: str = "image"
    counts: tuple[int, ...] = (5, 10, 15, 20, 25)
    seeds: tuple[int, ...] = (0, 1, 2)
    replicates: int = 200


@dataclasses.dataclass(frozen=True)
class Draw:
    """One subset of anchor classes, and the classes that are never anchors."""

    seed: int
    anchors: np.ndarray
    unseen: np.ndarray


def draw_classes(
    labels: np.ndarray, counts: Sequence[int], seeds: Sequence[int]
) -> list[Draw]:
    """Draw N classes for each N and seed, and all; smaller draws lie in larger ones."""
    draws = []
    for seed in seeds:
        pool, unseen = catalog.split_classes(labels, seed=seed)
        order = np.random.default_rng(seed).permutation(pool)
        sizes = [n for n in counts if n < len(pool)]
        draws += [Draw(seed, order[:n], unseen) for n in [*sizes, len(pool)]]
    return draws


def grouped_moments(split: EmbeddedSplit, classes: int) -> dict[str, ja.Moments]:
    """Pass over the rows once: moments of each class, for pictures and captions.

    Pictures in the rendering that is searched for are left for the evaluation.
    """
    rows = {"image": ~split.is_query, "text": split.is_query}
    return {
        modality: ja.accumulate_moments(
            ja.anchors.array_pairs(
                getattr(split.source, modality)[chosen],
                getattr(split.target, modality)[chosen],
                group=split.labels[chosen],
            ),
            groups=classes,
            grams=True,
        )
        for modality, chosen in rows.items()
    }


def run(
    config: Config,
    models: tuple[ja.encoders.Encoders, ja.encoders.Encoders],
    workdir: Path,
) -> list[ResultRow]:
    """Embed, fit every draw, evaluate, write; return the rows."""
    split, texts = config.embed(models)
    info = catalog.dataset_info(config.dataset)
    moments = grouped_moments(split, len(info.class_names))
    draws = draw_classes(split.labels, config.counts, config.seeds)
    subsets = [np.isin(np.arange(len(info.class_names)), d.anchors) for d in draws]
    maps = ja.fit_groups(
        moments,
        np.array(subsets),
        ja.families.PAPER,
        fit_on=config.fit_on,
        source_space=split.source.space,
        target_space=split.target.space,
    )
    rows: list[ResultRow] = []
    bar = tqdm(zip(draws, maps, strict=True), "Evaluating", len(draws), unit=" fits")
    for draw, amap in bar:
        for name, classes in ((SEEN, draw.anchors), (UNSEEN, draw.unseen)):
            pairs = split.pairs(classes, *texts)
            about = ja.evaluate.Run(
                name, draw.seed, config.as_json(), config.replicates
            )
            method = method_of(len(draw.anchors))
            rows += ja.evaluate_map(method, amap, pairs, run=about)
            if name == UNSEEN and len(draw.anchors) == len(draws[-1].anchors):
                rows += ja.evaluate.evaluate_native(pairs, run=about)
    write(workdir, rows, config, maps[-1], moments)
    return rows


def write(
    workdir: Path,
    rows: list[ResultRow],
    config: Config,
    amap: ja.AlignmentMap,
    moments: dict[str, ja.Moments],
) -> None:
    """Write the rows, the last map and the page of curves."""
    ja.report.write_results(workdir / "results.json", rows)
    amap.save(workdir / "map.safetensors")
    used = sum(one.memory_bytes for one in moments.values()) / 1e6
    how = (
        f"{len(config.seeds)} draws of anchor classes for each N; lines are means, "
        "bands the range of the draws. Seen: other renderings of the anchors' "
        "pictures, N classes to tell apart, so that few classes are an easy choice. "
        "Unseen: the half of the classes that are never anchors, the same for every N. "
        "All fits are subsets of one pass over the rows: moments of each class, "
        f"{used:.0f} MB."
    )
    sweep = Sweep.of(rows, (SEEN, UNSEEN))
    write_document(
        workdir / "report.html",
        f"Few anchors: {config.source} to {config.target}",
        [
            finding(sweep.describe(UNSEEN)),
            section(
                "Metrics against the number of anchor classes",
                figure(sweep.draw(axis="anchor classes N"), how),
            ),
            section("The same in numbers", sweep.tables(axis="N")),
            run_section(config.as_json(), library_versions()),
        ],
        credit=config.credit(),
    )


def main() -> None:
    """Read the flags, run, and say what came out."""
    started = time.perf_counter()
    config = Config(
        **read_models(), fit_on=launch.FIT_ON.value, seeds=launch.parse_seeds()
    )
    if launch.TINY.value:
        config = dataclasses.replace(
            config, seeds=config.seeds[:2], counts=(2, 3), replicates=50
        )
    check_splits(config.dataset, ["learnt"])
    models = config.load()
    workdir = launch.open_workdir("runs/few_anchors")
    rows = run(config, models, workdir)
    print(Sweep.of(rows, (SEEN, UNSEEN)).describe(UNSEEN))
    print(
        f"\nWritten to {workdir}: report.html (open it), results.json, map.safetensors."
        f"\n{time.perf_counter() - started:.0f} s in all."
    )
    sys.stdout.flush()


flags.adopt_module_key_flags(launch)

if __name__ == "__main__":
    launch.launch(main)
