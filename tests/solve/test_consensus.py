# SPDX-License-Identifier: Apache-2.0
"""Consensus: planted frames come back, cycles close, no map can be turned better."""

import jax
import numpy as np
import pytest
import scipy.linalg

import jaxalign as ja
from tests.cases import moments_of, orthonormal, stack
from tests.tolerances import PROCRUSTES, SUMS, descent, eps

F32 = eps(np.float32)
TRIANGLE = ((0, 1), (1, 2), (2, 0))
CHAIN = ((0, 1), (1, 2), (2, 3))


def planted_models(seed, widths, noise=0.0, n=300):
    """Rows of several models that see the same things, each in its own frame."""
    rng = np.random.default_rng(seed)
    d = min(widths)
    seen = rng.standard_normal((n, d)) * np.geomspace(1.0, 0.5, d)
    frames = [orthonormal(rng, width, d) for width in widths]
    rows = [
        (seen @ frame.T + noise * rng.standard_normal((n, width))).astype(np.float32)
        for frame, width in zip(frames, widths, strict=True)
    ]
    return rows, frames


def solve(rows, pairs, **options):
    moments = [moments_of(rows[i], rows[j]) for i, j in pairs]
    return ja.solve.solve_consensus(moments, pairs, **options)


@pytest.mark.parametrize("pairs", [TRIANGLE, CHAIN])
def test_planted_frames_come_back(pairs):
    models = 1 + max(max(pair) for pair in pairs)
    rows, frames = planted_models(0, (6,) * models)
    found = solve(rows, pairs).check()
    np.testing.assert_allclose(found.rotations[0], np.eye(6), atol=PROCRUSTES * F32)
    for i in range(models):
        for j in range(models):
            planted = frames[j] @ frames[i].T
            map_ij = found.between(i, j)
            np.testing.assert_allclose(map_ij, planted, atol=PROCRUSTES * F32)
    assert np.all(np.asarray(found.residual) <= SUMS * F32)
    assert len(found.triangles) == len(found.cycle_error) == (pairs is TRIANGLE)
    assert np.all(np.asarray(found.cycle_error) <= PROCRUSTES * F32)


def test_noise_is_shared_and_no_map_can_be_turned_better():
    rng = np.random.default_rng(1)
    rows, _ = planted_models(1, (6, 6, 6), noise=0.5)
    found = solve(rows, TRIANGLE).check()
    # A frame costs each pair something, and pairwise maps do not close the triangle.
    direct, framed = np.asarray(found.pair_residual), np.asarray(found.residual)
    assert np.all(framed >= direct - SUMS * F32)
    assert 1e-3 < float(found.cycle_error[0]) < 1.0
    around = np.linalg.multi_dot(
        [np.asarray(found.between(*p)) for p in TRIANGLE[::-1]]
    )
    np.testing.assert_allclose(around, np.eye(6), atol=PROCRUSTES * F32)

    def error(maps):
        centred = [np.asarray(r, np.float64) - r.mean(axis=0) for r in rows]
        moved = [r @ np.asarray(q).T for r, q in zip(centred, maps, strict=True)]
        return sum(np.sum((moved[i] - moved[j]) ** 2) for i, j in TRIANGLE)

    best = error(found.rotations)
    for model in range(3):
        for size in (1e-2, 1.0):
            skew = size * rng.standard_normal((6, 6))
            maps = list(found.rotations)
            maps[model] = scipy.linalg.expm(skew - skew.T) @ np.asarray(maps[model])
            assert error(maps) > best


def test_two_models_are_plain_procrustes():
    rows, _ = planted_models(2, (6, 6), noise=0.5)
    found = solve(rows, [(0, 1)])
    plain = ja.solve.solve_procrustes(moments_of(*rows))
    # Stopped once the gradient is below eps^(3/4).
    np.testing.assert_allclose(
        found.between(0, 1), plain.rotation, atol=descent(np.float32)
    )
    np.testing.assert_allclose(found.residual, found.pair_residual, rtol=1e-3)


def test_renaming_models_renames_maps():
    rows, _ = planted_models(3, (6, 6, 6), noise=0.5)
    found = solve(rows, TRIANGLE)
    order = (2, 0, 1)
    renamed = solve(
        [rows[order.index(m)] for m in range(3)],
        [(order[i], order[j]) for i, j in TRIANGLE],
    )
    np.testing.assert_allclose(
        renamed.between(order[0], order[1]),
        found.between(0, 1),
        atol=descent(np.float32),
    )


def test_unequal_widths_share_the_narrowest_frame():
    rows, frames = planted_models(4, (6, 8, 9), noise=0.0)
    found = solve(rows, TRIANGLE)
    assert [r.shape for r in found.rotations] == [(6, 6), (6, 8), (6, 9)]
    for i, j in TRIANGLE:
        moved = (rows[i] - rows[i].mean(axis=0)) @ np.asarray(found.between(i, j)).T
        np.testing.assert_allclose(
            moved, rows[j] - rows[j].mean(axis=0), atol=PROCRUSTES * F32
        )
    assert np.all(np.asarray(found.residual) <= SUMS * F32)
    assert np.all(np.isnan(found.pair_residual))


def test_few_anchors_and_bad_rows_get_a_code_and_a_batch_is_a_list():
    rows, _ = planted_models(5, (6, 6, 6), n=4)
    assert int(solve(rows, TRIANGLE).status) == ja.Status.RANK_DEFICIENT
    rows, _ = planted_models(5, (6, 6, 6), noise=0.3)
    moments = [moments_of(rows[i], rows[j]) for i, j in TRIANGLE]
    batched = ja.solve.solve_consensus(
        jax.tree.map(np.asarray, stack(*moments)), TRIANGLE
    )
    listed = ja.solve.solve_consensus(moments, TRIANGLE)
    np.testing.assert_allclose(
        batched.rotations[2], listed.rotations[2], atol=descent(np.float32)
    )
    rows[1][3, 2] = np.nan
    bad = solve(rows, TRIANGLE)
    assert int(bad.status) == ja.Status.NON_FINITE
    with pytest.raises(ja.SolveError, match="`solve_consensus`: NON_FINITE"):
        bad.check()


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    one, other = ja.moments.init_moments(4, 4), ja.moments.init_moments(4, 5)
    for moments, pairs, options, argument in (
        ([one], [(0, 1), (1, 2)], {}, "pair_moments, pairs"),
        ([one], [(1, 1)], {}, "pairs="),
        ([one, other], [(0, 1), (2, 0)], {}, "one width for model 0"),
        ([one, one], [(0, 1), (1, 0)], {}, "pairs="),
        ([one, one], [(0, 1), (2, 3)], {}, "pairs="),
        ([one], [(0, 1)], {"width": 5}, "width=5"),
        ([one], [(0, 1)], {"max_iterations": 0}, "max_iterations=0"),
        (one, [(0, 1)], {}, "pair_moments="),
        ([np.eye(4)], [(0, 1)], {}, "pair_moments, pairs"),
        (
            [ja.moments.init_moments(4, 4, groups=2)],
            [(0, 1)],
            {},
            "pair_moments, pairs",
        ),
    ):
        with pytest.raises(ValueError, match=argument):
            ja.solve.solve_consensus(moments, pairs, **options)
