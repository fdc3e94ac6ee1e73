# SPDX-License-Identifier: Apache-2.0
"""Trust in the anchors of a report: things stay whole, and few of them give no word."""

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.trust.anchors import assess_anchors
from tests.cases import rows_pair

N, D = 240, 6


def anchors(n=N, copies=1, ids=True):
    """Anchors of n pictures in so many copies, and n texts of the same things."""
    rng = np.random.default_rng(0)
    images, texts = rows_pair(rng, n, D, D), rows_pair(rng, n, D, D)
    names = np.array([f"thing {i}" for i in range(n)])
    again = np.tile(np.arange(n), copies)
    return ja.Anchors(
        {"image": (images[0][again], images[1][again]), "text": texts},
        ids={"image": names[again], "text": names} if ids else None,
    )


def width(interval):
    return float(interval.high - interval.low)


def test_enough_anchors_are_told_of_the_right_rows():
    trust = assess_anchors(anchors(), replicates=40)
    assert ja.report.describe_trust(trust)[0].startswith(f"Enough anchors: {N}")
    text = assess_anchors(anchors(), fit_on="text", replicates=40)
    assert float(text.held_out.estimate) != float(trust.held_out.estimate)
    both = assess_anchors(anchors(), fit_on="all", replicates=40)
    assert int(both.anchors) == 2 * N


def test_copies_of_a_thing_tell_nothing_new():
    once = assess_anchors(anchors(), replicates=40)
    copied = assess_anchors(anchors(copies=4), replicates=40)
    loose = assess_anchors(anchors(copies=4, ids=False), replicates=40)
    # Blocks hold all copies of a thing: the interval is that of the things.
    assert width(copied.metrics.agreement) == pytest.approx(
        width(once.metrics.agreement), rel=1e-3
    )
    assert width(loose.metrics.agreement) < 0.8 * width(once.metrics.agreement)


def test_too_few_things_give_no_verdict():
    trust = assess_anchors(anchors(n=6, copies=3), replicates=40)
    assert ja.Status(int(trust.status)) == ja.Status.FEW_BLOCKS
    [sentence] = ja.report.describe_trust(trust)
    assert sentence.startswith("No verdict: ")
