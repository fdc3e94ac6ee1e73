# SPDX-License-Identifier: Apache-2.0
"""Ready encoders: a checkpoint's towers, its preprocessing and its space's name."""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int
from PIL import Image
from transformers import PreTrainedConfig

from jaxalign.array_types import ArrayLike
from jaxalign.encoders.checkpoint import CONFIG_FILE, load_model
from jaxalign.encoders.configs import text_config
from jaxalign.encoders.families import find_family
from jaxalign.encoders.preprocessing import (
    IMAGE_FILE,
    TOKENIZER_FILES,
    ImagePreprocessor,
    TextPreprocessor,
    as_pictures,
    find_image_settings,
)

SHIPPED = ("jaxalign/openmoji-clip", "jaxalign/openmoji-siglip")
"""The pairs that come with the package."""


class Encoders:
    """The two towers of one image-text model, giving unit rows of one space.

    Attributes:
      name: what the encoders were loaded as.
      dim: d, the width of the rows.
      space: fingerprint of the embedding space: sha256 over the parameters as float32,
        the settings of the towers that no parameter's shape tells, the preprocessing
        that changes pixels, and the tokenizer. Two checkpoints with one fingerprint
        give the same rows; device, dtype and versions do not count.
      config: the checkpoint's config.
    """

    def __init__(
        self,
        graph: Any,
        parameters: nnx.State,
        config: PreTrainedConfig,
        *,
        name: str,
        folder: Path | None = None,
    ):
        self._graph = graph
        self._parameters = parameters
        self._folder = folder
        self.name = name
        self.config = config
        vision = config.vision_config
        self._image_size = int(vision.image_size)
        self._text_length = int(config.text_config.max_position_embeddings)
        self.dim = int(
            jax.eval_shape(
                self._image_rows,
                parameters,
                jax.ShapeDtypeStruct(
                    (1, self._image_size, self._image_size, 3), jnp.float32
                ),
            ).shape[-1]
        )
        self._jitted_image_rows = jax.jit(self._image_rows)
        self._jitted_text_rows = jax.jit(self._text_rows)

    def __repr__(self) -> str:
        return f"Encoders({self.name!r}, dim={self.dim}, space={self.space[:12]!r})"

    def encode_image(self, pixels: Float[ArrayLike, "n h w 3"]) -> Float[Array, "n d"]:
        """Encode preprocessed pictures.

        Args:
          pixels: (n, height, width, 3), floating, as the folder's preprocessing gives
            them: resized and normalised.

        Returns:
          (n, d), float32 unit rows. Rows sharded over a mesh stay so; the compiled
          program holds no collective.

        Raises:
          ValueError: if the pictures have another size than the model's, or are bytes.
        """
        size = self._image_size
        if not jnp.issubdtype(pixels.dtype, jnp.floating):
            raise ValueError(
                "`encode_image(pixels=...)` expected floating, normalised pixels, got "
                f"{pixels.dtype}; use `embed_images` for pictures as they are."
            )
        if pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise ValueError(
                f"`encode_image(pixels=...)` expected shape (n, {size}, {size}, 3) for "
                f"{self.name}, got {tuple(pixels.shape)}; use `embed_images`, which "
                "preprocesses pictures of any size."
            )
        return self._jitted_image_rows(self._parameters, pixels)

    def encode_text(
        self,
        ids: Int[ArrayLike, "n t"],
        mask: Bool[ArrayLike, "n t"] | None = None,
    ) -> Float[Array, "n d"]:
        """Encode token ids.

        Args:
          ids: (n, t), t from 1 to the model's text length, in [0, vocabulary).
          mask: (n, t), False where no token may look, as the checkpoint's own usage
            has it: CLIP's may be left out, SigLIP is used without one.

        Returns:
          (n, d), float32 unit rows.

        Raises:
          ValueError: if texts are longer than the model's positions, if the mask
            does not belong to them, or if NumPy ids lie outside the vocabulary.

        Notes:
          JAX arrays of ids are not looked at, since that would wait for the device;
          ids outside the vocabulary then count as its first or last one.
        """
        if mask is not None and mask.shape != ids.shape:
            raise ValueError(
                f"`encode_text(mask=...)` expected the shape of ids, {ids.shape}, got "
                f"{mask.shape}; pass the mask that came with the ids, or none."
            )
        if mask is not None and mask.dtype != bool:
            raise ValueError(
                f"`encode_text(mask=...)` expected bool, True where a token may look, "
                f"got {mask.dtype}; pass `mask == 1` for one of zeros and ones."
            )
        if ids.ndim != 2 or not 1 <= ids.shape[1] <= self._text_length:
            raise ValueError(
                f"`encode_text(ids=...)` expected shape (n, t), t at most "
                f"{self._text_length} for {self.name}, got {tuple(ids.shape)}; use "
                "`embed_texts`, which tokenizes and cuts."
            )
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise ValueError(
                f"`encode_text(ids=...)` expected integers, got {ids.dtype}; use "
                "`embed_texts`, which tokenizes strings."
            )
        self._check_vocabulary(ids)
        return self._jitted_text_rows(self._parameters, ids, mask)

    def preprocess_images(
        self, images: Sequence[np.ndarray | Image.Image]
    ) -> Float[np.ndarray, "n h w 3"]:
        """Preprocess pictures as the checkpoint's folder says.

        Raises:
          ValueError: if the folder holds no image preprocessing, a damaged one, or one
            of another size than the model's.
        """
        return self._image_preprocessor(images)

    def tokenize(self, texts: Sequence[str]) -> Int[np.ndarray, "n t"]:
        """Tokenize strings to the model's full length with the folder's tokenizer.

        Raises:
          ValueError: if the folder holds no tokenizer, a damaged one, or one of
            another vocabulary, or if not strings come.
        """
        return self._text_preprocessor(texts)[0]

    def embed_images(
        self,
        images: Sequence[np.ndarray | Image.Image],
        *,
        batch_size: int = 128,
    ) -> Float[np.ndarray, "n d"]:
        """Embed pictures of any size and mode.

        Args:
          images: uint8 arrays (height, width, 3), or Pillow images.
          batch_size: pictures a step.

        Returns:
          (n, d), float32 unit rows on the host.

        Raises:
          ValueError: if something else than a list of pictures comes, if one cannot
            be read, or see `preprocess_images`.

        Notes:
          Pictures are taken as Pillow holds them, as `transformers` does. A camera's
          orientation (EXIF) is not applied: call `PIL.ImageOps.exif_transpose` first.
          16-bit grey levels above 255 count as white: scale them to bytes first.
        """

        def encode(chunk):
            return self.encode_image(self.preprocess_images(chunk))

        return self._in_batches(encode, as_pictures(images), batch_size)

    def embed_texts(
        self, texts: Sequence[str], *, batch_size: int = 256
    ) -> Float[np.ndarray, "n d"]:
        """Embed strings.

        Args:
          texts: n strings; longer ones than the model takes are cut.
          batch_size: texts a step.

        Returns:
          (n, d), float32 unit rows on the host.
        """
        ids = self.tokenize(texts)
        return self._in_batches(self.encode_text, ids, batch_size)

    @functools.cached_property
    def space(self) -> str:
        """The fingerprint of the embedding space, see the class."""
        digest = hashlib.sha256()
        flat = sorted(
            (".".join(map(str, path)), variable[...])
            for path, variable in nnx.to_flat_state(self._parameters)
        )
        for path, value in flat:
            array = np.asarray(jax.device_get(value), np.float32)
            digest.update(f"{path} {array.shape}\n".encode())
            digest.update(array.tobytes())
        digest.update(json.dumps(_row_settings(self.config)).encode())
        if self._folder is not None:
            if find_image_settings(self._folder):
                digest.update(self._image_preprocessor.canonical().encode())
            if any((self._folder / name).is_file() for name in TOKENIZER_FILES):
                digest.update(self._text_preprocessor.canonical())
        return digest.hexdigest()

    @functools.cached_property
    def _image_preprocessor(self) -> ImagePreprocessor:
        if self._folder is None or not find_image_settings(self._folder):
            raise ValueError(
                f"`preprocess_images`: {self.name} has no {IMAGE_FILE}; add the "
                "checkpoint's, or pass preprocessed pixels to `encode_image`."
            )
        preprocessor = ImagePreprocessor(self._folder)
        expected = (self._image_size, self._image_size, 3)
        if preprocessor.shape != expected:
            raise ValueError(
                f"`preprocess_images`: {preprocessor.file} of {self.name} makes "
                f"pictures of shape {preprocessor.shape}, but the model takes "
                f"{expected}; use the {preprocessor.file} that belongs to the "
                "checkpoint."
            )
        return preprocessor

    @functools.cached_property
    def _text_preprocessor(self) -> TextPreprocessor:
        folder = self._folder
        if folder is None or not any((folder / f).is_file() for f in TOKENIZER_FILES):
            raise ValueError(
                f"`tokenize`: {self.name} has no tokenizer ({TOKENIZER_FILES[0]}); add "
                "the checkpoint's, or pass token ids to `encode_text`."
            )
        preprocessor = TextPreprocessor(folder, length=self._text_length)
        vocabulary = self.config.text_config.vocab_size
        if preprocessor.largest_id >= vocabulary:
            raise ValueError(
                f"`tokenize`: the tokenizer of {self.name} has ids up to "
                f"{preprocessor.largest_id}, but the model's vocabulary is "
                f"{vocabulary}; use the tokenizer that belongs to the checkpoint."
            )
        return preprocessor

    def _check_vocabulary(self, ids: Int[ArrayLike, "n t"]) -> None:
        """Refuse ids that no text of this model has, if they lie on the host."""
        vocabulary = text_config(self.config).vocabulary
        if not isinstance(ids, np.ndarray) or ids.size == 0:
            return
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= vocabulary:
            raise ValueError(
                f"`encode_text(ids=...)` expected ids in [0, {vocabulary}) for "
                f"{self.name}, got ids from {low} to {high}; use the tokenizer that "
                "belongs to the checkpoint."
            )

    def _image_rows(self, parameters, pixels):
        model = nnx.merge(self._graph, parameters)
        return _unit_rows(model.image_features(pixels))

    def _text_rows(self, parameters, ids, mask=None):
        model = nnx.merge(self._graph, parameters)
        return _unit_rows(model.text_features(ids, mask))

    def _in_batches(
        self,
        encode: Callable[[Any], Array],
        items: Sequence[Any] | np.ndarray,
        batch_size: int,
    ) -> Float[np.ndarray, "n d"]:
        """Encode in equal batches; the last is filled up with copies."""
        if batch_size < 1:
            raise ValueError(
                f"`batch_size` expected at least 1, got {batch_size}; larger batches "
                "need more memory, and change no row."
            )
        if len(items) == 0:
            return np.zeros((0, self.dim), np.float32)
        # Sizes are powers of two below the batch size: few compilations.
        size = min(batch_size, 1 << (len(items) - 1).bit_length())
        rows = []
        for start in range(0, len(items), size):
            chunk = items[start : start + size]
            missing = size - len(chunk)
            if isinstance(chunk, np.ndarray):
                chunk = np.concatenate([chunk, chunk[-1:].repeat(missing, axis=0)])
            else:
                chunk = [*chunk, *[chunk[-1]] * missing]
            rows.append(np.asarray(encode(chunk)))
        return np.concatenate(rows)[: len(items)]


