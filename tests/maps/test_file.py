# SPDX-License-Identifier: Apache-2.0
"""The file round-trips bit for bit, is written whole or not at all, and is checked."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import jaxalign as ja
from jaxalign.errors import ArgumentError
from jaxalign.maps.file import checksum, read_map, write_map
from tests.cases import rows_pair
from tests.maps.test_alignment_map import in_dtype, make_map


@pytest.fixture
def place(tmp_path):
    return tmp_path / "map.safetensors"


@pytest.mark.parametrize("structure", ["isometry", "general"])
def test_a_map_comes_back_bit_for_bit(place, structure):
    amap = make_map(0, 5, 5, spaces=("aa", None), structure=structure)
    amap.save(place)
    back = ja.AlignmentMap.load(str(place))
    assert jax.tree.structure(back.numbers) == jax.tree.structure(amap.numbers)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, back.numbers, amap.numbers))
    assert back.card == {"note": 1}
    assert [path.name for path in place.parent.iterdir()] == ["map.safetensors"]


def test_an_inverse_is_written_in_its_own_order(place):
    # A transposed matrix is a view: its strides must not reach the file.
    back = make_map(0, 4, 6).inverse()
    back.save(place)
    np.testing.assert_array_equal(ja.AlignmentMap.load(place).matrix, back.matrix)
    view = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write_map(place, {"view": view}, {})
    np.testing.assert_array_equal(read_map(place)[0]["view"], view)


def test_any_modality_and_missing_folders(tmp_path):
    rows = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    name = "audio / 48 kHz é"
    amap = ja.fit_map({name: (rows, rows)}, fit_on=name, card={"by": "me"})
    amap.save(tmp_path / "new" / "m.safetensors")
    back = ja.AlignmentMap.load(tmp_path / "new" / "m.safetensors")
    assert back.modalities == (name,)
    assert back.card["by"] == "me"
    assert back.card["fit"] == amap.card["fit"]


def test_the_header_is_plain_json(place):
    make_map(0, 3, 3, spaces=("aa", "bb")).save(place)
    with safetensors.safe_open(place, framework="numpy") as opened:
        metadata = opened.metadata()
    assert metadata["format"] == "jaxalign-map/1"
    header = json.loads(metadata["header"])
    assert header["source_space"] == "aa"
    assert header["card"] == {"note": 1}


def test_a_failed_write_leaves_the_old_file_and_nothing_else(place, monkeypatch):
    make_map(0, 3, 3).save(place)
    before = place.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        make_map(1, 3, 3).save(place)
    assert place.read_bytes() == before
    assert [path.name for path in place.parent.iterdir()] == ["map.safetensors"]


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_cut_file_is_one_clear_error(place, keep):
    make_map(0, 3, 3).save(place)
    place.write_bytes(place.read_bytes()[:keep])
    with pytest.raises(ValueError, match="damaged one.*copy it again"):
        ja.AlignmentMap.load(place)


@pytest.mark.parametrize("junk", [b"\x80\x04junk", b"\xff" * 64, b"{}", b"\0" * 8])
def test_junk_is_one_clear_error(place, junk):
    place.write_bytes(junk)
    with pytest.raises(ValueError, match=r"AlignmentMap.load\(.*(damaged|no jaxalign)"):
        ja.AlignmentMap.load(place)


def rewrite(place, *, header=None, tensors=None, version="jaxalign-map/1"):
    """Write a file with some parts replaced, None meaning left out."""
    old_tensors, old_header = read_map(place)
    kept = {**old_tensors, **(tensors or {})}
    kept = {name: value for name, value in kept.items() if value is not None}
    text = json.dumps({**old_header, **(header or {})})
    metadata = {"format": version, "header": text, "sha256": checksum(text, kept)}
    safetensors.numpy.save_file(kept, place, metadata=metadata)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"version": "jaxalign-map/4"}, "newer 'jaxalign-map/4'; upgrade jaxalign"),
        ({"version": "pt"}, "is no jaxalign map"),
        ({"version": "jaxalign-map/x"}, "is no jaxalign map"),
        ({"header": {"kind": "affine"}}, "kind 'affine'"),
        ({"header": {"modalities": None}}, "modalities None"),
        ({"header": {"modalities": []}}, r"modalities \[\]; copy the file again"),
        ({"header": {"modalities": ["audio"]}}, "nothing for 'scales/audio'"),
        ({"header": {"source_space": 3}}, "source_space 3"),
        ({"header": {"older_spaces": ["a"]}}, "older_spaces"),
        ({"header": {"older_spaces": {"source": [3]}}}, "older_spaces"),
        ({"header": {"card": "text"}}, "card 'text'"),
        ({"tensors": {"matrix": None}}, "no matrix"),
        ({"tensors": {"source_means/text": np.ones(4, np.float32)}}, r"shape \(4,\)"),
        ({"tensors": {"matrix": np.full((3, 3), np.nan, np.float32)}}, "not finite"),
        ({"tensors": {"matrix": np.eye(3, dtype=np.int32)}}, "int32"),
        (
            {"tensors": {"matrix": np.float32(1.001) * np.eye(3, dtype=np.float32)}},
            "'orthogonal' with a matrix 0.002 away.*fit the map again",
        ),
        (
            {"tensors": {"scales/text": np.array(0, np.float32)}},
            "scale of 0 for 'text'",
        ),
        (
            {"tensors": {"scales/text": np.array(-1, np.float32)}},
            "scale of -1 for 'text'",
        ),
    ],
)
def test_wrong_contents_are_one_clear_error(place, change, match):
    make_map(0, 3, 3).save(place)
    rewrite(place, **change)
    with pytest.raises(ValueError, match=match):
        ja.AlignmentMap.load(place)


def test_any_flipped_bit_is_one_clear_error(place):
    make_map(0, 2, 3).save(place)
    whole = place.read_bytes()
    bits = np.random.default_rng(0).integers(8, size=len(whole))
    for at, bit in enumerate(bits):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(bit)
        place.write_bytes(flipped)
        with pytest.raises(
            ValueError, match=r"AlignmentMap.load\(.*; |no jaxalign map"
        ):
            ja.AlignmentMap.load(place)


def test_a_file_without_its_checksum_is_refused(place):
    make_map(0, 3, 3).save(place)
    tensors, header = read_map(place)
    metadata = {"format": "jaxalign-map/1", "header": json.dumps(header)}
    safetensors.numpy.save_file(tensors, place, metadata=metadata)
    with pytest.raises(ValueError, match="got one without.*fit the map again"):
        ja.AlignmentMap.load(place)


def test_other_safetensors_and_folders_are_refused(tmp_path, place, no_shape_hook):
    safetensors.numpy.save_file({"weight": np.ones(3)}, place)
    with pytest.raises(ValueError, match="a checkpoint, perhaps"):
        ja.AlignmentMap.load(place)
    with pytest.raises(ValueError, match="pass the file inside it"):
        ja.AlignmentMap.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"write one by `amap.save`"):
        ja.AlignmentMap.load(tmp_path / "absent.safetensors")
    for call in (ja.AlignmentMap.load, make_map(0, 3, 3).save):
        with pytest.raises(ArgumentError, match="path=None"):
            call(None)


def test_names_and_cards_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"map\.safetensors"):
        make_map(0, 3, 3).save(tmp_path / "map.npz")
    with pytest.raises(ValueError, match="JSON"):
        write_map(tmp_path / "m.safetensors", {}, {"bad": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("keep", ["all", 5])
def test_maps_of_every_precision_come_back(tmp_path, dtype, keep):
    rows = rows_pair(np.random.default_rng(0), 80, 24, 24)
    amap = ja.fit_map({"image": rows}, ja.Orthogonal(keep=keep))
    half = in_dtype(amap, dtype)
    path = tmp_path / "map.safetensors"
    half.save(path)
    back = ja.AlignmentMap.load(path)
    assert back.matrix.dtype == dtype
    assert jax.tree.all(jax.tree.map(jnp.array_equal, back.numbers, half.numbers))


OLD = Path(__file__).parent / "old_maps"


@pytest.mark.parametrize("written", ["before_norms", "with_norms"])
def test_maps_of_earlier_versions_read_and_carry_as_they_did(written):
    told = json.loads((OLD / f"{written}.json").read_text())
    assert len(told) == 9
    for name, was in told.items():
        amap = ja.AlignmentMap.load(OLD / f"{written}-{name}.safetensors")
        assert list(amap.modalities) == was["modalities"]
        assert amap.card == was["card"]
        half = name == "half"
        np.testing.assert_allclose(
            amap(np.array(was["rows"], np.float32), was["modality"]),
            was["carried"],
            atol=2e-3 if half else 1e-5,
        )
        # Means alone are an isometry now, and say so in their fingerprint.
        if was["kind"] != "mean_only":
            assert amap.fingerprint == was["fingerprint"]
