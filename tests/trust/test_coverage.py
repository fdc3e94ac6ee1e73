# SPDX-License-Identifier: Apache-2.0
"""95 % intervals hold the planted truth in about 95 % of data sets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.solve.procrustes import identified_directions
from jaxalign.trust.angles import map_angles
from jaxalign.trust.metrics import METRICS
from tests.trust.planted_blocks import Population

DATA_SETS = 400


def three_errors_off(share, sign):
    """Add or take three binomial standard errors of a share of the data sets."""
    return share + sign * 3 * np.sqrt(share * (1 - share) / DATA_SETS)


# A construction that covers 0.94 to 0.96 stays inside, but for one case in 400.
LOWEST, HIGHEST = three_errors_off(0.94, -1), three_errors_off(0.96, 1)

CASES = {
    "falling": (Population(16, 0.5, 0.5), 1000, 64),
    "wider target": (Population(8, 0.5, 0.0, 12), 1000, 64, "none"),
    "few blocks": (Population(8, 0.5), 500, 16),
    "ends in noise": (Population(24, 0.5, 1.5), 1000, 64),
}


def cover(interval, truth):
    return np.mean((interval.low <= truth) & (truth <= interval.high))


def covered(population, n, groups, scale="energy", *, data_sets, replicates):
    """Assess many data sets of one population, and count what holds its truth."""
    planted = jnp.asarray(population.rotation, jnp.float32)
    direction = np.zeros(planted.shape, np.float32)
    direction[0, 0] = direction[1, 2] = 0.5

    @jax.jit
    def assess(key):
        moments = population.blocks(key, n, groups)
        trust = ja.assess_map(moments, scale=scale, replicates=replicates, chunk=100)
        whole = ja.moments.reduce_groups(moments)
        solution = ja.solve.solve_procrustes(whole, scale=scale)
        rotation = solution.rotation
        basis = identified_directions(whole, trust.determined).source
        angles = map_angles(rotation, planted, basis)
        linear = ja.trust.rotation_interval(moments, direction)
        means = (whole.source_mean, whole.target_mean)
        return trust, angles, linear, (solution.scale * rotation, *means)

    keys = jax.random.split(jax.random.key(11), data_sets)
    found = jax.tree.map(np.asarray, jax.lax.map(assess, keys))
    trust, angles, linear, maps = found
    shares = {
        "largest": np.mean(angles.largest <= trust.largest_angle.bound),
        "geodesic": np.mean(angles.geodesic <= trust.geodesic_angle.bound),
        "linear": cover(linear, np.sum(direction * population.rotation)),
        "held out": cover(
            trust.held_out,
            np.array([population.new_error(*each) for each in zip(*maps, strict=True)]),
        ),
    }
    for name in METRICS:
        truth = getattr(population, name)
        truth = truth if name == "agreement" else truth(scale)
        shares[name] = cover(getattr(trust.metrics, name), truth)
        shares[f"{name}, first order"] = cover(
            getattr(trust.delta.metrics, name), truth
        )
    return shares


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_95_percent_intervals_hold_the_truth_in_95_percent(case):
    shares = covered(*CASES[case], data_sets=DATA_SETS, replicates=300)
    outside = {k: v for k, v in shares.items() if not LOWEST <= v <= HIGHEST}
    assert not outside
