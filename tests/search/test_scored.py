# SPDX-License-Identifier: Apache-2.0
"""Searches by a scorer: the formula, both directions, and what a map's file keeps."""

import contextlib
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.errors import ArgumentError
from jaxalign.maps.file import checksum, read_map
from tests.search.cones import cone_rows, exact_top1

Use = ja.search.Use
SIDES = ("source", "target")


@pytest.fixture(scope="module")
def rows():
    """Fewer anchors than dimensions, and rows that nothing was fitted on."""
    source, target = cone_rows(500, 48, decay=0.4)
    target = target[:, :40] / np.linalg.norm(target[:, :40], axis=1, keepdims=True)
    pairs = (source.astype(np.float32), target.astype(np.float32))
    return tuple(side[:30] for side in pairs), tuple(side[30:] for side in pairs)


@pytest.fixture(scope="module")
def amap(rows):
    return ja.fit_map(rows[0], scorer=ja.LikelihoodRatio())


def encoded(amap, rows, side):
    """Rows of one side by the scorer's numbers, in NumPy alone."""
    scorer, numbers = amap.scorer, amap.numbers
    matrix, norm, mean = {
        "source": (scorer.source, scorer.source_norm, numbers.source_means["rows"]),
        "target": (scorer.target, scorer.target_norm, numbers.target_means["rows"]),
    }[side]
    rows = (rows.astype(np.float64) - np.asarray(mean)) @ np.asarray(matrix).T
    return float(norm) * rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("rows_are", SIDES)
def test_vectors_hold_the_formula_in_both_directions(rows, amap, rows_are):
    _, held = rows
    sides = dict(zip(SIDES, held, strict=True))
    asks = "target" if rows_are == "source" else "source"
    index = ja.search.prepare(amap, sides[rows_are], rows_are=rows_are)
    assert index.of.use == Use.SCORER
    assert index.vectors.shape == (470, amap.scorer.width + 1) == (470, 30)
    queries, held_rows = (encoded(amap, sides[s], s) for s in (asks, rows_are))
    bias = 0.5 * held_rows**2 @ np.asarray(amap.scorer.penalty)
    scores = queries @ held_rows.T - bias
    kept = amap.encoded["rows"][asks].astype(np.float64)
    hubs = np.sort(kept @ held_rows.T - bias, axis=0)[-5:].mean(axis=0)
    expected = scores - 0.5 * hubs
    found = np.asarray(index.encode(sides[asks])) @ np.asarray(index.vectors).T
    assert np.abs(found - expected).max() <= 1e-5 * np.ptp(expected)
    best, order = index.search(sides[asks], 3)
    np.testing.assert_array_equal(order[:, 0], expected.argmax(axis=1))
    np.testing.assert_allclose(best[:, 0], expected.max(axis=1), rtol=1e-4)
    # Turned around, the same searches.
    back = ja.search.prepare(amap.inverse(), sides[rows_are], rows_are=asks)
    np.testing.assert_allclose(back.vectors, index.vectors, rtol=1e-6)


@pytest.mark.parametrize("scorer", [None, ja.LikelihoodRatio()])
def test_kept_anchors_stand_for_the_queries_within_half_precision(rows, scorer):
    pairs, (source, target) = rows
    amap = ja.fit_map(pairs, scorer=scorer)
    assert amap.encoded["rows"]["source"].dtype == np.float16
    for rows_are, own, asks in (("target", target, 0), ("source", source, 1)):
        index = ja.search.prepare(amap, own, rows_are=rows_are)
        exact = ja.search.prepare(amap, own, rows_are=rows_are, anchors=pairs)
        sample = ja.search.prepare(
            amap, own, rows_are=rows_are, query_sample=pairs[asks]
        )
        np.testing.assert_array_equal(sample.offsets, exact.offsets)
        np.testing.assert_allclose(
            index.offsets, exact.offsets, atol=2e-3 * np.ptp(exact.offsets)
        )
        # An inverse keeps them, in its own space.
        turned = amap.inverse()
        other = "source" if rows_are == "target" else "target"
        back = ja.search.prepare(turned, own, rows_are=other)
        np.testing.assert_allclose(
            back.offsets, index.offsets, atol=2e-3 * np.ptp(exact.offsets)
        )


