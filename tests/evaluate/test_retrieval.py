# SPDX-License-Identifier: Apache-2.0
import jax
import numpy as np
import pytest

from jaxalign.evaluate.cosine import unit_rows
from jaxalign.evaluate.retrieval import class_top1, exact_recall, top_k

# Row i of the index is axis i; query 3 stands nearest to row 0, then to its own row 3.
INDEX = np.eye(4, 8, dtype=np.float32)
QUERIES = 5.0 * np.eye(4, 8, dtype=np.float32)
QUERIES[3] = [0.8, 0, 0, 0.6, 0, 0, 0, 0]
TRUTH = np.arange(4)


def normal(key, *shape):
    return np.asarray(jax.random.normal(key, shape))


@pytest.mark.parametrize(
    ("block_size", "query_block_size"),
    [(1, 1024), (7, 5), (64, 1024), (100, 13), (4096, 4)],
)
def test_streaming_top_k_is_the_full_sort(key, block_size, query_block_size):
    queries, index = normal(key, 13, 6), normal(jax.random.key(1), 100, 6)
    offsets = 0.1 * normal(jax.random.key(2), 100)
    scores, rows = top_k(
        queries,
        index,
        9,
        offsets=offsets,
        block_size=block_size,
        query_block_size=query_block_size,
    )
    table = np.asarray(unit_rows(queries) @ unit_rows(index).T) - offsets
    order = np.argsort(-table, axis=1, kind="stable")[:, :9]
    np.testing.assert_array_equal(rows, order)
    expected = np.take_along_axis(table, order, axis=1)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


def test_top_k_lists_ties_by_row():
    _, rows = top_k(np.ones((1, 3)), np.ones((5, 3)), 5, block_size=2)
    assert rows.tolist() == [[0, 1, 2, 3, 4]]


def test_exact_recall_of_a_hand_made_table():
    recall = exact_recall(QUERIES, INDEX, TRUTH, ks=(1, 2))
    assert recall.ranks.tolist() == [0, 0, 0, 1]
    assert recall.hits.tolist() == [[True, True, True, False], [True] * 4]
    assert (recall.at(1), recall.at(2)) == (0.75, 1.0)


def test_offsets_turn_a_hub_down():
    offsets = np.array([0.3, 0, 0, 0], np.float32)
    assert exact_recall(QUERIES, INDEX, TRUTH, offsets=offsets).at(1) == 1.0


@pytest.mark.parametrize("n", [5, 700])
def test_collapsed_rows_do_not_score(key, n):
    # Equal up to rounding: a tie broken by noise would score by luck.
    same = normal(key, 1, 32) * np.linspace(0.5, 2.0, n, dtype=np.float32)[:, None]
    for queries, index in ((same, normal(key, n, 32)), (normal(key, n, 32), same)):
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


@pytest.mark.parametrize("n", [1, 1100])
def test_ranks_over_several_blocks_are_the_full_count(n):
    queries, index = normal(jax.random.key(n), n, 4), normal(jax.random.key(0), n, 4)
    truth = np.asarray(jax.random.permutation(jax.random.key(3), n))
    table = np.asarray(unit_rows(queries) @ unit_rows(index).T)
    right = table[np.arange(n), truth][:, None]
    # Rows within rounding of the right one may count either way.
    low, high = (table > right + 3e-6).sum(1), (table > right - 3e-6).sum(1) - 1
    ranks = exact_recall(queries, index, truth).ranks
    assert (low <= ranks).all()
    assert (ranks <= high).all()
    assert (low == high).mean() > 0.9


def test_dtypes_may_differ(x64):
    index = INDEX.astype(np.float64)
    for queries in (QUERIES, QUERIES.astype(np.float16)):
        assert exact_recall(queries, index, TRUTH).at(1) == 0.75
        assert class_top1(queries, TRUTH, index, TRUTH).sum() == 3
        scores, _ = top_k(queries, index, 2)
        assert scores.dtype == np.float64


def test_rows_of_one_id_are_no_rivals():
    index = np.repeat(np.eye(2, 4, dtype=np.float32), 2, axis=0)
    truth = np.arange(4)
    assert exact_recall(index, index, truth).at(1) == 0.0
    ids = np.array([7, 7, 9, 9])
    assert exact_recall(index, index, truth, index_ids=ids).at(1) == 1.0


def test_class_top1_of_a_hand_made_table():
    labels = np.array([0, 0, 1, 1])
    assert class_top1(QUERIES, labels, INDEX, labels).tolist() == [1, 1, 1, 0]
    # Without its own row a query has only ties left, and the fourth a wrong hub.
    left_out = class_top1(QUERIES, labels, INDEX, labels, exclude=TRUTH)
    assert left_out.tolist() == [0, 0, 0, 0]
    absent = class_top1(QUERIES, np.full(4, 5), INDEX, labels)
    assert not absent.any()


def test_second_call_of_nearly_one_size_compiles_nothing():
    from jaxalign.evaluate import retrieval

    exact_recall(
        normal(jax.random.key(0), 600, 16), INDEX.repeat(2, 1), TRUTH[:1].repeat(600)
    )
    before = retrieval._ranks._cache_size()
    exact_recall(
        normal(jax.random.key(0), 650, 16), INDEX.repeat(2, 1), TRUTH[:1].repeat(650)
    )
    assert retrieval._ranks._cache_size() == before


@pytest.mark.usefixtures("no_shape_hook")
class TestErrors:
    def test_widths_differ(self):
        with pytest.raises(ValueError, match="map the queries to the index's space"):
            top_k(np.ones((2, 3)), np.ones((2, 4)), 1)

    @pytest.mark.parametrize("k", [0, 5])
    def test_k_does_not_fit(self, k):
        with pytest.raises(ValueError, match="expected 1 to 4, the rows of the index"):
            top_k(QUERIES, INDEX, k)

    @pytest.mark.parametrize("truth", [np.arange(1, 5), np.arange(3), -np.arange(4)])
    def test_truth_leaves_the_index(self, truth):
        with pytest.raises(ValueError, match="give one index row per query"):
            exact_recall(QUERIES, INDEX, truth)

    def test_empty_index(self):
        with pytest.raises(ValueError, match="at least one row"):
            top_k(QUERIES, INDEX[:0], 1)

    def test_wrong_counts(self):
        with pytest.raises(ValueError, match="give one id per index row"):
            exact_recall(QUERIES, INDEX, TRUTH, index_ids=np.arange(3))
        with pytest.raises(ValueError, match="give one label per row"):
            class_top1(QUERIES, TRUTH, INDEX, np.arange(3))
        with pytest.raises(ValueError, match="give one offset per index row"):
            exact_recall(QUERIES, INDEX, TRUTH, offsets=np.zeros(3))
