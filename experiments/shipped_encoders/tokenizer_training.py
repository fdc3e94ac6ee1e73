# SPDX-License-Identifier: Apache-2.0
"""Train small tokenizers on captions, in the form that `transformers` reads back.

Two kinds that share nothing: byte-level BPE, as CLIP has, and a unigram model, as
SigLIP has. Ids are fixed: padding 0, end of text 1. The end's id must not be 2, which
CLIP configs read as "pool at the largest id".
"""

import os
from collections.abc import Iterable

from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

PAD_ID, EOS_ID, BOS_ID = 0, 1, 2


def read_tokenizer(folder: str | os.PathLike) -> PreTrainedTokenizerFast:
    """Read a tokenizer that one of this module's functions trained and saved."""
    return PreTrainedTokenizerFast.from_pretrained(os.fspath(folder))


def train_byte_bpe(
    texts: Iterable[str], *, vocabulary_size: int, max_length: int
) -> PreTrainedTokenizerFast:
    """Train a lower-casing byte-level BPE with begin and end tokens.

    Args:
      texts: the corpus.
      vocabulary_size: the most ids; at least 259 (bytes and special tokens).
      max_length: tokens of the longest text that the model takes.

    Returns:
      A tokenizer that pads on the right.

    References:
      Sennrich, Haddow, Birch, "Neural machine translation of rare words with subword
      units", 2016, arXiv 1508.07909.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocabulary_size,
            special_tokens=["<pad>", "<eos>", "<bos>"],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", BOS_ID), ("<eos>", EOS_ID)]
    )
    return _wrap(tokenizer, max_length, bos_token="<bos>")


def train_unigram(
    texts: Iterable[str], *, vocabulary_size: int, max_length: int
) -> PreTrainedTokenizerFast:
    """Train a lower-casing unigram model with an end token.

    Not repeatable: the trainer sums in no fixed order, so pieces of nearly the same
    score change places, and ids, from one run to the next. Keep what it returns.

    Args:
      texts: the corpus.
      vocabulary_size: the most ids.
      max_length: tokens of the longest text that the model takes.

    Returns:
      A tokenizer that pads on the right.

    References:
      Kudo, "Subword regularization", 2018, arXiv 1804.10959.
    """
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(
        texts,
        trainers.UnigramTrainer(
            vocab_size=vocabulary_size,
            special_tokens=["<pad>", "<eos>", "<unk>"],
            unk_token="<unk>",
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", EOS_ID)]
    )
    return _wrap(tokenizer, max_length, unk_token="<unk>")


def _wrap(
    tokenizer: Tokenizer, max_length: int, **special: str
) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        model_max_length=max_length,
        padding_side="right",
        **special,
    )
