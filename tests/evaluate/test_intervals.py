# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxalign.evaluate.intervals import ClusterBootstrap, bootstrap_interval


def test_covers_a_bernoulli_mean():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        values = rng.random(200) < 0.3
        low, high = bootstrap_interval(values, replicates=300, seed=trial)
        covered += low <= 0.3 <= high
    # 95 % of 200, less three standard deviations (3.1 each) and the method's own bias.
    assert 178 <= covered <= 199


def test_width_is_that_of_the_normal_approximation():
    values = np.arange(1000) < 300
    low, high = bootstrap_interval(values)
    expected = 2 * 1.96 * np.sqrt(0.3 * 0.7 / 1000)
    assert abs((high - low) / expected - 1) < 0.1


def test_is_deterministic_in_its_seed():
    values = np.random.default_rng(0).random(50)
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_groups_are_drawn_whole():
    # Ten copies of each value: by row the interval would be sqrt(10) too narrow.
    values = np.random.default_rng(0).random(40)
    alone = bootstrap_interval(values)
    copies = bootstrap_interval(values.repeat(10), np.arange(40).repeat(10))
    assert alone == pytest.approx(copies)


def test_ratio_uses_the_same_draws_above_and_below():
    bottom = np.random.default_rng(0).random(60) < 0.5
    bootstrap = ClusterBootstrap.draw(np.arange(60))
    assert bootstrap.ratio_interval(bottom, bottom) == (1.0, 1.0)
    assert bootstrap.ratio_interval(bottom, np.zeros(60)) is None


def test_one_group_has_no_interval():
    assert bootstrap_interval(np.arange(4.0), np.zeros(4)) is None


def test_errors():
    with pytest.raises(ValueError, match="groups"):
        ClusterBootstrap.draw(np.zeros(0))
    with pytest.raises(ValueError, match="replicates"):
        ClusterBootstrap.draw(np.zeros(3), replicates=0)
    bootstrap = ClusterBootstrap.draw(np.arange(3))
    with pytest.raises(ValueError, match="values"):
        bootstrap.mean_interval(np.ones(4))
    with pytest.raises(ValueError, match="level"):
        bootstrap.mean_interval(np.ones(3), level=1.5)
