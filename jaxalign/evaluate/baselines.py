# SPDX-License-Identifier: Apache-2.0
"""The maps that a report compares, all fitted on the same anchors.

The orthogonal map in the ways it can be used, and its competitors: means alone, least
squares, ridge (the real one) and a residual MLP. Each becomes a plain callable for
`protocol.evaluate_map`.
"""

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.evaluate.held_out import Job
from jaxalign.evaluate.protocol import MapRows
from jaxalign.evaluate.rows import MEAN_ONLY, NO_MAP
from jaxalign.evaluate.select import MapChoice, choose_map
from jaxalign.float_rows import float_rows
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.fit import fit_map

ORTHOGONAL = "orthogonal map"
PAPER = "paper's map"
CHOSEN = "chosen recipe"


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
      image_ids: (n,) what each picture shows, or None if that is not known.
      text_ids: (m,) what each caption names, by the same labels.
    """

    source_images: Float[ArrayLike, "n d_source"]
    target_images: Float[ArrayLike, "n d_target"]
    source_texts: Float[ArrayLike, "m d_source"]
    target_texts: Float[ArrayLike, "m d_target"]
    image_labels: Int[ArrayLike, " n"]
    text_labels: Int[ArrayLike, " m"]
    image_ids: Shaped[ArrayLike, " n"] | None = None
    text_ids: Shaped[ArrayLike, " m"] | None = None

    def __post_init__(self):
        for side in ("source", "target"):
            width = None
            for name in (f"{side}_images", f"{side}_texts"):
                rows = float_rows("Anchors", name, getattr(self, name), width=width)
                object.__setattr__(self, name, rows)
                width = rows.shape[1]

    @property
    def labels(self) -> dict[Modality, ArrayLike]:
        """Class of each row, by modality."""
        return {"image": self.image_labels, "text": self.text_labels}

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
        labels = self.labels
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
    # Folds of single rows would hold a picture out while another rendering of it is
    # fitted: the ridge would come out too weak for new classes.
    methods["ridge"] = fit(kind="linear", groups=anchors.labels)
    methods["MLP"] = fit(kind="mlp", groups=anchors.labels, seed=seed)
    return orthogonal, methods


def choose_recipe(
    anchors: Anchors,
    *,
    source_space: str | None = None,
    target_space: str | None = None,
    index_size: int = 1000,
    folds: int = 3,
) -> MapChoice:
    """Choose map and recipe for the searches of a report's table, by whole classes.

    Args:
      anchors: the paired rows.
      source_space: fingerprint of the source rows.
      target_space: fingerprint of the target rows.
      index_size: see `choose_map`.
      folds: see `choose_map`; more take longer.

    Returns:
      The choice, for pictures and texts within a modality, and for pictures that ask
      for texts in both directions where the anchors have ids.
    """
    jobs = [Job("image", "image"), Job("text", "text")]
    ids = None
    if anchors.image_ids is not None and anchors.text_ids is not None:
        ids = {"image": anchors.image_ids, "text": anchors.text_ids}
        jobs += [Job("image", "text"), Job("image", "text", "target")]
    return choose_map(
        anchors.pairs,
        groups=anchors.labels,
        ids=ids,
        jobs=jobs,
        index_size=index_size,
        folds=folds,
        source_space=source_space,
        target_space=target_space,
    )
