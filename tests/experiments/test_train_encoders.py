# SPDX-License-Identifier: Apache-2.0
"""The training experiment writes a whole folder, the same when started again."""

import dataclasses
import shutil

import numpy as np
import pytest

from experiments import train_encoders
from experiments.shipped_encoders.recipes import RECIPES
from jaxalign.encoders.pretrained import load_encoders
from tests import tiny_encoders
from tests.few_emoji import few_emoji

# Runs whole experiments, by optax.
pytestmark = [pytest.mark.slow, pytest.mark.standard_promotion]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    patch = few_emoji()
    yield tmp_path_factory.mktemp("datasets")
    patch.undo()


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
            training=dataclasses.replace(recipe.training, steps=50),
        ),
        dataset="openmoji/tiny",
        data_dir=str(data_dir),
        batch_size=8,
        checkpoint_every=20,
    )


class _Killed(Exception):
    pass


def test_a_run_started_again_writes_what_an_undisturbed_one_writes(data_dir, tmp_path):
    # Losses are tested beside training; this recipe's tokenizer is the harder one.
    name = "openmoji-siglip"
    config, lines = _config(name, data_dir), []
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"

    def die_at_the_last_report(line):
        lines.append(line)
        if line.startswith("step 50/50"):
            raise _Killed

    with pytest.raises(_Killed):
        train_encoders.run(config, killed, log=die_at_the_last_report)
    assert not (killed / name / "folder").exists()
    folder = train_encoders.run(config, killed, log=lines.append)
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert sorted(written) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    # The unigram tokenizer's training is not repeatable, so both runs share one.
    tokenizer = killed / name / "tokenizer"
    assert written["tokenizer.json"] == (tokenizer / "tokenizer.json").read_bytes()
    shutil.copytree(tokenizer, undisturbed / name / "tokenizer")
    again = train_encoders.run(config, undisturbed, log=lines.append)
    assert {path.name: path.read_bytes() for path in again.iterdir()} == written
    rows = load_encoders(folder).embed_texts(["a red apple", "a fish"])
    assert rows.shape == (2, tiny_encoders.DIM)


def test_another_recipe_does_not_go_on_from_old_checkpoints(data_dir, tmp_path):
    config = _config("openmoji-clip", data_dir)
    example = {"image": np.zeros((2, 2, 3), np.uint8)}
    path = tmp_path / "run.json"
    train_encoders.check_same_run(config, [example], path)
    train_encoders.check_same_run(config, [example], path)
    recipe = dataclasses.replace(config.recipe, vocabulary_size=77)
    other_model = dataclasses.replace(config, recipe=recipe)
    other_picture = {"image": np.ones((2, 2, 3), np.uint8)}
    for changed, pictures in ((other_model, [example]), (config, [other_picture])):
        with pytest.raises(ValueError, match="--workdir`.*same settings"):
            train_encoders.check_same_run(changed, pictures, path)