def load_encoders(
    name: str | os.PathLike, *, dtype: Literal["float32"] = "float32"
) -> Encoders:
    """Load the encoders of a shipped pair or of a checkpoint folder.

    Args:
      name: one of `SHIPPED`, or a Hugging Face folder with `config.json` and
        `model.safetensors`; preprocessing and tokenizer are read when pictures or
        strings come.
      dtype: of the parameters and of the arithmetic; only "float32" is supported.

    Returns:
      The encoders, their parameters on the default device.

    Raises:
      ValueError: if there is no such pair or folder, or if it is no checkpoint that
        jaxalign reads: unknown family, missing, extra or misshaped tensors, pickled
        weights, a damaged file; or for another dtype.
    """
    if dtype != "float32":
        raise ValueError(
            f"`load_encoders(dtype=...)` expected 'float32', got {dtype!r}; leave it "
            "out, and cast the rows where fewer bytes are needed."
        )
    folder = find_folder(os.fspath(name))
    graph, parameters, config = load_model(folder, dtype=dtype)
    return Encoders(graph, parameters, config, name=os.fspath(name), folder=folder)


def untrained_encoders(like: Encoders, *, seed: int) -> Encoders:
    """Return encoders of the same architecture and preprocessing at a random start.

    A control: what a map between such encoders scores is owed to the architecture and
    the data, not to learning.

    Args:
      like: whose config, preprocessing and tokenizer are used.
      seed: of the parameters.

    Returns:
      The encoders; their space has its own fingerprint.
    """
    family = find_family(like.config.model_type)
    graph, parameters = nnx.split(family.build(like.config, rngs=nnx.Rngs(seed)))
    return Encoders(
        graph,
        parameters,
        like.config,
        name=f"{like.name} (untrained)",
        folder=like._folder,
    )


def find_folder(name: str) -> Path:
    """Return the folder of a shipped pair, or of a checkpoint, that `name` stands for.

    Raises:
      ValueError: if there is neither.
    """
    if name in SHIPPED:
        short = name.removeprefix("jaxalign/")
        return Path(str(resources.files("jaxalign.encoders") / "weights" / short))
    folder = Path(os.path.expanduser(name))
    if not folder.is_dir():
        raise ValueError(
            f"`load_encoders(name={name!r})` expected a shipped pair "
            f"({', '.join(SHIPPED)}) or an existing checkpoint folder with "
            f"{CONFIG_FILE}; to use a model of the hub, download it first and pass "
            "its folder."
        )
    return folder


def _row_settings(config: PreTrainedConfig) -> list[Any]:
    """Return what changes rows beside the parameters and their shapes."""
    names = ("hidden_act", "layer_norm_eps", "num_attention_heads", "image_size")
    vision, text = (
        [getattr(tower, name, None) for name in names]
        for tower in (config.vision_config, config.text_config)
    )
    return [config.model_type, vision, text, config.text_config.eos_token_id]


def _unit_rows(rows: Float[Array, "n d"]) -> Float[Array, "n d"]:
    rows = rows.astype(jnp.float32)
    return rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
