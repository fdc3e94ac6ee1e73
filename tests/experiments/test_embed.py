# SPDX-License-Identifier: Apache-2.0
"""Every kind of data set goes into stores; what is there is not embedded again."""

import dataclasses
import io
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import jaxalign as ja
from experiments import embed
from jaxalign.data import catalog
from jaxalign.embedding import into_stores
from jaxalign.embedding.shares import Share
from tests import tiny_encoders
from tests.data import tiny_tfds

COUNT, BATCH = 23, 8
BROKEN = 9
# One program on 1 and on 8 devices, on batches of other sizes.
ROWS = 1e-6


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoders")
    return {
        role: ja.load_encoders(tiny_encoders.write_folder(root / family, family))
        for role, family in (("source", "clip"), ("target", "siglip"))
    }


@pytest.fixture(scope="module")
def encoded():
    """PNG files; one of them is cut off."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(COUNT):
        height, width = rng.integers(10, 40, 2)
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        files.append(stream.getvalue())
    files[BROKEN] = files[BROKEN][:60]
    return files


@pytest.fixture(scope="module")
def folder(encoded, tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures")
    lines = ["file_name,caption,label"]
    for number, content in enumerate(encoded):
        (root / f"{number:02d}.png").write_bytes(content)
        lines.append(f"{number:02d}.png,{_caption(number)},class {number % 3}")
    (root / "captions.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def tar(encoded, tmp_path_factory):
    path = tmp_path_factory.mktemp("tars") / "train-000.tar"
    with tarfile.open(path, "w") as file:
        for number, content in enumerate(encoded):
            for suffix, data in (("png", content), ("txt", _caption(number).encode())):
                member = tarfile.TarInfo(f"{number:02d}.{suffix}")
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    return path


def _caption(number):
    return tiny_encoders.CORPUS[number].strip()


def _config(data, **options):
    values = {"batch_size": BATCH, "part_examples": 8, "split": "all"} | options
    return embed.Config(dataset=str(data), **values)


def _run(config, models, workdir, **options):
    return embed.run(config, models, workdir, quiet=True, **options)


def _expected(model, encoded):
    readable = [n for n in range(COUNT) if n != BROKEN]
    pictures = [Image.open(io.BytesIO(encoded[n])) for n in readable]
    return (
        model.embed_images(pictures, batch_size=BATCH),
        model.embed_texts([_caption(n) for n in readable], batch_size=BATCH),
    )


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_own_pictures_go_in_whole_and_in_order(
    models, encoded, tmp_path, kind, request
):
    data = request.getfixturevalue(kind)
    stores = _run(_config(data), models, tmp_path)
    for role, store in stores.items():
        store.verify()
        images, texts = _expected(models[role], encoded)
        np.testing.assert_allclose(store.rows("image"), images, atol=ROWS)
        np.testing.assert_allclose(store.rows("text"), texts, atol=ROWS)
        assert store.space == models[role].space
        numbers = [int(name.split("/")[-1].split(".")[0]) for name in store.ids()]
        assert numbers == [n for n in range(COUNT) if n != BROKEN]
        ((name, reason),) = store.skipped
        assert f"{BROKEN:02d}" in name
        assert "damaged" in reason
        captions = store.metadata(["caption"])["caption"].to_pylist()
        assert captions == [_caption(n) for n in numbers]


def test_a_tfds_set_goes_in_with_its_class_captions(models, tmp_path):
    rng = np.random.default_rng(0)
    names = catalog.dataset_info("oxford_iiit_pet").class_names
    rows = []
    for number in range(10):
        stream = io.BytesIO()
        pixels = rng.integers(0, 256, (12, 15, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(stream, "JPEG")
        label = (number * 7) % 37
        rows.append(
            {"image": stream.getvalue(), "label": label, "file_name": f"{number}.jpg"}
        )
    features = {
        "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
        "label": tfds.features.ClassLabel(num_classes=37),
        "file_name": tfds.features.Text(),
    }
    tiny_tfds.prepare(
        tmp_path / "data",
        "oxford_iiit_pet",
        features,
        {"train": rows[:1], "test": rows},
    )
    config = _config("oxford_iiit_pet", split="test", data_dir=str(tmp_path / "data"))
    stores = _run(config, models, tmp_path / "rows")
    for role, store in stores.items():
        assert len(store) == 10
        captions = [names[row["label"]] for row in rows]
        np.testing.assert_allclose(
            store.rows("text"),
            models[role].embed_texts(captions, batch_size=BATCH),
            atol=ROWS,
        )
        assert store.metadata(["caption"])["caption"].to_pylist() == captions
        assert store.metadata(["label"])["label"].to_pylist() == [
            row["label"] for row in rows
        ]


@pytest.mark.parametrize(
    "partition", ["pjit", pytest.param("pmap", marks=pytest.mark.slow)]
)
def test_a_mesh_gives_the_same_rows(models, folder, tmp_path, partition):
    one = {"source": models["source"]}
    alone = _run(_config(folder), one, tmp_path / "alone")
    config = _config(folder, partition=partition)
    spread = _run(config, one, tmp_path / "spread", mesh=ja.sharding.data_mesh())
    for role, store in spread.items():
        for modality in ("image", "text"):
            np.testing.assert_allclose(
                store.rows(modality), alone[role].rows(modality), atol=ROWS
            )


def test_what_is_there_is_not_embedded_again(models, folder, tmp_path, monkeypatch):
    _run(_config(folder), models, tmp_path)
    monkeypatch.setattr(into_stores, "embed", None)
    stores = _run(_config(folder), models, tmp_path)
    assert len(stores["source"]) == COUNT - 1


def test_a_store_of_another_model_or_setting_is_refused_untouched(
    models, folder, tmp_path
):
    _run(_config(folder), models, tmp_path)
    before = (tmp_path / "source" / "manifest.json").read_bytes()
    swapped = {"source": models["target"], "target": models["source"]}
    with pytest.raises(ValueError, match="name another folder"):
        _run(_config(folder), swapped, tmp_path)
    with pytest.raises(ValueError, match="batch_size: 8 there, 4 here"):
        _run(_config(folder, batch_size=4), models, tmp_path)
    assert (tmp_path / "source" / "manifest.json").read_bytes() == before


def test_strict_ends_at_the_broken_picture_and_keeps_what_came_before(
    models, folder, tmp_path
):
    with pytest.raises(ValueError, match=f"{BROKEN:02d}.png"):
        _run(_config(folder, strict=True), models, tmp_path)
    assert not (tmp_path / "source" / "manifest.json").exists()
    # Without it the run goes on from there.
    stores = _run(_config(folder), models, tmp_path)
    assert len(stores["source"]) == COUNT - 1


def test_strict_refuses_a_store_that_left_pictures_out(models, folder, tmp_path):
    _run(_config(folder), models, tmp_path)
    with pytest.raises(ValueError, match="delete that folder, and start again"):
        _run(_config(folder, strict=True), models, tmp_path)


def test_a_data_set_without_one_readable_picture_is_no_success(models, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    lines = ["file_name,caption", "a.png,one", "b.png,two"]
    (data / "captions.csv").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match="at least one row"):
        _run(_config(data), models, tmp_path / "rows")


def test_another_model_is_added_without_running_the_first_again(
    models, folder, tmp_path, monkeypatch
):
    _run(_config(folder), {"source": models["source"]}, tmp_path)
    seen = []
    real = into_stores.embed

    def watch(encoders, *arguments, **options):
        seen.append(encoders)
        return real(encoders, *arguments, **options)

    monkeypatch.setattr(into_stores, "embed", watch)
    stores = _run(_config(folder), models, tmp_path)
    assert seen == [(models["target"],)]
    assert len(stores["target"]) == COUNT - 1


def test_class_names_stand_beside_the_labels(models, folder, tmp_path):
    store = _run(_config(folder), models, tmp_path)["source"]
    table = store.metadata(["label", "class_name"]).to_pydict()
    assert table["class_name"] == [f"class {label}" for label in table["label"]]


def test_half_precision_and_one_model(models, folder, tmp_path):
    one = {"source": models["source"]}
    stores = _run(_config(folder, store_dtype="float16"), one, tmp_path / "half")
    whole = _run(_config(folder), one, tmp_path / "whole")
    assert list(stores) == ["source"]
    rows = stores["source"].rows("image")
    assert rows.dtype == np.float16
    np.testing.assert_array_equal(
        rows, np.asarray(whole["source"].rows("image")).astype(np.float16)
    )


def test_only_the_first_examples(models, folder, tmp_path):
    stores = _run(_config(folder, max_examples=6), models, tmp_path)
    assert len(stores["source"]) == 6


def test_shares_run_one_after_the_other_make_the_whole(models, folder, tmp_path):
    """Processes need not run at once: the last one writes the manifest."""
    whole = _run(_config(folder), models, tmp_path / "whole")
    first, second = (Share(number, 2) for number in range(2))
    config = dataclasses.replace(_config(folder))
    with pytest.raises(TimeoutError):
        _run_share(config, models, tmp_path / "parts", first)
    stores = _run(config, models, tmp_path / "parts", share=second)
    for role, store in stores.items():
        np.testing.assert_array_equal(store.rows("image"), whole[role].rows("image"))


def _run_share(config, models, workdir, share):
    """Run one of several processes, and stop it where it waits for the others."""

    def stop(_):
        raise TimeoutError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(into_stores.time, "sleep", stop)
        _run(config, models, workdir, share=share)
