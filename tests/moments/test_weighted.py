# SPDX-License-Identifier: Apache-2.0
"""Rows of little weight: float64's moments, wherever they lie and however far."""

import jax
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.moments.update import BLOCK
from tests.cases import as_dict, assert_moments_close, reference_moments, rows_pair
from tests.tolerances import SUMS, eps

F32 = eps(np.float32)
# Two whole blocks and a part of one.
N = 2 * BLOCK + 200

LIGHT = {
    "first rows": slice(0, 32),
    "first block": slice(0, BLOCK),
    "later rows": slice(BLOCK + 5, BLOCK + 300),
    "last rows": slice(N - 100, N),
    "all but one": slice(1, N),
}


def light_rows(where):
    """Rows whose squared norm, 1e8, makes up for a weight of 1e-8, and where they are.

    Sums about any of these lose all digits of the other rows.
    """
    source, target = rows_pair(np.random.default_rng(0), N, 6, 4, mean=0.93)
    weights = np.ones(N, np.float32)
    weights[LIGHT[where]] = 1e-8
    light = weights < 1
    source[light], target[light] = (
        1e4 * (side[light] + 1) for side in (source, target)
    )
    return source, target, weights, light


def assert_exact(moments, *rows):
    expected = reference_moments(*rows)
    assert_moments_close(moments, expected, SUMS * F32)
    for side in ("source", "target"):
        gram = np.asarray(getattr(moments, f"{side}_gram"), np.float64)
        assert (
            np.linalg.eigvalsh(gram).min() >= -SUMS * F32 * expected[f"{side}_energy"]
        )


@pytest.mark.parametrize("where", LIGHT)
def test_light_rows_take_no_digits_of_the_others(where):
    source, target, weights, light = light_rows(where)
    empty = ja.moments.init_moments(6, 4, grams=True)
    assert_exact(
        ja.moments.update_moments(empty, source, target, weights=weights),
        *(source, target, weights),
    )
    # In groups with the others, and in one of their own.
    group = np.where(light & (np.arange(N) % 3 > 0), 2, np.arange(N) % 2)
    empty = ja.moments.init_moments(6, 4, groups=3, grams=True)
    grouped = ja.moments.update_moments(
        empty, source, target, weights=weights, group=group
    )
    for index in range(3):
        own = group == index
        found = jax.tree.map(lambda leaf, i=index: leaf[i], grouped)
        assert_exact(found, source[own], target[own], weights[own])
    subsets = ja.moments.reduce_groups(
        grouped, np.array([[1, 1, 1], [1, 1, 0], [0, 1, 1]])
    )
    for index, groups in enumerate([(0, 1, 2), (0, 1), (1, 2)]):
        own = np.isin(group, groups)
        found = jax.tree.map(lambda leaf, i=index: leaf[i], subsets)
        assert_exact(found, source[own], target[own], weights[own])


def test_light_parts_merge_and_leave_without_a_trace():
    source, target, weights, light = light_rows("first block")
    empty = ja.moments.init_moments(6, 4, grams=True)
    # Weights of 0 in place of shorter parts: one program for all.
    parts = [
        ja.moments.update_moments(empty, source, target, weights=weights * kept)
        for kept in (light, ~light)
    ]
    whole = ja.moments.merge_moments(*parts)
    assert_exact(whole, source, target, weights)
    assert_moments_close(
        ja.moments.merge_moments(*parts[::-1]), as_dict(whole), SUMS * F32
    )
    rest = ja.moments.subtract_moments(whole, parts[0])
    assert_exact(rest, source[~light], target[~light], weights[~light])


def test_a_device_of_light_rows_alone():
    source, target, weights, _ = light_rows("first block")
    moments = ja.accumulate_moments(
        [ja.moments.PairBatch(source, target, weights)],
        mesh=ja.sharding.data_mesh(jax.devices()[:2]),
        grams=True,
    )
    assert_exact(moments, source, target, weights)
