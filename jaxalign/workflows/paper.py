# SPDX-License-Identifier: Apache-2.0
"""The paper's experiment: fit one orthogonal map on images; do texts cross too?

Embeds the data set with both models, fits the map (and all that it is compared with) on
the images of anchor classes, and evaluates on classes that the map never saw and on
emoji that neither model saw. Writes `results.json`, `map.safetensors` and
`report.html`.
"""

import dataclasses
import textwrap
import warnings
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jaxalign.choose.choose import MapChoice, choose_map
from jaxalign.data import catalog, openmoji_texts
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.pretrained import untrained_encoders
from jaxalign.errors import PoorFitWarning
from jaxalign.evaluate.baselines import CHOSEN, DEFAULT, PAPERS, fit_baselines
from jaxalign.evaluate.paired_set import PairedSet
from jaxalign.evaluate.protocol import Run, evaluate_map, evaluate_native
from jaxalign.evaluate.rows import METRICS, NATIVE_TARGET, NO_MAP, ResultRow
from jaxalign.heldout.jobs import Purpose
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.fit import fit_map
from jaxalign.metrics.spectrum import dimensions_used
from jaxalign.pairing.embedded_split import EmbeddedSplit, embed_class_texts
from jaxalign.report.finding import describe_finding
from jaxalign.report.gallery import sample_gallery
from jaxalign.report.page import write_report
from jaxalign.report.results import write_results
from jaxalign.report.similarities import SimilarityMaps, measure_similarities
from jaxalign.report.summary import (
    KEY_COLUMNS,
    collect,
    describe_size,
    format_value,
    pick_methods,
)
from jaxalign.report.table import align_columns
from jaxalign.report.trust import describe_trust
from jaxalign.trust.anchors import assess_anchors
from jaxalign.workflows.splits import check_splits, embed_split
from jaxalign.workflows.two_models import TwoModels

SPLITS = ("learnt", "unseen")
HELDOUT, UNSEEN = "held-out classes", "unseen emoji"
UNTRAINED = "untrained encoders"

# What the table's metrics search for.
ASKED: tuple[Purpose, ...] = ("search", "cross", "zero_shot")

Choices = dict[str, MapChoice]
"""What is chosen for each purpose."""

ClassTexts = tuple[np.ndarray, np.ndarray]
"""One row a class, by the source model and by the target model."""


@dataclasses.dataclass(frozen=True)
class Config(TwoModels):
    """What the experiment depends on; stored with every result."""

    fit_on: str = "image"
    seeds: tuple[int, ...] = (0, 1, 2)
    replicates: int = 1000
    trust_replicates: int = 200
    full: bool = False


def evaluate_seed(
    splits: dict[str, EmbeddedSplit],
    class_texts: ClassTexts,
    config: Config,
    seed: int,
) -> tuple[list[ResultRow], AlignmentMap, Choices, dict[str, PairedSet]]:
    """Fit on one draw of anchor classes, evaluate on both tables."""
    learnt, unseen = splits["learnt"], splits["unseen"]
    anchor_classes, heldout_classes = catalog.split_classes(learnt.labels, seed=seed)
    anchors = learnt.anchors(anchor_classes)
    default, methods = fit_baselines(
        anchors, fit_on=config.fit_on, seed=seed, full=config.full
    )
    # More folds take longer, and here choose no better.
    choices = {name: choose_map(anchors, name, folds=3) for name in ASKED}
    tables = {
        HELDOUT: learnt.pairs(heldout_classes, *class_texts),
        UNSEEN: unseen.pairs(np.unique(unseen.labels), *class_texts),
    }
    rows = []
    for table, pairs in tables.items():
        run = _run(table, config, seed)
        for name, method in methods.items():
            rows += evaluate_map(name, method, pairs, run=run)
        rows += evaluate_choices(choices, pairs, run)
        rows += evaluate_native(pairs, run=run)
    return rows, default, choices, tables


def evaluate_choices(choices: Choices, pairs: PairedSet, run: Run) -> list[ResultRow]:
    """Evaluate each choice by the metrics of its purpose, as one method."""
    rows = []
    for purpose, choice in choices.items():
        found = evaluate_map(CHOSEN, choice, pairs, run=run)
        rows += [row for row in found if _purpose(row.metric) == purpose]
    order = list(METRICS)
    return sorted(rows, key=lambda row: order.index(row.metric))


