# SPDX-License-Identifier: Apache-2.0
"""Maps from moments are those of the rows, one by one and over many subsets."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.solve.ridge_choice import DEFAULT_RIDGES
from tests.cases import rows_pair
from tests.compilations import compilations
from tests.tolerances import PROCRUSTES, eps

N, D, GROUPS = 120, 6, 5
ROWS = rows_pair(np.random.default_rng(3), 20, D, D)[0]
TOLERANCE = PROCRUSTES * eps(np.float32)


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    return {
        "image": rows_pair(rng, N, D, D, mean=0.9),
        "text": rows_pair(rng, N, D, D, mean=-0.5, noise=0.1),
    }


@pytest.fixture(scope="module")
def groups():
    return np.random.default_rng(1).integers(0, GROUPS, N)


def moments_of(pairs, *, group=None, grams=True):
    return {
        name: ja.accumulate_moments(
            ja.anchors.array_pairs(*sides, group=group, batch_size=64),
            groups=None if group is None else GROUPS,
            grams=grams,
        )
        for name, sides in pairs.items()
    }


def rows_of(subset, pairs, groups):
    """Rows of the groups that are in a subset."""
    return {name: tuple(s[subset[groups]] for s in pairs[name]) for name in pairs}


def assert_same(found, expected, rows):
    np.testing.assert_allclose(found.matrix, expected.matrix, atol=TOLERANCE)
    assert found.structure == expected.structure
    for modality in ("image", "text"):
        np.testing.assert_allclose(
            found(rows, modality), expected(rows, modality), atol=10 * TOLERANCE
        )


@pytest.mark.parametrize(
    "options",
    [
        {"fit_on": "text", "scale": "none"},
        {"fit_on": {"image": 1.0, "text": 3.0}},
        {"family": ja.Orthogonal(keep=3)},
        {"family": ja.Ridge(0.1)},
    ],
    ids=["text", "weights", "keep", "ridge"],
)
def test_as_from_the_rows(pairs, options):
    found = ja.fit_map(moments_of(pairs), **options)
    expected = ja.fit_map(pairs, **options)
    assert_same(found, expected, pairs["image"][0])
    notes, others = found.card["fit"], expected.card["fit"]
    assert notes["fit_on"] == others["fit_on"]
    assert notes["modalities"]["text"]["anchors"] == N


def test_every_subset_is_a_fit_of_its_rows(pairs, groups):
    moments = moments_of(pairs, group=groups, grams=False)
    # More subsets than are solved at once, with a ragged end.
    subsets = np.random.default_rng(2).random((40, GROUPS)) < 0.6
    subsets[:, 0] = True
    maps = ja.fit_groups(moments, subsets, source_space="aa", target_space="bb")
    assert len(maps) == 40
    for index in (0, 31, 32, 39):
        assert_same(
            maps[index], ja.fit_map(rows_of(subsets[index], pairs, groups)), ROWS
        )
        assert maps[index].source_space == "aa"


@pytest.mark.parametrize(
    "options",
    [
        {"fit_on": {"image": 1.0, "text": 3.0}, "scale": "none"},
        {"family": ja.Orthogonal(keep=3)},
        {"family": ja.MeanOnly()},
        {"family": ja.Ridge(0.1), "fit_on": "text"},
    ],
    ids=["weights", "keep", "mean_only", "ridge"],
)
def test_subsets_take_every_option_of_a_fit(pairs, groups, options):
    moments = moments_of(pairs, group=groups)
    subsets = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 0, 1]])
    maps = ja.fit_groups(moments, subsets, **options, card={"note": 1})
    for subset, found in zip(subsets, maps, strict=True):
        expected = ja.fit_map(rows_of(subset > 0, pairs, groups), **options)
        assert_same(found, expected, ROWS)
        assert found.card["note"] == 1
        shared = ("fit_on", "scale", "family", "kept")
        for entry in shared:
            assert found.card["fit"].get(entry) == expected.card["fit"].get(entry)


@pytest.mark.parametrize("fit_on", ["image", "all"])
def test_the_ridge_is_chosen_by_holding_groups_out(pairs, groups, fit_on):
    moments = moments_of(pairs, group=groups)
    subset = np.array([1, 1, 0, 1, 1])
    (found,) = ja.fit_groups(moments, subset[None], ja.Ridge(), fit_on=fit_on)
    chosen = found.card["fit"]["strength"]
    names = ["image", "text"] if fit_on == "all" else ["image"]

    def held_out_error(ridge):
        """Of every group by the rows of the others, about the subset's means."""
        own = rows_of(subset > 0, pairs, groups)
        means = {n: [s.mean(axis=0, dtype=np.float64) for s in own[n]] for n in names}
        total = 0.0
        for group in np.flatnonzero(subset):
            sides = []
            for keep in ((groups != group) & (subset[groups] > 0), groups == group):
                sides.append(
                    [
                        np.concatenate([pairs[n][k][keep] - means[n][k] for n in names])
                        for k in (0, 1)
                    ]
                )
            (x, y), (left, right) = sides
            x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
            x, y = x - x_mean, y - y_mean
            penalty = ridge * np.trace(x.T @ x) / D * np.eye(D)
            matrix = np.linalg.solve(x.T @ x + penalty, x.T @ y)
            total += np.sum((right - y_mean - (left - x_mean) @ matrix) ** 2)
        return total

    errors = {ridge: held_out_error(ridge) for ridge in DEFAULT_RIDGES}
    best = min(errors, key=errors.__getitem__)
    # Neighbours on the grid may tie within rounding.
    nearest = min(errors, key=lambda ridge: abs(np.log(ridge / chosen)))
    assert errors[nearest] <= errors[best] * (1 + 1e-4)
    assert errors[nearest] < errors[10.0]


