# SPDX-License-Identifier: Apache-2.0
"""Pairs from two row sets: matched, without bad rows, at norm 1 if wanted.

`paired_anchors` brings pairs into memory, for `Anchors`. `row_pairs` walks over any
number of them in constant memory, for `accumulate_moments`.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Int

from jaxalign.anchors.arrays import BATCH_SIZE, PairSlices, check_rows
from jaxalign.anchors.inspection import good_rows
from jaxalign.array_types import Modality
from jaxalign.errors import ArgumentError
from jaxalign.float_rows import native_floats, wide_dtype
from jaxalign.lazy_rows import Rows, chosen_rows
from jaxalign.moments.passes import PairBatch
from jaxalign.rows.matching import Match, MatchedRows, match_rows
from jaxalign.rows.row_set import RowSet
from jaxalign.spaces import same_space

_BLOCK = 65536


@dataclasses.dataclass
class PairCounts:
    """What became of the rows of one modality.

    Attributes:
      read: pairs that were looked at.
      used: pairs of two good rows.
      skipped: pairs of which a row is not finite or is zero.
      unmatched: rows of either side without a partner.
    """

    read: int = 0
    used: int = 0
    skipped: int = 0
    unmatched: int = 0


@dataclasses.dataclass(frozen=True)
class RowPairs:
    """Pairs in memory, as `Anchors` takes them.

    Attributes:
      pairs: ``(source, target)`` rows by modality.
      numbers: by modality, the number of each pair among all that were matched: equal
        numbers in two modalities are one example.
      counts: `PairCounts` by modality.
      source_space: fingerprint of the source's space, or None.
      target_space: likewise.
    """

    pairs: dict[Modality, tuple[np.ndarray, np.ndarray]]
    numbers: dict[Modality, Int[np.ndarray, " n"]]
    counts: dict[Modality, PairCounts]
    source_space: str | None
    target_space: str | None


def paired_anchors(
    source: RowSet,
    target: RowSet,
    *,
    match: Match = "auto",
    matched: MatchedRows | None = None,
    normalize: bool = True,
    numbers: Int[np.ndarray, " m"] | None = None,
    call: str = "paired_anchors",
) -> RowPairs:
    """Bring the good pairs of two row sets into memory.

    Args:
      source: rows of the source model.
      target: rows of the target model.
      match: how rows are paired, see `rows.match_rows`.
      matched: what it found; found anew without it.
      normalize: divide every row by its norm, in float32 or better.
      numbers: which pairs, of those that match; all without it.
      call: the call, for errors.

    Returns:
      The pairs, float32 if normalised; or else in the dtype of the files, and mapped
      where nothing is left out.

    Raises:
      ValueError: as `rows.match_rows` does, for row sets without a common modality, or
        two of one embedding space.

    >>> import tempfile, jaxalign as ja
    >>> path = tempfile.mkdtemp() + "/rows.npy"
    >>> np.save(path, np.diag([2.0, 3.0, np.nan]))
    >>> rows = ja.rows.open_rows(path)
    >>> ja.anchors.paired_anchors(rows, rows).counts["rows"]
    PairCounts(read=3, used=2, skipped=1, unmatched=0)
    """
    _check_spaces(call, source, target)
    names = shared_modalities(call, source, target)
    if matched is None:
        matched = match_rows(source, target, match=match, call=call)
    chosen = np.arange(matched.count) if numbers is None else np.asarray(numbers)
    pairs, kept, counts = {}, {}, {}
    for name, (own, other) in names.items():
        sides = []
        good = np.ones(len(chosen), bool)
        for rows, places in (
            (source.rows[own], matched.source),
            (target.rows[other], matched.target),
        ):
            found, fine = _gather(rows, _chosen(places, numbers), normalize)
            sides.append(found)
            good &= fine
        if not good.all():
            sides = [side[good] for side in sides]
        pairs[name] = tuple(sides)
        kept[name] = chosen[good]
        used = int(good.sum())
        counts[name] = PairCounts(
            len(chosen),
            used,
            len(chosen) - used,
            matched.source_only + matched.target_only,
        )
    return RowPairs(pairs, kept, counts, source.space, target.space)


def row_pairs(
    source: RowSet,
    target: RowSet,
    modality: Modality | None = None,
    *,
    match: Match = "auto",
    matched: MatchedRows | None = None,
    normalize: bool = True,
    batch_size: int = BATCH_SIZE,
    rows: range | None = None,
    call: str = "row_pairs",
) -> "GoodPairs":
    """Walk over the pairs of two row sets in constant memory.

    Args:
      source: rows of the source model.
      target: rows of the target model.
      modality: which; may be left out where the two share one alone.
      match: see `rows.match_rows`.
      matched: what it found; found anew without it.
      normalize: divide every row by its norm, in float32 or better.
      batch_size: pairs a batch.
      rows: which pairs; all without it.
      call: the call, for errors.

    Returns:
      An iterator of `PairBatch` for `accumulate_moments`; a pair with a bad row has
      weight 0 in it.

    Raises:
      ValueError: as `paired_anchors` does.
    """
    _check_spaces(call, source, target)
    names = shared_modalities(call, source, target)
    if modality is None and len(names) == 1:
        (modality,) = names
    if modality not in names:
        raise ArgumentError(
            f"{call}(modality={modality!r})",
            f"one of {sorted(names)}, the modalities that both sides have",
            remedy="name it",
        )
    if matched is None:
        matched = match_rows(source, target, match=match, call=call)
    own, other = names[modality]
    slices = PairSlices(
        chosen_rows(source.rows[own], matched.source),
        chosen_rows(target.rows[other], matched.target),
        None,
        None,
        batch_size,
        check_rows(matched.count, rows, batch_size),
    )
    counts = PairCounts(unmatched=matched.source_only + matched.target_only)
    return GoodPairs(slices, normalize, counts)


class GoodPairs:
    """Batches of pairs in which those with a bad row have weight 0.

    Attributes:
      counts: what became of the pairs so far.
    """

    def __init__(self, slices: PairSlices, normalize: bool, counts: PairCounts):
        self._slices, self._normalize = slices, normalize
        self.counts = counts

    def __iter__(self) -> "GoodPairs":
        return self

    def __len__(self) -> int:
        """Batches from the start to the end."""
        return len(self._slices)

    def __next__(self) -> PairBatch:
        batch = next(self._slices)
        sides, good = [], np.ones(len(batch.source), bool)
        for rows in (batch.source, batch.target):
            rows, fine = self._clean(np.asarray(rows))
            sides.append(rows)
            good &= fine
        used = int(good.sum())
        self.counts.read += len(good)
        self.counts.used += used
        self.counts.skipped += len(good) - used
        return PairBatch(sides[0], sides[1], good.astype(np.float32))

    def _clean(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows whose bad ones are zero, and which are good."""
        if self._normalize:
            return unit_or_zero(rows)
        fine = good_rows(rows)
        return (rows if fine.all() else np.where(fine[:, None], rows, 0)), fine

    def get_state(self) -> dict[str, Any]:
        """Return the place, and the counts so far."""
        return {**self._slices.get_state(), **dataclasses.asdict(self.counts)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go to a place that `get_state` returned.

        Raises:
          ValueError: if these pairs have no such place.
        """
        self._slices.set_state(state)
        names = [field.name for field in dataclasses.fields(PairCounts)]
        self.counts = PairCounts(**{name: state[name] for name in names})


def shared_modalities(
    call: str, source: RowSet, target: RowSet
) -> dict[Modality, tuple[Modality, Modality]]:
    """Return modalities that pair, each with its name on either side.

    A lone matrix pairs with the only modality of the other side, and takes its name.

    Raises:
      ValueError: if there is none.
    """
    own, other = source.modalities, target.modalities
    shared = [name for name in own if name in other]
    if shared:
        return {name: (name, name) for name in shared}
    if len(own) == len(other) == 1 and "rows" in (own[0], other[0]):
        name = other[0] if own[0] == "rows" else own[0]
        return {name: (own[0], other[0])}
    raise ArgumentError(
        f"{call}(source=..., target=...)",
        "a modality that both sides have",
        f"{own} and {other}",
        "name one of each, such as `folder/::image`, and modality='image' of a matrix",
    )


def unit_or_zero(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide rows by their norms; a row that is not finite or is zero becomes zero.

    Args:
      rows: ``(n, d)``, floating.

    Returns:
      ``(n, d)`` float32 rows, computed in float32 or better, and ``(n,)`` whether each
      is good.
    """
    wide = rows.astype(wide_dtype(rows.dtype))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        good = np.isfinite(norms) & (norms > 0)
        units = wide / np.where(good, norms, 1)[:, None]
    if not good.all():
        units[~good] = 0
    return units.astype(np.float32, copy=False), good


def _chosen(places: np.ndarray | None, numbers: np.ndarray | None) -> np.ndarray | None:
    """Return the rows of some pairs; None for all rows as they lie."""
    if numbers is None or places is None:
        return numbers if places is None else places
    return places[numbers]


def _gather(
    rows: Rows, numbers: np.ndarray | None, normalize: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows in memory, or mapped as they lie; and which of them are good."""
    if not normalize:
        found = rows[:] if numbers is None else rows.take(numbers)
        return found, good_rows(native_floats(found))
    count = len(rows) if numbers is None else len(numbers)
    found = np.empty((count, rows.shape[1]), np.float32)
    good = np.empty(count, bool)
    chosen = chosen_rows(rows, numbers)
    for start in range(0, count, _BLOCK):
        block = slice(start, min(start + _BLOCK, count))
        found[block], good[block] = unit_or_zero(chosen[block])
    return found, good


def _check_spaces(call: str, source: RowSet, target: RowSet) -> None:
    """Raise for rows of one model on both sides."""
    if source.space is not None and same_space(source.space, target.space):
        raise ArgumentError(
            f"{call}(source=..., target=...)",
            "rows of two models",
            f"two of space {source.space[:12]}...",
            "embed the data with the other model too",
        )
