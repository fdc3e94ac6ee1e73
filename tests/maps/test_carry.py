# SPDX-License-Identifier: Apache-2.0
"""Rows from file to file: those that the map gives, whatever the batches."""

import numpy as np
import pytest

import jaxalign as ja
from tests.cases import rows_pair
from tests.tolerances import ROWS, eps

N = 50


@pytest.fixture
def amap():
    pairs = rows_pair(np.random.default_rng(0), 40, 6, 6, mean=0.9)
    return ja.fit_map({"image": pairs}, source_space="aa", target_space="bb")


@pytest.fixture
def rows(tmp_path):
    rows, _ = rows_pair(np.random.default_rng(1), N, 6, 6, mean=0.9)
    np.save(tmp_path / "rows.npy", rows)
    return np.load(tmp_path / "rows.npy", mmap_mode="r")


@pytest.mark.parametrize("batch_size", [7, 50, 64])
@pytest.mark.parametrize("normalize", [True, False])
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
def test_errors_say_what_to_do(amap, rows, tmp_path):
    with pytest.raises(ValueError, match="float16 halves"):
        ja.carry_rows(amap, rows, tmp_path / "x.npy", dtype="float64")
    with pytest.raises(ValueError, match=r"shape \(0, 6\)"):
        ja.carry_rows(amap, rows[:0], tmp_path / "x.npy")


@pytest.mark.usefixtures("no_shape_hook")
def test_rows_that_no_file_can_hold_leave_none(tmp_path):
    rows = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    amap = ja.fit_map({"image": (rows, rows)})
    path = tmp_path / "rows.npy"
    with pytest.raises(ValueError, match="expected entries up to 65504, got .*e"):
        ja.carry_rows(amap, 1e6 * rows, path, normalize=False, dtype="float16")
    for bad in ({"rows": rows.tolist()}, {"rows": rows, "batch_size": 1.5}):
        with pytest.raises(ValueError, match="whole batches of at least 1"):
            ja.carry_rows(amap, path=path, **bad)
    assert not list(tmp_path.iterdir())
    lost = rows.copy()
    lost[3] = np.nan
    carried = np.load(ja.carry_rows(amap, lost, path))
    assert np.isnan(carried[3]).all()
    assert np.isfinite(np.delete(carried, 3, axis=0)).all()
