# SPDX-License-Identifier: Apache-2.0
"""Planted pairs are what they say: rotation, means, noise, spectrum and gap."""

import jax
import numpy as np
import pytest

import jaxalign as ja
from tests.tolerances import POLAR, ROWS, eps

F32 = eps(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(9, 6), (6, 9)])
def test_random_rotation_is_orthonormal(key, rows, columns):
    rotation = np.asarray(ja.data.random_rotation(key, rows, columns), np.float64)
    gram = rotation.T @ rotation if rows >= columns else rotation @ rotation.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=POLAR * F32)


def test_rows_obey_the_planted_map(key):
    planted = ja.data.planted_pairs(
        key, 500, 8, scale=0.7, mean_norms=(0.93, 0.33), decay=0.5, reflect=True
    )
    host = jax.device_get(planted)
    assert np.linalg.det(host.rotation) == pytest.approx(-1.0, abs=1e-5)
    for name, (source, target) in host.pairs.items():
        before, after = host.source_means[name], host.target_means[name]
        assert np.linalg.norm(before) == pytest.approx(0.93, rel=1e-5)
        assert np.linalg.norm(after) == pytest.approx(0.33, rel=1e-5)
        moved = 0.7 * (source - before) @ host.rotation.T + after
        np.testing.assert_allclose(moved, target, atol=ROWS * F32)
        energy = np.mean(np.sum(np.square(source - before), -1))
        assert energy == pytest.approx(1 - 0.93**2, rel=0.1)


def test_gap_agreement_and_noise(key):
    planted = jax.device_get(
        ja.data.planted_pairs(
            key, 500, 8, noise=0.5, gap=0.0, agreement=1.0, reflect=True
        )
    )
    source, target = planted.pairs["image"]
    np.testing.assert_allclose(planted.pairs["text"][0], source, atol=ROWS * F32)
    moved = (source - planted.source_means["image"]) @ planted.rotation.T
    errors = target - planted.target_means["image"] - moved
    share = np.sum(np.square(errors)) / np.sum(np.square(moved))
    assert share == pytest.approx(0.25, rel=0.1)
    together, apart = (planted.source_means[name] for name in ("image", "text"))
    np.testing.assert_array_equal(together, apart)
    planted = jax.device_get(ja.data.planted_pairs(key, 500, 8, gap=1.0, reflect=True))
    cosine = planted.source_means["image"] @ planted.source_means["text"] / 0.25
    assert abs(float(cosine)) < 0.9


def test_same_key_same_bits(key):
    first, again = (
        jax.device_get(ja.data.planted_pairs(key, 500, 8, reflect=True))
        for _ in range(2)
    )
    assert jax.tree.all(jax.tree.map(np.array_equal, first, again))


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_say_what_to_do(key):
    with pytest.raises(ValueError, match="reflect"):
        ja.data.planted_pairs(key, 5, 4, 3, reflect=True)
    with pytest.raises(ValueError, match="gap=2.0"):
        ja.data.planted_pairs(key, 5, 4, gap=2.0)
