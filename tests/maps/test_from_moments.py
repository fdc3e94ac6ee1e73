# SPDX-License-Identifier: Apache-2.0
"""Maps from moments are those of the rows, one by one and over many subsets."""

import numpy as np
import pytest

import jaxalign as ja
from tests.cases import rows_pair
from tests.tolerances import PROCRUSTES, eps

N, D, GROUPS = 120, 6, 5
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
            ja.array_pairs(*sides, group=group, batch_size=64),
            groups=None if group is None else GROUPS,
            grams=grams,
        )
        for name, sides in pairs.items()
    }


def assert_same(found, expected, rows):
    np.testing.assert_allclose(found.matrix, expected.matrix, atol=TOLERANCE)
    assert found.kind == expected.kind
    for modality in ("image", "text"):
        np.testing.assert_allclose(
            found(rows, modality), expected(rows, modality), atol=10 * TOLERANCE
        )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fit_on": "text", "scale": "none"},
        {"fit_on": "all", "modality_weights": {"text": 3.0}},
        {"rank": 3},
        {"proper": True},
        {"kind": "mean_only"},
        {"kind": "linear", "ridge": 0.1},
    ],
)
def test_as_from_the_rows(pairs, options):
    found = ja.map_from_moments(moments_of(pairs), **options)
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
    maps = ja.maps_of_subsets(moments, subsets, source_space="aa", target_space="bb")
    assert len(maps) == 40
    for index in (0, 31, 32, 39):
        chosen = subsets[index][groups]
        own = {name: tuple(side[chosen] for side in pairs[name]) for name in pairs}
        assert_same(maps[index], ja.fit_map(own), pairs["image"][0])
        assert maps[index].source_space == "aa"


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_say_what_to_do(pairs, groups):
    whole, grouped = moments_of(pairs), moments_of(pairs, group=groups)
    with pytest.raises(ValueError, match="merge the groups by `reduce_groups`"):
        ja.map_from_moments(grouped)
    with pytest.raises(ValueError, match="accumulate them with groups"):
        ja.maps_of_subsets(whole, np.ones((1, GROUPS)))
    with pytest.raises(ValueError, match=r"`maps_of_subsets\(scale='unit'\)`"):
        ja.maps_of_subsets(grouped, np.ones((1, GROUPS)), scale="unit")
    with pytest.raises(ValueError, match=r"pass \{'image': moments\}"):
        ja.map_from_moments(whole["image"])
    with pytest.raises(ValueError, match="least squares needs rows"):
        ja.map_from_moments(whole, kind="linear", ridge=0.0)
    with pytest.raises(ValueError, match="expected source rows that differ"):
        ja.map_from_moments({"image": ja.init_moments(3, 3)})
