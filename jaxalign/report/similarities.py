# SPDX-License-Identifier: Apache-2.0
"""The heat maps' data: cosines of pictures with texts, class by class."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.evaluate.paired_set import PairedSet
from jaxalign.evaluate.protocol import MapRows
from jaxalign.metrics.zeroshot import class_similarities


@dataclasses.dataclass(frozen=True)
class SimilarityMaps:
    """Cosines of images (rows) with texts (columns) in the same order, for one figure.

    Attributes:
      labels: ``(c,)`` names of the classes or concepts, about 40 at most to be legible.
      source: ``(c, c)``, source images with source texts.
      target: ``(c, c)``, target images with target texts.
      mapped: ``(c, c)``, mapped source images with target texts.
      unmapped: ``(c, c)``, source images with target texts as they are; None if the
        widths differ.
      table: name of the examples, such as "held-out classes".
    """

    labels: Sequence[str]
    source: Float[ArrayLike, "c c"]
    target: Float[ArrayLike, "c c"]
    mapped: Float[ArrayLike, "c c"]
    unmapped: Float[ArrayLike, "c c"] | None = None
    table: str = ""

    def __post_init__(self):
        c = len(self.labels)
        tables = [self.source, self.target, self.mapped]
        tables += [] if self.unmapped is None else [self.unmapped]
        shapes = [np.shape(table) for table in tables]
        if c == 0 or shapes != [(c, c)] * len(shapes):
            expected = f"tables of shape {(c, c)}, at least (1, 1)"
            remedy = "give one label per row and column"
            raise ArgumentError("SimilarityMaps(labels=...)", expected, shapes, remedy)


def measure_similarities(
    paired_set: PairedSet,
    map_rows: MapRows,
    class_names: Mapping[int, str],
    *,
    limit: int = 40,
    table: str = "",
) -> SimilarityMaps:
    """Average the cosines of the pictures of each class with each class text.

    Args:
      paired_set: the examples.
      map_rows: carries source rows to the target space.
      class_names: class id -> name.
      limit: at most so many classes are shown, spread evenly over `class_ids`.
      table: name of the examples.

    Returns:
      The data of one figure.
    """
    count = len(paired_set.class_ids)
    shown = np.unique(np.linspace(0, count - 1, min(limit, count)).round().astype(int))
    class_ids = np.asarray(paired_set.class_ids)[shown]
    texts = np.asarray(paired_set.source_class_texts)[shown]
    target_texts = np.asarray(paired_set.target_class_texts)[shown]
    images, labels = paired_set.source_images, paired_set.labels
    mapped = np.asarray(map_rows(images, "image"))
    same_width = images.shape[1] == target_texts.shape[1]
    return SimilarityMaps(
        labels=[class_names[int(i)] for i in class_ids],
        source=class_similarities(images, labels, texts, class_ids),
        target=class_similarities(
            paired_set.target_images, labels, target_texts, class_ids
        ),
        mapped=class_similarities(mapped, labels, target_texts, class_ids),
        unmapped=class_similarities(images, labels, target_texts, class_ids)
        if same_width
        else None,
        table=table,
    )
