# SPDX-License-Identifier: Apache-2.0
"""The objectives that `objective_study` compares, and the descent that fits them all.

Each family makes an objective of padded anchor rows; temperature and pull are data, so
that one program serves every candidate, fold and seed of a family.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxalign as ja
from jaxalign.evaluate.methods import Anchors
from jaxalign.sharding import pad_rows
from jaxalign.stiefel.objectives.rows import Centring

stiefel = ja.stiefel
TEMPERATURES = (0.3, 0.1, 0.03)
"""Of contrastive objectives, softest first."""
PULLS = (1.0, 0.0)
"""Weights of the closed form's own objective beside each, strongest first."""


class Rows(NamedTuple):
    """Anchors padded to a fixed size; weight 0 is padding."""

    source_images: np.ndarray
    target_images: np.ndarray
    image_ids: np.ndarray
    image_weights: np.ndarray
    source_texts: np.ndarray
    target_texts: np.ndarray
    text_ids: np.ndarray
    text_weights: np.ndarray

    def moments(self) -> dict[str, ja.Moments]:
        """Moments of either modality, with Grams."""
        return {
            "image": _moments(
                self.source_images, self.target_images, self.image_weights
            ),
            "text": _moments(self.source_texts, self.target_texts, self.text_weights),
        }


def pad_anchors(anchors: Anchors, images: int, texts: int) -> Rows:
    """Pad anchors to so many rows of each modality; ids become numbers."""
    names = np.unique(np.asarray(anchors.image_ids))
    padded = []
    for (source, target), ids, size in (
        (anchors.pairs["image"], anchors.image_ids, images),
        (anchors.pairs["text"], anchors.text_ids, texts),
    ):
        left, kept = pad_rows(np.asarray(source, np.float32), size)
        right, _ = pad_rows(np.asarray(target, np.float32), size)
        numbers, _ = pad_rows(np.searchsorted(names, np.asarray(ids)), size)
        padded += [left, right, numbers.astype(np.int32), kept.astype(np.float32)]
    return Rows(*padded)


def _moments(source, target, weights) -> ja.Moments:
    empty = ja.init_moments(source.shape[1], target.shape[1], grams=True)
    return ja.update_moments(empty, source, target, weights=weights)


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
    return stiefel.contrib.cosine_objective(
        rows.source_images,
        rows.target_images,
        weights=rows.image_weights,
        centring=centring,
    )


def _robust(rows: Rows, knob, centring: Centring, *, loss):
    # Errors of centred rows, however the map is used.
    return stiefel.robust_objective(
        rows.source_images, rows.target_images, weights=rows.image_weights, loss=loss
    )


def _csls(rows: Rows, knob, centring: Centring):
    n = len(rows.source_images)
    return stiefel.contrib.csls_objective(
        rows.source_images,
        rows.target_images,
        neighbours=min(10, n),
        weights=rows.image_weights,
        centring=centring,
        block_size=n,
    )


def _contrastive(rows: Rows, knob, centring: Centring, *, pairs):
    """Mean over pairs of modalities, times the temperature: in units of cosines."""
    parts = []
    for queries, found in pairs:
        source = getattr(rows, f"source_{queries}s")
        ids, weights = (getattr(rows, f"{queries}_{name}") for name in _PER_ROW)
        others, kept = (getattr(rows, f"{found}_{name}") for name in _PER_ROW)
        # A map adds the mean of the queries' own modality; of two centred sides each
        # loses its own.
        mean = None
        if centring == "map":
            partner = getattr(rows, f"target_{queries}s")
            mean = (weights @ partner) / weights.sum()
        objective = stiefel.contrib.contrastive_objective(
            source,
            getattr(rows, f"target_{found}s"),
            temperature=knob,
            weights=weights,
            target_weights=kept,
            labels=ids,
            target_labels=others,
            target_mean=mean,
            centring=centring,
            block_size=len(source),
        )
        parts.append((objective, knob / len(pairs)))
    return stiefel.weighted_objective(parts)


_PER_ROW = ("ids", "weights")


def _kernel(rows: Rows, knob, centring: Centring, *, pairs):
    """Mean over pairs of anchors and references; references have one unit of energy."""
    moments = rows.moments()
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
    moments = rows.moments()
    return stiefel.weighted_objective(
        [
            (stiefel.procrustes_objective(moments["image"]), 1.0 - knob),
            (stiefel.procrustes_objective(moments["text"]), knob),
        ]
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
    closed = (
        _procrustes(rows, 0.5, centring)
        if family.texts
        else stiefel.procrustes_objective(rows.moments()["image"])
    )
    objective = stiefel.weighted_objective([(objective, 1.0), (closed, pull)])
    steps = schedule.steps[-1]
    optimizer = stiefel.riemannian_adam(
        optax.cosine_decay_schedule(schedule.length, steps)
    )

    def step(now, _):
        point, state = now
        updates, state = optimizer.update(jax.grad(objective)(point), state, point)
        point = point + updates
        return (point, state), point

    start = closed.closed_form_start()
    _, points = jax.lax.scan(step, (start, optimizer.init(start)), None, length=steps)
    points = jnp.asarray(points)[np.array(schedule.steps) - 1]
    return ja.polar_factor(points, method="newton_schulz").factor