def test_a_scorer_finds_more_than_the_map_and_few_anchors_are_drawn(rows):
    source, target = cone_rows(1500, 64, noise=1.0)
    pairs, held = (source[:500], target[:500]), (source[500:], target[500:])
    amap = ja.fit_map(pairs, scorer=ja.LikelihoodRatio(), keep_anchors=100)
    assert amap.encoded["rows"]["target"].shape == (100, 64)
    again = ja.fit_map(pairs, scorer=ja.LikelihoodRatio(), keep_anchors=100)
    np.testing.assert_array_equal(
        amap.encoded["rows"]["target"], again.encoded["rows"]["target"]
    )
    by_scorer = ja.search.prepare(amap, held[1])
    by_map = ja.search.prepare(amap, held[1], use=Use(offsets=0))
    assert exact_top1(by_scorer, held[0]) >= exact_top1(by_map, held[0])


def test_a_file_holds_scorer_and_anchors_bit_for_bit(rows, amap, tmp_path):
    place = tmp_path / "map.safetensors"
    amap.save(place)
    back = ja.AlignmentMap.load(place)
    kept, read = (
        dataclasses.replace(one.scorer, rank=0, clipped=0) for one in (amap, back)
    )
    assert jax.tree.all(jax.tree.map(jnp.array_equal, kept, read))
    for side in SIDES:
        np.testing.assert_array_equal(
            back.encoded["rows"][side], amap.encoded["rows"][side]
        )
    assert back.fingerprint == amap.fingerprint
    plain = ja.fit_map(rows[0])
    assert plain.fingerprint != amap.fingerprint
    # Anchors that are kept change no answer of the map of rows.
    assert plain.fingerprint == ja.fit_map(rows[0], keep_anchors=0).fingerprint
    assert "scorer of width 29" in repr(back)
    told = back.card["fit"]["scorer"]
    assert told["name"] == "likelihood_ratio"
    assert told["rank"] == 29
    # A reader that knows no scorers must not take this for a map without one.
    with open(place, "rb") as stream:
        assert b"jaxalign-map/3" in stream.read(4000)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"scorer/penalty": None}, "nothing for 'scorer/penalty'|shape"),
        ({"scorer/source": np.ones((29, 3), np.float32)}, r"shape \(29, 3\)"),
        ({"encoded/rows/target": None}, "nothing for 'encoded/rows/target'"),
        ({"encoded/rows/source": np.ones((4, 3), np.float16)}, r"shape \(4, 3\)"),
        ({"scorer/target": np.full((29, 40), np.nan, np.float32)}, "not finite"),
        ("neither", "scorer {'queries_are': 'neither'}"),
    ],
)
def test_wrong_contents_are_one_clear_error(amap, tmp_path, change, match):
    import json

    import safetensors.numpy

    place = tmp_path / "map.safetensors"
    amap.save(place)
    tensors, header = read_map(place)
    if isinstance(change, str):
        header["scorer"] = {"queries_are": change}
    else:
        tensors = {k: v for k, v in (tensors | change).items() if v is not None}
    text = json.dumps(header)
    metadata = {
        "format": "jaxalign-map/3",
        "header": text,
        "sha256": checksum(text, tensors),
    }
    safetensors.numpy.save_file(tensors, place, metadata=metadata)
    with pytest.raises(ArgumentError, match=match):
        ja.AlignmentMap.load(place)


def test_what_a_scorer_cannot_do_is_refused(rows, amap):
    pairs, (source, target) = rows
    toward = ja.fit_map(pairs, scorer=ja.families.TowardIndex("source"))
    index = ja.search.prepare(toward, target)
    assert exact_top1(index, source) > 0.3
    with pytest.raises(ArgumentError, match=r"rows_are='source'.*TowardIndex"):
        ja.search.prepare(toward, source, rows_are="source")
    # Turned around, it serves the queries that it was made for.
    turned = ja.search.prepare(toward.inverse(), target, rows_are="source")
    np.testing.assert_allclose(turned.offsets, index.offsets, atol=1e-5)
    for options in ({"centre": "source"}, {"divide": "whole"}):
        with pytest.raises(ArgumentError, match="score='scorer'"):
            Use(score="scorer", **options)
    both = ja.fit_map((target, source[:, :40])) @ amap
    assert both.scorer is None
    assert not both.encoded


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scorer", [None, ja.LikelihoodRatio()])
def test_default_searches_run_in_double_precision(rows, scorer, dtype):
    pairs, (source, target) = (tuple(side.astype(dtype) for side in of) for of in rows)
    index = ja.search.prepare(ja.fit_map(pairs, scorer=scorer), target)
    assert exact_top1(index, source) > 0.3


