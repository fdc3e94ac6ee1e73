# SPDX-License-Identifier: Apache-2.0
"""A pass on disk: its moments and its place in the data, to go on after a kill.

Each process keeps its own: until a pass ends, processes have nothing to tell each
other, so they need not stop at the same row either.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxalign.errors import ArgumentError, check_count
from jaxalign.moments.statistics import Moments, init_moments

VERSION = 1


class PassCheckpoints:
    """Keeps a pass of `accumulate_moments` in a folder, by Orbax.

    A run that is killed anywhere and started again with the same arguments takes up the
    last checkpoint, and ends with the same bits as a run that was never killed.

    >>> import tempfile
    >>> import jaxalign as ja
    >>> rows = np.eye(8, 4, dtype=np.float32)
    >>> with PassCheckpoints(tempfile.mkdtemp(), every=1) as checkpoints:
    ...     batches = ja.anchors.array_pairs(rows, rows, batch_size=2)
    ...     moments = ja.accumulate_moments(batches, checkpoints=checkpoints)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every: int = 64,
        details: Mapping[str, Any] = {},
    ):
        """Open the checkpoints of this process.

        Args:
          folder: made if needed; each process of a run has a folder of its own in it.
          every: batches between checkpoints, at least 1.
          details: JSON values that say what is accumulated: data, models, batch size. A
            run with other details is another pass, and is refused.

        Raises:
          ValueError: if `every` is below 1, or the folder cannot be made.
        """
        check_count("PassCheckpoints", "every", every)
        index, count = jax.process_index(), jax.process_count()
        self._folder = Path(os.path.abspath(folder)) / f"process_{index}_of_{count}"
        self._every, self._details = every, dict(details)
        self._settings: dict[str, Any] = {}
        self._before = 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ArgumentError(
                f"PassCheckpoints({os.fspath(folder)!r})",
                f"a folder that can be made ({error.strerror})",
                remedy="name another",
            ) from error
        alone = ocp.options.MultiprocessingOptions(
            primary_host=index,
            active_processes={index},
            barrier_sync_key_prefix=f"moments_{index}",
        )
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                max_to_keep=2,
                create=False,
                multiprocessing_options=alone,
                # In the background, Orbax waits for signals of the other processes.
                enable_async_checkpointing=False,
            ),
        )

    def __enter__(self) -> "PassCheckpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for what is being written."""
        self._manager.close()

    def restore(
        self, batches: Iterator[Any], settings: Mapping[str, Any]
    ) -> tuple[Moments, int] | None:
        """Return the last checkpoint's moments, and bring `batches` to its place.

        Args:
          batches: an iterator with `get_state` and `set_state`.
          settings: of the pass, kept beside it.

        Returns:
          Moments by device, on the host, and the rows that a batch is padded to; None
          at the first start.

        Raises:
          ValueError: if `batches` does not know its place, or the checkpoint is damaged
            or of another pass or version.
        """
        if not (hasattr(batches, "get_state") and hasattr(batches, "set_state")):
            raise ArgumentError(
                "accumulate_moments(batches=..., checkpoints=...)",
                "an iterator with `get_state` and `set_state`",
                type(batches).__name__,
                "use `array_pairs`, `store_pairs`, `encoded_pairs` or a Grain "
                "iterator, or leave checkpoints out",
            )
        self._settings = {
            "version": VERSION,
            "pass": dict(settings),
            "details": self._details,
        }
        step = self._manager.latest_step()
        if step is None:
            return None
        place = self._read(step, "place", ocp.args.JsonRestore())
        self._check_settings(place["settings"])
        self._before = place["seen"]
        widths = place["widths"]
        template = init_moments(
            *widths, groups=tuple(place["leading"]), grams=settings["grams"]
        )
        template = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), template)
        restored = self._read(step, "moments", ocp.args.StandardRestore(template))
        batches.set_state(place["batches"])  # pyright: ignore[reportAttributeAccessIssue]
        return restored, place["batch_rows"]

    def save(
        self, seen: int, local: Moments, batches: Iterator[Any], *, size: int
    ) -> None:
        """Keep the pass after `seen` batches of this run, every so often.

        Args:
          seen: batches of this run.
          local: moments by device.
          batches: the iterator that was restored.
          size: rows that a batch is padded to.
        """
        seen += self._before
        if seen % self._every:
            return
        host = jax.tree.map(np.asarray, local)
        place = {
            "settings": self._settings,
            "seen": seen,
            "batch_rows": size,
            "widths": [host.d_source, host.d_target],
            "leading": list(host.count.shape),
            "batches": batches.get_state(),  # pyright: ignore[reportAttributeAccessIssue]
        }
        self._manager.save(
            seen,
            args=ocp.args.Composite(
                moments=ocp.args.StandardSave(host), place=ocp.args.JsonSave(place)
            ),
        )

    def _read(self, step: int, item: str, how: Any) -> Any:
        """Read one item of a checkpoint; raise `ArgumentError` if it is damaged."""
        try:
            wanted = ocp.args.Composite(**{item: how})
            return self._manager.restore(step, args=wanted)[item]
        except (KeyError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0][:200]
            raise ArgumentError(
                f"PassCheckpoints({str(self._folder)!r})",
                "a whole checkpoint",
                f"one whose {item} cannot be read ({reason})",
                f"delete {str(self._folder / str(step))!r}, and the pass goes on from "
                "the one before",
            ) from error

    def _check_settings(self, found: Mapping[str, Any]) -> None:
        """Raise if the checkpoint belongs to another pass or version."""
        call = f"PassCheckpoints({str(self._folder)!r})"
        if found.get("version") != VERSION:
            expected = f"version {VERSION}"
            remedy = "delete the folder, or use the jaxalign that wrote it"
            raise ArgumentError(call, expected, repr(found.get("version")), remedy)
        for part in ("pass", "details"):
            own, other = self._settings[part], found[part]
            for key in sorted({*own, *other}):
                old, new = other.get(key), own.get(key)
                if old != new:
                    got = f"those of one with {key} = {old!r} (now {new!r})"
                    remedy = "name another folder, or delete this one"
                    raise ArgumentError(call, "checkpoints of this pass", got, remedy)
