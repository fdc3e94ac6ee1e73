# SPDX-License-Identifier: Apache-2.0
"""`choose_map` finds the planted use on held-out anchors, and it holds elsewhere."""

import jax
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.choose.choose import fold_count
from jaxalign.choose.held_out import HeldOut, cut_folds
from tests.search.cones import cone_rows, exact_top1


@pytest.fixture(scope="module")
def cones():
    source, target = cone_rows(1300, 64, noise=1.0)
    anchors = {"text": (source[:300], target[:300])}
    return anchors, (source[300:], target[300:]), ja.choose_map(anchors)


ROTATIONS = {"families": [ja.Orthogonal(keep="all"), ja.Orthogonal()]}
WHOLE = {"families": [ja.Orthogonal(keep="all")]}
PLAIN_USE = ja.search.Use("none", "whole", 0)


def top1(of, unseen, **options):
    return exact_top1(ja.search.prepare(of, unseen[1], **options), unseen[0])


def test_the_use_is_found_and_its_gain_is_real_elsewhere(cones):
    anchors, unseen, choice = cones
    assert isinstance(choice.candidate.family, ja.Orthogonal)
    assert choice.use.centre != "none"
    assert choice.use.offsets == 5
    paper = ja.fit_map(anchors, ja.families.PAPER)
    ridge = ja.fit_map(anchors, ja.Ridge())
    found = top1(choice, unseen)
    # 0.97 against 0.80 and 0.78 seen, on 1,000 rows: standard errors of 0.013 at most.
    for other in (paper, ridge):
        assert found > top1(other, unseen, use=ja.search.Use.PAPER) + 0.1


