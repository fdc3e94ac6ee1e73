# SPDX-License-Identifier: Apache-2.0
"""Fixed test rows under refitted maps: the maps are those of weighted rows."""

import functools

import jax
import numpy as np
import pytest
import scipy.linalg

import jaxalign as ja
from jaxalign.trust.replicates import near_weights
from tests.trust.planted_blocks import Population, moments_of_blocks

POPULATION = Population(8, 1.0)
GROUPS = 16


@pytest.fixture(scope="module")
def test_rows():
    source, target = POPULATION.rows(jax.random.key(99), 128)
    return np.asarray(source), np.asarray(target), np.arange(128)


@pytest.fixture(scope="module")
def anchors():
    """Rows, the block of each, and the moments of the blocks."""
    source, target = (np.asarray(s) for s in POPULATION.rows(jax.random.key(0), 300))
    group = np.arange(300) % GROUPS
    return source, target, group, moments_of_blocks(source, target, group, GROUPS)


def test_each_replicate_scores_the_map_of_weighted_rows(test_rows, anchors):
    source, target, group, moments = anchors
    found = ja.evaluate.rescore_recall(moments, *test_rows, replicates=20, seed=2)
    queries, index, _ = (np.asarray(side, np.float64) for side in test_rows)
    unit = index / np.linalg.norm(index, axis=1, keepdims=True)
    expected = []
    for row in np.concatenate([np.ones((1, GROUPS)), near_weights(GROUPS, 20, 2)]):
        weights = row[group] / row[group].sum()
        means = [weights @ side.astype(np.float64) for side in (source, target)]
        root = np.sqrt(weights)[:, None]
        turn, _ = scipy.linalg.orthogonal_procrustes(
            root * (source - means[0]), root * (target - means[1])
        )
        scores = ((queries - means[0]) @ turn + means[1]) @ unit.T
        expected.append(np.mean(scores.argmax(axis=1) == np.arange(128)))
    # A tie up to float32's rounding may fall either way: one query in all.
    np.testing.assert_allclose(found.value, expected[0], atol=1.01 / 128)
    np.testing.assert_allclose(found.replicates, expected[1:], atol=1.01 / 128)
    assert len(set(expected)) > 3
    low, high = found.interval
    assert 0 <= low < found.value < high <= 1


def test_deterministic_and_the_same_in_any_chunks(test_rows, anchors):
    moments = anchors[-1]
    recall = functools.partial(
        ja.evaluate.rescore_recall, moments, *test_rows, replicates=20
    )
    one, other = recall(chunk=4), recall(chunk=5)
    np.testing.assert_allclose(one.replicates, other.replicates, atol=1.01 / 128)
    np.testing.assert_array_equal(recall(chunk=4).replicates, one.replicates)
    assert (recall(seed=1).replicates != one.replicates).any()


def test_any_score_of_the_rows(anchors):
    moments = anchors[-1]
    found = ja.evaluate.rescore(
        moments, lambda refitted: float(refitted.rotation[0, 1]), replicates=200
    )
    direction = np.zeros((8, 8), np.float32)
    direction[0, 1] = 1.0
    first_order = ja.trust.rotation_interval(moments, direction)
    low, high = found.interval
    width = float(first_order.high - first_order.low)
    # 200 replicates know a width to 5 %.
    assert high - low == pytest.approx(width, rel=0.16)
    assert found.value == pytest.approx(float(first_order.estimate), abs=1e-5)


@pytest.mark.slow
def test_intervals_of_recall_hold_its_mean_in_92_to_98_percent(test_rows):
    draw = jax.jit(functools.partial(POPULATION.blocks, n=500, groups=64))
    found = [
        ja.evaluate.rescore_recall(
            draw(jax.random.key(seed)), *test_rows, replicates=40, seed=seed, chunk=41
        )
        for seed in range(400)
    ]
    mean = np.mean([each.value for each in found])
    share = np.mean([each.interval[0] <= mean <= each.interval[1] for each in found])
    assert 0.92 <= share <= 0.98


@pytest.mark.usefixtures("no_shape_hook")
def test_errors(test_rows, anchors):
    with pytest.raises(ValueError, match=r"`rescore\(moments="):
        ja.evaluate.rescore_recall(ja.moments.init_moments(8, 8, groups=2), *test_rows)
    with pytest.raises(ValueError, match=r"`rescore\(replicates="):
        ja.evaluate.rescore_recall(anchors[-1], *test_rows, replicates=21)
