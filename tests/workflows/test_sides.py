# SPDX-License-Identifier: Apache-2.0
"""References to two models' rows, as command lines name them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxalign.workflows.shared_columns import shared_columns
from jaxalign.workflows.sides import check_bad, open_sides


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, width in (("a", 3), ("b", 4), ("c", 3), ("d", 4)):
        np.save(f"{name}.npy", np.ones((5, width), np.float32))
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_pairs_are_named():
    sides = open_sides(
        None, None, ["image:a.npy:b.npy", "text:c.npy:d.npy"], call="fit"
    )
    assert [list(one.source.rows) for one in sides] == [["image"], ["text"]]
    assert [one.matched.count for one in sides] == [5, 5]
    origins = {one.origin() for one in sides}
    assert len(origins) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("a.npy", None),
        (None, None),
        ("a.npy", "a.npy"),
        (None, None, ["image:a.npy"]),
        (None, None, ["a.npy:b.npy:"]),
        (None, None, ["image:a.npy:b.npy", "image:c.npy:d.npy"]),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_is_no_pair_is_refused(arguments):
    with pytest.raises(ValueError, match=r"SOURCE|--pair|both sides"):
        open_sides(*arguments, call="fit")


@pytest.mark.parametrize("other", ["./a.npy", "copy.npy", "double.npy"])
def test_the_same_rows_on_both_sides_are_refused(tmp_path, monkeypatch, other):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    rows[7] = np.nan
    np.save("a.npy", rows)
    np.save("copy.npy", rows)
    np.save("double.npy", rows.astype(np.float64))
    np.save("b.npy", rows[::-1])
    assert len(open_sides("a.npy", "b.npy", call="fit")) == 1
    with pytest.raises(ValueError, match="both sides"):
        open_sides("a.npy", other, call="fit")


def test_ids_of_pairs_come_in_the_order_of_the_pairs(folder):
    rng = np.random.default_rng(0)
    names = np.array([f"n{k}" for k in range(6)])
    for file, order in (("s", [3, 1, 0, 5]), ("t", [5, 0, 3, 2])):
        rows = list(rng.normal(size=(4, 2)).astype(np.float32))
        table = pa.table({"name": names[order], "v": rows})
        pq.write_table(table, folder / f"{file}.parquet")
    (sides,) = open_sides(
        f"{folder}/s.parquet::v", f"{folder}/t.parquet::v", id_column="name", call="fit"
    )
    assert sides.matched.count == 3
    assert sides.ids(np.arange(3)).tolist() == ["n3", "n0", "n5"]


@pytest.mark.usefixtures("folder")
def test_ids_of_one_side_alone_pair_by_position_where_that_is_asked_for():
    rows = list(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32))
    pq.write_table(pa.table({"v": rows, "name": list("vwxyz")}), "a.parquet")
    both = ("a.parquet::v", "b.npy")
    with pytest.raises(ValueError, match="TARGET"):
        open_sides(*both, id_column="name", call="fit")
    for one in (both, both[::-1]):
        (sides,) = open_sides(*one, id_column="name", match="position", call="fit")
        assert sides.matched.count == 5
    with pytest.raises(ValueError, match=r"write --id_column=name;"):
        open_sides(*both, id_column="nope", match="position", call="fit")
    with pytest.raises(ValueError, match="SOURCE"):
        open_sides("c.npy", "b.npy", id_column="n", match="position", call="fit")


def test_columns_that_rows_should_be_paired_by_are_found(tmp_path):
    rng = np.random.default_rng(0)
    order = rng.permutation(1500)
    for file, numbers in (("s", np.arange(1500)), ("t", order)):
        table = pa.table(
            {
                "v": list(rng.normal(size=(1500, 2)).astype(np.float32)),
                "label": numbers % 7,
                "row": np.arange(1500),
                "name": [f"n{number}" for number in numbers],
            }
        )
        pq.write_table(table, tmp_path / f"{file}.parquet")
    pair = [f"{tmp_path}/{file}.parquet::v" for file in "st"]
    assert shared_columns(open_sides(*pair, call="fit")) == ["name"]
    assert shared_columns(open_sides(*pair, id_column="name", call="fit")) == []


@pytest.mark.parametrize(
    "name",
    [
        *("hf-hub:a/b", "hf://a/b", "hf.co/a/b", "https://huggingface.co/a/b/"),
        "https://huggingface.co/a/b/tree/v1",
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_model_is_no_rows(name):
    with pytest.raises(ValueError, match="SOURCE") as caught:
        open_sides(name, "b.npy", call="fit")
    assert "--models=a/b" in str(caught.value)


def test_a_hundredth_of_bad_pairs_is_accepted():
    check_bad(10, 1000, False)
    check_bad(500, 1000, True)
    with pytest.raises(ValueError, match="--skip_bad"):
        check_bad(11, 1000, False)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["0", "1"], "a line for each"),
        (["0", "1", "2", "3", "7"], "'7'"),
        (["0", "1", "2", "3", "3"], "twice"),
        (None, "nowhere"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_picked_rows_are_those_of_the_source(folder, lines, said):
    path = folder / "nowhere.txt"
    if lines is not None:
        path = folder / "picked.txt"
        path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="--picked") as caught:
        open_sides("a.npy", "b.npy", picked=str(path), call="fit")
    assert said in str(caught.value)


@pytest.mark.usefixtures("folder")
def test_picked_rows_pair_in_their_order(folder):
    np.save("b.npy", np.ones((3, 4), np.float32))
    (folder / "picked.txt").write_text("4\n0\n2\n")
    (sides,) = open_sides("a.npy", "b.npy", picked="picked.txt", call="fit")
    assert sides.matched.source.tolist() == [4, 0, 2]
    assert sides.matched.target is None
