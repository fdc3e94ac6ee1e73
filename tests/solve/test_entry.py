# SPDX-License-Identifier: Apache-2.0
"""Rows as users bring them, at every call of moments and solvers that takes some."""

import functools
import re

import jax
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.solve.least_squares import solve_least_squares
from tests.cases import rows_pair

# `fit_mlp` calls optax.
pytestmark = [pytest.mark.standard_promotion, pytest.mark.usefixtures("no_shape_hook")]

N, WIDTH = 48, 6
TINY = {"hidden": 2, "steps": 1, "batch_size": 2, "evaluate_every": 1}


def update(source, target):
    return ja.moments.update_moments(
        ja.moments.init_moments(WIDTH, WIDTH), source, target
    )


def perceptron(source, target):
    return ja.solve.fit_mlp(source, target, **TINY)


# By the argument that the error names, which comes first.
CALLS = {
    "update_moments(source": update,
    "accumulate_moments(batches": lambda x, y: ja.accumulate_moments([(x, y)]),
    "solve_robust(source": ja.solve.solve_robust,
    "leave_one_out(source": ja.solve.leave_one_out,
    "solve_least_squares(blocks": lambda x, y: solve_least_squares([(x, y)]).matrix,
    "fit_mlp(source": perceptron,
    "polar_factor(matrix": lambda x, y: ja.solve.polar_factor(x),
}
CALLS |= {
    "update_moments(target": lambda y, x: update(x, y),
    "solve_robust(target": lambda y, x: ja.solve.solve_robust(x, y),
    "leave_one_out(target": lambda y, x: ja.solve.leave_one_out(x, y),
    "fit_mlp(target": lambda y, x: perceptron(x, y),
}


class Tensor:
    """What NumPy can read, as a torch tensor is."""

    def __init__(self, rows):
        self._rows, self.shape, self.ndim = rows, rows.shape, rows.ndim

    def __array__(self, dtype=None, copy=None):
        return self._rows


ROWS = rows_pair(np.random.default_rng(0), N, WIDTH, WIDTH)
REFUSED = {
    "complex": ROWS[0] + 1j,
    "int8": (100 * ROWS[0]).astype(np.int8),
    "list": ROWS[0].tolist(),
}
ACCEPTED = {
    ">f4": ROWS[0].astype(">f4"),
    "long double": ROWS[0].astype(np.longdouble),
    "tensor": Tensor(ROWS[0]),
}


@pytest.mark.parametrize("call", CALLS)
def test_rows_that_are_not_real_floating_numbers_are_refused(call):
    for rows in REFUSED.values():
        with pytest.raises(ValueError, match=re.escape(f"`{call}=...)`")):
            CALLS[call](rows, ROWS[1])


# A perceptron shares its entry with itself, and compiles longest.
@pytest.mark.parametrize("call", [call for call in CALLS if "mlp" not in call])
def test_other_byte_orders_precisions_and_tensors_are_taken(call):
    expected = jax.tree.leaves(CALLS[call](*ROWS))
    for rows in ACCEPTED.values():
        found = jax.tree.leaves(CALLS[call](rows, ROWS[1]))
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("weights", [np.ones(N) + 1j, [1.0] * N, np.ones(3)])
@pytest.mark.parametrize(
    "call", [update, ja.solve.solve_robust, ja.solve.leave_one_out]
)
def test_weights_are_real_numbers_one_a_row(call, weights):
    empty = ja.moments.init_moments(WIDTH, WIDTH)
    if call is update:
        call = functools.partial(ja.moments.update_moments, empty)
    with pytest.raises(ValueError, match="weights"):
        call(*ROWS, weights=weights)
