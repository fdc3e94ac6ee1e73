# SPDX-License-Identifier: Apache-2.0
"""Weights of rows and modalities, and groups: laws, and SciPy's weighted rotation."""

import json

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
FAMILIES = (ja.Orthogonal(), ja.Ridge(0.1), ja.LeastSquares())


def same(left, right, within=PROCRUSTES * F32):
    """Compare the numbers of two maps, relative to the largest of each."""
    pairs = zip(
        jax.tree.leaves(left.numbers), jax.tree.leaves(right.numbers), strict=True
    )
    for one, other in pairs:
        size = max(1.0, float(np.abs(other).max()))
        np.testing.assert_allclose(one, other, atol=within * size)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**31), family=st.sampled_from(FAMILIES))
def test_a_whole_weight_is_as_many_copies_and_zero_is_none(seed, family):
    rng = np.random.default_rng(seed)
    source, target = rows_pair(rng, 40, 6, 6, mean=0.5)
    weights = rng.integers(0, 4, 40)
    copied = tuple(np.repeat(side, weights, axis=0) for side in (source, target))
    anchors = ja.Anchors({"image": (source, target)}, weights={"image": weights})
    weighted = ja.fit_map(anchors, family)
    same(weighted, ja.fit_map({"image": copied}, family), LINEAR * F32)
    fit = weighted.card["fit"]
    assert fit["modalities"]["image"]["anchors"] == np.count_nonzero(weights)
    assert fit["weighted"] == ["image"]


def test_weighted_rotation_is_scipys():
    rng = np.random.default_rng(0)
    source, target = rows_pair(rng, 80, 6, 6, mean=0.9)
    weights = rng.uniform(0.1, 3.0, 80)
    amap = ja.fit_map(ja.Anchors((source, target), weights=weights))
    x, y = (side.astype(np.float64) for side in (source, target))
    x, y = (side - np.average(side, axis=0, weights=weights) for side in (x, y))
    root = np.sqrt(weights)[:, None]
    expected, _ = scipy.linalg.orthogonal_procrustes(root * x, root * y)
    np.testing.assert_allclose(amap.rotation, expected.T, atol=PROCRUSTES * F32)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_modalities_are_weighted_like_their_rows(family):
    rng = np.random.default_rng(1)
    pairs = {
        "image": rows_pair(rng, 60, 6, 6, mean=0.9),
        "text": rows_pair(rng, 50, 6, 6, mean=-0.5),
    }

    def fit(image, text):
        return ja.fit_map(pairs, family, fit_on={"image": image, "text": text})

    same(fit(1.0, 1.0), ja.fit_map(pairs, family, fit_on="all"))
    # Only the ratio counts.
    same(fit(2.0, 6.0), fit(1.0, 3.0), LINEAR * F32)
    texts = fit(0.0, 1.0)
    same(texts, ja.fit_map(pairs, family, fit_on="text"))
    same(texts, ja.fit_map(pairs, family, fit_on={"text": 2.0}))
    rows = ja.Anchors(pairs, weights={"text": np.full(50, 3.0)})
    same(fit(1.0, 3.0), ja.fit_map(rows, family, fit_on="all"), LINEAR * F32)
    near = np.linalg.norm(np.asarray(fit(1.0, 100.0).matrix - texts.matrix))
    far = np.linalg.norm(np.asarray(fit(1.0, 1.0).matrix - texts.matrix))
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
        ja.fit_map(ja.Anchors((source, rows), weights=weights), ja.Mlp())
        for rows in (target, spoilt)
    ]
    assert fits[0].fingerprint == fits[1].fingerprint


def test_folds_keep_groups_whole_over_modalities():
    groups = {
        "image": np.array(["b", "b", "a", "c", "d"]),
        "text": np.array(["c", "a"]),
    }
    pairs = {
        name: (np.ones((n, 2), np.float32),) * 2
        for name, n in (("image", 5), ("text", 2), ("audio", 7))
    }
    folds = fold_rows(ja.Anchors(pairs, groups=groups).rows, 3)
    by_label = {}
    for name in groups:
        for label, fold in zip(groups[name], folds[name], strict=True):
            assert by_label.setdefault(label, fold) == fold
    assert set(by_label.values()) == {0, 1, 2}
    assert sorted(np.bincount(folds["audio"])) == [2, 2, 3]


@pytest.mark.filterwarnings("ignore::jaxalign.errors.PoorFitWarning")
def test_groups_keep_twins_from_weakening_a_ridge():
    rng = np.random.default_rng(1)
    classes, width = 10, 16
    centres, targets = rng.normal(size=(2, classes, width))
    labels = np.repeat(np.arange(classes), 30)
    noise = 0.01 * rng.normal(size=(2, len(labels), width))
    rows = (centres[labels] + noise[0], targets[labels] + noise[1])
    pair = tuple(side.astype(np.float32) for side in rows)
    by_group = ja.fit_map(ja.Anchors(pair, groups=labels), ja.Ridge())
    by_row = ja.fit_map(pair, ja.Ridge())
    # Targets are unrelated to sources, so new classes are best told by the mean alone.
    ridges = [amap.card["fit"]["strength"] for amap in (by_group, by_row)]
    assert ridges[0] > 100 * ridges[1]


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    "fit_on",
    ["audio", {"audio": 1}, {"image": -1}, {"image": 0}, {"image": "much"}, {}],
    ids=str,
)
def test_what_is_not_there_cannot_be_fitted_on(fit_on):
    rows = rows_pair(np.random.default_rng(11), 6, 4, 4)
    with pytest.raises(ValueError, match="fit_on"):
        ja.fit_map({"image": rows}, fit_on=fit_on)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: ja.Orthogonal(keep=0), "keep"),
        (lambda: ja.Orthogonal(keep="most"), "keep"),
        (lambda: ja.Orthogonal(np.eye(2)), "keep"),
        (lambda: ja.LowRank(0), r"rank=0.*Ridge\("),
        (lambda: ja.families.Mlp("a"), "seed"),
        (lambda: ja.families.Mlp(2.5), "seed"),
        (lambda: ja.families.Mlp(-1), "seed"),
        (lambda: ja.Orthogonal(keep=2, proper=True), "proper"),
        (lambda: ja.Ridge(0.0), "strength"),
        (lambda: ja.Ridge(-1.0), "strength"),
        (lambda: ja.Ridge(float("nan")), "strength"),
        (lambda: ja.Ridge("weak"), "strength"),
        (lambda: ja.Given(np.eye(2), structure="partial_isometry"), "structure"),
    ],
)
def test_families_refuse_what_they_have_not(make, argument):
    with pytest.raises(ValueError, match=argument):
        make()


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("make", "options"),
    [
        (ja.Orthogonal, {"keep": np.int64(3)}),
        (ja.Ridge, {"strength": np.float32(0.5)}),
        (ja.LowRank, {"rank": np.int32(2), "strength": np.float16(0.5)}),
        (ja.families.Mlp, {"seed": np.uint8(3)}),
        (ja.search.Use, {"offsets": np.int64(3)}),
    ],
)
def test_options_that_are_numpy_scalars_can_be_saved(make, options):
    plain = make(**{name: value.item() for name, value in options.items()})
    assert json.dumps(make(**options).to_json()) == json.dumps(plain.to_json())
