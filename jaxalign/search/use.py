# SPDX-License-Identifier: Apache-2.0
"""How a map is used in a search: which means come off, norms, offsets.

The same matrix finds half or nearly all of what it could, by how it is used. Where
embeddings sit in tight cones, the target mean makes all queries look alike, and a few
index rows win every search.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxalign.anchors.anchors import Anchors
from jaxalign.array_types import ArrayLike, Modality
from jaxalign.buckets import first_rows, pad_to_bucket
from jaxalign.errors import ArgumentError, check_count, check_option
from jaxalign.float_rows import float_rows, wide_dtype
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.norms import check_norms, norm_range, rescale_rows
from jaxalign.maps.numbers import apply_part
from jaxalign.precise import product
from jaxalign.unit_rows import unit_rows

Side = Literal["source", "target"]
"""Of which model rows are, before they are prepared."""

CENTRES = ("both", "source", "none")
DIVIDES = ("identified", "whole")


@dataclasses.dataclass(frozen=True)
class Use:
    """How source rows and target rows are brought to where their cosines count.

    Attributes:
      centre: ``"both"`` takes the mean of its modality off either side; ``"source"``
        leaves target rows as they are; ``"none"`` adds the target mean to carried
        source rows, scale and all, as the paper does.
      divide: by which norm rows are divided. ``"identified"``: that of the part that
        the map keeps, since a score sees no other part; ``"whole"``: that of the row.
        For maps whose matrix is no isometry both are the whole norm.
      offsets: anchors that the hubness offset of an index row averages over; 0: no
        offsets.
    """

    centre: Literal["both", "source", "none"] = "both"
    divide: Literal["identified", "whole"] = "identified"
    offsets: int = 5

    PAPER: ClassVar["Use"]

    def __post_init__(self):
        check_option("Use", "centre", self.centre, CENTRES)
        check_option("Use", "divide", self.divide, DIVIDES)
        offsets = check_count("Use", "offsets", self.offsets, least=0)
        object.__setattr__(self, "offsets", offsets)
        if self.centre == "none" and self.divide == "identified":
            raise ArgumentError(
                "Use(centre='none', divide='identified')",
                "centred rows, or divide='whole'",
                "target means, which do not lie in the identified part",
                "pass divide='whole', or see `Use.PAPER`",
            )

    def describe(self) -> str:
        """Say in a few words what is done.

        >>> Use().describe()
        'both sides centred, divided by the identified norm, offsets (k = 5)'
        """
        words = [
            {
                "both": "both sides centred",
                "source": "no target mean in queries",
                "none": "target mean added",
            }[self.centre]
        ]
        if self.divide == "identified":
            words.append("divided by the identified norm")
        if self.offsets:
            words.append(f"offsets (k = {self.offsets})")
        return ", ".join(words)

    def to_json(self) -> dict[str, Any]:
        """Give the use as JSON values, for a map's card or a file."""
        return dataclasses.asdict(self)


Use.PAPER = Use(centre="none", divide="whole", offsets=0)


@dataclasses.dataclass(frozen=True)
class SearchMap:
    """A map, how it is used in searches, and the anchors that offsets are measured by.

    Attributes:
      map: the map of rows.
      use: how.
      anchors: that stand for the queries to come, or None.
    """

    map: AlignmentMap
    use: Use
    anchors: Anchors | None = None


def prepare_rows(
    amap: AlignmentMap,
    use: Use,
    rows: Float[ArrayLike, "n d"],
    modality: Modality,
    *,
    side: Side,
    normalize_input: bool = False,
    call: str = "prepare",
    argument: str = "rows",
) -> Float[Array, "n d_target"]:
    """Bring rows of one side to where they are compared: unit rows.

    Args:
      amap: carries source rows.
      use: how.
      rows: ``(n, d_source)`` or ``(n, d_target)``.
      modality: of the rows.
      side: which model's rows they are.
      normalize_input: bring each row to the norm of the anchors first.
      call: named in errors.
      argument: the same.

    Raises:
      ValueError: if `rows` is no matrix of real floating rows of the side's width, the
        map lacks the modality, or rows that are centred have norms far outside those
        of the anchors.
    """
    modality = amap.check_modality(f"{call}(modality={{}})", modality)
    width = amap.d_source if side == "source" else amap.d_target
    rows = float_rows(call, argument, rows, width=width)
    numbers, padded = amap.numbers, pad_to_bucket(rows)
    if side == "source":
        # A map takes its source mean off, whatever the use.
        centred, part = True, numbers.part(modality)
        norms = part.source_norms
        units, low, high = apply_part(
            part,
            padded,
            normalize=True,
            normalize_input=normalize_input,
            add=use.centre == "none",
        )
    else:
        centred = use.centre == "both"
        norms = (numbers.target_norms or {}).get(modality)
        mean = numbers.target_means[modality] if centred else None
        onto = amap.matrix if use.divide == "identified" and keeps_part(amap) else None
        if centred and normalize_input:
            padded = _rescaled(padded, norms)
        units, low, high = _units(padded, mean, onto)
    checked = centred and not normalize_input and not isinstance(low, Tracer)
    if checked and norms is not None:
        # The mean is that of rows of the anchors' norms.
        check_norms(f"{call}({argument}=...)", low, high, norms)
    return first_rows(units, rows.shape[0])


def anchor_queries(
    of: SearchMap,
    modality: Modality,
    *,
    side: Side,
    normalize_input: bool = False,
    call: str = "prepare",
) -> Float[Array, "n d_target"] | None:
    """Prepared anchors that stand for queries of one modality and side.

    Returns:
      None where the use takes no offsets.

    Raises:
      ValueError: if it does, and there are no anchors of that modality.
    """
    if not of.use.offsets:
        return None
    pairs = {} if of.anchors is None else of.anchors.rows
    if modality not in pairs:
        raise ArgumentError(
            f"{call}(queries={modality!r})",
            f"one of {sorted(pairs)}, of which there are anchors",
            remedy="pass anchors={...} with pairs of that modality, or "
            "use=Use(offsets=0)",
        )
    rows = pairs[modality].on_host()
    own = rows.source if side == "source" else rows.target
    # The map was fitted on these: their norms need no check.
    trusted = of.map if normalize_input else without_norms(of.map)
    return prepare_rows(
        trusted,
        of.use,
        own,
        modality,
        side=side,
        normalize_input=normalize_input,
        call=call,
    )


def without_norms(amap: AlignmentMap) -> AlignmentMap:
    """The same map, which takes rows of any norm."""
    numbers = dataclasses.replace(amap.numbers, source_norms=None, target_norms=None)
    return dataclasses.replace(amap, numbers=numbers)


def keeps_part(amap: AlignmentMap) -> bool:
    """Whether the matrix reaches a part of the target space only, isometrically."""
    whole = amap.d_source >= amap.d_target and amap.structure == "isometry"
    return amap.structure in ("isometry", "partial_isometry") and not whole


_rescaled = jax.jit(rescale_rows)


@jax.jit
def _units(rows, mean, matrix):
    """Unit rows, about a mean and within the range of a matrix, and norms that came."""
    low, high = norm_range(rows.astype(wide_dtype(rows.dtype)))
    if mean is not None:
        dtype = np.promote_types(rows.dtype, mean.dtype)
        rows = rows.astype(dtype) - mean.astype(dtype)[None, :]
    if matrix is not None:
        matrix = matrix.astype(rows.dtype)
        # (n, d_target) @ (d_target, d_source) @ (d_source, d_target)
        inside = product(rows, matrix)
        rows = product(inside, matrix.T)
    return unit_rows(rows), low, high
