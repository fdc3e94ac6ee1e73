# SPDX-License-Identifier: Apache-2.0
"""A fit with a loss leaves wrong pairs out, where the plain fit follows them."""

import numpy as np
import pytest

import jaxalign as ja
from tests.cases import planted_rows
from tests.tolerances import PROCRUSTES, eps

N, D = 400, 16
WRONG = np.arange(N) < 0.3 * N


@pytest.fixture(scope="module")
def anchors():
    """Source rows, their partners, partners of which 30 % are wrong, and Q."""
    rng = np.random.default_rng(0)
    source, target, planted = planted_rows(rng, N, D, noise=0.2, means=(0.9, 0.5))
    spoilt = target.copy()
    gross = 8.0 * rng.standard_normal((int(WRONG.sum()), D)) + 4.0
    spoilt[WRONG] = gross / np.sqrt(D)
    return source, target, spoilt, planted


def distance(amap, planted):
    return float(np.linalg.norm(np.asarray(amap.matrix) - planted))


@pytest.mark.filterwarnings("ignore::jaxalign.errors.PoorFitWarning")
@pytest.mark.parametrize("loss", ["tukey", "huber", "l1"])
def test_error_is_within_twice_that_of_the_clean_pairs(anchors, loss):
    source, target, spoilt, planted = anchors
    clean = ja.fit_map({"image": (source[~WRONG], target[~WRONG])})
    best = distance(clean, planted)
    plain = ja.fit_map({"image": (source, spoilt)})
    assert distance(plain, planted) > 10 * best
    found = ja.fit_map({"image": (source, spoilt)}, ja.Robust(loss=loss))
    assert distance(found, planted) <= 2 * best
    notes = found.card["fit"]
    assert (notes["family"]["loss"], notes["robust"]["image"]["status"]) == (loss, "OK")
    if loss == "tukey":
        # All that is wrong is dropped, so scale and means are the clean ones too.
        share = notes["robust"]["image"]["share_below_0.1"]
        assert 0.3 <= share < 0.4
        np.testing.assert_allclose(
            found.numbers.scales["image"], clean.numbers.scales["image"], rtol=0.05
        )
        missed = (
            found.numbers.target_means["image"] - clean.numbers.target_means["image"]
        )
        fooled = (
            plain.numbers.target_means["image"] - clean.numbers.target_means["image"]
        )
        assert np.linalg.norm(missed) < 0.1 * np.linalg.norm(fooled)


def test_fit_is_that_of_the_solver_and_weights_of_the_user_count(anchors):
    source, _, spoilt, _ = anchors
    weights = np.where(np.arange(N) < 350, 1.0, 0.0).astype(np.float32)
    anchors = ja.Anchors(
        {"image": (source, spoilt), "text": (source, source)},
        weights={"image": weights},
    )
    found = ja.fit_map(anchors, ja.Robust())
    solved = ja.solve.solve_robust(
        source, spoilt, weights=weights, scale="least_squares"
    )
    bound = PROCRUSTES * eps(np.float32)
    np.testing.assert_allclose(found.matrix, solved.rotation, atol=bound)
    notes = found.card["fit"]
    assert notes["weighted"] == ["image"]
    # Anchors that the user left out are in no share, and texts were not judged.
    assert list(notes["robust"]) == ["image"]
    below = np.asarray(solved.weights)[:350] < 0.1
    assert notes["robust"]["image"]["share_below_0.1"] == pytest.approx(below.mean())
    assert notes["modalities"]["text"]["anchors"] == N


@pytest.mark.filterwarnings("ignore::jaxalign.errors.PoorFitWarning")
def test_every_modality_that_is_fitted_on_is_judged(anchors):
    source, target, spoilt, planted = anchors
    pairs = {"image": (source, spoilt), "text": (source, target)}
    found = ja.fit_map(pairs, ja.Robust(), fit_on="all")
    robust = found.card["fit"]["robust"]
    assert robust["text"]["share_below_0.1"] < 0.1 < robust["image"]["share_below_0.1"]
    plain = ja.fit_map(pairs, fit_on="all")
    assert distance(found, planted) < 0.5 * distance(plain, planted)


@pytest.mark.filterwarnings("ignore::jaxalign.errors.PoorFitWarning")
@pytest.mark.parametrize("inner", [ja.Orthogonal(), ja.Ridge(0.01)])
def test_any_inner_family_leaves_wrong_pairs_out(anchors, inner):
    source, _, spoilt, planted = anchors
    found = ja.fit_map((source, spoilt), ja.Robust(inner))
    assert distance(found, planted) < 0.2 * distance(
        ja.fit_map((source, spoilt), inner), planted
    )


@pytest.mark.usefixtures("no_shape_hook")
def test_other_losses_and_families_are_refused():
    with pytest.raises(ValueError, match="loss"):
        ja.Robust(loss="cauchy")
    with pytest.raises(ValueError, match="inner"):
        ja.Robust(ja.Robust())
