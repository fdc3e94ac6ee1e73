# SPDX-License-Identifier: Apache-2.0
import dataclasses
import functools

import numpy as np
import pytest

from jaxalign.evaluate.hubness import hubness_offsets
from jaxalign.evaluate.paired_set import PairedSet
from jaxalign.evaluate.protocol import Run, evaluate_map, evaluate_native
from jaxalign.evaluate.recipes import Recipe, Searcher
from jaxalign.evaluate.retrieval import exact_recall
from jaxalign.evaluate.rows import METRICS

N, CLASSES, D_SOURCE, D_TARGET = 240, 12, 16, 24


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def planted(d_target=D_TARGET, seed=0):
    """Two models that differ by one rotation; a text is its image and some noise."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(d_target, D_SOURCE)))[0]
    rotation = rotation.astype(np.float32)
    labels = np.arange(N) % CLASSES
    class_texts = unit(rng.normal(size=(CLASSES, D_SOURCE)))
    images = unit(class_texts[labels] + 0.15 * rng.normal(size=(N, D_SOURCE)))
    texts = unit(images + 0.1 * rng.normal(size=(N, D_SOURCE)))
    pairs = PairedSet(
        source_images=images,
        source_texts=texts,
        target_images=images @ rotation.T,
        target_texts=texts @ rotation.T,
        labels=labels + 100,
        source_class_texts=class_texts,
        target_class_texts=class_texts @ rotation.T,
        class_ids=np.arange(CLASSES) + 100,
    )
    return pairs, lambda rows, modality: 3.0 * rows @ rotation.T


def values(rows):
    return {row.metric: row.value for row in rows}


def test_planted_rotation_is_perfect():
    pairs, carry = planted()
    rows = evaluate_map("ours", carry, pairs)
    found = values(rows)
    perfect = ["image_cosine", "caption_cosine", "class_text_cosine"]
    perfect += ["image_centred_cosine", "image_to_image_at_1", "text_to_text_at_1"]
    perfect += ["text_class_top1", "image_class_top1", "share_of_native_at_1"]
    for metric in perfect:
        assert found[metric] == pytest.approx(1.0, abs=1e-6), metric
    assert abs(found["image_mismatched_cosine"]) < 0.3
    native = {(row.method, row.metric): row.value for row in evaluate_native(pairs)}
    at_1 = native["native target", "image_to_text_at_1"]
    assert 0.5 < at_1 < 1.0
    assert found["source_image_to_target_text_at_1"] == at_1
    assert found["target_image_to_source_text_at_1"] == at_1
    assert native["stay on source", "zeroshot"] == native["native target", "zeroshot"]


def test_every_metric_once_in_order():
    pairs, carry = planted()
    names = [row.metric for row in evaluate_map("ours", carry, pairs)]
    native = {row.metric for row in evaluate_native(pairs)}
    assert set(names) | native == set(METRICS)
    assert names == [name for name in METRICS if name not in native]
    without = evaluate_map("control", carry, pairs, share_of_native=False)
    assert [row.metric for row in without] == names[:-1]


def test_no_map_is_near_chance():
    pairs, _ = planted(d_target=D_SOURCE)
    rows = evaluate_map("none", None, pairs)
    found = values(rows)
    assert abs(found["image_cosine"]) < 0.2
    assert found["image_to_image_at_1"] < 0.05
    assert found["source_image_to_target_text_at_1"] < 0.05


def test_no_map_between_widths_is_not_applicable():
    pairs, carry = planted()
    rows = evaluate_map("none", None, pairs)
    assert {row.value for row in rows} == {None}
    with_map = evaluate_map("ours", carry, pairs)
    assert [(row.metric, row.n) for row in rows] == [
        (row.metric, row.n) for row in with_map
    ]


def test_a_collapsed_map_has_high_cosine_and_no_hits():
    pairs, _ = planted()
    mean = np.ones((1, D_TARGET), np.float32)
    rows = evaluate_map("mean", lambda rows, modality: mean.repeat(len(rows), 0), pairs)
    found = values(rows)
    for metric, value in found.items():
        if METRICS[metric].unit == "share":
            assert value < 2 / CLASSES, metric
    assert found["image_centred_cosine"] == 0.0


def test_directions_are_told_apart():
    # Only the image side of the map works, so only rows that map images alone do.
    pairs, carry = planted()
    rng = np.random.default_rng(1)

    def images_only(rows, modality):
        if modality == "image":
            return carry(rows, modality)
        return rng.normal(size=(len(rows), D_TARGET)).astype(np.float32)

    found = values(evaluate_map("half", images_only, pairs))
    assert found["image_to_image_at_1"] == 1.0
    assert found["zeroshot_mapped_image_to_target_text"] > 0.8
    assert found["source_image_to_target_text_at_1"] > 0.5
    for metric in ("text_to_text_at_1", "target_image_to_source_text_at_1"):
        assert found[metric] < 0.05
    assert found["zeroshot_target_image_to_mapped_text"] < 0.5


def test_rows_carry_the_run_and_intervals():
    pairs, carry = planted()
    run = Run(table="unseen", seed=7, config={"fit_on": "image"}, replicates=50)
    rows = evaluate_map("ours", carry, pairs, run=run)
    again = evaluate_map("ours", carry, pairs, run=run)
    assert rows == again
    for row in rows:
        assert (row.table, row.seed, row.config) == ("unseen", 7, run.config)
        if row.interval is not None:
            assert row.interval[0] <= row.value + 1e-6
            assert row.value - 1e-6 <= row.interval[1]
    assert {row.n for row in rows} == {N, CLASSES}


def test_take_keeps_the_classes_that_remain():
    pairs, carry = planted()
    some = pairs.take(pairs.labels < 103)
    assert some.class_ids.tolist() == [100, 101, 102]
    assert len(some.labels) == len(some.ids) == N // 4
    assert values(evaluate_map("ours", carry, some))["text_class_top1"] == 1.0


@pytest.mark.usefixtures("no_shape_hook")
class TestErrors:
    def test_map_of_another_shape(self):
        pairs, _ = planted()
        with pytest.raises(ValueError, match="one row of the target's width"):
            evaluate_map("bad", lambda rows, modality: rows, pairs)

    def test_map_that_diverged(self):
        pairs, carry = planted()
        with pytest.raises(ValueError, match="look at how the map was fitted"):
            evaluate_map("bad", lambda rows, m: carry(rows, m) * np.nan, pairs)

    @pytest.mark.parametrize(
        ("name", "value", "match"),
        [
            ("source_texts", np.ones((N - 1, D_SOURCE)), "same examples in one order"),
            ("target_texts", np.ones((N, D_SOURCE)), "a model has one width"),
            ("target_images", np.zeros((N, D_TARGET)), "none of them zero"),
            ("source_images", np.full((N, D_SOURCE), np.inf), "expected finite rows"),
            ("labels", np.arange(N), "give one class text per class"),
            ("ids", np.arange(3), "expected shape"),
        ],
    )
    def test_bad_pairs(self, name, value, match):
        pairs, _ = planted()
        with pytest.raises(ValueError, match=match):
            dataclasses.replace(pairs, **{name: value})


class TestSearcher:
    """A searcher goes through the protocol with both sides prepared."""

    @staticmethod
    def fitted():
        pairs, _ = planted()
        anchors = {
            "image": (pairs.source_images[:120], pairs.target_images[:120]),
            "text": (pairs.source_texts[:120], pairs.target_texts[:120]),
        }
        return pairs.take(np.arange(N) >= 120), anchors

    def test_without_offsets_it_is_its_map(self):
        pairs, anchors = self.fitted()
        recipe = Recipe(add_target_mean=False)
        amap = recipe.fit(anchors)
        plain = functools.partial(amap, add_target_mean=False)
        by_map = values(evaluate_map("m", plain, pairs))
        by_searcher = values(evaluate_map("m", Searcher(amap, recipe), pairs))
        # Normalised before or after: the last bit of a cosine.
        assert by_searcher == pytest.approx(by_map, abs=1e-5)

    def test_offsets_are_those_of_the_queries_that_come(self):
        pairs, anchors = self.fitted()
        recipe = Recipe(add_target_mean=False, centre_target=True, hubness_k=5)
        one = Searcher(recipe.fit(anchors), recipe, anchors)
        found = values(evaluate_map("m", one, pairs))
        texts = one.prepare_source(pairs.source_texts, "text")
        asked = one.prepare_target(anchors["image"][1], "image")
        recall = exact_recall(
            one.prepare_target(pairs.target_images, "image"),
            texts,
            np.arange(len(pairs.labels)),
            (1, 10),
            offsets=hubness_offsets(asked, texts),
        )
        assert found["target_image_to_source_text_at_1"] == recall.at(1)
        assert found["target_image_to_source_text_at_10"] == recall.at(10)
        images = one.prepare_source(pairs.source_images, "image")
        index = one.prepare_target(pairs.target_texts, "text")
        recall = exact_recall(
            images,
            index,
            np.arange(len(pairs.labels)),
            (1,),
            offsets=one.measure_offsets(index, "image"),
        )
        assert found["source_image_to_target_text_at_1"] == recall.at(1)
