# SPDX-License-Identifier: Apache-2.0
"""The map from one model's space to another's: apply, invert, compose, save, load.

One matrix for all modalities; a scale and a mean of each side per modality. What comes
out of the fit, and all that evaluation and export need.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import jax.core
import numpy as np
from jaxtyping import Float

from jaxalign.array_types import Array, ArrayLike, Modality
from jaxalign.buckets import first_rows, pad_to_bucket
from jaxalign.errors import ArgumentError, OperandError
from jaxalign.families.family import Structure
from jaxalign.families.scorer import Scorer, Side
from jaxalign.float_rows import float_rows
from jaxalign.maps.composition import check_composable, compose
from jaxalign.maps.contents import numbers_of, parts_of, space_of, spaces_part
from jaxalign.maps.file import checksum, read_map, write_map
from jaxalign.maps.norms import check_norms
from jaxalign.maps.numbers import MapNumbers, apply_part
from jaxalign.maps.scorer_contents import (
    ENCODED,
    EncodedAnchors,
    scorer_of,
    scorer_parts,
)
from jaxalign.maps.sketch import Sketches
from jaxalign.maps.sketch_contents import SKETCH, sketch_parts, sketches_of
from jaxalign.spaces import same_space


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class AlignmentMap:
    r"""A map of rows, :math:`s (x - \bar x) M^\top + \bar y`, and where it came from.

    Make one by `fit_map`. ``amap(rows, "text")`` applies it, ``amap.inverse()`` goes
    back, ``later @ earlier`` composes, ``amap.save`` and ``AlignmentMap.load`` keep it.
    Inside `jax.jit`, pass ``amap.numbers``, a PyTree: see `apply_part`.

    Attributes:
      numbers: all arrays, see `MapNumbers`.
      source_space: fingerprint of the space of the rows, or None if unknown; see
        `spaces.Space` for those of earlier versions.
      target_space: the same for what comes out.
      card: how the map was made: a dictionary of JSON values.
      scorer: for searches, with the means of `numbers`, or None: see `families.Scorer`.
      encoded: anchors by modality and side where searches compare them, float16: what
        offsets of any index are measured by. A sample, and {} where no rows were at
        hand.
      sketch: of the anchors' rows, by modality and side: see `maps.sketch`. Tells whose
        rows come; {} where the fit had no Grams.
    """

    numbers: MapNumbers
    source_space: str | None = None
    target_space: str | None = None
    card: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scorer: Scorer | None = None
    encoded: EncodedAnchors = dataclasses.field(default_factory=dict)
    sketch: Sketches = dataclasses.field(default_factory=dict)

    @property
    def matrix(self) -> Float[Array, "d_target d_source"]:
        """M, on centred rows."""
        return self.numbers.matrix

    @property
    def structure(self) -> Structure:
        """What holds for the matrix, see `families.family.Structure`."""
        return self.numbers.structure

    @property
    def rotation(self) -> Float[Array, "d_target d_source"]:
        """Q, of orthonormal columns or rows; only an isometry has one."""
        if self.structure != "isometry":
            raise ArgumentError(
                "amap.rotation",
                "a map whose matrix is an isometry",
                f"one whose structure is {self.structure!r}",
                "read `amap.matrix`, or fit `Orthogonal(keep='all')`",
            )
        return self.matrix

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities whose means the map holds, sorted."""
        return tuple(sorted(self.numbers.scales))

    @property
    def d_source(self) -> int:
        """Width of the rows that go in."""
        return self.matrix.shape[1]

    @property
    def d_target(self) -> int:
        """Width of the rows that come out."""
        return self.matrix.shape[0]

    @property
    def fingerprint(self) -> str:
        """What the map does, as a sha256: of all but card, norms, anchors, sketches."""
        tensors, header = self._contents()
        unread = ("card", "sketch", "older_spaces")
        header = {key: x for key, x in header.items() if key not in unread}
        left_out = ("source_norms/", "target_norms/", ENCODED, SKETCH)
        tensors = {key: x for key, x in tensors.items() if not key.startswith(left_out)}
        return checksum(json.dumps(header, sort_keys=True), tensors)

    def __repr__(self) -> str:
        """One line: structure, widths, modalities, anchors and residuals, spaces."""
        told = self.card.get("fit", {}).get("modalities", {})
        parts = []
        for name in self.modalities:
            facts = told.get(name, {})
            words = f"{name}: {facts['anchors']:,} anchors" if facts else name
            if "unpaired" in facts:
                # Maps of earlier versions count the rows as anchors too.
                left, right = facts["unpaired"]
                words = f"{name}: 0 anchors, {left:,} and {right:,} unpaired rows"
            if facts.get("relative_residual") is not None:
                words += f", {100 * facts['relative_residual']:.1f} % of spread left"
            parts.append(words)
        scorer = ""
        if self.scorer is not None:
            scorer = f", scorer of width {self.scorer.width}"
        spaces = [
            "unknown" if space is None else space[:12]
            for space in (self.source_space, self.target_space)
        ]
        return (
            f"AlignmentMap({self.structure}, {self.d_source} -> {self.d_target}"
            f"{scorer}; "
            f"{'; '.join(parts)}; spaces {spaces[0]} -> {spaces[1]})"
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
        self.check_space("amap", space)
        name = self.check_modality("amap(rows, modality={})", modality)
        array = float_rows("amap", "rows", rows, width=self.d_source)
        part = self.numbers.part(name)
        moved, low, high = apply_part(
            part,
            pad_to_bucket(array),
            normalize=normalize,
            normalize_input=normalize_input,
            subtract=subtract_source_mean,
            add=add_target_mean,
        )
        norms, traced = part.source_norms, isinstance(low, jax.core.Tracer)
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
        if modality is None and len(self.modalities) == 1:
            return self.modalities[0]
        if modality is None or modality not in self.modalities:
            raise ArgumentError(
                call.format(repr(modality)),
                f"one of {list(self.modalities)}, whose means the map holds",
                remedy="name the modality of the rows, or fit the map with pairs of it",
            )
        return modality

    def check_space(self, call: str, space: str | None) -> None:
        """Raise for rows of a space that is known not to be the source space."""
        if None in (space, self.source_space) or same_space(space, self.source_space):
            return
        remedy = "embed the rows with the source model"
        if same_space(space, self.target_space):
            remedy = "they are in the target space already: use `amap.inverse()`"
        raise ArgumentError(
            f"{call}(space={space!r})",
            f"rows of the space {self.source_space!r}",
            remedy=remedy,
        )

    def inverse(self) -> "AlignmentMap":
        """Turn the map around: rows of the target space to the source space.

        Exact on un-normalised rows. With unequal widths it is the pseudo-inverse:
        narrow to wide and back is exact, wide to narrow and back is a projection. Of a
        partial isometry it is the pseudo-inverse too: there and back keeps of a centred
        row what the anchors identify, and drops the rest.

        Raises:
          ValueError: if the matrix is neither an isometry nor a partial one.
        """
        if self.structure in ("general", "residual"):
            linear = self.structure == "general"
            raise ArgumentError(
                "amap.inverse()",
                "an orthogonal map",
                f"one whose structure is {self.structure!r}, whose inverse "
                f"{'would blow up noise' if linear else 'does not exist'}",
                "fit the other direction by `fit_map` with source and target exchanged",
            )
        numbers = self.numbers
        encoded: dict[Modality, Mapping[Side, np.ndarray]] = {}
        for name, sides in self.encoded.items():
            source, target = sides["source"], sides["target"]
            if self.scorer is None:
                # Unit rows within the range of the matrix, which it turns back.
                back = np.asarray(self.matrix, np.float32)
                source, target = (
                    (side.astype(np.float32) @ back).astype(np.float16)
                    for side in (source, target)
                )
            encoded[name] = {"source": target, "target": source}
        turned_back = set(self.card) == {"inverse_of"}
        return AlignmentMap(
            MapNumbers(
                matrix=self.matrix.T,
                scales={name: 1.0 / scale for name, scale in numbers.scales.items()},
                source_means=numbers.target_means,
                target_means=numbers.source_means,
                source_norms=numbers.target_norms,
                target_norms=numbers.source_norms,
                structure=self.structure,
            ),
            source_space=self.target_space,
            target_space=self.source_space,
            card=self.card["inverse_of"] if turned_back else {"inverse_of": self.card},
            scorer=None if self.scorer is None else self.scorer.reversed(),
            encoded=encoded,
            sketch={
                name: {"source": sides["target"], "target": sides["source"]}
                for name, sides in self.sketch.items()
            },
        )

    def __matmul__(self, earlier: "AlignmentMap") -> "AlignmentMap":
        """Compose: ``(later @ earlier)(rows)`` is ``later(earlier(rows))``.

        Exact on un-normalised rows. A scorer, kept anchors and sketches belong to one
        pair of models, and the product has none. It is an isometry where that holds,
        that is unless one map is general, only part of an isometry, or the width grows
        and shrinks on the way; see `composed_structure`.

        Raises:
          TypeError: if `earlier` is no map.
          ValueError: if the maps do not meet in one space, width and set of
            modalities, or one is an MLP.
        """
        if not isinstance(earlier, AlignmentMap):
            # Not NotImplemented: NumPy would take over, and speak of dimensions.
            raise OperandError(
                "later @ earlier",
                "an AlignmentMap on the right",
                type(earlier).__name__,
                "carry rows by `amap(rows, modality)`",
            )
        meet = (self.source_space, earlier.target_space)
        check_composable(self.numbers, earlier.numbers, meet)
        return AlignmentMap(
            compose(self.numbers, earlier.numbers),
            source_space=earlier.source_space,
            target_space=self.target_space,
            card={"later": self.card, "earlier": earlier.card},
        )

    def save(self, path: str | os.PathLike) -> None:
        """Write the map to one `.safetensors` file, atomically."""
        write_map(path, *self._contents())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "AlignmentMap":
        """Read a map that `save` wrote.

        Raises:
          FileNotFoundError: if there is no such file.
          ValueError: if it is damaged, incomplete, no map, of a newer format, or holds
            what no map can: no modality, a scale that is not positive, a matrix that
            does not have the structure that is named.
        """
        tensors, header = read_map(path)
        scorer, encoded = scorer_of(path, tensors, header)
        return cls(
            numbers_of(path, tensors, header),
            source_space=space_of(header, "source"),
            target_space=space_of(header, "target"),
            card=header["card"],
            scorer=scorer,
            encoded=encoded,
            sketch=sketches_of(path, tensors, header),
        )

    def _contents(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Tensors and header, as a file holds them."""
        tensors, header = parts_of(self.numbers)
        more, told = scorer_parts(self.scorer, self.encoded)
        sketches, left = sketch_parts(self.sketch)
        return tensors | more | sketches, {
            **header,
            **told,
            **left,
            **spaces_part(self.source_space, self.target_space),
            "card": dict(self.card),
        }


def check_map(call: str, name: str, value: Any) -> None:
    """Raise `ArgumentError` for what is no map, such as rows."""
    if not isinstance(value, AlignmentMap):
        raise ArgumentError(
            f"{call}({name}=...)",
            "an AlignmentMap",
            type(value).__name__,
            "fit one by `fit_map`, or read it by `AlignmentMap.load`",
        )
