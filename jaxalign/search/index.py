# SPDX-License-Identifier: Apache-2.0
"""A prepared index: rows brought to where queries find them, once for all searches.

Either side of a map may be stored. The main use is an old store of source rows that the
new model's queries search (``rows_are="source"``); the other way round, source queries
search rows of the target model.
"""

import dataclasses
import os
import warnings

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from jaxalign.anchors.anchors import Anchors, as_anchors
from jaxalign.array_types import ArrayLike, Modality
from jaxalign.errors import ArgumentError, check_option
from jaxalign.families.scorer import Side, check_side
from jaxalign.float_rows import float_rows
from jaxalign.maps.alignment_map import AlignmentMap, check_map
from jaxalign.search.blocks import check_offsets
from jaxalign.search.hubness import append_offsets
from jaxalign.search.offsets_file import fingerprint_rows, load_offsets, save_offsets
from jaxalign.search.ranking import top_k
from jaxalign.search.use import (
    SearchMap,
    Use,
    anchor_queries,
    check_sample,
    default_use,
    prepare_rows,
    search_offsets,
    serves,
)


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedIndex:
    """Index rows and their offsets, ready for any number of searches.

    Attributes:
      rows: ``(m, width)`` prepared rows, on the device: unit rows of width d_target, or
        by a scorer rows of its width.
      offsets: ``(m,)`` subtracted from their inner products with queries.
      of: the map and its use.
      modality: of the index rows.
      queries: modality of the queries.
      rows_are: which model's rows are indexed; the other's are the queries.
      fingerprint: sha256 of the rows as they were given, or None if not computed.
      normalize_input: whether rows and queries are brought to the anchors' norms first.
    """

    rows: Float[Array, "m width"]
    offsets: Float[Array, " m"]
    of: SearchMap
    modality: Modality
    queries: Modality
    rows_are: Side
    fingerprint: str | None = None
    normalize_input: bool = False

    def __len__(self) -> int:
        """Number of index rows."""
        return self.rows.shape[0]

    def __repr__(self) -> str:
        """One line: sizes, sides, and the use."""
        return (
            f"PreparedIndex({len(self):,} {self.rows_are} {self.modality} rows for "
            f"{self.queries_are} {self.queries} queries; {self.of.use.describe()})"
        )

    @property
    def queries_are(self) -> Side:
        """Which model's rows the queries are."""
        return "target" if self.rows_are == "source" else "source"

    def search(
        self, queries: Float[ArrayLike, "n d"], k: int
    ) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
        """Find the `k` index rows that score highest for every query, best first.

        Args:
          queries: ``(n, d)``, of the other model than the index rows.
          k: between 1 and the number of index rows.

        Returns:
          Scores ``(n, k)`` and index rows ``(n, k)``, as of `top_k`.
        """
        units = self.prepared(queries, "index.search")
        return top_k(units, self.rows, k, offsets=self.offsets, unit=True)

    def encode(
        self, queries: Float[ArrayLike, "n d"]
    ) -> Float[Array, "n width_plus_1"]:
        """Make queries for `vectors`: prepared rows and a 1, ``(n, width + 1)``."""
        units = self.prepared(queries, "index.encode")
        ones = np.full(units.shape[0], -1.0, np.float32)
        return append_offsets(units, ones, unit=True)

    @property
    def vectors(self) -> Float[Array, "m width_plus_1"]:
        """Rows for any inner-product index, ``(m, width + 1)``.

        Their inner product with `encode` is the score: prepared rows, and minus the
        offset. The store must not normalise them.
        """
        return append_offsets(self.rows, self.offsets, unit=True)

    def save_offsets(self, path: str | os.PathLike) -> None:
        """Keep the offsets in a file, bound to the map, the use and the index rows.

        Raises:
          ValueError: if `path` does not end in ``.safetensors``, or the index was
            prepared with ``fingerprint=False``.
        """
        if self.fingerprint is None:
            raise ArgumentError(
                "index.save_offsets(path)",
                "an index that knows its rows",
                "one prepared without a fingerprint",
                "pass fingerprint=True to `prepare`",
            )
        save_offsets(path, np.asarray(self.offsets), self._made_for())

    def _made_for(self) -> dict:
        """What the offsets depend on, but for the anchors."""
        return {
            "map": self.of.map.fingerprint,
            "use": self.of.use.to_json(),
            "index": self.fingerprint,
            "modality": self.modality,
            "queries": self.queries,
            "rows are": self.rows_are,
            **({"normalize_input": True} if self.normalize_input else {}),
        }

    def prepared(
        self, queries: Float[ArrayLike, "n d"], call: str = "index.prepared"
    ) -> Float[Array, "n width"]:
        """Queries where they are compared."""
        return prepare_rows(
            self.of.map,
            self.of.use,
            queries,
            self.queries,
            side=self.queries_are,
            normalize_input=self.normalize_input,
            call=call,
            argument="queries",
        )


