# SPDX-License-Identifier: Apache-2.0
"""Long gaps, and writing behind the encoder's back.

The stores themselves are tested where data sets go into them:
`tests/experiments/test_embed.py`, `test_embed_killed.py`.
"""

import dataclasses
import time

import numpy as np
import pytest

from jaxalign.embedding import into_stores
from jaxalign.embedding.batch import EmbeddingBatch
from jaxalign.embedding.into_stores import check_gaps, short_name


def test_groups_are_written_in_order_and_told_when_they_are_on_disk():
    written = []

    def write(group):
        time.sleep(0.002 * (len(written) % 3))
        written.append(group)

    for number, group in enumerate(into_stores._write_behind(iter(range(20)), write)):
        assert group == number
        assert written[number] == number
    assert written == list(range(20))


def test_a_write_that_fails_ends_the_run_and_writes_nothing_more():
    written = []

    def write(group):
        if group == 3:
            raise OSError("no room")
        written.append(group)

    with pytest.raises(OSError, match="no room"):
        list(into_stores._write_behind(iter(range(20)), write))
    # What had been handed over before the failure showed may follow, in order.
    assert written[:3] == [0, 1, 2]
    assert len(written) < 3 + into_stores._WRITES_AHEAD + 1


def _group(first, mask):
    count = len(mask)
    return (
        EmbeddingBatch(
            image=np.zeros((count, 2), np.float32),
            text=None,
            ids=np.array([f"p{first + n}" for n in range(count)]),
            labels=np.full(count, -1),
            mask=np.array(mask),
            space="space",
            index=np.arange(first, first + count),
            captions=np.full(count, ""),
            paths=np.full(count, ""),
            problems=np.array(["" if known else "no such file" for known in mask]),
        ),
    )


def test_a_long_gap_ends_the_run_before_it_is_written():
    groups = [
        _group(0, [True, True, False]),
        _group(3, [False, False, True]),
        _group(6, [False, False, False]),
        _group(9, [False, True, True]),
    ]
    passed = check_gaps(groups, 3)
    assert [int(next(passed)[0].index[0]) for _ in range(3)] == [0, 3, 6]
    with pytest.raises(ValueError, match=r"'p9' \(no such file\); see that the data"):
        next(passed)
    assert len(list(check_gaps(groups, 4))) == 4
    assert len(list(check_gaps(groups, None))) == 4


def test_padding_is_no_gap():
    (batch,) = _group(0, [True, False, False])
    padded = dataclasses.replace(batch, index=np.array([0, -1, -1]))
    assert list(check_gaps([(padded,)], 0)) == [(padded,)]


def test_names_do_not_depend_on_where_things_lie(tmp_path, monkeypatch):
    (tmp_path / "pets").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("pets", "./pets/", str(tmp_path / "pets")):
        assert short_name(name) == "pets"
    assert short_name("/data/train-{00..09}.tar") == "train-{00..09}.tar"
    assert short_name("openai/clip-vit-base-patch32") == "openai/clip-vit-base-patch32"
