# SPDX-License-Identifier: Apache-2.0
"""A paired set is consistent from its start, and stays so when rows are taken."""

import numpy as np
import pytest

from jaxalign.evaluate.paired_set import PairedSet

N, LABELS = 4, np.array([5, 5, 8, 9])


def _fields(**changes):
    rng = np.random.default_rng(0)
    rows = {
        f"{side}_{name}": rng.standard_normal((count, width))
        for side, width in (("source", 3), ("target", 2))
        for name, count in (("images", N), ("texts", N), ("class_texts", 3))
    }
    return {**rows, "labels": LABELS, "class_ids": np.array([5, 8, 9]), **changes}


def test_ids_and_groups_default_to_each_example_its_own():
    pairs = PairedSet(**_fields())
    assert pairs.ids.tolist() == pairs.groups.tolist() == [0, 1, 2, 3]
    grouped = PairedSet(**_fields(ids=np.array([7, 7, 1, 2])))
    assert grouped.groups.tolist() == [7, 7, 1, 2]


@pytest.mark.parametrize(
    "chosen", [np.array([0, 3]), np.array([True, False, False, True])]
)
def test_taking_rows_keeps_their_classes_alone(chosen):
    pairs = PairedSet(**_fields())
    taken = pairs.take(chosen)
    assert taken.labels.tolist() == [5, 9]
    assert taken.class_ids.tolist() == [5, 9]
    assert taken.ids.tolist() == [0, 3]
    np.testing.assert_array_equal(taken.target_texts, pairs.target_texts[[0, 3]])
    np.testing.assert_array_equal(
        taken.source_class_texts, pairs.source_class_texts[[0, 2]]
    )


NOT_FINITE = np.ones((N, 2))
NOT_FINITE[2, 1] = np.nan


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("source_texts", np.ones((N + 1, 3)), r"\(5, 3\)"),
        ("target_texts", np.ones((N, 3)), r"\(4, 3\)"),
        ("class_ids", np.array([5, 8, 7]), "9"),
        ("target_images", NOT_FINITE, "row 2"),
        ("target_images", np.zeros((N, 2)), "4"),
        ("groups", np.arange(3), r"\(3,\)"),
        ("labels", np.array([], int), ""),
        ("labels", None, ""),
        ("class_ids", None, ""),
    ],
    ids=[
        "length",
        "width",
        "class",
        "not finite",
        "zero",
        "groups",
        "none",
        "no labels",
        "no classes",
    ],
)
def test_what_does_not_pair_is_refused(name, value, got):
    with pytest.raises(ValueError, match=rf"`PairedSet\({name}=.*{got}"):
        PairedSet(**_fields(**{name: value}))
