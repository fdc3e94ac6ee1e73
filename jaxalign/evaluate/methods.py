# SPDX-License-Identifier: Apache-2.0
"""The maps that a report compares, all fitted on the same anchors.

The orthogonal map in the ways it can be used, and its competitors: means alone, least
squares, ridge (the real one) and a residual MLP. Each becomes a plain callable for
`protocol.evaluate_map`.
"""

import dataclasses
import functools

import jax
import numpy as np
from jaxtyping import Float, Int

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.evaluate.protocol import MapRows
from jaxalign.evaluate.rows import MEAN_ONLY, NO_MAP
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.fit import fit_map
from jaxalign.moments import Moments, init_moments, update_moments
from jaxalign.solve.mlp import fit_mlp
from jaxalign.solve.ridge_choice import choose_ridge

ORTHOGONAL = "orthogonal map"
PAPER = "paper's map"
RIDGE_FOLDS = 5
# The MLP stops early by one fold of this many: a tenth of the anchors' classes.
MLP_FOLDS = 10

_update = jax.jit(update_moments)


@dataclasses.dataclass(frozen=True)
class Anchors:
    """Paired rows that maps are fitted on.

    Attributes:
      source_images: (n, d_source).
      target_images: (n, d_target), the same pictures.
      source_texts: (m, d_source).
      target_texts: (m, d_target), the same captions.
      image_labels: (n,) class of each picture; rows of one class stay in one fold.
      text_labels: (m,) class of each caption.
    """

    source_images: Float[ArrayLike, "n d_source"]
    target_images: Float[ArrayLike, "n d_target"]
    source_texts: Float[ArrayLike, "m d_source"]
    target_texts: Float[ArrayLike, "m d_target"]
    image_labels: Int[ArrayLike, " n"]
    text_labels: Int[ArrayLike, " m"]

    @property
    def pairs(self) -> dict[Modality, tuple[ArrayLike, ArrayLike]]:
        """The rows as `fit_map` takes them."""
        return {
            "image": (self.source_images, self.target_images),
            "text": (self.source_texts, self.target_texts),
        }

    def of(self, fit_on: Modality) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return source rows, target rows and labels of a modality, or of "all".

        For "all" each modality is centred by its own means first, as `fit_map` does.
        """
        labels = {"image": self.image_labels, "text": self.text_labels}
        if fit_on != "all":
            source, target = self.pairs[fit_on]
            return np.asarray(source), np.asarray(target), np.asarray(labels[fit_on])
        centred = [
            tuple(np.asarray(rows) - np.mean(rows, axis=0) for rows in self.pairs[name])
            for name in labels
        ]
        return (
            np.concatenate([source for source, _ in centred]),
            np.concatenate([target for _, target in centred]),
            np.concatenate([np.asarray(values) for values in labels.values()]),
        )


def fit_methods(
    anchors: Anchors,
    *,
    fit_on: Modality = "image",
    source_space: str | None = None,
    target_space: str | None = None,
    seed: int = 0,
) -> tuple[AlignmentMap, dict[str, MapRows | None]]:
    """Fit the orthogonal map and all that it is compared with.

    Args:
      anchors: the paired rows.
      fit_on: the modality that every map is fitted on, or "all".
      source_space: fingerprint of the source rows.
      target_space: fingerprint of the target rows.
      seed: of the MLP.

    Returns:
      The orthogonal map, and by name what carries rows: None stands for no map.
      "mean only" is left out where the widths differ.

    Raises:
      ValueError: see `fit_map`.
    """
    fit = functools.partial(
        fit_map,
        anchors.pairs,
        fit_on=fit_on,
        source_space=source_space,
        target_space=target_space,
    )
    orthogonal, paper = fit(), fit(scale="none")
    methods: dict[str, MapRows | None] = {NO_MAP: None}
    if orthogonal.d_source == orthogonal.d_target:
        methods[MEAN_ONLY] = fit(kind="mean_only")
    methods[PAPER] = paper
    methods[f"{PAPER}, uncentred"] = functools.partial(
        paper, subtract_source_mean=False, add_target_mean=False
    )
    methods[ORTHOGONAL] = orthogonal
    methods[f"{ORTHOGONAL}, no target mean"] = functools.partial(
        orthogonal, add_target_mean=False
    )
    methods["least squares"] = fit(kind="linear", ridge=0.0)
    methods["ridge"] = fit(kind="linear", ridge=choose_ridge_by_class(anchors, fit_on))
    methods["MLP"] = _mlp_map(anchors, fit_on, seed)
    return orthogonal, methods


def choose_ridge_by_class(anchors: Anchors, fit_on: Modality) -> float:
    """Choose the ridge on anchors alone, each fold holding whole classes out.

    Folds of single rows would hold a picture out while a twin of its class, or another
    rendering of it, is fitted: the ridge would come out too weak for new classes.
    """
    source, target, labels = anchors.of(fit_on)
    fold_of_row = _folds_of_classes(labels, RIDGE_FOLDS)
    folds = [
        _moments(source, target, fold_of_row == fold)
        for fold in range(fold_of_row.max() + 1)
    ]
    return float(choose_ridge(folds).ridge)


def _folds_of_classes(labels: np.ndarray, count: int) -> np.ndarray:
    """Number the fold of each row; rows of one class share theirs."""
    classes = np.unique(labels)
    shuffled = np.random.default_rng(0).permutation(len(classes))
    fold_of_class = shuffled % min(count, len(classes))
    return fold_of_class[np.searchsorted(classes, labels)]


def _moments(source: np.ndarray, target: np.ndarray, chosen: np.ndarray) -> Moments:
    """Moments of the chosen rows; the others have weight 0, so one shape serves all."""
    empty = init_moments(source.shape[1], target.shape[1], grams=True)
    return _update(empty, source, target, weights=chosen.astype(source.dtype))


def _mlp_map(anchors: Anchors, fit_on: Modality, seed: int) -> MapRows:
    """Fit the MLP on one modality; the other crosses about its own means.

    Early stopping looks at whole classes held out, as the ridge does.
    """
    source, target, labels = anchors.of(fit_on)
    held_out = _folds_of_classes(labels, MLP_FOLDS) == 0
    solution = fit_mlp(source, target, seed=seed, held_out=held_out)
    means = {
        name: tuple(np.mean(rows, axis=0) for rows in pair)
        for name, pair in anchors.pairs.items()
    }

    def carry(rows: ArrayLike, modality: Modality) -> ArrayLike:
        before, after = means[modality]
        return solution(rows, source_mean=before, target_mean=after)

    return carry
