# SPDX-License-Identifier: Apache-2.0
"""Array types shared by both wings: what comes in, what goes out, and modalities.

Functions take `ArrayLike` (a JAX array or a NumPy one) and return `Array`. Shapes are
written with jaxtyping, `Float[ArrayLike, "n d_source"]`, and checked in the tests.
"""

from typing import TypeAlias

import jax
import numpy as np
from jaxtyping import Array

from jaxalign.modality import Modality

ArrayLike: TypeAlias = jax.Array | np.ndarray

__all__ = ["Array", "ArrayLike", "Modality"]
