# SPDX-License-Identifier: Apache-2.0
"""Blocks give what one multiplication of everything gives, padding left out."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.evaluate import blocks


def _unit(n, d, seed):
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return jnp.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), jnp.float32)


@pytest.mark.parametrize("size", [1, 3, 7, 20])
def test_blocks_score_like_the_whole_index(size):
    queries, index = _unit(5, 4, 0), _unit(7, 4, 1)
    offsets = jnp.linspace(0.0, 1.0, 7)
    cut = blocks.cut_index(index, offsets, size)
    scores = [
        blocks.block_scores(queries, blocks.IndexBlocks(*parts))
        for parts in zip(*cut, strict=True)
    ]
    scores = np.concatenate(scores, axis=1)
    assert np.all(np.isneginf(scores[:, 7:]))
    expected = np.asarray(queries, np.float64) @ np.asarray(index).T
    expected -= np.asarray(offsets)
    np.testing.assert_allclose(scores[:, :7], expected, atol=1e-6)
    assert cut.numbers.reshape(-1)[:7].tolist() == list(range(7))


def test_invalid_rows_score_nothing():
    valid = jnp.array([True, False, True])
    cut = blocks.cut_index(_unit(3, 4, 0), None, 3, valid)
    scores = blocks.block_scores(
        _unit(2, 4, 1), blocks.IndexBlocks(*(x[0] for x in cut))
    )
    assert np.isneginf(scores[:, 1]).all()
    assert np.isfinite(scores[:, [0, 2]]).all()


@pytest.mark.parametrize("size", [2, 5, 9])
def test_query_blocks_come_back_in_order_without_padding(size):
    rows, numbers = jnp.arange(10.0).reshape(5, 2), jnp.arange(5)
    found = blocks.over_query_blocks(
        lambda part, number: (part.sum(axis=1), number + 1), (rows, numbers), size
    )
    np.testing.assert_array_equal(found[0], rows.sum(axis=1))
    np.testing.assert_array_equal(found[1], numbers + 1)


def test_rows_are_padded_where_they_are():
    on_host = blocks.pad_rows(np.ones((5, 2)), 4, fill=-1)
    assert isinstance(on_host, np.ndarray)
    assert on_host.shape == (8, 2)
    assert (on_host[5:] == -1).all()
    on_device = blocks.pad_rows(jnp.ones((4, 2)), 4)
    assert isinstance(on_device, jnp.ndarray)
    assert on_device.shape == (4, 2)
