# SPDX-License-Identifier: Apache-2.0
"""An epoch shows each emoji once, and over epochs each of its renderings."""

import numpy as np
import pytest

from experiments.shipped_encoders.grouping import DrawOne, GroupedSource
from jaxalign.data.pipeline import image_text_batches

# Interleaved, and of unequal numbers: a has 3, b has 1, c has 2.
SOURCE = [
    {"thing": emoji, "id": f"{emoji}/{i}", "kind": "x" if emoji < "c" else "y"}
    for emoji, i in (("a", 0), ("b", 0), ("a", 1), ("c", 0), ("c", 1), ("a", 2))
]


def _epochs(count, *, seed=0, batch_size=3):
    batches = image_text_batches(
        GroupedSource(SOURCE),
        batch_size=batch_size,
        seed=seed,
        shuffle=True,
        epochs=count,
        transforms=[DrawOne()],
    )
    return list(batches)


def test_groups_hold_every_example_once_in_order():
    grouped = GroupedSource(SOURCE)
    ids = [[e["id"] for e in grouped[i]["choices"]] for i in range(len(grouped))]
    assert ids == [["a/0", "a/1", "a/2"], ["b/0"], ["c/0", "c/1"]]


def test_any_key_can_group():
    grouped = GroupedSource(SOURCE, key="kind")
    sizes = [len(grouped[i]["choices"]) for i in range(len(grouped))]
    assert sizes == [4, 2]


def test_an_epoch_shows_each_group_once():
    for batch in _epochs(6):
        assert sorted(batch["thing"]) == ["a", "b", "c"]
        assert [i[0] for i in batch["id"]] == batch["thing"].tolist()


def test_every_rendering_has_its_turn_about_equally_often():
    element, rng = GroupedSource(SOURCE)[0], np.random.default_rng(0)
    drawn = [DrawOne().random_map(element, rng)["id"] for _ in range(300)]
    counts = np.unique(drawn, return_counts=True)[1]
    # 300 draws of three: 100 each, deviation 8.2; four of them leave room.
    assert len(counts) == 3
    assert np.abs(counts - 100).max() < 33


def test_the_draw_follows_the_seed():
    first, again, other = (
        [batch["id"].tolist() for batch in _epochs(4, seed=seed)] for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_the_mask_of_padding_is_kept():
    (batch,) = _epochs(1, batch_size=4)
    assert batch["mask"].tolist() == [True, True, True, False]
    assert "choices" not in batch


@pytest.mark.parametrize("count", [1, 5])
def test_one_choice_is_no_choice(count):
    element = {"choices": [{"id": "a"}], "mask": True}
    rng = np.random.default_rng(count)
    assert DrawOne().random_map(element, rng) == {"id": "a", "mask": True}
