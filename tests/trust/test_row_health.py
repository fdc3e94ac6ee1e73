# SPDX-License-Identifier: Apache-2.0
"""What a pass counts is what NumPy finds with all rows in memory."""

import numpy as np
import pytest

from jaxalign.trust import row_health
from jaxalign.trust.row_health import examine_rows


def _examine(rows, batch=7, **options):
    batches = [rows[start : start + batch] for start in range(0, len(rows), batch)]
    return examine_rows(batches, rows=len(rows), width=rows.shape[1], **options)


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(50, 6))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_clean_rows(rows, dtype):
    rows = rows.astype(dtype)
    found = _examine(rows)
    assert (found.rows, found.bad, found.repeated.count) == (50, 0, 0)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    expected = (norms.min(), np.sqrt(np.mean(norms**2)), norms.max())
    np.testing.assert_allclose(found.norms, expected, rtol=1e-5)
    np.testing.assert_allclose(found.mean, rows.astype(float).mean(0), atol=1e-6)
    assert found.half_values == (dtype == np.float16)
    assert not len(found.constant)


def test_bad_rows_are_counted_and_placed_and_count_for_nothing_else(rows):
    clean = _examine(np.delete(rows, [2, 8, 30, 44], axis=0))
    rows[2], rows[8, 1], rows[30], rows[44] = np.nan, np.inf, 0, 0
    found = _examine(rows)
    assert found.not_finite == (2, (2, 8))
    assert found.zero == (2, (30, 44))
    assert found.repeated.count == 0
    assert found.norms == pytest.approx(clean.norms)
    np.testing.assert_allclose(found.mean, clean.mean)


def test_equal_rows_are_found_across_batches(rows):
    rows[[20, 41]] = rows[3]
    rows[3, 0] = rows[20, 0] = rows[41, 0] = 0.0
    rows[41, 0] = -0.0
    assert _examine(rows).repeated == (2, (20, 41))


def test_columns_of_one_value(rows):
    rows[:, 4] = 0.5
    assert _examine(rows).constant.tolist() == [4]


def test_only_some_rows_are_compared_and_kept(rows, monkeypatch):
    monkeypatch.setattr(row_health, "MOST_COMPARED", 10)
    rows[30] = rows[3]
    found = _examine(rows, sample=10)
    assert (found.compared, found.repeated.count) == (10, 0)
    np.testing.assert_allclose(found.sample, rows[::5], rtol=1e-6)


def test_no_rows():
    found = _examine(np.zeros((0, 3), np.float32))
    assert (found.rows, found.bad, len(found.sample)) == (0, 0, 0)