def _purpose(metric: str) -> str:
    """What a metric's search is for; cosines go with the search within a modality."""
    if metric.startswith("zeroshot"):
        return "zero_shot"
    across = metric.startswith(("source_image_to", "target_image_to", "share"))
    return "cross" if across else "search"


def describe_choices(choices: dict[int, Choices]) -> list[str]:
    """Say how maps and scorers were chosen, for each purpose, alike ones once."""
    first = next(iter(choices.values()))
    texts = [f'The "{CHOSEN}" is chosen on the anchors alone, for each kind of search.']
    for purpose, choice in first.items():
        seeds: dict[str, list[int]] = {}
        for seed, of_seed in choices.items():
            name = of_seed[purpose].candidate.describe()
            seeds.setdefault(name, []).append(seed)
        text = choice.reason
        if len(seeds) > 1:
            others = "; ".join(
                f"{name} (seed {', '.join(map(str, of))})" for name, of in seeds.items()
            )
            text += f" Not every seed takes the same: {others}."
        texts.append(text)
    return texts


def describe_anchors(split: EmbeddedSplit, config: Config) -> str:
    """Say how many anchors there are, and how much of Q they can determine."""
    classes, _ = catalog.split_classes(split.labels, seed=config.seeds[0])
    anchors = split.anchors(classes)
    names = anchors.modalities if config.fit_on == "all" else [config.fit_on]
    sides = [np.asarray(anchors.rows[name].source) for name in names]
    rows = np.concatenate([side - side.mean(axis=0) for side in sides])
    return (
        f"Fitted on {len(rows)} anchors ({config.fit_on}) of {len(classes)} classes. "
        f"{dimensions_used(rows)} of {rows.shape[1]} dimensions hold 99 % of their "
        "variance; the other directions are not determined by the anchors."
    )


def describe_verdict(split: EmbeddedSplit, config: Config) -> str:
    """Say whether the first seed's anchors are enough, or how many more it takes."""
    classes, _ = catalog.split_classes(split.labels, seed=config.seeds[0])
    trust = assess_anchors(
        split.anchors(classes),
        fit_on=config.fit_on,
        replicates=config.trust_replicates,
    )
    return " ".join(describe_trust(trust))


def evaluate_control(
    splits: dict[str, EmbeddedSplit],
    class_texts: ClassTexts,
    config: Config,
    seed: int,
) -> list[ResultRow]:
    """Fit and evaluate the orthogonal map between two untrained models."""
    learnt = splits["learnt"]
    anchor_classes, heldout_classes = catalog.split_classes(learnt.labels, seed=seed)
    anchors = learnt.anchors(anchor_classes)
    amap = fit_map(anchors, fit_on=config.fit_on)
    rows = []
    for table, split, classes in (
        (HELDOUT, learnt, heldout_classes),
        (UNSEEN, splits["unseen"], np.unique(splits["unseen"].labels)),
    ):
        pairs = split.pairs(classes, *class_texts)
        run = _run(table, config, seed)
        rows += evaluate_map(UNTRAINED, amap, pairs, run=run, share_of_native=False)
    return rows


