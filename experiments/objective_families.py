# SPDX-License-Identifier: Apache-2.0
"""The objectives that `objective_study` compares, and the descent that fits them all.

Each family makes an objective of padded anchor rows; temperature and pull are data, so
that one program serves every candidate, fold and seed of a family.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import jaxalign as ja
from jaxalign.pairing.embedded_split import EmbeddedSplit
from jaxalign.sharding import pad_rows
from jaxalign.stiefel.objectives.rows import Centring

stiefel = ja.stiefel
TEMPERATURES = (0.3, 0.1, 0.03)
"""Of contrastive objectives, softest first."""
PULLS = (1.0, 0.0)
"""Weights of the closed form's own objective beside each, strongest first."""


class Side(NamedTuple):
    """Pairs of one modality, padded to a fixed size.

    Attributes:
      source: rows of the source model.
      target: rows of the target model.
      ids: numbers of the things that rows show or name.
      weights: 1, and 0 for padding.
    """

    source: np.ndarray
    target: np.ndarray
    ids: np.ndarray
    weights: np.ndarray


Rows = dict[str, Side]
"""By modality, "image" and "text"."""


def choose_rows(
    split: EmbeddedSplit, classes: np.ndarray, *, queries: bool = False
) -> dict[str, np.ndarray]:
    """Return which examples of classes give pictures, and which give captions.

    Args:
      split: the data set.
      classes: which.
      queries: take pictures in the query rendering alone, which has the caption, and
        not in all renderings.
    """
    chosen = split.of_classes(classes)
    asked = chosen & split.is_query
    return {"image": asked if queries else chosen, "text": asked}


def take_rows(
    split: EmbeddedSplit,
    chosen: Mapping[str, np.ndarray],
    sizes: Mapping[str, int] | None = None,
) -> Rows:
    """Take the rows of some examples, padded to so many of each modality."""
    _, numbers = np.unique(split.things, return_inverse=True)
    rows: Rows = {}
    for modality, kept in chosen.items():
        size = int(kept.sum()) if sizes is None else sizes[modality]
        source, target, ids = (
            pad_rows(column[kept], size)[0]
            for column in (
                getattr(split.source, modality),
                getattr(split.target, modality),
                numbers.astype(np.int32),
            )
        )
        weights = np.arange(len(ids)) < kept.sum()
        rows[modality] = Side(source, target, ids, weights.astype(np.float32))
    return rows


def moments_of(rows: Rows) -> dict[str, ja.Moments]:
    """Accumulate moments of either modality, with Grams."""
    found = {}
    for modality, side in rows.items():
        widths = side.source.shape[1], side.target.shape[1]
        empty = ja.moments.init_moments(*widths, grams=True)
        found[modality] = ja.moments.update_moments(
            empty, side.source, side.target, weights=side.weights
        )
    return found


Make = Callable[[Rows, Any, Centring], Any]


@dataclasses.dataclass(frozen=True)
class Family:
    """Objectives of one kind.

    Attributes:
      make: from anchors, a knob and the centring to the objective.
      texts: whether it reads the anchors' texts.
      knob: what the knob is, or nothing.
      knobs: the candidates.
      pulls: candidates for the weight of the closed form's objective.
      closed: whether its closed form is the optimum, so that there is no descent.
    """

    make: Make
    texts: bool = False
    knob: str = ""
    knobs: tuple[float, ...] = (0.0,)
    pulls: tuple[float, ...] = PULLS
    closed: bool = False


def _cosine(rows: Rows, knob, centring: Centring):
    source, target, _, weights = rows["image"]
    return stiefel.contrib.cosine_objective(
        source, target, weights=weights, centring=centring
    )


def _robust(rows: Rows, knob, centring: Centring, *, loss):
    # Errors of centred rows, however the map is used.
    source, target, _, weights = rows["image"]
    return stiefel.robust_objective(source, target, weights=weights, loss=loss)


def _csls(rows: Rows, knob, centring: Centring):
    source, target, _, weights = rows["image"]
    return stiefel.contrib.csls_objective(
        source,
        target,
        neighbours=min(10, len(source)),
        weights=weights,
        centring=centring,
        block_size=len(source),
    )


