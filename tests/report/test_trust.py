# SPDX-License-Identifier: Apache-2.0
import functools

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.report.trust import round_number
from jaxalign.trust.intervals import Interval
from jaxalign.trust.learning import LearningCurve
from jaxalign.trust.metrics import FitMetrics
from jaxalign.trust.result import AngleBound


@pytest.fixture(scope="module")
def trust():
    """What `assess_map` returns, with numbers that are all unlike."""
    agreement = Interval(*np.float32([0.891, 0.873, 0.912]))
    return ja.trust.Trust(
        anchors=np.int32(2000),
        blocks=np.float32(15.7),
        directions=np.int32(8),
        rank=np.int32(8),
        determined=np.int32(8),
        sensitivity=np.float32(0.1),
        metrics=FitMetrics(agreement, *[Interval(*np.float32([0.2, 0.1, 0.3]))] * 2),
        delta=None,
        held_out=Interval(*np.float32([0.214, 0.197, 0.231])),
        largest_angle=AngleBound(*np.float32([0.05, 0.0812])),
        geodesic_angle=AngleBound(*np.float32([0.07, 0.11])),
        learning=LearningCurve(*np.float32([0.221, 0.214, 0.206, 0.0, False])),
        status=np.int32(ja.Status.OK),
    )


def changed(trust, **learning):
    values = {name: np.float32(value) for name, value in learning.items()}
    return trust.replace(learning=trust.learning.replace(**values))


def test_enough(trust):
    verdict, agreement, directions = ja.report.describe_trust(trust)
    assert verdict.startswith("Enough anchors: 2,000. On anchors held out, the map ")
    for number in (trust.held_out.low, trust.held_out.high, trust.learning.limit):
        assert f"{100 * float(number):.1f}" in verdict
    for number in (trust.metrics.agreement.low, trust.metrics.agreement.high):
        assert f"{float(number):.3f}" in agreement
    assert "95 % interval" in agreement
    assert "determine 8 of 8 directions well" in directions
    degrees = np.degrees(float(trust.largest_angle.bound))
    assert f"within {degrees:.1f} degrees of the best one, with 95 %" in directions
    assert "the others" not in directions


def test_too_few(trust):
    verdict = ja.report.describe_trust(changed(trust, more=1234.5))[0]
    assert verdict.startswith(
        "Too few anchors: 2,000; about 1,300 more are needed, by "
    )
    verdict = ja.report.describe_trust(changed(trust, more=45, at_least=True))[0]
    assert "at least 45 more are needed before the errors show" in verdict
    fewer = changed(trust.replace(anchors=np.int32(5)), more=4, at_least=True)
    verdict = ja.report.describe_trust(fewer)[0]
    assert "at least 4 more are needed to cover every direction" in verdict


def test_directions_that_are_left_open(trust):
    say = functools.partial(
        ja.report.describe_trust, trust.replace(determined=np.int32(2))
    )
    assert "2 of 8 directions well" in say()[2]
    assert say()[2].endswith("which carry less, it errs by more than 11 degrees.")
    none = ja.report.describe_trust(trust.replace(determined=np.int32(0)))[2]
    assert "none of 8 directions" in none


def test_trouble_is_all_that_is_said(trust):
    bad = trust.replace(status=np.int32(ja.Status.NON_FINITE))
    [sentence] = ja.report.describe_trust(bad)
    assert sentence.startswith("No verdict: the moments or the scale are not finite.")


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(0.3, 1), (7.2, 8), (41.0, 41), (123.0, 130), (9.9e5, 990000)],
)
def test_numbers_are_rounded_up_to_two_figures(value, rounded):
    assert round_number(value) == rounded