def prepare(
    of: AlignmentMap | SearchMap,
    rows: Float[ArrayLike, "m d"],
    modality: Modality | None = None,
    *,
    rows_are: Side = "target",
    queries: Modality | None = None,
    use: Use | None = None,
    anchors: Anchors | object | None = None,
    query_sample: Float[ArrayLike, "s d_queries"] | None = None,
    offsets: Float[ArrayLike, " m"] | str | os.PathLike | None = None,
    fingerprint: bool = False,
    normalize_input: bool = False,
) -> PreparedIndex:
    """Prepare index rows once, for searches by rows of the other model.

    Args:
      of: the map, or what `choose_map` gives.
      rows: ``(m, d_target)``, or ``(m, d_source)`` with ``rows_are="source"``.
      modality: of the rows; may be left out where the map holds one alone.
      rows_are: ``"target"``: rows of the target model, for queries of the source model;
        ``"source"``: rows of the source model, such as an old store, for queries of the
        target model, which are used as they are but for the use's centring.
      queries: modality of the queries. Default: that of the rows.
      use: how. Default: that of the choice; for a map its scorer, or else `Use()`.
      anchors: pairs that stand for the queries, as `fit_map` takes them. Default: those
        of the choice, or else those that the map keeps.
      query_sample: rows of the queries' model and modality that stand for the queries
        instead, and need no pairs: a log of earlier queries, or the old index's own
        rows. More of them make better offsets.
      offsets: ``(m,)`` measured before, or the path of a file of `save_offsets`, which
        must be of this map, use and rows. Default: measured here, if the use has any.
      fingerprint: whether to hash the rows, for `PreparedIndex.save_offsets`.
      normalize_input: bring rows, and queries later, to the norm of the anchors first;
        for raw features where the map was fitted on unit rows.

    Returns:
      The index; ``index.search(queries, k)`` finds rows, and ``index.vectors`` with
      ``index.encode(queries)`` go into any inner-product index.

    Raises:
      FileNotFoundError: if `offsets` names no file.
      ValueError: for rows of another width, modalities that the map lacks, rows to be
        centred whose norms lie far outside those of the anchors, a use with offsets and
        no anchors of the queries' modality, a scorer made for queries of the other
        side, or offsets that are not finite, but of rows that are not either.

    Notes:
      O(m d_source d_target), and O(m n d_target) with offsets from n anchors. Scores of
      a float32 index differ from float64 ones by rounding. A map that was fitted on
      moments keeps no anchors: without `anchors` or `query_sample` its searches take no
      offsets, and a warning says so.

    >>> from jaxalign.maps.fit import fit_map
    >>> rows = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]])
    >>> index = prepare(fit_map((rows, -rows)), -rows)
    >>> index.search(rows, 1)[1][:, 0].tolist()
    [0, 1, 2]
    """
    call = "prepare"
    check_option(call, "rows_are", rows_are, ("target", "source"))
    if use is not None and not isinstance(use, Use):
        raise ArgumentError(
            f"{call}(use={use!r})",
            "a Use",
            type(use).__name__,
            "pass `ja.search.Use()`, or `ja.search.Use.PAPER` for the paper's",
        )
    check_map(call, "of", of.map if isinstance(of, SearchMap) else of)
    if isinstance(of, SearchMap):
        given = of if use is None else dataclasses.replace(of, use=use)
    else:
        given = SearchMap(of, use or default_use(of))
    if anchors is not None:
        pairs = as_anchors(call, anchors)
        widths = (given.map.d_source, given.map.d_target)
        if pairs.widths != widths:
            raise ArgumentError(
                f"{call}(anchors=...)",
                f"pairs of the map's widths {widths}",
                pairs.widths,
                "pass (source, target) rows of the models that the map joins",
            )
        given = SearchMap(given.map, given.use, pairs)
    amap = given.map
    modality = amap.check_modality(f"{call}(modality={{}})", modality)
    queries = amap.check_modality(f"{call}(queries={{}})", queries or modality)
    width = amap.d_source if rows_are == "source" else amap.d_target
    rows = float_rows(call, "rows", rows, width=width)
    if given.use.score == "scorer" and amap.scorer is not None:
        asks: Side = "target" if rows_are == "source" else "source"
        check_side(f"{call}(rows_are={rows_are!r})", amap.scorer, asks)
    stored = isinstance(offsets, str | os.PathLike)
    units = prepare_rows(
        amap,
        given.use,
        rows,
        modality,
        side=rows_are,
        normalize_input=normalize_input,
        call=call,
    )
    index = PreparedIndex(
        units,
        jnp.zeros(units.shape[0], units.dtype),
        given,
        modality,
        queries,
        rows_are,
        fingerprint_rows(rows) if fingerprint or stored else None,
        normalize_input,
    )
    if stored:
        made_for = index._made_for()
        kept = serves(given.map, given.use) and queries in amap.encoded
        if use is None and given.anchors is None and not kept:
            # Where nothing stands for queries, a default use has no offsets; those of
            # a sample were measured for the use as it is.
            bare = {**made_for, "use": given.use.without_offsets().to_json()}
            offsets = load_offsets(offsets, made_for, bare)
        else:
            offsets = load_offsets(offsets, made_for)
    if offsets is None:
        asked = _queries_to_come(call, index, query_sample, use, normalize_input)
        offsets = search_offsets(given, units, asked)
        if asked is None:
            bare = dataclasses.replace(given, use=given.use.without_offsets())
            return dataclasses.replace(index, of=bare, offsets=offsets)
    offsets = jnp.asarray(check_offsets(call, offsets, units.shape[0]), units.dtype)
    _check_finite(call, offsets, units)
    return dataclasses.replace(index, offsets=offsets)


