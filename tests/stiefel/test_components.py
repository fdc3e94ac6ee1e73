# SPDX-License-Identifier: Apache-2.0
"""The two components of the orthogonal group, and the ways between them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.stiefel.components import component, enter_other, reflect
from jaxalign.stiefel.draws import random_point
from tests.cases import manifold_error
from tests.collectives import assert_no_collective
from tests.stiefel.optimizer_cases import planted
from tests.tolerances import POLAR, eps

F32 = eps(np.float32)


def test_components_and_reflections():
    points = random_point(jax.random.key(0), (40, 5, 5))
    signs = np.sign(np.linalg.det(np.asarray(points, np.float64)))
    np.testing.assert_array_equal(component(points), signs)
    # Both come up: all 40 alike has a chance of 2e-12.
    assert set(signs) == {-1.0, 1.0}
    np.testing.assert_array_equal(component(reflect(points)), -signs)
    assert max(manifold_error(point) for point in reflect(points)) <= POLAR * F32
    assert np.asarray(component(points[:, :3])).tolist() == [0] * 40
    assert int(component(points[0].at[0, 0].set(jnp.nan))) == 0


def test_reflecting_a_procrustes_optimum_leads_to_the_other_one():
    cross, rotation, _ = planted(2, (8, 8))
    other = enter_other(rotation, -cross)
    u, s, vt = np.linalg.svd(np.asarray(cross, np.float64))
    s[-1] *= -1
    assert np.sum(np.asarray(other) * np.asarray(cross)) == pytest.approx(
        s.sum(), rel=1e-5
    )
    assert int(component(other)) == -1


def test_components_of_a_sharded_batch_need_no_communication():
    sharding = ja.row_sharding(ja.data_mesh())
    points = jax.device_put(random_point(jax.random.key(7), (8, 5, 5)), sharding)
    text = jax.jit(component).lower(points).compile().as_text()
    assert_no_collective(text)


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_say_what_to_do():
    point = np.eye(3, dtype=np.float32)
    for wrong in (point[0], point.astype(int), [[1.0]]):
        with pytest.raises(ValueError, match="pass a matrix such as"):
            component(wrong)
    with pytest.raises(ValueError, match="need no reflection"):
        reflect(point[:, :2])
