# SPDX-License-Identifier: Apache-2.0
"""Are these pairs fit to be added to a map? Asked before all of them are read."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.kept_pairs import KeptPairs, Sample
from jaxalign.rows.row_set import ROWS
from jaxalign.trust.of_map import judge_map
from jaxalign.trust.verdict import FEWEST_GROUPS, Verdict
from jaxalign.workflows.map_input import (
    check_row_spaces,
    check_side,
    modality_of,
    use_of,
)
from jaxalign.workflows.pairs import read_pairs
from jaxalign.workflows.progress import working
from jaxalign.workflows.sides import Sides

GOOD = ("weak", "usable")
"""Words of a map that can be spoilt, the better one last."""


def check_added(
    call: str,
    amap: AlignmentMap,
    before: KeptPairs,
    sides: Sequence[Sides],
    *,
    normalize: bool,
    force: bool = False,
) -> None:
    """Raise for pairs that must not be added to a map.

    Args:
      call: named in errors.
      amap: the map.
      before: what was kept of its pairs.
      sides: the new pairs, named by `name_as_map`; a sample of them is read.
      normalize: whether their rows are divided by their norms.
      force: add pairs that the map does not fit all the same.

    Raises:
      ValueError: for pairs that are in already, of other widths, spaces or
        norms; unless forced, for sides that are swapped, and pairs that a good map does
        not fit.
    """
    if {one.origin() for one in sides} & set(before.origins):
        raise ArgumentError(call, "pairs that are not in yet", "the same files again")
    if normalize != before.normalized:
        was = "unit" if before.normalized else "none"
        raise ArgumentError(
            f"{call} --normalize", f"{was!r}, as before", remedy="leave it out"
        )
    for one in sides:
        check_row_spaces(call, amap, one.source, one.target)
    if force:
        return
    look, _ = read_pairs(sides, normalize=normalize, sample_only=True, call=call)
    for name, sample in look.samples.items():
        if name in amap.modalities and len(sample.ids):
            _check_sample(call, amap, look, name, sample)


def name_as_map(call: str, amap: AlignmentMap, sides: Sequence[Sides]) -> None:
    """Name lone matrices as the map's one modality, as `apply` does.

    Raises:
      ValueError: if the map has several, or there are several for a map of one.
    """
    names = {name for one in sides for name in one.modalities}
    known = ", ".join(amap.modalities)
    for one in sides:
        for name in one.modalities:
            own = modality_of(amap, name)
            if name in amap.modalities or (own is None and name != ROWS):
                continue
            if own is None or len(names) > 1:
                raise ArgumentError(
                    f"{call}, --modality=",
                    f"rows of a modality of the map ({known})",
                    ", ".join(sorted(names)),
                    f"write --modality={amap.modalities[0]}, for example",
                )
            for rows in (one.source, one.target):
                rows.rows = {own: rows.rows[name]}


def is_lower(new: str, old: object) -> bool:
    """Whether a verdict's word is lower than another one.

    >>> is_lower("weak", "usable"), is_lower("usable", "weak"), is_lower("none", None)
    (True, False, False)
    """
    ranks = {word: rank for rank, word in enumerate(GOOD, 1)}
    return ranks.get(new, 0) < ranks.get(str(old), 0)


def word_of(amap: AlignmentMap) -> str | None:
    """The word of the verdict in a map's card, or None."""
    told = amap.card.get("verdict")
    return told.get("word") if isinstance(told, Mapping) else None


def _check_sample(
    call: str, amap: AlignmentMap, look: KeptPairs, name: str, sample: Sample
) -> None:
    """Raise for pairs of one modality that the map does not fit."""
    strange = []
    for side in ("source", "target"):
        where = f"{call} {side.upper()}, without --force"
        fit = check_side(where, amap, getattr(sample, side), name, side=side)
        if fit is not None and fit.strange:
            strange.append(f"{side.upper()} {fit.own:.1f}")
    verdict = _judge(amap, look, name, sample)
    if verdict is not None and verdict.word in GOOD:
        return
    if strange:
        raise ArgumentError(
            f"{call}, without --force",
            "rows like those of the map's pairs",
            f"rows unlike them: its sketches leave {' and '.join(strange)} times as "
            "much of them",
            "they are of another model, modality or domain: fit them alone; --force "
            "adds them all the same",
        )
    if verdict is not None and verdict.word == "none" and word_of(amap) in GOOD:
        _, _, said = verdict.sentence.partition(": ")
        raise ArgumentError(
            f"{call}, without --force",
            f"pairs that the map fits, whose verdict is {word_of(amap)}",
            f"pairs that it does not: {said.partition(';')[0]}",
            "check that row i of both sides shows one thing, or fit them alone; "
            "--force adds them all the same",
        )


def _judge(
    amap: AlignmentMap, look: KeptPairs, name: str, sample: Sample
) -> Verdict | None:
    """Judge the map on the new pairs of one modality; None for too few."""
    if len(np.unique(sample.ids)) < FEWEST_GROUPS:
        return None
    with working("Searching new pairs by the map as it is"):
        return judge_map(amap, look.anchors(), name, use=use_of(amap))
