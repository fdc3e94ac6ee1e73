# SPDX-License-Identifier: Apache-2.0
"""Paired differences over seeds, against SciPy's t intervals."""

import numpy as np
import pytest
import scipy.stats

from jaxalign.evaluate.rows import ResultRow
from jaxalign.evaluate.seed_differences import differences_over_seeds


def rows_of(method, values, *, metric="image_cosine", seeds=None):
    seeds = range(len(values)) if seeds is None else seeds
    return [
        ResultRow("table", method, metric, value, None, 4, seed)
        for seed, value in zip(seeds, values, strict=True)
    ]


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("n", [2, 5, 40])
def test_interval_is_students(n, level):
    rng = np.random.default_rng(n)
    base, other = rng.uniform(0.2, 0.8, (2, n))
    rows = rows_of("base", base) + rows_of("other", other)
    (found,) = differences_over_seeds(rows, "base", level=level)
    gaps = other - base
    expected = scipy.stats.t.interval(
        level, n - 1, loc=gaps.mean(), scale=scipy.stats.sem(gaps)
    )
    assert found.mean == pytest.approx(gaps.mean())
    # The quantile is found in float32.
    assert found.interval == pytest.approx(expected, rel=1e-4)
    assert (found.method, found.metric, found.seeds) == ("other", "image_cosine", n)


def test_seeds_are_paired_and_what_has_no_partner_is_left_out():
    rows = rows_of("other", [0.5, 0.1, None, 0.9], seeds=[3, 1, 2, 8])
    rows += rows_of("base", [0.0, 0.2, 0.4], seeds=[1, 2, 3])
    rows += rows_of("base", [0.3], metric="caption_cosine")
    (found,) = differences_over_seeds(rows, "base")
    assert found.mean == pytest.approx(0.1)
    assert found.interval == pytest.approx((0.1, 0.1))
    assert found.seeds == 2
    assert found.sign == 1


@pytest.mark.parametrize(
    ("gaps", "sign"), [([0.1, 0.11], 1), ([-0.1, -0.11], -1), ([-0.1, 0.1], 0)]
)
def test_sign_is_that_of_an_interval_beside_zero(gaps, sign):
    rows = rows_of("base", [0.5, 0.5]) + rows_of("other", [0.5 + gap for gap in gaps])
    assert differences_over_seeds(rows, "base")[0].sign == sign


def test_one_seed_has_no_interval():
    rows = rows_of("base", [0.5]) + rows_of("other", [0.75])
    (found,) = differences_over_seeds(rows, "base")
    assert (found.mean, found.interval, found.sign) == (0.25, None, 0)


def test_errors_name_the_remedy():
    rows = rows_of("base", [0.5]) + rows_of("other", [0.75])
    with pytest.raises(ValueError, match="baseline"):
        differences_over_seeds(rows, "another")
    with pytest.raises(ValueError, match="rows"):
        differences_over_seeds([*rows, rows[0]], "base")
    with pytest.raises(ValueError, match="level"):
        differences_over_seeds(rows, "base", level=1.0)
