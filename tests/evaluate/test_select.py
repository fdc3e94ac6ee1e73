# SPDX-License-Identifier: Apache-2.0
"""`choose_map` finds the planted recipe on held-out anchors, and it holds elsewhere."""

import jax
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.evaluate.held_out import HeldOut, cut_folds
from tests.evaluate.cones import cone_rows, exact_top1


@pytest.fixture(scope="module")
def cones():
    source, target = cone_rows(1300, 64, noise=1.0)
    anchors = {"text": (source[:300], target[:300])}
    return anchors, (source[300:], target[300:]), ja.choose_map(anchors)


def test_the_recipe_is_found_and_its_gain_is_real_elsewhere(cones):
    anchors, unseen, choice = cones
    assert choice.recipe.kind == "orthogonal"
    assert not choice.recipe.add_target_mean
    assert choice.recipe.hubness_k == 5
    paper = ja.Recipe(fit_on="text", scale="none")
    plain = ja.Searcher(paper.fit(anchors), paper)
    ridge = ja.Recipe(kind="linear", fit_on="text", scale="none")
    linear = ja.Searcher(ridge.fit(anchors), ridge)
    found = exact_top1(choice.searcher, *unseen)
    # 0.97 against 0.80 and 0.78 seen, on 1,000 rows: standard errors of 0.013 at most.
    assert found > exact_top1(plain, *unseen) + 0.1
    assert found > exact_top1(linear, *unseen) + 0.1


def test_scores_order_candidates_as_unseen_rows_do(cones):
    anchors, unseen, choice = cones
    rows = choice.table[:: max(1, len(choice.table) // 5)]
    elsewhere = [
        exact_top1(ja.Searcher(row.recipe.fit(anchors), row.recipe, anchors), *unseen)
        for row in rows
    ]
    assert np.corrcoef([row.score for row in rows], elsewhere)[0, 1] > 0.8


def test_few_anchors_get_the_identified_part():
    source, target = cone_rows(1040, 64, decay=0.3)
    anchors = {"text": (source[:40], target[:40])}
    choice = ja.choose_map(anchors, kinds=["orthogonal"])
    assert choice.map.kind == "partial_isometry"
    plain = ja.Recipe(fit_on="text")
    unseen = (source[40:], target[40:])
    found = exact_top1(choice.searcher, *unseen)
    # 0.92 against 0.71 seen.
    assert found > exact_top1(ja.Searcher(plain.fit(anchors), plain), *unseen) + 0.1


def test_reason_and_table_say_what_was_done(cones):
    _, _, choice = cones
    assert choice.recipe.describe() in choice.reason
    assert f"{len(choice.table)} candidates" in choice.reason
    assert choice.reason.count(". ") == 0
    assert choice.map.card["choice"] == choice.reason
    assert ja.Recipe(**choice.map.card["recipe"]) == choice.recipe
    scores = [row.score for row in choice.table]
    assert scores == sorted(scores, reverse=True)
    for row in choice.table:
        assert row.interval[0] <= row.score <= row.interval[1]
        assert row.behind == pytest.approx(scores[0] - row.score)
        assert set(row.top1) == {"source text -> target text"}
    chosen = next(row for row in choice.table if row.recipe == choice.recipe)
    assert chosen.behind <= chosen.standard_error


def test_the_same_anchors_give_the_same_choice(cones):
    anchors, _, choice = cones
    again = ja.choose_map(anchors)
    assert again.table == choice.table
    assert again.map.fingerprint == choice.map.fingerprint


def test_the_plain_rotation_is_kept_where_nothing_is_better():
    planted = ja.planted_pairs(jax.random.key(1), 80, 6, mean_norms=(0.0, 0.0))
    choice = ja.choose_map(planted.pairs)
    assert choice.recipe == ja.Recipe()
    assert set(choice.table[0].top1.values()) == {1.0}


def test_a_linear_map_wins_where_the_map_is_none_of_rotation():
    rng = np.random.default_rng(0)
    source = rng.standard_normal((240, 8)).astype(np.float32)
    # Singular values from 1 to 100, and noise of 1: no rotation does that.
    mix = np.linalg.qr(rng.standard_normal((8, 8)))[0] * np.geomspace(1, 100, 8)
    target = source @ mix.T @ np.linalg.qr(rng.standard_normal((8, 8)))[0]
    target = (target + 0.5 * rng.standard_normal(target.shape)).astype(np.float32)
    choice = ja.choose_map({"image": (source, target)}, index_size=100)
    assert choice.recipe.kind == "linear"


def test_modalities_are_asked_across_by_their_ids():
    planted = ja.planted_pairs(jax.random.key(2), 120, 12, noise=0.3, agreement=0.95)
    order = np.random.default_rng(0).permutation(120)
    pairs = dict(planted.pairs)
    pairs["text"] = tuple(np.asarray(side)[order] for side in pairs["text"])
    ids = {"image": np.arange(120), "text": order}
    choice = ja.choose_map(pairs, ids=ids, kinds=["orthogonal"])
    assert list(choice.table[0].top1) == [
        "source image -> target image",
        "source text -> target text",
        "source image -> target text",
        "source text -> target image",
    ]
    wrong = ja.choose_map(
        pairs, ids={**ids, "text": np.arange(120)}, kinds=["orthogonal"]
    )
    crossing = "source image -> target text"
    assert choice.table[0].top1[crossing] > 0.8
    assert wrong.table[0].top1[crossing] < 0.2
    back = ja.Job("image", "text", "target")
    other = ja.choose_map(pairs, ids=ids, jobs=[back], kinds=["orthogonal"])
    assert list(other.table[0].top1) == ["target image -> source text"]
    assert other.table[0].top1[back.describe()] > 0.8


def test_groups_are_held_out_whole_and_one_id_is_no_rival():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 4)).astype(np.float32)
    ids, groups = np.arange(60) // 2, np.arange(60) // 6
    folds = cut_folds(
        {"image": (rows, rows)}, {"image": ids}, {"image": groups}, count=5, most=8
    )
    for fold in folds:
        assert not set(fold.held_groups["image"]) & set(fold.fit_groups["image"])
        assert len(fold.held["image"][0]) <= 8
        # Things are left out whole, both their rows.
        assert (np.unique(fold.held_ids["image"], return_counts=True)[1] == 2).all()
    twins = np.repeat(rows[::2], 2, axis=0)
    pairs = {"image": (twins, twins)}
    named = ja.choose_map(pairs, ids={"image": ids}, kinds=["orthogonal"])
    nameless = ja.choose_map(pairs, groups={"image": ids}, kinds=["orthogonal"])
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


