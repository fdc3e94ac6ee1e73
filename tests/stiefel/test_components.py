# SPDX-License-Identifier: Apache-2.0
"""The two components of the orthogonal group, and the ways between them."""

import jax
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.stiefel.components import component, enter_other, reflect
from tests.cases import manifold_error, orthonormal
from tests.collectives import assert_no_collective
from tests.stiefel.optimizer_cases import planted
from tests.tolerances import POLAR, eps

F32 = eps(np.float32)


def test_components_and_reflections():
    rng = np.random.default_rng(0)
    points = np.stack([orthonormal(rng, 5, 5) for _ in range(8)]).astype(np.float32)
    points[:4, :, 0] *= -1
    signs = np.sign(np.linalg.det(points.astype(np.float64)))
    assert set(signs) == {-1.0, 1.0}
    np.testing.assert_array_equal(component(points), signs)
    reflected = reflect(points)
    np.testing.assert_array_equal(component(reflected), -signs)
    assert max(manifold_error(point) for point in reflected) <= POLAR * F32
    assert np.asarray(component(points[:, :3])).tolist() == [0] * 8
    points[3, 0, 0] = np.nan
    assert np.flatnonzero(np.asarray(component(points)) == 0).tolist() == [3]


def test_reflecting_a_procrustes_optimum_leads_to_the_other_one():
    cross, rotation, _ = planted(2, (8, 8))
    other = jax.jit(enter_other)(rotation, -cross)
    u, s, vt = np.linalg.svd(np.asarray(cross, np.float64))
    s[-1] *= -1
    assert np.sum(np.asarray(other) * np.asarray(cross)) == pytest.approx(
        s.sum(), rel=1e-5
    )
    assert int(component(other)) == -1


@pytest.mark.compiled_text
def test_components_of_a_sharded_batch_need_no_communication():
    sharding = ja.sharding.row_sharding(ja.sharding.data_mesh())
    # Collectives do not depend on the values.
    points = jax.device_put(np.ones((8, 5, 5), np.float32), sharding)
    text = jax.jit(component).lower(points).compile().as_text()
    assert_no_collective(text)


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    point = np.eye(3, dtype=np.float32)
    for wrong in (point[0], point.astype(int), [[1.0]]):
        with pytest.raises(ValueError, match=r"component\(point="):
            component(wrong)
    with pytest.raises(ValueError, match=r"reflect\(point="):
        reflect(point[:, :2])
