# SPDX-License-Identifier: Apache-2.0
"""One mesh axis for rows: meshes, row shardings, and padding with a mask.

Everything data-parallel in jaxalign splits rows over one axis, `DATA_AXIS`. Rows that
do not divide evenly are padded and masked, never dropped.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Shaped

from jaxalign.array_types import ArrayLike
from jaxalign.backend import start_backend
from jaxalign.errors import ArgumentError

DATA_AXIS = "data"


def data_mesh(devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
    """Make the one-axis mesh over `devices`, by default over all of them.

    The axis type is Auto: `jax.make_mesh` gives Explicit axes, under which the
    contraction of a sharded axis, as in ``target.T @ source``, raises.

    Raises:
      ValueError: if JAX has no device, see `start_backend`.

    >>> data_mesh(jax.devices()[:1]).axis_names
    ('data',)
    """
    if devices is None:
        start_backend()
        devices = jax.devices()
    chosen = np.array(list(devices))
    axis_types = (jax.sharding.AxisType.Auto,)
    return jax.sharding.Mesh(chosen, (DATA_AXIS,), axis_types=axis_types)


def row_sharding(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """Split the leading axis over `DATA_AXIS`, replicate the others."""
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(DATA_AXIS))


def replicated(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
    """Hold a whole copy on each device of `mesh`."""
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())


def pad_rows(
    rows: Shaped[ArrayLike, "..."], size: int
) -> tuple[Shaped[np.ndarray, "..."], Bool[np.ndarray, " size"]]:
    """Pad rows with zeros on the host up to a fixed number, and say which are real.

    A fixed number of rows keeps a jitted step at one compilation, and a multiple of
    the device count lets the rows be split evenly.

    Args:
      rows: shape ``(n, ...)``.
      size: rows wanted, at least ``n``.

    Returns:
      The padded rows, shape ``(size, ...)``, and the mask, shape ``(size,)``, true
      for the ``n`` real rows; use it as ``weights``.

    Raises:
      ValueError: if there are more than `size` rows already.

    >>> padded, mask = pad_rows(np.ones((2, 1)), 3)
    >>> padded[:, 0].tolist(), mask.tolist()
    ([1.0, 1.0, 0.0], [True, True, False])
    """
    host = np.asarray(rows)
    n = host.shape[0]
    if n > size:
        remedy = "pass a larger size, or split the rows first"
        raise ArgumentError(f"pad_rows(size={size})", f"at most {size} rows", n, remedy)
    mask = np.arange(size) < n
    if n == size:
        return host, mask
    tail = np.zeros((size - n, *host.shape[1:]), host.dtype)
    return np.concatenate([host, tail]), mask
