# SPDX-License-Identifier: Apache-2.0
"""`choose_map` takes what does best on held-out anchors, and says what to expect."""

import jax
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.choose.choose import fold_count
from jaxalign.choose.trials import Judged
from jaxalign.heldout.folds import Folds
from jaxalign.heldout.things import number_things
from tests.search.cones import cone_rows, exact_top1

Use = ja.search.Use


@pytest.fixture(scope="module")
def cones():
    source, target = cone_rows(1300, 64, noise=1.0)
    anchors = {"text": (source[:300], target[:300])}
    return anchors, (source[300:], target[300:]), ja.choose_map(anchors)


ISO = {"families": [ja.Orthogonal()]}


def top1(of, unseen, **options):
    return exact_top1(ja.search.prepare(of, unseen[1], **options), unseen[0])


def test_the_choice_is_nearly_as_good_elsewhere_as_the_best_candidate(cones):
    anchors, unseen, choice = cones
    paper = ja.fit_map(anchors, ja.families.PAPER)
    found = top1(choice, unseen)
    # 0.945 against 0.80 seen, on 1,000 rows: a standard error of 0.013 at most. A
    # rotation was planted, and finds 0.968.
    assert found > top1(paper, unseen, use=Use.PAPER) + 0.1
    assert found > top1(ja.fit_map(anchors), unseen) - 0.04


def test_scores_order_candidates_as_unseen_rows_do(cones):
    anchors, unseen, _ = cones
    families = [ja.Ridge(10.0), ja.Orthogonal(), ja.Orthogonal(keep=4)]
    uses = [Use(offsets=0), Use("source", "whole")]
    table = ja.choose_map(
        anchors, families=families, uses=uses, queries_are="source"
    ).table
    assert len(table) == 6
    elsewhere = []
    for row in table:
        one = row.candidate
        amap = ja.fit_map(anchors, one.family, fit_on=one.fit_on)
        elsewhere.append(top1(amap, unseen, use=one.use, anchors=anchors))
    # The mean log-softmax goes with the logarithm of top-1.
    logs = np.log(np.maximum(elsewhere, 1e-3))
    assert np.corrcoef([row.score for row in table], logs)[0, 1] > 0.8


def test_strengths_are_candidates_and_listed_once_tried_once(cones):
    anchors, _, _ = cones
    families = [ja.LikelihoodRatio(factor) for factor in (1.0, 1000.0)]
    found, twice = (
        ja.choose_map(anchors, families=n * families, fit_on=n * ["text"]).table
        for n in (1, 2)
    )
    assert {row.candidate.family for row in found} == set(families)
    assert found == twice


@pytest.mark.filterwarnings("ignore::jaxalign.errors.PoorFitWarning")
def test_noise_is_not_said_to_be_found():
    rng = np.random.default_rng(0)
    pair = tuple(rng.standard_normal((2, 60, 24)).astype(np.float32))
    choice = ja.choose_map(pair)
    for figure in choice.heldout.values():
        # Twelve rows a fold: chance is 1 in 12, with a standard error of 0.036.
        assert figure.chance == pytest.approx(1 / 12)
        assert abs(figure.top1 - figure.chance) < 0.12


def test_a_purpose_has_its_families(cones):
    anchors, _, search = cones
    assert [type(one) for one in ja.choose.FAMILIES["search"]] == [
        ja.LikelihoodRatio,
        ja.Orthogonal,
    ]
    rewrite = ja.choose_map(anchors, "rewrite")
    # Distances are kept: no scorer, and a map that is (part of) an isometry.
    assert rewrite.scorer is None
    assert rewrite.map.structure in ("isometry", "partial_isometry")
    assert {row.candidate.family for row in search.table} == {
        ja.LikelihoodRatio(),
        ja.Orthogonal(),
    }
    assert (search.scorer is None) == (search.use.score == "map")


