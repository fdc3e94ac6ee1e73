# SPDX-License-Identifier: Apache-2.0
"""The training experiment writes a whole folder, the same when started again."""

import dataclasses

import pytest
import tiny_encoders

from experiments import train_encoders
from jaxalign.encoders.pretrained import load_encoders
from jaxalign.encoders.recipes import RECIPES

# Runs whole experiments.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return tmp_path_factory.mktemp("datasets")


def _config(name, data_dir):
    """Make the recipe's run with a tiny model on the tiny data set."""
    recipe = RECIPES[name]
    family = name.removeprefix("openmoji-")

    def make_config(vocabulary):
        config = tiny_encoders.make_config(family, vocabulary=vocabulary)
        config.text_config.max_position_embeddings = train_encoders.TEXT_LENGTH
        return config

    return train_encoders.Config(
        dataclasses.replace(
            recipe,
            make_config=make_config,
            make_processor=lambda: tiny_encoders.make_processor(family),
            image_size=tiny_encoders.IMAGE_SIZE,
            training=dataclasses.replace(recipe.training, steps=50),
        ),
        dataset="openmoji/tiny",
        data_dir=str(data_dir),
        batch_size=8,
        checkpoint_every=20,
    )


class _Killed(Exception):
    pass


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_started_again_writes_what_an_undisturbed_one_writes(
    name, data_dir, tmp_path
):
    config, lines = _config(name, data_dir), []

    def die(line):
        if line.startswith("step 50/50"):
            raise _Killed

    with pytest.raises(_Killed):
        train_encoders.run(config, tmp_path, log=die)
    assert not (tmp_path / name / "folder").exists()
    folder = train_encoders.run(config, tmp_path, log=lines.append)
    assert [line.split()[0] for line in lines] == [f"{name}:", "step", "written:"]
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(written) == [
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    # What the checkpoint has learnt are this tokenizer's ids.
    kept = (tmp_path / name / "tokenizer" / "tokenizer.json").read_bytes()
    assert written["tokenizer.json"] == kept
    again = train_encoders.run(config, tmp_path, log=lines.append)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == written
    rows = load_encoders(folder).embed_texts(["a red apple", "a fish"])
    assert rows.shape == (2, tiny_encoders.DIM)
