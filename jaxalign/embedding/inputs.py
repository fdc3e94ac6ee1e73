# SPDX-License-Identifier: Apache-2.0
"""Examples -> what several models' towers take, made ahead in Grain's workers.

Pictures are decoded once for all models, and preprocessed once for those that
preprocess alike.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image

from jaxalign.data.examples import Source
from jaxalign.data.ordered import ordered_batches
from jaxalign.encoders.encoders import Encoders
from jaxalign.errors import ArgumentError


def embedding_batches(
    source: Source,
    encoders: Encoders | Sequence[Encoders],
    *,
    batch_size: int = 128,
    examples: Sequence[range] | None = None,
    with_texts: bool = True,
    strict: bool = False,
    num_threads: int = 1,
    num_workers: int = 0,
    prefetch: int = 2,
) -> Iterable[dict[str, Any]]:
    """Make batches that `embed` encodes without further work, in the data's order.

    Args:
      source: random access to example dicts: `image` (uint8 (h, w, 3) or a Pillow
        image, of any size), `text`, `id`, `label`.
      encoders: one model, or several; `embed` must be given the same.
      batch_size: rows of every batch, a multiple of the devices that encode.
      examples: ranges of example numbers; all by default.
      with_texts: tokenize the captions too.
      strict: raise over a picture that cannot be read, instead of masking it.
      num_threads: see `ordered_batches`.
      num_workers: see `ordered_batches`.
      prefetch: see `ordered_batches`.

    Returns:
      Batches, as dicts of `inputs` (a list with one dict a model:
      `pixels`, `ids`, `ids_mask`), `id`, `label`, `text`, `path`, `index`, `mask`,
      `problem`.

    Raises:
      ValueError: if a model has no preprocessing; or see `ordered_batches`.

    Notes:
      Memory of a batch: batch_size x height x width x 12 bytes for each way of
      preprocessing.
    """
    models = (encoders,) if isinstance(encoders, Encoders) else tuple(encoders)
    return ordered_batches(
        source,
        batch_size=batch_size,
        collate=PrepareInputs(models, with_texts=with_texts, strict=strict),
        examples=examples,
        strict=strict,
        num_threads=num_threads,
        num_workers=num_workers,
        prefetch=prefetch,
    )


class PrepareInputs:
    """Makes several models' inputs from a list of examples; picklable.

    Args:
      models: one or several.
      with_texts: whether to tokenize `text`.
      strict: raise over a picture that a model's preprocessing cannot take.

    Raises:
      ValueError: if a model has no preprocessing, or a damaged one.
    """

    def __init__(
        self, models: Sequence[Encoders], *, with_texts: bool = True, strict: bool
    ):
        self._preprocessings = [model.preprocessing for model in models]
        self._with_texts = with_texts
        self._strict = strict
        # Errors of a folder show here, not on the first picture.
        settings = [p.image_settings() for p in self._preprocessings]
        self._like = [settings.index(own) for own in settings]
        self._shown = [self._pixels(Image.new("RGB", (8, 8)))[n] for n in self._like]
        if with_texts:
            for preprocessing in self._preprocessings:
                preprocessing.texts([""])

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the batch, see `embedding_batches`."""
        pixels = {
            n: np.empty((len(examples), *self._shown[n].shape), np.float32)
            for n in set(self._like)
        }
        problems = []
        for row, example in enumerate(examples):
            problem = example["problem"]
            try:
                made = self._pixels(example["image"])
            except ValueError as error:
                if self._strict:
                    raise ArgumentError(
                        f"example {example['id']!r}", "a picture", str(error)
                    ) from error
                made, problem = None, problem or str(error)
            for n, rows in pixels.items():
                rows[row] = self._shown[n] if made is None else made[n]
            problems.append(problem)
        inputs: list[dict[str, np.ndarray]] = [
            {"pixels": pixels[n]} for n in self._like
        ]
        texts = [str(example["text"]) for example in examples]
        if self._with_texts:
            for preprocessing, made in zip(self._preprocessings, inputs, strict=True):
                ids, mask = preprocessing.texts(texts)
                made["ids"] = ids
                if mask is not None:
                    made["ids_mask"] = mask
        readable = np.array([not problem for problem in problems])
        return {
            "inputs": inputs,
            "id": np.array([str(example["id"]) for example in examples]),
            "label": np.array([int(e.get("label", -1)) for e in examples]),
            "text": np.array(texts),
            "path": np.array([str(e.get("path", e["id"])) for e in examples]),
            "index": np.array([example["index"] for example in examples]),
            "mask": np.array([example["mask"] for example in examples]) & readable,
            "problem": np.array(problems),
        }

    def _pixels(
        self, picture: np.ndarray | Image.Image
    ) -> dict[int, Float[np.ndarray, "h w 3"]]:
        """Preprocess one picture in every way that differs: by the way's number."""
        return {
            n: self._preprocessings[n].images([picture])[0] for n in set(self._like)
        }
