# SPDX-License-Identifier: Apache-2.0
"""Log-softmax of the right rows against NumPy, and the temperature at its best."""

import numpy as np
import scipy.optimize
import scipy.special

from jaxalign.choose.likelihood import fit_sharpness, log_shares
from jaxalign.heldout.scores import FoldScores


def draw(seed, n=40, m=50, lift=2.0):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((n, m))
    right = np.zeros((n, m), bool)
    right[np.arange(n), np.arange(n)] = True
    right[0, 7] = True  # two right answers
    scores[right] += lift
    return FoldScores(scores.astype(np.float32), right, np.arange(n))


def by_numpy(fold, sharpness):
    logits = sharpness * fold.scores.astype(np.float64)
    held = np.where(fold.right, logits, -np.inf)
    total = scipy.special.logsumexp(logits, axis=1)
    return scipy.special.logsumexp(held, axis=1) - total


def test_shares_are_those_of_the_softmax():
    fold = draw(0)
    for sharpness in (0.1, 1.0, 7.0):
        np.testing.assert_allclose(
            log_shares(fold, sharpness), by_numpy(fold, sharpness), atol=1e-5
        )
    moved = fold._replace(scores=fold.scores + 1e3)
    np.testing.assert_allclose(log_shares(moved, 2.0), by_numpy(fold, 2.0), atol=1e-2)


def test_sharpness_is_that_of_the_highest_mean_whatever_the_scale():
    folds = [draw(seed) for seed in range(3)]

    def loss(log_sharpness):
        shares = [by_numpy(fold, np.exp(log_sharpness)) for fold in folds]
        return -np.mean(np.concatenate(shares))

    best = scipy.optimize.minimize_scalar(loss, bounds=(-5, 5), method="bounded")
    for scale in (1e-3, 1.0, 1e3):
        scaled = [fold._replace(scores=scale * fold.scores) for fold in folds]
        found = fit_sharpness(scaled) * scale
        # A search on a grid: the loss counts, and is flat there.
        assert loss(np.log(found)) - best.fun < 2e-3


def test_hits_ties_collapse_and_bad_numbers():
    fold = draw(1)
    best = np.where(fold.right, fold.scores, -np.inf).max(axis=1)
    other = np.where(fold.right, -np.inf, fold.scores).max(axis=1)
    np.testing.assert_array_equal(fold.hits(), best > other)
    flat = fold._replace(scores=np.ones_like(fold.scores))
    assert not flat.hits().any()
    assert fit_sharpness([flat]) == 1.0
    np.testing.assert_allclose(log_shares(flat, 1.0)[1:], -np.log(50), atol=1e-5)
    bad = fold._replace(scores=np.full_like(fold.scores, np.nan))
    assert not bad.hits().any()
    assert np.isfinite(log_shares(bad, fit_sharpness([bad]))).all()
