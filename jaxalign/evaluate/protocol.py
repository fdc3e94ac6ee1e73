# SPDX-License-Identifier: Apache-2.0
"""The paper's rows, and the ones it should have printed, for one map or several.

The evaluate step of the data flow. Maps arrive as plain callables, so that orthogonal,
linear and MLP maps, with and without centring, go through the same code; a `SearchMap`
also says what becomes of target rows, and which offsets index rows carry. Two baselines
need no map: staying on the source model, and re-embedding with the target model.

References:
  Gupta, Kansal, Jegelka, Isola, Garg, "Canonicalizing Multimodal Contrastive
  Representation Learning", arXiv 2602.17584.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.errors import ArgumentError
from jaxalign.evaluate.intervals import ClusterBootstrap
from jaxalign.evaluate.paired_set import PairedSet
from jaxalign.evaluate.rows import (
    METRICS,
    NATIVE_TARGET,
    STAY_ON_SOURCE,
    ResultRow,
)
from jaxalign.families.scorer import Side
from jaxalign.float_rows import float_rows
from jaxalign.metrics.cosine import agreement
from jaxalign.metrics.recall import class_top1, exact_recall
from jaxalign.metrics.zeroshot import zeroshot_hits
from jaxalign.search.use import (
    SearchMap,
    anchor_queries,
    check_scorer,
    prepare_rows,
    search_offsets,
)

MapRows: TypeAlias = Callable[[ArrayLike, Modality], ArrayLike]
"""Carries source rows ``(n, d_source)`` of a modality to ``(n, d_target)``."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What is the same for all rows of one evaluation.

    Attributes:
      table: name of the table the rows belong to.
      seed: seed of the run, stored in the rows.
      config: settings of the run, JSON values only, stored in the rows.
      replicates: bootstrap replicates behind the 95 % intervals.
      bootstrap_seed: seed of the bootstrap.
    """

    table: str = "held-out classes"
    seed: int = 0
    config: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    replicates: int = 1000
    bootstrap_seed: int = 0


_DEFAULT_RUN = Run()


def evaluate_map(
    name: str,
    map_rows: MapRows | SearchMap | None,
    paired_set: PairedSet,
    *,
    run: Run = _DEFAULT_RUN,
    share_of_native: bool = True,
) -> list[ResultRow]:
    """Evaluate one map on pairs it was not fitted on.

    Args:
      name: the method's name in the table.
      map_rows: ``map_rows(rows, modality)`` with modality "image" or "text" carries
        source rows to the target space, any norm; None compares the two spaces as they
        are, and gives values None if their widths differ. A `SearchMap` prepares
        both sides, and its offsets are subtracted in every search.
      paired_set: the examples.
      run: what the rows say about where they come from, and the bootstrap.
      share_of_native: also give source image -> target text @1 over the target model's
        own image -> text @1; switch it off for a control whose models find nothing.

    Returns:
      One row per metric, in the order of `METRICS`.

    Raises:
      ValueError: if `map_rows` returns another shape or numbers that are not finite, or
        is a search by a scorer without norms.

    Notes:
      In every direction the mapped rows are the source's: as queries in source ->
      target, as the searched index in target -> source. Intervals resample groups of
      queries (`paired_set.groups`) or classes; the index stays as it is. Centred
      cosines keep their means fixed while resampling. Offsets of the index are measured
      with anchors of the queries' modality and side.
    """
    if not (map_rows is None or callable(map_rows) or isinstance(map_rows, SearchMap)):
        raise ArgumentError(
            "evaluate_map(map_rows=...)",
            "a function of rows and a modality, a SearchMap, or None",
            type(map_rows).__name__,
            "pass a map, or what `choose_map` gives",
        )
    _check_pairs("evaluate_map", paired_set)
    log = _RowLog(paired_set, name, run)
    widths = (paired_set.source_images.shape[1], paired_set.target_images.shape[1])
    if map_rows is None and widths[0] != widths[1]:
        return log.not_applicable(share_of_native)
    carry = _checked(name, map_rows, widths[1])
    images = carry(paired_set.source_images, "image")
    texts = carry(paired_set.source_texts, "text")
    class_texts = carry(paired_set.source_class_texts, "text")
    searched = map_rows if isinstance(map_rows, SearchMap) else None
    target_images = _prepared(searched, paired_set.target_images, "image")
    target_texts = _prepared(searched, paired_set.target_texts, "text")
    target_class_texts = _prepared(searched, paired_set.target_class_texts, "text")

    pairs = {
        "image": (images, target_images),
        "caption": (texts, target_texts),
        "class_text": (class_texts, target_class_texts),
    }
    for kind, (mapped, target) in pairs.items():
        of_classes = kind == "class_text"
        cosines, centred, mismatched = agreement(mapped, target)
        log.add(f"{kind}_cosine", cosines, of_classes)
        log.add(f"{kind}_centred_cosine", centred, of_classes)
        log.add_number(f"{kind}_mismatched_cosine", mismatched, len(mapped))

    labels, class_ids = paired_set.labels, paired_set.class_ids
    itself = np.arange(len(labels))
    # Offsets of an index for the queries that it is searched with.
    offsets = functools.partial(_offsets, searched)
    of_images = offsets(target_images, "image")
    of_texts = offsets(target_texts, "text")
    nearest = class_top1(images, labels, target_images, labels, offsets=of_images)
    log.add("image_class_top1", nearest)
    nearest = class_top1(
        images, labels, target_images, labels, exclude=itself, offsets=of_images
    )
    log.add("image_class_top1_others", nearest)
    of_class_texts = offsets(target_class_texts, "text")
    nearest = class_top1(
        class_texts, class_ids, target_class_texts, class_ids, offsets=of_class_texts
    )
    log.add("text_class_top1", nearest, of_classes=True)

    zeroshot: dict[str, tuple[ArrayLike, ArrayLike, Side]] = {
        "mapped_image_to_target_text": (images, target_class_texts, "source"),
        "mapped_image_to_mapped_text": (images, class_texts, "source"),
        "target_image_to_mapped_text": (target_images, class_texts, "target"),
    }
    for direction, (queries, index, side) in zeroshot.items():
        hubs = offsets(index, "image", side)
        hits = zeroshot_hits(queries, labels, index, class_ids, offsets=hubs)
        log.add(f"zeroshot_{direction}", hits)

    log.add_recall("image_to_image", images, target_images, of_images)
    log.add_recall("text_to_text", texts, target_texts, of_texts)
    hubs = offsets(target_texts, "image")
    hits = log.add_recall("source_image_to_target_text", images, target_texts, hubs)
    hubs = offsets(texts, "image", "target")
    log.add_recall("target_image_to_source_text", target_images, texts, hubs)
    if share_of_native:
        native = exact_recall(
            paired_set.target_images,
            paired_set.target_texts,
            itself,
            (1,),
            index_ids=paired_set.ids,
        )
        log.add_ratio("share_of_native_at_1", hits, native.hits[0])
    return log.rows


def evaluate_native(
    paired_set: PairedSet,
    *,
    run: Run = _DEFAULT_RUN,
) -> list[ResultRow]:
    """Evaluate each model on its own: what a map should reach or beat.

    Args:
      paired_set: the examples.
      run: what the rows say about where they come from, and the bootstrap.

    Returns:
      Zero-shot top-1 and image -> text @1 and @10 of the methods "stay on source" and
      "native target".
    """
    _check_pairs("evaluate_native", paired_set)
    rows = []
    for side, name in (("source", STAY_ON_SOURCE), ("target", NATIVE_TARGET)):
        log = _RowLog(paired_set, name, run)
        images = getattr(paired_set, f"{side}_images")
        class_texts = getattr(paired_set, f"{side}_class_texts")
        hits = zeroshot_hits(
            images, paired_set.labels, class_texts, paired_set.class_ids
        )
        log.add("zeroshot", hits)
        log.add_recall("image_to_text", images, getattr(paired_set, f"{side}_texts"))
        rows += log.rows
    return rows


def _check_pairs(call: str, paired_set: Any) -> None:
    """Raise for what is no paired set."""
    if not isinstance(paired_set, PairedSet):
        raise ArgumentError(
            f"{call}(paired_set=...)",
            "a PairedSet",
            type(paired_set).__name__,
            "make one by `ja.evaluate.PairedSet(...)`",
        )


class _RowLog:
    """Turns per-item values into rows with intervals."""

    def __init__(self, paired_set: PairedSet, method: str, run: Run):
        self.rows: list[ResultRow] = []
        self._pairs, self._method, self._run = paired_set, method, run
        draw = {"replicates": run.replicates, "seed": run.bootstrap_seed}
        self._examples = ClusterBootstrap.draw(np.asarray(paired_set.groups), **draw)
        self._classes = ClusterBootstrap.draw(paired_set.class_ids, **draw)

    def add(self, metric: str, values: ArrayLike, of_classes: bool = False) -> None:
        """Add the mean of the values of all examples, or of all classes."""
        bootstrap = self._classes if of_classes else self._examples
        values = np.asarray(values, np.float64)
        interval = bootstrap.mean_interval(values)
        self._append(metric, float(values.mean()), interval, len(values))

    def add_number(self, metric: str, value: ArrayLike | None, n: int) -> None:
        """Add a number that is no mean over items, so has no interval."""
        self._append(metric, None if value is None else float(value), None, n)

    def add_ratio(self, metric: str, top: np.ndarray, bottom: np.ndarray) -> None:
        """Add a ratio of hits over the same queries, None if nothing is below."""
        value = float(top.sum() / bottom.sum()) if bottom.any() else None
        interval = self._examples.ratio_interval(top, bottom)
        self._append(metric, value, interval, len(top))

    def add_recall(
        self,
        direction: str,
        queries: ArrayLike,
        index: ArrayLike,
        offsets: ArrayLike | None = None,
    ):
        """Add exact retrieval @1 and @10; return the hits @1."""
        truth = np.arange(len(self._pairs.labels))
        recall = exact_recall(
            queries, index, truth, index_ids=self._pairs.ids, offsets=offsets
        )
        for k, hits in zip(recall.ks, recall.hits, strict=True):
            self.add(f"{direction}_at_{k}", hits)
        return recall.hits[0]

    def not_applicable(self, share_of_native: bool) -> list[ResultRow]:
        """Give every metric of a map the value None."""
        skipped = {"zeroshot", "image_to_text_at_1", "image_to_text_at_10"}
        skipped |= set() if share_of_native else {"share_of_native_at_1"}
        for metric in METRICS:
            if metric not in skipped:
                of_classes = metric.startswith(("class_text", "text_class"))
                ids = self._pairs.class_ids if of_classes else self._pairs.labels
                self.add_number(metric, None, len(ids))
        return self.rows

    def _append(self, metric, value, interval, n) -> None:
        """Add one row."""
        run = self._run
        self.rows.append(
            ResultRow(
                table=run.table,
                method=self._method,
                metric=metric,
                value=value,
                interval=interval,
                n=n,
                seed=run.seed,
                config=run.config,
            )
        )


def _prepared(
    searched: SearchMap | None, rows: ArrayLike, modality: Modality
) -> np.ndarray:
    """Target rows as they are searched."""
    if searched is None:
        return np.asarray(rows)
    return np.asarray(
        prepare_rows(searched.map, searched.use, rows, modality, side="target")
    )


def _offsets(
    searched: SearchMap | None,
    index: ArrayLike,
    query_modality: Modality,
    queries_are: Side = "source",
) -> np.ndarray | None:
    """Offsets of a prepared index for cosines, if there are any."""
    if searched is None:
        return None
    asked = anchor_queries(
        searched, query_modality, side=queries_are, call="evaluate_map"
    )
    scorer = searched.map.scorer if searched.use.score == "scorer" else None
    if asked is None and scorer is None:
        return None
    offsets = np.asarray(search_offsets(searched, jnp.asarray(index), asked))
    if scorer is None:
        return offsets
    # Rows of a scorer have a norm each side; metrics compare their cosines.
    norm = scorer.source_norm if queries_are == "source" else scorer.target_norm
    assert norm is not None
    return offsets / (float(norm) * np.linalg.norm(np.asarray(index), axis=1))


def _searched_width(searched: SearchMap, width: int) -> int:
    """Width of prepared rows; raise for a scorer whose scores are no cosines."""
    if searched.use.score == "map":
        return width
    check_scorer("evaluate_map", searched.map, searched.use)
    scorer = searched.map.scorer
    assert scorer is not None
    if scorer.source_norm is None or scorer.target_norm is None:
        raise ArgumentError(
            "evaluate_map(map_rows=...)",
            "a scorer that brings rows to one norm, since metrics compare cosines",
            "one without",
            "fit LikelihoodRatio(norms=True), or search by `ja.search.prepare`",
        )
    return scorer.width


def _checked(name: str, map_rows: MapRows | SearchMap | None, width: int):
    """Wrap a map so that wrong shapes and non-finite rows are named."""
    if isinstance(map_rows, SearchMap):
        width = _searched_width(map_rows, width)
        map_rows = functools.partial(
            prepare_rows, map_rows.map, map_rows.use, side="source"
        )

    def carry(rows: ArrayLike, modality: Modality) -> np.ndarray:
        moved = rows if map_rows is None else map_rows(rows, modality)
        mapped = np.asarray(float_rows("evaluate_map", "map_rows", moved))
        if mapped.shape != (len(rows), width):
            raise ArgumentError(
                f"evaluate_map({name!r}, map_rows=...)",
                f"{modality} rows of shape {(len(rows), width)}",
                mapped.shape,
                "a map returns one row of the target's width per source row",
            )
        if not np.isfinite(mapped).all():
            raise ArgumentError(
                f"evaluate_map({name!r}, map_rows=...)",
                f"finite {modality} rows",
                "NaN or infinite ones",
                "look at how the map was fitted",
            )
        return mapped

    return carry
