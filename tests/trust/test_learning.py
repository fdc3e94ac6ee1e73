# SPDX-License-Identifier: Apache-2.0
"""How many more anchors: exact where errors fall like 1 / n, careful elsewhere."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxalign.trust.learning import learning_curve

SHARE = 63 / 64


def curve(at_half, at_most, anchors=1000, directions=8, tolerance=0.05):
    return learning_curve(
        jnp.float32(at_half),
        jnp.float32(at_most),
        share=SHARE,
        anchors=jnp.int32(anchors),
        directions=directions,
        tolerance=tolerance,
    )


@settings(deadline=None)
@given(st.floats(0.05, 0.9), st.floats(0.001, 0.5), st.floats(0.01, 0.5))
def test_the_anchors_asked_for_reach_the_tolerance(limit, fall, tolerance):
    found = curve(limit + 2 * fall, limit + fall / SHARE, tolerance=tolerance)
    assert found.at_all == pytest.approx(limit + fall, rel=1e-3)
    assert found.limit == pytest.approx(limit, rel=1e-2)
    allowed = max(tolerance * limit, 1e-3)
    then = fall * 1000 / (1000 + float(found.more))
    if fall > 1.01 * allowed:
        assert then == pytest.approx(allowed, rel=2e-2)
    if fall < 0.99 * allowed:
        assert float(found.more) == 0
    assert not found.at_least


def test_a_perfect_fit_has_enough():
    assert float(curve(1e-7, 3e-8).more) == 0


def test_errors_that_do_not_fall_ask_for_nothing():
    assert float(curve(0.3, 0.31).more) == 0


def test_fewer_anchors_than_directions_ask_for_the_missing_ones():
    found = curve(0.8, 0.5, anchors=20, directions=64)
    assert found.at_least
    assert float(found.more) == 45
    # Not where the held-out error shows that what is missing carries nothing.
    found = curve(0.3, 0.2999, anchors=20, directions=64)
    assert not found.at_least
    assert float(found.more) == 0


@pytest.mark.parametrize("anchors", [20, 24, 40])
def test_with_few_anchors_a_direction_nothing_is_extrapolated(anchors):
    # As measured with 16 directions and a noise of 0.3, where 200 anchors are enough.
    found = curve(0.7, 0.1, anchors=anchors, directions=16)
    assert found.at_least
    assert float(found.more) == 3 * 17 - anchors


def test_a_limit_is_never_negative():
    assert float(curve(0.9, 0.3).limit) == 0.0
    assert np.isfinite(float(curve(0.9, 0.3).more))
