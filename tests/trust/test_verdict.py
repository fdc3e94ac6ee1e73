# SPDX-License-Identifier: Apache-2.0
"""The verdict's rules by a table, its intervals against SciPy, and planted problems."""

import dataclasses

import numpy as np
import pytest
import scipy.stats

import jaxalign as ja
from experiments.benchmarks import verdicts
from jaxalign.heldout.regions import cluster_rows
from jaxalign.trust.verdict import (
    Figure,
    HeldOut,
    Marks,
    chance_of,
    decide,
    describe,
    ratio_figure,
    share_figure,
)
from tests.cases import planted_rows

PARTS = Figure(0.5, 0.4, 0.6, 0.0)


def held(value, low, high, *, p=0.0, chance=0.001, rows=1000, doubled=None):
    top1 = Figure(value, low, high, chance)
    return HeldOut(top1, PARTS, PARTS, rows, chance, 100, 100, 0.0, doubled, p)


@pytest.mark.parametrize(
    ("figures", "word"),
    [
        (None, "too_few"),
        (held(0.9, 0.8, 0.95), "usable"),
        (held(0.6, 0.45, 0.7), "weak"),
        (held(0.08, 0.04, 0.2), "too_few"),
        (held(0.02, 0.01, 0.04), "none"),
        # Above noise takes all three: a p-value, 5 times chance, and 1 %.
        (held(0.9, 0.8, 0.95, p=1e-4), "too_few"),
        (held(0.9, 0.8, 0.95, chance=0.2), "too_few"),
        (held(0.008, 0.06, 0.07), "too_few"),
        # In a small index the same shares prove less.
        (held(0.6, 0.55, 0.7, rows=30), "weak"),
        (held(0.1, 0.05, 0.2, p=0.1, rows=30), "none"),
    ],
)
def test_words_go_by_the_rules(figures, word):
    assert decide(figures, Marks()) == word
    sentence = describe(word, figures, 300, 300 if figures else 4)
    assert sentence.startswith(f"{word.upper()}: ")


def test_marks_are_the_users_and_checked():
    figures = held(0.6, 0.45, 0.7)
    assert decide(figures, Marks(usable=0.4)) == "usable"
    assert decide(figures, Marks(weak=0.48)) == "too_few"
    with pytest.raises(ValueError, match="usable"):
        Marks(weak=0.6, usable=0.5)
    assert Marks().at(10**6) == Marks()


def test_interval_of_a_share_is_wilsons_where_rows_are_groups():
    hits = np.arange(40) < 31
    found = share_figure(hits.astype(float), np.arange(40))
    expected = scipy.stats.binomtest(31, 40).proportion_ci(method="wilson")
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-6)
    # Rows that stand and fall together are worth their groups.
    groups = np.repeat(np.arange(8), 5)
    together = share_figure((groups < 6).astype(float), groups)
    expected = scipy.stats.binomtest(6, 8).proportion_ci(method="wilson")
    np.testing.assert_allclose((together.low, together.high), expected, rtol=0.06)
    whole = share_figure(np.ones(20), np.repeat(np.arange(10), 2))
    assert whole.high == pytest.approx(1.0)
    assert whole.low == pytest.approx(
        scipy.stats.binomtest(10, 10).proportion_ci(method="wilson").low
    )


def test_interval_of_a_mean_is_students_and_chance_is_binomial():
    values = np.random.default_rng(0).random(30)
    found = ratio_figure(values, np.ones(30), np.arange(30))
    expected = scipy.stats.t.interval(
        0.95, 29, loc=values.mean(), scale=scipy.stats.sem(values)
    )
    np.testing.assert_allclose((found.low, found.high), expected, rtol=1e-6)
    hits = (np.arange(30) < 4).astype(float)
    expected = scipy.stats.binomtest(4, 30, 0.01, alternative="greater").pvalue
    assert chance_of(hits, np.arange(30), 0.01) == pytest.approx(expected)


