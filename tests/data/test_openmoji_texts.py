# SPDX-License-Identifier: Apache-2.0
import pytest

from jaxalign.data import openmoji_table, openmoji_texts

READABLE = {
    "animal-mammal": "mammal animal",
    "face-smiling": "smiling face",
    "transport-ground": "ground transport",
    "face-hat": "face with a hat",
    "drink": "drink",
}


@pytest.mark.parametrize(("subgroup", "words"), READABLE.items())
def test_readable_class(subgroup, words):
    assert openmoji_texts.readable_class(subgroup) == words


def test_readable_classes_are_distinct_words():
    names = [openmoji_texts.readable_class(s) for s in openmoji_table.subgroups()]
    assert len(set(names)) == len(names)
    assert not any("-" in name for name in names)
    assert set(openmoji_texts._READABLE) <= set(openmoji_table.subgroups())


def test_class_prompts_are_an_ensemble_of_each_class():
    table = openmoji_texts.class_prompts(["drink", "face-hat"])
    assert [len(texts) for texts in table] == [len(openmoji_texts.CLASS_TEMPLATES)] * 2
    assert "a kind of drink" in table[0]
    assert all("face with a hat" in text for text in table[1])
