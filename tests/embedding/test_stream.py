# SPDX-License-Identifier: Apache-2.0
"""Rows travel with their ids, labels and mask, through one model or through several."""

import numpy as np
import pytest
from PIL import Image

import jaxalign as ja
from jaxalign.data.ordered import ordered_batches
from jaxalign.embedding.fetch import gather
from jaxalign.embedding.stream import embed
from jaxalign.encoders.partition import PARTITIONS
from tests import tiny_encoders

# One program on 1 and on 8 devices, on batches of other sizes: sums over at most 28
# products, normalised.
ROWS = 16 * float(np.finfo(np.float32).eps)
COUNT, BATCH = 21, 8


@pytest.fixture(scope="module")
def source():
    """Examples whose ids and labels are in no sorted order."""
    order = np.random.default_rng(0).permutation(COUNT)
    return [
        {"image": image, "id": f"{i}/plain", "label": int(i) % 5, "text": text}
        for i, image, text in zip(
            order,
            tiny_encoders.pictures(COUNT),
            tiny_encoders.CORPUS[:COUNT],
            strict=True,
        )
    ]


def _batches(source, batch_size=BATCH):
    return ordered_batches(source, batch_size=batch_size)


@pytest.fixture(scope="module")
def stream(models, source):
    return list(embed(models, _batches(source)))


@pytest.fixture(scope="module")
def sets(stream):
    return gather(stream)


def test_batches_hold_what_came_with_their_rows(stream, source, models):
    assert [batches[0].mask.sum() for batches in stream] == [8, 8, 5]
    for start, batches in zip(range(0, COUNT, BATCH), stream, strict=True):
        assert [batch.space for batch in batches] == [m.space for m in models]
        part = source[start : start + BATCH]
        for batch in batches:
            assert batch.image.shape == batch.text.shape == (BATCH, tiny_encoders.DIM)
            assert batch.ids[batch.mask].tolist() == [e["id"] for e in part]
            assert batch.labels[batch.mask].tolist() == [e["label"] for e in part]
    assert stream[-1][0].mask.tolist() == [True] * 5 + [False] * 3


def test_gathered_rows_are_each_examples_own(sets, source, models):
    for model, gathered in zip(models, sets, strict=True):
        assert gathered.ids.tolist() == [e["id"] for e in source]
        assert gathered.labels.tolist() == [e["label"] for e in source]
        assert gathered.space == model.space
        assert isinstance(gathered.image, np.ndarray)
        images = model.embed_images([e["image"] for e in source], batch_size=BATCH)
        texts = model.embed_texts([e["text"] for e in source], batch_size=BATCH)
        # Batches of one size go through one program: the very same bits.
        np.testing.assert_array_equal(gathered.image, images)
        np.testing.assert_array_equal(gathered.text, texts)


@pytest.mark.parametrize("shape", [(31, 17, 3), (3, 40, 3)])
def test_pictures_of_any_shape_go_through_the_folders_preprocessing(models, shape):
    """Batches hold bytes of one shape, which need not be the models'."""
    rng = np.random.default_rng(0)
    texts = ["", "a red apple " * 50, "😀 שלום", "<eos> Fish"] * (BATCH // 4)
    source = [
        {
            "image": rng.integers(0, 256, shape, dtype=np.uint8),
            "id": str(i),
            "label": i,
            "text": text,
        }
        for i, text in enumerate(texts)
    ]
    for model, gathered in zip(
        models, gather(embed(models, _batches(source))), strict=True
    ):
        images = [Image.fromarray(e["image"]) for e in source]
        images = model.embed_images(images, batch_size=BATCH)
        np.testing.assert_array_equal(gathered.image, images)
        expected = model.embed_texts(texts, batch_size=BATCH)
        np.testing.assert_array_equal(gathered.text, expected)


def test_gather_tells_of_its_progress(stream):
    seen = []
    gather(stream, report=seen.append)
    assert seen == [8, 16, 21]


def test_one_pass_for_two_models_equals_a_pass_for_each(models, source, sets):
    for model, together in zip(models, sets, strict=True):
        (alone,) = gather(embed(model, _batches(source)))
        assert alone.space == together.space
        for name in ("image", "text", "ids", "labels"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))


def test_batches_are_read_once_and_as_they_are_needed(models, source):
    read = []

    def batches():
        for batch in _batches(source):
            read.append(len(batch["id"]))
            yield batch

    rows = embed(models, batches())
    assert read == []
    next(rows)
    assert read == [8]


@pytest.mark.parametrize("partition", PARTITIONS)
def test_a_mesh_changes_no_row(models, source, sets, partition):
    mesh = ja.sharding.data_mesh()
    batches = list(embed(models[0], _batches(source), mesh=mesh, partition=partition))
    sharding = ja.sharding.row_sharding(mesh)
    for batch in batches[0]:
        assert batch.image.sharding.is_equivalent_to(sharding, 2)
        assert batch.text.sharding.is_equivalent_to(sharding, 2)
    (spread,), expected = gather(batches), sets[0]
    assert spread.ids.tolist() == expected.ids.tolist()
    np.testing.assert_allclose(spread.image, expected.image, atol=ROWS)
    np.testing.assert_allclose(spread.text, expected.text, atol=ROWS)


def test_batches_that_no_mesh_can_split_are_refused(models, source):
    with pytest.raises(ValueError, match="8 devices, got 6 rows"):
        list(embed(models, _batches(source, 6), mesh=ja.sharding.data_mesh()))


def test_pmap_needs_a_mesh(models, source):
    with pytest.raises(ValueError, match="partition"):
        list(embed(models, _batches(source), partition="pmap"))


def test_a_ragged_tail_compiles_nothing_anew(models, source):
    """All batches have one size and texts few lengths: two programs a model at most."""
    encoders = models[0].on_mesh(ja.sharding.data_mesh())
    before = encoders._jitted_image_rows._program._cache_size()
    for _ in range(2):
        list(embed(models[0], _batches(source), mesh=ja.sharding.data_mesh()))
    assert encoders._jitted_image_rows._program._cache_size() <= before + 1


def test_an_empty_stream_is_refused():
    with pytest.raises(ValueError, match="stream"):
        gather([])
