# SPDX-License-Identifier: Apache-2.0
import base64
import io

import numpy as np
import pytest
from PIL import Image

from jaxalign.embedding.batch import EmbeddedSet
from jaxalign.evaluate.paired_set import PairedSet
from jaxalign.pairing.embedded_split import EmbeddedSplit
from jaxalign.report.gallery import find_gallery, sample_gallery
from jaxalign.report.gallery_items import picture_data_uri
from jaxalign.report.similarities import measure_similarities

N = 6
EYE = np.eye(N, dtype=np.float32)
# The target space turns the axes by one place.
PAIRS = PairedSet(
    source_images=EYE,
    source_texts=EYE,
    target_images=np.roll(EYE, 1, axis=1),
    target_texts=np.roll(EYE, 1, axis=1),
    labels=np.arange(N) // 2,
    source_class_texts=EYE[::2] + EYE[1::2],
    target_class_texts=np.roll(EYE[::2] + EYE[1::2], 1, axis=1),
    class_ids=np.arange(3),
)
PICTURES = np.arange(N * 4 * 4 * 3, dtype=np.uint8).reshape(N, 4, 4, 3)
NAMES = [f"thing {i}" for i in range(N)]


def turn(rows, modality):
    return np.roll(rows, 1, axis=1)


def test_a_perfect_map_finds_the_query_itself():
    texts = [f"a {name}" for name in NAMES]
    items = find_gallery(
        PAIRS, turn, [4, 1], pictures=list(PICTURES), names=NAMES, texts=texts, k=3
    )
    assert [item.query_name for item in items] == ["thing 4", "thing 1"]
    for item in items:
        assert item.native_neighbours[0].name == item.query_name
        assert item.mapped_neighbours[0].name == item.query_name
        assert item.mapped_texts[0] == (f"a {item.query_name}", 1.0, True)
        assert [found.correct for found in item.mapped_texts] == [True, False, False]


def test_without_a_map_it_does_not():
    [item] = find_gallery(
        PAIRS,
        lambda rows, modality: rows,
        [3],
        pictures=list(PICTURES),
        names=NAMES,
        texts=NAMES,
    )
    assert item.native_neighbours[0].name == "thing 3"
    assert item.mapped_neighbours[0].name == "thing 2"
    assert not item.mapped_texts[0].correct


def test_a_sample_takes_only_queries_of_the_pairs_classes():
    labels = np.repeat(np.arange(N), 2)
    examples = [
        {
            **dict.fromkeys(("name", "thing", "text"), NAMES[label]),
            "image": PICTURES[label],
            "rendering": rendering,
            "is_query": rendering == "plain",
        }
        for label in range(N)
        for rendering in ("plain", "varied")
    ]

    def rows(space):
        turned = np.repeat(np.roll(EYE, int(space == "target"), axis=1), 2, axis=0)
        ids = np.array([str(i) for i in range(2 * N)])
        return EmbeddedSet(turned, turned, ids, labels, space)

    split = EmbeddedSplit(examples, rows("source"), rows("target"))
    pairs = split.pairs(np.array([1, 2, 4]), EYE, EYE)
    items = sample_gallery(pairs, turn, split, count=2)
    assert len(items) == 2
    assert {item.query_name for item in items} <= {"thing 1", "thing 2", "thing 4"}
    assert all(item.mapped_texts[0].correct for item in items)
    everything = sample_gallery(pairs, turn, split)
    assert [item.query_name for item in everything[:2]] == [i.query_name for i in items]
    assert len(everything) == 3


def test_similarities_show_the_lost_diagonal():
    names = {0: "a", 1: "b", 2: "c"}
    maps = measure_similarities(PAIRS, turn, names, table="t")
    half = np.sqrt(0.5)
    for table in (maps.source, maps.target, maps.mapped):
        np.testing.assert_allclose(table, half * np.eye(3), atol=1e-6)
    assert maps.unmapped is not None
    np.testing.assert_allclose(np.diag(maps.unmapped), half / 2, atol=1e-6)
    few = measure_similarities(PAIRS, turn, names, limit=2)
    assert few.labels == ["a", "c"]


@pytest.mark.parametrize("shape", [(5, 4, 3), (5, 4, 4), (5, 4), (5, 4, 1)])
def test_pixels_become_png(shape):
    pixels = np.random.default_rng(0).integers(255, size=shape, dtype=np.uint8)
    uri = picture_data_uri(pixels)
    png = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    np.testing.assert_array_equal(Image.open(io.BytesIO(png)), pixels.squeeze())
    assert picture_data_uri(png) == uri


@pytest.mark.usefixtures("no_shape_hook")
class TestErrors:
    @pytest.mark.parametrize(
        "picture", [b"GIF89a", np.zeros((4, 4, 3)), np.zeros((4, 4, 2), np.uint8)]
    )
    def test_other_pictures(self, picture):
        with pytest.raises(ValueError, match="GalleryItem"):
            picture_data_uri(picture)

    def test_counts(self):
        with pytest.raises(ValueError, match="pictures.*names.*texts"):
            find_gallery(PAIRS, turn, [0], pictures=[], names=NAMES, texts=NAMES)
