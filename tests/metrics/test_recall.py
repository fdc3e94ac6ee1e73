# SPDX-License-Identifier: Apache-2.0
"""Retrieval against full sorts in float64, hand-made tables, and few programs."""

import jax
import numpy as np
import pytest

from jaxalign.metrics.recall import class_top1, exact_recall
from jaxalign.search.ranking import top_k
from tests.compilations import compilations

# Row i of the index is axis i; query 3 stands nearest to row 0, then to its own row 3.
INDEX = np.eye(4, 8, dtype=np.float32)
QUERIES = 5.0 * np.eye(4, 8, dtype=np.float32)
QUERIES[3] = [0.8, 0, 0, 0.6, 0, 0, 0, 0]
TRUTH = np.arange(4)


def normal(seed, n, d=8):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def cosines(queries, index):
    """All cosines, in float64."""
    x, y = (
        side / np.linalg.norm(side, axis=1, keepdims=True)
        for side in (queries.astype(np.float64), index.astype(np.float64))
    )
    return x @ y.T


def full_sort(queries, index, offsets, k):
    """Scores and rows of the k best, from the whole table."""
    table = cosines(queries, index) - offsets
    order = np.argsort(-table, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(table, order, axis=1), order


@pytest.mark.parametrize(
    ("block_size", "query_block_size"), [(7, 5), (100, 1024)], ids=str
)
def test_streaming_top_k_is_the_full_sort(block_size, query_block_size):
    queries, index, offsets = normal(0, 13), normal(1, 100), 0.1 * normal(2, 100)[:, 0]
    scores, rows = top_k(
        queries,
        index,
        9,
        offsets=offsets,
        block_size=block_size,
        query_block_size=query_block_size,
    )
    expected, order = full_sort(queries, index, offsets, 9)
    np.testing.assert_array_equal(rows, order)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


def test_sizes_and_depths_of_a_bucket_share_a_program():
    with compilations() as compiled:
        for n, m, k in [(1, 5, 2), (7, 200, 5), (12, 256, 4), (16, 31, 16), (3, 9, 1)]:
            queries, index = normal(n, n), normal(m, m)
            offsets = 0.1 * index[:, 0]
            scores, rows = top_k(queries, jax.device_put(index), k, offsets=offsets)
            expected, order = full_sort(queries, index, offsets, k)
            np.testing.assert_array_equal(rows, order)
            np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
    # One for the single best, and one for all other depths.
    assert len(compiled) <= 2


def test_ties_are_listed_by_row_and_nan_comes_last():
    # Products of zeros and ones have no rounding.
    index = INDEX[[1, 0, 1, 1, 2, 0]].copy()
    index[3] = np.nan
    offsets = np.array([0, 0, 0, 0, np.inf, 0], np.float32)
    for search in (top_k, jax.jit(top_k, static_argnums=2)):
        scores, rows = search(INDEX[:2], index, 6, offsets=offsets)
        assert rows.tolist() == [[1, 5, 0, 2, 3, 4], [0, 2, 1, 5, 3, 4]]
        assert (np.asarray(scores[:, :4]) == [1, 1, 0, 0]).all()
        assert np.isneginf(scores[:, 4:]).all()


def test_top_k_runs_inside_vmap():
    queries, index = normal(0, 6), normal(1, 9)
    found = jax.vmap(lambda rows: top_k(rows, index, 3)[1])(queries.reshape(2, 3, 8))
    np.testing.assert_array_equal(
        found.reshape(6, 3), full_sort(queries, index, 0.0, 3)[1]
    )


def test_exact_recall_of_a_hand_made_table():
    recall = exact_recall(QUERIES, INDEX, TRUTH, ks=(1, 2))
    assert recall.ranks.tolist() == [0, 0, 0, 1]
    assert recall.hits.tolist() == [[True, True, True, False], [True] * 4]
    assert (recall.at(1), recall.at(2)) == (0.75, 1.0)


def test_offsets_turn_a_hub_down():
    offsets = np.array([0.3, 0, 0, 0], np.float32)
    assert exact_recall(QUERIES, INDEX, TRUTH, offsets=offsets).at(1) == 1.0


# Small, and in several blocks.
@pytest.mark.parametrize("n", [5, 700])
def test_collapsed_rows_do_not_score(n):
    # Equal up to rounding: a tie broken by noise would score by luck.
    same = normal(0, 1) * np.linspace(0.5, 2.0, n, dtype=np.float32)[:, None]
    for queries, index in ((same, normal(1, n)), (normal(1, n), same)):
        assert exact_recall(queries, index, np.arange(n)).at(1) <= 2 / n
    everywhere = exact_recall(same, same, np.arange(n))
    assert everywhere.ranks.tolist() == [n - 1] * n
    labels = np.arange(n) % 5
    assert not class_top1(same, labels, same, labels).any()


@pytest.mark.parametrize("bad", [np.nan, 0.0])
def test_nan_and_zero_queries_do_not_score(bad):
    queries = np.full((4, 8), bad, np.float32)
    assert exact_recall(queries, INDEX, TRUTH, (1, 3)).at(3) == 0.0
    assert not class_top1(queries, TRUTH, INDEX, TRUTH).any()


def test_ranks_and_classes_are_those_of_the_full_table_by_few_programs():
    compiled = []
    for n in (1, 60, 256, 700):
        queries, index = normal(n, n), normal(0, n)
        truth, labels = np.random.default_rng(3).permutation(n), np.arange(n) % 3
        with compilations() as found:
            ranks = exact_recall(queries, index, truth).ranks
            hits = class_top1(queries, labels, index, labels)
        compiled.append(len(found))
        table = cosines(queries, index)
        right = table[np.arange(n), truth][:, None]
        # Rows within rounding of the right one may count either way.
        low, high = (table > right + 3e-6).sum(1), (table > right - 3e-6).sum(1) - 1
        assert (low <= ranks).all()
        assert (ranks <= high).all()
        assert (low == high).mean() > 0.9
        np.testing.assert_array_equal(hits, labels[table.argmax(axis=1)] == labels)
    assert compiled[1:3] == [0, 0]
    assert sum(compiled) <= 4


def test_dtypes_may_differ(x64):
    index = INDEX.astype(np.float64)
    queries = QUERIES.astype(np.float16)
    assert exact_recall(queries, index, TRUTH).at(1) == 0.75
    assert class_top1(queries, TRUTH, index, TRUTH).sum() == 3
    scores, _ = top_k(queries, index, 2)
    assert scores.dtype == np.float64


def test_rows_of_one_id_are_no_rivals():
    index = np.repeat(np.eye(2, 8, dtype=np.float32), 2, axis=0)
    assert exact_recall(index, index, TRUTH).at(1) == 0.0
    ids = np.array([7, 7, 9, 9])
    assert exact_recall(index, index, TRUTH, index_ids=ids).at(1) == 1.0


def test_class_top1_of_a_hand_made_table():
    labels = np.array([0, 0, 1, 1])
    assert class_top1(QUERIES, labels, INDEX, labels).tolist() == [1, 1, 1, 0]
    # Without its own row a query has only ties left, and the fourth a wrong hub.
    left_out = class_top1(QUERIES, labels, INDEX, labels, exclude=TRUTH)
    assert left_out.tolist() == [0, 0, 0, 0]
    absent = class_top1(QUERIES, np.full(4, 5), INDEX, labels)
    assert not absent.any()


def called(call, **changes):
    """Call with the hand-made table, but for some arguments."""
    arguments = {
        top_k: {"k": 1},
        exact_recall: {"truth": TRUTH},
        class_top1: {"query_labels": TRUTH, "index_labels": TRUTH},
    }[call]
    return call(**{"queries": QUERIES, "index": INDEX, **arguments, **changes})


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("call", "argument", "value"),
    [
        (top_k, "queries", np.ones((2, 3), np.float32)),
        (top_k, "index", INDEX[:0]),
        (top_k, "offsets", np.zeros(3, np.float32)),
        (top_k, "k", 0),
        (top_k, "k", 5),
        (top_k, "k", 2.5),
        (exact_recall, "truth", np.arange(1, 5)),
        (exact_recall, "truth", np.arange(3)),
        (exact_recall, "truth", -np.arange(4)),
        (exact_recall, "index_ids", np.arange(3)),
        (exact_recall, "offsets", np.zeros(4, int)),
        (class_top1, "index_labels", np.arange(3)),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_arguments_that_do_not_fit_are_named(call, argument, value):
    with pytest.raises(ValueError, match=rf"`{call.__name__}\(.*{argument}"):
        called(call, **{argument: value})