def test_rotations_need_no_grams_where_all_is_determined(pairs, groups):
    bare = moments_of(pairs, group=groups, grams=False)
    for keep in ("all", "identified"):
        family = ja.Orthogonal(keep=keep)
        (found,) = ja.fit_groups(bare, np.ones((1, GROUPS)), family)
        assert_same(found, ja.fit_map(pairs, family), ROWS)
    whole = {name: ja.moments.reduce_groups(part) for name, part in bare.items()}
    assert_same(ja.fit_map(whole), ja.fit_map(pairs), ROWS)


@pytest.mark.parametrize("keep", ["identified", "all"])
@pytest.mark.parametrize("scale", ["energy", None])
def test_few_anchors_take_grams_for_the_scale_of_other_rows(pairs, keep, scale):
    few = {"image": tuple(s[:4] for s in pairs["image"]), "text": pairs["text"]}
    family = ja.Orthogonal(keep=keep)
    expected = ja.fit_map(few, family, scale=scale).numbers.scales["text"]
    whole = np.sqrt(np.divide(*[np.sum(np.var(s, 0)) for s in few["text"][::-1]]))
    # The two rules differ here, so that one cannot pass for the other.
    assert abs(float(expected) / whole - 1) > 0.01
    group = np.zeros(4, np.int32)
    alike = {
        "image": moments_of({"image": few["image"]}, group=group)["image"],
        "text": moments_of({"text": few["text"]}, group=np.zeros(N, np.int32))["text"],
    }
    bare = {
        name: dataclasses.replace(part, source_gram=None, target_gram=None)
        for name, part in alike.items()
    }
    every = np.ones((1, GROUPS))
    (found,) = ja.fit_groups(alike, every, family, scale=scale)
    np.testing.assert_allclose(found.numbers.scales["text"], expected, rtol=TOLERANCE)
    merged = {name: ja.moments.reduce_groups(part) for name, part in bare.items()}
    with pytest.raises(ValueError, match=r"`fit_map\(anchors\[.*grams=True"):
        ja.fit_map(merged, family, scale=scale)
    with pytest.raises(ValueError, match=r"`fit_groups\(moments\[.*grams=True"):
        ja.fit_groups(bare, every, family, scale=scale)
    # Without a scale nothing is missing.
    (found,) = ja.fit_groups(bare, every, family, scale="none")
    rows = ja.fit_map(few, family, scale="none")
    np.testing.assert_allclose(found.matrix, rows.matrix, atol=TOLERANCE)


