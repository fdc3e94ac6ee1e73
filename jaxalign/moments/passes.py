# SPDX-License-Identifier: Apache-2.0
"""A whole pass over any number of paired rows, spread over the devices of a mesh.

Each device keeps moments of its own and adds the rows that it is given; nothing is
communicated until the pass ends. Then all devices bring their sums about one common
point, which takes a single all-reduce: the obvious way, each about its own mean, takes
two.
"""

import functools
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import ArrayLike
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import check_float_rows, native_floats
from jaxalign.moments.finish import finish_pass
from jaxalign.moments.merging import merge_moments
from jaxalign.moments.statistics import Moments, init_moments
from jaxalign.moments.update import check_numbers, check_whole, update_moments
from jaxalign.sharding import data_mesh, pad_rows, row_sharding


class PairBatch(NamedTuple):
    """Paired rows on their way into moments; row i of all fields is one anchor.

    Attributes:
      source: ``(n, d_source)``, floating, on the host or on devices.
      target: ``(n, d_target)``.
      weights: ``(n,)`` weights or a mask, 0 for padding; None: all 1.
      group: ``(n,)`` numbers of groups; None where there are none.
    """

    source: ArrayLike
    target: ArrayLike
    weights: ArrayLike | None = None
    group: ArrayLike | None = None


@typing.runtime_checkable
class Checkpoints(Protocol):
    """Keeps a pass on disk: `PassCheckpoints`, or an object with its methods."""

    def restore(
        self, batches: Iterator[Any], settings: dict[str, Any]
    ) -> tuple[Moments, int] | None:
        """Bring `batches` to where the pass was; return its moments and batch size."""

    def save(
        self, seen: int, local: Moments, batches: Iterator[Any], *, size: int
    ) -> None:
        """Keep the moments by device after `seen` batches, if it is time to."""


def accumulate_moments(
    batches: Iterable[PairBatch | tuple[ArrayLike, ArrayLike]],
    *,
    mesh: jax.sharding.Mesh | None = None,
    groups: int | None = None,
    grams: bool = False,
    decay: float | None = None,
    skip_bad: bool = False,
    state: Moments | None = None,
    checkpoints: Checkpoints | None = None,
    report: Callable[[int], None] = lambda rows: None,
) -> Moments:
    """Accumulate the moments of a whole stream of paired rows in constant memory.

    Args:
      batches: `PairBatch`, or pairs ``(source, target)``; see `array_pairs`,
        `store_pairs` and `encoded_pairs`. The first sets the size: later ones may be
        smaller (they are padded), not larger. In a run of several processes each passes
        rows of its own, in as many batches as it has, none included.
      mesh: whose devices share the rows of each batch; default the first device of
        this process alone. It may span several processes.
      groups: static; number of groups that `PairBatch.group` names. None: no groups.
      grams: static; also accumulate both Gram matrices.
      decay: forget by this factor before each batch, see `decay_moments`. Each process
        counts its own batches: give them as many each.
      skip_bad: leave out pairs of which a row is not finite or is zero, see
        `update_moments`. Without it one such row makes the moments NaN.
      state: moments of earlier rows, merged with those of this pass. The same on all
        processes.
      checkpoints: keeps the pass on disk, so that a run that was killed resumes
        there (`PassCheckpoints`).
      report: called with the number of rows taken by this process.

    Returns:
      Moments of all rows of all processes, the same on each.

    Raises:
      ValueError: if there are no batches at all, if one is larger than the first or
        has rows of other widths, or see `update_moments`.

    Notes:
      No collectives while rows come in. At the end one all-reduce of
      ``d_source * d_target + d_source + d_target + 6`` numbers a group (with Grams
      ``d_source**2 + d_target**2`` more); in a run of several processes these first
      exchange their means. Memory: one accumulator a device (`Moments.memory_bytes`)
      and two batches. The same rows in the same batches give the same bits on the same
      number of devices. While a batch is computed the next is read.

    >>> rows = np.eye(4, 3, dtype=np.float32)
    >>> accumulate_moments([(rows[:3], rows[:3]), (rows[3:], rows[3:])]).count.item()
    4.0
    """
    if mesh is None:
        mesh = data_mesh(jax.local_devices()[:1])
    local_mesh = data_mesh(mesh.local_devices)
    iterator = iter(batches)
    settings: dict[str, Any] = {
        "groups": groups,
        "grams": grams,
        "decay": decay,
        "devices": local_mesh.size,
        "processes": jax.process_count() if mesh.is_multi_process else 1,
        "dtype": str(jax.dtypes.canonicalize_dtype(float)),
    }
    if skip_bad:
        # Named only then: checkpoints of passes before this option stay valid.
        settings["skip_bad"] = True
    kept = checkpoints.restore(iterator, settings) if checkpoints else None
    local, size = (None, 0) if kept is None else kept
    if local is not None:
        local = jax.device_put(local, row_sharding(local_mesh))
    # The size is that of the first batch of all, wherever a run goes on: padding
    # decides which device adds a row, and so the bits.
    feed = _Feed(local_mesh, groups, size)
    seen, started, lost = 0, None, None
    for arrived in iterator:
        batch = _as_batch(arrived)
        if local is None:
            widths = (batch.source.shape[1], batch.target.shape[1])
            local = init_local(*widths, local_mesh, groups=groups, grams=grams)
        placed = feed.place(batch)
        # Two batches at a time: one computing, and this one, which has been read.
        jax.block_until_ready(started)
        feed.check_groups(lost)
        local, started, lost = _step(local_mesh, decay, skip_bad)(local, placed)
        seen += 1
        report(feed.rows)
        if checkpoints is not None:
            # What is kept must not lack rows: here alone the step is waited for.
            feed.check_groups(lost)
            checkpoints.save(seen, local, iterator, size=feed.size)
    feed.check_groups(lost)
    moments = finish_pass(local, mesh, groups=groups, grams=grams)
    return moments if state is None else merge_moments(state, moments)


