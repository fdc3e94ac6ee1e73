# SPDX-License-Identifier: Apache-2.0
"""What a map's file must hold beyond being whole: tensors that make up a map."""

import os
from typing import Any

import jax.numpy as jnp
import numpy as np

KINDS: tuple[str, ...] = (
    "orthogonal",
    "partial_isometry",
    "linear",
    "mlp",
    "mean_only",
)

# Composing float32 maps loses orthogonality by rounding alone; this is damage.
_ORTHONORMAL_WITHIN = 1e-3


def check_contents(
    path: str | os.PathLike, tensors: dict[str, np.ndarray], header: dict[str, Any]
) -> None:
    """Refuse tensors and a header that are no map's.

    Raises:
      ValueError: if a part is missing, misshaped or not finite, a scale is not
        positive, or the matrix is not of its kind.
    """
    names, kind = header.get("modalities"), header.get("kind")
    if not isinstance(names, list) or not names or kind not in KINDS:
        raise _damaged(path, f"kind {kind!r}, modalities {names!r}")
    for key in ("source_space", "target_space"):
        if not isinstance(header.get(key), str | None):
            raise _damaged(path, f"{key} {header[key]!r}")
    if not isinstance(header.get("card"), dict):
        raise _damaged(path, f"card {header.get('card')!r}")
    for key, value in tensors.items():
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise _damaged(path, f"{value.dtype} numbers in {key!r}")
        if not np.all(np.isfinite(value.astype(np.float64))):
            raise _damaged(path, f"numbers in {key!r} that are not finite")
    matrix = tensors.get("matrix")
    if matrix is None or matrix.ndim != 2:
        raise _damaged(path, "no matrix")
    _check_matrix(path, kind, matrix)
    for key, shape in _expected(tensors, names, kind).items():
        found = tensors.get(key)
        if found is None or found.shape != shape:
            got = "nothing" if found is None else f"shape {found.shape}"
            raise _damaged(path, f"{got} for {key!r} {shape}")
    for name in names:
        scale = tensors[f"scales/{name}"]
        if not scale > 0:
            raise _damaged(path, f"a scale of {scale:.3g} for {name!r}")


def _expected(tensors, names, kind) -> dict[str, tuple[int, ...]]:
    """Shapes of all that goes with the matrix."""
    d_target, d_source = tensors["matrix"].shape
    shapes: dict[str, tuple[int, ...]] = {}
    for name in names:
        shapes[f"scales/{name}"] = ()
        shapes[f"source_means/{name}"] = (d_source,)
        shapes[f"target_means/{name}"] = (d_target,)
    if kind == "mlp":
        hidden = tensors.get("mlp/inner_bias", np.zeros(0)).size
        shapes["mlp/inner_bias"] = (hidden,)
        shapes["mlp/inner"] = (hidden, d_source)
        shapes["mlp/outer"] = (d_target, hidden)
    return shapes


def _check_matrix(path, kind: str, matrix: np.ndarray) -> None:
    """Refuse a matrix that is no isometry, or no partial one, if it should be."""
    if kind in ("linear", "mlp") or 0 in matrix.shape:
        return
    wide = matrix.astype(np.float64)
    wide = wide if wide.shape[0] >= wide.shape[1] else wide.T
    gram = wide.T @ wide
    # Orthonormal columns, or columns that are so where they are not 0.
    expected, found = np.eye(gram.shape[0]), gram
    word = "orthonormal"
    if kind == "partial_isometry":
        expected, found, word = wide, wide @ gram, "a partial isometry"
    error = np.abs(found - expected).max()
    # Rounding to the dtype moves an entry of the Gram by one eps at most, and one of
    # the product with it by three.
    rounding = 4.0 * float(jnp.finfo(matrix.dtype).eps)
    if not error < max(_ORTHONORMAL_WITHIN, rounding):
        raise _damaged(
            path, f"kind {kind!r} with a matrix {error:.3g} away from {word}"
        )


def _damaged(path: str | os.PathLike, got: str) -> ValueError:
    """Say what is wrong with a file that safetensors itself could read."""
    return ValueError(
        f"`AlignmentMap.load({str(path)!r})`: expected a whole map, got {got}; copy "
        "the file again, or fit the map again."
    )
