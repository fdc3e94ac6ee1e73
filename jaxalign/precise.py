# SPDX-License-Identifier: Apache-2.0
"""Matrix products in the full precision of their dtype, on every device.

By default an accelerator multiplies float32 with the mantissa of bfloat16 or TF32.
"""

import jax
import jax.numpy as jnp

from jaxalign.array_types import Array, ArrayLike

HIGHEST = jax.lax.Precision.HIGHEST


def product(left: ArrayLike, right: ArrayLike) -> Array:
    """Multiply matrices or vectors as `jax.numpy.matmul`, in full precision.

    >>> product(jnp.ones((2, 3)), jnp.ones((3, 4))).shape
    (2, 4)
    """
    return jnp.matmul(left, right, precision=HIGHEST)