def init_local(
    d_source: int,
    d_target: int,
    mesh: jax.sharding.Mesh,
    *,
    groups: int | None,
    grams: bool,
) -> Moments:
    """Make empty moments for each device of this process: a leading axis of devices."""
    leading = (mesh.size,) if groups is None else (mesh.size, groups)
    make = jax.jit(
        init_moments,
        static_argnames=("d_source", "d_target", "groups", "grams"),
        out_shardings=row_sharding(mesh),
    )
    return make(d_source, d_target, groups=leading, grams=grams)


@functools.lru_cache(maxsize=32)
def _step(mesh: jax.sharding.Mesh, decay: float | None, skip_bad: bool = False):
    """Make the step of a pass: each device adds its rows to its moments."""
    spec = row_sharding(mesh).spec

    def add(local: Moments, batch: PairBatch) -> tuple[Moments, jax.Array]:
        own = jax.tree.map(lambda leaf: leaf[0], local)
        lost = _count_strays(batch.group, own.groups)
        own = update_moments(
            own,
            batch.source,
            batch.target,
            weights=batch.weights,
            group=batch.group,
            decay=decay,
            skip_bad=skip_bad,
        )
        return jax.tree.map(lambda leaf: leaf[None], (own, lost))

    mapped = jax.shard_map(
        add, mesh=mesh, in_specs=(spec, spec), out_specs=spec, check_vma=False
    )

    def step(local: Moments, batch: PairBatch) -> tuple[Moments, jax.Array, jax.Array]:
        added, lost = mapped(local, batch)
        # A copy of its own: the moments are given to the next step, and gone.
        return added, added.rows + 0, lost

    return jax.jit(step, donate_argnums=0)


def _count_strays(group, groups: tuple[int, ...]):
    """Count the rows of groups that do not exist, which an update leaves out."""
    if group is None:
        return jnp.int32(0)
    return jnp.sum((group < 0) | (group >= groups[0]), dtype=jnp.int32)


