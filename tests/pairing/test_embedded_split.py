# SPDX-License-Identifier: Apache-2.0
"""Anchors take all examples of their classes; pairs take those searched for."""

import numpy as np
import pytest

from jaxalign.embedding.batch import EmbeddedSet
from jaxalign.pairing.embedded_split import EmbeddedSplit

LABELS = np.array([4, 4, 2, 2, 7, 7])
RENDERINGS = ["plain", "varied"] * 3
CLASS_TEXTS = np.arange(1.0, 9.0)[:, None] * np.ones(3)


def _set(seed, space):
    rng = np.random.default_rng(seed)
    image, text = rng.standard_normal((2, 6, 3))
    ids = np.array(
        [f"{label}/{r}" for label, r in zip(LABELS, RENDERINGS, strict=True)]
    )
    return EmbeddedSet(image=image, text=text, ids=ids, labels=LABELS, space=space)


@pytest.fixture
def split():
    examples = [
        {"is_query": rendering == "plain", "thing": f"thing {label}"}
        for rendering, label in zip(RENDERINGS, LABELS, strict=True)
    ]
    return EmbeddedSplit(examples, _set(0, "source"), _set(1, "target"))


def test_anchors_are_all_renderings_and_one_caption_a_thing(split):
    anchors = split.anchors(np.array([2, 7]))
    image, text = anchors.rows["image"], anchors.rows["text"]
    np.testing.assert_array_equal(image.source, split.source.image[2:])
    np.testing.assert_array_equal(image.target, split.target.image[2:])
    np.testing.assert_array_equal(text.source, split.source.text[[2, 4]])
    np.testing.assert_array_equal(text.target, split.target.text[[2, 4]])
    assert image.groups.tolist() == [2, 2, 7, 7]
    assert text.groups.tolist() == [2, 7]
    assert list(image.ids) == ["thing 2"] * 2 + ["thing 7"] * 2
    assert list(text.ids) == ["thing 2", "thing 7"]
    assert (anchors.source_space, anchors.target_space) == ("source", "target")


def test_pairs_are_the_query_rendering_with_their_class_texts(split):
    pairs = split.pairs(np.array([4, 7, 5]), CLASS_TEXTS, -CLASS_TEXTS)
    np.testing.assert_array_equal(pairs.source_images, split.source.image[[0, 4]])
    np.testing.assert_array_equal(pairs.target_texts, split.target.text[[0, 4]])
    assert pairs.labels.tolist() == [4, 7]
    # No example shows class 5, so zero-shot does not choose it.
    assert pairs.class_ids.tolist() == [4, 7]
    np.testing.assert_array_equal(pairs.source_class_texts[:, 0], [5.0, 8.0])
    np.testing.assert_array_equal(pairs.target_class_texts[:, 0], [-5.0, -8.0])
    np.testing.assert_array_equal(pairs.groups, pairs.labels)


def test_examples_without_these_keys_each_show_something_and_are_searched_for(split):
    plain = EmbeddedSplit([{} for _ in LABELS], split.source, split.target)
    anchors = plain.anchors(np.array([2, 7]))
    assert anchors.rows["text"].ids.tolist() == [2, 3, 4, 5]
    pairs = plain.pairs(np.array([2]), CLASS_TEXTS, CLASS_TEXTS)
    np.testing.assert_array_equal(pairs.source_images, split.source.image[2:4])
