# SPDX-License-Identifier: Apache-2.0
"""A folder's preprocessing is asked for when needed, and must fit its model."""

import json
import re

import numpy as np
import pytest
from transformers import AutoTokenizer

from jaxalign.encoders.checkpoint import save_model
from jaxalign.encoders.preprocessing import ImagePreprocessor, TextPreprocessor
from jaxalign.encoders.pretrained import load_encoders
from tests import tiny_encoders


def test_folders_without_preprocessing_still_encode(folders, loaded, tmp_path):
    bare = tiny_encoders.copy_folder(
        folders["clip"],
        tmp_path / "bare",
        without=("preprocessor_config.json", "tokenizer*.json"),
    )
    encoders = load_encoders(bare)
    ids = tiny_encoders.random_ids(4)
    rows = encoders.encode_text(ids)
    np.testing.assert_array_equal(rows, loaded["clip"].encode_text(ids))
    assert encoders.space != loaded["clip"].space
    with pytest.raises(ValueError, match="preprocessor_config.json.*`encode_image`"):
        encoders.embed_images(tiny_encoders.pictures(1))
    with pytest.raises(ValueError, match="tokenizer.json.*`encode_text`"):
        encoders.embed_texts(["a"])


def test_a_tokenizer_larger_than_the_vocabulary_is_refused(folders, tmp_path):
    folder = tiny_encoders.copy_folder(folders["clip"], tmp_path / "copy")
    config = tiny_encoders.make_config("clip", vocabulary=70)
    save_model(folder, tiny_encoders.random_parameters(config)[1], config)
    with pytest.raises(ValueError, match="`tokenize`.*vocabulary of 70"):
        load_encoders(folder).embed_texts(["a"])


@pytest.mark.usefixtures("no_shape_hook")
@pytest.mark.parametrize("family", tiny_encoders.FAMILIES)
def test_damaged_tokenizers_are_refused(family, folders, tmp_path):
    copy = tiny_encoders.copy_folder(folders[family], tmp_path / "copy")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        whole = (copy / name).read_bytes()
        for content in (b"", b"[]", b"{}", b"\xff\xfe"):
            if (family, name, content) == ("flava", "tokenizer_config.json", b"{}"):
                continue  # BERT's tokenizer has a default for every setting
            (copy / name).write_bytes(content)
            told = f"{re.escape(name)}.* in {re.escape(repr(str(copy)))}"
            with pytest.raises(ValueError, match=told):
                TextPreprocessor(copy, length=tiny_encoders.TEXT_LENGTH)
        (copy / name).write_bytes(whole)


DAMAGED_SETTINGS = (
    b"",
    b"[]",
    b"{",
    b"\xff\xfe",
    b'{"size": "large"}',
    b'{"size": 0}',
    b'{"image_std": [0, 0, 0]}',
    b'{"image_std": [1, 1]}',
    b'{"image_mean": "x"}',
    b'{"image_mean": [NaN, 0, 0]}',
    b'{"resample": 99}',
    b'{"rescale_factor": "x"}',
    b'{"image_processor_type": "Siglip2ImageProcessor"}',
)


@pytest.mark.usefixtures("no_shape_hook")
def test_damaged_image_settings_are_one_error(folders, tmp_path):
    copy = tiny_encoders.copy_folder(folders["clip"], tmp_path / "copy")
    told = r"preprocessor_config\.json.* in " + re.escape(repr(str(copy)))
    for content in DAMAGED_SETTINGS:
        (copy / "preprocessor_config.json").write_bytes(content)
        with pytest.raises(ValueError, match=told):
            ImagePreprocessor(copy)


def test_a_missing_package_is_no_damage(folders, monkeypatch):
    def fail(*arguments, **options):
        raise ImportError("needs sentencepiece")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(ImportError, match="needs sentencepiece"):
        TextPreprocessor(folders["siglip"], length=tiny_encoders.TEXT_LENGTH)


def test_image_preprocessing_of_another_size_is_refused(folder, tmp_path):
    copy = tiny_encoders.copy_folder(folder, tmp_path / "copy")
    sides = {"height": 16, "width": 16}
    path = copy / "preprocessor_config.json"
    settings = {**json.loads(path.read_text()), "size": sides, "crop_size": sides}
    path.write_text(json.dumps(settings))
    told = r"preprocessor_config\.json.*\(12, 12, 3\), got \(16, 16, 3\)"
    with pytest.raises(ValueError, match=told):
        load_encoders(copy).preprocess_images(tiny_encoders.pictures(1))
