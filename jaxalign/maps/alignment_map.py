# SPDX-License-Identifier: Apache-2.0
"""The map from one model's space to another's: apply, invert, compose, save, load.

One matrix for all modalities; a scale and a mean of each side per modality. What comes
out of the fit, and all that evaluation and export need.
"""

import functools
import json
import os
import typing
from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike, Modality
from jaxalign.buckets import first_rows, pad_to_bucket
from jaxalign.float_rows import float_rows, wide_dtype
from jaxalign.maps.composition import composed_kind
from jaxalign.maps.contents import check_contents
from jaxalign.maps.file import checksum, read_map, write_map
from jaxalign.maps.norms import check_norms, norm_range, rescale_rows
from jaxalign.solve.mlp import residual_layer

_HIGHEST = jax.lax.Precision.HIGHEST

# Kinds storable in format version 1.
_FIRST_KINDS = ("orthogonal", "linear", "mean_only")


@typing.no_type_check
@flax.struct.dataclass
class AlignmentMap:
    r"""A map of rows, :math:`s (x - \bar x) M^\top + \bar y`, a frozen PyTree.

    Make one by `fit_map`. ``amap(rows, "text")`` applies it, ``amap.inverse()`` goes
    back, ``later @ earlier`` composes, ``amap.save`` and ``AlignmentMap.load`` keep it.

    Attributes:
      matrix: M, shape ``(d_target, d_source)``; Q where `kind` is orthogonal.
      scales: s by modality, scalars.
      source_means: by modality, ``(d_source,)``.
      target_means: by modality, ``(d_target,)``.
      source_norms: by modality, ``(3,)``: smallest, root mean square and largest norm
        of the anchors' source rows; None where they are unknown, as in older files.
      target_norms: the same for the target rows.
      mlp: of the kind "mlp" only, what is added to M x for a centred row x, before
        the scale: ``outer @ gelu(inner @ x + inner_bias)``, with ``inner (hidden,
        d_source)``, ``inner_bias (hidden,)`` and ``outer (d_target, hidden)``.
      source_space: static; fingerprint of the space of the rows, or None if unknown.
      target_space: static; the same for what comes out.
      kind: static; ``"orthogonal"`` (orthonormal columns or rows),
        ``"partial_isometry"`` (orthonormal on the part that the anchors identify, 0 on
        the rest: M = M M' M), ``"linear"``, ``"mlp"``, or ``"mean_only"`` (M = I).
      card_json: static; the card as JSON text, see `card`.
    """

    matrix: Float[Array, "d_target d_source"]
    scales: dict[Modality, Float[Array, ""]]
    source_means: dict[Modality, Float[Array, " d_source"]]
    target_means: dict[Modality, Float[Array, " d_target"]]
    source_norms: dict[Modality, Float[Array, "3"]] | None = None
    target_norms: dict[Modality, Float[Array, "3"]] | None = None
    mlp: dict[str, Float[Array, "..."]] | None = None
    source_space: str | None = flax.struct.field(pytree_node=False, default=None)
    target_space: str | None = flax.struct.field(pytree_node=False, default=None)
    kind: str = flax.struct.field(pytree_node=False, default="orthogonal")
    card_json: str = flax.struct.field(pytree_node=False, default="{}")

    @property
    def rotation(self) -> Float[Array, "d_target d_source"]:
        """Q, of orthonormal columns or rows; other kinds have none."""
        if self.kind not in ("orthogonal", "mean_only"):
            raise ValueError(
                f"`amap.rotation`: expected an orthogonal map, got kind={self.kind!r}; "
                "read `amap.matrix`."
            )
        return self.matrix

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities whose means the map holds, sorted."""
        return tuple(sorted(self.scales))

    @property
    def d_source(self) -> int:
        """Width of the rows that go in."""
        return self.matrix.shape[1]

    @property
    def d_target(self) -> int:
        """Width of the rows that come out."""
        return self.matrix.shape[0]

    @property
    def card(self) -> dict[str, Any]:
        """How the map was made: a fresh dictionary of JSON values."""
        return json.loads(self.card_json)

    @property
    def fingerprint(self) -> str:
        """What the map does, as a sha256: of all but its card and the norms."""
        tensors, header = self._contents()
        del header["card"]
        tensors = {key: x for key, x in tensors.items() if "_norms/" not in key}
        return checksum(json.dumps(header, sort_keys=True), tensors)

    def __repr__(self) -> str:
        """One line: kind, widths, modalities, anchors and residuals, spaces."""
        fit = self.card.get("fit", {})
        told = fit.get("modalities", {})
        parts = []
        for name in self.modalities:
            facts = told.get(name)
            parts.append(
                f"{name}: {facts['anchors']:,} anchors, "
                f"{100 * facts['relative_residual']:.1f} % of spread left"
                if facts
                else name
            )
        spaces = [
            "unknown" if space is None else space[:12]
            for space in (self.source_space, self.target_space)
        ]
        shape = getattr(self.matrix, "shape", None)
        widths = f"{shape[-1]} -> {shape[-2]}" if shape and len(shape) > 1 else "?"
        return (
            f"AlignmentMap({self.kind}, {widths}; {'; '.join(parts)}; spaces "
            f"{spaces[0]} -> {spaces[1]})"
        )

    def __call__(
        self,
        rows: Float[ArrayLike, "n d_source"],
        modality: Modality | None = None,
        *,
        space: str | None = None,
        normalize: bool = False,
        normalize_input: bool = False,
        subtract_source_mean: bool = True,
        add_target_mean: bool = True,
    ) -> Float[Array, "n d_target"]:
        """Carry rows of one modality to the target space.

        Args:
          rows: shape ``(n, d_source)``, of the source model.
          modality: whose means and scale to use; may be left out where the map holds
            one modality alone.
          space: fingerprint of the space of `rows`; checked if the map knows its own.
          normalize: static; divide each row that comes out by its norm.
          normalize_input: static; bring each row to the norm of the anchors (their root
            mean square; 1 if the map does not know it) before it is carried.
          subtract_source_mean: static; if false, rows are rotated about the origin.
          add_target_mean: static; if false, rows come out centred, the better query
            where the target rows sit in a tight cone. With both false the map is
            applied without centring.

        Returns:
          Rows of the target space, shape ``(n, d_target)``.

        Raises:
          ValueError: if the width, the space or the modality is not the map's own, or
            the norm of a row is less than half of the anchors' smallest, or more than
            twice their largest. Rows that are zero or not finite have no norm to check.

        Notes:
          The check reads two numbers back, and so waits for the result; inside
          `jax.jit`, or with `normalize_input`, nothing is checked. Numbers of rows
          share programs: they are padded to few sizes.
        """
        self._check_space(space)
        name = self.check_modality("amap(rows, modality={})", modality)
        array = float_rows("amap", "rows", rows, width=self.d_source)
        norms = None if self.source_norms is None else self.source_norms[name]
        moved, low, high = _apply(
            pad_to_bucket(array),
            self.matrix,
            self.mlp,
            self.scales[name],
            self.source_means[name],
            self.target_means[name],
            norms,
            normalize=normalize,
            normalize_input=normalize_input,
            subtract=subtract_source_mean,
            add=add_target_mean,
        )
        traced = isinstance(low, jax.core.Tracer)
        if norms is not None and not normalize_input and not traced:
            check_norms(
                "amap(rows=...)", low, high, norms, centred=not subtract_source_mean
            )
        return first_rows(moved, array.shape[0])

    def check_modality(self, call: str, modality: Modality | None) -> Modality:
        """Return the modality whose means to use: the one named, or the only one.

        Args:
          call: for the error, with ``{}`` for the modality.
          modality: None: the only one.

        Raises:
          ValueError: if the map does not hold it, or holds several and none is named.
        """
        if modality is None and len(self.scales) == 1:
            return self.modalities[0]
        if modality is None or modality not in self.scales:
            raise ValueError(
                f"`{call.format(repr(modality))}`: expected one of "
                f"{list(self.modalities)}, whose means the map holds; name the "
                "modality of the rows, or fit the map with pairs of it."
            )
        return modality

    def inverse(self) -> "AlignmentMap":
        """Turn the map around: rows of the target space to the source space.

        Exact on un-normalised rows. With unequal widths it is the pseudo-inverse:
        narrow to wide and back is exact, wide to narrow and back is a projection. Of a
        partial isometry it is the pseudo-inverse too: there and back keeps of a centred
        row what the anchors identify, and drops the rest.

        Raises:
          ValueError: if the map is linear or an MLP.
        """
        if self.kind in ("linear", "mlp"):
            why = "would blow up noise" if self.kind == "linear" else "does not exist"
            raise ValueError(
                f"`amap.inverse()`: expected an orthogonal map, got kind={self.kind!r},"
                f" whose inverse {why}; fit the other direction by `fit_map` with "
                "source and target exchanged."
            )
        card = self.card
        turned_back = set(card) == {"inverse_of"}
        return AlignmentMap(
            matrix=self.matrix.T,
            scales={name: 1.0 / scale for name, scale in self.scales.items()},
            source_means=dict(self.target_means),
            target_means=dict(self.source_means),
            source_norms=self.target_norms,
            target_norms=self.source_norms,
            source_space=self.target_space,
            target_space=self.source_space,
            kind=self.kind,
            card_json=_to_json(
                card["inverse_of"] if turned_back else {"inverse_of": card}
            ),
        )

    def __matmul__(self, earlier: "AlignmentMap") -> "AlignmentMap":
        """Compose: ``(later @ earlier)(rows)`` is ``later(earlier(rows))``.

        Exact on un-normalised rows. The kind is orthogonal where the product is, that
        is unless one map is linear, only part of an isometry, or the width grows and
        shrinks on the way; see `composed_kind`.

        Raises:
          TypeError: if `earlier` is no map.
          ValueError: if the maps do not meet in one space, width and set of
            modalities, or one is an MLP.
        """
        if not isinstance(earlier, AlignmentMap):
            # Not NotImplemented: NumPy would take over, and speak of dimensions.
            raise TypeError(
                "`later @ earlier`: expected an AlignmentMap on the right, got "
                f"{type(earlier).__name__}; carry rows by `amap(rows, modality)`."
            )
        _check_composable(self, earlier)
        # (d_target, d_middle) @ (d_middle, d_source)
        matrix = jnp.matmul(self.matrix, earlier.matrix, precision=_HIGHEST)
        target_means = {}
        for name, scale in self.scales.items():
            step = earlier.target_means[name] - self.source_means[name]
            moved = jnp.matmul(self.matrix, step, precision=_HIGHEST)
            target_means[name] = scale * moved + self.target_means[name]
        return AlignmentMap(
            matrix=matrix,
            scales={name: s * earlier.scales[name] for name, s in self.scales.items()},
            source_means=dict(earlier.source_means),
            target_means=target_means,
            source_norms=earlier.source_norms,
            target_norms=self.target_norms,
            source_space=earlier.source_space,
            target_space=self.target_space,
            kind=composed_kind(
                (earlier.kind, self.kind),
                (earlier.d_source, self.d_source, self.d_target),
            ),
            card_json=_to_json({"later": self.card, "earlier": earlier.card}),
        )

    def save(self, path: str | os.PathLike) -> None:
        """Write the map to one `.safetensors` file, atomically."""
        tensors, header = self._contents()
        # Older readers keep reading what they can read.
        write_map(path, tensors, header, version=1 if self.kind in _FIRST_KINDS else 2)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "AlignmentMap":
        """Read a map that `save` wrote.

        Raises:
          FileNotFoundError: if there is no such file.
          ValueError: if it is damaged, incomplete, no map, of a newer format, or holds
            what no map can: no modality, a scale that is not positive, an orthogonal
            kind with another matrix.
        """
        tensors, header = read_map(path)
        check_contents(path, tensors, header)

        def by_name(group: str, optional: bool = False) -> Any:
            keys = {name: f"{group}/{name}" for name in header["modalities"]}
            if optional and not set(keys.values()) <= set(tensors):
                return None
            return {name: jnp.asarray(tensors[key]) for name, key in keys.items()}

        beyond = {
            key.removeprefix("mlp/"): jnp.asarray(value)
            for key, value in tensors.items()
            if key.startswith("mlp/")
        }
        return cls(
            matrix=jnp.asarray(tensors["matrix"]),
            scales=by_name("scales"),
            source_means=by_name("source_means"),
            target_means=by_name("target_means"),
            source_norms=by_name("source_norms", optional=True),
            target_norms=by_name("target_norms", optional=True),
            mlp=beyond if header["kind"] == "mlp" else None,
            source_space=header.get("source_space"),
            target_space=header.get("target_space"),
            kind=header["kind"],
            card_json=_to_json(header["card"]),
        )

    def _contents(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Tensors and header, as a file holds them."""
        tensors = {"matrix": np.asarray(self.matrix)}
        for name in self.modalities:
            tensors[f"scales/{name}"] = np.asarray(self.scales[name])
            tensors[f"source_means/{name}"] = np.asarray(self.source_means[name])
            tensors[f"target_means/{name}"] = np.asarray(self.target_means[name])
            for side in ("source_norms", "target_norms"):
                norms = getattr(self, side)
                if norms is not None:
                    tensors[f"{side}/{name}"] = np.asarray(norms[name])
        for name, value in (self.mlp or {}).items():
            tensors[f"mlp/{name}"] = np.asarray(value)
        return tensors, {
            "kind": self.kind,
            "modalities": list(self.modalities),
            "source_space": self.source_space,
            "target_space": self.target_space,
            "card": self.card,
        }

    def _check_space(self, space: str | None) -> None:
        """Refuse rows of a space that is known not to be the source space."""
        if space is None or self.source_space is None or space == self.source_space:
            return
        remedy = "embed the rows with the source model"
        if space == self.target_space:
            remedy = "they are in the target space already: use `amap.inverse()`"
        raise ValueError(
            f"`amap(space={space!r})`: expected rows of the space "
            f"{self.source_space!r}; {remedy}."
        )


