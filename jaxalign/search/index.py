# SPDX-License-Identifier: Apache-2.0
"""A prepared index: rows brought to where queries find them, once for all searches.

Either side of a map may be stored. The main use is an old store of source rows that the
new model's queries search (``rows_are="source"``); the other way round, source queries
search rows of the target model.
"""

import dataclasses
import os

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int

from jaxalign.anchors.anchors import Anchors, as_anchors
from jaxalign.array_types import ArrayLike, Modality
from jaxalign.errors import ArgumentError, check_option
from jaxalign.float_rows import float_rows
from jaxalign.maps.alignment_map import AlignmentMap, check_map
from jaxalign.search.blocks import check_offsets
from jaxalign.search.hubness import append_offsets, hubness_offsets
from jaxalign.search.offsets_file import fingerprint_rows, load_offsets, save_offsets
from jaxalign.search.ranking import top_k
from jaxalign.search.use import SearchMap, Side, Use, anchor_queries, prepare_rows


@dataclasses.dataclass(frozen=True, eq=False)
class PreparedIndex:
    """Index rows and their offsets, ready for any number of searches.

    Attributes:
      rows: ``(m, d_target)`` unit rows, on the device.
      offsets: ``(m,)`` subtracted from their cosines.
      of: the map and its use.
      modality: of the index rows.
      queries: modality of the queries.
      rows_are: which model's rows are indexed; the other's are the queries.
      fingerprint: sha256 of the rows as they were given, or None if not computed.
      normalize_input: whether rows and queries are brought to the anchors' norms first.
    """

    rows: Float[Array, "m d_target"]
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
        units = self._units(queries, "index.search")
        return top_k(units, self.rows, k, offsets=self.offsets, unit=True)

    def encode(self, queries: Float[ArrayLike, "n d"]) -> Float[Array, "n width"]:
        """Make queries for `vectors`: unit rows and a 1, ``(n, d_target + 1)``."""
        units = self._units(queries, "index.encode")
        return append_offsets(units, np.full(units.shape[0], -1.0, np.float32))

    @property
    def vectors(self) -> Float[Array, "m width"]:
        """Rows for any inner-product index, ``(m, d_target + 1)``.

        Their inner product with `encode` is the score: unit rows, and minus the offset.
        The store must not normalise them.
        """
        return append_offsets(self.rows, self.offsets)

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

    def _units(self, queries, call: str) -> Float[Array, "n d_target"]:
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
      use: how. Default: that of the choice; for a map `Use()`, without offsets where
        there are no anchors to measure them by.
      anchors: pairs that stand for the queries, as `fit_map` takes them. Default: those
        of the choice.
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
        no anchors of the queries' modality, or offsets that are not finite, but of rows
        that are not either.

    Notes:
      O(m d_source d_target), and O(m n d_target) with offsets from n anchors. Scores of
      a float32 index differ from float64 ones by rounding.

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
    given = of if isinstance(of, SearchMap) else SearchMap(of, use or Use())
    check_map(call, "of", given.map)
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
    if use is not None:
        given = SearchMap(given.map, use, given.anchors)
    elif given.anchors is None and offsets is None:
        # Nothing stands for the queries.
        bare = dataclasses.replace(given.use, offsets=0)
        given = SearchMap(given.map, bare)
    amap = given.map
    modality = amap.check_modality(f"{call}(modality={{}})", modality)
    queries = amap.check_modality(f"{call}(queries={{}})", queries or modality)
    width = amap.d_source if rows_are == "source" else amap.d_target
    rows = float_rows(call, "rows", rows, width=width)
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
        offsets = load_offsets(offsets, index._made_for())
    if offsets is None:
        asked = anchor_queries(
            given,
            queries,
            side=index.queries_are,
            normalize_input=normalize_input,
            call=call,
        )
        if asked is not None:
            k = min(given.use.offsets, asked.shape[0])
            offsets = hubness_offsets(asked, units, k=k)
    if offsets is None:
        return index
    offsets = jnp.asarray(check_offsets(call, offsets, units.shape[0]), units.dtype)
    _check_finite(call, offsets, units)
    return dataclasses.replace(index, offsets=offsets)


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
