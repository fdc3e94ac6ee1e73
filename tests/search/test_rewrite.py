# SPDX-License-Identifier: Apache-2.0
"""Carried rows for a store: they mix with fresh rows, or rank by plain cosine."""

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.errors import ArgumentError
from tests.search.cones import TARGET_CONE, cone_rows, exact_top1


@pytest.fixture(scope="module")
def store():
    """Both ways round: the target's mean is long, then short of what is needed."""
    target, source = cone_rows(1300, 64, decay=0.3)
    return (source[:40], target[:40]), (source[40:], target[40:])


def plain_top1(stored, queries):
    cosines = queries @ np.asarray(stored).T
    return float(np.mean(cosines.argmax(axis=1) == np.arange(len(queries))))


def test_untouched_queries_rank_as_the_centred_search_does(store):
    anchors, (source, target) = store
    choice = ja.choose_map(anchors, "rewrite")
    rows = ja.search.rewrite_rows(choice, source)
    search = ja.search.rewrite_rows(choice, source, form="search")
    for stored in (rows, search):
        np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(rows, choice.map(source, normalize=True), atol=1e-6)
    centred = exact_top1(ja.search.prepare(choice, source, rows_are="source"), target)
    found = plain_top1(search, target)
    # 1,260 rows: a standard error of at most 0.014.
    assert abs(found - centred) < 0.03
    # 0.944 against 0.929 seen, of the same rows.
    assert found > plain_top1(rows, target)
    alone = ja.search.rewrite_rows(
        choice.map, source, form="search", query_sample=anchors[1]
    )
    np.testing.assert_allclose(alone, search, atol=1e-6)


def test_what_cannot_be_rewritten_is_refused_by_name(store, no_shape_hook):
    anchors, (source, target) = store
    amap = ja.fit_map(anchors)
    ridge = ja.fit_map(anchors, ja.Ridge(0.1))
    rng = np.random.default_rng(0)
    centred = target - TARGET_CONE - target.mean(axis=0)
    flat = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    flat = flat + 0.01 * rng.standard_normal(flat.shape)
    short = ja.fit_map((source, flat - flat.mean(axis=0)))
    given = {"form": "search", "query_sample": anchors[1]}
    for call, match in (
        (lambda: ja.search.rewrite_rows(amap, source, form="both"), "form='both'"),
        (lambda: ja.search.rewrite_rows(amap, source, form="search"), "query_sample"),
        (lambda: ja.search.rewrite_rows(ridge, source, **given), "'general'"),
        (
            lambda: ja.search.rewrite_rows(
                amap, source, form="search", query_sample=-anchors[1]
            ),
            "short mean of -",
        ),
        (lambda: ja.search.rewrite_rows(short, source, **given), "short mean"),
        (lambda: ja.search.rewrite_rows(source, source), r"\(of="),
        (lambda: ja.search.rewrite_rows(amap, source[:, :3]), r"\(n, 64\)"),
    ):
        with pytest.raises(ArgumentError, match=match):
            call()
