# SPDX-License-Identifier: Apache-2.0
"""`judge_map`: how well a finished map does on pairs that it was not fitted on."""

import numpy as np
from jaxtyping import Float

from jaxalign.anchors.anchors import Anchors
from jaxalign.array_types import ArrayLike, Modality
from jaxalign.families.scorer import Side
from jaxalign.heldout.pool import carried_errors, neighbour_overlap
from jaxalign.heldout.scores import FoldScores
from jaxalign.heldout.things import number_things
from jaxalign.maps.alignment_map import AlignmentMap, check_map
from jaxalign.search.index import PreparedIndex, prepare
from jaxalign.search.use import Use, default_use, serves, without_norms
from jaxalign.trust.verdict import (
    FEWEST_GROUPS,
    FULL_INDEX,
    Figure,
    HeldOut,
    Marks,
    Verdict,
    chance_of,
    decide,
    describe,
    ratio_figure,
    share_figure,
)
from jaxalign.unit_rows import unit_rows

_SEED = 0


def judge_map(
    amap: AlignmentMap,
    pairs: Anchors,
    modality: Modality | None = None,
    *,
    use: Use | None = None,
    marks: Marks = Marks(),  # noqa: B008 (frozen)
) -> Verdict:
    """Judge a map on new pairs: nothing is fitted.

    Source rows are searched among 1,000 target rows at a time, their partners among
    them, as `search.prepare` searches. The same is done with the partners dealt out
    anew.

    Args:
      amap: the map, with the anchors that it keeps.
      pairs: that it was not fitted on; of several modalities one is judged.
      modality: which; may be left out where the map or the pairs have one alone.
      use: in searches. Default: the map's own; without offsets where it keeps no
        anchors for it.
      marks: shares of hits that the word goes by.

    Returns:
      The verdict, as `judge` gives it.

    Raises:
      ValueError: for rows of another width, or a modality that the map lacks.

    >>> import jax
    >>> from jaxalign.data.planted import planted_pairs
    >>> from jaxalign.maps.fit import fit_map
    >>> pairs = planted_pairs(jax.random.key(0), 80, 4, modalities=("text",)).pairs
    >>> source, target = pairs["text"]
    >>> amap = fit_map({"text": (source[:40], target[:40])})
    >>> judge_map(amap, Anchors({"text": (source[40:], target[40:])})).word
    'usable'
    """
    call = "judge_map"
    check_map(call, "amap", amap)
    if modality is None and len(pairs.rows) == 1 and len(amap.modalities) > 1:
        modality = next(iter(pairs.rows))
    modality = amap.check_modality(f"{call}(modality={{}})", modality)
    own = modality if modality in pairs.rows else next(iter(pairs.rows))
    rows = number_things(pairs.on_host()).rows[own]
    use = use or default_use(amap)
    if use.offsets and not (serves(amap, use) and modality in amap.encoded):
        use = use.without_offsets()
    ids, groups = rows.known("ids"), rows.known("groups")
    order = np.random.default_rng(_SEED).permutation(len(rows))
    blocks = np.array_split(order, max(1, round(len(rows) / FULL_INDEX)))
    hits, overlaps, chances, mixed_hits, mixed_overlaps = [], [], [], [], []
    asks, found = _sides(amap)
    bare = without_norms(amap)
    for block in blocks:
        index = prepare(
            bare,
            np.asarray(getattr(rows, found))[block],
            modality,
            rows_are=found,
            use=use,
        )
        queries = np.asarray(index.prepared(np.asarray(getattr(rows, asks))[block]))
        units = np.asarray(unit_rows(np.asarray(getattr(rows, found))[block]))
        scores = _scores(queries, index)
        right = ids[block][:, None] == ids[block][None, :]
        turned = np.roll(right, 1, axis=0)  # every row's partner is another's
        for kept, near, answers, cosines in (
            (hits, overlaps, right, units @ units.T),
            (mixed_hits, mixed_overlaps, turned, np.roll(units, 1, axis=0) @ units.T),
        ):
            of_block = FoldScores(scores, answers, groups[block])
            kept.append(of_block.hits())
            near.append(neighbour_overlap(of_block, cosines))
        chances.append(right.mean(axis=1))
    groups = groups[order]
    figures = None
    if len(np.unique(groups)) >= FEWEST_GROUPS:
        values = np.concatenate(hits).astype(float)
        ordered = rows.take(order)
        error, spread, outside, energy = carried_errors(amap, ordered, modality)
        turned = ordered.take(np.roll(np.arange(len(order)), 1))
        mixed = _mixed_error(amap, ordered.source, turned.target, modality)
        left = ratio_figure(error, spread, groups)
        near = ratio_figure(np.concatenate(overlaps), np.ones_like(values), groups)
        top1 = share_figure(values, groups)
        chance = float(np.concatenate(chances).mean())
        figures = HeldOut(
            top1=_beside(top1, float(np.concatenate(mixed_hits).mean())),
            neighbours=_beside(near, float(np.concatenate(mixed_overlaps).mean())),
            explained=Figure(
                1 - left.value,
                1 - left.high,
                1 - left.low,
                1 - mixed / float(spread.sum()),
            ),
            rows=min(map(len, blocks)),
            chance=chance,
            queries=len(values),
            groups=len(np.unique(groups)),
            outside=float(outside.sum() / energy.sum()),
            doubled=None,
            p_value=chance_of(values, groups, chance),
        )
    word = decide(figures, marks)
    sentence = describe(word, figures, len(rows), len(np.unique(groups)))
    return Verdict(word, sentence, modality, len(rows), figures, marks)


def _sides(amap: AlignmentMap) -> tuple[Side, Side]:
    """Which model's rows ask, and which are searched."""
    asks = None if amap.scorer is None else amap.scorer.queries_are
    return ("target", "source") if asks == "target" else ("source", "target")


def _scores(queries: np.ndarray, index: PreparedIndex) -> Float[np.ndarray, "n m"]:
    """Scores of all queries with all rows."""
    return queries @ np.asarray(index.rows).T - np.asarray(index.offsets)[None, :]


def _mixed_error(
    amap: AlignmentMap, source: ArrayLike, target: ArrayLike, modality: Modality
) -> float:
    """Squared error of carried rows for the rows of others."""
    carried = np.asarray(without_norms(amap)(source, modality))
    return float(np.sum((np.asarray(target) - carried) ** 2))


def _beside(figure: Figure, shuffled: float) -> Figure:
    """A figure beside that of shuffled pairs, within 0 and 1."""
    low, high = max(0.0, figure.low), min(1.0, figure.high)
    return Figure(figure.value, low, high, shuffled)
