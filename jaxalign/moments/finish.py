# SPDX-License-Identifier: Apache-2.0
r"""The end of a pass: from moments by device to those of all, by one all-reduce.

With a device's count :math:`n_k`, means :math:`m_k` and centred sums :math:`C_k`, and
one point :math:`a` common to all devices, the sums over devices of

.. math:: n_k, \quad n_k (m_k - a), \quad C_k + n_k (m_k - a)(m_k - a)^\top

hold everything. The point is the mean of all rows up to rounding, so nothing cancels
when the sums are brought to the mean itself.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import Array
from jaxalign.errors import ArgumentError
from jaxalign.moments.statistics import MAX_ROWS, Moments, init_moments
from jaxalign.sharding import DATA_AXIS, replicated, row_sharding

# Rows cross in three digits of this base: their sums over 8,192 devices are exact in
# float32, so that whole numbers need no all-reduce of their own.
_DIGIT = 2**11


def finish_pass(
    local: Moments | None,
    mesh: jax.sharding.Mesh,
    *,
    groups: int | None,
    grams: bool,
) -> Moments:
    """Merge the moments of all devices of all processes.

    Args:
      local: of this process, with a leading axis of its devices in the order of the
        mesh; None if it had no rows.
      mesh: all devices.
      groups: as the pass was told.
      grams: as the pass was told.

    Returns:
      The moments, the same on every process.

    Raises:
      ValueError: if no process had rows, or they had rows of other widths.

    Notes:
      One all-reduce. Several processes exchange their widths and means before it.
    """
    several = mesh.is_multi_process
    widths = (0, 0) if local is None else (local.d_source, local.d_target)
    if several:
        widths = _agree_on_widths(widths)
    if widths == (0, 0):
        raise ArgumentError(
            "accumulate_moments(batches=...)",
            "at least one batch",
            "none",
            "look at where the rows come from (an iterator is used up after one pass)",
        )
    own = list(mesh.local_devices)
    if local is None:
        leading = (1,) if groups is None else (1, groups)
        empty = init_moments(*widths, groups=leading, grams=grams)
        pieces = [jax.device_put(empty, device) for device in own]
    else:
        pieces = [_piece(local, device) for device in own]
    sharding = row_sharding(mesh)
    spread = jax.tree.map(
        lambda *parts: jax.make_array_from_single_device_arrays(
            (mesh.size, *parts[0].shape[1:]), sharding, list(parts)
        ),
        *pieces,
    )
    point = _common_point(pieces, several)
    merged = reduce_devices(mesh)(spread, *point)
    # Every process holds the whole: as plain arrays, they go on like any others.
    return jax.tree.map(lambda leaf: jnp.asarray(leaf.addressable_data(0)), merged)


@functools.lru_cache(maxsize=8)
def reduce_devices(mesh: jax.sharding.Mesh):
    """Make the program that merges moments by device about a common point."""
    split, whole = row_sharding(mesh).spec, replicated(mesh).spec

    def merge(local: Moments, source_point: Array, target_point: Array) -> Moments:
        own = jax.tree.map(lambda leaf: leaf[0], local)
        sums = _about(own, source_point, target_point)
        # The one collective of a pass.
        return _centre(jax.lax.psum(sums, DATA_AXIS), source_point, target_point)

    return jax.jit(
        jax.shard_map(merge, mesh=mesh, in_specs=(split, whole, whole), out_specs=whole)
    )


def _about(own: Moments, source_point: Array, target_point: Array) -> dict:
    """Sums about a point, one leaf for each field; whole numbers in digits."""
    x, y = own.source_mean - source_point, own.target_mean - target_point
    n = own.count
    digits = [own.rows // _DIGIT**k % _DIGIT for k in range(3)]
    sums = {
        "numbers": jnp.stack(
            [
                n,
                own.source_energy + n * jnp.sum(jnp.square(x), axis=-1),
                own.target_energy + n * jnp.sum(jnp.square(y), axis=-1),
                *(digit.astype(n.dtype) for digit in digits),
            ]
        ),
        "source": n[..., None] * x,
        "target": n[..., None] * y,
        "cross": own.cross_covariance + _outer(n, y, x),
    }
    if own.source_gram is not None and own.target_gram is not None:
        sums["source_gram"] = own.source_gram + _outer(n, x, x)
        sums["target_gram"] = own.target_gram + _outer(n, y, y)
    return sums


def _centre(sums: dict, source_point: Array, target_point: Array) -> Moments:
    """Bring sums about a point to their means."""
    n, source_energy, target_energy, *digits = sums["numbers"]
    safe = jnp.where(n == 0, jnp.ones_like(n), n)[..., None]
    x, y = sums["source"] / safe, sums["target"] / safe
    parts = [digit.astype(jnp.int32) for digit in digits]
    # In float first: whole numbers would wrap around unseen.
    estimate = sum(digit * float(_DIGIT**k) for k, digit in enumerate(digits))
    rows = parts[0] + _DIGIT * parts[1] + _DIGIT**2 * parts[2]
    rows = jnp.where(estimate >= MAX_ROWS, jnp.full_like(rows, MAX_ROWS), rows)
    grams = "source_gram" in sums
    return Moments(
        count=n,
        rows=rows,
        source_mean=source_point + x,
        target_mean=target_point + y,
        cross_covariance=sums["cross"] - _outer(n, y, x),
        source_energy=source_energy - n * jnp.sum(jnp.square(x), axis=-1),
        target_energy=target_energy - n * jnp.sum(jnp.square(y), axis=-1),
        source_gram=sums["source_gram"] - _outer(n, x, x) if grams else None,
        target_gram=sums["target_gram"] - _outer(n, y, y) if grams else None,
    )


def _outer(n: Array, left: Array, right: Array) -> Array:
    """Weighted outer products over leading axes."""
    return n[..., None, None] * left[..., :, None] * right[..., None, :]


def _piece(local: Moments, device) -> Moments:
    """Moments of one device, with their leading axis of one."""

    def on_device(leaf):
        return next(s.data for s in leaf.addressable_shards if s.device == device)

    return jax.tree.map(on_device, local)


def _common_point(pieces: list[Moments], several: bool) -> tuple[np.ndarray, ...]:
    """Mean of all rows, by host arithmetic on the devices' means."""
    counts = np.stack([np.asarray(p.count[0], np.float64) for p in pieces])
    means = [
        np.stack([np.asarray(getattr(p, name)[0], np.float64) for p in pieces])
        for name in ("source_mean", "target_mean")
    ]
    sums = [np.sum(counts[..., None] * mean, axis=0) for mean in means]
    parts = [np.sum(counts, axis=0), *sums]
    if several:
        from jax.experimental import multihost_utils

        parts = [
            np.sum(np.asarray(multihost_utils.process_allgather(part)), axis=0)
            for part in parts
        ]
    safe = np.where(parts[0] == 0, 1.0, parts[0])[..., None]
    dtype = pieces[0].count.dtype
    return tuple(np.asarray(total / safe, dtype) for total in parts[1:])


def _agree_on_widths(widths: tuple[int, int]) -> tuple[int, int]:
    """Widths of all processes; those without rows learn them from the others."""
    from jax.experimental import multihost_utils

    all_widths = np.asarray(
        multihost_utils.process_allgather(np.asarray(widths, np.int32))
    )
    found = {tuple(pair) for pair in all_widths.reshape(-1, 2).tolist()} - {(0, 0)}
    if len(found) > 1:
        raise ArgumentError(
            "accumulate_moments(batches=...)",
            "equal widths (d_source, d_target) on all processes",
            sorted(found),
            "all must embed with the same two models",
        )
    return found.pop() if found else (0, 0)
