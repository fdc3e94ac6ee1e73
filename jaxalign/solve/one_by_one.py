# SPDX-License-Identifier: Apache-2.0
"""A whole solve for one entry of a batch after the other, on CPU.

XLA runs batched factorisations and triangular solves on the CPU's thread pool and waits
for them in the same pool: two of one program can wait for each other forever (seen in
jaxlib 0.10.2). Single ones do not, and each then has all cores, see `over_matrices`.
"""

import math
from collections.abc import Callable
from typing import TypeVar

import jax

Result = TypeVar("Result")


def one_by_one(
    function: Callable[..., Result], arguments: tuple, batch: tuple[int, ...]
) -> Result:
    """Apply `function` of one entry to every entry of a batch.

    Args:
      function: of PyTrees of arrays without leading axes; pure.
      arguments: PyTrees whose arrays all have the leading axes `batch`.
      batch: may be ().

    Returns:
      The results, with the leading axes `batch`.

    Notes:
      Sequential on CPU, by `jax.vmap` elsewhere. A batch that is sharded is gathered on
      CPU.
    """
    if not batch:
        return function(*arguments)
    count, axes = math.prod(batch), len(batch)
    flat = jax.tree.map(lambda leaf: leaf.reshape(count, *leaf.shape[axes:]), arguments)
    found = jax.lax.platform_dependent(
        flat,
        cpu=lambda many: jax.lax.map(lambda one: function(*one), many),
        default=lambda many: jax.vmap(function)(*many),
    )
    return jax.tree.map(lambda leaf: leaf.reshape(*batch, *leaf.shape[1:]), found)