def _queries_to_come(call, index, sample, use, normalize_input):
    """Prepared rows that stand for the queries; None where there are no offsets."""
    of, side = index.of, index.queries_are
    if not of.use.offsets:
        return None
    if sample is not None:
        found = prepare_rows(
            of.map,
            of.use,
            sample,
            index.queries,
            side=side,
            normalize_input=normalize_input,
            call=call,
            argument="query_sample",
        )
        check_sample(call, found)
        return found
    kept = serves(of.map, of.use) and index.queries in of.map.encoded
    if of.anchors is None and not kept and use is None:
        score = "score='scorer', " if of.use.score == "scorer" else ""
        warnings.warn(
            f"`{call}`: this map keeps no anchors of {index.queries!r}, so searches "
            "take no hubness offsets; pass anchors={...} or query_sample=rows, or say "
            f"so by use=Use({score}offsets=0).",
            UserWarning,
            stacklevel=3,
        )
        return None
    return anchor_queries(
        of, index.queries, side=side, normalize_input=normalize_input, call=call
    )


def _check_finite(call: str, offsets: Array, units: Array) -> None:
    """Raise for offsets that are not finite, but of rows that are not either."""
    # Within `jax.jit` arrays have no values yet.
    if isinstance(offsets, Tracer) or isinstance(units, Tracer):
        return
    finite = jnp.isfinite(offsets)
    if jnp.all(finite):
        return
    bad = ~finite & jnp.all(jnp.isfinite(units), axis=1)
    if jnp.any(bad):
        raise ArgumentError(
            f"{call}(offsets=...)",
            "finite offsets",
            f"{int(bad.sum())} others, the first at row {int(bad.argmax())}",
            "leave them out to measure them here",
        )