def _contrastive(rows: Rows, knob, centring: Centring, *, pairs):
    """Mean over pairs of modalities, times the temperature: in units of cosines."""
    parts = []
    for queries, found in pairs:
        asked, index = rows[queries], rows[found]
        # A map adds the mean of the queries' own modality; of two centred sides each
        # loses its own.
        mean = None
        if centring == "map":
            mean = (asked.weights @ asked.target) / asked.weights.sum()
        objective = stiefel.contrib.contrastive_objective(
            asked.source,
            index.target,
            temperature=knob,
            weights=asked.weights,
            target_weights=index.weights,
            labels=asked.ids,
            target_labels=index.ids,
            target_mean=mean,
            centring=centring,
            block_size=len(asked.source),
        )
        parts.append((objective, knob / len(pairs)))
    return stiefel.weighted_objective(parts)


def _kernel(rows: Rows, knob, centring: Centring, *, pairs):
    """Mean over pairs of anchors and references; references have one unit of energy."""
    moments = moments_of(rows)
    parts = []
    for anchors, references in pairs:
        gram = stiefel.contrib.reference_gram(moments[references])
        objective = stiefel.contrib.kernel_objective(
            moments[anchors], gram / gram.trace()
        )
        parts.append((objective, 1.0 / len(pairs)))
    return stiefel.weighted_objective(parts)


def _procrustes(rows: Rows, knob, centring: Centring):
    """Images and texts, the knob being the weight of the texts."""
    parts = {
        modality: stiefel.procrustes_objective(moments)
        for modality, moments in moments_of(rows).items()
    }
    return stiefel.weighted_objective(
        [(parts["image"], 1.0 - knob), (parts["text"], knob)]
    )


_IMAGES, _TEXTS = ("image", "image"), ("text", "text")
_CROSSINGS = (("image", "text"), ("text", "image"))
_contrast = functools.partial(
    Family, knob="temperature", knobs=TEMPERATURES, texts=True
)


def _contrast_of(*pairs):
    return functools.partial(_contrastive, pairs=pairs)


FAMILIES: dict[str, Family] = {
    "cosine": Family(_cosine),
    "contrastive": _contrast(_contrast_of(_IMAGES), texts=False),
    "CSLS": Family(_csls),
    "kernel": Family(functools.partial(_kernel, pairs=(_IMAGES,))),
    "Huber": Family(functools.partial(_robust, loss="huber")),
    "L1": Family(functools.partial(_robust, loss="l1")),
    "closed form, images and texts": Family(
        _procrustes,
        texts=True,
        knob="weight of texts",
        knobs=(0.25, 0.5, 0.75),
        pulls=(0.0,),
        closed=True,
    ),
    "contrastive, image to target text": _contrast(_contrast_of(_CROSSINGS[0])),
    "contrastive, image-text both ways": _contrast(_contrast_of(*_CROSSINGS)),
    "contrastive, all pairs": _contrast(_contrast_of(_IMAGES, _TEXTS, *_CROSSINGS)),
    "kernel, image-text": Family(
        functools.partial(_kernel, pairs=_CROSSINGS), texts=True
    ),
}
"""By name; those that read images alone first."""


class Schedule(NamedTuple):
    """How far a descent goes.

    Attributes:
      steps: numbers of steps to choose among, ascending.
      length: of the first step on the manifold, falling to 0 with a cosine.
    """

    steps: tuple[int, ...]
    length: float


@functools.partial(jax.jit, static_argnames=("family", "centring", "schedule"))
def descend(
    rows: Rows,
    knob: float,
    pull: float,
    *,
    family: Family,
    centring: Centring,
    schedule: Schedule,
) -> jax.Array:
    """Descend from the closed form; return the points after some numbers of steps.

    Args:
      rows: the anchors.
      knob: see `Family`.
      pull: weight of the closed form's objective.
      family: static.
      centring: static.
      schedule: static.

    Returns:
      ``(len(steps), d_target, d_source)``, orthonormal; one point, if the family is
      closed. All are of the component of the closed form: no step leads to the other.
    """
    objective = family.make(rows, knob, centring)
    if family.closed:
        return objective.closed_form_start()[None]
    closed = _procrustes(rows, 0.5 if family.texts else 0.0, centring)
    objective = stiefel.weighted_objective([(objective, 1.0), (closed, pull)])
    start = closed.closed_form_start()
    optimizer = stiefel.riemannian_adam(
        optax.cosine_decay_schedule(schedule.length, schedule.steps[-1])
    )
    every = math.gcd(*schedule.steps)

    def stretch(now, _):
        point, state = now
        found = stiefel.fit(
            objective,
            point,
            optimizer,
            state=state,
            steps=every,
            tolerance=0.0,
            components="given",
            record_every=every,
        )
        return (found.point, found.state), found.point

    count = schedule.steps[-1] // every
    _, points = jax.lax.scan(stretch, (start, optimizer.init(start)), length=count)
    return points[np.array(schedule.steps) // every - 1]
