# SPDX-License-Identifier: Apache-2.0
"""pjit and pmap: the same rows, one compilation, no collective, an eighth the work."""

import re

import jax
import numpy as np
import pytest

import jaxalign as ja
from tests import tiny_encoders

pytestmark = pytest.mark.compiled_text

ROWS = 1e-6  # what is promised: the same to 1e-6
COUNT = 16
COLLECTIVES = re.compile(
    r"all-reduce|all-gather|all-to-all|reduce-scatter|collective-\w+|\b(send|recv)\("
)


def _batch(encoders, modality):
    if modality == "image":
        return (tiny_encoders.random_pixels(COUNT),)
    return encoders.tokenize(tiny_encoders.CORPUS[:COUNT])


def _encode(encoders, modality, batch):
    call = encoders.encode_image if modality == "image" else encoders.encode_text
    return call(*batch)


@pytest.mark.parametrize(
    ("partition", "family", "modality"),
    [
        ("pjit", "clip", "image"),
        ("pjit", "clip", "text"),
        # Pooled by attention.
        ("pmap", "siglip", "image"),
        # The one family with a mask.
        ("pjit", "flava", "text"),
        ("pmap", "flava", "text"),
    ],
)
def test_devices_share_rows_and_work_and_do_not_talk(
    loaded, partition, family, modality
):
    encoders, mesh = loaded[family], ja.sharding.data_mesh()
    spread = encoders.on_mesh(mesh, partition)
    batch = _batch(encoders, modality)
    rows = _encode(spread, modality, batch)
    assert rows.shape == (COUNT, encoders.dim)
    assert rows.sharding.is_equivalent_to(ja.sharding.row_sharding(mesh), 2)
    np.testing.assert_allclose(rows, _encode(encoders, modality, batch), atol=ROWS)
    program, whole = (e.compile(modality, batch[0]) for e in (spread, encoders))
    text = program.as_text()
    # Under jit the program says so; under pmap each device has its own 16 / 8 rows.
    assert "num_partitions=8" in text
    assert COLLECTIVES.findall(text) == []
    work = program.cost_analysis()["flops"] / whole.cost_analysis()["flops"]
    assert work == pytest.approx(1 / 8, rel=0.05)


def test_rows_already_spread_are_encoded_where_they_lie(loaded):
    encoders, mesh = loaded["clip"], ja.sharding.data_mesh()
    (pixels,) = _batch(encoders, "image")
    spread = jax.device_put(pixels, ja.sharding.row_sharding(mesh))
    rows = encoders.on_mesh(mesh).encode_image(spread)
    np.testing.assert_allclose(rows, encoders.encode_image(pixels), atol=ROWS)


def test_parameters_are_placed_once_a_mesh(loaded):
    encoders, mesh = loaded["clip"], ja.sharding.data_mesh()
    spread = encoders.on_mesh(mesh)
    assert encoders.on_mesh(ja.sharding.data_mesh()) is spread
    leaves = jax.tree.leaves(spread._parameters)
    assert all(leaf.sharding.is_fully_replicated for leaf in leaves)
    assert all(len(leaf.sharding.device_set) == 8 for leaf in leaves)
    assert spread.space == encoders.space


def test_another_partition_is_refused(loaded, no_shape_hook):
    with pytest.raises(ValueError, match="partition='xmap'"):
        loaded["clip"].on_mesh(ja.sharding.data_mesh(), "xmap")
