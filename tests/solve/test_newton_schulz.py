# SPDX-License-Identifier: Apache-2.0
"""Steps of the iterative polar factors: best polynomials, safe scaling, few steps."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxalign as ja
from jaxalign.solve.minimax import best_quintic, minimax_schedule
from jaxalign.solve.newton_schulz import scale_to_unit
from tests.cases import prescribed
from tests.tolerances import POLAR, eps

F32 = eps(np.float32)


@settings(deadline=None, max_examples=50)
@given(low=st.floats(1e-4, 0.9))
def test_best_quintic_errs_equally_four_times_and_no_more(low):
    (a, b, c), error = best_quintic(low, 1.0)
    x = np.linspace(low, 1.0, 20001)
    missed = 1.0 - (a * x + b * x**3 + c * x**5)
    assert np.max(np.abs(missed)) == pytest.approx(error, rel=1e-6, abs=1e-12)
    extremes = missed[np.abs(missed) > error * (1 - 1e-4) - 1e-12]
    # Chebyshev: four extrema of alternating sign prove that none is better.
    assert np.sum(np.diff(np.sign(extremes)) != 0) == 3


@settings(deadline=None, max_examples=30)
@given(lower=st.floats(1e-7, 0.3))
def test_schedule_carries_the_whole_interval_near_one(lower):
    x = np.geomspace(lower, 1.0, 20001)
    for a, b, c in minimax_schedule(lower):
        x = a * x + b * x**3 + c * x**5
        # What is large stays large: below this, rounding would show.
        assert np.all(x[-100:] > 0.05)
    assert np.max(np.abs(x - 1.0)) <= 0.3 + 1e-9


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("condition", [1.0, 1e3])
def test_scaling_bounds_the_largest_value_and_does_not_overflow(size, condition):
    matrix = size * prescribed(np.random.default_rng(0), (64, 32), condition)
    scaled = np.asarray(scale_to_unit(jnp.asarray(matrix)), np.float64)
    largest = np.linalg.norm(scaled, 2)
    assert 32**-0.125 - POLAR * F32 <= largest <= 1.0
    assert not np.any(scale_to_unit(jnp.zeros((3, 2))))


def test_good_matrices_take_few_steps_by_qdwh():
    rng = np.random.default_rng(1)
    steps = [
        int(
            ja.solve.polar_factor(
                prescribed(rng, (32, 32), c), method="qdwh"
            ).iterations
        )
        for c in (1.0, 10.0, 1e3, 1e5)
    ]
    assert steps == sorted(steps)
    assert steps[0] <= 3
    assert steps[-1] <= 7