def test_scores_order_candidates_as_unseen_rows_do(cones):
    anchors, unseen, choice = cones
    elsewhere = []
    rows = choice.table[:: max(1, len(choice.table) // 5)]
    for row in rows:
        one = row.candidate
        amap = ja.fit_map(anchors, one.family, fit_on=one.fit_on, scale=one.scale)
        elsewhere.append(top1(amap, unseen, use=one.use, anchors=anchors))
    assert np.corrcoef([row.score for row in rows], elsewhere)[0, 1] > 0.8


def test_few_anchors_get_the_identified_part():
    source, target = cone_rows(1300, 64, decay=0.3)
    anchors = {"text": (source[:40], target[:40])}
    choice = ja.choose_map(anchors, **ROTATIONS)
    assert choice.map.structure == "partial_isometry"
    unseen = (source[40:], target[40:])
    plain = ja.fit_map(anchors, ja.Orthogonal(keep="all"))
    # 0.92 against 0.71 seen.
    assert top1(choice, unseen) > top1(plain, unseen, use=PLAIN_USE) + 0.1


def test_anchors_that_repeat_get_the_identified_part_too():
    """320 anchors that determine 39 directions, no more than their 40 texts do."""
    source, target = cone_rows(1300, 64, decay=0.3)
    ids = np.repeat(np.arange(40), 8)
    anchors = ja.Anchors({"text": (source[ids], target[ids])}, ids={"text": ids})
    choice = ja.choose_map(anchors, **ROTATIONS)
    assert choice.map.structure == "partial_isometry"


def test_what_is_named_is_tried_once(cones):
    anchors, _, _ = cones
    families = [ja.Orthogonal(), ja.Ridge(0.1)]
    uses = [PLAIN_USE, ja.search.Use(offsets=0)]
    found, twice = (
        ja.choose_map(
            anchors, families=n * families, uses=n * uses, fit_on=n * ["text"]
        ).table
        for n in (1, 2)
    )
    assert {row.candidate.family for row in found} == set(families)
    assert found == twice


def test_unpaired_rows_are_carried_by_the_choice(cones):
    source, target = cones[0]["text"]
    unpaired = {"image": (source[:150] + 0.1, target[150:] - 0.1)}
    anchors = ja.Anchors({"text": (source, target)}, unpaired=unpaired)
    choice = ja.choose_map(anchors, **WHOLE)
    assert choice.table == ja.choose_map(cones[0], **WHOLE).table
    assert set(choice.map.modalities) == {"text", "image"}


def test_anchors_of_weight_0_are_neither_asked_nor_rivals(cones):
    anchors, _, _ = cones
    rng = np.random.default_rng(0)
    noise = [rng.standard_normal(side.shape) for side in anchors["text"]]
    rows = tuple(
        np.concatenate([side, extra.astype(np.float32)])
        for side, extra in zip(anchors["text"], noise, strict=True)
    )
    weights = np.repeat([1.0, 0.0], 300)
    padded = ja.Anchors({"text": rows}, weights=weights)
    given = ja.Anchors(anchors, weights=weights[:300])
    found, alone = (ja.choose_map(one, **WHOLE) for one in (padded, given))
    assert found.table == alone.table
    index = anchors["text"][1]
    offsets = [ja.search.prepare(one, index).offsets for one in (found, alone)]
    np.testing.assert_array_equal(*offsets)


def test_reason_and_table_say_what_was_done(cones):
    _, _, choice = cones
    assert choice.candidate.describe() in choice.reason
    assert f"{len(choice.table)} candidates" in choice.reason
    assert choice.reason.count(". ") == 0
    assert choice.map.card["choice"] == choice.reason
    assert choice.map.card["candidate"] == choice.candidate.to_json()
    assert choice.use == choice.candidate.use
    scores = [row.score for row in choice.table]
    assert scores == sorted(scores, reverse=True)
    for row in choice.table:
        assert row.interval[0] <= row.score <= row.interval[1]
        assert row.behind == pytest.approx(scores[0] - row.score)
        assert set(row.top1) == {"source text -> target text"}
    chosen = next(row for row in choice.table if row.candidate == choice.candidate)
    assert chosen.behind <= chosen.standard_error


def test_the_same_anchors_give_the_same_choice(cones):
    anchors, _, choice = cones
    again = ja.choose_map(anchors)
    assert again.table == choice.table
    assert again.map.fingerprint == choice.map.fingerprint


def test_a_linear_map_wins_where_no_rotation_fits():
    rng = np.random.default_rng(0)
    source = rng.standard_normal((300, 64)).astype(np.float32)
    # Singular values from 1 to 100, and noise of 20: 0.95 against 0.79 seen.
    mix = np.linalg.qr(rng.standard_normal((64, 64)))[0] * np.geomspace(1, 100, 64)
    target = source @ mix.T @ np.linalg.qr(rng.standard_normal((64, 64)))[0]
    target = (target + 20.0 * rng.standard_normal(target.shape)).astype(np.float32)
    choice = ja.choose_map({"text": (source, target)})
    assert isinstance(choice.candidate.family, ja.Ridge)


def test_held_out_anchors_of_any_norm_are_searched(cones):
    anchors, _, choice = cones
    factors = np.geomspace(0.01, 100, 300, dtype=np.float32)[:, None]
    grown = tuple(side * factors for side in anchors["text"])
    assert ja.choose_map({"text": grown}, **WHOLE).table


def test_the_plain_rotation_is_kept_where_nothing_is_better():
    planted = ja.data.planted_pairs(jax.random.key(1), 120, 12, mean_norms=(0.0, 0.0))
    choice = ja.choose_map(planted.pairs, **WHOLE)
    assert choice.use == ja.search.Use.PAPER
    assert choice.candidate.scale == "energy"
    assert set(choice.table[0].top1.values()) == {1.0}


def test_modalities_are_asked_across_by_their_ids():
    planted = ja.data.planted_pairs(
        jax.random.key(2), 120, 12, noise=0.3, agreement=0.95
    )
    order = np.random.default_rng(0).permutation(120)
    pairs = dict(planted.pairs)
    pairs["text"] = tuple(np.asarray(side)[order] for side in pairs["text"])
    ids = {"image": np.arange(120), "text": order}
    choice = ja.choose_map(ja.Anchors(pairs, ids=ids), **WHOLE)
    assert list(choice.table[0].top1) == [
        "source image -> target image",
        "source text -> target text",
        "source image -> target text",
        "source text -> target image",
    ]
    crossing, back = (
        ja.choose.Job("image", "text"),
        ja.choose.Job("image", "text", "target"),
    )
    assert choice.table[0].top1[crossing.describe()] > 0.8
    alone = {**WHOLE, "uses": [PLAIN_USE], "fit_on": ["image"]}
    wrong = {**ids, "text": np.arange(120)}
    missed = ja.choose_map(ja.Anchors(pairs, ids=wrong), jobs=[crossing], **alone)
    assert missed.table[0].top1[crossing.describe()] < 0.2
    other = ja.choose_map(ja.Anchors(pairs, ids=ids), jobs=[back], **alone)
    assert list(other.table[0].top1) == ["target image -> source text"]
    assert other.table[0].top1[back.describe()] > 0.8


def test_groups_are_held_out_whole_and_one_id_is_no_rival():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 12)).astype(np.float32)
    ids, groups = np.arange(60) // 2, np.arange(60) // 6
    anchors = ja.Anchors({"image": (rows, rows)}, ids=ids, groups=groups)
    for fold in cut_folds(anchors, count=5, most=8):
        fit, held = fold.fit.rows["image"], fold.held.rows["image"]
        assert not set(held.groups) & set(fit.groups)
        assert len(held) <= 8
        # Things are left out whole, both their rows.
        assert (np.unique(held.ids, return_counts=True)[1] == 2).all()
    twins = np.repeat(rows[::2], 2, axis=0)
    pairs, of = ({name: x for name in ("image", "text")} for x in ((twins, twins), ids))
    few = {**WHOLE, "uses": [PLAIN_USE], "fit_on": ["image"]}
    same = {"jobs": [ja.choose.Job("image", "image")], **few}
    named = ja.choose_map(ja.Anchors(pairs, ids=of), **same)
    nameless = ja.choose_map(ja.Anchors(pairs, groups=of), **same)
    (found,), (missed,) = (one.table[0].top1.values() for one in (named, nameless))
    # A twin that counts as a rival ties with the right row, and ties do not score.
    assert (found, missed, nameless.table[0].score) == (1.0, 0.0, 0.0)


