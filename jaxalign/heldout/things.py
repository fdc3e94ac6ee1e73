# SPDX-License-Identifier: Apache-2.0
"""Which rows show one thing: those of one id, and those that are equal on a side.

A search cannot tell equal rows apart, so both are right answers, and a chooser that
held only one of them out would have seen the other.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from jaxtyping import Int

from jaxalign.anchors.anchors import Anchors
from jaxalign.array_types import Modality

Numbers = Mapping[Modality, Int[np.ndarray, " n"]]


def number_things(anchors: Anchors) -> Anchors:
    """Return the same anchors with ids and groups as numbers, alike in all modalities.

    Args:
      anchors: on the host.

    Returns:
      Anchors whose ids number things, and whose groups are whole things that share a
      label. Modalities without labels share groups by row number: row i of each may
      show one thing, so it is held out once, though it answers no other row.
    """
    sizes = {name: len(rows) for name, rows in anchors.rows.items()}
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]), strict=False))
    total = sum(sizes.values())
    rows_of = {n: starts[n] + np.arange(size) for n, size in sizes.items()}
    links: list[tuple[np.ndarray, np.ndarray]] = []
    for name, pairs in anchors.rows.items():
        for side in (pairs.source, pairs.target):
            # Bytes are equal where rows are, but for -0.0.
            keys: dict[bytes, int] = {}
            first = [keys.setdefault(_digest(row), i) for i, row in enumerate(side)]
            links.append((rows_of[name], rows_of[name][np.array(first)]))
    links += _same(anchors, rows_of, "ids")
    things = _join(total, links)
    links += _same(anchors, rows_of, "groups")
    nameless = [name for name, rows in anchors.rows.items() if rows.labels is None]
    for name in nameless[1:]:
        shared = min(sizes[name], sizes[nameless[0]])
        links.append((rows_of[nameless[0]][:shared], rows_of[name][:shared]))
    groups = _join(total, links)
    return anchors.with_labels(
        ids={name: things[own] for name, own in rows_of.items()},
        groups={name: groups[own] for name, own in rows_of.items()},
    )


def _digest(row: np.ndarray) -> bytes:
    """Sixteen bytes that stand for a row's."""
    return hashlib.blake2b(row.tobytes(), digest_size=16).digest()


def _same(anchors: Anchors, rows_of: Numbers, labels: Any) -> list:
    """Link the rows of each label to the first that has it, across modalities."""
    given = {
        name: getattr(rows, labels)
        for name, rows in anchors.rows.items()
        if getattr(rows, labels) is not None
    }
    if not given:
        return []
    values = np.concatenate(list(given.values()))
    numbers = np.concatenate([rows_of[name] for name in given])
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return [(numbers, numbers[first[inverse.ravel()]])]


def _join(total: int, links: list) -> Int[np.ndarray, " n"]:
    """Number the components of rows that are linked."""
    left, right = (np.concatenate(ends) for ends in zip(*links, strict=True))
    graph = scipy.sparse.coo_matrix(
        (np.ones(len(left), np.int8), (left, right)), shape=(total, total)
    )
    return scipy.sparse.csgraph.connected_components(graph, directed=False)[1]
