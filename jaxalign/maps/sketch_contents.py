# SPDX-License-Identifier: Apache-2.0
"""The sketches of a map as tensors of its file, and back, validated.

A reader of an earlier version takes no notice of them, so they need no format of their
own.
"""

import os
from typing import Any

import numpy as np

from jaxalign.array_types import Modality
from jaxalign.errors import ArgumentError
from jaxalign.families.scorer import Side
from jaxalign.maps.sketch import Sketch, Sketches

SKETCH = "sketch/"


def sketch_parts(sketches: Sketches) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors by name, and what the header says of them."""
    tensors = {
        f"{SKETCH}{name}/{side}": np.asarray(one.directions, np.float16)
        for name, sides in sketches.items()
        for side, one in sides.items()
    }
    left = {
        name: {side: one.left for side, one in sides.items()}
        for name, sides in sketches.items()
    }
    return tensors, {"sketch": left} if left else {}


def sketches_of(
    path: str | os.PathLike, tensors: dict[str, np.ndarray], header: dict[str, Any]
) -> Sketches:
    """Read the sketches of a map; {} of files without them.

    Raises:
      ValueError: if a part is missing or misshaped, or a number is negative.
    """
    told, found = header.get("sketch", {}), {}
    names = header.get("modalities")
    for name in names if isinstance(names, list) and isinstance(told, dict) else []:
        if name in told:
            found[name] = _read(path, tensors, name, told[name])
    return found


def _read(path, tensors, name: Modality, told) -> dict[Side, Sketch]:
    """Read both sides of one modality."""
    found: dict[Side, Sketch] = {}
    for side in ("source", "target"):
        key = f"{SKETCH}{name}/{side}"
        value = tensors.get(key, np.zeros(0))
        means = tensors.get(f"{side}_means/{name}", np.zeros(0))
        left = told.get(side) if isinstance(told, dict) else None
        fits = value.ndim == 2 and value.shape[1:] == means.shape
        if not fits or not isinstance(left, float | int) or not left >= 0:
            raise ArgumentError(
                f"AlignmentMap.load({str(path)!r})",
                "a whole map",
                f"shape {value.shape} and {left!r} left for {key!r}",
                "copy the file again, or fit the map again",
            )
        found[side] = Sketch(value, float(left))
    return found
