# SPDX-License-Identifier: Apache-2.0
r"""Carried rows for a store: to mix with fresh rows, or to be searched as they are.

A store that takes raw new queries compares them by plain cosine: nothing is centred,
nothing divided by an identified norm, and no offset subtracted. Where the new model's
rows lie in a cone about their mean :math:`m_y`, all of that can be put into the stored
rows instead. With :math:`t = m_y / |m_y|`, and u the carried row, centred and unit, the
stored row is

.. math:: u - (u \cdot t)\, t + \beta t, \qquad
    \beta = -\frac{r}{2} \frac{|P (y - m_y)|}{y \cdot t}

with r the mean of the 5 largest cosines of u with rows that stand for queries. A query
y meets it with :math:`|P (y - m_y)|` times the centred cosine less half of r, since
:math:`y \cdot t` is nearly the same for all queries; the last two are means over them.
"""

import hashlib
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from jaxalign.array_types import ArrayLike, Modality
from jaxalign.errors import ArgumentError, check_option
from jaxalign.float_rows import float_rows, wide_dtype
from jaxalign.maps.alignment_map import AlignmentMap, check_map
from jaxalign.precise import product
from jaxalign.search.hubness import hubness_offsets
from jaxalign.search.use import (
    SearchMap,
    Use,
    check_sample,
    prepare_rows,
    without_scorer,
)
from jaxalign.unit_rows import unit_rows

# Queries then differ too much along the mean for one number to stand for them.
LEAST_MEAN = 0.3


def rewrite_rows(
    of: AlignmentMap | SearchMap,
    rows: Float[ArrayLike, "m d_source"],
    modality: Modality | None = None,
    *,
    form: Literal["rows", "search"] = "rows",
    query_sample: Float[ArrayLike, "s d_target"] | None = None,
) -> Float[Array, "m d_target"]:
    """Carry the rows of an old store, to be stored again as unit rows.

    Args:
      of: the map, or what `choose_map(purpose="rewrite")` gives.
      rows: ``(m, d_source)`` of the source model.
      modality: of the rows; may be left out where the map holds one alone.
      form: ``"rows"``: estimates of the target model's rows, to be mixed with fresh
        ones. ``"search"``: rows that plain cosine with untouched target queries ranks
        as the centred search does; they resemble no rows, and must not be mixed.
      query_sample: ``(s, d_target)``, for "search": raw target rows of that modality
        that stand for queries. Default: the target anchors of `of`, where it has them.

    Returns:
      ``(m, d_target)`` unit rows.

    Raises:
      ValueError: for what the map refuses; and of "search" a map that is no (partial)
        isometry, no sample, or target rows whose mean is shorter than 0.3 of their
        norm: take `prepare(...).vectors` there, which are one wider.

    >>> import numpy as np
    >>> from jaxalign.maps.fit import fit_map
    >>> pair = (np.eye(4) + 1.0, np.eye(4)[::-1] + 1.0)
    >>> amap = fit_map(pair)
    >>> rewrite_rows(amap, pair[0]).shape
    (4, 4)
    >>> found = rewrite_rows(amap, pair[0], form="search", query_sample=pair[1])
    >>> (pair[1] @ np.asarray(found).T).argmax(axis=1).tolist()
    [0, 1, 2, 3]
    """
    call = "rewrite_rows"
    amap = of.map if isinstance(of, SearchMap) else of
    check_map(call, "of", amap)
    check_option(call, "form", form, ("rows", "search"))
    modality = amap.check_modality(f"{call}(modality={{}})", modality)
    rows = float_rows(call, "rows", rows, width=amap.d_source)
    if form == "rows":
        return amap(rows, modality, normalize=True)
    sample = _sample(call, of, query_sample, modality)
    return PlainCosine(amap, modality, sample, call=call)(rows)


