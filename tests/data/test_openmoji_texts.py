# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from jaxalign.data import openmoji_table, openmoji_texts

EXAMPLE = {
    "name": "red apple",
    "keywords": "fruit, ripe, tree",
    "subgroup": "food-fruit",
    "style": "line",
    "background": "orange",
}

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


def test_training_captions_keep_their_shares():
    rng = np.random.default_rng(0)
    n = 4000
    texts = [openmoji_texts.training_caption(EXAMPLE, rng) for _ in range(n)]
    told = openmoji_texts.CAPTION_SHARES
    assert sum(told.values()) == pytest.approx(1.0)
    some_keywords = told["name and keywords"] + told["keywords"]
    shares = {
        "red apple": told["name"] + told["name and keywords"],
        "background": openmoji_texts.DETAIL_SHARE,
        "ripe": some_keywords * 2 / 3,  # one of 1 to 3 of 3 keywords
        "fruit": told["class"] + some_keywords * 2 / 3,  # it is the class, too
    }
    for words, share in shares.items():
        found = np.mean([words in text for text in texts])
        # Five standard deviations of a share.
        assert abs(found - share) < 5 * np.sqrt(share * (1 - share) / n), words
    assert any(text.endswith("as a line drawing") for text in texts)
    assert any(text.endswith("on an orange background") for text in texts)
    assert len(set(texts)) > 200


def test_training_captions_repeat_with_the_seed_and_need_no_keywords():
    bare = {**EXAMPLE, "keywords": ""}
    one, two = (np.random.default_rng(3) for _ in range(2))
    for _ in range(50):
        first = openmoji_texts.training_caption(bare, one)
        assert first == openmoji_texts.training_caption(bare, two)
