# SPDX-License-Identifier: Apache-2.0
"""The compared maps: all fitted on one modality, and the recipe chosen beside them."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxalign.data.planted import random_rotation
from jaxalign.evaluate.methods import (
    ORTHOGONAL,
    PAPER,
    Anchors,
    choose_recipe,
    fit_methods,
)
from jaxalign.evaluate.recipes import Recipe, Searcher
from jaxalign.evaluate.select import MapChoice

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
    return rotation, Anchors(*images, *texts, labels, labels)


@pytest.fixture(scope="module")
def fitted(planted):
    return fit_methods(planted[1], fit_on="image")


def test_orthogonal_map_recovers_the_planted_rotation(planted, fitted):
    amap, methods = fitted
    # Noise of 5 % of the spread moves the rotation by about its size over sqrt(n).
    assert np.abs(np.asarray(amap.rotation) - planted[0]).max() < 0.02
    assert methods[ORTHOGONAL] is amap


def test_every_method_carries_both_modalities(planted, fitted):
    _, anchors = planted
    methods = dict(fitted[1])
    assert methods.pop("none") is None
    expected = {"mean only", PAPER, ORTHOGONAL, "least squares", "ridge", "MLP"}
    assert expected <= set(methods)
    for name, carry in methods.items():
        for modality, (source, _) in anchors.pairs.items():
            rows = np.asarray(carry(source[:5], modality))
            assert rows.shape == (5, WIDTH), name
            assert np.isfinite(rows).all(), name


def test_uncentred_method_is_the_bare_rotation(planted, fitted):
    amap, methods = fitted
    rows = planted[1].source_texts[:4]
    bare = np.asarray(methods[f"{PAPER}, uncentred"](rows, "text"))
    np.testing.assert_allclose(bare, rows @ np.asarray(amap.rotation).T, atol=1e-5)


@pytest.mark.parametrize("width", [5, WIDTH])
def test_every_fit_gets_the_modality_and_mean_only_needs_equal_widths(
    planted, fitted, monkeypatch, width
):
    _, anchors = planted
    narrow = dataclasses.replace(
        anchors,
        source_images=anchors.source_images[:, :width],
        source_texts=anchors.source_texts[:, :width],
    )
    asked = []

    def fit(pairs, **options):
        asked.append(options)
        matrix = fitted[0].matrix[:, : pairs["image"][0].shape[1]]
        return dataclasses.replace(fitted[0], matrix=matrix)

    monkeypatch.setattr("jaxalign.evaluate.methods.fit_map", fit)
    spaces = {"source_space": "one", "target_space": "another"}
    _, methods = fit_methods(narrow, fit_on="all", **spaces)
    assert ("mean only" in methods) == (width == WIDTH)
    for options in asked:
        assert {"fit_on": "all", **spaces}.items() <= options.items()
    kinds = [options.get("kind", "orthogonal") for options in asked]
    assert set(kinds) >= {"orthogonal", "linear", "mlp"}


def test_the_recipe_is_chosen_for_the_searches_of_the_table(
    planted, fitted, monkeypatch
):
    _, anchors = planted
    asked = []

    def choose(pairs, **options):
        asked.append(options)
        return MapChoice(Searcher(fitted[0], Recipe()), "", ())

    monkeypatch.setattr("jaxalign.evaluate.methods.choose_map", choose)
    things = np.arange(len(anchors.image_labels))
    named = dataclasses.replace(anchors, image_ids=things, text_ids=things)
    for one in (anchors, named):
        choose_recipe(one, folds=4)
    jobs = [[job.describe() for job in options["jobs"]] for options in asked]
    assert jobs[0] == ["source image -> target image", "source text -> target text"]
    assert jobs[1][:2] == jobs[0]
    assert jobs[1][2:] == ["source image -> target text", "target image -> source text"]
    assert [options["ids"] is None for options in asked] == [True, False]
    for options in asked:
        assert options["folds"] == 4
        np.testing.assert_array_equal(options["groups"]["text"], anchors.text_labels)
