# SPDX-License-Identifier: Apache-2.0
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxalign import repetitions
from jaxalign.repetitions import find_repeated


@settings(deadline=None)
@given(
    ids=st.lists(st.integers(0, 40).map(str), max_size=60),
    block=st.integers(1, 10),
    bucket=st.integers(1, 70),
)
def test_repeated_ids_are_those_that_a_dictionary_finds(ids, block, bucket):
    def blocks():
        return (ids[start : start + block] for start in range(0, len(ids), block))

    found = find_repeated(blocks, len(ids), bucket=bucket)
    expected = {name for name in ids if ids.count(name) > 1}
    assert {name for name, _, _ in found} == expected
    for name, one, two in found:
        assert one < two
        assert ids.index(name) == one
        assert ids[two] == name


def test_equal_hashes_of_other_ids_are_no_repetition(monkeypatch):
    import numpy as np

    monkeypatch.setattr(
        repetitions, "hash_keys", lambda ids: np.zeros(len(ids), np.uint64)
    )
    assert find_repeated(lambda: iter([["a", "b"], ["c"]]), 3) == []


def test_a_store_of_one_id_stops_at_a_thousand():
    ids = [str(i) for i in range(1500)] * 2
    assert len(find_repeated(lambda: iter([ids]), len(ids), bucket=500)) <= 1000
