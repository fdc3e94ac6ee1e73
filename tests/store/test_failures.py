# SPDX-License-Identifier: Apache-2.0
"""A process that waits for others learns that one has ended with an error."""

import pytest

import jaxalign as ja
from jaxalign.store.failures import OtherProcessError


def _create(folder, process_index):
    return ja.EmbeddingStore.create(
        folder,
        space="space",
        examples=4,
        part_examples=2,
        modalities={"image": 3},
        process_index=process_index,
    )


def _fail(folder, process_index):
    with (
        pytest.raises(RuntimeError, match="no such picture"),
        _create(folder, process_index),
    ):
        raise RuntimeError("no such picture")


def test_the_others_learn_of_an_error(tmp_path):
    with _create(tmp_path, 0) as waiting:
        waiting.check_others()
        _fail(tmp_path, 1)
        with pytest.raises(OtherProcessError, match=r"process 1 .*no such picture"):
            waiting.check_others()


def test_errors_of_an_earlier_run_are_past(tmp_path):
    _fail(tmp_path, 1)
    with _create(tmp_path, 0) as waiting:
        # Process 1 has not begun again yet.
        waiting.check_others()
        with _create(tmp_path, 1):
            waiting.check_others()
        # It ends well, and then an error of the next one counts.
        waiting.check_others()
        _fail(tmp_path, 1)
        with pytest.raises(OtherProcessError, match="start all processes again"):
            waiting.check_others()


def test_a_finished_store_keeps_no_note(tmp_path):
    _fail(tmp_path, 1)
    with _create(tmp_path, 0) as writer:
        for first in (0, 2):
            ids = [str(first), str(first + 1)]
            writer.append({"image": [[1.0, 0, 0]] * 2}, first=first, ids=ids)
        writer.finish()
    assert not list(tmp_path.rglob("failed-*"))
