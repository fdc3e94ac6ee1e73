# SPDX-License-Identifier: Apache-2.0
"""One form for one tokenizer, however it is stored; another for other ids."""

import copy
import json
import shutil

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from jaxalign.encoders.preprocessing import TOKENIZER_SETTINGS, TextPreprocessor
from jaxalign.encoders.tokenizer_form import backend_form, tokenizer_form
from tests import tiny_encoders
from tests.encoders import awkward
from tests.tiny_hub_folders import edit_json

FILES = ("*token*", "vocab*", "merges*", "spiece*")
SHORT = [text[:200] for text in awkward.TEXTS]
TEXTS = [
    "a red apple",
    "An EMOJI of the dark  fish!",
    "É <eos> [SEP] <|endoftext|> x's",
]


def _canonical(folder):
    return TextPreprocessor(folder, length=12).canonical()


def _form(folder):
    return tokenizer_form(AutoTokenizer.from_pretrained(str(folder)))


@pytest.fixture(params=["clip", "flava", "siglip", "siglip2", "clip-openai"])
def stored(request, folders, hub_folders):
    """Folders with a `tokenizer.json`, of all kinds of models."""
    return {**folders, **hub_folders}[request.param]


@pytest.fixture(scope="module")
def backends(folders, hub_folders):
    """The JSON of all kinds of tokenizers: byte-level BPE, WordPiece, Unigram, BPE."""
    names = ("clip", "flava", "siglip", "siglip2", "clip-openai")
    every = {**folders, **hub_folders}
    return {
        name: json.loads((every[name] / "tokenizer.json").read_text()) for name in names
    }


# --- one tokenizer


@pytest.mark.parametrize("used", [False, True], ids=["saved", "saved after use"])
def test_saved_again(hub_folder, tmp_path, used):
    tokenizer = AutoTokenizer.from_pretrained(str(hub_folder))
    copied = tiny_encoders.copy_folder(hub_folder, tmp_path / "copy", without=FILES)
    if used:
        tokenizer(["a", "a red"], padding="max_length", truncation=True, max_length=7)
    tokenizer.save_pretrained(copied)
    assert _canonical(copied) == _canonical(hub_folder)


def test_indented_sorted_and_with_other_line_ends(stored, tmp_path):
    copied = tiny_encoders.copy_folder(stored, tmp_path / "copy")
    path = copied / "tokenizer.json"
    content = json.loads(path.read_text())
    padding = {
        "strategy": {"Fixed": 5},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": AutoTokenizer.from_pretrained(str(stored)).pad_token,
    }
    truncation = {
        "direction": "Right",
        "max_length": 5,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    content.update(padding=padding, truncation=truncation)
    text = json.dumps(content, indent=4, sort_keys=True)
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert _canonical(copied) == _canonical(stored)


def test_whole_and_in_pieces(hub_folders, tmp_path):
    both = hub_folders["clip-openai"]
    whole, pieces = (
        tiny_encoders.copy_folder(both, tmp_path / name, without=left_out)
        for name, left_out in (
            ("whole", ("vocab*", "merges*")),
            ("pieces", ("tokenizer.json",)),
        )
    )
    # The order of a vocabulary's keys is none of the tokenizer.
    vocabulary = json.loads((pieces / "vocab.json").read_text())
    turned = dict(reversed(vocabulary.items()))
    (pieces / "vocab.json").write_text(json.dumps(turned))
    assert _canonical(whole) == _canonical(both) == _canonical(pieces)


def test_ways_of_writing_the_ends(backends):
    """Of BERT's, RoBERTa's and a template's processor, the ids around a text count."""
    backend = copy.deepcopy(backends["clip-openai"])
    ends = {"type": "RobertaProcessing", "sep": ["</s>", 7], "cls": ["<s>", 5]}
    template = {
        "type": "TemplateProcessing",
        "single": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "</s>", "type_id": 0}},
        ],
        "special_tokens": {
            "<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]},
            "</s>": {"id": "</s>", "ids": [7], "tokens": ["</s>"]},
        },
    }
    nothing = {"type": "ByteLevel", "trim_offsets": True}
    forms = []
    for step in (
        {**ends, "trim_offsets": True, "add_prefix_space": True},
        {**ends, "type": "BertProcessing"},
        template,
        {"type": "Sequence", "processors": [nothing, template]},
    ):
        backend["post_processor"] = step
        forms.append(json.dumps(backend_form(backend)["ends"]))
    assert set(forms) == {"[[5], [7]]"}