def test_standard_errors_are_those_of_independent_groups():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 3)
    hits = np.repeat(rng.random(200) < 0.3, 3).astype(float)
    one = HeldOut([hits], [hits], [groups])
    expected = hits[::3].std(ddof=1) / np.sqrt(200)
    assert one.standard_error() == pytest.approx(expected)
    assert one.standard_error(one) == 0.0


def test_too_few_anchors_get_the_usual_recipe(cones):
    anchors, _, _ = cones
    source, target = anchors["text"]
    for n in (4, 9):
        choice = ja.choose_map({"text": (source[:n], target[:n])})
        assert choice.table == ()
        assert choice.map.structure == "partial_isometry"
        assert choice.use == ja.search.Use()
        assert choice.reason.startswith(f"{n} anchors are too few to hold any out")
    pairs = {"text": (source[:40], target[:40])}
    few = ja.choose_map(ja.Anchors(pairs, groups=np.arange(40) % 2))
    assert few.reason.startswith("2 groups are too few")
    few = ja.choose_map(ja.Anchors(pairs, ids=np.arange(40) % 3))
    assert few.reason.startswith("3 things are too few to hold any out")


def test_few_things_in_many_copies_still_have_rivals():
    # With five things and five folds each would be held out alone.
    assert [fold_count(5, things) for things in (4, 5, 7, 30)] == [2, 2, 3, 5]


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("jobs", {"jobs": []}),
        ("folds", {"folds": 1}),
        ("folds", {"folds": 2.5}),
        ("index_size", {"index_size": 1}),
        ("most_held_out", {"most_held_out": 0}),
        ("families", {"families": ["affine"]}),
        ("families", {"families": ja.Ridge()}),
        ("uses", {"uses": []}),
        ("uses", {"uses": ["paper"]}),
        ("fit_on", {"fit_on": ["audio"]}),
        ("fit_on", {"fit_on": "image"}),
        ("jobs.*audio", {"jobs": [ja.choose.Job("audio", "audio")]}),
        ("jobs.*ids", {"jobs": [ja.choose.Job("image", "text")]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_options_are_refused_with_a_remedy(argument, options):
    rows = np.random.default_rng(0).standard_normal((2, 40, 12))
    with pytest.raises(ValueError, match=rf"`choose_map\(.*{argument}"):
        ja.choose_map({"image": tuple(rows), "text": tuple(rows)}, **options)


def test_ids_of_modalities_that_never_meet_are_refused():
    rows = np.random.default_rng(0).standard_normal((2, 40, 12))
    ids = {"image": np.arange(40), "text": 100 + np.arange(40)}
    with pytest.raises(ValueError, match=r"`choose_map\(.*ids"):
        ja.choose_map(
            ja.Anchors({"image": tuple(rows), "text": tuple(rows)}, ids=ids),
            jobs=[ja.choose.Job("image", "text")],
            **WHOLE,
        )
