# SPDX-License-Identifier: Apache-2.0
"""The compared maps: all fitted on one modality of the same anchors."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.data.planted import random_rotation
from jaxalign.evaluate.baselines import DEFAULT, ORTHOGONAL, PAPERS, fit_baselines

# The MLP is trained by optax, which mixes dtypes.
pytestmark = pytest.mark.standard_promotion

CLASSES, PER_CLASS, WIDTH = 12, 20, 8


@pytest.fixture(scope="module")
def planted():
    """Anchors whose two modalities cross by one rotation about their own means."""
    rng = np.random.default_rng(0)
    rotation = np.asarray(random_rotation(jax.random.key(3), WIDTH, WIDTH))
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    centres = rng.normal(size=(CLASSES, WIDTH))

    def rows(mean_source, mean_target):
        source = centres[labels] + 0.3 * rng.normal(size=(len(labels), WIDTH))
        source -= source.mean(axis=0)
        noise = 0.05 * rng.normal(size=source.shape)
        target = source @ rotation.T + noise
        return (
            (source + mean_source).astype(np.float32),
            (target - target.mean(axis=0) + mean_target).astype(np.float32),
        )

    images, texts = rows(0.5, -0.2), rows(-0.4, 0.7)
    return rotation, ja.Anchors(
        {"image": images, "text": texts}, groups={"image": labels, "text": labels}
    )


@pytest.fixture(scope="module")
def fitted(planted):
    return fit_baselines(planted[1], fit_on="image", full=True)


def test_orthogonal_map_recovers_the_planted_rotation(planted, fitted):
    amap, methods = fitted
    # Noise of 5 % of the spread moves the rotation by about its size over sqrt(n).
    assert np.abs(np.asarray(amap.rotation) - planted[0]).max() < 0.02
    assert methods[ORTHOGONAL] is amap


def test_every_method_carries_both_modalities(planted, fitted):
    _, anchors = planted
    methods = dict(fitted[1])
    assert methods.pop("none") is None
    default = methods.pop(DEFAULT)
    assert isinstance(default, ja.search.SearchMap)
    assert default.use == ja.search.Use()
    expected = {"mean only", PAPERS, ORTHOGONAL, "least squares", "ridge", "MLP"}
    assert expected <= set(methods)
    for name, carry in methods.items():
        for modality, paired in anchors.rows.items():
            rows = np.asarray(carry(paired.source[:5], modality))
            assert rows.shape == (5, WIDTH), name
            assert np.isfinite(rows).all(), name


def test_what_no_one_should_use_is_left_out_unless_asked_for(planted):
    _, methods = fit_baselines(planted[1], fit_on="image")
    assert list(methods) == ["none", "mean only", PAPERS, DEFAULT, "ridge"]


def test_uncentred_method_is_the_bare_rotation(planted, fitted):
    amap, methods = fitted
    rows = planted[1].rows["text"].source[:4]
    bare = np.asarray(methods[f"{PAPERS}, uncentred"](rows, "text"))
    np.testing.assert_allclose(bare, rows @ np.asarray(amap.rotation).T, atol=1e-5)


@pytest.mark.parametrize("width", [5, WIDTH])
def test_every_fit_gets_the_modality_and_mean_only_needs_equal_widths(
    planted, fitted, monkeypatch, width
):
    narrow = ja.Anchors(
        {
            name: (rows.source[:, :width], rows.target)
            for name, rows in planted[1].rows.items()
        }
    )
    asked = []

    def fit(anchors, family=ja.Orthogonal(), **options):  # noqa: B008
        asked.append((family, options))
        matrix = fitted[0].matrix[:, : anchors.widths[0]]
        numbers = fitted[0].numbers.replace(matrix=matrix)
        return dataclasses.replace(fitted[0], numbers=numbers)

    monkeypatch.setattr("jaxalign.evaluate.baselines.fit_map", fit)
    _, methods = fit_baselines(narrow, fit_on="all", seed=3, full=True)
    assert ("mean only" in methods) == (width == WIDTH)
    assert {options["fit_on"] for _, options in asked} == {"all"}
    families = [family for family, _ in asked]
    for one in (ja.families.PAPER, ja.LeastSquares(), ja.Ridge(), ja.Mlp(seed=3)):
        assert one in families
