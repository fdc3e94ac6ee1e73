# SPDX-License-Identifier: Apache-2.0
"""Trained tokenizers: fixed special ids, ends that survive cutting, faithful files."""

import pytest
from transformers import AutoTokenizer

from experiments.shipped_encoders import tokenizer_training as tokens
from tests import tiny_encoders

TEXTS = [
    "a red apple",
    "A RED Apple",
    "",
    "  spaced   out ",
    "unseen wørds, 123!",
    "😀 שלום עולם 中文",
    "an emoji of the blue clock on a white background " * 9,
]


# Families whose tokenizer is trained here; FLAVA's in tests is put together by hand.
TRAINED = ("clip", "siglip")


@pytest.fixture(scope="module")
def tokenizers():
    return {f: tiny_encoders.make_tokenizer(f) for f in TRAINED}


@pytest.fixture(params=TRAINED)
def tokenizer(request, tokenizers):
    return tokenizers[request.param]


def _ids(tokenizer, texts, length=tiny_encoders.TEXT_LENGTH):
    return tokenizer(texts, padding="max_length", truncation=True, max_length=length)[
        "input_ids"
    ]


def test_special_ids_are_fixed(tokenizer):
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)
    assert (tokens.PAD_ID, tokens.EOS_ID) == (0, 1)
    # CLIP configs read an end id of 2 as "pool at the largest id".
    assert tokenizer.eos_token_id != 2


def test_byte_bpe_begins_texts_and_unigram_does_not(tokenizers):
    bpe, unigram = tokenizers["clip"], tokenizers["siglip"]
    assert bpe.bos_token_id == tokens.BOS_ID == 2
    assert unigram.bos_token_id is None
    assert bpe("")["input_ids"] == [tokens.BOS_ID, tokens.EOS_ID]
    assert unigram("")["input_ids"] == [tokens.EOS_ID]


def test_texts_end_once_and_are_padded_behind(tokenizer):
    for ids in _ids(tokenizer, TEXTS):
        end = ids.index(tokens.EOS_ID)
        assert ids.count(tokens.EOS_ID) == 1
        assert set(ids[end + 1 :]) <= {tokens.PAD_ID}
        assert tokens.PAD_ID not in ids[:end]


def test_cutting_keeps_the_end(tokenizer):
    (ids,) = _ids(tokenizer, TEXTS[-1:])
    assert len(ids) == tiny_encoders.TEXT_LENGTH
    assert ids[-1] == tokens.EOS_ID
    whole = tokenizer(TEXTS[-1], truncation=False)["input_ids"]
    assert ids[:-1] == whole[: len(ids) - 1]


def test_case_does_not_count(tokenizer):
    first, second = _ids(tokenizer, TEXTS[:2])
    assert first == second


def test_bytes_can_spell_anything(tokenizers):
    tokenizer = tokenizers["clip"]
    for text in TEXTS[:6]:
        ids = tokenizer(text)["input_ids"]
        decoded = tokenizer.decode(ids, skip_special_tokens=True)
        assert decoded.strip() == text.strip().lower()


def test_unigram_marks_what_it_cannot_spell(tokenizers):
    tokenizer = tokenizers["siglip"]
    assert tokenizer.unk_token_id == 2
    assert tokenizer.unk_token_id in tokenizer("中")["input_ids"]
    assert tokenizer.unk_token_id not in tokenizer("red apple")["input_ids"]


@pytest.mark.parametrize("family", TRAINED)
def test_a_checkpoint_folder_gives_the_same_ids_back(tokenizers, family, tmp_path):
    # The folder's config.json names the family, whose own tokenizer class
    # AutoTokenizer must not put in the place of ours.
    folder = tiny_encoders.write_folder(tmp_path / family, family)
    for path in folder.glob("tokenizer*.json"):
        path.unlink()
    tokenizers[family].save_pretrained(folder)
    reloaded = AutoTokenizer.from_pretrained(str(folder))
    expected = _ids(tokenizers[family], TEXTS)
    assert _ids(reloaded, TEXTS) == expected
    assert reloaded.get_vocab() == tokenizers[family].get_vocab()
    # The length that the folder says is enough to cut by.
    by_default = reloaded(TEXTS, padding="max_length", truncation=True)["input_ids"]
    assert by_default == expected


def test_vocabularies_keep_to_their_size(tokenizers):
    assert len(tokenizers["clip"]) == 300
    assert len(tokenizers["siglip"]) <= 60
    ids = [max(t.get_vocab().values()) for t in tokenizers.values()]
    assert ids == [len(t) - 1 for t in tokenizers.values()]


def test_training_twice_gives_the_same_pieces(tokenizers):
    again = {f: tiny_encoders.make_tokenizer(f) for f in tokenizers}
    assert again["clip"].get_vocab() == tokenizers["clip"].get_vocab()
    # The unigram trainer sums in no fixed order: pieces of like score swap ids, which
    # is why a training run keeps its tokenizer.
    assert again["siglip"].get_vocab().keys() == tokenizers["siglip"].get_vocab().keys()
