# SPDX-License-Identifier: Apache-2.0
"""The protocol on a planted rotation: what is perfect, by chance, or not asked."""

import functools

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.evaluate.paired_set import PairedSet
from jaxalign.evaluate.protocol import Run, evaluate_map, evaluate_native
from jaxalign.evaluate.rows import METRICS
from jaxalign.search import SearchMap, Use
from tests.compilations import compilations

N, CLASSES, D = 240, 12, 16


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def planted(d_target=D):
    """Two models that differ by one rotation; a text is its image and some noise."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(d_target, D)))[0]
    rotation = rotation.astype(np.float32)
    labels = np.arange(N) % CLASSES
    class_texts = unit(rng.normal(size=(CLASSES, D)))
    images = unit(class_texts[labels] + 0.15 * rng.normal(size=(N, D)))
    texts = unit(images + 0.1 * rng.normal(size=(N, D)))
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


PAIRS, CARRY = planted()
RUN = Run(table="unseen", seed=7, config={"fit_on": "image"}, replicates=50)


@pytest.fixture(scope="module")
def ours():
    """The planted map's rows."""
    return evaluate_map("ours", CARRY, PAIRS, run=RUN)


@pytest.fixture(scope="module")
def native():
    return evaluate_native(PAIRS, run=RUN)


def values(rows):
    return {row.metric: row.value for row in rows}


def test_planted_rotation_is_perfect(ours, native):
    found = values(ours)
    perfect = ["image_cosine", "caption_cosine", "class_text_cosine"]
    perfect += ["image_centred_cosine", "image_to_image_at_1", "text_to_text_at_1"]
    perfect += ["text_class_top1", "image_class_top1", "share_of_native_at_1"]
    for metric in perfect:
        assert found[metric] == pytest.approx(1.0, abs=1e-6), metric
    assert abs(found["image_mismatched_cosine"]) < 0.3
    alone = {(row.method, row.metric): row.value for row in native}
    at_1 = alone["native target", "image_to_text_at_1"]
    assert 0.5 < at_1 < 1.0
    assert found["source_image_to_target_text_at_1"] == at_1
    assert found["target_image_to_source_text_at_1"] == at_1
    assert alone["stay on source", "zeroshot"] == alone["native target", "zeroshot"]


def test_every_metric_once_in_order(ours, native):
    names = [row.metric for row in ours]
    alone = {row.metric for row in native}
    assert set(names) | alone == set(METRICS)
    assert names == [name for name in METRICS if name not in alone]


def test_no_map_is_near_chance_and_the_native_share_can_be_left_out(ours):
    rows = evaluate_map("none", None, PAIRS, share_of_native=False)
    found = values(rows)
    assert list(found) == [row.metric for row in ours][:-1]
    assert abs(found["image_cosine"]) < 0.2
    assert found["image_to_image_at_1"] < 0.05
    assert found["source_image_to_target_text_at_1"] < 0.05


def test_no_map_between_widths_is_not_applicable(ours):
    rows = evaluate_map("none", None, planted(d_target=D + 8)[0])
    assert {row.value for row in rows} == {None}
    assert [(row.metric, row.n) for row in rows] == [
        (row.metric, row.n) for row in ours
    ]


def test_a_collapsed_map_has_high_cosine_and_no_hits():
    mean = np.ones((1, D), np.float32)
    rows = evaluate_map("mean", lambda rows, modality: mean.repeat(len(rows), 0), PAIRS)
    found = values(rows)
    for metric, value in found.items():
        if METRICS[metric].unit == "share":
            assert value < 2 / CLASSES, metric
    assert found["image_centred_cosine"] == 0.0


