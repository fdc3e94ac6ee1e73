# SPDX-License-Identifier: Apache-2.0
"""Contrastive objective: by hand, by loops, by blocks, and in how much memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.stiefel.contrib import contrastive_objective
from tests.stiefel.objectives.table import (
    random_map,
    random_rows,
    random_weights,
    unit,
    value_and_gradient,
)
from tests.tolerances import OBJECTIVE, eps

F64 = eps(np.float64)

pytestmark = pytest.mark.usefixtures("x64")


def loop(cosines, temperature, positive, weights, seen):
    """Weighted mean over rows of -log(mass of positives), rows with some."""
    total = counted = 0.0
    for row, marks, weight in zip(cosines, positive, weights, strict=True):
        if weight and any(marks & seen):
            masses = np.exp(row / temperature) * seen
            total -= weight * np.log(masses[marks].sum() / masses.sum())
            counted += weight
    return total / counted


def cosines_of(point, source, target):
    """Of rows centred by their means on both sides."""
    x, y = source - source.mean(axis=0), target - target.mean(axis=0)
    return unit(x @ point.T) @ unit(y).T


def test_three_by_three_by_hand():
    # Unit rows at 0, 90 and 180 degrees against the axes 0, 90 and 0 again: cosines
    #   1  0  1
    #   0  1  0
    #  -1  0 -1
    source = np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]])
    target = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    zero = np.zeros(2)
    options = {"temperature": 1.0, "source_mean": zero, "target_mean": zero}
    e = np.e
    rows = [
        np.log(e + 1 + e) - 1,
        np.log(1 + e + 1) - 1,
        np.log(1 / e + 1 + 1 / e) + 1,
    ]
    columns = [
        np.log(e + 1 + 1 / e) - 1,
        np.log(1 + e + 1) - 1,
        np.log(e + 1 + 1 / e) + 1,
    ]
    for symmetric, expected in ((False, rows), (True, rows + columns)):
        objective = contrastive_objective(
            source, target, symmetric=symmetric, **options
        )
        found = float(value_and_gradient(objective, jnp.eye(2))[0])
        assert found == pytest.approx(np.mean(expected), rel=OBJECTIVE * F64)
    # Classes: the first and last target are one, which only source row 0 is of.
    labelled = contrastive_objective(
        source,
        target,
        labels=np.array([7, 1, 1]),
        target_labels=np.array([7, 1, 7]),
        symmetric=False,
        **options,
    )
    rows = [
        np.log(2 * e + 1) - np.log(2 * e),
        np.log(2 + e) - 1,
        np.log(2 / e + 1),
    ]
    found = float(value_and_gradient(labelled, jnp.eye(2))[0])
    assert found == pytest.approx(np.mean(rows), rel=OBJECTIVE * F64)
    # At half the temperature, cosines count double.
    colder = contrastive_objective(
        source, target, symmetric=False, **{**options, "temperature": 0.5}
    )
    first = np.log(2 * e**2 + 1) - 2
    second = np.log(2 + e**2) - 2
    third = np.log(2 / e**2 + 1) + 2
    found = float(value_and_gradient(colder, jnp.eye(2))[0])
    expected = np.mean([first, second, third])
    assert found == pytest.approx(expected, rel=OBJECTIVE * F64)


@pytest.mark.parametrize(("block_size", "symmetric"), [(4, True), (100, False)])
def test_images_against_one_text_a_class(block_size, symmetric):
    images, _ = random_rows(0, (6, 4), n=14)
    _, texts = random_rows(1, (6, 4), n=5)
    weights, point = random_weights(2, 14), random_map(3, (6, 4))
    weights[[1, 6]] = 0.0
    # Class 3 has no image; rows of class 9 have no text, and do not count.
    labels = np.array([0, 1, 2, 4, 9, 0, 1, 2, 4, 9, 0, 1, 2, 4])
    objective = contrastive_objective(
        images,
        texts,
        labels=labels,
        target_labels=np.arange(5),
        weights=weights,
        temperature=0.2,
        symmetric=symmetric,
        centring="query",
        source_mean=np.zeros(4),
        block_size=block_size,
    )
    found, _ = value_and_gradient(objective, jnp.asarray(point))
    cosines = unit(images @ point.T) @ unit(texts).T
    positive = labels[:, None] == np.arange(5)
    seen = weights > 0
    expected = loop(cosines, 0.2, positive, weights, np.ones(5, bool))
    if symmetric:
        other = loop(cosines.T, 0.2, positive.T, np.ones(5), seen)
        expected = 0.5 * (expected + other)
    assert float(found) == pytest.approx(expected, rel=OBJECTIVE * F64)


def test_blocks_change_nothing():
    # With labels they are checked against loops above.
    source, target = random_rows(4, (5, 5), n=23)
    weights, point = random_weights(5, 23), jnp.asarray(random_map(6, (5, 5)))
    weights[[0, 22]] = 0.0
    whole, cut = (
        value_and_gradient(
            contrastive_objective(
                source, target, weights=weights, block_size=block_size
            ),
            point,
        )
        for block_size in (23, 8)
    )
    for one, other in zip(whole, cut, strict=True):
        np.testing.assert_allclose(one, other, atol=OBJECTIVE * F64)


def test_targets_of_weight_zero_are_no_candidates():
    source, target = random_rows(7, (5, 5))
    labels = np.arange(12) % 3
    more = np.concatenate([target, np.full((4, 5), np.nan)])
    point = jnp.asarray(random_map(8, (5, 5)))
    options = {"labels": labels, "temperature": 0.1}
    plain = contrastive_objective(source, target, target_labels=labels, **options)
    padded = contrastive_objective(
        source,
        more,
        target_labels=np.concatenate([labels, np.zeros(4, int)]),
        target_weights=np.arange(16) < 12,
        **options,
    )
    for one, other in zip(
        value_and_gradient(plain, point), value_and_gradient(padded, point), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=OBJECTIVE * F64)


def test_a_low_temperature_neither_overflows_nor_vanishes():
    with jax.enable_x64(False):
        source, target = (rows.astype(np.float32) for rows in random_rows(9, (5, 5)))
        point = jnp.asarray(random_map(10, (5, 5)), jnp.float32)
        objective = contrastive_objective(
            source, target, temperature=1e-3, block_size=4
        )
        found, gradient = value_and_gradient(objective, point)
        assert np.all(np.isfinite(gradient))
        # At most 2 / temperature, the widest gap of cosines, and log(n).
        assert 100 < float(found) <= 2e3 + np.log(12)


@pytest.mark.compiled_text
def test_memory_is_that_of_a_block():
    n, d, block = 4096, 8, 128
    with jax.enable_x64(False):
        source, target = (
            rows.astype(np.float32) for rows in random_rows(11, (d, d), n=n)
        )
        # They mark the positives of a block besides.
        labels = np.arange(n) % 50

        def bytes_of(block_size):
            objective = contrastive_objective(
                source,
                target,
                labels=labels,
                target_labels=labels,
                block_size=block_size,
            )
            compiled = value_and_gradient.lower(objective, jnp.eye(d)).compile()
            return compiled.memory_analysis().temp_size_in_bytes

        table = 4 * n * n
        assert bytes_of(n) >= table
        # Some tables of one block, their sums by column of each block, and the rows.
        rows = 4 * n * d
        sums = 4 * n * (n // block)
        assert bytes_of(block) <= 8 * 4 * block * n + 4 * sums + 8 * rows < table


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    rows, labels = np.ones((4, 3)), np.zeros(4, int)
    for name, options in (
        ("temperature=", {"temperature": 0.0}),
        ("temperature=", {"temperature": -1}),
        ("target_labels", {"labels": labels}),
        ("labels=", {"labels": labels[:2], "target_labels": labels}),
        ("target_labels=", {"labels": labels, "target_labels": labels[:2]}),
        ("block_size=", {"block_size": 0}),
    ):
        with pytest.raises(ValueError, match=rf"contrastive_objective\(.*{name}"):
            contrastive_objective(rows, rows, **options)
    with pytest.raises(ValueError, match=r"\(source, target\)"):
        contrastive_objective(rows, rows[:2])
