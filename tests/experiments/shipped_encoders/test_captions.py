# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from experiments.shipped_encoders import captions

EXAMPLE = {
    "name": "red apple",
    "keywords": "fruit, ripe, tree",
    "subgroup": "food-fruit",
    "style": "line",
    "background": "orange",
}


def test_training_captions_keep_their_shares():
    rng = np.random.default_rng(0)
    n = 4000
    texts = [captions.training_caption(EXAMPLE, rng) for _ in range(n)]
    told = captions.CAPTION_SHARES
    assert sum(told.values()) == pytest.approx(1.0)
    some_keywords = told["name and keywords"] + told["keywords"]
    shares = {
        "red apple": told["name"] + told["name and keywords"],
        "background": captions.DETAIL_SHARE,
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
        first = captions.training_caption(bare, one)
        assert first == captions.training_caption(bare, two)