def run(
    config: Config, source: Encoders, target: Encoders, workdir: Path
) -> tuple[list[ResultRow], list[str]]:
    """Run the experiment, write its files; return its rows, and what to say of them."""
    control = (untrained_encoders(source, seed=1), untrained_encoders(target, seed=2))
    models = (source, target, *control)
    embedded = {
        name: embed_split(
            models,
            config.dataset,
            name,
            data_dir=config.data_dir,
            batch_size=config.batch_size,
        )
        for name in SPLITS
    }
    trained, untrained = (
        {
            name: EmbeddedSplit(examples, rows[first], rows[first + 1])
            for name, (examples, rows) in embedded.items()
        }
        for first in (0, 2)
    )
    info = catalog.dataset_info(config.dataset)
    class_texts, control_texts = (
        (embed_class_texts(one, info), embed_class_texts(other, info))
        for one, other in ((source, target), control)
    )
    rows: list[ResultRow] = []
    first: tuple[AlignmentMap, dict[str, PairedSet]] | None = None
    choices: dict[int, Choices] = {}
    for seed in tqdm(config.seeds, desc="Fitting and evaluating", unit=" seeds"):
        with warnings.catch_warnings():
            # The tables say what each map is good for, and untrained models share none.
            warnings.simplefilter("ignore", PoorFitWarning)
            found, amap, choices[seed], tables = evaluate_seed(
                trained, class_texts, config, seed
            )
            rows += found + evaluate_control(untrained, control_texts, config, seed)
        first = first or (amap, tables)
    remarks = [describe_anchors(trained["learnt"], config)]
    if first is not None:
        remarks.append(describe_verdict(trained["learnt"], config))
        remarks += describe_choices(choices)
        write(workdir, rows, config, trained, remarks, *first)
    return rows, remarks


def write(
    workdir: Path,
    rows: list[ResultRow],
    config: Config,
    splits: dict[str, EmbeddedSplit],
    remarks: list[str],
    amap: AlignmentMap,
    tables: dict[str, PairedSet],
) -> None:
    """Write the results, the first seed's map and the report."""
    info = catalog.dataset_info(config.dataset)
    workdir.mkdir(parents=True, exist_ok=True)
    write_results(workdir / "results.json", rows)
    amap.save(workdir / "map.safetensors")
    write_report(
        workdir / "report.html",
        rows,
        title=f"One map from {config.source} to {config.target}",
        headline=DEFAULT,
        fit_on=config.fit_on,
        similarities=[_similarities(amap, tables[HELDOUT], info)],
        gallery=sample_gallery(tables[HELDOUT], amap, splits["learnt"]),
        credit=config.credit(),
        remarks=remarks,
        config=config.as_json(),
    )


def _similarities(
    amap: AlignmentMap, pairs: PairedSet, info: catalog.DatasetInfo
) -> SimilarityMaps:
    names = dict(enumerate(map(openmoji_texts.readable_class, info.class_names)))
    return measure_similarities(pairs, amap, names, table=HELDOUT)


def _run(table: str, config: Config, seed: int) -> Run:
    return Run(table, seed, config.as_json(), config.replicates)


def load(config: Config) -> tuple[Encoders, Encoders]:
    """Load both models: what can be wrong with models and data shows here.

    To be called before the results' folder is made.
    """
    check_splits(config.dataset, SPLITS)
    models = config.load()
    for split in SPLITS:
        catalog.load_dataset(config.dataset, split, data_dir=config.data_dir)
    return models


def tiny(config: Config) -> Config:
    """The same work at toy size."""
    return dataclasses.replace(
        config, seeds=config.seeds[:1], replicates=100, trust_replicates=40
    )


def summarise(rows: list[ResultRow], config: Config) -> list[str]:
    """Say in a few lines what the experiment found on held-out classes."""
    cells = collect(rows)[HELDOUT]
    names = {NO_MAP: "no map", CHOSEN: "chosen map"}
    shown = (NO_MAP, PAPERS, DEFAULT, CHOSEN, NATIVE_TARGET)
    columns = [c for c in KEY_COLUMNS if not c.metric.endswith("cosine")]
    columns = [c for c in columns if not c.metric.startswith("target_image")]
    body = []
    for method in pick_methods(cells, shown):
        found = [column.cell(method, cells[method]) for column in columns]
        texts = [
            "-" if cell is None else f"{format_value(column.metric, cell.value)} %"
            for column, cell in zip(columns, found, strict=True)
        ]
        body.append([names.get(method, method), *texts])
    head = ["", "text finds itself", "image finds its text", "zero-shot"]
    fit_on = None if config.fit_on == "all" else config.fit_on
    return [
        f"One map from {config.source} to {config.target}, fitted on {config.fit_on}s;",
        f"asked about classes that it never saw: {describe_size(cells)}.",
        *align_columns([head], body),
        *textwrap.wrap(describe_finding(cells, DEFAULT, fit_on=fit_on)[0], 96),
    ]
