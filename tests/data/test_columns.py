# SPDX-License-Identifier: Apache-2.0
import pyarrow as pa
import pytest

from jaxalign.data import columns

SCHEMA = pa.schema([("name", pa.string()), ("number", pa.int64())])


def _table(names, numbers=None):
    builder = columns.TableBuilder(SCHEMA)
    for row in zip(names, numbers or range(len(names)), strict=True):
        builder.add(*row)
    return builder.finish()


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_rows_are_kept_in_blocks(count, monkeypatch):
    monkeypatch.setattr(columns, "_BLOCK", 4)
    names = [f"n{i}" for i in range(count)]
    table = _table(names)
    assert table["name"].to_pylist() == names
    assert table["name"].num_chunks == -(-count // 4)


def test_long_texts_make_smaller_blocks(monkeypatch):
    monkeypatch.setattr(columns, "_MOST_CHARACTERS", 10)
    names = ["123", "456", "789", "x" * 50, "12"]
    table = _table(names)
    assert table["name"].to_pylist() == names
    assert [len(chunk) for chunk in table["name"].chunks] == [2, 1, 1, 1]


def test_names_are_numbered_alike_in_all_blocks(monkeypatch):
    monkeypatch.setattr(columns, "_BLOCK", 2)
    builder = columns.TableBuilder(
        pa.schema([("name", pa.dictionary(pa.int32(), pa.string()))])
    )
    names = ["b", "a", None, "c", "b"]
    for name in names:
        builder.add(name)
    column = builder.finish()["name"]
    assert column.to_pylist() == names
    assert {tuple(c.dictionary.to_pylist()) for c in column.chunks} == {("b", "a", "c")}
    found, numbered = columns.number_classes(column)
    assert (found, numbered.to_pylist()) == (("a", "b", "c"), [1, 0, -1, 2, 1])


def test_the_first_duplicate_is_found():
    def find(*rows):
        left, right = zip(*rows, strict=True)
        return columns.find_duplicate(pa.table({"left": left, "right": right}))

    assert find(("a", "x"), ("a", "y"), ("b", "x")) is None
    assert find(("a", "x"), ("b", "x"), ("b", "x"), ("a", "x")) == (1, 2)
    assert find(("a", "x"), ("b", "x"), ("a", "x"), ("b", "x")) == (0, 2)
    assert find(("a", None), ("b", "x"), ("a", None)) == (0, 2)


def test_the_first_two_rows_of_several_pairs_are_found(monkeypatch):
    monkeypatch.setattr(columns, "_BLOCK", 2)

    def find(*names):
        return columns.find_duplicate(pa.table({"name": names}))

    assert find("a", "b", "cc", "d") is None
    assert find("a", "b", "cc", "d", "b", "a", "cc") == (1, 4)


LABELS = {
    "names": (["dog", "cat", None, "", "dog"], ("cat", "dog"), [1, 0, -1, -1, 1]),
    "numbers": (["10", "9", "007", "-1", ""], ("7", "9", "10"), [2, 1, 0, -1, -1]),
    "mixed": (["10", "9", "b"], ("10", "9", "b"), [0, 1, 2]),
    "none": ([None, ""], (), [-1, -1]),
}


@pytest.mark.parametrize("case", LABELS)
def test_labels_become_numbers(case):
    labels, names, numbers = LABELS[case]
    found, numbered = columns.number_classes(
        pa.chunked_array([labels[:2], labels[2:]], pa.string())
    )
    assert found == names
    assert numbered.type == pa.int32()
    assert numbered.to_pylist() == numbers


def test_fingerprints_see_contents_alone(monkeypatch):
    fingerprint = columns.fingerprint
    table = _table(["a", "bc", ""])
    same = fingerprint(table)
    assert fingerprint(_table(["x", "a", "bc", ""], [9, 0, 1, 2]).slice(1)) == same
    others = [
        fingerprint(_table(["ab", "c", ""])),
        fingerprint(_table(["a", "bc", None])),
        fingerprint(_table(["a", None, "bc"])),
        fingerprint(_table(["a", "bc", ""], [0, 1, 3])),
        fingerprint(_table(["a", "bc"])),
        fingerprint(table, "other"),
        fingerprint(table.rename_columns(["title", "number"])),
    ]
    assert len({same, *others}) == 8
    nulls = fingerprint(_table(["a", None, "bc"]))
    for block in (1, 2):
        monkeypatch.setattr(columns, "_BLOCK", block)
        assert fingerprint(_table(["a", "bc", ""])) == same
        assert fingerprint(_table(["a", None, "bc"])) == nulls