def test_directions_are_told_apart():
    # Only the image side of the map works, so only rows that map images alone do.
    rng = np.random.default_rng(1)

    def images_only(rows, modality):
        if modality == "image":
            return CARRY(rows, modality)
        return rng.normal(size=(len(rows), D)).astype(np.float32)

    found = values(evaluate_map("half", images_only, PAIRS))
    assert found["image_to_image_at_1"] == 1.0
    assert found["zeroshot_mapped_image_to_target_text"] > 0.8
    assert found["source_image_to_target_text_at_1"] > 0.5
    for metric in ("text_to_text_at_1", "target_image_to_source_text_at_1"):
        assert found[metric] < 0.05
    assert found["zeroshot_target_image_to_mapped_text"] < 0.5


def test_rows_carry_the_run_and_intervals(ours):
    assert evaluate_map("ours", CARRY, PAIRS, run=RUN) == ours
    for row in ours:
        assert (row.table, row.seed, row.config) == ("unseen", 7, RUN.config)
        if row.interval is not None:
            assert row.interval[0] <= row.value + 1e-6
            assert row.value - 1e-6 <= row.interval[1]
    assert {row.n for row in ours} == {N, CLASSES}


def test_sets_of_other_sizes_need_no_program(ours):
    some = PAIRS.take(PAIRS.labels < 103)
    assert some.class_ids.tolist() == [100, 101, 102]
    assert len(some.labels) == len(some.ids) == N // 4
    with compilations() as compiled:
        found = values(evaluate_map("ours", CARRY, some))
    assert not compiled
    assert found["text_class_top1"] == 1.0


@pytest.mark.usefixtures("no_shape_hook")
class TestErrors:
    @pytest.mark.parametrize(
        "carry",
        [
            lambda rows, modality: rows[:, 1:],
            lambda rows, modality: CARRY(rows, modality) * np.nan,
        ],
        ids=["another shape", "diverged"],
    )
    def test_maps_that_give_no_rows_of_the_target(self, carry):
        with pytest.raises(ValueError, match="map_rows"):
            evaluate_map("bad", carry, PAIRS)

    def test_what_is_no_map_and_no_pairs(self):
        for call, argument in (
            (lambda: evaluate_map("bad", 3, PAIRS), "map_rows"),
            (lambda: evaluate_map("bad", CARRY, None), "paired_set"),
            (lambda: evaluate_native(None), "paired_set"),
        ):
            with pytest.raises(ValueError, match=rf"\({argument}="):
                call()


class TestSearchMap:
    """A map with its use goes through the protocol with both sides prepared."""

    @staticmethod
    def fitted(use):
        """Unseen pairs, and a map of anchors beside them."""
        anchors = ja.Anchors(
            {
                "image": (PAIRS.source_images[:120], PAIRS.target_images[:120]),
                "text": (PAIRS.source_texts[:120], PAIRS.target_texts[:120]),
            }
        )
        searched = SearchMap(ja.fit_map(anchors), use, anchors)
        return PAIRS.take(np.arange(N) >= 120), searched

    def test_without_offsets_it_is_its_map(self):
        pairs, searched = self.fitted(Use("source", "whole", offsets=0))
        plain = functools.partial(searched.map, add_target_mean=False)
        by_map = values(evaluate_map("m", plain, pairs))
        by_use = values(evaluate_map("m", searched, pairs))
        # Normalised before or after: the last bit of a cosine.
        assert by_use == pytest.approx(by_map, abs=1e-5)

    def test_offsets_are_those_of_the_queries_that_come(self):
        pairs, searched = self.fitted(Use())
        found = values(evaluate_map("m", searched, pairs))
        for rows, rows_are, queries, name in (
            (
                pairs.source_texts,
                "source",
                pairs.target_images,
                "target_image_to_source",
            ),
            (
                pairs.target_texts,
                "target",
                pairs.source_images,
                "source_image_to_target",
            ),
        ):
            index = ja.search.prepare(
                searched, rows, "text", rows_are=rows_are, queries="image"
            )
            best = np.asarray(index.search(queries, 10)[1])
            right = best == np.arange(len(rows))[:, None]
            for k in (1, 10):
                share = right[:, :k].any(axis=1).mean()
                assert found[f"{name}_text_at_{k}"] == pytest.approx(share)
