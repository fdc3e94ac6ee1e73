# SPDX-License-Identifier: Apache-2.0
"""A map on new pairs: good ones, shuffled ones, too few."""

import jax
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.data.planted import planted_pairs
from jaxalign.trust.domain import outside_share
from jaxalign.trust.of_map import judge_map


@pytest.fixture(scope="module")
def planted():
    pairs = planted_pairs(jax.random.key(0), 160, 8, modalities=("text",)).pairs
    source, target = map(np.asarray, pairs["text"])
    amap = ja.fit_map({"text": (source[:60], target[:60])})
    return amap, source[60:], target[60:]


def test_new_pairs_and_shuffled_ones(planted):
    amap, source, target = planted
    verdict = judge_map(amap, ja.Anchors({"text": (source, target)}))
    assert (verdict.word, verdict.modality, verdict.anchors) == ("usable", "text", 100)
    figures = verdict.figures
    assert figures.queries == figures.rows == 100
    assert figures.top1.value > 0.9 > 0.1 > figures.top1.shuffled
    assert figures.explained.value > 0.5 > figures.explained.shuffled
    assert figures.neighbours.value > 2 * figures.neighbours.shuffled
    # By hand: the search that a user would do.
    _, found = ja.search.prepare(amap, target).search(source, 1)
    assert figures.top1.value == np.mean(np.asarray(found)[:, 0] == np.arange(100))
    mixed = judge_map(amap, ja.Anchors({"text": (source, np.roll(target, 9, axis=0))}))
    assert mixed.word == "none"


def test_too_few_pairs(planted):
    amap, source, target = planted
    verdict = judge_map(amap, ja.Anchors({"rows": (source[:5], target[:5])}))
    assert (verdict.word, verdict.figures) == ("too_few", None)


def test_equal_rows_answer_each_other(planted):
    amap, source, target = planted
    twice = ja.Anchors({"text": (np.repeat(source, 2, 0), np.repeat(target, 2, 0))})
    assert judge_map(amap, twice).word == "usable"


def test_the_share_outside_is_that_of_the_projector():
    rng = np.random.default_rng(0)
    source = rng.normal(size=(20, 3)) @ rng.normal(size=(3, 8))
    amap = ja.fit_map((source, source @ rng.normal(size=(8, 8))))
    assert outside_share(amap, source, "rows") < 1e-5
    rows = rng.normal(size=(50, 8))
    basis = np.linalg.svd(source - source.mean(0), full_matrices=False)[2][:3]
    centred = rows - source.mean(0)
    left = centred - centred @ basis.T @ basis
    expected = np.sum(left**2) / np.sum(centred**2)
    assert outside_share(amap, rows, "rows") == pytest.approx(expected, rel=1e-3)
