# SPDX-License-Identifier: Apache-2.0
"""Inputs made ahead: several models, any pictures, those that cannot be read."""

import pickle

import numpy as np
import pytest
from PIL import Image

from jaxalign.data.pictures import UnreadablePictureError
from jaxalign.embedding.fetch import gather
from jaxalign.embedding.inputs import PrepareInputs, embedding_batches
from jaxalign.embedding.stream import embed
from jaxalign.encoders.folder_preprocessing import FolderPreprocessing
from jaxalign.encoders.pretrained import load_encoders
from tests import tiny_encoders

# Of the size of `test_stream.py`, whose programs these are.
COUNT, BATCH = 13, 8
BROKEN = 10


class Pictures:
    """Examples of many shapes and modes, as a folder of pictures gives them."""

    def __init__(self, *, broken=()):
        self.broken = set(broken)
        rng = np.random.default_rng(0)
        shapes = [(int(h), int(w), 3) for h, w in rng.integers(9, 40, (COUNT, 2))]
        self.arrays = [rng.integers(0, 256, s, dtype=np.uint8) for s in shapes]

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        if index in self.broken:
            raise UnreadablePictureError(f"p{index}", "cut off")
        image = Image.fromarray(self.arrays[index])
        return {
            "image": image.convert("P") if index % 3 == 0 else image,
            "id": f"p{index}",
            "label": index % 5,
            "text": tiny_encoders.CORPUS[index],
        }


@pytest.mark.parametrize("threads", [0, 2])
def test_rows_are_those_of_each_model_alone(models, threads):
    source = Pictures()
    batches = embedding_batches(source, models, batch_size=BATCH, num_threads=threads)
    examples = [source[i] for i in range(COUNT)]
    for model, found in zip(models, gather(embed(models, batches)), strict=True):
        assert found.ids.tolist() == [e["id"] for e in examples]
        assert found.labels.tolist() == [e["label"] for e in examples]
        images = model.embed_images([e["image"] for e in examples], batch_size=BATCH)
        texts = model.embed_texts([e["text"] for e in examples], batch_size=BATCH)
        # Batches alike go through one program: the very same bits.
        np.testing.assert_array_equal(found.image, images)
        np.testing.assert_array_equal(found.text, texts)


def test_a_picture_that_cannot_be_read_is_masked_and_says_why(models):
    batches = embedding_batches(Pictures(), models, batch_size=BATCH)
    whole = gather(embed(models, batches))
    batches = embedding_batches(Pictures(broken={BROKEN}), models, batch_size=BATCH)
    stream = list(embed(models, batches))
    (batch, *_) = stream[1]
    assert batch.index.tolist() == [8, 9, 10, 11, 12, -1, -1, -1]
    assert batch.mask.tolist() == [True, True, False, True, True] + [False] * 3
    assert batch.problems.tolist() == ["", "", "cut off"] + [""] * 5
    assert batch.ids[2] == f"p{BROKEN}"
    assert np.isfinite(batch.image).all()
    for found, expected in zip(gather(stream), whole, strict=True):
        np.testing.assert_array_equal(
            found.image, np.delete(expected.image, BROKEN, axis=0)
        )


def _refuse_large(self, images):
    if any(image.width > 35 for image in images if isinstance(image, Image.Image)):
        raise ValueError("too wide for this model")
    return _refuse_large.original(self, images)


def test_a_picture_that_one_model_cannot_take_is_masked_for_all(models, monkeypatch):
    _refuse_large.original = FolderPreprocessing.images
    monkeypatch.setattr(FolderPreprocessing, "images", _refuse_large)
    source = Pictures()
    wide = [source[i]["image"].width > 35 for i in range(COUNT)]
    assert 0 < sum(wide) < COUNT
    batches = list(embedding_batches(source, models, batch_size=COUNT))
    assert batches[0]["mask"].tolist() == [not w for w in wide]
    assert "too wide" in batches[0]["problem"][wide.index(True)]
    with pytest.raises(ValueError, match=r"example 'p\d+'.*too wide"):
        list(embedding_batches(source, models, batch_size=COUNT, strict=True))


def test_models_that_preprocess_alike_share_the_pixels(models, monkeypatch):
    calls = []
    original = FolderPreprocessing.images

    def count(self, images):
        calls.append(self)
        return original(self, images)

    prepare = PrepareInputs((models[0], models[0], models[1]), strict=False)
    monkeypatch.setattr(FolderPreprocessing, "images", count)
    example = Pictures()[1] | {"index": 0, "mask": True, "problem": ""}
    batch = prepare([example])
    assert len(calls) == 2
    first, second, other = (made["pixels"] for made in batch["inputs"])
    assert first is second
    assert other is not first


def test_what_makes_inputs_travels_to_workers_as_a_few_bytes(models):
    prepare = PrepareInputs(models, strict=False)
    examples = [Pictures()[1] | {"index": 0, "mask": True, "problem": ""}]
    expected = prepare(examples)
    packed = pickle.dumps(prepare)
    assert len(packed) < 100_000
    made = pickle.loads(packed)(examples)
    np.testing.assert_equal(made, expected)


@pytest.mark.slow
def test_workers_change_no_bit(models):
    source = Pictures(broken={BROKEN})
    expected = list(embedding_batches(source, models, batch_size=BATCH))
    batches = embedding_batches(source, models, batch_size=BATCH, num_workers=2)
    found = list(batches)
    np.testing.assert_equal(found, expected)


def test_images_alone_need_no_texts(models):
    batches = embedding_batches(Pictures(), models, batch_size=BATCH, with_texts=False)
    stream = list(embed(models, batches))
    assert all(batch.text is None for group in stream for batch in group)
    with pytest.raises(ValueError, match="stream.*texts"):
        gather(stream)


def test_a_folder_without_preprocessing_is_refused_before_any_picture(tmp_path):
    folder = tiny_encoders.write_folder(tmp_path / "clip", "clip")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(ValueError, match="add the checkpoint's"):
        embedding_batches(Pictures(), load_encoders(folder))


def test_inputs_of_other_models_are_refused(models):
    batches = embedding_batches(Pictures(), models[:1], batch_size=BATCH)
    with pytest.raises(ValueError, match="pass the same models"):
        next(embed(models, batches))
