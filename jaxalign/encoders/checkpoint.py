# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: a Hugging Face folder <-> a parameter tree, both directions.

Every tensor is named by a rule (`rules.py`), and both sides are checked against the
shapes of the model's own tree before one value is placed. Only safetensors are read:
pickled weights can run code.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from flax import nnx
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from jaxalign.atomic_files import write_atomically
from jaxalign.encoders.damage import damaged
from jaxalign.encoders.families import FAMILIES, Family, find_family
from jaxalign.encoders.placing import NotWeights, place
from jaxalign.encoders.quiet import quiet_transformers
from jaxalign.encoders.rules import Rule
from jaxalign.encoders.weights_file import WEIGHTS_FILE, read_tensors
from jaxalign.errors import ArgumentError, shorten

CONFIG_FILE = "config.json"
# What transformers raises over a config that it cannot use.
_CONFIG_ERRORS = AttributeError, IndexError, TypeError, ValueError, StrictDataclassError
# Buffers that older versions of transformers stored beside the weights.
_BUFFERS = ("position_ids",)


def read_config(folder: str | os.PathLike) -> PreTrainedConfig:
    """Read and check a folder's `config.json`.

    Args:
      folder: a Hugging Face checkpoint folder.

    Returns:
      The family's config, defaults filled in.

    Raises:
      ValueError: if the folder is no checkpoint, or of an unknown family.
    """
    folder = Path(folder)
    path = folder / CONFIG_FILE
    if not path.is_file():
        remedy = "pass the folder that `save_pretrained` wrote"
        raise damaged(folder, f"a {CONFIG_FILE}", "none", remedy)
    values = read_object(path)
    family = find_family(str(values.get("model_type", "nothing")))
    try:
        # SigLIP's defaults alone make it warn of ids outside a small vocabulary.
        with quiet_transformers():
            return family.config.from_dict(values)
    except ZeroDivisionError:  # its own check divides the width by the heads
        expected = "num_attention_heads to be a whole number of at least 1"
        raise damaged(path, expected, 0) from None
    except _CONFIG_ERRORS as error:
        got = f"one that transformers refuses ({error})"
        raise damaged(path, f"a {values['model_type']} config", got) from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object of settings.

    Raises:
      ValueError: if the file holds something else.
    """
    try:
        values = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise damaged(path, "JSON", str(error)) from None
    if not isinstance(values, dict):
        raise damaged(path, "a JSON object", f"a {type(values).__name__}")
    return values


class _OneKey(nnx.Rngs):
    """One key for every parameter: counting draws takes most of the time to trace."""

    def params(self):
        return jax.random.key(0)


def abstract_model(family: Family, config: PreTrainedConfig) -> tuple[Any, nnx.State]:
    """Return a model's graph and its parameters' shapes, without computing any."""
    model = nnx.eval_shape(lambda: family.build(config, rngs=_OneKey()))
    return nnx.split(model)


def parameter_paths(state: nnx.State) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter by its path joined with dots."""
    return {
        ".".join(map(str, path)): tuple(variable.shape)
        for path, variable in nnx.to_flat_state(state)
    }


