# SPDX-License-Identifier: Apache-2.0
"""The gallery of a report: what queries find with the map and without."""

from collections.abc import Sequence

import numpy as np

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.evaluate.paired_set import PairedSet
from jaxalign.evaluate.protocol import MapRows
from jaxalign.pairing.embedded_split import EmbeddedSplit
from jaxalign.report.gallery_items import FoundPicture, FoundText, GalleryItem, Picture
from jaxalign.search.ranking import top_k


def find_gallery(
    paired_set: PairedSet,
    map_rows: MapRows,
    queries: Sequence[int],
    *,
    pictures: Sequence[Picture],
    names: Sequence[str],
    texts: Sequence[str],
    k: int = 5,
) -> list[GalleryItem]:
    """Search pictures and texts of the target model for some queries.

    Args:
      paired_set: the examples.
      map_rows: carries source rows to the target space.
      queries: row numbers of the examples to show.
      pictures: one picture per example.
      names: one name per example.
      texts: one caption per example, as embedded in `paired_set.target_texts`.
      k: how many of each are shown.

    Returns:
      One item per query. The query's own example is left in: to find it is the task.

    Raises:
      ValueError: if there is not one picture, name and text per example.
    """
    counts = {len(pictures), len(names), len(texts), len(paired_set.labels)}
    if len(counts) != 1:
        raise ArgumentError(
            "find_gallery(pictures=..., names=..., texts=...)",
            f"{len(paired_set.labels)} of each",
            f"{len(pictures)}, {len(names)} and {len(texts)}",
            "give one per example of the paired set",
        )
    rows = np.asarray(queries)
    k = min(k, len(pictures))
    native = np.asarray(paired_set.target_images)[rows]
    mapped = np.asarray(map_rows(np.asarray(paired_set.source_images)[rows], "image"))

    def found(query_rows: ArrayLike, index: ArrayLike):
        scores, places = top_k(query_rows, index, k)
        return np.asarray(scores), np.asarray(places)

    native_hits = found(native, paired_set.target_images)
    mapped_hits = found(mapped, paired_set.target_images)
    text_hits = found(mapped, paired_set.target_texts)

    def show(hits, i: int) -> list[FoundPicture]:
        pairs = zip(map(float, hits[0][i]), map(int, hits[1][i]), strict=True)
        return [FoundPicture(pictures[j], names[j], score) for score, j in pairs]

    items = []
    ids = np.asarray(paired_set.ids)
    for i, row in enumerate(map(int, rows)):
        pairs = zip(map(float, text_hits[0][i]), map(int, text_hits[1][i]), strict=True)
        item = GalleryItem(
            query_picture=pictures[row],
            query_name=names[row],
            native_neighbours=show(native_hits, i),
            mapped_neighbours=show(mapped_hits, i),
            mapped_texts=[
                FoundText(texts[j], score, bool(ids[j] == ids[row]))
                for score, j in pairs
            ],
        )
        items.append(item)
    return items


def sample_gallery(
    paired_set: PairedSet,
    map_rows: MapRows,
    split: EmbeddedSplit,
    *,
    count: int = 12,
    seed: int = 0,
) -> list[GalleryItem]:
    """Search for some pictures, drawn without looking at what they find.

    Args:
      paired_set: pairs of `split`, as its `pairs` made them.
      map_rows: carries source rows to the target space.
      split: brings pictures, names and captions.
      count: how many are shown.
      seed: of the draw.

    Returns:
      One item per query.
    """
    shown = split.of_classes(np.asarray(paired_set.class_ids)) & split.is_query
    examples = [split.examples[int(i)] for i in np.flatnonzero(shown)]
    queries = np.random.default_rng(seed).permutation(len(examples))[:count]
    return find_gallery(
        paired_set,
        map_rows,
        queries.tolist(),
        pictures=[example["image"] for example in examples],
        names=[str(example.get("thing") or example["id"]) for example in examples],
        texts=[str(example["text"]) for example in examples],
    )
