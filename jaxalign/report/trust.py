# SPDX-License-Identifier: Apache-2.0
"""Sentences on the trust in a map: enough anchors, or how many more are needed."""

import math

from jaxalign.status import STATUS_TEXTS, Status
from jaxalign.trust.intervals import Interval
from jaxalign.trust.result import Trust

_SAID_BY_VERDICT = (Status.OK, Status.RANK_DEFICIENT, Status.MORE_ANCHORS)


def describe_trust(trust: Trust) -> list[str]:
    """Say in plain sentences how far a map can be trusted.

    Args:
      trust: of one map, as `assess_map` gives it; read on the host.

    Returns:
      The verdict ("Enough anchors: ..." or "Too few anchors: about N more ..."), the
      agreement, and what the anchors determine. Where the numbers mean nothing, one
      sentence that says why.
    """
    status = Status(int(trust.status))
    if status not in _SAID_BY_VERDICT:
        return [f"No verdict: {STATUS_TEXTS[status]}"]
    return [_verdict(trust), _agreement(trust), _directions(trust)]


def round_number(value: float) -> int:
    """Round up to two figures: an estimate claims no more.

    >>> round_number(1234.0), round_number(7.2)
    (1300, 8)
    """
    if value < 1:
        return 1
    step = 10 ** max(0, math.floor(math.log10(value)) - 1)
    return int(step * math.ceil(value / step))


def _verdict(trust: Trust) -> str:
    """Enough anchors, or how many more, with the held-out error as its reason."""
    curve, anchors = trust.learning, f"{int(trust.anchors):,}"
    left = (
        f"On anchors held out, the map leaves {_share(trust.held_out)} of the target's "
        "spread"
    )
    limit = f"{100 * float(curve.limit):.1f} %"
    if float(curve.more) <= 0:
        return (
            f"Enough anchors: {anchors}. {left}, and more anchors would bring it to "
            f"about {limit}."
        )
    more = f"{round_number(float(curve.more)):,}"
    if bool(curve.at_least):
        few = int(trust.anchors) <= int(trust.directions)
        why = "to cover every direction once"
        if not few:
            why = "before the errors show how many it takes"
        return (
            f"Too few anchors: {anchors}; at least {more} more are needed {why}. "
            f"{left}."
        )
    return (
        f"Too few anchors: {anchors}; about {more} more are needed, by an estimate "
        f"from how errors fall with their number. {left}, and enough anchors would "
        f"bring it to about {limit}."
    )


def _agreement(trust: Trust) -> str:
    """Agreement of the best map, with its interval."""
    found = trust.metrics.agreement
    level = f"{100 * trust.level:g} %"
    ends = f"{float(found.low):.3f} to {float(found.high):.3f}"
    return (
        f"The best map of such rows has agreement {float(found.estimate):.3f} ({level} "
        f"interval {ends}), from {round(float(trust.blocks))} blocks of anchors."
    )


def _directions(trust: Trust) -> str:
    """Number of directions that are determined, and their accuracy."""
    determined, width = int(trust.determined), int(trust.directions)
    if determined == 0:
        return (
            f"The anchors determine none of {width} directions to within 11 degrees: "
            "treat these parts of the map as arbitrary, whatever its error."
        )
    bound = math.degrees(float(trust.largest_angle.bound))
    rest = (
        ""
        if determined == width
        else "; along the others, which carry less, it errs by more than 11 degrees"
    )
    return (
        f"The anchors determine {determined} of {width} directions well; there the map "
        f"is within {bound:.1f} degrees of the best one, with {100 * trust.level:g} % "
        f"confidence{rest}."
    )


def _share(interval: Interval) -> str:
    """Write an interval of a share in per cent."""
    low, middle, high = (
        100 * float(value) for value in (interval.low, interval.estimate, interval.high)
    )
    return f"{middle:.1f} % ({low:.1f} to {high:.1f} %)"
