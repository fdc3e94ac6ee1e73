# SPDX-License-Identifier: Apache-2.0
"""Rows from file to file: those that the map gives, whatever the batches."""

import dataclasses

import jax
import numpy as np
import pytest

import jaxalign as ja
from tests.cases import rows_pair
from tests.tolerances import ROWS, eps

N = 50


@pytest.fixture(scope="module")
def amap():
    pairs = rows_pair(np.random.default_rng(0), 40, 6, 6, mean=0.9)
    return ja.fit_map({"image": pairs}, source_space="aa", target_space="bb")


@pytest.fixture
def rows(tmp_path):
    rows, _ = rows_pair(np.random.default_rng(1), N, 6, 6, mean=0.9)
    np.save(tmp_path / "rows.npy", rows)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


@pytest.mark.parametrize(("batch_size", "normalize"), [(7, True), (64, False)])
def test_as_the_map_gives_them(amap, rows, tmp_path, batch_size, normalize):
    seen = []
    path = ja.carry_rows(
        amap,
        rows,
        tmp_path / "carried.npy",
        batch_size=batch_size,
        normalize=normalize,
        report=seen.append,
    )
    carried = np.load(path)
    expected = amap(rows, normalize=normalize)
    np.testing.assert_allclose(carried, expected, atol=ROWS * eps(np.float32))
    assert carried.dtype == np.float32
    assert seen[-1] == N


def test_half_precision_and_an_older_file(amap, rows, tmp_path):
    path = tmp_path / "carried.npy"
    path.write_bytes(b"old")
    ja.carry_rows(amap, rows, path, dtype="float16")
    carried = np.load(path)
    assert carried.dtype == np.float16
    expected = np.asarray(amap(rows, normalize=True))
    np.testing.assert_allclose(carried, expected, atol=eps(np.float16))


def test_an_error_leaves_the_older_file(amap, rows, tmp_path):
    path = tmp_path / "carried.npy"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match="expected rows of the space 'aa'"):
        ja.carry_rows(amap, rows, path, space="cc")
    assert path.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["carried.npy", "rows.npy"]


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("change", "argument"),
    [
        ({"dtype": "float64"}, "dtype"),
        ({"rows": np.zeros((0, 6), np.float32)}, "rows"),
        ({"rows": [[1.0] * 6]}, "rows"),
        ({"rows": np.ones((2, 6), np.uint8)}, "rows"),
        ({"batch_size": 1.5}, "batch_size"),
        ({"modality": "text"}, "modality"),
        ({"amap": None}, "amap"),
        ({"amap": (np.ones((2, 6)),) * 2}, "amap"),
        ({"path": None}, "path"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_errors_name_their_argument(amap, tmp_path, change, argument):
    path = tmp_path / "x.npy"
    rows = np.ones((2, 6), np.float32)
    with pytest.raises(ValueError, match=rf"`carry_rows\(.*{argument}"):
        ja.carry_rows(**({"amap": amap, "rows": rows, "path": path} | change))
    assert not list(tmp_path.iterdir())


def test_entries_that_no_half_holds_leave_no_file(amap, rows, tmp_path):
    numbers = jax.tree.map(lambda leaf: 1e6 * leaf, amap.numbers)
    large = dataclasses.replace(amap, numbers=numbers)
    path = tmp_path / "carried.npy"
    with pytest.raises(ValueError, match="dtype='float16'"):
        ja.carry_rows(large, 1e6 * rows, path, normalize=False, dtype="float16")
    assert not path.exists()


def test_a_row_that_is_not_finite_stays_so_alone(amap, rows, tmp_path):
    lost = np.array(rows)
    lost[3] = np.nan
    carried = np.load(ja.carry_rows(amap, lost, tmp_path / "carried.npy"))
    assert np.isnan(carried[3]).all()
    assert np.isfinite(np.delete(carried, 3, axis=0)).all()


def test_other_byte_orders_keep_their_values(amap, rows, tmp_path):
    expected = np.load(ja.carry_rows(amap, rows, tmp_path / "one.npy"))
    swapped = np.array(rows).astype(">f4")
    found = np.load(ja.carry_rows(amap, swapped, tmp_path / "two.npy"))
    np.testing.assert_array_equal(found, expected)
