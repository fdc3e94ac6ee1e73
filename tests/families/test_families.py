# SPDX-License-Identifier: Apache-2.0
"""Every family that is fitted on moments: its formula, batches, and one program."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.errors import ArgumentError
from jaxalign.families.family import Family
from jaxalign.solve.scale import fit_scale
from tests.cases import moments_of, rows_pair
from tests.compilations import compilations
from tests.tolerances import LINEAR, PROCRUSTES, eps

D_SOURCE, D_TARGET = 7, 5
F32 = eps(np.float32)


def centred(source, target):
    x, y = (side.astype(np.float64) for side in (source, target))
    return x - x.mean(axis=0), y - y.mean(axis=0)


def partial(x, y, rank):
    u, _, vt = np.linalg.svd(y.T @ x, full_matrices=False)
    return u[:, :rank] @ vt[:rank]


def ridge(x, y, strength):
    gram = x.T @ x
    penalty = strength * np.trace(gram) / len(gram) * np.eye(len(gram))
    return y.T @ x @ np.linalg.inv(gram + penalty)


def low_rank(x, y, rank, strength):
    matrix, gram = ridge(x, y, strength), x.T @ x
    penalty = strength * np.trace(gram) / len(gram) * np.eye(len(gram))
    # The root of (G + l I)^-1, from the right, has the same left singular vectors.
    u = np.linalg.svd(matrix @ np.linalg.cholesky(gram + penalty))[0][:, :rank]
    return u @ u.T @ matrix


def whitened(x, y, ridge):
    def power(gram, exponent):
        values, vectors = np.linalg.eigh(gram / len(x))
        penalty = ridge * np.trace(gram) / len(x) ** 2
        return (vectors * (values + penalty) ** exponent) @ vectors.T

    between = power(y.T @ y, -0.25) @ (y.T @ x) @ power(x.T @ x, -0.5)
    u, _, vt = np.linalg.svd(between, full_matrices=False)
    return u @ vt


# A family, another one that must share its program, and its matrix from centred rows.
CASES = {
    "identified": (
        ja.Orthogonal(),
        ja.Orthogonal(),
        lambda x, y: partial(x, y, D_TARGET),
    ),
    "keep": (
        ja.Orthogonal(keep=3),
        ja.Orthogonal(keep=2),
        lambda x, y: partial(x, y, 3),
    ),
    "low rank": (
        ja.LowRank(2, 0.2),
        ja.LowRank(3, 0.5),
        lambda x, y: low_rank(x, y, 2, 0.2),
    ),
    "whitened": (
        ja.families.Whitened(2.0),
        ja.families.Whitened(),
        lambda x, y: whitened(x, y, 2.0),
    ),
    "ridge": (ja.Ridge(0.2), ja.Ridge(0.5), lambda x, y: ridge(x, y, 0.2)),
}


def draw(seed, n=60):
    return rows_pair(np.random.default_rng(seed), n, D_SOURCE, D_TARGET, noise=0.3)


@pytest.mark.parametrize("name", CASES)
def test_matrix_is_that_of_the_formula(name):
    family, _, expected = CASES[name]
    rows = draw(0)
    solved = family.solve(moments_of(*rows, grams=True))
    bound = max(LINEAR, PROCRUSTES) * F32
    np.testing.assert_allclose(solved.matrix, expected(*centred(*rows)), atol=bound)
    assert ja.Status(int(solved.status)) == ja.Status.OK
    amap = ja.fit_map(rows, family)
    np.testing.assert_allclose(amap.matrix, solved.matrix, atol=bound)
    assert amap.card["fit"]["family"] == family.to_json()


@pytest.mark.parametrize("name", CASES)
def test_a_batch_is_a_loop_and_other_options_share_its_program(name):
    family, other, _ = CASES[name]
    each = [moments_of(*draw(seed), grams=True) for seed in range(3)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)
    solved = family.solve(batch)
    with compilations() as compiled:
        other.solve(batch)
    assert not compiled
    for place, one in enumerate(each):
        np.testing.assert_allclose(
            solved.matrix[place], family.solve(one).matrix, atol=PROCRUSTES * F32
        )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", CASES)
def test_its_derivative_is_that_of_differences(name):
    family, _, _ = CASES[name]
    moments = moments_of(*(side.astype(np.float64) for side in draw(1)), grams=True)
    rng = np.random.default_rng(0)
    direction = jnp.asarray(rng.standard_normal((D_TARGET, D_SOURCE)))

    def found(cross):
        moved = dataclasses.replace(moments, cross_covariance=cross)
        return jnp.sum(jnp.sin(family.solve(moved).matrix))

    cross = moments.cross_covariance
    slope = jnp.sum(jax.jit(jax.grad(found))(cross) * direction)
    # The truncation of a central difference is of the step's square.
    step = 1e-4 * float(jnp.linalg.norm(cross))
    unit = step * direction / jnp.linalg.norm(direction)
    difference = (found(cross + unit) - found(cross - unit)) / (2 * step)
    expected = difference * jnp.linalg.norm(direction)
    assert abs(float(expected)) > 1e-6
    np.testing.assert_allclose(slope, expected, rtol=1e-5)


def test_families_that_are_not_whole_say_what_they_lack(no_shape_hook):
    class Nameless(Family):
        pass

    class Unsolved(Family):
        name = "unsolved"

    rows = draw(0)
    for make, match in (
        (Family, r"Family\(\).*`name`"),
        (Nameless, r"Nameless\(\).*`name`"),
        (Unsolved, r"Unsolved\.solve.*define it"),
    ):
        with pytest.raises(ArgumentError, match=match):
            ja.fit_map(rows, make())
    with pytest.raises(ArgumentError, match=r"Mlp\.solve.*call `fit`"):
        ja.Mlp().solve(moments_of(*rows))


def slope_and_difference(family, n, *, of, step=1e-5):
    """Derivative along one direction of the anchors' rows, and a central difference."""
    source, target = (side.astype(np.float64) for side in draw(3, n=n))
    direction = np.random.default_rng(4).standard_normal(source.shape)

    @jax.jit
    def found(rows):
        empty = ja.moments.init_moments(D_SOURCE, D_TARGET, grams=True)
        moments = ja.moments.update_moments(empty, rows, jnp.asarray(target))
        return of(moments, family.solve(moments))

    slope = jnp.sum(jax.grad(found)(jnp.asarray(source)) * direction)
    ahead, behind = (found(source + side * step * direction) for side in (1, -1))
    return float(slope), float(ahead - behind) / (2 * step)


