# SPDX-License-Identifier: Apache-2.0
"""A function of parameters and rows, spread over a mesh under jit or under pmap.

Both split the rows, hold the parameters whole on every device, and need no collective.
Under jit ("pjit") the compiler partitions one program for all rows; under pmap each
device runs the program of its own rows.
"""

from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
from jaxtyping import Array, Float, Shaped

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError, check_option
from jaxalign.sharding import DATA_AXIS, row_sharding

Partition = Literal["pjit", "pmap"]
PARTITIONS: tuple[Partition, ...] = get_args(Partition)


class PartitionedRows:
    """Calls `function(parameters, *rows)` with its rows split over a mesh.

    Args:
      function: pure; each row of its result, (n, d), comes from the same row of its
        arguments. Arguments may be None.
      mesh: of one axis, `DATA_AXIS`. If it spans several processes, each passes rows of
        its own, as many as the others, and calls in the same order.
      partition: "pjit" or "pmap".

    Raises:
      ValueError: for another partition, or pmap over several processes.
    """

    def __init__(
        self,
        function: Callable[..., Float[Array, "n d"]],
        mesh: jax.sharding.Mesh,
        partition: Partition,
    ):
        check_option("embed", "partition", partition, PARTITIONS)
        if partition == "pmap" and mesh.is_multi_process:
            raise ArgumentError(
                "embed(mesh=..., partition='pmap')",
                "the devices of one process",
                f"those of {jax.process_count()}",
                "pass `data_mesh(jax.local_devices())`, or use 'pjit'",
            )
        self.mesh = mesh
        self._local_devices = len(mesh.local_devices)
        self._partition = partition
        if partition == "pjit":
            self._program = jax.jit(function)
            return

        # One argument for all rows: those that are None need no axis.
        self._program = jax.pmap(
            lambda parameters, rows: function(parameters, *rows),
            axis_name=DATA_AXIS,
            in_axes=(None, 0),
            devices=list(mesh.devices.flat),
        )
        self._join = jax.jit(
            lambda rows: rows.reshape(-1, rows.shape[-1]),
            out_shardings=row_sharding(mesh),
        )

    def __call__(
        self, parameters: Any, *rows: Shaped[ArrayLike, "n ..."] | None
    ) -> Float[Array, "rows d"]:
        """Split the rows and run; the result's rows lie split over the mesh.

        Raises:
          ValueError: if this process's rows are no multiple of its devices.
        """
        placed = tuple(None if part is None else self._split(part) for part in rows)
        if self._partition == "pjit":
            return self._program(parameters, *placed)
        return self._join(self._program(parameters, placed))

    def lower(
        self, parameters: Any, *rows: Shaped[ArrayLike, "n ..."] | None
    ) -> jax.stages.Lowered:
        """Lower the program for rows of these shapes, to look at it."""
        placed = tuple(None if part is None else self._split(part) for part in rows)
        if self._partition == "pjit":
            return self._program.lower(parameters, *placed)
        return self._program.lower(parameters, placed)

    def _split(self, rows: Shaped[ArrayLike, "n ..."]) -> Shaped[ArrayLike, "..."]:
        """Give each device its rows: by sharding, or along a new axis for pmap."""
        if rows.shape[0] % self._local_devices:
            raise ArgumentError(
                "embed(batches=...)",
                f"batches of a multiple of the mesh's {self._local_devices} devices",
                f"{rows.shape[0]} rows",
                "choose another batch_size",
            )
        if self._partition == "pmap":
            return rows.reshape(self._local_devices, -1, *rows.shape[1:])
        sharding = row_sharding(self.mesh)
        if isinstance(rows, jax.Array):
            return jax.device_put(rows, sharding)
        return jax.make_array_from_process_local_data(sharding, rows)