@functools.partial(
    jax.jit, static_argnames=("normalize", "normalize_input", "subtract", "add")
)
def _apply(
    rows,
    matrix,
    mlp,
    scale,
    source_mean,
    target_mean,
    norms,
    *,
    normalize,
    normalize_input,
    subtract,
    add,
):
    """Apply one modality's map; jitted apart from the card, which would retrace it.

    Returns:
      Rows in the dtype of the matrix, computed in float32 or better, and the smallest
      and largest norm of the rows that came.
    """
    kept, dtype = matrix.dtype, wide_dtype(matrix.dtype)
    rows, matrix, mlp, scale, source_mean, target_mean = jax.tree.map(
        lambda leaf: leaf.astype(dtype),
        (rows, matrix, mlp, scale, source_mean, target_mean),
    )
    low, high = norm_range(rows)
    if normalize_input:
        rows = rescale_rows(rows, norms)
    if subtract:
        rows = rows - source_mean[None, :]
    # (n, d_source) @ (d_source, d_target)
    moved = jnp.matmul(rows, matrix.T, precision=_HIGHEST)
    if mlp is not None:
        moved = moved + residual_layer(mlp, rows)
    moved = scale * moved
    if add:
        moved = moved + target_mean[None, :]
    if normalize:
        lengths = jnp.linalg.norm(moved, axis=-1, keepdims=True)
        tiny = float(jnp.finfo(moved.dtype).tiny)
        moved = moved / jnp.maximum(lengths, jnp.full_like(lengths, tiny))
    return moved.astype(kept), low, high


