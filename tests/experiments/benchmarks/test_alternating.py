# SPDX-License-Identifier: Apache-2.0
"""Calls take turns, warm-ups are not counted, and medians are of the rest."""

import itertools

import pytest

from experiments.benchmarks import alternating


def test_calls_take_turns_and_warm_ups_are_not_counted(monkeypatch):
    order = []
    # Each call takes 1, 2, 3, ... ticks of a clock that only calls move.
    lengths = {name: itertools.count(1) for name in "ab"}
    now = 0

    def call(name):
        def run():
            nonlocal now
            order.append(name)
            now += next(lengths[name])

        return run

    monkeypatch.setattr(alternating.time, "perf_counter", lambda: now)
    medians = alternating.median_seconds(
        {"a": call("a"), "b": call("b")}, rounds=3, warmups=2
    )
    assert order == ["a", "b"] * 5
    # Runs 3, 4 and 5 are counted.
    assert medians == {"a": pytest.approx(4), "b": pytest.approx(4)}
