# SPDX-License-Identifier: Apache-2.0
"""Planted unit rows in cones of unequal width, as text embeddings have them."""

import jax
import numpy as np

import jaxalign as ja

SOURCE_CONE, TARGET_CONE = 0.93, 0.33


def cone_rows(n, d, *, noise=0.6, decay=0.5, seed=0):
    """Source and target rows whose means have the norms seen on two text models."""
    spreads = [np.sqrt(1 - norm**2) for norm in (SOURCE_CONE, TARGET_CONE)]
    planted = ja.data.planted_pairs(
        jax.random.key(seed),
        n,
        d,
        noise=noise,
        decay=decay,
        scale=float(spreads[1] / spreads[0]),
        mean_norms=(SOURCE_CONE, TARGET_CONE),
        modalities=("text",),
    )
    return tuple(
        np.asarray(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in planted.pairs["text"]
    )


def exact_top1(index, source):
    """Share of queries that find the index row of their own number first."""
    found = index.search(source, 1)[1][:, 0]
    return float(np.mean(np.asarray(found) == np.arange(len(source))))
