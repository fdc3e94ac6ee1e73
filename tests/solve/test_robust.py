# SPDX-License-Identifier: Apache-2.0
"""Robust fit: three wrong pairs in ten do not matter, where they ruin the plain fit."""

import numpy as np
import pytest

import jaxalign as ja
from tests.cases import moments_of, orthonormal, planted_rows
from tests.tolerances import PROCRUSTES, eps

F32 = eps(np.float32)


def with_wrong_pairs(seed, n=400, d=16, noise=0.2):
    """Planted rows of which 15 % have another's partner and 15 % a gross one."""
    rng = np.random.default_rng(seed)
    source, target, planted = planted_rows(rng, n, d, noise=noise, means=(0.9, 0.5))
    wrong = np.arange(n) < 0.3 * n
    half = int(0.15 * n)
    spoilt = target.copy()
    spoilt[:half] = np.roll(target[:half], 1, axis=0)
    gross = 8.0 * rng.standard_normal((int(wrong.sum()) - half, d)) + 4.0
    spoilt[half : wrong.sum()] = gross / np.sqrt(d)
    return source, target, spoilt, planted, wrong


def distance(rotation, planted):
    return float(np.linalg.norm(np.asarray(rotation) - planted))


@pytest.mark.parametrize("loss", ["tukey", "huber", "l1"])
@pytest.mark.parametrize("seed", range(3))
def test_error_is_within_twice_that_of_the_clean_pairs(loss, seed):
    source, target, spoilt, planted, wrong = with_wrong_pairs(seed)
    clean = ja.solve.solve_procrustes(moments_of(source[~wrong], target[~wrong]))
    best = distance(clean.rotation, planted)
    plain = ja.solve.solve_procrustes(moments_of(source, spoilt))
    assert distance(plain.rotation, planted) > 10 * best
    found = ja.solve.solve_robust(source, spoilt, loss=loss).check()
    assert bool(found.converged)
    assert distance(found.rotation, planted) <= 2 * best
    weights = np.asarray(found.weights)
    assert weights[wrong].mean() < 0.5 * weights[~wrong].mean()
    if loss == "tukey":
        gross = slice(60, 120)
        assert not np.any(weights[gross])
        # The means are those of the pairs that were believed.
        mean = np.asarray(found.moments.target_mean)
        clean_mean = target[~wrong].mean(axis=0)
        missed = np.linalg.norm(mean - clean_mean)
        assert missed < 0.1 * np.linalg.norm(spoilt.mean(axis=0) - clean_mean)


def test_clean_rows_give_nearly_the_plain_fit_and_perfect_ones_the_planted_map():
    source, target, _, planted, _ = with_wrong_pairs(0)
    plain = distance(
        ja.solve.solve_procrustes(moments_of(source, target)).rotation, planted
    )
    robust = distance(ja.solve.solve_robust(source, target).rotation, planted)
    assert robust <= 1.2 * plain
    source, target, spoilt, planted, _ = with_wrong_pairs(1, noise=0.0)
    found = ja.solve.solve_robust(source, spoilt)
    np.testing.assert_allclose(found.rotation, planted, atol=PROCRUSTES * F32)


def test_given_weights_count_and_padding_may_hold_anything():
    source, _, spoilt, _, _ = with_wrong_pairs(2)
    plain = ja.solve.solve_robust(source[:300], spoilt[:300])
    mask = np.arange(400) < 300
    padded = np.where(mask[:, None], spoilt, np.float32(np.nan))
    found = ja.solve.solve_robust(source, padded, weights=mask.astype(np.float32))
    np.testing.assert_allclose(found.rotation, plain.rotation, atol=PROCRUSTES * F32)
    np.testing.assert_allclose(
        np.asarray(found.weights)[:300], plain.weights, atol=PROCRUSTES * F32
    )
    assert not np.any(np.asarray(found.weights)[300:])


def test_to_a_narrower_space():
    rng = np.random.default_rng(3)
    source = rng.standard_normal((200, 6)).astype(np.float32)
    rotation = orthonormal(rng, 4, 6)
    target = (source @ rotation.T).astype(np.float32)
    target[:50] += 9.0
    found = ja.solve.solve_robust(source, target, scale="energy").check()
    np.testing.assert_allclose(found.rotation, rotation, atol=PROCRUSTES * F32)


def test_a_fit_that_is_cut_short_says_so():
    source, _, spoilt, _, _ = with_wrong_pairs(0)
    found = ja.solve.solve_robust(source, spoilt, max_iterations=1)
    assert int(found.status) == ja.Status.NOT_CONVERGED
    with pytest.raises(ja.SolveError, match="`solve_robust`: NOT_CONVERGED"):
        found.check()
    nothing = ja.solve.solve_robust(source, spoilt, weights=np.zeros(400, np.float32))
    assert int(nothing.status) == ja.Status.TOO_FEW_ANCHORS


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    rows = np.ones((4, 3), np.float32)
    for pair in ((rows, rows[:2]), (rows[:0], rows[:0])):
        with pytest.raises(ValueError, match="source, target"):
            ja.solve.solve_robust(*pair)
    for options in (
        {"loss": "l2"},
        {"scale": "unit"},
        {"method": "lu"},
        {"max_iterations": 0},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(options))}="):
            ja.solve.solve_robust(rows, rows, **options)
    with pytest.raises(ValueError, match="proper=True"):
        ja.solve.solve_robust(rows, rows[:, :2], proper=True)
