# SPDX-License-Identifier: Apache-2.0
import itertools
import json
import math

import numpy as np
import pytest

from experiments.shipped_encoders.captions import WriteTrainingCaption
from jaxalign.data import pipeline


def _source(n):
    rng = np.random.default_rng(0)
    return [
        {
            "image": rng.integers(0, 255, (16, 16, 3), dtype=np.uint8),
            "id": f"{i}/plain",
            "name": f"thing {i}",
            "keywords": "thing",
            "subgroup": "drink",
            "style": "full",
            "background": "white",
            "label": i,
        }
        for i in range(n)
    ]


def _labels(batches):
    return [int(x) for b in batches for x in b["label"][b["mask"]]]


RANDOM = dict(
    shuffle=True,
    seed=5,
    transforms=[pipeline.AugmentImage(), WriteTrainingCaption()],
)


def test_the_last_batch_is_padded_and_masked():
    batches = list(pipeline.image_text_batches(_source(7), batch_size=3))
    assert [b["image"].shape for b in batches] == [(3, 16, 16, 3)] * 3
    assert [b["mask"].tolist() for b in batches] == [
        [True] * 3,
        [True] * 3,
        [True, False, False],
    ]
    assert _labels(batches) == list(range(7))
    assert batches[0]["image"].dtype == np.uint8
    assert batches[2]["id"].tolist() == ["6/plain"] * 3


def test_the_remainder_is_dropped_when_asked():
    options = dict(batch_size=3, drop_remainder=True)
    batches = list(pipeline.image_text_batches(_source(7), **options))
    assert _labels(batches) == list(range(6))
    assert all(b["mask"].all() for b in batches)


@pytest.mark.parametrize("n", [1, 8, 9, 10, 13])
@pytest.mark.parametrize("drop_remainder", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
def test_shards_share_the_examples_in_equally_many_batches(n, drop_remainder, shuffle):
    shards = [
        list(
            pipeline.image_text_batches(
                _source(n),
                batch_size=2,
                seed=1,
                shuffle=shuffle,
                shard_index=index,
                shard_count=3,
                drop_remainder=drop_remainder,
            )
        )
        for index in range(3)
    ]
    rounding = math.floor if drop_remainder else math.ceil
    expected = rounding(rounding(n / 3) / 2)
    assert [len(shard) for shard in shards] == [expected] * 3
    seen = sorted(itertools.chain(*map(_labels, shards)))
    if drop_remainder:
        assert len(seen) == len(set(seen)) == 6 * expected
    else:
        assert seen == list(range(n))


def test_epochs_differ_in_order_and_augmentation_and_repeat_with_the_seed():
    batches = list(
        pipeline.image_text_batches(_source(8), batch_size=8, epochs=2, **RANDOM)
    )
    first, second = (dict(zip(b["label"], b["image"], strict=True)) for b in batches)
    assert sorted(first) == sorted(second) == list(range(8))
    assert list(first) != list(second)
    assert not np.array_equal(first[0], second[0])
    again = pipeline.image_text_batches(_source(8), batch_size=8, epochs=2, **RANDOM)
    for left, right in zip(batches, again, strict=True):
        _assert_same(left, right)


def _assert_same(left, right):
    assert left.keys() == right.keys()
    for key in left:
        np.testing.assert_array_equal(left[key], right[key], err_msg=key)


@pytest.mark.parametrize("num_threads", [0, 2])
def test_a_restored_iterator_goes_on_with_the_same_batches(num_threads):
    def start():
        return iter(
            pipeline.image_text_batches(
                _source(10),
                batch_size=4,
                epochs=None,
                num_threads=num_threads,
                **RANDOM,
            )
        )

    iterator = start()
    for _ in range(4):  # into the second epoch
        next(iterator)
    state = json.loads(json.dumps(iterator.get_state()))
    rest = [next(iterator) for _ in range(4)]
    restored = start()
    restored.set_state(state)
    for batch in rest:
        _assert_same(next(restored), batch)


def test_functions_are_transforms():
    batches = pipeline.image_text_batches(
        _source(2), batch_size=2, transforms=[lambda e: {"text": e["name"].upper()}]
    )
    (batch,) = [{k: v.tolist() for k, v in b.items()} for b in batches]
    assert batch["text"] == ["THING 0", "THING 1"]


def test_the_real_data_run_through(tiny_splits):
    source = tiny_splits["source_train"]
    batches = pipeline.image_text_batches(source, batch_size=50, **RANDOM)
    count = 0
    for batch in batches:
        assert batch["image"].shape == (50, 64, 64, 3)
        count += batch["mask"].sum()
    assert count == len(source)


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        (dict(shuffle=True), "seed"),
        (dict(transforms=[pipeline.AugmentImage()]), "seed"),
        (dict(batch_size=0), "batch_size"),
        (dict(epochs=0), "epochs"),
        (dict(shard_index=2, shard_count=2), "shard_index"),
    ],
)
def test_bad_options_are_refused(options, argument):
    with pytest.raises(ValueError, match=argument):
        pipeline.image_text_batches(_source(3), **{"batch_size": 2, **options})


def test_an_empty_source_is_refused():
    with pytest.raises(ValueError, match="source"):
        pipeline.image_text_batches([], batch_size=2)


def _wedge():
    """A white picture with a dark block in its upper left."""
    image = np.full((64, 64, 3), 255, np.uint8)
    image[8:24, 8:24] = 20
    return image


def test_augmentation_varies_without_mirroring():
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(64):
        image = pipeline.augment_image(_wedge(), rng)
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        rows, columns = np.nonzero(image.mean(axis=-1) < 100)
        assert rows.mean() < 32  # the block stays in its corner
        assert columns.mean() < 32
        seen.add(image.tobytes())
    assert len(seen) == 64


def test_augmentation_by_nothing_is_the_identity():
    image = _source(1)[0]["image"]
    none = dict(shift=0.0, zoom=0.0, turn=0.0, colour=0.0, contrast=0.0)
    same = pipeline.augment_image(image, np.random.default_rng(0), **none)
    np.testing.assert_array_equal(same, image)


def test_augmentation_moves_by_its_bounds():
    rng = np.random.default_rng(1)
    only_shift = dict(zoom=0.0, turn=0.0, colour=0.0, contrast=0.0)
    for _ in range(20):
        image = pipeline.augment_image(_wedge(), rng, shift=0.1, **only_shift)
        rows, columns = np.nonzero(image.mean(axis=-1) < 137)
        for centre in (rows.mean(), columns.mean()):
            assert abs(centre - 15.5) <= 6.4 + 0.5


def test_pictures_of_several_shapes_are_refused():
    source = _source(2)
    source[1]["image"] = source[1]["image"][:8]
    with pytest.raises(ValueError, match="'image'"):
        list(pipeline.image_text_batches(source, batch_size=2, num_threads=0))