class PlainCosine:
    """Carries rows into the form for search of `rewrite_rows`, block by block.

    Each row comes out as it would alone: blocks of any size give the same rows.
    """

    def __init__(
        self,
        amap: AlignmentMap,
        modality: Modality,
        query_sample: Float[ArrayLike, "s d_target"],
        *,
        call: str = "PlainCosine",
    ):
        """Validate the map and a sample of queries.

        Args:
          amap: the map.
          modality: of the rows.
          query_sample: raw target rows that stand for queries.
          call: named in errors.

        Raises:
          ValueError: as `rewrite_rows` does of its form for search.
        """
        if amap.structure not in ("isometry", "partial_isometry"):
            raise ArgumentError(
                f"{call}(form='search')",
                "a map that keeps distances",
                f"one whose structure is {amap.structure!r}",
                "fit ja.Orthogonal(), or choose with purpose='rewrite'",
            )
        sample = float_rows(call, "query_sample", query_sample, width=amap.d_target)
        wide = jnp.asarray(sample)
        self._sample = wide.astype(wide_dtype(wide.dtype))
        check_sample(call, self._sample)
        self._mean = amap.numbers.target_means[modality]
        _check_mean(call, self._mean, self._sample)
        self._map, self._bare, self._call = amap, without_scorer(amap), call
        self._modality = modality
        self._asked = prepare_rows(
            self._bare,
            Use(offsets=0),
            sample,
            modality,
            side="target",
            call=call,
            argument="query_sample",
        )

    @property
    def width(self) -> int:
        """Width of the rows that come out."""
        return self._map.d_target

    @property
    def identity(self) -> str:
        """Hash of the map and the sample."""
        sample = np.ascontiguousarray(self._sample)
        digest = hashlib.sha256(self._map.fingerprint.encode())
        digest.update(sample.tobytes())
        return digest.hexdigest()

    def __call__(
        self, rows: Float[ArrayLike, "m d_source"]
    ) -> Float[Array, "m d_target"]:
        """Carry rows."""
        use = Use(offsets=0)
        carried = prepare_rows(
            self._bare, use, rows, self._modality, side="source", call=self._call
        )
        k = min(5, self._asked.shape[0])
        hubness = hubness_offsets(self._asked, carried, k=k, unit=True)
        return _turn_to_mean(
            carried, hubness, self._mean, self._sample, self._map.matrix
        )


def _check_mean(call, mean, sample):
    """Raise for target rows that do not lie about the map's mean, or about a short one.

    Both the mean's own length and how far the sample lies along it are judged.
    """
    size = jnp.sqrt(jnp.mean(jnp.sum(jnp.square(sample), axis=1)))
    along = jnp.mean(product(sample, unit_rows(mean).astype(sample.dtype)))
    short = jnp.minimum(jnp.linalg.norm(mean), along) / size
    if isinstance(short, Tracer) or float(short) >= LEAST_MEAN:
        return
    raise ArgumentError(
        f"{call}(form='search')",
        f"target rows about the map's mean, of {LEAST_MEAN} or more of their norm",
        f"a short mean of {float(short):.2f}",
        "store `ja.search.prepare(amap, rows, rows_are='source').vectors`",
    )


@jax.jit
def _turn_to_mean(carried, hubness, mean, sample, matrix):
    """Put minus the offset along the mean, in the queries' own measure."""
    towards = unit_rows(mean)
    sample = sample.astype(matrix.dtype)
    # |P (y - m)| = |M' (y - m)|, (s, d_target) @ (d_target, d_source)
    inside = product(sample - mean[None, :], matrix)
    spread = jnp.mean(jnp.linalg.norm(inside, axis=1))
    along = jnp.mean(product(sample, towards))
    beta = -hubness * spread / along
    across = carried - product(carried, towards)[:, None] * towards[None, :]
    return unit_rows(across + beta[:, None] * towards[None, :])


def _sample(call, of, given, modality):
    """Raw target rows that stand for queries."""
    if given is not None:
        return given
    anchors = of.anchors if isinstance(of, SearchMap) else None
    if anchors is not None and modality in anchors.rows:
        return anchors.rows[modality].on_host().target
    raise ArgumentError(
        f"{call}(form='search', query_sample=None)",
        f"raw target rows of {modality!r} that stand for queries",
        "none",
        "pass target rows of the anchors, or any others of that model",
    )
