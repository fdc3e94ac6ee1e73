# SPDX-License-Identifier: Apache-2.0
"""What is read is what was written, and what is not what was written is refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxalign.store import part_writer, reader
from jaxalign.store.reader import EmbeddingStore
from tests.store.writing import SPACE, Data, tree

DATA = Data(examples=23, part_examples=5, skipped=frozenset({3, *range(10, 15), 22}))
bounds = st.one_of(st.none(), st.integers(-20, 20))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store whose row groups are short, so that slices cross them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_writer, "ROW_GROUP", 2)
        patch.setattr(reader, "ROW_GROUP", 2)
        yield DATA.write(tmp_path_factory.mktemp("read") / "store")


def test_properties_are_those_of_the_writer(store):
    assert len(store) == 16
    assert store.examples == 23
    assert store.space == SPACE
    assert store.dtype == np.float32
    assert store.modalities == ("image", "text")
    assert store.dim("text") == 3
    assert store.details["data"] == {"name": "made up", "seeds": [1, 2]}
    assert store.skipped[0] == ("id 3", "a torn file")
    assert list(store.columns) == ["id", "image_path", "caption", "label", "width"]
    assert repr(store).endswith("16 rows, image 3, text 3)")
    assert EmbeddingStore.open(store.folder, space=SPACE).folder == store.folder


def test_the_fingerprint_is_that_of_the_rows(tmp_path):
    one, again = (DATA.write(tmp_path / name) for name in ("one", "again"))
    other = dataclasses.replace(DATA, skipped=frozenset({3})).write(tmp_path / "other")
    assert one.fingerprint == again.fingerprint != other.fingerprint


@settings(deadline=None)
@given(start=bounds, stop=bounds)
def test_slices_are_those_of_the_whole(store, start, stop):
    start = start or 0
    cut = slice(start, stop)
    for modality in store.modalities:
        found = store.rows(modality, start, stop)
        np.testing.assert_array_equal(found, DATA.rows(modality)[cut])
    assert store.ids(start, stop).tolist() == DATA.ids[cut]
    table = store.metadata(["label", "caption"], start, stop)
    assert table.column_names == ["label", "caption"]
    numbers = [int(name.removeprefix("id ")) for name in DATA.ids[cut]]
    assert table["label"].to_pylist() == numbers
    assert table["caption"].to_pylist() == [f"caption {i}" for i in numbers]


def test_rows_of_one_part_are_a_read_only_view(store):
    rows = store.rows("image", 5, 9)
    assert isinstance(rows, np.memmap)
    assert not rows.flags.writeable


def test_rows_of_several_parts_are_read_when_asked_for(store):
    rows = store.rows("image", 3, 9)
    assert not isinstance(rows, np.ndarray)
    expected = DATA.rows("image")[3:9]
    np.testing.assert_array_equal(rows[1:4], expected[1:4])
    np.testing.assert_array_equal(rows[[4, 0]], expected[[4, 0]])
    np.testing.assert_array_equal(np.asarray(rows), expected)


@settings(deadline=None)
@given(
    size=st.integers(1, 20),
    start=bounds,
    stop=bounds,
    modalities=st.sampled_from([None, ["text"]]),
)
def test_batches_tile_the_rows(store, size, start, stop, modalities):
    start = start or 0
    batches = list(store.batches(size, modalities=modalities, start=start, stop=stop))
    ids = DATA.ids[start:stop]
    assert [name for batch in batches for name in batch.ids] == ids
    assert all(len(batch.ids) == size for batch in batches[:-1])
    for batch in batches:
        assert DATA.ids[batch.start] == batch.ids[0]
        assert list(batch.rows) == modalities or list(batch.rows) == ["image", "text"]
        place = slice(batch.start, batch.start + len(batch.ids))
        np.testing.assert_array_equal(batch.rows["text"], DATA.rows("text")[place])


@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (lambda store: store.rows("audio"), "into a store of its own"),
        (lambda store: store.dim("audio"), "into a store of its own"),
        (lambda store: next(store.batches(0)), "batch_size=0"),
        (lambda store: store.metadata(["colour"]), "columns=.colour"),
        (lambda store: EmbeddingStore.open(store.folder, space="beef"), "same model"),
    ],
)
def test_what_is_not_there_is_refused(store, ask, match):
    with pytest.raises(ValueError, match=match):
        ask(store)


def test_a_folder_without_a_store(tmp_path):
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(FileNotFoundError, match="write one by `EmbeddingStore.cr"):
            EmbeddingStore.open(place)


def test_an_unfinished_store_says_how_to_go_on(tmp_path):
    data = Data()
    with data.create(tmp_path) as writer:
        data.append(writer, range(4, 8))
        data.append(writer, range(0, 1))
        with pytest.raises(ValueError, match="1 whole parts out of 3; start the comm"):
            EmbeddingStore.open(tmp_path)


FILES = ("img_emb/img_emb_1.npy", "text_emb/text_emb_0.npy", "metadata/metadata_2.p")


@pytest.mark.parametrize("start", FILES)
@pytest.mark.parametrize("damage", ["clipped", "longer", "gone"])
def test_files_of_another_size_are_refused_when_opened(tmp_path, start, damage):
    Data().write(tmp_path)
    (path,) = [path for path in tmp_path.rglob("*.*") if start in str(path)]
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-12] if damage == "clipped" else data + b"\0")
    match = "No such file" if damage == "gone" else f"{len(data)} bytes expected"
    with pytest.raises(ValueError, match=f"{start}.*: {match}.*copy the store again"):
        EmbeddingStore.open(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"(4, 3)", b"(3, 4)"),
        (b"'<f4'", b"'<i4'"),
        (b"False", b"True "),
        (b"\x93NUMPY", b"\x93NUMPX"),
    ],
)
def test_headers_that_say_something_else_are_refused_when_opened(tmp_path, old, new):
    Data().write(tmp_path)
    path = tmp_path / "img_emb/img_emb_0.npy"
    data = path.read_bytes()
    path.write_bytes(data.replace(old, new))
    assert path.read_bytes() != data
    with pytest.raises(ValueError, match="img_emb_0.npy: "):
        EmbeddingStore.open(tmp_path)


@pytest.mark.parametrize("start", FILES)
def test_a_flipped_bit_is_found_by_verify(tmp_path, start):
    store = Data().write(tmp_path)
    seen = []
    store.verify(report=lambda done, everything: seen.append((done, everything)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1]
    (path,) = [path for path in tmp_path.rglob("*.*") if start in str(path)]
    data = bytearray(path.read_bytes())
    data[-20] ^= 4
    path.write_bytes(data)
    store = EmbeddingStore.open(tmp_path)
    with pytest.raises(ValueError, match=f"{start}.*: sha256 .* expected"):
        store.verify()
    path.unlink()
    with pytest.raises(ValueError, match=f"{start}.*: No such file"):
        store.verify()


def test_verify_finds_rows_that_are_not_the_stores(tmp_path):
    store = Data().write(tmp_path)
    (tmp_path / "img_emb/img_emb_9.npy").write_bytes(b"")
    with pytest.raises(ValueError, match="img_emb_9.npy: not in the manifest"):
        store.verify()


def test_reading_changes_nothing(store):
    before = tree(store.folder)
    list(EmbeddingStore.open(store.folder).batches(3))
    store.verify()
    assert tree(store.folder) == before
