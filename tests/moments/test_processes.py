# SPDX-License-Identifier: Apache-2.0
"""Two real processes of two devices each give the moments, and the map, of one."""

import numpy as np
import pytest

import jaxalign as ja
from tests.moments.pass_in_process import GROUPS, RUNS, rows
from tests.tolerances import PROCRUSTES, SUMS, eps
from tests.two_processes import run_in_two_processes

F32 = eps(np.float32)


@pytest.mark.slow
def test_two_processes_give_the_moments_of_one(tmp_path):
    run_in_two_processes("tests.moments.pass_in_process", tmp_path)
    source, target, group = rows()
    for groups in (None, GROUPS):
        empty = ja.moments.init_moments(6, 4, groups=groups, grams=True)
        expected = ja.moments.update_moments(
            empty, source, target, group=None if groups is None else group
        )
        rotation = np.asarray(ja.solve.solve_procrustes(expected).rotation)
        for name in [name for name, of_run in RUNS if of_run == groups]:
            both = [
                np.load(tmp_path / f"{name}-{groups}-{number}.npz")
                for number in range(2)
            ]
            for key in both[0]:
                np.testing.assert_array_equal(both[0][key], both[1][key])
            assert both[0]["rows"].tolist() == np.asarray(expected.rows).tolist()
            energy = float(np.max(expected.source_energy))
            for key in ("cross_covariance", "source_gram", "target_gram"):
                error = np.abs(both[0][key] - np.asarray(getattr(expected, key))).max()
                assert error < SUMS * F32 * energy, (name, key)
            error = np.abs(both[0]["rotation"] - rotation).max()
            assert error < PROCRUSTES * F32, name
