# SPDX-License-Identifier: Apache-2.0
"""Every public call that takes rows checks them, and names the argument."""

import re
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.evaluate.protocol import evaluate_map
from jaxalign.evaluate.rescoring import RefittedMap
from jaxalign.metrics.cosine import agreement, centred_pair_cosines, pair_cosines
from jaxalign.metrics.spectrum import dimensions_used
from jaxalign.metrics.zeroshot import (
    average_prompts,
    class_similarities,
    zeroshot_hits,
)

ROWS = np.eye(4, dtype=np.float32)
NUMBERS = np.arange(4)
SIDES = ("images", "texts", "class_texts")
PAIRED = {f"{side}_{name}": ROWS for side in ("source", "target") for name in SIDES}


class Tensor:
    """Stands for another library's array."""

    def __init__(self, values):
        self._values = values

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._values, dtype)


def prepared(rows, **options):
    """An index by the identity, about the ones."""
    identity, ones = jnp.asarray(ROWS), jnp.ones(4)
    means = {"rows": ones}
    numbers = ja.maps.MapNumbers(identity, {"rows": ones[0]}, means, means)
    use = ja.search.Use(offsets=0)
    return ja.search.prepare(ja.AlignmentMap(numbers), rows, use=use, **options)


def refitted(rows):
    identity, ones = jnp.asarray(ROWS), jnp.ones(4)
    return RefittedMap(identity, ones[0], ones, ones)(rows)


# What `rescore_recall` asks of moments before it looks at the rows.
MOMENTS: Any = types.SimpleNamespace(d_source=4, d_target=4)


def paired(**rows):
    return ja.PairedSet(**{**PAIRED, **rows}, labels=NUMBERS, class_ids=NUMBERS)


# How the error begins, and what is called with a value for that argument.
CALLS = {
    "top_k(queries": lambda rows: ja.search.top_k(rows, ROWS, 1),
    "top_k(index": lambda rows: ja.search.top_k(ROWS, rows, 1),
    "exact_recall(queries": lambda rows: ja.metrics.exact_recall(rows, ROWS, NUMBERS),
    "exact_recall(index": lambda rows: ja.metrics.exact_recall(ROWS, rows, NUMBERS),
    "class_top1(queries": lambda x: ja.metrics.class_top1(x, NUMBERS, ROWS, NUMBERS),
    "class_top1(index": lambda x: zeroshot_hits(ROWS, NUMBERS, x, NUMBERS),
    "hubness_offsets(aligned_anchors": lambda x: ja.search.hubness_offsets(
        x, ROWS, k=1
    ),
    "hubness_offsets(index": lambda rows: ja.search.hubness_offsets(ROWS, rows, k=1),
    "append_offsets(index": lambda x: ja.search.append_offsets(x, ROWS[0]),
    "pair_cosines(left": lambda rows: pair_cosines(rows, ROWS),
    "mean_cosine(right": lambda rows: ja.metrics.mean_cosine(ROWS, rows),
    "mismatched_cosine(left": lambda rows: ja.metrics.mismatched_cosine(rows, ROWS),
    "centred_cosine(right": lambda rows: ja.metrics.centred_cosine(ROWS, rows),
    "centred_pair_cosines(left": lambda rows: centred_pair_cosines(rows, ROWS),
    "agreement(right": lambda rows: agreement(ROWS, rows),
    "average_prompts(prompt_rows": lambda rows: average_prompts(rows),
    "class_similarities(images": lambda rows: class_similarities(
        rows, NUMBERS, ROWS, NUMBERS
    ),
    "class_similarities(class_texts": lambda rows: class_similarities(
        ROWS, NUMBERS, rows, NUMBERS
    ),
    "dimensions_used(rows": dimensions_used,
    "evaluate_map(map_rows": lambda rows: evaluate_map(
        "m", lambda given, modality: rows, paired()
    ),
    "prepare(rows": prepared,
    "index.search(queries": lambda rows: prepared(ROWS).search(rows, 1),
    "index.encode(queries": lambda rows: prepared(ROWS).encode(rows),
    "Anchors(pairs['rows'], source": lambda rows: ja.Anchors((rows, ROWS)),
    "fit_map(anchors['rows'], target": lambda rows: ja.fit_map((ROWS, rows)),
    "refitted_map(rows": refitted,
    "rescore_recall(queries": lambda rows: ja.evaluate.rescore_recall(
        MOMENTS, rows, ROWS, NUMBERS
    ),
    "rescore_recall(index": lambda rows: ja.evaluate.rescore_recall(
        MOMENTS, ROWS, rows, NUMBERS
    ),
    **{
        f"PairedSet({name}": lambda x, name=name: paired(**{name: x}) for name in PAIRED
    },
}


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize("start", CALLS)
def test_rows_that_are_not_real_floating_are_refused(start):
    given = ROWS[:, None] if "prompts" in start else ROWS
    for bad in (given + 1j, given.astype(np.int8), given.astype(np.uint8), given[0]):
        with pytest.raises(ValueError, match=re.escape(f"`{start}=...)`")):
            CALLS[start](bad)
    with pytest.raises(ValueError, match=re.escape(start.split("(")[1])):
        CALLS[start](given.tolist())


def answers(rows):
    """What the searches and cosines give of rows against the identity."""
    return jax.tree.map(
        np.asarray,
        (
            ja.search.top_k(rows, rows, 2),
            ja.metrics.exact_recall(rows, ROWS, NUMBERS).ranks,
            ja.metrics.class_top1(ROWS, NUMBERS, rows, NUMBERS),
            ja.search.hubness_offsets(rows, ROWS, k=1),
            ja.metrics.mean_cosine(rows, ROWS),
            prepared(rows).search(rows, 2),
            dimensions_used(rows),
        ),
    )


@pytest.mark.usefixtures("no_shape_hook")
def test_other_byte_orders_long_doubles_and_foreign_arrays_are_read():
    rows = ROWS + np.linspace(0, 0.5, 16, dtype=np.float32).reshape(4, 4)
    expected = answers(rows)
    for given in (
        rows.astype(">f4"),
        rows.astype(">f8"),
        rows.astype("g"),
        Tensor(rows),
    ):
        jax.tree.map(np.testing.assert_array_equal, answers(given), expected)
