# SPDX-License-Identifier: Apache-2.0
"""Replicates from moments are the fits that weighted rows would give, to rounding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.trust.metrics import BACK, METRICS, over_metrics
from jaxalign.trust.replicates import (
    fit_metrics,
    held_out,
    near_weights,
    over_chunks,
    refit,
    resampled_fits,
)
from tests.cases import rows_pair
from tests.tolerances import PROCRUSTES, SUMS, eps
from tests.trust.planted_blocks import fit_by_rows, moments_of_blocks

F32 = eps(np.float32)
GROUPS = 10


@pytest.fixture(scope="module")
def rows():
    source, target = rows_pair(np.random.default_rng(5), 400, 6, 6, mean=0.9)
    group = np.asarray(ja.trust.block_of_rows(np.arange(400), blocks=GROUPS))
    return source, target, group


@pytest.mark.parametrize(
    ("scale", "kind"),
    [("least_squares", "near"), ("energy", "multinomial")],
)
def test_replicates_equal_fits_of_weighted_rows(rows, scale, kind):
    source, target, group = rows
    weights = near_weights(GROUPS, 3, seed=0)
    if kind == "multinomial":
        rng = np.random.default_rng(1)
        weights = rng.multinomial(GROUPS, np.ones(GROUPS) / GROUPS, size=3)
    blocks = moments_of_blocks(source, target, group, GROUPS)
    moments, solution = refit(blocks, jnp.asarray(weights), scale=scale, proper=False)
    found = over_metrics(
        lambda value, back: back(value), fit_metrics(moments, solution), BACK
    )
    for place, row in enumerate(weights):
        expected = fit_by_rows(source, target, row[group].astype(float), scale)
        np.testing.assert_allclose(
            solution.rotation[place], expected["rotation"], atol=PROCRUSTES * F32
        )
        for name in METRICS:
            assert getattr(found, name)[place] == pytest.approx(
                expected[name], rel=PROCRUSTES * F32
            )


def test_open_directions_do_not_decide_the_scale(rows):
    # The target varies where the source, of three directions, does not.
    source, target, group = rows
    source = np.where(np.arange(6) < 3, source, np.float32(0.4))
    blocks = moments_of_blocks(source, target, group, GROUPS, grams=True)
    _, found = refit(blocks, jnp.ones((1, GROUPS)), scale="energy", proper=False)
    assert int(found.rank[0]) == 3
    fitted = ja.fit_map({"image": (source, target)}, ja.Orthogonal(keep="all"))
    x, y = (side.astype(np.float64) - side.mean(axis=0) for side in (source, target))
    u, _, vt = np.linalg.svd(y.T @ x)
    expected = np.linalg.norm(y @ u[:, :3]) / np.linalg.norm(x @ vt[:3].T)
    for scale in (found.scale[0], fitted.numbers.scales["image"]):
        assert float(scale) == pytest.approx(expected, rel=PROCRUSTES * F32)
    assert np.linalg.norm(y) / np.linalg.norm(x) > 1.1 * expected
    left = fitted.card["fit"]["modalities"]["image"]["relative_residual"]
    assert float(found.residual[0]) == pytest.approx(
        left * np.sum(y**2), rel=PROCRUSTES * F32
    )


def test_held_out_errors_equal_those_of_the_rows(rows):
    source, target, group = rows
    weights = np.array([[0, 2] * 5, [1] * 9 + [0], [0, 0, 0, 1, 3, 1, 1, 1, 1, 1]])
    blocks = moments_of_blocks(source, target, group, GROUPS)
    found = held_out(blocks, weights, chunk=2, scale="energy", proper=False)
    for place, row in enumerate(weights):
        fitted = fit_by_rows(source, target, row[group].astype(float), "energy")
        left = row[group] == 0
        errors = target[left] - fitted["map"](source[left])
        spread = np.sum((target[left] - fitted["target_mean"]) ** 2)
        assert found.error[place] == pytest.approx(np.sum(errors**2), rel=SUMS * 1e-6)
        assert found.spread[place] == pytest.approx(spread, rel=SUMS * 1e-6)


def test_chunks_change_nothing(rows):
    source, target, group = rows
    blocks = moments_of_blocks(source, target, group, GROUPS)
    fits = functools.partial(
        resampled_fits,
        blocks,
        jnp.asarray(near_weights(GROUPS, 7, seed=0)),
        fit_by_rows(source, target, np.ones(400), "none")["rotation"],
        jnp.eye(6),
        scale="none",
        proper=False,
    )
    found = [
        jax.tree.leaves(jax.jit(fits, static_argnames="chunk")(chunk=c)) for c in (7, 3)
    ]
    for one, other in zip(*found, strict=True):
        # An angle is an arc sine of a difference of rotations.
        np.testing.assert_allclose(one, other, atol=PROCRUSTES * F32)


@pytest.mark.compiled_text
def test_no_more_than_a_chunk_is_alive():
    # Replicates by the hundred must not hold hundreds of matrices at once.
    d, replicates = 24, 400
    blocks = ja.moments.init_moments(d, d, groups=GROUPS)
    whole = jnp.eye(d)

    def fits(weights):
        return resampled_fits(
            blocks, weights, whole, whole, chunk=2, scale="none", proper=False
        )

    weights = jnp.ones((replicates, GROUPS))
    analysis = jax.jit(fits).lower(weights).compile().memory_analysis()
    assert analysis.temp_size_in_bytes < 40 * d * d * 4 + 20 * replicates * 4


def test_padding_of_the_last_chunk_is_cut_off():
    weights = jnp.arange(10.0).reshape(5, 2)
    sums = over_chunks(lambda some: some.sum(axis=1), weights, 3)
    np.testing.assert_array_equal(sums, weights.sum(axis=1))