def place_tensors(
    tensors: Mapping[str, np.ndarray],
    rules: list[Rule],
    state: nnx.State,
    *,
    dtype: str = "float32",
    where: str = "the checkpoint",
    config_file: str = CONFIG_FILE,
) -> nnx.State:
    """Fill a parameter tree with a checkpoint's tensors.

    Args:
      tensors: by name, as the checkpoint holds them.
      rules: one for each parameter.
      state: the model's tree, abstract or not; only shapes and paths are used.
      dtype: of the placed parameters.
      where: what errors call the checkpoint.
      config_file: what errors call the file that sizes the model.

    Returns:
      A state of the same structure with JAX arrays.

    Raises:
      ValueError: if tensors are missing, extra, misshaped or not finite floating
        numbers; the first of each are listed.
    """
    shapes = parameter_paths(state)
    if {rule.parameter for rule in rules} != set(shapes):
        unruled = {rule.parameter for rule in rules} ^ set(shapes)
        expected = "one rule a parameter"
        got = f"a table that differs at {sorted(unruled)}"
        remedy = "mend the family's table in rules.py"
        raise ArgumentError("place_tensors(rules=...)", expected, got, remedy)
    named = {rule.tensor for rule in rules}
    missing = sorted(named - set(tensors))
    extra = sorted(
        name for name in set(tensors) - named if name.rsplit(".", 1)[-1] not in _BUFFERS
    )
    misshaped, unusable, values = [], [], {}
    for rule in rules:
        if rule.tensor not in tensors:
            continue
        expected = shapes[rule.parameter]
        stored = rule.stored_shape(expected)
        got = tensors[rule.tensor].shape
        if got != stored:
            misshaped.append(f"{rule.tensor}: expected {stored}, got {got}")
            continue
        try:
            values[rule.parameter] = place(rule.read(tensors[rule.tensor]), dtype)
        except NotWeights:
            unusable.append(rule.tensor)
    problems = [
        # Once each: a tensor that feeds several parameters has several rules.
        f"{title}:\n  " + shorten(dict.fromkeys(names), most=8, separator="\n  ")
        for title, names in (
            ("missing", missing),
            ("extra", extra),
            ("misshaped", misshaped),
            ("not finite floating numbers", unusable),
        )
        if names
    ]
    if problems:
        raise ArgumentError(
            "load_encoders(name=...)",
            f"weights in {where} that fit {config_file}",
            "others:\n" + "\n".join(problems),
            f"check {config_file} against the weights",
        )
    flat = [
        (path, variable.replace(values[".".join(map(str, path))]))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.from_flat_state(flat)


def match_names(
    family: Family, config: PreTrainedConfig, tensors: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], list[Rule]]:
    """Fit a family's rules to the names of a checkpoint.

    Args:
      family: of the checkpoint.
      config: of the checkpoint.
      tensors: by name, as the checkpoint holds them.

    Returns:
      The tensors without those that the family leaves unread on purpose, and its rules
      under the checkpoint's names, with the family's prefix where they have it.
    """
    prefix = family.prefix
    if not any(name.startswith(prefix) for name in tensors):
        prefix = ""
    rules = [
        dataclasses.replace(rule, tensor=prefix + rule.tensor)
        for rule in family.rules(config)
    ]
    read = {
        name: tensor
        for name, tensor in tensors.items()
        if not name.removeprefix(prefix).startswith(family.unread)
    }
    return read, rules


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Contents of a folder, mapped and named, before they are placed on a device.

    Attributes:
      config: of the family.
      model: its graph and its parameters' shapes, see `abstract_model`.
      tensors: by name, views of the files.
      rules: one for each parameter, under the names of this folder.
      where: what errors call the folder.
      config_file: the file that the config was read from.
    """

    config: PreTrainedConfig
    model: tuple[Any, nnx.State]
    tensors: Mapping[str, np.ndarray]
    rules: list[Rule]
    where: str
    config_file: str = CONFIG_FILE

    def place(self, dtype: str = "float32") -> tuple[Any, nnx.State]:
        """Return the model's graph and its parameters on the default device.

        Raises:
          ValueError: see `place_tensors`.
        """
        graph, shapes = self.model
        state = place_tensors(
            self.tensors,
            self.rules,
            shapes,
            dtype=dtype,
            where=self.where,
            config_file=self.config_file,
        )
        return graph, state

    def parameters(self) -> Iterator[tuple[str, np.ndarray]]:
        """Yield path and stored value of each parameter, in the order of the paths.

        All tensors must exist and fit, as after `place`.
        """
        for rule in sorted(self.rules, key=lambda rule: rule.parameter):
            yield rule.parameter, rule.read(self.tensors[rule.tensor])


def read_checkpoint(folder: str | os.PathLike) -> Checkpoint:
    """Map a Hugging Face folder of a family in `families.FAMILIES`.

    Raises:
      ValueError: see `read_config` and `read_tensors`.
    """
    config = read_config(folder)
    family = find_family(config.model_type)
    # What is wrong with the config shows before the weights are looked at.
    model = abstract_model(family, config)
    tensors, rules = match_names(family, config, read_tensors(folder))
    return Checkpoint(config, model, tensors, rules, repr(str(folder)))


def load_model(
    folder: str | os.PathLike, *, dtype: str = "float32"
) -> tuple[Any, nnx.State, PreTrainedConfig]:
    """Load a checkpoint folder as a graph, its parameters and its config.

    Args:
      folder: a Hugging Face folder of a family in `families.FAMILIES`.
      dtype: of the parameters in memory, whatever the file's.

    Returns:
      `(graph, state, config)`; `nnx.merge(graph, state)` is the model.

    Raises:
      ValueError: see `read_checkpoint` and `place_tensors`.
    """
    checkpoint = read_checkpoint(folder)
    graph, state = checkpoint.place(dtype)
    return graph, state, checkpoint.config


def save_model(
    folder: str | os.PathLike,
    state: nnx.State,
    config: PreTrainedConfig,
    *,
    dtype: str = "float32",
) -> None:
    """Write config and weights as a Hugging Face folder that `transformers` loads.

    Each file is written under a temporary name and then renamed. Only families that
    are read whole can be written, CLIP and SigLIP: of a FLAVA folder jaxalign holds the
    two towers, and `transformers` would fill in all else at random.

    Args:
      folder: made if needed.
      state: the parameters.
      config: the family's config.
      dtype: of the stored tensors. `config.json` says float32 all the same, so that
        readers compute in it.

    Raises:
      ValueError: if the config is of an unknown family or of one that is read in
        part, or does not fit the state.
    """
    folder = Path(folder)
    family = find_family(config.model_type)
    if family.unread:
        whole = sorted(name for name, one in FAMILIES.items() if not one.unread)
        expected = f"a model of {' or '.join(whole)}"
        got = f"{config.model_type}, of which jaxalign reads the two towers alone"
        remedy = "keep the folder that it was loaded from"
        raise ArgumentError("save_model(config=...)", expected, got, remedy)
    parameters = {
        ".".join(map(str, path)): variable[...]
        for path, variable in nnx.to_flat_state(state)
    }
    rules = family.rules(config)
    if {rule.parameter for rule in rules} != set(parameters):
        expected = "the state of a model built from this config"
        got = "one with other parameters"
        raise ArgumentError("save_model(state=..., config=...)", expected, got)
    tensors = {
        # order="C": a transposed view would be stored as it lies in memory.
        rule.tensor: np.array(
            rule.layout.write(jax.device_get(parameters[rule.parameter])),
            dtype,
            order="C",
        )
        for rule in rules
    }
    values = config.to_dict()
    values.update(architectures=[family.architecture], dtype="float32")
    # The config last: without it a folder is not a checkpoint yet.
    write_atomically(
        folder / WEIGHTS_FILE,
        safetensors.numpy.save(tensors, metadata={"format": "pt"}),
    )
    write_atomically(folder / CONFIG_FILE, json.dumps(values, indent=2, sort_keys=True))
