# SPDX-License-Identifier: Apache-2.0
"""Blocks give what one multiplication of everything gives, padding left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.search import blocks


def _unit(n, d, seed):
    rows = np.random.default_rng(seed).standard_normal((n, d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@jax.jit
def _scores(queries, index, offsets, valid):
    """Scores of all blocks side by side, and the numbers of their rows."""
    cut = blocks.cut_index(index, offsets, 3, valid)
    found = [
        blocks.block_scores(queries, blocks.IndexBlocks(*parts))
        for parts in zip(*cut, strict=True)
    ]
    return jnp.concatenate(found, axis=1), cut.numbers.reshape(-1)


def test_blocks_score_like_the_whole_index_without_invalid_rows():
    queries, index = _unit(5, 4, 0), _unit(7, 4, 1)
    offsets = np.linspace(0, 1, 7, dtype=np.float32)
    valid = np.arange(7) != 4
    scores, numbers = _scores(queries, index, offsets, valid)
    expected = queries.astype(np.float64) @ index.T - offsets
    expected[:, 4] = -np.inf
    np.testing.assert_allclose(scores[:, :7], expected, atol=1e-6)
    assert np.isneginf(scores[:, 7:]).all()
    assert numbers.tolist() == [0, 1, 2, 3, -1, 5, 6, -1, -1]


@pytest.mark.parametrize("size", [2, 9])
def test_query_blocks_come_back_in_order_without_padding(size):
    rows, numbers = np.arange(10.0, dtype=np.float32).reshape(5, 2), np.arange(5)

    @jax.jit
    def search(*sides):
        return blocks.over_query_blocks(
            lambda part, number: (part.sum(axis=1), number + 1), sides, size
        )

    found = search(rows, numbers)
    np.testing.assert_array_equal(found[0], rows.sum(axis=1))
    np.testing.assert_array_equal(found[1], numbers + 1)


def test_few_index_rows_are_padded_and_many_are_not_copied():
    assert {blocks.few_rows_size(count) for count in range(1, 257)} == {256}
    assert blocks.few_rows_size(8193) == 8193
    assert blocks.row_size(8193) > 8193
    assert jax.eval_shape(lambda x: jnp.ones(blocks.row_size(3, x)), 1.0).shape == (3,)
