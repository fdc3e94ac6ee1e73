# SPDX-License-Identifier: Apache-2.0
"""How a map is fitted and used in a search, written down, and what applies it.

The same rotation finds half or nearly all of what it could, by how it is used: where
embeddings sit in tight cones, the target mean makes all queries look alike, and a few
index rows win every search. A `Recipe` says which means come in and whether index rows
carry offsets; a `Searcher` does it, to queries and index alike.
"""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any, Literal

import jax
from jaxtyping import Array, Float, Int

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.buckets import first_rows, pad_to_bucket
from jaxalign.evaluate.cosine import unit_rows
from jaxalign.evaluate.hubness import hubness_offsets
from jaxalign.evaluate.retrieval import top_k
from jaxalign.float_rows import float_rows
from jaxalign.maps.alignment_map import AlignmentMap
from jaxalign.maps.checks import FIT_KINDS
from jaxalign.maps.fit import Kind, fit_map
from jaxalign.solve.scale import SCALES, Scale

Side = Literal["source", "target"]
"""Of which model rows are, before they are prepared."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a map is fitted, and how it is used. The default is the map as it stands.

    Attributes:
      kind: of the map, as `fit_map` takes it.
      fit_on: the modality it is fitted on, or "all".
      scale: of the map; only rows that get the target mean feel it.
      identified_only: keep only what the anchors determine of an orthogonal map.
      subtract_source_mean: from source rows, first.
      add_target_mean: to carried source rows, last.
      centre_target: subtract the target mean of their modality from target rows. Then
        both sides are about their means, so it does not go with `add_target_mean`.
      hubness_k: anchors that the offsets of the index average over; 0 is no offsets.
    """

    kind: Kind = "orthogonal"
    fit_on: Modality = "image"
    scale: Scale = "energy"
    identified_only: bool = False
    subtract_source_mean: bool = True
    add_target_mean: bool = True
    centre_target: bool = False
    hubness_k: int = 0

    def __post_init__(self):
        if self.centre_target and self.add_target_mean:
            raise ValueError(
                "`Recipe(centre_target=True, add_target_mean=True)`: expected one of "
                "the two: the mean that one side gets the other loses; pass "
                "add_target_mean=False."
            )
        if not isinstance(self.hubness_k, numbers.Integral) or self.hubness_k < 0:
            raise ValueError(
                f"`Recipe(hubness_k={self.hubness_k!r})`: expected a whole number of "
                "at least 0; 5 is usual, and 0 is no offsets."
            )
        for name, value, known in (
            ("kind", self.kind, FIT_KINDS),
            ("scale", self.scale, SCALES),
        ):
            if value not in known:
                raise ValueError(
                    f"`Recipe({name}={value!r})`: expected one of {known}; leave it "
                    "out for the default."
                )

    def fit(
        self,
        pairs: Mapping[Modality, tuple[ArrayLike, ArrayLike]],
        *,
        groups: Mapping[Modality, ArrayLike] | None = None,
        source_space: str | None = None,
        target_space: str | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> AlignmentMap:
        """Fit the map as the recipe says; the arguments are those of `fit_map`."""
        return fit_map(
            pairs,
            kind=self.kind,
            fit_on=self.fit_on,
            scale=self.scale,
            identified_only=self.identified_only,
            groups=groups,
            source_space=source_space,
            target_space=target_space,
            card=card,
        )

    def describe(self) -> str:
        """Say in a few words what is done, fit first.

        >>> Recipe(add_target_mean=False, hubness_k=5).describe()
        'orthogonal map fitted on image, no target mean in queries, offsets (k = 5)'
        """
        kind = {"linear": "ridge", "mlp": "MLP", "mean_only": "means alone"}
        words = [kind.get(self.kind, f"{self.kind} map")]
        if self.identified_only:
            words = ["identified part of the orthogonal map"]
        words[0] += f" fitted on {self.fit_on}"
        if not self.subtract_source_mean:
            words.append("source mean left in")
        if self.centre_target:
            words.append("both sides centred")
        elif not self.add_target_mean:
            words.append("no target mean in queries")
        else:
            words.append(f"target mean added, scale {self.scale}")
        if self.hubness_k:
            words.append(f"offsets (k = {self.hubness_k})")
        return ", ".join(words)

    def to_json(self) -> dict[str, Any]:
        """Give the recipe as JSON values, for a map's card or a file."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Searcher:
    """A map, how it is used, and the anchors that offsets are measured with.

    Source rows may be the queries, as when a new model asks an old store, or the index,
    as when a store is carried over once; the methods serve both.

    Attributes:
      amap: carries source rows.
      recipe: how.
      anchors: by modality, ``(source, target)`` rows of shapes ``(n, d_source)`` and
        ``(n, d_target)``, read where offsets are measured; may be empty elsewhere.
    """

    amap: AlignmentMap
    recipe: Recipe
    anchors: Mapping[Modality, tuple[ArrayLike, ArrayLike]] = dataclasses.field(
        default_factory=dict
    )

    def prepare_source(
        self, rows: Float[ArrayLike, "n d_source"], modality: Modality
    ) -> Float[Array, "n d_target"]:
        """Carry source rows to where they are compared; unit rows."""
        return self.amap(
            rows,
            modality,
            normalize=True,
            subtract_source_mean=self.recipe.subtract_source_mean,
            add_target_mean=self.recipe.add_target_mean,
        )

    def prepare_target(
        self, rows: Float[ArrayLike, "n d_target"], modality: Modality
    ) -> Float[Array, "n d_target"]:
        """Bring target rows to where they are compared; unit rows.

        Raises:
          ValueError: if `rows` is no matrix of real floating rows of the map's target
            width, or they are centred and the map lacks the modality.
        """
        width = self.amap.d_target
        rows = float_rows("searcher.prepare_target", "rows", rows, width=width)
        mean = None
        if self.recipe.centre_target:
            call = "searcher.prepare_target(modality={})"
            mean = self.amap.target_means[self.amap.check_modality(call, modality)]
        return first_rows(_centred_units(pad_to_bucket(rows), mean), rows.shape[0])

    def measure_offsets(
        self,
        index: Float[ArrayLike, "m d_target"],
        query_modality: Modality,
        *,
        queries_are: Side = "source",
    ) -> Float[Array, " m"] | None:
        """Measure the offsets of a prepared index, for queries of one modality.

        Args:
          index: ``(m, d_target)``, as `prepare_target` or `prepare_source` gave it.
          query_modality: of the queries to come; its anchors stand for them.
          queries_are: "source" or "target" rows, before they were prepared.

        Returns:
          ``(m,)`` offsets, or None if the recipe has none.

        Raises:
          ValueError: if there are no anchors of that modality.
        """
        if not self.recipe.hubness_k:
            return None
        found = self.anchors.get(query_modality)
        if found is None or not len(found[0]):
            raise ValueError(
                f"`searcher.measure_offsets(query_modality={query_modality!r})`: "
                f"expected one of {sorted(self.anchors)}, of which there are anchors; "
                "make the Searcher with anchors={...}, or pass stored offsets."
            )
        source, target = found
        asked = (
            self.prepare_source(source, query_modality)
            if queries_are == "source"
            else self.prepare_target(target, query_modality)
        )
        k = min(self.recipe.hubness_k, asked.shape[0])
        return hubness_offsets(asked, index, k=k)

    def search(
        self,
        queries: Float[ArrayLike, "n d_source"],
        index: Float[ArrayLike, "m d_target"],
        k: int,
        *,
        modality: Modality | None = None,
        index_modality: Modality | None = None,
        offsets: Float[ArrayLike, " m"] | None = None,
    ) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
        """Search target rows with source queries: prepare both sides, and rank.

        Args:
          queries: ``(n, d_source)``, of the source model.
          index: ``(m, d_target)``, of the target model.
          k: rows to find, between 1 and ``m``.
          modality: of the queries; may be left out if the map holds one only.
          index_modality: of the index; default that of the queries.
          offsets: ``(m,)`` measured before, such as by `load_offsets`; default measured
            here, if the recipe has any.

        Returns:
          Scores ``(n, k)`` and index rows ``(n, k)``, best first, as of `top_k`.

        Raises:
          ValueError: see `top_k`, `AlignmentMap` and `measure_offsets`.

        Notes:
          Prepares the whole index at every call. For many calls prepare it once by
          `prepare_target`, and call `top_k`.

        >>> import numpy as np
        >>> rows = np.array([[1.0, 0.0], [0.0, 2.0], [-1.0, -1.0]])
        >>> searcher = Searcher(fit_map({"image": (rows, -rows)}), Recipe())
        >>> searcher.search(rows, -rows, 1)[1][:, 0].tolist()
        [0, 1, 2]
        """
        call = "searcher.search"
        modality = self.amap.check_modality(f"{call}(modality={{}})", modality)
        queries = float_rows(call, "queries", queries, width=self.amap.d_source)
        index = float_rows(call, "index", index, width=self.amap.d_target)
        prepared = self.prepare_target(index, index_modality or modality)
        if offsets is None:
            offsets = self.measure_offsets(prepared, modality)
        return top_k(
            self.prepare_source(queries, modality), prepared, k, offsets=offsets
        )


@jax.jit
def _centred_units(rows, mean):
    """Unit rows, about a mean if there is one."""
    if mean is None:
        return unit_rows(rows)
    return unit_rows(rows.astype(mean.dtype) - mean[None, :])
