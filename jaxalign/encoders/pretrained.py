# SPDX-License-Identifier: Apache-2.0
"""`load_encoders`: a name or a folder in, ready `Encoders` out."""

import os
from typing import Literal, get_args

import jax
from flax import nnx

from jaxalign.encoders.checkpoint import read_checkpoint
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.families import find_family
from jaxalign.encoders.hub import find_folder
from jaxalign.encoders.open_clip import is_open_clip, read_open_clip
from jaxalign.encoders.placing import digest_parameters
from jaxalign.errors import check_option

Dtype = Literal["float32", "bfloat16"]
DTYPES = get_args(Dtype)


def load_encoders(
    name: str | os.PathLike,
    *,
    revision: str | None = None,
    dtype: Dtype = "float32",
) -> Encoders:
    """Load the encoders of a model: a shipped pair, a folder, or one of the hub.

    Args:
      name: one of `hub.SHIPPED`; a folder; or a repository of the Hugging Face hub,
        such as "google/siglip-base-patch16-224". A folder or repository holds a
        transformers checkpoint (`config.json`, `model.safetensors`, or several files
        and an index) or an OpenCLIP one (`open_clip_config.json`,
        `open_clip_model.safetensors`); of both kinds, the former is read.
        Preprocessing and tokenizer are read when pictures or strings come.
      revision: branch, tag or commit of a hub repository; a commit pins the model.
      dtype: of parameters and activations. "bfloat16" halves the memory and is several
        times faster where the processor multiplies it; rows are float32 and keep a
        cosine of about 0.9999 with those of "float32", in the same space.

    Returns:
      The encoders, their parameters on the default device.

    Raises:
      ValueError: if there is no such model, if it cannot be fetched, or if it is no
        checkpoint that jaxalign reads: unknown family, missing, extra or misshaped
        tensors, pickled weights, a damaged file; or for another dtype.

    Notes:
      Weights are mapped from the file and copied once, so that the host's memory peaks
      at little more than the parameters.
    """
    check_option("load_encoders", "dtype", dtype, DTYPES)
    folder = find_folder(os.fspath(name), revision)
    read = read_open_clip if is_open_clip(folder) else read_checkpoint
    checkpoint = read(folder)
    graph, parameters = checkpoint.place(dtype)
    return Encoders(
        graph,
        parameters,
        checkpoint.config,
        name=os.fspath(name),
        folder=folder,
        # A space is that of the stored weights, whatever they are rounded to here.
        parameters_digest=None
        if dtype == "float32"
        else digest_parameters(checkpoint.parameters()),
    )


def untrained_encoders(like: Encoders, *, seed: int) -> Encoders:
    """Return encoders of the same architecture, dtype and preprocessing, untrained.

    A control: what a map between such encoders scores is owed to the architecture and
    the data, not to learning.

    Args:
      like: whose config, preprocessing and tokenizer are used.
      seed: of the parameters.

    Returns:
      The encoders; their space has its own fingerprint.
    """
    family = find_family(like.config.model_type)
    # Not under one jit: that program grows with the number of parameters, while JAX
    # compiles one draw a shape, and a model has few shapes.
    graph, state = nnx.split(family.build(like.config, rngs=nnx.Rngs(seed)))
    return Encoders(
        graph,
        jax.tree.map(lambda values: values.astype(like.dtype), state),
        like.config,
        name=f"{like.name} (untrained)",
        folder=like.preprocessing.folder,
    )