def test_unpaired_rows_are_carried_by_the_choice(cones):
    source, target = cones[0]["text"]
    unpaired = {"image": (source[:150] + 0.1, target[150:] - 0.1)}
    anchors = ja.Anchors({"text": (source, target)}, unpaired=unpaired)
    choice = ja.choose_map(anchors, **ISO)
    assert choice.table == ja.choose_map(cones[0], **ISO).table
    assert set(choice.map.modalities) == {"text", "image"}


@pytest.mark.parametrize(
    ("n", "family"), [(40, "likelihood_ratio"), (300, "orthogonal")]
)
def test_a_modality_without_pairs_is_chosen_for_by_rule(cones, n, family):
    source, target = (side[:n] for side in cones[0]["text"])
    unpaired = {"image": (source + 0.1, target - 0.1)}
    anchors = ja.Anchors({"text": (source, target)}, unpaired=unpaired)
    choice = ja.choose_map(anchors, query="image")
    assert choice.candidate.family.name == family
    assert choice.table == ()
    assert "by rule, since 'image' has no pairs" in choice.reason
    found = ja.search.prepare(choice, target - 0.1, "image").search(source + 0.1, 1)
    assert np.mean(np.asarray(found[1])[:, 0] == np.arange(n)) > 0.8


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
    found, alone = (ja.choose_map(one, **ISO) for one in (padded, given))
    assert found.table == alone.table
    index = anchors["text"][1]
    offsets = [ja.search.prepare(one, index).offsets for one in (found, alone)]
    np.testing.assert_array_equal(*offsets)


def test_reason_and_table_say_what_was_done(cones):
    _, _, choice = cones
    assert choice.candidate.describe() in choice.reason
    assert f"of {len(choice.table)} on held-out anchors" in choice.reason
    assert choice.reason.count(". ") == 0
    assert choice.map.card["choice"] == choice.reason
    assert choice.map.card["candidate"] == choice.candidate.to_json()
    assert choice.map.card["purpose"] == choice.purpose == "search"
    assert choice.use == choice.candidate.use
    scores = [row.score for row in choice.table]
    assert scores == sorted(scores, reverse=True)
    jobs = {"source text -> target text", "target text -> source text"}
    for row in choice.table:
        assert row.behind == pytest.approx(scores[0] - row.score)
        assert set(row.top1) == jobs
    chosen = next(row for row in choice.table if row.candidate == choice.candidate)
    assert chosen.behind <= chosen.standard_error
    assert set(choice.heldout) == jobs
    for figure in choice.heldout.values():
        assert (figure.queries, figure.chance) == (300, pytest.approx(1 / 60))
    one = ja.choose_map(cones[0], queries_are="target", **ISO)
    assert set(one.heldout) == {"target text -> source text"}


def test_the_same_anchors_give_the_same_choice(cones):
    anchors, _, choice = cones
    again = ja.choose_map(anchors)
    assert again.table == choice.table
    assert again.map.fingerprint == choice.map.fingerprint


@pytest.mark.filterwarnings("ignore::jaxalign.errors.PoorFitWarning")
def test_held_out_anchors_of_any_norm_are_searched(cones):
    anchors, _, choice = cones
    factors = np.geomspace(0.01, 100, 300, dtype=np.float32)[:, None]
    grown = tuple(side * factors for side in anchors["text"])
    assert ja.choose_map({"text": grown}, **ISO).table


@pytest.mark.slow
def test_families_that_need_rows_are_tried(cones):
    anchors, _, _ = cones
    family = ja.Robust(ja.Orthogonal(), "huber")
    choice = ja.choose_map(anchors, families=[family, ja.Ridge()])
    assert {row.candidate.family.name for row in choice.table} == {"robust", "ridge"}


