# SPDX-License-Identifier: Apache-2.0
"""Every family builds models of its config; others are refused by name."""

import pytest
from flax import nnx

from jaxalign.encoders.families import FAMILIES, find_family
from tests import tiny_encoders


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_builds_models_of_its_config(name):
    config = tiny_encoders.make_config(name)
    family = find_family(config.model_type)
    assert family is FAMILIES[name]
    assert isinstance(config, family.config)
    model = nnx.eval_shape(lambda: family.build(config, rngs=nnx.Rngs(0)))
    for offered in ("image_features", "text_features", "logit_scale"):
        assert hasattr(model, offered)


def test_unknown_families_are_refused_with_those_that_exist():
    with pytest.raises(ValueError, match="='bert'.*'clip', 'flava', 'siglip'"):
        find_family("bert")