@pytest.mark.parametrize("n", [4, 9])
def test_too_few_anchors_get_the_usual_recipe(n):
    source, target = cone_rows(n, 16)
    choice = ja.choose_map({"text": (source, target)})
    assert choice.table == ()
    assert choice.map.kind == "partial_isometry"
    assert not choice.recipe.add_target_mean
    assert choice.reason.startswith(f"{n} anchors are too few to hold any out")
    few = ja.choose_map({"text": cone_rows(40, 16)}, groups={"text": np.arange(40) % 2})
    assert few.reason.startswith("2 groups are too few")


def test_few_things_in_many_copies_still_have_rivals():
    """With five things and five folds each would be held out alone."""
    source, target = cone_rows(5, 16)
    ids = {"text": np.repeat(np.arange(5), 8)}
    pairs = {"text": (source[ids["text"]], target[ids["text"]])}
    plainly = {"kinds": ["orthogonal"], "hubness_k": 0}
    assert ja.choose_map(pairs, ids=ids, **plainly).table
    few = {"text": np.arange(40) % 3}
    none = ja.choose_map({"text": cone_rows(40, 16)}, ids=few, **plainly)
    assert none.reason.startswith("3 things are too few to hold any out")


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"jobs": []}, "leave them out for the default"),
        ({"folds": 1}, r"folds=1\)`: expected a whole number of at least 2"),
        ({"folds": 2.5}, "expected a whole number"),
        ({"index_size": 1}, r"index_size=1\)`: expected a whole number of at least 2"),
        ({"most_held_out": 0}, "leave it out for the default"),
        ({"kinds": ["affine"]}, r"`choose_map\(kinds=.*expected a list of"),
        ({"kinds": "linear"}, "expected a list of"),
        ({"fit_on": ["audio"]}, r"`choose_map\(fit_on=.*expected a list of"),
        ({"groups": {"image": np.full(40, None)}}, "whole numbers or strings"),
        ({"jobs": [ja.Job("audio", "audio")]}, "add pairs of that modality"),
        ({"jobs": [ja.Job("image", "text")]}, "such as row numbers"),
        ({"ids": {"image": np.arange(3)}}, "one label a row by modality"),
        (
            {
                "ids": {"image": np.arange(40), "text": 100 + np.arange(40)},
                "jobs": [ja.Job("image", "text")],
            },
            "must be the same labels",
        ),
    ],
)
def test_bad_options_are_refused_with_a_remedy(options, match):
    rows = cone_rows(40, 8)
    with pytest.raises(ValueError, match=match):
        ja.choose_map({"image": rows, "text": rows}, **options)