def _check_composable(later: AlignmentMap, earlier: AlignmentMap) -> None:
    """Refuse two maps that do not meet in one space, and those with no product."""
    if "mlp" in (later.kind, earlier.kind):
        raise ValueError(
            "`later @ earlier`: expected maps with a matrix each, got kind='mlp', "
            "which no single map can hold together with another; carry rows by one "
            "after the other."
        )
    if later.d_source != earlier.d_target:
        raise ValueError(
            f"`later @ earlier`: expected equal widths where the maps meet, got "
            f"{later.d_source} after {earlier.d_target}; the map applied first stands "
            "on the right."
        )
    meet = (later.source_space, earlier.target_space)
    if None not in meet and meet[0] != meet[1]:
        raise ValueError(
            f"`later @ earlier`: expected one space where the maps meet, got "
            f"{meet[0]!r} after {meet[1]!r}; the map applied first stands on the "
            "right, and `inverse()` turns a map around."
        )
    if later.modalities != earlier.modalities:
        raise ValueError(
            f"`later @ earlier`: expected the same modalities, got "
            f"{list(later.modalities)} after {list(earlier.modalities)}; fit both maps "
            "on pairs of the same modalities."
        )


def _to_json(card: Mapping[str, Any]) -> str:
    """Write a card as canonical JSON, so that equal cards compare equal."""
    return json.dumps(dict(card), sort_keys=True, allow_nan=False)