@pytest.fixture(scope="module")
def pairs():
    source, target, _ = planted_rows(
        np.random.default_rng(0), 200, 16, noise=0.3, means=(0.9, 0.7)
    )
    return source, target


def test_true_pairs_are_usable_and_shuffled_ones_are_not(pairs):
    verdict = ja.judge(pairs)
    assert (verdict.word, verdict.meets("weak")) == ("usable", True)
    figures = verdict.figures
    assert (figures.rows, figures.queries, figures.groups) == (200, 200, 200)
    assert figures.top1.value > 0.9
    assert figures.top1.shuffled < 0.05
    assert figures.explained.shuffled < 0 < figures.explained.low
    assert figures.neighbours.low > figures.neighbours.shuffled
    assert verdict.to_json()["heldout"]["top1"]["value"] == figures.top1.value
    mixed = (pairs[0], pairs[1][np.random.default_rng(3).permutation(200)])
    assert ja.judge(mixed).word == "none"


@pytest.mark.parametrize("kind", ["in order", "near-copies"])
def test_rows_that_find_each_other_by_likeness_alone_are_no_map(kind):
    # Seed 5 has 200 rows. Random folds find partners; whole regions do not.
    verdict = ja.judge(verdicts.draw(kind, 5))
    assert not verdict.meets("weak")
    assert verdict.figures.by_region
    assert "resemble" in verdict.sentence


def test_regions_hold_what_lies_near_together():
    rng = np.random.default_rng(0)
    things = rng.standard_normal((60, 8))
    rows = np.repeat(things, 3, 0) + 0.01 * rng.standard_normal((180, 8))
    found = cluster_rows(rows.astype(np.float32), 12)
    assert found.max() < 12
    assert (found.reshape(60, 3) == found[::3, None]).mean() > 0.95


def test_few_groups_say_too_few_however_many_rows(pairs):
    groups = np.arange(200) % 9
    verdict = ja.judge(ja.Anchors(pairs, groups=groups))
    assert (verdict.word, verdict.figures) == ("too_few", None)
    assert "9 groups" in verdict.sentence


@pytest.mark.slow
def test_a_choice_lends_its_fits_and_gives_the_same_figures(pairs, monkeypatch):
    choice = ja.choose_map(pairs, "search", families=[ja.LikelihoodRatio()])
    fresh = ja.judge(pairs, ja.LikelihoodRatio())
    assert fresh.word == "usable"
    shared = ja.judge(pairs, choice)
    assert shared.figures.top1.value == pytest.approx(fresh.figures.top1.value)
    fitted = []
    folds = type(choice.folds)
    fit = folds._fit_missing
    monkeypatch.setattr(
        folds,
        "_fit_missing",
        lambda self, *a: fitted.append(self is choice.folds) or fit(self, *a),
    )
    ja.judge(pairs, choice)
    assert fitted
    assert not any(fitted)


def test_other_modalities_are_judged_by_the_same_fits(pairs):
    other = tuple(side[:60] + 0.1 for side in pairs)
    verdict = ja.judge({"image": pairs, "text": other})
    assert (verdict.modality, list(verdict.others)) == ("image", ["text"])
    assert verdict.others["text"].word == "usable"


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"of": "orthogonal"}, "of"),
        ({"marks": 0.5}, "marks"),
        ({"use": ja.search.Use.SCORER}, "use"),
        ({"fit_on": "audio"}, "fit_on"),
    ],
)
def test_bad_arguments_are_named(pairs, options, argument):
    with pytest.raises(ValueError, match=argument):
        ja.judge(pairs, **options)


def test_a_figure_is_json():
    assert dataclasses.asdict(PARTS) == PARTS.to_json()


@pytest.mark.slow
def test_noise_never_gets_a_yes_and_a_true_map_never_a_no():
    found = verdicts.run(30)
    assert verdicts.wrong(found) == 0
    assert all(words.total() == 30 for words in found.values())