class _Feed:
    """Brings batches to the devices of one process, all in one size."""

    def __init__(self, mesh: jax.sharding.Mesh, groups: int | None, size: int):
        self.rows, self.size = 0, size
        self._unchecked = False
        self._mesh, self._groups = mesh, groups
        self._sharding = row_sharding(mesh)

    def place(self, batch: PairBatch) -> PairBatch:
        """Pad a batch to the common size, and spread it."""
        n = batch.source.shape[0]
        _check_lengths(batch)
        grouped = self._groups is not None
        if grouped != (batch.group is not None):
            raise ArgumentError(
                f"accumulate_moments(groups={self._groups})",
                f"batches {'with' if grouped else 'without'} `group`",
                remedy="give the number of groups, and each row's, or neither",
            )
        if not self.size:
            self.size = -(-n // self._mesh.size) * self._mesh.size
        if n > self.size:
            expected = f"at most {self.size} rows, as of the first batch"
            remedy = "cut the batches alike"
            raise ArgumentError("accumulate_moments(batches=...)", expected, n, remedy)
        if self._groups is not None and batch.group is not None:
            # Under jit, rows of a group that does not exist would be lost unseen.
            # Numbers on devices are not waited for: the step counts what it leaves out.
            if isinstance(batch.group, jax.Array):
                self._unchecked = True
                check_whole("accumulate_moments", batch.group)
            else:
                check_numbers("accumulate_moments", batch.group, self._groups)
        self.rows += n
        weights = batch.weights
        if n < self.size and weights is None:
            weights = np.ones(n, bool)
        whole = jax.tree.map(native_floats, batch._replace(weights=weights))
        return jax.tree.map(self._spread, whole)

    def check_groups(self, lost: jax.Array | None) -> None:
        """Raise if the last step left out rows of groups that do not exist."""
        if lost is None or not self._unchecked:
            return
        number = int(np.asarray(lost).sum())
        if number:
            expected = f"0 to {self._groups} - 1"
            got = f"other numbers for {number} rows of a batch"
            remedy = "give padding weight 0 and any group that exists"
            raise ArgumentError("accumulate_moments(group=...)", expected, got, remedy)

    def _spread(self, rows: ArrayLike) -> jax.Array:
        """Pad rows on the host or where they are, and give each device its share."""
        if isinstance(rows, jax.Array):
            rows = _own_rows(rows)
            tail = self.size - rows.shape[0]
            if tail:
                rows = jnp.pad(rows, [(0, tail)] + [(0, 0)] * (rows.ndim - 1))
            return jax.device_put(rows, self._sharding)
        padded, _ = pad_rows(rows, self.size)
        if padded.flags.writeable and np.may_share_memory(padded, rows):
            # JAX uses aligned rows where they lie, while the next batch is made: a
            # buffer that is filled again and again must be copied. What cannot be
            # written (memory maps, slices by `array_pairs`) need not.
            padded = padded.copy()
        return jax.device_put(padded, self._sharding)


def _as_batch(arrived: Any) -> PairBatch:
    """Validate a batch: two matrices of rows, with weights and groups if any."""
    if isinstance(arrived, tuple | list) and 2 <= len(arrived) <= 4:
        batch = arrived if isinstance(arrived, PairBatch) else PairBatch(*arrived)
        shapes = [getattr(field, "shape", type(field).__name__) for field in batch]
        wanted = (2, 2, 1, 1)
        if all(
            getattr(field, "ndim", None) == axes or (field is None and axes == 1)
            for field, axes in zip(batch, wanted, strict=True)
        ):
            source, target = (
                check_float_rows("accumulate_moments", "batches", side)
                for side in (batch.source, batch.target)
            )
            return batch._replace(source=source, target=target)
        got = dict(zip(PairBatch._fields, shapes, strict=True))
    else:
        got = type(arrived).__name__
    raise ArgumentError(
        "accumulate_moments(batches=...)",
        "batches of arrays, source (n, d_source), target (n, d_target), and weights "
        "and group (n,) if any",
        got,
        "of rows in memory make them by `array_pairs(source, target)`",
    )


def _check_lengths(batch: PairBatch) -> None:
    """Raise if the fields of a batch differ in length, which padding would hide."""
    lengths = {
        name: rows.shape[0]
        for name, rows in batch._asdict().items()
        if rows is not None
    }
    if len(set(lengths.values())) > 1:
        raise ArgumentError(
            "accumulate_moments(batches=...)",
            "as many rows in all fields of a batch",
            lengths,
            "row i of all must be the same anchor",
        )


def _own_rows(rows: jax.Array) -> jax.Array:
    """Rows of this process, of an array that spans several."""
    if rows.is_fully_addressable:
        return rows
    shards = sorted(rows.addressable_shards, key=lambda shard: shard.index[0].start)
    own = data_mesh([shard.device for shard in shards])
    count = sum(shard.data.shape[0] for shard in shards)
    return jax.make_array_from_single_device_arrays(
        (count, *rows.shape[1:]), row_sharding(own), [shard.data for shard in shards]
    )
