# SPDX-License-Identifier: Apache-2.0
"""Rough products: for terms whose relative error the step itself makes good.

Matrix units multiply bfloat16 several times as fast as float32. Where a term is small
beside what it is added to, and its error is measured and corrected by the next product
in full precision, nothing is lost.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxalign.array_types import Array
from jaxalign.errors import ArgumentError
from jaxalign.precise import product

Precision = Literal["full", "mixed"]

_HIGHEST = jax.lax.Precision.HIGHEST


def rough_product(
    left: Float[Array, "*batch rows inner"], right: Float[Array, "*batch inner columns"]
) -> Float[Array, "*batch rows columns"]:
    """Multiply operands rounded to bfloat16, summed in the dtype they came in.

    Relative to the operands' norms the error is 2^-8 or so: use it for a term that may
    err by that share. float64 operands are rounded to float32.
    """
    dtype = left.dtype
    rounded = jnp.float32 if dtype == jnp.float64 else jnp.bfloat16
    return jnp.matmul(
        left.astype(rounded),
        right.astype(rounded),
        precision=_HIGHEST if rounded == jnp.float32 else None,
        preferred_element_type=dtype,
    )


def choose_product(precision: Precision):
    """Return the product of `precision` for such terms.

    Raises:
      ArgumentError: if the precision is unknown.
    """
    if precision == "mixed":
        return rough_product
    if precision == "full":
        return product
    raise ArgumentError(
        f"precision={precision!r}",
        "'full' or 'mixed'",
        remedy="leave it out for 'full'",
    )
