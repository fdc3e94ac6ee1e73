# SPDX-License-Identifier: Apache-2.0
"""Encoders x batches -> a stream of embedding batches, rows and ids together."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from jaxalign.encoders.encoders import Encoders
from jaxalign.sharding import DATA_AXIS, row_sharding


@dataclasses.dataclass(frozen=True)
class EmbeddingBatch:
    """One batch of one model's rows, in the data's order.

    Attributes:
      image: (n, d) unit rows.
      text: (n, d) unit rows of the captions.
      ids: (n,) strings that name the examples.
      labels: (n,) classes.
      mask: (n,), False on padding.
      space: the fingerprint of the rows' space.
    """

    image: Float[Array, "n d"]
    text: Float[Array, "n d"]
    ids: Shaped[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    mask: Bool[np.ndarray, " n"]
    space: str


def embed(
    encoders: Encoders | Sequence[Encoders],
    batches: Iterable[Mapping[str, np.ndarray]],
    *,
    mesh: jax.sharding.Mesh | None = None,
) -> Iterator[tuple[EmbeddingBatch, ...]]:
    """Embed batches with one model or with several in one pass over the data.

    Args:
      encoders: one model, or several.
      batches: dicts of `image` uint8 (n, h, w, 3), `text` (n,) strings, `id` (n,),
        `label` (n,) and `mask` (n,), as `image_text_batches` makes them; all of one
        size n, so that each program is compiled once.
      mesh: spreads the rows of each batch over its devices; the default device
        without one.

    Yields:
      For each batch a tuple with one `EmbeddingBatch` a model, in the models' order.

    Raises:
      ValueError: if the batch size is no multiple of the mesh's devices.

    Notes:
      Encoding needs no collective: each device holds the parameters, placed once, and
      its rows.
    """
    models = (encoders,) if isinstance(encoders, Encoders) else tuple(encoders)
    if mesh is not None:
        models = tuple(model.on_mesh(mesh) for model in models)
    for batch in batches:
        texts = [str(text) for text in batch["text"]]
        yield tuple(
            EmbeddingBatch(
                image=model.encode_image(
                    _place(model.preprocess_images(list(batch["image"])), mesh)
                ),
                text=model.encode_text(
                    *(_place(part, mesh) for part in model.tokenize(texts))
                ),
                ids=np.asarray(batch["id"]),
                labels=np.asarray(batch["label"]),
                mask=np.asarray(batch["mask"]),
                space=model.space,
            )
            for model in models
        )


@dataclasses.dataclass(frozen=True)
class EmbeddedSet:
    """A whole data set's rows of one model, on the host, in the data's order.

    Attributes:
      image: (n, d) unit rows.
      text: (n, d) unit rows of the captions.
      ids: (n,) strings that name the examples.
      labels: (n,) classes.
      space: the fingerprint of the rows' space.
    """

    image: Float[np.ndarray, "n d"]
    text: Float[np.ndarray, "n d"]
    ids: Shaped[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    space: str


def gather(
    stream: Iterable[tuple[EmbeddingBatch, ...]],
    *,
    report: Callable[[int], None] = lambda rows: None,
) -> tuple[EmbeddedSet, ...]:
    """Collect a stream of batches on the host, without its padding.

    Args:
      stream: what `embed` yields; at least one batch.
      report: told of the rows gathered so far, after each batch.

    Returns:
      One set a model.

    Raises:
      ValueError: if the stream is empty.
    """
    kept: list[tuple[EmbeddingBatch, ...]] = []
    count = 0
    for batches in stream:
        # Rows stay where they are until the end: to fetch them here would keep the
        # next batch's preprocessing waiting for this one's encoding.
        kept.append(batches)
        count += int(batches[0].mask.sum())
        report(count)
    if not kept:
        raise ValueError(
            "`gather(stream=...)` expected at least one batch, got none; pass the "
            "batches of a data set that is not empty."
        )

    def whole(model: int, name: str) -> np.ndarray:
        parts = (batches[model] for batches in kept)
        return np.concatenate(
            [np.asarray(getattr(part, name))[part.mask] for part in parts]
        )

    names = ("image", "text", "ids", "labels")
    return tuple(
        EmbeddedSet(**{name: whole(model, name) for name in names}, space=batch.space)
        for model, batch in enumerate(kept[0])
    )


def _place(rows: Any, mesh: jax.sharding.Mesh | None) -> Any:
    """Split host rows over the mesh, if there are any and there is one."""
    if mesh is None or rows is None:
        return rows
    devices = mesh.shape[DATA_AXIS]
    if rows.shape[0] % devices:
        raise ValueError(
            f"`embed(batches=...)` expected batches of a multiple of the mesh's "
            f"{devices} devices, got {rows.shape[0]} rows; choose another batch_size."
        )
    return jax.device_put(rows, row_sharding(mesh))