@pytest.mark.slow
def test_modalities_are_asked_across_by_their_ids():
    planted = ja.data.planted_pairs(
        jax.random.key(2), 120, 12, noise=0.3, agreement=0.95
    )
    order = np.random.default_rng(0).permutation(120)
    pairs = dict(planted.pairs)
    pairs["text"] = tuple(np.asarray(side)[order] for side in pairs["text"])
    ids = {"image": np.arange(120), "text": order}
    alone = {**ISO, "fit_on": ["image"]}
    choice = ja.choose_map(ja.Anchors(pairs, ids=ids), "cross", **alone)
    jobs = ["source image -> target text", "target image -> source text"]
    assert list(choice.table[0].top1) == jobs
    assert min(choice.table[0].top1.values()) > 0.8
    within = ja.choose_map(ja.Anchors(pairs, ids=ids), **alone)
    assert list(within.table[0].top1) == [
        f"{one} {name} -> {other} {name}"
        for name in ("image", "text")
        for one, other in (("source", "target"), ("target", "source"))
    ]
    wrong = {**ids, "text": np.arange(120)}
    missed = ja.choose_map(ja.Anchors(pairs, ids=wrong), "cross", **alone)
    assert max(missed.table[0].top1.values()) < 0.2
    back = ja.choose_map(
        ja.Anchors(pairs, ids=ids), "cross", query="text", index="image", **alone
    )
    assert list(back.table[0].top1)[0] == "source text -> target image"
    # Of a class, every text is right.
    classes = {name: own // 4 for name, own in ids.items()}
    zero_shot = ja.choose_map(ja.Anchors(pairs, groups=classes), "zero_shot", **alone)
    assert min(zero_shot.table[0].top1.values()) > 0.8


def test_groups_are_held_out_whole_and_one_id_is_no_rival():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60, 12)).astype(np.float32)
    ids, groups = np.arange(60) // 2, np.arange(60) // 6
    anchors = number_things(ja.Anchors({"image": (rows, rows)}, ids=ids, groups=groups))
    folds = Folds(anchors, count=5, most=8, tunes=False)
    seen = []
    for fold in range(folds.count):
        held = folds.held(fold).rows["image"]
        seen += list(np.unique(held.groups))
        assert len(held) <= 8
        # Things are left out whole, both their rows.
        assert (np.unique(held.ids, return_counts=True)[1] == 2).all()
    assert len(seen) == len(set(seen))


def test_equal_rows_and_rows_of_one_id_are_one_thing():
    rows = np.random.default_rng(0).standard_normal((12, 3)).astype(np.float32)
    source, target = rows.copy(), rows.copy()
    source[1], target[3] = source[0], target[2]
    ids = [0, 1, 2, 3, 4, 4, 6, 7, 8, 9, 10, 11]
    groups = [0, 1, 2, 3, 4, 5, 6, 7, 7, 9, 10, 11]
    anchors = ja.Anchors(
        {"image": (source, target)}, ids=np.array(ids), groups=np.array(groups)
    )
    found = number_things(anchors).rows["image"]
    things = found.known("ids")
    assert [things[i] == things[i + 1] for i in (0, 2, 4, 7)] == [True] * 3 + [False]
    assert len(np.unique(things)) == 9
    assert len(np.unique(found.known("groups"))) == 8
    # Without labels row i of each modality shares a group, and answers none.
    two = number_things(ja.Anchors({"image": (rows, rows), "text": (rows, rows)}))
    image, text = two.rows["image"], two.rows["text"]
    np.testing.assert_array_equal(image.groups, text.groups)
    assert not set(image.known("ids")) & set(text.known("ids"))
    # A twin that would count as a rival ties with the right row.
    twins = np.repeat(rows, 3, axis=0)[: 3 * 12]
    choice = ja.choose_map((twins, twins), **ISO)
    assert set(choice.table[0].top1.values()) == {1.0}


def test_standard_errors_are_those_of_independent_groups():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 3)
    values = np.repeat(rng.standard_normal(200), 3)
    one, zero = Judged([values], [groups], {}), Judged([0 * values], [groups], {})
    expected = values[::3].std(ddof=1) / np.sqrt(200)
    assert one.standard_error(zero) == pytest.approx(expected)
    assert one.standard_error(one) == 0.0


