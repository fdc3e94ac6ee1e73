# SPDX-License-Identifier: Apache-2.0
"""How a map is used in a search: which means come off, norms, offsets.

The same matrix finds half or nearly all of what it could, by how it is used. Where
embeddings sit in tight cones, the target mean makes all queries look alike, and a few
index rows win every search.
"""

import dataclasses
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxalign.anchors.anchors import Anchors
from jaxalign.array_types import ArrayLike, Modality
from jaxalign.buckets import first_rows, pad_to_bucket
from jaxalign.errors import ArgumentError, check_count, check_option
from jaxalign.families.scorer import Side, penalties_of
from jaxalign.float_rows import float_rows, wide_dtype
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.encode import centred_units, encode_side, keeps_part
from jaxalign.maps.norms import check_norms, norm_range, rescale_rows
from jaxalign.maps.numbers import apply_part
from jaxalign.search.hubness import hubness_offsets

SCORES = ("map", "scorer")
CENTRES = ("both", "source", "none")
DIVIDES = ("identified", "whole")


@dataclasses.dataclass(frozen=True)
class Use:
    """How source rows and target rows are brought to where their scores count.

    Attributes:
      score: ``"map"`` compares rows that the map carried, by their cosine; ``"scorer"``
        takes the map's scorer, which centres both sides and divides as it must.
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
    score: Literal["map", "scorer"] = "map"

    PAPER: ClassVar["Use"]
    SCORER: ClassVar["Use"]

    def __post_init__(self):
        check_option("Use", "score", self.score, SCORES)
        check_option("Use", "centre", self.centre, CENTRES)
        check_option("Use", "divide", self.divide, DIVIDES)
        offsets = check_count("Use", "offsets", self.offsets, least=0)
        object.__setattr__(self, "offsets", offsets)
        if self.score == "scorer" and (self.centre, self.divide) != (
            "both",
            "identified",
        ):
            raise ArgumentError(
                f"Use(score='scorer', centre={self.centre!r}, divide={self.divide!r})",
                "a scorer used as it was fitted, both sides centred",
                remedy="leave `centre` and `divide` out",
            )
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
        if self.score == "scorer":
            words = ["by its scorer"]
        else:
            words = self._of_map()
        if self.offsets:
            words.append(f"offsets (k = {self.offsets})")
        return ", ".join(words)

    def _of_map(self) -> list[str]:
        """Words for a use of the map of rows."""
        words = [
            {
                "both": "both sides centred",
                "source": "no target mean in queries",
                "none": "target mean added",
            }[self.centre]
        ]
        if self.divide == "identified":
            words.append("divided by the identified norm")
        return words

    def without_offsets(self) -> "Use":
        """The same use without hubness offsets."""
        return dataclasses.replace(self, offsets=0)

    def to_json(self) -> dict[str, Any]:
        """Give the use as JSON values, for a map's card or a file."""
        return dataclasses.asdict(self)


Use.PAPER = Use(centre="none", divide="whole", offsets=0)
Use.SCORER = Use(score="scorer")


def default_use(amap: AlignmentMap) -> Use:
    """The scorer where the map has one, else both sides centred; with offsets."""
    return Use() if amap.scorer is None else Use.SCORER


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
) -> Float[Array, "n width"]:
    """Bring rows of one side to where they are compared.

    Args:
      amap: carries source rows.
      use: how.
      rows: ``(n, d_source)`` or ``(n, d_target)``.
      modality: of the rows.
      side: which model's rows they are.
      normalize_input: bring each row to the norm of the anchors first.
      call: named in errors.
      argument: the same.

    Returns:
      Unit rows of the target space; by a scorer, rows of its width.

    Raises:
      ValueError: if `rows` is no matrix of real floating rows of the side's width, the
        map lacks the modality or a scorer that `use` asks for, or rows that are centred
        have norms far outside those of the anchors.
    """
    modality = amap.check_modality(f"{call}(modality={{}})", modality)
    width = amap.d_source if side == "source" else amap.d_target
    rows = float_rows(call, argument, rows, width=width)
    numbers = amap.numbers
    known = numbers.source_norms if side == "source" else numbers.target_norms
    norms = (known or {}).get(modality)
    # A map takes its source mean off, whatever the use.
    centred = side == "source" or use.centre == "both"
    check_scorer(call, amap, use)
    padded = pad_to_bucket(rows)
    if centred and not normalize_input and norms is not None:
        low, high = _norm_range(padded)
        if not isinstance(low, Tracer):
            # The mean is that of rows of the anchors' norms.
            check_norms(f"{call}({argument}=...)", low, high, norms)
    if centred and normalize_input:
        padded = _rescaled(padded, norms)
    if use.score == "scorer" or use.without_offsets() == Use(offsets=0):
        of = amap if use.score == "scorer" else without_scorer(amap)
        prepared = encode_side(of, padded, modality, side)
    elif side == "source":
        add = use.centre == "none"
        part = numbers.part(modality)
        prepared = apply_part(part, padded, normalize=True, add=add).rows
    else:
        mean = numbers.target_means[modality] if centred else None
        onto = amap.matrix if use.divide == "identified" and keeps_part(amap) else None
        prepared = centred_units(padded, mean, onto)
    return first_rows(prepared, rows.shape[0])


