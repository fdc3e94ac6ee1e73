# SPDX-License-Identifier: Apache-2.0
"""Offsets kept beside an index: one number a row, bound to what they were measured for.

Offsets of another map, use or index would be wrong without a sign of it. The file says
what they were measured for, and reading asks for the same.
"""

import hashlib
import json
import os
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float

from jaxalign.array_types import ArrayLike
from jaxalign.atomic_files import write_atomically
from jaxalign.errors import ArgumentError, MissingFileError, check_path
from jaxalign.maps.file import checksum

FORMAT = "jaxalign-offsets/2"


def fingerprint_rows(rows: ArrayLike, *, block_size: int = 65536) -> str:
    """Hash an array's shape, dtype and bytes, block by block."""
    digest = hashlib.sha256(json.dumps([rows.shape, str(rows.dtype)]).encode())
    for start in range(0, rows.shape[0], block_size):
        block = np.asarray(rows[start : start + block_size])
        digest.update(np.ascontiguousarray(block).tobytes())
    return digest.hexdigest()


def save_offsets(
    path: str | os.PathLike, offsets: Float[np.ndarray, " m"], made_for: Mapping
) -> None:
    """Write the offsets of an index atomically.

    Args:
      path: ends in ``.safetensors``, such as ``image.offsets.safetensors``.
      offsets: ``(m,)``.
      made_for: JSON values that tell what they were measured for.

    Raises:
      ValueError: if `path` ends otherwise.
    """
    place = check_path("save_offsets", "path", path)
    if place.suffix != ".safetensors":
        raise ArgumentError(
            f"save_offsets({str(path)!r})",
            "a name ending in '.safetensors'",
            remedy=f"pass {str(place.with_suffix('.safetensors'))!r}",
        )
    tensors = {"offsets": np.array(offsets, np.float32)}
    text = json.dumps(made_for, sort_keys=True)
    metadata = {
        "format": FORMAT,
        "made_for": text,
        "sha256": checksum(text, tensors),
    }
    write_atomically(place, safetensors.numpy.save(tensors, metadata=metadata))


def load_offsets(
    path: str | os.PathLike, *made_for: Mapping
) -> Float[np.ndarray, " m"]:
    """Read offsets that `save_offsets` wrote for the same map, use and index.

    Args:
      path: of the file.
      made_for: what they must have been measured for, or any of several.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file is damaged, or made for something else.
    """
    call = f"prepare(offsets={str(path)!r})"
    remedy = "measure the offsets again, by `prepare` without `offsets`"
    if not os.path.isfile(path):
        found = "a folder" if os.path.isdir(path) else "nothing"
        raise MissingFileError(
            f"`{call}`: expected a file of `save_offsets`, found {found}; {remedy}."
        )
    try:
        with safetensors.safe_open(path, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ArgumentError(
            call, "a whole safetensors file", f"a damaged one ({error})", remedy
        ) from error
    if metadata.get("format") != FORMAT:
        raise ArgumentError(
            call, f"format {FORMAT!r}", repr(metadata.get("format")), remedy
        )
    text = metadata.get("made_for", "")
    if set(tensors) != {"offsets"} or metadata.get("sha256") != checksum(text, tensors):
        raise ArgumentError(
            call, "contents of the checksum in it", "a damaged file", remedy
        )
    stored = json.loads(text)
    stale = min(
        (sorted(k for k in one if stored.get(k) != one[k]) for one in made_for),
        key=len,
    )
    if stale:
        raise ArgumentError(
            call,
            f"offsets measured for this {' and this '.join(stale)}",
            "those of another",
            remedy,
        )
    return tensors["offsets"]
