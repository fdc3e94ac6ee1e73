# SPDX-License-Identifier: Apache-2.0
"""Fingerprints compare as strings, and remember their older ones."""

import copy
import json
import pickle

import pytest

from jaxalign.spaces import Space, older_spaces, same_space

SPACE = Space("new", older=["old", "older"])


def test_it_is_a_string():
    assert SPACE == "new"
    assert hash(SPACE) == hash("new")
    assert json.dumps({"space": SPACE}) == '{"space": "new"}'
    assert type(str(SPACE)) is str
    assert (repr(SPACE), f"{SPACE[:2]}") == ("'new'", "ne")


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, copy.copy, lambda space: pickle.loads(pickle.dumps(space))]
)
def test_copies_remember(twin):
    assert twin(SPACE) == SPACE
    assert older_spaces(twin(SPACE)) == ("old", "older")


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ("new", True),
        ("older", True),
        ("else", False),
        (None, False),
        (Space("else", older=["new"]), True),
        # Two that merely share an older one are two: the newer tell more apart.
        (Space("else", older=["old"]), False),
    ],
)
def test_which_are_one(other, same):
    assert same_space(SPACE, other) is same_space(other, SPACE) is same


def test_unknown_spaces():
    assert same_space(None, None)
    assert older_spaces(None) == older_spaces("plain") == ()
