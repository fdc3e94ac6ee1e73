# SPDX-License-Identifier: Apache-2.0
"""A folder's preprocessing is asked for when needed, and must fit its model."""

import json
import re

import pytest

from jaxalign.encoders import preprocessing
from jaxalign.encoders.checkpoint import save_model
from jaxalign.encoders.preprocessing import ImagePreprocessor, TextPreprocessor
from jaxalign.encoders.pretrained import load_encoders
from tests import tiny_encoders


def test_folders_without_preprocessing_still_encode(folder, tmp_path):
    bare = tiny_encoders.copy_folder(
        folder,
        tmp_path / "bare",
        without=("preprocessor_config.json", "tokenizer*.json"),
    )
    encoders = load_encoders(bare)
    assert encoders.encode_text(tiny_encoders.random_ids(1)).shape == (1, encoders.dim)
    assert encoders.space != load_encoders(folder).space
    with pytest.raises(ValueError, match="pass preprocessed pixels to `encode_image`"):
        encoders.embed_images(tiny_encoders.pictures(1))
    with pytest.raises(ValueError, match="pass token ids to `encode_text`"):
        encoders.embed_texts(["a"])


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(tmp_path):
    folder = tiny_encoders.write_folder(tmp_path / "clip", "clip")
    config = tiny_encoders.make_config("clip", vocabulary=70)
    save_model(folder, tiny_encoders.random_parameters(config)[1], config)
    with pytest.raises(ValueError, match="use the tokenizer that belongs to the check"):
        load_encoders(folder).embed_texts(["a"])


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff\xfe"])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_damaged_tokenizers_are_refused(folder, tmp_path, name, content):
    copy = tiny_encoders.copy_folder(folder, tmp_path / "copy")
    if (folder.name, name, content) == ("flava", "tokenizer_config.json", b"{}"):
        pytest.skip("BERT's tokenizer has a default for every setting")
    (copy / name).write_bytes(content)
    told = re.escape(name) + ".* in " + re.escape(repr(str(copy)))
    with pytest.raises(ValueError, match=told + "(?s:.*)download the checkpoint again"):
        TextPreprocessor(copy, length=tiny_encoders.TEXT_LENGTH)


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"\xff\xfe", b'{"size": "x"}', b'{"image_mean": "x"}']
)
def test_damaged_image_preprocessing_is_refused(folder, tmp_path, content):
    copy = tiny_encoders.copy_folder(folder, tmp_path / "copy")
    (copy / "preprocessor_config.json").write_bytes(content)
    told = r"preprocessor_config\.json in " + re.escape(repr(str(copy)))
    with pytest.raises(ValueError, match=told + "(?s:.*)download the checkpoint again"):
        ImagePreprocessor(copy)


def test_a_missing_package_is_no_damage(folder, monkeypatch):
    def fail(*arguments, **options):
        raise ImportError("needs sentencepiece")

    monkeypatch.setattr(preprocessing.AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(ImportError, match="needs sentencepiece"):
        TextPreprocessor(folder, length=tiny_encoders.TEXT_LENGTH)


def test_image_preprocessing_of_another_size_is_refused(folder, tmp_path):
    copy = tiny_encoders.copy_folder(folder, tmp_path / "copy")
    sides = {"height": 16, "width": 16}
    path = copy / "preprocessor_config.json"
    settings = {**json.loads(path.read_text()), "size": sides, "crop_size": sides}
    path.write_text(json.dumps(settings))
    remedy = r"\(16, 16, 3\).* takes \(12, 12, 3\); use the preprocessor_config.json"
    with pytest.raises(ValueError, match=remedy):
        load_encoders(copy).preprocess_images(tiny_encoders.pictures(1))
