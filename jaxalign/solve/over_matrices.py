# SPDX-License-Identifier: Apache-2.0
"""One matrix at a time over leading axes: where a factorisation meets its batch.

On CPU a batched `jnp.linalg.svd` is at best as fast as a sequence of single ones, each
of which has all cores, and an iteration that runs alone stops when it has converged.
Accelerators want one batched call. Either way an entry needs no other: a batch split
over devices is worked off where it lies, without a collective.
"""

import contextlib
import itertools
import math
import string
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike


def over_matrices(
    function: Callable[[Array], tuple[Array, ...]],
    matrices: Float[ArrayLike, "*batch rows columns"],
) -> Any:
    """Apply `function` of one matrix to every matrix of a batch.

    Args:
      function: from one array of shape ``(rows, columns)`` to a tuple of arrays; pure,
        and it may close over no array, nor make one by `jnp.array`: compiled for each
        device by itself, it can bring none along. It is not differentiated: wrap the
        call in `jax.custom_jvp`.
      matrices: shape ``(*batch, rows, columns)``.

    Returns:
      Tuple of the outputs, each with the leading axes ``(*batch)``.

    Notes:
      Sequential on CPU, by `jax.vmap` elsewhere. No collectives if sharded on the batch
      axes: the compiler would gather a loop's axis, so the batch is cut by an explicit
      partitioning rule. `jax.vmap` of the call adds a batch axis.

    >>> over_matrices(lambda one: (jnp.trace(one),), jnp.ones((2, 3, 3)))[0].tolist()
    [3.0, 3.0]
    """
    matrices = jnp.asarray(matrices)
    if matrices.ndim == 2:
        return function(matrices)
    call = custom_vmap(_partitioned(function, matrices))

    @call.def_vmap
    def _(axis_size, in_batched, stacked):  # noqa: ANN001, ARG001
        found = over_matrices(function, stacked)
        return found, tuple(True for _ in found)

    return call(matrices)


def _partitioned(function, matrices):
    """Let each device work off its own part of the batch."""
    batch = matrices.ndim - 2
    single = jax.ShapeDtypeStruct(matrices.shape[-2:], matrices.dtype)
    outputs = jax.eval_shape(function, single)

    double = matrices.dtype.itemsize == 8

    def local(part):
        # The partitioner traces anew, where a caller's `with enable_x64` is not seen.
        with jax.enable_x64(True) if double else contextlib.nullcontext():
            return _sequence_or_batch(function, part)

    explicit = jax.typeof(matrices).sharding
    if any(explicit.spec):
        # A mesh of Explicit axes (`jax.make_mesh`): the types say how to cut.
        kept = PartitionSpec(*explicit.spec[:batch])
        return jax.shard_map(
            local, mesh=explicit.mesh, in_specs=kept, out_specs=kept, check_vma=False
        )

    def partition(mesh, arguments, results):
        axes = tuple(arguments[0].sharding.spec)[:batch]
        # An axis of a matrix may arrive split; whole matrices are asked for.
        kept = NamedSharding(mesh, PartitionSpec(*axes))
        return mesh, local, tuple(kept for _ in results), (kept,)

    partitioned = custom_partitioning(local)
    letters = iter(string.ascii_letters)
    inner = [next(letters), next(letters)]
    sides = [[next(letters) for _ in output.shape] for output in outputs]
    partitioned.def_partition(
        partition,
        infer_sharding_from_operands=None,
        sharding_rule=" ".join(["...", *inner])
        + " -> "
        + ", ".join(" ".join(["...", *side]) for side in sides),
        need_replication_factors=(*inner, *itertools.chain(*sides)),
    )
    return partitioned


def _sequence_or_batch(function, matrices):
    """Choose by the platform that the program is compiled for."""
    batch = matrices.shape[:-2]
    flat = matrices.reshape(math.prod(batch), *matrices.shape[-2:])
    found = jax.lax.platform_dependent(
        flat,
        cpu=lambda many: jax.lax.map(function, many),
        default=jax.vmap(function),
    )
    return tuple(leaf.reshape(*batch, *leaf.shape[1:]) for leaf in found)
