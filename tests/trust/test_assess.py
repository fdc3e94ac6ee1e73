# SPDX-License-Identifier: Apache-2.0
"""The whole assessment: its verdicts, its trouble, and what it depends on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.trust.assess import _assess
from jaxalign.trust.intervals import t_quantile
from tests.cases import rows_pair
from tests.trust.planted_blocks import Population, moments_of_blocks

POPULATION = Population(8, 0.5)
GROUPS, REPLICATES, MOST = 16, 40, 6400


def assess(moments, **options):
    # One chunk for all: the tests share two compilations.
    return ja.assess_map(moments, replicates=REPLICATES, chunk=64, **options)


def blocks_of(source, target, group=None, weights=None):
    """Moments of blocks, by one program: rows of weight 0 fill up."""
    n = len(source)
    group = np.arange(n) % GROUPS if group is None else group
    weights = np.ones(n, np.float32) if weights is None else weights
    padded = [
        ja.sharding.pad_rows(each, MOST)[0] for each in (source, target, group, weights)
    ]
    return moments_of_blocks(*padded[:3], GROUPS, padded[3])


def drawn(seed, n, population=POPULATION):
    return blocks_of(*population.draw(seed, n))


@pytest.fixture(scope="module")
def moments():
    # Uneven blocks.
    rows = POPULATION.draw(0, 800)
    return blocks_of(*rows, group=np.random.default_rng(0).integers(0, GROUPS, 800))


def test_a_good_fit(moments):
    trust = assess(moments).check()
    assert (int(trust.rank), int(trust.determined)) == (8, 8)
    assert int(trust.directions) == 8
    assert int(trust.anchors) == 800
    assert 14 < float(trust.blocks) < 16
    assert float(trust.learning.more) == 0
    found = trust.held_out
    assert found.low < found.estimate < found.high
    # A planted error of 0.2, and 28 angles to fit from 800 anchors.
    assert float(trust.learning.limit) == pytest.approx(0.2, abs=0.02)
    assert trust.learning.at_half > trust.learning.at_all > trust.learning.limit
    assert trust.largest_angle.typical < trust.largest_angle.bound < 0.15
    assert trust.largest_angle.bound <= trust.geodesic_angle.bound


def test_the_judged_map_is_the_fitted_one():
    source, target = POPULATION.draw(9, 800)
    # Of another spread: a map without a scale leaves more than all of it.
    target = np.float32(0.3) * target
    moments = blocks_of(source, target)
    amap = ja.fit_map(ja.moments.reduce_groups(moments), ja.Orthogonal(keep="all"))
    left = amap.card["fit"]["modalities"]["rows"]["relative_residual"]
    trust = assess(moments)
    for found in (trust.metrics, trust.delta.metrics):
        assert found.relative_residual.low < left < found.relative_residual.high
    assert left < trust.held_out.high < 1.5 * left
    plain = ja.trust.delta_intervals(moments, scale="none").metrics
    assert plain.relative_residual.low > 1


def test_same_seed_same_bits_and_other_order_of_blocks_same_law(moments):
    one, other = assess(moments, seed=1), assess(moments, seed=1)
    jax.tree.map(np.testing.assert_array_equal, one, other)
    different = assess(moments, seed=2)
    assert one.largest_angle.bound != different.largest_angle.bound


def test_several_axes_of_groups_count_as_one(moments):
    square = jax.tree.map(lambda x: x.reshape(4, 4, *x.shape[1:]), moments)
    for one, other in zip(
        jax.tree.leaves(assess(moments)), jax.tree.leaves(assess(square)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_wider_with_fewer_anchors_and_more_asked_for():
    few, many = (assess(drawn(1, n), tolerance=0.01) for n in (100, 6400))
    for name in ("largest_angle", "geodesic_angle"):
        # Angles go with the root of the number of anchors, here 8 times.
        ratio = getattr(few, name).bound / getattr(many, name).bound
        assert 5 < float(ratio) < 12
    assert few.learning.more > many.learning.more == 0


def test_the_anchors_asked_for_are_enough():
    noisy = Population(8, 1.5)
    first = assess(drawn(3, 120, noisy), tolerance=0.01)
    more = float(first.learning.more)
    assert int(first.status) == ja.Status.MORE_ANCHORS
    assert 60 < more < 2000
    later = assess(drawn(4, 120 + int(more), noisy), tolerance=0.01)
    # An estimate from 120 anchors: within a factor of two of the promised 1 %.
    left = float(later.learning.at_all / later.learning.limit) - 1
    assert 0.005 < left < 0.02


def test_weights_of_zero_are_no_anchors():
    source, target = POPULATION.draw(0, 800)
    masked = blocks_of(source, target, weights=1.0 * (np.arange(800) < 600))
    group = np.arange(600) % GROUPS
    cut = moments_of_blocks(source[:600], target[:600], group, GROUPS)
    one, other = assess(masked), assess(cut)
    assert int(one.anchors) == 600
    assert one.held_out.high == pytest.approx(float(other.held_out.high), rel=1e-4)


def test_a_spectrum_that_ends_is_told():
    source, target = POPULATION.draw(5, 800)
    # Three directions hold nothing.
    source[:, 5:] = 1.0
    trust = assess(blocks_of(source, target))
    assert int(trust.rank) == int(trust.determined) == 5
    assert int(trust.status) == ja.Status.RANK_DEFICIENT
    # Angles are those of what is determined, not of the arbitrary rest.
    assert float(trust.largest_angle.bound) < 0.3


def test_directions_that_are_noise_are_not_determined():
    trust = assess(drawn(6, 800, Population(8, 0.5, 3.0)))
    assert int(trust.rank) == 8
    assert 2 <= int(trust.determined) <= 6
    assert float(trust.largest_angle.bound) < 0.5


def test_noise_alone_determines_nothing():
    rng = np.random.default_rng(0)
    source, target = rng.standard_normal((2, 400, 8)).astype(np.float32)
    trust = assess(blocks_of(source, target))
    assert int(trust.determined) == 0
    assert float(trust.largest_angle.bound) == pytest.approx(np.pi)
    assert trust.metrics.agreement.low < 0.05


def test_no_noise_leaves_nothing_to_gain():
    trust = assess(drawn(7, 400, Population(8, 0.0)))
    assert int(trust.check().determined) == 8
    assert float(trust.learning.at_half) < 1e-5
    assert float(trust.largest_angle.bound) < 1e-4
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(trust))


def test_a_wider_source():
    source, target = rows_pair(np.random.default_rng(8), 600, 8, 5)
    group = np.arange(600) % GROUPS
    moments = moments_of_blocks(source, target, group, GROUPS, grams=True)
    trust = assess(moments, scale="energy")
    assert trust.delta is None
    assert int(trust.directions) == 5
    assert np.all(np.isfinite(jax.tree.leaves(trust.metrics)))
    assert 0 < float(trust.held_out.estimate) < 1


@pytest.mark.parametrize(
    ("spoil", "status"),
    [
        ("nan", ja.Status.NON_FINITE),
        ("empty", ja.Status.TOO_FEW_ANCHORS),
        ("uneven", ja.Status.FEW_BLOCKS),
    ],
)
def test_trouble_is_a_status(spoil, status):
    source, target = POPULATION.draw(0, 800)
    group, weights = np.arange(800) % GROUPS, np.ones(800, np.float32)
    if spoil == "nan":
        source[3, 2] = np.nan
    elif spoil == "empty":
        weights[:] = 0
    else:
        group = np.minimum(group, 1)
    trust = assess(blocks_of(source, target, group, weights))
    assert int(trust.status) == status
    with pytest.raises(ja.SolveError, match=status.name):
        trust.check()


def test_the_second_call_does_not_compile(moments):
    assess(moments)
    before = _assess._cache_size()
    assess(moments, seed=5)
    assert _assess._cache_size() == before


@pytest.mark.parametrize("share", [0.8, 0.95, 0.975, 0.995])
def test_student_quantiles_are_scipys(share):
    import scipy.stats

    dof = np.array([7.0, 15.0, 63.0, 1000.0])
    expected = scipy.stats.t.ppf(share, dof)
    np.testing.assert_allclose(t_quantile(share, jnp.asarray(dof)), expected, 5e-4)


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    for call in (ja.assess_map, ja.trust.delta_intervals):
        for few in (
            ja.moments.init_moments(2, 2, groups=7),
            ja.moments.init_moments(2, 2),
            np.eye(3),
        ):
            with pytest.raises(ValueError, match="moments="):
                call(few)
    moments = ja.moments.init_moments(2, 2, groups=GROUPS)
    for options in ({"level": 95}, {"replicates": 5}, {"tolerance": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}="):
            ja.assess_map(moments, **options)
