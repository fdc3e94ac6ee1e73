# SPDX-License-Identifier: Apache-2.0
"""`Encoders`: the two towers of a model with its preprocessing, giving unit rows."""

import copy
import functools
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Shaped
from PIL import Image
from transformers import PreTrainedConfig

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.encoders.configs import text_config, vision_config
from jaxalign.encoders.families import find_family
from jaxalign.encoders.folder_preprocessing import FolderPreprocessing
from jaxalign.encoders.partition import Partition, PartitionedRows
from jaxalign.encoders.placing import digest_parameters
from jaxalign.encoders.preprocessing import check_pictures, check_texts
from jaxalign.encoders.tower_inputs import check_mask, take_ids, take_pixels
from jaxalign.errors import check_count, check_option
from jaxalign.sharding import replicated
from jaxalign.spaces import Space
from jaxalign.unit_rows import unit_rows


class Encoders:
    """The two towers of one image-text model, giving unit rows of one space.

    Attributes:
      name: under which the encoders were loaded.
      dim: d, the width of the rows.
      space: fingerprint of the embedding space: sha256 over the parameters as float32,
        the settings of the towers that no parameter's shape tells, the preprocessing
        that changes pixels, and the tokenizer, both as they are after loading. Two
        checkpoints with one fingerprint give the same rows; device, dtype, versions and
        how the files are written do not count. It brings along what earlier versions
        called the space, so that their maps and stores are accepted: see `Space`.
      config: the checkpoint's config.
      preprocessing: of pictures and strings, without the parameters; for workers.
    """

    def __init__(
        self,
        graph: Any,
        parameters: nnx.State,
        config: PreTrainedConfig,
        *,
        name: str,
        folder: Path | None = None,
        parameters_digest: bytes | None = None,
    ):
        self._parameters_digest = parameters_digest
        self._graph = graph
        self._parameters = parameters
        self.name = name
        self.config = config
        self._family = find_family(config.model_type)
        self._image_size = vision_config(config).image_size
        text = text_config(config)
        self._text_length, self._vocabulary = text.length, text.vocabulary
        self.preprocessing = FolderPreprocessing(
            folder,
            name=name,
            image_size=self._image_size,
            text_length=self._text_length,
            masks_padding=self._family.masks_padding,
            causal_text=self._family.causal_text,
            vocabulary=self._vocabulary,
        )
        side = self._image_size
        picture = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        rows = jax.eval_shape(self._image_rows, parameters, picture)
        self.dim = int(rows.shape[-1])
        self._jitted_image_rows = jax.jit(self._image_rows)
        self._jitted_text_rows = jax.jit(self._text_rows)
        self._spread: dict[tuple[jax.sharding.Mesh, Partition], Encoders] = {}

    @property
    def dtype(self) -> str:
        """Of the parameters and activations: "float32" or "bfloat16"."""
        return jax.tree.leaves(self._parameters)[0].dtype.name

    def __repr__(self) -> str:
        # To find the space takes a pass over all weights: only what is known is shown.
        space = self.__dict__.get("space", "")
        known = f", space={space[:12]!r}" if space else ""
        return f"Encoders({self.name!r}, dim={self.dim}{known})"

    def encode_image(self, pixels: Float[ArrayLike, "n h w 3"]) -> Float[Array, "n d"]:
        """Encode preprocessed pictures.

        Args:
          pixels: (n, height, width, 3), floating, as the folder's preprocessing gives
            them: resized and normalised.

        Returns:
          (n, d), float32 unit rows. Rows sharded over a mesh stay so; the compiled
          program holds no collective.

        Raises:
          ValueError: if the pictures have another size than the model's, or are no
            floating NumPy or JAX array.
        """
        pixels = take_pixels(pixels, size=self._image_size, name=self.name)
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
            has it: CLIP's may be left out, SigLIP is used without one, FLAVA with
            one. `tokenize` gives the mask that belongs to the model.

        Returns:
          (n, d), float32 unit rows.

        Raises:
          ValueError: if the ids are no integer array, if texts are longer than the
            model's positions, if the mask does not belong to them, or if NumPy ids lie
            outside the vocabulary.

        Notes:
          JAX arrays of ids are not looked at, since that would wait for the device;
          ids outside the vocabulary then count as its first or last one.
        """
        ids = take_ids(
            ids,
            length=self._text_length,
            vocabulary=self._vocabulary,
            name=self.name,
        )
        check_mask(mask, ids)
        return self._jitted_text_rows(self._parameters, ids, mask)

    def on_mesh(
        self, mesh: jax.sharding.Mesh, partition: Partition = "pjit"
    ) -> "Encoders":
        """Return the same encoders, spread over a mesh.

        Each device holds the parameters, placed once, and its share of the rows of a
        call, which are split here if they are not yet. Without it each call on split
        rows would send the parameters again.

        Args:
          mesh: of one axis, `DATA_AXIS`.
          partition: "pjit" (jit with shardings) or "pmap"; the same rows by either.

        Raises:
          ValueError: see `PartitionedRows`.
        """
        key = (mesh, partition)
        if key not in self._spread:
            spread = copy.copy(self)
            spread._jitted_image_rows = PartitionedRows(
                self._image_rows, mesh, partition
            )
            spread._jitted_text_rows = PartitionedRows(self._text_rows, mesh, partition)
            spread._parameters = jax.device_put(self._parameters, replicated(mesh))
            self._spread[key] = spread
        return self._spread[key]

    def compile(
        self, modality: Modality, batch: Shaped[ArrayLike, "..."]
    ) -> jax.stages.Compiled:
        """Compile a tower for batches of one shape, to look at the program.

        Args:
          modality: "image" or "text".
          batch: as `encode_image` or `encode_text` takes it.

        Returns:
          The program: its text, its memory, its cost.

        Raises:
          ValueError: for another modality.
        """
        programs = {"image": self._jitted_image_rows, "text": self._jitted_text_rows}
        no_other = "an image-text model has no other tower"
        check_option("compile", "modality", modality, programs, remedy=no_other)
        return programs[modality].lower(self._parameters, batch).compile()

    def preprocess_images(
        self, images: Sequence[np.ndarray | Image.Image]
    ) -> Float[np.ndarray, "n h w 3"]:
        """Preprocess pictures as the checkpoint's folder says.

        Raises:
          ValueError: if the folder holds no image preprocessing, a damaged one, or one
            of another size than the model's.
        """
        return self.preprocessing.images(images)

    def tokenize(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "n t"], Bool[np.ndarray, "n t"] | None]:
        """Tokenize strings to one length with the folder's tokenizer.

        Where padding changes no row (it is masked, or no token sees those after it)
        that is a power of two above the longest text, else the model's full length.

        Returns:
          What `encode_text` takes: ids (n, t), and the padding mask if the model's
          texts are encoded with one, else None.

        Raises:
          ValueError: if the folder holds no tokenizer, a damaged one, or one of
            another vocabulary, or if not strings come.
        """
        return self.preprocessing.texts(texts)

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

        # All are checked before the first batch, and converted batch by batch.
        check_pictures(images)
        return self._in_batches(encode, list(images), batch_size)

    def embed_texts(
        self, texts: Sequence[str], *, batch_size: int = 256
    ) -> Float[np.ndarray, "n d"]:
        """Embed strings.

        Args:
          texts: n strings; longer ones than the model takes are cut.
          batch_size: texts a step.

        Returns:
          (n, d), float32 unit rows on the host.

        Raises:
          ValueError: if something else than a list of strings comes, or see `tokenize`.
        """
        check_texts(texts)

        def encode(chunk):
            return self.encode_text(*self.tokenize(chunk))

        return self._in_batches(encode, list(texts), batch_size)

    @functools.cached_property
    def space(self) -> Space:
        """The fingerprint of the embedding space, see the class."""
        weights = self._parameters_digest
        if weights is None:
            flat = nnx.to_flat_state(self._parameters)
            named = ((".".join(map(str, path)), value[...]) for path, value in flat)
            weights = digest_parameters(
                (path, np.asarray(value)) for path, value in sorted(named)
            )
        towers = json.dumps(_row_settings(self.config)).encode()
        newest, older = (
            hashlib.sha256(weights + towers + settings).hexdigest()
            for settings in (
                self.preprocessing.canonical(),
                self.preprocessing.older_canonical(),
            )
        )
        # Without preprocessing both are the same.
        return Space(newest, older=[older] if older != newest else [])

    def _image_rows(self, parameters, pixels):
        model = nnx.merge(self._graph, parameters)
        return unit_rows(model.image_features(pixels))

    def _text_rows(self, parameters, ids, mask=None):
        model = nnx.merge(self._graph, parameters)
        return unit_rows(model.text_features(ids, mask))

    def _in_batches(
        self,
        encode: Callable[[Any], Array],
        items: list[Any],
        batch_size: int,
    ) -> Float[np.ndarray, "n d"]:
        """Encode in equal batches; the last is filled up with copies."""
        larger = "larger batches need more memory, and change no row"
        check_count("embed", "batch_size", batch_size, remedy=larger)
        if len(items) == 0:
            return np.zeros((0, self.dim), np.float32)
        # Sizes are powers of two below the batch size: few compilations.
        size = min(batch_size, 1 << (len(items) - 1).bit_length())
        rows = []
        for start in range(0, len(items), size):
            chunk = items[start : start + size]
            chunk = [*chunk, *[chunk[-1]] * (size - len(chunk))]
            rows.append(np.asarray(encode(chunk)))
        return np.concatenate(rows)[: len(items)]


def _row_settings(config: PreTrainedConfig) -> list[Any]:
    """Return what changes rows beside the parameters and their shapes."""
    vision, text = vision_config(config), text_config(config)
    towers = (
        [tower.activation, tower.epsilon, tower.heads, size]
        for tower, size in ((vision, vision.image_size), (text, None))
    )
    return [config.model_type, *towers, text.eos_id]