# --- two tokenizers


def _swap_merges(backend, draw):
    merges = backend["model"]["merges"]
    i = draw(st.integers(0, len(merges) - 2))
    merges[i], merges[i + 1] = merges[i + 1], merges[i]


def _swap_ids(backend, draw):
    vocab = backend["model"]["vocab"]
    if isinstance(vocab, list):
        i = draw(st.integers(3, len(vocab) - 2))
        vocab[i], vocab[i + 1] = vocab[i + 1], vocab[i]
        return
    special = {token["content"] for token in backend["added_tokens"]}
    names = sorted(name for name in vocab if name not in special)
    one, other = draw(st.permutations(names))[:2]
    vocab[one], vocab[other] = vocab[other], vocab[one]


def _change_score(backend, draw):
    vocab = backend["model"]["vocab"]
    vocab[draw(st.integers(3, len(vocab) - 1))][1] -= draw(st.floats(0.1, 5))


def _change_normalizer(backend, draw):
    steps = [
        None,
        {"type": "Lowercase"},
        {"type": "NFKD"},
        {"type": "Replace", "pattern": {"String": "apple"}, "content": "fish"},
        {"type": "Replace", "pattern": {"Regex": "[aeiou]"}, "content": ""},
    ]
    backend["normalizer"] = draw(st.sampled_from(steps))


def _change_pre_tokenizer(backend, draw):
    steps = [
        None,
        {"type": "Whitespace"},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never"},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"},
        {"type": "Digits", "individual_digits": True},
    ]
    backend["pre_tokenizer"] = draw(st.sampled_from(steps))


def _change_ends(backend, draw):
    kind = draw(st.sampled_from(["BertProcessing", "RobertaProcessing"]))
    first, last = draw(st.integers(0, 9)), draw(st.integers(0, 9))
    step = {"type": kind, "cls": ["first", first], "sep": ["last", last]}
    if kind == "RobertaProcessing":
        step.update(trim_offsets=draw(st.booleans()), add_prefix_space=False)
    backend["post_processor"] = draw(st.sampled_from([None, step]))


def _change_added(backend, draw):
    flags = ["single_word", "lstrip", "rstrip", "normalized", "special"]
    flag = draw(st.sampled_from(flags))
    added = backend["added_tokens"]
    token = added[draw(st.integers(0, len(added) - 1))]
    token[flag] = not token[flag]


def _add(backend, draw):
    content = draw(st.sampled_from(["red", "fish", "never seen"]))
    largest = max(token["id"] for token in backend["added_tokens"])
    vocab = backend["model"]["vocab"]
    known = {name for name, _ in vocab} if isinstance(vocab, list) else set(vocab)
    hypothesis.assume(content not in known)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    token = {"id": max(largest, len(vocab) - 1) + 1, "content": content, **flags}
    backend["added_tokens"].append({**token, "special": draw(st.booleans())})


CHANGES = {
    "clip": [_swap_merges, _swap_ids],
    "siglip": [_swap_ids, _change_score],
    "flava": [_swap_ids],
    "siglip2": [_swap_merges, _swap_ids],
    "clip-openai": [_swap_merges, _swap_ids],
}
ANY = [
    _change_normalizer,
    _change_pre_tokenizer,
    _change_ends,
    _change_added,
    _add,
]


