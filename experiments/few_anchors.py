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
import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import flags
from tqdm import tqdm

import jaxalign as ja
from experiments import launch
from experiments.two_models import read_models
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
from jaxalign.workflows.splits import check_splits
from jaxalign.workflows.two_models import TwoModels

SEEN, UNSEEN = "seen classes", "unseen classes"
# Beside the paper's map: searches of the unseen classes by the same anchors.
USES = {
    f"{UNSEEN}, default": ja.search.Use(),
    f"{UNSEEN}, likelihood ratio": ja.search.Use.SCORER,
}
TABLES = (SEEN, UNSEEN, *USES)


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


def anchor_rows(split: EmbeddedSplit) -> dict[str, np.ndarray]:
    """Which rows can be anchors, by modality.

    Pictures in the rendering that is searched for are left for the evaluation.
    """
    return {"image": ~split.is_query, "text": split.is_query}


def anchors_of(split: EmbeddedSplit, classes: np.ndarray) -> ja.Anchors:
    """Anchors of some classes, which offsets are measured by."""
    chosen = split.of_classes(classes)
    return ja.Anchors(
        {
            name: tuple(
                getattr(side, name)[chosen & rows]
                for side in (split.source, split.target)
            )
            for name, rows in anchor_rows(split).items()
        }
    )


def grouped_moments(split: EmbeddedSplit, classes: int) -> dict[str, ja.Moments]:
    """Pass over the rows once: moments of each class, for pictures and captions."""
    rows = anchor_rows(split)
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
    fit = functools.partial(
        ja.fit_groups,
        moments,
        np.array(subsets),
        fit_on=config.fit_on,
        source_space=split.source.space,
        target_space=split.target.space,
    )
    maps, searched = fit(ja.families.PAPER), fit(scorer=ja.LikelihoodRatio())
    rows: list[ResultRow] = []
    fits = zip(draws, maps, searched, strict=True)
    for draw, amap, by_search in tqdm(fits, "Evaluating", len(draws), unit=" fits"):
        for name, classes in ((SEEN, draw.anchors), (UNSEEN, draw.unseen)):
            pairs = split.pairs(classes, *texts)
            about = ja.evaluate.Run(
                name, draw.seed, config.as_json(), config.replicates
            )
            method = method_of(len(draw.anchors))
            rows += ja.evaluate_map(method, amap, pairs, run=about)
            if name == UNSEEN and len(draw.anchors) == len(draws[-1].anchors):
                rows += ja.evaluate.evaluate_native(pairs, run=about)
        anchors = anchors_of(split, draw.anchors)
        pairs = split.pairs(draw.unseen, *texts)
        for name, use in USES.items():
            about = ja.evaluate.Run(
                name, draw.seed, config.as_json(), config.replicates
            )
            of = ja.search.SearchMap(by_search, use, anchors)
            rows += ja.evaluate_map(method_of(len(draw.anchors)), of, pairs, run=about)
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
        "Unseen: the half of the classes that are never anchors, the same for every N; "
        "by the paper's map, and by the default search and the likelihood ratio of the "
        "same anchors. "
        "All fits are subsets of one pass over the rows: moments of each class, "
        f"{used:.0f} MB."
    )
    sweep = Sweep.of(rows, TABLES)
    write_document(
        workdir / "report.html",
        f"Few anchors: {config.source} to {config.target}",
        [
            finding(" ".join(sweep.describe(name) for name in TABLES[1:])),
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
    sweep = Sweep.of(rows, TABLES)
    print("\n".join(sweep.describe(name) for name in TABLES[1:]))
    print(
        f"\nWritten to {workdir}: report.html (open it), results.json, map.safetensors."
        f"\n{time.perf_counter() - started:.0f} s in all."
    )
    sys.stdout.flush()


flags.adopt_module_key_flags(launch)

if __name__ == "__main__":
    launch.launch(main)
