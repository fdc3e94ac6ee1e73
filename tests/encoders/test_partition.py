# SPDX-License-Identifier: Apache-2.0
"""pjit and pmap: the same rows, one compilation, no collective, an eighth the work."""

import re

import jax
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.encoders.partition import PARTITIONS
from jaxalign.encoders.pretrained import load_encoders
from tests import tiny_encoders

ROWS = 1e-6  # what is promised: the same to 1e-6
COLLECTIVES = re.compile(
    r"all-reduce|all-gather|all-to-all|reduce-scatter|collective-\w+|\b(send|recv)\("
)


@pytest.fixture(scope="module", params=tiny_encoders.FAMILIES)
def encoders(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders") / request.param
    return load_encoders(tiny_encoders.write_folder(folder, request.param))


def _batch(encoders, modality, count):
    if modality == "image":
        return (tiny_encoders.random_pixels(count),)
    return encoders.tokenize(tiny_encoders.CORPUS[:count])


def _encode(encoders, modality, batch):
    call = encoders.encode_image if modality == "image" else encoders.encode_text
    return call(*batch)


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("modality", ["image", "text"])
def test_rows_are_those_of_one_device_and_lie_spread(encoders, modality, partition):
    mesh = ja.data_mesh()
    batch = _batch(encoders, modality, 16)
    rows = _encode(encoders.on_mesh(mesh, partition), modality, batch)
    assert rows.shape == (16, encoders.dim)
    assert rows.sharding.is_equivalent_to(ja.row_sharding(mesh), 2)
    np.testing.assert_allclose(rows, _encode(encoders, modality, batch), atol=ROWS)


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("modality", ["image", "text"])
def test_the_compiled_program_holds_no_collective(encoders, modality, partition):
    spread = encoders.on_mesh(ja.data_mesh(), partition)
    (batch, *_) = _batch(encoders, modality, 16)
    text = spread.compile(modality, batch).as_text()
    # Under jit the program says so; under pmap each device has its own 16 / 8 rows.
    assert "num_partitions=8" in text
    assert COLLECTIVES.findall(text) == []


@pytest.mark.parametrize("partition", PARTITIONS)
def test_each_device_has_an_eighth_of_the_work(encoders, partition):
    (pixels,) = _batch(encoders, "image", 64)
    whole = encoders.compile("image", pixels).cost_analysis()["flops"]
    spread = encoders.on_mesh(ja.data_mesh(), partition).compile("image", pixels)
    assert spread.cost_analysis()["flops"] == pytest.approx(whole / 8, rel=0.05)


def test_rows_already_spread_are_encoded_where_they_lie(encoders):
    mesh = ja.data_mesh()
    (pixels,) = _batch(encoders, "image", 16)
    spread = jax.device_put(pixels, ja.row_sharding(mesh))
    rows = encoders.on_mesh(mesh).encode_image(spread)
    np.testing.assert_allclose(rows, encoders.encode_image(pixels), atol=ROWS)


def test_parameters_are_placed_once_a_mesh(encoders):
    mesh = ja.data_mesh()
    spread = encoders.on_mesh(mesh)
    assert encoders.on_mesh(ja.data_mesh()) is spread
    leaves = jax.tree.leaves(spread._parameters)
    assert all(leaf.sharding.is_fully_replicated for leaf in leaves)
    assert all(len(leaf.sharding.device_set) == 8 for leaf in leaves)
    assert spread.space == encoders.space


def test_another_partition_is_refused(encoders, no_shape_hook):
    with pytest.raises(ValueError, match="what to take where nothing speaks for pmap"):
        encoders.on_mesh(ja.data_mesh(), "xmap")
