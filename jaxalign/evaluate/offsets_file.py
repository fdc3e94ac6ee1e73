# SPDX-License-Identifier: Apache-2.0
"""Offsets kept beside an index: one number a row, bound to the map and the index.

Offsets of another map, another recipe or another index are wrong without a sign of it:
the file says what they were measured for, and reading asks for the same.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.atomic_files import write_atomically
from jaxalign.evaluate.recipes import Searcher
from jaxalign.maps.file import checksum

FORMAT = "jaxalign-offsets/1"


def fingerprint_rows(rows: ArrayLike, *, block_size: int = 65536) -> str:
    """Hash an array's shape, dtype and bytes, block by block."""
    digest = hashlib.sha256(json.dumps([rows.shape, str(rows.dtype)]).encode())
    for start in range(0, rows.shape[0], block_size):
        block = np.asarray(rows[start : start + block_size])
        digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()


def save_offsets(
    path: str | os.PathLike,
    offsets: Float[ArrayLike, " m"],
    *,
    searcher: Searcher,
    index: ArrayLike | str,
    query_modality: Modality | None = None,
) -> None:
    """Write the offsets of an index atomically.

    Args:
      path: ends in ``.safetensors``, such as ``image.offsets.safetensors``.
      offsets: ``(m,)``, as `Searcher.measure_offsets` gave them.
      searcher: that they were measured by.
      index: the rows as stored, ``(m, d)``, or a fingerprint of yours.
      query_modality: that they were measured for; may be left out if the map holds one
        only.

    Raises:
      ValueError: if `path` ends otherwise, there is not one offset a row, or the map
        does not hold `query_modality`.
    """
    query_modality = searcher.amap.check_modality(
        "save_offsets(query_modality={})", query_modality
    )
    place = Path(path)
    if place.suffix != ".safetensors":
        raise ValueError(
            f"`save_offsets({str(path)!r})`: expected a name ending in '.safetensors'; "
            f"pass {str(place.with_suffix('.safetensors'))!r}."
        )
    values = np.array(offsets, np.float32)
    if values.ndim != 1 or not (isinstance(index, str) or len(index) == len(values)):
        rows = "" if isinstance(index, str) else f" for {len(index)} rows"
        raise ValueError(
            f"`save_offsets(offsets=...)`: expected shape (m,), one offset per index "
            f"row, got {values.shape}{rows}; pass `searcher.measure_offsets(...)`."
        )
    made_for = json.dumps(_made_for(searcher, index, query_modality), sort_keys=True)
    tensors = {"offsets": values}
    metadata = {
        "format": FORMAT,
        "made_for": made_for,
        "sha256": checksum(made_for, tensors),
    }
    write_atomically(place, safetensors.numpy.save(tensors, metadata=metadata))


def load_offsets(
    path: str | os.PathLike,
    *,
    searcher: Searcher,
    index: ArrayLike | str,
    query_modality: Modality | None = None,
) -> Float[np.ndarray, " m"]:
    """Read offsets that `save_offsets` wrote, for the same map, recipe and index.

    Args:
      path: the file.
      searcher: that will search with them.
      index: the rows as stored, or the fingerprint that they were saved under.
      query_modality: of the queries; may be left out if the map holds one only.

    Returns:
      ``(m,)`` offsets.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file is damaged, or made for something else, or the map does
        not hold `query_modality`.
    """
    query_modality = searcher.amap.check_modality(
        "load_offsets(query_modality={})", query_modality
    )
    call = f"`load_offsets({str(path)!r})`"
    try:
        with safetensors.safe_open(path, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{call}: expected a whole safetensors file, got a damaged one ({error}); "
            "measure the offsets again."
        ) from error
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{call}: expected format {FORMAT!r}, got {metadata.get('format')!r}; if "
            "it comes from a newer jaxalign, upgrade this one."
        )
    text = metadata.get("made_for", "")
    if set(tensors) != {"offsets"} or metadata.get("sha256") != checksum(text, tensors):
        raise ValueError(
            f"{call}: expected contents of the checksum in it, got a damaged file; "
            "measure the offsets again."
        )
    stored, wanted = json.loads(text), _made_for(searcher, index, query_modality)
    stale = sorted(key for key in wanted if stored.get(key) != wanted[key])
    if stale:
        raise ValueError(
            f"{call}: expected offsets measured for this {' and this '.join(stale)}, "
            "got those of another; measure them again by `searcher.measure_offsets`, "
            "and `save_offsets`."
        )
    return tensors["offsets"]


def _made_for(searcher: Searcher, index: ArrayLike | str, modality: str) -> dict:
    """What the offsets depend on, but for the anchors, which only make them better."""
    return {
        "map": searcher.amap.fingerprint,
        "recipe": searcher.recipe.to_json(),
        "index": index if isinstance(index, str) else fingerprint_rows(index),
        "query modality": modality,
    }
