# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pyarrow as pa
import pytest

from jaxalign.data import columns

SCHEMA = pa.schema([("name", pa.large_string()), ("number", pa.int64())])


def _table(names, numbers=None):
    builder = columns.TableBuilder(SCHEMA)
    for row in zip(names, numbers or range(len(names)), strict=True):
        builder.add(*row)
    return builder.finish()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_blocks_become_one_chunk(count, monkeypatch):
    monkeypatch.setattr(columns, "_BLOCK", 4)
    names = [f"n{i}" for i in range(count)]
    table = _table(names)
    assert table["name"].to_pylist() == names
    assert all(column.num_chunks == 1 for column in table.columns)


def test_the_first_duplicate_is_found():
    def find(*rows):
        left, right = zip(*rows, strict=True)
        return columns.find_duplicate(pa.table({"left": left, "right": right}))

    assert find(("a", "x"), ("a", "y"), ("b", "x")) is None
    assert find(("a", "x"), ("b", "x"), ("b", "x"), ("a", "x")) == (1, 2)
    assert find(("a", "x"), ("b", "x"), ("a", "x"), ("b", "x")) == (0, 2)
    assert find(("a", None), ("b", "x"), ("a", None)) == (0, 2)


LABELS = {
    "names": (["dog", "cat", None, "", "dog"], ("cat", "dog"), [1, 0, -1, -1, 1]),
    "numbers": (["10", "9", "007", "-1", ""], ("7", "9", "10"), [2, 1, 0, -1, -1]),
    "mixed": (["10", "9", "b"], ("10", "9", "b"), [0, 1, 2]),
    "none": ([None, ""], (), [-1, -1]),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_become_numbers(case):
    labels, names, numbers = LABELS[case]
    found, numbered = columns.number_classes(pa.array(labels, pa.large_string()))
    assert found == names
    assert numbered.dtype == np.int32
    assert numbered.tolist() == numbers


def test_fingerprints_see_contents_alone():
    def fingerprint(table, *others):
        arrays = {name: table[name].chunk(0) for name in table.column_names}
        return columns.fingerprint(arrays, *others)

    table = _table(["a", "bc", ""])
    same = fingerprint(table)
    assert fingerprint(_table(["x", "a", "bc", ""], [9, 0, 1, 2]).slice(1)) == same
    others = [
        fingerprint(_table(["ab", "c", ""])),
        fingerprint(_table(["a", "bc", ""], [0, 1, 3])),
        fingerprint(_table(["a", "bc"])),
        fingerprint(table, "other"),
        fingerprint(table.rename_columns(["title", "number"])),
    ]
    assert len({same, *others}) == 6
