# SPDX-License-Identifier: Apache-2.0
"""Choosing how an objective is fitted, on anchor classes that folds leave out.

A candidate is scored by what it is for, retrieval @1 among the held-out anchors of its
fold, pooled over folds; the classes that a study evaluates on play no part.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxalign as ja
from experiments.objective_families import (
    FAMILIES,
    Rows,
    Schedule,
    choose_rows,
    descend,
    moments_of,
    take_rows,
)
from jaxalign.data import catalog
from jaxalign.pairing.embedded_split import EmbeddedSplit
from jaxalign.stiefel.objectives.rows import Centring
from jaxalign.unit_rows import unit_rows

_HIGHEST = jax.lax.Precision.HIGHEST


class Fold(NamedTuple):
    """Anchors to fit on, and held-out ones: pictures and captions of one thing."""

    rows: Rows
    held: Rows


class Candidate(NamedTuple):
    """One way to fit a family, and its score on held-out anchors."""

    family: str
    knob: float
    pull: float
    step: int
    score: float


class Sizes(NamedTuple):
    """Rows of each modality that all seeds' anchors and folds are padded to."""

    all: dict[str, int]
    fitted: dict[str, int]
    held: dict[str, int]


def cut_classes(
    classes: np.ndarray, *, folds: int, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Deal anchor classes into folds; give those to fit on and those held out."""
    order = np.random.default_rng(seed).permutation(classes)
    parts = [np.sort(order[i::folds]) for i in range(min(folds, len(order)))]
    return [(np.setdiff1d(classes, held), held) for held in parts]


def common_sizes(split: EmbeddedSplit, seeds: Sequence[int], folds: int) -> Sizes:
    """Find sizes that hold every seed's anchors: one compilation serves all."""
    found = ({}, {}, {})

    def grow(sizes, chosen):
        for modality, kept in chosen.items():
            sizes[modality] = max(sizes.get(modality, 0), int(kept.sum()))

    for seed in seeds:
        classes, _ = catalog.split_classes(split.labels, seed=seed)
        grow(found[0], choose_rows(split, classes))
        for fit_on, left in cut_classes(classes, folds=folds, seed=seed):
            grow(found[1], choose_rows(split, fit_on))
            grow(found[2], choose_rows(split, left, queries=True))
    return Sizes(*found)


def cut_folds(
    split: EmbeddedSplit, classes: np.ndarray, sizes: Sizes, *, folds: int, seed: int
) -> list[Fold]:
    """Cut the anchors of some classes into folds of whole classes."""
    return [
        Fold(
            take_rows(split, choose_rows(split, fit_on), sizes.fitted),
            take_rows(split, choose_rows(split, left, queries=True), sizes.held),
        )
        for fit_on, left in cut_classes(classes, folds=folds, seed=seed)
    ]


@functools.partial(jax.jit, static_argnames="centring")
def count_hits(
    points: jax.Array, rows: Rows, held: Rows, *, centring: Centring
) -> tuple[jax.Array, jax.Array]:
    """Search held-out anchors by some rotations.

    Args:
      points: ``(c, d_target, d_source)``.
      rows: the anchors fitted on; means are theirs.
      held: the others.
      centring: static; "map" adds target means, "both" takes them off target rows.

    Returns:
      ``(c,)`` hits of source image -> target image, and the mean of those of source
      image -> target text and target image -> source text. A tie is no hit.
    """
    kept = held["image"].weights > 0
    rivals = kept[None, :] & ~jnp.eye(len(kept), dtype=bool)

    def hits(queries, index):
        # (h, d_target) @ (d_target, h)
        scores = jnp.matmul(unit_rows(queries), unit_rows(index).T, precision=_HIGHEST)
        best = jnp.max(jnp.where(rivals, scores, -jnp.inf), axis=1)
        return jnp.sum((jnp.diagonal(scores) > best) & kept)

    def one(point):
        mapped, found = {}, {}
        for name, part in moments_of(rows).items():
            source = held[name].source - part.source_mean[None, :]
            mapped[name] = jnp.matmul(source, point.T, precision=_HIGHEST)
            found[name] = held[name].target
            if centring == "map":
                mapped[name] += part.target_mean[None, :]
            else:
                found[name] -= part.target_mean[None, :]
        forth = hits(mapped["image"], found["text"])
        back = hits(found["image"], mapped["text"])
        crossings = 0.5 * (forth + back).astype(jnp.float32)
        return hits(mapped["image"], found["image"]), crossings

    return jax.vmap(one)(points)


def score_closed_form(folds: Sequence[Fold], centring: Centring) -> dict[bool, float]:
    """Score the closed form of the images, by whether crossings are what counts."""
    found = []
    for fold in folds:
        amap = ja.fit_map(moments_of(fold.rows), ja.families.PAPER)
        hits = count_hits(amap.rotation[None], *fold, centring=centring)
        found.append([float(one[0]) for one in hits])
    images, crossings = np.sum(found, axis=0) / _asked(folds)
    return {False: float(images), True: float(crossings)}


def choose(
    name: str, folds: Sequence[Fold], centring: Centring, schedule: Schedule
) -> Candidate:
    """Choose knob, pull and number of steps of a family by the held-out anchors.

    A family of images alone by source image -> target image @1, for it knows no texts;
    one that reads texts by the mean of both crossings. Among equals the first: that
    with the strongest pull, the softest knob and the fewest steps.
    """
    family = FAMILIES[name]
    steps = (0,) if family.closed else schedule.steps
    candidates = []
    for pull in family.pulls:
        for knob in family.knobs:
            total = np.zeros(len(steps))
            for fold in folds:
                points = descend(
                    fold.rows,
                    knob,
                    pull,
                    family=family,
                    centring=centring,
                    schedule=schedule,
                )
                hits = count_hits(points, *fold, centring=centring)
                total += np.asarray(hits[int(family.texts)])
            scores = (total / _asked(folds)).tolist()
            candidates += [
                Candidate(name, knob, pull, step, score)
                for step, score in zip(steps, scores, strict=True)
            ]
    return max(candidates, key=lambda one: one.score)


def _asked(folds: Sequence[Fold]) -> int:
    return sum(int(fold.held["image"].weights.sum()) for fold in folds)