def _encode(backend):
    tokenizer = Tokenizer.from_str(json.dumps(backend))
    ids = [encoding.ids for encoding in tokenizer.encode_batch([*TEXTS, *SHORT])]
    return ids, backend_form(json.loads(tokenizer.to_str()))


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(data=st.data(), name=st.sampled_from(sorted(CHANGES)))
def test_whatever_changes_an_id_changes_the_form(backends, data, name):
    changed = copy.deepcopy(backends[name])
    for change in data.draw(
        st.lists(st.sampled_from([*CHANGES[name], *ANY]), min_size=1, max_size=2)
    ):
        change(changed, data.draw)
    before, after = _encode(backends[name]), _encode(changed)
    if before[0] != after[0]:
        assert before[1] != after[1]


def test_what_the_changes_above_can_do(backends):
    """Else the property would hold of nothing."""
    for name, backend in backends.items():
        changed = copy.deepcopy(backend)
        changed["normalizer"] = {"type": "NFKD"}
        changed["post_processor"] = None
        assert _encode(changed)[0] != _encode(backend)[0], name


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("siglip-spiece", {"do_lower_case": False}),
        ("siglip-spiece", {"split_special_tokens": True}),
        ("siglip-spiece", {"pad_token": "<unk>"}),
        ("siglip2", {"truncation_side": "left"}),
        ("clip-openai", {"split_special_tokens": True}),
        ("clip-openai", {"pad_token": "!"}),
    ],
)
def test_settings_beside_the_tokenizers_file(hub_folders, tmp_path, name, settings):
    copied = tiny_encoders.copy_folder(hub_folders[name], tmp_path / "copy")
    edit_json(copied / TOKENIZER_SETTINGS, **settings)
    texts = ["A fish </s> <|endoftext|>", "a red " * 20, "a"]
    before, after = (
        TextPreprocessor(folder, length=12)(texts)[0]
        for folder in (hub_folders[name], copied)
    )
    assert (before != after).any()
    assert _canonical(copied) != _canonical(hub_folders[name])


def test_a_length_of_its_own(hub_folders):
    forms = {
        TextPreprocessor(hub_folders["clip-openai"], length=length).canonical()
        for length in (12, 13)
    }
    assert len(forms) == 2


def test_another_sentencepiece_model(hub_folders, tmp_path):
    copied = tiny_encoders.copy_folder(hub_folders["siglip-spiece"], tmp_path / "copy")
    path = copied / "spiece.model"
    content = path.read_bytes()
    # One byte of a score: the ids of rare texts may change.
    place = content.index("▁a".encode()) + len("▁a".encode()) + 1
    path.write_bytes(content[:place] + b"\x01" + content[place + 1 :])
    assert _form(copied) != _form(hub_folders["siglip-spiece"])


def test_siglip_reads_its_pieces_alone(folders, hub_folders, tmp_path):
    """Released folders hold `tokenizer.json` beside them, saved ones do not."""
    own = hub_folders["siglip-spiece"]
    copied = tiny_encoders.copy_folder(own, tmp_path / "copy")
    shutil.copy(folders["siglip"] / "tokenizer.json", copied)
    assert _canonical(copied) == _canonical(own)


def test_siglip_by_its_tokenizer_json_alone(folders, hub_folders, tmp_path, caplog):
    """Another tool's snapshot of JSON: read, by another form, and with a warning."""
    copied = tiny_encoders.copy_folder(
        hub_folders["siglip-spiece"], tmp_path / "copy", without=("spiece*",)
    )
    whole = folders["siglip"] / "tokenizer.json"
    (copied / "tokenizer.json").write_bytes(whole.read_bytes())
    ids = TextPreprocessor(copied, length=12)(["a red apple"])[0]
    expected = Tokenizer.from_file(str(whole)).encode("a red apple").ids
    np.testing.assert_array_equal(ids[0, : len(expected)], expected)
    assert "spiece.model" in caplog.text
