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


@pytest.mark.parametrize("fit_on", ["image", "text", "all"])
def test_orthogonal_map_recovers_the_planted_rotation(planted, fit_on):
    rotation, anchors = planted
    amap, methods = fit_methods(anchors, fit_on=fit_on)
    # Noise of 5 % of the spread moves the rotation by about its size over sqrt(n).
    assert np.abs(np.asarray(amap.rotation) - rotation).max() < 0.02
    assert methods[ORTHOGONAL] is amap


def test_every_method_carries_both_modalities(planted):
    _, anchors = planted
    _, methods = fit_methods(anchors)
    assert methods.pop("none") is None
    expected = {"mean only", PAPER, ORTHOGONAL, "least squares", "ridge", "MLP"}
    assert expected <= set(methods)
    for name, carry in methods.items():
        for modality, (source, _) in anchors.pairs.items():
            rows = np.asarray(carry(source[:5], modality))
            assert rows.shape == (5, WIDTH), name
            assert np.isfinite(rows).all(), name


def test_uncentred_method_is_the_bare_rotation(planted):
    _, anchors = planted
    amap, methods = fit_methods(anchors)
    rows = anchors.source_texts[:4]
    bare = np.asarray(methods[f"{PAPER}, uncentred"](rows, "text"))
    np.testing.assert_allclose(bare, rows @ np.asarray(amap.rotation).T, atol=1e-5)


def test_mean_only_needs_equal_widths(planted):
    _, anchors = planted
    narrow = Anchors(
        anchors.source_images[:, :5],
        anchors.target_images,
        anchors.source_texts[:, :5],
        anchors.target_texts,
        anchors.image_labels,
        anchors.text_labels,
    )
    _, methods = fit_methods(narrow)
    assert "mean only" not in methods


def test_the_recipe_is_chosen_for_the_searches_of_the_table(planted):
    _, anchors = planted
    choice = choose_recipe(anchors)
    assert list(choice.table[0].top1) == [
        "source image -> target image",
        "source text -> target text",
    ]
    things = np.arange(len(anchors.image_labels))
    named = dataclasses.replace(anchors, image_ids=things, text_ids=things)
    crossing = list(choose_recipe(named).table[0].top1)[2:]
    assert crossing == ["source image -> target text", "target image -> source text"]
