# SPDX-License-Identifier: Apache-2.0
"""Encoders x batches -> a stream of embedding batches, rows and ids together."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxalign.embedding.batch import EmbeddingBatch
from jaxalign.embedding.inputs import PrepareInputs
from jaxalign.encoders.encoders import Encoders
from jaxalign.encoders.partition import Partition
from jaxalign.errors import ArgumentError


def embed(
    encoders: Encoders | Sequence[Encoders],
    batches: Iterable[Mapping[str, Any]],
    *,
    mesh: jax.sharding.Mesh | None = None,
    partition: Partition = "pjit",
) -> Iterator[tuple[EmbeddingBatch, ...]]:
    """Embed batches with one model or with several in one pass over the data.

    Args:
      encoders: one model, or several.
      batches: as `embedding_batches` makes them for these models. Or dicts of `image`
        uint8 (n, h, w, 3), `text` (n,) strings (may be missing), `id` (n,), `label`
        (n,) and `mask` (n,), which are preprocessed here, while the device waits. All
        of one size n, so that each program is compiled once, and once for each length
        of texts.
      mesh: spreads the rows of each batch over its devices; the default device
        without one. If it spans several processes, each passes batches of its own, as
        many as the others and of the same size.
      partition: "pjit" (jit with shardings) or "pmap"; the same rows by either.

    Yields:
      For each batch a tuple with one `EmbeddingBatch` a model, in the models' order.
      Their rows may still be computing: `fetch` brings them to the host in time.

    Raises:
      ValueError: if the batch size is no multiple of the mesh's devices, if the batches
        were made for another number of models, or for "pmap" without a mesh or over
        several processes.

    Notes:
      Encoding needs no collective: each device holds the parameters, placed once, and
      its rows.
    """
    models = (encoders,) if isinstance(encoders, Encoders) else tuple(encoders)
    if mesh is None and partition != "pjit":
        raise ArgumentError(
            f"embed(mesh=None, partition={partition!r})",
            "a mesh",
            remedy="pass `data_mesh()` for all devices",
        )
    if mesh is not None:
        models = tuple(model.on_mesh(mesh, partition) for model in models)
    full_length = mesh is not None and mesh.is_multi_process
    iterator: Any = iter(batches)
    seen = 0
    try:
        for batch in iterator:
            if "inputs" not in batch:
                batch = _prepare(models, batch, seen)
            inputs = batch["inputs"]
            seen += len(batch["mask"])
            if len(inputs) != len(models):
                raise ArgumentError(
                    "embed(encoders=..., batches=...)",
                    f"inputs of {len(models)} models",
                    f"those of {len(inputs)}",
                    "pass the same models to `embedding_batches`",
                )
            yield tuple(
                _encode(model, batch, own, full_length=full_length)
                for model, own in zip(models, inputs, strict=True)
            )
    finally:
        # Grain's worker processes end here, not when the garbage is collected.
        if hasattr(iterator, "close"):
            iterator.close()


def _prepare(
    models: Sequence[Encoders], batch: Mapping[str, Any], first: int
) -> dict[str, Any]:
    """Preprocess a batch of stacked pictures and strings for each model."""
    mask = np.asarray(batch["mask"])
    numbers = np.where(mask, first + np.arange(len(mask)), -1)
    columns = {"index": numbers, **batch}
    examples = [
        {"text": "", "problem": "", **{key: rows[i] for key, rows in columns.items()}}
        for i in range(len(mask))
    ]
    return PrepareInputs(models, with_texts="text" in batch, strict=True)(examples)


def _encode(
    model: Encoders,
    batch: Mapping[str, Any],
    inputs: Mapping[str, np.ndarray],
    *,
    full_length: bool,
) -> EmbeddingBatch:
    """Start one model's towers on a batch."""
    text = None
    if "ids" in inputs:
        ids, mask = inputs["ids"], inputs.get("ids_mask")
        if full_length:
            # All processes must run one program, whatever the lengths of their texts.
            ids, mask = model.preprocessing.to_full_length(ids, mask)
        text = model.encode_text(ids, mask)
    return EmbeddingBatch(
        image=model.encode_image(inputs["pixels"]),
        text=text,
        ids=np.asarray(batch["id"]),
        labels=np.asarray(batch["label"]),
        mask=np.asarray(batch["mask"]),
        space=model.space,
        index=np.asarray(batch["index"]),
        captions=np.asarray(batch["text"]),
        paths=np.asarray(batch["path"]),
        problems=np.asarray(batch["problem"]),
    )
