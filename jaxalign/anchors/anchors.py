# SPDX-License-Identifier: Apache-2.0
"""`Anchors`: the paired rows of two models, validated once for everything that follows.

Each modality has its own rows; row i of both sides is one anchor, seen by both models.
Whatever takes anchors also takes a dictionary of pairs, or one pair, see `as_anchors`.
"""

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxalign.anchors.accumulate import moments_of, unpaired_moments
from jaxalign.anchors.inspection import Inspected, as_float, inspect_sides, stay
from jaxalign.anchors.paired_rows import PairedRows
from jaxalign.array_types import ArrayLike, Modality
from jaxalign.errors import ArgumentError
from jaxalign.moments import Moments

ALL = "all"
"""In place of a modality: every one. So no modality has this name."""

ROWS: Modality = "rows"
"""Modality of a pair that comes without a name."""

BATCH_SIZE = 4096


class Anchors:
    """Paired rows of two models, by modality, and what is known of them.

    Attributes:
      rows: `PairedRows` by modality.
      unpaired: by modality, source and target rows that do not pair.
      source_space: fingerprint of the source model's space, or None if unknown.
      target_space: the same for the target model.
    """

    rows: dict[Modality, PairedRows]
    unpaired: dict[Modality, dict[str, Inspected]]

    def __init__(
        self,
        pairs: Mapping[Modality, tuple[ArrayLike, ArrayLike]]
        | tuple[ArrayLike, ArrayLike],
        *,
        weights: Mapping[Modality, ArrayLike] | ArrayLike | None = None,
        groups: Mapping[Modality, ArrayLike] | ArrayLike | None = None,
        ids: Mapping[Modality, ArrayLike] | ArrayLike | None = None,
        unpaired: Mapping[Modality, tuple[ArrayLike, ArrayLike]] | None = None,
        skip_bad: bool = False,
        source_space: str | None = None,
        target_space: str | None = None,
        call: str = "Anchors",
        argument: str = "pairs",
    ):
        """Validate paired rows: every row is read once.

        Args:
          pairs: by modality, ``(source, target)`` rows of shapes ``(n, d_source)`` and
            ``(n, d_target)``, each modality with its own n of at least 2; or one such
            pair, of the modality "rows". Floating, NumPy or JAX, memory-mapped too.
          weights: by modality, ``(n,)``, not negative: of the anchors, in the means,
            the matrix, the scale and the residual. A modality left out has equal ones.
            For a single modality an array will do, here and below.
          groups: by modality, ``(n,)`` labels, such as classes: rows of one label are
            held out together wherever something is chosen on held-out anchors. Default:
            `ids`, or else every row is a group.
          ids: by modality, ``(n,)`` labels of what a row shows, the same in all
            modalities: rows of one id answer each other in a search, and are no rivals.
          unpaired: by modality, source and target rows, any two numbers of them, that
            do not pair: they give the means and the scale of a modality without pairs.
          skip_bad: leave out rows that are not finite or are zero, instead of raising.
          source_space: fingerprint of the source model's space, as `encoders.space`.
          target_space: the same for the target model.
          call: named in errors.
          argument: of that call, named in errors about `pairs`.

        Raises:
          ValueError: for rows that do not pair, are not finite or are zero, fewer than
            two anchors, or labels and weights that do not fit; the text names the
            argument, what came, and what to do.
        """
        if isinstance(pairs, tuple | list):
            pairs = {ROWS: pairs}  # pyright: ignore[reportAssignmentType]
        check_names(call, argument, pairs)
        self.source_space, self.target_space = source_space, target_space
        check_spaces(call, source_space, target_space)
        self._widths: tuple[int, int] | None = None
        self.rows = {}
        for name, sides in pairs.items():
            place = f"{argument}[{name!r}]"
            seen = self._inspect(call, place, sides, True, skip_bad)
            source, target = seen["source"], seen["target"]
            good = source.good & target.good
            self.rows[name] = PairedRows(
                source.rows,
                target.rows,
                None if good.all() else good,
                source.norms,
                target.norms,
            )
        for option, values in (("weights", weights), ("groups", groups), ("ids", ids)):
            found = self._by_row(call, option, values)
            if option == "weights":
                for name, numbers in found.items():
                    _check_weights(call, name, numbers)
                found = {name: as_float(numbers) for name, numbers in found.items()}
            self.rows |= {
                name: dataclasses.replace(self.rows[name], **{option: one})
                for name, one in found.items()
            }
        self.unpaired = {}
        if unpaired is not None:
            check_names(call, "unpaired", unpaired)
        for name, sides in (unpaired or {}).items():
            place = f"unpaired[{name!r}]"
            if name in self.rows:
                raise ArgumentError(
                    f"{call}({place})",
                    "a modality without pairs",
                    "one that has them, which give its means",
                    "leave it out of one of the two",
                )
            self.unpaired[name] = self._inspect(call, place, sides, False, skip_bad)

    @property
    def widths(self) -> tuple[int, int]:
        """Widths of source and target rows."""
        assert self._widths is not None
        return self._widths

    @property
    def modalities(self) -> list[Modality]:
        """Modalities that have pairs, in the order given."""
        return list(self.rows)

    def __repr__(self) -> str:
        """One line: widths, and the number of anchors of each modality."""
        parts = [f"{name}: {rows.count:,} pairs" for name, rows in self.rows.items()]
        parts += [
            f"{name}: {' and '.join(f'{len(side.norms):,}' for side in sides.values())}"
            " unpaired rows"
            for name, sides in self.unpaired.items()
        ]
        return f"Anchors({self.widths[0]} -> {self.widths[1]}; {'; '.join(parts)})"

    def on_host(self) -> "Anchors":
        """The same rows on the host, without pairs left out or of weight 0."""
        return self.with_rows(
            {name: rows.on_host() for name, rows in self.rows.items()}
        )

    def take(self, numbers: Mapping[Modality, ArrayLike]) -> "Anchors":
        """Some pairs of some modalities, by number; rows are not looked at again."""
        taken = self.with_rows({n: self.rows[n].take(of) for n, of in numbers.items()})
        taken.unpaired = {}
        return taken

    def with_weights(self, weights: Mapping[Modality, np.ndarray]) -> "Anchors":
        """The same anchors with other weights of some modalities."""
        changed = {
            name: dataclasses.replace(self.rows[name], weights=values)
            for name, values in weights.items()
        }
        return self.with_rows({**self.rows, **changed})

    def with_labels(
        self,
        *,
        ids: Mapping[Modality, np.ndarray],
        groups: Mapping[Modality, np.ndarray],
    ) -> "Anchors":
        """The same anchors with other ids and groups of all modalities."""
        return self.with_rows(
            {
                name: dataclasses.replace(rows, ids=ids[name], groups=groups[name])
                for name, rows in self.rows.items()
            }
        )

    def moments(
        self,
        *,
        grams: bool,
        group: Mapping[Modality, np.ndarray] | None = None,
        groups: int | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> dict[Modality, Moments]:
        """Moments of every modality about its own means, by one pass over the rows.

        Args:
          grams: whether to accumulate Gram matrices.
          group: ``(n,)`` numbers below `groups` of the pairs of each modality.
          groups: how many groups to keep apart, or None. Rows without pairs have no
            group: their modalities are left out then.
          batch_size: rows a batch.
        """
        found = {
            name: moments_of(
                rows.source,
                rows.target,
                rows.mask,
                grams=grams,
                batch_size=batch_size,
                group=None if group is None else group[name],
                groups=groups,
            )
            for name, rows in self.rows.items()
        }
        if groups is not None:
            return found
        return found | self.unpaired_moments(grams=grams, batch_size=batch_size)

    def unpaired_moments(
        self, *, grams: bool, batch_size: int = BATCH_SIZE
    ) -> dict[Modality, Moments]:
        """Moments of the modalities without pairs: means, energies and Grams only."""
        return {
            name: unpaired_moments(
                *((side.rows, side.good) for side in sides.values()),
                grams=grams,
                batch_size=batch_size,
            )
            for name, sides in self.unpaired.items()
        }

    def with_rows(self, rows: dict[Modality, PairedRows]) -> "Anchors":
        """The same anchors with other paired rows; nothing is looked at again."""
        other = copy.copy(self)
        other.rows = rows
        return other

    def _inspect(self, call, argument, sides, paired, skip_bad) -> dict[str, Inspected]:
        """Validate the two sides of one modality."""
        if not isinstance(sides, tuple | list) or len(sides) != 2:
            raise ArgumentError(
                f"{call}({argument})",
                "a pair (source, target)",
                type(sides).__name__,
                "pass {'image': (source_rows, target_rows)}",
            )
        rows: dict[str, ArrayLike] = {
            side: stay(call, f"{argument}, {side}", one)
            for side, one in zip(("source", "target"), sides, strict=True)
        }
        source, target = rows["source"], rows["target"]
        if paired and isinstance(source, jax.Array) != isinstance(target, jax.Array):
            rows = {side: np.asarray(one) for side, one in rows.items()}
        argument = f"{call}({argument})"
        if paired and source.shape[0] != target.shape[0]:
            raise ArgumentError(
                argument,
                "shapes (n, d_source) and (n, d_target) with one n",
                f"{source.shape} and {target.shape}",
                "row i of both must be one anchor",
            )
        if min(source.shape[0], target.shape[0]) < 2:
            raise ArgumentError(
                argument,
                "at least 2 anchors",
                min(source.shape[0], target.shape[0]),
                "pass more pairs, at best more than the embeddings have dimensions",
            )
        widths = (source.shape[1], target.shape[1])
        if self._widths is not None and widths != self._widths:
            raise ArgumentError(
                argument,
                f"widths {self._widths} as of the other modalities",
                widths,
                "all modalities share one source and one target model",
            )
        self._widths = widths
        return inspect_sides(argument, rows, paired=paired, skip_bad=skip_bad)

    def _by_row(self, call, option, values) -> dict[Modality, np.ndarray]:
        """One value a pair for some modalities, as arrays of the host."""
        if values is None:
            return {}
        if not isinstance(values, Mapping) and len(self.rows) == 1:
            values = {next(iter(self.rows)): values}
        if not isinstance(values, Mapping) or not set(values) <= set(self.rows):
            got = list(values) if isinstance(values, Mapping) else type(values)
            raise ArgumentError(
                f"{call}({option}=...)",
                f"a dictionary by modality, of {sorted(self.rows)}",
                got,
                "pass {'image': one value a row}",
            )
        found = {name: np.asarray(rows) for name, rows in values.items()}
        for name, rows in found.items():
            n = len(self.rows[name])
            labels = option == "weights" or rows.dtype.kind in "biuUS"
            if rows.shape != (n,) or not labels:
                raise ArgumentError(
                    f"{call}({option}[{name!r}])",
                    f"one value for each of {n} anchors"
                    + ("" if option == "weights" else ", whole numbers or strings"),
                    f"{rows.dtype} of shape {rows.shape}",
                    "pass one value a row",
                )
        return found


def as_anchors(call: str, given: Any, *, skip_bad: bool = False) -> Anchors:
    """Return anchors as they are; make them of a dictionary of pairs, or of one pair.

    Args:
      call: named in errors.
      given: `Anchors`, or the first argument of theirs.
      skip_bad: as of `Anchors`; refused with anchors that are made.
    """
    if not isinstance(given, Anchors):
        return Anchors(given, skip_bad=skip_bad, call=call, argument="anchors")
    if skip_bad:
        raise ArgumentError(
            f"{call}(skip_bad=True)",
            "pairs of rows in `anchors`",
            "Anchors, whose rows are validated already",
            "pass it where they are made: `Anchors(..., skip_bad=True)`",
        )
    return given


def check_spaces(call: str, source_space: Any, target_space: Any) -> None:
    """Raise for spaces that are no fingerprints: a file could not hold them."""
    for name, space in (("source_space", source_space), ("target_space", target_space)):
        if space is not None and not isinstance(space, str):
            raise ArgumentError(
                f"{call}({name}={space!r})",
                "a string such as `encoders.space`, or None",
            )


def check_names(
    call: str,
    argument: str,
    pairs: Any,
    *,
    remedy: str = "pass {'image': (source_rows, target_rows)}",
) -> None:
    """Raise for what is no dictionary of modality to rows, or to moments."""
    named = isinstance(pairs, Mapping) and pairs and ALL not in pairs
    if not named or not all(isinstance(name, str) and name for name in pairs):
        raise ArgumentError(
            f"{call}({argument}=...)",
            f"a dictionary by modality, each a string that is not empty nor {ALL!r}",
            list(pairs) if isinstance(pairs, Mapping) else type(pairs).__name__,
            remedy,
        )


def _check_weights(call: str, name: Modality, weights: np.ndarray) -> None:
    """Raise unless weights are finite, not negative, and two of them positive."""
    bad = not jnp.issubdtype(weights.dtype, jnp.number) and weights.dtype != bool
    bad = bad or not np.all(np.isfinite(weights) & (weights >= 0))
    if bad or np.count_nonzero(weights) < 2:
        raise ArgumentError(
            f"{call}(weights[{name!r}])",
            "finite numbers of at least 0, two or more of them positive",
            f"{weights.dtype} with {0 if bad else np.count_nonzero(weights)} positive",
            "a weight of 0 leaves an anchor out",
        )
