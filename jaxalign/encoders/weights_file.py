# SPDX-License-Identifier: Apache-2.0
"""Safetensors files of a checkpoint folder as memory-mapped arrays, never pickles.

A file is mapped, not read: its tensors cost no memory of the process until they are
copied to where they are used, and the copy is then the only one.
"""

import json
import mmap
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import safetensors

from jaxalign.encoders.damage import damaged

WEIGHTS_FILE = "model.safetensors"
PICKLED_FILES = ("pytorch_model.bin", "model.bin", "open_clip_pytorch_model.bin")

# The dtypes that weights have; another one raises.
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": jnp.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


def read_tensors(
    folder: str | os.PathLike, name: str = WEIGHTS_FILE
) -> dict[str, np.ndarray]:
    """Map every tensor of a folder's weights, in one file or in several.

    Args:
      folder: a checkpoint folder.
      name: of the file; a checkpoint in several files has `<name>.index.json` instead,
        which says where each tensor lies.

    Returns:
      Read-only arrays by name, views of the files.

    Raises:
      ValueError: if files are missing or damaged, or if only pickled weights exist.
    """
    folder = Path(folder)
    if (folder / name).is_file():
        return _map_file(folder / name)
    index = folder / f"{name}.index.json"
    if index.is_file():
        return _map_shards(index)
    pickled = [other for other in PICKLED_FILES if (folder / other).is_file()]
    if pickled:
        raise damaged(
            folder,
            "safetensors weights",
            f"the pickled {pickled[0]}, which could run code",
            "convert them once: load them with the library that wrote them, and save "
            "safetensors (transformers: `model.save_pretrained(folder)`; OpenCLIP: "
            f'`safetensors.torch.save_file(torch.load("{pickled[0]}", '
            f'weights_only=True), "{name}")`)',
        )
    remedy = "pass a complete checkpoint folder"
    raise damaged(folder, f"{name} or {index.name}", remedy=remedy)


def _map_shards(index: Path) -> dict[str, np.ndarray]:
    """Map the files that an index names, and compare their tensors with it."""
    try:
        places = json.loads(index.read_bytes())["weight_map"]
        files = sorted(set(places.values()))
        # A name that leaves the folder is not a file of this checkpoint.
        if not files or any(Path(file).name != file for file in files):
            raise ValueError("no plain file names")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        got = f"one that cannot be used ({error})"
        raise damaged(index, "a weight_map of tensors to files", got) from None
    missing = [file for file in files if not (index.parent / file).is_file()]
    if missing:
        expected = f"the files that {index.name} names"
        raise damaged(index.parent, expected, f"none of {missing}")
    shards = {file: _map_file(index.parent / file) for file in files}
    absent = sorted(name for name, file in places.items() if name not in shards[file])
    if absent:
        expected = f"the tensors that {index.name} names"
        raise damaged(index.parent, expected, f"files without {absent[:8]}")
    named = {name: shards[file][name] for name, file in places.items()}
    # A tensor that no index names is returned too: the caller raises over it.
    return {
        name: named.get(name, tensor)
        for shard in shards.values()
        for name, tensor in shard.items()
    }


def _map_file(path: Path) -> dict[str, np.ndarray]:
    """Map one file; the library checks its header, and that offsets fit."""
    try:
        with safetensors.safe_open(path, framework="numpy"):
            pass
        with path.open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])
        header.pop("__metadata__", None)
        return {
            name: _map_tensor(content, start, entry) for name, entry in header.items()
        }
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise damaged(path, "safetensors", f"a damaged file ({error})") from None


def _map_tensor(content: mmap.mmap, start: int, entry: dict) -> np.ndarray:
    """View one tensor of a mapped file."""
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"dtype {entry['dtype']}, expected one of {sorted(_DTYPES)}")
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    first, last = entry["data_offsets"]
    if first == last:
        return np.zeros(entry["shape"], dtype)
    count = (last - first) // dtype.itemsize
    return np.frombuffer(content, dtype, count, start + first).reshape(entry["shape"])
