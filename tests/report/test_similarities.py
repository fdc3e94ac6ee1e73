# SPDX-License-Identifier: Apache-2.0
"""Heat maps hold the mean cosine of each class's pictures with each class text."""

import numpy as np
import pytest

from jaxalign.evaluate.paired_set import PairedSet
from jaxalign.report.similarities import SimilarityMaps, measure_similarities

LABELS = np.array([3, 3, 5, 9])
CLASS_IDS = np.array([3, 5, 9])
NAMES = {3: "fruit", 5: "bird", 9: "tool"}


def _unit(rng, *shape):
    rows = rng.standard_normal(shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def _pairs(d_target=4):
    rng = np.random.default_rng(0)
    return PairedSet(
        _unit(rng, 4, 4),
        _unit(rng, 4, 4),
        _unit(rng, 4, d_target),
        _unit(rng, 4, d_target),
        LABELS,
        _unit(rng, 3, 4),
        _unit(rng, 3, d_target),
        CLASS_IDS,
    )


def _mean_cosines(images, texts):
    cosines = np.asarray(images, np.float64) @ np.asarray(texts, np.float64).T
    return np.stack([cosines[LABELS == c].mean(axis=0) for c in CLASS_IDS])


def test_each_map_is_the_mean_cosine_by_class():
    pairs = _pairs()
    turn = np.linalg.qr(np.random.default_rng(1).standard_normal((4, 4)))[0]

    def turned(rows, modality):
        assert modality == "image"
        return rows @ turn

    found = measure_similarities(pairs, turned, NAMES, table="some")
    assert (found.labels, found.table) == (["fruit", "bird", "tool"], "some")
    images, texts = pairs.source_images, pairs.target_class_texts
    for map_, expected in (
        (found.source, _mean_cosines(images, pairs.source_class_texts)),
        (found.target, _mean_cosines(pairs.target_images, texts)),
        (found.mapped, _mean_cosines(images @ turn, texts)),
        (found.unmapped, _mean_cosines(images, texts)),
    ):
        np.testing.assert_allclose(map_, expected, atol=1e-6)


def test_without_a_map_unlike_widths_have_no_cosine():
    pairs = _pairs(d_target=3)
    found = measure_similarities(pairs, lambda rows, _: rows[:, :3], NAMES)
    assert found.unmapped is None


def test_few_classes_are_shown_evenly_spread():
    found = measure_similarities(_pairs(), lambda rows, _: rows, NAMES, limit=2)
    assert found.labels == ["fruit", "tool"]
    assert np.shape(found.source) == (2, 2)


@pytest.mark.parametrize("labels", [[], ["one"]])
def test_tables_need_a_label_for_each_row(labels):
    with pytest.raises(ValueError, match="labels"):
        SimilarityMaps(labels, *[np.zeros((2, 2))] * 3)