def test_too_few_anchors_get_the_usual_recipe(cones):
    anchors, _, _ = cones
    source, target = anchors["text"]
    for n in (4, 9):
        choice = ja.choose_map({"text": (source[:n], target[:n])})
        assert choice.table == ()
        assert choice.map.structure == "partial_isometry"
        assert choice.use == Use()
        assert choice.reason.startswith(f"{n} anchors are too few to hold any out")
        named = ja.choose_map((source[:n], target[:n]), families=[ja.LikelihoodRatio()])
        assert named.candidate.family == ja.LikelihoodRatio()
        assert named.use == Use.SCORER
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
        ("purpose", {"purpose": "browse"}),
        ("query", {"query": "audio"}),
        ("index", {"purpose": "cross", "index": "audio"}),
        ("purpose='cross'", {"query": "image", "index": "text"}),
        ("two modalities", {"purpose": "cross", "query": "text", "index": "text"}),
        ("queries_are", {"queries_are": "both"}),
        ("ids of", {"purpose": "cross"}),
        ("groups of", {"purpose": "zero_shot"}),
        ("folds", {"folds": 1}),
        ("folds", {"folds": 2.5}),
        ("most_held_out", {"most_held_out": 0}),
        ("families", {"families": ["affine"]}),
        ("families", {"families": ja.Ridge()}),
        ("uses", {"uses": []}),
        ("uses", {"uses": ["paper"]}),
        ("fit_on", {"fit_on": ["audio"]}),
        ("fit_on", {"fit_on": "image"}),
        ("uses", {"uses": [Use()], "families": [ja.LikelihoodRatio()]}),
        ("card", {"card": 3}),
        ("a scorer", {"purpose": "rewrite", "families": [ja.LikelihoodRatio()]}),
        ("queries_are='source'", {"families": [ja.families.TowardIndex()]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_options_are_refused_with_a_remedy(argument, options):
    rows = np.random.default_rng(0).standard_normal((2, 40, 12))
    with pytest.raises(ValueError, match=rf"`choose_map\(.*{argument}"):
        ja.choose_map({"image": tuple(rows), "text": tuple(rows)}, **options)


def test_modalities_that_are_neither_fitted_nor_asked_do_not_count(cones):
    source, target = cones[0]["text"]
    pairs = {"text": (source, target), "image": (source[:5], target[:5])}
    choice = ja.choose_map(pairs, query="text", fit_on=["text"], **ISO)
    assert choice.table == ja.choose_map(cones[0], **ISO).table


def test_scorers_that_a_fold_cannot_fit_are_left_out(cones):
    """Four things: without a fold of two of them rank one is left."""
    source, target = (np.repeat(side[:4], 10, 0) for side in cones[0]["text"])
    choice = ja.choose_map((source, target))
    assert {row.candidate.family for row in choice.table} == {ja.Orthogonal()}
    with pytest.raises(ja.ArgumentError, match=r"families=.*rank two"):
        ja.choose_map((source, target), families=[ja.LikelihoodRatio()])


def test_answers_in_one_fold_alone_leave_nothing_to_hold_out(cones):
    source, target = (side[:60] for side in cones[0]["text"])
    anchors = ja.Anchors(
        {"image": (source, target), "text": (target, source)},
        ids={"image": np.arange(60), "text": np.arange(60) + 58},
    )
    choice = ja.choose_map(anchors, "cross", **ISO)
    assert all(figure.queries <= 2 for figure in choice.heldout.values())


def test_ids_of_modalities_that_never_meet_are_refused():
    rows = np.random.default_rng(0).standard_normal((2, 40, 12))
    ids = {"image": np.arange(40), "text": 100 + np.arange(40)}
    with pytest.raises(ValueError, match=r"`choose_map\(.*ids"):
        ja.choose_map(
            ja.Anchors({"image": tuple(rows), "text": tuple(rows)}, ids=ids),
            "cross",
            **ISO,
        )
