# SPDX-License-Identifier: Apache-2.0
"""Weights of rows and modalities, and groups: laws, and SciPy's weighted rotation."""

import jax
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.anchors.folds import fold_rows
from tests.cases import rows_pair
from tests.tolerances import LINEAR, PROCRUSTES, eps

F32 = eps(np.float32)
KINDS = ({}, {"kind": "linear", "ridge": 0.1}, {"kind": "linear", "ridge": 0.0})


def same(left, right, within=PROCRUSTES * F32):
    """Compare the numbers of two maps, relative to the largest of each."""
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    for one, other in pairs:
        size = max(1.0, float(np.abs(other).max()))
        np.testing.assert_allclose(one, other, atol=within * size)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), kind=st.sampled_from(range(3)))
def test_a_whole_weight_is_as_many_copies_and_zero_is_none(seed, kind):
    rng = np.random.default_rng(seed)
    source, target = rows_pair(rng, 40, 6, 6, mean=0.5)
    weights = rng.integers(0, 4, 40)
    copied = tuple(np.repeat(side, weights, axis=0) for side in (source, target))
    weighted = ja.fit_map(
        {"image": (source, target)}, weights={"image": weights}, **KINDS[kind]
    )
    same(weighted, ja.fit_map({"image": copied}, **KINDS[kind]), LINEAR * F32)
    fit = weighted.card["fit"]
    assert fit["modalities"]["image"]["anchors"] == np.count_nonzero(weights)
    assert fit["weighted"] == ["image"]


def test_weighted_rotation_is_scipys():
    rng = np.random.default_rng(0)
    source, target = rows_pair(rng, 80, 6, 6, mean=0.9)
    weights = rng.uniform(0.1, 3.0, 80)
    amap = ja.fit_map({"image": (source, target)}, weights={"image": weights})
    x, y = (side.astype(np.float64) for side in (source, target))
    x, y = (side - np.average(side, axis=0, weights=weights) for side in (x, y))
    root = np.sqrt(weights)[:, None]
    expected, _ = scipy.linalg.orthogonal_procrustes(root * x, root * y)
    np.testing.assert_allclose(amap.rotation, expected.T, atol=PROCRUSTES * F32)


@pytest.mark.parametrize("kind", range(3))
def test_modalities_are_weighed_like_their_rows(kind):
    rng = np.random.default_rng(1)
    pairs = {
        "image": rows_pair(rng, 60, 6, 6, mean=0.9),
        "text": rows_pair(rng, 50, 6, 6, mean=-0.5),
    }

    def fit(weights):
        return ja.fit_map(pairs, fit_on="all", modality_weights=weights, **KINDS[kind])

    same(fit({"text": 1.0}), ja.fit_map(pairs, fit_on="all", **KINDS[kind]))
    # Only the ratio counts.
    same(fit({"image": 2.0, "text": 6.0}), fit({"text": 3.0}), LINEAR * F32)
    same(fit({"image": 0.0}), ja.fit_map(pairs, fit_on="text", **KINDS[kind]))
    rows = ja.fit_map(
        pairs, fit_on="all", weights={"text": np.full(50, 3.0)}, **KINDS[kind]
    )
    same(fit({"text": 3.0}), rows, LINEAR * F32)
    near = np.linalg.norm(
        np.asarray(fit({"text": 100.0}).matrix - fit({"image": 0.0}).matrix)
    )
    far = np.linalg.norm(np.asarray(fit({}).matrix - fit({"image": 0.0}).matrix))
    assert near < 0.2 * far


@pytest.mark.slow
@pytest.mark.standard_promotion
def test_an_mlp_never_sees_a_row_of_weight_zero():
    rng = np.random.default_rng(2)
    source, target = rows_pair(rng, 60, 4, 4)
    weights = np.ones(60)
    weights[::3] = 0
    spoilt = target.copy()
    spoilt[::3] = 100.0
    fits = [
        ja.fit_map({"image": (source, rows)}, ja.Mlp(), weights={"image": weights})
        for rows in (target, spoilt)
    ]
    assert fits[0].fingerprint == fits[1].fingerprint


def test_folds_keep_groups_whole_over_modalities():
    groups = {
        "image": np.array(["b", "b", "a", "c", "d"]),
        "text": np.array(["c", "a"]),
    }
    folds = fold_rows({"image": 5, "text": 2, "audio": 7}, groups, 3)
    by_label = {}
    for name in groups:
        for label, fold in zip(groups[name], folds[name], strict=True):
            assert by_label.setdefault(label, fold) == fold
    assert set(by_label.values()) == {0, 1, 2}
    assert sorted(np.bincount(folds["audio"])) == [2, 2, 3]


def test_groups_keep_twins_from_weakening_a_ridge():
    rng = np.random.default_rng(1)
    classes, width = 10, 16
    centres, targets = rng.normal(size=(2, classes, width))
    labels = np.repeat(np.arange(classes), 30)
    noise = 0.01 * rng.normal(size=(2, len(labels), width))
    rows = (centres[labels] + noise[0], targets[labels] + noise[1])
    pairs = {"image": tuple(side.astype(np.float32) for side in rows)}
    by_group = ja.fit_map(pairs, ja.Ridge(), groups={"image": labels})
    by_row = ja.fit_map(pairs, ja.Ridge())
    # Targets are unrelated to sources, so new classes are best told by the mean alone.
    ridges = [amap.card["fit"]["ridge"] for amap in (by_group, by_row)]
    assert ridges[0] > 100 * ridges[1]


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"modality_weights": {"image": 1.0}}, "pass it, or leave the weights out"),
        (
            {"fit_on": "all", "modality_weights": {"audio": 1}},
            "one that is left out has",
        ),
        (
            {"fit_on": "all", "modality_weights": {"image": -1}},
            "at least 0 by modality",
        ),
        ({"fit_on": "all", "modality_weights": {"image": 0}}, "leaves a modality out"),
        ({"weights": {"image": np.ones(3)}}, r"\(6,\), got \(3,\); pass one value"),
        ({"weights": {"image": -np.ones(6)}}, "leaves an anchor out"),
        ({"weights": {"image": np.eye(6)[0]}}, "two or more of them positive.*1 pos"),
        ({"weights": {"audio": np.ones(6)}}, r"by modality, of \['image'\]"),
        ({"weights": np.ones(6)}, "got ndarray"),
        ({"groups": {"image": np.ones(7)}}, r"groups\['image'\].*\(6,\)"),
        ({"identified_only": True, "kind": "mlp"}, "leave both out"),
        ({"rank": 0}, "keep all that the anchors identify"),
        ({"rank": 2, "proper": True}, "no determinant; leave proper out"),
    ],
)
def test_bad_options_are_refused_with_a_remedy(options, match):
    rows = rows_pair(np.random.default_rng(11), 6, 4, 4)
    with pytest.raises(ValueError, match=match):
        ja.fit_map({"image": rows}, **options)
