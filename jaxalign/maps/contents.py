# SPDX-License-Identifier: Apache-2.0
"""The numbers of a map as tensors of a file, and back, with all that must hold.

A file names the structure of the matrix by the words of its first format: "orthogonal"
is an isometry, "linear" a general matrix, "mlp" one with a residual. Files of earlier
versions also know "mean_only", an isometry whose matrix is the identity.
"""

import os
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxalign.errors import ArgumentError
from jaxalign.families.family import Structure
from jaxalign.maps.numbers import MapNumbers
from jaxalign.spaces import Space, older_spaces

_STRUCTURES: dict[str, Structure] = {
    "orthogonal": "isometry",
    "partial_isometry": "partial_isometry",
    "linear": "general",
    "mlp": "residual",
    "mean_only": "isometry",
}
_KINDS = {structure: kind for kind, structure in reversed(_STRUCTURES.items())}

# Composing float32 maps loses orthogonality by rounding alone; this is damage.
_ORTHONORMAL_WITHIN = 1e-3

_BY_MODALITY = ("scales", "source_means", "target_means")
_NORMS = ("source_norms", "target_norms")


def parts_of(numbers: MapNumbers) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors by name, and what the header says of them."""
    names = sorted(numbers.scales)
    tensors = {"matrix": np.asarray(numbers.matrix)}
    for group in (*_BY_MODALITY, *_NORMS):
        values = getattr(numbers, group)
        if values is not None:
            tensors |= {f"{group}/{name}": np.asarray(values[name]) for name in names}
    for name, value in (numbers.residual or {}).items():
        tensors[f"mlp/{name}"] = np.asarray(value)
    return tensors, {"kind": _KINDS[numbers.structure], "modalities": names}


def spaces_part(source: str | None, target: str | None) -> dict[str, Any]:
    """What the header says of the spaces: fingerprints, and the older ones if any."""
    sides = {"source": source, "target": target}
    older = {side: list(older_spaces(space)) for side, space in sides.items()}
    older = {side: values for side, values in older.items() if values}
    spaces = {f"{side}_space": space for side, space in sides.items()}
    return {**spaces, **({"older_spaces": older} if older else {})}


def space_of(header: Mapping[str, Any], side: str) -> str | None:
    """Return a side's fingerprint from a checked header, with the older ones."""
    space, older = header.get(f"{side}_space"), header.get("older_spaces", {})
    return Space(space, older[side]) if space and side in older else space


def numbers_of(
    path: str | os.PathLike, tensors: dict[str, np.ndarray], header: dict[str, Any]
) -> MapNumbers:
    """Make the numbers of a map from a file's tensors and header.

    Raises:
      ValueError: if a part is missing, misshaped or not finite, a scale is not
        positive, or the matrix does not have its structure.
    """
    _check_contents(path, tensors, header)

    def by_name(group: str) -> Any:
        keys = {name: f"{group}/{name}" for name in header["modalities"]}
        if group in _NORMS and not set(keys.values()) <= set(tensors):
            return None
        return {name: jnp.asarray(tensors[key]) for name, key in keys.items()}

    residual = {
        key.removeprefix("mlp/"): jnp.asarray(value)
        for key, value in tensors.items()
        if key.startswith("mlp/")
    }
    return MapNumbers(
        matrix=jnp.asarray(tensors["matrix"]),
        **{group: by_name(group) for group in (*_BY_MODALITY, *_NORMS)},
        residual=residual if header["kind"] == "mlp" else None,
        structure=_STRUCTURES[header["kind"]],
    )


def _check_contents(path, tensors, header) -> None:
    """Raise for tensors and a header that are no map's."""
    names, kind = header.get("modalities"), header.get("kind")
    if not isinstance(names, list) or not names or kind not in _STRUCTURES:
        raise _damaged(path, f"kind {kind!r}, modalities {names!r}")
    for key in ("source_space", "target_space"):
        if not isinstance(header.get(key), str | None):
            raise _damaged(path, f"{key} {header[key]!r}")
    older = header.get("older_spaces", {})
    known = isinstance(older, dict) and set(older) <= {"source", "target"}
    if not known or not all(map(_are_strings, older.values())):
        raise _damaged(path, f"older_spaces {older!r}")
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


def _are_strings(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(one, str) for one in values)


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
    """Raise for a matrix that is no isometry, or no partial one, if it should be."""
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


def _damaged(path: str | os.PathLike, got: str) -> ArgumentError:
    """Say what is wrong with a file that safetensors itself could read."""
    return ArgumentError(
        f"AlignmentMap.load({str(path)!r})",
        "a whole map",
        got,
        "copy the file again, or fit the map again",
    )
