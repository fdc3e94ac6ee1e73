# SPDX-License-Identifier: Apache-2.0
"""Batches in order: any ranges, any workers, unreadable pictures in their place."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxalign.data.ordered import ordered_batches, stack_examples
from jaxalign.data.pictures import UnreadablePictureError


class Numbers:
    """Examples that hold their number; some cannot be read."""

    def __init__(self, count, *, broken=()):
        self.count = count
        self.broken = set(broken)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index in self.broken:
            raise UnreadablePictureError(f"n{index}", "cut off")
        return {"id": f"n{index}", "value": np.full(2, index), "label": index % 3}


def _read(source, **options):
    batches = list(ordered_batches(source, **options))
    return [batch["index"].tolist() for batch in batches], batches


def test_all_examples_come_in_order_and_the_last_batch_is_filled_up():
    indices, batches = _read(Numbers(7), batch_size=3)
    assert indices == [[0, 1, 2], [3, 4, 5], [6, -1, -1]]
    assert batches[-1]["mask"].tolist() == [True, False, False]
    assert batches[-1]["value"].tolist() == [[6, 6]] * 3
    assert batches[0]["id"].tolist() == ["n0", "n1", "n2"]


def test_ranges_are_read_apart():
    indices, _ = _read(
        Numbers(20), batch_size=4, examples=[range(4, 10), range(16, 18)]
    )
    assert indices == [[4, 5, 6, 7], [8, 9, -1, -1], [16, 17, -1, -1]]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 9),
    st.lists(st.integers(0, 40), max_size=6),
)
def test_what_is_left_comes_in_the_batches_of_a_whole_run(count, size, cuts):
    """Ranges that begin at batches give those very batches."""
    _, whole = _read(Numbers(count), batch_size=size)
    starts = sorted({cut - cut % size for cut in cuts if cut < count})
    ranges = [range(start, min(start + size, count)) for start in starts]
    _, some = _read(Numbers(count), batch_size=size, examples=ranges)
    for start, batch in zip(starts, some, strict=True):
        expected = whole[start // size]
        for key in expected:
            np.testing.assert_array_equal(batch[key], expected[key])


def test_unreadable_pictures_keep_their_place_and_say_why():
    def collate(examples):
        return {
            key: np.array([e[key] for e in examples]) for key in ("id", "problem")
        } | (stack_examples(examples))

    _, (first, second) = _read(Numbers(5, broken={1, 4}), batch_size=3, collate=collate)
    assert first["index"].tolist() == [0, 1, 2]
    assert first["mask"].tolist() == [True, False, True]
    assert first["problem"].tolist() == ["", "cut off", ""]
    assert first["id"].tolist() == ["n0", "n1", "n2"]
    # What fills up a batch is no problem of its own.
    assert second["problem"].tolist() == ["", "cut off", ""]
    assert second["index"].tolist() == [3, 4, -1]


def test_strict_ends_at_the_first_unreadable_picture():
    with pytest.raises(UnreadablePictureError, match="cut off"):
        _read(Numbers(5, broken={1}), batch_size=2, strict=True)


@pytest.mark.parametrize("options", [{"num_threads": 0}, {"num_threads": 3}])
def test_threads_change_nothing(options):
    assert (
        _read(Numbers(23), batch_size=4, **options)[0]
        == _read(Numbers(23), batch_size=4)[0]
    )


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [1, 2])
def test_worker_processes_change_nothing(num_workers):
    source = Numbers(23, broken={7})
    indices, batches = _read(source, batch_size=4, num_workers=num_workers)
    expected, _ = _read(source, batch_size=4)
    assert indices == expected
    assert not batches[1]["mask"][3]


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"examples": [range(3, 9)]}, "examples"),
        ({"examples": [range(0, 4, 2)]}, "examples"),
    ],
)
def test_sizes_out_of_range_are_refused(options, argument):
    with pytest.raises(ValueError, match=argument):
        ordered_batches(Numbers(5), **({"batch_size": 2} | options))


def test_an_empty_source_is_refused():
    with pytest.raises(ValueError, match="source"):
        ordered_batches([], batch_size=2)


def test_pictures_of_two_shapes_need_a_collate():
    with pytest.raises(ValueError, match="'image'"):
        stack_examples([{"image": np.zeros((2, 2))}, {"image": np.zeros((3, 2))}])
