# SPDX-License-Identifier: Apache-2.0
"""The map's file: tensors and a JSON card in one `.safetensors`, never a pickle.

The header's metadata holds `format`, `header`, a JSON object, and `sha256`, of that
object's text and all tensors: safetensors itself notices a cut, not a flipped bit. The
format is "jaxalign-map/1", "/2" for the kinds that came later, a partial isometry and
an MLP, or "/3" with a scorer. A reader sees the old file or the new one, whole.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxalign.atomic_files import write_atomically
from jaxalign.errors import ArgumentError, MissingFileError, check_path
from jaxalign.lfs import POINTER, REMEDY, is_lfs_pointer

FORMAT_NAME = "jaxalign-map"
FORMAT_VERSION = 3
# How files of other kinds begin.
_SIGNS = {
    b"\x93NUMPY": "an .npy file",
    b"PK": "an .npz or zip file",
    b"PAR1": "a parquet file",
}
_LONGEST_SIGN = max(map(len, _SIGNS))
# Kinds storable in format version 1.
_FIRST_KINDS = ("orthogonal", "linear", "mean_only")


def write_map(
    path: str | os.PathLike,
    tensors: dict[str, np.ndarray],
    header: dict[str, Any],
) -> None:
    """Write tensors and a JSON header atomically.

    Args:
      path: ends in ``.safetensors``; its folder is made if it is missing.
      tensors: float arrays by name.
      header: anything that JSON can hold.

    Raises:
      ValueError: if `path` ends otherwise, or `header` is not JSON.
    """
    place = check_path("save", "path", path)
    if place.suffix != ".safetensors":
        raise ArgumentError(
            f"save({str(path)!r})",
            "a name ending in '.safetensors'",
            remedy=f"pass {str(place.with_suffix('.safetensors'))!r}",
        )
    try:
        text = json.dumps(header, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(
            f"save({str(path)!r})",
            "a header of JSON values",
            error,
            "keep strings, numbers, lists and dictionaries in the card",
        ) from error
    # The lowest version that can hold the map: older readers keep reading.
    version = 1 if header.get("kind") in _FIRST_KINDS else 2
    # An older reader would search by the map of rows alone, without a sign of it.
    version = version if header.get("scorer") is None else FORMAT_VERSION
    # `save` ignores strides: a transposed view would be written scrambled.
    whole = {name: np.array(value, order="C") for name, value in tensors.items()}
    metadata = {
        "format": f"{FORMAT_NAME}/{version}",
        "header": text,
        "sha256": checksum(text, whole),
    }
    data = safetensors.numpy.save(whole, metadata=metadata)
    write_atomically(place, data)


def checksum(text: str, tensors: dict[str, np.ndarray]) -> str:
    """Hash the header's text, and every tensor's name, dtype, shape and bytes."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name]
        # JSON keeps names apart, whatever characters they hold.
        digest.update(json.dumps([name, value.dtype.str, value.shape]).encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def read_map(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read tensors and header, refusing damage and newer formats.

    Args:
      path: a file that `write_map` wrote.

    Returns:
      The tensors by name, and the header.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file is damaged, is no map, is of a newer format, or holds no
        checksum.
    """
    place = check_path("AlignmentMap.load", "path", path)
    call = f"AlignmentMap.load({str(path)!r})"
    if not place.exists():
        raise MissingFileError(
            f"`{call}`: expected a map file, found nothing; write one by `amap.save`."
        )
    if not place.is_file():
        raise ArgumentError(call, "a map file", "a folder", "pass the file inside it")
    if is_lfs_pointer(place):
        raise ArgumentError(call, "a map file", POINTER, REMEDY)
    try:
        with safetensors.safe_open(place, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            _check_format(call, metadata.get("format"))
            text = metadata.get("header", "")
            header = json.loads(text)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, json.JSONDecodeError, OSError) as error:
        _check_kind(call, place)
        raise ArgumentError(
            call,
            "a whole safetensors file",
            f"a damaged one ({error})",
            "copy it again, or fit the map again",
        ) from error
    _check_sum(call, metadata.get("sha256"), checksum(text, tensors))
    if not isinstance(header, dict):
        raise ArgumentError(
            call, "a JSON object as header", type(header).__name__, "fit the map again"
        )
    return tensors, header


def _check_kind(call: str, place: Path) -> None:
    """Raise if a file that cannot be read is of another kind."""
    try:
        with place.open("rb") as stream:
            start = stream.read(_LONGEST_SIGN)
    except OSError:
        return
    kinds = [kind for sign, kind in _SIGNS.items() if start.startswith(sign)]
    if kinds or place.suffix != ".safetensors":
        raise ArgumentError(
            call,
            "a map, a .safetensors file",
            f"{place.name!r}, which is not a map but {(kinds or ['another file'])[0]}",
            "pass the file that `jaxalign fit --out=` or `amap.save` wrote",
        )


def _check_sum(call: str, stored: str | None, found: str) -> None:
    """Raise if the bytes are not those that were written."""
    if stored is None:
        raise ArgumentError(
            call,
            "a file with its checksum",
            "one without, of an early jaxalign or of another program",
            "fit the map again and `save` it",
        )
    if stored != found:
        raise ArgumentError(
            call,
            f"contents of sha256 {stored[:12]}...",
            f"{found[:12]}..., so the file is a damaged one",
            "copy it again, or fit the map again",
        )


def _check_format(call: str, found: str | None) -> None:
    """Raise if the file is no map, or of a later format."""
    name, _, version = (found or "").partition("/")
    if name != FORMAT_NAME or not version.isdecimal():
        raise ArgumentError(
            call,
            f"format '{FORMAT_NAME}/{FORMAT_VERSION}'",
            repr(found),
            "this safetensors file is no jaxalign map (a checkpoint, perhaps)",
        )
    if int(version) > FORMAT_VERSION:
        raise ArgumentError(
            call,
            f"format '{FORMAT_NAME}/{FORMAT_VERSION}'",
            f"the newer {found!r}",
            "upgrade jaxalign with `pip install --upgrade jaxalign`",
        )
