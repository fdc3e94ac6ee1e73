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
@pytest.mark.parametrize("name", [name for name in CASES if name != "keep"])
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


def test_too_few_anchors_and_bad_numbers_are_told():
    for name, (family, _, _) in CASES.items():
        moments = moments_of(*draw(2), grams=True)
        cross = moments.cross_covariance.at[0, 0].set(jnp.nan)
        gram = moments.source_gram.at[0, 0].set(jnp.nan)
        spoilt = dataclasses.replace(moments, cross_covariance=cross, source_gram=gram)
        status = ja.Status(int(family.solve(spoilt).status))
        assert status == ja.Status.NON_FINITE, name