def anchor_queries(
    of: SearchMap,
    modality: Modality,
    *,
    side: Side,
    normalize_input: bool = False,
    call: str = "prepare",
) -> Float[Array, "n width"] | None:
    """Prepared anchors that stand for queries of one modality and side.

    Returns:
      None where the use takes no offsets. The rows of `of.anchors`, or else those that
      the map keeps, which are prepared for its default use.

    Raises:
      ValueError: if it does, and there are no anchors of that modality.
    """
    if not of.use.offsets:
        return None
    if of.anchors is None and serves(of.map, of.use) and modality in of.map.encoded:
        dtype = wide_dtype(of.map.matrix.dtype)
        return jnp.asarray(of.map.encoded[modality][side], dtype)
    own = None if of.anchors is None else _rows_of(of.anchors, modality, side)
    if own is None:
        found = [] if of.anchors is None else [*of.anchors.rows, *of.anchors.unpaired]
        raise ArgumentError(
            f"{call}(queries={modality!r})",
            f"one of {sorted(found)}, of which there are anchors",
            remedy="pass anchors={...} with pairs of that modality, query_sample=rows, "
            "or offsets=0 in the use (a map keeps anchors for its default use alone)",
        )
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


def check_sample(call: str, prepared: Float[Array, "n width"]) -> None:
    """Raise for a sample of queries without a row, or with rows that are not finite."""
    count = prepared.shape[0]
    traced = isinstance(prepared, Tracer)
    good = count if traced else int(jnp.sum(jnp.all(jnp.isfinite(prepared), axis=1)))
    if not count or good < count:
        raise ArgumentError(
            f"{call}(query_sample=...)",
            "one finite row or more, and no other",
            f"{count} rows, {count - good} of them not finite",
            "leave such rows out, or the argument for the anchors that the map keeps",
        )


def serves(amap: AlignmentMap, use: Use) -> bool:
    """Whether the anchors that a map keeps are prepared for this use."""
    return use.without_offsets() == default_use(amap).without_offsets()


def _rows_of(anchors: Anchors, modality: Modality, side: Side) -> ArrayLike | None:
    """Rows of one modality and side, paired or not."""
    if modality in anchors.rows:
        pairs = anchors.rows[modality].on_host()
        return pairs.source if side == "source" else pairs.target
    if modality in anchors.unpaired:
        sides = anchors.unpaired[modality]
        return np.asarray(sides[side].rows)[np.asarray(sides[side].good)]
    return None


def check_scorer(call: str, amap: AlignmentMap, use: Use) -> None:
    """Raise if the use asks for a scorer that the map lacks."""
    if use.score == "scorer" and amap.scorer is None:
        raise ArgumentError(
            f"{call}(use=Use(score='scorer'))",
            "a map with a scorer",
            "one without",
            "fit it with `fit_map(..., scorer=ja.LikelihoodRatio())`",
        )


def without_norms(amap: AlignmentMap) -> AlignmentMap:
    """The same map, which takes rows of any norm."""
    numbers = dataclasses.replace(amap.numbers, source_norms=None, target_norms=None)
    return dataclasses.replace(amap, numbers=numbers)


def without_scorer(amap: AlignmentMap) -> AlignmentMap:
    """The same map of rows alone."""
    return dataclasses.replace(amap, scorer=None, encoded={})


_rescaled = jax.jit(rescale_rows)


@jax.jit
def _norm_range(rows):
    """Smallest and largest norm."""
    return norm_range(rows.astype(wide_dtype(rows.dtype)))


def search_offsets(
    of: SearchMap,
    rows: Float[Array, "m width"],
    asked: Float[Array, "n width"] | None,
) -> Float[Array, " m"]:
    """What the scores of prepared index rows are lowered by.

    Half the mean of the largest scores with rows that stand for queries, the penalty of
    a scorer included, and that penalty itself.

    Args:
      of: the map and its use.
      rows: of the index, prepared.
      asked: prepared rows that stand for queries; None: no hubness offsets.
    """
    scorer = of.map.scorer
    if of.use.score == "map" or scorer is None:
        penalties = jnp.zeros(rows.shape[0], rows.dtype)
    else:
        penalties = penalties_of(rows, scorer.penalty)
    if asked is None:
        return penalties
    k = min(of.use.offsets, asked.shape[0])
    # Half the mean of (product - penalty), plus the penalty.
    return hubness_offsets(asked, rows, k=k, unit=True) + 0.5 * penalties