def test_offsets_that_were_saved_are_read_by_the_same_call(rows, tmp_path):
    pairs, (_, target) = rows
    moments = ja.Anchors(pairs).moments(grams=True)
    amap = ja.fit_map(moments, scorer=ja.LikelihoodRatio())
    place = tmp_path / "offsets.safetensors"
    for options in ({}, {"query_sample": pairs[0]}):
        told = pytest.warns(UserWarning, match="no hubness offsets")
        with contextlib.nullcontext() if options else told:
            index = ja.search.prepare(amap, target, fingerprint=True, **options)
        index.save_offsets(place)
        again = ja.search.prepare(amap, target, offsets=place)
        np.testing.assert_array_equal(again.offsets, index.offsets)


def test_samples_of_queries_are_validated_under_their_own_name(rows, amap):
    _, (source, target) = rows
    bad = source.copy()
    bad[3, 2] = np.nan
    for sample in (source[:0], bad):
        with pytest.raises(ArgumentError, match=r"prepare\(query_sample="):
            ja.search.prepare(amap, target, query_sample=sample)
        flat = {"form": "search", "query_sample": sample[:, :40]}
        with pytest.raises(ArgumentError, match=r"rewrite_rows\(query_sample="):
            ja.search.rewrite_rows(amap, source, **flat)


def test_moments_keep_no_anchors_and_a_search_says_so(rows, recwarn):
    pairs, (source, target) = rows
    moments = ja.Anchors(pairs).moments(grams=True)
    amap = ja.fit_map(moments, scorer=ja.LikelihoodRatio())
    with pytest.warns(UserWarning, match="keeps no anchors of 'rows'"):
        index = ja.search.prepare(amap, target)
    assert index.of.use.offsets == 0
    bias = 0.5 * encoded(amap, target, "target") ** 2 @ np.asarray(amap.scorer.penalty)
    np.testing.assert_allclose(index.offsets, bias, rtol=1e-4)
    assert exact_top1(index, source) > 0.3
    sample = ja.search.prepare(amap, target, query_sample=pairs[0])
    rows_fit = ja.fit_map(pairs, scorer=ja.LikelihoodRatio())
    expected = ja.search.prepare(rows_fit, target, anchors=pairs)
    np.testing.assert_allclose(
        sample.offsets, expected.offsets, atol=1e-3 * np.ptp(expected.offsets)
    )
    assert not recwarn.list


def test_a_modality_without_pairs_takes_offsets_from_its_own_rows(rows):
    pairs, (source, target) = rows
    anchors = ja.Anchors({"text": pairs}, unpaired={"image": (source, target[:300])})
    amap = ja.fit_map(anchors, fit_on="text", scorer=ja.LikelihoodRatio())
    assert len(amap.encoded["image"]["source"]) == 470
    assert len(amap.encoded["image"]["target"]) == 300
    index = ja.search.prepare(amap, target, "image")
    exact = ja.search.prepare(amap, target, "image", anchors=anchors)
    np.testing.assert_allclose(
        index.offsets, exact.offsets, atol=2e-3 * np.ptp(exact.offsets)
    )


def test_fits_of_groups_have_the_scorers_of_their_rows(rows):
    _, (source, target) = rows
    group = np.arange(400) % 2
    anchors = ja.Anchors((source[:400], target[:400]))
    moments = anchors.moments(grams=True, group={"rows": group}, groups=2)
    maps = ja.fit_groups(
        moments, np.array([[1, 0], [1, 1]]), scorer=ja.LikelihoodRatio()
    )
    for amap, used in zip(maps, (group == 0, group >= 0), strict=True):
        own = (source[:400][used], target[:400][used])
        alone = ja.fit_map(own, scorer=ja.LikelihoodRatio())
        queries, index = source[400:], target[400:]
        scores = [
            encoded(one, queries, "source") @ encoded(one, index, "target").T
            for one in (amap, alone)
        ]
        np.testing.assert_allclose(*scores, atol=1e-4 * np.ptp(scores[1]))
        assert not amap.encoded
