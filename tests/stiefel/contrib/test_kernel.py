# SPDX-License-Identifier: Apache-2.0
"""Kernel agreement from moments: against loops over rows, and least squares."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.stiefel import contrib, objectives
from tests.stiefel.objectives.table import (
    SHAPES,
    centred,
    moments_of_rows,
    problem,
    random_map,
    random_rows,
    value_and_gradient,
)
from tests.tolerances import OBJECTIVE, eps

F64 = eps(np.float64)

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.parametrize("centre", [True, False])
def test_kernel_compares_tables_of_similarities(centre):
    shape = SHAPES[1]
    source, target, weights, moments = problem(12, shape)
    texts = np.random.default_rng(13).standard_normal((7, shape[0])) + 0.5
    reference = contrib.reference_gram(moments_of_rows(texts, texts), centred=centre)
    objective = contrib.kernel_objective(moments, reference)
    point = random_map(14, shape)
    aligned = centred(source, weights) @ point.T + weights @ target / weights.sum()
    if centre:
        texts = texts - texts.mean(axis=0)
    total = 0.0
    for weight, one, other in zip(weights, aligned, target, strict=True):
        gaps = [one @ text - other @ text for text in texts]
        total += weight * np.mean(np.square(gaps))
    found, _ = value_and_gradient(objective, jnp.asarray(point))
    assert float(found) == pytest.approx(total / weights.sum(), rel=OBJECTIVE * F64)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_kernel_of_all_directions_is_least_squares(shape):
    *_, moments = problem(15, shape)
    kernel = contrib.kernel_objective(moments, np.eye(shape[0]))
    squares = objectives.least_squares_objective(moments)
    point = jnp.asarray(random_map(16, shape))
    for one, other in zip(
        value_and_gradient(kernel, point),
        value_and_gradient(squares, point),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=OBJECTIVE * F64, atol=1e-13)
    np.testing.assert_array_equal(
        kernel.closed_form_start(), squares.closed_form_start()
    )


@pytest.mark.usefixtures("no_shape_hook")
def test_errors_name_the_argument():
    moments = moments_of_rows(*random_rows(21, SHAPES[1]))
    bare = moments.replace(source_gram=None, target_gram=None)
    for call, name in (
        (lambda: contrib.kernel_objective(bare, np.eye(6)), "moments="),
        (lambda: contrib.reference_gram(bare), "moments="),
        (lambda: contrib.kernel_objective(moments, np.eye(4)), "reference_gram="),
    ):
        with pytest.raises(ValueError, match=name):
            call()
