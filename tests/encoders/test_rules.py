# SPDX-License-Identifier: Apache-2.0
"""Rule tables against the models' own trees and against stored checkpoints."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from jaxalign.encoders import rules
from jaxalign.encoders.checkpoint import (
    abstract_model,
    match_names,
    parameter_paths,
    read_config,
)
from jaxalign.encoders.families import FAMILIES, find_family
from tests import tiny_encoders
from tests.encoders.goldens import FOLDER


def test_every_family_has_a_tiny_model():
    assert sorted(FAMILIES) == sorted(tiny_encoders.FAMILIES)


@pytest.mark.parametrize("family", tiny_encoders.FAMILIES)
def test_tables_name_every_parameter_once_and_read_what_they_write(family):
    config = tiny_encoders.make_config(
        family, text=dict(num_hidden_layers=1), vision=dict(num_hidden_layers=3)
    )
    family = find_family(config.model_type)
    table = family.rules(config)
    shapes = parameter_paths(abstract_model(family, config)[1])
    assert sorted(rule.parameter for rule in table) == sorted(shapes)
    assert len({rule.tensor for rule in table}) == len(table)
    rng = np.random.default_rng(0)
    for rule in table:
        value = rng.standard_normal(shapes[rule.parameter])
        again = rule.layout.read(rule.layout.write(value))
        np.testing.assert_array_equal(again, value, err_msg=rule.tensor)


@pytest.mark.parametrize(
    "variant", sorted(p.parent.name for p in FOLDER.glob("*/config.json"))
)
def test_tables_name_every_tensor_of_transformers(variant):
    config = read_config(FOLDER / variant)
    family = find_family(config.model_type)
    shapes = parameter_paths(abstract_model(family, config)[1])
    stored = load_file(FOLDER / variant / "model.safetensors")
    read, table = match_names(family, config, stored)
    written = {
        rule.tensor: rule.layout.write(np.empty(shapes[rule.parameter])).shape
        for rule in table
    }
    assert written == {name: tensor.shape for name, tensor in read.items()}
    assert (len(read) < len(stored)) == bool(family.unread)


def test_patches_are_laid_out_row_column_channel():
    convolution = np.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
    kernel = rules.PATCHES.read(convolution)
    assert kernel.shape == (48, 2)
    assert kernel[(1 * 4 + 2) * 3 + 0, 1] == convolution[1, 0, 1, 2]
