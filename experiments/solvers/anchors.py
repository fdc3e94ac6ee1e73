# SPDX-License-Identifier: Apache-2.0
"""Anchors of real models that solvers are compared on, with what is held out."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import jaxalign as ja
from experiments.launch_stores import shared_modalities
from experiments.objective_families import choose_rows, moments_of, take_rows
from experiments.solvers.problem import Problem, problem_of
from jaxalign.array_types import Modality
from jaxalign.data import catalog
from jaxalign.errors import ArgumentError
from jaxalign.evaluate.rows import ResultRow
from jaxalign.pairing.embedded_split import EmbeddedSplit

UNSEEN, HELD_OUT = "unseen classes", "held-out rows"
_BLOCKS = 10
_MOST_HELD_OUT = 4096


class Anchors(NamedTuple):
    """Anchors, and what a map that was fitted on them is good for.

    Attributes:
      problem: of the anchors of one modality.
      fit_on: which.
      moments: of every modality.
      spaces: fingerprints of the source and of the target.
      evaluate: from a solver's label and its map to rows.
    """

    problem: Problem
    fit_on: Modality
    moments: dict[Modality, ja.Moments]
    spaces: tuple[str | None, str | None]
    evaluate: Callable[[str, ja.AlignmentMap], list[ResultRow]]

    def map_of(self, label: str, rotation: np.ndarray) -> ja.AlignmentMap:
        """Make the map of a solver's rotation, as the paper: without a scale."""
        return ja.fit_map(
            self.moments,
            ja.Given(rotation),
            fit_on=self.fit_on,
            scale="none",
            source_space=self.spaces[0],
            target_space=self.spaces[1],
            card={"solver": label},
        )


def encoder_anchors(
    split: EmbeddedSplit,
    texts: tuple[np.ndarray, np.ndarray],
    *,
    seeds: tuple[int, ...],
    steps: int,
    config: dict,
    replicates: int,
) -> Iterator[Anchors]:
    """Give the pictures of half of the classes for each seed; the others are unseen."""
    for seed in seeds:
        classes, unseen = catalog.split_classes(split.labels, seed=seed)
        moments = moments_of(take_rows(split, choose_rows(split, classes)))
        problem = problem_of(
            moments["image"],
            f"seed {seed}",
            f"{int(moments['image'].rows):,} pictures of {len(classes)} classes",
            steps=steps,
            seed=seed,
        )
        evaluate = functools.partial(
            ja.evaluate_map,
            paired_set=split.pairs(unseen, *texts),
            run=ja.evaluate.Run(UNSEEN, seed, config, replicates),
        )
        spaces = (split.source.space, split.target.space)
        yield Anchors(problem, "image", moments, spaces, evaluate)


def store_anchors(
    stores: tuple[ja.EmbeddingStore, ja.EmbeddingStore],
    *,
    steps: int,
    config: dict,
    batch_size: int,
    most_pairs: int | None,
) -> Anchors:
    """Give nine tenths of the pairs of two stores; of the others, some are held out."""
    matched = ja.anchors.match_stores(*stores)
    shared = shared_modalities(*stores)
    modality = "image" if "image" in shared else shared[0]
    count = min(matched.count, most_pairs or matched.count)

    def walk():
        return ja.anchors.store_pairs(
            *stores,
            modality,
            matched=matched,
            group=functools.partial(ja.trust.block_of_rows, blocks=_BLOCKS),
            batch_size=batch_size,
            rows=range(count),
        )

    wide = stores[0].dim(modality) > stores[1].dim(modality)
    batches = walk()
    with tqdm(total=count, desc="Moments of stores", unit=" pairs") as bar:

        def report(done: int) -> None:
            bar.update(batches.get_state()["next_row"] - bar.n)

        blocks = ja.accumulate_moments(
            batches, groups=_BLOCKS, grams=wide, report=report
        )
    kept = jnp.asarray(np.arange(_BLOCKS) > 0, blocks.count.dtype)
    moments = ja.moments.reduce_groups(blocks, kept)
    about = f"{int(moments.rows):,} {modality} pairs"
    problem = problem_of(moments, "stores", about, steps=steps)
    rows = _first_block(walk())

    def evaluate(label: str, amap: ja.AlignmentMap) -> list[ResultRow]:
        mapped = np.asarray(amap(rows[0], modality, normalize=False), np.float64)
        target = np.asarray(rows[1], np.float64)
        errors = np.square(mapped - target).sum()
        spread = np.square(target - target.mean(axis=0)).sum()
        found = {
            "held_out_residual": float(errors / spread),
            f"{modality}_cosine": float(ja.metrics.mean_cosine(mapped, target)),
        }
        return [
            ResultRow(HELD_OUT, label, metric, value, None, len(target), 0, config)
            for metric, value in found.items()
        ]

    spaces = (stores[0].space, stores[1].space)
    return Anchors(problem, modality, {modality: moments}, spaces, evaluate)


def _first_block(batches) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the block that is held out, so many as are enough."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for batch in batches:
        chosen = np.asarray(batch.group) == 0
        found.append(
            (np.asarray(batch.source)[chosen], np.asarray(batch.target)[chosen])
        )
        if sum(len(source) for source, _ in found) >= _MOST_HELD_OUT:
            break
    source, target = (np.concatenate(side) for side in zip(*found, strict=True))
    if len(source) < 2:
        raise ArgumentError(
            "--source_store",
            "pairs enough to hold a tenth of them out",
            f"{len(source)} of it",
            "embed more data",
        )
    return source[:_MOST_HELD_OUT], target[:_MOST_HELD_OUT]