def entries(moments, solved):
    del moments
    return jnp.sum(jnp.sin(solved.matrix))


def energy_scale(moments, solved):
    return fit_scale(
        moments,
        solved.matrix,
        scale="energy",
        isometry=False,
        within=solved.directions,
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("of", [entries, energy_scale])
@pytest.mark.parametrize(
    ("family", "n"),
    [(ja.Orthogonal(), 4), (ja.Orthogonal(keep=2), 40), (ja.Orthogonal(keep=2), 4)],
)
def test_the_derivative_of_a_part_is_that_of_differences(family, n, of):
    slope, difference = slope_and_difference(family, n, of=of)
    assert abs(difference) > 1e-3
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


def test_a_map_that_is_arbitrary_has_no_derivative():
    def slope(family, moments, order=jax.grad):
        def found(cross):
            moved = dataclasses.replace(moments, cross_covariance=cross)
            return jnp.sum(jnp.sin(family.solve(moved).matrix))

        return order(found)(moments.cross_covariance)

    rows = rows_pair(np.random.default_rng(5), 3, D_TARGET, D_TARGET)
    few = moments_of(*rows, grams=True)
    assert np.all(np.isnan(slope(ja.Orthogonal(keep="all"), few)))
    assert np.all(np.isfinite(slope(ja.Orthogonal(), few)))
    # Never a number that lacks a term.
    assert np.all(np.isnan(slope(ja.Orthogonal(), few, jax.hessian)))
    tied = dataclasses.replace(
        moments_of(*rows_pair(np.random.default_rng(6), 40, D_TARGET, D_TARGET)),
        cross_covariance=jnp.diag(jnp.array([3.0, 2.0, 2.0, 1.0, 0.5])),
    )
    assert np.all(np.isnan(slope(ja.Orthogonal(keep=2), tied)))
    assert np.all(np.isfinite(slope(ja.Orthogonal(keep=3), tied)))
    assert np.all(np.isfinite(slope(ja.Orthogonal(), tied, jax.hessian)))


@pytest.mark.usefixtures("x64")
def test_one_short_entry_leaves_the_derivative_of_the_others():
    rng = np.random.default_rng(7)
    each = [moments_of(*rows_pair(rng, n, 4, 4), grams=True) for n in (30, 3)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *each)

    def slope(moments, keep):
        def found(cross):
            moved = dataclasses.replace(moments, cross_covariance=cross)
            return jnp.sum(jnp.sin(ja.Orthogonal(keep=keep).solve(moved).matrix))

        return jax.grad(found)(moments.cross_covariance)

    for keep in ("all", "identified"):
        found = slope(batch, keep)
        for place, one in enumerate(each):
            np.testing.assert_allclose(found[place], slope(one, keep), atol=1e-6)
    assert np.all(np.isnan(slope(batch, "all")[1]))


def test_too_few_anchors_and_bad_numbers_are_told():
    for name, (family, _, _) in CASES.items():
        moments = moments_of(*draw(2), grams=True)
        cross = moments.cross_covariance.at[0, 0].set(jnp.nan)
        gram = moments.source_gram.at[0, 0].set(jnp.nan)
        spoilt = dataclasses.replace(moments, cross_covariance=cross, source_gram=gram)
        status = ja.Status(int(family.solve(spoilt).status))
        assert status == ja.Status.NON_FINITE, name
