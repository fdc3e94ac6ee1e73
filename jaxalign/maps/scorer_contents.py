# SPDX-License-Identifier: Apache-2.0
"""A map's scorer and kept anchors as tensors of its file, and back, validated.

They lie in a file of format 3 beside the numbers of the map, under names of their own.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxalign.array_types import Modality
from jaxalign.errors import ArgumentError
from jaxalign.families.scorer import Scorer, Side
from jaxalign.status import Status

EncodedAnchors = Mapping[Modality, Mapping[Side, np.ndarray]]
"""By modality and side, ``(n, width)`` float16."""

SCORER, ENCODED = "scorer/", "encoded/"
_SIDES: tuple[Side, Side] = ("source", "target")
_NORMS = ("source_norm", "target_norm")


def scorer_parts(
    scorer: Scorer | None, encoded: EncodedAnchors
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors by name, and what the header says of them."""
    tensors = {
        f"{ENCODED}{name}/{side}": np.asarray(sides[side])
        for name, sides in encoded.items()
        for side in _SIDES
    }
    if scorer is None:
        return tensors, {}
    for key in (*_SIDES, "penalty", *_NORMS):
        value = getattr(scorer, key)
        if value is not None:
            tensors[SCORER + key] = np.asarray(value)
    return tensors, {"scorer": {"queries_are": scorer.queries_are}}


def scorer_of(
    path: str | os.PathLike, tensors: dict[str, np.ndarray], header: dict[str, Any]
) -> tuple[Scorer | None, EncodedAnchors]:
    """Read scorer and kept anchors of a map, whose matrix is there.

    Raises:
      ValueError: if a part is missing, misshaped or not finite.
    """
    matrix = tensors.get("matrix")
    if matrix is None or matrix.ndim != 2:
        return None, {}  # `numbers_of` says so
    d_target, d_source = matrix.shape
    scorer, width = None, d_target
    told = header.get("scorer")
    if told is not None:
        side = told.get("queries_are") if isinstance(told, dict) else ""
        if side not in (None, *_SIDES):
            raise _damaged(path, f"scorer {told!r}")
        penalty = tensors.get(f"{SCORER}penalty", np.zeros(()))
        width = penalty.size
        shapes = {
            "source": (width, d_source),
            "target": (width, d_target),
            "penalty": (width,),
            **{key: () for key in _NORMS if SCORER + key in tensors},
        }
        for key, shape in shapes.items():
            _check_shape(path, SCORER + key, tensors, shape)
        for key in set(_NORMS) & set(shapes):
            if not tensors[SCORER + key] > 0:
                raise _damaged(path, f"{key} {tensors[SCORER + key]:.3g}")
        parts = {key: jnp.asarray(tensors[SCORER + key]) for key in shapes}
        scorer = Scorer(
            source=parts["source"],
            target=parts["target"],
            source_norm=parts.get("source_norm"),
            target_norm=parts.get("target_norm"),
            penalty=parts["penalty"],
            rank=jnp.int32(width),
            status=jnp.int32(Status.OK.value),
            clipped=jnp.int32(0),
            queries_are=side,
        )
    names = header.get("modalities")
    found: dict[Modality, dict[Side, np.ndarray]] = {}
    for name in names if isinstance(names, list) else []:
        keys: dict[Side, str] = {side: f"{ENCODED}{name}/{side}" for side in _SIDES}
        if not set(keys.values()) & set(tensors):
            continue
        for side, key in keys.items():
            rows = tensors.get(key, np.zeros(0)).shape[:1]
            _check_shape(path, key, tensors, (*rows, width) if rows else (0, width))
            found.setdefault(name, {})[side] = tensors[key]
    return scorer, found


def _check_shape(path, key, tensors, shape) -> None:
    """Raise for a tensor that is missing or has another shape."""
    value = tensors.get(key)
    if value is None or value.shape != shape:
        raise _damaged(
            path,
            f"{'nothing' if value is None else f'shape {value.shape}'} for {key!r} "
            f"{shape}",
        )


def _damaged(path, got: str) -> ArgumentError:
    """Say what is wrong with a file that safetensors itself could read."""
    return ArgumentError(
        f"AlignmentMap.load({str(path)!r})",
        "a whole map",
        got,
        "copy the file again, or fit the map again",
    )