def test_few_anchors_alone_need_no_grams_for_a_whole_rotation(pairs):
    few = {"image": tuple(s[:4] for s in pairs["image"])}
    family = ja.Orthogonal(keep="all")
    found = ja.fit_map(moments_of(few, grams=False), family)
    expected = ja.fit_map(few, family)
    np.testing.assert_allclose(
        found.numbers.scales["image"], expected.numbers.scales["image"], rtol=TOLERANCE
    )
    # Of anchors in a plane the whole energy says nothing about the part.
    flat = {"image": tuple(s[[0, 1, 2, 2]] for s in pairs["image"])}
    with pytest.raises(ValueError, match=r"anchors\['image'\].*grams=True"):
        ja.fit_map(moments_of(flat, grams=False), family)


def test_a_batch_is_read_few_times(pairs, groups, monkeypatch):
    moments = moments_of(pairs, group=groups)
    read = []
    whole = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda tree: read.append(1) or whole(tree))
    ja.fit_groups(moments, np.eye(GROUPS)[:4] + np.eye(GROUPS)[4])
    assert len(read) <= 4


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_say_what_to_do(pairs, groups):
    whole, grouped = moments_of(pairs), moments_of(pairs, group=groups)
    every = np.ones((1, GROUPS))
    with pytest.raises(ValueError, match="merge the groups by `reduce_groups`"):
        ja.fit_map(grouped)
    with pytest.raises(ValueError, match="accumulate them with groups"):
        ja.fit_groups(whole, every)
    with pytest.raises(ValueError, match=r"`fit_groups\(scale='unit'\)`"):
        ja.fit_groups(grouped, every, scale="unit")
    with pytest.raises(ValueError, match=r"fit_groups\(moments=...\)"):
        ja.fit_groups(pairs, every)
    with pytest.raises(ValueError, match=r"anchors\['text'\]"):
        ja.fit_map({**whole, "text": pairs["text"]})
    unequal = ja.moments.init_moments(2, 3, groups=GROUPS)
    with pytest.raises(ValueError, match="MeanOnly"):
        ja.fit_groups(unequal, every, ja.MeanOnly())
    with pytest.raises(ValueError, match="at least 2 groups a subset"):
        ja.fit_groups(grouped, np.eye(GROUPS), ja.Ridge())
    with pytest.raises(ValueError, match="with one weight for each group"):
        ja.fit_groups(grouped, np.ones(GROUPS))
    with pytest.raises(ValueError, match="subsets=.*one subset or more"):
        ja.fit_groups(grouped, np.zeros((0, GROUPS)))
    with pytest.raises(ValueError, match=r"moments=.*\[1\]"):
        ja.fit_groups({1: grouped["text"]}, every)
    for named in ({1: whole["text"], "a": whole["text"]}, {"": pairs["text"]}):
        with pytest.raises(ValueError, match=r"fit_map\(anchors="):
            ja.fit_map(named)
    for validated in (whole, ja.Anchors(pairs)):
        with pytest.raises(ValueError, match=r"fit_map\(skip_bad=.*\(\.\.\., skip_bad"):
            ja.fit_map(validated, skip_bad=True)
    bare = moments_of(pairs, grams=False)
    with pytest.raises(ValueError, match="Gram matrices, which the fit of ridge"):
        ja.fit_map(bare, ja.Ridge(0.1))
    with pytest.raises(ValueError, match="Gram matrices.*scale='none'"):
        ja.fit_map(bare, ja.Orthogonal(keep=2))
    for fit, given in ((ja.fit_map, (whole,)), (ja.fit_groups, (grouped, every))):
        with pytest.raises(ValueError, match="one that needs rows"):
            fit(*given, ja.LeastSquares())
    with pytest.raises(ValueError, match="choose_ridge"):
        ja.fit_map(whole, ja.Ridge())
    with pytest.raises(ValueError, match="source rows that differ"):
        ja.fit_map(ja.moments.init_moments(3, 3))


def test_numbers_of_groups_share_programs(pairs, groups):
    moments = moments_of(pairs, group=groups)

    def fit(subset):
        return ja.fit_groups(moments, np.array([subset]), ja.Ridge())

    fit([1, 1, 1, 1, 1])
    with compilations() as compiled:
        fit([1, 1, 0, 0, 1])
        fit([0, 1, 1, 1, 1])
    assert not compiled
